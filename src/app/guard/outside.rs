//! What a command changed outside of its project, and so where nobody looks: settings in HOME, other
//! repositories, the configuration of agents, system places.
//!
//! Read from the finished operation, so it is the same however the operation was protected. Agents
//! that hear of such changes correct most of them, and none of those that they do not hear of.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use bdr::base::path::os_to_bytes;
use bdr::disk::fsutil;
use bdr::effects::{Assessment, Operand};
use bdr::find::discover::is_of_an_agent;
use bdr::model::hosts;
use bdr::model::manifest::Kind;
use bdr::repo::Repository;
use bdr::repo::by_path::root_path;
use bdr::repo::oplog::{Operation, RootChanges};

use crate::app::context::{Context, variable};

/// More places are counted, not named.
const MOST: usize = 5;

/// In so many directories a repository is looked for.
const MOST_DIRS: usize = 512;

/// Directories for files that nobody keeps.
const TEMPORARY: [&str; 7] = [
    "/tmp",
    "/var/tmp",
    "/private/tmp",
    "/private/var/folders",
    "/dev",
    "/proc",
    "/run",
];

/// What programs fetch again or note for themselves, below HOME.
const CACHES: [&str; 22] = [
    ".cache",
    "Library/Caches",
    "Library/Logs",
    ".npm",
    ".pnpm-store",
    ".yarn",
    ".bun/install/cache",
    ".cargo/registry",
    ".cargo/git",
    ".cargo/.package-cache",
    ".cargo/.global-cache",
    ".rustup/tmp",
    ".rustup/downloads",
    ".gradle/caches",
    ".m2/repository",
    ".nuget/packages",
    ".ccache",
    "go/pkg",
    ".local/state",
    ".local/share/Trash",
    ".lesshst",
    ".wget-hsts",
];

/// Directories of the system.
const SYSTEM: [&str; 16] = [
    "etc",
    "usr",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "opt",
    "boot",
    "var",
    "srv",
    "root",
    "System",
    "Library",
    "Applications",
];

/// Directories that many programs share: one of them has its own directory there.
const SHARED: [&str; 7] = [
    ".config",
    ".local/share",
    ".local/lib",
    ".local/bin",
    ".local",
    "Library/Application Support",
    "Library",
];

/// What kind of place it is; the least expected first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Agent,
    Repository,
    System,
    /// A hidden file or directory in HOME.
    Settings,
    Other,
}

impl What {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Repository => "repository",
            Self::System => "system",
            Self::Settings => "settings",
            Self::Other => "other",
        }
    }

    fn remark(self) -> &'static str {
        match self {
            Self::Agent => " (configuration of an agent)",
            Self::Repository => " (another repository)",
            Self::System => " (of the system)",
            Self::Settings | Self::Other => "",
        }
    }
}

/// A place outside of the project in which something changed.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) what: What,
    pub(crate) path: PathBuf,
    /// Topmost paths.
    pub(crate) deleted: u64,
    pub(crate) created: u64,
    pub(crate) modified: u64,
    /// The only path that changed.
    only: Option<PathBuf>,
}

/// Returns where an operation changed something outside of its project, as far as the command did
/// not say so itself.
pub(crate) fn outside(
    cx: &Context,
    repo: &Repository,
    operation: &Operation,
    assessment: &Assessment,
) -> Vec<Outside> {
    let operations = std::slice::from_ref(operation);
    of_all(cx, repo, operations, &assessment.operands)
}

/// So many operations of a session are looked at: with more, what they did is for `bdr log`.
#[cfg(target_os = "linux")]
const LONGEST_SESSION: u64 = 500;

/// Returns where the commands of a session changed something outside of its project.
#[cfg(target_os = "linux")]
pub(crate) fn outside_of_session(
    cx: &Context,
    repo: &Repository,
    session: &Operation,
    operations: u64,
) -> Vec<Outside> {
    let id = session.begin.id;
    if operations > LONGEST_SESSION {
        return Vec::new();
    }
    let mut all = repo.operations_after(id).unwrap_or_default();
    all.retain(|operation| operation.begin.session == Some(id));
    of_all(cx, repo, &all, &[])
}

