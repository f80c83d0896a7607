//! HTTP/JSON on the unix socket.
//!
//! Who asks is told by the peer credentials of the connection. Every refusal is a problem document. Long answers
//! (events, logs, attach) end when the daemon goes down; clients resume with the next one.
//!
//! - `connections`: who is connected, and how many may be
//! - `answer`: problems as responses, bodies and queries as typed values
//! - `workloads`: create, list, start, stop, …; `schedule`: pause, resume, fire
//! - `batch`: many workloads with one request
//! - `queues`: list, change, remove
//! - `networks`: list, make, remove; `pools`: how they stand, fill, drain, resize
//! - `result`, `stats`: what became of one, and what it uses
//! - `stacks`: apply, look, take down
//! - `node`: the node itself, metrics, health
//! - `events`, `logs`: server-sent events
//! - `attach`, `exec`: WebSockets, with `relay` between them and the agent's channels

mod answer;
mod attach;
mod batch;
mod checkpoints;
mod connections;
mod events;
mod exec;
mod logs;
mod networks;
mod node;
mod parked;
mod pools;
mod queues;
mod relay;
mod result;
mod schedule;
mod stacks;
mod stats;
pub(crate) mod workloads;

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, patch, post};
use hostler_linux::daemon;
use hostler_model::limits;
use hostler_provision::Caller;
use tokio::net::UnixListener;

use crate::logs::Watcher;
use crate::node::Node;
use parked::Parked;

/// What every handler sees.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) node: Arc<Node>,
    pub(crate) watcher: Watcher,
    pub(crate) parked: Arc<Parked>,
}

/// The caller, or nobody when the kernel would not tell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) Option<(u32, u32)>);

impl Door {
    pub(crate) fn caller(&self, peer: Peer) -> Result<Caller, hostler_model::Problem> {
        let (uid, gid) = peer.0.ok_or_else(|| {
            hostler_model::Problem::new(
                hostler_model::ProblemKind::Forbidden,
                "the kernel does not tell who is calling",
            )
        })?;
        let caller = Caller { uid, gid, node_uid: self.node.uid };
        caller.admit()?;
        Ok(caller)
    }
}

/// The routes; a whole-node test holds them against `hostler_api::endpoints`.
pub(crate) fn router(door: Door) -> Router {
    Router::new()
        .route("/healthz", get(node::health))
        .route("/metrics", get(node::metrics))
        .route("/v1/openapi.json", get(node::openapi))
        .route("/v1/node", get(node::info))
        .route("/v1/node/doctor", get(node::doctor))
        .route("/v1/node/lame-duck", post(node::lame_duck))
        .route("/v1/node/down", post(node::down))
        .route("/v1/events", get(events::follow))
        .route("/v1/stacks", get(stacks::list))
        .route("/v1/stacks/{ref}", get(stacks::get).put(stacks::apply).delete(stacks::down))
        .route("/v1/stacks/{ref}/diff", post(stacks::diff))
        .route("/v1/workloads", get(workloads::list).post(workloads::create))
        .route("/v1/workloads/batch", post(batch::create))
        .route("/v1/workloads/bulk", post(batch::act))
        .route("/v1/queues", get(queues::list))
        .route("/v1/queues/{queue}", get(queues::get).patch(queues::change).delete(queues::remove))
        .route("/v1/networks", get(networks::list).post(networks::create))
        .route("/v1/networks/{network}", get(networks::get).delete(networks::remove))
        .route("/v1/pools", get(pools::list))
        .route("/v1/pools/{pool}", patch(pools::change))
        .route("/v1/workloads/{ref}", get(workloads::get).patch(workloads::update).delete(workloads::remove))
        .route("/v1/workloads/{ref}/start", post(checkpoints::start))
        .route("/v1/workloads/{ref}/pause", post(checkpoints::pause))
        .route("/v1/workloads/{ref}/resume", post(checkpoints::resume))
        .route("/v1/checkpoints", get(checkpoints::list).post(checkpoints::create))
        .route("/v1/checkpoints/{checkpoint}", get(checkpoints::get).delete(checkpoints::remove))
        .route("/v1/checkpoints/{checkpoint}/restore", post(checkpoints::restore))
        .route("/v1/workloads/{ref}/stop", post(workloads::stop))
        .route("/v1/workloads/{ref}/restart", post(workloads::restart))
        .route("/v1/workloads/{ref}/kill", post(workloads::kill))
        .route("/v1/workloads/{ref}/schedule/pause", post(schedule::pause))
        .route("/v1/workloads/{ref}/schedule/resume", post(schedule::resume))
        .route("/v1/workloads/{ref}/schedule/fire", post(schedule::fire))
        .route("/v1/workloads/{ref}/wait", get(workloads::wait))
        .route("/v1/workloads/{ref}/result", get(result::get))
        .route("/v1/workloads/{ref}/logs", get(logs::read))
        .route("/v1/workloads/{ref}/stats", get(stats::get))
        .route("/v1/workloads/{ref}/processes", get(stats::processes))
        .route("/v1/stats", get(stats::list))
        .route("/v1/workloads/{ref}/attach", any(attach::open))
        .route("/v1/workloads/{ref}/exec", any(exec::open))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .layer(DefaultBodyLimit::max(limits::HTTP_BODY_MAX))
        .with_state(door)
}

/// Opens the socket. A rootless node's is for its user alone; root's can be reached by everybody, because what a
/// caller may do follows from who he is.
pub fn listen(socket: &Path, privileged: bool) -> io::Result<UnixListener> {
    // Whoever holds the store's lock owns the socket's name: a file that is there is a dead daemon's.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = daemon::listen_deep(socket)?;
    let mode = if privileged { 0o666 } else { 0o600 };
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Serves until the node goes down; then lets short answers finish.
pub async fn serve(listener: UnixListener, node: Arc<Node>, watcher: Watcher) {
    let mut down = node.going_down();
    let owner = node.uid;
    let parked = Arc::new(Parked::new(node.clone()));
    parked.expect_owners();
    let door = Door { parked, node, watcher };
    connections::serve(listener, router(door), owner, async move {
        let _ = down.wait_for(|down| *down).await;
    })
    .await;
}
