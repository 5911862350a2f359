//! The wording of `bdr status`, shared with the dashboard and alerts.

use std::borrow::Cow;

use bdr::base::units::size;
use bdr::care::runs::Run;
use bdr::care::space::Space;
use bdr::care::status::{Level, RemoteStatus, SourceStatus, Status, Trouble};
use bdr::find::discover::Elsewhere;
use bdr::model::schedule::Job;
use bdr::remote::ledger::There;
use chrono::{DateTime, Local, TimeDelta, Utc};

use super::Seen;
use crate::app::context::Context;
use crate::ui::{self, count, plural, when};

/// How all of it is: what the terminal, the dashboard and JSON say first, and in which colour.
pub(crate) struct Verdict {
    pub(crate) level: Level,
    pub(crate) sentence: String,
}

/// Returns how all of it is.
pub(crate) fn verdict(seen: &Seen) -> Verdict {
    // "Protected" alone would be taken for all of HOME.
    let places = (!seen.elsewhere.is_empty()).then_some(seen.status.sources.len());
    Verdict {
        level: seen.status.level,
        sentence: sentence(&seen.status, places),
    }
}

/// Returns the sign of a level, for those who see no colour.
pub(crate) fn sign(level: Level, unicode: bool) -> &'static str {
    match (level, unicode) {
        (Level::Good, true) => "✓",
        (Level::Good, false) => "+",
        (Level::Warning, _) => "!",
        (Level::Critical, true) => "✗",
        (Level::Critical, false) => "x",
    }
}

/// Returns the sentence that says it all; `places`: how many are covered, where others are not.
fn sentence(status: &Status, places: Option<usize>) -> String {
    let now = status.now;
    let critical: Vec<&Trouble> = status
        .troubles
        .iter()
        .filter(|trouble| trouble.level() == Level::Critical)
        .collect();
    if !critical.is_empty() {
        let mut parts: Vec<String> = critical.iter().map(|t| trouble(t, now)).collect();
        // It is incomplete without the reason. But a first backup is made by hand, whatever wakes
        // bdr.
        let is_overdue = critical
            .iter()
            .any(|one| matches!(one, Trouble::Overdue { .. }));
        let silent = status.troubles.iter().find(|t| is_overdue && is_silent(t));
        parts.extend(silent.map(|t| trouble(t, now)));
        return format!("Not protected: {}.", parts.join("; "));
    }
    let mut parts = Vec::new();
    if let Some(last) = &status.last {
        parts.push(format!("last backup {}", when::ago(now, last.time)));
    }
    if let Some(drill) = status.memory.pasts.drill.success {
        parts.push(format!("last restore drill {}", when::ago(now, drill)));
    }
    if let Some(next) = status.next {
        parts.push(format!("next {}", when::soon(now, next)));
    }
    let text = parts.join(", ");
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    let text: String = first.into_iter().chain(letters).collect();
    let covered = places.map_or_else(String::new, |n| format!(": {}", plural(n as u64, "place")));
    // A place of which nothing is stored is not protected, whatever else is.
    let gaps: Vec<String> = status
        .troubles
        .iter()
        .filter(|one| {
            matches!(
                one,
                Trouble::NotBackedUp { .. } | Trouble::SourceMissing { .. }
            )
        })
        .map(|one| trouble(one, now))
        .collect();
    if !gaps.is_empty() {
        return format!("Partly protected: {}. {text}.", gaps.join("; "));
    }
    let warnings = match status.troubles.len() as u64 {
        0 => String::new(),
        n => format!(", with {}", plural(n, "warning")),
    };
    format!("Protected{covered}{warnings}. {text}.")
}

