//! `bdr uninstall`: removes bdr from other programs, and deletes its data if requested.
//!
//! Hooks go first: whatever interrupts the rest, no shell or agent calls a bdr that is partly gone.
//! The configuration goes last, because it says where everything else is.

use std::path::{Path, PathBuf};

use bdr::base::id::Id;
use bdr::base::path::{absolute, shell_word, show};
use bdr::base::units::size;
use bdr::care::removal;
use bdr::disk::fsutil::canonicalize;
use bdr::disk::storage::{self, Lifeboat};
use bdr::install::hooks::{Action, Ledger};
use bdr::repo::Repository;
use clap::Args;

use crate::app::context::{Context, own_program, read_config};
use crate::app::documents::{At, DeletedPart, Note, RemovedEntry, UninstallDocument};
use crate::app::error::Failure;
use crate::app::schedule as scheduling;
use crate::app::{exit, keychain};
use crate::cli::hooks::{Outcome, carry_out};
use crate::ui::{prompt, table};

/// Take bdr out of other programs, and delete what it keeps
///
/// Removes hooks, entries in MCP clients and the entry of the scheduler; everything is listed first. Backups stay unless
/// --everything is given: that deletes repository, lifeboat, vault, cache, state and configuration, for good.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr uninstall --dry-run
  bdr uninstall
  bdr uninstall --everything
  bdr uninstall --everything --yes --delete /mnt/backup/bdr")]
pub(crate) struct UninstallArgs {
    /// Also delete repository, lifeboat, vault, cache, state and configuration
    #[arg(long)]
    everything: bool,
    /// Confirm that this repository, which --repository or the configuration names, is deleted too
    #[arg(long, value_name = "DIR", requires = "everything", value_hint = clap::ValueHint::DirPath)]
    delete: Option<PathBuf>,
    /// List what would be removed; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

struct Entries {
    hooks: Ledger,
    clients: Ledger,
    outcomes: Vec<Outcome>,
    /// How many of the outcomes with a step belong to `hooks`.
    of_hooks: usize,
    schedulers: Vec<&'static str>,
}

impl Entries {
    fn find(cx: &Context) -> Result<Self, Failure> {
        let hooks = Ledger::open(&cx.places.state.join("hooks"))?;
        let clients = Ledger::open(&cx.places.state.join("mcp"))?;
        let mut outcomes = removals(&hooks);
        let of_hooks = outcomes.iter().filter(|o| o.step.is_some()).count();
        outcomes.extend(removals(&clients));
        Ok(Self {
            hooks,
            clients,
            outcomes,
            of_hooks,
            schedulers: scheduling::remove(cx, true)?.gone,
        })
    }

    /// Removes them. If the repository stays, this is an operation that `bdr undo` reverts.
    fn remove(&mut self, cx: &Context, is_operation: bool) -> Result<(), Failure> {
        let (hooks, clients, of_hooks) = (&mut self.hooks, &mut self.clients, self.of_hooks);
        let mut number = 0;
        let mut apply = |step: &bdr::install::hooks::Step| {
            number += 1;
            let ledger = match number <= of_hooks {
                true => &mut *hooks,
                false => &mut *clients,
            };
            match step.action {
                Action::Keep => ledger.drop_edit(step),
                _ => ledger.apply(step, cx.now),
            }
        };
        if is_operation {
            carry_out(
                cx,
                ("uninstall", "--yes"),
                &[],
                &mut self.outcomes,
                &mut apply,
            )?;
        } else {
            for outcome in &mut self.outcomes {
                if let Some(step) = &outcome.step
                    && let Err(error) = apply(step)
                {
                    let file = outcome.file.clone();
                    *outcome = Outcome::refused(&outcome.target, file, &error.into());
                }
            }
        }
        self.schedulers = scheduling::remove(cx, false)?.gone;
        Ok(())
    }

    fn has_refusal(&self) -> bool {
        self.outcomes.iter().any(|o| o.refused.is_some())
    }

