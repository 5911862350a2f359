//! `bdr schedule`.

use std::path::PathBuf;

use bdr::base::path::show_bytes;
use bdr::care::runs::Memory;
use bdr::care::status::{Scheduler, Trouble, scheduler_troubles};
use bdr::install::schedule::{self, Backend, Entry, Surroundings};
use bdr::model::schedule::{Job, Schedule, day_word, every_word, parse_day, parse_every};
use chrono::Local;
use clap::{Args, Subcommand};

use crate::app::context::Context;
use crate::app::documents::{
    ScheduleDocument, ScheduleFile, SchedulePrintDocument, ScheduleRemovedDocument,
    ScheduleStatusDocument,
};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::schedule::{
    self as scheduling, Wanted, chosen, clock, entry, installed_words, lingers, scheduler,
    surroundings,
};
use crate::app::status::words;
use crate::app::tick;
use crate::ui::prompt::NeverAsks;
use crate::ui::{self, when};

/// Run backups automatically
///
/// `install` writes [schedule] to the configuration and registers an hourly wake-up with the system's scheduler. bdr then runs
/// whatever is due, so a backup missed overnight runs in the morning. `status` shows whether that works. Without a scheduler,
/// guards and hooks start a backup that is due.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr schedule install
  bdr schedule install --at 12:30 --full friday
  bdr schedule install --every 2h
  bdr schedule print --backend cron
  bdr schedule status
  bdr schedule uninstall")]
pub(crate) struct ScheduleArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Register with the system's scheduler
    Install(InstallArgs),
    /// Remove the entry, and [schedule] from the configuration
    Uninstall(UninstallArgs),
    /// Show whether it works
    Status,
    /// Print what would be registered; change nothing
    Print(BackendArg),
}

#[derive(Debug, Args)]
struct InstallArgs {
    /// Time of the daily backup, and of the weekly ones
    #[arg(long, value_name = "HH:MM", value_parser = clock)]
    at: Option<String>,
    /// Hours from one backup to the next, 1h to 12h, counted from --at; or daily
    #[arg(long, value_name = "HOURS", value_parser = every)]
    every: Option<String>,
    /// Day of the weekly full backup, or never
    #[arg(long, value_name = "DAY", value_parser = day)]
    full: Option<String>,
    /// Day of the weekly restore drill, or never
    #[arg(long, value_name = "DAY", value_parser = day)]
    drill: Option<String>,
    #[command(flatten)]
    backend: BackendArg,
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    _never_asks: NeverAsks,
}

#[derive(Debug, Args)]
struct UninstallArgs {
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    _never_asks: NeverAsks,
}

#[derive(Debug, Args)]
struct BackendArg {
    /// Which scheduler: auto, systemd, launchd, cron, schtasks
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = ["auto", "systemd", "launchd", "cron", "schtasks"], hide_possible_values = true)]
    backend: String,
}

fn day(text: &str) -> Result<String, String> {
    parse_day(text).map(|day| day_word(day).to_owned())
}

fn every(text: &str) -> Result<String, String> {
    parse_every(text).map(every_word)
}

pub(crate) fn run(cx: &Context, args: &ScheduleArgs) -> Result<u8, Failure> {
    match &args.what {
        What::Install(args) => install(cx, args),
        What::Uninstall(args) => uninstall(cx, args),
        What::Status => status(cx),
        What::Print(backend) => print(cx, backend),
    }
}

