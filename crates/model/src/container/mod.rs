//! How a workload runs as an OCI container: what it is made of, and what it may do.
//!
//! A container has a root of its own, from a *bundle* (a directory with `config.json`, as the OCI runtime specification
//! has it) or from a directory. [`text`] is how people write it. Of a bundle its `config.json` counts, and what is asked here comes on top of it.

pub mod text;

use serde::{Deserialize, Serialize};

use crate::bytes::ByteString;
use crate::capability::Capability;
use crate::error::{Problem, ProblemKind};
use crate::limits;
use crate::network::Attachment;
use crate::spec::invalid;

/// A container. Exactly one of `bundle` and `rootfs`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Container {
    /// An OCI bundle: a directory with a `config.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<ByteString>,
    /// A directory that becomes the container's root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<ByteString>,
    /// The root cannot be written to.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Files and directories of this machine that are seen in the container.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Empty directories in memory.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<Tmpfs>,
    /// Its host name; the workload's name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Capabilities on top of the default ones; those of a bundle when there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<Capability>,
    /// Capabilities that are taken away; before `cap_add`.
    #[serde(skip_serializing_if = "CapDrop::is_none")]
    pub cap_drop: CapDrop,
    /// Which system calls it may make.
    #[serde(skip_serializing_if = "Seccomp::is_default")]
    pub seccomp: Seccomp,
    /// Paths below `/proc` and `/sys` that are hidden and read-only by default are not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unmasked: bool,
    /// An AppArmor profile that is loaded on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<String>,
    /// Devices of this machine that it may use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Its network; when absent, what the bundle says, or none but its own loopback device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Whose user ids it sees.
    #[serde(skip_serializing_if = "Userns::is_host")]
    pub userns: Userns,
    /// Everything that the node may: all capabilities and devices, no filter of system calls, nothing hidden.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// The program that makes it: a name (`runc`, `crun`) or an absolute path; the node's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oci_runtime: Option<ByteString>,
    /// Arguments of that program, before its command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub oci_runtime_args: Vec<ByteString>,
    /// Do not change roots by `pivot_root(2)`: for a root in the initial RAM disk.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_pivot: bool,
}

/// A file or directory of this machine at a place in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// On this machine, absolute.
    pub source: ByteString,
    /// In the container, absolute.
    pub target: ByteString,
    /// It cannot be written to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// An empty directory in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// In the container, absolute.
    pub target: ByteString,
    /// How much fits in, bytes; half of the machine's memory when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Its permissions; `0o1777` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Programs in it can be executed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exec: bool,
}

/// Which capabilities are taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case", untagged, expecting = "\"ALL\" or a list of capabilities")]
pub enum CapDrop {
    /// Every one.
    All(All),
    /// These.
    These(Vec<Capability>),
}

/// The word `ALL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum All {
    /// Every one.
    #[serde(rename = "ALL", alias = "all")]
    All,
}

impl Default for CapDrop {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl CapDrop {
    /// None at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self, Self::These(these) if these.is_empty())
    }

    /// Whether this one goes.
    #[must_use]
    pub fn contains(&self, capability: Capability) -> bool {
        match self {
            Self::All(_) => true,
            Self::These(these) => these.contains(&capability),
        }
    }
}

/// Which system calls may be made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// Those of the built-in list; of a bundle, what it says.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// What this file says: JSON, as `linux.seccomp` of an OCI configuration or as Docker's profiles are.
    File(ByteString),
}

impl Seccomp {
    fn is_default(&self) -> bool {
        *self == Self::Default
    }
}

/// Which network is seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// A network of its own with nothing in it but the loopback device.
    #[default]
    None,
    /// This machine's.
    Host,
    /// That of this namespace, such as `/run/netns/blue`.
    Namespace(ByteString),
    /// A network of the workload's namespace: see `hostler network`.
    Named(Box<Attachment>),
}

impl Network {
    /// How it is attached to a network of the node, if it is.
    #[must_use]
    pub fn attachment(&self) -> Option<&Attachment> {
        match self {
            Self::Named(attachment) => Some(attachment),
            _ => None,
        }
    }
}

/// Whose user ids are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Userns {
    /// This machine's: root within is root without, less its capabilities.
    #[default]
    Host,
    /// Its own: within are 65,536 users that own nothing on this machine.
    Auto,
}

impl Userns {
    fn is_host(&self) -> bool {
        *self == Self::Host
    }
}

/// A device of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its path on this machine, absolute.
    pub source: ByteString,
    /// Its path in the container; the same when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ByteString>,
    /// What may be done: some of the letters `rwm` for read, write, and make nodes of it.
    #[serde(default = "all_access")]
    pub access: String,
}

fn all_access() -> String {
    "rwm".to_owned()
}

