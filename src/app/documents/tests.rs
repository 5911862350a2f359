//! The schema in the docs matches the types, and the manual mentions every member.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::schema::{self, of};
use super::*;

/// The documents that have types, by their `schema` value.
fn schemas() -> Map<String, Value> {
    schema::named([
        ("bdr.add/1", of::<AddDocument>()),
        ("bdr.alert/1", of::<AlertDocument>()),
        ("bdr.backup/1", of::<BackupDocument>()),
        ("bdr.backup/1 --dry-run", of::<BackupPlanDocument>()),
        ("bdr.cat/1", of::<CatDocument>()),
        ("bdr.clone/1", of::<CloneDocument>()),
        ("bdr.completions/1", of::<ShellDocument>()),
        ("bdr.completions/1 man --output", of::<PagesDocument>()),
        ("bdr.config/1", of::<ConfigDocument>()),
        ("bdr.config/1 check", of::<ConfigCheckDocument>()),
        ("bdr.config/1 export", of::<ConfigExportDocument>()),
        ("bdr.config/1 path", of::<At>()),
        ("bdr.config/1 set", of::<ConfigChangeDocument>()),
        ("bdr.dashboard/1", of::<DashboardDocument>()),
        ("bdr.demo/1", of::<DemoDocument>()),
        ("bdr.diff/1", of::<DiffDocument>()),
        ("bdr.doctor/1", of::<DoctorDocument>()),
        ("bdr.drill/1", of::<DrillDocument>()),
        ("bdr.exclude/1", of::<ExcludeDocument>()),
        ("bdr.explain/1", of::<ExplainDocument>()),
        ("bdr.find/1", of::<FindDocument>()),
        ("bdr.forget/1", of::<PruneDocument>()),
        ("bdr.guard/1", of::<GuardDocument>()),
        ("bdr.guard/1 --dry-run", of::<GuardPlanDocument>()),
        ("bdr.history/1", of::<HistoryDocument>()),
        ("bdr.hooks/1", of::<HooksDocument>()),
        ("bdr.hooks/1 print", of::<HooksTextDocument>()),
        ("bdr.hooks/1 status", of::<HooksStatusDocument>()),
        ("bdr.import/1", of::<ImportDocument>()),
        ("bdr.init/1", of::<InitDocument>()),
        ("bdr.list/1", of::<ListDocument>()),
        ("bdr.log/1", of::<LogDocument>()),
        ("bdr.ls/1", of::<LsDocument>()),
        ("bdr.machines/1", of::<MachinesDocument>()),
        ("bdr.machines.forget/1", of::<MachinesForgottenDocument>()),
        ("bdr.mcp/1", of::<ClientsDocument>()),
        ("bdr.mcp/1 status", of::<ClientsStatusDocument>()),
        ("bdr.notify/1", of::<NotifyDocument>()),
        ("bdr.notify/1 --dry-run", of::<MessageDocument<'_>>()),
        ("bdr.op/1 forget", of::<ForgetDocument>()),
        ("bdr.op/1 pin", of::<PinDocument>()),
        ("bdr.pin/1", of::<MarkDocument>()),
        ("bdr.privacy-rescan/1", of::<RescanDocument>()),
        ("bdr.privacy-why/1", of::<WhyDocument>()),
        ("bdr.privacy/1", of::<AllowDocument>()),
        ("bdr.prune/1", of::<PruneDocument>()),
        ("bdr.prune.lifeboats/1", of::<LifeboatsDocument>()),
        ("bdr.prune.remote/1", of::<RemotePruneDocument>()),
        ("bdr.pull/1", of::<CloneDocument>()),
        ("bdr.push/1", of::<PushDocument>()),
        ("bdr.redo/1", of::<UndoDocument>()),
        ("bdr.remote.add/1", of::<RemoteAddDocument>()),
        ("bdr.remote.adopt/1", of::<RemoteAdoptDocument>()),
        ("bdr.remote.change/1", of::<RemoteChangeDocument>()),
        ("bdr.remote.key.change/1", of::<RemoteKeyChangeDocument>()),
        ("bdr.remote.key.move/1", of::<RemoteKeyMoveDocument>()),
        ("bdr.remote.key.show/1", of::<RemoteKeyDocument>()),
        ("bdr.remote.list/1", of::<RemotesDocument>()),
        ("bdr.remote.reset/1", of::<RemoteResetDocument>()),
        ("bdr.remote.services/1", of::<RemoteServicesDocument>()),
        ("bdr.remote.show/1", of::<RemoteDocument>()),
        ("bdr.remote.test/1", of::<RemoteTestDocument>()),
        ("bdr.remove/1", of::<RemoveDocument>()),
        ("bdr.repair/1", of::<RepairDocument>()),
        ("bdr.restore/1", of::<RestoreDocument>()),
        ("bdr.restore/1 --abort", of::<AbortDocument>()),
        ("bdr.scan/1", of::<ScanDocument>()),
        ("bdr.schedule/1", of::<ScheduleDocument>()),
        ("bdr.schedule/1 print", of::<SchedulePrintDocument<'_>>()),
        ("bdr.schedule/1 status", of::<ScheduleStatusDocument>()),
        ("bdr.schedule/1 uninstall", of::<ScheduleRemovedDocument>()),
        ("bdr.settle/1", of::<SettleDocument>()),
        ("bdr.shell/1", of::<ShellDocument>()),
        ("bdr.show/1", of::<ShowDocument>()),
        ("bdr.status.history/1", of::<RunsDocument>()),
        ("bdr.status/1", of::<StatusDocument>()),
        ("bdr.sync/1", of::<SyncDocument>()),
        ("bdr.tag/1", of::<MarkDocument>()),
        ("bdr.tick/1", of::<TickDocument>()),
        ("bdr.tick/1 --dry-run", of::<DueDocument>()),
        ("bdr.undo/1", of::<UndoDocument>()),
        ("bdr.uninstall/1", of::<UninstallDocument>()),
        ("bdr.unpin/1", of::<MarkDocument>()),
        ("bdr.vault/1", of::<VaultRotateDocument>()),
        ("bdr.vault.export/1", of::<VaultExportDocument>()),
        ("bdr.vault.import/1", of::<VaultImportDocument>()),
        ("bdr.verify/1", of::<VerifyDocument>()),
        ("bdr.verify.remote/1", of::<RemoteVerifyDocument>()),
        ("bdr.version/1", of::<VersionDocument>()),
    ])
}

#[test]
fn docs_json_schema_is_what_the_types_say() {
    let about = "The data of each document of --json, by its schema.";
    schema::check("docs/json.schema.json", about, "documents", &schemas());
}

/// Adds the names of all members below a schema.
fn members(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                names.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| members(value, names));
        }
        Value::Array(list) => list.iter().for_each(|value| members(value, names)),
        _ => {}
    }
}

