//! The seam below the repository: what a storage has to bring, and that nothing else is asked of it.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bdr::base::monitor::NullMonitor;
use bdr::care::prune::{PruneOptions, apply, plan};
use bdr::care::verify::{VerifyLevel, verify};
use bdr::disk::fsutil::Sharing;
use bdr::disk::storage::{Hold, Listed, Staged, Storage, choose};
use bdr::model::retention::Policy;
use bdr::protect::backup::BackupOptions;
use bdr::repo::Repository;
use chrono::{DateTime, TimeDelta, Utc};

use crate::backup::restore_to;
use crate::support::{Place, assert_same, later, now, options, picture};

/// The smallest storage there can be: a map. As small as this file shows is what another one has to be.
#[derive(Clone, Default)]
struct Map {
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// Who needs a lock alone, or how many share it.
    locks: Arc<Mutex<BTreeMap<String, i64>>>,
}

struct Written(Vec<u8>);

impl Staged for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.0.truncate(length as usize);
        Ok(())
    }

    fn as_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

struct Held(Map, String);

impl Drop for Held {
    fn drop(&mut self) {
        let mut locks = self.0.locks.lock().unwrap();
        let count = locks.remove(&self.1).unwrap();
        if count > 1 {
            locks.insert(self.1.clone(), count - 1);
        }
    }
}

impl Storage for Map {
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let found = self.files.lock().unwrap().get(name).cloned();
        found.ok_or(io::ErrorKind::NotFound.into())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let content = self.read(name)?;
        let rest = content.get(offset as usize..).unwrap_or_default();
        let part = rest.get(..buffer.len());
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self, name: &str) -> io::Result<Option<u64>> {
        let files = self.files.lock().unwrap();
        Ok(files.get(name).map(|content| content.len() as u64))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<Listed>> {
        let mut found: BTreeMap<String, Listed> = BTreeMap::new();
        for (name, content) in self.files.lock().unwrap().iter() {
            let below = match dir {
                "" => Some(&**name),
                _ => name.strip_prefix(dir).and_then(|n| n.strip_prefix('/')),
            };
            let Some(below) = below else { continue };
            let (name, is_dir) = match below.split_once('/') {
                Some((first, _)) => (first.to_owned(), true),
                None => (below.to_owned(), false),
            };
            let bytes = if is_dir { 0 } else { content.len() as u64 };
            let listed = Listed {
                name: name.clone(),
                bytes,
                is_dir,
            };
            found.insert(name, listed);
        }
        Ok(found.into_values().collect())
    }

    fn stage(&self) -> io::Result<Box<dyn Staged>> {
        Ok(Box::new(Written(Vec::new())))
    }

    fn publish(&self, staged: Box<dyn Staged>, name: &str) -> io::Result<()> {
        let written = staged.as_any().downcast::<Written>().unwrap();
        let mut files = self.files.lock().unwrap();
        files.insert(name.to_owned(), written.0);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.files.lock().unwrap().remove(name);
        removed.map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let content = self.read(from)?;
        self.remove(from)?;
        self.files.lock().unwrap().insert(to.to_owned(), content);
        Ok(())
    }

    fn lock(&self, name: &str, sharing: Sharing, _patience: Duration) -> io::Result<Option<Hold>> {
        let mut locks = self.locks.lock().unwrap();
        let now = match (sharing, locks.get(name)) {
            (Sharing::Shared, None) => 1,
            (Sharing::Shared, Some(count)) if *count > 0 => count + 1,
            (Sharing::Alone, None) => -1,
            _ => return Err(io::ErrorKind::WouldBlock.into()),
        };
        locks.insert(name.to_owned(), now);
        Ok(Some(Hold::new(Held(self.clone(), name.to_owned()))))
    }
}

fn utc(time: DateTime<Utc>) -> chrono::NaiveDateTime {
    time.naive_utc()
}

/// Prunes to the last of each day, with nothing left in the trash.
fn prune(repo: &Repository) -> bdr::Result<u64> {
    let mut options = PruneOptions::new(now() + TimeDelta::days(30), &utc);
    options.policy = Policy {
        daily: 1,
        ..Policy::nothing()
    };
    options.grace = TimeDelta::zero();
    options.patience = Duration::ZERO;
    let plan = plan(repo, &options, &NullMonitor)?;
    apply(repo, &plan, &options, &NullMonitor).map(|report| report.snapshots)
}

