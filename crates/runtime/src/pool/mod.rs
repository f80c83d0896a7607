//! Warm agents: idle ones kept ready, used again, and let go when nobody needs them any more.
//!
//! - [`slots`]: every decision, pure
//! - here: the timer that asks [`slots`] who is to leave, armed only while there is a surplus; and the one that lets an
//!   agent hear that its run is over when no next run came to say so
//!
//! Starting agents is `process::spawn` and `link`; which run goes to which agent is bound in `process`.

pub(crate) mod slots;

use std::sync::Arc;
use std::time::Duration;

use hostler_wire::ToAgent;

use crate::agent::Agent;
use crate::process::{Shared, State};

/// How long the end of a run may wait for the next run of its agent, milliseconds: both then travel, and are read, together.
const FLUSH_AFTER_MS: u64 = 100;

impl Shared {
    /// Begins to keep idle agents.
    pub(crate) fn fill_pool(self: &Arc<Self>) {
        let mut state = self.state();
        state.slots.fill();
        self.start_agents(&mut state);
    }

    /// Arms the timer for surplus agents, if there are any and it is not armed.
    pub(crate) fn trim_later(self: &Arc<Self>, state: &mut State) {
        let now_ms = self.now_ms();
        let Some(due_ms) = state.slots.next_surplus_ms(now_ms).filter(|_| !state.trimming) else { return };
        state.trimming = true;
        let shared = Arc::downgrade(self);
        self.handle.spawn(async move {
            tokio::time::sleep(Duration::from_millis(due_ms - now_ms)).await;
            if let Some(shared) = shared.upgrade() {
                shared.trim();
            }
        });
    }

    /// Sees to it that the agent hears soon what was queued for it to go with the next message.
    pub(crate) fn flush_later(self: &Arc<Self>, agent: &Arc<Agent>, state: &mut State) {
        state.unflushed.push(Arc::clone(agent));
        if state.unflushed.len() > 1 {
            return;
        }
        let shared = Arc::downgrade(self);
        self.handle.spawn(async move {
            tokio::time::sleep(Duration::from_millis(FLUSH_AFTER_MS)).await;
            let Some(shared) = shared.upgrade() else { return };
            let agents = std::mem::take(&mut shared.state().unflushed);
            agents.iter().for_each(|agent| agent.flush());
        });
    }

    fn trim(self: &Arc<Self>) {
        let mut state = self.state();
        state.trimming = false;
        let now_ms = self.now_ms();
        for sandbox in state.slots.surplus(now_ms) {
            if let Some(agent) = state.agents.get(&sandbox) {
                agent.send(&ToAgent::Quit);
            }
        }
        self.trim_later(&mut state);
    }
}
