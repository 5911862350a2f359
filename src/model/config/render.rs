//! Writes a configuration with comments.

use std::fmt::Write as _;
use std::path::Path;

use super::{
    Config, GuardConfig, HooksConfig, McpConfig, NotifyConfig, OnFail, PrivacyConfig, Remote,
    VaultKey,
};
use crate::base::error::{Error, Result};
use crate::model::retention::{COUNTS, Policy};
use crate::model::schedule::{Schedule, day_word, every_word};

pub(super) fn render(config: &Config, home: Option<&Path>) -> Result<String> {
    let mut out = String::from(
        "# What bdr keeps, and how. Change it and run: bdr config check\n\
         # Paths are absolute or begin with ~/. Sizes: 512M, 250G.\n\n",
    );
    match &config.repository {
        Some(path) => line(
            &mut out,
            format_args!("repository = {}", path_text(path, home)?),
        ),
        None => out.push_str("# repository = \"~/.local/share/bdr\"   # where backups are kept\n"),
    }
    if !config.not_covered.is_empty() {
        let paths: Result<Vec<String>> = config
            .not_covered
            .iter()
            .map(|path| path_text(path, home))
            .collect();
        let paths = paths?.join(", ");
        line(
            &mut out,
            format_args!(
                "not_covered = [{paths}]   # not backed up on purpose; bdr exclude PATH adds"
            ),
        );
    }
    out.push_str(
        "\n# Each source is a directory or a file.\n\
         #   include      only these paths below it, each with everything in it; patterns: docs/**/*.md\n\
         #   exclude      not these: `*.log` is a name at any depth, `/cache` or `a/b` a path below the source\n\
         #   rebuildable  true: also node_modules, target, .venv, caches and the like\n\
         #   one_file_system  true: not what is mounted below it\n\
         #   criticality  \"irreplaceable\" (default) or \"tedious\" to recreate\n",
    );
    for source in &config.sources {
        line(&mut out, format_args!("\n[source.{}]", key(&source.name)));
        line(
            &mut out,
            format_args!("path = {}", path_text(&source.path, home)?),
        );
        list(&mut out, "include", &source.rules.include);
        list(&mut out, "exclude", &source.rules.exclude);
        if source.rules.rebuildable {
            out.push_str("rebuildable = true\n");
        }
        if source.rules.one_file_system {
            out.push_str("one_file_system = true\n");
        }
        line(
            &mut out,
            format_args!("criticality = \"{}\"", source.criticality.word()),
        );
    }
    guard(&mut out, &config.guard);
    if config.hooks != HooksConfig::default() {
        out.push_str("\n# Agent hooks also snapshot before MCP tools whose names contain one of these.\n[hooks]\n");
        line(&mut out, format_args!("mcp_tools = ["));
        for word in &config.hooks.mcp_tools {
            line(&mut out, format_args!("    {},", quoted(word)));
        }
        out.push_str("]\n");
    }
    if config.mcp != McpConfig::default() {
        out.push_str("\n# MCP calls that replace files when the user cannot be asked: \"snapshot\" (save them first), \"plan\" (only after a dry run), \"deny\".\n[mcp]\n");
        line(
            &mut out,
            format_args!("unattended = \"{}\"", config.mcp.unattended.word()),
        );
    }
    retention(&mut out, &config.retention);
    schedule(&mut out, config.schedule.as_ref());
    notify(&mut out, &config.notify, home)?;
    privacy(&mut out, &config.privacy);
    remotes(&mut out, &config.remotes);
    Ok(out)
}

fn remotes(out: &mut String, remotes: &[Remote]) {
    for (at, remote) in remotes.iter().enumerate() {
        if at == 0 {
            out.push_str("\n# Where backups are pushed to: bdr remote add NAME URL. Credentials are never here.");
        }
        line(out, format_args!("\n[remote.{}]", key(&remote.name)));
        line(out, format_args!("url = {}", quoted(&remote.url)));
        match remote.recipients.is_empty() {
            true => out.push_str("encrypt = false\n"),
            false => list(out, "recipients", &remote.recipients),
        }
        if let Some(limit) = remote.limit {
            line(out, format_args!("limit = \"{limit}\"    # bytes a second"));
        }
        if !remote.automatic {
            out.push_str("automatic = false    # only by bdr push\n");
        }
        if !remote.sync.is_empty() {
            list(out, "sync", &remote.sync);
        }
        for (key, value) in remote.keep.iter().flat_map(keep_lines) {
            line(out, format_args!("{key} = {value}"));
        }
    }
}

