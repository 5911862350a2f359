//! The document of `bdr status --json`: the model behind everything that shows how things stand.

use bdr::care::status::{SourceStatus, Status};
use bdr::model::schedule::Job;
use serde_json::{Map, Value, json};

use super::Seen;
use super::words;
use crate::ui;
use crate::ui::when;

pub(crate) fn status(seen: &Seen) -> Value {
    let status = &seen.status;
    let pasts = &status.memory.pasts;
    let mut jobs = Map::new();
    for job in Job::ALL {
        let past = pasts.of(job);
        jobs.insert(
            job.word().to_owned(),
            json!({
                "last_success": past.success.map(when::utc),
                "last_attempt": past.attempt.map(when::utc),
                "consecutive_failures": past.failures,
            }),
        );
    }
    json!({
        "level": status.level.word(),
        "sentence": words::sentence(status),
        "troubles": troubles(status),
        "last_backup": status.last.as_ref().map(|last| json!({
            "snapshot": last.id.to_string(),
            "time": when::utc(last.time),
            "kind": last.kind,
            "partial": last.partial,
            "files": last.stats.files,
            "bytes": last.stats.bytes,
        })),
        "next_backup": status.next.map(when::utc),
        "jobs": jobs,
        "sources": status.sources.iter().map(source).collect::<Vec<_>>(),
        "uncovered": status.uncovered.iter().map(|path| ui::json::with_path(path, json!({}))).collect::<Vec<_>>(),
        "storage": status.storage.map(|storage| json!({
            "used_bytes": storage.used,
            "max_bytes": storage.max,
            "saved_percent": status.saved_percent,
            "added_bytes_30_days": status.added_bytes,
            "months_left": words::months_left(seen),
        })),
        "vault": seen.vault.as_ref().map(|vault| json!({
            "values": vault.usage.0, "bytes": vault.usage.1, "key": vault.key, "trouble": vault.trouble.as_ref().or(vault.unproven.as_ref()),
        })),
        "lifeboat": seen.lifeboat.as_ref().map(|(dir, manned)| ui::json::with_path(dir, json!({"manned": manned}))),
        "snapshots": status.snapshots.0,
        "backups": status.snapshots.1,
        "success_30_days": {"succeeded": status.rate.succeeded, "tried": status.rate.tried},
        "scheduler": {
            "backend": status.scheduler.backend,
            "installed": status.scheduler.backend.is_some(),
            "starts_other": status.scheduler.starts_other.as_ref().map(|path| bdr::base::path::show(path.as_os_str())),
            "lingers": status.scheduler.lingers,
            "last_woke": status.memory.tick.as_ref().map(|tick| when::utc(tick.time)),
        },
        "operations": status.operations.iter().map(|operation| json!({
            "id": operation.begin.id.to_string(),
            "kind": operation.begin.kind.word(),
            "time": when::utc(operation.begin.time),
            "undone": operation.undone_by.is_some(),
        })).collect::<Vec<_>>(),
    })
}

fn troubles(status: &Status) -> Vec<Value> {
    let trouble = |t: &bdr::care::status::Trouble| {
        json!({
            "code": t.word(),
            "level": t.level().word(),
            "message": words::trouble(t, status.now),
            "fix": t.fix(),
        })
    };
    status.troubles.iter().map(trouble).collect()
}

fn source(source: &SourceStatus) -> Value {
    let rest = json!({
        "name": source.name,
        "criticality": source.criticality.word(),
        "exists": source.exists,
        "files": source.files,
        "bytes": source.bytes,
        "backed_up": source.backed_up.map(when::utc),
        "waiting": source.waiting,
        "newest_change": source.newest_change.map(when::utc),
        "left_out": source.left_out,
        "sealed": crate::app::backup::sealed_data(&source.sealed),
    });
    ui::json::with_path(&source.path, rest)
}
