//! Secrets in places where they are easily overlooked: each planted value is sealed, or the documents say that it is not found.

use std::io::Write as _;

use bdr::privacy::{Profile, Rules, Treatment, examine};

use crate::privacy::{Chance, assert_clean};
use crate::support::Place;
use crate::support::cli::stderr;

fn token(chance: &mut Chance) -> String {
    format!("ghp_{}", chance.text(36))
}

/// A password as a person's program makes one.
fn password(chance: &mut Chance) -> String {
    format!("Kx7{}!q", chance.text(13))
}

fn treated(name: &str, bytes: &[u8]) -> Treatment {
    examine(name.as_bytes(), bytes, &Rules::new(Profile::Hipaa)).treatment
}

#[track_caller]
fn is_left_out(name: &str, bytes: &[u8]) {
    let treatment = treated(name, bytes);
    assert!(
        matches!(treatment, Treatment::Whole(_)),
        "{name}: {treatment:?}"
    );
}

#[track_caller]
fn is_sealed(name: &str, text: &str, value: &str) {
    let examined = examine(
        name.as_bytes(),
        text.as_bytes(),
        &Rules::new(Profile::Hipaa),
    );
    let at = text.find(value).unwrap();
    let covered = examined
        .seals
        .iter()
        .any(|(range, _)| range.start <= at && at + value.len() <= range.end);
    assert!(covered, "{name}: {text}: {examined:?}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A zip of one member: what stands in its header is all that is read of it.
fn zip(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    let packed = encoder.finish().unwrap();
    let mut out = b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0\0\0\0\0".to_vec();
    out.extend((packed.len() as u32).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend((name.len() as u16).to_le_bytes());
    out.extend([0, 0]);
    out.extend(name.as_bytes());
    out.extend(packed);
    out
}

fn tar(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    builder.append_data(&mut header, name, bytes).unwrap();
    builder.into_inner().unwrap()
}

/// By a program of the system; `None`, loudly, where there is none.
fn piped(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let child = std::process::Command::new(program)
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        println!("SKIPPED: there is no {program}");
        return None;
    };
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}

#[test]
fn what_is_inside_of_archives_and_documents_is_looked_at() {
    let c = &mut Chance::new(301);
    let env = |c: &mut Chance| format!("DB_PASSWORD={}\nNAME=x\n", password(c)).into_bytes();
    let text = |c: &mut Chance| format!("T={}\n", token(c)).into_bytes();
    is_left_out("a.zip", &zip(".env", &env(c)));
    is_left_out("b.zip", &zip("notes.txt", &text(c)));
    is_left_out("c.docx", &zip("word/document.xml", &text(c)));
    is_left_out("d.zip", &zip("home/.ssh/id_rsa", b"anything"));
    is_left_out("a.tar", &tar("app/.env", &env(c)));
    is_left_out("a.tgz", &gzip(&tar("app/.env", &env(c))));
    is_left_out("prod.env.gz", &gzip(&env(c)));
    is_left_out("notes.gz", &gzip(&text(c)));
    let pdf = [
        b"%PDF-1.4\n1 0 obj<</Filter/FlateDecode>>stream\n",
        &zlib(&text(c))[..],
        b"\nendstream endobj\n",
    ];
    is_left_out("a.pdf", &pdf.concat());
    for (program, end) in [("bzip2", "bz2"), ("xz", "xz")] {
        for (name, bytes) in [
            ("notes", text(c)),
            ("prod.env", env(c)),
            ("t.tar", tar(".env", &env(c))),
        ] {
            if let Some(packed) = piped(program, &bytes) {
                is_left_out(&format!("{name}.{end}"), &packed);
            }
        }
    }
    // What has nothing in it is stored as is.
    for clear in [
        zip("notes.txt", b"nothing"),
        gzip(b"nothing"),
        tar("notes.txt", b"nothing"),
        zlib(b"blob 7\0nothing"),
    ] {
        assert_eq!(treated("a.bin", &clear), Treatment::Clear);
    }
}

#[test]
fn a_bomb_ends_within_bounds() {
    // A gigabyte of nothing in a megabyte, then a secret that nobody reaches.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    for _ in 0..1024 {
        encoder.write_all(&zeros).unwrap();
    }
    let bomb = encoder.finish().unwrap();
    assert_eq!(treated("bomb.gz", &bomb), Treatment::Clear);
    let nested = zip("bomb", &bomb);
    assert_eq!(treated("bomb.zip", &nested), Treatment::Clear);
    // Members without number.
    let many = zip("a", b"nothing").repeat(20_000);
    assert_eq!(treated("many.zip", &many), Treatment::Clear);
    for line in ["$(((", "`", "((", "{", "\"$(", "<<<", "if ", "a|"] {
        let around = bdr::effects::Surroundings {
            cwd: std::path::Path::new("/"),
            home: None,
            table: bdr::effects::Table::builtin(),
        };
        let found = bdr::effects::assess_line(&line.repeat((1 << 20) / line.len()), &around);
        assert_eq!(found.effect, bdr::effects::Effect::Unknown, "{line}");
        let short = bdr::effects::assess_line(&line.repeat(60_000 / line.len()), &around);
        assert_ne!(short.effect, bdr::effects::Effect::Read, "{line}");
    }
}

#[test]
fn bytes_that_are_no_text_are_looked_at_as_they_are() {
    let c = &mut Chance::new(302);
    // Two texts of a record of SQLite with nothing between them, in pages that are nearly all zeros.
    for glued in ["", "t", "github"] {
        let mut page = b"SQLite format 3\0".to_vec();
        page.resize(8000, 0);
        page.extend(format!("{glued}{}x", token(c)).as_bytes());
        page.resize(8192, 0);
        is_left_out("app.db", &page);
    }
    let elf = [&b"\x7fELF\0\0\0"[..], token(c).as_bytes(), b"\0"].concat();
    is_left_out("program", &elf);
    let image = [
        &b"\x89PNG\r\n\x1a\n\0\0"[..],
        &b"a"[..],
        token(c).as_bytes(),
        b"\0",
    ]
    .concat();
    is_left_out("a.png", &image);
    let wide: Vec<u8> = format!("API_TOKEN={}\n", token(c))
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    is_left_out("wide.txt", &wide);
    // Text that begins as data of zlib would.
    for start in ["x ", "x?", "x^", "x}", "x started\n"] {
        let value = password(c);
        is_sealed("run.log", &format!("{start} password={value}\n"), &value);
    }
}

#[test]
fn values_under_names_that_only_their_place_explains_are_sealed() {
    let c = &mut Chance::new(303);
    let key = bdr_base64(c);
    is_sealed(
        "config",
        &format!("users:\n- user:\n    client-key-data: {key}\n"),
        &key,
    );
    for part in ["d", "p", "q", "dp", "dq", "qi", "k"] {
        let value = c.text(43);
        let jwk = format!("{{\"kty\":\"RSA\",\"n\":\"x\",\"{part}\":\"{value}\"}}");
        is_sealed("key.json", &jwk, &value);
    }
    let value = password(c);
    let state = format!(
        "{{\"resources\":[{{\"type\":\"random_password\",\"instances\":[{{\"attributes\":{{\"result\":\"{value}\"}}}}]}}]}}"
    );
    is_sealed("terraform.tfstate", &state, &value);
    let value = password(c);
    is_sealed(
        "wpa_supplicant.conf",
        &format!("network={{\n ssid=\"a\"\n psk=\"{value}\"\n}}\n"),
        &value,
    );
    let value = password(c);
    is_sealed(
        "w.nmconnection",
        &format!("[wifi-security]\npsk={value}\n"),
        &value,
    );
    for odd in "!@#%^&*$,?;(<".chars() {
        let value = format!("Kx7{}{odd}{}", c.text(8), c.text(5));
        is_sealed(
            "wp-config.php",
            &format!("<?php\ndefine( 'DB_PASSWORD', '{value}' );\n"),
            &value,
        );
        let json = serde_json::json!({"mcpServers": {"a": {"env": {"FOO": value, "REGION": "us-east-1"}}}});
        let text = json.to_string();
        is_sealed("any.json", &text, &value);
        let examined = examine(b"any.json", text.as_bytes(), &Rules::default());
        assert_eq!(examined.seals.len(), 1, "{text}");
    }
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let blob = engine.encode(format!("DB_PASSWORD={}\n", password(c)));
    is_sealed(".env", &format!("BLOB={blob}\n"), &blob);
}

fn bdr_base64(chance: &mut Chance) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(chance.text(300))
}

