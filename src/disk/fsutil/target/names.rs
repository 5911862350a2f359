//! Names that mean something else on Windows than they seem to.
//!
//! A snapshot may come from another system, or from somebody else: `a\..\b` is one name on Unix,
//! but leads out of the directory on Windows.

/// Returns why a component is not a valid file name on Windows.
///
/// See <https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file>.
pub(super) fn refusal(component: &[u8]) -> Option<&'static str> {
    let Ok(name) = std::str::from_utf8(component) else {
        return Some("its name is not Unicode");
    };
    if name.contains(':') {
        return Some("on Windows `:` names a drive or an alternate data stream");
    }
    if name.contains(['/', '\\']) || matches!(name, "" | "." | "..") {
        return Some("on Windows it is a path, not a name");
    }
    if name.contains(|c: char| c < ' ' || "*?\"<>|".contains(c)) {
        return Some("Windows has no such character in names");
    }
    if name.ends_with(['.', ' ']) {
        return Some("Windows drops a dot or space at the end of a name");
    }
    is_device(name).then_some("Windows reserves the name for a device")
}

/// `NUL`, `nul.txt` and `NUL .txt` all mean the device.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let stem = stem.to_ascii_uppercase();
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].contains(&stem.as_str()) {
        return true;
    }
    let port = stem
        .strip_prefix("COM")
        .or_else(|| stem.strip_prefix("LPT"));
    // The superscript digits of Latin-1 count too.
    port.is_some_and(|n| {
        n.chars().count() == 1
            && n.contains(|c: char| c.is_ascii_digit() || "\u{b9}\u{b2}\u{b3}".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "",
            ".",
            "..",
            "a\\b",
            "ü\\..\\x",
            "C:",
            "a:b",
            "ü:stream",
            "a?",
            "a\tb",
            "a.",
            "a ",
            "con",
            "NUL.txt",
            "nul .txt",
            "com1",
            "LPT9.log",
            "COM\u{b2}",
            "conin$",
        ] {
            assert!(refusal(name.as_bytes()).is_some(), "{name:?}");
        }
        assert!(refusal(b"\xff").is_some());
    }

    #[test]
    fn other_names_are_taken() {
        for name in [
            "a",
            ".git",
            "a b",
            "50%",
            "ü",
            "console",
            "com",
            "com10",
            "nulls.txt",
            "x.con",
        ] {
            assert_eq!(refusal(name.as_bytes()), None, "{name:?}");
        }
    }
}
