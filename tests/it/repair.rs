//! Damage is a state: it is said until it is mended, and `bdr repair` mends it.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::Place;

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A place whose repository has a second place.
struct Manned {
    place: Place,
    boat: PathBuf,
}

impl Manned {
    fn new(boat: bool) -> Self {
        let place = Place::with_repository();
        let boat = match boat {
            true => place.path("boat"),
            false => PathBuf::new(),
        };
        Self { place, boat }
    }

    #[track_caller]
    fn run(&self, args: &[&str], code: i32) -> String {
        let mut command = self.place.bdr(args);
        command
            .env("BDR_LIFEBOAT", &self.boat)
            .env("BDR_BACKGROUND", "0");
        let output = command.output().unwrap();
        let said = format!(
            "{}{}",
            stdout(&output),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(code), "bdr {args:?}: {said}");
        said
    }

    fn init(&self) {
        let source = format!("tree={}", self.place.tree().display());
        self.run(&["init", "--yes", "--source", &source], 0);
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(dir)
        .sort_by_file_name()
        .into_iter()
        .flatten();
    let files = files.filter(|file| file.file_type().is_file());
    files.map(walkdir::DirEntry::into_path).collect()
}

fn flip(path: &Path) {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let bytes = std::fs::read(path).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    for at in [bytes.len() / 3, bytes.len() / 2] {
        file.write_at(&[bytes[at] ^ 0x55], at as u64).unwrap();
    }
}

/// The pack that is largest, in the repository or its second place.
fn pack(dir: &Path) -> PathBuf {
    let packs = files(dir)
        .into_iter()
        .filter(|f| f.to_string_lossy().ends_with(".tar.gz"));
    packs
        .max_by_key(|file| file.metadata().unwrap().len())
        .unwrap()
}

fn text(words: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        format!("{:x} ", state >> 40)
    };
    (0..words).flat_map(|_| next().into_bytes()).collect()
}

#[test]
fn what_verify_found_is_said_until_it_is_mended() {
    let manned = Manned::new(true);
    for number in 0..8 {
        manned
            .place
            .write(&format!("f{number}"), &text(2000, number + 7));
    }
    manned.init();
    // A hard link: the second place has the damage as well.
    flip(&pack(&manned.place.store()));
    manned.run(&["verify"], 4);
    for _ in 0..2 {
        let page = manned.run(&["status"], 4);
        assert!(page.contains("the last verification found"), "{page}");
        assert!(page.contains("bdr repair"), "{page}");
        assert!(manned.run(&["doctor"], 1).contains("bdr repair"));
    }
    let plan = manned.run(&["repair", "--dry-run"], 3);
    assert!(plan.contains("would store again"), "{plan}");
    assert!(plan.contains("would set aside packs/"), "{plan}");
    // A look at a part that is whole, or none at all, ends it as little as a preview does.
    manned.run(&["verify", "--level", "quick"], 0);
    manned.run(&["verify"], 4);
    // What stands there still has the content.
    let said = manned.run(&["repair"], 0);
    assert!(
        said.contains("stored again") && said.contains("set aside packs/"),
        "{said}"
    );
    assert!(said.contains("All is well"), "{said}");
    manned.run(&["verify"], 0);
    assert!(!manned.run(&["status"], 0).contains("verification found"));
    std::fs::remove_file(manned.place.tree().join("f3")).unwrap();
    manned.run(&["restore", "latest", "f3", "--yes"], 0);
    let back = std::fs::read(manned.place.tree().join("f3")).unwrap();
    assert_eq!(back, text(2000, 10));
    // Nothing is damaged: nothing is done.
    assert!(manned.run(&["repair"], 0).contains("All is well"));
}

#[test]
fn a_second_copy_mends_what_is_nowhere_else() {
    let manned = Manned::new(true);
    manned.place.write("f", &text(4000, 3));
    manned.init();
    manned.place.write("f", b"another");
    let own = pack(&manned.place.store());
    let second = pack(&manned.boat);
    let bytes = std::fs::read(&second).unwrap();
    std::fs::remove_file(&second).unwrap();
    std::fs::write(&second, bytes).unwrap();
    flip(&own);
    let said = manned.run(&["repair"], 0);
    assert!(said.contains("mended packs/"), "{said}");
    manned.run(&["verify"], 0);
    manned.run(&["restore", "latest", "f", "--yes"], 0);
    assert_eq!(
        std::fs::read(manned.place.tree().join("f")).unwrap(),
        text(4000, 3)
    );
}

