//! Words that everything uses: errors, ids, paths, sizes, who watches and who works beside. Pure.

pub mod error;
pub mod id;
pub mod monitor;
pub mod path;
pub mod threads;
pub mod units;
