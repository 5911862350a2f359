//! SFTP, by the `ssh` of the system: its keys, agents, hosts and jumps are those of the user's own
//! configuration, and bdr never sees a password.

use std::ops::{ControlFlow, Range};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::attempts::{self, Failed, unfinished_name};
use super::counted::Counted;
use super::pace::Pace;
use super::tree::{self, Entry};
use super::{
    Conduct, Location, Object, Store, StoreError, StoreResult, Traffic, Trouble, Write, key,
};
use session::{Answer, No, Session};

mod packet;
mod session;

pub(super) struct Sftp {
    location: Location,
    conduct: Conduct,
    pace: Pace,
    counted: Counted,
    /// Connections that nobody uses at the moment.
    idle: Mutex<Vec<Session>>,
    /// The directory, without `/` at its end.
    root: String,
}

/// Connections that are kept for later.
const MAX_IDLE: usize = 4;

impl Sftp {
    pub(super) fn open(location: &Location, conduct: &Conduct) -> Self {
        // Relative paths begin where the login begins.
        let root = match location.root.as_str() {
            "~" => ".",
            root => root
                .strip_prefix("~/")
                .unwrap_or(root)
                .trim_end_matches('/'),
        };
        Self {
            location: location.clone(),
            conduct: conduct.clone(),
            pace: Pace::new(conduct),
            counted: Counted::default(),
            idle: Mutex::default(),
            root: root.to_owned(),
        }
    }

    fn path(&self, key: &str) -> String {
        let path = format!("{}/{key}", self.root);
        path.trim_end_matches('/').to_owned()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn once<T>(&self, call: &dyn Fn(&mut Session) -> Result<T, Failed>) -> Result<T, Failed> {
        let kept = self.idle().pop();
        let mut session = match kept {
            Some(session) => session,
            None => Session::open(&self.location, &self.conduct)?,
        };
        self.counted.request(0, 0);
        let outcome = call(&mut session);
        // After a failure that the server did not report, nobody knows what comes next.
        let is_usable = outcome
            .as_ref()
            .err()
            .is_none_or(|failed| failed.is_refused);
        let mut idle = self.idle();
        if is_usable && idle.len() < MAX_IDLE {
            idle.push(session);
        }
        outcome
    }

    fn tell<T>(&self, call: &dyn Fn(&mut Session) -> Result<T, Failed>) -> Result<T, Failed> {
        attempts::repeat(&self.conduct, || self.once(call))
    }

    fn ask<T>(&self, call: &dyn Fn(&mut Session) -> Result<T, Failed>) -> StoreResult<T> {
        self.tell(call).map_err(|failed| failed.error)
    }

    /// Makes a failure of an answer that says no.
    fn accept<T>(&self, session: &mut Session, answer: Answer<T>) -> Result<T, Failed> {
        let no = match answer? {
            Ok(value) => return Ok(value),
            Err(no) => no,
        };
        Err(match no {
            No::NotFound if session.look_through(&self.path(""))?.is_err() => no_place(),
            No::NotFound => Failed::refused(Trouble::NotFound, "there is no such object"),
            No::Forbidden => Failed::refused(Trouble::Forbidden, "the server does not allow it"),
            No::Unsupported => {
                Failed::refused(Trouble::Unsupported, "the server does not know how")
            }
            // All that the protocol has for a full disk, and for anything else.
            No::Failure | No::End => Failed::refused(
                Trouble::Other,
                "the server failed: is its disk full, or the quota used up?",
            ),
        })
    }

    /// Makes the directories of a key below the top; the top itself is somebody else's.
    fn make_dirs(&self, session: &mut Session, key: &str) -> Result<(), Failed> {
        let parts: Vec<&str> = key.split('/').collect();
        for depth in 1..parts.len() {
            let dir = self.path(&parts[..depth].join("/"));
            if session.make_dir(&dir)?.is_ok() {
                continue;
            }
            // Most servers only say that it failed.
            let looked = session.look(&dir);
            let found = self.accept(session, looked)?;
            if !found.is_dir {
                let said = format!("`{dir}` there is not a directory");
                return Err(Failed::refused(Trouble::Nonsense, said));
            }
        }
        Ok(())
    }

    fn put_once(
        &self,
        session: &mut Session,
        key: &str,
        bytes: &[u8],
        how: Write,
    ) -> Result<(), Failed> {
        let path = self.path(key);
        let exists = || Failed::refused(Trouble::Exists, "there is one already");
        // Some servers replace whatever they are asked to; and nothing is sent in vain.
        if how == Write::CreateOnly && session.look(&path)?.is_ok() {
            return Err(exists());
        }
        let name =
            unfinished_name(key).map_err(|error| Failed::refused(error.trouble, error.said))?;
        let unfinished = self.path(&name);
        let wait = |bytes: usize| {
            self.counted.sent(bytes);
            self.pace.wait(bytes)
        };
        let written = match session.write_new(&unfinished, bytes, &wait)? {
            Err(No::NotFound) => {
                self.make_dirs(session, key)?;
                session.write_new(&unfinished, bytes, &wait)?
            }
            written => written,
        };
        let renamed = match (written, how) {
            (Err(no), _) => Err(no),
            (Ok(()), Write::CreateOnly) => session.rename_new(&unfinished, &path)?,
            (Ok(()), Write::Plain) => session.rename_over(&unfinished, &path)?,
        };
        let Err(no) = renamed else {
            return Ok(());
        };
        let _ = session.remove(&unfinished)?;
        if written.is_ok() && how == Write::CreateOnly && session.look(&path)?.is_ok() {
            return Err(exists());
        }
        self.accept(session, Ok(Err(no)))
    }

    fn entries(&self, prefix: &str) -> StoreResult<Vec<Entry>> {
        let found = self.ask(&|session| match session.names(&self.path(prefix))? {
            Err(No::NotFound) if !prefix.is_empty() => {
                // A directory that is not there is an empty prefix, unless all of it is away.
                match session.look_through(&self.path(""))? {
                    Ok(_) => Ok(Vec::new()),
                    Err(_) => Err(no_place()),
                }
            }
            answer => self.accept(session, Ok(answer)),
        })?;
        let plain = found
            .into_iter()
            .filter(|(_, found)| found.is_dir || found.is_file);
        Ok(plain
            .filter_map(|(name, found)| Entry::of(&name, found.bytes, found.is_dir))
            .collect())
    }
}

fn no_place() -> Failed {
    let said = "there is no such directory on the server: is its disk mounted?";
    Failed::refused(Trouble::NoPlace, said)
}

impl Store for Sftp {
    fn prepare(&self) -> StoreResult<()> {
        let path = self.path("");
        self.ask(&|session| {
            let mut done = String::new();
            for part in path.split('/') {
                done.push_str(part);
                if !part.is_empty() && session.look_through(&done)?.is_err() {
                    let made = session.make_dir(&done)?;
                    if let Err(no) = made {
                        let said = format!("the directory `{done}` cannot be made");
                        return Err(match no {
                            No::Forbidden => Failed::refused(Trouble::Forbidden, said),
                            _ => Failed::refused(Trouble::NoPlace, said),
                        });
                    }
                }
                done.push('/');
            }
            Ok(())
        })
    }

