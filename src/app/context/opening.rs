//! Opens the repository of a command, with the privacy settings and the vault of this machine, and
//! brings it back from the lifeboat if somebody deleted it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bdr::base::id::Id;
use bdr::base::path::{shell_path, show};
use bdr::care::runs::Journal;
use bdr::disk::storage::{self, Place, Stands, Storage};
use bdr::disk::vault::Vault;
use bdr::repo::Repository;

use super::{Context, check_owner};
use crate::app::error::Failure;

impl Context {
    /// Returns the directory of what is known of destinations, for one repository.
    pub(crate) fn destinations(&self, repository: Id) -> PathBuf {
        let all = self.places.state.join("remotes");
        all.join(repository.to_string())
    }

    /// Opens the repository, and restores a deleted one from its lifeboat.
    pub(crate) fn repository(&self) -> Result<Repository, Failure> {
        if let Some(far) = &self.far {
            return Ok(far.clone());
        }
        let dir = &self.places.repository;
        if !self.places.named
            && let Ok(metadata) = std::fs::metadata(dir)
        {
            check_owner("repository", dir, &metadata)?;
        }
        let storage = self.storage(dir)?;
        self.check_place(dir, false)?;
        self.rescue(dir);
        let repo = Repository::open(storage, &self.places.cache);
        let repo = self.private(repo.map_err(|error| self.go_on(dir, error))?);
        if let Ok(mut opened) = self.opened.lock() {
            opened.push((repo.clone(), String::new()));
        }
        self.take_over(&repo);
        Ok(repo)
    }

    /// Records what a guard captured that did not live to do it, and what is still under way.
    #[cfg(target_os = "linux")]
    fn take_over(&self, repo: &Repository) {
        if self.sees_left {
            bdr::protect::calls::record_left(repo);
        }
        let never = [self.places.config.clone()];
        match bdr::protect::calls::recover(repo, &never, self.now) {
            Ok(recovered) => {
                for id in recovered {
                    let short = id.prefix(&[]);
                    self.ui.say(&format!(
                        "bdr: recorded what an interrupted guard had captured · undo: bdr undo {short}"
                    ));
                }
            }
            Err(error) => self.ui.warn(&format!(
                "bdr: what a guard had captured is not recorded yet; the next call of bdr tries again: {error}"
            )),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn take_over(&self, _repo: &Repository) {}

    /// Reports which records could not be read, whatever the command made of it: its answer came
    /// without them.
    pub(crate) fn tell_unreadable(&self) {
        const SHOWN: usize = 5;
        let Ok(opened) = self.opened.lock() else {
            return;
        };
        let unreadable = |(repo, _): &(Repository, String)| repo.unreadable();
        let bad: Vec<(String, String)> = opened.iter().flat_map(unreadable).collect();
        for (name, reason) in bad.iter().take(SHOWN) {
            let name = show(name.as_ref());
            self.ui
                .warn(&format!("bdr: `{name}` cannot be read: {reason}"));
        }
        if bad.len() > SHOWN {
            let more = crate::ui::plural((bad.len() - SHOWN) as u64, "more record");
            self.ui.warn(&format!("bdr: and {more}"));
        }
        // Those of a destination; a repository of this machine has no such directory.
        let is_far = |(name, _): &(String, String)| name.starts_with("pushes");
        if bad.iter().any(is_far) {
            let far = opened.iter().map(|(_, place)| place);
            for place in far.filter(|place| !place.is_empty()).take(1) {
                let place = shell_path(Path::new(place));
                self.ui.warn(&format!(
                    "bdr: to see what is at the destination: bdr verify --remote {place}"
                ));
            }
        } else if !bad.is_empty() {
            self.ui.warn("bdr: to see what is affected: bdr verify");
        }
    }

    /// Sets the rules for what is sealed, and this machine's vault.
    pub(crate) fn private(&self, repo: Repository) -> Repository {
        let privacy = &self.config.privacy;
        let home = self.home.as_ref().and_then(|home| home.to_str());
        let expand = |text: &String| match (text.strip_prefix("~/"), home) {
            (Some(rest), Some(home)) => format!("{home}/{rest}"),
            _ => text.clone(),
        };
        let rules = bdr::privacy::Rules {
            profile: privacy.profile,
            allow: privacy.allow.iter().map(expand).collect(),
            seal_published: privacy.seal_published,
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
            seal_published: self.config.privacy.seal_published,
        }
    }

    /// Makes sure that a missing repository is not on a disk that is away: then none is made in its
    /// place. `anew` allows another disk there.
    pub(crate) fn check_place(&self, repository: &Path, anew: bool) -> Result<(), Failure> {
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
    pub(super) fn remember_place(&self, repository: &Path) -> Option<Place> {
        let place = Place::of(repository)?;
        // If this fails, the lifeboat still has it.
        let _ = Journal::new(&self.places.state, repository).remember_place(&place);
        Some(place)
    }

    pub(super) fn rescue(&self, repository: &Path) {
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

    pub(crate) fn storage(&self, dir: &Path) -> bdr::Result<Arc<dyn Storage>> {
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
        let repo = Repository::create(storage, &self.places.cache, self.now);
        let repo = repo.map_err(|error| self.go_on(dir, error))?;
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

    /// Says how to go on where a clone was interrupted, of which a part is there, or where nothing is
    /// left and something was pushed.
    fn go_on(&self, dir: &Path, error: bdr::Error) -> Failure {
        let begun = dir.join(bdr::remote::clone::MARKER).symlink_metadata();
        let pushed = self.config.remotes.first().map(|remote| &*remote.name);
        let hint = match (&error, begun, pushed) {
            (bdr::Error::NotARepository { .. }, Ok(_), _) => Some(
                "a clone into it was interrupted: the same bdr clone again goes on with it"
                    .to_owned(),
            ),
            (bdr::Error::NoRepository { .. }, _, Some(name)) => Some(format!(
                "to begin anew: bdr init; what was pushed is brought back by: bdr clone {name}"
            )),
            _ => None,
        };
        Failure::from(error).hinted(|_| hint)
    }
}
