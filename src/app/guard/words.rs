//! The messages of a guard.

use std::ffi::OsString;
use std::path::Path;

use bdr::Error;
use bdr::base::path::{absolute, os_to_bytes, shell_word, show};
use bdr::base::units::size;
use bdr::effects::Assessment;
use bdr::model::reason::Reason;
use bdr::repo::Repository;
use bdr::repo::oplog::Operation;
use bdr::repo::snapshot::PathNote;

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::ui::{Ui, plural};

/// Returns what the command did; nothing if nothing was lost, unless `always`.
pub(crate) fn summary(operation: &Operation, missed: u64, always: bool) -> Option<String> {
    let end = operation.end.as_ref()?;
    let (deleted, created, modified) = operation.counts();
    let in_git = InGit::of(end);
    // git's own files count as one repository, not as files.
    let (deleted, created, modified) = (
        deleted.saturating_sub(in_git.removed),
        created.saturating_sub(in_git.created),
        modified.saturating_sub(in_git.modified),
    );
    let removed = || {
        let all = end.roots.iter().flat_map(|root| &root.removed);
        all.filter(|path| !is_in_git(path.as_bytes()))
    };
    let mut parts = Vec::new();
    if deleted > 0 && removed().next().is_some() {
        let bytes = end.roots.iter().map(|root| root.deleted_bytes).sum();
        parts.push(super::deleted_words(deleted, bytes));
    } else if removed().next().is_some() {
        // Symlinks, empty directories.
        parts.push(format!(
            "{} deleted",
            plural(removed().count() as u64, "path")
        ));
    }
    if modified > 0 {
        parts.push(format!("{} changed", plural(modified, "file")));
    }
    if in_git.repositories > 0 && (parts.is_empty() || always) {
        let repositories = plural(in_git.repositories, "repository");
        let repositories = repositories.replace("repositorys", "repositories");
        parts.push(format!("{repositories} changed"));
    }
    let remote = &operation.begin.remote;
    if parts.is_empty() && remote.is_empty() && !always {
        return None;
    }
    if created > 0 {
        parts.push(format!("{} created", plural(created, "file")));
    }
    let is_database = |name: &[u8]| {
        [&b".db"[..], b".sqlite", b".sqlite3"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let databases = removed().filter(|path| is_database(path.name())).count() as u64;
    if databases > 0 {
        parts.push(plural(databases, "database"));
    }
    let mut said = match (parts.is_empty(), end.roots.is_empty()) {
        (false, _) => parts.join(", "),
        (true, false) => "only directories changed".to_owned(),
        (true, true) => "nothing changed".to_owned(),
    };
    if missed > 0 {
        said.push_str(&format!(" · {} not captured", plural(missed, "path")));
    }
    if !remote.is_empty() {
        let remote: Vec<String> = remote.iter().map(|part| show(part.as_ref())).collect();
        said.push_str(&format!(" · cannot be undone: {}", remote.join(", ")));
    }
    Some(said)
}

pub(crate) fn is_in_git(path: &[u8]) -> bool {
    let mut parts = path.split(|b| *b == b'/');
    parts.any(|part| part == b".git") && parts.next().is_some()
}

/// What an operation changed among git's own files.
#[derive(Default)]
struct InGit {
    repositories: u64,
    removed: u64,
    created: u64,
    modified: u64,
}

impl InGit {
    fn of(end: &bdr::repo::oplog::End) -> Self {
        let mut found = Self::default();
        let mut places = std::collections::BTreeSet::new();
        for (number, root) in end.roots.iter().enumerate() {
            let mut count = |path: &bdr::base::path::RepoPath, file: bool| {
                let bytes = path.as_bytes();
                if !is_in_git(bytes) {
                    return 0;
                }
                let parts = bytes.split(|b| *b == b'/');
                let above: Vec<&[u8]> = parts.take_while(|part| *part != b".git").collect();
                places.insert((number, above.join(&b'/')));
                u64::from(file)
            };
            let file =
                |stamp: &bdr::repo::oplog::Stamp| stamp.kind != bdr::model::manifest::Kind::Dir;
            found.removed += root.removed.iter().map(|p| count(p, true)).sum::<u64>();
            found.created += root
                .created
                .iter()
                .map(|s| count(&s.path, file(s)))
                .sum::<u64>();
            found.modified += root
                .modified
                .iter()
                .map(|s| count(&s.path, file(s)))
                .sum::<u64>();
        }
        found.repositories = places.len() as u64;
        found
    }
}

/// Returns the command that undoes this operation; `None` if there is nothing to undo.
pub(crate) fn undo_command(repo: &Repository, operation: &Operation) -> Option<String> {
    if !operation.is_undoable() {
        return None;
    }
    let id = operation.begin.id;
    let ids = repo.operation_ids().unwrap_or_default();
    // A plain undo takes the newest operation, and others may have begun since.
    Some(match ids.last() {
        Some(last) if *last != id => format!("bdr undo {}", id.prefix(&ids)),
        _ => "bdr undo".to_owned(),
    })
}

/// Returns true if a path that is not captured should be reported before the command runs.
///
/// A path left out by a rule (rebuildable, excluded, bdr's own) is reported only if the command
/// names it or something above it; a rebuildable one also if the command runs there.
pub(crate) fn worth_a_word(cx: &Context, command: &[OsString], note: &PathNote) -> bool {
    if !matches!(
        note.why(),
        Reason::Rebuildable | Reason::Excluded | Reason::Own
    ) {
        return true;
    }
    let path = note.path.as_path();
    // It may be large, and the command works there: even without naming it, the command may remove
    // it.
    if note.why() == Reason::Rebuildable && path.starts_with(&cx.cwd) {
        return true;
    }
    command
        .iter()
        .skip(1)
        .filter(|arg| !os_to_bytes(arg).starts_with(b"-"))
        .any(|arg| {
            let operand = absolute(&cx.cwd, Path::new(arg));
            operand.symlink_metadata().is_ok() && path.starts_with(&operand)
        })
}

/// How much of a part of a command is shown.
const MAX_PART: usize = 80;

/// Returns the warning about a destructive command whose operands are known only at run time.
pub(crate) fn untold(assessment: &Assessment) -> Option<String> {
    let first = assessment.untold.first()?;
    let first = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let short = bdr::model::agent::start_of(&first, MAX_PART);
    let dots = if short.len() < first.len() { "…" } else { "" };
    let more = match assessment.untold.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "cannot tell what `{short}{dots}`{more} works on until it runs; outside this project and your sources, undo will not bring it back"
    ))
}

