//! `bdr hook shell`: called by interactive shells before a line that may change something, and
//! after it.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;

use bdr::base::id::Id;
use bdr::effects::Effect;
use bdr::model::agent::{Event, Host, Moment, Tool};
use bdr::protect::guard::{self, CloseOptions};
use bdr::repo::Repository;
use bdr::repo::oplog::{Begin, Operation};

use super::Global;
use super::Hook;
use super::answer_event;
use super::guarding;
use super::silent_context;
use super::speak;
use super::tick;
use crate::app::context::{Context, guard_is_off};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::guard::uncaptured;

/// The event whose answer decides whether the line runs.
pub(super) const VETO: &str = "veto";

/// How much text about the words of a line is read, in bytes.
const MAX_MEANS: u64 = 32 * 1024;

/// What a shell passes on the command line.
#[derive(Default)]
struct Said {
    after: bool,
    /// The answer "no snapshot for what it destroys" stops the line.
    veto: bool,
    shell: String,
    session: String,
    exit: Option<i32>,
    /// `None` if the shell did not store it.
    line: Option<String>,
    /// Definitions of the line's aliases, functions and variables are on stdin, as lines before it.
    means: bool,
    /// Background processes of the shell.
    jobs: Vec<u32>,
}

fn parse(rest: &[OsString]) -> Option<Said> {
    let mut said = Said::default();
    let mut words = rest.iter().map(|word| word.to_string_lossy());
    said.after = match &*words.next()? {
        "before" => false,
        "after" => true,
        _ => return None,
    };
    while let Some(word) = words.next() {
        match &*word {
            "--shell" => said.shell = words.next()?.into_owned(),
            "--session" => said.session = words.next()?.into_owned(),
            "--veto" => said.veto = true,
            "--means" => said.means = true,
            "--jobs" => said.jobs = words.next()?.split(',').flat_map(str::parse).collect(),
            "--exit" => said.exit = words.next()?.parse().ok(),
            "--" => said.line = Some(words.next()?.into_owned()),
            _ => return None,
        }
    }
    Some(said)
}