/// A command, where `@` stands for the value.
const COMMANDS: &[&str] = &[
    "mysql -u root -p@",
    "mysqldump -p@ db",
    "docker login -u a -p @",
    "podman login -p @ host",
    "sshpass -p @ ssh host",
    "sshpass -p@ ssh host",
    "redis-cli -a @ ping",
    "htpasswd -b file user @",
    "htpasswd -nb user @",
    "openssl enc -k @",
    "openssl enc -pass pass:@",
    "curl -u bob:@ https://x",
    "curl --user bob:@ https://x",
    "http -a bob:@ https://x",
    "7z x -p@ a.7z",
    "unzip -P @ a.zip",
    "ldapsearch -x -w @",
    "keytool -storepass @ -list",
    "mosquitto_pub -P @",
    "PGPASSWORD=@ psql",
    "set -x API_TOKEN @",
    "set -gx DB_PASSWORD @",
    "echo @ | sudo -S true",
    "mytool --password @",
    "mytool --passphrase=@",
];

#[test]
fn values_on_command_lines_are_sealed_wherever_the_command_stands() {
    let c = &mut Chance::new(304);
    for command in COMMANDS {
        let value = format!("Zq{}", c.text(14));
        let line = command.replace('@', &value);
        for (name, text) in [
            (".bash_history", format!("ls\n{line}\nls\n")),
            ("fish_history", format!("- cmd: {line}\n  when: 1\n")),
            ("notes.md", format!("Then:\n\n    {line}\n")),
        ] {
            is_sealed(name, &text, &value);
        }
        let mut words: Vec<Vec<u8>> = line.split(' ').map(|w| w.as_bytes().to_vec()).collect();
        bdr::privacy::redact(&mut words, &Rules::default(), &|_| None);
        let said = String::from_utf8(words.join(&b' ')).unwrap();
        assert!(!said.contains(&value), "{line}: {said}");
    }
    // A word whose end is known is sealed to its end.
    for (option, value) in [
        ("--passphrase", "correct horse 7bat"),
        ("--password", "a$b;c (d) 9"),
    ] {
        let mut words = vec![
            b"gpg".to_vec(),
            option.into(),
            value.into(),
            b"file".to_vec(),
        ];
        bdr::privacy::redact(&mut words, &Rules::default(), &|_| None);
        assert_eq!(words[2], b"bdr:sealed");
        assert_eq!(words[3], b"file");
    }
    for harmless in [
        "docker run -p 8080:80 -u 1000:1000 image",
        "mysql -u root -p",
        "mysql -ppassword db",
        "sshpass -p \"$PASSWORD\" ssh host",
        "curl -u user:$TOKEN https://x",
        "ssh -p 2222 host",
        "set -x PATH /usr/bin",
        "zip -P",
        "mkdir -p src/main/resources1",
        "echo hello | sudo tee file",
    ] {
        let examined = examine(b"notes.md", harmless.as_bytes(), &Rules::default());
        assert_eq!(examined.seals, [], "{harmless}");
    }
}

