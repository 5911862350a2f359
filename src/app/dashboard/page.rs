//! The page: one sentence first, then the details.

use bdr::base::units::size;
use bdr::care::runs::{Outcome, Run};
use bdr::care::status::{Level, RemoteStatus, SourceStatus, Trouble};
use bdr::find::discover::Elsewhere;
use bdr::model::schedule::Job;
use bdr::repo::oplog::Operation;
use bdr::repo::snapshot::SnapshotKind;
use bdr::repo::summaries::Summary;
use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::days;
use super::growth;
use super::style;
use crate::app::context::Context;
use crate::app::log;
use crate::app::status::Seen;
use crate::app::status::words::{self, Verdict};
use crate::ui::{self, count, plural, when};

const TIMELINE: usize = 20;
const COMMAND: usize = 100;

pub(crate) fn render(cx: &Context, seen: &Seen, show_paths: bool) -> String {
    let status = &seen.status;
    let verdict = words::verdict(seen);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // The page fetches nothing, even if a file name looks like HTML.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                meta name="generator" content=(concat!("bdr ", env!("CARGO_PKG_VERSION")));
                link rel="icon" href="data:,";
                title { (words::sign(verdict.level, true)) " bdr: " (verdict.sentence) }
                style { (PreEscaped(style::CSS)) }
            }
            body {
                main {
                    (hero(seen, &verdict))
                    (sources(cx, seen, show_paths))
                    (not_covered(cx, seen, show_paths))
                    (elsewhere(seen, show_paths))
                    (trust(seen))
                    (days::render(seen, cx.config.schedule.is_some()))
                    (growth::render(seen))
                    (timeline(seen))
                }
                footer {
                    p {
                        "Made " time datetime=(when::utc(status.now)) { (when::local(status.now)) } " by bdr " (env!("CARGO_PKG_VERSION"))
                        @if !cx.host.is_empty() { " on " (cx.host) }
                        @if show_paths { ". Repository: " (cx.shown_absolute(&cx.places.repository)) }
                        ". `bdr status` says the same in a terminal."
                    }
                }
            }
        }
    };
    page.into_string()
}

/// A sign with its word, because not everybody sees colours and shapes.
fn signed(level: Level) -> Markup {
    let word = match level {
        Level::Good => "well",
        Level::Warning => "look at it",
        Level::Critical => "not protected",
    };
    html! { span class=(format!("sign {}", level.word())) role="img" aria-label=(word) { (words::sign(level, true)) } }
}

fn hero(seen: &Seen, verdict: &Verdict) -> Markup {
    let status = &seen.status;
    html! {
        header class=(verdict.level.word()) {
            h1 { (signed(verdict.level)) span { (verdict.sentence) } }
            @if !status.troubles.is_empty() {
                ul class="fix" {
                    @for trouble in &status.troubles {
                        li { (signed(trouble.level())) " " (words::trouble(trouble, status.now)) " — " code { (words::fix(status, trouble)) } }
                    }
                }
            }
        }
    }
}

fn sources(cx: &Context, seen: &Seen, show_paths: bool) -> Markup {
    let status = &seen.status;
    html! {
        section {
            h2 id="sources" { "What is protected" }
            @if status.sources.is_empty() {
                p { "Nothing yet. " code { "bdr init" } " looks for what is worth backing up." }
            } @else {
                table class="wide" aria-labelledby="sources" {
                    thead { tr {
                        th scope="col" { "source" }
                        th scope="col" class="n" { "files" }
                        th scope="col" class="n" { "size" }
                        th scope="col" { "backed up" }
                        th scope="col" { "changed since" }
                        th scope="col" { "left out" }
                    } }
                    tbody { @for source in &status.sources { (row(cx, seen, source, show_paths)) } }
                }
            }
        }
    }
}

