//! Encryption of objects, in the format of age (<https://age-encryption.org/v1>).
//!
//! A machine has recipients: what it pushes, it cannot read again. Whoever restores has identities.

use std::collections::HashMap;
use std::io::{Read, Seek, Write as _};

use age::armor::ArmoredReader;
use age::secrecy::{ExposeSecret as _, SecretString};
use age::{DecryptError, scrypt, tag, tagpq, x25519};
use bech32::{Bech32, Hrp};
use zeroize::Zeroizing;

use super::sign::{self, Signer};
use super::words;

use crate::base::error::{Error, Result};
use crate::base::id::Id;

/// The most work that opening an encrypted identity may cost: 2^22 is some seconds.
const MAX_WORK: u8 = 22;
/// The same for one that lies at a destination, where others may have put it: 1 GiB.
const MAX_WORK_FOUND: u8 = 20;
/// The work factor of a new one, as of age itself: about a second, and 256 MiB.
const WORK: u8 = 18;
/// How the text of a recovery sheet begins: the key is found in it.
pub const SHEET: &str = "RECOVERY SHEET of bdr";
/// How a secret key begins.
const SECRET: &str = "AGE-SECRET-KEY-1";

type AnyRecipient = Box<dyn age::Recipient + Send + Sync>;
type AnyIdentity = Box<dyn age::Identity + Send + Sync>;

/// How objects of a destination are encrypted.
pub enum Encryption {
    /// They are not.
    None,
    Age(To),
}

/// For whom objects are encrypted.
pub struct To {
    /// Each of these opens them.
    recipients: Vec<AnyRecipient>,
    /// The same as text.
    names: Vec<String>,
    /// For whom older objects may be.
    before: Vec<Vec<String>>,
    /// Nothing was pushed for these yet.
    is_new: bool,
}

impl Encryption {
    /// Parses recipients: `age1…`, also of hardware keys (`age1tag1…`, `age1tagpq1…`), and with SSH keys
    /// built in `ssh-ed25519 …` and `ssh-rsa …`.
    ///
    /// # Errors
    /// One is none, there are none, or nothing can be for all of them at once.
    pub fn to(recipients: &[String]) -> Result<Self> {
        if recipients.is_empty() {
            return Err(Error::invalid(
                "there is nobody to encrypt to",
                Some("add recipients = [\"age1…\"] to the destination: bdr config edit"),
            ));
        }
        let parsed = recipients.iter().map(|text| parse_recipient(text));
        let parsed: Vec<AnyRecipient> = parsed.collect::<Result<_>>()?;
        // A key that also holds against quantum computers refuses to be beside one that does not.
        if parsed.len() > 1 && encrypt(&parsed, b"").is_err() {
            return Err(Error::invalid(
                "nothing can be encrypted to all of these recipients at once",
                Some("age1tagpq1… goes only with others of its kind"),
            ));
        }
        Ok(Self::Age(To {
            recipients: parsed,
            names: recipients.to_vec(),
            before: Vec::new(),
            is_new: false,
        }))
    }

    /// Says for whom older objects are, and whether nothing was pushed for these recipients yet: then
    /// the next record has to say everything, because they open no older one.
    #[must_use]
    pub fn after(mut self, before: Vec<Vec<String>>, is_new: bool) -> Self {
        if let Self::Age(to) = &mut self {
            to.before = before;
            to.is_new = is_new;
        }
        self
    }

    /// Returns the recipients.
    pub(super) fn names(&self) -> &[String] {
        match self {
            Self::None => &[],
            Self::Age(to) => &to.names,
        }
    }

    /// Returns for whom older objects may be.
    pub(super) fn before(&self) -> &[Vec<String>] {
        match self {
            Self::None => &[],
            Self::Age(to) => &to.before,
        }
    }

    /// Returns true if nothing was pushed for these recipients yet.
    pub(super) fn is_new(&self) -> bool {
        matches!(self, Self::Age(to) if to.is_new)
    }

    /// Returns the word for records.
    pub fn word(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Age(_) => "age",
        }
    }

    /// Encrypts an object.
    ///
    /// # Errors
    /// A recipient refuses.
    pub fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::None => Ok(plain.to_vec()),
            Self::Age(to) => encrypt(&to.recipients, plain),
        }
    }
}

fn encrypt(recipients: &[AnyRecipient], plain: &[u8]) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| Error::Unrecordable {
        reason: format!("age cannot encrypt it: {e}"),
    };
    let each = recipients.iter().map(|r| &**r as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(each).map_err(|e| failed(&e))?;
    let mut bytes = Vec::with_capacity(plain.len() + plain.len() / 2048 + 1024);
    let written = encryptor.wrap_output(&mut bytes).and_then(|mut writer| {
        writer.write_all(plain)?;
        writer.finish().map(|_| ())
    });
    written.map_err(|e| failed(&e))?;
    Ok(bytes)
}