/// Returns the name of a document without the arguments that make it another one.
fn document(name: &str) -> &str {
    name.split(' ').next().unwrap_or(name)
}

/// Returns the part of the manual about a document, with the parts to which it refers.
fn section<'m>(manual: &'m str, name: &str) -> Vec<&'m str> {
    let name = document(name);
    let parts = manual.split("\n## ");
    parts
        .filter(|part| {
            let title = part.lines().next().unwrap_or_default();
            let names = title.split(", ").any(|one| one == name);
            // Described once for all: the form of paths and notes, a file, an operation, a trouble.
            let refers = match name {
                "bdr.show/1" => title == "bdr.log/1",
                "bdr.status/1" => title == "bdr.schedule/1" || title == "bdr.backup/1",
                "bdr.status.history/1" => title == "bdr.status/1",
                "bdr.init/1" => title == "bdr.backup/1",
                _ => false,
            };
            names || refers || !title.contains("bdr.")
        })
        .collect()
}

#[test]
fn docs_json_md_names_every_member_of_a_document() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let manual = std::fs::read_to_string(path).unwrap();
    let mut missing = Vec::new();
    for (name, schema) in schemas() {
        let text = section(&manual, &name).join("\n");
        let mut names = BTreeSet::new();
        members(&schema, &mut names);
        assert!(!names.is_empty(), "{name}");
        names.retain(|member| {
            !text.contains(&format!("\"{member}\"")) && !text.contains(&format!("`{member}`"))
        });
        // Paths that are not UTF-8 are described once.
        names.retain(|member| !member.ends_with("_hex"));
        missing.extend(names.into_iter().map(|member| format!("{name}: {member}")));
    }
    assert!(
        missing.is_empty(),
        "docs/json.md does not say what these are: {missing:#?}"
    );
}

/// Returns the words that an example in the manual uses as member names.
fn named(text: &str) -> BTreeSet<String> {
    let blocks = text.split("```json").skip(1);
    let mut names = BTreeSet::new();
    for block in blocks.filter_map(|block| block.split("```").next()) {
        let parts: Vec<&str> = block.split('"').collect();
        for pair in parts.windows(2).skip(1).step_by(2) {
            if pair[1].trim_start().starts_with(':') {
                names.insert(pair[0].to_owned());
            }
        }
    }
    names
}

#[test]
fn docs_json_md_names_no_member_that_is_not_there() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let manual = std::fs::read_to_string(path).unwrap();
    let schemas = schemas();
    let mut wrong = Vec::new();
    for part in manual.split("\n## ") {
        let title = part.lines().next().unwrap_or_default();
        let mut known = BTreeSet::new();
        for name in title.split(", ") {
            for (_, schema) in schemas.iter().filter(|(of, _)| document(of) == name) {
                members(schema, &mut known);
            }
        }
        if known.is_empty() {
            continue;
        }
        if title == "bdr.status/1" {
            // `--history` has a document of its own, which is described there.
            members(&schemas["bdr.status.history/1"], &mut known);
        }
        // Keys that are the name of a job, a reason or a kind are not members.
        let free = [
            "backup", "full", "prune", "drill", "verify", "excluded", "generic",
        ];
        let unknown = named(part)
            .into_iter()
            .filter(|name| !known.contains(name) && !free.contains(&name.as_str()));
        wrong.extend(unknown.map(|name| format!("{title}: {name}")));
    }
    assert!(
        wrong.is_empty(),
        "docs/json.md names what no document has: {wrong:#?}"
    );
}
