//! Texts that are known for what they are: whatever name stands before them, they are no secrets.

/// Returns true for a regular expression, a list of algorithms, a date or a public key: whatever name
/// stands before it, it is no secret.
pub(super) fn is_notation(value: &[u8]) -> bool {
    is_regex(value)
        || is_algorithms(value)
        || is_date(value)
        || is_public_key(value)
        || is_short_number(value)
        || is_dotted_name(value)
        || is_number(value)
        || is_versioned(value)
        || is_glob(value)
        || is_key_type(value)
        || is_thumbprint(value)
        || is_of_request(value)
        || is_rules(value)
        || is_escapes(value)
        || is_class(value)
        || is_filled_in(value)
        || is_zeros(value)
        || is_kind_of_content(value)
        || is_method(value)
        || is_pseudo_version(value)
        || is_path_of_file(value)
        || is_struct_tag(value)
        || is_type(value)
        || is_member_of_list(value)
        || is_namespace(value)
        || is_package(value)
        || is_for_a_cluster(value)
        || is_entry_point(value)
        || value.starts_with(b"pkcs11:") && memchr::memmem::find(value, b"pin").is_none()
        || value.starts_with(b"data-") && value.ends_with(b"=")
}

/// `1.2-py3-none-any.whl`: the version of a package in the name of its file.
fn is_package(value: &[u8]) -> bool {
    const ENDS: [&[u8]; 8] = [
        b".whl", b".tar.gz", b".tgz", b".jar", b".gem", b".crate", b".nupkg", b".deb",
    ];
    let is_in = |b: &u8| b.is_ascii_alphanumeric() || b"._-+".contains(b);
    value.first().is_some_and(u8::is_ascii_digit)
        && value.iter().all(is_in)
        && ENDS.iter().any(|end| value.ends_with(end))
}

/// `keystoneauth1.extras.oauth1._loading:V3OAuth1`: what a package of Python offers.
fn is_entry_point(value: &[u8]) -> bool {
    let Some(colon) = value.iter().position(|b| *b == b':') else {
        return false;
    };
    let parts: Vec<&[u8]> = value[..colon].split(|b| *b == b'.').collect();
    let is_part = |part: &&[u8]| {
        let is_in = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_';
        !part.is_empty() && !part[0].is_ascii_digit() && part.iter().all(is_in)
    };
    let is_in = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.');
    parts.len() >= 3
        && parts.iter().all(is_part)
        && value.len() > colon + 1
        && value[colon + 1..].iter().all(is_in)
}

/// `/v2.0/ports/65c0ee9f-d634-4522-8954-51021b570b0d`: the path of a resource, by words and ids.
pub(super) fn is_route(value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(b"/") else {
        return false;
    };
    let rest = rest.strip_suffix(b"/").unwrap_or(rest);
    let is_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    let is_id = |part: &[u8]| {
        let groups: Vec<usize> = part.split(|b| *b == b'-').map(<[u8]>::len).collect();
        let is_uuid = groups == [8, 4, 4, 4, 12] || groups == [32] || groups == [7, 4, 4, 4, 12];
        part.iter().all(u8::is_ascii_digit)
            || is_uuid && part.iter().all(|b| is_hex(b) || *b == b'-')
    };
    let is_name = |part: &[u8]| {
        let is_in = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(b);
        part.len() <= 40
            && part[0].is_ascii_lowercase()
            && part.iter().all(is_in)
            && part.iter().filter(|b| b.is_ascii_digit()).count() <= 3
    };
    let parts: Vec<&[u8]> = rest.split(|b| *b == b'/').collect();
    parts.len() >= 2
        && parts
            .iter()
            .all(|part| !part.is_empty() && (is_name(part) || is_id(part)))
        && parts.iter().any(|part| is_name(part))
}

/// What only a cluster can open: a value of a `SealedSecret`, which is made to be published.
fn is_for_a_cluster(value: &[u8]) -> bool {
    let is_in = |b: &u8| b.is_ascii_alphanumeric() || b"+/=".contains(b);
    value.len() >= 600 && value.starts_with(b"Ag") && value.iter().all(is_in)
}

