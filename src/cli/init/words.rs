//! The messages of `bdr init`.

use std::ffi::OsString;
use std::path::Path;

use bdr::base::path::show;
use bdr::base::units::size;
use bdr::find::discover::{Discovery, Found};
use bdr::install::hooks::shells::Shell;
use bdr::model::config::{Config, Criticality, Source};
use bdr::repo::Repository;

use super::AGENTS_BUDGET;
use super::Done;
use super::InitArgs;
use crate::app::backup as backups;
use crate::app::context::Context;
use crate::app::documents::{BackupDocument, InitDocument, InitSource, NamedSource};
use crate::app::error::Failure;
use crate::ui::{self, count, plural};

fn places(cx: &Context) -> String {
    let workspace = cx.workspace();
    match &cx.home {
        Some(home) if *home == workspace => "your home".to_owned(),
        Some(_) => format!("{} and your home", cx.shown_absolute(&workspace)),
        None => cx.shown_absolute(&workspace),
    }
}

pub(super) fn found_text(cx: &Context, discovery: &Discovery) -> String {
    let rows: Vec<Vec<String>> = discovery
        .found
        .iter()
        .map(|f| {
            vec![
                f.source.name.clone(),
                where_found(cx, f),
                plural(f.files, "file"),
                size(f.bytes),
                match f.source.criticality {
                    Criticality::Irreplaceable => "irreplaceable".to_owned(),
                    Criticality::Tedious => "tedious to recreate".to_owned(),
                },
            ]
        })
        .collect();
    let mut text = format!("Found in {}:\n", places(cx));
    for line in ui::table::table(&rows, "llrrl") {
        text.push_str(&format!("  {line}\n"));
    }
    if !discovery.rebuildable.is_empty() {
        let mut names: Vec<String> = discovery
            .rebuildable
            .iter()
            .filter_map(|path| path.file_name().map(show))
            .collect();
        names.sort();
        names.dedup();
        let more = if names.len() > 4 { " and the like" } else { "" };
        names.truncate(4);
        text.push_str(&format!(
            "Left out, can be rebuilt: {}{more}.\n",
            names.join(", ")
        ));
    }
    for (path, bytes) in discovery.found.iter().flat_map(|f| &f.over_budget) {
        let (path, budget) = (cx.shown_absolute(path), size(AGENTS_BUDGET));
        text.push_str(&format!(
            "Left out: {path}  {}, to stay within {budget}.\n",
            size(*bytes)
        ));
    }
    for path in discovery.found.iter().flat_map(|f| &f.links) {
        let path = cx.shown_absolute(path);
        text.push_str(&format!(
            "Note: {path} is a symlink; name its target with --source to keep that.\n"
        ));
    }
    text
}

fn where_found(cx: &Context, found: &Found) -> String {
    let root = cx.shown_absolute(&found.source.path);
    match (found.source.name.as_str(), found.more) {
        ("workspace", _) if !found.source.rules.include.is_empty() => format!("{root} (its state)"),
        (_, _) if found.source.rules.include.is_empty() => root,
        (_, 0) => cx.shown_absolute(&found.first),
        (_, more) => format!(
            "{} and {} more",
            cx.shown_absolute(&found.first),
            count(more as u64)
        ),
    }
}

/// What was done in addition to the backup.
pub(super) struct Also<'a> {
    pub(super) scheduled: bool,
    pub(super) hooks: &'a [String],
    /// Sources that were named when asked for more.
    pub(super) named: &'a [Source],
}

pub(super) fn ending(
    cx: &Context,
    args: &InitArgs,
    repo: &Repository,
    config: &Config,
    kept: Option<&Path>,
    done: Option<&Done>,
    also: &Also<'_>,
) -> Result<String, Failure> {
    let mut text = format!("Configuration: {}\n", cx.shown_absolute(&cx.places.config));
    if let Some(kept) = kept {
        text.push_str(&format!("The previous one: {}\n", cx.shown_absolute(kept)));
    }
    match done {
        Some(done) => {
            let id = done.report.snapshot.id.prefix(&repo.snapshot_ids()?);
            text.push_str(&backups::text(cx, &done.report, Some(&id)));
            if done.drill_passed {
                text.push_str(" First restore drill passed.\n");
            } else {
                text.push_str(
                    "\nThe first restore drill failed: bdr verify latest --level restore\n",
                );
            }
        }
        None => text.push_str("No backup was made: bdr backup\n"),
    }
    text.push_str(&format!(
        "Same without questions: {}\n",
        equivalent(cx, args, repo, config, also)
    ));
    text.push_str(&shell_line(cx, also.hooks));
    text.push_str("Try it: bdr guard -- rm -rf <a file you can spare>\n");
    Ok(text)
}

