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

/// Lines of a list that are shown at a time.
const LIST: usize = 15;

/// Has one of several lines chosen on stderr: arrows and Enter. Escape is none.
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

/// Has some of several lines chosen on stderr, all of which are at first: arrows, Space and Enter. Escape is `None`.
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