/// `v0.0.0-20190604053449-0f29369cfe45`: a version of a module of Go, which has the time and the
/// beginning of a commit; every `go.sum` is full of them.
fn is_pseudo_version(value: &[u8]) -> bool {
    let value = value.strip_prefix(b"v").unwrap_or(value);
    let is_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    let commit = value.windows(28).position(|w| {
        matches!(w[0], b'-' | b'.')
            && w[1..15].iter().all(u8::is_ascii_digit)
            && (w[1..3] == *b"20" || w[1..3] == *b"19")
            && w[15] == b'-'
            && w[16..].iter().all(is_hex)
    });
    let is_version = |b: &u8| b.is_ascii_alphanumeric() || b".-".contains(b);
    commit.is_some_and(|at| {
        value[0].is_ascii_digit()
            && value[..at].iter().all(is_version)
            && value
                .get(at + 28)
                .is_none_or(|b| !b.is_ascii_alphanumeric())
    })
}

/// `secretsmanager/2017-10-17/service-2.json`: a path, as lists of installed files have it.
fn is_path_of_file(value: &[u8]) -> bool {
    let value = match memchr::memmem::find(value, b",sha256=") {
        Some(at) => &value[..at],
        None => value,
    };
    let is_in_path = |b: &u8| b.is_ascii_alphanumeric() || b"/._-".contains(b);
    value.contains(&b'/') && value.iter().all(is_in_path) && is_file(value)
}

/// `json:"password,omitempty" yaml:"password"`: what a field of Go is called elsewhere.
fn is_struct_tag(value: &[u8]) -> bool {
    const KEYS: [&[u8]; 20] = [
        b"json",
        b"yaml",
        b"xml",
        b"toml",
        b"bson",
        b"form",
        b"db",
        b"gorm",
        b"validate",
        b"env",
        b"mapstructure",
        b"protobuf",
        b"hcl",
        b"url",
        b"header",
        b"query",
        b"binding",
        b"csv",
        b"ini",
        b"schema",
    ];
    let is_in = |b: &u8| b.is_ascii_alphanumeric() || b"_-.,:=;<>/ ".contains(b);
    let mut rest = value;
    loop {
        let Some(colon) = rest.iter().position(|b| *b == b':') else {
            return false;
        };
        if !KEYS.contains(&&rest[..colon]) || rest.get(colon + 1) != Some(&b'"') {
            return false;
        }
        let inner = &rest[colon + 2..];
        let Some(end) = inner.iter().position(|b| *b == b'"') else {
            return false;
        };
        if !inner[..end].iter().all(is_in) {
            return false;
        }
        rest = inner[end + 1..].trim_ascii_start();
        if rest.is_empty() {
            return true;
        }
    }
}

/// `list[V1LocalObjectReference]`, `dict(str, V1Secret)`: a type that is written in quotes.
fn is_type(value: &[u8]) -> bool {
    const OUTER: [&[u8]; 14] = [
        b"list",
        b"dict",
        b"set",
        b"tuple",
        b"List",
        b"Dict",
        b"Set",
        b"Map",
        b"map",
        b"Optional",
        b"Array",
        b"array",
        b"Sequence",
        b"Promise",
    ];
    let Some(open) = value.iter().position(|b| matches!(b, b'[' | b'(' | b'<')) else {
        return false;
    };
    let is_in = |b: &u8| b.is_ascii_alphanumeric() || b"_., []()<>".contains(b);
    OUTER.contains(&&value[..open])
        && value.len() > open + 2
        && matches!(value[value.len() - 1], b']' | b')' | b'>')
        && value[open..].iter().all(is_in)
}

/// `StackEvents[].ClientRequestToken`: where something is in an answer.
fn is_member_of_list(value: &[u8]) -> bool {
    let is_in = |b: &u8| b.is_ascii_alphabetic() || b"[]._*".contains(b);
    memchr::memmem::find(value, b"[].").is_some() && value.iter().all(is_in)
}

