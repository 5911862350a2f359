//! Finds the machines whose work is brought in, and does so by itself where that was asked for.

use bdr::base::id::Id;
use bdr::model::config::{Remote, Source};
use bdr::recover::sync::{self, SyncOptions};
use bdr::remote::sign::Signer;
use bdr::repo::Repository;

use super::context::Context;
use super::error::Failure;
use super::identities::KeyArgs;
use super::remotes::{Far, own_machine};
use super::signers::{self, Known};
use crate::ui::plural;

/// The other machine.
pub(crate) struct Other {
    pub(crate) machine: Id,
    pub(crate) host: String,
    pub(crate) far: Repository,
    /// Who signed what is there.
    pub(crate) signer: Option<Signer>,
}

impl Other {
    /// Finds it where `--from` says, else at the destination where it pushes.
    pub(crate) fn find(
        cx: &Context,
        with: &str,
        from: Option<&str>,
        keys: &KeyArgs,
    ) -> Result<Self, Failure> {
        let places: Vec<Far> = match from {
            Some(place) => vec![Far::find(cx, place)?],
            None => {
                let remotes = cx.config.remotes.iter();
                remotes
                    .map(|remote: &Remote| Far {
                        remote: remote.clone(),
                    })
                    .collect()
            }
        };
        let mut failed = None;
        for place in places {
            match place.read_other(cx, with, keys) {
                Ok((far, storage)) => {
                    let push = storage.push();
                    let host = match push.host.is_empty() {
                        true => push.machine.to_string(),
                        false => push.host.clone(),
                    };
                    return Ok(Self {
                        machine: push.machine,
                        host,
                        far,
                        signer: push.signer,
                    });
                }
                Err(failure) => failed = Some(failure),
            }
        }
        Err(failed.unwrap_or_else(|| {
            Failure::usage(
                "there is no destination yet where the other machine could push",
                "bdr remote add NAME URL, or --from URL",
            )
        }))
    }

    /// Makes sure that what is there comes from the machine that is meant. Returns what is to be
    /// remembered of it, if this is the first time; a wake-up refuses then, because nobody looks.
    pub(crate) fn vouched(&self, cx: &Context, by_hand: bool) -> Result<Option<Known>, Failure> {
        let host = bdr::base::path::show(self.host.as_ref());
        let Some(signer) = self.signer else {
            return Err(Failure::usage(
                format!(
                    "what {host} has pushed is not signed: an older bdr wrote it, or somebody else"
                ),
                "on that machine, with this version: bdr push",
            ));
        };
        let known = signers::all(cx)?;
        // Reading has compared the signatures.
        if known.iter().any(|one| one.machine == self.machine) {
            return Ok(None);
        }
        if let Some(other) = known.iter().find(|one| one.host == self.host) {
            return Err(Failure::usage(
                format!(
                    "{host} is another machine than the one of the last syncs: it signs with {}, not with {}",
                    signer.fingerprint(),
                    other.signer.fingerprint()
                ),
                &format!(
                    "compare with bdr machines there; if it was set up anew: bdr machines --forget {host}"
                ),
            ));
        }
        if !by_hand {
            return Err(Failure::usage(
                format!("nobody has looked yet whether this is {host}"),
                &format!("the first time by hand: bdr sync --with {host}"),
            ));
        }
        Ok(Some(Known {
            machine: self.machine,
            signer,
            host: self.host.clone(),
            since: cx.now,
        }))
    }

    pub(crate) fn options(&self, cx: &Context, source: &Source) -> SyncOptions {
        SyncOptions {
            with: self.machine,
            host: self.host.clone(),
            own: own_machine(cx),
            source: source.root(),
            now: cx.now,
            cwd: cx.cwd.clone(),
            argv: cx.argv(),
            never: cx.own_files(),
            own_host: cx.host.clone(),
        }
    }
}

/// Brings in what the machines did that the configuration names. Says what a person has to look at.
pub(crate) fn automatically(cx: &Context) {
    for remote in &cx.config.remotes {
        for with in &remote.sync {
            if cx.is_stopped() {
                return;
            }
            let host = bdr::base::path::show(with.as_ref());
            match bring(cx, remote, with) {
                Ok(0) => {}
                Ok(left) => {
                    let paths = plural(left, "path");
                    cx.ui.say(&format!(
                        "bdr: {paths} of {host} not in place: bdr sync --with {host} --dry-run"
                    ));
                }
                Err(failure) => {
                    let why = failure.message();
                    let hint = failure.hint().map(|hint| format!(": {hint}"));
                    let hint = hint.unwrap_or_default();
                    cx.ui.say(&format!("bdr: no sync with {host}: {why}{hint}"));
                }
            }
        }
    }
}

/// Returns how many paths a person has to look at.
fn bring(cx: &Context, remote: &Remote, with: &str) -> Result<u64, Failure> {
    let own = cx.repository()?;
    let other = Other::find(cx, with, Some(&remote.name), &KeyArgs::default())?;
    other.vouched(cx, false)?;
    let mut left = 0;
    for source in &cx.config.sources {
        let options = other.options(cx, source);
        // One that only this machine has is no fault.
        if !sync::is_there(&other.far, &options)? {
            continue;
        }
        let plan = sync::plan(&own, &other.far, &options, &cx.progress())?;
        let report = sync::apply(&own, &other.far, &plan, &options, &cx.progress())?;
        left += plan.open_conflicts() + plan.problems.len() as u64 + report.problems.len() as u64;
    }
    Ok(left)
}
