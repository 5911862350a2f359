//! `bdr remote`: the places outside of this machine.

use bdr::base::path::show;
use bdr::disk::store::{Location, Service, services};
use bdr::model::config::{Remote, edit};
use bdr::remote::prune::Pruner;
use clap::{Args, Subcommand};

use crate::app::config::{check_text, text, write};
use crate::app::context::{Context, variable};
use crate::app::credentials;
use crate::app::documents::{
    RemoteChangeDocument, RemoteDocument, RemoteServicesDocument, RemotesDocument,
    RetentionDocument,
};
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::levels;
use crate::app::secrets;
use crate::ui::table::table;
use crate::ui::when::ago;

mod add;
mod adopt;
mod keep;
mod key;
mod reset;
mod test;

/// Manage the places that backups are pushed to
///
/// A repository on the disk that it protects against is half a backup. A destination gets a copy of everything, encrypted before
/// it leaves this machine unless you say otherwise. Credentials are asked for, or read from variables; they are never in the
/// configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr remote add disk /mnt/usb/bdr
  bdr remote add nas sftp://me@nas/backups/bdr
  bdr remote add offsite 's3://bucket/laptop?region=eu-central-1'
  bdr remote test offsite
  bdr push")]
pub(crate) struct RemoteArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Add(add::AddArgs),
    /// List the destinations
    #[command(after_help = "Examples:\n  bdr remote list")]
    List,
    /// Show what is known of a destination
    #[command(after_help = "Examples:\n  bdr remote show offsite")]
    Show(NameArgs),
    Test(test::TestArgs),
    Key(key::KeyCommandArgs),
    /// Give a destination another name
    #[command(after_help = "Examples:\n  bdr remote rename offsite bucket")]
    Rename(RenameArgs),
    /// Forget a destination; what is there stays there
    #[command(after_help = "Examples:\n  bdr remote remove offsite")]
    Remove(NameArgs),
    Adopt(adopt::AdoptArgs),
    Reset(reset::ResetArgs),
    /// List the kinds of destinations, and which this bdr can reach
    #[command(after_help = "Examples:\n  bdr remote services")]
    Services,
}

#[derive(Debug, Args)]
struct NameArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Debug, Args)]
struct RenameArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// The new name
    #[arg(value_name = "NEW")]
    new: String,
}

pub(crate) fn run(cx: &Context, args: &RemoteArgs) -> Result<u8, Failure> {
    match &args.what {
        What::Add(args) => add::add(cx, args),
        What::List => list(cx),
        What::Show(args) => show_one(cx, &args.name),
        What::Test(args) => test::test(cx, args),
        What::Key(args) => key::run(cx, args),
        What::Rename(args) => rename(cx, &args.name, &args.new),
        What::Remove(args) => remove(cx, &args.name),
        What::Adopt(args) => adopt::adopt(cx, args),
        What::Reset(args) => reset::reset(cx, args),
        What::Services => list_services(cx),
    }
}