fn of_all(
    cx: &Context,
    repo: &Repository,
    operations: &[Operation],
    named: &[Operand],
) -> Vec<Outside> {
    let mut project = None;
    let mut found = BTreeMap::new();
    for operation in operations {
        let own = |root: &&RootChanges| {
            !root.is_empty() && !operation.begin.elsewhere.contains(&root.name)
        };
        let roots = operation.end.iter().flat_map(|end| &end.roots);
        let roots: Vec<&RootChanges> = roots.filter(own).collect();
        if roots.is_empty() {
            continue;
        }
        let project = project.get_or_insert_with(|| Project::around(cx, named));
        project.is_agent = {
            let words = operation.begin.argv.iter();
            let words: Vec<_> = words.map(|word| os_to_bytes(&word.0)).collect();
            hosts::is_agent(&words)
        };
        let snapshot = operation.begin.before.and_then(|id| repo.snapshot(id).ok());
        for root in roots {
            let base = root_path(root, snapshot.as_ref());
            if base.is_absolute() {
                project.extend_to_deleted(root, &base);
                project.add(root, &base, &mut found);
            }
        }
    }
    let mut found: Vec<Outside> = found.into_values().collect();
    found.sort_by_key(|one| (one.what, one.deleted == 0));
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Deleted,
    Created,
    Modified,
}

impl Outside {
    fn add(&mut self, fate: Fate, path: &Path) {
        match fate {
            Fate::Deleted => self.deleted += 1,
            Fate::Created => self.created += 1,
            Fate::Modified => self.modified += 1,
        }
        // The same path may be in two roots.
        if self.only.as_deref() != Some(path) {
            self.only = None;
        }
    }

    /// Returns "~/.bashrc changed" and the like.
    pub(crate) fn words(&self, cx: &Context) -> String {
        let counts = [
            (self.deleted, "deleted"),
            (self.created, "created"),
            (self.modified, "changed"),
        ];
        let counts = counts.iter().filter(|(number, _)| *number > 0);
        let remark = self.what.remark();
        match &self.only {
            Some(path) => {
                let words: Vec<&str> = counts.map(|(_, word)| *word).collect();
                let path = cx.shown_absolute(path);
                format!("{path} {}{remark}", words.join(", "))
            }
            None => {
                let parts = counts.map(|(number, word)| format!("{number} {word}"));
                let parts: Vec<String> = parts.collect();
                let place = cx.shown_absolute(&self.path);
                format!("{place}{remark}: {}", parts.join(", "))
            }
        }
    }
}

/// Returns a handful of lines about places; what is left out is counted.
pub(crate) fn outside_words(cx: &Context, found: &[Outside]) -> Vec<String> {
    let mut lines: Vec<String> = found.iter().take(MOST).map(|one| one.words(cx)).collect();
    match found.len().saturating_sub(MOST) {
        0 => {}
        1 => lines.push("and 1 more place: bdr show".to_owned()),
        more => lines.push(format!("and {more} more places: bdr show")),
    }
    lines
}

/// Says where something changed outside of the project; with the command that undoes it, unless that
/// was said already.
pub(crate) fn say_outside(cx: &Context, found: &[Outside], undo: Option<&str>) {
    if found.is_empty() {
        return;
    }
    let undo = undo.map(|undo| format!(" · undo: {}", cx.ui.err.bold(undo)));
    let undo = undo.unwrap_or_default();
    cx.ui.say(&format!("bdr: outside of the project{undo}"));
    for line in outside_words(cx, found) {
        cx.ui.say(&format!("bdr:   {line}"));
    }
}

/// What belongs to the project that a command runs in, or is expected to change.
struct Project {
    inside: Vec<PathBuf>,
    home: Option<PathBuf>,
    /// Nobody keeps what is there.
    passing: Vec<PathBuf>,
    /// The command says that it works on these.
    named: Vec<PathBuf>,
    /// Where it ran.
    here: PathBuf,
    /// The command is an agent, whose own configuration it writes all the time.
    is_agent: bool,
    repositories: HashMap<PathBuf, Option<PathBuf>>,
}

impl Project {
    /// Takes in the work tree around the command of which the command has deleted the repository.
    fn extend_to_deleted(&mut self, root: &RootChanges, base: &Path) {
        let gone = root.removed.iter().map(|path| path.to_path(base));
        let tops = gone.filter(|path| path.ends_with(".git"));
        let tops = tops.filter_map(|path| path.parent().map(Path::to_path_buf));
        let around = tops.filter(|top| self.here.starts_with(top));
        self.inside.extend(around.collect::<Vec<_>>());
    }