/// `Microsoft.Azure.SiteRecovery.V2015_11_10.AffectedObjectType`, `#Microsoft.Media.TokenKey`
pub(super) fn is_namespace(value: &[u8]) -> bool {
    let (value, least) = match value.strip_prefix(b"#") {
        Some(rest) => (rest, 3),
        None => (value, 4),
    };
    let parts: Vec<&[u8]> = value.split(|b| *b == b'.').collect();
    let is_name = |part: &&[u8]| {
        part.first().is_some_and(u8::is_ascii_uppercase)
            && part.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
    };
    let is_word = |part: &&&[u8]| part.len() >= 4 && super::values::is_wordy(part);
    parts.len() >= least
        && parts.iter().all(is_name)
        && parts.iter().filter(is_word).count() + 1 >= least
}

/// `application/vnd.apple.pkpass`
fn is_kind_of_content(value: &[u8]) -> bool {
    let kinds = [
        &b"application/"[..],
        b"text/",
        b"image/",
        b"audio/",
        b"video/",
    ];
    let rest = kinds.iter().find_map(|kind| value.strip_prefix(*kind));
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || b".+-".contains(b);
    rest.is_some_and(|rest| rest.len() <= 80 && rest.iter().all(is_part))
}

/// How passwords are kept or proved: `pbkdf2`, `caching_sha2_password`.
fn is_method(value: &[u8]) -> bool {
    const METHODS: [&[u8]; 14] = [
        b"pbkdf2",
        b"bcrypt",
        b"scrypt",
        b"argon2",
        b"argon2i",
        b"argon2id",
        b"sha512crypt",
        b"sha256crypt",
        b"md5crypt",
        b"yescrypt",
        b"caching_sha2_password",
        b"mysql_native_password",
        b"sha256_password",
        b"scram-sha-256",
    ];
    METHODS
        .iter()
        .any(|method| value.eq_ignore_ascii_case(method))
}

/// `%s`, `%{User-Password}`, `md5 {0}`: a program puts something in.
fn is_filled_in(value: &[u8]) -> bool {
    let marks = [&b"%s"[..], b"%{", b"{0}", b"{$"];
    marks
        .iter()
        .any(|mark| memchr::memmem::find(value, mark).is_some())
}

/// `0000000067874a55`: an address in memory.
fn is_zeros(value: &[u8]) -> bool {
    value.len() <= 16 && value.starts_with(b"00000000") && value.iter().all(u8::is_ascii_hexdigit)
}

/// Characters in escapes, as of a picture: `\\ud83c\\udf6a`.
fn is_escapes(value: &[u8]) -> bool {
    let is_escape =
        |four: &[u8]| four[..2] == *b"\\u" && four[2..].iter().all(u8::is_ascii_hexdigit);
    !value.is_empty() && value.len().is_multiple_of(6) && value.chunks(6).all(is_escape)
}

/// The name of a class with its namespace: `Acme\\Controllers\\PasswordController`.
fn is_class(value: &[u8]) -> bool {
    let is_part = |part: &[u8]| {
        part.first().is_none_or(u8::is_ascii_uppercase) && part.iter().all(u8::is_ascii_alphabetic)
    };
    let parts = value.split(|b| *b == b'\\');
    parts.clone().filter(|part| part.len() >= 3).count() >= 2 && parts.into_iter().all(is_part)
}

/// Rules for what is put in: `required|min:8|confirmed`.
fn is_rules(value: &[u8]) -> bool {
    const RULES: [&[u8]; 8] = [
        b"required",
        b"nullable",
        b"string",
        b"confirmed",
        b"sometimes",
        b"bail",
        b"present",
        b"filled",
    ];
    let is_rule = |part: &[u8]| {
        let name = part.split(|b| *b == b':').next().unwrap_or_default();
        name.len() >= 2 && name.iter().all(|b| b.is_ascii_lowercase() || *b == b'_')
    };
    let mut parts = value.split(|b| *b == b'|');
    value.contains(&b'|') && parts.clone().all(is_rule) && parts.any(|part| RULES.contains(&part))
}

/// `-1.5027633662054623e-07`
fn is_number(value: &[u8]) -> bool {
    value.len() <= 40
        && value.contains(&b'.')
        && std::str::from_utf8(value).is_ok_and(|text| text.parse::<f64>().is_ok())
}

