//! Attach: a workload's streams over a WebSocket, through restarts, until it is at rest.

use std::time::Duration;

use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Path, State};
use hostler_api::stream::{AttachQuery, FromServer};
use hostler_model::ids::WorkloadId;
use hostler_model::workload::{RunState, Workload};
use hostler_model::{Problem, ProblemKind, RunId, limits};
use hostler_provision::may_enter;
use hostler_runtime::{Ahead, AttachRequest, Attachment, Role};
use hostler_wire::{AttachTarget, StreamOffsets};
use tokio::sync::watch;

use super::answer::{Answer, Asked};
use super::relay::{MESSAGE_MAX, Pumped, Relay};
use super::{Door, Peer};
use crate::node::view::Seen;

pub(crate) async fn open(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<AttachQuery>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Answer {
    let upgrade = upgrade.map_err(|rejection| Problem::new(ProblemKind::MalformedRequest, rejection.body_text()))?;
    let found = door.resolve(peer, query.namespace.clone(), &reference);
    let (id, held) = match found {
        Ok(workload) => {
            // One that waits for its turn: the run that will be.
            let next = workload.queued.map(|_| RunId { workload: workload.id, number: workload.runs + 1 });
            let run = next.or(workload.run.as_ref().map(|run| run.id));
            if query.owner || query.stdin {
                may_enter(&door.caller(peer)?, &workload, &door.node.users)?;
            }
            let held = run.filter(|run| query.owner && door.parked.holds(*run));
            if held.is_none() && workload.is_at_rest() && !query.owner {
                let detail = format!(
                    "{name} is not running: it is {phase}; see its output with: hostler logs {name}",
                    name = workload.name,
                    phase = workload.phase().as_str()
                );
                return Err(Problem::new(ProblemKind::Conflict, detail).into());
            }
            (workload.id, held)
        }
        // A short foreground run with `remove` may be gone already; its streams are still held for its owner.
        Err(refusal) => {
            let namespace = door.caller(peer)?.namespace(query.namespace.clone())?;
            match query.owner.then(|| door.parked.removed(&namespace, &reference)).flatten() {
                Some(run) => (run.workload, Some(run)),
                None => return Err(refusal),
            }
        }
    };
    let door = door.clone();
    Ok(upgrade.max_message_size(MESSAGE_MAX).on_upgrade(move |socket| session(door, id, query, held, socket)))
}

struct Session {
    door: Door,
    query: AttachQuery,
    watched: watch::Receiver<Option<Seen>>,
    relay: Relay,
    /// The run that was shown last.
    shown: Option<RunId>,
    /// The owner's claim on the streams of the run that follows: it may be as short as any.
    next: Option<(RunId, Ahead)>,
}

async fn session(door: Door, id: WorkloadId, query: AttachQuery, held: Option<RunId>, socket: WebSocket) {
    // Only now: an upgrade that never came to be leaves the streams where they wait, and the owner overdue.
    let held = held.and_then(|run| Some((run, door.parked.take(run)?)));
    let relay = Relay::new(socket, door.node.runtime.clone(), door.node.going_down());
    let watched = match &held {
        Some((_, held)) => held.watched.clone(),
        None => door.node.view.watch(id),
    };
    let mut session = Session { door, query, watched, relay, shown: None, next: None };
    if held.is_none() {
        session.claim_queued();
    }
    let mut pumped = Pumped::Complete;
    // Who resumes knows where he was: that is a new attachment, from there.
    let resumes = session.query.stdout_offset.is_some();
    if let Some((run, held)) = held.filter(|(_, held)| held.has_streams() && !resumes) {
        let mut watched = session.watched.clone();
        let attachment = async {
            tokio::select! {
                biased;
                attachment = held.attachment() => Some(attachment),
                // Taken out of its queue before its turn came: there will never be any.
                _ = watched.wait_for(was_cancelled) => None,
            }
        };
        pumped = match session.relay.unless_interrupted(attachment).await {
            Ok(Some(attachment)) => session.show(run, attachment, None).await,
            Ok(None) => Pumped::Complete,
            Err(interrupted) => interrupted,
        };
    }
    if pumped == Pumped::Complete {
        pumped = session.follow().await;
    }
    if pumped == Pumped::ClientGone && session.query.owner {
        session.door.node.owner_gone(id).await;
    }
    session.relay.close(&pumped).await;
}

fn was_cancelled(seen: &Option<Seen>) -> bool {
    seen.as_ref().is_none_or(|seen| {
        let run = seen.workload.run.as_ref();
        seen.removed || run.is_some_and(|run| run.state.is_final() && run.started_at_ms.is_none())
    })
}

impl Session {
    /// Run after run, until the workload is at rest.
    async fn follow(&mut self) -> Pumped {
        loop {
            let seen = self.watched.borrow_and_update().clone();
            let Some(seen) = seen else { return Pumped::Complete };
            let live = seen.workload.live_run().map(|run| run.id).filter(|run| self.shown != Some(*run));
            if let Some(run) = live.filter(|_| !seen.removed) {
                let (from, attachment) = self.attach(run).await;
                match self.show(run, attachment, from).await {
                    Pumped::Complete => continue,
                    other => return other,
                }
            }
            if seen.removed || seen.workload.is_at_rest() {
                return self.tell_end(&seen.workload).await;
            }
            tokio::select! {
                changed = self.watched.changed() => if changed.is_err() { continue },
                interrupted = self.relay.interrupted() => return interrupted,
            }
        }
    }

    /// The owner comes back to a job that still waits for its turn: its streams are his from the first byte.
    fn claim_queued(&mut self) {
        let seen = self.watched.borrow().clone();
        let Some(workload) = seen.map(|seen| seen.workload).filter(|workload| workload.queued.is_some()) else {
            return;
        };
        if self.query.owner {
            let next = RunId { workload: workload.id, number: workload.runs + 1 };
            self.next = Some((next, self.door.node.runtime.attach_ahead(next, self.request())));
        }
    }

    async fn attach(&mut self, run: RunId) -> (Option<StreamOffsets>, Option<Attachment>) {
        if let Some((_, ahead)) = self.next.take().filter(|(next, _)| *next == run) {
            let patience = Duration::from_millis(limits::AGENT_ANSWER_MAX_MS);
            if let Ok(Ok(Ok(attachment))) = tokio::time::timeout(patience, ahead).await {
                return (None, Some(attachment));
            }
        }
        let offsets = self.query.stdout_offset.zip(self.query.stderr_offset);
        let resumes = self.query.run.is_none_or(|asked| asked == run);
        let from = match offsets.filter(|_| resumes) {
            Some((stdout, stderr)) => Some(StreamOffsets { stdout, stderr }),
            // Beyond anything written so far: only what comes from now on.
            None if self.query.no_backlog && self.shown.is_none() => {
                Some(StreamOffsets { stdout: u64::MAX, stderr: u64::MAX })
            }
            None => None,
        };
        let request = AttachRequest { from, ..self.request() };
        let attachment = self.door.node.runtime.attach(run, request).await;
        (from.filter(|from| from.stdout != u64::MAX), attachment.ok())
    }

    fn request(&self) -> AttachRequest {
        let role = if self.query.owner { Role::Owner } else { Role::Reader };
        AttachRequest { target: AttachTarget::Main, role, stdin: self.query.stdin, from: None }
    }

    /// One run, from its streams to its durable end.
    async fn show(&mut self, run: RunId, attachment: Option<Attachment>, from: Option<StreamOffsets>) -> Pumped {
        self.shown = Some(run);
        if self.query.owner {
            let next = RunId { number: run.number + 1, ..run };
            self.next = Some((next, self.door.node.runtime.attach_ahead(next, self.request())));
        }
        let tty = self.watched.borrow().as_ref().is_some_and(|seen| seen.workload.spec.stdio.tty.is_some());
        if self.relay.say(&FromServer::Attached { run, tty }).await == Pumped::ClientGone {
            return Pumped::ClientGone;
        }
        if let Some(Attachment { mut output, input }) = attachment {
            self.relay.connect(self.query.stdin.then_some(input), run, AttachTarget::Main).await;
            match self.relay.pump(&mut output, from).await {
                Pumped::Complete => {}
                other => return other,
            }
        }
        // Complete for the reader; the end is told when it is on disk.
        let over = |seen: &Option<Seen>| {
            seen.as_ref().is_none_or(|seen| seen.removed || seen.workload.live_run().is_none_or(|live| live.id != run))
        };
        tokio::select! {
            _ = self.watched.wait_for(over) => Pumped::Complete,
            interrupted = self.relay.interrupted() => interrupted,
        }
    }

    async fn tell_end(&mut self, workload: &Workload) -> Pumped {
        let Some(run) = workload.run.as_ref().filter(|run| run.state.is_final()) else { return Pumped::Complete };
        let message = FromServer::Ended { run: run.id, state: RunState::clone(&run.state) };
        self.relay.say(&message).await
    }
}
