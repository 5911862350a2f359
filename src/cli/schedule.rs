//! `bdr schedule`.

use std::path::PathBuf;

use bdr::Error;
use bdr::base::path::{show, show_bytes};
use bdr::care::status::{Scheduler, Trouble};
use bdr::disk::fsutil::canonicalize;
use bdr::install::schedule::{self, Backend, Entry, Installed, Surroundings};
use bdr::model::config::{Config, edit};
use bdr::model::schedule::{Job, Schedule, day_word, parse_clock, parse_day};
use chrono::Local;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::{Context, variable};
use super::error::Failure;
use super::status::words;
use super::{config, exit, tick};
use crate::ui::{self, when};

/// Have backups run by themselves
///
/// `install` writes [schedule] into the configuration and has the system's scheduler wake bdr up every hour; what is due then, bdr decides, so
/// that a night asleep is made up for. `status` says whether that works. Without any scheduler, guards and hooks start a backup that is due.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr schedule install
  bdr schedule install --at 12:30 --full friday
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
    /// Take the entry out, and [schedule] of the configuration
    Uninstall(UninstallArgs),
    /// Say whether it works
    Status,
    /// Print what would be registered; change nothing
    Print(BackendArg),
}

#[derive(Debug, Args)]
struct InstallArgs {
    /// Time of the daily backup
    #[arg(long, value_name = "HH:MM", value_parser = clock)]
    at: Option<String>,
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
}

#[derive(Debug, Args)]
struct UninstallArgs {
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct BackendArg {
    /// Which scheduler: auto, systemd, launchd, cron, schtasks
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = ["auto", "systemd", "launchd", "cron", "schtasks"], hide_possible_values = true)]
    backend: String,
}

/// Returns a time of day as the configuration has it.
pub(crate) fn clock(text: &str) -> Result<String, String> {
    parse_clock(text).map(|time| time.format("%H:%M").to_string())
}

fn day(text: &str) -> Result<String, String> {
    parse_day(text).map(|day| day_word(day).to_owned())
}

pub(crate) fn run(cx: &Context, args: &ScheduleArgs) -> Result<u8, Failure> {
    match &args.what {
        What::Install(args) => install(cx, args),
        What::Uninstall(args) => uninstall(cx, args),
        What::Status => status(cx),
        What::Print(backend) => print(cx, backend),
    }
}

/// Variables that decide where bdr's things are, and that a scheduler does not hand on.
const PLACES: [&str; 7] = [
    "BDR_HOME",
    "BDR_CONFIG",
    "BDR_LIFEBOAT",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
];

fn entry(cx: &Context) -> Result<Entry, Failure> {
    let program = super::context::own_program().ok_or_else(|| {
        Failure::usage(
            "bdr cannot tell where its own program is",
            "start it by its full path",
        )
    })?;
    let home = cx.home.clone().unwrap_or_else(|| cx.cwd.clone());
    let absolute = |(name, value): (&str, std::ffi::OsString)| {
        let value = match name.starts_with("BDR_") {
            true => bdr::base::path::absolute(&cx.cwd, value.as_ref()).into_os_string(),
            false => value,
        };
        (name.to_owned(), value)
    };
    let environment = PLACES
        .iter()
        .filter_map(|name| Some((*name, variable(name)?)));
    let configured = cx
        .config
        .repository
        .as_ref()
        .unwrap_or(&cx.places.default_repository);
    let mut args = Vec::new();
    if *configured != cx.places.repository {
        args.push("--repository".into());
        args.push(cx.places.repository.clone().into_os_string());
    }
    Ok(Entry {
        program,
        args,
        environment: environment.map(absolute).collect(),
        minute: Entry::minute_for(&cx.host, &home),
    })
}

fn surroundings(cx: &Context) -> Surroundings {
    let home = cx.home.clone().unwrap_or_else(|| cx.cwd.clone());
    let domain = variable("USERDOMAIN").map(|domain| format!("{}\\", domain.to_string_lossy()));
    let user = variable("USERNAME")
        .or_else(|| variable("USER"))
        .or_else(|| variable("LOGNAME"));
    let name = user
        .map(|user| user.to_string_lossy().into_owned())
        .unwrap_or_default();
    Surroundings {
        config_home: variable("XDG_CONFIG_HOME")
            .map_or_else(|| home.join(".config"), PathBuf::from),
        state: cx.places.state.clone(),
        path: variable("PATH")
            .map(|path| std::env::split_paths(&path).collect())
            .unwrap_or_default(),
        user: match cfg!(windows) {
            true => domain.unwrap_or_default() + &name,
            false => name,
        },
        user_number: user_number(),
        home,
    }
}

