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
use bdr::base::id::Id;
use bdr::base::path::{absolute, show};
use bdr::care::runs::Journal;
use bdr::disk::fsutil::canonicalize;
use bdr::disk::storage::{self, Lifeboat, Place, Stands, Storage};
use bdr::disk::vault::Vault;
use bdr::model::config::Config;
use bdr::model::rules::Root;
use bdr::repo::Repository;
use bdr::repo::snapshot::PathNote;
use chrono::{DateTime, Utc};
use etcetera::BaseStrategy as _;

use crate::app::error::Failure;
use crate::ui::Ui;
use crate::ui::progress::{Progress, Relay};

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
    /// All opened repositories, to report at the end which of their records could not be read.
    pub(crate) opened: Arc<Mutex<Vec<Repository>>>,
    /// Receives a verb's progress in addition to the bar.
    pub(crate) relay: Option<Relay>,
}

/// What a caller needs from its surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    pub(crate) config: NeedsConfig,
    /// The first signal asks the verb to stop between two files. A guard leaves signals to its
    /// command; a server ends at once, which is safe at any instruction.
    pub(crate) stops_on_signals: bool,
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

/// Returns an environment variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Returns the path of bdr: the name under which it was installed, not the versioned file to which
/// that may link.
pub(crate) fn own_program() -> Option<PathBuf> {
    let real = std::env::current_exe().ok()?;
    let called = std::env::args_os().next().map(PathBuf::from)?;
    let same = |path: &PathBuf| canonicalize(path).ok() == canonicalize(&real).ok();
    let in_path = || {
        let dirs = variable("PATH")?;
        std::env::split_paths(&dirs)
            .map(|dir| dir.join("bdr"))
            .find(|file| file.is_absolute() && same(file))
    };
    let typed = Some(called).filter(|called| called.is_absolute() && same(called));
    typed.or_else(in_path).or(Some(real))
}

/// Returns true if this program is the `bdr` that a shell finds.
pub(crate) fn is_on_path() -> bool {
    let real = std::env::current_exe().and_then(canonicalize).ok();
    let first = variable("PATH").and_then(|dirs| {
        std::env::split_paths(&dirs)
            .map(|dir| dir.join("bdr"))
            .find(|file| file.is_file())
    });
    real.is_some() && first.and_then(|file| canonicalize(file).ok()) == real
}

/// Returns the name of the parent program, if the system has it in a file.
pub(crate) fn parent_name() -> Option<String> {
    #[cfg(unix)]
    let name = std::fs::read_to_string(format!(
        "/proc/{}/comm",
        std::os::unix::process::parent_id()
    ));
    #[cfg(not(unix))]
    let name = Err::<String, _>(std::io::ErrorKind::Unsupported);
    name.ok()
}

pub(crate) fn guard_is_off() -> bool {
    std::env::var_os("BDR").is_some_and(|v| v == "0")
        || variable("BDR_SKIP").is_some_and(|v| v != "0")
}

pub(crate) fn wants_plain() -> bool {
    variable("NO_COLOR").is_some() || variable("TERM").is_some_and(|term| term == "dumb")
}

#[cfg(unix)]
pub(crate) fn shows_unicode() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(variable);
    locale.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(not(unix))]
pub(crate) fn shows_unicode() -> bool {
    true
}

