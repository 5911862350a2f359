//! `bdr prune --lifeboats`: frees the space of repositories that are gone.
//!
//! A lifeboat exists to restore a deleted repository. If the repository was deleted on purpose, or
//! moved, its lifeboat goes only on request: it may be the last copy.

use bdr::base::units::size;
use bdr::care::space::left;

use crate::app::context::Context;
use crate::app::documents::LifeboatsDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::ui::{plural, prompt, table};

pub(super) fn run(cx: &Context, dry_run: bool, yes: bool) -> Result<u8, Failure> {
    let lifeboats = cx.places.lifeboats.as_deref();
    let left = lifeboats.map_or_else(Vec::new, |place| left(place, &cx.places.repository));
    let bytes: u64 = left.iter().map(|one| one.bytes).sum();
    let many = plural(left.len() as u64, "lifeboat");
    let ready = yes || cx.ui.can_ask;
    let mut apply = !dry_run && ready && !left.is_empty();
    if !cx.ui.json {
        let rows: Vec<Vec<String>> = left
            .iter()
            .map(|one| {
                let repository = cx.shown_absolute(&one.repository);
                vec![size(one.bytes), format!("all that is left of {repository}")]
            })
            .collect();
        let lines = table::table(&rows, "rl").join("\n");
        match left.is_empty() {
            true => cx
                .ui
                .report("Nothing is left of repositories that are gone.\n")?,
            false => cx.ui.data(&format!("{lines}\n"))?,
        }
        if apply && !yes {
            apply = prompt::confirm(&format!("Delete {many} for good?"), false)?;
            if !apply {
                cx.ui.report("Nothing was changed.\n")?;
                return Ok(exit::INTERRUPTED);
            }
        }
    }
    if apply {
        for one in &left {
            one.remove()?;
        }
    }
    let code = match apply || dry_run || left.is_empty() {
        true => exit::OK,
        false => exit::PARTIAL,
    };
    if cx.ui.json {
        let data = LifeboatsDocument::new(&left, apply);
        cx.ui.document("prune.lifeboats", code, &data)?;
    } else if apply {
        let freed = size(bytes);
        cx.ui.report(&format!("Deleted {many}, {freed} freed.\n"))?;
    } else if !left.is_empty() {
        let how = match dry_run {
            true => "",
            false => " Without a terminal, add --yes: bdr prune --lifeboats --yes",
        };
        let freed = size(bytes);
        cx.ui.report(&format!(
            "Would delete {many}, and free {freed}. Nothing was changed.{how}\n"
        ))?;
    }
    Ok(code)
}
