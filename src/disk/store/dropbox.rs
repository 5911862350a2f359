//! Dropbox: one request for an object, whole, also for one that must not be there yet. Paths are the
//! same in any case; a listing has no order.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::attempts::{self, Failed};
use super::http::{part, range_header};
use super::oauth::{Ask, Client};
use super::{
    Access, Conduct, Location, Object, Store, StoreError, StoreResult, Traffic, Trouble, Write, key,
};

const TOKENS: &str = "https://api.dropboxapi.com/oauth2/token";
const API: &str = "https://api.dropboxapi.com/2/files/";
const CONTENT: &str = "https://content.dropboxapi.com/2/files/";
/// What one page of a listing may have.
const PAGE: u32 = 2000;
/// How many pages may follow each other without anything new: a service that goes round in circles
/// would never end.
const MAX_IDLE: u32 = 100;
/// The digest of a content is made of those of its blocks.
const BLOCK: usize = 4 << 20;

pub(super) struct Dropbox {
    client: Client,
    /// `/DIR`, or nothing for the top.
    root: String,
    /// An account takes one change at a time, and refuses others meanwhile.
    changing: Mutex<()>,
}

/// One entry of a listing: its key or the name of a directory with `/` at its end, and a size.
type Found = (String, u64);

impl Dropbox {
    pub(super) fn open(
        location: &Location,
        access: &Access,
        conduct: &Conduct,
    ) -> StoreResult<Self> {
        let root = match location.root.is_empty() {
            true => String::new(),
            false => format!("/{}", location.root),
        };
        Ok(Self {
            client: Client::open(location, access, conduct, TOKENS)?,
            root,
            changing: Mutex::default(),
        })
    }

    fn path(&self, key: &str) -> String {
        match key.trim_end_matches('/') {
            "" => self.root.clone(),
            key => format!("{}/{key}", self.root),
        }
    }

    /// Asks for something that is described in JSON.
    fn ask(&self, name: &str, about: &Value) -> Result<Value, Failed> {
        self.client.json(&Ask {
            method: "POST",
            url: &format!("{API}{name}"),
            headers: &[("content-type", "application/json")],
            body: about.to_string().as_bytes(),
        })
    }

    fn put_once(&self, key: &str, bytes: &[u8], how: Write) -> Result<(), Failed> {
        let is_new = how == Write::CreateOnly;
        let about = json!({
            "path": self.path(key),
            "mode": if is_new { "add" } else { "overwrite" },
            "autorename": false,
            "mute": true,
            // Otherwise the same content would pass for new.
            "strict_conflict": is_new,
        });
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = self.client.json(&Ask {
            method: "POST",
            url: &format!("{CONTENT}upload"),
            headers: &[
                ("content-type", "application/octet-stream"),
                ("dropbox-api-arg", &ascii(&about)),
            ],
            body: bytes,
        })?;
        drop(changing);
        match stored["content_hash"].as_str() == Some(&content_hash(bytes)) {
            true => Ok(()),
            false => {
                let said = "the answer does not say that the object was stored as it was sent";
                Err(Failed::new(Trouble::Nonsense, said))
            }
        }
    }

    /// Runs through a listing; `each` says whether an entry is new.
    fn walk(
        &self,
        prefix: &str,
        is_deep: bool,
        each: &mut dyn FnMut(Found) -> bool,
    ) -> Result<(), Failed> {
        let path = self.path(prefix);
        let depth = path.matches('/').count();
        let first = json!({"path": path, "recursive": is_deep, "limit": PAGE});
        let mut page = match self.ask("list_folder", &first) {
            // A directory that is not there is an empty prefix.
            Err(failed) if failed.error.trouble == Trouble::NotFound => return Ok(()),
            page => page?,
        };
        let mut idle = 0;
        loop {
            let (Some(entries), Some(more)) =
                (page["entries"].as_array(), page["has_more"].as_bool())
            else {
                return Err(Failed::new(Trouble::Nonsense, "the answer is no listing"));
            };
            let mut has_new = false;
            for entry in entries {
                if let Some((name, bytes)) = found(entry, depth) {
                    has_new |= each((format!("{prefix}{name}"), bytes));
                }
            }
            if !more {
                return Ok(());
            }
            idle = if has_new { 0 } else { idle + 1 };
            if idle > MAX_IDLE {
                return Err(Failed::new(Trouble::Nonsense, "the listing has no end"));
            }
            page = match self.ask("list_folder/continue", &json!({"cursor": page["cursor"]})) {
                // It was changed meanwhile: from the beginning.
                Err(failed) if failed.error.said.contains("reset") => {
                    let said = "the listing was changed while it was read";
                    return Err(Failed::refused(Trouble::Busy, said));
                }
                page => page?,
            };
        }
    }
}

/// Reads one entry: what follows the first `depth` parts of its path. `None` for what is not bdr's,
/// and for the directory itself.
fn found(entry: &Value, depth: usize) -> Option<Found> {
    let path = entry["path_display"].as_str()?;
    let parts: Vec<&str> = path.split('/').skip(depth + 1).collect();
    let name = parts.join("/");
    key::check(&name).ok()?;
    match entry[".tag"].as_str()? {
        "file" => Some((name, entry["size"].as_u64()?)),
        "folder" => Some((format!("{name}/"), 0)),
        _ => None,
    }
}

