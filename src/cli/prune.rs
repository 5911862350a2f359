//! `bdr prune`, `bdr forget`.

use std::ffi::OsString;

use bdr::Error;
use bdr::base::id::{Id, SnapshotId};
use bdr::base::units::size;
use bdr::care::prune::{self, Budget, PlannedSnapshot, PruneOptions, PrunePlan, PruneReport};
use bdr::model::retention::{COUNTS, ClockTrouble, Count, Policy, parse_span};
use bdr::model::schedule::Job;
use bdr::repo::Repository;
use bdr::repo::snapshot::{SnapshotKind, Trigger};
use chrono::TimeDelta;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::PruneDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::jobs;
use crate::app::pick;
use crate::app::prune::{local, more_room};
use crate::ui::{self, plural, prompt, when};

mod elsewhere;
mod lifeboats;

/// Remove snapshots that retention does not keep, and free space
///
/// Without --keep options, the configured policy applies. Guard snapshots stay as long as their command can be undone. Removed
/// data stays in the trash for a day.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr prune --dry-run                  which snapshots would stay, and why
  bdr prune --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --dry-run
  bdr prune --keep-within 30d --yes
  bdr prune --now --yes                empty the trash too
  bdr prune --lifeboats                delete what is left of repositories that are gone
  bdr prune --remote offsite --dry-run the same question to a destination, which keeps by rules of its own

Exit codes: 3 if --yes is missing in a script, or if damage keeps space from being freed; 11 if another bdr is busy.")]
pub(crate) struct PruneArgs {
    #[command(flatten)]
    counts: KeepCounts,
    /// Keep everything of the last 7d, 36h, 2w, 6m or 1y
    #[arg(long, value_name = "SPAN", value_parser = parse_span, help_heading = "Policy")]
    keep_within: Option<TimeDelta>,
    /// Keep snapshots with this tag
    #[arg(long, value_name = "TAG", help_heading = "Policy")]
    keep_tag: Vec<String>,
    /// Delete for good right away, and empty the trash
    #[arg(long)]
    now: bool,
    /// Delete the lifeboats of repositories that were deleted or moved, and nothing else
    #[arg(long, conflicts_with_all = ["now", "keep_within", "keep_tag"])]
    lifeboats: bool,
    /// Prune this destination instead: by its keep_… in the configuration, or these options
    #[arg(long, value_name = "NAME", conflicts_with_all = ["now", "lifeboats"])]
    remote: Option<String>,
    /// A file with the secret key of the destination, if this machine does not know what snapshots need
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath, requires = "remote")]
    identity: Vec<std::path::PathBuf>,
    #[command(flatten)]
    how: How,
}

/// Remove the named snapshots
///
/// Commands that they protected can no longer be undone. Data that other snapshots need stays.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr forget 3f2a --dry-run
  bdr forget 3f2a 9c1e --yes")]
