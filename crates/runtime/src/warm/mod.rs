//! Machines made ahead of need, by pools: each keeps some of one shape, booted or copied from a snapshot, whose guests wait
//! for a run.
//!
//! ```text
//!  pool ──to_make──► plan ──► agent, hello ──Boot──► VmmStarted ──► Booted ──► idle ──take──► Prepare{run}
//!                     │           restored: the daemon drives the VMM │          │ asked how it is, replaced when old
//!                     └───────────── failed: back-off ◄───────────────┘          ▼
//!                                                                             leaving
//! ```
//! - [`slots`]: every decision, pure; [`template`]: snapshots that machines are copied from
//! - [`keep`]: making, asking, letting go; [`view`]: how pools stand, and what may be asked of them
//!
//! A machine that was made and had a run is never used again. One that waits is found again after a restart of the daemon,
//! by a note in its sandbox's directory; if its pool is of another shape by then, it is let go.

mod keep;
pub(crate) mod slots;
mod template;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use hostler_model::guest::VmBoot;
use hostler_model::ids::{RunId, SandboxId};
use hostler_model::vm::Vm;
use serde::{Deserialize, Serialize};

use crate::guests::Driver;
use crate::microvm::SnapshotFiles;
pub(crate) use keep::Warm;
use slots::{Size, Slots};
pub use view::{PoolStand, TakeBack};

/// How machines of a pool come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MadeBy {
    /// Each is booted.
    Boot,
    /// One is booted, and the others are copies of it.
    Copy,
}

/// A pool as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// Its name.
    pub name: String,
    /// The shape of its machines. What is another for each run does not count: host name, network, time to boot.
    pub shape: Vm,
    /// Kept ready.
    pub idle: usize,
    /// At most, in all.
    pub max: usize,
    /// An idle one is replaced after this time, milliseconds.
    pub max_age_ms: Option<u64>,
    /// How they are made.
    pub made_by: MadeBy,
}

/// What is the same for all machines of a shape.
pub(crate) fn shape_of(vm: &Vm) -> Vm {
    let Vm { hostname: _, network: _, boot_max_ms: _, .. } = vm;
    Vm { hostname: None, network: None, boot_max_ms: hostler_model::limits::VM_BOOT_MS, ..vm.clone() }
}

/// Whether a machine for this can have been made before it was asked for.
fn is_shared(vm: &Vm) -> bool {
    let in_network = matches!(&vm.network, Some(network) if *network != hostler_model::container::Network::None);
    vm.volumes.is_empty() && !vm.no_agent && !in_network
}

/// Where the snapshot of a pool is.
#[derive(Debug, Clone)]
enum Template {
    /// Nobody has asked for it.
    Unknown,
    /// It is being made, in this sandbox once there is one.
    Making,
    Ready(SnapshotFiles),
}

pub(crate) struct Pool {
    shape: Vm,
    made_by: MadeBy,
    slots: Slots,
    template: Template,
    /// Why the last one could not be made.
    problem: Option<String>,
    /// Runs whose machines are made for themselves, for none was idle: they count.
    on_demand: BTreeSet<RunId>,
}

/// What a new sandbox is to make, once its agent has said hello.
struct Pending {
    pool: String,
    boot: Box<VmBoot>,
    driver: Driver,
    purpose: Purpose,
}

/// For what a machine of a pool is made.
#[derive(Debug, Clone)]
enum Purpose {
    /// To wait for a run.
    Idle,
    /// The same, from this snapshot.
    Copy(SnapshotFiles),
    /// To be the snapshot.
    Template(template::Unmade),
}

/// All pools.
#[derive(Default)]
pub(crate) struct Pools {
    pools: BTreeMap<String, Pool>,
    /// Machines that are being made.
    pending: HashMap<SandboxId, Pending>,
    /// Of runs whose machine comes from a snapshot: how it is restored.
    drives: HashMap<RunId, (Driver, SnapshotFiles)>,
    ticking: bool,
}

/// What is written beside a machine that waits, to find it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    pool: String,
    shape: Vm,
    /// The build of the agent, in it and around it.
    agent: PathBuf,
}

/// Name of the file with it, in the sandbox's directory.
const NOTE: &str = "warm.json";

impl Pools {
    pub(crate) fn new(settings: &[PoolSettings]) -> Self {
        let pool = |of: &PoolSettings| {
            let size = Size { idle: of.idle, max: of.max, max_age_ms: of.max_age_ms };
            let pool = Pool {
                shape: shape_of(&of.shape),
                made_by: of.made_by,
                slots: Slots::new(size),
                template: Template::Unknown,
                problem: None,
                on_demand: BTreeSet::new(),
            };
            (of.name.clone(), pool)
        };
        Self { pools: settings.iter().map(pool).collect(), ..Self::default() }
    }

    /// The pool whose machines are like this.
    fn pool_for(&mut self, vm: &Vm) -> Option<(&String, &mut Pool)> {
        let shape = is_shared(vm).then(|| shape_of(vm))?;
        self.pools.iter_mut().find(|(_, pool)| pool.shape == shape)
    }

    /// Which pool this sandbox is of.
    fn pool_of(&mut self, sandbox: SandboxId) -> Option<(String, &mut Pool)> {
        let found = self.pools.iter_mut().find(|(_, pool)| pool.slots.place(sandbox).is_some());
        found.map(|(name, pool)| (name.clone(), pool))
    }

    /// The run is over, or will not be.
    pub(crate) fn release(&mut self, run: RunId) {
        self.drives.remove(&run);
        for pool in self.pools.values_mut() {
            pool.on_demand.remove(&run);
        }
    }

    /// When something is due.
    fn next_ms(&self, now_ms: u64) -> Option<u64> {
        self.pools.values().filter_map(|pool| pool.slots.next_ms(now_ms)).min()
    }

    /// The connection to a machine that waits broke: no run gets it any more.
    pub(crate) fn leaves(&mut self, sandbox: SandboxId) {
        if let Some((_, pool)) = self.pool_of(sandbox)
            && matches!(pool.slots.place(sandbox), Some(slots::Place::Idle { .. }))
        {
            pool.slots.leave(sandbox);
        }
    }

    /// Sandboxes that have or make machines and no run.
    pub(crate) fn without_run(&self) -> Vec<SandboxId> {
        let waiting =
            self.pools.values().flat_map(|pool| pool.slots.known(|place| !matches!(place, slots::Place::Bound(_))));
        self.pending.keys().copied().chain(waiting).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether this sandbox makes a machine, or has one that waits.
    pub(crate) fn has(&self, sandbox: SandboxId) -> bool {
        self.pending.contains_key(&sandbox) || self.pools.values().any(|pool| pool.slots.place(sandbox).is_some())
    }
}
