//! Agents that shells start as a captured session: a function around the agent's command, in a block
//! of its own in the file that the shell reads at its start.

use super::shells::{Around, Shell};
use super::{Form, block};
use crate::model::agent::Host;

use std::path::PathBuf;

/// The shells that can have such a function. The others do not run where calls can be captured.
pub const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Returns the word of the target.
pub(super) fn word(host: Host) -> &'static str {
    match host {
        Host::Claude => "claude-session",
        Host::Codex => "codex-session",
        Host::Gemini => "gemini-session",
        Host::Cursor => "cursor-session",
        Host::Copilot => "copilot-session",
        // It has none; see `bdr shell session`.
        Host::Shell => "shell-session",
    }
}

pub(super) fn parse(text: &str) -> Option<Host> {
    Host::ALL.into_iter().find(|host| word(*host) == text)
}

/// Returns the command by which people start an agent.
pub fn command(host: Host) -> &'static str {
    match host {
        Host::Cursor => "cursor-agent",
        other => other.word(),
    }
}

/// Returns the name of the block of a target.
pub(super) fn block_name(target: &str) -> String {
    match parse(target) {
        Some(_) => format!("{} {target}", block::OWN),
        None => block::OWN.to_owned(),
    }
}

/// Returns the file and the form of the function for a shell; `None` if it can have none.
pub fn part(
    host: Host,
    shell: Shell,
    around: &Around<'_>,
    program: &str,
) -> Option<(PathBuf, Form)> {
    let (command, word) = (command(host), word(host));
    let program = shell.quoted(program);
    let how = format!("`bdr hooks uninstall {word}` removes it");
    Some(match shell {
        Shell::Bash | Shell::Zsh => {
            // Without `function`, an alias of that name would be expanded here. If bdr goes, the
            // agent still starts.
            let lines = format!(
                "case $- in *i*)\nfunction {command} {{\n    if [ -x {program} ]; then {program} guard --session -- {command} \"$@\"\n    else command {command} \"$@\"; fi\n}} ;; esac"
            );
            let file = shell.file(around);
            (
                file,
                Form::Block(block::render_as(&block_name(word), &how, &lines)),
            )
        }
        Shell::Fish => {
            let text = format!(
                "# bdr: {how}\nif status is-interactive\n    function {command} --wraps {command}\n        if test -x {program}\n            {program} guard --session -- {command} $argv\n        else\n            command {command} $argv\n        end\n    end\nend\n"
            );
            let name = format!("fish/conf.d/bdr-{word}.fish");
            (around.config_home.join(name), Form::Own(text))
        }
        Shell::PowerShell => return None,
    })
}
