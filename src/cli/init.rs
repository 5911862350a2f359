//! `bdr init`: finds what is worth keeping, asks, writes the configuration, makes the first backup.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use bdr::base::path::{absolute, os_from_bytes, os_to_bytes, show};
use bdr::care::runs::Outcome;
use bdr::disk::fsutil;
use bdr::find::discover::{Discovery, Places, discover};
use bdr::model::config::{Config, Criticality, Source};
use bdr::model::rules::{Rules, check_source_name};
use bdr::model::schedule::{Job, Schedule, parse_clock};
use bdr::protect::backup::{BackupOptions, BackupReport, backup};
use bdr::repo::Repository;
use bdr::repo::snapshot::Trigger;
use chrono::NaiveTime;
use clap::Args;

use crate::app::backup::{self as backups, BackupRun};
use crate::app::context::{Context, followed, read_config};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::jobs;
use crate::ui::prompt;

mod words;

/// What the agents' state may have: transcripts grow without end.
const AGENTS_BUDGET: u64 = 256 << 20;

/// Choose what to back up, and make the first backup
///
/// Looks for workspace state, configuration of coding agents and dotfiles, shows what it found, writes a commented configuration
/// and makes the first backup. An existing configuration is kept unless --yes; an existing repository is used.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr init
  bdr init --yes
  bdr init --yes --schedule 02:30 --hooks shell,git,claude
  bdr init --yes --repository /mnt/disk/bdr --source notes=~/notes --source key=~/.ssh/config")]
pub(crate) struct InitArgs {
    /// Do not ask; replace an existing configuration (the old one is kept beside it)
    #[arg(long, short)]
    yes: bool,
    /// Back up this directory or file instead of those found; may be repeated
    #[arg(long, value_name = "NAME=PATH")]
    source: Vec<OsString>,
    /// Back up every day at this time, by the system's scheduler
    #[arg(long, value_name = "HH:MM", value_parser = crate::app::schedule::clock)]
    schedule: Option<String>,
    /// Install these hooks, as `bdr hooks install` does: shell, git, claude, …, all
    #[arg(long, value_name = "TARGETS", value_delimiter = ',')]
    hooks: Vec<String>,
    /// Do not make a backup now
    #[arg(long)]
    no_backup: bool,
}

pub(crate) fn run(cx: &Context, args: &InitArgs) -> Result<u8, Failure> {
    if !args.yes && !cx.ui.can_ask {
        return Err(Failure::usage(
            "there is no terminal to ask on",
            "bdr init --yes",
        ));
    }
    let (sources, discovery) = if args.source.is_empty() {
        let discovery = look_around(cx)?;
        (
            discovery.found.iter().map(|f| f.source.clone()).collect(),
            Some(discovery),
        )
    } else {
        (typed_sources(cx, &args.source)?, None)
    };
    if sources.is_empty() {
        let message = "found nothing that looks worth backing up";
        return Err(Failure::usage(
            message,
            "name it: bdr init --source NAME=PATH",
        ));
    }
    if let (Some(discovery), false) = (&discovery, cx.ui.json) {
        cx.ui.report(&words::found_text(cx, discovery))?;
    }
    let old = old_config(cx)?;
    let Some(dir) = choose(cx, args, &old)? else {
        cx.ui.warn("Nothing was written.");
        return Ok(exit::PARTIAL);
    };
    // The repository first: if it cannot be there, no configuration says it is.
    let repo = cx.create_repository(&dir, true)?;
    let kept = match &old {
        Old::Readable(config, _) => (**config).clone(),
        _ => Config::default(),
    };
    let at = ask_schedule(args, kept.schedule.as_ref())?;
    let hooks = ask_hooks(cx, args)?;
    let config = Config {
        repository: (dir != cx.places.default_repository).then_some(dir),
        sources,
        schedule: match &at {
            Some(at) => Some(Schedule {
                at: *at,
                ..kept.schedule.clone().unwrap_or_default()
            }),
            None => kept.schedule.clone(),
        },
        ..kept
    };
    let kept = write_config(cx, &config, &old)?;
    cx.launch_lifeboat(repo.location());
    let done = if args.no_backup {
        None
    } else {
        Some(first_backup(cx, &repo, &config)?)
    };
    // Everything else is done: that nothing wakes bdr up is said, and no more.
    let scheduled = at.map(|_| {
        crate::app::schedule::set_up(&Context {
            config: config.clone(),
            ..cx.with_repository(repo.location())
        })
    });
    let drill_failed = done.as_ref().is_some_and(|done| !done.drill_passed);
    let code = match &done {
        Some(_) if drill_failed => exit::DAMAGED,
        Some(done) => backups::code(&done.report),
        None => exit::OK,
    };
    if cx.ui.json {
        let data = words::data(cx, &repo, &config, discovery.as_ref(), done.as_ref());
        cx.ui.document("init", code, &data)?;
    } else {
        cx.ui.report(&words::ending(
            cx,
            args,
            &repo,
            &config,
            kept.as_deref(),
            done.as_ref(),
            &words::Also {
                scheduled: at.is_some(),
                hooks: &hooks,
            },
        )?)?;
    }
    if !hooks.is_empty() {
        let cx = Context {
            config: config.clone(),
            ..cx.with_repository(repo.location())
        };
        match super::hooks::set_up(&cx, &hooks) {
            Ok(says) if !cx.ui.json => cx.ui.report(&says)?,
            Ok(_) => {}
            Err(failure) => {
                cx.ui.warn(&failure.text(cx.ui.err));
                return Ok(exit::PARTIAL);
            }
        }
    }
    if let Some(Err(failure)) = &scheduled {
        cx.ui.warn(&failure.text(cx.ui.err));
        return Ok(exit::PARTIAL);
    }
    if let (Some(Ok(says)), false) = (&scheduled, cx.ui.json) {
        cx.ui.report(&format!("{says}\n"))?;
    }
    Ok(code)
}

