//! What shells read at their start, and what bdr puts there.

use std::path::{Path, PathBuf};

use super::{Form, block};
use crate::base::path::shell_word;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
    /// PowerShell 7 and Windows PowerShell.
    PowerShell,
}

/// Commands that a shell may be told to guard wherever they are called.
pub const WRAPPABLE: [&str; 6] = ["rm", "mv", "git", "find", "dd", "truncate"];

impl Shell {
    pub const ALL: [Self; 4] = [Self::Bash, Self::Zsh, Self::Fish, Self::PowerShell];

    pub fn word(self) -> &'static str {
        self.manner().word
    }

    /// Returns other words for it.
    pub fn also(self) -> &'static [&'static str] {
        self.manner().also
    }

    pub fn parse(word: &str) -> Option<Self> {
        let is_it = |shell: &Self| shell.word() == word || shell.also().contains(&word);
        Self::ALL.into_iter().find(is_it)
    }

    /// Returns a word as the shell reads it.
    pub(super) fn quoted(self, word: &str) -> String {
        (self.manner().quote)(word)
    }

    /// Returns the line that protects a running session.
    pub fn line_for_now(self, program: &str) -> String {
        let word = self.word();
        match self {
            Self::Bash | Self::Zsh => format!("eval \"$({program} shell init {word})\""),
            Self::Fish => format!("{program} shell init fish | source"),
            Self::PowerShell => {
                format!("{program} shell init {word} | Out-String | Invoke-Expression")
            }
        }
    }

    /// Returns the file that it reads in every interactive session, according to the environment.
    pub fn file(self, around: &Around<'_>) -> PathBuf {
        (self.manner().file)(around)
    }

    /// Returns the file or directory that shows that it is used here.
    pub fn sign(self, around: &Around<'_>) -> PathBuf {
        (self.manner().sign)(around)
    }

    /// Returns true if it can keep a typed line from running.
    pub fn can_veto(self) -> bool {
        self.manner().veto.is_some()
    }

    /// Returns the wanted content of that file.
    pub fn form(self, program: &str, options: &[String]) -> Form {
        let manner = self.manner();
        let program = (manner.quote)(program);
        let mut line = format!("{program} shell init {}", manner.word);
        for option in options {
            line.push(' ');
            line.push_str(option);
        }
        (manner.form)(&program, &line)
    }

    /// Returns the script for a shell: its hooks, and functions in place of the commands in `wrap`;
    /// with `veto` it does not run destructive lines that cannot be protected.
    pub fn init(self, program: &str, wrap: &[String], veto: bool) -> String {
        let manner = self.manner();
        let mut functions = String::new();
        if veto {
            functions.push_str(manner.veto.unwrap_or_default());
        }
        // An agent's hook or the line's own snapshot covers it: one operation for one command.
        functions.extend(wrap.iter().map(|name| (manner.wrap)(name)));
        manner
            .script
            .replacen("'@BDR@'", &(manner.quote)(program), 1)
            .replacen("# @OPTIONS@\n", &functions, 1)
    }

    /// Returns the record of a shell. A new one is a variant, a record here and a script in
    /// `shell/`.
    fn manner(self) -> &'static Manner {
        match self {
            Self::Bash => &Manner {
                word: "bash",
                also: &[],
                script: include_str!("../../../shell/bdr.bash"),
                quote: shell_word,
                file: |around| around.home.join(".bashrc"),
                sign: |around| around.home.join(".bashrc"),
                form: posix_form,
                veto: Some(POSIX_VETO),
                wrap: |name| posix_wrap(name, "${__bdr_number:-0} -gt 0"),
            },
            Self::Zsh => &Manner {
                word: "zsh",
                also: &[],
                script: include_str!("../../../shell/bdr.zsh"),
                quote: shell_word,
                file: zshrc,
                sign: zshrc,
                form: posix_form,
                veto: Some(POSIX_VETO),
                wrap: |name| posix_wrap(name, "-n ${__bdr_open-}"),
            },
            Self::Fish => &Manner {
                word: "fish",
                also: &[],
                script: include_str!("../../../shell/bdr.fish"),
                quote: |word| format!("'{}'", word.replace('\\', "\\\\").replace('\'', "\\'")),
                // A directory of such files, so we edit nobody else's.
                file: |around| around.config_home.join("fish/conf.d/bdr.fish"),
                // The file is bdr's own, so the directory shows whether fish is used.
                sign: |around| around.config_home.join("fish"),
                form: fish_form,
                veto: Some("status is-interactive; and __bdr_veto\n"),
                wrap: fish_wrap,
            },
            Self::PowerShell => &Manner {
                word: "powershell",
                also: &["pwsh"],
                script: include_str!("../../../shell/bdr.ps1"),
                quote: |word| format!("'{}'", word.replace('\'', "''")),
                file: powershell_profile,
                sign: powershell_profile,
                form: powershell_form,
                veto: None,
                wrap: powershell_wrap,
            },
        }
    }
}

