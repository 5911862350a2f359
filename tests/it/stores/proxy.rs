//! A proxy before a real server that resets, delays, halves, loses, repeats and refuses, and whose
//! listings do not show yet what was written last.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Pass,
    /// It never arrives.
    Reset,
    /// It is carried out, and the answer never arrives.
    Lose,
    /// It is carried out twice; the second answer arrives.
    Twice,
    /// Half of the answer arrives.
    Halve,
    /// A moment passes, before and after.
    Delay,
    Refuse(u16),
}

type Decide = dyn Fn(usize, &str) -> Act + Send + Sync;

#[derive(Default)]
struct State {
    number: usize,
    decide: Option<Arc<Decide>>,
    /// How many of the last writes listings do not show.
    behind: usize,
    written: VecDeque<String>,
    met: usize,
}

#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// Begins to stand before the server at a port of this machine.
    pub(crate) fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self {
            port,
            state: Arc::default(),
        };
        let own = proxy.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), own) = (stream, own.clone()) else {
                    break;
                };
                std::thread::spawn(move || own.serve(stream, server));
            }
        });
        proxy
    }

    /// From now on, requests are counted from 0, and each has what is decided for it.
    pub(crate) fn plan(&self, decide: impl Fn(usize, &str) -> Act + Send + Sync + 'static) {
        let mut state = self.state.lock().unwrap();
        state.number = 0;
        state.met = 0;
        state.decide = Some(Arc::new(decide));
    }

    pub(crate) fn calm(&self) {
        let mut state = self.state.lock().unwrap();
        (state.decide, state.behind) = (None, 0);
    }

    pub(crate) fn lag(&self, writes: usize) {
        self.state.lock().unwrap().behind = writes;
    }

    /// Returns how many requests there were since the plan, and how many did not just pass.
    pub(crate) fn counted(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.number, state.met)
    }

    fn serve(&self, mut stream: TcpStream, server: u16) {
        while let Some((head, body)) = read(&mut stream, None) {
            let line = head.lines().next().unwrap_or_default().to_owned();
            let act = {
                let mut state = self.state.lock().unwrap();
                let number = state.number;
                state.number += 1;
                let act = state
                    .decide
                    .as_ref()
                    .map_or(Act::Pass, |d| d(number, &line));
                state.met += usize::from(act != Act::Pass);
                act
            };
            let answer = match act {
                Act::Reset => return,
                Act::Refuse(status) => {
                    format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n").into_bytes()
                }
                _ => {
                    if act == Act::Delay {
                        std::thread::sleep(Duration::from_millis(60));
                    }
                    if act == Act::Twice {
                        let _ = forward(server, &head, &body);
                    }
                    let Some(answer) = forward(server, &head, &body) else {
                        return;
                    };
                    self.note(&line, &head);
                    self.aged(&line, answer)
                }
            };
            match act {
                Act::Lose => return,
                Act::Halve => {
                    let _ = stream.write_all(&answer[..answer.len() / 2]);
                    return;
                }
                _ => {}
            }
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }

    /// Remembers the names of what is written.
    fn note(&self, line: &str, head: &str) {
        let target = match line.split(' ').next() {
            Some("PUT") => line.split(' ').nth(1),
            Some("MOVE") => head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_it = name.eq_ignore_ascii_case("destination");
                is_it.then(|| value.trim())
            }),
            _ => None,
        };
        let name = target.and_then(|t| t.split('?').next()?.rsplit('/').next());
        if let Some(name) = name.filter(|name| !name.starts_with(".bdr-tmp")) {
            let mut state = self.state.lock().unwrap();
            state.written.push_back(name.to_owned());
            let spare = state.written.len().saturating_sub(100);
            state.written.drain(..spare);
        }
    }

    /// Takes out of a listing what was written last.
    fn aged(&self, line: &str, answer: Vec<u8>) -> Vec<u8> {
        let hidden: Vec<String> = {
            let state = self.state.lock().unwrap();
            let last = state.written.iter().rev().take(state.behind);
            last.cloned().collect()
        };
        let is_list = line.starts_with("PROPFIND") || line.contains("list-type=2");
        if !is_list || hidden.is_empty() {
            return answer;
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            return answer;
        };
        let end = match line.starts_with("PROPFIND") {
            true => "response>",
            false => "</Contents>",
        };
        let mut kept = String::new();
        let mut rest = body;
        // Each piece ends with the end of an entry.
        while let Some(at) = next_end(rest, end) {
            let (piece, after) = rest.split_at(at);
            let from = begin_of_entry(piece, end);
            let is_hidden = hidden.iter().any(|name| {
                piece[from..].contains(&format!("/{name}<"))
                    || piece[from..].contains(&format!("/{name}/<"))
            });
            kept.push_str(if is_hidden { &piece[..from] } else { piece });
            rest = after;
        }
        kept.push_str(rest);
        let head: Vec<&str> = head
            .lines()
            .filter(|line| {
                let line = line.to_ascii_lowercase();
                !line.starts_with("content-length") && !line.starts_with("transfer-encoding")
            })
            .collect();
        let head = head.join("\r\n");
        format!("{head}\r\nContent-Length: {}\r\n\r\n{kept}", kept.len()).into_bytes()
    }
}

/// Returns where the next entry of a listing is over.
fn next_end(text: &str, end: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find(end)? + end.len();
        let is_closing = end.starts_with("</") || {
            let open = text[..at].rfind('<')?;
            text[open..].starts_with("</")
        };
        if is_closing {
            return Some(at);
        }
        from = at;
    }
}

fn begin_of_entry(piece: &str, end: &str) -> usize {
    let found = match end.starts_with("</") {
        true => piece.rfind("<Contents>"),
        false => {
            let close = piece.rfind("</").unwrap_or(0);
            let open = piece[..close].rfind(end);
            open.and_then(|open| piece[..open].rfind('<'))
        }
    };
    found.unwrap_or(0)
}

/// Sends a request on, and returns the whole answer.
fn forward(server: u16, head: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", server)).ok()?;
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let (head, body) = read(&mut stream, Some(head.split(' ').next()?))?;
    let mut whole = head.into_bytes();
    whole.extend(body);
    Some(whole)
}

/// Reads a message; `method` is that of the request to which it is the answer. What comes in chunks is
/// given with its length.
fn read(stream: &mut TcpStream, method: Option<&str>) -> Option<(String, Vec<u8>)> {
    loop {
        let head = read_head(stream)?;
        let lower = head.to_ascii_lowercase();
        if method.is_some() && lower.starts_with("http/1.1 100") {
            continue;
        }
        let status = lower.split(' ').nth(1).unwrap_or_default();
        let is_empty =
            method == Some("HEAD") || method.is_some() && matches!(status, "204" | "304");
        if is_empty {
            return Some((head, Vec::new()));
        }
        if lower.contains("transfer-encoding: chunked") {
            let body = read_chunks(stream)?;
            let lines = head.trim_end().lines();
            let lines =
                lines.filter(|line| !line.to_ascii_lowercase().starts_with("transfer-encoding"));
            let head = lines.collect::<Vec<_>>().join("\r\n");
            let head = format!("{head}\r\nContent-Length: {}\r\n\r\n", body.len());
            return Some((head, body));
        }
        let length = lower
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length = length.and_then(|length| length.trim().parse().ok());
        if lower.contains("expect: 100-continue") && method.is_none() {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
        }
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).ok()?;
        return Some((head, body));
    }
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn read_chunks(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            stream.read_exact(&mut byte).ok()?;
            line.push(byte[0]);
        }
        let size = String::from_utf8_lossy(&line);
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).ok()?;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Some(body);
        }
    }
}