fn look_around(cx: &Context) -> Result<Discovery, Failure> {
    let workspace = cx.workspace();
    let never = [cx.places.repository.clone(), cx.places.cache.clone()];
    let places = Places {
        home: cx.home.as_deref(),
        workspace: Some(&workspace),
        never: &never,
        budget: AGENTS_BUDGET,
    };
    Ok(discover(&places)?)
}

fn typed_sources(cx: &Context, typed: &[OsString]) -> Result<Vec<Source>, Failure> {
    let mut sources: Vec<Source> = Vec::new();
    for text in typed {
        let bytes = os_to_bytes(text);
        let at = bytes.iter().position(|b| *b == b'=').ok_or_else(|| {
            Failure::usage(
                format!("`{}` has no name", show(text)),
                "--source NAME=PATH",
            )
        })?;
        let name = String::from_utf8_lossy(&bytes[..at]).into_owned();
        check_source_name(&name)?;
        if sources.iter().any(|s| s.name == name) {
            return Err(Failure::usage(
                format!("two sources are called `{name}`"),
                "rename one",
            ));
        }
        let path = expanded(cx, &os_from_bytes(&bytes[at + 1..]));
        if path.symlink_metadata().is_err() {
            let message = format!(
                "there is no `{}` to be source `{name}`",
                show(path.as_os_str())
            );
            return Err(Failure::usage(
                message,
                "correct the path, or make it first",
            ));
        }
        let (rules, criticality) = (Rules::default(), Criticality::Irreplaceable);
        sources.push(Source {
            name,
            path,
            rules,
            criticality,
        });
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

/// A shell leaves the `~` of `NAME=~/x` alone.
fn expanded(cx: &Context, path: &OsStr) -> PathBuf {
    match (Path::new(path).strip_prefix("~"), &cx.home) {
        (Ok(rest), Some(home)) => absolute(&cx.cwd, &home.join(rest)),
        _ => absolute(&cx.cwd, Path::new(path)),
    }
}

/// The configuration that is there.
enum Old {
    None,
    Readable(Box<Config>, Vec<u8>),
    Broken(Vec<u8>),
}

fn old_config(cx: &Context) -> Result<Old, Failure> {
    let path = &cx.places.config;
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Old::None),
        Err(error) => return Err(bdr::Error::io("read", path, error).into()),
    };
    Ok(match read_config(path, cx.home.as_deref()) {
        Ok(config) => Old::Readable(Box::new(config), bytes),
        Err(_) => Old::Broken(bytes),
    })
}

