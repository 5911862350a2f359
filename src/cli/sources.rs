//! `bdr add`, `bdr remove`, `bdr exclude`: change what is backed up, without an editor.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use bdr::base::path::{RepoPath, absolute, show};
use bdr::base::units::size;
use bdr::disk::fsutil::canonicalize;
use bdr::model::config::{Config, Source, edit, path_text};
use bdr::model::rules::{Matcher, Root, check_source_name};
use bdr::protect::walk::{Scan, WalkOptions, walk};
use clap::Args;

use crate::app::config::{check_text, text, write};
use crate::app::context::Context;
use crate::app::documents::{
    AddDocument, CoveredPath, MeasuredSource, NamedSource, RemoveDocument,
};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::remotes;
use crate::ui::prompt::NeverAsks;
use crate::ui::{count, plural};

mod exclude;

pub(crate) use exclude::{ExcludeArgs, exclude};

/// Back up more directories or files
///
/// Shows how much each one is and adds it to the configuration. The next backup has it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr add ~/notes
  bdr add ~/code ~/letters --dry-run     show what that would add
  bdr add ~/work/plan.md --as plan")]
pub(crate) struct AddArgs {
    /// Directory or file
    #[arg(value_name = "PATH", required = true, value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<OsString>,
    /// Name of the source (only with one path) [default: the name of the directory]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Print what would be added; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    _never_asks: NeverAsks,
}

/// Stop backing up a source
///
/// Snapshots that have it keep it until they expire. The configuration as it was is kept beside the new one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr remove notes
  bdr remove ~/notes --dry-run")]
pub(crate) struct RemoveArgs {
    /// Name of a source (from `bdr status`), or its path
    #[arg(value_name = "SOURCE", required = true)]
    sources: Vec<OsString>,
    /// Print what would be removed; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    _never_asks: NeverAsks,
}

/// What a walk by the rules of a source found.
#[derive(Clone)]
struct Measured {
    source: Source,
    files: u64,
    bytes: u64,
    left_out: usize,
}

