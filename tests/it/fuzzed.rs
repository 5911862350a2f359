//! A repository that somebody else writes to: seeded mutations of every record, listing, pack and directory of it. Whatever stands there, no verb writes,
//! deletes or reads beyond bdr's own, dies, hangs or takes the memory of the machine.
//!
//! A few dozen cases run always; `BDR_TEST_LONG=1` runs ten thousand, `BDR_TEST_SEED=n` one of them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bdr::base::id::Digest;
use serde_json::{Value, json};

use crate::gates::open_up;
use crate::support::Place;

/// Numbers that are the same wherever a seed is run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, most: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % most.max(1) as u64).unwrap()
    }

    fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// The same of what need not be there: an earlier damage may have taken it.
    fn some<T: Clone>(&mut self, list: &[T]) -> Option<T> {
        (!list.is_empty()).then(|| self.of(list).clone())
    }
}

/// A repository with snapshots, operations, kept content, sealed values, and a store to import; beside it what is the user's.
struct World {
    place: Place,
    template: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let place = Place::with_repository();
        for dir in ["home/Documents/deep", "home/.ssh", "home/empty", "outside"] {
            std::fs::create_dir_all(place.path(dir)).unwrap();
        }
        for file in [
            "home/Documents/thesis",
            "home/Documents/deep/x",
            "home/Documents/lock",
            "home/Documents/.bdr-tmp-mine",
            "home/.ssh/authorized_keys",
            "home/.bashrc",
        ] {
            std::fs::write(place.path(file), format!("precious {file}")).unwrap();
            let old = std::time::SystemTime::now() - Duration::from_secs(300_000);
            let opened = std::fs::File::options()
                .write(true)
                .open(place.path(file))
                .unwrap();
            opened.set_modified(old).unwrap();
        }
        for number in 0..6 {
            let text = format!("file {number}\n").repeat(40);
            place.write(&format!("data/f{number}"), text.as_bytes());
        }
        place.write(".env", b"API_KEY=sk_live_4eC39HqLyjWDarjtT1zdp7dc\n");
        std::os::unix::fs::symlink("f1", place.tree().join("data/link")).unwrap();
        std::fs::hard_link(place.tree().join("data/f2"), place.tree().join("data/f2b")).unwrap();
        place.init();
        place.write("data/f1", b"changed\n");
        place.run(&["backup"], 0);
        place.run(&["guard", "--", "rm", "data/f3"], 0);
        place.run(&["undo", "--yes"], 0);
        for number in 0..3_u8 {
            let file = std::fs::File::create(place.tree().join(format!("big{number}"))).unwrap();
            file.set_len(12 << 20).unwrap();
            (&file).write_all(&[number; 100]).unwrap();
        }
        place.run(&["guard", "--", "rm", "big0", "big1", "big2"], 0);
        let backup = place.path("store/backups/2026-01-01-000000");
        std::fs::create_dir_all(backup.join("data")).unwrap();
        std::fs::write(backup.join("data/x"), b"evil\n").unwrap();
        let metadata = json!({
            "backupId": "2026-01-01-000000", "created": "2026-01-01T00:00:00Z", "type": "full", "sources": [place.path("other")],
            "files": [{
                "path": "x", "originalPath": place.path("other/x"), "size": 5,
                "checksum": Digest::of(b"evil\n").to_hex(), "permissions": "644",
            }],
            "config": {"compression": false},
        });
        std::fs::write(backup.join("backup-metadata.json"), metadata.to_string()).unwrap();
        let template = tempfile::tempdir().unwrap();
        let world = Self { place, template };
        copy(&world.place.path(""), world.template.path());
        world
    }

    fn renew(&self) {
        for entry in std::fs::read_dir(self.place.path("")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                open_up(&path);
                // What a verb left running in the background may write once more.
                let gone = (0..50).any(|_| std::fs::remove_dir_all(&path).is_ok());
                assert!(gone, "{path:?} cannot be removed");
            } else {
                std::fs::remove_file(&path).unwrap();
            }
        }
        copy(self.template.path(), &self.place.path(""));
        open_up(&self.place.store());
    }

    fn files(&self) -> Vec<PathBuf> {
        let store = self.place.store();
        let mut files: Vec<PathBuf> = walkdir::WalkDir::new(&store)
            .into_iter()
            .flatten()
            .filter(|entry| entry.file_type().is_file())
            .map(walkdir::DirEntry::into_path)
            .collect();
        files.sort();
        files
    }

    /// Everything that is not bdr's, nor a place that the verbs are told to write to.
    fn canary(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        use std::os::unix::ffi::OsStrExt as _;
        use std::os::unix::fs::MetadataExt as _;
        let mut found = BTreeMap::new();
        for top in ["home", "outside"] {
            for entry in walkdir::WalkDir::new(self.place.path(top)) {
                let entry = entry.unwrap();
                let content = match entry.file_type() {
                    kind if kind.is_file() => std::fs::read(entry.path()).unwrap(),
                    kind if kind.is_symlink() => std::fs::read_link(entry.path())
                        .unwrap()
                        .as_os_str()
                        .as_bytes()
                        .to_vec(),
                    _ => Vec::new(),
                };
                let mode = entry.metadata().unwrap().mode();
                found.insert(entry.into_path(), (mode, content));
            }
        }
        for entry in std::fs::read_dir(self.place.path("")).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with("out") && !path.ends_with("other") {
                found.entry(path).or_default();
            }
        }
        found
    }
}

