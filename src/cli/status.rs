//! `bdr status`.

use bdr::discover;
use bdr::repo::summaries::Summary;
use bdr::retention::parse_span;
use bdr::runs::Run;
use bdr::status::{Inputs, Level, Status, Trouble, status};
use bdr::{Error, ErrorKind, repo::Repository};
use chrono::{Local, TimeDelta};
use clap::Args;

use super::context::Context;
use super::error::Failure;
use super::exit;

mod data;
mod history;
pub(crate) mod words;

/// Say whether all is well, and what to do if not
///
/// One sentence first, then the sources and how much of them is backed up, storage, scheduler and guards. --check is for monitoring: one
/// line, exit code 0 if all is well, 1 for a warning, 2 if what is there now could be lost.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr status
  bdr status --check --max-age 26h
  bdr status --history
  bdr status --json | jq -r .data.level")]
pub(crate) struct StatusArgs {
    /// Print one line for monitoring; exit 0, 1 or 2
    #[arg(long)]
    check: bool,
    /// How old the last backup may be: 26h, 3d
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    max_age: Option<TimeDelta>,
    /// Print how backups went, week by week
    #[arg(long, conflicts_with = "check")]
    history: bool,
}

/// Everything that is to be known.
pub(crate) struct Seen {
    pub(crate) vault: Option<VaultSeen>,
    /// Where the second place of the repository is, and whether it has one there; `None`: none is wanted.
    pub(crate) lifeboat: Option<(std::path::PathBuf, bool)>,
    pub(crate) status: Status,
    pub(crate) summaries: Vec<Summary>,
    pub(crate) runs: Vec<Run>,
}

pub(crate) fn run(cx: &Context, args: &StatusArgs) -> Result<u8, Failure> {
    if args.history {
        return history::run(cx);
    }
    let seen = look(cx, args.max_age, !args.check)?;
    let status = &seen.status;
    if args.check {
        let code = match status.level {
            Level::Good => 0,
            Level::Warning => 1,
            Level::Critical => 2,
        };
        if cx.ui.json {
            cx.ui.document("status", code, &data::status(&seen))?;
        } else {
            cx.ui.data(&format!("{}\n", words::check_line(status)))?;
        }
        return Ok(code);
    }
    let codes = status.troubles.iter().map(|trouble| match trouble {
        Trouble::Away => exit::NO_REPOSITORY,
        Trouble::Damaged { .. } | Trouble::Lost { .. } => exit::DAMAGED,
        _ => exit::OK,
    });
    let code = codes.max().unwrap_or(exit::OK);
    if cx.ui.json {
        cx.ui.document("status", code, &data::status(&seen))?;
    } else {
        cx.ui.data(&words::page(cx, &seen))?;
    }
    Ok(code)
}

/// Looks at everything. A repository that is not there is an answer, not an error.
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

fn look_at(
    cx: &Context,
    repo: Option<&Repository>,
    away: bool,
    max_age: Option<TimeDelta>,
    walk: bool,
) -> Result<Seen, Failure> {
    let journal = cx.journal();
    let runs = journal.runs();
    let uncovered = if walk {
        let workspace = cx.workspace();
        let never = [cx.places.repository.clone(), cx.places.cache.clone()];
        let places = discover::Places {
            home: cx.home.as_deref(),
            workspace: Some(&workspace),
            never: &never,
            budget: 0,
        };
        discover::uncovered(&places, &cx.config.sources)?
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
        scheduler: super::schedule::scheduler(cx, false),
        now: cx.now,
        max_age,
        walk,
    };
    let (status, summaries) = status(inputs, &Local)?;
    Ok(Seen {
        vault: repo.and_then(|repo| vault(repo, &status)),
        lifeboat,
        status,
        summaries,
        runs,
    })
}

/// What there is to say of the vault.
pub(crate) struct VaultSeen {
    /// Values in it, and their bytes on disk.
    pub(crate) usage: (u64, u64),
    /// Where its key is.
    pub(crate) key: String,
    /// Why values cannot be kept.
    pub(crate) trouble: Option<String>,
    /// Why what comes back cannot be compared with what it was.
    pub(crate) unproven: Option<String>,
}

/// Looks at the vault, if anything is sealed: looking would make a key where there is none.
fn vault(repo: &Repository, status: &Status) -> Option<VaultSeen> {
    let vault = repo.vault();
    let usage = vault.usage();
    let sealed = status.sources.iter().any(|s| !s.sealed.is_empty());
    (usage.0 > 0 || sealed).then(|| VaultSeen {
        usage,
        key: vault.key_name(),
        trouble: vault.trouble(),
        unproven: vault.unproven(),
    })
}