pub(crate) fn add(cx: &Context, args: &AddArgs) -> Result<u8, Failure> {
    if args.name.is_some() && args.paths.len() > 1 {
        return Err(Failure::usage(
            "--as names one source, and there are several paths",
            "add them one by one",
        ));
    }
    let mut new = text(cx)?;
    let mut config = check_text(cx, &new)?;
    let mut added = Vec::new();
    let mut covered = Vec::new();
    let mut left_out = Vec::new();
    for typed in &args.paths {
        let path = existing(cx, typed)?;
        if let Some(source) = covering(&config.sources, &path)? {
            covered.push((path, source.name.clone()));
            continue;
        }
        let name = match &args.name {
            Some(name) => unused(&config, name)?,
            None => free_name(&config.sources, &path),
        };
        let value = path_text(&path, cx.home.as_deref())?;
        new = edit::set(&new, &["source", &name, "path"], &[value])?;
        new = without_choice(cx, &config, new, &path)?;
        config = check_text(cx, &new)?;
        let kept_out = remotes::kept_out(cx, config.source(&name)?)?;
        if !kept_out.is_empty() {
            new = edit::append(&new, &["source", &name, "exclude"], &kept_out)?;
            config = check_text(cx, &new)?;
            let kept_out = kept_out
                .iter()
                .map(|pattern| (name.clone(), pattern.clone()));
            left_out.extend(kept_out);
        }
        added.push(measured(cx, config.source(&name)?)?);
    }
    if !args.dry_run && !added.is_empty() {
        write(cx, &new)?;
    }
    if cx.ui.json {
        let covered = covered.iter();
        let data = AddDocument {
            added: added.iter().map(described).collect(),
            covered: covered
                .map(|(path, name)| CoveredPath::new(path, name))
                .collect(),
            changed: !args.dry_run && !added.is_empty(),
        };
        cx.ui.document("add", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let mut says = String::new();
    for (path, name) in &covered {
        let path = cx.shown_absolute(path);
        says.push_str(&format!("{path} is in source `{name}` already.\n"));
    }
    let width = added
        .iter()
        .map(|one| one.source.name.len())
        .max()
        .unwrap_or(0);
    for one in &added {
        says.push_str(&line(cx, one, width));
    }
    says.push_str(&kept_out(&left_out));
    if !added.is_empty() {
        let config = cx.shown_absolute(&cx.places.config);
        says.push_str(&match args.dry_run {
            true => "Nothing was changed.\n".to_owned(),
            false => format!("Added to {config}. Next: bdr backup\n"),
        });
    }
    cx.ui.report(&says)?;
    Ok(exit::OK)
}

/// Says what new sources leave out by themselves.
fn kept_out(left_out: &[(String, String)]) -> String {
    let line = |(name, pattern): &(String, String)| {
        let pattern = show(pattern.as_ref());
        format!("`{name}` leaves out {pattern}: that is where backups are pushed to.\n")
    };
    left_out.iter().map(line).collect()
}

pub(crate) fn remove(cx: &Context, args: &RemoveArgs) -> Result<u8, Failure> {
    let mut new = text(cx)?;
    let config = check_text(cx, &new)?;
    let mut removed: Vec<&Source> = Vec::new();
    for typed in &args.sources {
        let source = named(cx, &config, typed)?;
        if !removed.iter().any(|known| known.name == source.name) {
            new = edit::remove(&new, &["source", &source.name])?;
            removed.push(source);
        }
    }
    check_text(cx, &new)?;
    if !args.dry_run {
        write(cx, &new)?;
    }
    if cx.ui.json {
        let removed = removed.iter();
        let data = RemoveDocument {
            removed: removed
                .map(|source| NamedSource::new(&source.name, &source.path))
                .collect(),
            changed: !args.dry_run,
        };
        cx.ui.document("remove", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let mut says = String::new();
    for source in &removed {
        let path = cx.shown_absolute(&source.path);
        says.push_str(&format!("  {}  {path}\n", source.name));
    }
    says.push_str(&match args.dry_run {
        true => "Would no longer be backed up. Nothing was changed.\n".to_owned(),
        false => format!(
            "No longer backed up; snapshots keep it until they expire. The configuration before: {}\n",
            cx.shown_absolute(&cx.places.config.with_extension("toml.old"))
        ),
    });
    cx.ui.report(&says)?;
    Ok(exit::OK)
}

/// Returns the absolute path of a typed one; shells do not expand `~` in `NAME=~/x` or in quotes.
pub(super) fn expanded(cx: &Context, typed: &OsStr) -> PathBuf {
    match (Path::new(typed).strip_prefix("~"), &cx.home) {
        (Ok(rest), Some(home)) => absolute(&cx.cwd, &home.join(rest)),
        _ => absolute(&cx.cwd, Path::new(typed)),
    }
}

fn existing(cx: &Context, typed: &OsString) -> Result<PathBuf, Failure> {
    let path = expanded(cx, typed);
    if path.symlink_metadata().is_err() {
        return Err(Failure::usage(
            format!("there is no `{}`", show(path.as_os_str())),
            "check the path",
        ));
    }
    if cx.places.own().iter().any(|own| path.starts_with(own)) {
        return Err(Failure::usage(
            format!("`{}` belongs to bdr itself", show(path.as_os_str())),
            "choose another directory",
        ));
    }
    Ok(path)
}

/// Returns the source that has all of a path already, by its rules too.
pub(super) fn covering<'c>(
    sources: &'c [Source],
    path: &Path,
) -> Result<Option<&'c Source>, Failure> {
    let real = canonicalize(path).unwrap_or_else(|_| path.to_owned());
    for source in sources {
        let root = canonicalize(&source.path).unwrap_or_else(|_| source.path.clone());
        let Some(below) = RepoPath::below(&root, &real) else {
            continue;
        };
        if Matcher::new(&source.rules)?.covers(&below) {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

fn unused(config: &Config, name: &str) -> Result<String, Failure> {
    check_source_name(name)?;
    match config.sources.iter().find(|source| source.name == name) {
        None => Ok(name.to_owned()),
        Some(source) => Err(Failure::usage(
            format!(
                "there is a source `{name}` already: {}",
                source.path.display()
            ),
            "choose another name with --as",
        )),
    }
}

/// Returns an unused source name, after the directory.
pub(super) fn free_name(sources: &[Source], path: &Path) -> String {
    let base = path
        .file_name()
        .map(|name| name.to_string_lossy().to_lowercase());
    let mut base: String = base
        .unwrap_or_default()
        .trim_start_matches('.')
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') => c,
            _ => '-',
        })
        .collect();
    if check_source_name(&base).is_err() {
        "files".clone_into(&mut base);
    }
    free_name_of(sources, &base)
}

/// Returns an unused source name.
pub(super) fn free_name_of(sources: &[Source], base: &str) -> String {
    let taken = |name: &str| sources.iter().any(|source| source.name == name);
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    std::iter::once(base.to_owned())
        .chain(numbered)
        .find(|name| !taken(name))
        .unwrap_or_default()
}

/// Returns the source that was meant, by its name or by its path.
fn named<'c>(cx: &Context, config: &'c Config, typed: &OsString) -> Result<&'c Source, Failure> {
    let path = expanded(cx, typed);
    let found = config
        .sources
        .iter()
        .find(|source| Some(source.name.as_str()) == typed.to_str())
        .or_else(|| config.sources.iter().find(|source| source.path == path));
    found.ok_or_else(|| {
        let shown = show(typed);
        let names: Vec<&str> = config.sources.iter().map(|s| s.name.as_str()).collect();
        let hint = match path.symlink_metadata() {
            // `bdr rm FILE`: the user takes it for a guarded `rm`, or wants to exclude part of a
            // source.
            Ok(_) => format!(
                "to leave it out of backups: bdr exclude {shown}; to delete it so that it can be undone: bdr guard -- rm {shown}"
            ),
            Err(_) => format!("the sources are {}", names.join(", ")),
        };
        Failure::usage(format!("there is no source `{shown}`"), &hint)
    })
}

/// Returns the text without the note that a place, or one inside it, is excluded on purpose: now it
/// is in a source.
fn without_choice(
    cx: &Context,
    config: &Config,
    text: String,
    path: &Path,
) -> Result<String, Failure> {
    let is_other = |chosen: &&PathBuf| !chosen.starts_with(path) && !path.starts_with(chosen);
    let others: Vec<&PathBuf> = config.not_covered.iter().filter(is_other).collect();
    if others.len() == config.not_covered.len() {
        return Ok(text);
    }
    let home = cx.home.as_deref();
    let others: Result<Vec<String>, _> = others.iter().map(|p| path_text(p, home)).collect();
    Ok(match &others?[..] {
        [] => edit::remove(&text, &["not_covered"])?,
        others => edit::set(&text, &["not_covered"], others)?,
    })
}

/// Walks a source by its rules, without reading content.
fn measured(cx: &Context, source: &Source) -> Result<Measured, Failure> {
    let never = cx.places.own();
    let root: Root = source.root();
    let options = WalkOptions {
        never: &never,
        max_files: None,
        keep_known: false,
    };
    let scan: Scan = walk(&root, None, &options)?;
    Ok(Measured {
        source: source.clone(),
        files: scan.files,
        bytes: scan.bytes,
        left_out: scan.left_out.len(),
    })
}

fn described(one: &Measured) -> MeasuredSource {
    MeasuredSource {
        name: one.source.name.clone(),
        path: show(one.source.path.as_os_str()),
        files: one.files,
        bytes: one.bytes,
        left_out: one.left_out,
    }
}

fn line(cx: &Context, one: &Measured, width: usize) -> String {
    let left_out = match one.left_out {
        0 => String::new(),
        n => format!(
            "   {} left out: can be rebuilt, or bdr's own",
            count(n as u64)
        ),
    };
    format!(
        "  {:<width$}  {}   {}, {}{left_out}\n",
        one.source.name,
        cx.shown_absolute(&one.source.path),
        plural(one.files, "file"),
        size(one.bytes)
    )
}

#[cfg(test)]
mod tests {
    use bdr::model::rules::Rules;

    use super::*;

    #[test]
    fn a_source_is_named_after_its_directory_and_never_twice() {
        let source = |name: &str| Source {
            name: name.to_owned(),
            path: PathBuf::from("/x"),
            rules: Rules::default(),
            criticality: bdr::model::config::Criticality::default(),
        };
        let sources = [source("notes"), source("notes-2")];
        for (path, name) in [
            ("/home/u/notes", "notes-3"),
            ("/home/u/My Letters", "my-letters"),
            ("/home/u/.ssh", "ssh"),
            ("/", "files"),
            ("/home/u/日本", "files"),
        ] {
            assert_eq!(free_name(&sources, Path::new(path)), name);
        }
    }
}
