//! The entry of bdr's server in the settings of clients: install, uninstall, check. As with hooks,
//! a ledger keeps the original of a file, and each change is an operation.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bdr::base::path::{absolute, show_bytes};
use bdr::install::hooks::servers::{Client, Homes};
use bdr::install::hooks::{Action, Form, Ledger, Seen, Standing, Target, Wanted};
use clap::Args;
use serde_json::{Value, json};

use super::OfferArgs;
use crate::app::context::{Context, own_program, variable};
use crate::app::documents::{At, ClientFile, ClientStatus, ClientsDocument, ClientsStatusDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::schedule::PLACES;
use crate::cli::hooks::{Outcome, carry_out, only_in};
use crate::ui::plural;
use crate::ui::prompt::NeverAsks;

#[derive(Debug, Args)]
pub(super) struct Which {
    /// claude, claude-desktop, cursor, vscode, codex, gemini, windsurf, or `all` in use here; several: a,b
    #[arg(
        value_name = "CLIENT",
        required_unless_present = "client",
        value_delimiter = ','
    )]
    clients: Vec<String>,
    /// The same by an option, as it was at first
    #[arg(long, value_name = "CLIENT", hide = true, value_delimiter = ',')]
    client: Vec<String>,
    /// Use this project's settings instead of the user's
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    project: Option<PathBuf>,
    /// Print what would be written; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    _never_asks: NeverAsks,
}

impl Which {
    fn words(&self) -> Vec<String> {
        [&self.clients[..], &self.client].concat()
    }
}

#[derive(Debug, Args)]
pub(super) struct InstallArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    offer: OfferArgs,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Check only these: claude, cursor, …; several: a,b
    #[arg(value_name = "CLIENT", value_delimiter = ',')]
    clients: Vec<String>,
    /// The same by an option, as it was at first
    #[arg(long, value_name = "CLIENT", hide = true, value_delimiter = ',')]
    client: Vec<String>,
    /// Check only this project
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    project: Option<PathBuf>,
}

/// How long a server has to answer.
const PATIENCE: Duration = Duration::from_secs(10);

fn ledger(cx: &Context) -> Result<Ledger, Failure> {
    Ok(Ledger::open(&cx.places.state.join("mcp"))?)
}

