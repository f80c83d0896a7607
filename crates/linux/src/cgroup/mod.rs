//! Control groups, v1 and v2: limits, accounting, out-of-memory kills, freezing, and killing all of a run at once.
//!
//! ```text
//! <configured parent, or the caller's own group; v1: looked up per controller>
//! └── h<node tag>          Parent: the node's own, the only place where anything is made or removed
//!     ├── agents           where agents sit, so that a stop, a pause or an OOM does not take them along
//!     └── <name>           Group: one for each run that needs it
//! ```
//!
//! - [`Hierarchies`] (`hierarchy`): what is mounted and where the caller stands; pure parsing
//! - [`Parent`] (`parent`): making, listing and removing groups; what can be limited here, and if not, why not
//! - `argument`: a parent as one word of a command line
//! - `available`: what can be limited here, and if not, why not
//! - `oci`: where an OCI runtime makes the groups of containers, in every hierarchy
//! - [`Group`] (`group`): joining, statistics, removal; `kill` ends everything in it
//! - `limit`: putting limits in force, all of them or none
//! - `detail`: everything that is accounted
//! - `v1`, `v2`: the files of either version
//! - `files`: reading and writing them; `device`: block devices by their numbers
//!
//! A group is a set of *places*: one directory on v2, one for each mounted hierarchy on v1 (co-mounted controllers
//! share theirs). Nothing here is remembered that the kernel knows; any process may open a group by its name.
//!
//! *Not* here: access to devices (OCI runtimes set that), and waiting: the longest call, [`Group::kill_all`], returns
//! after about 100 ms, done or not.

mod argument;
mod available;
mod detail;
mod device;
mod files;
mod group;
mod hierarchy;
mod kill;
mod limit;
mod oci;
mod parent;
mod v1;
mod v2;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use group::Group;
pub use hierarchy::Hierarchies;
pub use oci::expect_moves;
pub use parent::Parent;

/// The group in which agents sit; no run can have this name.
const AGENTS: &str = "agents";
/// Longest name of a group, bytes: the kernel's `NAME_MAX`.
const NAME_LENGTH_MAX: usize = 255;

/// Which kind of hierarchy is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One hierarchy for each controller, or a few together.
    V1,
    /// The unified hierarchy.
    V2,
    /// Nothing to make groups in.
    None,
}

/// What a hierarchy can do for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Memory,
    Cpu,
    Cpuacct,
    Pids,
    Freezer,
    Cpuset,
    Blkio,
    Hugetlb,
}

impl Controller {
    const ALL: [Self; 8] =
        [Self::Memory, Self::Cpu, Self::Cpuacct, Self::Pids, Self::Freezer, Self::Cpuset, Self::Blkio, Self::Hugetlb];

    /// Its name in mount options and in `/proc/<pid>/cgroup`.
    const fn v1_name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
            Self::Cpuset => "cpuset",
            Self::Blkio => "blkio",
            Self::Hugetlb => "hugetlb",
        }
    }

    /// Its name on v2, as far as there is one.
    const fn v2_name(self) -> &'static str {
        match self {
            Self::Blkio => "io",
            other => other.v1_name(),
        }
    }

    /// v1: whether a plain run is in its hierarchy only when a limit asks for it. Being in that of `cpu` would forbid
    /// real-time scheduling, and the others cost something and give nothing.
    const fn is_on_demand(self) -> bool {
        matches!(self, Self::Cpu | Self::Cpuset | Self::Blkio | Self::Hugetlb)
    }
}

/// Where a group is found: a directory and what is controlled there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    controllers: Vec<Controller>,
    directory: PathBuf,
}

impl Place {
    fn holds(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    fn is_on_demand(&self, version: Version) -> bool {
        version == Version::V1 && self.controllers.iter().all(|held| held.is_on_demand())
    }
}

/// The place that controls this. On v1 a group may have two, its own and the one where an OCI runtime makes it; that
/// which exists is meant.
fn place(places: &[Place], controller: Controller) -> Option<&Path> {
    let mut held = places.iter().filter(|place| place.holds(controller)).map(|place| place.directory.as_path());
    let first = held.next()?;
    let second = held.next().filter(|second| !first.exists() && second.exists());
    Some(second.unwrap_or(first))
}

/// What can be limited here. A sentence says why not, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    /// `memory_bytes`.
    pub memory: Result<(), String>,
    /// `cpu_millis`.
    pub cpu: Result<(), String>,
    /// `pids`.
    pub pids: Result<(), String>,
}

