//! `bdr sync`.

use bdr::model::config::Source;
use bdr::recover::sync::{self, SyncAction, SyncOptions, SyncPlan, SyncReport, SyncStep};
use bdr::repo::Repository;
use clap::Args;

use crate::app::context::Context;
use crate::app::documents::{SyncDocument, SyncedDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::identities::KeyArgs;
use crate::app::signers::{self, Known};
use crate::app::sync::Other;
use crate::ui::steps::{View, collapse, listing};
use crate::ui::{plural, prompt, when};

/// Bring what another machine did into this one's sources
///
/// Takes the other machine's newest backup at a destination. A file that only one side changed since the last sync is taken from
/// there; one that both changed is merged where that is possible (JSON by keys, JSONL and text by lines). Otherwise yours stays,
/// and theirs is written beside it; remove that one when you have decided. The first sync only adds. Secrets never travel, git
/// repositories and databases are left alone. Push afterwards, and sync on the other machine: then both have the same.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr sync brain --with laptop --dry-run
  bdr sync brain --with laptop
  bdr sync --with laptop --from nas --yes     every source that both have
  bdr undo                                    take it back

Exit codes: 3 if a conflict remains, or if something could not be taken.")]
pub(crate) struct SyncArgs {
    /// Sources (bdr config show); all that the other machine has too if none is named
    #[arg(value_name = "SOURCE")]
    sources: Vec<String>,
    /// The other machine: its name or id (bdr machines)
    #[arg(long, value_name = "MACHINE")]
    with: String,
    /// The destination where both push: its name, or its URL
    #[arg(long, value_name = "NAME|URL")]
    from: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
    /// Print what would change; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(crate) fn run(cx: &Context, args: &SyncArgs) -> Result<u8, Failure> {
    let sources: Vec<Source> = match args.sources.is_empty() {
        true => cx.config.sources.clone(),
        false => {
            let named = args
                .sources
                .iter()
                .map(|name| cx.config.source(name).cloned());
            named.collect::<Result<_, _>>()?
        }
    };
    if sources.is_empty() {
        return Err(Failure::usage("there is no source yet", "bdr add PATH"));
    }
    let own = cx.repository()?;
    let other = Other::find(cx, &args.with, args.from.as_deref(), &args.key)?;
    let mut new = other.vouched(cx, true)?;
    if let Some(new) = &new
        && !cx.ui.json
    {
        cx.ui.say(&first_time(new, args.dry_run));
    }
    let mut document = SyncDocument::new(&other, new.is_some(), args.dry_run);
    // What does not count there is named at the end.
    let mut code = match other.far.unreadable().is_empty() {
        true => exit::OK,
        false => exit::PARTIAL,
    };
    let mut failed = Vec::new();
    for source in &sources {
        let options = other.options(cx, source);
        match one(cx, args, &own, &other, &options) {
            Ok((done, own_code)) => {
                if let Some(known) = new.take_if(|_| done.is_done()) {
                    signers::remember(cx, known)?;
                }
                document.sources.push(done);
                code = code.max(own_code);
            }
            Err(failure) => {
                let name = source.name.as_str();
                document
                    .sources
                    .push(SyncedDocument::failed(name, failure.message()));
                failed.push(failure);
            }
        }
        if cx.is_stopped() {
            break;
        }
    }
    match failed.first() {
        Some(failure) if failed.len() == sources.len() => code = failure.code(),
        Some(_) => code = code.max(exit::PARTIAL),
        None => {}
    }
    if cx.ui.json {
        cx.ui.document("sync", code, &document)?;
        return Ok(code);
    }
    for failure in &failed {
        failure.tell(&cx.ui);
    }
    Ok(code)
}

/// Says who the other machine is, at the first time.
fn first_time(new: &Known, dry_run: bool) -> String {
    let host = bdr::base::path::show(new.host.as_ref());
    let then = match dry_run {
        true => "",
        false => " It is remembered: what is signed otherwise is not taken.",
    };
    format!(
        "{host} signs with {}: compare it with what bdr machines shows there.{then}",
        new.signer.fingerprint()
    )
}

fn one(
    cx: &Context,
    args: &SyncArgs,
    own: &Repository,
    other: &Other,
    options: &SyncOptions,
) -> Result<(SyncedDocument, u8), Failure> {
    let name = options.source.name.to_string();
    let is_named = !args.sources.is_empty();
    if !is_named && !sync::is_there(&other.far, options)? {
        let host = bdr::base::path::show(other.host.as_ref());
        if !cx.ui.json {
            cx.ui.say(&format!("{name}: only here, {host} has none"));
        }
        let why = "the other machine has none".to_owned();
        return Ok((SyncedDocument::failed(&name, why), exit::OK));
    }
    let plan = sync::plan(own, &other.far, options, &cx.progress())?;
    let document = SyncedDocument::new(&name, &plan);
    let partial = match plan.is_partial() {
        true => exit::PARTIAL,
        false => exit::OK,
    };
    let text = page(cx, &name, other, &plan);
    if args.dry_run {
        if !cx.ui.json {
            cx.ui.data(&text)?;
        }
        return Ok((document, exit::OK));
    }
    let destroys = plan
        .steps
        .iter()
        .any(|step| step.action != SyncAction::Create);
    if destroys && !args.yes && !cx.ui.can_ask {
        return Err(Failure::usage(
            format!("{name}: this would change files, and there is no terminal to ask on"),
            "add --yes to do it, or --dry-run to preview it",
        ));
    }
    if !cx.ui.json {
        cx.ui.report(&text)?;
    }
    if destroys && !args.yes && !prompt::confirm("Sync?", true)? {
        cx.ui.warn("Nothing was changed.");
        return Ok((document, exit::PARTIAL));
    }
    let report = sync::apply(own, &other.far, &plan, options, &cx.progress())?;
    let failed = match report.problems.is_empty() {
        true => exit::OK,
        false => exit::PARTIAL,
    };
    if !cx.ui.json {
        cx.ui.report(&ending(cx, &plan, &report))?;
    }
    Ok((document.done(&report), partial.max(failed)))
}

fn page(cx: &Context, name: &str, other: &Other, plan: &SyncPlan) -> String {
    let host = bdr::base::path::show(other.host.as_ref());
    let ago = when::ago(cx.now, plan.time);
    let first = match plan.is_first {
        true => " · the first time: nothing is removed or replaced",
        false => "",
    };
    let mut text = format!("{name} with {host}'s backup from {ago}{first}\n");
    let lines = collapse(&plan.steps, |step| View {
        path: &step.path,
        action: (step.action, step.beside.is_some()),
        is_dir: step.kind == bdr::model::manifest::Kind::Dir,
        files: u64::from(step.kind == bdr::model::manifest::Kind::File),
        bytes: step.bytes,
    });
    if !lines.is_empty() {
        text.push_str(&listing(&lines, |joined| {
            line(cx, &plan.steps[joined.first], joined.files, joined.steps)
        }));
    }
    for (path, beside) in &plan.open {
        let beside = cx.shown(beside);
        text.push_str(&format!(
            "  undecided {}   theirs: {beside}\n",
            cx.shown(path)
        ));
    }
    for note in &plan.unknown {
        let path = cx.shown(note.path.as_path());
        text.push_str(&format!("  unknown   {path}   {}\n", note.reason));
    }
    for note in &plan.problems {
        let path = cx.shown(note.path.as_path());
        text.push_str(&format!("  not taken {path}   {}\n", note.reason));
    }
    let mut rest = vec![format!("{} alike", plural(plan.same, "file"))];
    if plan.ours > 0 {
        rest.push(format!("{} changed only here", plural(plan.ours, "path")));
    }
    if plan.left_to_git {
        rest.push("git repositories are left to git".to_owned());
    }
    text.push_str(&format!("  {}\n", rest.join(" · ")));
    text
}

fn line(cx: &Context, step: &SyncStep, files: u64, steps: usize) -> String {
    let word = match step.action {
        SyncAction::Create => "create",
        SyncAction::Replace => "replace",
        SyncAction::Merge => "merge",
        SyncAction::Remove => "remove",
        SyncAction::Conflict => "conflict",
    };
    let path = cx.shown(&step.path);
    let mut line = match steps > 1 {
        true => format!("{word:<9} {path}   {}", plural(files, "file")),
        false => format!(
            "  {word:<9} {path}   {}",
            bdr::base::units::size(step.bytes)
        ),
    };
    if !step.both.is_empty() {
        line.push_str(&format!("   both changed {}", step.both.join(", ")));
    }
    if let Some(beside) = &step.beside {
        line.push_str(&format!("   theirs: {}", cx.shown(beside)));
    }
    line
}

fn ending(cx: &Context, plan: &SyncPlan, report: &SyncReport) -> String {
    let mut text = String::new();
    for note in &report.problems {
        let path = cx.shown(note.path.as_path());
        text.push_str(&format!("  failed    {path}   {}\n", note.reason));
    }
    let open = plan.open_conflicts();
    let ms = report.elapsed.as_millis();
    text.push_str(&match (report.written + report.removed, open) {
        (0, 0) if plan.problems.is_empty() => "Nothing to do.\n".to_owned(),
        (0, 0) => "Nothing else to do.\n".to_owned(),
        (0, _) => String::new(),
        _ => format!("Done in {ms} ms. Take it back: bdr undo\n"),
    });
    if open > 0 {
        let files = plural(open, "file");
        text.push_str(&format!(
            "{files} changed on both sides (exit 3): yours is in place; remove theirs when you have decided.\n"
        ));
    }
    text
}
