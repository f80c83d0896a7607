//! Queues: ls, show, set, pause, resume, drain, rm.

use std::io::IsTerminal as _;
use std::time::Duration;

use hostler_api::types::{QueueQuery, QueueRemoveQuery, QueueView};
use hostler_model::QueueName;
use hostler_model::queue::QueueChange;
use hostler_model::units::format_duration;

use super::{Context, patiently, width};
use crate::cli::QueueCommand;
use crate::failure::Failure;
use crate::output::{self, Cell, Tone, own_name, say, say_json};
use crate::terminal::with_spinner;

/// Between two looks at a queue that is being drained.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn queue(context: &Context, command: QueueCommand) -> Result<u8, Failure> {
    let change = async |queues: &[QueueName], change: QueueChange| {
        each(context, queues, async |queue| {
            Ok(patiently(async || context.client.change_queue(queue.as_str(), &change).await).await?)
        })
        .await
    };
    match command {
        QueueCommand::Ls => list(context).await,
        QueueCommand::Show(show) => {
            let query = QueueQuery { limit: Some(show.limit), ..QueueQuery::default() };
            self::show(context, &context.client.queue(show.queue.as_str(), &query).await?)
        }
        QueueCommand::Set(set) => {
            change(&[set.queue], QueueChange { parallel: Some(set.parallel), ..QueueChange::default() }).await
        }
        QueueCommand::Pause(names) => {
            change(&names.queues, QueueChange { paused: Some(true), ..QueueChange::default() }).await
        }
        QueueCommand::Resume(names) => {
            let resumed = QueueChange { paused: Some(false), draining: Some(false), ..QueueChange::default() };
            change(&names.queues, resumed).await
        }
        QueueCommand::Drain(drain) => {
            let code = change(&drain.queues, QueueChange { draining: Some(true), ..QueueChange::default() }).await?;
            if drain.wait {
                for queue in &drain.queues {
                    with_spinner(format!("draining {queue}"), until_idle(context, queue)).await?;
                }
            }
            Ok(code)
        }
        QueueCommand::Rm(remove) => {
            let query = QueueRemoveQuery { force: remove.force, ..QueueRemoveQuery::default() };
            each(context, &remove.queues, async |queue| Ok(context.client.remove_queue(queue.as_str(), &query).await?))
                .await
        }
    }
}

/// Does something to each; says the names, or with `--json` all answers in one array.
async fn each(
    context: &Context,
    queues: &[QueueName],
    mut act: impl AsyncFnMut(&QueueName) -> Result<QueueView, Failure>,
) -> Result<u8, Failure> {
    let mut views = Vec::new();
    let mut last = None;
    for queue in queues {
        match act(queue).await {
            Ok(view) if context.json() => views.push(view),
            Ok(view) => say(view.queue.name.as_str())?,
            Err(failure) => super::lifecycle::keep_last(context, &mut last, failure),
        }
    }
    if context.json() {
        say_json(&views)?;
    }
    last.map_or(Ok(0), Err)
}

async fn until_idle(context: &Context, queue: &QueueName) -> Result<(), Failure> {
    loop {
        let query = QueueQuery { limit: Some(0), ..QueueQuery::default() };
        let view = patiently(async || context.client.queue(queue.as_str(), &query).await).await?;
        if view.waiting == 0 && view.running == 0 {
            return Ok(());
        }
        if view.queue.paused && view.running == 0 {
            let hint = format!("let it run with: {} queue resume {queue}", own_name());
            let failure = Failure::new(format!("queue {queue} is paused, and {} jobs wait in it", view.waiting));
            return Err(failure.with_hint(hint));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn state(view: &QueueView) -> Cell {
    match (view.queue.paused, view.queue.draining) {
        (true, true) => Cell("paused, draining".to_owned(), Tone::Warning),
        (true, false) => Cell("paused".to_owned(), Tone::Warning),
        (false, true) => Cell("draining".to_owned(), Tone::Warning),
        (false, false) => Cell("open".to_owned(), Tone::Good),
    }
}

async fn list(context: &Context) -> Result<u8, Failure> {
    let queues = context.client.queues().await?.queues;
    if context.json() {
        say_json(&queues)?;
        return Ok(0);
    }
    if queues.is_empty() && std::io::stdout().is_terminal() {
        say(format!("there are no queues yet; the first job makes one: {} run -d --queue NAME -- …", own_name()))?;
        return Ok(0);
    }
    let several = queues.iter().any(|view| view.queue.namespace != queues[0].queue.namespace);
    let rows: Vec<Vec<Cell>> = queues
        .iter()
        .map(|view| {
            let mut row = vec![
                Cell::plain(view.queue.name.to_string()),
                state(view),
                Cell::plain(view.waiting.to_string()),
                Cell::plain(view.running.to_string()),
                Cell::plain(view.queue.parallel.to_string()),
            ];
            if several {
                row.insert(0, Cell::plain(view.queue.namespace.to_string()));
            }
            row
        })
        .collect();
    let header: &[&str] = if several {
        &["NAMESPACE", "QUEUE", "STATE", "WAITING", "RUNNING", "PARALLEL"]
    } else {
        &["QUEUE", "STATE", "WAITING", "RUNNING", "PARALLEL"]
    };
    say(output::table(context.style, width(), header, &rows).trim_end_matches('\n'))?;
    Ok(0)
}

fn show(context: &Context, view: &QueueView) -> Result<u8, Failure> {
    if context.json() {
        say_json(view)?;
        return Ok(0);
    }
    let Cell(state, tone) = state(view);
    say(format!(
        "{}: {}, {} waiting, {} under way of {} at one time",
        view.queue.name,
        context.style.paint(tone, &state),
        view.waiting,
        view.running,
        view.queue.parallel
    ))?;
    if view.jobs.is_empty() {
        return Ok(0);
    }
    let rows: Vec<Vec<Cell>> = view
        .jobs
        .iter()
        .map(|job| {
            vec![
                Cell::plain(job.position.to_string()),
                Cell(job.id.to_string(), Tone::Faint),
                Cell::plain(job.name.to_string()),
                Cell::plain(job.priority.to_string()),
                Cell::plain(format_duration(job.waited_ms)),
                Cell::plain(output::command_line(&job.command)),
            ]
        })
        .collect();
    let header = ["#", "ID", "NAME", "PRIORITY", "WAITED", "COMMAND"];
    say(output::table(context.style, width(), &header, &rows).trim_end_matches('\n'))?;
    let left = view.waiting.saturating_sub(view.jobs.len() as u64);
    if left > 0 {
        say(format!("… and {left} more"))?;
    }
    Ok(0)
}
