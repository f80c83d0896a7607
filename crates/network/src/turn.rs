//! Who asks for a port or an address that another is about to give back waits for it, instead of being refused.
//!
//! A run may begin before the one whose end made it begin has given its place back: the next one of the same workload, or
//! the workload that replaces it. And a port that was given back is in the rules a moment longer. What an idle set-up has by
//! chance it gives up.

use std::net::IpAddr;
use std::sync::Arc;

use hostler_model::ids::{RunId, SetupId};
use hostler_model::network::{Publish, text};
use tokio::sync::oneshot;

use crate::pool;
use crate::state::{Shared, State};
use crate::{Ask, NetworkError, SetUp, Take};

/// A run that waits for its turn.
pub(crate) struct Turn {
    ask: Ask,
    answer: oneshot::Sender<Result<SetUp, NetworkError>>,
}

/// Whether what a run asks for can be had.
enum Way {
    Free,
    /// Somebody is about to give it back.
    Leaving,
    /// This idle set-up has it, for nobody.
    Idle(SetupId),
}

impl State {
    /// Ports come before addresses: they are refused, where somebody has them.
    fn way(&self, ask: &Ask) -> Result<Way, NetworkError> {
        let goes = |run: &RunId| {
            let before = run.workload == ask.run.workload && run.number < ask.run.number;
            before || self.runs.get(run).is_some_and(|place| place.leaving)
        };
        let mut leaving = false;
        for port in &ask.attachment.publish {
            match self.publisher_of(port) {
                Some(run) if goes(&run) => leaving = true,
                Some(run) => return Err(NetworkError::PortPublished(format!("port {}", text::published(port)), run)),
                None => leaving |= self.unpublishing.iter().any(|(_, ports)| collides(ports, port)),
            }
        }
        if leaving {
            return Ok(Way::Leaving);
        }
        let key = (ask.namespace.clone(), ask.attachment.name.clone());
        let Some((id, net)) = self.by_name.get(&key).and_then(|id| Some((id, self.nets.get(id)?))) else {
            return Ok(Way::Free);
        };
        let wanted: Vec<IpAddr> =
            [ask.attachment.ip.map(IpAddr::V4), ask.attachment.ip6.map(IpAddr::V6)].into_iter().flatten().collect();
        if wanted.is_empty() || net.is_cni() {
            return Ok(Way::Free);
        }
        let has = |ip: Option<IpAddr>| ip.is_some_and(|ip| wanted.contains(&ip));
        let leases = self.book.iter().flat_map(|book| book.leases().all());
        for lease in leases.filter(|lease| lease.network == *id) {
            if !has(lease.ip.map(IpAddr::V4)) && !has(lease.ip6.map(IpAddr::V6)) {
                continue;
            }
            match net.pool.place(lease.setup) {
                Some(pool::Place::Idle) => return Ok(Way::Idle(lease.setup)),
                Some(pool::Place::Taken(run)) if goes(&run) => leaving = true,
                // Taken by another, or being made: the book refuses it.
                Some(pool::Place::Taken(_) | pool::Place::Making(Some(_))) => {}
                _ => leaving = true,
            }
        }
        Ok(if leaving { Way::Leaving } else { Way::Free })
    }
}

fn collides(ports: &[Publish], port: &Publish) -> bool {
    ports.iter().any(|known| known.collides(port))
}

impl Shared {
    /// Whether a run has to wait for its turn.
    fn has_to_wait(self: &Arc<Self>, state: &mut State, ask: &Ask) -> Result<bool, NetworkError> {
        loop {
            match state.way(ask)? {
                Way::Free => return Ok(false),
                Way::Leaving => return Ok(true),
                Way::Idle(setup) => {
                    let Some(id) = state.lease(setup).map(|lease| lease.network) else { return Ok(false) };
                    let evicted = state.nets.get_mut(&id).is_some_and(|net| net.pool.evict(setup));
                    if !evicted {
                        return Ok(true);
                    }
                    self.start_removal(state, id, setup);
                }
            }
        }
    }

    pub(crate) fn take(self: &Arc<Self>, ask: Ask) -> Result<Take, NetworkError> {
        let mut guard = self.state();
        let state = &mut *guard;
        if self.has_to_wait(state, &ask)? {
            let (answer, receiver) = oneshot::channel();
            state.turns.push(Turn { ask, answer });
            return Ok(Take::Later(receiver));
        }
        self.take_now(state, ask)
    }

    /// It will be given back.
    pub(crate) fn leaving(&self, run: RunId) {
        if let Some(place) = self.state().runs.get_mut(&run) {
            place.leaving = true;
        }
    }

    /// Something was given back: who waits for that has it now, in the order in which they came.
    pub(crate) fn next_turns(self: &Arc<Self>, state: &mut State) {
        for turn in std::mem::take(&mut state.turns) {
            let Turn { ask, answer } = turn;
            let taken = match self.has_to_wait(state, &ask) {
                Ok(true) => {
                    state.turns.push(Turn { ask, answer });
                    continue;
                }
                Ok(false) => self.take_now(state, ask),
                Err(error) => Err(error),
            };
            // Nobody listens when the run was taken back, and then its place was as well.
            let _ = match taken {
                Ok(Take::Later(later)) => {
                    self.handle.spawn(async move {
                        if let Ok(told) = later.await {
                            let _ = answer.send(told);
                        }
                    });
                    Ok(())
                }
                Ok(Take::Ready(set_up)) => answer.send(Ok(set_up)),
                Err(error) => answer.send(Err(error)),
            };
        }
    }

    /// The run is over before its turn came.
    pub(crate) fn give_up_turn(&self, state: &mut State, run: RunId) {
        state.turns.retain(|turn| turn.ask.run != run);
    }
}
