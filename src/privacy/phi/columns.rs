//! Tables: what a column contains is said once, in the first line or by its name in a database.

use std::ops::Range;

use super::identifiers::{self, Identifier};
use super::is_whole_word;
use crate::privacy::{Finding, Group, check};

/// What the cells of a column are.
#[derive(Clone, Copy)]
pub(super) enum Column {
    /// Data of a person, by the kind that is reported.
    Of(&'static str),
    /// Enough by itself.
    Strong(&'static str),
    /// Says something about somebody's health.
    Health,
    /// By the kind; it may have several forms.
    Identifier(&'static str),
}

/// Kinds that a column (or a key) makes of a value, all of them identifying with health information.
pub(super) const KINDS: [&str; 5] = [
    "patient-name",
    "birth-date",
    "patient-phone",
    "patient-address",
    "patient-email",
];

/// Parts of names of columns, in lower case and without separators, the specific before the general.
const NAMES: &[(&str, Column)] = &[
    ("medicalrecord", Column::Strong("mrn")),
    ("mrn", Column::Strong("mrn")),
    ("dateofbirth", Column::Of("birth-date")),
    ("birthdate", Column::Of("birth-date")),
    ("birthday", Column::Of("birth-date")),
    ("birthdt", Column::Of("birth-date")),
    ("dob", Column::Of("birth-date")),
    ("geburtsdatum", Column::Of("birth-date")),
    ("datenaissance", Column::Of("birth-date")),
    ("datedenaissance", Column::Of("birth-date")),
    ("fechanacimiento", Column::Of("birth-date")),
    ("fechadenacimiento", Column::Of("birth-date")),
    ("datadinascita", Column::Of("birth-date")),
    ("firstname", Column::Of("patient-name")),
    ("lastname", Column::Of("patient-name")),
    ("middlename", Column::Of("patient-name")),
    ("givenname", Column::Of("patient-name")),
    ("familyname", Column::Of("patient-name")),
    ("patientname", Column::Of("patient-name")),
    ("fullname", Column::Of("patient-name")),
    ("surname", Column::Of("patient-name")),
    ("forename", Column::Of("patient-name")),
    ("vorname", Column::Of("patient-name")),
    ("nachname", Column::Of("patient-name")),
    ("apellido", Column::Of("patient-name")),
    ("cognome", Column::Of("patient-name")),
    ("prenom", Column::Of("patient-name")),
    ("patientphone", Column::Of("patient-phone")),
    ("phonenumber", Column::Of("patient-phone")),
    ("homephone", Column::Of("patient-phone")),
    ("mobilephone", Column::Of("patient-phone")),
    ("telephone", Column::Of("patient-phone")),
    ("streetaddress", Column::Of("patient-address")),
    ("homeaddress", Column::Of("patient-address")),
    ("patientaddress", Column::Of("patient-address")),
    ("postcode", Column::Of("patient-address")),
    ("postalcode", Column::Of("patient-address")),
    ("zipcode", Column::Of("patient-address")),
    ("emailaddress", Column::Of("patient-email")),
    ("patientemail", Column::Of("patient-email")),
    ("diagnos", Column::Health),
    ("medication", Column::Health),
    ("prescription", Column::Health),
    ("allerg", Column::Health),
    ("symptom", Column::Health),
    ("icd10", Column::Health),
    ("icd9", Column::Health),
    ("icdcode", Column::Health),
    ("bloodpressure", Column::Health),
    ("bloodtype", Column::Health),
    ("hba1c", Column::Health),
    ("immuniz", Column::Health),
    ("chiefcomplaint", Column::Health),
    ("labresult", Column::Health),
];
/// The same, for names that have nothing else in them.
const WHOLE: &[(&str, Column)] = &[
    ("ssn", Column::Strong("us-ssn")),
    ("socialsecuritynumber", Column::Strong("us-ssn")),
    ("mbi", Column::Strong("us-mbi")),
    ("patientid", Column::Of("patient-id")),
    ("phone", Column::Of("patient-phone")),
    ("mobile", Column::Of("patient-phone")),
    ("fax", Column::Of("patient-phone")),
    ("tel", Column::Of("patient-phone")),
    ("telefon", Column::Of("patient-phone")),
    ("address", Column::Of("patient-address")),
    ("address1", Column::Of("patient-address")),
    ("street", Column::Of("patient-address")),
    ("strasse", Column::Of("patient-address")),
    ("zip", Column::Of("patient-address")),
    ("plz", Column::Of("patient-address")),
    ("email", Column::Of("patient-email")),
    ("dx", Column::Health),
    ("icd", Column::Health),
    ("hiv", Column::Health),
    ("rx", Column::Health),
];

/// Returns what a column contains, by its name.
pub(super) fn of_name(name: &[u8]) -> Option<Column> {
    let bare: Vec<u8> = name
        .iter()
        .filter(|b| !matches!(b, b' ' | b'_' | b'-' | b'.' | b'#'))
        .map(u8::to_ascii_lowercase)
        .collect();
    if bare.len() > 60 {
        return None;
    }
    let whole = WHOLE.iter().find(|(n, _)| n.as_bytes() == bare);
    let part = || {
        let has = |n: &str| memchr::memmem::find(&bare, n.as_bytes()).is_some();
        NAMES.iter().find(|(n, _)| has(n))
    };
    if let Some((_, column)) = whole.or_else(part) {
        return Some(*column);
    }
    let lower: Vec<u8> = name
        .iter()
        .map(|b| {
            if *b == b'_' {
                b' '
            } else {
                b.to_ascii_lowercase()
            }
        })
        .collect();
    let is_of = |one: &&Identifier| {
        let mut words = one.words.iter().filter(|word| !word.strict);
        one.patient.is_some()
            && words.any(|word| {
                let word = word.text.as_bytes();
                memchr::memmem::find_iter(&lower, word)
                    .any(|at| is_whole_word(&lower, at, word.len()))
            })
    };
    identifiers::all()
        .iter()
        .find(is_of)
        .map(|one| Column::Identifier(one.kind))
}

/// No header of a table is longer, in bytes.
pub(super) const LONGEST_HEADER: usize = 8192;

/// Adds what the columns of a table say: of a table with health information, everything that
/// identifies somebody; in the strict profile of any table.
pub(super) fn scan(text: &[u8], strict: bool, found: &mut Vec<Finding>) {
    let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
    let head = &text[..end];
    if end > LONGEST_HEADER {
        return;
    }
    let Some(delimiter) = delimiter_of(head) else {
        return;
    };
    let columns: Vec<Option<Column>> = cells(head, 0, delimiter)
        .iter()
        .map(|cell| of_name(&head[cell.clone()]))
        .collect();
    let has_health = columns
        .iter()
        .flatten()
        .any(|c| matches!(c, Column::Health));
    let counts = |column: &Column| match column {
        Column::Of(_) | Column::Health => has_health || strict,
        Column::Strong(_) | Column::Identifier(_) => true,
    };
    if !columns.iter().flatten().any(counts) {
        return;
    }
    let mut at = end + 1;
    while at < text.len() {
        let end = memchr::memchr(b'\n', &text[at..]).map_or(text.len(), |p| at + p);
        for (cell, column) in cells(&text[at..end], at, delimiter)
            .into_iter()
            .zip(&columns)
        {
            let value = &text[cell.clone()];
            if let Some(column) = column.as_ref().filter(|c| counts(c))
                && let Some((kind, group)) = judge(column, value, has_health)
            {
                let is_known = |f: &Finding| {
                    f.kind == kind && f.range.start < cell.end && cell.start < f.range.end
                };
                // Findings are in the order of the text until here, and these lines are few.
                if !found.iter().rev().take(64).any(is_known) {
                    found.push(Finding {
                        range: cell,
                        group,
                        kind,
                    });
                }
            }
        }
        at = end + 1;
    }
}

/// A table of a database, whose columns have names.
pub(in crate::privacy) struct Columns {
    columns: Vec<Option<Column>>,
    has_health: bool,
    /// Its name says that its rows are patients.
    of_patients: bool,
    strict: bool,
}

impl Columns {
    /// `None` if no column says anything.
    pub(in crate::privacy) fn of(name: &[u8], columns: &[Vec<u8>], strict: bool) -> Option<Self> {
        let columns: Vec<Option<Column>> = columns.iter().map(|name| of_name(name)).collect();
        let health = |column: &Column| matches!(column, Column::Health);
        let has_health = columns.iter().flatten().any(health);
        let name = name.to_ascii_lowercase();
        let of_patients = memchr::memmem::find(&name, b"patient").is_some();
        columns.iter().any(Option::is_some).then_some(Self {
            columns,
            has_health,
            of_patients,
            strict,
        })
    }

    /// Returns what identifies somebody in a row: a patient, or in the strict profile anybody.
    pub(in crate::privacy) fn kinds(&self, row: &[Vec<u8>]) -> Vec<(&'static str, Group)> {
        let is_health = self.has_health || self.of_patients;
        let cells = self.columns.iter().zip(row);
        let mut kinds: Vec<(&'static str, Group)> = cells
            .filter_map(|(column, value)| judge(column.as_ref()?, value, is_health))
            .collect();
        let of_phi = kinds.iter().filter(|(_, group)| *group == Group::Phi);
        let beside = self.of_patients.then_some("health-text");
        let all = of_phi.map(|(kind, _)| *kind).chain(beside);
        let is_phi = super::verdict(all) == super::Verdict::Phi;
        kinds.retain(|(kind, group)| match group {
            Group::Phi => is_phi || self.strict && *kind != "health-text",
            _ => self.strict,
        });
        if !is_phi {
            for (_, group) in &mut kinds {
                *group = Group::Pii;
            }
        }
        kinds
    }
}

/// Returns what a value in a column is: its kind and group.
pub(super) fn judge(
    column: &Column,
    value: &[u8],
    has_health: bool,
) -> Option<(&'static str, Group)> {
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let letters = value
        .iter()
        .filter(|b| b.is_ascii_alphabetic() || !b.is_ascii())
        .count();
    let group = if has_health { Group::Phi } else { Group::Pii };
    match column {
        Column::Of(kind) => {
            let fits = match *kind {
                "birth-date" => (4..=10).contains(&digits),
                "patient-phone" => (6..=16).contains(&digits) && letters < 6,
                "patient-email" => value.contains(&b'@'),
                "patient-address" => digits > 0 && value.len() >= 4,
                _ => letters + digits >= 2,
            };
            fits.then_some((*kind, group))
        }
        Column::Strong("us-ssn") => check::ssn(value).then_some(("us-ssn", Group::Phi)),
        Column::Strong("us-mbi") => check::mbi(value).then_some(("us-mbi", Group::Phi)),
        Column::Strong(kind) => (digits >= 4 && value.len() <= 24).then_some((*kind, Group::Phi)),
        Column::Health => (letters + digits >= 2).then_some(("health-text", Group::Phi)),
        Column::Identifier(kind) => {
            let upper = value.to_ascii_uppercase();
            let is_it = |one: &Identifier| {
                let all = one.regex().and_then(|regex| regex.captures(&upper)?.get(1));
                all.is_some_and(|all| all.len() == upper.len()) && (one.check)(&upper)
            };
            let mut forms = identifiers::all().iter().filter(|one| one.kind == *kind);
            forms.any(is_it).then_some((*kind, Group::Phi))
        }
    }
}

fn delimiter_of(head: &[u8]) -> Option<u8> {
    let count = |delimiter: u8| head.iter().filter(|b| **b == delimiter).count();
    let best = [b',', b';', b'\t', b'|']
        .into_iter()
        .max_by_key(|d| count(*d))?;
    (count(best) > 0).then_some(best)
}

/// Returns the cells of a line that begins at `offset`, without their quotes.
fn cells(line: &[u8], offset: usize, delimiter: u8) -> Vec<Range<usize>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut found = Vec::new();
    let mut at = 0;
    while at <= line.len() && found.len() < 512 {
        let mut end = at;
        let mut quoted = false;
        while end < line.len() && (quoted || line[end] != delimiter) {
            quoted ^= line[end] == b'"';
            end += 1;
        }
        let cell = &line[at..end];
        let (mut from, mut to) = (at, end);
        let trim = |b: &u8| matches!(b, b' ' | b'"' | b'\'' | 0xef | 0xbb | 0xbf);
        from += cell.iter().take_while(|b| trim(b)).count();
        to -= line[from..to].iter().rev().take_while(|b| trim(b)).count();
        found.push(offset + from..offset + to);
        at = end + 1;
    }
    found
}
