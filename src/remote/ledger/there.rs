//! Whether what was pushed to a directory of this machine is there, by a look at the directory alone.

use std::path::Path;

use crate::base::id::Id;
use crate::disk::fsutil;
use crate::remote::PREFIX;
use crate::remote::record::parse_file_name;

/// What a look at the directory of a destination says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    /// The newest record, or one that came later; or nothing was pushed, and nothing is missing.
    Here,
    /// There is no such directory: its disk is away.
    Away,
    /// A directory without what was pushed.
    Emptied,
    /// It does not answer.
    Silent,
}

impl There {
    /// Returns a stable word for machines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Away => "away",
            Self::Emptied => "emptied",
            Self::Silent => "silent",
        }
    }

    /// Looks for a machine's push of that number, or a later one.
    pub fn look(directory: &Path, pushed: Option<(Id, u64)>) -> Self {
        if fsutil::read_dir(directory).is_err() {
            return Self::Away;
        }
        let Some((machine, number)) = pushed else {
            return Self::Here;
        };
        let records = directory.join(PREFIX).join(machine.to_string());
        let names = fsutil::read_dir(records.join("pushes"));
        let mut names = names.into_iter().flatten().flatten();
        let is_record =
            |name: &str| parse_file_name(name).is_some_and(|(found, _)| found >= number);
        match names.any(|entry| entry.file_name().to_str().is_some_and(is_record)) {
            true => Self::Here,
            false => Self::Emptied,
        }
    }
}
