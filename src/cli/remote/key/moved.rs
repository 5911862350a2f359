//! `bdr remote key move`.

use clap::{Args, ValueEnum};

use super::encrypted;
use crate::app::context::Context;
use crate::app::documents::RemoteKeyMoveDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::secrets::{self, Place};
use crate::ui::plural;

/// Put the secret keys of a destination into the keychain, or into a file
///
/// They are written to the new place and read back first; then the old place has none. Keys that are encrypted, or SSH keys, stay
/// where you put them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr remote key move offsite --to keychain
  bdr remote key move offsite --to file")]
pub(super) struct MoveArgs {
    /// The destination
    #[arg(value_name = "NAME")]
    name: String,
    /// Where they are to be
    #[arg(long, value_name = "PLACE")]
    to: To,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum To {
    /// The keychain of the system
    Keychain,
    /// A file beside the configuration that only you can read
    File,
}

pub(super) fn run(cx: &Context, args: &MoveArgs) -> Result<u8, Failure> {
    let remote = encrypted(cx, &args.name)?;
    let to = match args.to {
        To::Keychain => Place::Keychain,
        To::File => Place::File,
    };
    let (moved, place) = secrets::shift(cx, remote, to)?;
    if moved.is_empty() {
        return Err(Failure::usage(
            format!(
                "no secret key of {} that bdr can open is anywhere else on this machine",
                args.name
            ),
            &format!("bdr remote key show {} says where they are", args.name),
        ));
    }
    if cx.ui.json {
        let data = RemoteKeyMoveDocument {
            name: args.name.clone(),
            kept: place,
            moved,
        };
        cx.ui.document("remote.key.move", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let count = plural(moved.len() as u64, "secret key");
    cx.ui
        .report(&format!("{count} of {} now in {place}.\n", args.name))?;
    Ok(exit::OK)
}
