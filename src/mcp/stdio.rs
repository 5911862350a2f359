//! Standard input and output as a transport. Nothing but messages gets to standard output, whatever else the process prints.

use std::fs::File;
use std::io;

use rmcp::ServiceExt as _;

use super::server::Server;
use crate::cli::error::Failure;
use crate::cli::exit;

/// Returns standard output for messages, and has everything else that is printed go to standard error.
#[cfg(unix)]
pub(super) fn take_stdout() -> io::Result<File> {
    use std::os::fd::AsFd as _;
    let own = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(File::from(own))
}

/// Returns standard output for messages. Nothing in bdr prints in this mode.
#[cfg(windows)]
pub(super) fn take_stdout() -> io::Result<File> {
    use std::os::windows::io::AsHandle as _;
    let own = io::stdout().as_handle().try_clone_to_owned()?;
    Ok(File::from(own))
}

/// Answers until stdin ends.
pub(super) async fn serve(server: Server, stdout: File) -> Result<u8, Failure> {
    let transport = (tokio::io::stdin(), tokio::fs::File::from_std(stdout));
    let failed = |why: String| Failure::from(bdr::Error::invalid(why, None));
    let running = match server.serve(transport).await {
        Ok(running) => running,
        // A client that goes away before it has said anything.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(exit::OK),
        Err(error) => return Err(failed(format!("the client does not speak MCP: {error}"))),
    };
    running
        .waiting()
        .await
        .map_err(|error| failed(error.to_string()))?;
    Ok(exit::OK)
}
