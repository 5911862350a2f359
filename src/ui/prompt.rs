//! Questions. Only asked where [`super::Ui::can_ask`]; elsewhere the caller names the flag to add.

use super::OutputError;

/// Asks yes or no on stderr; Enter gives the answer, as everywhere else. Ctrl-C and Escape are no.
pub(crate) fn confirm(question: &str, default: bool) -> Result<bool, OutputError> {
    forget_what_was_typed();
    dialoguer::Confirm::new()
        .with_prompt(question)
        .default(default)
        .wait_for_newline(true)
        .interact_opt()
        .map(|answer| answer.unwrap_or(false))
        .map_err(failed)
}

/// Asks for a line of text on stderr.
pub(crate) fn line(question: &str, default: &str) -> Result<String, OutputError> {
    forget_what_was_typed();
    dialoguer::Input::<String>::new()
        .with_prompt(question)
        .default(default.to_owned())
        .interact_text()
        .map_err(failed)
}

/// Keys that were pressed before a question was there are no answer to it: an Enter too many must not agree to what nobody has read.
#[cfg(unix)]
fn forget_what_was_typed() {
    use rustix::termios::{QueueSelector, tcflush};
    let _ = tcflush(std::io::stdin(), QueueSelector::IFlush);
}

/// Windows' console has no such queue that can be emptied without unsafe code.
#[cfg(not(unix))]
fn forget_what_was_typed() {}

/// A question hides the cursor; Ctrl-C must not leave it so.
fn failed(error: dialoguer::Error) -> OutputError {
    let _ = dialoguer::console::Term::stderr().show_cursor();
    let dialoguer::Error::IO(error) = error;
    OutputError(error)
}
