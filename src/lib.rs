//! The engine of bdr: snapshots before destruction, and the way back.
//!
//! A *repository* holds *snapshots*, immutable records of one moment. A snapshot covers *roots*; a
//! root's complete listing is a *manifest* of *entries*; a file's content is a list of *extents* of
//! *blobs*, which lie in *packs*. An *operation* is one guarded command, restore or undo in the
//! operation log. See `docs/ARCHITECTURE.md`.
//!
//! The library never prints, prompts, exits, reads environment variables or the clock. Each folder
//! below uses only itself and those above it in this list.

// The plan of the house, lowest floor first. `tests/it/architecture.rs` reads it here.

pub mod base;

pub mod effects;

pub mod privacy;

pub mod model;

pub mod disk;

pub mod repo;

pub mod protect;

pub mod recover;

pub mod find;

pub mod remote;

pub mod care;

pub mod install;

pub use base::error::{Error, ErrorKind, Result};
