//! Schedules: pause, resume, fire.

use axum::extract::{ConnectInfo, Path, State};
use hostler_api::types::NamespaceQuery;
use hostler_supervisor::{Request, ScheduleOrder};

use super::answer::{Answer, Asked};
use super::{Door, Peer};

async fn order(door: Door, peer: Peer, query: NamespaceQuery, reference: &str, order: ScheduleOrder) -> Answer {
    let workload = door.resolve(peer, query.namespace, reference)?;
    door.ask(Request::Schedule(workload.id, order)).await
}

pub(crate) async fn pause(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
) -> Answer {
    order(door, peer, query, &reference, ScheduleOrder::Pause).await
}

pub(crate) async fn resume(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
) -> Answer {
    order(door, peer, query, &reference, ScheduleOrder::Resume).await
}

pub(crate) async fn fire(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
) -> Answer {
    order(door, peer, query, &reference, ScheduleOrder::Fire).await
}
