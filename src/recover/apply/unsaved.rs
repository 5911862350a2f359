//! What stays because its current content could not be saved first.

use std::path::PathBuf;

use crate::base::path::RawName;
use crate::model::manifest::Kind;
use crate::protect::guard::Protected;
use crate::protect::work::{Act, Job, Work, absolute};
use crate::repo::snapshot::PathNote;

/// Removes steps that would replace or delete what the snapshot before could not hold; returns them
/// as problems.
pub(super) fn without_unsaved(work: &Work, protected: &Protected) -> (Vec<PathNote>, Option<Work>) {
    if protected.holds_all() {
        return (Vec::new(), None);
    }
    let mut problems = Vec::new();
    let unsaved = |job: &Job| {
        let stands = job.seen.is_some_and(|seen| seen.kind != Kind::Dir);
        let path = absolute(work, job);
        let why = protected
            .lacks(&path)
            .filter(|_| stands && job.act != Act::Metadata)?;
        Some(note(
            path,
            format!("the current one could not be saved first, so it stays: {why}"),
        ))
    };
    let mut jobs = Vec::with_capacity(work.jobs.len());
    for job in &work.jobs {
        match unsaved(job) {
            Some(problem) => problems.push(problem),
            None => jobs.push(job.clone()),
        }
    }
    if problems.is_empty() {
        return (problems, None);
    }
    let above = above(work, &problems, &mut jobs);
    problems.extend(above);
    let narrowed = Work {
        sites: work.sites.clone(),
        jobs,
        anchors: work.anchors.clone(),
        times: work.times.clone(),
        partial: true,
        part: work.part,
    };
    (problems, Some(narrowed))
}

fn note(path: PathBuf, reason: String) -> PathNote {
    PathNote {
        path: RawName(path.into_os_string()),
        reason,
    }
}

/// Removes the steps that would remove a directory in which something stays; returns them.
fn above(work: &Work, stays: &[PathNote], jobs: &mut Vec<Job>) -> Vec<PathNote> {
    let mut found = Vec::new();
    jobs.retain(|job| {
        let goes = matches!(job.act, Act::Remove | Act::Clear);
        if !goes || job.seen.is_none_or(|seen| seen.kind != Kind::Dir) {
            return true;
        }
        let path = absolute(work, job);
        let is_empty = !stays
            .iter()
            .any(|note| note.path.as_path().starts_with(&path));
        if !is_empty {
            let reason = "what could not be saved is in it, so it stays";
            found.push(note(path, reason.to_owned()));
        }
        is_empty
    });
    found
}
