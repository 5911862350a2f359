//! Examines content before it is stored: not at all if it was examined before, only the end if a
//! log has grown.

use std::fs::File;
use std::io::Read as _;

use sha2::{Digest as _, Sha256};

use super::{Capture, seal};
use crate::base::error::Result;
use crate::base::id::Digest;
use crate::model::manifest::{Body, Content, Sealed};

/// A log as it was stored last: if it was only appended to, only the rest has to be examined.
pub(super) struct Head {
    pub(super) size: u64,
    pub(super) content: Content,
    pub(super) sealed: Option<Box<Sealed>>,
}

/// Smaller logs are examined as a whole, in bytes.
const MIN_HEAD: u64 = 16 * 1024;

impl Head {
    pub(super) fn of(body: &Body, size: u64) -> Option<Self> {
        let content = body.content.clone()?;
        let usable = size >= MIN_HEAD && content.as_kept().is_none();
        usable.then(|| Self {
            size,
            content,
            sealed: body.sealed.clone(),
        })
    }
}

impl Capture<'_> {
    /// Examines content, unless that was done before; also returns its digest, if that was needed.
    pub(super) fn look_at(
        &mut self,
        path: &[u8],
        bytes: &[u8],
        head: Option<&Head>,
    ) -> Result<(seal::Stored, Option<Digest>)> {
        if let Some(head) = head
            && let Some(found) = self.appended(path, bytes, head)?
        {
            return Ok((found, None));
        }
        let Some(verdicts) = &self.shared.verdicts else {
            return Ok((seal::whole(self.shared.repo, path, bytes)?, None));
        };
        let digest = Digest::of(bytes);
        let key = verdicts.key(self.shared.repo, digest, path);
        let found = match key.is_some_and(|key| verdicts.is_clear(key)) {
            true => seal::Stored::Clear,
            false => seal::whole(self.shared.repo, path, bytes)?,
        };
        if let Some(key) = key.filter(|_| matches!(found, seal::Stored::Clear)) {
            verdicts.note(key);
        }
        Ok((found, Some(digest)))
    }

    /// Examines what was appended to a log, from its last line on; `None` if the log was not only
    /// appended to.
    fn appended(&mut self, path: &[u8], bytes: &[u8], head: &Head) -> Result<Option<seal::Stored>> {
        let repo = self.shared.repo;
        let cut = usize::try_from(head.size).unwrap_or(usize::MAX);
        if cut >= bytes.len() {
            return Ok(None);
        }
        let before = &bytes[..cut];
        let Some(sealed) = &head.sealed else {
            let from = memchr::memrchr(b'\n', before).map_or(0, |p| p + 1);
            if Digest::of(before) != head.content.digest {
                return Ok(None);
            }
            let found = seal::tail(repo, path, before, &bytes[from..])?;
            // The usual case. If there is a finding, it is sealed with the whole file in view.
            let is_clear = matches!(found, seal::Stored::Clear | seal::Stored::Public);
            return Ok(is_clear.then_some(found));
        };
        if !before.ends_with(b"\n") || repo.vault().digest(before)? != sealed.mac {
            return Ok(None);
        }
        let Ok(mut text) = self.reader.to_vec(&head.content, sealed.size) else {
            return Ok(None);
        };
        let mut all = sealed.clone();
        match seal::tail(repo, path, before, &bytes[cut..])? {
            seal::Stored::Whole(_) => return Ok(None),
            seal::Stored::Clear | seal::Stored::Public => text.extend_from_slice(&bytes[cut..]),
            seal::Stored::Sealed(tail, new) => {
                text.extend_from_slice(&tail);
                for value in new.values {
                    if !all.values.contains(&value) {
                        all.values.push(value);
                    }
                }
                for (kind, number) in new.kinds {
                    *all.kinds.entry(kind).or_default() += number;
                }
            }
        }
        all.mac = repo.vault().digest(bytes)?;
        all.size = text.len() as u64;
        Ok(Some(seal::Stored::Sealed(text, all)))
    }

    /// Returns the offset from which a large log has to be examined: all before it was examined
    /// when it was stored.
    pub(super) fn seen_of(file: &File, head: Option<&Head>) -> Option<u64> {
        let head = head.filter(|head| head.sealed.is_none())?;
        let mut file = file;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(0)).ok()?;
        let mut hasher = Sha256::new();
        let mut left = head.size;
        let mut buffer = vec![0; 256 * 1024];
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |n| n.min(buffer.len()));
            let n = file.read(&mut buffer[..most]).ok().filter(|n| *n > 0)?;
            hasher.update(&buffer[..n]);
            left -= n as u64;
        }
        (Digest::finish(hasher) == head.content.digest).then_some(head.size)
    }
}