/// What is in no source: "protected" is only about the rest.
fn not_covered(cx: &Context, seen: &Seen, show_paths: bool) -> Markup {
    let (known, left) = (&seen.status.uncovered, &seen.elsewhere);
    if known.is_empty() && left.is_empty() {
        return html! {};
    }
    let sum =
        |of: fn(&Elsewhere) -> u32| -> u64 { left.iter().map(|one| u64::from(of(one))).sum() };
    let repositories = sum(|one| one.repositories);
    let uncommitted = sum(|one| one.uncommitted);
    html! {
        section {
            h2 { "What is not protected" }
            @if !left.is_empty() {
                p {
                    (signed(Level::Warning)) " " (match left.len() {
                        1 => "1 directory of your home is in no source".to_owned(),
                        n => format!("{n} directories of your home are in no source"),
                    })
                    @if repositories > 0 { " (" (match repositories {
                        1 => "1 repository".to_owned(),
                        n => format!("{n} repositories"),
                    }) ", " (uncommitted) " with uncommitted work)" }
                    @if show_paths { ": " @for one in left { code { (words::elsewhere(cx, one)) } " " } }
                    " — " code { "bdr add PATH" } ", or if that is all right " code { "bdr exclude PATH" }
                }
            }
            @if !known.is_empty() {
                p {
                    (signed(Level::Warning)) " " (match known.len() {
                        1 => "1 place that usually matters is in no source".to_owned(),
                        n => format!("{n} places that usually matter are in no source"),
                    })
                    @if show_paths { ": " @for path in known { code { (cx.shown_absolute(path)) } " " } }
                    " — " code { "bdr init" }
                }
            }
        }
    }
}

/// What would be left if this machine were lost now.
fn elsewhere(seen: &Seen, show_paths: bool) -> Markup {
    let (now, remotes) = (seen.status.now, &seen.status.remotes);
    if remotes.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 id="elsewhere" { "What is in other places" }
            table class="wide" aria-labelledby="elsewhere" {
                thead { tr {
                    th scope="col" { "destination" }
                    th scope="col" { "pushed" }
                    th scope="col" class="n" { "snapshots" }
                    th scope="col" class="n" { "size" }
                    th scope="col" { "only here" }
                    th scope="col" { "safe from this machine" }
                } }
                tbody { @for remote in remotes {
                    tr {
                        th scope="row" { span {
                            (signed(remote_level(remote, now))) " " (remote.name)
                            @if !remote.encrypted { " " span class="soft" { "not encrypted" } }
                        } }
                        td data-label="pushed" { span { @match remote.pushed { Some(time) => (ago(now, time)), None => "not yet" } } }
                        td class="n" data-label="snapshots" { span { (count(remote.snapshots)) } }
                        td class="n" data-label="size" { span { (size(remote.bytes)) } }
                        td data-label="only here" { span {
                            @match (remote.behind, remote.behind_since) {
                                (0, _) | (_, None) => "nothing",
                                (behind, Some(since)) => { (plural(behind, "snapshot")) " (since " (ago(now, since)) ")" }
                            }
                            @if let Some(why) = &remote.failed { "; the last push failed" @if show_paths { ": " (why) } " — " code { "bdr push " (remote.name) } }
                        } }
                        td data-label="safe from this machine" { span {
                            @match remote.level {
                                Some(level) => (level.words()),
                                None => { "not tried: " code { "bdr remote test " (remote.name) } }
                            }
                        } }
                    }
                } }
            }
        }
    }
}

fn remote_level(remote: &RemoteStatus, now: DateTime<Utc>) -> Level {
    let failed = remote.failed.is_some() || remote.pushed.is_none();
    let troubles = remote.troubles(now).into_iter();
    let trouble = troubles.map(|trouble| trouble.level()).max();
    trouble.unwrap_or(if failed { Level::Warning } else { Level::Good })
}