#[test]
fn what_is_lost_for_good_is_one_line_a_file() {
    let manned = Manned::new(false);
    manned.place.write("old", &text(3000, 5));
    manned.place.write("stays", &text(3000, 6));
    manned.init();
    let lost = pack(&manned.place.store());
    // Each of these has a snapshot that needs the first version of `old`.
    for number in 0..3 {
        manned.place.write(&format!("n{number}"), b"n");
        manned.run(&["guard", "--", "rm", &format!("n{number}")], 0);
    }
    manned.place.write("old", b"now another");
    manned.run(&["backup"], 0);
    std::fs::remove_file(lost).unwrap();
    let said = manned.run(&["verify"], 4);
    assert_eq!(said.matches("/old   lost in ").count(), 1, "{said}");
    let said = manned.run(&["repair"], 3);
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("lost "))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(
        lines[0].contains("old   in ") && lines[0].contains("good in "),
        "{said}"
    );
    assert!(manned.run(&["status"], 0).contains("bdr repair"));
    assert!(said.contains("bdr forget "), "{said}");
    // It says the same as often as it is asked, and nothing gets worse.
    let again = manned.run(&["repair"], 3);
    let lost = |said: &str| said.lines().filter(|l| l.starts_with("lost ")).count();
    assert_eq!(lost(&again), 1, "{again}");
    // The other file is whole again, in every snapshot.
    let seen = manned.run(&["--json", "verify"], 4);
    assert!(!seen.contains("/stays"), "{seen}");
}

#[test]
fn torn_records_are_set_aside() {
    let manned = Manned::new(false);
    manned.place.write("a", b"1");
    manned.place.write("b", b"1");
    manned.init();
    manned.run(&["guard", "--", "rm", "a"], 0);
    manned.place.write("c", b"1");
    manned.run(&["guard", "--", "rm", "b"], 0);
    let store = manned.place.store();
    let records = files(&store.join("snapshots"));
    flip(records.last().unwrap());
    let ends = files(&store.join("operations"));
    let ends: Vec<&PathBuf> = ends
        .iter()
        .filter(|f| f.to_string_lossy().ends_with(".end.json"))
        .collect();
    flip(ends[0]);
    let said = manned.run(&["repair"], 0);
    assert!(said.contains("set aside snapshots/"), "{said}");
    assert!(said.contains("set aside operations/"), "{said}");
    manned.run(&["verify"], 0);
    manned.run(&["backup"], 0);
    manned.run(&["log"], 0);
}

/// A repository with a full, an incremental and a guard of a place that is no source, and a log that was appended to.
fn several(boat: bool) -> Manned {
    let manned = Manned::new(boat);
    for number in 0..4 {
        let name = format!("f{number}");
        manned.place.write(&name, &text(2000, number + 20));
    }
    manned.place.write("app.log", &text(4000, 77));
    manned.init();
    let mut longer = text(4000, 77);
    longer.extend_from_slice(b"a new line\n");
    manned.place.write("app.log", &longer);
    manned.place.write("small", b"small");
    manned.run(&["backup"], 0);
    let other = manned.place.path("elsewhere");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("o"), text(2000, 99)).unwrap();
    let mut guard = manned.place.bdr(&["guard", "--", "touch", "o"]);
    guard
        .env("BDR_LIFEBOAT", &manned.boat)
        .env("BDR_BACKGROUND", "0");
    assert!(guard.current_dir(&other).status().unwrap().success());
    longer.extend_from_slice(b"and another\n");
    manned.place.write("app.log", &longer);
    manned.run(&["backup"], 0);
    manned
}

fn packs(dir: &Path) -> Vec<PathBuf> {
    let mut packs = files(&dir.join("packs"));
    packs.retain(|file| file.to_string_lossy().ends_with(".tar.gz"));
    packs
}

#[test]
fn each_pack_is_mended_from_what_is_there_however_it_is_damaged() {
    use std::os::unix::fs::PermissionsExt as _;
    let truncate = |path: &Path| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(100).unwrap();
    };
    let remove = |path: &Path| std::fs::remove_file(path).unwrap();
    type Way<'a> = (&'a str, &'a dyn Fn(&Path));
    let ways: [Way<'_>; 3] = [
        ("flip", &flip),
        ("truncate", &truncate),
        ("remove", &remove),
    ];
    for (word, damage) in ways {
        let manned = several(false);
        for pack in packs(&manned.place.store()) {
            damage(&pack);
        }
        let said = manned.run(&["repair"], 0);
        // The first version of the log is the beginning of what stands there now, but no file is that.
        assert!(said.contains("All is well"), "{word}: {said}");
        let there = packs(&manned.place.store());
        let aside = files(&manned.place.store().join("aside"));
        assert_eq!(aside.is_empty(), word == "remove", "{word}: {aside:?}");
        assert!(!there.is_empty());
        assert!(manned.run(&["repair"], 0).contains("All is well"));
        manned.run(&["verify", "--level", "restore"], 0);
        manned.run(&["prune", "--yes"], 0);
        let after = files(&manned.place.store().join("aside"));
        assert_eq!(after, aside, "{word}: nothing is deleted");
        manned.run(&["verify"], 0);
    }
}

