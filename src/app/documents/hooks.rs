//! `hooks`, `mcp install|uninstall|status`.

use std::path::Path;

use serde::Serialize;

use super::paths::At;

/// `hooks install`, `hooks uninstall`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct HooksDocument {
    pub(crate) verb: String,
    pub(crate) dry_run: bool,
    pub(crate) files: Vec<HookFile>,
    pub(crate) notes: Vec<String>,
}

/// What is done to a file; or why it is refused, and what mends that.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct HookFile {
    #[serde(flatten)]
    pub(crate) file: Option<At>,
    pub(crate) target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) action: Option<&'static str>,
    #[serde(flatten)]
    pub(crate) refused: Option<Refused>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Refused {
    pub(crate) error: String,
    pub(crate) fix: Option<String>,
}

/// `hooks status`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct HooksStatusDocument {
    verb: &'static str,
    files: Vec<InstalledHook>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct InstalledHook {
    #[serde(flatten)]
    pub(crate) file: At,
    pub(crate) target: String,
    pub(crate) standing: &'static str,
    pub(crate) program: String,
    pub(crate) version: String,
    pub(crate) time: String,
    pub(crate) trouble: Option<String>,
    pub(crate) fix: Option<String>,
}

impl HooksStatusDocument {
    pub(crate) fn new(files: Vec<InstalledHook>) -> Self {
        Self {
            verb: "status",
            files,
        }
    }
}

/// `hooks print`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct HooksTextDocument {
    verb: &'static str,
    texts: Vec<HookText>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct HookText {
    target: String,
    place: String,
    text: String,
}

impl HooksTextDocument {
    /// Takes target, place and text of each.
    pub(crate) fn new(texts: Vec<(String, String, String)>) -> Self {
        let text = |(target, place, text)| HookText {
            target,
            place,
            text,
        };
        Self {
            verb: "print",
            texts: texts.into_iter().map(text).collect(),
        }
    }
}

/// `mcp install`, `mcp uninstall`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ClientsDocument {
    pub(crate) verb: String,
    pub(crate) dry_run: bool,
    pub(crate) files: Vec<ClientFile>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ClientFile {
    #[serde(flatten)]
    pub(crate) file: Option<At>,
    pub(crate) client: String,
    pub(crate) action: Option<&'static str>,
    pub(crate) error: Option<String>,
    pub(crate) fix: Option<String>,
}

/// `mcp status`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ClientsStatusDocument {
    verb: &'static str,
    files: Vec<ClientStatus>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ClientStatus {
    #[serde(flatten)]
    at: At,
    client: String,
    program: Option<String>,
    version: Option<String>,
    answers_ms: Option<u64>,
    trouble: Option<String>,
}

impl ClientStatus {
    /// `program`: the installed program and its version. `answer`: how long it takes to answer, or
    /// what is wrong.
    pub(crate) fn new(
        client: &str,
        file: &Path,
        program: Option<(String, String)>,
        answer: Result<u64, String>,
    ) -> Self {
        let (program, version) = program.unzip();
        let (answers_ms, trouble) = match answer {
            Ok(time) => (Some(time), None),
            Err(trouble) => (None, Some(trouble)),
        };
        Self {
            at: At::new(file),
            client: client.to_owned(),
            program,
            version,
            answers_ms,
            trouble,
        }
    }
}

impl ClientsStatusDocument {
    pub(crate) fn new(files: Vec<ClientStatus>) -> Self {
        Self {
            verb: "status",
            files,
        }
    }
}
