//! `bdr demo`: the main job on a scratch workspace, with this very program, and a comparison that
//! does not trust it.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use bdr::base::error::IoContext as _;
use bdr::base::units::size;
use clap::Args;

use crate::app::context::{Context, OPERATION_VARIABLE};
use crate::app::documents::{DemoDocument, DemoOutcome, DemoStep};
use crate::app::error::Failure;
use crate::app::exit;
use crate::ui::{self, count};

mod tree;

/// Show guard and undo on a scratch workspace
///
/// Creates a few hundred files in a temporary directory, backs them up, deletes them under guard, undoes that, and compares
/// bytes, modes and times. Your own files and repository are not touched.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr demo
  bdr demo --json")]
pub(crate) struct DemoArgs {}

struct Step {
    typed: &'static str,
    elapsed: Duration,
    output: Output,
}

pub(crate) fn run(cx: &Context, _: &DemoArgs) -> Result<u8, Failure> {
    let scratch = tempfile::Builder::new().prefix("bdr-demo-").tempdir();
    let scratch = scratch.context("create a directory in", std::env::temp_dir())?;
    let workspace = scratch.path().join("workspace");
    let names = tree::make(&workspace)?;
    let before = tree::read(&workspace)?;
    let (files, bytes) = tree::totals(&before);
    say(
        cx,
        &format!(
            "A scratch workspace: {} files, {}, with a database, symlinks, hard links and odd modes.",
            count(files),
            size(bytes)
        ),
    )?;
    let mut steps = Vec::new();
    let mut deleted = 0;
    for (typed, argv) in story(&workspace, names) {
        let step = command(scratch.path(), &workspace, typed, argv)?;
        tell(cx, &step)?;
        let failed = !step.output.status.success();
        steps.push(step);
        if failed {
            return failed_at(cx, &steps);
        }
        if typed == GUARD {
            deleted = files - tree::totals(&tree::read(&workspace)?).0;
        }
    }
    let outcome = DemoOutcome {
        files,
        bytes,
        deleted,
        different: tree::compare(&before, &tree::read(&workspace)?),
    };
    let good = outcome.different.is_empty() && deleted == files;
    let code = if good { exit::OK } else { exit::FAILURE };
    if cx.ui.json {
        let data = DemoDocument {
            outcome: Some(outcome),
            steps: steps.iter().map(step_data).collect(),
        };
        cx.ui.document("demo", code, &data)?;
    } else {
        let undo = steps.last().map_or(Duration::ZERO, |step| step.elapsed);
        conclude(cx, &outcome, good, undo)?;
    }
    Ok(code)
}

const GUARD: &str = "bdr guard -- rm -rf *";

/// Returns the commands of the demo, as typed and as run: the ones in the README, so that what
/// people read there is what they see here.
fn story(workspace: &Path, names: Vec<OsString>) -> [(&'static str, Vec<OsString>); 3] {
    let source = format!("demo={}", workspace.display());
    let init = ["init", "--yes", "--source", &source]
        .map(OsString::from)
        .to_vec();
    let remove: &[&str] = if cfg!(windows) {
        &["cmd", "/c", "rmdir", "/s", "/q"]
    } else {
        &["rm", "-rf"]
    };
    let guard = ["guard", "--"]
        .iter()
        .chain(remove)
        .map(OsString::from)
        .chain(names)
        .collect();
    let undo = ["undo", "--yes"].map(OsString::from).to_vec();
    [
        ("bdr init --yes --source demo=workspace", init),
        (GUARD, guard),
        ("bdr undo --yes", undo),
    ]
}

/// Says whether everything came back. The comparison is not bdr's own, which would share its
/// mistakes.
fn conclude(
    cx: &Context,
    outcome: &DemoOutcome,
    good: bool,
    undo: Duration,
) -> Result<(), Failure> {
    let files = count(outcome.files);
    if good {
        let all = format!(
            "All {files} files were gone and are back after {}",
            ui::elapsed(undo)
        );
        let same = "every byte, mode and time as before, checked by an independent comparison.";
        say(cx, &format!("{}: {same}", cx.ui.out.green(&all)))?;
        return say(cx, "Now yours: bdr init");
    }
    let mut text = format!(
        "{} of {files} files were deleted.\n",
        count(outcome.deleted)
    );
    text.push_str("Not as before:\n");
    for line in outcome.different.iter().take(20) {
        text.push_str(&format!("  {line}\n"));
    }
    cx.ui.data(&text)?;
    Ok(())
}

fn say(cx: &Context, line: &str) -> Result<(), Failure> {
    if !cx.ui.json {
        cx.ui.report(&format!("{line}\n"))?;
    }
    Ok(())
}

/// Returns this program as a command, with a home of its own.
fn command(
    scratch: &Path,
    workspace: &Path,
    typed: &'static str,
    argv: Vec<OsString>,
) -> Result<Step, Failure> {
    let program = std::env::current_exe().context("find", "bdr")?;
    let mut command = Command::new(&program);
    command
        .args(argv)
        .current_dir(workspace)
        .env("BDR_HOME", scratch.join("bdr"));
    for variable in [
        OPERATION_VARIABLE,
        "BDR",
        "BDR_SKIP",
        "BDR_CONFIG",
        "BDR_GUARD_ON_FAIL",
    ] {
        command.env_remove(variable);
    }
    let started = Instant::now();
    let output = command.output().context("run", &program)?;
    Ok(Step {
        typed,
        elapsed: started.elapsed(),
        output,
    })
}

fn tell(cx: &Context, step: &Step) -> Result<(), Failure> {
    let elapsed = cx.ui.out.dim(&ui::elapsed(step.elapsed));
    say(cx, &format!("$ {}   {elapsed}", cx.ui.out.bold(step.typed)))?;
    let said = [&step.output.stdout[..], &step.output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // Show what the demonstration is about, not the hints after a first set-up.
    let telling = |line: &&str| {
        let noise = ["Configuration:", "Same without", "Try it:", "  "];
        !line.is_empty() && !noise.iter().any(|start| line.starts_with(start))
    };
    for line in said.lines().filter(telling).take(4) {
        say(cx, &format!("  {line}"))?;
    }
    Ok(())
}

fn failed_at(cx: &Context, steps: &[Step]) -> Result<u8, Failure> {
    if cx.ui.json {
        let data = DemoDocument {
            outcome: None,
            steps: steps.iter().map(step_data).collect(),
        };
        cx.ui.document("demo", exit::FAILURE, &data)?;
    } else if let Some(step) = steps.last() {
        cx.ui
            .warn(&format!("`{}` failed: {}", step.typed, step.output.status));
        cx.ui
            .warn(String::from_utf8_lossy(&step.output.stderr).trim_end());
    }
    Ok(exit::FAILURE)
}

fn step_data(step: &Step) -> DemoStep {
    DemoStep {
        command: step.typed.to_owned(),
        exit: step.output.status.code(),
        elapsed_ms: u64::try_from(step.elapsed.as_millis()).unwrap_or(u64::MAX),
    }
}
