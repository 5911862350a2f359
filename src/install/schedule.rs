//! Makes the system's scheduler wake bdr every hour. `schedule` decides what is due then, so a
//! scheduler that sleeps, is late or comes twice makes no difference.
//!
//! Each backend renders an [`Entry`] as text, on every platform, and finds the program in an
//! installed entry. One step writes files and runs the system's tools, which are looked for in the
//! directories that the caller names.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::base::error::{Error, Result};
use crate::base::id::Digest;
use crate::base::path::{os_to_bytes, show};
use crate::disk::fsutil;

pub mod cron;
pub mod launchd;
pub mod schtasks;
pub mod systemd;

/// A scheduler that can wake bdr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A systemd user timer.
    Systemd,
    /// A launchd agent.
    Launchd,
    /// A block in the user's crontab.
    Cron,
    /// A task of the Windows Task Scheduler.
    Schtasks,
}

impl Backend {
    pub const ALL: [Self; 4] = [Self::Systemd, Self::Launchd, Self::Cron, Self::Schtasks];

    /// Returns its word, also for `bdr tick --scheduler`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Launchd => "launchd",
            Self::Cron => "cron",
            Self::Schtasks => "schtasks",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.word() == word)
    }
}

/// What to run, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Absolute path of bdr.
    pub program: PathBuf,
    /// Further arguments of `bdr tick`.
    pub args: Vec<OsString>,
    /// Variables that schedulers do not pass on.
    pub environment: Vec<(String, OsString)>,
    /// Minute of the hour: not the same for everybody, and not that of the backup time itself.
    pub minute: u8,
}

impl Entry {
    /// Returns the minute for a machine and user: 1 to 59, the same each time.
    pub fn minute_for(host: &str, home: &Path) -> u8 {
        let mut text = host.as_bytes().to_vec();
        text.push(0);
        text.extend_from_slice(&os_to_bytes(home.as_os_str()));
        Digest::of(&text).0[0] % 59 + 1
    }

    fn argv(&self, backend: Backend) -> Vec<OsString> {
        let mut argv: Vec<OsString> = ["tick", "--quiet", "--scheduler", backend.word()]
            .map(OsString::from)
            .to_vec();
        // The others have a place for variables.
        if backend == Backend::Schtasks {
            for (name, value) in &self.environment {
                let mut pair = OsString::from(format!("{name}="));
                pair.push(value);
                argv.extend(["--with".into(), pair]);
            }
        }
        argv.extend(self.args.iter().cloned());
        argv
    }
}

/// The surroundings of the schedulers.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub home: PathBuf,
    /// `$XDG_CONFIG_HOME`, or its default.
    pub config_home: PathBuf,
    /// Where replaced files are kept.
    pub state: PathBuf,
    /// Directories in which to look for programs.
    pub path: Vec<PathBuf>,
    /// Name of the user; on Windows with the domain.
    pub user: String,
    /// Id of the user; 0 if there is none.
    pub user_number: u32,
}

/// The current entry of a scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub backend: Backend,
    /// The program that it starts, if we can read that.
    pub program: Option<PathBuf>,
}

impl Surroundings {
    /// Returns the path of a program.
    pub fn tool(&self, name: &str) -> Option<PathBuf> {
        let names = if cfg!(windows) {
            vec![format!("{name}.exe")]
        } else {
            vec![name.to_owned()]
        };
        self.path
            .iter()
            .flat_map(|dir| names.iter().map(move |name| dir.join(name)))
            .find(|file| file.is_file())
    }

    /// Runs a tool and waits for it, with untranslated messages.
    fn run(&self, name: &str, args: &[&OsStr], input: Option<&[u8]>) -> Result<Output> {
        let Some(program) = self.tool(name) else {
            return Err(Error::tool(name, "the program does not exist"));
        };
        let failed = |error: std::io::Error| Error::tool(name, &error.to_string());
        let mut child = Command::new(program)
            .args(args)
            .env("LC_ALL", "C")
            .stdin(if input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // A tool that does not read it says why by itself.
            let _ = stdin.write_all(input);
        }
        child.wait_with_output().map_err(failed)
    }

    /// Runs a tool that has to succeed.
    fn must(&self, name: &str, args: &[&OsStr], input: Option<&[u8]>) -> Result<Output> {
        let output = self.run(name, args, input)?;
        match output.status.success() {
            true => Ok(output),
            false => Err(Error::tool(name, &said(&output))),
        }
    }
}

/// Returns the message of a tool, in one line.
fn said(output: &Output) -> String {
    let text = [&output.stderr[..], &output.stdout[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(3)
        .collect();
    match lines.is_empty() {
        true => format!("it ended with {}", output.status),
        false => show(lines.join("; ").as_ref()),
    }
}

fn os<'w>(words: &[&'w str]) -> Vec<&'w OsStr> {
    words.iter().map(|word| OsStr::new(*word)).collect()
}

