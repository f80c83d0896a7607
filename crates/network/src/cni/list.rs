//! A configuration list, parsed once: what cannot be called is refused before anything is.

use std::collections::BTreeSet;

use hostler_model::limits;
use serde_json::{Map, Value};

use super::error::CniError;

/// Versions of the specification that are spoken, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// 0.3.1: no CHECK, and DEL without a previous result.
    V0_3_1,
    /// 0.4.0
    V0_4_0,
    /// 1.0.0
    V1_0_0,
    /// 1.1.0
    V1_1_0,
}

impl Version {
    const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// As it is written.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }
}

/// A configuration list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List {
    /// As it was given: what goes into the record of a set-up.
    pub(super) text: String,
    /// The name that its plugins know the network by.
    pub(crate) name: String,
    /// The newest version that the list and we both speak.
    pub(crate) version: Version,
    /// Its author says that CHECK gives false alarms.
    pub(super) disable_check: bool,
    /// In the order of ADD.
    pub(super) plugins: Vec<Plugin>,
}

/// One plugin of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plugin {
    /// Its `type`: the name of its program.
    pub(super) kind: String,
    /// What it wants to be told at run time.
    pub(super) capabilities: BTreeSet<String>,
    /// Everything that it says, unknown keys included.
    pub(super) config: Map<String, Value>,
}

fn refuse<T>(what: impl Into<String>) -> Result<T, CniError> {
    Err(CniError::List(what.into()))
}

impl List {
    /// Reads a list, or a single plugin's configuration as a list of one.
    pub(crate) fn parse(text: &str) -> Result<Self, CniError> {
        if text.len() > limits::CNI_LIST_MAX {
            return refuse(format!("has more than {} bytes", limits::CNI_LIST_MAX));
        }
        let value: Value =
            serde_json::from_str(text).map_err(|error| CniError::List(format!("is no JSON: {error}")))?;
        let Value::Object(list) = value else { return refuse("is no JSON object") };
        let version = version(&list)?;
        let name = match list.get("name") {
            Some(Value::String(name)) if is_name(name) => name.clone(),
            Some(name) => {
                return refuse(format!(
                    "has the name {}: it must begin with a letter or digit, followed by letters, digits, dots, \
                     underscores and dashes, at most {}",
                    brief(name),
                    limits::CNI_NAME_LENGTH_MAX
                ));
            }
            None => return refuse("has no name"),
        };
        let disable_check = truth(&list, "disableCheck")?;
        let plugins = match list.get("plugins") {
            Some(Value::Array(plugins)) => plugins.clone(),
            Some(_) => return refuse("has plugins that are no array"),
            None if list.contains_key("type") => vec![Value::Object(list)],
            None => return refuse("has neither plugins nor a type"),
        };
        if plugins.is_empty() {
            return refuse("has no plugins");
        }
        if plugins.len() > limits::CNI_PLUGINS_MAX {
            return refuse(format!("has {} plugins, more than {}", plugins.len(), limits::CNI_PLUGINS_MAX));
        }
        let plugins = plugins.into_iter().enumerate().map(|(index, plugin)| Plugin::parse(index, plugin));
        let plugins = plugins.collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), name, version, disable_check, plugins })
    }

    /// Its plugins that are in none of these directories.
    pub(crate) fn missing(&self, path: &[std::path::PathBuf]) -> Vec<String> {
        let missing = self.plugins.iter().filter(|plugin| super::call::locate(&plugin.kind, path).is_err());
        missing.map(|plugin| plugin.kind.clone()).collect()
    }

    /// Whether one of its plugins wants to be told of this: `portMappings`, `ips`, `mac`, `aliases`, `dns`, `bandwidth`.
    #[must_use]
    pub(crate) fn has_capability(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| plugin.capabilities.contains(capability))
    }

    /// Whether CHECK can be called, and may be.
    #[must_use]
    pub(crate) fn can_check(&self) -> bool {
        self.version >= Version::V0_4_0 && !self.disable_check
    }
}

impl Plugin {
    fn parse(index: usize, plugin: Value) -> Result<Self, CniError> {
        let place = format!("plugins[{index}]");
        let Value::Object(config) = plugin else { return refuse(format!("has {place}, which is no object")) };
        let kind = match config.get("type") {
            Some(Value::String(kind)) if is_program_name(kind) => kind.clone(),
            Some(kind) => {
                return refuse(format!("has {place}.type {}, which is no plain name of a program", brief(kind)));
            }
            None => return refuse(format!("has no {place}.type")),
        };
        // The plugin runs this one itself, from the same directories.
        match config.get("ipam").and_then(|ipam| ipam.get("type")) {
            None | Some(Value::Null) => {}
            Some(Value::String(ipam)) if ipam.is_empty() || is_program_name(ipam) => {}
            Some(ipam) => {
                return refuse(format!("has {place}.ipam.type {}, which is no plain name of a program", brief(ipam)));
            }
        }
        let capabilities = match config.get("capabilities") {
            None | Some(Value::Null) => BTreeSet::new(),
            Some(Value::Object(capabilities)) => {
                if let Some((name, _)) = capabilities.iter().find(|(_, wanted)| !wanted.is_boolean()) {
                    return refuse(format!("has {place}.capabilities.{name}, which is neither true nor false"));
                }
                let wanted = capabilities.iter().filter(|(_, wanted)| **wanted == Value::Bool(true));
                wanted.map(|(name, _)| name.clone()).collect()
            }
            Some(_) => return refuse(format!("has {place}.capabilities, which are no object")),
        };
        Ok(Self { kind, capabilities, config })
    }
}

/// The newest of all that the list names, in `cniVersion` and `cniVersions`, and that we speak.
fn version(list: &Map<String, Value>) -> Result<Version, CniError> {
    let mut named = Vec::new();
    match list.get("cniVersion") {
        Some(Value::String(version)) => named.push(version.as_str()),
        Some(_) => return refuse("has a cniVersion that is no text"),
        None => {}
    }
    match list.get("cniVersions") {
        Some(Value::Array(versions)) => {
            for version in versions {
                let Some(version) = version.as_str() else { return refuse("has cniVersions that are not all text") };
                named.push(version);
            }
        }
        Some(_) => return refuse("has cniVersions that are no array"),
        None => {}
    }
    if named.is_empty() {
        return refuse("has no cniVersion");
    }
    match named.iter().filter_map(|version| Version::parse(version)).max() {
        Some(version) => Ok(version),
        None => {
            let spoken: Vec<_> = Version::ALL.into_iter().map(Version::as_str).collect();
            let named: Vec<_> = named.iter().take(8).map(|version| brief(&Value::from(*version))).collect();
            refuse(format!("has cniVersion {}; spoken are {}", named.join(", "), spoken.join(", ")))
        }
    }
}

/// Lists in the field have both `true` and `"true"`.
fn truth(list: &Map<String, Value>, key: &str) -> Result<bool, CniError> {
    match list.get(key) {
        None => Ok(false),
        Some(Value::Bool(truth)) => Ok(*truth),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(_) => refuse(format!("has a {key} that is neither true nor false")),
    }
}

/// As the specification has it, for networks and for containers.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= limits::CNI_NAME_LENGTH_MAX
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// What a directory can have, and cannot lead out of it.
fn is_program_name(name: &str) -> bool {
    (1..=limits::CNI_NAME_LENGTH_MAX).contains(&name.len())
        && name != "."
        && !name.contains("..")
        && !name.chars().any(|char| char.is_control() || char == '/' || char == '\\')
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 80 { format!("{}…", text.chars().take(80).collect::<String>()) } else { text }
}
