//! What a backup would do, without doing it.

use std::path::PathBuf;

use crate::base::error::Result;
use crate::model::rules::Root;
use crate::protect::backup::{BackupOptions, survey};
use crate::repo::Repository;

/// What a backup of one root would do.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The name of the source, or of what a symlink in it leads to.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Files that the snapshot would have.
    pub files: u64,
    /// Their size.
    pub bytes: u64,
    /// Files that are new or changed, with their sizes; they would be read.
    pub changed: Vec<(PathBuf, u64)>,
    /// Topmost paths that are gone since the last snapshot.
    pub removed: Vec<PathBuf>,
    /// What the rules leave out, and why.
    pub left_out: Vec<(PathBuf, String)>,
    /// What cannot be read, and why.
    pub problems: Vec<(PathBuf, String)>,
}

/// Looks at roots as a backup would. Reads no content: that something is unchanged is told by `stat`.
///
/// # Errors
/// A root cannot be read, or its patterns do not compile.
pub fn preview(repo: &Repository, roots: &[Root], options: &BackupOptions) -> Result<Vec<Preview>> {
    let mut found = Vec::new();
    for run in survey(repo, roots, options)? {
        let path = &run.root.path;
        let (files, bytes, _) = run.totals();
        found.push(Preview {
            name: run.root.name.to_string(),
            path: path.clone(),
            files,
            bytes,
            changed: run
                .changed()
                .filter(|dirty| dirty.stat.kind == crate::model::manifest::Kind::File)
                .map(|dirty| (dirty.path.to_path(path), dirty.stat.size))
                .collect(),
            removed: run.scan.removed.iter().map(|p| p.to_path(path)).collect(),
            left_out: run
                .left_out
                .iter()
                .map(|left| (left.path.to_path(path), left.reason.clone()))
                .collect(),
            problems: run
                .scan
                .problems
                .iter()
                .map(|(at, error)| (at.to_path(path), crate::base::error::reason(error)))
                .collect(),
        });
    }
    Ok(found)
}
