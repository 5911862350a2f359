//! The MCP server: the engine for agents and other programs, through the Model Context Protocol
//! (<https://modelcontextprotocol.io>, versions 2024-11-05 to 2026-07-28).
//!
//! `server` is the only module that knows the protocol's types; the others take and return JSON. A
//! call becomes a [`call::Call`], runs on a thread where it may block, and uses the same code as
//! the command line. No call runs a command.

use std::path::PathBuf;

use crate::app::context::Context;
use crate::app::error::Failure;

mod args;
pub(crate) mod call;
mod fault;
#[cfg(feature = "conformance")]
#[path = "../../tests/mcp/fixture.rs"]
mod fixture;
#[cfg(feature = "http")]
pub(crate) mod http;
mod prompts;
mod resources;
mod result;
mod roots;
mod server;
pub(crate) mod sets;
mod stdio;
pub(crate) mod tools;

use call::Options;
use server::Server;

/// Threads for calls, including those that read stdin and write stdout.
const THREADS: usize = 8;

#[derive(Debug)]
pub(crate) enum Listen {
    Stdio,
    #[cfg(feature = "http")]
    Http(http::Address),
    /// The loopback interface without a token, because the conformance suite brings none; the flag
    /// adds that suite's tools.
    #[cfg(feature = "conformance")]
    Open(http::Address, bool),
}

/// Answers until the client disconnects.
pub(crate) fn serve(
    cx: &Context,
    repository: Option<PathBuf>,
    options: Options,
    listen: Listen,
) -> Result<u8, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_time()
        .max_blocking_threads(THREADS)
        // Idle threads cost memory.
        .thread_keep_alive(std::time::Duration::from_secs(1));
    #[cfg(feature = "http")]
    builder.enable_io();
    let failed = |error| Failure::from(bdr::Error::io("start", "a runtime", error));
    let runtime = builder.build().map_err(failed)?;
    let server = Server::new(cx.clone(), repository, options)
        .map_err(|why| Failure::from(bdr::Error::invalid(why, None)))?;
    let result = match listen {
        Listen::Stdio => {
            let stdout = stdio::take_stdout()
                .map_err(|error| Failure::from(bdr::Error::io("open", "standard output", error)))?;
            runtime.block_on(stdio::serve(server, stdout))
        }
        #[cfg(feature = "http")]
        Listen::Http(address) => runtime.block_on(http::serve(cx, server, address, false)),
        #[cfg(feature = "conformance")]
        Listen::Open(address, false) => runtime.block_on(http::serve(cx, server, address, true)),
        #[cfg(feature = "conformance")]
        Listen::Open(address, true) => {
            let fixture = fixture::Fixture::new(server)
                .map_err(|why| Failure::from(bdr::Error::invalid(why, None)))?;
            runtime.block_on(http::serve(cx, fixture, address, true))
        }
    };
    // A read of stdin cannot be cancelled; running calls may be interrupted at any instruction.
    runtime.shutdown_background();
    result
}
