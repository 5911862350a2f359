//! One connection: the `ssh` of the system with its subsystem `sftp` at the other end.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::packet::{self as p, Attributes, Out, Packet};
use crate::disk::store::attempts::{Failed, one_line};
use crate::disk::store::pace::STOPPED;
use crate::disk::store::{Conduct, Location, Trouble};

/// What is read or written by one request.
const CHUNK: usize = 32 << 10;
/// Requests that are sent before the first answer is waited for.
const WINDOW: usize = 32;
/// The longest complaint of `ssh` that is kept.
const MAX_SAID: usize = 4096;

pub(super) struct Session {
    child: Child,
    /// To the thread that writes: it may be stuck, and whoever waits for an answer must not be.
    outgoing: Option<Sender<Vec<u8>>>,
    incoming: Receiver<std::io::Result<Packet>>,
    said: Arc<Mutex<Vec<u8>>>,
    next: u32,
    patience: Duration,
    can_replace: bool,
    can_sync: bool,
}

/// What the server says about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum No {
    End,
    NotFound,
    Forbidden,
    Failure,
    Unsupported,
}

pub(super) type Answer<T> = Result<Result<T, No>, Failed>;

/// Goes on if the server said yes.
macro_rules! yes {
    ($answer:expr) => {
        match $answer? {
            Ok(value) => value,
            Err(no) => return Ok(Err(no)),
        }
    };
}

fn command(location: &Location, conduct: &Conduct) -> Command {
    let mut ssh = Command::new("ssh");
    let seconds = conduct.patience.as_secs().clamp(1, 30);
    let option = |ssh: &mut Command, text: String| {
        ssh.args(["-o", &text]);
    };
    option(&mut ssh, "BatchMode=yes".to_owned());
    option(&mut ssh, format!("ConnectTimeout={seconds}"));
    option(&mut ssh, format!("ServerAliveInterval={seconds}"));
    option(&mut ssh, "ServerAliveCountMax=2".to_owned());
    option(&mut ssh, "ClearAllForwardings=yes".to_owned());
    option(&mut ssh, "PermitLocalCommand=no".to_owned());
    match location.option("known-hosts") {
        Some("add") => option(&mut ssh, "StrictHostKeyChecking=accept-new".to_owned()),
        Some(file) if file.starts_with('/') => {
            option(&mut ssh, "StrictHostKeyChecking=yes".to_owned());
            let quoted = file.replace('"', "");
            option(&mut ssh, format!("UserKnownHostsFile=\"{quoted}\""));
        }
        _ => option(&mut ssh, "StrictHostKeyChecking=yes".to_owned()),
    }
    if let Some(identity) = location.option("identity") {
        option(&mut ssh, "IdentitiesOnly=yes".to_owned());
        ssh.args(["-i", identity]);
    }
    if let Some(user) = &location.user {
        ssh.args(["-l", user]);
    }
    if let Some(port) = location.port {
        ssh.args(["-p", &port.to_string()]);
    }
    let host = location.host.as_deref().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ssh.args(["-s", "--", host, "sftp"]);
    ssh.stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    ssh
}

