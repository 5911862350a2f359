//! `bdr clone`, `bdr pull`.

use std::path::Path;

use bdr::Error;
use bdr::base::path::{shell_path, show};
use bdr::base::units::size;
use bdr::disk::storage::{self, Storage};
use bdr::remote::clone::{self, CloneReport, MARKER};
use bdr::remote::reading::RemoteStorage;
use bdr::repo::Repository;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::CloneDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::identities::KeyArgs;
use crate::app::remotes::Far;
use crate::ui::plural;

/// Make a repository here from what was pushed to a destination
///
/// For a new machine, when the old one is gone. It needs nothing but the address, its credentials and the secret key. If it is
/// interrupted, run it again: what is here is not fetched again. Then `bdr restore latest` brings the files back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr clone s3://bucket/backups --identity key.txt
  bdr clone file:///mnt/disk/bdr --machine laptop
  bdr clone webdavs://user@host/backups --repository /srv/bdr --dry-run")]
pub(crate) struct CloneArgs {
    /// The destination: its URL, or its name
    #[arg(value_name = "URL|NAME")]
    place: String,
    #[command(flatten)]
    what: WhatArgs,
}

/// Fetch what this repository lacks from a destination
///
/// Snapshots that were pushed and then removed here come back, and so does what was lost here. Nothing that is here changes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr pull offsite --identity key.txt --dry-run
  bdr pull offsite --identity key.txt")]
pub(crate) struct PullArgs {
    /// The destination: its name, or its URL
    #[arg(value_name = "NAME|URL")]
    place: String,
    #[command(flatten)]
    what: WhatArgs,
}

