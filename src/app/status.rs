//! Checks everything on which protection depends.

use std::path::PathBuf;

use bdr::care::runs::Run;
use bdr::care::space::{Space, space};
use bdr::care::status::{Inputs, Status, status};
use bdr::find::discover::{self, Elsewhere};
use bdr::model::config::{Remote, Source};
use bdr::repo::summaries::Summary;
use bdr::{Error, ErrorKind, repo::Repository};
use chrono::{DateTime, Local, TimeDelta, Utc};

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::remotes;

pub(crate) mod words;

/// Everything there is to know.
pub(crate) struct Seen {
    pub(crate) vault: Option<VaultSeen>,
    /// The directory of the lifeboat, and whether it exists; `None` if none is wanted.
    pub(crate) lifeboat: Option<(std::path::PathBuf, bool)>,
    pub(crate) status: Status,
    /// Destinations whose secret key, as far as bdr knows, is on this machine alone: its name, what
    /// that means, and what to do.
    pub(crate) keys_only_here: Vec<(String, String, String)>,
    /// What bdr takes besides the repository; `None` if nobody looked.
    pub(crate) space: Option<Space>,
    /// Directories of HOME that are in no source.
    pub(crate) elsewhere: Vec<Elsewhere>,
    pub(crate) summaries: Vec<Summary>,
    pub(crate) runs: Vec<Run>,
}

/// Checks everything. A missing repository is an answer, not an error.
pub(crate) fn look(cx: &Context, max_age: Option<TimeDelta>, walk: bool) -> Result<Seen, Failure> {
    let mut away = false;
    let repo = match cx.repository() {
        Ok(repo) => Some(repo),
        Err(Failure::Engine(error)) if error.kind() == ErrorKind::NoRepository => {
            away = matches!(*error, Error::Away { .. });
            None
        }
        Err(failure) => return Err(failure),
    };
    look_at(cx, repo.as_ref(), away, max_age, walk)
}

pub(crate) fn look_at(
    cx: &Context,
    repo: Option<&Repository>,
    away: bool,
    max_age: Option<TimeDelta>,
    walk: bool,
) -> Result<Seen, Failure> {
    let journal = cx.journal();
    // A repository that was moved has its second place by its old path.
    if journal.is_elsewhere() {
        cx.launch_lifeboat(&cx.places.repository);
    }
    let runs = journal.runs();
    let elsewhere = match walk {
        true => not_covered(cx, &cx.config.sources),
        false => Vec::new(),
    };
    let uncovered = if walk {
        let workspace = cx.workspace();
        let never = [cx.places.repository.clone(), cx.places.cache.clone()];
        let places = discover::Places {
            home: cx.home.as_deref(),
            workspace: Some(&workspace),
            never: &never,
            budget: 0,
        };
        let mut found = discover::uncovered(&places, &cx.config.sources)?;
        let chosen = &cx.config.not_covered;
        found.retain(|path| !chosen.iter().any(|one| path.starts_with(one)));
        found
    } else {
        Vec::new()
    };
    let lifeboat = cx.places.lifeboat(&cx.places.repository);
    let lifeboat = lifeboat.map(|one| (one.dir().to_path_buf(), one.is_manned()));
    let inputs = Inputs {
        config: &cx.config,
        repo,
        away,
        no_lifeboat: lifeboat.as_ref().is_some_and(|(_, manned)| !manned),
        memory: journal.seen(),
        runs: &runs,
        uncovered,
        scheduler: crate::app::schedule::scheduler(cx, false),
        remotes: repo.map(|repo| crate::app::remotes::directory(cx, repo.id())),
        now: cx.now,
        max_age,
        walk,
    };
    let (status, summaries) = status(inputs, &Local)?;
    let space = match repo.filter(|_| walk) {
        Some(repo) => Some(space(repo, cx.places.lifeboats.as_deref())?),
        None => None,
    };
    let warned = |remote: &Remote| {
        let (says, fix) = super::secrets::warning(cx, remote)?;
        Some((remote.name.clone(), says, fix))
    };
    Ok(Seen {
        keys_only_here: cx.config.remotes.iter().filter_map(warned).collect(),
        vault: repo.and_then(|repo| vault(repo, &status)),
        lifeboat,
        status,
        space,
        elsewhere,
        summaries,
        runs,
    })
}

/// Returns the directories of HOME that are in no source.
pub(crate) fn not_covered(cx: &Context, sources: &[Source]) -> Vec<Elsewhere> {
    match &cx.home {
        Some(home) => {
            let chosen = cx.config.not_covered.iter().cloned();
            // Nobody wants backups of backups.
            let left: Vec<PathBuf> = chosen.chain(remotes::directories(cx)).collect();
            discover::elsewhere(home, sources, &cx.places.own(), &left)
        }
        None => Vec::new(),
    }
}

pub(crate) struct VaultSeen {
    /// Number of values, and their bytes on disk.
    pub(crate) usage: (u64, u64),
    pub(crate) key: String,
    /// Time of the last export: without one all values are on this machine only.
    pub(crate) exported: Option<DateTime<Utc>>,
    /// Number of values that are in no export.
    pub(crate) only_here: u64,
    pub(crate) trouble: Option<String>,
    /// Why restored values cannot be compared with the originals.
    pub(crate) unproven: Option<String>,
}

/// Checks the vault, but only if anything is sealed: otherwise the check would create a key.
pub(crate) fn vault(repo: &Repository, status: &Status) -> Option<VaultSeen> {
    let vault = repo.vault();
    let usage = vault.usage();
    let sealed = status.sources.iter().any(|s| !s.sealed.is_empty());
    (usage.0 > 0 || sealed).then(|| VaultSeen {
        usage,
        key: vault.key_name(),
        exported: status.memory.exported,
        only_here: vault.only_here(),
        trouble: vault.trouble(),
        unproven: vault.unproven(),
    })
}
