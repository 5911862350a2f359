//! `bdr privacy`: why something is sealed, what may be stored in the clear, and a new scan of what
//! is stored.

use std::path::PathBuf;

use bdr::base::path::os_to_bytes;
use bdr::base::units::size;
use bdr::care::rescan;
use bdr::model::config::edit as text_edit;
use bdr::privacy::{self, Treatment, structure};
use bdr::protect::backup::Level;
use bdr::protect::staging::settle;
use clap::{Args, Subcommand};

use super::scan;
use crate::app::config;
use crate::app::context::Context;
use crate::app::documents::{AllowDocument, RescanDocument, WhyDocument, WhyFinding};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::remotes;
use crate::ui::{self, plural, prompt};

/// See why something is sealed, allow it, or rescan old snapshots
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr privacy why ~/.claude.json
  bdr privacy allow 4f1d2c3b4a596877 --reason 'a key of the test server'
  bdr privacy rescan
  bdr privacy rescan --purge")]
pub(crate) struct PrivacyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what was found in a file, under which key, and how a backup treats it; never a value
    #[command(after_help = "Examples:\n  bdr privacy why .env")]
    Why {
        /// A file
        #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Store a value or a file unsealed from now on
    #[command(
        after_help = "Examples:\n  bdr privacy allow 4f1d2c3b4a596877 --reason 'a test key'\n  bdr privacy allow docs/example.env --reason 'made up'"
    )]
    Allow {
        /// The fingerprint of a value (`bdr privacy why` shows it), or a path; `*` stands for anything
        #[arg(value_name = "FINGERPRINT|PATH")]
        what: String,
        /// Why, for readers of the configuration
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Seal again what was allowed
    #[command(after_help = "Examples:\n  bdr privacy revoke 4f1d2c3b4a596877")]
    Revoke {
        /// As it was given to `allow`
        #[arg(value_name = "FINGERPRINT|PATH")]
        what: String,
    },
    /// Check everything that is stored against the current rules
    #[command(after_help = "Examples:\n  bdr privacy rescan\n  bdr privacy rescan --purge --yes")]
    Rescan {
        /// Seal what is found in every snapshot, delete the unsealed copies, and store in the clear what is sealed for nothing
        #[arg(long)]
        purge: bool,
        /// Do not ask
        #[arg(long, short, requires = "purge")]
        yes: bool,
    },
}

pub(crate) fn run(cx: &Context, args: &PrivacyArgs) -> Result<u8, Failure> {
    match &args.command {
        Command::Why { file } => why(cx, file),
        Command::Allow { what, reason } => allow(cx, what, Some(reason)),
        Command::Revoke { what } => allow(cx, what, None),
        Command::Rescan { purge, yes } => look_again(cx, *purge, *yes),
    }
}

