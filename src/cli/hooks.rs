//! `bdr hooks`: makes shells, git, coding agents and deployment call bdr.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bdr::base::path::show_bytes;
use bdr::disk::fsutil::canonicalize;
use bdr::effects::Assessment;
use bdr::install::hooks::{
    Action, Form, Ledger, Seen, Standing, Step, Target, Wanted, agents, deploy, git, json,
};
use bdr::model::agent::{AgentCall, Host, OWN_HOST};
use bdr::protect::guard::{self, CloseOptions, GuardOptions};
use clap::{Args, Subcommand};

use crate::app::context::{Context, own_program, variable};
use crate::app::documents::{
    At, HookFile, HooksDocument, HooksStatusDocument, HooksTextDocument, InstalledHook, Refused,
};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::guard as guarding;
use crate::ui::plural;
use crate::ui::prompt::NeverAsks;

mod places;

/// Connect bdr to shells, git, coding agents and deployment
///
/// `install` adds bdr's lines to the settings of each program and changes nothing else: order, comments, line endings and
/// symlinks stay as they are. `uninstall` removes exactly those lines. `status` lists the installed hooks and whether they still
/// work.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr hooks install claude shell      for this user, wherever they run
  bdr hooks install claude --session  `claude` runs as a captured session
  bdr hooks install git               in this repository; for all of them from git 2.54 on
  bdr hooks install deploy --project ~/work/shop
  bdr hooks install all --dry-run     print what would be written
  bdr hooks status
  bdr hooks uninstall all")]
pub(crate) struct HooksArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Install hooks
    Install(InstallArgs),
    /// Remove hooks
    Uninstall(UninstallArgs),
    /// Show installed hooks and whether they work
    Status,
    /// Print what would be installed; change nothing
    Print(PrintArgs),
}

#[derive(Debug, Args)]
struct Which {
    /// git, shell (or one of them, like zsh), a coding agent (like claude), deploy, or `all` in use here
    #[arg(value_name = "TARGET", required = true)]
    targets: Vec<String>,
    /// Use this project's settings instead of the user's
    #[arg(long, value_name = "DIR")]
    project: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct InstallArgs {
    #[command(flatten)]
    which: Which,
    /// Print what would be written; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Also write into the directory that core.hooksPath names
    #[arg(long)]
    force: bool,
    /// Commands to guard wherever the shell calls them: rm, mv, git, find, dd, truncate
    #[arg(long, value_name = "COMMANDS")]
    wrap: Option<String>,
    /// Refuse destructive lines that cannot be protected
    #[arg(long)]
    veto: bool,
    /// Have shells start the agent as a captured session (Linux)
    #[arg(long, conflicts_with = "project")]
    session: bool,
    #[command(flatten)]
    _never_asks: NeverAsks,
}

#[derive(Debug, Args)]
struct UninstallArgs {
    #[command(flatten)]
    which: Which,
    /// Print what would be removed; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    _never_asks: NeverAsks,
}

#[derive(Debug, Args)]
struct PrintArgs {
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(cx: &Context, args: &HooksArgs) -> Result<u8, Failure> {
    match &args.what {
        What::Install(args) => install(cx, args),
        What::Uninstall(args) => uninstall(cx, args),
        What::Status => status(cx),
        What::Print(args) => print(cx, args),
    }
}

fn ledger(cx: &Context) -> Result<Ledger, Failure> {
    Ok(Ledger::open(&cx.places.state.join("hooks"))?)
}

pub(super) struct Outcome {
    pub(super) target: String,
    pub(super) file: Option<PathBuf>,
    /// What was or would be done.
    pub(super) step: Option<Step>,
    /// Why it was refused: message and hint.
    pub(super) refused: Option<(String, Option<String>)>,
}

impl Outcome {
    pub(super) fn refused(target: &str, file: Option<PathBuf>, failure: &Failure) -> Self {
        let mut message = failure.message();
        for cause in failure.causes() {
            message.push_str(&format!(": {cause}"));
        }
        Self {
            target: target.to_owned(),
            file,
            step: None,
            refused: Some((message, failure.hint())),
        }
    }

