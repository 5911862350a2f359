//! Snapshots, and the files in them: `list`, `ls`, `history`, `find`, `cat`, `diff`.

use std::path::Path;

use bdr::base::id::SnapshotId;
use bdr::find::query::{Found, Version};
use bdr::model::manifest::{Change, Entry, Kind};
use bdr::repo::marks::Mark;
use bdr::repo::origin::Origin;
use bdr::repo::snapshot::SnapshotKind;
use bdr::repo::summaries::Summary;
use serde::Serialize;

use super::Unreadable;
use super::changed::GitDocument;
use super::paths::{At, Target};
use crate::app::refs::Touched;
use crate::ui::json::kind as kind_word;
use crate::ui::when;

/// `full` or `incremental`.
pub(super) fn snapshot_kind(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Full => "full",
        SnapshotKind::Incremental => "incremental",
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ListDocument {
    pub(crate) snapshots: Vec<SnapshotDocument>,
    pub(crate) total: usize,
    pub(crate) repository_bytes: u64,
    pub(crate) unreadable: Vec<Unreadable>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SnapshotDocument {
    id: String,
    short: String,
    seq: u64,
    time: String,
    kind: &'static str,
    trigger: &'static str,
    label: Option<String>,
    tags: Vec<String>,
    host: String,
    partial: bool,
    files: u64,
    bytes: u64,
    stored_bytes: u64,
    roots: Vec<RootDocument>,
    pinned: bool,
    origin: &'static str,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RootDocument {
    name: String,
    #[serde(flatten)]
    at: At,
    files: u64,
    bytes: u64,
}

impl SnapshotDocument {
    pub(crate) fn new(snapshot: &Summary, short: String, pinned: bool, origin: Origin) -> Self {
        let roots = snapshot.roots.iter().map(|root| RootDocument {
            name: root.name.to_string(),
            at: At::new(root.path.as_path()),
            files: root.files,
            bytes: root.bytes,
        });
        Self {
            id: snapshot.id.to_string(),
            short,
            seq: snapshot.seq,
            time: when::utc(snapshot.time),
            kind: snapshot_kind(snapshot.kind),
            trigger: snapshot.trigger.word(),
            label: snapshot.label.clone(),
            tags: snapshot.tags.clone(),
            host: snapshot.host.clone(),
            partial: snapshot.partial,
            files: snapshot.stats.files,
            bytes: snapshot.stats.bytes,
            stored_bytes: snapshot.stats.stored_bytes,
            roots: roots.collect(),
            pinned,
            origin: origin.word(),
        }
    }
}

/// What a snapshot knows of a file, without its path.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Facts {
    kind: &'static str,
    mode: String,
    mtime: Option<String>,
    #[serde(flatten)]
    content: Option<Content>,
    #[serde(flatten)]
    target: Option<Target>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Content {
    bytes: u64,
    sha256: Option<String>,
}

impl Facts {
    fn new(entry: &Entry) -> Self {
        let mtime = chrono::DateTime::from_timestamp(entry.mtime.0, entry.mtime.1);
        let content = (entry.kind == Kind::File).then(|| Content {
            bytes: entry.size,
            sha256: entry.digest().map(|digest| digest.to_hex()),
        });
        let target = (entry.kind == Kind::Symlink)
            .then(|| Target::new(&bdr::base::path::os_from_bytes(&entry.body.target)));
        Self {
            kind: kind_word(entry.kind),
            mode: format!("{:04o}", entry.mode),
            mtime: mtime.map(when::utc),
            content,
            target,
        }
    }
}

/// A file as a snapshot has it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct EntryDocument {
    #[serde(flatten)]
    at: At,
    #[serde(flatten)]
    facts: Facts,
}

impl EntryDocument {
    pub(crate) fn new(path: &Path, entry: &Entry) -> Self {
        Self {
            at: At::new(path),
            facts: Facts::new(entry),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct LsDocument {
    pub(crate) snapshot: String,
    pub(crate) entries: Vec<SourceEntry>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct SourceEntry {
    #[serde(flatten)]
    pub(crate) entry: EntryDocument,
    pub(crate) source: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct CatDocument {
    #[serde(flatten)]
    pub(crate) entry: EntryDocument,
    pub(crate) snapshot: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct HistoryDocument {
    versions: Vec<VersionDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct VersionDocument {
    #[serde(flatten)]
    at: At,
    #[serde(flatten)]
    there: There,
    snapshot: String,
    short: String,
    seq: u64,
    time: String,
}

/// A version of a file, or that there was none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
enum There {
    File(Facts),
    Gone { kind: () },
}

impl HistoryDocument {
    pub(crate) fn new(versions: &[Version], ids: &[SnapshotId]) -> Self {
        let version = |version: &Version| VersionDocument {
            at: At::new(&version.path),
            there: match &version.entry {
                Some(entry) => There::File(Facts::new(entry)),
                None => There::Gone { kind: () },
            },
            snapshot: version.snapshot.to_string(),
            short: version.snapshot.prefix(ids),
            seq: version.seq,
            time: when::utc(version.time),
        };
        Self {
            versions: versions.iter().map(version).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct FindDocument {
    found: Vec<FoundDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct FoundDocument {
    #[serde(flatten)]
    entry: EntryDocument,
    source: String,
    snapshot: String,
    short: String,
    time: String,
    current: bool,
}

impl FindDocument {
    pub(crate) fn new(found: &[Found], ids: &[SnapshotId]) -> Self {
        let one = |found: &Found| FoundDocument {
            entry: EntryDocument::new(&found.path, &found.entry),
            source: found.root.clone(),
            snapshot: found.snapshot.to_string(),
            short: found.snapshot.prefix(ids),
            time: when::utc(found.time),
            current: found.current,
        };
        Self {
            found: found.iter().map(one).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct DiffDocument {
    a: String,
    b: Option<String>,
    git: Vec<GitDocument>,
    changes: Vec<DifferenceDocument>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct DifferenceDocument {
    #[serde(flatten)]
    at: At,
    source: String,
    change: &'static str,
    before: Option<Facts>,
    after: Option<Facts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
}

impl DiffDocument {
    pub(crate) fn new<'c>(
        a: SnapshotId,
        b: Option<SnapshotId>,
        git: &[Touched],
        changes: impl Iterator<Item = (&'c str, &'c Path, &'c Change, Option<String>)>,
    ) -> Self {
        let one = |(source, root, change, patch): (&str, &Path, &Change, Option<String>)| {
            let (word, before, after) = match change {
                Change::Added(entry) => ("added", None, Some(entry)),
                Change::Removed(entry) => ("removed", Some(entry), None),
                Change::Modified(pair) => ("modified", Some(&pair.0), Some(&pair.1)),
                Change::Metadata(pair) => ("metadata", Some(&pair.0), Some(&pair.1)),
            };
            DifferenceDocument {
                at: At::new(&change.path().to_path(root)),
                source: source.to_owned(),
                change: word,
                before: before.map(Facts::new),
                after: after.map(Facts::new),
                patch,
            }
        };
        Self {
            a: a.to_string(),
            b: b.map(|id| id.to_string()),
            git: git.iter().map(GitDocument::new).collect(),
            changes: changes.map(one).collect(),
        }
    }
}

/// `tag`, `pin`, `unpin`: how a snapshot is marked now.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct MarkDocument {
    id: String,
    short: String,
    tags: Vec<String>,
    pinned: bool,
}

impl MarkDocument {
    pub(crate) fn new(mark: &Mark, short: &str) -> Self {
        Self {
            id: mark.id.to_string(),
            short: short.to_owned(),
            tags: mark.tags.clone(),
            pinned: mark.pinned,
        }
    }
}
