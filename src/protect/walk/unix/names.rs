//! The names in a directory, read in one go and sorted as a state sorts them.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::RootHandle;
use crate::base::path::RepoPath;
use crate::disk::fsutil::{DIR_FLAGS, is_own_object, may_be_own, open_unlinked};

#[derive(Clone, Copy)]
pub(super) struct Names<'b> {
    heap: &'b [u8],
    ranges: &'b [(u32, u32)],
}

impl<'b> Names<'b> {
    fn with_nul(self, (start, end): (u32, u32)) -> &'b [u8] {
        &self.heap[start as usize..end as usize]
    }

    /// Returns the names, each with its NUL.
    pub(super) fn iter(self) -> impl Iterator<Item = &'b [u8]> {
        self.ranges.iter().map(move |range| self.with_nul(*range))
    }

    pub(super) fn contains(self, name: &[u8]) -> bool {
        let compare = |range: &(u32, u32)| {
            let other = self.with_nul(*range);
            other[..other.len() - 1].cmp(name)
        };
        self.ranges.binary_search_by(compare).is_ok()
    }
}

/// Buffers for reading directories, reused for each.
#[derive(Default)]
pub(super) struct Buffers {
    dir: Option<OwnedFd>,
    /// Names, each with its NUL.
    heap: Vec<u8>,
    names: Vec<(u32, u32)>,
    #[cfg(target_os = "linux")]
    raw: Vec<std::mem::MaybeUninit<u8>>,
}

impl Buffers {
    /// Returns the directory read last, with its names.
    pub(super) fn last(&self) -> Option<(BorrowedFd<'_>, Names<'_>)> {
        let names = Names {
            heap: &self.heap,
            ranges: &self.names,
        };
        Some((self.dir.as_ref()?.as_fd(), names))
    }

    pub(super) fn read(
        &mut self,
        handle: &RootHandle,
        path: &RepoPath,
    ) -> std::result::Result<(), Errno> {
        let Some(root) = &handle.dir else {
            return Err(Errno::NOTDIR);
        };
        self.heap.clear();
        self.names.clear();
        let name = if path.is_root() {
            c".".to_owned()
        } else {
            CString::new(path.as_bytes()).map_err(|_| Errno::INVAL)?
        };
        let dir = open_unlinked(root.as_fd(), &name, DIR_FLAGS)?;
        #[cfg(target_os = "linux")]
        {
            self.raw.resize(32 * 1024, std::mem::MaybeUninit::uninit());
            let mut entries = rustix::fs::RawDir::new(&dir, &mut self.raw);
            while let Some(entry) = entries.next() {
                let entry = entry?;
                push_name(&mut self.heap, &mut self.names, entry.file_name());
            }
        }
        #[cfg(not(target_os = "linux"))]
        for entry in rustix::fs::Dir::read_from(&dir)? {
            push_name(&mut self.heap, &mut self.names, entry?.file_name());
        }
        let heap = &self.heap;
        let name_of = |(start, end): (u32, u32)| &heap[start as usize..end as usize - 1];
        let is_own =
            |name: &[u8]| may_be_own(name) && is_own_object(&handle.absolute(&path.join(name)));
        self.names.retain(|name| !is_own(name_of(*name)));
        // Without the NUL, to sort as the state does.
        self.names.sort_unstable_by(|a, b| {
            heap[a.0 as usize..a.1 as usize - 1].cmp(&heap[b.0 as usize..b.1 as usize - 1])
        });
        self.dir = Some(dir);
        Ok(())
    }
}

fn push_name(heap: &mut Vec<u8>, names: &mut Vec<(u32, u32)>, name: &CStr) {
    let bytes = name.to_bytes_with_nul();
    if bytes == b".\0" || bytes == b"..\0" {
        return;
    }
    let start = heap.len() as u32;
    heap.extend_from_slice(bytes);
    names.push((start, heap.len() as u32));
}
