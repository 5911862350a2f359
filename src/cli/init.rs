//! `bdr init`: finds what is worth keeping, asks, writes the configuration, makes the first backup.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bdr::base::path::{os_from_bytes, os_to_bytes, show};
use bdr::care::runs::Outcome;
use bdr::find::discover::{Discovery, Places, discover};
use bdr::model::config::{Config, Criticality, Source, edit, path_text};
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
use crate::app::prune::tight_words;
use crate::ui::prompt;

use super::sources::{covering, expanded, free_name, free_name_of};

mod words;

/// Limit for the agents' state, in bytes: transcripts grow without end.
const AGENTS_BUDGET: u64 = 256 << 20;

/// Choose what to back up, and make the first backup
///
/// Looks for workspace state, configuration of coding agents and dotfiles, shows what it found, writes a commented configuration
/// and makes the first backup. Run again, it adds what is new and changes nothing that is configured; an existing repository is used.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr init
  bdr init --yes
  bdr init --yes --schedule 02:30 --hooks shell,git,claude
  bdr init --yes --repository /mnt/disk/bdr --source notes=~/notes --source key=~/.ssh/config")]
pub(crate) struct InitArgs {
    /// Do not ask
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
        let message = "there is no terminal to ask on";
        return Err(Failure::usage(message, "bdr init --yes"));
    }
    // Whoever calls this wants a repository at the place that is configured, not another one moved
    // there.
    let there = cx.places.moving.as_ref().map(|new| cx.with_repository(new));
    let cx = there.as_ref().unwrap_or(cx);
    let old = old_config(cx)?;
    let chosen = choose_sources(cx, args, old.as_ref())?;
    let Some(dir) = choose(cx, args, old.is_some())? else {
        cx.ui.warn("Nothing was written.");
        return Ok(exit::PARTIAL);
    };
    // The repository first: if it cannot be created, no configuration must name it.
    let repo = cx.create_repository(&dir, true)?;
    let kept = old
        .as_ref()
        .map(|old| old.config.clone())
        .unwrap_or_default();
    let at = ask_schedule(args, kept.schedule.as_ref())?;
    let hooks = ask_hooks(cx, args)?;
    let config = Config {
        repository: (dir != cx.places.default_repository).then_some(dir),
        sources: chosen.all.clone(),
        schedule: match &at {
            Some(at) => Some(Schedule {
                at: *at,
                ..kept.schedule.clone().unwrap_or_default()
            }),
            None => kept.schedule.clone(),
        },
        ..kept
    };
    let kept = write_config(cx, &config, &chosen.new, old.as_ref())?;
    cx.launch_lifeboat(repo.location());
    let done = if args.no_backup {
        None
    } else {
        Some(first_backup(cx, &repo, &config)?)
    };
    let configured = Context {
        config: config.clone(),
        ..cx.with_repository(repo.location())
    };
    // Everything else is done, so a missing scheduler is only reported.
    let scheduled = at.map(|_| crate::app::schedule::set_up(&configured));
    let code = match &done {
        Some(done) if !done.drill_passed => exit::DAMAGED,
        Some(done) => backups::code(&done.report),
        None => exit::OK,
    };
    if cx.ui.json {
        let discovery = chosen.discovery.as_ref();
        let data = words::data(cx, &repo, &config, discovery, done.as_ref());
        cx.ui.document("init", code, &data)?;
    } else {
        let also = words::Also {
            scheduled: at.is_some(),
            hooks: &hooks,
            named: &chosen.named,
        };
        let (kept, done) = (kept.as_deref(), done.as_ref());
        let ending = words::ending(cx, args, &repo, &config, kept, done, &also)?;
        cx.ui.report(&ending)?;
    }
    if let Some(done) = &done
        && let Some(says) = tight_words(&backups::remembered_budget(&configured, &done.report))
    {
        cx.ui.say(&says);
    }
    super::vault::offer_export(&cx.with_repository(repo.location()), &repo)?;
    let all = set_up_the_rest(cx, &configured, &hooks, scheduled)?;
    Ok(if all { code } else { exit::PARTIAL })
}

/// Installs hooks, and reports on the scheduler. Returns false if one of them failed: after all
/// that is written by then, that is no reason to fail.
fn set_up_the_rest(
    cx: &Context,
    configured: &Context,
    hooks: &[String],
    scheduled: Option<Result<String, Failure>>,
) -> Result<bool, Failure> {
    let hooked = match hooks.is_empty() {
        true => true,
        false => tell(cx, super::hooks::set_up(configured, hooks))?,
    };
    let woken = match scheduled {
        Some(scheduled) => tell(cx, scheduled.map(|says| format!("{says}\n")))?,
        None => true,
    };
    Ok(hooked && woken)
}

