//! Exec: a second program inside a run, over a WebSocket that begins with what to run.

use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Path, State};
use futures_util::StreamExt;
use hostler_api::stream::{FromServer, ToServer};
use hostler_api::types::{ExecRequest, NamespaceQuery};
use hostler_model::ids::{ExecId, WorkloadId};
use hostler_model::units::Signal;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_model::{Problem, ProblemKind, RunId, limits};
use hostler_provision::accept::ExecAsked;
use hostler_provision::{Caller, accept_exec};
use hostler_runtime::{AttachRequest, Attachment, Role};
use hostler_supervisor::Request;
use hostler_supervisor::input::Reply;
use hostler_wire::AttachTarget;
use tokio::sync::mpsc;

use super::answer::{Answer, Asked};
use super::relay::{MESSAGE_MAX, Pumped, Relay};
use super::{Door, Peer};
use crate::metrics::Operation;
use crate::node::random;
use crate::node::view::ExecNews;

pub(crate) async fn open(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<NamespaceQuery>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Answer {
    let upgrade = upgrade.map_err(|rejection| Problem::new(ProblemKind::MalformedRequest, rejection.body_text()))?;
    let workload = door.resolve(peer, query.namespace, &reference)?.id;
    let caller = door.caller(peer)?;
    Ok(upgrade.max_message_size(MESSAGE_MAX).on_upgrade(move |socket| session(door, caller, workload, socket)))
}

async fn session(door: Door, caller: Caller, workload: WorkloadId, socket: WebSocket) {
    let (sink, mut stream) = socket.split();
    let first = tokio::time::timeout(Duration::from_millis(limits::HELLO_MAX_MS), stream.next()).await;
    let mut relay = Relay::with_parts(sink, stream, door.node.runtime.clone(), door.node.going_down());
    let request = match first {
        Ok(Some(Ok(Message::Text(text)))) => match serde_json::from_str(&text) {
            Ok(ToServer::Exec { request }) => Ok(request),
            Ok(_) => Err("the first message must be of type exec".to_owned()),
            Err(error) => Err(format!("the first message cannot be read: {error}")),
        },
        _ => Err("the first message must say what to execute".to_owned()),
    };
    let pumped = match request {
        Err(detail) => {
            relay.refuse(&Problem::new(ProblemKind::MalformedRequest, detail)).await;
            Pumped::Complete
        }
        Ok(request) => match run(&door, &caller, workload, request, &mut relay).await {
            Ok(pumped) => pumped,
            Err(problem) => {
                relay.refuse(&problem).await;
                Pumped::Complete
            }
        },
    };
    relay.close(&pumped).await;
}

async fn run(
    door: &Door,
    caller: &Caller,
    id: WorkloadId,
    request: ExecRequest,
    relay: &mut Relay,
) -> Result<Pumped, Problem> {
    let began = Instant::now();
    let gone = || Problem::new(ProblemKind::NotFound, format!("workload {id} is gone"));
    let workload = door.node.view.get(id).ok_or_else(gone)?;
    let stdin = request.interactive;
    crate::accept::check_rlimits(caller, &request.rlimits)?;
    let asked = ExecAsked {
        command: request.command,
        env: request.env,
        workdir: request.workdir,
        user: request.user,
        rlimits: request.rlimits,
        interactive: request.interactive,
        tty: request.tty,
    };
    let launch = accept_exec(caller, &workload, asked, &door.node.users)?;
    if workload.spec.container.is_some() {
        door.node.runtime.expect_exec();
    }
    let exec = ExecId::from_bytes(random());
    let mut news = door.node.view.listen(exec);
    let request = Request::Exec { workload: id, exec, launch: Box::new(launch) };
    let Reply::Exec(run) = door.node.request(request).await? else {
        return Err(Problem::new(ProblemKind::Internal, "an exec was answered with something else"));
    };
    let target = AttachTarget::Exec(exec);
    let asked = AttachRequest { target, role: Role::Owner, stdin, from: None };
    let attachment = door.node.runtime.attach(run, asked).await;
    let pid = match relay.unless_interrupted(started(&mut news)).await {
        Ok(Ok(pid)) => pid,
        Ok(Err(problem)) => {
            if problem.kind == ProblemKind::Timeout {
                hang_up(door, id, run, exec, Signal::KILL).await;
            }
            return Err(problem);
        }
        Err(interrupted) => {
            hang_up(door, id, run, exec, Signal::KILL).await;
            return Ok(interrupted);
        }
    };
    door.node.metrics.observe_duration(Operation::Exec, began.elapsed());
    let mut pumped = relay.say(&FromServer::ExecStarted { exec, pid }).await;
    if let (Pumped::Complete, Ok(Attachment { mut output, input })) = (&pumped, attachment) {
        relay.connect(stdin.then_some(input), run, target).await;
        pumped = relay.pump(&mut output, None).await;
    }
    if pumped == Pumped::Complete {
        return ended(&mut news, exec, relay).await;
    }
    if pumped == Pumped::ClientGone {
        hang_up(door, id, run, exec, Signal::HUP).await;
    }
    Ok(pumped)
}

/// Waits for the first news.
async fn started(news: &mut mpsc::UnboundedReceiver<ExecNews>) -> Result<u32, Problem> {
    let first = tokio::time::timeout(Duration::from_millis(limits::START_DEADLINE_MS), news.recv()).await;
    match first {
        Ok(Some(ExecNews::Started(pid))) => Ok(pid),
        Ok(Some(ExecNews::Failed(failure))) => Err(start_problem(&failure)),
        Ok(_) => Err(Problem::new(ProblemKind::Conflict, "the run ended before the program was started in it")),
        Err(_) => Err(Problem::new(ProblemKind::Timeout, "the program was not started in time")),
    }
}

fn start_problem(failure: &StartFailure) -> Problem {
    let kind = match failure.kind {
        StartFailureKind::CommandNotFound => ProblemKind::CommandNotFound,
        StartFailureKind::CommandNotExecutable => ProblemKind::CommandNotExecutable,
        StartFailureKind::Limit => ProblemKind::LimitUnavailable,
        _ => ProblemKind::StartFailed,
    };
    Problem::new(kind, failure.message.clone())
}

async fn ended(
    news: &mut mpsc::UnboundedReceiver<ExecNews>,
    exec: ExecId,
    relay: &mut Relay,
) -> Result<Pumped, Problem> {
    loop {
        let next = tokio::select! {
            next = news.recv() => next,
            interrupted = relay.interrupted() => return Ok(interrupted),
        };
        match next {
            Some(ExecNews::Started(_)) => {}
            Some(ExecNews::Exited(exit)) => return Ok(relay.say(&FromServer::ExecEnded { exec, exit }).await),
            Some(ExecNews::Failed(failure)) => return Err(start_problem(&failure)),
            Some(ExecNews::Lost) | None => {
                return Err(Problem::new(ProblemKind::Conflict, "the run ended, and the program in it with it"));
            }
        }
    }
}

/// An exec belongs to its client: when he is gone it is told so, as a shell is when its terminal goes away.
async fn hang_up(door: &Door, workload: WorkloadId, run: RunId, exec: ExecId, signal: Signal) {
    let request = Request::Kill { workload, signal, exec: Some(exec) };
    if let Err(problem) = door.node.request(request).await {
        tracing::debug!(%run, %exec, %problem, "an exec without a client is over already");
    }
}
