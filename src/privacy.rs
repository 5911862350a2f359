//! What must not get into a repository in the clear: secrets, and patients' records.
//!
//! Pure: bytes in, findings out. A [`Finding`] is a range of the bytes, never a value.
//! `docs/privacy.md` says how good the detectors are; [`examine`] decides what to do about a
//! finding.

use std::ops::Range;

pub use crate::base::id::Fingerprint;
use class::Class;
pub use parts::Parts;
pub use public::Public;
pub use why::{Why, is_text, masked, why};

mod check;
mod class;
mod database;
mod exports;
mod grams;
mod inside;
mod known;
pub mod merge;
mod notation;
mod parts;
mod phi;
mod public;
pub mod seal;
mod secrets;
mod source;
pub mod structure;
mod tokens;
mod values;
mod why;
mod words;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    Secret,
    /// An identifier of a patient, or health information.
    Phi,
    /// An identifier of a person that has nothing to do with health care.
    Pii,
}

impl Group {
    /// Returns its name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Phi => "phi",
            Self::Pii => "pii",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In bytes.
    pub range: Range<usize>,
    pub group: Group,
    /// Which detector found it: a name of lower-case letters, digits and `-`.
    pub kind: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    Off,
    /// Secrets, and what makes a record PHI by 45 CFR 164.514(b)(2).
    #[default]
    Hipaa,
    /// Everything that identifies a person, and secrets that are only probable.
    Strict,
}

impl Profile {
    pub const WORDS: [&'static str; 3] = ["off", "hipaa", "strict"];

    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Hipaa => "hipaa",
            Self::Strict => "strict",
        }
    }

    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Off, Self::Hipaa, Self::Strict]
            .into_iter()
            .find(|profile| profile.word() == word)
    }
}

/// Suffixes of program text, in which everything unquoted is code.
const CODE: &[&str] = &[
    "c", "h", "cc", "cpp", "hpp", "cs", "java", "js", "jsx", "mjs", "ts", "tsx", "py", "pyi", "rb",
    "go", "rs", "swift", "m", "mm", "cls", "php", "kt", "scala", "vue", "svelte", "lua", "pl",
    "dart", "ex", "exs", "hs", "md", "markdown", "rst", "html", "css", "scss", "less", "erl",
    "hrl", "ml", "mli", "clj", "rkt", "scm", "el", "jl", "r", "pm", "groovy", "gradle", "fs",
    "fsx", "map",
];

/// Returns how a file is written, by its name.
fn style_of(name: &[u8], profile: Profile) -> secrets::Style {
    let name = name.to_ascii_lowercase();
    let ext = name.rsplit(|b| *b == b'.').next().unwrap_or_default();
    secrets::Style {
        code: CODE.iter().any(|e| e.as_bytes() == ext),
        env: name.starts_with(b".env")
            || [
                &b"env"[..],
                b"ini",
                b"properties",
                b"conf",
                b"cfg",
                b"toml",
                b"yaml",
                b"yml",
                b"tf",
                b"tfvars",
            ]
            .contains(&ext),
        strict: profile == Profile::Strict,
        decoded: 0,
    }
}

/// Finds everything in a text. `name` is that of the file and says how to read the text.
///
/// Findings are sorted; those of secrets do not overlap.
pub fn scan(name: &[u8], text: &[u8], profile: Profile) -> Vec<Finding> {
    let map = || {
        let language = source::language(name, text)?;
        source::Map::of(language, text)
    };
    scan_mapped(name, text, profile, &map)
}

fn grams() -> &'static grams::Grams {
    static GRAMS: std::sync::OnceLock<grams::Grams> = std::sync::OnceLock::new();
    GRAMS.get_or_init(|| grams::Grams::new(phi::all_marks()))
}