/// `Ed25519PublicKey`, `H221Token`
fn is_key_type(value: &[u8]) -> bool {
    let ends = [&b"PublicKey"[..], b"PrivateKey", b"Token"];
    let head = ends.iter().find_map(|end| value.strip_suffix(*end));
    head.is_some_and(|head| head.len() <= 12 && head.iter().all(u8::is_ascii_alphanumeric))
}

/// `*all*tokens*updated*`
fn is_glob(value: &[u8]) -> bool {
    let stars = value.iter().filter(|b| **b == b'*').count();
    stars >= 3
        && value
            .iter()
            .all(|b| b.is_ascii_alphabetic() || matches!(b, b'*' | b'_' | b'-'))
}

/// `3.0.1.dist-info/METADATA`: the version of a package is before it.
fn is_versioned(value: &[u8]) -> bool {
    let digits = value
        .iter()
        .take_while(|b| b.is_ascii_digit() || **b == b'.');
    let version = digits.count();
    let dots = value[..version].iter().filter(|b| **b == b'.').count();
    let rest = &value[version..];
    let parts = [&b"dist-info/"[..], b"egg-info/", b"data/"];
    dots >= 2 && parts.iter().any(|part| rest.starts_with(part))
}

/// `joserfc:OKP:HKDF:Ed25519`, `H2C-OVERSIZE-DST-`: words of different length, in capitals or small
/// letters; codes have groups of the same length.
pub(super) fn is_label(value: &[u8]) -> bool {
    let parts = value.split(|b| matches!(b, b'-' | b'_' | b':' | b'.' | b'/'));
    let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty()).collect();
    let is_even = |part: &[u8]| {
        let has = |is: fn(&u8) -> bool| part.iter().any(is);
        let digits = part.iter().filter(|b| b.is_ascii_digit()).count();
        let capital = part[0].is_ascii_uppercase() && !part[1..].iter().any(u8::is_ascii_uppercase);
        part[0].is_ascii_alphabetic()
            && part.len() <= 14
            && (digits <= 3 || is_algorithm(part))
            && (is_algorithm(part)
                || !has(u8::is_ascii_lowercase)
                || !has(u8::is_ascii_uppercase)
                || capital)
    };
    let is_known =
        |part: &&&[u8]| is_algorithm(part) || part.len() >= 4 && super::values::is_wordy(part);
    let known: usize = parts.iter().filter(is_known).map(|part| part.len()).sum();
    let all: usize = parts.iter().map(|part| part.len()).sum();
    let same = parts.windows(2).all(|pair| pair[0].len() == pair[1].len());
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_:./".contains(b);
    parts.len() >= 3
        && !same
        && value.len() <= 64
        && value.iter().all(is_plain)
        && parts.iter().all(|part| is_even(part))
        && known * 2 >= all
}

/// `jwk-thumbprint:sha-256:DCdR…`
fn is_thumbprint(value: &[u8]) -> bool {
    [&b"sha-256:"[..], b"sha-384:", b"sha-512:"]
        .iter()
        .any(|mark| memchr::memmem::find(value, mark).is_some())
}

/// `AKIA…/20130721/us-east-1/s3/aws4_request`, `Signature=3ae2…`: what a signature of AWS is for, and
/// the signature, which is good for one request.
fn is_of_request(value: &[u8]) -> bool {
    let is_hex = |b: &u8| b.is_ascii_hexdigit();
    let signature = value.strip_prefix(b"Signature=");
    memchr::memmem::find(value, b"/aws4_request").is_some()
        || signature.is_some_and(|hex| hex.len() >= 64 && hex[..64].iter().all(is_hex))
}

/// `KEYS_1EDC6F41_REFLECTED`: the name of a constant.
pub(super) fn is_constant(value: &[u8]) -> bool {
    let parts: Vec<&[u8]> = value.split(|b| *b == b'_').collect();
    let is_word = |part: &[u8]| {
        let letters = part.iter().take_while(|b| b.is_ascii_uppercase()).count();
        letters >= 3 && part.len() - letters <= 5
    };
    let is_part = |part: &&[u8]| {
        let is_in = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        !part.is_empty() && part.iter().all(is_in)
    };
    parts.len() >= 3
        && parts.iter().all(is_part)
        && is_word(parts[0])
        && is_word(parts[parts.len() - 1])
}

