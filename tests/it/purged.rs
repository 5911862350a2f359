//! What is found to be secret later goes from old snapshots, and nothing else does: over generated
//! histories, each snapshot is restored before and after.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use crate::support::{Object, Place, assert_same, picture};

/// SplitMix64: the same history for the same seed, wherever it is run.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % most as u64).unwrap()
    }

    /// Lines that say nothing.
    pub(crate) fn lines(&mut self, most: usize) -> String {
        let count = self.below(most);
        (0..count)
            .map(|_| format!("line {}\n", self.below(1 << 20)))
            .collect()
    }

    pub(crate) fn secret(&mut self) -> String {
        const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
        let letter = |chance: &mut Self| LETTERS[chance.below(LETTERS.len())] as char;
        (0..24).map(|_| letter(self)).collect()
    }
}

type Pictures = BTreeMap<String, BTreeMap<PathBuf, Object>>;

/// What every snapshot has, as it is restored elsewhere.
fn restored(place: &Place, ids: &[String]) -> Pictures {
    let each = ids.iter().map(|id| {
        let out = tempfile::tempdir().unwrap();
        let target = out.path().to_str().unwrap();
        place.run(&["restore", "--yes", "--target", target, id], 0);
        let mut found = picture(out.path());
        // The directory itself is new.
        found.retain(|path, _| path.components().count() > 0);
        (id.clone(), found)
    });
    each.collect()
}

/// One step of a history.
fn change(place: &Place, chance: &mut Chance, secrets: &mut Vec<String>, step: usize) {
    let secret = |chance: &mut Chance, secrets: &mut Vec<String>| {
        secrets.push(chance.secret());
        secrets[secrets.len() - 1].clone()
    };
    for _ in 0..=chance.below(12) {
        let name = format!("d{}/f{}", chance.below(3), chance.below(20));
        match chance.below(8) {
            0 => drop(std::fs::remove_file(place.tree().join(&name))),
            1 => place.write(&name, crate::support::noise(40_000 + step).as_slice()),
            // The same content in several places.
            2 => place.write(&name, b"shared\n".repeat(900).as_slice()),
            _ => place.write(&name, chance.lines(400).as_bytes()),
        }
    }
    if chance.below(3) > 0 {
        let value = secret(chance, secrets);
        place.write("own.env", format!("API_KEY={value}\n").as_bytes());
    }
    // A long one that grows: its snapshots share blobs.
    let log = place.tree().join("run.jsonl");
    let mut text = std::fs::read_to_string(&log).unwrap_or_default();
    text.push_str(&chance.lines(3000));
    if chance.below(3) == 0 {
        let value = secret(chance, secrets);
        text.push_str(&format!("{{\"api_key\": \"{value}\"}}\n"));
    }
    std::fs::write(log, text).unwrap();
}

/// What a crash left half written is older than it is.
pub(crate) fn age(place: &Place, time: chrono::DateTime<chrono::Utc>) {
    let left = std::fs::read_dir(place.store().join("tmp"));
    for file in left.into_iter().flatten().flatten() {
        let file = std::fs::File::open(file.path()).unwrap();
        file.set_modified(time.into()).unwrap();
    }
}

/// Purges until a step; returns false if there are fewer.
fn cut(place: &Place, step: usize) -> bool {
    let mut purge = place.bdr(&["privacy", "rescan", "--purge", "--yes"]);
    let output = purge
        .env("BDR_TEST_CRASH_AT", step.to_string())
        .output()
        .unwrap();
    output.status.signal() == Some(6)
}

#[test]
fn a_purge_takes_nothing_but_what_is_secret() {
    for seed in 0..8 {
        let mut chance = Chance(seed);
        // However guards protect.
        let place = match seed % 4 < 2 {
            true => Place::with_repository().watched(),
            false => Place::with_repository(),
        };
        place.write("plain.txt", b"hello");
        place.init();
        let files = ["own.env", "run.jsonl"].map(|name| place.tree().join(name));
        for file in &files {
            let file = file.to_str().unwrap();
            place.run(&["privacy", "allow", file, "--reason", "a test"], 0);
        }
        let mut secrets = Vec::new();
        for step in 0..6 {
            change(&place, &mut chance, &mut secrets, step);
            match chance.below(4) {
                0 => place.run(&["backup", "--full"], 0),
                1 => place.run(
                    &["guard", "--", "sh", "-c", "rm -rf d1 run.jsonl own.env"],
                    0,
                ),
                _ => place.run(&["backup"], 0),
            };
        }
        let listed = place.json(&["list", "--all"]);
        let ids = listed["snapshots"].as_array().unwrap().iter();
        let ids: Vec<String> = ids
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect();
        place.run(&["settle"], 0);
        // What nobody has any more is looked at by nobody.
        let gone = ids[chance.below(ids.len())].clone();
        place.run(&["forget", &gone, "--yes"], 0);
        let ids: Vec<String> = ids.into_iter().filter(|id| *id != gone).collect();
        let before = restored(&place, &ids);
        for file in &files {
            place.run(&["privacy", "revoke", file.to_str().unwrap()], 0);
        }
        let mut step = 1 + chance.below(3);
        while seed % 2 == 1 && cut(&place, step) {
            place.run(&["verify", "--level", "full"], 0);
            step += 1 + chance.below(9);
        }
        let hour = chrono::TimeDelta::hours(1);
        age(&place, crate::support::now() - hour);
        place.run(&["privacy", "rescan", "--purge", "--yes"], 0);
        place.run(&["verify", "--level", "full"], 0);
        let after = restored(&place, &ids);
        for (id, before) in &before {
            assert_same(before, &after[id], &format!("seed {seed}, snapshot {id}"));
        }
        for secret in &secrets {
            assert!(
                !crate::pushed::has_bytes(&place.store(), secret.as_bytes()),
                "seed {seed}: a value is still stored"
            );
        }
        let found = place.json(&["privacy", "rescan"]);
        assert_eq!(found["exposed"].as_array().unwrap().len(), 0, "{found}");
    }
}

/// A call that was cut may leave a file half written, with anything in it.
#[test]
fn a_purge_removes_what_a_crash_left() {
    let place = Place::with_repository();
    place.write("plain.txt", b"hello");
    place.init();
    let value = Chance(1).secret();
    place.write("own.env", format!("API_KEY={value}\n").as_bytes());
    let file = place.tree().join("own.env");
    let file = file.to_str().unwrap();
    place.run(&["privacy", "allow", file, "--reason", "a test"], 0);
    let tmp = place.store().join("tmp");
    let has_it = || crate::pushed::has_bytes(&tmp, value.as_bytes());
    for step in 1.. {
        let mut backup = place.bdr(&["backup", "--full"]);
        backup.env("BDR_TEST_CRASH_AT", step.to_string());
        let is_cut = backup.output().unwrap().status.signal() == Some(6);
        assert!(is_cut, "no cut left anything");
        if has_it() {
            break;
        }
    }
    place.run(&["privacy", "revoke", file], 0);
    // It may be written just now.
    let purge = ["privacy", "rescan", "--purge", "--yes"];
    let said = crate::support::cli::stdout(&place.run(&purge, 3));
    assert!(said.contains("less than ten minutes old"), "{said}");
    assert!(has_it());
    let hour = chrono::TimeDelta::hours(1);
    age(&place, crate::support::now() - hour);
    place.run(&purge, 0);
    assert!(!crate::pushed::has_bytes(&place.store(), value.as_bytes()));
}