#[test]
fn what_is_nowhere_in_one_form_is_put_together_from_another() {
    let manned = Manned::new(false);
    manned.place.write("log", &text(4000, 3));
    manned.init();
    // What it grew from and what came after, then the same as a whole.
    let mut longer = text(4000, 3);
    longer.extend_from_slice(b"the end\n");
    manned.place.write("log", &longer);
    manned.run(&["backup"], 0);
    manned.run(&["backup", "--full"], 0);
    manned.place.write("log", b"something else");
    let first = pack(&manned.place.store());
    let all = packs(&manned.place.store());
    assert!(all.len() > 1, "{all:?}");
    flip(&first);
    let said = manned.run(&["repair"], 0);
    assert!(said.contains("stored again"), "{said}");
    manned.run(&["restore", "latest", "log", "--yes"], 0);
    let back = std::fs::read(manned.place.tree().join("log")).unwrap();
    assert_eq!(back, longer);
    manned.run(&["restore", "latest~2", "log", "--yes"], 0);
    let back = std::fs::read(manned.place.tree().join("log")).unwrap();
    assert_eq!(back, text(4000, 3));
}

#[test]
fn damaged_marks_and_listings_are_found_and_said() {
    let manned = several(false);
    manned.run(&["pin", "latest"], 0);
    for mark in files(&manned.place.store().join("marks")) {
        flip(&mark);
    }
    let said = manned.run(&["verify"], 4);
    assert!(said.contains("damaged marks/"), "{said}");
    let said = manned.run(&["repair"], 0);
    assert!(said.contains("set aside marks/"), "{said}");
    for listing in files(&manned.place.store().join("manifests")) {
        flip(&listing);
    }
    let said = manned.run(&["repair"], 3);
    assert!(said.contains("the list of files of "), "{said}");
    // What is there now is in a snapshot that needs none of them.
    std::fs::remove_file(manned.place.tree().join("f1")).unwrap();
    manned.run(&["restore", "latest", "f1", "--yes"], 0);
    let forget = said.split("bdr forget ").nth(1).unwrap();
    let forget = forget.lines().next().unwrap();
    let words: Vec<&str> = ["forget", "--yes"]
        .into_iter()
        .chain(forget.split(' '))
        .collect();
    manned.run(&words, 0);
    assert!(manned.run(&["repair"], 0).contains("All is well"));
}

#[test]
fn a_damaged_second_copy_is_no_cure() {
    let manned = Manned::new(true);
    manned.place.write("f", &text(4000, 3));
    manned.init();
    manned.place.write("f", b"another");
    // Not a hard link any more: both are damaged, each for itself.
    let second = pack(&manned.boat);
    let bytes = std::fs::read(&second).unwrap();
    std::fs::remove_file(&second).unwrap();
    std::fs::write(&second, bytes).unwrap();
    flip(&second);
    flip(&pack(&manned.place.store()));
    let said = manned.run(&["repair"], 3);
    assert!(!said.contains("mended packs/"), "{said}");
    assert_eq!(said.matches("lost ").count(), 1, "{said}");
}

#[test]
fn what_cannot_be_read_for_now_stays_where_it_is() {
    use std::os::unix::fs::PermissionsExt as _;
    if rustix::process::geteuid().is_root() {
        println!("NOT TESTED as root: every file can be read");
        return;
    }
    let manned = Manned::new(false);
    manned.place.write("f", &text(4000, 3));
    manned.init();
    std::fs::remove_file(manned.place.tree().join("f")).unwrap();
    let pack = pack(&manned.place.store());
    std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o000)).unwrap();
    manned.run(&["repair"], 3);
    assert!(pack.exists());
    std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o400)).unwrap();
    assert!(manned.run(&["repair"], 0).contains("All is well"));
}

