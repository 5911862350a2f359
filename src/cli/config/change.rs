//! `bdr config set|unset|edit`: a text that is not a valid configuration is never written.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use bdr::care::runs::{Journal, Memory};
use bdr::model::config::edit as text_edit;

use super::check_patterns;
use super::say_unmatched;
use crate::app::config::check_text;
use crate::app::config::text;
use crate::app::config::write;
use crate::app::context::{Context, variable};
use crate::app::documents::ConfigChangeDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::guard::typed;
use crate::ui::prompt;

pub(super) fn set(
    cx: &Context,
    key: &str,
    values: &[String],
    dry_run: bool,
) -> Result<u8, Failure> {
    let parts = text_edit::parts(key)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let new = text_edit::set(&text(cx)?, &parts, values)?;
    if let ["source", _, "include" | "exclude" | "path"] = parts[..] {
        let config = check_text(cx, &new)?;
        check_patterns(cx, &config)?;
        if parts[2] == "include" {
            say_unmatched(cx, &config)?;
        }
    }
    let mut next = String::new();
    if parts == ["repository"] && !dry_run {
        let config = check_text(cx, &new)?;
        if let Some(command) = config.repository.and_then(|new| moves(cx, &new)) {
            next = format!(
                "It is used where it is until you move it: {command}\nOr, for a new one there: bdr init\n"
            );
        }
    }
    finish(cx, &new, dry_run, &format!("{key} is set"), &next)
}

/// Has what is known of the repository follow it to a new place. Returns the command that moves it, if
/// it is not there yet. If nothing can be noted, the history is lost, and nothing else fails.
fn moves(cx: &Context, new: &Path) -> Option<String> {
    let old = &cx.places.repository;
    if cx.journal().memory() != Memory::default() {
        let _ = cx.journal().update(|_| {});
    }
    let is_still_there = old != new && old.join("format.json").exists() && !new.exists();
    if !is_still_there {
        return None;
    }
    Journal::new(&cx.places.state, new).await_from(old).ok()?;
    let word = |path: &Path| typed(cx.shown_absolute(path), path);
    Some(format!("mv {} {}", word(old), word(new)))
}

pub(super) fn unset(cx: &Context, key: &str, dry_run: bool) -> Result<u8, Failure> {
    let parts = text_edit::parts(key)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let new = text_edit::remove(&text(cx)?, &parts)?;
    finish(cx, &new, dry_run, &format!("{key} is no longer set"), "")
}

fn finish(cx: &Context, new: &str, dry_run: bool, says: &str, next: &str) -> Result<u8, Failure> {
    check_text(cx, new)?;
    if !dry_run {
        write(cx, new)?;
    }
    if cx.ui.json {
        let data = ConfigChangeDocument {
            changed: !dry_run,
            text: dry_run.then(|| new.to_owned()),
        };
        cx.ui.document("config", exit::OK, &data)?;
    } else if dry_run {
        cx.ui.data(new)?;
    } else {
        cx.ui.report(&format!(
            "{says} in {}.\n{next}",
            cx.shown_absolute(&cx.places.config)
        ))?;
    }
    Ok(exit::OK)
}

/// Edits a copy, so that the configuration stays unchanged until the copy is valid.
pub(super) fn edit(cx: &Context) -> Result<u8, Failure> {
    let old = text(cx)?;
    let draft = draft(cx);
    if let Some(dir) = draft.parent() {
        bdr::disk::fsutil::create_dir_private(dir)?;
    }
    if !draft.exists() {
        bdr::disk::fsutil::write_atomic(&draft, old.as_bytes(), 0o600)?;
    }
    loop {
        run_editor(&draft)?;
        let new = std::fs::read_to_string(&draft).map_err(|e| bdr::Error::io("read", &draft, e))?;
        let checked = check_text(cx, &new);
        match checked.and_then(|config| check_patterns(cx, &config)) {
            Ok(_) if new == old => {
                remove(&draft)?;
                cx.ui.report("Nothing was changed.\n")?;
                return Ok(exit::OK);
            }
            Ok(_) => {
                write(cx, &new)?;
                remove(&draft)?;
                cx.ui.report(&format!(
                    "{} is changed.\n",
                    cx.shown_absolute(&cx.places.config)
                ))?;
                return Ok(exit::OK);
            }
            Err(failure) if cx.ui.can_ask => {
                cx.ui.warn(&failure.text(cx.ui.err));
                if !prompt::confirm("Edit again?", true)? {
                    return Err(kept(cx, failure));
                }
            }
            Err(failure) => return Err(kept(cx, failure)),
        }
    }
}

fn kept(cx: &Context, failure: Failure) -> Failure {
    let draft = cx.shown_absolute(&draft(cx));
    cx.ui.warn(&format!(
        "The configuration is unchanged. Your draft is in {draft}; continue with `bdr config edit`."
    ));
    failure
}

fn draft(cx: &Context) -> PathBuf {
    cx.places.config.with_extension("toml.draft.toml")
}

fn remove(path: &Path) -> Result<(), Failure> {
    Ok(bdr::disk::fsutil::remove_file(path).map_err(|e| bdr::Error::io("remove", path, e))?)
}

fn run_editor(file: &Path) -> Result<(), Failure> {
    let usual: OsString = if cfg!(windows) { "notepad" } else { "vi" }.into();
    let editor = variable("VISUAL")
        .or_else(|| variable("EDITOR"))
        .unwrap_or(usual);
    // It may have arguments, as in git.
    let status = if cfg!(windows) {
        Process::new("cmd")
            .arg("/c")
            .arg(&editor)
            .arg(file)
            .status()
    } else {
        let mut line = editor.clone();
        line.push(" \"$@\"");
        Process::new("sh")
            .arg("-c")
            .arg(line)
            .arg("sh")
            .arg(file)
            .status()
    };
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::usage(
            format!(
                "the editor `{}` exited with {status}: nothing was changed",
                editor.to_string_lossy()
            ),
            "set EDITOR to another editor, then: bdr config edit",
        )),
        Err(error) => Err(bdr::Error::tool(&editor.to_string_lossy(), &error.to_string()).into()),
    }
}
