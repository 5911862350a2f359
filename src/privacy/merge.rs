//! Puts values back into a sealed file, with the help of the version that exists now.
//!
//! This restore is a merge: the existing file keeps its secrets, missing ones come from the vault
//! or the environment, and if one is unavailable the existing file is left alone. The result never
//! contains a placeholder.

use std::collections::HashMap;
use std::ops::Range;

use super::seal::{LITERAL, PREFIX, Placeholder, placeholders};
use super::structure::{Format, Leaf, format_of, leaves};
use super::{Fingerprint, Group, RECORD, Rules, examine};

/// Where values come from, and which are preferred.
pub struct Sources<'a> {
    /// Returns the value of a fingerprint; the name of its key is for the environment.
    pub value: &'a mut dyn FnMut(&str, Fingerprint) -> Option<Vec<u8>>,
    pub fingerprint: &'a dyn Fn(&[u8]) -> Option<Fingerprint>,
    /// The rules for finding secrets in the existing file.
    pub rules: &'a Rules,
    /// Values of the existing file win; otherwise the sealed ones.
    pub prefer_live: bool,
    /// Remove secrets that only the existing file has.
    pub exact: bool,
    /// Leave unavailable values blank, if the format can express that.
    pub blank: bool,
}

/// The result of a merge. Names are those of keys, never values.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The file; only to be used if `unresolved` is empty.
    pub bytes: Vec<u8>,
    /// Keys that keep their existing value, which differs from the sealed one.
    pub kept: Vec<String>,
    /// Keys whose value came from the vault or the environment.
    pub restored: Vec<String>,
    /// Keys whose value is not available.
    pub unresolved: Vec<String>,
    /// Secrets that only the existing file has, and that stay.
    pub live_only: Vec<String>,
    pub blank: Vec<String>,
}

/// An edit of the sealed text.
type Edit = (Range<usize>, Vec<u8>);

/// Merges a sealed file with the existing one.
pub fn merge(path: &[u8], sealed: &[u8], live: Option<&[u8]>, sources: &mut Sources<'_>) -> Merged {
    let mut parts = path.rsplit(|b| matches!(b, b'/' | b'\\'));
    let format = format_of(parts.next().unwrap_or_default());
    let leaves_of = |text: &[u8]| format.and_then(|format| leaves(format, text));
    let sealed_leaves = leaves_of(sealed).unwrap_or_default();
    let live_leaves = live.and_then(leaves_of).unwrap_or_default();
    let mut by_path: HashMap<&[String], &Leaf> = HashMap::new();
    for leaf in &live_leaves {
        by_path.entry(&leaf.path).or_insert(leaf);
    }
    let mut merging = Merging {
        format,
        path,
        sealed,
        sealed_leaves: &sealed_leaves,
        live,
        by_path,
        live_values: LiveValues {
            live,
            path,
            map: None,
        },
        merged: Merged::default(),
        edits: Vec::new(),
    };
    let found = placeholders(sealed);
    for (at, one) in found.iter().enumerate() {
        merging.fill(one, &found[at + 1..], sources);
    }
    if !sources.exact
        && let (Some(format), Some(live)) = (format, live)
    {
        merging.only_there(format, live, &live_leaves, sources);
    }
    merging.finish()
}

struct Merging<'a> {
    format: Option<Format>,
    path: &'a [u8],
    sealed: &'a [u8],
    sealed_leaves: &'a [Leaf],
    live: Option<&'a [u8]>,
    /// Leaves of the existing file.
    by_path: HashMap<&'a [String], &'a Leaf>,
    live_values: LiveValues<'a>,
    merged: Merged,
    edits: Vec<Edit>,
}

