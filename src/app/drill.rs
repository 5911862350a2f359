//! Restore drills as a job.

use std::path::PathBuf;

use bdr::Error;
use bdr::base::id::SnapshotId;
use bdr::care::drill::{self, Drilled};
use bdr::repo::Repository;
use bdr::repo::summaries::Summary;

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::verify;

/// Drills the `named` snapshots, or the newest backup and an older one.
pub(crate) fn perform(
    cx: &Context,
    repo: &Repository,
    named: &[SnapshotId],
    scratch: Option<PathBuf>,
) -> Result<Vec<Drilled>, Failure> {
    let mut chosen = named.to_vec();
    if chosen.is_empty() {
        let summaries = repo.summaries()?;
        // Backups that somebody else wrote into the repository must not use up the turns of this
        // machine's.
        let origins = repo.origins(&summaries);
        let own = |s: &&Summary| s.is_backup() && origins.counts(s);
        let mut backups: Vec<&Summary> = summaries.iter().filter(own).collect();
        if backups.is_empty() {
            // From before the key was lost, for example: better than none.
            backups = summaries.iter().filter(|s| s.is_backup()).collect();
        }
        // An unreadable record may be newer than all others.
        let newest = backups.last().map(|newest| newest.file_name());
        let unreadable = repo.unreadable().into_iter().rev();
        let mut newer = unreadable.filter(|(name, _)| {
            name.starts_with("snapshots/") && newest.as_ref().is_none_or(|newest| name > newest)
        });
        if let Some((name, reason)) = newer.next() {
            return Err(Error::Unreadable { name, reason }.into());
        }
        let mut dice = [0; 8];
        // Without randomness it is always the same one, which is still a drill.
        let _ = getrandom::fill(&mut dice);
        chosen = drill::choose(&backups, u64::from_le_bytes(dice));
    }
    if chosen.is_empty() {
        return Err(Failure::usage("there is no backup to try", "bdr backup"));
    }
    // Next to the cache rather than in /tmp, which is often small and in memory.
    let scratch = match scratch.as_deref() {
        // Leftovers elsewhere may belong to anybody.
        Some(elsewhere) => verify::scratch_in(elsewhere)?,
        None => verify::scratch(repo.cache())?,
    };
    let mut drilled = Vec::new();
    for id in chosen {
        let snapshot = repo.snapshot(id)?;
        drilled.push(drill::drill(
            repo,
            &snapshot,
            scratch.path(),
            &cx.progress(),
        )?);
    }
    Ok(drilled)
}
