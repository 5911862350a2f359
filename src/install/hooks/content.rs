//! The wanted content of a file with bdr's part in it, and its original content.

use std::path::{Path, PathBuf};

use super::ledger::{Original, torn};
use super::{
    Form, Ledger, Stands, Wanted, agents, at_file, block, deploy, git, hex_of, is_own, json,
    text_of,
};
use crate::base::error::{Error, Result};
use crate::base::path::show;

impl Ledger {
    /// Returns the wanted content of a file, and where an existing hook is moved.
    pub(super) fn content(
        &self,
        wanted: &Wanted,
        stands: &Stands,
        old: &[u8],
    ) -> Result<(Vec<u8>, Option<PathBuf>)> {
        let file = &wanted.file;
        let after = match &wanted.form {
            Form::Settings { host, entries } => {
                let text = text_of(old, file)?;
                let beside = agents::beside(*host);
                at_file(file, json::add(&text, host.word(), entries, &beside))?.into_bytes()
            }
            Form::Block(block) => block::add(old, block).ok_or_else(|| torn(file))?,
            Form::Own(text) => {
                let is_known = self.edit(wanted.target.word(), &stands.real).is_some();
                if stands.bytes.is_some() && !is_known && !is_own(old) {
                    let shown = show(file.as_os_str());
                    let message = format!("`{shown}` exists already and is not bdr's");
                    return Err(Error::invalid(message, Some("move it away first")));
                }
                text.clone().into_bytes()
            }
            Form::Shim { script, aside } => {
                let foreign = stands.bytes.is_some() && !is_own(old);
                return shim(file, script, aside, old, foreign);
            }
            Form::Scripts { manager, checks } => {
                let text = text_of(old, file)?;
                at_file(file, deploy::add(&text, manager, *checks))?.into_bytes()
            }
            Form::Server(client, entry) => {
                let text = text_of(old, file)?;
                at_file(file, client.add(&text, entry))?.into_bytes()
            }
        };
        Ok((after, None))
    }

    /// Returns the file before bdr's first edit, as far as it is known.
    pub(super) fn original(
        &self,
        wanted: &Wanted,
        stands: &Stands,
        old: &[u8],
    ) -> Option<Original> {
        // Gone since, as after an undo: a missing file is not an empty one.
        if stands.bytes.is_none() {
            return Some(Original(None));
        }
        let word = wanted.target.word();
        let edit = self.edit(word, &stands.real)?;
        if let Some(kept) = Some(edit)
            .filter(|edit| hex_of(old) == edit.after)
            .and_then(|edit| self.kept(edit))
        {
            return Some(kept);
        }
        // Edited around since: the best we know is the file without bdr's part.
        let kind = wanted.form.kind();
        let left = self.without(kind, word, &stands.real, old).ok()?;
        Some(Original(left.filter(|left| edit.keeps(kind, left))))
    }
}

/// Decides on a git hook. Somebody else's is moved aside, and bdr's hook runs it; if that is
/// impossible, it stays.
fn shim(
    file: &Path,
    script: &str,
    aside: &Path,
    old: &[u8],
    foreign: bool,
) -> Result<(Vec<u8>, Option<PathBuf>)> {
    let shown = show(file.as_os_str());
    if !foreign {
        return Ok((script.as_bytes().to_vec(), None));
    }
    if git::moved_to(file).is_some_and(|(_, runs)| runs) {
        // Its replacement runs bdr's first, so there is nothing to do.
        return Ok((old.to_vec(), None));
    }
    if aside.symlink_metadata().is_ok() {
        return Err(Error::invalid(
            format!(
                "`{shown}` is there, and so is `{}`: another program has replaced bdr's hook",
                show(aside.as_os_str())
            ),
            Some("bdr hooks uninstall git; then remove the second one if you no longer need it"),
        ));
    }
    if let Some(why) = git::cannot_move(file, old) {
        return Err(Error::invalid(
            format!("there is a hook at `{shown}` that bdr cannot run as git does: {why}"),
            Some("it stays as it is; add `bdr hook git EVENT </dev/null || true` to it by hand"),
        ));
    }
    Ok((script.as_bytes().to_vec(), Some(aside.to_path_buf())))
}
