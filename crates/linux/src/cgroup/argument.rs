//! A [`Parent`] as one word of a command line, for agents.
//!
//! `v1;memory=/sys/fs/cgroup/memory/h00ff12;cpu,cpuacct=…;oci=/h00ff12;+hugetlb=…;+=…`: the node's own places, then the
//! path of containers, and the places where only OCI runtimes make groups.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use hostler_model::NodeTag;

use super::oci::Oci;
use super::parent::Inner;
use super::{CgroupError, Controller, Parent, Place, Version};

impl Parent {
    /// One word for a command line, such as `v1;memory=/sys/fs/cgroup/memory/h00ff12;cpu,cpuacct=…`.
    #[must_use]
    pub fn to_arg(&self) -> String {
        let inner = self.inner();
        let mut text = match inner.version {
            Version::V1 => "v1",
            Version::V2 => "v2",
            Version::None => "none",
        }
        .to_owned();
        let mut field = |mark: &str, place: &Place| {
            let names: Vec<_> = place.controllers.iter().map(|held| held.v1_name()).collect();
            let names = if inner.version == Version::V1 { names.join(",") } else { String::new() };
            text.push_str(&format!(";{mark}{names}={}", escape(&place.directory)));
        };
        inner.places.iter().for_each(|place| field("", place));
        inner.oci.places.iter().for_each(|place| field("+", place));
        if !inner.oci.path.as_os_str().is_empty() {
            text.push_str(&format!(";oci={}", escape(&inner.oci.path)));
        }
        text
    }

    /// Reads what [`Parent::to_arg`] made. Takes only plain absolute paths that end in a node's group, the same in all
    /// hierarchies.
    pub fn from_arg(text: &str) -> Result<Self, CgroupError> {
        let bad = |why| CgroupError::Argument { text: text.chars().take(200).collect(), why };
        let mut fields = text.split(';');
        let version = match fields.next() {
            Some("v1") => Version::V1,
            Some("v2") => Version::V2,
            Some("none") => Version::None,
            _ => return Err(bad("it must begin with v1, v2 or none")),
        };
        let (mut places, mut oci) = (Vec::<Place>::new(), Oci::default());
        let mut node = None;
        for field in fields {
            let (names, path) = field.split_once('=').ok_or_else(|| bad("expected controllers=path"))?;
            let directory = unescape(path).ok_or_else(|| bad("a bad escape in a path"))?;
            check_path(&directory).map_err(bad)?;
            let name = directory.file_name().map(OsStr::to_os_string);
            if *node.get_or_insert_with(|| name.clone()) != name {
                return Err(bad("the paths name different nodes"));
            }
            match names.strip_prefix('+') {
                _ if names == "oci" && version != Version::None => oci.path = directory,
                Some(names) if version == Version::V1 => {
                    let known = if names.is_empty() { Some(Vec::new()) } else { controllers_named(names) };
                    let controllers = known.ok_or_else(|| bad("a controller that is not known"))?;
                    oci.places.push(Place { controllers, directory });
                }
                _ => {
                    let controllers = match version {
                        Version::V1 => controllers_named(names),
                        Version::V2 => (names.is_empty() && places.is_empty()).then(|| Controller::ALL.to_vec()),
                        Version::None => None,
                    };
                    let controllers =
                        controllers.ok_or_else(|| bad("a controller that is not known or does not fit"))?;
                    if places.iter().any(|place| controllers.iter().any(|held| place.holds(*held))) {
                        return Err(bad("a controller is named twice"));
                    }
                    places.push(Place { controllers, directory });
                }
            }
        }
        let (above, chain, obstacles) = Default::default();
        Ok(Self(Arc::new(Inner { version, places, oci, above, chain, obstacles })))
    }
}

fn check_path(directory: &Path) -> Result<(), &'static str> {
    let plain = directory.strip_prefix("/").is_ok_and(|rest| {
        rest.components().all(|part| matches!(part, Component::Normal(_)))
            && !directory.as_os_str().as_bytes().split(|byte| *byte == b'/').any(|part| part == b".")
    });
    let name = directory.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let tagged = name.strip_prefix('h').is_some_and(|tag| tag.parse::<NodeTag>().is_ok());
    if plain && tagged { Ok(()) } else { Err("a path must be absolute and plain and end in h<node tag>") }
}

fn controllers_named(names: &str) -> Option<Vec<Controller>> {
    names.split(',').map(|name| Controller::ALL.into_iter().find(|held| held.v1_name() == name)).collect()
}

/// Bytes that would end a field, or that are not plain text, as `%41`.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b';' | b'%' | 0..=b' ' | 0x7f.. => text.push_str(&format!("%{byte:02x}")),
            _ => text.push(char::from(*byte)),
        }
    }
    text
}

fn unescape(text: &str) -> Option<PathBuf> {
    let mut parts = text.split('%');
    let mut out = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let value = u8::from_str_radix(part.get(..2)?, 16).ok().filter(|byte| *byte != 0)?;
        out.push(value);
        out.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(out)))
}
