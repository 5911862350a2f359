//! `bdr mcp`: the server, and its entry in the settings of clients.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use bdr::base::path::absolute;
use clap::{Args, Subcommand};

use crate::app::context::{Context, variable};
use crate::app::error::Failure;
use crate::mcp::call::{Options, Text};
use crate::mcp::sets::Set;
use crate::mcp::{self, Listen};

mod clients;

/// Answer agents and other programs through the Model Context Protocol
///
/// Speaks MCP on standard input and output until its client goes away; `install` has clients start it. Calls act in your sources, in the project that
/// it was started in, and where --root says; whatever they replace or take away is saved first, and no call runs a command.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  bdr mcp                              as a client starts it
  bdr mcp --tools guard,core
  bdr mcp --read-only --root ~/work
  bdr mcp install --client claude      have a client start it
  bdr mcp install --client vscode --project . --read-only
  bdr mcp uninstall --client all
  bdr mcp status")]
pub(crate) struct McpArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Have a client start it
    Install(clients::InstallArgs),
    /// Take the entry out again
    Uninstall(clients::Which),
    /// Say which clients start it, and whether it answers
    Status(clients::StatusArgs),
}

/// What the server offers, and where it may act.
#[derive(Debug, Args)]
struct OfferArgs {
    /// Offer these tools only: guard, core, admin
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "SETS",
        hide_possible_values = true
    )]
    tools: Vec<Set>,
    /// Offer no tool that changes anything (also: BDR_MCP_READ_ONLY=true)
    #[arg(long)]
    read_only: bool,
    /// Let calls act below these directories too
    #[arg(long, value_name = "DIR", num_args = 1.., value_hint = clap::ValueHint::DirPath)]
    root: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    offer: OfferArgs,
    /// Listen on this address of this machine instead of standard input, like 127.0.0.1:8765
    #[cfg(feature = "http")]
    #[arg(long, value_name = "ADDRESS", value_parser = mcp::http::Address::parse)]
    http: Option<mcp::http::Address>,
    /// Ask for no token
    #[cfg(feature = "conformance")]
    #[arg(long, hide = true, requires = "http")]
    open: bool,
    /// Have what the conformance suite asks for, and ask for no token
    #[cfg(feature = "conformance")]
    #[arg(long, hide = true, requires = "http")]
    fixture: bool,
    /// How results are put as text: brief for guard's tools and JSON for the others, unless given
    #[arg(
        long,
        value_enum,
        value_name = "brief|json",
        hide_possible_values = true
    )]
    text: Option<Text>,
}

pub(crate) fn run(
    cx: &Context,
    args: &McpArgs,
    repository: Option<&PathBuf>,
) -> Result<u8, Failure> {
    match &args.what {
        None => serve(cx, &args.serve, repository),
        Some(What::Install(args)) => clients::install(cx, args),
        Some(What::Uninstall(which)) => clients::uninstall(cx, which),
        Some(What::Status(args)) => clients::status(cx, args),
    }
}

fn serve(cx: &Context, args: &ServeArgs, repository: Option<&PathBuf>) -> Result<u8, Failure> {
    let options = Options {
        roots: args
            .offer
            .root
            .iter()
            .map(|dir| absolute(&cx.cwd, dir))
            .collect(),
        read_only: args.offer.read_only
            || variable("BDR_MCP_READ_ONLY").is_some_and(|word| word == "true" || word == "1"),
        sets: args.offer.tools.clone(),
        text: args.text,
    };
    if std::io::stdin().is_terminal() && matches!(listen(args), Listen::Stdio) {
        cx.ui.say("bdr: waiting for a client of MCP on standard input. To have one start it: bdr mcp install --client all");
    }
    let mut cx = cx.clone();
    // Nothing of what verbs say is for the client.
    cx.ui = crate::ui::Ui::new(false, true, crate::ui::ColorChoice::Never, true);
    mcp::serve(&cx, repository.cloned(), options, listen(args))
}

#[cfg(feature = "conformance")]
fn listen(args: &ServeArgs) -> Listen {
    match args.http {
        Some(address) if args.open || args.fixture => Listen::Open(address, args.fixture),
        Some(address) => Listen::Http(address),
        None => Listen::Stdio,
    }
}

#[cfg(all(feature = "http", not(feature = "conformance")))]
fn listen(args: &ServeArgs) -> Listen {
    args.http.map_or(Listen::Stdio, Listen::Http)
}

#[cfg(not(feature = "http"))]
fn listen(_: &ServeArgs) -> Listen {
    Listen::Stdio
}