#[derive(Debug, Args)]
struct WhatArgs {
    /// Whose backups, if several machines push there: its id or name (bdr machines)
    #[arg(long, value_name = "MACHINE")]
    machine: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
    /// Print what would be fetched; write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn clone(cx: &Context, args: &CloneArgs) -> Result<u8, Failure> {
    let dir = &cx.places.repository;
    let shown = show(dir.as_os_str());
    if dir.join("format.json").exists() {
        let far = Far::find(cx, &args.place);
        let place = far.map_or_else(|_| args.place.clone(), |far| far.shown().to_owned());
        let place = shell_path(Path::new(&place));
        return Err(Failure::usage(
            format!("there is a repository at {shown} already"),
            &format!(
                "bdr pull {place} adds what it lacks; or choose another place: --repository DIR"
            ),
        ));
    }
    let local = cx.storage(dir)?;
    let is_begun = matches!(local.size(MARKER), Ok(Some(_)));
    let is_empty = match local.list("") {
        Ok(found) => found.is_empty(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(Error::io("read", dir, error).into()),
    };
    if !is_begun && !is_empty {
        return Err(Failure::usage(
            format!("{shown} is not empty"),
            "choose another place: --repository DIR",
        ));
    }
    let (far, there, source) = open(cx, &args.place, &args.what)?;
    if args.what.dry_run {
        let plan = planned(&source, &*local)?;
        return tell(cx, "clone", (&there, &source), plan, &args.what, &far);
    }
    cx.check_place(dir, false)?;
    local.prepare()?;
    let marker = source.push().repository.to_string();
    match local.read(MARKER) {
        Ok(found) if found != marker.as_bytes() => {
            return Err(Failure::usage(
                format!("an interrupted clone of another repository is at {shown}"),
                "finish that one, or choose another place: --repository DIR",
            ));
        }
        Ok(_) => {}
        Err(_) => storage::put(&*local, MARKER, marker.as_bytes())
            .map_err(|e| Error::storage("write", MARKER, e))?,
    }
    let missing = clone::missing(&source, &*local)?;
    let report = clone::fetch(&source, &*local, &missing, &cx.progress())?;
    local
        .remove(MARKER)
        .map_err(|e| Error::storage("remove", MARKER, e))?;
    cx.launch_lifeboat(dir);
    cx.catch_up_lifeboat(dir);
    let repo = cx.private(Repository::open(local, &cx.places.cache)?);
    // For the index of packs, while somebody waits anyway.
    let _ = repo.refreshed_index();
    tell(cx, "clone", (&there, &source), report, &args.what, &far)
}

pub(crate) fn pull(cx: &Context, args: &PullArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let (far, there, source) = open(cx, &args.place, &args.what)?;
    if source.push().repository != repo.id() {
        return Err(Failure::usage(
            format!(
                "{} holds another repository than this machine's",
                far.shown()
            ),
            &format!(
                "bdr restore --from {} brings files from there; bdr clone makes a repository of its own",
                shell_path(Path::new(far.shown()))
            ),
        ));
    }
    if args.what.dry_run {
        let plan = planned(&source, repo.storage())?;
        return tell(cx, "pull", (&there, &source), plan, &args.what, &far);
    }
    repo.check_writable()?;
    let hold = repo.hold(std::time::Duration::from_secs(10))?;
    let missing = clone::missing(&source, repo.storage())?;
    let report = clone::fetch(&source, repo.storage(), &missing, &cx.progress())?;
    drop(hold);
    tell(cx, "pull", (&there, &source), report, &args.what, &far)
}

fn open(
    cx: &Context,
    place: &str,
    what: &WhatArgs,
) -> Result<(Far, Repository, std::sync::Arc<RemoteStorage>), Failure> {
    let far = Far::find(cx, place)?;
    let (there, source) = far.read(cx, what.machine.as_deref(), &what.key)?;
    Ok((far, there, source))
}

fn planned(source: &RemoteStorage, own: &dyn Storage) -> Result<CloneReport, Failure> {
    let missing = clone::missing(source, own)?;
    Ok(CloneReport {
        snapshots: missing
            .iter()
            .filter(|(name, _)| name.starts_with("snapshots/"))
            .count() as u64,
        files: missing.len() as u64,
        bytes: missing.iter().map(|(_, bytes)| bytes).sum(),
        problems: Vec::new(),
    })
}

fn tell(
    cx: &Context,
    verb: &str,
    (there, source): (&Repository, &RemoteStorage),
    mut report: CloneReport,
    what: &WhatArgs,
    far: &Far,
) -> Result<u8, Failure> {
    // What a push says that nobody can read here was not fetched either, however much it is.
    let unreadable = there.unreadable();
    let some_unread = !unreadable.is_empty();
    let some_lost = !report.problems.is_empty();
    report.problems.extend(unreadable);
    let code = match report.problems.is_empty() {
        true => exit::OK,
        false => exit::PARTIAL,
    };
    let push = source.push();
    if cx.ui.json {
        let about = (push.machine, &*push.host, push.repository);
        let traffic = source.destination().traffic();
        let data = CloneDocument::new(about, &report, traffic, what.dry_run);
        cx.ui.document(verb, code, &data)?;
        return Ok(code);
    }
    let whose = match push.host.is_empty() {
        true => push.machine.to_string(),
        false => bdr::base::path::show(push.host.as_ref()),
    };
    let amount = format!(
        "{}, {}",
        plural(report.snapshots, "snapshot"),
        size(report.bytes)
    );
    let mut text = match (what.dry_run, report.files) {
        (_, 0) if some_unread => format!(
            "Nothing is missing here of what could be read at {}.\n",
            far.shown()
        ),
        (_, 0) => format!("Nothing is missing here that {} has.\n", far.shown()),
        (true, _) => format!("Would fetch {amount} of {whose} from {}.\n", far.shown()),
        (false, _) => format!("Fetched {amount} of {whose} from {}.\n", far.shown()),
    };
    for (name, reason) in report.problems.iter().take(5) {
        text.push_str(&format!("  not fetched: {name}: {reason}\n"));
    }
    if some_lost {
        text.push_str("What needs that is not whole (exit 3): bdr verify\n");
    } else if some_unread {
        text.push_str("There may be newer backups than these (exit 3).\n");
    } else if verb == "clone" && !what.dry_run {
        text.push_str("See: bdr list · bring the files back: bdr restore latest\n");
    }
    cx.ui.report(&text)?;
    Ok(code)
}
