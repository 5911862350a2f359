//! No secret in a repository, and still an exact undo. All secrets here are made by chance.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use crate::support::cli::stderr;
use crate::support::{Place, assert_same, picture};

/// A small generator: the same seed makes the same tree.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    /// Letters and digits, both.
    pub(crate) fn text(&mut self, length: usize) -> String {
        const CHARS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut text: Vec<u8> = (0..length)
            .map(|_| CHARS[self.below(62) as usize])
            .collect();
        // Never without digits, never a word.
        text[1] = b'0' + self.below(10) as u8;
        text[length / 2] = b'0' + self.below(10) as u8;
        text[length - 2] = b'Q';
        String::from_utf8(text).unwrap()
    }

    fn digits(&mut self, length: usize) -> String {
        (0..length)
            .map(|_| char::from(b'1' + self.below(9) as u8))
            .collect()
    }

    fn ssn(&mut self) -> String {
        format!(
            "{}-{}-{}",
            100 + self.below(500),
            10 + self.below(89),
            self.digits(4)
        )
    }
}

/// A tree with secrets in every format; returns what must not be found in a repository.
fn plant(place: &Place, chance: &mut Chance) -> Vec<String> {
    let mut planted = Vec::new();
    let mut secret = |chance: &mut Chance, length| {
        let text = chance.text(length);
        planted.push(text.clone());
        text
    };
    let c = chance;
    let (key, password, pem) = (secret(c, 32), secret(c, 14), secret(c, 60));
    let env = format!(
        "# settings\nexport API_KEY={key}\nDB_PASSWORD='{password}'\nSIGNING_KEY=\"begin\n{pem}\nend\"\nDEBUG=1\n"
    );
    place.write(".env", env.as_bytes());
    place.write(".env.crlf", env.replace('\n', "\r\n").as_bytes());
    let (token, header, dsn) = (secret(c, 36), secret(c, 40), secret(c, 20));
    let json = serde_json::json!({"mcpServers": {"a": {
        "command": "npx",
        "args": ["--api-key", secret(c, 24), format!("postgres://u:{dsn}@db/x")],
        "env": {"GITHUB_TOKEN": format!("ghp_{token}"), "LOG": "info"},
        "headers": {"Authorization": format!("Bearer {header}")},
    }}, "numTokens": 12});
    place.write(
        ".mcp.json",
        serde_json::to_vec_pretty(&json).unwrap().as_slice(),
    );
    // Encoded, as some configurations keep whole files.
    let encoded = base64_of(
        format!(
            "{{\"user\": \"me\", \"password\": \"{}\"}}\n",
            secret(c, 24)
        )
        .as_bytes(),
    );
    planted.push(encoded.clone());
    place.write("conf/encoded.txt", format!("blob: {encoded}\n").as_bytes());
    let mut secret = |chance: &mut Chance, length| {
        let text = chance.text(length);
        planted.push(text.clone());
        text
    };
    // A comment, a trailing comma, a mark at the beginning.
    let jsonc = format!(
        "\u{feff}{{\n  // c\n  \"clientSecret\": \"{}\",\n}}\n",
        secret(c, 30)
    );
    place.write("settings.jsonc", jsonc.as_bytes());
    // Cut off in the middle.
    let torn = format!("{{\"a\": 1, \"apiKey\": \"{}\", \"b\": [1, ", secret(c, 28));
    place.write("torn.json", torn.as_bytes());
    place.write(
        "conf/app.toml",
        format!("[db]\npassword = \"{}\"\nport = 5432\n", secret(c, 18)).as_bytes(),
    );
    place.write(
        "conf/app.yaml",
        format!("db:\n  password: {}\n  host: h\n", secret(c, 18)).as_bytes(),
    );
    place.write(
        "conf/secret.yaml",
        format!("kind: Secret\ndata:\n  extra: {}\n", secret(c, 22)).as_bytes(),
    );
    place.write(
        "conf/app.ini",
        format!("[a]\nsecret_key = {}\n", secret(c, 26)).as_bytes(),
    );
    // A file of settings inside of a string of a log, as agents keep it.
    let inner = format!(
        "API_TOKEN={}\nSECOND_SECRET=\"{}\"\n",
        secret(c, 30),
        secret(c, 25)
    );
    let mut log = String::new();
    for n in 0..40 + c.below(40) {
        log.push_str(&serde_json::json!({"n": n, "output": "ok", "tokens": n * 7}).to_string());
        log.push('\n');
    }
    log.push_str(&serde_json::json!({"tool": {"stdout": inner}}).to_string());
    log.push('\n');
    let number = c.ssn();
    log.push_str(&serde_json::json!({"patient": {"ssn": number, "dx": "E11.9"}}).to_string());
    log.push('\n');
    planted.push(number);
    place.write("events.jsonl", log.as_bytes());
    let mut secret = |chance: &mut Chance, length| {
        let text = chance.text(length);
        planted.push(text.clone());
        text
    };
    let armour = |body: &str| {
        format!("-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----\n")
    };
    place.write("keys/id_rsa", armour(&secret(c, 64)).as_bytes());
    place.write(
        "keys/notes.txt",
        format!("mine:\n{}bye\n", armour(&secret(c, 64))).as_bytes(),
    );
    place.write(
        "keys/.netrc",
        format!("machine h login u password {}\n", secret(c, 16)).as_bytes(),
    );
    let mut binary = vec![0_u8, 1, 2, 3, 255, 0, 7];
    binary.extend_from_slice(format!("ghp_{}", secret(c, 36)).as_bytes());
    binary.extend_from_slice(&[0, 9, 200]);
    place.write("data.bin", &binary);
    let wide: Vec<u8> = format!("PASSWORD=\"{}\"\r\n", secret(c, 20))
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    place.write("wide.txt", &[&[0xff, 0xfe][..], &wide].concat());
    let invalid = [
        &b"password: \""[..],
        secret(c, 22).as_bytes(),
        b"\"\n\xff\xfe\xfd\n",
    ]
    .concat();
    place.write("invalid.txt", &invalid);
    let chart = c.ssn();
    place.write(
        "report.md",
        format!("# Visit\n\nPatient: J. Doe, SSN {chart}, diagnosis E11.9\n").as_bytes(),
    );
    planted.push(chart);
    place.write("plain.md", b"Nothing here but a \"password\" that is not there: bdr:sealed:v1:password:0011223344556677\n");
    planted
}

