//! Identifiers of the countries: found where they are right and a word is beside them, and nothing else
//! is. The examples are in `identifiers.tsv`.

use std::collections::BTreeSet;

use bdr::privacy::{Group, Profile, Rules, Treatment, examine, scan};

use crate::privacy::Chance;

struct Example {
    kind: &'static str,
    word: &'static str,
    value: &'static str,
}

fn examples() -> Vec<Example> {
    let lines = include_str!("identifiers.tsv").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| {
            let mut fields = line.split('\t');
            let (kind, word) = (fields.next().unwrap(), fields.next().unwrap());
            fields.map(move |value| Example { kind, word, value })
        })
        .collect()
}

/// Kinds that are found in a text.
fn kinds(text: &str, profile: Profile) -> BTreeSet<&'static str> {
    let found = scan(b"notes.txt", text.as_bytes(), profile);
    let found = found.iter().filter(|one| one.group != Group::Secret);
    found.map(|one| one.kind).collect()
}

#[test]
fn every_identifier_is_found_beside_its_word() {
    let mut missed = Vec::new();
    for example in examples() {
        let Example { kind, word, value } = example;
        for text in [
            format!("{word}: {value}\n"),
            format!("the {word} of the applicant is {value}, as she said.\n"),
            format!("{{\"{word}\": \"{value}\"}}\n"),
            format!("{value} ({word})\n"),
            format!("{}\n  {value}\n", word.to_uppercase()),
        ] {
            let found = kinds(&text, Profile::Strict);
            if !found.contains(kind) {
                missed.push(format!("{kind}: {text:?}: {found:?}"));
            }
        }
    }
    assert!(missed.is_empty(), "{}: {}", missed.len(), missed.join("\n"));
}

/// Kinds without check digits, or where some changes go unseen: a date in place of another.
const UNCHECKED: [&str; 9] = [
    // The last digits are random since October 2020.
    "kr-rrn",
    "uk-nino",
    "uk-driving-licence",
    "us-ein",
    "us-itin",
    "in-pan",
    "my-nric",
    "eg-national",
    "id-nik",
];
/// The strict profile takes these by their many letters, too.
const BY_LETTERS: [&str; 2] = ["it-fiscal-code", "in-gstin"];

#[test]
fn an_identifier_with_a_wrong_digit_is_none() {
    let mut all = std::collections::BTreeMap::new();
    for example in examples() {
        let Example { kind, word, value } = example;
        if UNCHECKED.contains(&kind) || kind == "dk-cpr" {
            continue;
        }
        let profile = match BY_LETTERS.contains(&kind) {
            true => Profile::Hipaa,
            false => Profile::Strict,
        };
        for (at, old) in value.char_indices().filter(|(_, c)| c.is_ascii_digit()) {
            for new in ('0'..='9').filter(|new| *new != old) {
                let wrong = format!("{}{new}{}", &value[..at], &value[at + 1..]);
                let found = kinds(&format!("{word}: {wrong}\n"), profile);
                let (tried, taken) = all.entry(kind).or_insert((0, 0));
                *tried += 1;
                *taken += u32::from(found.contains(kind));
            }
        }
    }
    // Some let a little pass: a digit that counts the cards, a remainder of 10 that is written as 0. Of
    // a doctor's number the last two digits name a field.
    all.retain(|kind, (tried, taken)| {
        *taken * 100 > *tried * if *kind == "de-doctor" { 30 } else { 15 }
    });
    assert!(all.is_empty(), "tried and taken, though wrong: {all:?}");
}

#[test]
fn a_bare_number_is_nothing_to_the_default_profile() {
    for example in examples() {
        let value = example.value;
        for text in [
            format!("{value}\n"),
            format!("entry {value} was written\n"),
            format!("id={value}\n"),
            format!("\"{value}\",\n"),
        ] {
            let found = kinds(&text, Profile::Hipaa);
            // An American number of this form is enough by itself.
            assert!(found.is_empty(), "{}: {text:?}: {found:?}", example.kind);
        }
    }
}