/// Returns the warning about operands that could not be captured: at most one line.
pub(crate) fn missed_of_operands(
    cx: &Context,
    assessment: &Assessment,
    notes: &[PathNote],
) -> Option<String> {
    let named = |note: &&PathNote| {
        let path = note.path.as_path();
        let mut operands = assessment.operands.iter().filter(|o| o.itself && !o.glob);
        note.why() != Reason::ValuesAway
            && operands.any(|operand| {
                path.starts_with(bdr::protect::guard::canonical_parent(&operand.path))
            })
    };
    let missed: Vec<&PathNote> = notes.iter().filter(named).collect();
    let first = missed.first()?;
    let more = match missed.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let path = cx.shown(first.path.as_path());
    Some(format!(
        "not captured: {path} ({}){more}; undo will not bring it back",
        first.reason
    ))
}

/// Returns the warning about operands that no snapshot can contain: sockets and devices. At most
/// one line.
pub(crate) fn unstored(cx: &Context, assessment: &Assessment) -> Option<String> {
    use bdr::disk::fsutil::kind_of;
    let named = assessment
        .operands
        .iter()
        .filter(|o| o.itself && !o.glob && !o.place);
    let mut found = named.filter_map(|operand| {
        let path = bdr::protect::guard::canonical_parent(&operand.path);
        let kind = kind_of(&path).filter(|kind| !kind.is_stored())?;
        // Writing to a device does not lose it.
        (!path.starts_with("/dev")).then_some((path, kind))
    });
    let (path, kind) = found.next()?;
    let more = match found.count() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    Some(format!(
        "not captured: {} (a {} is not stored){more}; undo will not bring it back",
        cx.shown(&path),
        kind.word()
    ))
}

