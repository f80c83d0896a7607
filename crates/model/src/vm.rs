//! How a workload runs as a microVM: a kernel of its own, its memory and processors, what it sees of this machine.
//!
//! In the guest an agent runs the program, as another does on this machine; or there is none, and the guest is whatever
//! its kernel makes of it: then its console is the output, and the end of the machine is the end of the run.

use serde::{Deserialize, Serialize};

use crate::bytes::ByteString;
use crate::container::{Network, Volume, check_hostname, check_path, check_target};
use crate::error::Problem;
use crate::limits;
use crate::spec::{Spec, invalid};

/// A microVM. What is absent is the node's choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Vm {
    /// The program that makes it.
    #[serde(skip_serializing_if = "Vmm::is_auto")]
    pub vmm: Vmm,
    /// A kernel: an ELF `vmlinux` or a bzImage; that of `hostler vm setup` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<ByteString>,
    /// An initial RAM disk instead of the node's own, with the agent in it as `/init` unless there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initrd: Option<ByteString>,
    /// Words for the kernel's command line, after the node's. Anybody who can look at the machine can read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_args: Option<String>,
    /// What becomes the guest's root: a directory, of which an image is made that all its guests share, or the file of an
    /// image (ext4, erofs, squashfs). A small system with the usual commands when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<ByteString>,
    /// The root cannot be written to. Otherwise what is written goes with the guest.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// What is written to the root goes to a disk of this size, bytes; to the guest's memory when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Its processors.
    pub vcpus: u8,
    /// Its memory, bytes.
    pub memory_bytes: u64,
    /// Directories and files of this machine that are seen in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Its network: one of the node's by name, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// How much its disks may read and write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_rate: Option<DiskRate>,
    /// Its host name; the workload's name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Nothing of the node runs in it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_agent: bool,
    /// How long it may take until its agent answers, milliseconds; then it is made once more.
    pub boot_max_ms: u64,
}

impl Default for Vm {
    fn default() -> Self {
        Self {
            vmm: Vmm::Auto,
            kernel: None,
            initrd: None,
            kernel_args: None,
            rootfs: None,
            read_only: false,
            disk_bytes: None,
            vcpus: 1,
            memory_bytes: limits::VM_MEMORY_DEFAULT,
            volumes: Vec::new(),
            network: None,
            disk_rate: None,
            hostname: None,
            no_agent: false,
            boot_max_ms: limits::VM_BOOT_MS,
        }
    }
}

/// The program that makes a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Vmm {
    /// Firecracker where it and a KVM that works are, else QEMU.
    #[default]
    Auto,
    /// Firecracker, jailed.
    Firecracker,
    /// QEMU with its machine `microvm`; without KVM it translates instructions, and is no boundary for hostile code.
    Qemu,
}

impl Vmm {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }

    /// The word as JSON and people see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Firecracker => "firecracker",
            Self::Qemu => "qemu",
        }
    }
}

impl std::str::FromStr for Vmm {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(Self::Auto),
            "firecracker" => Ok(Self::Firecracker),
            "qemu" => Ok(Self::Qemu),
            other => Err(format!("{other:?} is none of auto, firecracker, qemu")),
        }
    }
}

/// How much the disks of a guest may do together in a second. At least one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DiskRate {
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<u64>,
}