#[test]
fn labels_tags_targets_attributes_and_names_hold_no_secret() {
    let c = &mut Chance::new(305);
    let mut planted = Vec::new();
    let mut keep = |value: String| {
        planted.push(value.clone());
        value
    };
    let place = Place::with_repository();
    place.write("a", b"a");
    place.write(
        &format!("password={}/f", keep(password(c).replace('!', ""))),
        b"f",
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        let target = format!("https://u:{}@h/x", keep(password(c).replace('!', "")));
        symlink(target, place.tree().join("link")).unwrap();
        symlink(format!("/x/{}", keep(token(c))), place.tree().join("other")).unwrap();
        symlink("a", place.tree().join("plain")).unwrap();
        let file = place.tree().join("a");
        let name = format!("user.{}", keep(token(c)));
        let set = [
            ("user.token".to_owned(), keep(token(c))),
            ("user.password".to_owned(), keep(password(c))),
            (name, "1".to_owned()),
        ];
        for (name, value) in set {
            if let Err(error) = xattr::set(&file, &name, value.as_bytes()) {
                println!("SKIPPED: attributes cannot be set here: {error}");
            }
        }
    }
    place.init();
    let (label, tag) = (keep(token(c)), keep(token(c)));
    place.write("a", b"b");
    place.run(
        &["backup", "--label", &format!("l {label}"), "--tag", &tag],
        0,
    );
    let of_guard = keep(password(c));
    let label = format!("password={of_guard}");
    place.run(&["guard", "--label", &label, "--", "rm", "a"], 0);
    place.run(&["tag", "latest", &keep(token(c))], 0);
    place.run(&["dashboard"], 0);
    assert_clean(&place, &planted, "in odd places");
    #[cfg(unix)]
    {
        // What is not stored is said before a command takes it away.
        let output = place.bdr(&["guard", "--", "rm", "link"]).output().unwrap();
        assert!(
            stderr(&output).contains("a secret in its target"),
            "{}",
            stderr(&output)
        );
        place.run(&["guard", "--", "rm", "plain"], 0);
    }
}

