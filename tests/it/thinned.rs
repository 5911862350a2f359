//! Prune of a destination: what its own retention does not keep goes, and what stays can be restored,
//! whatever happened on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use bdr::base::error::Error;
use bdr::base::id::SnapshotId;
use bdr::base::monitor::NullMonitor;
use bdr::care;
use bdr::care::verify::{VerifyLevel, verify};
use bdr::disk::store::{Manners, MemoryStore, Store};
use bdr::model::retention::{Policy, Reason};
use bdr::protect::backup::BackupOptions;
use bdr::remote::check::{CheckLevel, check};
use bdr::remote::crypt::{Generated, Identities};
use bdr::remote::ledger::{Ledger, Machine};
use bdr::remote::prune::{Plan, PruneOptions, PruneReport, look};
use bdr::remote::push::{Doubt, Link, PushOptions};
use bdr::repo::Repository;
use bdr::repo::snapshot::{SnapshotKind, Trigger};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use crate::backup::restore_to;
use crate::pushed::{Far, configured, copy_tree};
use crate::support::cli::{stderr, stdout};
use crate::support::{Object, Place, assert_same, noise, now, picture};

pub(crate) type Picture = BTreeMap<PathBuf, Object>;

fn zone(time: DateTime<Utc>) -> NaiveDateTime {
    time.naive_utc()
}

pub(crate) fn last(count: u32) -> Policy {
    Policy {
        last: count,
        guard_within: TimeDelta::hours(1),
        ..Policy::nothing()
    }
}

pub(crate) fn day(days: i64) -> DateTime<Utc> {
    now() + TimeDelta::days(days) + TimeDelta::minutes(1)
}

/// How to prune in a test.
pub(crate) struct How {
    pub(crate) policy: Option<Policy>,
    pub(crate) at: DateTime<Utc>,
    pub(crate) key: bool,
}

pub(crate) fn prune(
    far: &Far,
    place: &Place,
    repo: &Repository,
    how: &How,
) -> bdr::Result<(Plan, PruneReport)> {
    let machine = Machine::of(&place.path("remotes"), now())?;
    let mut ledger = Ledger::open(&place.path("remotes/far"), Duration::ZERO)?;
    let cache = tempfile::tempdir().unwrap();
    let encryption = far.encryption();
    let options = PruneOptions {
        push: PushOptions {
            now: how.at,
            host: "here".to_owned(),
            encryption: &encryption,
            check: false,
            doubt: Doubt::default(),
        },
        policy: how.policy.clone(),
        zone: &zone,
        wait: TimeDelta::days(1),
        eras: Vec::new(),
        insist: true,
        cache: cache.path(),
    };
    let identities = match how.key {
        true => far.identities(),
        false => Identities::default(),
    };
    let destination = far.destination(place);
    let pruning = look(
        Link {
            repo,
            destination: &destination,
            machine: &machine,
            ledger: &mut ledger,
        },
        &options,
        identities,
        &NullMonitor,
    )?;
    let plan = pruning.plan().clone();
    Ok((plan, pruning.apply()?))
}

/// A workspace whose backups are known by what was in it.
pub(crate) struct History {
    pub(crate) place: Place,
    pub(crate) repo: Repository,
    pub(crate) far: Far,
    pub(crate) pictures: BTreeMap<SnapshotId, Picture>,
    pub(crate) day: i64,
    seed: u64,
}