pub(crate) struct ForgetArgs {
    /// Snapshots (id, `latest~2`, a time)
    #[arg(value_name = "SNAPSHOT", required = true)]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// `--keep-last N` and the other counts, one for each rule of [`COUNTS`].
#[derive(Debug)]
struct KeepCounts([Option<u32>; COUNTS.len()]);

impl clap::FromArgMatches for KeepCounts {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let count = |rule: &Count| matches.get_one::<u32>(rule.flag).copied();
        Ok(Self(COUNTS.each_ref().map(count)))
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for KeepCounts {
    fn augment_args(command: clap::Command) -> clap::Command {
        let arg = |rule: &'static Count| {
            clap::Arg::new(rule.flag)
                .long(rule.flag)
                .value_name("N")
                .help(rule.help)
                .help_heading("Policy")
                .value_parser(clap::value_parser!(u32))
        };
        // A list created each time would not live long enough for clap.
        static RULES: [Count; COUNTS.len()] = COUNTS;
        command.args(RULES.iter().map(arg))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl PruneArgs {
    /// Returns true if the command line says how many backups to keep.
    fn has_rules(&self) -> bool {
        self.counts.0.iter().any(Option::is_some) || self.keep_within.is_some()
    }

    /// Returns the policy from the command line, or that of the configuration.
    fn policy(&self, configured: &Policy) -> Policy {
        let mut policy = configured.clone();
        if self.has_rules() {
            for (rule, count) in COUNTS.iter().zip(&self.counts.0) {
                *(rule.place)(&mut policy) = count.unwrap_or(0);
            }
            policy.within = self.keep_within;
        }
        policy.tags.extend(self.keep_tag.iter().cloned());
        policy
    }
}

pub(crate) fn prune(cx: &Context, args: &PruneArgs) -> Result<u8, Failure> {
    if args.lifeboats {
        return lifeboats::run(cx, args.how.dry_run, args.how.yes);
    }
    if let Some(name) = &args.remote {
        return elsewhere::run(cx, args, name);
    }
    let repo = cx.repository()?;
    let mut options = PruneOptions::new(cx.now, &local);
    options.policy = args.policy(&cx.config.retention);
    if args.now {
        options.grace = TimeDelta::zero();
    }
    carry_out(cx, &repo, &options, &args.how, "prune")
}

pub(crate) fn forget(cx: &Context, args: &ForgetArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let snapshots = repo.all_snapshots()?;
    let mut options = PruneOptions::new(cx.now, &local);
    let mut lost = Vec::new();
    for word in &args.snapshots {
        match pick::one(cx, &snapshots, word) {
            Ok(snapshot) => options.forget.push(snapshot.id),
            Err(Failure::Engine(error)) => match *error {
                // Named by its id, because the record cannot be read.
                Error::Unreadable { name, .. } if !word.to_string_lossy().starts_with("latest") => {
                    lost.push(name);
                }
                // The record does not even exist, but an operation needs it.
                Error::NoSuchSnapshot { .. } if let Some(id) = missing(&repo, word)? => {
                    repo.put_forgotten(id)?;
                    cx.ui.report(&format!(
                        "Snapshot {} is no longer reported as missing.\n",
                        id.prefix(&[])
                    ))?;
                }
                other => return Err(other.into()),
            },
            Err(failure) => return Err(failure),
        }
    }
    if !lost.is_empty() {
        let question = format!(
            "Remove {} that cannot be read?",
            plural(lost.len() as u64, "record")
        );
        if args.how.dry_run
            || !args.how.yes && (!cx.ui.can_ask || !prompt::confirm(&question, false)?)
        {
            cx.ui.report("Nothing was changed. Add --yes to do it.\n")?;
            return Ok(if args.how.dry_run {
                exit::OK
            } else {
                exit::PARTIAL
            });
        }
        for name in &lost {
            repo.remove_unreadable(name)?;
            cx.ui.report(&format!(
                "Removed `{}`.\n",
                bdr::base::path::show(name.as_ref())
            ))?;
        }
    }
    if options.forget.is_empty() {
        return Ok(exit::OK);
    }
    carry_out(cx, &repo, &options, &args.how, "forget")
}

/// Returns the missing snapshot that a word names, if an operation needs it.
fn missing(repo: &Repository, word: &std::ffi::OsStr) -> Result<Option<SnapshotId>, Failure> {
    let there = repo.snapshot_ids()?;
    let operations = repo.operations()?;
    let named = operations.iter().filter_map(|o| o.begin.before);
    let missing = repo.all_snapshots()?.missing();
    let text = word.to_string_lossy();
    Ok(named
        .chain(missing.iter().map(|one| one.id))
        .filter(|id| !there.contains(id) && !repo.is_forgotten(*id))
        .find(|id| id.matches(&text)))
}

fn carry_out(
    cx: &Context,
    repo: &Repository,
    options: &PruneOptions<'_>,
    how: &How,
    verb: &'static str,
) -> Result<u8, Failure> {
    let plan = prune::plan(repo, options, &cx.progress())?;
    let ids: Vec<Id> = plan.snapshots.iter().map(|s| s.decision.id).collect();
    let going = plan.going().count() as u64;
    let ready = how.yes || cx.ui.can_ask;
    if how.dry_run || !ready {
        let report = prune::estimate(repo, &plan, options, &cx.progress())?;
        let code = if how.dry_run { exit::OK } else { exit::PARTIAL };
        if cx.ui.json {
            cx.ui
                .document(verb, code, &PruneDocument::new(&plan, &report, &ids, false))?;
            return Ok(code);
        }
        let mut text = table(cx, &plan, &ids, verb);
        text.push_str(&clock(plan.clock, &ids));
        text.push_str(&storage(&plan));
        text.push_str(&format!(
            "Would remove {} of {}, and free {}. Nothing was changed.",
            going,
            plural(ids.len() as u64, "snapshot"),
            size(report.trashed_bytes + report.staged_bytes + report.swept_bytes)
        ));
        if !how.dry_run {
            text.push_str(&format!(" Without a terminal, add --yes: bdr {verb} --yes"));
        }
        text.push('\n');
        cx.ui.prose(&text)?;
        return Ok(code);
    }
    if !how.yes && going > 0 {
        cx.ui.report(&table(cx, &plan, &ids, verb))?;
        let question = format!("Remove {}?", plural(going, "snapshot"));
        if !prompt::confirm(&question, false)? {
            cx.ui.report("Nothing was changed.\n")?;
            return Ok(exit::INTERRUPTED);
        }
    }
    let apply = || Ok(prune::apply(repo, &plan, options, &cx.progress())?);
    let report = match verb {
        "prune" => jobs::remember(cx, Job::Prune, "user", apply)?.0,
        _ => apply()?,
    };
    let code = if report.blocked.is_empty() {
        exit::OK
    } else {
        exit::PARTIAL
    };
    if cx.ui.json {
        cx.ui
            .document(verb, code, &PruneDocument::new(&plan, &report, &ids, true))?;
    } else {
        cx.ui.report(&ending(&plan, &report, &ids))?;
    }
    Ok(code)
}

fn table(cx: &Context, plan: &PrunePlan, ids: &[Id], verb: &str) -> String {
    // After forgetting a few, nobody wants to see everything that stays; and what guards and undos
    // took for themselves stays for one reason.
    let is_backup = |s: &PlannedSnapshot| matches!(s.trigger, Trigger::Backup | Trigger::Init);
    let (backups, own): (Vec<&PlannedSnapshot>, Vec<&PlannedSnapshot>) = plan
        .snapshots
        .iter()
        .filter(|s| verb == "prune" || !s.decision.keep)
        .partition(|s| is_backup(s) || !s.decision.keep);
    let shown = backups.into_iter();
    let mut rows = Vec::new();
    let mut keeps = Vec::new();
    for snapshot in shown {
        let reasons: Vec<String> = snapshot
            .decision
            .reasons
            .iter()
            .map(ToString::to_string)
            .collect();
        let full = snapshot.kind == SnapshotKind::Full;
        keeps.push(snapshot.decision.keep);
        rows.push(vec![
            (if snapshot.decision.keep {
                "keep"
            } else {
                "remove"
            })
            .to_owned(),
            snapshot.decision.id.prefix(ids),
            when::local(snapshot.time),
            snapshot.trigger.word().to_owned(),
            (if full { "full" } else { "" }).to_owned(),
            format!("+{}", size(snapshot.stored_bytes)),
            reasons.join(", "),
        ]);
    }
    let mut text = String::new();
    for (line, keep) in ui::table::table(&rows, "lllllrl").iter().zip(keeps) {
        match keep {
            true => text.push_str(line),
            false => text.push_str(&cx.ui.out.red(line)),
        }
        text.push('\n');
    }
    if !own.is_empty() {
        let bytes = own.iter().map(|snapshot| snapshot.stored_bytes).sum();
        text.push_str(&format!(
            "keep  {} of guards and undos  +{}  so that their commands can be undone\n",
            plural(own.len() as u64, "snapshot"),
            size(bytes)
        ));
    }
    text
}

fn storage(plan: &PrunePlan) -> String {
    let Some(budget) = plan.budget.filter(Budget::is_tight) else {
        return String::new();
    };
    let (used, max) = (size(budget.used), size(budget.max));
    let mut text = format!("Storage: {used} of {max} ({} %).", budget.percent());
    if budget.unreachable {
        text.push_str(" What must stay is larger than that. ");
        text.push_str(&more_room(&budget));
    }
    text.push('\n');
    text
}

fn clock(trouble: Option<ClockTrouble>, ids: &[Id]) -> String {
    match trouble {
        None => String::new(),
        Some(ClockTrouble::Future {
            snapshot,
            time,
            is_newest,
        }) => format!(
            "Snapshot {} is from the future ({}), so nothing expires. Is the clock right? If so: {}bdr forget {0}\n",
            snapshot.prefix(ids),
            when::local(time),
            // What it contains may be nowhere else.
            if is_newest { "bdr backup, then " } else { "" },
        ),
        Some(ClockTrouble::Jump { from, to }) => format!(
            "Nothing was stored from {} to {}, so nothing expires for a day. Is the clock right?\n",
            when::local(from),
            when::local(to)
        ),
    }
}

fn ending(plan: &PrunePlan, report: &PruneReport, ids: &[Id]) -> String {
    let mut text = clock(plan.clock, ids) + &storage(plan);
    text.push_str(&format!(
        "Removed {}, {} left.",
        plural(report.snapshots, "snapshot"),
        ids.len() as u64 - report.snapshots
    ));
    let freed = report.swept_bytes + report.staged_bytes;
    if report.trashed_bytes > 0 {
        text.push_str(&format!(
            " {} in the trash now.",
            size(report.trashed_bytes)
        ));
    }
    if freed > 0 {
        text.push_str(&format!(" {} freed.", size(freed)));
    }
    text.push('\n');
    if report.spared > 0 {
        text.push_str(&format!(
            "{} are needed again meanwhile.\n",
            plural(report.spared, "snapshot")
        ));
    }
    for reason in report.blocked.iter().take(3) {
        text.push_str(&format!("No space was freed: {reason}\n"));
    }
    if !report.blocked.is_empty() {
        text.push_str("Cannot tell what it needs (exit 3): bdr verify\n");
    }
    text
}
