//! A look at a tree that shares no code with bdr: what an independent witness sees, and where two looks differ.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Everything about one object that somebody could miss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    content: Vec<u8>,
    holes: bool,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// All paths of the same file.
    names: Vec<PathBuf>,
}

impl Seen {
    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    pub(super) fn names(&self) -> &[PathBuf] {
        &self.names
    }

    pub(super) fn has_content(&self) -> bool {
        matches!(self.kind, "file" | "link")
    }

    fn differs(&self, other: &Self) -> String {
        let mut what = Vec::new();
        if self.kind != other.kind {
            return format!("a {} where a {} was", other.kind, self.kind);
        }
        if self.content != other.content {
            let head = |c: &[u8]| String::from_utf8_lossy(&c[..c.len().min(40)]).into_owned();
            what.push(format!(
                "content {}B {:?} -> {}B {:?}",
                self.content.len(),
                head(&self.content),
                other.content.len(),
                head(&other.content)
            ));
        }
        if self.mode != other.mode {
            what.push(format!("mode {:o} -> {:o}", self.mode, other.mode));
        }
        if self.owner != other.owner {
            what.push(format!("owner {:?} -> {:?}", self.owner, other.owner));
        }
        if self.mtime != other.mtime {
            what.push(format!("time {:?} -> {:?}", self.mtime, other.mtime));
        }
        if self.holes && !other.holes {
            what.push("holes are filled".to_owned());
        }
        if self.attributes != other.attributes {
            what.push("attributes".to_owned());
        }
        if self.names != other.names {
            what.push(format!("names {:?} -> {:?}", self.names, other.names));
        }
        what.join(", ")
    }
}

pub(super) type Look = BTreeMap<PathBuf, Seen>;

/// Looks at everything below some directories. What lies in a `.git` is told by what git says of it, not by its files.
pub(super) fn look(tops: &[PathBuf]) -> Look {
    let mut found = Look::new();
    let mut same: BTreeMap<(u64, u64), Vec<PathBuf>> = BTreeMap::new();
    for top in tops {
        below(top, &mut found, &mut same);
    }
    for names in same.values().filter(|names| names.len() > 1) {
        for name in names {
            if let Some(seen) = found.get_mut(name) {
                seen.names.clone_from(names);
            }
        }
    }
    found
}

fn below(path: &Path, found: &mut Look, same: &mut BTreeMap<(u64, u64), Vec<PathBuf>>) {
    let Ok(stat) = path.symlink_metadata() else {
        return;
    };
    let kind = stat.file_type();
    let is_repository = path.file_name() == Some(OsStr::new(".git")) && kind.is_dir();
    let (name, content) = if kind.is_file() {
        (
            "file",
            std::fs::read(path).unwrap_or_else(|e| e.to_string().into_bytes()),
        )
    } else if kind.is_symlink() {
        let target = std::fs::read_link(path).unwrap_or_default();
        ("link", target.as_os_str().as_bytes().to_vec())
    } else if is_repository {
        ("repository", meaning(path))
    } else if kind.is_dir() {
        ("directory", Vec::new())
    } else if kind.is_fifo() {
        ("FIFO", Vec::new())
    } else {
        ("special", Vec::new())
    };
    if kind.is_file() && stat.nlink() > 1 {
        same.entry((stat.dev(), stat.ino()))
            .or_default()
            .push(path.to_path_buf());
    }
    let mut attributes: Vec<_> = match kind.is_file() || kind.is_dir() {
        true => xattr::list(path).into_iter().flatten().collect(),
        false => Vec::new(),
    }
    .into_iter()
    .filter_map(|key| {
        let value = xattr::get(path, &key).ok()??;
        Some((key.as_bytes().to_vec(), value))
    })
    .collect();
    attributes.sort();
    let seen = Seen {
        kind: name,
        mode: stat.mode() & 0o7777,
        owner: (stat.uid(), stat.gid()),
        // Git writes there whenever it is asked something.
        mtime: match is_repository {
            true => (0, 0),
            false => (stat.mtime(), stat.mtime_nsec()),
        },
        holes: kind.is_file() && stat.size() > stat.blocks() * 512 + 65_536,
        content,
        attributes,
        names: Vec::new(),
    };
    found.insert(path.to_path_buf(), seen);
    if kind.is_dir() && !is_repository {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        entries.sort();
        for entry in entries {
            below(&entry, found, same);
        }
    }
}

/// What a repository of git means: what its names stand for, what is staged, whether it is sound.
fn meaning(git_dir: &Path) -> Vec<u8> {
    // Asking must not change anything that bdr compares later.
    let script = "export GIT_OPTIONAL_LOCKS=0
        cat HEAD; git for-each-ref --format='%(refname) %(objectname)'; git stash list --format=%H; git ls-files --stage -t; git reflog --format='%H %gs' HEAD
        cat config; for f in MERGE_HEAD ORIG_HEAD CHERRY_PICK_HEAD; do [ -f $f ] && echo $f; done
        git fsck --full --no-dangling 2>&1 | grep -E 'missing|broken|invalid|error|fatal|corrupt'; find . -name '*.bdr-*'";
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(git_dir)
        .env("GIT_DIR", git_dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .output();
    output.map(|o| o.stdout).unwrap_or_default()
}

/// Where a tree is not as it was: a line for each path, `was` first.
pub(super) fn differences(was: &Look, is: &Look) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    for (path, before) in was {
        match is.get(path) {
            None => {
                all.insert(path.clone(), format!("the {} is gone", before.kind));
            }
            Some(now) if now != before => {
                let differs = before.differs(now);
                if !differs.is_empty() {
                    all.insert(path.clone(), differs);
                }
            }
            Some(_) => {}
        }
    }
    for (path, now) in is {
        if !was.contains_key(path) {
            all.insert(path.clone(), format!("a {} that was not there", now.kind));
        }
    }
    all
}
