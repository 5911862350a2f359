//! Reads, checks and writes the configuration for the application.

use bdr::model::config::Config;

use crate::app::context::{Context, followed};
use crate::app::error::Failure;

/// Removes values that may contain secrets: who is notified, and how. Returns true if there were
/// any.
pub(crate) fn leave_out_addresses(config: &mut Config) -> bool {
    let notify = &mut config.notify;
    let mut left_out = !std::mem::take(&mut notify.command).is_empty();
    for address in [
        &mut notify.healthchecks,
        &mut notify.ntfy,
        &mut notify.webhook,
    ] {
        left_out |= address.take().is_some();
    }
    left_out
}

/// Returns the text of the configuration, or the default text if there is none.
pub(crate) fn text(cx: &Context) -> Result<String, Failure> {
    match std::fs::read_to_string(&cx.places.config) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(cx.config.to_toml(cx.home.as_deref())?)
        }
        Err(error) => Err(bdr::Error::io("read", &cx.places.config, error).into()),
    }
}

/// Parses a text as a configuration.
pub(crate) fn check_text(cx: &Context, text: &str) -> Result<Config, Failure> {
    let name = bdr::base::path::show(cx.places.config.as_os_str());
    Ok(Config::parse(text.as_bytes(), &name, cx.home.as_deref())?)
}

/// Makes sure that every pattern can match, and reports those that match nothing yet.
pub(crate) fn check_patterns(cx: &Context, config: &Config) -> Result<(), Failure> {
    if let Some(useless) = config.useless.first() {
        return Err(bdr::Error::Config {
            path: bdr::base::path::show(cx.places.config.as_os_str()),
            line: useless.line,
            message: useless.message.clone(),
            hint: Some(useless.hint.clone()),
        }
        .into());
    }
    for source in followed(config.clone()).sources {
        let below = |pattern: &&String| {
            let place = std::path::Path::new(pattern);
            place.has_root() && place.components().count() > 2 && place.symlink_metadata().is_ok()
        };
        for pattern in source.rules.exclude.iter().filter(below) {
            if source
                .path
                .join(pattern.trim_start_matches('/'))
                .symlink_metadata()
                .is_err()
            {
                return Err(Failure::usage(
                    format!(
                        "source `{}`: the pattern `{pattern}` names a place outside it",
                        source.name
                    ),
                    "patterns start at the source, like `/cache` or `a/b`: remove it, or write its path below the source",
                ));
            }
        }
    }
    Ok(())
}

/// Reports include patterns that match nothing. Returns true if a source has only such patterns.
pub(crate) fn say_unmatched(cx: &Context, config: &Config) -> Result<bool, Failure> {
    let mut nothing = false;
    for source in followed(config.clone()).sources {
        let unmatched = bdr::find::discover::unmatched(&source)?;
        let all = unmatched.len() == source.rules.include.len();
        for pattern in &unmatched {
            let there = match all {
                true => ", and it includes nothing else",
                false => "",
            };
            cx.ui.warn(&format!(
                "source `{}`: nothing there matches `{pattern}`{there}",
                source.name
            ));
        }
        nothing |= all && !unmatched.is_empty();
    }
    Ok(nothing)
}

/// Warns about patterns that can never match.
pub(crate) fn warn_useless(cx: &Context) {
    for useless in &cx.config.useless {
        cx.ui.warn(&format!(
            "bdr: source `{}`: {}; {}",
            useless.source, useless.message, useless.hint
        ));
    }
}

/// Replaces the configuration; the previous one is kept next to it.
pub(crate) fn write(cx: &Context, text: &str) -> Result<(), Failure> {
    let path = &cx.places.config;
    if let Some(dir) = path.parent() {
        bdr::disk::fsutil::create_dir_private(dir)?;
    }
    match std::fs::read(path) {
        Ok(old) if old != text.as_bytes() => {
            bdr::disk::fsutil::write_atomic(&path.with_extension("toml.old"), &old, 0o600)?;
        }
        _ => {}
    }
    bdr::disk::fsutil::write_atomic(path, text.as_bytes(), 0o600)?;
    // The lifeboat has a copy.
    cx.launch_lifeboat(&cx.places.repository);
    Ok(())
}
