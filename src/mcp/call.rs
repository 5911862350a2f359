//! One call, and what all calls of a server share.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bdr::Error;
use bdr::base::id::{Id, OperationId};
use bdr::model::agent::{AgentCall, MCP_HOST};
use bdr::protect::guard;
use bdr::protect::guard::CloseOptions;
use bdr::repo::oplog::{self, Operation, OperationKind};
use bdr::repo::snapshot::Snapshot;
use bdr::repo::summaries::Summary;
use bdr::repo::{Repository, Snapshots};
use chrono::{DateTime, Utc};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::args::Args;
use super::fault::Fault;
use super::roots::{Roots, Use};
use crate::app::context::Context;
use crate::app::guard as guarding;
use crate::app::pick;

#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    /// Name and version, as the client states them.
    pub(crate) name: String,
    pub(crate) call: String,
    pub(crate) can_ask: bool,
}

/// What the user decided when starting the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    /// Where calls may act in addition to sources and workspace.
    pub(crate) roots: Vec<PathBuf>,
    /// Offer no tool that changes anything.
    pub(crate) read_only: bool,
    /// Sets of tools; empty means all.
    pub(crate) sets: Vec<super::sets::Set>,
    /// The text of results: JSON for all tools, or brief for all; `None` leaves it to each tool.
    pub(crate) text: Option<Text>,
}

/// How results are put as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Text {
    /// A few lines
    Brief,
    /// The structured result once more
    Json,
}

/// What the calls of one server share.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// The last checkpoint made by this server.
    checkpoint: Mutex<Option<OperationId>>,
    /// The start times of recent changing calls.
    recent: Mutex<VecDeque<Instant>>,
    /// Number of questions asked so far.
    asked: AtomicU64,
    /// The questions whose consent was used.
    spent: Mutex<HashSet<u64>>,
    /// Plans shown by a dry run, with the time.
    shown: Mutex<HashMap<String, Instant>>,
}

const MOST_A_MINUTE: usize = 120;
/// How long a dry run counts as the user's consent.
const SHOWN_FOR: Duration = Duration::from_secs(600);

impl Session {
    /// Counts a changing call.
    pub(crate) fn admit(&self) -> Result<(), Fault> {
        let Ok(mut recent) = self.recent.lock() else {
            return Ok(());
        };
        while recent
            .front()
            .is_some_and(|first| first.elapsed() > Duration::from_secs(60))
        {
            recent.pop_front();
        }
        if recent.len() >= MOST_A_MINUTE {
            let message =
                format!("more than {MOST_A_MINUTE} calls in a minute that change something");
            return Err(Fault::new(
                "RATE_LIMITED",
                message,
                "wait a minute; one checkpoint covers many steps",
            ));
        }
        recent.push_back(Instant::now());
        Ok(())
    }

    fn ask(&self, plan: &str) -> Consent {
        Consent {
            plan: plan.to_owned(),
            asked: self.asked.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Uses a consent; false if it was used before.
    fn spend(&self, consent: &Consent) -> bool {
        self.spent
            .lock()
            .is_ok_and(|mut spent| spent.insert(consent.asked))
    }

    fn show(&self, plan: &str) {
        if let Ok(mut shown) = self.shown.lock() {
            shown.retain(|_, at| at.elapsed() < SHOWN_FOR);
            shown.insert(plan.to_owned(), Instant::now());
        }
    }

    /// Uses a plan that a dry run has shown; false if there is none, or it is too old or was used
    /// before.
    fn spend_shown(&self, plan: &str) -> bool {
        let shown = self.shown.lock();
        shown.is_ok_and(|mut shown| {
            shown
                .remove(plan)
                .is_some_and(|at| at.elapsed() < SHOWN_FOR)
        })
    }

    pub(crate) fn set_checkpoint(&self, id: OperationId) {
        if let Ok(mut last) = self.checkpoint.lock() {
            *last = Some(id);
        }
    }

    fn checkpoint(&self) -> Option<OperationId> {
        self.checkpoint.lock().ok().and_then(|last| *last)
    }
}

pub(crate) struct Call<'a> {
    /// The surroundings, looked up for this call.
    pub(crate) cx: &'a Context,
    pub(crate) session: &'a Session,
    pub(crate) client: &'a Client,
    pub(crate) options: &'a Options,
    pub(crate) tool: &'static str,
    pub(crate) args: Args,
    pub(crate) agreed: Option<Consent>,
    pub(crate) began: Instant,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Done(Answer),
    /// The user has to be asked first.
    Ask(Question),
}

#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) data: Value,
    /// A few lines for a model, which name the next call.
    pub(crate) brief: String,
    /// It is not what was requested.
    pub(crate) failed: bool,
    /// Resources with more, as URI and name.
    pub(crate) links: Vec<(String, String)>,
}

