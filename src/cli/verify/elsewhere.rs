//! `bdr verify --remote`.

use bdr::base::id::Id;
use bdr::base::units::size;
use bdr::care::verify::verify;
use bdr::remote::Destination;
use bdr::remote::check::{CheckLevel, CheckReport, check};
use bdr::remote::ledger::At;
use bdr::remote::push::Doubt;

use super::{LevelArg, VerifyArgs, bad, good};
use crate::app::context::Context;
use crate::app::documents::RemoteVerifyDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::identities::Opener;
use crate::app::remotes::{Far, directory, own_machine};
use crate::app::signers;
use crate::app::verify::scratch;
use crate::ui::{count, plural};

/// Checks a destination: without a key what is stored there, with one everything that can be read.
pub(super) fn run(cx: &Context, args: &VerifyArgs, place: &str) -> Result<u8, Failure> {
    let far = Far::find(cx, place)?;
    let machine = far.machine(cx, args.machine.as_deref(), &args.key)?;
    let destination = Destination::new(far.store(cx)?, far.shown(), machine);
    let level = match args.level {
        LevelArg::Quick => CheckLevel::Listed,
        LevelArg::Full | LevelArg::Restore => CheckLevel::Digests,
    };
    let opener = Opener::new(cx, &far.remote.name, &args.key);
    let known = match args.key.is_given() {
        true => opener.identities()?,
        false => signers::identities(cx)?,
    };
    let signer = known.signer_of(machine);
    let report = check(&destination, level, signer, &cx.progress())?;
    let lacking = lacking(
        cx,
        &far,
        machine == own_machine(cx).unwrap_or(machine),
        &report,
    );
    let opened = match !args.key.is_given() || level == CheckLevel::Listed {
        true => None,
        false => Some(inside(cx, &far, args)?),
    };
    let damaged = report.is_damaged()
        || lacking > 0
        || opened
            .as_ref()
            .is_some_and(|(report, _)| !report.damage.is_empty());
    seen(cx, &far, machine);
    note_damaged(cx, &far, machine, &report);
    let code = if damaged { exit::DAMAGED } else { exit::OK };
    if cx.ui.json {
        let inside = opened.as_ref().map(|(report, _)| report);
        let data = RemoteVerifyDocument::new(far.shown(), machine, &report, lacking, inside);
        cx.ui.document("verify.remote", code, &data)?;
        return Ok(code);
    }
    let mut text = words(&far, &report, level, lacking);
    match &opened {
        Some((report, _)) if report.damage.is_empty() => {
            text.push_str(&format!("Opened: {}\n", good(report, args.level)));
        }
        Some((report, ids)) => text.push_str(&bad(cx, report, ids)),
        None => text.push_str(
            "Without a key: what is stored there is as it was written. To open it as well: --identity FILE\n",
        ),
    }
    if damaged {
        // Only the machine whose backups these are has what is lost, under the name that it knows.
        text.push_str(&match &*far.remote.name {
            "" => "To send again what is missing or damaged, on the machine that pushed it: bdr push NAME --check\n".to_owned(),
            name => format!("To send again what is missing or damaged: bdr push {name} --check\n"),
        });
    }
    cx.ui.report(&text)?;
    Ok(code)
}

/// Returns how many pushes of this machine the destination no longer shows: somebody removed them, or
/// shows an old state.
fn lacking(cx: &Context, far: &Far, is_own: bool, report: &CheckReport) -> u64 {
    let id = bdr::repo::id_at(&cx.places.repository).filter(|_| is_own);
    let known = id.and_then(|id| At::read(&directory(cx, id).join(&far.remote.name)));
    let known = known.filter(|at| at.url == far.remote.url);
    let there = report.newest.map_or(0, |(number, _)| number);
    known.map_or(0, |at| at.number.saturating_sub(there))
}

