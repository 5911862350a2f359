//! Keeps a repository healthy over years: retention, verification, drills, import, status.

pub mod alerts;
pub mod drill;
pub mod import;
pub mod preview;
pub mod prune;
pub mod removal;
pub mod repair;
pub mod rescan;
pub mod runs;
pub mod scan;
pub mod space;
pub mod status;
pub mod verify;
