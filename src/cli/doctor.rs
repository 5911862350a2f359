//! `bdr doctor`: checks everything on which protection depends, and names the command that fixes
//! it.

use std::path::Path;

use bdr::Error;
use bdr::disk::fsutil;
use bdr::model::config::CaptureMode;
use bdr::repo::Repository;
use bdr::repo::oplog::OperationKind;
use chrono::TimeDelta;
use clap::Args;

use crate::app::context::{Context, read_config, variable};
use crate::app::documents::{DoctorDocument, FindingDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::guard::uncaptured;
use crate::ui::{plural, when};

/// Less free space than this, in bytes, is a warning, and a tenth of it a failure.
const LOW_BYTES: u64 = 1 << 30;

/// Check everything that bdr depends on
///
/// Checks repository, permissions, free space, clock, cache, hooks and configuration. Each problem comes with the command that
/// fixes it. The exit code is 1 if something is broken, and 0 for warnings.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr doctor
  bdr doctor --json")]
pub(crate) struct DoctorArgs {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Good,
    Warning,
    Bad,
}

struct Finding {
    check: &'static str,
    health: Health,
    says: String,
    fix: Option<String>,
}

impl Finding {
    fn good(check: &'static str, says: impl Into<String>) -> Self {
        Self {
            check,
            health: Health::Good,
            says: says.into(),
            fix: None,
        }
    }

    fn warning(check: &'static str, says: impl Into<String>, fix: &str) -> Self {
        Self {
            check,
            health: Health::Warning,
            says: says.into(),
            fix: Some(fix.to_owned()),
        }
    }

    fn bad(check: &'static str, says: impl Into<String>, fix: &str) -> Self {
        Self {
            check,
            health: Health::Bad,
            says: says.into(),
            fix: Some(fix.to_owned()),
        }
    }
}

pub(crate) fn run(cx: &Context, _: &DoctorArgs) -> Result<u8, Failure> {
    let mut findings = vec![configuration(cx)];
    match cx.repository() {
        Ok(repo) => {
            let place = cx.shown_absolute(repo.location());
            findings.push(Finding::good("repository", place));
            findings.push(writable(cx, &repo));
            findings.extend(permissions(cx, repo.location()));
            findings.push(snapshots(cx, &repo));
            findings.push(operations(cx, &repo));
            findings.extend(leftovers(repo.location()));
            findings.push(lifeboat(cx, repo.location()));
            findings.push(binding(&repo));
        }
        Err(failure) => {
            let fix = failure.hint().unwrap_or_else(|| "bdr init".to_owned());
            findings.push(Finding::bad("repository", failure.message(), &fix));
        }
    }
    findings.extend(space(cx));
    findings.push(cache(cx));
    findings.extend(destination_keys(cx));
    findings.push(scheduler(cx));
    findings.push(git());
    findings.push(capture(cx));
    findings.extend(hooks(cx));
    let bad = findings.iter().any(|f| f.health == Health::Bad);
    let code = if bad { exit::FAILURE } else { exit::OK };
    if cx.ui.json {
        cx.ui.document("doctor", code, &document(findings))?;
        return Ok(code);
    }
    let width = findings.iter().map(|f| f.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in &findings {
        let sign = match finding.health {
            Health::Good => cx.ui.out.green("✓"),
            Health::Warning => cx.ui.out.yellow("!"),
            Health::Bad => cx.ui.out.red("✗"),
        };
        text.push_str(&format!(
            "{sign} {:<width$}  {}\n",
            finding.check, finding.says
        ));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("  {:<width$}  fix: {fix}\n", ""));
        }
    }
    if bad || !cx.ui.quiet {
        cx.ui.data(&text)?;
    }
    Ok(code)
}

/// A destination whose key is lost with this machine is no backup of it.
fn destination_keys(cx: &Context) -> Vec<Finding> {
    let remotes = cx.config.remotes.iter();
    let open = remotes.clone();
    let open = open.filter_map(|remote| crate::app::secrets::open_to_others(cx, remote));
    let warnings = remotes.filter_map(|remote| crate::app::secrets::warning(cx, remote));
    open.chain(warnings)
        .map(|(says, fix)| Finding::warning("keys", says, &fix))
        .collect()
}

