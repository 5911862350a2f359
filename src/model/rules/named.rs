//! Rules of a root of which only some paths count: those that an operation touched.

use std::collections::BTreeSet;
use std::path::Path;

use super::Rules;
use super::pattern::{Pattern, pattern_of};
use crate::base::path::RepoPath;

/// Paths that rules name, at most. With more, a record would be large, and whoever looks takes the
/// neighbours for covered.
const MAX_NAMED: usize = 10_000;

/// Patterns, at most: each is tried for each path, whereas paths are looked up.
const MAX_PATTERNS: usize = 64;

/// Paths of a record, at most, that stand by themselves: with more, their neighbours are one with them.
const MAX_TOPS: usize = 64;

/// What was touched below a root.
#[derive(Default)]
pub(crate) struct Touched {
    /// The topmost paths that are gone, new, or no directory.
    pub(crate) tops: BTreeSet<RepoPath>,
    /// Which of them were there before.
    pub(crate) old: BTreeSet<RepoPath>,
    /// Directories of which only the metadata changed.
    pub(crate) dirs: BTreeSet<RepoPath>,
}

impl Touched {
    /// Returns the rules, so that nobody who compares the root walks a whole disk.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            rebuildable: true,
            include: self.include().unwrap_or_default(),
            ..Rules::default()
        }
    }

    /// Returns what the rules name; `None` for everything.
    fn include(&self) -> Option<Vec<String>> {
        let mut tops = self.tops.clone();
        while tops.len() > MAX_NAMED {
            tops = topmost(tops.iter().filter_map(RepoPath::parent).collect());
        }
        let text = |path: &RepoPath| {
            let text = std::str::from_utf8(path.as_bytes()).ok()?;
            covering(text).filter(|text| !text.is_empty())
        };
        // A name that is no text cannot be in a rule.
        let mut include = tops.iter().map(text).collect::<Option<Vec<String>>>()?;
        // What an undo leaves beside files that have changed since.
        let files = tops.iter().filter(|top| self.old.contains(*top));
        let beside: Vec<String> = files
            .filter_map(|top| Some(format!("{}.bdr-*", text(top)?)))
            .collect();
        match beside.len() {
            0..=MAX_PATTERNS => include.extend(beside),
            // No name of anybody else's looks like this.
            _ => include.push("*.bdr-*".to_owned()),
        }
        // It is on the way to a name that is not there.
        for dir in &self.dirs {
            include.push(match dir.is_root() {
                true => ".bdr-none".to_owned(),
                false => format!("{}/.bdr-none", text(dir)?),
            });
        }
        Some(include)
    }
}

/// Returns the pattern of a path, or of the nearest directory above it whose path is not too long for
/// one.
fn covering(path: &str) -> Option<String> {
    let mut above = Path::new(path).ancestors();
    above.find_map(|path| {
        let text = pattern_of(path.as_os_str());
        Pattern::new(&text).is_ok().then_some(text)
    })
}

/// Drops paths below others.
pub(crate) fn topmost(paths: BTreeSet<RepoPath>) -> BTreeSet<RepoPath> {
    let mut tops: Vec<RepoPath> = Vec::new();
    for path in paths {
        if !tops.last().is_some_and(|top| path.starts_with(top)) {
            tops.push(path);
        }
    }
    tops.into_iter().collect()
}

/// Drops paths below others, and puts the directories of neighbours in their place while there are too
/// many.
pub(crate) fn bases(paths: BTreeSet<RepoPath>) -> BTreeSet<RepoPath> {
    let mut bases = topmost(paths);
    while bases.len() > MAX_TOPS {
        bases = topmost(bases.iter().filter_map(RepoPath::parent).collect());
    }
    bases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rules::Matcher;

    #[test]
    fn rules_cover_what_was_touched_and_no_neighbour_however_much_it_is() {
        let path = |text: &str| RepoPath::new(text).unwrap();
        for count in [1, 60, 70, 300, 5000] {
            let tops = (0..count).map(|n| path(&format!("d{}/f{n}.o", n % 7)));
            let touched = Touched {
                tops: tops.clone().collect(),
                old: tops.collect(),
                dirs: (0..7).map(|n| path(&format!("d{n}"))).collect(),
            };
            let rules = Matcher::new(&touched.rules()).unwrap();
            assert!(touched.tops.iter().all(|top| rules.covers(top)));
            for covered in ["d0/f0.o/below", "d0/f0.o.bdr-7f3a"] {
                assert!(rules.covers(&path(covered)), "{count} {covered}");
            }
            for neighbour in ["d0", "d0/f0", "d0/neighbour", "other", "d8/f0.o"] {
                assert!(!rules.covers(&path(neighbour)), "{count} {neighbour}");
            }
        }
    }

    #[test]
    fn every_name_that_was_touched_is_covered_and_what_looks_like_it_is_not() {
        let path = |text: &str| RepoPath::new(text).unwrap();
        let rules = |top: &str| {
            let touched = Touched {
                tops: [path(top)].into(),
                old: [path(top)].into(),
                dirs: [path("d")].into(),
            };
            Matcher::new(&touched.rules()).unwrap()
        };
        let special = r"*?[]{}\!,^-~#@$&;|<>()'%+=:. ä";
        for one in special.chars() {
            for name in [
                format!("d/{one}"),
                format!("d/a{one}b"),
                format!("d/{one}{one}"),
                format!("d/{one}/f"),
                format!("d/a{one}"),
            ] {
                // These are no names.
                if name.split('/').any(|name| matches!(name, "." | "..")) {
                    continue;
                }
                assert!(rules(&name).covers(&path(&name)), "{name}");
                assert!(rules(&name).covers(&path(&format!("{name}.bdr-7f3a"))));
                let other = name.replace(one, "x");
                assert!(!rules(&name).covers(&path(&other)), "{name} {other}");
                let other = name.replace(one, "");
                if other != "d/" && !other.contains("//") {
                    assert!(!rules(&name).covers(&path(&other)), "{name} {other}");
                }
            }
        }
        // Longer or deeper than a pattern may be: what is above it covers it.
        for deep in [
            "d/".repeat(400) + "f",
            "*".repeat(250) + "/" + &"e!".repeat(120),
        ] {
            let long = format!("{deep}/{}", vec!["?".repeat(200); 12].join("/"));
            for name in [&deep, &long] {
                assert!(rules(name).covers(&path(name)), "{}", name.len());
                assert!(!rules(name).covers(&path("other")));
            }
        }
    }
}
