//! Credentials of destinations: in variables, in the system's keychain, or in a file that only this
//! user can read. Never in the configuration, which people share.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bdr::base::path::shell_path;
use bdr::disk::fsutil;
use bdr::disk::store::{Access, Field, Location, Service};
use bdr::model::config::Remote;
use zeroize::Zeroizing;

use super::context::{Context, variable};
use super::error::Failure;
use super::keychain;

/// Where credentials were found, or are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Variables,
    Keychain,
    File,
    /// Nowhere of bdr's: the provider's own variables, files and profiles are asked.
    Elsewhere,
}

impl Kept {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Variables => "variables",
            Self::Keychain => "keychain",
            Self::File => "file",
            Self::Elsewhere => "provider",
        }
    }
}

/// Returns the name of the variable that has a credential of a destination; of one that is only named
/// by its URL, `BDR_REMOTE_<FIELD>`.
pub(crate) fn variable_of(name: &str, field: &Field) -> String {
    let upper = |text: &str| text.to_ascii_uppercase().replace('-', "_");
    match name.is_empty() {
        true => format!("BDR_REMOTE_{}", upper(field.name)),
        false => format!("BDR_REMOTE_{}_{}", upper(name), upper(field.name)),
    }
}

/// The name of the entry in the keychain.
fn entry(name: &str) -> String {
    format!("remote-{name}")
}

fn file(cx: &Context, name: &str) -> PathBuf {
    let remotes = cx.places.state.join("remotes");
    remotes.join(format!("{name}.credentials"))
}

/// Returns the credentials of a destination, and where they are from.
pub(crate) fn of(cx: &Context, remote: &Remote, location: &Location) -> (Access, Kept) {
    let mut access = Access::default();
    for field in location.service.fields() {
        let value = variable(&variable_of(&remote.name, field));
        if let Some(value) = value.and_then(|value| value.into_string().ok()) {
            access.set(field.name, value);
        }
    }
    let mut kept = Kept::Variables;
    if access.is_empty()
        && let Some((values, place)) = kept_of(cx, &remote.name)
    {
        values
            .into_iter()
            .for_each(|(name, value)| access.set(name, value.as_str()));
        kept = place;
    }
    // The region is no secret, and belongs to the same variables.
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        if location.service == Service::S3
            && let Some(region) = variable(name).and_then(|value| value.into_string().ok())
        {
            access.set("region", region);
            break;
        }
    }
    access.own_ways = location
        .service
        .fields()
        .iter()
        .all(|field| access.get(field.name).is_none());
    if access.own_ways {
        kept = Kept::Elsewhere;
    }
    (access, kept)
}

/// Says by name which credentials bdr looked for, where a store refuses.
pub(crate) fn advised(cx: &Context, remote: &Remote, failure: Failure) -> Failure {
    failure.hinted(|error| {
        let bdr::Error::Remote { trouble, .. } = error else {
            return None;
        };
        let location = Location::parse(&remote.url).ok()?;
        let fields = location.service.fields();
        let needed = fields.iter().filter(|field| field.is_needed);
        let mut names: Vec<String> = needed.map(|f| variable_of(&remote.name, f)).collect();
        if names.is_empty() {
            names.extend(fields.first().map(|field| variable_of(&remote.name, field)));
        }
        if names.is_empty() {
            return None;
        }
        let names = names.join(" and ");
        match (*trouble, of(cx, remote, &location).1) {
            ("credentials" | "forbidden", Kept::Elsewhere) => Some(format!(
                "bdr has no credentials for it: set {names}, or check what the provider's own variables and files say"
            )),
            ("credentials", Kept::Variables) => Some(format!("check the value of {names}")),
            ("credentials", _) if !remote.name.is_empty() => Some(format!(
                "check the key and the secret, or the password; to give others: bdr remote add {} {}",
                remote.name,
                shell_path(Path::new(&remote.url))
            )),
            _ => None,
        }
    })
}

type Values = BTreeMap<String, Zeroizing<String>>;

fn kept_of(cx: &Context, name: &str) -> Option<(Values, Kept)> {
    if name.is_empty() {
        return None;
    }
    let (bytes, place) = match fsutil::read_derived(&file(cx, name)) {
        Some(bytes) if !bytes.is_empty() => (Zeroizing::new(bytes), Kept::File),
        // An empty file says that they are in the keychain.
        Some(_) => {
            let bytes = keychain::read(&entry(name)).ok().flatten()?;
            (Zeroizing::new(bytes), Kept::Keychain)
        }
        None => return None,
    };
    let values: BTreeMap<String, String> = serde_json::from_slice(&bytes).ok()?;
    let values = values
        .into_iter()
        .map(|(name, value)| (name, Zeroizing::new(value)));
    Some((values.collect(), place))
}

/// Keeps credentials: in the keychain if there is one that takes them, else in a file.
pub(crate) fn keep(cx: &Context, name: &str, values: &Values) -> Result<Kept, Failure> {
    let plain: BTreeMap<&str, &str> = values
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let bytes = Zeroizing::new(serde_json::to_vec(&plain).unwrap_or_default());
    let path = file(cx, name);
    if let Some(dir) = path.parent() {
        fsutil::create_dir_private(dir)?;
    }
    let is_there = keychain::write(&entry(name), &bytes).is_ok()
        && keychain::read(&entry(name)).is_ok_and(|read| read.as_deref() == Some(&bytes[..]));
    match is_there {
        true => fsutil::write_atomic(&path, b"", 0o600)?,
        false => fsutil::write_atomic(&path, &bytes, 0o600)?,
    }
    Ok(if is_there { Kept::Keychain } else { Kept::File })
}

/// Forgets the credentials of a destination.
pub(crate) fn forget(cx: &Context, name: &str) -> Result<(), Failure> {
    let path = file(cx, name);
    if fsutil::read_derived(&path).is_some_and(|bytes| bytes.is_empty()) {
        // One that stays opens no more than before.
        let _ = keychain::erase(&entry(name));
    }
    fsutil::remove_file(&path).map_err(|e| bdr::Error::io("remove", &path, e))?;
    Ok(())
}

/// Gives the credentials of a destination to it under another name.
pub(crate) fn rename(cx: &Context, old: &str, new: &str) -> Result<(), Failure> {
    if let Some((values, _)) = kept_of(cx, old) {
        keep(cx, new, &values)?;
        forget(cx, old)?;
    }
    Ok(())
}
