//! `bdr dashboard`: how things stand, as one HTML file that needs nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use bdr::disk::fsutil;
use clap::Args;
use serde_json::json;

use super::context::Context;
use super::error::Failure;
use super::status::look;
use super::{exit, status};
use crate::ui;

mod days;
mod growth;
mod page;
mod style;

/// Write how things stand into one HTML file
///
/// The file needs no network, no server and no script, and is made anew after each scheduled run. It names sources and guarded commands; paths
/// only with --show-paths.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr dashboard --open
  bdr dashboard --output status.html
  bdr dashboard --output - | ssh host 'cat > status.html'")]
pub(crate) struct DashboardArgs {
    /// Show it in the browser
    #[arg(long)]
    open: bool,
    /// Write to this file, `-` for standard output, instead of the state directory
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Name paths as well
    #[arg(long)]
    show_paths: bool,
}

pub(crate) fn run(cx: &Context, args: &DashboardArgs) -> Result<u8, Failure> {
    let seen = look(cx, None, true)?;
    let html = page::render(cx, &seen, args.show_paths);
    if args.output.as_deref() == Some(Path::new("-")) {
        cx.ui.data(&html)?;
        return Ok(exit::OK);
    }
    let file = match &args.output {
        Some(file) => bdr::base::path::absolute(&cx.cwd, file),
        None => default_file(cx),
    };
    write(&file, &html, args.output.is_none())?;
    if cx.ui.json {
        let level = json!({"level": seen.status.level.word()});
        cx.ui
            .document("dashboard", exit::OK, &ui::json::with_path(&file, level))?;
    } else {
        cx.ui
            .report(&format!("{}\n", status::words::sentence(&seen.status)))?;
        cx.ui
            .report(&format!("Dashboard: {}\n", cx.shown_absolute(&file)))?;
    }
    if args.open && !open(&file) {
        let message = format!(
            "no browser could be started for {}",
            cx.shown_absolute(&file)
        );
        return Err(Failure::usage(message, "open the file yourself"));
    }
    Ok(exit::OK)
}

/// Makes the file anew after a run. Nobody waits for it, so not being able to is no failure.
pub(crate) fn renew(cx: &Context) {
    if let Ok(seen) = look(cx, None, true) {
        let _ = write(&default_file(cx), &page::render(cx, &seen, false), true);
    }
}

/// Returns where the file is that is made anew after each run.
pub(crate) fn default_file(cx: &Context) -> PathBuf {
    cx.places.state.join("dashboard.html")
}

fn write(file: &Path, html: &str, own: bool) -> Result<(), Failure> {
    if own && let Some(dir) = file.parent() {
        fsutil::create_dir_private(dir)?;
    }
    const HINT: &str = "bdr dashboard --output FILE, in a directory that can be written";
    let written = fsutil::write_atomic(file, html.as_bytes(), 0o600);
    written.map_err(|error| Failure::from(error).hinted(|_| Some(HINT.to_owned())))
}

fn open(file: &Path) -> bool {
    let programs: &[&[&str]] = if cfg!(target_os = "macos") {
        &[&["open"]]
    } else if cfg!(windows) {
        // `start` would take a title first, and the shell would look into the name.
        &[&["rundll32.exe", "url.dll,FileProtocolHandler"]]
    } else {
        &[&["xdg-open"], &["gio", "open"], &["wslview"]]
    };
    programs.iter().any(|words| {
        let mut command = Process::new(words[0]);
        command
            .args(&words[1..])
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}
