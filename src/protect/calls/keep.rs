//! Keeps the before-image of whatever a call is about to destroy.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use chrono::{DateTime, Utc};
use rustix::fs::{Mode, OFlags};

use super::durable::Durable;
use super::journal::{Before, Held};
use super::pending::Pending;
use super::session::Session;
use crate::disk::calls::{Call, Caller, Follow, Listener, Notification, Place, Spot, call_of};
use crate::disk::fsutil::{self, attributes, c_path, stat_of};
use crate::model::manifest::{Kind, Stat};
use crate::repo::Repository;

/// Flags of open(2), the same on all architectures that are known.
const ACCESS: u64 = 0o3;
const CREATE: u64 = 0o100;
const EXCLUSIVE: u64 = 0o200;
const TRUNCATE: u64 = 0o1000;
const NO_FOLLOW: [u64; 2] = [0o400_000, 0o100_000];
/// Of calls with a directory: do not follow a final symlink; follow it.
const AT_NO_FOLLOW: u64 = 0x100;
const AT_FOLLOW: u64 = 0x400;

/// Kinds of file systems with nothing in them that could be lost, by number in statfs(2): proc,
/// sysfs, devpts, cgroup, cgroup2, debugfs, tracefs, securityfs, bpf, pstore, configfs, mqueue,
/// binfmt_misc, selinux, efivars, pipes, sockets, anonymous inodes.
const NOT_FILES: [u32; 18] = [
    0x9fa0,
    0x6265_6572,
    0x1cd1,
    0x27_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6165_676c,
    0x6265_6570,
    0x1980_0202,
    0x4249_4e4d,
    0xf97c_ff8c,
    0xde5e_81e4,
    0x5049_5045,
    0x534f_434b,
    0x0904_1934,
];

/// Files there are removed and replaced as elsewhere. What is written to them in place is memory that
/// programs share: it is not kept.
const IN_MEMORY: &str = "/dev/shm";

/// How many objects are looked at to find other names of a file.
const MAX_LOOKED_AT: usize = 50_000;

/// What may be copied, because no link protects it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Bytes of all copies.
    pub(super) copied: u64,
    /// Bytes of all files that are kept in any way.
    pub(super) kept: u64,
}

/// What becomes of what cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unkept {
    /// The call fails, and nothing is lost.
    Stays,
    /// The call happens, and the operation says what is lost.
    Goes,
}

