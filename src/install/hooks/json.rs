//! Entries in the settings of coding agents. They are added to and removed from the text itself, so
//! its comments, order and spacing stay.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstRootNode};
use serde_json::Value;

use crate::base::error::{Error, Result};

/// The entry wanted in an event's list.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub event: String,
    pub value: Value,
}

pub(super) fn parse(text: &str) -> Result<CstRootNode> {
    CstRootNode::parse(text, &ParseOptions::default()).map_err(|error| {
        Error::invalid(
            format!("it is not JSON: {error}"),
            Some("correct it by hand; nothing was changed"),
        )
    })
}

pub(super) fn input(value: &Value) -> CstInputValue {
    match value {
        Value::Null => CstInputValue::Null,
        Value::Bool(b) => CstInputValue::Bool(*b),
        Value::Number(n) => CstInputValue::Number(n.to_string()),
        Value::String(s) => CstInputValue::String(s.clone()),
        Value::Array(list) => CstInputValue::Array(list.iter().map(input).collect()),
        Value::Object(map) => CstInputValue::Object(
            map.iter()
                .map(|(name, value)| (name.clone(), input(value)))
                .collect(),
        ),
    }
}

/// Returns the program that a handler starts, if it is bdr's hook for `word`.
pub fn program_of(value: &Value, word: &str) -> Option<String> {
    match value {
        Value::Array(list) => list.iter().find_map(|value| program_of(value, word)),
        Value::Object(map) => {
            let named = |name: &str| map.get(name).and_then(Value::as_str);
            let command = named("command").or_else(|| named("bash"));
            let own = command.and_then(|command| {
                let args = map.get("args").and_then(Value::as_array);
                let program = match args {
                    Some(args) => {
                        let words = [Value::from("hook"), Value::from(word)];
                        (args[..] == words).then(|| command.to_owned())
                    }
                    None => command.strip_suffix(&format!(" hook {word}")).map(unquoted),
                }?;
                let name = program.rsplit(['/', '\\']).next().unwrap_or_default();
                (name == "bdr" || name == "bdr.exe").then_some(program)
            });
            own.or_else(|| map.values().find_map(|value| program_of(value, word)))
        }
        _ => None,
    }
}

/// Inverse of [`crate::base::path::shell_word`].
fn unquoted(word: &str) -> String {
    let inner = word
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''));
    match inner {
        Some(inner) => inner.replace("'\\''", "'"),
        None => word.to_owned(),
    }
}

/// Returns the programs of all of bdr's handlers in a text, by event.
///
/// # Errors
/// The text is not JSON.
pub fn installed(text: &str, word: &str) -> Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    let root = parse(text)?;
    let hooks = root
        .object_value()
        .and_then(|root| root.object_value("hooks"));
    for property in hooks.iter().flat_map(CstObject::properties) {
        let (Some(event), Some(list)) = (property.decoded_name(), property.array_value()) else {
            continue;
        };
        for element in list.elements() {
            if let Some(value) = element.to_serde_value()
                && program_of(&value, word).is_some()
            {
                found.push((event.clone(), value));
            }
        }
    }
    Ok(found)
}

/// Returns the text with the entries: existing ones stay or are updated, other entries of bdr's are
/// removed. `first` are members that the host wants next to them.
///
/// # Errors
/// The text is not JSON, or has something else where the entries belong.
pub fn add(text: &str, word: &str, entries: &[Entry], first: &[(&str, Value)]) -> Result<String> {
    if text.trim().is_empty() {
        let mut root = serde_json::Map::new();
        root.extend(
            first
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        let mut hooks = serde_json::Map::new();
        for entry in entries {
            let list = hooks
                .entry(&entry.event)
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(list) = list {
                list.push(entry.value.clone());
            }
        }
        root.insert("hooks".to_owned(), Value::Object(hooks));
        let pretty = serde_json::to_string_pretty(&Value::Object(root)).unwrap_or_default();
        return Ok(pretty + "\n");
    }
    let wrong = |what: &str| {
        Error::invalid(
            format!("{what} is not in the form that the host documents"),
            Some("correct it by hand; nothing was changed"),
        )
    };
    let root = parse(text)?;
    let object = root.object_value().ok_or_else(|| wrong("the file"))?;
    for (name, value) in first {
        if object.get(name).is_none() {
            object.insert(0, name, input(value));
        }
    }
    let hooks = object
        .object_value_or_create("hooks")
        .ok_or_else(|| wrong("`hooks`"))?;
    for event in hooks.properties().iter().filter_map(|p| p.decoded_name()) {
        if !entries.iter().any(|entry| entry.event == event) {
            take_out_of(&hooks, &event, word);
        }
    }
    for entry in entries {
        let list = hooks
            .array_value_or_create(&entry.event)
            .ok_or_else(|| wrong(&format!("`hooks.{}`", entry.event)))?;
        let own: Vec<CstNode> = list
            .elements()
            .into_iter()
            .filter(|e| {
                e.to_serde_value()
                    .is_some_and(|v| program_of(&v, word).is_some())
            })
            .collect();
        match own.split_first() {
            None => drop(list.append(input(&entry.value))),
            Some((one, more)) => {
                if one.to_serde_value().as_ref() != Some(&entry.value) {
                    replace(one, &entry.value);
                }
                more.iter().cloned().for_each(CstNode::remove);
            }
        }
    }
    Ok(root.to_string())
}

fn replace(node: &CstNode, value: &Value) {
    let Some(object) = node.as_object() else {
        return;
    };
    object.replace_with(input(value));
}

/// Returns the text without bdr's entries, and without lists that become empty.
///
/// # Errors
/// The text is not JSON.
pub fn remove(text: &str, word: &str) -> Result<String> {
    let root = parse(text)?;
    if let Some(object) = root.object_value()
        && let Some(hooks) = object.object_value("hooks")
    {
        let mut touched = false;
        for event in hooks.properties().iter().filter_map(|p| p.decoded_name()) {
            touched |= take_out_of(&hooks, &event, word);
        }
        if touched
            && hooks.properties().is_empty()
            && let Some(property) = object.get("hooks")
        {
            property.remove();
        }
    }
    Ok(root.to_string())
}

fn take_out_of(hooks: &CstObject, event: &str, word: &str) -> bool {
    let Some(list) = hooks.array_value(event) else {
        return false;
    };
    let mut touched = false;
    for element in list.elements() {
        if element
            .to_serde_value()
            .is_some_and(|value| program_of(&value, word).is_some())
        {
            element.remove();
            touched = true;
        }
    }
    if touched
        && list.elements().is_empty()
        && let Some(property) = hooks.get(event)
    {
        property.remove();
    }
    touched
}

/// Parses a text; `None` if it is not JSON.
pub fn value(text: &str) -> Option<Value> {
    parse(text).ok()?.to_serde_value()
}

/// Returns true if nothing is left that somebody could want to keep.
pub fn is_bare(text: &str) -> bool {
    let value: Option<Value> = parse(text)
        .ok()
        .and_then(|root| root.object_value()?.to_serde_value());
    match value {
        Some(Value::Object(map)) => map.keys().all(|name| name == "version"),
        _ => text.trim().is_empty(),
    }
}