    /// Adds what changed in a root.
    fn add(
        &mut self,
        root: &RootChanges,
        base: &Path,
        found: &mut BTreeMap<(What, PathBuf), Outside>,
    ) {
        let gone = root.removed.iter().chain(&root.lost);
        let gone = gone.map(|path| (path, Fate::Deleted));
        let stamps = root.created.iter().map(|stamp| (stamp, Fate::Created));
        let stamps = stamps.chain(root.modified.iter().map(|stamp| (stamp, Fate::Modified)));
        // A directory changes with whatever is in it.
        let stamps = stamps.filter(|(stamp, _)| stamp.kind != Kind::Dir);
        let stamps = stamps.map(|(stamp, fate)| (&stamp.path, fate));
        let altered = root.altered.iter().map(|path| (path, Fate::Modified));
        for (path, fate) in gone.chain(stamps).chain(altered) {
            let path = path.to_path(base);
            if let Some((what, place)) = self.place_outside(&path, fate) {
                let one = found.entry((what, place.clone())).or_insert(Outside {
                    what,
                    path: place,
                    deleted: 0,
                    created: 0,
                    modified: 0,
                    only: Some(path.clone()),
                });
                one.add(fate, &path);
            }
        }
    }

    fn around(cx: &Context, named: &[Operand]) -> Self {
        let real = |path: &Path| fsutil::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let home = cx.home.as_deref().map(real);
        let here = real(&cx.cwd);
        // The command may have deleted where it ran.
        let left = here.ancestors().find(|dir| dir.is_dir()).unwrap_or(&here);
        let mut inside = vec![here.clone()];
        match git2::Repository::discover(left) {
            Ok(found) => {
                inside.extend(found.workdir().map(real));
                // Of a linked work tree it lies elsewhere.
                inside.push(real(found.commondir()));
            }
            Err(_) => {
                let around =
                    |path: &&PathBuf| cx.cwd.starts_with(path) && Some(*path) != home.as_ref();
                let sources = cx.config.sources.iter().map(|source| &source.path);
                let source = sources
                    .filter(around)
                    .max_by_key(|path| path.components().count());
                inside.extend(source.cloned());
            }
        }
        let mut passing: Vec<PathBuf> = cx.places.own();
        passing.push(cx.places.config.clone());
        let temporary = TEMPORARY.iter().map(PathBuf::from);
        let temporary = temporary.chain(variable("TMPDIR").map(PathBuf::from));
        // Whoever lives there keeps it.
        passing.extend(
            temporary.filter(|dir| !home.as_ref().is_some_and(|home| home.starts_with(dir))),
        );
        passing.extend(variable("XDG_CACHE_HOME").map(PathBuf::from));
        passing.extend(
            home.iter()
                .flat_map(|home| CACHES.iter().map(|cache| home.join(cache))),
        );
        // A name for everything says nothing.
        let wide = |path: &Path| home.as_ref().is_some_and(|home| home.starts_with(path));
        let named = named.iter().filter(|one| one.itself && !one.glob);
        let named = named.map(|one| bdr::protect::guard::canonical_parent(&one.path));
        let named = named.filter(|path| !wide(path)).collect();
        Self {
            inside,
            home,
            passing,
            named,
            here,
            is_agent: false,
            repositories: HashMap::new(),
        }
    }

    /// Returns the place that a change belongs to; `None` if it is in the project, or nothing to
    /// tell.
    fn place_outside(&mut self, path: &Path, fate: Fate) -> Option<(What, PathBuf)> {
        let is_in = |dirs: &[PathBuf]| dirs.iter().any(|dir| path.starts_with(dir));
        if is_in(&self.passing) || is_in(&self.named) || self.here.starts_with(path) {
            return None;
        }
        let below = self
            .home
            .as_deref()
            .and_then(|home| path.strip_prefix(home).ok());
        let hidden =
            below.is_some_and(|below| first(below).is_some_and(|name| name.starts_with('.')));
        let is_inside = |dir: &PathBuf| {
            // HOME as a project does not make its settings part of one.
            let holds_home = self.home.as_ref().is_some_and(|home| home.starts_with(dir));
            path.starts_with(dir) && !(holds_home && hidden)
        };
        if self.inside.iter().any(is_inside) {
            return None;
        }
        if let Some(below) = below {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_note = name.ends_with("_history") || is_of_an_agent(below) && is_record(&name);
            if fate != Fate::Deleted && is_note {
                return None;
            }
            let home = self.home.clone().unwrap_or_default();
            if is_of_an_agent(below) {
                if self.is_agent && fate != Fate::Deleted {
                    return None;
                }
                return Some((What::Agent, home.join(own_of(below))));
            }
            return Some(match (self.repository(path), hidden) {
                (Some(top), _) if top != home => (What::Repository, top),
                (_, true) => (What::Settings, home.join(own_of(below))),
                (_, false) => (What::Other, home.join(first(below).unwrap_or_default())),
            });
        }
        if let Some(top) = self.repository(path) {
            return Some((What::Repository, top));
        }
        let mut parts = path
            .components()
            .filter(|part| matches!(part, Component::Normal(_)));
        let (one, two) = (parts.next(), parts.next());
        let place: PathBuf = [Some(Component::RootDir), one, two]
            .into_iter()
            .flatten()
            .collect();
        let is_system = one.is_some_and(|one| SYSTEM.iter().any(|dir| one.as_os_str() == *dir));
        Some((if is_system { What::System } else { What::Other }, place))
    }