pub(super) struct Keeper<'a> {
    pub(super) repo: &'a Repository,
    pub(super) now: DateTime<Utc>,
    pub(super) budget: Budget,
    /// What each operation of a session may use.
    pub(super) whole_budget: Budget,
    pub(super) unkept: Unkept,
    /// The operation whose call is being looked at.
    pub(super) op: Pending,
    /// What there is only in a session.
    pub(super) session: Option<Session<'a>>,
    /// Files that are kept by a link, with the area and the number there: writing to them would change
    /// what is kept.
    pub(super) linked: HashMap<(u64, u64), (PathBuf, u32)>,
    /// bdr's own files: nobody but bdr changes them.
    pub(super) own: Vec<PathBuf>,
    /// By device: whether there are files in it.
    pub(super) has_files: HashMap<u64, bool>,
    /// Devices without a place for a staging area.
    pub(super) no_area: HashSet<u64>,
    /// When what is kept was last made durable, and who does it.
    pub(super) synced: Instant,
    pub(super) durable: Durable,
    /// Why the call that is being looked at must not happen.
    refusal: Option<String>,
    /// What was refused, and why.
    pub(super) refused: BTreeMap<PathBuf, String>,
    /// Programs that were to run with the rights of another user, and cannot.
    pub(super) raised: BTreeSet<PathBuf>,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Happens,
    /// It would change bdr's own files.
    Refused,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(
        repo: &'a Repository,
        budget: Budget,
        unkept: Unkept,
        never: &[PathBuf],
        now: DateTime<Utc>,
    ) -> Self {
        let own = repo.own_paths().into_iter().chain(never.iter().cloned());
        let own = own.map(|path| fsutil::canonicalize(&path).unwrap_or(path));
        Self {
            repo,
            now,
            budget,
            whole_budget: budget,
            unkept,
            op: Pending::default(),
            session: None,
            linked: HashMap::new(),
            own: own.collect(),
            has_files: HashMap::new(),
            no_area: HashSet::new(),
            synced: Instant::now(),
            durable: Durable::default(),
            refusal: None,
            refused: BTreeMap::new(),
            raised: BTreeSet::new(),
        }
    }

    /// Looks at what a call is about to do, keeps what it destroys, and answers.
    pub(super) fn answer(&mut self, listener: &Listener, call: &Notification) {
        let mut caller = Caller::new(call);
        let number = u32::try_from(call.number).unwrap_or(u32::MAX);
        let verdict = match call_of(call.arch, number) {
            Some(Call::Exec { place, argv }) => {
                self.starts(&mut caller, place, argv);
                Verdict::Happens
            }
            // bdr in a session records what it does itself.
            Some(known) if self.turns_to(call.thread) => {
                let looked = self.before_call(&mut caller, known);
                looked.unwrap_or_else(|error| self.not_seen(listener.is_valid(call.id), &error))
            }
            _ => Verdict::Happens,
        };
        match verdict {
            Verdict::Happens => listener.allow(call.id),
            Verdict::Refused => listener.refuse(call.id),
        }
    }

    /// Decides about a call that cannot be looked at.
    fn not_seen(&mut self, is_valid: bool, error: &io::Error) -> Verdict {
        let too_long = rustix::io::Errno::NAMETOOLONG.raw_os_error();
        if is_valid && error.raw_os_error() == Some(too_long) && self.unkept == Unkept::Stays {
            // There is something, below a path that bdr has no way to name.
            let cwd = self.op.cwd().map(Path::to_path_buf).unwrap_or_default();
            let reason = "a path in it is longer than the system takes".to_owned();
            self.refused.insert(cwd, reason);
            return Verdict::Refused;
        }
        // Others happen all the same, unless the caller is gone: refusing them would break programs
        // that do nothing wrong.
        self.op.unseen += u64::from(is_valid);
        Verdict::Happens
    }

    /// Looks at a program that is about to start.
    fn starts(&mut self, caller: &mut Caller<'_>, place: Place, argv: u8) {
        let spot = caller.spot(place, true).ok().flatten();
        let stat = spot.as_ref().and_then(|spot| spot.stat().ok().flatten());
        if let (Some(spot), Some(stat)) = (&spot, &stat)
            && gains_rights(stat)
            && !fsutil::is_root()
        {
            self.raised.insert(spot.path.clone());
        }
        if self.session.is_some() {
            let argv = caller.arguments(argv).unwrap_or_default();
            self.becomes(
                caller.thread(),
                stat.map(|stat| (stat.device, stat.inode)),
                argv,
            );
        }
    }

    fn before_call(&mut self, caller: &mut Caller<'_>, call: Call) -> io::Result<Verdict> {
        match call {
            Call::Open { place, flags } => {
                let flags = caller.argument(flags);
                self.opens(caller, place, flags)
            }
            Call::OpenHow { place, how } => {
                let flags = caller.number_at(how)?;
                if flags & (ACCESS | CREATE | TRUNCATE) == 0 {
                    return Ok(Verdict::Happens);
                }
                self.opens(caller, place, flags)
            }
            Call::Create { place } => {
                let spot = caller.spot(place, true)?;
                self.opened(caller, spot, 0o1 | CREATE | TRUNCATE)
            }
            Call::Truncate { place } => {
                let spot = caller.spot(place, true)?;
                self.opened(caller, spot, 0o1)
            }
            Call::WriteOpen { file } => {
                let spot = caller.open_spot(file)?;
                self.opened(caller, spot, 0o1)
            }
            Call::Remove { place } => {
                let spot = caller.spot(place, false)?;
                self.each(caller, spot, |keeper, spot, stat| {
                    keeper.parent(spot)?;
                    match stat {
                        Some(stat) => keeper.loses_name(spot, stat),
                        None => Ok(()),
                    }
                })
            }
            Call::Rename { from, to } => {
                let from = caller.spot(from, false)?;
                let to = caller.spot(to, false)?;
                match (from, to) {
                    (Some(from), Some(to)) => self.before_rename(caller, from, to),
                    // It fails, and changes nothing.
                    _ => Ok(Verdict::Happens),
                }
            }
            Call::Make { place } => {
                let spot = caller.spot(place, false)?;
                self.each(caller, spot, |keeper, spot, stat| match stat {
                    Some(_) => Ok(()),
                    None => keeper.appears(spot),
                })
            }
            Call::Link { from, to, flags } => {
                let follow = flags.is_some_and(|flags| caller.argument(flags) & AT_FOLLOW != 0);
                let from = caller.spot(from, follow)?;
                let to = caller.spot(to, false)?;
                self.before_link(caller, from, to)
            }
            Call::Change { place, follow } => {
                let follow = match follow {
                    Follow::Yes => true,
                    Follow::No => false,
                    Follow::Unless(flags) => caller.argument(flags) & AT_NO_FOLLOW == 0,
                };
                let spot = caller.spot(place, follow)?;
                self.changed(caller, spot)
            }
            Call::ChangeOpen { file } => {
                let spot = caller.open_spot(file)?;
                self.changed(caller, spot)
            }
            Call::Mount { on } => {
                caller.mounts(on, |path| self.op.is_new(path))?;
                Ok(Verdict::Happens)
            }
            Call::Exec { .. } => Ok(Verdict::Happens),
        }
    }

    fn before_rename(&mut self, caller: &Caller<'_>, from: Spot, to: Spot) -> io::Result<Verdict> {
        // What contains bdr's own files may change, but not be moved away or replaced.
        let moves_own = |spot: &Spot| self.own.iter().any(|own| own.starts_with(&spot.path));
        if (moves_own(&from) || moves_own(&to)) && !caller.is_this_program() {
            return Ok(Verdict::Refused);
        }
        let arriving = arriving(&from, &to)?;
        let one = self.each(caller, Some(from), |keeper, spot, stat| {
            keeper.parent(spot)?;
            match stat {
                Some(stat) => keeper.moves(spot, stat),
                None => Ok(()),
            }
        })?;
        let other = self.each(caller, Some(to), |keeper, spot, stat| {
            keeper.parent(spot)?;
            match stat {
                Some(stat) => keeper.moves(spot, stat),
                None => keeper.appears(spot),
            }
        })?;
        for path in arriving {
            if !self.knows(&path) {
                self.insert(&path, None)?;
            }
        }
        Ok(if one == Verdict::Refused { one } else { other })
    }

    fn before_link(
        &mut self,
        caller: &Caller<'_>,
        from: Option<Spot>,
        to: Option<Spot>,
    ) -> io::Result<Verdict> {
        self.each(caller, from, |keeper, spot, stat| match stat {
            // From now on it can be written to under a name that says nothing.
            Some(stat) if stat.kind == Kind::File => keeper.loses_name(spot, stat),
            Some(stat) if stat.kind == Kind::Symlink => keeper.note(spot, stat),
            _ => Ok(()),
        })?;
        self.each(caller, to, |keeper, spot, stat| match stat {
            Some(_) => Ok(()),
            None => keeper.appears(spot),
        })
    }

    /// Does what a call needs at a spot, unless there are no files, or they are bdr's own.
    fn each(
        &mut self,
        caller: &Caller<'_>,
        spot: Option<Spot>,
        act: impl FnOnce(&mut Self, &Spot, Option<Stat>) -> io::Result<()>,
    ) -> io::Result<Verdict> {
        let Some(spot) = spot else {
            return Ok(Verdict::Happens);
        };
        if self.own.iter().any(|own| spot.path.starts_with(own)) {
            // bdr may change its own files, and nobody else.
            return Ok(match caller.is_this_program() {
                true => Verdict::Happens,
                false => Verdict::Refused,
            });
        }
        if !self.is_of_files(&spot)? {
            return Ok(Verdict::Happens);
        }
        let stat = spot.found()?;
        if spot.is_foreign {
            if stat.is_some() {
                self.ensure_started()?;
                self.op.foreign.insert(spot.path);
            }
            return Ok(Verdict::Happens);
        }
        act(self, &spot, stat)?;
        match self.refusal.take() {
            Some(reason) => {
                self.refused.insert(spot.path, reason);
                Ok(Verdict::Refused)
            }
            None => Ok(Verdict::Happens),
        }
    }

    fn is_of_files(&mut self, spot: &Spot) -> io::Result<bool> {
        let device = rustix::fs::fstat(&spot.dir)?.st_dev;
        if let Some(known) = self.has_files.get(&device) {
            return Ok(*known);
        }
        let kind = rustix::fs::fstatfs(&spot.dir)?.f_type;
        #[expect(clippy::cast_possible_truncation, reason = "the numbers have 32 bits")]
        let fits = !NOT_FILES.contains(&(kind as u32))
            && (!spot.path.starts_with("/dev/") || spot.path.starts_with(IN_MEMORY));
        self.has_files.insert(device, fits);
        Ok(fits)
    }

    fn opens(&mut self, caller: &mut Caller<'_>, place: Place, flags: u64) -> io::Result<Verdict> {
        let follow = !NO_FOLLOW.iter().any(|flag| flags & flag != 0);
        let spot = caller.spot(place, follow && flags & EXCLUSIVE == 0)?;
        self.opened(caller, spot, flags)
    }

    fn opened(
        &mut self,
        caller: &Caller<'_>,
        spot: Option<Spot>,
        flags: u64,
    ) -> io::Result<Verdict> {
        self.each(caller, spot, |keeper, spot, stat| match stat {
            // It fails.
            Some(_) if flags & (CREATE | EXCLUSIVE) == CREATE | EXCLUSIVE => Ok(()),
            Some(stat) if stat.kind == Kind::File => {
                let is_shared = spot.path.starts_with(IN_MEMORY) && flags & TRUNCATE == 0;
                if flags & (ACCESS | TRUNCATE) == 0 || is_shared {
                    return Ok(());
                }
                keeper.is_written(spot, stat)
            }
            Some(_) => Ok(()),
            None if flags & CREATE != 0 => keeper.appears(spot),
            None => Ok(()),
        })
    }

    fn changed(&mut self, caller: &Caller<'_>, spot: Option<Spot>) -> io::Result<Verdict> {
        self.each(caller, spot, |keeper, spot, stat| match stat {
            Some(stat) => keeper.note(spot, stat),
            None => Ok(()),
        })
    }

    /// Notes that nothing was there.
    fn appears(&mut self, spot: &Spot) -> io::Result<()> {
        self.meet(&spot.path)?;
        self.parent(spot)?;
        if self.knows(&spot.path) {
            return Ok(());
        }
        self.insert(&spot.path, None)
    }

    /// Notes how the directory of a spot was: its time changes with the names in it.
    fn parent(&mut self, spot: &Spot) -> io::Result<()> {
        let path = spot.parent_path();
        if self.knows(path) {
            return Ok(());
        }
        let stat = stat_of(&rustix::fs::fstat(&spot.dir)?);
        // Nobody can give back the time of somebody else's directory.
        if !fsutil::is_own(&stat) && !fsutil::is_root() {
            return Ok(());
        }
        let found = attributes::all_of_link(&spot.dir)?;
        let before = Before {
            stat,
            xattrs: found.kept,
            withheld: found.withheld,
            sparse: false,
            target: Vec::new(),
            content: Held::None,
        };
        if stat.mode & 0o1000 != 0 {
            // Nor of one that everybody uses, unless it is removed itself.
            let shared = &mut self.op.shared;
            shared.entry(path.to_path_buf()).or_insert(before);
            return Ok(());
        }
        self.insert(path, Some(Box::new(before)))
    }

    fn knows(&self, path: &Path) -> bool {
        self.op.before.contains_key(path) || self.op.is_new(path)
    }

    /// A name goes: of a file, the content must not go with it.
    fn loses_name(&mut self, spot: &Spot, stat: Stat) -> io::Result<()> {
        self.keep_by(spot, stat, Self::link)
    }

    /// A file is written to: its content must be elsewhere before.
    fn is_written(&mut self, spot: &Spot, stat: Stat) -> io::Result<()> {
        let number = (stat.device, stat.inode);
        let link = self.linked.get(&number).cloned();
        if let Err(error) = self.unlink_kept(spot, &stat) {
            // What is kept would change along with the file.
            self.linked.extend(link.map(|link| (number, link)));
            if self.unkept == Unkept::Stays {
                self.refusal = Some(error.to_string());
                return Ok(());
            }
            return Err(error);
        }
        self.keep_by(spot, stat, Self::copy)
    }

    fn keep_by(
        &mut self,
        spot: &Spot,
        stat: Stat,
        keep: fn(&mut Self, &Spot, &Stat) -> io::Result<Held>,
    ) -> io::Result<()> {
        self.meet(&spot.path)?;
        let known = match self.op.before.get(&spot.path) {
            Some(Some(known)) if known.content == Held::InPlace => Some(known.clone()),
            Some(_) => return Ok(()),
            None => None,
        };
        if known.is_none() && self.op.is_new(&spot.path) {
            return Ok(());
        }
        let mut stat = stat;
        let number = (stat.device, stat.inode);
        let content = match self.op.same.get(&number) {
            Some((held, links)) => {
                stat.links = *links;
                held.clone()
            }
            None if stat.kind == Kind::File && stat.size > 0 => {
                let kept = keep(self, spot, &stat);
                let held = kept.unwrap_or_else(|error| Held::Lost(error.to_string()));
                if let (Held::Lost(reason), Unkept::Stays) = (&held, self.unkept) {
                    self.refusal = Some(reason.clone());
                    return Ok(());
                }
                self.op.same.insert(number, (held.clone(), stat.links));
                held
            }
            None => Held::None,
        };
        let before = match known {
            Some(known) => Before { content, ..*known },
            None => match self.op.shared.remove(&spot.path) {
                Some(before) if before.stat.inode == stat.inode => before,
                _ => self.look(spot, stat, content)?,
            },
        };
        let has_names = matches!(stat.kind, Kind::File | Kind::Symlink);
        let others = match has_names && stat.links > 1 {
            true => self.other_names(number, &spot.path),
            false => Vec::new(),
        };
        for other in others {
            if !self.knows(&other) {
                self.insert(&other, Some(Box::new(before.clone())))?;
            }
        }
        self.insert(&spot.path, Some(Box::new(before)))
    }

    /// Returns the other names of a file below the directory where the command runs: they lose or
    /// change their content along with it. Names elsewhere are not looked for.
    fn other_names(&mut self, number: (u64, u64), path: &Path) -> Vec<PathBuf> {
        let cwd = self.op.cwd().map(Path::to_path_buf).unwrap_or_default();
        let own = &self.own;
        let names = self.op.names.get_or_insert_with(|| {
            let mut found: HashMap<(u64, u64), Vec<PathBuf>> = HashMap::new();
            let mut left = MAX_LOOKED_AT;
            several_names(&cwd, own, &mut left, &mut found);
            found
        });
        let names = names.get(&number).into_iter().flatten();
        names.filter(|name| *name != path).cloned().collect()
    }

    /// Notes how an object was, unless that is known.
    fn note(&mut self, spot: &Spot, stat: Stat) -> io::Result<()> {
        self.meet(&spot.path)?;
        if self.knows(&spot.path) {
            return Ok(());
        }
        let mut stat = stat;
        let content = match self.op.same.get(&(stat.device, stat.inode)) {
            Some((held, links)) => {
                stat.links = *links;
                held.clone()
            }
            None if stat.kind == Kind::File && stat.size > 0 => Held::InPlace,
            None => Held::None,
        };
        let before = self.look(spot, stat, content)?;
        self.insert(&spot.path, Some(Box::new(before)))
    }

    /// Reads the metadata of an object.
    fn look(&self, spot: &Spot, stat: Stat, content: Held) -> io::Result<Before> {
        let name = c_path(&spot.name)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let object = rustix::fs::openat(&spot.dir, &name, flags, Mode::empty())?;
        let target = match stat.kind {
            Kind::Symlink => rustix::fs::readlinkat(&spot.dir, &name, Vec::new())?.into_bytes(),
            _ => Vec::new(),
        };
        let found = attributes::all_of_link(&object)?;
        // In units of 512 bytes, whatever the file system's own are.
        let blocks = rustix::fs::fstat(&object)?.st_blocks;
        let sparse = u64::try_from(blocks).is_ok_and(|blocks| blocks * 512 < stat.size);
        Ok(Before {
            stat,
            xattrs: found.kept,
            withheld: found.withheld,
            sparse: sparse && stat.kind == Kind::File,
            target,
            content,
        })
    }

    /// An object moves, or something takes its place. Of a directory, everything in it moves along.
    fn moves(&mut self, spot: &Spot, stat: Stat) -> io::Result<()> {
        self.loses_name(spot, stat)?;
        if stat.kind != Kind::Dir || self.op.is_new(&spot.path) {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(&spot.dir, c_path(&spot.name)?, flags, Mode::empty())?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        for name in names {
            let path = spot.path.join(std::ffi::OsStr::from_bytes(&name));
            let inner = Spot::new(dir.try_clone()?, name, path);
            if let Some(stat) = inner.stat()? {
                self.moves(&inner, stat)?;
            }
        }
        Ok(())
    }
}