#[cfg(unix)]
fn user_number() -> u32 {
    bdr::disk::fsutil::user_number()
}

#[cfg(not(unix))]
fn user_number() -> u32 {
    0
}

fn backend(arg: &BackendArg, around: &Surroundings) -> Result<Backend, Failure> {
    match Backend::parse(&arg.backend) {
        Some(backend) => Ok(backend),
        None => Ok(schedule::choose(around)?),
    }
}

/// Schedulers that can have an entry here; asking for one that cannot be there would start a program for nothing.
fn possible() -> &'static [Backend] {
    match (cfg!(windows), cfg!(target_os = "macos")) {
        (true, _) => &[Backend::Schtasks],
        (_, true) => &[Backend::Launchd, Backend::Cron],
        _ => &[Backend::Systemd, Backend::Cron],
    }
}

/// Returns what is installed. Asking the tool of cron or Windows takes a process: `bdr status` does so only where they were chosen.
fn find(around: &Surroundings, remembered: Option<&str>, thorough: bool) -> Option<Installed> {
    let asks = |backend: &Backend| matches!(backend, Backend::Cron | Backend::Schtasks);
    let looked_at =
        |backend: &&Backend| thorough || !asks(backend) || remembered == Some(backend.word());
    let mut backends = possible().iter().filter(looked_at);
    backends.find_map(|backend| schedule::installed(*backend, around).ok().flatten())
}

/// Returns what wakes bdr up, as `bdr status` needs it.
pub(crate) fn scheduler(cx: &Context, thorough: bool) -> Scheduler {
    // Without a schedule nobody asks.
    if cx.config.schedule.is_none() {
        return Scheduler::default();
    }
    let around = surroundings(cx);
    let remembered = cx.journal().memory().backend;
    let Some(installed) = find(&around, remembered.as_deref(), thorough) else {
        return Scheduler::default();
    };
    let own = std::env::current_exe()
        .ok()
        .and_then(|own| canonicalize(&own).ok());
    let theirs = installed
        .program
        .filter(|program| canonicalize(program).ok() != own);
    Scheduler {
        backend: Some(installed.backend.word().to_owned()),
        starts_other: theirs,
        lingers: (installed.backend == Backend::Systemd)
            .then(|| lingers(&around))
            .flatten(),
    }
}

/// Whether the user's systemd goes on after logout (loginctl(1)); `None` where that cannot be told.
fn lingers(around: &Surroundings) -> Option<bool> {
    let marks = std::path::Path::new("/var/lib/systemd/linger");
    // Where logind never ran there is no such question.
    let logind = marks.parent().is_some_and(std::path::Path::is_dir) && !around.user.is_empty();
    logind.then(|| marks.join(&around.user).exists())
}

/// Returns the configuration with the schedule that was asked for.
fn with_schedule(cx: &Context, args: &InstallArgs) -> Result<String, Failure> {
    let mut text = config::text(cx)?;
    let current = cx.config.schedule.clone().unwrap_or_default();
    // `at` in any case: it is what makes the table one.
    let at = args
        .at
        .clone()
        .unwrap_or_else(|| current.at.format("%H:%M").to_string());
    for (key, value) in [
        ("at", Some(at)),
        ("full", args.full.clone()),
        ("drill", args.drill.clone()),
    ] {
        if let Some(value) = value {
            text = edit::set(&text, &["schedule", key], &[format!("\"{value}\"")])?;
        }
    }
    config::check_text(cx, &text)?;
    Ok(text)
}

/// Installs with another time or day, for callers that say themselves what came of it.
pub(crate) fn change(
    cx: &Context,
    at: Option<String>,
    full: Option<String>,
) -> Result<(), Failure> {
    let args = InstallArgs {
        at,
        full,
        drill: None,
        backend: BackendArg {
            backend: "auto".to_owned(),
        },
        dry_run: false,
    };
    install(cx, &args).map(|_| ())
}

/// Takes the schedule out, for callers that say themselves what came of it.
pub(crate) fn remove(cx: &Context) -> Result<(), Failure> {
    uninstall(cx, &UninstallArgs { dry_run: false }).map(|_| ())
}

