//! Which command needs rights that a captured program does not get.
//!
//! Without `CAP_SYS_ADMIN` the kernel takes the filter only from a process that gives up gaining
//! rights. What such a command would run into is looked for before it runs, while a snapshot can
//! still protect it: in its words, in the scripts of shells that it names, and in what `make`, `npm`
//! and the like read where it runs. Where that says nothing and the command fails, it is remembered.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bdr::base::path::os_to_bytes;
use bdr::disk::fsutil;
use bdr::effects::{self, Assessment, Surroundings, Table};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::capture::find;
use crate::app::context::Context;

/// Programs that need more rights than they are started with.
const RAISING: [&str; 13] = [
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
    // They start `newuidmap` and `snap-confine`.
    "podman",
    "buildah",
    "snap",
];

/// Programs that run lines of a file in the current directory, and its names.
const RUNNERS: [(&str, &[&str]); 8] = [
    ("make", &["GNUmakefile", "makefile", "Makefile"]),
    ("gmake", &["GNUmakefile", "makefile", "Makefile"]),
    ("just", &["justfile", "Justfile", ".justfile"]),
    ("task", &["Taskfile.yml", "Taskfile.yaml"]),
    ("npm", &["package.json"]),
    ("pnpm", &["package.json"]),
    ("yarn", &["package.json"]),
    ("bun", &["package.json"]),
];

/// Words in such a file that mean a program of [`RAISING`]: nothing else is called so.
const SPELLED: [&str; 3] = ["sudo", "doas", "pkexec"];

/// Programs that take file systems away. What is kept on one holds it.
const UNMOUNTING: [&str; 4] = ["umount", "fusermount", "fusermount3", "eject"];

/// Programs that have more rights only so that others cannot look into them: they work without.
const CONTENT: [&str; 1] = ["ssh-agent"];

/// Directories of the system's own scripts. What they may raise they rarely do, and they say so.
const SYSTEM: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// Longer scripts are not read, in bytes.
const LONGEST: u64 = 64 << 10;
/// So many scripts are read for one command.
const MOST_SCRIPTS: usize = 16;

/// Why a program keeps a command from being captured.
const REST: &str = "needs the rights of another user, and a captured program does not get them";

/// Commands that failed under capture, by a digest of their words and directory, and the program.
#[derive(Default, Serialize, Deserialize)]
struct Failed {
    commands: Vec<(String, String)>,
}

/// More than this are not remembered.
const MOST_FAILED: usize = 64;

fn note(cx: &Context) -> PathBuf {
    cx.places.cache.join("raised.json")
}

fn failed(cx: &Context) -> Failed {
    let found = fsutil::read_derived(&note(cx));
    let found = found.and_then(|json| serde_json::from_slice(&json).ok());
    found.unwrap_or_default()
}

/// Returns a name for a command in a directory. Its words may be nobody else's business.
fn name_of(cx: &Context, command: &[OsString]) -> String {
    let mut hasher = Sha256::new();
    let words = command.iter().map(OsString::as_os_str);
    for word in std::iter::once(cx.cwd.as_os_str()).chain(words) {
        hasher.update(os_to_bytes(word));
        hasher.update([0]);
    }
    let digest = hasher.finalize();
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Returns why a command failed under capture when it was tried.
pub(super) fn failed_before(cx: &Context, command: &[OsString]) -> Option<String> {
    let commands = failed(cx).commands;
    if commands.is_empty() {
        return None;
    }
    let name = name_of(cx, command);
    let mut known = commands.into_iter();
    let (_, program) = known.find(|(known, _)| *known == name)?;
    Some(format!("`{program}` inside {REST}"))
}

/// Remembers that a command failed, and a program in it could not gain rights: next time a snapshot
/// protects it.
pub(super) fn remember(cx: &Context, command: &[OsString], program: &Path) {
    let mut failed = failed(cx);
    let name = name_of(cx, command);
    failed.commands.retain(|(known, _)| *known != name);
    let program = bdr::base::path::show(program.file_name().unwrap_or(program.as_os_str()));
    failed.commands.insert(0, (name, program));
    failed.commands.truncate(MOST_FAILED);
    let json = serde_json::to_vec(&failed).unwrap_or_default();
    let _ = fsutil::create_dir_private(&cx.places.cache);
    let _ = fsutil::write_derived(&note(cx), &json);
}

/// Returns the word in the file of a runner that needs more rights.
fn in_recipe(cx: &Context, program: &Path) -> Option<(&'static str, PathBuf)> {
    let name = program.file_name()?;
    let (_, files) = RUNNERS.iter().find(|(runner, _)| name == *runner)?;
    let mut all = files.iter().map(|file| cx.cwd.join(file));
    let file = all.find(|file| file.is_file())?;
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(&file).ok()?;
    opened.take(LONGEST).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut words = text.split(|c: char| !c.is_alphanumeric() && !"-_.".contains(c));
    let word = words.find_map(|word| SPELLED.into_iter().find(|spelled| word == *spelled))?;
    Some((word, file))
}

/// Returns why a command of root would fail under capture, if its words show that.
pub(super) fn unmounts(assessment: &Assessment) -> Option<String> {
    let names = assessment
        .programs
        .iter()
        .filter_map(|program| program.file_name());
    let mut names = names.filter_map(|name| UNMOUNTING.into_iter().find(|known| name == *known));
    let name = names.next()?;
    Some(format!(
        "`{name}` takes away a file system, and what is captured on it would hold it"
    ))
}

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
            return Some(match by {
                None => format!("`{program}` {REST}"),
                Some(script) => format!("`{program}` in {} {REST}", cx.shown(&script)),
            });
        }
        if let Some((word, recipe)) = in_recipe(cx, &program) {
            return Some(format!("`{word}` in {} {REST}", cx.shown(&recipe)));
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
