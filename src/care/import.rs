//! Imports the backups of backup-dr, the server that people used before bdr.
//!
//! Its store is `<dir>/backups/<id>/` with `backup-metadata.json` and the files below `data/`, each
//! as gzip or unchanged. Two files can share one place there: every source that is a file is
//! `data.gz`, and directories share files of the same name. Only the last one written is left. So
//! nothing is trusted: a file is imported under a name only if its content has the checksum that
//! the metadata gives for that name.
//!
//! One of its incremental backups has the files that changed, and nothing about those that were
//! deleted. Such a snapshot is the backup before it of the same sources, with these files on top.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use flate2::read::GzDecoder;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::monitor::{Monitor, Phase};
use crate::base::path::{RawName, RepoPath, os_from_bytes};
use crate::disk::fsutil::{self, OwnTree};
use crate::model::rules::{Root, Rules};
use crate::protect::backup::{BackupOptions, BackupReport, backup, forget_state};
use crate::repo::Repository;
use crate::repo::snapshot::{PathNote, Trigger};

pub use crate::repo::snapshot::IMPORTED as TAG;
/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 40;
/// The largest metadata that is read, in bytes.
const MAX_METADATA: u64 = 128 << 20;

/// The part of `backup-metadata.json` that matters.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Its name, `YYYY-MM-DD-HHMMSS`.
    pub backup_id: String,
    pub created: DateTime<Utc>,
    /// `full` or `incremental`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Absolute paths that it was told to back up.
    pub sources: Vec<PathBuf>,
    #[serde(default)]
    pub label: Option<String>,
    #[serde(default)]
    files: Vec<StoredFile>,
    #[serde(default)]
    config: Settings,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Settings {
    #[serde(default)]
    compression: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredFile {
    path: String,
    original_path: PathBuf,
    size: u64,
    checksum: String,
    #[serde(default)]
    modified: Option<DateTime<Utc>>,
    #[serde(default)]
    permissions: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Found {
    pub metadata: Metadata,
    dir: PathBuf,
    /// It is in the repository already.
    pub imported: bool,
}

impl Found {
    /// Returns the number of its own files.
    pub fn files(&self) -> u64 {
        self.metadata.files.len() as u64
    }

    pub fn bytes(&self) -> u64 {
        // The store may claim impossible sizes.
        let sizes = self.metadata.files.iter().map(|file| file.size);
        sizes.fold(0, u64::saturating_add)
    }
}

#[derive(Debug, Clone, Default)]
pub struct Store {
    /// Oldest first.
    pub backups: Vec<Found>,
    /// Directories without readable metadata.
    pub unreadable: Vec<PathNote>,
}

/// Returns the label for an imported backup.
pub fn label_of(metadata: &Metadata) -> String {
    match &metadata.label {
        Some(label) => format!("backup-dr {}: {label}", metadata.backup_id),
        None => format!("backup-dr {}", metadata.backup_id),
    }
}

/// Lists a store; `repo` determines what is imported already.
///
/// # Errors
/// The store or the repository cannot be listed.
pub fn look(dir: &Path, repo: Option<&Repository>) -> Result<Store> {
    let known: Vec<String> = match repo {
        Some(repo) => {
            let summaries = repo.summaries()?;
            summaries
                .into_iter()
                .filter(|s| s.tags.iter().any(|tag| tag == TAG))
                .filter_map(|s| s.label)
                .collect()
        }
        None => Vec::new(),
    };
    let backups = dir.join("backups");
    let mut store = Store::default();
    let listed = match fsutil::read_dir(&backups) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(store),
        Err(error) => return Err(Error::io("list", backups, error)),
    };
    for entry in listed
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
    {
        match metadata_of(&entry.path()) {
            Ok(metadata) => store.backups.push(Found {
                imported: known.contains(&label_of(&metadata)),
                dir: entry.path(),
                metadata,
            }),
            Err(reason) => store.unreadable.push(PathNote {
                path: RawName::from(entry.path().as_path()),
                reason,
            }),
        }
    }
    // Two of the same second differ in their names.
    store.backups.sort_by(|a, b| {
        let key = |found: &Found| (found.metadata.created, found.metadata.backup_id.clone());
        key(a).cmp(&key(b))
    });
    store
        .unreadable
        .sort_by(|a, b| a.path.as_path().cmp(b.path.as_path()));
    Ok(store)
}

fn metadata_of(dir: &Path) -> std::result::Result<Metadata, String> {
    let read = |name: &str| {
        let file = open_in_store(&dir.join(name)).map_err(|error| format!("{name}: {error}"))?;
        let mut bytes = Vec::new();
        file.take(MAX_METADATA)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("{name}: {error}"))?;
        Ok::<_, String>(bytes)
    };
    let mut metadata: Metadata = serde_json::from_slice(&read("backup-metadata.json")?)
        .map_err(|error| format!("backup-metadata.json: {error}"))?;
    if metadata.files.is_empty()
        && let Ok(manifest) = read("manifest.json")
    {
        metadata.files =
            serde_json::from_slice(&manifest).map_err(|error| format!("manifest.json: {error}"))?;
    }
    let absolute = |path: &Path| {
        path.is_absolute()
            && !path
                .components()
                .any(|c| c == std::path::Component::ParentDir)
    };
    if !metadata.sources.iter().all(|path| absolute(path)) {
        return Err("a source is not an absolute path".to_owned());
    }
    Ok(metadata)
}

