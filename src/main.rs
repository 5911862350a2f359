//! `bdr`: snapshots, then allows. The program around the library of the same name.

mod app;
mod cli;
mod mcp;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    app::exit::leave(cli::main())
}
