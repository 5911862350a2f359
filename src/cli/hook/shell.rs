//! `bdr hook shell`: what interactive shells call before a line that may change something, and after it.

use std::ffi::OsString;
use std::path::Path;

use bdr::agent::{Event, Host, Moment, Tool};
use bdr::effects::Effect;
use bdr::guard::{self, CloseOptions};
use bdr::repo::Repository;

use super::{Global, Hook, answer_event, guarding, silent_context, speak, tick};
use crate::cli::context::{Context, guard_is_off};
use crate::cli::error::Failure;
use crate::cli::exit;

/// What an event is called whose answer decides whether the line runs.
pub(super) const VETO: &str = "veto";

/// What a shell says on the command line.
#[derive(Default)]
struct Said {
    after: bool,
    /// The line is not run if the answer is that there is no snapshot for what it destroys.
    veto: bool,
    shell: String,
    session: String,
    exit: Option<i32>,
    /// `None`: the shell did not remember it.
    line: Option<String>,
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
            "--exit" => said.exit = words.next()?.parse().ok(),
            "--" => said.line = Some(words.next()?.into_owned()),
            _ => return None,
        }
    }
    Some(said)
}

pub(super) fn run(rest: &[OsString], global: &Global) -> i32 {
    let Some(said) = parse(rest) else {
        return exit::USAGE.into();
    };
    if guard_is_off() {
        return exit::OK.into();
    }
    match said.after {
        false => speak(&answer_event(
            Host::Shell,
            &event(&said, Moment::Before),
            global,
        )),
        true => {
            // Whatever fails: the line has run, and the shell goes on.
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
            },
            None => Tool::Argv(Vec::new()),
        },
        background: false,
        exit: said.exit,
    }
}

/// Closes what no shell will close any more: of this session, whose last line is over when the next one comes, and of sessions that ended
/// with a line. What such a line did cannot be told from what came after it, but the next one has to be told apart.
pub(super) fn close_leftovers(
    cx: &Context,
    repo: &Repository,
    session: Option<&str>,
) -> Result<(), Failure> {
    let options = CloseOptions {
        now: cx.now,
        exit: None,
        never: Vec::new(),
    };
    for begin in repo.unfinished_operations()? {
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
        let ended = number.is_some_and(|number| !bdr::fsutil::process_runs(number));
        if ended || call.session.as_deref() == session {
            guard::close(repo, begin, &options)?;
        }
    }
    Ok(())
}

/// Closes what this session has open, and says what the last line did if something is gone.
fn after(said: &Said, global: &Global) -> Result<(), Failure> {
    let cx = silent_context(global)?;
    let repo = cx.repository()?;
    let session = event(said, Moment::After).session;
    let options = CloseOptions {
        now: cx.now,
        exit: said.exit,
        never: Vec::new(),
    };
    let mut told = None;
    for begin in repo.unfinished_operations()? {
        let call = begin.agent.as_ref();
        if !call.is_some_and(|call| call.host == Host::Shell.word() && call.session == session) {
            continue;
        }
        let line = begin
            .argv
            .first()
            .map(|word| word.0.to_string_lossy().into_owned());
        let cwd = begin.cwd.as_path().to_path_buf();
        let Some(operation) = guard::close(&repo, begin, &options)? else {
            continue;
        };
        if !operation.is_undoable() && operation.begin.remote.is_empty() {
            // People type a lot that changes nothing: the log is for what did.
            repo.forget(std::slice::from_ref(&operation), &operation)?;
            continue;
        }
        // As it was before the line: it may have changed the directory.
        let mut event = event(said, Moment::After);
        event.cwd = Some(cwd.clone());
        if let Some(text) = line {
            event.tool = Tool::Line {
                text,
                powershell: said.shell == "powershell",
            };
        }
        let hook = Hook {
            host: Host::Shell,
            event: &event,
            global,
        };
        let destroys = matches!(
            hook.assess_at(&cx, Path::new(&cwd)).effect,
            Effect::Destructive | Effect::GitDiscard
        );
        let what = match hook.lost(&cx, &operation) {
            None if destroys => guarding::summary(&operation, 0, false),
            what => what,
        };
        let undo = guarding::undo_command(&repo, &operation);
        told = what.zip(undo).or(told);
    }
    if let Some((what, undo)) = told {
        let ui = crate::ui::Ui::new(
            false,
            false,
            global.color,
            crate::cli::context::wants_plain(),
        )
        .with_unicode(crate::cli::context::shows_unicode());
        ui.say(&format!("bdr: {what} · undo: {}", ui.err.bold(&undo)));
    }
    guarding::settle_in_background(&cx, &repo);
    let _ = tick::catch_up(&cx, "hook");
    Ok(())
}
