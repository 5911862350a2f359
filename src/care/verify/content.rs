//! Checks that files come out as they went in. That every part of a file exists and is whole does
//! not prove that these are the right parts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Damage, Harm, Listings, LostFile, entries};
use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::monitor::Monitor;
use crate::base::path::RawName;
use crate::model::manifest::Content;
use crate::repo::Repository;
use crate::repo::index::Index;
use crate::repo::reader::Reader;
use crate::repo::snapshot::Snapshot;

/// Reassembles each file that consists of parts, and compares its digest; for others the length is
/// enough. Files with lost parts are reported elsewhere.
///
/// # Errors
/// The user stopped it.
pub(super) fn check_content(
    repo: &Repository,
    index: &Arc<Index>,
    snapshots: &[Snapshot],
    listings: &Listings,
    lost: &HashMap<Digest, String>,
    found: &mut Vec<Damage>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let mut reader = Reader::with_index(repo, Arc::clone(index));
    let mut good: HashSet<Digest> = HashSet::new();
    let mut bad: HashMap<Digest, usize> = HashMap::new();
    for (snapshot, path, entry) in entries(snapshots, listings) {
        let Some(content) = entry.body.content.as_ref() else {
            continue;
        };
        if content.as_kept().is_some() || content.blobs().iter().any(|b| lost.contains_key(b)) {
            continue;
        }
        let key = key_of(content);
        if good.contains(&key) {
            continue;
        }
        if monitor.stopped() {
            return Err(Error::Interrupted);
        }
        let at = match bad.get(&key) {
            Some(at) => *at,
            None if comes_out(&mut reader, index, content) => {
                good.insert(key);
                continue;
            }
            None => {
                found.push(Damage {
                    name: format!("content {}", content.digest),
                    reason: Harm::DoesNotAddUp,
                    lost: Vec::new(),
                });
                bad.insert(key, found.len() - 1);
                found.len() - 1
            }
        };
        found[at].lost.push(LostFile {
            snapshot: snapshot.id,
            path: RawName(path.into_os_string()),
            other: None,
        });
    }
    Ok(())
}

/// Returns a digest of the description of content: its parts, and its own digest.
fn key_of(content: &Content) -> Digest {
    Digest::of(
        format!(
            "{} {:?} {:?}",
            content.digest,
            content.blobs(),
            content.extents()
        )
        .as_bytes(),
    )
}

fn comes_out(reader: &mut Reader<'_>, index: &Index, content: &Content) -> bool {
    if content.is_whole() {
        // The blob was compared with its digest, which is that of the file.
        let size = index.copies(content.digest).next().map(|copy| copy.size);
        return size == Some(content.size());
    }
    reader.content(content, &mut |_| Ok(())).is_ok()
}
