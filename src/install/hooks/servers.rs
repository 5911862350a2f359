//! The entry of bdr's MCP server in the settings of clients.
//!
//! Claude Code: <https://code.claude.com/docs/en/mcp>. Claude Desktop:
//! <https://modelcontextprotocol.io/docs/develop/connect-local-servers>. Cursor:
//! <https://cursor.com/docs/context/mcp>. VS Code:
//! <https://code.visualstudio.com/docs/copilot/reference/mcp-configuration>. Codex:
//! <https://developers.openai.com/codex/mcp>. Gemini CLI:
//! <https://geminicli.com/docs/tools/mcp-server/>. Windsurf:
//! <https://docs.windsurf.com/windsurf/cascade/mcp>.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use toml_edit::{Array, DocumentMut, Item, Table, value};

use super::json::{input, parse};
use crate::base::error::{Error, Result};

/// A program that starts MCP servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    Claude,
    ClaudeDesktop,
    Cursor,
    Vscode,
    Codex,
    Gemini,
    Windsurf,
}

/// The name of bdr's server everywhere.
pub const NAME: &str = "bdr";

#[derive(Debug, Clone, Copy)]
pub struct Homes<'a> {
    pub home: &'a Path,
    /// Where applications keep their settings: `~/.config`, `~/Library/Application Support`, `%APPDATA%`.
    pub config: &'a Path,
}

impl Client {
    pub const ALL: [Self; 7] = [
        Self::Claude,
        Self::ClaudeDesktop,
        Self::Cursor,
        Self::Vscode,
        Self::Codex,
        Self::Gemini,
        Self::Windsurf,
    ];

    pub fn word(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::ClaudeDesktop => "claude-desktop",
            Self::Cursor => "cursor",
            Self::Vscode => "vscode",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Windsurf => "windsurf",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|client| client.word() == word)
    }

    /// Returns the file that it reads, for a project or for the user; `None` if it has none there.
    pub fn file(self, homes: Homes<'_>, project: Option<&Path>) -> Option<PathBuf> {
        Some(match (self, project) {
            (Self::Claude, None) => homes.home.join(".claude.json"),
            (Self::Claude, Some(project)) => project.join(".mcp.json"),
            (Self::ClaudeDesktop, None) => homes.config.join("Claude/claude_desktop_config.json"),
            (Self::Cursor, None) => homes.home.join(".cursor/mcp.json"),
            (Self::Cursor, Some(project)) => project.join(".cursor/mcp.json"),
            (Self::Vscode, None) => homes.config.join("Code/User/mcp.json"),
            (Self::Vscode, Some(project)) => project.join(".vscode/mcp.json"),
            (Self::Codex, None) => homes.home.join(".codex/config.toml"),
            (Self::Codex, Some(project)) => project.join(".codex/config.toml"),
            (Self::Gemini, None) => homes.home.join(".gemini/settings.json"),
            (Self::Gemini, Some(project)) => project.join(".gemini/settings.json"),
            (Self::Windsurf, None) => homes.home.join(".codeium/windsurf/mcp_config.json"),
            (Self::ClaudeDesktop | Self::Windsurf, Some(_)) => return None,
        })
    }

    /// Returns the path that shows that it is used here.
    pub fn sign(self, homes: Homes<'_>) -> PathBuf {
        match self {
            Self::Claude => homes.home.join(".claude"),
            Self::ClaudeDesktop => homes.config.join("Claude"),
            Self::Cursor => homes.home.join(".cursor"),
            Self::Vscode => homes.config.join("Code/User"),
            Self::Codex => homes.home.join(".codex"),
            Self::Gemini => homes.home.join(".gemini"),
            Self::Windsurf => homes.home.join(".codeium/windsurf"),
        }
    }

    /// Returns the member with all servers.
    fn table(self) -> &'static str {
        match self {
            Self::Vscode => "servers",
            Self::Codex => "mcp_servers",
            _ => "mcpServers",
        }
    }

    /// Returns the entry for a program with arguments and variables.
    pub fn entry(self, program: &str, args: &[String], env: &[(String, String)]) -> Value {
        let mut entry = Map::new();
        if matches!(self, Self::Claude | Self::Vscode) {
            entry.insert("type".to_owned(), "stdio".into());
        }
        entry.insert("command".to_owned(), program.into());
        entry.insert("args".to_owned(), json!(args));
        if !env.is_empty() {
            let env = env
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.clone())));
            entry.insert("env".to_owned(), Value::Object(env.collect()));
        }
        Value::Object(entry)
    }

    /// Returns a text with the entry in it.
    ///
    /// # Errors
    /// The text is not what the client documents, or another program has the name.
    pub fn add(self, text: &str, entry: &Value) -> Result<String> {
        let added = match self {
            Self::Codex => add_toml(text, self.table(), entry)?,
            _ => add_json(text, self.table(), entry)?,
        };
        // New lines get the line ending of the others.
        Ok(match text.contains("\r\n") {
            true => added.replace("\r\n", "\n").replace('\n', "\r\n"),
            false => added,
        })
    }

    /// Returns the entry in a text, if it is bdr's: `command`, `args`, `env`.
    pub fn entry_in(self, text: &str) -> Option<Value> {
        let entry = match self {
            Self::Codex => {
                let document = parse_toml(text).ok()?;
                seen(document.get(self.table())?.get(NAME)?)
            }
            _ => {
                let servers = parse(text)
                    .ok()?
                    .object_value()?
                    .object_value(self.table())?;
                servers.get(NAME)?.value()?.to_serde_value()?
            }
        };
        Some(entry).filter(is_own)
    }

    /// Returns a text without the entry, which stays if it is not bdr's.
    ///
    /// # Errors
    /// The text is not what the client documents.
    pub fn remove(self, text: &str) -> Result<String> {
        match self {
            Self::Codex => remove_toml(text, self.table()),
            _ => remove_json(text, self.table()),
        }
    }

    /// Returns true if nothing is left that somebody could want to keep.
    pub fn is_bare(self, text: &str) -> bool {
        match self {
            Self::Codex => text.trim().is_empty(),
            _ => super::json::is_bare(text),
        }
    }
}