fn parse_recipient(text: &str) -> Result<AnyRecipient> {
    let text = text.trim();
    // More than one line may be anything: also a secret key, which the configuration would show.
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(
            "a recipient is one line",
            Some("give each by itself: --recipient age1… --recipient age1…"),
        ));
    }
    if let Ok(recipient) = text.parse::<x25519::Recipient>() {
        return Ok(Box::new(recipient));
    }
    if let Ok(recipient) = text.parse::<tag::Recipient>() {
        return Ok(Box::new(recipient));
    }
    if let Ok(recipient) = text.parse::<tagpq::Recipient>() {
        return Ok(Box::new(recipient));
    }
    #[cfg(feature = "ssh-keys")]
    if let Ok(recipient) = text.parse::<age::ssh::Recipient>() {
        return Ok(Box::new(recipient));
    }
    let shown: String = text.chars().take(24).collect();
    let shown = crate::base::path::show_bytes(shown.as_bytes());
    let hint = match (
        text.starts_with("AGE-SECRET-KEY-"),
        text.starts_with("ssh-"),
    ) {
        (true, _) => "this is the secret half: give the public one, which begins with age1",
        (_, true) => {
            "use an ed25519 or rsa key, in a bdr that was built with the feature `ssh-keys`"
        }
        _ => "a recipient begins with age1 (age-keygen), or is a public SSH key",
    };
    // The secret half of a key is not repeated.
    let message = match text.starts_with("AGE-SECRET-KEY-") {
        true => "this is no recipient".to_owned(),
        false => format!("`{shown}…` is no recipient"),
    };
    Err(Error::invalid(message, Some(hint)))
}

/// Returns true if the secret half is in a piece of hardware: bdr itself cannot use it, `age` with its
/// plug-in does.
pub fn is_in_hardware(recipient: &str) -> bool {
    recipient.starts_with("age1tag")
}

/// What opens objects, and what is known of who wrote them.
#[derive(Default)]
pub struct Identities {
    all: Vec<AnyIdentity>,
    /// The public halves, as far as they are known.
    known: Vec<String>,
    /// Who signs what a machine pushes.
    signers: HashMap<Id, Signer>,
}

impl Identities {
    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Says who signs what a machine pushes: nothing else of it is believed then. What was said first
    /// stays.
    pub fn trust(&mut self, machine: Id, signer: Signer) {
        self.signers.entry(machine).or_insert(signer);
    }

    /// Returns who signs what a machine pushes, if that is known.
    pub fn signer_of(&self, machine: Id) -> Option<Signer> {
        self.signers.get(&machine).copied()
    }

    /// Returns true if what is for these recipients can be opened for certain.
    pub fn opens(&self, recipients: &[String]) -> bool {
        let is_known = |one: &String| self.known.contains(&without_comment(one));
        recipients.iter().any(is_known)
    }

    /// Adds a key.
    ///
    /// # Errors
    /// It is none.
    pub fn add_key(&mut self, key: &Generated) -> Result<()> {
        let identity: x25519::Identity = key
            .secret
            .parse()
            .map_err(|_| not_one("a line of it is no secret key"))?;
        self.known.push(key.recipient.clone());
        self.all.push(Box::new(identity));
        Ok(())
    }

    /// Adds those of an identity file: lines of `AGE-SECRET-KEY-…`, the words of one, the text of a
    /// recovery sheet, a private SSH key, or any of these encrypted with a passphrase, which is asked
    /// for then.
    ///
    /// # Errors
    /// It is none, or the passphrase is wrong.
    pub fn add(&mut self, text: &[u8], passphrase: &dyn Fn() -> Option<String>) -> Result<()> {
        let is_armored = text.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----");
        if is_armored || text.starts_with(b"age-encryption.org/v1") {
            let given = passphrase().ok_or_else(|| {
                Error::invalid(
                    "this identity is protected by a passphrase",
                    Some("run it in a terminal, or set BDR_REMOTE_PASSPHRASE"),
                )
            })?;
            return self.add(&unlocked(text, given, MAX_WORK)?, &|| None);
        }
        #[cfg(feature = "ssh-keys")]
        if text.starts_with(b"-----BEGIN") {
            return self.add_ssh(text, passphrase);
        }
        for key in Generated::all_of(text)? {
            self.add_key(&key)?;
        }
        for (machine, signer) in sign::found_in(&String::from_utf8_lossy(text)) {
            self.trust(machine, signer);
        }
        Ok(())
    }

