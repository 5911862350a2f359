//! Programs that only read with some arguments, and write with others.

use super::super::{Effect, Place, Surroundings, Word};
use super::judged::Args;
use super::simple;

/// Returns true if the script of `sed` or `awk`, its first argument, can only print.
pub(super) fn only_prints(args: &Args<'_>) -> bool {
    let Some(script) = args.positional.first().and_then(|word| word.text()) else {
        return false;
    };
    let quiet = |text: &str| {
        ![">", "|", "system", "getline", "close", "@"]
            .iter()
            .any(|t| text.contains(t))
    };
    // awk programs have braces or conditions; sed scripts are parsed command by command.
    if script.contains('{') {
        return quiet(script);
    }
    script.split([';', '\n']).all(sed_prints)
}

/// One sed command with simple addresses: `p`, `d`, `q`, `=`, or `s` without `w` and `e`.
fn sed_prints(command: &str) -> bool {
    let rest = command.trim();
    let rest = if let Some(regex) = rest.strip_prefix('/') {
        match regex.find('/') {
            Some(end) if !regex[..end].contains('\\') => &regex[end + 1..],
            _ => return false,
        }
    } else {
        rest.trim_start_matches(|c: char| {
            c.is_ascii_digit() || matches!(c, ',' | '$' | '~' | '!' | ' ')
        })
    };
    let mut chars = rest.chars();
    match chars.next() {
        None => true,
        Some('p' | 'd' | 'q' | '=' | 'P' | 'D' | 'n') => chars.as_str().trim().is_empty(),
        Some('s') => {
            let Some(delimiter) = chars.next() else {
                return false;
            };
            let parts: Vec<&str> = chars.as_str().split(delimiter).collect();
            let [pattern, new, flags] = parts[..] else {
                return false;
            };
            !pattern.contains('\\')
                && !new.ends_with('\\')
                && flags
                    .chars()
                    .all(|c| c.is_ascii_digit() || "gpiIM".contains(c))
        }
        Some(_) => false,
    }
}

/// Returns true if every command after `-exec` only reads.
pub(super) fn runs_readers(
    args: &Args<'_>,
    place: &Place,
    around: &Surroundings<'_>,
    depth: usize,
) -> bool {
    let mut words = args.words.iter();
    while let Some(word) = words.next() {
        if !matches!(word.text(), Some("-exec" | "-execdir")) {
            continue;
        }
        let command: Vec<Word> = words
            .by_ref()
            .take_while(|word| !matches!(word.text(), Some(";" | "+" | "\\;")))
            .cloned()
            .collect();
        if simple(&command, place, around, depth + 1).effect != Effect::Read {
            return false;
        }
    }
    true
}