impl Vm {
    /// Everything that can be judged without looking at the machine.
    pub fn check(&self) -> Result<(), Problem> {
        let paths = [("vm.kernel", &self.kernel), ("vm.initrd", &self.initrd), ("vm.rootfs", &self.rootfs)];
        for (field, path) in paths {
            path.as_ref().map_or(Ok(()), |path| check_path(field, path))?;
        }
        if self.read_only && self.rootfs.is_none() && !self.no_agent {
            return Err(invalid("vm.read_only", "is of vm.rootfs, and there is none"));
        }
        if !(1..=limits::VM_VCPUS_MAX).contains(&self.vcpus) {
            return Err(invalid("vm.vcpus", &format!("must be from 1 to {}", limits::VM_VCPUS_MAX)));
        }
        let memory = limits::VM_MEMORY_MIN..=limits::VM_MEMORY_MAX;
        if !memory.contains(&self.memory_bytes) || !self.memory_bytes.is_multiple_of(1024 * 1024) {
            return Err(invalid("vm.memory_bytes", "must be whole MiB, from 64 MiB to 1 TiB"));
        }
        if !(limits::VM_BOOT_MIN_MS..=limits::TIME_MAX_MS).contains(&self.boot_max_ms) {
            return Err(invalid("vm.boot_max_ms", &format!("must be from {} to a year", limits::VM_BOOT_MIN_MS)));
        }
        self.check_root()?;
        self.check_volumes()?;
        if let Some(arguments) = &self.kernel_args {
            let printable = arguments.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            if arguments.len() > limits::VM_KERNEL_ARGS_MAX || !printable {
                let what = format!("must be at most {} printable characters", limits::VM_KERNEL_ARGS_MAX);
                return Err(invalid("vm.kernel_args", &what));
            }
        }
        match &self.network {
            None | Some(Network::None) => {}
            Some(Network::Named(attachment)) => attachment.check("vm.network.named")?,
            Some(_) => return Err(invalid("vm.network", "must be none or the name of a network of the node")),
        }
        if let Some(rate) = self.disk_rate
            && (rate == DiskRate::default() || rate.bytes == Some(0) || rate.operations == Some(0))
        {
            return Err(invalid("vm.disk_rate", "must have bytes or operations, above 0"));
        }
        self.hostname.as_ref().map_or(Ok(()), |hostname| check_hostname("vm.hostname", hostname))?;
        self.check_without_agent()
    }

    fn check_root(&self) -> Result<(), Problem> {
        let Some(bytes) = self.disk_bytes else { return Ok(()) };
        if !(limits::VM_DISK_MIN..=limits::VM_DISK_MAX).contains(&bytes) {
            return Err(invalid("vm.disk_bytes", "must be from 16 MiB to 16 TiB"));
        }
        if self.read_only {
            return Err(invalid("vm.disk_bytes", "has no effect with vm.read_only"));
        }
        if self.rootfs.is_none() {
            return Err(invalid("vm.disk_bytes", "has no effect without vm.rootfs"));
        }
        Ok(())
    }

    fn check_volumes(&self) -> Result<(), Problem> {
        if self.volumes.len() > limits::VM_VOLUMES_MAX {
            return Err(invalid("vm.volumes", &format!("has more than {} entries", limits::VM_VOLUMES_MAX)));
        }
        let mut targets = Vec::new();
        for volume in &self.volumes {
            check_path("vm.volumes.source", &volume.source)?;
            check_target("vm.volumes.target", &volume.target)?;
            targets.push(&volume.target);
        }
        targets.sort_unstable();
        match targets.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                let what = format!("{:?} is the target of two of them", pair[0].to_string_lossy());
                Err(invalid("vm.volumes", &what))
            }
            None => Ok(()),
        }
    }

    fn check_without_agent(&self) -> Result<(), Problem> {
        if !self.no_agent {
            return Ok(());
        }
        if self.kernel.is_none() {
            return Err(invalid("vm.kernel", "must be given with vm.no_agent: the node's own kernel starts its agent"));
        }
        let needs_agent = [
            ("vm.volumes", self.volumes.is_empty()),
            ("vm.hostname", self.hostname.is_none()),
            ("vm.disk_bytes", self.disk_bytes.is_none()),
        ];
        match needs_agent.iter().find(|(_, absent)| !absent) {
            Some((field, _)) => {
                Err(invalid(field, "needs the agent in the guest, and vm.no_agent says that there is none"))
            }
            None => Ok(()),
        }
    }
}