/// Returns a problem as part of a sentence.
pub(crate) fn trouble(trouble: &Trouble, now: DateTime<Utc>) -> String {
    match trouble {
        Trouble::NoSource => "nothing is configured to be backed up".to_owned(),
        Trouble::NoRepository => "the repository is missing".to_owned(),
        Trouble::Away => "the disk with the repository is away".to_owned(),
        Trouble::Damaged { files } => {
            format!(
                "{} of the repository cannot be read",
                plural(*files, "file")
            )
        }
        Trouble::Lost { files } => {
            let are = if *files == 1 { "is" } else { "are" };
            format!(
                "{} of the last backup {are} damaged",
                plural(*files, "file")
            )
        }
        Trouble::FoundDamaged { objects } => {
            let objects = plural(*objects, "damaged object");
            format!("the last verification found {objects}, not mended since")
        }
        Trouble::NoBackup => "there is no backup".to_owned(),
        Trouble::Overdue { last } => format!("last backup {}", when::ago(now, *last)),
        Trouble::BackupFailing { failures: 1 } => "the last backup failed".to_owned(),
        Trouble::BackupFailing { failures } => format!("the last {failures} backups failed"),
        Trouble::DrillFailed => "the last restore drill failed".to_owned(),
        Trouble::SourceMissing { name } => format!("source `{name}` is missing"),
        Trouble::NotBackedUp { sources: 1 } => "1 source has no backup yet".to_owned(),
        Trouble::NotBackedUp { sources } => format!("{sources} sources have no backup yet"),
        Trouble::Unread { problems } => {
            format!("the last backup skipped {}", plural(*problems, "path"))
        }
        Trouble::Torn { files } => format!(
            "{} changed while the last backup read {}",
            plural(*files, "file"),
            if *files == 1 { "it" } else { "them" }
        ),
        Trouble::NoSchedule => "backups run only when you start them".to_owned(),
        Trouble::NotInstalled => "no scheduler is installed".to_owned(),
        Trouble::NotWoken { last } => {
            let day = last.with_timezone(&Local).date_naive();
            format!("the scheduler has not run since {day}")
        }
        Trouble::NoDaemon => "no cron daemon is running".to_owned(),
        Trouble::Moved => "the scheduler starts a different bdr".to_owned(),
        Trouble::NotLingering => "the scheduler stops when you log out".to_owned(),
        Trouble::NoLifeboat => "a deleted repository could not be restored".to_owned(),
        Trouble::PruneFailing { failures: 1 } => "the last prune failed".to_owned(),
        Trouble::PruneFailing { failures } => format!("the last {failures} prunes failed"),
        Trouble::Full { percent } => format!("{percent} % of the storage budget is used"),
        Trouble::NotPushed { name, last: None } => {
            format!("nothing has been pushed to `{name}` yet")
        }
        Trouble::NotPushed {
            name,
            last: Some(last),
        } => format!("last push to `{name}` {}", when::ago(now, *last)),
        Trouble::NotPruned { name, last } => {
            let since = last.map_or_else(
                || "has failed until now".to_owned(),
                |last| format!("went well last {}", when::ago(now, last)),
            );
            format!("removing what is old from `{name}` {since}")
        }
        Trouble::Emptied { name } => format!("nothing is left at `{name}` of what was pushed"),
        Trouble::WrittenByOthers { name, records } => format!(
            "somebody else wrote to this machine's part of `{name}`: {} that it has not signed",
            plural(*records, "record")
        ),
        Trouble::DrillOld { last: None } => "no restore has been tested yet".to_owned(),
        Trouble::DrillOld { last: Some(last) } => {
            format!("the last restore drill was {}", when::ago(now, *last))
        }
    }
}

/// Returns the line for monitoring, with values in the form of Nagios plug-ins.
pub(crate) fn check_line(status: &Status) -> String {
    let word = match status.level {
        Level::Good => "OK",
        Level::Warning => "WARNING",
        Level::Critical => "CRITICAL",
    };
    let says = match status.troubles.is_empty() {
        true => sentence(status, None),
        false => {
            let all: Vec<String> = status
                .troubles
                .iter()
                .map(|t| trouble(t, status.now))
                .collect();
            all.join("; ")
        }
    };
    let age = status
        .last
        .as_ref()
        .map(|last| (status.now - last.time).num_seconds());
    let mut values = Vec::new();
    values.extend(age.map(|age| format!("age={age}s")));
    values.extend(
        status
            .storage
            .map(|storage| format!("stored={}B", storage.used)),
    );
    match values.is_empty() {
        true => format!("bdr {word}: {says}"),
        false => format!("bdr {word}: {says} | {}", values.join(" ")),
    }
}

