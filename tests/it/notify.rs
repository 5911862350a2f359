//! Who is told, of what, and that it never gets in the way. Servers are of the test's own.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::care::scheduled;
use crate::support::cli::stderr;

/// Answers each request in turn with one of `answers`, and returns what was asked.
fn server(answers: Vec<&'static str>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            let mut text = Vec::new();
            let mut part = [0; 4096];
            // The head, then as much as it announces.
            loop {
                let n = stream.read(&mut part).unwrap_or(0);
                text.extend_from_slice(&part[..n]);
                let all = String::from_utf8_lossy(&text).into_owned();
                let complete = all.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                    let length = head.lines().find_map(|line| {
                        let (name, value) = line.split_once(':')?;
                        name.eq_ignore_ascii_case("content-length")
                            .then(|| value.trim().parse::<usize>().ok())?
                    });
                    body.len() >= length.unwrap_or(0)
                });
                if n == 0 || complete {
                    break;
                }
            }
            let _ = stream.write_all(answer.as_bytes());
            asked.push(String::from_utf8_lossy(&text).into_owned());
        }
        asked
    });
    (url, served)
}

const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const ELSEWHERE: &str = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The document of a webhook's request.
fn document(request: &str) -> Value {
    serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn a_change_is_told_once_and_so_is_that_all_is_well_again() {
    let place = scheduled();
    let (url, served) = server(vec![FINE, FINE]);
    place.configure(&format!("[notify]\nwebhook = \"{url}/secret-token\""));
    let away = place.path("away");
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    let tick = |now: &str| {
        let mut command = place.bdr_at(now, &["tick", "--scheduler", "cron"]);
        let output = command
            .current_dir(place.path("elsewhere"))
            .output()
            .unwrap();
        (output.status.code(), stderr(&output))
    };
    // All is well: nothing is told.
    assert_eq!(tick("2026-11-02T03:00:00Z"), (Some(0), String::new()));
    std::fs::rename(place.tree(), &away).unwrap();
    assert_eq!(tick("2026-11-03T03:00:00Z").0, Some(1));
    // The same again: nothing is told.
    assert_eq!(tick("2026-11-03T03:20:00Z").0, Some(1));
    std::fs::rename(&away, place.tree()).unwrap();
    assert_eq!(tick("2026-11-03T10:00:00Z"), (Some(0), String::new()));
    assert_eq!(tick("2026-11-03T11:00:00Z"), (Some(0), String::new()));
    let asked = served.join().unwrap();
    let (bad, good) = (document(&asked[0]), document(&asked[1]));
    assert!(
        asked[0].starts_with("POST /secret-token HTTP/1.1\r\n"),
        "{}",
        asked[0]
    );
    assert_eq!(
        (bad["schema"].as_str(), bad["level"].as_str()),
        (Some("bdr.alert/1"), Some("warning"))
    );
    assert_eq!(bad["troubles"][0]["code"], "backup-failing");
    assert_eq!(
        (
            good["level"].as_str(),
            good["troubles"].as_array().unwrap().len()
        ),
        (Some("ok"), 0)
    );
    // No path leaves the machine.
    let dir = place.path("");
    assert!(
        asked
            .iter()
            .all(|text| !text.contains(dir.to_str().unwrap()) && !text.contains("notes")),
        "{asked:?}"
    );
}

#[test]
fn what_backups_begin_to_leave_out_is_told_once() {
    let place = scheduled();
    let (url, served) = server(vec![FINE, FINE]);
    place.configure(&format!("[notify]\nwebhook = \"{url}/\""));
    let chart = |name: &str, serial: u32| {
        let text = format!("Patient: social security number 219-09-{serial}\n");
        place.write(name, text.as_bytes());
    };
    let tick = |now: &str| {
        let output = place.bdr_at(now, &["tick", "--scheduler", "cron"]).output();
        assert_eq!(stderr(&output.unwrap()), "");
    };
    tick("2026-11-02T03:00:00Z");
    chart("new.txt", 4824);
    chart("also new.txt", 4825);
    tick("2026-11-03T03:00:00Z");
    tick("2026-11-04T03:00:00Z");
    // The same file for the same reason is not told again; another one is.
    chart("new.txt", 4999);
    tick("2026-11-05T03:00:00Z");
    chart("third.txt", 4826);
    tick("2026-11-06T03:00:00Z");
    let asked = served.join().unwrap();
    let told: Vec<Value> = asked.iter().map(|request| document(request)).collect();
    let files = |told: &Value| told["troubles"][0]["files"].as_u64();
    assert_eq!((files(&told[0]), files(&told[1])), (Some(2), Some(1)));
    assert_eq!(told[0]["troubles"][0]["code"], "newly-excluded");
    assert!(
        asked
            .iter()
            .all(|text| !text.contains("new.txt") && !text.contains("219-09")),
        "{asked:?}"
    );
}

#[test]
fn what_cannot_be_told_fails_nothing_is_named_without_its_address_and_is_tried_again() {
    let place = scheduled();
    let (url, served) = server(vec![BROKEN, BROKEN, ELSEWHERE, FINE]);
    place.configure(&format!("[notify]\nwebhook = \"{url}/secret-token\""));
    // Nothing was ever backed up since: three days later that is worth a message.
    let late = |now: &str| {
        let output = place.bdr_at(now, &["notify"]).output().unwrap();
        let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
        assert!(!said.contains("secret-token"), "{said}");
        (output.status.code().unwrap(), said)
    };
    let (code, said) = late("2026-11-04T12:00:00Z");
    assert!(
        code == 1 && said.contains("it answered 500"),
        "{code} {said}"
    );
    let (code, said) = late("2026-11-04T13:00:00Z");
    assert!(
        code == 1 && said.contains("it answered 302"),
        "{code} {said}"
    );
    let (code, said) = late("2026-11-04T14:00:00Z");
    assert!(code == 0 && said.contains("sent"), "{code} {said}");
    let (code, said) = late("2026-11-04T15:00:00Z");
    assert!(
        code == 0 && said.contains("nothing was sent"),
        "{code} {said}"
    );
    let asked = served.join().unwrap();
    assert_eq!(document(&asked[3])["level"], "critical");
    // Nobody listens there any more: a tick does its work all the same.
    place.run_at("2026-11-04T16:00:00Z", &["tick"], 0);
    assert_eq!(place.triggers().len(), 2);
}

#[test]
fn a_server_that_never_answers_holds_nothing_up_for_long() {
    let place = scheduled();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    place.configure(&format!(
        "[notify]\nwebhook = \"{url}\"\nntfy = \"{url}topic\"\nhealthchecks = \"{url}id\""
    ));
    let started = Instant::now();
    let output = place.run_at("2026-11-02T03:00:00Z", &["notify", "--test"], 1);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.matches("no answer within 10 s").count(), 3, "{said}");
    // All at once, not one after the other; far from the sum, whatever the machine does.
    assert!(
        started.elapsed() < Duration::from_secs(25),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn every_way_of_telling_is_used() {
    let place = scheduled();
    let (url, served) = server(vec![FINE, FINE, FINE]);
    let tools = place.path("tools");
    std::fs::create_dir(&tools).unwrap();
    let script = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt;
        let file = tools.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        file
    };
    let (noted, got) = (place.path("noted"), place.path("got"));
    script(
        "notify-send",
        &format!("printf '%s\\n' \"$@\" > {}", noted.display()),
    );
    let command = script("tell me", &format!("cat > {}", got.display()));
    place.configure(&format!(
        "[notify]\ndesktop = true\nwebhook = \"{url}/w\"\nntfy = \"{url}/t\"\nhealthchecks = \"{url}/h\"\ncommand = [\"{}\"]",
        command.display()
    ));
    let path = std::env::join_paths([tools.clone(), "/usr/bin".into(), "/bin".into()]).unwrap();
    let mut call = place.bdr_at("2026-11-02T03:00:00Z", &["notify", "--test"]);
    let output = call.env("PATH", path).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let mut asked = served.join().unwrap();
    asked.sort();
    let first: Vec<&str> = asked
        .iter()
        .map(|text| text.lines().next().unwrap())
        .collect();
    assert_eq!(
        first,
        ["POST /h HTTP/1.1", "POST /t HTTP/1.1", "POST /w HTTP/1.1"]
    );
    assert!(
        asked[1].to_lowercase().contains("title: bdr: test"),
        "{}",
        asked[1]
    );
    let got: Value = serde_json::from_slice(&std::fs::read(got).unwrap()).unwrap();
    assert_eq!(
        (got["schema"].as_str(), got["test"].as_bool()),
        (Some("bdr.alert/1"), Some(true))
    );
    assert!(
        std::fs::read_to_string(noted)
            .unwrap()
            .contains("bdr: test")
    );
}

#[test]
fn scheduled_backups_are_pinged_and_counted() {
    let place = scheduled();
    let (url, served) = server(vec![FINE, FINE, FINE, FINE]);
    let metrics = place.path("bdr.prom");
    place.configure(&format!(
        "[notify]\nhealthchecks = \"{url}/id\"\nprometheus = \"{}\"",
        metrics.display()
    ));
    assert_eq!(place.tick("2026-11-02T03:00:00Z"), ["backup", "prune"]);
    let text = std::fs::read_to_string(&metrics).unwrap();
    assert!(
        text.contains("bdr_last_success_timestamp_seconds{job=\"backup\"} 1793588400\n"),
        "{text}"
    );
    assert!(
        text.contains("bdr_last_run_success{job=\"backup\"} 1\n")
            && text.contains("bdr_protected_files 1\n"),
        "{text}"
    );
    // Nothing there any more to be backed up.
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    std::fs::remove_dir_all(place.tree()).unwrap();
    let mut command = place.bdr_at("2026-11-03T03:00:00Z", &["tick"]);
    assert_eq!(
        command
            .current_dir(place.path("elsewhere"))
            .status()
            .unwrap()
            .code(),
        Some(1)
    );
    let text = std::fs::read_to_string(&metrics).unwrap();
    assert!(
        text.contains("bdr_consecutive_failures{job=\"backup\"} 1\n"),
        "{text}"
    );
    let asked = served.join().unwrap();
    let first: Vec<&str> = asked
        .iter()
        .map(|text| text.lines().next().unwrap())
        .collect();
    assert_eq!(
        first,
        [
            "POST /id/start HTTP/1.1",
            "POST /id HTTP/1.1",
            "POST /id/start HTTP/1.1",
            "POST /id/fail HTTP/1.1"
        ]
    );
}
