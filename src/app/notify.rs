//! Notifies people when the state of their backups changes.

use bdr::care::alerts::{Alert, decide, state};
use bdr::care::runs::{Memory, Said};
use bdr::care::status::{Level, Trouble, failing, troubles};
use bdr::model::config::NotifyConfig;
use bdr::model::schedule::Job;
use channels::Sent;

use crate::app::context::Context;
use crate::app::documents::{AlertDocument, AlertTrouble};
use crate::app::status::words;
use crate::ui::plural;

pub(crate) mod channels;
mod desktop;
mod metrics;

pub(crate) struct Message {
    pub(crate) level: Level,
    pub(crate) alert: AlertDocument,
}

pub(crate) fn remembered(cx: &Context, memory: &Memory) -> Vec<Trouble> {
    let max = cx.config.retention.max_bytes.unwrap_or(memory.max_bytes);
    let mut found = troubles(cx.config.schedule.as_ref(), memory, max, None, cx.now);
    if !cx.config.remotes.is_empty()
        && let Some(id) = bdr::repo::id_at(&cx.places.repository)
    {
        let dir = crate::app::remotes::directory(cx, id);
        found.extend(failing(&cx.config, &dir, cx.now));
    }
    found
}

/// Notifies people of a change, if there is one. A failure here must not fail anything else.
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
    // If it reached nobody, the next run tries again.
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
            cx.ui.say(&format!(
                "bdr: could not notify {}: {error}",
                failed.channel
            ));
        }
    }
    sent
}

/// Tells the configured monitoring service that a job begins, or how it ended.
pub(crate) fn ping(cx: &Context, job: Job, ended: Option<bool>) {
    if let Some(url) = cx.config.notify.healthchecks.as_deref()
        && matches!(job, Job::Backup | Job::Full)
        && let Some(error) = channels::ping(url, ended).error
    {
        cx.ui
            .say(&format!("bdr: could not notify healthchecks: {error}"));
    }
}

pub(crate) fn message(cx: &Context, alert: &Alert) -> Message {
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
            "bdr: your backups need attention".to_owned(),
            format!("{}.", says.join("; ")),
        ),
        Level::Critical => (
            "bdr: not protected".to_owned(),
            format!("{}.", says.join("; ")),
        ),
    };
    match alert.troubles.first() {
        Some(worst) => body.push_str(&format!(" Fix: {}", worst.fix())),
        None if excluded > 0 => body.push_str(" To list them: bdr status"),
        None => {}
    }
    let said = alert.troubles.iter().zip(&says);
    let mut troubles: Vec<AlertTrouble> = said
        .map(|(trouble, says)| AlertTrouble::new(trouble, says))
        .collect();
    if let Some(says) = says.get(alert.troubles.len()) {
        troubles.push(AlertTrouble::newly_excluded(excluded, says));
    }
    Message::new(cx, alert.level, (title, body), troubles)
}

impl Message {
    pub(crate) fn new(
        cx: &Context,
        level: Level,
        (title, body): (String, String),
        troubles: Vec<AlertTrouble>,
    ) -> Self {
        // Several machines may write to one channel.
        let title = match cx.host.as_str() {
            "" => title,
            host => format!("{title} ({host})"),
        };
        let alert = AlertDocument::new((cx.now, &cx.host), level, (title, body), troubles);
        Self { level, alert }
    }
}
