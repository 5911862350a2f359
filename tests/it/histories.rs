//! An undo beside the life of a git repository: generated histories, with `git fsck` as the judge.
//!
//! Commands are run under guard or without, and operations are taken back in any order. After every undo the repository is as sound as before it: whatever
//! could be read can be read, and nothing of bdr lies below `.git`.

use std::process::Command;

use crate::support::{Place, picture};

struct History {
    place: Place,
    seed: u64,
    said: Vec<String>,
}

impl History {
    fn new(seed: u64) -> Self {
        let place = Place::with_repository();
        std::fs::create_dir(place.path("up")).unwrap();
        let history = Self {
            place,
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            said: Vec::new(),
        };
        history.git(
            "git init -q -b main .; for i in 1 2 3 4; do echo $i > f$i; done; git add .; git commit -qm base;
             git clone -q . ../up/r; cd ../up/r; echo u >> f4; git commit -qam upstream; cd -; git remote add o ../up/r",
        );
        history
    }

    fn below(&mut self, most: usize) -> usize {
        // SplitMix64: the same history for the same seed, wherever it is run.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % most as u64).unwrap()
    }

    fn shell(&self, guarded: bool, script: &str) -> Command {
        let mut command = match guarded {
            true => self.place.bdr(&["guard", "--", "sh", "-c", script]),
            false => {
                let mut command = Command::new("sh");
                command
                    .args(["-c", script])
                    .env_clear()
                    .current_dir(self.place.tree());
                command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
                command
                    .env("HOME", self.place.path("home"))
                    .env("GIT_CONFIG_GLOBAL", "/dev/null");
                command
            }
        };
        for name in ["GIT_AUTHOR", "GIT_COMMITTER"] {
            command.env(format!("{name}_NAME"), "a");
            command.env(format!("{name}_EMAIL"), "a@example.com");
        }
        command
            .env("GIT_EDITOR", "true")
            .env("BDR_BACKGROUND", "0")
            .env("BDR_LIFEBOAT", "");
        command
    }

    fn git(&self, script: &str) -> String {
        let output = self.shell(false, script).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }

    /// What git finds wrong, a line each.
    fn wrong(&self) -> Vec<String> {
        let found = self.git("git fsck --full --no-dangling 2>&1; git log --oneline --all >/dev/null 2>&1 || echo 'error: no log'; git stash list >/dev/null 2>&1 || echo 'error: no stash'");
        let bad = |line: &&str| {
            ["missing", "broken", "invalid", "error", "fatal", "corrupt"]
                .iter()
                .any(|word| line.contains(word))
        };
        found.lines().filter(bad).map(str::to_owned).collect()
    }

