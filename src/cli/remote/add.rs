//! `bdr remote add`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bdr::base::path::show;
use bdr::disk::store::{Location, Service};
use bdr::model::config::{Remote, check_remote_name, edit, parse_size};
use bdr::remote::crypt::{Encryption, Generated, locked};
use bdr::remote::level;
use clap::Args;
use zeroize::Zeroizing;

use crate::app::config::{check_text, text, write};
use crate::app::context::Context;
use crate::app::credentials::{self, Kept};
use crate::app::documents::RemoteAddDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::identities::KeyArgs;
use crate::app::levels;
use crate::app::remotes::{Far, check_alone, check_apart, is_on_the_same_disk, located};
use crate::app::secrets::{self, IdentityNote, Note};
use crate::ui::prompt;

use super::key;

/// Add a destination
///
/// Asks for the credentials that it needs, and tries the place: it writes a small object, reads it and removes it. With the name and
/// the address of a destination that is there, it asks for other credentials. Everywhere but in a directory, backups are encrypted: without --recipient, a new key is made, whose secret half you have to keep in another place.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr remote add disk /mnt/usb/bdr
  bdr remote add nas sftp://me@nas/backups/bdr
  bdr remote add offsite 's3://bucket/laptop?endpoint=https://s3.eu-central-003.backblazeb2.com' --recipient age1…
  BDR_REMOTE_CLOUD_PASSWORD=… bdr remote add cloud webdavs://me@host/remote.php/dav/files/me/bdr")]
pub(crate) struct AddArgs {
    /// Its name, for you
    #[arg(value_name = "NAME")]
    name: String,
    /// Its address (bdr remote services), or a directory
    #[arg(value_name = "URL")]
    url: String,
    /// Who can read the backups: age1…, or a public SSH key
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Vec<String>,
    /// Encrypt in a directory too, with a new key
    #[arg(long, conflicts_with = "recipient")]
    encrypt: bool,
    /// Do not encrypt: whoever can read the place can read the backups
    #[arg(long, conflicts_with_all = ["recipient", "encrypt", "passphrase", "keychain"])]
    no_encryption: bool,
    /// Put the new secret key at the destination too, encrypted with a passphrase: then that is enough to get everything back
    #[arg(long, conflicts_with = "recipient")]
    passphrase: bool,
    /// Read the passphrase from the first line of this file (or set BDR_REMOTE_PASSPHRASE)
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, requires = "passphrase")]
    passphrase_file: Option<PathBuf>,
    /// Keep the new secret key in the keychain of the system, not in a file
    #[arg(long, conflicts_with = "recipient")]
    keychain: bool,
    /// The most bytes a second, like 2M
    #[arg(long, value_name = "SIZE")]
    limit: Option<String>,
    /// Push only when you say so (bdr push), not after backups
    #[arg(long)]
    manual: bool,
    /// Do not try the place
    #[arg(long)]
    no_test: bool,
    /// Do not ask whether the key is in another place, and do not show its sheet
    #[arg(long, short)]
    yes: bool,
}

/// Refuses a name that makes no sense, or is taken.
pub(super) fn check_new_name(cx: &Context, name: &str) -> Result<(), Failure> {
    check_remote_name(name)
        .map_err(|message| Failure::usage(message, "e.g. offsite, nas, disk"))?;
    match cx.config.remotes.iter().any(|remote| remote.name == name) {
        true => Err(Failure::usage(
            format!("there is a destination `{name}` already"),
            &format!("bdr remote show {name}"),
        )),
        false => Ok(()),
    }
}

/// Returns the text of a configuration with a destination in it.
pub(super) fn entered(text: &str, remote: &Remote) -> Result<String, Failure> {
    let name = remote.name.as_str();
    let one =
        |text: &str, key: &str, value: String| edit::set(text, &["remote", name, key], &[value]);
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut text = one(text, "url", quoted(&remote.url))?;
    match remote.recipients.is_empty() {
        true => text = one(&text, "encrypt", "false".to_owned())?,
        false => {
            let all: Vec<String> = remote.recipients.iter().map(|r| quoted(r)).collect();
            text = edit::set(&text, &["remote", name, "recipients"], &all)?;
        }
    }
    if let Some(limit) = remote.limit {
        text = one(&text, "limit", limit.to_string())?;
    }
    if !remote.automatic {
        text = one(&text, "automatic", "false".to_owned())?;
    }
    Ok(text)
}

