//! What a backup would do, without doing it.

use std::path::PathBuf;

use crate::base::error::Result;
use crate::model::rules::Root;
use crate::protect::backup::{BackupOptions, survey};
use crate::repo::Repository;

#[derive(Debug, Clone)]
pub struct Preview {
    /// The name of the source, or that of the target of a symlink in it.
    pub name: String,
    pub path: PathBuf,
    pub files: u64,
    pub bytes: u64,
    /// Files that are new or changed, with their sizes; they would be read.
    pub changed: Vec<(PathBuf, u64)>,
    /// Paths that are gone since the last snapshot; only the topmost of each tree.
    pub removed: Vec<PathBuf>,
    /// What the rules leave out, with the reason.
    pub left_out: Vec<(PathBuf, String)>,
    /// What cannot be read, with the reason.
    pub problems: Vec<(PathBuf, String)>,
}

/// Walks roots as a backup would. Reads no content: `stat` tells what is unchanged.
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
