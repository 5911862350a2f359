//! `explain`.

use std::path::Path;

use bdr::effects::{Assessment, Operand};
use bdr::protect::guard::GuardPlan;
use serde::Serialize;

use super::paths::{At, Note, notes};

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ExplainDocument {
    effect: &'static str,
    rule: Option<String>,
    reason: String,
    operands: Vec<OperandDocument>,
    remote: Vec<String>,
    untold: Vec<String>,
    cwd: String,
    #[serde(flatten)]
    covered: Option<Covered>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct OperandDocument {
    #[serde(flatten)]
    at: At,
    pattern: bool,
    place: bool,
}

/// What a guard would cover.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Covered {
    roots: Vec<CoveredRoot>,
    left_out: Vec<Note>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct CoveredRoot {
    #[serde(flatten)]
    at: At,
    files: u64,
    bytes: u64,
    new_bytes: u64,
}

impl ExplainDocument {
    pub(crate) fn new(cwd: &Path, found: &Assessment) -> Self {
        let operand = |operand: &Operand| OperandDocument {
            at: At::new(&operand.path),
            pattern: operand.glob,
            place: operand.place,
        };
        Self {
            effect: found.effect.word(),
            rule: Some(found.rule.clone()).filter(|rule| !rule.is_empty()),
            reason: found.reason.clone(),
            operands: found.operands.iter().map(operand).collect(),
            remote: found.remote.clone(),
            untold: found.untold.clone(),
            cwd: bdr::base::path::show(cwd.as_os_str()),
            covered: None,
            refused: None,
        }
    }

    /// Adds what a guard would cover.
    pub(crate) fn covered(mut self, plan: &GuardPlan) -> Self {
        let roots = plan.roots.iter().map(|root| CoveredRoot {
            at: At::new(&root.path),
            files: root.files,
            bytes: root.bytes,
            new_bytes: root.new_bytes,
        });
        self.covered = Some(Covered {
            roots: roots.collect(),
            left_out: notes(&plan.left_out),
        });
        self
    }

    /// Adds why a guard would not run it.
    pub(crate) fn refused(mut self, why: String) -> Self {
        self.refused = Some(why);
        self
    }
}
