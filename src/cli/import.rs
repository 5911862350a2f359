//! `bdr import`: takes over the backups and settings of backup-dr.

use std::path::PathBuf;

use bdr::base::path::show;
use bdr::base::units::size;
use bdr::care::import::{Found, Imported, Importer, Store, look, names};
use bdr::model::config::{Source, edit};
use bdr::model::retention::Policy;
use bdr::model::rules::{Matcher, Rules};
use bdr::model::schedule::Job;
use bdr::repo::Repository;
use bdr::repo::snapshot::PathNote;
use clap::Args;
use serde_json::Value;

use crate::app::backup;
use crate::app::config;
use crate::app::context::Context;
use crate::app::documents::{ImportDocument, ImportedDocument, NamedSource, StoredBackup, notes};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::jobs;
use crate::app::verify;
use crate::ui::{self, plural, prompt, when};

/// Import configuration, schedules and backups from backup-dr
///
/// Existing settings of bdr stay; missing ones are added: sources, excludes, retention, schedule. Backups become snapshots with
/// their original time and the tag `backup-dr`. Each file is checked first: those that the old server stored under a wrong name
/// or damaged are listed and left out (exit 3). The old store is not changed, and importing twice does no harm.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr import --dry-run
  bdr import ~/.backup-dr --yes
  bdr import --no-backups")]
pub(crate) struct ImportArgs {
    /// The old store [default: ~/.backup-dr]
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    dir: Option<PathBuf>,
    /// Import the configuration only
    #[arg(long)]
    no_backups: bool,
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// What the old configuration adds to this one.
#[derive(Default)]
struct Settings {
    sources: Vec<Source>,
    /// Keys and values, as for `bdr config set`.
    values: Vec<(Vec<String>, Vec<String>)>,
    /// What has no equivalent here.
    remarks: Vec<String>,
}

pub(crate) fn run(cx: &Context, args: &ImportArgs) -> Result<u8, Failure> {
    let dir = match (&args.dir, &cx.home) {
        (Some(dir), _) => bdr::base::path::absolute(&cx.cwd, dir),
        (None, Some(home)) => home.join(".backup-dr"),
        (None, None) => {
            return Err(Failure::usage(
                "there is no home directory",
                "bdr import DIR",
            ));
        }
    };
    if !dir.is_dir() {
        let message = format!("there is no {}", cx.shown_absolute(&dir));
        return Err(Failure::usage(message, "bdr import DIR"));
    }
    let repo = cx.repository().ok();
    let store = match args.no_backups {
        true => Store::default(),
        false => look(&dir, repo.as_ref())?,
    };
    let settings = settings(cx, &dir, &store)?;
    let text = new_config(cx, &settings)?;
    let ready = args.yes || cx.ui.can_ask;
    if args.dry_run || !ready {
        let code = if args.dry_run {
            exit::OK
        } else {
            exit::PARTIAL
        };
        if cx.ui.json {
            cx.ui
                .document("import", code, &data(&store, &settings, &[], false))?;
        } else {
            let mut page = plan(cx, &store, &settings);
            page.push_str("Nothing was changed.");
            if !args.dry_run {
                page.push_str(" Without a terminal, add --yes: bdr import --yes");
            }
            cx.ui.data(&format!("{page}\n"))?;
        }
        return Ok(code);
    }
    if !args.yes {
        cx.ui.report(&plan(cx, &store, &settings))?;
        if !prompt::confirm("Import this?", true)? {
            cx.ui.report("Nothing was changed.\n")?;
            return Ok(exit::INTERRUPTED);
        }
    }
    let mut config = cx.config.clone();
    if let Some(text) = text {
        config::write(cx, &text)?;
        config = config::check_text(cx, &text)?;
    }
    let imported = match store.backups.iter().any(|found| !found.imported) {
        true => import(cx, &store)?,
        false => Vec::new(),
    };
    // Snapshots are ordered as they were added, so the last one has to be of today again.
    let cx = &Context {
        config,
        ..cx.clone()
    };
    let renewed = !imported.is_empty() && renew(cx).is_ok();
    let lost =
        imported.iter().any(|imported| !imported.lost.is_empty()) || !store.unreadable.is_empty();
    let code = if lost { exit::PARTIAL } else { exit::OK };
    if cx.ui.json {
        cx.ui
            .document("import", code, &data(&store, &settings, &imported, true))?;
    } else {
        cx.ui
            .report(&ending(cx, &store, &settings, &imported, renewed))?;
    }
    Ok(code)
}

fn import(cx: &Context, store: &Store) -> Result<Vec<Imported>, Failure> {
    let repo: Repository = cx.create_repository(&cx.places.repository, true)?;
    // Next to the cache rather than in /tmp, which is often small and in memory.
    let scratch = verify::scratch(repo.cache())?;
    let place = scratch.path().join("import");
    bdr::disk::fsutil::create_dir_private(&place)?;
    let mut importer = Importer::new(&repo, &place);
    let mut imported = Vec::new();
    for found in &store.backups {
        if found.imported {
            importer.pass(found);
        } else {
            imported.push(importer.import(found, &cx.host, &cx.progress())?);
        }
    }
    Ok(imported)
}

/// Makes a backup of the current files, if there are any.
fn renew(cx: &Context) -> Result<(), Failure> {
    let work = || backup::perform(cx, &cx.repository()?, &backup::Wanted::default());
    jobs::remember(cx, Job::Backup, "user", work).map(drop)
}

/// Reads the old configuration and schedules.
fn settings(cx: &Context, dir: &std::path::Path, store: &Store) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    let read = |name: &str| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(dir.join(name)).ok()?).ok()
    };
    let old = read("config.json").unwrap_or_default();
    let schedules = read("schedules.json").unwrap_or_default();
    let excludes = excludes(&old["defaults"]["excludePatterns"], &mut settings.remarks);
    let paths = backed_up(cx, store, &old, &schedules, &mut settings.remarks);
    take_over_sources(cx, &paths, &excludes, &mut settings);
    if cx.config.retention == Policy::default() {
        take_over_retention(&old["retention"], &mut settings);
    }
    if cx.config.schedule.is_none() {
        schedule(&schedules, &mut settings);
    }
    Ok(settings)
}