/// What else can be limited here, asked for more seldom. A sentence says why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoreAvailability {
    /// `memory_swap_bytes`.
    pub swap: Result<(), String>,
    /// `cpuset_cpus`, `cpuset_mems`.
    pub cpuset: Result<(), String>,
    /// `blkio_weight` and that of devices.
    pub blkio_weight: Result<(), String>,
    /// Rates of block devices.
    pub device_rates: Result<(), String>,
}

/// What a group uses now and has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupStats {
    /// CPU time of all that ever ran in it, microseconds; 0 where nobody counts it.
    pub cpu_us: u64,
    /// Memory charged to it, bytes, page cache included; 0 without a memory controller.
    pub memory_bytes: u64,
    /// Its own memory limit, bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads alive in it.
    pub pids: u32,
    /// Its own limit of them.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices; v2 with the io controller only.
    pub read_bytes: Option<u64>,
    /// Bytes written to block devices; v2 with the io controller only.
    pub written_bytes: Option<u64>,
    /// Swapped out, bytes; where swap is accounted.
    pub swap_bytes: Option<u64>,
    /// Memory of its processes that is resident, bytes, shared pages counted once; without a memory controller unknown.
    pub rss_bytes: Option<u64>,
}

/// What we were doing to a group when it failed.
#[derive(Debug, Error)]
pub enum CgroupError {
    /// The kernel refused an operation on a file or directory.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What we were doing.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// A limit that was asked for cannot be given.
    #[error("cannot limit {limit}: {why}")]
    Unavailable {
        /// Which one, such as `memory`.
        limit: &'static str,
        /// Why not, and how to mend it.
        why: String,
    },
    /// Not a name that becomes a directory.
    #[error("{name:?} is not a cgroup name: use a-z A-Z 0-9 . _ - and neither . nor .. nor {AGENTS}")]
    Name {
        /// What was given, shortened.
        name: String,
    },
    /// The group still holds processes.
    #[error("cgroup {} is still in use", path.display())]
    Busy {
        /// Which.
        path: PathBuf,
    },
    /// There is no such group.
    #[error("there is no cgroup {name:?}")]
    Missing {
        /// Its name.
        name: String,
    },
    /// There is nowhere to make groups.
    #[error("cannot make cgroups: {why}")]
    NoHierarchy {
        /// Why not.
        why: String,
    },
    /// The operation needs a controller that is not there.
    #[error("cannot {operation}: no {controller} controller")]
    NoController {
        /// What we were doing.
        operation: &'static str,
        /// What it needs.
        controller: &'static str,
    },
    /// Not all of the group stood still in time; it runs again.
    #[error("cgroup {} did not freeze within {waited_ms} ms", path.display())]
    FreezeTimeout {
        /// Which.
        path: PathBuf,
        /// How long we waited, milliseconds.
        waited_ms: u64,
    },
    /// We sit in the group that we were told to freeze or kill.
    #[error("cannot {operation} cgroup {name:?}: the caller is in it")]
    OwnGroup {
        /// What we were doing.
        operation: &'static str,
        /// Which.
        name: String,
    },
    /// Not what [`Parent::to_arg`] makes.
    #[error("{text:?} does not name a cgroup parent: {why}")]
    Argument {
        /// What was given, shortened.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file of `/proc` that is not what it should be.
    #[error("cannot make sense of {what}")]
    Malformed {
        /// Which.
        what: &'static str,
    },
}

impl CgroupError {
    fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_path_buf(), source }
    }

    fn name(name: &str) -> Self {
        Self::Name { name: name.chars().take(80).collect() }
    }
}

/// Names become directories: no separators, no `.` and `..`, and not the agents' own.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_LENGTH_MAX
        && !matches!(name, "." | ".." | AGENTS)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// A refusal as a sentence that says how to mend it.
fn explain(operation: &str, path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.raw_os_error() {
        Some(libc::EROFS) => {
            format!(
                "{path} is on a read-only mount; remount it read-write, or give the container a writable cgroup mount"
            )
        }
        Some(libc::EACCES | libc::EPERM) => format!(
            "no permission to {operation} {path}; run as root, or have a group delegated (systemd: Delegate=yes) \
             and name it as cgroup.parent"
        ),
        Some(libc::ENOENT) => format!("{path} does not exist: it was removed, or this kernel does not have it"),
        _ => format!("cannot {operation} {path}: {error}"),
    }
}

#[cfg(test)]
mod tests;
