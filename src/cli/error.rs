//! What went wrong, for people and for machines.

use bdr::{Error, ErrorKind};
use serde_json::{Value, json};

use super::exit;
use crate::ui::style::Style;
use crate::ui::{OutputError, Ui};

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The engine says so.
    Engine(Box<Error>),
    /// What was typed makes no sense, or lacks a flag.
    Usage {
        /// What is wrong.
        message: String,
        /// The next command.
        hint: Option<String>,
    },
    /// Standard output cannot be written, or a question cannot be asked.
    Output(OutputError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(Box::new(error))
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Self {
        Self::Output(error)
    }
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>, hint: &str) -> Self {
        Self::Usage {
            message: message.into(),
            hint: Some(hint.to_owned()),
        }
    }

    /// Returns the exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Engine(error) => match (&**error, error.kind()) {
                (Error::Invalid { .. }, _) | (_, ErrorKind::Config) => exit::USAGE,
                (Error::NotARepository { .. }, _) | (_, ErrorKind::NoRepository) => {
                    exit::NO_REPOSITORY
                }
                (_, ErrorKind::User | ErrorKind::Environment) => exit::FAILURE,
                (_, ErrorKind::Integrity) => exit::DAMAGED,
                (_, ErrorKind::Busy) => exit::BUSY,
                (_, ErrorKind::Interrupted) => exit::INTERRUPTED,
            },
            Self::Usage { .. } => exit::USAGE,
            Self::Output(error) if error.is_closed_pipe() => exit::OK,
            Self::Output(_) => exit::FAILURE,
        }
    }

    /// Returns true if nobody needs to hear of it: whoever read stdout has had enough.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Output(error) if error.is_closed_pipe())
    }

    /// Returns the message, without causes.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Engine(error) => error.to_string(),
            Self::Usage { message, .. } => message.clone(),
            Self::Output(_) => "cannot write to standard output".to_owned(),
        }
    }

    /// Returns the next command.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) => error.hint(),
            Self::Usage { hint, .. } => hint.clone(),
            Self::Output(_) => None,
        }
    }

    /// Returns what caused it, outermost first.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut next: Option<&dyn std::error::Error> = match self {
            Self::Engine(error) => std::error::Error::source(&**error),
            Self::Usage { .. } => None,
            Self::Output(error) => Some(&error.0),
        };
        let mut causes = Vec::new();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        causes
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.code(),
            Self::Usage { .. } => "usage",
            Self::Output(_) => "output",
        }
    }

    /// Returns the text for stderr.
    pub(crate) fn text(&self, style: Style) -> String {
        let mut text = format!("{} {}", style.red("error:"), self.message());
        for cause in self.causes() {
            text.push_str(&format!("\n  {cause}"));
        }
        if let Some(hint) = self.hint() {
            text.push_str(&format!("\n{} {hint}", style.cyan("hint:")));
        }
        text
    }

    /// Returns the document for stdout.
    pub(crate) fn document(&self) -> String {
        error_document(
            self.word(),
            &self.message(),
            self.hint(),
            &self.causes(),
            self.code(),
        )
    }

    /// Tells it, and returns the exit code.
    pub(crate) fn tell(&self, ui: &Ui) -> u8 {
        if self.is_silent() {
            return self.code();
        }
        if ui.json {
            // If this cannot be written either, the exit code has to say it.
            let _ = ui.data(&self.document());
        } else {
            ui.warn(&self.text(ui.err));
        }
        self.code()
    }
}

/// Returns the line that `--json` prints when a command failed.
pub(crate) fn error_document(
    code: &str,
    message: &str,
    hint: Option<String>,
    causes: &[String],
    exit: u8,
) -> String {
    let error: Value = json!({
        "code": code, "message": message, "hint": hint, "causes": causes, "exit": exit,
    });
    format!(
        "{}\n",
        json!({"schema": "bdr.error/1", "ok": false, "error": error})
    )
}

impl OutputError {
    fn is_closed_pipe(&self) -> bool {
        self.0.kind() == std::io::ErrorKind::BrokenPipe
    }
}
