//! `bdr repair`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use bdr::base::id::{Id, SnapshotId};
use bdr::base::path::show;
use bdr::care::repair::{self, RepairPlan};
use bdr::care::verify::{self as care, Damage, VerifyLevel, VerifyReport};
use bdr::model::schedule::Job;
use bdr::repo::Repository;
use clap::Args;

use crate::app::backup::{Wanted, perform};
use crate::app::context::Context;
use crate::app::documents::{FileAt, LostFor, RepairDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::jobs;
use crate::app::verify::{self, Lost};
use crate::ui::prompt::NeverAsks;
use crate::ui::{count, plural};

/// Mend what is damaged
///
/// Verifies everything, then takes damaged parts of the repository from its second copy (the lifeboat), stores again what files or other
/// content of the repository still have, and sets aside what is damaged for good. Nothing is deleted. Each file that stays lost is one line,
/// and the exit code is 3.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr repair
  bdr repair --dry-run    what is damaged, and what can be done")]
pub(crate) struct RepairArgs {
    /// Print what would be done; change nothing but what has an intact second copy
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    _never_asks: NeverAsks,
}

/// What was done.
#[derive(Default)]
struct Repaired {
    mended: Vec<String>,
    aside: Vec<String>,
    /// Snapshots whose records are gone.
    forgotten: Vec<SnapshotId>,
    /// Files that could not be restored from some snapshot before, and can be now.
    stored: BTreeSet<PathBuf>,
    /// Why no backup could be made.
    no_backup: Option<String>,
}

pub(crate) fn run(cx: &Context, args: &RepairArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let first = look(cx, &repo)?;
    let plan = repair::plan(&repo, &first.damage, &cx.progress())?;
    let mut done = Repaired {
        mended: first.healed.clone(),
        ..Repaired::default()
    };
    if args.dry_run {
        return tell_plan(cx, &repo, &first, &plan, &done);
    }
    let last = match first.damage.is_empty() {
        true => first,
        false => mend(cx, &repo, &first, &plan, &mut done)?,
    };
    let lost = lost_files(&last.damage);
    let code = code_of(&last);
    if cx.ui.json {
        cx.ui
            .document("repair", code, &data(&done, &last, &lost, false))?;
        return Ok(code);
    }
    let ids = repo.snapshot_ids()?;
    let mut text = told(cx, &done, "stored again", "set aside");
    text.push_str(&left(cx, &last.damage, &lost, &ids));
    text.push_str(&worse(&last.damage, &ids));
    if code == exit::OK {
        let snapshots = plural(last.snapshots, "snapshot");
        let bytes = bdr::base::units::size(last.bytes);
        text.push_str(&format!(
            "All is well: {snapshots} good, {bytes} read and checked.\n"
        ));
        cx.ui.report(&text)?;
    } else {
        cx.ui.data(&text)?;
    }
    Ok(code)
}

fn code_of(report: &VerifyReport) -> u8 {
    match report.damage.is_empty() {
        true => exit::OK,
        false => exit::PARTIAL,
    }
}

fn look(cx: &Context, repo: &Repository) -> Result<VerifyReport, Failure> {
    let look = || {
        let level = VerifyLevel::Full;
        Ok(care::verify(repo, None, level, None, &cx.progress())?)
    };
    Ok(jobs::remember(cx, Job::Verify, "user", look)?.0)
}

/// Carries out the plan, and returns what a last look finds.
///
/// A backup follows where something is still lost: it also has what was sealed, of which a file alone does not tell what was stored. Where
/// listings are gone nothing older is to be built upon, so it is a full one.
fn mend(
    cx: &Context,
    repo: &Repository,
    first: &VerifyReport,
    plan: &RepairPlan,
    done: &mut Repaired,
) -> Result<VerifyReport, Failure> {
    let mut report = repair::repair(repo, plan, cx.now, &cx.progress())?;
    done.aside.append(&mut report.set_aside);
    done.forgotten.append(&mut report.forgotten);
    let of = |dir: &str| first.damage.iter().any(|d| d.name.starts_with(dir));
    let full = of("manifests/") || of("snapshots/");
    if full || !repo.damaged_blobs().is_empty() {
        let wanted = Wanted {
            full,
            ..Wanted::default()
        };
        let job = if full { Job::Full } else { Job::Backup };
        let made = jobs::remember(cx, job, "user", || perform(cx, repo, &wanted));
        done.no_backup = made.err().map(|failure| failure.message());
    }
    let last = look(cx, repo)?;
    done.mended.extend(last.healed.iter().cloned());
    let before = lost_files(&first.damage);
    let after = lost_files(&last.damage);
    let stored = before.into_keys().filter(|path| !after.contains_key(path));
    done.stored.extend(stored);
    if last.damage.is_empty() && cx.journal().memory().pasts.drill.failures > 0 {
        // What it failed by may be mended. What comes of it is remembered.
        let _ = jobs::run(cx, Job::Drill, "user");
    }
    Ok(last)
}

/// Returns the files that cannot be restored, each once. Where a listing is damaged nobody knows which files those are.
fn lost_files(damage: &[Damage]) -> BTreeMap<PathBuf, Lost> {
    let files = damage.iter().filter(|damage| !is_listing(damage));
    verify::lost_files(files.flat_map(|damage| &damage.lost))
}

fn is_listing(damage: &Damage) -> bool {
    damage.name.starts_with("manifests/")
}

/// Most snapshots that a command names.
const NAMED: usize = 12;
/// Most lines of one kind.
const SHOWN: usize = 20;

fn lines(text: &mut String, label: &str, names: impl ExactSizeIterator<Item = String>) {
    let more = names.len().saturating_sub(SHOWN);
    for name in names.take(SHOWN) {
        text.push_str(&format!("{label} {name}\n"));
    }
    if more > 0 {
        text.push_str(&format!("  and {} more\n", count(more as u64)));
    }
}

fn told(cx: &Context, done: &Repaired, stored: &str, aside: &str) -> String {
    let style = cx.ui.out;
    let mut text = String::new();
    let name = |name: &String| show(name.as_ref());
    let mended = style.green("mended");
    lines(&mut text, &mended, done.mended.iter().map(name));
    let files = done.stored.iter().map(|path| cx.shown_absolute(path));
    let files: Vec<String> = files.collect();
    lines(&mut text, &style.green(stored), files.into_iter());
    lines(&mut text, &style.yellow(aside), done.aside.iter().map(name));
    let gone = done.forgotten.iter();
    let gone = gone.map(|id| format!("snapshot {id}: its record is gone"));
    let gone: Vec<String> = gone.collect();
    lines(&mut text, &style.red("lost"), gone.into_iter());
    if let Some(why) = &done.no_backup {
        text.push_str(&format!(
            "What still exists could not be backed up again: {why}\n"
        ));
    }
    text
}

/// Says what is lost, one line per file, and what is damaged without costing a file.
fn left(cx: &Context, damage: &[Damage], lost: &BTreeMap<PathBuf, Lost>, ids: &[Id]) -> String {
    let mut text = String::new();
    let row = |(path, lost): (&PathBuf, &Lost)| {
        let snapshots = plural(lost.snapshots, "snapshot");
        let good = match lost.good_in {
            Some(id) => format!("good in {}", id.prefix(ids)),
            None => "good in none".to_owned(),
        };
        format!("{}   in {snapshots}, {good}", cx.shown_absolute(path))
    };
    let rows: Vec<String> = lost.iter().map(row).collect();
    let label = cx.ui.out.red("lost");
    lines(&mut text, &label, rows.into_iter());
    let listings = damage.iter().filter(|damage| is_listing(damage));
    for (path, lost) in verify::lost_files(listings.flat_map(|damage| &damage.lost)) {
        let path = cx.shown_absolute(&path);
        let snapshots = plural(lost.snapshots, "snapshot");
        text.push_str(&format!(
            "{label} the list of files of {path}   in {snapshots}: nothing can be restored from there\n"
        ));
    }
    let others = damage.iter().filter(|damage| damage.lost.is_empty());
    let others = others.map(|d| format!("{}: {}", show(d.name.as_ref()), d.reason));
    let others: Vec<String> = others.collect();
    lines(&mut text, &cx.ui.out.red("damaged"), others.into_iter());
    if !lost.is_empty() {
        let files = plural(lost.len() as u64, "file");
        text.push_str(&format!(
            "{files} cannot be restored from these snapshots (exit 3). Other versions: bdr history PATH\n"
        ));
    }
    text
}

/// Names the snapshots of which something is lost for good, for whoever wants to hear no more of it.
fn worse(damage: &[Damage], ids: &[Id]) -> String {
    let lost = damage.iter().flat_map(|damage| &damage.lost);
    let snapshots: BTreeSet<SnapshotId> = lost.map(|lost| lost.snapshot).collect();
    if snapshots.is_empty() || snapshots.len() > NAMED {
        return String::new();
    }
    let names: Vec<String> = snapshots.iter().map(|id| id.prefix(ids)).collect();
    format!(
        "To do without these snapshots: bdr forget {}\n",
        names.join(" ")
    )
}

fn tell_plan(
    cx: &Context,
    repo: &Repository,
    first: &VerifyReport,
    plan: &RepairPlan,
    done: &Repaired,
) -> Result<u8, Failure> {
    let mut would = Repaired {
        mended: done.mended.clone(),
        aside: plan.set_aside(),
        ..Repaired::default()
    };
    let found = plan.found_again().map(|(path, _)| path.to_path_buf());
    would.stored.extend(found);
    let mut lost = lost_files(&first.damage);
    lost.retain(|path, _| !would.stored.contains(path));
    let code = code_of(first);
    if cx.ui.json {
        cx.ui
            .document("repair", code, &data(&would, first, &lost, true))?;
        return Ok(code);
    }
    let mut text = told(cx, &would, "would store again", "would set aside");
    text.push_str(&left(cx, &first.damage, &lost, &repo.snapshot_ids()?));
    text.push_str(match first.damage.is_empty() {
        true => "Nothing is damaged.\n",
        false => {
            "Nothing was changed. To do it, back up what is still lost, and verify: bdr repair\n"
        }
    });
    cx.ui.data(&text)?;
    Ok(code)
}

fn data(
    done: &Repaired,
    last: &VerifyReport,
    lost: &BTreeMap<PathBuf, Lost>,
    dry_run: bool,
) -> RepairDocument {
    let file = |(path, lost): (&PathBuf, &Lost)| LostFor::new(path, lost.snapshots, lost.good_in);
    RepairDocument {
        dry_run,
        mended: done.mended.clone(),
        stored: done.stored.iter().map(|path| FileAt::new(path)).collect(),
        set_aside: done.aside.clone(),
        forgotten: done.forgotten.iter().map(ToString::to_string).collect(),
        no_backup: done.no_backup.clone(),
        lost: lost.iter().map(file).collect(),
        ..RepairDocument::new(last)
    }
}
