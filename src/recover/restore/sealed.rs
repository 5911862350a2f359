//! The part of a plan that is about files of which something was sealed.

use std::path::Path;
use std::sync::Arc;

use super::{Action, Overwrite, RestoreOptions, RestorePlan, SecretStep, Step};
use crate::base::error::Result;
use crate::base::path::{RawName, RepoPath};
use crate::disk::fsutil::target::Target;
use crate::model::manifest::{Entry, Kind, Stat, Time};
use crate::protect::work::{Act, Job};
use crate::recover::unseal::{self, ASIDE, Recovery, recover};
use crate::repo::Repository;
use crate::repo::reader::Reader;
use crate::repo::snapshot::PathNote;

/// Plans a file of which something was sealed; returns false if it can be restored like any other.
#[expect(
    clippy::too_many_arguments,
    reason = "one part of plan_root, split for reading"
)]
pub(super) fn plan_sealed(
    repo: &Repository,
    target: &mut Target,
    site: usize,
    base: &Path,
    path: &RepoPath,
    entry: &Arc<Entry>,
    seen: Option<Stat>,
    options: &RestoreOptions,
    plan: &mut RestorePlan,
) -> Result<bool> {
    let mut file = match seen {
        Some(seen) if seen.kind == Kind::File => target.open_file(path).ok(),
        _ => None,
    };
    if let Some(file) = &mut file
        && options.overwrite == Overwrite::IfChanged
        && repo.has_content(&entry.body, file)
    {
        return Ok(false);
    }
    let mut file = match file {
        Some(_) => target.open_file(path).ok(),
        None => None,
    };
    let mut reader = Reader::new(repo);
    let absolute = path.to_path(base);
    let write =
        |path: &RepoPath, bytes: Vec<u8>, mode: u32, seen: Option<Stat>, plan: &mut RestorePlan| {
            let mut new = Entry {
                mode,
                mtime: Time(
                    options.now.timestamp(),
                    options.now.timestamp_subsec_nanos(),
                ),
                size: bytes.len() as u64,
                ..Entry::clone(entry)
            };
            new.body.link.clear();
            plan.steps.push(Step {
                path: path.to_path(base),
                action: if seen.is_some() {
                    Action::Replace
                } else {
                    Action::Create
                },
                kind: Kind::File,
                bytes: new.size,
                old_bytes: seen.map(|s| s.size),
            });
            plan.work.jobs.push(Job {
                site,
                path: path.clone(),
                act: Act::Write,
                entry: Some(Arc::new(new)),
                seen,
                bytes: Some(Arc::new(bytes)),
            });
        };
    match recover(repo, &mut reader, entry, file.as_mut(), &options.secrets)? {
        Recovery::Exact => return Ok(false),
        Recovery::Merged(bytes, merged) => {
            let same = match &mut file {
                Some(_) => target.open_file(path).is_ok_and(|mut file| {
                    let mut there = Vec::new();
                    std::io::Read::read_to_end(&mut file, &mut there).is_ok() && there == bytes
                }),
                None => false,
            };
            if same {
                plan.unchanged += 1;
            } else {
                write(path, bytes, entry.mode, seen, plan);
            }
            if let Some(why) = repo.vault().unproven() {
                plan.problems.push(PathNote {
                    path: RawName(absolute.clone().into_os_string()),
                    reason: format!("{}: {why}", unseal::UNPROVEN),
                });
            }
            plan.secrets.push(SecretStep {
                path: absolute,
                merged,
                aside: None,
            });
        }
        Recovery::Aside(bytes, merged) => {
            let mut name = path.name().to_vec();
            name.extend_from_slice(ASIDE.as_bytes());
            let aside = path.parent().unwrap_or_default().join(&name);
            let there = target.stat(&aside)?.filter(|s| s.kind != Kind::Dir);
            write(&aside, bytes, 0o600, there, plan);
            plan.problems.push(PathNote {
                path: RawName(absolute.clone().into_os_string()),
                reason: unseal::unresolved(&merged),
            });
            plan.secrets.push(SecretStep {
                path: absolute,
                merged,
                aside: Some(aside.to_path(base)),
            });
        }
        Recovery::Nothing => plan.problems.push(PathNote {
            path: RawName(absolute.into_os_string()),
            reason: repo.vault().unproven().unwrap_or_else(|| {
                "only its metadata is stored, and its content is not in the vault of this machine"
                    .to_owned()
            }),
        }),
    }
    Ok(true)
}
