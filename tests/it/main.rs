//! All integration tests in one binary. They need the feature `test-support` (`sh tests/run` switches it on).

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests make and break files, and a failed call is a failed test"
)]

mod support;
mod synced;
mod told;
mod trust;

mod architecture;
mod away;
mod backup;
mod behind;
mod bound;
mod budget;
#[cfg(target_os = "linux")]
mod calls;
#[cfg(target_os = "linux")]
mod calls_joined;
mod captured;
mod care;
mod carried;
#[cfg(feature = "remote")]
mod carried_away;
mod claims;
mod concurrent;
mod config;
mod crash;
mod damage;
mod dashboard;
mod deploy;
mod detect;
mod documents;
mod doubted;
mod durable;
#[cfg(target_os = "linux")]
mod exports;
mod field;
mod forged;
mod format;
mod fuzzed;
mod gates;
mod guard;
mod hand;
mod histories;
mod hook;
mod hooks;
mod hostile;
mod identifiers;
mod import;
mod incident;
mod keys;
mod keys_changed;
#[cfg(feature = "remote")]
mod killed;
mod languages;
mod looked;
#[cfg(feature = "remote")]
mod many;
mod mcp;
mod metadata;
mod notify;
mod oplog;
mod outside;
mod precision;
mod privacy;
mod privacy_database;
mod privacy_published;
mod process;
mod property;
#[cfg(target_os = "linux")]
mod protected;
#[cfg(feature = "remote")]
mod providers;
mod prune;
mod purged;
mod pushed;
mod remotes;
mod repair;
mod rivals;
mod schedule;
mod sealed;
mod seeing;
#[cfg(target_os = "linux")]
mod session_hooks;
#[cfg(target_os = "linux")]
mod sessions;
mod signed;
mod sources;
mod space;
mod staging;
mod storage;
mod stores;
mod thinned;
mod undoing;
mod uninstall;
mod wandering;
mod words;
mod worlds;
mod year;
