//! Identifiers of people and health information, by form, check digits and the words around them.
//!
//! Numbers alone say little in a developer's files: bare nine-digit numbers are timestamps. So all but a few kinds need context, a
//! word of their own within reach on the same line (or the key of the same member). What counts as PHI is decided per record, in [`verdict`].

use std::ops::Range;
use std::sync::OnceLock;

use regex::bytes::{Regex, RegexSet};

use super::check;
use super::{Finding, Group};

/// How much a kind says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Identifies a patient by itself.
    Strong,
    /// Identifies a patient together with health information in the same record.
    Identifier,
    /// Says something of somebody's health, identifies nobody.
    Health,
    /// Identifies a person; none of health care.
    Person,
}

/// One kind of number or text.
pub(super) struct Rule {
    pub(super) kind: &'static str,
    pub(super) role: Role,
    /// The first group, or the whole, is what is found.
    form: &'static str,
    check: fn(&[u8]) -> bool,
    /// Words of which one must stand within reach, in lower case; none: the form is enough.
    context: &'static [&'static str],
    /// Looked for in the strict profile only.
    strict: bool,
}

fn any(_: &[u8]) -> bool {
    true
}

const PATIENT: &[&str] = &[
    "patient",
    "mrn",
    "medical record",
    "med rec",
    "medrec",
    "chart",
    "encounter",
    "admission",
    "hospital number",
    "health record",
];