fn row(cx: &Context, seen: &Seen, source: &SourceStatus, show_paths: bool) -> Markup {
    let now = seen.status.now;
    let level = match (source.exists, source.backed_up) {
        (false, _) => Level::Critical,
        (true, None) => Level::Warning,
        (true, Some(_)) => Level::Good,
    };
    let left_out: Vec<String> = source
        .left_out
        .iter()
        .map(|(reason, n)| format!("{} {reason}", count(*n)))
        .collect();
    html! {
        tr {
            th scope="row" {
                span { (signed(level)) " " (source.name) }
                @if show_paths { " " span class="soft" { (cx.shown_absolute(&source.path)) } }
            }
            td class="n" data-label="files" { span { (count(source.files)) } }
            td class="n" data-label="size" { span { (size(source.bytes)) } }
            td data-label="backed up" { span { @match source.backed_up { Some(time) => (ago(now, time)), None => "not yet" } } }
            td data-label="changed since" { span {
                @if !source.exists { "it is not there" }
                @else if source.waiting == 0 { "nothing" }
                @else {
                    (count(source.waiting))
                    @if let Some(newest) = source.newest_change { " (" (ago(now, newest)) ")" }
                }
            } }
            td data-label="left out" { span { @if left_out.is_empty() { "nothing" } @else { (left_out.join(", ")) } } }
        }
    }
}

fn ago(now: DateTime<Utc>, then: DateTime<Utc>) -> Markup {
    html! { time class="when" datetime=(when::utc(then)) title=(when::local(then)) { (when::ago(now, then)) } }
}

fn trust(seen: &Seen) -> Markup {
    let status = &seen.status;
    let rate = status.rate;
    let scheduler = status
        .scheduler
        .backend
        .as_deref()
        .map(words::backend_words);
    let of_scheduler = status.troubles.iter().find(|t| {
        matches!(
            t,
            Trouble::NotInstalled
                | Trouble::NotWoken { .. }
                | Trouble::NoDaemon
                | Trouble::Moved
                | Trouble::NotLingering
                | Trouble::NoSchedule
        )
    });
    html! {
        section {
            h2 { "Can it be trusted?" }
            div class="trust" {
                (card(seen, "Restore drill", &[Job::Drill], |run| format!("{}, {}, in {}", plural(run.files, "file"), size(run.bytes), elapsed(run)), "bdr drill"))
                // A drill reads what it restores, so verification appears only if somebody ran it.
                @if seen.runs.iter().any(|run| run.job == Job::Verify) { (card(seen, "Verified", &[Job::Verify], |run| format!("{} read and checked, in {}", size(run.bytes), elapsed(run)), "bdr verify")) }
                (card(seen, "Last backup", &[Job::Backup, Job::Full], |run| format!("{}, +{}, in {}", plural(run.files, "file"), size(run.stored_bytes), elapsed(run)), "bdr backup"))
                (damage(seen))
                div {
                    b { (signed(of_scheduler.map_or(Level::Good, Trouble::level))) " Scheduler" }
                    @match scheduler { Some(name) => (name), None => "not installed" }
                    @if let Some(tick) = &status.memory.tick { ", last woke " (ago(status.now, tick.time)) }
                    @if let Some(next) = status.next { div class="soft" { "next backup: " (when::soon(status.now, next)) } }
                    @if rate.tried > 0 { div class="soft" { (rate.succeeded) " of " (rate.tried) " backups in 30 days succeeded" } }
                    @if let Some(trouble) = of_scheduler { div { (words::trouble(trouble, status.now)) " — " code { (trouble.fix()) } } }
                }
            }
        }
    }
}

/// Says what of the repository is damaged, as far as anybody looked.
fn damage(seen: &Seen) -> Markup {
    let status = &seen.status;
    let found: Vec<&Trouble> = status
        .troubles
        .iter()
        .filter(|one| {
            matches!(
                one,
                Trouble::Damaged { .. } | Trouble::Lost { .. } | Trouble::DrillFailed
            )
        })
        .collect();
    let checked = [Job::Drill, Job::Verify].map(|job| status.memory.pasts.of(job).success);
    let checked = checked.into_iter().flatten().max();
    html! {
        div {
            b { (signed(if found.is_empty() { Level::Good } else { Level::Critical })) " Damage" }
            @for one in &found {
                div { (words::trouble(one, status.now)) " — " code { (words::fix(status, one)) } }
            }
            @if found.is_empty() { "none found" }
            @match checked {
                Some(time) => { div class="soft" { "last looked " (ago(status.now, time)) } }
                None => { div class="soft" { "nobody has looked: " code { "bdr verify" } } }
            }
        }
    }
}