fn install(cx: &Context, args: &InstallArgs) -> Result<u8, Failure> {
    let around = surroundings(cx);
    let wanted = Wanted {
        at: args.at.clone(),
        every: args.every.clone(),
        full: args.full.clone(),
        drill: args.drill.clone(),
    };
    let backend = args.backend.backend.as_str();
    if args.dry_run {
        let text = scheduling::configured(cx, &wanted)?;
        let backend = chosen(backend, &around)?;
        return shown(cx, backend, &entry(cx)?, &around, Some(&text));
    }
    let (schedule, chosen) = scheduling::install(cx, &wanted, backend)?;
    if cx.ui.json {
        let next = tick::next(&schedule, &cx.journal().memory(), cx.now);
        let data = ScheduleDocument::new(chosen, &schedule, next);
        cx.ui.document("schedule", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    cx.ui
        .report(&format!("{}\n", installed_words(cx, &schedule, chosen)))?;
    if chosen == Backend::Systemd && lingers(&around) == Some(false) {
        cx.ui
            .say("It stops when you log out. To keep it running: loginctl enable-linger");
    }
    Ok(exit::OK)
}

fn uninstall(cx: &Context, args: &UninstallArgs) -> Result<u8, Failure> {
    let removed = scheduling::remove(cx, args.dry_run)?;
    if let Some((backend, error)) = &removed.refusal {
        cx.ui
            .warn(&format!("bdr: could not read {backend}: {error}"));
    }
    let (gone, configured) = (removed.gone, removed.configured);
    if cx.ui.json {
        let data = ScheduleRemovedDocument {
            removed: gone,
            configuration_changed: configured,
            dry_run: args.dry_run,
        };
        cx.ui.document("schedule", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let text = match (gone.is_empty(), configured, args.dry_run) {
        (true, false, _) => "Nothing was installed.".to_owned(),
        (true, true, false) => "Backups no longer run automatically.".to_owned(),
        (false, _, false) => format!(
            "Removed from {}. Backups no longer run automatically.",
            gone.join(", ")
        ),
        (_, _, true) => format!(
            "Would remove [schedule] and the entry of {}. Nothing was changed.",
            if gone.is_empty() {
                "no scheduler".to_owned()
            } else {
                gone.join(", ")
            }
        ),
    };
    cx.ui.report(&format!("{text}\n"))?;
    Ok(exit::OK)
}

fn print(cx: &Context, arg: &BackendArg) -> Result<u8, Failure> {
    let around = surroundings(cx);
    let backend = chosen(&arg.backend, &around)?;
    shown(cx, backend, &entry(cx)?, &around, None)
}

fn shown(
    cx: &Context,
    backend: Backend,
    entry: &Entry,
    around: &Surroundings,
    config: Option<&str>,
) -> Result<u8, Failure> {
    let files = schedule::files(backend, entry, around)?;
    let readable = |bytes: &[u8]| match bytes.strip_prefix(&[0xff, 0xfe]) {
        Some(units) => {
            let units: Vec<u16> = units
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        }
        None => String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| show_bytes(bytes)),
    };
    if cx.ui.json {
        let files = files.iter();
        let file = |(path, bytes): &(PathBuf, Vec<u8>)| ScheduleFile::new(path, readable(bytes));
        let data = SchedulePrintDocument {
            backend: backend.word(),
            files: files.map(file).collect(),
            configuration: config,
        };
        cx.ui.document("schedule", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let mut text = String::new();
    if let Some(config) = config {
        text.push_str(&format!(
            "# {}\n{config}\n",
            cx.shown_absolute(&cx.places.config)
        ));
    }
    for (path, bytes) in &files {
        let place = match backend {
            Backend::Cron => "crontab".to_owned(),
            _ => cx.shown_absolute(path),
        };
        text.push_str(&format!("# {place}\n{}\n", readable(bytes)));
    }
    cx.ui.data(&text)?;
    Ok(exit::OK)
}

fn status(cx: &Context) -> Result<u8, Failure> {
    let Some(schedule) = &cx.config.schedule else {
        return not_configured(cx);
    };
    let scheduler = scheduler(cx, true);
    let memory = cx.journal().seen();
    let trouble = scheduler_troubles(&cx.config, &memory, &scheduler, cx.now);
    let troubles: Vec<Trouble> = trouble.into_iter().collect();
    // A schedule that stops at logout works until then: scripts that check the exit code want to
    // know whether backups run now.
    let code = match troubles.iter().any(|t| !matches!(t, Trouble::NotLingering)) {
        true => exit::FAILURE,
        false => exit::OK,
    };
    if cx.ui.json {
        let data = ScheduleStatusDocument::new(schedule, &scheduler, &memory, &troubles, cx.now);
        cx.ui.document("schedule", code, &data)?;
        return Ok(code);
    }
    let rows = status_rows(cx, schedule, &scheduler, &memory);
    let mut text = ui::table::table(&rows, "ll").join("\n");
    text.push('\n');
    for trouble in &troubles {
        let says = words::trouble(trouble, cx.now);
        text.push_str(&format!(
            "{} {says}\n  fix: {}\n",
            cx.ui.out.yellow("!"),
            trouble.fix()
        ));
    }
    cx.ui.data(&text)?;
    Ok(code)
}

/// Says that nothing runs by itself, and fails: otherwise a script that asks whether backups run
/// would take this for a yes.
fn not_configured(cx: &Context) -> Result<u8, Failure> {
    if cx.ui.json {
        let data = ScheduleStatusDocument::not_configured();
        cx.ui.document("schedule", exit::FAILURE, &data)?;
    } else {
        cx.ui.report(
            "Backups run only when you start them. To run them automatically: bdr schedule install\n",
        )?;
    }
    Ok(exit::FAILURE)
}

/// Returns the table of `status`: who wakes bdr, what it did last, and what it does next.
fn status_rows(
    cx: &Context,
    schedule: &Schedule,
    scheduler: &Scheduler,
    memory: &Memory,
) -> Vec<Vec<String>> {
    let backend = scheduler.backend.as_deref();
    let woke = memory.tick.as_ref().map_or_else(
        || "never".to_owned(),
        |tick| format!("{} (by {})", when::ago(cx.now, tick.time), tick.by),
    );
    let succeeded = memory.pasts.backup.success;
    let last = succeeded.map_or_else(|| "never".to_owned(), |time| when::ago(cx.now, time));
    let mut rows = vec![
        [
            "scheduler",
            backend.map_or("not installed", words::backend_words),
        ]
        .map(str::to_owned),
        ["last woke".to_owned(), woke],
        ["last backup".to_owned(), last],
    ];
    if let Some(hours) = schedule.every {
        let often = match hours {
            1 => "every hour".to_owned(),
            hours => format!("every {hours} hours"),
        };
        rows.push(["backups".to_owned(), often]);
    }
    for (name, job) in [
        ("next backup", Job::Backup),
        ("next full", Job::Full),
        ("next drill", Job::Drill),
    ] {
        let next = schedule.next(job, &memory.pasts, cx.now, &Local);
        rows.extend(next.map(|time| [name.to_owned(), when::soon(cx.now, time)]));
    }
    if let Some(other) = &scheduler.starts_other {
        let other = format!("{}, not this bdr", cx.shown_absolute(other));
        rows.push(["starts".to_owned(), other]);
    }
    rows.into_iter().map(Vec::from).collect()
}
