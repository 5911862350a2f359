//! Sealed values, on this machine only: a repository must not have them, but a restore here can put
//! them back.
//!
//! The vault is outside the repository, and leaves this machine only by [`Vault::export`], encrypted
//! with a passphrase. It is a directory of files `<16 hex digits>.vault`, each written once: a line that says what it is, then records of
//! fingerprint (8 bytes), flags (1), length (4, little-endian), nonce (24) and text:
//! XChaCha20-Poly1305 of the value, with the fingerprint as associated data. Fingerprints are the
//! first bytes of HMAC-SHA-256 with a key of this machine, which is next to the values and never in
//! a repository: without it a placeholder reveals nothing, and with it only values that can be
//! guessed.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use zeroize::{Zeroize as _, Zeroizing};

use crate::base::error::{Error, IoContext as _, Result};
use crate::base::id::Digest;
use crate::disk::fsutil;
use crate::privacy::Fingerprint;

mod binding;
mod carry;
mod index;
mod places;
mod rotate;

pub use binding::{Bound, KeyName, Kind as BoundKind};
pub use carry::{Exported, Imported, Parcel};

pub type Key = [u8; 32];

/// Where the key of the values is stored.
pub trait KeyStore: Send + Sync {
    /// Returns the key; creates one if there is none.
    ///
    /// # Errors
    /// Says why it is not available.
    fn key(&self) -> std::result::Result<Key, String>;

    /// Returns its name: "keychain", "file", "off".
    fn name(&self) -> String;
}

/// A key in a file of mode 0600.
#[derive(Debug, Clone)]
pub struct FileKey(pub PathBuf);

impl KeyStore for FileKey {
    fn key(&self) -> std::result::Result<Key, String> {
        read_or_make(&self.0).map_err(|e| e.to_string())
    }

    fn name(&self) -> String {
        "file".to_owned()
    }
}

/// No key, so no values are kept.
#[derive(Debug, Clone, Copy)]
pub struct NoKey;

impl KeyStore for NoKey {
    fn key(&self) -> std::result::Result<Key, String> {
        Err("the vault is off".to_owned())
    }

    fn name(&self) -> String {
        "off".to_owned()
    }
}

const HEADER: &[u8] = b"{\"format\":\"bdr-vault\",\"version\":1}\n";
/// Fingerprint, flags, length, nonce.
const RECORD: usize = 8 + 1 + 4 + 24;
const DEFLATED: u8 = 1;
/// Values from this size on are deflated, in bytes.
const WORTH_DEFLATING: usize = 512;
/// Values waiting for [`Vault::flush`] are written early beyond this many bytes.
const PENDING: usize = 8 << 20;
/// Younger files are not swept: the snapshot that needs them may not be written yet.
const GRACE: Duration = Duration::from_secs(24 * 3600);
/// How long swept values stay available.
const SWEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// The suffix of swept files.
const SWEPT_END: &str = "swept";

#[derive(Default)]
struct Inner {
    /// Where each value is: file, and offset of its record. Read on first use.
    index: Option<HashMap<Fingerprint, (usize, u64)>>,
    files: Vec<PathBuf>,
    pending: HashMap<Fingerprint, Vec<u8>>,
    pending_bytes: usize,
}

/// The sealed values of one repository on this machine.
pub struct Vault {
    dir: PathBuf,
    /// Hard links to the same files, in a place that survives if the home directory is deleted.
    second: Option<PathBuf>,
    keys: Arc<dyn KeyStore>,
    /// Location of the repository with these values; `None` if nobody shares them.
    owner: Option<PathBuf>,
    fingerprints: OnceLock<Zeroizing<Key>>,
    cipher: OnceLock<std::result::Result<Opened, String>>,
    binding: OnceLock<binding::Binding>,
    inner: Mutex<Inner>,
}

/// A cipher, and the identity of its key.
struct Opened {
    cipher: XChaCha20Poly1305,
    /// Digest of the key: shows that the key was replaced, without keeping it.
    key: Digest,
}

impl Opened {
    fn new(key: Key) -> Self {
        let key = Zeroizing::new(key);
        Self {
            cipher: XChaCha20Poly1305::new((&*key).into()),
            key: Digest::of(&*key),
        }
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Vault({})",
            crate::base::path::show(self.dir.as_os_str())
        )
    }
}

