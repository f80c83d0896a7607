//! Checkpoints: make, look, remove, and go on from one.

use std::path::PathBuf;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use hostler_api::checkpoints::{
    CheckpointList, CheckpointQuery, CheckpointRequest, CheckpointView, RestoreRequest, StartRequest,
};
use hostler_api::types::{NamespaceQuery, WorkloadView};
use hostler_linux::clock;
use hostler_model::ids::CheckpointName;
use hostler_model::launch::Restore;
use hostler_model::workload::Workload;
use hostler_model::{ByteString, Problem, ProblemKind, Spec};
use hostler_provision::{Caller, may_enter};
use hostler_supervisor::{CheckpointOrder, Order, Request};

use super::answer::{Answer, Asked, Body, OptionalBody, json};
use super::workloads::workload_of;
use super::{Door, Peer};
use crate::checkpoints::{Checkpoints, check_directory};

impl Door {
    /// The node's own directory of a namespace, or another one that the node's owner names.
    fn checkpoints(&self, caller: &Caller, namespace: &str, directory: Option<PathBuf>) -> Answer<Checkpoints> {
        match directory {
            None => Ok(Checkpoints::within(self.node.layout.checkpoints().join(namespace))),
            Some(_) if !caller.is_owner() => {
                let detail = "only the node's owner may say where checkpoints are";
                Err(Problem::new(ProblemKind::Forbidden, detail).into())
            }
            Some(path) if path.is_absolute() => {
                check_directory(&path)?;
                Ok(Checkpoints::within(path))
            }
            Some(path) => {
                let detail = format!("directory {} must be an absolute path", path.display());
                Err(Problem::new(ProblemKind::MalformedRequest, detail).into())
            }
        }
    }

    fn found(&self, peer: Peer, query: &CheckpointQuery) -> Answer<(Caller, Checkpoints)> {
        let caller = self.caller(peer)?;
        let namespace = caller.namespace(query.namespace.clone())?;
        let directory = query.directory.as_ref().map(PathBuf::from);
        let checkpoints = self.checkpoints(&caller, namespace.as_str(), directory)?;
        Ok((caller, checkpoints))
    }
}

/// Looks at files; not on a thread that answers others.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Answer<T> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))??)
}

fn shown(mut view: CheckpointView) -> CheckpointView {
    hostler_api::types::hide_stdin(&mut view.spec);
    view
}

pub(crate) async fn create(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<NamespaceQuery>,
    Body { value: body, .. }: Body<CheckpointRequest>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &body.workload)?;
    let caller = door.caller(peer)?;
    may_enter(&caller, &workload, &door.node.users)?;
    let Some(run) = workload.live_run().map(|run| run.id) else {
        let detail = format!("{} is not running: it is {}", workload.name, workload.phase().as_str());
        return Err(Problem::new(ProblemKind::Conflict, detail).into());
    };
    let directory = body.directory.as_ref().map(|directory| directory.as_path().to_owned());
    let checkpoints = door.checkpoints(&caller, workload.namespace.as_str(), directory)?;
    let created_at_ms = clock::wall_ms();
    let name = match body.name {
        Some(name) => name,
        None => generated(&workload, created_at_ms)?,
    };
    let view = CheckpointView {
        name: name.clone(),
        namespace: workload.namespace.clone(),
        workload: workload.id,
        workload_name: workload.name.clone(),
        run,
        created_at_ms,
        options: body.options,
        directory: ByteString::default(),
        size_bytes: 0,
        spec: Spec::clone(&workload.spec),
    };
    // In a task of its own: whoever asked may go away, and what was begun is finished or removed all the same.
    let made = tokio::spawn(async move { make(&door, checkpoints, view, workload.id).await });
    let view = made.await.map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))??;
    Ok(json(StatusCode::CREATED, &shown(view)))
}

fn generated(workload: &Workload, now_ms: u64) -> Result<CheckpointName, Problem> {
    let name: String = workload.name.as_str().chars().take(40).collect();
    let text = format!("{name}-{now_ms}");
    text.parse().map_err(|error: hostler_model::ids::IdError| Problem::new(ProblemKind::Internal, error.to_string()))
}

async fn make(
    door: &Door,
    checkpoints: Checkpoints,
    view: CheckpointView,
    workload: hostler_model::WorkloadId,
) -> Answer<CheckpointView> {
    let name = view.name.clone();
    let (images, lock) = {
        let (checkpoints, name) = (checkpoints.clone(), name.clone());
        aside(move || checkpoints.begin(&name)).await?
    };
    let order = CheckpointOrder { name: name.clone(), images: images.as_os_str().into(), options: view.options };
    let ordered = door.node.request(Request::Order(workload, Order::Checkpoint(Box::new(order)))).await;
    let finishing = checkpoints.clone();
    let outcome = match ordered {
        Ok(_) => aside(move || finishing.complete(view).and_then(|view| finishing.get(&view.name))).await,
        Err(problem) => Err(problem.into()),
    };
    drop(lock);
    if outcome.is_err() {
        let _ = aside(move || checkpoints.remove(&name)).await;
    }
    outcome
}

