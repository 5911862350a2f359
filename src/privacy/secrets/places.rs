//! Finds secrets by their place: in a URL, between armour lines, in a header, after an option.

use super::value::{after_name, is_bare, skip_space};
use super::{LONGEST, Style, secret};
use crate::privacy::Finding;
use crate::privacy::values::{Look, entropy, is_placeholder, is_wordy, look};

/// `scheme://user:password@host`, from after the slashes; also passwords in connection parameters.
pub(super) fn url_password(text: &[u8], at: usize, style: Style) -> Option<Finding> {
    let strict = style.strict;
    let limit = (at + 512).min(text.len());
    let part = &text[at..limit];
    let is_end = |b: &u8| *b <= b' ' || matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>' | b'\\');
    let all = part.iter().position(is_end).unwrap_or(part.len());
    let part = &part[..all];
    let end = part.iter().position(|b| matches!(b, b'?' | b'#'));
    // `user:pass#word@host`: written as it is.
    let end = end.filter(|end| {
        let at = memchr::memchr(b'@', part).unwrap_or(0);
        part[*end] == b'?' || at < *end || part[..at].iter().any(|b| matches!(b, b'/' | b'?'))
    });
    let end = end.unwrap_or(part.len());
    let authority_end = part[..end].iter().rposition(|b| *b == b'@')?;
    let userinfo = &part[..authority_end];
    let colon = userinfo.iter().position(|b| *b == b':')?;
    let (user, password) = (&userinfo[..colon], &userinfo[colon + 1..]);
    // `//host:80/@scope`: a slash before the colon ends the authority.
    if user.contains(&b'/')
        || password.is_empty()
        || password.len() > 256
        || password
            .iter()
            .position(|b| matches!(b, b'/' | b','))
            .is_some_and(|end| password[..end].iter().all(u8::is_ascii_digit))
    {
        return None;
    }
    let is_reference = password
        .iter()
        .any(|b| matches!(b, b'$' | b'<' | b'{' | b'*' | b'%'))
        || password.len() < 4;
    if (!strict || is_reference) && is_placeholder(password)
        || !strict && is_spelt_password(user, password)
        || password.starts_with(b"$")
        || password.starts_with(b"<")
        || password.starts_with(b"{")
        || password.starts_with(b"%s")
        // `scheme://user[:password]@host`, `driver://[user:password@]host`
        || user.ends_with(b"[")
        || user.starts_with(b"[")
        || is_name_of_password(password)
        || password == user && !password.iter().any(u8::is_ascii_digit)
        // `letme:in`
        || !strict && style.code && password.len() < 4 && password.iter().all(u8::is_ascii_lowercase)
    {
        return None;
    }
    let host =
        part[authority_end + 1..end].split(|b| matches!(b, b'/' | b':' | b')' | b',' | b']'));
    if !strict && is_example_host(host.into_iter().next().unwrap_or_default()) {
        return None;
    }
    Some(secret(at + colon + 1..at + authority_end, "url-password"))
}

/// `mysql://HOMER_DB_USER:HOMER_DB_PASSWORD@…`
fn is_name_of_password(password: &[u8]) -> bool {
    let ends = [&b"PASSWORD"[..], b"PASS", b"PWD", b"PASSWD"];
    let is_part = |b: &u8| b.is_ascii_uppercase() || *b == b'_';
    password.contains(&b'_')
        && password.iter().all(is_part)
        && ends.iter().any(|end| password.ends_with(end))
}

/// `user:p@ssw0rd`
fn is_spelt_password(user: &[u8], password: &[u8]) -> bool {
    let spelt = |b: &u8| match b {
        b'@' => b'a',
        b'0' => b'o',
        b'$' | b'5' => b's',
        b'1' => b'i',
        b'3' => b'e',
        other => other.to_ascii_lowercase(),
    };
    let word: Vec<u8> = password.iter().map(spelt).collect();
    let users = [&b"user"[..], b"username", b"usr", b"someuser", b"myuser"];
    let words = [&b"password"[..], b"passwd", b"pass", b"secret"];
    users.contains(&user) && words.contains(&&word[..])
}