impl Container {
    /// Everything that can be judged without looking at the machine.
    pub fn check(&self) -> Result<(), Problem> {
        match (&self.bundle, &self.rootfs) {
            (None, None) => return Err(invalid("container", "needs a bundle or a rootfs")),
            (Some(_), Some(_)) => return Err(invalid("container", "cannot have both a bundle and a rootfs")),
            _ => {}
        }
        let paths = [("container.bundle", &self.bundle), ("container.rootfs", &self.rootfs)];
        for (field, path) in paths {
            path.as_ref().map_or(Ok(()), |path| check_path(field, path))?;
        }
        self.check_mounts()?;
        for device in &self.devices {
            check_path("container.devices.source", &device.source)?;
            device.target.as_ref().map_or(Ok(()), |target| check_path("container.devices.target", target))?;
            let known = device.access.chars().all(|letter| "rwm".contains(letter));
            if device.access.is_empty() || device.access.len() > 3 || !known {
                return Err(invalid("container.devices.access", "must be some of the letters r, w and m"));
            }
        }
        if self.devices.len() > limits::DEVICES_MAX {
            return Err(invalid("container.devices", &format!("has more than {} entries", limits::DEVICES_MAX)));
        }
        match &self.network {
            Some(Network::Namespace(path)) => check_path("container.network.namespace", path)?,
            Some(Network::Named(attachment)) => attachment.check("container.network.named")?,
            _ => {}
        }
        if let Seccomp::File(path) = &self.seccomp {
            check_path("container.seccomp.file", path)?;
        }
        if let Some(hostname) = &self.hostname {
            check_hostname("container.hostname", hostname)?;
        }
        self.check_runtime()?;
        self.check_privileged()
    }

    fn check_mounts(&self) -> Result<(), Problem> {
        if self.volumes.len() + self.tmpfs.len() > limits::MOUNTS_MAX {
            let what = format!("have more than {} entries", limits::MOUNTS_MAX);
            return Err(invalid("container.volumes, container.tmpfs", &what));
        }
        let mut targets = Vec::new();
        for volume in &self.volumes {
            check_path("container.volumes.source", &volume.source)?;
            check_target("container.volumes.target", &volume.target)?;
            targets.push(&volume.target);
        }
        for tmpfs in &self.tmpfs {
            check_target("container.tmpfs.target", &tmpfs.target)?;
            if tmpfs.size_bytes == Some(0) {
                return Err(invalid("container.tmpfs.size_bytes", "must be above 0"));
            }
            if tmpfs.mode.is_some_and(|mode| mode > 0o7777) {
                return Err(invalid("container.tmpfs.mode", "must be at most 7777, octal"));
            }
            targets.push(&tmpfs.target);
        }
        targets.sort_unstable();
        match targets.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                let what = format!("{:?} is the target of two mounts", pair[0].to_string_lossy());
                Err(invalid("container.volumes, container.tmpfs", &what))
            }
            None => Ok(()),
        }
    }

    fn check_runtime(&self) -> Result<(), Problem> {
        if let Some(program) = &self.oci_runtime {
            let bytes = program.as_bytes();
            let name =
                !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(byte));
            if !name {
                check_path("container.oci_runtime", program)?;
            }
        }
        let args = &self.oci_runtime_args;
        if args.len() > limits::OCI_ARGUMENTS_MAX
            || args.iter().any(|arg| arg.as_bytes().len() > limits::OCI_ARGUMENT_MAX)
        {
            let what = format!(
                "must be at most {} arguments of at most {} bytes",
                limits::OCI_ARGUMENTS_MAX,
                limits::OCI_ARGUMENT_MAX
            );
            return Err(invalid("container.oci_runtime_args", &what));
        }
        // They would point the OCI runtime elsewhere, and nobody would find the container again.
        const OURS: [&[u8]; 3] = [b"--root", b"--log", b"--log-format"];
        let is_ours = |arg: &ByteString| {
            OURS.iter().any(|ours| arg.as_bytes() == *ours || arg.as_bytes().starts_with(&[ours, &b"="[..]].concat()))
        };
        if args.iter().any(|arg| arg.contains_nul() || is_ours(arg)) {
            return Err(invalid(
                "container.oci_runtime_args",
                "cannot have --root, --log or --log-format: these are the node's",
            ));
        }
        Ok(())
    }

    fn check_privileged(&self) -> Result<(), Problem> {
        if !self.privileged {
            return Ok(());
        }
        let without_effect = [
            ("container.cap_add", self.cap_add.is_empty()),
            ("container.cap_drop", self.cap_drop.is_none()),
            ("container.seccomp", self.seccomp.is_default()),
            ("container.unmasked", !self.unmasked),
            ("container.apparmor", self.apparmor.is_none()),
            ("container.devices", self.devices.is_empty()),
        ];
        if let Some((field, _)) = without_effect.iter().find(|(_, absent)| !absent) {
            return Err(invalid(field, "has no effect with container.privileged, which permits everything"));
        }
        if self.userns == Userns::Auto {
            return Err(invalid("container.userns", "cannot be auto with container.privileged"));
        }
        Ok(())
    }
}

