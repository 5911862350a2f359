//! The scheduler that wakes bdr, and the times in the configuration.

use std::path::PathBuf;

use bdr::Error;
use bdr::care::status::Scheduler;
use bdr::disk::fsutil::canonicalize;
use bdr::install::schedule::{self, Backend, Entry, Installed, Surroundings};
use bdr::model::config::{Config, edit};
use bdr::model::schedule::{Schedule, day_word, parse_clock};

use crate::app::config;
use crate::app::context::{Context, variable};
use crate::app::error::Failure;
use crate::app::tick;
use crate::ui::when;

/// Returns a time of day in the form of the configuration.
pub(crate) fn clock(text: &str) -> Result<String, String> {
    parse_clock(text).map(|time| time.format("%H:%M").to_string())
}

/// Variables that determine bdr's places, and that neither schedulers nor MCP clients pass on.
pub(crate) const PLACES: [&str; 7] = [
    "BDR_HOME",
    "BDR_CONFIG",
    "BDR_LIFEBOAT",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
];

pub(crate) fn entry(cx: &Context) -> Result<Entry, Failure> {
    let program = crate::app::context::own_program().ok_or_else(|| {
        Failure::usage("bdr cannot find its own program", "run it by its full path")
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

pub(crate) fn surroundings(cx: &Context) -> Surroundings {
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
pub(crate) fn user_number() -> u32 {
    bdr::disk::fsutil::user_number()
}

#[cfg(not(unix))]
pub(crate) fn user_number() -> u32 {
    0
}

/// Returns what is installed. Asking cron or Windows takes a process, so `bdr status` does it only
/// if they were chosen.
pub(crate) fn find(
    around: &Surroundings,
    remembered: Option<&str>,
    thorough: bool,
) -> Option<Installed> {
    let asks = |backend: &Backend| matches!(backend, Backend::Cron | Backend::Schtasks);
    let looked_at =
        |backend: &&Backend| thorough || !asks(backend) || remembered == Some(backend.word());
    let mut backends = possible().iter().filter(looked_at);
    backends.find_map(|backend| schedule::installed(*backend, around).ok().flatten())
}

/// Returns what wakes bdr, for `bdr status`.
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
        daemon: schedule::daemon_runs(installed.backend),
    }
}

/// Whether the user's systemd keeps running after logout (loginctl(1)); `None` if unknown.
pub(crate) fn lingers(around: &Surroundings) -> Option<bool> {
    let marks = std::path::Path::new("/var/lib/systemd/linger");
    // If logind never ran, the question does not arise.
    let logind = marks.parent().is_some_and(std::path::Path::is_dir) && !around.user.is_empty();
    logind.then(|| marks.join(&around.user).exists())
}

/// Requested changes to a schedule; `None` keeps what is configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) at: Option<String>,
    /// Hours from one backup to the next, like `6h`, or `daily`.
    pub(crate) every: Option<String>,
    /// Day of the full backup, or `never`.
    pub(crate) full: Option<String>,
    /// Day of the drill, or `never`.
    pub(crate) drill: Option<String>,
}

/// Returns the text of the configuration with the requested schedule.
pub(crate) fn configured(cx: &Context, wanted: &Wanted) -> Result<String, Failure> {
    if cx.config.sources.is_empty() {
        let message = "there is nothing to back up: no source is configured";
        return Err(Failure::usage(message, "bdr init"));
    }
    let mut text = config::text(cx)?;
    let current = cx.config.schedule.clone().unwrap_or_default();
    // `at` in any case: without it the table would not be a schedule.
    let at = wanted
        .at
        .clone()
        .unwrap_or_else(|| current.at.format("%H:%M").to_string());
    for (key, value) in [
        ("at", Some(at)),
        ("every", wanted.every.clone()),
        ("full", wanted.full.clone()),
        ("drill", wanted.drill.clone()),
    ] {
        if let Some(value) = value {
            text = edit::set(&text, &["schedule", key], &[format!("\"{value}\"")])?;
        }
    }
    config::check_text(cx, &text)?;
    Ok(text)
}

/// Writes and registers the requested schedule; returns both.
pub(crate) fn install(
    cx: &Context,
    wanted: &Wanted,
    backend: &str,
) -> Result<(Schedule, Backend), Failure> {
    let text = configured(cx, wanted)?;
    config::write(cx, &text)?;
    let schedule = Config::parse(text.as_bytes(), "", cx.home.as_deref())?
        .schedule
        .unwrap_or_default();
    let chosen = register(cx, backend)?;
    Ok((schedule, chosen))
}

/// The result of removing the schedule.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    pub(crate) gone: Vec<&'static str>,
    pub(crate) configured: bool,
    /// A scheduler that could not be checked, although another one was chosen.
    pub(crate) refusal: Option<(&'static str, Error)>,
}

/// Removes the schedule from the configuration and from every scheduler.
pub(crate) fn remove(cx: &Context, dry_run: bool) -> Result<Removed, Failure> {
    let around = surroundings(cx);
    let mut removed = Removed {
        configured: cx.config.schedule.is_some(),
        ..Removed::default()
    };
    for backend in possible() {
        let there = match dry_run {
            true => schedule::installed(*backend, &around).map(|found| found.is_some()),
            false => schedule::uninstall(*backend, &around),
        };
        match there {
            Ok(true) => removed.gone.push(backend.word()),
            Ok(false) => {}
            // A scheduler that cannot be checked must not protect the entry of another, nor
            // [schedule].
            Err(error) => {
                removed.refusal = removed.refusal.or(Some((backend.word(), error)));
            }
        }
    }
    let chosen = cx.journal().memory().backend;
    if removed.configured && !dry_run {
        let text = edit::remove(&config::text(cx)?, &["schedule"])?;
        config::write(cx, &text)?;
        cx.journal().update(|memory| {
            memory.since = None;
            memory.backend = None;
        })?;
    }
    match removed.refusal {
        // If it was not the chosen one, there is hardly an entry; and a tick without [schedule]
        // does nothing.
        Some((backend, error))
            if chosen.as_deref() == Some(backend)
                || chosen.is_none() && removed.gone.is_empty() =>
        {
            Err(error.into())
        }
        _ => Ok(removed),
    }
}

/// Registers with a scheduler, and removes the entry of another one.
pub(crate) fn register(cx: &Context, backend: &str) -> Result<Backend, Failure> {
    let around = surroundings(cx);
    let entry = entry(cx)?;
    cx.journal().update(|memory| {
        memory.since.get_or_insert(cx.now);
    })?;
    // From here on guards start a backup that is due, even if the rest fails.
    let chosen = chosen(backend, &around)?;
    schedule::install(chosen, &entry, &around)
        .map_err(|error| Failure::from(error).hinted(|error| refused(chosen, error)))?;
    // Only now, so that a working entry stays until the new one works.
    for other in possible().iter().filter(|other| **other != chosen) {
        let _ = schedule::uninstall(*other, &around);
    }
    cx.journal()
        .update(|memory| memory.backend = Some(chosen.word().to_owned()))?;
    Ok(chosen)
}

/// Registers the configured schedule, for `bdr init`; returns the message about it.
pub(crate) fn set_up(cx: &Context) -> Result<String, Failure> {
    let chosen = register(cx, AUTO)?;
    let schedule = cx.config.schedule.clone().unwrap_or_default();
    Ok(installed_words(cx, &schedule, chosen))
}

pub(crate) fn installed_words(cx: &Context, schedule: &Schedule, chosen: Backend) -> String {
    let next = tick::next(schedule, &cx.journal().memory(), cx.now);
    let next = next.map_or_else(String::new, |next| {
        format!("; next: {}", when::soon(cx.now, next))
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
    let at = schedule.at.format("%H:%M");
    let often = match schedule.every {
        None => format!("daily at {at}"),
        Some(1) => "every hour".to_owned(),
        Some(hours) => format!("every {hours} hours, from {at} on"),
    };
    let mut text = format!("Backups run {often}{full}{next}. {who} wakes bdr every hour.");
    if chosen == Backend::Cron && schedule::daemon_runs(chosen) == Some(false) {
        text.push_str(&format!("\nBut {NO_DAEMON}"));
    }
    text
}

/// The message if no daemon reads the crontab.
const NO_DAEMON: &str = "no cron daemon is running, so nothing happens yet. Start it: sudo service cron start (or crond)";

pub(crate) fn refused(backend: Backend, error: &Error) -> Option<String> {
    let Error::Tool { said, .. } = error else {
        return None;
    };
    let no_bus = said.contains("bus") || said.contains("DBUS") || said.contains("XDG_RUNTIME_DIR");
    Some(match backend {
        Backend::Systemd if no_bus => "no systemd user session is running here (as under sudo or some ssh logins): log in as this user, or: bdr schedule install --backend cron".to_owned(),
        Backend::Systemd => "bdr schedule install --backend cron".to_owned(),
        Backend::Cron if said.contains("allowed") || said.contains("denied") => "cron does not accept jobs from you (see /etc/cron.allow); guards and hooks still start a backup that is due".to_owned(),
        Backend::Cron | Backend::Launchd | Backend::Schtasks => "guards and hooks still start a backup that is due; see bdr schedule status".to_owned(),
    })
}

pub(crate) const AUTO: &str = "auto";

/// Returns the scheduler of a name, or the one that suits this machine.
pub(crate) fn chosen(name: &str, around: &Surroundings) -> Result<Backend, Failure> {
    match Backend::parse(name) {
        Some(backend) => Ok(backend),
        None => Ok(schedule::choose(around)?),
    }
}

/// Schedulers that are possible here; checking another would start a program in vain.
pub(crate) fn possible() -> &'static [Backend] {
    match (cfg!(windows), cfg!(target_os = "macos")) {
        (true, _) => &[Backend::Schtasks],
        (_, true) => &[Backend::Launchd, Backend::Cron],
        _ => &[Backend::Systemd, Backend::Cron],
    }
}
