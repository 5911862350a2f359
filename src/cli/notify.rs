//! `bdr notify`: notifies somebody when the state of protection changes. Never fails the job about
//! which it reports.

use bdr::care::alerts::decide;
use bdr::care::status::Level;
use bdr::model::config::NotifyConfig;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::{MessageDocument, NotifyDocument, SentDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::notify::channels::Sent;
use crate::app::notify::{Message, message, remembered, tell};

/// Send a message if the state of the backups has changed
///
/// The recipients are in [notify] of the configuration: desktop, healthchecks, ntfy, webhook, command, prometheus. Runs
/// automatically after each backup and each wake-up; run it yourself to try it out. A message says what is wrong and which
/// command fixes it, and never contains a path or a value.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr notify --test       send a message to everybody now
  bdr notify --dry-run    print what would be sent

bdr config set notify.desktop true
bdr config set notify.webhook https://example.com/hook")]
pub(crate) struct NotifyArgs {
    /// Send a message to all recipients now
    #[arg(long)]
    test: bool,
    /// Print what would be sent; send nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(cx: &Context, args: &NotifyArgs) -> Result<u8, Failure> {
    let config = &cx.config.notify;
    if args.test {
        if *config == NotifyConfig::default() {
            let message = "there are no recipients: [notify] in the configuration is empty";
            return Err(Failure::usage(
                message,
                "bdr config set notify.desktop true",
            ));
        }
        let message = test_message(cx);
        return match args.dry_run {
            true => show(cx, Some(&message)),
            false => report(
                cx,
                &crate::app::notify::channels::send(cx, config, &message),
            ),
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

fn test_message(cx: &Context) -> Message {
    let body = "This is a test. You will get a message when backups fail or stop, and when they work again.";
    let title = "bdr: test".to_owned();
    let mut message = Message::new(cx, Level::Good, (title, body.to_owned()), Vec::new());
    message.alert.test = true;
    message
}

fn show(cx: &Context, message: Option<&Message>) -> Result<u8, Failure> {
    if cx.ui.json {
        let data = MessageDocument {
            message: message.map(|message| &message.alert),
        };
        cx.ui.document("notify", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    cx.ui.data(&match message {
        Some(message) => format!("{}\n{}\n", message.alert.title, message.alert.message),
        None => "Nothing has changed: nothing would be sent.\n".to_owned(),
    })?;
    Ok(exit::OK)
}

fn report(cx: &Context, sent: &[Sent]) -> Result<u8, Failure> {
    let failed = sent.iter().filter(|sent| sent.error.is_some()).count();
    let code = if failed > 0 { exit::FAILURE } else { exit::OK };
    if cx.ui.json {
        let sent = sent.iter().map(|sent| SentDocument {
            channel: sent.channel,
            error: sent.error.clone(),
        });
        let data = NotifyDocument::new(sent.collect());
        cx.ui.document("notify", code, &data)?;
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
