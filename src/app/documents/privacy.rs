//! `scan`, `privacy`.

use std::collections::BTreeMap;
use std::path::Path;

use bdr::base::id::Id;
use bdr::care::rescan::{Exposed, RescanReport};
use bdr::care::scan::{ScanReport, Scanned};
use bdr::disk::vault::{Exported, Imported};
use bdr::privacy::Treatment;
use serde::Serialize;

use super::paths::{At, Note, notes};

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ScanDocument {
    /// How many findings there are of each kind, and in how many files.
    kinds: BTreeMap<&'static str, KindDocument>,
    files: Vec<ScannedDocument>,
    /// What is public already, and so stored as it is.
    published: Vec<PublishedDocument>,
    scanned: u64,
    bytes: u64,
    problems: Vec<Note>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PublishedDocument {
    #[serde(flatten)]
    at: At,
    kind: &'static str,
    line: u64,
    /// Where else it stands.
    place: String,
}

#[derive(Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct KindDocument {
    findings: u64,
    files: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ScannedDocument {
    #[serde(flatten)]
    at: At,
    treatment: &'static str,
    findings: Vec<ScanFinding>,
    /// With `--sample`: lines with every value replaced by its shape.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    samples: Vec<SampleDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct SampleDocument {
    kind: &'static str,
    line: u64,
    masked: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ScanFinding {
    group: &'static str,
    kind: &'static str,
    line: u64,
    bytes: usize,
}

impl ScanDocument {
    pub(crate) fn new(report: &ScanReport) -> Self {
        let mut kinds: BTreeMap<&'static str, KindDocument> = BTreeMap::new();
        for file in &report.files {
            let mut seen = Vec::new();
            for finding in &file.examined.findings {
                let kind = kinds.entry(finding.kind).or_default();
                kind.findings += 1;
                if !seen.contains(&finding.kind) {
                    kind.files += 1;
                    seen.push(finding.kind);
                }
            }
        }
        Self {
            kinds,
            files: report.files.iter().map(ScannedDocument::new).collect(),
            published: (report.published.iter())
                .map(|one| PublishedDocument {
                    at: At::new(&one.path),
                    kind: one.kind,
                    line: one.line,
                    place: one.place.to_string(),
                })
                .collect(),
            scanned: report.scanned,
            bytes: report.bytes,
            problems: notes(&report.problems),
        }
    }
}

impl ScannedDocument {
    fn new(file: &Scanned) -> Self {
        let findings = file.examined.findings.iter().zip(&file.lines);
        Self {
            at: At::new(&file.path),
            treatment: treatment_word(&file.examined.treatment),
            findings: findings
                .map(|(finding, line)| ScanFinding {
                    group: finding.group.as_str(),
                    kind: finding.kind,
                    line: *line,
                    bytes: finding.range.len(),
                })
                .collect(),
            samples: (file.samples.iter())
                .map(|one| SampleDocument {
                    kind: one.kind,
                    line: one.line,
                    masked: one.masked.clone(),
                })
                .collect(),
        }
    }
}

/// Returns the word for what a backup does with a file.
fn treatment_word(treatment: &Treatment) -> &'static str {
    match treatment {
        Treatment::Clear => "clear",
        Treatment::Seal => "seal",
        Treatment::Whole(_) => "whole",
    }
}

/// `privacy why`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct WhyDocument {
    #[serde(flatten)]
    at: At,
    treatment: &'static str,
    findings: Vec<WhyFinding>,
}

/// A value that was found, by its fingerprint only.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct WhyFinding {
    pub(crate) line: usize,
    pub(crate) kind: &'static str,
    pub(crate) group: &'static str,
    pub(crate) key: String,
    /// The rule that found it.
    pub(crate) rule: String,
    /// The name that decided, if one did.
    pub(crate) word: Option<String>,
    pub(crate) fingerprint: String,
    pub(crate) allowed: bool,
    pub(crate) in_vault: bool,
    /// Where it is public already, and so not sealed.
    pub(crate) published: Option<String>,
}

impl WhyDocument {
    pub(crate) fn new(path: &Path, treatment: &Treatment, findings: Vec<WhyFinding>) -> Self {
        Self {
            at: At::new(path),
            treatment: treatment_word(treatment),
            findings,
        }
    }
}

/// `privacy allow`, `privacy revoke`: the list as it is now.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AllowDocument {
    pub(crate) allow: Vec<String>,
}

/// `privacy rescan`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RescanDocument {
    checked: u64,
    exposed: Vec<ExposedDocument>,
    /// Paths of files that today's rules seal no more.
    opened: Vec<String>,
    skipped: u64,
    purged: bool,
    rewritten: u64,
    removed_packs: u64,
    operations: u64,
    /// Files that a call which was cut may have left in the repository, too young to be removed.
    unfinished: u64,
    /// Destinations where what was found stands as well.
    pushed_to: Vec<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ExposedDocument {
    path: String,
    snapshots: u64,
    kinds: BTreeMap<String, u64>,
}

impl RescanDocument {
    pub(crate) fn new(report: &RescanReport, purged: bool, pushed_to: &[String]) -> Self {
        let exposed = |exposed: &Exposed| ExposedDocument {
            path: exposed.path.clone(),
            snapshots: exposed.snapshots,
            kinds: exposed.kinds.clone(),
        };
        Self {
            checked: report.checked,
            exposed: report.exposed.iter().map(exposed).collect(),
            opened: report.opened.clone(),
            skipped: report.skipped,
            purged,
            rewritten: report.rewritten,
            removed_packs: report.removed_packs,
            operations: report.operations,
            unfinished: report.unfinished,
            pushed_to: pushed_to.to_vec(),
        }
    }
}

/// `vault rotate`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VaultRotateDocument {
    pub(crate) values: u64,
}

/// `vault export`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VaultExportDocument {
    #[serde(flatten)]
    at: At,
    values: u64,
    unreadable: u64,
    bytes: usize,
}

impl VaultExportDocument {
    pub(crate) fn new(file: &Path, made: &Exported) -> Self {
        Self {
            at: At::new(file),
            values: made.values,
            unreadable: made.unreadable,
            bytes: made.bytes.len(),
        }
    }
}

/// `vault import`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VaultImportDocument {
    applied: bool,
    repository: String,
    added: u64,
    known: u64,
    differing: Vec<String>,
}

impl VaultImportDocument {
    pub(crate) fn new(repository: Id, found: &Imported, applied: bool) -> Self {
        Self {
            applied,
            repository: repository.to_string(),
            added: found.added,
            known: found.known,
            differing: found
                .differing
                .iter()
                .map(|one| hex::encode(one.0))
                .collect(),
        }
    }
}
