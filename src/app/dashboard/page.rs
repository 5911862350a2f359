//! The page: one sentence first, then the details.

use bdr::base::units::size;
use bdr::care::runs::{Outcome, Run};
use bdr::care::status::{Level, SourceStatus, Trouble};
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
use crate::app::status::{Seen, words};
use crate::ui::{self, count, plural, when};

const TIMELINE: usize = 20;
const COMMAND: usize = 100;

pub(crate) fn render(cx: &Context, seen: &Seen, show_paths: bool) -> String {
    let status = &seen.status;
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
                title { (sign(status.level)) " bdr" }
                style { (PreEscaped(style::CSS)) }
            }
            body {
                main {
                    (hero(seen))
                    (sources(cx, seen, show_paths))
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

fn sign(level: Level) -> &'static str {
    match level {
        Level::Good => "✓",
        Level::Warning => "!",
        Level::Critical => "✗",
    }
}

/// A sign with its word, because not everybody sees colours and shapes.
fn signed(level: Level) -> Markup {
    let word = match level {
        Level::Good => "well",
        Level::Warning => "look at it",
        Level::Critical => "not protected",
    };
    html! { span class=(format!("sign {}", level.word())) role="img" aria-label=(word) { (sign(level)) } }
}

fn hero(seen: &Seen) -> Markup {
    let status = &seen.status;
    html! {
        header class=(status.level.word()) {
            h1 { (signed(status.level)) span { (words::sentence(status)) } }
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
            @if !status.uncovered.is_empty() {
                p {
                    (signed(Level::Warning)) " " @match status.uncovered.len() {
                        1 => "1 place that usually matters is not covered",
                        n => { (n) " places that usually matter are not covered" }
                    }
                    @if show_paths {
                        ": " @for path in &status.uncovered { code { (cx.shown_absolute(path)) } " " }
                    }
                    " — " code { "bdr init" }
                }
            }
        }
    }
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
    let last = |jobs: &[Job]| {
        seen.runs
            .iter()
            .rev()
            .find(|run| jobs.contains(&run.job) && run.outcome != Outcome::Skipped)
    };
    let rate = status.rate;
    let scheduler = status
        .scheduler
        .backend
        .as_deref()
        .map(words::backend_words);
    let unwell = status.troubles.iter().any(|t| {
        matches!(
            t,
            Trouble::NotInstalled
                | Trouble::NotWoken { .. }
                | Trouble::NoDaemon
                | Trouble::Moved
                | Trouble::NoSchedule
        )
    });
    html! {
        section {
            h2 { "Can it be trusted?" }
            div class="trust" {
                (card("Restore drill", last(&[Job::Drill]), status.now, |run| format!("{}, {}, in {}", plural(run.files, "file"), size(run.bytes), elapsed(run)), "bdr drill"))
                // A drill reads what it restores, so verification appears only if somebody ran it.
                @if last(&[Job::Verify]).is_some() { (card("Verified", last(&[Job::Verify]), status.now, |run| format!("{} read and checked, in {}", size(run.bytes), elapsed(run)), "bdr verify")) }
                (card("Last backup", last(&[Job::Backup, Job::Full]), status.now, |run| format!("{}, +{}, in {}", plural(run.files, "file"), size(run.stored_bytes), elapsed(run)), "bdr backup"))
                div {
                    b { (signed(if unwell { Level::Warning } else { Level::Good })) " Scheduler" }
                    @match scheduler { Some(name) => (name), None => "not installed" }
                    @if let Some(tick) = &status.memory.tick { ", last woke " (ago(status.now, tick.time)) }
                    @if let Some(next) = status.next { div class="soft" { "next backup: " (when::soon(status.now, next)) } }
                    @if rate.tried > 0 { div class="soft" { (rate.succeeded) " of " (rate.tried) " backups in 30 days succeeded" } }
                    @if unwell { div { code { "bdr schedule install" } } }
                }
            }
        }
    }
}

fn elapsed(run: &Run) -> String {
    ui::elapsed(std::time::Duration::from_millis(run.elapsed_ms))
}

fn card(
    title: &str,
    run: Option<&Run>,
    now: DateTime<Utc>,
    says: impl Fn(&Run) -> String,
    command: &str,
) -> Markup {
    let level = match run.map(|run| run.outcome) {
        Some(Outcome::Done) => Level::Good,
        Some(Outcome::Failed) => Level::Critical,
        Some(_) | None => Level::Warning,
    };
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
