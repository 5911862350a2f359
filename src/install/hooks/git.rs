//! git hooks: a script in the hooks directory, with an existing hook put aside; or, since git 2.54,
//! entries in the user's configuration, which git runs in addition to the hooks of a repository
//! (<https://git-scm.com/docs/git-hook>).

use std::path::{Path, PathBuf};

use super::{Form, block};
use crate::base::path::shell_word;

/// The events for which bdr installs a hook.
pub const EVENTS: [&str; 7] = [
    "pre-commit",
    "pre-rebase",
    "pre-push",
    "pre-merge-commit",
    "post-checkout",
    "post-merge",
    "post-rewrite",
];

const SCRIPT: &str = include_str!("../../../hooks/git-hook");
/// Variables by which git describes its current work: bdr examines the directory itself.
const OF_GIT: &str =
    "GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX GIT_COMMON_DIR GIT_OBJECT_DIRECTORY";

pub fn script(event: &str, program: &str) -> String {
    // A shell reads it, even on Windows: that of Git for Windows.
    let program = shell_word(&program.replace('\\', "/"));
    SCRIPT
        .replacen("'@BDR@'", &program, 1)
        .replacen("'@EVENT@'", event, 1)
}

/// Returns the files wanted in a hooks directory.
pub fn shims(dir: &Path, program: &str) -> Vec<(PathBuf, Form)> {
    EVENTS
        .iter()
        .map(|event| {
            let form = Form::Shim {
                script: script(event, program),
                aside: dir.join(format!("{event}.bdr-previous")),
            };
            (dir.join(event), form)
        })
        .collect()
}

/// Returns the block for the user's git configuration.
pub fn config_block(program: &str) -> String {
    let program = shell_word(&program.replace('\\', "/"));
    let mut lines = String::new();
    for event in EVENTS {
        let shell = format!(
            "case ${{CI:-0}} in 0|false|False|FALSE|no|off) false;; *) [ \"${{BDR_CI:-0}}\" != 1 ];; esac || [ ! -x {program} ] || (unset {OF_GIT}; exec {program} hook git {event} \"$@\") >/dev/null || : #"
        );
        // In git's form of a value: quoted, with inner quotes escaped.
        let value = shell.replace('\\', "\\\\").replace('"', "\\\"");
        lines.push_str(&format!(
            "[hook \"bdr-{event}\"]\n\tevent = {event}\n\tcommand = \"{value}\"\n"
        ));
    }
    block::render("`bdr hooks uninstall git` removes it", &lines)
}

/// Returns why an existing hook would not work as before if bdr ran it from another place; `None`
/// if it would.
///
/// Shell scripts are sourced under their own name. Others see another name, and all of them another
/// file.
pub(super) fn cannot_move(file: &Path, bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return None;
    }
    if bytes[..bytes.len().min(4096)].contains(&0) {
        return Some("it is a program, and may depend on its name");
    }
    let text = String::from_utf8_lossy(bytes);
    let first = text.lines().next().unwrap_or_default();
    let mut words = first
        .strip_prefix("#!")
        .unwrap_or_default()
        .split([' ', '/']);
    let shell = words.any(|word| matches!(word.trim(), "sh" | "bash" | "dash" | "ash" | "ksh"));
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if shell {
        if says(&["BASH_SOURCE"]) {
            return Some("it asks for its own file (BASH_SOURCE)");
        }
        let is_link = file
            .symlink_metadata()
            .is_ok_and(|found| found.is_symlink());
        if is_link && says(&["readlink", "realpath", "pwd -P", "cd -P"]) {
            return Some("it is a symlink, and may resolve itself");
        }
        return None;
    }
    let own = [
        "$0",
        "${0",
        "argv[0]",
        "argv0",
        "ARGV0",
        "__file__",
        "__FILE__",
        "PROGRAM_NAME",
        "__dirname",
        "__filename",
        "import.meta",
        "argv[1]",
        "argv.slice",
        "$PROGRAM",
        "Path(sys.argv",
    ];
    (says(&own) || first.strip_prefix("#!").is_none())
        .then_some("it may depend on its own name or place")
}

/// Returns true if git takes hooks from its configuration. `said` is the output of `git --version`.
pub fn has_config_hooks(said: &str) -> bool {
    let Some(version) = said.split_whitespace().nth(2) else {
        return false;
    };
    let mut parts = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (major, minor) >= (2, 54)
}

pub fn is_event(file: &Path) -> bool {
    EVENTS
        .iter()
        .any(|event| file.file_name() == Some(event.as_ref()))
}

/// Returns where another hook manager has put bdr's hook, and whether it runs it from there:
/// pre-commit does, lefthook does not, and a mere backup copy is not run either.
pub fn moved_to(file: &Path) -> Option<(PathBuf, bool)> {
    let name = file.file_name()?.to_str()?;
    [("legacy", true), ("old", false), ("backup", false)]
        .iter()
        .map(|(end, runs)| (file.with_file_name(format!("{name}.{end}")), *runs))
        .find(|(moved, _)| std::fs::read(moved).is_ok_and(|bytes| super::is_own(&bytes)))
}

/// Returns which program manages the hooks of a work tree, as far as we can tell.
pub fn manager(top: &Path, hooks: &Path) -> Option<&'static str> {
    let there = |name: &str| top.join(name).exists();
    if hooks.ends_with(".husky/_") || hooks.ends_with(".husky") || there(".husky") {
        return Some("husky");
    }
    if [
        "lefthook.yml",
        "lefthook.yaml",
        ".lefthook.yml",
        "lefthook.toml",
    ]
    .iter()
    .any(|n| there(n))
    {
        return Some("lefthook");
    }
    if there(".pre-commit-config.yaml") {
        return Some("pre-commit");
    }
    ["hk.pkl", ".hk.pkl"]
        .iter()
        .any(|n| there(n))
        .then_some("hk")
}

/// Returns the line to add to a hook manager for one event.
pub fn line_for(event: &str) -> String {
    format!("bdr hook git {event} </dev/null || true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        for (said, has) in [
            ("git version 2.47.3", false),
            ("git version 2.54.0", true),
            ("git version 2.53.9 (Apple Git-1)", false),
            ("git version 3.0.0.windows.1", true),
            ("", false),
        ] {
            assert_eq!(has_config_hooks(said), has, "{said}");
        }
    }
}
