//! A virtual machine as data, and what is refused of it whatever the VMM. What one VMM has and the other has not is said
//! by [`super::Vmm::lacks`].

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hostler_model::limits;
use thiserror::Error;

/// Memory is counted in these, bytes: Firecracker takes no other unit.
pub(super) const MIB: u64 = 1024 * 1024;
/// Longest name of a network interface, bytes: the kernel's `IFNAMSIZ` without the NUL.
const INTERFACE_NAME_MAX: usize = 15;

/// A virtual machine. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// An ELF `vmlinux`: what both VMMs boot directly.
    pub kernel: PathBuf,
    /// Its first file system.
    pub initrd: Option<PathBuf>,
    /// What the kernel is told beside what the VMM needs. Anybody on the machine can read it: no secrets.
    pub kernel_arguments: String,
    /// Processors, 1 to 32.
    pub vcpus: u8,
    /// Memory, bytes; whole MiB.
    pub memory_bytes: u64,
    /// Block devices. The guest finds them by their ids.
    pub drives: Vec<Drive>,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// Where the taps of the cards are; the host's network when absent.
    pub network_namespace: Option<PathBuf>,
    /// Directories that the guest mounts.
    pub shares: Vec<Share>,
    /// How the agent in the guest is reached.
    pub channel: Channel,
}

/// A raw image, as a block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// 1 to 20 letters, digits, `_`, `-`. The device's serial number with QEMU (`/sys/block/*/serial`).
    pub id: String,
    /// The image.
    pub path: PathBuf,
    /// Nobody writes to it.
    pub read_only: bool,
    /// The kernel mounts it as `/` when there is no initrd. At most one.
    pub is_root: bool,
    /// How fast it may be read and written, together.
    pub rate: Option<RateLimit>,
}

/// A network card at a tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    /// 1 to 20 letters, digits, `_`, `-`.
    pub id: String,
    /// The tap's name in the VM's network namespace; it exists already.
    pub tap: String,
    /// Hardware address: of one station.
    pub mac: [u8; 6],
    /// What the guest receives.
    pub rate_rx: Option<RateLimit>,
    /// What the guest sends.
    pub rate_tx: Option<RateLimit>,
}

/// A directory behind virtio-fs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// By which the guest mounts it; at most 36 bytes.
    pub tag: String,
    /// The socket of the vhost-user server. It exists already.
    pub socket: PathBuf,
}

/// How the agent in the guest is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// There is none.
    None,
    /// A byte stream: see [`super::ChannelAddress`].
    Agent,
}

/// Two token buckets; at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Of bytes.
    pub bandwidth: Option<Bucket>,
    /// Of operations.
    pub ops: Option<Bucket>,
}

/// A token bucket that starts full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// What it holds, tokens; at least one.
    pub size: u64,
    /// What may be taken at the very beginning, once, on top, tokens.
    pub one_time_burst: Option<u64>,
    /// In which time an empty one fills, milliseconds; at least one.
    pub refill_ms: u64,
}

impl Bucket {
    /// What it comes to in the long run, tokens a second; at least one.
    #[must_use]
    pub fn per_second(&self) -> u64 {
        let rate = u128::from(self.size) * 1_000 / u128::from(self.refill_ms.max(1));
        u64::try_from(rate).unwrap_or(u64::MAX).max(1)
    }
}

/// What is wrong with a machine.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MachineError {
    /// Number of processors.
    #[error("a VM has 1 to {max} processors, not {0}", max = limits::VM_VCPUS_MAX)]
    Vcpus(u8),
    /// Size of the memory.
    #[error("the memory of a VM is {min} to {max} MiB, and whole MiB, not {0} bytes", min = limits::VM_MEMORY_MIN / MIB, max = limits::VM_MEMORY_MAX / MIB)]
    Memory(u64),
    /// The kernel's arguments.
    #[error("arguments of a kernel are at most {} bytes of printable ASCII", limits::VM_KERNEL_ARGUMENTS_MAX)]
    KernelArguments,
    /// A path.
    #[error("{what}: {path:?} is not an absolute path that a VMM can be told")]
    Path {
        /// Of what.
        what: String,
        /// As it was given.
        path: PathBuf,
    },
    /// Too many.
    #[error("a VM has at most {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// An id or a tag.
    #[error("{what}: {name:?} is not 1 to {max} letters, digits, _ or -")]
    Name {
        /// Of what.
        what: &'static str,
        /// As it was given.
        name: String,
        /// Longest, bytes.
        max: usize,
    },
    /// An id, tag, tap or address that two have.
    #[error("two {what} of a VM are {name}")]
    Twice {
        /// Of what.
        what: &'static str,
        /// Which.
        name: String,
    },
    /// More than one root.
    #[error("a VM has more than one root drive")]
    Roots,
    /// A hardware address.
    #[error("card {0}: its hardware address is all zeroes, or that of a group")]
    Mac(String),
    /// A rate limit.
    #[error("{0}: a rate limit has a bucket, which holds at least 1 and fills in 1 to {max} ms", max = limits::VM_REFILL_MAX_MS)]
    Rate(String),
}