/// Returns where this user's applications keep their settings.
fn config_home(cx: &Context) -> PathBuf {
    let home = cx.home.clone().unwrap_or_else(|| cx.cwd.clone());
    if cfg!(windows) {
        variable("APPDATA").map_or_else(|| home.join("AppData/Roaming"), PathBuf::from)
    } else if cfg!(target_os = "macos") {
        home.join("Library/Application Support")
    } else {
        variable("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from)
    }
}

fn homes<'a>(cx: &'a Context, config: &'a Path) -> Homes<'a> {
    Homes {
        home: cx.home.as_deref().unwrap_or(&cx.cwd),
        config,
    }
}

/// Returns the clients that words mean.
fn clients(homes: Homes<'_>, words: &[String], project: bool) -> Result<Vec<Client>, Failure> {
    let known = || Client::ALL.map(Client::word).join(", ");
    let mut found = Vec::new();
    for word in words {
        match (word.as_str(), Client::parse(word)) {
            ("all", _) => {
                let here = Client::ALL
                    .into_iter()
                    .filter(|client| client.sign(homes).is_dir());
                found.extend(
                    here.filter(|client| {
                        !project || client.file(homes, Some(homes.home)).is_some()
                    }),
                );
            }
            (_, Some(client)) => found.push(client),
            (_, None) => {
                let shown = bdr::base::path::show(word.as_ref());
                return Err(Failure::usage(
                    format!("there is no client `{shown}`"),
                    &format!("use one of {}, all", known()),
                ));
            }
        }
    }
    found.dedup();
    if found.is_empty() {
        return Err(Failure::usage(
            "found no MCP client on this machine",
            &format!("name one: {}", known()),
        ));
    }
    Ok(found)
}

/// Returns the arguments with which a client starts the server.
fn arguments(cx: &Context, offer: &OfferArgs) -> Vec<String> {
    let mut args = vec!["mcp".to_owned()];
    if !offer.tools.is_empty() {
        let sets: Vec<&str> = offer.tools.iter().map(|set| set.word()).collect();
        args.extend(["--tools".to_owned(), sets.join(",")]);
    }
    if offer.read_only {
        args.push("--read-only".to_owned());
    }
    for root in &offer.root {
        let root = absolute(&cx.cwd, root);
        args.extend(["--root".to_owned(), root.to_string_lossy().into_owned()]);
    }
    args
}

pub(super) fn install(cx: &Context, args: &InstallArgs) -> Result<u8, Failure> {
    let program = own_program().ok_or_else(|| {
        Failure::usage("bdr cannot find its own program", "run it by its full path")
    })?;
    let config = config_home(cx);
    let homes = homes(cx, &config);
    let project = cx.directory(args.which.project.as_deref());
    let environment: Vec<(String, String)> = PLACES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), variable(name)?.into_string().ok()?)))
        .collect();
    let arguments = arguments(cx, &args.offer);
    let mut ledger = ledger(cx)?;
    let mut outcomes = Vec::new();
    for client in clients(homes, &args.which.words(), project.is_some())? {
        let Some(file) = client.file(homes, project.as_deref()) else {
            let failure = Failure::usage("it has no project settings", "leave out --project");
            outcomes.push(Outcome::refused(client.word(), None, &failure));
            continue;
        };
        let entry = client.entry(&program.to_string_lossy(), &arguments, &environment);
        let wanted = Wanted {
            target: Target::Client(client),
            file: file.clone(),
            form: Form::Server(client, entry),
            program: program.clone(),
        };
        outcomes.push(match ledger.plan(&wanted) {
            Ok(step) => Outcome::done(step),
            Err(error) => Outcome::refused(client.word(), Some(file), &error.into()),
        });
    }
    if !args.which.dry_run {
        carry_out(
            cx,
            ("mcp", "install"),
            &args.which.words(),
            &mut outcomes,
            &mut |step| ledger.apply(step, cx.now),
        )?;
    }
    report(cx, "install", &outcomes, args.which.dry_run)
}

pub(super) fn uninstall(cx: &Context, which: &Which) -> Result<u8, Failure> {
    let config = config_home(cx);
    let homes = homes(cx, &config);
    let mut ledger = ledger(cx)?;
    let below = cx.directory(which.project.as_deref());
    let mut words: Vec<String> = match which.words().iter().any(|word| word == "all") {
        true => ledger.seen().into_iter().map(|seen| seen.target).collect(),
        false => clients(homes, &which.words(), false)?
            .iter()
            .map(|client| client.word().to_owned())
            .collect(),
    };
    words.sort();
    words.dedup();
    let mut outcomes = Vec::new();
    for word in words {
        let wanted = |file: &Path| below.as_ref().is_none_or(|below| file.starts_with(below));
        for (file, plan) in ledger.plan_removal(&word, &wanted) {
            outcomes.push(match plan {
                Ok(step) => Outcome::done(step),
                Err(error) => Outcome::refused(&word, Some(file), &error.into()),
            });
        }
    }
    if !which.dry_run {
        carry_out(
            cx,
            ("mcp", "uninstall"),
            &which.words(),
            &mut outcomes,
            &mut |step| match step.action {
                Action::Keep => ledger.drop_edit(step),
                _ => ledger.apply(step, cx.now),
            },
        )?;
    }
    report(cx, "uninstall", &outcomes, which.dry_run)
}