    #[cfg(feature = "ssh-keys")]
    fn add_ssh(&mut self, text: &[u8], passphrase: &dyn Fn() -> Option<String>) -> Result<()> {
        let key = match age::ssh::Identity::from_buffer(text, None) {
            Ok(age::ssh::Identity::Unencrypted(key)) => age::ssh::Identity::Unencrypted(key),
            Ok(age::ssh::Identity::Encrypted(key)) => {
                let given = passphrase().ok_or_else(|| not_one("it has a passphrase"))?;
                let opened = key.decrypt(SecretString::from(given));
                age::ssh::Identity::from(opened.map_err(|_| not_one("the passphrase is wrong"))?)
            }
            _ => return Err(not_one("bdr does not know this kind of SSH key")),
        };
        if let Ok(recipient) = age::ssh::Recipient::try_from(key.clone()) {
            self.known.push(without_comment(&recipient.to_string()));
        }
        self.all.push(Box::new(key));
        Ok(())
    }

    /// Returns the keys of a locked identity that lies at a destination, if these or the passphrase
    /// open it.
    pub(super) fn unlock(&self, bytes: &[u8], passphrase: Option<&str>) -> Option<Vec<Generated>> {
        let opened = match passphrase {
            Some(given) => unlocked(bytes, given.to_owned(), MAX_WORK_FOUND).ok()?,
            None => Zeroizing::new(self.decrypt("an identity", "age", bytes).ok()?),
        };
        Generated::all_of(&opened).ok()
    }

    /// Decrypts an object.
    ///
    /// # Errors
    /// No identity fits, or it is damaged.
    pub fn decrypt(&self, name: &str, encryption: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        match encryption {
            "none" => Ok(bytes.to_vec()),
            "age" => {
                let mut plain = Vec::with_capacity(bytes.len());
                let mut reader = self.reader(name, std::io::Cursor::new(bytes))?;
                reader
                    .read_to_end(&mut plain)
                    .map_err(|e| Error::damaged(name, e.to_string()))?;
                Ok(plain)
            }
            _ => Err(Error::damaged(name, "it is encrypted in an unknown way")),
        }
    }

    /// Returns a reader of the plain bytes of an object, which reads only what it needs.
    ///
    /// # Errors
    /// As [`Identities::decrypt`].
    pub fn reader<R: Read + Seek>(
        &self,
        name: &str,
        bytes: R,
    ) -> Result<age::stream::StreamReader<R>> {
        let decryptor = age::Decryptor::new(bytes).map_err(|e| match e {
            DecryptError::Io(e) => Error::storage("read", name, e),
            _ => Error::damaged(name, "it is not encrypted with age, or cut off"),
        })?;
        let each = self
            .all
            .iter()
            .map(|identity| &**identity as &dyn age::Identity);
        decryptor.decrypt(each).map_err(|e| match e {
            DecryptError::NoMatchingKeys => Error::NoKey {
                is_given: !self.is_empty(),
            },
            DecryptError::Io(e) => Error::storage("read", name, e),
            _ => Error::damaged(name, "its encryption is damaged"),
        })
    }
}

/// Returns a recipient without what ends a public SSH key: the name that somebody gave it.
fn without_comment(recipient: &str) -> String {
    let parts: Vec<&str> = recipient.split_whitespace().take(2).collect();
    parts.join(" ")
}

fn not_one(why: &str) -> Error {
    Error::invalid(
        format!("this is no identity: {why}"),
        Some("name the file of age-keygen, of the recovery sheet, or a private SSH key"),
    )
}

fn unlocked(text: &[u8], passphrase: String, max_work: u8) -> Result<Zeroizing<Vec<u8>>> {
    let wrong = || {
        Error::invalid(
            "the passphrase is wrong, or the identity is damaged",
            Some("try again"),
        )
    };
    let mut identity = scrypt::Identity::new(SecretString::from(passphrase));
    identity.set_max_work_factor(max_work);
    let decryptor = age::Decryptor::new(ArmoredReader::new(text)).map_err(|_| wrong())?;
    let each = std::iter::once(&identity as &dyn age::Identity);
    let mut reader = decryptor.decrypt(each).map_err(|_| wrong())?;
    let mut plain = Zeroizing::new(Vec::new());
    reader.read_to_end(&mut plain).map_err(|_| wrong())?;
    Ok(plain)
}

