//! From a unit as it is written to its plan: every value parsed, every mistake told.

use crate::error::Problem;
use crate::ids::UnitName;
use crate::limits;
use crate::network::Attachment;
use crate::spec::{Log, Restart, RestartWhen, Rlimit, RlimitKind, Spec, Stop};
use crate::stack::check::{Mistakes, schedule};
use crate::stack::plan::{UnitKind, UnitPlan, Update};
use crate::stack::probe::{Liveness, Probe, Readiness, ReadyWhen, TimedProbe};
use crate::stack::unit::{self, RestartText, Unit};
use crate::stack::written::{Several, Written};
use crate::units::{UnitError, parse_duration_ms, parse_size_bytes};

/// The path of the table at hand, and where its mistakes go.
pub(super) struct Table<'a> {
    pub(super) path: String,
    pub(super) mistakes: &'a mut Mistakes,
}

impl Table<'_> {
    pub(super) fn at(&mut self, name: &str) -> Table<'_> {
        Table { path: format!("{}.{name}", self.path), mistakes: self.mistakes }
    }

    pub(super) fn add(&mut self, field: &str, what: impl Into<String>) {
        self.mistakes.add(&format!("{}.{field}", self.path), what);
    }

    pub(super) fn parse<T>(
        &mut self,
        field: &str,
        text: Option<&Written>,
        parse: impl FnOnce(&str) -> Result<T, UnitError>,
    ) -> Option<T> {
        match parse(text?.as_str()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.add(field, error.to_string());
                None
            }
        }
    }

    /// A time within its bounds, or what stands in for it.
    pub(super) fn time(&mut self, field: &str, text: Option<&Written>, default_ms: u64, min_ms: u64) -> u64 {
        let Some(ms) = self.parse(field, text, parse_duration_ms) else { return default_ms };
        if ms < min_ms || ms > limits::TIME_MAX_MS {
            self.add(field, format!("must be at least {min_ms} ms and at most a year"));
            return default_ms;
        }
        ms
    }
}

/// The plan of a unit; absent when its mistakes leave none.
pub(super) fn plan(kind: UnitKind, path: &str, unit: &Unit, mistakes: &mut Mistakes) -> Option<UnitPlan> {
    let mut table = Table { path: path.to_owned(), mistakes };
    let spec = spec(kind, unit, &mut table);
    let ready = readiness(kind, unit, &mut table);
    let liveness = unit.liveness.as_ref().and_then(|liveness| {
        if kind == UnitKind::Job {
            table.add("liveness", "has no effect: a job ends by itself; bound it with max_time");
        }
        live(liveness, &mut table.at("liveness"))
    });
    if let Some(condition) = &unit.condition {
        condition.check(&format!("{path}.condition"), 1, table.mistakes);
    }
    let replicas = unit.replicas.unwrap_or(1);
    if kind == UnitKind::Job && unit.replicas.is_some() {
        table.add("replicas", "has no effect: a job runs once");
    }
    if replicas > limits::REPLICAS_MAX {
        table.add("replicas", format!("must be at most {}", limits::REPLICAS_MAX));
    }
    // A port of the machine, or an address: two cannot have it, and a new one not while the old one does.
    let is_single = spec.as_ref().and_then(Spec::attachment).is_some_and(Attachment::is_single);
    if is_single && replicas > 1 {
        table.add(
            "replicas",
            "cannot be more than 1 with published ports or an address of its own: all would have the same",
        );
    }
    let usual = if is_single { Update::Replace } else { Update::Rolling };
    let names = |names: &Several| -> Vec<UnitName> {
        let mut known: Vec<UnitName> = Vec::new();
        for name in names.as_slice().iter().filter_map(|name| name.parse().ok()) {
            if !known.contains(&name) {
                known.push(name);
            }
        }
        known
    };
    Some(UnitPlan {
        kind,
        spec: spec?,
        after: names(&unit.after),
        requires: names(&unit.requires),
        ready: ready?,
        condition: unit.condition.clone(),
        liveness,
        replicas,
        update: unit.update.unwrap_or(usual),
    })
}

