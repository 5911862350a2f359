//! Worlds out of a number: what lies there, what a command does to it, what somebody else does afterwards. All of it is shell, so that a failure can be
//! copied into a terminal.

/// SplitMix64: the same world for the same seed, wherever it is run.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed)
    }

    pub(super) fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % most.max(1) as u64).unwrap_or(0)
    }

    pub(super) fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub(super) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// How the command meets bdr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// `bdr guard -- sh -c LINE`
    Guard,
    /// The line as a tool call of an agent: told before and after.
    Agent,
}

/// One world. Every list can be shortened without making the rest senseless.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) seed: u64,
    /// Runs as an ordinary user, whom modes stop.
    pub(super) user: bool,
    /// The tree is a configured source; otherwise the guard finds it by itself.
    pub(super) source: bool,
    pub(super) way: Way,
    /// Below the tree, where the command begins.
    pub(super) cwd: &'static str,
    pub(super) pieces: Vec<String>,
    pub(super) acts: Vec<String>,
    /// What somebody else does between the command and the undo.
    pub(super) others: Vec<String>,
}

/// Names as they occur, quoted for the shell.
const NAMES: [&str; 22] = [
    "a.txt",
    "b.c",
    "notes.md",
    "data.json",
    "log.jsonl",
    "'sp ace'",
    "'new\nline'",
    "\"$(printf 'bad\\377utf')\"",
    "\"$(printf 'cafe\\314\\201')\"",
    "\"$(printf 'caf\\303\\251')\"",
    "./-rf",
    "'st*r'",
    "'quo\"te'",
    "\"apo'strophe\"",
    "'dol$ar'",
    "'back\\slash'",
    ".hidden",
    ".env",
    ".bdr-tmp-mine",
    "x.log",
    "'trailing '",
    "LONG",
];
const DIRS: [&str; 9] = [
    ".",
    "src",
    "docs",
    "'di r'",
    "src/deep/er",
    "build",
    "node_modules/p",
    ".config",
    "src/.cache",
];

fn name(dice: &mut Dice) -> String {
    match dice.pick(&NAMES) {
        // As long as the file system takes them.
        "LONG" => format!("{}{}", "long".repeat(62), dice.below(9)),
        name => name.to_owned(),
    }
}

/// Something that may be there: a name of a directory and one in it.
fn path(dice: &mut Dice) -> String {
    let dir = match dice.one_in(8) {
        true => "../out",
        false => dice.pick(&DIRS),
    };
    match name(dice) {
        plain if dir == "." => plain,
        plain => format!("{dir}/{}", plain.trim_start_matches("./")),
    }
}

fn directory(dice: &mut Dice) -> String {
    match dice.below(DIRS.len() + 1) {
        0 => "../out".to_owned(),
        // Never the tree itself.
        number => DIRS[number.min(DIRS.len() - 1).max(1)].to_owned(),
    }
}

fn mode(dice: &mut Dice) -> &'static str {
    dice.pick(&[
        "000", "300", "400", "444", "500", "555", "600", "640", "700", "755", "1777", "2755",
        "4755",
    ])
}

fn piece(dice: &mut Dice) -> String {
    let (p, q) = (path(dice), path(dice));
    let number = dice.below(1000);
    match dice.below(26) {
        0..=5 => format!("printf 'line {number}\\nmore\\n' > {p}"),
        6 => format!("true > {p}"),
        7 => format!("seq {number} > {p}; touch -d @1577934245.{number} {p}"),
        8 => format!("head -c 70000 /dev/zero | tr '\\0' 'a' > {p}; echo {number} >> {p}"),
        9 => format!("seq 200000 > {p}; echo {number} >> {p}"),
        10 => format!("truncate -s 5M {p}; printf {number} >> {p}"),
        11 => format!("ln -s {q} {p}"),
        12 => format!("ln -s /nonexistent/{number} {p}"),
        13 => format!("ln {q} {p}"),
        14 => {
            // Never a name that a line writes to: it would wait for a reader.
            let d = directory(dice);
            format!("mkfifo {d}/pipe{number}")
        }
        15 => format!("echo {number} > {p}; chmod {} {p}", mode(dice)),
        16 => {
            let d = directory(dice);
            format!("chmod {} {d}", mode(dice))
        }
        17 => {
            let d = directory(dice);
            format!("touch -d @1500000000.{number} {d}")
        }
        18 => format!("printf 'API_KEY=sk_%s_{number}eC39HqLyjWDarjtT1zdp7dc\\nX={number}\\n' live > {p}"),
        19 => {
            let d = directory(dice);
            format!("for i in 1 2 3 4 5 6 7 8 9; do echo {number}$i > {d}/many$i; done")
        }
        20 => format!("touch -d @-1000000.5 {p}"),
        21 => format!("touch -d @4102444800 {p}"),
        22 => "echo '{}' > package.json; echo '[package]' > Cargo.toml; mkdir -p target/debug; echo o > target/debug/o".to_owned(),
        23 => {
            let d = directory(dice);
            format!("git init -q {d}/repo && git -C {d}/repo commit -q --allow-empty -m {number}; echo w > {d}/repo/w")
        }
        24 => format!("setfattr -n user.note -v {number} {p}"),
        _ => format!("rm -f {p}; mkdir {p}; echo {number} > {p}/inside"),
    }
}