#[test]
fn a_storage_is_one_file_and_everything_works_on_it() {
    let place = Place::new();
    let map = Map::default();
    let repo = Repository::create(Arc::new(map.clone()), &place.cache(), now()).unwrap();
    place.write("notes.txt", &b"one line\n".repeat(5_000));
    place.write("src/a.rs", b"fn a() {}\n");
    place.backup_with(&repo, &options());
    place.write("notes.txt", &b"one line\n".repeat(6_000));
    std::fs::remove_file(place.tree().join("src/a.rs")).unwrap();
    // A full one, of later the same day: the first is needed by nothing.
    let full = BackupOptions {
        full: true,
        ..later(3600)
    };
    let last = place.backup_with(&repo, &full);

    // Another process knows what the storage holds, and nothing else.
    let cache = place.path("another");
    let repo = Repository::open(Arc::new(map.clone()), &cache).unwrap();
    assert_eq!(repo.snapshots().unwrap().len(), 2);
    let out = place.path("out");
    std::fs::create_dir(&out).unwrap();
    let tree = restore_to(&repo, &last.snapshot, &out);
    assert_same(&picture(&place.tree()), &picture(&tree), "restored");
    let report = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    assert_eq!(repo.location(), Path::new(""));
    assert_eq!(repo.areas(), Vec::<std::path::PathBuf>::new());

    // Its locks are the repository's: nothing goes while somebody writes.
    let hold = repo.hold(Duration::ZERO).unwrap();
    assert!(hold.is_some());
    let busy = prune(&repo).unwrap_err();
    assert!(matches!(busy, bdr::Error::Busy { .. }), "{busy}");
    drop(hold);
    assert_eq!(prune(&repo).unwrap(), 1);
    assert_eq!(repo.snapshots().unwrap().len(), 1);
    let report = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
}

#[test]
fn a_storage_is_chosen_by_the_scheme_of_its_place() {
    let place = Place::new();
    let dir = place.path("repo");
    let local = choose(&dir, None).unwrap();
    assert_eq!(local.local().map(|l| l.directory()), Some(&*dir));
    let memory = choose(Path::new("memory://x"), None).unwrap();
    assert!(memory.local().is_none());
    let unknown = choose(Path::new("gopher://host/x"), None).err().unwrap();
    assert!(unknown.to_string().contains("`gopher://`"), "{unknown}");
}

/// A place that no storage is for is refused, where it used to become a directory called `gopher:`.
#[test]
fn a_url_that_no_storage_is_for_is_no_directory() {
    let place = Place::new();
    for command in [&["list"][..], &["init", "--yes"]] {
        let args = [&["--repository", "gopher://host/x"], command].concat();
        let output = place.bdr(&args).output().unwrap();
        let said = crate::support::cli::stderr(&output);
        assert!(!output.status.success(), "{command:?}");
        assert!(said.contains("`gopher://`"), "{command:?}: {said}");
        assert!(said.contains("--repository DIR"), "{command:?}: {said}");
    }
}

#[test]
fn locks_of_the_directory_and_of_memory_keep_the_same_rules() {
    let place = Place::new();
    let local = Arc::new(bdr::disk::storage::LocalStorage::new(place.path("repo")));
    let memory = Arc::new(bdr::disk::storage::MemoryStorage::new());
    for storage in [local as Arc<dyn Storage>, memory] {
        Repository::create(Arc::clone(&storage), &place.cache(), now()).unwrap();
        let take = |sharing| storage.lock("lock", sharing, Duration::ZERO);
        let one = take(Sharing::Shared).unwrap();
        let other = take(Sharing::Shared).unwrap();
        let busy = take(Sharing::Alone).unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::WouldBlock);
        drop(one);
        assert!(take(Sharing::Alone).is_err());
        drop(other);
        let alone = take(Sharing::Alone).unwrap();
        assert!(alone.is_some());
        assert!(take(Sharing::Shared).is_err());
        // Another lock has nothing to do with it.
        assert!(
            storage
                .lock("other", Sharing::Alone, Duration::ZERO)
                .is_ok()
        );
        drop(alone);
        assert!(take(Sharing::Shared).is_ok());
    }
}
