//! How the program talks: data on stdout, everything else on stderr.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use serde_json::Value;

pub(crate) mod json;
mod lines;
pub(crate) mod progress;
pub(crate) mod prompt;
pub(crate) mod qr;
pub(crate) mod steps;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod when;

use style::Style;

#[derive(Debug)]
pub(crate) struct OutputError(pub(crate) io::Error);

/// Where and how to talk; decided once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    /// Print one JSON document instead of text.
    pub(crate) json: bool,
    /// Print only errors.
    pub(crate) quiet: bool,
    pub(crate) out: Style,
    pub(crate) err: Style,
    /// Somebody can be asked: stdin and stderr are terminals.
    pub(crate) can_ask: bool,
    pub(crate) bars: bool,
    /// Lines and signs beyond ASCII can be shown.
    pub(crate) unicode: bool,
    /// A pager may show text longer than the screen.
    pub(crate) pages: bool,
    /// Columns and lines of stdout's terminal; `None` for a file or a pipe.
    pub(crate) screen: Option<(usize, usize)>,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is dumb
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: String,
    ok: bool,
    data: &'a Value,
}

impl Ui {
    /// `plain` if the environment asks for no colour and no moving lines.
    pub(crate) fn new(json: bool, quiet: bool, color: ColorChoice, plain: bool) -> Self {
        let stderr_is_terminal = io::stderr().is_terminal();
        let colored = |terminal: bool| match color {
            ColorChoice::Auto => terminal && !plain,
            ColorChoice::Always => true,
            ColorChoice::Never => false,
        };
        Self {
            json,
            quiet,
            out: Style::new(colored(io::stdout().is_terminal())),
            err: Style::new(colored(stderr_is_terminal)),
            can_ask: !json && io::stdin().is_terminal() && stderr_is_terminal,
            bars: !json && !quiet && stderr_is_terminal,
            unicode: true,
            pages: !json && !plain,
            screen: io::stdout().is_terminal().then(screen),
        }
    }

    pub(crate) fn with_pager(self, pages: bool) -> Self {
        Self {
            pages: self.pages && pages,
            ..self
        }
    }

    /// Returns the columns of stdout's terminal, if it is one.
    pub(crate) fn width(&self) -> Option<usize> {
        self.screen.map(|(width, _)| width)
    }

    pub(crate) fn with_unicode(self, unicode: bool) -> Self {
        Self { unicode, ..self }
    }

    /// Writes requested data; not even `--quiet` hides it.
    pub(crate) fn data(&self, text: &str) -> Result<(), OutputError> {
        self.data_bytes(text.as_bytes())
    }

    pub(crate) fn data_bytes(&self, bytes: &[u8]) -> Result<(), OutputError> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .map_err(OutputError)
    }

    /// Writes requested data that people read: on a terminal, no line is broken within a word.
    pub(crate) fn prose(&self, text: &str) -> Result<(), OutputError> {
        match self.width() {
            Some(columns) => self.data(&lines::broken(text, columns)),
            None => self.data(text),
        }
    }

    /// Writes a command's report about its work; `--quiet` hides it.
    pub(crate) fn report(&self, text: &str) -> Result<(), OutputError> {
        if self.quiet { Ok(()) } else { self.prose(text) }
    }

    /// Writes the JSON document of a command; `exit` is its future exit code.
    pub(crate) fn document(
        &self,
        command: &str,
        exit: u8,
        data: &impl Serialize,
    ) -> Result<(), OutputError> {
        self.data(&document(command, exit, data))
    }

    /// Prints a line on stderr.
    pub(crate) fn say(&self, line: &str) {
        if !self.quiet {
            self.warn(line);
        }
    }

    /// Prints a line on stderr that `--quiet` does not hide.
    pub(crate) fn warn(&self, line: &str) {
        // If stderr is closed, nobody is listening.
        let size = terminal_size::terminal_size_of(io::stderr());
        let columns = size.map(|(width, _)| usize::from(width.0));
        let _ = match columns.filter(|columns| *columns > 0) {
            Some(columns) => writeln!(io::stderr(), "{}", lines::broken(line, columns)),
            None => writeln!(io::stderr(), "{line}"),
        };
    }
}

/// Returns the size of the terminal; if unknown, the size that all terminals once had.
fn screen() -> (usize, usize) {
    match terminal_size::terminal_size_of(io::stdout()) {
        Some((width, height)) if width.0 > 0 && height.0 > 0 => (width.0.into(), height.0.into()),
        _ => (80, 24),
    }
}

/// Returns the line that `--json` prints for a command.
pub(crate) fn document(command: &str, exit: u8, data: &impl Serialize) -> String {
    // Only strings, numbers and maps with string keys: cannot fail. Going through a value gives
    // members the same order everywhere.
    let data = serde_json::to_value(data).unwrap_or_default();
    let document = Document {
        schema: format!("bdr.{command}/1"),
        ok: exit == 0,
        data: &data,
    };
    let mut line = serde_json::to_string(&document).unwrap_or_default();
    line.push('\n');
    line
}

/// Returns a number with thousands separated: 1,204.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns "1 file", "2 files".
pub(crate) fn plural(number: u64, noun: &str) -> String {
    let text = count(number);
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("{text} {noun}"),
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{text} {stem}ies"),
        _ => format!("{text} {noun}s"),
    }
}

/// Returns a duration for people: 84 ms, 0.3 s, 2 min 5 s.
pub(crate) fn elapsed(time: std::time::Duration) -> String {
    match time.as_millis() {
        millis @ 0..100 => format!("{millis} ms"),
        100..60_000 => format!("{:.1} s", time.as_secs_f64()),
        millis => format!("{} min {} s", millis / 60_000, millis / 1000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    #[test]
    fn numbers_read_well() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1204, "1,204"),
            (1_000_000, "1,000,000"),
        ] {
            assert_eq!(super::count(number), text);
        }
        assert_eq!(super::plural(1, "file"), "1 file");
        assert_eq!(super::plural(1585, "file"), "1,585 files");
        assert_eq!(super::plural(2, "directory"), "2 directories");
        assert_eq!(super::elapsed(Duration::from_millis(84)), "84 ms");
        assert_eq!(super::elapsed(Duration::from_millis(340)), "0.3 s");
        assert_eq!(super::elapsed(Duration::from_secs(125)), "2 min 5 s");
    }
}