impl Machine {
    /// Whether it makes sense. Nothing is looked at but itself: whether files are there is seen when they are used.
    pub fn check(&self) -> Result<(), MachineError> {
        if !(1..=limits::VM_VCPUS_MAX).contains(&self.vcpus) {
            return Err(MachineError::Vcpus(self.vcpus));
        }
        let memory = self.memory_bytes;
        if !(limits::VM_MEMORY_MIN..=limits::VM_MEMORY_MAX).contains(&memory) || !memory.is_multiple_of(MIB) {
            return Err(MachineError::Memory(memory));
        }
        let arguments = &self.kernel_arguments;
        let printable = arguments.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if arguments.len() > limits::VM_KERNEL_ARGUMENTS_MAX || !printable {
            return Err(MachineError::KernelArguments);
        }
        path("kernel", &self.kernel)?;
        self.initrd.as_deref().map_or(Ok(()), |initrd| path("initrd", initrd))?;
        self.network_namespace.as_deref().map_or(Ok(()), |at| path("network namespace", at))?;
        self.check_drives()?;
        self.check_nics()?;
        self.check_shares()
    }

    fn check_drives(&self) -> Result<(), MachineError> {
        at_most("drives", self.drives.len(), limits::VM_DRIVES_MAX)?;
        for drive in &self.drives {
            name("drive", &drive.id, limits::VM_DEVICE_ID_MAX)?;
            path(&format!("drive {}", drive.id), &drive.path)?;
            rate(&drive.id, drive.rate)?;
        }
        distinct("drives", self.drives.iter().map(|drive| drive.id.clone()))?;
        match self.drives.iter().filter(|drive| drive.is_root).count() {
            0 | 1 => Ok(()),
            _ => Err(MachineError::Roots),
        }
    }

    fn check_nics(&self) -> Result<(), MachineError> {
        at_most("network cards", self.nics.len(), limits::VM_NICS_MAX)?;
        for nic in &self.nics {
            name("network card", &nic.id, limits::VM_DEVICE_ID_MAX)?;
            name("tap", &nic.tap, INTERFACE_NAME_MAX)?;
            if nic.mac == [0; 6] || nic.mac[0] & 1 != 0 {
                return Err(MachineError::Mac(nic.id.clone()));
            }
            rate(&nic.id, nic.rate_rx)?;
            rate(&nic.id, nic.rate_tx)?;
        }
        distinct("network cards", self.nics.iter().map(|nic| nic.id.clone()))?;
        distinct("taps", self.nics.iter().map(|nic| nic.tap.clone()))?;
        distinct("hardware addresses", self.nics.iter().map(|nic| mac_text(nic.mac)))
    }

    fn check_shares(&self) -> Result<(), MachineError> {
        at_most("shares", self.shares.len(), limits::VM_SHARES_MAX)?;
        for share in &self.shares {
            name("share", &share.tag, limits::VM_SHARE_TAG_MAX)?;
            path(&format!("share {}", share.tag), &share.socket)?;
        }
        distinct("shares", self.shares.iter().map(|share| share.tag.clone()))
    }
}

/// As people and VMMs write it.
pub(super) fn mac_text(mac: [u8; 6]) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

fn at_most(what: &'static str, count: usize, max: usize) -> Result<(), MachineError> {
    if count > max { Err(MachineError::TooMany { what, max }) } else { Ok(()) }
}

fn name(what: &'static str, name: &str, max: usize) -> Result<(), MachineError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    // A leading `-` could be taken for an option.
    let good = (1..=max).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('-');
    if good { Ok(()) } else { Err(MachineError::Name { what, name: name.to_owned(), max }) }
}

/// VMMs are told paths in JSON, so they are UTF-8; no control characters, which would be a mess in any log.
fn path(what: &str, path: &Path) -> Result<(), MachineError> {
    let plain = path.to_str().is_some_and(|text| {
        text.len() <= limits::PATH_LENGTH_MAX && !text.chars().any(char::is_control) && path.is_absolute()
    });
    if plain { Ok(()) } else { Err(MachineError::Path { what: what.to_owned(), path: path.to_path_buf() }) }
}

fn rate(of: &str, rate: Option<RateLimit>) -> Result<(), MachineError> {
    let Some(RateLimit { bandwidth, ops }) = rate else { return Ok(()) };
    let bad = |bucket: Bucket| bucket.size == 0 || !(1..=limits::VM_REFILL_MAX_MS).contains(&bucket.refill_ms);
    if (bandwidth.is_none() && ops.is_none()) || bandwidth.is_some_and(bad) || ops.is_some_and(bad) {
        return Err(MachineError::Rate(of.to_owned()));
    }
    Ok(())
}

