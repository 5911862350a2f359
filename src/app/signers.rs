//! Who signs what machines push: this one, and those that it has synced with.
//!
//! What is seen at the first sync is remembered, and every later record has to have it, as `ssh` does it
//! with the keys of hosts. It is remembered for the user, whatever the repository or the destination.

use std::path::PathBuf;

use bdr::base::id::Id;
use bdr::disk::fsutil;
use bdr::remote::crypt::Identities;
use bdr::remote::ledger::Machine;
use bdr::remote::sign::Signer;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::context::Context;
use super::error::Failure;

/// A machine whose signatures are known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) machine: Id,
    pub(crate) signer: Signer,
    /// What it called itself then.
    pub(crate) host: String,
    pub(crate) since: DateTime<Utc>,
}

fn file(cx: &Context) -> PathBuf {
    cx.places.state.join("remotes").join("signers.json")
}

/// Returns the other machines whose signatures are known.
///
/// # Errors
/// What was remembered cannot be read: then nothing is to be believed that it would refuse.
pub(crate) fn all(cx: &Context) -> Result<Vec<Known>, Failure> {
    let path = file(cx);
    let json = match std::fs::read(&path) {
        Ok(json) => json,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(bdr::Error::io("read", path, error).into()),
    };
    serde_json::from_slice(&json).map_err(|_| {
        Failure::usage(
            format!(
                "what was remembered of other machines' signatures is damaged: {}",
                cx.shown_absolute(&path)
            ),
            "remove that file; the next sync with each machine is the first again",
        )
    })
}

fn write(cx: &Context, all: &[Known]) -> Result<(), Failure> {
    let path = file(cx);
    let json = serde_json::to_vec(all).map_err(|e| bdr::Error::Unrecordable {
        reason: e.to_string(),
    })?;
    fsutil::create_dir_private(&cx.places.state.join("remotes"))?;
    Ok(fsutil::write_atomic(&path, &json, 0o600)?)
}

/// Remembers a machine.
pub(crate) fn remember(cx: &Context, known: Known) -> Result<(), Failure> {
    let mut all = all(cx)?;
    all.retain(|one| one.machine != known.machine);
    all.push(known);
    write(cx, &all)
}

/// Forgets the machines of that name or id; returns them.
pub(crate) fn forget(cx: &Context, word: &str) -> Result<Vec<Known>, Failure> {
    let (gone, left): (Vec<Known>, Vec<Known>) = all(cx)?
        .into_iter()
        .partition(|one| one.host == word || one.machine.matches(word));
    if !gone.is_empty() {
        write(cx, &left)?;
    }
    Ok(gone)
}

/// Returns the same; a machine that has pushed nothing yet becomes one.
pub(crate) fn own_or_new(cx: &Context) -> Option<(Id, Signer)> {
    let id = bdr::repo::id_at(&cx.places.repository)?;
    let machine = Machine::of(&cx.destinations(id), cx.now).ok()?;
    Some((machine.id, machine.signer()?))
}

/// Returns this machine at destinations, with who signs what it pushes.
fn own(cx: &Context) -> Option<(Id, Signer)> {
    let id = bdr::repo::id_at(&cx.places.repository)?;
    let machine = Machine::known(&cx.destinations(id))?;
    Some((machine.id, machine.signer()?))
}

/// Returns what opens nothing, and knows who signs what.
pub(crate) fn identities(cx: &Context) -> Result<Identities, Failure> {
    let mut identities = Identities::default();
    if let Some((machine, signer)) = own(cx) {
        identities.trust(machine, signer);
    }
    for one in all(cx)? {
        identities.trust(one.machine, one.signer);
    }
    Ok(identities)
}
