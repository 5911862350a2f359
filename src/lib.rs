//! The engine of bdr: snapshots before destruction, and the way back.
//!
//! A *repository* holds *snapshots*, immutable records of one moment. A snapshot covers *roots*; a root's complete listing is a *manifest*
//! of *entries*; a file's content is a list of *extents* of *blobs*, which lie in *packs*. An *operation* is one guarded command, restore or
//! undo in the operation log. See `docs/ARCHITECTURE.md`.
//!
//! The library never prints, prompts, exits, reads environment variables or the clock. Modules are listed by tier; each
//! uses only its own tier and those above it in this list.

// Tier 0: vocabulary. Pure.
pub mod agent;
pub mod compare;
pub mod config;
pub mod delta;
pub mod effects;
pub mod error;
pub mod id;
pub mod manifest;
pub mod merge;
pub mod monitor;
pub mod path;
pub mod privacy;
pub mod retention;
pub mod rules;
pub mod schedule;
pub mod threads;
pub mod units;

// Tier 1: bytes on disk.
pub mod fsutil;
pub mod storage;
pub mod vcs;

// Tier 2: the repository, and the files that it captures.
pub mod repo;
pub mod runs;
pub mod sqlite;
pub mod vault;
pub mod walk;

// Tier 3: verbs.
pub mod alerts;
mod apply;
pub mod backup;
mod capture;
pub mod discover;
pub mod drill;
pub mod guard;
pub mod import;
pub mod install;
pub mod prune;
pub mod query;
pub mod rescan;
pub mod restore;
pub mod scan;
pub mod select;
pub mod staging;
pub mod status;
pub mod undo;
pub mod unseal;
pub mod verify;
mod work;

pub use error::{Error, ErrorKind, Result};
