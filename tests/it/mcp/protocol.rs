//! Messages, progress, pages, resources, prompts, HTTP, and what is published of the server.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use super::place;
use crate::support::mcp::{LEGACY, MODERN, Mcp};

#[test]
fn a_broken_configuration_is_said_by_each_call_until_it_is_mended() {
    let place = place();
    let config = place.path("bdr/config.toml");
    let good = fs::read_to_string(&config).unwrap();
    fs::write(&config, "[guard\nbroken").unwrap();
    let mut client = Mcp::start(&place, &[], LEGACY);
    client.fails("list_backups", json!({}), "CONFIG_INVALID");
    client.fails("checkpoint", json!({}), "CONFIG_INVALID");
    fs::write(&config, good).unwrap();
    client.ok("list_backups", json!({}));
}

#[test]
fn what_is_no_message_is_answered_by_messages_only() {
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    for bytes in [
        &b"{\n"[..],
        b"not json\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"nothing/at/all\"}\n",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/unheard\"}\n",
        b"\n",
    ] {
        client.send_raw(bytes);
    }
    // `end` takes nothing but JSON lines.
    client.ok("list_backups", json!({}));
    let unknown = client.request("resources/read", json!({"uri": "bdr://nowhere"}));
    assert_eq!(unknown["error"]["code"], -32002);
    assert_eq!(client.close().0, Some(0));
    let mut client = Mcp::start(&place, &[], MODERN);
    let unknown = client.request("resources/read", json!({"uri": "bdr://nowhere"}));
    assert_eq!(unknown["error"]["code"], -32602);
}

#[test]
fn progress_is_told_to_who_asks_for_it_and_grows() {
    let place = place();
    for n in 0..60 {
        let text: String = (0..40_000).map(|i| format!("{} {}\n", i * n, i)).collect();
        place.write(&format!("big/{n}.txt"), text.as_bytes());
    }
    for version in [LEGACY, MODERN] {
        let mut client = Mcp::start(&place, &[], version);
        let answer = client.request(
            "tools/call",
            json!({"name": "create_backup", "arguments": {"type": "full"}, "_meta": {"progressToken": "t1"}}),
        );
        assert_eq!(
            answer["result"]["structuredContent"]["success"], true,
            "{answer}"
        );
        let mut last = -1.0;
        for note in &client.notes {
            assert_eq!(note["method"], "notifications/progress");
            assert_eq!(note["params"]["progressToken"], "t1");
            let progress = note["params"]["progress"].as_f64().unwrap();
            assert!(progress >= last, "{:?}", client.notes);
            last = progress;
        }
        assert!(!client.notes.is_empty(), "no progress was told");
    }
}