/// The result of importing one backup.
#[derive(Debug)]
pub struct Imported {
    pub report: BackupReport,
    /// Files that are missing from the store, damaged, or stored under another name; with their
    /// original paths.
    pub lost: Vec<PathNote>,
}

/// A file as it was at one time.
#[derive(Clone)]
struct Version {
    dir: PathBuf,
    compressed: bool,
    file: StoredFile,
}

/// All files at one time, by original path.
type Tree = BTreeMap<PathBuf, Version>;

/// Imports a store into a repository, one backup at a time.
pub struct Importer<'a> {
    repo: &'a Repository,
    scratch: PathBuf,
    /// The last tree of each set of sources.
    trees: BTreeMap<Vec<PathBuf>, Tree>,
}

impl<'a> Importer<'a> {
    /// `scratch` is an empty directory in which one backup at a time is laid out.
    pub fn new(repo: &'a Repository, scratch: &Path) -> Self {
        Self {
            repo,
            scratch: scratch.to_path_buf(),
            trees: BTreeMap::new(),
        }
    }

    /// Notes a backup that is imported already, because later ones build on it.
    pub fn pass(&mut self, found: &Found) {
        self.tree_of(found);
    }

    /// Imports a backup. The earlier ones must have been imported or passed.
    ///
    /// # Errors
    /// The scratch directory or the repository cannot be written, or the user stopped it.
    pub fn import(&mut self, found: &Found, host: &str, monitor: &dyn Monitor) -> Result<Imported> {
        let tree = self.tree_of(found);
        let mut lost = Vec::new();
        let mut roots = Vec::new();
        let mut moved = Vec::new();
        monitor.phase(Phase::Scanning, 0, 0);
        // Everything is written below this directory.
        let laid = OwnTree::create(&self.scratch.join("tree"))?;
        let mut files = by_source(&tree, &found.metadata.sources);
        for (number, (name, source)) in names(&found.metadata.sources).into_iter().enumerate() {
            // The root of a file system has no name.
            let base = source.file_name().unwrap_or("root".as_ref());
            let place = laid.path().join(number.to_string()).join(base);
            for (original, version) in files.remove(source.as_path()).unwrap_or_default() {
                if monitor.stopped() {
                    return Err(Error::Interrupted);
                }
                let below = original.strip_prefix(&source).unwrap_or(Path::new(""));
                // Joining an empty path would add a slash.
                let target = if below.as_os_str().is_empty() {
                    place.clone()
                } else {
                    place.join(below)
                };
                let inside = below
                    .components()
                    .all(|part| matches!(part, std::path::Component::Normal(_)));
                let laid_out = match inside {
                    true => lay_out(version, &target)?,
                    false => Err("its path points outside its source".to_owned()),
                };
                if let Err(reason) = laid_out {
                    lost.push(PathNote {
                        path: RawName::from(original.as_path()),
                        reason,
                    });
                }
            }
            moved.push((place.clone(), source.clone()));
            roots.push(Root::source(
                &name,
                place,
                Rules {
                    rebuildable: true,
                    ..Rules::default()
                },
            ));
        }
        let mut options = BackupOptions::new(Trigger::Backup, found.metadata.created);
        options.label = Some(label_of(&found.metadata));
        options.tags = vec![TAG.to_owned()];
        options.host = host.to_owned();
        options.moved = moved;
        options.problems.clone_from(&lost);
        let report = backup(self.repo, &roots, &options, monitor);
        for root in &roots {
            forget_state(self.repo, root);
        }
        laid.remove()?;
        Ok(Imported {
            report: report?,
            lost,
        })
    }

    fn tree_of(&mut self, found: &Found) -> Tree {
        let mut sources = found.metadata.sources.clone();
        sources.sort();
        let tree = self.trees.entry(sources).or_default();
        if found.metadata.kind == "full" {
            tree.clear();
        }
        for file in &found.metadata.files {
            let version = Version {
                dir: found.dir.clone(),
                compressed: found.metadata.config.compression,
                file: file.clone(),
            };
            tree.insert(file.original_path.clone(), version);
        }
        tree.clone()
    }
}

