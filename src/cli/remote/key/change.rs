//! `bdr remote key add`, `remove`, `rotate`.

use bdr::model::config::{Remote, edit};
use bdr::remote::crypt::{Encryption, Generated, handed, locked};
use bdr::remote::ledger::At;
use clap::Args;

use super::{at_hand, encrypted, new_passphrase, place, present, warning};
use crate::app::config::{check_text, text, write};
use crate::app::context::Context;
use crate::app::documents::RemoteKeyChangeDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::identities::KeyArgs;
use crate::app::levels;
use crate::app::remotes::{drop_identity, put_identities};
use crate::app::secrets::{self, IdentityNote, Note};
use crate::ui::{plural, prompt};

/// Let somebody else read what is pushed from now on, or protect the key by a passphrase
///
/// What was pushed before is not for a new recipient, and new backups build on it: with --past it gets the way there too. A passphrase
/// opens all that the secret key opens, from a bare machine: the key is put at the destination, encrypted with it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr remote key add offsite age1…
  bdr remote key add offsite \"$(cat ~/.ssh/id_ed25519.pub)\" --past
  bdr remote key add offsite --passphrase
  bdr remote key add offsite --generate --keychain")]
pub(super) struct AddArgs {
    /// The destination
    #[arg(value_name = "NAME")]
    name: String,
    /// Who: age1…, or a public SSH key
    #[arg(value_name = "RECIPIENT", required_unless_present_any = ["generate", "passphrase"])]
    recipient: Option<String>,
    /// Make a new key
    #[arg(long, conflicts_with_all = ["recipient", "passphrase"])]
    generate: bool,
    /// Put the secret key at the destination, encrypted with a passphrase
    #[arg(long, conflicts_with = "recipient")]
    passphrase: bool,
    /// Let it open what was pushed until now as well: it gets the secret keys that this machine has
    #[arg(long, conflicts_with = "passphrase")]
    past: bool,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Debug, Args)]
struct HowArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Keep a new secret key in the keychain of the system, not in a file
    #[arg(long)]
    keychain: bool,
    /// Say what would be changed; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask, and do not show the sheet of a new key
    #[arg(long, short)]
    yes: bool,
}

/// Do not encrypt for somebody any more
///
/// What was pushed until now stays readable for them. The last recipient cannot be removed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr remote key remove offsite age1… --dry-run
  bdr remote key remove offsite age1…
  bdr remote key remove offsite identity-0a1b2c3d.age      a passphrase (bdr remote key show)")]
pub(super) struct RemoveArgs {
    /// The destination
    #[arg(value_name = "NAME")]
    name: String,
    /// Who, or the beginning of it; or the name of a locked identity
    #[arg(value_name = "RECIPIENT|IDENTITY")]
    what: String,
    /// Say what would be changed; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    _never_asks: prompt::NeverAsks,
}

/// Make a new key, for what is pushed from now on
///
/// The old key stays where it is: it opens what was pushed until now. It is also put at the destination, encrypted to the new one, so
/// that the new key alone opens everything.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr remote key rotate offsite
  bdr remote key rotate offsite --identity old.txt      if the old secret key is not on this machine")]
pub(super) struct RotateArgs {
    /// The destination
    #[arg(value_name = "NAME")]
    name: String,
    /// Which recipient, if there are several
    #[arg(value_name = "RECIPIENT")]
    recipient: Option<String>,
    #[command(flatten)]
    how: HowArgs,
}

/// What a change comes to.
struct Change {
    remote: Remote,
    note: Note,
    added: Vec<String>,
    removed: Vec<String>,
    /// New locked identities.
    identities: Vec<String>,
    /// Where a new secret key is kept.
    kept: Option<String>,
    generated: Option<Generated>,
    /// Whether what was added opens what was pushed before.
    opens_past: bool,
    words: String,
}

impl Change {
    fn of(cx: &Context, remote: &Remote) -> Self {
        Self {
            remote: remote.clone(),
            note: Note::read(cx, &remote.name),
            added: Vec::new(),
            removed: Vec::new(),
            identities: Vec::new(),
            kept: None,
            generated: None,
            opens_past: false,
            words: String::new(),
        }
    }