    fn rows(&self, cx: &Context) -> Vec<Vec<String>> {
        let mut rows: Vec<Vec<String>> = Vec::new();
        for outcome in &self.outcomes {
            let file = outcome.file.as_deref().unwrap_or(Path::new(""));
            // There are seven hooks alike in a git repository.
            let is_hook = outcome.step.as_ref().is_some_and(|s| s.is_hook_of_git());
            let file = match is_hook {
                true => file.parent().unwrap_or(file),
                false => file,
            };
            let refused = outcome.refused.as_ref();
            let row = vec![
                format!("  {}", outcome.target),
                cx.shown_absolute(file),
                refused.map_or_else(String::new, |(why, _)| format!("not possible: {why}")),
            ];
            if rows.last() != Some(&row) {
                rows.push(row);
            }
        }
        rows.extend(
            self.schedulers
                .iter()
                .map(|word| vec!["  scheduler".to_owned(), (*word).to_owned(), String::new()]),
        );
        rows
    }
}

/// Returns the outcomes of removing every edit in a ledger.
fn removals(ledger: &Ledger) -> Vec<Outcome> {
    let mut targets: Vec<String> = ledger.seen().into_iter().map(|seen| seen.target).collect();
    targets.sort();
    targets.dedup();
    let mut outcomes = Vec::new();
    for target in targets {
        for (file, plan) in ledger.plan_removal(&target, &|_| true) {
            outcomes.push(match plan {
                Ok(step) => Outcome::done(step),
                Err(error) => Outcome::refused(&target, Some(file), &error.into()),
            });
        }
    }
    outcomes
}

/// bdr's own data, in the order of deletion.
enum Part {
    Lifeboat(Lifeboat),
    Repository(Box<Repository>),
    Vault,
    Cache,
    State,
    Configuration,
}

struct Piece {
    part: Part,
    path: PathBuf,
    bytes: u64,
    note: String,
    deleted: bool,
    /// Names in it that are not bdr's.
    stays: Vec<String>,
}

impl Piece {
    fn new(part: Part, path: &Path, note: &str) -> Self {
        Self {
            bytes: removal::bytes_in(path),
            part,
            path: path.to_path_buf(),
            note: note.to_owned(),
            deleted: false,
            stays: Vec::new(),
        }
    }

    fn word(&self) -> &'static str {
        match self.part {
            Part::Lifeboat(_) => "lifeboat",
            Part::Repository(_) => "repository",
            Part::Vault => "vault",
            Part::Cache => "cache",
            Part::State => "state",
            Part::Configuration => "configuration",
        }
    }

    fn row(&self, cx: &Context) -> Vec<String> {
        vec![
            format!("  {}", self.word()),
            cx.shown_absolute(&self.path),
            size(self.bytes),
            self.note.clone(),
        ]
    }

    fn delete(&mut self, cx: &Context, kept: Option<Id>) -> Result<(), Failure> {
        self.stays = match &self.part {
            Part::Lifeboat(lifeboat) => {
                lifeboat.remove()?;
                Vec::new()
            }
            Part::Repository(repo) => removal::repository(repo)?,
            Part::Vault => {
                let ids = vault_ids(&self.path).filter(|id| Some(*id) != kept);
                for id in ids {
                    // The lifeboat first, because it would restore the repository.
                    if let Some(lifeboats) = &cx.places.lifeboats {
                        removal::second_vault(lifeboats, id)?;
                    }
                    keychain::forget(&self.path.join(id.to_string()));
                }
                removal::vaults(&self.path, kept)?
            }
            Part::Cache => removal::cache(&self.path)?,
            Part::State => removal::state(&self.path)?,
            Part::Configuration => {
                removal::configuration(&self.path)?;
                Vec::new()
            }
        };
        self.deleted = true;
        Ok(())
    }
}

