//! `bdr config`.

use std::path::PathBuf;

use bdr::path::os_to_bytes;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::context::{Context, read_config};
use super::error::Failure;
use super::exit;
use crate::ui;

/// Show or check the configuration
///
/// It is a TOML file with a [source.NAME] for each thing to keep: path, include, exclude, criticality. A pattern is a path
/// below the source; `*` and `?` stay within a name, `**` crosses directories, and an exclude without `/` matches a name
/// at any depth.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr config show
  bdr config check
  $EDITOR \"$(bdr config path)\"
  du -sh \"$(bdr config path --repository)\"")]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the configuration in effect
    Show,
    /// Print where the configuration is, or the repository
    Path(PathArgs),
    /// Check the configuration
    Check,
}

#[derive(Debug, Args)]
struct PathArgs {
    /// Print where the repository is
    // Hides the global option of this name, so its value may be left out here.
    #[arg(long, num_args = 0..=1, value_name = "DIR")]
    repository: Option<Option<PathBuf>>,
}

pub(crate) fn run(cx: &Context, args: &ConfigArgs) -> Result<u8, Failure> {
    match &args.what {
        What::Show => show(cx),
        What::Path(args) => path(cx, args),
        What::Check => check(cx),
    }
}

fn show(cx: &Context) -> Result<u8, Failure> {
    let mut config = read_config(&cx.places.config, cx.home.as_deref())?;
    config.repository = Some(cx.places.repository.clone());
    if cx.ui.json {
        let mut data = serde_json::Map::new();
        ui::json::put_name(&mut data, "config", cx.places.config.as_os_str());
        ui::json::put_name(&mut data, "repository", cx.places.repository.as_os_str());
        ui::json::put_name(&mut data, "cache", cx.places.cache.as_os_str());
        ui::json::put_name(&mut data, "state", cx.places.state.as_os_str());
        data.insert("exists".into(), cx.places.config.exists().into());
        let sources: Vec<Value> = config
            .sources
            .iter()
            .map(|s| {
                let rest = json!({
                    "name": s.name,
                    "include": s.rules.include,
                    "exclude": s.rules.exclude,
                    "rebuildable": s.rules.rebuildable,
                    "criticality": s.criticality.word(),
                });
                ui::json::with_path(&s.path, rest)
            })
            .collect();
        data.insert("sources".into(), sources.into());
        let guard = json!({
            "on_fail": config.guard.on_fail.word(),
            "max_bytes": config.guard.max_bytes,
            "max_files": config.guard.max_files,
            "max_kept": config.guard.max_kept,
            "summary": config.guard.summary.word(),
            "rules": config.guard.rules,
        });
        data.insert("guard".into(), guard);
        let hooks = json!({"mcp_tools": config.hooks.mcp_tools});
        data.insert("hooks".into(), hooks);
        cx.ui.document("config", exit::OK, &Value::Object(data))?;
    } else {
        if !cx.places.config.exists() {
            cx.ui.say(&format!(
                "There is no {}; these are the defaults.",
                cx.shown_absolute(&cx.places.config)
            ));
        }
        cx.ui.data(&config.to_toml(cx.home.as_deref())?)?;
    }
    Ok(exit::OK)
}

fn path(cx: &Context, args: &PathArgs) -> Result<u8, Failure> {
    let path = match &args.repository {
        None => &cx.places.config,
        Some(_) => &cx.places.repository,
    };
    if cx.ui.json {
        cx.ui
            .document("config", exit::OK, &ui::json::with_path(path, json!({})))?;
    } else {
        // For "$(bdr config path)": the bytes as they are.
        let mut line = os_to_bytes(path.as_os_str()).into_owned();
        line.push(b'\n');
        cx.ui.data_bytes(&line)?;
    }
    Ok(exit::OK)
}

fn check(cx: &Context) -> Result<u8, Failure> {
    let config = read_config(&cx.places.config, cx.home.as_deref())?;
    let shown = cx.shown_absolute(&cx.places.config);
    if !cx.places.config.exists() {
        return Err(Failure::Usage {
            message: format!("there is no {shown}"),
            hint: Some("bdr init".to_owned()),
        });
    }
    let missing: Vec<_> = config
        .sources
        .iter()
        .filter(|s| s.path.symlink_metadata().is_err())
        .collect();
    let code = if missing.is_empty() {
        exit::OK
    } else {
        exit::PARTIAL
    };
    if cx.ui.json {
        let missing: Vec<Value> = missing
            .iter()
            .map(|s| ui::json::with_path(&s.path, json!({"name": s.name})))
            .collect();
        let data = json!({"sources": config.sources.len(), "missing": missing});
        cx.ui.document("config", code, &data)?;
        return Ok(code);
    }
    for source in &missing {
        let path = cx.shown_absolute(&source.path);
        cx.ui
            .warn(&format!("source `{}`: there is no {path}", source.name));
    }
    let sources = ui::plural(config.sources.len() as u64, "source");
    let tail = if missing.is_empty() {
        ""
    } else {
        ", not all of them there (exit 3)"
    };
    cx.ui
        .report(&format!("{shown} is valid: {sources}{tail}.\n"))?;
    Ok(code)
}
