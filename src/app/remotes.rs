//! Destinations by name or URL: their stores, with credentials, and what opens them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bdr::base::id::Id;
use bdr::base::path::{absolute, shell_path};
use bdr::disk::store::{self, Conduct, Location, Store};
use bdr::model::config::Remote;
use bdr::remote::Destination;
use bdr::remote::crypt::Encryption;
use bdr::remote::destination::machines;
use bdr::remote::ledger::{At, Era, Ledger, Machine, Purged};
use bdr::remote::push::{Doubt, Link, PushOptions, PushReport, push};
use bdr::remote::reading::RemoteStorage;
use bdr::repo::Repository;
use clap::Args;

use super::context::Context;
use super::credentials::advised;
use super::error::Failure;
use super::identities::{KeyArgs, Opener};
use super::secrets;

mod place;
mod prune;

use place::check_filled;
pub(crate) use place::{
    check_alone, check_apart, directories, is_on_the_same_disk, kept_out, note_reached,
};
pub(crate) use prune::{Wanted, prune_at};

/// Where to read from instead of this machine's repository.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Another machine, or a destination")]
pub(crate) struct FromArgs {
    /// Read from a destination: its name, or its URL
    #[arg(long, value_name = "NAME|URL")]
    pub(crate) from: Option<String>,
    /// Whose backups, if several machines push there: its id or name (bdr machines)
    #[arg(long, value_name = "MACHINE", requires = "from")]
    pub(crate) machine: Option<String>,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
}

impl FromArgs {
    /// Returns the surroundings in which the repository is what they name.
    pub(crate) fn see(&self, cx: &Context) -> Result<Context, Failure> {
        let mut seen = cx.clone();
        if self.from.is_none() && self.key.is_given() {
            return Err(Failure::usage(
                "a key opens a destination, and none was named",
                "add --from NAME, or --from URL",
            ));
        }
        if let Some(place) = &self.from {
            let far = Far::find(cx, place)?;
            let (repo, _) = far.read(cx, self.machine.as_deref(), &self.key)?;
            seen.far = Some(repo);
            if let Ok(mut words) = cx.from_words.lock() {
                *words = self.words();
            }
        }
        Ok(seen)
    }
}

impl FromArgs {
    /// Returns how it was typed, for a command that a message names.
    fn words(&self) -> String {
        let word = |text: &str| shell_path(Path::new(text));
        let mut words = String::new();
        for (option, value) in [("--from", &self.from), ("--machine", &self.machine)] {
            if let Some(value) = value {
                words.push_str(&format!(" {option} {}", word(value)));
            }
        }
        for file in &self.key.identity {
            words.push_str(&format!(" --identity {}", shell_path(file)));
        }
        if let Some(file) = &self.key.passphrase_file {
            words.push_str(&format!(" --passphrase-file {}", shell_path(file)));
        }
        words
    }
}

/// Returns the directory of what is known of destinations, for one repository.
pub(crate) fn directory(cx: &Context, repository: Id) -> PathBuf {
    cx.destinations(repository)
}

/// Reads the address; a relative directory is one below the current directory.
pub(crate) fn located(cx: &Context, url: &str) -> Result<Location, Failure> {
    // Joined to the current directory, nothing would be that directory.
    let is_path =
        !url.is_empty() && !url.contains(':') && (url.contains('/') || cx.cwd.join(url).is_dir());
    if is_path || url.starts_with('~') {
        let below = url.strip_prefix("~/").zip(cx.home.as_ref());
        let path = match below {
            Some((rest, home)) => home.join(rest),
            None => absolute(&cx.cwd, Path::new(url)),
        };
        let Some(path) = path.to_str() else {
            let message = "the name of that directory is not UTF-8";
            return Err(Failure::usage(message, "name another directory"));
        };
        return Ok(Location::parse(path)?);
    }
    Ok(Location::parse(url)?)
}

/// A destination, by whatever name. One that is not in the configuration has no name.
pub(crate) struct Far {
    pub(crate) remote: Remote,
}

