//! Finding sources, snapshots and versions of files.

pub mod discover;
pub mod query;
pub mod select;