#[test]
fn a_repair_cut_anywhere_leaves_nothing_worse() {
    use bdr::base::monitor::NullMonitor;
    use bdr::care::repair::{plan, repair};
    use bdr::care::verify::{VerifyLevel, verify};
    use bdr::disk::storage::MemoryStorage;

    use crate::crash::{cut_everywhere, open};
    use crate::support::{later, now};

    let place = Place::new();
    place.write("stays", &text(3000, 5));
    place.write("goes", &text(3000, 6));
    let base = MemoryStorage::new();
    let repo = place.memory(&base).unwrap();
    place.backup_with(&repo, &later(60));
    place.write("new", &text(3000, 7));
    place.backup_with(&repo, &later(120));
    drop(repo);
    std::fs::remove_file(place.tree().join("goes")).unwrap();
    for name in base.names().iter().filter(|n| n.starts_with("packs/")) {
        base.damage(name, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
        });
    }
    let look = |repo: &bdr::repo::Repository| {
        verify(repo, None, VerifyLevel::Full, None, &NullMonitor).unwrap()
    };
    let lost = |repo: &bdr::repo::Repository| {
        let report = look(repo);
        let lost = report.damage.iter().flat_map(|damage| &damage.lost);
        let lost: std::collections::BTreeSet<_> = lost
            .map(|lost| (lost.snapshot, lost.path.clone()))
            .collect();
        lost
    };
    let before = lost(&open(&place, &base).unwrap());
    assert!(!before.is_empty());
    let points = cut_everywhere(
        &base,
        |storage| {
            let repo = open(&place, storage)?;
            let report = verify(&repo, None, VerifyLevel::Full, None, &NullMonitor)?;
            let plan = plan(&repo, &report.damage, &NullMonitor)?;
            repair(&repo, &plan, now(), &NullMonitor).map(drop)
        },
        |storage, done, what| {
            let repo = open(&place, storage).unwrap();
            let after = lost(&repo);
            assert!(after.is_subset(&before), "{what}: {after:?}");
            let only = after
                .iter()
                .all(|(_, path)| path.as_path().ends_with("goes"));
            assert!(only || !done, "{what}: {after:?}");
            // The next one finishes it.
            let report = look(&repo);
            let plan = plan(&repo, &report.damage, &NullMonitor).unwrap();
            repair(&repo, &plan, now(), &NullMonitor).unwrap();
            let after = lost(&repo);
            let only = after
                .iter()
                .all(|(_, path)| path.as_path().ends_with("goes"));
            assert!(only, "{what}: {after:?}");
        },
    );
    assert!(points > 5, "{points}");
}

/// A repository that is moved, and the configuration with it.
fn move_to(manned: &Manned, from: &str, to: &str, config_first: bool) {
    let to = manned.place.path(to);
    let set = || manned.run(&["config", "set", "repository", &to.to_string_lossy()], 0);
    if config_first {
        set();
    }
    std::fs::rename(manned.place.path(from), &to).unwrap();
    if !config_first {
        set();
    }
}

#[test]
fn what_is_known_of_a_repository_moves_with_it() {
    let manned = Manned::new(false);
    for number in 0..8 {
        let name = format!("f{number}");
        manned.place.write(&name, &text(2000, number + 7));
    }
    manned.init();
    manned.run(&["drill"], 0);
    flip(&pack(&manned.place.store()));
    manned.run(&["verify"], 4);
    let runs = |manned: &Manned| {
        let output = manned.place.json(&["status", "--history"]);
        output["runs"].as_array().unwrap().len()
    };
    let before = runs(&manned);
    assert!(before > 0);
    // There and back, and the configuration before and after.
    move_to(&manned, "bdr/repository", "elsewhere", true);
    assert!(manned.run(&["status"], 4).contains("verification found"));
    assert_eq!(runs(&manned), before);
    move_to(&manned, "elsewhere", "bdr/repository", false);
    assert!(manned.run(&["status"], 4).contains("verification found"));
    move_to(&manned, "bdr/repository", "elsewhere", false);
    manned.run(&["repair"], 0);
    move_to(&manned, "elsewhere", "bdr/repository", true);
    let page = manned.run(&["status"], 0);
    assert!(!page.contains("verification found"), "{page}");
    assert!(runs(&manned) > before);
    // Another one in its place knows nothing of it, and takes nothing from it.
    flip(&pack(&manned.place.store().join("packs")));
    manned.run(&["verify"], 4);
    move_to(&manned, "bdr/repository", "elsewhere", true);
    let new = manned.place.path("bdr/repository");
    let new = new.to_string_lossy();
    manned.run(&["config", "set", "repository", &new], 0);
    manned.run(&["init", "--yes"], 0);
    assert!(!manned.run(&["status"], 0).contains("verification found"));
    let first = manned.place.path("elsewhere");
    manned.run(
        &["config", "set", "repository", &first.to_string_lossy()],
        0,
    );
    assert!(manned.run(&["status"], 4).contains("verification found"));
}

