//! Documents of `bdr remote`.

use bdr::disk::store::Service;
use bdr::model::config::keep_lines;
use bdr::model::retention::Policy;
use bdr::remote::level::{Attempt, Level};
use bdr::remote::prune::{Last, Pruner};
use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::ui::when;

/// `remote add`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteAddDocument {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) recipients: Vec<String>,
    pub(crate) key_file: Option<String>,
    pub(crate) credentials: Option<&'static str>,
    pub(crate) tried: bool,
}

/// What is known of a destination without asking it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteDocument {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) encrypted: bool,
    pub(crate) recipients: Vec<String>,
    pub(crate) limit: Option<u64>,
    pub(crate) automatic: bool,
    pub(crate) credentials: &'static str,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) level: Option<Level>,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) proved: Option<DateTime<Utc>>,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) pushed: Option<DateTime<Utc>>,
    pub(crate) snapshots: u64,
    pub(crate) bytes: u64,
    pub(crate) error: Option<String>,
    pub(crate) retention: RetentionDocument,
}

/// What stays at a destination, who removes the rest, and what of it waits there.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RetentionDocument {
    /// Lines of the configuration; none: everything stays.
    pub(crate) keeps: Vec<String>,
    /// `bdr` by itself, somebody by `hand`, or `nobody`.
    pub(crate) pruned_by: &'static str,
    pub(crate) last_prune: Option<String>,
    /// Objects in its trash, and when the next of them may be deleted.
    pub(crate) waiting: u64,
    pub(crate) waiting_bytes: u64,
    pub(crate) next: Option<String>,
    /// Objects that the destination keeps until their retention ends.
    pub(crate) retained: u64,
    /// Objects that these credentials cannot delete.
    pub(crate) forbidden: u64,
    /// Snapshots whose needs are not known on this machine.
    pub(crate) unknown: u64,
    pub(crate) error: Option<String>,
}

impl RetentionDocument {
    pub(crate) fn new(keep: Option<&Policy>, pruner: Pruner, last: Option<&Last>) -> Self {
        let lines = keep.into_iter().flat_map(keep_lines);
        let count = |of: fn(&Last) -> u64| last.map_or(0, of);
        Self {
            keeps: lines
                .map(|(key, value)| format!("{key} = {value}"))
                .collect(),
            pruned_by: pruner.word(),
            last_prune: last.and_then(|last| last.done).map(when::utc),
            waiting: count(|last| last.waiting),
            waiting_bytes: count(|last| last.waiting_bytes),
            next: last.and_then(|last| last.next).map(when::utc),
            retained: count(|last| last.retained),
            forbidden: count(|last| last.forbidden),
            unknown: count(|last| last.unknown),
            error: last.and_then(|last| last.failed.clone()),
        }
    }
}

/// A key that could open something at a destination.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteRecipientDocument {
    pub(crate) recipient: String,
    /// `age`, `ssh`, or `hardware`.
    pub(crate) kind: &'static str,
    /// Whether the next push is for it.
    #[serde(rename = "current")]
    pub(crate) is_current: bool,
    /// Where its secret half is, as far as this machine knows.
    pub(crate) secret: Vec<&'static str>,
    pub(crate) file: Option<String>,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) made: Option<DateTime<Utc>>,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) shown: Option<DateTime<Utc>>,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub(crate) stored: Option<DateTime<Utc>>,
    pub(crate) only_here: bool,
    /// Only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) words: Option<String>,
}

/// A secret key that lies at the destination, encrypted.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteIdentityDocument {
    pub(crate) name: String,
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) made: DateTime<Utc>,
    pub(crate) passphrase: bool,
    pub(crate) recipients: Vec<String>,
    pub(crate) opens: Vec<String>,
    #[serde(rename = "there")]
    pub(crate) is_there: bool,
}

/// Pushes that are for the same recipients.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteEraDocument {
    pub(crate) since: u64,
    /// Null for those of now.
    pub(crate) until: Option<u64>,
    pub(crate) recipients: Vec<String>,
}

/// `remote key show`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteKeyDocument {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) encrypted: bool,
    pub(crate) recipients: Vec<RemoteRecipientDocument>,
    pub(crate) identities: Vec<RemoteIdentityDocument>,
    pub(crate) pushes: Vec<RemoteEraDocument>,
    /// Only with `--sheet`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sheet: Option<String>,
}

/// `remote key add`, `remote key remove`, `remote key rotate`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteKeyChangeDocument {
    pub(crate) name: String,
    pub(crate) dry_run: bool,
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
    pub(crate) recipients: Vec<String>,
    pub(crate) identities: Vec<String>,
    pub(crate) opens_past: bool,
    pub(crate) kept: Option<String>,
}

/// `remote key move`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteKeyMoveDocument {
    pub(crate) name: String,
    /// Public halves.
    pub(crate) moved: Vec<String>,
    pub(crate) kept: String,
}

/// `remote list`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemotesDocument {
    pub(crate) remotes: Vec<RemoteDocument>,
}

/// `remote rename` and `remote remove`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteChangeDocument {
    pub(crate) name: String,
}

/// `remote test`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteTestDocument {
    pub(crate) name: String,
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) level: Level,
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) create: Attempt,
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) replace: Attempt,
    #[cfg_attr(test, schemars(with = "String"))]
    pub(crate) delete: Attempt,
    pub(crate) listed: bool,
    pub(crate) left: Option<String>,
    pub(crate) policy: Option<String>,
}

/// One kind of destination.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ServiceDocument {
    scheme: &'static str,
    form: &'static str,
    built: bool,
    feature: Option<&'static str>,
    options: &'static [&'static str],
    credentials: Vec<&'static str>,
}

/// `remote services`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteServicesDocument {
    services: Vec<ServiceDocument>,
}

impl RemoteServicesDocument {
    pub(crate) fn new(built: &[Service]) -> Self {
        let one = |service: Service| ServiceDocument {
            scheme: service.scheme(),
            form: service.form(),
            built: built.contains(&service),
            feature: service.feature(),
            options: service.options(),
            credentials: service.fields().iter().map(|field| field.name).collect(),
        };
        let services = Service::ALL.into_iter().map(one).collect();
        Self { services }
    }
}

/// `remote adopt`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteAdoptDocument {
    /// Who this machine is from now on.
    pub(crate) machine: String,
    pub(crate) host: String,
    /// Who it was; null if it had pushed nothing.
    pub(crate) old: Option<String>,
    pub(crate) dry_run: bool,
    pub(crate) remotes: Vec<AdoptedDocument>,
}

/// What a machine that is gone has at a destination.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct AdoptedDocument {
    pub(crate) name: String,
    pub(crate) snapshots: u64,
    /// Records that do not count, or cannot be read.
    pub(crate) problems: Vec<String>,
}

/// `remote reset`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct RemoteResetDocument {
    /// Null if nothing was pushed before.
    pub(crate) old: Option<String>,
    pub(crate) machine: String,
}
