//! What shells read when they start, and what they read there.

use std::path::{Path, PathBuf};

use super::{Form, block};
use crate::base::path::shell_word;

/// A shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    /// bash.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
    /// PowerShell 7 and Windows PowerShell.
    PowerShell,
}

/// Commands that a shell may be told to guard wherever they are called.
pub const WRAPPABLE: [&str; 6] = ["rm", "mv", "git", "find", "dd", "truncate"];

impl Shell {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Bash, Self::Zsh, Self::Fish, Self::PowerShell];

    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::PowerShell => "powershell",
        }
    }

    /// Returns what a word means.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "pwsh" => Some(Self::PowerShell),
            word => Self::ALL.into_iter().find(|shell| shell.word() == word),
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("../../../shell/bdr.bash"),
            Self::Zsh => include_str!("../../../shell/bdr.zsh"),
            Self::Fish => include_str!("../../../shell/bdr.fish"),
            Self::PowerShell => include_str!("../../../shell/bdr.ps1"),
        }
    }

    fn quoted(self, word: &str) -> String {
        match self {
            Self::Bash | Self::Zsh => shell_word(word),
            Self::Fish => format!("'{}'", word.replace('\\', "\\\\").replace('\'', "\\'")),
            Self::PowerShell => format!("'{}'", word.replace('\'', "''")),
        }
    }

    /// Returns the file that it reads in every interactive session, as the environment has it.
    pub fn file(self, around: &Around<'_>) -> PathBuf {
        match self {
            Self::Bash => around.home.join(".bashrc"),
            Self::Zsh => around.zdotdir.unwrap_or(around.home).join(".zshrc"),
            // A directory of such files: nobody else's is edited.
            Self::Fish => around.config_home.join("fish/conf.d/bdr.fish"),
            Self::PowerShell if cfg!(windows) => around
                .home
                .join("Documents/PowerShell/Microsoft.PowerShell_profile.ps1"),
            Self::PowerShell => around
                .config_home
                .join("powershell/Microsoft.PowerShell_profile.ps1"),
        }
    }

    /// Returns what is to stand in that file.
    pub fn form(self, program: &str, options: &[String]) -> Form {
        let how = "`bdr hooks uninstall shell` removes it";
        let program = self.quoted(program);
        let mut line = format!("{program} shell init {}", self.word());
        for option in options {
            line.push(' ');
            line.push_str(option);
        }
        match self {
            Self::Bash | Self::Zsh => Form::Block(block::render(
                how,
                // Only where somebody types, and without a status of its own.
                &format!(
                    "case $- in *i*) if [ -x {program} ]; then eval \"$({line})\"; fi ;; esac"
                ),
            )),
            Self::Fish => Form::Own(format!(
                "# bdr: {how}\nif status is-interactive; and test -x {program}\n    {line} | source\nend\n"
            )),
            Self::PowerShell => Form::Block(block::render(
                how,
                &format!(
                    "if (Test-Path -LiteralPath {program}) {{ & {line} | Out-String | Invoke-Expression }}"
                ),
            )),
        }
    }

    /// Returns the text that a shell is to run: its hooks, with functions in place of the commands in `wrap`; with `veto` it does not run lines
    /// that destroy and cannot be protected.
    pub fn init(self, program: &str, wrap: &[String], veto: bool) -> String {
        let mut functions = match (self, veto) {
            (_, false) | (Self::PowerShell, _) => String::new(),
            (Self::Bash | Self::Zsh, true) => {
                "[[ -z ${__bdr_loaded-} ]] || __bdr_veto\n".to_owned()
            }
            (Self::Fish, true) => "status is-interactive; and __bdr_veto\n".to_owned(),
        };
        for name in wrap {
            // An agent's hook or the line's own snapshot covers it: one operation for one command.
            functions.push_str(&match self {
                Self::Bash | Self::Zsh => {
                    let covered = match self {
                        Self::Bash => "${__bdr_number:-0} -gt 0",
                        _ => "-n ${__bdr_open-}",
                    };
                    format!(
                        "\\builtin unalias {name} &>/dev/null || \\builtin true\nfunction {name}() {{\n    if [[ -n ${{CLAUDECODE-}} || ${{BDR-}} == 0 || {covered} ]]; then \\command {name} \"$@\"; else \\command \"$__bdr_bin\" guard -- {name} \"$@\"; fi\n}}\n"
                    )
                }
                Self::Fish => format!(
                    "function {name} --wraps {name}\n    if test -n \"$CLAUDECODE\"; or test \"$BDR\" = 0; or test -n \"$__bdr_open\"\n        command {name} $argv\n    else\n        command $__bdr_bin guard -- {name} $argv\n    end\nend\n"
                ),
                Self::PowerShell => format!(
                    "function global:{name} {{ if ($env:CLAUDECODE -or $env:BDR -eq '0' -or $global:__bdrOpen) {{ & (Get-Command {name} -CommandType Application | Select-Object -First 1).Source @args }} else {{ & $global:__bdrBin guard '--' {name} @args }} }}\n"
                ),
            });
        }
        self.script()
            .replacen("'@BDR@'", &self.quoted(program), 1)
            .replacen("# @OPTIONS@\n", &functions, 1)
    }
}

/// Where shells look for their files.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The user's home.
    pub home: &'a Path,
    /// `$XDG_CONFIG_HOME`, or what it would be.
    pub config_home: &'a Path,
    /// `$ZDOTDIR`.
    pub zdotdir: Option<&'a Path>,
}