/// Returns "~/code (3 repositories, 2 with uncommitted work)".
pub(crate) fn elsewhere(cx: &Context, one: &Elsewhere) -> String {
    let path = cx.shown_absolute(&one.path);
    let repositories = match one.repositories {
        1 => "1 repository".to_owned(),
        n => format!("{n} repositories"),
    };
    match (one.repositories, one.uncommitted) {
        (0, _) => path,
        (_, 0) => format!("{path} ({repositories})"),
        (_, n) => format!("{path} ({repositories}, {n} with uncommitted work)"),
    }
}

/// Returns the paths as a user would type them.
fn shell_paths(cx: &Context, left: &[Elsewhere]) -> String {
    let paths = left.iter();
    let paths: Vec<String> = paths
        .map(|one| crate::app::guard::typed(cx.shown_absolute(&one.path), &one.path))
        .collect();
    paths.join(" ")
}

pub(crate) fn page(cx: &Context, seen: &Seen) -> String {
    let mut text = headline(cx, &verdict(seen));
    fix_lines(&seen.status, &mut text);
    text.push_str(&elsewhere_lines(cx, &seen.elsewhere));
    trouble_lines(cx, &seen.status, &mut text);
    let rows = rows(cx, seen);
    let widths = rows.iter().map(|(_, row)| row[0].chars().count());
    let width = widths.max().unwrap_or(0);
    let style = cx.ui.out;
    for (level, row) in &rows {
        let sign = sign(*level, cx.ui.unicode);
        let sign = match level {
            Level::Good => style.green(sign),
            Level::Warning => style.yellow(sign),
            Level::Critical => style.red(sign),
        };
        text.push_str(&format!("  {:<width$}  {sign}  {}\n", row[0], row[1]));
    }
    text
}

/// Returns the verdict with its level as colour. Of a warning only the first sentence is coloured:
/// the rest says what works all the same.
fn headline(cx: &Context, verdict: &Verdict) -> String {
    let style = cx.ui.out;
    let (head, rest) = verdict.sentence.split_once(". ").unwrap_or_default();
    let head = format!("{head}.");
    match verdict.level {
        Level::Critical => format!("{}\n", style.red(&verdict.sentence)),
        Level::Good => format!("{} {rest}\n", style.green(&head)),
        Level::Warning => format!("{} {rest}\n", style.yellow(&head)),
    }
}

/// Returns the places with work that no source covers, with the two commands that end the remark.
fn elsewhere_lines(cx: &Context, left: &[Elsewhere]) -> String {
    if left.is_empty() {
        return String::new();
    }
    let places: Vec<String> = left.iter().map(|one| elsewhere(cx, one)).collect();
    let paths = shell_paths(cx, left);
    let them = if left.len() == 1 { "it" } else { "them" };
    format!(
        "  Not covered: {}\n  cover {them}: bdr add {paths}\n  or leave {them} out: bdr exclude {paths}\n",
        places.join(", ")
    )
}

/// Adds what fixes what is wrong, right below the headline that says it. One command may fix two
/// things.
fn fix_lines(status: &Status, text: &mut String) {
    for one in &status.troubles {
        let line = format!("  fix: {}\n", fix(status, one));
        if one.level() == Level::Critical && !text.contains(&line) {
            text.push_str(&line);
        }
    }
}

/// Adds warnings with their fixes: the verdict may name one already.
fn trouble_lines(cx: &Context, status: &Status, text: &mut String) {
    for one in &status.troubles {
        if one.level() == Level::Warning && !text.contains(&trouble(one, status.now)) {
            let sign = cx.ui.out.yellow("!");
            text.push_str(&format!("  {sign} {}\n", trouble(one, status.now)));
            text.push_str(&format!("    fix: {}\n", one.fix()));
        }
    }
}

