//! Seals content before it is stored: values are replaced, and a file that must not be stored at
//! all goes into the vault.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::base::error::{Error, IoContext as _, Result};
use crate::disk::fsutil;
use crate::disk::vault::{Vault, fingerprint_of};
use crate::model::manifest::Sealed;
use crate::privacy::{self, Examined, Fingerprint, Rules, Treatment, seal};
use crate::repo::Repository;

/// Piece size of a file that is all in the vault, in bytes: an append adds only new pieces.
const PIECE: usize = 1 << 20;
/// Large files are examined in windows of this size, in bytes.
const WINDOW: usize = 4 << 20;
/// Bytes at the beginning of a file that say what is in it.
const HEAD: u64 = 16 << 10;
/// Bytes after a window that are examined with it: longer than any value.
const AHEAD: usize = 64 << 10;

pub(super) enum Stored {
    /// The bytes as they are.
    Clear,
    /// The bytes as they are: what was found in them is public already.
    Public,
    /// These bytes instead.
    Sealed(Vec<u8>, Box<Sealed>),
    /// Nothing: all of it is in the vault.
    Whole(Box<Sealed>),
}

/// Collects what is sealed in one file.
struct Ledger<'a> {
    vault: &'a Vault,
    rules: &'a Rules,
    /// In the order of the file, each once; in `known` to find them.
    values: Vec<Fingerprint>,
    known: HashSet<Fingerprint>,
    kinds: BTreeMap<String, u64>,
    failed: Option<Error>,
}

impl<'a> Ledger<'a> {
    fn new(repo: &'a Repository) -> Self {
        Self {
            vault: repo.vault(),
            rules: repo.privacy_rules(),
            values: Vec::new(),
            known: HashSet::new(),
            kinds: BTreeMap::new(),
            failed: None,
        }
    }