/// Numbers of patients are enough beside their words; those of persons only with health information.
#[test]
fn what_belongs_to_a_patient_is_told_from_what_belongs_to_a_person() {
    let of_patients = [
        "uk-nhs",
        "de-social-security",
        "de-health-insurance",
        "fr-nir",
        "ch-ahv",
        "at-social-security",
        "gr-amka",
        "au-medicare",
        "au-ihi",
        "ca-health-card",
        "mx-nss",
    ];
    let of_persons = [
        "uk-nino",
        "ie-pps",
        "de-tax-id",
        "de-id-card",
        "nl-bsn",
        "be-national",
        "es-nif",
        "pt-nif",
        "it-fiscal-code",
        "pl-pesel",
        "cz-birth-number",
        "ro-cnp",
        "bg-egn",
        "hr-oib",
        "si-emso",
        "fi-hetu",
        "se-personnummer",
        "no-fodselsnummer",
        "dk-cpr",
        "is-kennitala",
        "ee-isikukood",
        "ru-snils",
        "tr-id",
        "ca-sin",
        "br-cpf",
        "mx-curp",
        "ar-cuit",
        "cl-rut",
        "au-tfn",
        "in-aadhaar",
        "in-pan",
        "cn-resident",
        "jp-my-number",
        "kr-rrn",
        "sg-nric",
        "id-nik",
        "sa-national",
        "th-national",
        "za-id",
        "ng-nin",
    ];
    let treated = |name: &str, text: &str| {
        examine(
            name.as_bytes(),
            text.as_bytes(),
            &Rules::new(Profile::Hipaa),
        )
        .treatment
    };
    let mut seen = BTreeSet::new();
    for Example { kind, word, value } in examples() {
        let alone = format!("the {word} is {value}\n");
        let with_health = format!("the {word} is {value}\nDiagnosis: asthma\n");
        let is_patient = of_patients.contains(&kind);
        if is_patient {
            assert_ne!(
                treated("a.txt", &alone),
                Treatment::Clear,
                "{kind}: {alone}"
            );
        } else {
            assert_eq!(
                treated("a.txt", &alone),
                Treatment::Clear,
                "{kind}: {alone}"
            );
        }
        if is_patient || of_persons.contains(&kind) {
            seen.insert(kind);
            assert_ne!(
                treated("a.txt", &with_health),
                Treatment::Clear,
                "{kind}: {with_health}"
            );
            let log =
                format!("{{\"a\": 1}}\n{{\"{word}\": \"{value}\", \"diagnosis\": \"asthma\"}}\n");
            assert_eq!(treated("a.jsonl", &log), Treatment::Seal, "{kind}: {log}");
        }
    }
    for kind in of_patients.iter().chain(&of_persons) {
        assert!(seen.contains(kind), "no example of {kind}");
    }
}

/// One number of a machine: a time, a hash, a version, an identifier that a program made.
fn machine_number(c: &mut Chance) -> String {
    let hex = |c: &mut Chance, length: usize| -> String {
        let mut digit = || char::from(b"0123456789abcdef"[c.below(16) as usize]);
        (0..length).map(|_| digit()).collect()
    };
    let below = |c: &mut Chance, most| c.below(most);
    let uuid = [8, 4, 4, 4, 12].map(|length| hex(c, length)).join("-");
    let hash = [7, 9, 12, 40, 64][c.below(5) as usize];
    let hash = hex(c, hash);
    let time = 1_500_000_000 + c.below(400_000_000);
    let all = [
        uuid,
        hash,
        format!("{time}"),
        format!("{time}{:03}", below(c, 1000)),
        format!("{time}{:06}", below(c, 1_000_000)),
        format!("{time}{:09}", below(c, 1_000_000_000)),
        format!("{time}.{:06}", below(c, 1_000_000)),
        format!("v{}.{}.{}", below(c, 20), below(c, 40), below(c, 99)),
        format!(
            "{}.{}.{}-{}",
            below(c, 9),
            below(c, 40),
            below(c, 99),
            below(c, 9999)
        ),
        format!(
            "20{:02}{:02}{:02}{:06}",
            below(c, 30),
            1 + below(c, 12),
            1 + below(c, 28),
            below(c, 240_000)
        ),
        format!("{}", 100_000_000 + below(c, 900_000_000)),
        format!("{}", 10_000_000_000 + below(c, 90_000_000_000)),
        format!("0x{:08x}", below(c, u64::from(u32::MAX))),
        format!("req-{:010}", below(c, 10_000_000_000)),
        format!("build/{}/{:09}", below(c, 100), below(c, 1_000_000_000)),
        format!("{:.6}", below(c, 1_000_000_000) as f64 / 3.0),
    ];
    all[below(c, all.len() as u64) as usize].clone()
}

#[test]
fn numbers_of_machines_are_nobodys() {
    let c = &mut Chance::new(771);
    for number in 0..6000 {
        let value = machine_number(c);
        for text in [
            format!("entry {value} was written in 12 ms\n"),
            format!("{{\"ts\": \"2026-11-29T08:00:00Z\", \"id\": {value:?}, \"size\": 4096}}\n"),
            format!("{value} {value}\n"),
        ] {
            let found = kinds(&text, Profile::Hipaa);
            assert!(found.is_empty(), "{number}: {text}: {found:?}");
            let mut found = kinds(&text, Profile::Strict);
            // Dates, phones and cards have their own rules, which are not about countries.
            for own in ["date", "phone", "credit-card", "ip-address", "mac-address"] {
                found.remove(own);
            }
            assert!(found.is_empty(), "{number}: {text}: {found:?}");
        }
    }
}

