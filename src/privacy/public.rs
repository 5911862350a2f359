//! Leaves alone what everybody can read already. Patient data never is.

use std::ops::Range;

use super::{Examined, Finding, Group, RECORD, Treatment, seal, seals_of};

/// What of a file everybody can read.
pub enum Public<'a> {
    /// All of it: the same bytes are published.
    All,
    /// These of its values.
    Values(&'a dyn Fn(&[u8]) -> bool),
}

impl Examined {
    /// Lets through the secrets that are public, and returns where they stand.
    pub fn let_through(&mut self, bytes: &[u8], public: &Public<'_>) -> Vec<Finding> {
        let is_public = |finding: &Finding| {
            finding.group == Group::Secret
                && finding.kind != UNREADABLE
                && match public {
                    Public::All => true,
                    Public::Values(has) => has(&bytes[finding.range.clone()]),
                }
        };
        match self.treatment {
            Treatment::Clear => Vec::new(),
            Treatment::Whole(_) => {
                let all = matches!(public, Public::All) && !self.findings.is_empty();
                if !all || !self.findings.iter().all(is_public) {
                    return Vec::new();
                }
                self.treatment = Treatment::Clear;
                std::mem::take(&mut self.findings)
            }
            Treatment::Seal => {
                let (through, left) = std::mem::take(&mut self.findings)
                    .into_iter()
                    .partition(is_public);
                self.findings = left;
                let records: Vec<Range<usize>> = self
                    .seals
                    .iter()
                    .filter(|(_, kind)| *kind == RECORD)
                    .map(|(range, _)| range.clone())
                    .collect();
                self.seals = seals_of(bytes, records, &self.findings);
                if self.seals.is_empty() {
                    self.treatment = Treatment::Clear;
                }
                through
            }
        }
    }

    /// Returns the values that would be sealed.
    pub fn values<'t>(&'t self, bytes: &'t [u8]) -> impl Iterator<Item = &'t [u8]> {
        self.seals
            .iter()
            .filter(|(_, kind)| *kind != RECORD && *kind != seal::LITERAL)
            .map(|(range, _)| &bytes[range.clone()])
    }
}

/// The kind of a file of which nobody knows what is in it.
pub(super) const UNREADABLE: &str = "unreadable-configuration";
