//! Says it to a host in its own form: documents, texts and exit codes.

use serde_json::{Value, json};

use super::event::folded;
use super::{BLOCKED, Host, Refusal, Way};

/// What to tell a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    Silence,
    /// The tool runs without a way back.
    Unprotected(&'a str),
    /// The tool runs, and part of what it may do cannot be undone.
    Partly(&'a str),
    /// Something is gone; says how to get it back.
    Lost(&'a str),
    /// The tool must not run.
    Deny(&'a str),
    /// The user decides whether it runs.
    Ask(&'a str),
    /// bdr failed; the host continues.
    Failed(&'a str),
}

/// The output and status of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    pub stdout: String,
    /// For people, and for hosts that read it.
    pub stderr: String,
    pub status: u8,
}

/// Says something to a host in its own protocol. `name` is the host's name for the event.
pub fn reply(host: Host, name: &str, answer: Answer<'_>) -> Reply {
    let manner = host.manner();
    let aloud = |text: &str, status| Reply {
        stdout: manner.silence.to_owned(),
        stderr: format!("bdr: {}\n", one_line(text)),
        status,
    };
    let told = |way: Way, text: &str, status| match document(way, name, answer, text) {
        Some(document) => Reply {
            stdout: format!("{document}\n"),
            ..Reply::default()
        },
        None => aloud(text, status),
    };
    match answer {
        Answer::Silence => Reply {
            stdout: manner.silence.to_owned(),
            ..Reply::default()
        },
        Answer::Unprotected(text) => told(manner.warning, text, manner.unprotected),
        Answer::Partly(text) => told(manner.warning, text, 0),
        Answer::Lost(text) => told(manner.loss, text, 0),
        Answer::Failed(text) => aloud(text, manner.failed),
        Answer::Deny(text) | Answer::Ask(text) => {
            let asks = manner.asks && matches!(answer, Answer::Ask(_));
            let decision = if asks { "ask" } else { "deny" };
            match manner.refusal {
                Refusal::Status(status) => aloud(text, status),
                refusal => refuse(refusal, name, decision, text),
            }
        }
    }
}

/// Returns the document for a way; `None` means stderr.
fn document(way: Way, name: &str, answer: Answer<'_>, text: &str) -> Option<Value> {
    let event = match (name, answer) {
        ("", Answer::Lost(_)) => "PostToolUse",
        ("", _) => "PreToolUse",
        (name, _) => name,
    };
    let text = format!("bdr: {text}");
    let context = || json!({"hookEventName": event, "additionalContext": text});
    Some(match way {
        Way::Message => json!({"systemMessage": text}),
        Way::Context => json!({"hookSpecificOutput": context()}),
        Way::Both => json!({"systemMessage": text, "hookSpecificOutput": context()}),
        Way::AfterTools if folded(name) == "posttooluse" => json!({"additional_context": text}),
        Way::AsCalled if is_pascal(name) => json!({"hookSpecificOutput": context()}),
        Way::AsCalled => json!({"additionalContext": text}),
        Way::AfterTools | Way::Aloud => return None,
    })
}

fn refuse(refusal: Refusal, name: &str, decision: &str, reason: &str) -> Reply {
    let reason = format!("bdr: {reason}");
    let event = if name.is_empty() { "PreToolUse" } else { name };
    let plain = json!({"permissionDecision": decision, "permissionDecisionReason": reason});
    let specific = || {
        json!({"hookSpecificOutput": {
            "hookEventName": event, "permissionDecision": decision, "permissionDecisionReason": reason,
        }})
    };
    let document = match refusal {
        Refusal::Specific => specific(),
        Refusal::AsCalled if is_pascal(name) => specific(),
        Refusal::Decision => json!({"decision": decision, "reason": reason}),
        Refusal::Permission => {
            json!({"permission": decision, "user_message": reason, "agent_message": reason})
        }
        Refusal::AsCalled | Refusal::Status(_) => plain,
    };
    let by_status = decision == "deny" && !matches!(refusal, Refusal::AsCalled);
    Reply {
        stdout: format!("{document}\n"),
        stderr: format!("{}\n", one_line(&reason)),
        status: if by_status { BLOCKED } else { 0 },
    }
}

/// VS Code names Copilot's events as Claude does, and reads the same answers.
fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
