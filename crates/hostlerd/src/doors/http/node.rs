//! The node itself: how it stands, what the machine can do, metrics, lame duck, and the way down.

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hostler_api::types::{DownReport, DownRequest, LameDuckRequest, NodeInfo};
use hostler_linux::procfs;
use hostler_model::event::EventId;
use hostler_model::workload::{Phase, Workload};
use hostler_model::{Problem, ProblemKind, limits};
use hostler_provision::Scope;
use hostler_supervisor::Request;
use hostler_supervisor::input::Reply;

use super::answer::{Answer, Body, OptionalBody, json};
use super::{Door, Peer};
use crate::doctor::{DoctorInput, report};
use crate::metrics::Scrape;
use crate::node::measure::measure;
use crate::node::view;
use crate::sampling::{Sampled, sample};

/// Units of a stack that stop one after the other, at most as far as a wait for all of them goes.
const STACK_DEPTH: u64 = 8;

/// The document, as it is checked in.
const OPENAPI: &str = include_str!("../../../../../docs/openapi.json");
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(crate) async fn health() -> &'static str {
    "ok\n"
}

pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

pub(crate) async fn metrics(State(door): State<Door>, ConnectInfo(peer): ConnectInfo<Peer>) -> Answer {
    door.caller(peer)?.require_owner("read its metrics")?;
    let (sampled, unmeasured) = door.measured().await;
    let view = &door.node.view;
    let workloads = view.count(&Scope::All);
    let live = |phase: &Phase| matches!(phase, Phase::Preparing | Phase::Stopping | Phase::Pending);
    let scrape = Scrape {
        unmeasured,
        // Deadlines and restarts that are waiting for their time.
        pending_actions: workloads.iter().filter(|(phase, _)| live(phase)).map(|(_, count)| *count as usize).sum(),
        subscribers: view.followers(),
        watched_descriptors: door.node.runtime.watched(),
        idle_agents: door.node.runtime.idle_agents(),
        sampled,
        workloads,
        pools: door.node.networks.pools(),
        guests: door.node.runtime.pools(),
    };
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], door.node.metrics.encode(scrape)).into_response())
}

pub(crate) async fn info(State(door): State<Door>, ConnectInfo(peer): ConnectInfo<Peer>) -> Answer {
    let caller = door.caller(peer)?;
    let scope = if caller.is_owner() { Scope::All } else { Scope::One(caller.own_namespace()) };
    Ok(json(StatusCode::OK, &door.info(&scope)))
}

pub(crate) async fn doctor(State(door): State<Door>, ConnectInfo(peer): ConnectInfo<Peer>) -> Answer {
    door.caller(peer)?;
    let node = door.node.clone();
    let looked = tokio::task::spawn_blocking(move || report(&DoctorInput::read(node.doctor()))).await;
    looked
        .map(|report| json(StatusCode::OK, &report))
        .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()).into())
}

pub(crate) async fn lame_duck(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body { value: body, .. }: Body<LameDuckRequest>,
) -> Answer {
    door.caller(peer)?.require_owner("make it a lame duck")?;
    door.node.request(Request::LameDuck(body.lame_duck)).await?;
    Ok(json(StatusCode::OK, &door.info(&Scope::All)))
}

pub(crate) async fn down(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    OptionalBody(body): OptionalBody<DownRequest>,
) -> Answer {
    door.caller(peer)?.require_owner("stop it")?;
    // In a task of its own: once begun, it is finished or taken back, whether the caller waits or not.
    let report = tokio::spawn(async move { door.go_down(body.stop_workloads).await }).await;
    let report = report.map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))??;
    Ok(json(StatusCode::OK, &report))
}