/// Returns the scheduler to use here.
///
/// # Errors
/// There is none; the hint says what happens without one.
pub fn choose(around: &Surroundings) -> Result<Backend> {
    if cfg!(windows) {
        return Ok(Backend::Schtasks);
    }
    if cfg!(target_os = "macos") {
        return Ok(Backend::Launchd);
    }
    let systemd = around.run("systemctl", &os(&["--user", "show-environment"]), None);
    if systemd.is_ok_and(|output| output.status.success()) {
        return Ok(Backend::Systemd);
    }
    if around.tool("crontab").is_some() {
        return Ok(Backend::Cron);
    }
    Err(Error::invalid(
        "found no scheduler: neither systemd user units nor crontab",
        Some(
            "guards and agent hooks start a backup that is due; or run `bdr tick` every hour by other means",
        ),
    ))
}

/// Returns the files that a backend would have, to show them.
///
/// # Errors
/// The backend's language cannot express the path of the program.
pub fn files(
    backend: Backend,
    entry: &Entry,
    around: &Surroundings,
) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    Ok(match backend {
        Backend::Systemd => vec![
            (
                around.systemd(systemd::SERVICE),
                systemd::service(entry)?.into_bytes(),
            ),
            (
                around.systemd(systemd::TIMER),
                systemd::timer(entry).into_bytes(),
            ),
        ],
        Backend::Launchd => vec![(
            around.agent(),
            launchd::agent(entry, &around.home)?.into_bytes(),
        )],
        Backend::Cron => vec![(PathBuf::from("crontab"), cron::block(entry)?)],
        Backend::Schtasks => vec![(
            around.state.join("tick.xml"),
            schtasks::task(entry, &around.user)?,
        )],
    })
}

/// Registers the entry, or replaces it.
///
/// # Errors
/// A file cannot be written, or the scheduler's tool refuses.
pub fn install(backend: Backend, entry: &Entry, around: &Surroundings) -> Result<()> {
    // Check the request before changing anything.
    let files = files(backend, entry, around)?;
    if backend == Backend::Cron {
        return change_crontab(around, Some(&files[0].1));
    }
    let mut new = Vec::new();
    for (path, bytes) in &files {
        if let Some(dir) = path.parent() {
            fsutil::create_dir_private(dir)?;
        }
        if read(path)?.is_none() {
            new.push(path);
        }
        fsutil::write_atomic(path, bytes, 0o644)?;
    }
    let done = enlist(backend, entry, around, &files[0].0);
    if done.is_err() {
        // Files that no scheduler has accepted would look like an entry.
        for path in new {
            let _ = fsutil::remove_file(path);
        }
    }
    done
}

/// Tells the scheduler about the new files.
fn enlist(backend: Backend, entry: &Entry, around: &Surroundings, file: &Path) -> Result<()> {
    match backend {
        Backend::Systemd => {
            around.must("systemctl", &os(&["--user", "daemon-reload"]), None)?;
            around.must(
                "systemctl",
                &os(&["--user", "enable", "--now", systemd::TIMER]),
                None,
            )?;
        }
        Backend::Launchd => {
            around.boot_out()?;
            let domain = OsString::from(format!("gui/{}", around.user_number));
            around.must(
                "launchctl",
                &[OsStr::new("bootstrap"), &domain, file.as_os_str()],
                None,
            )?;
        }
        Backend::Schtasks => {
            let create = [
                OsStr::new("/create"),
                OsStr::new("/tn"),
                OsStr::new(schtasks::NAME),
                OsStr::new("/xml"),
                file.as_os_str(),
                OsStr::new("/f"),
            ];
            if around.must("schtasks", &create, None).is_err() {
                // Some users may not have tasks that start at logon.
                let plain = schtasks::task_without_logon(entry, &around.user)?;
                fsutil::write_atomic(file, &plain, 0o644)?;
                around.must("schtasks", &create, None)?;
            }
        }
        Backend::Cron => {}
    }
    Ok(())
}

/// Removes the entry; everything else stays as it is. Returns false if there was none.
///
/// # Errors
/// A file cannot be removed, or the scheduler's tool refuses.
pub fn uninstall(backend: Backend, around: &Surroundings) -> Result<bool> {
    if installed(backend, around)?.is_none() {
        return Ok(false);
    }
    let remove = |path: PathBuf| match fsutil::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, error))
        }
        _ => Ok(()),
    };
    match backend {
        Backend::Systemd => {
            // Without a running systemd the files are all there is.
            let _ = around.run(
                "systemctl",
                &os(&["--user", "disable", "--now", systemd::TIMER]),
                None,
            );
            remove(around.systemd(systemd::TIMER))?;
            remove(around.systemd(systemd::SERVICE))?;
            let _ = around.run("systemctl", &os(&["--user", "daemon-reload"]), None);
            let _ = around.run(
                "systemctl",
                &os(&["--user", "reset-failed", systemd::SERVICE]),
                None,
            );
        }
        Backend::Launchd => {
            around.boot_out()?;
            remove(around.agent())?;
        }
        Backend::Cron => change_crontab(around, None)?,
        Backend::Schtasks => {
            around.must(
                "schtasks",
                &os(&["/delete", "/tn", schtasks::NAME, "/f"]),
                None,
            )?;
            remove(around.state.join("tick.xml"))?;
        }
    }
    Ok(true)
}

