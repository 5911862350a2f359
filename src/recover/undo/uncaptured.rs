//! Changes to paths that were not captured. They are reported, because no undo can restore them.

use std::path::Path;

use super::{UndoOptions, UndoPlan};
use crate::base::path::{RawName, RepoPath};
use crate::disk::fsutil::Opened;
use crate::model::reason::Reason;
use crate::protect::guard::changes::{self, Origins};
use crate::repo::Repository;
use crate::repo::oplog::{Operation, RootChanges};
use crate::repo::snapshot::{PathNote, RootRecord, Snapshot};

/// Reports operands that could not be captured at all and that are gone or different now.
pub(super) fn uncaptured_roots(operation: &Operation, snapshot: &Snapshot) -> Vec<PathNote> {
    let began = operation.begin.time.timestamp_nanos_opt().unwrap_or(0);
    let is_unknown = |note: &&PathNote| {
        let path = note.path.as_path();
        // Paths below a root are compared with it, and operands below this one have roots of their
        // own.
        let is_told = snapshot.roots.iter().any(|record| {
            let root = record.path.as_path();
            let is_out = record.left_out.iter().any(|left| left.path.is_root());
            path.starts_with(root) && !is_out || root.starts_with(path) && root != path
        });
        // The command did something there that bdr did not see, whatever else is known of the place.
        if note.why() == Reason::Unseen {
            return true;
        }
        let changed = crate::disk::fsutil::changed_at(path);
        !is_told && changed.is_none_or(|time| time.nanos() >= began)
    };
    let unknown = operation.begin.not_captured.iter().filter(is_unknown);
    let why = |note: &PathNote| {
        let reason = &note.reason;
        format!("it was not captured ({reason}), so bdr cannot tell what happened to it")
    };
    unknown
        .map(|note| PathNote {
            path: note.path.clone(),
            reason: why(note),
        })
        .collect()
}

/// Reports directories that could not be read before an operation and that changed since: the
/// operation may have changed files in them.
pub(super) fn unread(
    operation: &Operation,
    snapshot: &Snapshot,
    changes: &[RootChanges],
    options: &UndoOptions,
    opened: &Opened,
    repo: &Repository,
    plan: &mut UndoPlan,
) {
    let Some(end) = &operation.end else { return };
    let never = repo.untouchable(&options.never);
    let roots = snapshot.roots.iter().map(|record| record.path.as_path());
    let covered = roots.map(Path::to_path_buf).chain(never.clone()).collect();
    let origins = Origins::new(operation.begin.time, std::iter::empty(), &[], &never)
        .later(end.file_time, opened.modes())
        .beside(covered);
    let own = |record: &&RootRecord| {
        let names = &operation.begin.roots;
        let is_own = names.is_empty() || names.contains(&record.name);
        is_own
            && !end.unseen.contains(&record.name)
            && !operation.begin.elsewhere.contains(&record.name)
    };
    for record in snapshot.roots.iter().filter(own) {
        let told = |path: &RepoPath| {
            let mut own = changes.iter().filter(|change| change.name == record.name);
            own.any(|change| change.lost.contains(path) || change.altered.contains(path))
        };
        for path in changes::unread_and_altered(record, &origins) {
            if !told(&path) {
                let reason = "it could not be read before and something in it changed, so bdr cannot tell what happened to it";
                plan.missing.push(PathNote {
                    path: RawName(path.to_path(record.path.as_path()).into_os_string()),
                    reason: reason.to_owned(),
                });
            }
        }
    }
}

/// Reports changes of an operation to paths that are not in its snapshot.
pub(super) fn not_captured(record: &RootRecord, change: &RootChanges, plan: &mut UndoPlan) {
    let note = |path: &RepoPath, reason: String| PathNote {
        path: RawName(path.to_path(record.path.as_path()).into_os_string()),
        reason,
    };
    let reason_of = |path: &RepoPath| {
        let left = record.left_out.iter().find(|left| left.path == *path);
        left.map_or_else(String::new, |left| format!(" ({})", left.reason))
    };
    for path in &change.lost {
        let why = reason_of(path);
        plan.missing
            .push(note(path, format!("it is gone and was not captured{why}")));
    }
    for path in &change.altered {
        let why = reason_of(path);
        let reason = format!("it changed and was not captured{why}: it stays as it is");
        plan.missing.push(note(path, reason));
    }
    for path in &change.unknown {
        let reason = "it existed before under another name and was not captured: it stays";
        plan.missing.push(note(path, reason.to_owned()));
    }
}
