//! Google Drive: files have numbers, names are only written on them, and nothing keeps two from
//! having the same name in the same folder. So a path stands for all that have its names, whoever
//! made them; what is written is found again by all of them, and what is removed is removed in all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::{ControlFlow, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::attempts::Failed;
use super::http::{part, range_header};
use super::oauth::{Ask, Client, encode};
use super::{
    Access, Conduct, Location, Object, Store, StoreError, StoreResult, Traffic, Trouble, Write, key,
};

const TOKENS: &str = "https://oauth2.googleapis.com/token";
const FILES: &str = "https://www.googleapis.com/drive/v3/files";
const UPLOAD: &str = "https://www.googleapis.com/upload/drive/v3/files";
const FOLDER: &str = "application/vnd.google-apps.folder";
/// The number of the folder that has everything.
const TOP: &str = "root";
/// The largest content that is sent together with its description.
const TOGETHER: usize = 5 << 20;
/// How many folders one request may list.
const FOLDERS: usize = 50;
/// Folders are not nested deeper, nor are listings longer, than anything of bdr's.
const MAX_DEPTH: usize = 16;
const MAX_PAGES: u32 = 100_000;

pub(super) struct Gdrive {
    client: Client,
    /// The names of the folders above everything.
    root: Vec<String>,
    state: Mutex<State>,
}

/// What was found before.
#[derive(Default)]
struct State {
    /// The numbers of the folders of a path, the oldest first.
    folders: HashMap<String, Vec<String>>,
    /// Those of the files of a key, the newest first.
    files: HashMap<String, Vec<String>>,
    /// Numbers for new files, which Drive gives beforehand: so a creation whose answer was lost can be
    /// asked for again, and does not make a second file.
    numbers: Vec<String>,
}

/// A file or folder, as a listing has it.
struct Entry {
    id: String,
    name: String,
    is_folder: bool,
    bytes: u64,
    parents: Vec<String>,
}

impl Entry {
    fn read(value: &Value) -> Option<Self> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let parents = value["parents"].as_array().into_iter().flatten();
        Some(Self {
            id: text("id")?,
            name: text("name")?,
            is_folder: value["mimeType"] == FOLDER,
            bytes: value["size"]
                .as_str()
                .and_then(|s| s.parse().ok())
                .unwrap_or(0),
            parents: parents
                .filter_map(|p| p.as_str().map(str::to_owned))
                .collect(),
        })
    }
}

/// Writes a text in the query language.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn in_any(parents: &[String]) -> String {
    let parts: Vec<String> = parents
        .iter()
        .map(|id| format!("{} in parents", quoted(id)))
        .collect();
    format!("({})", parts.join(" or "))
}

