//! Everything a command needs to know about its surroundings, looked up once: environment, clock,
//! places, configuration.
#![expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the environment and the clock"
)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use bdr::base::error::IoContext as _;
use bdr::base::path::{absolute, show};
use bdr::care::runs::Journal;
use bdr::disk::fsutil::canonicalize;
use bdr::disk::storage::{self, Lifeboat};
use bdr::model::config::Config;
use bdr::model::rules::Root;
use bdr::repo::Repository;
use bdr::repo::snapshot::PathNote;
use chrono::{DateTime, Utc};
use etcetera::BaseStrategy as _;

use crate::app::error::Failure;
use crate::ui::Ui;
use crate::ui::progress::{Progress, Relay};

mod environment;
mod opening;

#[cfg(target_os = "linux")]
pub(crate) use environment::now;
use environment::{clock, host_name, stop_on_signals, survive_file_limit};
pub(crate) use environment::{
    current_dir, guard_is_off, is_on_path, own_program, parent_name, shows_unicode, variable,
    wants_plain,
};

/// Set for the child of a guard, to the id of the operation.
pub(crate) const OPERATION_VARIABLE: &str = "BDR_OP";

/// The surroundings of a command.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) ui: Ui,
    pub(crate) config: Config,
    pub(crate) places: Places,
    pub(crate) home: Option<PathBuf>,
    pub(crate) cwd: PathBuf,
    pub(crate) now: DateTime<Utc>,
    pub(crate) host: String,
    /// Set by the first SIGINT or SIGTERM.
    pub(crate) stop: Arc<AtomicBool>,
    /// All opened repositories, to report at the end which of their records could not be read; with
    /// what the destination is called, if they are at one.
    pub(crate) opened: Arc<Mutex<Vec<(Repository, String)>>>,
    /// How that was typed: what an error says to do next has to be about the same place.
    pub(crate) from_words: Arc<Mutex<String>>,
    /// What is read instead of this machine's repository.
    pub(crate) far: Option<Repository>,
    /// Receives a verb's progress in addition to the bar.
    pub(crate) relay: Option<Relay>,
    /// As in [`Needs`].
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "nothing is captured there")
    )]
    pub(crate) sees_left: bool,
}

/// What a caller needs from its surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    pub(crate) config: NeedsConfig,
    /// The first signal asks the verb to stop between two files. A guard leaves signals to its
    /// command; a server ends at once, which is safe at any instruction.
    pub(crate) stops_on_signals: bool,
    /// It looks at operations: what processes that captured commands left running have done until now
    /// is to be among them.
    pub(crate) sees_left: bool,
}

/// What to do if the configuration is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NeedsConfig {
    Now,
    /// Each call reports what is wrong: a server that does not start tells its client nothing.
    Later,
    /// The caller fixes it, or does not need it.
    Never,
}

/// The places of bdr's own files.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) config: PathBuf,
    pub(crate) repository: PathBuf,
    /// The place that is configured for it, while it still has to be moved there.
    pub(crate) moving: Option<PathBuf>,
    /// Somebody named it: by an option, or in the configuration.
    pub(crate) named: bool,
    pub(crate) cache: PathBuf,
    /// The directory for the history of runs and the dashboard.
    pub(crate) state: PathBuf,
    /// Where the repository would be without `--repository` and configuration.
    pub(crate) default_repository: PathBuf,
    /// Where hard links of repositories are, outside HOME; `None` if there are none.
    pub(crate) lifeboats: Option<PathBuf>,
}

