//! Words that everything uses: errors, ids, paths, monitors, threads, units. Pure.

pub mod error;
pub mod id;
pub mod monitor;
pub mod path;
pub mod threads;
pub mod units;
