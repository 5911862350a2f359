//! The server over HTTP (the protocol's Streamable HTTP), for clients that cannot start a program.
//! Only on the loopback interface, and only with the token: any program of any user, and any page
//! in a browser, can reach a port.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use bdr::base::error::IoContext as _;
use bdr::disk::fsutil;
use rmcp::handler::server::ServerHandler;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};

use crate::app::context::Context;
use crate::app::error::Failure;
use crate::app::exit;

/// Where the server listens: an address of the loopback interface.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address(SocketAddr);

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// It is invalid, or reachable from other machines.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let address: SocketAddr = text
            .parse()
            .map_err(|_| format!("`{text}` is not an address: write it like 127.0.0.1:8765"))?;
        match address.ip().is_loopback() {
            true => Ok(Self(address)),
            false => Err("bdr listens on local addresses only, like 127.0.0.1:8765".to_owned()),
        }
    }
}

/// What a request has to present; `None` accepts any.
#[derive(Clone)]
struct Token(Option<Arc<str>>);

/// Answers requests until the process ends.
pub(super) async fn serve<H: ServerHandler + Clone>(
    cx: &Context,
    server: H,
    Address(address): Address,
    open: bool,
) -> Result<u8, Failure> {
    let token = match open {
        true => None,
        false => Some(token(&cx.places.state.join("mcp.token"))?),
    };
    let config = StreamableHttpServerConfig::default()
        .with_allowed_origins(["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"])
        .enforce_origin_validation();
    let service = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(LocalSessionManager::default()),
        config,
    );
    let router = axum::Router::new()
        .nest_service("/mcp", service)
        .layer(middleware::from_fn_with_state(Token(token), admit));
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .context("listen on", address.to_string())?;
    let bound = listener
        .local_addr()
        .context("listen on", address.to_string())?;
    let place = cx.shown_absolute(&cx.places.state.join("mcp.token"));
    let how = match open {
        true => "no token needed".to_owned(),
        false => format!("the token is in {place}"),
    };
    cx.ui
        .warn(&format!("bdr: listening on http://{bound}/mcp; {how}"));
    axum::serve(listener, router)
        .await
        .context("listen on", address.to_string())?;
    Ok(exit::OK)
}

/// Returns the token of this user; the first server creates it.
fn token(file: &Path) -> Result<Arc<str>, Failure> {
    if let Ok(text) = std::fs::read_to_string(file)
        && text.trim().len() >= 32
    {
        return Ok(text.trim().into());
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| bdr::Error::invalid(error.to_string(), None))?;
    let text = hex::encode(random);
    if let Some(dir) = file.parent() {
        fsutil::create_dir_private(dir)?;
    }
    fsutil::write_atomic(file, format!("{text}\n").as_bytes(), 0o600)?;
    Ok(text.into())
}

async fn admit(State(Token(token)): State<Token>, request: Request, next: Next) -> Response {
    let Some(token) = token else {
        return next.run(request).await;
    };
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer "));
    match given.is_some_and(|given| is_same(given.trim().as_bytes(), token.as_bytes())) {
        true => next.run(request).await,
        false => {
            let why = "this needs bdr's token: Authorization: Bearer TOKEN";
            let mut response = (StatusCode::UNAUTHORIZED, why).into_response();
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Bearer"),
            );
            response
        }
    }
}

/// Compares in a time that does not reveal how much matches.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    // Compare digests: an attacker cannot predict them.
    bdr::base::id::Digest::of(a) == bdr::base::id::Digest::of(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_listened_on() {
        for good in ["127.0.0.1:0", "127.0.0.1:8765", "[::1]:8765"] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "0.0.0.0:8765",
            "[::]:8765",
            "192.168.1.2:80",
            "localhost:80",
            "8765",
            "",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
