//! Workloads: create, look, change, remove.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use hostler_api::types::{
    CreateQuery, KillRequest, ListQuery, NamespaceQuery, RemoveQuery, StopRequest, UpdateRequest, WaitFor, WaitQuery,
    WorkloadList, WorkloadView,
};
use hostler_linux::clock;
use hostler_model::ids::WorkloadId;
use hostler_model::spec::Spec;
use hostler_model::workload::Workload;
use hostler_model::{Namespace, Problem, ProblemKind, RunId, limits};
use hostler_provision::{Caller, accept_workload};
use hostler_supervisor::input::Reply;
use hostler_supervisor::{Create, Request, may_be_signalled};
use sha2::{Digest, Sha256};

use super::answer::{Answer, Asked, Body, OptionalBody, Refusal, json};
use super::{Door, Peer};
use crate::accept::judge;
use crate::filter::Filter;
use crate::limited::check_limits;
use crate::metrics::Operation;
use crate::node::{random, view};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(crate) async fn create(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<CreateQuery>,
    headers: HeaderMap,
    Body { value: spec, bytes }: Body<Spec>,
) -> Answer {
    let began = Instant::now();
    let caller = door.caller(peer)?;
    let namespace = caller.namespace(query.namespace)?;
    let foreground = spec.stdio.owner;
    let idempotency = idempotency_key(&headers)?.map(|key| (key, digest(&bytes)));
    let create = door.accept(&caller, namespace, spec, idempotency)?;
    let id = create.id;
    // Before asking: a short job may be over, and even removed, before the answer is read.
    let mut watched = door.node.view.watch(id);
    let first = RunId { workload: id, number: 1 };
    let streams = foreground.then(|| door.parked.attach_ahead(first));
    // In a task of its own: a client that vanishes while his request is decided is missed all the same.
    let accepting = {
        let (door, watched) = (door.clone(), watched.clone());
        tokio::spawn(async move {
            let accepted = workload_of(door.node.request(Request::Create(Box::new(create))).await?)?;
            if let Some(streams) = streams.filter(|_| accepted.id == id) {
                door.parked.park(first, streams, watched);
            }
            Answer::Ok(accepted)
        })
    };
    let accepted = accepting.await.map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))??;
    door.node.metrics.observe_duration(Operation::Create, began.elapsed());
    if accepted.id != id {
        watched = door.node.view.watch(accepted.id);
    }
    let mut down = door.node.going_down();
    let seen = match query.wait {
        None | Some(WaitFor::Accepted) => accepted,
        Some(until) => {
            let reached = tokio::select! {
                reached = view::reach(&mut watched, until) => reached,
                _ = down.wait_for(|down| *down) => None,
            };
            reached.map_or(accepted, |seen| seen.workload)
        }
    };
    let location = HeaderValue::from_str(&format!("/v1/workloads/{}", seen.id)).ok();
    let mut response = json(StatusCode::CREATED, &WorkloadView::from(seen));
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Here and not in the decider: that a date never comes takes a while to find out.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let text = value.to_str().ok().filter(|text| !text.is_empty() && text.len() <= limits::IDEMPOTENCY_KEY_MAX);
    let problem = || {
        let detail = format!("Idempotency-Key must be 1 to {} visible ASCII characters", limits::IDEMPOTENCY_KEY_MAX);
        Refusal(Problem::new(ProblemKind::MalformedRequest, detail))
    };
    text.map(|text| Some(text.to_owned())).ok_or_else(problem)
}

/// By which a repeated request is known.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) async fn list(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<ListQuery>,
) -> Answer {
    let scope = door.caller(peer)?.scope(query.namespace.as_deref())?;
    let filter = Filter::for_workloads(query.filter.as_deref())?;
    let mut workloads = door.node.view.list(&scope);
    workloads.retain(|workload| (query.all || !workload.is_at_rest()) && filter.accepts_workload(workload));
    let workloads = workloads.into_iter().map(|workload| door.placed(workload)).collect();
    Ok(json(StatusCode::OK, &WorkloadList { workloads }))
}

pub(crate) async fn get(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    let place = door.node.view.place(&workload, clock::wall_ms());
    Ok(json(StatusCode::OK, &WorkloadView { place, ..door.placed(workload) }))
}

