//! `export_backup_config`.

use std::collections::BTreeSet;

use bdr::base::path::RepoPath;
use bdr::disk::fsutil::target::write_beneath;
use bdr::model::config::Config;
use bdr::model::manifest::Time;
use bdr::protect::backup::Level;
use bdr::repo::summaries::Summary;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::call::{Answer, Call, Outcome, is_listed};
use super::super::fault::Fault;
use super::super::roots::Use;
use super::{cleanup, figures, schedule};
use crate::app::config;
use crate::app::documents::ConfigValues;

/// An export names this many backups.
const HISTORY: usize = 50;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub(super) struct ExportResult {
    success: bool,
    format: &'static str,
    /// An object, or the text in the format that was asked for.
    config: Value,
    warnings: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exported_to: Option<String>,
}

pub(super) fn run(call: &Call<'_>) -> Result<Outcome, Fault> {
    let cx = call.cx;
    let format = call
        .args
        .word("format", &["json", "yaml", "markdown"])?
        .unwrap_or("json");
    let mut known = cx.config.clone();
    let left_out = config::leave_out_addresses(&mut known);
    let config = exported(call, &known)?;
    let text = match format {
        "yaml" => yaml(&config, 0),
        "markdown" => markdown(&config),
        _ => format!("{config:#}\n"),
    };
    let mut warnings: Vec<&str> = Vec::new();
    if left_out {
        warnings.push(
            "the addresses and the command of [notify] are left out, as they may contain secrets",
        );
    }
    if call.args.flag("includeSecrets")? == Some(true) {
        warnings.push("includeSecrets: true was ignored: secrets are never exported");
    }
    let mut result = ExportResult {
        success: true,
        format,
        config: match format {
            "json" => config,
            _ => text.clone().into(),
        },
        warnings,
        exported_to: None,
    };
    if let Some(path) = call.args.text("outputPath")? {
        let roots = call.roots()?;
        let place = roots.path(cx, path, Use::Write)?;
        if place.symlink_metadata().is_ok() {
            let shown = cx.shown_absolute(&place);
            return Err(Fault::new(
                "FILE_EXISTS",
                format!("`{shown}` exists already; nothing was written"),
                "make the same call with another outputPath",
            ));
        }
        let Some((above, below)) = roots
            .above(&place)
            .and_then(|above| Some((above, RepoPath::below(above, &place)?)))
        else {
            return Err(Fault::new(
                "PATH_NOT_ALLOWED",
                "it is not below a protected directory",
                "make the same call with another outputPath",
            ));
        };
        let now = Time(cx.now.timestamp(), cx.now.timestamp_subsec_nanos());
        write_beneath(above, &below, text.as_bytes(), now)?;
        result.exported_to = Some(cx.shown_absolute(&place));
        if let Ok(repo) = cx.repository() {
            call.note(&repo)?;
        }
    }
    Ok(Answer::new(result, "").into())
}

/// Returns the configuration, with the same values under the names of earlier servers as well:
/// clients written for those read it too.
fn exported(call: &Call<'_>, known: &Config) -> Result<Value, Fault> {
    let cx = call.cx;
    let mut config = json!(ConfigValues::new(known));
    let repository = cx.shown_absolute(&cx.places.repository);
    let sources: Vec<String> = known
        .sources
        .iter()
        .map(|source| cx.shown_absolute(&source.path))
        .collect();
    let excluded: BTreeSet<&String> = known
        .sources
        .iter()
        .flat_map(|source| &source.rules.exclude)
        .collect();
    let policy = json!(cleanup::KeptCounts::of(&known.retention));
    config["version"] = env!("CARGO_PKG_VERSION").into();
    config["repository"] = repository.clone().into();
    config["backupDirectory"] = repository.into();
    config["backupSources"] = sources.into();
    config["excludePatterns"] = json!(excluded);
    config["compression"] =
        json!({"enabled": true, "level": Level::Best.number(), "algorithm": "gzip"});
    for (name, value) in policy.as_object().into_iter().flatten() {
        config["retention"][name] = value.clone();
    }
    config["retentionPolicy"] = policy;
    if call.args.flag("includeSchedules")? != Some(false) {
        config["schedules"] = json!(schedule::schedules(cx));
    }
    let statistics = call.args.flag("includeStatistics")? == Some(true);
    let history = call.args.flag("includeHistory")? == Some(true);
    if statistics || history {
        let all = call.repository()?.summaries()?;
        let backups: Vec<&Summary> = all.iter().filter(|summary| is_listed(summary)).collect();
        if statistics {
            config["statistics"] = json!(figures::Statistics::of(&backups));
        }
        if history {
            let latest = backups.iter().rev().take(HISTORY);
            let latest = latest.map(|summary| json!(figures::Backup::new(cx, summary)));
            config["history"] = latest.collect();
        }
    }
    Ok(config)
}

/// Returns a value in YAML block style. Scalars are written as JSON, because every JSON scalar is
/// valid YAML.
fn yaml(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let scalar = |value: &Value| match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => true,
    };
    let mut text = String::new();
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let name = Value::from(name.clone());
                match scalar(value) {
                    true => text.push_str(&format!("{indent}{name}: {value}\n")),
                    false => text.push_str(&format!("{indent}{name}:\n{}", yaml(value, depth + 1))),
                }
            }
        }
        Value::Array(list) => {
            for value in list {
                match scalar(value) {
                    true => text.push_str(&format!("{indent}- {value}\n")),
                    false => text.push_str(&format!("{indent}-\n{}", yaml(value, depth + 1))),
                }
            }
        }
        other => text.push_str(&format!("{indent}{other}\n")),
    }
    text
}

fn markdown(config: &Value) -> String {
    let mut text = "# Configuration of bdr\n".to_owned();
    let empty = Map::new();
    for (name, value) in config.as_object().unwrap_or(&empty) {
        text.push_str(&format!("\n## {name}\n\n"));
        match value {
            Value::Object(map) => map
                .iter()
                .for_each(|(name, value)| text.push_str(&format!("- {name}: `{value}`\n"))),
            Value::Array(list) => list
                .iter()
                .for_each(|value| text.push_str(&format!("- `{value}`\n"))),
            other => text.push_str(&format!("`{other}`\n")),
        }
    }
    text
}
