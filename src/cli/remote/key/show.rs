//! `bdr remote key show`.

use bdr::base::path::show as shown;
use bdr::model::config::Remote;
use bdr::remote::crypt::{Generated, is_in_hardware};
use bdr::remote::ledger::At;
use clap::Args;

use super::{encrypted, ink, sheet};
use crate::app::context::Context;
use crate::app::documents::{
    RemoteEraDocument, RemoteIdentityDocument, RemoteKeyDocument, RemoteRecipientDocument,
};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::levels;
use crate::app::secrets::{self, Note, Place, Secret};
use crate::ui::qr::Ink;
use crate::ui::when::ago;

/// Show who can read a destination, and where the secret keys are
///
/// What was pushed while other keys were in use is listed by the numbers of the pushes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr remote key show offsite
  bdr remote key show offsite --sheet > sheet.txt      to print it
  bdr remote key show offsite --secret | age -d -i - object")]
pub(crate) struct ShowArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Print the recovery sheet: the secret key, as text, words and QR code, and how to use it
    #[arg(long, conflicts_with = "secret")]
    sheet: bool,
    /// Print the secret keys that this machine has, one a line
    #[arg(long)]
    secret: bool,
}

pub(super) fn show(cx: &Context, args: &ShowArgs) -> Result<u8, Failure> {
    let remote = match args.sheet || args.secret {
        true => encrypted(cx, &args.name)?,
        false => cx.config.remote(&args.name)?,
    };
    let mut note = Note::read(cx, &remote.name);
    let secrets = secrets::all(cx, &remote.name);
    if args.sheet || args.secret {
        if secrets.is_empty() {
            return Err(missing(remote, &note));
        }
        for secret in &secrets {
            note.seen(&secret.key.recipient, cx.now, false);
        }
    }
    let sheet = args.sheet.then(|| {
        // A file is printed on white.
        let ink = if cx.ui.json { Ink::Print } else { ink(cx) };
        sheet::text(cx, remote, &needed(remote, &note, &secrets), ink)
    });
    if cx.ui.json {
        let mut data = document(cx, remote, &note, &secrets, args.sheet || args.secret);
        data.sheet = sheet;
        cx.ui.document("remote.key.show", exit::OK, &data)?;
    } else if let Some(sheet) = sheet {
        cx.ui.data(&sheet)?;
    } else if args.secret {
        for secret in &secrets {
            cx.ui.data(&format!("{}\n", *secret.key.secret))?;
        }
    } else {
        let data = document(cx, remote, &note, &secrets, false);
        cx.ui.data(&words(cx, remote, &note, &data))?;
    }
    if args.sheet || args.secret {
        note.write(cx, &remote.name)?;
    }
    Ok(exit::OK)
}

fn missing(remote: &Remote, note: &Note) -> Failure {
    let name = &remote.name;
    let hint = match note.keys.iter().any(|key| key.in_keychain) {
        true => "unlock the keychain, then run the same command again".to_owned(),
        false => format!(
            "it is where you put it; for a new one: bdr remote key rotate {name} --identity FILE"
        ),
    };
    Failure::usage(
        format!("this machine has no secret key of {name} that it can open"),
        &hint,
    )
}

/// Returns the keys that a sheet has to have: the newest, and older ones to which it does not lead.
fn needed<'s>(remote: &Remote, note: &Note, secrets: &'s [Secret]) -> Vec<&'s Generated> {
    let is_used = |key: &&Generated| remote.recipients.contains(&key.recipient);
    let all = || secrets.iter().map(|secret| &secret.key);
    let mut keys: Vec<&Generated> = all().filter(is_used).collect();
    for key in all().filter(|key| !is_used(key)) {
        let mut handed = note.identities.iter();
        let is_led_to = handed.any(|one| {
            one.opens.contains(&key.recipient)
                && keys
                    .iter()
                    .any(|key| one.recipients.contains(&key.recipient))
        });
        if !is_led_to {
            keys.push(key);
        }
    }
    keys
}

