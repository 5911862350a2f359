//! Undoes what an operation changed in a JSON object or a JSONL log that changed again since.
//!
//! A three-way merge without storing what the operation left: its end record says which keys it
//! changed, with keyed digests of the values it left, or which lines it removed, with keyed digests
//! of those it added. The old values are in the snapshot before it. Anything that is not as the
//! operation left it is a conflict, and then nothing is merged. Formatting and comments of the
//! current file stay.

use std::collections::HashMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonc_parser::ast::{Object, ObjectPropName, Value};
use jsonc_parser::cst::{CstInputValue, CstNode, CstObject, CstRootNode};
use jsonc_parser::{CollectOptions, CommentCollectionStrategy, ParseOptions, parse_to_ast};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

mod three;

pub use three::{Together, Versions, three};

/// Larger files are not merged, in bytes.
pub const MAX_BYTES: u64 = 4 << 20;
/// More changes than this are a rewrite and are not merged.
const MAX_CHANGES: usize = 1_000;
const MAX_DEPTH: usize = 64;

/// Key for digests of values: without it they say nothing about the values.
pub type Key = [u8; 32];

/// What an operation changed in a file, by the file's own structure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Changes {
    /// In a JSON object.
    Keys {
        /// Innermost keys that changed.
        keys: Vec<KeyChange>,
    },
    /// In a JSONL log.
    Lines {
        /// Ranges of lines that it removed: first line, and number of lines.
        gone: Vec<(u32, u32)>,
        /// Digests of lines that it added.
        new: Vec<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// Keys from the top.
    #[serde(rename = "k")]
    pub path: Vec<String>,
    /// Digest of the value that the operation left; `None` if it removed the key.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl Changes {
    /// Returns empty changes for a file of this name.
    pub fn none(name: &[u8]) -> Self {
        match shape(name) {
            Some(Shape::Lines) => Self::Lines {
                gone: Vec::new(),
                new: Vec::new(),
            },
            _ => Self::Keys { keys: Vec::new() },
        }
    }
}

enum Shape {
    Object,
    Lines,
}

fn shape(name: &[u8]) -> Option<Shape> {
    let ends = |ends: &[&[u8]]| ends.iter().any(|end| name.ends_with(end));
    if ends(&[b".jsonl", b".ndjson"]) {
        return Some(Shape::Lines);
    }
    ends(&[b".json", b".jsonc", b".json5", b".code-workspace"]).then_some(Shape::Object)
}

pub fn is_mergeable(name: &[u8]) -> bool {
    shape(name).is_some()
}

/// Describes what changed from `before` to `after`; `None` if that is impossible, or too much.
pub fn describe(name: &[u8], before: &[u8], after: &[u8], key: &Key) -> Option<Changes> {
    match shape(name)? {
        Shape::Lines => lines_changed(before, after, key),
        Shape::Object => {
            let before = tree(before)?;
            // Truncated or half written: treat it as if every key was removed.
            let after = tree(after).or_else(|| tree(b"{}"))?;
            let mut keys = Vec::new();
            compare(&before, &after, &mut Vec::new(), key, &mut keys)?;
            Some(Changes::Keys { keys })
        }
    }
}

/// Returns `now` without the changes; `None` if something is not as they left it.
pub fn reverse(before: &[u8], now: &[u8], changes: &Changes, key: &Key) -> Option<Vec<u8>> {
    match changes {
        Changes::Keys { keys } => keys_back(before, now, keys, key),
        Changes::Lines { gone, new } => Some(lines_back(before, now, gone, new, key)),
    }
}

fn digest(text: &[u8], key: &Key) -> String {
    // A key of any length is valid: cannot fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return String::new();
    };
    mac.update(text);
    hex::encode(&mac.finalize().into_bytes()[..8])
}

fn parse(bytes: &[u8]) -> Option<CstRootNode> {
    CstRootNode::parse(std::str::from_utf8(bytes).ok()?, &options()).ok()
}

fn options() -> ParseOptions {
    ParseOptions {
        allow_missing_commas: false,
        ..ParseOptions::default()
    }
}

