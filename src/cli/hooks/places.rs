//! The places on this machine that should call bdr.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bdr::disk::fsutil;
use bdr::install::hooks::json;
use bdr::install::hooks::sessions;
use bdr::install::hooks::shells::{self, Shell};

use super::*;

pub(super) struct Around<'a> {
    cx: &'a Context,
    home: PathBuf,
    config_home: PathBuf,
    zdotdir: Option<PathBuf>,
    project: Option<PathBuf>,
    program: PathBuf,
    force: bool,
    wrap: Option<String>,
    pub(super) veto: bool,
    /// Agents are meant as sessions.
    pub(super) session: bool,
}

impl<'a> Around<'a> {
    pub(super) fn new(
        cx: &'a Context,
        project: Option<&Path>,
        force: bool,
        wrap: Option<&str>,
    ) -> Result<Self, Failure> {
        let Some(home) = cx.home.clone() else {
            return Err(Failure::usage("there is no home directory", "set HOME"));
        };
        let project = project.map(|dir| bdr::base::path::absolute(&cx.cwd, dir));
        if let Some(project) = project.as_ref().filter(|dir| !dir.is_dir()) {
            let message = format!("there is no directory `{}`", project.display());
            return Err(Failure::usage(message, "name an existing project"));
        }
        let program = own_program().ok_or_else(|| {
            Failure::usage("bdr cannot find its own program", "run it by its full path")
        })?;
        let known = |name: &&str| shells::WRAPPABLE.contains(name);
        if let Some(wrap) = wrap
            && !wrap.split(',').all(|name| known(&name))
        {
            let message = format!("--wrap takes {}", shells::WRAPPABLE.join(", "));
            return Err(Failure::usage(
                message,
                "bdr hooks install shell --wrap rm,mv",
            ));
        }
        Ok(Self {
            cx,
            config_home: variable("XDG_CONFIG_HOME")
                .map_or_else(|| home.join(".config"), PathBuf::from),
            zdotdir: variable("ZDOTDIR").map(PathBuf::from),
            home,
            project,
            program,
            force,
            wrap: wrap.map(str::to_owned),
            veto: false,
            session: false,
        })
    }

    /// Returns the words of all targets that words mean, whether they exist here or not.
    pub(super) fn words(&self, words: &[String]) -> Result<Vec<String>, Failure> {
        let mut all = Vec::new();
        for word in words {
            match &**word {
                "shell" => all.extend(Shell::ALL.map(|shell| shell.word().to_owned())),
                _ => match Target::parse(word) {
                    Some(target) => {
                        all.push(target.word().to_owned());
                        if let Target::Agent(host) = target {
                            all.push(Target::Session(host).word().to_owned());
                        }
                    }
                    None => return Err(unknown(word)),
                },
            }
        }
        Ok(all)
    }

    /// Returns the targets that words mean; for `shell` and `all`, those used here or installed
    /// before.
    pub(super) fn targets(
        &self,
        words: &[String],
        ledger: &Ledger,
    ) -> Result<Vec<Target>, Failure> {
        let mut all: Vec<Target> = Vec::new();
        let installed = ledger.seen();
        let has = |word: &str| installed.iter().any(|seen| seen.target == word);
        for word in words {
            let mut found = match &**word {
                "shell" => self.shells(&has),
                "all" => {
                    let mut all = self.shells(&has);
                    if self.git_takes_config() || self.work_tree().is_some() {
                        all.push(Target::Git);
                    }
                    let used = |host: &Host| {
                        has(host.word())
                            || agents::home_of(*host, &self.home).is_some_and(|dir| dir.is_dir())
                    };
                    all.extend(Host::ALL.into_iter().filter(used).map(Target::Agent));
                    all
                }
                _ => vec![Target::parse(word).ok_or_else(|| unknown(word))?],
            };
            if self.session {
                let session = |target| match target {
                    Target::Agent(host) => Target::Session(host),
                    other => other,
                };
                found = found.into_iter().map(session).collect();
            }
            found.retain(|target| !all.contains(target));
            all.extend(found);
        }
        let is_session = |target: &Target| matches!(target, Target::Session(_));
        if self.session && !all.iter().any(is_session) {
            return Err(Failure::usage(
                "--session is for coding agents",
                "bdr hooks install claude --session",
            ));
        }
        Ok(all)
    }

