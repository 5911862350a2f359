//! What is known for what it is: code of a program, the features of a crate, test vectors and examples
//! that are published in a form of their own, credentials that specifications and documentation print.
//!
//! A directory's name is never enough: a developer's key may lie in `tests`, too.

use super::{Finding, Group, source};

/// Drops what was found in the code of a program, which has its values in literals, and identifiers in
/// its comments.
pub(super) fn without_code(map: &source::Map, text: &[u8], found: &mut Vec<Finding>) {
    found.retain(|finding| {
        let value = &text[finding.range.clone()];
        // Found by the form, not by a name before it.
        let by_form = !matches!(
            finding.kind,
            "generic" | "password" | "command" | "authorization" | "basic-auth"
        );
        match map.at(finding.range.start) {
            source::Place::Code => {
                by_form && !source::is_identifier(value) || source::is_literal(text, &finding.range)
            }
            source::Place::Comment => {
                finding.kind != "generic" || !source::is_identifier(trimmed(value))
            }
            source::Place::Literal => true,
        }
    });
}

/// Returns text without what is around a word in a sentence.
fn trimmed(text: &[u8]) -> &[u8] {
    let inner = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let from = text.iter().position(inner).unwrap_or(0);
    let to = text.iter().rposition(inner).map_or(0, |at| at + 1);
    text.get(from..to).unwrap_or_default()
}

/// Files in which a program notes the versions and checksums of what it uses, in small letters. Any
/// package may be called `oauth2` or `api-key`; what is certain by its form counts all the same.
const LOCKS: [&[u8]; 28] = [
    b".secrets.baseline",
    b".terraform.lock.hcl",
    b"bun.lock",
    b"cargo.lock",
    b"cartfile.resolved",
    b"chart.lock",
    b"composer.lock",
    b"deno.lock",
    b"flake.lock",
    b"gemfile.lock",
    b"go.mod",
    b"go.sum",
    b"gradle.lockfile",
    b"manifest.lock",
    b"mix.lock",
    b"npm-shrinkwrap.json",
    b"package-lock.json",
    b"package.resolved",
    b"packages.lock.json",
    b"pdm.lock",
    b"pipfile.lock",
    b"pnpm-lock.yaml",
    b"podfile.lock",
    b"poetry.lock",
    b"pubspec.lock",
    b"uv.lock",
    b"verification-metadata.xml",
    b"yarn.lock",
];

/// Drops what is known for what it is by the file, and what is published.
pub(super) fn without_known(name: &[u8], text: &[u8], found: &mut Vec<Finding>) {
    if found.is_empty() {
        return;
    }
    if is_collection(text) {
        found.retain(|finding| finding.group != Group::Secret);
        return;
    }
    if found.iter().any(is_by_name) && is_of_labels(text) {
        found
            .retain(|finding| !is_by_name(finding) || !is_label_text(&text[finding.range.clone()]));
    }
    let name = name.to_ascii_lowercase();
    let has = |what: &[u8]| memchr::memmem::find(&name, what).is_some();
    let vectors = has(b"test-vector") || has(b"test_vector") || has(b"testvector");
    let is_manifest = name.starts_with(b"cargo.toml");
    let is_lock = LOCKS.contains(&&name[..]);
    found.retain(|finding| {
        let by_file =
            is_by_name(finding) && (vectors || is_lock || is_manifest && is_listed(text, finding));
        let value = &text[finding.range.clone()];
        !by_file && !super::values::says_example(value) && !is_published(value)
    });
}

/// Found by the name before it, not by its form.
fn is_by_name(finding: &Finding) -> bool {
    matches!(finding.kind, "generic" | "password")
}

/// Returns true for a file of what a program says to people in one language: nearly all values are
/// words, many of them several. The settings of a program have names, numbers and paths.
fn is_of_labels(text: &[u8]) -> bool {
    let head = &text[..text.len().min(64 << 10)];
    let (mut lines, mut all, mut words, mut several) = (0, 0, 0, 0);
    for line in head.split(|b| *b == b'\n') {
        let line = line.trim_ascii();
        lines += usize::from(!line.is_empty());
        let line = line
            .strip_suffix(b",")
            .or_else(|| line.strip_suffix(b";"))
            .unwrap_or(line);
        let Some((quote @ (b'"' | b'\''), rest)) = line.split_last() else {
            continue;
        };
        // `"key": "text"`, `$lang['key'] = 'text'`
        let Some(open) = memchr::memrchr(*quote, rest) else {
            continue;
        };
        let joint = rest[..open].trim_ascii_end().last();
        if !matches!(joint, Some(b':' | b'=' | b'>')) {
            continue;
        }
        let value = &rest[open + 1..];
        all += 1;
        words += usize::from(is_label_text(value));
        several += usize::from(value.contains(&b' ') || !value.is_ascii());
    }
    let are_words = words * 10 >= all * 7 && several * 10 >= all * 4;
    all >= 12 && all * 10 >= lines * 6 && (are_words || several * 10 >= all * 6)
}

