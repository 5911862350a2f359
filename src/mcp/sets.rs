//! Sets of tools that are offered together.

/// Tools that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Set {
    /// checkpoint, diff_changes, undo_changes, find_versions
    Guard,
    /// create_backup, list_backups, verify_backup, restore_backup, get_backup_status
    Core,
    /// schedule_backup, cleanup_old_backups, export_backup_config
    Admin,
}

impl Set {
    /// Returns the word for the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Core => "core",
            Self::Admin => "admin",
        }
    }
}