    fn say(&mut self, words: &str) {
        self.words.push_str(words);
        self.words.push('\n');
    }

    /// Puts secret keys at the destination, encrypted.
    fn lock(&mut self, cx: &Context, bytes: &[u8], recipients: Vec<String>, keys: &[Generated]) {
        let note = IdentityNote::new(cx.now, bytes, recipients, keys);
        self.identities.push(note.name.clone());
        self.note.identities.push(note);
    }
}

/// Returns what is known of the last push, if something was pushed to this very place.
fn pushed(cx: &Context, remote: &Remote) -> Option<At> {
    levels::last_push(cx, &remote.name).filter(|at| at.number > 0 && at.url == remote.url)
}

pub(super) fn add(cx: &Context, args: &AddArgs) -> Result<u8, Failure> {
    let remote = encrypted(cx, &args.name)?;
    let mut change = Change::of(cx, remote);
    if args.passphrase {
        add_passphrase(cx, args, &mut change)?;
        return finish(cx, change, &args.how);
    }
    let at = pushed(cx, remote);
    let recipient = match &args.recipient {
        Some(recipient) => {
            let recipient = recipient.trim().to_owned();
            Encryption::to(std::slice::from_ref(&recipient))?;
            if remote.recipients.contains(&recipient) {
                return Err(Failure::usage(
                    format!("what is pushed to {} is for it already", remote.name),
                    &format!("bdr remote key show {}", remote.name),
                ));
            }
            recipient
        }
        None => {
            let key = Generated::new();
            let recipient = key.recipient.clone();
            change.generated = Some(key);
            recipient
        }
    };
    change.added.push(recipient.clone());
    change.remote.recipients.push(recipient.clone());
    Encryption::to(&change.remote.recipients)?;
    let keys = at_hand(cx, &remote.name, &args.how.key.identity)?;
    change.opens_past = at.is_none();
    let who = match &args.recipient {
        Some(_) => "It",
        None => "The new key",
    };
    if at.is_none() {
        change.say(&format!("{who} opens everything: nothing was pushed yet."));
    } else if wants_past(cx, args, !keys.is_empty())? {
        if keys.is_empty() {
            return Err(no_secret(remote, "it cannot be given what opens the past"));
        }
        let bytes = handed(&keys, std::slice::from_ref(&recipient))?;
        change.lock(cx, &bytes, vec![recipient], &keys);
        change.opens_past = true;
        change.say(&format!(
            "{who} opens what is pushed from now on, and by {} that it was given, what was pushed until now.\n\
             It keeps that: if it is removed some day, change those as well (bdr remote key rotate {}).",
            plural(keys.len() as u64, "secret key"),
            remote.name
        ));
    } else {
        change.say(&format!(
            "{who} opens what is pushed from now on. What was pushed until now is not for it, and new backups build on that:\n\
             alone it restores little. To give it the way there: the same with --past. Or start anew: bdr remote reset"
        ));
    }
    finish(cx, change, &args.how)
}

/// Returns true if a new recipient is to open what was pushed before.
fn wants_past(cx: &Context, args: &AddArgs, could: bool) -> Result<bool, Failure> {
    if args.past || !could || args.how.yes || args.how.dry_run || !cx.ui.can_ask {
        return Ok(args.past);
    }
    let question =
        "Shall it open what was pushed until now, too? It gets the secret key of this destination.";
    Ok(prompt::confirm(question, false)?)
}

fn no_secret(remote: &Remote, why: &str) -> Failure {
    Failure::usage(
        format!(
            "{why}: this machine has no secret key of {} that it can open",
            remote.name
        ),
        "give it, or the words of the sheet: --identity FILE (or - to type them); or encrypt everything anew: bdr remote reset",
    )
}