/// Returns true for a host that is reserved for documentation and tests (RFC 2606).
fn is_example_host(host: &[u8]) -> bool {
    let host = host.to_ascii_lowercase();
    let names = [
        &b"example.com"[..],
        b"example.org",
        b"example.net",
        b"example",
    ];
    let ends = [&b".test"[..], b".example", b".invalid"];
    let is_below = |name: &[u8]| {
        let above = host.strip_suffix(name);
        above.is_some_and(|above| above.is_empty() || above.ends_with(b"."))
    };
    names.into_iter().any(is_below) || ends.iter().any(|end| host.ends_with(end))
}

/// A private key between its armour lines, as a whole.
pub(super) fn pem(text: &[u8], at: usize) -> Option<Finding> {
    let head = &text[at + 11..(at + 80).min(text.len())];
    let label_end = head.windows(5).position(|w| w == b"-----")?;
    let label = &head[..label_end];
    if !label.windows(11).any(|w| w == b"PRIVATE KEY") {
        return None;
    }
    let body = at + 11 + label_end + 5;
    // A 16,384-bit key is 13 KB of text.
    let limit = (body + 32 * 1024).min(text.len());
    let close = [b"-----END ", label].concat();
    let end = text[body..limit]
        .windows(close.len())
        .position(|w| w == close);
    let (body_end, whole_end) = match end {
        Some(end) => (body + end, (body + end + close.len() + 5).min(text.len())),
        // Cut off: take all of the base64.
        None => {
            let n = text[body..limit]
                .iter()
                .take_while(|b| b.is_ascii_alphanumeric() || b"+/=\r\n\\ \t:,-".contains(b))
                .count();
            (body + n, body + n)
        }
    };
    let inner: Vec<u8> = text[body..body_end]
        .iter()
        .copied()
        .filter(u8::is_ascii_alphanumeric)
        .collect();
    if inner.len() < 16
        || is_placeholder(&inner) && inner.len() < 40
        || entropy(&inner) < 2.5
        || !has_base64(&text[body..body_end])
    {
        return None;
    }
    Some(secret(at..whole_end, "private-key"))
}

/// Returns true if a piece of a text is base64: not only code that looks for keys, or a remark.
fn has_base64(body: &[u8]) -> bool {
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    body.split(|b| !is_part(b)).any(|run| {
        let has = |is: fn(&u8) -> bool| run.iter().any(is);
        run.len() >= 16 && has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase)
    })
}

/// The end of a certificate or public key that begins at `at`, with nothing but base64 in it.
pub(super) fn public_pem(text: &[u8], at: usize) -> Option<usize> {
    let head = &text[at + 11..(at + 80).min(text.len())];
    let label_end = head.windows(5).position(|w| w == b"-----")?;
    let label = &head[..label_end];
    let public = [
        &b"CERTIFICATE"[..],
        b"PUBLIC KEY",
        b"X509 CRL",
        b"CERTIFICATE REQUEST",
        b"DH PARAMETERS",
        b"PKCS7",
    ];
    if !public.iter().any(|kind| label.ends_with(kind)) {
        return None;
    }
    let body = at + 11 + label_end + 5;
    let inner = |b: &&u8| b.is_ascii_alphanumeric() || b"+/=\r\n\\ \t\"',".contains(b);
    let limit = (body + (64 << 10)).min(text.len());
    let end = body + text[body..limit].iter().take_while(inner).count();
    text[end..].starts_with(b"-----END ").then_some(end)
}

/// What [`after_word`] looks behind, in small letters. `key` is the end of `x-api-key`.
pub(super) const FOLLOWED: [&[u8]; 7] = [
    b"authorization",
    b"bearer",
    b"_authtoken",
    b"key",
    b"identified",
    b"jdbc",
    b"curl",
];