fn distinct(what: &'static str, names: impl Iterator<Item = String>) -> Result<(), MachineError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if let Some(name) = seen.replace(name) {
            return Err(MachineError::Twice { what, name });
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Something of everything.
    pub(in crate::microvm) fn machine() -> Machine {
        let bucket = Bucket { size: 1_000_000, one_time_burst: None, refill_ms: 500 };
        Machine {
            kernel: "/k/vmlinux".into(),
            initrd: Some("/k/initrd".into()),
            kernel_arguments: "hostler.a=1".to_owned(),
            vcpus: 2,
            memory_bytes: 128 * MIB,
            drives: vec![
                Drive {
                    id: "data".to_owned(),
                    path: "/d/a,b=c.img".into(),
                    read_only: true,
                    is_root: false,
                    rate: None,
                },
                Drive {
                    id: "root".to_owned(),
                    path: "/d/root.img".into(),
                    read_only: false,
                    is_root: true,
                    rate: Some(RateLimit { bandwidth: Some(bucket), ops: Some(Bucket { size: 100, ..bucket }) }),
                },
            ],
            nics: vec![Nic {
                id: "eth0".to_owned(),
                tap: "tap0".to_owned(),
                mac: [2, 0, 0, 0, 0, 1],
                rate_rx: None,
                rate_tx: None,
            }],
            network_namespace: Some("/run/netns/x".into()),
            shares: Vec::new(),
            channel: Channel::Agent,
        }
    }

    #[test]
    fn what_is_refused() {
        assert_eq!(machine().check(), Ok(()));
        let bucket = Bucket { size: 1, one_time_burst: None, refill_ms: 1 };
        type Change = Box<dyn Fn(&mut Machine)>;
        let bad: Vec<(&str, Change)> = vec![
            ("no processor", Box::new(|m| m.vcpus = 0)),
            ("33 processors", Box::new(|m| m.vcpus = 33)),
            ("no memory", Box::new(|m| m.memory_bytes = 0)),
            ("half a MiB", Box::new(|m| m.memory_bytes += MIB / 2)),
            ("too much", Box::new(|m| m.memory_bytes = u64::MAX)),
            ("a line", Box::new(|m| m.kernel_arguments = "a\nb".to_owned())),
            ("long", Box::new(|m| m.kernel_arguments = "a".repeat(1_537))),
            ("relative", Box::new(|m| m.kernel = "vmlinux".into())),
            ("a NUL", Box::new(|m| m.initrd = Some("/a\0b".into()))),
            ("relative", Box::new(|m| m.drives[0].path = "../x".into())),
            ("id", Box::new(|m| m.drives[0].id = "a,b".to_owned())),
            ("id", Box::new(|m| m.drives[0].id = String::new())),
            ("id", Box::new(|m| m.drives[0].id = "a/../b".to_owned())),
            ("id", Box::new(|m| m.drives[0].id = "a".repeat(21))),
            ("twice", Box::new(|m| m.drives[0].id = "root".to_owned())),
            ("two roots", Box::new(|m| m.drives[0].is_root = true)),
            ("nine", Box::new(|m| m.drives = vec![m.drives[0].clone(); 9])),
            ("tap", Box::new(|m| m.nics[0].tap = "-x".to_owned())),
            ("tap", Box::new(|m| m.nics[0].tap = "a".repeat(16))),
            ("group", Box::new(|m| m.nics[0].mac = [1, 0, 0, 0, 0, 0])),
            ("zeroes", Box::new(|m| m.nics[0].mac = [0; 6])),
            ("twice", Box::new(|m| m.nics.push(Nic { id: "b".to_owned(), ..m.nics[0].clone() }))),
            ("tag", Box::new(|m| m.shares = vec![Share { tag: "a b".to_owned(), socket: "/s".into() }])),
            ("empty", Box::new(|m| m.nics[0].rate_rx = Some(RateLimit { bandwidth: None, ops: None }))),
            (
                "size",
                Box::new(move |m| {
                    let bandwidth = Some(Bucket { size: 0, ..bucket });
                    m.nics[0].rate_tx = Some(RateLimit { bandwidth, ops: None });
                }),
            ),
            (
                "refill",
                Box::new(move |m| {
                    let ops = Some(Bucket { refill_ms: 0, ..bucket });
                    m.drives[0].rate = Some(RateLimit { bandwidth: None, ops });
                }),
            ),
        ];
        for (what, change) in bad {
            let mut machine = machine();
            change(&mut machine);
            assert!(machine.check().is_err(), "{what}");
        }
    }

    #[test]
    fn rates_in_a_second() {
        let rate = |size, refill_ms| Bucket { size, one_time_burst: None, refill_ms }.per_second();
        assert_eq!((rate(500, 500), rate(1, 60_000), rate(u64::MAX, 1)), (1_000, 1, u64::MAX));
    }
}
