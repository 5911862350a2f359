//! Questions. Only asked if [`super::Ui::can_ask`]; otherwise the caller names the flag to add.

use clap::Args;

use super::OutputError;

/// Takes `--yes` where nothing is asked: a script gives it to every command, and must not fail for
/// that.
#[derive(Debug, Clone, Args)]
pub(crate) struct NeverAsks {
    /// Do not ask (this command never does)
    #[arg(long, short, hide = true)]
    yes: bool,
}

/// Asks yes or no on stderr; Enter gives the default. Ctrl-C and Escape mean no.
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

/// How many lines of a list are shown at a time.
const LIST: usize = 15;

/// Lets the user choose one of several lines on stderr, with arrows and Enter. Escape means none.
pub(crate) fn choose(question: &str, items: &[String]) -> Result<Option<usize>, OutputError> {
    forget_what_was_typed();
    dialoguer::Select::new()
        .with_prompt(question)
        .items(items)
        .default(0)
        .max_length(LIST)
        .interact_opt()
        .map_err(failed)
}

/// Lets the user choose among several lines on stderr, all selected at first, with arrows, Space
/// and Enter. Escape is `None`.
pub(crate) fn choose_some(
    question: &str,
    items: &[String],
) -> Result<Option<Vec<usize>>, OutputError> {
    forget_what_was_typed();
    dialoguer::MultiSelect::new()
        .with_prompt(question)
        .items_checked(items.iter().map(|item| (item, true)))
        .max_length(LIST)
        .interact_opt()
        .map_err(failed)
}

/// Asks for a line of text on stderr; Enter alone is an empty one.
pub(crate) fn line_or_nothing(question: &str) -> Result<String, OutputError> {
    forget_what_was_typed();
    dialoguer::Input::<String>::new()
        .with_prompt(question)
        .allow_empty(true)
        .interact_text()
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

/// Discards keys pressed before the question appeared: one Enter too many must not agree to what
/// nobody has read.
#[cfg(unix)]
fn forget_what_was_typed() {
    use rustix::termios::{QueueSelector, tcflush};
    let _ = tcflush(std::io::stdin(), QueueSelector::IFlush);
}

/// Does nothing: the queue of a Windows console cannot be emptied without unsafe code.
#[cfg(not(unix))]
fn forget_what_was_typed() {}

/// Asks for a passphrase on stderr, without showing it; `twice` for a new one.
pub(crate) fn passphrase(twice: bool) -> Result<String, OutputError> {
    let mut question = dialoguer::Password::new().with_prompt("Passphrase");
    if twice {
        question =
            question.with_confirmation("Once more", "They differ. Once more from the beginning");
    }
    question.interact().map_err(failed)
}

/// Asks for a secret on stderr, without showing it; Enter alone is an empty one.
pub(crate) fn secret(question: &str) -> Result<String, OutputError> {
    dialoguer::Password::new()
        .with_prompt(question)
        .allow_empty_password(true)
        .interact()
        .map_err(failed)
}

/// A question hides the cursor; show it again after Ctrl-C.
fn failed(error: dialoguer::Error) -> OutputError {
    let _ = dialoguer::console::Term::stderr().show_cursor();
    let dialoguer::Error::IO(error) = error;
    OutputError(error)
}