fn add_passphrase(cx: &Context, args: &AddArgs, change: &mut Change) -> Result<(), Failure> {
    let remote = change.remote.clone();
    let keys = at_hand(cx, &remote.name, &args.how.key.identity)?;
    if !keys
        .iter()
        .any(|key| remote.recipients.contains(&key.recipient))
    {
        return Err(no_secret(
            &remote,
            "there is nothing to encrypt with a passphrase",
        ));
    }
    let before = change.note.identities.iter();
    let before: Vec<String> = before
        .filter(|one| one.recipients.is_empty())
        .map(|one| one.name.clone())
        .collect();
    change.say("The passphrase opens all that the secret key opens: bdr clone URL asks for it.");
    change.opens_past = true;
    if !args.how.dry_run {
        let passphrase = new_passphrase(cx, &args.how.key)?;
        let bytes = locked(&keys, &passphrase)?;
        change.lock(cx, &bytes, Vec::new(), &keys);
    }
    for name in before {
        change.say(&format!(
            "The passphrase of {name} still opens it: bdr remote key remove {} {name}",
            remote.name
        ));
    }
    Ok(())
}

pub(super) fn remove(cx: &Context, args: &RemoveArgs) -> Result<u8, Failure> {
    let remote = encrypted(cx, &args.name)?;
    if args.what.starts_with("identity-") {
        return remove_identity(cx, remote, args);
    }
    let recipient = meant(remote, &args.what)?;
    if remote.recipients.len() == 1 {
        return Err(Failure::usage(
            "it is the only one: nobody could read what is pushed",
            &format!("bdr remote key rotate {}", remote.name),
        ));
    }
    let mut change = Change::of(cx, remote);
    change.remote.recipients.retain(|one| *one != recipient);
    let given = change.note.identities.iter();
    let given = given.filter(|one| one.recipients.contains(&recipient));
    let has_current = given
        .flat_map(|one| &one.opens)
        .any(|one| change.remote.recipients.contains(one));
    change
        .note
        .identities
        .retain(|one| one.recipients != [recipient.clone()]);
    change.removed.push(recipient);
    if pushed(cx, remote).is_some() {
        change.say("What is pushed from now on is not for it. What was pushed until now stays readable by it.");
    } else {
        change.say("Nothing was pushed yet: it opens nothing.");
    }
    if has_current {
        change.say(&format!(
            "But it was given the secret key of another recipient, which opens what is pushed from now on too: bdr remote key rotate {}",
            remote.name
        ));
    }
    let how = HowArgs {
        key: KeyArgs::default(),
        keychain: false,
        dry_run: args.dry_run,
        yes: true,
    };
    finish(cx, change, &how)
}

/// Returns the recipient that begins so.
fn meant(remote: &Remote, word: &str) -> Result<String, Failure> {
    let word = word.trim();
    let all = &remote.recipients;
    let fitting: Vec<&String> = match all.iter().any(|one| one == word) {
        true => all.iter().filter(|one| *one == word).collect(),
        false => all.iter().filter(|one| one.starts_with(word)).collect(),
    };
    match fitting[..] {
        [one] => Ok(one.clone()),
        [] => Err(Failure::usage(
            format!("what is pushed to {} is not for that", remote.name),
            &format!("bdr remote key show {}", remote.name),
        )),
        _ => Err(Failure::usage(
            "several recipients begin so",
            &format!("name it whole: bdr remote key show {}", remote.name),
        )),
    }
}

fn remove_identity(cx: &Context, remote: &Remote, args: &RemoveArgs) -> Result<u8, Failure> {
    let mut change = Change::of(cx, remote);
    let known = change
        .note
        .identities
        .iter()
        .position(|one| one.name == args.what);
    let Some(at) = known else {
        return Err(Failure::usage(
            format!(
                "bdr knows no locked identity of that name for {}",
                remote.name
            ),
            &format!("bdr remote key show {}", remote.name),
        ));
    };
    let one = change.note.identities.remove(at);
    change.removed.push(one.name.clone());
    if !args.dry_run {
        match drop_identity(cx, remote, &one.name)? {
            true => change.say(&format!("{} is not at the destination any more.", one.name)),
            false => change.say(&format!(
                "{} stays at the destination: this machine must not delete there.",
                one.name
            )),
        }
    }
    change.say(&format!(
        "Who copied it before can still open it. To make it worthless for what is pushed from now on: bdr remote key rotate {}",
        remote.name
    ));
    let how = HowArgs {
        key: KeyArgs::default(),
        keychain: false,
        dry_run: args.dry_run,
        yes: true,
    };
    finish(cx, change, &how)
}

