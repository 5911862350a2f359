//! Shows text that is longer than the screen in a pager.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use crate::app::context::{Context, variable};
use crate::ui::OutputError;

/// Used if nobody named one.
const USUAL: &str = "less -FRX";

/// Prints requested data; on a terminal, anything longer than the screen goes to the pager.
pub(crate) fn show(cx: &Context, text: &str) -> Result<(), OutputError> {
    match cx.ui.screen {
        Some((width, height)) if cx.ui.pages && rows(text, width) >= height => {
            let command = named();
            // A missing pager is no reason to show nothing.
            match command.map(|command| feed(&command, text)) {
                Some(Ok(())) => Ok(()),
                Some(Err(_)) | None => cx.ui.data(text),
            }
        }
        _ => cx.ui.data(text),
    }
}

/// Returns the pager from the environment; `None` if nobody wants one.
fn named() -> Option<String> {
    let named = variable("BDR_PAGER").or_else(|| variable("PAGER"));
    let named = named.map_or_else(|| Some(USUAL.to_owned()), |name| name.into_string().ok())?;
    (named.trim() != "cat").then_some(named)
}

/// Returns how many lines of a screen a text fills. Colour codes count as width: better to page a
/// text than to cut it.
fn rows(text: &str, width: usize) -> usize {
    let lines = text.lines();
    lines
        .map(|line| line.chars().count().div_ceil(width.max(1)).max(1))
        .sum()
}

fn feed(command: &str, text: &str) -> io::Result<()> {
    let mut words = command.split_whitespace();
    let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A user who has seen enough closes it.
        let _ = stdin.write_all(text.as_bytes());
    }
    // It has shown the text, whatever its status.
    child.wait().map(drop)
}
