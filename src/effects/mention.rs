//! The paths that a line mentions: every word, quoted text and literal that could be one.
//!
//! Operands follow from what a command is; this covers everything else: the list for `xargs`, text
//! that a shell or another language runs, values of variables and options. Most of it is no path at
//! all, so the caller checks what exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::base::path::{absolute, os_from_bytes};

/// Most candidates of one line.
const MAX_FOUND: usize = 256;
/// Most bytes of text that are searched.
const MAX_TEXT: usize = 64 * 1024;
/// Longest candidate, in bytes.
const MAX_WORD: usize = 4096;

/// Returns the paths that words of a text could be, seen from each of the directories.
pub(super) fn paths<'t>(
    texts: impl Iterator<Item = &'t str>,
    dirs: &[&Path],
    home: Option<&Path>,
) -> Vec<PathBuf> {
    let mut words = BTreeSet::new();
    for text in texts {
        let cut = text.char_indices().map(|(at, _)| at);
        let end = cut.take_while(|at| *at <= MAX_TEXT).last().unwrap_or(0);
        let text = if text.len() > MAX_TEXT {
            &text[..end]
        } else {
            text
        };
        collect(text, &mut words);
    }
    let mut found = BTreeSet::new();
    for word in words {
        let word = before_wildcard(&word);
        if word.is_empty() || found.len() >= MAX_FOUND {
            continue;
        }
        if let Some(below) = word
            .strip_prefix("~/")
            .or_else(|| (word == "~").then_some(""))
        {
            found.extend(home.map(|home| absolute(home, Path::new(below))));
            continue;
        }
        let path = PathBuf::from(os_from_bytes(word.as_bytes()));
        for dir in dirs {
            found.insert(absolute(dir, &path));
            if path.is_absolute() {
                break;
            }
        }
    }
    found.into_iter().collect()
}

fn collect(text: &str, words: &mut BTreeSet<String>) {
    // Stands for an escaped blank while the text is split.
    const BLANK: &str = "\u{1}";
    let text = text
        .replace("\\ ", BLANK)
        .replace("${HOME}", "~")
        .replace("$HOME", "~")
        .replace("${PWD}", ".")
        .replace("$PWD", ".");
    let mut add = |word: &str| {
        let word = word.replace(BLANK, " ");
        let told = word.bytes().any(|b| b.is_ascii_alphanumeric() || b >= 0x80) || word == "..";
        if told && word.len() <= MAX_WORD && !word.contains('\0') && words.len() < 4 * MAX_FOUND {
            words.insert(word);
        }
    };
    for quote in ['\'', '"', '`'] {
        for inside in text.split(quote).skip(1).step_by(2) {
            if inside.contains(['/', ' ']) && !inside.contains('\n') {
                add(inside);
            }
        }
    }
    let mut changes_dir = false;
    for word in text.split(|c: char| c.is_whitespace() || "'\"`;|&<>()".contains(c)) {
        if word.is_empty() {
            continue;
        }
        // The target of a `cd` is followed, so it is no reason to capture everything there.
        let is_place = std::mem::replace(&mut changes_dir, matches!(word, "cd" | "pushd"));
        if is_place && !word.contains(['$', '{']) {
            continue;
        }
        if !word.starts_with('-') {
            add(word);
        }
        for part in word.split(|c: char| "=,:{}[]$\\".contains(c)) {
            if !part.starts_with('-') {
                add(part);
            } else if let Some(value) = part.get(2..)
                && value.starts_with(['/', '.', '~'])
            {
                // `-C../there`
                add(value);
            }
        }
    }
}

/// Returns the directories before the first wildcard.
fn before_wildcard(word: &str) -> &str {
    match word.find(['*', '?', '[']) {
        None => word,
        Some(at) => word[..at].rfind('/').map_or("", |end| &word[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_every_kind_are_found() {
        for (text, path) in [
            ("find ../o -type f | xargs rm", "/w/o"),
            ("a=(../o/a ../o/b)", "/w/o/b"),
            ("git --work-tree=../o clean", "/w/o"),
            ("make -C../o", "/w/o"),
            ("bash -s <<< \"rm -rf ../o/d\"", "/w/o/d"),
            (
                "python3 -c 'import shutil; shutil.rmtree(\"../o/d\")'",
                "/w/o/d",
            ),
            ("perl -e 'unlink glob(\"../o/*\")'", "/w/o"),
            ("rm \"../my dir/x\"", "/w/my dir/x"),
            ("rm ../my\\ dir/x", "/w/my dir/x"),
            ("echo ~/notes \"$HOME/n\"", "/home/u/n"),
            ("D=~/notes", "/home/u/notes"),
            ("PATHS=/a/b:/c/d", "/c/d"),
        ] {
            let found = paths(
                std::iter::once(text),
                &[Path::new("/w/s")],
                Some(Path::new("/home/u")),
            );
            assert!(found.contains(&PathBuf::from(path)), "{text}: {found:?}");
        }
        let found = paths(
            std::iter::once("cd ../o && make"),
            &[Path::new("/w/s")],
            None,
        );
        assert!(!found.contains(&PathBuf::from("/w/o")));
    }
}