/// Checks what is installed, and makes each program answer as its host would.
fn hooks(cx: &Context) -> Vec<Finding> {
    use super::hooks::{health, self_test};
    const CHECK: &str = "hooks";
    let mut findings = Vec::new();
    let mut well: std::collections::BTreeMap<String, u64> = std::collections::BTreeMap::new();
    let mut tested = std::collections::HashMap::new();
    let all = match health(cx) {
        Ok(all) => all,
        Err(failure) => {
            let fix = failure.hint().unwrap_or_default();
            return vec![Finding::warning(CHECK, failure.message(), &fix)];
        }
    };
    for one in all {
        let seen = one.seen;
        let target = seen.target.clone();
        if let Some((why, fix)) = one.trouble {
            let place = cx.shown_absolute(&seen.file);
            findings.push(Finding::warning(
                CHECK,
                format!("{target}: {why} ({place})"),
                &fix,
            ));
            continue;
        }
        let said = tested
            .entry((target.clone(), seen.program.clone()))
            .or_insert_with(|| self_test(&seen));
        match said {
            Ok(()) => *well.entry(target).or_default() += 1,
            Err(why) => {
                let fix = format!("bdr hooks install {target}");
                findings.push(Finding::warning(CHECK, format!("{target}: {why}"), &fix));
            }
        }
    }
    if !well.is_empty() {
        let names: Vec<&str> = well.keys().map(String::as_str).collect();
        findings.push(Finding::good(
            CHECK,
            format!("{} call bdr", names.join(", ")),
        ));
    } else if findings.is_empty() {
        findings.push(Finding::good(
            CHECK,
            "none: `bdr hooks install all` connects shells, git and agents",
        ));
    }
    findings
}

fn scheduler(cx: &Context) -> Finding {
    let found = crate::app::schedule::scheduler(cx, true);
    let memory = cx.journal().seen();
    let trouble = bdr::care::status::scheduler_troubles(&cx.config, &memory, &found, cx.now);
    match (trouble, found.backend) {
        (Some(trouble), _) => {
            let says = crate::app::status::words::trouble(&trouble, cx.now);
            Finding::warning("schedule", says, &trouble.fix())
        }
        (None, Some(backend)) => Finding::good(
            "schedule",
            crate::app::status::words::backend_words(&backend),
        ),
        (None, None) => Finding::good("schedule", "none"),
    }
}

fn configuration(cx: &Context) -> Finding {
    let shown = cx.shown_absolute(&cx.places.config);
    match read_config(&cx.places.config, cx.home.as_deref()) {
        Err(failure) => {
            let fix = failure
                .hint()
                .unwrap_or_else(|| format!("edit {shown}, then: bdr config check"));
            Finding::bad("configuration", failure.message(), &fix)
        }
        Ok(config) if config.sources.is_empty() => {
            let says =
                "no source: guards cover only the project around them, and `bdr backup` nothing";
            Finding::warning("configuration", says, "bdr init")
        }
        Ok(config) if !config.useless.is_empty() => {
            let first = &config.useless[0];
            let says = format!("source `{}`: {}", first.source, first.message);
            Finding::warning("configuration", says, &first.hint)
        }
        Ok(config) => {
            let missing: Vec<&str> = config
                .sources
                .iter()
                .filter(|s| s.path.metadata().is_err())
                .map(|s| s.name.as_str())
                .collect();
            if missing.is_empty() {
                let sources = plural(config.sources.len() as u64, "source");
                return Finding::good("configuration", format!("{shown}, {sources}"));
            }
            let says = format!("missing: {}", missing.join(", "));
            Finding::warning(
                "configuration",
                says,
                &format!("correct the paths in {shown}"),
            )
        }
    }
}

/// By its key this machine distinguishes its own records from those that somebody else wrote into
/// the repository.
fn binding(repo: &Repository) -> Finding {
    const CHECK: &str = "own records";
    match repo.vault().binding_key() {
        Ok(Some(key)) => Finding::good(CHECK, format!("bound by key {key}")),
        Ok(None) => {
            let says =
                "no key: bdr cannot tell which records this machine wrote and which others did";
            Finding::warning(CHECK, says, "bdr backup makes one")
        }
        Err(error) => {
            let fix = error.hint().unwrap_or_else(|| "bdr verify".to_owned());
            Finding::warning(CHECK, error.to_string(), &fix)
        }
    }
}

