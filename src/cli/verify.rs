//! `bdr verify`.

use std::ffi::OsString;
use std::path::Path;

use bdr::base::id::Id;
use bdr::base::units::size;
use bdr::care::verify::{VerifyLevel, VerifyReport, verify};
use bdr::model::schedule::Job;
use bdr::repo::origin::Origin;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::VerifyDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::identities::KeyArgs;
use crate::app::jobs;
use crate::app::pick;
use crate::app::verify::{Lost, lost_files, remember_part, scratch};
use crate::ui::{self, count, plural};

mod elsewhere;

/// Check that stored data can be restored
///
/// Lists each damaged file once, with the snapshot that still has a good copy. The exit code is 4 if there is damage; `bdr repair` mends it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr verify                      read and check every byte
  bdr verify --level quick        names and sizes only
  bdr verify latest --level restore
  bdr verify --remote offsite --level quick")]
pub(crate) struct VerifyArgs {
    /// Check this snapshot only (id, `latest`, `latest~2`, `latest:full`)
    snapshot: Option<OsString>,
    /// How thoroughly: names and sizes, every byte, or a real restore into a scratch directory
    #[arg(
        long,
        value_enum,
        default_value = "full",
        value_name = "quick|full|restore",
        hide_possible_values = true
    )]
    level: LevelArg,
    /// Check a destination instead: its name, or its URL
    #[arg(long, value_name = "NAME|URL", conflicts_with = "snapshot")]
    remote: Option<String>,
    /// Whose backups, if several machines push there: its id or name (bdr machines)
    #[arg(long, value_name = "MACHINE", requires = "remote")]
    machine: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LevelArg {
    Quick,
    Full,
    Restore,
}

impl LevelArg {
    fn of(self) -> VerifyLevel {
        match self {
            Self::Quick => VerifyLevel::Quick,
            Self::Full => VerifyLevel::Full,
            Self::Restore => VerifyLevel::Restore,
        }
    }
}

pub(crate) fn run(cx: &Context, args: &VerifyArgs) -> Result<u8, Failure> {
    if let Some(place) = &args.remote {
        return elsewhere::run(cx, args, place);
    }
    if args.key.is_given() {
        return Err(Failure::usage(
            "a key opens a destination, and none was named",
            "add --remote NAME, or --remote URL",
        ));
    }
    let repo = cx.repository()?;
    let snapshots = repo.all_snapshots()?;
    let only = args
        .snapshot
        .as_ref()
        .map(|word| pick::one(cx, &snapshots, word))
        .transpose()?;
    let only = only.map(|snapshot| snapshot.id);
    let level = args.level.of();
    let word = match args.level {
        LevelArg::Quick => "quick",
        LevelArg::Full => "full",
        LevelArg::Restore => "restore",
    };
    // Next to the cache rather than in /tmp, which is often small and in memory.
    let scratch = match args.level {
        LevelArg::Restore => Some(scratch(repo.cache())?),
        _ => None,
    };
    let scratch = scratch.as_ref().map(tempfile::TempDir::path);
    let look = || Ok(verify(&repo, only, level, scratch, &cx.progress())?);
    let report = match (only, args.level) {
        (None, LevelArg::Full | LevelArg::Restore) => {
            jobs::remember(cx, Job::Verify, "user", look)?.0
        }
        _ => {
            let report = look()?;
            remember_part(cx, &report);
            report
        }
    };
    let code = if report.damage.is_empty() {
        exit::OK
    } else {
        exit::DAMAGED
    };
    let ids = snapshots.ids();
    if cx.ui.json {
        cx.ui
            .document("verify", code, &VerifyDocument::new(&report, word))?;
    } else if report.damage.is_empty() {
        cx.ui.report(&format!(
            "{}{}\n{}",
            healed(cx, &report),
            good(&report, args.level),
            origins(&report, &ids)
        ))?;
    } else {
        cx.ui.data(&format!(
            "{}{}{}",
            healed(cx, &report),
            bad(cx, &report, &ids),
            origins(&report, &ids)
        ))?;
    }
    Ok(code)
}

/// Says what was missing or damaged and is whole again.
fn healed(cx: &Context, report: &VerifyReport) -> String {
    const SHOWN: usize = 20;
    let word = cx.ui.out.green("mended");
    let names = report.healed.iter().take(SHOWN);
    let mut text: String = names
        .map(|name| format!("{word} {}\n", bdr::base::path::show(name.as_ref())))
        .collect();
    if report.healed.len() > SHOWN {
        let more = count((report.healed.len() - SHOWN) as u64);
        text.push_str(&format!("  and {more} more\n"));
    }
    text
}

