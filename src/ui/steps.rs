//! Plans for people: a directory that is created or removed as a whole is one line.

use std::collections::HashMap;
use std::hash::Hash;
use std::path::Path;

/// What a line needs to know about a step.
pub(crate) struct View<'a, A> {
    pub(crate) path: &'a Path,
    pub(crate) action: A,
    pub(crate) is_dir: bool,
    /// Number and size of the regular files that it represents.
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// Steps joined in one line: the first, and those that follow below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Index of the step that gives the line its path.
    pub(crate) first: usize,
    pub(crate) steps: usize,
    /// Number of regular files among them.
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Line {
    fn empty(first: usize) -> Self {
        Self {
            first,
            steps: 0,
            files: 0,
            bytes: 0,
        }
    }
}

/// Joins a directory's step with the following ones below it that have the same action.
pub(crate) fn collapse<'a, T, A: PartialEq>(
    steps: &'a [T],
    view: impl Fn(&'a T) -> View<'a, A>,
) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for (i, step) in steps.iter().enumerate() {
        let step = view(step);
        let (files, bytes) = (step.files, step.bytes);
        if let Some(line) = lines.last_mut() {
            let top = view(&steps[line.first]);
            if top.is_dir && top.action == step.action && step.path.starts_with(top.path) {
                line.steps += 1;
                line.files += files;
                line.bytes += bytes;
                continue;
            }
        }
        lines.push(Line {
            first: i,
            steps: 1,
            files,
            bytes,
        });
    }
    lines
}

/// Most steps listed; `--json` has all.
const SHOWN: usize = 40;

/// From this many lines of one kind on, a directory gets one line for all.
const MANY: usize = 13;

/// What one line of a page represents.
pub(crate) enum Shown<'a, K> {
    One(&'a Line),
    /// All lines of one kind in a directory, added up.
    Many(&'a K, Line),
}

/// Returns the lines of a plan for people, each made by `show`. If more than a dozen share a `key`
/// (a directory and what happens in it), one line represents them, unless `all` are requested.
pub(crate) fn gathered<K: Eq + Hash>(
    lines: Vec<Line>,
    all: bool,
    key: impl Fn(&Line) -> Option<K>,
    show: impl Fn(Shown<'_, K>) -> String,
) -> String {
    let keys: Vec<Option<K>> = lines.iter().map(key).collect();
    let mut sums: HashMap<&K, (usize, Line)> = HashMap::new();
    for (line, key) in lines.iter().zip(&keys).filter(|_| !all) {
        let Some(key) = key else { continue };
        let first = line.first;
        let (number, sum) = sums.entry(key).or_insert((0, Line::empty(first)));
        *number += 1;
        sum.steps += line.steps;
        sum.files += line.files;
        sum.bytes += line.bytes;
    }
    sums.retain(|_, (number, _)| *number >= MANY);
    let mut rows = Vec::new();
    for (line, key) in lines.iter().zip(&keys) {
        match key.as_ref().and_then(|key| sums.get_key_value(key)) {
            None => rows.push(show(Shown::One(line))),
            Some((key, (_, sum))) if sum.first == line.first => {
                rows.push(show(Shown::Many(key, sum.clone())));
            }
            Some(_) => {}
        }
    }
    let shown = if all { usize::MAX } else { SHOWN };
    page(&rows, shown, "--files")
}

fn page(rows: &[String], most: usize, option: &str) -> String {
    if rows.is_empty() {
        return "  nothing to do: everything is as it was\n".to_owned();
    }
    let shown = rows.iter().take(most);
    let mut text: String = shown.map(|row| format!("  {row}\n")).collect();
    if rows.len() > most {
        let more = super::count((rows.len() - most) as u64);
        text.push_str(&format!("  … and {more} more (all of them: {option})\n"));
    }
    text
}

/// Returns the lines of a plan for people, each made by `show`.
pub(crate) fn listing(lines: &[Line], show: impl Fn(&Line) -> String) -> String {
    let shown = lines.iter().take(SHOWN + 1).map(show);
    let mut rows: Vec<String> = shown.collect();
    rows.resize(lines.len(), String::new());
    page(&rows, SHOWN, "--json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_comes_back_whole_is_one_line() {
        let steps = [
            ("/w/a.txt", 'r', false),
            ("/w/dir", 'r', true),
            ("/w/dir/x", 'r', false),
            ("/w/dir/sub", 'r', true),
            ("/w/dir/sub/y", 'r', false),
            ("/w/dir-2", 'r', false),
            ("/w/e", 'c', true),
            ("/w/e/z", 'r', false),
        ];
        let lines = collapse(&steps, |(path, action, is_dir)| View {
            path: Path::new(path),
            action: *action,
            is_dir: *is_dir,
            files: u64::from(!is_dir),
            bytes: if *is_dir { 0 } else { 10 },
        });
        let short: Vec<_> = lines
            .iter()
            .map(|l| (l.first, l.steps, l.files, l.bytes))
            .collect();
        assert_eq!(
            short,
            [
                (0, 1, 1, 10),
                (1, 4, 2, 20),
                (5, 1, 1, 10),
                (6, 1, 0, 0),
                (7, 1, 1, 10)
            ]
        );
    }
}
