//! Temporarily opens directories that are closed to their owner.
//!
//! `chmod 000 d` hides from its owner what an undo has to read and restore. Root can read it
//! anyway, so nothing is opened for root.
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Closes the opened directories again when dropped; after a crash they stay open to their owner,
/// and to nobody else.
#[derive(Debug, Default)]
pub struct Opened {
    /// The directories and their original modes, in the order in which they were opened.
    dirs: Vec<(PathBuf, u32)>,
    /// If set, nothing is opened; collects what would have been.
    left: Option<Vec<PathBuf>>,
}

impl Opened {
    /// Creates one that opens nothing: a mere look must not change anything, not even a time.
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

    /// Opens closed directories at and above `path`, from `root` down.
    pub fn way(&mut self, root: &Path, path: &Path) {
        let ways: Vec<&Path> = path
            .ancestors()
            .take_while(|above| above.starts_with(root))
            .collect();
        ways.into_iter().rev().for_each(|dir| self.open(dir));
    }

    /// Opens every closed directory at or below `root`.
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

    /// Opens the directories that another one had opened.
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

    pub fn paths(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(|(dir, _)| dir.clone()).collect()
    }

    /// Returns the opened directories with their original modes.
    pub fn modes(&self) -> HashMap<PathBuf, u32> {
        self.dirs.iter().cloned().collect()
    }

    /// Returns the original mode of an opened directory.
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

/// Sets the mode of a directory below others that were closed meanwhile, which stay closed.
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