fn spec(kind: UnitKind, unit: &Unit, table: &mut Table<'_>) -> Option<Spec> {
    let has_bundle = unit.container.as_ref().is_some_and(|container| container.bundle.is_some());
    if unit.command.is_none() && !has_bundle {
        table.add("command", "is missing: write a list of program and arguments, or a line for sh -c");
        return None;
    }
    if !unit.env_file.is_none() {
        table.add("env_file", "is resolved by who reads the stack's file: send its lines as env");
    }
    let command = if unit.command.is_none() { Vec::new() } else { unit.command.command() };
    let mut spec = Spec::new(command);
    spec.container = unit.container.as_ref().map(|written| {
        let mut table = table.at("container");
        Box::new(written.container(&mut |field, what| table.add(field, what)))
    });
    spec.env = unit.env.iter().map(|(key, value)| format!("{key}={}", value.as_str()).into()).collect();
    for (key, _) in unit.env.iter().filter(|(key, _)| key.is_empty() || key.contains(['=', '\0'])) {
        table.add("env", format!("{key:?} is no name of a variable"));
    }
    spec.workdir = unit.workdir.as_deref().map(Into::into);
    spec.user.clone_from(&unit.user);
    let limits = unit.limits.as_ref().map(|limits| super::resources::limits_of(limits, &mut table.at("limits")));
    spec.limits = limits.unwrap_or_default().into();
    spec.rlimits = rlimits(unit, table).into();
    spec.restart = restart(kind, unit.restart.as_ref(), table).into();
    if let Some(stop) = &unit.stop {
        spec.stop = stop_of(stop, &mut table.at("stop"));
    }
    spec.max_time_ms = unit.max_time.is_some().then(|| table.time("max_time", unit.max_time.as_ref(), 1, 1));
    spec.start_deadline_ms = table.time("start_timeout", unit.start_timeout.as_ref(), limits::START_DEADLINE_MS, 1);
    *spec.labels = unit.labels.iter().map(|(key, value)| (key.clone(), value.as_str().to_owned())).collect();
    if let Some(log) = &unit.log {
        spec.log = log_of(log, &mut table.at("log"));
    }
    spec.stdio.stdin = unit.stdin.as_deref().map(Into::into);
    spec.stdio.stdout = unit.stdout.as_deref().map(Into::into);
    spec.stdio.stderr = unit.stderr.as_deref().map(Into::into);
    spec.no_new_privileges = unit.no_new_privileges.unwrap_or(true);
    spec.isolation = unit.isolation.as_ref().map(|text| Box::new(text.isolation()));
    turns(kind, unit, &mut spec, table);
    spec.hooks = unit.hooks.clone().into();
    spec.tags = unit.tags.as_slice().to_vec().into();
    spec.stats_interval_ms = table.parse("stats_interval", unit.stats_interval.as_ref(), parse_duration_ms);
    if let Err(Problem { detail, .. }) = spec.check() {
        let (field, what) = located(&detail);
        match field.is_empty() {
            true => table.mistakes.add(&table.path.clone(), what),
            false => table.add(&field, what),
        }
    }
    Some(spec)
}

/// What says when it runs, and whether it comes back: for jobs, or for services.
fn turns(kind: UnitKind, unit: &Unit, spec: &mut Spec, table: &mut Table<'_>) {
    if kind == UnitKind::Service {
        let why = "is for jobs: a service would keep its place in the queue for ever";
        let refused = [
            ("queue", unit.queue.is_some(), why),
            ("priority", unit.priority.is_some(), "is for jobs that wait in a queue"),
            ("schedule", unit.schedule.is_some(), "is for jobs: a service runs all the time"),
        ];
        for (field, _, why) in refused.into_iter().filter(|(_, is_there, _)| *is_there) {
            table.add(field, why);
        }
        spec.protected = unit.protected.unwrap_or(false);
        return;
    }
    if unit.protected.is_some() {
        table.add("protected", "is for services: a job is to come to its end");
    }
    match unit.queue.as_deref().map(str::parse).transpose() {
        Ok(queue) => spec.queue = queue,
        Err(error) => table.add("queue", error.to_string()),
    }
    if unit.queue.is_none() || spec.queue.is_some() {
        spec.priority = unit.priority.unwrap_or(0);
    }
    spec.schedule =
        unit.schedule.as_ref().and_then(|written| schedule::plan(written, &mut table.at("schedule"))).map(Box::new);
}

/// The key that a refusal of a spec is about, in the spelling of stacks, and what is wrong with it. The spec names the
/// field first; of a refusal that does not, the key is empty.
pub(super) fn located(refusal: &str) -> (String, &str) {
    const KNOWN: [&str; 14] = [
        "command",
        "container.network.named.",
        "env",
        "workdir",
        "labels",
        "rlimits",
        "log",
        "limits.",
        "restart.",
        "stdio.",
        "priority",
        "tags",
        "hooks",
        "schedule.",
    ];
    let (field, what) = refusal.split_once(' ').unwrap_or(("", refusal));
    if field == "stats_interval_ms" {
        return ("stats_interval".to_owned(), what);
    }
    if !KNOWN.iter().any(|known| field.starts_with(known)) {
        return (String::new(), refusal);
    }
    if let Some(limit) = field.strip_prefix("limits.") {
        let written = match limit {
            "cpu_millis" => "cpus",
            "memory_swap_bytes" => "swap",
            other => other.trim_end_matches("_bytes"),
        };
        return (format!("limits.{written}"), what);
    }
    // A container is attached by more than one key.
    if let Some(part) = field.strip_prefix("container.network.named.") {
        let written = if matches!(part, "publish" | "dns") { part } else { "network" };
        return (format!("container.{written}"), what);
    }
    // `hooks[0] on.line.pattern: …`
    if field.starts_with("hooks[")
        && let Some((inner, what)) = what.split_once(": ").filter(|(inner, _)| !inner.contains(' '))
    {
        return (format!("{field}.{inner}"), what);
    }
    (field.trim_start_matches("stdio.").trim_end_matches([',', ':']).to_owned(), what)
}

