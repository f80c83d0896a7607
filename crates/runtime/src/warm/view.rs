//! How pools stand, and what may be asked of them.

use std::sync::Arc;

use hostler_model::ids::SandboxId;
use hostler_model::vm::Vm;
use hostler_wire::ToAgent;

use super::Template;
use super::slots::{Counts, Place, Size};
use crate::process::Shared;

/// How a pool stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolStand {
    /// Its name.
    pub name: String,
    /// The shape of its machines.
    pub shape: Vm,
    /// Waiting, of so many that should.
    pub idle: usize,
    /// That many should.
    pub target: usize,
    /// With a run.
    pub occupied: usize,
    /// Being made.
    pub making: usize,
    /// On their way out.
    pub leaving: usize,
    /// At most, in all.
    pub max: usize,
    /// Nothing is made ahead until it is filled.
    pub drained: bool,
    /// Machines are copies of a snapshot; whether that is there.
    pub snapshot: Option<bool>,
    /// Failures in a row.
    pub failures: u32,
    /// Why the last one could not be made.
    pub problem: Option<String>,
    /// The machines that wait or have a run.
    pub sandboxes: Vec<SandboxId>,
}

/// What a pool is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeBack {
    /// Keep idle ones ready, whatever was before.
    Fill,
    /// Let idle ones go, and make none ahead.
    Drain,
    /// Keep so many, and have so many at most; what is absent stays.
    Resize {
        /// Kept ready.
        idle: Option<usize>,
        /// At most.
        max: Option<usize>,
    },
}

impl Shared {
    pub(crate) fn pools(&self) -> Vec<PoolStand> {
        let state = self.state();
        let stand = |(name, pool): (&String, &super::Pool)| {
            let Counts { making, idle, bound, leaving } = pool.slots.counts();
            let size = pool.slots.size();
            PoolStand {
                name: name.clone(),
                shape: pool.shape.clone(),
                idle,
                target: size.idle,
                occupied: bound + pool.on_demand.len(),
                making,
                leaving,
                max: size.max,
                drained: pool.slots.is_drained(),
                snapshot: match (&pool.template, pool.made_by) {
                    (_, super::MadeBy::Boot) => None,
                    (template, super::MadeBy::Copy) => Some(matches!(template, Template::Ready(_))),
                },
                failures: pool.slots.failures(),
                problem: pool.problem.clone(),
                sandboxes: pool.slots.known(|place| matches!(place, Place::Idle { .. } | Place::Bound(_))),
            }
        };
        state.warm.pools.iter().map(stand).collect()
    }

    /// Does what is asked of a pool. Whether there is one of this name.
    pub(crate) fn change_pool(self: &Arc<Self>, name: &str, change: TakeBack) -> bool {
        let mut state = self.state();
        let Some(pool) = state.warm.pools.get_mut(name) else { return false };
        let leaving = match change {
            TakeBack::Fill => {
                pool.slots.fill();
                Vec::new()
            }
            TakeBack::Drain => pool.slots.drain(),
            TakeBack::Resize { idle, max } => {
                let now = pool.slots.size();
                let max = max.unwrap_or(now.max);
                pool.slots.resize(Size { idle: idle.unwrap_or(now.idle).min(max), max, ..now })
            }
        };
        for agent in leaving.iter().filter_map(|sandbox| state.agents.get(sandbox)) {
            agent.send(&ToAgent::Quit);
        }
        self.refill(&mut state);
        true
    }

    /// Whether there is room for a machine like this, if a pool has a say in that. Its name if there is none.
    pub(crate) fn full_pool(&self, vm: &Vm) -> Option<String> {
        let mut state = self.state();
        let (name, pool) = state.warm.pool_for(vm)?;
        let counts = pool.slots.counts();
        let is_full = counts.idle == 0 && pool.slots.len() + pool.on_demand.len() >= pool.slots.size().max;
        is_full.then(|| name.clone())
    }
}
