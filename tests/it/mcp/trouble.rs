//! Many calls at once, calls that are cancelled, servers that are killed, several on one repository.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{contents, place};
use crate::support::mcp::{LEGACY, Mcp};
use crate::support::picture;

#[test]
fn five_hundred_calls_at_once_are_all_answered() {
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    let numbers: Vec<u64> = (0..500)
        .map(|_| {
            client.begin(
                "tools/call",
                json!({"name": "list_backups", "arguments": {}}),
            )
        })
        .collect();
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < numbers.len() {
        let message = client.next().expect("the server went away");
        assert_ne!(message["result"]["isError"], true, "{message}");
        assert_eq!(
            message["result"]["structuredContent"]["total"], 1,
            "{message}"
        );
        answered.insert(message["id"].as_u64().unwrap());
    }
}

#[test]
fn a_cancelled_backup_leaves_nothing_and_the_server_goes_on() {
    let place = place();
    for n in 0..40 {
        let text: String = (0..40_000).map(|i| format!("{} {}\n", i * n, i)).collect();
        place.write(&format!("big/{n}.txt"), text.as_bytes());
    }
    let mut client = Mcp::start(&place, &[], LEGACY);
    let before = client.ok("list_backups", json!({}))["total"].clone();
    let mut cancelled = 0;
    for wait in [1, 5, 10, 20, 40, 80] {
        let number = client.begin(
            "tools/call",
            json!({"name": "create_backup", "arguments": {"type": "full"}, "_meta": {"progressToken": "p"}}),
        );
        std::thread::sleep(Duration::from_millis(wait));
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number, "reason": "test"}}));
        let listed = client.ok("list_backups", json!({}));
        let _ = listed;
        cancelled += 1;
    }
    // Each either ended before it was cancelled, or is not there.
    let id = client.ok("create_backup", json!({}))["backupId"].clone();
    let after = client.ok("list_backups", json!({"limit": 100}));
    assert!(after["total"].as_u64().unwrap() <= before.as_u64().unwrap() + cancelled + 1);
    for backup in after["backups"].as_array().unwrap() {
        client.ok("verify_backup", json!({"backupId": backup["backupId"]}));
    }
    client.ok("verify_backup", json!({"backupId": id, "deep": true}));
    place.run(&["verify"], 0);
}

#[test]
fn a_call_that_is_cancelled_while_it_waits_does_nothing() {
    let place = place();
    for n in 0..30 {
        let text: String = (0..40_000).map(|i| format!("{} {}\n", i * n, i)).collect();
        place.write(&format!("big/{n}.txt"), text.as_bytes());
    }
    let mut client = Mcp::start(&place, &[], LEGACY);
    let before = client.ok("list_backups", json!({}))["total"]
        .as_u64()
        .unwrap();
    let first = client.begin(
        "tools/call",
        json!({"name": "create_backup", "arguments": {"type": "full"}}),
    );
    let waiting: Vec<u64> = (0..5)
        .map(|_| {
            client.begin(
                "tools/call",
                json!({"name": "create_backup", "arguments": {"type": "full"}}),
            )
        })
        .collect();
    for number in waiting {
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}));
    }
    let done = client.end(first);
    assert_eq!(
        done["result"]["structuredContent"]["success"], true,
        "{done}"
    );
    client.ok("checkpoint", json!({}));
    assert_eq!(client.ok("list_backups", json!({}))["total"], before + 1);
}

#[test]
fn a_restore_that_is_cancelled_leaves_whole_files_and_can_be_taken_back_or_finished() {
    let place = place();
    for n in 0..600 {
        place.write(
            &format!("many/{n}.txt"),
            format!("{n}\n").repeat(400).as_bytes(),
        );
    }
    place.run(&["backup"], 0);
    let good = picture(&place.tree());
    let break_all = || {
        for n in 0..600 {
            fs::write(place.tree().join(format!("many/{n}.txt")), "broken").unwrap();
        }
    };
    let mut client = Mcp::start(&place, &[], LEGACY);
    let first = place.tree().join("many/0.txt");
    let mut stopped = 0;
    for round in 0..6 {
        break_all();
        let broken = picture(&place.tree());
        let arguments = json!({"backupId": "latest", "overwrite": true, "selective": ["many/*"]});
        let number = client.begin(
            "tools/call",
            json!({"name": "restore_backup", "arguments": arguments}),
        );
        // Cancelled as soon as the first file is back.
        let until = Instant::now() + Duration::from_secs(30);
        while fs::metadata(&first).is_ok_and(|meta| meta.len() == 6) && Instant::now() < until {
            std::thread::yield_now();
        }
        client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}));
        // The next call that changes something begins when that one is over.
        client.ok(
            "export_backup_config",
            json!({"outputPath": format!("config-{round}.json")}),
        );
        fs::remove_file(place.tree().join(format!("config-{round}.json"))).unwrap();
        let mut back = 0;
        for n in 0..600 {
            let content = fs::read(place.tree().join(format!("many/{n}.txt"))).unwrap();
            let whole = &good[std::path::Path::new(&format!("many/{n}.txt"))].content;
            assert!(content == *whole || content == b"broken", "half a file");
            back += u32::from(content == *whole);
        }
        let log = place.json(&["log"]);
        let last = log["operations"]
            .as_array()
            .unwrap()
            .iter()
            .find(|operation| operation["kind"] == "restore");
        if let Some(last) = last.filter(|_| back > 0 && back < 600) {
            stopped += 1;
            assert_eq!(last["finished"], true, "{last}");
            let id = last["id"].as_str().unwrap();
            client.ok(
                "undo_changes",
                json!({"checkpointId": id, "paths": ["many/*"]}),
            );
            assert_eq!(
                contents(&broken),
                contents(&picture(&place.tree())),
                "taken back"
            );
        }
        client.ok(
            "restore_backup",
            json!({"backupId": "latest", "overwrite": true, "selective": ["many/*"]}),
        );
        assert_eq!(
            contents(&good),
            contents(&picture(&place.tree())),
            "finished"
        );
    }
    assert!(stopped > 0, "none was stopped in between");
}