/// Finds everything in a text; `map` says what of it is code, if that is known.
fn scan_mapped(
    name: &[u8],
    text: &[u8],
    profile: Profile,
    map: &dyn Fn() -> Option<source::Map>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut style = style_of(name, profile);
    if style.code && source::is_misnamed(name, text) {
        style.code = false;
    }
    let words = secrets::scan_noting(text, style, grams(), &mut found);
    if !found.is_empty()
        && let Some(map) = map()
    {
        known::without_code(&map, text, &mut found);
    }
    if profile != Profile::Strict {
        known::without_known(name, text, &mut found);
    }
    found.sort_by_key(|f| (f.range.start, std::cmp::Reverse(f.range.end)));
    let mut secrets: Vec<Finding> = Vec::with_capacity(found.len());
    for finding in found {
        match secrets.last_mut() {
            Some(last) if finding.range.start < last.range.end => {
                last.range.end = last.range.end.max(finding.range.end);
            }
            _ => secrets.push(finding),
        }
    }
    if profile != Profile::Off {
        phi::scan(name, text, &words, profile == Profile::Strict, &mut secrets);
    }
    if profile != Profile::Strict {
        // Numbers that documentation uses; some were never given out.
        const NOBODY: [&[u8]; 3] = [b"111223333", b"078051120", b"219099999"];
        secrets.retain(|finding| {
            let digits = text[finding.range.clone()]
                .iter()
                .filter(|b| b.is_ascii_digit());
            let digits: Vec<u8> = digits.copied().collect();
            finding.kind != "us-ssn" || !NOBODY.contains(&&digits[..])
        });
    }
    secrets.sort_by_key(|f| (f.range.start, f.range.end));
    secrets
}

/// What to look for, and what may be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    pub profile: Profile,
    /// Fingerprints of values that may be stored, and paths (`~` expanded, `*` matches anything) of
    /// files that may.
    pub allow: Vec<String>,
    /// Also seal what everybody can read already.
    pub seal_published: bool,
}

/// Incremented when the detectors change, so that everything is examined again.
pub const DETECTORS: u32 = 10;

impl Rules {
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            ..Self::default()
        }
    }

    /// Returns a text that is equal only for equal rules.
    pub fn identity(&self) -> String {
        let published = self.lets_published_through();
        let allow = self.allow.join("\n");
        format!("{DETECTORS} {:?} {published} {allow}", self.profile)
    }

    /// Returns [`Rules::identity`] as a number, where space is short.
    pub fn number(&self) -> u64 {
        let digest = crate::base::id::Digest::of(self.identity().as_bytes());
        digest.0[..8].iter().fold(0, |n, b| n << 8 | u64::from(*b))
    }

    /// Returns true if what everybody can read already is not sealed.
    pub fn lets_published_through(&self) -> bool {
        !self.seal_published && self.profile != Profile::Strict
    }

    /// Returns the value or path of an entry of the list, without the comment after ` # `.
    pub fn allowed(entry: &str) -> &str {
        entry.split(" # ").next().unwrap_or(entry).trim()
    }

    /// Returns true if a file may be stored as it is.
    pub fn allows_path(&self, path: &[u8]) -> bool {
        let mut patterns = self.allow.iter().map(|e| Self::allowed(e));
        patterns.any(|pattern| pattern.contains(['/', '\\']) && is_match(pattern, path))
    }

    /// Returns true if a value may be stored.
    pub fn allows_value(&self, fingerprint: &Fingerprint) -> bool {
        let name = fingerprint.to_string();
        self.allow.iter().any(|e| Self::allowed(e) == name)
    }
}

/// Returns true if a pattern matches a path. Every file is asked for, so what a pattern is made into is
/// remembered.
fn is_match(pattern: &str, path: &[u8]) -> bool {
    use std::collections::HashMap;
    type Made = HashMap<String, Option<globset::GlobMatcher>>;
    /// How many are remembered.
    const MOST: usize = 1024;
    thread_local! {
        static MADE: std::cell::RefCell<Made> = std::cell::RefCell::new(Made::new());
    }
    MADE.with_borrow_mut(|made| {
        if !made.contains_key(pattern) {
            if made.len() >= MOST {
                made.clear();
            }
            let glob = globset::Glob::new(pattern).ok();
            made.insert(pattern.to_owned(), glob.map(|glob| glob.compile_matcher()));
        }
        let matcher = made.get(pattern).and_then(Option::as_ref);
        matcher.is_some_and(|one| one.is_match(crate::base::path::os_from_bytes(path)))
    })
}

/// What a backup does about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    Clear,
    /// Values are sealed, the rest is stored as it is.
    Seal,
    /// Only metadata is stored, for this reason.
    Whole(&'static str),
}

/// The result of examining the content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// All findings, in order.
    pub findings: Vec<Finding>,
    pub treatment: Treatment,
    /// What to cut out: ranges in order that do not overlap, each with the name of its kind.
    pub seals: Vec<(Range<usize>, &'static str)>,
}

