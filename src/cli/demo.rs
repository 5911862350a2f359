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
    let mut steps = Vec::new();
    let mut gone = 0;
    for (typed, argv) in [
        ("bdr init --yes --source demo=workspace", init),
        ("bdr guard -- rm -rf *", guard),
        ("bdr undo --yes", undo),
    ] {
        let step = command(scratch.path(), &workspace, typed, argv)?;
        tell(cx, &step)?;
        let failed = !step.output.status.success();
        steps.push(step);
        if failed {
            return failed_at(cx, &steps);
        }
        if typed.starts_with("bdr guard") {
            gone = files - tree::totals(&tree::read(&workspace)?).0;
        }
    }

    let different = tree::compare(&before, &tree::read(&workspace)?);
    let good = different.is_empty() && gone == files;
    let code = if good { exit::OK } else { exit::FAILURE };
    if cx.ui.json {
        let data = DemoDocument {
            outcome: Some(DemoOutcome {
                files,
                bytes,
                deleted: gone,
                different,
            }),
            steps: steps.iter().map(step_data).collect(),
        };
        cx.ui.document("demo", code, &data)?;
        return Ok(code);
    }
    let undo = ui::elapsed(steps.last().map_or(Duration::ZERO, |step| step.elapsed));
    if good {
        let all = format!(
            "All {} files were gone and are back after {undo}",
            count(files)
        );
        let same = "every byte, mode and time as before, checked by an independent comparison.";
        say(cx, &format!("{}: {same}", cx.ui.out.green(&all)))?;
        say(cx, "Now yours: bdr init")?;
    } else {
        let mut text = format!("{} of {} files were deleted.\n", count(gone), count(files));
        text.push_str("Not as before:\n");
        for line in different.iter().take(20) {
            text.push_str(&format!("  {line}\n"));
        }
        cx.ui.data(&text)?;
    }
    Ok(code)
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
