//! What the daemon counts and times, as OpenMetrics text. Times and counts are kept here; everything else is looked at
//! when somebody asks ([`Scrape`]).
//!
//! Nothing that is kept is labelled by workload, run or namespace, so that the number of series does not grow with the
//! work. What single workloads use is read when somebody asks, of a bounded number of them ([`sampled`]).

mod pools;
mod sampled;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hostler_linux::procfs;
use hostler_model::event::{Event, EventKind};
use hostler_model::network::PoolView;
use hostler_model::workload::Phase;
use hostler_model::{Namespace, NetworkName, RunId, limits};
use hostler_runtime::PoolStand;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::sampling::Sampled;

/// Upper bounds of the histograms' buckets, seconds.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Something that takes time and that somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// A new workload: from the request to its commit.
    Create,
    /// From the acceptance of a run to its running program; told by events, in whole milliseconds.
    Start,
    /// From the request for an exec to its running program.
    Exec,
    /// From the news that a run has ended to its commit.
    Exit,
    /// From the request to remove a workload to its commit.
    Delete,
    /// From the request for statistics to the answer.
    Stats,
}

impl Operation {
    /// All of them: each has its series from the start.
    pub(crate) const ALL: [Self; 6] = [Self::Create, Self::Start, Self::Exec, Self::Exit, Self::Delete, Self::Stats];

    /// The label's value.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Exec => "exec",
            Self::Exit => "exit",
            Self::Delete => "delete",
            Self::Stats => "stats",
        }
    }
}

impl EncodeLabelValue for Operation {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabel {
    operation: Operation,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    end: &'static str,
}

/// Every end that a run can have.
const ENDS: [&str; 9] = ["success", "error", "signal", "timeout", "killed", "oom", "machine", "failed", "lost"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

const SUCCEEDED: OutcomeLabel = OutcomeLabel { outcome: "succeeded" };
const FAILED: OutcomeLabel = OutcomeLabel { outcome: "failed" };

/// How things stand when somebody asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Scrape {
    /// Workloads by phase; those absent are none.
    pub(crate) workloads: BTreeMap<Phase, u32>,
    /// Readers that follow events.
    pub(crate) subscribers: usize,
    /// Actions under way or waiting for their time.
    pub(crate) pending_actions: usize,
    /// Descriptors the runtime watches.
    pub(crate) watched_descriptors: usize,
    /// Agents waiting for work.
    pub(crate) idle_agents: usize,
    /// Workloads with series of their own.
    pub(crate) sampled: Vec<Sampled>,
    /// Workloads that would have some, were there not so many or did their agents answer.
    pub(crate) unmeasured: usize,
    /// The pools of networks.
    pub(crate) pools: Vec<(Namespace, NetworkName, PoolView)>,
    /// The pools of guests.
    pub(crate) guests: Vec<PoolStand>,
}

/// Counts and times since the daemon started.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    operations: Family<OperationLabel, Histogram>,
    runs: Family<EndLabel, Counter>,
    hooks_fired: Counter,
    hook_calls: Family<OutcomeLabel, Counter>,
    events: Counter,
    /// Runs accepted by this daemon and not yet started, with their times, milliseconds.
    starting: Mutex<HashMap<RunId, u64>>,
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub(crate) fn new() -> Self {
        let operations = Family::<OperationLabel, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let runs = Family::<EndLabel, Counter>::default();
        let (hooks_fired, hook_calls) = (Counter::default(), Family::<OutcomeLabel, Counter>::default());
        let events = Counter::default();
        for outcome in [SUCCEEDED, FAILED] {
            drop(hook_calls.get_or_create(&outcome));
        }
        for operation in Operation::ALL {
            drop(operations.get_or_create(&OperationLabel { operation }));
        }
        for end in ENDS {
            drop(runs.get_or_create(&EndLabel { end }));
        }
        let mut registry = Registry::default();
        let help = "How long operations took that somebody waits for";
        registry.register_with_unit("hostler_operation", help, Unit::Seconds, operations.clone());
        registry.register("hostler_runs", "Runs that came to their end, by how they ended", runs.clone());
        registry.register("hostler_hooks_fired", "Hooks whose trigger came", hooks_fired.clone());
        registry.register("hostler_hook_calls", "Actions of hooks, by how they ended", hook_calls.clone());
        registry.register("hostler_events", "Events committed", events.clone());
        Self { registry, operations, runs, hooks_fired, hook_calls, events, starting: Mutex::default() }
    }

