//! Which processes a command left running: their changes belong to its operation.
//!
//! Read from `/proc`, see proc(5); on other systems nothing is known about them.

#[cfg(target_os = "linux")]
pub(crate) use linux::by_filter;
#[cfg(target_os = "linux")]
pub(super) use linux::{by_call, by_child};

/// Returns nothing: this system does not tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn by_child(_roots: &[&std::path::Path]) -> Vec<(u32, String)> {
    Vec::new()
}

/// Returns nothing: this system does not tell.
#[cfg(not(target_os = "linux"))]
pub(super) fn by_call(
    _age: std::time::Duration,
    _roots: &[&std::path::Path],
    _detached: bool,
) -> Vec<(u32, String)> {
    Vec::new()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashMap;
    use std::path::Path;
    use std::time::Duration;

    use rustix::process::{WaitOptions, wait};

    /// The unit of start times in proc(5): hundredths of a second on every Linux.
    const TICK_MS: u64 = 10;
    /// How many ancestors of a process are followed.
    const MAX_DEPTH: usize = 64;

    /// Returns the processes that the command left behind and that still run, with their names.
    /// Leaves out those that detached on purpose: in a session of their own, and working outside of
    /// `roots`. Reaps all children that have ended.
    pub(in crate::protect::guard) fn by_child(roots: &[&Path]) -> Vec<(u32, String)> {
        lasting(&|| left_by_child(roots))
    }

    /// Returns the processes that the command left behind, wherever they work.
    pub(crate) fn by_filter() -> Vec<(u32, String)> {
        left_by_child(&[Path::new("/")])
    }

    /// Returns the processes that started at most `age` before this one, work in one of `roots` and
    /// still run: those whose parent is gone, and with `detached` (the line itself sent something
    /// to the background) all that the agent's program has started since.
    ///
    /// The caller is a hook: the agent's program is the nearest ancestor that existed before.
    pub(in crate::protect::guard) fn by_call(
        age: Duration,
        roots: &[&Path],
        detached: bool,
    ) -> Vec<(u32, String)> {
        lasting(&|| left_by_call(age, roots, detached))
    }

    /// Waits a moment, so that processes that are just ending do not count.
    fn lasting(look: &dyn Fn() -> Vec<(u32, String)>) -> Vec<(u32, String)> {
        for _ in 0..10 {
            if look().is_empty() {
                return Vec::new();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        look()
    }

    fn left_by_child(roots: &[&Path]) -> Vec<(u32, String)> {
        loop {
            // Any process group: orphans often have one of their own.
            match wait(WaitOptions::NOHANG) {
                // One has ended.
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return Vec::new(),
            }
        }
        let own = std::process::id();
        let all = processes();
        let session = all.get(&own).map(|stat| stat.session);
        let is_left = |(pid, stat): &(&u32, &Process)| {
            stat.parent == own && (works_in(**pid, roots) || Some(stat.session) == session)
        };
        named(all.iter().filter(is_left))
    }

    fn left_by_call(age: Duration, roots: &[&Path], detached: bool) -> Vec<(u32, String)> {
        let all = processes();
        let Some(own) = all.get(&std::process::id()) else {
            return Vec::new();
        };
        let ticks = u64::try_from(age.as_millis()).unwrap_or(u64::MAX) / TICK_MS;
        // Some margin for the time between the start of a process and its first look at the clock.
        let since = own.start.saturating_sub(ticks).saturating_sub(2);
        let above = |pid: u32| {
            let parent = |pid: &u32| all.get(pid).map(|stat| stat.parent);
            std::iter::successors(Some(pid), parent).take(MAX_DEPTH)
        };
        let older = |pid: &u32| all.get(pid).is_none_or(|stat| stat.start < since);
        let hooks: Vec<u32> = above(std::process::id())
            .take_while(|pid| !older(pid))
            .collect();
        let Some(host) = above(std::process::id()).find(older) else {
            return Vec::new();
        };
        let hosts: Vec<u32> = above(host).collect();
        let program = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        let bdr = program(std::process::id());
        let is_left = |(pid, stat): &(&u32, &Process)| {
            let pid = **pid;
            if stat.start < since || hooks.contains(&pid) || !works_in(pid, roots) {
                return false;
            }
            // The first ancestor that existed before: it started this one, or adopted it.
            let from = above(pid).find(older);
            let adopted = from.is_none_or(|from| from != host && hosts.contains(&from));
            let started = from.is_some_and(|from| above(from).any(|pid| pid == host));
            (adopted || detached && started) && program(pid) != bdr
        };
        named(all.iter().filter(is_left))
    }

    fn named<'p>(found: impl Iterator<Item = (&'p u32, &'p Process)>) -> Vec<(u32, String)> {
        let mut named: Vec<_> = found.map(|(pid, stat)| (*pid, stat.name.clone())).collect();
        named.sort();
        named
    }

    /// Returns true if a process works below one of some directories. The system does not tell this
    /// about other users' processes.
    fn works_in(pid: u32, roots: &[&Path]) -> bool {
        let cwd = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        roots.iter().any(|root| cwd.starts_with(root))
    }

    struct Process {
        name: String,
        parent: u32,
        session: i64,
        /// In ticks since the system was started.
        start: u64,
    }

    /// Returns all processes that have not ended.
    fn processes() -> HashMap<u32, Process> {
        let entries = crate::disk::fsutil::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers
            .filter_map(|pid| Some((pid, stat_of(pid)?)))
            .collect()
    }

    fn stat_of(pid: u32) -> Option<Process> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in brackets, may contain anything.
        let (name, rest) = (text.find('(')?, text.rfind(')')?);
        let fields: Vec<&str> = text[rest + 1..].split_whitespace().collect();
        // A zombie: ended, but not reaped yet.
        if *fields.first()? == "Z" {
            return None;
        }
        Some(Process {
            name: text[name + 1..rest].to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }
}
