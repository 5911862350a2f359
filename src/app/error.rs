//! Errors, for people and for machines.

use bdr::{Error, ErrorKind};
use serde::Serialize;

use crate::app::exit;
use crate::ui::style::Style;
use crate::ui::{OutputError, Ui};

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    Engine(Box<Error>),
    /// An error of the engine, for which the command knows a better hint.
    Hinted {
        error: Box<Error>,
        hint: String,
    },
    /// The command line makes no sense, or lacks a flag.
    Usage {
        message: String,
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

    /// Replaces the hint, if `hint` knows one for this error.
    pub(crate) fn hinted(self, hint: impl FnOnce(&Error) -> Option<String>) -> Self {
        match self {
            Self::Engine(error) => match hint(&error) {
                Some(hint) => Self::Hinted { error, hint },
                None => Self::Engine(error),
            },
            other => other,
        }
    }

    /// Replaces the hint.
    pub(crate) fn with_hint(self, hint: String) -> Self {
        match self {
            Self::Engine(error) | Self::Hinted { error, .. } => Self::Hinted { error, hint },
            Self::Usage { message, .. } => Self::Usage {
                message,
                hint: Some(hint),
            },
            other => other,
        }
    }

    /// Adds what names a destination to a command that it says to type, if that reads backups.
    pub(crate) fn at(self, from: &str) -> Self {
        const READS: [&str; 7] = ["list", "find", "history", "ls", "cat", "restore", "diff"];
        let Some(hint) = self.hint().filter(|_| !from.is_empty()) else {
            return self;
        };
        // The command is all of it, or comes last.
        let command = match hint.strip_prefix("bdr ") {
            Some(command) => Some(command),
            None => hint.rsplit_once(": bdr ").map(|(_, command)| command),
        };
        let reads = command.is_some_and(|command| {
            let verb = command.split(' ').next().unwrap_or_default();
            let is_prose = command.contains([';', ',']) || command.contains(" shows ");
            READS.contains(&verb) && !is_prose && !command.contains("--from")
        });
        match reads {
            true => self.with_hint(format!("{hint}{from}")),
            false => self,
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Engine(error) | Self::Hinted { error, .. } => match (&**error, error.kind()) {
                (
                    Error::Invalid { .. }
                    | Error::NoKey { .. }
                    | Error::Expired { .. }
                    | Error::Unrecordable { .. },
                    _,
                )
                | (_, ErrorKind::Config) => exit::USAGE,
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
            Self::Output(error) if error.is_interrupted() => exit::INTERRUPTED,
            Self::Output(_) => exit::FAILURE,
        }
    }

    /// Returns true if nobody needs to hear of it: the reader of stdout has closed it, or the user
    /// pressed Ctrl-C at a question.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Output(error) if error.is_closed_pipe() || error.is_interrupted())
    }

    /// Returns the message, without causes.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Engine(error) | Self::Hinted { error, .. } => error.to_string(),
            Self::Usage { message, .. } => message.clone(),
            Self::Output(_) => "cannot write to standard output".to_owned(),
        }
    }

    /// Returns the next command to try.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) => error.hint(),
            Self::Hinted { hint, .. } => Some(hint.clone()),
            Self::Usage { hint, .. } => hint.clone(),
            Self::Output(_) => None,
        }
    }

    /// Returns its causes, outermost first.
    pub(crate) fn causes(&self) -> Vec<String> {
        let mut next: Option<&dyn std::error::Error> = match self {
            Self::Engine(error) | Self::Hinted { error, .. } => std::error::Error::source(&**error),
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

    /// Returns its code for `--json`.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Engine(error) | Self::Hinted { error, .. } => error.code(),
            Self::Usage { .. } => "usage",
            Self::Output(_) => "output",
        }
    }

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

    /// Returns the document for `--json`; `exit` is the code with which the process will end.
    pub(crate) fn document(&self, exit: u8) -> String {
        error_document(
            self.word(),
            &self.message(),
            self.hint(),
            &self.causes(),
            exit,
        )
    }

    /// Prints it, and returns the exit code.
    pub(crate) fn tell(&self, ui: &Ui) -> u8 {
        if self.is_silent() {
            return self.code();
        }
        if ui.json {
            // If this cannot be written either, the exit code has to be enough.
            let _ = ui.data(&self.document(self.code()));
        } else {
            ui.warn(&self.text(ui.err));
        }
        self.code()
    }
}

/// Returns the line that `--json` prints when a command fails.
pub(crate) fn error_document(
    code: &str,
    message: &str,
    hint: Option<String>,
    causes: &[String],
    exit: u8,
) -> String {
    let document = Document {
        schema: "bdr.error/1",
        ok: false,
        error: Details {
            code,
            message,
            hint: hint.as_deref(),
            causes,
            exit,
        },
    };
    // Only strings and numbers: cannot fail.
    let mut line = serde_json::to_string(&document).unwrap_or_default();
    line.push('\n');
    line
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    ok: bool,
    error: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    code: &'a str,
    message: &'a str,
    hint: Option<&'a str>,
    causes: &'a [String],
    exit: u8,
}

impl OutputError {
    fn is_closed_pipe(&self) -> bool {
        self.0.kind() == std::io::ErrorKind::BrokenPipe
    }

    fn is_interrupted(&self) -> bool {
        self.0.kind() == std::io::ErrorKind::Interrupted
    }
}
