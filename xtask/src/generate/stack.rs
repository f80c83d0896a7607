//! `docs/stack.schema.json`: the JSON schema of stack files, for editors and for people.

use anyhow::Result;
use hostler_model::stack::Stack;
use schemars::generate::SchemaSettings;
use serde_json::json;

use super::Generated;

pub(super) fn generate() -> Result<Generated> {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Stack>();
    schema.insert("title".to_owned(), json!("A stack of Hostler"));
    Generated::json("docs/stack.schema.json", schema.as_value())
}
