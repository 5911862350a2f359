//! `bdr remote key`: who can read what is pushed to a destination.

use std::path::PathBuf;

use bdr::model::config::Remote;
use bdr::remote::crypt::{Generated, is_in_hardware};
use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::identities::{KeyArgs, typed};
use crate::app::secrets::{self, Note, Place};
use crate::ui::prompt;
use crate::ui::qr::Ink;

mod change;
mod moved;
mod sheet;
mod show;

/// Manage who can read what is pushed to a destination
///
/// A machine pushes with public keys (recipients) and needs no secret one. Changes concern what is pushed from then on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr remote key show offsite
  bdr remote key show offsite --sheet > sheet.txt
  bdr remote key add offsite --passphrase
  bdr remote key rotate offsite")]
pub(crate) struct KeyCommandArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Show(show::ShowArgs),
    Add(change::AddArgs),
    Remove(change::RemoveArgs),
    Rotate(change::RotateArgs),
    Move(moved::MoveArgs),
}

pub(super) fn run(cx: &Context, args: &KeyCommandArgs) -> Result<u8, Failure> {
    match &args.what {
        What::Show(args) => show::show(cx, args),
        What::Add(args) => change::add(cx, args),
        What::Remove(args) => change::remove(cx, args),
        What::Rotate(args) => change::rotate(cx, args),
        What::Move(args) => moved::run(cx, args),
    }
}

/// Returns a destination that is encrypted.
fn encrypted<'c>(cx: &'c Context, name: &str) -> Result<&'c Remote, Failure> {
    let remote = cx.config.remote(name)?;
    match remote.recipients.is_empty() {
        false => Ok(remote),
        true => Err(Failure::usage(
            format!("what is pushed to {name} is not encrypted"),
            "for a destination that is: bdr remote add NAME URL --recipient age1…",
        )),
    }
}

/// Returns the secret keys that are at hand: those of this machine, and of the given files.
fn at_hand(cx: &Context, name: &str, files: &[PathBuf]) -> Result<Vec<Generated>, Failure> {
    let own = secrets::all(cx, name).into_iter().map(|secret| secret.key);
    let mut all: Vec<Generated> = own.collect();
    for file in files {
        if file == std::path::Path::new("-") && cx.ui.can_ask {
            all.push(typed(cx)?);
            continue;
        }
        let text = crate::app::identities::read(cx, file)?;
        all.extend(Generated::all_of(&text)?);
    }
    Ok(all)
}

/// Says what bdr cannot do with a key in a piece of hardware, if nothing else opens what is pushed.
pub(super) fn warn_of_hardware(cx: &Context, recipients: &[String]) {
    if recipients.iter().all(|one| is_in_hardware(one)) {
        cx.ui.warn(
            "Only the hardware opens what is pushed, and only by `age` with its plug-in: recover.py \
             can use that, bdr cannot. For bdr, add another key: --recipient age1…",
        );
    }
}

/// Asks for a new passphrase, unless it is given.
pub(super) fn new_passphrase(cx: &Context, keys: &KeyArgs) -> Result<Zeroizing<String>, Failure> {
    let given = match keys.passphrase(cx, true)? {
        Some(given) => given,
        None if cx.ui.can_ask => Zeroizing::new(prompt::passphrase(true)?),
        None => {
            return Err(Failure::usage(
                "there is no terminal to ask for the passphrase",
                "--passphrase-file FILE, or BDR_REMOTE_PASSPHRASE",
            ));
        }
    };
    if given.is_empty() {
        return Err(Failure::usage(
            "the passphrase is empty",
            "--passphrase-file FILE",
        ));
    }
    if given.chars().any(char::is_control) {
        return Err(Failure::usage(
            "the passphrase has a line break or another control character: nobody could type it",
            "take another one; of a file, the first line is read",
        ));
    }
    if is_weak(&given) {
        cx.ui.warn(
            "That passphrase is short. Whoever can read the place can try passphrases, on as many \
             machines as they like: take four or more words that nobody would put together.",
        );
    }
    Ok(given)
}

/// Returns true for a passphrase that is guessed too easily, as far as that can be told from its
/// length: words of a language have some two bits a letter.
fn is_weak(passphrase: &str) -> bool {
    let distinct: std::collections::HashSet<char> = passphrase.chars().collect();
    let count = passphrase.chars().count();
    let is_plain = passphrase.chars().all(|c| c.is_ascii_digit());
    count < 14 || distinct.len() < 7 || (is_plain && count < 20)
}

/// Shows the sheet of a new key to whoever is at the terminal, and asks whether it is in another place
/// now. Returns false if nobody was there.
pub(super) fn present(
    cx: &Context,
    remote: &Remote,
    key: &Generated,
    is_silent: bool,
) -> Result<bool, Failure> {
    // Where stdout is a file, it may be a log.
    if is_silent || cx.ui.quiet || !cx.ui.can_ask || cx.ui.screen.is_none() {
        return Ok(false);
    }
    cx.ui.data(&sheet::text(cx, remote, &[key], ink(cx)))?;
    cx.ui.warn("");
    let question = "Have you put this in another place than this machine?";
    let is_stored = prompt::confirm(question, false)?;
    let mut note = Note::read(cx, &remote.name);
    note.seen(&key.recipient, cx.now, is_stored);
    note.write(cx, &remote.name)?;
    if !is_stored {
        cx.ui.warn(&format!(
            "Do it soon; to see it again: bdr remote key show {} --sheet",
            remote.name
        ));
    }
    Ok(true)
}

/// How a QR code looks where stdout goes.
fn ink(cx: &Context) -> Ink {
    match (cx.ui.unicode, cx.ui.screen.is_some() && cx.ui.out.is_on()) {
        (false, _) => Ink::Ascii,
        (true, true) => Ink::Terminal,
        (true, false) => Ink::Print,
    }
}

/// Returns where a new key is kept.
pub(super) fn place(keychain: bool) -> Place {
    match keychain {
        true => Place::Keychain,
        false => Place::File,
    }
}

/// Returns what is true of every secret key.
pub(super) fn warning(kept: &str) -> String {
    format!(
        "The secret key is in {kept}.\n\
         Without it nobody can read the backups, you neither: print it or copy it to another place now.\n"
    )
}