pub(crate) async fn list(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<CheckpointQuery>,
) -> Answer {
    let (caller, checkpoints) = door.found(peer, &query)?;
    let namespace = caller.namespace(query.namespace.clone())?;
    let found = aside(move || Ok(checkpoints.list())).await?;
    let is_asked = |view: &CheckpointView| {
        let asked = query.workload.as_deref();
        view.namespace == namespace
            && asked.is_none_or(|asked| {
                view.workload_name.as_str() == asked || view.workload.to_string().starts_with(asked)
            })
    };
    let checkpoints = found.into_iter().filter(is_asked).map(shown).collect();
    Ok(json(StatusCode::OK, &CheckpointList { checkpoints }))
}

pub(crate) async fn get(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Asked(query): Asked<CheckpointQuery>,
) -> Answer {
    let (_, checkpoints) = door.found(peer, &query)?;
    let name = parsed(&name)?;
    let view = aside(move || checkpoints.get(&name)).await?;
    Ok(json(StatusCode::OK, &shown(view)))
}

pub(crate) async fn remove(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Asked(query): Asked<CheckpointQuery>,
) -> Answer {
    let (_, checkpoints) = door.found(peer, &query)?;
    let name = parsed(&name)?;
    let view = aside(move || {
        // One that was never finished has nothing to show, and can be removed all the same.
        let view = checkpoints.get(&name);
        checkpoints.remove(&name)?;
        Ok(view.ok())
    })
    .await?;
    Ok(json(StatusCode::OK, &CheckpointList { checkpoints: view.into_iter().map(shown).collect() }))
}

/// A new workload goes on where the old one was.
pub(crate) async fn restore(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Asked(query): Asked<CheckpointQuery>,
    OptionalBody(body): OptionalBody<RestoreRequest>,
) -> Answer {
    let (caller, checkpoints) = door.found(peer, &query)?;
    let namespace = caller.namespace(query.namespace.clone())?;
    let name = parsed(&name)?;
    let (view, restore) = looked_up(checkpoints, name).await?;
    let mut spec = view.spec;
    spec.name = body.name;
    // Nobody has its streams, and its queue and schedule were the old one's.
    spec.stdio.owner = false;
    spec.schedule = None;
    let mut create = door.accept(&caller, namespace, spec, None)?;
    create.restore = Some(Box::new(restore));
    let workload = workload_of(door.node.request(Request::Create(Box::new(create))).await?)?;
    Ok(json(StatusCode::CREATED, &WorkloadView::from(workload)))
}

/// `start`, from the beginning or from a checkpoint.
pub(crate) async fn start(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
    OptionalBody(body): OptionalBody<StartRequest>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    let Some(name) = body.checkpoint else { return door.ask(Request::Start(workload.id)).await };
    let caller = door.caller(peer)?;
    may_enter(&caller, &workload, &door.node.users)?;
    let directory = body.directory.as_ref().map(|directory| directory.as_path().to_owned());
    let checkpoints = door.checkpoints(&caller, workload.namespace.as_str(), directory)?;
    let (view, restore) = looked_up(checkpoints, name).await?;
    if view.workload != workload.id {
        let detail = format!(
            "checkpoint {} is of {}, not of {}; for a new workload: hostler checkpoint restore {0}",
            restore.checkpoint, view.workload_name, workload.name
        );
        return Err(Problem::new(ProblemKind::Conflict, detail).into());
    }
    door.ask(Request::Restore(workload.id, Box::new(restore))).await
}

async fn looked_up(checkpoints: Checkpoints, name: CheckpointName) -> Answer<(CheckpointView, Restore)> {
    aside(move || {
        let view = checkpoints.get(&name)?;
        let images = checkpoints.images(&name);
        let restore = Restore { checkpoint: name, images: images.as_os_str().into(), options: view.options };
        Ok((view, restore))
    })
    .await
}

fn parsed(text: &str) -> Answer<CheckpointName> {
    let bad = |error: hostler_model::ids::IdError| Problem::new(ProblemKind::NotFound, error.to_string());
    Ok(text.parse().map_err(bad)?)
}

pub(crate) async fn pause(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    door.ask(Request::Order(workload.id, Order::Pause)).await
}

pub(crate) async fn resume(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    door.ask(Request::Order(workload.id, Order::Resume)).await
}
