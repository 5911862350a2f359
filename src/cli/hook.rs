//! `bdr hook`: called by coding agents before and after they use a tool. Prints the host's protocol
//! on stdout, and nothing else.
//!
//! Before a tool that does not provably only read: snapshot and begin record, then silence. After
//! it: what changed, the end record, and a message if something is gone. The host always continues,
//! whatever fails, except before a destructive command that could not be protected.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use bdr::Error;
use bdr::base::path::absolute;
use bdr::effects::{self, Assessment, Dialect, Effect, Operand, Surroundings, Table};
use bdr::model::agent::{self, AgentCall, Answer, Event, Host, Moment, Reply, Tool, start_of};
use bdr::model::config::OnFail;
use bdr::model::manifest::Kind;
use bdr::protect::backup::BackupOptions;
use bdr::protect::guard::{self, CloseOptions, GuardOptions};
use bdr::protect::staging::StagingOptions;
use bdr::repo::Repository;
use bdr::repo::oplog::{Begin, Operation};
use chrono::TimeDelta;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::Global;
use crate::app::context::{Context, Needs, NeedsConfig, guard_is_off, may_have_rules, variable};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::guard as guarding;
use crate::app::guard::is_in_git;
use crate::app::tick;
use crate::ui::{ColorChoice, Ui};

mod git;
mod session;
mod shell;

/// Answer the hook of a coding agent, a shell or git
///
/// Of an agent: reads one event from stdin and answers in the host's own protocol. Before a tool that may change something a snapshot is taken; after it the
/// agent hears what is gone and how it comes back. `docs/hooks.md` shows how each host is told to call it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr hook claude         as a command hook of PreToolUse, PostToolUse, PostToolUseFailure and SessionEnd
  bdr hook cursor")]
pub(crate) struct HookArgs {
    /// Who calls; shell and git by what `bdr hooks install` puts there
    #[arg(value_name = "HOST", value_parser = callers())]
    caller: Caller,
    /// What shells and git say on the command line
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

#[derive(Debug, Clone, Copy)]
enum Caller {
    Agent(Host),
    Shell,
    Git,
}

/// Parses the caller, and lists the possible ones.
fn callers() -> impl TypedValueParser<Value = Caller> {
    let hosts = Host::ALL.map(Host::word);
    let words = hosts.into_iter().chain(["shell", "git"]);
    PossibleValuesParser::new(words).map(|word| match &*word {
        "shell" => Caller::Shell,
        // Only the words above arrive here.
        word => Host::parse(word).map_or(Caller::Git, Caller::Agent),
    })
}

/// Larger events, in bytes, are not parsed.
const MAX_EVENT: u64 = 64 << 20;
/// How much of a command is recorded, in bytes.
const MAX_COMMAND: usize = 4096;
/// How long a caller without arguments has to start sending an event.
const FIRST_BYTES: Duration = Duration::from_secs(2);
/// A call that is open for longer was cancelled: no host lets a foreground tool run that long.
const CANCELLED_AFTER: TimeDelta = TimeDelta::minutes(15);

/// Answers the event on stdin and returns the exit code.
pub(crate) fn run(args: &HookArgs, global: &Global) -> i32 {
    let host = match args.caller {
        Caller::Agent(host) if args.rest.is_empty() => host,
        Caller::Agent(_) => {
            // Not 2: hosts take that for a refusal.
            let reply = Reply {
                stderr: "bdr: agent hooks take no more arguments\n".to_owned(),
                status: exit::FAILURE,
                ..Reply::default()
            };
            return speak(&reply);
        }
        Caller::Shell => return shell::run(&args.rest, global),
        Caller::Git => return git::run(&args.rest, global),
    };
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(MAX_EVENT).read_to_end(&mut bytes);
    let reply = match read {
        Ok(_) => answer(host, &bytes, global),
        Err(error) => {
            let text = format!("cannot read the event: {error}");
            agent::reply(host, "", Answer::Failed(&text))
        }
    };
    speak(&reply)
}

/// Answers an event given to `bdr` without arguments, for hosts whose hooks cannot have any. `None`
/// if there is none.
pub(crate) fn run_unasked() -> Option<i32> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        return None;
    }
    let (sender, read) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = vec![0; 4096];
        let n = stdin.read(&mut bytes).unwrap_or(0);
        bytes.truncate(n);
        let is_event = bytes.trim_ascii_start().starts_with(b"{");
        let _ = sender.send(if is_event { bytes.clone() } else { Vec::new() });
        if is_event {
            let _ = stdin.take(MAX_EVENT).read_to_end(&mut bytes);
            let _ = sender.send(bytes);
        }
    });
    // A pipe to which nobody writes is not an event.
    let start = read.recv_timeout(FIRST_BYTES).ok()?;
    let bytes = (!start.is_empty()).then(|| read.recv().ok())??;
    let global = Global {
        json: false,
        quiet: true,
        repository: None,
        color: ColorChoice::Never,
        no_pager: true,
    };
    Some(speak(&answer(Host::Claude, &bytes, &global)))
}