    pub(super) fn done(step: Step) -> Self {
        Self {
            target: step.target.clone(),
            file: Some(step.file.clone()),
            step: Some(step),
            refused: None,
        }
    }
}

/// Resolves the words and plans: all files of a target, or none.
fn plan_all(
    around: &places::Around<'_>,
    words: &[String],
    ledger: &Ledger,
    notes: &mut Vec<String>,
) -> Result<Vec<Outcome>, Failure> {
    let mut outcomes = Vec::new();
    for target in around.targets(words, ledger)? {
        let steps = around.wanted(target, notes).and_then(|wanted| {
            let plans: bdr::Result<Vec<Step>> = wanted.iter().map(|w| ledger.plan(w)).collect();
            Ok(plans?)
        });
        match steps {
            Ok(steps) => outcomes.extend(steps.into_iter().map(Outcome::done)),
            Err(failure) => outcomes.push(Outcome::refused(target.word(), None, &failure)),
        }
    }
    Ok(outcomes)
}

fn install(cx: &Context, args: &InstallArgs) -> Result<u8, Failure> {
    let (words, project) = (&args.which.targets, args.which.project.as_deref());
    let mut around = places::Around::new(cx, project, args.force, args.wrap.as_deref())?;
    around.veto = args.veto;
    around.session = args.session;
    let mut ledger = ledger(cx)?;
    let mut notes = Vec::new();
    let mut outcomes = plan_all(&around, words, &ledger, &mut notes)?;
    if !args.dry_run {
        carry_out(
            cx,
            ("hooks", "install"),
            words,
            &mut outcomes,
            &mut |step| ledger.apply(step, cx.now),
        )?;
    }
    report(cx, "install", &outcomes, &notes, args.dry_run)
}

/// Returns which of the targets that the words mean are used here.
pub(crate) fn found(cx: &Context, words: &[String]) -> Result<Vec<String>, Failure> {
    if words.is_empty() {
        return Ok(Vec::new());
    }
    let around = places::Around::new(cx, None, false, None)?;
    let targets = around.targets(words, &ledger(cx)?)?;
    Ok(targets
        .iter()
        .map(|target| target.word().to_owned())
        .collect())
}

/// Installs what is possible, and returns the message about it.
pub(crate) fn set_up(cx: &Context, words: &[String]) -> Result<String, Failure> {
    let around = places::Around::new(cx, None, false, None)?;
    let mut ledger = ledger(cx)?;
    let mut outcomes = plan_all(&around, words, &ledger, &mut Vec::new())?;
    carry_out(
        cx,
        ("hooks", "install"),
        words,
        &mut outcomes,
        &mut |step| ledger.apply(step, cx.now),
    )?;
    let mut text = String::new();
    let mut well: Vec<&str> = Vec::new();
    for outcome in &outcomes {
        match &outcome.refused {
            Some((why, _)) => text.push_str(&format!("Not {}: {why}\n", outcome.target)),
            None if well.contains(&&*outcome.target) => {}
            None => well.push(&outcome.target),
        }
    }
    if !well.is_empty() {
        let all = well.join(", ");
        text.push_str(&format!(
            "New sessions of {all} are protected: bdr hooks status\n"
        ));
    }
    Ok(text)
}

fn uninstall(cx: &Context, args: &UninstallArgs) -> Result<u8, Failure> {
    let around = places::Around::new(cx, args.which.project.as_deref(), false, None)?;
    let mut ledger = ledger(cx)?;
    let below = cx.directory(args.which.project.as_deref());
    let mut outcomes = Vec::new();
    let mut seen = BTreeSet::new();
    let every = args.which.targets.iter().any(|word| word == "all");
    let targets: Vec<String> = match every {
        true => ledger.seen().into_iter().map(|seen| seen.target).collect(),
        false => around.words(&args.which.targets)?,
    };
    for target in targets {
        if !seen.insert(target.clone()) {
            continue;
        }
        // `install git` means this repository; `all` means all of them.
        let hooks = (target == "git" && !every)
            .then(|| around.hooks_dir())
            .flatten();
        let wanted = |file: &Path| match &hooks {
            Some(dir) => file.parent() == Some(dir) || !git::is_event(file),
            None => below.as_ref().is_none_or(|below| file.starts_with(below)),
        };
        for (file, plan) in ledger.plan_removal(&target, &wanted) {
            outcomes.push(match plan {
                Ok(step) => Outcome::done(step),
                Err(error) => Outcome::refused(&target, Some(file), &error.into()),
            });
        }
    }
    if !args.dry_run {
        carry_out(
            cx,
            ("hooks", "uninstall"),
            &args.which.targets,
            &mut outcomes,
            &mut |step| match step.action {
                Action::Keep => ledger.drop_edit(step),
                _ => ledger.apply(step, cx.now),
            },
        )?;
    }
    report(cx, "uninstall", &outcomes, &[], args.dry_run)
}

/// Applies the steps as one operation, which `bdr undo` reverts.
pub(super) fn carry_out(
    cx: &Context,
    (command, verb): (&str, &str),
    targets: &[String],
    outcomes: &mut [Outcome],
    apply: &mut dyn FnMut(&Step) -> bdr::Result<()>,
) -> Result<(), Failure> {
    let files: Vec<PathBuf> = outcomes
        .iter()
        .filter_map(|outcome| outcome.step.as_ref())
        .filter(|step| step.action != Action::Keep)
        .flat_map(|step| std::iter::once(step.file.clone()).chain(step.aside.clone()))
        .collect();
    // Without a repository, the originals are still kept next to the manifest.
    let repo = cx.repository().ok().filter(|_| !files.is_empty());
    let mut session = None;
    if let Some(repo) = &repo {
        let assessment = Assessment::of_files(files);
        let mut argv = vec!["bdr".into(), command.into(), verb.into()];
        argv.extend(targets.iter().map(Into::into));
        let options = GuardOptions::new(guarding::backup_options(cx, None), argv, &cx.cwd);
        let call = AgentCall {
            host: OWN_HOST.to_owned(),
            session: Some(std::process::id().to_string()),
            call: None,
            tool: command.to_owned(),
            background: false,
        };
        let roots = guarding::covered(cx, repo, &assessment, &[], false)?;
        let (id, _) = guard::begin_call(repo, &roots, &options, call, &cx.progress())?;
        session = Some(id);
    }
    for outcome in outcomes.iter_mut() {
        if let Some(step) = &outcome.step
            && let Err(error) = apply(step)
        {
            *outcome = Outcome::refused(&outcome.target, outcome.file.clone(), &error.into());
        }
    }
    if let (Some(repo), Some(id)) = (&repo, session) {
        let begin = repo
            .unfinished_operations()?
            .into_iter()
            .find(|begin| begin.id == id);
        let options = CloseOptions {
            now: cx.now,
            exit: Some(0),
            never: Vec::new(),
        };
        if let Some(begin) = begin {
            guard::close(repo, begin, &options)?;
        }
    }
    Ok(())
}

/// Returns the lines that one text has and the other has not.
pub(super) fn only_in<'t>(text: &'t [u8], other: &[u8]) -> Vec<&'t [u8]> {
    let mut there: std::collections::HashMap<&[u8], usize> = std::collections::HashMap::new();
    for line in other.split(|b| *b == b'\n') {
        *there.entry(line).or_default() += 1;
    }
    let mut left = Vec::new();
    for line in text.split(|b| *b == b'\n') {
        match there.get_mut(line) {
            Some(number) if *number > 0 => *number -= 1,
            _ => left.push(line),
        }
    }
    left
}