/// What of a spec goes with a virtual machine.
pub(crate) fn check(spec: &Spec) -> Result<(), Problem> {
    let Some(vm) = &spec.vm else { return Ok(()) };
    vm.check()?;
    let apart = [
        ("container", spec.container.is_none(), "cannot be combined with vm"),
        ("isolation", spec.isolation.is_none(), "cannot be combined with vm, which is a machine of its own"),
        (
            "stdio.stdin",
            spec.stdio.stdin.is_none(),
            "cannot be a file with vm; use stdio.stdin_data or stdio.interactive",
        ),
        ("stdio.stdout", spec.stdio.stdout.is_none(), "cannot be a file with vm; its output is in the log"),
        ("stdio.stderr", spec.stdio.stderr.is_none(), "cannot be a file with vm; its output is in the log"),
        ("limits.memory_bytes", spec.limits.memory_bytes.is_none(), "is vm.memory_bytes for a virtual machine"),
    ];
    if let Some((field, _, what)) = apart.iter().find(|(_, absent, _)| !absent) {
        return Err(invalid(field, what));
    }
    if !vm.no_agent {
        return Ok(());
    }
    let needs_agent = [
        ("command", spec.command.is_empty()),
        ("env", spec.env.is_empty()),
        ("workdir", spec.workdir.is_none()),
        ("user", spec.user.is_none()),
        ("rlimits", spec.rlimits.is_empty()),
        ("stdio.tty", spec.stdio.tty.is_none()),
        ("stdio.stdin_data", spec.stdio.stdin_data.is_none()),
        ("stdio.interactive", !spec.stdio.interactive),
    ];
    match needs_agent.iter().find(|(_, absent)| !absent) {
        Some((field, _)) => {
            Err(invalid(field, "needs the agent in the guest, and vm.no_agent says that there is none"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        let spec: Result<Spec, String> = serde_json::from_str(json).map_err(|error| error.to_string());
        spec.and_then(|spec| spec.check().map_err(|problem| problem.detail)).expect_err(json)
    }

    #[test]
    fn refuses_with_the_field_named() {
        let cases = [
            (r#""vm":{"vcpus":0}"#, "vm.vcpus"),
            (r#""vm":{"memory_bytes":1000}"#, "vm.memory_bytes"),
            (r#""vm":{"memory_bytes":134217729}"#, "vm.memory_bytes"),
            (r#""vm":{"kernel":"vmlinux"}"#, "vm.kernel"),
            (r#""vm":{"rootfs":"/r","disk_bytes":5}"#, "vm.disk_bytes"),
            (r#""vm":{"disk_bytes":1073741824}"#, "vm.rootfs"),
            (r#""vm":{"rootfs":"/r","read_only":true,"disk_bytes":1073741824}"#, "vm.read_only"),
            (r#""vm":{"volumes":[{"source":"/a","target":"/"}]}"#, "vm.volumes.target"),
            (r#""vm":{"volumes":[{"source":"/a","target":"/x"},{"source":"/b","target":"/x"}]}"#, "two of them"),
            (r#""vm":{"kernel_args":"a\nb"}"#, "vm.kernel_args"),
            (r#""vm":{"network":"host"}"#, "vm.network"),
            (r#""vm":{"disk_rate":{}}"#, "vm.disk_rate"),
            (r#""vm":{"hostname":"a b"}"#, "vm.hostname"),
            (r#""vm":{"boot_max_ms":1}"#, "vm.boot_max_ms"),
            (r#""vm":{"no_agent":true}"#, "vm.kernel"),
            (r#""vm":{"no_agent":true,"kernel":"/k"}"#, "command"),
            (r#""vm":{"vmm":"xen"}"#, "xen"),
            (r#""vm":{"colour":1}"#, "colour"),
            (r#""vm":{},"container":{"rootfs":"/r"}"#, "container"),
            (r#""vm":{},"isolation":{}"#, "isolation"),
            (r#""vm":{},"stdio":{"stdout":"/x"}"#, "stdio.stdout"),
            (r#""vm":{},"limits":{"memory_bytes":134217728}"#, "vm.memory_bytes"),
        ];
        for (fields, word) in cases {
            let error = refused(&format!(r#"{{"command":["true"],{fields}}}"#));
            assert!(error.contains(word), "{error:?} does not name {word:?}");
        }
        let error = refused(r#"{"command":[],"vm":{"no_agent":true,"kernel":"/k"},"workdir":"/x"}"#);
        assert!(error.contains("workdir"), "{error}");
    }

    #[test]
    fn survives_json() {
        let json = r#"{"command":["true"],"vm":{"vmm":"qemu","kernel":"/k","rootfs":"/r","vcpus":2,"memory_bytes":268435456,
            "volumes":[{"source":"/a","target":"/x","read_only":true}],"disk_rate":{"bytes":1000},"disk_bytes":1073741824}}"#;
        let spec: Spec = serde_json::from_str(json).expect("parse");
        spec.check().expect("valid");
        let again = serde_json::from_str(&serde_json::to_string(&spec).expect("print")).expect("parse");
        assert_eq!(spec, again);
        let unikernel: Spec =
            serde_json::from_str(r#"{"command":[],"vm":{"no_agent":true,"kernel":"/k"}}"#).expect("parse");
        unikernel.check().expect("a command is the kernel's own affair");
    }
}
