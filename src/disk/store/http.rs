//! HTTP for stores: bdr's own client in place of a second one, so that every request has its
//! deadlines, is counted and held back where a limit is set, and its answer is looked at before
//! anybody believes it.

use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

use super::attempts::Failed;
use super::counted::Counted;
use super::pace::{Pace, STOPPED};
use super::{Conduct, StoreError, StoreResult, Trouble};
use answers::Refusal;
pub(super) use answers::unescape;
pub(super) use part::{part, range_header};

mod answers;
mod part;

/// The largest answer that is read: objects are smaller.
const MAX_ANSWER: u64 = 1 << 30;
/// Redirects to the same host that are followed.
const MAX_REDIRECTS: u32 = 3;
/// How much is sent or received between two looks at the clock.
const CHUNK: usize = 64 << 10;
/// The service that tells a virtual machine its credentials; elsewhere nobody answers.
const MACHINE: &str = "169.254.169.254";

/// What is known of the requests that one call made.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<Mutex<(Option<Failed>, u64)>>);

impl Seen {
    fn note(&self, failed: Option<Failed>) {
        let mut seen = lock(&self.0);
        seen.0 = failed;
        seen.1 += 1;
    }

    /// Returns what was wrong with the last one, if something was.
    pub(super) fn last(&self) -> Option<Failed> {
        lock(&self.0).0.clone()
    }

    /// Returns how many there were.
    #[cfg(feature = "opendal")]
    pub(super) fn requests(&self) -> u64 {
        lock(&self.0).1
    }
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Inner {
    agent: ureq::Agent,
    pace: Pace,
    counted: Counted,
    conduct: Conduct,
}

/// The client of one store.
#[derive(Clone)]
pub(super) struct Http(Arc<Inner>);

impl Http {
    /// Makes a client; `roots` is a file of certificates in PEM, in place of those that are built
    /// in.
    pub(super) fn new(conduct: &Conduct, roots: Option<&str>) -> StoreResult<Self> {
        let mut tls = TlsConfig::builder();
        if let Some(file) = roots {
            let pem = std::fs::read(file).map_err(|error| {
                let said = format!("`ca`: {}: {error}", crate::base::path::show(file.as_ref()));
                StoreError::new(Trouble::Certificate, said)
            })?;
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates(&pem)?));
        }
        let config = ureq::Agent::config_builder()
            .user_agent(concat!("bdr/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .allow_non_standard_methods(true)
            .accept("*/*")
            // Objects are stored as they are, so they come as they are.
            .accept_encoding("identity")
            .timeout_connect(Some(conduct.patience.min(Duration::from_secs(10))))
            .timeout_resolve(Some(conduct.patience))
            .timeout_per_read(Some(conduct.patience))
            .timeout_per_write(Some(conduct.patience))
            .timeout_recv_response(Some(conduct.patience))
            .build();
        Ok(Self(Arc::new(Inner {
            agent: ureq::Agent::new_with_config(config),
            pace: Pace::new(conduct),
            counted: Counted::default(),
            conduct: conduct.clone(),
        })))
    }

    pub(super) fn counted(&self) -> &Counted {
        &self.0.counted
    }

    /// Returns how long a request with that much content may take.
    pub(super) fn deadline(&self, bytes: u64) -> Duration {
        self.0.pace.deadline(&self.0.conduct, bytes)
    }

    /// Sends a request and reads the whole answer. Answers that say no are answers here, too.
    pub(super) fn send(
        &self,
        request: &Request<Vec<u8>>,
        seen: &Seen,
    ) -> Result<Response<Vec<u8>>, Failed> {
        let answer = self.follow(request);
        seen.note(match &answer {
            Err(failed) => Some(failed.clone()),
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(refused(request, answer)),
        });
        answer
    }

    fn follow(&self, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Failed> {
        let mut uri = request.uri().clone();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.once(request, &uri)?;
            let location = answer.headers().get(header::LOCATION);
            let target = location
                .filter(|_| answer.status().is_redirection())
                .and_then(|to| to.to_str().ok());
            let Some(target) = target else {
                check(request, &answer)?;
                return Ok(answer);
            };
            match same_place(&uri, target) {
                Some(next) => uri = next,
                // Stores of a provider may be at another address; a login page always is.
                None if answer.headers().contains_key("x-amz-bucket-region") => return Ok(answer),
                None => {
                    let host = target.parse::<Uri>().ok();
                    let host = host.as_ref().and_then(Uri::host).unwrap_or("elsewhere");
                    let said = format!(
                        "the answer was a redirect to {host}: does this network want a login?"
                    );
                    return Err(Failed::new(Trouble::Nonsense, said));
                }
            }
        }
        let said = "the server sends from one address to the next";
        Err(Failed::new(Trouble::Nonsense, said))
    }

    fn once(&self, request: &Request<Vec<u8>>, uri: &Uri) -> Result<Response<Vec<u8>>, Failed> {
        let inner = &self.0;
        let body = request.body();
        let mut deadline = self.deadline(body.len() as u64);
        if uri.host() == Some(MACHINE) {
            deadline = deadline.min(Duration::from_secs(2));
        }
        inner.counted.request(body.len(), 0);
        let is_empty = body.is_empty() && takes_no_content(request.method());
        let mut outgoing = Request::builder().method(request.method()).uri(uri);
        if let Some(headers) = outgoing.headers_mut() {
            *headers = request.headers().clone();
            match is_empty {
                true => drop(headers.remove(header::CONTENT_LENGTH)),
                false => drop(headers.insert(header::CONTENT_LENGTH, body.len().into())),
            }
        }
        let mut paced = Paced {
            rest: body,
            pace: &inner.pace,
        };
        let answer = match is_empty {
            true => self.run(outgoing, (), deadline),
            false => self.run(outgoing, ureq::SendBody::from_reader(&mut paced), deadline),
        };
        let (parts, content) = answer?.into_parts();
        let is_head = *request.method() == Method::HEAD;
        let content = self.content(content, &parts.headers, is_head)?;
        inner.counted.received(content.len());
        Ok(Response::from_parts(parts, content))
    }

    fn run(
        &self,
        outgoing: ureq::http::request::Builder,
        body: impl ureq::AsSendBody,
        deadline: Duration,
    ) -> Result<Response<ureq::Body>, Failed> {
        let outgoing = outgoing
            .body(body)
            .map_err(|error| Failed::new(Trouble::Other, error.to_string()))?;
        let agent = &self.0.agent;
        let outgoing = agent
            .configure_request(outgoing)
            .timeout_send_body(Some(deadline))
            .build();
        agent.run(outgoing).map_err(|error| broken(&error))
    }

    /// Reads the content of an answer; a server that sends it drop by drop is given up.
    fn content(
        &self,
        body: ureq::Body,
        headers: &HeaderMap,
        is_head: bool,
    ) -> Result<Vec<u8>, Failed> {
        if is_head {
            return Ok(Vec::new());
        }
        let length = headers.get(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > MAX_ANSWER) {
            let said = "the answer is larger than any object of bdr's";
            return Err(Failed::new(Trouble::Nonsense, said));
        }
        let started = Instant::now();
        let mut reader = body.into_with_config().limit(MAX_ANSWER).reader();
        let mut content = Vec::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = reader.read(&mut chunk);
            let read = read.map_err(|error| broken(&ureq::Error::from(error)))?;
            if read == 0 {
                break;
            }
            content.extend_from_slice(&chunk[..read]);
            if !self.0.pace.wait(read) {
                return Err(Failed::new(Trouble::Other, STOPPED));
            }
            let due = self.deadline(length.unwrap_or(content.len() as u64));
            if started.elapsed() > due {
                return Err(Failed::timeout(format!(
                    "no whole answer within {} s",
                    due.as_secs()
                )));
            }
        }
        match length {
            Some(length) if length != content.len() as u64 => {
                let said = format!("the answer ended after {} of {length} bytes", content.len());
                Err(Failed::new(Trouble::Unreachable, said))
            }
            _ => Ok(content),
        }
    }
}