fn lifeboat(cx: &Context, repository: &Path) -> Finding {
    const CHECK: &str = "lifeboat";
    match cx.places.lifeboat(repository) {
        Some(lifeboat) if lifeboat.is_manned() => {
            Finding::good(CHECK, bdr::base::path::show(lifeboat.dir().as_os_str()))
        }
        Some(lifeboat) => {
            let dir = bdr::base::path::show(lifeboat.dir().as_os_str());
            let place = lifeboat.dir().parent().unwrap_or(lifeboat.dir());
            let taken =
                place.symlink_metadata().is_ok() && !bdr::disk::fsutil::is_private_dir(place);
            let (why, fix) = match taken {
                true => (
                    ", as it belongs to somebody else or others can write to it",
                    "set BDR_LIFEBOAT=DIR to use another place",
                ),
                false => (
                    "",
                    "bdr backup, or set BDR_LIFEBOAT=DIR to use another place",
                ),
            };
            let says = format!("nothing in {dir}{why}: a deleted repository could not be restored");
            Finding::warning(CHECK, says, fix)
        }
        None => Finding::good(CHECK, "none: it is turned off"),
    }
}

/// Opens the lock for writing, which tries the permissions instead of guessing them.
fn writable(cx: &Context, repo: &Repository) -> Finding {
    if let Err(error) = repo.check_writable() {
        return Finding::bad(
            "writing",
            error.to_string(),
            &error.hint().unwrap_or_default(),
        );
    }
    let dir = repo.location();
    match tempfile::tempfile_in(dir.join("tmp")).or_else(|_| tempfile::tempfile_in(dir)) {
        Ok(_) => Finding::good("writing", "the repository is writable"),
        Err(error) => {
            let fix = format!(
                "make it yours again: chown -R \"$USER\" {}",
                cx.shown_absolute(dir)
            );
            Finding::bad(
                "writing",
                format!("the repository is not writable: {error}"),
                &fix,
            )
        }
    }
}

#[cfg(unix)]
fn permissions(cx: &Context, dir: &Path) -> Option<Finding> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = dir.metadata().ok()?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Some(Finding::good(
            "permissions",
            "only you can read the repository",
        ));
    }
    let fix = format!("chmod 700 {}", cx.shown_absolute(dir));
    Some(Finding::warning(
        "permissions",
        format!("other users can read the repository (mode {mode:03o})"),
        &fix,
    ))
}

#[cfg(not(unix))]
fn permissions(_: &Context, _: &Path) -> Option<Finding> {
    None
}

fn snapshots(cx: &Context, repo: &Repository) -> Finding {
    let snapshots = match repo.snapshots() {
        Ok(snapshots) => snapshots,
        Err(error) => return Finding::bad("snapshots", error.to_string(), "bdr verify"),
    };
    let Some(newest) = snapshots.last() else {
        return Finding::warning("snapshots", "there is none", "bdr backup");
    };
    let ahead = |s: &&bdr::repo::snapshot::Snapshot| s.time > cx.now + TimeDelta::minutes(5);
    if let Some(ahead) = snapshots.iter().rev().find(ahead) {
        let ids = repo.snapshot_ids().unwrap_or_default();
        let says = format!(
            "snapshot {} is from the future ({}): a clock is or was wrong",
            ahead.id.prefix(&ids),
            when::local(ahead.time)
        );
        return Finding::warning("clock", says, "check the clock: date");
    }
    let damaged = repo
        .snapshot_names()
        .map_or(0, |names| names.len().saturating_sub(snapshots.len()));
    if damaged > 0 {
        let records = plural(damaged as u64, "snapshot record");
        return Finding::bad(
            "snapshots",
            format!("{records} cannot be read"),
            "bdr verify",
        );
    }
    let found = cx.journal().memory().damage;
    if found > 0 {
        let found = plural(found, "damaged object");
        let says = format!("the last verification found {found}, not mended since");
        return Finding::bad("snapshots", says, "bdr repair");
    }
    let count = plural(snapshots.len() as u64, "snapshot");
    Finding::good(
        "snapshots",
        format!("{count}, the newest {}", when::ago(cx.now, newest.time)),
    )
}

