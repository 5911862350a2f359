//! `bdr scan`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bdr::base::units::size;
use bdr::care::scan::{self, Scanned};
use bdr::privacy::{Profile, Treatment};
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::ScanDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::ui::{self, plural};

/// Look for secrets and patient data in files
///
/// Prints where something was found, what kind it is and how a backup treats it, never the value. Changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr scan
  bdr scan ~/.claude.json .env
  bdr scan --profile strict --check src")]
pub(crate) struct ScanArgs {
    /// Files and directories, instead of the current directory
    #[arg(value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// How much to look for, instead of the configured profile
    #[arg(long, value_enum, value_name = "PROFILE")]
    profile: Option<ProfileArg>,
    /// Exit with 1 if something is found
    #[arg(long)]
    check: bool,
}

/// Profiles by name.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum ProfileArg {
    /// Secrets only
    Off,
    /// Secrets and patient data
    Hipaa,
    /// Everything that identifies a person, and secrets that are only probable
    Strict,
}

impl From<ProfileArg> for Profile {
    fn from(profile: ProfileArg) -> Self {
        match profile {
            ProfileArg::Off => Self::Off,
            ProfileArg::Hipaa => Self::Hipaa,
            ProfileArg::Strict => Self::Strict,
        }
    }
}

pub(crate) fn run(cx: &Context, args: &ScanArgs) -> Result<u8, Failure> {
    let paths: Vec<PathBuf> = match args.paths.is_empty() {
        true => vec![cx.cwd.clone()],
        false => args
            .paths
            .iter()
            .map(|p| bdr::base::path::absolute(&cx.cwd, p))
            .collect(),
    };
    let rules = cx.privacy_rules(args.profile.map(Profile::from));
    let progress = cx.progress();
    let report = scan::scan(&paths, &rules, &progress)?;
    drop(progress);
    let code = if !report.problems.is_empty() {
        exit::PARTIAL
    } else if args.check && !report.files.is_empty() {
        exit::FAILURE
    } else {
        exit::OK
    };
    if cx.ui.json {
        let data = ScanDocument::new(&report);
        cx.ui.document("scan", code, &data)?;
        return Ok(code);
    }
    let mut text = String::new();
    for file in &report.files {
        text.push_str(&words(cx, file));
    }
    cx.ui.data(&text)?;
    let found: usize = report.files.iter().map(|f| f.examined.findings.len()).sum();
    cx.ui.say(&format!(
        "{} in {} of {} ({}).",
        plural(found as u64, "finding"),
        plural(report.files.len() as u64, "file"),
        ui::count(report.scanned),
        size(report.bytes),
    ));
    Ok(code)
}

/// Returns what a backup does with a file.
pub(crate) fn treatment(treatment: &Treatment) -> &'static str {
    match treatment {
        Treatment::Clear => "stored as is",
        Treatment::Seal => "values are sealed",
        Treatment::Whole(_) => "only its metadata is stored",
    }
}

fn words(cx: &Context, file: &Scanned) -> String {
    let mut text = format!(
        "{}: {}\n",
        cx.shown_absolute(&file.path),
        treatment(&file.examined.treatment)
    );
    // By kind, because a log may have thousands.
    let mut kinds: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (finding, line) in file.examined.findings.iter().zip(&file.lines) {
        kinds.entry(finding.kind).or_default().push(*line);
    }
    for (kind, mut lines) in kinds {
        let number = lines.len();
        lines.dedup();
        let shown: Vec<String> = lines.iter().take(5).map(u64::to_string).collect();
        let more = if lines.len() > 5 { ", …" } else { "" };
        let word = if lines.len() == 1 { "line" } else { "lines" };
        text.push_str(&format!(
            "  {number:>6}  {kind}, {word} {}{more}\n",
            shown.join(", ")
        ));
    }
    text
}