impl Examined {
    fn whole(findings: Vec<Finding>, why: &'static str) -> Self {
        Self {
            findings,
            treatment: Treatment::Whole(why),
            seals: Vec::new(),
        }
    }
}

/// Examines the content of a file. The names in `path` say what kind of file it is.
///
/// If a detector or decoder fails, what it did not examine is neither stored nor shown.
pub fn examine(path: &[u8], bytes: &[u8], rules: &Rules) -> Examined {
    let map = || {
        let language = source::language(name_of(path), bytes)?;
        source::Map::of(language, bytes)
    };
    examine_mapped(path, bytes, rules, &map)
}

fn examine_mapped(
    path: &[u8],
    bytes: &[u8],
    rules: &Rules,
    map: &dyn Fn() -> Option<source::Map>,
) -> Examined {
    let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        look_at(path, bytes, rules, map)
    }));
    looked.unwrap_or_else(|_| Examined {
        findings: Vec::new(),
        treatment: Treatment::Whole("it could not be scanned"),
        seals: Vec::new(),
    })
}

/// Returns the part of a path on which it depends what [`examine`] finds: the name of the file. `None`
/// if it depends on more: on its directory, or on the list of files that may be stored.
pub fn examined_by<'p>(path: &'p [u8], rules: &Rules) -> Option<&'p [u8]> {
    let is_known = class::is_container(path) || rules.allows_path(path);
    (!is_known).then(|| name_of(path))
}

fn name_of(path: &[u8]) -> &[u8] {
    let mut parts = path.rsplit(|b| matches!(b, b'/' | b'\\'));
    parts.next().unwrap_or_default()
}

fn look_at(
    path: &[u8],
    bytes: &[u8],
    rules: &Rules,
    map: &dyn Fn() -> Option<source::Map>,
) -> Examined {
    let clear = Examined {
        findings: Vec::new(),
        treatment: Treatment::Clear,
        seals: Vec::new(),
    };
    if bytes.is_empty() || !rules.allow.is_empty() && rules.allows_path(path) {
        return clear;
    }
    let name = name_of(path);
    let class = class::of(path, bytes);
    let whole = |kind: &'static str, why| {
        let finding = Finding {
            range: 0..bytes.len(),
            group: Group::Secret,
            kind,
        };
        Examined::whole(vec![finding], why)
    };
    match class {
        Class::Container => return whole("secret-container", "a file of keys or passwords"),
        Class::Unreadable => {
            return whole(
                public::UNREADABLE,
                "a configuration file that cannot be read",
            );
        }
        Class::Wide => {
            let narrow = class::narrow(bytes);
            let mut found = scan(name, &narrow, rules.profile);
            structure::secrets(name, &narrow, &mut found);
            if !relevant(&found) {
                // It may be something else after all.
                secrets::scan_certain(bytes, true, &mut found);
            }
            return match relevant(&found) {
                true => Examined::whole(found, "secrets in a file of 16-bit characters"),
                false => clear,
            };
        }
        Class::Binary => {
            let mut found = Vec::new();
            if rules.profile == Profile::Strict || !known::is_collection(bytes) {
                secrets::scan_certain(bytes, true, &mut found);
            }
            // A server compares with one that is nobody's, so that it takes as long.
            if class::is_program(bytes) {
                found.retain(|finding| finding.kind != "password-hash");
            }
            if found.is_empty() {
                inside::secrets_in(name, bytes, &mut found);
            }
            if found.is_empty() {
                database::scan(bytes, rules.profile, &mut found);
            }
            return binary(found);
        }
        Class::Text if inside::is_wrapped(bytes) => {
            let mut found = Vec::new();
            inside::secrets_in(name, bytes, &mut found);
            if !found.is_empty() {
                return Examined::whole(found, "secrets in a binary file");
            }
        }
        Class::Text => {}
    }
    examine_text(name, bytes, rules, map)
}

/// Decides about a file of which nothing can be cut out.
fn binary(findings: Vec<Finding>) -> Examined {
    let has = |group: Group| findings.iter().any(|one| one.group == group);
    let treatment = match () {
        () if has(Group::Phi) => Treatment::Whole("patient data"),
        () if has(Group::Secret) => Treatment::Whole("secrets in a binary file"),
        () => Treatment::Clear,
    };
    Examined {
        findings,
        treatment,
        seals: Vec::new(),
    }
}

