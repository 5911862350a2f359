//! `bdr shell init`: what a shell runs at its start.

use bdr::install::hooks::shells::{Shell, WRAPPABLE};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use crate::app::context::Context;
use crate::app::documents::ShellDocument;
use crate::app::error::Failure;
use crate::app::exit;

/// Print the code that protects a shell
///
/// The code takes a snapshot before each line you type that may change something, and afterwards prints what was deleted and how
/// to get it back. Lines that only read cost nothing. `bdr hooks install shell` adds it to your shell's startup file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eval \"$(bdr shell init bash)\"                in ~/.bashrc
  eval \"$(bdr shell init zsh --wrap rm,git)\"   in ~/.zshrc
  bdr shell init fish | source                 in ~/.config/fish/config.fish")]
pub(crate) struct ShellArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print it
    Init(InitArgs),
}

#[derive(Debug, Args)]
struct InitArgs {
    /// Which shell
    #[arg(value_name = "SHELL", value_parser = shells())]
    shell: Shell,
    /// Commands to guard wherever the shell calls them, and to refuse if they cannot be: rm, mv, git, find, dd, truncate
    #[arg(long, value_name = "COMMANDS", value_delimiter = ',', value_parser = WRAPPABLE, hide_possible_values = true)]
    wrap: Vec<String>,
    /// Refuse destructive lines that cannot be protected (not in PowerShell)
    #[arg(long)]
    veto: bool,
}

/// Parses a shell's word, and lists the possible ones.
fn shells() -> impl TypedValueParser<Value = Shell> {
    let value = |shell: Shell| PossibleValue::new(shell.word()).aliases(shell.also());
    // Only these words arrive here.
    PossibleValuesParser::new(Shell::ALL.map(value))
        .map(|word| Shell::parse(&word).unwrap_or(Shell::Bash))
}

pub(crate) fn run(cx: &Context, args: &ShellArgs) -> Result<u8, Failure> {
    let What::Init(args) = &args.what;
    let program = crate::app::context::own_program().unwrap_or_else(|| "bdr".into());
    let program = program.to_string_lossy();
    let mut text = args.shell.init(&program, &args.wrap, args.veto);
    text.push_str(&completions(args.shell, &program));
    if cx.ui.json {
        let data = ShellDocument {
            shell: args.shell.word().to_owned(),
            text,
        };
        cx.ui.document("shell", exit::OK, &data)?;
    } else {
        cx.ui.data(&text)?;
    }
    Ok(exit::OK)
}

/// Returns the code for bdr's own completions in a shell that runs its hooks.
fn completions(shell: Shell, program: &str) -> String {
    let text = super::completions::for_shell(shell.word(), program).unwrap_or_default();
    match shell {
        // Without `compinit` before it, zsh has no `compdef`, and would complain at each start.
        Shell::Zsh => format!("if (( $+functions[compdef] )); then\n{text}fi\n"),
        _ => text,
    }
}
