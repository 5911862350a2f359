//! Files and git refs in `show --json`.

use serde::Serialize;

use super::paths::At;
use crate::app::changes::{Changed, ChangedRoot};
use crate::app::refs::{After, Move, Touched};
use crate::ui::json::kind as kind_word;

/// A file that an operation changed.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FileDocument {
    #[serde(flatten)]
    at: At,
    change: &'static str,
    kind: &'static str,
    bytes: u64,
    elsewhere: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) patch: Option<String>,
}

impl FileDocument {
    pub(crate) fn new(root: &ChangedRoot, changed: &Changed) -> Self {
        Self {
            at: At::new(&changed.path.to_path(&root.base)),
            change: changed.fate.word(),
            kind: kind_word(changed.kind),
            bytes: changed.bytes,
            elsewhere: root.elsewhere,
            patch: None,
        }
    }
}

/// A repository of git in which an operation changed something.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct GitDocument {
    #[serde(flatten)]
    at: At,
    changed_files: u64,
    refs: Vec<RefDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RefDocument {
    name: String,
    before: Option<String>,
    after: Option<String>,
    moved_again: bool,
}

impl GitDocument {
    pub(crate) fn new(one: &Touched) -> Self {
        let of = |one: &Move| RefDocument {
            name: one.name.clone(),
            before: one.before.clone(),
            after: match &one.after {
                After::Names(names) => Some(names.clone()),
                After::Gone | After::Unknown => None,
            },
            moved_again: one.after == After::Unknown,
        };
        Self {
            at: At::new(&one.dir),
            changed_files: one.files,
            refs: one.moves.iter().map(of).collect(),
        }
    }
}