fn speak(reply: &Reply) -> i32 {
    // Do not wait for a host that does not listen.
    let _ = std::io::stderr().write_all(reply.stderr.as_bytes());
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(reply.stdout.as_bytes());
    let _ = stdout.flush();
    reply.status.into()
}

fn answer(host: Host, bytes: &[u8], global: &Global) -> Reply {
    match Event::parse(bytes) {
        Ok(Some(event)) => answer_event(host, &event, global),
        Ok(None) => agent::reply(host, "", Answer::Silence),
        Err(why) => agent::reply(host, "", Answer::Failed(&why)),
    }
}

fn answer_event(host: Host, event: &Event, global: &Global) -> Reply {
    let hook = Hook {
        host,
        event,
        global,
    };
    if guard_is_off() {
        return hook.say(Answer::Silence);
    }
    // This has to be fast: nothing else is looked up.
    if matches!(event.moment, Moment::Before | Moment::After) && only_looks(event) {
        return hook.say(Answer::Silence);
    }
    if let Some(reply) = hook.in_session() {
        return reply;
    }
    match event.moment {
        Moment::Before => hook.before(),
        Moment::After => hook.after(),
        Moment::Prompt | Moment::SessionEnd => hook.close_leftovers(),
        Moment::Other => hook.say(Answer::Silence),
    }
}

fn only_looks(event: &Event) -> bool {
    let around = Surroundings {
        cwd: Path::new("/"),
        home: None,
        table: Table::builtin(),
    };
    match event.tool {
        Tool::Unguarded => true,
        Tool::Line { .. } | Tool::Argv(_) => {
            assess(event, &around).effect == Effect::Read && !may_have_rules()
        }
        Tool::Files(_) | Tool::Mcp { .. } => false,
    }
}

fn assess(event: &Event, around: &Surroundings<'_>) -> Assessment {
    match &event.tool {
        Tool::Line {
            text,
            powershell,
            means,
        } => {
            let dialect = match powershell {
                true => Dialect::PowerShell,
                false => Dialect::Posix,
            };
            match means.is_empty() {
                true => effects::assess_line_in(dialect, text, around),
                false => {
                    let all = effects::assess_line_in(dialect, &format!("{means}\n{text}"), around);
                    // A line that only reads has no effect of the lines before it.
                    match effects::assess_line_in(dialect, text, around) {
                        own if own.effect == Effect::Read && all.effect != Effect::Destructive => {
                            own
                        }
                        _ => all,
                    }
                }
            }
        }
        Tool::Argv(words) if words.is_empty() => Assessment::unknown("the command cannot be read"),
        Tool::Argv(words) => {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            effects::assess(&words, around)
        }
        Tool::Files(paths) => {
            Assessment::of_files(paths.iter().map(|path| absolute(around.cwd, path)))
        }
        Tool::Mcp { paths, .. } => {
            // What such tools edit without naming it is what commands that manage servers edit.
            let words = [OsString::from("mcp"), OsString::from(&event.tool_name)];
            let mut found = effects::assess(&words, around);
            let (dirs, files): (Vec<PathBuf>, Vec<PathBuf>) =
                paths.iter().cloned().partition(|path| path.is_dir());
            found.operands.extend(Assessment::of_files(files).operands);
            found.operands.extend(dirs.into_iter().map(|path| Operand {
                path,
                follow: true,
                glob: false,
                itself: false,
                place: true,
            }));
            found
        }
        Tool::Unguarded => Assessment::of_files([]),
    }
}