/// Returns what was configured, scheduled, or at least backed up once, and is in no source of bdr.
fn backed_up(
    cx: &Context,
    store: &Store,
    old: &Value,
    schedules: &Value,
    remarks: &mut Vec<String>,
) -> Vec<PathBuf> {
    fn list(value: &Value) -> impl Iterator<Item = &Value> {
        value.as_array().into_iter().flatten()
    }
    let scheduled = list(&schedules["schedules"]).flat_map(|schedule| list(&schedule["sources"]));
    let named = list(&old["sources"]).chain(scheduled);
    let mut paths: Vec<PathBuf> = named
        .filter_map(Value::as_str)
        .map(|path| expanded(cx, path))
        .collect();
    let backups = store.backups.iter();
    paths.extend(backups.flat_map(|found| found.metadata.sources.iter().cloned()));
    // Nobody chose to back up a whole system every day.
    let is_whole = |path: &PathBuf| {
        bdr::base::path::absolute(&cx.cwd, path).parent().is_none()
            || bdr::disk::fsutil::canonicalize(path).is_ok_and(|real| real.parent().is_none())
    };
    if paths.iter().any(is_whole) {
        remarks.push(
            "the store has backups of the whole file system: they are imported, but it does not become a source"
                .to_owned(),
        );
        paths.retain(|path| !is_whole(path));
    }
    let covered = |path: &PathBuf| {
        let mut sources = cx.config.sources.iter();
        sources.any(|source| path.starts_with(&source.path))
    };
    let mut seen = Vec::new();
    paths.retain(|path| {
        path.is_absolute() && !covered(path) && !seen.contains(path) && {
            seen.push(path.clone());
            true
        }
    });
    paths
}

fn take_over_sources(
    cx: &Context,
    paths: &[PathBuf],
    excludes: &[String],
    settings: &mut Settings,
) {
    for (name, path) in names(paths) {
        let mut unique = name.clone();
        let mut number = 2;
        while cx.config.sources.iter().any(|source| source.name == unique) {
            unique = format!("{name}-{number}");
            number += 1;
        }
        let Some(text) = path.to_str() else {
            let shown = show(path.as_os_str());
            settings
                .remarks
                .push(format!("source {shown} is not UTF-8"));
            continue;
        };
        let key = |last: &str| vec!["source".to_owned(), unique.clone(), last.to_owned()];
        settings.values.push((key("path"), vec![text.to_owned()]));
        if !excludes.is_empty() {
            settings.values.push((key("exclude"), excludes.to_vec()));
        }
        let rules = Rules {
            exclude: excludes.to_vec(),
            ..Rules::default()
        };
        settings.sources.push(Source {
            name: unique,
            path,
            rules,
            criticality: bdr::model::config::Criticality::default(),
        });
    }
}

