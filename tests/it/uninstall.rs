//! `bdr uninstall`: nothing of bdr is left, and nothing that is not bdr's is touched.

use std::path::Path;

use crate::support::Place;
use crate::support::cli::{data_manned as data, run_manned as run};

/// A place with a lifeboat, hooks, a client and a sealed value.
fn place() -> Place {
    let place = Place::with_repository();
    place.write("f", b"precious");
    place.write(
        ".env",
        b"API_KEY=ghp_16C7e42F292c6912E7710c838347Ae178B4a\n",
    );
    std::fs::create_dir_all(place.path("home/.claude")).unwrap();
    let source = format!("tree={}", place.tree().display());
    run(&place, &["init", "--yes", "--source", &source], 0);
    run(&place, &["hooks", "install", "bash", "claude"], 0);
    run(&place, &["mcp", "install", "--client", "claude"], 0);
    place
}

fn files(dir: &Path) -> Vec<String> {
    let all = walkdir::WalkDir::new(dir).into_iter().flatten();
    let files = all.filter(|entry| entry.file_type().is_file());
    files
        .map(|entry| entry.path().display().to_string())
        .collect()
}

#[test]
fn hooks_and_entries_go_and_backups_stay() {
    let place = place();
    let said = run(&place, &["uninstall"], 3);
    assert!(said.contains("bdr uninstall --yes"), "{said}");
    for word in ["bash", "claude", ".bashrc", ".claude.json"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(place.path("home/.bashrc").exists());
    run(&place, &["uninstall", "--dry-run"], 0);
    assert!(place.path("home/.bashrc").exists());
    let said = run(&place, &["uninstall", "--yes"], 0);
    assert!(said.contains("install.sh --uninstall"), "{said}");
    assert_eq!(files(&place.path("home")), [] as [String; 0]);
    // One operation, which undo takes back.
    let plan = data(&place, &["undo", "--dry-run"], 0);
    let command = plan["command"].as_str().unwrap();
    run(&place, &command.split(' ').skip(1).collect::<Vec<_>>(), 0);
    assert!(place.path("home/.bashrc").exists());
    assert!(place.path("home/.claude.json").exists());
}

#[test]
fn everything_goes_and_does_not_come_back() {
    let place = place();
    let said = run(&place, &["uninstall", "--everything"], 3);
    for word in [
        "repository",
        "lifeboat",
        "vault",
        "cache",
        "state",
        "configuration",
        "KiB",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(place.store().join("format.json").exists());
    let done = data(&place, &["uninstall", "--everything", "--yes"], 0);
    assert_eq!(done["done"], true);
    assert!(
        done["deletes"]
            .as_array()
            .unwrap()
            .iter()
            .all(|d| d["deleted"] == true),
        "{done}"
    );
    assert_eq!(files(&place.path("bdr")), [] as [String; 0]);
    assert_eq!(files(&place.path("boat")), [] as [String; 0]);
    assert_eq!(files(&place.path("home")), [] as [String; 0]);
    assert!(place.tree().join("f").exists());
    // The next call finds nothing, and brings nothing back.
    run(&place, &["log"], 10);
    assert!(!place.store().exists());
    assert!(!place.path("bdr/config.toml").exists());
}

#[test]
fn what_is_not_bdrs_stays() {
    let place = place();
    let mine = place.store().join("notes.txt");
    std::fs::write(&mine, "mine").unwrap();
    let done = data(&place, &["uninstall", "--everything", "--yes"], 3);
    assert!(done.to_string().contains("notes.txt"), "{done}");
    assert_eq!(files(&place.store()), [mine.display().to_string()]);
    // A directory that only stands where the repository was is none.
    run(&place, &["uninstall", "--everything", "--yes"], 3);
    assert!(mine.exists());
}

#[test]
fn a_repository_whose_place_somebody_chose_is_confirmed_by_itself() {
    let place = Place::with_repository();
    place.write("f", b"precious");
    let chosen = place.path("chosen");
    let named = chosen.to_str().unwrap();
    let source = format!("tree={}", place.tree().display());
    run(
        &place,
        &["--repository", named, "init", "--yes", "--source", &source],
        0,
    );
    run(
        &place,
        &[
            "uninstall",
            "--everything",
            "--yes",
            "--delete",
            "/elsewhere",
        ],
        2,
    );
    assert!(place.path("bdr/config.toml").exists());
    let said = run(&place, &["uninstall", "--everything", "--yes"], 3);
    assert!(said.contains("stays"), "{said}");
    assert!(chosen.join("format.json").exists());
    assert!(!place.path("bdr/config.toml").exists());
    let args = [
        "--repository",
        named,
        "uninstall",
        "--everything",
        "--yes",
        "--delete",
        named,
    ];
    run(&place, &args, 0);
    assert!(!chosen.exists());
}

#[test]
fn while_a_hook_cannot_be_taken_out_nothing_is_deleted() {
    let place = place();
    let rc = place.path("home/.bashrc");
    let text = std::fs::read_to_string(&rc).unwrap();
    std::fs::write(&rc, text.replace("# <<< bdr <<<", "# gone")).unwrap();
    let said = run(&place, &["uninstall", "--everything", "--yes"], 1);
    assert!(said.contains("Nothing was deleted"), "{said}");
    assert!(place.store().join("format.json").exists());
    assert!(place.path("bdr/state/hooks/manifest.json").exists());
}
