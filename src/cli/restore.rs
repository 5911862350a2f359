//! `bdr restore`.

use std::ffi::OsString;
use std::path::PathBuf;

use bdr::Error;
use bdr::base::path::absolute;
use bdr::find::select::{self, SnapshotSpec};
use bdr::recover::restore::{self, Action, Overwrite, RestoreOptions};
use bdr::recover::undo::{self, UndoOptions};
use bdr::recover::unseal::SecretOptions;
use bdr::repo::Repository;
use bdr::repo::oplog::RootPath;
use bdr::repo::snapshot::Snapshot;
use bdr::repo::summaries::Summary;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::{AbortDocument, RestoreDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::pick;
use crate::app::remotes::FromArgs;
use crate::ui::{self, plural, prompt};

mod words;

/// Bring files back
///
/// Restores to the original place, or below --target. Without PATH the whole snapshot is restored; without SNAPSHOT it is the
/// latest backup. A pattern in quotes is matched against the files of the snapshot. Current files are saved in a
/// safety snapshot first, so `bdr undo` reverses a restore. Each file is checked against its hash and replaced in one step. Files
/// that are not in the snapshot stay, unless --delete.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr restore notes.md
  bdr restore 3f2a:notes.md
  bdr restore latest 'docs/*.md'
  bdr restore --at \"yesterday 14:00\" checklist-registry.json --dry-run
  bdr restore 3f2a --target /tmp/look
  bdr restore latest:full brain --delete --yes
  bdr restore --resume

TIME is a date or time in your time zone: \"2026-11-20 14:00\", 2026-11-20, \"yesterday 14:00\", \"2 hours ago\", \"1 Jan\".")]
pub(crate) struct RestoreArgs {
    /// Snapshot (id, `latest`, `latest~2`, `latest:full`), then paths: original, relative, or SOURCE/relative
    #[arg(value_name = "SNAPSHOT] [PATH", value_hint = clap::ValueHint::AnyPath)]
    words: Vec<OsString>,
    /// Use the last snapshot at or before a time, instead of naming one
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Restore below this directory, one subdirectory per source
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    target: Option<PathBuf>,
    /// Print the plan; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Which existing files to replace
    #[arg(
        long,
        value_enum,
        default_value = "if-changed",
        value_name = "if-changed|never|always",
        hide_possible_values = true
    )]
    overwrite: OverwriteArg,
    /// Remove files that the snapshot does not have
    #[arg(long)]
    delete: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// For files that exist: keep their current secrets, or put back the snapshot's
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = SecretsArg::Keep)]
    secrets: SecretsArg,
    /// Remove secrets that the snapshot does not have
    #[arg(long)]
    exact: bool,
    /// Leave unavailable secrets blank, instead of writing the file beside the current one
    #[arg(long)]
    leave_blank: bool,
    /// Finish a restore that was interrupted
    #[arg(long, conflicts_with_all = ["words", "at", "target", "delete", "abort"])]
    resume: bool,
    /// Reverse a restore that was interrupted
    #[arg(long, conflicts_with_all = ["words", "at", "target", "delete"])]
    abort: bool,
    #[command(flatten)]
    from: FromArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SecretsArg {
    /// What stands there stays
    Keep,
    /// As they were sealed
    FromVault,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum OverwriteArg {
    IfChanged,
    Never,
    Always,
}

impl From<OverwriteArg> for Overwrite {
    fn from(arg: OverwriteArg) -> Self {
        match arg {
            OverwriteArg::IfChanged => Self::IfChanged,
            OverwriteArg::Never => Self::Never,
            OverwriteArg::Always => Self::Always,
        }
    }
}

pub(crate) fn run(cx: &Context, args: &RestoreArgs) -> Result<u8, Failure> {
    if args.from.from.is_some() {
        return from_elsewhere(cx, args);
    }
    let repo = cx.repository()?;
    if args.abort {
        return abort(cx, &repo);
    }
    if args.resume {
        let operation = interrupted(&repo)?;
        let journal = operation
            .begin
            .restore
            .as_ref()
            .map(|journal| journal.snapshot);
        let id = journal.ok_or(Error::NothingTo { verb: "resume" })?;
        let first = repo.snapshot(id)?;
        let options = restore::options_of(&operation, options(cx, args, Vec::new()));
        // What it took from older snapshots, it takes from these again.
        let mut wanted: Vec<(String, Option<PathBuf>)> = Vec::new();
        for path in options.paths.iter().filter(|path| path.path.is_root()) {
            wanted.push((path.root.to_string(), None));
        }
        let (snapshot, _) = select::completed(&repo.all_snapshots()?, &first, &wanted)?;
        return restore(cx, args, (&repo, &repo), &snapshot, &options);
    }
    if restore::interrupted(&repo)?.is_some() {
        cx.ui.say("an earlier restore was interrupted: bdr restore --resume finishes it, --abort reverses it");
    }
    pick_and_restore(cx, args, &repo, &repo)
}

/// Restores from a destination. What is replaced is saved in this machine's repository, which is made
/// if there is none.
fn from_elsewhere(cx: &Context, args: &RestoreArgs) -> Result<u8, Failure> {
    if args.resume || args.abort {
        return Err(Failure::usage(
            "a restore from a destination is not resumed",
            "run it again: files that are as they should be are left alone; bdr undo reverses it",
        ));
    }
    let seen = args.from.see(cx)?;
    let far = seen.repository()?;
    let own = match cx.repository() {
        Ok(own) => own,
        Err(Failure::Engine(error)) if matches!(*error, Error::NoRepository { .. }) => {
            // A new place replaces nothing.
            let is_new = |dir: &PathBuf| {
                let dir = absolute(&cx.cwd, dir);
                bdr::disk::fsutil::read_dir(dir).map_or(true, |mut found| found.next().is_none())
            };
            match args.dry_run || args.target.as_ref().is_some_and(is_new) {
                true => far.clone(),
                false => cx.create_repository(&cx.places.repository, false)?,
            }
        }
        Err(failure) => return Err(failure),
    };
    pick_and_restore(&seen, args, &far, &own)
}

fn pick_and_restore(
    cx: &Context,
    args: &RestoreArgs,
    repo: &Repository,
    own: &Repository,
) -> Result<u8, Failure> {
    let snapshots = repo.all_snapshots()?;
    let picked = pick::pick(cx, "restore", &snapshots, args.at.as_deref(), &args.words)?;
    let mut paths = picked.paths;
    if !picked.older.is_empty() {
        // By name, because whoever resumes it has to know.
        let roots = picked.snapshot.roots.iter();
        paths.extend(roots.map(|root| RootPath {
            root: root.name.clone(),
            path: bdr::base::path::RepoPath::root(),
        }));
    }
    let mut options = options(cx, args, paths);
    if args.from.from.is_some() {
        options.never = own.own_paths();
    }
    restore(cx, args, (repo, own), &picked.snapshot, &options)
}

fn options(cx: &Context, args: &RestoreArgs, paths: Vec<RootPath>) -> RestoreOptions {
    RestoreOptions {
        target: args.target.as_ref().map(|dir| absolute(&cx.cwd, dir)),
        beneath: None,
        paths,
        overwrite: args.overwrite.into(),
        delete: args.delete,
        look_only: args.dry_run,
        now: cx.now,
        cwd: cx.cwd.clone(),
        argv: cx.argv(),
        never: Vec::new(),
        host: cx.host.clone(),
        secrets: SecretOptions {
            from_vault: args.secrets == SecretsArg::FromVault,
            exact: args.exact,
            leave_blank: args.leave_blank,
            environment: std::env::vars_os()
                .filter_map(|(name, value)| {
                    let value = bdr::base::path::os_to_bytes(&value).into_owned();
                    Some((name.into_string().ok()?, value))
                })
                .collect(),
        },
        agent: None,
    }
}

fn restore(
    cx: &Context,
    args: &RestoreArgs,
    (repo, own): (&Repository, &Repository),
    snapshot: &Snapshot,
    options: &RestoreOptions,
) -> Result<u8, Failure> {
    let id = snapshot.id.prefix(&repo.snapshot_ids()?);
    let origins = repo.origins(&repo.summaries()?);
    let summary = Summary::from(snapshot);
    if args.from.from.is_none() && !origins.counts(&summary) {
        cx.ui.warn(&format!(
            "bdr: snapshot {id} was not made by this machine; to see which were: bdr verify --level quick"
        ));
    }
    let plan = restore::plan(repo, snapshot, options, &cx.progress()).map_err(|error| {
        let word = args.words.last();
        pick::newest_instead(cx, repo, word, "restore", error.into())
    })?;
    if let Some(says) = words::missing_values(&plan) {
        cx.ui.say(&says);
    }
    // Only on request: at 50,000 steps it is many times the size of the plan.
    let document = cx.ui.json.then(|| {
        let origin = origins.of(&summary);
        RestoreDocument::new(&plan, snapshot, origin, args.dry_run)
    });
    if args.dry_run {
        if let Some(document) = document {
            cx.ui.document("restore", exit::OK, &document)?;
        } else {
            let mut text = words::heading(cx, repo, snapshot, &id, true);
            text.push_str(&words::steps(cx, &plan));
            if !plan.steps.is_empty() {
                let command = words::same_without_dry_run(cx, &id, args.at.is_some());
                text.push_str(&format!("Restore: {command}\n"));
            }
            cx.ui.data(&text)?;
        }
        return Ok(exit::OK);
    }
    // A new place overwrites nothing; in place, changes are shown and confirmed first.
    let harmless = plan
        .steps
        .iter()
        .all(|step| step.old_bytes.is_none() && step.action == Action::Create);
    if !args.yes && !harmless {
        if !cx.ui.can_ask {
            let n = plural(plan.steps.len() as u64, "path");
            return Err(Failure::usage(
                format!("this would change {n}, and there is no terminal to ask on"),
                "add --yes to do it, or --dry-run to preview it",
            ));
        }
        cx.ui.warn(&format!(
            "{}{}",
            words::heading(cx, repo, snapshot, &id, false),
            words::steps(cx, &plan).trim_end()
        ));
        if !prompt::confirm("Restore?", true)? {
            cx.ui.warn("Nothing was changed.");
            return Ok(exit::PARTIAL);
        }
    }
    let absent = words::absent(cx, &plan.absent);
    let report = restore::apply(repo, own, snapshot, plan, options, &cx.progress())?;
    let newer = newer_unread(repo, args, snapshot)?;
    let code = match report.is_partial() || newer.is_some() {
        false => exit::OK,
        true => exit::PARTIAL,
    };
    if let Some(document) = document {
        cx.ui.document("restore", code, &document.done(&report))?;
        return Ok(code);
    }
    let ending = words::ending(cx, &report, &id, options.target.is_some());
    let newer = newer.map(|name| words::newer(&name)).unwrap_or_default();
    cx.ui.report(&format!("{ending}{absent}{newer}"))?;
    Ok(code)
}

/// Returns a record that may be of a newer backup than the one that was chosen as the newest.
fn newer_unread(
    repo: &Repository,
    args: &RestoreArgs,
    snapshot: &Snapshot,
) -> Result<Option<String>, Failure> {
    let unread = repo.unreadable();
    if unread.is_empty() {
        return Ok(None);
    }
    let snapshots = repo.all_snapshots()?;
    let mut words = args.words.iter().filter_map(|word| word.to_str());
    // Whoever names one gets that one.
    let is_named = words.any(|word| {
        let spec = SnapshotSpec::parse(word.split(':').next().unwrap_or_default());
        matches!(spec, SnapshotSpec::Id(_))
            && select::snapshot(&snapshots, &spec).is_ok_and(|named| named.id == snapshot.id)
    });
    let is_newer = |name: &String| match name.starts_with("snapshots/") {
        true => *name > snapshot.file_name(),
        false => name.starts_with("pushes/"),
    };
    let mut newer = unread.into_iter().map(|(name, _)| name).filter(is_newer);
    Ok(newer.next().filter(|_| !is_named))
}

fn interrupted(repo: &Repository) -> Result<bdr::repo::oplog::Operation, Failure> {
    restore::interrupted(repo)?.ok_or_else(|| {
        let message = "no restore was interrupted: there is nothing to resume or abort";
        Error::invalid(message, Some("bdr log")).into()
    })
}

/// An interrupted restore is an operation like any other, so aborting it is an undo.
fn abort(cx: &Context, repo: &Repository) -> Result<u8, Failure> {
    let operation = interrupted(repo)?;
    let options = UndoOptions {
        force: false,
        all: false,
        look_only: false,
        now: cx.now,
        cwd: cx.cwd.clone(),
        argv: cx.argv(),
        paths: Vec::new(),
        never: Vec::new(),
        host: cx.host.clone(),
        agent: None,
    };
    let plan = undo::plan(repo, &operation, &options, &cx.progress())?;
    let report = undo::apply(repo, &operation, plan, &options, &cx.progress())?;
    let clean = report.conflicts == 0 && report.problems.is_empty();
    let code = if clean { exit::OK } else { exit::PARTIAL };
    if cx.ui.json {
        let data = AbortDocument::new(&operation, &report);
        cx.ui.document("restore", code, &data)?;
    } else {
        let elapsed = ui::elapsed(report.elapsed);
        let tail = if clean {
            ""
        } else {
            " Some of it remains (exit 3): bdr log"
        };
        cx.ui.report(&format!(
            "Reversed the interrupted restore in {elapsed}.{tail}\n"
        ))?;
    }
    Ok(code)
}
