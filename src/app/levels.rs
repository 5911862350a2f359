//! What is known of a destination without asking it: how safe it proved to be, what was pushed.

use std::path::PathBuf;

use bdr::base::error::IoContext as _;
use bdr::disk::fsutil;
use bdr::model::config::Remote;
use bdr::remote::ledger::At;
use bdr::remote::level::{Known, Probed};
use bdr::remote::prune::Last;

use super::context::Context;
use super::error::Failure;
use super::remotes::{self, directory};

/// Returns the directory of what is known of a destination; `None` without a repository.
fn place(cx: &Context, name: &str) -> Option<PathBuf> {
    let id = bdr::repo::id_at(&cx.places.repository)?;
    Some(directory(cx, id).join(name))
}

/// Returns what was found out about a destination, if it was tried.
pub(crate) fn known(cx: &Context, remote: &Remote) -> Option<Known> {
    Known::read(&place(cx, &remote.name)?, &remote.url)
}

/// Notes what was found out.
pub(crate) fn note(cx: &Context, remote: &Remote, probed: &Probed) -> Result<(), Failure> {
    let known = Known {
        url: remote.url.clone(),
        at: cx.now,
        probed: probed.clone(),
    };
    match place(cx, &remote.name) {
        Some(dir) => Ok(known.write(&dir)?),
        None => Ok(()),
    }
}

/// Notes that the place was there when the destination was added: bdr left a directory in it.
pub(crate) fn note_reached(cx: &Context, remote: &Remote) -> Result<(), Failure> {
    match place(cx, &remote.name) {
        Some(dir) => remotes::note_reached(&dir, remote),
        None => Ok(()),
    }
}

/// Returns what is known of the last prune.
pub(crate) fn last_prune(cx: &Context, remote: &Remote) -> Option<Last> {
    Last::read(&place(cx, &remote.name)?, &remote.url)
}

/// Returns what is known of the last push.
pub(crate) fn last_push(cx: &Context, name: &str) -> Option<At> {
    At::read(&place(cx, name)?)
}

/// Keeps what is known, under another name.
pub(crate) fn rename(cx: &Context, old: &str, new: &str) -> Result<(), Failure> {
    if let Some((from, to)) = place(cx, old).zip(place(cx, new))
        && from.symlink_metadata().is_ok()
    {
        fsutil::rename(&from, &to).context("rename", &from)?;
    }
    Ok(())
}