fn base64_of(bytes: &[u8]) -> String {
    const CHARS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks(3)
        .map(|three| {
            let n =
                three.iter().fold(0_u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - three.len()));
            let four = [18, 12, 6, 0].map(|shift| char::from(CHARS[(n >> shift & 63) as usize]));
            let text: String = four[..=three.len()].iter().collect();
            format!("{text:=<4}")
        })
        .collect()
}

/// Everything that a stranger could read in a file: it, and what it unpacks to, one after another.
fn readable(bytes: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut inner = Vec::new();
        let _ = flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut inner);
        all.extend(inner);
    }
    all
}

/// Looks for planted values wherever bdr wrote, but for the vault.
#[track_caller]
pub(crate) fn assert_clean(place: &Place, planted: &[String], what: &str) {
    let finder = aho_corasick::AhoCorasick::new(planted).unwrap();
    let mut seen = 0;
    for entry in walkdir::WalkDir::new(place.path("bdr")) {
        let entry = entry.unwrap();
        assert!(
            !finder.is_match(entry.file_name().as_encoded_bytes()),
            "{what}: the name {:?}",
            entry.file_name()
        );
        // Outside of the repository: the vault, and what was kept and is not looked at yet.
        let outside = ["bdr/state/vault", "bdr/repository-staging"];
        if !entry.file_type().is_file()
            || outside
                .iter()
                .any(|dir| entry.path().starts_with(place.path(dir)))
        {
            continue;
        }
        let bytes = readable(&std::fs::read(entry.path()).unwrap());
        seen += 1;
        if let Some(found) = finder.find(&bytes) {
            let from = found.start().saturating_sub(60);
            panic!(
                "{what}: value {} in {}: …{}",
                found.pattern().as_usize(),
                entry.path().display(),
                String::from_utf8_lossy(&bytes[from..found.start()])
            );
        }
    }
    assert!(seen > 3, "{what}: nothing to look at");
}

/// How many trees are made; more of them with `BDR_PRIVACY_TREES`.
fn trees() -> u64 {
    let wanted = std::env::var("BDR_PRIVACY_TREES").ok();
    wanted.and_then(|n| n.parse().ok()).unwrap_or(12)
}

#[test]
fn no_planted_value_gets_into_a_repository_and_undo_is_exact() {
    for seed in 0..trees() {
        let mut chance = Chance::new(seed + 1);
        let place = Place::with_repository();
        place.init();
        let planted = plant(&place, &mut chance);
        let original = picture(&place.tree());
        let secret = chance.text(30);
        let line = format!(
            "rm -rf .env .env.crlf .mcp.json conf events.jsonl keys *.txt *.json* *.bin *.md; echo TOKEN={secret} >/dev/null"
        );
        let command = ["guard", "--", "sh", "-c", &line];
        let mut all = planted.clone();
        all.push(secret.clone());
        // Cut at a random step, then once without.
        let step = 1 + chance.below(60);
        let output = place
            .bdr(&command)
            .env("BDR_TEST_CRASH_AT", step.to_string())
            .output()
            .unwrap();
        let what = format!("tree {seed}, cut at {step}");
        assert_clean(&place, &all, &what);
        if output.status.signal() == Some(6) {
            if !place.tree().join(".env").exists() {
                place.run(&["undo", "--yes"], 0);
            }
            assert_same(&original, &picture(&place.tree()), &what);
            place.run(&command, 0);
        }
        assert!(
            !place.tree().join(".env").exists(),
            "{what}: {}",
            stderr(&output)
        );
        place.run(&["undo", "--yes"], 0);
        assert_same(&original, &picture(&place.tree()), &what);
        // A full backup reads everything again, an export and a status say what there is.
        place.run(&["backup", "--full"], 0);
        place.run(&["verify", "--level", "full"], 0);
        let said = [
            place.run(&["log"], 0).stdout,
            place.run(&["scan"], 0).stdout,
            place.run(&["status"], 0).stdout,
            place
                .bdr(&["restore", "--dry-run", "latest", ".env"])
                .output()
                .unwrap()
                .stdout,
            place
                .bdr(&["cat", "latest", ".env"])
                .output()
                .unwrap()
                .stdout,
        ]
        .concat();
        let said = String::from_utf8_lossy(&said);
        assert!(
            !all.iter().any(|v| said.contains(v.as_str())),
            "{what}: {said}"
        );
        assert_clean(&place, &all, &what);
    }
}

/// Makes a place with one file that was backed up, and returns its original.
fn sealed(name: &str, content: &str) -> Place {
    let place = Place::with_repository();
    place.write(name, content.as_bytes());
    place.init();
    place
}

/// The snapshot of `init`: later ones were taken before restores.
fn first_snapshot(place: &Place) -> String {
    let list = place.json(&["list"]);
    let snapshots = list["snapshots"].as_array().unwrap();
    let of = |s: &serde_json::Value| s["trigger"] == "init";
    let first = snapshots.iter().find(|s| of(s)).unwrap();
    first["id"].as_str().unwrap().to_owned()
}

fn read(place: &Place, name: &str) -> String {
    std::fs::read_to_string(place.tree().join(name)).unwrap()
}

fn lose_the_vault(place: &Place) {
    for entry in walkdir::WalkDir::new(place.path("bdr/state/vault")) {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|e| e == "vault") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
}

