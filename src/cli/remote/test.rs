//! `bdr remote test`.

use bdr::disk::store::Location;
use bdr::remote::level::{self, Attempt, Level, Probed};
use clap::Args;

use crate::app::context::Context;
use crate::app::credentials;
use crate::app::documents::RemoteTestDocument;
use crate::app::error::Failure;
use crate::app::exit;
use crate::app::levels;
use crate::app::remotes::Far;
use crate::app::secrets;
use crate::ui::table::table;

/// Try what a destination allows this machine to do
///
/// With this machine's own credentials, as a thief would: it writes an object, then tries to replace and to delete it. The best
/// answer is no. What was found out is part of `bdr status`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr remote test offsite
  bdr remote test offsite --policy      print the policy that makes a bucket of AWS add-only")]
pub(crate) struct TestArgs {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// Print a policy to paste at the provider; try nothing
    #[arg(long)]
    policy: bool,
}

pub(super) fn test(cx: &Context, args: &TestArgs) -> Result<u8, Failure> {
    let remote = cx.config.remote(&args.name)?;
    let location = Location::parse(&remote.url)?;
    let policy = level::policy(&location);
    if args.policy {
        let Some(policy) = policy else {
            let advice = level::advice(&location).unwrap_or("bdr knows no way there");
            let message = format!("there is no policy to paste for {}", args.name);
            return Err(Failure::usage(message, advice));
        };
        cx.ui.data(&policy)?;
        return Ok(exit::OK);
    }
    let far = Far {
        remote: remote.clone(),
    };
    let store = far.store(cx)?;
    let probed = level::probe(&*store, &args.name)
        .map_err(|error| credentials::advised(cx, remote, error.into()))?;
    levels::note(cx, remote, &probed)?;
    let code = match probed.level {
        Level::Neither => exit::DAMAGED,
        _ => exit::OK,
    };
    if cx.ui.json {
        let data = RemoteTestDocument {
            name: args.name.clone(),
            level: probed.level,
            create: probed.create,
            replace: probed.replace,
            delete: probed.delete,
            listed: probed.is_listed,
            left: probed.left.clone(),
            policy,
        };
        cx.ui.document("remote.test", code, &data)?;
        return Ok(code);
    }
    let mut text = words(&args.name, &location, &probed);
    if let Some((says, fix)) = secrets::warning(cx, remote) {
        text.push_str(&format!("Also, {says}: {fix}\n"));
    }
    cx.ui.report(&text)?;
    Ok(code)
}

fn words(name: &str, location: &Location, probed: &Probed) -> String {
    let says = |attempt: Attempt| match attempt {
        Attempt::Refused => "refused",
        Attempt::Kept => "only hides it: the older version stays",
        Attempt::Done => "possible",
        Attempt::Unsupported => "the service has no such condition",
    };
    let rows = [
        (
            "create over an object, if there is none",
            says(probed.create),
        ),
        ("replace an object", says(probed.replace)),
        ("delete an object", says(probed.delete)),
    ];
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|(what, says)| vec![format!("  {what}"), (*says).to_owned()])
        .collect();
    let level = probed.level;
    let mut text = format!(
        "{name}: {}; {}.\n{}\n",
        level.words(),
        level.meaning(),
        table(&rows, "ll").join("\n")
    );
    if !probed.is_listed {
        text.push_str("A listing did not have the object right away; bdr does not rely on that.\n");
    }
    if let Some(left) = &probed.left {
        text.push_str(&format!(
            "The object that this was tried with stays: {left}\n"
        ));
    }
    if level > Level::AddOnly
        && let Some(advice) = level::advice(location)
    {
        text.push_str(&format!("Better: {}\n", advice.replace("NAME", name)));
    }
    text
}