fn copy(from: &Path, to: &Path) {
    let mut source = from.as_os_str().to_owned();
    source.push("/.");
    let done = Command::new("cp").arg("-a").arg(source).arg(to).status();
    assert!(done.unwrap().success());
}

fn framed(record: &Value) -> Vec<u8> {
    let body = record.to_string();
    let digest = Digest::of(body.as_bytes()).to_hex();
    format!("{{\"sha256\":\"{digest}\",\"record\":{body}}}\n").into_bytes()
}

/// Without what binds it to this machine: what is changed then is looked at like a record that nobody bound.
fn record_of(bytes: &[u8]) -> Option<Value> {
    let mut file: Value = serde_json::from_slice(bytes).ok()?;
    let mut record = file.get_mut("record")?.take();
    record.as_object_mut()?.remove("bound");
    Some(record)
}

fn unpacked(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let mut gzip = flate2::read::MultiGzDecoder::new(bytes);
    gzip.read_to_end(&mut text).ok().map(|_| text)
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn put(path: &Path, bytes: &[u8]) {
    let _ = std::fs::remove_file(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// What no record of bdr says.
fn hostile(world: &World, dice: &mut Dice) -> Value {
    let place = |below: &str| json!(world.place.path(below).to_str().unwrap());
    let values = [
        json!(".."),
        json!("."),
        json!(""),
        json!("/"),
        json!("../../home/Documents"),
        place("home"),
        place("home/Documents"),
        place("tree/../home/.ssh"),
        json!("a\0b"),
        json!("x\u{1b}[2Jy"),
        json!("a/b/../../.."),
        json!("\u{202e}"),
        json!(u64::MAX),
        json!(1_u64 << 63),
        json!((1_u64 << 53) + 1),
        json!(-1),
        json!(0),
        json!(1e300),
        Value::Null,
        json!(true),
        json!([]),
        json!({}),
        json!("9".repeat(5000)),
        json!("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"),
        json!("01M8FMSJRYEJ4F0YK6935NXPV1"),
        json!("+262142-12-31T23:59:59.999999999Z"),
        json!("-262143-01-01T00:00:00Z"),
        json!("f".repeat(64)),
        json!("**/**/**/*"),
        json!("C:\\x"),
        json!(".bdr-staging"),
        (0..100).fold(json!(1), |inner, _| json!([inner])),
    ];
    dice.of(&values).clone()
}

/// Returns the pointers to everything in a value.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut each = |key: String, inner: &Value| {
        let at = format!("{at}/{key}");
        found.push(at.clone());
        pointers(inner, &at, found);
    };
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(key, inner)| each(key.replace('~', "~0").replace('/', "~1"), inner)),
        Value::Array(items) => items
            .iter()
            .take(40)
            .enumerate()
            .for_each(|(number, inner)| each(number.to_string(), inner)),
        _ => {}
    }
}

