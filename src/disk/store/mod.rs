//! Stores of objects on other machines: what a destination is kept in.
//!
//! An object is written once, whole, under a key (`/`-separated, ASCII). Nothing here relies on
//! renaming, on locks or on a clock, which most stores do not have.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

mod access;
mod attempts;
mod counted;
mod dropbox;
mod file;
mod gdrive;
mod http;
mod key;
mod oauth;
mod pace;
#[cfg(feature = "opendal")]
mod remote;
mod sftp;
mod tree;
#[cfg(feature = "test-support")]
mod trial;
mod url;
mod webdav;

pub use access::{Access, Conduct, Field};
#[cfg(feature = "test-support")]
pub use trial::{Fate, Manners, MemoryStore, Trial};
pub use url::{Location, Service};

/// Why a store did not do what it was asked for. Callers decide by this, never by the words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// No connection, or no answer within the deadline.
    Unreachable,
    /// The certificate does not fit the host, or nobody known signed it.
    Certificate,
    /// Credentials are missing, wrong or expired.
    Credentials,
    /// The clocks differ by too much for the store to accept the signature.
    Clock,
    /// The credentials are right, and do not allow this.
    Forbidden,
    /// There is no such bucket, container, share or directory.
    NoPlace,
    /// The place is in another region, or at another address.
    Elsewhere,
    /// There is no such object.
    NotFound,
    /// There is an object of that name already.
    Exists,
    /// The store keeps it until a time, whatever is asked.
    Retained,
    /// No space, or the quota is used up.
    Full,
    /// It asked to come back later (429, 503), and went on doing so.
    Busy,
    /// It answered what no such store answers: a login page, a listing that is not one.
    Nonsense,
    /// This build, or this service, cannot do that.
    Unsupported,
    /// Anything else.
    Other,
}

/// A failed request.
#[derive(Debug, Clone)]
pub struct StoreError {
    pub trouble: Trouble,
    /// What the store or the library said, in one line, without credentials.
    pub said: String,
}

impl StoreError {
    pub fn new(trouble: Trouble, said: impl Into<String>) -> Self {
        let said = said.into();
        Self { trouble, said }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.said)
    }
}

impl std::error::Error for StoreError {}

pub type StoreResult<T> = std::result::Result<T, StoreError>;

/// How an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Only if there is none of that name; [`Trouble::Exists`] if there is, [`Trouble::Unsupported`]
    /// if the service has no such condition.
    CreateOnly,
    /// Whatever is there.
    Plain,
}

/// One object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The whole key, below the URL.
    pub key: String,
    pub bytes: u64,
}

/// What was sent and received since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    pub requests: u64,
    pub sent: u64,
    pub received: u64,
}

/// The beginning of the names of objects that are not whole yet, where a store can rename. No key
/// begins so.
const UNFINISHED: &str = crate::disk::fsutil::TEMPORARY_PREFIX;

/// Objects by key. Every call ends within a deadline, after retries where they can help.
pub trait Store: Send + Sync {
    /// Makes the place itself where that is bdr's to do: a directory. Only when somebody adds the
    /// destination: later, a place that is not there is a disk that is away.
    ///
    /// # Errors
    /// As [`Store::put`].
    fn prepare(&self) -> StoreResult<()> {
        Ok(())
    }

    /// Writes an object whole. After an error there may be an object or none, never half of one
    /// that passes for whole.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put(&self, key: &str, bytes: &[u8], how: Write) -> StoreResult<()>;

    /// Reads an object, or a range of it. Fewer bytes than asked for are an error; nothing is asked
    /// for an empty range.
    ///
    /// # Errors
    /// [`Trouble::NotFound`] if there is none, [`Trouble::Nonsense`] if it is shorter; otherwise as
    /// [`Store::put`].
    fn get(&self, key: &str, range: Option<Range<u64>>) -> StoreResult<Vec<u8>>;

    /// Returns the size of an object, `None` if there is none.
    ///
    /// # Errors
    /// As [`Store::put`].
    fn size(&self, key: &str) -> StoreResult<Option<u64>>;

    /// Lists all objects whose key begins with `prefix` (which ends with `/`, or is empty), in
    /// order where the service has one, only those after `after` where that is given. An empty
    /// listing is an answer, never a failure that was swallowed.
    ///
    /// # Errors
    /// As [`Store::put`].
    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> StoreResult<()>;

