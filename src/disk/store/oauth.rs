//! Requests to services that ask for an access token, which an app of the user's own gets by its
//! refresh token: Google Drive and Dropbox.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::{Request, Response, header};

use super::attempts::{self, Failed, one_line};
use super::http::{Http, Seen};
use super::{Access, Conduct, Location, StoreError, StoreResult, Traffic, Trouble};

/// An access token is renewed so long before it ends.
const EARLY: Duration = Duration::from_secs(120);

type Answer = Response<Vec<u8>>;

#[derive(Clone)]
struct Token {
    value: Arc<str>,
    until: Instant,
}

/// The client of one destination.
pub(super) struct Client {
    http: Http,
    access: Access,
    conduct: Conduct,
    /// Where access tokens come from.
    tokens: &'static str,
    token: Mutex<Option<Token>>,
}

/// What is asked for with a token.
pub(super) struct Ask<'a> {
    pub(super) method: &'static str,
    pub(super) url: &'a str,
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: &'a [u8],
}

impl Client {
    pub(super) fn open(
        location: &Location,
        access: &Access,
        conduct: &Conduct,
        tokens: &'static str,
    ) -> StoreResult<Self> {
        let fields = location.service.fields();
        let missing: Vec<&str> = fields
            .iter()
            .filter(|field| access.get(field.name).is_none())
            .map(|field| field.title)
            .collect();
        if !missing.is_empty() {
            let said = format!("missing: {}", missing.join(", "));
            return Err(StoreError::new(Trouble::Credentials, said));
        }
        Ok(Self {
            http: Http::new(conduct, location.option("ca"))?,
            access: access.clone(),
            conduct: conduct.clone(),
            tokens,
            token: Mutex::default(),
        })
    }

    /// Carries something out, again where that can help.
    pub(super) fn repeat<T>(&self, once: impl FnMut() -> Result<T, Failed>) -> Result<T, Failed> {
        attempts::repeat(&self.conduct, once)
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.http.counted().so_far()
    }

    /// Sends one request. Answers other than success are failures, with what they mean. A token
    /// that ended before its time is renewed once.
    pub(super) fn send(&self, ask: &Ask<'_>) -> Result<Answer, Failed> {
        let (token, is_new) = self.token()?;
        match self.with_token(ask, &token) {
            Err(failed) if failed.error.trouble == Trouble::Credentials && !is_new => {
                self.forget(&token);
                let (token, _) = self.token()?;
                self.with_token(ask, &token)
            }
            answer => answer,
        }
    }

    /// As [`Client::send`], for an answer in JSON.
    pub(super) fn json(&self, ask: &Ask<'_>) -> Result<Value, Failed> {
        let answer = self.send(ask)?;
        serde_json::from_slice(answer.body()).map_err(|_| {
            Failed::new(
                Trouble::Nonsense,
                "the answer is not what the service gives",
            )
        })
    }

    fn with_token(&self, ask: &Ask<'_>, token: &str) -> Result<Answer, Failed> {
        let bearer = format!("Bearer {token}");
        let mut request = Request::builder().method(ask.method).uri(ask.url);
        for (name, value) in ask.headers {
            request = request.header(*name, *value);
        }
        let request = request.header(header::AUTHORIZATION, bearer);
        self.plain(request.body(ask.body.to_vec()), token)
    }

    fn plain(
        &self,
        request: Result<Request<Vec<u8>>, ureq::http::Error>,
        token: &str,
    ) -> Result<Answer, Failed> {
        let request = request.map_err(|e| Failed::new(Trouble::Other, e.to_string()))?;
        let seen = Seen::default();
        let mut failed = match self.http.send(&request, &seen) {
            Ok(answer) if answer.status().is_success() => return Ok(answer),
            Ok(answer) => seen.last().unwrap_or_else(|| {
                let said = format!("the service answered {}", answer.status());
                Failed::new(Trouble::Other, said)
            }),
            Err(failed) => failed,
        };
        let mut said = self.access.without(&failed.error.said);
        if !token.is_empty() {
            said = said.replace(token, "…");
        }
        failed.error.said = one_line(&said);
        Err(failed)
    }

    /// Returns an access token, and whether it was made for this call.
    fn token(&self) -> Result<(Arc<str>, bool), Failed> {
        let mut held = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = held.as_ref().filter(|token| Instant::now() < token.until) {
            return Ok((Arc::clone(&token.value), false));
        }
        let given = |name| encode(self.access.get(name).unwrap_or_default());
        let body = format!(
            "grant_type=refresh_token&refresh_token={}&client_id={}&client_secret={}",
            given("refresh-token"),
            given("client-id"),
            given("client-secret"),
        );
        let request = Request::post(self.tokens)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.into_bytes());
        let answer = self.plain(request, "")?;
        let made: Option<Value> = serde_json::from_slice(answer.body()).ok();
        let value = made.as_ref().and_then(|made| made["access_token"].as_str());
        let value: Arc<str> = match value {
            Some(value) => value.into(),
            None => {
                let said = "the answer to a request for an access token has none";
                return Err(Failed::new(Trouble::Nonsense, said));
            }
        };
        let seconds = made.as_ref().and_then(|made| made["expires_in"].as_u64());
        // An hour is usual; a day is more than anybody needs.
        let lasts = Duration::from_secs(seconds.unwrap_or(3600).min(86_400));
        *held = Some(Token {
            value: Arc::clone(&value),
            until: Instant::now() + lasts.saturating_sub(EARLY),
        });
        Ok((value, true))
    }

    fn forget(&self, value: &str) {
        let mut held = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|token| &*token.value == value) {
            *held = None;
        }
    }
}

/// Encodes a value of a form or of a query.
pub(super) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            true => out.push(char::from(byte)),
            false => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}
