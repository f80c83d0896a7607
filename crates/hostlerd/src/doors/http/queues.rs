//! Queues: list, look, change, remove.

use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use hostler_api::types::{NamespaceQuery, QueueList, QueueQuery, QueueRemoveQuery, QueueView, QueuedJob, QueuesQuery};
use hostler_linux::clock;
use hostler_model::queue::{QueueChange, QueueRecord};
use hostler_model::{Namespace, Problem, ProblemKind, QueueName, limits};
use hostler_supervisor::input::Reply;
use hostler_supervisor::queue::index::Queue;
use hostler_supervisor::{Request, Waiting};

use super::answer::{Answer, Asked, Body, json};
use super::{Door, Peer};

/// Waiting jobs shown unless asked otherwise.
const SHOWN_DEFAULT: u32 = 100;

pub(crate) async fn list(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<QueuesQuery>,
) -> Answer {
    let scope = door.caller(peer)?.scope(query.namespace.as_deref())?;
    let queues = door
        .node
        .view
        .queues(|queues| queues.iter().filter(|queue| scope.contains(&queue.record.namespace)).map(view_of).collect());
    Ok(json(StatusCode::OK, &QueueList { queues }))
}

pub(crate) async fn get(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Asked(query): Asked<QueueQuery>,
) -> Answer {
    let (namespace, name) = door.queue_of(peer, query.namespace, &name)?;
    let view = door.show_queue(&namespace, &name, query.limit.unwrap_or(SHOWN_DEFAULT) as usize)?;
    Ok(json(StatusCode::OK, &view))
}

pub(crate) async fn change(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
    Body { value: change, .. }: Body<QueueChange>,
) -> Answer {
    let (namespace, name) = door.queue_of(peer, query.namespace, &name)?;
    door.node.request(Request::SetQueue { namespace: namespace.clone(), name: name.clone(), change }).await?;
    Ok(json(StatusCode::OK, &door.show_queue(&namespace, &name, 0)?))
}

pub(crate) async fn remove(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Asked(query): Asked<QueueRemoveQuery>,
) -> Answer {
    let (namespace, name) = door.queue_of(peer, query.namespace, &name)?;
    let mut last = door.show_queue(&namespace, &name, 0)?;
    let waiting = if query.force { Waiting::Cancel } else { Waiting::Keep };
    let rounds = last.waiting as usize / limits::QUEUE_CANCEL_MAX + 2;
    for _ in 0..rounds {
        let request = Request::RemoveQueue { namespace: namespace.clone(), name: name.clone(), waiting };
        match door.node.request(request).await? {
            Reply::Cancelled { left: 0, running: 0 } => {
                last.waiting = 0;
                return Ok(json(StatusCode::OK, &last));
            }
            Reply::Cancelled { left: 0, running } => {
                let detail = format!(
                    "the jobs that waited in queue {name} are cancelled; {running} are under way: stop them, or wait \
                     for their end, and remove it then"
                );
                return Err(Problem::new(ProblemKind::Conflict, detail).into());
            }
            Reply::Cancelled { .. } => {}
            other => return Err(Problem::new(ProblemKind::Internal, format!("an unexpected answer: {other:?}")).into()),
        }
    }
    let detail = format!("jobs keep coming into queue {name}; drain it first: hostler queue drain {name}");
    Err(Problem::new(ProblemKind::Conflict, detail).into())
}

fn view_of(queue: &Queue) -> QueueView {
    QueueView {
        queue: QueueRecord::clone(&queue.record),
        waiting: queue.waiting().len() as u64,
        running: queue.running() as u64,
        jobs: Vec::new(),
    }
}

impl Door {
    fn queue_of(&self, peer: Peer, namespace: Option<Namespace>, name: &str) -> Answer<(Namespace, QueueName)> {
        let namespace = self.caller(peer)?.namespace(namespace)?;
        let name = name.parse().map_err(|error| Problem::new(ProblemKind::MalformedRequest, format!("{error}")))?;
        Ok((namespace, name))
    }

    fn show_queue(&self, namespace: &Namespace, name: &QueueName, limit: usize) -> Answer<QueueView> {
        let found = self.node.view.queues(|queues| {
            let queue = queues.get(&(namespace.clone(), name.clone()))?;
            let first: Vec<_> = queue.waiting().take(limit.min(limits::QUEUE_SHOWN_MAX)).copied().collect();
            Some((view_of(queue), first))
        });
        let Some((mut view, turns)) = found else {
            let detail = format!("there is no queue {name} in namespace {namespace}; see: hostler queue ls");
            return Err(Problem::new(ProblemKind::NotFound, detail).into());
        };
        let now_ms = clock::wall_ms();
        for (position, turn) in (1..).zip(turns) {
            // It may have had its turn by now.
            let Some(workload) = self.node.view.get(turn.workload) else { continue };
            let Some(queued) = workload.queued else { continue };
            view.jobs.push(QueuedJob {
                position,
                id: workload.id,
                name: workload.name.clone(),
                priority: workload.spec.priority,
                waited_ms: now_ms.saturating_sub(queued.since_ms),
                command: workload.spec.command.clone(),
            });
        }
        Ok(view)
    }
}
