//! A year in the life of a repository, through the binary: work, guards, sleep, failures, all by a clock of the test's own. What the policy
//! promises at its end is worked out here, from the days on which there was a backup.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike as _, Days, NaiveDate, TimeDelta, Utc};

use crate::support::Place;

const DAYS: u64 = 370;
/// What the repository may take.
const BUDGET: u64 = 3_000_000;

type Files = BTreeMap<String, Vec<u8>>;

fn files(place: &Place) -> Files {
    let tree = place.tree();
    walkdir::WalkDir::new(&tree)
        .into_iter()
        .map(Result::unwrap)
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let path = entry.path().strip_prefix(&tree).unwrap();
            (
                path.to_str().unwrap().to_owned(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

/// Numbers that only look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[test]
fn a_year_ends_within_its_budget_and_every_promised_point_restores() {
    let place = Place::with_repository();
    let mut dice = Dice(7);
    for n in 0..30 {
        place.write(
            &format!("notes/{n}.json"),
            format!("{{\"n\":{n}}}").as_bytes(),
        );
    }
    let start: DateTime<Utc> = "2025-11-20T12:00:00Z".parse().unwrap();
    let source = format!("tree={}", place.tree().display());
    place.run_at(&text(start), &["init", "--yes", "--source", &source], 0);
    place.configure(&format!("max_size = {BUDGET}\n[schedule]\nat = \"02:30\""));
    // `max_size` belongs to the section that stands last in what `init` writes.
    assert_eq!(
        place.json(&["config", "show"])["retention"]["max_size"],
        BUDGET
    );
    let mut stood: BTreeMap<String, (DateTime<Utc>, Files)> = BTreeMap::new();
    let mut last_guard = None;
    let (mut asleep, mut failed) = (0, 0);
    for day in 1..DAYS {
        let morning = start + TimeDelta::days(day.cast_signed()) - TimeDelta::hours(4);
        // Work: a log grows, some notes change, now and then something large comes and goes.
        let log = place.tree().join("log.jsonl");
        let mut lines = std::fs::read(&log).unwrap_or_default();
        lines.extend(format!("{{\"day\":{day},\"x\":{}}}\n", dice.roll(1 << 30)).into_bytes());
        std::fs::write(&log, lines).unwrap();
        for _ in 0..dice.roll(4) {
            let n = dice.roll(30);
            place.write(
                &format!("notes/{n}.json"),
                format!("{{\"n\":{n},\"day\":{day}}}").as_bytes(),
            );
        }
        if dice.roll(10) == 0 {
            let noise: Vec<u8> = (0..40_000).map(|_| dice.roll(256) as u8).collect();
            place.write("large.bin", &noise);
        }
        if asleep > 0 {
            asleep -= 1;
            continue;
        }
        match dice.roll(25) {
            0 => asleep = dice.roll(6),
            // The destination is away: nothing is lost by that but the day.
            1 => {
                let away = place.path("away");
                std::fs::rename(place.store(), &away).unwrap();
                place.run_at(&text(morning), &["tick", "--scheduler", "cron"], 0);
                std::fs::rename(&away, place.store()).unwrap();
                continue;
            }
            // The sources are away: a failure.
            2 => {
                let away = place.path("away");
                std::fs::rename(place.tree(), &away).unwrap();
                let mut tick = place.bdr_at(&text(morning), &["tick", "--scheduler", "cron"]);
                assert_eq!(
                    tick.current_dir(place.path("home"))
                        .output()
                        .unwrap()
                        .status
                        .code(),
                    Some(1)
                );
                std::fs::rename(&away, place.tree()).unwrap();
                failed += 1;
            }
            _ => {}
        }
        let now = morning + TimeDelta::minutes(20);
        place.run_at(&text(now), &["tick", "--scheduler", "cron"], 0);
        let runs = bdr::care::runs::Journal::new(&place.path("bdr/state"), &place.store()).runs();
        let made = runs
            .iter()
            .rev()
            .take_while(|run| run.time == now)
            .find_map(|run| {
                run.snapshot
                    .filter(|_| run.job <= bdr::model::schedule::Job::Full)
            });
        if let Some(id) = made {
            stood.insert(id.to_string(), (now, files(&place)));
        }
        if dice.roll(3) == 0 {
            let n = dice.roll(30);
            let victim = format!("notes/{n}.json");
            if let Ok(before) = std::fs::read(place.tree().join(&victim)) {
                let at = text(now + TimeDelta::hours(5));
                place.run_at(
                    &at,
                    &["guard", "--summary", "never", "--", "rm", &victim],
                    0,
                );
                last_guard = Some((victim, before));
            }
        }
    }
    let end = text(start + TimeDelta::days(DAYS.cast_signed()));
    assert!(
        failed >= 5 && stood.len() > 250,
        "a year with too little in it: {failed}, {}",
        stood.len()
    );

    // What is left, and how much it takes.
    let status = place.json_at(&end, &["status"], 0);
    let used = status["storage"]["used_bytes"].as_u64().unwrap();
    assert!(used <= BUDGET, "{used} of {BUDGET}");
    let list = place.json(&["list"]);
    let left: BTreeSet<&str> = list["snapshots"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|s| s["trigger"] == "backup")
        .map(|s| s["id"].as_str().unwrap())
        .collect();

    // What was promised: for the last 7 days, 4 weeks and 12 months that had a backup, one of each.
    let of = |id: &str| stood[id].0.date_naive();
    let monday =
        |date: NaiveDate| date - Days::new(u64::from(date.weekday().num_days_from_monday()));
    let month = |date: NaiveDate| date.with_day(1).unwrap();
    let slots = |slot: &dyn Fn(NaiveDate) -> NaiveDate,
                 ids: &mut dyn Iterator<Item = &str>|
     -> BTreeSet<NaiveDate> { ids.map(|id| slot(of(id))).collect() };
    for (name, slot, number) in [
        ("day", &(|date| date) as &dyn Fn(NaiveDate) -> NaiveDate, 7),
        ("week", &monday, 4),
        ("month", &month, 12),
    ] {
        let ever = slots(slot, &mut stood.keys().map(String::as_str));
        let now = slots(slot, &mut left.iter().copied());
        for promised in ever.iter().rev().take(number) {
            assert!(
                now.contains(promised),
                "the backup of the {name} from {promised} is gone"
            );
        }
    }
    // It is thinned out, too: no more than was promised, but for what nothing ever removes.
    assert!(
        left.len() <= 7 + 4 + 12 + 3,
        "{} backups are left",
        left.len()
    );

    // Each of them brings back what stood there.
    for id in &left {
        let target = place.path(&format!("restored-{id}"));
        place.run(
            &["restore", id, "--target", target.to_str().unwrap(), "--yes"],
            0,
        );
        let restored = Place::new();
        std::fs::rename(target.join("tree"), restored.dir.path().join("tree")).unwrap();
        assert!(
            files(&restored) == stood[*id].1,
            "{id} of {} came back differently",
            stood[*id].0
        );
    }
    place.run(&["verify"], 0);
    place.run_at(&end, &["drill"], 0);
    // The last command can be undone.
    let (victim, before) = last_guard.unwrap();
    let path = place.tree().join(&victim);
    let _ = std::fs::remove_file(&path);
    place.run_at(&end, &["undo", "--last", "1", "--yes"], 0);
    assert_eq!(std::fs::read(path).unwrap(), before);
}
