//! Files that are too large to be written anew by an undo: the kept file itself gets its name back.

use super::faults::{is_root, skipped};
use super::*;

/// Of a size at which nothing is copied.
fn large(path: &Path) {
    let line: Vec<u8> = (0..9_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(path, line).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o640)).unwrap();
    let _ = xattr::set(path, "user.note", b"of a large one");
    let touched = Command::new("touch")
        .args(["-d", "2021-03-04 05:06:07.123456789"])
        .arg(path)
        .status();
    assert!(touched.unwrap().success());
}

/// A place where only little is packed.
fn narrow() -> Place {
    let place = world();
    std::fs::create_dir_all(place.path("bdr")).unwrap();
    std::fs::write(
        place.path("bdr/config.toml"),
        "[guard]\nmax_bytes = \"1MB\"\n",
    )
    .unwrap();
    place
}

fn done(place: &Place, args: &[&str]) -> String {
    let mut command = place.bdr(args);
    let output = command.env("BDR_BACKGROUND", "0").output().unwrap();
    let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{args:?}: {said}");
    said
}

fn inode(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).unwrap().ino()
}

#[test]
fn a_large_file_comes_back_as_itself_and_is_redone_and_undone_again() {
    let place = narrow();
    if !usable(&place) {
        return;
    }
    let file = place.tree().join("d/large");
    large(&file);
    std::fs::hard_link(&file, place.tree().join("d/e/second")).unwrap();
    let number = inode(&file);
    let before = pictures(&place);
    captured(&place, "rm -r d");
    let after = pictures(&place);
    for round in 0..3 {
        done(&place, &["undo", "--yes"]);
        if round == 0 {
            assert_eq!(inode(&file), number, "it was written anew");
        }
        if round != 1 {
            // From then on bdr has no second name any more.
            done(&place, &["settle"]);
        }
        for (before, after) in before.iter().zip(&pictures(&place)) {
            assert_same(before, after, &format!("undone, round {round}"));
        }
        done(&place, &["redo", "--yes"]);
        for (before, after) in after.iter().zip(&pictures(&place)) {
            assert_same(before, after, &format!("redone, round {round}"));
        }
    }
    done(&place, &["settle"]);
    done(&place, &["verify"]);
}

#[test]
fn what_is_written_to_after_it_came_back_stays() {
    let place = narrow();
    if !usable(&place) {
        return;
    }
    let file = place.tree().join("large");
    large(&file);
    let original = std::fs::read(&file).unwrap();
    let told = stderr(&captured(&place, "rm large"));
    assert!(
        told.contains("stay on disk while this can be undone"),
        "{told}"
    );
    let list: serde_json::Value =
        serde_json::from_slice(&place.bdr(&["list", "--json"]).output().unwrap().stdout).unwrap();
    let snapshot = list["data"]["snapshots"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = file.to_str().unwrap();
    undone(&place, "rm large");
    // In place: what bdr keeps of it changes along.
    let mut open = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    open.write_all(b"written").unwrap();
    drop(open);
    let changed = std::fs::read(&file).unwrap();
    let redo = place
        .bdr(&["redo", "--yes"])
        .env("BDR_BACKGROUND", "0")
        .output()
        .unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), changed, "{}", stderr(&redo));
    // Nothing else is passed off as what was there before the command.
    let verified = place.bdr(&["verify"]).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stdout).into_owned() + &stderr(&verified);
    assert!(said.contains("was written to after it was kept"), "{said}");
    let found = place.bdr(&["cat", &snapshot, path]).output().unwrap();
    assert!(
        found.stdout.is_empty() || found.stdout == original,
        "{}",
        stderr(&found)
    );
    assert_eq!(found.status.success(), !found.stdout.is_empty());
}

#[test]
fn where_the_disk_has_no_room_for_a_second_copy_it_is_undone_all_the_same() {
    if !is_root() {
        return skipped("a full file system (needs root)");
    }
    let Some((place, mounted)) = faults::world_on(&["-t", "tmpfs", "-o", "size=3M", "none"]) else {
        return;
    };
    if !usable(&place) {
        return;
    }
    for number in 0..4 {
        std::fs::write(
            mounted.at().join(format!("in/part{number}")),
            vec![number; 600_000],
        )
        .unwrap();
    }
    let before = pictures(&place);
    captured(&place, "rm part*");
    undone(&place, "rm part*");
    done(&place, &["settle"]);
    for (before, after) in before.iter().zip(&pictures(&place)) {
        assert_same(before, after, "rm part*");
    }
}