fn elapsed(run: &Run) -> String {
    ui::elapsed(std::time::Duration::from_millis(run.elapsed_ms))
}

/// One job: how its last run ended, and what is wrong with it by the same judgement as the sentence at the top.
fn card(
    seen: &Seen,
    title: &str,
    jobs: &[Job],
    says: impl Fn(&Run) -> String,
    command: &str,
) -> Markup {
    let now = seen.status.now;
    let is_it = |run: &&Run| jobs.contains(&run.job) && run.outcome != Outcome::Skipped;
    let run = seen.runs.iter().rev().find(is_it);
    let of_run = match run.map(|run| run.outcome) {
        Some(Outcome::Done) => Level::Good,
        Some(Outcome::Failed) => Level::Critical,
        Some(_) | None => Level::Warning,
    };
    let concerns = |trouble: &&Trouble| match trouble {
        Trouble::Overdue { .. } | Trouble::NoBackup | Trouble::BackupFailing { .. } => {
            jobs.contains(&Job::Backup)
        }
        Trouble::DrillFailed | Trouble::DrillOld { .. } => jobs.contains(&Job::Drill),
        _ => false,
    };
    let troubles = seen.status.troubles.iter().filter(concerns);
    let level = troubles.map(Trouble::level).max().unwrap_or(Level::Good);
    let level = level.max(of_run);
    html! {
        div {
            b { (signed(level)) " " (title) }
            @match run {
                None => { "never " div { code { (command) } } }
                Some(run) => {
                    (ago(now, run.time))
                    @if run.outcome == Outcome::Failed { div { "failed — " code { (command) } } }
                    @else { div class="soft" { (says(run)) } }
                }
            }
        }
    }
}

fn timeline(seen: &Seen) -> Markup {
    let ids: Vec<_> = seen.summaries.iter().map(|s| s.id).collect();
    let operations = &seen.status.operations;
    let operation_ids: Vec<_> = operations.iter().map(|op| op.begin.id).collect();
    let last: Vec<&Summary> = seen.summaries.iter().rev().take(TIMELINE).collect();
    if last.is_empty() {
        return html! {};
    }
    html! {
        section {
            h2 id="timeline" { "Latest snapshots" }
            table class="wide" aria-labelledby="timeline" {
                thead { tr {
                    th scope="col" { "snapshot" }
                    th scope="col" { "when" }
                    th scope="col" { "why" }
                    th scope="col" class="n" { "added" }
                } }
                tbody { @for summary in last {
                    tr {
                        th scope="row" { code { (summary.id.prefix(&ids)) } }
                        td data-label="when" { span { (ago(seen.status.now, summary.time)) } }
                        td class="cmd" data-label="why" { span { (why(summary, operations, &operation_ids)) } }
                        td class="n" data-label="added" { span { "+" (size(summary.stats.stored_bytes)) } }
                    }
                } }
            }
        }
    }
}

fn why(summary: &Summary, operations: &[Operation], ids: &[bdr::base::id::Id]) -> Markup {
    let kind = if summary.kind == SnapshotKind::Full {
        "full backup"
    } else {
        "backup"
    };
    // The operation for which it was taken; others may have reused it.
    let before = operations
        .iter()
        .rev()
        .find(|op| op.begin.before == Some(summary.id));
    html! {
        @if summary.is_backup() {
            (kind)
            @if let Some(label) = &summary.label { " “" (bdr::base::path::show(label.as_ref())) "”" }
            @if summary.partial { " (partial)" }
        } @else if let Some(operation) = before {
            "before " code { (shortened(&log::title(operation, ids))) }
            @if let Some(end) = &operation.end {
                @if let Some(code) = end.exit.filter(|code| *code != 0) { ", exit " (code) }
            }
            @if operation.undone_by.is_some() { ", undone" }
        } @else {
            "before a command"
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(COMMAND) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
