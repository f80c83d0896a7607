//! Networks of workloads: bridges of the node and CNI networks, and in them *set-ups*, made ahead of need.
//!
//! ```text
//!            make            take              release, its processes gone       proved clean
//!  (none) ───────► idle ─────────────► taken ──────────────────────► cleaning ─────────────────► idle
//!     │ failed, with back-off                                            │ cannot be used again
//!     ▼                                                                  ▼
//!  (none) ◄────────────────────────────────────────────────────────── removing
//! ```
//! A set-up is a network namespace with an interface, its addresses, and its other end in the network. Its addresses are
//! *leased*: written in the lease book before anything is made, crossed out after everything is undone.
//!
//! A request passes [`Networks`] → `take` (one short lock; a filled pool answers at once) → a job of its network → `work`
//! (threads that may block; a few for each network, so that one whose plugins hang holds up no other).
//!
//! - `state`: what all parts share, and the queues of jobs
//! - `take`: set-ups for runs, and back; `knock`: what another run still has; `work`: the jobs; `removal`: taking set-ups away, many at once
//! - `pool`: when one is made, cleaned, removed, and who gets it; pure
//! - `book`: the lease book, durable over a crash of the daemon
//! - `choose`: from what was asked for to a network; `view`: how it all stands
//! - `reconcile`: what is there against what should be, after a crash
//! - `setup`, `bridge`: making, proving and removing on the machine; `guest`: from a set-up of a container to one of a virtual
//!   machine; `netlink`: links, addresses, routes
//! - `conntrack`: what the kernel remembers of connections
//! - `rules`: the table of nftables; `tool`: calling `nft` and `tc`; `names`: names on the machine
//! - `cni`: networks that CNI plugins make
//! - `dns`: names of workloads, answered at each bridge; `files`: what a workload reads of that
//!
//! Names on the machine begin with `h<node tag>` and map back to ids: only what is ours is ever touched.
//!
//! Not here: which networks there should be (the supervisor's), and when a run begins or is over (the runtime's).
#![forbid(unsafe_code)]

mod book;
mod bridge;
mod choose;
mod cni;
mod conntrack;
mod dns;
mod files;
mod guest;
mod knock;
mod names;
mod netlink;
mod pool;
mod reconcile;
mod removal;
mod rules;
mod setup;
mod state;
mod take;
#[cfg(test)]
mod tests;
mod tool;
mod view;
mod work;

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hostler_model::ids::{Namespace, NetworkId, NetworkName, NodeTag, RunId, SetupId};
use hostler_model::network::{Attachment, NetworkRecord, NetworkView, NewNetwork, PoolView, RunNetwork, Subnet4};
use hostler_model::{Problem, ProblemKind, limits};
use thiserror::Error;
use tokio::sync::oneshot;

pub use choose::node_range6;
pub use files::machine_files;
pub use reconcile::Adopted;
pub use view::Survey;

use state::Shared;

/// Where things are, and how many set-ups to keep.
#[derive(Debug, Clone)]
pub struct Settings {
    /// In every name on the machine.
    pub tag: NodeTag,
    /// For the lease book and what CNI plugins answered.
    pub directory: PathBuf,
    /// Networks can be made: the daemon is root.
    pub privileged: bool,
    /// Which networks have pools, by name; of other namespaces than the owner's as `namespace/name`.
    pub pools: BTreeMap<String, PoolSize>,
    /// Where networks that ask for no range get one.
    pub ranges: Subnet4,
    /// The node's own unique local range of IPv6.
    pub range6: [u8; 5],
    /// Where CNI plugins are.
    pub cni_path: Vec<PathBuf>,
    /// Longest call of one, milliseconds.
    pub cni_call_max_ms: u64,
}

/// How many set-ups of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Kept ready.
    pub idle: u32,
    /// At most.
    pub max: u32,
}

impl Default for PoolSize {
    fn default() -> Self {
        Self { idle: 0, max: limits::SETUPS_MAX }
    }
}

/// Whether a run can change its network, so that nobody may have it after him.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// It has no right to.
    Ordinary,
    /// It has.
    Administers,
}

