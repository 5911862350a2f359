//! What the columns of a SQLite database say, whatever its pages look like.

use bdr::privacy::{Examined, Profile, Rules, Treatment, examine};
use rusqlite::Connection;

use crate::privacy::Chance;

/// How a database is made; each is one that SQLite makes.
const FORMS: [&str; 7] = [
    "PRAGMA page_size = 512",
    "PRAGMA page_size = 4096",
    "PRAGMA page_size = 65536",
    "PRAGMA encoding = 'UTF-16le'",
    "PRAGMA encoding = 'UTF-16be'; PRAGMA page_size = 1024",
    "PRAGMA auto_vacuum = FULL; PRAGMA page_size = 512",
    "PRAGMA journal_mode = WAL",
];

/// The bytes of a database that this makes.
fn database(form: &str, script: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.db");
    let made = Connection::open(&file).unwrap();
    made.execute_batch(form).unwrap();
    made.execute_batch(script).unwrap();
    made.close().unwrap();
    std::fs::read(&file).unwrap()
}

fn look(bytes: &[u8], profile: Profile) -> Examined {
    examine(b"a.db", bytes, &Rules::new(profile))
}

#[test]
fn patients_in_a_database_are_found_by_its_columns() {
    let columns = "id INTEGER PRIMARY KEY, note TEXT DEFAULT 'a,b(c', given_name TEXT, \"date of birth\" TEXT, diagnosis TEXT, CHECK (length(note) < 90000)";
    let rows = "INSERT INTO visits (note, given_name, \"date of birth\", diagnosis) VALUES";
    for form in FORMS {
        // Many rows before, a long one, a table that was there first.
        for (before, long) in [(0, 10), (300, 10), (3, 30_000)] {
            let long = "x".repeat(long);
            let mut script = format!("CREATE TABLE one (a, b); CREATE TABLE visits ({columns});");
            for n in 0..before {
                script +=
                    &format!("INSERT INTO one VALUES ({n}, 'b');{rows} ('{long}', '', '', '');");
            }
            script += &format!("{rows} ('n', 'Ann Roe', '1971-03-09', 'diabetes');");
            let found = look(&database(form, &script), Profile::Hipaa);
            let wanted = Treatment::Whole("patient data");
            assert_eq!(found.treatment, wanted, "{form} {before}: {found:?}");
        }
    }
    // The name of the table says what its rows are; a table of contacts has no patients.
    for (table, is_phi) in [("patients", true), ("contacts", false)] {
        let script = format!(
            "CREATE TABLE {table} (last_name, phone, birthdate); INSERT INTO {table} VALUES ('Roe', '+1 415 555 0134', '1971-03-09');"
        );
        let found = look(&database("", &script), Profile::Hipaa);
        assert_eq!(found.treatment != Treatment::Clear, is_phi, "{table}");
        let found = look(&database("", &script), Profile::Strict);
        assert!(!found.findings.is_empty(), "{table}");
        assert_eq!(look(&database("", &script), Profile::Off).findings, []);
    }
    // Numbers that are enough by themselves, as integers too; columns without rows say nothing.
    let script = "CREATE TABLE t (ssn INTEGER, x); INSERT INTO t VALUES (536228174, 1);";
    assert_eq!(
        look(&database("", script), Profile::Hipaa).treatment,
        Treatment::Whole("patient data")
    );
    let script = "CREATE TABLE patients (given_name, diagnosis, ssn);";
    assert_eq!(
        look(&database("", script), Profile::Hipaa).treatment,
        Treatment::Clear
    );
    // A column that is computed is not in the rows.
    let script = "CREATE TABLE v (a AS (1) VIRTUAL, b GENERATED ALWAYS AS (2), given_name, diagnosis); INSERT INTO v VALUES ('Ann', 'flu');";
    assert_ne!(
        look(&database("", script), Profile::Hipaa).treatment,
        Treatment::Clear
    );
}

#[test]
fn a_value_under_the_name_of_a_secret_is_found_in_a_database() {
    let mut chance = Chance::new(95);
    for form in FORMS {
        let secret = chance.text(32);
        for (column, value, is_found) in [
            ("password", "hunter2-Xk9!vQ", true),
            ("api_key", secret.as_str(), true),
            ("access_token", secret.as_str(), true),
            ("api_key", "", false),
            ("password", "changeme", false),
            ("title", secret.as_str(), false),
            ("token_count", "123456789", false),
        ] {
            let script = format!(
                "CREATE TABLE t (id INTEGER PRIMARY KEY, {column} TEXT); INSERT INTO t ({column}) VALUES ('{value}');"
            );
            let found = look(&database(form, &script), Profile::Hipaa);
            let wanted = Treatment::Whole("secrets in a binary file");
            assert_eq!(
                found.treatment == wanted,
                is_found,
                "{form}: {column}={value}"
            );
        }
    }
}

/// Whatever is changed in a database, it is read to an end.
#[test]
fn a_database_that_is_made_to_do_harm_is_read_to_an_end() {
    let mut chance = Chance::new(96);
    let mut script = "CREATE TABLE patients (given_name, diagnosis, note);".to_owned();
    for n in 0..60 {
        let note = "y".repeat(n * 40);
        script += &format!("INSERT INTO patients VALUES ('Ann', 'flu', '{note}');");
    }
    let sound = database("PRAGMA page_size = 512", &script);
    assert_ne!(look(&sound, Profile::Hipaa).treatment, Treatment::Clear);
    for round in 0..800 {
        let mut bytes = sound.clone();
        for _ in 0..1 + round % 12 {
            let at = chance.below(bytes.len() as u64) as usize;
            // Mostly where pages say what is in them.
            let at = if round % 3 == 0 {
                at
            } else {
                at / 512 * 512 + at % 24
            };
            let at = at.min(bytes.len() - 1);
            bytes[at] = chance.below(256) as u8;
        }
        if round % 5 == 0 {
            bytes.truncate(chance.below(bytes.len() as u64) as usize);
        }
        let found = look(&bytes, Profile::Strict);
        assert_ne!(
            found.treatment,
            Treatment::Whole("it could not be scanned"),
            "{round}"
        );
    }
}
