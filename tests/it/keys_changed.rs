//! Keys of a destination that change between pushes: who can read what afterwards, at any number of pushes.

use std::sync::Arc;
use std::time::Duration;

use bdr::base::monitor::NullMonitor;
use bdr::care::verify::{VerifyLevel, verify};
use bdr::disk::store::{Manners, MemoryStore, Trial};
use bdr::remote::crypt::{Encryption, Generated, Identities, handed};
use bdr::remote::ledger::{At, Era, Ledger, Machine};
use bdr::remote::push::{Doubt, Link, PushOptions, PushReport, push};
use bdr::remote::{Destination, open};
use bdr::repo::Repository;

use crate::privacy::Chance;
use crate::support::{Place, later, now};

/// A machine that pushes, and the keys that it had, newest last.
struct Pusher {
    place: Place,
    repo: Repository,
    trial: Trial,
    keys: Vec<Generated>,
    at: At,
    days: i64,
}

impl Pusher {
    fn new() -> Self {
        let place = Place::new();
        place.write("plain.txt", b"hello");
        place.write("noise", &crate::support::noise(60_000));
        let repo = place.repository();
        Self {
            place,
            repo,
            trial: Trial::new(Arc::new(MemoryStore::new(Manners::Strict))),
            keys: vec![Generated::new()],
            at: At::default(),
            days: 0,
        }
    }

    fn destination(&self) -> Destination {
        let machine = Machine::of(&self.place.path("remotes"), now()).unwrap();
        Destination::new(Arc::new(self.trial.clone()), "far", machine.id)
    }

    fn work(&mut self) {
        self.days += 1;
        let content = format!("day {}", self.days);
        self.place
            .write(&format!("days/{}", self.days), content.as_bytes());
        self.place.write("plain.txt", content.as_bytes());
        self.place.backup_with(&self.repo, &later(self.days * 60));
    }

    /// A new key, to which the older ones are given.
    fn change(&mut self) {
        let new = Generated::new();
        let bytes = handed(&self.keys, std::slice::from_ref(&new.recipient)).unwrap();
        self.destination().keep_identity(&bytes).unwrap();
        self.keys.push(new);
    }

    fn push(&mut self) -> bdr::Result<PushReport> {
        let recipients = vec![self.keys.last().unwrap().recipient.clone()];
        let encryption = Encryption::to(&recipients).unwrap();
        let is_new = self.at.is_for_others(&recipients);
        let encryption = encryption.after(self.at.before(&recipients), is_new);
        let machine = Machine::of(&self.place.path("remotes"), now()).unwrap();
        let mut ledger = Ledger::open(&self.place.path("remotes/far"), Duration::ZERO)?;
        let options = PushOptions {
            now: now(),
            host: "here".to_owned(),
            encryption: &encryption,
            check: false,
            doubt: Doubt::default(),
        };
        let report = push(
            Link {
                repo: &self.repo,
                destination: &self.destination(),
                machine: &machine,
                ledger: &mut ledger,
            },
            &options,
            &NullMonitor,
        )?;
        self.at.number = report.number.unwrap_or(self.at.number);
        if report.number.is_some() && self.at.is_for_others(&recipients) {
            self.at.eras.push(Era {
                since: self.at.number,
                recipients,
            });
        }
        Ok(report)
    }

    /// Reads with one key alone; returns how many snapshots there are, all of them whole.
    fn read(&self, key: &Generated, what: &str) -> usize {
        let mut identities = Identities::default();
        identities.add_key(key).unwrap();
        let bare = tempfile::tempdir().unwrap();
        let opened = open(&self.destination(), identities, bare.path());
        let (there, _) = opened.unwrap_or_else(|e| panic!("{what}: {e}"));
        let report = verify(&there, None, VerifyLevel::Full, None, &NullMonitor).unwrap();
        let damage: Vec<_> = report
            .damage
            .iter()
            .filter(|one| !format!("{one:?}").contains("is for another key"))
            .collect();
        assert!(damage.is_empty(), "{what}: {damage:?}");
        there.snapshots().unwrap().len()
    }
}

#[test]
fn each_key_opens_all_until_it_was_replaced() {
    for seed in 0..4 {
        let mut chance = Chance::new(seed);
        let mut pusher = Pusher::new();
        // How many snapshots the n-th key has to open.
        let mut opens = vec![0];
        for number in 1..=24_u64 {
            if number > 1 && chance.below(4) == 0 {
                pusher.change();
                opens.push(0);
            }
            pusher.work();
            assert_eq!(pusher.push().unwrap().number, Some(number));
            *opens.last_mut().unwrap() = pusher.days as usize;
            let newest = pusher.keys.len() - 1;
            let older = chance.below(pusher.keys.len() as u64) as usize;
            for at in [newest, older] {
                let what = format!("seed {seed}, push {number}, key {at} of {newest}");
                let found = pusher.read(&pusher.keys[at], &what);
                assert_eq!(found, opens[at], "{what}");
            }
        }
        assert!(pusher.keys.len() > 2);
    }
}

#[test]
fn a_push_with_a_new_key_that_is_cut_anywhere_is_completed() {
    let mut pusher = Pusher::new();
    pusher.work();
    pusher.push().unwrap();
    let mut cuts = 0;
    for after in [false, true] {
        for number in 0.. {
            let before = pusher.days as usize;
            pusher.work();
            pusher.change();
            match after {
                true => pusher.trial.cut_after(number),
                false => pusher.trial.cut_before(number),
            }
            let is_done = pusher.push().is_ok();
            pusher.trial.reset();
            let newest = pusher.keys.len() - 1;
            let what = format!("cut {number}, {after}");
            // Nobody has lost anything.
            assert!(
                pusher.read(&pusher.keys[newest - 1], &what) >= before,
                "{what}"
            );
            pusher.push().unwrap();
            let all = pusher.days as usize;
            assert_eq!(pusher.read(&pusher.keys[newest], &what), all, "{what}");
            assert!(
                pusher.read(&pusher.keys[newest - 1], &what) >= before,
                "{what}"
            );
            if is_done {
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts >= 4, "only {cuts} cuts");
}