/// One level more than the outermost: archives, base64, and characters of four bytes.
#[test]
fn what_is_wrapped_twice_is_found() {
    use base64::Engine as _;
    let c = &mut Chance::new(309);
    let encoded = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    for number in 0..20 {
        let token = token(c);
        let settings = format!("DB_PASSWORD={}\n", password(c));
        let four: Vec<u8> = format!("\u{feff}key: {token}\n")
            .chars()
            .flat_map(|c| u32::from(c).to_le_bytes())
            .collect();
        let big: Vec<u8> = format!("\u{feff}key: {token}\n")
            .chars()
            .flat_map(|c| u32::from(c).to_be_bytes())
            .collect();
        for (name, bytes) in [
            ("a.zip", zip("b.zip", &zip("t.txt", token.as_bytes()))),
            ("a.zip", zip("b.tar", &tar("x/.env", settings.as_bytes()))),
            (
                "a.tar.gz",
                gzip(&tar("b.zip", &zip("t.txt", token.as_bytes()))),
            ),
            ("a.zip", zip("notes.gz", &gzip(token.as_bytes()))),
            (
                "a.yaml",
                format!("data: {}\n", encoded(&encoded(&settings.repeat(2)))).into_bytes(),
            ),
            ("a.txt", four),
            ("a.txt", big),
        ] {
            assert_ne!(treated(name, &bytes), Treatment::Clear, "{number}: {name}");
        }
    }
}

/// What the documents say is not found: each with a sample that is not.
#[test]
fn what_is_not_found_is_listed() {
    let c = &mut Chance::new(306);
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/privacy.md"));
    // Where its lines are wrapped means nothing.
    let text = text.unwrap();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let word = password(c);
    let samples: Vec<(&str, &str, Vec<u8>)> = vec![
        (
            "passwords in prose that nothing announces",
            "a.md",
            format!("it is {word} today").into_bytes(),
        ),
        (
            "archives within archives within archives",
            "a.zip",
            zip("b.zip", &zip("c.zip", &zip("t.txt", token(c).as_bytes()))),
        ),
        (
            "in other databases everything that has no form of its own",
            "app.db",
            [b"SQLite format 3\0\0\0session", word.as_bytes(), b"\0"].concat(),
        ),
        (
            "passwords in objects of git",
            "0123456789",
            zlib(format!("blob 40\0DB_PASSWORD={word}\n").as_bytes()),
        ),
        (
            "packs of git",
            "p.pack",
            [b"PACK\0\0\0\x02", &zlib(token(c).as_bytes())[..]].concat(),
        ),
        (
            "plain words in the settings of programs in archives",
            "a.zip",
            zip("readme.txt", format!("DB_PASSWORD={word}").as_bytes()),
        ),
    ];
    for (said, name, bytes) in samples {
        assert_eq!(
            treated(name, &bytes),
            Treatment::Clear,
            "found by now: {said}"
        );
        assert!(text.contains(said), "docs/privacy.md does not say: {said}");
    }
}

