//! Expands `{a,b}` and `{1..3}`: one word that means several (bash manual, "Brace Expansion").

use brush_parser::ParserOptions;
use brush_parser::word::{BraceExpressionMember, BraceExpressionOrText, parse_brace_expansions};

/// Most words from one.
const MAX_WORDS: usize = 1024;
/// The parser tries every way to read unbalanced braces, so it does not get a word with more than
/// this.
const MAX_BRACES: usize = 8;
const MAX_BYTES: usize = 4096;

/// Returns true if a word may expand to several.
pub(super) fn may_expand(text: &str) -> bool {
    let open = text.find('{');
    is_beyond(text)
        || open.is_some_and(|at| {
            !text[..at].ends_with(['$', '\\'])
                && !text.contains(['\'', '"'])
                && text[at..].contains('}')
                && (text[at..].contains(',') || text[at..].contains(".."))
        })
}

/// Returns the words that a word expands to, as they would have been written; `None` if it is one word, or unknown.
pub(super) fn expand(text: &str, options: &ParserOptions) -> Option<Vec<String>> {
    let candidate = text.contains('{') && text.contains('}');
    if !candidate || !(text.contains(',') || text.contains("..")) {
        return None;
    }
    if is_beyond(text) {
        return None;
    }
    let pieces = parse_brace_expansions(text, options).ok()??;
    let plain = |piece: &BraceExpressionOrText| matches!(piece, BraceExpressionOrText::Text(_));
    if pieces.iter().all(plain) {
        return None;
    }
    product(&pieces)
}

/// Returns true for a word that the parser must not get: too much of it, numbers that it cannot
/// represent, or padded ones (`{01..10}`).
fn is_beyond(text: &str) -> bool {
    let braces = text.bytes().filter(|byte| *byte == b'{').count();
    let odd = |digits: &str| digits.len() > 9 || digits.len() > 1 && digits.starts_with('0');
    braces > MAX_BRACES
        || braces > 0 && text.len() > MAX_BYTES
        || text.contains("..") && braces > 0 && text.split(|c: char| !c.is_ascii_digit()).any(odd)
}

/// Returns every way to choose one of each piece; the first piece changes slowest.
fn product(pieces: &[BraceExpressionOrText]) -> Option<Vec<String>> {
    let mut words = vec![String::new()];
    for piece in pieces {
        let choices = match piece {
            BraceExpressionOrText::Text(text) => vec![text.clone()],
            BraceExpressionOrText::Expr(members) => {
                let mut choices = Vec::new();
                for member in members {
                    choices.extend(of_member(member)?);
                    if choices.len() > MAX_WORDS {
                        return None;
                    }
                }
                choices
            }
        };
        if words.len() * choices.len() > MAX_WORDS {
            return None;
        }
        words = words
            .iter()
            .flat_map(|word| choices.iter().map(move |choice| format!("{word}{choice}")))
            .collect();
    }
    Some(words)
}

fn of_member(member: &BraceExpressionMember) -> Option<Vec<String>> {
    match member {
        BraceExpressionMember::Child(pieces) => product(pieces),
        BraceExpressionMember::NumberSequence {
            start,
            end,
            increment,
        } => {
            let numbers = steps(*start, *end, *increment)?;
            Some(numbers.map(|number| number.to_string()).collect())
        }
        BraceExpressionMember::CharSequence {
            start,
            end,
            increment,
        } => {
            let number = |c: char| i64::from(u32::from(c));
            let numbers = steps(number(*start), number(*end), *increment)?;
            let char_of = |n: i64| char::from_u32(u32::try_from(n).ok()?);
            numbers.map(|n| Some(char_of(n)?.to_string())).collect()
        }
    }
}

/// Counts from one number to another, up or down, whatever the sign of the step.
fn steps(start: i64, end: i64, step: i64) -> Option<impl Iterator<Item = i64>> {
    let step = step.unsigned_abs().max(1);
    let count = start.abs_diff(end) / step;
    let step = i64::try_from(step).ok()?;
    let step = if end < start { -step } else { step };
    let count = i64::try_from(count).ok()?;
    (count < MAX_WORDS as i64).then(|| (0..=count).map(move |n| start + n * step))
}