fn vault_ids(dir: &Path) -> impl Iterator<Item = Id> + use<> {
    let entries = bdr::disk::fsutil::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// bdr's data, and the repository that stays.
#[derive(Default)]
struct Belongings {
    pieces: Vec<Piece>,
    /// A repository whose place the user chose, and why it stays.
    kept: Option<(PathBuf, String)>,
    kept_id: Option<Id>,
}

impl Belongings {
    fn find(cx: &Context, confirmed: bool) -> Self {
        let places = &cx.places;
        let mut all = Self::default();
        let boats = places.lifeboats.as_deref().map(Lifeboat::all);
        for (lifeboat, about) in boats.unwrap_or_default() {
            let repository = about.repository.as_path();
            // Others may have a configuration of their own, and are not ours to delete.
            if about.config.as_path() == places.config || repository == places.repository {
                let dir = lifeboat.dir().to_path_buf();
                let whose = cx.shown_absolute(repository);
                let note = match repository.join("format.json").exists() {
                    true => format!("hard links to {whose}"),
                    false => format!("all that is left of {whose}"),
                };
                all.pieces
                    .push(Piece::new(Part::Lifeboat(lifeboat), &dir, &note));
            }
        }
        let dir = &places.repository;
        if dir.exists() {
            let opened = storage::choose(dir, None)
                .and_then(|storage| Repository::open(storage, &places.cache));
            match opened {
                Ok(repo) if confirmed => {
                    let number = repo.snapshot_names().map_or(0, |names| names.len());
                    let note = crate::ui::plural(number as u64, "snapshot");
                    let part = Part::Repository(Box::new(repo));
                    all.pieces.push(Piece::new(part, dir, &note));
                }
                Ok(repo) => {
                    all.kept_id = Some(repo.id());
                    let why = "you chose its place: it has to be confirmed by itself";
                    all.kept = Some((dir.clone(), why.to_owned()));
                }
                Err(error) => all.kept = Some((dir.clone(), error.to_string())),
            }
        }
        let vault = places.state.join("vault");
        for (part, path, note) in [
            (Part::Vault, &vault, "sealed values, which nothing else has"),
            (Part::Cache, &places.cache, ""),
            (Part::State, &places.state, ""),
            (Part::Configuration, &places.config, ""),
        ] {
            if path.symlink_metadata().is_ok() {
                all.pieces.push(Piece::new(part, path, note));
            }
        }
        if let Some(state) = all
            .pieces
            .iter_mut()
            .find(|p| matches!(p.part, Part::State))
        {
            state.bytes = state.bytes.saturating_sub(removal::bytes_in(&vault));
        }
        all
    }
}

/// Returns true if somebody chose the place of the repository.
fn is_named(cx: &Context) -> bool {
    let real = |path: &Path| canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    real(&cx.places.repository) != real(&cx.places.default_repository)
}

pub(crate) fn run(cx: &Context, args: &UninstallArgs) -> Result<u8, Failure> {
    // Without it nobody knows where the repository is.
    read_config(&cx.places.config, cx.home.as_deref())?;
    let mut entries = Entries::find(cx)?;
    let named = is_named(cx);
    let mut confirmed = !named;
    if let Some(dir) = &args.delete {
        confirmed = absolute(&cx.cwd, dir) == cx.places.repository;
        if !confirmed {
            let place = shell_word(&show(cx.places.repository.as_os_str()));
            return Err(Failure::usage(
                format!("`{}` is not the repository here", show(dir.as_os_str())),
                &format!("bdr uninstall --everything --delete {place}"),
            ));
        }
    }
    if args.everything && named && !confirmed && cx.ui.can_ask && !args.yes && !args.dry_run {
        let place = cx.shown_absolute(&cx.places.repository);
        confirmed = cx.places.repository.join("format.json").exists()
            && prompt::confirm(&format!("Delete the repository {place} too?"), false)?;
    }
    let mut all = match args.everything {
        true => Belongings::find(cx, confirmed),
        false => Belongings::default(),
    };
    let is_nothing = entries.rows(cx).is_empty() && all.pieces.is_empty();
    if args.dry_run || !args.yes || is_nothing {
        if !cx.ui.json {
            cx.ui.data(&listed(cx, &entries, &all))?;
        }
        let asks = !args.dry_run && !is_nothing;
        let goes = asks && cx.ui.can_ask && confirm(args.everything)?;
        if !goes {
            let refused = asks && !cx.ui.can_ask;
            let is_left = is_nothing && all.kept.is_some() && !args.dry_run;
            let code = match refused || is_left {
                true => exit::PARTIAL,
                false => exit::OK,
            };
            if cx.ui.json {
                tell_json(cx, code, args, &entries, &all, false)?;
            } else if asks {
                let command = command(cx, args);
                cx.ui.report(&match refused {
                    true => format!("Nothing was changed. Without a terminal: {command}\n"),
                    false => "Nothing was changed.\n".to_owned(),
                })?;
            }
            return Ok(code);
        }
    }
    entries.remove(cx, !args.everything)?;
    let mut code = exit::OK;
    if entries.has_refusal() {
        // The ledger has the originals of those files, so it stays until they are restored.
        code = exit::FAILURE;
    } else {
        for piece in &mut all.pieces {
            piece.delete(cx, all.kept_id)?;
        }
        let stays = all.pieces.iter().any(|piece| !piece.stays.is_empty());
        if all.kept.is_some() || stays {
            code = exit::PARTIAL;
        }
    }
    match cx.ui.json {
        true => tell_json(cx, code, args, &entries, &all, true)?,
        false => cx.ui.report(&done_words(cx, args, &entries, &all))?,
    }
    Ok(code)
}

fn confirm(everything: bool) -> Result<bool, Failure> {
    let question = match everything {
        true => "Remove and delete all of this? Nothing brings it back.",
        false => "Remove these?",
    };
    Ok(prompt::confirm(question, false)?)
}

/// Returns the command that does the same without asking.
fn command(cx: &Context, args: &UninstallArgs) -> String {
    let mut command = "bdr uninstall --yes".to_owned();
    if args.everything {
        command.push_str(" --everything");
        if is_named(cx) {
            let place = shell_word(&show(cx.places.repository.as_os_str()));
            command.push_str(&format!(" --delete {place}"));
        }
    }
    command
}

fn listed(cx: &Context, entries: &Entries, all: &Belongings) -> String {
    let mut text = String::new();
    let mut part = |title: &str, rows: &[Vec<String>], align: &str| {
        if !rows.is_empty() {
            text.push_str(&format!("{title}\n"));
            for line in table::table(rows, align) {
                text.push_str(&format!("{line}\n"));
            }
        }
    };
    part("Taken out of other programs:", &entries.rows(cx), "lll");
    let rows: Vec<Vec<String>> = all.pieces.iter().map(|piece| piece.row(cx)).collect();
    part("Deleted:", &rows, "llrl");
    if let Some((place, why)) = &all.kept {
        let place = cx.shown_absolute(place);
        text.push_str(&format!("Not deleted:\n  {place}\n  {why}\n"));
    }
    if text.is_empty() {
        text.push_str("bdr is in no other program.\n");
    }
    text
}

fn done_words(cx: &Context, args: &UninstallArgs, entries: &Entries, all: &Belongings) -> String {
    let mut text = String::new();
    for outcome in &entries.outcomes {
        if let Some((why, fix)) = &outcome.refused {
            let target = &outcome.target;
            text.push_str(&format!("Not taken out of {target}: {why}\n"));
            if let Some(fix) = fix {
                text.push_str(&format!("  fix: {fix}\n"));
            }
        }
    }
    if entries.has_refusal() {
        if args.everything {
            text.push_str("Nothing was deleted: do that first, then run this again.\n");
        }
        return text;
    }
    text.push_str(
        "bdr is in no other program any more. Running sessions keep their hooks until they end.\n",
    );
    for piece in all.pieces.iter().filter(|piece| !piece.stays.is_empty()) {
        let place = cx.shown_absolute(&piece.path);
        let names: Vec<String> = piece.stays.iter().map(|n| show(n.as_ref())).collect();
        text.push_str(&format!(
            "Not bdr's, so it stays in {place}: {}\n",
            names.join(", ")
        ));
    }
    if let Some((place, why)) = &all.kept {
        let place = cx.shown_absolute(place);
        text.push_str(&format!("The repository {place} stays: {why}\n"));
    }
    if !args.everything && cx.places.repository.exists() {
        let place = cx.shown_absolute(&cx.places.repository);
        text.push_str(&format!(
            "Backups stay in {place}. To delete them too: bdr uninstall --everything\n"
        ));
    }
    if let Some(program) = own_program() {
        let program = shell_word(&show(program.as_os_str()));
        text.push_str(&format!(
            "To remove the program: sh install.sh --uninstall, or rm {program}\n"
        ));
    }
    text
}

fn tell_json(
    cx: &Context,
    code: u8,
    args: &UninstallArgs,
    entries: &Entries,
    all: &Belongings,
    done: bool,
) -> Result<(), Failure> {
    let entry = |outcome: &Outcome| {
        let refused = outcome.refused.as_ref();
        RemovedEntry {
            file: outcome.file.as_deref().map(At::new),
            target: outcome.target.clone(),
            action: outcome.step.as_ref().map(|step| step.action.word()),
            error: refused.map(|(why, _)| why.clone()),
            fix: refused.and_then(|(_, fix)| fix.clone()),
        }
    };
    let piece = |piece: &Piece| DeletedPart {
        at: At::new(&piece.path),
        part: piece.word(),
        bytes: piece.bytes,
        deleted: piece.deleted,
        stays: piece.stays.clone(),
    };
    let kept = all.kept.iter();
    let data = UninstallDocument {
        done,
        everything: args.everything,
        entries: entries.outcomes.iter().map(entry).collect(),
        schedulers: entries.schedulers.clone(),
        deletes: all.pieces.iter().map(piece).collect(),
        kept: kept.map(|(path, why)| Note::new(path, why)).collect(),
        command: (!done).then(|| command(cx, args)),
    };
    cx.ui.document("uninstall", code, &data)?;
    Ok(())
}