/// All rules. Sources: 45 CFR 164.514(b)(2) for the kinds; the issuers' specifications for the forms (see `check`).
pub(super) const RULES: &[Rule] = &[
    Rule {
        kind: "us-ssn",
        role: Role::Strong,
        form: r"\b(\d{3}-\d{2}-\d{4}|\d{3}\.\d{2}\.\d{4})\b",
        check: check::ssn,
        context: &[],
        strict: false,
    },
    Rule {
        kind: "us-ssn",
        role: Role::Strong,
        form: r"\b(\d{3}[- .]?\d{2}[- .]?\d{4})\b",
        check: check::ssn,
        context: &[
            "ssn",
            "social security",
            "social_security",
            "socialsecurity",
            "ss#",
            "ss #",
            "taxpayer id",
            "tax_id",
        ],
        strict: false,
    },
    Rule {
        kind: "us-ssn",
        role: Role::Strong,
        form: r"\b(\d{5}-\d{4}|\d{3}-\d{6})\b",
        check: check::ssn,
        context: &["ssn", "social security"],
        strict: false,
    },
    Rule {
        kind: "us-itin",
        role: Role::Identifier,
        form: r"\b(9\d{2}[- ]?\d{2}[- ]?\d{4})\b",
        check: check::itin,
        context: &["itin", "taxpayer", "tax id", "individual taxpayer"],
        strict: false,
    },
    Rule {
        kind: "us-mbi",
        role: Role::Strong,
        form: r"(?i)\b([1-9][A-Z][A-Z0-9]\d-[A-Z][A-Z0-9]\d-[A-Z]{2}\d{2})\b",
        check: check::mbi,
        context: &[],
        strict: false,
    },
    Rule {
        kind: "us-mbi",
        role: Role::Strong,
        form: r"(?i)\b([1-9][A-Z][A-Z0-9]\d-?[A-Z][A-Z0-9]\d-?[A-Z]{2}\d{2})\b",
        check: check::mbi,
        context: &["mbi", "medicare", "beneficiary", "hic", "cms"],
        strict: false,
    },
    Rule {
        kind: "us-npi",
        role: Role::Identifier,
        form: r"\b([12]\d{3}[- ]?\d{3}[- ]?\d{3})\b",
        check: check::npi,
        context: &[
            "npi",
            "national provider",
            "provider id",
            "provider_id",
            "prescriber",
        ],
        strict: false,
    },
    Rule {
        kind: "dea",
        role: Role::Identifier,
        form: r"(?i)\b([A-HJ-MPR-UX][A-Z9]\d{7})\b",
        check: check::dea,
        context: &["dea", "prescriber", "registrant", "controlled"],
        strict: false,
    },
    Rule {
        kind: "mrn",
        role: Role::Strong,
        form: r"(?i)(?:\bmrn|medical[ _-]?record(?:[ _-]?(?:number|num|no|id))?|med[ _-]?rec[ _-]?(?:no|num|id)?)\\?[\x22']?\s{0,3}[:=#.]{0,2}\s{0,3}(?:is |was )?\\?[\x22']?([A-Z]{0,4}-?\d{4,12})\b",
        check: any,
        context: &[],
        strict: false,
    },
    Rule {
        kind: "patient-id",
        role: Role::Identifier,
        form: r"(?i)\b(?:patient|chart|encounter|admission)[ _-]?(?:id|no|num|number|#|identifier)\\?[\x22']?\s{0,3}[:=#.]{0,2}\s{0,3}(?:is )?\\?[\x22']?([A-Z]{0,4}-?\d{4,12})\b",
        check: any,
        context: &[],
        strict: false,
    },
    Rule {
        kind: "health-plan-id",
        role: Role::Identifier,
        form: r"(?i)\b(?:member|subscriber|beneficiary|insurance|policy|health[ _-]?plan|medicaid|payer|group|enrollee)[ _-]?(?:id|no|num|number|#|identifier)\\?[\x22']?\s{0,3}[:=#.]{0,2}\s{0,3}(?:is )?\\?[\x22']?([A-Z]{0,5}-?[A-Z0-9-]{0,4}\d{5,12}[A-Z0-9]{0,3})\b",
        check: any,
        context: &[],
        strict: false,
    },
    Rule {
        kind: "icd-10",
        role: Role::Health,
        form: r"\b([A-TV-Z]\d[0-9AB](?:\.[0-9A-Z]{1,4})?)\b",
        check: any,
        context: &[
            "icd",
            "diagnos",
            " dx",
            "\"dx",
            "dx:",
            "condition",
            "snomed",
            "problem list",
        ],
        strict: false,
    },
    Rule {
        kind: "cpt",
        role: Role::Health,
        form: r"\b(\d{4}[0-9FTU])\b",
        check: any,
        context: &["cpt", "hcpcs", "procedure code", "procedure_code"],
        strict: false,
    },
    Rule {
        kind: "ndc",
        role: Role::Health,
        form: r"\b(\d{4,5}-\d{3,4}-\d{1,2})\b",
        check: any,
        context: &["ndc", "national drug"],
        strict: false,
    },
    Rule {
        kind: "loinc",
        role: Role::Health,
        form: r"\b(\d{3,5}-\d)\b",
        check: any,
        context: &["loinc"],
        strict: false,
    },
    Rule {
        kind: "health-text",
        role: Role::Health,
        form: r"(?i)(diagnos[ei]s|\bdx\b|prescri(?:bed|ption)|\bmedications?\b|\ballerg(?:y|ies)\b|\bsymptoms?\b|chief.complaint|\bicd-?10\b|lab.?results?|\bhba1c\b|blood.pressure|\bhiv\b|oncolog|chemotherap|discharge.summary|clinical.notes?|vital.signs|\bimmunizations?\b)",
        check: any,
        context: &[],
        strict: false,
    },
    Rule {
        kind: "birth-date",
        role: Role::Identifier,
        form: r"(?i)(?:\bdob\b|date[ _-]?of[ _-]?birth|birth[ _-]?date|birthdate|birthday)\\?[\x22']?\s{0,3}[:=]?\s{0,3}(?:is |was )?\\?[\x22']?(\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? \d{1,2},? \d{4})",
        check: any,
        context: &[],
        strict: false,
    },
    Rule {
        kind: "care-date",
        role: Role::Identifier,
        form: r"(?i)(?:admi(?:tted|ssion)|discharged?|death|deceased|date[ _-]?of[ _-]?service)[ _-]?(?:date|on|at)?\\?[\x22']?\s{0,3}[:=]?\s{0,3}\\?[\x22']?(\d{1,4}[-/]\d{1,2}[-/]\d{1,4})",
        check: check::date,
        context: PATIENT,
        strict: false,
    },
    Rule {
        kind: "patient-name",
        role: Role::Identifier,
        form: r#"(?i)["']?\b(?:patient[ _-]?name|patient[ _-]?(?:first|last)[ _-]?name|name[ _-]?of[ _-]?patient)\\?["']?\s{0,3}[:=]\s{0,3}\\?["']?([A-Z][\w'-]{1,30}(?:[ ,]+[A-Z][\w'.-]{0,30}){0,3})"#,
        check: any,
        context: &[],
        strict: false,
    },
    Rule {
        kind: "old-age",
        role: Role::Identifier,
        form: r"(?i)\b((?:9\d|1[01]\d)[- ]?(?:years?|yrs?|y/?o)\b)",
        check: any,
        context: &["patient", "age", "old", "y/o"],
        strict: false,
    },
    Rule {
        kind: "vin",
        role: Role::Identifier,
        form: r"\b([A-HJ-NPR-Z0-9]{17})\b",
        check: check::vin,
        context: &["vin", "vehicle", "chassis"],
        strict: false,
    },
    // Of persons, not of patients.
    Rule {
        kind: "us-npi",
        role: Role::Person,
        form: r"\b([12]\d{3}[- ]?\d{3}[- ]?\d{3})\b",
        check: check::npi,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "us-itin",
        role: Role::Person,
        form: r"\b(9\d{2}[- ]?\d{2}[- ]?\d{4})\b",
        check: check::itin,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "us-mbi",
        role: Role::Person,
        form: r"\b([1-9][A-Z][A-Z0-9]\d-?[A-Z][A-Z0-9]\d-?[A-Z]{2}\d{2})\b",
        check: check::mbi,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "us-ssn",
        role: Role::Person,
        form: r"\b(\d{3}-\d{6}|\d{5}-\d{4}|\d{3} \d{2} \d{4})\b",
        check: check::ssn,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "email",
        role: Role::Person,
        form: r"\b([A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}\.)+[A-Za-z]{2}[A-Za-z0-9-]{0,22})\b",
        check: any,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "ip-address",
        role: Role::Person,
        form: r"(?:^|[^\d.\w])((?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?)(?:$|[^\d.\w]|\.(?:$|\D))",
        check: check::ipv4,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "ip-address",
        role: Role::Person,
        form: r"(?i)(?:^|[^\w:.])((?:[0-9a-f]{0,4}:){2,7}(?:[0-9a-f]{1,4}|(?:\d{1,3}\.){3}\d{1,3})?(?:%[\w.]+)?(?:/\d{1,3})?)(?:$|[^\w:.]|\.(?:$|\D))",
        check: check::ipv6,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "mac-address",
        role: Role::Person,
        form: r"(?i)\b((?:[0-9a-f]{2}:){5}[0-9a-f]{2}|(?:[0-9a-f]{2}-){5}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4})\b",
        check: check::mac,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "credit-card",
        role: Role::Person,
        form: r"\b(\d(?:[ -]?\d){11,18})\b",
        check: check::card,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "iban",
        role: Role::Person,
        form: r"\b([A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]{1,4}){3,8})\b",
        check: any,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "bitcoin-address",
        role: Role::Person,
        form: r"\b((?:[13][1-9A-HJ-NP-Za-km-z]{25,34}|bc1[a-z0-9]{25,60}))\b",
        check: check::bitcoin,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "phone",
        role: Role::Person,
        form: r"(?:^|[^\w.-])(\+\d{1,3}[ .-]?(?:\(\d{1,5}\)[ .-]?)?\d(?:[ .-]?\d){5,12})\b",
        check: check::phone,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "phone",
        role: Role::Person,
        form: r"(?:^|[^\w.-])(\( ?[2-9]\d{2} ?\) ?[2-9]\d{2}[- .]?\d{4}|[2-9]\d{2}[-. ][2-9]\d{2}[-. ]\d{4}|1[2-9]\d{2}[-. ][2-9]\d{2}[-. ]\d{4})(?:$|[^\d-])",
        check: check::phone,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "phone",
        role: Role::Person,
        form: r"(?:^|[^\w.-])(\(?\d{1,5}\)?(?:[ .-]?\d{1,5}){1,5})(?:$|[^\w-])",
        check: check::phone,
        context: &[
            "phone",
            "mobile",
            "cell",
            "fax",
            "desk",
            "tel",
            "call me",
            "answering at",
            "messages to",
            "registered",
            "number is",
            "office",
        ],
        strict: true,
    },
    Rule {
        kind: "phone",
        role: Role::Person,
        form: r"\b(\d{3}-\d{3}-\d{4})",
        check: check::phone,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "passport",
        role: Role::Person,
        form: r"(?i)\b([A-Z]{0,2}\d{7,9})\b",
        check: any,
        context: &["passport", "travel document"],
        strict: true,
    },
    Rule {
        kind: "driver-license",
        role: Role::Person,
        form: r"(?i)\b([A-Z]{0,3}\d{6,14})\b",
        check: any,
        context: &[
            "driver's license",
            "drivers license",
            "driver license",
            "driver's licence",
            "driving licence",
            "license number",
            "permit",
        ],
        strict: true,
    },
    Rule {
        kind: "bank-account",
        role: Role::Person,
        form: r"\b(\d{6,17})\b",
        check: any,
        context: &[
            "bank account",
            "account number",
            "account_number",
            "routing",
        ],
        strict: true,
    },
    Rule {
        kind: "aba-routing",
        role: Role::Person,
        form: r"\b(\d{4}-\d{4}-\d)\b",
        check: check::aba,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "ca-sin",
        role: Role::Person,
        form: r"\b(\d{3}[- ]\d{3}[- ]\d{3})\b",
        check: check::sin,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "uk-nhs",
        role: Role::Person,
        form: r"\b(\d{3}[- ]\d{3}[- ]\d{4})\b",
        check: check::nhs,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "uk-nino",
        role: Role::Person,
        form: r"(?i)\b([A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D])\b",
        check: check::nino,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "es-nif",
        role: Role::Person,
        form: r"(?i)\b([XYZ]?\d{7,8}-?[A-Z])\b",
        check: check::nif,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "fi-hetu",
        role: Role::Person,
        form: r"(?i)(\d{6}[-+A-FYXWVU]\d{3}[0-9A-Y])\b",
        check: check::hetu,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "se-personnummer",
        role: Role::Person,
        form: r"\b((?:19|20)?\d{6}[-+]?\d{4})\b",
        check: check::personnummer,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "pl-pesel",
        role: Role::Person,
        form: r"\b(\d{11})\b",
        check: check::pesel,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "tr-id",
        role: Role::Person,
        form: r"\b([1-9]\d{10})\b",
        check: check::tckn,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "in-aadhaar",
        role: Role::Person,
        form: r"\b([2-9]\d{3}[-: ]?\d{4}[-: ]?\d{4})\b",
        check: check::aadhaar,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "in-pan",
        role: Role::Person,
        form: r"\b([A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z])\b",
        check: any,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "za-id",
        role: Role::Person,
        form: r"\b(\d{13})\b",
        check: check::za_id,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "date",
        role: Role::Person,
        form: r"(?i)\b((?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.? \d{1,2}(?: ?(?:st|nd|rd|th))?(?:,? \d{4}|\b))",
        check: any,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "date",
        role: Role::Person,
        form: r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}|\b\d{1,2}-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec))",
        check: any,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "date",
        role: Role::Person,
        form: r"(?i)(?:^|today is |date:? |dated? )(\d{1,4}-\d{1,2}-\d{1,4}|\d{1,4}/\d{1,2}(?:/\d{1,4})?|\d{1,2}\.\d{1,2}\.\d{2,4})(?:$|[^\w.:-]|\.$)",
        check: check::day,
        context: &[],
        strict: true,
    },
    Rule {
        kind: "age",
        role: Role::Person,
        form: r"(?i)(\b(?:is |was )?age[ds]?(?:\s+is)?:? (?:\d{1,3}|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)|(?:ty|one|two|three|four|five|six|seven|eight|nine)-year-old patient|patient (?:\w+ ){0,3}(?:is |age )+[\d.]+ ?ye?a?rs?)",
        check: any,
        context: &["patient", "she is", "he is", "admit", "lives"],
        strict: true,
    },
];