/// `Authorization: Bearer …`, `curl -u user:password`, and the like: examines what follows such a
/// word.
pub(super) fn after_word(text: &[u8], start: usize, end: usize, found: &mut Vec<Finding>) {
    let word = &text[start..end];
    let is = |what: &[u8]| word.eq_ignore_ascii_case(what);
    match word.len() {
        13 if is(b"authorization") => authorization(text, end, found),
        6 if is(b"bearer") && text.get(end) == Some(&b' ') => header(text, end + 1, found),
        10 if is(b"_authtoken") && text.get(end) == Some(&b'=') => header(text, end + 1, found),
        3 if is(b"key") && start >= 6 && text[start - 6..start].eq_ignore_ascii_case(b"x-api-") => {
            let closed = if text.get(end) == Some(&b'"') {
                end + 1
            } else {
                end
            };
            if text.get(closed) == Some(&b':') {
                header(text, closed + 1, found);
            }
        }
        10 if is(b"identified") => identified(text, end, found),
        4 if is(b"jdbc") => thin(text, end, found),
        4 if is(b"curl") && text.get(end) == Some(&b' ') => curl(text, end, found),
        _ => {}
    }
    let next = text.get(end).copied().unwrap_or(0);
    if super::commands::may_be_program(word[0], word.len().min(31), next) {
        super::commands::after_program(text, start, end, found);
    }
}

/// Schemes before the value of an `Authorization` header.
const SCHEMES: [&[u8]; 11] = [
    b"bearer",
    b"basic",
    b"token",
    b"apikey",
    b"api-key",
    b"digest",
    b"key",
    b"sso-key",
    b"genieKey",
    b"splunk",
    b"bot",
];

fn authorization(text: &[u8], end: usize, found: &mut Vec<Finding>) {
    let closed = after_name(text, end);
    let mut i = skip_space(text, closed, 8);
    // `proxy_set_header Authorization "Basic …"`: only with a scheme.
    let is_bare = closed == end && i > end && matches!(text.get(i), Some(b'"' | b'\''));
    if !is_bare && !matches!(text.get(i), Some(b':' | b'=' | b',')) {
        return;
    }
    i = skip_space(text, i + usize::from(!is_bare), 8);
    if text.get(i) == Some(&b'>') {
        i = skip_space(text, i + 1, 8);
    }
    while matches!(text.get(i), Some(b'"' | b'\'' | b'\\' | b'`')) {
        i += 1;
    }
    let scheme = SCHEMES.iter().find(|scheme| {
        let end = i + scheme.len();
        let there = text.get(i..end);
        there.is_some_and(|s| s.eq_ignore_ascii_case(scheme))
            && matches!(text.get(end), Some(b' ' | b':'))
    });
    if let Some(scheme) = scheme {
        i = skip_space(text, i + scheme.len() + 1, 8);
        if *scheme == b"basic" && is_stand_in(text, i) {
            return;
        }
    }
    if scheme.is_some() || !is_bare {
        add_bare(text, i, 8, "authorization", found);
    }
}

/// Returns true for `user:secret` in base64.
fn is_stand_in(text: &[u8], at: usize) -> bool {
    use base64::Engine as _;
    let is_part = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let length = text[at..].iter().take(LONGEST).take_while(is_part).count();
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    engine.decode(&text[at..at + length]).is_ok_and(|both| {
        let colon = memchr::memchr(b':', &both);
        colon.is_some_and(|colon| is_placeholder(&both[colon + 1..]))
    })
}

fn header(text: &[u8], at: usize, found: &mut Vec<Finding>) {
    let mut i = skip_space(text, at, 4);
    while matches!(text.get(i), Some(b'"' | b'\'')) {
        i += 1;
    }
    add_bare(text, i, 16, "authorization", found);
}