fn object(bytes: &[u8]) -> Option<CstObject> {
    parse(bytes)?.object_value()
}

/// Returns a value without whitespace and comments, with strings in one canonical form.
fn plain(node: &CstNode, depth: usize) -> Option<String> {
    if depth > MAX_DEPTH {
        return None;
    }
    if let Some(object) = node.as_object() {
        let mut parts = Vec::new();
        for property in object.properties() {
            let name = serde_json::to_string(&property.decoded_name()?).ok()?;
            parts.push(format!("{name}:{}", plain(&property.value()?, depth + 1)?));
        }
        return Some(format!("{{{}}}", parts.join(",")));
    }
    if let Some(array) = node.as_array() {
        let parts: Option<Vec<String>> = array
            .elements()
            .iter()
            .map(|element| plain(element, depth + 1))
            .collect();
        return Some(format!("[{}]", parts?.join(",")));
    }
    if let Some(text) = node.as_string_lit() {
        return serde_json::to_string(&text.decoded_value().ok()?).ok();
    }
    Some(node.to_string())
}

/// Returns a value in a form that can be inserted into another document.
fn input(node: &CstNode, depth: usize) -> Option<CstInputValue> {
    if depth > MAX_DEPTH {
        return None;
    }
    if let Some(object) = node.as_object() {
        let mut parts = Vec::new();
        for property in object.properties() {
            let value = input(&property.value()?, depth + 1)?;
            parts.push((property.decoded_name()?, value));
        }
        return Some(CstInputValue::Object(parts));
    }
    if let Some(array) = node.as_array() {
        let parts: Option<Vec<CstInputValue>> = array
            .elements()
            .iter()
            .map(|element| input(element, depth + 1))
            .collect();
        return parts.map(CstInputValue::Array);
    }
    if let Some(text) = node.as_string_lit() {
        return text.decoded_value().ok().map(CstInputValue::String);
    }
    if let Some(boolean) = node.as_boolean_lit() {
        return Some(CstInputValue::Bool(boolean.value()));
    }
    if node.as_null_keyword().is_some() {
        return Some(CstInputValue::Null);
    }
    let number = node.as_number_lit()?;
    Some(CstInputValue::Number(number.to_string()))
}

fn names(object: &CstObject) -> Option<Vec<String>> {
    let properties = object.properties();
    let names: Option<Vec<String>> = properties.iter().map(|p| p.decoded_name()).collect();
    let names = names?;
    // A duplicate key has no single value.
    let distinct: std::collections::HashSet<&String> = names.iter().collect();
    (distinct.len() == names.len()).then_some(names)
}

/// Parses a document for reading, which is several times faster than into an editable tree.
fn tree(bytes: &[u8]) -> Option<Object<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let collect = CollectOptions {
        comments: CommentCollectionStrategy::Off,
        tokens: false,
    };
    match parse_to_ast(text, &collect, &options()).ok()?.value? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

fn name_of<'a>(name: &'a ObjectPropName<'_>) -> &'a str {
    match name {
        ObjectPropName::String(text) => &text.value,
        ObjectPropName::Word(word) => word.value,
    }
}

/// As [`plain`], for a value of the other parser.
fn write_plain(value: &Value<'_>, depth: usize, out: &mut String) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    match value {
        Value::Object(object) => {
            out.push('{');
            for (i, property) in object.properties.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&serde_json::to_string(name_of(&property.name)).ok()?);
                out.push(':');
                write_plain(&property.value, depth + 1, out)?;
            }
            out.push('}');
        }
        Value::Array(array) => {
            out.push('[');
            for (i, element) in array.elements.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_plain(element, depth + 1, out)?;
            }
            out.push(']');
        }
        Value::StringLit(text) => out.push_str(&serde_json::to_string(&*text.value).ok()?),
        Value::NumberLit(number) => out.push_str(number.value),
        Value::BooleanLit(boolean) => out.push_str(if boolean.value { "true" } else { "false" }),
        Value::NullKeyword(_) => out.push_str("null"),
    }
    Some(())
}

