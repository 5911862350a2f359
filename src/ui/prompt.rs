//! Questions. Only asked where [`super::Ui::can_ask`]; elsewhere the caller names the flag to add.

use super::OutputError;

/// Asks yes or no on stderr. Ctrl-C and Escape are no.
pub(crate) fn confirm(question: &str, default: bool) -> Result<bool, OutputError> {
    dialoguer::Confirm::new()
        .with_prompt(question)
        .default(default)
        .interact_opt()
        .map(|answer| answer.unwrap_or(false))
        .map_err(|dialoguer::Error::IO(error)| OutputError(error))
}

/// Asks for a line of text on stderr.
pub(crate) fn line(question: &str, default: &str) -> Result<String, OutputError> {
    dialoguer::Input::<String>::new()
        .with_prompt(question)
        .default(default.to_owned())
        .interact_text()
        .map_err(|dialoguer::Error::IO(error)| OutputError(error))
}