/// `CREATE USER … IDENTIFIED BY '…'`
fn identified(text: &[u8], end: usize, found: &mut Vec<Finding>) {
    let rest = &text[end..(end + 256).min(text.len())];
    let Some([b' ', b'b' | b'B', b'y' | b'Y', b' ', marks @ ..]) = rest.get(..8) else {
        return;
    };
    let line = &text[end.saturating_sub(300)..end];
    let line = line[memchr::memrchr(b'\n', line).map_or(0, |at| at + 1)..].to_ascii_lowercase();
    let has = |what: &[u8]| memchr::memmem::find(&line, what).is_some();
    let is_prose = has(b"is identified") || has(b"are identified");
    if is_prose || !text[..end].ends_with(b"IDENTIFIED") && !has(b"user ") && !has(b"grant ") {
        return;
    }
    let skipped = 4 + marks.iter().take_while(|b| **b == b'\\').count();
    let Some(quote @ (b'\'' | b'"')) = rest.get(skipped) else {
        return;
    };
    let value = &rest[skipped + 1..];
    let length = value
        .iter()
        .position(|b| b == quote || matches!(b, b'\\' | b'\n'));
    let Some(length) = length.filter(|length| *length >= 4) else {
        return;
    };
    let from = end + skipped + 1;
    let raw = &value[..length];
    if !is_placeholder(raw) && !is_name_of_password(raw) && raw[0] != b'$' {
        found.push(secret(from..from + length, "password"));
    }
}

/// `jdbc:oracle:thin:user/password@host`
fn thin(text: &[u8], end: usize, found: &mut Vec<Finding>) {
    let rest = &text[end..(end + 256).min(text.len())];
    let Some(rest) = rest.strip_prefix(b":oracle:thin:") else {
        return;
    };
    let end = rest
        .iter()
        .position(|b| *b <= b' ' || b"\"'`<>\\".contains(b));
    let rest = &rest[..end.unwrap_or(rest.len())];
    let (Some(slash), Some(at)) = (memchr::memchr(b'/', rest), memchr::memrchr(b'@', rest)) else {
        return;
    };
    if slash > 0 && slash + 4 < at && !is_placeholder(&rest[slash + 1..at]) {
        let from = (rest.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
        found.push(secret(from + slash + 1..from + at, "url-password"));
    }
}

/// Options of curl that take `user:password`.
const USER_OPTIONS: [&[u8]; 6] = [
    b" -u ",
    b" --user ",
    b" --proxy-user ",
    b" -U ",
    b" -u",
    b" --user=",
];

fn curl(text: &[u8], end: usize, found: &mut Vec<Finding>) {
    let line = &text[end..(end + 2048).min(text.len())];
    let option = USER_OPTIONS
        .iter()
        .find_map(|o| Some(memchr::memmem::find(line, o)? + o.len()));
    let Some(option_end) = option else { return };
    let mut i = skip_space(text, end + option_end, 8);
    while matches!(text.get(i), Some(b'"' | b'\'' | b'\\')) {
        i += 1;
    }
    let n = text[i..]
        .iter()
        .take(256)
        .take_while(|b| is_bare(**b) || **b == b'\'')
        .count();
    let Some(colon) = text[i..i + n].iter().position(|b| *b == b':') else {
        return;
    };
    let mut password = i + colon + 1..i + n;
    let is_quote = |b: Option<&u8>| matches!(b, Some(b'"' | b'\''));
    while password.start < password.end && is_quote(text.get(password.start)) {
        password.start += 1;
    }
    while password.end > password.start && is_quote(text.get(password.end - 1)) {
        password.end -= 1;
    }
    let (user, value) = (&text[i..i + colon], &text[password.clone()]);
    let mut all = user.iter().chain(value);
    if all.any(|b| matches!(b, b'$' | b'<' | b'{' | b'[')) {
        return;
    }
    if value.len() >= 4 && !is_placeholder(value) {
        found.push(secret(password, "basic-auth"));
    } else if value.is_empty() && user.len() >= 8 && matches!(look(user), Look::Hex | Look::Random)
    {
        // A key alone, without a password.
        found.push(secret(i..i + colon, "basic-auth"));
    }
}

fn add_bare(text: &[u8], at: usize, least: usize, kind: &'static str, found: &mut Vec<Finding>) {
    let Some(rest) = text.get(at..) else { return };
    let n = rest
        .iter()
        .take(LONGEST)
        .take_while(|b| is_bare(**b))
        .count();
    let value = &rest[..n];
    let has_digit = value.iter().any(u8::is_ascii_digit);
    if n >= least
        && !value.starts_with(b"https://")
        && !value.starts_with(b"http://")
        && !is_placeholder(value)
        && (has_digit || n >= 12 && entropy(value) > 3.5)
        && !is_wordy(value)
    {
        found.push(secret(at..at + n, kind));
    }
}
