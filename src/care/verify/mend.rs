//! What a verification mends by itself, from the second copy: records and listings. Packs are mended
//! where they are read.

use std::collections::BTreeSet;

use super::damage::damage;
use super::{Damage, Harm, VerifyReport};
use crate::base::id::Digest;
use crate::repo::snapshot::Snapshot;
use crate::repo::trash::Part;
use crate::repo::{Repository, kept, layout, record};

/// Restores records from the lifeboat that were deleted from the repository: what bdr itself
/// removes has no hard link left either.
pub(super) fn bring_back_records(repo: &Repository, report: &mut VerifyReport) {
    for dir in ["snapshots", "operations"] {
        let Ok(names) = repo.storage().names(dir) else {
            continue;
        };
        for name in repo.storage().copies(dir) {
            if names.binary_search(&name).is_ok() {
                continue;
            }
            let name = format!("{dir}/{name}");
            let whole = |file: &mut dyn std::io::Read| {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).is_ok() && record::is_whole(&bytes)
            };
            if matches!(repo.storage().heal(&name, &whole), Ok(true)) {
                report.healed.push(name);
            }
        }
    }
}

/// Replaces damaged records by their second copies. Reading one would do the same, but without a
/// word.
pub(super) fn mend_records(repo: &Repository, report: &mut VerifyReport) {
    for dir in ["snapshots", "operations", "marks", "kept"] {
        for name in repo.storage().copies(dir) {
            let name = format!("{dir}/{name}");
            let is_whole = |bytes: &[u8]| match name.ends_with(".gz") {
                true => kept::is_whole(bytes),
                false => record::is_whole(bytes),
            };
            // What is missing is nobody's business here.
            let Ok(bytes) = repo.storage().read(&name) else {
                continue;
            };
            let whole = |file: &mut dyn std::io::Read| {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).is_ok() && is_whole(&bytes)
            };
            if !is_whole(&bytes) && matches!(repo.storage().heal(&name, &whole), Ok(true)) {
                report.healed.push(name);
            }
        }
    }
}

/// Replaces damaged and missing listings by their second copies.
pub(super) fn mend_listings(repo: &Repository, snapshots: &[Snapshot], report: &mut VerifyReport) {
    let bases = snapshots.iter().flat_map(|s| &s.roots);
    let bases: BTreeSet<Digest> = bases.filter_map(|root| root.base).collect();
    for base in bases {
        if !repo.is_whole_part(Part::Keyframe(base)) && repo.heal_part(Part::Keyframe(base)) {
            report.healed.push(layout::key_frame(base));
        }
    }
}

/// Checks the recovery files, and rewrites damaged ones.
pub(super) fn check_recovery(repo: &Repository, report: &mut VerifyReport) {
    for name in repo.outdated_recovery() {
        match repo.renew_recovery(name) {
            Ok(()) => report.healed.push(name.to_owned()),
            Err(error) => report.damage.push(Damage {
                reason: Harm::Recovery(Box::new(Harm::of(&error))),
                ..damage(name.to_owned(), &error)
            }),
        }
    }
}