fn report(cx: &Context, verb: &str, outcomes: &[Outcome], dry_run: bool) -> Result<u8, Failure> {
    let failed = outcomes.iter().any(|outcome| outcome.refused.is_some());
    let code = if failed { exit::FAILURE } else { exit::OK };
    if cx.ui.json {
        let one = |outcome: &Outcome| {
            let refused = outcome.refused.as_ref();
            let step = outcome.step.as_ref().filter(|_| refused.is_none());
            ClientFile {
                file: outcome.file.as_deref().map(At::new),
                client: outcome.target.clone(),
                action: step.map(|step| step.action.word()),
                error: refused.map(|(why, _)| why.clone()),
                fix: refused.and_then(|(_, fix)| fix.clone()),
            }
        };
        let data = ClientsDocument {
            verb: verb.to_owned(),
            dry_run,
            files: outcomes.iter().map(one).collect(),
        };
        cx.ui.document("mcp", code, &data)?;
        return Ok(code);
    }
    let mut text = String::new();
    for outcome in outcomes {
        if let Some((why, fix)) = &outcome.refused {
            text.push_str(&format!(
                "{} {:<15} {why}\n",
                cx.ui.out.red("refused"),
                outcome.target
            ));
            if let Some(fix) = fix {
                text.push_str(&format!("        fix: {fix}\n"));
            }
            continue;
        }
        let Some(step) = &outcome.step else { continue };
        let place = cx.shown_absolute(&step.file);
        text.push_str(&format!(
            "{:<7} {:<15} {place}\n",
            step.action.word(),
            outcome.target
        ));
        if dry_run {
            let old = step.before.as_deref().unwrap_or_default();
            let new = step.after.as_deref().unwrap_or_default();
            for line in only_in(old, new) {
                text.push_str(&format!("        - {}\n", show_bytes(line)));
            }
            for line in only_in(new, old).iter().filter(|line| !line.is_empty()) {
                text.push_str(&format!("        + {}\n", show_bytes(line)));
            }
        }
    }
    let changes = outcomes
        .iter()
        .filter(|outcome| outcome.refused.is_none())
        .filter_map(|outcome| outcome.step.as_ref());
    let changes = changes.filter(|step| step.action != Action::Keep).count();
    text.push_str(&match (verb, changes, dry_run) {
        (_, 0, _) if failed => String::new(),
        ("install", 0, _) => "Everything is installed already.\n".to_owned(),
        (_, 0, _) => "No hooks of bdr are installed.\n".to_owned(),
        (_, number, true) => format!("{} would be written.\n", plural(number as u64, "file")),
        ("install", _, _) => {
            "Clients start it with their next session. To check: bdr mcp status\n".to_owned()
        }
        _ => "Removed. Running sessions keep it until they end.\n".to_owned(),
    });
    cx.ui.report(&text)?;
    Ok(code)
}

/// A client, and whether it can start the server.
struct Health {
    client: String,
    file: PathBuf,
    /// What the entry says; `None` if there is none.
    seen: Option<Seen>,
    /// How long it took to answer, or what is wrong.
    answer: Result<Duration, String>,
}

impl Health {
    fn of(seen: Seen, project: Option<&Path>) -> Self {
        let answer = match &seen.standing {
            Standing::Gone => Err("the entry is gone".to_owned()),
            Standing::Torn(why) => Err(why.clone()),
            Standing::Good | Standing::Edited => answers(&seen, project),
        };
        Self {
            client: seen.target.clone(),
            file: seen.file.clone(),
            seen: Some(seen),
            answer,
        }
    }

    fn document(&self) -> ClientStatus {
        let program = self.seen.as_ref().map(|seen| {
            let program = seen.program.to_string_lossy().into_owned();
            (program, seen.version.clone())
        });
        let answer = self.answer.as_ref().map_err(Clone::clone);
        let millis = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        ClientStatus::new(&self.client, &self.file, program, answer.map(millis))
    }
}