    /// Lists the names directly below `prefix`, with `/` at the end of those that are prefixes
    /// themselves.
    ///
    /// # Errors
    /// As [`Store::put`].
    fn names(&self, prefix: &str) -> StoreResult<Vec<String>>;

    /// Removes an object; one that is not there is fine.
    ///
    /// # Errors
    /// [`Trouble::Retained`] if the store keeps it; otherwise as [`Store::put`].
    fn remove(&self, key: &str) -> StoreResult<()>;

    /// Removes objects by the service's own request for several. Only for finding out whether it can be
    /// done: some servers check other rights there.
    ///
    /// # Errors
    /// [`Trouble::Unsupported`] if the service has no such request; otherwise as [`Store::remove`].
    fn remove_together(&self, keys: &[String]) -> StoreResult<()> {
        let _ = keys;
        let said = "the service has no request for several objects";
        Err(StoreError::new(Trouble::Unsupported, said))
    }

    /// Removes every version that the service keeps of an object, also of one that was removed;
    /// returns how many there were. Only for finding out whether it can be done.
    ///
    /// # Errors
    /// [`Trouble::Retained`] or [`Trouble::Forbidden`] if the store keeps one; otherwise as
    /// [`Store::put`].
    fn remove_versions(&self, key: &str) -> StoreResult<u64> {
        let _ = key;
        Ok(0)
    }

    /// Returns whether [`Write::CreateOnly`] is known to the service. Whether the server honours it
    /// is another question, which only trying answers.
    fn has_create_only(&self) -> bool;

    /// Returns what was sent and received so far.
    fn traffic(&self) -> Traffic;
}

/// Answers for a range that needs no request: an empty one, or one that ends before it begins.
fn without_asking(range: Option<&Range<u64>>) -> Option<StoreResult<Vec<u8>>> {
    let range = range.filter(|range| range.start >= range.end)?;
    Some(match range.start == range.end {
        true => Ok(Vec::new()),
        false => Err(StoreError::new(
            Trouble::Nonsense,
            "the range ends before it begins",
        )),
    })
}

fn too_short(bytes: u64, end: u64) -> StoreError {
    let said = format!("the object has {bytes} bytes, and {end} were asked for");
    StoreError::new(Trouble::Nonsense, said)
}

/// Opens a destination. Nothing is asked of it yet.
///
/// # Errors
/// [`Trouble::Unsupported`] if this build does not have the service, [`Trouble::Credentials`] if
/// some are missing.
pub fn open(
    location: &Location,
    access: &Access,
    conduct: &Conduct,
) -> StoreResult<Arc<dyn Store>> {
    let store: Arc<dyn Store> = match location.directory() {
        Some(directory) => Arc::new(file::FileStore::new(directory, conduct)),
        None if !services().contains(&location.service) => return Err(not_built(location)),
        None if matches!(location.service, Service::Webdav | Service::Webdavs) => {
            Arc::new(webdav::Webdav::open(location, access, conduct)?)
        }
        None if location.service == Service::Sftp => Arc::new(sftp::Sftp::open(location, conduct)),
        None if location.service == Service::Dropbox => {
            Arc::new(dropbox::Dropbox::open(location, access, conduct)?)
        }
        None if location.service == Service::Gdrive => {
            Arc::new(gdrive::Gdrive::open(location, access, conduct)?)
        }
        #[cfg(feature = "opendal")]
        None => Arc::new(remote::Remote::open(location, access, conduct)?),
        #[cfg(not(feature = "opendal"))]
        None => return Err(not_built(location)),
    };
    #[cfg(feature = "test-support")]
    let store = Arc::new(Trial::new(store));
    Ok(store)
}

/// Returns the services of this build.
pub fn services() -> Vec<Service> {
    let is_built = |service: &Service| match service.feature() {
        None => true,
        Some("remote-s3") => cfg!(feature = "remote-s3"),
        Some("remote-azure") => cfg!(feature = "remote-azure"),
        Some("remote-google") => cfg!(feature = "remote-google"),
        Some("remote-b2") => cfg!(feature = "remote-b2"),
        Some(_) => false,
    };
    Service::ALL.into_iter().filter(is_built).collect()
}

fn not_built(location: &Location) -> StoreError {
    let scheme = location.service.scheme();
    let said = match location.service.feature() {
        Some(feature) => format!("this bdr was built without `{scheme}://` (feature `{feature}`)"),
        None => format!("this bdr has no `{scheme}://`"),
    };
    StoreError::new(Trouble::Unsupported, said)
}