fn treated(name: &str, text: &str) -> Treatment {
    examine(
        name.as_bytes(),
        text.as_bytes(),
        &Rules::new(Profile::Hipaa),
    )
    .treatment
}

/// Names, dates, phones and addresses by the names of their columns: rows of patients are sealed one
/// by one, and a table of anybody else is stored as it is.
#[test]
fn what_a_column_says_counts_in_every_row() {
    let columns = [
        ("first_name,last_name,diagnosis", "Ann,Miller,Asthma"),
        ("Patient Name;DOB;ICD-10", "Ann Miller;1971-03-02;J45"),
        ("name,phone,medication", "Ann,+44 20 7946 0991,Salbutamol"),
        (
            "\"id\",\"Vorname\",\"Geburtsdatum\",\"Diagnose\"",
            "\"7\",\"Ann\",\"02.03.1971\",\"Asthma\"",
        ),
        (
            "street_address\temail\tallergies",
            "12 High Street\tann@clinic.net\tpenicillin",
        ),
        ("MRN,seen", "00871234,2026-01-02"),
        ("ssn|city", "219-47-1234|Leeds"),
        ("nhs_number,ward", "9434765919,7"),
    ];
    for (head, row) in columns {
        let name = if head.contains('\t') {
            "a.tsv"
        } else {
            "a.csv"
        };
        let many = |count: usize| format!("{head}\n{}", format!("{row}\n").repeat(count));
        for text in [many(1), many(40), many(3).replace('\n', "\r\n")] {
            let found = examine(
                name.as_bytes(),
                text.as_bytes(),
                &Rules::new(Profile::Hipaa),
            );
            assert_eq!(found.treatment, Treatment::Seal, "{text}");
            let rows = text.lines().count() - 1;
            assert_eq!(found.seals.len(), rows, "{text}: {:?}", found.seals);
            assert!(
                found
                    .seals
                    .iter()
                    .all(|(range, _)| text[range.clone()] == *row),
                "{text}"
            );
        }
        assert_eq!(
            treated(name, &format!("{head}\n")),
            Treatment::Clear,
            "{head}"
        );
    }
    for (head, row) in [
        (
            "first_name,last_name,phone,address",
            "Ann,Miller,+44 20 7946 0991,12 High Street",
        ),
        ("name,date,diagnosis", ",,"),
        ("nhs_number,ward", "9434765918,7"),
        ("id,name,condition,price", "7,Volvo 240,good,2000"),
    ] {
        let text = format!("{head}\n{row}\n");
        assert_eq!(treated("a.csv", &text), Treatment::Clear, "{text}");
    }
    let contacts = "first_name,phone\nAnn,020 7946 0991\n";
    let found = scan(b"a.csv", contacts.as_bytes(), Profile::Strict);
    assert!(
        found.iter().any(|one| one.kind == "patient-name"),
        "{found:?}"
    );
}

#[test]
fn what_a_key_says_counts_beside_a_patient() {
    for line in [
        r#"{"patient": {"firstName": "Ann", "phone": "+44 20 7946 0991"}, "diagnosis": "asthma"}"#,
        r#"{"subscriber": {"family": "Miller"}, "medications": ["salbutamol"]}"#,
        r#"{"patient": {"address": "12 High Street"}, "symptoms": "cough"}"#,
        r#"{"msg": "{\"patient\": {\"last_name\": \"Miller\"}, \"diagnosis\": \"asthma\"}"}"#,
        r"recv PID|1||00871234^^^HOSP||Miller^Ann^^||19710302|F| ok",
    ] {
        let text = format!("{{\"a\": 1}}\n{line}\n");
        assert_eq!(treated("a.jsonl", &text), Treatment::Seal, "{line}");
    }
    for line in [
        // Nobody is a patient, or nobody is ill, or these are labels.
        r#"{"user": {"firstName": "Ann", "phone": "+44 20 7946 0991"}, "symptoms": "slow"}"#,
        r#"{"patient": {"firstName": "Ann", "phone": "+44 20 7946 0991"}}"#,
        r#"{"patient": {"firstName": "First name", "phone": "Phone"}, "diagnosis": "Diagnosis"}"#,
        "UID|PID|PPID|C|STIME|TTY",
    ] {
        let text = format!("{{\"a\": 1}}\n{line}\n");
        assert_eq!(treated("a.jsonl", &text), Treatment::Clear, "{line}");
    }
}
