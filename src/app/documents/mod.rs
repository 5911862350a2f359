//! What `--json` prints, as types: one definition of each document, from which
//! `docs/json.schema.json` is made.
//!
//! `docs/json.md` describes them. A member may be added at any time; changing or removing one needs
//! a new document version.

use serde::Serialize;

mod backup;
mod care;
mod changed;
mod config;
mod destinations;
mod explain;
mod files;
mod hooks;
mod jobs;
mod operations;
mod paths;
mod privacy;
mod remotes;
mod restore;
mod schedule;
mod setup;
mod status;
mod sync;

pub(crate) use backup::BackupDocument;
use backup::SealedDocument;
pub(crate) use care::{
    DoctorDocument, FileAt, FindingDocument, LifeboatsDocument, LostFor, PruneDocument,
    RepairDocument, VerifyDocument,
};
pub(crate) use changed::{FileDocument, GitDocument};
pub(crate) use config::{ConfigDocument, ConfigExportDocument, ConfigValues};
pub(crate) use destinations::{
    AdoptedDocument, RemoteAddDocument, RemoteAdoptDocument, RemoteChangeDocument, RemoteDocument,
    RemoteEraDocument, RemoteIdentityDocument, RemoteKeyChangeDocument, RemoteKeyDocument,
    RemoteKeyMoveDocument, RemoteRecipientDocument, RemoteResetDocument, RemoteServicesDocument,
    RemoteTestDocument, RemotesDocument, RetentionDocument,
};
pub(crate) use explain::ExplainDocument;
pub(crate) use files::{
    CatDocument, DiffDocument, EntryDocument, FindDocument, HistoryDocument, ListDocument,
    LsDocument, MarkDocument, SnapshotDocument, SourceEntry,
};
pub(crate) use hooks::*;
pub(crate) use jobs::{
    AlertDocument, AlertTrouble, DrillDocument, DueDocument, MessageDocument, NotifyDocument,
    RunsDocument, SentDocument, SettleDocument, TickDocument,
};
pub(crate) use operations::{
    ForgetDocument, GuardDocument, GuardPlanDocument, LogDocument, OperationDocument, PinDocument,
    ShowDocument, UndoAsked, UndoDocument,
};
pub(crate) use paths::{At, Note, notes};
pub(crate) use privacy::{
    AllowDocument, RescanDocument, ScanDocument, VaultExportDocument, VaultImportDocument,
    VaultRotateDocument, WhyDocument, WhyFinding,
};
pub(crate) use remotes::{
    CloneDocument, MachineDocument, MachinesDocument, MachinesForgottenDocument, PushDocument,
    PushedDocument, RemotePruneDocument, RemoteVerifyDocument,
};
pub(crate) use restore::{AbortDocument, RestoreDocument, action_word};
pub(crate) use schedule::{
    ScheduleDocument, ScheduleFile, SchedulePrintDocument, ScheduleRemovedDocument,
    ScheduleStatusDocument,
};
pub(crate) use setup::*;
pub(crate) use status::{DashboardDocument, StatusDocument};
pub(crate) use sync::{SyncDocument, SyncedDocument};

/// A record that was listed and cannot be read.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Unreadable {
    name: String,
    reason: String,
}

/// Returns the records of a repository that were listed but could not be read.
pub(crate) fn unreadable(repo: &bdr::repo::Repository) -> Vec<Unreadable> {
    let list = repo.unreadable().into_iter();
    list.map(|(name, reason)| Unreadable { name, reason })
        .collect()
}

fn millis(elapsed: std::time::Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod schema;
#[cfg(test)]
mod tests;
