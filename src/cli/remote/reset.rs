//! `bdr remote reset`.

use bdr::remote::ledger::{At, Machine, forget};
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::RemoteResetDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::remotes::directory;
use crate::ui::prompt;

/// Give this machine an id of its own at all destinations
///
/// For a machine that is a copy of another one: both would push under one id. Also to encrypt everything anew, after the recipients of
/// a destination were changed. The next push sends everything once more, beside what was pushed until now, which stays.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  bdr remote reset")]
pub(crate) struct ResetArgs {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn reset(cx: &Context, args: &ResetArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let dir = directory(cx, repo.id());
    let old = Machine::known(&dir).map(|machine| machine.id);
    if !args.yes {
        if !cx.ui.can_ask {
            return Err(Failure::usage(
                "the next push would send everything once more, and there is no terminal to ask on",
                "add --yes to do it",
            ));
        }
        let question = "Push everything once more, under a new id?";
        if !prompt::confirm(question, false)? {
            cx.ui.warn("Nothing was changed.");
            return Ok(exit::PARTIAL);
        }
    }
    for remote in &cx.config.remotes {
        let place = dir.join(&remote.name);
        forget(&place)?;
        if At::read(&place).is_some() {
            At::default().write(&place)?;
        }
    }
    let new = Machine::renew(&dir, cx.now)?.id;
    if cx.ui.json {
        let data = RemoteResetDocument {
            old: old.map(|id| id.to_string()),
            machine: new.to_string(),
        };
        cx.ui.document("remote.reset", exit::OK, &data)?;
    } else {
        cx.ui.report(&format!(
            "This machine is {new} now. What was pushed before stays there. Push everything: bdr push\n"
        ))?;
    }
    Ok(exit::OK)
}