#[test]
fn a_server_that_is_killed_leaves_nothing_half_done() {
    let place = place();
    for n in 0..20 {
        let text: String = (0..20_000).map(|i| format!("{} {}\n", i * n, i)).collect();
        place.write(&format!("big/{n}.txt"), text.as_bytes());
    }
    let good = picture(&place.tree());
    place.run(&["backup", "--full"], 0);
    for round in 0..24_u64 {
        let mut client = Mcp::start(&place, &[], LEGACY);
        if round % 2 == 0 {
            client.begin(
                "tools/call",
                json!({"name": "create_backup", "arguments": {"type": "full"}}),
            );
        } else {
            for n in 0..20 {
                fs::write(place.tree().join(format!("big/{n}.txt")), "broken").unwrap();
            }
            client.begin("tools/call", json!({"name": "restore_backup", "arguments": {"backupId": "latest", "overwrite": true}}));
        }
        std::thread::sleep(Duration::from_millis(round * 5));
        client.child.kill().unwrap();
        client.child.wait().unwrap();
        for n in 0..20 {
            let path = place.tree().join(format!("big/{n}.txt"));
            let content = fs::read(&path).unwrap();
            let whole = &good[&path.strip_prefix(place.tree()).unwrap().to_path_buf()].content;
            assert!(
                content == *whole || content == b"broken",
                "half a file after round {round}"
            );
        }
        let mut client = Mcp::start(&place, &[], LEGACY);
        client.ok(
            "restore_backup",
            json!({"backupId": "latest:full", "overwrite": true}),
        );
        let latest =
            client.ok("list_backups", json!({"limit": 1}))["backups"][0]["backupId"].clone();
        client.ok("verify_backup", json!({"backupId": latest}));
    }
    let names =
        |root: &std::path::Path| -> Vec<std::path::PathBuf> { picture(root).into_keys().collect() };
    assert_eq!(
        names(&place.tree()),
        good.keys().cloned().collect::<Vec<_>>()
    );
    place.run(&["verify"], 0);
}

#[test]
fn two_servers_and_the_command_line_share_a_repository() {
    let place = place();
    let mut clients: Vec<Mcp> = (0..2).map(|_| Mcp::start(&place, &[], LEGACY)).collect();
    for round in 0..6 {
        place.write("shared.txt", format!("{round}").as_bytes());
        let numbers: Vec<u64> = clients
            .iter_mut()
            .map(|client| {
                client.begin(
                    "tools/call",
                    json!({"name": "create_backup", "arguments": {}}),
                )
            })
            .collect();
        let mut child = place.bdr(&["backup"]).spawn().unwrap();
        for (client, number) in clients.iter_mut().zip(numbers) {
            let answer = client.end(number);
            assert_eq!(
                answer["result"]["structuredContent"]["success"], true,
                "{answer}"
            );
        }
        assert!(child.wait().unwrap().success());
        for client in &mut clients {
            client.ok("checkpoint", json!({}));
        }
    }
    let listed = clients[0].ok("list_backups", json!({"limit": 100}));
    assert!(listed["total"].as_u64().unwrap() >= 7, "{listed}");
    place.run(&["verify"], 0);
}

#[test]
fn damage_that_a_client_finds_is_known_to_everybody() {
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    client.ok("create_backup", json!({"type": "full"}));
    // Nothing is damaged: there is nothing to refuse.
    let arguments = json!({"backupId": "latest", "repair": true});
    let whole = client.ok("verify_backup", arguments.clone());
    assert_eq!(whole["warnings"], json!([]), "{whole}");
    for pack in walkdir::WalkDir::new(place.store().join("packs")) {
        let pack = pack.unwrap().into_path();
        if pack.is_file() {
            let mut bytes = fs::read(&pack).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x55;
            fs::remove_file(&pack).unwrap();
            fs::write(&pack, bytes).unwrap();
        }
    }
    place.run(&["status"], 0);
    let fault = client.fails("verify_backup", arguments, "BACKUP_CORRUPTED");
    let refused = fault["warnings"][0].as_str().unwrap();
    assert!(refused.contains("bdr repair"), "{fault}");
    assert_eq!(fault["repairActions"], json!(null), "{fault}");
    // What it exits with depends on what the flipped bits cost.
    let said = place.bdr(&["status"]).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("verification found"), "{said}");
    let status = client.tool("get_backup_status", json!({}));
    assert!(status.to_string().contains("damage"), "{status}");
}
