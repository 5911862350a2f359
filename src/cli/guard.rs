//! `bdr guard`: snapshot, then run. Prints on stderr only; stdout is the command's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use bdr::Error;
use bdr::base::path::{RepoPath, absolute};
use bdr::base::units::size;
use bdr::effects::{self, Assessment, Effect, Surroundings, Table};
use bdr::model::config::{CaptureMode, OnFail, Summary};
use bdr::model::rules::{Matcher, Origin, Root};
use bdr::protect::guard::{self, GuardOptions, GuardOutcome, Protected};
use bdr::protect::staging::StagingOptions;
use bdr::repo::Repository;
use bdr::repo::oplog::Begin;
use bdr::repo::snapshot::PathNote;
use captured::{Captured, captured, is_session};
use clap::Args;

use super::Cli;
use crate::app::context::{
    Context, Needs, NeedsConfig, OPERATION_VARIABLE, guard_is_off, may_have_rules, variable,
};
use crate::app::documents::{GuardDocument, GuardPlanDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::guard::{
    backup_options, close_later, covered, explain, is_system_rm, name_missed, open, outside,
    say_outside, settle_in_background, still_running, summary, uncaptured, undo_command, unstored,
    untold, worth_a_word,
};
use crate::app::tick;
use crate::ui::{self, Ui, plural, prompt};

mod captured;

/// Run a command, and keep what it destroys
///
/// Nothing is blocked, and `bdr undo` reverses whatever the command changed. On Linux each of its calls that would destroy
/// something waits until that is kept, wherever it is. Where that does not work, bdr saves a snapshot first: of the paths that the
/// command names, the project around you and your configured sources. A command that only reads runs right away. The exit status
/// is the command's; 125 means that bdr failed and the command did not run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr guard -- rm -rf build data
  bdr guard --label deploy -- ./deploy.sh
  bdr guard --path /srv/data -- make clean
  bdr guard --max-bytes 250G -- rm -rf ~/videos
  bdr guard --dry-run -- git clean -fdx")]
pub(crate) struct GuardArgs {
    /// Label the operation in the log
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Cover this path too
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    path: Vec<PathBuf>,
    /// What to do when the snapshot fails
    #[arg(
        long,
        value_enum,
        value_name = "block|ask|run",
        hide_possible_values = true
    )]
    on_fail: Option<OnFailArg>,
    /// Most new bytes that the snapshot may store, like 512M or 250G
    #[arg(long, value_name = "SIZE", value_parser = bdr::model::config::parse_size)]
    max_bytes: Option<u64>,
    /// Keep what each call destroys, wherever it is (Linux): where it works, the default; always; or a
    /// snapshot first
    #[arg(
        long,
        value_enum,
        value_name = "auto|only|off",
        hide_possible_values = true
    )]
    capture: Option<CaptureArg>,
    /// Make each command that it starts an operation of its own: for shells and agents, where it is the
    /// default (Linux)
    #[arg(long)]
    session: bool,
    /// Run it even if it names bdr's own repository or configuration
    #[arg(long)]
    accept_repository_loss: bool,
    /// What to print on stderr afterwards
    #[arg(
        long,
        value_enum,
        value_name = "auto|always|never|json",
        hide_possible_values = true
    )]
    summary: Option<SummaryArg>,
    /// Print what would be covered; run nothing
    #[arg(long)]
    dry_run: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND", value_hint = clap::ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum OnFailArg {
    Block,
    Ask,
    Run,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CaptureArg {
    Auto,
    Only,
    Off,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SummaryArg {
    Auto,
    Always,
    Never,
    Json,
}

/// Signals are for the command.
const NEEDS: Needs = Needs {
    config: NeedsConfig::Now,
    stops_on_signals: false,
    sees_left: false,
};

/// Runs it and returns the exit code; does not return if the process becomes the command.
pub(crate) fn run(args: &GuardArgs, cli: &Cli, ui: Ui) -> i32 {
    let unguarded = guard_is_off() || only_reads(&args.command) && !may_have_rules();
    if unguarded && !args.dry_run {
        return become_command(&args.command, ui);
    }
    let from_environment = variable("BDR_GUARD_ON_FAIL").and_then(|v| OnFail::parse(v.to_str()?));
    let typed = args.on_fail.map(OnFail::from).or(from_environment);
    let cx = match Context::new(cli.global.repository.as_deref(), ui, NEEDS) {
        Ok(cx) => cx,
        Err(failure) => {
            return not_protected(args, typed.unwrap_or_default(), ui, None, &failure);
        }
    };
    let policy = typed.unwrap_or(cx.config.guard.on_fail);
    // A rule of the user may say so.
    let assessment = assess(&cx, &args.command);
    if !args.dry_run && assessment.effect == Effect::Read {
        return become_command(&args.command, ui);
    }
    let repo = match open(&cx, args.dry_run) {
        Ok(repo) => repo,
        Err(failure) if args.dry_run => return failure.tell(&ui).into(),
        Err(failure) => return not_protected(args, policy, ui, Some(&cx), &failure),
    };
    if !args.dry_run && protected_above(&cx, &repo, args, &assessment) {
        return become_command(&args.command, ui);
    }
    if args.dry_run {
        let shown = dry_run(&cx, &repo, args, &assessment);
        return shown
            .map_or_else(|failure| failure.tell(&ui), |()| exit::OK)
            .into();
    }
    let (mode, is_said) = uncaptured::mode(&cx, args.capture.map(CaptureMode::from));
    // Nothing but capture can tell the commands of a session apart.
    let mode = match mode {
        CaptureMode::Off if !is_said && is_session(args) => CaptureMode::Auto,
        mode => mode,
    };
    let why = match captured(&cx, &repo, args, &assessment, (mode, policy)) {
        Ok(Captured::Ran(code)) => return code,
        Ok(Captured::Not(why)) => why,
        Err(failure) => return not_protected(args, policy, ui, Some(&cx), &failure),
    };
    if let Some(why) = &why {
        uncaptured::say_once(&cx, why);
    }
    let options = GuardOptions {
        uncaptured: why,
        ..options(&cx, args, &assessment, policy)
    };
    match protect(&cx, &repo, args, &assessment, &options) {
        Ok(protected) => {
            let said = untold(&assessment).into_iter();
            for said in said.chain(unstored(&cx, &assessment)) {
                cx.ui.say(&format!("bdr: {said}"));
            }
            execute(&cx, &repo, args, &assessment, protected)
        }
        Err(failure) => not_protected(args, policy, ui, Some(&cx), &failure),
    }
}

fn options(
    cx: &Context,
    args: &GuardArgs,
    assessment: &Assessment,
    policy: OnFail,
) -> GuardOptions {
    let mut backup = backup_options(cx, args.max_bytes);
    backup.label.clone_from(&args.label);
    backup.staging = Some(StagingOptions {
        unlinked: unlinked(&args.command, assessment),
        max_bytes: args.max_bytes.unwrap_or(cx.config.guard.max_kept),
        pack_bytes: cx.config.guard.max_bytes,
        ..StagingOptions::new()
    });
    GuardOptions {
        label: args.label.clone(),
        all_named: policy != OnFail::Run,
        remote: guard::with_what_was(&assessment.remote, &cx.cwd),
        ..GuardOptions::new(backup, args.command.clone(), &cx.cwd)
    }
}

/// Returns the paths of which a command provably only removes names.
fn unlinked(command: &[OsString], assessment: &Assessment) -> Vec<PathBuf> {
    if !assessment.unlinks_only || !is_system_rm(&command[0]) {
        return Vec::new();
    }
    let named = assessment.operands.iter().filter(|operand| operand.itself);
    named
        .map(|operand| guard::canonical_parent(&operand.path))
        .collect()
}

fn roots(
    cx: &Context,
    repo: &Repository,
    args: &GuardArgs,
    assessment: &Assessment,
) -> Result<Vec<Root>, Failure> {
    let extra = check_paths(cx, args)?;
    covered(cx, repo, assessment, &extra, args.accept_repository_loss)
}

/// Returns the paths that are to be covered too; all of them exist.
fn check_paths(cx: &Context, args: &GuardArgs) -> Result<Vec<PathBuf>, Failure> {
    let extra = args.path.iter().map(|path| absolute(&cx.cwd, path));
    let extra: Vec<PathBuf> = extra.collect();
    match extra.iter().find(|path| path.symlink_metadata().is_err()) {
        Some(missing) => Err(no_such_path(cx, missing)),
        None => Ok(extra),
    }
}

fn no_such_path(cx: &Context, missing: &Path) -> Failure {
    let message = format!("there is no `{}`", cx.shown(missing));
    Failure::usage(message, "correct --path, or leave it out")
}

/// Returns true if an outer guard has captured everything that this one would: then its operation
/// is enough. Anything it missed is captured here.
fn protected_above(
    cx: &Context,
    repo: &Repository,
    args: &GuardArgs,
    assessment: &Assessment,
) -> bool {
    if uncaptured::is_captured(cx) {
        // Whoever captures this process captures the command too, whatever is set for this guard.
        return true;
    }
    let outer = variable(OPERATION_VARIABLE).and_then(|id| id.into_string().ok());
    let Some(outer) = outer.and_then(|id| id.parse().ok()) else {
        return false;
    };
    let above = || -> Result<bool, Failure> {
        let begin: Begin = repo.read_record(&bdr::repo::layout::begin(outer))?;
        let Some(before) = begin.before else {
            return Ok(false);
        };
        let snapshot = repo.snapshot(before)?;
        let has = |root: &Root| {
            root.origin == Origin::Source
                || snapshot.roots.iter().any(|outer| {
                    let below = RepoPath::below(outer.path.as_path(), &root.path);
                    let rules = Matcher::new(&outer.rules);
                    below.is_some_and(|below| rules.is_ok_and(|rules| rules.covers(&below)))
                })
        };
        Ok(roots(cx, repo, args, assessment)?.iter().all(has))
    };
    above().unwrap_or(false)
}

/// Returns true if a command needs no snapshot, before anything else is looked up: this has to be
/// fast.
fn only_reads(command: &[OsString]) -> bool {
    let around = Surroundings {
        cwd: Path::new("/"),
        home: None,
        table: Table::builtin(),
    };
    effects::assess(command, &around).effect == Effect::Read
}

fn assess(cx: &Context, command: &[OsString]) -> Assessment {
    let around = Surroundings {
        cwd: &cx.cwd,
        home: cx.home.as_deref(),
        table: &cx.config.guard.table(),
    };
    effects::assess(command, &around)
}

fn protect(
    cx: &Context,
    repo: &Repository,
    args: &GuardArgs,
    assessment: &Assessment,
    options: &GuardOptions,
) -> Result<Protected, Failure> {
    let roots = roots(cx, repo, args, assessment)?;
    cx.launch_lifeboat(repo.location());
    Ok(guard::protect(repo, &roots, options, &cx.progress())?)
}

fn execute(
    cx: &Context,
    repo: &Repository,
    args: &GuardArgs,
    assessment: &Assessment,
    protected: Protected,
) -> i32 {
    let report = protected.report();
    let lasting = report.kept.lasting_bytes;
    let missed: Vec<&PathNote> = protected
        .not_captured()
        .iter()
        .filter(|note| worth_a_word(cx, &args.command, note))
        .collect();
    name_missed(cx, &missed);
    let missed = missed.len() as u64;
    let operation = protected.operation();
    let mut command = Process::new(&args.command[0]);
    command
        .args(&args.command[1..])
        .env(OPERATION_VARIABLE, operation.to_string());
    // The command may unmount the repository's file system.
    repo.storage().let_go();
    match protected.run(command) {
        Ok(outcome) => {
            if !outcome.running.is_empty() {
                let id = outcome.operation.begin.id;
                // A signal leaves `running` empty, so there is an exit code.
                let exit = outcome.status.code();
                close_later(cx, repo, id, &outcome.running, exit);
            }
            tell(cx, repo, args, assessment, &outcome, (missed, lasting));
            settle_in_background(cx, repo);
            if let Some(line) = tick::catch_up(cx, "guard") {
                cx.ui.say(&line);
            }
            end_like(outcome.status)
        }
        Err(Error::Io { source, .. }) => cannot_run(&args.command, &source, cx.ui),
        Err(error) => {
            Failure::from(error).tell(&cx.ui);
            exit::NOT_RUN.into()
        }
    }
}

/// Returns what is to be said afterwards.
fn wanted(cx: &Context, args: &GuardArgs) -> Summary {
    match args.summary {
        Some(wanted) => wanted.into(),
        None if cx.ui.json => Summary::Json,
        None => cx.config.guard.summary,
    }
}

/// Reports the result; `missed` is the number of paths reported as not captured, `lasting` the
/// bytes that deleting does not free.
fn tell(
    cx: &Context,
    repo: &Repository,
    args: &GuardArgs,
    assessment: &Assessment,
    outcome: &GuardOutcome,
    (missed, lasting): (u64, u64),
) {
    let mut undo = undo_command(repo, &outcome.operation);
    if outcome.operation.end.is_some() && !outcome.running.is_empty() {
        // What they still do is recorded apart, and soon a plain undo means that.
        let id = outcome.operation.begin.id;
        let ids = repo.operation_ids().unwrap_or_default();
        undo = Some(format!("bdr undo {}", id.prefix(&ids)));
    }
    if let (Some(error), Some(undo)) = (&outcome.after_error, &undo) {
        cx.ui.warn(&format!(
            "bdr: could not record what it changed: {error} · undo: {undo}"
        ));
    }
    let unseen = outcome.operation.end.as_ref();
    if let (Some(end), Some(undo)) = (unseen.filter(|end| !end.unseen.is_empty()), &undo) {
        cx.ui.warn(&format!(
            "bdr: could not check what it changed in {}; undo will compare · undo: {undo}",
            plural(end.unseen.len() as u64, "place")
        ));
    }
    if let (Some(running), Some(undo)) = (still_running(&outcome.running), &undo) {
        cx.ui.say(&format!(
            "bdr: {running} · undo, including what it still does: {}",
            cx.ui.err.bold(undo)
        ));
    }
    let wanted = wanted(cx, args);
    if wanted == Summary::Never {
        return;
    }
    let elsewhere = outside(cx, repo, &outcome.operation, assessment);
    if wanted == Summary::Json {
        // Not on stdout: that is the command's.
        let data = GuardDocument::new(outcome, undo.as_deref(), &elsewhere);
        let document = ui::document("guard", exit::OK, &data);
        cx.ui.warn(document.trim_end());
    } else if outcome.after_error.is_none() {
        let always = wanted == Summary::Always;
        let said = summary(&outcome.operation, missed, always);
        let untold = undo.as_deref().filter(|_| said.is_none());
        if let Some(said) = said {
            let undo = undo.as_ref().map_or_else(String::new, |undo| {
                format!(" · undo: {}", cx.ui.err.bold(undo))
            });
            cx.ui.say(&format!("bdr: {said}{undo}"));
            if lasting > 0 {
                // Users who delete to make room want to know.
                let bytes = size(lasting);
                cx.ui.say(&format!(
                    "bdr: {bytes} stay on disk while this can be undone"
                ));
            }
        }
        say_outside(cx, &elsewhere, untold);
    }
}

/// What comes before the places that a snapshot would cover, where capture protects.
pub(super) const CAPTURED_FIRST: &str = "A guard would keep whatever it destroys, call by call, wherever that is. Where that does not work, a snapshot would cover:";

fn dry_run(
    cx: &Context,
    repo: &Repository,
    args: &GuardArgs,
    assessment: &Assessment,
) -> Result<(), Failure> {
    let roots = roots(cx, repo, args, assessment)?;
    let options = options(cx, args, assessment, OnFail::Block);
    let plan = guard::plan(repo, &roots, &options.backup)?;
    let read_only = assessment.effect == Effect::Read;
    if cx.ui.json {
        let data = GuardPlanDocument::new(read_only, &plan);
        cx.ui.document("guard", exit::OK, &data)?;
        return Ok(());
    }
    let mut text = if read_only {
        "This command only reads: it would run right away, without a snapshot.\n".to_owned()
    } else {
        let (mode, _) = uncaptured::mode(cx, args.capture.map(CaptureMode::from));
        match uncaptured::would_capture(cx, assessment, (mode, &args.command)) {
            true => format!("Nothing was run. {CAPTURED_FIRST}\n"),
            false => "Nothing was run. The snapshot before the command would cover:\n".to_owned(),
        }
    };
    let rows: Vec<Vec<String>> = plan
        .roots
        .iter()
        .map(|r| {
            let files = plural(r.files, "file");
            vec![
                cx.shown_absolute(&r.path),
                files,
                size(r.bytes),
                format!("{} new", size(r.new_bytes)),
            ]
        })
        .collect();
    for line in ui::table::table(&rows, "lrrr") {
        text.push_str(&format!("  {line}\n"));
    }
    for note in &plan.left_out {
        text.push_str(&format!(
            "  not covered: {}  {}\n",
            cx.shown(note.path.as_path()),
            note.reason
        ));
    }
    cx.ui.data(&text)?;
    Ok(())
}

/// The snapshot failed: stop, ask or continue, as the user wants it.
fn not_protected(
    args: &GuardArgs,
    policy: OnFail,
    ui: Ui,
    cx: Option<&Context>,
    failure: &Failure,
) -> i32 {
    let refused =
        matches!(failure, Failure::Engine(e) if matches!(**e, Error::WouldDeleteRepository { .. }));
    let stays = refused || failure.code() == exit::INTERRUPTED;
    let runs = policy == OnFail::Run && !stays;
    if ui.json {
        ui.warn(failure.document(exit::NOT_RUN).trim_end());
    } else {
        explain(&args.command, ui, cx, failure, runs, stays);
    }
    let asked = || prompt::confirm("Run it unprotected?", false).unwrap_or(false);
    if runs || (policy == OnFail::Ask && !stays && ui.can_ask && asked()) {
        return become_command(&args.command, ui);
    }
    exit::NOT_RUN.into()
}

fn cannot_run(command: &[OsString], error: &std::io::Error, ui: Ui) -> i32 {
    let name = bdr::base::path::show(&command[0]);
    ui.warn(&format!("bdr: cannot run `{name}`: {error}"));
    let is_line = command.len() == 1 && name.contains(char::is_whitespace);
    if is_line && error.kind() == std::io::ErrorKind::NotFound {
        let word = crate::app::guard::shell_words(command);
        ui.warn(&format!(
            "hint: that is a whole line in one word: bdr guard -- {name}   (or with a shell: bdr guard -- sh -c {word})"
        ));
    }
    match error.kind() {
        std::io::ErrorKind::NotFound => exit::NOT_FOUND.into(),
        // There are no processes or threads left: nothing is wrong with the command.
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::OutOfMemory => exit::NOT_RUN.into(),
        _ => exit::NOT_EXECUTABLE.into(),
    }
}

/// Becomes the command: same process, terminal and signals, nothing of bdr left.
#[cfg(unix)]
fn become_command(command: &[OsString], ui: Ui) -> i32 {
    use std::os::unix::process::CommandExt as _;
    let error = Process::new(&command[0]).args(&command[1..]).exec();
    cannot_run(command, &error, ui)
}

#[cfg(not(unix))]
fn become_command(command: &[OsString], ui: Ui) -> i32 {
    match Process::new(&command[0]).args(&command[1..]).status() {
        Ok(status) => status.code().unwrap_or(exit::FAILURE.into()),
        Err(error) => cannot_run(command, &error, ui),
    }
}

/// Ends as the command did: a shell loop stops on Ctrl-C only if it sees the signal itself.
fn end_like(status: std::process::ExitStatus) -> i32 {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        use rustix::process::{Resource, Rlimit, setrlimit};
        // The command has dumped its core already; bdr must not add one of its own.
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        let _ = setrlimit(Resource::Core, none);
        // It returns only if the signal could not be raised.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
        return 128 + signal;
    }
    status.code().unwrap_or(exit::FAILURE.into())
}

impl From<OnFailArg> for OnFail {
    fn from(arg: OnFailArg) -> Self {
        match arg {
            OnFailArg::Block => Self::Block,
            OnFailArg::Ask => Self::Ask,
            OnFailArg::Run => Self::Run,
        }
    }
}

impl From<CaptureArg> for CaptureMode {
    fn from(arg: CaptureArg) -> Self {
        match arg {
            CaptureArg::Auto => Self::Auto,
            CaptureArg::Only => Self::Only,
            CaptureArg::Off => Self::Off,
        }
    }
}

impl From<SummaryArg> for Summary {
    fn from(arg: SummaryArg) -> Self {
        match arg {
            SummaryArg::Auto => Self::Auto,
            SummaryArg::Always => Self::Always,
            SummaryArg::Never => Self::Never,
            SummaryArg::Json => Self::Json,
        }
    }
}
