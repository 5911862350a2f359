//! Changes single values in a configuration's text, and nothing around them: comments, order and
//! spelling stay.

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use crate::base::error::{Error, Result};

const LISTS: [&str; 11] = [
    "not_covered",
    "allow",
    "include",
    "exclude",
    "rules",
    "mcp_tools",
    "keep_tags",
    "command",
    "tags",
    "recipients",
    "sync",
];

/// Returns the text with a value set. `values` are TOML if they parse as such, otherwise bare
/// strings; several values, or a key that takes a list, make a list. [`super::Config::parse`]
/// judges the result.
///
/// # Errors
/// The text is not TOML, or a part of the key is not a table.
pub fn set(text: &str, key: &[&str], values: &[String]) -> Result<String> {
    let mut document = parse(text)?;
    let Some((last, tables)) = key.split_last() else {
        return Err(no_key());
    };
    let table = descend(&mut document, tables, true)?;
    let table = table.ok_or_else(no_key)?;
    let value = match values {
        [one] if !LISTS.contains(last) => value(one),
        _ => {
            let mut list = Array::new();
            for one in values {
                match value(one) {
                    // A single value that is a list is the list.
                    Value::Array(inner) if values.len() == 1 => list = inner,
                    one => list.push(one),
                }
            }
            Value::Array(list)
        }
    };
    match table.get_mut(last) {
        Some(Item::Value(old)) => {
            // A comment after it is about the key, not about the value.
            let decor = old.decor().clone();
            *old = value;
            *old.decor_mut() = decor;
        }
        _ => drop(table.insert(last, Item::Value(value))),
    }
    Ok(written(text, document))
}

/// Returns the text with values added to a list, which is created if it is missing. Values that the
/// list has are not added again.
///
/// # Errors
/// The text is not TOML, or the key is not a list.
pub fn append(text: &str, key: &[&str], values: &[String]) -> Result<String> {
    let mut document = parse(text)?;
    let Some((last, tables)) = key.split_last() else {
        return Err(no_key());
    };
    let table = descend(&mut document, tables, true)?.ok_or_else(no_key)?;
    let item = table
        .entry(last)
        .or_insert(Item::Value(Array::new().into()));
    let list = item.as_array_mut().ok_or_else(|| {
        let shown = key.join(".");
        Error::invalid(format!("`{shown}` is not a list"), Some("bdr config edit"))
    })?;
    for value in values {
        if !list.iter().any(|known| known.as_str() == Some(value)) {
            list.push(value.as_str());
        }
    }
    Ok(written(text, document))
}

/// Returns the text without a value or a whole table.
///
/// # Errors
/// The text is not TOML, or has nothing of that name.
pub fn remove(text: &str, key: &[&str]) -> Result<String> {
    let mut document = parse(text)?;
    let Some((last, tables)) = key.split_last() else {
        return Err(no_key());
    };
    let table = descend(&mut document, tables, false)?;
    if table.and_then(|table| table.remove(last)).is_none() {
        let shown = key.join(".");
        return Err(Error::invalid(
            format!("`{shown}` is not set"),
            Some("bdr config show"),
        ));
    }
    Ok(document.to_string())
}

/// Splits a key into its parts: `source."a.b".path` has three.
///
/// # Errors
/// It is not a valid key.
pub fn parts(key: &str) -> Result<Vec<String>> {
    let parsed = toml_edit::Key::parse(key);
    let parts = parsed.map_err(|_| {
        let shown = crate::base::path::show(key.as_ref());
        Error::invalid(
            format!("`{shown}` is not a key"),
            Some("write it like retention.keep_daily"),
        )
    })?;
    Ok(parts.iter().map(|part| part.get().to_owned()).collect())
}

/// Returns the changed document. What is commented out at the end of a text is below the last table
/// and belongs to it: a table that is new comes after that, not between them.
fn written(text: &str, mut document: DocumentMut) -> String {
    let end = document.trailing().clone();
    let known = end.as_str().and_then(|end| text.strip_suffix(end));
    document.set_trailing("");
    let new = document.to_string();
    match known.and_then(|known| new.strip_prefix(known)) {
        Some(added) if added.trim_start().starts_with('[') => format!("{text}{added}"),
        _ => {
            document.set_trailing(end);
            document.to_string()
        }
    }
}

fn no_key() -> Error {
    Error::invalid(
        "the key is empty",
        Some("write it like retention.keep_daily"),
    )
}

fn parse(text: &str) -> Result<DocumentMut> {
    text.parse().map_err(|_| {
        Error::invalid(
            "the configuration is not valid TOML",
            Some("bdr config check"),
        )
    })
}

fn descend<'d>(
    document: &'d mut DocumentMut,
    tables: &[&str],
    create: bool,
) -> Result<Option<&'d mut Table>> {
    let mut table = document.as_table_mut();
    for name in tables {
        if !table.contains_key(name) {
            if !create {
                return Ok(None);
            }
            let mut new = Table::new();
            // `[source.x]` needs no `[source]` above it.
            new.set_implicit(tables.len() > 1 && *name == tables[0]);
            table.insert(name, Item::Table(new));
        }
        table = table
            .get_mut(name)
            .and_then(Item::as_table_mut)
            .ok_or_else(|| {
                Error::invalid(format!("`{name}` is not a table"), Some("bdr config show"))
            })?;
    }
    Ok(Some(table))
}

