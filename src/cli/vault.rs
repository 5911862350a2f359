//! `bdr vault`: the values that were taken out of snapshots.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::exit;
use crate::ui::plural;

/// Manage the vault of sealed values
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr vault rotate")]
pub(crate) struct VaultArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Re-encrypt all values with a new key, and erase the old one
    ///
    /// If this is interrupted, nothing is lost: run it again to continue.
    #[command(after_help = "Examples:\n  bdr vault rotate")]
    Rotate,
}

/// How long others that write are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(cx: &Context, args: &VaultArgs) -> Result<u8, Failure> {
    let Command::Rotate = args.command;
    let repo = cx.repository()?;
    let values = repo.alone(PATIENCE, || repo.vault().rotate())?;
    if cx.ui.json {
        cx.ui
            .document("vault", exit::OK, &json!({"values": values}))?;
    } else {
        let values = plural(values, "value");
        cx.ui
            .report(&format!("The vault has a new key: {values}.\n"))?;
    }
    Ok(exit::OK)
}