struct Compiled {
    set: RegexSet,
    each: Vec<OnceLock<Option<Regex>>>,
    numbers: Vec<usize>,
}

fn compiled(strict: bool) -> &'static Compiled {
    static PLAIN: OnceLock<Compiled> = OnceLock::new();
    static STRICT: OnceLock<Compiled> = OnceLock::new();
    let make = || {
        let numbers: Vec<usize> = (0..RULES.len())
            .filter(|i| strict || !RULES[*i].strict)
            .collect();
        Compiled {
            // The forms are constants, and a test compiles them: an empty set is what cannot happen.
            set: regex::bytes::RegexSetBuilder::new(numbers.iter().map(|i| RULES[*i].form))
                .unicode(false)
                .build()
                .unwrap_or_else(|_| RegexSet::empty()),
            each: numbers.iter().map(|_| OnceLock::new()).collect(),
            numbers,
        }
    };
    if strict {
        STRICT.get_or_init(make)
    } else {
        PLAIN.get_or_init(make)
    }
}

/// What makes a line worth a look without the strict profile, in lower case, by their first three letters.
const TRIGGERS: &[&str] = &[
    "ssn",
    "social",
    "itin",
    "taxpayer",
    "mbi",
    "medicare",
    "medicaid",
    "beneficiary",
    "npi",
    "dea",
    "mrn",
    "medical",
    "patient",
    "chart",
    "encounter",
    "admi",
    "member",
    "subscriber",
    "insurance",
    "health",
    "policy",
    "payer",
    "enrollee",
    "icd",
    "diagnos",
    "cpt",
    "hcpcs",
    "ndc",
    "loinc",
    "dob",
    "birth",
    "discharge",
    "death",
    "deceased",
    "prescri",
    "vin",
    "vehicle",
    "med rec",
    "ss#",
    "hic",
];