pub(super) fn rotate(cx: &Context, args: &RotateArgs) -> Result<u8, Failure> {
    let remote = encrypted(cx, &args.name)?;
    let keys = at_hand(cx, &remote.name, &args.how.key.identity)?;
    let has = |one: &String| keys.iter().any(|key| key.recipient == *one);
    let old: Vec<String> = match &args.recipient {
        Some(word) => vec![meant(remote, word)?],
        None => remote
            .recipients
            .iter()
            .filter(|one| has(one))
            .cloned()
            .collect(),
    };
    let why = "the old key has to be given to the new one, or that could not read what was pushed until now";
    if old.is_empty() || !old.iter().all(has) {
        return Err(no_secret(remote, why));
    }
    let mut change = Change::of(cx, remote);
    let new = Generated::new();
    let bytes = handed(&keys, std::slice::from_ref(&new.recipient))?;
    change.lock(cx, &bytes, vec![new.recipient.clone()], &keys);
    change.remote.recipients.retain(|one| !old.contains(one));
    change.remote.recipients.insert(0, new.recipient.clone());
    change.added.push(new.recipient.clone());
    change.opens_past = true;
    change.say("What is pushed from now on is for a new key. The old one still opens what was pushed until now, and stays where it is.");
    change.say(
        "The new one opens everything: the old one is put at the destination, encrypted to it.",
    );
    let passphrases = change.note.identities.iter();
    if passphrases.clone().any(|one| one.recipients.is_empty()) {
        change.say(&format!(
            "The passphrase opens only what was pushed until now; for the new key too: bdr remote key add {} --passphrase",
            remote.name
        ));
    }
    change.removed = old;
    change.generated = Some(new);
    finish(cx, change, &args.how)
}

/// Makes a change, and says what it means.
fn finish(cx: &Context, mut change: Change, how: &HowArgs) -> Result<u8, Failure> {
    let name = change.remote.name.clone();
    if !how.dry_run {
        apply(cx, &mut change, how)?;
    }
    if cx.ui.json {
        let data = RemoteKeyChangeDocument {
            name,
            dry_run: how.dry_run,
            added: change.added,
            removed: change.removed,
            recipients: change.remote.recipients,
            identities: change.identities,
            opens_past: change.opens_past,
            kept: change.kept,
        };
        cx.ui.document("remote.key.change", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let mut text = String::new();
    if how.dry_run {
        text.push_str("Nothing was changed. It would be so:\n");
    }
    text.push_str(&change.words);
    if let Some(kept) = &change.kept {
        text.push_str(&warning(kept));
    }
    let was_shown = match (&change.generated, how.dry_run) {
        (Some(key), false) => present(cx, &change.remote, key, how.yes)?,
        _ => true,
    };
    if !was_shown {
        text.push_str(&format!(
            "To print it: bdr remote key show {name} --sheet\n"
        ));
    }
    cx.ui.report(&text)?;
    Ok(exit::OK)
}

fn apply(cx: &Context, change: &mut Change, how: &HowArgs) -> Result<(), Failure> {
    let remote = &change.remote;
    // In this order, an interruption leaves a key too many, and never a recipient without its key.
    if let Some(key) = &change.generated {
        change.kept = Some(secrets::keep(cx, remote, key, place(how.keychain))?);
    }
    let mut note = Note::read(cx, &remote.name);
    note.identities = std::mem::take(&mut change.note.identities);
    note.write(cx, &remote.name)?;
    let quoted = |one: &String| toml::Value::String(one.clone()).to_string();
    let all: Vec<String> = remote.recipients.iter().map(quoted).collect();
    let before = text(cx)?;
    let after = edit::set(&before, &["remote", &remote.name, "recipients"], &all)?;
    if after != before {
        check_text(cx, &after)?;
        write(cx, &after)?;
    }
    if change.identities.is_empty() || pushed(cx, remote).is_none() {
        return Ok(());
    }
    if let Err(failure) = put_identities(cx, remote) {
        change.words.push_str(&format!(
            "The destination could not be reached ({}): it gets the encrypted key with the next push.\n",
            failure.message()
        ));
    }
    Ok(())
}