/// Returns whether the daemon of a scheduler is running; `None` if it needs none, or the system
/// does not tell.
pub fn daemon_runs(backend: Backend) -> Option<bool> {
    match backend {
        Backend::Cron => cron::daemon_runs(),
        Backend::Systemd | Backend::Launchd | Backend::Schtasks => None,
    }
}

/// Returns what is installed. Reads a file; for cron and Windows it asks their tool.
///
/// # Errors
/// It exists but cannot be read.
pub fn installed(backend: Backend, around: &Surroundings) -> Result<Option<Installed>> {
    let program = match backend {
        Backend::Systemd => match read(&around.systemd(systemd::TIMER))? {
            None => return Ok(None),
            Some(_) => {
                read(&around.systemd(systemd::SERVICE))?.and_then(|text| systemd::program_in(&text))
            }
        },
        Backend::Launchd => match read(&around.agent())? {
            None => return Ok(None),
            Some(text) => launchd::program_in(&text),
        },
        Backend::Cron => {
            if around.tool("crontab").is_none() {
                return Ok(None);
            }
            let text = crontab(around)?;
            match cron::program_in(&text)? {
                None => return Ok(None),
                Some(program) => program,
            }
        }
        Backend::Schtasks => {
            if around.tool("schtasks").is_none() {
                return Ok(None);
            }
            let output = around.run(
                "schtasks",
                &os(&["/query", "/tn", schtasks::NAME, "/xml"]),
                None,
            )?;
            if !output.status.success() {
                return Ok(None);
            }
            schtasks::program_in(&output.stdout)
        }
    };
    Ok(Some(Installed { backend, program }))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

impl Surroundings {
    fn systemd(&self, unit: &str) -> PathBuf {
        self.config_home.join("systemd/user").join(unit)
    }

    fn agent(&self) -> PathBuf {
        self.home
            .join("Library/LaunchAgents")
            .join(format!("{}.plist", launchd::LABEL))
    }

    /// Unloads the agent. Exit codes 3 and 113 mean that it was not loaded.
    fn boot_out(&self) -> Result<()> {
        let target = OsString::from(format!("gui/{}/{}", self.user_number, launchd::LABEL));
        let output = self.run("launchctl", &[OsStr::new("bootout"), &target], None)?;
        match output.status.code() {
            Some(0 | 3 | 113) => Ok(()),
            _ => Err(Error::tool("launchctl", &said(&output))),
        }
    }
}

/// Reads the user's crontab; a missing one is empty.
fn crontab(around: &Surroundings) -> Result<Vec<u8>> {
    let output = around.run("crontab", &os(&["-l"]), None)?;
    if output.status.success() {
        return Ok(cron::without_header(&output.stdout).to_vec());
    }
    let none = output.status.code() == Some(1)
        && output
            .stderr
            .trim_ascii_start()
            .starts_with(b"no crontab for ");
    match none {
        true => Ok(Vec::new()),
        false => Err(Error::tool("crontab", &said(&output))),
    }
}

/// Adds a block to the crontab, or removes it. The previous crontab is kept in the state directory,
/// and restored if the result is not as it should be.
fn change_crontab(around: &Surroundings, block: Option<&[u8]>) -> Result<()> {
    let old = crontab(around)?;
    let mut new = cron::edit(&old, block)?;
    if new == old {
        return Ok(());
    }
    // The lines that are not ours, as a copy in case anything happens to them.
    let others = cron::edit(&old, None)?;
    if !others.is_empty() {
        fsutil::create_dir_private(&around.state)?;
        fsutil::write_atomic(&around.state.join("crontab.old"), &others, 0o600)?;
    }
    let put = |text: &[u8]| match text.is_empty() {
        true => around.must("crontab", &os(&["-r"]), None),
        false => around.must("crontab", &os(&["-"]), Some(text)),
    };
    if let Err(error) = put(&new) {
        // Some crons reject a text without a final line end, and some have returned one.
        if new.ends_with(b"\n") {
            return Err(error);
        }
        new.push(b'\n');
        put(&new)?;
    }
    let now = crontab(around)?;
    if now == new {
        return Ok(());
    }
    put(&old)?;
    Err(Error::tool(
        "crontab",
        "it did not store the new entry; the old one is back",
    ))
}
