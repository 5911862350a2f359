//! What `stat` tells about an object.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub enum Kind {
    #[default]
    #[serde(rename = "f")]
    File,
    #[serde(rename = "d")]
    Dir,
    #[serde(rename = "l")]
    Symlink,
    /// A FIFO: it has a name and metadata, but no content.
    #[serde(rename = "fifo")]
    Fifo,
    /// Listed, never stored.
    #[serde(rename = "socket")]
    Socket,
    /// Listed, never stored.
    #[serde(rename = "char")]
    CharDevice,
    /// Listed, never stored.
    #[serde(rename = "block")]
    BlockDevice,
}

impl Kind {
    /// Returns true if the kind can be stored and restored.
    ///
    /// A socket is useless without the process that listens on it, and the system makes devices.
    pub fn is_stored(self) -> bool {
        matches!(self, Self::File | Self::Dir | Self::Symlink | Self::Fifo)
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "directory",
            Self::Symlink => "symlink",
            Self::Fifo => "FIFO",
            Self::Socket => "socket",
            Self::CharDevice => "character device",
            Self::BlockDevice => "block device",
        }
    }

    /// Returns a small number for derived files.
    pub fn to_u8(self) -> u8 {
        match self {
            Self::File => 0,
            Self::Dir => 1,
            Self::Symlink => 2,
            Self::Fifo => 3,
            Self::Socket => 4,
            Self::CharDevice => 5,
            Self::BlockDevice => 6,
        }
    }

    /// Inverse of [`Kind::to_u8`].
    pub fn from_u8(number: u8) -> Option<Self> {
        [
            Self::File,
            Self::Dir,
            Self::Symlink,
            Self::Fifo,
            Self::Socket,
            Self::CharDevice,
            Self::BlockDevice,
        ]
        .get(usize::from(number))
        .copied()
    }
}

/// Seconds since 1970 and nanoseconds.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
pub struct Time(pub i64, pub u32);

impl Time {
    /// Returns nanoseconds since 1970, saturated to the range of an `i64` (the years 1678 to 2262).
    pub fn nanos(self) -> i64 {
        self.0
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::from(self.1))
    }
}

/// What `stat` tells about an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    pub kind: Kind,
    /// Permission and special bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of a file or symlink; 0 for directories.
    pub size: u64,
    /// Last change of content.
    pub mtime: Time,
    pub ctime: Time,
    pub inode: u64,
    pub device: u64,
    /// Number of hard links.
    pub links: u32,
}

/// Returns true if `stat` shows no change.
pub fn same_identity(a: &Stat, b: &Stat) -> bool {
    a.size == b.size
        && a.mtime == b.mtime
        && a.ctime == b.ctime
        && a.inode == b.inode
        && a.device == b.device
        && a.mode == b.mode
        && a.kind == b.kind
        && a.uid == b.uid
        && a.gid == b.gid
        && (a.links > 1) == (b.links > 1)
}