    /// Everything that can be reached, by name and content.
    fn objects(&self) -> Vec<String> {
        self.git("git cat-file --batch-all-objects --batch-check='%(objectname)'")
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn step(&mut self) {
        const COMMANDS: [&str; 26] = [
            "date +%N >> f1; git add f1",
            "date +%N >> f1; git commit -qam edit",
            "date +%N >> f2; git commit -qam other",
            "date +%N >> f3; git stash -q",
            "git stash pop -q",
            "git stash drop -q",
            "git branch b$(date +%N)",
            "git tag t$(date +%N)",
            "git checkout -q -b c$(date +%N)",
            "git checkout -q main",
            "git checkout -q -f main",
            "git reset -q --hard HEAD~1",
            "git reset -q HEAD~1",
            "git fetch -q o",
            "git merge -q o/main -m merged",
            "git rebase -q o/main || git rebase --abort",
            "git commit -q --amend -m amended --allow-empty",
            "git pack-refs --all",
            "git gc -q --prune=now",
            "git reflog expire --expire=now --all",
            "git branch | grep -v '*' | head -1 | xargs git branch -q -D",
            "git worktree add -q ../wt$(date +%N) -b w$(date +%N) && cd ../wt* && echo w > w && git add w && git commit -qm w",
            "for d in ../wt*; do cd $d && date +%N >> w && git add w && git commit -qm again; break; done",
            "git cherry-pick o/main || git cherry-pick --abort",
            "git add -A; git commit -qm all",
            "git status",
        ];
        let number = self.below(COMMANDS.len());
        let guarded = self.below(2) == 0;
        let command = COMMANDS[number];
        self.said.push(format!(
            "{} {command}",
            if guarded { "guard:" } else { "plain:" }
        ));
        self.shell(guarded, command).output().unwrap();
    }

    fn undo(&mut self) {
        let log = self.place.bdr(&["--json", "log"]).output().unwrap();
        let log: serde_json::Value = serde_json::from_slice(&log.stdout).unwrap();
        let Some(operations) = log["data"]["operations"].as_array() else {
            return;
        };
        if operations.is_empty() {
            return;
        }
        // Any of the last few, not only the last.
        let number = self.below(operations.len().min(4));
        let id = operations[number]["id"].as_str().unwrap().to_owned();
        let (wrong, objects) = (self.wrong(), self.objects());
        self.said
            .push(format!("undo {id}: {}", operations[number]["argv"]));
        let output = self
            .place
            .bdr(&["undo", &id, "--yes"])
            .env("BDR_LIFEBOAT", "")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        self.said.push(said);
        let story = self.said.join("\n");
        assert_eq!(
            wrong,
            self.wrong(),
            "git finds more wrong than before:\n{story}"
        );
        let now = self.objects();
        let lost: Vec<&String> = objects
            .iter()
            .filter(|object| !now.contains(object))
            .collect();
        assert!(lost.is_empty(), "objects are gone: {lost:?}\n{story}");
        for (path, _) in picture(&self.place.tree()) {
            let inside = path.components().any(|part| part.as_os_str() == ".git");
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            assert!(
                !inside || !name.contains(".bdr-"),
                "{} lies in .git\n{story}",
                path.display()
            );
        }
    }
}

#[test]
fn no_undo_leaves_a_repository_less_sound_than_it_was() {
    let many = std::env::var("BDR_TEST_LONG").is_ok();
    let first: u64 = std::env::var("BDR_TEST_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    let worlds = if many { 300 } else { 8 };
    let mut undone = 0;
    for seed in first..first + worlds {
        let mut history = History::new(seed);
        history.said.push(format!("BDR_TEST_SEED={seed}"));
        for _ in 0..4 {
            for _ in 0..=history.below(4) {
                history.step();
            }
            history.undo();
            undone += 1;
        }
    }
    assert!(undone >= worlds, "nothing was undone");
}

#[test]
fn what_moved_on_in_a_repository_stays_and_is_named() {
    let history = History::new(1);
    history.git("echo x >> f1");
    history.shell(true, "git commit -qam A").output().unwrap();
    let left = history.git("git rev-parse HEAD");
    history.git("git branch keep; echo y >> f2; git commit -qam B");
    let on_top = history.git("git rev-parse HEAD");
    let output = history.place.run(&["undo", "--yes"], 3);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("refs/heads/main"), "{said}");
    assert_eq!(history.git("git rev-parse HEAD"), on_top);
    assert_eq!(history.git("git rev-parse keep"), left);
    assert_eq!(history.wrong(), Vec::<String>::new());
    assert_eq!(history.git("git branch --list '*bdr*'"), "");
}

/// The branch that is checked out has no separate file after `git gc`: what an operation gave it one for goes back all the same.
#[test]
fn a_branch_whose_value_was_packed_goes_back_to_it() {
    for (pack, what) in [
        ("git gc -q", "echo x >> f1; git commit -qam A"),
        ("git pack-refs --all", "git reset -q --hard HEAD~1"),
        (
            "git pack-refs --all",
            "echo x >> f1; git commit -qam A; git pack-refs --all; echo y >> f1; git commit -qam B",
        ),
        (
            "git clone -q --bare . ../up/bare.git",
            "git push -q ../up/bare.git +HEAD~1:main",
        ),
        (
            "git clone -q --bare . ../up/bare.git; git branch other",
            "git push -q ../up/bare.git +HEAD~1:main other",
        ),
    ] {
        let history = History::new(1);
        history.git("echo w >> f2; git commit -qam second; echo wip >> f3");
        history.git(pack);
        let look = "git rev-parse HEAD; git status --short; git for-each-ref; git -C ../up/bare.git for-each-ref";
        let before = history.git(look);
        history.shell(true, what).output().unwrap();
        assert_ne!(history.git(look), before, "{what}");
        history.place.bdr(&["undo", "--yes"]).output().unwrap();
        assert_eq!(history.git(look), before, "{pack}; {what}");
        assert_eq!(history.wrong(), Vec::<String>::new());
    }
    // Moved on since: nobody goes back under it.
    let history = History::new(1);
    history.git("git pack-refs --all");
    history
        .shell(true, "echo x >> f1; git commit -qam A")
        .output()
        .unwrap();
    history.git("echo y >> f2; git commit -qam B; git pack-refs --all");
    let on_top = history.git("git rev-parse HEAD");
    history.place.run(&["undo", "--yes"], 3);
    assert_eq!(history.git("git rev-parse HEAD"), on_top);
}

#[test]
fn a_look_between_the_loss_and_the_undo_is_no_conflict() {
    let history = History::new(1);
    history.git("echo staged >> f1; git add f1; echo more >> f1; echo wip >> f2");
    let before = history.git("git status --short");
    history.shell(true, "git reset -q --hard").output().unwrap();
    // git renews what its index says of times: another file that means the same.
    history.git("cp -p f3 t; mv t f3; git status");
    history.place.run(&["undo", "--yes"], 0);
    assert_eq!(history.git("git status --short"), before);
}

#[test]
fn a_repository_that_the_command_made_goes_unless_somebody_works_in_it() {
    for (then, left) in [
        ("true", false),
        ("cd new; echo y > y; git add y; git commit -qm mine", true),
    ] {
        let history = History::new(1);
        history.shell(true, "git clone -q . new").output().unwrap();
        history.git(then);
        history
            .place
            .run(&["undo", "--yes"], if left { 3 } else { 0 });
        assert_eq!(
            history.place.tree().join("new/.git").exists(),
            left,
            "{then}"
        );
        if left {
            assert_eq!(
                history.git("git -C new log --oneline -1 --format=%s"),
                "mine\n"
            );
            assert!(!history.git("git -C new fsck 2>&1").contains("missing"));
        }
    }
}
