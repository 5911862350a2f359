//! Encryption of objects, in the format of age (<https://age-encryption.org/v1>).
//!
//! A machine has recipients: what it pushes, it cannot read again. Whoever restores has identities.

use std::io::{Read, Seek, Write as _};

use age::armor::ArmoredReader;
use age::secrecy::{ExposeSecret as _, SecretString};
use age::{DecryptError, scrypt, x25519};
use zeroize::Zeroizing;

use crate::base::error::{Error, Result};

/// The most work that opening an encrypted identity may cost: 2^22 is some seconds.
const MAX_WORK: u8 = 22;
/// Where the work factor of a new one ends: half a second, 64 MiB.
const WORK: u8 = 16;

type AnyRecipient = Box<dyn age::Recipient + Send + Sync>;
type AnyIdentity = Box<dyn age::Identity + Send + Sync>;

/// How objects of a destination are encrypted.
pub enum Encryption {
    /// They are not.
    None,
    /// To each of these.
    Age(Vec<AnyRecipient>),
}

impl Encryption {
    /// Parses recipients: `age1…`, and with SSH keys built in `ssh-ed25519 …` and `ssh-rsa …`.
    ///
    /// # Errors
    /// One is none, or there are none.
    pub fn to(recipients: &[String]) -> Result<Self> {
        if recipients.is_empty() {
            return Err(Error::invalid(
                "there is nobody to encrypt to",
                Some("add recipients = [\"age1…\"] to the destination: bdr config edit"),
            ));
        }
        let parsed = recipients.iter().map(|text| parse_recipient(text));
        Ok(Self::Age(parsed.collect::<Result<_>>()?))
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
        let Self::Age(recipients) = self else {
            return Ok(plain.to_vec());
        };
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
}

fn parse_recipient(text: &str) -> Result<AnyRecipient> {
    let text = text.trim();
    if let Ok(recipient) = text.parse::<x25519::Recipient>() {
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

/// What opens objects.
#[derive(Default)]
pub struct Identities(Vec<AnyIdentity>);

impl Identities {
    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds those of an identity file: lines of `AGE-SECRET-KEY-…`, a private SSH key, or either
    /// encrypted with a passphrase, which is asked for then.
    ///
    /// # Errors
    /// It is none, or the passphrase is wrong.
    pub fn add(&mut self, text: &[u8], passphrase: &dyn Fn() -> Option<String>) -> Result<()> {
        let not_one = |why: &str| {
            Error::invalid(
                format!("this is no identity: {why}"),
                Some("name the file of age-keygen, of the recovery sheet, or a private SSH key"),
            )
        };
        let is_armored = text.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----");
        if is_armored || text.starts_with(b"age-encryption.org/v1") {
            let given = passphrase().ok_or_else(|| {
                Error::invalid(
                    "this identity is protected by a passphrase",
                    Some("run it in a terminal, or set BDR_PASSPHRASE"),
                )
            })?;
            return self.add(&unlocked(text, given)?, &|| None);
        }
        #[cfg(feature = "ssh-keys")]
        if text.starts_with(b"-----BEGIN") {
            let identity = age::ssh::Identity::from_buffer(text, None);
            return match identity {
                Ok(age::ssh::Identity::Unencrypted(key)) => {
                    self.0.push(Box::new(age::ssh::Identity::Unencrypted(key)));
                    Ok(())
                }
                Ok(age::ssh::Identity::Encrypted(key)) => {
                    let given = passphrase().ok_or_else(|| not_one("it has a passphrase"))?;
                    let opened = key.decrypt(SecretString::from(given));
                    let key = opened.map_err(|_| not_one("the passphrase is wrong"))?;
                    self.0.push(Box::new(age::ssh::Identity::from(key)));
                    Ok(())
                }
                _ => Err(not_one("bdr does not know this kind of SSH key")),
            };
        }
        let text = std::str::from_utf8(text).map_err(|_| not_one("it is not text"))?;
        let lines = text.lines().map(str::trim);
        let before = self.0.len();
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let identity = line.parse::<x25519::Identity>();
            let identity = identity.map_err(|_| not_one("it has a line that is no secret key"))?;
            self.0.push(Box::new(identity));
        }
        match self.0.len() > before {
            true => Ok(()),
            false => Err(not_one("it has no key")),
        }
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
            .0
            .iter()
            .map(|identity| &**identity as &dyn age::Identity);
        decryptor.decrypt(each).map_err(|e| match e {
            DecryptError::NoMatchingKeys if self.0.is_empty() => Error::invalid(
                "this destination is encrypted, and there is no identity to open it",
                Some("name the file with the secret key, which the recovery sheet has: --identity FILE"),
            ),
            DecryptError::NoMatchingKeys => Error::invalid(
                "none of the identities opens this destination",
                Some("name the right file with the secret key, which the recovery sheet has: --identity FILE"),
            ),
            DecryptError::Io(e) => Error::storage("read", name, e),
            _ => Error::damaged(name, "its encryption is damaged"),
        })
    }
}

fn unlocked(text: &[u8], passphrase: String) -> Result<Zeroizing<Vec<u8>>> {
    let wrong = || {
        Error::invalid(
            "the passphrase is wrong, or the identity is damaged",
            Some("try again"),
        )
    };
    let mut identity = scrypt::Identity::new(SecretString::from(passphrase));
    identity.set_max_work_factor(MAX_WORK);
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

    /// Returns an identity file that a passphrase opens, for `age -d -i` as well.
    ///
    /// # Errors
    /// It cannot be encrypted.
    pub fn locked(&self, passphrase: &str) -> Result<Vec<u8>> {
        let mut recipient = scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
        recipient.set_work_factor(WORK);
        let encryption = Encryption::Age(vec![Box::new(recipient)]);
        let text = Zeroizing::new(format!("{}\n", *self.secret));
        encryption.encrypt(text.as_bytes())
    }
}

impl Default for Generated {
    fn default() -> Self {
        Self::new()
    }
}
