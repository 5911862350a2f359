//! Errors of calls, worded so that a model knows what to call next.

use bdr::Error;
use serde::Serialize;
use serde_json::Value;

use crate::app::error::Failure;

/// Why a call failed. Everything that its caller can fix is a fault; the protocol has errors of its
/// own.
#[derive(Debug)]
pub(crate) struct Fault {
    /// A stable code.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// What to call or do next.
    pub(crate) next: String,
    /// More facts; `Null` for none.
    pub(crate) details: Value,
}

impl Fault {
    pub(crate) fn new(code: &'static str, message: impl Into<String>, next: &str) -> Self {
        Self {
            code,
            message: message.into(),
            next: next.to_owned(),
            details: Value::Null,
        }
    }

    pub(crate) fn argument(message: impl Into<String>, next: &str) -> Self {
        Self::new("INVALID_ARGUMENT", message, next)
    }

    pub(crate) fn with(mut self, details: Value) -> Self {
        self.details = details;
        self
    }

    /// Returns the line for a model.
    pub(crate) fn text(&self) -> String {
        match self.next.is_empty() {
            true => format!("{}: {}", self.code, self.message),
            false => format!("{}: {}. Next: {}", self.code, self.message, self.next),
        }
    }

    pub(crate) fn data(&self) -> Value {
        let result = FaultResult {
            success: false,
            error: FaultError {
                code: self.code,
                message: &self.message,
                details: (!self.details.is_null()).then_some(&self.details),
                recovery: Some(self.next.as_str()).filter(|next| !next.is_empty()),
            },
        };
        serde_json::to_value(result).unwrap_or_default()
    }
}

/// What a call returns that did nothing.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct FaultResult<'a> {
    success: bool,
    error: FaultError<'a>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct FaultError<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery: Option<&'a str>,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        let mut message = failure.message();
        for cause in failure.causes() {
            message.push_str(&format!(": {cause}"));
        }
        let (code, next) = match &failure {
            Failure::Engine(error) | Failure::Hinted { error, .. } => of_error(error),
            Failure::Usage { .. } => ("INVALID_ARGUMENT", None),
            Failure::Output(_) => ("FAILED", None),
        };
        let next = next.map(str::to_owned).or_else(|| failure.hint());
        Self {
            code,
            message,
            next: next.unwrap_or_default(),
            details: Value::Null,
        }
    }
}

fn of_error(error: &Error) -> (&'static str, Option<&'static str>) {
    match error {
        Error::Io { source, .. } | Error::Storage { source, .. } => of_system(source.kind()),
        Error::NoRepository { .. } => (
            "BACKUP_NOT_FOUND",
            Some("create_backup makes the first one"),
        ),
        Error::NothingPushed { .. } => ("BACKUP_NOT_FOUND", None),
        Error::NoSuchSnapshot { .. } | Error::NoSnapshotBefore { .. } | Error::Ambiguous { .. } => {
            ("BACKUP_NOT_FOUND", Some("list_backups"))
        }
        Error::NoSuchOperation { .. } => (
            "CHECKPOINT_EXPIRED",
            Some("list_backups and restore_backup, or find_versions"),
        ),
        Error::Expired { .. } => (
            "CHECKPOINT_EXPIRED",
            Some("list_backups, then restore_backup; or find_versions"),
        ),
        Error::NothingTo { .. } => ("NOTHING_TO_DO", Some("checkpoint makes one")),
        Error::NoSuchPath { .. } => (
            "SOURCE_NOT_FOUND",
            Some("find_versions {\"path\":\"**/NAME\"}"),
        ),
        Error::Damaged { .. } | Error::BlobMissing { .. } => (
            "BACKUP_CORRUPTED",
            Some(
                "verify_backup lists what is lost; create_backup {\"type\":\"full\"} stores what still exists again",
            ),
        ),
        Error::Unreadable { .. } => (
            "BACKUP_CORRUPTED",
            Some(
                "verify_backup lists what is damaged; list_backups, then name the backup by its id",
            ),
        ),
        Error::Away { .. } => (
            "BACKUP_NOT_FOUND",
            Some(
                "ask the user to plug in or mount the disk with the backups, then make the same call again",
            ),
        ),
        Error::NoRoom { .. } => (
            "DISK_FULL",
            Some("ask the user to free space, then make the same call again"),
        ),
        Error::Sealed { .. } => ("PHI_DETECTED", None),
        Error::Busy { .. } => (
            "REPO_LOCKED",
            Some("make the same call again in a few seconds"),
        ),
        Error::Unsafe { .. } => ("PATH_NOT_ALLOWED", None),
        Error::OverBudget { .. } => (
            "TOO_LARGE",
            Some("name smaller paths, or ask the user to raise max_size in [guard]"),
        ),
        Error::NotCaptured { .. } => (
            "NOT_CAPTURED",
            Some("leave it out, or make it readable, and call again"),
        ),
        Error::Interrupted => ("CANCELLED", Some("nothing was left half-done")),
        Error::Config { .. } => ("CONFIG_INVALID", None),
        Error::NewerFormat { .. } | Error::NotARepository { .. } | Error::Tool { .. } => {
            ("FAILED", None)
        }
        Error::WouldDeleteRepository { .. } => ("PATH_NOT_ALLOWED", None),
        _ => ("INVALID_ARGUMENT", None),
    }
}

/// Returns the code for what the system said: a caller can do something about a full disk, but not
/// about most of the others.
fn of_system(kind: std::io::ErrorKind) -> (&'static str, Option<&'static str>) {
    use std::io::ErrorKind;
    match kind {
        ErrorKind::PermissionDenied => (
            "PERMISSION_DENIED",
            Some("ask the user to check owner and mode of the path"),
        ),
        ErrorKind::StorageFull => (
            "DISK_FULL",
            Some(
                "cleanup_old_backups {\"dryRun\":true}, or ask the user to free space, then make the same call again",
            ),
        ),
        ErrorKind::NotFound => ("SOURCE_NOT_FOUND", None),
        ErrorKind::AlreadyExists => ("FILE_EXISTS", None),
        _ => ("FAILED", None),
    }
}
