//! The journal: waiting for an event, and the rules that every history of runs must keep.

use std::collections::BTreeMap;

use hostler_api::client::ClientError;
use hostler_api::stream::EventView;
use hostler_api::types::EventsQuery;
use hostler_model::RunId;
use hostler_model::event::EventKind;

use crate::{PATIENCE, TestNode};

/// One event in a few words, for the messages of failed tests.
#[must_use]
pub fn words(view: &EventView) -> String {
    let subject = view.event.subject.as_ref().map_or_else(String::new, |subject| match subject.run {
        Some(run) => format!(" {} {run} {:?}", subject.name, subject.phase),
        None => format!(" {} {} {:?}", subject.name, subject.workload, subject.phase),
    });
    format!("{} {}{subject} at {}", view.id, view.event.kind.name(), view.event.time_ms)
}

/// Whether the event is of this workload, by name or id.
#[must_use]
pub fn is_of(view: &EventView, workload: &str) -> bool {
    let subject = view.event.subject.as_ref();
    subject.is_some_and(|subject| subject.name.as_str() == workload || subject.workload.to_string() == workload)
}

impl TestNode {
    /// Everything the journal keeps.
    pub fn journal(&self) -> Vec<EventView> {
        self.block_on(async {
            let query = EventsQuery { no_follow: true, ..EventsQuery::default() };
            let mut stream = self.api().events(&query, None).await.expect("events");
            let mut events = Vec::new();
            while let Some(event) = stream.next().await.expect("an event") {
                events.push(event);
            }
            events
        })
    }

    /// Waits for the first event, from the beginning of the journal, that is accepted. Outlives restarts of the
    /// daemon.
    pub fn wait_event(&self, what: &str, accept: impl Fn(&EventView) -> bool) -> EventView {
        let mut seen = Vec::new();
        let found =
            self.block_on(async { tokio::time::timeout(PATIENCE, self.follow_until(&accept, &mut seen)).await.ok() });
        found.unwrap_or_else(|| panic!("waited in vain for {what}; there were:\n{}", seen.join("\n")))
    }

    async fn follow_until(&self, accept: &impl Fn(&EventView) -> bool, seen: &mut Vec<String>) -> EventView {
        let query = EventsQuery { since: Some("0".to_owned()), ..EventsQuery::default() };
        let mut last: Option<String> = None;
        loop {
            let mut stream = match self.api().events(&query, last.as_deref()).await {
                Ok(stream) => stream,
                Err(error) if error.is_disconnect() => {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    continue;
                }
                Err(error) => panic!("events: {error}"),
            };
            loop {
                match stream.next().await {
                    Ok(Some(event)) if accept(&event) => return event,
                    Ok(Some(event)) => {
                        seen.push(words(&event));
                        last = Some(event.id);
                    }
                    Ok(None) | Err(ClientError::Disconnected(_)) => break,
                    Err(error) => panic!("an event: {error}"),
                }
            }
        }
    }

    /// Waits for an event of this type and workload.
    pub fn wait_kind(&self, workload: &str, kind: &str) -> EventView {
        self.wait_event(&format!("{kind} of {workload}"), |event| {
            event.event.kind.name() == kind && is_of(event, workload)
        })
    }
}

/// What the journal says about one run.
#[derive(Debug, Default, Clone)]
pub struct Life {
    /// How often each came, in the order of their coming.
    pub steps: Vec<&'static str>,
    /// The last one.
    pub end: Option<EventKind>,
}

/// The life of each run.
#[must_use]
pub fn lives(events: &[EventView]) -> BTreeMap<RunId, Life> {
    let mut lives: BTreeMap<RunId, Life> = BTreeMap::new();
    for view in events {
        let Some(run) = view.event.subject.as_ref().and_then(|subject| subject.run) else { continue };
        let step = match &view.event.kind {
            EventKind::RunCreated => "created",
            EventKind::RunStarted { .. } => "started",
            EventKind::RunExited { .. } | EventKind::RunFailed { .. } | EventKind::RunLost { .. } => "end",
            _ => continue,
        };
        let life = lives.entry(run).or_default();
        life.steps.push(step);
        if step == "end" {
            life.end = Some(view.event.kind.clone());
        }
    }
    lives
}

/// Every run was created once, started at most once, and has exactly one end, in this order; ids have no gaps.
/// Gives back the lives.
pub fn assert_history(events: &[EventView]) -> BTreeMap<RunId, Life> {
    let all = || events.iter().map(words).collect::<Vec<_>>().join("\n");
    let number = |view: &EventView| view.id.rsplit('-').next().and_then(|text| text.parse::<u64>().ok());
    for pair in events.windows(2) {
        let follows = number(&pair[0]).zip(number(&pair[1])).is_some_and(|(one, next)| next == one + 1);
        assert!(follows, "{} is followed by {}\n{}", pair[0].id, pair[1].id, all());
    }
    let lives = lives(events);
    for (run, life) in &lives {
        let good = matches!(life.steps.as_slice(), ["created", "end"] | ["created", "started", "end"]);
        assert!(good, "run {run} has the life {:?}\n{}", life.steps, all());
        // A start that no daemon lived to write down is told by the end: `exit.started_at_ms`.
        let deaths = events.iter().filter(|view| view.event.kind.name() == "node.started").count() - 1;
        if matches!(life.end, Some(EventKind::RunExited { .. })) && deaths == 0 {
            assert!(life.steps.contains(&"started"), "run {run} exited and was never started\n{}", all());
        }
    }
    lives
}
