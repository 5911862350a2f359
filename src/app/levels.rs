//! What is known of a destination without asking it: how safe it proved to be, what was pushed.

use std::path::PathBuf;

use bdr::base::error::IoContext as _;
use bdr::disk::fsutil;
use bdr::model::config::Remote;
use bdr::remote::ledger::At;
use bdr::remote::level::Probed;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::context::Context;
use super::error::Failure;
use super::remotes::directory;

/// What came of the last `bdr remote test`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Another place is another destination.
    url: String,
    pub(crate) at: DateTime<Utc>,
    pub(crate) probed: Probed,
}

fn file(cx: &Context, name: &str) -> PathBuf {
    cx.places
        .state
        .join("remotes")
        .join(format!("{name}.level"))
}

/// Returns the directory of what is known of pushes to a destination.
fn ledger(cx: &Context, name: &str) -> Option<PathBuf> {
    let id = bdr::repo::id_at(&cx.places.repository)?;
    Some(directory(cx, id).join(name))
}

/// Returns what was found out about a destination, if it was tried.
pub(crate) fn known(cx: &Context, remote: &Remote) -> Option<Known> {
    let bytes = fsutil::read_derived(&file(cx, &remote.name))?;
    let known: Known = serde_json::from_slice(&bytes).ok()?;
    (known.url == remote.url).then_some(known)
}

/// Notes what was found out.
pub(crate) fn note(cx: &Context, remote: &Remote, probed: &Probed) -> Result<(), Failure> {
    let known = Known {
        url: remote.url.clone(),
        at: cx.now,
        probed: probed.clone(),
    };
    let path = file(cx, &remote.name);
    if let Some(dir) = path.parent() {
        fsutil::create_dir_private(dir)?;
    }
    let bytes = serde_json::to_vec(&known).unwrap_or_default();
    fsutil::write_derived(&path, &bytes)?;
    Ok(())
}

/// Returns what is known of the last push.
pub(crate) fn last_push(cx: &Context, name: &str) -> Option<At> {
    At::read(&ledger(cx, name)?)
}

/// Keeps what is known, under another name.
pub(crate) fn rename(cx: &Context, old: &str, new: &str) -> Result<(), Failure> {
    let files = [(file(cx, old), file(cx, new))];
    let ledgers = ledger(cx, old).zip(ledger(cx, new));
    for (from, to) in files.into_iter().chain(ledgers) {
        if from.symlink_metadata().is_ok() {
            fsutil::rename(&from, &to).context("rename", &from)?;
        }
    }
    Ok(())
}

/// Forgets what was found out. What is known of pushes stays: it says whether another destination of
/// that name is at the same place.
pub(crate) fn forget(cx: &Context, name: &str) -> Result<(), Failure> {
    let path = file(cx, name);
    fsutil::remove_file(&path).context("remove", &path)?;
    Ok(())
}