fn install(cx: &Context, args: &InstallArgs) -> Result<u8, Failure> {
    if cx.config.sources.is_empty() {
        let message = "there is nothing to back up: no source is configured";
        return Err(Failure::usage(message, "bdr init"));
    }
    let around = surroundings(cx);
    let text = with_schedule(cx, args)?;
    if args.dry_run {
        let backend = backend(&args.backend, &around)?;
        return shown(cx, backend, &entry(cx)?, &around, Some(&text));
    }
    config::write(cx, &text)?;
    let schedule = Config::parse(text.as_bytes(), "", cx.home.as_deref())?
        .schedule
        .unwrap_or_default();
    let chosen = register(cx, &args.backend)?;
    if cx.ui.json {
        let data = json!({
            "backend": chosen.word(),
            "at": schedule.at.format("%H:%M").to_string(),
            "full": day_word(schedule.full),
            "drill": day_word(schedule.drill),
            "next_backup": tick::next(&schedule, &cx.journal().memory(), cx.now).map(when::utc),
        });
        cx.ui.document("schedule", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    cx.ui
        .report(&format!("{}\n", installed_words(cx, &schedule, chosen)))?;
    if chosen == Backend::Systemd && lingers(&around) == Some(false) {
        cx.ui
            .say("It stops when you log out. To go on without you: loginctl enable-linger");
    }
    Ok(exit::OK)
}

/// Registers with a scheduler; another one's entry goes.
fn register(cx: &Context, arg: &BackendArg) -> Result<Backend, Failure> {
    let around = surroundings(cx);
    let entry = entry(cx)?;
    cx.journal().update(|memory| {
        memory.since.get_or_insert(cx.now);
    })?;
    // From here on guards start a backup that is due, whatever becomes of the rest.
    let chosen = backend(arg, &around)?;
    schedule::install(chosen, &entry, &around)
        .map_err(|error| Failure::from(error).hinted(|error| refused(chosen, error)))?;
    // Only now: an entry that works stays until another one does.
    for other in possible().iter().filter(|other| **other != chosen) {
        let _ = schedule::uninstall(*other, &around);
    }
    cx.journal()
        .update(|memory| memory.backend = Some(chosen.word().to_owned()))?;
    Ok(chosen)
}

/// Registers what the configuration says already, for `bdr init`; returns what to say of it.
pub(crate) fn set_up(cx: &Context) -> Result<String, Failure> {
    let arg = BackendArg {
        backend: "auto".to_owned(),
    };
    let chosen = register(cx, &arg)?;
    let schedule = cx.config.schedule.clone().unwrap_or_default();
    Ok(installed_words(cx, &schedule, chosen))
}

fn installed_words(cx: &Context, schedule: &Schedule, chosen: Backend) -> String {
    let next = tick::next(schedule, &cx.journal().memory(), cx.now);
    let next = next.map_or_else(String::new, |next| {
        format!("; next: {}", words::soon(cx.now, next))
    });
    let full = match schedule.full {
        Some(_) => format!(", a full one on {}", day_word(schedule.full)),
        None => String::new(),
    };
    let who = match chosen {
        Backend::Systemd => "A systemd user timer",
        Backend::Launchd => "A launchd agent",
        Backend::Cron => "cron",
        Backend::Schtasks => "Task Scheduler",
    };
    format!(
        "Backups run daily at {}{full}{next}. {who} wakes bdr up every hour.",
        schedule.at.format("%H:%M")
    )
}

fn refused(backend: Backend, error: &Error) -> Option<String> {
    let Error::Tool { said, .. } = error else {
        return None;
    };
    let no_bus = said.contains("bus") || said.contains("DBUS") || said.contains("XDG_RUNTIME_DIR");
    Some(match backend {
        Backend::Systemd if no_bus => "there is no session of systemd here (as under sudo or ssh without one): log in as this user, or: bdr schedule install --backend cron".to_owned(),
        Backend::Systemd => "bdr schedule install --backend cron".to_owned(),
        Backend::Cron if said.contains("allowed") || said.contains("denied") => "cron does not take it from you (see /etc/cron.allow); guards and hooks start a backup that is due all the same".to_owned(),
        Backend::Cron | Backend::Launchd | Backend::Schtasks => "guards and hooks start a backup that is due all the same; bdr schedule status".to_owned(),
    })
}

fn uninstall(cx: &Context, args: &UninstallArgs) -> Result<u8, Failure> {
    let around = surroundings(cx);
    let mut gone = Vec::new();
    let mut refusal = None;
    for backend in possible() {
        let there = match args.dry_run {
            true => schedule::installed(*backend, &around).map(|found| found.is_some()),
            false => schedule::uninstall(*backend, &around),
        };
        match there {
            Ok(true) => gone.push(backend.word()),
            Ok(false) => {}
            // A scheduler that lets nobody look must not keep the entry of another, nor [schedule].
            Err(error) => refusal = refusal.or(Some((backend.word(), error))),
        }
    }
    let chosen = cx.journal().memory().backend;
    let configured = cx.config.schedule.is_some();
    if configured && !args.dry_run {
        let text = edit::remove(&config::text(cx)?, &["schedule"])?;
        config::write(cx, &text)?;
        cx.journal().update(|memory| {
            memory.since = None;
            memory.backend = None;
        })?;
    }
    if let Some((backend, error)) = refusal {
        // Where it was not the one that was chosen, there is hardly anything to be found; and a tick without [schedule] does nothing.
        if chosen.as_deref() == Some(backend) || chosen.is_none() && gone.is_empty() {
            return Err(error.into());
        }
        cx.ui
            .warn(&format!("bdr: could not look into {backend}: {error}"));
    }
    if cx.ui.json {
        let data =
            json!({"removed": gone, "configuration_changed": configured, "dry_run": args.dry_run});
        cx.ui.document("schedule", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let text = match (gone.is_empty(), configured, args.dry_run) {
        (true, false, _) => "Nothing was installed.".to_owned(),
        (true, true, false) => "Backups no longer run by themselves.".to_owned(),
        (false, _, false) => format!(
            "Removed from {}. Backups no longer run by themselves.",
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
    let backend = backend(arg, &around)?;
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
        let list: Vec<Value> = files
            .iter()
            .map(|(path, bytes)| ui::json::with_path(path, json!({"text": readable(bytes)})))
            .collect();
        let data = json!({"backend": backend.word(), "files": list, "configuration": config});
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
    let scheduler = scheduler(cx, true);
    let memory = cx.journal().seen();
    let Some(schedule) = &cx.config.schedule else {
        if cx.ui.json {
            cx.ui.document(
                "schedule",
                exit::FAILURE,
                &json!({"installed": false, "configured": false}),
            )?;
        } else {
            cx.ui.report(
                "Backups run only when you run them. To change that: bdr schedule install\n",
            )?;
        }
        return Ok(exit::FAILURE);
    };
    let troubles: Vec<Trouble> =
        bdr::care::status::scheduler_troubles(&cx.config, &memory, &scheduler, cx.now)
            .into_iter()
            .collect();
    let code = match troubles.iter().any(|t| !matches!(t, Trouble::NotLingering)) {
        true => exit::FAILURE,
        false => exit::OK,
    };
    let next = |job| schedule.next(job, &memory.pasts, cx.now, &Local);
    let woke = memory.tick.as_ref();
    if cx.ui.json {
        let data = json!({
            "configured": true,
            "installed": scheduler.backend.is_some(),
            "backend": scheduler.backend,
            "starts_other": scheduler.starts_other.as_ref().map(|path| show(path.as_os_str())),
            "lingers": scheduler.lingers,
            "last_woke": woke.map(|tick| when::utc(tick.time)),
            "last_success": memory.pasts.backup.success.map(when::utc),
            "next_backup": next(Job::Backup).map(when::utc),
            "next_full": next(Job::Full).map(when::utc),
            "next_drill": next(Job::Drill).map(when::utc),
            "troubles": troubles.iter().map(|t| json!({"code": t.word(), "message": words::trouble(t, cx.now), "fix": t.fix()})).collect::<Vec<_>>(),
        });
        cx.ui.document("schedule", code, &data)?;
        return Ok(code);
    }
    let mut rows = vec![
        [
            "scheduler".to_owned(),
            scheduler
                .backend
                .as_deref()
                .map_or("not installed", words::backend_words)
                .to_owned(),
        ],
        [
            "last woke".to_owned(),
            woke.map_or_else(
                || "never".to_owned(),
                |tick| format!("{} (by {})", when::ago(cx.now, tick.time), tick.by),
            ),
        ],
        [
            "last backup".to_owned(),
            memory
                .pasts
                .backup
                .success
                .map_or_else(|| "never".to_owned(), |time| when::ago(cx.now, time)),
        ],
    ];
    for (name, job) in [
        ("next backup", Job::Backup),
        ("next full", Job::Full),
        ("next drill", Job::Drill),
    ] {
        rows.extend(next(job).map(|time| [name.to_owned(), words::soon(cx.now, time)]));
    }
    if let Some(other) = &scheduler.starts_other {
        rows.push([
            "starts".to_owned(),
            format!("{}, not this bdr", cx.shown_absolute(other)),
        ]);
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
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