    /// Takes a value and returns the fingerprint that replaces it, or `None` if the value may be
    /// stored.
    fn take(&mut self, value: &[u8], kind: &str) -> Option<Fingerprint> {
        let done = self.vault.fingerprint(value).and_then(|fingerprint| {
            if self.rules.allows_value(&fingerprint) {
                return Ok(None);
            }
            if kind != seal::LITERAL {
                self.vault.put(fingerprint, value)?;
                if self.known.insert(fingerprint) {
                    self.values.push(fingerprint);
                }
            }
            *self.kinds.entry(kind.to_owned()).or_default() += 1;
            Ok(Some(fingerprint))
        });
        match done {
            Ok(fingerprint) => fingerprint,
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }

    fn seal(&mut self, bytes: &[u8], seals: &[(Range<usize>, &'static str)]) -> Result<Vec<u8>> {
        let sealed = seal::seal(bytes, seals, &mut |value, kind| self.take(value, kind));
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(sealed),
        }
    }

    fn finish(self, mac: crate::base::id::Digest, size: u64, whole: bool) -> Box<Sealed> {
        Box::new(Sealed {
            mac,
            size,
            whole,
            values: self.values,
            kinds: self.kinds,
        })
    }
}

/// The replacement of bytes that must not be stored as they are.
pub(crate) struct Sealing {
    /// `None`: nothing is stored.
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) sealed: Box<Sealed>,
}

/// Seals bytes as a capture of a file at `path` would; `None` if there is nothing to seal.
///
/// # Errors
/// The vault cannot be written.
pub(crate) fn seal_bytes(repo: &Repository, path: &[u8], bytes: &[u8]) -> Result<Option<Sealing>> {
    Ok(match whole(repo, path, bytes)? {
        Stored::Clear | Stored::Public => None,
        Stored::Sealed(bytes, sealed) => Some(Sealing {
            bytes: Some(bytes),
            sealed,
        }),
        Stored::Whole(sealed) => Some(Sealing {
            bytes: None,
            sealed,
        }),
    })
}

/// Seals content that is in memory.
pub(super) fn whole(repo: &Repository, path: &[u8], bytes: &[u8]) -> Result<Stored> {
    let examined = privacy::examine(path, bytes, repo.privacy_rules());
    stored(repo, path, bytes, examined)
}

/// Seals what was appended to a file that begins with `head`.
pub(super) fn tail(repo: &Repository, path: &[u8], head: &[u8], bytes: &[u8]) -> Result<Stored> {
    let parts = privacy::Parts::later(path, head);
    let examined = parts.examine(path, bytes, repo.privacy_rules());
    stored(repo, path, bytes, examined)
}

fn stored(repo: &Repository, path: &[u8], bytes: &[u8], mut examined: Examined) -> Result<Stored> {
    if examined.treatment == Treatment::Clear {
        return Ok(Stored::Clear);
    }
    let place = PathBuf::from(crate::base::path::os_from_bytes(path));
    let through = repo
        .published()
        .let_through(&place, bytes, repo.privacy_rules(), &mut examined);
    // What is public is so at this place.
    let clear = match through.is_empty() {
        true => Stored::Clear,
        false => Stored::Public,
    };
    let mut ledger = Ledger::new(repo);
    match examined.treatment {
        Treatment::Clear => Ok(clear),
        Treatment::Seal => {
            let sealed = ledger.seal(bytes, &examined.seals)?;
            if ledger.kinds.is_empty() {
                return Ok(clear);
            }
            let mac = ledger.vault.digest(bytes)?;
            let size = sealed.len() as u64;
            Ok(Stored::Sealed(sealed, ledger.finish(mac, size, false)))
        }
        Treatment::Whole(_) => {
            note_kinds(&examined, &mut ledger.kinds);
            let mac = ledger.vault.digest(bytes)?;
            if ledger.rules.allows_value(&fingerprint_of(mac)) {
                return Ok(clear);
            }
            for piece in bytes.chunks(PIECE) {
                keep_piece(&mut ledger, piece)?;
            }
            Ok(Stored::Whole(ledger.finish(mac, 0, true)))
        }
    }
}

fn note_kinds(examined: &Examined, kinds: &mut BTreeMap<String, u64>) {
    for finding in &examined.findings {
        *kinds.entry(finding.kind.to_owned()).or_default() += 1;
    }
    if examined.findings.is_empty() {
        kinds.insert("unscanned".to_owned(), 1);
    }
}

/// Adds a piece of a file that is all in the vault. Pieces are listed in order, once for each
/// occurrence.
fn keep_piece(ledger: &mut Ledger<'_>, piece: &[u8]) -> Result<()> {
    let fingerprint = ledger.vault.fingerprint(piece)?;
    ledger.vault.put(fingerprint, piece)?;
    ledger.values.push(fingerprint);
    Ok(())
}

/// How a file is stored that is too large for memory.
pub(super) enum LargeStored {
    Clear,
    /// The content of this spool file, from its beginning.
    Sealed(Spool, Box<Sealed>),
    Whole(Box<Sealed>),
    /// The file was shorter than its stat said.
    Short,
}

/// A temporary file that is deleted with its handle.
pub(super) struct Spool {
    pub(super) file: File,
    path: std::path::PathBuf,
}

impl Drop for Spool {
    fn drop(&mut self) {
        // If it stays, it only costs space, and no secret is in it.
        let _ = fsutil::remove_file(&self.path);
    }
}

/// Seals a file that is too large for memory; its first `seen` bytes were examined before. Examines
/// it once in windows; writes a sealed copy only if something was found.
pub(super) fn large(
    repo: &Repository,
    path: &[u8],
    file: &File,
    size: u64,
    seen: u64,
) -> Result<LargeStored> {
    let rules = repo.privacy_rules();
    let mut kinds = BTreeMap::new();
    let (mut found, mut all) = (false, None);
    // Goes back a little before the end: a value may reach across.
    let from = seen.saturating_sub(AHEAD as u64);
    let mut look = |by_language| {
        found = false;
        windows(
            path,
            file,
            from..size,
            (rules, by_language),
            &mut |_, _, examined| {
                match examined.treatment {
                    Treatment::Clear => {}
                    Treatment::Seal => found = true,
                    Treatment::Whole(why) => {
                        note_kinds(examined, &mut kinds);
                        all = Some(why);
                    }
                }
                // One finding is enough to know that a sealed copy is needed; only patient data outside of
                // a log needs more.
                Ok(all.is_none())
            },
        )
    };
    let mut by_language = true;
    let mut end = look(by_language)?;
    if end == End::Lost {
        by_language = false;
        end = look(by_language)?;
    }
    if end != End::Whole && all.is_none() {
        return Ok(LargeStored::Short);
    }
    let mut ledger = Ledger::new(repo);
    if all.is_some() {
        ledger.kinds = kinds;
        return kept_whole(ledger, file, size);
    }
    match found {
        true => written_sealed(repo, ledger, path, (file, size), by_language),
        false => Ok(LargeStored::Clear),
    }
}

/// Stores all of a file in the vault, piece by piece, because nothing of such a file may be in the
/// repository.
fn kept_whole(mut ledger: Ledger<'_>, mut file: &File, size: u64) -> Result<LargeStored> {
    let failed = |error| Error::io("read", "a file", error);
    let mut mac = ledger.vault.mac()?;
    let mut left = size;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    while left > 0 {
        let mut piece = Vec::with_capacity(PIECE);
        let want = left.min(PIECE as u64);
        let read = (&mut file).take(want).read_to_end(&mut piece);
        let n = read.map_err(failed)? as u64;
        if n < want {
            return Ok(LargeStored::Short);
        }
        mac.update(&piece);
        keep_piece(&mut ledger, &piece)?;
        left -= n;
    }
    let mac = mac.finish();
    Ok(LargeStored::Whole(ledger.finish(mac, 0, true)))
}

/// Writes a copy of a file with the findings sealed. Examines it a second time, because remembering
/// every place would take too much memory.
fn written_sealed(
    repo: &Repository,
    mut ledger: Ledger<'_>,
    path: &[u8],
    (file, size): (&File, u64),
    by_language: bool,
) -> Result<LargeStored> {
    let rules = (repo.privacy_rules(), by_language);
    let mut spool = new_spool(&repo.cache().join("scratch"))?;
    let mut mac = ledger.vault.mac()?;
    let mut written = 0;
    let end = windows(path, file, 0..size, rules, &mut |bytes, cut, examined| {
        mac.update(&bytes[..cut]);
        let seals: Vec<_> = examined
            .seals
            .iter()
            .filter(|(range, _)| range.end <= cut)
            .cloned()
            .collect();
        let sealed = ledger.seal(&bytes[..cut], &seals)?;
        written += sealed.len() as u64;
        spool
            .file
            .write_all(&sealed)
            .context("write", &spool.path)?;
        Ok(true)
    })?;
    // Lost now, it was changed meanwhile.
    if end != End::Whole {
        return Ok(LargeStored::Short);
    }
    if ledger.kinds.is_empty() {
        return Ok(LargeStored::Clear);
    }
    let mac = mac.finish();
    Ok(LargeStored::Sealed(
        spool,
        ledger.finish(mac, written, false),
    ))
}

fn new_spool(dir: &Path) -> Result<Spool> {
    fsutil::create_dir_private(dir)?;
    let (file, path) = fsutil::create_temporary(dir, 0o600).context("write", dir)?;
    Ok(Spool { file, path })
}

/// Gets the bytes of a window, how many of them belong to it, and the findings; returns false to
/// stop.
type EachWindow<'a> = dyn FnMut(&[u8], usize, &Examined) -> Result<bool> + 'a;

/// How reading a file in windows ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// The file was shorter than it should be, or it was enough.
    Short,
    /// It is no program of its language after all.
    Lost,
}