/// Computes the fingerprint of data that comes in pieces.
pub struct Mac(Hmac<Sha256>);

impl Mac {
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into_bytes().into())
    }
}

impl Vault {
    /// Returns the vault in `dir`. Reads and creates nothing until needed.
    pub fn new(dir: &Path, second: Option<&Path>, keys: Arc<dyn KeyStore>) -> Self {
        Self {
            dir: dir.to_path_buf(),
            second: second.map(Path::to_path_buf),
            keys,
            owner: None,
            fingerprints: OnceLock::new(),
            cipher: OnceLock::new(),
            binding: OnceLock::new(),
            inner: Mutex::default(),
        }
    }

    /// Sets the repository for which it is opened: copies of a repository share a vault.
    pub fn for_repository(mut self, location: &Path) -> Self {
        self.owner = Some(location.to_path_buf());
        self
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns where its key is stored: "keychain", "file", "off".
    pub fn key_name(&self) -> String {
        self.keys.name()
    }

    /// Returns why values cannot be kept, if they cannot.
    pub fn trouble(&self) -> Option<String> {
        self.cipher().err()
    }

    /// Returns why restored values cannot be compared with the originals, if they cannot: the key
    /// of the fingerprints is refused. The values themselves are verified by the other key.
    pub fn unproven(&self) -> Option<String> {
        let refused = read_key(&self.dir.join("fingerprint.key"));
        refused.err().map(|error| error.to_string())
    }

    fn cipher(&self) -> std::result::Result<&XChaCha20Poly1305, String> {
        self.opened().map(|opened| &opened.cipher)
    }

    fn opened(&self) -> std::result::Result<&Opened, String> {
        let opened = self.cipher.get_or_init(|| {
            self.bring_back();
            let opened = Opened::new(self.keys.key()?);
            self.second_names_of_the_key();
            Ok(opened)
        });
        opened.as_ref().map_err(Clone::clone)
    }

    /// Returns the key of the fingerprints; creates one if there is none.
    fn fingerprint_key(&self) -> Result<&Key> {
        if let Some(key) = self.fingerprints.get() {
            return Ok(key);
        }
        self.bring_back();
        let path = self.dir.join("fingerprint.key");
        let made = !path.exists();
        let key = Zeroizing::new(read_or_make(&path)?);
        if made {
            self.link(&path);
        }
        Ok(self.fingerprints.get_or_init(|| key))
    }

    /// Starts the keyed digest of a value.
    ///
    /// # Errors
    /// The key cannot be read or created.
    pub fn mac(&self) -> Result<Mac> {
        let key = self.fingerprint_key()?;
        // A key of any length is valid: cannot fail.
        Hmac::<Sha256>::new_from_slice(key)
            .map(Mac)
            .map_err(|e| Error::invalid(e.to_string(), None))
    }

    /// Returns the keyed digest of a value.
    ///
    /// # Errors
    /// As [`Vault::mac`].
    pub fn digest(&self, value: &[u8]) -> Result<Digest> {
        let mut mac = self.mac()?;
        mac.update(value);
        Ok(mac.finish())
    }

    /// Returns the fingerprint of a value.
    ///
    /// # Errors
    /// As [`Vault::mac`].
    pub fn fingerprint(&self, value: &[u8]) -> Result<Fingerprint> {
        Ok(fingerprint_of(self.digest(value)?))
    }

    /// Restores from the second place what the first one lost.
    fn bring_back(&self) {
        let Some(second) = &self.second else { return };
        if self.dir.join("fingerprint.key").exists() || !second.join("fingerprint.key").exists() {
            return;
        }
        if fsutil::create_dir_private(&self.dir).is_err() {
            return;
        }
        // A value that cannot be restored counts as missing and is reported.
        for entry in fsutil::read_dir(second).into_iter().flatten().flatten() {
            let _ = fsutil::link_or_copy(&entry.path(), &self.dir.join(entry.file_name()));
        }
    }

    /// Hard-links the key file, or the file that says where the key is. If that file is gone here,
    /// its link is removed too.
    fn second_names_of_the_key(&self) {
        let Some(second) = &self.second else { return };
        for name in ["vault.key", "vault.keychain"] {
            let (here, there) = (self.dir.join(name), second.join(name));
            match (here.exists(), there.exists()) {
                (true, false) => self.link(&here),
                (false, true) => drop(fsutil::remove_file(&there)),
                _ => {}
            }
        }
    }

    /// Hard-links a file to the second place. The vault works without it too.
    fn link(&self, path: &Path) {
        if let Some(second) = &self.second
            && let Some(name) = path.file_name()
            && fsutil::create_dir_private(second).is_ok()
        {
            let _ = fsutil::link_or_copy(path, &second.join(name));
        }
    }

    /// Returns true if there is a value, whether or not its key is available.
    pub fn has(&self, fingerprint: Fingerprint) -> bool {
        self.stays(fingerprint)
            || self.look_again() && self.stays(fingerprint)
            || self.in_swept(fingerprint).is_some()
    }

    fn swept_files(&self) -> Vec<PathBuf> {
        let entries = fsutil::read_dir(&self.dir).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == SWEPT_END))
            .collect()
    }

    fn in_swept(&self, fingerprint: Fingerprint) -> Option<(PathBuf, u64)> {
        self.swept_files().into_iter().find_map(|path| {
            let bytes = std::fs::read(&path).ok()?;
            let offset = records(&bytes).find(|(found, ..)| *found == fingerprint)?.1 as u64;
            Some((path, offset))
        })
    }

    /// Returns a swept value that has not been deleted yet.
    fn swept(&self, fingerprint: Fingerprint) -> Option<Vec<u8>> {
        let (path, offset) = self.in_swept(fingerprint)?;
        self.read(&path, offset)
    }

    /// Returns true if a value exists and is not swept.
    fn stays(&self, fingerprint: Fingerprint) -> bool {
        let inner = self.inner();
        inner.pending.contains_key(&fingerprint)
            || inner
                .index
                .as_ref()
                .is_some_and(|i| i.contains_key(&fingerprint))
    }

    /// Adds a value; durable after [`Vault::flush`]. Does nothing if values cannot be kept.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, fingerprint: Fingerprint, value: &[u8]) -> Result<()> {
        if self.cipher().is_err() || self.stays(fingerprint) {
            return Ok(());
        }
        let full = {
            let mut inner = self.inner();
            inner.pending.insert(fingerprint, value.to_vec());
            inner.pending_bytes += value.len();
            inner.pending_bytes > PENDING
        };
        if full { self.flush() } else { Ok(()) }
    }

    /// Writes the waiting values, durably.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn flush(&self) -> Result<()> {
        let mut inner = self.inner();
        if inner.pending.is_empty() {
            return Ok(());
        }
        let opened = self.opened().map_err(|why| Error::invalid(why, None))?;
        let (bytes, new) = sealed_file(&opened.cipher, &inner.pending)?;
        let path = self.publish(&bytes)?;
        self.follow_rotation(&path, opened.key, &inner.pending)?;
        let number = inner.files.len();
        inner.files.push(path);
        if let Some(index) = &mut inner.index {
            index.extend(new.into_iter().map(|(f, at)| (f, (number, at))));
        }
        for (_, mut value) in inner.pending.drain() {
            value.zeroize();
        }
        inner.pending_bytes = 0;
        Ok(())
    }

    fn publish(&self, bytes: &[u8]) -> Result<PathBuf> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|e| Error::io("write", &self.dir, std::io::Error::other(e)))?;
        fsutil::create_dir_private(&self.dir)?;
        if let Some(owner) = &self.owner {
            places::note(&self.dir, owner)?;
        }
        let path = self.dir.join(format!("{}.vault", hex::encode(random)));
        fsutil::write_atomic(&path, bytes, 0o600)?;
        self.link(&path);
        Ok(path)
    }

    /// Returns a value; `None` if it is missing, damaged, or its key is unavailable.
    pub fn get(&self, fingerprint: Fingerprint) -> Option<Vec<u8>> {
        let (path, offset) = {
            if !self.stays(fingerprint) {
                self.look_again();
            }
            let inner = self.inner();
            if let Some(value) = inner.pending.get(&fingerprint) {
                return Some(value.clone());
            }
            let Some((file, offset)) = inner.index.as_ref()?.get(&fingerprint).copied() else {
                drop(inner);
                return self.swept(fingerprint);
            };
            (inner.files.get(file)?.clone(), offset)
        };
        self.read(&path, offset)
    }

    fn read(&self, path: &Path, offset: u64) -> Option<Vec<u8>> {
        let cipher = self.cipher().ok()?;
        let mut file = File::open(path).ok()?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(offset)).ok()?;
        let mut head = [0; RECORD];
        file.read_exact(&mut head).ok()?;
        let length = u32::from_le_bytes([head[9], head[10], head[11], head[12]]) as usize;
        let mut text = vec![0; length];
        file.read_exact(&mut text).ok()?;
        open_record(cipher, &head, &text)
            .or_else(|| open_record(&self.next_cipher()?, &head, &text))
            // The key was changed after it was read here.
            .or_else(|| open_record(&self.cipher_in_file()?, &head, &text))
    }

    /// Sets unneeded values aside, and deletes those set aside long ago. Returns how many were set
    /// aside. `now` is for the age of files.
    ///
    /// Does nothing if another repository has values here too, because it may need what this one
    /// does not.
    ///
    /// # Errors
    /// The remaining values cannot be written.
    pub fn sweep(&self, needed: &HashSet<Fingerprint>, now: SystemTime) -> Result<u64> {
        self.flush()?;
        if let Some(owner) = &self.owner
            && !places::is_alone(&self.dir, owner, now)?
        {
            return Ok(0);
        }
        self.empty_swept(needed, now)?;
        let mut removed = 0;
        let files: Vec<PathBuf> = self.inner().files.clone();
        for path in files {
            let young = path
                .metadata()
                .and_then(|m| m.modified())
                .is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age < GRACE) || at > now);
            let Ok(bytes) = std::fs::read(&path) else {
                continue;
            };
            let all: Vec<_> = records(&bytes).collect();
            let (kept, gone): (Vec<_>, Vec<_>) = all.iter().partition(|(f, ..)| needed.contains(f));
            if young || gone.is_empty() {
                continue;
            }
            let of = |part: &[&(Fingerprint, usize, usize)]| {
                let mut text = HEADER.to_vec();
                for (_, at, end) in part {
                    text.extend_from_slice(&bytes[*at..*end]);
                }
                text
            };
            // First what stays, then what is set aside, then the old file goes: a crash in between
            // loses no value.
            if !kept.is_empty() {
                self.publish(&of(&kept))?;
            }
            // Its name says when; no other time on a disk is reliable.
            let since = now
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let aside = format!("{}-{name}.{SWEPT_END}", since.as_secs());
            fsutil::write_atomic(&self.dir.join(aside), &of(&gone), 0o600)?;
            removed += gone.len() as u64;
            let second = self
                .second
                .as_ref()
                .zip(path.file_name())
                .map(|(dir, name)| dir.join(name));
            for path in std::iter::once(path.clone()).chain(second) {
                fsutil::remove_file(&path).context("remove", &path)?;
            }
        }
        self.inner().index = None;
        Ok(removed)
    }

    /// Takes back values that are needed again; deletes the rest when their time is over.
    fn empty_swept(&self, needed: &HashSet<Fingerprint>, now: SystemTime) -> Result<()> {
        for path in self.swept_files() {
            let Ok(bytes) = std::fs::read(&path) else {
                continue;
            };
            let mut again = HEADER.to_vec();
            for (fingerprint, at, end) in records(&bytes) {
                if needed.contains(&fingerprint) && !self.stays(fingerprint) {
                    again.extend_from_slice(&bytes[at..end]);
                }
            }
            if again.len() > HEADER.len() {
                self.publish(&again)?;
                self.inner().index = None;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let since = name.split('-').next().and_then(|secs| secs.parse().ok());
            let since = since.map(|secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs));
            let over =
                since.is_some_and(|since| now.duration_since(since).is_ok_and(|age| age > SWEPT));
            if over {
                fsutil::remove_file(&path).context("remove", &path)?;
            }
        }
        Ok(())
    }

    /// Returns the number of values, and their bytes on disk.
    pub fn usage(&self) -> (u64, u64) {
        let inner = self.inner();
        let bytes = inner
            .files
            .iter()
            .filter_map(|f| f.metadata().ok())
            .map(|m| m.len())
            .sum();
        (inner.index.as_ref().map_or(0, HashMap::len) as u64, bytes)
    }
}

