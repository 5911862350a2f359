//! The layering of docs/ARCHITECTURE.md: imports only point down, the library does not reach for what its clients own.

use std::path::{Path, PathBuf};

/// Modules of the library by tier, top-level names.
const TIERS: [&[&str]; 4] = [
    &[
        "agent",
        "compare",
        "config",
        "delta",
        "effects",
        "error",
        "merge",
        "id",
        "manifest",
        "monitor",
        "path",
        "privacy",
        "retention",
        "rules",
        "schedule",
        "threads",
        "units",
    ],
    &["fsutil", "storage", "vcs"],
    &["repo", "runs", "sqlite", "vault", "walk"],
    &[
        "alerts", "apply", "backup", "capture", "discover", "drill", "guard", "import", "install",
        "prune", "query", "rescan", "restore", "scan", "select", "staging", "status", "undo",
        "unseal", "verify", "work",
    ],
];

fn sources() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    walkdir::WalkDir::new(&src)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.strip_prefix(&src).unwrap().to_path_buf(), text)
        })
        .collect()
}

fn tier(module: &str) -> Option<usize> {
    TIERS.iter().position(|modules| modules.contains(&module))
}

fn module_of(path: &Path) -> String {
    path.components()
        .next()
        .unwrap()
        .as_os_str()
        .to_str()
        .unwrap()
        .trim_end_matches(".rs")
        .to_owned()
}

fn is_library(path: &Path) -> bool {
    !["main", "lib", "cli", "mcp", "ui"].contains(&module_of(path).as_str())
}

#[test]
fn imports_only_point_down() {
    let mut checked = 0;
    for (path, text) in sources().iter().filter(|(path, _)| is_library(path)) {
        let own = tier(&module_of(path)).unwrap_or_else(|| {
            panic!(
                "{} belongs to no tier: name it in this test",
                path.display()
            )
        });
        for (number, line) in text.lines().enumerate() {
            // Documentation may point anywhere.
            let code = line.split("//").next().unwrap_or_default();
            for (at, _) in code.match_indices("crate::") {
                let name: String = code[at + 7..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let Some(other) = tier(&name) else { continue };
                checked += 1;
                // A plain name in a message is no import.
                let exempt = own == 0 && name == "monitor";
                assert!(
                    other <= own || exempt,
                    "{}:{}: tier {own} uses `{name}` of tier {other}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
    assert!(checked > 100, "only {checked} imports were seen");
}

#[test]
fn the_library_leaves_talking_and_looking_around_to_its_clients() {
    let forbidden = [
        "println!",
        "eprintln!",
        "print!(",
        "clap::",
        "dialoguer::",
        "indicatif::",
        "rmcp::",
        "tokio::",
        "env::var",
        "process::exit",
        "Utc::now",
        "Local::now",
        "home_dir",
    ];
    let whole_tests = |path: &Path| path.ends_with("tests.rs");
    for (path, text) in sources()
        .iter()
        .filter(|(path, _)| is_library(path) && !whole_tests(path))
    {
        // Tests, and the crash switch of test builds, may.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code
            .split("#[cfg(feature = \"test-support\")]\nmod crash")
            .next()
            .unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for word in forbidden {
                assert!(
                    !line.contains(word),
                    "{}:{}: {word}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

/// The protocol's types change often: they stay where the transports and the protocol are.
#[test]
fn the_protocol_stays_at_the_edge_and_nothing_there_prints() {
    let at_the_edge = ["server.rs", "stdio.rs", "http.rs", "fixture.rs"];
    for (path, text) in sources()
        .iter()
        .filter(|(path, _)| module_of(path) == "mcp")
    {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let edge = at_the_edge.iter().any(|name| path.ends_with(name));
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            let prints = ["print!(", "println!(", "ui.data(", "ui.report("];
            for word in prints.iter().chain(["rmcp::"].iter().filter(|_| !edge)) {
                assert!(
                    !line.contains(word),
                    "{}:{}: {word}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

#[test]
fn only_fsutil_and_the_local_storage_write() {
    let writers = [
        "fs::write",
        "fs::rename",
        "File::create",
        "fs::remove_",
        "fs::create_dir",
        "fs::set_permissions",
        "OpenOptions::new",
    ];
    for (path, text) in sources().iter().filter(|(path, _)| is_library(path)) {
        let allowed = path.starts_with("fsutil") || path.starts_with("storage");
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in writers {
            assert!(
                allowed || !code.contains(word),
                "{}: {word}",
                path.display()
            );
        }
    }
}

#[test]
fn files_stay_small_enough_to_hold_in_the_head() {
    for (path, text) in sources() {
        let code = text
            .split("#[cfg(test)]")
            .next()
            .unwrap_or_default()
            .lines()
            .count();
        assert!(
            code <= 900,
            "{} has {code} lines: split it by noun",
            path.display()
        );
    }
}
