//! Taking set-ups away.
//!
//! A link is removed by the kernel in 20 to 40 ms, most of it waiting. Of many networks that are let go at once it removes all
//! links in one go, a millisecond each. So those of bridge networks are let go together, by one thread, which waits until
//! their links are gone; those that somebody still holds are then removed one by one. CNI plugins undo theirs themselves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hostler_linux::{failpoint, netns};
use hostler_model::ids::{NetworkId, SetupId};
use hostler_model::limits;

use crate::cni::{self, Call, CniError, List, Outcome, Wishes};
use crate::names::{self, Owned};
use crate::netlink::Netlink;
use crate::setup;
use crate::state::{Job, Shared, State};

/// Between two looks whether links are gone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long that is waited for before they are removed by name, milliseconds.
const GONE_MAX_MS: u64 = 1_000;

impl Shared {
    /// It goes; the pool knows already.
    pub(crate) fn start_removal(self: &Arc<Self>, state: &mut State, id: NetworkId, setup: SetupId) {
        let of_plugins = state.lease(setup).is_some_and(|lease| lease.cni);
        if of_plugins {
            self.enqueue(state, id, Job::Undo { setup, attempt: 0 });
            return;
        }
        state.leaving.push((id, setup));
        if !state.sweeping {
            state.sweeping = true;
            let shared = Arc::clone(self);
            self.handle.spawn_blocking(move || shared.sweep());
        }
    }

    fn sweep(self: &Arc<Self>) {
        loop {
            let batch = {
                let mut state = self.state();
                let batch = std::mem::take(&mut state.leaving);
                if batch.is_empty() {
                    state.sweeping = false;
                    self.changed.notify_waiters();
                    return;
                }
                batch
            };
            let left = self.let_go(batch.iter().map(|(_, setup)| *setup).collect());
            let mut state = self.state();
            for (id, setup) in batch {
                if left.contains(&setup) {
                    // Seldom, and nothing else can be done: the next round tries again.
                    state.leaving.push((id, setup));
                } else {
                    self.gone(&mut state, id, setup);
                }
            }
            drop(state);
            if !left.is_empty() {
                std::thread::sleep(Duration::from_millis(limits::SETUP_BACKOFF_INITIAL_MS));
            }
        }
    }

