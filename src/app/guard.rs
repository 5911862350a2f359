//! What every guard does, whoever asked for it.

use std::path::PathBuf;

use bdr::Error;
use bdr::base::units::size;
use bdr::effects::Assessment;
use bdr::model::rules::Root;
use bdr::protect::backup::BackupOptions;
use bdr::protect::guard::{self, CaptureSet, GuardPlan};
use bdr::repo::Repository;
use bdr::repo::snapshot::Trigger;

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::ui::plural;

pub(crate) use background::{
    close_later, is_system_rm, start as settle_in_background, still_running, tell as tell_settled,
};
#[cfg(target_os = "linux")]
pub(crate) use outside::outside_of_session;
pub(crate) use outside::{Outside, outside, outside_words, say_outside};
pub(crate) use words::{
    explain, is_in_git, missed_of_operands, name_missed, shell_words, summary, typed, undo_command,
    unstored, untold, worth_a_word,
};

mod background;
#[cfg(target_os = "linux")]
pub(crate) mod capture;
mod outside;
#[cfg(target_os = "linux")]
mod raising;
pub(crate) mod uncaptured;
mod words;

/// Opens the repository. Protection must not depend on set-up, so the first guard on a machine
/// creates it.
pub(crate) fn open(cx: &Context, dry_run: bool) -> Result<Repository, Failure> {
    match cx.repository() {
        Err(Failure::Engine(error)) if matches!(*error, Error::NoRepository { .. }) && !dry_run => {
            let repo = cx.create_repository(&cx.places.repository, false)?;
            let place = cx.shown_absolute(&cx.places.repository);
            cx.ui.say(&format!(
                "bdr: made a repository in {place}; `bdr init` chooses what else to keep"
            ));
            Ok(repo)
        }
        other => other,
    }
}

pub(crate) fn backup_options(cx: &Context, max_bytes: Option<u64>) -> BackupOptions {
    let mut backup = BackupOptions::new(Trigger::Guard, cx.now);
    backup.host.clone_from(&cx.host);
    backup.max_bytes = Some(max_bytes.unwrap_or(cx.config.guard.max_bytes));
    backup.max_files = Some(cx.config.guard.max_files);
    backup.follow_links = true;
    backup
}

pub(crate) fn covered(
    cx: &Context,
    repo: &Repository,
    assessment: &Assessment,
    extra: &[PathBuf],
    accept_loss: bool,
) -> Result<Vec<Root>, Failure> {
    let set = CaptureSet {
        sources: cx.roots(),
        cwd: &cx.cwd,
        home: cx.home.as_deref(),
        extra,
        own: &[repo.location().to_path_buf(), cx.places.config.clone()],
        linked: true,
        accept_loss,
    };
    Ok(guard::capture_roots(assessment, set)?)
}

/// Returns what a guard of a command would cover, for `bdr explain`.
pub(crate) fn plan_for(
    cx: &Context,
    repo: &Repository,
    assessment: &Assessment,
) -> Result<GuardPlan, Failure> {
    let roots = covered(cx, repo, assessment, &[], false)?;
    Ok(guard::plan(repo, &roots, &backup_options(cx, None))?)
}

/// Returns "3 files deleted (4.1 MiB)" and the like.
pub(crate) fn deleted_words(files: u64, bytes: u64) -> String {
    format!("{} deleted ({})", plural(files, "file"), size(bytes))
}