/// A path on this machine or in a container: absolute, without NUL, of a length that the kernel takes.
pub(crate) fn check_path(field: &str, path: &ByteString) -> Result<(), Problem> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        let shown: String = path.to_string_lossy().chars().take(60).collect();
        return Err(invalid(field, &format!("{shown:?} must be an absolute path")));
    }
    if path.contains_nul() || bytes.len() > limits::PATH_LENGTH_MAX {
        return Err(invalid(field, &format!("must have no NUL byte and at most {} bytes", limits::PATH_LENGTH_MAX)));
    }
    Ok(())
}

/// A place where something can be mounted: not the root itself, and nothing that leads out.
pub(crate) fn check_target(field: &str, path: &ByteString) -> Result<(), Problem> {
    check_path(field, path)?;
    let mut parts = path.as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let first = parts.next();
    if first.is_none() || first.into_iter().chain(parts).any(|part| part == b"..") {
        return Err(invalid(field, "must be below / and without .."));
    }
    Ok(())
}

pub(crate) fn check_hostname(field: &str, hostname: &str) -> Result<(), Problem> {
    let good = !hostname.is_empty()
        && hostname.len() <= limits::HOSTNAME_MAX
        && hostname.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        && !hostname.starts_with(['-', '.']);
    if good {
        return Ok(());
    }
    let what = format!("must be 1 to {} letters, digits, dots, dashes or underscores", limits::HOSTNAME_MAX);
    Err(Problem::new(ProblemKind::InvalidSpec, format!("{field} {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_with_the_field_named() {
        let cases = [
            (r#"{}"#, "bundle or a rootfs"),
            (r#"{"bundle":"/a","rootfs":"/b"}"#, "both"),
            (r#"{"rootfs":"b"}"#, "absolute"),
            (r#"{"rootfs":"/b","volumes":[{"source":"x","target":"/y"}]}"#, "volumes.source"),
            (r#"{"rootfs":"/b","volumes":[{"source":"/x","target":"/"}]}"#, "below /"),
            (r#"{"rootfs":"/b","volumes":[{"source":"/x","target":"/a/../.."}]}"#, ".."),
            (r#"{"rootfs":"/b","volumes":[{"source":"/x","target":"/a"}],"tmpfs":[{"target":"/a"}]}"#, "two mounts"),
            (r#"{"rootfs":"/b","tmpfs":[{"target":"/a","size_bytes":0}]}"#, "size_bytes"),
            (r#"{"rootfs":"/b","tmpfs":[{"target":"/a","mode":5000}]}"#, "mode"),
            (r#"{"rootfs":"/b","hostname":"a b"}"#, "hostname"),
            (r#"{"rootfs":"/b","cap_add":["EVERYTHING"]}"#, "not a capability"),
            (r#"{"rootfs":"/b","cap_drop":"some"}"#, "ALL"),
            (r#"{"rootfs":"/b","devices":[{"source":"/dev/null","access":"x"}]}"#, "access"),
            (r#"{"rootfs":"/b","network":{"namespace":"blue"}}"#, "network.namespace"),
            (r#"{"rootfs":"/b","oci_runtime":"a/b"}"#, "oci_runtime"),
            (r#"{"rootfs":"/b","oci_runtime_args":["--root=/x"]}"#, "--root"),
            (r#"{"rootfs":"/b","privileged":true,"cap_add":["CHOWN"]}"#, "no effect"),
            (r#"{"rootfs":"/b","privileged":true,"userns":"auto"}"#, "userns"),
            (r#"{"rootfs":"/b","colour":1}"#, "colour"),
        ];
        for (json, word) in cases {
            let parsed = serde_json::from_str::<Container>(json).map_err(|error| error.to_string());
            let error = parsed.and_then(|it| it.check().map_err(|problem| problem.detail)).expect_err(json);
            assert!(error.contains(word), "{error:?} does not name {word:?}");
        }
    }

    #[test]
    fn survives_json() {
        let json = r#"{"rootfs":"/b","volumes":[{"source":"/x","target":"/y","read_only":true}],
            "cap_add":["cap_net_admin"],"cap_drop":"ALL","seccomp":"unconfined","network":{"namespace":"/run/netns/x"},
            "devices":[{"source":"/dev/fuse"}],"userns":"auto","oci_runtime":"crun","oci_runtime_args":["--debug"]}"#;
        let container: Container = serde_json::from_str(json).expect("parse");
        container.check().expect("valid");
        assert!(container.cap_drop.contains(Capability::CHOWN));
        assert_eq!(container.devices[0].access, "rwm");
        let again = serde_json::from_str(&serde_json::to_string(&container).expect("print")).expect("parse");
        assert_eq!(container, again);
    }
}