pub(super) fn run(rest: &[OsString], global: &Global) -> i32 {
    let Some(said) = parse(rest) else {
        let ui = crate::ui::Ui::new(false, false, global.color, true);
        ui.warn("bdr: this shell's hook is from another version of bdr, so this line is not protected; open a new shell");
        return exit::USAGE.into();
    };
    if guard_is_off() {
        return exit::OK.into();
    }
    match said.after {
        false => {
            let mut event = event(&said, Moment::Before);
            if let (true, Tool::Line { means, .. }) = (said.means, &mut event.tool) {
                let mut bytes = Vec::new();
                let stdin = std::io::stdin().take(MAX_MEANS);
                if std::io::BufReader::new(stdin)
                    .read_to_end(&mut bytes)
                    .is_ok()
                {
                    *means = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
            speak(&answer_event(Host::Shell, &event, global))
        }
        true => {
            // Whatever fails: the line has run, and the shell continues.
            let _ = after(&said, global);
            exit::OK.into()
        }
    }
}

fn event(said: &Said, moment: Moment) -> Event {
    Event {
        moment,
        name: match said.veto {
            true => VETO.to_owned(),
            false => String::new(),
        },
        session: Some(format!("{} {}", said.shell, said.session)),
        call: None,
        cwd: std::env::current_dir().ok(),
        tool_name: said.shell.clone(),
        tool: match &said.line {
            Some(line) => Tool::Line {
                text: line.clone(),
                powershell: said.shell == "powershell",
                means: String::new(),
            },
            None => Tool::Argv(Vec::new()),
        },
        background: false,
        exit: said.exit,
        jobs: said.jobs.clone(),
    }
}

/// Returns those of a shell's jobs that began with an operation and still run: their changes belong
/// to it.
fn own_jobs(repo: &Repository, begin: &Begin, open: &[Begin], jobs: &[u32]) -> Vec<u32> {
    // Start times are in hundredths of a second, rounded down.
    let since = begin.time - chrono::TimeDelta::milliseconds(11);
    let is_own = |job: &u32| {
        let started = bdr::disk::fsutil::process_start(*job);
        // The previous line may have started it just before.
        let taken = |other: &Begin| other.id != begin.id && repo.has_noted(other.id, *job);
        bdr::disk::fsutil::process_runs(*job)
            && started.is_none_or(|started| started >= since)
            && !open.iter().any(taken)
    };
    jobs.iter().copied().filter(is_own).collect()
}

/// Closes operations that no shell will close any more: those of this session, whose last line is
/// over when the next one comes, and those of sessions that have ended. We cannot separate the
/// changes of such a line from later ones, but the next line needs to be separated from it.
pub(super) fn close_leftovers(
    cx: &Context,
    repo: &Repository,
    session: Option<&str>,
    jobs: &[u32],
) -> Result<(), Failure> {
    let options = CloseOptions {
        now: cx.now,
        exit: None,
        never: Vec::new(),
    };
    let open = repo.unfinished_operations()?;
    for begin in open.iter().cloned() {
        let Some(call) = begin
            .agent
            .as_ref()
            .filter(|call| call.host == Host::Shell.word())
        else {
            continue;
        };
        let number = call
            .session
            .as_ref()
            .and_then(|s| s.rsplit(' ').next()?.parse().ok());
        let ended = number.is_some_and(|number| !bdr::disk::fsutil::process_runs(number));
        let own = call.session.as_deref() == session;
        if ended || own && own_jobs(repo, &begin, &open, jobs).is_empty() {
            guard::close(repo, begin, &options)?;
        }
    }
    Ok(())
}

/// Returns true for a git command that loses nothing, because git refuses to overwrite uncommitted
/// work.
fn is_routine(line: &str, cwd: &Path) -> bool {
    if line.contains([
        ';', '|', '&', '<', '>', '`', '$', '(', '{', '\n', '\'', '"', '\\', '*', '?', '[',
    ]) {
        return false;
    }
    let mut words = line.split_whitespace();
    if words.next() != Some("git") {
        return false;
    }
    let command = words.next().unwrap_or_default();
    let rest: Vec<&str> = words.collect();
    let forced = rest.iter().any(|word| {
        let short = word.starts_with('-') && !word.starts_with("--");
        word.starts_with("--f")
            || word.starts_with("--hard")
            || matches!(
                *word,
                "--" | "." | "--ours" | "--theirs" | "--discard-changes" | "--prune" | "--delete"
            )
            || short && word.contains(['f', 'D', 'B', 'C', 'M'])
            || word.starts_with('+')
    });
    let named = || {
        rest.iter()
            .any(|word| cwd.join(word).symlink_metadata().is_ok())
    };
    !forced
        && match command {
            "checkout" => !named(),
            "stash" => !matches!(rest.first().copied(), Some("drop" | "clear")),
            "add" | "commit" | "merge" | "pull" | "rebase" | "cherry-pick" | "revert"
            | "switch" | "branch" | "fetch" | "gc" | "am" | "tag" | "init" => {
                !(command == "tag" && rest.contains(&"-d"))
            }
            _ => false,
        }
}

/// Closes the open operations of this session, and reports what the last line did if something is
/// gone.
fn after(said: &Said, global: &Global) -> Result<(), Failure> {
    let cx = silent_context(global)?;
    if uncaptured::is_captured(&cx) {
        return Ok(());
    }
    let repo = cx.repository()?;
    let session = event(said, Moment::After).session;
    let options = CloseOptions {
        now: cx.now,
        exit: said.exit,
        never: Vec::new(),
    };
    let is_ours = |begin: &&Begin| {
        let call = begin.agent.as_ref();
        call.is_some_and(|call| call.host == Host::Shell.word() && call.session == session)
    };
    let mut told = None;
    let mut running = None;
    let open = repo.unfinished_operations()?;
    for begin in open.iter().filter(is_ours) {
        let jobs = own_jobs(&repo, begin, &open, &said.jobs);
        if !jobs.is_empty() {
            let undo = leave_to_background(&cx, &repo, begin.id, jobs, said.exit)?;
            running = Some((started(begin), undo));
            continue;
        }
        let Some(operation) = guard::close(&repo, begin.clone(), &options)? else {
            continue;
        };
        if !operation.is_undoable() && operation.begin.remote.is_empty() {
            // People type a lot that changes nothing, and the log is for what did.
            repo.forget(std::slice::from_ref(&operation), &operation)?;
            continue;
        }
        let what = worth_saying(&cx, said, global, &operation);
        let undo = guarding::undo_command(&repo, &operation);
        told = what.zip(undo).or(told);
    }
    if let Some((what, undo)) = told {
        let ui = prompt_ui(global).with_unicode(crate::app::context::shows_unicode());
        ui.say(&format!("bdr: {what} · undo: {}", ui.err.bold(&undo)));
    }
    // A line started it; lines that only read ask for nothing.
    if let Some((line, undo)) = running {
        let ui = prompt_ui(global);
        ui.say(&format!(
            "bdr: still running: {line} · undo so far: {}",
            ui.err.bold(&undo)
        ));
    }
    guarding::settle_in_background(&cx, &repo);
    let _ = tick::catch_up(&cx, "hook");
    Ok(())
}

/// How much of a line that still runs is shown.
const STARTED: usize = 30;

/// Returns the beginning of the line that an operation is, without the `&` at its end.
fn started(begin: &Begin) -> String {
    let line = begin.argv.first();
    let line = line.map(|word| word.0.to_string_lossy().into_owned());
    let line = line.unwrap_or_default();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches([' ', '&']);
    let short = bdr::base::path::show(bdr::model::agent::start_of(line, STARTED).as_ref());
    let dots = if short.len() < line.len() { "…" } else { "" };
    format!("{short}{dots}")
}

/// Lets another process close an operation whose jobs still run, because the shell may end before
/// they do. Returns the command that undoes it: without the id it would undo whatever came later.
fn leave_to_background(
    cx: &Context,
    repo: &Repository,
    id: Id,
    jobs: Vec<u32>,
    exit: Option<i32>,
) -> Result<String, Failure> {
    let jobs: Vec<_> = jobs.into_iter().map(|pid| (pid, String::new())).collect();
    guarding::close_later(cx, repo, id, &jobs, exit);
    let ids = repo.operation_ids()?;
    Ok(match ids.last() == Some(&id) {
        true => "bdr undo".to_owned(),
        false => format!("bdr undo {}", id.prefix(&ids)),
    })
}

/// Returns what to say of an operation that changed something. Most lines create or edit files, and
/// a remark after each would soon be ignored: only what is lost is worth one.
fn worth_saying(
    cx: &Context,
    said: &Said,
    global: &Global,
    operation: &Operation,
) -> Option<String> {
    let begin = &operation.begin;
    // As before the line, which may have changed the directory.
    let cwd = begin.cwd.as_path().to_path_buf();
    let mut event = event(said, Moment::After);
    event.cwd = Some(cwd.clone());
    if let Some(word) = begin.argv.first() {
        event.tool = Tool::Line {
            text: word.0.to_string_lossy().into_owned(),
            powershell: said.shell == "powershell",
            means: String::new(),
        };
    }
    let hook = Hook {
        host: Host::Shell,
        event: &event,
        global,
    };
    let destroys = matches!(
        hook.assess_at(cx, &cwd).effect,
        Effect::Destructive | Effect::GitDiscard
    );
    let what = match hook.lost(cx, operation) {
        None if destroys => guarding::summary(operation, 0, false),
        what => what,
    };
    match &event.tool {
        // git itself refuses to lose anything by these.
        Tool::Line { text, .. } if is_routine(text, &cwd) => None,
        _ => what,
    }
}

/// Returns a way to print although the context is silent: in a prompt, bdr speaks only here.
fn prompt_ui(global: &Global) -> crate::ui::Ui {
    let plain = crate::app::context::wants_plain();
    crate::ui::Ui::new(false, false, global.color, plain)
}
