//! What tests share: a private place with its own repository and clock, trees built from a few lines, trees compared whole.

pub(crate) mod cli;
pub(crate) mod mcp;
pub(crate) mod terminal;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bdr::base::monitor::RecordingMonitor;
use bdr::disk::storage::{LocalStorage, MemoryStorage, Storage};
use bdr::model::rules::{Root, Rules};
use bdr::protect::backup::{BackupOptions, BackupReport, backup};
use bdr::repo::Repository;
use bdr::repo::snapshot::Trigger;
use chrono::{DateTime, TimeDelta, Utc};

/// A scratch directory with a tree to back up and a repository.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    /// Guards take a snapshot first, as on systems without capture.
    watched: bool,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        let watched = false;
        Self { dir, watched }
    }

    /// A place for what only a snapshot before the command does: it sees what others change meanwhile, refuses
    /// a command before it runs, and leaves things out.
    pub(crate) fn watched(mut self) -> Self {
        self.watched = true;
        self
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(below)
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.path("cache")
    }

    pub(crate) fn root(&self) -> Root {
        Root::source(
            "tree",
            self.tree(),
            Rules {
                rebuildable: true,
                ..Rules::default()
            },
        )
    }

    pub(crate) fn repository(&self) -> Repository {
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(self.path("repo")));
        let repo = Repository::create(storage, &self.cache(), now()).unwrap();
        let vault = self.vault();
        repo.with_privacy(bdr::privacy::Rules::default(), vault)
    }

    /// Not in the cache: that can be deleted at any time.
    pub(crate) fn vault(&self) -> bdr::disk::vault::Vault {
        let dir = self.path("vault");
        let key = bdr::disk::vault::FileKey(dir.join("vault.key"));
        bdr::disk::vault::Vault::new(&dir, None, Arc::new(key))
    }

    pub(crate) fn memory(&self, storage: &MemoryStorage) -> bdr::Result<Repository> {
        Repository::create(Arc::new(storage.clone()), &self.cache(), now())
    }

    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let path = self.tree().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn backup(&self, repo: &Repository) -> BackupReport {
        self.backup_with(repo, &options())
    }

    pub(crate) fn backup_with(&self, repo: &Repository, options: &BackupOptions) -> BackupReport {
        let report = backup(repo, &[self.root()], options, &RecordingMonitor::default()).unwrap();
        // Trees may be emptied, which is told.
        let emptied =
            |note: &bdr::repo::snapshot::PathNote| note.reason.contains("is empty, but had");
        let others: Vec<_> = report
            .problems
            .iter()
            .filter(|note| !emptied(note))
            .collect();
        assert!(others.is_empty(), "{others:?}");
        report
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Repository directories are read-only between writes.
        fn open(dir: &Path) {
            use std::os::unix::fs::PermissionsExt as _;
            let _ = std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700));
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    open(&entry.path());
                }
            }
        }
        open(self.dir.path());
    }
}

pub(crate) fn now() -> DateTime<Utc> {
    #[expect(
        clippy::disallowed_methods,
        reason = "tests compare with real file times"
    )]
    Utc::now()
}

pub(crate) fn options() -> BackupOptions {
    BackupOptions::new(Trigger::Backup, now())
}

/// Options as of a moment later, when nothing written before it is racy any more.
pub(crate) fn later(seconds: i64) -> BackupOptions {
    BackupOptions::new(Trigger::Backup, now() + TimeDelta::seconds(seconds))
}

/// Everything of an object that a restore must bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) kind: char,
    pub(crate) mode: u32,
    pub(crate) mtime: (i64, i64),
    pub(crate) content: Vec<u8>,
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
    /// The first path, in order, that is the same file.
    pub(crate) same_as: Option<PathBuf>,
}

/// A tree as a value: to be compared whole.
pub(crate) fn picture(root: &Path) -> BTreeMap<PathBuf, Object> {
    let mut found = BTreeMap::new();
    let mut inodes: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let walk = walkdir::WalkDir::new(root).sort_by_file_name();
    for entry in walk {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(root).unwrap().to_path_buf();
        let metadata = entry.path().symlink_metadata().unwrap();
        let (kind, content) = if metadata.is_file() {
            ('f', std::fs::read(entry.path()).unwrap())
        } else if metadata.is_symlink() {
            use std::os::unix::ffi::OsStrExt as _;
            (
                'l',
                std::fs::read_link(entry.path())
                    .unwrap()
                    .as_os_str()
                    .as_bytes()
                    .to_vec(),
            )
        } else if metadata.is_dir() {
            ('d', Vec::new())
        } else {
            ('?', Vec::new())
        };
        let mut same_as = None;
        if matches!(kind, 'f' | 'l') && metadata.nlink() > 1 {
            let first = inodes
                .entry((metadata.dev(), metadata.ino()))
                .or_insert_with(|| path.clone());
            same_as = Some(first.clone());
        }
        let mut xattrs: Vec<(String, Vec<u8>)> = if kind == 'l' {
            Vec::new()
        } else {
            xattr::list(entry.path())
                .map(|names| {
                    names
                        .filter(|n| n.to_string_lossy().starts_with("user."))
                        .map(|n| {
                            let value = xattr::get(entry.path(), &n).unwrap().unwrap();
                            (n.to_string_lossy().into_owned(), value)
                        })
                        .collect()
                })
                .unwrap_or_default()
        };
        xattrs.sort();
        let object = Object {
            kind,
            mode: metadata.mode() & 0o7777,
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            content,
            xattrs,
            same_as,
        };
        found.insert(path, object);
    }
    found
}

/// Returns a picture without what an undo leaves in repositories of git: objects, and the times of the directories that they lie in.
///
/// What is named by its content is never removed: something that was made since may need it.
pub(crate) fn beside_new_objects(
    before: &BTreeMap<PathBuf, Object>,
    mut after: BTreeMap<PathBuf, Object>,
) -> BTreeMap<PathBuf, Object> {
    let is_store = |path: &Path| path.components().any(|part| part.as_os_str() == "objects");
    after.retain(|path, _| before.contains_key(path) || !is_store(path));
    for (path, object) in after.iter_mut().filter(|(path, _)| is_store(path)) {
        if object.kind == 'd'
            && let Some(before) = before.get(path)
        {
            object.mtime = before.mtime;
        }
    }
    after
}

/// Says where two pictures differ, and fails if they do.
#[track_caller]
pub(crate) fn assert_same(
    a: &BTreeMap<PathBuf, Object>,
    b: &BTreeMap<PathBuf, Object>,
    what: &str,
) {
    if a == b {
        return;
    }
    let mut text = String::new();
    for path in a.keys().chain(b.keys().filter(|p| !a.contains_key(*p))) {
        if a.get(path) != b.get(path) {
            let short = |o: Option<&Object>| {
                o.map(|o| {
                    let head = o.content.len().min(20);
                    let content = String::from_utf8_lossy(&o.content[..head]).into_owned();
                    format!(
                        "{} {:o} {:?} {}B {content:?} {:?} {:?}",
                        o.kind,
                        o.mode,
                        o.mtime,
                        o.content.len(),
                        o.xattrs,
                        o.same_as
                    )
                })
            };
            text.push_str(&format!(
                "\n  {}: {:?} / {:?}",
                path.display(),
                short(a.get(path)),
                short(b.get(path))
            ));
        }
    }
    panic!("{what}: the trees differ:{text}");
}

/// Bytes that no compression makes smaller.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let byte = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..bytes).map(byte).collect()
}
