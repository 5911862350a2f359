//! Capture by system call, as the application does it: whether it works here, and the run.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bdr::base::id::OperationId;
use bdr::disk::calls::detach;
use bdr::disk::fsutil;
use bdr::effects::Assessment;
use bdr::model::config::CaptureMode;
use bdr::protect::calls::{self, LeftOptions, Protected, RunOptions, Tally, Unkept};
use bdr::repo::Repository;
use bdr::repo::oplog::Operation;
use serde::{Deserialize, Serialize};

use super::settle_in_background;
use super::uncaptured::CAPTURED;
use crate::app::context::{Context, Needs, NeedsConfig, OPERATION_VARIABLE, variable};
use crate::app::error::Failure;
use crate::ui::{Ui, plural};

/// What a trial said, for as long as this kernel runs.
#[derive(Serialize, Deserialize)]
struct Trial {
    boot: String,
    user: u32,
    trouble: Option<String>,
}

/// Returns the operation of the guard that captures this process and still lives. What a captured
/// command left running has its filter and its environment, but nobody keeps anything any more.
pub(crate) fn captured_by(repo: &Repository) -> Option<OperationId> {
    let operation = variable(CAPTURED)?.into_string().ok()?.parse().ok()?;
    let status = || std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let lives = calls::is_live(repo, operation);
    (lives && status().lines().any(|line| line == "Seccomp:\t2")).then_some(operation)
}

/// Says why a command cannot be captured here. What it failed by before counts where a snapshot can
/// take the place.
pub(crate) fn check(
    cx: &Context,
    assessment: &Assessment,
    (mode, command): (CaptureMode, &[OsString]),
) -> Result<(), String> {
    // Root has the right to install the filter, or nothing to gain.
    if !fsutil::is_root() {
        let before = match mode {
            CaptureMode::Auto => super::raising::failed_before(cx, command),
            _ => None,
        };
        if let Some(why) = before.or_else(|| super::raising::needed(cx, assessment)) {
            return Err(why);
        }
    } else if mode == CaptureMode::Auto
        && let Some(why) = super::raising::unmounts(assessment)
    {
        return Err(why);
    }
    works_here(cx)
}

/// Refuses a command whose words say that it would take away what bdr itself runs from: its program
/// and the system's libraries. Everything would be kept, and nothing could bring it back.
pub(crate) fn check_program(assessment: &Assessment) -> bdr::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let files = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]));
    let mut files: Vec<PathBuf> = files.map(PathBuf::from).collect();
    files.dedup();
    // Named by the links that lead there, too.
    let named = ["/lib/x", "/lib64/x", "/bin/x"].map(PathBuf::from);
    files.extend(named);
    match bdr::protect::guard::named_above(assessment, &files) {
        Some(path) => Err(bdr::Error::WouldDeleteRepository { path }),
        None => Ok(()),
    }
}

/// Remembers a command that failed, where a program in it could not gain rights. Returns true if a
/// snapshot protects it next time.
pub(crate) fn remember_raised(
    cx: &Context,
    (mode, command): (CaptureMode, &[OsString]),
    raised: &BTreeSet<PathBuf>,
    status: std::process::ExitStatus,
) -> bool {
    let program = raised.first().filter(|_| mode == CaptureMode::Auto);
    let Some(program) = program.filter(|_| !status.success()) else {
        return false;
    };
    super::raising::remember(cx, command, program);
    true
}

