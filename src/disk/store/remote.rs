//! Stores on other machines, by OpenDAL's services over bdr's own HTTP.
//!
//! OpenDAL knows how each provider wants to be asked. Deadlines, retries and what an error means
//! are decided here.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use opendal::{Buffer, ErrorKind, HttpBody, HttpTransport, HttpTransporter, Lister, Operator};
use ureq::http::{Request, Response};

use super::attempts::{self, Attempts, Failed, one_line};
use super::http::{Http, Seen};
use super::{
    Access, Conduct, Location, Object, Service, Store, StoreError, StoreResult, Traffic, Trouble,
    Write, key,
};

mod services;

pub(super) struct Remote {
    operator: Operator,
    http: Http,
    access: Access,
    conduct: Conduct,
    runtime: Option<tokio::runtime::Runtime>,
    /// Whether a listing continues after a key, in order.
    is_ordered: bool,
    has_create_only: bool,
    /// Whether OpenDAL, asked for an object, gives the first that begins with its name (Backblaze).
    is_found_by_prefix: bool,
}

/// Carries OpenDAL's requests out, and notes what went wrong.
struct Transport {
    http: Http,
    seen: Seen,
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let request = request.map(|body| body.to_vec());
        let (http, seen) = (self.http.clone(), self.seen.clone());
        let sent = tokio::task::spawn_blocking(move || {
            let answer = http.send(&request, &seen);
            answer.map(|answer| (answer, request.uri().clone()))
        });
        let sent = sent.await.map_err(|error| {
            opendal::Error::new(ErrorKind::Unexpected, "the request ended early").set_source(error)
        })?;
        let (answer, uri) = sent.map_err(|failed| {
            opendal::Error::new(ErrorKind::Unexpected, failed.error.said).set_temporary()
        })?;
        let (parts, content) = answer.into_parts();
        let size = content.len() as u64;
        let is_head = content.is_empty();
        let content = stream::iter([Ok(Buffer::from(content))]);
        let body = HttpBody::new(content, (!is_head).then_some(size));
        let mut answer = Response::from_parts(parts, body);
        answer.extensions_mut().insert(uri);
        Ok(answer)
    }
}

impl Remote {
    pub(super) fn open(
        location: &Location,
        access: &Access,
        conduct: &Conduct,
    ) -> StoreResult<Self> {
        let http = Http::new(conduct, location.option("ca"))?;
        let operator = services::operator(location, access)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("bdr-store")
            .enable_all()
            .build()
            .map_err(|error| StoreError::new(Trouble::Other, error.to_string()))?;
        let capability = operator.info().capability();
        Ok(Self {
            http,
            access: access.clone(),
            conduct: conduct.clone(),
            runtime: Some(runtime),
            is_ordered: capability.list_with_start_after,
            has_create_only: capability.write_with_if_not_exists,
            is_found_by_prefix: location.service == Service::B2,
            operator,
        })
    }

    /// Carries a call out, again where that can help.
    fn ask<T, F>(&self, bytes: u64, call: impl Fn(Operator) -> F) -> StoreResult<T>
    where
        F: Future<Output = opendal::Result<T>>,
    {
        self.tell(bytes, call).map_err(|failed| failed.error)
    }

    fn tell<T, F>(&self, bytes: u64, call: impl Fn(Operator) -> F) -> Result<T, Failed>
    where
        F: Future<Output = opendal::Result<T>>,
    {
        attempts::repeat(&self.conduct, || self.once(bytes, &call))
    }

    fn once<T, F>(&self, bytes: u64, call: impl Fn(Operator) -> F) -> Result<T, Failed>
    where
        F: Future<Output = opendal::Result<T>>,
    {
        let seen = Seen::default();
        let operator = self.watched(&seen);
        // A call may take several requests; each has its own deadline, and all together have this.
        let deadline = self.http.deadline(bytes) * 4;
        self.wait(deadline, call(operator))
            .map_or(Err(Late::Deadline(deadline)), |done| {
                done.map_err(Late::Error)
            })
            .map_err(|error| self.explain(error, &seen))
    }