/// Returns true for a text that a program fills in, with nothing secret around: `{cluster}:{service}`.
pub(super) fn is_template(value: &[u8]) -> bool {
    let (mut rest, mut holes) = (Vec::new(), 0);
    let mut at = 0;
    while at < value.len() {
        let inner = |b: &u8| b.is_ascii_alphanumeric() || b"_.[]'\"-: !".contains(b);
        if value[at] == b'{'
            && let Some(end) = value[at..].iter().position(|b| *b == b'}')
            && end > 1
            && value[at + 1..at + end].iter().all(inner)
        {
            (at, holes) = (at + end + 1, holes + 1);
            continue;
        }
        rest.push(value[at]);
        at += 1;
    }
    let has_digit = rest.iter().any(u8::is_ascii_digit);
    let letters = rest.iter().filter(|b| b.is_ascii_alphabetic()).count();
    holes > 0 && !has_digit && (letters <= 4 || super::values::is_wordy(&rest))
}

/// `dcp/17_12_22-103226.Developer_CL.tar`
pub(super) fn is_file(value: &[u8]) -> bool {
    const ENDS: [&[u8]; 12] = [
        b".tar", b".zip", b".gz", b".json", b".txt", b".bin", b".jpg", b".png", b".pdf", b".html",
        b".csv", b".log",
    ];
    // A table of text ends its cells with these.
    let end = value.iter().rposition(|b| !b"|+-".contains(b));
    let value = &value[..end.map_or(0, |at| at + 1)];
    let sources = [&b".c"[..], b".h", b".rs", b".py", b".js", b".go", b".md"];
    let is_source = value.contains(&b'/') && sources.iter().any(|end| value.ends_with(end));
    is_source || ENDS.iter().any(|end| value.ends_with(end))
}

/// `m2m-access-token-12345`: words that say what it would be, and a number that is counted up.
pub(super) fn is_named_token(value: &[u8]) -> bool {
    let parts = value.split(|b| matches!(b, b'-' | b'_'));
    let parts: Vec<&[u8]> = parts.collect();
    let says = |part: &&[u8]| {
        let words = [
            &b"token"[..],
            b"secret",
            b"key",
            b"password",
            b"credential",
            b"jwt",
        ];
        words.contains(part)
    };
    let is_counted = |part: &[u8]| b"1234567890".starts_with(part);
    let is_word = |part: &[u8]| {
        part.len() <= 3 || part.len() <= 12 && part.iter().all(u8::is_ascii_lowercase)
    };
    parts.len() >= 3
        && parts.iter().any(says)
        && parts
            .iter()
            .all(|part| !part.is_empty() && (is_counted(part) || is_word(part)))
}

/// `RFC 2518`, `port 8080`: words and short numbers.
pub(super) fn is_words_and_numbers(value: &[u8]) -> bool {
    let mut parts = value.split(|b| *b == b' ').filter(|part| !part.is_empty());
    let is_number = |part: &[u8]| part.len() <= 5 && part.iter().all(u8::is_ascii_digit);
    let is_word = |part: &[u8]| part.len() <= 14 && part.iter().all(u8::is_ascii_alphabetic);
    value.contains(&b' ') && parts.all(|part| is_number(part) || is_word(part))
}

/// `fs.s3.enableServerSideEncryption`, `www.python.org:080`
pub(super) fn is_dotted_name(value: &[u8]) -> bool {
    let is_port = |b: &u8| b.is_ascii_digit();
    let value = match memchr::memrchr(b':', value) {
        Some(at) if value[at + 1..].iter().all(is_port) => &value[..at],
        _ => value,
    };
    let parts: Vec<&[u8]> = value.split(|b| *b == b'.').collect();
    let is_word = |part: &&[u8]| {
        part.len() >= 2
            && part[0].is_ascii_lowercase()
            && part.iter().all(u8::is_ascii_alphanumeric)
    };
    parts.len() >= 3
        && parts.iter().all(is_word)
        && value.iter().filter(|b| b.is_ascii_digit()).count() <= 2
}