impl Answer {
    /// Takes a tool's result, and a few lines for a model; if these are empty, the model reads the
    /// data.
    pub(crate) fn new(data: impl Serialize, brief: impl Into<String>) -> Self {
        Self {
            // Results are structs with named members, which JSON can always represent.
            data: serde_json::to_value(data).unwrap_or_default(),
            brief: brief.into(),
            ..Self::default()
        }
    }
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self::Done(answer)
    }
}

#[derive(Debug)]
pub(crate) struct Question {
    /// What would be done.
    pub(crate) message: String,
    /// What a yes would mean.
    pub(crate) consent: Consent,
}

/// The answer to one question.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Consent {
    /// Identifies the plan: another plan needs another consent.
    plan: String,
    /// Which question it was: the same plan a second time needs another consent too.
    asked: u64,
}

impl Call<'_> {
    pub(crate) fn repository(&self) -> Result<Repository, Fault> {
        Ok(self.cx.repository()?)
    }

    /// Opens the repository, or creates it: protection must not depend on set-up.
    pub(crate) fn repository_or_new(&self) -> Result<Repository, Fault> {
        Ok(guarding::open(self.cx, false)?)
    }

    pub(crate) fn roots(&self) -> Result<Roots, Fault> {
        Roots::of(self.cx, &self.options.roots)
    }

    pub(crate) fn paths(
        &self,
        roots: &Roots,
        name: &str,
        usage: Use,
    ) -> Result<Vec<PathBuf>, Fault> {
        let texts = self.args.texts(name)?;
        texts
            .iter()
            .map(|text| roots.path(self.cx, text, usage))
            .collect()
    }

    /// Returns the time it has taken so far, in milliseconds.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns what records say about this call.
    pub(crate) fn agent(&self) -> AgentCall {
        AgentCall {
            host: MCP_HOST.to_owned(),
            session: Some(self.client.name.clone()),
            call: Some(self.client.call.clone()),
            tool: self.tool.to_owned(),
            background: false,
        }
    }

    /// Returns the call as records store it.
    pub(crate) fn argv(&self) -> Vec<OsString> {
        let line = self.args.line();
        let short = bdr::model::agent::start_of(&line, 1024);
        vec![self.tool.into(), short.into()]
    }

    /// Records the call.
    pub(crate) fn note(&self, repo: &Repository) -> Result<(), Fault> {
        let times = (self.cx.now, self.cx.now);
        guard::note_call(repo, &self.cx.cwd, self.argv(), self.agent(), times)?;
        Ok(())
    }

    /// Decides whether a plan may be applied now: by consent, by the policy for when nobody can be
    /// asked, or after a question.
    pub(crate) fn consent(
        &self,
        plan: &str,
        question: impl FnOnce() -> String,
    ) -> Result<Option<Outcome>, Fault> {
        use bdr::model::config::Unattended;
        if let Some(agreed) = &self.agreed {
            if agreed.plan != plan {
                return Err(stale());
            }
            if !self.session.spend(agreed) {
                return Err(Fault::new(
                    "PLAN_STALE",
                    "this consent has already been used",
                    "make the same call once more",
                ));
            }
            return Ok(None);
        }
        if self.client.can_ask {
            let message = question();
            return Ok(Some(Outcome::Ask(Question {
                message,
                consent: self.session.ask(plan),
            })));
        }
        match self.cx.config.mcp.unattended {
            Unattended::Snapshot => Ok(None),
            Unattended::Plan => {
                let wanted = self.args.text("planId")?;
                match wanted {
                    Some(given) if given == plan && self.session.spend_shown(plan) => Ok(None),
                    Some(_) => Err(stale()),
                    None => Err(Fault::new(
                        "CONFIRMATION_REQUIRED",
                        "[mcp] unattended = \"plan\": a dry run must come first",
                        "make the same call with dryRun: true, then with the planId that it returns",
                    )),
                }
            }
            Unattended::Deny => Err(Fault::new(
                "CONFIRMATION_REQUIRED",
                "[mcp] unattended = \"deny\", and this client cannot ask its user",
                "ask the user to run it: bdr undo, or bdr restore",
            )),
        }
    }

    /// Remembers a plan shown by a dry run.
    pub(crate) fn shown(&self, plan: &str) {
        self.session.show(plan);
    }

    /// Returns the fault for an interrupted undo or restore: its operation is closed with what it
    /// did, and can be undone.
    pub(crate) fn broken_off(&self, repo: &Repository, error: Error) -> Fault {
        if !matches!(error, Error::Interrupted) {
            return error.into();
        }
        let own = self.agent();
        let open = repo.unfinished_operations().unwrap_or_default();
        let begin = open
            .into_iter()
            .rev()
            .find(|begin| begin.pid == std::process::id() && begin.agent.as_ref() == Some(&own));
        let options = CloseOptions {
            now: self.cx.now,
            exit: None,
            never: Vec::new(),
        };
        let closed = begin.and_then(|begin| guard::close(repo, begin, &options).ok().flatten());
        match closed {
            Some(operation) if operation.is_undoable() => {
                let id = checkpoint_id(operation.begin.id, operation.begin.time);
                Fault::new(
                    "CANCELLED",
                    "stopped halfway: some files are back, others are not; none is partly written",
                    &format!("make the same call to finish it; undo_changes {{\"checkpointId\":\"{id}\"}} reverses it"),
                )
                .with(json!({"safetyCheckpointId": id}))
            }
            _ => Error::Interrupted.into(),
        }
    }

    /// Returns the named checkpoint, or the last one.
    pub(crate) fn checkpoint<'o>(
        &self,
        operations: &'o [Operation],
        name: Option<&str>,
    ) -> Result<&'o Operation, Fault> {
        if let Some(name) = name.filter(|name| *name != "last" && *name != "latest") {
            let operation = oplog::resolve(operations, name)?;
            if !operation.is_ours {
                let id = operation.begin.id.to_string().to_lowercase();
                return Err(Fault::new(
                    "CHECKPOINT_EXPIRED",
                    "it was not recorded by this machine: anybody who can write to the repository may have made it up",
                    &format!("ask the user to check it: bdr show {id}"),
                ));
            }
            return Ok(operation);
        }
        let own = self.session.checkpoint();
        let is_own = |o: &&Operation| Some(o.begin.id) == own;
        let is_any = |o: &&Operation| {
            o.is_ours
                && o.begin.kind == OperationKind::Call
                && o.begin.before.is_some()
                && o.begin
                    .agent
                    .as_ref()
                    .is_some_and(|agent| agent.host == MCP_HOST)
        };
        let found = operations
            .iter()
            .rev()
            .find(is_own)
            .or_else(|| operations.iter().rev().find(is_any));
        found.ok_or_else(|| {
            Fault::new(
                "NOTHING_TO_DO",
                "there is no checkpoint",
                "checkpoint makes one; list_backups shows backups",
            )
        })
    }
}