fn rlimits(unit: &Unit, table: &mut Table<'_>) -> Vec<Rlimit> {
    let mut table = table.at("rlimits");
    let mut rlimits = Vec::new();
    for (name, text) in &unit.rlimits {
        let Some(kind) = RlimitKind::from_word(name) else {
            table.add(name, "is not a resource of setrlimit(2), such as nofile, core, stack or nproc");
            continue;
        };
        let value = |text: &str| if text == "unlimited" { Ok(None) } else { text.parse().map(Some) };
        let (soft, hard) = text.as_str().split_once(':').unwrap_or((text.as_str(), text.as_str()));
        match (value(soft), value(hard)) {
            (Ok(soft), Ok(hard)) => rlimits.push(Rlimit { kind, soft, hard }),
            _ => table.add(name, "must be SOFT[:HARD], such as 1024:2048 or unlimited"),
        }
    }
    rlimits
}

fn restart(kind: UnitKind, written: Option<&RestartText>, table: &mut Table<'_>) -> Restart {
    let mut restart = Restart::default();
    let word = match written {
        None => {
            if kind == UnitKind::Service {
                restart.when = RestartWhen::Always;
            }
            return restart;
        }
        Some(RestartText::Word(word)) => word,
        Some(RestartText::Table(written)) => {
            let mut table = table.at("restart");
            let (initial, max) = (restart.backoff_initial_ms, restart.backoff_max_ms);
            restart.backoff_initial_ms =
                table.time("backoff_initial", written.backoff_initial.as_ref(), initial, limits::BACKOFF_MIN_MS);
            let max = max.max(restart.backoff_initial_ms);
            restart.backoff_max_ms =
                table.time("backoff_max", written.backoff_max.as_ref(), max, limits::BACKOFF_MIN_MS);
            restart.healthy_after_ms =
                table.time("healthy_after", written.healthy_after.as_ref(), restart.healthy_after_ms, 1);
            &written.when
        }
    };
    let (when, count) = word.split_once(':').map_or((word.as_str(), None), |(when, count)| (when, Some(count)));
    let parsed = match (when, count.map(str::parse::<u32>)) {
        ("never", None) => Some((RestartWhen::Never, None)),
        ("on-failure", None) => Some((RestartWhen::OnFailure, None)),
        ("on-failure", Some(Ok(count))) => Some((RestartWhen::OnFailure, Some(count))),
        ("always", None) => Some((RestartWhen::Always, None)),
        _ => None,
    };
    match parsed {
        Some((RestartWhen::Always, _)) if kind == UnitKind::Job => {
            table.add("restart", "always makes a job that never ends: make it a service");
        }
        Some((when, max_attempts)) => (restart.when, restart.max_attempts) = (when, max_attempts),
        None => table.add("restart", "must be never, on-failure, on-failure:N or always"),
    }
    restart
}

fn stop_of(written: &unit::Stop, table: &mut Table<'_>) -> Stop {
    let default = Stop::default();
    Stop {
        signal: table.parse("signal", written.signal.as_ref(), str::parse).unwrap_or(default.signal),
        grace_ms: table.time("timeout", written.timeout.as_ref(), default.grace_ms, 0),
    }
}

fn log_of(written: &unit::Log, table: &mut Table<'_>) -> Log {
    let default = Log::default();
    let size = table.parse("segment_size", written.segment_size.as_ref(), parse_size_bytes);
    Log { segment_bytes: size.unwrap_or(default.segment_bytes), segments: written.segments.unwrap_or(default.segments) }
}