/// One file in six formats: two secrets and a setting.
fn formats(first: &str, second: &str, setting: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (
            ".env",
            format!("# c\nexport API_KEY=\"{first}\"\nDB_PASSWORD={second}\nMODE={setting}\n"),
        ),
        (
            "a.json",
            format!(
                "{{\n  \"apiKey\": \"{first}\",\n  \"db\": {{\n    \"password\": \"{second}\"\n  }},\n  \"mode\": \"{setting}\"\n}}\n"
            ),
        ),
        (
            "a.jsonc",
            format!(
                "{{\n  // c\n  \"apiKey\": \"{first}\",\n  \"db\": {{ \"password\": \"{second}\" }},\n  \"mode\": \"{setting}\",\n}}\n"
            ),
        ),
        (
            "a.toml",
            format!(
                "apiKey = \"{first}\"\nmode = \"{setting}\"\n\n[db]\npassword = \"{second}\"\n"
            ),
        ),
        (
            "a.yaml",
            format!("apiKey: \"{first}\"\nmode: {setting}\ndb:\n  password: {second}\n"),
        ),
        (
            "a.jsonl",
            format!(
                "{{\"apiKey\":\"{first}\"}}\n{{\"mode\":\"{setting}\"}}\n{{\"password\":\"{second}\"}}\n"
            ),
        ),
    ])
}

#[test]
fn a_restore_keeps_what_stands_and_never_writes_a_placeholder() {
    let mut chance = Chance::new(77);
    let (one, second, newer) = (chance.text(30), chance.text(20), chance.text(30));
    for (name, content) in formats(&one, &second, "old") {
        let other = &formats(&one, &second, "new")[name];
        let rotated = &formats(&newer, &second, "new")[name];
        // 1. The same values stand there: the rest is restored, they stay.
        let place = sealed(name, &content);
        let id = first_snapshot(&place);
        place.write(name, other.as_bytes());
        place.run(&["restore", "--yes", &id, name], 0);
        assert_eq!(read(&place, name), content, "{name}: same");
        // 2. Another value stands there: it was rotated since, and stays.
        place.write(name, rotated.as_bytes());
        place.run(&["restore", "--yes", &id, name], 0);
        let kept = if name == "a.jsonl" {
            content.clone()
        } else {
            formats(&newer, &second, "old")[name].clone()
        };
        assert_eq!(read(&place, name), kept, "{name}: rotated");
        // … unless it is wanted otherwise.
        place.write(name, rotated.as_bytes());
        place.run(
            &["restore", "--yes", "--secrets", "from-vault", &id, name],
            0,
        );
        assert_eq!(read(&place, name), content, "{name}: from the vault");
        // 3. The file is gone, or lacks it: the vault has it.
        std::fs::remove_file(place.tree().join(name)).unwrap();
        place.run(&["restore", "--yes", &id, name], 0);
        assert_eq!(read(&place, name), content, "{name}: gone");
        // 4. Nobody has it: the file that stands there is not touched.
        lose_the_vault(&place);
        std::fs::remove_file(place.tree().join(name)).unwrap();
        place.run(&["restore", "--yes", &id, name], 3);
        assert!(
            !place.tree().join(name).exists(),
            "{name}: a placeholder went live"
        );
        let aside = read(&place, &format!("{name}.bdr-restored"));
        assert!(
            aside.contains("bdr:sealed:v1:") && !aside.contains(&one),
            "{name}: {aside}"
        );
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &place
                .tree()
                .join(format!("{name}.bdr-restored"))
                .metadata()
                .unwrap()
                .permissions(),
        );
        assert_eq!(mode & 0o777, 0o600, "{name}");
        std::fs::remove_file(place.tree().join(format!("{name}.bdr-restored"))).unwrap();
        place.write(name, b"other\n");
        place.run(&["restore", "--yes", &id, name], 3);
        assert_eq!(
            read(&place, name),
            "other\n",
            "{name}: what stood there is gone"
        );
        // What stands there has the values: that is enough, without a vault.
        place.write(name, other.as_bytes());
        place.run(&["restore", "--yes", &id, name], 0);
        assert_eq!(
            read(&place, name),
            content,
            "{name}: from what stands there"
        );
    }
}

#[test]
fn secrets_that_only_stand_there_stay_unless_they_are_to_go() {
    let mut chance = Chance::new(78);
    let (one, second, extra) = (chance.text(30), chance.text(20), chance.text(26));
    for (name, content) in formats(&one, &second, "old") {
        let added = match name {
            ".env" => format!("{content}EXTRA_TOKEN={extra}\n"),
            "a.toml" => format!("{content}extra_token = \"{extra}\"\n"),
            "a.yaml" => format!("{content}  extra_token: {extra}\n"),
            "a.jsonl" => continue,
            _ => content.replace(
                "\"password\"",
                &format!("\"extra_token\": \"{extra}\", \"password\""),
            ),
        };
        let place = sealed(name, &content);
        let id = first_snapshot(&place);
        place.write(name, added.replace("old", "new").as_bytes());
        place.run(&["restore", "--yes", &id, name], 0);
        let now = read(&place, name);
        assert!(now.contains(&extra) && now.contains("old"), "{name}: {now}");
        assert_eq!(now.matches(&extra).count(), 1, "{name}: {now}");
        place.run(&["restore", "--yes", "--exact", &id, name], 0);
        assert_eq!(read(&place, name), content, "{name}");
    }
}

#[test]
fn the_environment_and_blanks_stand_in_for_a_lost_vault() {
    let mut chance = Chance::new(79);
    let (one, second) = (chance.text(30), chance.text(20));
    let content = &formats(&one, &second, "old")[".env"];
    let place = sealed(".env", content);
    let id = first_snapshot(&place);
    lose_the_vault(&place);
    std::fs::remove_file(place.tree().join(".env")).unwrap();
    // A value of that name that is another is not taken.
    let restore = |api: &str, password: &str, args: &[&str]| {
        let output = place
            .bdr(&[&["restore", "--yes", &id, ".env"], args].concat())
            .env("API_KEY", api)
            .env("DB_PASSWORD", password)
            .output()
            .unwrap();
        output.status.code()
    };
    assert_eq!(restore(&second, &second, &[]), Some(3));
    assert!(!place.tree().join(".env").exists());
    assert_eq!(restore(&one, &second, &[]), Some(0));
    assert_eq!(&read(&place, ".env"), content);
    std::fs::remove_file(place.tree().join(".env")).unwrap();
    assert_eq!(restore("", "", &["--leave-blank"]), Some(0));
    let blank = read(&place, ".env");
    assert!(
        blank.contains("# API_KEY=") && blank.contains("MODE=old") && !blank.contains("bdr:sealed"),
        "{blank}"
    );
}