fn act(dice: &mut Dice, git: bool) -> String {
    let (p, q, d) = (path(dice), path(dice), directory(dice));
    let number = 1000 + dice.below(1000);
    if git && dice.one_in(3) {
        return dice
            .pick(&[
                "git add -A",
                "git commit -qam more",
                "git checkout -q -- .",
                "git clean -fdxq",
                "git stash -q",
                "git stash -q -u",
                "git stash drop -q",
                "git reset -q --hard HEAD~1",
                "git reset -q --hard",
                "git branch -q -D feature",
                "rm -rf .git",
                "git gc -q --prune=now",
                "git rm -rfq src",
                "git checkout -q -f feature",
                "git stash pop -q",
                "git restore --staged --worktree .",
            ])
            .to_owned();
    }
    match dice.below(32) {
        0 => format!("rm -f {p}"),
        1 => format!("rm -rf {p} {q}"),
        2 | 3 => format!("rm -rf {d}"),
        4 => "rm -rf *".to_owned(),
        5 => format!("find {d} -type f -delete"),
        6 => format!("find {d} -depth -delete"),
        7 => format!("mv {p} {q}"),
        8 => format!("mv {p} ../out/"),
        9 => format!("mv {d} moved{number}"),
        10 => format!("cp {p} {q}"),
        11 => format!("cp -r {d} copied{number}"),
        12 => format!("true > {p}"),
        13 => format!("echo {number} >> {p}"),
        14 => format!("printf {number} > {p}"),
        15 => format!("truncate -s {number} {p}"),
        16 => format!("sed -i s/e/{number}/ {p}"),
        17 => format!("printf Z | dd of={p} bs=1 seek=3 conv=notrunc 2>/dev/null"),
        18 => format!("chmod {} {p}", mode(dice)),
        19 => format!("chmod {} {d}", mode(dice)),
        20 => format!("chmod -R a-w {d}"),
        21 => format!("touch {p}"),
        22 => format!("touch -d @1400000000 {d}"),
        23 => format!("ln -f {p} {q}"),
        24 => format!("ln -sfn {p} {q}"),
        25 => format!("rm -rf {p}; mkdir {p}; echo {number} > {p}/f"),
        26 => format!("rm -rf {d}; echo {number} > {d}"),
        27 => format!("mv {p} swap; mv {q} {p}; mv swap {q}"),
        28 => format!("cp -p {p} same; rm -f {p}; mv same {p}"),
        29 => {
            format!("mkfifo fifo{number}; mkdir -p new{number}/n; echo {number} > new{number}/n/f")
        }
        30 => format!("setfattr -x user.note {p}"),
        _ => format!("chmod -R 000 {d}"),
    }
}

fn other(dice: &mut Dice) -> String {
    let (p, d) = (path(dice), directory(dice));
    let number = 3000 + dice.below(1000);
    match dice.below(6) {
        0 | 1 => format!("echo by-somebody-else-{number} > {p}"),
        2 => format!("echo by-somebody-else-{number} >> {p}"),
        3 => format!("mkdir -p {d}; echo by-somebody-else-{number} > {d}/theirs{number}"),
        4 => format!("rm -f {p}; echo by-somebody-else-{number} > {p}"),
        _ => format!("rm -f {p}"),
    }
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let git = dice.one_in(3);
        let mut pieces = vec![
            format!("mkdir -p {} ../out", DIRS[1..].join(" ")),
            "echo first > src/a.txt; echo second > ../out/b.c".to_owned(),
        ];
        if git {
            pieces.push(
                "git init -q -b main . && printf 'build/\\n*.log\\nnode_modules/\\n.env\\n' > .gitignore && git add -A && git commit -qm one; echo 2 >> src/a.txt; git commit -qam two; git branch feature; echo wip >> src/a.txt"
                    .to_owned(),
            );
        }
        for _ in 0..4 + dice.below(16) {
            pieces.push(piece(&mut dice));
        }
        let acts = (0..1 + dice.below(4))
            .map(|_| act(&mut dice, git))
            .collect();
        let others = match dice.one_in(3) {
            true => (0..1 + dice.below(3)).map(|_| other(&mut dice)).collect(),
            false => Vec::new(),
        };
        Self {
            seed,
            user: dice.one_in(2),
            source: !dice.one_in(3),
            way: if dice.one_in(3) {
                Way::Agent
            } else {
                Way::Guard
            },
            cwd: ".",
            pieces,
            acts,
            others,
        }
    }

    /// The line that is guarded.
    pub(super) fn line(&self) -> String {
        self.acts.join("\n") + "\nexit 0"
    }

    /// Everything that is smaller by one.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut without = |list: fn(&mut Self) -> &mut Vec<String>, len: usize, from: usize| {
            for number in (from..len).rev() {
                let mut one = self.clone();
                list(&mut one).remove(number);
                all.push(one);
            }
        };
        without(|w| &mut w.others, self.others.len(), 0);
        without(|w| &mut w.acts, self.acts.len(), 0);
        without(|w| &mut w.pieces, self.pieces.len(), 1);
        let mut plainer = self.clone();
        plainer.way = Way::Guard;
        plainer.user = false;
        if self.user || self.way == Way::Agent {
            all.push(plainer);
        }
        all
    }

    /// As one would try it by hand.
    pub(super) fn story(&self) -> String {
        let list = |what: &[String]| {
            what.iter()
                .map(|l| format!("    {l}\n"))
                .collect::<String>()
        };
        format!(
            "world {} ({}, {}, {:?}, in {})\n  there is:\n{}  command:\n{}  others:\n{}",
            self.seed,
            if self.user {
                "an ordinary user"
            } else {
                "whoever runs the tests"
            },
            if self.source { "a source" } else { "no source" },
            self.way,
            self.cwd,
            list(&self.pieces),
            list(&self.acts),
            list(&self.others),
        )
    }
}