/// Passes a file to `each` in windows: the bytes, how many of them belong to the window, and the
/// findings in them. A window ends where it cuts no finding and separates no name from its value.
/// Besides the rules: whether to read a program as what its name says.
fn windows(
    path: &[u8],
    file: &File,
    part: Range<u64>,
    (rules, by_language): (&Rules, bool),
    each: &mut EachWindow<'_>,
) -> Result<End> {
    let failed = |error| Error::io("read", "a file", error);
    let mut reader = file;
    let mut head = Vec::new();
    if part.start > 0 {
        reader.seek(SeekFrom::Start(0)).map_err(failed)?;
        reader.take(HEAD).read_to_end(&mut head).map_err(failed)?;
    }
    reader.seek(SeekFrom::Start(part.start)).map_err(failed)?;
    let size = part.end - part.start;
    let mut reader = reader.take(size);
    let mut buffer: Vec<u8> = Vec::with_capacity(WINDOW + AHEAD);
    let mut seen = 0;
    let mut parts: Option<privacy::Parts> = None;
    loop {
        let want = (WINDOW + AHEAD - buffer.len()) as u64;
        let n = (&mut reader)
            .take(want)
            .read_to_end(&mut buffer)
            .map_err(failed)?;
        seen += n as u64;
        let last = (n as u64) < want;
        if last && seen < size {
            return Ok(End::Short);
        }
        let parts = parts.get_or_insert_with(|| match part.start {
            0 => privacy::Parts::new(path, &buffer, by_language),
            _ => privacy::Parts::later(path, &head),
        });
        let examined = parts.examine(path, &buffer, rules);
        let cut = if last || seen == size {
            buffer.len()
        } else {
            cut_of(&buffer, &examined)
        };
        if !each(&buffer, cut, &examined)? {
            return Ok(End::Short);
        }
        parts.pass(&buffer[..cut]);
        buffer.drain(..cut);
        if buffer.is_empty() && seen == size {
            return Ok(match parts.is_lost() {
                true => End::Lost,
                false => End::Whole,
            });
        }
    }
}

/// Longest name with the text that joins it to its value, in bytes.
const NAME: usize = 512;

/// Returns where a window ends.
fn cut_of(buffer: &[u8], examined: &Examined) -> usize {
    // After the last line break, or in the middle of a line that never ends.
    let mut cut = memchr::memrchr(b'\n', &buffer[..WINDOW])
        .map_or(WINDOW, |p| p + 1)
        .max(WINDOW / 2);
    for (range, _) in &examined.seals {
        if range.start < cut + NAME && range.end > cut {
            cut = range.end;
        }
    }
    cut
}
