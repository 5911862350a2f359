//! Size of the repository over time, against its budget.

use bdr::base::units::size;
use chrono::{DateTime, Local, Utc};
use maud::{Markup, html};

use crate::app::status::{Seen, words};
use crate::ui::{plural, when};

/// Where the first point is: right of the sizes.
const LEFT: f64 = 84.0;
const WIDTH: f64 = 556.0;
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
    let ticks = ticks(budget.unwrap_or(most).max(most));
    let top = ticks.last().copied().unwrap_or(1).max(1) as f64;
    let from = points.first().map_or(status.now, |(time, _)| *time);
    let span = ((status.now - from).num_seconds() as f64).max(1.0);
    let y = |bytes: u64| HEIGHT - bytes as f64 / top * HEIGHT;
    let x = |time: DateTime<Utc>| LEFT + (time - from).num_seconds() as f64 / span * WIDTH;
    let line: Vec<String> = points
        .iter()
        .map(|(time, bytes)| format!("{:.1},{:.1}", x(*time), y(*bytes)))
        .collect();
    let line = line.join(" ");
    let dates = dates(from, status.now);
    let mut says = size(storage.used);
    if storage.max > 0 {
        says.push_str(&format!(" of {}", size(storage.max)));
        if storage.percent() > 0 {
            says.push_str(&format!(" ({} %)", storage.percent()));
        }
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
                svg class="chart" viewBox=(format!("0 -10 {} {}", LEFT + WIDTH + 10.0, HEIGHT + 28.0)) role="img" aria-label=(format!("Size of the repository since {}: from {} to {}.", when::local(from), size(points[0].1), size(storage.used))) {
                    @for bytes in &ticks {
                        line class="grid" x1=(LEFT) x2=(LEFT + WIDTH) y1=(format!("{:.1}", y(*bytes))) y2=(format!("{:.1}", y(*bytes))) {}
                        text x=(LEFT - 6.0) y=(format!("{:.1}", y(*bytes) + 3.5)) text-anchor="end" { (size(*bytes)) }
                    }
                    polygon class="area" points=(format!("{LEFT},{HEIGHT} {line} {},{HEIGHT}", LEFT + WIDTH)) {}
                    polyline class="growth" points=(line) {}
                    @if let Some(max) = budget {
                        line class="budget" x1=(LEFT) x2=(LEFT + WIDTH) y1=(format!("{:.1}", y(max))) y2=(format!("{:.1}", y(max))) {}
                        text x=(LEFT + 4.0) y=(format!("{:.1}", y(max) - 3.0)) { "limit " (size(max)) }
                    }
                    @for (number, (time, name)) in dates.iter().enumerate() {
                        line class="grid" x1=(format!("{:.1}", x(*time))) x2=(format!("{:.1}", x(*time))) y1=(HEIGHT) y2=(HEIGHT + 4.0) {}
                        text x=(format!("{:.1}", x(*time))) y=(HEIGHT + 15.0) text-anchor=(if number == 0 { "start" } else if number + 1 == dates.len() { "end" } else { "middle" }) { (name) }
                    }
                }
            }
        }
    }
}

/// Returns sizes for the axis, from nothing to at least `most`: whole numbers of a unit.
fn ticks(most: u64) -> Vec<u64> {
    let unit = (0..6).map(|power| 1024_u64.pow(power)).rev();
    let unit = unit.into_iter().find(|unit| *unit <= most).unwrap_or(1);
    let wanted = most.div_ceil(unit);
    let scale = 10_u64.pow(wanted.checked_ilog10().unwrap_or(0));
    let steps = [1, 2, 5, 10, 20, 50].map(|step| step * scale);
    // Four at most: the picture is low.
    let step = steps
        .into_iter()
        .map(|step| (step / 10).max(1) * unit)
        .find(|step| most.div_ceil(*step) <= 4)
        .unwrap_or(most);
    (0..=most.div_ceil(step)).map(|n| n * step).collect()
}

/// Returns moments for the axis with what they are called: the first, the last and what is evenly between them.
fn dates(from: DateTime<Utc>, now: DateTime<Utc>) -> Vec<(DateTime<Utc>, String)> {
    const PARTS: i32 = 4;
    let span = now - from;
    let form = match span.num_days() {
        0 | 1 => "%H:%M",
        _ => "%Y-%m-%d",
    };
    (0..=PARTS)
        .map(|part| {
            let time = from + span * part / PARTS;
            let name = time.with_timezone(&Local).format(form).to_string();
            (time, name)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_few_whole_steps_and_room_for_all() {
        const MIB: u64 = 1 << 20;
        assert_eq!(ticks(3 * MIB), [0, MIB, 2 * MIB, 3 * MIB]);
        assert_eq!(ticks(250 * MIB), [0, 100 * MIB, 200 * MIB, 300 * MIB]);
        for most in [1, 7, 999, 1024, 5000, 477 * MIB, 900 << 30, u64::MAX / 2048] {
            let all = ticks(most);
            assert!((2..=6).contains(&all.len()), "{most}: {all:?}");
            assert!(all[all.len() - 1] >= most && all[0] == 0, "{most}: {all:?}");
        }
    }

    #[test]
    fn an_axis_of_time_has_its_ends() {
        let from: DateTime<Utc> = "2026-10-01T10:00:00Z".parse().unwrap();
        let now: DateTime<Utc> = "2026-11-10T10:00:00Z".parse().unwrap();
        let all = dates(from, now);
        assert_eq!((all[0].0, all[4].0, all.len()), (from, now, 5));
        assert!(all[1].1.starts_with("2026-10-1"), "{all:?}");
    }
}