fn mutate(world: &World, dice: &mut Dice, value: &mut Value) -> String {
    let mut said = String::new();
    for _ in 0..=dice.below(3) / 2 {
        let mut all = Vec::new();
        pointers(value, "", &mut all);
        if all.is_empty() {
            return said;
        }
        let pointer = dice.of(&all).clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let new = hostile(world, dice);
        let shown: String = new.to_string().chars().take(60).collect();
        said.push_str(&format!(" {pointer}={shown}"));
        let remove = dice.below(10) == 0;
        match value.pointer_mut(parent) {
            Some(Value::Object(members)) if remove => {
                members.remove(&key.replace("~1", "/").replace("~0", "~"));
            }
            Some(Value::Array(items)) if remove => {
                let copy = items[0].clone();
                items.push(copy);
            }
            _ => {
                if let Some(place) = value.pointer_mut(&pointer) {
                    *place = new;
                }
            }
        }
    }
    said
}

/// Puts another name for a file into every record that names it.
fn rename_in_records(world: &World, old: &str, new: &str) {
    for path in world.files() {
        // What an earlier damage made huge is no record.
        if path.metadata().is_ok_and(|found| found.len() > 1 << 24) {
            continue;
        }
        let Ok(text) = String::from_utf8(std::fs::read(&path).unwrap()) else {
            continue;
        };
        if text.contains(old)
            && let Some(record) = record_of(text.replace(old, new).as_bytes())
        {
            put(&path, &framed(&record));
        }
    }
}

fn stem(path: &Path) -> String {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.split('.').next().unwrap().to_owned()
}

