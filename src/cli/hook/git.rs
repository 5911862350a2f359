//! `bdr hook git`: called by git's hooks. Always ends with 0, and prints nothing but a line on
//! stderr if there is no snapshot.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;

use bdr::effects::Assessment;
use bdr::model::agent::AgentCall;
use bdr::protect::guard::{self, CloseOptions, GuardOptions};
use bdr::repo::Repository;
use bdr::repo::oplog::Begin;
use chrono::TimeDelta;

use super::Global;
use super::backup_options;
use super::guarding;
use super::silent_context;
use super::tick;
use crate::app::context::{Context, guard_is_off, variable};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::guard::uncaptured;

/// The host in operations of git's hooks.
const HOST: &str = "git";
/// Limit of a push's list on stdin, in bytes.
const MAX_INPUT: u64 = 4 << 20;
/// An operation of somebody else that is open for longer has nothing to do with this call of git.
const SAME_COMMAND: TimeDelta = TimeDelta::minutes(15);

pub(super) fn run(rest: &[OsString], global: &Global) -> i32 {
    let in_ci = variable("CI").is_some() && variable("BDR_CI").is_none_or(|on| on != "1");
    if guard_is_off() || in_ci {
        return exit::OK.into();
    }
    let Some((event, args)) = rest.split_first() else {
        return exit::USAGE.into();
    };
    let event = event.to_string_lossy();
    if let Err(failure) = answer(&event, args, global) {
        let ui = crate::ui::Ui::new(false, false, global.color, true);
        ui.say(&format!(
            "bdr: no snapshot at {event}: {}",
            failure.message()
        ));
    }
    exit::OK.into()
}

fn answer(event: &str, args: &[OsString], global: &Global) -> Result<(), Failure> {
    let cx = silent_context(global)?;
    // What a push removes elsewhere is on record only by this.
    if event != "pre-push" && uncaptured::is_captured(&cx) {
        return Ok(());
    }
    match event {
        "pre-commit" => {
            let repo = guarding::open(&cx, false)?;
            snapshot(&cx, &repo, event)?;
            close_own(&cx, &repo, false)
        }
        "pre-rebase" | "pre-merge-commit" => {
            let repo = guarding::open(&cx, false)?;
            close_own(&cx, &repo, false)?;
            let mut words = match event {
                "pre-rebase" => vec!["git".into(), "rebase".into()],
                _ => vec!["git".into(), "merge".into()],
            };
            words.extend_from_slice(args);
            begin(&cx, &repo, event, words, Vec::new())
        }
        "pre-push" => {
            let mut input = String::new();
            let _ = std::io::stdin().take(MAX_INPUT).read_to_string(&mut input);
            let remote = args.first().map(|word| word.to_string_lossy().into_owned());
            let lost = guard::lost_by_push(&input, &remote.unwrap_or_default(), &cx.cwd);
            if lost.is_empty() {
                return Ok(());
            }
            let repo = guarding::open(&cx, false)?;
            begin(&cx, &repo, event, vec!["git".into(), "push".into()], lost)?;
            close_own(&cx, &repo, false)
        }
        // After the command there is nothing left to save, only to record the end.
        _ => {
            let repo = match cx.repository() {
                Err(Failure::Engine(error))
                    if matches!(*error, bdr::Error::NoRepository { .. }) =>
                {
                    return Ok(());
                }
                other => other?,
            };
            // git calls it before it cleans up.
            let over = event == "post-rewrite" && args.first().is_some_and(|word| word == "rebase");
            close_own(&cx, &repo, over)?;
            if event == "post-merge" {
                let _ = tick::catch_up(&cx, "hook");
            }
            Ok(())
        }
    }
}

/// Saves the work tree. Not as an operation: a commit removes nothing, but other hooks may.
fn snapshot(cx: &Context, repo: &Repository, event: &str) -> Result<(), Failure> {
    let roots = guarding::covered(cx, repo, &Assessment::unknown(event), &[], false)?;
    let mut options = backup_options(cx);
    options.label = Some(format!("git {event}"));
    bdr::protect::backup::backup(repo, &roots, &options, &cx.progress())?;
    Ok(())
}

fn call(cx: &Context, event: &str) -> AgentCall {
    AgentCall {
        host: HOST.to_owned(),
        session: Some(bdr::base::path::show(cx.cwd.as_os_str())),
        call: None,
        tool: event.to_owned(),
        background: false,
    }
}

fn begin(
    cx: &Context,
    repo: &Repository,
    event: &str,
    argv: Vec<OsString>,
    remote: Vec<String>,
) -> Result<(), Failure> {
    // A guard, or the hook of an agent or shell, has seen the command: one command, one operation.
    for begin in repo.unfinished_operations()? {
        if cx.now - begin.time < SAME_COMMAND && covers(repo, &begin, &cx.cwd) {
            return Ok(());
        }
    }
    let roots = guarding::covered(cx, repo, &Assessment::unknown(event), &[], false)?;
    let options = GuardOptions {
        label: Some(event.to_owned()),
        remote,
        ..GuardOptions::new(backup_options(cx), argv, &cx.cwd)
    };
    guard::begin_call(repo, &roots, &options, call(cx, event), &cx.progress())?;
    Ok(())
}

/// Returns true if an operation's snapshot includes this work tree.
fn covers(repo: &Repository, begin: &Begin, top: &Path) -> bool {
    let snapshot = begin.before.and_then(|id| repo.snapshot(id).ok());
    let has =
        |name: &bdr::base::path::RootName| begin.roots.is_empty() || begin.roots.contains(name);
    snapshot.is_some_and(|snapshot| {
        let mut roots = snapshot.roots.iter();
        roots.any(|root| has(&root.name) && top.starts_with(root.path.as_path()))
    })
}

/// Closes what git's hooks opened here; a rebase that stopped has not ended, unless `rebase_over`.
fn close_own(cx: &Context, repo: &Repository, rebase_over: bool) -> Result<(), Failure> {
    let session = call(cx, "").session;
    let options = CloseOptions {
        now: cx.now,
        exit: None,
        never: Vec::new(),
    };
    for begin in repo.unfinished_operations()? {
        let Some(own) = begin.agent.as_ref() else {
            continue;
        };
        let goes_on = own.tool == "pre-rebase" && !rebase_over && is_under_way(&cx.cwd);
        if own.host == HOST && own.session == session && !goes_on {
            guard::close(repo, begin, &options)?;
        }
    }
    Ok(())
}

fn is_under_way(top: &Path) -> bool {
    let dot = top.join(".git");
    // A linked work tree has a file there that says where its git directory is.
    let dir = match std::fs::read_to_string(&dot) {
        Ok(text) => match text.trim().strip_prefix("gitdir: ") {
            Some(dir) => bdr::base::path::absolute(top, Path::new(dir)),
            None => dot,
        },
        Err(_) => dot,
    };
    ["rebase-merge", "rebase-apply"]
        .iter()
        .any(|name| dir.join(name).exists())
}