struct Paced<'a> {
    rest: &'a [u8],
    pace: &'a Pace,
}

impl Read for Paced<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.rest.len()).min(CHUNK);
        if !self.pace.wait(length) {
            return Err(std::io::Error::other(STOPPED));
        }
        let (now, rest) = self.rest.split_at(length);
        buffer[..length].copy_from_slice(now);
        self.rest = rest;
        Ok(length)
    }
}

fn takes_no_content(method: &Method) -> bool {
    !matches!(method.as_str(), "PUT" | "POST" | "PATCH")
}

fn certificates(pem: &[u8]) -> StoreResult<Vec<Certificate<'static>>> {
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(pem) {
        if let Ok(PemItem::Certificate(certificate)) = item {
            found.push(certificate);
        }
    }
    match found.is_empty() {
        true => {
            let said = "the file of `ca` has no certificate (PEM)";
            Err(StoreError::new(Trouble::Certificate, said))
        }
        false => Ok(found),
    }
}

/// Returns where a redirect leads, if that is the same server.
fn same_place(from: &Uri, target: &str) -> Option<Uri> {
    if target.starts_with('/') && !target.starts_with("//") {
        let mut parts = from.clone().into_parts();
        parts.path_and_query = Some(target.parse().ok()?);
        return Uri::from_parts(parts).ok();
    }
    let to: Uri = target.parse().ok()?;
    let is_same = to.scheme() == from.scheme() && to.authority() == from.authority();
    is_same.then_some(to)
}

