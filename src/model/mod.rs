//! What things are and what follows from it: entries, rules, policies, configuration, agents'
//! calls. Pure: nothing here reads a file.

pub mod agent;
pub mod compare;
pub mod config;
pub mod delta;
pub mod hosts;
pub mod manifest;
pub mod merge;
pub mod reason;
pub mod retention;
pub mod rules;
pub mod schedule;
