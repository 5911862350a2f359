//! A client of `bdr mcp` that speaks in lines of JSON, in both eras of the protocol.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::Place;

/// The last version with a handshake.
pub(crate) const LEGACY: &str = "2025-11-25";
/// The first without.
pub(crate) const MODERN: &str = "2026-07-28";

/// What answers when the server asks its user.
pub(crate) type Asked = Box<dyn FnMut(&Value) -> Value + Send>;

pub(crate) struct Mcp {
    pub(crate) child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    number: u64,
    modern: bool,
    capabilities: Value,
    asked: Option<Asked>,
    /// Everything else that the server sent.
    pub(crate) notes: Vec<Value>,
}

impl Mcp {
    /// Starts a server, and shakes hands where the version has that.
    pub(crate) fn start(place: &Place, args: &[&str], version: &str) -> Self {
        Self::with(place, args, version, None)
    }

    /// The same for a client that can ask its user.
    pub(crate) fn asking(
        place: &Place,
        version: &str,
        asked: impl FnMut(&Value) -> Value + Send + 'static,
    ) -> Self {
        Self::with(place, &[], version, Some(Box::new(asked)))
    }

    fn with(place: &Place, args: &[&str], version: &str, asked: Option<Asked>) -> Self {
        let mut all = vec!["mcp"];
        all.extend_from_slice(args);
        let mut command = place.bdr(&all);
        command.env("BDR_BACKGROUND", "0");
        Self::run(command, version, asked)
    }

    pub(crate) fn run(mut command: Command, version: &str, asked: Option<Asked>) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut client = Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
            number: 0,
            modern: version == MODERN,
            capabilities: match asked {
                Some(_) => json!({"elicitation": {"form": {}}}),
                None => json!({}),
            },
            asked,
            notes: Vec::new(),
        };
        if !client.modern {
            let capabilities = client.capabilities.clone();
            let info = json!({"name": "test", "version": "1"});
            let answer = client.request(
                "initialize",
                json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": info}),
            );
            assert_eq!(answer["result"]["protocolVersion"], version, "{answer}");
            client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        }
        client
    }

    pub(crate) fn send(&mut self, message: &Value) {
        let mut line = message.to_string();
        line.push('\n');
        self.send_raw(line.as_bytes());
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(bytes).unwrap();
        stdin.flush().unwrap();
    }

    /// Sends a request and returns its number.
    pub(crate) fn begin(&mut self, method: &str, mut params: Value) -> u64 {
        self.number += 1;
        if self.modern {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": self.capabilities,
            });
            let given = params["_meta"].take();
            params["_meta"] = meta;
            for (name, value) in given.as_object().into_iter().flatten() {
                params["_meta"][name] = value.clone();
            }
        }
        let number = self.number;
        self.send(&json!({"jsonrpc": "2.0", "id": number, "method": method, "params": params}));
        number
    }

    /// Returns the answer to a request; what else comes is answered, or kept.
    pub(crate) fn end(&mut self, number: u64) -> Value {
        loop {
            let message = self.next().expect("the server went away");
            let is_answer = message.get("result").is_some() || message.get("error").is_some();
            if is_answer && message["id"] == number {
                return message;
            }
            match (&mut self.asked, message.get("method"), message.get("id")) {
                (Some(asked), Some(_), Some(id)) => {
                    let answer = asked(&message["params"]);
                    let reply = json!({"jsonrpc": "2.0", "id": id, "result": answer});
                    self.send(&reply);
                }
                _ => self.notes.push(message),
            }
        }
    }

    /// Returns the next message; every line has to be one.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line).unwrap();
        (read > 0).then(|| {
            let message: Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON line: {line:?}"));
            assert_eq!(message["jsonrpc"], "2.0", "{line}");
            message
        })
    }

    pub(crate) fn request(&mut self, method: &str, params: Value) -> Value {
        let number = self.begin(method, params);
        self.end(number)
    }

    /// Calls a tool, and answers for the user where that is asked in the newer way; returns the result.
    pub(crate) fn tool(&mut self, name: &str, arguments: Value) -> Value {
        let mut params = json!({"name": name, "arguments": arguments});
        loop {
            let mut answer = self.request("tools/call", params.clone());
            assert!(answer.get("error").is_none(), "{answer}");
            let result = answer["result"].take();
            if result["resultType"] != "input_required" {
                return result;
            }
            let asked = self.asked.as_mut().expect("nobody can be asked");
            let reply = asked(&result["inputRequests"]["confirm"]["params"]);
            params["requestState"] = result["requestState"].clone();
            params["inputResponses"] = json!({"confirm": reply});
        }
    }

    /// Calls a tool that has to succeed; returns its structured result.
    #[track_caller]
    pub(crate) fn ok(&mut self, name: &str, arguments: Value) -> Value {
        let mut result = self.tool(name, arguments);
        assert_ne!(result["isError"], true, "{name}: {result}");
        result["structuredContent"].take()
    }

    /// Calls a tool that has to fail with a code; returns its structured result.
    #[track_caller]
    pub(crate) fn fails(&mut self, name: &str, arguments: Value, code: &str) -> Value {
        let mut result = self.tool(name, arguments);
        assert_eq!(result["isError"], true, "{name}: {result}");
        assert_eq!(result["structuredContent"]["success"], false, "{result}");
        assert_eq!(
            result["structuredContent"]["error"]["code"], code,
            "{name}: {result}"
        );
        result["structuredContent"].take()
    }

    /// Closes stdin and waits; returns the exit code and stderr.
    pub(crate) fn close(mut self) -> (Option<i32>, String) {
        drop(self.stdin.take());
        while self.next().is_some() {}
        let mut stderr = String::new();
        let mut pipe = self.child.stderr.take().unwrap();
        pipe.read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code(), stderr)
    }
}

impl Drop for Mcp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