/// Writes JSON that can be in a header.
fn ascii(value: &Value) -> String {
    use std::fmt::Write as _;
    let text = value.to_string();
    text.chars().fold(String::new(), |mut out, c| {
        match c.is_ascii() && c != '\u{7f}' {
            true => out.push(c),
            false => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
        out
    })
}

/// Returns what Dropbox calls the hash of a content.
fn content_hash(bytes: &[u8]) -> String {
    let mut whole = Sha256::new();
    for block in bytes.chunks(BLOCK) {
        whole.update(Sha256::digest(block));
    }
    hex::encode(whole.finalize())
}

impl Store for Dropbox {
    fn put(&self, key: &str, bytes: &[u8], how: Write) -> StoreResult<()> {
        key::check(key)?;
        let put = self.client.repeat(|| self.put_once(key, bytes, how));
        attempts::arrived(put, bytes, || self.get(key, None))
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> StoreResult<Vec<u8>> {
        key::check(key)?;
        if let Some(answer) = super::without_asking(range.as_ref()) {
            return answer;
        }
        let about = ascii(&json!({"path": self.path(key)}));
        let asked = range.as_ref().map(range_header);
        let mut headers = vec![
            ("dropbox-api-arg", about.as_str()),
            ("content-type", "application/octet-stream"),
        ];
        headers.extend(asked.iter().map(|asked| ("range", asked.as_str())));
        let ask = Ask {
            method: "POST",
            url: &format!("{CONTENT}download"),
            headers: &headers,
            body: &[],
        };
        let answer = self.client.repeat(|| self.client.send(&ask));
        part(answer.map_err(|failed| failed.error)?, range)
    }

    fn size(&self, key: &str) -> StoreResult<Option<u64>> {
        key::check(key)?;
        let about = json!({"path": self.path(key)});
        let found = self.client.repeat(|| self.ask("get_metadata", &about));
        match found.map_err(|failed| failed.error) {
            Ok(found) if found[".tag"] == "file" => match found["size"].as_u64() {
                Some(bytes) => Ok(Some(bytes)),
                None => Err(StoreError::new(
                    Trouble::Nonsense,
                    "the service does not say how large an object is",
                )),
            },
            Ok(_) => Ok(None),
            Err(error) if error.trouble == Trouble::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> StoreResult<()> {
        key::check_prefix(prefix)?;
        let mut found = BTreeMap::new();
        let listed = self.client.repeat(|| {
            found.clear();
            self.walk(prefix, true, &mut |(key, bytes)| {
                !key.ends_with('/') && found.insert(key, bytes).is_none()
            })
        });
        listed.map_err(|failed| failed.error)?;
        let wanted = found
            .into_iter()
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        let mut objects = wanted.map(|(key, bytes)| Object { key, bytes });
        let _ = objects.try_for_each(each);
        Ok(())
    }

    fn names(&self, prefix: &str) -> StoreResult<Vec<String>> {
        key::check_prefix(prefix)?;
        let mut names = BTreeSet::new();
        let listed = self.client.repeat(|| {
            names.clear();
            self.walk(prefix, false, &mut |(key, _)| {
                names.insert(key[prefix.len()..].to_owned())
            })
        });
        listed.map_err(|failed| failed.error)?;
        Ok(names.into_iter().collect())
    }

    fn remove(&self, key: &str) -> StoreResult<()> {
        key::check(key)?;
        let about = json!({"path": self.path(key)});
        let removed = self.client.repeat(|| {
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            self.ask("delete_v2", &about)
        });
        match removed.map_err(|failed| failed.error) {
            Err(error) if error.trouble == Trouble::NotFound => Ok(()),
            removed => removed.map(|_| ()),
        }
    }

    fn has_create_only(&self) -> bool {
        true
    }

    fn traffic(&self) -> Traffic {
        self.client.traffic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_header_is_ascii_and_means_the_same() {
        let about = json!({"path": "/Größe 🦀/\u{7f}x"});
        let header = ascii(&about);
        assert!(
            header.bytes().all(|byte| (0x20..0x7f).contains(&byte)),
            "{header}"
        );
        assert_eq!(serde_json::from_str::<Value>(&header).unwrap(), about);
    }

    /// The example of Dropbox's documentation is a picture; this is its rule for small ones.
    #[test]
    fn the_hash_of_a_content_is_of_the_digests_of_its_blocks() {
        let small = hex::encode(Sha256::digest(Sha256::digest(b"abc")));
        assert_eq!(content_hash(b"abc"), small);
        assert_eq!(content_hash(b""), hex::encode(Sha256::digest(b"")));
        let large = vec![7; BLOCK + 1];
        let parts = [Sha256::digest(&large[..BLOCK]), Sha256::digest([7])].concat();
        assert_eq!(content_hash(&large), hex::encode(Sha256::digest(parts)));
    }
}