/// Returns true if a line has a word that makes it worth a look, or a number of the form 123-45-6789.
fn is_worth(line: &[u8]) -> bool {
    static FIND: OnceLock<Option<aho_corasick::AhoCorasick>> = OnceLock::new();
    let find = FIND.get_or_init(|| {
        aho_corasick::AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(aho_corasick::AhoCorasickKind::DFA))
            .build(TRIGGERS)
            .ok()
    });
    let is_word = |m: &aho_corasick::Match| is_whole_word(line, m.start(), m.len());
    let has = |find: &aho_corasick::AhoCorasick| find.find_iter(line).any(|m| is_word(&m));
    find.as_ref().is_some_and(has) || has_dashed(line)
}

/// Returns true for what is long enough to stand within words; short ones are words of their own: not `which` for `hic`, not `3dea5` for `dea`.
fn is_whole_word(text: &[u8], at: usize, length: usize) -> bool {
    let before = at.checked_sub(1).and_then(|i| text.get(i));
    let after = text.get(at + length);
    length > 4
        || !before.is_some_and(u8::is_ascii_alphanumeric)
            && !after.is_some_and(u8::is_ascii_alphabetic)
}

/// Returns true if `ddd-dd-dddd`, or an identifier of Medicare with its dashes, may stand in a line.
fn has_dashed(line: &[u8]) -> bool {
    let digit = |at: usize| line.get(at).is_some_and(u8::is_ascii_digit);
    let inside = |at: Option<usize>| {
        at.and_then(|at| line.get(at))
            .is_some_and(u8::is_ascii_alphanumeric)
    };
    memchr::memchr_iter(b'-', line).any(|at| {
        // Three digits and no fourth, as a date has; two; a dash.
        let social = at >= 3
            && digit(at - 1)
            && digit(at - 2)
            && digit(at - 3)
            && !inside(at.checked_sub(4))
            && digit(at + 1)
            && digit(at + 2)
            && line.get(at + 3) == Some(&b'-');
        // A digit, a letter, two more; three; a dash.
        let medicare = at >= 4
            && line.get(at + 4) == Some(&b'-')
            && digit(at - 4)
            && line[at - 3].is_ascii_alphabetic()
            && !inside(at.checked_sub(5));
        social || medicare
    })
}