/// Where the record of each value begins.
type Offsets = Vec<(Fingerprint, u64)>;

/// Returns a file of values, and where the record of each begins: the offsets do not depend on the
/// key.
fn sealed_file(
    cipher: &XChaCha20Poly1305,
    values: &HashMap<Fingerprint, Vec<u8>>,
) -> Result<(Vec<u8>, Offsets)> {
    let mut bytes = HEADER.to_vec();
    let mut places = Vec::with_capacity(values.len());
    for (fingerprint, value) in values {
        places.push((*fingerprint, bytes.len() as u64));
        write_record(cipher, *fingerprint, value, &mut bytes)?;
    }
    Ok((bytes, places))
}

/// Returns the first bytes of a keyed digest, which are the fingerprint.
pub fn fingerprint_of(digest: Digest) -> Fingerprint {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest.0[..8]);
    Fingerprint(bytes)
}

/// Returns the records of a file: fingerprint, beginning, end. A torn end yields none.
fn records(bytes: &[u8]) -> impl Iterator<Item = (Fingerprint, usize, usize)> {
    let mut at = if bytes.starts_with(HEADER) {
        HEADER.len()
    } else {
        bytes.len()
    };
    std::iter::from_fn(move || {
        let head = bytes.get(at..at + RECORD)?;
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&head[..8]);
        let length = u32::from_le_bytes([head[9], head[10], head[11], head[12]]) as usize;
        let end = at.checked_add(RECORD)?.checked_add(length)?;
        let found = (end <= bytes.len()).then_some((Fingerprint(fingerprint), at, end));
        at = end;
        found
    })
}