pub(crate) fn name_missed(cx: &Context, missed: &[&PathNote]) {
    let (sealed, missed): (Vec<&PathNote>, Vec<&PathNote>) = missed
        .iter()
        .partition(|note| note.why() == Reason::ValuesAway);
    if let Some(first) = sealed.first() {
        let path = cx.shown(first.path.as_path());
        let others = match sealed.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        cx.ui.say(&format!(
            "bdr: not captured: the secret values of {path}{others}; undo can bring back only the rest (see bdr status)"
        ));
    }
    for note in missed.iter().take(3) {
        let path = cx.shown(note.path.as_path());
        cx.ui.say(&format!(
            "bdr: not captured: {path} ({}); undo will not bring it back",
            note.reason
        ));
    }
    if missed.len() > 3 {
        cx.ui
            .say(&format!("bdr: not captured: and {} more", missed.len() - 3));
    }
}

/// Says why the command is not protected, and the two ways to continue if there are any.
pub(crate) fn explain(
    command: &[OsString],
    ui: Ui,
    cx: Option<&Context>,
    failure: &Failure,
    runs: bool,
    stays: bool,
) {
    let message = match (failure, cx) {
        (Failure::Engine(error), Some(cx)) => in_short(error, cx),
        _ => failure.message(),
    };
    let causes: String = failure
        .causes()
        .iter()
        .map(|cause| format!(": {cause}"))
        .collect();
    if runs {
        ui.warn(&format!(
            "bdr: no snapshot: {message}{causes}. Running it unprotected."
        ));
        return;
    }
    let mut first = message.chars();
    let start = first
        .next()
        .map(|c| c.to_uppercase().collect::<String>())
        .unwrap_or_default();
    let not_run = ui.err.red("not run.");
    ui.warn(&format!(
        "bdr: {not_run} {start}{}{causes}.",
        first.as_str()
    ));
    if stays {
        return;
    }
    let command = shell_words(command);
    if let Failure::Engine(error) = failure
        && let Error::OverBudget { bytes, .. } = **error
    {
        let enough = budget_for(bytes);
        ui.warn(&format!(
            "  protect it anyway:   bdr guard --max-bytes {enough} -- {command}"
        ));
    } else if let Some(hint) = failure.hint() {
        ui.warn(&format!("  fix:                 {hint}"));
    }
    ui.warn(&format!(
        "  run it unprotected:  bdr guard --on-fail run -- {command}"
    ));
}

/// Shows paths below HOME with `~`, as the user wrote them.
fn in_short(error: &Error, cx: &Context) -> String {
    match error {
        Error::OverBudget {
            path,
            bytes,
            budget,
        } => {
            let path = cx.shown_absolute(path);
            format!(
                "{path} holds {}; the budget is {}",
                size(*bytes),
                size(*budget)
            )
        }
        Error::NotCaptured { path, reason } => {
            format!("{} cannot be kept: {reason}", cx.shown_absolute(path))
        }
        Error::WouldDeleteRepository { path } => {
            let path = cx.shown_absolute(path);
            format!("this would delete what bdr needs to undo it ({path})")
        }
        other => other.to_string(),
    }
}

/// Returns a round size somewhat above `bytes`.
fn budget_for(bytes: u64) -> String {
    let roomy = bytes.saturating_add(bytes / 8);
    match roomy {
        0..0x4000_0000 => format!("{}M", (roomy >> 20) + 1),
        _ => format!("{}G", (roomy >> 30) + 1),
    }
}

/// Returns a path as a user would type it, from how it is shown: a quoted `~` would be a file name.
pub(crate) fn typed(shown: String, path: &Path) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "~/._-".contains(c);
    match shown.chars().all(is_plain) {
        true => shown,
        false => shell_word(&show(path.as_os_str())),
    }
}

/// Returns a command as a POSIX shell would read it.
pub(crate) fn shell_words(argv: &[OsString]) -> String {
    let word = |arg: &OsString| shell_word(&show(arg));
    argv.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_pasted_back() {
        let argv: Vec<OsString> = ["rm", "-rf", "my dir", "it's", "", "a/b.c"]
            .map(OsString::from)
            .to_vec();
        assert_eq!(shell_words(&argv), "rm -rf 'my dir' 'it'\\''s' '' a/b.c");
    }

    #[test]
    fn the_suggested_budget_is_enough() {
        for bytes in [1_u64, 600 << 20, 212 << 30] {
            let text = budget_for(bytes);
            assert!(
                bdr::model::config::parse_size(&text).unwrap() > bytes,
                "{text}"
            );
        }
    }
}