    /// Waits for an answer, `None` if it does not come in time.
    fn wait<T>(&self, deadline: Duration, call: impl Future<Output = T>) -> Option<T> {
        let runtime = self.runtime.as_ref()?;
        runtime.block_on(async { tokio::time::timeout(deadline, call).await.ok() })
    }

    /// Returns an operator whose requests are noted.
    fn watched(&self, seen: &Seen) -> Operator {
        let transport = Transport {
            http: self.http.clone(),
            seen: seen.clone(),
        };
        let context = self.operator.base_context();
        let context = context.with_http_transport(HttpTransporter::new(transport));
        self.operator.clone().with_context(context)
    }

    /// Says in bdr's words what an error of OpenDAL's was.
    fn explain(&self, error: Late, seen: &Seen) -> Failed {
        let error = match error {
            Late::Deadline(deadline) => {
                let said = format!("no answer within {} s", deadline.as_secs());
                return Failed::timeout(said);
            }
            Late::Error(error) => error,
        };
        let mut failed = seen.last().unwrap_or_else(|| services::local(&error));
        match error.kind() {
            ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists => {
                failed.error.trouble = Trouble::Exists;
            }
            ErrorKind::Unsupported if !failed.is_refused => {
                failed.error.trouble = Trouble::Unsupported;
            }
            _ => {}
        }
        failed.error.said = one_line(&self.access.without(&failed.error.said));
        if failed.error.said.is_empty() {
            "the answer makes no sense".clone_into(&mut failed.error.said);
        }
        failed
    }
}

/// An error, or none in time.
enum Late {
    Error(opendal::Error),
    Deadline(Duration),
}

/// How many entries, and requests, a listing may have with nothing new, one after the other: a
/// server that goes round in circles would never end.
const MAX_IDLE_ENTRIES: usize = 100_000;
const MAX_IDLE_REQUESTS: u64 = 100;

impl Remote {
    /// Runs through a listing; `each` gets objects and prefixes, and says whether one is new.
    fn walk(
        &self,
        prefix: &str,
        after: Option<&str>,
        is_recursive: bool,
        each: &mut dyn FnMut(&str, u64) -> Step,
    ) -> Result<(), Failed> {
        let seen = Seen::default();
        let operator = self.watched(&seen);
        let deadline = self.http.deadline(1 << 20) * 2;
        let options = opendal::options::ListOptions {
            recursive: is_recursive,
            start_after: after.filter(|_| self.is_ordered).map(str::to_owned),
            ..Default::default()
        };
        let started = self.wait(deadline, operator.lister_options(prefix, options));
        let mut lister: Lister = started
            .map_or(Err(Late::Deadline(deadline)), |done| {
                done.map_err(Late::Error)
            })
            .map_err(|error| self.explain(error, &seen))?;
        let (mut idle, mut asked) = (0, seen.requests());
        loop {
            let next = self.wait(deadline, lister.next());
            let entry = match next {
                None => return Err(self.explain(Late::Deadline(deadline), &seen)),
                Some(None) => return Ok(()),
                Some(Some(Err(error))) => return Err(self.explain(Late::Error(error), &seen)),
                Some(Some(Ok(entry))) => entry,
            };
            match each(entry.path(), entry.metadata().content_length()) {
                Step::New => (idle, asked) = (0, seen.requests()),
                Step::Idle => idle += 1,
                Step::Enough => return Ok(()),
            }
            if idle > MAX_IDLE_ENTRIES || seen.requests() - asked > MAX_IDLE_REQUESTS {
                let said = "the listing has no end";
                return Err(Failed::new(Trouble::Nonsense, said));
            }
        }
    }