impl Far {
    /// Finds a destination by its name, or by an address as `bdr remote add` takes it.
    pub(crate) fn find(cx: &Context, place: &str) -> Result<Self, Failure> {
        let is_named = cx.config.remotes.iter().any(|remote| remote.name == place);
        if is_named || !place.contains([':', '/']) {
            return Ok(Self {
                remote: cx.config.remote(place)?.clone(),
            });
        }
        let url = located(cx, place)?.to_string();
        let known = cx.config.remotes.iter();
        let known = known
            .filter(|remote| remote.url == place || remote.url == url)
            .min_by_key(|remote| remote.url != place);
        Ok(Self {
            remote: known.cloned().unwrap_or_else(|| Remote::new("", &url)),
        })
    }

    /// Returns what messages call it.
    pub(crate) fn shown(&self) -> &str {
        match self.remote.name.is_empty() {
            true => &self.remote.url,
            false => &self.remote.name,
        }
    }

    /// Returns it as a word of a command: an address may have characters of the shell.
    pub(crate) fn word(&self) -> String {
        shell_path(Path::new(self.shown()))
    }

    /// Opens the store; nothing is asked of it yet.
    pub(crate) fn store(&self, cx: &Context) -> Result<Arc<dyn Store>, Failure> {
        let location = Location::parse(&self.remote.url)?;
        let conduct = Conduct {
            limit: self.remote.limit,
            stop: Arc::clone(&cx.stop),
            ..Conduct::default()
        };
        let (access, _) = super::credentials::of(cx, &self.remote, &location);
        let store = store::open(&location, &access, &conduct);
        Ok(store.map_err(|e| bdr::remote::failed(self.shown(), "open", &e))?)
    }

    /// Opens what a machine has pushed there.
    pub(crate) fn read(
        &self,
        cx: &Context,
        machine: Option<&str>,
        keys: &KeyArgs,
    ) -> Result<(Repository, Arc<RemoteStorage>), Failure> {
        let opener = Opener::new(cx, &self.remote.name, keys);
        let opened = self
            .chosen(cx, machine, &opener)
            .and_then(|machine| self.opened(cx, machine, &opener));
        opened.map_err(|failure| advised(cx, &self.remote, self.with_name(failure)))
    }

    /// Puts the destination into what the engine, which does not know what it is called, says to do.
    fn with_name(&self, failure: Failure) -> Failure {
        let Some(hint) = failure.hint().filter(|hint| hint.contains(" NAME")) else {
            return failure;
        };
        let hint = hint.replace(" NAME", &format!(" {}", self.word()));
        failure.with_hint(hint)
    }

    /// Opens what another machine has pushed there.
    pub(crate) fn read_other(
        &self,
        cx: &Context,
        word: &str,
        keys: &KeyArgs,
    ) -> Result<(Repository, Arc<RemoteStorage>), Failure> {
        let opener = Opener::new(cx, &self.remote.name, keys);
        let store = self.store(cx)?;
        let mut others = machines(&*store, self.shown())?;
        let own = own_machine(cx).filter(|own| others.contains(own));
        others.retain(|id| Some(*id) != own);
        let found = self.named(&store, &others, word, &opener);
        if let (Err(_), Some(own)) = (&found, own)
            && self.named(&store, &[own], word, &opener).is_ok()
        {
            return Err(Failure::usage(
                format!("{} is this machine", bdr::base::path::show(word.as_ref())),
                "bdr machines lists the others",
            ));
        }
        self.opened(cx, found?, &opener)
    }

    fn opened(
        &self,
        cx: &Context,
        machine: Id,
        opener: &Opener<'_>,
    ) -> Result<(Repository, Arc<RemoteStorage>), Failure> {
        let destination = Destination::new(self.store(cx)?, self.shown(), machine);
        let cache = cx.places.cache.join("remote").join(machine.to_string());
        let (repo, storage) = opener.open(&destination, &cache)?;
        let repo = cx.private(repo);
        // Records that do not count are named at the end, whatever the command makes of the rest.
        if let Ok(mut opened) = cx.opened.lock() {
            opened.push((repo.clone(), self.shown().to_owned()));
        }
        Ok((repo, storage))
    }