fn stale() -> Fault {
    Fault::new(
        "PLAN_STALE",
        "the files have changed since this was planned; nothing was done",
        "make the same call once more",
    )
}

/// Returns the name of a snapshot for clients: its time, and enough of its id.
pub(crate) fn backup_id(id: Id, time: DateTime<Utc>) -> String {
    id.dated(time)
}

/// Returns the name of a checkpoint or an undo for clients.
pub(crate) fn checkpoint_id(id: Id, time: DateTime<Utc>) -> String {
    format!("cp-{}", id.dated(time))
}

/// Finds a snapshot: a client's name for it, an id, `latest`, `latest:full`, a time, or a checkpoint.
pub(crate) fn snapshot<'s>(
    cx: &Context,
    repo: &Repository,
    snapshots: &'s Snapshots<'_>,
    name: &str,
) -> Result<&'s Snapshot, Fault> {
    let missing = || Error::NoSuchSnapshot {
        spec: bdr::base::path::show(name.as_ref()),
    };
    if name.starts_with("cp-") {
        let operations = repo.operations()?;
        let operation = oplog::resolve(&operations, name)?;
        let before = operation.begin.before.and_then(|id| snapshots.get(id));
        return before.ok_or_else(|| {
            Fault::new(
                "CHECKPOINT_EXPIRED",
                format!("the snapshot of `{name}` has expired"),
                "list_backups",
            )
        });
    }
    if name == "latest" {
        // The first one that list_backups shows.
        let backups = repo.summaries()?;
        let last = backups.iter().rev().find(|summary| is_listed(summary));
        let last = last.and_then(|summary| snapshots.get(summary.id));
        // A snapshot of a guard or an undo is not a backup, but it has an id.
        return last.ok_or_else(|| missing().into());
    }
    Ok(pick::one(cx, snapshots, name.as_ref())?)
}

/// Returns true for snapshots that clients see as backups: those of guards and undos are internal.
pub(crate) fn is_listed(summary: &Summary) -> bool {
    summary.is_backup()
}