fn value(text: &str) -> Value {
    // A date is valid TOML too, but never meant here.
    match text.trim().parse::<Value>() {
        Ok(mut value) if !value.is_datetime() => {
            value.decor_mut().clear();
            value
        }
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# mine\n[retention]  # how long\nkeep_daily = 7    # a week\n\n[source.a]\npath = \"/a\"\nexclude = [\n    \"x\", # first\n]\n";

    fn set_one(key: &str, values: &[&str]) -> String {
        let parts = parts(key).unwrap();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        set(TEXT, &parts, &values).unwrap()
    }

    #[test]
    fn one_value_changes_and_all_around_it_stays() {
        assert_eq!(
            set_one("retention.keep_daily", &["14"]),
            TEXT.replace("= 7 ", "= 14 ")
        );
        assert_eq!(
            set_one("source.a.path", &["/b c"]),
            TEXT.replace("\"/a\"", "\"/b c\"")
        );
        let text = set_one("schedule.at", &["03:00"]);
        assert_eq!(text, format!("{TEXT}\n[schedule]\nat = \"03:00\"\n"));
        let text = set_one("source.\"b.c\".path", &["~/b"]);
        assert_eq!(text, format!("{TEXT}\n[source.\"b.c\"]\npath = \"~/b\"\n"));
        assert_eq!(
            set_one("repository", &["/r"]),
            format!("repository = \"/r\"\n{TEXT}")
        );
    }

    #[test]
    fn what_is_commented_out_at_the_end_stays_below_its_table() {
        let end = "# keep_weekly = 4\n\n# bdr schedule install\n";
        for text in [
            format!("[retention]\n{end}"),
            format!("[retention]\nkeep_daily = 7\n{end}"),
            format!("[source.a]\npath = \"/a\"\n\n[retention]\n{end}"),
        ] {
            for key in ["remote.x.url", "privacy.profile", "source.b.path"] {
                let parts = parts(key).unwrap();
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                let new = set(&text, &parts, &["v".to_owned()]).unwrap();
                let at = new.rfind("[retention]").unwrap();
                let below = new[at..].lines().skip(1);
                let own: Vec<&str> = below.take_while(|line| !line.starts_with('[')).collect();
                assert!(own.contains(&"# keep_weekly = 4"), "{new}");
                // The second value of a table that is new belongs to it as well.
                let (last, tables) = parts.split_last().unwrap();
                let other = [tables, &[if *last == "url" { "limit" } else { "more" }]].concat();
                let twice = set(&new, &other, &["w".to_owned()]).unwrap();
                let read: toml::Table = twice.parse().unwrap();
                let mut table = &read;
                for part in tables {
                    table = table[*part].as_table().unwrap();
                }
                assert_eq!(table.len(), 2, "{twice}");
            }
        }
        // A key comes before what is commented out below its table.
        let text = set(
            &format!("[retention]\n{end}"),
            &["retention", "keep_daily"],
            &["3".to_owned()],
        );
        assert_eq!(text.unwrap(), format!("[retention]\nkeep_daily = 3\n{end}"));
    }

    #[test]
    fn lists_are_made_of_words_or_of_a_list() {
        for values in [&["*.log", "*.tmp"][..], &["[\"*.log\", \"*.tmp\"]"]] {
            let text = set_one("source.a.exclude", values);
            assert!(text.contains("exclude = [\"*.log\", \"*.tmp\"]"), "{text}");
        }
        assert!(set_one("source.a.include", &["x"]).contains("include = [\"x\"]"));
        assert!(set_one("notify.desktop", &["true"]).contains("desktop = true"));
        assert!(set_one("schedule.at", &["07:32:00"]).contains("at = \"07:32:00\""));
    }

    #[test]
    fn a_list_grows_and_keeps_its_comments() {
        let more = |key: &str, values: &[&str]| {
            let parts = parts(key).unwrap();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
            append(TEXT, &parts, &values)
        };
        let text = more("source.a.exclude", &["y", "x"]).unwrap();
        assert!(text.contains("# first"), "{text}");
        let read: toml::Table = text.parse().unwrap();
        let list = read["source"]["a"]["exclude"].as_array().unwrap();
        let words: Vec<_> = list.iter().filter_map(|v| v.as_str()).collect();
        assert_eq!(words, ["x", "y"]);
        let text = more("source.a.include", &["z"]).unwrap();
        assert!(text.contains("include = [\"z\"]"), "{text}");
        assert!(more("source.a.path", &["z"]).is_err());
    }

    #[test]
    fn what_is_removed_is_gone_and_what_is_not_there_is_said() {
        assert_eq!(
            remove(TEXT, &["retention", "keep_daily"]).unwrap(),
            TEXT.replace("keep_daily = 7    # a week\n", "")
        );
        assert!(
            !remove(TEXT, &["source", "a"])
                .unwrap()
                .contains("[source.a]")
        );
        assert!(remove(TEXT, &["retention", "keep_weekly"]).is_err());
        assert!(remove(TEXT, &["x", "y"]).is_err());
        assert!(set(TEXT, &["retention", "keep_daily", "x"], &["1".to_owned()]).is_err());
        assert!(set("not [ toml", &["a"], &["1".to_owned()]).is_err());
        assert!(parts("a..b").is_err() && parts("").is_err());
    }
}