    /// Returns the machine that is meant: the named one, else the only one, else this one.
    pub(crate) fn machine(
        &self,
        cx: &Context,
        machine: Option<&str>,
        keys: &KeyArgs,
    ) -> Result<Id, Failure> {
        self.chosen(cx, machine, &Opener::new(cx, &self.remote.name, keys))
    }

    fn chosen(
        &self,
        cx: &Context,
        machine: Option<&str>,
        opener: &Opener<'_>,
    ) -> Result<Id, Failure> {
        let store = self.store(cx)?;
        let all = machines(&*store, self.shown())?;
        match (machine, &all[..]) {
            (_, []) => Err(Failure::usage(
                format!("no machine has pushed to {} yet", self.shown()),
                &match above(self.shown()) {
                    Some(place) => format!("name the directory that has `bdr1`: {place}"),
                    None => "on the machine that has the backups: bdr push".to_owned(),
                },
            )),
            (None, [one]) => Ok(*one),
            (None, several) => {
                let own = own_machine(cx).filter(|own| several.contains(own));
                own.ok_or_else(|| self.choose(&store, several, opener))
            }
            (Some(word), several) => self.named(&store, several, word, opener),
        }
    }

    /// Finds a machine by its id or its name.
    fn named(
        &self,
        store: &Arc<dyn Store>,
        machines: &[Id],
        word: &str,
        opener: &Opener<'_>,
    ) -> Result<Id, Failure> {
        let by_id: Vec<Id> = machines
            .iter()
            .copied()
            .filter(|id| id.matches(word))
            .collect();
        if let [one] = by_id[..] {
            return Ok(one);
        }
        let is_called = |id: &Id| {
            let destination = Destination::new(Arc::clone(store), self.shown(), *id);
            let held = opener.held(&destination);
            held.is_ok_and(|held| held.is_some_and(|held| held.all.host == word))
        };
        let called: Vec<Id> = machines.iter().copied().filter(is_called).collect();
        let shown = bdr::base::path::show(word.as_ref());
        if let [one] = called[..] {
            return Ok(one);
        }
        if !called.is_empty() {
            let ids: Vec<String> = called.iter().map(|id| id.prefix(machines)).collect();
            return Err(Failure::usage(
                format!("{} machines are called `{shown}`", called.len()),
                &format!("name one by its id: {}", ids.join(", ")),
            ));
        }
        Err(Failure::usage(
            format!("no machine `{shown}` pushes to {}", self.shown()),
            &format!("bdr machines {}", self.word()),
        ))
    }

    fn choose(&self, store: &Arc<dyn Store>, machines: &[Id], opener: &Opener<'_>) -> Failure {
        let name = |id: &Id| {
            let destination = Destination::new(Arc::clone(store), self.shown(), *id);
            Some(opener.held(&destination).ok()??.all.host)
        };
        let called: Vec<Option<String>> = machines
            .iter()
            .map(|id| name(id).filter(|host| !host.is_empty()))
            .collect();
        // A name that several have says nothing.
        let is_clear =
            |name: &Option<String>| called.iter().filter(|one| *one == name).count() == 1;
        let each = machines.iter().zip(&called);
        let names: Vec<String> = each
            .map(|(id, name)| match name {
                Some(host) if is_clear(name) => bdr::base::path::show(host.as_ref()),
                _ => id.prefix(machines),
            })
            .collect();
        Failure::usage(
            format!("{} machines push to {}", machines.len(), self.shown()),
            &format!("choose one with --machine: {}", names.join(", ")),
        )
    }
}

/// Returns the address above the part of one machine, for whoever named that.
fn above(url: &str) -> Option<String> {
    let url = url.trim_end_matches('/');
    let (above, last) = url.rsplit_once('/')?;
    match last == "bdr1" {
        true => Some(above.to_owned()),
        false => {
            last.parse::<Id>().ok()?;
            Some(above.strip_suffix("/bdr1")?.to_owned())
        }
    }
}

