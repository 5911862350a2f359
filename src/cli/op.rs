//! `bdr op`: which operations stay in the log.

use bdr::base::id::Id;
use bdr::repo::Repository;
use bdr::repo::oplog::{Operation, check_forgettable, resolve};
use clap::{Args, Subcommand};

use crate::app::context::Context;
use crate::app::documents::{ForgetDocument, PinDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::log;
use crate::ui::{plural, prompt, when};

/// Keep or forget operations
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr op pin 7f3a               never let it expire
  bdr op unpin 7f3a
  bdr op forget 7f3a --dry-run  show what would leave the log")]
pub(crate) struct OpArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Keep operations from expiring, so that they can always be undone
    Pin(PinArgs),
    /// Let operations expire as usual again
    Unpin(PinArgs),
    /// Remove operations from the log
    ///
    /// They can no longer be undone, but their snapshots stay and `bdr restore` can use them. An undo or redo can only be
    /// forgotten together with, or after, the operation that it reversed.
    Forget(ForgetArgs),
}

#[derive(Debug, Args)]
struct PinArgs {
    /// Operations, from `bdr log`
    #[arg(required = true, value_name = "OP")]
    operations: Vec<String>,
}

#[derive(Debug, Args)]
struct ForgetArgs {
    /// Operations, from `bdr log`
    #[arg(required = true, value_name = "OP")]
    operations: Vec<String>,
    /// Print what would be forgotten; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(crate) fn run(cx: &Context, args: &OpArgs) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let operations = repo.operations()?;
    match &args.verb {
        Verb::Pin(args) => pin(cx, &repo, &operations, &args.operations, true),
        Verb::Unpin(args) => pin(cx, &repo, &operations, &args.operations, false),
        Verb::Forget(args) => forget(cx, &repo, operations, args),
    }
}

/// Returns the named operations, each once, oldest first.
fn named<'a>(operations: &'a [Operation], specs: &[String]) -> Result<Vec<&'a Operation>, Failure> {
    let mut found = Vec::new();
    for spec in specs {
        found.push(resolve(operations, spec)?);
    }
    found.sort_by_key(|operation| operation.begin.id);
    found.dedup_by_key(|operation| operation.begin.id);
    Ok(found)
}

fn ids_of(operations: &[Operation]) -> Vec<Id> {
    operations.iter().map(|o| o.begin.id).collect()
}

fn pin(
    cx: &Context,
    repo: &Repository,
    operations: &[Operation],
    specs: &[String],
    pinned: bool,
) -> Result<u8, Failure> {
    let ids = ids_of(operations);
    let named = named(operations, specs)?;
    for operation in named.iter().filter(|o| o.pinned != pinned) {
        let id = operation.begin.id;
        match pinned {
            true => repo.pin(id, cx.now)?,
            false => repo.unpin(id)?,
        }
    }
    if cx.ui.json {
        let operations = named.iter().map(|o| o.begin.id.to_string()).collect();
        let data = PinDocument { pinned, operations };
        cx.ui.document("op", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let verb = if pinned { "Pinned" } else { "Unpinned" };
    let lines: String = named.iter().map(|o| line(cx, o, &ids, verb)).collect();
    cx.ui.report(&lines)?;
    Ok(exit::OK)
}

/// Returns the unreadable records of operations named by their whole ids.
fn unreadable(repo: &Repository, specs: &[String]) -> Vec<String> {
    let unreadable = repo.unreadable().into_iter().map(|(name, _)| name);
    let of = |name: &String| {
        let id = bdr::repo::layout::operation_of(name)?.to_string();
        specs
            .iter()
            .any(|spec| spec.eq_ignore_ascii_case(&id))
            .then_some(())
    };
    unreadable.filter(|name| of(name).is_some()).collect()
}

fn line(cx: &Context, operation: &Operation, ids: &[Id], verb: &str) -> String {
    let id = cx.ui.out.yellow(&operation.begin.id.prefix(ids));
    let title = log::title(operation, ids);
    let age = when::ago(cx.now, operation.begin.time);
    format!("{verb} {id}  {title}   {age}\n")
}

fn forget(
    cx: &Context,
    repo: &Repository,
    mut operations: Vec<Operation>,
    args: &ForgetArgs,
) -> Result<u8, Failure> {
    let lost = unreadable(repo, &args.operations);
    if !lost.is_empty() {
        if args.dry_run || !args.yes {
            cx.ui.report("Nothing was changed. Add --yes to do it.\n")?;
            return Ok(if args.dry_run {
                exit::OK
            } else {
                exit::PARTIAL
            });
        }
        for name in &lost {
            repo.remove_unreadable(name)?;
            cx.ui.report(&format!(
                "Removed `{}`.\n",
                bdr::base::path::show(name.as_ref())
            ))?;
        }
        return Ok(exit::OK);
    }
    let ids = ids_of(&operations);
    let chosen: Vec<Operation> = named(&operations, &args.operations)?
        .into_iter()
        .cloned()
        .collect();
    // All or none: each is checked as if the previous ones were gone.
    let mut rest = operations.clone();
    for operation in &chosen {
        check_forgettable(&rest, operation)?;
        if operation.end.is_none() && bdr::disk::fsutil::process_runs(operation.begin.pid) {
            let message = format!("`{}` may still be running", operation.begin.id.prefix(&ids));
            return Err(Failure::usage(message, "wait until it is over"));
        }
        rest.retain(|o| o.begin.id != operation.begin.id);
    }
    let text: String = chosen.iter().map(|o| line(cx, o, &ids, "Forget")).collect();
    let mut done = args.yes && !args.dry_run;
    if !cx.ui.json {
        cx.ui.report(&text)?;
    }
    if !done && !args.dry_run && cx.ui.can_ask {
        let what = plural(chosen.len() as u64, "operation");
        let question = format!("Forget {what}? Their changes can then no longer be undone.");
        done = prompt::confirm(&question, false)?;
    }
    for operation in chosen.iter().filter(|_| done) {
        repo.forget(&operations, operation)?;
        operations.retain(|o| o.begin.id != operation.begin.id);
    }
    let code = if done || args.dry_run {
        exit::OK
    } else {
        exit::PARTIAL
    };
    if cx.ui.json {
        let data = ForgetDocument {
            dry_run: args.dry_run,
            forgotten: done,
            operations: chosen.iter().map(|o| o.begin.id.to_string()).collect(),
        };
        cx.ui.document("op", code, &data)?;
    } else if done {
        cx.ui.report("Their snapshots stay: bdr list\n")?;
    } else if args.dry_run || cx.ui.can_ask {
        cx.ui.report("Nothing was changed.\n")?;
    } else {
        let names: Vec<String> = chosen.iter().map(|o| o.begin.id.prefix(&ids)).collect();
        let again = format!("bdr op forget --yes {}", names.join(" "));
        cx.ui.report(&format!(
            "Nothing was changed. Without a terminal, add --yes: {again}\n"
        ))?;
    }
    Ok(code)
}