/// Longest piece of a line that is looked at at once, bytes. Pieces overlap.
const PIECE: usize = 64 * 1024;
const OVERLAP: usize = 512;

/// Finds everything; `line` by `line`, long ones by pieces.
pub(super) fn scan(text: &[u8], strict: bool, found: &mut Vec<Finding>) {
    let mut at = 0;
    while at < text.len() {
        let end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |p| at + p + 1);
        let mut from = at;
        loop {
            let to = end.min(from + PIECE);
            if strict || is_worth(&text[from..to]) {
                line(text, from..to, strict, found);
            }
            if to == end {
                break;
            }
            from = to - OVERLAP;
        }
        at = end;
    }
}

fn line(text: &[u8], range: Range<usize>, strict: bool, found: &mut Vec<Finding>) {
    let compiled = compiled(strict);
    let piece = &text[range.clone()];
    let hits = compiled.set.matches(piece);
    if !hits.matched_any() {
        return;
    }
    let lower = piece.to_ascii_lowercase();
    let ibans = if strict { iban_like(piece) } else { Vec::new() };
    for hit in &hits {
        let rule = &RULES[compiled.numbers[hit]];
        let regex = compiled.each[hit].get_or_init(|| {
            regex::bytes::RegexBuilder::new(rule.form)
                .unicode(false)
                .build()
                .ok()
        });
        let Some(regex) = regex else { continue };
        for captures in regex.captures_iter(piece) {
            let Some(all) = captures.get(0) else { continue };
            let mut span = captures.get(1).unwrap_or(all).range();
            if rule.kind == "iban" {
                // Words that follow may have been taken along.
                let Some(end) = iban_end(&piece[span.clone()]) else {
                    continue;
                };
                span.end = span.start + end;
            }
            if !(rule.check)(&piece[span.clone()])
                || is_part(piece, &span, rule)
                || rule.kind != "iban"
                    && ibans
                        .iter()
                        .any(|i| i.start <= span.start && span.end <= i.end)
            {
                continue;
            }
            if !rule.context.is_empty() && !has_context(text, &range, &lower, &span, rule.context) {
                continue;
            }
            found.push(Finding {
                range: range.start + span.start..range.start + span.end,
                group: match rule.role {
                    Role::Person => Group::Pii,
                    _ => Group::Phi,
                },
                kind: rule.kind,
            });
        }
    }
}