/// Returns who this machine is for its repository, if it pushed before.
pub(crate) fn own_machine(cx: &Context) -> Option<Id> {
    let id = bdr::repo::id_at(&cx.places.repository)?;
    Some(Machine::known(&directory(cx, id))?.id)
}

/// How long to wait for another push to the same destination.
const PATIENCE: Duration = Duration::from_secs(2);

/// More records of others are not remembered by name: who can write there could add any number.
const STRANGERS: usize = 1000;

/// Pushes to one destination, and remembers what came of it.
pub(crate) fn push_to(
    cx: &Context,
    repo: &Repository,
    remote: &Remote,
    check: bool,
) -> Result<PushReport, Failure> {
    let dir = directory(cx, repo.id()).join(&remote.name);
    let mut at = At::read(&dir).unwrap_or_default();
    let done = try_push(cx, repo, remote, check, &dir, &mut at);
    let done = done.map_err(|failure| advised(cx, remote, failure));
    at.failed = done.as_ref().err().map(Failure::message);
    if let Ok(report) = &done {
        at.url.clone_from(&remote.url);
        at.pushed = Some(cx.now);
        at.number = report.number.unwrap_or(at.number);
        at.newest = report.newest;
        at.snapshots = report.held;
        at.bytes = report.held_bytes;
        let room = STRANGERS.saturating_sub(at.strangers.len());
        at.strangers
            .extend(report.strangers.iter().take(room).cloned());
        if report.number.is_some() && at.is_for_others(&remote.recipients) {
            at.eras.push(Era {
                since: at.number,
                recipients: remote.recipients.clone(),
            });
        }
        if check {
            at.listed = Some(cx.now);
        }
    }
    // What was pushed is pushed: this is only what `bdr status` says of it.
    let _ = at.write(&dir);
    if done.is_ok() && Purged::read(&dir).is_some() {
        // What was replaced begins to wait, or has waited. If that fails, a later push tries again.
        prune::prune_automatically(cx, repo, remote);
    }
    done
}

/// Returns this machine's part of a destination, and what is known of it; `None` if nothing was pushed
/// there yet.
fn own_part(cx: &Context, remote: &Remote) -> Result<Option<(PathBuf, At, Destination)>, Failure> {
    let Some(id) = bdr::repo::id_at(&cx.places.repository) else {
        return Ok(None);
    };
    let dir = directory(cx, id);
    let at = At::read(&dir.join(&remote.name));
    let at = at.filter(|at| at.number > 0 && at.url == remote.url);
    let (Some(at), Some(machine)) = (at, Machine::known(&dir)) else {
        return Ok(None);
    };
    let far = Far {
        remote: remote.clone(),
    };
    let destination = Destination::new(far.store(cx)?, &remote.name, machine.id);
    Ok(Some((dir.join(&remote.name), at, destination)))
}

/// Puts locked identities at a destination now, if something was pushed there.
pub(crate) fn put_identities(cx: &Context, remote: &Remote) -> Result<(), Failure> {
    if let Some((dir, mut at, destination)) = own_part(cx, remote)? {
        secrets::put_identities(cx, remote, &destination, &mut at)?;
        at.write(&dir)?;
    }
    Ok(())
}

/// Removes a locked identity from a destination; returns false if it is kept there.
pub(crate) fn drop_identity(cx: &Context, remote: &Remote, name: &str) -> Result<bool, Failure> {
    let Some((dir, mut at, destination)) = own_part(cx, remote)? else {
        return Ok(true);
    };
    let is_gone = destination.drop_identity(name)?;
    at.identities.retain(|one| one != name);
    at.write(&dir)?;
    Ok(is_gone)
}

/// A listing is compared with what is known that often.
const LISTED_EVERY: chrono::TimeDelta = chrono::TimeDelta::days(7);

