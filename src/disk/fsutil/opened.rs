//! Opens directories that their owner has closed, for a while.
//!
//! `chmod 000 d` hides from its owner what an undo has to read and restore. Root sees it anyway, so
//! nothing is opened for root.
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Closes again what it opened once it goes; a crash before that leaves directories open to their owner, and to nobody else.
#[derive(Debug, Default)]
pub struct Opened {
    /// Where, and the mode before; in the order in which they were opened.
    dirs: Vec<(PathBuf, u32)>,
    /// Nothing is opened: what would be.
    left: Option<Vec<PathBuf>>,
}

impl Opened {
    /// Returns one that opens nothing: to look is to change nothing, not even a time.
    pub fn only_looking() -> Self {
        Self {
            dirs: Vec::new(),
            left: Some(Vec::new()),
        }
    }

    /// Returns the directories that [`Opened::only_looking`] left closed.
    pub fn left(&self) -> &[PathBuf] {
        self.left.as_deref().unwrap_or_default()
    }

    /// Opens directories at and above `path`, from `root` down.
    pub fn way(&mut self, root: &Path, path: &Path) {
        let ways: Vec<&Path> = path
            .ancestors()
            .take_while(|above| above.starts_with(root))
            .collect();
        ways.into_iter().rev().for_each(|dir| self.open(dir));
    }

    /// Opens every directory at or below `root`.
    pub fn tree(&mut self, root: &Path) {
        if super::is_root() {
            return;
        }
        let mut left = vec![root.to_path_buf()];
        while let Some(dir) = left.pop() {
            self.open(&dir);
            let entries = super::read_dir(&dir).into_iter().flatten().flatten();
            let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            left.extend(dirs.map(|entry| entry.path()));
        }
    }

    /// Opens the same directories as another did.
    pub fn again(dirs: &[PathBuf]) -> Self {
        let mut opened = Self::default();
        dirs.iter().for_each(|dir| opened.open(dir));
        opened
    }

    fn open(&mut self, dir: &Path) {
        if super::is_root() || self.mode_of(dir).is_some() {
            return;
        }
        if let Some(left) = &mut self.left {
            if super::is_closed_to_owner(dir) && !left.iter().any(|other| other == dir) {
                left.push(dir.to_path_buf());
            }
            return;
        }
        if let Some(mode) = super::open_to_owner(dir) {
            self.dirs.push((dir.to_path_buf(), mode));
        }
    }

    /// Returns what was opened.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|(dir, _)| dir.clone()).collect()
    }

    /// Returns what was opened, with the modes before.
    pub fn modes(&self) -> HashMap<PathBuf, u32> {
        self.dirs.iter().cloned().collect()
    }

    /// Returns the mode that a directory had before it was opened.
    pub fn mode_of(&self, path: &Path) -> Option<u32> {
        let found = self.dirs.iter().find(|(dir, _)| dir == path);
        found.map(|(_, mode)| *mode)
    }

    /// Leaves directories as they are now.
    pub fn release(&mut self, is_done: impl Fn(&Path) -> bool) {
        self.dirs.retain(|(dir, _)| !is_done(dir));
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // Inner directories first: they could not be reached afterwards.
        for (dir, mode) in self.dirs.iter().rev() {
            if !super::set_dir_mode(dir, *mode) {
                below_closed(dir, *mode);
            }
        }
    }
}

/// Gives a directory its mode that lies below others that were closed in the meantime; those stay as they are.
fn below_closed(dir: &Path, mode: u32) {
    let mut way = Opened::default();
    let above: Vec<&Path> = dir.ancestors().skip(1).collect();
    for above in above.into_iter().rev() {
        if super::is_closed_to_owner(above) {
            way.open(above);
        }
    }
    super::set_dir_mode(dir, mode);
}
