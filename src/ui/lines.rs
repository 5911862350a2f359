//! Sentences on a narrow screen: broken between words, which a terminal does not do.

use std::borrow::Cow;

/// Breaks lines that are longer than a screen of `columns`. Of a line with columns of its own (two
/// spaces in a row) the last one is broken, below itself; a command at the end of a line stays
/// whole, because it is copied.
pub(crate) fn broken(text: &str, columns: usize) -> Cow<'_, str> {
    if text.lines().all(|line| width(line) <= columns) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.split_inclusive('\n') {
        let (bare, end) = match line.strip_suffix('\n') {
            Some(bare) => (bare, "\n"),
            None => (line, ""),
        };
        push(&mut out, bare, columns);
        out.push_str(end);
    }
    Cow::Owned(out)
}

/// Where less room than this is left for the last column, it goes below the others.
const LEAST: usize = 20;
/// By how much it is indented there.
const BELOW: usize = 6;

fn push(out: &mut String, line: &str, columns: usize) {
    let start = line.len() - line.trim_start_matches(' ').len();
    let last = line[start..].rfind("  ").map_or(start, |at| start + at + 2);
    let (before, rest) = line.split_at(last);
    // A table that does not fit without its last column is the business of who laid it out.
    if width(line) <= columns || width(before.trim_end()) > columns {
        out.push_str(line);
        return;
    }
    let mut indent = width(before);
    if last > start && indent + LEAST > columns {
        indent = start + BELOW;
        out.push_str(before.trim_end());
        out.push('\n');
        out.push_str(&" ".repeat(indent));
    } else {
        out.push_str(before);
    }
    let mut used = indent;
    for word in words(rest) {
        let more = width(word);
        let is_first = used == indent;
        if !is_first && used + 1 + more > columns {
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            used = indent;
        } else if !is_first {
            out.push(' ');
            used += 1;
        }
        out.push_str(word);
        used += more;
    }
}

/// Returns the words of a line, a command at its end as one.
fn words(line: &str) -> impl Iterator<Item = &str> {
    const COMMANDS: [&str; 4] = ["bdr ", "sudo ", "eval ", "sh "];
    let is_command = |at: &usize| COMMANDS.iter().any(|begin| line[*at..].starts_with(begin));
    let mut colons = line.rmatch_indices(": ").map(|(at, _)| at + 2);
    let command = colons.find(is_command);
    let (prose, command) = match command {
        Some(at) => (line[..at].trim_end(), Some(&line[at..])),
        None => (line, None),
    };
    let prose = prose.split(' ').filter(|word| !word.is_empty());
    prose.chain(command)
}

/// Returns how many columns a line takes; colour codes take none.
fn width(line: &str) -> usize {
    let mut columns = 0;
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        match char {
            '\x1b' => {
                let _ = chars.by_ref().find(char::is_ascii_alphabetic);
            }
            _ => columns += 1,
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_broken_between_words_and_commands_are_not() {
        let long = "Backed up 55 files, 508 B, in 38 ms. First restore drill passed.";
        let shown = broken(long, 40);
        assert_eq!(
            shown,
            "Backed up 55 files, 508 B, in 38 ms.\nFirst restore drill passed."
        );
        let command = "Take it back whenever you like: bdr undo 4kbv --yes --files";
        assert_eq!(
            broken(command, 40),
            "Take it back whenever you like:\nbdr undo 4kbv --yes --files"
        );
        let coloured = "\x1b[31merror\x1b[0m: twenty more letters";
        assert_eq!(broken(coloured, 27), coloured);
        let repository = "bdr: the repository ~/.local/share/bdr was missing";
        assert_eq!(
            broken(repository, 40),
            "bdr: the repository ~/.local/share/bdr\nwas missing"
        );
        let table = "  code  !  94 files, all captured; sealed: 2 values in 2 files";
        assert_eq!(
            broken(table, 40),
            "  code  !  94 files, all captured;\n           sealed: 2 values in 2 files"
        );
        let narrow = "keep  jw01  2026-11-28 17:38  full  last full, just taken";
        assert_eq!(
            broken(narrow, 40),
            "keep  jw01  2026-11-28 17:38  full\n      last full, just taken"
        );
        for same in ["short\n", "  a  table  is  as  wide  as  it  was  made"] {
            assert_eq!(broken(same, 20), same);
        }
        assert_eq!(broken("  one two three\n", 9), "  one two\n  three\n");
    }
}
