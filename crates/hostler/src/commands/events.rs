//! What happens on the node, a line an event.

use std::io::{self, Write as _};

use hostler_api::client::{ClientError, EventStream};
use hostler_api::stream::EventView;
use hostler_api::types::EventsQuery;
use hostler_model::event::{EventKind, StopReason};
use hostler_model::units::format_duration;
use tokio::time::Instant;

use super::{Context, is_break, joined, pause};
use crate::cli::EventsArguments;
use crate::failure::Failure;
use crate::output::{self, Style, Tone, local_time, now_ms, say, say_json_line};
use crate::parse;

pub(super) async fn events(context: &Context, arguments: &EventsArguments) -> Result<u8, Failure> {
    let now_ms = now_ms();
    let since = arguments.since.as_deref().map(|text| parse::events_since(text, now_ms)).transpose();
    let until_ms = arguments.until.as_deref().map(|text| parse::moment_ms(text, now_ms)).transpose();
    let until_ms = until_ms.map_err(Failure::usage)?;
    let query = EventsQuery {
        since: since.map_err(Failure::usage)?,
        until_ms,
        filter: joined(&arguments.filter),
        // Nothing more comes of a time that is over.
        no_follow: arguments.no_follow || until_ms.is_some_and(|until_ms| until_ms <= now_ms),
        ..EventsQuery::default()
    };
    let mut last_id: Option<String> = None;
    let mut broken_since: Option<Instant> = None;
    loop {
        let error = match context.client.events(&query, last_id.as_deref()).await {
            Ok(mut stream) => {
                let result = print_all(context, &mut stream).await?;
                last_id = stream.last_id().map(str::to_owned);
                match result {
                    None => return Ok(0),
                    Some(error) => {
                        broken_since = None;
                        error
                    }
                }
            }
            Err(error) if is_break(&error, broken_since.is_some()) => error,
            Err(error) => return Err(error.into()),
        };
        pause(&mut broken_since, error).await?;
    }
}

/// Prints until the end (`None`) or a break of the connection.
async fn print_all(context: &Context, stream: &mut EventStream<EventView>) -> Result<Option<ClientError>, Failure> {
    loop {
        match stream.next().await {
            Ok(Some(event)) if context.json() => say_json_line(&event)?,
            Ok(Some(event)) => say(line(context.style, &event))?,
            Ok(None) => return Ok(None),
            Err(error) if error.is_disconnect() => return Ok(Some(error)),
            Err(error) => return Err(error.into()),
        }
        io::stdout().flush()?;
    }
}

fn line(style: Style, view: &EventView) -> String {
    let event = &view.event;
    let time = style.paint(Tone::Faint, &local_time(event.time_ms));
    let kind = style.paint(tone(&event.kind), &format!("{:<20}", event.kind.name()));
    let subject = event.subject.as_ref().map_or_else(String::new, |subject| match &subject.run {
        Some(run) => format!("  {} ({run})", subject.name),
        None => format!("  {} ({})", subject.name, subject.workload),
    });
    let details = details(&event.kind);
    let details = if details.is_empty() { details } else { format!("  {details}") };
    format!("{time}  {kind}{subject}{details}").trim_end().to_owned()
}

fn tone(kind: &EventKind) -> Tone {
    match kind {
        EventKind::RunStarted { .. } | EventKind::RunReady => Tone::Good,
        EventKind::StackUnit { standing, .. } => output::standing_tone(standing),
        EventKind::RunFailed { .. }
        | EventKind::RunLost { .. }
        | EventKind::RunOom { .. }
        | EventKind::RunUnhealthy { .. }
        | EventKind::RunNetworkLost { .. }
        | EventKind::HookFailed { .. } => Tone::Bad,
        EventKind::RunExited { exit } if !exit.status.is_success() => Tone::Bad,
        EventKind::WorkloadRestarting { .. } | EventKind::WorkloadStopping { .. } => Tone::Warning,
        _ => Tone::Normal,
    }
}

/// Of queues and networks, which are nobody's runs.
fn thing_details(kind: &EventKind) -> String {
    match kind {
        EventKind::QueueChanged { queue } => {
            let pause = if queue.paused { ", paused" } else { "" };
            let drain = if queue.draining { ", draining" } else { "" };
            format!("queue {}: {} at one time{pause}{drain}", queue.name, queue.parallel)
        }
        EventKind::QueueRemoved { queue } => format!("queue {}", queue.name),
        EventKind::NetworkCreated { network } => match &network.bridge {
            Some(bridge) => format!("network {}: {}", network.name, bridge.subnet),
            None => format!("network {}: cni", network.name),
        },
        EventKind::NetworkRemoved { network } => format!("network {}", network.name),
        _ => String::new(),
    }
}

