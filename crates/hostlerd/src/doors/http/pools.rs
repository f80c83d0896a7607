//! Pools: how they stand, and what is asked of them.

use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use hostler_api::networks::{NetworkPool, NetworksQuery, PoolList, ProcessPool};
use hostler_api::pools::{MachinePoolView, PoolChange};
use hostler_model::{Problem, ProblemKind, limits};
use hostler_runtime::{PoolStand, TakeBack};

use super::answer::{Answer, Asked, Body, json};
use super::{Door, Peer};

pub(crate) async fn list(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<NetworksQuery>,
) -> Answer {
    let caller = door.caller(peer)?;
    let scope = caller.scope(query.namespace.as_deref())?;
    let node = &door.node;
    let mut networks: Vec<_> = node.networks.pools();
    networks.retain(|(namespace, ..)| scope.contains(namespace));
    networks.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    let networks = networks.into_iter().map(|(namespace, name, pool)| NetworkPool { namespace, name, pool });
    let process = ProcessPool {
        target: node.config.pool.process.idle,
        idle: node.runtime.idle_agents() as u32,
        occupied: node.view.live_runs() as u32,
    };
    let machines = if caller.is_owner() { node.runtime.pools().into_iter().map(view).collect() } else { Vec::new() };
    Ok(json(StatusCode::OK, &PoolList { process, networks: networks.collect(), machines }))
}

pub(crate) async fn change(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    Body { value: change, .. }: Body<PoolChange>,
) -> Answer {
    door.caller(peer)?.require_owner("change pools")?;
    let change = match change {
        PoolChange::Fill => TakeBack::Fill,
        PoolChange::Drain => TakeBack::Drain,
        PoolChange::Resize { idle, max } => {
            let most = limits::POOL_MACHINES_MAX;
            if max.is_some_and(|max| max == 0 || max > most) || idle.is_some_and(|idle| idle > most) {
                let detail = format!("max must be from 1 to {most}, and idle at most that");
                return Err(Problem::new(ProblemKind::MalformedRequest, detail).into());
            }
            TakeBack::Resize { idle: idle.map(|idle| idle as usize), max: max.map(|max| max as usize) }
        }
    };
    let unknown = || {
        let detail = format!("there is no pool of machines {name:?}; see: hostler pool ls");
        Problem::new(ProblemKind::NotFound, detail)
    };
    if !door.node.runtime.change_pool(&name, change) {
        return Err(unknown().into());
    }
    let stand = door.node.runtime.pools().into_iter().find(|pool| pool.name == name);
    Ok(json(StatusCode::OK, &view(stand.ok_or_else(unknown)?)))
}

fn view(stand: PoolStand) -> MachinePoolView {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    MachinePoolView {
        name: stand.name,
        shape: stand.shape,
        target: count(stand.target),
        idle: count(stand.idle),
        occupied: count(stand.occupied),
        making: count(stand.making),
        leaving: count(stand.leaving),
        max: count(stand.max),
        drained: stand.drained,
        snapshot_ready: stand.snapshot,
        failures: stand.failures,
        last_failure: stand.problem,
        sandboxes: stand.sandboxes,
    }
}