/// Returns the table of everything that was looked at, each with its level.
fn rows(cx: &Context, seen: &Seen) -> Vec<(Level, Vec<String>)> {
    let status = &seen.status;
    let mut rows: Vec<(Level, Vec<String>)> = Vec::new();
    for source in &status.sources {
        let (level, says) = source_words(cx, source);
        rows.push((level, vec![source.name.clone(), says]));
    }
    for path in &status.uncovered {
        let says = format!(
            "{} exists but no source covers it: bdr init",
            cx.shown_absolute(path)
        );
        rows.push((Level::Warning, vec!["not covered".to_owned(), says]));
    }
    rows.extend(storage(cx, seen));
    rows.extend(seen.space.iter().flat_map(space));
    rows.extend(seen.vault.as_ref().map(vault));
    rows.extend(status.remotes.iter().map(|one| remote(one, status.now)));
    for (name, says, fix) in &seen.keys_only_here {
        let title = format!("key of {name}");
        rows.push((Level::Warning, vec![title, format!("{says}: {fix}")]));
    }
    if let Some((dir, false)) = &seen.lifeboat
        && status.troubles.contains(&Trouble::NoLifeboat)
    {
        let dir = cx.shown_absolute(dir);
        let says =
            format!("nothing in {dir}: a deleted repository could not be restored: bdr doctor");
        rows.push((Level::Warning, vec!["lifeboat".to_owned(), says]));
    }
    if status.memory.pasts.backup.attempt.is_some() || status.scheduler.backend.is_some() {
        rows.push(scheduler(status));
    }
    rows.push((Level::Good, vec!["guards".to_owned(), guards(status)]));
    rows
}

/// Says what is at a destination, and what a loss of this machine would cost now.
fn remote(remote: &RemoteStatus, now: DateTime<Utc>) -> (Level, Vec<String>) {
    let troubles = remote.troubles(now).into_iter();
    let (not_there, least) = match remote.there {
        None | Some(There::Here) => ("", Level::Good),
        Some(There::Away) => ("; its disk is away now", Level::Warning),
        Some(There::Emptied) => (
            "; nothing of it is left there: its disk is not mounted, or somebody emptied it",
            Level::Warning,
        ),
        Some(There::Silent) => ("; it does not answer now", Level::Warning),
    };
    // A failure counts as trouble only if it lasts, and is no good news before that.
    let least = match remote.failed.is_some() {
        true => least.max(Level::Warning),
        false => least,
    };
    let level = troubles.map(|one| one.level()).fold(least, Level::max);
    let mut says = match remote.pushed {
        None => "nothing pushed yet: bdr push".to_owned(),
        Some(pushed) => format!(
            "{}, {}, pushed {}",
            plural(remote.snapshots, "snapshot"),
            size(remote.bytes),
            when::ago(now, pushed)
        ),
    };
    if let (Some(_), 1..) = (remote.pushed, remote.behind) {
        says.push_str(&format!(
            "; {} only here",
            plural(remote.behind, "newer snapshot")
        ));
    }
    says.push_str(not_there);
    if let Some(why) = &remote.failed {
        says.push_str(&format!("; the last push failed: {why}"));
    }
    if !remote.encrypted {
        says.push_str("; not encrypted");
    }
    if let Some(level) = remote.level {
        says.push_str(&format!("; {}", level.words()));
    }
    if let Some(last) = &remote.pruned {
        if let Some(done) = last.done {
            says.push_str(&format!("; pruned {}", when::ago(now, done)));
        }
        if last.waiting > 0 {
            says.push_str(&format!(", {} in its trash", size(last.waiting_bytes)));
        }
    }
    if let Some(why) = remote.prune_trouble(now) {
        says.push_str(&format!("; nothing is removed there: {why}"));
    }
    if let Some(purged) = &remote.purged {
        says.push_str(&format!(
            "; what was found to be secret {} is not deleted there yet",
            when::ago(now, purged.at)
        ));
        if purged.unseen > 0 {
            says.push_str(&format!(
                ", and {} that only it has were not looked at (bdr pull {}, bdr privacy rescan --purge)",
                plural(purged.unseen, "snapshot"),
                remote.name
            ));
        }
    }
    if remote.strangers > 0 {
        says.push_str(&format!(
            "; {} by somebody else",
            plural(remote.strangers, "record")
        ));
    }
    (level, vec![format!("to {}", remote.name), says])
}

/// Says where sealed values and their key are.
fn vault(vault: &super::VaultSeen) -> (Level, Vec<String>) {
    let (level, says) = match (&vault.trouble, &vault.unproven) {
        (Some(why), _) => (
            Level::Warning,
            format!("sealed values are not kept: {why}; restores keep the current values"),
        ),
        (None, Some(why)) => (Level::Warning, why.clone()),
        (None, None) => {
            let values = plural(vault.usage.0, "sealed value");
            let key = &vault.key;
            let command = "bdr vault export FILE";
            match (vault.only_here, vault.exported) {
                (0, _) => (
                    Level::Good,
                    format!("{values}, {}, key in a {key}", size(vault.usage.1)),
                ),
                // Who loses this machine loses these values.
                (_, None) => (
                    Level::Warning,
                    format!("{values}, key in a {key}; only on this machine: {command}"),
                ),
                (new, Some(_)) => (
                    Level::Warning,
                    format!(
                        "{values}, key in a {key}; {} since the last export: {command}",
                        count(new)
                    ),
                ),
            }
        }
    };
    (level, vec!["vault".to_owned(), says])
}