    /// Lets networks go until nothing of them is left. Those of which something is.
    pub(crate) fn let_go(&self, setups: BTreeSet<SetupId>) -> BTreeSet<SetupId> {
        let tag = self.settings.tag;
        for setup in &setups {
            if let Err(error) = netns::release(&names::namespace(tag, *setup)) {
                tracing::warn!(%setup, %error, "letting a network namespace go");
            }
            failpoint::hit("setup-let-go");
        }
        let began_ms = self.now_ms();
        let mut left = setups;
        while !left.is_empty() && self.now_ms().saturating_sub(began_ms) < GONE_MAX_MS {
            let Ok(links) = Netlink::open().and_then(|mut netlink| netlink.links()) else { break };
            let there: BTreeSet<_> = links
                .iter()
                .filter_map(|link| match names::owned(tag, &link.name) {
                    Some(Owned::Setup(setup)) => Some(setup),
                    _ => None,
                })
                .collect();
            left.retain(|setup| there.contains(setup));
            if !left.is_empty() {
                std::thread::sleep(LOOK_AGAIN);
            }
        }
        // Somebody holds them: then the link goes, and the network with its last user.
        left.retain(|setup| match setup::remove(tag, *setup) {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(%setup, %error, "removing a set-up");
                true
            }
        });
        left
    }

    fn cache_path(&self, setup: SetupId) -> std::path::PathBuf {
        self.settings.directory.join("cni").join(format!("{setup}.json"))
    }

    fn with_call<T>(&self, setup: SetupId, wishes: Wishes, work: impl FnOnce(&Call<'_>) -> T) -> T {
        let (container, netns) = (names::outer(self.settings.tag, setup), names::namespace(self.settings.tag, setup));
        let cache = self.cache_path(setup);
        work(&Call {
            container: &container,
            netns: &netns,
            interface: names::INNER,
            path: &self.settings.cni_path,
            deadline_ms: self.settings.cni_call_max_ms,
            cache: &cache,
            wishes,
        })
    }

    /// Has plugins make one.
    pub(crate) fn add_by_plugins(&self, list: &List, setup: SetupId, wishes: Wishes) -> Result<Outcome, CniError> {
        if let Some(directory) = self.cache_path(setup).parent() {
            let _ = std::fs::create_dir_all(directory);
        }
        let path = names::namespace(self.settings.tag, setup);
        let raised =
            netns::create(&path, || Netlink::open().and_then(|mut netlink| netlink.one(crate::netlink::raise("lo"))));
        match raised {
            Err(error) => return Err(CniError::Namespace(error.to_string())),
            Ok(Err(error)) => return Err(CniError::Namespace(error.to_string())),
            Ok(Ok(())) => {}
        }
        failpoint::hit("setup-namespace");
        self.with_call(setup, wishes, |call| cni::add(list, call))
    }

    /// Asks the plugins whether all is as they have made it.
    pub(crate) fn check(&self, setup: SetupId) -> Result<(), CniError> {
        self.with_call(setup, Wishes::default(), cni::check)
    }

    /// What the plugins answered when they made it.
    pub(crate) fn answered(&self, setup: SetupId) -> Option<Outcome> {
        self.with_call(setup, Wishes::default(), cni::cached)
    }

    /// Has plugins undo what they have made; what cannot be undone now is tried again, for as long as it takes.
    pub(crate) fn undo(self: &Arc<Self>, id: NetworkId, setup: SetupId, attempt: u32) {
        let undone = self.with_call(setup, Wishes::default(), cni::del);
        match undone {
            Ok(()) => {
                if let Err(error) = netns::release(&names::namespace(self.settings.tag, setup)) {
                    tracing::warn!(%setup, %error, "letting a network namespace go");
                }
                let mut state = self.state();
                self.gone(&mut state, id, setup);
            }
            Err(error) => {
                tracing::warn!(%setup, %error, attempt, "CNI plugins do not undo what they made; it is tried again");
                let wait_ms = (limits::SETUP_BACKOFF_INITIAL_MS << attempt.min(16)).min(limits::SETUP_BACKOFF_MAX_MS);
                self.enqueue_later(id, Job::Undo { setup, attempt: attempt.saturating_add(1) }, wait_ms);
            }
        }
    }

    /// The same for a set-up of a network that is not known any more.
    pub(crate) fn undo_now(&self, setup: SetupId) -> Result<(), CniError> {
        self.with_call(setup, Wishes::default(), cni::del)?;
        netns::release(&names::namespace(self.settings.tag, setup))
            .map_err(|error| CniError::Namespace(error.to_string()))
    }

    /// What plugins are told that somebody wants.
    pub(crate) fn wishes(&self, state: &State, id: NetworkId, setup: SetupId) -> Wishes {
        let run = state.nets.get(&id).and_then(|net| match net.pool.place(setup) {
            Some(crate::pool::Place::Making(run)) => run,
            _ => None,
        });
        let Some(place) = run.and_then(|run| state.runs.get(&run)) else { return Wishes::default() };
        let attachment = &place.ask.attachment;
        let ips = [attachment.ip.map(Into::into), attachment.ip6.map(Into::into)];
        Wishes {
            port_mappings: attachment.publish.clone(),
            ips: ips.into_iter().flatten().collect(),
            aliases: place.ask.names.clone(),
            dns: attachment.dns.clone(),
            rate_bytes_per_s: attachment.rate_bytes_per_s,
            ..Wishes::default()
        }
    }
}

impl Shared {
    /// Nothing new is made; what no live run needs goes.
    pub(crate) async fn shut_down(self: &Arc<Self>, longest: Duration) {
        let ids: Vec<_> = {
            let mut guard = self.state();
            let state = &mut *guard;
            state.closed = true;
            state.turns.clear();
            let ids: Vec<_> = state.nets.keys().copied().collect();
            for id in &ids {
                let Some(net) = state.nets.get_mut(id) else { continue };
                let (idle, _) = net.pool.close();
                idle.into_iter().for_each(|setup| self.start_removal(state, *id, setup));
            }
            ids
        };
        if !self.settings.privileged || ids.is_empty() {
            return;
        }
        if !self.quiet(longest).await {
            tracing::warn!("some set-ups of networks are still on their way out; the next start removes them");
        }
        {
            let mut guard = self.state();
            let state = &mut *guard;
            let nobody: Vec<_> =
                ids.into_iter().filter(|id| state.nets.get(id).is_some_and(|it| it.pool.is_empty())).collect();
            nobody.into_iter().for_each(|id| self.enqueue(state, id, Job::Unmake));
        }
        let _ = self.quiet(longest).await;
    }
}
