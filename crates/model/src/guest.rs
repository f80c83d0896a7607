//! A virtual machine, ready to be made, and what its guest is told: by whom it is made, how its agent is reached, what is
//! mounted, who it is.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::bytes::ByteString;
use crate::launch::{NetworkFiles, Program};
use crate::spec::Limits;
use crate::vm::Vm;

/// Name of the port by which the agent in a guest is reached, where that is a virtio console.
pub const AGENT_PORT: &str = "hostler.agent.0";
/// Port of the agent in a guest, where that is a vsock.
pub const AGENT_VSOCK_PORT: u32 = 1_024;
/// Name of the cgroup in a guest in which its programs are.
pub const GUEST_CGROUP: &str = "work";

/// What a run in a guest needs beside its program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmLaunch {
    /// What was asked.
    pub asked: Box<Vm>,
    /// The machine to be made; absent when the sandbox has one already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Box<VmBoot>>,
    /// By which names others of its network find it; the first is the workload's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Who the guest is from now on.
    pub identity: GuestIdentity,
}

/// A virtual machine, ready to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmBoot {
    /// Its directory, absolute: made for it, removed with it.
    pub directory: ByteString,
    /// The program that makes it, as people call it.
    pub vmm: String,
    /// That program. Its working directory is the machine's; what it says is the guest's console.
    pub program: Program,
    /// How the guest's agent is reached.
    pub channel: GuestChannel,
    /// The network namespace that the program is executed in, a file; that of the machine when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_namespace: Option<ByteString>,
    /// The cgroup to make for it: its name under the node's parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Limits of that cgroup.
    #[serde(default)]
    pub limits: Limits,
    /// How long it may take until the guest's agent answers, milliseconds.
    pub boot_max_ms: u64,
    /// How often it is made when it does not.
    pub attempts: u32,
    /// What its agent mounts; absent when it comes from a snapshot, which has it mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub furnish: Option<Furnish>,
    /// What is written must be on its disks before it is switched off.
    #[serde(default)]
    pub keeps_disks: bool,
}

/// How the agent of a guest is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum GuestChannel {
    /// There is none.
    None,
    /// A unix socket in the machine's directory carries the bytes.
    Stream {
        /// Its name.
        socket: String,
    },
    /// So does this one, once it is told which port of the guest's vsock is meant.
    Vsock {
        /// Its name.
        socket: String,
        /// The port.
        port: u32,
    },
}

/// What is mounted in a guest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Furnish {
    /// Its root; absent for that of the initial RAM disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<GuestRoot>,
    /// What is mounted in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<GuestMount>,
}

/// The root of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestRoot {
    /// The serial number of its disk.
    pub disk: String,
    /// Its file system, as `mount` calls it.
    pub format: String,
    /// Where goes what is written to it.
    pub writes: GuestWrites,
}

/// Where goes what is written to a root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestWrites {
    /// Nowhere: it is read-only.
    Nowhere,
    /// Into it.
    Through,
    /// To memory.
    Memory,
    /// To this disk, by its serial number.
    Disk(String),
}

/// Something that is mounted in a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestMount {
    /// What.
    pub source: GuestSource,
    /// Where, absolute.
    pub target: ByteString,
    /// It cannot be written to.
    #[serde(default)]
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestSource {
    /// A directory of the machine, by its virtiofs tag.
    Share {
        /// The tag.
        tag: String,
        /// Of the directory, what is seen: this one file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<ByteString>,
    },
    /// A disk, by its serial number, and its file system.
    Disk {
        /// The serial number.
        disk: String,
        /// The file system, as `mount` calls it.
        format: String,
    },
}

/// Who a guest is. One that was copied from another takes it as one that was booted does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GuestIdentity {
    /// Its host name.
    pub hostname: String,
    /// 32 hexadecimal digits that no other machine has; the agent of the sandbox makes them up.
    #[serde(default)]
    pub machine_id: String,
    /// The time, wall clock, milliseconds.
    #[serde(default)]
    pub wall_ms: u64,
    /// Random bytes for its generator: secret, never written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<ByteString>,
    /// Its interfaces, by their hardware addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<GuestNic>,
    /// What it reads of its network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Box<NetworkFiles>>,
}

/// An interface of a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNic {
    /// Its hardware address, which also finds it.
    pub mac: [u8; 6],
    /// Its addresses, and the lengths of their networks.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where everything else is reached.
    pub gateways: Vec<IpAddr>,
    /// Its largest packet, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}