/// Returns the command that fixes a problem: if nothing woke bdr, another manual backup fixes
/// little.
pub(crate) fn fix(status: &Status, one: &Trouble) -> Cow<'static, str> {
    match (one, status.troubles.iter().find(|t| is_silent(t))) {
        (Trouble::Overdue { .. }, Some(silent)) => silent.fix(),
        _ => one.fix(),
    }
}

fn is_silent(one: &Trouble) -> bool {
    matches!(
        one,
        Trouble::NotWoken { .. } | Trouble::NotInstalled | Trouble::NoDaemon
    )
}

fn source_words(cx: &Context, source: &SourceStatus) -> (Level, String) {
    if !source.exists {
        let path = cx.shown_absolute(&source.path);
        return (Level::Critical, format!("there is no {path}"));
    }
    let files = plural(source.files, "file");
    let bytes = size(source.bytes);
    let mut says = format!("{files}, {bytes}");
    let mut level = Level::Good;
    match source.backed_up {
        None => {
            level = Level::Warning;
            says.push_str(", not backed up yet: bdr backup");
        }
        Some(_) if source.waiting == 0 => says.push_str(", all captured"),
        Some(_) => says.push_str(&format!(", {} changed since", count(source.waiting))),
    }
    if let Some(newest) = source.newest_change.filter(|_| source.waiting > 0) {
        says.push_str(&format!(" ({})", when::ago(cx.now, newest)));
    }
    let reasons: Vec<String> = source
        .left_out
        .iter()
        .map(|(reason, number)| format!("{} {reason}", count(*number)))
        .collect();
    if !reasons.is_empty() {
        says.push_str(&format!("; left out: {}", reasons.join(", ")));
    }
    let sealed = crate::app::backup::sealed_words(cx, &source.sealed);
    if !sealed.is_empty() {
        says.push_str(&format!("; sealed: {sealed}"));
    }
    (level, says)
}

fn storage(cx: &Context, seen: &Seen) -> Option<(Level, Vec<String>)> {
    let status = &seen.status;
    let storage = status.storage?;
    let mut says = String::new();
    if cx.ui.unicode {
        let line = sparkline(&growth(&seen.runs, 12));
        if !line.is_empty() {
            says = format!("{line}  ");
        }
    }
    says.push_str(&size(storage.used));
    if storage.max > 0 {
        says.push_str(&format!(" of {}", size(storage.max)));
    }
    if let Some(percent) = status.saved_percent.filter(|percent| *percent > 0) {
        says.push_str(&format!(", {percent} % smaller than the originals"));
    }
    if let Some(months) = months_left(seen) {
        says.push_str(&format!("; enough for {}", plural(months, "month")));
    }
    let level = if storage.is_tight() {
        Level::Warning
    } else {
        Level::Good
    };
    Some((level, vec!["storage".to_owned(), says]))
}

/// Returns what bdr takes besides the repository, each with the command that frees it.
fn space(space: &Space) -> Vec<(Level, Vec<String>)> {
    let rows = [
        (
            "trash",
            space.trash,
            "for a day; free it now: bdr prune --now",
        ),
        (
            "staging",
            space.staging,
            "kept by guards; pack it: bdr settle",
        ),
        (
            "staging",
            space.kept,
            "kept by guards; what goes when: bdr prune --dry-run",
        ),
        (
            "lifeboat",
            // A mark that was replaced, or the like, is not worth a row.
            if space.lifeboat < 1 << 20 {
                0
            } else {
                space.lifeboat
            },
            "of copies, and of files that the repository has no more",
        ),
        (
            "lifeboat",
            space.left,
            "of repositories that are gone: bdr prune --lifeboats",
        ),
    ];
    rows.into_iter()
        .filter(|(_, bytes, _)| *bytes > 0)
        .map(|(name, bytes, says)| {
            let says = format!("{} {says}", size(bytes));
            (Level::Good, vec![name.to_owned(), says])
        })
        .collect()
}

