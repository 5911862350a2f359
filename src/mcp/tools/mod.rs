//! The tools: what each is called, takes and does. What a client is told of them is in `tools.json`.

use serde_json::{Map, Value};

use super::args::Args;
use super::call::{Call, Outcome};
use super::fault::Fault;
use super::sets::Set;

mod checkpoint;
mod cleanup;
mod create;
mod diff;
mod export;
mod figures;
mod list;
mod restore;
mod schedule;
mod status;
mod undo;
mod verify;
mod versions;

pub(crate) use diff::document as diff_document;
pub(crate) use list::document as list_document;
pub(crate) use status::document as status_document;

/// A tool.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) set: Set,
    /// It can change something.
    pub(crate) changes: bool,
    /// Taken, but not advertised: what callers of earlier servers send.
    also: &'static [&'static str],
    /// Objects whose members count as arguments.
    nested: &'static [&'static str],
    pub(crate) run: fn(&Call<'_>) -> Result<Outcome, Fault>,
}

/// All tools, in the order in which clients see them.
pub(crate) const ALL: [Tool; 12] = [
    Tool {
        name: "checkpoint",
        set: Set::Guard,
        changes: true,
        also: &[],
        nested: &[],
        run: checkpoint::run,
    },
    Tool {
        name: "diff_changes",
        set: Set::Guard,
        changes: false,
        also: &["checkpointId"],
        nested: &[],
        run: diff::run,
    },
    Tool {
        name: "undo_changes",
        set: Set::Guard,
        changes: true,
        also: &["planId"],
        nested: &[],
        run: undo::run,
    },
    Tool {
        name: "find_versions",
        set: Set::Guard,
        changes: false,
        also: &[],
        nested: &[],
        run: versions::run,
    },
    Tool {
        name: "create_backup",
        set: Set::Core,
        changes: true,
        also: &["compression", "scanPHI"],
        nested: &[],
        run: create::run,
    },
    Tool {
        name: "list_backups",
        set: Set::Core,
        changes: false,
        also: &["includeMetadata"],
        nested: &["filter"],
        run: list::run,
    },
    Tool {
        name: "verify_backup",
        set: Set::Core,
        changes: false,
        also: &["repair"],
        nested: &[],
        run: verify::run,
    },
    Tool {
        name: "restore_backup",
        set: Set::Core,
        changes: true,
        also: &["preBackup", "planId"],
        nested: &[],
        run: restore::run,
    },
    Tool {
        name: "get_backup_status",
        set: Set::Core,
        changes: false,
        also: &["logLimit"],
        nested: &[],
        run: status::run,
    },
    Tool {
        name: "schedule_backup",
        set: Set::Admin,
        changes: true,
        also: &[
            "name",
            "sources",
            "label",
            "compression",
            "verify",
            "excludePatterns",
            "enabled",
        ],
        nested: &["schedule", "backupConfig", "filter"],
        run: schedule::run,
    },
    Tool {
        name: "cleanup_old_backups",
        set: Set::Admin,
        changes: true,
        also: &["force", "policy"],
        nested: &[],
        run: cleanup::run,
    },
    Tool {
        name: "export_backup_config",
        set: Set::Admin,
        changes: true,
        also: &["includeStatistics", "includeSecrets", "includeHistory"],
        nested: &[],
        run: export::run,
    },
];

/// What clients are told: an array in the order of [`ALL`].
const TOLD: &str = include_str!("tools.json");

/// Returns what clients are told of the tools that fit.
pub(crate) fn told(fits: impl Fn(&Tool) -> bool) -> Vec<Value> {
    // The file is part of the program; a test reads it.
    let all: Vec<Value> = serde_json::from_str(TOLD).unwrap_or_default();
    let wanted = ALL.iter().filter(|tool| fits(tool));
    wanted
        .filter_map(|tool| all.iter().find(|told| told["name"] == tool.name).cloned())
        .collect()
}

impl Tool {
    /// Returns the arguments of a call of this tool.
    pub(crate) fn read(&self, given: Map<String, Value>) -> Result<Args, Fault> {
        let told = told(|tool| tool.name == self.name);
        let properties = told
            .first()
            .and_then(|told| told["inputSchema"]["properties"].as_object());
        let mut known: Vec<&str> = properties
            .into_iter()
            .flat_map(|map| map.keys().map(String::as_str))
            .collect();
        known.extend(self.also);
        Args::read(given, &known, self.nested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_told_of_in_order_and_in_few_bytes() {
        let told = told(|_| true);
        let names: Vec<&str> = told
            .iter()
            .filter_map(|told| told["name"].as_str())
            .collect();
        assert_eq!(names, ALL.map(|tool| tool.name));
        let mut visible = 0;
        for (told, tool) in told.iter().zip(&ALL) {
            let seen = [&told["name"], &told["description"], &told["inputSchema"]];
            visible += seen
                .iter()
                .map(|part| part.to_string().len())
                .sum::<usize>();
            let hints = &told["annotations"];
            assert_eq!(hints["readOnlyHint"], !tool.changes, "{}", tool.name);
            assert_eq!(hints["openWorldHint"], false, "{}", tool.name);
            assert_eq!(told["inputSchema"]["type"], "object");
            // Clients warn of these, or refuse them.
            let text = told.to_string();
            for strange in ["$schema", "\"null\"", "\"format\":\"", "anyOf"] {
                assert!(!text.contains(strange), "{}: {strange}", tool.name);
            }
        }
        assert!(visible <= 6500, "{visible} bytes visible to a model");
    }
}