fn plain_value(value: &Value<'_>) -> Option<String> {
    let mut out = String::new();
    write_plain(value, 0, &mut out)?;
    Some(out)
}

/// Properties by name; `None` if one is duplicated, because it has no single value.
fn by_name<'a, 'b>(object: &'a Object<'b>) -> Option<HashMap<&'a str, &'a Value<'b>>> {
    let properties = object.properties.iter();
    let found: HashMap<_, _> = properties.map(|p| (name_of(&p.name), &p.value)).collect();
    (found.len() == object.properties.len()).then_some(found)
}

fn compare(
    before: &Object<'_>,
    after: &Object<'_>,
    path: &mut Vec<String>,
    key: &Key,
    found: &mut Vec<KeyChange>,
) -> Option<()> {
    if path.len() > MAX_DEPTH || found.len() > MAX_CHANGES {
        return None;
    }
    let (old, new) = (by_name(before)?, by_name(after)?);
    let added = after.properties.iter().map(|p| name_of(&p.name));
    let all = before.properties.iter().map(|p| name_of(&p.name));
    for name in all.chain(added.filter(|name| !old.contains_key(name))) {
        let (was, is) = (old.get(name).copied(), new.get(name).copied());
        path.push(name.to_owned());
        if let (Some(Value::Object(was)), Some(Value::Object(is))) = (was, is) {
            compare(was, is, path, key, found)?;
        } else {
            let text = is.map(plain_value);
            let text = match text {
                Some(text) => Some(text?),
                None => None,
            };
            let same = match was {
                Some(was) => text.is_some() && Some(plain_value(was)?) == text,
                None => false,
            };
            if !same {
                found.push(KeyChange {
                    path: path.clone(),
                    after: text.map(|text| digest(text.as_bytes(), key)),
                });
            }
        }
        path.pop();
    }
    (found.len() <= MAX_CHANGES).then_some(())
}

fn keys_back(before: &[u8], now: &[u8], changes: &[KeyChange], key: &Key) -> Option<Vec<u8>> {
    let before = object(before)?;
    let root = parse(now)?;
    let top = root.object_value()?;
    for change in changes {
        let (name, above) = change.path.split_last()?;
        let at = |object: &CstObject| {
            above.iter().try_fold(object.clone(), |object, name| {
                object.get(name)?.value()?.as_object()
            })
        };
        let old_parent = at(&before);
        let old = old_parent.as_ref().and_then(|parent| parent.get(name));
        let old = old.and_then(|property| property.value());
        let parent = at(&top);
        let property = parent.as_ref().and_then(|parent| parent.get(name));
        let value = property.as_ref().and_then(|property| property.value());
        let text = match &value {
            Some(value) => Some(plain(value, 0)?),
            None => None,
        };
        let wanted = match &old {
            Some(old) => Some(plain(old, 0)?),
            None => None,
        };
        if text == wanted {
            continue;
        }
        if text.map(|text| digest(text.as_bytes(), key)) != change.after {
            return None;
        }
        match (old, property) {
            (Some(old), Some(property)) => property.set_value(input(&old, 0)?),
            (Some(old), None) => {
                let parent = parent?;
                let place = place_of(name, old_parent.as_ref()?, &parent)?;
                parent.insert(place, name, input(&old, 0)?);
            }
            (None, Some(property)) => property.remove(),
            (None, None) => {}
        }
    }
    Some(root.to_string().into_bytes())
}

/// Returns where a key belongs: after the nearest preceding key that exists.
fn place_of(name: &str, old: &CstObject, now: &CstObject) -> Option<usize> {
    let (old, now) = (names(old)?, names(now)?);
    let before = old.iter().take_while(|other| *other != name);
    let nearest = before.filter_map(|other| now.iter().position(|n| n == other));
    Some(nearest.last().map_or(0, |at| at + 1))
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    lines
}

fn count<'a>(lines: &[&'a [u8]]) -> HashMap<&'a [u8], usize> {
    let mut counts = HashMap::new();
    for line in lines {
        *counts.entry(*line).or_insert(0) += 1;
    }
    counts
}