fn details(kind: &EventKind) -> String {
    match kind {
        EventKind::WorkloadCreated | EventKind::WorkloadRemoved | EventKind::RunCreated => String::new(),
        EventKind::WorkloadQueued { queue } => format!("in queue {queue}"),
        EventKind::QueueChanged { .. }
        | EventKind::QueueRemoved { .. }
        | EventKind::NetworkCreated { .. }
        | EventKind::NetworkRemoved { .. } => thing_details(kind),
        EventKind::RunNetworkLost { problem } => problem.clone(),
        EventKind::WorkloadUpdated { limits } => serde_json::to_string(limits).unwrap_or_default(),
        EventKind::WorkloadStopping { reason } => match reason {
            StopReason::Stop => "asked to stop".to_owned(),
            StopReason::Restart => "asked to restart".to_owned(),
            StopReason::Replace => "the next fire takes its place".to_owned(),
            StopReason::Remove => "asked to go".to_owned(),
            StopReason::OwnerGone => "whoever ran it is gone".to_owned(),
            StopReason::Stack => "its stack wants that".to_owned(),
            StopReason::Unhealthy => "taken for dead".to_owned(),
            StopReason::Shutdown => "the node is taken down".to_owned(),
        },
        EventKind::WorkloadRestarting { delay_ms, attempt } => {
            format!("in {}, failures in a row: {attempt}", format_duration(*delay_ms))
        }
        EventKind::ScheduleFired { .. }
        | EventKind::ScheduleMissed { .. }
        | EventKind::ScheduleSkipped { .. }
        | EventKind::SchedulePaused
        | EventKind::ScheduleResumed { .. } => schedule_details(kind),
        EventKind::RunStarted { pid, restored_from } => {
            let pid = pid.map(|pid| format!("pid {pid}"));
            let restored = restored_from.as_ref().map(|name| format!("restored from {name}"));
            pid.into_iter().chain(restored).collect::<Vec<_>>().join(", ")
        }
        EventKind::RunPaused | EventKind::RunResumed => String::new(),
        EventKind::RunCheckpointed { checkpoint, exit } => {
            if *exit {
                format!("{checkpoint}, and ended")
            } else {
                checkpoint.to_string()
            }
        }
        EventKind::RunReady => String::new(),
        EventKind::RunUnhealthy { reason } => reason.clone(),
        EventKind::StackApplied { stack, revision, mistakes, .. } => match mistakes {
            0 => format!("{stack}, revision {revision}"),
            mistakes => format!("{stack}, revision {revision}, mistakes: {mistakes}"),
        },
        EventKind::StackUnit { stack, unit, standing, .. } => {
            format!("{stack}.{unit}: {}", output::standing_words(standing))
        }
        EventKind::StackRemoved { stack, .. } => stack.to_string(),
        EventKind::RunOom { oom_kills } => format!("killed for memory: {oom_kills}"),
        EventKind::RunExited { exit } | EventKind::ExecExited { exit, .. } => {
            format!("exit {} after {}", output::exit_words(exit), format_duration(exit.duration_ms))
        }
        EventKind::HookFired { hook, on } => format!("hook {hook}, on {}", on.as_str()),
        EventKind::HookSucceeded { hook, attempts } => format!("hook {hook}, attempts: {attempts}"),
        EventKind::HookFailed { hook, attempts, message } => format!("hook {hook}, attempts: {attempts}: {message}"),
        EventKind::RunFailed { failure } => failure.message.clone(),
        EventKind::RunLost { reason } => output::lost_words(*reason).to_owned(),
        EventKind::ExecStarted { exec, pid } => format!("exec {exec}, pid {pid}"),
        EventKind::NodeStarted { version, adopted, ended_meanwhile, lost } => {
            format!("hostlerd {version}: {adopted} found running, {ended_meanwhile} ended meanwhile, {lost} lost")
        }
        EventKind::NodeLameDuck { lame_duck } => {
            if *lame_duck { "no new work" } else { "work is taken again" }.to_owned()
        }
    }
}

fn schedule_details(kind: &EventKind) -> String {
    match kind {
        EventKind::ScheduleFired { due_ms, waiting } => {
            let due =
                due_ms.map_or_else(|| "beside the plan".to_owned(), |due| format!("due {}", output::local_date(due)));
            if *waiting > 0 { format!("{due}, {waiting} waiting") } else { due }
        }
        EventKind::ScheduleMissed { count, more, policy, dropped } => {
            let more = if *more { " or more" } else { "" };
            format!("{count}{more} missed, misfire {}: {dropped} dropped", policy.as_str())
        }
        EventKind::ScheduleSkipped { due_ms, policy } => {
            format!("due {}, the run before is not over, overlap {}", output::local_date(*due_ms), policy.as_str())
        }
        EventKind::ScheduleResumed { next_fire_ms: Some(next_ms) } => format!("next {}", output::local_date(*next_ms)),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let json = r#"{"id":"0011223344556677-5","time_ms":1,"type":"run.exited",
            "exit":{"status":{"code":3},"cause":"error","started_at_ms":0,"ended_at_ms":1,"duration_ms":1200},
            "subject":{"workload":"00ff1234abcd","namespace":"default","name":"job","run":"00ff1234abcd-1","phase":"ended",
            "generation":1,"runs":1}}"#;
        let event: EventView = serde_json::from_str(json).expect("an event");
        let line = line(Style::Plain, &event);
        assert!(line.ends_with("run.exited            job (00ff1234abcd-1)  exit 3 after 1s"), "{line}");
    }
}
