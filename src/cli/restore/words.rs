//! The messages of `bdr restore`.

use std::ffi::OsString;

use bdr::base::units::size;
use bdr::model::manifest::Kind;
use bdr::recover::restore::{Action, Kept, RestorePlan, RestoreReport, SecretStep, Step};
use bdr::recover::unseal::NOTHING;
use bdr::repo::Repository;
use bdr::repo::snapshot::{PathNote, Snapshot};

use crate::app::context::Context;
use crate::app::documents::action_word;
use crate::app::log;
use crate::ui::steps::{Line, View, collapse, listing};
use crate::ui::{self, count, plural, when};

/// Returns what a snapshot was taken before, if it was not taken to keep: nobody remembers it by its
/// time.
fn before(repo: &Repository, snapshot: &Snapshot) -> Option<String> {
    let operations = repo.operations().ok().filter(|_| !snapshot.is_backup())?;
    let mut all = operations.iter();
    let first = all.find(|operation| operation.begin.before == Some(snapshot.id))?;
    let ids: Vec<_> = operations.iter().map(|o| o.begin.id).collect();
    let title = log::title(first, &ids);
    let short = bdr::model::agent::start_of(&title, 50);
    let dots = if short.len() < title.len() { "…" } else { "" };
    Some(format!("before `{short}{dots}`"))
}

pub(super) fn heading(
    cx: &Context,
    repo: &Repository,
    snapshot: &Snapshot,
    id: &str,
    dry: bool,
) -> String {
    let id = cx.ui.out.yellow(id);
    let when = when::ago(cx.now, snapshot.time);
    let label = snapshot
        .label
        .as_ref()
        .map(|l| format!(", {}", bdr::base::path::show(l.as_ref())));
    let trigger = snapshot.trigger.word();
    let trigger = before(repo, snapshot).unwrap_or_else(|| trigger.to_owned());
    let nothing = if dry { ", nothing written" } else { "" };
    format!(
        "From {id} ({when}, {trigger}{}){nothing}:\n",
        label.unwrap_or_default()
    )
}

pub(super) fn steps(cx: &Context, plan: &RestorePlan) -> String {
    let lines = collapse(&plan.steps, |step| View {
        path: &step.path,
        action: step.action,
        is_dir: step.kind == Kind::Dir,
        files: u64::from(step.kind == Kind::File),
        bytes: step.bytes,
    });
    let mut text = match lines.is_empty() && (plan.is_partial() || !plan.unseen.is_empty()) {
        // Nothing can be done, which does not mean that nothing has to be.
        true => String::new(),
        false => listing(&lines, |joined| line(cx, &plan.steps[joined.first], joined)),
    };
    for secrets in &plan.secrets {
        text.push_str(&secret_lines(cx, secrets));
    }
    for note in &plan.unseen {
        let path = cx.shown(note.path.as_path());
        text.push_str(&format!("  not checked: {path}   {}\n", note.reason));
    }
    for note in &plan.problems {
        let path = cx.shown(note.path.as_path());
        text.push_str(&format!("  partial  {path}   {}\n", note.reason));
    }
    text.push_str(&absent(cx, &plan.absent));
    text.push_str(&kept(cx, &plan.kept));
    for note in &plan.skipped {
        text.push_str(&format!(
            "  skip     {}   {}\n",
            cx.shown(note.path.as_path()),
            note.reason
        ));
    }
    text
}

/// The line about values that are not on this machine, which comes first: what follows is not all of
/// the files.
pub(super) fn missing_values(plan: &RestorePlan) -> Option<String> {
    let beside = plan.secrets.iter().filter(|one| one.aside.is_some());
    let nothing = plan.problems.iter().filter(|note| note.reason == NOTHING);
    let files = beside.count() + nothing.count();
    (files > 0).then(|| {
        format!(
            "{} cannot come back whole: secret values are not on this machine. If you exported them: bdr vault import FILE",
            plural(files as u64, "file")
        )
    })
}

/// Existing files that stay: by name if they differ, because somebody may be missing their old
/// content.
fn kept(cx: &Context, kept: &[Kept]) -> String {
    let (differing, same): (Vec<&Kept>, Vec<&Kept>) = kept.iter().partition(|kept| kept.differs);
    let line = |kept: &&Kept| {
        let path = cx.shown(&kept.path);
        format!("  keep     {path}   it exists already, and differs\n")
    };
    let mut text: String = differing.iter().map(line).collect();
    if !same.is_empty() {
        let paths = plural(same.len() as u64, "path");
        text.push_str(&format!("  keep     {paths} that are as in the snapshot\n"));
    }
    text
}