fn is_own(entry: &Value) -> bool {
    let command = entry["command"].as_str().unwrap_or_default();
    let name = command.rsplit(['/', '\\']).next().unwrap_or_default();
    let first = entry["args"].as_array().and_then(|args| args.first());
    matches!(name, "bdr" | "bdr.exe") && first.is_some_and(|first| first == "mcp")
}

/// Returns the existing entry with what it has to start now. Whatever else the user or the client
/// has added stays.
fn renewed(there: &Value, entry: &Value) -> Value {
    let mut new = there.clone();
    for name in ["type", "command", "args"] {
        if !entry[name].is_null() {
            new[name] = entry[name].clone();
        }
    }
    let theirs = there["env"].as_object().into_iter().flatten();
    // Those are bdr's options: the ones not given now no longer apply.
    let theirs = theirs.filter(|(name, _)| !name.starts_with("BDR_") && !name.starts_with("XDG_"));
    let own = entry["env"].as_object().into_iter().flatten();
    let env: Map<String, Value> = theirs
        .chain(own)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(new) = new.as_object_mut() {
        match env.is_empty() {
            true => drop(new.remove("env")),
            false => drop(new.insert("env".to_owned(), Value::Object(env))),
        }
    }
    new
}

fn taken() -> Error {
    Error::invalid(
        format!("another server is called `{NAME}` already"),
        Some("rename or remove it; nothing was changed"),
    )
}

fn wrong(what: &str) -> Error {
    Error::invalid(
        format!("{what} is not in the form that the client documents"),
        Some("correct it by hand; nothing was changed"),
    )
}

fn add_json(text: &str, table: &str, entry: &Value) -> Result<String> {
    if text.trim().is_empty() {
        let all = json!({table: {NAME: entry}});
        return Ok(serde_json::to_string_pretty(&all).unwrap_or_default() + "\n");
    }
    let root = parse(text)?;
    let object = root.object_value().ok_or_else(|| wrong("the file"))?;
    let servers = object
        .object_value_or_create(table)
        .ok_or_else(|| wrong(&format!("`{table}`")))?;
    match servers.get(NAME) {
        None => drop(servers.append(NAME, input(entry))),
        Some(property) => {
            let there = property
                .value()
                .and_then(|value| value.to_serde_value())
                .unwrap_or_default();
            if !is_own(&there) {
                return Err(taken());
            }
            let new = renewed(&there, entry);
            if there != new {
                property.set_value(input(&new));
            }
        }
    }
    Ok(root.to_string())
}