/// Notes that a person was told of what somebody else wrote there.
fn seen(cx: &Context, far: &Far, machine: Id) {
    let own = bdr::repo::id_at(&cx.places.repository).filter(|_| own_machine(cx) == Some(machine));
    let Some(dir) = own.map(|id| directory(cx, id).join(&far.remote.name)) else {
        return;
    };
    let at = At::read(&dir).filter(|at| at.url == far.remote.url);
    if let Some(mut at) = at.filter(|at| !at.strangers.is_empty()) {
        at.strangers.clear();
        // It is only what `bdr status` says.
        let _ = at.write(&dir);
    }
}

/// Notes what was found damaged, so that the next push sends it again.
fn note_damaged(cx: &Context, far: &Far, machine: Id, report: &CheckReport) {
    let own = bdr::repo::id_at(&cx.places.repository).filter(|_| own_machine(cx) == Some(machine));
    let Some(dir) = own.map(|id| directory(cx, id).join(&far.remote.name)) else {
        return;
    };
    let is_pushed = At::read(&dir).is_some_and(|at| at.url == far.remote.url);
    let damaged: Vec<String> = report.faults.iter().map(|(name, _)| name.clone()).collect();
    if is_pushed && !damaged.is_empty() {
        // Without it, this machine compares sizes.
        let _ = Doubt::note(&dir, &damaged);
    }
}

type Inside = (bdr::care::verify::VerifyReport, Vec<bdr::base::id::Id>);

fn inside(cx: &Context, far: &Far, args: &VerifyArgs) -> Result<Inside, Failure> {
    let (repo, _) = far.read(cx, args.machine.as_deref(), &args.key)?;
    let scratch = match args.level {
        LevelArg::Restore => Some(scratch(repo.cache())?),
        _ => None,
    };
    let scratch = scratch.as_ref().map(tempfile::TempDir::path);
    let report = verify(&repo, None, args.level.of(), scratch, &cx.progress())?;
    Ok((report, repo.snapshot_ids()?))
}

fn pushes(number: u64) -> String {
    match number {
        1 => "1 push".to_owned(),
        number => format!("{} pushes", count(number)),
    }
}

fn words(far: &Far, report: &CheckReport, level: CheckLevel, lacking: u64) -> String {
    const SHOWN: usize = 20;
    let mut text = String::new();
    let how = match level {
        CheckLevel::Listed => "listed",
        CheckLevel::Digests => "read and checked",
    };
    text.push_str(&format!(
        "{}: {}, {}, {} {how}.\n",
        far.shown(),
        pushes(report.pushes),
        plural(report.objects, "object"),
        size(report.bytes)
    ));
    text.push_str(&match (report.signer, report.is_signer_known) {
        (Some(signer), true) => format!("Signed with {}, as it should be.\n", signer.fingerprint()),
        (Some(signer), false) => format!(
            "Signed with {}; this machine does not know whether that is right (bdr machines, there).\n",
            signer.fingerprint()
        ),
        (None, _) if report.newest.is_some() => "Not signed.\n".to_owned(),
        (None, _) => String::new(),
    });
    for (name, reason) in &report.records {
        text.push_str(&format!("damaged pushes/{name}: {reason}\n"));
    }
    for (name, fault) in report.faults.iter().take(SHOWN) {
        text.push_str(&format!("damaged {name}: {}\n", fault.word()));
    }
    if report.faults.len() > SHOWN {
        let more = count((report.faults.len() - SHOWN) as u64);
        text.push_str(&format!("  and {more} more\n"));
    }
    if lacking > 0 {
        text.push_str(&format!(
            "The destination does not show the last {} of this machine: they were removed, or an old state is shown.\n",
            pushes(lacking)
        ));
    }
    if !report.twins.is_empty() {
        text.push_str("Two machines push under one id: bdr remote reset, on one of them\n");
    }
    if report.unnamed > 0 {
        let how = match &*far.remote.name {
            "" => "on the machine that pushes there, bdr prune --remote NAME".to_owned(),
            name => format!("bdr prune --remote {name}"),
        };
        text.push_str(&format!(
            "{} ({}) that no push names: they wait to be removed, or were left by an interruption: {how}\n",
            plural(report.unnamed, "object"),
            size(report.unnamed_bytes),
        ));
    }
    text
}