/// Returns the current directory, or where it was if it was deleted: an undo restores it.
pub(crate) fn current_dir() -> Result<PathBuf, Failure> {
    let found = std::env::current_dir();
    if found.is_err()
        && let Some(was) = variable("PWD").map(PathBuf::from)
        && was.is_absolute()
    {
        return Ok(was);
    }
    Ok(found.context("find", ".")?)
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
            relay: None,
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
        other.places.named = true;
        other
    }

    /// Opens the repository, and restores a deleted one from its lifeboat.
    pub(crate) fn repository(&self) -> Result<Repository, Failure> {
        let dir = &self.places.repository;
        if !self.places.named
            && let Ok(metadata) = std::fs::metadata(dir)
        {
            check_owner("repository", dir, &metadata)?;
        }
        let storage = self.storage(dir)?;
        self.check_place(dir, false)?;
        self.rescue(dir);
        let repo = self.private(Repository::open(storage, &self.places.cache)?);
        if let Ok(mut opened) = self.opened.lock() {
            opened.push(repo.clone());
        }
        Ok(repo)
    }

    /// Reports which records could not be read, whatever the command made of it: its answer came
    /// without them.
    pub(crate) fn tell_unreadable(&self) {
        const SHOWN: usize = 5;
        let Ok(opened) = self.opened.lock() else {
            return;
        };
        let bad: Vec<(String, String)> = opened.iter().flat_map(Repository::unreadable).collect();
        for (name, reason) in bad.iter().take(SHOWN) {
            let name = show(name.as_ref());
            self.ui
                .warn(&format!("bdr: `{name}` cannot be read: {reason}"));
        }
        if bad.len() > SHOWN {
            let more = crate::ui::plural((bad.len() - SHOWN) as u64, "more record");
            self.ui.warn(&format!("bdr: and {more}"));
        }
        if !bad.is_empty() {
            self.ui.warn("bdr: to see what is affected: bdr verify");
        }
    }

    /// Sets the rules for what is sealed, and this machine's vault.
    fn private(&self, repo: Repository) -> Repository {
        let privacy = &self.config.privacy;
        let home = self.home.as_ref().and_then(|home| home.to_str());
        let expand = |text: &String| match (text.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => format!("{home}/{rest}"),
            _ => text.clone(),
        };
        let rules = bdr::privacy::Rules {
            profile: privacy.profile,
            allow: privacy.allow.iter().map(expand).collect(),
        };
        let vault = self.vault(repo.id()).for_repository(repo.location());
        repo.with_privacy(rules, vault)
    }

    /// Returns the vault that this machine has for a repository, be that here or not.
    pub(crate) fn vault(&self, repository: Id) -> Vault {
        let vaults = self.places.state.join("vault");
        let dir = vaults.join(repository.to_string());
        // Keys are in there, so the directory must not be one that somebody else could have made.
        let own = |dir: &&PathBuf| bdr::disk::fsutil::is_private_dir(dir) || !dir.exists();
        let second = self.places.lifeboats.as_ref().filter(own);
        let second = second.map(|dir| dir.join("vault").join(repository.to_string()));
        let keys = crate::app::keychain::store(self.config.privacy.vault, &dir);
        Vault::new(&dir, second.as_deref(), keys)
    }

    /// Returns the rules for what is sealed, with another profile if given.
    pub(crate) fn privacy_rules(
        &self,
        profile: Option<bdr::privacy::Profile>,
    ) -> bdr::privacy::Rules {
        bdr::privacy::Rules {
            profile: profile.unwrap_or(self.config.privacy.profile),
            allow: self.config.privacy.allow.clone(),
        }
    }

    /// Makes sure that a missing repository is not on a disk that is away: then none is made in its
    /// place. `anew` allows another disk there.
    fn check_place(&self, repository: &Path, anew: bool) -> Result<(), Failure> {
        if repository.join("format.json").exists() {
            return Ok(());
        }
        let of_lifeboat = || self.places.lifeboat(repository)?.about()?.place;
        let known = Journal::new(&self.places.state, repository).place();
        let Some(place) = known.or_else(of_lifeboat) else {
            return Ok(());
        };
        let mount = self.shown_absolute(place.mount.as_path());
        let reason = match place.look() {
            Stands::Same => return Ok(()),
            Stands::Another if anew => return Ok(()),
            Stands::Another => format!("another disk is mounted at `{mount}`"),
            Stands::None => format!("nothing is mounted at `{mount}`"),
        };
        let location = show(repository.as_os_str());
        Err(bdr::Error::Away { location, reason }.into())
    }

    /// Remembers which file system the repository is on, and returns it.
    fn remember_place(&self, repository: &Path) -> Option<Place> {
        let place = Place::of(repository)?;
        // If this fails, the lifeboat still has it.
        let _ = Journal::new(&self.places.state, repository).remember_place(&place);
        Some(place)
    }

    fn rescue(&self, repository: &Path) {
        let lifeboat = self.places.lifeboat(repository);
        let deleted = !repository.join("format.json").exists();
        if let Some(lifeboat) = lifeboat.filter(|lifeboat| deleted && lifeboat.is_manned())
            && let Ok(back) = lifeboat.rescue()
        {
            let place = self.shown_absolute(repository);
            let n = crate::ui::plural(back, "file");
            let dir = show(lifeboat.dir().as_os_str());
            self.ui.warn(&format!(
                "bdr: the repository {place} was missing; restored {n} from {dir}"
            ));
        }
    }

    fn storage(&self, dir: &Path) -> bdr::Result<Arc<dyn Storage>> {
        storage::choose(dir, self.places.lifeboat(dir))
    }

    /// Creates the lifeboat directory before the first write. bdr also works without one, and
    /// `bdr doctor` reports that.
    pub(crate) fn launch_lifeboat(&self, repository: &Path) {
        let is_there = repository.join("format.json").is_file();
        let place = is_there.then(|| self.remember_place(repository)).flatten();
        let Some(lifeboat) = self.places.lifeboat(repository) else {
            return;
        };
        let new = !lifeboat.is_manned();
        if lifeboat.launch(&self.places.config, place).is_ok() && new {
            let _ = lifeboat.catch_up();
        }
    }

    /// Creates the repository, or opens the existing one. `anew` allows it even if another disk is
    /// mounted there now.
    pub(crate) fn create_repository(&self, dir: &Path, anew: bool) -> Result<Repository, Failure> {
        let storage = self.storage(dir)?;
        self.check_place(dir, anew)?;
        self.rescue(dir);
        self.launch_lifeboat(dir);
        let repo = Repository::create(storage, &self.places.cache, self.now)?;
        // Again, because only now its file system is known.
        self.launch_lifeboat(dir);
        Ok(self.private(repo))
    }

    /// Adds missing hard links to all files of the repository.
    pub(crate) fn catch_up_lifeboat(&self, repository: &Path) {
        if let Some(lifeboat) = self.places.lifeboat(repository) {
            // bdr works without one too.
            let _ = lifeboat.catch_up();
        }
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

/// Returns the time, or that of `BDR_TEST_NOW`.
fn clock() -> Result<DateTime<Utc>, Failure> {
    let Some(text) = variable("BDR_TEST_NOW") else {
        return Ok(Utc::now());
    };
    let parsed = text
        .to_str()
        .and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    parsed.map(|time| time.to_utc()).ok_or_else(|| {
        Failure::usage(
            "BDR_TEST_NOW is not a time",
            "BDR_TEST_NOW=2026-11-22T12:00:00Z",
        )
    })
}

/// Returns the name of this machine, or nothing if that would take a process.
fn host_name() -> String {
    let from_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let from_environment = || variable("COMPUTERNAME").or_else(|| variable("HOSTNAME"));
    let name = from_kernel.or_else(|| from_environment()?.into_string().ok());
    name.unwrap_or_default().trim().chars().take(255).collect()
}

/// Turns the limit on file sizes (`ulimit -f`) into an error instead of a fatal signal. Children
/// get it unchanged.
#[cfg(unix)]
fn survive_file_limit() {
    let flag = Arc::new(AtomicBool::new(false));
    // Without it the signal ends the process, which is safe.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, flag);
}

#[cfg(not(unix))]
fn survive_file_limit() {}

/// The first signal asks the verb to stop between two files; the second ends the process.
#[cfg(unix)]
fn stop_on_signals(stop: &Arc<AtomicBool>) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let code = crate::app::exit::INTERRUPTED.into();
        // The order matters: the conditional one must not see the flag that this same signal sets.
        let ends = signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(stop));
        if ends.is_ok() {
            // Without a handler the signal ends the process at once, which is safe at any
            // instruction too.
            let _ = signal_hook::flag::register(signal, Arc::clone(stop));
        }
    }
}

#[cfg(not(unix))]
fn stop_on_signals(_: &Arc<AtomicBool>) {}