#[test]
fn resources_prompts_and_completions_answer() {
    let place = place();
    let mut client = Mcp::start(&place, &[], MODERN);
    let id = client.ok("create_backup", json!({}))["backupId"].clone();
    let id = id.as_str().unwrap();
    let listed = client.request("resources/list", json!({}));
    assert_eq!(listed["result"]["resources"].as_array().unwrap().len(), 3);
    let templates = client.request("resources/templates/list", json!({}));
    assert_eq!(
        templates["result"]["resourceTemplates"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    for uri in ["bdr://status", "bdr://snapshots", "bdr://guide"] {
        let read = client.request("resources/read", json!({"uri": uri}));
        let text = read["result"]["contents"][0]["text"].as_str().unwrap();
        assert!(text.len() > 50, "{uri}: {read}");
        assert_eq!(read["result"]["cacheScope"], "private");
    }
    let manifest = client.request(
        "resources/read",
        json!({"uri": format!("bdr://snapshots/{id}")}),
    );
    let text = manifest["result"]["contents"][0]["text"].as_str().unwrap();
    let files: Value = serde_json::from_str(text).unwrap();
    assert_eq!(files["fileCount"], 31);
    assert_eq!(manifest["result"]["ttlMs"], 86_400_000);
    let path = files["files"][0]["path"].as_str().unwrap();
    let file = client.request(
        "resources/read",
        json!({"uri": format!("bdr://snapshots/{id}/files/{path}")}),
    );
    assert!(file["result"]["contents"][0]["text"].is_string(), "{file}");
    place.write("src/f1.txt", b"other");
    let diff = client.request(
        "resources/read",
        json!({"uri": format!("bdr://diff/{id}/now")}),
    );
    assert!(
        diff["result"]["contents"][0]["text"]
            .as_str()
            .unwrap()
            .contains("f1.txt")
    );
    assert_eq!(diff["result"]["ttlMs"], 0);
    // Two names that never mean anything else, and one that does tomorrow.
    for (to, ttl) in [(id, 86_400_000), ("latest", 0)] {
        let uri = format!("bdr://diff/{id}/{to}");
        let diff = client.request("resources/read", json!({"uri": uri}));
        assert_eq!(diff["result"]["ttlMs"], ttl, "{uri}");
    }
    let prompts = client.request("prompts/list", json!({}));
    assert_eq!(prompts["result"]["prompts"].as_array().unwrap().len(), 3);
    let prompt = client.request(
        "prompts/get",
        json!({"name": "safe-change", "arguments": {"plan": "delete logs"}}),
    );
    let text = prompt["result"]["messages"][0]["content"]["text"]
        .as_str()
        .unwrap();
    assert!(text.contains("delete logs"));
    let missing = client.request("prompts/get", json!({"name": "recover", "arguments": {}}));
    assert_eq!(missing["error"]["code"], -32602);
    let complete = client.request(
        "completion/complete",
        json!({"ref": {"type": "ref/resource", "uri": "bdr://snapshots/{id}"}, "argument": {"name": "id", "value": &id[..4]}}),
    );
    let values = complete["result"]["completion"]["values"]
        .as_array()
        .unwrap();
    assert!(values.iter().any(|value| value == id), "{complete}");
}

#[test]
fn long_lists_come_in_pages() {
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    client.ok("checkpoint", json!({}));
    for n in 0..250 {
        place.write(&format!("many/{n:03}"), b"x");
    }
    let mut seen = Vec::new();
    let mut cursor = Value::Null;
    loop {
        let page = client.ok(
            "diff_changes",
            json!({"cursor": cursor, "paths": ["many/*"]}),
        );
        seen.extend(
            page["files"]
                .as_array()
                .unwrap()
                .iter()
                .map(|file| file["path"].to_string()),
        );
        match page.get("nextCursor") {
            Some(next) => cursor = next.clone(),
            None => break,
        }
    }
    let number = seen.len();
    seen.dedup();
    assert_eq!((number, seen.len()), (250, 250));
}

#[cfg(feature = "http")]
#[test]
fn over_http_only_who_knows_the_token_is_answered() {
    use std::io::{BufRead as _, Read as _, Write as _};
    let place = place();
    for address in ["0.0.0.0:0", "192.168.0.1:0", "localhost:0"] {
        place.run(&["mcp", "--http", address], 2);
    }
    let mut child = place
        .bdr(&["mcp", "--http", "127.0.0.1:0"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    let address = line
        .split("http://")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let file = place.path("bdr/state/mcp.token");
    let token = fs::read_to_string(&file).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params":
        {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}})
    .to_string();
    let ask = |headers: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let head = format!(
            "POST /mcp HTTP/1.1\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).unwrap();
        String::from_utf8_lossy(&first[9..]).into_owned()
    };
    let host = format!("host: {address}\r\n");
    let bearer = format!("authorization: Bearer {}\r\n", token.trim());
    for (headers, status) in [
        (format!("{host}{bearer}"), "200"),
        (
            format!("{host}{bearer}origin: http://localhost:1234\r\n"),
            "200",
        ),
        (host.clone(), "401"),
        (format!("{host}authorization: Bearer 00\r\n"), "401"),
        (
            format!("{host}authorization: Basic {}\r\n", token.trim()),
            "401",
        ),
        (format!("host: evil.example\r\n{bearer}"), "403"),
        (
            format!("{host}{bearer}origin: http://evil.example\r\n"),
            "403",
        ),
        (format!("{host}{bearer}origin: null\r\n"), "403"),
    ] {
        assert_eq!(ask(&headers), status, "{headers}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_is_published_says_what_the_server_is() {
    let read = |name: &str| -> Value {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(".ci/mcpb")
            .join(name);
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let (manifest, server) = (read("manifest.json"), read("server.json"));
    for document in [&manifest, &server] {
        assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    }
    let place = place();
    let mut client = Mcp::start(&place, &[], LEGACY);
    let tools = client.request("tools/list", json!({}));
    let names = |list: &Value| -> Vec<Value> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|tool| tool["name"].clone())
            .collect()
    };
    assert_eq!(names(&manifest["tools"]), names(&tools["result"]["tools"]));
    // The registry refuses longer ones.
    assert!(server["description"].as_str().unwrap().len() <= 100);
    let package = &server["packages"][0];
    assert!(
        package["identifier"]
            .as_str()
            .unwrap()
            .contains(env!("CARGO_PKG_VERSION"))
    );
    // What the bundle starts is understood, with several folders and a switch that comes as text.
    let mut command = place.bdr(&["mcp", "--root", "/nowhere", "/tmp"]);
    command.env("BDR_MCP_READ_ONLY", "true");
    let mut client = Mcp::run(command, LEGACY, None);
    let tools = client.request("tools/list", json!({}));
    assert_eq!(tools["result"]["tools"].as_array().unwrap().len(), 5);
}

/// Talks to a server without a handshake; returns the lines that it answers to what is written, and its exit code.
fn lines_for(place: &crate::support::Place, messages: &[Value]) -> (Vec<String>, Option<i32>) {
    use std::io::Write as _;
    let mut server = place.bdr(&["mcp"]);
    server
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut server = server.spawn().unwrap();
    let mut stdin = server.stdin.take().unwrap();
    for message in messages {
        writeln!(stdin, "{message}").unwrap();
    }
    drop(stdin);
    let output = server.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (
        text.lines().map(str::to_owned).collect(),
        output.status.code(),
    )
}

fn handshake(version: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}})
}

