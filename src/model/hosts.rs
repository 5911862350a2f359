//! Programs that run for hours and start what people think of as commands: coding agents, and shells
//! that somebody types into.

/// Coding agents that are started in a terminal.
const AGENTS: [&str; 17] = [
    "aider",
    "amp",
    "auggie",
    "claude",
    "cline",
    "codex",
    "copilot",
    "crush",
    "cursor-agent",
    "droid",
    "gemini",
    "goose",
    "kiro-cli",
    "opencode",
    "openhands",
    "qwen",
    "vibe",
];

const SHELLS: [&str; 9] = [
    "bash", "dash", "elvish", "fish", "ksh", "nu", "sh", "xonsh", "zsh",
];

/// Programs that run a script whose name says what it is.
const RUNNERS: [&str; 8] = [
    "bun", "deno", "node", "nodejs", "python", "python3", "uv", "tsx",
];

/// Options of shells that have a value.
const WITH_VALUE: [&[u8]; 6] = [b"--rcfile", b"--init-file", b"-o", b"+o", b"-O", b"+O"];

fn name(word: &[u8]) -> &[u8] {
    let name = word.rsplit(|b| *b == b'/').next().unwrap_or(word);
    // A shell as which somebody logged in.
    name.strip_prefix(b"-").unwrap_or(name)
}

fn is_one_of(word: &[u8], known: &[&str]) -> bool {
    known.iter().any(|known| known.as_bytes() == word)
}

/// Returns true for the arguments of a coding agent, started by itself or by an interpreter.
pub fn is_agent<T: AsRef<[u8]>>(argv: &[T]) -> bool {
    let Some((program, rest)) = argv.split_first() else {
        return false;
    };
    let program = name(program.as_ref());
    if is_one_of(program, &AGENTS) {
        return true;
    }
    let script = rest
        .iter()
        .map(AsRef::as_ref)
        .find(|word| !word.starts_with(b"-"));
    let script = script.map(name).filter(|_| is_one_of(program, &RUNNERS));
    script.is_some_and(|script| {
        let bare = [&b".js"[..], b".mjs", b".cjs", b".py"]
            .iter()
            .find_map(|end| script.strip_suffix(*end));
        is_one_of(bare.unwrap_or(script), &AGENTS)
    })
}

/// Returns true for the arguments of a shell that reads what somebody types: no script, no line.
pub fn is_interactive<T: AsRef<[u8]>>(argv: &[T], terminal: bool) -> bool {
    let Some((program, rest)) = argv.split_first() else {
        return false;
    };
    if !is_one_of(name(program.as_ref()), &SHELLS) {
        return false;
    }
    let mut asked = false;
    let mut rest = rest.iter().map(AsRef::as_ref);
    while let Some(word) = rest.next() {
        if WITH_VALUE.contains(&word) {
            rest.next();
        } else if word.starts_with(b"--") {
        } else if word.starts_with(b"-") && word.len() > 1 {
            if word.contains(&b'c') {
                return false;
            }
            asked |= word.contains(&b'i');
        } else {
            // A script.
            return false;
        }
    }
    asked || terminal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn agents_are_known_by_name_and_by_script() {
        for line in [
            "claude",
            "/usr/local/bin/claude --resume",
            "node /usr/bin/codex exec x",
            "node --max-old-space-size=1 /opt/gemini.js",
            "python3 -u aider",
        ] {
            assert!(is_agent(&words(line)), "{line}");
        }
        for line in [
            "node server.js",
            "cat claude",
            "claude-oops",
            "rm codex",
            "",
        ] {
            assert!(!is_agent(&words(line)), "{line}");
        }
    }

    #[test]
    fn a_shell_is_interactive_without_a_script_or_a_line() {
        for line in [
            "bash",
            "-zsh",
            "bash -l",
            "/bin/fish --private",
            "bash --rcfile x",
        ] {
            assert!(is_interactive(&words(line), true), "{line}");
            assert!(!is_interactive(&words(line), false), "{line}");
        }
        assert!(is_interactive(&words("bash -i"), false));
        for line in [
            "bash -c ls",
            "sh -ec ls",
            "bash x.sh",
            "sh ./x",
            "rm",
            "bash -lc ls",
        ] {
            assert!(!is_interactive(&words(line), true), "{line}");
        }
    }
}