/// Returns true for a program that runs with the rights of another user or group, unless it may not.
fn gains_rights(stat: &Stat) -> bool {
    let (user, group) = fsutil::user_and_group();
    let of_other = stat.mode & 0o4000 != 0 && stat.uid != user;
    stat.kind == Kind::File && (of_other || stat.mode & 0o2000 != 0 && stat.gid != group)
}

/// Returns the names that a rename makes below what it replaces or exchanges: those in a directory that
/// moves to where something is.
fn arriving(from: &Spot, to: &Spot) -> io::Result<Vec<PathBuf>> {
    let (Some(here), Some(there)) = (from.stat()?, to.stat()?) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let nested = from.path.starts_with(&to.path) || to.path.starts_with(&from.path);
    if !from.is_foreign && !to.is_foreign && !nested {
        if here.kind == Kind::Dir {
            below(&from.path, &to.path, &mut found);
        }
        if there.kind == Kind::Dir {
            below(&to.path, &from.path, &mut found);
        }
    }
    Ok(found)
}

/// Lists what is in a directory, under the paths that it has in another one.
fn below(dir: &Path, other: &Path, found: &mut Vec<PathBuf>) {
    for entry in fsutil::read_dir(dir).into_iter().flatten().flatten() {
        let Some(name) = entry.path().file_name().map(|name| other.join(name)) else {
            continue;
        };
        if now_at(&entry.path()).is_some_and(|stat| stat.kind == Kind::Dir) {
            below(&entry.path(), &name, found);
        }
        found.push(name);
    }
}

/// Finds files with several names, as far as a look at `left` objects goes.
fn several_names(
    dir: &Path,
    own: &[PathBuf],
    left: &mut usize,
    found: &mut HashMap<(u64, u64), Vec<PathBuf>>,
) {
    for entry in fsutil::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if *left == 0 || own.iter().any(|own| path.starts_with(own)) {
            continue;
        }
        *left -= 1;
        let Some(stat) = now_at(&path) else { continue };
        match stat.kind {
            Kind::Dir => several_names(&path, own, left, found),
            Kind::File | Kind::Symlink if stat.links > 1 => {
                found
                    .entry((stat.device, stat.inode))
                    .or_default()
                    .push(path);
            }
            _ => {}
        }
    }
}

/// Returns the stat of an open object.
pub(super) fn now_at(path: &Path) -> Option<Stat> {
    rustix::fs::lstat(path).ok().map(|stat| stat_of(&stat))
}

/// Returns the attributes of what is at a path; `None` if they cannot be read.
pub(super) fn xattrs_at(path: &Path) -> Option<Vec<(String, Vec<u8>)>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let object: OwnedFd = rustix::fs::open(path, flags, Mode::empty()).ok()?;
    attributes::of_link(&object).ok()
}