fn remove_json(text: &str, table: &str) -> Result<String> {
    let root = parse(text)?;
    let servers = root
        .object_value()
        .and_then(|object| object.object_value(table));
    if let Some(servers) = servers
        && let Some(property) = servers.get(NAME)
        && property
            .value()
            .and_then(|value| value.to_serde_value())
            .is_some_and(|entry| is_own(&entry))
    {
        property.remove();
        if servers.properties().is_empty()
            && let Some(property) = root.object_value().and_then(|object| object.get(table))
        {
            property.remove();
        }
    }
    Ok(root.to_string())
}

fn parse_toml(text: &str) -> Result<DocumentMut> {
    text.parse().map_err(|error| {
        Error::invalid(
            format!("it is not TOML: {error}"),
            Some("correct it by hand; nothing was changed"),
        )
    })
}

/// Returns an entry of a TOML file as JSON, as far as it matters.
fn seen(item: &Item) -> Value {
    let args = item.get("args").and_then(Item::as_array);
    let args: Vec<&str> = args
        .into_iter()
        .flatten()
        .filter_map(|arg| arg.as_str())
        .collect();
    let mut entry = json!({"command": item.get("command").and_then(Item::as_str), "args": args});
    let env = item.get("env").and_then(Item::as_table_like);
    if let Some(env) = env {
        let texts = env
            .iter()
            .filter_map(|(name, text)| Some((name.to_owned(), text.as_str()?.into())));
        entry["env"] = Value::Object(texts.collect());
    }
    entry
}

