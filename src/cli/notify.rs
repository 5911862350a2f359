//! `bdr notify`: tells somebody, when the state of things changes. Never fails what it speaks of.

use bdr::care::alerts::{Alert, decide, state};
use bdr::care::runs::{Memory, Said};
use bdr::care::status::{Level, Trouble, troubles};
use bdr::model::config::NotifyConfig;
use bdr::model::schedule::Job;
use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::error::Failure;
use super::exit;
use super::status::words;
use crate::ui::{plural, when};

mod channels;
mod desktop;
mod metrics;

use channels::Sent;

/// Tell somebody how backups are, if that has changed
///
/// Who is told is in [notify] of the configuration: desktop, healthchecks, ntfy, webhook, command, prometheus. Runs by itself after each
/// backup and each wake-up; by hand it is for trying out. A message says what is wrong and the command that mends it, never a path or a
/// value.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr notify --test       send a message to everybody now
  bdr notify --dry-run    print what would be sent

bdr config set notify.desktop true
bdr config set notify.webhook https://example.com/hook")]
pub(crate) struct NotifyArgs {
    /// Send a message to everybody now
    #[arg(long)]
    test: bool,
    /// Print what would be sent; send nothing
    #[arg(long)]
    dry_run: bool,
}

/// What is sent.
pub(super) struct Message {
    pub(super) level: Level,
    pub(super) title: String,
    pub(super) body: String,
    pub(super) json: Value,
}

pub(crate) fn run(cx: &Context, args: &NotifyArgs) -> Result<u8, Failure> {
    let config = &cx.config.notify;
    if args.test {
        if *config == NotifyConfig::default() {
            let message = "nobody is to be told: [notify] in the configuration is empty";
            return Err(Failure::usage(
                message,
                "bdr config set notify.desktop true",
            ));
        }
        let message = test_message(cx);
        return match args.dry_run {
            true => show(cx, Some(&message)),
            false => report(cx, &channels::send(cx, config, &message)),
        };
    }
    let memory = cx.journal().seen();
    let alert = decide(
        &memory.said,
        &remembered(cx, &memory),
        memory.newly_excluded,
        cx.now,
    );
    let message = alert.as_ref().map(|alert| message(cx, alert));
    if args.dry_run {
        return show(cx, message.as_ref());
    }
    let sent = tell(cx);
    report(cx, &sent)
}

fn remembered(cx: &Context, memory: &Memory) -> Vec<Trouble> {
    let max = cx.config.retention.max_bytes;
    troubles(cx.config.schedule.as_ref(), memory, max, None, cx.now)
}

/// Tells of a change, if there is one. Nothing that goes wrong here is a reason for anything else to fail.
pub(crate) fn tell(cx: &Context) -> Vec<Sent> {
    let config = &cx.config.notify;
    if *config == NotifyConfig::default() {
        return Vec::new();
    }
    let journal = cx.journal();
    let memory = journal.seen();
    if let Some(path) = &config.prometheus {
        metrics::write(cx, path, &memory);
    }
    let troubles = remembered(cx, &memory);
    let Some(alert) = decide(&memory.said, &troubles, memory.newly_excluded, cx.now) else {
        return Vec::new();
    };
    let sent = channels::send(cx, config, &message(cx, &alert));
    // Where it reached nobody, the next run tries again.
    if sent.is_empty() || sent.iter().any(|sent| sent.error.is_none()) {
        let said = Said {
            trouble: state(&troubles),
            at: Some(cx.now),
        };
        let _ = journal.update(|memory| {
            memory.said = said;
            memory.newly_excluded = memory.newly_excluded.saturating_sub(alert.newly_excluded);
        });
    }
    for failed in &sent {
        if let Some(error) = &failed.error {
            cx.ui
                .say(&format!("bdr: could not tell {}: {error}", failed.channel));
        }
    }
    sent
}

/// Tells the service that counts on it that a job begins, or how it ended.
pub(crate) fn ping(cx: &Context, job: Job, ended: Option<bool>) {
    if let Some(url) = cx.config.notify.healthchecks.as_deref()
        && matches!(job, Job::Backup | Job::Full)
        && let Some(error) = channels::ping(url, ended).error
    {
        cx.ui
            .say(&format!("bdr: could not tell healthchecks: {error}"));
    }
}