fn report(
    cx: &Context,
    verb: &str,
    outcomes: &[Outcome],
    notes: &[String],
    dry_run: bool,
) -> Result<u8, Failure> {
    let failed = outcomes.iter().any(|outcome| outcome.refused.is_some());
    let code = if failed { exit::FAILURE } else { exit::OK };
    if cx.ui.json {
        let data = HooksDocument {
            verb: verb.to_owned(),
            dry_run,
            files: outcomes.iter().map(file_document).collect(),
            notes: notes.to_vec(),
        };
        cx.ui.document("hooks", code, &data)?;
        return Ok(code);
    }
    let mut text = String::new();
    for outcome in outcomes {
        match (&outcome.refused, &outcome.step) {
            (Some(refused), _) => text.push_str(&refused_lines(cx, outcome, refused)),
            (None, Some(step)) if step.is_hook_of_git() => {
                text.push_str(&git_line(cx, outcome, step, outcomes));
            }
            (None, Some(step)) => text.push_str(&step_lines(cx, outcome, step, dry_run)),
            (None, None) => {}
        }
    }
    for note in notes {
        text.push_str(&format!("{note}\n"));
    }
    let steps = outcomes.iter().filter_map(|outcome| outcome.step.as_ref());
    let changes = steps.filter(|step| step.action != Action::Keep).count();
    text.push_str(&match (verb, changes, dry_run) {
        (_, 0, _) if failed => String::new(),
        ("install", 0, _) => "Everything is installed already.\n".to_owned(),
        (_, 0, _) => "No hooks of bdr are installed.\n".to_owned(),
        (_, n, true) => format!("{} would be written.\n", plural(n as u64, "file")),
        ("install", _, _) => {
            "New shells and sessions are protected. To remove: bdr hooks uninstall all\n".to_owned()
        }
        _ => "Removed. Running shells keep the hook until they exit.\n".to_owned(),
    });
    cx.ui.report(&text)?;
    Ok(code)
}

