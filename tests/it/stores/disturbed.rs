//! bdr itself against real servers behind a proxy with faults: every call ends in what it says, or in an
//! error that says what to do next; afterwards everything verifies and comes back.

use serde_json::Value;

use super::Server;
use super::proxy::{Act, Proxy};
use super::servers::{prune, server, with};
use crate::support::cli::{stderr, stdout};
use crate::support::{Place, assert_same, noise, picture};
use crate::thinned::at;

struct Disturbed {
    place: Place,
    server: Server,
    proxy: Proxy,
    seed: u64,
    lag: usize,
    day: i64,
}

impl Disturbed {
    fn new(name: &str, root: &str, seed: u64) -> Option<Self> {
        let mut server = server(name, root)?;
        let port: u16 = super::servers::port(name);
        let proxy = Proxy::before(port);
        server.url = server
            .url
            .replace(&format!(":{port}"), &format!(":{}", proxy.port));
        let place = Place::with_repository();
        for n in 0..10_u8 {
            place.write(&format!("dir/{n}"), &noise(3000 + usize::from(n)));
        }
        place.init();
        let own = Self {
            place,
            server,
            proxy,
            seed,
            lag: 0,
            day: 0,
        };
        own.run(&["remote", "add", "far", &own.server.url]);
        own.run(&["push"]);
        Some(own)
    }

    fn command(&self, place: &Place, args: &[&str]) -> std::process::Command {
        let mut command = with(place, &self.server, args);
        command.env("BDR_TEST_NOW", at(self.day));
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.command(&self.place, args).output().unwrap();
        let said = format!("bdr {args:?}: {}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(0), "{said}");
        stdout(&output)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % most
    }

    /// Returns whether it succeeded; an error has a hint or says why nothing was done.
    fn attempt(&self, place: &Place, args: &[&str], what: &str) -> bool {
        let output = self.command(place, args).output().unwrap();
        let said = format!(
            "{what}: bdr {args:?}: {}{}",
            stdout(&output),
            stderr(&output)
        );
        match output.status.code() {
            Some(0) => true,
            Some(1) => {
                assert!(said.contains("hint:") || said.contains("bdr "), "{said}");
                false
            }
            Some(3) => {
                assert!(
                    said.contains("Nothing is removed") && said.contains("bdr push"),
                    "{said}"
                );
                false
            }
            // A listing that is behind.
            Some(4) => {
                assert!(
                    said.contains("or an old state is shown") && said.contains("bdr push"),
                    "{said}"
                );
                false
            }
            Some(10) => {
                assert!(said.contains("hint: bdr machines"), "{said}");
                false
            }
            _ => panic!("{said}"),
        }
    }

    /// What is there verifies, and the newest comes back as it is here.
    fn comes_back(&self, what: &str) {
        self.run(&["verify", "--remote", "far", "--level", "full"]);
        let bare = Place::with_repository();
        let out = bare.path("out");
        assert!(self.restores(&bare, &out, what), "{what}");
        let (before, after) = (picture(&self.place.tree()), picture(&out.join("tree")));
        assert_same(&before, &after, what);
    }

    fn restores(&self, bare: &Place, out: &std::path::Path, what: &str) -> bool {
        let config = self.place.json(&["config", "path"]);
        let config = std::path::PathBuf::from(config["path"].as_str().unwrap());
        let key = config.with_file_name("far.key");
        let key = key.to_str().unwrap();
        let out = out.to_str().unwrap();
        let from = [
            "--from",
            &self.server.url,
            "--identity",
            key,
            "--target",
            out,
        ];
        self.attempt(bare, &[&["restore", "latest"][..], &from].concat(), what)
    }

    fn disturb(&mut self) -> String {
        const ACTS: [Act; 7] = [
            Act::Reset,
            Act::Lose,
            Act::Twice,
            Act::Halve,
            Act::Delay,
            Act::Refuse(503),
            Act::Refuse(500),
        ];
        let act = ACTS[usize::try_from(self.below(7)).unwrap()];
        let (from, every) = (self.below(3), 1 + self.below(3));
        // Now and then for good, so that bdr gives up.
        let is_lasting = self.below(5) == 0 && act != Act::Delay;
        let lag = [0, 0, 1, 3, 10][usize::try_from(self.below(5)).unwrap()];
        self.lag = lag;
        self.proxy.lag(lag);
        self.proxy.plan(move |number, _| {
            let number = number as u64;
            let is_hit =
                number >= from && (is_lasting || (number - from).is_multiple_of(every + 1));
            if is_hit { act } else { Act::Pass }
        });
        format!("{act:?} from {from} every {every} lasting {is_lasting}, {lag} behind")
    }
}

fn is_calm_afterwards(name: &str, seeds: u64) {
    for seed in 0..seeds {
        let Some(mut own) = Disturbed::new(name, &format!("disturbed-{seed}"), 31 + seed) else {
            return;
        };
        let mut met = 0;
        for day in 0..6 {
            own.place.write(&format!("day/{day}"), &noise(9000 + day));
            own.day += 2;
            let full: &[&str] = if day % 3 == 1 { &["--full"] } else { &[] };
            own.run(&[&["backup"][..], full].concat());
            let how = own.disturb();
            let mut what = format!("{name}, {seed}, day {day}: {how}");
            let is_pushed = own.attempt(&own.place, &["push"], &what);
            met += own.proxy.counted().1;
            if is_pushed {
                own.proxy.calm();
                own.comes_back(&format!("{what}, pushed"));
                let again = own.disturb();
                what = format!("{what}, then {again}");
            }
            let kind = own.below(4);
            let done = match kind {
                0 => own.attempt(&own.place, &["verify", "--remote", "far"], &what),
                1 => own.attempt(&own.place, &prune("2"), &what),
                2 => own.attempt(&own.place, &["list", "--from", "far"], &what),
                _ => {
                    let bare = Place::with_repository();
                    let out = bare.path("out");
                    let done = own.restores(&bare, &out, &what);
                    // Nobody on a bare machine knows what was newest.
                    if done && is_pushed && own.lag == 0 {
                        let (before, after) =
                            (picture(&own.place.tree()), picture(&out.join("tree")));
                        assert_same(&before, &after, &what);
                    }
                    done
                }
            };
            let _ = done;
            met += own.proxy.counted().1;
            own.proxy.calm();
            own.run(&["push"]);
            own.comes_back(&what);
        }
        assert!(met > 6, "{name}: only {met} requests were disturbed");
        // No second record of a number, nothing damaged.
        let shown = own.place.json(&["remote", "list"]);
        assert_ne!(shown["remotes"], Value::Null);
    }
}

#[test]
fn whatever_happens_to_requests_for_s3_nothing_is_lost() {
    is_calm_afterwards("s3", 2);
}

#[test]
fn whatever_happens_to_requests_for_webdav_nothing_is_lost() {
    is_calm_afterwards("webdav", 1);
}