/// Says what came of a part of the set-up. Returns false if it failed: the rest stays all the same.
fn tell(cx: &Context, outcome: Result<String, Failure>) -> Result<bool, Failure> {
    match outcome {
        Ok(says) if !cx.ui.json => cx.ui.report(&says)?,
        Ok(_) => {}
        Err(failure) => {
            cx.ui.warn(&failure.text(cx.ui.err));
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is to be backed up.
struct Chosen {
    /// The new sources.
    new: Vec<Source>,
    /// Those of them that were typed when asked for more.
    named: Vec<Source>,
    /// With those that were configured before.
    all: Vec<Source>,
    /// What was found; `None` if the sources were named on the command line.
    discovery: Option<Discovery>,
}

fn choose_sources(cx: &Context, args: &InitArgs, old: Option<&Old>) -> Result<Chosen, Failure> {
    let configured = old.map(|old| &old.config.sources[..]).unwrap_or_default();
    let mut chosen = if args.source.is_empty() {
        let discovery = look_around(cx)?;
        let found = discovery.found.iter().map(|f| f.source.clone());
        let new = new_sources(configured, found)?;
        if !cx.ui.json {
            cx.ui.report(&words::found_text(cx, &discovery))?;
        }
        let named = more_places(cx, args, &joined(configured, &new))?;
        Chosen {
            new,
            named,
            all: Vec::new(),
            discovery: Some(discovery),
        }
    } else {
        Chosen {
            new: typed_sources(cx, &args.source, configured)?,
            named: Vec::new(),
            all: Vec::new(),
            discovery: None,
        }
    };
    chosen.new.extend(chosen.named.iter().cloned());
    chosen.all = joined(configured, &chosen.new);
    if chosen.all.is_empty() {
        let message = "found nothing that looks worth backing up";
        return Err(Failure::usage(
            message,
            "name it: bdr init --source NAME=PATH",
        ));
    }
    Ok(chosen)
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

/// Returns the sources named by `--source` that are not configured yet.
fn typed_sources(
    cx: &Context,
    typed: &[OsString],
    configured: &[Source],
) -> Result<Vec<Source>, Failure> {
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
        let path = expanded(cx, &os_from_bytes(&bytes[at + 1..]));
        let known = configured.iter().find(|source| source.name == name);
        if known.is_some_and(|known| known.path == path) {
            continue;
        }
        if known.is_some() || sources.iter().any(|s| s.name == name) {
            return Err(Failure::usage(
                format!("two sources are called `{name}`"),
                &format!("rename one, or: bdr remove {name}"),
            ));
        }
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
        sources.push(plain_source(name, path));
    }
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(sources)
}

fn plain_source(name: String, path: PathBuf) -> Source {
    Source {
        name,
        path,
        rules: Rules::default(),
        criticality: Criticality::Irreplaceable,
    }
}

/// Returns what was found and is in no configured source: running `init` again adds, and replaces
/// nothing.
fn new_sources(
    configured: &[Source],
    found: impl Iterator<Item = Source>,
) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for mut source in found {
        let whole = source.rules.include.is_empty();
        let is_new = |path: &Path| Ok::<_, Failure>(covering(configured, path)?.is_none());
        if whole && !is_new(&source.path)? {
            continue;
        }
        let mut left = Vec::new();
        for pattern in std::mem::take(&mut source.rules.include) {
            if is_new(&source.path.join(pattern.trim_start_matches('/')))? {
                left.push(pattern);
            }
        }
        source.rules.include = left;
        if !whole && source.rules.include.is_empty() {
            continue;
        }
        if !configured.iter().any(|known| is_same(known, &source)) {
            source.name = free_name_of(configured, &source.name);
        }
        sources.push(source);
    }
    Ok(sources)
}

/// Returns true if one is the other, perhaps with more in it.
fn is_same(known: &Source, found: &Source) -> bool {
    known.name == found.name && known.path == found.path
}

/// Returns the configured sources with the new ones, or with their new parts.
fn joined(configured: &[Source], new: &[Source]) -> Vec<Source> {
    let mut all = configured.to_vec();
    for source in new {
        match all.iter_mut().find(|known| is_same(known, source)) {
            Some(known) => known.rules.include.extend_from_slice(&source.rules.include),
            None => all.push(source.clone()),
        }
    }
    all
}

/// Shows which parts of HOME are in no source, and asks which of them, or what else, to back up.
fn more_places(cx: &Context, args: &InitArgs, sources: &[Source]) -> Result<Vec<Source>, Failure> {
    let left = crate::app::status::not_covered(cx, sources);
    if args.yes || cx.ui.json {
        return Ok(Vec::new());
    }
    if !left.is_empty() {
        let places: Vec<String> = left
            .iter()
            .map(|one| crate::app::status::words::elsewhere(cx, one))
            .collect();
        cx.ui
            .report(&format!("Not covered: {}.\n", places.join(", ")))?;
    }
    let mut more: Vec<Source> = Vec::new();
    loop {
        let typed =
            prompt::line_or_nothing("Another directory or file to back up (Enter: no more)")?;
        let typed = typed.trim();
        if typed.is_empty() {
            return Ok(more);
        }
        let path = expanded(cx, typed.as_ref());
        let known = [sources, &more].concat();
        if path.symlink_metadata().is_err() {
            // Whoever answers the question instead of naming a place means no.
            if ["n", "no"].contains(&typed.to_ascii_lowercase().as_str()) {
                return Ok(more);
            }
            cx.ui
                .warn(&format!("There is no {}.", show(path.as_os_str())));
        } else if let Some(source) = covering(&known, &path)? {
            cx.ui
                .warn(&format!("It is in source `{}` already.", source.name));
        } else {
            let name = free_name(&known, &path);
            more.push(plain_source(name, path));
        }
    }
}

/// The existing configuration.
struct Old {
    config: Config,
    text: String,
}

/// Reads the existing configuration; `init` must not replace an invalid one.
fn old_config(cx: &Context) -> Result<Option<Old>, Failure> {
    let path = &cx.places.config;
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let config = read_config(path, cx.home.as_deref()).map_err(|failure| {
        failure.hinted(|_| Some("bdr config edit, or move it away; then bdr init again".to_owned()))
    })?;
    let text = crate::app::config::text(cx)?;
    Ok(Some(Old { config, text }))
}

/// Asks what the flags leave open; returns where the repository goes, or nothing if the user
/// declines.
fn choose(cx: &Context, args: &InitArgs, configured: bool) -> Result<Option<PathBuf>, Failure> {
    let dir = cx.places.repository.clone();
    // Its place was chosen before, or just now.
    if args.yes || configured || cx.places.named {
        return Ok(Some(dir));
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

/// Returns the time of the daily backup, if the user wants one.
fn ask_schedule(args: &InitArgs, old: Option<&Schedule>) -> Result<Option<NaiveTime>, Failure> {
    if let Some(at) = &args.schedule {
        // It was validated when it was typed.
        return Ok(parse_clock(at).ok());
    }
    if args.yes {
        return Ok(None);
    }
    let at = old.map_or_else(|| Schedule::default().at, |schedule| schedule.at);
    let question = format!("Back up every day at {}?", at.format("%H:%M"));
    Ok(prompt::confirm(&question, true)?.then_some(at))
}

/// Returns which programs shall call bdr.
fn ask_hooks(cx: &Context, args: &InitArgs) -> Result<Vec<String>, Failure> {
    if !args.hooks.is_empty() || args.yes {
        super::hooks::found(cx, &args.hooks)?;
        return Ok(args.hooks.clone());
    }
    let found = super::hooks::found(cx, &["all".to_owned()])?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // These are other programs' files: one Enter too many must not edit them.
    let question = format!(
        "Protect what {} do, by adding bdr to their settings?",
        found.join(", ")
    );
    Ok(match prompt::confirm(&question, false)? {
        true => found,
        false => Vec::new(),
    })
}

/// Writes the configuration, or adds to the existing one; returns where the previous version is
/// kept.
fn write_config(
    cx: &Context,
    config: &Config,
    new: &[Source],
    old: Option<&Old>,
) -> Result<Option<PathBuf>, Failure> {
    let path = &cx.places.config;
    let Some(old) = old else {
        let text = config.to_toml(cx.home.as_deref())?;
        crate::app::config::write(cx, &text)?;
        return Ok(None);
    };
    let mut text = old.text.clone();
    for source in new {
        text = match old
            .config
            .sources
            .iter()
            .any(|known| is_same(known, source))
        {
            true => edit::append(
                &text,
                &["source", &source.name, "include"],
                &source.rules.include,
            )?,
            false => with_source(cx, &text, source)?,
        };
    }
    if let Some(schedule) = &config.schedule
        && old.config.schedule.as_ref() != Some(schedule)
    {
        let at = schedule.at.format("%H:%M").to_string();
        text = edit::set(&text, &["schedule", "at"], &[at])?;
    }
    if let Some(repository) = &config.repository
        && old.config.repository != config.repository
    {
        let value = path_text(repository, cx.home.as_deref())?;
        text = edit::set(&text, &["repository"], &[value])?;
    }
    crate::app::config::check_text(cx, &text)?;
    if text == old.text {
        return Ok(None);
    }
    crate::app::config::write(cx, &text)?;
    Ok(Some(path.with_extension("toml.old")))
}

/// Returns the text of a configuration with one more source.
fn with_source(cx: &Context, text: &str, source: &Source) -> Result<String, Failure> {
    let path = path_text(&source.path, cx.home.as_deref())?;
    let set = |text: &str, key: &str, values: &[String]| -> Result<String, Failure> {
        Ok(edit::set(text, &["source", &source.name, key], values)?)
    };
    let mut text = set(text, "path", &[path])?;
    if !source.rules.include.is_empty() {
        text = set(&text, "include", &source.rules.include)?;
    }
    if !source.rules.exclude.is_empty() {
        text = set(&text, "exclude", &source.rules.exclude)?;
    }
    if source.criticality != Criticality::default() {
        text = set(
            &text,
            "criticality",
            &[source.criticality.word().to_owned()],
        )?;
    }
    Ok(text)
}

struct Done {
    report: BackupReport,
    drill_passed: bool,
}

/// Makes the first backup, and proves that it can be restored.
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