fn damage(world: &World, dice: &mut Dice) -> Option<String> {
    let store = world.place.store();
    let files = world.files();
    let below = |dir: &str| -> Vec<PathBuf> {
        let files = files
            .iter()
            .filter(|file| file.starts_with(store.join(dir)));
        files.cloned().collect()
    };
    let records: Vec<PathBuf> = ["snapshots", "operations", "kept", "marks"]
        .iter()
        .flat_map(|dir| below(dir))
        .filter(|file| file.extension().is_some_and(|e| e == "json"))
        .collect();
    let any = dice.some(&files)?;
    let bytes = std::fs::read(&any).ok()?;
    let name = any.strip_prefix(&store).unwrap().display().to_string();
    let said = match dice.below(30) {
        0..=9 => {
            let file = &dice.some(&records)?;
            let mut record = record_of(&std::fs::read(file).ok()?)?;
            let said = mutate(world, dice, &mut record);
            put(file, &framed(&record));
            format!("record {}:{said}", stem(file))
        }
        10..=14 => {
            let file = dice.some(&below("manifests"))?;
            let text = String::from_utf8(unpacked(&std::fs::read(&file).ok()?)?).ok()?;
            let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
            let number = 1 + dice.below(lines.len().checked_sub(4)?);
            let line = lines[number].clone();
            let mut entry: Value = serde_json::from_str(line.trim_end_matches(',')).ok()?;
            let said = mutate(world, dice, &mut entry);
            let comma = if line.ends_with(',') { "," } else { "" };
            lines[number] = format!("{entry}{comma}");
            let bytes = packed(lines.join("\n").as_bytes());
            let new = Digest::of(&bytes).to_hex();
            put(&store.join(format!("manifests/{new}.json.gz")), &bytes);
            rename_in_records(world, &stem(&file), &new);
            format!("key frame:{said}")
        }
        15 | 16 => {
            let file = dice.some(&below("packs"))?;
            let pack = std::fs::read(&file).ok()?;
            let footer = pack.len().checked_sub(42)?;
            let number =
                |at: usize| u64::from_le_bytes(pack[footer + at..][..8].try_into().unwrap());
            let at = usize::try_from(number(16)).ok()?;
            let mut table = unpacked(pack.get(at..footer)?)?;
            let end = table.iter().rposition(|byte| *byte == b'}')? + 1;
            let mut contents: Value = serde_json::from_slice(table.get(512..end)?).ok()?;
            let said = mutate(world, dice, &mut contents);
            let json = contents.to_string();
            let mut header = tar::Header::from_byte_slice(&table[..512]).clone();
            header.set_size(json.len() as u64);
            header.set_cksum();
            table = header.as_bytes().to_vec();
            table.extend(json.as_bytes());
            table.resize(table.len().next_multiple_of(512) + 1024, 0);
            let table = packed(&table);
            let mut new = pack[..at].to_vec();
            new.extend(&table);
            new.extend(&pack[footer..][..24]);
            new.extend((table.len() as u64).to_le_bytes());
            new.extend(&pack[footer + 32..]);
            let digest = Digest::of(&new).to_hex();
            std::fs::remove_file(&file).ok()?;
            let name = format!("packs/{}/{digest}.tar.gz", &digest[..2]);
            put(&store.join(name), &new);
            rename_in_records(world, &stem(&file), &digest);
            format!("table of contents:{said}")
        }
        17 => {
            let path = world
                .place
                .path("store/backups/2026-01-01-000000/backup-metadata.json");
            let mut metadata: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
            let said = mutate(world, dice, &mut metadata);
            // The user is shown the sources before they say yes; all of this machine takes too long here.
            if metadata.to_string().contains("\"/\"") {
                return None;
            }
            put(&path, metadata.to_string().as_bytes());
            format!("store:{said}")
        }
        18 => {
            let path = store.join("format.json");
            let mut format: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
            let said = mutate(world, dice, &mut format);
            put(&path, format.to_string().as_bytes());
            format!("format.json:{said}")
        }
        19..=21 => {
            let dirs = [
                "tmp",
                "snapshots",
                "operations",
                "packs",
                "manifests",
                "kept",
                "trash",
                "marks",
            ];
            let dir = *dice.of(&dirs);
            let to = *dice.of(&[
                "home/Documents",
                "home/.ssh",
                "outside",
                "home",
                "home/empty",
                "gone",
            ]);
            let _ = std::fs::remove_dir_all(store.join(dir));
            std::os::unix::fs::symlink(world.place.path(to), store.join(dir)).ok()?;
            format!("{dir} is a link to {to}")
        }
        22 => {
            let mut bytes = bytes;
            for _ in 0..=dice.below(20) {
                let at = dice.below(bytes.len());
                *bytes.get_mut(at)? ^= 1 << dice.below(8);
            }
            put(&any, &bytes);
            format!("bits of {name}")
        }
        23 => {
            put(&any, &bytes[..dice.below(bytes.len())]);
            format!("{name} cut off")
        }
        24 => {
            let other = dice.of(&files);
            put(&any, &std::fs::read(other).unwrap());
            format!("{name} has what {} has", stem(other))
        }
        25 => {
            std::fs::remove_file(&any).unwrap();
            let file = std::fs::File::create(&any).unwrap();
            (&file).write_all(&bytes[..bytes.len().min(20)]).unwrap();
            file.set_len(*dice.of(&[1 << 28, 1 << 40])).unwrap();
            format!("{name} is huge and empty")
        }
        26 => {
            std::fs::remove_file(&any).unwrap();
            format!("{name} is gone")
        }
        27 => {
            let other = &dice.some(&records)?;
            std::fs::rename(dice.some(&records)?, other).ok()?;
            format!("another record is called {}", stem(other))
        }
        _ => {
            std::fs::remove_file(&any).unwrap();
            let kind = *dice.of(&["link", "self", "device", "fifo", "directory"]);
            match kind {
                "link" => {
                    std::os::unix::fs::symlink(world.place.path("home/Documents/thesis"), &any)
                }
                "self" => std::os::unix::fs::symlink(any.file_name().unwrap(), &any),
                "device" => std::os::unix::fs::symlink("/dev/zero", &any),
                "fifo" => Command::new("mkfifo").arg(&any).status().map(drop),
                _ => std::fs::create_dir(&any),
            }
            .unwrap();
            format!("{name} is a {kind}")
        }
    };
    Some(said)
}