fn good(report: &VerifyReport, level: LevelArg) -> String {
    let snapshots = plural(report.snapshots, "snapshot");
    let what = match level {
        LevelArg::Quick => format!(
            "{snapshots} complete, {} by name and size",
            plural(report.packs, "pack")
        ),
        LevelArg::Full => format!("{snapshots} good, {} read and checked", size(report.bytes)),
        LevelArg::Restore => format!("{snapshots} restored and compared, {}", size(report.bytes)),
    };
    format!("{what}, in {}.", ui::elapsed(report.elapsed))
}

/// Says which snapshots this machine made, if not all of them.
fn origins(report: &VerifyReport, ids: &[Id]) -> String {
    const SHOWN: usize = 20;
    let of = |wanted: Origin| {
        let found = report
            .origins
            .iter()
            .filter(move |(_, origin)| *origin == wanted);
        found.map(|(id, _)| *id).collect::<Vec<Id>>()
    };
    let here = of(Origin::Here).len();
    let mut text = String::new();
    if let Some(why) = &report.key_refused {
        text.push_str(&format!(
            "Cannot tell which snapshots this machine made, and new ones are not bound to it: {why}\n"
        ));
        return text;
    }
    if here == report.origins.len() {
        return text;
    }
    text.push_str(&match report.has_key {
        true => format!(
            "Made by this machine: {} of {}.\n",
            count(here as u64),
            plural(report.origins.len() as u64, "snapshot")
        ),
        false => "This machine has no key to tell which snapshots it made: it made none yet, or the key was lost.\n".to_owned(),
    });
    for (origin, what) in [
        (
            Origin::Elsewhere,
            "bound with a key that is not here (of another machine, or one that was lost)",
        ),
        (
            Origin::Before,
            "from before snapshots were bound to a machine",
        ),
        (
            Origin::Unbound,
            "not bound, though older ones are: made by an older bdr, or forged",
        ),
    ] {
        let which = of(origin);
        if which.is_empty() {
            continue;
        }
        let names: Vec<String> = which.iter().take(SHOWN).map(|id| id.prefix(ids)).collect();
        let more = match which.len() > SHOWN {
            true => format!(" and {} more", count((which.len() - SHOWN) as u64)),
            false => String::new(),
        };
        text.push_str(&format!(
            "  {} {what}: {}{more}\n",
            count(which.len() as u64),
            names.join(" ")
        ));
    }
    text
}

fn bad(cx: &Context, report: &VerifyReport, ids: &[Id]) -> String {
    const SHOWN: usize = 20;
    let mut text = String::new();
    for damage in &report.damage {
        let name = bdr::base::path::show(damage.name.as_ref());
        text.push_str(&format!(
            "{} {name}: {}\n",
            cx.ui.out.red("damaged"),
            damage.reason
        ));
        let files = lost_files(&damage.lost);
        for (path, lost) in files.iter().take(SHOWN) {
            text.push_str(&format!("  {}\n", lost_line(cx, path, lost, ids)));
        }
        if files.len() > SHOWN {
            let more = count((files.len() - SHOWN) as u64);
            text.push_str(&format!("  and {more} more\n"));
        }
    }
    let lost = report.damage.iter().flat_map(|damage| &damage.lost);
    let lost = lost_files(lost);
    let other = lost.values().filter(|lost| lost.good_in.is_some()).count();
    text.push_str(&format!(
        "{} damaged; {} affected, {} of them good in another snapshot (exit 4).\n",
        plural(report.damage.len() as u64, "object"),
        plural(lost.len() as u64, "file"),
        count(other as u64),
    ));
    text.push_str("To mend what can be mended: bdr repair\n");
    let records = |dir: &str| {
        let names = report
            .damage
            .iter()
            .filter_map(|d| d.name.strip_prefix(dir));
        let ids = names.filter_map(|name| name.split('.').next()?.rsplit('-').next());
        let ids: Vec<String> = ids.take(SHOWN).map(str::to_lowercase).collect();
        ids.join(" ")
    };
    let (snapshots, operations) = (records("snapshots/"), records("operations/"));
    if !snapshots.is_empty() {
        text.push_str(&format!(
            "Or by hand: bdr backup --full, then bdr forget {snapshots}\n"
        ));
    }
    if !operations.is_empty() {
        text.push_str(&format!("Or by hand: bdr op forget {operations}\n"));
    }
    text
}

fn lost_line(cx: &Context, path: &Path, lost: &Lost, ids: &[Id]) -> String {
    let path = cx.shown_absolute(path);
    let snapshots = match lost.snapshots {
        1 => lost.last.prefix(ids),
        more => plural(more, "snapshot"),
    };
    match lost.good_in {
        Some(other) => format!(
            "{path}   lost in {snapshots}, good in {}",
            other.prefix(ids)
        ),
        None => format!("{path}   lost in {snapshots}"),
    }
}
