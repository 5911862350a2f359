//! What the caller brings along for a destination: credentials, and how patient to be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use zeroize::Zeroizing;

use super::url::Service;

/// A credential that a service may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// As in [`Access`], e.g. `secret-access-key`.
    pub name: &'static str,
    /// What it is called where users get it.
    pub title: &'static str,
    /// False for names that may be shown while they are typed.
    pub is_secret: bool,
    /// False if the service can do without.
    pub is_needed: bool,
}

const fn field(name: &'static str, title: &'static str, is_secret: bool, is_needed: bool) -> Field {
    Field {
        name,
        title,
        is_secret,
        is_needed,
    }
}

const OAUTH: &[Field] = &[
    field("client-id", "client id of your app", false, true),
    field("client-secret", "client secret of your app", true, true),
    field("refresh-token", "refresh token", true, true),
];

const S3: &[Field] = &[
    field("access-key-id", "access key id", false, true),
    field("secret-access-key", "secret access key", true, true),
    field("session-token", "session token", true, false),
];

const GCS: &[Field] = &[field(
    "credential",
    "service account key (JSON)",
    true,
    true,
)];

const AZBLOB: &[Field] = &[
    field("account-key", "account key", true, false),
    field("sas-token", "SAS token", true, false),
];

const B2: &[Field] = &[
    field("application-key-id", "application key id", false, true),
    field("application-key", "application key", true, true),
];

const WEBDAV: &[Field] = &[
    field("password", "password", true, false),
    field("token", "bearer token", true, false),
];

impl Service {
    /// Returns the credentials that it takes, in the order in which to ask for them.
    pub const fn fields(self) -> &'static [Field] {
        match self {
            Self::File | Self::Sftp => &[],
            Self::S3 => S3,
            Self::Gcs => GCS,
            Self::Azblob => AZBLOB,
            Self::B2 => B2,
            Self::Webdav | Self::Webdavs => WEBDAV,
            Self::Gdrive | Self::Dropbox => OAUTH,
        }
    }
}

/// Credentials by the names of [`Service::fields`]. Never shown, never written.
#[derive(Clone, Default)]
pub struct Access {
    values: BTreeMap<String, Zeroizing<String>>,
    /// Whether the client of a provider may look for its own credentials: variables, profiles,
    /// files and the service of a virtual machine. Where credentials are given, they are used.
    pub own_ways: bool,
}

impl Access {
    /// Adds a credential.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.values
            .insert(name.into(), Zeroizing::new(value.into()));
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.as_str())
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns a text in which no value of a credential is left.
    pub fn without(&self, text: &str) -> String {
        let secrets = self.values.values().filter(|value| value.len() > 3);
        secrets.fold(text.to_owned(), |text, value| {
            text.replace(value.as_str(), "…")
        })
    }
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.values.keys()).finish()
    }
}

/// How a store is to behave.
#[derive(Debug, Clone)]
pub struct Conduct {
    /// The longest wait for an answer to a request, not counting its content.
    pub patience: Duration,
    /// The slowest transfer that is not given up, in bytes a second: the deadline of a request
    /// grows by its size.
    pub slowest: u64,
    /// How often a request is sent at most, if an answer like "busy" or a broken connection says
    /// that another attempt may help.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles.
    pub pause: Duration,
    /// The most bytes a second, sent and received together.
    pub limit: Option<u64>,
    /// Set when the user wants to stop: what is under way is given up.
    pub stop: Arc<AtomicBool>,
}

impl Conduct {
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Default for Conduct {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(30),
            slowest: 16 << 10,
            attempts: 6,
            pause: Duration::from_millis(300),
            limit: None,
            stop: Arc::default(),
        }
    }
}
