//! What docs/security.md calls protected has tests, and they are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const TEXT: &str = include_str!("../../docs/security.md");

/// `module::test` of everything in tests/it.
fn tests() -> BTreeSet<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let mut found = BTreeSet::new();
    for entry in walkdir::WalkDir::new(dir) {
        let path = entry.unwrap().into_path();
        let Some(module) = path
            .file_stem()
            .filter(|_| path.extension().is_some_and(|e| e == "rs"))
        else {
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let mut is_test = false;
        for line in text.lines() {
            is_test |= line == "#[test]";
            if let Some(rest) = line.strip_prefix("fn ") {
                let name = rest.split('(').next().unwrap();
                if is_test {
                    found.insert(format!("{}::{name}", module.to_str().unwrap()));
                }
                is_test = false;
            }
        }
    }
    found
}

/// What stands between backticks and has the form of a test's name.
fn named(text: &str) -> Vec<String> {
    let words = text.split('`').skip(1).step_by(2);
    words
        .filter(|word| word.contains("::"))
        .map(str::to_owned)
        .collect()
}

/// The table: attackers, and of each what is said per asset.
fn table() -> (Vec<String>, BTreeMap<String, Vec<String>>) {
    let rows: Vec<Vec<String>> = TEXT
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|---"))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells
                .map(|cell| cell.replace("**", "").trim().to_owned())
                .collect()
        })
        .collect();
    let assets = rows[0][1..].to_vec();
    let attackers = rows[1..].iter().map(|row| {
        assert_eq!(row.len(), assets.len() + 1, "{row:?}");
        (row[0].clone(), row[1..].to_vec())
    });
    let attackers = attackers.collect();
    (assets, attackers)
}

/// The tests of each cell: `- **attacker** × asset: …`.
fn proofs() -> BTreeMap<(String, String), Vec<String>> {
    // An item goes on in the lines below it that are indented.
    let text = TEXT.replace("\n  ", " ");
    let lines = text.lines().filter_map(|line| line.strip_prefix("- **"));
    let mut found = BTreeMap::new();
    for line in lines {
        let Some((attacker, rest)) = line.split_once("** × ") else {
            continue;
        };
        let (assets, proof) = rest.split_once(": ").unwrap();
        for asset in assets.split(", ") {
            let key = (attacker.to_owned(), asset.to_owned());
            assert!(found.insert(key, named(proof)).is_none(), "{line}");
        }
    }
    found
}

#[test]
fn what_is_called_protected_names_tests_and_they_are_there() {
    let (assets, attackers) = table();
    assert_eq!(assets.len(), 5);
    assert_eq!(attackers.len(), 9);
    let mut proofs = proofs();
    let tests = tests();
    assert!(tests.len() > 300, "{}", tests.len());
    for (attacker, cells) in &attackers {
        let explained = TEXT.contains(&format!("\n### {attacker}\n"));
        assert!(explained, "nothing explains the verdicts on: {attacker}");
        for (asset, cell) in assets.iter().zip(cells) {
            let key = (attacker.clone(), asset.clone());
            let proof = proofs.remove(&key).unwrap_or_default();
            let first = cell.split([':', ' ', '.']).next().unwrap_or_default();
            match first {
                "protected" | "partly" => {
                    assert!(!proof.is_empty(), "{attacker} × {asset} names no test");
                }
                "not" | "–" => {}
                other => panic!("{attacker} × {asset} begins with `{other}`"),
            }
            for name in proof {
                assert!(
                    tests.contains(&name),
                    "{attacker} × {asset}: there is no test `{name}`"
                );
            }
        }
    }
    assert!(
        proofs.is_empty(),
        "no cell of the table: {:?}",
        proofs.keys()
    );
    for name in named(TEXT) {
        assert!(tests.contains(&name), "there is no test `{name}`");
    }
}
