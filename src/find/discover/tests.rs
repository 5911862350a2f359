use super::*;

/// Makes files of the given sizes below a temporary home.
fn home(files: &[(&str, usize)]) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = home.path().join(name);
        crate::disk::fsutil::create_dir_private(path.parent().unwrap()).unwrap();
        crate::disk::fsutil::write_atomic(&path, &vec![b'x'; *bytes], 0o600).unwrap();
    }
    home
}

fn find(home: &Path, workspace: &str, budget: u64) -> Discovery {
    let workspace = home.join(workspace);
    discover(&Places {
        home: Some(home),
        workspace: Some(&workspace),
        never: &[],
        budget,
    })
    .unwrap()
}

fn lines(discovery: &Discovery) -> Vec<(&str, u64, u64, usize)> {
    discovery
        .found
        .iter()
        .map(|f| (f.source.name.as_str(), f.files, f.bytes, f.more))
        .collect()
}

#[test]
fn known_places_are_grouped_and_the_rest_is_left_alone() {
    let home = home(&[
        ("workspace-brain/a.md", 10),
        ("workspace-brain/node_modules/x.js", 1000),
        ("work/checklist-registry.json", 5),
        ("work/temp/workflows/one/state.json", 7),
        ("work/temp/other/x", 1000),
        ("work/src/main.rs", 1000),
        ("work/.env.local", 3),
        (".claude.json", 2),
        (".claude/settings.json", 4),
        (".claude/.credentials.json", 1000),
        (".codex/config.toml", 1),
        (".zshrc", 6),
        (".myrc", 8),
        (".bash_history", 1000),
        (".netrc", 1000),
        ("Documents/big", 1000),
    ]);
    let discovery = find(home.path(), "work", 1 << 20);
    assert_eq!(
        lines(&discovery),
        [
            ("brain", 1, 10, 0),
            ("workspace", 3, 15, 2),
            ("agents", 3, 7, 2),
            ("dotfiles", 2, 14, 1)
        ]
    );
    assert_eq!(
        discovery.rebuildable,
        [home.path().join("workspace-brain/node_modules")]
    );
    let workspace = &discovery.found[1].source;
    assert!(
        workspace.rules.include.iter().any(|i| i == ".deployments"),
        "covered when it appears"
    );
}

#[test]
fn the_largest_directories_of_agents_go_when_the_budget_is_short() {
    let home = home(&[
        (".claude/projects/big/t.jsonl", 5000),
        (".claude/projects/[odd]/t.jsonl", 4000),
        (".claude/projects/small/t.jsonl", 30),
        (".claude/settings.json", 20),
    ]);
    let discovery = find(home.path(), "work", 1000);
    let agents = &discovery.found[0];
    assert_eq!((agents.files, agents.bytes), (2, 50));
    let names: Vec<_> = agents
        .over_budget
        .iter()
        .map(|(p, b)| (p.file_name().unwrap(), *b))
        .collect();
    assert_eq!(
        names,
        [(OsStr::new("big"), 5000), (OsStr::new("[odd]"), 4000)]
    );
    // The resulting rules mean the same when they are applied.
    let again = measure(&agents.source, &[]).unwrap();
    assert_eq!((again.files, again.bytes), (2, 50));
}

#[test]
fn without_a_known_place_the_workspace_itself_is_the_source() {
    let home = home(&[
        ("work/src/main.rs", 9),
        ("work/target/x", 9),
        ("work/Cargo.toml", 1),
    ]);
    let discovery = find(home.path(), "work", 1000);
    assert_eq!(lines(&discovery), [("workspace", 2, 10, 0)]);
    assert!(discovery.found[0].source.rules.include.is_empty());
    // Never all of HOME.
    assert!(find(home.path(), "", 1000).found.is_empty());
}

#[test]
fn patterns_match_the_name_they_were_made_of() {
    for name in ["plain", "a[b]c", "{x,y}", "wh*t?", "back\\slash", "!bang"] {
        let rules = Rules {
            include: vec![pattern_of(OsStr::new(name))],
            ..Rules::default()
        };
        let matcher = Matcher::new(&rules).unwrap();
        assert_eq!(matcher.include(name.as_bytes()), Verdict::Take, "{name}");
    }
}