/// Takes over the numbers that differ from the defaults.
fn take_over_retention(old: &Value, settings: &mut Settings) {
    let usual = Policy::default();
    for (names, key, usual) in [
        (
            ["dailyRetention", "dailyBackups"],
            "keep_daily",
            usual.daily,
        ),
        (
            ["weeklyRetention", "weeklyBackups"],
            "keep_weekly",
            usual.weekly,
        ),
        (
            ["monthlyRetention", "monthlyBackups"],
            "keep_monthly",
            usual.monthly,
        ),
    ] {
        let number = names.iter().find_map(|name| old[*name].as_u64());
        if let Some(number) = number.filter(|number| *number != u64::from(usual)) {
            let key = vec!["retention".to_owned(), key.to_owned()];
            settings.values.push((key, vec![number.to_string()]));
        }
    }
}

fn expanded(cx: &Context, path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), &cx.home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

/// `**/x/**` and `**/x` are a name at any depth here.
fn excludes(old: &Value, remarks: &mut Vec<String>) -> Vec<String> {
    let mut patterns: Vec<String> = Vec::new();
    for pattern in old
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        let plain = pattern.trim_start_matches("**/").trim_end_matches("/**");
        let rules = Rules {
            exclude: vec![plain.to_owned()],
            ..Rules::default()
        };
        let fits = !plain.is_empty() && !plain.contains(['!', '{']) && Matcher::new(&rules).is_ok();
        if !fits {
            remarks.push(format!(
                "the exclude `{}` has no equivalent in bdr",
                show(pattern.as_ref())
            ));
        // bdr leaves out node_modules by itself; git's history is kept.
        } else if !matches!(plain, "node_modules" | ".git") && !patterns.iter().any(|p| p == plain)
        {
            patterns.push(plain.to_owned());
        }
    }
    patterns
}