/// Returns what is recorded of a call.
fn words(event: &Event) -> Vec<OsString> {
    let short = |text: &str| OsString::from(start_of(text, MAX_COMMAND));
    match &event.tool {
        Tool::Line { text, .. } => vec![short(text)],
        Tool::Argv(words) => words.iter().take(64).map(|word| short(word)).collect(),
        Tool::Files(paths) => paths.iter().map(|path| path.clone().into()).collect(),
        Tool::Mcp { .. } | Tool::Unguarded => Vec::new(),
    }
}

/// Returns a context that prints nothing, because the hook itself answers.
fn silent_context(global: &Global) -> Result<Context, Failure> {
    let ui = Ui::new(false, true, ColorChoice::Never, true);
    let needs = Needs {
        config: NeedsConfig::Now,
        stops_on_signals: true,
        sees_left: false,
    };
    Context::new(global.repository.as_deref(), ui, needs)
}

/// Returns the options for a hook's snapshots.
fn backup_options(cx: &Context) -> BackupOptions {
    let mut backup = guarding::backup_options(cx, None);
    // No hard links except where any command may run: we do not know what `rm` means in the host's
    // shell.
    backup.staging = Some(StagingOptions {
        max_bytes: cx.config.guard.max_kept,
        pack_bytes: cx.config.guard.max_bytes,
        ..StagingOptions::new()
    });
    backup
}

struct Hook<'a> {
    host: Host,
    event: &'a Event,
    global: &'a Global,
}

