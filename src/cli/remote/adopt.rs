//! `bdr remote adopt`.

use std::sync::Arc;

use bdr::base::id::Id;
use bdr::base::path::show;
use bdr::remote::adopt::{Estate, look};
use bdr::remote::ledger::{At, Machine, forget};
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::{AdoptedDocument, RemoteAdoptDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::identities::{KeyArgs, Opener};
use crate::app::remotes::Far;
use crate::app::signers;
use crate::ui::{plural, prompt};

/// Go on with what another machine has pushed, because that one is gone
///
/// After `bdr clone` or `bdr restore` on a new machine: what the old one pushed is not sent again, and this machine may prune it.
/// All destinations are looked at. Do it only if the old machine pushes no more: of two that push as one, neither
/// can prune there. Machines that sync with the old one have to be told: bdr machines --forget.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr clone s3://bucket/backups --machine laptop --identity key.txt
  bdr remote add offsite s3://bucket/backups --recipient age1…
  bdr remote adopt laptop --identity key.txt
  bdr push")]
pub(crate) struct AdoptArgs {
    /// The machine that is gone: its id or name (bdr machines)
    #[arg(value_name = "MACHINE")]
    machine: String,
    #[command(flatten)]
    key: KeyArgs,
    /// Print what would be taken over; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// What the machine has at one destination.
struct Found {
    name: String,
    url: String,
    machine: Id,
    estate: Estate,
}

pub(super) fn adopt(cx: &Context, args: &AdoptArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let own = Machine::known(&cx.destinations(repo.id())).map(|own| own.id);
    let found = find(cx, args, repo.id(), own)?;
    let machine = found[0].machine;
    let document = RemoteAdoptDocument {
        machine: machine.to_string(),
        host: found[0].estate.host().to_owned(),
        old: own.map(|id| id.to_string()),
        dry_run: args.dry_run,
        remotes: found.iter().map(adopted).collect(),
    };
    if !agreed(cx, args, &found, own)? {
        return Ok(exit::PARTIAL);
    }
    if !args.dry_run {
        take(cx, found, repo.id())?;
    }
    if cx.ui.json {
        cx.ui.document("remote.adopt", exit::OK, &document)?;
    } else if !args.dry_run {
        cx.ui
            .report(&format!("This machine is {machine} now. Next: bdr push\n"))?;
    }
    Ok(exit::OK)
}

fn adopted(found: &Found) -> AdoptedDocument {
    AdoptedDocument {
        name: found.name.clone(),
        snapshots: found.estate.snapshots(),
        problems: found
            .estate
            .problems
            .iter()
            .map(ToString::to_string)
            .collect(),
    }
}

/// Returns what the machine has at the configured destinations.
fn find(
    cx: &Context,
    args: &AdoptArgs,
    repository: Id,
    own: Option<Id>,
) -> Result<Vec<Found>, Failure> {
    if cx.config.remotes.is_empty() {
        return Err(Failure::usage(
            "there is no destination yet",
            "bdr remote add NAME URL",
        ));
    }
    let (mut found, mut failed): (Vec<Found>, _) = (Vec::new(), None);
    for remote in &cx.config.remotes {
        let far = Far {
            remote: remote.clone(),
        };
        let opener = Opener::new(cx, &remote.name, &args.key);
        let id = match far.machine(cx, Some(&args.machine), &args.key) {
            Ok(id) if Some(id) == own => {
                return Err(Failure::usage(
                    format!("this machine pushes as {id} already"),
                    "bdr push",
                ));
            }
            Ok(id) => id,
            Err(failure) => {
                failed = Some(failure);
                continue;
            }
        };
        let store = Arc::clone(&far.store(cx)?);
        let destination = bdr::remote::Destination::new(store, &remote.name, id);
        let estate = opener.with(&destination, &|identities| look(&destination, identities))?;
        let Some(estate) = estate else {
            continue;
        };
        if estate.repository() != repository {
            return Err(Failure::usage(
                format!(
                    "what {} pushed to {} is another repository than the one of this machine",
                    show(args.machine.as_ref()),
                    remote.name
                ),
                &format!("make it this machine's first: bdr clone {}", remote.name),
            ));
        }
        if let Some(first) = found.first()
            && first.machine != id
        {
            let word = show(args.machine.as_ref());
            return Err(Failure::usage(
                format!(
                    "{word} is not the same machine at {} and {}",
                    first.name, remote.name
                ),
                &format!("name it by its id: {} or {id}", first.machine),
            ));
        }
        found.push(Found {
            name: remote.name.clone(),
            url: remote.url.clone(),
            machine: id,
            estate,
        });
    }
    match (found.is_empty(), failed) {
        (false, _) => Ok(found),
        (true, Some(failure)) => Err(failure),
        (true, None) => Err(Failure::usage(
            format!("{} has pushed nothing", show(args.machine.as_ref())),
            "bdr machines",
        )),
    }
}

/// Says what would happen, and asks.
fn agreed(
    cx: &Context,
    args: &AdoptArgs,
    found: &[Found],
    own: Option<Id>,
) -> Result<bool, Failure> {
    if !cx.ui.json {
        let mut text = String::new();
        for one in found {
            let there = plural(one.estate.snapshots(), "snapshot");
            let host = show(one.estate.host().as_ref());
            text.push_str(&format!("{}: {there} of {host}\n", one.name));
            for problem in &one.estate.problems {
                text.push_str(&format!("  {problem}\n"));
            }
        }
        if let Some(own) = own {
            text.push_str(&format!(
                "What this machine pushed until now, as {own}, stays there beside it.\n"
            ));
        }
        cx.ui.report(&text)?;
    }
    if args.dry_run || args.yes {
        return Ok(true);
    }
    if !cx.ui.can_ask {
        return Err(Failure::usage(
            "the old machine must push no more, and there is no terminal to ask on",
            "add --yes to do it, or --dry-run to preview it",
        ));
    }
    let question = "Is the old machine gone for good, and does this one go on in its place?";
    let is_agreed = prompt::confirm(question, false)?;
    if !is_agreed {
        cx.ui.warn("Nothing was changed.");
    }
    Ok(is_agreed)
}

fn take(cx: &Context, found: Vec<Found>, repository: Id) -> Result<(), Failure> {
    let dir = cx.destinations(repository);
    // What is known of destinations is about the id that this machine had.
    for remote in &cx.config.remotes {
        let place = dir.join(&remote.name);
        forget(&place)?;
        if At::read(&place).is_some() {
            At::default().write(&place)?;
        }
    }
    let mut is_first = true;
    for one in found {
        if std::mem::take(&mut is_first) {
            one.estate.heir(&dir)?;
            signers::forget(cx, &one.machine.to_string())?;
        }
        one.estate.take(&dir.join(&one.name), &one.url)?;
    }
    Ok(())
}
