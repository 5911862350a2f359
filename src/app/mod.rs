//! Shared by the command line, the MCP server and the hooks: the surroundings of a call, jobs, and
//! the wording of results.

pub(crate) mod background;
pub(crate) mod backup;
pub(crate) mod changes;
pub(crate) mod config;
pub(crate) mod context;
pub(crate) mod credentials;
pub(crate) mod dashboard;
pub(crate) mod documents;
pub(crate) mod drill;
pub(crate) mod error;
pub(crate) mod exit;
pub(crate) mod guard;
pub(crate) mod identities;
pub(crate) mod jobs;
pub(crate) mod keychain;
pub(crate) mod levels;
pub(crate) mod log;
pub(crate) mod mask;
pub(crate) mod notify;
pub(crate) mod pager;
pub(crate) mod patch;
pub(crate) mod pick;
pub(crate) mod prune;
pub(crate) mod refs;
pub(crate) mod remotes;
pub(crate) mod schedule;
pub(crate) mod secrets;
pub(crate) mod signers;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod tick;
pub(crate) mod time;
pub(crate) mod verify;
