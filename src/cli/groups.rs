//! The list of commands in `bdr --help`, grouped by purpose.

use clap::{Command, CommandFactory as _};

use super::Cli;

/// Every command that people type, in the order shown.
const GROUPS: [(&str, &[&str]); 7] = [
    ("Protect", &["guard", "explain", "hooks"]),
    ("Take back", &["undo", "redo", "log", "show", "op"]),
    (
        "Back up and restore",
        &[
            "backup", "restore", "list", "ls", "diff", "history", "find", "cat",
        ],
    ),
    (
        "Elsewhere",
        &["remote", "push", "pull", "clone", "machines", "sync"],
    ),
    (
        "Look after it",
        &[
            "status",
            "doctor",
            "verify",
            "repair",
            "drill",
            "prune",
            "pin",
            "unpin",
            "tag",
            "forget",
            "scan",
            "privacy",
            "dashboard",
        ],
    ),
    (
        "Set up",
        &[
            "init",
            "add",
            "remove",
            "exclude",
            "config",
            "schedule",
            "notify",
            "vault",
            "import",
            "demo",
            "uninstall",
        ],
    ),
    ("For programs", &["mcp", "shell", "completions"]),
];

/// Returns the command line. clap only knows one list of commands, so the groups are text in its
/// help.
pub(super) fn command() -> Command {
    let command = Cli::command();
    let line = |name: &&str| {
        let found = command
            .get_subcommands()
            .find(|sub| sub.get_name() == *name);
        let about = found.and_then(Command::get_about).map(ToString::to_string);
        format!("  {name:<11} {}\n", about.unwrap_or_default())
    };
    let list: String = GROUPS
        .iter()
        .map(|(title, names)| {
            let lines: String = names.iter().map(line).collect();
            format!("{title}:\n{lines}\n")
        })
        .collect();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}Options:\n{{options}}{{after-help}}"
    );
    command.help_template(template)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_that_people_type_is_in_one_group() {
        let shown: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| names.iter().copied())
            .collect();
        let distinct: BTreeSet<&str> = shown.iter().copied().collect();
        assert_eq!(distinct.len(), shown.len(), "a command is in two groups");
        let command = Cli::command();
        let typed = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        let typed: BTreeSet<&str> = typed.map(Command::get_name).collect();
        assert_eq!(distinct, typed);
    }

    /// The exit codes, as at the end of `docs/commands.md`.
    const EXIT_CODES: &str = "\
## Exit codes

| code | meaning |
|---|---|
| 0 | done |
| 1 | failure |
| 2 | wrong usage |
| 3 | partial: something could not be read or restored, or a conflict is left |
| 4 | damage found |
| 10 | no repository, or the disk that it is on is away |
| 11 | busy: another bdr holds the repository |
| 12 | the key is missing |
| 130 | interrupted |

`bdr guard` exits as its command does; 125: the command was not run, 126: it cannot be executed, 127: it was not found.
";

    fn write_command(text: &mut String, command: &Command, path: &str, level: usize) {
        let name = format!("{path} {}", command.get_name());
        let about = command.get_long_about().or(command.get_about());
        let about = about.map(ToString::to_string).unwrap_or_default();
        let usage = command.clone().bin_name(&name).render_usage().to_string();
        let usage = usage.replace("Usage: ", "");
        text.push_str(&format!(
            "{} `{name}`\n\n{}\n\n```\n{usage}\n```\n\n",
            "#".repeat(level),
            about.trim()
        ));
        let own = |arg: &&clap::Arg| {
            !arg.is_hide_set()
                && !arg.is_global_set()
                && !["help", "version"].contains(&arg.get_id().as_str())
        };
        let mut listed = false;
        for arg in command.get_arguments().filter(own) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let help = help.replace('\n', " ");
            let value = arg.to_string();
            // `--help` lists these by itself.
            let words = arg.get_possible_values();
            let words: Vec<&str> = words.iter().map(|word| word.get_name()).collect();
            let help = match words.is_empty() || !arg.is_positional() {
                true => help,
                false => format!("{help}: {}", words.join(", ")),
            };
            text.push_str(&format!("- `{}`: {help}\n", value.trim()));
            listed = true;
        }
        if listed {
            text.push('\n');
        }
        if let Some(examples) = command.get_after_help().map(ToString::to_string) {
            text.push_str(&format!("```text\n{}\n```\n\n", examples.trim()));
        }
        for sub in command.get_subcommands() {
            if !sub.is_hide_set() && sub.get_name() != "help" {
                write_command(text, sub, &name, level + 1);
            }
        }
    }

    fn document() -> String {
        let mut command = Cli::command();
        command.build();
        let mut text = "\
# Commands

Made from the program's own help. Every command takes `--json` ([json.md](json.md)), `--quiet`, `--repository <DIR>` and
`--color <WHEN>`. Snapshots are named by the beginning of their id, `latest`, `latest~2`, `latest:full`, `latest:any`, or
a time: `--at \"2026-11-20 14:00\"`, `--at yesterday`. A path is absolute, relative to the current directory, or
`SOURCE/relative`.

"
        .to_owned();
        for (title, names) in GROUPS {
            text.push_str(&format!("## {title}\n\n"));
            for name in names {
                let sub = command.find_subcommand(name).expect("it is listed");
                write_command(&mut text, sub, "bdr", 3);
            }
        }
        text + EXIT_CODES
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the document is written when that is asked for"
    )]
    fn docs_commands_md_is_what_the_program_says() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
        let wanted = document();
        if std::env::var_os("BDR_WRITE_DOCS").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        }
        let is = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            is == wanted,
            "docs/commands.md is not what the program says: BDR_WRITE_DOCS=1 cargo test docs_commands_md"
        );
    }
}
