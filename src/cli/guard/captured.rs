//! `bdr guard` where the calls of the command are captured.

#[cfg(target_os = "linux")]
use bdr::Error;
use bdr::base::path::os_to_bytes;
use bdr::effects::Assessment;
#[cfg(target_os = "linux")]
use bdr::model::config::Summary;
use bdr::model::config::{CaptureMode, OnFail};
use bdr::model::hosts;
#[cfg(target_os = "linux")]
use bdr::protect::calls::{self, Unkept};
#[cfg(target_os = "linux")]
use bdr::protect::guard::{self, GuardOutcome};
use bdr::repo::Repository;
#[cfg(target_os = "linux")]
use bdr::repo::oplog::Operation;
#[cfg(target_os = "linux")]
use bdr::repo::snapshot::PathNote;

use super::GuardArgs;
#[cfg(target_os = "linux")]
use super::{cannot_run, check_paths, end_like, tell, wanted};
use crate::app::context::Context;
use crate::app::error::Failure;
#[cfg(not(target_os = "linux"))]
use crate::app::guard::uncaptured;
#[cfg(target_os = "linux")]
use crate::app::guard::{
    capture, name_missed, outside_of_session, settle_in_background, still_running,
};
#[cfg(target_os = "linux")]
use crate::app::{documents::GuardDocument, exit, tick};
#[cfg(target_os = "linux")]
use crate::ui;

/// What became of a command that was to be captured.
pub(super) enum Captured {
    /// It ran, and bdr exits with this.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "nothing is captured there")
    )]
    Ran(i32),
    /// A snapshot has to protect it; and why, if capture was wanted.
    Not(Option<String>),
}

/// Refuses `only`: other systems do not stop calls before they happen.
#[cfg(not(target_os = "linux"))]
pub(super) fn captured(
    cx: &Context,
    _repo: &Repository,
    _args: &GuardArgs,
    _assessment: &Assessment,
    (mode, _policy): (CaptureMode, OnFail),
) -> Result<Captured, Failure> {
    match (mode, uncaptured::works_here(cx)) {
        (CaptureMode::Off, _) | (_, Ok(())) => Ok(Captured::Not(None)),
        (CaptureMode::Auto, Err(why)) => Ok(Captured::Not(Some(why))),
        (CaptureMode::Only, Err(why)) => Err(not_captured(&why)),
    }
}

fn not_captured(why: &str) -> Failure {
    let message = format!("what the command destroys cannot be captured here: {why}");
    Failure::usage(
        message,
        "leave out --capture only: a snapshot is taken before it instead",
    )
}