#[test]
fn a_copy_of_a_repository_takes_nothing_out_of_the_vault() {
    let c = &mut Chance::new(307);
    let place = Place::with_repository();
    place.write(".env", format!("API_KEY={}\n", c.text(32)).as_bytes());
    place.init_at("2026-01-01T12:00:00Z");
    let copy = place.path("copy");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([place.store(), copy.clone()])
        .status();
    assert!(copied.unwrap().success());
    let second = format!("API_KEY={}\n", c.text(32));
    place.write(".env", second.as_bytes());
    place.run_at("2026-01-02T12:00:00Z", &["backup"], 0);
    std::fs::remove_file(place.tree().join(".env")).unwrap();
    crate::privacy::filetime(&place.path("bdr/state/vault"));
    let of_copy = copy.to_str().unwrap();
    place.run_at(
        "2026-02-20T12:00:00Z",
        &["--repository", of_copy, "prune", "--yes"],
        0,
    );
    place.run_at("2026-02-20T12:00:00Z", &["restore", "--yes", "latest"], 0);
    let back = std::fs::read_to_string(place.tree().join(".env")).unwrap();
    assert_eq!(back, second);
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let c = &mut Chance::new(308);
    let place = Place::with_repository();
    place.write(".env", format!("API_KEY={}\n", c.text(32)).as_bytes());
    place.init();
    let vault = std::fs::read_dir(place.path("bdr/state/vault")).unwrap();
    let vault = vault.flatten().next().unwrap().path();
    let set = |name: &str, mode| {
        let open = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(vault.join(name), open).unwrap();
    };
    std::fs::remove_file(place.tree().join(".env")).unwrap();
    for (name, verb) in [
        ("vault.key", &["restore", "--yes", "latest"][..]),
        ("fingerprint.key", &["backup", "--full"]),
    ] {
        if name == "fingerprint.key" {
            place.write(".env", format!("API_KEY={}\n", c.text(32)).as_bytes());
        }
        set(name, 0o644);
        let output = place.bdr(verb).output().unwrap();
        assert_ne!(output.status.code(), Some(0), "{name}: {output:?}");
        let status = place.bdr(&["status"]).output().unwrap();
        let doctor = place.bdr(&["doctor"]).output().unwrap();
        let said = [output, status, doctor]
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned() + &stderr(&o));
        assert!(said.concat().contains("chmod 600"), "{name}: {said:?}");
        set(name, 0o600);
    }
    place.run(&["backup"], 0);
    std::fs::remove_file(place.tree().join(".env")).unwrap();
    place.run(&["restore", "--yes", "latest"], 0);
    assert!(place.tree().join(".env").exists());
}

#[test]
fn a_new_key_takes_over_wherever_the_change_is_cut_off() {
    use std::os::unix::process::ExitStatusExt as _;
    let c = &mut Chance::new(309);
    let place = Place::with_repository();
    let before = format!("API_KEY={}\nOTHER_SECRET={}\n", c.text(32), c.text(24));
    place.write(".env", before.as_bytes());
    place.init();
    place.write(
        "more.env",
        format!("DB_PASSWORD={}\n", password(c)).as_bytes(),
    );
    place.run(&["backup"], 0);
    let vault = std::fs::read_dir(place.path("bdr/state/vault")).unwrap();
    let vault = vault.flatten().next().unwrap().path();
    let first = std::fs::read(vault.join("vault.key")).unwrap();
    let comes_back = |what: &str| {
        std::fs::remove_file(place.tree().join(".env")).unwrap();
        place.run(&["restore", "--yes", "latest", ".env"], 0);
        let back = std::fs::read_to_string(place.tree().join(".env")).unwrap();
        assert_eq!(back, before, "{what}");
    };
    let mut whole = false;
    for step in 1..100 {
        let mut rotate = place.bdr(&["vault", "rotate"]);
        let output = rotate
            .env("BDR_TEST_CRASH_AT", step.to_string())
            .output()
            .unwrap();
        comes_back(&format!("step {step}"));
        if output.status.signal().is_none() {
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            whole = step > 4;
            break;
        }
    }
    assert!(
        whole,
        "the change was never cut off, or never came to its end"
    );
    place.run(&["vault", "rotate"], 0);
    comes_back("at the end");
    assert!(!vault.join("vault.key.next").exists());
    for entry in walkdir::WalkDir::new(place.path("bdr"))
        .into_iter()
        .flatten()
    {
        if entry.file_type().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            let old = memchr::memmem::find(&bytes, &first);
            assert_eq!(old, None, "the old key is in {}", entry.path().display());
        }
    }
}

#[test]
fn a_value_that_is_sealed_while_the_key_changes_is_not_lost() {
    // As far apart as can be: the key was read before the change, the value is written after it.
    let place = Place::new();
    let (early, rotating) = (place.vault(), place.vault());
    let put = |vault: &bdr::disk::vault::Vault, value: &[u8]| {
        let fingerprint = vault.fingerprint(value).unwrap();
        vault.put(fingerprint, value).unwrap();
        fingerprint
    };
    let before = put(&early, b"before");
    early.flush().unwrap();
    let waiting = put(&early, b"waiting");
    assert_eq!(rotating.rotate().unwrap(), 1);
    early.flush().unwrap();
    for vault in [&early, &place.vault()] {
        assert_eq!(vault.get(before).as_deref(), Some(&b"before"[..]));
        assert_eq!(vault.get(waiting).as_deref(), Some(&b"waiting"[..]));
    }
    // The change was cut off with both keys there.
    let next = early.dir().join("vault.key.next");
    std::fs::write(&next, [7; 32]).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let between = put(&early, b"between");
    early.flush().unwrap();
    assert_eq!(place.vault().get(between).as_deref(), Some(&b"between"[..]));
    assert_eq!(place.vault().rotate().unwrap(), 3);
    let after = place.vault();
    for (fingerprint, value) in [
        (before, &b"before"[..]),
        (waiting, b"waiting"),
        (between, b"between"),
    ] {
        assert_eq!(after.get(fingerprint).as_deref(), Some(value));
    }
}