impl Session {
    pub(super) fn open(location: &Location, conduct: &Conduct) -> Result<Self, Failed> {
        let mut child = command(location, conduct)
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    Failed::refused(Trouble::Unsupported, "there is no `ssh` on this machine")
                }
                _ => Failed::new(Trouble::Other, format!("`ssh` cannot be run: {error}")),
            })?;
        let gone = || Failed::new(Trouble::Other, "`ssh` has no standard streams");
        let mut stdin = child.stdin.take().ok_or_else(gone)?;
        let mut stdout = child.stdout.take().ok_or_else(gone)?;
        let mut stderr = child.stderr.take().ok_or_else(gone)?;
        let (outgoing, to_write) = channel::<Vec<u8>>();
        let (read, incoming) = channel();
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for packet in to_write {
                if stdin
                    .write_all(&packet)
                    .and_then(|()| stdin.flush())
                    .is_err()
                {
                    break;
                }
            }
        });
        std::thread::spawn(move || {
            loop {
                let packet = Packet::read(&mut stdout);
                let is_end = packet.is_err();
                if read.send(packet).is_err() || is_end {
                    break;
                }
            }
        });
        std::thread::spawn(move || {
            let mut chunk = [0; 512];
            while let Ok(length @ 1..) = stderr.read(&mut chunk) {
                let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
                let room = MAX_SAID.saturating_sub(heard.len());
                heard.extend_from_slice(&chunk[..length.min(room)]);
            }
        });
        let mut session = Self {
            child,
            outgoing: Some(outgoing),
            incoming,
            said,
            next: 0,
            patience: conduct.patience,
            can_replace: false,
            can_sync: false,
        };
        session.greet()?;
        Ok(session)
    }

    fn greet(&mut self) -> Result<(), Failed> {
        self.transmit(Out::new(p::INIT).u32(3))?;
        let mut packet = self.receive(self.patience * 2)?;
        if packet.kind != p::VERSION {
            return Err(nonsense());
        }
        packet.u32().map_err(malformed)?;
        while !packet.is_at_end() {
            let name = packet.text().map_err(malformed)?.to_vec();
            packet.text().map_err(malformed)?;
            self.can_replace |= name == b"posix-rename@openssh.com";
            self.can_sync |= name == b"fsync@openssh.com";
        }
        Ok(())
    }

    fn transmit(&mut self, packet: Out) -> Result<(), Failed> {
        let sent = self
            .outgoing
            .as_ref()
            .map(|out| out.send(packet.finish()).is_ok());
        match sent {
            Some(true) => Ok(()),
            _ => Err(self.broken()),
        }
    }

    fn receive(&mut self, patience: Duration) -> Result<Packet, Failed> {
        match self.incoming.recv_timeout(patience) {
            Ok(Ok(packet)) => Ok(packet),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => Err(nonsense()),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(self.broken()),
            Err(RecvTimeoutError::Timeout) => {
                let said = format!("no answer within {} s", patience.as_secs());
                Err(Failed::timeout(said))
            }
        }
    }

    /// Says why the connection ended.
    fn broken(&mut self) -> Failed {
        // `ssh` says it right before it ends.
        let end = Instant::now() + Duration::from_millis(500);
        let mut status = None;
        while status.is_none() && Instant::now() < end {
            status = self.child.try_wait().ok().flatten();
            std::thread::sleep(Duration::from_millis(10));
        }
        let said = self
            .said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        explain(&String::from_utf8_lossy(&said))
    }

    /// Sends a request that has a number; returns it.
    fn request(&mut self, kind: u8, fill: impl FnOnce(Out) -> Out) -> Result<u32, Failed> {
        self.next = self.next.wrapping_add(1);
        let number = self.next;
        self.transmit(fill(Out::new(kind).u32(number)))?;
        Ok(number)
    }

    /// Receives the answer to the oldest request; servers may mix them up, so the number counts.
    fn answer(&mut self, patience: Duration) -> Result<(u32, Packet), Failed> {
        let mut packet = self.receive(patience)?;
        let number = packet.u32().map_err(malformed)?;
        Ok((number, packet))
    }

    fn call(&mut self, kind: u8, fill: impl FnOnce(Out) -> Out) -> Answer<Packet> {
        let asked = self.request(kind, fill)?;
        let (number, packet) = self.answer(self.patience)?;
        if number != asked {
            return Err(nonsense());
        }
        checked(packet)
    }

    fn done(&mut self, kind: u8, fill: impl FnOnce(Out) -> Out) -> Answer<()> {
        Ok(self.call(kind, fill)?.map(|_| ()))
    }

    fn handle(&mut self, kind: u8, fill: impl FnOnce(Out) -> Out) -> Answer<Vec<u8>> {
        let mut packet = yes!(self.call(kind, fill));
        match packet.kind {
            p::HANDLE => Ok(Ok(packet.text().map_err(malformed)?.to_vec())),
            _ => Err(nonsense()),
        }
    }

    fn close(&mut self, handle: &[u8]) -> Answer<()> {
        self.done(p::CLOSE, |out| out.text(handle))
    }

    /// Writes a new file and makes it durable where the server can.
    pub(super) fn write_new(
        &mut self,
        path: &str,
        bytes: &[u8],
        wait: &dyn Fn(usize) -> bool,
    ) -> Answer<()> {
        // Write, create, only if there is none; for this user alone.
        let open = |out: Out| {
            out.text(path.as_bytes())
                .u32(0x2 | 0x8 | 0x20)
                .u32(4)
                .u32(0o600)
        };
        let handle = yes!(self.handle(p::OPEN, open));
        let written = self.write_chunks(&handle, bytes, wait)?;
        let synced = match written.is_ok() && self.can_sync {
            true => self.done(p::EXTENDED, |out| {
                out.text(b"fsync@openssh.com").text(&handle)
            })?,
            false => Ok(()),
        };
        let closed = self.close(&handle)?;
        Ok(written.and(synced).and(closed))
    }

    fn write_chunks(
        &mut self,
        handle: &[u8],
        bytes: &[u8],
        wait: &dyn Fn(usize) -> bool,
    ) -> Answer<()> {
        let (mut waiting, mut outcome) = (0_usize, Ok(()));
        let mut chunks = bytes.chunks(CHUNK).enumerate();
        loop {
            while waiting < WINDOW
                && outcome.is_ok()
                && let Some((number, chunk)) = chunks.next()
            {
                if !wait(chunk.len()) {
                    return Err(Failed::new(Trouble::Other, STOPPED));
                }
                let at = (number * CHUNK) as u64;
                self.request(p::WRITE, |out| out.text(handle).u64(at).text(chunk))?;
                waiting += 1;
            }
            if waiting == 0 {
                return Ok(outcome);
            }
            let (_, packet) = self.answer(self.patience)?;
            waiting -= 1;
            outcome = outcome.and(checked(packet)?.map(|_| ()));
        }
    }

    /// Reads a range of a file; it may be shorter than asked for.
    pub(super) fn read(
        &mut self,
        path: &str,
        range: Option<std::ops::Range<u64>>,
        wait: &dyn Fn(usize) -> bool,
    ) -> Answer<Vec<u8>> {
        let open = |out: Out| out.text(path.as_bytes()).u32(0x1).u32(0);
        let handle = yes!(self.handle(p::OPEN, open));
        let range = match range {
            Some(range) => range,
            None => match self.call(p::LSTAT, |out| out.text(path.as_bytes()))? {
                Ok(mut found) => 0..found.attributes().map_err(malformed)?.bytes,
                Err(no) => return Ok(Err(no)),
            },
        };
        let content = self.read_chunks(&handle, range, wait)?;
        let _ = self.close(&handle)?;
        Ok(content)
    }

    fn read_chunks(
        &mut self,
        handle: &[u8],
        range: std::ops::Range<u64>,
        wait: &dyn Fn(usize) -> bool,
    ) -> Answer<Vec<u8>> {
        let mut parts = std::collections::BTreeMap::new();
        let mut asked = std::collections::BTreeMap::new();
        let mut at = range.start;
        loop {
            while asked.len() < WINDOW && at < range.end {
                let length = (range.end - at).min(CHUNK as u64) as u32;
                let from = at;
                let number = self.request(p::READ, |out| out.text(handle).u64(from).u32(length))?;
                asked.insert(number, (from, length));
                at += u64::from(length);
            }
            if asked.is_empty() {
                break;
            }
            let (number, packet) = self.answer(self.patience)?;
            let (from, length) = asked.remove(&number).ok_or_else(nonsense)?;
            match checked(packet)? {
                Ok(mut packet) if packet.kind == p::DATA => {
                    let part = packet.text().map_err(malformed)?.to_vec();
                    if !wait(part.len()) {
                        return Err(Failed::new(Trouble::Other, STOPPED));
                    }
                    let got = u32::try_from(part.len()).unwrap_or(u32::MAX);
                    if got == 0 || got > length {
                        return Err(nonsense());
                    }
                    parts.insert(from, part);
                    // Servers may send less than was asked for.
                    if got < length {
                        let (from, length) = (from + u64::from(got), length - got);
                        let number =
                            self.request(p::READ, |out| out.text(handle).u64(from).u32(length))?;
                        asked.insert(number, (from, length));
                    }
                }
                Ok(_) => return Err(nonsense()),
                Err(No::End) => {}
                Err(no) => return Ok(Err(no)),
            }
        }
        // What follows a hole is past the end of a file that became shorter.
        let mut content = Vec::new();
        for (from, part) in parts {
            if from != range.start + content.len() as u64 {
                break;
            }
            content.extend(part);
        }
        Ok(Ok(content))
    }

    /// Returns what is at a path, without following a symlink at its end.
    pub(super) fn look(&mut self, path: &str) -> Answer<Attributes> {
        self.attributes(p::LSTAT, path)
    }

    /// As [`Session::look`], of what a symlink leads to.
    pub(super) fn look_through(&mut self, path: &str) -> Answer<Attributes> {
        self.attributes(p::STAT, path)
    }

    fn attributes(&mut self, kind: u8, path: &str) -> Answer<Attributes> {
        let mut packet = yes!(self.call(kind, |out| out.text(path.as_bytes())));
        match packet.kind {
            p::ATTRS => Ok(Ok(packet.attributes().map_err(malformed)?)),
            _ => Err(nonsense()),
        }
    }

    /// Returns the names in a directory that are text.
    pub(super) fn names(&mut self, path: &str) -> Answer<Vec<(String, Attributes)>> {
        let handle = yes!(self.handle(p::OPENDIR, |out| out.text(path.as_bytes())));
        let mut names = Vec::new();
        let outcome = loop {
            let mut packet = match self.call(p::READDIR, |out| out.text(&handle))? {
                Ok(packet) if packet.kind == p::NAME => packet,
                Ok(_) => return Err(nonsense()),
                Err(No::End) => break Ok(()),
                Err(no) => break Err(no),
            };
            let count = packet.u32().map_err(malformed)?;
            for _ in 0..count {
                let name = packet.text().map_err(malformed)?.to_vec();
                packet.text().map_err(malformed)?;
                let attributes = packet.attributes().map_err(malformed)?;
                names.extend(String::from_utf8(name).ok().map(|name| (name, attributes)));
            }
        };
        let _ = self.close(&handle)?;
        Ok(outcome.map(|()| names))
    }

    pub(super) fn make_dir(&mut self, path: &str) -> Answer<()> {
        self.done(p::MKDIR, |out| out.text(path.as_bytes()).u32(4).u32(0o700))
    }

    pub(super) fn remove(&mut self, path: &str) -> Answer<()> {
        self.done(p::REMOVE, |out| out.text(path.as_bytes()))
    }

    /// Renames where nothing has the new name: OpenSSH never replaces by this call.
    pub(super) fn rename_new(&mut self, from: &str, to: &str) -> Answer<()> {
        self.done(p::RENAME, |out| {
            out.text(from.as_bytes()).text(to.as_bytes())
        })
    }

    /// Renames over whatever has the new name, at once where the server can.
    pub(super) fn rename_over(&mut self, from: &str, to: &str) -> Answer<()> {
        if self.can_replace {
            let name = b"posix-rename@openssh.com";
            let both = |out: Out| out.text(name).text(from.as_bytes()).text(to.as_bytes());
            return self.done(p::EXTENDED, both);
        }
        let _ = self.remove(to)?;
        self.rename_new(from, to)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Without its input `ssh` would end by itself, unless it is stuck.
        self.outgoing = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn checked(mut packet: Packet) -> Answer<Packet> {
    if packet.kind != p::STATUS {
        return Ok(Ok(packet));
    }
    Ok(Err(match packet.u32().map_err(malformed)? {
        0 => return Ok(Ok(packet)),
        1 => No::End,
        2 => No::NotFound,
        3 => No::Forbidden,
        8 => No::Unsupported,
        _ => No::Failure,
    }))
}

fn malformed(_: p::Malformed) -> Failed {
    nonsense()
}

fn nonsense() -> Failed {
    let said = "the answer is no SFTP: does the account's shell print something when it starts?";
    Failed::new(Trouble::Nonsense, said)
}

/// Understands what `ssh` says before it gives up.
fn explain(said: &str) -> Failed {
    let lower = said.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let trouble = if has(&["host key verification failed", "identification has changed"]) {
        Trouble::Certificate
    } else if has(&[
        "permission denied",
        "too many authentication failures",
        "no such identity",
    ]) {
        Trouble::Credentials
    } else if has(&["subsystem request failed"]) {
        Trouble::Unsupported
    } else {
        Trouble::Unreachable
    };
    let lines = said.lines().map(str::trim);
    let mut lines: Vec<&str> = lines
        .filter(|line| !line.is_empty() && !line.contains("@@@"))
        .collect();
    lines.reverse();
    lines.truncate(2);
    let text = match lines.is_empty() {
        true => "the connection ended".to_owned(),
        false => format!("ssh: {}", one_line(&lines.join(" · "))),
    };
    Failed {
        is_refused: trouble != Trouble::Unreachable,
        ..Failed::new(trouble, text)
    }
}