impl Context {
    /// Looks everything up; `repository` is from the command line. Fails if the configuration is
    /// invalid, unless the caller can do without.
    pub(crate) fn new(repository: Option<&Path>, ui: Ui, needs: Needs) -> Result<Self, Failure> {
        let cwd = current_dir()?;
        let home = etcetera::home_dir().ok().filter(|home| home.is_absolute());
        let mut places = Places::find(&cwd)?;
        if needs.config != NeedsConfig::Never
            && let Some(config) = places.rescue_config()
        {
            let config = show(config.as_os_str());
            ui.warn(&format!(
                "bdr: the configuration {config} was missing; restored it"
            ));
        }
        let config = match (read_config(&places.config, home.as_deref()), needs.config) {
            (Err(failure), NeedsConfig::Now) => return Err(failure),
            (config, _) => config.unwrap_or_default(),
        };
        let config = followed(config);
        places.named |= repository.is_some() || config.repository.is_some();
        match (repository, &config.repository) {
            // A URL is not a path, and stays as written.
            (Some(url), _) if storage::scheme(url).is_some() => {
                places.repository = url.to_path_buf();
            }
            (Some(dir), _) => places.repository = absolute(&cwd, dir),
            (None, Some(dir)) => places.repository.clone_from(dir),
            (None, None) => {}
        }
        places.moving = None;
        if repository.is_none() {
            places.stay_until_moved();
        }
        let stop = Arc::new(AtomicBool::new(false));
        if needs.stops_on_signals {
            stop_on_signals(&stop);
        }
        survive_file_limit();
        let now = clock()?;
        Ok(Self {
            ui,
            config,
            places,
            home,
            cwd,
            now,
            host: host_name(),
            stop,
            opened: Arc::default(),
            from_words: Arc::default(),
            far: None,
            relay: None,
            sees_left: needs.sees_left,
        })
    }

    /// Returns the surroundings as they are now, for one more call of a process that answers many:
    /// configuration and clock are read again, but `--repository` stays.
    pub(crate) fn afresh(
        &self,
        named: Option<&Path>,
        stop: Arc<AtomicBool>,
        relay: Option<Relay>,
    ) -> Result<Self, Failure> {
        let mut cx = self.clone();
        cx.config = followed(read_config(&cx.places.config, cx.home.as_deref())?);
        cx.places.repository = match (named, &cx.config.repository) {
            (Some(dir), _) => absolute(&cx.cwd, dir),
            (None, Some(dir)) => dir.clone(),
            (None, None) => cx.places.default_repository.clone(),
        };
        cx.places.moving = None;
        if named.is_none() {
            cx.places.stay_until_moved();
        }
        cx.now = clock()?;
        cx.opened = Arc::default();
        cx.stop = stop;
        cx.relay = relay;
        Ok(cx)
    }