#[test]
fn many_that_seal_while_the_key_changes_over_and_over_lose_nothing() {
    let place = Place::new();
    // There is something from the first.
    let first = place.vault();
    first
        .put(first.fingerprint(b"first").unwrap(), b"first")
        .unwrap();
    first.flush().unwrap();
    let sealed = std::sync::Mutex::new(Vec::new());
    let running = std::sync::atomic::AtomicUsize::new(4);
    let mut changes = 0;
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (place, sealed, running) = (&place, &sealed, &running);
            scope.spawn(move || {
                for number in 0..40 {
                    let vault = place.vault();
                    for part in 0..3 {
                        let value = format!("value {writer} {number} {part}").into_bytes();
                        let fingerprint = vault.fingerprint(&value).unwrap();
                        vault.put(fingerprint, &value).unwrap();
                        sealed.lock().unwrap().push((fingerprint, value));
                    }
                    std::thread::yield_now();
                    vault.flush().unwrap();
                }
                running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            });
        }
        while running.load(std::sync::atomic::Ordering::SeqCst) > 0 {
            place.vault().rotate().unwrap();
            changes += 1;
        }
    });
    assert!(changes > 1, "the key was changed {changes} times only");
    let vault = place.vault();
    let lost =
        |(fingerprint, value): &&(_, Vec<u8>)| vault.get(*fingerprint).as_ref() != Some(value);
    let sealed = sealed.into_inner().unwrap();
    let lost: Vec<_> = sealed.iter().filter(lost).collect();
    assert!(lost.is_empty(), "{} of {} lost", lost.len(), sealed.len());
}

#[test]
fn guards_that_run_while_the_key_changes_lose_no_value() {
    let c = &mut Chance::new(311);
    let place = Place::with_repository();
    let mut values = Vec::new();
    for number in 0..24 {
        let text = format!("API_KEY={}\n", c.text(32));
        place.write(&format!("w{number}/.env"), text.as_bytes());
        values.push(text);
    }
    place.write("first/.env", format!("API_KEY={}\n", c.text(32)).as_bytes());
    let source = format!("tree={}", place.tree().join("first").display());
    place.run(&["init", "--yes", "--source", &source], 0);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let place = &place;
            scope.spawn(move || {
                for number in (half..24).step_by(2) {
                    let dir = format!("w{number}");
                    place.run(&["guard", "--", "rm", "-r", &dir], 0);
                }
            });
        }
        for _ in 0..8 {
            // One that cannot be alone for so long says so.
            let output = place.bdr(&["vault", "rotate"]).output().unwrap();
            assert!(matches!(output.status.code(), Some(0 | 6)), "{output:?}");
        }
    });
    let log = place.json(&["log", "--limit", "100"]);
    for operation in log["operations"].as_array().unwrap() {
        if operation["kind"] == "guard" {
            place.run(&["undo", "--yes", operation["id"].as_str().unwrap()], 0);
        }
    }
    for (number, text) in values.iter().enumerate() {
        let back = std::fs::read_to_string(place.tree().join(format!("w{number}/.env"))).unwrap();
        assert_eq!(back, *text, "w{number}");
    }
}

#[test]
fn a_copy_that_is_gone_for_long_holds_no_value_any_more() {
    use std::time::{Duration, SystemTime};
    let place = Place::new();
    let of = |location: &std::path::Path| place.vault().for_repository(location);
    let (original, copy) = (place.path("original"), place.path("copy"));
    for dir in [&original, &copy] {
        std::fs::create_dir(dir).unwrap();
        let vault = of(dir);
        let value = dir.as_os_str().as_encoded_bytes();
        vault.put(vault.fingerprint(value).unwrap(), value).unwrap();
        vault.flush().unwrap();
    }
    let day = |n: u64| SystemTime::now() + Duration::from_secs(n * 24 * 3600);
    let nothing = std::collections::HashSet::new();
    let sweep = |n| of(&original).sweep(&nothing, day(n)).unwrap();
    // While the copy is there, and for long after: it may lie in a drawer.
    assert_eq!(sweep(1000), 0);
    std::fs::remove_dir(&copy).unwrap();
    assert_eq!(sweep(1001), 0);
    assert_eq!(sweep(1300), 0);
    // It came back, and went again: it begins anew.
    std::fs::create_dir(&copy).unwrap();
    let vault = of(&copy);
    vault
        .put(vault.fingerprint(b"again").unwrap(), b"again")
        .unwrap();
    vault.flush().unwrap();
    assert_eq!(sweep(1302), 0);
    std::fs::remove_dir(&copy).unwrap();
    assert_eq!(sweep(1303), 0);
    assert_eq!(sweep(1600), 0);
    assert_eq!(sweep(1704), 3);
}