fn examine_text(
    name: &[u8],
    bytes: &[u8],
    rules: &Rules,
    map: &dyn Fn() -> Option<source::Map>,
) -> Examined {
    let mut findings = scan_mapped(name, bytes, rules.profile, map);
    structure::secrets(name, bytes, &mut findings);
    exports::secrets(name, bytes, rules.profile == Profile::Strict, &mut findings);
    let documents = rules.profile != Profile::Off && class::is_health_document(bytes);
    if documents {
        findings.push(Finding {
            range: 0..bytes.len().min(1),
            group: Group::Phi,
            kind: "health-document",
        });
    }
    let logs = class::is_log(name, bytes);
    let records = if findings.iter().any(|f| f.group == Group::Phi) {
        phi_records(bytes, &findings, logs)
    } else {
        Vec::new()
    };
    // Health information that identifies nobody does not count.
    // Records are in order, and so are their ends.
    let is_inside = |range: &Range<usize>| {
        let first = records.partition_point(|r| r.end < range.end);
        (records[first..].iter())
            .take_while(|r| r.start <= range.start)
            .any(|r| range.end <= r.end)
    };
    findings.retain(|f| f.kind != "health-text" || is_inside(&f.range));
    if documents || !records.is_empty() && !logs {
        return Examined::whole(findings, "patient data");
    }
    let seals = seals_of(bytes, records, &findings);
    Examined {
        treatment: if seals.is_empty() {
            Treatment::Clear
        } else {
            Treatment::Seal
        },
        findings,
        seals,
    }
}

