//! `bdr shell init`: what a shell runs at its start. `bdr shell session`: a shell that is captured.

use bdr::Error;
use bdr::disk::fsutil;
use bdr::install::hooks::shells::{Shell, WRAPPABLE};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};

use crate::app::context::{Context, guard_is_off, own_program, variable};
use crate::app::documents::ShellDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::guard::uncaptured;

/// Protect a shell, or start a captured one
///
/// `session` starts your shell so that each command in it can be undone, whatever it destroys (Linux). `init` prints code that takes a snapshot before each line you type that may change something, and afterwards prints what was deleted and how
/// to get it back. Lines that only read cost nothing. `bdr hooks install shell` adds it to your shell's startup file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eval \"$(bdr shell init bash)\"                in ~/.bashrc
  eval \"$(bdr shell init zsh --wrap rm,git)\"   in ~/.zshrc
  bdr shell init fish | source                 in ~/.config/fish/config.fish
  bdr shell session                            until you leave it with exit")]
pub(crate) struct ShellArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print it
    Init(InitArgs),
    /// Start your shell as a captured session
    Session,
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
    match &args.what {
        What::Init(args) => init(cx, args),
        What::Session => session(cx),
    }
}

/// Becomes a guard of the user's shell.
fn session(cx: &Context) -> Result<u8, Failure> {
    let refuse = |why: &str, hint: &str| Err(Failure::usage(why, hint));
    if guard_is_off() {
        return refuse("BDR=0 turns all protection off", "unset BDR");
    }
    if uncaptured::is_captured(cx) {
        return refuse(
            "this is in a captured session already",
            "bdr log shows what its commands did",
        );
    }
    if let Err(why) = uncaptured::works_here(cx) {
        let why = format!("a session cannot be captured here: {why}");
        return refuse(&why, "bdr hooks install shell takes snapshots instead");
    }
    // Without that right, the kernel takes the filter only from programs that gain none.
    let sudo = match fsutil::is_root() {
        true => "",
        false => "; programs like sudo do not work in it",
    };
    cx.ui.say(&format!(
        "bdr: from here to `exit`, each command can be undone: bdr log, bdr undo{sudo}"
    ));
    let shell = variable("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let program = own_program().unwrap_or_else(|| "bdr".into());
    let mut guard = std::process::Command::new(&program);
    if cx.places.named {
        guard.arg("--repository").arg(&cx.places.repository);
    }
    guard.args(["guard", "--session", "--"]).arg(shell);
    Err(Error::io("run", &program, become_it(&mut guard)).into())
}

/// Replaces this process by another program; returns why that is impossible.
#[cfg(unix)]
fn become_it(command: &mut std::process::Command) -> std::io::Error {
    std::os::unix::process::CommandExt::exec(command)
}

/// Nothing is captured on such systems.
#[cfg(not(unix))]
fn become_it(_: &mut std::process::Command) -> std::io::Error {
    std::io::ErrorKind::Unsupported.into()
}

fn init(cx: &Context, args: &InitArgs) -> Result<u8, Failure> {
    let program = own_program().unwrap_or_else(|| "bdr".into());
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
