//! Stacks: apply, look, take down.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, sse};
use futures_util::stream;
use hostler_api::stack_file;
use hostler_api::stacks::{ChangeKind, QueueChanged, StackDiff, StackList, StackQuery, StackView, UnitChange};
use hostler_api::types::NamespaceQuery;
use hostler_model::ids::{Namespace, NetworkName, QueueName, StackName};
use hostler_model::stack::Stack;
use hostler_model::{Problem, ProblemKind};
use hostler_supervisor::Request;
use hostler_supervisor::stack::{Change, Retry, diff as differences};

use super::answer::{Answer, Asked, Body, json};
use super::{Door, Peer};

/// A follower sees a stack that changes all the time so often at most.
const FOLLOW_EVERY: Duration = Duration::from_millis(50);

fn stack_name(text: &str) -> Result<StackName, Problem> {
    text.parse().map_err(|error| Problem::new(ProblemKind::MalformedRequest, format!("{error}")))
}

/// The body, read again so that a mistake comes with its path.
fn stack_of(name: &StackName, bytes: &[u8]) -> Result<Stack, Problem> {
    let stack = stack_file::from_json(bytes).map_err(|message| Problem::new(ProblemKind::MalformedRequest, message))?;
    match &stack.name {
        Some(other) if other != name.as_str() => {
            let detail = format!("the stack calls itself {other:?}, and is sent as {name}");
            Err(Problem::new(ProblemKind::MalformedRequest, detail))
        }
        _ => Ok(stack),
    }
}

fn unknown(namespace: &Namespace, name: &StackName) -> Problem {
    let detail = format!("there is no stack {name} in namespace {namespace}; see: hostler stack ls");
    Problem::new(ProblemKind::NotFound, detail)
}

pub(crate) async fn list(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<NamespaceQuery>,
) -> Answer {
    let caller = door.caller(peer)?;
    let namespace = caller.namespace(query.namespace)?;
    let broken = if caller.is_owner() { door.node.broken_files() } else { Vec::new() };
    Ok(json(StatusCode::OK, &StackList { stacks: door.node.view.stacks(&namespace), broken }))
}

pub(crate) async fn get(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<StackQuery>,
) -> Answer {
    let namespace = door.caller(peer)?.namespace(query.namespace)?;
    let name = stack_name(&reference)?;
    let first = door.node.view.stack(&namespace, &name).ok_or_else(|| unknown(&namespace, &name))?;
    if !query.follow {
        return Ok(json(StatusCode::OK, &first));
    }
    let follower = Follower { events: door.node.view.last_event(), door, namespace, name, shown: None, over: false };
    Ok(sse::Sse::new(stream::unfold(follower, Follower::next)).into_response())
}

struct Follower {
    door: Door,
    namespace: Namespace,
    name: StackName,
    events: tokio::sync::watch::Receiver<u64>,
    shown: Option<StackView>,
    over: bool,
}

impl Follower {
    /// The next state that differs from the last; `end` when the stack is gone.
    async fn next(mut self) -> Option<(Result<sse::Event, axum::Error>, Self)> {
        if self.over {
            return None;
        }
        let mut down = self.door.node.going_down();
        loop {
            self.events.mark_unchanged();
            let Some(view) = self.door.node.view.stack(&self.namespace, &self.name) else {
                self.over = true;
                return Some((Ok(sse::Event::default().event("end").data("{}")), self));
            };
            if self.shown.as_ref() != Some(&view) {
                let event = sse::Event::default().json_data(&view);
                self.shown = Some(view);
                return Some((event, self));
            }
            tokio::select! {
                changed = self.events.changed() => changed.ok()?,
                _ = down.wait_for(|down| *down) => return None,
            }
            tokio::time::sleep(FOLLOW_EVERY).await;
        }
    }
}

pub(crate) async fn apply(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
    Body { bytes, .. }: Body<serde_json::Value>,
) -> Answer {
    let caller = door.caller(peer)?;
    let namespace = caller.namespace(query.namespace)?;
    let name = stack_name(&reference)?;
    let stack = stack_of(&name, &bytes)?;
    let key = (namespace.clone(), name.clone());
    crate::stacks::apply(&door.node, &caller, key, &stack, Retry::Settled).await?;
    door.show(&namespace, &name)
}

pub(crate) async fn down(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
) -> Answer {
    let namespace = door.caller(peer)?.namespace(query.namespace)?;
    let name = stack_name(&reference)?;
    let before = door.node.view.stack(&namespace, &name);
    door.node.request(Request::DownStack(namespace.clone(), name.clone())).await?;
    match (door.node.view.stack(&namespace, &name), before) {
        (Some(view), _) | (None, Some(view)) => Ok(json(StatusCode::OK, &StackView { down: true, ..view })),
        (None, None) => Err(unknown(&namespace, &name).into()),
    }
}

pub(crate) async fn diff(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
    Body { bytes, .. }: Body<serde_json::Value>,
) -> Answer {
    let caller = door.caller(peer)?;
    let namespace = caller.namespace(query.namespace)?;
    let name = stack_name(&reference)?;
    let accepted = crate::stacks::accept(&door.node, &caller, &stack_of(&name, &bytes)?)?;
    let changes: BTreeMap<_, _> = differences(&door.node.view.stack_units(&namespace, &name), &accepted.units);
    let change = |(unit, change)| {
        let change = match change {
            Change::Added => ChangeKind::Added,
            Change::Removed => ChangeKind::Removed,
            Change::Changed(keys) => ChangeKind::Changed { keys: keys.into_iter().map(str::to_owned).collect() },
            Change::Scaled(from, to) => ChangeKind::Scaled { from, to },
        };
        UnitChange { unit, change }
    };
    let queue = |(queue, to): (QueueName, u32)| {
        let key = (namespace.clone(), queue.clone());
        let from = door.node.view.queues(|queues| queues.get(&key).map(|known| known.record.parallel));
        (from != Some(to)).then_some(QueueChanged { queue, from, to })
    };
    let is_new = |network: &NetworkName| door.node.view.network(&namespace, network).is_none();
    Ok(json(
        StatusCode::OK,
        &StackDiff {
            changes: changes.into_iter().map(change).collect(),
            queues: accepted.queues.into_iter().filter_map(queue).collect(),
            networks: accepted.networks.into_keys().filter(is_new).collect(),
            mistakes: accepted.mistakes,
        },
    ))
}

impl Door {
    fn show(&self, namespace: &Namespace, name: &StackName) -> Answer {
        let view = self.node.view.stack(namespace, name).ok_or_else(|| unknown(namespace, name))?;
        Ok(json(StatusCode::OK, &view))
    }
}