/// Patterns for paths.
pub(crate) struct Globs {
    set: GlobSet,
    empty: bool,
}

impl Globs {
    /// Compiles them. A pattern without `/` is a name at any depth; a plain path means everything
    /// below it; `~/` is HOME.
    pub(crate) fn new(cx: &Context, patterns: &[String]) -> Result<Self, Fault> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let wrong = |error: &globset::Error| {
                Fault::argument(
                    format!(
                        "the pattern `{}` is wrong: {}",
                        bdr::base::path::show(pattern.as_ref()),
                        error.kind()
                    ),
                    "make the same call with another pattern, like **/*.json",
                )
            };
            let pattern = slashes(pattern);
            let expanded = match (pattern.strip_prefix("~/"), &cx.home) {
                (Some(rest), Some(home)) => {
                    let home = slashes(&home.to_string_lossy());
                    format!("{}/{rest}", bdr::model::rules::glob_of(&home))
                }
                _ => pattern
                    .trim_end_matches('/')
                    .trim_start_matches("./")
                    .to_owned(),
            };
            let mut forms = vec![expanded.clone(), format!("{expanded}/**")];
            if !expanded.starts_with('/') {
                forms.push(format!("**/{expanded}"));
                forms.push(format!("**/{expanded}/**"));
            }
            for form in forms {
                let glob = GlobBuilder::new(&form).literal_separator(true).build();
                set.add(glob.map_err(|error| wrong(&error))?);
            }
        }
        let built = set
            .build()
            .map_err(|error| Fault::argument(error.to_string(), "fewer patterns"))?;
        Ok(Self {
            set: built,
            empty: patterns.is_empty(),
        })
    }

    /// Returns true if an absolute path matches, or there are no patterns.
    pub(crate) fn fit(&self, path: &Path) -> bool {
        self.empty || self.set.is_match(path)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }
}

/// Returns a pattern with slashes: on Windows, models also write `sub\*.json`.
pub(crate) fn slashes(pattern: &str) -> String {
    if cfg!(windows) {
        pattern.replace('\\', "/")
    } else {
        pattern.to_owned()
    }
}

/// Returns a digest that identifies a plan.
pub(crate) fn plan_id(parts: impl IntoIterator<Item = String>) -> String {
    let mut text = String::new();
    for part in parts {
        text.push_str(&part);
        text.push('\0');
    }
    bdr::base::id::Digest::of(text.as_bytes()).to_hex()[..32].to_owned()
}

/// Returns the first `most` of a list, and the number of the others.
pub(crate) fn first<T>(list: &[T], most: usize) -> (&[T], usize) {
    let shown = &list[..list.len().min(most)];
    (shown, list.len() - shown.len())
}

/// A page of a list. The cursor says where it begins, and to which list it belongs.
pub(crate) struct Page {
    pub(crate) from: usize,
    list: String,
}

impl Page {
    pub(crate) fn read(args: &Args, list: &str) -> Result<Self, Fault> {
        let stamp = plan_id([list.to_owned()])[..12].to_owned();
        let from = match args.text("cursor")? {
            None => 0,
            Some(cursor) => {
                let parts = cursor.split_once('.').filter(|(of, _)| *of == stamp);
                let from = parts.and_then(|(_, from)| from.parse().ok());
                from.ok_or_else(|| {
                    Fault::argument(
                        "this cursor belongs to another call",
                        "make the same call without cursor",
                    )
                })?
            }
        };
        Ok(Self { from, list: stamp })
    }

    /// Returns where the next page begins, if there is one.
    pub(crate) fn next(&self, shown: usize, all: usize) -> Option<String> {
        let end = self.from + shown;
        (end < all).then(|| format!("{}.{end}", self.list))
    }
}

/// Returns a path for a URI, with percent signs for everything that is not allowed as it is.
pub(crate) fn encoded(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                text.push(byte.into());
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_calls_without_end_has_to_wait() {
        let session = Session::default();
        for _ in 0..MOST_A_MINUTE {
            assert!(session.admit().is_ok());
        }
        assert_eq!(session.admit().unwrap_err().code, "RATE_LIMITED");
    }

    #[test]
    fn a_consent_is_used_once_and_the_same_plan_may_be_agreed_to_again() {
        let session = Session::default();
        let consent = session.ask("a");
        assert!(session.spend(&consent));
        assert!(!session.spend(&consent));
        assert!(session.spend(&session.ask("a")));
        session.show("a");
        assert!(session.spend_shown("a"));
        assert!(!session.spend_shown("a"));
    }
}
