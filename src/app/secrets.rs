//! The secret halves of the keys of destinations that this machine has, and what it knows of them.
//!
//! A machine pushes without them. They are in a file beside the configuration, or in the keychain of
//! the system under the name of their public half: so one never replaces another. What is known of
//! them (never they themselves) is in bdr's state directory.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bdr::base::error::IoContext as _;
use bdr::base::id::Id;
use bdr::base::path::shell_path;
use bdr::disk::fsutil;
use bdr::model::config::Remote;
use bdr::remote::Destination;
use bdr::remote::crypt::Generated;
use bdr::remote::identity::name_of;
use bdr::remote::ledger::At;
use bdr::remote::sign::{self, Signer};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::context::Context;
use super::error::Failure;
use super::keychain;
use super::signers;

/// Where a secret key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    File,
    Keychain,
}

/// A key with its secret half.
pub(crate) struct Secret {
    pub(crate) key: Generated,
    pub(crate) place: Place,
}

/// What is known of the keys of a destination.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Those that were made here, newest last.
    #[serde(default)]
    pub(crate) keys: Vec<KeyNote>,
    /// Locked identities that are to be at the destination.
    #[serde(default)]
    pub(crate) identities: Vec<IdentityNote>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeyNote {
    pub(crate) recipient: String,
    pub(crate) made: DateTime<Utc>,
    #[serde(default)]
    pub(crate) in_keychain: bool,
    /// When its sheet was shown, or the secret itself.
    #[serde(default)]
    pub(crate) shown: Option<DateTime<Utc>>,
    /// When somebody said that it is in another place.
    #[serde(default)]
    pub(crate) stored: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct IdentityNote {
    pub(crate) name: String,
    pub(crate) made: DateTime<Utc>,
    /// Who opens it; nobody: a passphrase does.
    #[serde(default)]
    pub(crate) recipients: Vec<String>,
    /// The recipients whose secret halves are in it.
    pub(crate) opens: Vec<String>,
    /// As it is stored, in base 64.
    bytes: String,
}

impl IdentityNote {
    pub(crate) fn new(
        now: DateTime<Utc>,
        bytes: &[u8],
        recipients: Vec<String>,
        keys: &[Generated],
    ) -> Self {
        Self {
            name: name_of(bytes),
            made: now,
            recipients,
            opens: keys.iter().map(|key| key.recipient.clone()).collect(),
            bytes: STANDARD.encode(bytes),
        }
    }
}

impl Note {
    fn file(cx: &Context, name: &str) -> PathBuf {
        let remotes = cx.places.state.join("remotes");
        remotes.join(format!("{name}.keys.json"))
    }

    /// Reads it; there is an empty one where nothing is known.
    pub(crate) fn read(cx: &Context, name: &str) -> Self {
        let json = fsutil::read_derived(&Self::file(cx, name));
        let note = json.and_then(|json| serde_json::from_slice(&json).ok());
        note.unwrap_or_default()
    }

    pub(crate) fn write(&self, cx: &Context, name: &str) -> Result<(), Failure> {
        let path = Self::file(cx, name);
        let json = serde_json::to_vec(self).map_err(|e| bdr::Error::Unrecordable {
            reason: e.to_string(),
        })?;
        fsutil::create_dir_private(path.parent().unwrap_or(Path::new(".")))?;
        Ok(fsutil::write_atomic(&path, &json, 0o600)?)
    }

    /// Returns the keys of these recipients that, as far as bdr knows, are on this machine alone.
    pub(crate) fn only_here(&self, cx: &Context, remote: &Remote) -> Vec<&KeyNote> {
        let has_file = key_file(cx, &remote.name).is_file();
        let is_locked = |key: &KeyNote| {
            let mut for_passphrase = self
                .identities
                .iter()
                .filter(|one| one.recipients.is_empty());
            for_passphrase.any(|one| one.opens.contains(&key.recipient))
        };
        let is_alone = |key: &&KeyNote| {
            (has_file || key.in_keychain)
                && key.shown.is_none()
                && key.stored.is_none()
                && !is_locked(key)
        };
        // Whoever else can open it can open it without this one.
        let all_made = remote.recipients.iter().all(|one| {
            self.keys
                .iter()
                .any(|key| key.recipient == *one && is_alone(&key))
        });
        let used = self
            .keys
            .iter()
            .filter(|key| remote.recipients.contains(&key.recipient));
        match all_made {
            true => used.filter(is_alone).collect(),
            false => Vec::new(),
        }
    }

    /// Notes that a person was shown a key, or said where it is.
    pub(crate) fn seen(&mut self, recipient: &str, now: DateTime<Utc>, is_stored: bool) {
        for key in self
            .keys
            .iter_mut()
            .filter(|key| key.recipient == recipient)
        {
            key.shown = Some(now);
            if is_stored {
                key.stored = Some(now);
            }
        }
    }
}

/// Returns the file of the secret keys of a destination.
pub(crate) fn key_file(cx: &Context, name: &str) -> PathBuf {
    let dir = cx.places.config.parent().unwrap_or(Path::new("."));
    dir.join(format!("{name}.key"))
}

/// The name of an entry in the keychain.
fn entry(recipient: &str) -> String {
    format!("remote-key-{recipient}")
}

/// Returns the keys of a destination that are in the keychain; one that is locked has none.
pub(crate) fn in_keychain(cx: &Context, name: &str) -> Vec<Generated> {
    let note = Note::read(cx, name);
    let inside = note.keys.iter().filter(|key| key.in_keychain);
    let read = |key: &KeyNote| {
        let bytes = keychain::read(&entry(&key.recipient)).ok().flatten()?;
        let bytes = Zeroizing::new(bytes);
        Generated::parse(std::str::from_utf8(&bytes).ok()?)
    };
    inside.filter_map(read).collect()
}

/// Returns the secret keys of a destination that this machine has and can open without a question.
pub(crate) fn all(cx: &Context, name: &str) -> Vec<Secret> {
    let text = std::fs::read(key_file(cx, name)).map(Zeroizing::new);
    let in_file = text.ok().and_then(|text| Generated::all_of(&text).ok());
    let secret = |place| move |key| Secret { key, place };
    let mut all: Vec<Secret> = in_file
        .unwrap_or_default()
        .into_iter()
        .map(secret(Place::File))
        .collect();
    all.extend(
        in_keychain(cx, name)
            .into_iter()
            .map(secret(Place::Keychain)),
    );
    all
}

/// Returns where the secret keys of a destination are, if they are on this machine.
pub(crate) fn place_of(cx: &Context, name: &str) -> Option<String> {
    let file = key_file(cx, name);
    if file.symlink_metadata().is_ok() {
        return Some(cx.shown_absolute(&file));
    }
    let note = Note::read(cx, name);
    let kept = note.keys.iter().any(|key| key.in_keychain);
    kept.then(|| "the keychain".to_owned())
}

/// Refuses to make a key where one of an earlier destination is: backups that it opens would be lost.
pub(crate) fn check_free(cx: &Context, name: &str) -> Result<(), Failure> {
    let Some(place) = place_of(cx, name) else {
        return Ok(());
    };
    Err(Failure::usage(
        format!("the key of an earlier destination `{name}` is in {place}"),
        "choose another name, or move it away; to go on with that key: --recipient age1…",
    ))
}

/// Keeps a new key, beside those that are there. Returns what messages call the place.
pub(crate) fn keep(
    cx: &Context,
    remote: &Remote,
    key: &Generated,
    place: Place,
) -> Result<String, Failure> {
    let shown = match place {
        Place::Keychain => {
            keep_in_keychain(key)?;
            "the keychain".to_owned()
        }
        Place::File => keep_in_file(cx, remote, key)?,
    };
    let mut note = Note::read(cx, &remote.name);
    note.keys.retain(|one| one.recipient != key.recipient);
    note.keys.push(KeyNote {
        recipient: key.recipient.clone(),
        made: cx.now,
        in_keychain: place == Place::Keychain,
        shown: None,
        stored: None,
    });
    note.write(cx, &remote.name)?;
    Ok(shown)
}

/// Moves the secret keys of a destination to one of the two places; returns their public halves, and
/// what messages call the place.
pub(crate) fn shift(
    cx: &Context,
    remote: &Remote,
    to: Place,
) -> Result<(Vec<String>, String), Failure> {
    let path = key_file(cx, &remote.name);
    let shown = match to {
        Place::Keychain => "the keychain".to_owned(),
        Place::File => cx.shown_absolute(&path),
    };
    let all = all(cx, &remote.name);
    let moving: Vec<&Secret> = all.iter().filter(|secret| secret.place != to).collect();
    if moving.is_empty() {
        return Ok((Vec::new(), shown));
    }
    // First where they are to be, and read back; only then not where they were.
    for secret in &moving {
        match to {
            Place::Keychain => keep_in_keychain(&secret.key)?,
            Place::File => drop(keep_in_file(cx, remote, &secret.key)?),
        }
    }
    let keys: Vec<String> = moving
        .iter()
        .map(|secret| secret.key.recipient.clone())
        .collect();
    let mut note = Note::read(cx, &remote.name);
    for recipient in &keys {
        if note.keys.iter().all(|key| key.recipient != *recipient) {
            note.keys.push(KeyNote {
                recipient: recipient.clone(),
                made: cx.now,
                in_keychain: false,
                shown: None,
                stored: None,
            });
        }
    }
    for key in &mut note.keys {
        if keys.contains(&key.recipient) {
            key.in_keychain = to == Place::Keychain;
        }
    }
    note.write(cx, &remote.name)?;
    match to {
        // It had nothing that bdr could not read, so all of it is in the keychain.
        Place::Keychain => fsutil::remove_file(&path).context("remove", &path)?,
        Place::File => {
            for recipient in &keys {
                // What stays there is a copy.
                let _ = keychain::erase(&entry(recipient));
            }
        }
    }
    Ok((keys, shown))
}

/// Forgets locked identities that an earlier destination of that name had, for other keys.
pub(crate) fn leave_other_keys(cx: &Context, remote: &Remote) -> Result<(), Failure> {
    let mut note = Note::read(cx, &remote.name);
    let count = note.identities.len();
    let is_used = |one: &IdentityNote| one.opens.iter().any(|key| remote.recipients.contains(key));
    note.identities.retain(is_used);
    match note.identities.len() == count {
        true => Ok(()),
        false => note.write(cx, &remote.name),
    }
}

fn keep_in_keychain(key: &Generated) -> Result<(), Failure> {
    let entry = entry(&key.recipient);
    let failed = |why: String| {
        Failure::usage(
            format!("the key cannot be kept in the keychain: {why}"),
            "unlock it and try again, or leave out --keychain: then it is in a file that only you can read",
        )
    };
    keychain::write(&entry, key.secret.as_bytes()).map_err(failed)?;
    // Do not rely on a key that was not read back.
    match keychain::read(&entry).map_err(failed)?.map(Zeroizing::new) {
        Some(read) if read[..] == *key.secret.as_bytes() => Ok(()),
        _ => Err(failed("it was not stored".to_owned())),
    }
}

fn keep_in_file(cx: &Context, remote: &Remote, key: &Generated) -> Result<String, Failure> {
    let path = key_file(cx, &remote.name);
    fsutil::create_dir_private(path.parent().unwrap_or(Path::new(".")))?;
    // So whoever has this file alone notices what somebody else wrote there.
    let signed = signers::own_or_new(cx).map_or_else(String::new, signed_by);
    let mut text = Zeroizing::new(format!(
        "# bdr: opens what is pushed to {}\n{signed}# public key: {}\n{}\n",
        remote.name, key.recipient, *key.secret
    ));
    match std::fs::read(&path).map(Zeroizing::new) {
        Ok(older) => {
            // What is encrypted, or an SSH key, cannot have another one beside it.
            Generated::all_of(&older)?;
            text.push_str(&String::from_utf8_lossy(&older));
            fsutil::write_atomic(&path, text.as_bytes(), 0o600)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            // Never over another: backups that it opens would be lost.
            fsutil::write_new(&path, text.as_bytes(), 0o600)?;
        }
        Err(error) => return Err(bdr::Error::io("read", &path, error).into()),
    }
    Ok(cx.shown_absolute(&path))
}

fn signed_by((machine, signer): (Id, Signer)) -> String {
    format!("# signed by: {}\n", signer.of_machine(machine))
}

/// Says in the file with the secret key who signs what is pushed, if it does not: the file may be
/// older than the repository, or than the id of this machine.
pub(crate) fn note_signer(cx: &Context, remote: &Remote, own: (Id, Signer)) {
    let path = key_file(cx, &remote.name);
    let Some(older) = path
        .symlink_metadata()
        .is_ok_and(|metadata| metadata.is_file())
        .then(|| std::fs::read(&path).ok())
        .flatten()
        .and_then(|text| String::from_utf8(text).ok())
        .map(Zeroizing::new)
    else {
        return;
    };
    // The first one counts.
    let known = sign::found_in(&older).find(|(machine, _)| *machine == own.0);
    if known.is_some_and(|(_, signer)| signer == own.1) {
        return;
    }
    let text = Zeroizing::new(format!("{}{}", signed_by(own), *older));
    let keys = |text: &str| {
        let keys = Generated::all_of(text.as_bytes()).ok()?;
        Some(
            keys.into_iter()
                .map(|key| key.recipient)
                .collect::<Vec<_>>(),
        )
    };
    // A file that somebody put there may not be one that takes a comment.
    if keys(&older).is_some_and(|all| keys(&text) == Some(all)) {
        // Without it, what opens there is the same.
        let _ = fsutil::write_atomic(&path, text.as_bytes(), 0o600);
    }
}

/// Puts the locked identities of a destination there, those that are not there yet.
pub(crate) fn put_identities(
    cx: &Context,
    remote: &Remote,
    destination: &Destination,
    at: &mut At,
) -> Result<(), Failure> {
    for one in Note::read(cx, &remote.name).identities {
        if at.identities.contains(&one.name) {
            continue;
        }
        if let Ok(bytes) = STANDARD.decode(&one.bytes) {
            destination.keep_identity(&bytes)?;
            at.identities.push(one.name);
        }
    }
    Ok(())
}

/// Says that the key of a destination may be lost with this machine, if that is so as far as bdr knows.
pub(crate) fn warning(cx: &Context, remote: &Remote) -> Option<(String, String)> {
    let note = Note::read(cx, &remote.name);
    let place = match note.only_here(cx, remote).first()?.in_keychain {
        true => "the keychain of this machine".to_owned(),
        false => cx.shown_absolute(&key_file(cx, &remote.name)),
    };
    let says = format!(
        "as far as bdr knows, the secret key of {} is only in {place}: if that is lost, nobody can read the backups there",
        remote.name
    );
    let fix = format!("bdr remote key show {} --sheet", remote.name);
    Some((says, fix))
}

/// Says that others can read the file with the secret key, with what to do about it.
pub(crate) fn open_to_others(cx: &Context, remote: &Remote) -> Option<(String, String)> {
    let file = key_file(cx, &remote.name);
    fsutil::is_open_to_readers(&file).then(|| {
        let says = format!(
            "other users of this machine can read the secret key of {}, and with it the backups there",
            remote.name
        );
        (says, format!("chmod 600 {}", shell_path(&file)))
    })
}

/// Gives the keys of a destination to it under another name.
pub(crate) fn rename(cx: &Context, old: &str, new: &str) -> Result<(), Failure> {
    for (from, to) in [
        (key_file(cx, old), key_file(cx, new)),
        (Note::file(cx, old), Note::file(cx, new)),
    ] {
        if from.symlink_metadata().is_ok() {
            fsutil::rename(&from, &to).context("rename", &from)?;
        }
    }
    Ok(())
}
