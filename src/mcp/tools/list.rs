//! `list_backups`.

use bdr::repo::summaries::Summary;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::super::call::{Answer, Call, Outcome, Page, is_listed};
use super::super::fault::Fault;
use super::super::roots::{Roots, Use};
use super::figures::{Backup, Metadata, Statistics, StorageStats, kind};
use crate::app::context::Context;
use crate::app::time;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct ListResult {
    success: bool,
    backups: Vec<Backup>,
    total: usize,
    total_backups: usize,
    /// The number of matches on all pages.
    filtered: usize,
    statistics: Statistics,
    storage_stats: StorageStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// `bdr://snapshots`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(crate) struct SnapshotsDocument {
    backups: Vec<Backup>,
    total: usize,
    statistics: Statistics,
}

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let cx = call.cx;
    let args = &call.args;
    let limit = args.number("limit", 1, 1000)?.unwrap_or(20) as usize;
    let sort = args
        .word("sort", &["date-desc", "date-asc", "size-desc", "size-asc"])?
        .unwrap_or("date-desc");
    let wanted = args.word("type", &["full", "incremental"])?;
    let label = args.text("label")?;
    let since = moment(cx, args.member("dateRange", "start")?)?;
    let until = moment(cx, args.member("dateRange", "end")?)?;
    let roots = call.roots()?;
    let places = places(call, &roots)?;
    let whole = args.flag("includeMetadata")? == Some(true);
    let repo = match cx.repository() {
        Ok(repo) => Some(repo),
        Err(failure) if failure.word() == "no-repository" => None,
        Err(failure) => return Err(failure.into()),
    };
    let all = match &repo {
        Some(repo) => repo.summaries()?,
        None => Vec::new(),
    };
    let backups: Vec<&Summary> = all.iter().filter(|summary| is_listed(summary)).collect();
    let mut fitting: Vec<&Summary> = backups
        .iter()
        .copied()
        .filter(|summary| wanted.is_none_or(|wanted| kind(summary.kind) == wanted))
        .filter(|summary| {
            label.is_none_or(|label| {
                summary
                    .label
                    .as_deref()
                    .is_some_and(|own| own.contains(label))
            })
        })
        .filter(|summary| {
            since.is_none_or(|since| summary.time >= since)
                && until.is_none_or(|until| summary.time <= until)
        })
        .filter(|summary| places.iter().all(|place| place.is_in(summary)))
        .collect();
    match sort {
        "date-asc" => {}
        "size-desc" => fitting.sort_by_key(|summary| std::cmp::Reverse(summary.stats.bytes)),
        "size-asc" => fitting.sort_by_key(|summary| summary.stats.bytes),
        _ => fitting.reverse(),
    }
    let page = Page::read(
        args,
        &format!("list_backups {sort} {wanted:?} {label:?} {since:?} {until:?}"),
    )?;
    let mut shown: Vec<Backup> = Vec::new();
    for summary in fitting.iter().skip(page.from).take(limit) {
        let mut one = Backup::new(cx, summary);
        if let (true, Some(repo)) = (whole, &repo)
            && let Ok(snapshot) = repo.snapshot(summary.id)
        {
            let stored = snapshot.stats.stored_bytes;
            one.metadata = Some(Metadata::new(cx, repo, &snapshot, stored));
        }
        shown.push(one);
    }
    let result = ListResult {
        success: true,
        next_cursor: page.next(shown.len(), fitting.len()),
        backups: shown,
        total: backups.len(),
        total_backups: backups.len(),
        filtered: fitting.len(),
        statistics: Statistics::of(&backups),
        storage_stats: StorageStats::of(&backups),
    };
    Ok(Answer::new(result, "").into())
}

/// Returns the latest backups, for `bdr://snapshots`.
pub(crate) fn document(cx: &Context, most: usize) -> Result<SnapshotsDocument, Fault> {
    let all = cx.repository()?.summaries()?;
    let backups: Vec<&Summary> = all.iter().filter(|summary| is_listed(summary)).collect();
    let latest = backups.iter().rev().take(most);
    Ok(SnapshotsDocument {
        backups: latest.map(|summary| Backup::new(cx, summary)).collect(),
        total: backups.len(),
        statistics: Statistics::of(&backups),
    })
}

/// A backup must contain this to be listed: a source by its name, or a path.
enum Held {
    Name(String),
    Path(std::path::PathBuf),
}

impl Held {
    fn is_in(&self, summary: &Summary) -> bool {
        summary.roots.iter().any(|root| match self {
            Self::Name(name) => root.name == *name,
            Self::Path(path) => path.starts_with(root.path.as_path()),
        })
    }
}

fn places(call: &Call<'_>, roots: &Roots) -> Result<Vec<Held>, Fault> {
    let place = |text: String| match call
        .cx
        .config
        .sources
        .iter()
        .any(|source| source.name == text)
    {
        true => Ok(Held::Name(text)),
        // The path need not exist: it may be gone, and in backups.
        false => Ok(Held::Path(roots.path(call.cx, &text, Use::Write)?)),
    };
    call.args.texts("sources")?.into_iter().map(place).collect()
}

fn moment(cx: &Context, value: Option<&Value>) -> Result<Option<DateTime<Utc>>, Fault> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(time::parse(text, cx.now)?)),
        Some(_) => Err(Fault::argument(
            "`dateRange` holds start and end as strings",
            "make the same call with {\"dateRange\":{\"start\":\"2026-11-20\"}}",
        )),
    }
}