/// Returns what to cut out of a text.
fn seals_of(
    bytes: &[u8],
    records: Vec<Range<usize>>,
    findings: &[Finding],
) -> Vec<(Range<usize>, &'static str)> {
    let mut seals: Vec<(Range<usize>, &'static str)> = Vec::new();
    for record in records {
        seals.push((record, RECORD));
    }
    for finding in findings.iter().filter(|f| f.group == Group::Secret) {
        seals.push((finding.range.clone(), finding.kind));
    }
    // Text that looks like one of our placeholders already has to be restored unchanged too.
    for at in memchr::memmem::find_iter(bytes, seal::PREFIX) {
        seals.push((at..at + seal::PREFIX.len(), seal::LITERAL));
    }
    seals.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
    let mut end = 0;
    seals.retain(|(range, _)| {
        let apart = range.start >= end && range.end > range.start;
        if apart {
            end = range.end;
        }
        apart
    });
    seals
}

/// Returns true if a file's name says that it is a log, which only ever grows.
pub fn is_log_name(name: &[u8]) -> bool {
    class::is_log_name(name)
}

/// Replaces a name that contains a secret.
pub const SECRET_NAME: &[u8] = b"(a name with a secret)";

/// Why a symlink is not captured.
pub const IN_TARGET: &str = "a secret in its target";

/// Returns true if a file's name is or contains a token recognisable by its form, or says that it
/// is a password.
pub fn is_secret_name(name: &[u8]) -> bool {
    if memchr::memchr(b'=', name).is_some() && is_secret_text(name) {
        return true;
    }
    // None is shorter, but nearly all names are.
    if name.len() < 24 {
        return false;
    }
    let mut found = Vec::new();
    secrets::scan_certain(name, false, &mut found);
    !found.is_empty()
}

/// Returns true if a short text contains a secret and so cannot be stored in part: the target of a
/// symlink.
pub fn is_secret_text(text: &[u8]) -> bool {
    // None is shorter.
    if text.len() < 12 {
        return false;
    }
    let found = scan(b"", text, Profile::Off);
    found.iter().any(|f| f.group == Group::Secret)
}

/// Why a file with such an attribute is not stored completely.
pub const IN_ATTRIBUTE: &str = "a secret in an extended attribute, which is not stored";

/// Returns true if an extended attribute contains a secret, in its name, or in its value by that
/// name.
pub fn is_secret_attribute(name: &[u8], value: &[u8]) -> bool {
    if is_secret_name(name) {
        return true;
    }
    let last = name.rsplit(|b| *b == b'.').next().unwrap_or_default();
    let style = secrets::Style {
        env: true,
        ..secrets::Style::default()
    };
    let mut found = Vec::new();
    secrets::scan(&[last, b"=", value].concat(), style, &mut found);
    secrets::scan(value, secrets::Style::default(), &mut found);
    !found.is_empty()
}

/// Returns true if a file's name says that it contains settings, keys or a table, whose columns say
/// what is in them: such a file is examined, by its name, before anything else happens to it.
pub fn is_sensitive_name(path: &[u8]) -> bool {
    let name = name_of(path);
    structure::format_of(name).is_some() || class::is_container(path) || phi::is_table(name)
}

/// Replaces secrets in the words of a command. Returns true if there were any.
pub fn redact(
    words: &mut [Vec<u8>],
    rules: &Rules,
    fingerprint: &dyn Fn(&[u8]) -> Option<Fingerprint>,
) -> bool {
    // As one line, because `--token` and its value are two words.
    let line = words.join(&b' ');
    let rules = Rules {
        allow: Vec::new(),
        ..rules.clone()
    };
    let examined = examine_text(b"", &line, &rules, &|| None);
    let mut seals: Vec<(Range<usize>, &'static str)> = match examined.treatment {
        // Here nothing is left out as a whole.
        Treatment::Whole(_) => {
            let all = examined.findings.iter();
            all.map(|finding| (finding.range.clone(), finding.kind))
                .collect()
        }
        _ => examined.seals,
    };
    let argv: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    for (at, range) in secrets::in_argv(&argv) {
        let before: usize = words[..at].iter().map(|word| word.len() + 1).sum();
        let range = before + range.start..before + range.end;
        seals.push((range, "command"));
    }
    seals.sort_by_key(|(range, _)| range.start);
    seals.dedup_by(|next, last| {
        // Overlapping findings are one: the whole word, if its end is known.
        let over = next.0.start < last.0.end;
        if over {
            last.0.end = last.0.end.max(next.0.end);
        }
        over
    });
    let mut changed = false;
    let mut end = line.len();
    for word in words.iter_mut().rev() {
        let start = end - word.len();
        for (range, kind) in seals.iter().rev() {
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from >= to {
                continue;
            }
            let stands_for = match fingerprint(&line[from..to]) {
                Some(fingerprint) => seal::placeholder(kind, fingerprint),
                None => "bdr:sealed".to_owned(),
            };
            word.splice(from - start..to - start, stands_for.into_bytes());
            changed = true;
        }
        end = start.saturating_sub(1);
    }
    changed
}

/// The kind of a placeholder for a record of a log.
pub const RECORD: &str = "record";

fn relevant(found: &[Finding]) -> bool {
    found.iter().any(|f| f.group == Group::Secret)
        || phi::verdict(
            found
                .iter()
                .filter(|f| f.group == Group::Phi)
                .map(|f| f.kind),
        ) == phi::Verdict::Phi
}

/// Returns the records that are PHI: lines of a log, or the surroundings of findings elsewhere.
fn phi_records(bytes: &[u8], findings: &[Finding], logs: bool) -> Vec<Range<usize>> {
    let mut of_phi: Vec<&Finding> = findings.iter().filter(|f| f.group == Group::Phi).collect();
    of_phi.sort_by_key(|f| f.range.start);
    let mut records: Vec<Range<usize>> = Vec::new();
    for finding in &of_phi {
        let at = finding.range.start;
        if records
            .last()
            .is_some_and(|last: &Range<usize>| last.contains(&at))
        {
            continue;
        }
        let record = if logs {
            let start = memchr::memrchr(b'\n', &bytes[..at]).map_or(0, |p| p + 1);
            let end = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |p| at + p);
            let end = if end > start && bytes[end - 1] == b'\r' {
                end - 1
            } else {
                end
            };
            start..end.max(finding.range.end.min(bytes.len()))
        } else {
            at.saturating_sub(REACH)..(finding.range.end + REACH).min(bytes.len())
        };
        // They are in order: a table has hundreds of thousands.
        let from = of_phi.partition_point(|f| f.range.start < record.start);
        let inside = of_phi[from..]
            .iter()
            .take_while(|f| f.range.start < record.end)
            .filter(|f| f.range.end <= record.end)
            .map(|f| f.kind);
        if phi::verdict(inside) == phi::Verdict::Phi {
            records.push(record);
        }
    }
    records
}

/// Outside of logs, findings this near belong together, in bytes.
const REACH: usize = 500;