/// Says why nothing can be captured here; tries it once per start of the system.
pub(crate) fn works_here(cx: &Context) -> Result<(), String> {
    // Of one environment: it may be there in the next.
    let rm = system_rm().ok_or("there is no program `rm` on PATH to try it with")?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let user = fsutil::user_number();
    let note = cx.places.cache.join("capture.json");
    let known: Option<Trial> =
        fsutil::read_derived(&note).and_then(|json| serde_json::from_slice(&json).ok());
    let known = known.filter(|known| known.boot == boot && known.user == user && !boot.is_empty());
    let trial = known.unwrap_or_else(|| {
        let made = fsutil::create_dir_private(&cx.places.cache);
        let made = made.map_err(|error| error.to_string());
        let tried = made.and_then(|()| calls::usable(&rm, &cx.places.cache));
        let trial = Trial {
            boot,
            user,
            trouble: tried.err(),
        };
        let json = serde_json::to_vec(&trial).unwrap_or_default();
        let _ = fsutil::write_derived(&note, &json);
        trial
    });
    trial.trouble.map_or(Ok(()), Err)
}

/// Returns the file of a program.
pub(super) fn find(name: &std::ffi::OsStr) -> Option<PathBuf> {
    let typed = Path::new(name);
    if typed.components().count() > 1 {
        return Some(typed.to_path_buf());
    }
    let path = variable("PATH").unwrap_or_default();
    let mut dirs = std::env::split_paths(&path).map(|dir| dir.join(typed));
    dirs.find(|file| file.is_file())
}

/// Returns the system's own `rm`. The first of that name on PATH may be anything, and trying it may
/// do anything.
fn system_rm() -> Option<PathBuf> {
    let path = variable("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).map(|dir| dir.join("rm"));
    files.find(|file| file.is_file() && super::is_system_rm(file.as_os_str()))
}

/// How a command is captured.
pub(crate) struct How<'a> {
    pub(crate) label: Option<&'a str>,
    /// Parts of the command that cannot be undone.
    pub(crate) remote: Vec<String>,
    pub(crate) unkept: Unkept,
    pub(crate) session: bool,
    /// Overrides what the configuration allows to keep.
    pub(crate) max_bytes: Option<u64>,
}

/// Runs a command under capture.
pub(crate) fn run(
    cx: &Context,
    repo: &Repository,
    command: &[OsString],
    how: How<'_>,
) -> bdr::Result<Protected> {
    // Read before the command, which may take away the rights to it (`chmod 0 ~`).
    let _ = repo.vault().binding_key();
    let options = RunOptions {
        argv: command.to_vec(),
        cwd: cx.cwd.clone(),
        label: how.label.map(str::to_owned),
        remote: how.remote,
        host: cx.host.clone(),
        now: cx.now,
        clock: crate::app::context::now,
        never: vec![cx.places.config.clone()],
        max_copied: how.max_bytes.unwrap_or(cx.config.guard.max_bytes),
        max_kept: how.max_bytes.unwrap_or(cx.config.guard.max_kept),
        unkept: how.unkept,
        session: how.session,
    };
    calls::run(repo, &options, |id| {
        let mut process = Command::new(&command[0]);
        process.args(&command[1..]).env(CAPTURED, id.to_string());
        match how.session {
            // What is below belongs to operations that are not known yet.
            true => process.env_remove(OPERATION_VARIABLE),
            false => process.env(OPERATION_VARIABLE, id.to_string()),
        };
        process
    })
}