impl Gdrive {
    pub(super) fn open(
        location: &Location,
        access: &Access,
        conduct: &Conduct,
    ) -> StoreResult<Self> {
        let parts = location.root.split('/').filter(|part| !part.is_empty());
        Ok(Self {
            client: Client::open(location, access, conduct, TOKENS)?,
            root: parts.map(str::to_owned).collect(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds what a query describes, the oldest first.
    fn find(&self, query: &str) -> Result<Vec<Entry>, Failed> {
        let mut found = Vec::new();
        let mut token = String::new();
        for _ in 0..MAX_PAGES {
            let page = match token.is_empty() {
                true => String::new(),
                false => format!("&pageToken={}", encode(&token)),
            };
            let url = format!(
                "{FILES}?pageSize=1000&orderBy=createdTime&q={}&fields={}{page}",
                encode(&format!("{query} and trashed = false")),
                encode("nextPageToken,incompleteSearch,files(id,name,mimeType,size,parents)"),
            );
            let answer = self.client.json(&Ask {
                method: "GET",
                url: &url,
                headers: &[],
                body: &[],
            })?;
            let Some(files) = answer["files"].as_array() else {
                return Err(Failed::new(Trouble::Nonsense, "the answer is no listing"));
            };
            if answer["incompleteSearch"] == true {
                return Err(Failed::refused(
                    Trouble::Busy,
                    "the listing is not complete",
                ));
            }
            found.extend(files.iter().filter_map(Entry::read));
            match answer["nextPageToken"].as_str() {
                Some(next) if next != token => token = next.to_owned(),
                Some(_) => break,
                None => return Ok(found),
            }
        }
        Err(Failed::new(Trouble::Nonsense, "the listing has no end"))
    }

    /// Returns the names of the folders of a key or prefix, from the top on.
    fn above<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        let own = key.rsplit_once('/').map_or("", |(above, _)| above);
        let own = own.split('/').filter(|part| !part.is_empty());
        self.root.iter().map(String::as_str).chain(own)
    }

    /// Returns the folders in which a key is, or may be; none if there is none. With `is_made`, there
    /// is one afterwards. Only one thread looks at a time, so that two do not make the same.
    fn folders(&self, key: &str, is_made: bool) -> Result<Vec<String>, Failed> {
        let mut state = self.state();
        let mut path = String::new();
        let mut ids = vec![TOP.to_owned()];
        for name in self.above(key) {
            path = format!("{path}{name}/");
            if let Some(known) = state.folders.get(&path) {
                ids.clone_from(known);
                continue;
            }
            let query = format!(
                "name = {} and mimeType = '{FOLDER}' and {}",
                quoted(name),
                in_any(&ids)
            );
            let mut found: Vec<String> = self.find(&query)?.into_iter().map(|f| f.id).collect();
            if found.is_empty() && !is_made {
                return Ok(found);
            }
            if found.is_empty() {
                let id = self.number(&mut state)?;
                self.make_folder(&id, name, &ids[0])?;
                found.push(id);
            }
            state.folders.insert(path.clone(), found.clone());
            ids = found;
        }
        Ok(ids)
    }

    fn make_folder(&self, id: &str, name: &str, parent: &str) -> Result<(), Failed> {
        let about = json!({"id": id, "name": name, "mimeType": FOLDER, "parents": [parent]});
        let made = self.client.repeat(|| {
            self.client.json(&Ask {
                method: "POST",
                url: FILES,
                headers: &[("content-type", "application/json")],
                body: about.to_string().as_bytes(),
            })
        });
        match made {
            // By an attempt before, whose answer was lost: nobody else has the number.
            Err(failed) if failed.error.trouble == Trouble::Exists => Ok(()),
            made => made.map(|_| ()),
        }
    }

    fn number(&self, state: &mut State) -> Result<String, Failed> {
        if state.numbers.is_empty() {
            let answer = self.client.json(&Ask {
                method: "GET",
                url: &format!("{FILES}/generateIds?count=100&space=drive"),
                headers: &[],
                body: &[],
            })?;
            let ids = answer["ids"].as_array().into_iter().flatten();
            state.numbers = ids
                .filter_map(|id| id.as_str().map(str::to_owned))
                .collect();
        }
        state.numbers.pop().ok_or_else(|| {
            Failed::new(
                Trouble::Nonsense,
                "the service gives no numbers for new files",
            )
        })
    }

    /// Forgets what was found of a path: somebody else changed it.
    fn forget(&self, key: &str) {
        let mut state = self.state();
        state.files.remove(key);
        state.folders.clear();
    }

    /// Returns the numbers of the files of a key, the newest first.
    fn files(&self, key: &str) -> Result<Vec<Entry>, Failed> {
        let folders = self.folders(key, false)?;
        if folders.is_empty() {
            return Ok(Vec::new());
        }
        let name = key.rsplit('/').next().unwrap_or_default();
        let query = format!(
            "name = {} and mimeType != '{FOLDER}' and {}",
            quoted(name),
            in_any(&folders)
        );
        let mut found = self.find(&query)?;
        found.reverse();
        let ids = found.iter().map(|file| file.id.clone()).collect();
        self.state().files.insert(key.to_owned(), ids);
        Ok(found)
    }

    /// Returns the number of the file that a key stands for, `None` if there is none.
    fn file(&self, key: &str) -> Result<Option<String>, Failed> {
        let known = self
            .state()
            .files
            .get(key)
            .and_then(|ids| ids.first().cloned());
        match known {
            Some(known) => Ok(Some(known)),
            None => Ok(self.files(key)?.into_iter().next().map(|file| file.id)),
        }
    }

    /// Carries a request out that names a file; if it is not there any more, once again with the one
    /// that is.
    fn of_file<T>(&self, key: &str, ask: &dyn Fn(&str) -> Result<T, Failed>) -> Result<T, Failed> {
        let none = || Failed::refused(Trouble::NotFound, "there is no such file");
        let id = self.file(key)?.ok_or_else(none)?;
        match ask(&id) {
            Err(failed) if failed.error.trouble == Trouble::NotFound => {
                self.forget(key);
                let id = self.file(key)?.ok_or_else(none)?;
                ask(&id)
            }
            answer => answer,
        }
    }

    fn put_once(&self, key: &str, bytes: &[u8], new: &str) -> Result<(), Failed> {
        let there: Vec<String> = self.files(key)?.into_iter().map(|file| file.id).collect();
        let about = match there.first() {
            Some(_) => json!({}),
            None => {
                let folders = self.folders(key, true)?;
                let name = key.rsplit('/').next().unwrap_or_default();
                json!({"id": new, "name": name, "parents": [folders[0]]})
            }
        };
        let id = there.first().map(String::as_str);
        let stored = match self.upload(id, &about, bytes) {
            // By an attempt before, whose answer was lost: nobody else has the number.
            Err(failed) if failed.error.trouble == Trouble::Exists && id.is_none() => {
                self.upload(Some(new), &json!({}), bytes)
            }
            Err(failed) if failed.error.trouble == Trouble::NotFound => {
                // A folder or file that was there a moment ago.
                self.forget(key);
                return Err(Failed {
                    is_refused: true,
                    ..Failed::new(Trouble::Busy, failed.error.said)
                });
            }
            stored => stored,
        }?;
        let digest = hex::encode(Sha256::digest(bytes));
        let size = bytes.len().to_string();
        let is_whole = stored["size"] == size.as_str()
            && stored["sha256Checksum"]
                .as_str()
                .is_none_or(|sum| sum == digest);
        if !is_whole {
            let said = "the answer does not say that the object was stored as it was sent";
            return Err(Failed::new(Trouble::Nonsense, said));
        }
        let id = stored["id"].as_str().unwrap_or(new).to_owned();
        // What else has the name is older than this.
        for other in there.iter().skip(1) {
            self.delete(other)?;
        }
        self.state().files.insert(key.to_owned(), vec![id]);
        Ok(())
    }

    /// Sends a content, for a file that is there or a new one.
    fn upload(&self, id: Option<&str>, about: &Value, bytes: &[u8]) -> Result<Value, Failed> {
        let (method, path) = match id {
            Some(id) => ("PATCH", format!("/{}", encode(id))),
            None => ("POST", String::new()),
        };
        let fields = encode("id,size,sha256Checksum");
        if bytes.len() > TOGETHER {
            let url = format!("{UPLOAD}{path}?uploadType=resumable&fields={fields}");
            let begun = self.client.send(&Ask {
                method,
                url: &url,
                headers: &[("content-type", "application/json; charset=UTF-8")],
                body: about.to_string().as_bytes(),
            })?;
            let target = begun
                .headers()
                .get("location")
                .and_then(|to| to.to_str().ok());
            // The token goes there, too.
            let target = target.filter(|to| to.starts_with("https://www.googleapis.com/"));
            let target = target.ok_or_else(|| {
                Failed::new(
                    Trouble::Nonsense,
                    "the answer does not say where to send the object",
                )
            })?;
            return self.client.json(&Ask {
                method: "PUT",
                url: target,
                headers: &[("content-type", "application/octet-stream")],
                body: bytes,
            });
        }
        let boundary = format!("bdr-{}", hex::encode(&Sha256::digest(bytes)[..16]));
        let mut body = format!(
            "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{about}\r\n\
             --{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(bytes);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        self.client.json(&Ask {
            method,
            url: &format!("{UPLOAD}{path}?uploadType=multipart&fields={fields}"),
            headers: &[(
                "content-type",
                &format!("multipart/related; boundary={boundary}"),
            )],
            body: &body,
        })
    }

    /// Deletes a file for good; the trash would keep its space.
    fn delete(&self, id: &str) -> Result<(), Failed> {
        let deleted = self.client.send(&Ask {
            method: "DELETE",
            url: &format!("{FILES}/{}", encode(id)),
            headers: &[],
            body: &[],
        });
        match deleted {
            Err(failed) if failed.error.trouble == Trouble::NotFound => Ok(()),
            deleted => deleted.map(|_| ()),
        }
    }

    fn remove_once(&self, key: &str) -> Result<(), Failed> {
        for file in self.files(key)? {
            self.delete(&file.id)?;
        }
        self.state().files.remove(key);
        Ok(())
    }

    /// Lists a prefix, with all below it if `is_deep`, and remembers the numbers.
    fn walk(&self, prefix: &str, is_deep: bool) -> Result<BTreeMap<String, u64>, Failed> {
        // What another machine made since counts, too.
        self.state().folders.clear();
        let ids = self.folders(prefix, false)?;
        let mut paths: HashMap<String, String> = HashMap::new();
        let mut next: Vec<String> = Vec::new();
        for id in ids {
            paths.insert(id.clone(), prefix.to_owned());
            next.push(id);
        }
        let mut found = BTreeMap::new();
        let mut files: HashMap<String, Vec<String>> = HashMap::new();
        for _ in 0..MAX_DEPTH {
            let mut below = Vec::new();
            for some in next.chunks(FOLDERS) {
                for entry in self.find(&in_any(some))? {
                    // The top is asked for by a name, and gives its number.
                    let parent = match some {
                        [only] => paths.get(only),
                        _ => entry.parents.iter().find_map(|id| paths.get(id)),
                    };
                    let Some(parent) = parent.filter(|_| key::is_part(&entry.name)) else {
                        continue;
                    };
                    let key = format!("{parent}{}", entry.name);
                    match entry.is_folder {
                        true => {
                            let key = format!("{key}/");
                            if !is_deep {
                                found.insert(key.clone(), 0);
                            }
                            paths.insert(entry.id.clone(), key);
                            below.push(entry.id);
                        }
                        // The newest comes last.
                        false => {
                            found.insert(key.clone(), entry.bytes);
                            files.entry(key).or_default().insert(0, entry.id);
                        }
                    }
                }
            }
            next = below;
            if next.is_empty() || !is_deep {
                break;
            }
        }
        self.state().files.extend(files);
        Ok(found)
    }

    fn listed(&self, prefix: &str, is_deep: bool) -> StoreResult<BTreeMap<String, u64>> {
        key::check_prefix(prefix)?;
        let walked = self.client.repeat(|| self.walk(prefix, is_deep));
        walked.map_err(|failed| failed.error)
    }
}

impl Store for Gdrive {
    fn put(&self, key: &str, bytes: &[u8], how: Write) -> StoreResult<()> {
        key::check(key)?;
        if how == Write::CreateOnly {
            let said = "this service has no condition \"only if there is none\"";
            return Err(StoreError::new(Trouble::Unsupported, said));
        }
        let put = self.client.repeat(|| self.number(&mut self.state()));
        let put = put.and_then(|new| self.client.repeat(|| self.put_once(key, bytes, &new)));
        put.map_err(|failed| failed.error)
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> StoreResult<Vec<u8>> {
        key::check(key)?;
        if let Some(answer) = super::without_asking(range.as_ref()) {
            return answer;
        }
        let asked = range.as_ref().map(range_header);
        let headers: Vec<_> = asked
            .iter()
            .map(|asked| ("range", asked.as_str()))
            .collect();
        let ask = |id: &str| {
            self.client.send(&Ask {
                method: "GET",
                url: &format!("{FILES}/{}?alt=media", encode(id)),
                headers: &headers,
                body: &[],
            })
        };
        let answer = self.client.repeat(|| self.of_file(key, &ask));
        part(answer.map_err(|failed| failed.error)?, range)
    }

    fn size(&self, key: &str) -> StoreResult<Option<u64>> {
        key::check(key)?;
        let found = self.client.repeat(|| self.files(key));
        let found = found.map_err(|failed| failed.error)?;
        Ok(found.first().map(|file| file.bytes))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> StoreResult<()> {
        let found = self.listed(prefix, true)?.into_iter();
        let wanted = found.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        let mut objects = wanted.map(|(key, bytes)| Object { key, bytes });
        let _ = objects.try_for_each(each);
        Ok(())
    }

    fn names(&self, prefix: &str) -> StoreResult<Vec<String>> {
        let found = self.listed(prefix, false)?;
        let names: BTreeSet<&str> = found.keys().map(|key| &key[prefix.len()..]).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn remove(&self, key: &str) -> StoreResult<()> {
        key::check(key)?;
        let removed = self.client.repeat(|| self.remove_once(key));
        removed.map_err(|failed| failed.error)
    }

    fn has_create_only(&self) -> bool {
        false
    }

    fn traffic(&self) -> Traffic {
        self.client.traffic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_query_cannot_end_it() {
        assert_eq!(quoted(r"it's \ here"), r"'it\'s \\ here'");
        let both = in_any(&["a".to_owned(), "b".to_owned()]);
        assert_eq!(both, "('a' in parents or 'b' in parents)");
    }
}