#[test]
fn a_notification_before_anything_was_asked_does_not_end_the_server() {
    let place = place();
    for first in [
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 99}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
    ] {
        let (lines, code) = lines_for(&place, &[first.clone(), handshake("2025-06-18")]);
        assert!(
            lines.iter().any(|line| line.contains("\"result\"")),
            "{first}: {lines:?}"
        );
        assert_eq!(code, Some(0));
    }
}

#[test]
fn a_batch_is_answered_where_the_protocol_has_them() {
    let place = place();
    let batch = json!([{"jsonrpc": "2.0", "id": 3, "method": "ping"}, {"jsonrpc": "2.0", "id": 4, "method": "ping"}]);
    let messages = [
        handshake("2025-03-26"),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        batch,
    ];
    let (lines, _) = lines_for(&place, &messages);
    for id in ["\"id\":3", "\"id\":4"] {
        let answered = |line: &String| line.contains(id) && line.contains("\"result\"");
        assert!(lines.iter().any(answered), "{lines:?}");
    }
}

#[test]
fn a_line_that_never_ends_ends_the_connection() {
    use std::io::Write as _;
    for end in [&b""[..], b"\n"] {
        let place = place();
        let mut server = place.bdr(&["mcp"]);
        server
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        let mut server = server.spawn().unwrap();
        let mut stdin = server.stdin.take().unwrap();
        let hello = handshake("2025-06-18");
        writeln!(stdin, "{hello}").unwrap();
        let writer = std::thread::spawn(move || {
            let piece = vec![b'a'; 1 << 20];
            for _ in 0..17 {
                // The other end may be gone by now: that is what is wanted.
                if stdin.write_all(&piece).is_err() {
                    return;
                }
            }
            let _ = stdin.write_all(end);
            let _ = writeln!(
                stdin,
                "{}",
                json!({"jsonrpc": "2.0", "id": 2, "method": "ping"})
            );
            // Stays open: only the server can end it.
            std::thread::park_timeout(std::time::Duration::from_secs(20));
        });
        let output = server.wait_with_output().unwrap();
        writer.thread().unpark();
        writer.join().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("over 16 MiB"), "{said}");
        let lines = String::from_utf8(output.stdout).unwrap();
        assert_eq!(lines.lines().count(), 1, "{lines}");
    }
}
