//! `bdr`: snapshots, then allows. The command line program on top of the library.

mod app;
mod cli;
mod mcp;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    app::exit::leave(cli::main())
}