fn try_push(
    cx: &Context,
    repo: &Repository,
    remote: &Remote,
    check: bool,
    dir: &Path,
    at: &mut At,
) -> Result<PushReport, Failure> {
    let encryption = match remote.recipients.is_empty() {
        true => Encryption::None,
        false => Encryption::to(&remote.recipients)?.after(
            at.before(&remote.recipients),
            at.is_for_others(&remote.recipients),
        ),
    };
    check_apart(cx, remote)?;
    let machine = Machine::of(&directory(cx, repo.id()), cx.now)?;
    if let Some(signer) = machine.signer() {
        secrets::note_signer(cx, remote, (machine.id, signer));
    }
    let far = Far {
        remote: remote.clone(),
    };
    let store = far.store(cx)?;
    let destination = Destination::new(Arc::clone(&store), &remote.name, machine.id);
    let mut ledger = Ledger::open(dir, PATIENCE)?;
    if !at.url.is_empty() && at.url != remote.url {
        // Another place: what was known is about the old one.
        ledger.forget()?;
        *at = At::default();
    }
    check_encryption(remote, at, &encryption)?;
    encryption.word().clone_into(&mut at.encryption);
    let is_due = at
        .listed
        .is_none_or(|listed| cx.now - listed > LISTED_EVERY);
    // After a failure nobody knows what arrived.
    let doubt = at.failed.is_some() || (is_due && at.pushed.is_some());
    let service = Location::parse(&remote.url)?.service;
    let known = Doubt::read(dir, service, check);
    let options = PushOptions {
        now: cx.now,
        host: cx.host.clone(),
        encryption: &encryption,
        check: check || doubt || !known.damaged.is_empty(),
        doubt: known,
    };
    // Before anything is written: it would be on the disk below.
    let pushed = at.pushed.is_some();
    if !check && (options.check || !pushed) {
        check_filled(dir, remote, &*store, pushed)?;
    }
    if options.check {
        // Somebody may have removed them.
        at.identities.clear();
    }
    // Before the record: whoever can open that has to find the keys to the rest.
    secrets::put_identities(cx, remote, &destination, at)?;
    let report = push(
        Link {
            repo,
            destination: &destination,
            machine: &machine,
            ledger: &mut ledger,
        },
        &options,
        &cx.progress(),
    )?;
    if options.check || at.listed.is_none() {
        at.listed = Some(cx.now);
    }
    Doubt::note(dir, &[])?;
    Ok(report)
}

/// A destination is not half encrypted.
fn check_encryption(remote: &Remote, at: &At, encryption: &Encryption) -> Result<(), Failure> {
    if !at.encryption.is_empty() && at.encryption != encryption.word() {
        let was = match &*at.encryption {
            "none" => "not encrypted",
            _ => "encrypted",
        };
        return Err(Failure::usage(
            format!("what was pushed to `{}` until now is {was}", remote.name),
            "set it back (bdr config edit), or start anew beside it: bdr remote reset",
        ));
    }
    Ok(())
}

/// Returns the names of the destinations to which something of a repository was pushed.
pub(crate) fn pushed_to(cx: &Context, repository: Id) -> Vec<String> {
    let dir = directory(cx, repository);
    let was_pushed =
        |remote: &&Remote| At::read(&dir.join(&remote.name)).is_some_and(|at| at.number > 0);
    let pushed = cx.config.remotes.iter().filter(was_pushed);
    pushed.map(|remote| remote.name.clone()).collect()
}

/// Pushes to the destinations that are served by themselves, and prunes those that say what stays. What fails is remembered, shown by
/// `bdr status`, and told when it lasts: a disk that is not plugged in is no news every hour.
pub(crate) fn push_automatically(cx: &Context) {
    let remotes: Vec<&Remote> = cx
        .config
        .remotes
        .iter()
        .filter(|one| one.automatic)
        .collect();
    let Some(repo) = (!remotes.is_empty())
        .then(|| cx.repository().ok())
        .flatten()
    else {
        return;
    };
    for remote in remotes {
        if push_to(cx, &repo, remote, false).is_ok() {
            prune::prune_automatically(cx, &repo, remote);
        }
        if cx.is_stopped() {
            break;
        }
    }
}