/// A generated key.
pub struct Generated {
    /// `AGE-SECRET-KEY-1…`: all of the recovery.
    pub secret: Zeroizing<String>,
    /// `age1…`
    pub recipient: String,
}

impl Generated {
    /// Makes a new key.
    pub fn new() -> Self {
        Self::of(&x25519::Identity::generate())
    }

    fn of(identity: &x25519::Identity) -> Self {
        Self {
            secret: Zeroizing::new(identity.to_string().expose_secret().to_owned()),
            recipient: identity.to_public().to_string(),
        }
    }

    /// Returns the key of a secret half; `None` if it is none.
    pub fn parse(secret: &str) -> Option<Self> {
        let identity: x25519::Identity = secret.trim().parse().ok()?;
        Some(Self::of(&identity))
    }

    /// Returns the key of 24 words.
    ///
    /// # Errors
    /// Says which word is none, or that the checksum is wrong.
    pub fn of_words(text: &str) -> Result<Self> {
        let secret = words::parse(text)?;
        let hrp = Hrp::parse("age-secret-key-").map_err(|_| not_one("it cannot be written"))?;
        let text = bech32::encode_upper::<Bech32>(hrp, &secret[..]).map(Zeroizing::new);
        let text = text.map_err(|_| not_one("it cannot be written"))?;
        Self::parse(&text).ok_or_else(|| not_one("these words are no key"))
    }

    /// Returns the secret half as words to write down.
    pub fn words(&self) -> Vec<&'static str> {
        let decoded = bech32::decode(&self.secret).map(|(_, bytes)| Zeroizing::new(bytes));
        let secret = decoded
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(&bytes[..]).ok());
        secret.map_or_else(Vec::new, |secret| words::of(&Zeroizing::new(secret)))
    }

    /// Returns the keys of a text: a file of `age-keygen`, the words of one, or a recovery sheet.
    ///
    /// # Errors
    /// It has none, or something that is none.
    pub fn all_of(text: &[u8]) -> Result<Vec<Self>> {
        let text = std::str::from_utf8(text).map_err(|_| not_one("it is not text"))?;
        let text = text.trim_start_matches('\u{feff}');
        let is_sheet = text.trim_start().starts_with(SHEET);
        let is_key = |line: &str| {
            line.get(..SECRET.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(SECRET))
        };
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        // Who signs may stand beside it.
        let lines = lines.filter(|line| sign::found_in(line).next().is_none());
        let lines: Vec<&str> = lines.filter(|line| !is_sheet || is_key(line)).collect();
        if lines.is_empty() {
            return Err(not_one("it has no key"));
        }
        if !lines.iter().any(|line| is_key(line)) && are_words(&lines) {
            return Ok(vec![Self::of_words(&Zeroizing::new(lines.join("\n")))?]);
        }
        let parse = |line: &&str| {
            Self::parse(line).ok_or_else(|| {
                not_one(match is_key(line) {
                    true => "its secret key was cut off or changed",
                    false => "it has a line that is no secret key",
                })
            })
        };
        lines.iter().map(parse).collect()
    }

    /// Returns an identity file that a passphrase opens, for `age -d -i` as well.
    ///
    /// # Errors
    /// It cannot be encrypted.
    pub fn locked(&self, passphrase: &str) -> Result<Vec<u8>> {
        locked(std::slice::from_ref(self), passphrase)
    }
}

/// Returns true for what is meant as words.
fn are_words(lines: &[&str]) -> bool {
    let fits = |c: char| c.is_alphanumeric() || c.is_whitespace() || ".,:;|()".contains(c);
    let count: usize = lines.iter().map(|line| words::split(line).count()).sum();
    count > 2 && lines.iter().all(|line| line.chars().all(fits))
}

/// Returns an identity file with several keys that a passphrase opens, for `age -d -i` as well.
///
/// # Errors
/// It cannot be encrypted.
pub fn locked(keys: &[Generated], passphrase: &str) -> Result<Vec<u8>> {
    let mut recipient = scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
    recipient.set_work_factor(WORK);
    encrypt(&[Box::new(recipient)], &lines(keys))
}

/// Returns an identity file with several keys that each of the recipients opens.
///
/// # Errors
/// One is no recipient, or it cannot be encrypted.
pub fn handed(keys: &[Generated], recipients: &[String]) -> Result<Vec<u8>> {
    Encryption::to(recipients)?.encrypt(&lines(keys))
}

fn lines(keys: &[Generated]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(keys.len() * 80));
    for key in keys {
        text.extend_from_slice(key.secret.as_bytes());
        text.push(b'\n');
    }
    text
}

impl Default for Generated {
    fn default() -> Self {
        Self::new()
    }
}
