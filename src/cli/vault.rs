//! `bdr vault`: the values that were taken out of snapshots.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bdr::base::error::IoContext as _;
use bdr::base::path::{absolute, show};
use bdr::disk::fsutil;
use bdr::disk::vault::{Exported, Imported, Parcel};
use bdr::repo::Repository;
use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use crate::app::context::{Context, variable};
use crate::app::documents::{VaultExportDocument, VaultImportDocument, VaultRotateDocument};
use crate::app::error::Failure;
use crate::app::exit;
use crate::ui::{count, plural, prompt};

use super::sources::expanded;

/// Manage the vault of sealed values
///
/// Secrets are not in the repository: their values are on this machine only. `export` carries them to another one, or to a safe
/// place, in a file for a passphrase.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bdr vault export ~/usb/bdr-vault.age
  bdr vault import ~/usb/bdr-vault.age     on the other machine
  bdr vault rotate")]
pub(crate) struct VaultArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write all values to a file, encrypted with a passphrase
    ///
    /// The file has the format of age (https://age-encryption.org), so `age -d FILE` opens it too. Keep it apart from the passphrase,
    /// and apart from this machine.
    #[command(after_help = "\
Examples:
  bdr vault export ~/usb/bdr-vault.age
  bdr vault export values.age --passphrase-file /run/secrets/bdr
  bdr vault export values.txt --armor      text, to print or to paste")]
    Export(ExportArgs),
    /// Add the values of such a file to this machine's vault
    ///
    /// Existing values stay as they are. Import before you restore: then files with secrets come back whole.
    #[command(
        after_help = "Examples:\n  bdr vault import ~/usb/bdr-vault.age\n  bdr vault import ~/usb/bdr-vault.age --dry-run"
    )]
    Import(ImportArgs),
    /// Re-encrypt all values with a new key, and erase the old one
    ///
    /// If this is interrupted, nothing is lost: run it again to continue.
    #[command(after_help = "Examples:\n  bdr vault rotate")]
    Rotate,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Write text instead of bytes
    #[arg(long)]
    armor: bool,
}

#[derive(Debug, Args)]
struct ImportArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Print what would be added; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The file
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Read the passphrase from the first line of this file (or set BDR_PASSPHRASE)
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    passphrase_file: Option<PathBuf>,
}

/// How long to wait for other processes that write.
const PATIENCE: Duration = Duration::from_secs(30);
/// How every file of age begins, in binary and in text form.
const AGE: [&[u8]; 2] = [
    b"age-encryption.org/v1\n",
    b"-----BEGIN AGE ENCRYPTED FILE-----",
];

pub(crate) fn run(cx: &Context, args: &VaultArgs) -> Result<u8, Failure> {
    match &args.command {
        Command::Export(args) => export(cx, args),
        Command::Import(args) => import(cx, args),
        Command::Rotate => rotate(cx),
    }
}

fn rotate(cx: &Context) -> Result<u8, Failure> {
    let repo = cx.repository()?;
    let values = repo.alone(PATIENCE, || repo.vault().rotate())?;
    if cx.ui.json {
        cx.ui
            .document("vault", exit::OK, &VaultRotateDocument { values })?;
    } else {
        let values = plural(values, "value");
        cx.ui
            .report(&format!("The vault has a new key: {values}.\n"))?;
    }
    Ok(exit::OK)
}

fn export(cx: &Context, args: &ExportArgs) -> Result<u8, Failure> {
    let file = absolute(&cx.cwd, &args.file.file);
    let repo = cx.repository()?;
    check_replaceable(&file)?;
    let passphrase = passphrase(cx, &args.file, true)?;
    let made = write(cx, &repo, &file, &passphrase, args.armor)?;
    let code = match made.unreadable {
        0 => exit::OK,
        _ => exit::PARTIAL,
    };
    if cx.ui.json {
        let data = VaultExportDocument::new(&file, &made);
        cx.ui.document("vault.export", code, &data)?;
    } else {
        cx.ui.report(&exported_words(cx, &file, &made))?;
    }
    Ok(code)
}

/// Makes sure that only an earlier export can be overwritten: one wrong path must not cost a file.
fn check_replaceable(file: &Path) -> Result<(), Failure> {
    let Ok(there) = std::fs::read(file) else {
        return Ok(());
    };
    if AGE.iter().any(|begin| there.starts_with(begin)) {
        return Ok(());
    }
    let message = format!("`{}` exists and is not an export", show(file.as_os_str()));
    Err(Failure::usage(message, "name a new file"))
}

fn write(
    cx: &Context,
    repo: &Repository,
    file: &Path,
    passphrase: &str,
    armor: bool,
) -> Result<Exported, Failure> {
    let made = repo.vault().export(repo.id(), passphrase, armor)?;
    fsutil::write_atomic(file, &made.bytes, 0o600)?;
    // If this note cannot be written, `bdr status` keeps asking for an export. That does no harm.
    let _ = repo.vault().note_exported(&made.fingerprints);
    let _ = cx.journal().update(|memory| memory.exported = Some(cx.now));
    Ok(made)
}

