//! Where calls may act: the user's sources, the workspace in which the server was started, and what
//! `--root` names. Never what a model says.

use std::path::{Path, PathBuf};

use bdr::base::path::{RepoPath, absolute, show};
use bdr::disk::fsutil::canonicalize;
use bdr::effects::{self, Surroundings, Table};
use bdr::model::rules::{Origin, Root};
use bdr::protect::guard::{self, CaptureSet};
use serde_json::json;

use super::fault::Fault;
use crate::app::context::Context;

#[derive(Debug)]
pub(crate) struct Roots {
    /// The roots that a checkpoint covers.
    pub(crate) captured: Vec<Root>,
    /// Where calls may act: as configured, and free of symlinks.
    allowed: Vec<PathBuf>,
    /// bdr's own places, and those of keys.
    denied: Vec<PathBuf>,
}

/// What a path is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is read, and must exist.
    Read,
    /// Something is written there, or below it.
    Write,
}

impl Roots {
    /// Determines where calls may act now: the configured sources, the workspace around the server,
    /// and `extra`.
    pub(crate) fn of(cx: &Context, extra: &[PathBuf]) -> Result<Self, Fault> {
        let own = [cx.places.repository.clone(), cx.places.config.clone()];
        let set = CaptureSet {
            sources: cx.roots(),
            cwd: &cx.cwd,
            home: cx.home.as_deref(),
            extra: &[],
            own: &own,
            linked: false,
            accept_loss: false,
        };
        // Every agent's workspace includes the files that management tools edit: ~/.claude.json,
        // .mcp.json.
        let around = Surroundings {
            cwd: &cx.cwd,
            home: cx.home.as_deref(),
            table: Table::builtin(),
        };
        let managing = effects::assess(&["mcp".into(), "uninstall".into()], &around);
        let mut captured = guard::capture_roots(&managing, set)?;
        // Words in that line are not places of the user.
        captured.retain(|root| root.origin != Origin::Mentioned);
        captured
            .retain(|root| root.origin != Origin::Source || root.path.symlink_metadata().is_ok());
        let mut allowed: Vec<PathBuf> = captured.iter().map(|root| root.path.clone()).collect();
        // A source that is gone is restored there.
        allowed.extend(cx.config.sources.iter().map(|source| source.path.clone()));
        allowed.extend(extra.iter().map(|path| absolute(&cx.cwd, path)));
        let real: Vec<PathBuf> = allowed
            .iter()
            .filter_map(|path| canonicalize(path).ok())
            .collect();
        allowed.extend(real);
        allowed.sort();
        allowed.dedup();
        Ok(Self {
            captured,
            allowed,
            denied: denied(cx),
        })
    }

    /// Returns true if calls may see a path as recorded in a snapshot.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.allowed.iter().any(|root| path.starts_with(root))
            && !self.denied.iter().any(|own| path.starts_with(own))
    }

    /// Returns the nearest allowed directory around `path`.
    pub(crate) fn above(&self, path: &Path) -> Option<&Path> {
        let above = self
            .allowed
            .iter()
            .filter(|root| path.starts_with(root) && root.is_dir());
        above
            .max_by_key(|root| root.components().count())
            .map(PathBuf::as_path)
    }

    /// Resolves a model's path: free of symlinks, and within an allowed place.
    pub(crate) fn path(&self, cx: &Context, text: &str, usage: Use) -> Result<PathBuf, Fault> {
        let refused = |why: &str| {
            let shown = show(text.as_ref());
            let roots = self.shown(cx);
            let fault = Fault::new(
                "PATH_NOT_ALLOWED",
                format!("`{shown}` {why}"),
                &format!(
                    "name a path within {}, or ask the user to add a source",
                    roots.join(", ")
                ),
            );
            fault.with(json!({"path": shown, "allowedRoots": roots}))
        };
        if text.is_empty() || text.contains('\0') {
            return Err(refused("is not a path"));
        }
        if cfg!(windows)
            && (text.starts_with("\\\\") || text.get(2..).is_some_and(|rest| rest.contains(':')))
        {
            return Err(refused("is a device, a share or a stream"));
        }
        let below_home = text
            .strip_prefix("~/")
            .or_else(|| cfg!(windows).then(|| text.strip_prefix("~\\")).flatten());
        let expanded = match (text, below_home, &cx.home) {
            ("~", _, Some(home)) => home.clone(),
            (_, Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(text),
        };
        let plain = absolute(&cx.cwd, &expanded);
        let Some(real) = real(&plain) else {
            return Err(refused("cannot be read"));
        };
        if !self.allowed.iter().any(|root| real.starts_with(root)) {
            return Err(refused("is outside the protected roots"));
        }
        if self.denied.iter().any(|own| real.starts_with(own)) {
            return Err(refused("belongs to bdr, or contains keys"));
        }
        if usage == Use::Read && real.symlink_metadata().is_err() {
            let shown = show(text.as_ref());
            return Err(Fault::new(
                "SOURCE_NOT_FOUND",
                format!("there is no `{shown}`"),
                "correct the path; find_versions lists what was there before",
            ));
        }
        Ok(real)
    }

    /// Returns the allowed places for people.
    fn shown(&self, cx: &Context) -> Vec<String> {
        let mut shown: Vec<String> = self
            .allowed
            .iter()
            .map(|path| cx.shown_absolute(path))
            .collect();
        shown.dedup();
        shown.truncate(20);
        shown
    }
}

/// Returns the path with its existing part free of symlinks.
fn real(path: &Path) -> Option<PathBuf> {
    let mut base = path;
    loop {
        if let Ok(real) = canonicalize(base) {
            let rest = RepoPath::below(base, path)?;
            return Some(rest.to_path(&real));
        }
        // Creating the target of a dangling link would follow it.
        if base
            .symlink_metadata()
            .is_ok_and(|metadata| metadata.is_symlink())
        {
            return None;
        }
        base = base.parent()?;
    }
}

fn denied(cx: &Context) -> Vec<PathBuf> {
    let mut denied = vec![
        cx.places.repository.clone(),
        cx.places.config.clone(),
        cx.places.cache.clone(),
        cx.places.state.clone(),
    ];
    denied.extend(cx.places.lifeboats.clone());
    if let Some(home) = &cx.home {
        denied.extend([".ssh", ".gnupg"].map(|name| home.join(name)));
    }
    let real: Vec<PathBuf> = denied
        .iter()
        .filter_map(|path| canonicalize(path).ok())
        .collect();
    denied.extend(real);
    denied
}