impl History {
    pub(crate) fn new(manners: Manners, encrypted: bool, seed: u64) -> Self {
        let place = Place::new();
        place.write("plain.txt", b"hello");
        place.write("big.log", &b"0123456789abcdef\n".repeat(2000));
        let repo = place.repository();
        Self {
            repo,
            place,
            far: Far::new(manners, encrypted),
            pictures: BTreeMap::new(),
            day: 1,
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    pub(crate) fn below(&mut self, most: usize) -> usize {
        // SplitMix64: the same history for the same seed, wherever it is run.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % most as u64).unwrap()
    }

    pub(crate) fn backup(&mut self, trigger: Trigger, full: bool) -> SnapshotId {
        self.day += 1;
        let mut options = BackupOptions::new(trigger, day(self.day));
        options.full = full;
        let report = self.place.backup_with(&self.repo, &options);
        let id = report.snapshot.id;
        self.pictures.insert(id, picture(&self.place.tree()));
        id
    }

    pub(crate) fn push(&self) -> bdr::remote::push::PushReport {
        let at = day(self.day) + TimeDelta::minutes(30);
        self.far
            .push_at(&self.place, &self.repo, false, at)
            .unwrap()
    }

    pub(crate) fn prune(&self, policy: Policy) -> (Plan, PruneReport) {
        self.prune_with(Some(policy), false)
    }

    pub(crate) fn prune_with(&self, policy: Option<Policy>, key: bool) -> (Plan, PruneReport) {
        let at = day(self.day) + TimeDelta::hours(1);
        let how = How { policy, at, key };
        prune(&self.far, &self.place, &self.repo, &how).unwrap()
    }

    /// Removes all but some snapshots here, and what only they need.
    pub(crate) fn prune_here(&self, count: u32) {
        let at = day(self.day) + TimeDelta::hours(2);
        let mut options = care::prune::PruneOptions::new(at, &zone);
        options.policy = last(count);
        options.grace = TimeDelta::zero();
        let plan = care::prune::plan(&self.repo, &options, &NullMonitor).unwrap();
        let report = care::prune::apply(&self.repo, &plan, &options, &NullMonitor).unwrap();
        assert_eq!(report.blocked, Vec::<String>::new());
    }

    /// Snapshots that a reader with the key finds there.
    pub(crate) fn there(&self) -> BTreeSet<SnapshotId> {
        let (there, _bare) = self.far.read(&self.place);
        there.snapshots().unwrap().iter().map(|s| s.id).collect()
    }

    /// Everything there can be restored as it was, by a reader who has only the key; and an observer
    /// without one finds all objects of all records.
    pub(crate) fn check(&self, what: &str) {
        let (there, _bare) = self.far.read(&self.place);
        let report = verify(&there, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
        assert_eq!(report.damage.len(), 0, "{what}: {:?}", report.damage);
        let snapshots = there.snapshots().unwrap();
        assert!(!snapshots.is_empty(), "{what}");
        for snapshot in &snapshots {
            let out = tempfile::tempdir().unwrap();
            let found = picture(&restore_to(&there, snapshot, out.path()));
            assert_same(&self.pictures[&snapshot.id], &found, what);
        }
        assert_eq!(there.all_snapshots().unwrap().missing().len(), 0, "{what}");
        let destination = self.far.destination(&self.place);
        let report = check(&destination, CheckLevel::Digests, None, &NullMonitor).unwrap();
        assert!(!report.is_damaged(), "{what}: {report:?}");
    }

    /// Nothing is there that nobody needs: judged by listings, not by what prune notes.
    pub(crate) fn check_nothing_spare(&self, what: &str) {
        let destination = self.far.destination(&self.place);
        let report = check(&destination, CheckLevel::Listed, None, &NullMonitor).unwrap();
        assert_eq!(report.unnamed, 0, "{what}");
        let (there, _bare) = self.far.read(&self.place);
        let (index, _) = there.refreshed_index().unwrap();
        let (mut blobs, mut whole, mut frames) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for snapshot in there.snapshots().unwrap() {
            if snapshot.kind == SnapshotKind::Full {
                whole.extend(snapshot.packs.iter().map(|pack| pack.id));
            }
            for root in &snapshot.roots {
                frames.extend(root.base);
                for entry in there.listing(root).unwrap() {
                    let content = entry.body.content.as_ref();
                    blobs.extend(content.iter().flat_map(|content| content.blobs()).copied());
                }
            }
        }
        for pack in index.packs() {
            let id = pack.pack.id;
            let has = |digest: &bdr::base::id::Digest| {
                let mut copies = index.copies(*digest);
                copies.any(|copy| index.packs()[copy.pack as usize].pack.id == id)
            };
            assert!(
                whole.contains(&id) || blobs.iter().any(has),
                "{what}: pack {id}"
            );
        }
        for name in there.storage().names("manifests").unwrap() {
            let frame = name.strip_suffix(".json.gz").unwrap().parse().unwrap();
            assert!(frames.contains(&frame), "{what}: {name}");
        }
    }

    /// What the lists in the trash say.
    fn trash(&self) -> BTreeSet<String> {
        let keys = self.far.store.keys().into_iter();
        let lists = keys.filter(|key| key.contains("/trash/"));
        let names = lists.flat_map(|key| {
            let bytes = self.far.store.get(&key, None).unwrap();
            let list: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let names = list["names"].as_array().unwrap().clone();
            names
                .into_iter()
                .map(|name| name.as_str().unwrap().to_owned())
        });
        names.filter(|name| name.starts_with("objects/")).collect()
    }

    /// Objects that the records name.
    fn named(&self) -> BTreeSet<String> {
        let bare = tempfile::tempdir().unwrap();
        let destination = self.far.destination(&self.place);
        let (_, storage) =
            bdr::remote::open(&destination, self.far.identities(), bare.path()).unwrap();
        let objects = storage.push().objects.values();
        let keys = objects.flat_map(|stored| stored.parts.iter().map(|part| part.key.to_hex()));
        keys.map(|hex| format!("objects/{}/{hex}", &hex[..2]))
            .collect()
    }

    fn objects(&self) -> BTreeSet<String> {
        let keys = self.far.store.keys().into_iter();
        keys.filter(|key| key.contains("/objects/")).collect()
    }
}

/// A history of which the older half was removed here after it was pushed.
fn worked(encrypted: bool) -> History {
    let mut history = History::new(Manners::Strict, encrypted, 1);
    history.backup(Trigger::Backup, true);
    for number in 0..6_u8 {
        history.place.write(
            &format!("f{}", number % 4),
            &noise(4000 + usize::from(number)),
        );
        history.place.write("plain.txt", &[number; 3000]);
        history.backup(Trigger::Backup, number == 3);
        history.push();
    }
    history.prune_here(3);
    history
}

#[test]
fn what_retention_drops_goes_a_day_later_and_the_rest_can_be_restored() {
    for encrypted in [true, false] {
        let mut history = worked(encrypted);
        let before = history.objects();
        assert_eq!(history.there().len(), 7);
        let (began_before, _bare) = history.far.read(&history.place);
        let (plan, report) = history.prune(last(2));
        assert_eq!((plan.blocked.len(), plan.unknown), (0, 0), "{plan:?}");
        assert_eq!((report.snapshots, report.held), (4, 3), "{report:?}");
        assert!(report.trashed.0 > 0 && report.removed.0 == 0, "{report:?}");
        // A reader that began before can finish: nothing is gone yet.
        assert_eq!(history.objects(), before);
        history.check("what is gone waits");
        history.prune(last(2));
        assert_eq!(history.objects(), before, "less than a day later");
        for snapshot in began_before.snapshots().unwrap() {
            let out = tempfile::tempdir().unwrap();
            let found = picture(&restore_to(&began_before, &snapshot, out.path()));
            assert_same(&history.pictures[&snapshot.id], &found, "began before");
        }
        history.day += 2;
        let (_, report) = history.prune(last(2));
        assert!(report.removed.0 > 0 && report.waiting.0 == 0, "{report:?}");
        assert!(history.objects().len() < before.len());
        history.check("a day later");
        history.check_nothing_spare("a day later");
        let trash = |key: &String| key.contains("/trash/");
        assert!(!history.far.store.keys().iter().any(trash));
        // What was dropped there and is here is not pushed again, at no cost.
        history.far.trial.reset();
        assert_eq!(history.push().number, None);
        assert_eq!(history.far.trial.log().len(), 1);
        let there = history.there();
        assert_eq!(there.len(), 3);
        // The next backup is.
        history.place.write("more", b"more");
        let newest = history.backup(Trigger::Backup, false);
        history.far.trial.reset();
        history.push();
        assert!(
            history.far.trial.log().len() <= 3,
            "{:?}",
            history.far.trial.log()
        );
        assert!(history.there().contains(&newest));
        history.check("after the next push");
    }
}

#[test]
fn a_push_takes_nothing_for_granted_that_a_prune_took_away() {
    for (manners, encrypted) in [
        (Manners::Strict, true),
        (Manners::Strict, false),
        (Manners::NoConditions, true),
        (Manners::IgnoresConditions, true),
        (Manners::IgnoresConditions, false),
    ] {
        let what = format!("{manners:?} {encrypted}");
        let mut history = History::new(manners, encrypted, 2);
        history.backup(Trigger::Backup, true);
        history.push();
        let content = noise(50_000);
        history.place.write("comes and goes", &content);
        history.backup(Trigger::Backup, false);
        history.push();
        std::fs::remove_file(history.place.tree().join("comes and goes")).unwrap();
        history.backup(Trigger::Backup, false);
        history.push();
        let (_, report) = history.prune(last(1));
        assert!(report.trashed.0 > 0, "{what}: {report:?}");
        // It comes back while the old object waits in the trash: with the same local pack.
        history.place.write("comes and goes", &content);
        history.backup(Trigger::Backup, false);
        history.push();
        history.check(&format!("{what}: content is there again"));
        // Not under a name that is about to be removed: that may be under way.
        if encrypted {
            let listed = history.trash();
            let named = history.named();
            assert!(!listed.is_empty(), "{what}");
            assert!(listed.is_disjoint(&named), "{what}: {listed:?} {named:?}");
        }
        history.day += 2;
        history.prune(last(1));
        history.check(&format!("{what}: the old object is gone"));
        history.check_nothing_spare(&what);
        // And once more, when the old object is gone.
        std::fs::remove_file(history.place.tree().join("comes and goes")).unwrap();
        history.backup(Trigger::Backup, false);
        history.push();
        history.prune(last(1));
        history.day += 2;
        history.prune(last(1));
        history.place.write("comes and goes", &content);
        history.backup(Trigger::Backup, false);
        history.push();
        history.check(&format!("{what}: again, long after"));
    }
}

#[test]
fn a_prune_cut_at_any_request_is_completed_by_the_next() {
    for manners in [Manners::Strict, Manners::NoConditions] {
        for encrypted in [true, false] {
            let mut start = History::new(manners, encrypted, 3);
            start.backup(Trigger::Backup, true);
            for number in 0..5 {
                start.place.write("each day", &content(number));
                start.backup(Trigger::Backup, number == 1);
                start.push();
            }
            // Something is in the trash already, and its day is over.
            let (_, report) = start.prune(last(3));
            assert!(report.waiting.0 >= 2, "{report:?}");
            start.day += 2;
            start.place.write("later", &noise(3000));
            start.backup(Trigger::Backup, false);
            start.prune_here(1);
            let saved = tempfile::tempdir().unwrap();
            let remotes = start.place.path("remotes");
            copy_tree(&remotes, saved.path());
            let store = start.far.store.clone();
            let key = |far: &Far| {
                far.key
                    .as_ref()
                    .map(|key| Generated::parse(&key.secret).unwrap())
            };
            let mut cuts = 0;
            for after in [false, true] {
                for number in 0.. {
                    std::fs::remove_dir_all(&remotes).unwrap();
                    copy_tree(saved.path(), &remotes);
                    start.far = Far::over(&store.fork(), key(&start.far));
                    match after {
                        true => start.far.trial.cut_after(number),
                        false => start.far.trial.cut_before(number),
                    }
                    let how = How {
                        policy: Some(last(1)),
                        at: day(start.day) + TimeDelta::hours(1),
                        key: false,
                    };
                    let done = prune(&start.far, &start.place, &start.repo, &how).is_ok();
                    let what = format!(
                        "{manners:?} {encrypted} {number} {after}: {:?}",
                        start.far.trial.log()
                    );
                    start.far.trial.reset();
                    start.check(&what);
                    start.push();
                    start.check(&format!("{what}, pushed"));
                    start.prune(last(1));
                    start.day += 2;
                    start.prune(last(1));
                    start.check(&format!("{what}, pruned"));
                    start.check_nothing_spare(&what);
                    assert!(start.there().len() <= 2, "{what}");
                    start.day -= 2;
                    if done {
                        for request in ["/pushes/", "put bdr1/", "/trash/", "remove "] {
                            let log = &what;
                            assert!(log.contains(request), "{request}: {log}");
                        }
                        break;
                    }
                    cuts += 1;
                }
            }
            assert!(cuts >= 12, "only {cuts} cuts");
        }
    }
}

/// Any order of backups, guards, pushes, local and remote prunes, and losses: what the reader finds is
/// whole, what retention keeps is there, and in the end nothing is spare.
#[test]
fn whatever_the_history_what_stays_is_whole() {
    let count = std::env::var("BDR_TEST_HISTORIES").map_or(10, |n| n.parse().unwrap());
    for seed in 0..count {
        let encrypted = seed % 2 == 0;
        let mut history = History::new(Manners::Strict, encrypted, 1000 + seed);
        history.backup(Trigger::Backup, true);
        history.push();
        let mut said = Vec::new();
        for _ in 0..30 {
            let choice = history.below(14);
            said.push(choice);
            let what = format!("seed {seed}: {said:?}");
            match choice {
                0..=4 => {
                    let name = format!("f{}", history.below(6));
                    let size = 500 + history.below(6000);
                    // The same contents come back now and then.
                    history.place.write(&name, &noise(size - size % 1500));
                    if history.below(3) == 0 {
                        let _ =
                            std::fs::remove_file(history.place.tree().join(format!("f{choice}")));
                    }
                    let trigger =
                        [Trigger::Backup, Trigger::Backup, Trigger::Guard][history.below(3)];
                    let full = history.below(5) == 0;
                    history.backup(trigger, full);
                }
                5..=8 => drop(history.push()),
                9 => {
                    let count = 1 + history.below(4);
                    history.prune_here(u32::try_from(count).unwrap());
                }
                10..=12 => {
                    let count = 1 + u32::try_from(history.below(3)).unwrap();
                    let policy = match history.below(2) {
                        0 => last(count),
                        _ => Policy {
                            daily: count,
                            weekly: 1,
                            ..last(1)
                        },
                    };
                    let (plan, report) = history.prune(policy);
                    assert_eq!(plan.blocked, Vec::<String>::new(), "{what}");
                    let stays = plan.snapshots.iter().filter(|one| one.decision.keep);
                    let stays: BTreeSet<_> = stays.map(|one| one.decision.id).collect();
                    assert_eq!(history.there(), stays, "{what}");
                    assert_eq!(report.held, stays.len() as u64, "{what}");
                    history.check(&what);
                }
                _ => match history.below(3) {
                    // What was noted of needs is lost.
                    0 => drop(std::fs::remove_file(
                        history.place.path("remotes/far/needs"),
                    )),
                    1 => drop(std::fs::remove_file(
                        history.place.path("remotes/far/trash.json.gz"),
                    )),
                    // All notes are lost: the key finds them again.
                    _ => {
                        std::fs::remove_dir_all(history.place.path("remotes/far")).unwrap();
                        let (plan, _) = history.prune_with(None, true);
                        assert_eq!(plan.blocked, Vec::<String>::new(), "{what}");
                    }
                },
            }
        }
        let what = format!("seed {seed}: {said:?}");
        history.push();
        let (plan, _) = history.prune_with(Some(last(1)), true);
        assert_eq!(
            (plan.blocked.len(), plan.unknown),
            (0, 0),
            "{what} {plan:?}"
        );
        history.day += 2;
        history.prune(last(1));
        history.check(&what);
        history.check_nothing_spare(&what);
    }
}

#[test]
fn what_a_store_keeps_is_a_state_and_no_error() {
    // Until a retention ends.
    let mut history = worked(true);
    let keys = |far: &Far| {
        far.key
            .as_ref()
            .map(|key| Generated::parse(&key.secret).unwrap())
    };
    let store = history.far.store.clone();
    history.far = Far::over(&store.fork_with(Manners::Retains), keys(&history.far));
    let (_, report) = history.prune(last(2));
    assert_eq!(
        (report.snapshots, report.is_forbidden),
        (4, false),
        "{report:?}"
    );
    history.day += 2;
    let (_, report) = history.prune(last(2));
    assert!(report.retained.0 > 0 && report.removed.0 == 0, "{report:?}");
    assert_eq!(report.waiting.0, 0);
    history.check("retained");
    // Content that comes back is not taken for the object that waits.
    history.place.write("f0", &noise(4000));
    history.backup(Trigger::Backup, false);
    history.push();
    history.check("retained, and pushed again");
    // The retention ends.
    history.far = Far::over(
        &history.far.store.fork_with(Manners::Strict),
        keys(&history.far),
    );
    let (_, report) = history.prune(last(3));
    assert!(report.removed.0 > 0 && report.retained.0 == 0, "{report:?}");
    history.day += 2;
    history.prune(last(3));
    history.check("the retention has ended");
    history.check_nothing_spare("the retention has ended");

    // For good: nothing is said to be gone that stays.
    let mut history = worked(true);
    let store = history.far.store.clone();
    history.far = Far::over(&store.fork_with(Manners::AddOnly), keys(&history.far));
    let (plan, report) = history.prune(last(2));
    assert_eq!(plan.going().count(), 4);
    assert!(report.is_forbidden && report.number.is_none(), "{report:?}");
    assert_eq!(history.there().len(), 7);
    let pushes = |far: &Far| {
        far.store
            .keys()
            .iter()
            .filter(|k| k.contains("/pushes/"))
            .count()
    };
    assert_eq!(pushes(&history.far), 6);
    history.check("add-only");
    // With credentials that can, it is pruned like any other.
    let store = history.far.store.clone();
    history.far = Far::over(&store.fork_with(Manners::Strict), keys(&history.far));
    let (_, report) = history.prune(last(2));
    assert_eq!(report.snapshots, 4, "{report:?}");
    history.day += 2;
    history.prune(last(2));
    history.check("with other credentials");
    history.check_nothing_spare("with other credentials");
}

#[test]
fn without_notes_what_was_there_stays_until_the_key_is_given() {
    // Only the book is lost: what this repository still has is looked up again.
    let history = worked(true);
    std::fs::remove_file(history.place.path("remotes/far/needs")).unwrap();
    let (plan, report) = history.prune(last(2));
    assert_eq!((plan.unknown, report.snapshots), (0, 4), "{plan:?}");
    history.check("looked up here");
    // What it does not have keeps all that was there when it came.
    let history = worked(true);
    std::fs::remove_file(history.place.path("remotes/far/needs")).unwrap();
    let before = history.objects();
    let (plan, report) = history.prune(last(5));
    assert!(plan.unknown > 0, "{plan:?}");
    let kept = plan
        .snapshots
        .iter()
        .filter(|one| one.decision.reasons == [Reason::Unknown]);
    assert_eq!((kept.count(), report.snapshots), (2, 0), "{plan:?}");
    assert_eq!((report.number, history.objects()), (None, before.clone()));
    history.check("unknown");
    let (plan, report) = history.prune_with(Some(last(5)), true);
    assert_eq!((plan.unknown, report.snapshots), (0, 2), "{plan:?}");
    history.check("with the key");
    // So does a line that is damaged: it is unknown, and not something else.
    let history = worked(true);
    let book = history.place.path("remotes/far/needs");
    let mut bytes = std::fs::read(&book).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&book, bytes).unwrap();
    history.prune(last(2));
    history.check("a damaged line");
    // Everything is lost: what is encrypted cannot be read without the key.
    let mut history = worked(true);
    std::fs::remove_dir_all(history.place.path("remotes/far")).unwrap();
    let (plan, report) = history.prune(last(1));
    assert_eq!((plan.blocked.len(), report.number), (1, None), "{plan:?}");
    assert!(plan.blocked[0].contains("--identity"), "{plan:?}");
    let (plan, report) = history.prune_with(Some(last(2)), true);
    assert_eq!((plan.blocked.len(), report.snapshots), (0, 4), "{plan:?}");
    history.day += 2;
    history.prune(last(2));
    history.check("found again with the key");
    history.check_nothing_spare("found again with the key");
    // In the clear, everybody can.
    let mut history = worked(false);
    std::fs::remove_dir_all(history.place.path("remotes/far")).unwrap();
    let (plan, report) = history.prune(last(2));
    assert_eq!((plan.blocked.len(), report.snapshots), (0, 4), "{plan:?}");
    history.day += 2;
    history.prune(last(2));
    history.check("found again in the clear");
    history.check_nothing_spare("found again in the clear");
}

#[test]
fn a_push_after_the_notes_were_lost_relies_on_nothing_in_the_trash() {
    for encrypted in [true, false] {
        let mut history = worked(encrypted);
        history.prune(last(1));
        // The trash, the book and the records are lost; the objects wait there.
        std::fs::remove_dir_all(history.place.path("remotes/far")).unwrap();
        history.place.write("f0", &noise(4000));
        history.place.write("f1", &noise(4001));
        history.backup(Trigger::Backup, true);
        history.push();
        history.check("pushed without notes");
        history.prune_with(Some(last(1)), true);
        history.day += 2;
        history.prune_with(Some(last(1)), true);
        history.check("and pruned");
        history.check_nothing_spare("and pruned");
    }
}

#[test]
fn nothing_is_removed_while_something_there_is_damaged() {
    let history = worked(true);
    let store = history.far.store.clone();
    let keys: Vec<String> = store.keys();
    let newest = keys.iter().rfind(|key| key.contains("/pushes/")).unwrap();
    let objects: Vec<&String> = keys
        .iter()
        .filter(|key| key.contains("/objects/"))
        .collect();
    let mut damages: Vec<(String, Option<Vec<u8>>)> = vec![
        (newest.clone(), None),
        (newest.clone(), Some(b"{}\n".to_vec())),
        // Another machine under this id, and a twin.
        (
            newest.replace("0000000006", "0000000007"),
            Some(store.get(newest, None).unwrap()),
        ),
        (
            newest.replace("0000000006-0", "0000000006-1"),
            Some(b"{}\n".to_vec()),
        ),
    ];
    damages.extend(objects.iter().map(|key| ((*key).clone(), None)));
    let remotes = history.place.path("remotes");
    let saved = tempfile::tempdir().unwrap();
    copy_tree(&remotes, saved.path());
    let mut blocked = 0;
    for (key, bytes) in damages {
        std::fs::remove_dir_all(&remotes).unwrap();
        copy_tree(saved.path(), &remotes);
        let fork = store.fork();
        fork.change(&key, bytes.clone());
        let far = Far::over(
            &fork,
            history
                .far
                .key
                .as_ref()
                .map(|key| Generated::parse(&key.secret).unwrap()),
        );
        let before = fork.keys();
        let how = How {
            policy: Some(last(2)),
            at: day(history.day) + TimeDelta::hours(1),
            key: false,
        };
        match prune(&far, &history.place, &history.repo, &how) {
            Ok((plan, report)) if plan.blocked.is_empty() => {
                // Only what goes was lost.
                assert!(
                    report.number.is_some() && key.contains("/objects/"),
                    "{key}"
                );
                continue;
            }
            Ok((plan, report)) => {
                assert_eq!(report.number, None, "{plan:?}");
                blocked += 1;
            }
            Err(error) => assert!(matches!(error, Error::Invalid { .. }), "{key}: {error}"),
        }
        assert_eq!(fork.keys(), before, "{key}");
    }
    assert!(blocked >= 4, "{blocked}");
    // A small pack that was lost, with others that were put together with it, is sent again; what needed
    // it needs what stands for it.
    for key in objects {
        std::fs::remove_dir_all(&remotes).unwrap();
        copy_tree(saved.path(), &remotes);
        let fork = store.fork();
        fork.change(key, None);
        let key_of = history.far.key.as_ref();
        let mended = Far::over(
            &fork,
            key_of.map(|key| Generated::parse(&key.secret).unwrap()),
        );
        let at = day(history.day) + TimeDelta::minutes(40);
        let report = mended
            .push_at(&history.place, &history.repo, true, at)
            .unwrap();
        if report.mended == 0 {
            continue;
        }
        let how = How {
            policy: Some(last(2)),
            at: day(history.day) + TimeDelta::hours(1),
            key: false,
        };
        let (plan, _) = prune(&mended, &history.place, &history.repo, &how).unwrap();
        if plan.blocked.is_empty() {
            let (there, _bare) = mended.read(&history.place);
            let report = verify(&there, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
            assert_eq!(report.damage.len(), 0, "{key}: {:?}", report.damage);
        }
    }
}

#[test]
fn pins_the_newest_and_what_an_undo_needs_stay() {
    let mut history = worked(true);
    let first = *history.pictures.keys().next().unwrap();
    let mut all = history.there().into_iter();
    assert_eq!(all.next(), Some(first));
    // Pinned while it was here; the mark is there as well.
    let mut history2 = History::new(Manners::Strict, true, 9);
    let id = history2.backup(Trigger::Backup, true);
    history2
        .repo
        .put_mark(&bdr::repo::marks::Mark {
            version: 1,
            repository: history2.repo.id(),
            id,
            tags: vec!["release".to_owned()],
            pinned: true,
        })
        .unwrap();
    for number in 0..4_u8 {
        history2.place.write("plain.txt", &[number; 100]);
        history2.backup(Trigger::Backup, false);
        history2.push();
    }
    let (plan, _) = history2.prune(last(1));
    let pinned = plan
        .snapshots
        .iter()
        .find(|one| one.decision.id == id)
        .unwrap();
    assert!(
        pinned.decision.keep && pinned.decision.reasons.contains(&Reason::Pinned),
        "{pinned:?}"
    );
    assert_eq!(history2.there().len(), 2);
    history2.check("pinned");
    // A floor: what came lately stays, whatever the counts say.
    let floor = Policy {
        within: Some(TimeDelta::days(30)),
        ..last(1)
    };
    let (plan, report) = history.prune(floor);
    assert_eq!((plan.going().count(), report.number), (0, None));
    history.day += 60;
    history.place.write("more", b"much later");
    history.backup(Trigger::Backup, false);
    history.push();
    history.check("later");
}

/// Whatever the clock was when something was put into the trash, it waits a day, and not a year.
#[test]
fn a_clock_that_was_ahead_keeps_the_trash_no_longer() {
    let mut history = worked(true);
    history.day += 300;
    // Nothing new was stored for so long that the policy does not trust the clock; leftovers go.
    let orphan = history.far.store.keys();
    let orphan = orphan.iter().find(|key| key.contains("/objects/")).unwrap();
    let (dir, _) = orphan.split_once("/objects/").unwrap();
    let orphan = format!("{dir}/objects/ab/ab{}", "0".repeat(62));
    history.far.store.change(&orphan, Some(b"left".to_vec()));
    let (_, report) = history.prune_with(None, false);
    assert_eq!(report.waiting.0, 1, "{report:?}");
    history.day -= 299;
    history.prune_with(None, false);
    assert!(history.far.store.keys().contains(&orphan));
    history.day += 2;
    let (_, report) = history.prune_with(None, false);
    assert_eq!((report.removed.0, report.waiting.0), (1, 0), "{report:?}");
    assert!(!history.far.store.keys().contains(&orphan));
    history.check("afterwards");
}

#[test]
fn only_the_own_prefix_is_touched() {
    let history = worked(true);
    // Another machine's prefix, and other files of somebody.
    let strange = [
        "bdr1/01JDBYZ3M6ZQ0VJ7CSPQ3W5XKT/objects/aa/x",
        "bdr1/01JDBYZ3M6ZQ0VJ7CSPQ3W5XKT/pushes/0000000001-01JDBYZ3M6ZQ0VJ7CSPQ3W5XKT",
        "holiday.jpg",
    ];
    for key in strange {
        history.far.store.change(key, Some(b"x".to_vec()));
    }
    let own = history
        .far
        .store
        .keys()
        .into_iter()
        .find(|key| key.ends_with("machine.json"))
        .unwrap();
    let odd = own.replace("machine.json", "notes.txt");
    history.far.store.change(&odd, Some(b"x".to_vec()));
    history.prune(last(1));
    let mut later = history;
    later.day += 3;
    later.prune(last(1));
    let keys: MemoryStore = later.far.store.clone();
    for key in strange
        .iter()
        .map(|key| (*key).to_owned())
        .chain([odd, own])
    {
        assert!(keys.keys().contains(&key), "{key}");
    }
}

/// Content that is like no other day's.
fn content(number: i64) -> Vec<u8> {
    let seed = u8::try_from(number * 37 % 256).unwrap();
    let mut state = seed;
    let mix = |byte: u8| {
        state = state.wrapping_mul(5).wrapping_add(seed | 1);
        byte ^ state
    };
    noise(4000).into_iter().map(mix).collect()
}

/// A place with two destinations, backed up and pushed on each of some days.
fn with_days(days: i64) -> (Place, String) {
    let (place, _) = configured();
    let key = place.path("key.txt").display().to_string();
    for number in 1..=days {
        place.write("each day", &content(number));
        place.run_at(&at(number), &["backup"], 0);
        place.run_at(&at(number), &["push"], 0);
    }
    (place, key)
}

pub(crate) fn at(days: i64) -> String {
    day(days).to_rfc3339()
}

/// Adds lines to a destination in the configuration.
fn keep(place: &Place, name: &str, lines: &str) {
    let file = place.path("bdr/config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let title = format!("[remote.{name}]");
    std::fs::write(&file, text.replace(&title, &format!("{title}\n{lines}"))).unwrap();
}

#[test]
fn a_destination_keeps_everything_until_somebody_says_what_it_keeps() {
    let (place, _) = with_days(0);
    let none = place.run_at(&at(1), &["prune", "--remote", "far"], 2);
    assert!(stderr(&none).contains("bdr push far"), "{}", stderr(&none));
    let (place, key) = with_days(5);
    let list = |url: &str| {
        let args = ["--json", "list", "--from", url, "--identity", &key];
        let out = place.bdr_at(&at(9), &args).output().unwrap();
        let document: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        document["data"]["snapshots"].as_array().unwrap().len()
    };
    let url = format!("file://{}", place.path("far").display());
    let said = stdout(&place.run_at(&at(5), &["prune", "--remote", "far", "--yes"], 0));
    assert!(
        said.contains("every snapshot stays") && said.contains("keep_daily"),
        "{said}"
    );
    assert_eq!(list(&url), 6);
    // Rules on the command line: nothing that came in the last 30 days goes, unless that is said too.
    let only = ["prune", "--remote", "far", "--keep-last", "2"];
    let shown = place.json_at(&at(5), &[&only[..], &["--dry-run"]].concat(), 0);
    assert_eq!(shown["result"]["snapshots"], 0, "{shown}");
    let only = [&only[..], &["--keep-within", "1h"]].concat();
    let shown = place.json_at(&at(5), &[&only[..], &["--dry-run"]].concat(), 0);
    assert_eq!(
        (&shown["applied"], &shown["result"]["snapshots"]),
        (&false.into(), &3.into()),
        "{shown}"
    );
    let asked = stdout(&place.run_at(&at(5), &only, 3));
    assert!(
        asked.contains("Would remove 3 of 6 snapshots") && asked.contains("--yes"),
        "{asked}"
    );
    assert_eq!(list(&url), 6);
    let done = place.json_at(&at(5), &[&only[..], &["--yes"]].concat(), 0);
    assert_eq!(
        (&done["result"]["snapshots"], list(&url)),
        (&3.into(), 3),
        "{done}"
    );
    assert!(done["result"]["waiting"].as_u64().unwrap() > 0, "{done}");
    let show = place.json_at(&at(5), &["remote", "show", "far"], 0);
    assert_eq!(show["retention"]["pruned_by"], "hand", "{show}");
    assert_eq!(show["retention"]["waiting"], done["result"]["waiting"]);
    let status = place.json_at(&at(5), &["status"], 0);
    assert_eq!(status["remotes"][0]["retention"], show["retention"]);
    let words = stdout(&place.run_at(&at(5), &["remote", "show", "far"], 0));
    assert!(
        words.contains("every snapshot") && words.contains("in its trash"),
        "{words}"
    );
    // The other destination is as it was.
    let plain = format!("file://{}", place.path("plain").display());
    assert_eq!(
        place.json_at(&at(5), &["machines", &plain], 0)["machines"][0]["snapshots"],
        6
    );
    // A push brings nothing back.
    let pushed = place.json_at(&at(6), &["push", "far"], 0);
    assert_eq!(
        pushed["remotes"][0]["push"],
        serde_json::Value::Null,
        "{pushed}"
    );
    place.run_at(&at(6), &["push", "far", "--check"], 0);
    place.run_at(
        &at(6),
        &["verify", "--remote", "far", "--identity", &key],
        0,
    );
    // A tick finishes what waits, and nothing else.
    place.configure("[schedule]\nat = \"00:00\"\n");
    place.run_at(&at(7), &["tick"], 0);
    let show = place.json_at(&at(7), &["remote", "show", "far"], 0);
    assert_eq!(
        (&show["retention"]["waiting"], &show["retention"]["keeps"]),
        (&0.into(), &serde_json::json!([])),
        "{show}"
    );
    let checked = place.json_at(
        &at(7),
        &["verify", "--remote", "far", "--identity", &key],
        0,
    );
    assert_eq!(
        (&checked["unnamed"], &checked["faults"]),
        (&0.into(), &serde_json::json!([])),
        "{checked}"
    );
}

#[test]
fn a_tick_prunes_where_it_is_asked_to_and_what_is_left_needs_no_bdr() {
    let (place, key) = with_days(4);
    for name in ["far", "plain"] {
        keep(&place, name, "keep_last = 2\nkeep_within = \"1h\"\n");
    }
    place.configure("[schedule]\nat = \"00:00\"\n");
    place.write("last", b"last");
    place.run_at(&at(5), &["tick"], 0);
    place.run_at(&at(7), &["tick"], 0);
    let status = place.json_at(&at(7), &["status"], 0);
    for remote in status["remotes"].as_array().unwrap() {
        assert_eq!(remote["retention"]["pruned_by"], "bdr", "{remote}");
        assert_eq!(
            remote["retention"]["error"],
            serde_json::Value::Null,
            "{remote}"
        );
        assert_eq!(remote["behind"], 0, "{remote}");
        assert!(
            (2..=4).contains(&remote["snapshots"].as_u64().unwrap()),
            "{remote}"
        );
    }
    let words = stdout(&place.run_at(&at(7), &["status"], 0));
    assert!(words.contains("pruned"), "{words}");
    let wanted = picture(&place.tree());
    for name in ["far", "plain"] {
        let mut dir = place.path(name).join("bdr1");
        let machines = std::fs::read_dir(&dir).unwrap().flatten();
        let mut machines = machines.map(|entry| entry.file_name());
        dir.push(machines.find(|name| name.len() == 26).unwrap());
        let recover_with = |has_key: bool, args: &[&str]| {
            let mut command = std::process::Command::new("python3");
            command.arg(dir.join("recover.py"));
            if has_key {
                command.args(["--identity", &key]);
            }
            command.args(args).output()
        };
        let recover = |args: &[&str]| recover_with(name == "far", args);
        // Without a key: sizes and checksums.
        let Ok(checked) = recover_with(false, &["verify"]) else {
            println!("SKIPPED: no python3: recover.py is not tried");
            return;
        };
        assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
        let checked = recover(&["verify"]).unwrap();
        assert_eq!(checked.status.code(), Some(0), "{}", stderr(&checked));
        let out = place.path(&format!("out-{name}"));
        let restored = recover(&["restore", "latest", out.to_str().unwrap()]).unwrap();
        assert_eq!(restored.status.code(), Some(0), "{}", stderr(&restored));
        assert_same(&wanted, &picture(&out.join("tree")), name);
        // Without a key: the lists of the full backups that are left name what is there.
        let fulls =
            std::fs::read_dir(dir.join("fulls")).map(|fulls| fulls.flatten().collect::<Vec<_>>());
        for full in fulls.unwrap_or_default() {
            let text = std::fs::read_to_string(full.path()).unwrap();
            for object in text.split_whitespace() {
                assert!(dir.join(object).is_file(), "{name} {object}");
            }
        }
    }
    // A clone knows of nothing that is missing, and can be used.
    let bare = Place::new();
    let url = format!("file://{}", place.path("far").display());
    bare.run_at(&at(8), &["clone", &url, "--identity", &key], 0);
    bare.run_at(&at(8), &["verify"], 0);
    let status = bare.json_at(&at(8), &["status"], 0);
    let codes: Vec<_> = status["troubles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["code"].clone())
        .collect();
    assert!(
        !codes
            .iter()
            .any(|code| code == "missing-records" || code == "damaged"),
        "{status}"
    );
    // What a destination keeps follows its new name.
    let before = place.json_at(&at(8), &["remote", "show", "far"], 0);
    place.run_at(&at(8), &["remote", "rename", "far", "away"], 0);
    let after = place.json_at(&at(8), &["remote", "show", "away"], 0);
    assert_eq!(before["retention"], after["retention"]);
    // Another place is another destination.
    keep(&place, "plain", "automatic = false\n");
    let file = place.path("bdr/config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::create_dir(place.path("other")).unwrap();
    std::fs::write(&file, text.replace("/plain\"", "/other\"")).unwrap();
    let none = place.run_at(&at(8), &["prune", "--remote", "plain", "--yes"], 2);
    assert!(
        stderr(&none).contains("bdr push plain"),
        "{}",
        stderr(&none)
    );
}

#[test]
fn a_lost_state_directory_asks_for_the_key_once() {
    let (place, key) = with_days(4);
    keep(&place, "far", "keep_last = 1\nkeep_within = \"0d\"\n");
    let remotes = place.path("bdr/state/remotes");
    let repository = std::fs::read_dir(&remotes)
        .unwrap()
        .flatten()
        .find(|e| e.path().is_dir())
        .unwrap();
    let far = repository.path().join("far");
    for file in ["needs", "trash.json.gz"] {
        let _ = std::fs::remove_file(far.join(file));
    }
    std::fs::remove_dir_all(far.join("pushes")).unwrap();
    let args = ["prune", "--remote", "far", "--yes"];
    let said = stdout(&place.run_at(&at(4), &args, 3));
    assert!(
        said.contains("--identity FILE") && said.contains("Nothing is removed"),
        "{said}"
    );
    let with = [&args[..], &["--identity", &key]].concat();
    let done = place.json_at(&at(4), &with, 0);
    assert_eq!(done["result"]["snapshots"], 3, "{done}");
    place.run_at(&at(6), &args, 0);
    place.run_at(
        &at(6),
        &["verify", "--remote", "far", "--identity", &key],
        0,
    );
}

/// Every kind of server: what goes is gone there, and what stays is whole.
#[cfg(feature = "remote")]
#[test]
fn real_servers_are_pruned() {
    for name in [
        "s3",
        "sftp",
        "webdav",
        "webdav-rclone",
        "azblob",
        "s3-lax",
        "s3-locked",
    ] {
        let Some(server) = crate::stores::server(name, "pruned") else {
            continue;
        };
        let place = Place::with_repository();
        place.init();
        let run = |days: i64, args: &[&str]| {
            let mut command = crate::stores::with(&place, &server, args);
            command.env("BDR_TEST_NOW", at(days)).env("TZ", "UTC");
            let output = command.output().unwrap();
            let said = stderr(&output) + &stdout(&output);
            assert_eq!(output.status.code(), Some(0), "{name} {args:?}: {said}");
            stdout(&output)
        };
        run(0, &["remote", "add", "far", &server.url]);
        for number in 1..4 {
            place.write("each day", &content(number));
            run(number, &["backup"]);
            run(number, &["push", "far"]);
        }
        let args = [&["--json"][..], &crate::stores::prune("1")].concat();
        let result = |days: i64| {
            let document: serde_json::Value = serde_json::from_str(&run(days, &args)).unwrap();
            document["data"]["result"].clone()
        };
        let first = result(3);
        assert!(first["snapshots"].as_u64().unwrap() >= 2, "{name} {first}");
        let second = result(5);
        let gone = |key: &str| second[key].as_u64().unwrap();
        assert!(gone("removed") + gone("retained") > 0, "{name} {second}");
        let config = place.json(&["config", "path"]);
        let config = PathBuf::from(config["path"].as_str().unwrap());
        let key = config.with_file_name("far.key");
        run(
            5,
            &[
                "verify",
                "--remote",
                "far",
                "--identity",
                key.to_str().unwrap(),
            ],
        );
    }
}

/// What stays is opened by the new key, and the last push of the old one stays to be read by that.
#[test]
fn a_destination_is_pruned_after_its_key_was_changed() {
    let place = Place::with_repository();
    place.write("plain.txt", b"hello");
    place.write("noise", &noise(100_000));
    place.init_at(&at(0));
    std::fs::create_dir(place.path("far")).unwrap();
    let url = format!("file://{}", place.path("far").display());
    let run = |days: i64, args: &[&str], code: i32| place.run_at(&at(days), args, code);
    run(0, &["remote", "add", "far", &url, "--encrypt", "--yes"], 0);
    let work = |days: i64| {
        place.write("each day", &content(days));
        run(days, &["backup"], 0);
        run(days, &["push", "far"], 0);
    };
    (1..4).for_each(work);
    let file = place.path("bdr/far.key");
    let secret = || {
        let text = std::fs::read_to_string(&file).unwrap();
        let first = text.lines().find(|line| line.starts_with("AGE-"));
        first.unwrap().to_owned()
    };
    let old = place.path("old.txt");
    std::fs::write(&old, secret()).unwrap();
    run(3, &["remote", "key", "rotate", "far"], 0);
    let new = place.path("new.txt");
    std::fs::write(&new, secret()).unwrap();
    let rules = ["--keep-last", "1", "--keep-within", "0d", "--yes"];
    let prune = [&["--json", "prune", "--remote", "far"], &rules[..]].concat();
    // The first record for the new key is that of a push.
    let said = stderr(&run(3, &prune[1..], 2));
    assert!(said.contains("bdr push far"), "{said}");
    (4..16).for_each(work);
    run(16, &prune, 0);
    run(18, &prune, 0);
    let pushes = walkdir::WalkDir::new(place.path("far"))
        .into_iter()
        .flatten();
    let pushes = pushes.map(|entry| entry.path().display().to_string());
    let numbers: Vec<String> = pushes.filter(|path| path.contains("/pushes/0")).collect();
    let has = |number: &str| numbers.iter().any(|path| path.contains(number));
    assert!(has("/0000000003-") && !has("/0000000002-"), "{numbers:?}");
    for key in [&new, &file] {
        let key = key.to_str().unwrap();
        run(18, &["verify", "--remote", "far", "--identity", key], 0);
    }
    let bare = Place::new();
    let out = bare.path("out").display().to_string();
    let args = ["restore", "--from", &url, "latest", "--target", &out];
    let args = [&args[..], &["--identity", new.to_str().unwrap()]].concat();
    bare.run_at(&at(18), &args, 0);
    assert_same(
        &picture(&place.tree()),
        &picture(&bare.path("out/tree")),
        "the new key",
    );
    // The old key finds its last push; what was pruned of it is gone.
    let listed = ["list", "--from", &url, "--identity", old.to_str().unwrap()];
    let listed = bare.bdr_at(&at(18), &listed).output().unwrap();
    assert!(
        stdout(&listed).contains("init"),
        "{}{}",
        stdout(&listed),
        stderr(&listed)
    );
    // Needs that were lost are found again with the new key alone, or not at all.
    let remotes = walkdir::WalkDir::new(place.path("bdr/state/remotes"))
        .into_iter()
        .flatten();
    let book = remotes
        .map(|entry| entry.into_path())
        .find(|path| path.ends_with("needs"));
    std::fs::remove_file(book.unwrap()).unwrap();
    let with = [&prune[..], &["--identity", new.to_str().unwrap()]].concat();
    run(18, &with, 0);
    run(
        18,
        &[
            "verify",
            "--remote",
            "far",
            "--identity",
            new.to_str().unwrap(),
        ],
        0,
    );
}