#[test]
fn a_vault_that_is_lost_is_filled_again_while_the_values_stand() {
    let mut chance = Chance::new(80);
    let content = format!("API_KEY={}\n", chance.text(32));
    let place = sealed(".env", &content);
    let id = first_snapshot(&place);
    lose_the_vault(&place);
    place.run(&["guard", "--", "rm", ".env"], 0);
    place.run(&["undo", "--yes"], 0);
    assert_eq!(read(&place, ".env"), content);
    // Cut short, or of another machine: nothing is made up.
    for entry in walkdir::WalkDir::new(place.path("bdr/state/vault")) {
        let entry = entry.unwrap();
        if entry.path().extension().is_some_and(|e| e == "vault") {
            let bytes = std::fs::read(entry.path()).unwrap();
            std::fs::write(entry.path(), &bytes[..bytes.len() - 5]).unwrap();
        }
    }
    std::fs::remove_file(place.tree().join(".env")).unwrap();
    place.run(&["restore", "--yes", &id, ".env"], 3);
    assert!(!place.tree().join(".env").exists());
    let keys = walkdir::WalkDir::new(place.path("bdr/state/vault"));
    for entry in keys.into_iter().map(Result::unwrap) {
        if entry.file_name() == "fingerprint.key" {
            std::fs::write(entry.path(), [7; 32]).unwrap();
        }
    }
    std::fs::remove_file(place.tree().join(".env.bdr-restored")).unwrap();
    place.run(&["restore", "--yes", &id, ".env"], 3);
    assert!(!place.tree().join(".env").exists());
}

#[test]
fn without_a_vault_a_guard_says_before_what_would_not_come_back() {
    let mut chance = Chance::new(81);
    let place = Place::with_repository();
    place.write(".env", format!("API_KEY={}\n", chance.text(32)).as_bytes());
    place.init();
    place.configure("[privacy]\nvault = \"off\"\n");
    // It was sealed while there was a vault; from now on nothing new is kept.
    let newer = format!("API_KEY={}\n", chance.text(32));
    place.write(".env", newer.as_bytes());
    let output = place.run(&["guard", "--", "sh", "-c", "echo ran >&2; rm .env"], 0);
    let said = stderr(&output);
    let (warned, ran) = (said.find("not captured"), said.find("ran"));
    assert!(warned.is_some() && warned < ran, "{said}");
    place.run(&["undo", "--yes"], 3);
    assert!(!place.tree().join(".env").exists());
    assert!(read(&place, ".env.bdr-restored").contains("bdr:sealed:v1:"));
    // That is no damage.
    place.run(&["drill"], 0);
}

#[test]
fn a_file_that_is_a_root_of_its_own_is_written_beside_too() {
    let mut chance = Chance::new(83);
    let place = Place::with_repository();
    place.init();
    place.configure("[privacy]\nvault = \"off\"\n");
    let alone = place.path("alone");
    std::fs::create_dir(&alone).unwrap();
    let file = alone.join(".env");
    std::fs::write(&file, format!("API_KEY={}\n", chance.text(32))).unwrap();
    place.run(&["guard", "--", "rm", file.to_str().unwrap()], 0);
    place.run(&["undo", "--yes"], 3);
    assert!(!file.exists(), "something else was put in its place");
    let aside = std::fs::read_to_string(alone.join(".env.bdr-restored")).unwrap();
    assert!(aside.contains("bdr:sealed:v1:"), "{aside}");
}