fn write_record(
    cipher: &XChaCha20Poly1305,
    fingerprint: Fingerprint,
    value: &[u8],
    out: &mut Vec<u8>,
) -> Result<()> {
    let failed =
        |what: String| Error::invalid(format!("a value cannot be encrypted: {what}"), None);
    let mut flags = 0;
    let mut text = std::borrow::Cow::Borrowed(value);
    if value.len() >= WORTH_DEFLATING {
        let mut deflater =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        let deflated = deflater.write_all(value).and_then(|()| deflater.finish());
        text = deflated.map_err(|e| failed(e.to_string()))?.into();
        flags |= DEFLATED;
    }
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce).map_err(|e| failed(e.to_string()))?;
    let aad = [&fingerprint.0[..], &[flags]].concat();
    let payload = Payload {
        msg: &text,
        aad: &aad,
    };
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), payload)
        .map_err(|e| failed(e.to_string()))?;
    let length = u32::try_from(sealed.len()).map_err(|e| failed(e.to_string()))?;
    out.extend_from_slice(&fingerprint.0);
    out.push(flags);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&sealed);
    Ok(())
}

fn open_record(cipher: &XChaCha20Poly1305, head: &[u8; RECORD], text: &[u8]) -> Option<Vec<u8>> {
    let mut nonce = [0; 24];
    nonce.copy_from_slice(&head[13..]);
    let value = cipher
        .decrypt(
            &XNonce::from(nonce),
            Payload {
                msg: text,
                aad: &head[..9],
            },
        )
        .ok()?;
    if head[8] & DEFLATED == 0 {
        return Some(value);
    }
    let mut out = Vec::new();
    flate2::read::DeflateDecoder::new(&value[..])
        .read_to_end(&mut out)
        .ok()?;
    Some(out)
}