fn refused_lines(cx: &Context, outcome: &Outcome, refused: &(String, Option<String>)) -> String {
    let (why, fix) = refused;
    let sign = cx.ui.out.red("refused");
    let fix = fix.as_ref().map(|fix| format!("        fix: {fix}\n"));
    format!(
        "{sign} {:<14} {why}\n{}",
        outcome.target,
        fix.unwrap_or_default()
    )
}

/// Returns one line for all hooks of git in a directory, at the first of them: there are seven
/// alike, and seven lines would bury the rest.
fn git_line(cx: &Context, outcome: &Outcome, step: &Step, outcomes: &[Outcome]) -> String {
    let dir = step.file.parent().unwrap_or(Path::new(""));
    let same = |other: &&Step| {
        other.is_hook_of_git() && other.action == step.action && other.file.parent() == Some(dir)
    };
    let all = || outcomes.iter().filter_map(|o| o.step.as_ref()).filter(same);
    if !all().next().is_some_and(|first| std::ptr::eq(first, step)) {
        return String::new();
    }
    let names: Vec<String> = all()
        .filter_map(|step| Some(bdr::base::path::show(step.file.file_name()?)))
        .collect();
    let previous = match (all().any(|step| step.aside.is_some()), step.action) {
        (false, _) => "",
        (true, Action::Delete) => "   the previous one comes back",
        (true, _) => "   the previous one runs after it",
    };
    format!(
        "{:<7} {:<14} {}: {}{previous}\n",
        step.action.word(),
        outcome.target,
        cx.shown_absolute(dir),
        names.join(", ")
    )
}

/// Returns the line of one file; a dry run also shows what would change in it, so that people can
/// judge it before they let bdr into their start-up files.
fn step_lines(cx: &Context, outcome: &Outcome, step: &Step, dry_run: bool) -> String {
    let place = cx.shown_absolute(&step.file);
    let mut text = format!("{:<7} {:<14} {place}\n", step.action.word(), outcome.target);
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
    text
}

fn file_document(outcome: &Outcome) -> HookFile {
    HookFile {
        file: outcome.file.as_deref().map(At::new),
        target: outcome.target.clone(),
        action: outcome.step.as_ref().map(|step| step.action.word()),
        refused: outcome.refused.as_ref().map(|(why, fix)| Refused {
            error: why.clone(),
            fix: fix.clone(),
        }),
    }
}

fn installed_document(one: &Health) -> InstalledHook {
    let seen = &one.seen;
    InstalledHook {
        file: At::new(&seen.file),
        target: seen.target.clone(),
        standing: match &seen.standing {
            Standing::Good => "good",
            Standing::Edited => "edited",
            Standing::Gone => "gone",
            Standing::Torn(_) => "torn",
        },
        program: seen.program.to_string_lossy().into_owned(),
        version: seen.version.clone(),
        time: crate::ui::when::utc(seen.time),
        trouble: one.trouble.as_ref().map(|(why, _)| why.clone()),
        fix: one.trouble.as_ref().map(|(_, fix)| fix.clone()),
    }
}

/// Something that calls bdr, and whether it works.
pub(crate) struct Health {
    pub(crate) seen: Seen,
    /// What is wrong, and how to fix it.
    pub(crate) trouble: Option<(String, String)>,
}

/// Checks everything that was installed.
pub(crate) fn health(cx: &Context) -> Result<Vec<Health>, Failure> {
    let own = own_program();
    let judge = |seen: Seen| {
        let again = format!("bdr hooks install {}", seen.target);
        let moved = !seen.program.is_file();
        let other = own
            .as_ref()
            .is_some_and(|own| canonicalize(own).ok() != canonicalize(&seen.program).ok());
        let trouble = match &seen.standing {
            Standing::Gone => Some(("bdr's part is gone".to_owned(), again)),
            Standing::Torn(why) => Some((why.clone(), "correct it by hand".to_owned())),
            _ if moved => {
                let program = cx.shown_absolute(&seen.program);
                Some((format!("it calls {program}, which does not exist"), again))
            }
            _ if other => {
                let program = cx.shown_absolute(&seen.program);
                Some((format!("it calls a different bdr, {program}"), again))
            }
            _ if seen.version != env!("CARGO_PKG_VERSION") => {
                Some((format!("it was written by bdr {}", seen.version), again))
            }
            _ => places::disabled(&seen).map(|why| {
                (
                    why.to_owned(),
                    "the host does not call bdr until that is changed".to_owned(),
                )
            }),
        };
        Health { seen, trouble }
    };
    Ok(ledger(cx)?.seen().into_iter().map(judge).collect())
}