/// A stand-in for libsecret's program that keeps what it is given in a file, or never answers.
#[cfg(target_os = "linux")]
fn keychain(place: &Place, answers: bool) {
    use std::os::unix::fs::PermissionsExt as _;
    let kept = place.path("keychain");
    let script = match answers {
        true => format!(
            "#!/bin/sh\nf='{}'\ncase $1 in\nstore) cat >$f ;;\nlookup) cat $f 2>/dev/null ;;\nclear) rm -f $f ;;\nesac\n",
            kept.display()
        ),
        false => "#!/bin/sh\nexec sleep 60\n".to_owned(),
    };
    std::fs::create_dir_all(place.path("bin")).unwrap();
    let file = place.path("bin/secret-tool");
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn the_key_moves_into_the_keychain_and_out_again() {
    let mut chance = Chance::new(89);
    let content = format!("API_KEY={}\n", chance.text(32));
    let place = sealed(".env", &content);
    let vault_of = |place: &Place, name: &str| {
        let all = walkdir::WalkDir::new(place.path("bdr"));
        let all = all.into_iter().map(Result::unwrap);
        all.filter(|e| e.file_name() == name)
            .map(|e| e.path().to_path_buf())
            .collect::<Vec<_>>()
    };
    let path = format!(
        "{}:{}",
        place.path("bin").display(),
        std::env::var("PATH").unwrap()
    );
    let run = |args: &[&str]| {
        let output = place.bdr(args).env("PATH", &path).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stderr(&output) + &String::from_utf8_lossy(&output.stdout)
    };
    let exact = |there: bool| {
        run(&["guard", "--", "rm", ".env"]);
        assert!(!place.tree().join(".env").exists());
        run(&["undo", "--yes"]);
        assert_eq!(read(&place, ".env"), content);
        assert_eq!(vault_of(&place, "vault.key").is_empty(), there);
        assert_eq!(vault_of(&place, "vault.keychain").is_empty(), !there);
        let said = run(&["status"]);
        let place = if there {
            "key in a keychain"
        } else {
            "key in a file"
        };
        assert!(said.contains(place), "{said}");
    };
    exact(false);
    // One that does not answer: the key stays where it is.
    run(&["config", "set", "privacy.vault", "keychain"]);
    keychain(&place, false);
    exact(false);
    // It is tried again the day after.
    keychain(&place, true);
    exact(false);
    std::fs::remove_file(vault_of(&place, "keychain.tried").remove(0)).unwrap();
    exact(true);
    assert_eq!(std::fs::read(place.path("keychain")).unwrap().len(), 64);
    // What is there decides, not what the default would be.
    run(&["config", "unset", "privacy.vault"]);
    exact(true);
    run(&["config", "set", "privacy.vault", "file"]);
    exact(false);
    assert!(!place.path("keychain").exists());
    // A key that is somewhere else, and locked there, is not made anew.
    let key = vault_of(&place, "vault.key").remove(0);
    std::fs::rename(&key, key.with_file_name("vault.keychain")).unwrap();
    run(&["config", "unset", "privacy.vault"]);
    keychain(&place, false);
    let said = run(&["guard", "--", "sh", "-c", "echo ran >&2; rm .env"]);
    let (warned, ran) = (said.find("not captured"), said.find("ran\n"));
    assert!(warned.is_some() && warned < ran, "{said}");
    let said = run(&["status"]);
    assert!(said.contains("the keychain is locked"), "{said}");
    assert!(vault_of(&place, "vault.key").is_empty());
}

#[test]
fn a_home_that_was_deleted_takes_no_sealed_value_along() {
    let mut chance = Chance::new(90);
    let content = format!("API_KEY={}\n", chance.text(32));
    let place = Place::with_repository();
    place.write(".env", content.as_bytes());
    let source = format!("tree={}", place.tree().display());
    let run = |args: &[&str]| {
        let lifeboat = place.path("lifeboat");
        let mut bdr = place.bdr(args);
        bdr.env("BDR_LIFEBOAT", lifeboat).env("BDR_BACKGROUND", "0");
        let output = bdr.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    };
    run(&["init", "--yes", "--source", &source]);
    run(&["guard", "--", "rm", ".env"]);
    std::fs::remove_dir_all(place.path("bdr")).unwrap();
    run(&["undo", "--yes"]);
    assert_eq!(read(&place, ".env"), content);
}

#[test]
fn what_a_column_says_counts_in_rows_that_come_later() {
    let mut chance = Chance::new(97);
    let place = Place::with_repository();
    place.init();
    let header = "visit,first_name,date_of_birth,diagnosis\r\n";
    let mut planted = Vec::new();
    let mut row = |chance: &mut Chance| {
        let name = chance.text(16);
        planted.push(name.clone());
        format!("7,{name},1971-03-09,J45.909\r\n")
    };
    // Rows of nobody around rows of patients: a small table, and one that is read in pieces.
    let nobody = "7,,,nothing to see here and nobody to be seen\r\n";
    let mut small = header.to_owned() + &nobody.repeat(600) + &row(&mut chance);
    let mut large = header.to_owned();
    for _ in 0..3 {
        let long = format!("7,,,{}\r\n", "nothing to see ".repeat(200));
        large += &long.repeat((5 << 20) / long.len());
        large += &row(&mut chance);
    }
    let mut unsealed = header.to_owned() + &nobody.repeat(600);
    for round in 0..2 {
        for (name, text) in [
            ("small.csv", &mut small),
            ("large.csv", &mut large),
            ("unsealed.csv", &mut unsealed),
        ] {
            if round > 0 {
                *text += &nobody.repeat(round);
                *text += &row(&mut chance);
            }
            place.write(name, text.as_bytes());
        }
        let original = picture(&place.tree());
        place.run(&["backup"], 0);
        let names = ["small.csv", "large.csv", "unsealed.csv"];
        let guarded = [&["guard", "--", "rm"], &names[..]].concat();
        place.run(&guarded, 0);
        place.run(&["undo", "--yes"], 0);
        assert_same(&original, &picture(&place.tree()), "tables");
    }
    assert_clean(&place, &planted, "tables");
}

#[test]
fn large_files_are_sealed_wherever_the_value_lies() {
    let mut chance = Chance::new(82);
    let place = Place::with_repository();
    place.init();
    let mut planted = Vec::new();
    // Values at and around the borders of windows, on lines and on one line that never ends.
    let mut log = Vec::new();
    let mut single = b"{\"a\":\"".to_vec();
    let window = 4 << 20;
    for border in 1..4_usize {
        for offset in [0_usize, 7, 33, 500] {
            let value = chance.text(36);
            let at = border * window - offset - border * 600;
            while log.len() + 60 < at {
                log.extend_from_slice(b"{\"n\":1,\"s\":\"nothing to see here, go on\"}\n");
            }
            log.extend_from_slice(format!("{{\"api_key\":\"{value}\"}}\n").as_bytes());
            if single.len() < at {
                single.resize(at, b'x');
            }
            single.extend_from_slice(format!("\",\"api_key\":\"{value}\",\"b\":\"").as_bytes());
            planted.push(value);
        }
    }
    single.extend_from_slice(b"\"}");
    place.write("big.jsonl", &log);
    place.write("single.json", &single);
    let original = picture(&place.tree());
    place.run(&["backup"], 0);
    assert_clean(&place, &planted, "large files");
    place.run(&["guard", "--", "rm", "big.jsonl", "single.json"], 0);
    place.run(&["undo", "--yes"], 0);
    assert_same(&original, &picture(&place.tree()), "large files");
    // Appended to, as logs are.
    let more = chance.text(36);
    let mut file = std::fs::File::options()
        .append(true)
        .open(place.tree().join("big.jsonl"))
        .unwrap();
    std::io::Write::write_all(
        &mut file,
        format!("{{\"api_key\":\"{more}\"}}\n").as_bytes(),
    )
    .unwrap();
    planted.push(more);
    let original = picture(&place.tree());
    place.run(&["guard", "--", "rm", "big.jsonl"], 0);
    assert_clean(&place, &planted, "an appended log");
    place.run(&["undo", "--yes"], 0);
    assert_same(&original, &picture(&place.tree()), "an appended log");
}

/// It is read in windows, and each has to know whether it begins in a literal.
#[test]
fn a_large_program_is_sealed_in_its_literals_only() {
    let mut chance = Chance::new(83);
    let place = Place::with_repository();
    place.init();
    let (value, code) = (
        chance.text(36),
        "client_secret = q7Tz4mPw9LrB2xYcV8nK3dJf(z);\n",
    );
    let mut program = String::new();
    let fill = |program: &mut String, to: usize, line: &str| {
        while program.len() < to {
            program.push_str(line);
        }
    };
    fill(&mut program, 5 << 20, "let x = call(&a, 'b');\n");
    program.push_str(code);
    program.push_str("let sql = r#\"\n");
    fill(&mut program, 9 << 20, "it's a \"text\" of many lines\n");
    program.push_str(&format!("api_key={value}\n\"#;\n{code}"));
    fill(&mut program, 10 << 20, "let x = call(&a, 'b');\n");
    program.push_str(code);
    place.write("big.rs", program.as_bytes());
    let original = picture(&place.tree());
    place.run(&["backup"], 0);
    assert_clean(&place, std::slice::from_ref(&value), "a large program");
    place.run(&["guard", "--", "rm", "big.rs"], 0);
    place.run(&["undo", "--yes"], 0);
    assert_same(&original, &picture(&place.tree()), "a large program");
    // Without the vault all of it is there but the value.
    place.run(&["backup"], 0);
    lose_the_vault(&place);
    std::fs::remove_file(place.tree().join("big.rs")).unwrap();
    place.run(&["restore", "--yes", "latest", "big.rs"], 3);
    let stored = read(&place, "big.rs.bdr-restored");
    assert_eq!(stored.matches("bdr:sealed:").count(), 1);
    assert_eq!(stored.matches(code).count(), 3);
}

/// What was sealed for nothing is stored in the clear as soon as the rules say so, without a change.
#[test]
fn what_rules_seal_no_more_is_stored_in_the_clear_by_the_next_backup() {
    let mut chance = Chance::new(84);
    let content = format!("API_KEY={}\nMODE=1\n", chance.text(32));
    let place = sealed("old.env", &content);
    let file = place.tree().join("old.env");
    place.run(
        &[
            "privacy",
            "allow",
            file.to_str().unwrap(),
            "--reason",
            "a test",
        ],
        0,
    );
    assert_eq!(place.json(&["backup"])["sealed"]["files"], 0);
    lose_the_vault(&place);
    std::fs::remove_file(&file).unwrap();
    place.run(&["restore", "--yes", "latest", "old.env"], 0);
    assert_eq!(read(&place, "old.env"), content);
}

/// What is gone from the disk was sealed for nothing in old snapshots as well: they get it back while
/// the vault has it.
#[test]
fn what_rules_seal_no_more_comes_back_into_old_snapshots_from_the_vault() {
    let mut chance = Chance::new(85);
    let place = Place::with_repository();
    let (one, two, other) = (chance.text(32), chance.text(32), chance.text(32));
    let env = format!("API_KEY={one}\nMODE=1\n");
    place.write("old.env", env.as_bytes());
    // All of it is in the vault.
    place.write("store.kdbx", two.as_bytes());
    place.write("stays.env", format!("API_KEY={other}\n").as_bytes());
    // The same, but where nothing is let through: before the other in the listing, and after it.
    for same in ["a/old.env", "z/old.env"] {
        place.write(same, env.as_bytes());
    }
    place.init();
    let id = first_snapshot(&place);
    let names = ["old.env", "store.kdbx"];
    for name in names {
        let file = place.tree().join(name);
        std::fs::remove_file(&file).unwrap();
        let file = file.to_str().unwrap();
        place.run(&["privacy", "allow", file, "--reason", "a test"], 0);
    }
    for same in ["a", "z"] {
        std::fs::remove_dir_all(place.tree().join(same)).unwrap();
    }
    place.run(&["backup"], 0);
    let report = place.json(&["privacy", "rescan"]);
    assert_eq!(report["opened"].as_array().unwrap().len(), 2, "{report}");
    assert_eq!(report["exposed"].as_array().unwrap().len(), 0, "{report}");
    place.run(&["privacy", "rescan", "--purge", "--yes"], 0);
    place.run(&["verify", "--level", "full"], 0);
    let report = place.json(&["privacy", "rescan"]);
    assert_eq!(report["opened"].as_array().unwrap().len(), 0, "{report}");
    assert_clean(&place, &[other], "what stays sealed");
    lose_the_vault(&place);
    for same in ["a/old.env", "z/old.env"] {
        place.run(&["restore", "--yes", &id, same], 3);
        assert!(!place.tree().join(same).exists(), "{same}");
    }
    for name in names {
        place.run(&["restore", "--yes", &id, name], 0);
    }
    assert_eq!((read(&place, names[0]), read(&place, names[1])), (env, two));
}

#[test]
fn a_log_that_grows_is_sealed_line_by_line() {
    let mut chance = Chance::new(88);
    let place = Place::with_repository();
    let mut planted = Vec::new();
    let mut log = "{\"n\":1,\"s\":\"nothing to see here\"}\n".repeat(2000);
    place.write("grow.jsonl", log.as_bytes());
    place.init();
    for round in 0..8 {
        // The last line is torn at times, and finished later.
        let value = chance.text(30);
        let line = format!("{{\"n\":{round},\"api_key\":\"{value}\"}}\n");
        let (head, tail) = line.split_at(if round % 3 == 1 { 20 } else { line.len() });
        for part in [head, tail].into_iter().filter(|part| !part.is_empty()) {
            log.push_str(part);
            place.write("grow.jsonl", log.as_bytes());
            place.run(&["guard", "--", "sh", "-c", ": > other"], 0);
        }
        if round != 4 {
            planted.push(value);
        } else {
            // Rewritten from the beginning: what was appended before is gone.
            log = log.replace(&value, "changed");
            planted.push(value);
        }
        assert_clean(&place, &planted, &format!("round {round}"));
    }
    place.write("grow.jsonl", log.as_bytes());
    place.run(&["guard", "--", "rm", "grow.jsonl"], 0);
    assert_clean(&place, &planted, "grown");
    place.run(&["undo", "--yes"], 0);
    assert_eq!(read(&place, "grow.jsonl"), log);
}

#[test]
fn a_secret_in_a_name_or_a_command_is_not_written_down() {
    let mut chance = Chance::new(86);
    let place = Place::with_repository().watched();
    let token = format!("ghp_{}", chance.text(36));
    let word = chance.text(28);
    place.write(&format!("dir/{token}.txt"), b"x");
    place.write("dir/other.txt", b"y");
    place.init();
    let output = place.run(
        &[
            "guard",
            "--label",
            &format!("with {token}"),
            "--",
            "sh",
            "-c",
            "rm dir/other.txt",
            "--api-key",
            &word,
        ],
        0,
    );
    assert!(
        stderr(&output).contains("a secret in its name"),
        "{}",
        stderr(&output)
    );
    assert_clean(&place, &[token.clone(), word.clone()], "names and commands");
    let log = place.run(&["log"], 0);
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(
        log.contains("bdr:sealed:v1:github-token") && !log.contains(&word),
        "{log}"
    );
    place.run(&["undo", "--yes"], 0);
    assert_eq!(read(&place, "dir/other.txt"), "y");
    assert!(place.tree().join(format!("dir/{token}.txt")).exists());
}

#[test]
fn what_was_let_through_is_purged_from_every_snapshot() {
    let mut chance = Chance::new(87);
    let place = Place::with_repository().watched();
    let (one, two) = (chance.text(32), chance.text(32));
    let (first, second) = (
        format!("API_KEY={one}\nMODE=1\n"),
        format!("API_KEY={two}\nMODE=22\n"),
    );
    place.write(".env", first.as_bytes());
    place.write("notes.md", b"plain");
    place.write("big.txt", "nothing to see\n".repeat(4000).as_bytes());
    place.init();
    let why = place.json(&["privacy", "why", ".env"]);
    let fingerprint = why["findings"][0]["fingerprint"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(why["findings"][0]["key"], "API_KEY");
    assert!(!why.to_string().contains(&one));
    place.run(
        &["privacy", "allow", &fingerprint, "--reason", "a # test"],
        0,
    );
    let other = place.tree().join(".env");
    place.run(
        &[
            "privacy",
            "allow",
            other.to_str().unwrap(),
            "--reason",
            "all of it",
        ],
        0,
    );
    // Now it is stored as is, by a full backup, an incremental one, and a guard.
    place.run(&["backup", "--full"], 0);
    place.write(".env", second.as_bytes());
    place.run(&["backup"], 0);
    place.run(&["guard", "--", "rm", ".env"], 0);
    let planted = [one.clone(), two.clone()];
    let leaks = std::panic::catch_unwind(|| assert_clean(&place, &planted, "let through")).is_err();
    assert!(
        leaks,
        "nothing was stored in the clear: this test tests nothing"
    );
    place.run(&["privacy", "revoke", &fingerprint], 0);
    place.run(&["privacy", "revoke", other.to_str().unwrap()], 0);
    let found = place.json(&["privacy", "rescan"]);
    assert_eq!(found["exposed"][0]["path"], "tree/.env", "{found}");
    // Without a word it does nothing; then it is cut at every third step.
    place.run(&["privacy", "rescan", "--purge"], 2);
    let mut step = 1;
    loop {
        let output = place
            .bdr(&["privacy", "rescan", "--purge", "--yes"])
            .env("BDR_TEST_CRASH_AT", step.to_string())
            .output()
            .unwrap();
        place.run(&["verify", "--level", "full"], 0);
        if output.status.signal() != Some(6) {
            // What a cut left half written is too young to be removed.
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 3)), "{}", stderr(&output));
            break;
        }
        step += 3;
    }
    assert!(step > 6, "cut at {step} only");
    let later = (crate::support::now() + chrono::TimeDelta::hours(1)).to_rfc3339();
    place.run_at(&later, &["privacy", "rescan", "--purge", "--yes"], 0);
    assert_clean(&place, &planted, "purged");
    place.run(&["undo", "--yes"], 0);
    assert_eq!(read(&place, ".env"), second);
    place.run(
        &[
            "restore",
            "--yes",
            "--target",
            place.path("out").to_str().unwrap(),
            &first_snapshot(&place),
        ],
        0,
    );
    let back = std::fs::read_to_string(place.path("out/tree/.env")).unwrap();
    assert_eq!(back, first);
    place.write("notes.md", b"changed");
    place.run(&["backup"], 0);
    place.run(&["verify", "--level", "full"], 0);
    assert_clean(&place, &planted, "after the purge");
}

