//! Paths, under the member name of a document. If a path is not UTF-8, that member is for display,
//! and `…_hex` has its bytes.

use std::ffi::OsStr;
use std::path::Path;

use bdr::base::path::{os_to_bytes, show};
use bdr::repo::snapshot::PathNote;
use serde::Serialize;

fn text_and_hex(name: &OsStr) -> (String, Option<String>) {
    match name.to_str() {
        Some(text) => (text.to_owned(), None),
        None => (show(name), Some(hex::encode(os_to_bytes(name)))),
    }
}

/// `path`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct At {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl At {
    pub(crate) fn new(path: &Path) -> Self {
        let (path, path_hex) = text_and_hex(path.as_os_str());
        Self { path, path_hex }
    }
}

/// `cwd`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Cwd {
    cwd: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cwd_hex: Option<String>,
}

impl Cwd {
    pub(super) fn new(cwd: &OsStr) -> Self {
        let (cwd, cwd_hex) = text_and_hex(cwd);
        Self { cwd, cwd_hex }
    }
}

/// `config`, the file.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct ConfigAt {
    config: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_hex: Option<String>,
}

impl ConfigAt {
    pub(super) fn new(path: &Path) -> Self {
        let (config, config_hex) = text_and_hex(path.as_os_str());
        Self { config, config_hex }
    }
}

/// `repository`, where it is.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct RepositoryAt {
    repository: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository_hex: Option<String>,
}

impl RepositoryAt {
    pub(super) fn new(path: &Path) -> Self {
        let (repository, repository_hex) = text_and_hex(path.as_os_str());
        Self {
            repository,
            repository_hex,
        }
    }
}

/// `cache`, the directory.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Cache {
    cache: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_hex: Option<String>,
}

impl Cache {
    pub(super) fn new(path: &Path) -> Self {
        let (cache, cache_hex) = text_and_hex(path.as_os_str());
        Self { cache, cache_hex }
    }
}

/// `state`, the directory.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct State {
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_hex: Option<String>,
}

impl State {
    pub(super) fn new(path: &Path) -> Self {
        let (state, state_hex) = text_and_hex(path.as_os_str());
        Self { state, state_hex }
    }
}

/// `target`, of a symlink.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Target {
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_hex: Option<String>,
}

impl Target {
    pub(super) fn new(target: &OsStr) -> Self {
        let (target, target_hex) = text_and_hex(target);
        Self { target, target_hex }
    }
}

/// `beside`, where the other side of a conflict is written.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Beside {
    beside: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    beside_hex: Option<String>,
}

impl Beside {
    pub(super) fn new(beside: &Path) -> Self {
        let (beside, beside_hex) = text_and_hex(beside.as_os_str());
        Self { beside, beside_hex }
    }
}

/// A path, and why it is named.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Note {
    #[serde(flatten)]
    at: At,
    reason: String,
}

impl Note {
    pub(crate) fn new(path: &Path, reason: &str) -> Self {
        Self {
            at: At::new(path),
            reason: reason.to_owned(),
        }
    }
}

pub(crate) fn notes(notes: &[PathNote]) -> Vec<Note> {
    let note = |note: &PathNote| Note::new(note.path.as_path(), &note.reason);
    notes.iter().map(note).collect()
}
