//! The arguments of a call. Every known spelling is accepted; an unknown name is refused, because a
//! misspelled limit would be no limit.

use bdr::model::config::closest;
use serde_json::{Map, Value};

use super::fault::Fault;

/// Longer texts, in bytes, are not names, labels or patterns.
const MAX_TEXT: usize = 4096;
const MAX_LIST: usize = 1000;

#[derive(Debug, Default)]
pub(crate) struct Args(Map<String, Value>);

impl Args {
    /// Reads them. The members of `nested` objects count as arguments too, as older callers send
    /// them; an argument outside wins.
    pub(crate) fn read(
        given: Map<String, Value>,
        known: &[&str],
        nested: &[&str],
    ) -> Result<Self, Fault> {
        let mut map = Map::new();
        let mut inner = Vec::new();
        for (name, value) in given {
            match value {
                Value::Null => {}
                Value::Object(members) if nested.contains(&name.as_str()) => inner.push(members),
                value => {
                    map.insert(name, value);
                }
            }
        }
        // `schedule` may contain `backupConfig`.
        while let Some(members) = inner.pop() {
            for (name, value) in members {
                match value {
                    Value::Null => {}
                    Value::Object(members) if nested.contains(&name.as_str()) => {
                        inner.push(members);
                    }
                    value => {
                        map.entry(name).or_insert(value);
                    }
                }
            }
        }
        for name in map.keys() {
            if known.contains(&name.as_str()) {
                continue;
            }
            let shown = bdr::base::path::show(name.as_ref());
            let next = match closest(name, known) {
                Some(near) => format!("make the same call with `{near}`"),
                None => format!("leave it out; known parameters: {}", known.join(", ")),
            };
            let message = format!("there is no parameter `{shown}`; nothing was done");
            return Err(Fault::argument(message, &next));
        }
        Ok(Self(map))
    }

    fn wrong(name: &str, wanted: &str) -> Fault {
        Fault::argument(
            format!("`{name}` must be {wanted}"),
            &format!("make the same call with {name} as {wanted}"),
        )
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Fault> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= MAX_TEXT => Ok(Some(text)),
            Some(Value::String(_)) => Err(Self::wrong(name, "a string of 4096 bytes at most")),
            Some(_) => Err(Self::wrong(name, "a string")),
        }
    }

    /// Returns one of several words, in lower case.
    pub(crate) fn word(
        &self,
        name: &str,
        words: &[&'static str],
    ) -> Result<Option<&'static str>, Fault> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let found = words.iter().find(|word| word.eq_ignore_ascii_case(text));
        let wanted = || Self::wrong(name, &format!("one of {}", words.join(", ")));
        found.map(|word| Some(*word)).ok_or_else(wanted)
    }

    /// Returns a list of texts; a single text is a list of one.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>, Fault> {
        let wanted = "a list of strings";
        match self.0.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(_)) => Ok(self.text(name)?.map(str::to_owned).into_iter().collect()),
            Some(Value::Array(list)) if list.len() <= MAX_LIST => list
                .iter()
                .map(|item| match item {
                    Value::String(text) if text.len() <= MAX_TEXT => Ok(text.clone()),
                    _ => Err(Self::wrong(name, wanted)),
                })
                .collect(),
            Some(_) => Err(Self::wrong(name, wanted)),
        }
    }

    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, Fault> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            // Some clients send every value as text.
            Some(Value::String(text)) if text == "true" => Ok(Some(true)),
            Some(Value::String(text)) if text == "false" => Ok(Some(false)),
            Some(_) => Err(Self::wrong(name, "true or false")),
        }
    }

    /// Returns a number from `least` to `most`.
    pub(crate) fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Fault> {
        let wanted = format!("a whole number from {least} to {most}");
        let number = match self.0.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64().or_else(|| {
                number
                    .as_f64()
                    .filter(|n| n.fract() == 0.0 && *n >= 0.0)
                    .map(|n| n as u64)
            }),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number
            .filter(|number| (least..=most).contains(number))
            .map(Some)
            .ok_or_else(|| Self::wrong(name, &wanted))
    }

    pub(crate) fn member(&self, name: &str, member: &str) -> Result<Option<&Value>, Fault> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(map.get(member).filter(|value| !value.is_null())),
            Some(_) => Err(Self::wrong(name, "an object")),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Returns everything as one line, for the log and to recognise an equal call.
    pub(crate) fn line(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Args, Fault> {
        let Value::Object(map) = value else {
            panic!("an object")
        };
        Args::read(
            map,
            &["paths", "limit", "label", "dryRun"],
            &["filter", "deeper"],
        )
    }

    #[test]
    fn older_spellings_are_taken_and_misspelled_names_refused() {
        let args = read(json!({"filter": {"label": "inner", "deeper": {"limit": "7"}}, "label": "outer", "paths": "a", "dryRun": null})).unwrap();
        assert_eq!(args.text("label").unwrap(), Some("outer"));
        assert_eq!(args.number("limit", 1, 100).unwrap(), Some(7));
        assert_eq!(args.texts("paths").unwrap(), ["a"]);
        assert_eq!(args.flag("dryRun").unwrap(), None);
        let fault = read(json!({"path": ["a"]})).unwrap_err();
        assert_eq!(fault.code, "INVALID_ARGUMENT");
        assert!(fault.text().contains("`paths`"), "{}", fault.text());
    }

    #[test]
    fn values_of_the_wrong_kind_are_named() {
        for (value, name) in [
            (json!({"paths": [1]}), "paths"),
            (json!({"paths": {"a": 1}}), "paths"),
            (json!({"paths": ["x".repeat(5000)]}), "paths"),
        ] {
            let fault = read(value).unwrap().texts("paths").unwrap_err();
            assert!(fault.message.contains(name), "{}", fault.message);
        }
        for value in [
            json!({"limit": -1}),
            json!({"limit": 1.5}),
            json!({"limit": 1e30}),
            json!({"limit": "x"}),
        ] {
            assert!(read(value).unwrap().number("limit", 1, 100).is_err());
        }
        assert!(
            read(json!({"dryRun": "maybe"}))
                .unwrap()
                .flag("dryRun")
                .is_err()
        );
    }
}
