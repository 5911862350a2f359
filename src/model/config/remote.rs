//! What the configuration says of a destination.

use chrono::TimeDelta;

use crate::model::retention::Policy;

/// A place outside of this machine to which the repository is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Unique.
    pub name: String,
    /// `scheme://…`, without credentials.
    pub url: String,
    /// Who can read what is pushed: `age1…`, or public SSH keys. Empty: it is not encrypted.
    pub recipients: Vec<String>,
    /// The most bytes a second.
    pub limit: Option<u64>,
    /// Whether bdr pushes by itself, after backups and when it wakes up.
    pub automatic: bool,
    /// Machines whose work bdr brings in when it wakes up: their ids or names.
    pub sync: Vec<String>,
    /// What stays there; `None`: everything.
    pub keep: Option<Policy>,
}

/// What came within this time stays at a destination, unless the configuration says otherwise: so long
/// somebody has to notice that snapshots were added to push others out.
pub const FLOOR: TimeDelta = TimeDelta::days(30);

impl Remote {
    /// Makes one with the defaults.
    pub fn new(name: &str, url: &str) -> Self {
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            recipients: Vec::new(),
            limit: None,
            automatic: true,
            sync: Vec::new(),
            keep: None,
        }
    }
}

/// Checks the name of a destination, which is also the name of a directory.
///
/// # Errors
/// Says what is wrong.
pub fn check_remote_name(name: &str) -> Result<(), String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let starts = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    match starts && name.len() <= 32 && name.bytes().all(fits) {
        true => Ok(()),
        false => Err(format!(
            "`{}` cannot be the name of a destination: use up to 32 small letters, digits, `-` and `_`",
            crate::base::path::show(name.as_ref())
        )),
    }
}