pub(crate) async fn stop(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
    OptionalBody(body): OptionalBody<StopRequest>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    door.ask(Request::Stop { workload: workload.id, signal: body.signal, grace_ms: body.grace_ms }).await
}

pub(crate) async fn restart(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
    OptionalBody(body): OptionalBody<StopRequest>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    door.ask(Request::Restart { workload: workload.id, signal: body.signal, grace_ms: body.grace_ms }).await
}

pub(crate) async fn kill(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
    Body { value: body, .. }: Body<KillRequest>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    match body.pid {
        None => door.ask(Request::Kill { workload: workload.id, signal: body.signal, exec: body.exec }).await,
        Some(_) if body.exec.is_some() => {
            Err(Problem::new(ProblemKind::MalformedRequest, "exec and pid do not go together").into())
        }
        Some(pid) => {
            let run = may_be_signalled(&workload)?.id;
            let sent = door.node.runtime.signal_process(run, pid, body.signal).await;
            sent.map_err(|error| super::stats::no_answer(&error))?;
            Ok(json(StatusCode::OK, &WorkloadView::from(workload)))
        }
    }
}

pub(crate) async fn update(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
    Body { value: body, .. }: Body<UpdateRequest>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    check_limits(&door.node, &door.caller(peer)?, &body.limits)?;
    door.ask(Request::Update { workload: workload.id, limits: Box::new(body.limits) }).await
}

pub(crate) async fn remove(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<RemoveQuery>,
) -> Answer {
    let began = Instant::now();
    let workload = door.resolve(peer, query.namespace, &reference)?;
    let answer = door.ask(Request::Remove { workload: workload.id, force: query.force }).await;
    door.node.metrics.observe_duration(Operation::Delete, began.elapsed());
    answer
}

pub(crate) async fn wait(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<WaitQuery>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    let mut watched = door.node.view.watch(workload.id);
    let mut down = door.node.going_down();
    let timeout = async {
        match query.timeout_ms {
            Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            None => std::future::pending().await,
        }
    };
    let until = query.until.unwrap_or(WaitFor::Ended);
    tokio::select! {
        seen = view::reach(&mut watched, until) => {
            Ok(json(StatusCode::OK, &WorkloadView::from(seen.map_or(workload, |seen| seen.workload))))
        }
        () = timeout => {
            let detail = format!("{} is still {} after that time", workload.name, workload.phase().as_str());
            Err(Problem::new(ProblemKind::Timeout, detail).into())
        }
        _ = down.wait_for(|down| *down) => Err(Problem::new(ProblemKind::Unavailable, "the node is going down").into()),
    }
}

impl Door {
    /// The workload that a reference means to this caller.
    pub(crate) fn resolve(&self, peer: Peer, namespace: Option<Namespace>, reference: &str) -> Answer<Arc<Workload>> {
        let namespace = self.caller(peer)?.namespace(namespace)?;
        Ok(self.node.view.resolve(&namespace, reference)?)
    }

    pub(crate) async fn ask(&self, request: Request) -> Answer<Response> {
        let workload = workload_of(self.node.request(request).await?)?;
        Ok(json(StatusCode::OK, &WorkloadView::from(workload)))
    }

    /// What the supervisor is asked for this spec, once everything that can be judged here is judged.
    pub(crate) fn accept(
        &self,
        caller: &Caller,
        namespace: Namespace,
        mut spec: Spec,
        idempotency: Option<(String, String)>,
    ) -> Answer<Create> {
        let identity = judge(&self.node, caller, &mut spec, accept_workload)?;
        let id = WorkloadId::from_bytes(random());
        // What waits for its turn or its time waits for its place then.
        let now = spec.queue.is_none() && spec.schedule.is_none();
        let attachment = spec.attachment().filter(|_| now);
        let unplaced = attachment.and_then(|to| self.node.networks.room(&namespace, &to.name).err());
        let spec = Arc::new(spec);
        Ok(Create { id, namespace, spec, identity, idempotency, restore: None, hook_of: None, unplaced })
    }
}

pub(crate) fn workload_of(reply: Reply) -> Answer<Arc<Workload>> {
    match reply {
        Reply::Workload(workload) => Ok(workload),
        other => Err(Problem::new(ProblemKind::Internal, format!("an unexpected answer: {other:?}")).into()),
    }
}
