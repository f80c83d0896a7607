//! Many workloads with one request: created in order, or one thing done to all that match.

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode};
use hostler_api::types::{BatchReport, BatchResult, BulkAction, BulkReport, BulkRequest, NamespaceQuery};
use hostler_model::error::ProblemDocument;
use hostler_model::units::Signal;
use hostler_model::{Namespace, Problem, ProblemKind, Spec, limits};
use hostler_provision::{Caller, Scope};
use hostler_supervisor::input::Reply;
use hostler_supervisor::{Create, Request, Verb};
use tokio::sync::Semaphore;

use super::answer::{Answer, Asked, Body, Refusal, json};
use super::workloads::{digest, idempotency_key, workload_of};
use super::{Door, Peer};
use crate::filter::Filter;

static CHECKING: Semaphore = Semaphore::const_new(limits::BATCHES_CHECKED_MAX);

/// Each is accepted or refused for itself; those that are accepted are so in the order of the request. With a key the
/// same request can be sent again, and each of its workloads is made once.
pub(crate) async fn create(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<NamespaceQuery>,
    headers: HeaderMap,
    Body { value: specs, .. }: Body<Vec<Spec>>,
) -> Answer {
    let caller = door.caller(peer)?;
    let namespace = caller.namespace(query.namespace)?;
    let key = idempotency_key(&headers)?;
    if specs.len() > limits::BATCH_MAX {
        let detail = format!("a batch has at most {} workloads; send more of them", limits::BATCH_MAX);
        return Err(Problem::new(ProblemKind::MalformedRequest, detail).into());
    }
    let checked = {
        // Patterns and calendars of a thousand specs take a while: aside, and not for too many at one time.
        let _turn = CHECKING.acquire().await;
        let door = door.clone();
        let check = move || check(&door, &caller, &namespace, specs, key.as_deref());
        tokio::task::spawn_blocking(check)
            .await
            .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))?
    };
    let mut submitted = Vec::with_capacity(checked.len());
    for create in checked {
        submitted.push(match create {
            Ok(create) => door.node.submit(Request::Create(Box::new(create))).await.map_err(Refusal),
            Err(refusal) => Err(refusal),
        });
    }
    let mut results = Vec::with_capacity(submitted.len());
    for submitted in submitted {
        let answer = match submitted {
            Ok(submitted) => submitted.answer().await.map_err(Refusal).and_then(workload_of),
            Err(refusal) => Err(refusal),
        };
        results.push(match answer {
            Ok(workload) => BatchResult { id: Some(workload.id), name: Some(workload.name.clone()), problem: None },
            Err(Refusal(problem)) => {
                BatchResult { id: None, name: None, problem: Some(ProblemDocument::from(&problem)) }
            }
        });
    }
    Ok(json(StatusCode::OK, &BatchReport { results }))
}

fn check(
    door: &Door,
    caller: &Caller,
    namespace: &Namespace,
    specs: Vec<Spec>,
    key: Option<&str>,
) -> Vec<Answer<Create>> {
    let one = |(index, spec): (usize, Spec)| {
        let idempotency = key.map(|key| {
            let bytes = serde_json::to_vec(&spec).unwrap_or_default();
            (format!("{key}/{index}"), digest(&bytes))
        });
        if spec.stdio.owner {
            let detail = "stdio.owner makes no sense in a batch: nobody can attach to all of it";
            return Err(Refusal(Problem::new(ProblemKind::InvalidSpec, detail)));
        }
        door.accept(caller, namespace.clone(), spec, idempotency)
    };
    specs.into_iter().enumerate().map(one).collect()
}

/// One thing done to many, so many at a time.
pub(crate) async fn act(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<NamespaceQuery>,
    Body { value: body, .. }: Body<BulkRequest>,
) -> Answer {
    let namespace = door.caller(peer)?.namespace(query.namespace)?;
    let filter = Filter::for_workloads(body.filter.as_deref())?;
    let verb = match (body.action, body.signal) {
        (BulkAction::Kill, signal) => Verb::Kill(signal.unwrap_or(Signal::KILL)),
        (_, Some(_)) => {
            let detail = "signal has no effect unless the action is kill";
            return Err(Problem::new(ProblemKind::MalformedRequest, detail).into());
        }
        (BulkAction::Stop, None) => Verb::Stop,
        (BulkAction::Remove, None) if body.force => Verb::RemoveLive,
        (BulkAction::Remove, None) => Verb::Remove,
    };
    let mut ids: Vec<_> = door.node.view.list(&Scope::One(namespace));
    // Who waits goes first: what stops must make no room for what is to be stopped as well.
    ids.sort_by_key(|workload| workload.queued.is_none());
    ids.retain(|workload| filter.accepts_workload(workload));
    let mut report = BulkReport::default();
    for some in ids.chunks(limits::BULK_MAX) {
        let workloads = some.iter().map(|workload| workload.id).collect();
        let Reply::Bulk { done, protected } = door.node.request(Request::Bulk { verb, workloads }).await? else {
            return Err(Problem::new(ProblemKind::Internal, "an unexpected answer").into());
        };
        report.done.extend(done);
        report.protected.extend(protected);
    }
    Ok(json(StatusCode::OK, &report))
}