/// What takes a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taker {
    /// Processes that are put into its network namespace.
    Processes,
    /// A virtual machine, by a tap in that namespace.
    Machine {
        /// The user that the program which makes it runs as: it opens the tap.
        owner: u32,
    },
}

/// A run's wish for a place in a network.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Whose.
    pub run: RunId,
    /// Of which namespace the network is.
    pub namespace: Namespace,
    /// Which network, and how.
    pub attachment: Attachment,
    /// By which names others find it; the first is the workload's.
    pub names: Vec<String>,
    /// What it sees as its own name.
    pub hostname: String,
    /// What it may do to it.
    pub rights: Rights,
    /// What it is.
    pub taker: Taker,
}

/// A run's place in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetUp {
    /// Which.
    pub id: SetupId,
    /// The network namespace.
    pub path: PathBuf,
    /// Its IPv4 address.
    pub ip: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ip6: Option<Ipv6Addr>,
    /// What its `/etc/hosts` says.
    pub hosts: String,
    /// What its `/etc/resolv.conf` says.
    pub resolv: String,
    /// Of a virtual machine: what it is made with, and what its guest sets itself.
    pub guest: Option<Box<GuestPlace>>,
}

/// How a virtual machine is in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPlace {
    /// The tap in the network namespace, by its name.
    pub tap: String,
    /// The hardware address of the guest's interface.
    pub mac: [u8; 6],
    /// Addresses of that interface, at most one of each kind, and the lengths of their ranges.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where everything else is reached, at most one of each kind; nowhere from an internal network.
    pub gateways: Vec<IpAddr>,
    /// The largest packet, bytes.
    pub mtu: u32,
}

/// The answer to a wish.
#[derive(Debug)]
pub enum Take {
    /// At once.
    Ready(SetUp),
    /// Later; the wish is taken back by [`Networks::release`].
    Later(oneshot::Receiver<Result<SetUp, NetworkError>>),
}

/// Why there is no place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// No such network.
    #[error("there is no network {1} in namespace {0}")]
    Unknown(Namespace, NetworkName),
    /// It is not there on this machine.
    #[error("network {0} cannot be used: {1}")]
    Broken(NetworkName, String),
    /// Its addresses, or what of them was asked for, cannot be had.
    #[error("network {0}: {1}")]
    Address(NetworkName, String),
    /// The address is another run's.
    #[error("network {0}: {1} is in use by {2} (run {3})")]
    AddressTaken(NetworkName, String, String, RunId),
    /// The port is published by another run.
    #[error("{0} is published by {1} (run {2})")]
    PortPublished(String, String, RunId),
    /// The port is somebody else's.
    #[error("{0} cannot be published: {1}")]
    Port(String, String),
    /// It could not be made.
    #[error("a place in network {0} could not be made: {1}")]
    Failed(NetworkName, String),
    /// It has no place for one.
    #[error("{}", hostler_model::network::no_guests(.0).detail)]
    NoGuests(NetworkName),
    /// It is going away.
    #[error("network {0} is being removed")]
    Removed(NetworkName),
    /// Not on this node.
    #[error("networks need a node that runs as root")]
    Unprivileged,
    /// The lease book cannot be written.
    #[error("the lease book cannot be written: {0}")]
    Book(String),
}

impl NetworkError {
    /// As a refusal.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Unknown(namespace, name) => hostler_model::network::unknown(namespace, name),
            other => Problem::new(ProblemKind::NetworkUnavailable, other.to_string()),
        }
    }
}

/// The handle. Clones share everything.
#[derive(Clone)]
pub struct Networks {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Networks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Networks").field("tag", &self.shared.settings.tag).finish_non_exhaustive()
    }
}

impl Networks {
    /// Knows of no network yet. [`Networks::adopt`] comes next.
    #[must_use]
    pub fn new(settings: Settings, handle: tokio::runtime::Handle) -> Self {
        Self { shared: Shared::new(settings, handle) }
    }