    /// Returns true if the user wants to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(crate) fn with_repository(&self, dir: &Path) -> Self {
        let mut other = self.clone();
        other.places.repository = dir.to_path_buf();
        other.places.moving = None;
        other.places.named = true;
        other
    }

    /// Returns the history of runs for this repository.
    pub(crate) fn journal(&self) -> Journal {
        Journal::new(&self.places.state, &self.places.repository)
    }

    pub(crate) fn roots(&self) -> Vec<Root> {
        self.config
            .sources
            .iter()
            .map(bdr::model::config::Source::root)
            .collect()
    }

    /// Returns a monitor that draws a bar and stops on Ctrl-C.
    pub(crate) fn progress(&self) -> Progress {
        Progress::new(self.ui.bars, Arc::clone(&self.stop), self.relay.clone())
    }

    /// Returns the command line for operation records.
    pub(crate) fn argv(&self) -> Vec<OsString> {
        std::iter::once("bdr".into())
            .chain(std::env::args_os().skip(1))
            .collect()
    }

    /// Returns the git work tree around the current directory, or the directory itself.
    pub(crate) fn workspace(&self) -> PathBuf {
        let found = git2::Repository::discover(&self.cwd).ok();
        let top = found.as_ref().and_then(git2::Repository::workdir);
        top.map_or_else(|| self.cwd.clone(), |top| absolute(&self.cwd, top))
    }

    /// Returns a path for people: relative below the current directory, with `~` below HOME.
    pub(crate) fn shown(&self, path: &Path) -> String {
        if let Ok(rest) = path.strip_prefix(&self.cwd)
            && !rest.as_os_str().is_empty()
        {
            return show(rest.as_os_str());
        }
        self.shown_absolute(path)
    }

    /// Returns at most `most` lines with paths and their notes.
    pub(crate) fn note_lines<'n>(
        &self,
        notes: impl ExactSizeIterator<Item = &'n PathNote>,
        most: usize,
    ) -> Vec<String> {
        let more = notes.len().saturating_sub(most);
        let row = |note: &PathNote| {
            let path = self.shown_absolute(note.path.as_path());
            vec![path, note.reason.clone()]
        };
        let rows: Vec<Vec<String>> = notes.take(most).map(row).collect();
        let mut lines = crate::ui::table::table(&rows, "ll");
        if more > 0 {
            lines.push(format!("and {} more", crate::ui::count(more as u64)));
        }
        lines
    }

    /// Returns a named directory as an absolute path, free of symlinks if it exists.
    pub(crate) fn directory(&self, named: Option<&Path>) -> Option<PathBuf> {
        let dir = absolute(&self.cwd, named?);
        Some(canonicalize(&dir).unwrap_or(dir))
    }

    /// Returns bdr's own files outside the repository: no program that calls bdr may change them.
    pub(crate) fn own_files(&self) -> Vec<PathBuf> {
        vec![self.places.config.clone(), self.places.state.clone()]
    }

    /// Returns an absolute path for people, with `~` below HOME.
    pub(crate) fn shown_absolute(&self, path: &Path) -> String {
        let home = self.home.as_deref().filter(|home| home.parent().is_some());
        match home.and_then(|home| path.strip_prefix(home).ok()) {
            Some(rest) if rest.as_os_str().is_empty() => "~".to_owned(),
            Some(rest) => format!("~/{}", show(rest.as_os_str())),
            None => show(path.as_os_str()),
        }
    }
}

impl Places {
    /// Returns bdr's own directories, which no source captures.
    pub(crate) fn own(&self) -> Vec<PathBuf> {
        let own = [&self.repository, &self.cache, &self.state];
        own.into_iter().chain(&self.lifeboats).cloned().collect()
    }

    /// Uses the repository where it still is, after `bdr config set repository NEW` and before it is
    /// moved there: otherwise a guard would make a new one at that place.
    fn stay_until_moved(&mut self) {
        if let Some(old) = Journal::new(&self.state, &self.repository).awaited_from() {
            self.moving = Some(std::mem::replace(&mut self.repository, old));
        }
    }

    pub(crate) fn lifeboat(&self, repository: &Path) -> Option<Lifeboat> {
        Some(Lifeboat::new(self.lifeboats.as_ref()?, repository))
    }

    fn rescue_config(&self) -> Option<PathBuf> {
        if self.config.exists() {
            return None;
        }
        let (lifeboat, _) = Lifeboat::all(self.lifeboats.as_ref()?)
            .into_iter()
            .find(|(_, about)| about.config.as_path() == self.config)?;
        let bytes = lifeboat.config()?;
        let dir = self.config.parent()?;
        bdr::disk::fsutil::create_dir_private(dir).ok()?;
        bdr::disk::fsutil::write_atomic(&self.config, &bytes, 0o600).ok()?;
        Some(self.config.clone())
    }