    /// Returns the work tree that a path is in.
    fn repository(&mut self, path: &Path) -> Option<PathBuf> {
        // Even if the command has deleted it.
        if let Some(git) = path.ancestors().find(|above| above.ends_with(".git")) {
            return git.parent().map(Path::to_path_buf);
        }
        let dir = path.parent()?;
        if let Some(known) = self.repositories.get(dir) {
            return known.clone();
        }
        if self.repositories.len() >= MOST_DIRS {
            return None;
        }
        let has_git = |dir: &&Path| dir.join(".git").symlink_metadata().is_ok();
        let found = dir.ancestors().find(has_git).map(Path::to_path_buf);
        self.repositories.insert(dir.to_path_buf(), found.clone());
        found
    }
}

fn first(below: &Path) -> Option<String> {
    let first = below.components().next()?;
    Some(first.as_os_str().to_string_lossy().into_owned())
}

/// Returns the directory of one program among those below HOME.
fn own_of(below: &Path) -> PathBuf {
    let shared = SHARED.iter().find(|dir| below.starts_with(dir));
    let above = shared.map_or(0, |dir| Path::new(dir).components().count());
    below.components().take(above + 1).collect()
}

/// Returns true for what agents write down about themselves all the time.
fn is_record(name: &str) -> bool {
    [".jsonl", ".log", ".lock", ".tmp"]
        .iter()
        .any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        let mut project = Project {
            inside: vec![PathBuf::from("/h/u")],
            home: Some(PathBuf::from("/h/u")),
            passing: vec![PathBuf::from("/tmp"), PathBuf::from("/h/u/.cache")],
            named: vec![PathBuf::from("/h/u/.named")],
            here: PathBuf::from("/data/p/sub"),
            is_agent: false,
            repositories: HashMap::new(),
        };
        let mut place = |path: &str, fate: Fate| {
            let found = project.place_outside(Path::new(path), fate);
            found.map(|(what, place)| (what, place.display().to_string()))
        };
        let is = |what: What, path: &str| Some((what, path.to_owned()));
        // HOME is the project: its settings are still no part of one.
        assert_eq!(place("/h/u/notes/a", Fate::Deleted), None);
        for (path, expected) in [
            ("/h/u/.zshrc", is(What::Settings, "/h/u/.zshrc")),
            ("/h/u/.ssh/config", is(What::Settings, "/h/u/.ssh")),
            ("/h/u/.config/x/y/z", is(What::Settings, "/h/u/.config/x")),
            ("/h/u/.codex/config.toml", is(What::Agent, "/h/u/.codex")),
            ("/etc/hosts", is(What::System, "/etc/hosts")),
            ("/var/lib/x/y", is(What::System, "/var/lib")),
            ("/data/x/y", is(What::Other, "/data/x")),
            ("/data/x/.git/config", is(What::Repository, "/data/x")),
            // With it goes the directory where the command ran.
            ("/data/p", None),
            ("/tmp/x", None),
            ("/h/u/.cache/x", None),
            ("/h/u/.named/x", None),
        ] {
            assert_eq!(place(path, Fate::Modified), expected, "{path}");
        }
        // Agents write down what they do; that it is gone is another matter.
        let log = "/h/u/.claude/projects/a.jsonl";
        assert_eq!(place(log, Fate::Modified), None);
        assert_eq!(place(log, Fate::Deleted), is(What::Agent, "/h/u/.claude"));
    }
}
