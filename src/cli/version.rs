//! `bdr version`, for people who do not know `--version`.

use clap::Args;

use crate::app::context::Context;
use crate::app::documents::VersionDocument;
use crate::app::error::Failure;
use crate::app::exit;

/// Print the version
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr version
  bdr --version")]
pub(crate) struct VersionArgs {}

pub(crate) fn run(cx: &Context, _: &VersionArgs) -> Result<u8, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if cx.ui.json {
        let data = VersionDocument { version };
        cx.ui.document("version", exit::OK, &data)?;
    } else {
        cx.ui.data(&format!("bdr {version}\n"))?;
    }
    Ok(exit::OK)
}
