//! Files and what is in them: writing safely, the storage of a repository, SQLite, the vault of
//! sealed values.

#[cfg(target_os = "linux")]
pub mod calls;
pub mod fsutil;
pub mod published;
pub mod sqlite;
pub mod storage;
pub mod store;
pub mod vault;
pub mod vcs;
