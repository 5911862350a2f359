//! `bdr config`.

use std::path::PathBuf;

use bdr::base::path::os_to_bytes;
use clap::{Args, Subcommand};

use crate::app::config::{check_patterns, leave_out_addresses, say_unmatched};
use crate::app::context::{Context, read_config};
use crate::app::documents::{
    At, ConfigCheckDocument, ConfigDocument, ConfigExportDocument, NamedSource,
};
use crate::app::error::Failure;
use crate::app::exit;
use crate::ui;

mod change;

/// Show, check or change the configuration
///
/// The configuration is a TOML file with a [source.NAME] for each place to back up: path, include, exclude, criticality. Patterns
/// of include and exclude are paths below the source, as in .gitignore: `*`, `?` and `[a-z]` match within a name, `**` any number
/// of directories, `{a,b}` either one, and a pattern without `/` matches at any depth. In include, a name without wildcards is a
/// path below the source. There is no `!`.
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
    /// Print the path of the configuration or the repository
    Path(PathArgs),
    /// Check the configuration
    Check,
    /// Set a value; comments and everything else stay
    Set(SetArgs),
    /// Remove a value or a whole table, so that its default applies again
    Unset(UnsetArgs),
    /// Open the configuration in $VISUAL or $EDITOR; it is checked before it is saved
    Edit,
    /// Print the configuration in effect, for sharing
    Export(ExportArgs),
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The key: retention.keep_daily, source.NAME.path
    key: String,
    /// The new value; several make a list
    #[arg(required = true)]
    value: Vec<String>,
    /// Print the new configuration; change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct UnsetArgs {
    /// The key or table
    key: String,
    /// Print the new configuration; change nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Args)]
struct ExportArgs {
    /// toml or json
    #[arg(
        long,
        value_enum,
        default_value = "toml",
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    format: Format,
    /// Include [schedule] and the next runs
    #[arg(long)]
    include_schedules: bool,
    /// Include the addresses and the command of [notify], which may contain secrets
    #[arg(long)]
    include_secrets: bool,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Toml,
    Json,
}

#[derive(Debug, Args)]
struct PathArgs {
    /// Print the path of the repository
    // Hides the global option of this name, so its value may be left out here.
    #[arg(long, num_args = 0..=1, value_name = "DIR")]
    repository: Option<Option<PathBuf>>,
}

pub(crate) fn run(cx: &Context, args: &ConfigArgs) -> Result<u8, Failure> {
    match &args.what {
        What::Show => show(cx),
        What::Path(args) => path(cx, args),
        What::Check => check(cx),
        What::Set(args) => change::set(cx, &args.key, &args.value, args.dry_run),
        What::Unset(args) => change::unset(cx, &args.key, args.dry_run),
        What::Edit => change::edit(cx),
        What::Export(args) => export(cx, args),
    }
}

fn show(cx: &Context) -> Result<u8, Failure> {
    let mut config = read_config(&cx.places.config, cx.home.as_deref())?;
    config.repository = Some(cx.places.repository.clone());
    if cx.ui.json {
        let data = ConfigDocument::new(&cx.places, &config);
        cx.ui.document("config", exit::OK, &data)?;
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

fn export(cx: &Context, args: &ExportArgs) -> Result<u8, Failure> {
    let mut config = read_config(&cx.places.config, cx.home.as_deref())?;
    config.schedule = config.schedule.filter(|_| args.include_schedules);
    let left_out = !args.include_secrets && leave_out_addresses(&mut config);
    let text = if args.format == Format::Json || cx.ui.json {
        let memory = cx.journal().memory();
        let data = ConfigExportDocument::new(&cx.places, &config, &memory, cx.now);
        if cx.ui.json {
            ui::document("config", exit::OK, &data)
        } else {
            // Through a value, as all documents go: members are in the same order everywhere.
            let data = serde_json::to_value(&data).unwrap_or_default();
            let mut text = serde_json::to_string_pretty(&data).unwrap_or_default();
            text.push('\n');
            text
        }
    } else {
        config.to_toml(cx.home.as_deref())?
    };
    if left_out {
        cx.ui.say(
            "The addresses and the command of [notify] are left out, as they may contain secrets (--include-secrets)",
        );
    }
    match &args.output {
        None => cx.ui.data(&text)?,
        Some(file) => {
            let file = bdr::base::path::absolute(&cx.cwd, file);
            bdr::disk::fsutil::write_atomic(&file, text.as_bytes(), 0o600)?;
            cx.ui.say(&format!("Written: {}", cx.shown_absolute(&file)));
        }
    }
    Ok(exit::OK)
}

fn path(cx: &Context, args: &PathArgs) -> Result<u8, Failure> {
    let path = match &args.repository {
        None => &cx.places.config,
        Some(_) => &cx.places.repository,
    };
    if cx.ui.json {
        cx.ui.document("config", exit::OK, &At::new(path))?;
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
    check_patterns(cx, &config)?;
    let missing: Vec<_> = config
        .sources
        .iter()
        .filter(|s| s.path.metadata().is_err())
        .collect();
    let nothing = say_unmatched(cx, &config)?;
    let code = if missing.is_empty() && !nothing {
        exit::OK
    } else {
        exit::PARTIAL
    };
    if cx.ui.json {
        let missing = missing.iter();
        let data = ConfigCheckDocument {
            sources: config.sources.len(),
            missing: missing
                .map(|source| NamedSource::new(&source.name, &source.path))
                .collect(),
        };
        cx.ui.document("config", code, &data)?;
        return Ok(code);
    }
    for source in &missing {
        let path = cx.shown_absolute(&source.path);
        let says = match source.path.symlink_metadata() {
            Ok(_) => format!("{path} is a dangling symlink"),
            Err(_) => format!("there is no {path}"),
        };
        cx.ui.warn(&format!("source `{}`: {says}", source.name));
    }
    let sources = ui::plural(config.sources.len() as u64, "source");
    let tail = match (missing.is_empty(), nothing) {
        (true, false) => "",
        (true, true) => ", one of them empty (exit 3)",
        (false, _) => ", some of them missing (exit 3)",
    };
    cx.ui
        .report(&format!("{shown} is valid: {sources}{tail}.\n"))?;
    Ok(code)
}