    /// As [`Remote::walk`], again after a failure that may pass; `each` must not mind an entry that
    /// it had before.
    fn walk_patiently(
        &self,
        prefix: &str,
        is_recursive: bool,
        from: &mut dyn FnMut() -> Option<String>,
        each: &mut dyn FnMut(&str, u64) -> Step,
    ) -> StoreResult<()> {
        let mut attempts = Attempts::default();
        loop {
            let mut has_new = false;
            let walked = self.walk(
                prefix,
                from().as_deref(),
                is_recursive,
                &mut |path, bytes| {
                    let step = each(path, bytes);
                    has_new |= matches!(step, Step::New);
                    step
                },
            );
            let failed = match walked {
                Ok(()) => return Ok(()),
                // A directory that is not there is an empty prefix.
                Err(failed) if failed.error.trouble == Trouble::NotFound => return Ok(()),
                Err(failed) => failed,
            };
            if has_new {
                attempts.progress();
            }
            attempts
                .after(failed, &self.conduct)
                .map_err(|failed| failed.error)?;
        }
    }

    fn list_in_order(
        &self,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> StoreResult<()> {
        let last = std::cell::RefCell::new(after.map(str::to_owned));
        self.walk_patiently(
            prefix,
            true,
            &mut || last.borrow().clone(),
            &mut |path, bytes| {
                let is_old = last.borrow().as_deref().is_some_and(|last| path <= last);
                if is_old || !path.starts_with(prefix) || key::check(path).is_err() {
                    return Step::Idle;
                }
                *last.borrow_mut() = Some(path.to_owned());
                let key = path.to_owned();
                match each(Object { key, bytes }) {
                    ControlFlow::Continue(()) => Step::New,
                    ControlFlow::Break(()) => Step::Enough,
                }
            },
        )
    }

    /// Lists a service that has no order: all of it, before anything is told.
    fn list_at_once(
        &self,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> StoreResult<()> {
        let mut found = BTreeMap::new();
        self.walk_patiently(prefix, true, &mut || None, &mut |path, bytes| {
            if !path.starts_with(prefix) || key::check(path).is_err() {
                return Step::Idle;
            }
            match found.insert(path.to_owned(), bytes) {
                None => Step::New,
                Some(_) => Step::Idle,
            }
        })?;
        let wanted = found
            .into_iter()
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        let mut objects = wanted.map(|(key, bytes)| Object { key, bytes });
        let _ = objects.try_for_each(each);
        Ok(())
    }

    fn size_in_listing(&self, key: &str) -> StoreResult<Option<u64>> {
        let mut size = None;
        // In order: the key itself comes before all that begin with it.
        self.walk_patiently(key, true, &mut || None, &mut |path, bytes| {
            size = (path == key).then_some(bytes);
            Step::Enough
        })?;
        Ok(size)
    }

    fn put_once(&self, key: &str, bytes: &[u8], how: Write) -> Result<(), Failed> {
        let content = Buffer::from(bytes.to_vec());
        let options = opendal::options::WriteOptions {
            if_not_exists: how == Write::CreateOnly,
            ..Default::default()
        };
        let put = self.tell(bytes.len() as u64, |operator| {
            let (content, options) = (content.clone(), options.clone());
            async move { operator.write_options(key, content, options).await }
        });
        put.map(|_| ())
    }
}

/// What to do with an entry of a listing.
enum Step {
    New,
    Idle,
    Enough,
}

impl Drop for Remote {
    fn drop(&mut self) {
        // A request that is under way has its own deadline; nobody waits for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Store for Remote {
    fn put(&self, key: &str, bytes: &[u8], how: Write) -> StoreResult<()> {
        key::check(key)?;
        if how == Write::CreateOnly && !self.has_create_only {
            return Err(StoreError::new(
                Trouble::Unsupported,
                "this service has no condition \"only if there is none\"",
            ));
        }
        let put = self.put_once(key, bytes, how);
        attempts::arrived(put, bytes, || self.get(key, None))
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> StoreResult<Vec<u8>> {
        key::check(key)?;
        if let Some(answer) = super::without_asking(range.as_ref()) {
            return answer;
        }
        let wanted = range
            .as_ref()
            .map(|range| range.end.saturating_sub(range.start));
        let end = range.as_ref().map_or(0, |range| range.end);
        let content = self.ask(wanted.unwrap_or(64 << 20), |operator| {
            let options = opendal::options::ReadOptions {
                range: range.clone().map_or_else(Default::default, Into::into),
                ..Default::default()
            };
            async move { operator.read_options(key, options).await }
        })?;
        let content = content.to_vec();
        match wanted {
            Some(wanted) if wanted != content.len() as u64 => {
                let start = range.map_or(0, |range| range.start);
                Err(super::too_short(start + content.len() as u64, end))
            }
            _ => Ok(content),
        }
    }

    fn size(&self, key: &str) -> StoreResult<Option<u64>> {
        key::check(key)?;
        if self.is_found_by_prefix {
            return self.size_in_listing(key);
        }
        let found = self.ask(0, |operator| async move { operator.stat(key).await });
        match found {
            Ok(found) => Ok(found.is_file().then(|| found.content_length())),
            Err(error) if error.trouble == Trouble::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> StoreResult<()> {
        key::check_prefix(prefix)?;
        match self.is_ordered {
            true => self.list_in_order(prefix, after, each),
            false => self.list_at_once(prefix, after, each),
        }
    }

    fn names(&self, prefix: &str) -> StoreResult<Vec<String>> {
        key::check_prefix(prefix)?;
        let mut names = std::collections::BTreeSet::new();
        self.walk_patiently(prefix, false, &mut || None, &mut |path, _| {
            let name = path.strip_prefix(prefix).unwrap_or_default();
            match key::is_part(name.trim_end_matches('/')) && names.insert(name.to_owned()) {
                true => Step::New,
                false => Step::Idle,
            }
        })?;
        Ok(names.into_iter().collect())
    }

    fn remove(&self, key: &str) -> StoreResult<()> {
        key::check(key)?;
        match self.ask(0, |operator| async move { operator.delete(key).await }) {
            Err(error) if error.trouble == Trouble::NotFound => Ok(()),
            other => other,
        }
    }

    fn remove_together(&self, keys: &[String]) -> StoreResult<()> {
        for key in keys {
            key::check(key)?;
        }
        let capability = self.operator.info().capability();
        if capability.delete_max_size.is_none_or(|most| most < 2) {
            let said = "the service has no request for several objects";
            return Err(StoreError::new(Trouble::Unsupported, said));
        }
        self.ask(0, |operator| {
            let keys = keys.to_vec();
            async move { operator.delete_iter(keys).await }
        })
    }

    fn remove_versions(&self, key: &str) -> StoreResult<u64> {
        key::check(key)?;
        let capability = self.operator.info().capability();
        if !capability.list_with_versions || !capability.delete_with_version {
            return Ok(0);
        }
        let listed = self.ask(0, |operator| async move {
            let options = opendal::options::ListOptions {
                versions: true,
                deleted: true,
                ..Default::default()
            };
            operator.list_options(key, options).await
        });
        let listed = match listed {
            // A server that knows no versions.
            Err(error) if matches!(error.trouble, Trouble::Unsupported | Trouble::NotFound) => {
                return Ok(0);
            }
            listed => listed?,
        };
        let own = listed.iter().filter(|entry| entry.path() == key);
        let versions: Vec<&str> = own
            .filter_map(|entry| entry.metadata().version())
            // What a bucket without versions calls the only one.
            .filter(|version| *version != "null")
            .collect();
        for version in &versions {
            let options = opendal::options::DeleteOptions {
                version: Some((*version).to_owned()),
                ..Default::default()
            };
            self.ask(0, |operator| {
                let options = options.clone();
                async move { operator.delete_options(key, options).await }
            })?;
        }
        Ok(versions.len() as u64)
    }

    fn has_create_only(&self) -> bool {
        self.has_create_only
    }

    fn traffic(&self) -> Traffic {
        self.http.counted().so_far()
    }
}
