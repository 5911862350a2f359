//! Schemas in the docs, made from the types: of the documents here, and of what MCP tools return.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

pub(crate) fn of<T: JsonSchema>() -> Value {
    let made = SchemaGenerator::default().into_root_schema_for::<T>();
    made.to_value()
}

pub(crate) fn named<const N: usize>(all: [(&str, Value); N]) -> Map<String, Value> {
    let named = all.into_iter();
    named
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect()
}

/// Compares a file of the docs with what the types say, or writes it when that is asked for.
#[expect(
    clippy::disallowed_methods,
    reason = "the schema is written when that is asked for"
)]
pub(crate) fn check(file: &str, about: &str, key: &str, schemas: &Map<String, Value>) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let how = "BDR_WRITE_DOCS=1 cargo test docs_";
    let about = format!("{about} Made from the program: {how}");
    let document = json!({"description": about, key: schemas});
    let wanted = serde_json::to_string_pretty(&document).unwrap() + "\n";
    if std::env::var_os("BDR_WRITE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let is = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(is == wanted, "{file} is not what the types say: {how}");
}
