//! Colours. They help, but never carry meaning alone.

/// Colours a stream, or does not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    on: bool,
}

impl Style {
    pub(crate) fn new(on: bool) -> Self {
        Self { on }
    }

    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }

    /// Colours a unified diff.
    pub(crate) fn patch(self, text: &str) -> String {
        let lines = text.lines().map(|line| {
            let line = match line.as_bytes().first() {
                _ if line.starts_with("--- ") || line.starts_with("+++ ") => self.bold(line),
                Some(b'-') => self.red(line),
                Some(b'+') => self.green(line),
                Some(b'@') => self.cyan(line),
                _ => line.to_owned(),
            };
            line + "\n"
        });
        lines.collect()
    }
}
