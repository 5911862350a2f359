//! The command line: what can be typed, and which module answers.

use std::path::PathBuf;

use clap::{Args, FromArgMatches as _, Parser, Subcommand};

use crate::app::context::{self, Context, Needs, NeedsConfig};
use crate::app::error::{self, Failure};
use crate::app::exit;
use crate::ui::{ColorChoice, Ui};

pub(crate) mod backup;
mod clone;
pub(crate) mod completions;
pub(crate) mod config;
mod dashboard;
mod demo;
mod diff;
mod doctor;
mod drill;
mod explain;
mod files;
mod groups;
pub(crate) mod guard;
mod hook;
pub(crate) mod hooks;
mod import;
mod init;
mod list;
mod log;
mod ls;
mod mark;
mod mcp;
mod notify;
mod op;
mod privacy;
pub(crate) mod prune;
mod push;
mod remote;
mod repair;
mod restore;
mod scan;
pub(crate) mod schedule;
pub(crate) mod settle;
mod shell;
mod show;
mod sources;
pub(crate) mod status;
mod sync;
pub(crate) mod tick;
mod undo;
mod uninstall;
mod vault;
pub(crate) mod verify;
mod version;

/// Snapshot, then allow: make destructive commands undoable and keep backups
///
/// `bdr guard -- COMMAND` takes a snapshot and runs the command; `bdr undo` takes back what it changed.
/// The same engine keeps backups of your workspace.
#[derive(Debug, Parser)]
#[command(name = "bdr", version, max_term_width = 100)]
#[command(after_help = "\
Examples:
  bdr guard -- rm -rf build data     take a snapshot, then run the command
  bdr undo                           undo what it changed
  bdr init                           choose what to back up
  bdr restore latest notes.md        bring a file back

Exit codes: 0 ok, 1 failure, 2 usage, 3 partial, 4 damage found, 10 no repository, 11 busy, 130 interrupted;
`bdr guard` exits with its command's status (125: not run, 126: cannot be executed, 127: not found).
Environment: BDR_HOME keeps all of bdr's files below one directory, BDR_CONFIG names the configuration, BDR=0 turns guards off.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print errors and the data asked for, nothing else
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Use the repository in this directory
    #[arg(long, global = true, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) repository: Option<PathBuf>,
    /// Colour the output
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true
    )]
    pub(crate) color: ColorChoice,
    /// Do not use a pager for long lists
    #[arg(long, global = true)]
    pub(crate) no_pager: bool,
}

/// Everything bdr does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Guard(guard::GuardArgs),
    Explain(explain::ExplainArgs),
    #[command(hide = true)]
    Hook(hook::HookArgs),
    Hooks(hooks::HooksArgs),
    Mcp(mcp::McpArgs),
    Shell(shell::ShellArgs),
    Completions(completions::CompletionsArgs),
    #[command(hide = true)]
    Version(version::VersionArgs),
    Undo(undo::UndoArgs),
    Redo(undo::RedoArgs),
    Log(log::LogArgs),
    Show(show::ShowArgs),
    Op(op::OpArgs),
    Init(init::InitArgs),
    Add(sources::AddArgs),
    #[command(visible_alias = "rm")]
    Remove(sources::RemoveArgs),
    Exclude(sources::ExcludeArgs),
    Backup(backup::BackupArgs),
    #[command(visible_alias = "snapshots")]
    List(list::ListArgs),
    Ls(ls::LsArgs),
    Diff(diff::DiffArgs),
    History(files::HistoryArgs),
    Find(files::FindArgs),
    Cat(files::CatArgs),
    Restore(restore::RestoreArgs),
    Push(push::PushArgs),
    Pull(clone::PullArgs),
    Clone(clone::CloneArgs),
    Machines(push::MachinesArgs),
    Sync(sync::SyncArgs),
    Remote(remote::RemoteArgs),
    Prune(prune::PruneArgs),
    Tag(mark::TagArgs),
    Pin(mark::PinArgs),
    Unpin(mark::UnpinArgs),
    Forget(prune::ForgetArgs),
    Verify(verify::VerifyArgs),
    Repair(repair::RepairArgs),
    Drill(drill::DrillArgs),
    Status(status::StatusArgs),
    Scan(scan::ScanArgs),
    Privacy(privacy::PrivacyArgs),
    Vault(vault::VaultArgs),
    Notify(notify::NotifyArgs),
    Dashboard(dashboard::DashboardArgs),
    Schedule(schedule::ScheduleArgs),
    #[command(hide = true)]
    Tick(tick::TickArgs),
    Config(config::ConfigArgs),
    Import(import::ImportArgs),
    Doctor(doctor::DoctorArgs),
    #[command(hide = true)]
    Settle(settle::SettleArgs),
    Demo(demo::DemoArgs),
    Uninstall(uninstall::UninstallArgs),
}

