//! `bdr dashboard`: the state of protection as one HTML file that needs nothing else.

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use clap::Args;

use crate::app::context::Context;
use crate::app::dashboard::{default_file, write};
use crate::app::documents::DashboardDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::status;
use crate::app::status::look;

/// Write the status to an HTML file
///
/// The file needs no network, server or scripts, and is rewritten after each scheduled run. It names sources and guarded
/// commands, but paths only with --show-paths.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr dashboard --open
  bdr dashboard --output status.html
  bdr dashboard --output - | ssh host 'cat > status.html'")]
pub(crate) struct DashboardArgs {
    /// Open it in the browser
    #[arg(long)]
    open: bool,
    /// Write to this file, `-` for standard output, instead of the state directory
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Include paths
    #[arg(long)]
    show_paths: bool,
}

pub(crate) fn run(cx: &Context, args: &DashboardArgs) -> Result<u8, Failure> {
    let seen = look(cx, None, true)?;
    let html = crate::app::dashboard::page::render(cx, &seen, args.show_paths);
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
        let data = DashboardDocument::new(&file, &seen);
        cx.ui.document("dashboard", exit::OK, &data)?;
    } else {
        cx.ui
            .report(&format!("{}\n", status::words::verdict(&seen).sentence))?;
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

fn open(file: &Path) -> bool {
    let programs: &[&[&str]] = if cfg!(target_os = "macos") {
        &[&["open"]]
    } else if cfg!(windows) {
        // `start` would take a title first, and the shell would interpret the name.
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