/// Starts a process that goes on capturing what the command left running. Returns false if it did
/// not start: then these processes cannot change anything any more.
pub(crate) fn go_on(
    cx: &Context,
    operation: OperationId,
    listener: OwnedFd,
    max_bytes: Option<u64>,
    unkept: Unkept,
) -> bool {
    let Ok(program) = std::env::current_exe() else {
        return false;
    };
    let mut process = Command::new(program);
    process
        .args(["settle", "--quiet", "--answer", &operation.to_string()])
        .arg("--repository")
        .arg(&cx.places.repository);
    if let Some(bytes) = max_bytes {
        process.args(["--max-bytes", &bytes.to_string()]);
    }
    if unkept == Unkept::Goes {
        process.arg("--on-fail-run");
    }
    process
        .current_dir("/")
        .stdin(Stdio::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    detach(&mut process);
    process.spawn().is_ok()
}

/// Captures the processes whose filter is the standard input, until the last has ended. Whatever
/// goes wrong, it answers: without that, nothing of what they do would happen any more.
pub(crate) fn go_on_from_stdin(
    named: Option<&Path>,
    operation: &str,
    max_bytes: Option<u64>,
    unkept: Unkept,
    ui: Ui,
) -> std::io::Result<()> {
    let listener = calls::listener(std::io::stdin().as_fd().try_clone_to_owned()?);
    let needs = Needs {
        config: NeedsConfig::Never,
        stops_on_signals: false,
        sees_left: false,
    };
    let captured = || -> Result<(), Failure> {
        let cx = Context::new(named, ui, needs)?;
        let repo = cx.repository()?;
        let operation = operation
            .parse()
            .map_err(|_| Failure::usage("no operation", "bdr guard starts this by itself"))?;
        let _ = repo.vault().binding_key();
        let options = LeftOptions {
            operation,
            host: cx.host.clone(),
            now: cx.now,
            clock: crate::app::context::now,
            never: vec![cx.places.config.clone()],
            max_copied: max_bytes.unwrap_or(cx.config.guard.max_bytes),
            max_kept: max_bytes.unwrap_or(cx.config.guard.max_kept),
            unkept,
        };
        calls::go_on(&listener, &repo, &options)?;
        settle_in_background(&cx, &repo);
        Ok(())
    };
    match captured() {
        Ok(()) => Ok(()),
        Err(_) => calls::linger(&listener),
    }
}

/// Names what the command was not allowed to destroy because it could not be kept, and the programs
/// that did not get the rights they needed.
pub(crate) fn tell_refused(
    cx: &Context,
    refused: &BTreeMap<PathBuf, String>,
    (raised, is_remembered): (&BTreeSet<PathBuf>, bool),
) {
    const SHOWN: usize = 3;
    for (path, reason) in refused.iter().take(SHOWN) {
        let path = cx.shown(path);
        cx.ui.warn(&format!(
            "bdr: {path} could not be kept, so it was not touched: {reason}"
        ));
    }
    if refused.len() > SHOWN {
        let more = plural((refused.len() - SHOWN) as u64, "more path");
        cx.ui.warn(&format!("bdr: and {more}"));
    }
    if !refused.is_empty() {
        cx.ui
            .warn("bdr: to do it all the same, without a way back: bdr guard --on-fail run -- …");
    }
    for program in raised {
        let name = program.file_name().unwrap_or(program.as_os_str());
        let name = bdr::base::path::show(name);
        let way_out = match is_remembered {
            true => "run it again, and a snapshot protects it instead",
            false => "if it failed: bdr guard --capture off -- …",
        };
        cx.ui.warn(&format!(
            "bdr: `{name}` ran without the rights of another user, because the command was captured; {way_out}"
        ));
    }
}

/// Tells what the commands of a session did.
pub(crate) fn tell_session(cx: &Context, repo: &Repository, session: &Operation, tally: Tally) {
    let id = session.begin.id.prefix(&[]);
    if tally.operations == 0 {
        cx.ui.say("bdr: the session changed nothing");
        return;
    }
    let mut parts = Vec::new();
    for (count, what) in [
        (tally.deleted, "deleted"),
        (tally.changed, "changed"),
        (tally.created, "created"),
    ] {
        if count > 0 {
            parts.push(format!("{} {what}", plural(count, "file")));
        }
    }
    if parts.is_empty() {
        parts.push("no file, only directories".to_owned());
    }
    let operations = plural(tally.operations, "operation");
    cx.ui.say(&format!(
        "bdr: {operations} in this session: {} · bdr log · undo all of it: bdr undo {id}",
        parts.join(", ")
    ));
    let elsewhere = super::outside_of_session(cx, repo, session, tally.operations);
    super::say_outside(cx, &elsewhere, None);
}
