//! For tests: a store in memory, and one that breaks at any request.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::counted::Counted;
use super::{Object, Store, StoreError, StoreResult, Traffic, Trouble, Write, key};

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a service is able to do and a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// As S3: conditions are enforced.
    Strict,
    /// The service has no conditions: [`Write::CreateOnly`] is unsupported.
    NoConditions,
    /// The server ignores conditions and overwrites.
    IgnoresConditions,
    /// Nothing is ever removed or overwritten, as with a policy for adding alone.
    AddOnly,
    /// As S3, and nothing is removed before its retention ends.
    Retains,
}

struct Memory {
    objects: Mutex<BTreeMap<String, Arc<Vec<u8>>>>,
    /// Objects that listings do not show (yet).
    hidden: Mutex<BTreeSet<String>>,
    manners: Manners,
    counted: Counted,
}

/// A store in memory. Clones share the content.
#[derive(Clone)]
pub struct MemoryStore(Arc<Memory>);

impl MemoryStore {
    pub fn new(manners: Manners) -> Self {
        Self(Arc::new(Memory {
            objects: Mutex::default(),
            hidden: Mutex::default(),
            manners,
            counted: Counted::default(),
        }))
    }

    pub fn keys(&self) -> Vec<String> {
        lock(&self.0.objects).keys().cloned().collect()
    }

    /// Changes an object behind everybody's back; `None` removes it.
    pub fn change(&self, key: &str, bytes: Option<Vec<u8>>) {
        let mut objects = lock(&self.0.objects);
        match bytes {
            Some(bytes) => drop(objects.insert(key.to_owned(), Arc::new(bytes))),
            None => drop(objects.remove(key)),
        }
    }

    /// Leaves an object out of listings, as a store does that is behind.
    pub fn hide(&self, key: &str) {
        lock(&self.0.hidden).insert(key.to_owned());
    }

    pub fn show_all(&self) {
        lock(&self.0.hidden).clear();
    }

    /// Returns an independent copy.
    pub fn fork(&self) -> Self {
        self.fork_with(self.0.manners)
    }

    /// Returns an independent copy with other manners.
    pub fn fork_with(&self, manners: Manners) -> Self {
        let fresh = Self::new(manners);
        lock(&fresh.0.objects).clone_from(&lock(&self.0.objects));
        fresh
    }
}

impl Store for MemoryStore {
    fn put(&self, key: &str, bytes: &[u8], how: Write) -> StoreResult<()> {
        key::check(key)?;
        self.0.counted.request(bytes.len(), 0);
        let mut objects = lock(&self.0.objects);
        let exists = objects.contains_key(key);
        match (self.0.manners, how) {
            (Manners::NoConditions, Write::CreateOnly) => {
                return Err(StoreError::new(Trouble::Unsupported, "no conditions"));
            }
            (Manners::AddOnly, Write::Plain) => {
                return Err(StoreError::new(
                    Trouble::Forbidden,
                    "only adding is allowed",
                ));
            }
            (Manners::Strict | Manners::AddOnly | Manners::Retains, Write::CreateOnly)
                if exists =>
            {
                return Err(StoreError::new(Trouble::Exists, "there is one already"));
            }
            _ => {}
        }
        objects.insert(key.to_owned(), Arc::new(bytes.to_vec()));
        Ok(())
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> StoreResult<Vec<u8>> {
        key::check(key)?;
        if let Some(answer) = super::without_asking(range.as_ref()) {
            return answer;
        }
        let found = lock(&self.0.objects).get(key).cloned();
        let all = found.ok_or_else(|| StoreError::new(Trouble::NotFound, "there is none"));
        let content = all.and_then(|all| match range {
            None => Ok(all.to_vec()),
            Some(range) => {
                let whole = all.len() as u64;
                let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).ok());
                let part = start.zip(end).and_then(|(start, end)| all.get(start..end));
                let part = part.ok_or_else(|| super::too_short(whole, range.end))?;
                Ok(part.to_vec())
            }
        });
        self.0
            .counted
            .request(0, content.as_ref().map_or(0, Vec::len));
        content
    }

    fn size(&self, key: &str) -> StoreResult<Option<u64>> {
        key::check(key)?;
        self.0.counted.request(0, 0);
        let objects = lock(&self.0.objects);
        Ok(objects.get(key).map(|object| object.len() as u64))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> StoreResult<()> {
        key::check_prefix(prefix)?;
        // Without a lock while the caller works, which may ask for more.
        let found: Vec<Object> = {
            let hidden = lock(&self.0.hidden);
            let objects = lock(&self.0.objects);
            let seen = objects.iter().filter(|(key, _)| {
                key.starts_with(prefix)
                    && after.is_none_or(|after| key.as_str() > after)
                    && !hidden.contains(*key)
            });
            seen.map(|(key, object)| Object {
                key: key.clone(),
                bytes: object.len() as u64,
            })
            .collect()
        };
        let pages = found.len().div_ceil(1000).max(1);
        (0..pages).for_each(|_| self.0.counted.request(0, 0));
        let _ = found.into_iter().try_for_each(each);
        Ok(())
    }

    fn names(&self, prefix: &str) -> StoreResult<Vec<String>> {
        key::check_prefix(prefix)?;
        self.0.counted.request(0, 0);
        let hidden = lock(&self.0.hidden);
        let objects = lock(&self.0.objects);
        let below = objects.keys().filter(|key| !hidden.contains(*key));
        let below = below.filter_map(|key| key.strip_prefix(prefix));
        let names: BTreeSet<String> = below
            .map(|rest| match rest.split_once('/') {
                Some((first, _)) => format!("{first}/"),
                None => rest.to_owned(),
            })
            .collect();
        Ok(names.into_iter().collect())
    }

    fn remove(&self, key: &str) -> StoreResult<()> {
        key::check(key)?;
        self.0.counted.request(0, 0);
        if self.0.manners == Manners::AddOnly {
            return Err(StoreError::new(
                Trouble::Forbidden,
                "only adding is allowed",
            ));
        }
        if self.0.manners == Manners::Retains {
            return Err(StoreError::new(Trouble::Retained, "kept until it ends"));
        }
        lock(&self.0.objects).remove(key);
        Ok(())
    }

    fn has_create_only(&self) -> bool {
        self.0.manners != Manners::NoConditions
    }

    fn traffic(&self) -> Traffic {
        self.0.counted.so_far()
    }
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost(Trouble),
    /// It is carried out, and the answer never arrives.
    Unanswered(Trouble),
    /// It is carried out twice, and what the second says is the answer.
    Twice,
}

