//! What can be wrong, in words for machines.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Good,
    /// Somebody should look into it; current files are safe.
    Warning,
    /// Current files would be lost, or could not be restored.
    Critical,
}

impl Level {
    /// Returns the word for JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One thing that is wrong. It contains no path and no value except the name of a source, because
/// alerts are sent to other servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing is configured to be backed up.
    NoSource,
    /// There is no repository.
    NoRepository,
    /// The disk with the repository is missing.
    Away,
    /// Records of the repository, or listings of the last backup, are missing or cannot be read.
    Damaged {
        files: u64,
    },
    /// The content of files of the last backup was found damaged, or is missing.
    Lost {
        files: u64,
    },
    /// The last verification found damage, and no later one found it repaired.
    FoundDamaged {
        /// The number of damaged records, packs and files.
        objects: u64,
    },
    NoBackup,
    /// The last backup is too old.
    Overdue {
        last: DateTime<Utc>,
    },
    BackupFailing {
        /// The number of failures since the last success.
        failures: u32,
    },
    /// The last drill did not restore everything.
    DrillFailed,
    /// The directory of a source does not exist.
    SourceMissing {
        name: String,
    },
    /// Sources are configured that no backup contains yet.
    NotBackedUp {
        sources: u64,
    },
    /// The last backup could not read everything.
    Unread {
        /// The number of files and directories.
        problems: u64,
    },
    /// Files changed each time the last backup read them, so their stored content may be a mix of
    /// two versions.
    Torn {
        files: u64,
    },
    /// Backups run only when somebody starts them.
    NoSchedule,
    /// A schedule is configured, but no scheduler has an entry for it.
    NotInstalled,
    /// The scheduler has stopped waking bdr.
    NotWoken {
        last: DateTime<Utc>,
    },
    /// There is an entry, but the daemon that reads it is not running.
    NoDaemon,
    /// The entry starts another program than this one.
    Moved,
    /// The scheduler stops when the user logs out.
    NotLingering,
    /// There is no lifeboat, so a deleted repository could not be restored.
    NoLifeboat,
    /// The last prunes failed.
    PruneFailing {
        /// The number of failures since the last success.
        failures: u32,
    },
    /// The space for backups is nearly or completely used.
    Full {
        /// The percentage of the budget.
        percent: u64,
    },
    /// The last test of a restore was long ago.
    DrillOld {
        last: Option<DateTime<Utc>>,
    },
    /// Snapshots wait for a push to a destination for more than a day.
    NotPushed {
        name: String,
        last: Option<DateTime<Utc>>,
    },
    /// What a destination's own retention does not keep is not removed.
    NotPruned {
        name: String,
        last: Option<DateTime<Utc>>,
    },
    /// Nothing of what was pushed is left in a directory.
    Emptied {
        name: String,
    },
    /// Somebody else wrote below this machine's prefix at a destination.
    WrittenByOthers {
        name: String,
        records: u64,
    },
}

impl Trouble {
    pub fn level(&self) -> Level {
        match self {
            Self::NoSource
            | Self::NoRepository
            | Self::Away
            | Self::Damaged { .. }
            | Self::Lost { .. }
            | Self::FoundDamaged { .. }
            | Self::NoBackup
            | Self::Overdue { .. }
            | Self::DrillFailed => Level::Critical,
            // The backup before is still there.
            Self::BackupFailing { .. }
            | Self::SourceMissing { .. }
            | Self::NotBackedUp { .. }
            | Self::Unread { .. }
            | Self::Torn { .. }
            | Self::NoSchedule
            | Self::NotInstalled
            | Self::NotWoken { .. }
            | Self::NoDaemon
            | Self::Moved
            | Self::NotLingering
            | Self::NoLifeboat
            | Self::PruneFailing { .. }
            | Self::Full { .. }
            | Self::NotPushed { .. }
            | Self::NotPruned { .. }
            | Self::WrittenByOthers { .. }
            | Self::Emptied { .. }
            | Self::DrillOld { .. } => Level::Warning,
        }
    }

    /// Returns the word for JSON and alerts. Scripts rely on these words.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoSource => "no-source",
            Self::NoRepository => "no-repository",
            Self::Away => "away",
            Self::Damaged { .. } => "damaged",
            Self::Lost { .. } => "lost",
            Self::FoundDamaged { .. } => "found-damaged",
            Self::NoBackup => "no-backup",
            Self::Overdue { .. } => "overdue",
            Self::BackupFailing { .. } => "backup-failing",
            Self::DrillFailed => "drill-failed",
            Self::SourceMissing { .. } => "source-missing",
            Self::NotBackedUp { .. } => "not-backed-up",
            Self::Unread { .. } => "unread",
            Self::Torn { .. } => "torn",
            Self::NoSchedule => "no-schedule",
            Self::NotInstalled => "not-installed",
            Self::NotWoken { .. } => "not-woken",
            Self::NoDaemon => "no-daemon",
            Self::Moved => "moved",
            Self::NotLingering => "not-lingering",
            Self::NoLifeboat => "no-lifeboat",
            Self::PruneFailing { .. } => "prune-failing",
            Self::Full { .. } => "full",
            Self::DrillOld { .. } => "drill-old",
            Self::NotPushed { .. } => "not-pushed",
            Self::NotPruned { .. } => "not-pruned",
            Self::WrittenByOthers { .. } => "written-by-others",
            Self::Emptied { .. } => "emptied",
        }
    }

    /// Returns the command that fixes it or shows more.
    pub fn fix(&self) -> Cow<'static, str> {
        let command = match self {
            Self::NoSource => "bdr init",
            Self::NoRepository | Self::Away | Self::NoLifeboat => "bdr doctor",
            Self::NoBackup | Self::Overdue { .. } | Self::BackupFailing { .. } => "bdr backup",
            Self::Lost { .. } | Self::FoundDamaged { .. } => "bdr repair",
            Self::DrillFailed | Self::Damaged { .. } => "bdr verify",
            Self::SourceMissing { .. } => "bdr config check",
            Self::NotBackedUp { .. } | Self::Unread { .. } | Self::Torn { .. } => "bdr backup",
            Self::NoSchedule | Self::NotInstalled | Self::NotWoken { .. } | Self::Moved => {
                "bdr schedule install"
            }
            Self::NoDaemon => "sudo service cron start",
            Self::NotLingering => "loginctl enable-linger",
            Self::PruneFailing { .. } | Self::Full { .. } => "bdr prune --dry-run",
            Self::DrillOld { .. } => "bdr drill",
            Self::NotPushed { .. } => "bdr push",
            Self::NotPruned { name, .. } => {
                return Cow::Owned(format!("bdr prune --remote {name} --dry-run"));
            }
            Self::WrittenByOthers { name, .. } => {
                return Cow::Owned(format!("bdr verify --remote {name}"));
            }
            Self::Emptied { name } => return Cow::Owned(format!("bdr push {name}")),
        };
        Cow::Borrowed(command)
    }
}
