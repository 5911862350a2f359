//! Contents fit to be shown to a person or a model: never a secret value, never a patient's record,
//! and not more than is useful.

use std::io::{self, Read as _, Write};
use std::path::Path;

use bdr::base::path::{RepoPath, os_to_bytes};
use bdr::disk::fsutil::canonicalize;
use bdr::model::manifest::{Entry, Kind};
use bdr::model::rules::{Origin, Root};
use bdr::privacy::{self, Treatment, seal};
use bdr::protect::walk::RootHandle;
use bdr::repo::Repository;

/// Larger contents are not shown.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

/// Numbers the sealed values in their order. A fingerprint would tell anyone who can write to a
/// file whether a guess is right.
fn numbered(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut done = 0;
    for (number, one) in seal::placeholders(bytes).into_iter().enumerate() {
        let digits = one.fingerprint.to_string();
        let text = String::from_utf8_lossy(&bytes[one.range.clone()]);
        out.extend_from_slice(&bytes[done..one.range.start]);
        out.extend_from_slice(text.replace(&digits, &(number + 1).to_string()).as_bytes());
        done = one.range.end;
    }
    out.extend_from_slice(&bytes[done..]);
    out
}

/// Content that may be shown, or why not.
pub(crate) type Shown = Result<Vec<u8>, &'static str>;

/// Returns content with secrets and patients' records replaced, as a backup would store it. Stored
/// content was examined already, but not what waits in a staging area or is on disk.
pub(crate) fn masked(repo: &Repository, path: &Path, bytes: &[u8]) -> Shown {
    let rules = repo.privacy_rules();
    let name = os_to_bytes(path.as_os_str());
    let found = privacy::examine(&name, bytes, rules);
    match found.treatment {
        Treatment::Clear => Ok(bytes.to_vec()),
        Treatment::Whole(why) => Err(why),
        Treatment::Seal => {
            let mut failed = false;
            let sealed = seal::seal(bytes, &found.seals, &mut |value, _| match repo
                .vault()
                .fingerprint(value)
            {
                Ok(fingerprint) if rules.allows_value(&fingerprint) => None,
                Ok(fingerprint) => Some(fingerprint),
                Err(_) => {
                    failed = true;
                    None
                }
            });
            if failed {
                Err("it contains secrets, and the vault cannot be opened")
            } else {
                Ok(numbered(&sealed))
            }
        }
    }
}

/// Returns a snapshot's content of a file.
pub(crate) fn stored(repo: &Repository, path: &Path, entry: &Entry) -> bdr::Result<Shown> {
    if entry.kind != Kind::File {
        return Ok(Err("it is not a file"));
    }
    if entry.size > MAX_BYTES {
        return Ok(Err("it is larger than 1 MiB"));
    }
    let mut sink = Bounded(Vec::new());
    repo.read_content(entry, &mut sink)?;
    // Sealed content was examined, and its placeholders look like values.
    match entry.body.sealed {
        Some(_) => Ok(Ok(numbered(&sink.0))),
        None => Ok(masked(repo, path, &sink.0)),
    }
}

/// Returns the current content below a root, if `may_see` allows the directory that the root really
/// is.
pub(crate) fn standing(
    repo: &Repository,
    may_see: &dyn Fn(&Path) -> bool,
    root: &Path,
    path: &RepoPath,
    kind: Kind,
) -> Shown {
    if kind != Kind::File {
        return Err("it is not a file");
    }
    let real = canonicalize(root).map_err(|_| "it is gone")?;
    if !may_see(&real) {
        return Err("it is outside the protected roots");
    }
    let handle = RootHandle::of(&Root::resolved(real, Origin::Operand))
        .ok()
        .flatten()
        .ok_or("it is gone")?;
    let file = handle.open_file(path).map_err(|_| "it cannot be read")?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|_| "it cannot be read")?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err("it is larger than 1 MiB");
    }
    masked(repo, &path.to_path(root), &bytes)
}

/// Accepts no more than may be shown.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > 4 * MAX_BYTES as usize {
            return Err(io::Error::other(
                "it has more content than the listing says",
            ));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