fn add_toml(text: &str, table: &str, entry: &Value) -> Result<String> {
    let mut document = parse_toml(text)?;
    let servers = document.entry(table).or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let servers = servers
        .as_table_like_mut()
        .ok_or_else(|| wrong(&format!("[{table}]")))?;
    let mut wanted = entry.clone();
    match servers.get(NAME).map(seen) {
        None => drop(servers.insert(NAME, Item::Table(Table::new()))),
        Some(there) if !is_own(&there) => return Err(taken()),
        Some(there) => {
            wanted = renewed(&there, entry);
            if wanted == there {
                return Ok(text.to_owned());
            }
        }
    }
    let own = servers
        .get_mut(NAME)
        .and_then(Item::as_table_like_mut)
        .ok_or_else(|| wrong(&format!("[{table}.{NAME}]")))?;
    own.insert(
        "command",
        value(wanted["command"].as_str().unwrap_or_default()),
    );
    let args: Array = wanted["args"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    own.insert("args", value(args));
    match wanted["env"].as_object() {
        None => drop(own.remove("env")),
        Some(env) => {
            let mut variables = toml_edit::InlineTable::new();
            for (name, text) in env {
                variables.insert(name, text.as_str().unwrap_or_default().into());
            }
            own.insert("env", value(variables));
        }
    }
    Ok(document.to_string())
}

fn remove_toml(text: &str, table: &str) -> Result<String> {
    let mut document = parse_toml(text)?;
    let Some(servers) = document.get_mut(table).and_then(Item::as_table_like_mut) else {
        return Ok(text.to_owned());
    };
    if !servers.get(NAME).is_some_and(|there| is_own(&seen(there))) {
        return Ok(text.to_owned());
    }
    servers.remove(NAME);
    if servers.is_empty() {
        document.remove(table);
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(client: Client) -> Value {
        client.entry(
            "/opt/bdr",
            &["mcp".to_owned(), "--read-only".to_owned()],
            &[],
        )
    }

    #[test]
    fn an_entry_goes_in_and_out_and_leaves_the_rest_as_it_was() {
        let json = "{\n  // mine\n  \"theme\": \"dark\",\n  \"mcpServers\": {\n    \"other\": {\"command\": \"x\"}\n  }\n}\n";
        let vscode = json.replace("mcpServers", "servers");
        let toml = "# mine\nmodel = \"x\"\n\n[mcp_servers.other]\ncommand = \"x\" # keep\n";
        for client in Client::ALL {
            let text = match client {
                Client::Codex => toml,
                Client::Vscode => &vscode,
                _ => json,
            };
            let with = client.add(text, &entry(client)).unwrap();
            assert!(
                with.contains("/opt/bdr") && with.contains("--read-only"),
                "{with}"
            );
            assert!(with.contains("other") && with.contains("mine"), "{with}");
            assert_eq!(
                client.add(&with, &entry(client)).unwrap(),
                with,
                "not the same twice"
            );
            let moved = client.entry("/new/bdr", &["mcp".to_owned()], &[]);
            let renewed = client.add(&with, &moved).unwrap();
            assert!(
                renewed.contains("/new/bdr") && !renewed.contains("/opt/bdr"),
                "{renewed}"
            );
            let without = client.remove(&renewed).unwrap();
            assert!(
                !without.contains("bdr") && without.contains("other"),
                "{without}"
            );
            let fresh = client.add("", &entry(client)).unwrap();
            assert!(client.is_bare(&client.remove(&fresh).unwrap()), "{fresh}");
        }
    }

    #[test]
    fn what_a_user_put_into_the_entry_stays_when_it_is_renewed() {
        let json = r#"{"mcpServers": {"bdr": {"command": "/old/bdr", "args": ["mcp"], "env": {"BDR_HOME": "/b", "LANG": "C"}, "alwaysAllow": ["checkpoint"]}}}"#;
        let toml = "[mcp_servers.bdr]\ncommand = \"/old/bdr\"\nargs = [\"mcp\"]\nenv = { BDR_HOME = \"/b\", LANG = \"C\" }\nstartup_timeout_sec = 20 # slow disk\n";
        for (client, text, own) in [
            (Client::Cursor, json, "alwaysAllow"),
            (Client::Codex, toml, "startup_timeout_sec = 20 # slow disk"),
        ] {
            let new = client.add(text, &entry(client)).unwrap();
            assert!(new.contains(own), "{new}");
            let found = client.entry_in(&new).unwrap();
            assert_eq!(found["command"], "/opt/bdr");
            assert_eq!(found["args"], json!(["mcp", "--read-only"]));
            assert_eq!(found["env"], json!({"LANG": "C"}));
            // Another repository is another entry.
            let env = [("BDR_HOME".to_owned(), "/c".to_owned())];
            let moved = client.entry("/opt/bdr", &["mcp".to_owned()], &env);
            let new = client.add(&new, &moved).unwrap();
            assert_eq!(
                client.entry_in(&new).unwrap()["env"],
                json!({"LANG": "C", "BDR_HOME": "/c"})
            );
        }
    }

    #[test]
    fn lines_end_as_they_did() {
        let toml = "# mine\r\nmodel = \"x\"\r\n";
        let json = "{\r\n  \"theme\": \"x\"\r\n}\r\n";
        for (client, text) in [(Client::Codex, toml), (Client::Claude, json)] {
            let with = client.add(text, &entry(client)).unwrap();
            let ends = with.matches('\n').count();
            assert_eq!(with.matches("\r\n").count(), ends, "{with:?}");
            assert!(ends > text.matches('\n').count(), "{with:?}");
        }
    }

    #[test]
    fn what_is_not_bdrs_is_not_touched() {
        let json =
            "{\"mcpServers\": {\"bdr\": {\"command\": \"/usr/bin/other\", \"args\": [\"mcp\"]}}}";
        let toml = "[mcp_servers.bdr]\ncommand = \"/usr/bin/other\"\nargs = [\"mcp\"]\n";
        for (client, text) in [(Client::Claude, json), (Client::Codex, toml)] {
            assert!(client.add(text, &entry(client)).is_err());
            assert_eq!(client.remove(text).unwrap(), text);
        }
        for (client, text) in [
            (Client::Claude, "[]"),
            (Client::Cursor, "{\"mcpServers\": []}"),
            (Client::Gemini, "not json"),
            (Client::Codex, "mcp_servers = 5"),
            (Client::Codex, "= broken"),
        ] {
            assert!(client.add(text, &entry(client)).is_err(), "{text}");
        }
    }
}
