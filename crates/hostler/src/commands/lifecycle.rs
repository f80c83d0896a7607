//! Workloads told what to do, one or several at a time: wait, stop, start, restart, kill, rm, update.
//!
//! A reference that fails does not keep the others from being served; the exit code is then 1.

use hostler_api::checkpoints::StartRequest;
use hostler_api::client::ClientError;
use hostler_api::types::{
    BulkAction, BulkReport, BulkRequest, KillRequest, RemoveQuery, StopRequest, UpdateRequest, WaitFor, WaitQuery,
    WorkloadView,
};
use hostler_model::ProblemKind;
use hostler_model::units::Signal;
use hostler_model::workload::{Phase, RunState};
use tokio::time::Instant;

use super::{Context, joined, patiently};
use crate::cli::{Kill, Remove, Restart, Start, Stop, Update, Wait};
use crate::failure::{Failure, TIME_ELAPSED};
use crate::output::{remark, say, say_json};
use crate::parse::absolute;
use crate::terminal::with_spinner;

/// Reports the failure before this one and keeps this one for the end.
pub(super) fn keep_last(context: &Context, last: &mut Option<Failure>, failure: Failure) {
    if let Some(before) = last.replace(failure) {
        before.report(context.form);
    }
}

/// Does something to each; says the names, or with `--json` all answers in one array.
pub(super) async fn each(
    context: &Context,
    references: &[String],
    mut act: impl AsyncFnMut(&str) -> Result<WorkloadView, Failure>,
) -> Result<u8, Failure> {
    let mut views = Vec::new();
    let mut last = None;
    for reference in references {
        match act(reference).await {
            Ok(view) if context.json() => views.push(view),
            Ok(view) => say(view.workload.name.as_str())?,
            Err(failure) => keep_last(context, &mut last, failure),
        }
    }
    if context.json() {
        say_json(&views)?;
    }
    last.map_or(Ok(0), Err)
}

/// Waits until no run is live and none will come; the last state known if it is removed meanwhile.
async fn until_rest(context: &Context, view: WorkloadView) -> Result<WorkloadView, Failure> {
    let id = view.workload.id.to_string();
    let query = WaitQuery { until: Some(WaitFor::Ended), ..WaitQuery::default() };
    match patiently(async || context.client.wait(&id, &query).await).await {
        Err(error) if error.problem_kind() == Some(ProblemKind::NotFound) => Ok(view),
        answer => Ok(answer?),
    }
}

/// Waits for the start, and says why when there is none.
pub(super) async fn until_started(context: &Context, view: WorkloadView) -> Result<WorkloadView, Failure> {
    let id = view.workload.id.to_string();
    let query = WaitQuery { until: Some(WaitFor::Started), ..WaitQuery::default() };
    let view = match patiently(async || context.client.wait(&id, &query).await).await {
        Err(error) if error.problem_kind() == Some(ProblemKind::NotFound) => view,
        answer => answer?,
    };
    match view.workload.run.as_ref().map(|run| &run.state) {
        // What a scheduled workload waits for is its next run, not its last.
        Some(RunState::Failed { failure }) if view.phase != Phase::Scheduled => {
            Err(Failure::new(format!("{} was not started: {}", view.workload.name, failure.message)))
        }
        _ => Ok(view),
    }
}

pub(super) async fn wait(context: &Context, wait: &Wait) -> Result<u8, Failure> {
    let mut views = Vec::new();
    let mut code = 0;
    let mut last = None;
    for reference in &wait.references {
        let begin = Instant::now();
        let ask = patiently(async || {
            // After a break of the connection only the rest of the time is left.
            let waited_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
            let timeout_ms = wait.timeout.map(|timeout| timeout.saturating_sub(waited_ms).max(1));
            context.client.wait(reference, &WaitQuery { timeout_ms, ..WaitQuery::default() }).await
        });
        match with_spinner(format!("waiting for {reference}"), ask).await {
            Ok(view) => {
                code = view.exit_code.unwrap_or(0);
                if context.json() {
                    views.push(view);
                } else {
                    say(code.to_string())?;
                }
            }
            Err(error) => {
                let elapsed = wait.timeout.is_some() && error.problem_kind() == Some(ProblemKind::Timeout);
                let failure = Failure::from(error);
                keep_last(context, &mut last, if elapsed { failure.with_code(TIME_ELAPSED) } else { failure });
            }
        }
    }
    if context.json() {
        say_json(&views)?;
    }
    last.map_or(Ok(code), Err)
}

pub(super) async fn stop(context: &Context, stop: &Stop) -> Result<u8, Failure> {
    if stop.all {
        let report = bulk(context, BulkAction::Stop, None, &stop.filter).await?;
        for id in &report.done {
            let query = WaitQuery { until: Some(WaitFor::Ended), ..WaitQuery::default() };
            match patiently(async || context.client.wait(&id.to_string(), &query).await).await {
                Err(error) if error.problem_kind() != Some(ProblemKind::NotFound) => return Err(error.into()),
                _ => {}
            }
        }
        return say_bulk(context, &report);
    }
    let request = StopRequest { signal: stop.signal, grace_ms: stop.timeout };
    // All are asked first, so that their graces run side by side.
    let mut stopping = Vec::new();
    for reference in &stop.references {
        // Stopping twice is stopping: a daemon that dies under the question may be asked again.
        stopping.push(patiently(async || context.client.stop(reference, &request).await).await);
    }
    let mut stopping = stopping.into_iter();
    each(context, &stop.references, async |reference| {
        let view = stopping.next().unwrap_or_else(|| Err(ClientError::Protocol("no answer".to_owned())))?;
        with_spinner(format!("stopping {reference}"), until_rest(context, view)).await
    })
    .await
}