/// Returns true for what is part of something longer that is none: decimals, UUIDs, versions.
fn is_part(piece: &[u8], span: &Range<usize>, rule: &Rule) -> bool {
    if matches!(
        rule.kind,
        "email"
            | "date"
            | "age"
            | "health-text"
            | "ip-address"
            | "patient-name"
            | "old-age"
            | "fi-hetu"
    ) {
        return false;
    }
    let before = span.start.checked_sub(1).map_or(b' ', |i| piece[i]);
    let after = piece.get(span.end).copied().unwrap_or(b' ');
    let after2 = piece.get(span.end + 1).copied().unwrap_or(b' ');
    before == b'.' && span.start >= 2 && piece[span.start - 2].is_ascii_digit()
        || before == b'-' && span.start >= 2 && piece[span.start - 2].is_ascii_alphanumeric()
        || matches!(after, b'.' | b'-' | b'_')
            && after2.is_ascii_alphanumeric()
            && rule.kind != "phone"
        || before == b' '
            && span.start >= 2
            && piece[span.start - 2].is_ascii_digit()
            && rule.context.is_empty()
            && rule.strict
        || matches!(before, b'_' | b'/' | b'$')
}

/// Returns what has the form of an IBAN, right or wrong: its digits are nothing else.
fn iban_like(piece: &[u8]) -> Vec<Range<usize>> {
    static FORM: OnceLock<Option<Regex>> = OnceLock::new();
    let form = FORM.get_or_init(|| {
        let form = r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,8}(?: ?[A-Z0-9]{1,3})?\b";
        regex::bytes::RegexBuilder::new(form)
            .unicode(false)
            .build()
            .ok()
    });
    form.iter()
        .flat_map(|f| f.find_iter(piece))
        .map(|m| m.range())
        .collect()
}

fn iban_end(text: &[u8]) -> Option<usize> {
    (15..=text.len()).rev().find(|end| {
        text.get(*end).is_none_or(|b| !b.is_ascii_alphanumeric()) && check::iban(&text[..*end])
    })
}

/// Returns true if one of the words stands within reach: 80 bytes before on the line and the line above, 40 after.
fn has_context(
    text: &[u8],
    range: &Range<usize>,
    lower: &[u8],
    span: &Range<usize>,
    words: &[&str],
) -> bool {
    let from = span.start.saturating_sub(80);
    let to = (span.end + 40).min(lower.len());
    let near = &lower[from..to];
    let has = |near: &[u8]| {
        words.iter().any(|word| {
            let word = word.as_bytes();
            memchr::memmem::find_iter(near, word).any(|at| is_whole_word(near, at, word.len()))
        })
    };
    if has(near) {
        return true;
    }
    // The line above says what this one is: `Phone:` and the number below.
    if from == 0 && range.start > 1 {
        let above_from = text[..range.start - 1]
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |p| p + 1);
        let above = &text[above_from.max(range.start.saturating_sub(60))..range.start];
        return has(&above.to_ascii_lowercase());
    }
    false
}

/// What a record is, by what was found in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Nothing of health care.
    None,
    /// PHI: an identifier that says it all, or one with health information beside it.
    Phi,
}

/// Judges the findings of one record.
pub(super) fn verdict<'a>(kinds: impl Iterator<Item = &'a str>) -> Verdict {
    let (mut identifier, mut health) = (false, false);
    for kind in kinds {
        let roles = RULES
            .iter()
            .filter(|r| r.kind == kind && r.role != Role::Person);
        for rule in roles {
            match rule.role {
                Role::Strong => return Verdict::Phi,
                Role::Identifier => identifier = true,
                Role::Health => health = true,
                Role::Person => {}
            }
        }
    }
    if identifier && health {
        Verdict::Phi
    } else {
        Verdict::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_compiles() {
        for rule in RULES {
            assert!(
                regex::bytes::RegexBuilder::new(rule.form)
                    .unicode(false)
                    .build()
                    .is_ok(),
                "{}: {}",
                rule.kind,
                rule.form
            );
        }
    }
}
