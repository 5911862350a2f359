//! The page that shows the status.

use std::path::{Path, PathBuf};

use bdr::disk::fsutil;

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::status::look;

mod days;
mod growth;
pub(crate) mod page;
mod style;

/// Updates the file after a run. Nobody is waiting for it, so a failure does not fail the run.
pub(crate) fn renew(cx: &Context) {
    if let Ok(seen) = look(cx, None, true) {
        let _ = write(&default_file(cx), &page::render(cx, &seen, false), true);
    }
}

pub(crate) fn default_file(cx: &Context) -> PathBuf {
    cx.places.state.join("dashboard.html")
}

pub(crate) fn write(file: &Path, html: &str, own: bool) -> Result<(), Failure> {
    if own && let Some(dir) = file.parent() {
        fsutil::create_dir_private(dir)?;
    }
    const HINT: &str = "bdr dashboard --output FILE, in a directory that you can write to";
    let written = fsutil::write_atomic(file, html.as_bytes(), 0o600);
    written.map_err(|error| Failure::from(error).hinted(|_| Some(HINT.to_owned())))
}