pub(super) fn status(cx: &Context, args: &StatusArgs) -> Result<u8, Failure> {
    let config = config_home(cx);
    let homes = homes(cx, &config);
    let project = cx.directory(args.project.as_deref());
    let words = [&args.clients[..], &args.client].concat();
    let every = words.is_empty() || words.iter().any(|word| word == "all");
    let named = match every {
        true => Vec::new(),
        false => clients(homes, &words, project.is_some())?,
    };
    let mut seen = ledger(cx)?.seen();
    seen.retain(|seen| {
        let is_named = every || named.iter().any(|named| named.word() == seen.target);
        let is_below = project
            .as_ref()
            .is_none_or(|dir| seen.file.starts_with(dir));
        is_named && is_below
    });
    let mut all: Vec<Health> = seen
        .into_iter()
        .map(|seen| Health::of(seen, project.as_deref()))
        .collect();
    for client in named {
        if let Some(file) = client.file(homes, project.as_deref())
            && !all.iter().any(|health| health.client == client.word())
        {
            all.push(Health {
                client: client.word().to_owned(),
                file,
                seen: None,
                answer: Err("it does not start bdr: its settings have no entry for it".to_owned()),
            });
        }
    }
    let bad = all.iter().any(|health| health.answer.is_err());
    let code = if bad { exit::FAILURE } else { exit::OK };
    if cx.ui.json {
        let files = all.iter().map(Health::document);
        let data = ClientsStatusDocument::new(files.collect());
        cx.ui.document("mcp", code, &data)?;
        return Ok(code);
    }
    let mut text = String::new();
    for health in &all {
        let place = cx.shown_absolute(&health.file);
        let client = &health.client;
        match &health.answer {
            Ok(time) => {
                let time = crate::ui::elapsed(*time);
                text.push_str(&format!(
                    "{} {client:<15} {place}   answers in {time}\n",
                    cx.ui.out.green("✓")
                ));
            }
            Err(why) => text.push_str(&format!(
                "{} {client:<15} {place}\n  {why}\n  fix: bdr mcp install {client}\n",
                cx.ui.out.yellow("!")
            )),
        }
    }
    if all.is_empty() {
        text = "No client starts bdr. To add it: bdr mcp install all\n".to_owned();
    }
    cx.ui.report(&text)?;
    Ok(code)
}

/// Starts the program as its client would, shakes hands, and returns how long that took.
fn answers(seen: &Seen, project: Option<&Path>) -> Result<Duration, String> {
    let text = std::fs::read_to_string(&seen.file).map_err(|error| error.to_string())?;
    let entry = Client::parse(&seen.target).and_then(|client| client.entry_in(&text));
    let entry = entry.ok_or_else(|| "the entry is gone".to_owned())?;
    let texts = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    };
    let mut command = Command::new(entry["command"].as_str().unwrap_or_default());
    command.args(texts(&entry["args"]));
    for name in PLACES {
        command.env_remove(name);
    }
    for (name, value) in entry["env"].as_object().into_iter().flatten() {
        command.env(name, value.as_str().unwrap_or_default());
    }
    if let Some(project) = project {
        command.current_dir(project);
    }
    let began = Instant::now();
    let failed = |error: std::io::Error| format!("it does not start: {error}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params":
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bdr mcp status", "version": env!("CARGO_PKG_VERSION")}}});
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &mut stdin {
        // A program that does not read it does not answer either.
        let _ = stdin.write_all(format!("{hello}\n").as_bytes());
    }
    let (sender, answer) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
    }
    let line = answer.recv_timeout(PATIENCE);
    let elapsed = began.elapsed();
    drop(stdin);
    let _ = child.kill();
    let _ = child.wait();
    let line = line.map_err(|_| "it does not answer".to_owned())?;
    let said: Value = serde_json::from_str(&line).unwrap_or_default();
    match said["result"]["serverInfo"]["name"] == "bdr" {
        true => Ok(elapsed),
        false => Err("its answer is not MCP".to_owned()),
    }
}
