//! Two machines that push as one: a machine was replaced (`bdr remote adopt`), and was not gone after all.
//! Each takes the other for a stranger, and a prune by one removes nothing that only the other needs.

use std::collections::BTreeSet;

use bdr::disk::store::{Manners, Store as _};
use bdr::repo::snapshot::Trigger;

use crate::pushed::copy_tree;
use crate::thinned::{History, last};

/// Two that push as one. They share a repository, from which snapshots go: what only one has pushed is
/// then at the destination alone.
struct Rivals {
    history: History,
    is_second: bool,
}

impl Rivals {
    fn new(encrypted: bool, seed: u64) -> Self {
        let mut history = History::new(Manners::Strict, encrypted, seed);
        history.backup(Trigger::Backup, false);
        history.push();
        let remotes = history.place.path("remotes");
        copy_tree(&remotes, &history.place.path("remotes.other"));
        // It knows what was pushed, and signs with a key of its own.
        std::fs::remove_file(history.place.path("remotes.other/signing.key")).unwrap();
        Self {
            history,
            is_second: false,
        }
    }

    /// The other one goes on.
    fn turn(&mut self) {
        let path = |name: &str| self.history.place.path(name);
        std::fs::rename(path("remotes"), path("remotes.aside")).unwrap();
        std::fs::rename(path("remotes.other"), path("remotes")).unwrap();
        std::fs::rename(path("remotes.aside"), path("remotes.other")).unwrap();
        self.is_second = !self.is_second;
    }

    /// Pushes something that nobody has afterwards but the destination.
    fn push(&mut self, number: u64) {
        let text = format!("{number}\n").repeat(3000);
        self.history.place.write("own.txt", text.as_bytes());
        self.history.backup(Trigger::Backup, false);
        self.history.push();
        self.history.place.write("own.txt", b"gone");
        self.history.backup(Trigger::Backup, false);
        self.history.prune_here(1);
    }

    fn keys(&self) -> BTreeSet<String> {
        let keys = self.history.far.store.keys().into_iter();
        keys.filter(|key| !key.contains("/trash/")).collect()
    }

    /// The one whose turn it is prunes, on two days; returns why it removed nothing.
    fn prune(&mut self, with_key: bool) -> Vec<String> {
        let mut blocked = Vec::new();
        for _ in 0..2 {
            self.history.day += 2;
            let (plan, _) = self.history.prune_with(Some(last(1)), with_key);
            blocked.extend(plan.blocked);
        }
        blocked
    }
}

#[test]
fn a_prune_removes_nothing_while_another_pushes_as_this_machine() {
    for seed in 0..if cfg!(debug_assertions) { 8 } else { 40 } {
        let mut rivals = Rivals::new(seed % 2 == 0, seed);
        for number in 0..3 {
            rivals.push(seed * 100 + number);
            rivals.turn();
        }
        for step in 0..12 {
            let what = format!("seed {seed}, step {step}");
            match rivals.history.below(4) {
                0 => rivals.turn(),
                1 => rivals.push(seed * 100 + 10 + step),
                _ => {
                    // Now and then nothing is known any more of what was pushed.
                    let is_lost = rivals.history.below(3) == 0;
                    if is_lost {
                        let ledger = rivals.history.place.path("remotes/far");
                        std::fs::remove_dir_all(ledger).unwrap();
                    }
                    let before = rivals.keys();
                    let blocked = rivals.prune(true);
                    assert_eq!(rivals.keys(), before, "{what}");
                    assert!(
                        blocked
                            .iter()
                            .any(|why| why.contains("is not signed by this machine")),
                        "{what}: {blocked:?}"
                    );
                }
            }
        }
        rivals.push(seed * 100 + 50);
        end(rivals, seed);
    }
}

/// The other one is gone, and so are its records: then a prune goes on, and what is left is whole.
fn end(mut rivals: Rivals, seed: u64) {
    let blocked = rivals.prune(false);
    let own = rivals.history.far.destination(&rivals.history.place);
    let named: Vec<String> = bdr::remote::check::check(
        &own,
        bdr::remote::check::CheckLevel::Listed,
        None,
        &bdr::base::monitor::NullMonitor,
    )
    .map(|report| {
        report
            .faults
            .iter()
            .map(|fault| format!("{fault:?}"))
            .collect()
    })
    .unwrap();
    assert!(!blocked.is_empty(), "seed {seed}: {named:?}");
    // Those of the newest signer stay.
    let pushes = own.pushes(0).unwrap();
    let newest = own.head(*pushes.last().unwrap()).unwrap().0.signer;
    for push in pushes {
        if own.head(push).unwrap().0.signer != newest {
            let name = format!("bdr1/{}/pushes/{:010}-{}", own.machine(), push.0, push.1);
            let key = rivals.history.far.store.keys();
            let key = key.into_iter().find(|key| key.starts_with(&name)).unwrap();
            rivals.history.far.store.remove(&key).unwrap();
        }
    }
    assert_eq!(rivals.prune(true), Vec::<String>::new(), "seed {seed}");
    rivals.history.check(&format!("seed {seed}"));
    rivals.history.check_nothing_spare(&format!("seed {seed}"));
}
