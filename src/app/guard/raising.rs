//! Which command needs rights that a captured program does not get.
//!
//! Without `CAP_SYS_ADMIN` the kernel takes the filter only from a process that gives up gaining
//! rights. What such a command would run into is looked for before it runs, while a snapshot can
//! still protect it: in its words, and in the scripts of shells that it names.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bdr::disk::fsutil;
use bdr::effects::{self, Assessment, Surroundings, Table};

use super::capture::find;
use crate::app::context::Context;

/// Programs that need more rights than they are started with.
const RAISING: [&str; 10] = [
    "sudo",
    "su",
    "doas",
    "pkexec",
    "run0",
    "newgrp",
    "mount",
    "umount",
    "fusermount",
    "fusermount3",
];

/// Programs that have more rights only so that others cannot look into them: they work without.
const CONTENT: [&str; 1] = ["ssh-agent"];

/// Directories of the system's own scripts. What they may raise they rarely do, and they say so.
const SYSTEM: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// Longer scripts are not read, in bytes.
const LONGEST: u64 = 64 << 10;
/// So many scripts are read for one command.
const MOST_SCRIPTS: usize = 16;

/// Returns why a command would fail under capture, if its words or its scripts show that.
pub(super) fn needed(cx: &Context, assessment: &Assessment) -> Option<String> {
    let around = Surroundings {
        cwd: &cx.cwd,
        home: cx.home.as_deref(),
        table: Table::builtin(),
    };
    let mut seen = HashSet::new();
    let direct = assessment
        .programs
        .iter()
        .map(|program| (program.clone(), None));
    let mut todo: Vec<(PathBuf, Option<PathBuf>)> = direct.collect();
    let mut scripts = 0;
    while let Some((program, by)) = todo.pop() {
        let Some(file) = find(program.as_os_str()).filter(|_| seen.insert(program.clone())) else {
            continue;
        };
        if raises(&program, &file) {
            let program = cx.shown(&program);
            let rest = "needs the rights of another user, and a captured program does not get them";
            return Some(match by {
                None => format!("`{program}` {rest}"),
                Some(script) => format!("`{program}` in {} {rest}", cx.shown(&script)),
            });
        }
        if scripts == MOST_SCRIPTS {
            continue;
        }
        if let Some(text) = script(&file) {
            scripts += 1;
            let inside = effects::assess_line(&text, &around);
            let started = inside.programs.into_iter();
            todo.extend(started.map(|program| (program, Some(file.clone()))));
        }
    }
    None
}

/// Returns true if a program gets more rights than its caller has, or is known to want them.
fn raises(program: &Path, file: &Path) -> bool {
    let name = program.file_name().unwrap_or_default();
    if RAISING.iter().any(|known| name == *known) {
        return true;
    }
    let Ok(found) = std::fs::metadata(file) else {
        return false;
    };
    let mode = fsutil::mode_of(&found);
    if !found.is_file() || mode & 0o111 == 0 || CONTENT.iter().any(|known| name == *known) {
        return false;
    }
    let (user, group) = fsutil::user_and_group();
    let (of_user, of_group) = (
        std::os::unix::fs::MetadataExt::uid(&found),
        std::os::unix::fs::MetadataExt::gid(&found),
    );
    (mode & 0o4000 != 0 && of_user != user)
        || (mode & 0o2000 != 0 && of_group != group)
        || xattr::get_deref(file, "security.capability").is_ok_and(|value| value.is_some())
}

/// Returns the text of a script that a shell runs; `None` for anything else.
fn script(file: &Path) -> Option<String> {
    if SYSTEM
        .iter()
        .any(|dir| file.parent() == Some(Path::new(dir)))
    {
        return None;
    }
    let found = std::fs::metadata(file).ok()?;
    if !found.is_file() || found.len() > LONGEST {
        return None;
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(file).ok()?;
    file.take(LONGEST).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.contains('\0'))?;
    let Some(first) = text.strip_prefix("#!").and_then(|rest| rest.lines().next()) else {
        // A shell runs it as its own script.
        return Some(text);
    };
    let mut words = first
        .split_whitespace()
        .filter(|word| !word.starts_with('-'));
    let name = |word: &str| word.rsplit('/').next().unwrap_or_default().to_owned();
    let mut interpreter = name(words.next()?);
    if interpreter == "env" {
        interpreter = name(words.next()?);
    }
    effects::is_shell(&interpreter).then_some(text)
}
