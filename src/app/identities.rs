//! What opens a destination: files, what this machine has, a passphrase, or somebody who types.

use std::cell::{OnceCell, RefCell};
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bdr::Error;
use bdr::base::error::IoContext as _;
use bdr::base::path::absolute;
use bdr::remote::crypt::{Generated, Identities};
use bdr::remote::destination::Holdings;
use bdr::remote::reading::RemoteStorage;
use bdr::remote::{Destination, open, words};
use bdr::repo::Repository;
use clap::Args;
use zeroize::Zeroizing;

use super::context::{Context, variable};
use super::error::Failure;
use super::{secrets, signers};
use crate::ui::prompt;

/// What opens a destination that is encrypted.
#[derive(Debug, Args, Default)]
pub(crate) struct KeyArgs {
    /// A file with the secret key, or with the words of the recovery sheet (-: standard input)
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) identity: Vec<PathBuf>,
    /// Read the passphrase of a destination from the first line of this file (or set BDR_REMOTE_PASSPHRASE)
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) passphrase_file: Option<PathBuf>,
}

impl KeyArgs {
    /// Returns true if something was given.
    pub(crate) fn is_given(&self) -> bool {
        !self.identity.is_empty() || self.passphrase_file.is_some()
    }

    /// Returns the passphrase that is given without a question. A new one is never that of the vault,
    /// which opens identity files as well.
    pub(crate) fn passphrase(
        &self,
        cx: &Context,
        is_new: bool,
    ) -> Result<Option<Zeroizing<String>>, Failure> {
        if let Some(file) = &self.passphrase_file {
            let file = absolute(&cx.cwd, file);
            let text = Zeroizing::new(std::fs::read_to_string(&file).context("read", &file)?);
            let line = text.lines().next().unwrap_or_default();
            return match line.is_empty() {
                true => Err(Failure::usage(
                    "the file with the passphrase has none in its first line",
                    "write the passphrase into it, or leave out --passphrase-file to be asked",
                )),
                false => Ok(Some(Zeroizing::new(line.to_owned()))),
            };
        }
        let given = ["BDR_REMOTE_PASSPHRASE", "BDR_PASSPHRASE"];
        let count = if is_new { 1 } else { given.len() };
        let given = given.into_iter().take(count).find_map(variable);
        let given = given.and_then(|value| value.into_string().ok());
        Ok(given.filter(|given| !given.is_empty()).map(Zeroizing::new))
    }
}

/// Opens destinations; asks for a thing once at most.
pub(crate) struct Opener<'a> {
    cx: &'a Context,
    /// The name of the destination, if it has one.
    name: &'a str,
    keys: &'a KeyArgs,
    passphrase: RefCell<Option<Zeroizing<String>>>,
    input: OnceCell<Zeroizing<Vec<u8>>>,
}

impl<'a> Opener<'a> {
    pub(crate) fn new(cx: &'a Context, name: &'a str, keys: &'a KeyArgs) -> Self {
        Self {
            cx,
            name,
            keys,
            passphrase: RefCell::default(),
            input: OnceCell::new(),
        }
    }

    /// Returns the given identities: files, else the one that `BDR_IDENTITY` names, else the keys that
    /// this machine has.
    pub(crate) fn identities(&self) -> Result<Identities, Failure> {
        let mut identities = signers::identities(self.cx)?;
        let given = variable("BDR_IDENTITY").filter(|_| self.keys.identity.is_empty());
        let mut files: Vec<PathBuf> = self.keys.identity.clone();
        files.extend(given.map(PathBuf::from));
        if files.is_empty() && !self.name.is_empty() {
            let made = secrets::key_file(self.cx, self.name);
            // A passphrase that is given is for the destination, not for what is here.
            if made.is_file() && self.keys.passphrase_file.is_none() {
                files.push(made);
            }
            for key in secrets::in_keychain(self.cx, self.name) {
                identities.add_key(&key)?;
            }
        }
        for file in files {
            let text = self.text(&file)?;
            identities.add(&text, &|| self.passphrase("Passphrase").ok().flatten())?;
        }
        Ok(identities)
    }

    /// Reads an identity file, or standard input.
    fn text(&self, file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
        if file != Path::new("-") {
            return read(self.cx, file);
        }
        if let Some(text) = self.input.get() {
            return Ok(text.clone());
        }
        let text = match std::io::stdin().is_terminal() && self.cx.ui.can_ask {
            true => Zeroizing::new(typed(self.cx)?.secret.as_bytes().to_vec()),
            false => read(self.cx, file)?,
        };
        Ok(self.input.get_or_init(|| text).clone())
    }

    /// Returns the passphrase, asked for once; `None` if there is none and nobody to ask.
    fn passphrase(&self, question: &str) -> Result<Option<String>, Failure> {
        if let Some(known) = &*self.passphrase.borrow() {
            return Ok(Some(known.to_string()));
        }
        let given = match self.keys.passphrase(self.cx, false)? {
            None if self.cx.ui.can_ask => Some(Zeroizing::new(prompt::secret(question)?)),
            given => given,
        };
        self.passphrase.borrow_mut().clone_from(&given);
        Ok(given.map(|given| given.to_string()))
    }