const VERBS: [&[&str]; 33] = [
    &["backup"],
    &["backup", "--full"],
    &["tick"],
    &["list"],
    &["log"],
    &["status"],
    &["show", "latest"],
    &["ls", "latest"],
    &["ls", "latest:any"],
    &["restore", "latest", "--target", "OUT", "--yes"],
    &["restore", "latest:any", "--target", "OUT", "--yes"],
    &["restore", "latest", "--dry-run"],
    &["restore", "latest", "data/f1", "--yes"],
    &["verify"],
    &["verify", "--level", "full"],
    &["verify", "--level", "restore"],
    &["drill"],
    &["prune", "--yes"],
    &["prune", "--yes", "--now"],
    &["prune", "--dry-run"],
    &["undo", "--yes"],
    &["undo", "--dry-run"],
    &["redo", "--yes"],
    &["settle"],
    &["cat", "latest", "data/f1"],
    &["diff", "latest"],
    &["find", "f*"],
    &["history", "data/f1"],
    &["guard", "--", "rm", "data/f1"],
    &["guard", "--", "rm", "-rf", "data"],
    &["import", "STORE", "--yes"],
    &["rescan", "--yes"],
    &["doctor"],
];

/// Kilobytes that a verb may take.
const MEMORY: u64 = 256 << 10;