pub(super) fn add(cx: &Context, args: &AddArgs) -> Result<u8, Failure> {
    let is_same = |url: &str| located(cx, &args.url).is_ok_and(|at| at.to_string() == url);
    let known = cx.config.remotes.iter();
    if let Some(known) = known
        .clone()
        .find(|one| one.name == args.name && is_same(&one.url))
    {
        return renew(cx, known, args);
    }
    check_new_name(cx, &args.name)?;
    let location = located(cx, &args.url)?;
    let mut remote = Remote::new(&args.name, &location.to_string());
    if let Some(limit) = &args.limit {
        let limit = parse_size(limit)
            .map_err(|message| Failure::usage(message, "write a size like 512K or 2M"))?;
        remote.limit = Some(limit).filter(|limit| *limit > 0);
    }
    remote.automatic = !args.manual;
    check_apart(cx, &remote)?;
    check_alone(cx, &remote)?;
    if !args.recipient.is_empty() {
        let trimmed = args.recipient.iter().map(|one| one.trim().to_owned());
        remote.recipients = trimmed.collect();
        // Checked before anything is written.
        Encryption::to(&remote.recipients)?;
        key::warn_of_hardware(cx, &remote.recipients);
    }
    let wants_key = args.encrypt || args.passphrase || args.keychain;
    let needs_key = (location.service != Service::File || wants_key)
        && !args.no_encryption
        && remote.recipients.is_empty();
    if needs_key {
        secrets::check_free(cx, &args.name)?;
    }
    let kept = asked(cx, &remote, &location)?;
    let made = try_place(cx, &remote, args).and_then(|()| match needs_key {
        true => make_key(cx, &mut remote, args).map(Some),
        false => secrets::leave_other_keys(cx, &remote).map(|()| None),
    });
    let key = match made {
        Ok(key) => key,
        Err(failure) => {
            if kept.is_some() {
                credentials::forget(cx, &args.name)?;
            }
            return Err(failure);
        }
    };
    let changed = entered(&text(cx)?, &remote)?;
    check_text(cx, &changed)?;
    write(cx, &changed)?;
    if !args.no_test {
        levels::note_reached(cx, &remote)?;
    }
    tell(cx, &remote, kept, key, args)
}

/// Tries whether the place can be written and read.
fn try_place(cx: &Context, remote: &Remote, args: &AddArgs) -> Result<(), Failure> {
    let far = Far {
        remote: remote.clone(),
    };
    let store = far.store(cx)?;
    if !args.no_test {
        // It has no name yet.
        let failed = |error| bdr::remote::failed(&remote.url, "reach", &error);
        let prepared = store.prepare().map_err(failed);
        prepared
            .and_then(|()| level::reach(&*store, &remote.url))
            .map_err(|error| credentials::advised(cx, remote, error.into()))?;
    }
    Ok(())
}

/// Takes other credentials for a destination that is there already.
fn renew(cx: &Context, remote: &Remote, args: &AddArgs) -> Result<u8, Failure> {
    let (name, location) = (&remote.name, located(cx, &remote.url)?);
    let fields = location.service.fields();
    let is_there = |hint: &str| {
        let message = format!("there is a destination `{name}` already");
        Err(Failure::usage(message, hint))
    };
    let Some(first) = fields.first() else {
        return is_there(&format!("bdr remote show {name}"));
    };
    let variable = credentials::variable_of(name, first);
    if credentials::of(cx, remote, &location).1 == Kept::Variables {
        return is_there(&format!(
            "its credentials are in variables: set those anew ({variable} and the like)"
        ));
    }
    if !cx.ui.can_ask || cx.ui.json {
        return is_there(&format!(
            "to give other credentials, run this at a terminal, or set {variable} and the like"
        ));
    }
    let Some(kept) = ask(cx, remote, &location)? else {
        cx.ui.warn("Nothing was changed.");
        return Ok(exit::PARTIAL);
    };
    try_place(cx, remote, args)?;
    let place = match kept {
        Kept::Keychain => "in the keychain",
        _ => "in a file that only you can read",
    };
    let tried = if args.no_test { "" } else { ", and work" };
    cx.ui.report(&format!(
        "{name}: the credentials are other ones now{tried}. They are {place}.\nNext: bdr push {name}\n"
    ))?;
    Ok(exit::OK)
}