    /// Returns what a destination holds; asks for nothing but a passphrase.
    pub(crate) fn held(&self, destination: &Destination) -> Result<Option<Holdings>, Failure> {
        self.with(destination, &|identities| destination.held(identities))
    }

    /// Does something that needs what opens a destination; asks for nothing but a passphrase.
    pub(crate) fn with<T>(
        &self,
        destination: &Destination,
        act: &dyn Fn(&mut Identities) -> bdr::Result<T>,
    ) -> Result<T, Failure> {
        match act(&mut self.identities()?) {
            Err(error @ Error::NoKey { .. }) => match self.unlocked(destination, &error)? {
                Some(mut identities) => Ok(act(&mut identities)?),
                None => Err(error.into()),
            },
            other => Ok(other?),
        }
    }

    /// Opens a destination; whoever is at a terminal can type the key.
    pub(crate) fn open(
        &self,
        destination: &Destination,
        cache: &Path,
    ) -> Result<(Repository, Arc<RemoteStorage>), Failure> {
        let error = match open(destination, self.identities()?, cache) {
            Err(error @ Error::NoKey { .. }) => error,
            other => return Ok(other?),
        };
        let identities = match self.unlocked(destination, &error)? {
            Some(identities) => identities,
            None if self.cx.ui.can_ask && matches!(error, Error::NoKey { is_given: false }) => {
                let mut identities = signers::identities(self.cx)?;
                identities.add_key(&typed(self.cx)?)?;
                identities
            }
            None => return Err(error.into()),
        };
        Ok(open(destination, identities, cache)?)
    }

    /// Returns the keys that lie at the destination, if there are some that a passphrase opens and
    /// somebody has it.
    fn unlocked(
        &self,
        destination: &Destination,
        error: &Error,
    ) -> Result<Option<Identities>, Failure> {
        let is_wanted = self.keys.passphrase_file.is_some()
            || matches!(error, Error::NoKey { is_given: false });
        let mut locked = match is_wanted {
            true => destination.identities()?,
            false => Vec::new(),
        };
        locked.retain(|one| one.is_for_passphrase());
        if locked.is_empty() {
            return Ok(None);
        }
        let question = "Passphrase (Enter to type the secret key or its words instead)";
        let Some(passphrase) = self.passphrase(question)? else {
            return Err(Failure::usage(
                "this destination is encrypted; a passphrase opens it, and there is no terminal to ask on",
                "--passphrase-file FILE, or BDR_REMOTE_PASSPHRASE; or the secret key: --identity FILE",
            ));
        };
        if passphrase.is_empty() {
            return Ok(None);
        }
        let mut identities = signers::identities(self.cx)?;
        for one in &locked {
            for key in one.open(&passphrase).unwrap_or_default() {
                identities.add_key(&key)?;
            }
        }
        if !identities.is_empty() {
            return Ok(Some(identities));
        }
        let broken = locked.iter().find(|one| !one.is_whole());
        Err(match broken {
            Some(broken) => Failure::usage(
                format!("`{}` at the destination is damaged", broken.name),
                "use the secret key, or the words of the sheet: --identity FILE",
            ),
            None => Failure::usage(
                "the passphrase is wrong",
                "try again; or use the secret key: --identity FILE",
            ),
        })
    }
}

/// Reads a file, or with `-` standard input.
pub(crate) fn read(cx: &Context, file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut text = Zeroizing::new(Vec::new());
    if file == Path::new("-") {
        let mut stdin = std::io::stdin().lock().take(1 << 20);
        stdin.read_to_end(&mut text).context("read", "-")?;
        return Ok(text);
    }
    let file = absolute(&cx.cwd, file);
    *text = std::fs::read(&file).context("read", &file)?;
    Ok(text)
}

/// Lets somebody type a secret key, or the words of a sheet row by row; nothing of it is shown.
pub(crate) fn typed(cx: &Context) -> Result<Generated, Failure> {
    let start = "Paste the secret key, or type the words of the sheet, row by row (not shown)";
    let (mut text, mut count) = (Zeroizing::new(String::new()), 0);
    loop {
        let question = match count {
            0 => start.to_owned(),
            count => format!("{count} of {}; the next row", words::COUNT),
        };
        let row = Zeroizing::new(prompt::secret(&question)?);
        if row.trim().is_empty() {
            return Err(Error::NoKey { is_given: false }.into());
        }
        if count == 0
            && let Some(key) = Generated::parse(&row)
        {
            return Ok(key);
        }
        match words::check_row(&row, count) {
            Ok(more) if more > 0 => {
                text.push_str(&row);
                text.push('\n');
                count += more;
            }
            Ok(_) => cx.ui.warn("That is neither a secret key nor words."),
            Err(error) => cx.ui.warn(&format!("{error}. That row once more.")),
        }
        if count >= words::COUNT {
            match Generated::of_words(&text) {
                Ok(key) => return Ok(key),
                Err(error) => cx
                    .ui
                    .warn(&format!("{error}. Once more from the beginning.")),
            }
            (text, count) = (Zeroizing::new(String::new()), 0);
        }
    }
}