/// What happens to the sealed values of a file, key by key.
fn secret_lines(cx: &Context, step: &SecretStep) -> String {
    let merged = &step.merged;
    let path = cx.shown(&step.path);
    [
        (
            "current value kept, newer than the sealed one",
            &merged.kept,
        ),
        ("from the vault or the environment", &merged.restored),
        ("not available", &merged.unresolved),
        ("only in your file, kept", &merged.live_only),
        ("left blank", &merged.blank),
    ]
    .iter()
    .filter(|(_, keys)| !keys.is_empty())
    .map(|(what, keys)| {
        let shown: Vec<&str> = keys.iter().take(5).map(String::as_str).collect();
        let more = if keys.len() > 5 { ", …" } else { "" };
        let keys = bdr::base::path::show(format!("{}{more}", shown.join(", ")).as_ref());
        format!("  secret   {path}: {what}: {keys}\n")
    })
    .collect()
}

fn line(cx: &Context, step: &Step, joined: &Line) -> String {
    let path = cx.shown(&step.path);
    let what = match (step.kind, step.old_bytes) {
        _ if joined.steps > 1 => {
            format!(
                "{} in {path}   {}",
                plural(joined.files, "file"),
                size(joined.bytes)
            )
        }
        (Kind::File, Some(old)) if step.action == Action::Replace => {
            format!("{path}   {} ← {}", size(step.bytes), size(old))
        }
        (Kind::File, _) => format!("{path}   {}", size(step.bytes)),
        (Kind::Dir, _) => format!("{path}/"),
        (other, _) => format!("{path}   {}", other.word()),
    };
    format!("{:<8} {what}", action_word(step.action))
}

/// Says that the newest backup that can be read may not be the newest.
pub(super) fn newer(name: &str) -> String {
    let name = bdr::base::path::show(name.as_ref());
    format!("  there may be a newer one (exit 3): {name} cannot be read\n")
}

/// Returns what a partial backup lacks of what is restored: nobody else would say it on a machine that
/// did not make it.
pub(super) fn absent(cx: &Context, notes: &[PathNote]) -> String {
    const MOST: usize = 10;
    if notes.is_empty() {
        return String::new();
    }
    let mut text = "  not whole in this backup, because they could not be read then:\n".to_owned();
    for note in notes.iter().take(MOST) {
        let path = cx.shown(note.path.as_path());
        text.push_str(&format!("    {path}   {}\n", note.reason));
    }
    if notes.len() > MOST {
        text.push_str(&format!("    and {} more\n", notes.len() - MOST));
    }
    text
}

/// Returns the command that does what a preview showed. A time like `1 hour ago` is replaced by the
/// snapshot `id`, because it means another one later.
pub(super) fn same_without_dry_run(cx: &Context, id: &str, at: bool) -> String {
    let mut argv: Vec<OsString> = Vec::new();
    let mut rest = cx.argv().into_iter().filter(|arg| arg != "--dry-run");
    while let Some(arg) = rest.next() {
        if at && arg == "--at" {
            rest.next();
        } else if !at || !(arg == "latest" || arg.as_encoded_bytes().starts_with(b"--at=")) {
            let is_verb = at && arg == "restore" && !argv.contains(&id.into());
            argv.push(arg);
            argv.extend(is_verb.then(|| id.into()));
        }
    }
    crate::app::guard::shell_words(&argv)
}

pub(super) fn ending(cx: &Context, report: &RestoreReport, id: &str, elsewhere: bool) -> String {
    let elapsed = ui::elapsed(report.elapsed);
    let mut text = if report.restored + report.removed == 0 && report.is_partial() {
        format!("Nothing restored from {id}")
    } else if report.restored + report.removed == 0 && report.kept.iter().any(|kept| kept.differs) {
        format!("Nothing restored from {id}: what differs exists already, and was to be kept")
    } else if report.restored + report.removed == 0 {
        format!("Nothing to restore: everything is as in {id}")
    } else {
        format!(
            "Restored {}, {} from {id}",
            plural(report.restored, "path"),
            size(report.bytes)
        )
    };
    if report.removed > 0 {
        text.push_str(&format!(", removed {}", count(report.removed)));
    }
    let kept = report.kept.iter().filter(|kept| kept.differs).count() as u64;
    if kept > 0 && report.restored + report.removed > 0 {
        text.push_str(&format!(
            ", kept {} as {} now",
            plural(kept, "path"),
            if kept == 1 { "it is" } else { "they are" }
        ));
    }
    if report.unchanged > 0 {
        text.push_str(&format!(", {} unchanged", count(report.unchanged)));
    }
    text.push_str(&format!(", in {elapsed}."));
    if report.operation.is_some() && !elsewhere {
        text.push_str(&format!(" Take it back: {}", cx.ui.out.bold("bdr undo")));
    }
    if report.is_partial() {
        text.push_str(" Partial (exit 3):");
    }
    for note in report.problems.iter().chain(&report.skipped) {
        text.push_str(&format!(
            "\n  {}   {}",
            cx.shown(note.path.as_path()),
            note.reason
        ));
    }
    text.push('\n');
    text
}