fn list(cx: &Context) -> Result<u8, Failure> {
    let known = cx.config.remotes.iter();
    let documents: Vec<RemoteDocument> = known.map(|remote| document(cx, remote)).collect();
    if cx.ui.json {
        let data = RemotesDocument { remotes: documents };
        cx.ui.document("remote.list", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    if documents.is_empty() {
        cx.ui.say("No destinations yet: bdr remote add NAME URL");
        return Ok(exit::OK);
    }
    let row = |remote: &RemoteDocument| {
        vec![
            remote.name.clone(),
            remote.url.clone(),
            if remote.encrypted {
                "encrypted"
            } else {
                "not encrypted"
            }
            .to_owned(),
            match remote.pushed {
                Some(at) => format!("pushed {}", ago(cx.now, at)),
                None => "nothing pushed".to_owned(),
            },
        ]
    };
    let rows: Vec<Vec<String>> = documents.iter().map(row).collect();
    cx.ui
        .data(&format!("{}\n", table(&rows, "llll").join("\n")))?;
    Ok(exit::OK)
}

/// Gathers what is known of a destination without asking it.
fn document(cx: &Context, remote: &Remote) -> RemoteDocument {
    let at = levels::last_push(cx, &remote.name);
    let last = levels::last_prune(cx, remote);
    let pruner = Pruner::of(remote, last.as_ref());
    let kept = Location::parse(&remote.url).ok();
    let kept = kept.map(|location| credentials::of(cx, remote, &location).1.word());
    RemoteDocument {
        name: remote.name.clone(),
        url: remote.url.clone(),
        encrypted: !remote.recipients.is_empty(),
        recipients: remote.recipients.clone(),
        limit: remote.limit,
        automatic: remote.automatic,
        credentials: kept.unwrap_or("provider"),
        level: levels::known(cx, remote).map(|known| known.probed.level),
        proved: levels::known(cx, remote).map(|known| known.at),
        pushed: at.as_ref().and_then(|at| at.pushed),
        snapshots: at.as_ref().map_or(0, |at| at.snapshots),
        bytes: at.as_ref().map_or(0, |at| at.bytes),
        error: at.and_then(|at| at.failed),
        retention: RetentionDocument::new(remote.keep.as_ref(), pruner, last.as_ref()),
    }
}

fn show_one(cx: &Context, name: &str) -> Result<u8, Failure> {
    let remote = cx.config.remote(name)?;
    let found = document(cx, remote);
    if cx.ui.json {
        cx.ui.document("remote.show", exit::OK, &found)?;
        return Ok(exit::OK);
    }
    let mut rows = vec![
        ("address", found.url.clone()),
        (
            "encryption",
            match found.encrypted {
                true => format!("to {}", found.recipients.join(", ")),
                false => "none: whoever can read the place can read the backups".to_owned(),
            },
        ),
        (
            "credentials",
            match found.credentials {
                "provider" => "the provider's own variables and files, if any".to_owned(),
                "file" => "a file that only you can read".to_owned(),
                word => word.to_owned(),
            },
        ),
        (
            "pushed",
            match found.pushed {
                Some(at) => format!(
                    "{}: {}, {}",
                    ago(cx.now, at),
                    crate::ui::plural(found.snapshots, "snapshot"),
                    bdr::base::units::size(found.bytes)
                ),
                None => format!("nothing yet: bdr push {}", show(name.as_ref())),
            },
        ),
        (
            "protection",
            match (found.level, found.proved) {
                (Some(level), Some(at)) => {
                    format!("{} (tried {})", level.words(), ago(cx.now, at))
                }
                _ => format!("not tried: bdr remote test {}", show(name.as_ref())),
            },
        ),
    ];
    if let Some((says, fix)) = secrets::warning(cx, remote) {
        rows.push(("key", format!("{says}: {fix}")));
    }
    rows.push(("keeps", keep::keeps(&found.retention)));
    rows.extend(keep::pruned(cx, &found.retention).map(|says| ("pruned", says)));
    if let Some(limit) = found.limit {
        rows.push(("limit", format!("{}/s", bdr::base::units::size(limit))));
    }
    if !found.automatic {
        rows.push(("automatic", "no: only by bdr push".to_owned()));
    }
    if let Some(error) = &found.error {
        rows.push(("last error", error.clone()));
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(title, value)| vec![title.to_owned(), value])
        .collect();
    cx.ui
        .data(&format!("{}\n", table(&rows, "ll").join("\n")))?;
    Ok(exit::OK)
}

fn rename(cx: &Context, old: &str, new: &str) -> Result<u8, Failure> {
    let remote = cx.config.remote(old)?;
    add::check_new_name(cx, new)?;
    let changed = edit::remove(&text(cx)?, &["remote", old])?;
    let renamed = Remote {
        name: new.to_owned(),
        ..remote.clone()
    };
    let changed = keep::entered(&add::entered(&changed, &renamed)?, &renamed)?;
    check_text(cx, &changed)?;
    // What is known first: without it, the next push would list everything there.
    levels::rename(cx, old, new)?;
    credentials::rename(cx, old, new)?;
    secrets::rename(cx, old, new)?;
    write(cx, &changed)?;
    let mut words = format!("{old} is called {new} now.\n");
    // Nobody else renames those.
    let location = Location::parse(&remote.url)?;
    for field in location.service.fields() {
        let [from, to] = [old, new].map(|name| credentials::variable_of(name, field));
        if variable(&from).is_some() {
            words.push_str(&format!("Rename the variable {from}, too: {to}\n"));
        }
    }
    changed_words(cx, new, &words)
}

fn remove(cx: &Context, name: &str) -> Result<u8, Failure> {
    let remote = cx.config.remote(name)?;
    let changed = edit::remove(&text(cx)?, &["remote", name])?;
    check_text(cx, &changed)?;
    write(cx, &changed)?;
    // What is known of pushes stays: it says whether another destination of that name is at the same
    // place.
    credentials::forget(cx, name)?;
    let mut words = format!(
        "{name} is no destination any more. What was pushed stays at {}.\n",
        remote.url
    );
    if let Some(place) = secrets::place_of(cx, name) {
        words.push_str(&format!("The key that opens it stays in {place}.\n"));
    }
    changed_words(cx, name, &words)
}

fn changed_words(cx: &Context, name: &str, words: &str) -> Result<u8, Failure> {
    if cx.ui.json {
        let name = name.to_owned();
        cx.ui
            .document("remote.change", exit::OK, &RemoteChangeDocument { name })?;
    } else {
        cx.ui.report(words)?;
    }
    Ok(exit::OK)
}

fn list_services(cx: &Context) -> Result<u8, Failure> {
    let built = services();
    if cx.ui.json {
        let data = RemoteServicesDocument::new(&built);
        cx.ui.document("remote.services", exit::OK, &data)?;
        return Ok(exit::OK);
    }
    let row = |service: &Service| {
        let has = match built.contains(service) {
            true => String::new(),
            false => format!(
                "not in this build (feature {})",
                service.feature().unwrap_or("?")
            ),
        };
        vec![service.form().to_owned(), has]
    };
    let rows: Vec<Vec<String>> = Service::ALL.iter().map(row).collect();
    cx.ui
        .data(&format!("{}\n", table(&rows, "ll").join("\n")))?;
    Ok(exit::OK)
}
