//! Logs as server-sent events, read from the segments that the agent writes: each reader has its own place in the
//! files, so a slow one delays nobody and nothing is kept in memory for it.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, sse};
use futures_util::stream;
use hostler_api::stream::LogLost;
use hostler_api::types::LogsQuery;
use hostler_model::{Problem, ProblemKind};
use hostler_provision::launch::log_directory;
use tokio::sync::watch;

use super::answer::{Answer, Asked};
use super::{Door, Peer};
use crate::logs::{Filter, LogReader, Position, Subscription};
use crate::node::view::Seen;

/// Text read from the segments in one go, bytes.
const BATCH: usize = 64 * 1024;

struct Follow {
    reader: Option<LogReader>,
    changes: Option<Subscription>,
    watched: watch::Receiver<Option<Seen>>,
    down: watch::Receiver<bool>,
    ready: VecDeque<sse::Event>,
    /// At rest when last looked: what is read after this is all there will be.
    at_rest: bool,
    over: bool,
}

pub(crate) async fn read(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<LogsQuery>,
    headers: HeaderMap,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    let directory = log_directory(&door.node.layout.logs(), &workload);
    let from =
        match headers.get("last-event-id").map(|value| value.to_str()) {
            None => None,
            Some(text) => Some(text.ok().and_then(|text| text.parse::<Position>().ok()).ok_or_else(|| {
                Problem::new(ProblemKind::MalformedRequest, "Last-Event-ID is not a position in a log")
            })?),
        };
    let filter = Filter { since_ms: query.since_ms, stream: query.stream, tail: query.tail, run: None };
    // Subscribe, then look, then read: nothing written in between is missed.
    let changes = query.follow.then(|| door.watcher.watch(&directory));
    let watched = door.node.view.watch(workload.id);
    let opened = tokio::task::spawn_blocking(move || LogReader::open(directory, filter, from)).await;
    let reader = match opened {
        Ok(Ok(reader)) => reader,
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidInput => {
            return Err(Problem::new(ProblemKind::MalformedRequest, error.to_string()).into());
        }
        Ok(Err(error)) => return Err(Problem::new(ProblemKind::Internal, format!("reading the log: {error}")).into()),
        Err(error) => return Err(Problem::new(ProblemKind::Internal, error.to_string()).into()),
    };
    let follow = Follow {
        reader: Some(reader),
        changes,
        watched,
        down: door.node.going_down(),
        ready: VecDeque::new(),
        at_rest: false,
        over: false,
    };
    let lines = stream::unfold(follow, |mut follow| async move {
        let event = follow.next_event().await?;
        Some((Ok::<_, Infallible>(event), follow))
    });
    Ok(sse::Sse::new(lines).keep_alive(sse::KeepAlive::default()).into_response())
}

impl Follow {
    async fn next_event(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            let was_at_rest = self.at_rest;
            self.at_rest =
                self.watched.borrow_and_update().as_ref().is_none_or(|seen| seen.removed || seen.workload.is_at_rest());
            if self.fill().await? {
                continue;
            }
            // The agent writes the last line before the end is told, so one look after the end sees everything.
            if self.changes.is_none() || (was_at_rest && self.at_rest) {
                self.over = true;
                self.ready.push_back(sse::Event::default().event("end").data("{}"));
                continue;
            }
            if self.at_rest {
                continue;
            }
            let changes = self.changes.as_mut()?;
            tokio::select! {
                () = changes.changed() => {}
                changed = self.watched.changed() => if changed.is_err() { self.at_rest = true },
                _ = self.down.wait_for(|down| *down) => return None,
            }
        }
    }

    /// Reads what is there; whether there was anything.
    async fn fill(&mut self) -> Option<bool> {
        let mut reader = self.reader.take()?;
        let (reader, batch) = tokio::task::spawn_blocking(move || {
            let batch = reader.next_batch(BATCH);
            (reader, batch)
        })
        .await
        .ok()?;
        self.reader = Some(reader);
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                tracing::warn!(%error, "reading a log");
                return None;
            }
        };
        if batch.lost_segments > 0 {
            let lost = LogLost { segments: batch.lost_segments };
            self.ready.extend(sse::Event::default().event("lost").json_data(&lost).ok());
        }
        for (position, line) in batch.lines {
            self.ready.extend(sse::Event::default().id(position.to_string()).event("line").json_data(&line).ok());
        }
        Some(!self.ready.is_empty())
    }
}
