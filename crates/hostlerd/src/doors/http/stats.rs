//! What a workload uses: now, once a second, or as the samples of its interval tell.

use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, sse};
use futures_util::stream;
use hostler_api::types::{Stats, StatsQuery};
use hostler_linux::clock;
use hostler_model::ids::WorkloadId;
use hostler_model::workload::Workload;
use hostler_model::{Problem, ProblemKind};
use hostler_runtime::RuntimeError;

use super::answer::{Answer, Asked, json};
use super::{Door, Peer};
use crate::metrics::Operation;

pub(crate) async fn get(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<StatsQuery>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    if query.history {
        if query.follow {
            return Err(Problem::new(ProblemKind::MalformedRequest, "history and follow do not go together").into());
        }
        return Ok(json(StatusCode::OK, &door.history(&workload).await?));
    }
    let first = door.stats(workload.id).await?;
    if !query.follow {
        return Ok(json(StatusCode::OK, &first));
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let states = stream::unfold((door, workload.id, ticks, true), |(door, id, mut ticks, more)| async move {
        if !more || *door.node.going_down().borrow() {
            return None;
        }
        ticks.tick().await;
        let event = match door.stats(id).await {
            Ok(stats) => sse::Event::default().json_data(&stats),
            Err(_) => {
                let end = sse::Event::default().event("end").data("{}");
                return Some((Ok(end), (door, id, ticks, false)));
            }
        };
        Some((event, (door, id, ticks, true)))
    });
    Ok(sse::Sse::new(states).into_response())
}

impl Door {
    async fn stats(&self, id: WorkloadId) -> Result<Stats, Problem> {
        let began = Instant::now();
        let workload = self.node.view.get(id);
        let run = workload.as_ref().and_then(|workload| workload.live_run()).map(|run| run.id).ok_or_else(|| {
            let phase = workload.as_ref().map_or("gone", |workload| workload.phase().as_str());
            Problem::new(ProblemKind::Conflict, format!("it uses nothing: it is {phase}"))
        })?;
        let used = self.node.runtime.stats(run).await.map_err(|error| {
            // It is being started, or its end is on its way into the store.
            let is_between = matches!(error, RuntimeError::NotRunning(_));
            let kind = if is_between { ProblemKind::Conflict } else { ProblemKind::Timeout };
            Problem::new(kind, error.to_string())
        })?;
        self.node.metrics.observe_duration(Operation::Stats, began.elapsed());
        Ok(Stats {
            time_ms: clock::wall_ms(),
            cpu_us: used.cpu_us,
            memory_bytes: used.memory_bytes,
            memory_limit_bytes: used.memory_limit_bytes,
            pids: used.pids,
            pids_limit: used.pids_limit,
            read_bytes: used.read_bytes,
            written_bytes: used.written_bytes,
            rss_bytes: used.rss_bytes,
            swap_bytes: used.swap_bytes,
            log_dropped_bytes: used.log_dropped_bytes,
            samples: None,
        })
    }

    /// The samples, with what it uses now, or used last.
    async fn history(&self, workload: &Workload) -> Answer<Stats> {
        if workload.spec.stats_interval_ms.is_none() {
            let detail = format!("no samples are kept of {}: its spec has no stats_interval_ms", workload.name);
            return Err(Problem::new(ProblemKind::Conflict, detail).into());
        }
        // What it uses now is an addition: without an answer the samples are still worth having.
        let mut stats = self.stats(workload.id).await.unwrap_or_default();
        let samples = self.node.sampling.samples(workload.id);
        if let Some(last) = samples.last().filter(|_| stats.time_ms == 0) {
            stats = Stats {
                time_ms: last.time_ms,
                cpu_us: last.used.cpu_us,
                memory_bytes: last.memory_bytes,
                pids: last.pids,
                read_bytes: last.used.read_bytes,
                written_bytes: last.used.written_bytes,
                rss_bytes: last.used.rss_bytes,
                swap_bytes: last.used.swap_bytes,
                ..stats
            };
        }
        Ok(Stats { samples: Some(samples), ..stats })
    }
}