    fn put(&self, key: &str, bytes: &[u8], how: Write) -> StoreResult<()> {
        key::check(key)?;
        let put = self.tell(&|session| self.put_once(session, key, bytes, how));
        attempts::arrived(put, bytes, || self.get(key, None))
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> StoreResult<Vec<u8>> {
        key::check(key)?;
        if let Some(answer) = super::without_asking(range.as_ref()) {
            return answer;
        }
        let wait = |bytes: usize| {
            self.counted.received(bytes);
            self.pace.wait(bytes)
        };
        let content = self.ask(&|session| {
            let read = session.read(&self.path(key), range.clone(), &wait);
            self.accept(session, read)
        })?;
        match range {
            Some(range) if range.end - range.start != content.len() as u64 => Err(
                super::too_short(range.start + content.len() as u64, range.end),
            ),
            _ => Ok(content),
        }
    }

    fn size(&self, key: &str) -> StoreResult<Option<u64>> {
        key::check(key)?;
        let found = self.ask(&|session| {
            let looked = session.look(&self.path(key));
            self.accept(session, looked)
        });
        match found {
            Ok(found) => Ok(found.is_file.then_some(found.bytes)),
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
        tree::walk(&|prefix| self.entries(prefix), prefix, after, each)
    }

    fn names(&self, prefix: &str) -> StoreResult<Vec<String>> {
        key::check_prefix(prefix)?;
        let mut names: Vec<String> = self
            .entries(prefix)?
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, key: &str) -> StoreResult<()> {
        key::check(key)?;
        let removed = self.ask(&|session| {
            let removed = session.remove(&self.path(key));
            self.accept(session, removed)
        });
        match removed {
            Err(StoreError {
                trouble: Trouble::NotFound,
                ..
            }) => Ok(()),
            other => other,
        }
    }

    fn has_create_only(&self) -> bool {
        true
    }

    fn traffic(&self) -> Traffic {
        self.counted.so_far()
    }
}