/// Runs the command under capture, unless that is off, or `auto` and impossible here.
#[cfg(target_os = "linux")]
pub(super) fn captured(
    cx: &Context,
    repo: &Repository,
    args: &GuardArgs,
    assessment: &Assessment,
    (mode, policy): (CaptureMode, OnFail),
) -> Result<Captured, Failure> {
    if mode == CaptureMode::Off {
        return Ok(Captured::Not(None));
    }
    if let Err(why) = capture::check(cx, assessment, (mode, &args.command)) {
        return match mode {
            CaptureMode::Only => Err(not_captured(&why)),
            _ => Ok(Captured::Not(Some(why))),
        };
    }
    if mode == CaptureMode::Auto
        && let Some(why) = repo.vault().trouble()
    {
        // A snapshot says before the command which files would not come back whole.
        let why = format!("the values of secrets cannot be kept: {why}");
        return Ok(Captured::Not(Some(why)));
    }
    if !args.accept_repository_loss {
        capture::check_program(assessment)?;
    }
    check_paths(cx, args)?;
    cx.launch_lifeboat(repo.location());
    let remote = guard::with_what_was(&assessment.remote, &cx.cwd);
    let unkept = match policy {
        OnFail::Run => Unkept::Goes,
        OnFail::Block | OnFail::Ask => Unkept::Stays,
    };
    let how = capture::How {
        label: args.label.as_deref(),
        remote,
        unkept,
        session: is_session(args),
        max_bytes: args.max_bytes,
    };
    let done = match capture::run(cx, repo, &args.command, how) {
        Ok(done) => done,
        Err(Error::Io {
            action: "run",
            source,
            ..
        }) => {
            return Ok(Captured::Ran(cannot_run(&args.command, &source, cx.ui)));
        }
        // It did not run: a snapshot protects it instead.
        Err(Error::NotCaptured { reason, .. }) if mode == CaptureMode::Auto => {
            return Ok(Captured::Not(Some(reason)));
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Captured::Ran(after_capture(
        cx,
        repo,
        args,
        assessment,
        (done, mode, unkept),
    )))
}

/// Returns true for a shell or an agent whose commands are operations of their own.
pub(super) fn is_session(args: &GuardArgs) -> bool {
    use std::io::IsTerminal as _;
    let words: Vec<_> = args.command.iter().map(|word| os_to_bytes(word)).collect();
    args.session
        || hosts::is_agent(&words)
        || hosts::is_interactive(&words, std::io::stdin().is_terminal())
}

/// Tells what a captured command did.
#[cfg(target_os = "linux")]
fn after_capture(
    cx: &Context,
    repo: &Repository,
    args: &GuardArgs,
    assessment: &Assessment,
    (done, mode, unkept): (calls::Protected, CaptureMode, Unkept),
) -> i32 {
    let status = done.status;
    let goes_on = done.left.map(|listener| {
        // They have nobody else who would answer.
        capture::go_on(cx, done.id, listener, args.max_bytes, unkept)
    });
    let command = (mode, &args.command[..]);
    let is_remembered = capture::remember_raised(cx, command, &done.raised, status);
    capture::tell_refused(cx, &done.refused, (&done.raised, is_remembered));
    let operation = match done.operation {
        Ok(operation) if done.tally.failed == 0 => operation,
        other => {
            let why = other.err().map(|error| format!(": {error}"));
            cx.ui.warn(&format!(
                "bdr: what it destroyed is kept, but not all is recorded yet{}; the next call of bdr tries again",
                why.unwrap_or_default()
            ));
            return end_like(status);
        }
    };
    if goes_on == Some(false) {
        cx.ui.warn(
            "bdr: what still runs cannot change files any more, because nobody could keep what it destroys",
        );
    }
    let is_session = operation.begin.session.is_some();
    if is_session {
        let going_on = || still_running(&done.running).filter(|_| goes_on == Some(true));
        match wanted(cx, args) {
            Summary::Never => {}
            Summary::Json => document_session(cx, repo, status, operation, done.tally),
            _ => {
                capture::tell_session(cx, repo, &operation, done.tally);
                if let Some(running) = going_on() {
                    cx.ui.say(&format!(
                        "bdr: {running} · what it does from now on is recorded in the session too"
                    ));
                }
            }
        }
    } else {
        let missed: Vec<&PathNote> = operation.begin.not_captured.iter().collect();
        name_missed(cx, &missed);
        let missed = missed.len() as u64;
        let outcome = GuardOutcome {
            status,
            operation,
            after_error: None,
            running: done.running,
        };
        tell(cx, repo, args, assessment, &outcome, (missed, done.lasting));
    }
    settle_in_background(cx, repo);
    if let Some(line) = tick::catch_up(cx, "guard") {
        cx.ui.say(&line);
    }
    end_like(status)
}

/// Prints the document about a session: not on stdout, which is the command's.
#[cfg(target_os = "linux")]
fn document_session(
    cx: &Context,
    repo: &Repository,
    status: std::process::ExitStatus,
    session: Operation,
    tally: calls::Tally,
) {
    let id = session.begin.id.prefix(&[]);
    let undo = (tally.operations > 0).then(|| format!("bdr undo {id}"));
    let elsewhere = outside_of_session(cx, repo, &session, tally.operations);
    let outcome = GuardOutcome {
        status,
        operation: session,
        after_error: None,
        running: Vec::new(),
    };
    let data = GuardDocument::new(&outcome, undo.as_deref(), &elsewhere).of_session(tally);
    let document = ui::document("guard", exit::OK, &data);
    cx.ui.warn(document.trim_end());
}
