//! What was looked at once is not looked at again: by the next run, under another directory, after a
//! touch. And what that is not true of is.

use bdr::base::id::Digest;

use crate::privacy::{Chance, assert_clean};
use crate::support::Place;

/// Files that are many enough to look things up for them, below `dir`.
fn write_many(place: &Place, dir: &str, seed: u64) {
    let mut chance = Chance::new(seed);
    for number in 0..80 {
        let lines: Vec<String> = (0..200)
            .map(|_| format!("line {}\n", chance.below(1 << 40)))
            .collect();
        place.write(
            &format!("{dir}/notes-{number}.txt"),
            lines.concat().as_bytes(),
        );
    }
}

/// The file of verdicts, without its first line.
fn verdicts(place: &Place) -> (std::path::PathBuf, usize) {
    let files = walkdir::WalkDir::new(place.path("bdr")).into_iter();
    let mut files = files.map(|entry| entry.unwrap().into_path());
    let file = files.find(|file| file.ends_with("clear")).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let line = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
    assert_eq!((bytes.len() - line) % 16, 0);
    (file, (bytes.len() - line) / 16)
}

/// What a verdict is noted under.
fn key(content: &str, name: &str) -> Vec<u8> {
    let digest = Digest::of(content.as_bytes());
    Digest::of(&[&digest.0[..], name.as_bytes()].concat()).0[..16].to_vec()
}

/// The first backup of all has the most to remember.
#[test]
fn what_the_first_backup_looked_at_is_remembered() {
    let place = Place::with_repository();
    write_many(&place, "a", 3);
    let source = format!("tree={}", place.tree().display());
    let init = ["init", "--yes", "--no-backup", "--source", &source];
    place.run(&init, 0);
    backup(&place);
    assert_eq!(verdicts(&place).1, 80);
}

fn backup(place: &Place) {
    place.run(&["backup"], 0);
}

fn stored(place: &Place, name: &str) -> String {
    let output = place.run(&["cat", "latest", name], 0);
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_run_believes_what_another_found_out_wherever_the_content_is() {
    let mut chance = Chance::new(91);
    let place = Place::with_repository();
    place.init();
    write_many(&place, "a", 1);
    backup(&place);
    let (file, number) = verdicts(&place);
    assert!(number >= 80, "{number}");
    // The same at another place, and touched.
    write_many(&place, "b", 1);
    write_many(&place, "a", 1);
    backup(&place);
    assert!(verdicts(&place).1 <= number + 2);
    // Something that would be sealed: whoever believes that it is clear has not looked.
    let secret = chance.text(32);
    let content = format!("API_KEY={secret}\nMODE=1\n");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend(key(&content, "settings.env"));
    // These are never asked for: the whole path says what they are.
    bytes.extend(key(&content, "credentials"));
    std::fs::write(&file, bytes).unwrap();
    write_many(&place, "c", 2);
    for name in ["c/settings.env", "c/other.env", "c/.aws/credentials"] {
        place.write(name, content.as_bytes());
    }
    backup(&place);
    assert_eq!(stored(&place, "c/settings.env"), content);
    assert!(!stored(&place, "c/other.env").contains(&secret));
    let all = place.json(&["list"]).to_string();
    assert!(!all.contains(&secret));
    place
        .bdr(&["cat", "latest", "c/.aws/credentials"])
        .output()
        .map(|output| {
            assert!(!String::from_utf8_lossy(&output.stdout).contains(&secret));
        })
        .unwrap();
}

/// A verdict holds for the rules by which it was found, and not for what the rules let through.
#[test]
fn what_the_rules_let_through_is_looked_at_elsewhere() {
    let mut chance = Chance::new(92);
    let place = Place::with_repository();
    place.init();
    let secret = chance.text(32);
    let content = format!("API_KEY={secret}\nMODE=1\n");
    place.write("a/settings.env", content.as_bytes());
    let file = place.tree().join("a/settings.env");
    let allow = [
        "privacy",
        "allow",
        file.to_str().unwrap(),
        "--reason",
        "a test",
    ];
    place.run(&allow, 0);
    write_many(&place, "a", 1);
    backup(&place);
    assert_eq!(stored(&place, "a/settings.env"), content);
    place.write("b/settings.env", content.as_bytes());
    write_many(&place, "b", 2);
    backup(&place);
    assert!(!stored(&place, "b/settings.env").contains(&secret));
    // With other rules everything is looked at again.
    place.run(&["privacy", "revoke", file.to_str().unwrap()], 0);
    write_many(&place, "a", 3);
    place.write("a/settings.env", content.as_bytes());
    place.run(&["backup"], 0);
    assert!(!stored(&place, "a/settings.env").contains(&secret));
}

/// A file that was cut off or written over is no verdict, and is made anew.
#[test]
fn a_damaged_file_of_verdicts_says_nothing() {
    let mut chance = Chance::new(93);
    let place = Place::with_repository();
    place.init();
    write_many(&place, "a", 1);
    backup(&place);
    let (file, _) = verdicts(&place);
    let bytes = std::fs::read(&file).unwrap();
    for (number, damaged) in [&bytes[..bytes.len() - 5], &bytes[..30], b"", b"\n"]
        .into_iter()
        .enumerate()
    {
        std::fs::write(&file, damaged).unwrap();
        let dir = format!("more-{number}");
        write_many(&place, &dir, number as u64 + 10);
        let secret = chance.text(32);
        place.write(
            &format!("{dir}/a.env"),
            format!("API_KEY={secret}\n").as_bytes(),
        );
        backup(&place);
        assert_clean(&place, &[secret], &dir);
        assert!(verdicts(&place).1 >= 80);
    }
}
