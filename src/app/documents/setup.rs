//! `init`, `add`, `remove`, `exclude`, `config`, `backup --dry-run`, `demo`, `import`, `uninstall`,
//! `shell`, `completions`, `version`.

use std::path::{Path, PathBuf};

use bdr::base::path::show;
use bdr::care::preview::Preview;
use serde::Serialize;

use super::BackupDocument;
use super::paths::{At, ConfigAt, Note, RepositoryAt};

/// A source by its name and place.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct NamedSource {
    #[serde(flatten)]
    at: At,
    name: String,
}

impl NamedSource {
    pub(crate) fn new(name: &str, path: &Path) -> Self {
        Self {
            at: At::new(path),
            name: name.to_owned(),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct InitDocument {
    #[serde(flatten)]
    config: ConfigAt,
    #[serde(flatten)]
    repository: RepositoryAt,
    sources: Vec<InitSource>,
    backup: Option<BackupDocument>,
    drill_passed: Option<bool>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct InitSource {
    #[serde(flatten)]
    pub(crate) source: NamedSource,
    pub(crate) criticality: &'static str,
    pub(crate) files: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

impl InitDocument {
    /// `done`: the first backup, and whether its drill passed.
    pub(crate) fn new(
        config: &Path,
        repository: &Path,
        sources: Vec<InitSource>,
        done: Option<(BackupDocument, bool)>,
    ) -> Self {
        let (backup, drill_passed) = done.unzip();
        Self {
            config: ConfigAt::new(config),
            repository: RepositoryAt::new(repository),
            sources,
            backup,
            drill_passed,
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AddDocument {
    pub(crate) added: Vec<MeasuredSource>,
    /// Paths that a source has already.
    pub(crate) covered: Vec<CoveredPath>,
    pub(crate) changed: bool,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MeasuredSource {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) left_out: usize,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CoveredPath {
    path: String,
    source: String,
}

impl CoveredPath {
    pub(crate) fn new(path: &Path, source: &str) -> Self {
        Self {
            path: show(path.as_os_str()),
            source: source.to_owned(),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoveDocument {
    pub(crate) removed: Vec<NamedSource>,
    pub(crate) changed: bool,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ExcludeDocument {
    pub(crate) excluded: Vec<ExcludedDocument>,
    pub(crate) not_covered: Vec<At>,
    pub(crate) changed: bool,
}

/// What a source no longer has.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ExcludedDocument {
    pub(crate) source: String,
    pub(crate) exclude: Vec<String>,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// `backup --dry-run`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct BackupPlanDocument {
    dry_run: bool,
    full: bool,
    sources: Vec<PreviewDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct PreviewDocument {
    #[serde(flatten)]
    source: NamedSource,
    files: u64,
    bytes: u64,
    changed: Vec<ChangedFile>,
    removed: Vec<String>,
    left_out: Vec<Note>,
    problems: Vec<Note>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ChangedFile {
    #[serde(flatten)]
    at: At,
    bytes: u64,
}

impl BackupPlanDocument {
    pub(crate) fn new(full: bool, found: &[Preview]) -> Self {
        Self {
            dry_run: true,
            full,
            sources: found.iter().map(PreviewDocument::new).collect(),
        }
    }
}

impl PreviewDocument {
    fn new(one: &Preview) -> Self {
        let changed = |(path, bytes): &(PathBuf, u64)| ChangedFile {
            at: At::new(path),
            bytes: *bytes,
        };
        let noted = |notes: &[(PathBuf, String)]| {
            let notes = notes.iter();
            notes.map(|(path, why)| Note::new(path, why)).collect()
        };
        let removed = one.removed.iter();
        Self {
            source: NamedSource::new(&one.name, &one.path),
            files: one.files,
            bytes: one.bytes,
            changed: one.changed.iter().map(changed).collect(),
            removed: removed.map(|path| show(path.as_os_str())).collect(),
            left_out: noted(&one.left_out),
            problems: noted(&one.problems),
        }
    }
}

/// `config check`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ConfigCheckDocument {
    pub(crate) sources: usize,
    pub(crate) missing: Vec<NamedSource>,
}

/// `config edit`, `config set`, `config unset`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ConfigChangeDocument {
    pub(crate) changed: bool,
    /// With `--dry-run`.
    pub(crate) text: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DemoDocument {
    #[serde(flatten)]
    pub(crate) outcome: Option<DemoOutcome>,
    pub(crate) steps: Vec<DemoStep>,
}

/// Absent where a step failed.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DemoOutcome {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) deleted: u64,
    pub(crate) different: Vec<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DemoStep {
    pub(crate) command: String,
    pub(crate) exit: Option<i32>,
    pub(crate) elapsed_ms: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ImportDocument {
    pub(crate) applied: bool,
    pub(crate) sources: Vec<NamedSource>,
    pub(crate) backups: Vec<StoredBackup>,
    pub(crate) unreadable: Vec<Note>,
    pub(crate) remarks: Vec<String>,
    pub(crate) imported: Vec<ImportedDocument>,
}

/// A backup of the other program.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct StoredBackup {
    pub(crate) id: String,
    pub(crate) time: String,
    pub(crate) kind: String,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    pub(crate) imported_before: bool,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ImportedDocument {
    pub(crate) snapshot: String,
    pub(crate) files: u64,
    pub(crate) left_out: Vec<Note>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct UninstallDocument {
    pub(crate) done: bool,
    pub(crate) everything: bool,
    pub(crate) entries: Vec<RemovedEntry>,
    pub(crate) schedulers: Vec<&'static str>,
    pub(crate) deletes: Vec<DeletedPart>,
    pub(crate) kept: Vec<Note>,
    pub(crate) command: Option<String>,
}

/// What bdr wrote into a file of another program.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemovedEntry {
    #[serde(flatten)]
    pub(crate) file: Option<At>,
    pub(crate) target: String,
    pub(crate) action: Option<&'static str>,
    pub(crate) error: Option<String>,
    pub(crate) fix: Option<String>,
}

/// A part of what bdr keeps.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DeletedPart {
    #[serde(flatten)]
    pub(crate) at: At,
    pub(crate) part: &'static str,
    pub(crate) bytes: u64,
    pub(crate) deleted: bool,
    pub(crate) stays: Vec<String>,
}

/// `shell init`, `completions`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ShellDocument {
    pub(crate) shell: String,
    pub(crate) text: String,
}

/// `completions man --output`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct PagesDocument {
    pub(crate) dir: String,
    pub(crate) pages: Vec<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct VersionDocument {
    pub(crate) version: &'static str,
}