/// Asks what the flags leave open; returns where the repository goes, or nothing if the user wants none of it.
fn choose(cx: &Context, args: &InitArgs, old: &Old) -> Result<Option<PathBuf>, Failure> {
    let dir = cx.places.repository.clone();
    if args.yes {
        return Ok(Some(dir));
    }
    if !matches!(old, Old::None) {
        let shown = cx.shown_absolute(&cx.places.config);
        if !prompt::confirm(&format!("{shown} exists already. Replace it?"), false)? {
            return Ok(None);
        }
    }
    if prompt::confirm(
        &format!("Keep backups in {}?", cx.shown_absolute(&dir)),
        true,
    )? {
        return Ok(Some(dir));
    }
    let other = prompt::line("Where (empty: nowhere)", "")?;
    let other = other.trim();
    Ok((!other.is_empty()).then(|| expanded(cx, other.as_ref())))
}

/// Returns the time of the daily backup, if there is to be one.
fn ask_schedule(args: &InitArgs, old: Option<&Schedule>) -> Result<Option<NaiveTime>, Failure> {
    if let Some(at) = &args.schedule {
        // It was looked at when it was typed.
        return Ok(parse_clock(at).ok());
    }
    if args.yes {
        return Ok(None);
    }
    let at = old.map_or_else(|| Schedule::default().at, |schedule| schedule.at);
    let question = format!("Back up every day at {}?", at.format("%H:%M"));
    Ok(prompt::confirm(&question, true)?.then_some(at))
}

/// Returns what is to call bdr.
fn ask_hooks(cx: &Context, args: &InitArgs) -> Result<Vec<String>, Failure> {
    if !args.hooks.is_empty() || args.yes {
        super::hooks::found(cx, &args.hooks)?;
        return Ok(args.hooks.clone());
    }
    let found = super::hooks::found(cx, &["all".to_owned()])?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let question = format!("Protect what {} do?", found.join(", "));
    Ok(match prompt::confirm(&question, true)? {
        true => found,
        false => Vec::new(),
    })
}

/// Writes it; returns where the one that was there is now.
fn write_config(cx: &Context, config: &Config, old: &Old) -> Result<Option<PathBuf>, Failure> {
    let path = &cx.places.config;
    let text = config.to_toml(cx.home.as_deref())?;
    if let Some(parent) = path.parent() {
        fsutil::create_dir_private(parent)?;
    }
    let kept = match old {
        Old::Readable(_, bytes) | Old::Broken(bytes) if *bytes != text.as_bytes() => {
            let kept = path.with_extension("toml.old");
            fsutil::write_atomic(&kept, bytes, 0o600)?;
            Some(kept)
        }
        _ => None,
    };
    fsutil::write_atomic(path, text.as_bytes(), 0o600)?;
    Ok(kept)
}

struct Done {
    report: BackupReport,
    drill_passed: bool,
}

/// The first backup, and the proof that it can be restored.
fn first_backup(cx: &Context, repo: &Repository, config: &Config) -> Result<Done, Failure> {
    let cx = &cx.with_repository(repo.location());
    let config = followed(config.clone());
    let roots: Vec<_> = config.sources.iter().map(Source::root).collect();
    let mut options = BackupOptions::new(Trigger::Init, cx.now);
    options.full = true;
    options.host.clone_from(&cx.host);
    options.problems = backups::missing(&roots);
    let work = || {
        let report = backup(repo, &roots, &options, &cx.progress())?;
        Ok(BackupRun { report })
    };
    let (BackupRun { report }, _) = jobs::remember(cx, Job::Full, "user", work)?;
    let only = [report.snapshot.id];
    let work = || crate::app::drill::perform(cx, repo, &only, None);
    let (_, outcome) = jobs::remember(cx, Job::Drill, "user", work)?;
    Ok(Done {
        report,
        drill_passed: outcome != Outcome::Failed,
    })
}
