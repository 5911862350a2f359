//! A block of lines between two markers, in files of shells and of git. Several may be in one file:
//! their markers have names.

/// The name of the block that each shell and git has.
pub const OWN: &str = "bdr";

/// Returns the beginning of a block's first line, and its last line.
fn markers(name: &str) -> (String, String) {
    (format!("# >>> {name} >>>"), format!("# <<< {name} <<<"))
}

/// Returns the name in the first line of a block.
fn name_of(block: &str) -> &str {
    let rest = block.strip_prefix("# >>> ");
    rest.and_then(|rest| rest.split_once(" >>>"))
        .map_or(OWN, |(name, _)| name)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Nothing,
    /// Byte range, with both markers and the last one's line end.
    Block(std::ops::Range<usize>),
    /// A marker is missing, so we cannot tell which lines are bdr's.
    Torn,
}

/// Finds the block of a name.
pub fn find(text: &[u8], name: &str) -> Found {
    let (first, last) = markers(name);
    let mut at = 0;
    let (mut from, mut to) = (None, None);
    for line in text.split_inclusive(|b| *b == b'\n') {
        let trimmed = line.trim_ascii();
        if trimmed.starts_with(first.as_bytes()) {
            if from.is_some() {
                return Found::Torn;
            }
            from = Some(at);
        } else if trimmed == last.as_bytes() {
            if from.is_none() || to.is_some() {
                return Found::Torn;
            }
            to = Some(at + line.len());
        }
        at += line.len();
    }
    match (from, to) {
        (None, None) => Found::Nothing,
        (Some(from), Some(to)) => Found::Block(from..to),
        _ => Found::Torn,
    }
}

/// Returns the lines of a block, with its markers. `how` says how to remove it.
pub fn render(how: &str, lines: &str) -> String {
    render_as(OWN, how, lines)
}

/// Returns the lines of a block with a name.
pub fn render_as(name: &str, how: &str, lines: &str) -> String {
    let (first, last) = markers(name);
    format!("{first} {how}\n{}\n{last}\n", lines.trim_end())
}

/// Returns the text with the block in place of the existing one, or at its end; `None` if the
/// existing one is torn.
pub fn add(text: &[u8], block: &str) -> Option<Vec<u8>> {
    // Use the line ends of a file that came from Windows.
    let crlf = text.windows(2).any(|w| w == b"\r\n");
    let block = match crlf {
        true => block.replace('\n', "\r\n"),
        false => block.to_owned(),
    };
    match find(text, name_of(&block)) {
        Found::Torn => None,
        Found::Block(range) => {
            Some([&text[..range.start], block.as_bytes(), &text[range.end..]].concat())
        }
        Found::Nothing => {
            let end: &[u8] = match text.last() {
                None | Some(b'\n') => b"",
                Some(_) if crlf => b"\r\n",
                Some(_) => b"\n",
            };
            Some([text, end, block.as_bytes()].concat())
        }
    }
}

/// Returns the text without the block of a name; `None` if it is torn.
pub fn remove(text: &[u8], name: &str) -> Option<Vec<u8>> {
    match find(text, name) {
        Found::Torn => None,
        Found::Nothing => Some(text.to_vec()),
        Found::Block(range) => Some([&text[..range.start], &text[range.end..]].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_goes_in_once_is_renewed_and_comes_out() {
        let block = render("how", "one\n");
        for text in ["", "a\n", "a", "a\r\nb\r\n", "\n\n"] {
            let with = add(text.as_bytes(), &block).unwrap();
            assert_eq!(add(&with, &block).unwrap(), with, "{text:?}");
            let newer = add(&with, &render("how", "two")).unwrap();
            assert!(!newer.windows(3).any(|w| w == b"one"), "{text:?}");
            let without = remove(&newer, OWN).unwrap();
            let ended = match text.is_empty() || text.ends_with('\n') {
                true => text.to_owned(),
                false => format!("{text}\n"),
            };
            assert_eq!(String::from_utf8(without).unwrap(), ended);
            // What the user writes around it stays.
            let around = [b"before\n", &with[..], b"after\n"].concat();
            let left = String::from_utf8(remove(&around, OWN).unwrap()).unwrap();
            assert!(left.starts_with("before\n") && left.ends_with("after\n"));
        }
    }

    #[test]
    fn half_a_block_is_left_alone() {
        let block = render("how", "one");
        let first = block.lines().next().unwrap();
        for text in [
            first.to_owned(),
            "# <<< bdr <<<\n".to_owned(),
            format!("{block}{block}"),
        ] {
            assert_eq!(remove(text.as_bytes(), OWN), None, "{text:?}");
            assert_eq!(add(text.as_bytes(), &block), None, "{text:?}");
        }
    }

    #[test]
    fn blocks_of_other_names_are_not_each_others() {
        let (one, other) = (render("how", "one"), render_as("bdr x", "how", "other"));
        let both = add(&add(b"a\n", &one).unwrap(), &other).unwrap();
        assert_eq!(remove(&both, OWN).unwrap(), add(b"a\n", &other).unwrap());
        assert_eq!(remove(&both, "bdr x").unwrap(), add(b"a\n", &one).unwrap());
    }
}