/// Calls an installed program as its host would, with something harmless.
pub(crate) fn self_test(seen: &Seen) -> Result<(), String> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let (args, input): (Vec<&str>, &str) = match Target::parse(&seen.target) {
        Some(Target::Agent(host)) => (
            vec!["hook", host.word()],
            "{\"hook_event_name\":\"PreToolUse\",\"tool_name\":\"Bash\",\"tool_input\":{\"command\":\"true\"},\"cwd\":\"/\"}",
        ),
        Some(Target::Shell(shell)) => (vec!["shell", "init", shell.word()], ""),
        Some(Target::Session(_)) => (vec!["shell", "init", "bash"], ""),
        Some(Target::Git) => (vec!["hook", "git", "post-checkout"], ""),
        Some(Target::Deploy | Target::Client(_)) | None => return Ok(()),
    };
    let failed = |error: std::io::Error| format!("it does not start: {error}");
    let mut child = Command::new(&seen.program)
        .args(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read it says why by itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let silent = matches!(stdout.trim(), "" | "{}");
    match (output.status.success(), args[0]) {
        (true, "shell") => Ok(()),
        (true, _) if silent => Ok(()),
        _ => Err(format!(
            "it answers with {} and {} bytes",
            output.status,
            stdout.len()
        )),
    }
}

fn status(cx: &Context) -> Result<u8, Failure> {
    let all = health(cx)?;
    let bad = all.iter().any(|one| one.trouble.is_some());
    let code = if bad { exit::FAILURE } else { exit::OK };
    if cx.ui.json {
        let files = all.iter().map(installed_document);
        let data = HooksStatusDocument::new(files.collect());
        cx.ui.document("hooks", code, &data)?;
        return Ok(code);
    }
    let mut text = String::new();
    for one in &all {
        let place = cx.shown_absolute(&one.seen.file);
        let sign = match one.trouble {
            None => cx.ui.out.green("✓"),
            Some(_) => cx.ui.out.yellow("!"),
        };
        text.push_str(&format!("{sign} {:<14} {place}\n", one.seen.target));
        if let Some((why, fix)) = &one.trouble {
            text.push_str(&format!("  {why}\n  fix: {fix}\n"));
        }
    }
    if all.is_empty() {
        text = "No hooks are installed. To protect shells, git and agents: bdr hooks install all\n"
            .to_owned();
    }
    cx.ui.report(&text)?;
    Ok(code)
}

fn print(cx: &Context, args: &PrintArgs) -> Result<u8, Failure> {
    let around = places::Around::new(cx, args.which.project.as_deref(), true, None)?;
    let mut shown: Vec<(String, String, String)> = Vec::new();
    for target in around.targets(&args.which.targets, &ledger(cx)?)? {
        let word = target.word().to_owned();
        if target == Target::Deploy {
            for (place, lines) in deploy::BY_HAND {
                shown.push((word.clone(), place.to_owned(), lines.to_owned()));
            }
            continue;
        }
        for wanted in around.wanted(target, &mut Vec::new())? {
            let text = match &wanted.form {
                Form::Settings { host, entries } => {
                    json::add("", host.word(), entries, &agents::beside(*host))?
                }
                Form::Block(text) | Form::Own(text) | Form::Shim { script: text, .. } => {
                    text.clone()
                }
                Form::Scripts { .. } | Form::Server(..) => String::new(),
            };
            shown.push((word.clone(), cx.shown_absolute(&wanted.file), text));
        }
    }
    if cx.ui.json {
        let data = HooksTextDocument::new(shown);
        cx.ui.document("hooks", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let mut text = String::new();
    for (_, place, lines) in &shown {
        text.push_str(&format!(
            "{}\n{}\n\n",
            cx.ui.out.bold(place),
            lines.trim_end()
        ));
    }
    cx.ui.data(&text)?;
    Ok(exit::OK)
}