#[test]
fn new_rules_are_for_what_did_not_change_as_well() {
    let mut chance = Chance::new(88);
    let place = Place::with_repository();
    let (one, two) = (chance.text(32), chance.text(32));
    let env = format!("API_KEY={one}\nMODE=1\n");
    let mut log = "a line of a log that says nothing at all\n".repeat(2000);
    log.push_str(&format!("{{\"api_key\": \"{two}\"}}\n"));
    place.write(".env", env.as_bytes());
    place.write("run.jsonl", log.as_bytes());
    place.write("notes.md", b"plain");
    place.init();
    let files = [".env", "run.jsonl"].map(|name| place.tree().join(name));
    for file in &files {
        let file = file.to_str().unwrap();
        place.run(&["privacy", "allow", file, "--reason", "a test"], 0);
    }
    let seals = || place.json(&["backup"])["sealed"]["files"].as_u64();
    assert_eq!(seals(), Some(0), "what is let through is stored as is");
    log.push_str("and one line more\n");
    place.write("run.jsonl", log.as_bytes());
    assert_eq!(seals(), Some(0));
    for file in &files {
        place.run(&["privacy", "revoke", file.to_str().unwrap()], 0);
    }
    // A guard looks at what changes only; the next backup at everything, once.
    place.run(&["guard", "--", "touch", "new"], 0);
    assert_eq!(seals(), Some(2));
    assert_eq!(place.json(&["backup"])["read_bytes"], 0);
    place.run(&["verify", "--level", "full"], 0);
    // Nothing of the newest snapshot is built upon what was stored in the clear.
    place.run(&["privacy", "rescan", "--purge", "--yes"], 0);
    assert_clean(&place, &[one, two], "after new rules");
    place.run(&["guard", "--", "rm", ".env", "run.jsonl"], 0);
    place.run(&["undo", "--yes"], 0);
    assert_eq!(
        (read(&place, ".env"), read(&place, "run.jsonl")),
        (env, log)
    );
}