#[derive(Default)]
struct Plan {
    /// What was asked for, e.g. `put bdr1/…`.
    log: Vec<String>,
    fates: BTreeMap<usize, Fate>,
    /// Everything from this request on.
    rest: Option<(usize, Fate)>,
}

/// What listings show: the state of some changes ago.
#[derive(Default)]
struct Behind {
    changes: usize,
    past: VecDeque<BTreeMap<String, u64>>,
}

/// Wraps a store so that chosen requests fail. Requests are counted from 0 since the last plan.
/// Clones share the plan.
#[derive(Clone)]
pub struct Trial {
    inner: Arc<dyn Store>,
    plan: Arc<Mutex<Plan>>,
    behind: Arc<Mutex<Behind>>,
}

/// How many changes are remembered for listings that are behind.
const PAST: usize = 100;

impl Trial {
    pub fn new(inner: Arc<dyn Store>) -> Self {
        let (plan, behind) = (Arc::default(), Arc::default());
        Self {
            inner,
            plan,
            behind,
        }
    }

    /// Listings show the state of that many changes ago. (Changes count from the first call on.)
    pub fn lag(&self, changes: usize) {
        let mut behind = lock(&self.behind);
        behind.changes = changes;
        if behind.past.is_empty() {
            behind.past.extend(self.listed());
        }
    }

    fn listed(&self) -> Option<BTreeMap<String, u64>> {
        let mut all = BTreeMap::new();
        let listed = self.inner.list("", None, &mut |object| {
            all.insert(object.key, object.bytes);
            ControlFlow::Continue(())
        });
        listed.is_ok().then_some(all)
    }

    /// Remembers what is there before a change.
    fn changing(&self) {
        let mut behind = lock(&self.behind);
        if !behind.past.is_empty() {
            behind.past.extend(self.listed());
            let spare = behind.past.len().saturating_sub(PAST);
            behind.past.drain(..spare);
        }
    }

    /// Returns the state that a listing shows, `None` for that of now.
    fn shown(&self) -> Option<BTreeMap<String, u64>> {
        let behind = lock(&self.behind);
        let changes = behind.changes.min(behind.past.len());
        let at = behind.past.len() - changes;
        behind.past.get(at).filter(|_| changes > 0).cloned()
    }

    /// Lets everything through again, and counts from 0.
    pub fn reset(&self) {
        *lock(&self.plan) = Plan::default();
    }

    /// From request `number` on nothing arrives: the process died before it, or the network did.
    pub fn cut_before(&self, number: usize) {
        self.reset();
        lock(&self.plan).rest = Some((number, Fate::Lost(Trouble::Unreachable)));
    }