/// Looks at an answer that claims success: a network that wants a login answers everything with a
/// page, and an object that was never stored must not pass for one.
fn check(request: &Request<Vec<u8>>, answer: &Response<Vec<u8>>) -> Result<(), Failed> {
    if answer.status() != StatusCode::OK && answer.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(());
    }
    let kind = answer.headers().get(header::CONTENT_TYPE);
    let is_page = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let query = request.uri().query().unwrap_or_default();
    let is_xml_listing = *request.method() == Method::GET
        && (query.contains("list-type=2") || query.contains("comp=list"));
    let has = |name: &str| {
        let head = &answer.body()[..answer.body().len().min(4096)];
        String::from_utf8_lossy(head).contains(name)
    };
    let is_listing = || has("<ListBucketResult") || has("<EnumerationResults");
    let is_signed_put =
        *request.method() == Method::PUT && request.headers().contains_key("x-amz-content-sha256");
    let said = if is_page {
        "the answer is a web page: does this network want a login?"
    } else if is_xml_listing && !is_listing() {
        "the answer is no listing"
    } else if is_signed_put && !answer.headers().contains_key(header::ETAG) {
        "the answer does not say that the object was stored"
    } else {
        return Ok(());
    };
    Err(Failed::new(Trouble::Nonsense, said))
}

/// Describes an answer that says no.
fn refused(request: &Request<Vec<u8>>, answer: &Response<Vec<u8>>) -> Failed {
    let headers = answer.headers();
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let mut refusal = Refusal::read(answer.status().as_u16(), answer.body());
    if refusal.code.is_empty() {
        // Azure has it here, where an answer has no content.
        refusal.code = text("x-ms-error-code").unwrap_or_default().to_owned();
    }
    let mut trouble = refusal.trouble();
    let mut said = refusal.said();
    if let Some(region) = text("x-amz-bucket-region") {
        let asked = request.headers().get(header::AUTHORIZATION);
        let asked = asked
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if !asked.is_empty() && !asked.contains(&format!("/{region}/")) {
            trouble = Trouble::Elsewhere;
            said = format!("the bucket is in the region {region}");
        }
    }
    Failed {
        error: StoreError::new(trouble, said),
        wait: text("retry-after")
            .and_then(|seconds| seconds.trim().parse().ok())
            .map(Duration::from_secs),
        is_timeout: false,
        is_refused: answer.status().as_u16() < 500,
        status: Some(answer.status().as_u16()),
        is_unclear: false,
    }
}

/// Describes a request without an answer.
fn broken(error: &ureq::Error) -> Failed {
    use ureq::Error as E;
    let shown = error.to_string();
    match error {
        E::Timeout(_) => Failed::timeout("no answer in time"),
        E::HostNotFound => Failed::new(Trouble::Unreachable, "there is no host of that name"),
        E::Io(inner) if inner.kind() == std::io::ErrorKind::TimedOut => {
            Failed::timeout("no answer in time")
        }
        E::Io(inner) => {
            let detail = format!("{inner:?}");
            // What checks certificates reports through the connection.
            match detail.contains("InvalidCertificate") || detail.contains("UnknownIssuer") {
                true => certificate(&detail),
                false => Failed::new(Trouble::Unreachable, shown),
            }
        }
        E::Rustls(inner) => {
            let detail = format!("{inner:?}");
            match detail.contains("Certificate") || detail.contains("UnknownIssuer") {
                true => certificate(&detail),
                false => Failed::new(
                    Trouble::Nonsense,
                    format!("no TLS with that server: {inner}"),
                ),
            }
        }
        E::Tls(what) => Failed::new(Trouble::Certificate, *what),
        E::Protocol(_) | E::LargeResponseHeader(..) => {
            Failed::new(Trouble::Nonsense, format!("the answer is no HTTP: {shown}"))
        }
        E::ConnectionFailed | E::ConnectProxyFailed(_) | E::InvalidProxyUrl => {
            Failed::new(Trouble::Unreachable, shown)
        }
        _ => Failed::new(Trouble::Other, shown),
    }
}

fn certificate(detail: &str) -> Failed {
    let why = [
        ("Expired", "its certificate has expired"),
        (
            "NotValidYet",
            "its certificate is not valid yet: is this clock right?",
        ),
        ("NotValidForName", "its certificate is for another host"),
        ("UnknownIssuer", "nobody known signed its certificate"),
        ("Revoked", "its certificate was revoked"),
    ];
    let why = why.iter().find(|(word, _)| detail.contains(word));
    let said = why.map_or("its certificate does not fit", |(_, why)| why);
    Failed::new(Trouble::Certificate, said)
}
