//! A client, or an agent with tools for files, that writes what it likes in the project: nothing of it leads a call to other backups or to bdr's own files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::place;
use crate::support::Place;
use crate::support::mcp::{LEGACY, Mcp};

/// Every file below a directory, with its bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = walkdir::WalkDir::new(dir).into_iter().flatten();
    let files = entries.filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| {
            let bytes = fs::read(entry.path()).unwrap();
            (entry.into_path(), bytes)
        })
        .collect()
}

/// Writes into the project whatever could name `away`; returns the paths in the project that lead there.
fn plant(place: &Place, away: &Path) -> Vec<String> {
    let tree = place.tree();
    let shown = away.display();
    symlink(away, tree.join("lead")).unwrap();
    fs::create_dir_all(tree.join("deep")).unwrap();
    symlink(away.join("inner"), tree.join("deep/lead")).unwrap();
    let git = tree.join(".git");
    fs::create_dir_all(git.join("worktrees/x")).unwrap();
    fs::create_dir_all(git.join("objects")).unwrap();
    fs::create_dir_all(git.join("refs")).unwrap();
    fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    let config = format!("[core]\n\tworktree = {shown}\n\tfsmonitor = touch {shown}/ran\n");
    fs::write(git.join("config"), config).unwrap();
    fs::write(git.join("commondir"), format!("{shown}\n")).unwrap();
    fs::write(git.join("worktrees/x/gitdir"), format!("{shown}/.git\n")).unwrap();
    fs::write(git.join("worktrees/x/commondir"), "../..\n").unwrap();
    fs::write(git.join("worktrees/x/HEAD"), "ref: refs/heads/x\n").unwrap();
    let config = format!(
        "repository = \"{shown}\"\n\n[[source]]\nname = \"away\"\npath = \"{shown}\"\n\n[retention]\nkeep_last = 1\n"
    );
    for name in [
        "bdr.toml",
        ".bdr.toml",
        "config.toml",
        ".config/bdr/config.toml",
    ] {
        place.write(name, config.as_bytes());
    }
    place.write(
        ".env",
        format!("BDR_REPOSITORY={shown}\nBDR_CONFIG=bdr.toml\n").as_bytes(),
    );
    [
        "lead",
        "lead/inner",
        "deep/lead",
        "deep/lead/x",
        ".git/../lead/inner",
    ]
    .map(str::to_owned)
    .into()
}

/// Calls everything that takes a path with each of them.
fn call_all(client: &mut Mcp, paths: &[String]) {
    for path in paths {
        for (tool, arguments) in [
            ("create_backup", json!({"sources": [path]})),
            ("checkpoint", json!({"paths": [path]})),
            (
                "restore_backup",
                json!({"backupId": "latest", "destination": path, "overwrite": true}),
            ),
            (
                "export_backup_config",
                json!({"outputPath": format!("{path}/config.json")}),
            ),
        ] {
            let result = client.tool(tool, arguments);
            assert!(
                result["structuredContent"]["error"]["code"].is_string(),
                "{tool} {path}: {result}"
            );
        }
        let found: Value = client.tool("find_versions", json!({"path": path}));
        assert!(!found.to_string().contains("precious"), "{found}");
    }
    // Of all that may be called without a path.
    client.tool("create_backup", json!({}));
    client.tool("checkpoint", json!({}));
    client.tool(
        "cleanup_old_backups",
        json!({"retentionPolicy": {"keepLast": 1}}),
    );
    client.tool("verify_backup", json!({"backupId": "latest", "deep": true}));
    client.tool("undo_changes", json!({}));
}

#[test]
fn what_stands_in_the_project_leads_no_call_to_other_backups() {
    let place = place();
    // Another repository, of another source.
    let other = place.path("elsewhere");
    fs::create_dir_all(other.join("inner")).unwrap();
    for (name, text) in [
        ("format.json", "{}"),
        ("inner/pack", "precious"),
        ("lock", ""),
    ] {
        fs::write(other.join(name), text).unwrap();
    }
    let (before, snapshots) = (files(&other), files(&place.store().join("snapshots")));
    let paths = plant(&place, &other);
    let mut client = Mcp::start(&place, &[], LEGACY);
    call_all(&mut client, &paths);
    drop(client);
    assert_eq!(files(&other), before);
    // Nor did it take a backup away that was there.
    let after = files(&place.store().join("snapshots"));
    for (name, bytes) in &snapshots {
        assert_eq!(after.get(name), Some(bytes), "{name:?}");
    }
}

#[test]
fn what_stands_in_the_project_leads_no_call_to_what_bdr_keeps_for_itself() {
    let place = place();
    let own = place.path("bdr");
    let kept = |place: &Place| {
        let mut all = files(&place.path("bdr/state/vault"));
        all.extend(files(&place.store().join("operations")));
        all.extend(files(&place.store().join("packs")));
        all.insert(
            place.path("config"),
            fs::read(place.path("bdr/config.toml")).unwrap_or_default(),
        );
        all
    };
    place.write("secret.env", b"API_KEY=sk_live_4eC39HqLyjWDarjtT1zdp7dc\n");
    place.run(&["guard", "--", "rm", "src/f3.txt"], 0);
    let before = kept(&place);
    assert!(before.len() > 4, "{:?}", before.keys());
    for away in ["bdr", "bdr/repository", "bdr/state", "bdr/cache"] {
        let tree = place.tree();
        for name in ["lead", "deep/lead"] {
            let _ = fs::remove_file(tree.join(name));
        }
        let _ = fs::remove_dir_all(tree.join(".git"));
        let paths = plant(&place, &place.path(away));
        let mut client = Mcp::start(&place, &[], LEGACY);
        call_all(&mut client, &paths);
        drop(client);
        let after = kept(&place);
        for (name, bytes) in &before {
            assert_eq!(after.get(name), Some(bytes), "{away}: {name:?}");
        }
    }
    assert!(!own.join("ran").exists());
}
