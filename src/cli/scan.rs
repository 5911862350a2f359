//! `bdr scan`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bdr::base::units::size;
use bdr::care::scan::{self, ScanReport, Scanned};
use bdr::privacy::{Profile, Treatment};
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::ScanDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::ui::{self, plural};

/// Look for secrets and patient data in files
///
/// Prints where something was found, what kind it is and how a backup treats it, never the value. Sums up by kind and names the files with most if there are many. Changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr scan
  bdr scan ~/.claude.json .env
  bdr scan --sample 3 ~/work
  bdr scan --profile strict --check src")]
pub(crate) struct ScanArgs {
    /// Files and directories, instead of the current directory
    #[arg(value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// How much to look for, instead of the configured profile
    #[arg(long, value_enum, value_name = "PROFILE")]
    profile: Option<ProfileArg>,
    /// Show up to N examples of each kind, with every value replaced by its shape (`aaaAAA000`)
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// List every file, however many there are
    #[arg(long)]
    all: bool,
    /// Exit with 1 if something is found
    #[arg(long)]
    check: bool,
}

/// With more files than this, those with most findings stand for the others.
const FEW: usize = 10;

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
    let report = scan::scan(&paths, &rules, args.sample.is_some(), &progress)?;
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
    cx.ui.data(&listing(cx, args, &report))?;
    let found: usize = report.files.iter().map(|f| f.examined.findings.len()).sum();
    cx.ui.say(&format!(
        "{} in {} of {} ({}).",
        plural(found as u64, "finding"),
        plural(report.files.len() as u64, "file"),
        ui::count(report.scanned),
        size(report.bytes),
    ));
    if let Some(first) = report.published.first() {
        let mut files: Vec<_> = report.published.iter().map(|one| &one.path).collect();
        files.dedup();
        cx.ui.say(&format!(
            "{} in {} not counted: public already ({} {}).",
            plural(report.published.len() as u64, "value"),
            plural(files.len() as u64, "file"),
            cx.shown_absolute(&first.path),
            first.place,
        ));
    }
    if let Some(first) = report.files.first() {
        cx.ui.say(&format!(
            "Why: bdr privacy why {0}. No secret? bdr privacy allow {0} --reason '…'",
            cx.shown_absolute(&most(&report).first().unwrap_or(&first).path)
        ));
    }
    Ok(code)
}

/// Returns the files with most findings first.
fn most(report: &ScanReport) -> Vec<&Scanned> {
    let mut files: Vec<&Scanned> = report.files.iter().collect();
    files.sort_by_key(|file| std::cmp::Reverse(file.examined.findings.len()));
    files
}

fn listing(cx: &Context, args: &ScanArgs, report: &ScanReport) -> String {
    let mut text = String::new();
    let many = report.files.len() > FEW && !args.all;
    if many || args.sample.is_some() {
        text.push_str(&by_kind(cx, report, args.sample.unwrap_or(0)));
    }
    if args.sample.is_some() {
        return text;
    }
    if !many {
        for file in &report.files {
            text.push_str(&words(cx, file));
        }
        return text;
    }
    text.push_str("Most in:\n");
    for file in most(report).into_iter().take(FEW) {
        text.push_str(&words(cx, file));
    }
    text.push_str(&format!(
        "{} more: bdr scan --all\n",
        plural((report.files.len() - FEW) as u64, "file")
    ));
    text
}

/// Sums up by kind, most first, each with up to `examples` masked examples from different files.
fn by_kind(cx: &Context, report: &ScanReport, examples: usize) -> String {
    let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for file in &report.files {
        let mut seen: Vec<&str> = Vec::new();
        for finding in &file.examined.findings {
            let sums = kinds.entry(finding.kind).or_default();
            sums.0 += 1;
            if !seen.contains(&finding.kind) {
                sums.1 += 1;
                seen.push(finding.kind);
            }
        }
    }
    let mut kinds: Vec<(&str, (u64, u64))> = kinds.into_iter().collect();
    kinds.sort_by_key(|(kind, (findings, _))| (std::cmp::Reverse(*findings), *kind));
    let mut text = String::new();
    for (kind, (findings, files)) in kinds {
        text.push_str(&format!(
            "{findings:>8}  {kind}, in {}\n",
            plural(files, "file")
        ));
        // One of each file before the second of any.
        let rounds = (0..3).flat_map(|round| {
            report.files.iter().filter_map(move |file| {
                let mut of_kind = file.samples.iter().filter(|one| one.kind == kind);
                of_kind.nth(round).map(|one| (file, one))
            })
        });
        for (file, one) in rounds.take(examples) {
            text.push_str(&format!(
                "            {}:{}  {}\n",
                cx.shown_absolute(&file.path),
                one.line,
                one.masked
            ));
        }
    }
    text
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
