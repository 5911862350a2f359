//! A program on a terminal of its own, and somebody who types.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::Place;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn in_place(place: &Place, command: &mut Command) {
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_bdr"));
    let mut path = vec![bin.parent().unwrap().to_path_buf()];
    path.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let like = place.bdr(&[]);
    command
        .env_clear()
        .envs(like.get_envs().filter_map(|(k, v)| Some((k, v?))))
        .env("PATH", std::env::join_paths(path).unwrap())
        .env("TERM", "dumb")
        .env("PS1", "ready> ")
        .current_dir(place.tree());
}

pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A session on a terminal of its own, as a user has it.
pub(crate) struct Terminal {
    pub(crate) master: Option<File>,
    pub(crate) session: Child,
    pub(crate) output: Receiver<Vec<u8>>,
    pub(crate) seen: String,
}

impl Terminal {
    /// Starts a program as the leader of a session; its typing is not echoed.
    pub(crate) fn start(place: &Place, program: &[&str]) -> Self {
        Self::begin(place, &place.tree(), program, false)
    }

    /// The same in another directory.
    pub(crate) fn start_in(place: &Place, dir: &std::path::Path, program: &[&str]) -> Self {
        Self::begin(place, dir, program, false)
    }

    /// The same, and typing is echoed until the program asks for a secret.
    pub(crate) fn start_echoing(place: &Place, program: &[&str]) -> Self {
        Self::begin(place, &place.tree(), program, true)
    }

    /// Waits until a program that was started echoing reads a secret: what is typed before that is
    /// thrown away.
    pub(crate) fn wait_for_secret(&self) {
        use rustix::termios::{LocalModes, tcgetattr};
        let master = self.master.as_ref().unwrap();
        wait_for("a question for a secret", || {
            let mode = tcgetattr(master).unwrap();
            !mode.local_modes.contains(LocalModes::ECHO)
        });
    }

    fn begin(place: &Place, dir: &std::path::Path, program: &[&str], echoes: bool) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let master = master.unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let slave = File::options().read(true).write(true).open(name).unwrap();
        let mut mode = tcgetattr(&slave).unwrap();
        if !echoes {
            mode.local_modes -= LocalModes::ECHO;
        }
        tcsetattr(&slave, OptionalActions::Now, &mode).unwrap();
        let mut command = Command::new("setsid");
        command.arg("-c").args(program);
        in_place(place, &mut command);
        command.current_dir(dir);
        let session = command
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave)
            .spawn()
            .unwrap();
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO: nobody has the other side open any more.
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            master: Some(master),
            session,
            output,
            seen: String::new(),
        }
    }

    pub(crate) fn shell(place: &Place) -> Self {
        let bash = ["bash", "--norc", "--noprofile", "--noediting", "-i"];
        let mut terminal = Self::start(place, &bash);
        terminal.expect("ready> ");
        terminal
    }

    pub(crate) fn type_in(&mut self, keys: &str) {
        let master = self.master.as_mut().unwrap();
        master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the terminal shows `text`, and returns what it showed up to there.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let started = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                let rest = self.seen.split_off(at + text.len());
                return std::mem::replace(&mut self.seen, rest);
            }
            let left = PATIENCE.saturating_sub(started.elapsed());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("no {text:?} on the terminal: {:?}", self.seen),
            }
        }
    }

    /// Waits for the session to end, and returns what the terminal showed since.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let mut status = None;
        wait_for("the session to end", || {
            status = self.session.try_wait().unwrap();
            status.is_some()
        });
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(200)) {
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
        (status.unwrap(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.session.kill();
        let _ = self.session.wait();
    }
}
