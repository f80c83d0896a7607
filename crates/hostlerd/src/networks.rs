//! The networks of this node on its machine: the room's handle, with what only the daemon knows put in.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hostler_api::paths::Layout;
use hostler_linux::clock;
use hostler_model::config::Config;
use hostler_model::ids::{Namespace, NetworkId, NetworkName, RunId};
use hostler_model::network::{NetworkRecord, NetworkView, NewNetwork, PoolView, RunNetwork};
use hostler_model::{Problem, ProblemKind};
use hostler_network::{Adopted, Networks, PoolSize, Settings, Survey, node_range6};

/// How long what nobody needs may take to go, on the way down.
const GO_MAX: Duration = Duration::from_secs(5);

/// The networks of this machine.
#[derive(Debug)]
pub(crate) struct NetworkRoom {
    networks: Networks,
}

/// The room, as it is configured.
pub(crate) fn open(
    layout: &Layout,
    config: &Config,
    meta: &hostler_store::Meta,
    uid: u32,
    handle: &tokio::runtime::Handle,
) -> Networks {
    let pools = config.pool.network.iter();
    let settings = Settings {
        tag: meta.tag,
        directory: layout.networks(),
        privileged: uid == 0,
        pools: pools.map(|(name, pool)| (name.clone(), PoolSize { idle: pool.idle, max: pool.max })).collect(),
        ranges: config.network.ranges,
        range6: node_range6(meta.store),
        cni_path: config.network.cni_path.iter().map(Into::into).collect(),
        cni_call_max_ms: config.network.cni_call_max_ms,
    };
    Networks::new(settings, handle.clone())
}

impl NetworkRoom {
    pub(crate) fn new(networks: Networks) -> Self {
        Self { networks }
    }

    /// What is there against what should be: these networks, and these runs that live.
    pub(crate) async fn adopt(&self, records: Vec<NetworkRecord>, live: HashSet<RunId>) -> Adopted {
        let networks = self.networks.clone();
        let adopted = tokio::task::spawn_blocking(move || networks.adopt(records, &live)).await;
        let adopted = adopted.unwrap_or_default();
        if !adopted.removed.is_empty() {
            tracing::info!(removed = ?adopted.removed, "what was left of networks and is nobody's");
        }
        for (run, problem) in &adopted.broken {
            tracing::warn!(%run, problem, "a run's network is not whole");
        }
        adopted
    }

    /// From now on set-ups are kept ready.
    pub(crate) fn fill(&self) {
        self.networks.fill();
    }

    /// What a new network would be: its id, and addresses that no other one has.
    pub(crate) async fn choose(
        &self,
        namespace: &Namespace,
        new: NewNetwork,
        known: Vec<NetworkRecord>,
    ) -> Result<NetworkRecord, Problem> {
        let (networks, namespace) = (self.networks.clone(), namespace.clone());
        let choosing = tokio::task::spawn_blocking(move || networks.choose(&namespace, new, &known, clock::wall_ms()));
        choosing.await.map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?
    }

    /// Waits until it is made on the machine.
    pub(crate) async fn ready(&self, id: NetworkId) -> Result<(), Problem> {
        self.networks.ready(id).await.map_err(|error| error.problem())
    }

    /// Whether a run that came now would have a place at once.
    pub(crate) fn room(&self, namespace: &Namespace, name: &NetworkName) -> Result<(), Problem> {
        self.networks.room(namespace, name)
    }

    /// How it stands.
    pub(crate) fn view(&self, record: &NetworkRecord) -> NetworkView {
        self.networks.view(record)
    }

    /// The pools of all networks.
    pub(crate) fn pools(&self) -> Vec<(Namespace, NetworkName, PoolView)> {
        self.networks.pools()
    }

    /// The place of a run.
    pub(crate) fn of_run(&self, run: RunId) -> Option<RunNetwork> {
        self.networks.of_run(run)
    }

    /// Who has come to an end is about to give his place back: who comes next waits for it. Heard before anything is
    /// decided about it.
    pub(crate) fn heard(&self, fact: &hostler_runtime::Fact) {
        use hostler_runtime::Fact;
        if let Fact::Exited { run, .. } | Fact::StartFailed { run, .. } | Fact::AgentLost { run } = fact {
            self.networks.leaving(*run);
        }
    }

    /// This network is to be made.
    pub(crate) fn add(&self, record: Arc<NetworkRecord>) {
        self.networks.add(record);
    }

    /// This network is to be undone.
    pub(crate) fn remove(&self, id: NetworkId) {
        self.networks.remove(id);
    }

    /// For `doctor`. Blocks.
    pub(crate) fn survey(&self) -> Survey {
        self.networks.survey()
    }

    /// Removes what no live run needs.
    pub(crate) async fn shut_down(&self) {
        self.networks.shutdown(GO_MAX).await;
    }
}
