//! Which programs a command starts, as far as its words tell.

use std::path::PathBuf;

use super::{Place, Surroundings, Word};

/// Words after which a command begins.
const KEYWORDS: [&str; 10] = [
    "if", "then", "elif", "else", "while", "until", "do", "time", "!", "exec",
];

/// Returns the program that a word means: a name, or an absolute path. Several if a variable has
/// several values.
pub(super) fn named(word: &Word, place: &Place) -> Vec<PathBuf> {
    let one = |word: &Word| {
        let text = word.text()?;
        let text = text.strip_prefix('\\').unwrap_or(text);
        match text.contains('/') {
            true => place.path(word),
            false => (!text.is_empty()).then(|| PathBuf::from(text)),
        }
    };
    match word.dynamic {
        true => word.likely.iter().filter_map(one).collect(),
        false => one(word).into_iter().collect(),
    }
}

/// Returns the commands that `find` or `fd` runs for what it finds.
pub(super) fn by_find(words: &[Word]) -> Vec<&[Word]> {
    let starts = |word: &Word| {
        let text = word.text();
        text.is_some_and(|text| {
            let long = [
                "-exec",
                "-execdir",
                "-ok",
                "-okdir",
                "--exec",
                "--exec-batch",
            ];
            long.contains(&text) || matches!(text, "-x" | "-X")
        })
    };
    let ends = |word: &Word| matches!(word.text(), Some(";" | "+" | "\\;"));
    let mut commands = Vec::new();
    let mut rest = words;
    while let Some(at) = rest.iter().position(starts) {
        rest = &rest[at + 1..];
        let end = rest.iter().position(ends).unwrap_or(rest.len());
        commands.push(&rest[..end]);
        rest = &rest[end..];
    }
    commands
}

/// Returns what looks like the name of a program in a script that cannot be parsed: the first word
/// of each command, and what a wrapper runs. Some are none, which only means more care.
pub(super) fn in_text(text: &str, around: &Surroundings<'_>) -> Vec<PathBuf> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let mut found = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
    {
        for command in line.split([';', '|', '&', '(', '{', '`']) {
            for word in command.split_whitespace() {
                let word = word.trim_matches(['"', '\'', '\\']);
                if KEYWORDS.contains(&word) || word.contains('=') || word.starts_with('-') {
                    continue;
                }
                if word.is_empty() || !word.chars().all(is_name) {
                    break;
                }
                found.push(PathBuf::from(word));
                if around.table.wrap(word).is_none() {
                    break;
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::{Surroundings, Table, assess_line};

    fn starts(line: &str, program: &str) -> bool {
        let around = Surroundings {
            cwd: Path::new("/w"),
            home: Some(Path::new("/home/u")),
            table: Table::builtin(),
        };
        let programs = assess_line(line, &around).programs;
        programs.contains(&PathBuf::from(program))
    }

    #[test]
    fn what_a_line_starts_is_found_wherever_it_is_written() {
        for line in [
            "sudo rm x",
            "sh -c 'cd x && sudo rm -rf y'",
            "env A=b nohup sudo rm x",
            "time sudo make install",
            "timeout -s KILL 5 sudo rm x",
            "nice -n 5 sudo rm x",
            "echo a | xargs -n 1 sudo rm",
            "find . -name x -exec sudo rm {} \\;",
            "a=$(sudo cat x)",
            "A=b sudo rm x",
            "if true; then sudo rm x; fi",
            "for a in 1 2; do sudo rm $a; done",
            "undo() { sudo rm x; }",
            "bash <<EOF\nsudo rm x\nEOF",
            "eval 'sudo rm x'",
            "S=sudo; $S rm x",
            "true && (sudo rm x) &",
            // What cannot be parsed is searched.
            "if then ( sudo rm -rf x",
            "for do; nohup sudo rm x )",
        ] {
            assert!(starts(line, "sudo"), "{line}");
        }
        for (line, script) in [
            ("./deploy.sh now", "/w/deploy.sh"),
            ("bash -e deploy.sh", "/w/deploy.sh"),
            ("cd /x; sh deploy.sh", "/x/deploy.sh"),
            (". lib.sh", "/w/lib.sh"),
            ("/opt/tools/run", "/opt/tools/run"),
        ] {
            assert!(starts(line, script), "{line}");
        }
        for line in [
            "echo sudo",
            "grep sudo notes",
            "rm sudo",
            "cat /etc/sudoers",
            "ssh host sudo reboot",
            "command -v sudo",
            "apt-get install sudo",
            "git commit -m 'no sudo here'",
            "echo 'sudo rm x' > notes",
            "# sudo rm x",
        ] {
            assert!(!starts(line, "sudo"), "{line}");
        }
    }
}
