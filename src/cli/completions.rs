//! `bdr completions`: completes bdr's command lines in shells, and prints its manual pages.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use bdr::base::error::IoContext as _;
use bdr::disk::fsutil;
use clap::{Arg, Args, Command, ValueEnum, ValueHint};
use clap_complete::engine::{
    ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter,
};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Powershell, Zsh};

use super::groups;
use crate::app::context::{Context, Needs, NeedsConfig};
use crate::app::documents::{PagesDocument, ShellDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::log::title;
use crate::ui::{ColorChoice, Ui, when};

/// Set by the shell code that requests completions.
const ASKED: &str = "BDR_COMPLETE";

/// How many operations or snapshots are offered: more fill the screen and nobody reads them.
const MOST: usize = 50;

/// Print the code that completes command lines, or manual pages
///
/// Completes commands, options, paths, operations and snapshots. `bdr hooks install shell` sets this up as well.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(bdr completions bash)                      in ~/.bashrc
  source <(bdr completions zsh)                       in ~/.zshrc, after compinit
  bdr completions fish | source                       in ~/.config/fish/config.fish
  bdr completions powershell | Out-String | iex       in $PROFILE
  bdr completions man | man -l -                      read the manual page
  bdr completions man --output ~/.local/share/man/man1")]
pub(crate) struct CompletionsArgs {
    /// bash, zsh, fish, powershell, or man for manual pages
    #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
    what: What,
    /// Write one manual page for each command into this directory (only with man)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Bash,
    Zsh,
    Fish,
    #[value(alias = "pwsh")]
    Powershell,
    Man,
}

pub(crate) fn run(cx: &Context, args: &CompletionsArgs) -> Result<u8, Failure> {
    if args.output.is_some() && args.what != What::Man {
        return Err(Failure::usage(
            "--output is only for manual pages",
            "bdr completions man --output DIR",
        ));
    }
    if let Some(dir) = &args.output {
        return write_pages(cx, dir);
    }
    let program = crate::app::context::own_program().unwrap_or_else(|| "bdr".into());
    let text = text(args.what, &program.to_string_lossy())?;
    if cx.ui.json {
        let what = args.what.to_possible_value();
        let what = what.as_ref().map(clap::builder::PossibleValue::get_name);
        let data = ShellDocument {
            shell: what.unwrap_or_default().to_owned(),
            text,
        };
        cx.ui.document("completions", exit::OK, &data)?;
    } else {
        cx.ui.data(&text)?;
    }
    Ok(exit::OK)
}

/// Returns the code that a shell sources for its completions.
pub(crate) fn for_shell(word: &str, program: &str) -> Option<String> {
    let what = What::from_str(word, true).ok()?;
    text(what, program).ok()
}

fn text(what: What, program: &str) -> Result<String, Failure> {
    let mut out = Vec::new();
    // In bash it is between double quotes already, in the others it is a bare word.
    let program = match what {
        What::Bash => program.to_owned(),
        What::Powershell => format!("'{}'", program.replace('\'', "''")),
        _ => bdr::base::path::shell_word(program),
    };
    let shell: &dyn EnvCompleter = match what {
        What::Bash => &Bash,
        What::Zsh => &Zsh,
        What::Fish => &Fish,
        What::Powershell => &Powershell,
        What::Man => {
            page(&groups::command(), &mut out)?;
            return Ok(String::from_utf8_lossy(&out).into_owned());
        }
    };
    shell
        .write_registration(ASKED, "bdr", "bdr", &program, &mut out)
        .context("write completions for", program)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn page(command: &Command, out: &mut Vec<u8>) -> Result<(), Failure> {
    let man = clap_mangen::Man::new(command.clone());
    Ok(man.render(out).context("write the manual page of", "bdr")?)
}

/// Writes bdr.1, bdr-guard.1 and so on.
fn write_pages(cx: &Context, dir: &Path) -> Result<u8, Failure> {
    let dir = bdr::base::path::absolute(&cx.cwd, dir);
    fsutil::create_dir_private(&dir)?;
    let mut command = groups::command();
    command.build();
    let mut names = Vec::new();
    let mut left = vec![command];
    while let Some(command) = left.pop() {
        let name = command.get_display_name().unwrap_or("bdr").to_owned();
        let mut out = Vec::new();
        page(&command, &mut out)?;
        let file = format!("{name}.1");
        fsutil::write_atomic(&dir.join(&file), &out, 0o644)?;
        names.push(file);
        let shown = |sub: &&Command| !sub.is_hide_set() && sub.get_name() != "help";
        left.extend(command.get_subcommands().filter(shown).cloned());
    }
    names.sort();
    if cx.ui.json {
        let data = PagesDocument {
            dir: bdr::base::path::show(dir.as_os_str()),
            pages: names,
        };
        cx.ui.document("completions", exit::OK, &data)?;
    } else {
        let pages = crate::ui::plural(names.len() as u64, "page");
        cx.ui
            .report(&format!("Wrote {pages} to {}.\n", cx.shown_absolute(&dir)))?;
    }
    Ok(exit::OK)
}

/// Answers a shell that requests completions. Returns true if one did.
pub(super) fn answer() -> bool {
    // Every command comes through here, even the start of a guard: without the variable nothing is
    // looked up.
    if crate::app::context::variable(ASKED).is_none() {
        return false;
    }
    let args = std::env::args_os();
    let here = crate::app::context::current_dir().ok();
    let asked = CompleteEnv::with_factory(command)
        .var(ASKED)
        .bin("bdr")
        .try_complete(args, here.as_deref());
    // A shell would show stderr in the middle of the line being typed.
    asked.unwrap_or(true)
}

/// The command line with completers for its values: found by the values' names, so that a new
/// command needs nothing here.
fn command() -> Command {
    with_values(groups::command())
}

fn with_values(command: Command) -> Command {
    command
        .mut_args(|arg| match completer(&arg) {
            Some(completer) => arg.add(completer),
            None => arg,
        })
        .mut_subcommands(with_values)
}

fn completer(arg: &Arg) -> Option<ArgValueCompleter> {
    let named = |word: &str| {
        let names = arg.get_value_names().unwrap_or_default();
        names.iter().any(|name| {
            name.split(|c: char| !c.is_alphanumeric())
                .any(|part| part == word)
        })
    };
    let with_paths = named("PATH");
    let offer = match () {
        () if named("OP") => operations,
        () if named("SNAPSHOT") || named("A") || named("B") => snapshots,
        () if named("NAME") && arg.get_id() == "source" => sources,
        () => return None,
    };
    Some(ArgValueCompleter::new(move |typed: &OsStr| {
        let begins = |candidate: &CompletionCandidate| {
            let value = candidate.get_value().as_encoded_bytes();
            value.starts_with(typed.as_encoded_bytes())
        };
        let mut found = offer().unwrap_or_default();
        found.retain(begins);
        if with_paths {
            found.extend(PathCompleter::any().complete(typed));
        }
        found
    }))
}

/// The surroundings for completions, without messages: a repository that is away offers nothing.
fn quiet() -> Option<Context> {
    let ui = Ui::new(false, true, ColorChoice::Never, true);
    let needs = Needs {
        config: NeedsConfig::Later,
        stops_on_signals: false,
        sees_left: false,
    };
    Context::new(None, ui, needs).ok()
}

fn operations() -> Option<Vec<CompletionCandidate>> {
    let cx = quiet()?;
    let repo = cx.repository().ok()?;
    let ids = repo.operation_ids().ok()?;
    let before = ids.len().checked_sub(MOST + 1).map(|at| ids[at]);
    let mut operations = match before {
        Some(before) => repo.operations_after(before).ok()?,
        None => repo.operations().ok()?,
    };
    operations.reverse();
    let offer = |(at, operation): (usize, &bdr::repo::oplog::Operation)| {
        let begin = &operation.begin;
        let about = format!(
            "{}, {}",
            title(operation, &ids),
            when::ago(cx.now, begin.time)
        );
        candidate(begin.id.prefix(&ids).into(), about, at)
    };
    Some(operations.iter().enumerate().map(offer).collect())
}

fn snapshots() -> Option<Vec<CompletionCandidate>> {
    let cx = quiet()?;
    let repo = cx.repository().ok()?;
    let ids = repo.snapshot_ids().ok()?;
    let all = repo.snapshots().ok()?;
    let mut found = vec![candidate("latest".into(), "the last backup".to_owned(), 0)];
    for (at, snapshot) in all.iter().rev().take(MOST).enumerate() {
        let label = snapshot.label.as_deref().unwrap_or(snapshot.trigger.word());
        let about = format!("{}, {label}", when::ago(cx.now, snapshot.time));
        found.push(candidate(snapshot.id.prefix(&ids).into(), about, at + 1));
    }
    Some(found)
}

fn sources() -> Option<Vec<CompletionCandidate>> {
    let cx = quiet()?;
    let offer = |source: &bdr::model::config::Source| {
        candidate((&source.name).into(), cx.shown_absolute(&source.path), 0)
    };
    Some(cx.config.sources.iter().map(offer).collect())
}

fn candidate(value: OsString, about: String, order: usize) -> CompletionCandidate {
    CompletionCandidate::new(value)
        .help(Some(about.into()))
        .display_order(Some(order))
}
