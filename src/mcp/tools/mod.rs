//! The tools: names, arguments and code. `tools.json` has the descriptions for clients.

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

pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) set: Set,
    /// It can change files or backups, so `--read-only` leaves it out.
    pub(crate) changes: bool,
    /// Arguments that are accepted but not advertised, because clients of earlier servers send
    /// them.
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

/// The descriptions for clients: an array in the order of [`ALL`].
const TOLD: &str = include_str!("tools.json");

/// Returns the descriptions of the tools that fit.
pub(crate) fn told(fits: impl Fn(&Tool) -> bool) -> Vec<Value> {
    // The file is compiled in, and a test parses it, so this cannot fail.
    let all: Vec<Value> = serde_json::from_str(TOLD).unwrap_or_default();
    let wanted = ALL.iter().filter(|tool| fits(tool));
    wanted
        .filter_map(|tool| all.iter().find(|told| told["name"] == tool.name).cloned())
        .collect()
}

impl Tool {
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
    use crate::app::documents::schema;

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
            // Clients show a warning for such schemas, or refuse them.
            let text = told.to_string();
            for strange in ["$schema", "\"null\"", "\"format\":\"", "anyOf"] {
                assert!(!text.contains(strange), "{}: {strange}", tool.name);
            }
        }
        assert!(visible <= 6500, "{visible} bytes visible to a model");
    }

    /// The result types of all tools and resources.
    fn schemas() -> Map<String, Value> {
        use schema::of;
        schema::named([
            ("checkpoint", of::<checkpoint::CheckpointResult>()),
            ("diff_changes", of::<diff::DiffResult>()),
            ("undo_changes", of::<undo::UndoResult>()),
            ("find_versions", of::<versions::VersionsResult>()),
            ("create_backup", of::<create::CreateResult>()),
            ("list_backups", of::<list::ListResult>()),
            ("verify_backup", of::<verify::VerifyResult>()),
            ("restore_backup", of::<restore::RestoreResult>()),
            ("get_backup_status", of::<status::StatusResult>()),
            ("schedule_backup", of::<schedule::ScheduleResult>()),
            ("cleanup_old_backups", of::<cleanup::CleanupResult>()),
            ("export_backup_config", of::<export::ExportResult>()),
            (
                "an error of any tool",
                of::<super::super::fault::FaultResult<'_>>(),
            ),
            ("bdr://status", of::<status::StatusResult>()),
            ("bdr://snapshots", of::<list::SnapshotsDocument>()),
            (
                "bdr://snapshots/{id}",
                of::<super::super::resources::ManifestDocument>(),
            ),
            ("bdr://diff/{from}/{to}", of::<diff::DiffDocument>()),
        ])
    }

    #[test]
    fn docs_mcp_schema_is_what_the_types_say() {
        let schemas = schemas();
        for tool in &ALL {
            assert!(schemas.contains_key(tool.name), "{}", tool.name);
        }
        let about = "What each tool and resource returns.";
        schema::check("docs/mcp.schema.json", about, "results", &schemas);
    }

    /// The source file of each tool.
    const FILES: [(&str, &str); 12] = [
        ("checkpoint", include_str!("checkpoint.rs")),
        ("diff_changes", include_str!("diff.rs")),
        ("undo_changes", include_str!("undo.rs")),
        ("find_versions", include_str!("versions.rs")),
        ("create_backup", include_str!("create.rs")),
        ("list_backups", include_str!("list.rs")),
        ("verify_backup", include_str!("verify.rs")),
        ("restore_backup", include_str!("restore.rs")),
        ("get_backup_status", include_str!("status.rs")),
        ("schedule_backup", include_str!("schedule.rs")),
        ("cleanup_old_backups", include_str!("cleanup.rs")),
        ("export_backup_config", include_str!("export.rs")),
    ];
    /// Arguments of the earlier server that have no meaning here.
    const IGNORED: [(&str, &str); 1] = [
        // The earlier server did not ask then; this one asks anyway.
        ("cleanup_old_backups", "force"),
    ];
    /// Arguments that several tools read with shared code.
    const SHARED: &str = include_str!("../call.rs");

    /// An argument that the code reads: its name, the type that the schema must give it, and the
    /// accepted words.
    #[derive(Debug)]
    struct Read {
        name: String,
        kind: &'static str,
        words: Vec<String>,
    }

    fn reads(source: &str) -> Vec<Read> {
        const KINDS: [(&str, &str); 6] = [
            ("text", "string"),
            ("word", "string"),
            ("texts", "array"),
            ("flag", "boolean"),
            ("number", "integer"),
            ("member", "object"),
        ];
        let source: String = source.split_whitespace().collect();
        let mut all = Vec::new();
        for (method, kind) in KINDS {
            for call in source.split(&format!("args.{method}(\"")).skip(1) {
                let (name, rest) = call.split_once('"').unwrap();
                let words = match rest.strip_prefix(",&[") {
                    Some(list) if method == "word" => {
                        let list = list.split_once(']').unwrap().0;
                        list.split('"')
                            .skip(1)
                            .step_by(2)
                            .map(str::to_owned)
                            .collect()
                    }
                    _ => Vec::new(),
                };
                let name = name.to_owned();
                all.push(Read { name, kind, words });
            }
        }
        all
    }

    #[test]
    fn what_clients_are_told_of_parameters_is_what_the_tools_read() {
        assert_eq!(FILES.map(|(name, _)| name), ALL.map(|tool| tool.name));
        let told = told(|_| true);
        let mut checked = 0;
        for ((name, source), (told, tool)) in FILES.iter().zip(told.iter().zip(&ALL)) {
            let source = source.split("#[cfg(test)]").next().unwrap();
            let properties = told["inputSchema"]["properties"].as_object().unwrap();
            let own = reads(source);
            for read in &own {
                let known =
                    properties.contains_key(&read.name) || tool.also.contains(&read.name.as_str());
                assert!(
                    known,
                    "{name} reads `{}`, of which nobody is told",
                    read.name
                );
            }
            let shared = reads(SHARED);
            for (parameter, schema) in properties {
                let reading: Vec<&Read> = own
                    .iter()
                    .chain(&shared)
                    .filter(|read| read.name == *parameter)
                    .collect();
                for read in &reading {
                    assert_eq!(schema["type"], read.kind, "{name}: `{parameter}`");
                    let words = schema["enum"].as_array().into_iter().flatten();
                    let words: Vec<&str> = words.filter_map(Value::as_str).collect();
                    assert!(
                        read.words.is_empty() || read.words == words,
                        "{name}: `{parameter}` takes {:?}, and clients are told {words:?}",
                        read.words
                    );
                    checked += 1;
                }
                // Some names are constants that are passed to a function.
                assert!(
                    !reading.is_empty() || source.contains(&format!("\"{parameter}\"")),
                    "clients are told of `{parameter}`, which {name} does not read"
                );
            }
            for parameter in tool.also {
                if IGNORED.contains(&(name, parameter)) {
                    continue;
                }
                let named = format!("\"{parameter}\"");
                assert!(
                    source.contains(&named) || SHARED.contains(&named),
                    "{name} takes `{parameter}` and does not read it"
                );
            }
        }
        assert!(checked > 30, "only {checked} were checked");
    }
}
