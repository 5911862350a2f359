//! Takes a snapshot before a project deploys: scripts of a `package.json`, and lines to add by hand
//! elsewhere.

use jsonc_parser::ParseOptions;
use jsonc_parser::cst::{CstInputValue, CstObject, CstRootNode};

use crate::base::error::{Error, Result};

/// The beginning of bdr's part of a script.
const BEGINS: &str = "(bdr backup --quiet --label pre-deploy";
const ENDS: &str = " || echo bdr: no backup before this deploy)";

fn scripts(root: &CstRootNode) -> Option<CstObject> {
    root.object_value()?.object_value("scripts")
}

fn parse(text: &str) -> Result<CstRootNode> {
    CstRootNode::parse(text, &ParseOptions::default())
        .map_err(|error| Error::invalid(format!("it is not JSON: {error}"), None))
}

fn text_of(scripts: &CstObject, name: &str) -> Option<String> {
    let value = scripts.get(name)?.value()?;
    value.as_string_lit()?.decoded_value().ok()
}

/// Returns the command that takes the snapshot. By name, not by path, because others share the
/// file.
fn snapshot(script: &str) -> String {
    let label = match script.split_once(':') {
        Some((_, environment))
            if environment
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-') =>
        {
            format!(":{environment}")
        }
        _ => String::new(),
    };
    format!("{BEGINS}{label}{ENDS}")
}

/// Scripts that a program runs which deploys by itself; the first existing one counts:
/// deployment-release-mcp calls `npm run lint`, then `npm test`.
const CHECKS: [&str; 2] = ["lint", "test"];

/// Returns the text with a snapshot before each script that deploys, and with `checks` also before
/// the first check. `manager`: "npm" runs `pre…` scripts by itself, others do not.
///
/// # Errors
/// The text is not JSON, or has no script that deploys.
pub fn add(text: &str, manager: &str, checks: bool) -> Result<String> {
    let root = parse(text)?;
    let none = || {
        Error::invalid(
            "there is no script `deploy` or `deploy:…`",
            Some("bdr hooks print deploy shows what to add by hand"),
        )
    };
    let scripts = scripts(&root).ok_or_else(none)?;
    let names: Vec<String> = scripts
        .properties()
        .iter()
        .filter_map(|property| property.decoded_name())
        .collect();
    let is_deploy = |name: &&String| *name == "deploy" || name.starts_with("deploy:");
    let mut deploys: Vec<String> = names.iter().filter(is_deploy).cloned().collect();
    let check = CHECKS
        .iter()
        .find(|check| names.iter().any(|name| name == *check));
    deploys.extend(check.filter(|_| checks).map(|check| (*check).to_owned()));
    if deploys.is_empty() {
        return Err(none());
    }
    for name in deploys {
        let begins = snapshot(&name);
        let place = match manager {
            "npm" => format!("pre{name}"),
            _ => name.clone(),
        };
        match text_of(&scripts, &place) {
            Some(old) if old.starts_with(BEGINS) => {}
            Some(old) => {
                let value = CstInputValue::String(format!("{begins} && {old}"));
                if let Some(property) = scripts.get(&place) {
                    property.set_value(value);
                }
            }
            None => {
                let at = scripts
                    .get(&name)
                    .map_or(0, |property| property.property_index());
                scripts.insert(at, &place, CstInputValue::String(begins));
            }
        }
    }
    Ok(root.to_string())
}

/// Returns the text without bdr's part.
///
/// # Errors
/// The text is not JSON.
pub fn remove(text: &str) -> Result<String> {
    let root = parse(text)?;
    if let Some(scripts) = scripts(&root) {
        for property in scripts.properties() {
            let Some(name) = property.decoded_name() else {
                continue;
            };
            let Some(value) = text_of(&scripts, &name) else {
                continue;
            };
            if !value.starts_with(BEGINS) {
                continue;
            }
            let Some((_, rest)) = value.split_once(ENDS) else {
                continue;
            };
            match rest.strip_prefix(" && ") {
                Some(old) => property.set_value(CstInputValue::String(old.to_owned())),
                None => property.remove(),
            }
        }
    }
    Ok(root.to_string())
}

/// What to add by hand: where, and which lines.
pub const BY_HAND: [(&str, &str); 6] = [
    (
        "Makefile",
        "deploy: bdr-snapshot\nbdr-snapshot:\n\t-bdr backup --quiet --label pre-deploy\n.PHONY: bdr-snapshot",
    ),
    (
        "justfile",
        "deploy: bdr-snapshot\nbdr-snapshot:\n    -bdr backup --quiet --label pre-deploy",
    ),
    (
        "GitHub Actions (self-hosted runners)",
        "- name: Snapshot\n  run: bdr backup --label pre-deploy --json\n  continue-on-error: true",
    ),
    (
        ".kamal/hooks/pre-deploy",
        "#!/bin/sh\nbdr backup --quiet --label \"pre-deploy:$KAMAL_DESTINATION\" || :",
    ),
    (
        "Capistrano (config/deploy.rb)",
        "before \"deploy:starting\", :bdr do\n  run_locally { execute :bdr, \"backup --quiet --label pre-deploy:#{fetch(:stage)}\", raise_on_non_zero_exit: false }\nend",
    ),
    (
        "another program (deployment-release-mcp)",
        "bdr backup --label pre-deploy:production --json",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGE: &str = "{\n  \"name\": \"shop\",\n  \"scripts\": {\n    \"test\": \"x\",\n    \"deploy\": \"./deploy.sh\",\n    \"predeploy:prod\": \"lint\",\n    \"deploy:prod\": \"./deploy.sh prod\"\n  }\n}\n";

    #[test]
    fn scripts_get_a_snapshot_first_and_lose_it_again() {
        for manager in ["npm", "yarn"] {
            let with = add(PACKAGE, manager, false).unwrap();
            assert_eq!(add(&with, manager, false).unwrap(), with);
            let value: serde_json::Value = serde_json::from_str(&with).unwrap();
            let place = if manager == "npm" {
                "predeploy:prod"
            } else {
                "deploy:prod"
            };
            let script = value["scripts"][place].as_str().unwrap();
            assert!(script.contains("--label pre-deploy:prod ||"), "{script}");
            assert!(script.ends_with(if manager == "npm" {
                "&& lint"
            } else {
                "&& ./deploy.sh prod"
            }));
            assert_eq!(remove(&with).unwrap(), PACKAGE);
        }
    }

    #[test]
    fn without_a_script_that_deploys_nothing_is_made_up() {
        let only_test = "{\n  \"scripts\": {\n    \"test\": \"x\"\n  }\n}\n";
        assert!(add(only_test, "npm", false).is_err());
        assert!(add("{}", "npm", true).is_err());
        // If another program deploys, hook into its first check.
        let checked = add(only_test, "npm", true).unwrap();
        assert!(checked.contains("\"pretest\": \"(bdr backup"), "{checked}");
        assert_eq!(remove(&checked).unwrap(), only_test);
    }
}
