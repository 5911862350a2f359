//! What tools return, as types. Those of a single tool are next to it; these are shared.
//! `docs/mcp.schema.json` is made from them.
//!
//! The names are those of the brief's specification and of the earlier server.

use bdr::repo::snapshot::PathNote;
use serde::Serialize;

use crate::app::context::Context;

/// How many paths a result names.
pub(super) const SHOWN: usize = 50;

/// Why not everything was done that was asked for.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Problem {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<PathReason>,
    recovery: String,
}

impl Problem {
    pub(super) fn new(
        code: &'static str,
        message: impl Into<String>,
        recovery: impl Into<String>,
    ) -> Self {
        Self {
            code,
            message: message.into(),
            details: Vec::new(),
            recovery: recovery.into(),
        }
    }

    /// Returns the answer for a partly done request, with the paths that were left.
    pub(super) fn partial(cx: &Context, message: String, left: &[PathNote]) -> Self {
        Self {
            details: reasons(cx, left),
            ..Self::new(
                "PARTIAL",
                message,
                "fix the reasons given, then make the same call again",
            )
        }
    }
}

/// A path and what is the matter with it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct PathReason {
    path: String,
    reason: String,
}

/// Returns the first few notes.
pub(super) fn reasons<'n>(
    cx: &Context,
    notes: impl IntoIterator<Item = &'n PathNote>,
) -> Vec<PathReason> {
    let reason = |note: &PathNote| PathReason {
        path: cx.shown_absolute(note.path.as_path()),
        reason: note.reason.clone(),
    };
    notes.into_iter().take(SHOWN).map(reason).collect()
}