    fn find(cwd: &Path) -> Result<Self, Failure> {
        let mut places = if let Some(dir) = variable("BDR_HOME") {
            let dir = absolute(cwd, Path::new(&dir));
            Self {
                config: dir.join("config.toml"),
                repository: dir.join("repository"),
                moving: None,
                named: true,
                cache: dir.join("cache"),
                state: dir.join("state"),
                default_repository: dir.join("repository"),
                lifeboats: None,
            }
        } else {
            let strategy = etcetera::choose_base_strategy().map_err(|_| {
                Failure::usage("there is no home directory", "set HOME, or BDR_HOME=DIR")
            })?;
            Self {
                config: strategy.config_dir().join("bdr").join("config.toml"),
                repository: strategy.data_dir().join("bdr"),
                moving: None,
                named: false,
                cache: strategy.cache_dir().join("bdr"),
                state: match strategy.state_dir() {
                    Some(dir) => dir.join("bdr"),
                    // Not `bdr`: that is the repository.
                    None => strategy.data_dir().join("bdr-state"),
                },
                default_repository: strategy.data_dir().join("bdr"),
                lifeboats: lifeboats(),
            }
        };
        if let Some(dir) = std::env::var_os("BDR_LIFEBOAT") {
            // Empty means none.
            places.lifeboats = (!dir.is_empty()).then(|| absolute(cwd, Path::new(&dir)));
        }
        if let Some(file) = variable("BDR_CONFIG") {
            places.config = absolute(cwd, Path::new(&file));
        }
        Ok(places)
    }
}

/// Returns true if the configuration may have rules for commands, without reading it: a command
/// that only reads must not wait for that.
pub(crate) fn may_have_rules() -> bool {
    let places = current_dir().and_then(|cwd| Places::find(&cwd));
    let text = places
        .ok()
        .and_then(|places| std::fs::read(places.config).ok());
    let is_rules = |line: &[u8]| line.trim_ascii_start().starts_with(b"rules");
    text.is_some_and(|text| text.split(|byte| *byte == b'\n').any(is_rules))
}

/// Returns the directory of lifeboats: a place of this user that is not below HOME and survives a
/// reboot.
#[cfg(unix)]
fn lifeboats() -> Option<PathBuf> {
    let user = bdr::disk::fsutil::user_number();
    let name = format!("bdr-lifeboat-{user}");
    Some(bdr::disk::storage::lifeboats_in(
        Path::new("/var/tmp"),
        &name,
    ))
}

#[cfg(not(unix))]
fn lifeboats() -> Option<PathBuf> {
    let mut name = OsString::from("bdr-lifeboat-");
    name.push(variable("USERNAME")?);
    Some(PathBuf::from(variable("ProgramData")?).join(name))
}

/// Replaces each source that is a symlink by its target, if it exists.
pub(crate) fn followed(mut config: Config) -> Config {
    for source in &mut config.sources {
        let link = source.path.symlink_metadata();
        if link.is_ok_and(|link| link.file_type().is_symlink())
            && let Ok(end) = canonicalize(&source.path)
        {
            source.path = end;
        }
    }
    config
}

/// Refuses another user's file that nobody named: with `sudo` keeping HOME, root would run what
/// that user wrote there. git does the same.
fn check_owner(what: &str, path: &Path, metadata: &std::fs::Metadata) -> Result<(), Failure> {
    let named = ["BDR_HOME", "BDR_CONFIG"]
        .into_iter()
        .any(|name| variable(name).is_some());
    match bdr::disk::fsutil::foreign_owner(metadata).filter(|_| !named) {
        None => Ok(()),
        Some(owner) => Err(Failure::usage(
            format!(
                "the {what} `{}` belongs to another user (uid {owner})",
                show(path.as_os_str())
            ),
            "run bdr as that user (with sudo: sudo -H), or name it yourself: --repository DIR, BDR_CONFIG=FILE",
        )),
    }
}

/// Reads the configuration; it need not exist.
pub(crate) fn read_config(path: &Path, home: Option<&Path>) -> Result<Config, Failure> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Config::default()),
        Err(error) => return Err(bdr::Error::io("read", path, error).into()),
    };
    check_owner(
        "configuration",
        path,
        &file.metadata().context("read", path)?,
    )?;
    let mut bytes = Vec::new();
    // One byte more than is allowed is enough to refuse it.
    file.take(bdr::model::config::MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .context("read", path)?;
    Ok(Config::parse(&bytes, &show(path.as_os_str()), home)?)
}
