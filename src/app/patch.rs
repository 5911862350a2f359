//! What changed in a text, as a patch.

use similar::TextDiff;

use super::mask::Shown;

/// Returns the difference of two contents as a unified diff, or one line that says why there is none.
pub(crate) fn of(name: &str, old: Shown, new: Shown) -> String {
    let (old, new) = match (old, new) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(why), _) | (_, Err(why)) => return format!("({name}: not shown, {why})"),
    };
    let (Ok(old), Ok(new)) = (String::from_utf8(old), String::from_utf8(new)) else {
        return format!("({name}: binary)");
    };
    let diff = TextDiff::configure()
        .timeout(std::time::Duration::from_secs(2))
        .diff_lines(&old, &new);
    let text = diff
        .unified_diff()
        .context_radius(2)
        .header(&format!("a/{name}"), &format!("b/{name}"))
        .to_string();
    escaped(&text)
}

/// Returns text without terminal control characters; line breaks and tabs stay.
fn escaped(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}