impl Door {
    /// The workloads that have series of their own: those that ask for samples with the newest one, and those that run
    /// with limits or as containers, asked now. And how many have none, because there are too many or no answer came.
    async fn measured(&self) -> (Vec<Sampled>, usize) {
        let mut sampled = self.node.sampling.live();
        sampled.truncate(limits::METRICS_WORKLOADS_MAX);
        let mut workloads = self.live();
        workloads.retain(|workload| {
            let counted = workload.has_cgroup();
            counted && workload.spec.stats_interval_ms.is_none()
        });
        let room = limits::METRICS_WORKLOADS_MAX - sampled.len();
        let left_out = workloads.len().saturating_sub(room);
        // The oldest: who has series keeps them.
        workloads.sort_unstable_by_key(|workload| (workload.created_at_ms, workload.id));
        workloads.truncate(room);
        let measured = measure(&self.node.runtime, workloads).await;
        for (workload, stats) in &measured.found {
            let Some(run) = workload.live_run() else { continue };
            let (namespace, name) = (workload.namespace.clone(), workload.name.clone());
            sampled.push(Sampled { namespace, name, sample: sample(run.id, stats) });
        }
        (sampled, left_out + measured.unanswered.len())
    }

    async fn go_down(&self, stop_workloads: bool) -> Answer<DownReport> {
        let mut stopped = 0;
        if stop_workloads {
            if let Reply::Stopping(count) = self.node.request(Request::StopAll).await? {
                stopped = count;
            }
            if let Err(refusal) = self.all_ended().await {
                self.node.request(Request::StayUp).await?;
                return Err(refusal);
            }
        }
        let left_running = self.live().len() as u32;
        self.node.go_down();
        Ok(DownReport { stopped, left_running })
    }

    /// How the node stands; of workloads only what is in this scope.
    fn info(&self, scope: &Scope) -> NodeInfo {
        let node = &self.node;
        let (memory_total_bytes, memory_available_bytes) = procfs::memory_total_available().unwrap_or_default();
        let workloads = node.view.count(scope);
        NodeInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            store: node.meta.store,
            tag: node.meta.tag,
            pid: std::process::id(),
            started_at_ms: node.started_at_ms,
            data_directory: node.layout.data.as_os_str().as_bytes().to_vec().into(),
            lame_duck: node.view.node().lame_duck,
            disk_full: node.is_disk_full(),
            privileged: node.uid == 0,
            workloads: workloads.into_iter().map(|(phase, count)| (phase.as_str().to_owned(), count)).collect(),
            idle_agents: node.runtime.idle_agents() as u32,
            free_bytes: node.free_bytes(),
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
            memory_total_bytes,
            memory_available_bytes,
            last_event: EventId { journal: node.meta.store, sequence: node.events.last_sequence() }.to_string(),
        }
    }

    fn live(&self) -> Vec<std::sync::Arc<Workload>> {
        let mut all = self.node.view.list(&Scope::All);
        all.retain(|workload| workload.live_run().is_some());
        all
    }

    /// Waits until nothing runs any more; longer than the longest grace it makes no sense to wait.
    async fn all_ended(&self) -> Answer<()> {
        let live = self.live();
        let grace_ms = live.iter().map(|workload| workload.spec.stop.grace_ms).max().unwrap_or(0);
        let grace_ms = grace_ms.min(limits::SHUTDOWN_GRACE_MAX_MS);
        // Stacks stop one unit after the other.
        let depth = if live.iter().any(|workload| workload.stack.is_some()) { STACK_DEPTH } else { 1 };
        let patience = Duration::from_millis(grace_ms.saturating_add(limits::KILL_MAX_MS).saturating_mul(depth));
        let ends = async {
            for workload in live {
                let mut watched = self.node.view.watch(workload.id);
                // A service waits for its restart with the next daemon: over is enough, at rest is not needed.
                let over = |seen: &Option<view::Seen>| {
                    seen.as_ref().is_none_or(|seen| seen.removed || seen.workload.live_run().is_none())
                };
                let _ = watched.wait_for(over).await;
            }
        };
        tokio::time::timeout(patience, ends).await.map_err(|_| {
            let names: Vec<_> = self.live().iter().map(|workload| workload.name.to_string()).collect();
            let detail = format!("these do not end, even when killed: {}; the node stays up", names.join(", "));
            Problem::new(ProblemKind::Timeout, detail).into()
        })
    }
}