/// Returns sizes of the repository over time, oldest first, at most `points` of them.
pub(crate) fn growth(runs: &[Run], points: usize) -> Vec<u64> {
    let known: Vec<u64> = runs
        .iter()
        .map(|run| run.repository_bytes)
        .filter(|b| *b > 0)
        .collect();
    let step = known.len().div_ceil(points.max(1)).max(1);
    // From the end, so that the newest is included.
    let mut chosen: Vec<u64> = known.iter().rev().step_by(step).copied().collect();
    chosen.reverse();
    chosen
}

fn sparkline(values: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (Some(max), true) = (values.iter().max(), values.len() > 2) else {
        return String::new();
    };
    // Scaled to the maximum, not to the differences: a flat curve is flat.
    let bar = |value: &u64| BARS[(value.saturating_mul(7) / max.max(&1)).min(7) as usize];
    values.iter().map(bar).collect()
}

/// Returns for how many months the budget lasts, if the repository keeps growing as in the last 30
/// days.
pub(crate) fn months_left(seen: &Seen) -> Option<u64> {
    let storage = seen.status.storage.filter(|storage| storage.max > 0)?;
    let now = seen.status.now;
    let recent = |run: &&Run| run.repository_bytes > 0 && now - run.time < TimeDelta::days(30);
    let first = seen.runs.iter().find(recent)?;
    let days = (now - first.time).num_days();
    let grown = storage.used.checked_sub(first.repository_bytes)?;
    if days < 7 || grown == 0 {
        return None;
    }
    let left = storage.max.checked_sub(storage.used)?;
    let months = u128::from(left) * days.unsigned_abs() as u128 / 30 / u128::from(grown);
    // Beyond some years it is a guess.
    u64::try_from(months).ok().filter(|months| *months < 60)
}

fn scheduler(status: &Status) -> (Level, Vec<String>) {
    let ticked = status.memory.tick.as_ref();
    let woke = ticked.map(|tick| format!("last woke {}", when::ago(status.now, tick.time)));
    let mut says = match &status.scheduler.backend {
        Some(backend) => vec![backend_words(backend).to_owned()],
        None => vec!["not installed".to_owned()],
    };
    says.extend(woke);
    if status.rate.tried > 0 {
        let (succeeded, tried) = (status.rate.succeeded, status.rate.tried);
        says.push(format!(
            "{succeeded} of {tried} backups in 30 days succeeded"
        ));
    }
    let mut level = Level::Good;
    for one in &status.troubles {
        if matches!(
            one,
            Trouble::NoSchedule
                | Trouble::NotInstalled
                | Trouble::NotWoken { .. }
                | Trouble::NoDaemon
                | Trouble::Moved
                | Trouble::NotLingering
        ) {
            level = Level::Warning;
        }
    }
    if status.memory.pasts.of(Job::Backup).failures > 0 {
        level = Level::Warning;
    }
    (level, vec!["scheduler".to_owned(), says.join(", ")])
}

/// Returns the name of a scheduler.
pub(crate) fn backend_words(backend: &str) -> &str {
    match backend {
        "systemd" => "systemd user timer",
        "launchd" => "launchd agent",
        "schtasks" => "Task Scheduler",
        other => other,
    }
}

fn guards(status: &Status) -> String {
    use bdr::repo::oplog::OperationKind;
    let week = |time: DateTime<Utc>| status.now - time < TimeDelta::days(7);
    let guards = status
        .operations
        .iter()
        .filter(|op| op.begin.kind == OperationKind::Guard && week(op.begin.time));
    let (mut all, mut undone) = (0, 0);
    for operation in guards {
        all += 1;
        undone += u64::from(operation.undone_by.is_some());
    }
    // Only this many are checked.
    let more =
        if status.operations.len() > 20 && status.operations.iter().all(|op| week(op.begin.time)) {
            "+"
        } else {
            ""
        };
    let mut text = match all {
        0 => "none this week".to_owned(),
        _ => format!("{}{more} this week", ui::count(all)),
    };
    if undone > 0 {
        text.push_str(&format!(", {} undone", ui::count(undone)));
    }
    text
}