/// Returns true for words of some language.
fn is_label_text(value: &[u8]) -> bool {
    let is_letter = |b: &u8| b.is_ascii_alphabetic() || !b.is_ascii();
    let letters = value.iter().filter(|b| is_letter(b)).count();
    // `$1` is put in by the program.
    let is_part = |(at, b): (usize, &u8)| match b {
        b'1'..=b'9' => at > 0 && value[at - 1] == b'$',
        b => is_letter(b) || b" .,:;!?'-()\\\"$".contains(b),
    };
    // With its markup.
    let foreign = value.iter().filter(|b| !b.is_ascii()).count();
    letters >= 3 && (foreign * 3 >= value.len() || value.iter().enumerate().all(is_part))
}

/// Returns true for a name in a list of names: a feature of a crate.
fn is_listed(text: &[u8], finding: &Finding) -> bool {
    let start = memchr::memrchr(b'\n', &text[..finding.range.start]).map_or(0, |at| at + 1);
    let is_part = |b: &u8| b.is_ascii_lowercase() || b"-_/:?".contains(b);
    memchr::memmem::find(&text[start..finding.range.start], b"= [").is_some()
        && text[finding.range.clone()].iter().all(is_part)
}

/// Returns true for a published collection of test vectors or examples, by its first bytes.
pub(super) fn is_collection(text: &[u8]) -> bool {
    let head = &text[..text.len().min(2048)];
    let has = |what: &[u8]| memchr::memmem::find(head, what).is_some();
    // <https://c2sp.org/CCTV/age>
    if head.starts_with(b"expect: ") {
        return is_of_age(head);
    }
    // <https://github.com/web-platform-tests/wpt>, as other projects copy it.
    if has(b"https://github.com/web-platform-tests/wpt/") && head[0] != b'#' {
        return matches!(head.trim_ascii_start().first(), Some(b'{' | b'['));
    }
    // <https://github.com/C2SP/wycheproof>
    if has(b"\"algorithm\"") && has(b"\"numberOfTests\"") && has(b"\"generatorVersion\"") {
        return true;
    }
    // The models of AWS: <https://github.com/boto/botocore>
    let packed: Vec<u8> = head
        .iter()
        .copied()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    if packed.starts_with(b"{\"version\":\"1.0\",\"examples\":{") {
        return true;
    }
    // Its command's examples: <https://github.com/aws/aws-cli>
    head.starts_with(b"**") && has(b"\n    aws ") && has(b"::")
}

fn is_of_age(head: &[u8]) -> bool {
    const NAMES: [&[u8]; 8] = [
        b"expect",
        b"payload",
        b"file key",
        b"identity",
        b"passphrase",
        b"armored",
        b"compressed",
        b"comment",
    ];
    let header = head
        .split(|b| *b == b'\n')
        .take_while(|line| !line.is_empty());
    let mut lines = 0;
    header.inspect(|_| lines += 1).all(|line| {
        let name = memchr::memchr(b':', line).map_or(line, |at| &line[..at]);
        NAMES.contains(&name)
    }) && lines >= 3
}

/// Credentials that specifications and documentation print for everybody, by the beginning of their
/// SHA-256.
const PUBLISHED: &str = include_str!("published.txt");

fn is_published(value: &[u8]) -> bool {
    let is_known = |value: &[u8]| {
        if !(6..=4096).contains(&value.len()) {
            return false;
        }
        let digest = crate::base::id::Digest::of(value).to_hex();
        let all = PUBLISHED.lines().filter(|line| !line.starts_with('#'));
        all.filter_map(|line| line.split(' ').next())
            .any(|known| digest.starts_with(known))
    };
    let value = value.trim_ascii();
    // `AccountKey=…` is one token.
    let said = memchr::memchr(b'=', value).map(|at| &value[at + 1..]);
    is_known(value) || said.is_some_and(is_known)
}
