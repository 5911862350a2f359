//! `bdr import`: takes over what backup-dr had.

use std::path::PathBuf;

use bdr::config::{Source, edit};
use bdr::import::{Found, Imported, Importer, Store, look, names};
use bdr::monitor::size;
use bdr::path::show;
use bdr::repo::Repository;
use bdr::repo::snapshot::PathNote;
use bdr::retention::Policy;
use bdr::rules::{Matcher, Rules};
use bdr::schedule::Job;
use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::error::Failure;
use super::{backup, config, exit, jobs, verify};
use crate::ui::{self, plural, prompt, when};

/// Take over configuration, schedules and backups of backup-dr
///
/// What bdr is configured to do already stays; what is missing is added: sources, excludes, retention, schedule. Backups become snapshots of
/// their own time with the tag `backup-dr`. Each file is checked first: what that server stored under a wrong name, or damaged, is named and left out
/// (exit 3). Nothing of the old store is changed; importing twice imports once.
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
    /// Take over the configuration only
    #[arg(long)]
    no_backups: bool,
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
}

/// What the old configuration adds to this one.
#[derive(Default)]
struct Settings {
    sources: Vec<Source>,
    /// Key and values, as `bdr config set` takes them.
    values: Vec<(Vec<String>, Vec<String>)>,
    /// What cannot be said here.
    remarks: Vec<String>,
}

pub(crate) fn run(cx: &Context, args: &ImportArgs) -> Result<u8, Failure> {
    let dir = match (&args.dir, &cx.home) {
        (Some(dir), _) => bdr::path::absolute(&cx.cwd, dir),
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
                page.push_str(" Without a terminal it takes --yes: bdr import --yes");
            }
            cx.ui.data(&format!("{page}\n"))?;
        }
        return Ok(code);
    }
    if !args.yes {
        cx.ui.report(&plan(cx, &store, &settings))?;
        if !prompt::confirm("Take this over?", true)? {
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
    // Snapshots are ordered as they came: the last one is to be of today again.
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
    // Beside the cache rather than in /tmp, which is often small and in memory.
    let scratch = verify::scratch(repo.cache())?;
    let place = scratch.path().join("import");
    bdr::fsutil::create_dir_private(&place)?;
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

/// Makes a backup of what stands there now, if anything does.
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
    // Configured, scheduled, or at least backed up once.
    let mut paths: Vec<PathBuf> = Vec::new();
    let named = old["sources"].as_array().into_iter().flatten();
    let scheduled = schedules["schedules"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|s| s["sources"].as_array().into_iter().flatten());
    paths.extend(
        named
            .chain(scheduled)
            .filter_map(Value::as_str)
            .map(|path| expanded(cx, path)),
    );
    paths.extend(
        store
            .backups
            .iter()
            .flat_map(|found| found.metadata.sources.iter().cloned()),
    );
    let covered = |path: &PathBuf| {
        cx.config
            .sources
            .iter()
            .any(|source| path.starts_with(&source.path))
    };
    // The whole of a system is nothing that somebody chose to back up every day here.
    let is_whole = |path: &PathBuf| {
        bdr::path::absolute(&cx.cwd, path).parent().is_none()
            || bdr::fsutil::canonicalize(path).is_ok_and(|real| real.parent().is_none())
    };
    if paths.iter().any(is_whole) {
        settings.remarks.push(
            "the store has backups of the whole file system: it is imported, and not made a source"
                .to_owned(),
        );
        paths.retain(|path| !is_whole(path));
    }
    let mut seen = Vec::new();
    paths.retain(|path| {
        path.is_absolute() && !covered(path) && !seen.contains(path) && {
            seen.push(path.clone());
            true
        }
    });
    for (name, path) in names(&paths) {
        let mut unique = name.clone();
        let mut number = 2;
        while cx.config.sources.iter().any(|source| source.name == unique) {
            unique = format!("{name}-{number}");
            number += 1;
        }
        let Some(text) = path.to_str() else {
            settings
                .remarks
                .push(format!("source {} is not UTF-8", show(path.as_os_str())));
            continue;
        };
        let key = |last: &str| vec!["source".to_owned(), unique.clone(), last.to_owned()];
        settings.values.push((key("path"), vec![text.to_owned()]));
        if !excludes.is_empty() {
            settings.values.push((key("exclude"), excludes.clone()));
        }
        let rules = Rules {
            exclude: excludes.clone(),
            ..Rules::default()
        };
        settings.sources.push(Source {
            name: unique,
            path,
            rules,
            criticality: bdr::config::Criticality::default(),
        });
    }
    if cx.config.retention == Policy::default() {
        for (names, key) in [
            (["dailyRetention", "dailyBackups"], "keep_daily"),
            (["weeklyRetention", "weeklyBackups"], "keep_weekly"),
            (["monthlyRetention", "monthlyBackups"], "keep_monthly"),
        ] {
            let number = names
                .iter()
                .find_map(|name| old["retention"][name].as_u64());
            let usual = match key {
                "keep_daily" => Policy::default().daily,
                "keep_weekly" => Policy::default().weekly,
                _ => Policy::default().monthly,
            };
            if let Some(number) = number.filter(|number| *number != u64::from(usual)) {
                settings.values.push((
                    vec!["retention".to_owned(), key.to_owned()],
                    vec![number.to_string()],
                ));
            }
        }
    }
    if cx.config.schedule.is_none() {
        schedule(&schedules, &mut settings);
    }
    Ok(settings)
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
                "the exclude `{}` cannot be said here",
                show(pattern.as_ref())
            ));
        // Left out without being told; history is not.
        } else if !matches!(plain, "node_modules" | ".git") && !patterns.iter().any(|p| p == plain)
        {
            patterns.push(plain.to_owned());
        }
    }
    patterns
}

/// The first daily time and the first weekly day of a full; the rest is named.
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
                    "the schedule `{}` ({}) is not one of a day or a week: backups are daily here",
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

/// Returns the text of the configuration with what is added; nothing if that is nothing.
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
        text.push_str("There is nothing to take over.\n");
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
            "Left out, because the store does not have them ({}, exit 3):\n",
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
        true => "A backup of today was made, too.",
        false => "Next: bdr backup.",
    });
    text.push_str(" When you have seen that all is there, the old store can go.\n");
    if settings.values.iter().any(|(key, _)| key[0] == "schedule") {
        text.push_str("Backups do not run by themselves yet: bdr schedule install\n");
    }
    text
}

fn data(store: &Store, settings: &Settings, imported: &[Imported], applied: bool) -> Value {
    let backups: Vec<Value> = store
        .backups
        .iter()
        .map(|found| {
            json!({
                "id": found.metadata.backup_id,
                "time": when::utc(found.metadata.created),
                "kind": found.metadata.kind,
                "files": found.files(),
                "bytes": found.bytes(),
                "imported_before": found.imported,
            })
        })
        .collect();
    let sources: Vec<Value> = settings
        .sources
        .iter()
        .map(|s| ui::json::with_path(&s.path, json!({"name": s.name})))
        .collect();
    let snapshots: Vec<Value> = imported
        .iter()
        .map(|imported| json!({"snapshot": imported.report.snapshot.id.to_string(), "files": imported.report.snapshot.stats.files, "left_out": ui::json::notes(&imported.lost)}))
        .collect();
    json!({
        "applied": applied,
        "sources": sources,
        "backups": backups,
        "unreadable": ui::json::notes(&store.unreadable),
        "remarks": settings.remarks,
        "imported": snapshots,
    })
}
