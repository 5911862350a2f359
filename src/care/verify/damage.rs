//! Damage that a verification finds: which object, what is wrong with it, and what is lost with it.

use std::fmt;

use crate::base::error::Error;
use crate::base::id::SnapshotId;
use crate::base::path::RawName;
use crate::repo::MISSING;

#[derive(Debug, Clone)]
pub struct Damage {
    /// Pack, listing or record, by its name in the repository; or a restored path.
    pub name: String,
    pub reason: Harm,
    /// Files that cannot be restored because of it.
    pub lost: Vec<LostFile>,
}

/// A file that cannot be restored from a snapshot.
#[derive(Debug, Clone)]
pub struct LostFile {
    pub snapshot: SnapshotId,
    /// Its absolute path.
    pub path: RawName,
    /// The newest other snapshot with a good copy of the path.
    pub other: Option<SnapshotId>,
}

/// What is wrong with an object. Programs tell the cases apart; its text is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Harm {
    /// A pack that snapshots name does not exist.
    Missing,
    /// A record that others prove existed.
    RecordMissing,
    /// A snapshot that only the record of its operation names.
    NeededByUndo,
    Size {
        bytes: u64,
        expected: u64,
    },
    /// A range of zeros longer than any that bdr writes. What the file says of itself is not to be
    /// trusted then: it may claim any number of parts.
    Empty,
    Checksum,
    /// Some of the blobs in a pack cannot be read.
    Parts,
    /// A blob is needed, and in no pack.
    NoPack,
    /// All parts of a file exist, but are not its content.
    DoesNotAddUp,
    /// A recovery file differs from what bdr writes, and cannot be replaced.
    Recovery(Box<Self>),
    /// What the system or a parser said.
    Other(String),
}

impl Harm {
    /// Returns what an error says about the object that could not be read.
    pub(super) fn of(error: &Error) -> Self {
        Self::Other(match error {
            Error::Damaged { reason, .. } => reason.clone(),
            Error::Storage { source, .. } | Error::Io { source, .. } => source.to_string(),
            other => other.to_string(),
        })
    }

    /// Returns true if the object does not exist: then it is not its content that is wrong.
    pub fn is_missing(&self) -> bool {
        matches!(
            self,
            Self::Missing | Self::RecordMissing | Self::NeededByUndo
        )
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("it is missing"),
            Self::RecordMissing => f.write_str(MISSING),
            Self::NeededByUndo => {
                f.write_str("it is missing, and an operation needs it to be undone")
            }
            Self::Size { bytes, expected } => {
                write!(f, "it has {bytes} bytes instead of {expected}")
            }
            Self::Empty => f.write_str("much of it is empty"),
            Self::Checksum => f.write_str("its checksum does not match its name"),
            Self::Parts => f.write_str("parts of it cannot be read"),
            Self::NoPack => f.write_str("no pack has it"),
            Self::DoesNotAddUp => f.write_str("its parts exist but do not add up to the original"),
            Self::Recovery(why) => {
                write!(
                    f,
                    "it is not as bdr wrote it, and cannot be rewritten: {why}"
                )
            }
            Self::Other(said) => f.write_str(said),
        }
    }
}

/// Returns the damage of an object that could not be read, without what is lost because of it.
pub(super) fn damage(name: String, error: &Error) -> Damage {
    Damage {
        name,
        reason: Harm::of(error),
        lost: Vec::new(),
    }
}
