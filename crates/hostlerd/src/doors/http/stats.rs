//! What a workload uses: now, once a second, or as the samples of its interval tell; what all of them use; and who the
//! processes of one are.

use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, sse};
use futures_util::stream;
use hostler_api::types::{NamespaceQuery, Stats, StatsQuery};
use hostler_api::usage::{StatsList, StatsListQuery, WorkloadStats};
use hostler_linux::clock;
use hostler_model::ids::{RunId, WorkloadId};
use hostler_model::workload::Workload;
use hostler_model::{Problem, ProblemKind};
use hostler_provision::Scope;
use hostler_runtime::{RunStats, RuntimeError, StatsDepth};

use super::answer::{Answer, Asked, json};
use super::{Door, Peer};
use crate::filter::Filter;
use crate::metrics::Operation;
use crate::node::measure::measure;

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
    let states = stream::unfold((door, workload.id, ticks(), true), |(door, id, mut ticks, more)| async move {
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

/// Of all that run.
pub(crate) async fn list(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<StatsListQuery>,
) -> Answer {
    let scope = door.caller(peer)?.scope(query.namespace.as_deref())?;
    let filter = Filter::for_workloads(query.filter.as_deref())?;
    if !query.follow {
        return Ok(json(StatusCode::OK, &door.stats_of(&scope, &filter).await));
    }
    let states = stream::unfold((door, scope, filter, ticks()), |(door, scope, filter, mut ticks)| async move {
        ticks.tick().await;
        if *door.node.going_down().borrow() {
            return None;
        }
        let event = sse::Event::default().json_data(door.stats_of(&scope, &filter).await);
        Some((event, (door, scope, filter, ticks)))
    });
    Ok(sse::Sse::new(states).into_response())
}

/// Who the processes of one are.
pub(crate) async fn processes(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    let run = live_run(&workload)?;
    refuse_paused_guest(&workload)?;
    let list = door.node.runtime.processes(run).await.map_err(|error| no_answer(&error))?;
    Ok(json(StatusCode::OK, &list))
}

/// Only its own kernel knows what is in a guest, and that stands still.
fn refuse_paused_guest(workload: &Workload) -> Result<(), Problem> {
    if workload.spec.vm.is_some() { hostler_supervisor::refuse_paused(workload) } else { Ok(()) }
}

/// Once a second, from now on; those that were missed are not made up for.
fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// The run that has processes.
fn live_run(workload: &Workload) -> Result<RunId, Problem> {
    workload.live_run().map(|run| run.id).ok_or_else(|| {
        let detail = format!("{} has no processes: it is {}", workload.name, workload.phase().as_str());
        Problem::new(ProblemKind::Conflict, detail)
    })
}

pub(super) fn no_answer(error: &RuntimeError) -> Problem {
    let kind = match error {
        // It is being started, or its end is on its way into the store; or its agent cannot tell.
        RuntimeError::NotRunning(_) | RuntimeError::Refused(_) => ProblemKind::Conflict,
        _ => ProblemKind::Timeout,
    };
    Problem::new(kind, error.to_string())
}

fn told(used: RunStats) -> Stats {
    Stats {
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
        accounting: used.accounting,
        samples: None,
    }
}

impl Door {
    async fn stats(&self, id: WorkloadId) -> Result<Stats, Problem> {
        let began = Instant::now();
        let workload = self.node.view.get(id);
        let run = workload.as_ref().and_then(|workload| workload.live_run()).map(|run| run.id).ok_or_else(|| {
            let phase = workload.as_ref().map_or("gone", |workload| workload.phase().as_str());
            Problem::new(ProblemKind::Conflict, format!("it uses nothing: it is {phase}"))
        })?;
        workload.as_deref().map_or(Ok(()), refuse_paused_guest)?;
        let used = self.node.runtime.stats(run, StatsDepth::Full).await.map_err(|error| no_answer(&error))?;
        self.node.metrics.observe_duration(Operation::Stats, began.elapsed());
        Ok(told(used))
    }

    /// What those in this scope that run use.
    async fn stats_of(&self, scope: &Scope, filter: &Filter) -> StatsList {
        let began = Instant::now();
        let mut workloads = self.node.view.list(scope);
        workloads.retain(|workload| workload.live_run().is_some() && filter.accepts_workload(workload));
        let measured = measure(&self.node.runtime, workloads).await;
        let mut list = StatsList {
            unanswered: measured.unanswered.iter().map(|workload| workload.id).collect(),
            workloads: Vec::with_capacity(measured.found.len()),
        };
        for (workload, used) in measured.found {
            list.workloads.push(WorkloadStats {
                id: workload.id,
                namespace: workload.namespace.clone(),
                name: workload.name.clone(),
                stats: told(used),
            });
        }
        list.workloads.sort_unstable_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        self.node.metrics.observe_duration(Operation::Stats, began.elapsed());
        list
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