#[test]
fn what_an_earlier_version_remembered_by_path_is_still_known() {
    let manned = Manned::new(false);
    manned.place.write("f", &text(4000, 3));
    manned.init();
    flip(&pack(&manned.place.store()));
    manned.run(&["verify"], 4);
    let memory = files(&manned.place.path("bdr/state"))
        .into_iter()
        .find(|file| file.ends_with("memory.json"));
    let memory = memory.unwrap();
    let mut known: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&memory).unwrap()).unwrap();
    assert!(known.as_object_mut().unwrap().remove("of").is_some());
    std::fs::write(&memory, known.to_string()).unwrap();
    assert!(manned.run(&["status"], 4).contains("verification found"));
    move_to(&manned, "bdr/repository", "elsewhere", true);
    assert!(manned.run(&["status"], 4).contains("verification found"));
}

/// A place whose last operation keeps a large file instead of storing it.
fn kept(boat: bool) -> Manned {
    let manned = several(boat);
    let block: Vec<u8> = (0..1 << 20).map(|i: u32| (i / 4096) as u8).collect();
    manned.place.write("video", &block.repeat(33));
    manned.run(&["guard", "--", "rm", "video"], 0);
    manned
}

/// Damages a file in the repository, and none that shares its content.
fn damage(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
    flip(path);
}

#[test]
fn listings_and_records_are_mended_from_the_second_copy_and_named() {
    for is_gone in [false, true] {
        let manned = kept(true);
        manned.run(&["settle"], 0);
        let store = manned.place.store();
        let mut named = Vec::new();
        for dir in ["manifests", "kept"] {
            for file in files(&store.join(dir)) {
                match is_gone {
                    true => std::fs::remove_file(&file).unwrap(),
                    false => damage(&file),
                }
                let name = file.strip_prefix(&store).unwrap();
                named.push(name.to_string_lossy().into_owned());
            }
        }
        assert!(named.iter().any(|name| name.ends_with(".contents.json.gz")));
        let said = manned.run(&["repair"], 0);
        for name in named
            .iter()
            .filter(|name| !is_gone || name.starts_with("manifests/"))
        {
            assert!(said.contains(&format!("mended {name}")), "{name}: {said}");
        }
        assert!(said.contains("All is well"), "{said}");
        manned.run(&["undo", "--yes"], 0);
        assert_eq!(
            manned.place.tree().join("video").metadata().unwrap().len(),
            33 << 20
        );
    }
}

#[test]
fn what_was_kept_and_is_damaged_is_named_and_goes_once_nothing_needs_it() {
    let manned = kept(false);
    manned.run(&["settle"], 0);
    let store = manned.place.store();
    for file in files(&store.join("kept")) {
        flip(&file);
    }
    let said = manned.run(&["verify"], 4);
    assert!(said.contains(".contents.json.gz"), "{said}");
    // It is needed: nothing is set aside, and the file that is lost is named.
    let said = manned.run(&["repair"], 3);
    assert!(
        said.lines()
            .any(|line| line.starts_with("lost ") && line.contains("video")),
        "{said}"
    );
    assert!(!said.contains("set aside kept/"), "{said}");
    let forget = said.split("bdr forget ").nth(1).unwrap();
    let forget = forget.lines().next().unwrap();
    let words = ["forget", "--yes"].into_iter().chain(forget.split(' '));
    manned.run(&words.collect::<Vec<_>>(), 0);
    let said = manned.run(&["repair"], 0);
    assert!(said.contains("set aside kept/"), "{said}");
    assert!(said.contains("All is well"), "{said}");
}

#[test]
fn a_kept_file_that_somebody_wrote_to_is_named() {
    let manned = kept(false);
    let staged = files(&manned.place.path("bdr/repository-staging"));
    let staged = staged
        .iter()
        .find(|file| file.metadata().unwrap().len() > 1 << 20);
    flip(staged.unwrap());
    let said = manned.run(&["repair"], 3);
    assert!(
        said.lines()
            .any(|line| line.starts_with("lost ") && line.contains("video")),
        "{said}"
    );
    assert!(said.contains("bdr forget "), "{said}");
}

#[test]
fn a_repository_that_was_moved_has_its_second_place_again() {
    let manned = Manned::new(true);
    manned.place.write("f", &text(4000, 3));
    manned.init();
    move_to(&manned, "bdr/repository", "elsewhere", true);
    let page = manned.run(&["status"], 0);
    assert!(!page.contains("could not be restored"), "{page}");
    std::fs::remove_dir_all(manned.place.path("elsewhere")).unwrap();
    let said = manned.run(&["list"], 0);
    assert!(said.contains("restored"), "{said}");
}