fn document(
    cx: &Context,
    remote: &Remote,
    note: &Note,
    secrets: &[Secret],
    with_secrets: bool,
) -> RemoteKeyDocument {
    let at = levels::last_push(cx, &remote.name);
    let at = at.filter(|at| at.url == remote.url).unwrap_or_default();
    let mut recipients: Vec<&String> = remote.recipients.iter().collect();
    let older = at.eras.iter().flat_map(|era| &era.recipients);
    for one in older.chain(secrets.iter().map(|secret| &secret.key.recipient)) {
        if !recipients.contains(&one) {
            recipients.push(one);
        }
    }
    let only_here = note.only_here(cx, remote);
    let recipients = recipients.into_iter().map(|one| {
        let made = note.keys.iter().find(|key| key.recipient == *one);
        let own = secrets.iter().find(|secret| secret.key.recipient == *one);
        RemoteRecipientDocument {
            recipient: one.clone(),
            kind: match (one.starts_with("ssh-"), is_in_hardware(one)) {
                (true, _) => "ssh",
                (_, true) => "hardware",
                _ => "age",
            },
            is_current: remote.recipients.contains(one),
            secret: whereabouts(cx, note, one, own),
            file: file_of(cx, remote, one, own),
            made: made.map(|key| key.made),
            shown: made.and_then(|key| key.shown),
            stored: made.and_then(|key| key.stored),
            only_here: only_here.iter().any(|key| key.recipient == *one),
            secret_key: own
                .filter(|_| with_secrets)
                .map(|secret| secret.key.secret.to_string()),
            words: own
                .filter(|_| with_secrets)
                .map(|secret| secret.key.words().join(" ")),
        }
    });
    RemoteKeyDocument {
        name: remote.name.clone(),
        url: remote.url.clone(),
        encrypted: !remote.recipients.is_empty(),
        recipients: recipients.collect(),
        identities: note
            .identities
            .iter()
            .map(|one| identity(one, &at))
            .collect(),
        pushes: eras(&at),
        sheet: None,
    }
}

fn identity(one: &secrets::IdentityNote, at: &At) -> RemoteIdentityDocument {
    RemoteIdentityDocument {
        name: one.name.clone(),
        made: one.made,
        passphrase: one.recipients.is_empty(),
        recipients: one.recipients.clone(),
        opens: one.opens.clone(),
        is_there: at.identities.contains(&one.name),
    }
}

fn eras(at: &At) -> Vec<RemoteEraDocument> {
    let ends = at.eras.iter().skip(1).map(|era| Some(era.since - 1));
    let eras = at.eras.iter().zip(ends.chain([None]));
    eras.map(|(era, until)| RemoteEraDocument {
        since: era.since,
        until,
        recipients: era.recipients.clone(),
    })
    .collect()
}

/// Returns where the secret half of a key is, as far as this machine knows.
fn whereabouts(
    cx: &Context,
    note: &Note,
    recipient: &str,
    own: Option<&Secret>,
) -> Vec<&'static str> {
    let mut places = Vec::new();
    match own.map(|secret| secret.place) {
        Some(Place::File) => places.push("file"),
        Some(Place::Keychain) => places.push("keychain"),
        None if note
            .keys
            .iter()
            .any(|key| key.recipient == recipient && key.in_keychain) =>
        {
            places.push("keychain-locked");
        }
        None => {}
    }
    if ssh_key(cx, recipient).is_some() {
        places.push("ssh-key");
    }
    let inside = note.identities.iter();
    for one in inside.filter(|one| one.opens.iter().any(|opened| opened == recipient)) {
        let word = match one.recipients.is_empty() {
            true => "passphrase",
            false => "other-key",
        };
        if !places.contains(&word) {
            places.push(word);
        }
    }
    places
}

fn file_of(cx: &Context, remote: &Remote, recipient: &str, own: Option<&Secret>) -> Option<String> {
    match own.map(|secret| secret.place) {
        Some(Place::File) => Some(cx.shown_absolute(&secrets::key_file(cx, &remote.name))),
        _ => ssh_key(cx, recipient).map(|path| cx.shown_absolute(&path)),
    }
}

