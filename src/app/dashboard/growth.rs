//! Size of the repository over time, against its budget.

use bdr::base::units::size;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use crate::app::status::{Seen, words};
use crate::ui::{plural, when};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 120.0;
const POINTS: usize = 200;

pub(crate) fn render(seen: &Seen) -> Markup {
    let status = &seen.status;
    let Some(storage) = status.storage else {
        return html! {};
    };
    let mut points: Vec<(DateTime<Utc>, u64)> = seen
        .runs
        .iter()
        .filter(|run| run.repository_bytes > 0)
        .map(|run| (run.time, run.repository_bytes))
        .collect();
    points.push((status.now, storage.used));
    let step = points.len().div_ceil(POINTS).max(1);
    let mut points: Vec<_> = points.into_iter().rev().step_by(step).collect();
    points.reverse();
    let most = points
        .iter()
        .map(|(_, bytes)| *bytes)
        .max()
        .unwrap_or(1)
        .max(1);
    // The budget is drawn if it is near enough to matter.
    let budget = (storage.max > 0 && storage.max / 4 <= most).then_some(storage.max);
    let top = budget.unwrap_or(most).max(most) as f64 * 1.05;
    let from = points.first().map_or(status.now, |(time, _)| *time);
    let span = ((status.now - from).num_seconds() as f64).max(1.0);
    let y = |bytes: u64| HEIGHT - bytes as f64 / top * HEIGHT;
    let line: Vec<String> = points
        .iter()
        .map(|(time, bytes)| {
            let x = (*time - from).num_seconds() as f64 / span * WIDTH;
            format!("{x:.1},{:.1}", y(*bytes))
        })
        .collect();
    let line = line.join(" ");
    let mut says = size(storage.used);
    if storage.max > 0 {
        says.push_str(&format!(
            " of {} ({} %)",
            size(storage.max),
            storage.percent()
        ));
    }
    if let Some(percent) = status.saved_percent.filter(|percent| *percent > 0) {
        says.push_str(&format!(", {percent} % smaller than the originals"));
    }
    if let Some(months) = words::months_left(seen) {
        says.push_str(&format!("; enough for {}", plural(months, "month")));
    }
    html! {
        section {
            h2 { "Storage" }
            p { (says) ". " span class="soft" { (size(status.added_bytes)) " added in 30 days." } }
            @if points.len() > 2 {
                svg viewBox=(format!("0 -2 {WIDTH} {}", HEIGHT + 18.0)) role="img" aria-label=(format!("Size of the repository since {}: from {} to {}.", when::local(from), size(points[0].1), size(storage.used))) {
                    polygon class="area" points=(format!("0,{HEIGHT} {line} {WIDTH},{HEIGHT}")) {}
                    polyline class="growth" points=(line) {}
                    @if let Some(max) = budget {
                        line class="budget" x1="0" x2=(WIDTH) y1=(format!("{:.1}", y(max))) y2=(format!("{:.1}", y(max))) {}
                        text x="4" y=(format!("{:.1}", y(max) + 11.0)) { "budget " (size(max)) }
                    }
                    text x="0" y=(HEIGHT + 13.0) { (from.format("%Y-%m-%d")) }
                    text x=(WIDTH) y=(HEIGHT + 13.0) text-anchor="end" { "today" }
                }
            }
        }
    }
}
