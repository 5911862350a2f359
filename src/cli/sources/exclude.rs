//! `bdr exclude`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use bdr::base::path::{RepoPath, show};
use bdr::base::units::size;
use bdr::model::config::{Config, Source, edit, path_text};
use bdr::model::rules::{Matcher, pattern_of};
use clap::Args;

use super::{Measured, expanded, measured};
use crate::app::config::{check_patterns, check_text, text, write};
use crate::app::context::Context;
use crate::app::documents::{At, ExcludeDocument, ExcludedDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::ui::prompt::NeverAsks;
use crate::ui::{count, plural};

/// Leave files out of backups
///
/// A PATTERN is a path, or a pattern as in .gitignore: `*.log`, `/cache`, `docs/**/*.tmp`. A path that does not exist yet is written whole
/// (`~/notes/videos`), or from where you are (`./videos`). Shows how much is left out from now on. Snapshots that have it keep it until they expire. A path that no source has is no longer named as not covered.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr exclude ~/notes/videos
  bdr exclude ~/games                   in no source, and that is all right
  bdr exclude '*.iso'                   in the source around you, or in all of them
  bdr exclude '*.log' --source brain --dry-run")]
pub(crate) struct ExcludeArgs {
    /// Path or pattern
    #[arg(value_name = "PATTERN", required = true, value_hint = clap::ValueHint::AnyPath)]
    patterns: Vec<OsString>,
    /// Only for this source
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Print what would be left out; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    _never_asks: NeverAsks,
}

/// Sources that were walked already, by their rules: a large one takes seconds.
#[derive(Default)]
struct Walks(Vec<Measured>);

impl Walks {
    fn of(&mut self, cx: &Context, source: &Source) -> Result<Measured, Failure> {
        let known =
            |one: &&Measured| one.source.path == source.path && one.source.rules == source.rules;
        if let Some(known) = self.0.iter().find(known) {
            let source = source.clone();
            return Ok(Measured {
                source,
                ..known.clone()
            });
        }
        let found = measured(cx, source)?;
        self.0.push(found.clone());
        Ok(found)
    }
}

pub(crate) fn exclude(cx: &Context, args: &ExcludeArgs) -> Result<u8, Failure> {
    let mut walks = Walks::default();
    let before = check_text(cx, &text(cx)?)?;
    if before.sources.is_empty() {
        return Err(Failure::usage("there is no source", "bdr add PATH"));
    }
    let (new, not_covered) = with_excluded(cx, &mut walks, args, &before)?;
    let after = check_text(cx, &new)?;
    check_patterns(cx, &after)?;
    let changes = effects_of(cx, &mut walks, &before, &after)?;
    let changed = !changes.is_empty() || after.not_covered != before.not_covered;
    if !args.dry_run && changed {
        write(cx, &new)?;
    }
    if cx.ui.json {
        let data = ExcludeDocument {
            excluded: changes.iter().map(Excluding::document).collect(),
            not_covered: not_covered.iter().map(|path| At::new(path)).collect(),
            changed: !args.dry_run && changed,
        };
        cx.ui.document("exclude", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let mut says = String::new();
    for path in &not_covered {
        let path = cx.shown_absolute(path);
        says.push_str(&format!(
            "  {path} is in no source; `bdr status` does not name it any more\n"
        ));
    }
    let rows: Vec<Vec<String>> = changes.iter().map(Excluding::row).collect();
    for line in crate::ui::table::table(&rows, "ll") {
        says.push_str(&format!("  {line}\n"));
    }
    says.push_str(match (changed, args.dry_run) {
        (false, _) => "Left out already. Nothing was changed.\n",
        (true, true) => "Nothing was changed.\n",
        (true, false) if changes.is_empty() => "",
        (true, false) => "Left out of backups from now on; snapshots keep it until they expire.\n",
    });
    cx.ui.report(&says)?;
    Ok(exit::OK)
}

/// Returns the configuration with the patterns added, and the paths that are in no source: those
/// are noted instead, so that `bdr status` does not ask about them any more.
fn with_excluded(
    cx: &Context,
    walks: &mut Walks,
    args: &ExcludeArgs,
    before: &Config,
) -> Result<(String, Vec<PathBuf>), Failure> {
    let mut new = text(cx)?;
    let mut chosen = Vec::new();
    for typed in &args.patterns {
        match excluded(cx, walks, before, typed, args.source.as_deref())? {
            Excluded::Patterns(found) => {
                for (name, pattern) in found {
                    new = edit::append(&new, &["source", &name, "exclude"], &[pattern])?;
                }
            }
            Excluded::InNoSource(path) => {
                if !chosen.contains(&path) {
                    chosen.push(path);
                }
                let known = before.not_covered.iter();
                let new_ones = chosen
                    .iter()
                    .filter(|one| !before.not_covered.contains(one));
                let all: Result<Vec<String>, _> = known
                    .chain(new_ones)
                    .map(|one| path_text(one, cx.home.as_deref()))
                    .collect();
                new = edit::set(&new, &["not_covered"], &all?)?;
            }
        }
    }
    Ok((new, chosen))
}

/// A source whose rules change, measured with both: people see what a pattern costs before they
/// rely on a backup that no longer has it.
struct Excluding {
    old: Measured,
    new: Measured,
}

fn effects_of(
    cx: &Context,
    walks: &mut Walks,
    before: &Config,
    after: &Config,
) -> Result<Vec<Excluding>, Failure> {
    let mut changes = Vec::new();
    for source in &after.sources {
        let old = before.source(&source.name)?;
        if old.rules != source.rules {
            changes.push(Excluding {
                old: walks.of(cx, old)?,
                new: walks.of(cx, source)?,
            });
        }
    }
    Ok(changes)
}

impl Excluding {
    /// Returns how many files and bytes are no longer backed up.
    fn gone(&self) -> (u64, u64) {
        (
            self.old.files.saturating_sub(self.new.files),
            self.old.bytes.saturating_sub(self.new.bytes),
        )
    }

    fn document(&self) -> ExcludedDocument {
        let (files, bytes) = self.gone();
        let source = &self.new.source;
        ExcludedDocument {
            source: source.name.clone(),
            exclude: source.rules.exclude.clone(),
            files,
            bytes,
        }
    }

    fn row(&self) -> Vec<String> {
        let says = match self.gone() {
            (0, _) => "matches nothing there yet".to_owned(),
            (files, bytes) => {
                let (files, bytes) = (plural(files, "file"), size(bytes));
                format!("{files}, {bytes} left out; {} stay", count(self.new.files))
            }
        };
        vec![self.new.source.name.clone(), says]
    }
}

/// What a word means to `bdr exclude`.
enum Excluded {
    /// The names of sources, each with its pattern.
    Patterns(Vec<(String, String)>),
    /// A place of HOME that is in no source and should stay so.
    InNoSource(PathBuf),
}

/// Returns what a word excludes.
fn excluded(
    cx: &Context,
    walks: &mut Walks,
    config: &Config,
    typed: &OsString,
    only: Option<&str>,
) -> Result<Excluded, Failure> {
    let text = typed.to_str().ok_or_else(|| {
        Failure::usage(
            format!("`{}` is not UTF-8", show(typed)),
            "use a pattern like `?` for such characters",
        )
    })?;
    let path = expanded(cx, typed);
    let is_in_home = cx
        .home
        .as_ref()
        .is_some_and(|home| path.starts_with(home) && path != *home);
    if is_place(config, text, &path) {
        let found = in_sources(cx, walks, config, &path, only)?;
        if !found.is_empty() {
            return Ok(Excluded::Patterns(found));
        }
        if is_in_home && only.is_none() && path.symlink_metadata().is_ok() {
            return Ok(Excluded::InNoSource(path));
        }
        return Err(Failure::usage(
            format!("no source has `{}`", show(path.as_os_str())),
            "nothing backs it up, so there is nothing to leave out",
        ));
    }
    let here = |source: &&Source| cx.cwd.starts_with(&source.path);
    let mut sources: Vec<&Source> = match only {
        Some(name) => vec![config.source(name)?],
        None => config.sources.iter().filter(here).collect(),
    };
    if sources.is_empty() {
        sources = config.sources.iter().collect();
    }
    let all: Vec<_> = sources
        .into_iter()
        .map(|source| (source.name.clone(), text.to_owned()))
        .collect();
    let found = those_with_it(cx, walks, config, all.clone())?;
    let exists = path.symlink_metadata().is_ok_and(|seen| seen.is_dir());
    if found.is_empty() && exists && is_in_home && only.is_none() {
        return Ok(Excluded::InNoSource(path));
    }
    // It may match later, so add it to all of these.
    Ok(Excluded::Patterns(match found.is_empty() {
        true => all,
        false => found,
    }))
}

/// Returns true if a word names a place, and is no pattern: it exists, or it can only be a place. What
/// begins with a slash is one if a source could have it.
fn is_place(config: &Config, text: &str, path: &Path) -> bool {
    let is_separator = |c| c == '/' || c == std::path::MAIN_SEPARATOR;
    if !text.contains(is_separator) && text != "." {
        return false;
    }
    let first = text.split(is_separator).next().unwrap_or_default();
    let is_below = |source: &Source| RepoPath::below(&source.path, path).is_some();
    path.symlink_metadata().is_ok()
        || matches!(first, "~" | "." | "..")
        || Path::new(text).is_absolute() && config.sources.iter().any(is_below)
}

/// Returns the sources that have a path, or will have it when it exists, each with its pattern.
fn in_sources(
    cx: &Context,
    walks: &mut Walks,
    config: &Config,
    path: &Path,
    only: Option<&str>,
) -> Result<Vec<(String, String)>, Failure> {
    let exists = path.symlink_metadata().is_ok();
    let (mut all, mut covering) = (Vec::new(), Vec::new());
    let is_meant = |source: &&Source| only.is_none_or(|name| source.name == name);
    for source in config.sources.iter().filter(is_meant) {
        let Some(rest) = RepoPath::below(&source.path, path) else {
            continue;
        };
        if rest.is_root() {
            return Err(Failure::usage(
                format!("this is all of source `{}`", source.name),
                &format!("bdr remove {}", source.name),
            ));
        }
        let below = rest.to_path(Path::new(""));
        let text = below
            .to_str()
            .filter(|text| !exists && text.contains(['*', '?', '[']));
        let pattern = text.map_or_else(|| pattern_of(below.as_os_str()), str::to_owned);
        let one = (
            source.name.clone(),
            format!("/{}", pattern.trim_start_matches('/')),
        );
        if Matcher::new(&source.rules)?.covers(&rest) {
            covering.push(one.clone());
        }
        all.push(one);
    }
    let found = those_with_it(cx, walks, config, all)?;
    // Nothing is there yet.
    Ok(if found.is_empty() { covering } else { found })
}

/// Keeps the sources in which a pattern leaves something out: several are in HOME, and most of them
/// never had the file.
fn those_with_it(
    cx: &Context,
    walks: &mut Walks,
    config: &Config,
    candidates: Vec<(String, String)>,
) -> Result<Vec<(String, String)>, Failure> {
    let mut found = Vec::new();
    for (name, pattern) in candidates {
        let old = config.source(&name)?;
        let mut new = old.clone();
        new.rules.exclude.push(pattern.clone());
        let known = old.rules.exclude.contains(&pattern);
        // An invalid pattern is refused with the whole configuration.
        if known
            || Matcher::new(&new.rules).is_err()
            || walks.of(cx, old)?.files > walks.of(cx, &new)?.files
        {
            found.push((name, pattern));
        }
    }
    Ok(found)
}
