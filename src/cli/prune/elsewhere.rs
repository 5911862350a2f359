//! `bdr prune --remote`.

use bdr::base::id::Id;
use bdr::base::units::size;
use bdr::model::config::FLOOR;
use bdr::model::retention::Policy;
use bdr::remote::prune::{Plan, PruneReport};
use bdr::repo::snapshot::SnapshotKind;

use super::{PruneArgs, clock};
use crate::app::context::Context;
use crate::app::documents::RemotePruneDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::remotes::{Wanted, prune_at};
use crate::ui::table::table;
use crate::ui::{plural, prompt, when};

/// What is to happen after the plan is known.
enum Answer {
    Apply,
    Show,
    Refused,
}

pub(super) fn run(cx: &Context, args: &PruneArgs, name: &str) -> Result<u8, Failure> {
    let remote = cx.config.remote(name)?;
    let repo = cx.repository()?;
    let wanted = Wanted {
        policy: policy(args, remote.keep.as_ref()),
        identity: &args.identity,
        by_hand: true,
    };
    let how = &args.how;
    let mut answer = Answer::Apply;
    let (plan, report) = prune_at(cx, &repo, remote, &wanted, |plan| {
        if how.dry_run || !how.yes && !cx.ui.can_ask {
            answer = Answer::Show;
        } else if !how.yes && plan.going().count() > 0 && plan.blocked.is_empty() {
            cx.ui.report(&rows(cx, plan))?;
            let question = format!("Remove {} from {name}?", snapshots(plan));
            if !prompt::confirm(&question, false)? {
                answer = Answer::Refused;
            }
        }
        Ok(matches!(answer, Answer::Apply))
    })?;
    let code = match (&answer, &report) {
        (Answer::Refused, _) => {
            cx.ui.report("Nothing was changed.\n")?;
            return Ok(exit::INTERRUPTED);
        }
        (Answer::Show, _) if !how.dry_run => exit::PARTIAL,
        (_, Some(report)) if report.is_forbidden || report.forbidden.0 > 0 => exit::PARTIAL,
        _ if !plan.blocked.is_empty() => exit::PARTIAL,
        _ => exit::OK,
    };
    if cx.ui.json {
        let data = RemotePruneDocument::new(name, &plan, report.as_ref());
        cx.ui.document("prune.remote", code, &data)?;
        return Ok(code);
    }
    match &report {
        Some(report) => {
            let keeps_all = wanted.policy.is_none();
            cx.ui.report(&ending(name, &plan, report, keeps_all))?;
        }
        None => cx.ui.prose(&estimate(cx, name, &plan, how.dry_run))?,
    }
    Ok(code)
}

/// Returns the policy from the command line, or that of the destination; `None` if neither says
/// anything.
fn policy(args: &PruneArgs, configured: Option<&Policy>) -> Option<Policy> {
    if !args.has_rules() && args.keep_tag.is_empty() && configured.is_none() {
        return None;
    }
    let nothing = Policy {
        within: Some(FLOOR),
        ..Policy::nothing()
    };
    let mut policy = args.policy(configured.unwrap_or(&nothing));
    // A floor against snapshots that somebody adds, unless the floor is what was asked for.
    let floor = configured.map_or(Some(FLOOR), |configured| configured.within);
    policy.within = args.keep_within.or(floor);
    Some(policy)
}

fn snapshots(plan: &Plan) -> String {
    plural(plan.going().count() as u64, "snapshot")
}

fn rows(cx: &Context, plan: &Plan) -> String {
    let ids: Vec<Id> = plan.snapshots.iter().map(|one| one.decision.id).collect();
    let mut text = String::new();
    let row = |one: &bdr::remote::prune::PlannedSnapshot| {
        let about = one.about.as_ref();
        let reasons: Vec<String> = one
            .decision
            .reasons
            .iter()
            .map(ToString::to_string)
            .collect();
        let full = about.is_some_and(|about| about.kind == SnapshotKind::Full);
        vec![
            (if one.decision.keep { "keep" } else { "remove" }).to_owned(),
            one.decision.id.prefix(&ids),
            about.map_or_else(String::new, |about| when::local(about.time)),
            about.map_or("", |about| about.trigger.word()).to_owned(),
            (if full { "full" } else { "" }).to_owned(),
            reasons.join(", "),
        ]
    };
    let rows: Vec<Vec<String>> = plan.snapshots.iter().map(row).collect();
    for (line, one) in table(&rows, "llllll").iter().zip(&plan.snapshots) {
        match one.decision.keep {
            true => text.push_str(line),
            false => text.push_str(&cx.ui.out.red(line)),
        }
        text.push('\n');
    }
    text
}

fn estimate(cx: &Context, name: &str, plan: &Plan, dry_run: bool) -> String {
    let mut text = rows(cx, plan);
    text.push_str(&doubts(name, plan));
    text.push_str(&format!(
        "Would remove {} of {} from {name}, and free {} a day later. Nothing was changed.",
        plan.going().count(),
        plural(plan.snapshots.len() as u64, "snapshot"),
        size(plan.bytes)
    ));
    if !dry_run {
        text.push_str(&format!(
            " Without a terminal, add --yes: bdr prune --remote {name} --yes"
        ));
    }
    text.push('\n');
    text
}

/// Says why less is removed than the policy wants.
fn doubts(name: &str, plan: &Plan) -> String {
    let ids: Vec<Id> = plan.snapshots.iter().map(|one| one.decision.id).collect();
    let mut text = clock(plan.clock, &ids);
    if plan.unknown > 0 {
        text.push_str(&format!(
            "{}, and all that was there before, because it is not known on this machine what they need. Give the secret key once: bdr prune --remote {name} --identity FILE\n",
            match plan.unknown {
                1 => "1 snapshot stays".to_owned(),
                more => format!("{} stay", plural(more, "snapshot")),
            }
        ));
    }
    for reason in plan.blocked.iter().take(3) {
        text.push_str(&format!("Nothing is removed: {reason}\n"));
    }
    text
}

fn ending(name: &str, plan: &Plan, report: &PruneReport, keeps_all: bool) -> String {
    let mut text = doubts(name, plan);
    let objects =
        |(count, bytes): (u64, u64)| format!("{} ({})", plural(count, "object"), size(bytes));
    if report.is_forbidden {
        text.push_str(&format!(
            "{name}: these credentials cannot delete there, so nothing was removed, and everything can be read as before: bdr remote test {name}\n"
        ));
        return text;
    }
    if !plan.blocked.is_empty() {
        return text;
    }
    text.push_str(&format!(
        "{name}: removed {}, {} left.",
        plural(report.snapshots, "snapshot"),
        report.held
    ));
    if report.removed.0 > 0 {
        text.push_str(&format!(" {} deleted for good.", objects(report.removed)));
    }
    if let (1.., Some(next)) = (report.waiting.0, report.next) {
        text.push_str(&format!(
            " {} in its trash; the first prune after {} deletes them.",
            objects(report.waiting),
            when::local(next)
        ));
    }
    text.push('\n');
    if report.retained.0 > 0 {
        text.push_str(&format!(
            "{} stay: the destination keeps them until their retention ends. They are tried again later.\n",
            objects(report.retained)
        ));
    }
    if report.forbidden.0 > 0 {
        text.push_str(&format!(
            "{} stay: these credentials cannot delete them: bdr remote test {name}\n",
            objects(report.forbidden)
        ));
    }
    if keeps_all && report.snapshots == 0 {
        text.push_str(&format!(
            "No rule says what it keeps, so every snapshot stays: bdr config set remote.{name}.keep_daily 7\n"
        ));
    }
    text
}