/// Takes the first daily time and the first weekly day of a full backup; reports the rest.
fn schedule(old: &Value, settings: &mut Settings) {
    const DAYS: [&str; 8] = [
        "sunday",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    let (mut at, mut full) = (None, None);
    for entry in old["schedules"].as_array().into_iter().flatten() {
        if entry["enabled"] == false {
            continue;
        }
        let expression = entry["cronExpression"].as_str().unwrap_or_default();
        let fields: Vec<&str> = expression.split_whitespace().collect();
        let time = |minute: &str, hour: &str| {
            let (minute, hour): (u32, u32) = (minute.parse().ok()?, hour.parse().ok()?);
            chrono::NaiveTime::from_hms_opt(hour, minute, 0)
                .map(|time| time.format("%H:%M").to_string())
        };
        let is_full = entry["type"] == "full";
        match fields[..] {
            [minute, hour, "*", "*", "*"] if at.is_none() && time(minute, hour).is_some() => {
                at = time(minute, hour);
            }
            [minute, hour, "*", "*", day]
                if is_full
                    && full.is_none()
                    && time(minute, hour).is_some()
                    && day.parse::<usize>().is_ok_and(|d| d < 8) =>
            {
                full = day.parse::<usize>().ok().map(|day| DAYS[day]);
                at = at.or_else(|| time(minute, hour));
            }
            _ => {
                let name = entry["scheduleId"].as_str().unwrap_or("?");
                settings.remarks.push(format!(
                    "the schedule `{}` ({}) is neither daily nor weekly: bdr backs up daily",
                    show(name.as_ref()),
                    show(expression.as_ref())
                ));
            }
        }
    }
    let Some(at) = at else { return };
    let key = |last: &str| vec!["schedule".to_owned(), last.to_owned()];
    settings.values.push((key("at"), vec![format!("\"{at}\"")]));
    if let Some(full) = full {
        settings
            .values
            .push((key("full"), vec![format!("\"{full}\"")]));
    }
}

/// Returns the text of the configuration with the additions; nothing if there are none.
fn new_config(cx: &Context, settings: &Settings) -> Result<Option<String>, Failure> {
    if settings.values.is_empty() {
        return Ok(None);
    }
    let mut text = config::text(cx)?;
    for (key, values) in &settings.values {
        let key: Vec<&str> = key.iter().map(String::as_str).collect();
        text = edit::set(&text, &key, values)?;
    }
    config::check_text(cx, &text)?;
    Ok(Some(text))
}

fn plan(cx: &Context, store: &Store, settings: &Settings) -> String {
    let mut text = String::new();
    for source in &settings.sources {
        text.push_str(&format!(
            "source     {}  {}\n",
            source.name,
            cx.shown_absolute(&source.path)
        ));
    }
    for (key, values) in settings.values.iter().filter(|(key, _)| key[0] != "source") {
        text.push_str(&format!(
            "setting    {} = {}\n",
            key.join("."),
            values.join(" ")
        ));
    }
    let row = |found: &Found| {
        vec![
            (if found.imported { "imported" } else { "backup" }).to_owned(),
            show(found.metadata.backup_id.as_ref()),
            when::local(found.metadata.created),
            show(found.metadata.kind.as_ref()),
            plural(found.files(), "file"),
            size(found.bytes()),
            found
                .metadata
                .label
                .as_deref()
                .map(|label| show(label.as_ref()))
                .unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = store.backups.iter().map(row).collect();
    for line in ui::table::table(&rows, "llllrrl") {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str(&left_over(cx, store, settings));
    if text.is_empty() {
        text.push_str("There is nothing to import.\n");
    }
    text
}

fn left_over(cx: &Context, store: &Store, settings: &Settings) -> String {
    let mut text = String::new();
    for note in &store.unreadable {
        text.push_str(&format!(
            "unreadable {}  {}\n",
            cx.shown_absolute(note.path.as_path()),
            note.reason
        ));
    }
    for remark in &settings.remarks {
        text.push_str(&format!("note: {remark}\n"));
    }
    text
}

fn ending(
    cx: &Context,
    store: &Store,
    settings: &Settings,
    imported: &[Imported],
    renewed: bool,
) -> String {
    let mut text = String::new();
    if !settings.values.is_empty() {
        text.push_str(&format!(
            "Configuration: {} added to {}.\n",
            plural(settings.sources.len() as u64, "source"),
            cx.shown_absolute(&cx.places.config)
        ));
    }
    let stored: u64 = imported
        .iter()
        .map(|imported| imported.report.stored_bytes)
        .sum();
    let files: u64 = imported
        .iter()
        .map(|imported| imported.report.snapshot.stats.files)
        .sum();
    text.push_str(&format!(
        "Imported {}, {} in all, {} stored.\n",
        plural(imported.len() as u64, "backup"),
        plural(files, "file"),
        size(stored)
    ));
    let mut seen = std::collections::HashSet::new();
    let lost = imported.iter().flat_map(|imported| &imported.lost);
    let lost: Vec<&PathNote> = lost
        .filter(|note| seen.insert((note.path.as_path(), note.reason.as_str())))
        .collect();
    if !lost.is_empty() {
        text.push_str(&format!(
            "Left out, as the store does not have them ({}, exit 3):\n",
            plural(lost.len() as u64, "file")
        ));
        let rows: Vec<Vec<String>> = lost
            .iter()
            .take(20)
            .map(|note| vec![cx.shown_absolute(note.path.as_path()), note.reason.clone()])
            .collect();
        for line in ui::table::table(&rows, "ll") {
            text.push_str(&format!("  {line}\n"));
        }
        if lost.len() > 20 {
            text.push_str(&format!(
                "  and {} more\n",
                ui::count(lost.len() as u64 - 20)
            ));
        }
    }
    text.push_str(&left_over(cx, store, settings));
    text.push_str(match renewed {
        true => "Also made a backup of today.",
        false => "Next: bdr backup.",
    });
    text.push_str(
        " Once you have checked that everything is there, you can delete the old store.\n",
    );
    if settings.values.iter().any(|(key, _)| key[0] == "schedule") {
        text.push_str("Backups do not run automatically yet: bdr schedule install\n");
    }
    text
}

fn data(
    store: &Store,
    settings: &Settings,
    imported: &[Imported],
    applied: bool,
) -> ImportDocument {
    let backups = store.backups.iter().map(|found| StoredBackup {
        id: found.metadata.backup_id.clone(),
        time: when::utc(found.metadata.created),
        kind: found.metadata.kind.clone(),
        files: found.files(),
        bytes: found.bytes(),
        imported_before: found.imported,
    });
    let sources = settings.sources.iter();
    let imported = imported.iter().map(|imported| ImportedDocument {
        snapshot: imported.report.snapshot.id.to_string(),
        files: imported.report.snapshot.stats.files,
        left_out: notes(&imported.lost),
    });
    ImportDocument {
        applied,
        sources: sources
            .map(|source| NamedSource::new(&source.name, &source.path))
            .collect(),
        backups: backups.collect(),
        unreadable: notes(&store.unreadable),
        remarks: settings.remarks.clone(),
        imported: imported.collect(),
    }
}