/// Every difference between shells.
struct Manner {
    word: &'static str,
    also: &'static [&'static str],
    script: &'static str,
    quote: fn(&str) -> String,
    file: fn(&Around<'_>) -> PathBuf,
    sign: fn(&Around<'_>) -> PathBuf,
    /// Returns the content of its file, from the quoted program and the line that prints the
    /// script.
    form: fn(&str, &str) -> Form,
    /// What makes it ask before it runs a line; `None` if it cannot.
    veto: Option<&'static str>,
    /// Returns the function in place of a command.
    wrap: fn(&str) -> String,
}

const HOW: &str = "`bdr hooks uninstall shell` removes it";
const POSIX_VETO: &str = "[[ -z ${__bdr_loaded-} ]] || __bdr_veto\n";

fn zshrc(around: &Around<'_>) -> PathBuf {
    around.zdotdir.unwrap_or(around.home).join(".zshrc")
}

fn powershell_profile(around: &Around<'_>) -> PathBuf {
    const PROFILE: &str = "Microsoft.PowerShell_profile.ps1";
    match cfg!(windows) {
        true => around.home.join("Documents/PowerShell").join(PROFILE),
        false => around.config_home.join("powershell").join(PROFILE),
    }
}

fn posix_form(program: &str, line: &str) -> Form {
    // Only in interactive shells, and without changing the exit status.
    let text = format!("case $- in *i*) if [ -x {program} ]; then eval \"$({line})\"; fi ;; esac");
    Form::Block(block::render(HOW, &text))
}

fn fish_form(program: &str, line: &str) -> Form {
    Form::Own(format!(
        "# bdr: {HOW}\nif status is-interactive; and test -x {program}\n    {line} | source\nend\n"
    ))
}

fn powershell_form(program: &str, line: &str) -> Form {
    let text = format!(
        "if (Test-Path -LiteralPath {program}) {{ & {line} | Out-String | Invoke-Expression }}"
    );
    Form::Block(block::render(HOW, &text))
}

fn posix_wrap(name: &str, covered: &str) -> String {
    format!(
        "\\builtin unalias {name} &>/dev/null || \\builtin true\nfunction {name}() {{\n    if [[ -n ${{CLAUDECODE-}} || ${{BDR-}} == 0 || {covered} ]]; then \\command {name} \"$@\"; else \\command \"$__bdr_bin\" guard -- {name} \"$@\"; fi\n}}\n"
    )
}

fn fish_wrap(name: &str) -> String {
    format!(
        "function {name} --wraps {name}\n    if test -n \"$CLAUDECODE\"; or test \"$BDR\" = 0; or test -n \"$__bdr_open\"\n        command {name} $argv\n    else\n        command $__bdr_bin guard -- {name} $argv\n    end\nend\n"
    )
}

fn powershell_wrap(name: &str) -> String {
    format!(
        "function global:{name} {{ if ($env:CLAUDECODE -or $env:BDR -eq '0' -or $global:__bdrOpen) {{ & (Get-Command {name} -CommandType Application | Select-Object -First 1).Source @args }} else {{ & $global:__bdrBin guard '--' {name} @args }} }}\n"
    )
}

/// Where shells look for their files.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    pub home: &'a Path,
    /// `$XDG_CONFIG_HOME`, or its default.
    pub config_home: &'a Path,
    /// `$ZDOTDIR`.
    pub zdotdir: Option<&'a Path>,
}
