//! How it all stands, for people and for those who wait.

use std::sync::Arc;
use std::time::Duration;

use hostler_model::ids::{Namespace, NetworkId, NetworkName, RunId};
use hostler_model::network::{NetworkRecord, NetworkRun, NetworkView, PoolView, RunNetwork};
use hostler_model::{Problem, ProblemKind, limits};

use crate::netlink::{Netlink, mac_text};
use crate::state::{Place, Shared, Stage, State};
use crate::tool::NFT;
use crate::{NetworkError, choose, cni, names};

/// What this machine has to make networks with.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The daemon may.
    pub privileged: bool,
    /// `nft`, and that the kernel has what it is for; or why not.
    pub rules: Result<String, String>,
    /// Whether rates can be limited: there is `tc`.
    pub rates: bool,
    /// Names of the CNI plugins that are there.
    pub plugins: Vec<String>,
    /// Networks that cannot be used now, and why.
    pub broken: Vec<(Namespace, NetworkName, String)>,
}

impl Shared {
    pub(crate) fn view(&self, record: &NetworkRecord) -> NetworkView {
        let state = self.state();
        let now_ms = self.now_ms();
        let net = state.nets.get(&record.id);
        let mut runs: Vec<_> = state
            .runs
            .iter()
            .filter(|(_, place)| place.network == record.id)
            .filter_map(|(run, place)| {
                let names = place.ask.names.clone();
                let publish = place.ask.attachment.publish.clone();
                Some(NetworkRun { run: *run, names, publish, place: self.place(&state, place)? })
            })
            .collect();
        runs.sort_by_key(|run| run.run);
        NetworkView {
            network: record.clone(),
            interface: record.bridge.as_ref().map(|_| names::bridge(self.settings.tag, record.id)),
            problem: match net.map(|net| &net.stage) {
                Some(Stage::Broken(why)) => Some(why.clone()),
                Some(Stage::Making) => Some("it is being made".to_owned()),
                Some(Stage::Ready(_)) => None,
                None => Some("it is not known on this machine".to_owned()),
            },
            runs,
            pool: net.map(|net| net.pool.view(now_ms)).unwrap_or_default(),
        }
    }

    fn place(&self, state: &State, place: &Place) -> Option<RunNetwork> {
        let net = state.nets.get(&place.network)?;
        let lease = state.lease(place.setup?)?;
        let mac = match net.plan(&self.settings, lease) {
            Some(plan) => Some(mac_text(&plan.mac())),
            None => self.answered(lease.setup).and_then(|outcome| outcome.mac(names::INNER).map(str::to_owned)),
        };
        Some(RunNetwork {
            network: net.name().clone(),
            setup: lease.setup,
            namespace_path: names::namespace(self.settings.tag, lease.setup).display().to_string(),
            interface: names::INNER.to_owned(),
            ip: lease.ip,
            ip6: lease.ip6,
            mac,
            problem: place.problem.clone(),
        })
    }

    pub(crate) fn of_run(&self, run: RunId) -> Option<RunNetwork> {
        let state = self.state();
        let place = state.runs.get(&run)?;
        self.place(&state, place)
    }

    pub(crate) fn pools(&self) -> Vec<(Namespace, NetworkName, PoolView)> {
        let now_ms = self.now_ms();
        let state = self.state();
        let each = state.nets.values().filter(|net| !net.removed);
        let mut pools: Vec<_> =
            each.map(|net| (net.record.namespace.clone(), net.record.name.clone(), net.pool.view(now_ms))).collect();
        pools.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        pools
    }

    /// Whether a run that came now would have a place without waiting for another's end.
    pub(crate) fn room(&self, namespace: &Namespace, name: &NetworkName) -> Result<(), Problem> {
        let state = self.state();
        let Some(net) = state.by_name.get(&(namespace.clone(), name.clone())).and_then(|id| state.nets.get(id)) else {
            return Ok(());
        };
        if net.pool.has_room() {
            return Ok(());
        }
        let view = net.pool.view(self.now_ms());
        let why = match &net.record.bridge {
            Some(bridge) if bridge.places() == view.max => format!("its range {} has no more addresses", bridge.subnet),
            _ => format!("max of [pool.network.{name}] in hostler.toml"),
        };
        let detail = format!(
            "all {} places of network {name} are taken, {} by runs ({why}); try again when one has ended",
            view.max, view.occupied
        );
        let problem = Problem::new(ProblemKind::TryAgain, detail);
        Err(Problem { retry_after_s: Some(limits::NETWORK_RETRY_AFTER_S), ..problem })
    }

    /// Waits until a network is there, or it is known why not.
    pub(crate) async fn ready(self: &Arc<Self>, id: NetworkId) -> Result<(), NetworkError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.state();
                let Some(net) = state.nets.get(&id) else { return Ok(()) };
                match &net.stage {
                    Stage::Ready(_) => return Ok(()),
                    Stage::Broken(why) => return Err(NetworkError::Broken(net.name().clone(), why.clone())),
                    Stage::Making => {}
                }
            }
            changed.await;
        }
    }

    /// Waits until nothing is left of a network.
    pub(crate) async fn gone_within(self: &Arc<Self>, id: NetworkId, longest: Duration) -> bool {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if !self.state().nets.contains_key(&id) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(longest, wait).await.is_ok()
    }

    /// Waits until nothing is left that is on its way out, or for this long.
    pub(crate) async fn quiet(self: &Arc<Self>, longest: Duration) -> bool {
        let is_quiet = |state: &State| {
            let busy = |net: &crate::state::Net| net.working > 0 || !net.queue.is_empty() || net.pool.is_leaving();
            !state.sweeping && state.leaving.is_empty() && !state.nets.values().any(busy)
        };
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if is_quiet(&self.state()) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(longest, wait).await.is_ok()
    }

    /// Blocks.
    pub(crate) fn survey(&self) -> Survey {
        let state = self.state();
        let broken = state.nets.values().filter_map(|net| match &net.stage {
            Stage::Broken(why) => Some((net.record.namespace.clone(), net.record.name.clone(), why.clone())),
            _ => None,
        });
        let broken = broken.collect();
        drop(state);
        Survey {
            privileged: self.settings.privileged,
            rules: self.survey_rules(),
            rates: choose::is_there("tc"),
            plugins: cni::found(&self.settings.cni_path),
            broken,
        }
    }

    fn survey_rules(&self) -> Result<String, String> {
        let said = NFT.run("say its version", &["--version"], "").map_err(|error| error.to_string())?;
        if self.settings.privileged {
            // Nothing is changed by asking whether it could be.
            let text = crate::rules::table(self.settings.tag, &[], &[]);
            NFT.run("check the rules of networks", &["-c", "-f", "-"], &text).map_err(|error| error.to_string())?;
            self.survey_table()?;
            let has_bridges = Netlink::open().and_then(|mut netlink| netlink.can_make("bridge"));
            has_bridges.map_err(|error| error.to_string())?;
        }
        Ok(said.trim().to_owned())
    }

    /// Somebody may have flushed all rules of the machine.
    fn survey_table(&self) -> Result<(), String> {
        let stands = |net: &crate::state::Net| net.record.bridge.is_some() && matches!(net.stage, Stage::Ready(_));
        if !self.state().nets.values().any(stands) {
            return Ok(());
        }
        let table = names::table(self.settings.tag);
        NFT.run("find the node's rules", &["list", "table", "inet", &table], "").map(drop).map_err(|_| {
            format!("the table inet {table} is gone, by which networks are kept apart and ports published: run hostler down, then hostler up (what runs goes on)")
        })
    }
}
