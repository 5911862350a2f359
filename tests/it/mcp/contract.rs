//! The results of the eight tools, by the names of both the brief's specification and the server that was shipped: whoever read those reads these.

use std::fs;

use serde_json::{Value, json};

use super::place;
use crate::support::mcp::{LEGACY, Mcp};

/// Checks that each path is there and of its kind: `s`tring, `n`umber, `b`oolean, `a`rray, `o`bject. `x[].y`: of each of at least one.
fn has(tool: &str, answer: &Value, wanted: &str) {
    for want in wanted.split_whitespace() {
        let (path, kind) = want.rsplit_once(':').unwrap();
        let mut found = vec![answer];
        for part in path.split('.') {
            let (name, each) = match part.strip_suffix("[]") {
                Some(name) => (name, true),
                None => (part, false),
            };
            found = found.iter().map(|value| &value[name]).collect();
            if each {
                found = found
                    .iter()
                    .flat_map(|value| value.as_array().into_iter().flatten())
                    .collect();
            }
        }
        let fits = |value: &&Value| match kind {
            "s" => value.is_string(),
            "n" => value.is_u64(),
            "b" => value.is_boolean(),
            "a" => value.is_array(),
            _ => value.is_object(),
        };
        assert!(
            !found.is_empty() && found.iter().all(fits),
            "{tool}: {want} of {answer:#}"
        );
    }
}