fn message(cx: &Context, alert: &Alert) -> Message {
    let mut says: Vec<String> = alert
        .troubles
        .iter()
        .map(|trouble| words::trouble(trouble, cx.now))
        .collect();
    let excluded = alert.newly_excluded;
    if excluded > 0 {
        let files = plural(excluded, "more file");
        says.push(format!(
            "{files} with secrets or patient data: the content is not in the backup"
        ));
    }
    let (title, mut body) = match alert.level {
        Level::Good => (
            "bdr: backups work again".to_owned(),
            "All is well.".to_owned(),
        ),
        Level::Warning => (
            "bdr: look at your backups".to_owned(),
            format!("{}.", says.join("; ")),
        ),
        Level::Critical => (
            "bdr: not protected".to_owned(),
            format!("{}.", says.join("; ")),
        ),
    };
    match alert.troubles.first() {
        Some(worst) => body.push_str(&format!(" Fix: {}", worst.fix())),
        None if excluded > 0 => body.push_str(" Which they are: bdr status"),
        None => {}
    }
    let mut troubles: Vec<Value> = alert
        .troubles
        .iter()
        .zip(&says)
        .map(|(t, says)| json!({"code": t.word(), "level": t.level().word(), "message": says, "fix": t.fix()}))
        .collect();
    if let Some(message) = says.get(alert.troubles.len()) {
        let level = Level::Warning.word();
        troubles.push(
            json!({"code": "newly-excluded", "level": level, "message": message, "fix": "bdr status", "files": excluded}),
        );
    }
    assemble(cx, alert.level, title, body, troubles.into(), false)
}

fn test_message(cx: &Context) -> Message {
    let body = "This is a test. You will hear when backups fail or stop, and when they work again.";
    assemble(
        cx,
        Level::Good,
        "bdr: test".to_owned(),
        body.to_owned(),
        json!([]),
        true,
    )
}

fn assemble(
    cx: &Context,
    level: Level,
    title: String,
    body: String,
    troubles: Value,
    test: bool,
) -> Message {
    let host = cx.host.clone();
    let title = match host.is_empty() {
        true => title,
        false => format!("{title} ({host})"),
    };
    let json = json!({
        "schema": "bdr.alert/1",
        "time": when::utc(cx.now),
        "host": host,
        "level": level.word(),
        "test": test,
        "title": title,
        "message": body,
        "troubles": troubles,
    });
    Message {
        level,
        title,
        body,
        json,
    }
}

fn show(cx: &Context, message: Option<&Message>) -> Result<u8, Failure> {
    if cx.ui.json {
        let data = json!({"message": message.map(|m| &m.json)});
        cx.ui.document("notify", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    cx.ui.data(&match message {
        Some(message) => format!("{}\n{}\n", message.title, message.body),
        None => "Nothing has changed: nothing would be sent.\n".to_owned(),
    })?;
    Ok(exit::OK)
}

fn report(cx: &Context, sent: &[Sent]) -> Result<u8, Failure> {
    let failed = sent.iter().filter(|sent| sent.error.is_some()).count();
    let code = if failed > 0 { exit::FAILURE } else { exit::OK };
    if cx.ui.json {
        let list: Vec<Value> = sent
            .iter()
            .map(|sent| json!({"channel": sent.channel, "error": sent.error}))
            .collect();
        cx.ui.document("notify", code, &json!({"sent": list}))?;
        return Ok(code);
    }
    let mut text = String::new();
    for sent in sent {
        text.push_str(&match &sent.error {
            None => format!("{} {}\n", cx.ui.out.green("sent  "), sent.channel),
            Some(error) => format!("{} {}: {error}\n", cx.ui.out.red("failed"), sent.channel),
        });
    }
    if sent.is_empty() {
        text = "Nothing has changed: nothing was sent.\n".to_owned();
    }
    cx.ui.report(&text)?;
    Ok(code)
}