/// Returns the keys and values with which a destination says what stays there.
pub fn keep_lines(policy: &Policy) -> Vec<(&'static str, String)> {
    let counts = COUNTS.iter().map(|rule| (rule.key, (rule.of)(policy)));
    let counts = counts.filter(|(_, count)| *count > 0);
    let mut lines: Vec<(&'static str, String)> = counts
        .map(|(key, count)| (key, count.to_string()))
        .collect();
    if let Some(within) = policy.within {
        lines.push(("keep_within", format!("\"{}\"", span_text(within))));
    }
    if !policy.tags.is_empty() {
        let tags: Vec<String> = policy.tags.iter().map(|tag| quoted(tag)).collect();
        lines.push(("keep_tags", format!("[{}]", tags.join(", "))));
    }
    lines
}

fn schedule(out: &mut String, schedule: Option<&Schedule>) {
    let Some(schedule) = schedule else {
        out.push_str("\n# Automatic backups: bdr schedule install\n");
        return;
    };
    let default = Schedule::default();
    let mark = |changed: bool| if changed { "" } else { "# " };
    out.push_str(
        "\n# Automatic backups, in local time; bdr schedule install registers them.\n[schedule]\n",
    );
    line(
        out,
        format_args!("at = \"{}\"", schedule.at.format("%H:%M")),
    );
    if schedule.every.is_some() {
        let word = every_word(schedule.every);
        line(
            out,
            format_args!("every = \"{word}\"    # from one backup to the next; or \"daily\""),
        );
    }
    for (key, day, usual, about) in [
        ("full", schedule.full, default.full, "a full backup, weekly"),
        (
            "drill",
            schedule.drill,
            default.drill,
            "a restore drill, weekly",
        ),
    ] {
        let (mark, word) = (mark(day != usual), day_word(day));
        line(
            out,
            format_args!("{mark}{key} = \"{word}\"    # {about}; or \"never\""),
        );
    }
    line(
        out,
        format_args!(
            "{}max_age = \"{}\"    # of the last backup, before you are told",
            mark(schedule.max_age != default.max_age),
            span_text(schedule.max_age)
        ),
    );
}

fn notify(out: &mut String, notify: &NotifyConfig, home: Option<&Path>) -> Result<()> {
    if *notify == NotifyConfig::default() {
        return Ok(());
    }
    out.push_str("\n# Who gets a message when backups fail or stop, and when they work again: bdr notify --test\n[notify]\n");
    if notify.desktop {
        out.push_str("desktop = true\n");
    }
    for (key, url) in [
        ("healthchecks", &notify.healthchecks),
        ("ntfy", &notify.ntfy),
        ("webhook", &notify.webhook),
    ] {
        if let Some(url) = url {
            line(out, format_args!("{key} = {}", quoted(url)));
        }
    }
    list(out, "command", &notify.command);
    if let Some(path) = &notify.prometheus {
        line(out, format_args!("prometheus = {}", path_text(path, home)?));
    }
    Ok(())
}

fn privacy(out: &mut String, privacy: &PrivacyConfig) {
    if *privacy == PrivacyConfig::default() {
        return;
    }
    out.push_str("\n# Secrets and patient data that are never stored in the clear: bdr scan, docs/privacy.md\n[privacy]\n");
    line(
        out,
        format_args!("profile = {}", quoted(privacy.profile.word())),
    );
    if privacy.vault != VaultKey::default() {
        line(
            out,
            format_args!("vault = {}", quoted(privacy.vault.word())),
        );
    }
    if privacy.seal_published {
        line(
            out,
            format_args!("published = false     # what a remote has already is sealed, too"),
        );
    }
    list(out, "allow", &privacy.allow);
}

fn guard(out: &mut String, guard: &GuardConfig) {
    let default = GuardConfig::default();
    // A value that equals the default stays a comment, so that everybody gets a better default.
    let mark = |changed: bool| if changed { "" } else { "# " };
    out.push_str("\n[guard]\n");
    line(
        out,
        format_args!(
            "{}on_fail = \"{}\"     # when the snapshot fails: block, ask, run",
            mark(guard.on_fail != OnFail::Block),
            guard.on_fail.word()
        ),
    );
    line(
        out,
        format_args!(
            "{}max_bytes = {}    # new bytes that one guard may store",
            mark(guard.max_bytes != default.max_bytes),
            size_text(guard.max_bytes)
        ),
    );
    line(
        out,
        format_args!(
            "{}max_files = {}    # files that a workspace may have",
            mark(guard.max_files != default.max_files),
            guard.max_files
        ),
    );
    line(
        out,
        format_args!(
            "{}max_kept = {}     # bytes that one guard may keep as hard links instead of storing them",
            mark(guard.max_kept != default.max_kept),
            size_text(guard.max_kept)
        ),
    );
    line(
        out,
        format_args!(
            "{}capture = \"{}\"    # keep what each call destroys (Linux): auto, only, off",
            mark(guard.capture != default.capture),
            guard.capture.word()
        ),
    );
    line(
        out,
        format_args!(
            "{}summary = \"{}\"    # printed after the command: auto, always, never, json",
            mark(guard.summary != default.summary),
            guard.summary.word()
        ),
    );
    list(out, "rules", &guard.rules);
}

fn retention(out: &mut String, policy: &Policy) {
    let default = Policy::default();
    let mark = |changed: bool| if changed { "" } else { "# " };
    out.push_str("\n[retention]\n");
    for rule in &COUNTS {
        let (value, about) = ((rule.of)(policy), rule.about);
        let mark = mark(value != (rule.of)(&default));
        line(
            out,
            format_args!("{mark}{} = {value}    # {about}", rule.key),
        );
    }
    if let Some(within) = policy.within {
        line(out, format_args!("keep_within = \"{}\"", span_text(within)));
    }
    list(out, "keep_tags", &policy.tags);
    line(
        out,
        format_args!(
            "{}guard_within = \"{}\"    # how long a guarded command can be undone",
            mark(policy.guard_within != default.guard_within),
            span_text(policy.guard_within)
        ),
    );
    line(
        out,
        format_args!(
            "{}guard_bytes = {}    # bytes that guard snapshots may take",
            mark(policy.guard_bytes != default.guard_bytes),
            size_text(policy.guard_bytes)
        ),
    );
    line(
        out,
        format_args!(
            "{}max_size = {}    # bytes that the repository may take; 0: any number, \"auto\": by the disk's free space",
            mark(policy.max_bytes != default.max_bytes),
            policy
                .max_bytes
                .map_or_else(|| "\"auto\"".to_owned(), size_text)
        ),
    );
}

fn span_text(span: chrono::TimeDelta) -> String {
    match span.num_hours() {
        hours if hours % 24 == 0 => format!("{}d", hours / 24),
        hours => format!("{hours}h"),
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

fn list(out: &mut String, name: &str, items: &[String]) {
    if items.is_empty() {
        return;
    }
    line(out, format_args!("{name} = ["));
    for item in items {
        line(out, format_args!("    {},", quoted(item)));
    }
    out.push_str("]\n");
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn key(name: &str) -> String {
    // `.` is the only character in names of sources that a bare key cannot have.
    if name.contains('.') {
        quoted(name)
    } else {
        name.to_owned()
    }
}

fn size_text(bytes: u64) -> String {
    for (shift, unit) in [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("\"{}{unit}\"", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Returns a path as a TOML string, with `~` for `home`.
///
/// # Errors
/// It is not UTF-8.
pub fn path_text(path: &Path, home: Option<&Path>) -> Result<String> {
    let text = path.to_str().ok_or_else(|| {
        let shown = crate::base::path::show(path.as_os_str());
        let hint = "name a directory above it: names inside a source can be anything";
        Error::invalid(
            format!("`{shown}` is not UTF-8 and cannot be in the configuration"),
            Some(hint),
        )
    })?;
    let below = home
        .filter(|h| h.parent().is_some())
        .and_then(|h| path.strip_prefix(h).ok());
    Ok(match below.and_then(Path::to_str) {
        Some("") => quoted("~"),
        Some(rest) => quoted(&format!("~/{rest}")),
        // A directory that is really called `~x` is absolute here, so it cannot be misread.
        None => quoted(text),
    })
}
