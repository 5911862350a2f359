//! `bdr remote add`.

use std::collections::BTreeMap;
use std::path::Path;

use bdr::base::path::{absolute, show};
use bdr::disk::fsutil;
use bdr::disk::store::{Location, Service};
use bdr::model::config::{Remote, check_remote_name, edit, parse_size};
use bdr::remote::crypt::{Encryption, Generated};
use bdr::remote::level;
use clap::Args;
use zeroize::Zeroizing;

use crate::app::config::{check_text, text, write};
use crate::app::context::Context;
use crate::app::credentials::{self, Kept};
use crate::app::documents::RemoteAddDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::remotes::{Far, key_file};
use crate::ui::prompt;

/// Add a destination
///
/// Asks for the credentials that it needs, and tries the place: it writes a small object, reads it and removes it. Everywhere but in
/// a directory, backups are encrypted: without --recipient, a new key is made, whose secret half you have to keep in another place.
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
    /// Do not encrypt: whoever can read the place can read the backups
    #[arg(long, conflicts_with = "recipient")]
    no_encryption: bool,
    /// The most bytes a second, like 2M
    #[arg(long, value_name = "SIZE")]
    limit: Option<String>,
    /// Push only when you say so (bdr push), not after backups
    #[arg(long)]
    manual: bool,
    /// Do not try the place
    #[arg(long)]
    no_test: bool,
    #[command(flatten)]
    _never_asks: prompt::NeverAsks,
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
    check_new_name(cx, &args.name)?;
    let location = located(cx, &args.url)?;
    let mut remote = Remote::new(&args.name, &location.to_string());
    if let Some(limit) = &args.limit {
        let limit = parse_size(limit)
            .map_err(|message| Failure::usage(message, "write a size like 512K or 2M"))?;
        remote.limit = Some(limit).filter(|limit| *limit > 0);
    }
    remote.automatic = !args.manual;
    if !args.recipient.is_empty() {
        // Checked before anything is written.
        Encryption::to(&args.recipient)?;
        remote.recipients.clone_from(&args.recipient);
    }
    let kept = asked(cx, &remote, &location)?;
    let tried = (|| {
        let far = Far {
            remote: remote.clone(),
        };
        let store = far.store(cx)?;
        let failed = |error| bdr::remote::failed(&args.name, "reach", &error);
        if !args.no_test {
            store.prepare().map_err(failed)?;
            level::reach(&*store, &args.name)?;
        }
        Ok(())
    })();
    if let Err(failure) = tried {
        if kept.is_some() {
            credentials::forget(cx, &args.name)?;
        }
        return Err(failure);
    }
    let needs_key = location.service != Service::File && !args.no_encryption;
    let key = match remote.recipients.is_empty() && needs_key {
        true => Some(make_key(cx, &mut remote)?),
        false => None,
    };
    let changed = entered(&text(cx)?, &remote)?;
    check_text(cx, &changed)?;
    write(cx, &changed)?;
    tell(cx, &remote, kept, key.as_deref(), !args.no_test)
}

/// Reads the address; a relative directory is one below the current directory.
fn located(cx: &Context, url: &str) -> Result<Location, Failure> {
    let is_path = !url.contains(':') && (url.contains('/') || cx.cwd.join(url).is_dir());
    if is_path || url.starts_with('~') {
        let below = url.strip_prefix("~/").zip(cx.home.as_ref());
        let path = match below {
            Some((rest, home)) => home.join(rest),
            None => absolute(&cx.cwd, Path::new(url)),
        };
        let Some(path) = path.to_str() else {
            let message = "the name of that directory is not UTF-8";
            return Err(Failure::usage(message, "name another directory"));
        };
        return Ok(Location::parse(path)?);
    }
    Ok(Location::parse(url)?)
}

/// Asks for the credentials that a destination needs and nobody has given, and keeps them.
fn asked(cx: &Context, remote: &Remote, location: &Location) -> Result<Option<Kept>, Failure> {
    let (_, found) = credentials::of(cx, remote, location);
    let fields = location.service.fields();
    if found != Kept::Elsewhere || fields.is_empty() || !cx.ui.can_ask {
        return Ok(None);
    }
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

/// Makes a key, and keeps its secret half in a file that only this user can read. Returns the file.
fn make_key(cx: &Context, remote: &mut Remote) -> Result<String, Failure> {
    let generated = Generated::new();
    let path = key_file(cx, &remote.name);
    fsutil::create_dir_private(path.parent().unwrap_or(Path::new(".")))?;
    let text = Zeroizing::new(format!(
        "# bdr: opens what is pushed to {}\n# public key: {}\n{}\n",
        remote.name, generated.recipient, *generated.secret
    ));
    // Never over another: backups that it opens would be lost.
    fsutil::write_new(&path, text.as_bytes(), 0o600)?;
    remote.recipients.push(generated.recipient.clone());
    Ok(cx.shown_absolute(&path))
}

fn tell(
    cx: &Context,
    remote: &Remote,
    kept: Option<Kept>,
    key: Option<&str>,
    is_tried: bool,
) -> Result<u8, Failure> {
    let name = &remote.name;
    if cx.ui.json {
        let data = RemoteAddDocument {
            name: name.clone(),
            url: remote.url.clone(),
            recipients: remote.recipients.clone(),
            key_file: key.map(str::to_owned),
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
    if let Some(key) = key {
        words.push_str(&format!(
            "Encrypted. The secret key is in {key}.\n\
             Without it nobody can read the backups, you neither: print it or copy it to another place now.\n"
        ));
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
    words.push_str(&format!("Next: bdr push {name}\n"));
    cx.ui.report(&words)?;
    Ok(exit::OK)
}
