//! Networks: list, make, look, remove.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use hostler_api::networks::{NetworkList, NetworksQuery};
use hostler_api::types::{NamespaceQuery, WorkloadView};
use hostler_model::network::{NetworkRecord, NetworkView, NewNetwork};
use hostler_model::workload::Desired;
use hostler_model::{Namespace, NetworkName, Problem, ProblemKind};
use hostler_provision::{Scope, may_change_networks};
use hostler_supervisor::Request;
use hostler_supervisor::input::Reply;

use super::answer::{Answer, Asked, Body, json};
use super::{Door, Peer};
use crate::node::Node;

/// How long the end of workloads that are being removed is waited for, and how often it is looked whether it came.
const LEAVING_MAX: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// So often a range is chosen before somebody else's choice is told instead.
const CHOICES_MAX: u32 = 8;

pub(crate) async fn list(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<NetworksQuery>,
) -> Answer {
    let scope = door.caller(peer)?.scope(query.namespace.as_deref())?;
    let records = door.node.view.networks(&scope);
    let networks = records.iter().map(|record| door.node.networks.view(record)).collect();
    Ok(json(StatusCode::OK, &NetworkList { networks }))
}

pub(crate) async fn create(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<NamespaceQuery>,
    Body { value: new, .. }: Body<NewNetwork>,
) -> Answer {
    let caller = door.caller(peer)?;
    let namespace = caller.namespace(query.namespace)?;
    may_change_networks(&caller)?;
    new.check()?;
    let node = door.node.clone();
    // A task of its own: whoever asked may be gone before it is made, or before what cannot be made is taken back.
    let making = tokio::spawn(async move { make(&node, namespace, new).await });
    let record = making.await.map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))??;
    let location = HeaderValue::from_str(&format!("/v1/networks/{}", record.name)).ok();
    let mut response = json(StatusCode::CREATED, &door.node.networks.view(&record));
    if let Some(location) = location {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Chosen, recorded, and made on the machine; or nothing of it stays.
async fn make(node: &Node, namespace: Namespace, new: NewNetwork) -> Result<Arc<NetworkRecord>, Problem> {
    let record = record(node, &namespace, new).await?;
    if let Err(problem) = node.networks.ready(record.id).await {
        let undo = Request::RemoveNetwork(record.namespace.clone(), record.name.clone());
        if let Err(error) = node.request(undo).await {
            tracing::warn!(network = %record.name, %error, "a network that could not be made stays");
        }
        return Err(problem);
    }
    Ok(record)
}

/// Where the node chooses the range, another one that came in between may have got the same.
async fn record(node: &Node, namespace: &Namespace, new: NewNetwork) -> Result<Arc<NetworkRecord>, Problem> {
    let mut attempts = if new.spec.subnet.is_none() { CHOICES_MAX } else { 1 };
    loop {
        attempts -= 1;
        let record = node.networks.choose(namespace, new.clone(), node.view.all_networks()).await?;
        match node.request(Request::CreateNetwork(Box::new(record))).await {
            Ok(Reply::Network(record)) => return Ok(record),
            Ok(other) => return Err(Problem::new(ProblemKind::Internal, format!("an unexpected answer: {other:?}"))),
            Err(problem) if problem.kind == ProblemKind::Conflict && attempts > 0 => {}
            Err(problem) => return Err(problem),
        }
    }
}

pub(crate) async fn get(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
) -> Answer {
    let namespace = door.caller(peer)?.namespace(query.namespace)?;
    let view = door.show_network(&namespace, &network_name(&name)?)?;
    Ok(json(StatusCode::OK, &view))
}

pub(crate) async fn remove(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
) -> Answer {
    let caller = door.caller(peer)?;
    let (namespace, name) = (caller.namespace(query.namespace)?, network_name(&name)?);
    may_change_networks(&caller)?;
    let last = door.show_network(&namespace, &name)?;
    let began = Instant::now();
    loop {
        match door.node.request(Request::RemoveNetwork(namespace.clone(), name.clone())).await {
            // Whoever is in it is on his way out.
            Err(problem)
                if problem.kind == ProblemKind::Conflict
                    && began.elapsed() < LEAVING_MAX
                    && door.is_being_left(&namespace, &name) =>
            {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Err(problem) => return Err(problem.into()),
            Ok(_) => break,
        }
    }
    // Whoever makes one with the same range next finds it free.
    door.node.networks.gone(last.network.id).await;
    Ok(json(StatusCode::OK, &last))
}

fn network_name(text: &str) -> Result<NetworkName, Problem> {
    text.parse().map_err(|error| Problem::new(ProblemKind::MalformedRequest, format!("{error}")))
}

impl Door {
    fn show_network(&self, namespace: &Namespace, name: &NetworkName) -> Answer<NetworkView> {
        let record = self.node.view.network(namespace, name).ok_or_else(|| {
            let detail = format!("there is no network {name} in namespace {namespace}; see: hostler network ls");
            Problem::new(ProblemKind::NotFound, detail)
        })?;
        Ok(self.node.networks.view(&record))
    }

    /// Whether everybody in it was told to go for good.
    fn is_being_left(&self, namespace: &Namespace, name: &NetworkName) -> bool {
        let all = self.node.view.list(&Scope::One(namespace.clone()));
        let is_in = |workload: &&Arc<hostler_model::Workload>| {
            workload.spec.attachment().is_some_and(|to| to.name == *name) && !workload.is_at_rest()
        };
        all.iter().filter(is_in).all(|workload| workload.desired == Desired::Removed)
    }

    /// A workload with its place in its network, while a run of it is live.
    pub(crate) fn placed(&self, workload: Arc<hostler_model::Workload>) -> WorkloadView {
        let run = workload.spec.attachment().and_then(|_| workload.live_run());
        let network = run.and_then(|run| self.node.networks.of_run(run.id));
        WorkloadView { network, ..WorkloadView::from(workload) }
    }
}
