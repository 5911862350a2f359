//! Commands, labels and tags in a form that may be written down.

use std::ffi::OsString;

use super::Repository;
use crate::base::path::{RawName, os_from_bytes, os_to_bytes};

impl Repository {
    /// Returns the words of a command with fingerprints in place of secrets.
    pub fn redacted(&self, argv: Vec<OsString>) -> Vec<RawName> {
        let mut bytes: Vec<Vec<u8>> = argv
            .iter()
            .map(|arg| os_to_bytes(arg).into_owned())
            .collect();
        let changed = crate::privacy::redact(&mut bytes, self.privacy_rules(), &|value| {
            self.vault().fingerprint(value).ok()
        });
        if !changed {
            return argv.into_iter().map(RawName).collect();
        }
        let words = bytes.iter().map(|b| os_from_bytes(b));
        words.map(RawName).collect()
    }

    /// Returns a text without the secrets in it.
    pub fn redacted_text(&self, text: String) -> String {
        let mut words = self.redacted(vec![text.into()]);
        words
            .pop()
            .map_or_else(String::new, |word| word.to_string())
    }
}
