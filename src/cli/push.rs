//! `bdr push`, `bdr machines`.

use bdr::base::id::Id;
use bdr::base::units::size;
use bdr::model::config::Remote;
use bdr::remote::Destination;
use bdr::remote::destination::machines;
use bdr::remote::push::PushReport;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::{
    MachineDocument, MachinesDocument, MachinesForgottenDocument, PushDocument, PushedDocument,
};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::identities::{KeyArgs, Opener};
use crate::app::remotes::{Far, own_machine, push_to};
use crate::app::signers;
use crate::ui::table::table;
use crate::ui::{plural, when::age};

/// Push what is new to the destinations
///
/// What is there is not sent again, and what was sent before an interruption neither. Each destination is served, whatever happens
/// at the others; the exit code is 3 if one failed. Runs automatically after backups, where a schedule is installed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr push                  to all destinations
  bdr push offsite
  bdr push --check          compare with a listing first, and send again what is missing there")]
pub(crate) struct PushArgs {
    /// Destinations (bdr remote list); all if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Compare with a listing first, and send again what is missing
    #[arg(long)]
    check: bool,
}

pub(crate) fn push(cx: &Context, args: &PushArgs) -> Result<u8, Failure> {
    let remotes: Vec<&Remote> = match args.names.is_empty() {
        true => cx.config.remotes.iter().collect(),
        false => {
            let named = args.names.iter().map(|name| cx.config.remote(name));
            named.collect::<Result<_, _>>()?
        }
    };
    if remotes.is_empty() {
        return Err(Failure::usage(
            "there is no destination yet",
            "bdr remote add NAME URL",
        ));
    }
    let repo = cx.repository()?;
    let (mut documents, mut lines, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for remote in &remotes {
        match push_to(cx, &repo, remote, args.check) {
            Ok(report) => {
                lines.push(words(&remote.name, &report));
                documents.push(PushedDocument::new(&remote.name, Ok(&report)));
            }
            Err(failure) => {
                let said = (failure.message(), failure.hint());
                documents.push(PushedDocument::new(&remote.name, Err(said)));
                failed.push(failure);
            }
        }
        if cx.is_stopped() {
            break;
        }
    }
    let is_partial = |document: &PushedDocument| document.is_partial();
    let code = match (failed.len(), remotes.len()) {
        (0, _) if documents.iter().any(is_partial) => exit::PARTIAL,
        (0, _) => exit::OK,
        (n, all) if n == all => failed.last().map_or(exit::FAILURE, Failure::code),
        _ => exit::PARTIAL,
    };
    if cx.ui.json {
        let data = PushDocument { remotes: documents };
        cx.ui.document("push", code, &data)?;
        return Ok(code);
    }
    for line in lines {
        cx.ui.report(&format!("{line}\n"))?;
    }
    for failure in &failed {
        failure.tell(&cx.ui);
    }
    Ok(code)
}

fn words(name: &str, report: &PushReport) -> String {
    let held = plural(report.held, "snapshot");
    let mut line = match report.number {
        None => format!("{name}: nothing new; {held} there"),
        Some(_) => {
            let new = plural(report.snapshots, "snapshot");
            let bytes = size(report.bytes);
            format!("{name}: pushed {new}, {bytes}; {held} there")
        }
    };
    if report.mended > 0 {
        let verb = if report.mended == 1 { "was" } else { "were" };
        line.push_str(&format!(
            " ({} {verb} missing or damaged there, and whole again)",
            plural(report.mended, "file")
        ));
    }
    if report.lost > 0 {
        line.push_str(&format!(
            "\n  {} of older backups missing or damaged there, and not here any more: bdr verify --remote {name}",
            plural(report.lost, "file")
        ));
    }
    if report.waiting > 0 {
        line.push_str(&format!(
            "\n  {} not yet: files that a guard kept are not packed (bdr settle)",
            plural(report.waiting, "snapshot")
        ));
    }
    if !report.strangers.is_empty() {
        line.push_str(&format!(
            "\n  {} there that this machine has not signed: somebody else wrote there (bdr verify --remote {name})",
            plural(report.strangers.len() as u64, "record")
        ));
    }
    if report.replaces {
        line.push_str(
            "\n  What was found to be secret is replaced there. The first push after a day deletes the old form",
        );
    }
    if report.unreadable > 0 {
        line.push_str(&format!(
            "\n  {} cannot be read here, and is not pushed: bdr verify",
            plural(report.unreadable, "snapshot")
        ));
    }
    line
}

/// List the machines that push to a destination
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr machines
  bdr machines s3://bucket/backups --identity key.txt
  bdr ls latest --from offsite --machine laptop")]
pub(crate) struct MachinesArgs {
    /// A destination's name or URL; all configured ones if there is none
    #[arg(value_name = "NAME|URL")]
    places: Vec<String>,
    /// Forget who signs what a machine pushes: the next sync with it is the first again
    #[arg(long, value_name = "MACHINE", conflicts_with = "places")]
    forget: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

fn forget(cx: &Context, word: &str) -> Result<u8, Failure> {
    let gone = signers::forget(cx, word)?;
    if gone.is_empty() {
        return Err(Failure::usage(
            format!(
                "no sync was done with a machine `{}`",
                bdr::base::path::show(word.as_ref())
            ),
            "bdr machines lists them, by id and name",
        ));
    }
    if cx.ui.json {
        let data = MachinesForgottenDocument::new(&gone);
        cx.ui.document("machines.forget", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    for one in &gone {
        let host = bdr::base::path::show(one.host.as_ref());
        let (id, print) = (one.machine, one.signer.fingerprint());
        cx.ui
            .report(&format!("Forgotten: {host}, {id}, signing with {print}.\n"))?;
    }
    Ok(exit::OK)
}

pub(crate) fn list_machines(cx: &Context, args: &MachinesArgs) -> Result<u8, Failure> {
    if let Some(word) = &args.forget {
        return forget(cx, word);
    }
    let all = cx.config.remotes.iter().map(|remote| remote.name.clone());
    let places: Vec<String> = match args.places.is_empty() {
        true => all.collect(),
        false => args.places.clone(),
    };
    if places.is_empty() {
        return Err(Failure::usage(
            "there is no destination yet",
            "bdr machines URL, or bdr remote add NAME URL",
        ));
    }
    let own = own_machine(cx);
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for place in &places {
        let far = Far::find(cx, place)?;
        let look = || -> Result<Vec<MachineDocument>, Failure> {
            let store = far.store(cx)?;
            let ids = machines(&*store, far.shown())?;
            let opener = Opener::new(cx, &far.remote.name, &args.key);
            let each = ids.iter().map(|id| {
                let destination = Destination::new(std::sync::Arc::clone(&store), far.shown(), *id);
                about(cx, &far, &destination, own, &opener)
            });
            each.collect()
        };
        match look() {
            Ok(documents) => found.extend(documents),
            Err(failure) => failed.push(failure),
        }
    }
    let code = match (failed.first(), found.is_empty()) {
        (None, _) => exit::OK,
        (Some(failure), true) => failure.code(),
        (Some(_), false) => exit::PARTIAL,
    };
    if cx.ui.json {
        let data = MachinesDocument { machines: found };
        cx.ui.document("machines", code, &data)?;
        return Ok(code);
    }
    let rows: Vec<Vec<String>> = found.iter().map(|machine| row(cx, machine)).collect();
    let mut text = table(&rows, "lllrll").join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    cx.ui.data(&text)?;
    for failure in &failed {
        failure.tell(&cx.ui);
    }
    if found.is_empty() && failed.is_empty() {
        cx.ui.say("Nobody has pushed there yet: bdr push");
    }
    Ok(code)
}

fn about(
    cx: &Context,
    far: &Far,
    destination: &Destination,
    own: Option<Id>,
    opener: &Opener<'_>,
) -> Result<MachineDocument, Failure> {
    let id = destination.machine();
    let pushes = destination.pushes(0)?;
    let newest = pushes
        .last()
        .map(|push| destination.head(*push))
        .transpose()?;
    let (held, error) = match opener.held(destination) {
        Ok(held) => (held, None),
        Err(failure) => (None, Some(failure.message())),
    };
    let snapshots = held.as_ref().map(|held| held.snapshots());
    let signer = held.as_ref().and_then(|held| held.all.signer);
    let known = signers::identities(cx)?.signer_of(id);
    let problems = held.iter().flat_map(|held| &held.problems);
    let unreadable: Vec<String> = problems.map(ToString::to_string).collect();
    for problem in &unreadable {
        cx.ui.warn(&format!("bdr: {}: {problem}", far.shown()));
    }
    Ok(MachineDocument {
        remote: far.shown().to_owned(),
        machine: id.to_string(),
        is_this: own == Some(id),
        host: held.map(|held| held.all.host),
        pushes: pushes.len() as u64,
        pushed: newest.map(|(head, _)| head.time.to_rfc3339()),
        snapshots,
        signer: signer.map(|signer| signer.to_string()),
        fingerprint: signer.map(|signer| signer.fingerprint()),
        signer_known: signer.is_some() && signer == known,
        unreadable,
        error,
    })
}

fn row(cx: &Context, machine: &MachineDocument) -> Vec<String> {
    let pushed = machine.pushed.as_ref().and_then(|time| time.parse().ok());
    let note = match (&machine.error, machine.is_this) {
        (Some(_), _) => "encrypted: --identity FILE".to_owned(),
        (None, true) => "this machine".to_owned(),
        (None, false) if machine.signer_known => "synced before".to_owned(),
        (None, false) => String::new(),
    };
    vec![
        machine.machine.clone(),
        // What another machine calls itself may be anything.
        bdr::base::path::show(machine.host.as_deref().unwrap_or_default().as_ref()),
        pushed.map_or_else(String::new, |time| age(cx.now, time)),
        machine
            .snapshots
            .map_or_else(String::new, |n| plural(n, "snapshot")),
        machine.fingerprint.clone().unwrap_or_default(),
        note,
    ]
}
