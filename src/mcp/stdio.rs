//! Standard input and output as a transport. Only messages reach standard output, whatever else the
//! process prints.

use std::fs::File;
use std::io::{self, Write as _};

use bdr::base::error::IoContext as _;
use rmcp::ServiceExt as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

use super::server::Server;
use crate::app::error::Failure;
use crate::app::exit;

/// Returns standard output for messages, and redirects everything else that is printed to standard
/// error.
#[cfg(unix)]
pub(super) fn take_stdout() -> io::Result<File> {
    use std::os::fd::AsFd as _;
    let own = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(File::from(own))
}

/// Returns standard output for messages. Nothing in bdr prints in this mode.
#[cfg(windows)]
pub(super) fn take_stdout() -> io::Result<File> {
    use std::os::windows::io::AsHandle as _;
    let own = io::stdout().as_handle().try_clone_to_owned()?;
    Ok(File::from(own))
}

/// Size of the buffer between stdin and the server, in bytes.
const PIPE: usize = 64 * 1024;

/// Limit of one message, in bytes: no client sends more, so do not keep it in memory.
const LONGEST: u64 = 16 << 20;

/// Versions in which a message may be a list of messages.
const WITH_BATCHES: [&str; 2] = ["2024-11-05", "2025-03-26"];

/// Converts a client's messages to the form that the server accepts.
#[derive(Default)]
struct Sorter {
    /// There was a request: from here on notifications have a meaning.
    asked: bool,
    batches: bool,
}

impl Sorter {
    /// Returns the messages of a line, one per line; `None` if it is not valid: the sender would
    /// wait for an answer for ever.
    fn sort(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        if line.trim_ascii().is_empty() {
            return Some(Vec::new());
        }
        let message = serde_json::from_slice::<Value>(line).ok()?;
        if self.asked && !(message.is_array() && self.batches) {
            return Some(line.to_vec());
        }
        Some(match message {
            Value::Array(all) if self.batches && !all.is_empty() => {
                // Each is answered separately.
                let each = all.iter().map(|one| format!("{one}\n"));
                each.collect::<String>().into_bytes()
            }
            message => {
                let asks = message.get("id").is_some();
                if message.get("method").is_some() && !asks {
                    return Some(Vec::new());
                }
                self.asked |= asks;
                let version = message.pointer("/params/protocolVersion");
                self.batches |= version
                    .and_then(Value::as_str)
                    .is_some_and(|version| WITH_BATCHES.contains(&version));
                line.to_vec()
            }
        })
    }
}

/// Answers until stdin ends.
pub(super) async fn serve(server: Server, stdout: File) -> Result<u8, Failure> {
    // Filter out what the library cannot handle: a notification before any request would end it.
    let (messages, mut sorted) = tokio::io::duplex(PIPE);
    let mut answers = stdout.try_clone().context("write", "stdout")?;
    tokio::spawn(async move {
        let mut lines = tokio::io::BufReader::new(tokio::io::stdin());
        let mut sorter = Sorter::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut within = (&mut lines).take(LONGEST);
            match within.read_until(b'\n', &mut line).await {
                Ok(read) if read > 0 => {}
                // The closing pipe tells the other end.
                _ => return,
            }
            let whole = line.ends_with(b"\n") || (line.len() as u64) < LONGEST;
            let messages = sorter.sort(&line);
            if messages.is_none() && whole {
                // We cannot know what the line was, but its sender may be waiting.
                let error = json!({"code": -32700, "message": "a line that is not JSON, or is nested too deeply"});
                let answer = json!({"jsonrpc": "2.0", "id": null, "error": error});
                if answers.write_all(format!("{answer}\n").as_bytes()).is_err() {
                    return;
                }
                continue;
            }
            let Some(messages) = messages.filter(|_| whole) else {
                let _ = writeln!(
                    io::stderr(),
                    "bdr mcp: a line of over 16 MiB: the connection ends"
                );
                return;
            };
            if sorted.write_all(&messages).await.is_err() {
                return;
            }
        }
    });
    let transport = (messages, tokio::fs::File::from_std(stdout));
    let failed = |why: String| Failure::from(bdr::Error::invalid(why, None));
    let running = match server.serve(transport).await {
        Ok(running) => running,
        // The client disconnected before its first message.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(exit::OK),
        Err(error) => return Err(failed(format!("the client does not speak MCP: {error}"))),
    };
    running
        .waiting()
        .await
        .map_err(|error| failed(error.to_string()))?;
    Ok(exit::OK)
}