/// Returns the line that protects the calling shell, because only new shells read hooks that were
/// just installed.
fn shell_line(cx: &Context, hooks: &[String]) -> String {
    let Some(shell) = calling_shell().filter(|_| !cx.ui.json) else {
        return String::new();
    };
    let program = crate::app::context::own_program();
    // A program that is on PATH is called by its name.
    let program = match program.filter(|_| !crate::app::context::is_on_path()) {
        Some(path) => bdr::base::path::shell_word(&path.to_string_lossy()),
        None => "bdr".to_owned(),
    };
    let line = shell.line_for_now(&program);
    let installed = hooks
        .iter()
        .any(|hook| hook == "all" || hook == "shell" || Shell::parse(hook) == Some(shell));
    match installed {
        true => format!("Protect this shell too: {line}\n"),
        false => format!("Protect what you type in this shell: {line}\n"),
    }
}

/// Returns the shell from which bdr was called: its parent, if the system tells which that is, or
/// the user's own.
fn calling_shell() -> Option<Shell> {
    let named = |name: &str| Shell::parse(name.trim().trim_start_matches('-'));
    let parent = crate::app::context::parent_name();
    let login = || {
        let shell = crate::app::context::variable("SHELL")?;
        named(Path::new(&shell).file_stem()?.to_str()?)
    };
    match parent {
        // Nobody types into a script or another program.
        Some(name) => named(&name),
        None => login(),
    }
}

/// Returns the command that does the same without asking.
fn equivalent(
    cx: &Context,
    args: &InitArgs,
    repo: &Repository,
    config: &Config,
    also: &Also<'_>,
) -> String {
    let mut argv: Vec<OsString> = ["bdr", "init", "--yes"].map(OsString::from).to_vec();
    if repo.location() != cx.places.default_repository {
        argv.push("--repository".into());
        argv.push(repo.location().into());
    }
    if !args.source.is_empty() {
        // Absolute, because it may be typed elsewhere.
        let typed = |name: &str| {
            let begins = |text: &OsString| text.to_string_lossy().starts_with(&format!("{name}="));
            args.source.iter().any(begins)
        };
        for source in config.sources.iter().filter(|source| typed(&source.name)) {
            argv.push("--source".into());
            let mut pair = OsString::from(format!("{}=", source.name));
            pair.push(&source.path);
            argv.push(pair);
        }
    }
    if let Some(schedule) = config.schedule.as_ref().filter(|_| also.scheduled) {
        argv.push("--schedule".into());
        argv.push(schedule.at.format("%H:%M").to_string().into());
    }
    if !also.hooks.is_empty() {
        argv.push("--hooks".into());
        argv.push(also.hooks.join(",").into());
    }
    // The backup is to have the places that are added after it.
    if args.no_backup || !also.named.is_empty() {
        argv.push("--no-backup".into());
    }
    let line = crate::app::guard::shell_words(&argv);
    if also.named.is_empty() {
        return line;
    }
    let paths = also.named.iter();
    let paths: Vec<String> = paths
        .map(|source| crate::app::guard::typed(cx.shown_absolute(&source.path), &source.path))
        .collect();
    let add = format!("bdr add {}", paths.join(" "));
    match args.no_backup {
        true => format!("{line} && {add}"),
        false => format!("{line} && {add} && bdr backup"),
    }
}

pub(super) fn data(
    cx: &Context,
    repo: &Repository,
    config: &Config,
    discovery: Option<&Discovery>,
    done: Option<&Done>,
) -> InitDocument {
    let source = |source: &Source| {
        let found = discovery.and_then(|d| d.found.iter().find(|f| f.source.name == source.name));
        InitSource {
            source: NamedSource::new(&source.name, &source.path),
            criticality: source.criticality.word(),
            files: found.map(|f| f.files),
            bytes: found.map(|f| f.bytes),
        }
    };
    InitDocument::new(
        &cx.places.config,
        repo.location(),
        config.sources.iter().map(source).collect(),
        done.map(|done| (BackupDocument::new(&done.report), done.drill_passed)),
    )
}