impl Merging<'_> {
    /// Decides what replaces a placeholder; `others` come after it. The existing value first, if
    /// preferred: it may have been rotated since. Then any value with the fingerprint, whatever its
    /// source. Only then is it unresolved.
    fn fill(&mut self, one: &Placeholder, others: &[Placeholder], sources: &mut Sources<'_>) {
        let last = self.edits.last();
        // The existing file replaced the whole leaf before.
        if last.is_some_and(|(range, _)| one.range.start < range.end) {
            return;
        }
        if one.kind == LITERAL {
            self.edits.push((one.range.clone(), PREFIX.to_vec()));
            return;
        }
        let sealed = self.sealed;
        let mut leaves = self.sealed_leaves.iter();
        let leaf =
            leaves.find(|l| l.outer.start <= one.range.start && one.range.end <= l.outer.end);
        let key = match leaf {
            Some(leaf) => leaf.name(),
            None => {
                let line = memchr::memchr_iter(b'\n', &sealed[..one.range.start]).count() + 1;
                format!("line {line}")
            }
        };
        let there = leaf.and_then(|leaf| Some((leaf, *self.by_path.get(&leaf.path[..])?)));
        if sources.prefer_live
            && let (Some((leaf, there)), Some(live)) = (there, self.live)
            && let Some((edit, same)) = from_live(sealed, leaf, one, others, live, there, sources)
        {
            if !same {
                self.merged.kept.push(key);
            }
            self.edits.push(edit);
            return;
        }
        let last = leaf.and_then(|l| l.path.last()).map_or("", String::as_str);
        if let Some(value) = (sources.value)(last, one.fingerprint) {
            self.edits.push((one.range.clone(), value));
            self.merged.restored.push(key);
        } else if let Some(value) = self.live_values.get(one.fingerprint, sources) {
            self.edits.push((one.range.clone(), value));
        } else if one.kind == RECORD {
            // A record of a log: its stub stays, and is a valid line.
            self.merged.blank.push(key);
        } else if sources.blank
            && let Some(edit) = leaf.and_then(|leaf| blanked(self.format, sealed, leaf))
        {
            self.edits.push(edit);
            self.merged.blank.push(key);
        } else {
            self.merged.unresolved.push(key);
        }
    }

    /// Adds secrets that only the existing file has, next to their siblings: restoring an older
    /// file does not mean that newer keys should go.
    fn only_there(
        &mut self,
        format: Format,
        live: &[u8],
        live_leaves: &[Leaf],
        sources: &Sources<'_>,
    ) {
        let secrets = examine(self.path, live, sources.rules).findings;
        let is_secret = |leaf: &&Leaf| {
            secrets.iter().any(|f| {
                f.group == Group::Secret
                    && f.range.start < leaf.outer.end
                    && leaf.outer.start < f.range.end
            })
        };
        for leaf in live_leaves.iter().filter(is_secret) {
            if self.sealed_leaves.iter().any(|l| l.path == leaf.path) {
                continue;
            }
            if let Some(edit) = added(format, self.sealed, self.sealed_leaves, live, leaf) {
                self.edits.push(edit);
                self.merged.live_only.push(leaf.name());
            }
        }
    }

    fn finish(mut self) -> Merged {
        self.edits
            .sort_by_key(|(range, _)| (range.start, range.end));
        let mut merged = self.merged;
        let mut at = 0;
        for (range, bytes) in self.edits {
            if range.start < at {
                continue;
            }
            merged
                .bytes
                .extend_from_slice(&self.sealed[at..range.start]);
            merged.bytes.extend_from_slice(&bytes);
            at = range.end;
        }
        merged.bytes.extend_from_slice(&self.sealed[at..]);
        merged
    }
}

/// Takes the existing value; returns the edit, and whether the value equals the sealed one.
fn from_live(
    sealed: &[u8],
    leaf: &Leaf,
    one: &Placeholder,
    others: &[Placeholder],
    live: &[u8],
    there: &Leaf,
    sources: &Sources<'_>,
) -> Option<(Edit, bool)> {
    let value = &live[there.inner.clone()];
    let empty = value.is_empty() || !there.is_text && leaf.is_text && value == b"null";
    if empty || memchr::memmem::find(value, PREFIX).is_some() {
        return None;
    }
    let alone = !others.iter().any(|o| o.range.start < leaf.inner.end);
    let before = &sealed[leaf.inner.start..one.range.start];
    let after = &sealed[one.range.end..leaf.inner.end];
    // The value is part of the leaf: `postgres://user:…@host`.
    if alone
        && value.len() >= before.len() + after.len()
        && value.starts_with(before)
        && value.ends_with(after)
    {
        let part = &value[before.len()..value.len() - after.len()];
        let same = (sources.fingerprint)(part) == Some(one.fingerprint);
        if before.is_empty() && after.is_empty() && !same {
            return Some((
                (leaf.outer.clone(), live[there.outer.clone()].to_vec()),
                false,
            ));
        }
        return Some(((one.range.clone(), part.to_vec()), same));
    }
    Some((
        (leaf.outer.clone(), live[there.outer.clone()].to_vec()),
        false,
    ))
}

/// Values of the existing file by fingerprint; collected when the first is requested.
struct LiveValues<'a> {
    live: Option<&'a [u8]>,
    path: &'a [u8],
    map: Option<HashMap<Fingerprint, Range<usize>>>,
}

