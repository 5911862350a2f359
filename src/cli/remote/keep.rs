//! What stays at a destination, in words and in the configuration.

use bdr::base::units::size;
use bdr::model::config::{Remote, edit, keep_lines};

use crate::app::context::Context;
use crate::app::documents::RetentionDocument;
use crate::app::error::Failure;
use crate::ui::plural;
use crate::ui::when;

/// Enters what is to stay there, and whose work comes from there, into the configuration.
pub(super) fn entered(text: &str, remote: &Remote) -> Result<String, Failure> {
    let mut text = text.to_owned();
    if !remote.sync.is_empty() {
        text = edit::set(&text, &["remote", &remote.name, "sync"], &remote.sync)?;
    }
    let Some(policy) = &remote.keep else {
        return Ok(text);
    };
    for (key, value) in keep_lines(policy) {
        let values = match key {
            "keep_tags" => policy.tags.clone(),
            _ => vec![value],
        };
        text = edit::set(&text, &["remote", &remote.name, key], &values)?;
    }
    Ok(text)
}

/// Says what stays there.
pub(super) fn keeps(found: &RetentionDocument) -> String {
    match found.keeps.is_empty() {
        true => "every snapshot".to_owned(),
        false => found.keeps.join(", "),
    }
}

/// Says who prunes, and what waits.
pub(super) fn pruned(cx: &Context, found: &RetentionDocument) -> Option<String> {
    let by = match found.pruned_by {
        "bdr" => "by itself, once a day",
        "hand" => "by bdr prune --remote",
        _ => return None,
    };
    let last = found.last_prune.as_ref().and_then(|time| time.parse().ok());
    let last = last.map_or("not yet".to_owned(), |time| when::ago(cx.now, time));
    let mut says = format!("{by}; last: {last}");
    if found.waiting > 0 {
        says.push_str(&format!(
            "; in its trash: {}, {}",
            plural(found.waiting, "object"),
            size(found.waiting_bytes)
        ));
    }
    for (count, why) in [
        (
            found.retained,
            "kept by the destination until their retention ends",
        ),
        (found.forbidden, "that these credentials cannot delete"),
    ] {
        if count > 0 {
            says.push_str(&format!("; {} {why}", plural(count, "object")));
        }
    }
    if let Some(error) = &found.error {
        says.push_str(&format!("; the last one removed nothing: {error}"));
    }
    Some(says)
}