    /// Counts a committed event.
    pub(crate) fn observe(&self, event: &Event) {
        self.events.inc();
        let run = event.subject.as_ref().and_then(|subject| subject.run);
        let end = match &event.kind {
            EventKind::RunCreated => {
                let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
                // Every entry is a live run, so the bound is never met.
                if let Some(run) = run
                    && starting.len() < limits::LIVE_RUNS_MAX
                {
                    starting.insert(run, event.time_ms);
                }
                return;
            }
            EventKind::RunStarted { .. } => {
                if let Some(created_ms) = self.take_starting(run) {
                    let took = Duration::from_millis(event.time_ms.saturating_sub(created_ms));
                    self.observe_duration(Operation::Start, took);
                }
                return;
            }
            EventKind::RunExited { exit } => exit.cause.as_str(),
            EventKind::RunFailed { .. } => "failed",
            EventKind::RunLost { .. } => "lost",
            EventKind::HookFired { .. } => {
                self.hooks_fired.inc();
                return;
            }
            EventKind::HookSucceeded { .. } | EventKind::HookFailed { .. } => {
                let is_good = matches!(event.kind, EventKind::HookSucceeded { .. });
                self.hook_calls.get_or_create(if is_good { &SUCCEEDED } else { &FAILED }).inc();
                return;
            }
            _ => return,
        };
        self.take_starting(run);
        self.runs.get_or_create(&EndLabel { end }).inc();
    }

    fn take_starting(&self, run: Option<RunId>) -> Option<u64> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner).remove(&run?)
    }

    /// Records how long an operation took.
    pub(crate) fn observe_duration(&self, operation: Operation, took: Duration) {
        self.operations.get_or_create(&OperationLabel { operation }).observe(took.as_secs_f64());
    }

    /// Everything as OpenMetrics text, <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
    #[must_use]
    pub(crate) fn encode(&self, scrape: Scrape) -> String {
        let mut text = String::with_capacity(16 * 1024);
        let now = scraped(&scrape);
        let encoded = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &now))
            .and_then(|()| encode_eof(&mut text));
        encoded.expect("writing to a string cannot fail");
        text
    }
}

/// Series of one label, with these values.
fn labelled<const N: usize>(
    values: [(&'static str, &'static str, i64); N],
) -> Family<[(&'static str, &'static str); 1], Gauge> {
    let family = Family::<_, Gauge>::default();
    for (name, value, count) in values {
        family.get_or_create(&[(name, value)]).set(count);
    }
    family
}

fn scraped(scrape: &Scrape) -> Registry {
    let mut registry = Registry::default();
    let count = |phase| i64::from(scrape.workloads.get(&phase).copied().unwrap_or(0));
    let workloads = labelled(Phase::ALL.map(|phase| ("phase", phase.as_str(), count(phase))));
    registry.register("hostler_workloads", "Workloads known to the node", workloads);
    let mut gauge = |name: &str, help: &str, value: usize| {
        let gauge = Gauge::<i64>::default();
        gauge.set(signed(value as u64));
        registry.register(name, help, gauge);
    };
    gauge("hostler_event_subscribers", "Readers that follow events", scrape.subscribers);
    gauge("hostler_pending_actions", "Actions under way or waiting for their time", scrape.pending_actions);
    gauge("hostler_watched_descriptors", "Descriptors that the runtime watches", scrape.watched_descriptors);
    gauge("hostler_idle_agents", "Agents waiting for work", scrape.idle_agents);
    let help = "Workloads that run with limits or samples and have no series of their own";
    gauge("hostler_unmeasured_workloads", help, scrape.unmeasured);
    if let Ok(open) = procfs::open_fds(std::process::id()) {
        gauge("hostler_process_open_fds", "Descriptors that the daemon has open", open);
    }
    machine(&mut registry);
    sampled::register(&mut registry, &scrape.sampled);
    pools::register(&mut registry, &scrape.pools);
    pools::register_guests(&mut registry, &scrape.guests);
    registry
}

