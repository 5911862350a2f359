//! SQLite databases: the file and its companions, all of one moment.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::{Capture, Captured, Place, gone};
use crate::base::error::{Error, IoContext as _, Result};
use crate::base::path::RepoPath;
use crate::disk::sqlite;
use crate::model::manifest::{Body, Flag, Kind};
use crate::protect::walk::RootHandle;
use crate::repo::state::{DIRTY, Known, Stat, same_stat};

impl<'a> Capture<'a> {
    /// Captures a SQLite database with its `-wal`, `-shm` and `-journal` as one unit.
    ///
    /// If none of them changes while all are read, the copy is byte-exact and of one moment.
    /// Otherwise SQLite's backup interface makes the copy, which needs no companions.
    pub(crate) fn database(
        &mut self,
        root: &str,
        handle: &RootHandle,
        base: &RepoPath,
        prior: &dyn Fn(&RepoPath) -> Option<(Known<'a>, bool)>,
        scratch: &Path,
    ) -> Result<Vec<Captured>> {
        let members: Vec<RepoPath> = std::iter::once(base.clone())
            .chain(
                sqlite::COMPANIONS
                    .iter()
                    .map(|suffix| sqlite::companion(base, suffix)),
            )
            .collect();
        let look = |handle: &RootHandle| -> Vec<Option<Stat>> {
            members.iter().map(|path| handle.stat(path).ok()).collect()
        };
        for attempt in 1..=3 {
            let before = look(handle);
            let mut captured = Vec::new();
            for (path, stat) in members.iter().zip(&before) {
                let Some(stat) = stat else { continue };
                let known = prior(path);
                // Unchanged members keep what is known about them.
                if let Some((known, trusted)) = &known
                    && *trusted
                    && same_stat(&known.stat, stat)
                {
                    continue;
                }
                captured.push(self.object(root, handle, path, known.map(|(known, _)| known))?);
            }
            let steady = look(handle).iter().zip(&before).all(|(a, b)| match (a, b) {
                (Some(a), Some(b)) => same_stat(a, b),
                (None, None) => true,
                _ => false,
            });
            if steady && captured.iter().all(|c| c.flags & DIRTY == 0) {
                return Ok(captured);
            }
            std::thread::sleep(Duration::from_millis(attempt * 5));
        }
        self.online(root, handle, base, &members, prior, scratch)
    }

    fn online(
        &mut self,
        root: &str,
        handle: &RootHandle,
        base: &RepoPath,
        members: &[RepoPath],
        prior: &dyn Fn(&RepoPath) -> Option<(Known<'a>, bool)>,
        scratch: &Path,
    ) -> Result<Vec<Captured>> {
        let absolute = handle.absolute(base);
        let Ok(copy) = sqlite::copy_online(&absolute, scratch) else {
            // SQLite cannot read it (encrypted, damaged): store it as it was read, flagged.
            let mut captured = Vec::new();
            for path in members {
                let known = prior(path).map(|(known, _)| known);
                let mut one = self.object(root, handle, path, known)?;
                if !one.body.flags.contains(&Flag::Unstable) && one.stat.kind == Kind::File {
                    one.body.flags.push(Flag::Unstable);
                }
                one.flags |= DIRTY;
                captured.push(one);
            }
            return Ok(captured);
        };
        let live = handle.stat(base).context("read", &absolute)?;
        let stored = {
            let file = File::open(copy.path()).context("read", copy.path())?;
            let stat = RootHandle::stat_file(&file).context("read", copy.path())?;
            let stat = Stat {
                mode: live.mode,
                mtime: live.mtime,
                ..stat
            };
            let known = prior(base).map(|(known, _)| known);
            let place = Place {
                root,
                path: base,
                absolute: &absolute,
            };
            self.content(&place, &file, &stat, known.as_ref(), true)?
                .ok_or_else(|| Error::damaged("a database copy", "it changed while it was read"))?
        };
        let size = stored.size;
        let body = Body {
            content: stored.content,
            sealed: stored.sealed,
            flags: vec![Flag::Online],
            ..Body::default().named(&self.of_user(&live))
        };
        let stat = Stat { size, ..live };
        let mut captured = vec![Captured {
            path: base.clone(),
            stat,
            body,
            flags: DIRTY,
            gone: false,
            withheld: false,
        }];
        captured.extend(members[1..].iter().map(gone));
        Ok(captured)
    }
}