#[test]
fn ten_thousand_findings_in_one_file_come_back() {
    let mut chance = Chance::new(83);
    let place = Place::with_repository();
    let mut text = String::new();
    let mut planted = Vec::new();
    for n in 0..10_000 {
        let value = chance.text(24);
        text.push_str(&format!("KEY_{n}_TOKEN={value}\n"));
        planted.push(value);
    }
    place.write(".env", text.as_bytes());
    place.init();
    assert_clean(&place, &planted, "ten thousand");
    place.run(&["guard", "--", "rm", ".env"], 0);
    place.run(&["undo", "--yes"], 0);
    assert_eq!(read(&place, ".env"), text);
}

#[test]
fn a_stranger_restores_everything_but_the_values() {
    let mut chance = Chance::new(84);
    let place = Place::with_repository();
    let planted = plant(&place, &mut chance);
    place.init();
    place.run(&["backup", "--full"], 0);
    let out = place.path("out");
    let Ok(output) = std::process::Command::new("python3")
        .arg(place.store().join("recover.py"))
        .args(["restore", "latest"])
        .arg(&out)
        .output()
    else {
        println!("SKIPPED: no python3: recover.py is not tried on sealed files");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let out = out.join("tree");
    assert!(out.join("plain.md.bdr-restored").exists(), "{said}");
    assert!(
        !out.join(".env").exists() && out.join(".env.bdr-restored").exists(),
        "{said}"
    );
    assert!(
        !out.join("keys/id_rsa").exists() && !out.join("report.md").exists(),
        "{said}"
    );
    let mut all = Vec::new();
    for entry in walkdir::WalkDir::new(&out).into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() {
            all.extend(std::fs::read(entry.path()).unwrap());
        }
    }
    let all = String::from_utf8_lossy(&all);
    assert!(!planted.iter().any(|v| all.contains(v.as_str())));
}

