//! The ways to notify somebody. Each has a time limit; all are tried at once.

use std::io::Write as _;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use bdr::care::status::Level;
use bdr::model::config::NotifyConfig;

use super::Message;
use super::desktop;
use crate::app::context::Context;

/// How long a server has to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a program may run.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(30);

/// The result of sending a message one way.
pub(crate) struct Sent {
    pub(crate) channel: &'static str,
    /// Why it did not arrive.
    pub(crate) error: Option<String>,
}

impl Sent {
    fn new(channel: &'static str, result: Result<(), String>) -> Self {
        Self {
            channel,
            error: result.err(),
        }
    }
}

/// Sends a message by all configured ways.
pub(crate) fn send(cx: &Context, config: &NotifyConfig, message: &Message) -> Vec<Sent> {
    // Strings, numbers and lists: cannot fail.
    let json = serde_json::to_string(&message.alert).unwrap_or_default();
    std::thread::scope(|scope| {
        let mut ways = Vec::new();
        if config.desktop {
            ways.push(scope.spawn(|| Sent::new("desktop", desktop::show(message))));
        }
        if let Some(url) = &config.ntfy {
            ways.push(scope.spawn(|| Sent::new("ntfy", ntfy(url, message))));
        }
        if let Some(url) = &config.webhook {
            let post = || request(url, "application/json", &[], json.as_bytes());
            ways.push(scope.spawn(move || Sent::new("webhook", post())));
        }
        if let Some(url) = &config.healthchecks
            && message.alert.test
        {
            ways.push(scope.spawn(|| ping(url, Some(true))));
        }
        if !config.command.is_empty() {
            ways.push(scope.spawn(|| Sent::new("command", program(cx, &config.command, &json))));
        }
        ways.into_iter().filter_map(|way| way.join().ok()).collect()
    })
}

/// Tells healthchecks.io, or a compatible service, that a job begins or how it ended
/// (<https://healthchecks.io/docs/http_api/>).
pub(crate) fn ping(url: &str, ended: Option<bool>) -> Sent {
    let url = match ended {
        None => format!("{url}/start"),
        Some(true) => url.to_owned(),
        Some(false) => format!("{url}/fail"),
    };
    Sent::new("healthchecks", request(&url, "text/plain", &[], b""))
}

/// A message to a topic is its text, with everything else in headers
/// (<https://docs.ntfy.sh/publish/>).
fn ntfy(url: &str, message: &Message) -> Result<(), String> {
    let (priority, tags) = match message.level {
        Level::Good => ("default", "white_check_mark"),
        Level::Warning => ("default", "warning"),
        Level::Critical => ("high", "rotating_light"),
    };
    // Headers are ASCII only.
    let title: String = message
        .alert
        .title
        .chars()
        .filter(|c| (' '..='~').contains(c))
        .collect();
    let headers = [
        ("Title", title.as_str()),
        ("Priority", priority),
        ("Tags", tags),
    ];
    request(
        url,
        "text/plain; charset=utf-8",
        &headers,
        message.alert.message.as_bytes(),
    )
}

fn request(url: &str, kind: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        // The target is not the configured address, and a POST would become a GET.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("bdr/", env!("CARGO_PKG_VERSION")))
        .build()
        .into();
    let once = || {
        let mut request = agent.post(url).header("Content-Type", kind);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match request.send(body) {
            // The address may contain a secret, so it is not in the error.
            Err(ureq::Error::Timeout(_)) => {
                Err((true, format!("no answer within {} s", PATIENCE.as_secs())))
            }
            Err(ureq::Error::Io(error)) => Err((true, error.to_string())),
            Err(ureq::Error::HostNotFound) => Err((true, "there is no such host".to_owned())),
            Err(_) => Err((
                false,
                "the request failed: is the address right?".to_owned(),
            )),
            Ok(response) => match response.status().as_u16() {
                200..=299 => Ok(()),
                code @ 300..=399 => Err((
                    false,
                    format!("it answered {code} (moved): use the new address"),
                )),
                code @ 500..=599 => Err((true, format!("it answered {code}"))),
                code => Err((false, format!("it answered {code}"))),
            },
        }
    };
    let started = Instant::now();
    match once() {
        // Try once more, unless the time limit has passed.
        Err((true, _)) if started.elapsed() < PATIENCE / 2 => {
            std::thread::sleep(Duration::from_millis(500));
            once().map_err(|(_, error)| error)
        }
        other => other.map_err(|(_, error)| error),
    }
}

fn program(cx: &Context, argv: &[String], json: &str) -> Result<(), String> {
    let [name, args @ ..] = argv else {
        return Ok(());
    };
    let mut child = Process::new(name)
        .args(args)
        .current_dir(cx.home.as_deref().unwrap_or(&cx.cwd))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("it could not be started: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read has its reasons; a document is smaller than a pipe.
        let _ = stdin
            .write_all(json.as_bytes())
            .and_then(|()| stdin.write_all(b"\n"));
    }
    let started = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("it exited with {status}")),
            Ok(None) if started.elapsed() < PROGRAM_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "it did not end within {} s",
                    PROGRAM_PATIENCE.as_secs()
                ));
            }
        }
    }
}
