//! The record of what bdr wrote into files of other programs: with it, uninstalling leaves them as
//! they were.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    Action, Form, Kind, Standing, Step, Wanted, at_file, block, deploy, git, hex_of, is_own, json,
    look, look_at_hook, servers, sessions, text_of,
};
use crate::base::error::{Error, IoContext as _, Result};
use crate::base::path::{RawName, show};
use crate::disk::fsutil;

#[derive(Debug, Clone)]
pub(super) struct Original(pub(super) Option<Vec<u8>>);

/// One edit that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Edit {
    target: String,
    file: RawName,
    kind: Kind,
    /// SHA-256 of the file before; `None` if there was none.
    before: Option<String>,
    /// SHA-256 of the file after.
    pub(super) after: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aside: Option<RawName>,
    /// Directories created for it, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    made: Vec<RawName>,
    program: RawName,
    version: String,
    time: DateTime<Utc>,
}

impl Edit {
    /// Returns false if nothing is left of a file that bdr made.
    pub(super) fn keeps(&self, kind: Kind, left: &[u8]) -> bool {
        self.before.is_some() || !is_nothing(kind, left)
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Manifest {
    version: u32,
    edits: Vec<Edit>,
}

/// An edit, for people.
#[derive(Debug, Clone)]
pub struct Seen {
    pub target: String,
    pub file: PathBuf,
    pub program: PathBuf,
    pub standing: Standing,
    pub time: DateTime<Utc>,
    pub version: String,
}

/// What was edited, and the original files, in a directory of its own.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    manifest: Manifest,
}

/// The version recorded with an edit.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Ledger {
    /// Reads what was edited.
    ///
    /// # Errors
    /// It cannot be read: then we do not know what is bdr's, and nothing may count as nobody's.
    pub fn open(dir: &Path) -> Result<Self> {
        let file = dir.join("manifest.json");
        let manifest = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Error::invalid(
                    format!("`{}` is damaged: {error}", show(file.as_os_str())),
                    Some("move it away; then bdr hooks install starts fresh"),
                )
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Manifest::default(),
            Err(error) => return Err(error).context("read", &file),
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            manifest,
        })
    }

    pub(super) fn edit(&self, target: &str, file: &Path) -> Option<&Edit> {
        let same = |edit: &&Edit| edit.target == target && edit.file.as_path() == file;
        self.manifest.edits.iter().find(same)
    }

    /// Returns the original of a file, if it is kept.
    pub(super) fn kept(&self, edit: &Edit) -> Option<Original> {
        match &edit.before {
            None => Some(Original(None)),
            Some(hex) => {
                let bytes = std::fs::read(self.dir.join(hex)).ok()?;
                (hex_of(&bytes) == *hex).then_some(Original(Some(bytes)))
            }
        }
    }

    /// Plans the step that puts the wanted content into place.
    ///
    /// # Errors
    /// bdr may not edit the file, or it is not what the host documents.
    pub fn plan(&self, wanted: &Wanted) -> Result<Step> {
        let word = wanted.target.word();
        let fresh = match wanted.form {
            Form::Shim { .. } => 0o755,
            _ => 0o644,
        };
        let file = &wanted.file;
        let stands = match &wanted.form {
            // A hook that is a symlink is put aside as it is.
            Form::Shim { .. } => look_at_hook(file)?,
            _ => look(file, fresh)?,
        };
        let old = stands.bytes.as_deref().unwrap_or_default();
        let (after, aside) = self.content(wanted, &stands, old)?;
        let known = self.edit(word, &stands.real);
        let unchanged = stands.bytes.as_deref() == Some(&after[..]) && aside.is_none();
        let has_part = known.is_some() || is_own(old);
        let original = self.original(wanted, &stands, old);
        Ok(Step {
            target: word.to_owned(),
            key: stands.real.clone(),
            file: stands.real,
            action: match (&stands.bytes, has_part) {
                (Some(_), _) if unchanged => Action::Keep,
                (None, _) => Action::Create,
                (Some(_), true) if aside.is_none() => Action::Update,
                (Some(_), _) => Action::Add,
            },
            mode: match aside {
                Some(_) => fresh,
                None => stands.mode,
            },
            before: stands.bytes,
            after: Some(after),
            aside,
            kind: wanted.form.kind(),
            program: wanted.program.clone(),
            original,
            wanted: Some(wanted.clone()),
        })
    }

    /// Applies a step, and records it.
    ///
    /// # Errors
    /// The file cannot be written; it is unchanged.
    pub fn apply(&mut self, step: &Step, now: DateTime<Utc>) -> Result<()> {
        let again = self.planned_again(step)?;
        let step = again.as_ref().unwrap_or(step);
        let known = self.edit(&step.target, &step.key).cloned();
        if matches!(step.action, Action::Remove | Action::Delete) {
            return self.take_out(step, known.as_ref());
        }
        let Some(after) = &step.after else {
            return Ok(());
        };
        if step.action == Action::Keep && known.is_some() {
            // Already as it should be, and of this version: only record it.
            let edits = self.manifest.edits.iter_mut();
            for edit in edits.filter(|e| e.target == step.target && e.file.as_path() == step.key) {
                edit.program = RawName::from(&*step.program);
                VERSION.clone_into(&mut edit.version);
            }
            return self.save();
        }
        fsutil::create_dir_private(&self.dir)?;
        let before = match (&step.original, step.aside.is_some()) {
            (_, true) => None,
            (Some(Original(bytes)), _) => bytes.clone(),
            (None, _) => step.before.clone(),
        };
        if let Some(before) = &before {
            fsutil::write_atomic(&self.dir.join(hex_of(before)), before, 0o600)?;
        }
        let made = match step.file.parent() {
            Some(dir) => missing(dir),
            None => Vec::new(),
        };
        let edit = Edit {
            target: step.target.clone(),
            file: RawName::from(&*step.file),
            kind: step.kind,
            before: before.as_deref().map(hex_of),
            after: hex_of(after),
            aside: step
                .aside
                .as_deref()
                .map(RawName::from)
                .or_else(|| known.as_ref()?.aside.clone()),
            made: known.as_ref().map_or_else(
                || made.iter().map(|dir| RawName::from(&**dir)).collect(),
                |known| known.made.clone(),
            ),
            program: RawName::from(&*step.program),
            version: VERSION.to_owned(),
            time: now,
        };
        // Record it first: an entry for a missing edit does no harm when uninstalling.
        self.forget(&step.target, &step.key);
        self.manifest.edits.push(edit);
        self.save()?;
        if let Some(dir) = step.file.parent() {
            fsutil::create_dir_private(dir)?;
        }
        if let Some(aside) = &step.aside {
            fsutil::rename(&step.file, aside).context("rename", &step.file)?;
        }
        if step.action == Action::Keep {
            return Ok(());
        }
        let written = fsutil::write_atomic(&step.file, after, step.mode);
        if written.is_err()
            && let Some(aside) = &step.aside
        {
            let _ = fsutil::rename(aside, &step.file);
        }
        written
    }

    /// Plans a step anew if its file is no longer what it was planned for: a step of another target
    /// may have come first, and what it wrote would be lost.
    fn planned_again(&self, step: &Step) -> Result<Option<Step>> {
        if step.kind == Kind::Shim || std::fs::read(&step.file).ok() == step.before {
            return Ok(None);
        }
        match (&step.wanted, self.edit(&step.target, &step.key)) {
            (Some(wanted), _) => self.plan(wanted).map(Some),
            (None, Some(edit)) => self.removal(edit).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Plans the removal of bdr's part for `target`, in files for which `wanted` is true; or says
    /// why that is impossible.
    pub fn plan_removal(
        &self,
        target: &str,
        wanted: &dyn Fn(&Path) -> bool,
    ) -> Vec<(PathBuf, Result<Step>)> {
        let edits = self.manifest.edits.iter();
        edits
            .filter(|edit| edit.target == target && wanted(edit.file.as_path()))
            .map(|edit| (edit.file.as_path().to_path_buf(), self.removal(edit)))
            .collect()
    }

    fn removal(&self, edit: &Edit) -> Result<Step> {
        let mut file = edit.file.as_path();
        let moved = git::moved_to(file).map(|(moved, _)| moved);
        if edit.kind == Kind::Shim
            && let Some(moved) = &moved
            && !is_own(&std::fs::read(file).unwrap_or_default())
        {
            file = moved;
        }
        let stands = match edit.kind {
            Kind::Shim => look_at_hook(file)?,
            _ => look(file, 0o644)?,
        };
        let aside = edit
            .aside
            .as_ref()
            .map(|aside| aside.as_path().to_path_buf())
            .filter(|aside| aside.symlink_metadata().is_ok());
        let after = match &stands.bytes {
            None => None,
            Some(bytes) if hex_of(bytes) == edit.after => match self.kept(edit) {
                Some(Original(original)) => original,
                None => self.without(edit.kind, &edit.target, file, bytes)?,
            },
            Some(bytes) => {
                let left = self.without(edit.kind, &edit.target, file, bytes)?;
                left.filter(|left| edit.keeps(edit.kind, left))
            }
        };
        let aside = aside.filter(|_| after.is_none());
        Ok(Step {
            target: edit.target.clone(),
            key: edit.file.as_path().to_path_buf(),
            file: stands.real,
            action: match (&stands.bytes, &after) {
                (None, _) if aside.is_none() => Action::Keep,
                (_, None) => Action::Delete,
                (before, after) if before == after => Action::Keep,
                _ => Action::Remove,
            },
            mode: stands.mode,
            before: stands.bytes,
            after,
            aside,
            kind: edit.kind,
            program: edit.program.as_path().to_path_buf(),
            original: None,
            wanted: None,
        })
    }

    /// Treats a removal that changes nothing as done: the file has nothing of bdr's any more.
    ///
    /// # Errors
    /// The manifest cannot be written.
    pub fn drop_edit(&mut self, step: &Step) -> Result<()> {
        self.forget(&step.target, &step.key);
        self.save()
    }

    fn take_out(&mut self, step: &Step, known: Option<&Edit>) -> Result<()> {
        if let Some(known) = known {
            self.rewrite_others(step, known)?;
        }
        match &step.after {
            Some(after) => fsutil::write_atomic(&step.file, after, step.mode)?,
            None => match &step.aside {
                // In one step, so that there is a hook at all times.
                Some(aside) => fsutil::rename(aside, &step.file).context("rename", aside)?,
                None => fsutil::remove_file(&step.file).context("remove", &step.file)?,
            },
        }
        self.forget(&step.target, &step.key);
        for dir in known.iter().flat_map(|edit| &edit.made) {
            // Keep it if somebody else uses it by now.
            fsutil::remove_empty_dir(dir.as_path());
            let inside = |edit: &&mut Edit| edit.file.as_path().starts_with(dir.as_path());
            // If that is another edit, it goes with the last of them.
            if dir.as_path().exists()
                && let Some(edit) = self.manifest.edits.iter_mut().find(inside)
            {
                edit.made.push(dir.clone());
            }
        }
        self.save()
    }

    /// Makes the other edits of a file say that this one never was: they began with what it had
    /// written, and would bring that back.
    fn rewrite_others(&mut self, step: &Step, gone: &Edit) -> Result<()> {
        let file = gone.file.as_path();
        let is_other = |edit: &Edit| edit.target != gone.target && edit.file.as_path() == file;
        // What the file was with the edit, and without.
        let mut without: Vec<(String, Option<Vec<u8>>)> = Vec::new();
        if let Some(Original(before)) = self.kept(gone) {
            without.push((gone.after.clone(), before));
        }
        if let Some(before) = &step.before {
            without.push((hex_of(before), step.after.clone()));
        }
        for edit in self.manifest.edits.iter().filter(|edit| is_other(edit)) {
            if let Some(Original(Some(bytes))) = self.kept(edit)
                && let Ok(left) = self.without(gone.kind, &gone.target, file, &bytes)
            {
                without.push((hex_of(&bytes), left));
            }
        }
        let find = |hex: &str| without.iter().find(|(with, _)| with == hex);
        for edit in self.manifest.edits.iter_mut().filter(|edit| is_other(edit)) {
            if let Some((_, left)) = edit.before.as_deref().and_then(find) {
                if let Some(left) = left {
                    fsutil::write_atomic(&self.dir.join(hex_of(left)), left, 0o600)?;
                }
                edit.before = left.as_deref().map(hex_of);
            }
            if let Some((_, Some(left))) = find(&edit.after) {
                edit.after = hex_of(left);
            }
        }
        Ok(())
    }

    /// Returns a file without bdr's part; `None` if nothing is left.
    pub(super) fn without(
        &self,
        kind: Kind,
        target: &str,
        file: &Path,
        bytes: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        Ok(match kind {
            Kind::Settings => {
                let text = text_of(bytes, file)?;
                Some(at_file(file, json::remove(&text, target))?.into_bytes())
            }
            Kind::Block => {
                let name = sessions::block_name(target);
                Some(block::remove(bytes, &name).ok_or_else(|| torn(file))?)
            }
            // Another program has replaced it.
            Kind::Own | Kind::Shim => (!is_own(bytes)).then(|| bytes.to_vec()),
            Kind::Scripts => {
                let text = text_of(bytes, file)?;
                Some(at_file(file, deploy::remove(&text))?.into_bytes())
            }
            Kind::Server => {
                let text = text_of(bytes, file)?;
                match servers::Client::parse(target) {
                    Some(client) => Some(at_file(file, client.remove(&text))?.into_bytes()),
                    None => Some(bytes.to_vec()),
                }
            }
        })
    }

    fn forget(&mut self, target: &str, file: &Path) {
        let other = |edit: &Edit| edit.target != target || edit.file.as_path() != file;
        self.manifest.edits.retain(other);
    }

    fn save(&self) -> Result<()> {
        let manifest = Manifest {
            version: 1,
            ..self.manifest.clone()
        };
        fsutil::create_dir_private(&self.dir)?;
        // Only names, numbers and times: cannot fail.
        let json = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
        fsutil::write_atomic(&self.dir.join("manifest.json"), &json, 0o600)?;
        let needed = |name: &str| {
            name == "manifest.json"
                || manifest
                    .edits
                    .iter()
                    .any(|e| e.before.as_deref() == Some(name))
        };
        for entry in fsutil::read_dir(&self.dir).into_iter().flatten().flatten() {
            if !entry.file_name().to_str().is_some_and(needed) {
                // If it stays behind, it only costs space.
                let _ = fsutil::remove_file(&entry.path());
            }
        }
        Ok(())
    }

    /// Returns every edit and its state.
    pub fn seen(&self) -> Vec<Seen> {
        let standing = |edit: &Edit| {
            let file = edit.file.as_path();
            let Ok(bytes) = std::fs::read(file) else {
                return Standing::Gone;
            };
            if hex_of(&bytes) == edit.after {
                return Standing::Good;
            }
            if edit.kind == Kind::Shim && git::moved_to(file).is_some_and(|(_, runs)| runs) {
                return Standing::Edited;
            }
            match self.without(edit.kind, &edit.target, file, &bytes) {
                Err(error) => Standing::Torn(error.to_string()),
                Ok(Some(left)) if left == bytes => Standing::Gone,
                Ok(_) => Standing::Edited,
            }
        };
        let edits = self.manifest.edits.iter();
        edits
            .map(|edit| Seen {
                target: edit.target.clone(),
                file: edit.file.as_path().to_path_buf(),
                program: edit.program.as_path().to_path_buf(),
                standing: standing(edit),
                time: edit.time,
                version: edit.version.clone(),
            })
            .collect()
    }
}

pub(super) fn torn(file: &Path) -> Error {
    Error::invalid(
        format!(
            "`{}`: bdr's lines were altered, and bdr cannot tell which they are",
            show(file.as_os_str())
        ),
        Some("remove them by hand, from `# >>> bdr` to `# <<< bdr`"),
    )
}

fn is_nothing(kind: Kind, left: &[u8]) -> bool {
    match kind {
        Kind::Settings => std::str::from_utf8(left).is_ok_and(json::is_bare),
        Kind::Server => {
            left.trim_ascii().is_empty() || std::str::from_utf8(left).is_ok_and(json::is_bare)
        }
        _ => left.trim_ascii().is_empty(),
    }
}

/// Returns the missing directories, innermost first.
fn missing(dir: &Path) -> Vec<PathBuf> {
    dir.ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
        .map(Path::to_path_buf)
        .collect()
}