fn run(world: &World, verb: &[&str], what: &str) {
    let place = &world.place;
    let args: Vec<String> = verb
        .iter()
        .map(|word| match *word {
            "OUT" => place.path("out").display().to_string(),
            "STORE" => place.path("store").display().to_string(),
            word => word.to_owned(),
        })
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let said = std::fs::File::create(world.template.path().with_extension("said")).unwrap();
    let mut command = place.bdr(&args);
    command
        .env("BDR_BACKGROUND", "0")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(said);
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    let mut most = 0;
    let status = loop {
        let peak =
            std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        // Until it is another program, it shows what the one that starts it took.
        let is_started = peak.starts_with("Name:\tbdr");
        let peak = peak
            .lines()
            .filter(|_| is_started)
            .find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = peak.and_then(|peak| peak.split_whitespace().next()?.parse().ok());
        most = most.max(kilobytes.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("{what}: {args:?} did not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let said = std::fs::read(world.template.path().with_extension("said")).unwrap();
    let said = String::from_utf8_lossy(&said);
    let died = status.code().is_none_or(|code| matches!(code, 101 | 134));
    assert!(
        !died && !said.contains("panicked"),
        "{what}: {args:?}: {status}: {said}"
    );
    assert!(most < MEMORY, "{what}: {args:?} took {most} KiB");
}

fn case(world: &World, seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    world.renew();
    let mut what = format!("BDR_TEST_SEED={seed}");
    for _ in 0..=dice.below(4) / 3 {
        if let Some(said) = damage(world, &mut dice) {
            what.push_str(&format!("; {said}"));
        }
    }
    if dice.below(2) == 0 {
        std::fs::remove_dir_all(world.place.path("bdr/cache")).unwrap();
    }
    if seed.is_multiple_of(2) {
        // Nothing tells then what this machine made, and what was forged is done as if it had.
        for entry in walkdir::WalkDir::new(world.place.path("bdr/state/vault")) {
            let path = entry.unwrap().into_path();
            if path.ends_with("snapshots.key") {
                std::fs::remove_file(path).unwrap();
            }
        }
    }
    let before = world.canary();
    for _ in 0..6 {
        let verb = *dice.of(&VERBS);
        let _ = std::fs::remove_dir_all(world.place.path("out"));
        run(world, verb, &what);
        let after = world.canary();
        let differs = after.iter().chain(&before).find(|(path, state)| {
            before.get(*path) != Some(state) || after.get(*path) != Some(state)
        });
        assert!(differs.is_none(), "{what}: {verb:?}: {differs:?}");
    }
}

#[test]
fn a_repository_that_others_write_to_moves_no_verb_beyond_its_own() {
    let world = World::new();
    if let Some(seed) = std::env::var_os("BDR_TEST_SEED") {
        return case(&world, seed.to_str().unwrap().parse().unwrap());
    }
    // `BDR_TEST_LONG=4000..6000` runs a part of the long form: several side by side.
    let cases = match std::env::var("BDR_TEST_LONG") {
        Ok(text) => {
            let part = text.split_once("..");
            let part = part.and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
            part.unwrap_or(0..10_000)
        }
        Err(_) => 0..40,
    };
    let mut failed = Vec::new();
    for seed in cases {
        // Each says what it was; the others are tried all the same.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&world, seed))).is_err() {
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "BDR_TEST_SEED={failed:?}");
}

/// Puts a pack into the repository that says of itself that it is whole, and is `members` of half a megabyte that are empty.
fn claim(world: &World, members: u64, blobs: &[Value]) -> PathBuf {
    let store = world.place.store();
    let format: Value =
        serde_json::from_slice(&std::fs::read(store.join("format.json")).unwrap()).unwrap();
    let list = vec!["[524288,262144]"; usize::try_from(members).unwrap()].join(",");
    let blobs = serde_json::to_string(blobs).unwrap();
    let json = format!(
        "{{\"format\":\"bdr-pack\",\"version\":1,\"repository\":{},\"members\":[{list}],\"blobs\":{blobs}}}",
        format["id"]
    );
    let mut header = tar::Header::new_gnu();
    header.set_path(".bdr/toc.json").unwrap();
    header.set_size(json.len() as u64);
    header.set_mode(0o444);
    header.set_cksum();
    // Not compressed: what becomes much more than it is is refused before.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(header.as_bytes()).unwrap();
    gzip.write_all(json.as_bytes()).unwrap();
    gzip.write_all(&vec![
        0;
        1024 + json.len().next_multiple_of(512) - json.len()
    ])
    .unwrap();
    let table = gzip.finish().unwrap();
    let offset = members * 524_288;
    let mut footer = vec![
        0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 20, 0, b'B', b'D', 16, 0,
    ];
    footer.extend(offset.to_le_bytes());
    footer.extend((table.len() as u64).to_le_bytes());
    footer.extend([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let name = Digest::of(b"anything").to_hex();
    let path = store.join(format!("packs/{}/{name}.tar.gz", &name[..2]));
    put(&path, b"");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &table, offset).unwrap();
    let end = offset + table.len() as u64;
    std::os::unix::fs::FileExt::write_all_at(&file, &footer, end).unwrap();
    path
}

#[test]
fn a_table_of_contents_over_nothing_ends_within_bounds() {
    let world = World::new();
    world.renew();
    // What is needed is said to be in it as well.
    let entries = ["data/f1", "data/f2"].map(|name| {
        let bytes = std::fs::read(world.place.tree().join(name)).unwrap_or_default();
        json!([Digest::of(&bytes).to_hex(), bytes.len(), 1000, 7])
    });
    // A terabyte.
    let members = 1 << 21;
    // And more than there can be.
    let digest = Digest::of(b"more").to_hex();
    let most = [
        json!([digest, u64::MAX, 0, 0]),
        json!([Digest::of(b"x").to_hex(), u64::MAX, 1, 0]),
    ];
    for blobs in [&[][..], &entries, &most] {
        for fresh in [true, false] {
            let what = format!("a terabyte of nothing, {} blobs, {fresh}", blobs.len());
            world.renew();
            claim(&world, members, blobs);
            if fresh {
                std::fs::remove_dir_all(world.place.path("bdr/cache")).unwrap();
            }
            for verb in VERBS {
                let _ = std::fs::remove_dir_all(world.place.path("out"));
                run(&world, verb, &what);
            }
        }
    }
}
