//! `bdr explain`: what a command would do, as far as its words tell, and what a guard would cover.

use std::ffi::OsString;

use bdr::Error;
use bdr::base::units::size;
use bdr::effects::{self, Assessment, Dialect, Effect, Surroundings};
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::ExplainDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::guard;
use crate::ui::{self, plural};

/// Explain what a command would do and what a guard would cover
///
/// Runs nothing. A single argument is read as a shell line, several as a command and its arguments. Where bdr cannot tell what a
/// command does, it says `unknown`, and a guard covers it as if it were destructive.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr explain 'cd build && rm -rf *'
  bdr explain 'git reset --hard HEAD~3'
  bdr explain --shell powershell 'Remove-Item -Recurse build'
  bdr explain -- cp -r a b")]
pub(crate) struct ExplainArgs {
    /// The shell that would read the line
    #[arg(long, value_enum, default_value_t, value_name = "SHELL")]
    shell: Shell,
    /// The command
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND", value_hint = clap::ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

/// Shells by their language.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(crate) enum Shell {
    /// sh, bash, zsh and their like
    #[cfg_attr(not(windows), default)]
    Bash,
    /// PowerShell
    #[cfg_attr(windows, default)]
    Powershell,
    /// The Windows command processor
    Cmd,
}

impl From<Shell> for Dialect {
    fn from(shell: Shell) -> Self {
        match shell {
            Shell::Bash => Self::Posix,
            Shell::Powershell => Self::PowerShell,
            Shell::Cmd => Self::Cmd,
        }
    }
}

pub(crate) fn run(cx: &Context, args: &ExplainArgs) -> Result<u8, Failure> {
    let around = Surroundings {
        cwd: &cx.cwd,
        home: cx.home.as_deref(),
        table: &cx.config.guard.table(),
    };
    let found = match &args.command[..] {
        [line] => match line.to_str() {
            Some(line) => effects::assess_line_in(args.shell.into(), line, &around),
            None => {
                let message = "the line is not valid UTF-8";
                return Err(Failure::usage(message, "bdr explain -- COMMAND ARGUMENT…"));
            }
        },
        argv => effects::assess(argv, &around),
    };
    let covered = match cx.repository() {
        Ok(repo) if found.effect != Effect::Read => match guard::plan_for(cx, &repo, &found) {
            Ok(plan) => Some(plan),
            Err(Failure::Engine(error))
                if matches!(*error, Error::WouldDeleteRepository { .. }) =>
            {
                return refused(cx, &found, &error);
            }
            Err(failure) => return Err(failure),
        },
        _ => None,
    };
    if cx.ui.json {
        let data = ExplainDocument::new(&cx.cwd, &found);
        let data = match &covered {
            Some(plan) => data.covered(plan),
            None => data,
        };
        cx.ui.document("explain", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let mut text = heading(cx, &found);
    if let Some(plan) = &covered {
        let (mode, _) = guard::uncaptured::mode(cx, None);
        let captured = guard::uncaptured::would_capture(cx, &found, (mode, &args.command));
        text.push_str(match captured {
            true => super::guard::CAPTURED_FIRST,
            false => "A guard would cover:",
        });
        text.push('\n');
        let rows: Vec<Vec<String>> = plan
            .roots
            .iter()
            .map(|r| {
                let new = format!("{} new", size(r.new_bytes));
                vec![
                    cx.shown_absolute(&r.path),
                    plural(r.files, "file"),
                    size(r.bytes),
                    new,
                ]
            })
            .collect();
        for line in ui::table::table(&rows, "lrrr") {
            text.push_str(&format!("  {line}\n"));
        }
    }
    cx.ui.data(&text)?;
    Ok(exit::OK)
}

fn refused(cx: &Context, found: &Assessment, error: &Error) -> Result<u8, Failure> {
    if cx.ui.json {
        let data = ExplainDocument::new(&cx.cwd, found).refused(error.to_string());
        cx.ui.document("explain", exit::OK, &data)?;
    } else {
        let text = heading(cx, found);
        cx.ui
            .data(&format!("{text}A guard would refuse it: {error}\n"))?;
    }
    Ok(exit::OK)
}

fn heading(cx: &Context, found: &Assessment) -> String {
    let rule = match found.rule.as_str() {
        "" => String::new(),
        rule => format!(" ({rule})"),
    };
    let mut text = format!("{}{rule}: {}\n", found.effect.word(), found.reason);
    if found.effect == Effect::Read {
        text.push_str("A guard would run it right away, without a snapshot.\n");
    }
    for part in &found.untold {
        text.push_str(&format!("Known only when it runs: {part}\n"));
    }
    for part in &found.remote {
        text.push_str(&format!("Cannot be undone: {part}\n"));
    }
    let named = found.operands.iter().filter(|o| !o.place);
    for operand in named.take(20) {
        let kind = if operand.glob { "pattern" } else { "names" };
        text.push_str(&format!(
            "  {kind:<8}{}\n",
            cx.shown_absolute(&operand.path)
        ));
    }
    text
}
