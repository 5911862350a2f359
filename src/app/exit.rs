//! Exit codes. `docs/json.md` has the table for users; these are the source.

use std::process::ExitCode;

pub(crate) const OK: u8 = 0;
/// Failed; nothing that was acknowledged is lost.
pub(crate) const FAILURE: u8 = 1;
/// The command line or the configuration makes no sense.
pub(crate) const USAGE: u8 = 2;
/// Partly done: something could not be read or restored, a conflict is left, or a confirmation is
/// missing.
pub(crate) const PARTIAL: u8 = 3;
pub(crate) const DAMAGED: u8 = 4;
pub(crate) const NO_REPOSITORY: u8 = 10;
pub(crate) const BUSY: u8 = 11;
/// Stopped by the user or a signal.
pub(crate) const INTERRUPTED: u8 = 130;
/// `guard`: bdr failed and the command was not run.
pub(crate) const NOT_RUN: u8 = 125;
/// `guard`: the command was found but cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// `guard`: the command was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// Returns the code of a command that lists records: "damaged" if some could not be read.
pub(crate) fn of_listing(repo: &bdr::repo::Repository) -> u8 {
    match repo.unreadable().is_empty() {
        true => OK,
        false => DAMAGED,
    }
}

/// Converts a code for `main`.
pub(crate) fn leave(code: i32) -> ExitCode {
    if let Ok(code) = u8::try_from(code) {
        return ExitCode::from(code);
    }
    // Windows programs end with 32-bit codes, and a guard passes on its child's.
    #[expect(
        clippy::exit,
        clippy::disallowed_methods,
        reason = "ExitCode holds eight bits only"
    )]
    std::process::exit(code)
}
