//! A destination in a directory whose disk is away, or that somebody emptied: it is noticed before
//! anything is written, by a look at the directory.

use std::path::Path;

use crate::support::Place;
use crate::support::cli::stdout;

fn with_disk() -> Place {
    let place = Place::with_repository();
    place.write("a.txt", b"one\n");
    place.init();
    let disk = place.path("disk");
    place.run(&["remote", "add", "disk", disk.to_str().unwrap()], 0);
    place
}

/// What status says of the directory, and all that it warns of.
fn seen(place: &Place) -> (String, Vec<String>) {
    let output = place.bdr(&["--json", "status"]).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let status = &status["data"];
    let troubles = status["troubles"].as_array().unwrap().iter();
    let there = status["remotes"][0]["there"].as_str().unwrap_or("none");
    (
        there.to_owned(),
        troubles
            .map(|one| one["code"].as_str().unwrap().to_owned())
            .collect(),
    )
}

fn has(place: &Place, code: &str) -> bool {
    seen(place).1.iter().any(|one| one == code)
}

#[test]
fn status_sees_that_a_directory_was_emptied_or_is_away() {
    let place = with_disk();
    assert_eq!(seen(&place).0, "here");
    place.run(&["push"], 0);
    place.write("a.txt", b"two\n");
    place.run(&["backup"], 0);
    place.run(&["push"], 0);
    assert_eq!(seen(&place).0, "here");
    assert!(!has(&place, "emptied"));
    let (disk, aside) = (place.path("disk"), place.path("aside"));
    std::fs::rename(&disk, &aside).unwrap();
    assert_eq!(seen(&place).0, "away");
    let said = stdout(&place.run(&["status"], 0));
    assert!(said.contains("its disk is away now"), "{said}");
    std::fs::create_dir(&disk).unwrap();
    assert_eq!(seen(&place).0, "emptied");
    assert!(has(&place, "emptied"));
    let said = stdout(&place.run(&["status"], 0));
    assert!(said.contains("nothing is left at `disk`"), "{said}");
    assert!(said.contains("fix: bdr push disk"), "{said}");
    std::fs::remove_dir(&disk).unwrap();
    std::fs::rename(&aside, &disk).unwrap();
    assert_eq!(seen(&place).0, "here");
    // The newest record alone.
    let newest = newest(&disk);
    std::fs::rename(&newest, place.path("record")).unwrap();
    assert!(has(&place, "emptied"));
    std::fs::rename(place.path("record"), &newest).unwrap();
    place.run(
        &["prune", "--remote", "disk", "--keep-last", "1", "--yes"],
        0,
    );
    place.run(&["push"], 0);
    assert_eq!(seen(&place).0, "here");
    // What is elsewhere is not looked at.
    place.configure("[remote.far]\nurl = \"sftp://nobody@127.0.0.1:1/x\"\nencrypt = false\n");
    let output = place.run(&["--json", "status"], 0);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let remotes = status["data"]["remotes"].as_array().unwrap();
    let far = remotes.iter().find(|one| one["name"] == "far").unwrap();
    assert!(far["there"].is_null(), "{far}");
}

fn newest(disk: &Path) -> std::path::PathBuf {
    let files = walkdir::WalkDir::new(disk).into_iter().flatten();
    let records = files.map(walkdir::DirEntry::into_path);
    let records =
        records.filter(|path| path.is_file() && path.to_str().unwrap().contains("/pushes/"));
    records.max().unwrap()
}