/// Asks for the credentials that a destination needs and nobody has given, and keeps them.
fn asked(cx: &Context, remote: &Remote, location: &Location) -> Result<Option<Kept>, Failure> {
    let (_, found) = credentials::of(cx, remote, location);
    match found != Kept::Elsewhere || !cx.ui.can_ask {
        true => Ok(None),
        false => ask(cx, remote, location),
    }
}

/// Asks for credentials and keeps them; `None` if none were given.
fn ask(cx: &Context, remote: &Remote, location: &Location) -> Result<Option<Kept>, Failure> {
    let fields = location.service.fields();
    let mut values = BTreeMap::new();
    for field in fields {
        // Without one, the provider's own variables, files and profiles are asked.
        let question = format!("{} (Enter for none)", field.title);
        let value = match field.is_secret {
            true => prompt::secret(&question)?,
            false => prompt::line_or_nothing(&question)?,
        };
        let value = Zeroizing::new(value.trim().to_owned());
        if value.is_empty() && field.is_needed {
            return Ok(None);
        }
        if !value.is_empty() {
            values.insert(field.name.to_owned(), value);
        }
    }
    match values.is_empty() {
        true => Ok(None),
        false => Ok(Some(credentials::keep(cx, &remote.name, &values)?)),
    }
}

/// A key that was made, and where messages say that its secret half is.
type Made = (Generated, String);

/// Makes a key, and keeps its secret half.
fn make_key(cx: &Context, remote: &mut Remote, args: &AddArgs) -> Result<Made, Failure> {
    let generated = Generated::new();
    let mut note = Note::default();
    if args.passphrase {
        let keys = KeyArgs {
            passphrase_file: args.passphrase_file.clone(),
            ..KeyArgs::default()
        };
        let passphrase = key::new_passphrase(cx, &keys)?;
        let all = std::slice::from_ref(&generated);
        let bytes = locked(all, &passphrase)?;
        let identity = IdentityNote::new(cx.now, &bytes, Vec::new(), all);
        note.identities.push(identity);
    }
    // What was noted of an earlier destination of that name is about other keys.
    note.write(cx, &remote.name)?;
    let place = secrets::keep(cx, remote, &generated, key::place(args.keychain))?;
    remote.recipients.push(generated.recipient.clone());
    Ok((generated, place))
}

fn tell(
    cx: &Context,
    remote: &Remote,
    kept: Option<Kept>,
    key: Option<Made>,
    args: &AddArgs,
) -> Result<u8, Failure> {
    let (name, is_tried) = (&remote.name, !args.no_test);
    if cx.ui.json {
        let in_file = key.filter(|_| !args.keychain);
        let data = RemoteAddDocument {
            name: name.clone(),
            url: remote.url.clone(),
            recipients: remote.recipients.clone(),
            key_file: in_file.map(|(_, place)| place),
            credentials: kept.map(Kept::word),
            tried: is_tried,
        };
        cx.ui.document("remote.add", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let tried = if is_tried { ", and works" } else { "" };
    let mut words = format!(
        "{name} is a destination now{tried}: {}\n",
        show(remote.url.as_ref())
    );
    if let Some((key, place)) = &key {
        words.push_str(&format!("Encrypted. {}", key::warning(place)));
        if args.passphrase {
            words.push_str("The passphrase opens them as well: bdr clone URL asks for it.\n");
        }
        if !key::present(cx, remote, key, args.yes)? {
            words.push_str(&format!(
                "To print it: bdr remote key show {name} --sheet\n"
            ));
        }
    }
    match kept {
        Some(Kept::Keychain) => words.push_str("The credentials are in the keychain.\n"),
        Some(_) => words.push_str(
            "The credentials are in a file that only you can read: there is no keychain here.\n",
        ),
        None => {}
    }
    if remote.url.starts_with("webdav://") {
        words.push_str(
            "The password goes over the network in the clear: use webdavs:// if the server can.\n",
        );
    }
    if is_on_the_same_disk(cx, remote) {
        words.push_str(
            "It is on the same file system as the repository: if that disk fails, both are lost. If it should be another disk, is that mounted?\n",
        );
    }
    words.push_str(&format!("Next: bdr push {name}\n"));
    cx.ui.report(&words)?;
    Ok(exit::OK)
}