fn readiness(kind: UnitKind, unit: &Unit, table: &mut Table<'_>) -> Option<Readiness> {
    let Some(ready) = &unit.ready else {
        let (when, deadline_ms) = match kind {
            UnitKind::Service => (ReadyWhen::Started, Some(limits::READY_DEADLINE_MS)),
            UnitKind::Job => (ReadyWhen::Success, None),
        };
        return Some(Readiness { when, deadline_ms });
    };
    if kind == UnitKind::Job {
        table.add("ready", "has no effect: a job is ready when it has succeeded");
        return None;
    }
    let mut table = table.at("ready");
    let probe = probe(ready.tcp.as_ref(), ready.http.as_deref(), &ready.exec, &mut table);
    let interval_ms =
        table.time("interval", ready.interval.as_ref(), limits::READY_INTERVAL_MS, limits::PROBE_INTERVAL_MIN_MS);
    let timeout_ms = table.time("timeout", ready.timeout.as_ref(), limits::PROBE_TIMEOUT_MS, 1);
    let delay = table.parse("delay", ready.delay.as_ref(), parse_duration_ms);
    let delay_ms = delay.unwrap_or(0);
    let ways = [
        ready.match_.is_some(),
        ready.delay.is_some(),
        ready.tcp.is_some(),
        ready.http.is_some(),
        !ready.exec.is_none(),
    ];
    if ways.into_iter().filter(|way| *way).count() != 1 {
        let path = table.path.clone();
        table.mistakes.add(&path, "must have exactly one of match, delay, tcp, http and exec");
        return None;
    }
    if (ready.interval.is_some() || ready.timeout.is_some()) && (ready.match_.is_some() || ready.delay.is_some()) {
        let path = table.path.clone();
        table.mistakes.add(&path, "has interval or timeout, which have no effect but with tcp, http and exec");
    }
    let deadline_ms =
        table.time("deadline", ready.deadline.as_ref(), limits::READY_DEADLINE_MS.saturating_add(delay_ms), 1);
    if delay_ms > deadline_ms {
        table.add("deadline", "is over before the delay is");
    }
    let when = match (&ready.match_, delay, probe) {
        (Some(pattern), ..) => {
            if pattern.is_empty() || pattern.len() > limits::HOOK_PATTERN_MAX {
                table.add("match", format!("must have from 1 to {} bytes", limits::HOOK_PATTERN_MAX));
            } else if unit.stdout.is_some() && unit.stderr.is_some() {
                table.add("match", "its output does not go to the log, so no line of it could ever match");
            }
            ReadyWhen::Match { pattern: pattern.clone() }
        }
        (None, Some(delay_ms), _) => ReadyWhen::Delay { delay_ms },
        (None, None, Some(probe)) => ReadyWhen::Probe(TimedProbe { probe, interval_ms, timeout_ms }),
        (None, None, None) => return None,
    };
    Some(Readiness { when, deadline_ms: Some(deadline_ms) })
}

fn live(written: &unit::Liveness, table: &mut Table<'_>) -> Option<Liveness> {
    let ways = [written.tcp.is_some(), written.http.is_some(), !written.exec.is_none()];
    if ways.into_iter().filter(|way| *way).count() != 1 {
        let path = table.path.clone();
        table.mistakes.add(&path, "must have exactly one of tcp, http and exec");
    }
    let failures = written.failures.unwrap_or(limits::LIVENESS_FAILURES);
    if failures == 0 {
        table.add("failures", "must be at least 1");
    }
    let interval_ms =
        table.time("interval", written.interval.as_ref(), limits::LIVENESS_INTERVAL_MS, limits::PROBE_INTERVAL_MIN_MS);
    let timeout_ms = table.time("timeout", written.timeout.as_ref(), limits::PROBE_TIMEOUT_MS, 1);
    let probe = probe(written.tcp.as_ref(), written.http.as_deref(), &written.exec, table)?;
    Some(Liveness { probe: TimedProbe { probe, interval_ms, timeout_ms }, failures })
}

fn probe(tcp: Option<&Written>, http: Option<&str>, exec: &Several, table: &mut Table<'_>) -> Option<Probe> {
    if let Some(address) = tcp {
        let found = address_of(address.as_str(), None).or_else(|| {
            let port = address.as_str().parse().ok().filter(|port| *port != 0)?;
            Some(("127.0.0.1".to_owned(), port))
        });
        if found.is_none() {
            table.add("tcp", "must be HOST:PORT, or a port of this machine");
        }
        return found.map(|(host, port)| Probe::Tcp { host, port });
    }
    if let Some(url) = http {
        let found = url.strip_prefix("http://").and_then(|rest| {
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            let (host, port) = address_of(&rest[..at], Some(80))?;
            let path = &rest[at..];
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            let good = path.bytes().all(|byte| byte.is_ascii_graphic()) && !path.contains('#');
            good.then_some(Probe::Http { host, port, path })
        });
        if found.is_none() {
            table.add("http", "must be a URL such as http://127.0.0.1:8080/health; there is no https here");
        }
        return found;
    }
    (!exec.is_none()).then(|| Probe::Exec { command: exec.command() })
}

/// `HOST:PORT`, `[V6]:PORT`, or the host alone where a port is implied.
fn address_of(text: &str, implied: Option<u16>) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => implied?,
    };
    let good = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:_%".contains(&b));
    good.then(|| (host.to_owned(), port))
}