fn operations(cx: &Context, repo: &Repository) -> Finding {
    match bdr::recover::restore::interrupted(repo) {
        Ok(Some(_)) => {
            let says = "a restore was interrupted";
            return Finding::warning("operations", says, "bdr restore --resume (or --abort)");
        }
        Ok(None) => {}
        Err(error) => return Finding::bad("operations", error.to_string(), "bdr verify"),
    }
    let operations = match repo.operations() {
        Ok(operations) => operations,
        Err(error) => return Finding::bad("operations", error.to_string(), "bdr verify"),
    };
    let open = operations
        .iter()
        .filter(|o| o.end.is_none() && !repo.is_running(&o.begin, cx.now))
        .filter(|o| o.begin.kind == OperationKind::Guard)
        .count();
    let count = plural(operations.len() as u64, "operation");
    if open > 0 {
        return Finding::good(
            "operations",
            format!("{count}, {open} unfinished (bdr undo works for them too)"),
        );
    }
    Finding::good("operations", count)
}

/// The next backup sweeps temporary files; many of them mean that backups do not get that far.
fn leftovers(dir: &Path) -> Option<Finding> {
    let left = fsutil::read_dir(dir.join("tmp")).ok()?.count();
    (left > 8).then(|| {
        let files = plural(left as u64, "temporary file");
        Finding::warning(
            "leftovers",
            format!("{files} of interrupted runs"),
            "bdr backup",
        )
    })
}

fn space(cx: &Context) -> Option<Finding> {
    let dir = cx.places.repository.ancestors().find(|dir| dir.exists())?;
    let free = fsutil::free_bytes(dir)?;
    let says = format!("{} free", bdr::base::units::size(free));
    let fix = "free some space, or move the repository: bdr config path --repository";
    Some(match free {
        _ if free < LOW_BYTES / 10 => Finding::bad("space", says, fix),
        _ if free < LOW_BYTES => Finding::warning("space", says, fix),
        _ => Finding::good("space", says),
    })
}

fn cache(cx: &Context) -> Finding {
    let dir = &cx.places.cache;
    let shown = cx.shown_absolute(dir);
    let made = fsutil::create_dir_private(dir)
        .and_then(|()| tempfile::tempfile_in(dir).map_err(|e| Error::io("write in", dir, e)));
    match made {
        Ok(_) => Finding::good("cache", shown),
        Err(error) => {
            let says = format!("{error}: every run reads everything again");
            Finding::warning("cache", says, &format!("make it writable: {shown}"))
        }
    }
}

/// Says how guards protect here: what they can do, and what they are set to.
fn capture(cx: &Context) -> Finding {
    const CHECK: &str = "capture";
    let set = cx.config.guard.capture;
    let set_to = format!("`capture` is `{}`", set.word());
    // Without that right, the kernel takes the filter only from programs that gain none.
    let except = match fsutil::is_root() {
        true => "",
        false => ", but not with programs like `sudo`",
    };
    match (uncaptured::works_here(cx), set) {
        (Ok(()), CaptureMode::Off) => Finding::good(
            CHECK,
            format!(
                "off, and works here{except}: `bdr config set guard.capture auto` turns it on again"
            ),
        ),
        (Ok(()), _) => Finding::good(
            CHECK,
            format!("{set_to}: guards keep what each call destroys, in all places{except}"),
        ),
        (Err(why), CaptureMode::Off) => Finding::good(
            CHECK,
            format!("off, and does not work here ({why}): guards take a snapshot first"),
        ),
        (Err(why), CaptureMode::Auto) => Finding::warning(
            CHECK,
            format!("{set_to}, but does not work here ({why}): guards take a snapshot first"),
            "in a container, allow the system call seccomp; if it is meant to be so: bdr config set guard.capture off",
        ),
        (Err(why), CaptureMode::Only) => Finding::bad(
            CHECK,
            format!("{set_to}, but does not work here ({why}): guards run nothing"),
            "bdr config set guard.capture auto",
        ),
    }
}

fn git() -> Finding {
    let found = variable("PATH").is_some_and(|path| {
        std::env::split_paths(&path)
            .any(|dir| dir.join("git").is_file() || dir.join("git.exe").is_file())
    });
    if found {
        Finding::good("git", "found")
    } else {
        Finding::warning(
            "git",
            "not on PATH; only commands that call it need it",
            "install git",
        )
    }
}

fn document(findings: Vec<Finding>) -> DoctorDocument {
    let one = |finding: Finding| FindingDocument {
        check: finding.check,
        health: match finding.health {
            Health::Good => "good",
            Health::Warning => "warning",
            Health::Bad => "bad",
        },
        message: finding.says,
        fix: finding.fix,
    };
    DoctorDocument {
        findings: findings.into_iter().map(one).collect(),
    }
}
