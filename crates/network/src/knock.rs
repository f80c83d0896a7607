//! A port or an address that is another run's may be free in a moment: the run before, of the same workload or of the same
//! queue, is over, and its end is on its way to the disk. So a wish for it waits a little before it is refused.

use std::sync::Arc;
use std::time::Duration;

use hostler_model::ids::RunId;
use hostler_model::limits;
use tokio::sync::oneshot;

use crate::state::Shared;
use crate::{Ask, NetworkError, SetUp, Take};

impl NetworkError {
    /// Whether it is about something that another run has.
    fn may_pass(&self) -> bool {
        matches!(self, Self::PortPublished(..) | Self::AddressTaken(..))
    }
}

impl Shared {
    pub(crate) fn take(self: &Arc<Self>, ask: Ask) -> Result<Take, NetworkError> {
        let run = ask.run;
        match self.take_now(ask.clone()) {
            Err(error) if error.may_pass() => {
                self.state().knocking.insert(run);
                let (sender, receiver) = oneshot::channel();
                let shared = Arc::clone(self);
                self.handle.spawn(async move {
                    let answer = shared.knock(ask, error).await;
                    shared.state().knocking.remove(&run);
                    // Nobody waits any more, if it has been given up.
                    let _ = answer.map(|answer| sender.send(answer));
                });
                Ok(Take::Later(receiver))
            }
            taken => taken,
        }
    }

    /// Tries again whenever something changes, for a while; `None` when the wish was taken back.
    async fn knock(self: &Arc<Self>, ask: Ask, error: NetworkError) -> Option<Result<SetUp, NetworkError>> {
        let until = tokio::time::Instant::now() + Duration::from_millis(limits::NETWORK_KNOCK_MAX_MS);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.is_knocking(ask.run) {
                return None;
            }
            match self.take_now(ask.clone()) {
                Ok(Take::Ready(set_up)) => return Some(Ok(set_up)),
                Ok(Take::Later(answer)) => return answer.await.ok(),
                Err(again) if again.may_pass() => {}
                Err(other) => return Some(Err(other)),
            }
            if tokio::time::timeout_at(until, changed).await.is_err() {
                return Some(Err(error));
            }
        }
    }

    fn is_knocking(&self, run: RunId) -> bool {
        self.state().knocking.contains(&run)
    }
}
