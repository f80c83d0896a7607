//! What many runs use, asked of their agents at once: a look at two hundred takes hardly longer than at one, and an agent
//! that hangs delays nobody else.

use std::sync::Arc;
use std::time::Duration;

use hostler_model::limits;
use hostler_model::workload::Workload;
use hostler_runtime::{RunStats, Runtime, RuntimeError, StatsDepth};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The answers, and those of whom none came in time.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) found: Vec<(Arc<Workload>, RunStats)>,
    pub(crate) unanswered: Vec<Arc<Workload>>,
}

/// Asks for each of these workloads that runs; in no order.
pub(crate) async fn measure(runtime: &Runtime, workloads: Vec<Arc<Workload>>) -> Measured {
    let deadline = Instant::now() + Duration::from_millis(limits::STATS_LIST_MAX_MS);
    let mut measured = Measured::default();
    let mut waiting = workloads.into_iter();
    let mut asked = JoinSet::new();
    loop {
        while asked.len() < limits::STATS_UNDER_WAY_MAX
            && let Some(workload) = waiting.next()
        {
            let Some(run) = workload.live_run().filter(|run| run.started_at_ms.is_some()).map(|run| run.id) else {
                continue;
            };
            // What is in a guest only its own kernel knows, and that stands still.
            if workload.spec.vm.is_some() && workload.run.as_ref().is_some_and(|run| run.paused) {
                measured.unanswered.push(workload);
                continue;
            }
            let runtime = runtime.clone();
            asked.spawn(async move {
                let answer = tokio::time::timeout_at(deadline, runtime.stats(run, StatsDepth::Brief)).await;
                (workload, answer.unwrap_or(Err(RuntimeError::NoAnswer)))
            });
        }
        match asked.join_next().await {
            None => return measured,
            Some(Ok((workload, Ok(stats)))) => measured.found.push((workload, stats)),
            // Its end is on its way.
            Some(Ok((_, Err(RuntimeError::NotRunning(_))))) | Some(Err(_)) => {}
            Some(Ok((workload, Err(_)))) => measured.unanswered.push(workload),
        }
    }
}