impl LiveValues<'_> {
    fn get(&mut self, wanted: Fingerprint, sources: &Sources<'_>) -> Option<Vec<u8>> {
        let live = self.live?;
        let path = self.path;
        let map = self.map.get_or_insert_with(|| {
            let examined = examine(path, live, sources.rules);
            let ranges = examined.seals.into_iter().map(|(range, _)| range);
            ranges
                .filter_map(|range| Some(((sources.fingerprint)(&live[range.clone()])?, range)))
                .collect()
        });
        map.get(&wanted).map(|range| live[range.clone()].to_vec())
    }
}

/// Expresses in the format that a value is missing.
fn blanked(format: Option<Format>, sealed: &[u8], leaf: &Leaf) -> Option<Edit> {
    match format? {
        Format::Env => {
            let start = memchr::memrchr(b'\n', &sealed[..leaf.outer.start]).map_or(0, |p| p + 1);
            let key = leaf.path.last()?;
            let line = format!("# {key}=  (sealed by bdr; needs its value)");
            Some((start..leaf.outer.end, line.into_bytes()))
        }
        Format::Json if leaf.is_text => Some((leaf.outer.clone(), b"null".to_vec())),
        Format::Yaml => Some((leaf.outer.clone(), b"null".to_vec())),
        Format::Toml => Some((leaf.outer.clone(), b"\"\"".to_vec())),
        Format::Ini => Some((leaf.outer.clone(), Vec::new())),
        Format::Json => None,
    }
}

/// Returns the edit that adds a leaf of the existing file to the sealed text, in the style of its
/// format and siblings.
fn added(
    format: Format,
    sealed: &[u8],
    sealed_leaves: &[Leaf],
    live: &[u8],
    leaf: &Leaf,
) -> Option<Edit> {
    let (key, parent) = leaf.path.split_last()?;
    let value = &live[leaf.outer.clone()];
    let newline: &[u8] = match memchr::memmem::find(sealed, b"\r\n") {
        Some(_) => b"\r\n",
        None => b"\n",
    };
    let mut siblings = sealed_leaves.iter().rev();
    let sibling = siblings.find(|l| l.path.len() == leaf.path.len() && l.path.starts_with(parent));
    match (format, sibling) {
        (Format::Env, _) => {
            let start = line_of(live, leaf.outer.start);
            let mut line = Vec::new();
            if !sealed.is_empty() && !sealed.ends_with(b"\n") {
                line.extend_from_slice(newline);
            }
            line.extend_from_slice(&live[start..leaf.outer.end]);
            line.extend_from_slice(newline);
            Some((sealed.len()..sealed.len(), line))
        }
        (Format::Json, Some(sibling)) => {
            let (line, indent) = indent_of(sealed, sibling.outer.start);
            // Like its sibling: on a line of its own, or on the same one.
            let own_line = line > 0 && sealed.get(line + indent.len()) == Some(&b'"');
            let mut text = b",".to_vec();
            if own_line {
                text.extend_from_slice(newline);
                text.extend_from_slice(indent);
            } else {
                text.push(b' ');
            }
            text.extend_from_slice(&serde_json::to_vec(key).unwrap_or_default());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value);
            Some((sibling.outer.end..sibling.outer.end, text))
        }
        (Format::Toml | Format::Yaml | Format::Ini, Some(sibling)) => {
            let (_, indent) = indent_of(sealed, sibling.outer.start);
            let end = memchr::memchr(b'\n', &sealed[sibling.outer.end..])
                .map_or(sealed.len(), |p| sibling.outer.end + p + 1);
            let mut text = Vec::new();
            if end == sealed.len() && !sealed.ends_with(b"\n") {
                text.extend_from_slice(newline);
            }
            text.extend_from_slice(indent);
            text.extend_from_slice(key.as_bytes());
            text.extend_from_slice(match format {
                Format::Yaml => b": ",
                _ => b" = ",
            });
            text.extend_from_slice(value);
            text.extend_from_slice(newline);
            Some((end..end, text))
        }
        _ => None,
    }
}

/// Returns the start of the line of `at`.
fn line_of(text: &[u8], at: usize) -> usize {
    memchr::memrchr(b'\n', &text[..at]).map_or(0, |p| p + 1)
}

/// Returns the start of the line of `at`, and its indent.
fn indent_of(text: &[u8], at: usize) -> (usize, &[u8]) {
    let line = line_of(text, at);
    let rest = text[line..].iter();
    let count = rest.take_while(|b| matches!(b, b' ' | b'\t')).count();
    (line, &text[line..line + count])
}