fn take<K: std::hash::Hash + Eq + ?Sized>(counts: &mut HashMap<&K, usize>, line: &K) -> bool {
    match counts.get_mut(line) {
        Some(left) if *left > 0 => {
            *left -= 1;
            true
        }
        _ => false,
    }
}

fn lines_changed(before: &[u8], after: &[u8], key: &Key) -> Option<Changes> {
    let (before, after) = (lines(before), lines(after));
    let mut left = count(&after);
    let mut gone: Vec<(u32, u32)> = Vec::new();
    for (number, line) in before.iter().enumerate() {
        if take(&mut left, line) {
            continue;
        }
        let number = u32::try_from(number).ok()?;
        match gone.last_mut() {
            Some((first, count)) if *first + *count == number => *count += 1,
            _ => gone.push((number, 1)),
        }
    }
    let mut left = count(&before);
    let new: Vec<String> = after
        .iter()
        .filter(|line| !take(&mut left, line))
        .map(|line| digest(line, key))
        .collect();
    (gone.len() + new.len() <= MAX_CHANGES).then_some(Changes::Lines { gone, new })
}

fn lines_back(
    before: &[u8],
    now: &[u8],
    gone: &[(u32, u32)],
    new: &[String],
    key: &Key,
) -> Vec<u8> {
    let (old, present) = (lines(before), lines(now));
    let mut added: HashMap<&str, usize> = HashMap::new();
    for digest in new {
        *added.entry(digest).or_insert(0) += 1;
    }
    let kept: Vec<&[u8]> = present
        .iter()
        .copied()
        .filter(|line| added.is_empty() || !take(&mut added, &digest(line, key)))
        .collect();
    let mut left = count(&kept);
    let is_gone = |number: usize| {
        gone.iter()
            .any(|(first, count)| (*first as usize..(*first + *count) as usize).contains(&number))
    };
    let mut out: Vec<&[u8]> = Vec::new();
    let mut used: HashMap<&[u8], usize> = HashMap::new();
    for (number, line) in old.iter().enumerate() {
        if is_gone(number) {
            out.push(line);
        } else if take(&mut left, line) {
            *used.entry(line).or_insert(0) += 1;
            out.push(line);
        }
    }
    out.extend(kept.into_iter().filter(|line| !take(&mut used, line)));
    let mut bytes = out.join(&b'\n');
    if !bytes.is_empty() && (now.ends_with(b"\n") || before.ends_with(b"\n")) {
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = [7; 32];

    fn undo(name: &str, before: &str, after: &str, now: &str) -> Option<String> {
        let changes = describe(name.as_bytes(), before.as_bytes(), after.as_bytes(), &KEY)?;
        // In its stored form.
        let json = serde_json::to_string(&changes).unwrap();
        let changes: Changes = serde_json::from_str(&json).unwrap();
        let back = reverse(before.as_bytes(), now.as_bytes(), &changes, &KEY)?;
        Some(String::from_utf8(back).unwrap())
    }

    #[test]
    fn only_the_removed_server_comes_back() {
        let before = "{\n  \"mcpServers\": {\n    \"foo\": {\n      \"command\": \"run\"\n    },\n    \"bar\": {}\n  },\n  \"n\": 1\n}\n";
        let after = "{\n  \"mcpServers\": {\n    \"bar\": {}\n  },\n  \"n\": 1\n}\n";
        let now = "{\n  \"mcpServers\": {\n    \"bar\": {},\n    \"new\": {}\n  },\n  // kept\n  \"n\": 2\n}\n";
        let merged = undo(".claude.json", before, after, now).unwrap();
        assert_eq!(
            merged,
            "{\n  \"mcpServers\": {\n    \"foo\": {\n      \"command\": \"run\"\n    },\n    \"bar\": {},\n    \"new\": {}\n  },\n  // kept\n  \"n\": 2\n}\n"
        );
    }

    #[test]
    fn both_readers_see_the_same_value() {
        let odd = r#"{ // a comment
            "text": "\u00e4\n\"\\/ \ud83d\ude00", 'single': 'it\'s', bare: .5, "plus": +42, "hex": 0xFF, "minus": -1.50e+2,
            "deep": [[], {}, [1, 2,], {"a": null, "b": [true, false]}], "wide": -Infinity, /* and */ "end": "",
        }"#;
        let by_cst = plain(&parse(odd.as_bytes()).unwrap().value().unwrap(), 0).unwrap();
        let by_ast = plain_value(&Value::Object(tree(odd.as_bytes()).unwrap())).unwrap();
        assert_eq!(by_cst, by_ast);
        assert!(by_ast.contains("\"minus\":-1.50e+2"), "{by_ast}");
    }

    #[test]
    fn changed_and_added_keys_go_back_unless_they_changed_again() {
        let before = r#"{"a": 1, "b": {"c": [1, 2]}}"#;
        let after = r#"{"a": 2, "b": {"c": [1, 2], "d": true}, "e": "x"}"#;
        let now = r#"{"a": 2, "b": {"c": [1, 2, 3], "d": true}, "e": "x", "f": null}"#;
        assert_eq!(
            undo("x.json", before, after, now).unwrap(),
            r#"{"a": 1, "b": {"c": [1, 2, 3]}, "f": null}"#
        );
        assert_eq!(
            undo("x.json", before, after, r#"{"a": 3, "b": {}, "e": "x"}"#),
            None
        );
        assert_eq!(undo("x.json", before, after, "[1]"), None);
        assert_eq!(undo("x.json", before, after, "{"), None);
    }

    #[test]
    fn a_truncated_object_gets_its_keys_back_around_new_ones() {
        let merged = undo("x.json", r#"{"a":1,"b":2}"#, "", r#"{"c":3}"#).unwrap();
        let value: serde_json::Value = serde_json::from_str(&merged).unwrap();
        assert_eq!(value, serde_json::json!({"a": 1, "b": 2, "c": 3}));
        // A key that exists again with another value is a conflict.
        assert_eq!(undo("x.json", r#"{"a":1}"#, "", r#"{"a":3}"#), None);
    }

    #[test]
    fn lines_come_back_and_what_was_appended_since_stays() {
        assert_eq!(
            undo("l.jsonl", "1\n2\n3\n", "", "4\n").unwrap(),
            "1\n2\n3\n4\n"
        );
        assert_eq!(
            undo("l.jsonl", "1\n2\n3\n", "1\n3\n9\n", "1\n3\n9\n4\n").unwrap(),
            "1\n2\n3\n4\n"
        );
        // A line that somebody removed since stays removed.
        assert_eq!(
            undo("l.jsonl", "1\n2\n3\n", "1\n3\n", "3\n").unwrap(),
            "2\n3\n"
        );
        assert_eq!(
            undo("l.jsonl", "1\n1\n2\n", "1\n", "1\n5").unwrap(),
            "1\n1\n2\n5\n"
        );
    }

    #[test]
    fn digests_tell_nothing_without_the_key() {
        let of = |key: &Key| describe(b"x.json", b"{}", br#"{"t":"1234"}"#, key).unwrap();
        assert_ne!(of(&[1; 32]), of(&[2; 32]));
        let json = serde_json::to_string(&of(&KEY)).unwrap();
        assert!(!json.contains("1234"));
        let wrong = reverse(b"{}", br#"{"t":"1234"}"#, &of(&[1; 32]), &[2; 32]);
        assert_eq!(wrong, None);
    }

    #[test]
    fn other_files_and_doubled_keys_are_not_merged() {
        assert!(!is_mergeable(b"notes.md"));
        assert_eq!(describe(b"x.json", br#"{"a":1,"a":2}"#, b"{}", &KEY), None);
        assert_eq!(describe(b"x.json", b"[1]", b"[2]", &KEY), None);
        let deep = "{\"a\":".repeat(200) + "1" + &"}".repeat(200);
        let _ = describe(b"x.json", deep.as_bytes(), b"{}", &KEY);
    }
}