#[cfg(unix)]
#[test]
fn a_restore_says_that_it_cannot_prove_what_it_brings_back() {
    use std::os::unix::fs::PermissionsExt as _;
    let c = &mut Chance::new(312);
    let place = Place::with_repository();
    let text = format!("API_KEY={}\n", c.text(32));
    place.write(".env", text.as_bytes());
    place.init();
    std::fs::remove_file(place.tree().join(".env")).unwrap();
    let vault = std::fs::read_dir(place.path("bdr/state/vault")).unwrap();
    let key = vault
        .flatten()
        .next()
        .unwrap()
        .path()
        .join("fingerprint.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = place.bdr(&["restore", "--yes", "latest"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
    assert!(
        said.contains(".env") && said.contains("chmod 600"),
        "{said}"
    );
    // The values are sound by the other key.
    assert_eq!(
        std::fs::read_to_string(place.tree().join(".env")).unwrap(),
        text
    );
}

#[cfg(unix)]
#[test]
fn an_undo_brings_back_what_it_cannot_prove_and_says_so() {
    use std::os::unix::fs::PermissionsExt as _;
    let c = &mut Chance::new(314);
    let place = Place::with_repository();
    let text = format!("API_KEY={}\n", c.text(32));
    place.write(".env", text.as_bytes());
    place.write("other.env", text.as_bytes());
    place.init();
    let script = format!("rm .env; echo API_KEY={} > other.env", c.text(32));
    place.run(&["guard", "--", "sh", "-c", &script], 0);
    let vault = std::fs::read_dir(place.path("bdr/state/vault")).unwrap();
    let vault = vault.flatten().next().unwrap().path();
    let key = vault.join("fingerprint.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let output = place.bdr(&["undo", "--yes"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
    assert!(
        said.contains(".env") && said.contains("chmod 600"),
        "{said}"
    );
    // The values are sound by the other key.
    let read = |name: &str| std::fs::read_to_string(place.tree().join(name)).unwrap();
    assert_eq!(read(".env"), text, "{said}");
    // What stands here holds another secret, and cannot be saved without the key: it stays, until the key is mended.
    assert_ne!(read("other.env"), text);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    place.run(&["undo", "--yes"], 0);
    assert_eq!((read(".env"), read("other.env")), (text.clone(), text));
}

#[cfg(unix)]
#[test]
fn a_file_whose_attribute_holds_a_secret_is_named_each_time() {
    let c = &mut Chance::new(313);
    let place = Place::with_repository();
    place.write("a", b"a");
    place.write("b", b"b");
    let value = token(c);
    if let Err(error) = xattr::set(place.tree().join("a"), "user.token", value.as_bytes()) {
        println!("SKIPPED: attributes cannot be set here: {error}");
        return;
    }
    let source = format!("tree={}", place.tree().display());
    place.run(&["init", "--yes", "--source", &source], 0);
    for _ in 0..2 {
        let output = place.run(&["backup"], 0);
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &stderr(&output);
        let line = said
            .lines()
            .find(|line| line.contains("extended attribute"));
        assert!(line.is_some_and(|line| line.contains("tree/a")), "{said}");
        assert!(!said.contains(&value), "{said}");
    }
    let output = place.run(&["guard", "--", "rm", "a"], 0);
    assert!(
        stderr(&output).contains("extended attribute"),
        "{}",
        stderr(&output)
    );
    // The rest of it comes back.
    place.run(&["undo", "--yes"], 0);
    assert_eq!(std::fs::read(place.tree().join("a")).unwrap(), b"a");
    let output = place.run(&["guard", "--", "rm", "b"], 0);
    assert!(
        !stderr(&output).contains("attribute"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_decoder_that_fails_shows_and_stores_nothing() {
    // Data that a decoder gives up on in whatever way: no verb ends by it.
    let place = Place::with_repository();
    place.write("a", b"a");
    place.init();
    let c = &mut Chance::new(314);
    for (number, head) in [
        &b"BZh9"[..],
        b"\x1f\x8b\x08",
        b"\xfd7zXZ\0",
        b"PK\x03\x04",
        b"%PDF-1.4\n",
    ]
    .iter()
    .cycle()
    .take(60)
    .enumerate()
    {
        let mut bytes = head.to_vec();
        if number % 3 == 0
            && let Some(packed) = piped("bzip2", c.text(4000).as_bytes())
        {
            bytes = packed;
            for _ in 0..1 + number / 12 {
                let at = 4 + usize::try_from(c.below(bytes.len() as u64 - 4)).unwrap();
                bytes[at] ^= 1 << c.below(8);
            }
        } else {
            bytes.extend(c.text(500).into_bytes());
        }
        let examined = std::panic::catch_unwind(|| treated("x.bin", &bytes));
        assert!(examined.is_ok(), "{number}");
    }
}

/// Runs bdr with 256 MB of memory (address space, beside what the program itself takes) and ten seconds of processor.
#[cfg(target_os = "linux")]
fn within_bounds(place: &Place, args: &[&str]) -> std::process::Output {
    let given = place.bdr(args);
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -v 700000; ulimit -t 10; exec \"$@\"", "sh"])
        .arg(given.get_program())
        .args(args)
        .env_clear()
        .current_dir(place.tree());
    for (name, value) in given.get_envs() {
        command.env(name, value.unwrap());
    }
    command.output().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_packed_over_and_over_is_looked_at_within_bounds() {
    let place = Place::with_repository();
    place.write("a", b"a");
    place.init();
    let zeros = vec![0; 64 << 20];
    let bomb = gzip(&gzip(&zeros.repeat(8)));
    let mut files = vec![
        ("gzip.gz", gzip(&zeros.repeat(8))),
        ("twice.gz", bomb),
        ("zip.zip", zip("zeros", &zeros)),
        ("many.zip", zip("a", b"nothing").repeat(20_000)),
        ("tar.tar", tar("zeros", &zeros)),
        ("deflate.pdf", {
            let mut pdf = b"%PDF-1.4\n".to_vec();
            for number in 0..200 {
                pdf.extend(format!("{number} 0 obj\n<</Filter/FlateDecode>>stream\n").bytes());
                pdf.extend(zlib(&zeros[..4 << 20]));
                pdf.extend(b"\nendstream\n");
            }
            pdf
        }),
    ];
    for (program, name) in [("bzip2", "zeros.bz2"), ("xz", "zeros.xz")] {
        match piped(program, &zeros) {
            Some(bytes) => files.push((name, bytes)),
            None => println!("SKIPPED: {program} is not installed"),
        }
    }
    for (name, bytes) in &files {
        place.write(name, bytes);
        let path = place.tree().join(name);
        for verb in [
            &["scan", path.to_str().unwrap()][..],
            &["privacy", "why", path.to_str().unwrap()],
            &["backup"],
        ] {
            let output = within_bounds(&place, verb);
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 3)), "{name} {verb:?}: {output:?}");
        }
        std::fs::remove_file(path).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_line_that_nests_without_end_is_read_within_bounds() {
    let place = Place::with_repository();
    place.write("a", b"a");
    place.init();
    for part in [
        "$(((",
        "`",
        "((",
        "{",
        "\"$(",
        "<<<",
        "if ",
        "a|",
        "$(",
        "(",
        "{a,",
        "${x:-",
        "\\",
        "'\"",
        "<(",
        "!(",
        "[[ ",
        "case x in x) ",
        "while ",
        "f() { ",
        "$[",
        "a && ",
        "; ",
        "> ",
        "2>&1 ",
        "eval '",
        "sh -c \"",
        "cd /; ",
        "sudo ",
        "xargs ",
    ] {
        // As long as one argument may be.
        let line = part.repeat(120_000 / part.len());
        for verb in [
            &["explain", "--", "sh", "-c", &line][..],
            &["guard", "--dry-run", "--", "bash", "-c", &line],
        ] {
            let output = within_bounds(&place, verb);
            assert!(
                output.status.code().is_some_and(|code| code < 128),
                "{part:?} {verb:.1?}: {}",
                stderr(&output)
            );
            assert!(
                !stderr(&output).contains("panicked"),
                "{part:?}: {}",
                stderr(&output)
            );
        }
    }
}