fn why(cx: &Context, file: &std::path::Path) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let path = bdr::base::path::absolute(&cx.cwd, file);
    let bytes = std::fs::read(&path).map_err(|e| bdr::Error::io("read", &path, e))?;
    let name = os_to_bytes(path.as_os_str());
    let all = privacy::examine(&name, &bytes, repo.privacy_rules());
    let mut found = all.clone();
    let through = (repo.published()).let_through(&path, &bytes, repo.privacy_rules(), &mut found);
    let format =
        structure::format_of(&name[name.iter().rposition(|b| *b == b'/').map_or(0, |p| p + 1)..]);
    let leaves = format
        .and_then(|f| structure::leaves(f, &bytes))
        .unwrap_or_default();
    let mut rows = Vec::new();
    let mut list = Vec::new();
    for finding in &all.findings {
        let public = through.iter().find(|one| one.finding == *finding);
        let public = public.map(|one| one.place.to_string());
        let line = memchr::memchr_iter(b'\n', &bytes[..finding.range.start]).count() + 1;
        let key = leaves
            .iter()
            .find(|l| l.outer.start <= finding.range.start && finding.range.end <= l.outer.end)
            .map(structure::Leaf::name)
            .unwrap_or_default();
        let fingerprint = repo.vault().fingerprint(&bytes[finding.range.clone()])?;
        let allowed = repo.privacy_rules().allows_value(&fingerprint);
        let kept = repo.vault().has(fingerprint);
        let what = match (finding.group, allowed, kept, &public) {
            (_, true, ..) => "let through",
            (.., Some(place)) => place,
            (privacy::Group::Secret, _, true, None) => "sealed, in the vault",
            (privacy::Group::Secret, _, false, None) => "to be sealed",
            _ => "seen",
        }
        .to_owned();
        let why = privacy::why(&bytes, finding);
        list.push(WhyFinding {
            line,
            kind: finding.kind,
            group: finding.group.as_str(),
            key: key.clone(),
            rule: why.rule.clone(),
            word: why.word.clone(),
            fingerprint: fingerprint.to_string(),
            allowed,
            in_vault: kept,
            published: public,
        });
        rows.push(vec![
            format!("line {line}"),
            finding.kind.to_owned(),
            match (&why.word, key.is_empty()) {
                (Some(word), true) => format!("{}: {word}", why.rule),
                (Some(word), false) => format!("{key}  ({}: {word})", why.rule),
                (None, true) => why.rule,
                (None, false) => format!("{key}  ({})", why.rule),
            },
            fingerprint.to_string(),
            what,
        ]);
    }
    if cx.ui.json {
        let data = WhyDocument::new(&path, &found.treatment, list);
        cx.ui.document("privacy-why", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    say_why(cx, &path, found.treatment, &rows)
}

fn say_why(
    cx: &Context,
    path: &std::path::Path,
    treatment: Treatment,
    rows: &[Vec<String>],
) -> Result<u8, Failure> {
    let mut text = format!(
        "{}: {}",
        cx.shown_absolute(path),
        scan::treatment(&treatment)
    );
    if let Treatment::Whole(why) = treatment {
        text.push_str(&format!(" ({why})"));
    }
    text.push('\n');
    for line in ui::table::table(rows, "lllll") {
        text.push_str(&format!("  {line}\n"));
    }
    cx.ui.data(&text)?;
    if let Some(sealed) = rows.iter().find(|row| row[4].contains("sealed")) {
        cx.ui.say(&format!(
            "No secret? bdr privacy allow {} --reason '…'",
            sealed[3]
        ));
    }
    Ok(exit::OK)
}

/// Adds to the list of allowed values and files, or removes from it.
fn allow(cx: &Context, what: &str, reason: Option<&str>) -> Result<u8, Failure> {
    let is_fingerprint = what.parse::<privacy::Fingerprint>().is_ok();
    let what = match is_fingerprint {
        true => what.to_owned(),
        false => {
            let path = bdr::base::path::absolute(&cx.cwd, std::path::Path::new(what));
            path.to_str()
                .ok_or_else(|| {
                    Failure::usage(
                        "the path must be UTF-8",
                        "name the directory above it, with `*`",
                    )
                })?
                .to_owned()
        }
    };
    let is_it = |entry: &String| privacy::Rules::allowed(entry) == what;
    let mut entries = cx.config.privacy.allow.clone();
    let there = entries.iter().any(is_it);
    match reason {
        Some(reason) if !there => {
            entries.push(format!("{what} # {}", reason.replace(['\n', '\r'], " ")));
        }
        Some(_) => {}
        None if there => entries.retain(|entry| !is_it(entry)),
        None => {
            return Err(Failure::usage(
                format!("`{what}` is not allowed now, so there is nothing to revoke"),
                "bdr config show lists what is allowed",
            ));
        }
    }
    let text = text_edit::set(&config::text(cx)?, &["privacy", "allow"], &entries)?;
    config::check_text(cx, &text)?;
    config::write(cx, &text)?;
    let says = match reason {
        Some(_) => "will be stored unsealed from the next backup on",
        None => {
            "will be sealed again from the next backup on; for older snapshots: bdr privacy rescan --purge"
        }
    };
    if cx.ui.json {
        let data = AllowDocument { allow: entries };
        cx.ui.document("privacy", exit::OK, &data)?;
    } else {
        cx.ui.report(&format!("{what} {says}.\n"))?;
    }
    Ok(exit::OK)
}

/// Asks whether snapshots may be rewritten.
fn may_purge(cx: &Context) -> Result<bool, Failure> {
    if !cx.ui.can_ask {
        return Err(Failure::usage(
            "this would rewrite snapshots, and there is no terminal to ask on",
            "bdr privacy rescan shows what would change; add --yes to do it",
        ));
    }
    let question = "Seal what is found in every snapshot, and delete the unsealed copies?";
    let may = prompt::confirm(question, false)?;
    if !may {
        cx.ui.warn("Nothing was changed.");
    }
    Ok(may)
}

/// Says what was not looked at, or not removed.
fn unseen(report: &rescan::RescanReport) -> String {
    let mut text = String::new();
    if report.skipped > 0 {
        text.push_str(&format!(
            "{} could not be checked (exit 3).\n",
            plural(report.skipped, "content")
        ));
    }
    if report.unfinished > 0 {
        text.push_str(&format!(
            "{} a call that was cut may have left in the repository, with anything in it, {} less than ten minutes old: run this again then (exit 3).\n",
            plural(report.unfinished, "file"),
            if report.unfinished == 1 { "is" } else { "are" }
        ));
    }
    text
}

fn look_again(cx: &Context, purge: bool, yes: bool) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    if purge && !yes && !may_purge(cx)? {
        return Ok(exit::PARTIAL);
    }
    if purge {
        cx.launch_lifeboat(repo.location());
        settle(&repo, Level::Best, cx.now, &cx.progress())?;
    }
    let before = repo.stored_bytes()?;
    let report = rescan::rescan(&repo, purge, cx.now, &cx.progress())?;
    let code = if report.skipped + report.unfinished > 0 {
        exit::PARTIAL
    } else {
        exit::OK
    };
    // What was found stands there as well, and is not removed from there.
    let pushed_to = match report.exposed.is_empty() {
        true => Vec::new(),
        false => remotes::pushed_to(cx, repo.id()),
    };
    if cx.ui.json {
        let data = RescanDocument::new(&report, purge, &pushed_to);
        cx.ui.document("privacy-rescan", code, &data)?;
        return Ok(code);
    }
    let mut text = String::new();
    for one in report.exposed.iter().take(50) {
        let kinds: Vec<&str> = one.kinds.keys().map(String::as_str).collect();
        text.push_str(&format!(
            "{}  in {}: {}\n",
            one.path,
            plural(one.snapshots, "snapshot"),
            kinds.join(", ")
        ));
    }
    let n = plural(report.exposed.len() as u64, "file");
    let looked = plural(report.checked, "content");
    text.push_str(&match (report.exposed.is_empty(), purge) {
        (true, _) => format!("Nothing to seal in {looked}.\n"),
        (false, false) => {
            format!("{n} would be sealed today, of {looked}: bdr privacy rescan --purge\n")
        }
        (false, true) => format!(
            "Sealed {n} in {}; rewrote {} of packs ({} before).\n",
            plural(report.rewritten, "snapshot"),
            report.removed_packs,
            size(before)
        ),
    });
    if !report.opened.is_empty() {
        let n = plural(report.opened.len() as u64, "file");
        text.push_str(&match purge {
            false => {
                format!("{n} sealed for nothing by today's rules: bdr privacy rescan --purge\n")
            }
            true => format!("{n} sealed for nothing stored in the clear.\n"),
        });
    }
    if !pushed_to.is_empty() {
        text.push_str(&format!(
            "What was pushed until now still has it, for whoever has the key: {}. {}\n",
            pushed_to.join(", "),
            match purge {
                true =>
                    "The next push replaces it, and the first one after a day deletes it: bdr push",
                false => "After a purge, the next push replaces it there",
            }
        ));
    }
    text.push_str(&unseen(&report));
    cx.ui.data(&text)?;
    Ok(code)
}