/// Returns the private SSH key that belongs to a public one, if it is where `ssh` looks for it.
fn ssh_key(cx: &Context, recipient: &str) -> Option<std::path::PathBuf> {
    let dir = cx.home.as_ref()?.join(".ssh");
    let two = |text: &str| {
        let mut parts = text.split_whitespace().map(str::to_owned);
        Some((parts.next()?, parts.next()?))
    };
    let wanted = two(recipient).filter(|(kind, _)| kind.starts_with("ssh-"))?;
    ["id_ed25519", "id_rsa"].into_iter().find_map(|name| {
        let public = std::fs::read_to_string(dir.join(format!("{name}.pub"))).ok()?;
        let private = dir.join(name);
        (two(&public)? == wanted && private.is_file()).then_some(private)
    })
}

fn words(cx: &Context, remote: &Remote, note: &Note, data: &RemoteKeyDocument) -> String {
    let name = shown(remote.name.as_ref());
    if !data.encrypted {
        return format!(
            "{name} is not encrypted: whoever can read the place can read the backups.\n"
        );
    }
    let mut text = format!("Who can read what is pushed to {name}:\n");
    let (now, before): (Vec<_>, Vec<_>) = data.recipients.iter().partition(|one| one.is_current);
    for one in now {
        text.push_str(&format!(
            "  {}\n    {}\n",
            shown(one.recipient.as_ref()),
            says(cx, one)
        ));
    }
    if !before.is_empty() {
        text.push_str("Only what was pushed before:\n");
    }
    for one in before {
        text.push_str(&format!(
            "  {}\n    {}\n",
            shown(one.recipient.as_ref()),
            says(cx, one)
        ));
    }
    for one in &data.identities {
        let place = match one.is_there {
            true => "at the destination",
            false => "comes there with the next push",
        };
        let by = match one.passphrase {
            true => "a passphrase".to_owned(),
            false => one.recipients.join(", "),
        };
        text.push_str(&format!(
            "{} ({place}): {by} opens {}\n",
            one.name,
            one.opens.join(", ")
        ));
    }
    if data.pushes.len() > 1 {
        text.push_str("Pushes:\n");
    }
    for era in data.pushes.iter().filter(|_| data.pushes.len() > 1) {
        let until = match era.until {
            Some(until) if until == era.since => String::new(),
            Some(until) => format!("–{until}"),
            None => "–".to_owned(),
        };
        text.push_str(&format!(
            "  {}{until}  for {}\n",
            era.since,
            era.recipients.join(", ")
        ));
    }
    if !note.only_here(cx, remote).is_empty() {
        text.push_str(&format!(
            "As far as bdr knows, the secret key is on this machine only: bdr remote key show {name} --sheet\n"
        ));
    }
    text
}

fn says(cx: &Context, one: &RemoteRecipientDocument) -> String {
    let places = one.secret.iter().map(|place| match (*place, &one.file) {
        ("file" | "ssh-key", Some(file)) => file.clone(),
        ("keychain", _) => "the keychain".to_owned(),
        ("keychain-locked", _) => "the keychain, which is locked or does not answer".to_owned(),
        ("passphrase", _) => "the destination, for the passphrase".to_owned(),
        _ => "the destination, for another key".to_owned(),
    });
    let places: Vec<String> = places.collect();
    let mut text = match places.is_empty() {
        true => "secret key: not on this machine".to_owned(),
        false => format!("secret key: in {}", places.join(", and at ")),
    };
    if let Some(made) = one.made {
        text.push_str(&format!("; made {}", ago(cx.now, made)));
    }
    match (one.stored, one.shown) {
        (Some(at), _) => text.push_str(&format!("; you stored it elsewhere ({})", ago(cx.now, at))),
        (None, Some(at)) => text.push_str(&format!("; shown {}", ago(cx.now, at))),
        (None, None) => {}
    }
    text
}
