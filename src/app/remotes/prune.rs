//! What a destination's own retention does not keep.

use std::path::{Path, PathBuf};

use bdr::disk::store::Location;
use bdr::model::config::Remote;
use bdr::model::retention::Policy;
use bdr::remote::Destination;
use bdr::remote::crypt::Encryption;
use bdr::remote::ledger::{At, Ledger, Machine, Purged};
use bdr::remote::prune::{Last, Plan, PruneOptions, PruneReport, look};
use bdr::remote::push::{Doubt, Link, PushOptions};
use bdr::repo::Repository;
use chrono::TimeDelta;

use super::{Far, PATIENCE, check_encryption, directory};
use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::identities::{KeyArgs, Opener};
use crate::app::prune::local;
use crate::app::signers;

/// How long what is not needed any more waits: a reader that began before can finish.
const WAIT: TimeDelta = TimeDelta::days(1);

/// How to prune a destination.
pub(crate) struct Wanted<'a> {
    pub(crate) policy: Option<Policy>,
    pub(crate) identity: &'a [PathBuf],
    /// A person asked for it.
    pub(crate) by_hand: bool,
}

/// Prunes one destination, if `agree` says so of the plan, and remembers what came of it.
pub(crate) fn prune_at(
    cx: &Context,
    repo: &Repository,
    remote: &Remote,
    wanted: &Wanted<'_>,
    agree: impl FnOnce(&Plan) -> Result<bool, Failure>,
) -> Result<(Plan, Option<PruneReport>), Failure> {
    let dir = directory(cx, repo.id()).join(&remote.name);
    let mut last = Last::read(&dir, &remote.url).unwrap_or_default();
    last.url.clone_from(&remote.url);
    last.first.get_or_insert(cx.now);
    last.tried = Some(cx.now);
    let mut was_asked = false;
    let done = try_prune(cx, (repo, &dir), remote, wanted, |plan| {
        was_asked = true;
        agree(plan)
    });
    match &done {
        Ok((plan, Some(report))) => last.note(plan, report, cx.now),
        // Only looked at.
        Ok((_, None)) => return done,
        Err(_) if was_asked && wanted.by_hand => return done,
        Err(failure) => last.failed = Some(failure.message()),
    }
    // What was done is done: this is only what `bdr status` says of it.
    let _ = last.write(&dir);
    done
}

fn try_prune(
    cx: &Context,
    (repo, dir): (&Repository, &Path),
    remote: &Remote,
    wanted: &Wanted<'_>,
    agree: impl FnOnce(&Plan) -> Result<bool, Failure>,
) -> Result<(Plan, Option<PruneReport>), Failure> {
    let (machine, encryption) = pushed(cx, (repo, dir), remote)?;
    let keys = KeyArgs {
        identity: wanted.identity.to_vec(),
        passphrase_file: None,
    };
    let identities = match Opener::new(cx, &remote.name, &keys).identities() {
        // By itself, bdr asks for no passphrase; and in the clear nobody needs a key.
        Err(_) if !wanted.by_hand => signers::identities(cx)?,
        _ if matches!(encryption, Encryption::None) => signers::identities(cx)?,
        identities => identities?,
    };
    let far = Far {
        remote: remote.clone(),
    };
    let destination = Destination::new(far.store(cx)?, &remote.name, machine.id);
    let mut ledger = Ledger::open(dir, PATIENCE)?;
    // Under the lock: a push may have ended meanwhile.
    let mut at = At::read(dir).unwrap_or_default();
    let cache = cx.places.cache.join("remote").join(machine.id.to_string());
    let options = PruneOptions {
        push: PushOptions {
            now: cx.now,
            host: cx.host.clone(),
            encryption: &encryption,
            check: false,
            doubt: Doubt::read(dir, Location::parse(&remote.url)?.service, false),
        },
        policy: wanted.policy.clone(),
        zone: &local,
        wait: WAIT,
        eras: at.eras.iter().skip(1).map(|era| era.since - 1).collect(),
        insist: wanted.by_hand,
        cache: &cache,
    };
    let progress = cx.progress();
    let pruning = look(
        Link {
            repo,
            destination: &destination,
            machine: &machine,
            ledger: &mut ledger,
        },
        &options,
        identities,
        &progress,
    )?;
    let plan = pruning.plan().clone();
    if !agree(&plan)? {
        return Ok((plan, None));
    }
    let report = pruning.apply()?;
    if let Some(number) = report.number {
        at.number = number;
        at.newest = report.newest;
        at.snapshots = report.held;
        at.bytes = report.held_bytes;
        let _ = at.write(dir);
    }
    Ok((plan, Some(report)))
}

/// Returns who pushed to a destination, and how, as it is configured now.
fn pushed(
    cx: &Context,
    (repo, dir): (&Repository, &Path),
    remote: &Remote,
) -> Result<(Machine, Encryption), Failure> {
    let at = At::read(dir).filter(|at| at.number > 0 && at.url == remote.url);
    let (Some(at), Some(machine)) = (at, Machine::known(&directory(cx, repo.id()))) else {
        return Err(Failure::usage(
            format!("this machine has pushed nothing to `{}` yet", remote.name),
            &format!("bdr push {}", remote.name),
        ));
    };
    let encryption = match remote.recipients.is_empty() {
        true => Encryption::None,
        false => Encryption::to(&remote.recipients)?.after(at.before(&remote.recipients), false),
    };
    check_encryption(remote, &at, &encryption)?;
    if at.is_for_others(&remote.recipients) && !remote.recipients.is_empty() {
        // The first record for others says everything, and their keys come before it.
        return Err(Failure::usage(
            format!(
                "the recipients of `{}` were changed since the last push",
                remote.name
            ),
            &format!("bdr push {}", remote.name),
        ));
    }
    Ok((machine, encryption))
}

/// Prunes a destination by itself, if the configuration asks for it, something has waited, or a push has replaced what should not be there: once a
/// day. What fails is remembered and shown by `bdr status`.
pub(super) fn prune_automatically(cx: &Context, repo: &Repository, remote: &Remote) {
    let dir = directory(cx, repo.id()).join(&remote.name);
    let last = Last::read(&dir, &remote.url).unwrap_or_default();
    // The clock may have been ahead.
    let tried = last.tried.filter(|tried| *tried <= cx.now);
    let since = |span: TimeDelta| tried.is_none_or(|tried| cx.now - tried >= span);
    let has_waited = last.next.is_some_and(|next| next <= cx.now) && since(TimeDelta::hours(1));
    let has_failed = last.failed.is_some() && since(TimeDelta::hours(1));
    // What was replaced there, because it should never have been stored, has to go.
    let is_due = |purged: Purged| {
        let is_new = tried.is_none_or(|tried| tried <= purged.at);
        is_new || has_failed || since(TimeDelta::hours(23))
    };
    let is_purged = Purged::read(&dir).is_some_and(is_due);
    if !(has_waited || is_purged || remote.keep.is_some() && since(TimeDelta::hours(23))) {
        return;
    }
    let wanted = Wanted {
        policy: remote.keep.clone(),
        identity: &[],
        by_hand: false,
    };
    let _ = prune_at(cx, repo, remote, &wanted, |_| Ok(true));
}
