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

/// Serve agents and other programs through the Model Context Protocol
///
/// Speaks MCP on standard input and output until the client disconnects; `install` adds it to a client's settings. Calls may act
/// in your sources, in the project where it was started, and below --root; whatever they replace or remove is saved first, and no
/// call runs a command.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  bdr mcp                              what a client runs
  bdr mcp --tools guard,core
  bdr mcp --read-only --root ~/work
  bdr mcp install claude               add it to a client's settings
  bdr mcp install vscode --project . --read-only
  bdr mcp uninstall all
  bdr mcp status")]
pub(crate) struct McpArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Add bdr to a client's settings
    Install(clients::InstallArgs),
    /// Take the entry out again
    Uninstall(clients::Which),
    /// Show which clients start it and whether it answers
    Status(clients::StatusArgs),
}

/// What the server offers, and where it may act.
#[derive(Debug, Args)]
struct OfferArgs {
    /// Offer only these tools: guard, core, admin
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "SETS",
        hide_possible_values = true
    )]
    tools: Vec<Set>,
    /// Offer only tools that change nothing (also: BDR_MCP_READ_ONLY=true)
    #[arg(long)]
    read_only: bool,
    /// Also let calls act below these directories
    #[arg(long, value_name = "DIR", num_args = 1.., value_hint = clap::ValueHint::DirPath)]
    root: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct ServeArgs {
    #[command(flatten)]
    offer: OfferArgs,
    /// Listen on this local address instead of standard input, like 127.0.0.1:8765
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
    /// Text form of results [default: brief for guard's tools, JSON for the others]
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
        cx.ui.say("bdr: waiting for an MCP client on standard input. To add bdr to your clients: bdr mcp install all");
    }
    let mut cx = cx.clone();
    // Messages of verbs are not for the client.
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