/// `0x4d595df4d0f33173`, `0x9E37_79B9_u64.wrapping_add`: 64 bits are no key.
fn is_short_number(value: &[u8]) -> bool {
    let Some(digits) = value.strip_prefix(b"0x") else {
        return false;
    };
    let end = digits
        .iter()
        .take_while(|b| b.is_ascii_hexdigit() || **b == b'_')
        .count();
    let count = digits[..end].iter().filter(|b| **b != b'_').count();
    let kind = digits[end..]
        .split(|b| *b == b'.')
        .next()
        .unwrap_or_default();
    let is_size = |b: &u8| b"uUlLi1234568sze".contains(b);
    (1..=16).contains(&count) && kind.len() <= 5 && kind.iter().all(is_size)
}

/// Returns true for base64 of a public key as certificates have it (`SubjectPublicKeyInfo`, RFC 5280).
fn is_public_key(value: &[u8]) -> bool {
    const HEADS: [&[u8]; 7] = [
        b"MFkwEwYHKoZIzj0CAQ",
        b"MHYwEAYHKoZIzj0CAQ",
        b"MIGbMBAGByqGSM49AgEG",
        b"MCowBQYDK2Vw",
        b"MCowBQYDK2Vu",
        b"MIGfMA0GCSqGSIb3DQEBAQUAA4GN",
        b"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ",
    ];
    HEADS.iter().any(|head| value.starts_with(head))
        || value.starts_with(b"MIICIjANBgkqhkiG9w0BAQEFAAOCAg")
}

fn is_regex(value: &[u8]) -> bool {
    let has = |what: &[u8]| memchr::memmem::find(value, what).is_some();
    let class =
        memchr::memchr(b'[', value).is_some() && (has(b"a-z") || has(b"A-Z") || has(b"0-9"));
    let escaped = has(b"\\w") || has(b"\\W") || has(b"\\d") || has(b"\\D") || has(b"\\s");
    class
        || has(b"(?:")
        || has(b"(?P<")
        || has(b"\\d{")
        || escaped && (has(b"[") && has(b"]") || has(b"(") && has(b")"))
}

/// Names of algorithms and of their modes, without the sizes after them.
const ALGORITHMS: &[&str] = &[
    "sha", "md", "aes", "des", "gcm", "cbc", "ccm", "ctr", "cfb", "hmac", "rsa", "dsa", "ecdsa",
    "ecdh", "ecdhe", "dhe", "dh", "psk", "chacha", "poly", "camellia", "aria", "ed", "x", "p",
    "secp", "kdf", "hkdf", "pbkdf", "with", "tls",
];

/// `DHE-PSK-CAMELLIA128-SHA256`
fn is_algorithms(value: &[u8]) -> bool {
    let parts: Vec<&[u8]> = value
        .split(|b| matches!(b, b'-' | b'_' | b'/' | b'+' | b'.'))
        .collect();
    let is_plain = |part: &&[u8]| {
        let part = part.strip_suffix(b"kdf").unwrap_or(part);
        let letters = part.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        let digits = part[letters..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        letters <= 12 && digits <= 5 && letters + digits == part.len() && !part.is_empty()
    };
    let known = parts.iter().filter(|part| is_algorithm(part)).count();
    let is_sized = |part: &&&[u8]| part.ends_with(b"kdf") && part.len() >= 9 && is_algorithm(part);
    let derives = known == 1 && parts.len() == 2 && parts.iter().any(|part| is_sized(&part));
    (known >= 2 && known * 2 >= parts.len() || derives) && parts.iter().all(is_plain)
}

fn is_algorithm(part: &[u8]) -> bool {
    let letters = part.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let name = part[..letters].to_ascii_lowercase();
    let size = part[letters..]
        .iter()
        .take_while(|b| b.is_ascii_digit())
        .count();
    let rest = &part[letters + size..];
    (rest.is_empty() || rest.eq_ignore_ascii_case(b"kdf"))
        && ALGORITHMS.iter().any(|known| known.as_bytes() == name)
}

/// `1979-05-27T07:32:00Z`
fn is_date(value: &[u8]) -> bool {
    let shape = |b: &u8| match b {
        b'0'..=b'9' => b'0',
        other => *other,
    };
    let head: Vec<u8> = value.iter().take(11).map(shape).collect();
    head == b"0000-00-00T" && value.len() <= 35
}