fn read_key(path: &Path) -> Result<Option<Key>> {
    match std::fs::read(path) {
        Ok(_) if let Some(command) = fsutil::closes(path) => {
            let message = format!(
                "other users can read the key `{}`, so it is not used: {command}",
                crate::base::path::show(path.as_os_str())
            );
            Err(Error::invalid(message, Some(&command)))
        }
        Ok(bytes) => match Key::try_from(&bytes[..]) {
            Ok(key) => Ok(Some(key)),
            Err(_) => Err(Error::damaged(
                crate::base::path::show(path.as_os_str()),
                "it is not a key of 32 bytes",
            )),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("read", path),
    }
}

/// Reads a key, or creates one. Two processes at the same time get the same one.
fn read_or_make(path: &Path) -> Result<Key> {
    if let Some(key) = read_key(path)? {
        return Ok(key);
    }
    let mut key = Key::default();
    getrandom::fill(&mut key).map_err(|e| Error::io("write", path, std::io::Error::other(e)))?;
    if let Some(dir) = path.parent() {
        fsutil::create_dir_private(dir)?;
    }
    match fsutil::write_new(path, &key, 0o600) {
        Ok(()) => Ok(key),
        // Another process was faster: use its key.
        Err(error) => read_key(path)?.ok_or(error),
    }
}
