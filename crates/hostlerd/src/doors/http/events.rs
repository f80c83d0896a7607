//! Events as server-sent events: the kept ones by pages in short read transactions, then live. A slow reader falls
//! behind and reads on from the store; what is past the retention by then is a gap that it is told of.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, sse};
use futures_util::stream;
use hostler_api::types::EventsQuery;
use hostler_linux::clock;
use hostler_model::event::{Event, EventId};
use hostler_model::ids::StoreId;
use hostler_model::{Problem, ProblemKind, limits};
use hostler_provision::Scope;
use hostler_store::{ReadError, Reader};
use tokio::sync::watch;

use super::answer::{Answer, Asked};
use super::{Door, Peer};
use crate::filter::Filter;

struct Follow {
    journal: StoreId,
    reader: Reader,
    next: u64,
    /// With `no_follow`: the last that was there when the reader came.
    last: Option<u64>,
    until_ms: Option<u64>,
    scope: Scope,
    filter: Filter,
    newest: watch::Receiver<u64>,
    down: watch::Receiver<bool>,
    ready: VecDeque<sse::Event>,
    over: bool,
}

pub(crate) async fn follow(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Asked(query): Asked<EventsQuery>,
    headers: HeaderMap,
) -> Answer {
    let caller = door.caller(peer)?;
    let scope = match query.namespace.as_deref() {
        None if caller.is_owner() => Scope::All,
        asked => caller.scope(asked)?,
    };
    let filter = Filter::for_events(query.filter.as_deref())?;
    let newest = door.node.view.last_event();
    let reader = door.node.events.clone();
    let journal = door.node.meta.store;
    let resume = headers.get("last-event-id").and_then(|value| value.to_str().ok());
    let next = match resume.or(query.since.as_deref()) {
        Some(since) => first_after(since, journal, &reader)?,
        None if query.no_follow => reader.oldest_sequence().map_err(problem)?,
        None => *newest.borrow() + 1,
    };
    if next <= reader.last_sequence() {
        // A refusal is only possible before the first byte of the stream.
        reader.events(next, 1).map_err(problem)?;
    }
    let follow = Follow {
        journal,
        next,
        last: query.no_follow.then(|| reader.last_sequence()),
        until_ms: query.until_ms,
        reader,
        scope,
        filter,
        newest,
        down: door.node.going_down(),
        ready: VecDeque::new(),
        over: false,
    };
    let events = stream::unfold(follow, |mut follow| async move {
        let event = follow.next_event().await?;
        Some((Ok::<_, Infallible>(event), follow))
    });
    Ok(sse::Sse::new(events).keep_alive(sse::KeepAlive::default()).into_response())
}

/// The number of the first event wanted: after an event's id, or from a time on.
fn first_after(since: &str, journal: StoreId, reader: &Reader) -> Answer<u64> {
    if let Ok(time_ms) = since.parse::<u64>() {
        return Ok(reader.sequence_at_time(time_ms).map_err(problem)?);
    }
    let id: EventId = since.parse().map_err(|_| {
        let detail = format!("{since:?} is neither an event id nor a time in milliseconds");
        Problem::new(ProblemKind::MalformedRequest, detail)
    })?;
    if id.journal != journal {
        let detail = format!("event {id} belongs to another journal; this node's is {journal}");
        return Err(Problem::new(ProblemKind::EventsGone, detail).into());
    }
    if id.sequence > reader.last_sequence() {
        let detail = format!("event {id} is not in the journal; its last is number {}", reader.last_sequence());
        return Err(Problem::new(ProblemKind::EventsGone, detail).into());
    }
    Ok(id.sequence + 1)
}

fn end_of_stream() -> sse::Event {
    sse::Event::default().event("end").data("{}")
}

/// When this time has come, wall clock.
async fn until(time_ms: Option<u64>) {
    match time_ms {
        Some(time_ms) => tokio::time::sleep(Duration::from_millis(time_ms.saturating_sub(clock::wall_ms()))).await,
        None => std::future::pending().await,
    }
}

fn problem(error: ReadError) -> Problem {
    match error {
        ReadError::Gone { oldest } => Problem::new(
            ProblemKind::EventsGone,
            format!("these events are no longer kept; the oldest kept is number {oldest}"),
        ),
        other => Problem::new(ProblemKind::Unavailable, other.to_string()),
    }
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
            let newest = *self.newest.borrow_and_update();
            let wanted = self.last.unwrap_or(newest);
            if self.next <= wanted {
                self.page(wanted).await;
            } else if self.last.is_some() {
                self.end();
            } else {
                let over = tokio::select! {
                    changed = self.newest.changed() => changed.is_err(),
                    _ = self.down.wait_for(|down| *down) => true,
                    () = until(self.until_ms) => {
                        self.over = true;
                        return Some(end_of_stream());
                    }
                };
                if over {
                    return None;
                }
            }
        }
    }

    fn end(&mut self) {
        self.over = true;
        self.ready.push_back(end_of_stream());
    }

    async fn page(&mut self, wanted: u64) {
        let (reader, from) = (self.reader.clone(), self.next);
        let page = tokio::task::spawn_blocking(move || reader.events(from, limits::EVENTS_PAGE)).await;
        match page {
            Ok(Ok(page)) => {
                for (sequence, json) in page {
                    if sequence > wanted {
                        return;
                    }
                    self.next = sequence + 1;
                    self.take(sequence, &json);
                    if self.over {
                        return;
                    }
                }
            }
            Ok(Err(ReadError::Gone { oldest })) => {
                // Not silently: the ids show the gap, and this says it in words.
                let data = format!("{{\"oldest\":{oldest}}}");
                self.ready.push_back(sse::Event::default().event("gap").data(data));
                self.next = oldest;
            }
            _ => self.over = true,
        }
    }

    fn take(&mut self, sequence: u64, json: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Event>(json) else {
            tracing::error!(sequence, "an event in the store cannot be read");
            return;
        };
        if self.until_ms.is_some_and(|until| event.time_ms > until) {
            self.end();
            return;
        }
        let visible = match event.namespace() {
            Some(namespace) => self.scope.contains(namespace),
            None => self.scope == Scope::All,
        };
        if !visible || !self.filter.accepts_event(&event) {
            return;
        }
        let id = EventId { journal: self.journal, sequence }.to_string();
        let name = event.kind.name();
        let view = hostler_api::stream::EventView { id: id.clone(), event };
        if let Ok(event) = sse::Event::default().id(id).event(name).json_data(&view) {
            self.ready.push_back(event);
        }
    }
}
