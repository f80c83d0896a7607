//! `docs/config.schema.json`: the JSON schema of `hostler.toml`, for editors and for people.

use anyhow::Result;
use hostler_model::config::Config;
use schemars::generate::SchemaSettings;
use serde_json::json;

use super::Generated;

pub(super) fn generate() -> Result<Generated> {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    schema.insert("title".to_owned(), json!("hostler.toml"));
    Generated::json("docs/config.schema.json", schema.as_value())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "docs/hostler.example.toml";

    fn example() -> String {
        std::fs::read_to_string(crate::tree::project_root().join(EXAMPLE)).expect("the example exists")
    }

    #[test]
    fn the_example_holds_the_defaults() {
        let config: Config = toml::from_str(&example()).expect("the example is valid");
        assert_eq!(config, Config::default());
        config.check().expect("the defaults make sense");
    }

    /// Keys without a default value cannot be set to it; the example shows them commented out.
    #[test]
    fn the_example_names_every_key() {
        let text = example();
        let schema = SchemaSettings::draft2020_12()
            .with(|settings| settings.inline_subschemas = true)
            .into_generator()
            .into_root_schema_for::<Config>();
        let mut keys = Vec::new();
        collect_keys(schema.as_value(), &mut keys);
        assert!(keys.len() > 5, "{keys:?}");
        for key in keys {
            let named = text.lines().any(|line| line.trim_start_matches(['#', ' ']).starts_with(&format!("{key} = ")));
            assert!(named, "{EXAMPLE} does not show {key}");
        }
    }

    /// Names of the properties that are values, not tables.
    fn collect_keys(schema: &serde_json::Value, keys: &mut Vec<String>) {
        let Some(properties) = schema.get("properties").and_then(|properties| properties.as_object()) else { return };
        for (name, property) in properties {
            if property.get("properties").is_some() { collect_keys(property, keys) } else { keys.push(name.clone()) }
        }
    }
}
