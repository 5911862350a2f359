//! The layering of docs/ARCHITECTURE.md: imports only point down, the library does not reach for what its clients own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Floors of the binary, lowest first; those of the library are read from `src/lib.rs`. `cli` and `mcp` are side by side.
const BINARY: [&str; 4] = ["ui", "app", "cli", "mcp"];

/// Rooms of one folder that need each other, and why that is right.
const CIRCLES: [(&str, &str); 1] = [(
    "effects",
    "a shell in a shell in a shell: `cmd`, `command`, `powershell` and `shell` read each other's lines",
)];

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

/// Returns the folders of the library, lowest first.
fn floors() -> Vec<String> {
    let lib = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let lib = lib.unwrap();
    let names = lib.lines().filter_map(|line| line.strip_prefix("pub mod "));
    names
        .map(|name| name.trim_end_matches(';').to_owned())
        .collect()
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
    let module = module_of(path);
    module != "main" && module != "lib" && !BINARY.contains(&module.as_str())
}

/// Returns what is code: without comments, texts and tests.
fn code(text: &str) -> String {
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let line = |line: &str| {
        let line = line.split("//").next().unwrap_or_default();
        let outside = line.split('"').step_by(2);
        outside.collect::<Vec<_>>().join("\"\"")
    };
    code.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Takes the paths out of the tree of a `use`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        paths.push(format!("{prefix}{path}"));
        return;
    };
    let prefix = format!("{prefix}{}", &tree[..open]);
    let (mut depth, mut begin) = (0, open + 1);
    for (at, letter) in tree.char_indices().skip_while(|(at, _)| *at <= open) {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                if !tree[begin..at].trim().is_empty() {
                    expand(&prefix, &tree[begin..at], paths);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// Returns the paths that a file names, from the root of its crate or the library: `repo::pack::Level`.
fn imports(path: &Path, text: &str) -> Vec<String> {
    let code = code(text);
    let mut paths = Vec::new();
    let mut rest = String::new();
    for statement in code.split_inclusive(';') {
        let Some(at) = statement.find("use ").filter(|at| {
            let before = statement[..*at].trim_end_matches([' ', '(', ')']);
            before.is_empty()
                || before.ends_with(['\n', '}', '{', ']'])
                || before.ends_with("pub")
                || before.ends_with("crate")
        }) else {
            rest.push_str(statement);
            continue;
        };
        expand("", statement[at + 4..].trim_end_matches(';'), &mut paths);
    }
    for root in ["crate::", "bdr::"] {
        for (at, _) in rest.match_indices(root) {
            let name = rest[at..].split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            paths.push(name.into_iter().next().unwrap_or_default().to_owned());
        }
    }
    // `super::` is followed up from where the file is.
    let mut own: Vec<String> = path
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if own.last().is_some_and(|last| last == "mod") {
        own.pop();
    }
    let absolute = |path: String| {
        if let Some(path) = path.strip_prefix("crate::").or(path.strip_prefix("bdr::")) {
            return Some(path.to_owned());
        }
        let (mut base, mut rest) = (own.clone(), path.as_str());
        while let Some(above) = rest.strip_prefix("super::") {
            base.pop();
            rest = above;
        }
        (rest.len() < path.len()).then(|| format!("{}::{rest}", base.join("::")))
    };
    paths.into_iter().filter_map(absolute).collect()
}

#[test]
fn the_test_reads_imports_as_the_compiler_does() {
    let text = "use crate::{disk, recover::{apply::{self, Act as What}, undo}};\npub(crate) use super::b::C;\nfn f() { crate::repo::open(\"crate::cli::x\") } // crate::mcp\n";
    let mut found = imports(Path::new("protect/guard/call.rs"), text);
    found.sort();
    let wanted = [
        "disk",
        "protect::guard::b::C",
        "recover::apply::Act",
        "recover::apply::self",
        "recover::undo",
        "repo::open",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn imports_only_point_down() {
    let floors: Vec<String> = floors()
        .into_iter()
        .chain(BINARY.map(str::to_owned))
        .collect();
    assert!(floors.len() > 12, "{floors:?}");
    let floor = |name: &str| floors.iter().position(|floor| floor == name);
    let mut checked = 0;
    for (path, text) in sources() {
        let folder = module_of(&path);
        if folder == "main" || folder == "lib" {
            continue;
        }
        let own = floor(&folder)
            .unwrap_or_else(|| panic!("{} is in no folder of the plan", path.display()));
        for import in imports(&path, &text) {
            let name = import.split("::").next().unwrap_or_default();
            let Some(other) = floor(name) else { continue };
            checked += 1;
            // `bdr mcp` starts the server: the one place where the two meet.
            let starts_the_server = path == Path::new("cli/mcp.rs");
            let apart = ["cli", "mcp"].contains(&name)
                && ["cli", "mcp"].contains(&folder.as_str())
                && name != folder;
            assert!(
                other <= own && !apart || starts_the_server,
                "{}: `{folder}` uses `{import}`, which is above or beside it",
                path.display()
            );
        }
    }
    assert!(checked > 1000, "only {checked} imports were seen");
}

#[test]
fn the_plan_in_the_docs_is_the_plan_of_the_code() {
    let plan = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ARCHITECTURE.md");
    let plan = std::fs::read_to_string(plan).unwrap();
    let rows = plan
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("/`"));
    let folders: Vec<String> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`'))
        .filter_map(|word| word.strip_suffix('/').map(str::to_owned))
        .collect();
    let wanted: Vec<String> = floors()
        .into_iter()
        .chain(BINARY.map(str::to_owned))
        .collect();
    assert_eq!(folders, wanted);
}

/// Rooms are what lies directly in a folder: a file, or a file with a folder of its own.
#[test]
fn rooms_of_a_folder_do_not_go_in_circles() {
    let mut needs: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (path, text) in sources() {
        let folder = module_of(&path);
        let Some(room) = path.iter().nth(1) else {
            continue;
        };
        let room = room.to_string_lossy().trim_end_matches(".rs").to_owned();
        for import in imports(&path, &text) {
            let mut parts = import.split("::");
            if parts.next() == Some(folder.as_str())
                && let Some(other) = parts.next().filter(|other| *other != room && room != "mod")
            {
                needs
                    .entry((folder.clone(), room.clone()))
                    .or_default()
                    .insert(other.to_owned());
            }
        }
    }
    assert!(needs.len() > 40, "only {} rooms were seen", needs.len());
    for (folder, room) in needs.keys() {
        let (mut reached, mut todo) = (BTreeSet::new(), vec![room.clone()]);
        while let Some(at) = todo.pop() {
            for next in needs.get(&(folder.clone(), at)).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    todo.push(next.clone());
                }
            }
        }
        let declared = CIRCLES.iter().any(|(name, _)| name == folder);
        assert!(
            declared || !reached.contains(room),
            "{folder}/{room} needs itself, by way of {reached:?}"
        );
    }
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
                // OpenDAL's calls have to run somewhere: inside of the store that makes them.
                let runs_a_store = word == "tokio::" && path == Path::new("disk/store/remote.rs");
                assert!(
                    !line.contains(word) || runs_a_store,
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
    let at_the_edge = ["server.rs", "stdio.rs", "http.rs"];
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
        let allowed = path.starts_with("disk/fsutil") || path.starts_with("disk/storage");
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

/// What a repository is kept in is behind `disk/storage`, locks too; what it derives for itself goes through `disk/fsutil`.
#[test]
fn the_repository_knows_no_files() {
    let mut checked = 0;
    for (path, text) in sources() {
        if !path.starts_with("repo") {
            continue;
        }
        checked += 1;
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in ["fd_lock", "std::fs", "try_lock", ".directory()?"] {
            assert!(!code(text).contains(word), "{}: {word}", path.display());
        }
    }
    assert!(checked > 20, "only {checked} files");
}

#[test]
fn names_in_a_repository_are_made_in_one_place() {
    let names = [
        "snapshots/{",
        "operations/{",
        "manifests/{",
        "kept/{",
        "marks/{",
    ];
    for (path, text) in sources() {
        // The storage below knows names as well: it brings back what listings say.
        if path.ends_with("repo/layout.rs") || path.starts_with("disk") {
            continue;
        }
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            // What was listed is named as it was listed.
            let listed = line.contains("/{name}") || line.contains("/{}\"") || line.contains("://");
            assert!(
                listed || !names.iter().any(|name| line.contains(name)),
                "{}:{}: repo/layout makes such names",
                path.display(),
                number + 1
            );
        }
    }
}

/// Files that hold more than the others, and why they are not split.
const LARGE: [(&str, &str); 0] = [];

#[test]
fn files_stay_small_enough_to_hold_in_the_head() {
    let sources = sources();
    // Tables of cases may be long.
    let hold = sources
        .iter()
        .filter(|(path, _)| !path.ends_with("tests.rs"));
    for (path, text) in hold {
        let code = text
            .split("#[cfg(test)]")
            .next()
            .unwrap_or_default()
            .lines()
            .count();
        let declared = LARGE.iter().any(|(name, _)| path.ends_with(name));
        assert!(
            code < 700 || declared,
            "{} has {code} lines: split it where its jobs part",
            path.display()
        );
    }
}

/// Functions that are longer than a screen, and why they stay in one piece.
const LONG: [(&str, &str, &str); 0] = [];

/// Returns the names of functions with their lengths, from `fn` to the bracket below it.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = &line[..line.len() - code.len()];
        let mut words = code
            .split(' ')
            .skip_while(|word| word.starts_with("pub") || ["const", "async", "in"].contains(word));
        let Some(name) = (words.next() == Some("fn")).then(|| words.next()).flatten() else {
            continue;
        };
        let end = format!("{indent}}}");
        let length = lines[at..].iter().position(|line| **line == end);
        let name = name.split(['(', '<']).next().unwrap_or_default();
        // Declarations of a trait, and functions in one line, end where they begin.
        let whole = !line.ends_with(';') && !line.ends_with('}');
        found.extend(length.filter(|_| whole).map(|n| (name.to_owned(), n + 1)));
    }
    found
}

#[test]
fn functions_fit_on_a_screen() {
    let measured = functions("fn a() {\n    b();\n}\n\n    pub(crate) fn c<T>(\n    ) {\n    }\n");
    assert_eq!(measured, [("a".to_owned(), 3), ("c".to_owned(), 3)]);
    let mut checked = 0;
    for (path, text) in sources() {
        if path.ends_with("tests.rs") {
            continue;
        }
        let code = text.split("#[cfg(test)]\nmod tests {").next();
        for (name, lines) in functions(code.unwrap_or_default()) {
            checked += 1;
            let declared = LONG
                .iter()
                .any(|(file, function, _)| path.ends_with(file) && *function == name);
            assert!(
                lines <= 80 || declared,
                "{}: `{name}` has {lines} lines: split it where its phases part",
                path.display()
            );
        }
    }
    assert!(checked > 3000, "only {checked} functions were seen");
}