/// Returns the files of each source: a file belongs to the innermost source around it.
fn by_source<'a>(
    tree: &'a Tree,
    sources: &'a [PathBuf],
) -> HashMap<&'a Path, Vec<(&'a PathBuf, &'a Version)>> {
    let sources: HashSet<&Path> = sources.iter().map(PathBuf::as_path).collect();
    let mut files: HashMap<&Path, Vec<(&PathBuf, &Version)>> = HashMap::new();
    for (path, version) in tree {
        let above = path
            .ancestors()
            .find_map(|above| sources.get(above).copied());
        if let Some(source) = above {
            files.entry(source).or_default().push((path, version));
        }
    }
    files
}

/// Returns unique names for sources, from the last part of their paths.
pub fn names(sources: &[PathBuf]) -> Vec<(String, PathBuf)> {
    let mut taken: Vec<(String, PathBuf)> = Vec::new();
    let (mut seen, mut used): (HashSet<&PathBuf>, HashSet<String>) = Default::default();
    let mut numbers: HashMap<String, u64> = HashMap::new();
    for source in sources {
        if !seen.insert(source) {
            continue;
        }
        let base: String = source
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
            .trim_start_matches('.')
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            })
            .collect();
        let base = if crate::model::rules::check_source_name(&base).is_ok() {
            base
        } else {
            "source".to_owned()
        };
        let mut name = base.clone();
        let number = numbers.entry(base.clone()).or_insert(2);
        while !used.insert(name.clone()) {
            name = format!("{base}-{number}");
            *number += 1;
        }
        taken.push((name, source.clone()));
    }
    taken
}

/// Writes a file as it was; returns the reason if the store has something else under its name.
fn lay_out(version: &Version, target: &Path) -> Result<std::result::Result<(), String>> {
    let mut content = match content_of(version) {
        Ok(content) => content,
        Err(reason) => return Ok(Err(reason)),
    };
    let dir = target.parent().unwrap_or(target);
    fsutil::create_dir_private(dir)?;
    let write = |e| Error::io("write", target, e);
    let (mut file, temporary) = fsutil::create_temporary(dir, 0o600).map_err(write)?;
    let written = copy(&mut content, &mut file, version);
    drop(file);
    if !matches!(written, Ok(Ok(()))) {
        let _ = fsutil::remove_file(&temporary);
    }
    if let Err(reason) = written.map_err(write)? {
        return Ok(Err(reason));
    }
    fsutil::rename(&temporary, target).map_err(write)?;
    let mode = version
        .file
        .permissions
        .as_deref()
        .and_then(|text| u32::from_str_radix(text, 8).ok());
    // Whatever its mode was, the file has to be readable.
    let mode = mode.unwrap_or(0o644) & 0o777 | 0o400;
    fsutil::set_mode(target, mode).map_err(|e| Error::io("change", target, e))?;
    if let Some(modified) = version.file.modified {
        let file = File::open(target).map_err(|e| Error::io("open", target, e))?;
        let _ = file.set_modified(SystemTime::from(modified));
    }
    Ok(Ok(()))
}

/// Writes content if it matches its metadata; otherwise returns the reason.
fn copy(
    content: &mut dyn Read,
    file: &mut File,
    version: &Version,
) -> std::io::Result<std::result::Result<(), String>> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut left = version.file.size.min(MAX_BYTES);
    let other = "the store has another file's content under its name";
    loop {
        let read = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => return Ok(Err("it is damaged in the store".to_owned())),
        };
        // Never write more than the metadata promises, however much it unpacks to.
        match left.checked_sub(read as u64) {
            Some(rest) => left = rest,
            None => return Ok(Err(other.to_owned())),
        }
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read])?;
    }
    let is_it = Digest::finish(hasher).to_hex() == version.file.checksum.to_ascii_lowercase();
    Ok(is_it.then_some(()).ok_or_else(|| other.to_owned()))
}

/// Opens the content of a file.
fn content_of(version: &Version) -> std::result::Result<Box<dyn Read>, String> {
    let below = RepoPath::new(version.file.path.replace('\\', "/").as_bytes());
    let below = below.map_err(|_| "its path in the store points outside the store".to_owned())?;
    let mut place = version.dir.join("data");
    if !below.is_root() {
        place = place.join(os_from_bytes(below.as_bytes()));
    }
    if version.compressed {
        let mut name = place.into_os_string();
        name.push(".gz");
        place = PathBuf::from(name);
    }
    let file = open_in_store(&place).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "it is not in the store".to_owned(),
        _ => error.to_string(),
    })?;
    Ok(match version.compressed {
        true => Box::new(GzDecoder::new(file)),
        false => Box::new(file),
    })
}

/// Opens a regular file, through no symlink, without waiting for the writer of a FIFO.
fn open_in_store(path: &Path) -> std::io::Result<File> {
    let file = fsutil::open_own(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("it is not a regular file there")),
    }
}