#[test]
fn results_have_every_name_that_callers_of_earlier_servers_read() {
    let place = place();
    place.configure("[schedule]\nat = \"02:30\"\nfull = \"sunday\"\n");
    let mut client = Mcp::start(&place, &[], LEGACY);
    let made = client.ok(
        "create_backup",
        json!({"type": "full", "label": "weekly", "verify": true, "scanPHI": true, "compression": true}),
    );
    let metadata = "type:s created:s fileCount:n totalSize:n compressedSize:n compressionRatio:n sources:a checksum:s label:s";
    let of = |name: &str, members: &str| {
        let members = members.split(' ').map(|member| format!("{name}.{member}"));
        members.collect::<Vec<_>>().join(" ")
    };
    has(
        "create_backup",
        &made,
        &format!(
            "success:b backupId:s backupPath:s duration:n warnings:a phiScanResults.filesScanned:n phiScanResults.phiDetected:b phiScanResults.warnings:a {} {}",
            of("metadata", metadata),
            of(
                "stats",
                "filesBackedUp:n filesSkipped:n bytesProcessed:n compressionSavings:n"
            ),
        ),
    );
    // The checksum is one of a file that is there.
    let path = made["backupPath"].as_str().unwrap();
    let path = match path.strip_prefix("~/") {
        Some(below) => place.path("home").join(below),
        None => path.into(),
    };
    let record = bdr::base::id::Digest::of(&fs::read(path).unwrap()).to_string();
    assert_eq!(made["metadata"]["checksum"], record);
    let listed = client.ok(
        "list_backups",
        json!({"includeMetadata": true, "filter": {"label": "weekly"}}),
    );
    let statistics = "totalBackups:n totalSize:n totalCompressedSize:n fullBackups:n incrementalBackups:n compressionRatio:n";
    has(
        "list_backups",
        &listed,
        &format!(
            "success:b total:n totalBackups:n filtered:n {} {} {} {}",
            of(
                "backups[]",
                "backupId:s type:s created:s sources:a fileCount:n totalSize:n compressedSize:n compressionRatio:n label:s status:s"
            ),
            of("backups[].metadata", metadata),
            of("statistics", statistics),
            of(
                "storageStats",
                "totalBackups:n totalStorageUsed:n totalStorageUncompressed:n averageCompressionRatio:n"
            ),
        ),
    );
    assert_eq!(
        listed["backups"][0]["metadata"]["checksum"],
        made["metadata"]["checksum"]
    );
    let id = made["backupId"].clone();
    has(
        "verify_backup",
        &client.ok(
            "verify_backup",
            json!({"backupId": id, "deep": true, "quick": false}),
        ),
        &format!(
            "success:b backupId:s valid:b checksumValid:b filesVerified:n filesInvalid:n duration:n errors:a issues:a {}",
            of(
                "verification",
                "manifestValid:b checksumValid:b fileCountMatch:b deepVerification:b"
            ),
        ),
    );
    fs::write(place.tree().join("registry.json"), "{}").unwrap();
    let restore = "success:b backupId:s operation:s duration:n warnings:a changes.filesRestored:n changes.filesSkipped:n changes.bytesRestored:n";
    let conflicts = of(
        "changes.conflicts[]",
        "path:s existingModified:s backupModified:s action:s",
    );
    let arguments = json!({"backupId": id, "overwrite": true, "preBackup": true});
    let mut previewed = arguments.clone();
    previewed["dryRun"] = true.into();
    let previewed = client.ok("restore_backup", previewed);
    assert_eq!(previewed["operation"], "dry-run");
    has(
        "restore_backup",
        &previewed,
        &format!("{restore} {conflicts}"),
    );
    let restored = client.ok("restore_backup", arguments);
    assert_eq!(restored["operation"], "restore");
    assert_eq!(restored["changes"]["conflicts"][0]["action"], "overwrite");
    has(
        "restore_backup",
        &restored,
        &format!("{restore} {conflicts} preBackupId:s"),
    );
    let status = client.ok(
        "get_backup_status",
        json!({"includeSchedules": true, "includeRetention": true, "includeLogs": true, "logLimit": 5}),
    );
    has(
        "get_backup_status",
        &status,
        &format!(
            "success:b health.status:s health.issues:a warnings:a {} {} {} {} {} {} {} {} {} {}",
            of("statistics", statistics),
            of(
                "recentBackups[]",
                "backupId:s type:s created:s fileCount:n totalSize:n"
            ),
            of(
                "schedules",
                "totalSchedules:n enabledSchedules:n disabledSchedules:n activeJobs:n nextScheduledBackup.scheduleId:s nextScheduledBackup.nextRun:s"
            ),
            of(
                "retention",
                "daily:n weekly:n monthly:n expired:n estimatedSpaceReclaimed:n"
            ),
            of(
                "status",
                "systemHealth:s nextScheduledBackup.scheduleName:s nextScheduledBackup.scheduledTime:s"
            ),
            of(
                "status.lastBackup",
                "backupId:s type:s created:s status:s duration:n"
            ),
            of(
                "status.storageUsage",
                "totalBackups:n totalSize:n totalSizeCompressed:n averageCompressionRatio:n oldestBackup:s newestBackup:s"
            ),
            of(
                "status.retentionStatus",
                "dailyBackups:n weeklyBackups:n monthlyBackups:n expiredBackups:n"
            ),
            of(
                "status.recentActivity",
                "backupsLast7Days:n backupsLast30Days:n failuresLast7Days:n averageBackupDuration:n"
            ),
            of("logs[]", "timestamp:s level:s operation:s message:s"),
        ),
    );
    assert_eq!(status["status"]["recentActivity"]["backupsLast7Days"], 2);
    let schedules = client.ok("schedule_backup", json!({"action": "list"}));
    has(
        "schedule_backup",
        &schedules,
        &format!(
            "success:b action:s message:s {} {}",
            of(
                "schedules[]",
                "scheduleId:s name:s cronExpression:s sources:a type:s compression:b verify:b excludePatterns:a enabled:b lastRun:s nextRun:s lastStatus:s"
            ),
            of("schedules[].backupConfig", "sources:a type:s compression:b"),
        ),
    );
    for dry_run in [true, false] {
        let cleaned = client.ok(
            "cleanup_old_backups",
            json!({"dryRun": dry_run, "policy": {"dailyRetention": 7, "weeklyRetention": 4, "monthlyRetention": 12}, "force": true}),
        );
        has(
            "cleanup_old_backups",
            &cleaned,
            &format!(
                "success:b operation:s dryRun:b backupsDeleted:n backupsKept:n spaceReclaimed:n duration:n {} {}",
                of(
                    "analysis",
                    "totalBackups:n backupsToKeep:n backupsToDelete:n spaceToReclaim:n"
                ),
                of(
                    "policy",
                    "dailyRetention:n weeklyRetention:n monthlyRetention:n"
                ),
            ),
        );
        match dry_run {
            true => has(
                "cleanup_old_backups",
                &cleaned,
                "preview.toDelete:a preview.toKeep[].backupId:s preview.toKeep[].category:s preview.estimatedSpaceReclaimed:n",
            ),
            false => has(
                "cleanup_old_backups",
                &cleaned,
                "deletedBackupIds:a deletedBackups:a",
            ),
        }
    }
    let exported = client.ok(
        "export_backup_config",
        json!({"format": "json", "includeSchedules": true, "includeStatistics": true, "includeHistory": true}),
    );
    has(
        "export_backup_config",
        &exported,
        &format!(
            "success:b format:s warnings:a {} {} {} {} {}",
            of(
                "config",
                "version:s backupDirectory:s backupSources:a excludePatterns:a retentionPolicy:o history[].backupId:s"
            ),
            of("config.compression", "enabled:b level:n algorithm:s"),
            of(
                "config.retention",
                "dailyRetention:n weeklyRetention:n monthlyRetention:n"
            ),
            of(
                "config.schedules[]",
                "scheduleId:s cronExpression:s sources:a type:s enabled:b"
            ),
            of(
                "config.statistics",
                "totalBackups:n totalSize:n totalCompressedSize:n fullBackups:n incrementalBackups:n"
            ),
        ),
    );
}