    fn shells(&self, has: &dyn Fn(&str) -> bool) -> Vec<Target> {
        let login = variable("SHELL").unwrap_or_default();
        let login = Path::new(&login).file_stem().unwrap_or_default().to_owned();
        let around = self.around_shells();
        let used = |shell: &Shell| {
            shell.sign(&around).exists() || has(shell.word()) || login == shell.word()
        };
        Shell::ALL
            .into_iter()
            .filter(used)
            .map(Target::Shell)
            .collect()
    }

    fn around_shells(&self) -> shells::Around<'_> {
        shells::Around {
            home: &self.home,
            config_home: &self.config_home,
            zdotdir: self.zdotdir.as_deref(),
        }
    }

    /// Returns the wanted content of a target's files. `notes`: what the user has to do, or should
    /// know.
    pub(super) fn wanted(
        &self,
        target: Target,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Wanted>, Failure> {
        let program = self.program.to_string_lossy().into_owned();
        let one = |file: PathBuf, form: Form| Wanted {
            target,
            file,
            form,
            program: self.program.clone(),
        };
        Ok(match target {
            Target::Shell(shell) => {
                let options = self
                    .wrap
                    .iter()
                    .flat_map(|wrap| ["--wrap".to_owned(), wrap.clone()]);
                let mut options: Vec<String> = options.collect();
                if self.veto && shell.can_veto() {
                    options.push("--veto".to_owned());
                }
                vec![one(
                    shell.file(&self.around_shells()),
                    shell.form(&program, &options),
                )]
            }
            Target::Agent(host) => {
                let project = match agents::is_of_projects_only(host) {
                    true => self.project.as_deref().or(Some(&self.cx.cwd)),
                    false => self.project.as_deref(),
                };
                let Some(file) = agents::file(host, &self.home, project) else {
                    return Err(Failure::usage(
                        format!("{} has no settings there", host.word()),
                        "leave out --project",
                    ));
                };
                notes.extend(agents::note(host).map(str::to_owned));
                let entries = agents::entries(host, &program);
                vec![one(file, Form::Settings { host, entries })]
            }
            Target::Session(host) => self.session(host, &program, notes)?,
            Target::Git => self
                .git(&program, notes)?
                .into_iter()
                .map(|(file, form)| one(file, form))
                .collect(),
            // `bdr mcp install` handles these.
            Target::Client(_) => Vec::new(),
            Target::Deploy => {
                let dir = self.project.as_deref().unwrap_or(&self.cx.cwd);
                let file = dir.join("package.json");
                if !file.is_file() {
                    let message = format!("`{}` has no package.json", dir.display());
                    return Err(Failure::usage(
                        message,
                        "bdr hooks print deploy shows what to write for make, just and others",
                    ));
                }
                let form = Form::Scripts {
                    manager: package_manager(dir).to_owned(),
                    // deployment-release-mcp deploys by itself, and runs the checks of a project first.
                    checks: dir.join(".deployments").is_dir(),
                };
                vec![one(file, form)]
            }
        })
    }

    /// Returns the functions around an agent's command in the shells that are used here.
    fn session(
        &self,
        host: Host,
        program: &str,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Wanted>, Failure> {
        if !cfg!(target_os = "linux") {
            return Err(Failure::usage(
                "sessions can be captured on Linux only",
                &format!("bdr hooks install {}", host.word()),
            ));
        }
        let target = Target::Session(host);
        let around = self.around_shells();
        let used = self.shells(&|_| false).into_iter();
        let used = used.filter_map(|target| match target {
            Target::Shell(shell) => Some(shell),
            _ => None,
        });
        let parts = used.filter_map(|shell| sessions::part(host, shell, &around, program));
        let wanted: Vec<Wanted> = parts
            .map(|(file, form)| Wanted {
                target,
                file,
                form,
                program: self.program.clone(),
            })
            .collect();
        if wanted.is_empty() {
            return Err(Failure::usage(
                "neither bash nor zsh nor fish is used here",
                &format!("bdr guard --session -- {}", sessions::command(host)),
            ));
        }
        let sudo = match fsutil::is_root() {
            true => "",
            false => "; programs like sudo do not work in it",
        };
        notes.push(format!(
            "New shells start `{}` as a session that can be undone{sudo}",
            sessions::command(host)
        ));
        Ok(wanted)
    }

    fn run_git(&self, args: &[&str]) -> Option<String> {
        let output = Command::new("git")
            .args(args)
            .current_dir(self.project.as_deref().unwrap_or(&self.cx.cwd))
            .env_remove("GIT_DIR")
            .env_remove("GIT_WORK_TREE")
            .env_remove("GIT_INDEX_FILE")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output
            .status
            .success()
            .then(|| text.trim_end_matches(['\n', '\r']).to_owned())
    }

    fn git_takes_config(&self) -> bool {
        self.project.is_none()
            && self
                .run_git(&["--version"])
                .is_some_and(|said| git::has_config_hooks(&said))
    }

    fn work_tree(&self) -> Option<PathBuf> {
        self.run_git(&["rev-parse", "--show-toplevel"])
            .map(PathBuf::from)
    }

    /// Returns where git looks for this repository's hooks.
    pub(super) fn hooks_dir(&self) -> Option<PathBuf> {
        let hooks = self.run_git(&["rev-parse", "--git-path", "hooks"])?;
        let at = self.project.as_deref().unwrap_or(&self.cx.cwd);
        Some(bdr::base::path::absolute(at, Path::new(&hooks)))
    }

    fn git(&self, program: &str, notes: &mut Vec<String>) -> Result<Vec<(PathBuf, Form)>, Failure> {
        if self.git_takes_config() {
            let named = variable("GIT_CONFIG_GLOBAL").map(PathBuf::from);
            let own = self.home.join(".gitconfig");
            let xdg = self.config_home.join("git/config");
            let file = named.unwrap_or(if !own.exists() && xdg.exists() {
                xdg
            } else {
                own
            });
            return Ok(vec![(file, Form::Block(git::config_block(program)))]);
        }
        let Some(top) = self.work_tree() else {
            let said = self
                .run_git(&["--version"])
                .unwrap_or_else(|| "git is not installed".to_owned());
            return Err(Failure::usage(
                format!(
                    "this is not a git repository ({said}; git 2.54 and later can have hooks for all repositories)"
                ),
                "bdr hooks install git --project DIR",
            ));
        };
        let hooks = self.hooks_dir().unwrap_or_default();
        let manager = git::manager(&top, &hooks);
        if let Some(named) = self.run_git(&["config", "--get", "core.hooksPath"])
            && !self.force
        {
            let who = manager.unwrap_or("somebody");
            let place = match manager {
                Some("husky") => ".husky/pre-commit",
                _ => "its pre-commit",
            };
            return Err(Failure::usage(
                format!("core.hooksPath is {named}: {who} manages the hooks here"),
                &format!(
                    "add to {place}: {}   (or --force)",
                    git::line_for("pre-commit")
                ),
            ));
        }
        if hooks.exists() && !hooks.is_dir() {
            return Err(Failure::usage(
                format!("`{}` is not a directory", hooks.display()),
                "git would run no hooks from there: move it away",
            ));
        }
        if let Some(manager) = manager.filter(|manager| *manager != "husky") {
            notes.push(format!(
                "{manager} manages hooks here: run this again after it reinstalls its own"
            ));
        }
        Ok(git::shims(&hooks, program))
    }
}

/// Returns all words for something that can call bdr.
fn known_words() -> String {
    let shells = Shell::ALL.into_iter().map(Shell::word);
    let hosts = Host::ALL.into_iter().map(Host::word);
    let words: Vec<&str> = ["git", "shell"]
        .into_iter()
        .chain(shells)
        .chain(hosts)
        .chain(["deploy", "all"])
        .collect();
    words.join(", ")
}

fn unknown(word: &str) -> Failure {
    Failure::usage(format!("there is no hook for `{word}`"), &known_words())
}

/// Returns the tool that runs a project's scripts: npm runs `pre…` by itself.
fn package_manager(dir: &Path) -> &'static str {
    let text = std::fs::read_to_string(dir.join("package.json")).unwrap_or_default();
    let named = serde_json::from_str::<serde_json::Value>(&text).ok();
    let named = named
        .as_ref()
        .and_then(|value| value.get("packageManager")?.as_str());
    let is = |name: &str, lock: &str| {
        named.map_or_else(|| dir.join(lock).exists(), |named| named.starts_with(name))
    };
    if is("pnpm", "pnpm-lock.yaml") {
        "pnpm"
    } else if is("yarn", "yarn.lock") {
        "yarn"
    } else {
        "npm"
    }
}

/// Returns why a host ignores the hooks in its settings.
pub(super) fn disabled(seen: &Seen) -> Option<&'static str> {
    let Some(Target::Agent(host)) = Target::parse(&seen.target) else {
        return None;
    };
    let read = |file: &Path| json::value(&std::fs::read_to_string(file).ok()?);
    let managed = agents::managed(host).and_then(|file| read(Path::new(file)));
    agents::disabled(host, &read(&seen.file)?, managed.as_ref())
}
