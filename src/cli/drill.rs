//! `bdr drill`.

use std::ffi::OsString;
use std::path::PathBuf;

use bdr::base::id::SnapshotId;
use bdr::base::units::size;
use bdr::care::drill::Drilled;
use bdr::model::schedule::Job;
use bdr::repo::snapshot::PathNote;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::DrillDocument;
use crate::app::drill::perform;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::jobs;
use crate::app::pick;
use crate::ui::{self, plural};

/// Test a restore: restore a backup elsewhere and check it
///
/// Restores the newest backup and a random older one into a scratch directory, compares every file with its record, opens every
/// SQLite database and parses every JSON file. Your own files are not touched. The exit code is 4 if something did not come back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr drill
  bdr drill latest~3
  bdr drill --scratch /mnt/disk")]
pub(crate) struct DrillArgs {
    /// Snapshots (id, `latest`, `latest~2`), instead of the newest backup and a random older one
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<OsString>,
    /// Restore below this directory instead of the cache
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    scratch: Option<PathBuf>,
}

pub(crate) fn run(cx: &Context, args: &DrillArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let snapshots = repo.all_snapshots()?;
    let mut named = Vec::new();
    for word in &args.snapshots {
        named.push(pick::one(cx, &snapshots, word)?.id);
    }
    let scratch = args
        .scratch
        .as_ref()
        .map(|dir| bdr::base::path::absolute(&cx.cwd, dir));
    let work = || perform(cx, &repo, &named, scratch);
    let drilled = if named.is_empty() {
        jobs::remember(cx, Job::Drill, "user", work)?.0
    } else {
        work()?
    };
    let failed = drilled.iter().any(|d| !d.damage.is_empty());
    let code = if failed { exit::DAMAGED } else { exit::OK };
    let ids = snapshots.ids();
    if cx.ui.json {
        let data = DrillDocument::new(&drilled);
        cx.ui.document("drill", code, &data)?;
        return Ok(code);
    }
    let mut text = String::new();
    for one in &drilled {
        text.push_str(&words(cx, one, &ids));
    }
    if failed {
        text.push_str("bdr verify lists what is damaged and where a good copy is (exit 4).\n");
        cx.ui.data(&text)?;
    } else {
        cx.ui.report(&text)?;
    }
    Ok(code)
}

fn words(cx: &Context, drilled: &Drilled, ids: &[SnapshotId]) -> String {
    let id = cx.ui.out.yellow(&drilled.snapshot.prefix(ids));
    let mut looked = Vec::new();
    if drilled.databases > 0 {
        looked.push(format!("{} opened", plural(drilled.databases, "database")));
    }
    if drilled.documents > 0 {
        looked.push(format!("{} read", plural(drilled.documents, "JSON file")));
    }
    let looked = match looked.is_empty() {
        true => String::new(),
        false => format!(", {}", looked.join(", ")),
    };
    let mut text = format!(
        "{} Snapshot {id}: {}, {} restored and compared{looked}, in {}.\n",
        match drilled.damage.is_empty() {
            true => cx.ui.out.green("Passed."),
            false => cx.ui.out.red("Failed."),
        },
        plural(drilled.files, "file"),
        size(drilled.bytes),
        ui::elapsed(drilled.elapsed),
    );
    list(
        cx,
        &mut text,
        "Did not come back as it was stored:",
        &drilled.damage,
    );
    list(
        cx,
        &mut text,
        "Came back exactly, but was not valid when it was backed up:",
        &drilled.remarks,
    );
    text
}

fn list(cx: &Context, text: &mut String, title: &str, notes: &[PathNote]) {
    if notes.is_empty() {
        return;
    }
    text.push_str(&format!("  {title}\n"));
    for line in cx.note_lines(notes.iter(), 10) {
        text.push_str(&format!("    {line}\n"));
    }
}