impl Hook<'_> {
    fn say(&self, answer: Answer<'_>) -> Reply {
        agent::reply(self.host, &self.event.name, answer)
    }

    /// The surroundings of the tool: those of the process, but in the tool's directory.
    fn context(&self) -> Result<Context, Failure> {
        let mut cx = silent_context(self.global)?;
        if let Some(cwd) = &self.event.cwd {
            cx.cwd = absolute(Path::new("/"), cwd);
        }
        Ok(cx)
    }

    fn before(&self) -> Reply {
        let from_environment =
            variable("BDR_GUARD_ON_FAIL").and_then(|word| OnFail::parse(word.to_str()?));
        let cx = match self.context() {
            Ok(cx) => cx,
            Err(failure) => {
                let around = Surroundings {
                    cwd: self.event.cwd.as_deref().unwrap_or(Path::new("/")),
                    home: None,
                    table: Table::builtin(),
                };
                let found = assess(self.event, &around);
                return self.not_protected(from_environment.unwrap_or_default(), &found, &failure);
            }
        };
        let watched = cx.config.hooks.mcp_tools.iter().map(String::as_str);
        if let Tool::Mcp { writes: false, .. } = self.event.tool
            && !agent::destroys(&self.event.tool_name, watched)
        {
            return self.say(Answer::Silence);
        }
        let assessment = self.assess(&cx);
        // A rule of the user may say so.
        if assessment.effect == Effect::Read {
            return self.say(Answer::Silence);
        }
        match self.protect(&cx, &assessment, true) {
            Ok(words) if words.is_empty() => self.say(Answer::Silence),
            Ok(words) => self.say(Answer::Partly(&words.join("; "))),
            Err(failure) => {
                let policy = from_environment.unwrap_or(cx.config.guard.on_fail);
                let lacks = matches!(&failure, Failure::Engine(e) if matches!(**e, Error::NotCaptured { .. }));
                if lacks && self.runs_anyway(policy, &assessment) {
                    // Save what can be saved.
                    if self.protect(&cx, &assessment, false).is_ok() {
                        let text = format!("not all of this can be undone: {}", failure.message());
                        return self.say(Answer::Unprotected(&text));
                    }
                }
                self.not_protected(policy, &assessment, &failure)
            }
        }
    }

    /// Returns true if a tool may run although it is not protected.
    fn runs_anyway(&self, policy: OnFail, found: &Assessment) -> bool {
        let destroys = match found.effect {
            Effect::Destructive | Effect::GitDiscard => true,
            // The gravest effect hides the others.
            Effect::Remote => found.operands.iter().any(|operand| operand.itself),
            Effect::Read | Effect::Write | Effect::Unknown => false,
        };
        // Most shells do not wait for an answer: they run the line anyway.
        let unasked = self.host == Host::Shell && self.event.name != shell::VETO;
        !destroys || policy == OnFail::Run || unasked
    }

    fn assess(&self, cx: &Context) -> Assessment {
        self.assess_at(cx, &cx.cwd)
    }

    fn assess_at(&self, cx: &Context, cwd: &Path) -> Assessment {
        let around = Surroundings {
            cwd,
            home: cx.home.as_deref(),
            table: &cx.config.guard.table(),
        };
        assess(self.event, &around)
    }

    /// Takes the snapshot; returns what to say before the tool runs.
    fn protect(
        &self,
        cx: &Context,
        assessment: &Assessment,
        all_named: bool,
    ) -> Result<Vec<String>, Failure> {
        let repo = guarding::open(cx, false)?;
        // The same hook may be in the settings of both user and project.
        let seen = match self.host {
            Host::Shell => {
                shell::close_leftovers(cx, &repo, self.event.session.as_deref(), &self.event.jobs)?;
                self.is_seen_by_an_agent(cx, &repo)?
            }
            _ => self.event.call.is_some() && !self.open_operations(&repo)?.is_empty(),
        };
        if seen {
            return Ok(Vec::new());
        }
        let roots = guarding::covered(cx, &repo, assessment, &[], false)?;
        cx.launch_lifeboat(repo.location());
        let options = GuardOptions {
            label: Some(format!("{} {}", self.host.word(), self.event.tool_name)),
            all_named,
            remote: guard::with_what_was(&assessment.remote, &cx.cwd),
            ..GuardOptions::new(backup_options(cx), words(self.event), &cx.cwd)
        };
        let call = self.event.to_call(self.host);
        let (_, notes) = guard::begin_call(&repo, &roots, &options, call, &cx.progress())?;
        let mut words = guarding::untold(assessment).into_iter().collect::<Vec<_>>();
        words.extend(guarding::missed_of_operands(cx, assessment, &notes));
        words.extend(guarding::unstored(cx, assessment));
        Ok(words)
    }

    /// Returns true if an agent's hook has just seen a shell's line in the same place: the agent's
    /// shell may be interactive.
    fn is_seen_by_an_agent(&self, cx: &Context, repo: &Repository) -> Result<bool, Failure> {
        let words = bdr::protect::guard::redacted(repo, words(self.event));
        let is_agent = |call: &AgentCall| Host::parse(&call.host).is_some();
        let same = |begin: &Begin| {
            begin.agent.as_ref().is_some_and(is_agent)
                && begin.argv == words
                && begin.cwd.as_path() == cx.cwd
                && cx.now - begin.time < CANCELLED_AFTER
        };
        Ok(repo.unfinished_operations()?.iter().any(same))
    }

    /// Returns the open operations of this call, newest first: several if several hooks saw it.
    fn open_operations(&self, repo: &Repository) -> Result<Vec<Begin>, Failure> {
        let call = self.event.to_call(self.host);
        // In the form of the log.
        let words = bdr::protect::guard::redacted(repo, words(self.event));
        let is_own = |begin: &Begin| {
            let Some(theirs) = &begin.agent else {
                return false;
            };
            let near = theirs.host == call.host && theirs.session == call.session;
            near && match (&theirs.call, &call.call) {
                (Some(theirs), Some(own)) => theirs == own,
                // Hosts that do not number calls: compare the words.
                _ => theirs.tool == call.tool && begin.argv == words,
            }
        };
        let open = repo.unfinished_operations()?.into_iter().rev();
        let most = if call.call.is_some() { usize::MAX } else { 1 };
        Ok(open.filter(is_own).take(most).collect())
    }

    /// Returns true if a command moves the repository to where it is configured to be.
    fn is_move(&self, found: &Assessment) -> bool {
        let moving = self.context().ok().and_then(|cx| cx.places.moving);
        let names = |new: PathBuf| found.operands.iter().any(|operand| operand.path == new);
        found.rule == "fs.mv" && moving.is_some_and(names)
    }

    fn not_protected(&self, policy: OnFail, found: &Assessment, failure: &Failure) -> Reply {
        let refused = matches!(failure, Failure::Engine(e) if matches!(**e, Error::WouldDeleteRepository { .. }));
        let mut why = failure.message();
        for cause in failure.causes() {
            why.push_str(&format!(": {cause}"));
        }
        if refused && self.is_move(found) {
            return self.say(Answer::Silence);
        }
        // A shell runs the line whatever is said, unless it was told to refuse.
        if refused && self.host == Host::Shell && self.event.name != shell::VETO {
            let text = "not protected: this is bdr's own repository, and the way back with it. If you move it: bdr config set repository NEW";
            return self.say(Answer::Unprotected(text));
        }
        if refused {
            return self.say(Answer::Deny(&format!("not run: {why}")));
        }
        if self.runs_anyway(policy, found) {
            let text = format!("no snapshot, so these changes cannot be undone: {why}");
            return self.say(Answer::Unprotected(&text));
        }
        let hint = failure.hint().map(|hint| format!(" (fix: {hint})"));
        let why = format!(
            "no snapshot could be taken: {why}{}",
            hint.unwrap_or_default()
        );
        match policy {
            OnFail::Ask => self.say(Answer::Ask(&why)),
            _ => self.say(Answer::Deny(&format!("not run: {why}"))),
        }
    }

    fn after(&self) -> Reply {
        if self.event.background {
            // It still runs. The end of the session closes it; it can be undone before that.
            return self.say(Answer::Silence);
        }
        match self.close() {
            Ok(Some(lost)) => self.say(Answer::Lost(&lost)),
            Ok(None) => self.say(Answer::Silence),
            Err(failure) => {
                let text = format!(
                    "could not record what the tool changed ({}); bdr undo still works",
                    failure.message()
                );
                self.say(Answer::Failed(&text))
            }
        }
    }

    fn close(&self) -> Result<Option<String>, Failure> {
        let cx = self.context()?;
        let repo = match cx.repository() {
            Err(Failure::Engine(error)) if matches!(*error, Error::NoRepository { .. }) => {
                return Ok(None);
            }
            other => other?,
        };
        let options = CloseOptions {
            now: cx.now,
            exit: self.event.exit,
            never: Vec::new(),
        };
        let mut lost = None;
        let is_line = matches!(self.event.tool, Tool::Line { .. } | Tool::Argv(_));
        for begin in self.open_operations(&repo)? {
            let left = match is_line {
                true => guard::left_by_call(&repo, &begin, cx.now, self.assess(&cx).detaches),
                false => Vec::new(),
            };
            if let Some(running) = guarding::still_running(&left) {
                let short = begin.id.prefix(&repo.operation_ids()?);
                lost = Some(format!(
                    "{running}; undo, including what it still does, with `bdr undo {short}`"
                ));
                guarding::close_later(&cx, &repo, begin.id, &left, self.event.exit);
                continue;
            }
            if let Some(operation) = guard::close(&repo, begin, &options)?
                && lost.is_none()
                && let Some(what) = self.told(&cx, &repo, &operation)
            {
                let short = operation.begin.id.prefix(&repo.operation_ids()?);
                lost = Some(format!("{what}; undo with `bdr undo {short}`"));
            }
        }
        guarding::settle_in_background(&cx, &repo);
        // Nobody who could act on it reads a hook's line.
        let _ = tick::catch_up(&cx, "hook");
        Ok(lost)
    }

    /// Returns what an agent should know of a call: what is gone, and what changed where it does not
    /// look.
    fn told(&self, cx: &Context, repo: &Repository, operation: &Operation) -> Option<String> {
        let lost = self.lost(cx, operation);
        let elsewhere = guarding::outside(cx, repo, operation, &self.assess(cx));
        let places = guarding::outside_words(cx, &elsewhere).join(", ");
        let outside = (!places.is_empty()).then(|| format!("outside of the project: {places}"));
        match (lost, outside) {
            (Some(lost), Some(outside)) => Some(format!("{lost}; {outside}")),
            (lost, outside) => lost.or(outside),
        }
    }

    /// Returns what would be lost for good without bdr, if an agent should know: it pays for every
    /// word.
    fn lost(&self, cx: &Context, operation: &Operation) -> Option<String> {
        if matches!(self.event.tool, Tool::Files(_)) {
            // The agent asked for it.
            return None;
        }
        let roots = || operation.end.iter().flat_map(|end| &end.roots);
        let (deleted, created, _) = operation.counts();
        let found = self.assess(cx);
        let moved = found.rule == "fs.mv" && created >= deleted;
        // git cleans up there.
        let is_object = |path: &[u8]| path.split(|b| *b == b'/').any(|part| part == b"objects");
        let mut removed = roots().flat_map(|root| &root.removed);
        let gone = !moved
            && removed.any(|path| !(is_in_git(path.as_bytes()) && is_object(path.as_bytes())));
        let overwrites = matches!(
            found.effect,
            Effect::Destructive | Effect::GitDiscard | Effect::Remote
        );
        let mut modified = roots().flat_map(|root| &root.modified);
        let overwritten = modified.any(|stamp| {
            stamp.kind == Kind::File
                && !is_in_git(stamp.path.as_bytes())
                && (stamp.size == 0 || overwrites)
        });
        (gone || overwritten)
            .then(|| guarding::summary(operation, 0, false))
            .flatten()
    }

    /// Closes cancelled calls, because no host reports a cancellation.
    fn close_leftovers(&self) -> Reply {
        let closed = || -> Result<(), Failure> {
            let cx = self.context()?;
            let repo = match cx.repository() {
                Err(Failure::Engine(error)) if matches!(*error, Error::NoRepository { .. }) => {
                    return Ok(());
                }
                other => other?,
            };
            let options = CloseOptions {
                now: cx.now,
                exit: None,
                never: Vec::new(),
            };
            let over = self.event.moment == Moment::SessionEnd && self.event.session.is_some();
            for begin in repo.unfinished_operations()? {
                let Some(call) = &begin.agent else { continue };
                let own = call.host == self.host.word() && call.session == self.event.session;
                let cancelled = !call.background && cx.now - begin.time > CANCELLED_AFTER;
                // Another process waits for what a call left running, or nobody does.
                let runs_on = repo.noted_run(begin.id);
                if own && !runs_on && (over || cancelled) {
                    // If it cannot be closed, it can still be undone as it is.
                    let _ = guard::close(&repo, begin, &options);
                }
            }
            Ok(())
        };
        match closed() {
            Ok(()) => self.say(Answer::Silence),
            Err(failure) => self.say(Answer::Failed(&failure.message())),
        }
    }
}