fn exported_words(cx: &Context, file: &Path, made: &Exported) -> String {
    let (values, place) = (plural(made.values, "value"), cx.shown_absolute(file));
    let mut text = format!(
        "Exported {values} to {place}. On the other machine: bdr vault import FILE\nWithout the passphrase nobody can open it, you included.\n"
    );
    if made.unreadable > 0 {
        let lost = plural(made.unreadable, "value");
        text.push_str(&format!(
            "Not in it: {lost} that this machine cannot read any more\n"
        ));
    }
    text
}

/// Asks at the end of `bdr init` whether to export, if this machine has the only copy of some
/// values.
pub(super) fn offer_export(cx: &Context, repo: &Repository) -> Result<(), Failure> {
    let only_here = repo.vault().only_here();
    if only_here == 0 || cx.ui.json {
        return Ok(());
    }
    let values = plural(only_here, "secret value");
    if !cx.ui.can_ask {
        let says =
            format!("Only on this machine: {values}. For another one: bdr vault export FILE\n");
        return Ok(cx.ui.report(&says)?);
    }
    let question =
        format!("Not in the backup, but only on this machine: {values}. Export to a file now?");
    if !prompt::confirm(&question, false)? {
        return Ok(cx.ui.report("Later: bdr vault export FILE\n")?);
    }
    let file = prompt::line("File (best on another disk)", "~/bdr-vault.age")?;
    let file = expanded(cx, file.trim().as_ref());
    check_replaceable(&file)?;
    let passphrase = Zeroizing::new(prompt::passphrase(true)?);
    let made = write(cx, repo, &file, &passphrase, false)?;
    Ok(cx.ui.report(&exported_words(cx, &file, &made))?)
}

fn import(cx: &Context, args: &ImportArgs) -> Result<u8, Failure> {
    let file = absolute(&cx.cwd, &args.file.file);
    let bytes = std::fs::read(&file).context("read", &file)?;
    let passphrase = passphrase(cx, &args.file, false)?;
    let parcel = Parcel::open(&bytes, &passphrase)?;
    let vault = cx.vault(parcel.repository);
    let found = vault.compare(&parcel)?;
    let mut asked = false;
    let mut apply = !args.dry_run && (args.yes || cx.ui.can_ask || found.added == 0);
    if apply && !args.yes && found.added > 0 {
        asked = true;
        cx.ui.warn(&imported_words(&found));
        if !prompt::confirm(&format!("Add {}?", plural(found.added, "value")), true)? {
            cx.ui.warn("Nothing was changed.");
            return Ok(exit::INTERRUPTED);
        }
    }
    if apply {
        vault.import(&parcel)?;
    }
    apply &= found.added > 0;
    let refused = !args.dry_run && !apply && found.added > 0;
    let code = match refused || !found.differing.is_empty() {
        true => exit::PARTIAL,
        false => exit::OK,
    };
    if cx.ui.json {
        let data = VaultImportDocument::new(parcel.repository, &found, apply);
        cx.ui.document("vault.import", code, &data)?;
        return Ok(code);
    }
    let mut text = match asked {
        true => String::new(),
        false => imported_words(&found) + "\n",
    };
    text.push_str(match (apply, refused) {
        (true, _) => "Imported.\n",
        (false, true) => "Nothing was changed. Without a terminal, add --yes\n",
        (false, false) => "Nothing was changed.\n",
    });
    cx.ui.report(&text)?;
    Ok(code)
}

fn imported_words(found: &Imported) -> String {
    let mut text = format!(
        "{} new, {} here already.",
        plural(found.added, "value"),
        count(found.known)
    );
    if !found.differing.is_empty() {
        let names: Vec<String> = found
            .differing
            .iter()
            .map(|one| hex::encode(one.0))
            .collect();
        text.push_str(&format!(
            "\nThis machine has others under these names, and keeps them: {}",
            names.join(", ")
        ));
    }
    text
}

/// Reads the passphrase from a file, from the environment, or from the terminal.
fn passphrase(cx: &Context, args: &FileArgs, new: bool) -> Result<Zeroizing<String>, Failure> {
    let read = |path: &Path| -> Result<Zeroizing<String>, Failure> {
        let text = std::fs::read_to_string(path).context("read", path)?;
        let text = Zeroizing::new(text);
        Ok(Zeroizing::new(
            text.lines().next().unwrap_or_default().to_owned(),
        ))
    };
    let given = match &args.passphrase_file {
        Some(path) => read(&absolute(&cx.cwd, path))?,
        None => match variable("BDR_PASSPHRASE").and_then(|value| value.into_string().ok()) {
            Some(value) => Zeroizing::new(value),
            None if cx.ui.can_ask => Zeroizing::new(prompt::passphrase(new)?),
            None => {
                return Err(Failure::usage(
                    "there is no terminal to ask for the passphrase",
                    "--passphrase-file FILE, or BDR_PASSPHRASE",
                ));
            }
        },
    };
    match given.is_empty() {
        true => Err(Failure::usage(
            "the passphrase is empty",
            "--passphrase-file FILE",
        )),
        false => Ok(given),
    }
}