    /// Request `number` is carried out without an answer, and nothing after it arrives.
    pub fn cut_after(&self, number: usize) {
        self.reset();
        let mut plan = lock(&self.plan);
        plan.fates
            .insert(number, Fate::Unanswered(Trouble::Unreachable));
        plan.rest = Some((number + 1, Fate::Lost(Trouble::Unreachable)));
    }

    /// Request `number` alone has a fate.
    pub fn at(&self, number: usize, fate: Fate) {
        self.reset();
        lock(&self.plan).fates.insert(number, fate);
    }

    /// Returns what was asked for since the last plan.
    pub fn log(&self) -> Vec<String> {
        lock(&self.plan).log.clone()
    }

    fn ask<T>(
        &self,
        what: String,
        mut carry_out: impl FnMut() -> StoreResult<T>,
    ) -> StoreResult<T> {
        let fate = {
            let mut plan = lock(&self.plan);
            let number = plan.log.len();
            plan.log.push(what);
            let rest = plan.rest.filter(|(from, _)| number >= *from);
            plan.fates
                .get(&number)
                .copied()
                .or(rest.map(|(_, fate)| fate))
        };
        crash::before();
        let answer = match fate {
            Some(Fate::Lost(trouble)) => Err(StoreError::new(trouble, "lost (test)")),
            Some(Fate::Unanswered(trouble)) => {
                let _ = carry_out();
                Err(StoreError::new(trouble, "unanswered (test)"))
            }
            Some(Fate::Twice) => {
                let _ = carry_out();
                carry_out()
            }
            None => carry_out(),
        };
        crash::after();
        answer
    }
}

impl Store for Trial {
    fn prepare(&self) -> StoreResult<()> {
        self.inner.prepare()
    }

    fn put(&self, key: &str, bytes: &[u8], how: Write) -> StoreResult<()> {
        self.changing();
        self.ask(format!("put {key}"), || self.inner.put(key, bytes, how))
    }

    fn get(&self, key: &str, range: Option<Range<u64>>) -> StoreResult<Vec<u8>> {
        self.ask(format!("get {key}"), || self.inner.get(key, range.clone()))
    }

    fn size(&self, key: &str) -> StoreResult<Option<u64>> {
        self.ask(format!("size {key}"), || self.inner.size(key))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        each: &mut dyn FnMut(Object) -> ControlFlow<()>,
    ) -> StoreResult<()> {
        let shown = self.shown();
        let list = || match &shown {
            None => self.inner.list(prefix, after, each),
            Some(shown) => {
                let objects = shown.iter().filter(|(key, _)| {
                    key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
                });
                let mut objects = objects.map(|(key, bytes)| Object {
                    key: key.clone(),
                    bytes: *bytes,
                });
                let _ = objects.try_for_each(&mut *each);
                Ok(())
            }
        };
        self.ask(format!("list {prefix}"), list)
    }

    fn names(&self, prefix: &str) -> StoreResult<Vec<String>> {
        self.ask(format!("names {prefix}"), || self.inner.names(prefix))
    }

    fn remove_together(&self, keys: &[String]) -> StoreResult<()> {
        self.ask(format!("remove-together {}", keys.len()), || {
            self.inner.remove_together(keys)
        })
    }

    fn remove_versions(&self, key: &str) -> StoreResult<u64> {
        self.ask(format!("remove-versions {key}"), || {
            self.inner.remove_versions(key)
        })
    }

    fn remove(&self, key: &str) -> StoreResult<()> {
        self.changing();
        self.ask(format!("remove {key}"), || self.inner.remove(key))
    }

    fn has_create_only(&self) -> bool {
        self.inner.has_create_only()
    }

    fn traffic(&self) -> Traffic {
        self.inner.traffic()
    }
}

/// `BDR_TEST_KILL_REQUEST=n` kills the process right before its n-th request to a store, counted
/// from 1; `n+` right after it was carried out, before anybody knows.
#[cfg(feature = "test-support")]
mod crash {
    use std::sync::atomic::{AtomicU64, Ordering};

    static REQUESTS: AtomicU64 = AtomicU64::new(0);

    fn is_at(suffix: &str, number: u64) -> bool {
        #[expect(clippy::disallowed_methods, reason = "only in test builds")]
        let wanted = std::env::var("BDR_TEST_KILL_REQUEST");
        wanted.is_ok_and(|wanted| wanted == format!("{number}{suffix}"))
    }

    pub(super) fn before() {
        let number = REQUESTS.fetch_add(1, Ordering::SeqCst) + 1;
        if is_at("", number) {
            std::process::abort();
        }
    }

    pub(super) fn after() {
        if is_at("+", REQUESTS.load(Ordering::SeqCst)) {
            std::process::abort();
        }
    }
}
