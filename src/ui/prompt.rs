//! Questions. Only asked where [`super::Ui::can_ask`]; elsewhere the caller names the flag to add.

use super::OutputError;

/// Asks yes or no on stderr. Ctrl-C and Escape are no.
pub(crate) fn confirm(question: &str, default: bool) -> Result<bool, OutputError> {
    dialoguer::Confirm::new()
        .with_prompt(question)
        .default(default)
        .interact_opt()
        .map(|answer| answer.unwrap_or(false))
        .map_err(failed)
}

/// Asks for a line of text on stderr.
pub(crate) fn line(question: &str, default: &str) -> Result<String, OutputError> {
    dialoguer::Input::<String>::new()
        .with_prompt(question)
        .default(default.to_owned())
        .interact_text()
        .map_err(failed)
}

/// A question hides the cursor; Ctrl-C must not leave it so.
fn failed(error: dialoguer::Error) -> OutputError {
    let _ = dialoguer::console::Term::stderr().show_cursor();
    let dialoguer::Error::IO(error) = error;
    OutputError(error)
}
