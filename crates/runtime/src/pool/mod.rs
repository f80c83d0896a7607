//! Warm agents: idle ones kept ready, used again, and let go when nobody needs them any more.
//!
//! - [`slots`]: every decision, pure
//! - here: the timer that asks [`slots`] who is to leave, armed only while there is a surplus
//!
//! Starting agents is `process::spawn` and `link`; which run goes to which agent is bound in `process`.

pub(crate) mod slots;

use std::sync::Arc;
use std::time::Duration;

use hostler_wire::ToAgent;

use crate::process::{Shared, State};

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
