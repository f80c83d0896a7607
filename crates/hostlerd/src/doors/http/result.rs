//! What became of a workload: from its record, with the last lines of its last run from the log.

use std::collections::BTreeMap;

use axum::extract::{ConnectInfo, Path, State};
use axum::http::StatusCode;
use hostler_api::result::{ResultLine, ResultQuery, ResultStream, WorkloadResult};
use hostler_model::outcome::Outcome;
use hostler_model::workload::{LostReason, Run, RunState, Workload};
use hostler_model::{Exit, Problem, ProblemKind, limits};
use hostler_provision::launch::log_directory;

use super::answer::{Answer, Asked, json};
use super::{Door, Peer};
use crate::logs::{Begin, Last, Position, Wanted, last};

pub(crate) async fn get(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(reference): Path<String>,
    Asked(query): Asked<ResultQuery>,
) -> Answer {
    let workload = door.resolve(peer, query.namespace, &reference)?;
    let lines = query.lines.unwrap_or(limits::RESULT_LINES_DEFAULT);
    if lines > limits::RESULT_LINES_MAX {
        let detail = format!("a result has at most {} lines of each stream; read the log", limits::RESULT_LINES_MAX);
        return Err(Problem::new(ProblemKind::MalformedRequest, detail).into());
    }
    let outcome = workload.outcome().ok_or_else(|| {
        let detail = format!("{} has no result yet: it is {}", workload.name, workload.phase().as_str());
        Problem::new(ProblemKind::Conflict, detail)
    })?;
    let found = match workload.run.as_ref().and_then(|run| wanted(run, lines)) {
        Some(wanted) => {
            let directory = log_directory(&door.node.layout.logs(), &workload);
            let read = tokio::task::spawn_blocking(move || last(&directory, &wanted)).await;
            let internal = |what: String| Problem::new(ProblemKind::Internal, format!("reading the log: {what}"));
            read.map_err(|error| internal(error.to_string()))?.map_err(|error| internal(error.to_string()))?
        }
        None => Last { whole: true, ..Last::default() },
    };
    // A run that was begun while we read writes into the same log, and is seen here before it can; one that waits for its
    // turn may be executed a moment before it is seen.
    let now = door.node.view.get(workload.id);
    let run = |workload: &Workload| workload.run.as_ref().map(|run| run.id);
    if now.is_some_and(|now| now.queued.is_some() || run(&now).is_some_and(|run_now| run(&workload) != Some(run_now))) {
        let detail = format!("{} was started again in this moment", workload.name);
        return Err(Problem::new(ProblemKind::Conflict, detail).into());
    }
    Ok(json(StatusCode::OK, &result(&workload, outcome, found)))
}

/// What to look for in the log; `None` where the run wrote nothing.
fn wanted(run: &Run, lines: u32) -> Option<Wanted> {
    let most = u64::from(lines);
    match &run.state {
        RunState::Ended { exit } => {
            let from = exit.log_from?;
            Some(Wanted {
                stdout: most.min(exit.stdout_lines),
                stderr: most.min(exit.stderr_lines),
                begin: Begin::At(Position { segment: u64::from(from.segment), offset: from.offset }),
            })
        }
        // Nobody was there to say what it wrote, but what was written is there.
        RunState::Lost { .. } => {
            let begin = Begin::Since(run.started_at_ms.unwrap_or(run.created_at_ms));
            Some(Wanted { stdout: most, stderr: most, begin })
        }
        _ => None,
    }
}

fn result(workload: &Workload, outcome: Outcome, found: Last) -> WorkloadResult {
    let run = workload.run.as_ref();
    let exit = run.and_then(|run| match &run.state {
        RunState::Ended { exit } => Some(exit),
        _ => None,
    });
    let is_lost = run.is_some_and(|run| matches!(run.state, RunState::Lost { .. }));
    let stream = |lines: Vec<ResultLine>, count: fn(&Exit) -> u64| {
        let counted = exit.map_or(0, count).saturating_sub(lines.len() as u64);
        ResultStream { left_out: (!is_lost || found.whole).then_some(counted), lines }
    };
    WorkloadResult {
        id: workload.id,
        namespace: workload.namespace.clone(),
        name: workload.name.clone(),
        outcome,
        status: exit.map(|exit| exit.status),
        exit_code: run.and_then(|run| run.state.shell_code()),
        reason: run.and_then(|run| reason(&run.state)),
        run: run.map(|run| run.id),
        runs: workload.runs,
        created_at_ms: workload.created_at_ms,
        started_at_ms: run.and_then(|run| run.started_at_ms),
        ended_at_ms: exit.map(|exit| exit.ended_at_ms),
        duration_ms: exit.map(|exit| exit.duration_ms),
        usage: exit.map(|exit| exit.usage),
        oom_kills: run.map_or(0, |run| run.oom_kills),
        statistics: exit.and_then(|exit| exit.statistics.as_deref().copied()),
        tags: workload.spec.tags.to_vec(),
        labels: BTreeMap::clone(&workload.spec.labels),
        stdout: stream(found.stdout, |exit| exit.stdout_lines),
        stderr: stream(found.stderr, |exit| exit.stderr_lines),
    }
}

fn reason(state: &RunState) -> Option<String> {
    match state {
        RunState::Failed { failure } => Some(failure.message.clone()),
        RunState::Lost { reason } => Some(
            match reason {
                LostReason::Reboot => "the machine was rebooted",
                LostReason::Agent => "its agent died",
                LostReason::RunDirectory => "its run directory is gone",
            }
            .to_owned(),
        ),
        _ => None,
    }
}