#[test]
fn prune_takes_what_nobody_needs_out_of_the_vault() {
    let mut chance = Chance::new(85);
    let place = Place::with_repository();
    place.write(".env", format!("API_KEY={}\n", chance.text(32)).as_bytes());
    place.init_at("2026-01-01T12:00:00Z");
    let values = || {
        let dir = walkdir::WalkDir::new(place.path("bdr/state/vault"));
        let files = dir.into_iter().map(Result::unwrap);
        files
            .filter(|e| e.path().extension().is_some_and(|e| e == "vault"))
            .map(|e| e.path().metadata().unwrap().len())
            .sum::<u64>()
    };
    let one = values();
    assert!(one > 0);
    place.write(".env", format!("API_KEY={}\n", chance.text(32)).as_bytes());
    place.run_at("2026-01-02T12:00:00Z", &["backup", "--full"], 0);
    assert!(values() > one);
    let old = filetime(&place.path("bdr/state/vault"));
    assert!(old > 0);
    // All but the newest go.
    let list = place.json_at("2026-01-20T12:00:00Z", &["list"], 0);
    let first = list["snapshots"][0]["id"].as_str().unwrap().to_owned();
    place.run_at("2026-01-20T12:00:00Z", &["forget", "--yes", &first], 0);
    place.run_at("2026-01-24T12:00:00Z", &["prune", "--yes"], 0);
    assert!(values() <= one, "{} after {one}", values());
    std::fs::remove_file(place.tree().join(".env")).unwrap();
    place.run_at(
        "2026-01-24T12:00:00Z",
        &["restore", "--yes", "latest", ".env"],
        0,
    );
}

/// Makes the files of the vault old, as the clock of the tests is.
pub(crate) fn filetime(vault: &Path) -> u64 {
    let mut number = 0;
    for entry in walkdir::WalkDir::new(vault).into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() {
            let file = std::fs::File::options()
                .write(true)
                .open(entry.path())
                .unwrap();
            let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_767_268_800);
            file.set_modified(then).unwrap();
            number += 1;
        }
    }
    number
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 400, failure_persistence: None, ..proptest::prelude::ProptestConfig::default() })]
    /// Whatever the bytes: no panic, ranges in order and within, and sealing is undone exactly.
    #[test]
    fn any_text_is_scanned_and_comes_back(
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            "password", "api_key", "=", ":", "\"", "'", "`", "\\", "\\\"", "\n", "\r\n", " ", ",", "ghp_", "sk-", "eyJ", ".", "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----", "://", "u:p4ssw0rd9@", "{", "}", "[", "]", "(", ")", "$", "${X}", "bdr:sealed:v1:", "generic:", "0011223344556677",
            "aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1gH3jK5", "219-09-9999", "ssn", "patient", "diagnosis", "curl -u ", "Authorization: Bearer ", "==", "<add key=", "value=", "é", "\u{feff}", "\0",
            "kind: Secret", "  data:", "- ", "#", "MSH|^~\\&", "AKIA",
        ]), 0..40),
        strict in proptest::bool::ANY,
        name in proptest::sample::select(vec![".env", "a.json", "a.yaml", "a.toml", "a.ini", "a.jsonl", "a.md", "a.txt", "a.py"]),
    ) {
        use bdr::privacy::{Fingerprint, Profile, Rules, examine, seal};
        let text = pieces.concat().into_bytes();
        let rules = Rules::new(if strict { Profile::Strict } else { Profile::Hipaa });
        let found = examine(name.as_bytes(), &text, &rules);
        let mut end = 0;
        for (range, _) in &found.seals {
            proptest::prop_assert!(range.start >= end && range.end <= text.len() && range.start < range.end);
            end = range.end;
        }
        let mut values: Vec<Vec<u8>> = Vec::new();
        let sealed = seal::seal(&text, &found.seals, &mut |value, _| {
            values.push(value.to_vec());
            Some(Fingerprint((values.len() as u64).to_be_bytes()))
        });
        let mut lookup = |f: Fingerprint| values.get(u64::from_be_bytes(f.0) as usize - 1).cloned();
        let mut unsealer = seal::Unsealer::new(&mut lookup);
        let mut back = unsealer.push(&sealed);
        back.extend(unsealer.finish());
        proptest::prop_assert_eq!(back, text);
    }
}