impl Command {
    /// Returns what a command needs from its surroundings.
    fn needs(&self) -> Needs {
        let config = match self {
            Self::Config(_)
            | Self::Doctor(_)
            | Self::Demo(_)
            | Self::Init(_)
            | Self::Shell(_)
            | Self::Completions(_)
            | Self::Version(_)
            | Self::Uninstall(_) => NeedsConfig::Never,
            Self::Mcp(_) => NeedsConfig::Later,
            _ => NeedsConfig::Now,
        };
        Needs {
            config,
            stops_on_signals: !matches!(self, Self::Guard(_) | Self::Mcp(_)),
            sees_left: !matches!(
                self,
                Self::Guard(_) | Self::Hook(_) | Self::Settle(_) | Self::Tick(_) | Self::Backup(_)
            ),
        }
    }
}

/// Runs the typed command and returns the exit code.
pub(crate) fn main() -> i32 {
    if completions::answer() {
        return exit::OK.into();
    }
    if std::env::args_os().len() == 1
        && let Some(code) = hook::run_unasked()
    {
        return code;
    }
    let cli = match typed() {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let global = &cli.global;
    let ui = Ui::new(
        global.json,
        global.quiet,
        global.color,
        context::wants_plain(),
    )
    .with_unicode(context::shows_unicode())
    .with_pager(!global.no_pager);
    if let Command::Guard(args) = &cli.command {
        return guard::run(args, &cli, ui);
    }
    if let Command::Hook(args) = &cli.command {
        return hook::run(args, global);
    }
    if let Command::Tick(args) = &cli.command
        && let Some(code) = args.run_with_variables()
    {
        return code;
    }
    if let Command::Settle(args) = &cli.command
        && let Some(code) = args.answer_only(global.repository.as_deref(), ui)
    {
        return code;
    }
    let done =
        Context::new(global.repository.as_deref(), ui, cli.command.needs()).and_then(
            |cx| match &cli.command {
                Command::Mcp(args) => mcp::run(&cx, args, global.repository.as_ref()),
                command => {
                    let done = run(&cx, command);
                    cx.tell_unreadable();
                    let from = cx.from_words.lock().map(|words| words.clone());
                    done.map_err(|failure| match failure {
                        // A transfer that was under way was given up.
                        Failure::Engine(error)
                            if cx.is_stopped() && matches!(*error, bdr::Error::Remote { .. }) =>
                        {
                            bdr::Error::Interrupted.into()
                        }
                        failure => failure.at(&from.unwrap_or_default()),
                    })
                }
            },
        );
    i32::from(done.unwrap_or_else(|failure| failure.tell(&ui)))
}

fn run(cx: &Context, command: &Command) -> Result<u8, Failure> {
    match command {
        // Answered before there is a context.
        Command::Guard(_) => Ok(exit::NOT_RUN),
        Command::Hook(_) | Command::Mcp(_) => Ok(exit::FAILURE),
        Command::Undo(args) => undo::undo(cx, args),
        Command::Redo(args) => undo::redo(cx, args),
        Command::Log(args) => log::log(cx, args),
        Command::Show(args) => show::run(cx, args),
        Command::Op(args) => op::run(cx, args),
        Command::Explain(args) => explain::run(cx, args),
        Command::Hooks(args) => hooks::run(cx, args),
        Command::Shell(args) => shell::run(cx, args),
        Command::Completions(args) => completions::run(cx, args),
        Command::Version(args) => version::run(cx, args),
        Command::Init(args) => init::run(cx, args),
        Command::Add(args) => sources::add(cx, args),
        Command::Remove(args) => sources::remove(cx, args),
        Command::Exclude(args) => sources::exclude(cx, args),
        Command::Backup(args) => backup::run(cx, args),
        Command::List(args) => list::run(cx, args),
        Command::Ls(args) => ls::run(cx, args),
        Command::Diff(args) => diff::run(cx, args),
        Command::History(args) => files::history(cx, args),
        Command::Find(args) => files::find(cx, args),
        Command::Cat(args) => files::cat(cx, args),
        Command::Restore(args) => restore::run(cx, args),
        Command::Push(args) => push::push(cx, args),
        Command::Pull(args) => clone::pull(cx, args),
        Command::Clone(args) => clone::clone(cx, args),
        Command::Machines(args) => push::list_machines(cx, args),
        Command::Sync(args) => sync::run(cx, args),
        Command::Remote(args) => remote::run(cx, args),
        Command::Prune(args) => prune::prune(cx, args),
        Command::Tag(args) => mark::tag(cx, args),
        Command::Pin(args) => mark::pin(cx, args),
        Command::Unpin(args) => mark::unpin(cx, args),
        Command::Forget(args) => prune::forget(cx, args),
        Command::Verify(args) => verify::run(cx, args),
        Command::Repair(args) => repair::run(cx, args),
        Command::Drill(args) => drill::run(cx, args),
        Command::Status(args) => status::run(cx, args),
        Command::Scan(args) => scan::run(cx, args),
        Command::Privacy(args) => privacy::run(cx, args),
        Command::Vault(args) => vault::run(cx, args),
        Command::Notify(args) => notify::run(cx, args),
        Command::Dashboard(args) => dashboard::run(cx, args),
        Command::Schedule(args) => schedule::run(cx, args),
        Command::Tick(args) => tick::run(cx, args),
        Command::Config(args) => config::run(cx, args),
        Command::Import(args) => import::run(cx, args),
        Command::Doctor(args) => doctor::run(cx, args),
        Command::Settle(args) => settle::run(cx, args),
        Command::Demo(args) => demo::run(cx, args),
        Command::Uninstall(args) => uninstall::run(cx, args),
    }
}

/// Parses the command line.
///
/// The commands that run around every command of somebody's shell or agent are parsed by
/// themselves: making the other forty takes longer than all else that a small guard does. Whatever
/// is not understood is parsed once more with all of them, for help and errors.
fn typed() -> Result<Cli, clap::Error> {
    let of_root = |matches: clap::ArgMatches| Cli::from_arg_matches(&matches);
    let name = std::env::args_os().nth(1);
    let alone = name.and_then(|name| alone(name.to_str()?));
    let parsed = alone.and_then(|command| command.try_get_matches().ok());
    if let Some(Ok(cli)) = parsed.map(of_root) {
        return Ok(cli);
    }
    groups::command().try_get_matches().and_then(of_root)
}

/// Adds the arguments of a command to it.
type WithArgs = fn(clap::Command) -> clap::Command;

/// The commands that are parsed by themselves.
const ALONE: [(&str, WithArgs); 5] = [
    ("guard", guard::GuardArgs::augment_args),
    ("hook", hook::HookArgs::augment_args),
    ("backup", backup::BackupArgs::augment_args),
    ("undo", undo::UndoArgs::augment_args),
    ("tick", tick::TickArgs::augment_args),
];

/// Returns a command line that has one command; `None` if it is not worth it.
fn alone(name: &str) -> Option<clap::Command> {
    let (name, with_args) = ALONE.iter().find(|(known, _)| *known == name)?;
    let root = clap::Command::new("bdr").subcommand_required(true);
    let command = with_args(clap::Command::new(*name));
    Some(Global::augment_args(root).subcommand(command))
}

/// Reports an error in the command line, or prints the requested help.
fn misused(error: &clap::Error) -> i32 {
    let own: Vec<_> = std::env::args_os()
        .skip(1)
        .take_while(|arg| arg != "--")
        .collect();
    if !error.use_stderr() {
        // Help and version; a reader that closes the pipe has seen enough.
        let _ = error.print();
        return exit::OK.into();
    }
    let verb = own
        .iter()
        .find(|arg| !arg.as_encoded_bytes().starts_with(b"-"));
    let code = match verb.and_then(|word| word.to_str()) {
        Some("guard") => exit::NOT_RUN,
        // To agents, 2 means that the tool must not run.
        Some("hook") => exit::FAILURE,
        _ => exit::USAGE,
    };
    if own.iter().any(|arg| arg == "--json") {
        let text = error.to_string();
        let message = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ");
        let document =
            error::error_document("usage", message, Some("bdr --help".to_owned()), &[], code);
        let _ = Ui::new(true, false, ColorChoice::Never, true).data(&document);
    } else {
        let _ = error.print();
    }
    code.into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn a_command_that_is_parsed_by_itself_takes_the_same_arguments() {
        let all = super::Cli::command();
        let arguments = |command: &clap::Command| -> Vec<String> {
            command
                .get_arguments()
                .map(|arg| format!("{arg:?}"))
                .collect()
        };
        let subcommands = |command: &clap::Command| -> Vec<String> {
            command
                .get_subcommands()
                .map(|sub| sub.get_name().to_owned())
                .collect()
        };
        for (name, _) in super::ALONE {
            let root = super::alone(name).expect("it is listed");
            let alone = root.find_subcommand(name).expect("it has one command");
            let among_all = all.find_subcommand(name).expect("it is a command");
            assert_eq!(arguments(alone), arguments(among_all), "{name}");
            assert_eq!(subcommands(alone), subcommands(among_all), "{name}");
            assert_eq!(arguments(&root), arguments(&all), "{name}");
        }
    }

    #[test]
    fn every_command_has_examples_and_a_first_line_without_a_period() {
        for command in super::Cli::command().get_subcommands() {
            let name = command.get_name();
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(help.contains("bdr "), "{name} has no examples");
            let about = command
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                !about.is_empty() && !about.ends_with('.'),
                "{name}: {about}"
            );
            for arg in command.get_arguments().filter(|arg| arg.get_id() != "help") {
                assert!(arg.get_help().is_some(), "{name} --{}", arg.get_id());
            }
        }
    }
}
