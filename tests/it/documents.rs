//! The documents: every relative link leads somewhere, prose fits into a terminal, and a document is
//! named by a link rather than by its path.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// As wide as a line of prose may be. Tables and code cannot be wrapped.
const WIDTH: usize = 100;

/// Made from the program's help, whose paragraphs are lines.
const GENERATED: &str = "docs/commands.md";

/// Names documents as files that a change has to edit.
const OF_FILES: &str = "CONTRIBUTING.md";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the documents by their path from the top.
fn documents() -> BTreeMap<String, String> {
    let top = [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
    ]
    .map(PathBuf::from);
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    let docs = docs.map(|entry| Path::new("docs").join(entry.unwrap().file_name()));
    let docs = docs.filter(|path| path.extension().is_some_and(|end| end == "md"));
    top.into_iter()
        .chain(docs)
        .map(|path| {
            let text = std::fs::read_to_string(root().join(&path)).unwrap();
            (path.to_str().unwrap().replace('\\', "/"), text)
        })
        .collect()
}

/// Returns the lines outside of code blocks, with their numbers.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut in_code = false;
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| {
            let fence = line.trim_start().starts_with("```");
            in_code ^= fence;
            !fence && !in_code
        })
        .map(|(number, line)| (number + 1, line))
        .collect()
}

/// Returns the anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let letters = heading.trim().chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
            _ => None,
        });
        let anchor: String = letters.collect();
        // A heading that comes again gets a number.
        let again = (1..).map(|n| format!("{anchor}-{n}"));
        let free = std::iter::once(anchor.clone())
            .chain(again)
            .find(|anchor| !found.contains(anchor));
        found.extend(free);
    }
    found
}

/// Takes the code spans out of a text, and returns them apart.
fn spans(text: &str) -> (String, Vec<&str>) {
    let (mut outside, mut inside) = (String::new(), Vec::new());
    for (number, part) in text.split('`').enumerate() {
        match number % 2 {
            0 => outside.push_str(part),
            _ => inside.push(part),
        }
    }
    (outside, inside)
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let mut checked = 0;
    for (path, text) in &documents {
        let lines: Vec<&str> = prose(text).into_iter().map(|(_, line)| line).collect();
        let (outside, _) = spans(&lines.join("\n"));
        for link in outside.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            checked += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(path).parent().unwrap();
            let target = match file {
                "" => PathBuf::from(path),
                _ => folder.join(file),
            };
            assert!(root().join(&target).exists(), "{path}: no file `{link}`");
            if !anchor.is_empty() {
                let target = target.to_str().unwrap().replace('\\', "/");
                let target = target.strip_prefix("docs/../").unwrap_or(&target);
                let text = documents.get(target);
                let text = text.unwrap_or_else(|| panic!("{path}: `{link}` is no document"));
                assert!(anchors(text).contains(anchor), "{path}: no place `{link}`");
            }
        }
    }
    assert!(checked > 40, "only {checked} links were seen");
}

#[test]
fn prose_is_not_wider_than_a_hundred_columns() {
    for (path, text) in documents() {
        for (number, line) in prose(&text) {
            let width = line.chars().count();
            assert!(
                width <= WIDTH || line.starts_with('|') || path == GENERATED,
                "{path}:{number} has {width} columns"
            );
        }
    }
}

#[test]
fn a_document_is_named_by_a_link() {
    let documents = documents();
    for (path, text) in &documents {
        for (number, line) in prose(text) {
            for span in spans(line).1 {
                let named =
                    documents.contains_key(span) || documents.contains_key(&format!("docs/{span}"));
                assert!(
                    !named || path == GENERATED || path == OF_FILES,
                    "{path}:{number} names `{span}` without a link"
                );
            }
        }
    }
}

/// Moving a file leaves its name in the documents behind, and nothing else would notice.
#[test]
fn files_that_documents_name_exist() {
    let mut checked = 0;
    for (path, text) in documents() {
        for (number, line) in prose(&text) {
            for span in spans(line).1 {
                let of_project = ["src/", "tests/", "benches/", "hooks/", "shell/"]
                    .iter()
                    .any(|folder| span.starts_with(folder));
                if of_project && !span.contains([' ', '*', '<', '…']) && !span.contains("NAME") {
                    checked += 1;
                    assert!(
                        root().join(span).exists(),
                        "{path}:{number} names `{span}`, which is not there"
                    );
                }
            }
        }
    }
    assert!(checked > 10, "only {checked} names were seen");
}
