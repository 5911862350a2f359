//! Why something was left out of a snapshot. Records and documents have the words; the program
//! compares these variants.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Tools can recreate it, like `node_modules`.
    Rebuildable,
    /// A rule of the user.
    Excluded,
    /// It is bdr's repository, configuration or vault.
    Own,
    /// Another root of the same snapshot has it.
    Elsewhere,
    /// Another file system is mounted there, and `one_file_system` is set.
    OtherFileSystem,
    /// Like `/proc`: it contains no real files.
    Kernel,
    /// More new bytes than the snapshot may store; the text continues with the size in brackets.
    OverBudget,
    /// New and large, and the undo does nothing to it.
    Untouched,
    /// More files than the snapshot may have.
    TooMany,
    /// An extended attribute contains a secret; the file itself is stored.
    SecretAttribute,
    /// It could not be read; the text continues with what the system said.
    Unreadable,
    /// The file comes back, but not its sealed values: their vault is not on this machine. The text
    /// continues with why.
    ValuesAway,
    /// Somewhere there: calls could not be looked at, the text continues with how many.
    Unseen,
    /// A reason that this version does not know.
    Other,
}

/// All with words of their own.
const WORDS: [(Reason, &str); 13] = [
    (Reason::Rebuildable, "rebuildable"),
    (Reason::Excluded, "excluded"),
    (Reason::Own, "bdr's own"),
    (Reason::Elsewhere, "a root of its own"),
    (Reason::OtherFileSystem, "another file system"),
    (Reason::Kernel, "a file system of the kernel"),
    (Reason::OverBudget, "over the budget"),
    (Reason::Untouched, "not touched by the undo"),
    (Reason::TooMany, "too many files"),
    (Reason::SecretAttribute, crate::privacy::IN_ATTRIBUTE),
    (Reason::Unreadable, "unreadable"),
    (
        Reason::Unseen,
        "calls of programs that could not be looked at",
    ),
    (
        Reason::ValuesAway,
        "its secret values are sealed, and their vault is not on this machine",
    ),
];

impl Reason {
    /// Returns the words for records and for people; they are part of the format.
    pub fn words(self) -> &'static str {
        let known = WORDS.iter().find(|(reason, _)| *reason == self);
        known.map_or("", |(_, words)| words)
    }

    /// Returns the reason for its words.
    pub fn of(text: &str) -> Self {
        let known = WORDS.iter().find(|(_, words)| {
            let rest = text.strip_prefix(words);
            rest.is_some_and(|rest| {
                rest.is_empty() || rest.starts_with(" (") || rest.starts_with(": ")
            })
        });
        known.map_or(Self::Other, |(reason, _)| *reason)
    }

    /// Returns the words, continued with what an error said.
    pub fn because(self, said: &str) -> String {
        format!("{}: {said}", self.words())
    }

    /// Returns what an error said, without the words before it.
    pub fn said(self, text: &str) -> &str {
        let said = text.strip_prefix(self.words());
        said.and_then(|rest| rest.strip_prefix(": "))
            .unwrap_or(text)
    }

    /// Returns true for reasons that the user may want to know about; the others were requested, or
    /// the path is captured elsewhere.
    pub fn is_worth_a_line(self) -> bool {
        matches!(
            self,
            Self::OverBudget | Self::OtherFileSystem | Self::Kernel | Self::SecretAttribute
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_known_by_its_words() {
        for (reason, words) in WORDS {
            assert_eq!(Reason::of(words), reason);
            assert_eq!(reason.words(), words);
        }
        assert_eq!(Reason::of("over the budget (8.1 MiB)"), Reason::OverBudget);
        assert_eq!(Reason::of("excluded middle"), Reason::Other);
        let text = Reason::Unreadable.because("over the budget");
        assert_eq!(Reason::of(&text), Reason::Unreadable);
        assert_eq!(Reason::Unreadable.said(&text), "over the budget");
        assert_eq!(Reason::Unreadable.said("is a pipe"), "is a pipe");
    }
}