    /// Of a node that can have no networks.
    #[must_use]
    pub fn none(handle: tokio::runtime::Handle) -> Self {
        let settings = Settings {
            tag: NodeTag::from_bytes([0; 3]),
            directory: PathBuf::new(),
            privileged: false,
            pools: BTreeMap::new(),
            ranges: hostler_model::config::Network::default().ranges,
            range6: [0; 5],
            cni_path: Vec::new(),
            cni_call_max_ms: limits::CNI_CALL_MAX_MS,
        };
        Self::new(settings, handle)
    }

    /// A place for a run, in a network of its namespace.
    pub fn take(&self, ask: Ask) -> Result<Take, NetworkError> {
        self.shared.take(ask)
    }

    /// The run is over, or wants no place any more: for who never had one nothing is done.
    pub fn release(&self, run: RunId) {
        self.shared.release(run, pool::Spoiled::No);
    }

    /// The same for a run that was taken back while it was being made: whatever comes into its place yet, nobody else has it
    /// afterwards.
    pub fn abandon(&self, run: RunId) {
        self.shared.release(run, pool::Spoiled::Yes);
    }

    /// Begins to keep set-ups ready.
    pub fn fill(&self) {
        self.shared.fill();
    }

    /// Compares what is there with what should be, after a start of the daemon: these networks, and these runs that live.
    /// Blocks, and comes before everything else.
    pub fn adopt(&self, records: Vec<NetworkRecord>, live: &HashSet<RunId>) -> Adopted {
        self.shared.adopt(records, live)
    }

    /// Live runs of CNI networks whose plugins say that their place is not whole. Blocks, for as long as plugins do: after
    /// [`Networks::adopt`], and beside everything else.
    #[must_use]
    pub fn check_live(&self) -> Vec<(RunId, String)> {
        self.shared.check_live()
    }

    /// Waits until nothing is left of a network that was removed, for this long at most.
    pub async fn gone(&self, id: NetworkId, longest: Duration) -> bool {
        self.shared.gone_within(id, longest).await
    }

    /// From what is asked for to a network with everything chosen, of these that are known. Blocks for some milliseconds.
    pub fn choose(
        &self,
        namespace: &Namespace,
        new: NewNetwork,
        known: &[NetworkRecord],
        created_at_ms: u64,
    ) -> Result<NetworkRecord, Problem> {
        self.shared.choose(namespace, new, known, created_at_ms)
    }

    /// A network that was decided: it is made.
    pub fn add(&self, record: Arc<NetworkRecord>) {
        self.shared.add(record);
    }

    /// A network that is no longer wanted: it goes when nothing is in it any more.
    pub fn remove(&self, id: NetworkId) {
        self.shared.remove(id);
    }

    /// Waits until a network is there, or it is known why it is not.
    pub async fn ready(&self, id: NetworkId) -> Result<(), NetworkError> {
        self.shared.ready(id).await
    }

    /// Waits until nothing is being made or removed, for this long at most. Whether it came to that.
    pub async fn quiet(&self, longest: Duration) -> bool {
        self.shared.quiet(longest).await
    }

    /// Whether a run that came now would have a place without waiting for another's end: `try-again` if not.
    pub fn room(&self, namespace: &Namespace, name: &NetworkName) -> Result<(), Problem> {
        self.shared.room(namespace, name)
    }

    /// How a network stands.
    #[must_use]
    pub fn view(&self, record: &NetworkRecord) -> NetworkView {
        self.shared.view(record)
    }

    /// All pools, in order of names.
    #[must_use]
    pub fn pools(&self) -> Vec<(Namespace, NetworkName, PoolView)> {
        self.shared.pools()
    }

    /// The place of a run.
    #[must_use]
    pub fn of_run(&self, run: RunId) -> Option<RunNetwork> {
        self.shared.of_run(run)
    }

    /// What this machine has to make networks with. Blocks.
    #[must_use]
    pub fn survey(&self) -> Survey {
        self.shared.survey()
    }

    /// Removes what no live run needs; what they need stays as it is.
    pub async fn shutdown(&self, longest: Duration) {
        self.shared.shut_down(longest).await;
    }
}