/// What the kernel says of the daemon and the machine; what it does not say is left out.
fn machine(registry: &mut Registry) {
    if let Ok(stats) = procfs::stats(std::process::id()) {
        let resident = Gauge::<i64>::default();
        resident.set(signed(stats.rss_bytes));
        let help = "Memory of the daemon, shared pages counted in full";
        registry.register_with_unit("hostler_process_resident", help, Unit::Bytes, resident);
    }
    if let Ok((total, available)) = procfs::memory_total_available() {
        let memory = labelled([("kind", "total", signed(total)), ("kind", "available", signed(available))]);
        registry.register_with_unit("hostler_machine_memory", "Memory of the machine", Unit::Bytes, memory);
    }
    if let Ok((busy_us, idle_us)) = procfs::cpu_times_us() {
        let cpu = Family::<[(&str, &str); 1], Counter<f64, std::sync::atomic::AtomicU64>>::default();
        for (mode, us) in [("busy", busy_us), ("idle", idle_us)] {
            cpu.get_or_create(&[("mode", mode)]).inc_by(Duration::from_micros(us).as_secs_f64());
        }
        let help = "CPU time of the machine since boot, all cores together";
        registry.register_with_unit("hostler_machine_cpu", help, Unit::Seconds, cpu);
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_model::Cause;
    use hostler_model::event::Subject;
    use hostler_model::exit::{Exit, ExitStatus};
    use hostler_model::hook::HookTrigger;
    use hostler_model::workload::LostReason;

    fn event(time_ms: u64, number: u32, kind: EventKind) -> Event {
        let subject = Subject {
            workload: "0a1b2c3d4e5f".parse().unwrap(),
            namespace: "ann".parse().unwrap(),
            name: "web".parse().unwrap(),
            run: Some(format!("0a1b2c3d4e5f-{number}").parse().unwrap()),
            phase: Phase::Running,
            generation: 1,
            runs: number,
        };
        Event { time_ms, kind, subject: Some(subject) }
    }

    fn exit(cause: Cause) -> EventKind {
        let exit = Exit::new(ExitStatus::Code(0), cause, 0, 0);
        EventKind::RunExited { exit }
    }

    /// Value of one series; the text must be well-formed.
    fn value(text: &str, series: &str) -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.parse().expect("a number"))
    }

    fn check_lines(text: &str) {
        assert!(text.ends_with("\n# EOF\n"));
        assert_eq!(text.matches("# EOF").count(), 1);
        let mut families = Vec::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let words: Vec<_> = comment.splitn(3, ' ').collect();
                assert!(["HELP", "TYPE", "UNIT", "EOF"].contains(&words[0]), "{line}");
                if words[0] == "TYPE" {
                    assert!(!families.contains(&words[1]), "{line} twice");
                    families.push(words[1]);
                }
                continue;
            }
            let (series, number) = line.rsplit_once(' ').expect("series and value");
            assert!(number.parse::<f64>().is_ok_and(|number| number >= 0.0), "{line}");
            let name = series.split('{').next().expect("a name");
            assert!(families.iter().any(|family| name.starts_with(family)), "{line} has no TYPE");
            assert!(!series.contains('{') || series.ends_with("\"}"), "{line}");
            for secret in ["web", "ann", "0a1b2c3d4e5f"] {
                assert!(!line.contains(secret), "{line} is about one workload");
            }
        }
    }

    #[test]
    fn events_are_counted_and_starts_timed() {
        let metrics = Metrics::new();
        metrics.observe(&event(1_000, 1, EventKind::RunCreated));
        metrics.observe(&event(1_004, 1, EventKind::RunStarted { pid: Some(7), restored_from: None }));
        // A run that was accepted by an earlier daemon has no beginning here.
        metrics.observe(&event(1_004, 2, EventKind::RunStarted { pid: Some(8), restored_from: None }));
        for cause in [Cause::Success, Cause::Oom, Cause::Oom, Cause::Timeout] {
            metrics.observe(&event(2_000, 1, exit(cause)));
        }
        metrics.observe(&event(2_000, 3, EventKind::RunCreated));
        metrics.observe(&event(2_000, 3, EventKind::RunLost { reason: LostReason::Agent }));
        for on in [HookTrigger::Started, HookTrigger::Success] {
            metrics.observe(&event(2_000, 3, EventKind::HookFired { hook: 0, on }));
        }
        let message = "refused".to_owned();
        metrics.observe(&event(2_000, 3, EventKind::HookFailed { hook: 0, attempts: 5, message }));
        metrics.observe(&Event { time_ms: 1, kind: EventKind::NodeLameDuck { lame_duck: true }, subject: None });
        assert!(metrics.starting.lock().unwrap().is_empty(), "nothing is kept of what is over");

        let text = metrics.encode(Scrape::default());
        check_lines(&text);
        for (series, expected) in [
            ("hostler_events_total", 13.0),
            ("hostler_hooks_fired_total", 2.0),
            ("hostler_hook_calls_total{outcome=\"failed\"}", 1.0),
            ("hostler_hook_calls_total{outcome=\"succeeded\"}", 0.0),
            ("hostler_runs_total{end=\"success\"}", 1.0),
            ("hostler_runs_total{end=\"oom\"}", 2.0),
            ("hostler_runs_total{end=\"timeout\"}", 1.0),
            ("hostler_runs_total{end=\"lost\"}", 1.0),
            ("hostler_runs_total{end=\"failed\"}", 0.0),
            ("hostler_operation_seconds_count{operation=\"start\"}", 1.0),
            ("hostler_operation_seconds_sum{operation=\"start\"}", 0.004),
            ("hostler_operation_seconds_bucket{le=\"0.002\",operation=\"start\"}", 0.0),
            ("hostler_operation_seconds_bucket{le=\"0.005\",operation=\"start\"}", 1.0),
            ("hostler_operation_seconds_count{operation=\"create\"}", 0.0),
        ] {
            assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
        }
    }

    #[test]
    fn durations_and_gauges() {
        let metrics = Metrics::new();
        metrics.observe_duration(Operation::Stats, Duration::from_micros(700));
        metrics.observe_duration(Operation::Exit, Duration::from_secs(60));
        let scrape = Scrape {
            pools: Vec::new(),
            guests: Vec::new(),
            workloads: BTreeMap::from([(Phase::Running, 3)]),
            subscribers: 4,
            pending_actions: 5,
            watched_descriptors: 6,
            idle_agents: 7,
            sampled: Vec::new(),
            unmeasured: 3,
        };
        let text = metrics.encode(scrape);
        check_lines(&text);
        for (series, expected) in [
            ("hostler_operation_seconds_count{operation=\"stats\"}", 1.0),
            ("hostler_operation_seconds_bucket{le=\"10.0\",operation=\"exit\"}", 0.0),
            ("hostler_operation_seconds_bucket{le=\"+Inf\",operation=\"exit\"}", 1.0),
            ("hostler_workloads{phase=\"running\"}", 3.0),
            ("hostler_workloads{phase=\"lost\"}", 0.0),
            ("hostler_event_subscribers", 4.0),
            ("hostler_pending_actions", 5.0),
            ("hostler_watched_descriptors", 6.0),
            ("hostler_idle_agents", 7.0),
        ] {
            assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
        }
        for series in [
            "hostler_process_resident_bytes",
            "hostler_process_open_fds",
            "hostler_machine_cpu_seconds_total{mode=\"busy\"}",
            "hostler_machine_cpu_seconds_total{mode=\"idle\"}",
            "hostler_machine_memory_bytes{kind=\"total\"}",
            "hostler_machine_memory_bytes{kind=\"available\"}",
        ] {
            assert!(value(&text, series).is_some_and(|value| value > 0.0), "{series}\n{text}");
        }
    }
    #[test]
    fn workloads_that_ask_for_statistics_have_series_of_their_own() {
        use hostler_model::statistics::Used;
        let used =
            Used { cpu_us: 1_500_000, rss_bytes: 4_096, swap_bytes: 0, read_bytes: Some(10), written_bytes: None };
        let sample = hostler_api::types::Sample { time_ms: 1, run: 1, pids: 2, memory_bytes: 5_000, used };
        let sampled = Sampled { namespace: "ann".parse().unwrap(), name: "web".parse().unwrap(), sample };
        let text = Metrics::new().encode(Scrape { sampled: vec![sampled], ..Scrape::default() });
        let label = "{namespace=\"ann\",workload=\"web\"}";
        for (name, expected) in [
            ("cpu_seconds_total", Some(1.5)),
            ("resident_bytes", Some(4_096.0)),
            ("swap_bytes", Some(0.0)),
            ("memory_bytes", Some(5_000.0)),
            ("read_bytes_total", Some(10.0)),
            ("written_bytes_total", None),
            ("processes", Some(2.0)),
        ] {
            assert_eq!(value(&text, &format!("hostler_workload_{name}{label}")), expected, "{name}\n{text}");
        }
    }
}