async fn bulk(
    context: &Context,
    action: BulkAction,
    signal: Option<Signal>,
    filter: &[String],
) -> Result<BulkReport, Failure> {
    let request = BulkRequest { action, signal, force: false, filter: joined(filter) };
    Ok(with_spinner("asking the node", context.client.bulk(&request)).await?)
}

fn say_bulk(context: &Context, report: &BulkReport) -> Result<u8, Failure> {
    if context.json() {
        say_json(report)?;
        return Ok(0);
    }
    for id in &report.done {
        say(id.to_string())?;
    }
    if !report.protected.is_empty() {
        let ids: Vec<_> = report.protected.iter().map(ToString::to_string).collect();
        remark(format!("protected, and left as they are: {}", ids.join(" ")));
    }
    Ok(0)
}

pub(super) async fn start(context: &Context, start: &Start) -> Result<u8, Failure> {
    each(context, &start.references, async |reference| {
        let view = match &start.checkpoint {
            None => context.client.start(reference).await?,
            Some(checkpoint) => {
                let directory = start.checkpoint_dir.as_deref().map(absolute).transpose()?;
                let request = StartRequest { checkpoint: Some(checkpoint.clone()), directory };
                context.client.start_from(reference, &request).await?
            }
        };
        with_spinner(format!("starting {reference}"), until_started(context, view)).await
    })
    .await
}

pub(super) async fn restart(context: &Context, restart: &Restart) -> Result<u8, Failure> {
    let request = StopRequest { signal: None, grace_ms: restart.timeout };
    each(context, &restart.references, async |reference| {
        with_spinner(format!("restarting {reference}"), async {
            let before = patiently(async || context.client.inspect(reference).await).await?;
            let id = before.workload.id.to_string();
            let mut asked = false;
            let view = patiently(async || {
                // The answer may have been lost, not the question: a new run is not to be restarted again.
                if std::mem::replace(&mut asked, true) {
                    let now = context.client.inspect(&id).await?;
                    if now.workload.runs > before.workload.runs {
                        return Ok(now);
                    }
                }
                context.client.restart(&id, &request).await
            })
            .await?;
            until_next_run(context, &before, view).await
        })
        .await
    })
    .await
}

/// The answer may come while the old run still stops: its end is not the new run's.
async fn until_next_run(context: &Context, before: &WorkloadView, view: WorkloadView) -> Result<WorkloadView, Failure> {
    /// A stop ends in a kill; this is its longest grace in practice, and then some.
    const POLL: std::time::Duration = std::time::Duration::from_millis(20);
    let old = before.workload.runs;
    let mut view = view;
    while view.workload.runs <= old && matches!(view.phase, Phase::Running | Phase::Stopping | Phase::Pending) {
        tokio::time::sleep(POLL).await;
        let id = view.workload.id.to_string();
        view = patiently(async || context.client.inspect(&id).await).await?;
    }
    until_started(context, view).await
}

pub(super) async fn kill(context: &Context, kill: &Kill) -> Result<u8, Failure> {
    if kill.all {
        let report = bulk(context, BulkAction::Kill, Some(kill.signal), &kill.filter).await?;
        return say_bulk(context, &report);
    }
    let request = KillRequest { signal: kill.signal, exec: kill.exec, pid: kill.pid };
    each(context, &kill.references, async |reference| Ok(context.client.kill(reference, &request).await?)).await
}

pub(super) async fn remove(context: &Context, remove: &Remove) -> Result<u8, Failure> {
    if remove.all {
        let request = BulkRequest {
            action: BulkAction::Remove,
            signal: None,
            force: remove.force,
            filter: joined(&remove.filter),
        };
        let report = with_spinner("asking the node", context.client.bulk(&request)).await?;
        return say_bulk(context, &report);
    }
    let query = RemoveQuery { force: remove.force, ..RemoveQuery::default() };
    each(context, &remove.references, async |reference| {
        let answer = with_spinner(format!("removing {reference}"), context.client.remove(reference, &query)).await;
        answer.map_err(|error| {
            let live = !remove.force && error.problem_kind() == Some(ProblemKind::Conflict);
            let failure = Failure::from(error);
            if live { failure.with_hint("stop it first, or use rm -f") } else { failure }
        })
    })
    .await
}

pub(super) async fn update(context: &Context, update: &Update) -> Result<u8, Failure> {
    let request = UpdateRequest { limits: update.limits.limits().map_err(Failure::usage)? };
    each(context, &update.references, async |reference| Ok(context.client.update(reference, &request).await?)).await
}
