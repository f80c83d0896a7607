//! Workloads that run by themselves: when, and what became of it.

use hostler_api::types::{ListQuery, WorkloadView};
use hostler_model::schedule::ScheduleState;
use hostler_model::units::format_duration;
use std::io::IsTerminal as _;

use super::Context;
use super::lifecycle::each;
use crate::cli::ScheduleCommand;
use crate::failure::Failure;
use crate::output::{self, Cell, Tone, own_name, say, say_json};
use crate::terminal;

pub(super) async fn schedule(context: &Context, command: &ScheduleCommand) -> Result<u8, Failure> {
    let client = &context.client;
    match command {
        ScheduleCommand::Ls => list(context).await,
        ScheduleCommand::Pause(asked) => {
            each(context, &asked.references, async |reference| Ok(client.pause_schedule(reference).await?)).await
        }
        ScheduleCommand::Resume(asked) => {
            each(context, &asked.references, async |reference| Ok(client.resume_schedule(reference).await?)).await
        }
        ScheduleCommand::Fire(asked) => {
            each(context, &asked.references, async |reference| Ok(client.fire_schedule(reference).await?)).await
        }
    }
}

async fn list(context: &Context) -> Result<u8, Failure> {
    let query = ListQuery { all: true, ..ListQuery::default() };
    let mut workloads = context.client.list(&query).await?.workloads;
    workloads.retain(|view| view.workload.schedule.is_some());
    // What comes next is at the top, what stands still at the end.
    workloads.sort_by_key(|view| (next(view).is_none(), next(view), view.workload.name.clone()));
    if context.json() {
        say_json(&workloads)?;
    } else if workloads.is_empty() && std::io::stdout().is_terminal() {
        let hostler = own_name();
        say(format!("nothing has a schedule; give one with: {hostler} run --every 30s -- COMMAND"))?;
    } else {
        let width = terminal::size().filter(|_| std::io::stdout().is_terminal()).map(|size| usize::from(size.columns));
        let rows: Vec<_> = workloads.iter().map(|view| row(view, output::now_ms(), output::boot_now_ms())).collect();
        let header = ["NAME", "SCHEDULE", "NEXT", "NEXT (UTC)", "LAST", "MISSED", "SKIPPED"];
        say(output::table(context.style, width, &header, &rows).trim_end_matches('\n'))?;
    }
    Ok(0)
}

fn next(view: &WorkloadView) -> Option<u64> {
    view.workload.schedule.as_ref().and_then(|state| state.next_fire_ms)
}

fn row(view: &WorkloadView, now_ms: u64, boot_ms: u64) -> Vec<Cell> {
    let workload = &view.workload;
    let none = ScheduleState::default();
    let state = workload.schedule.as_deref().unwrap_or(&none);
    let words = workload.spec.schedule.as_ref().map(|schedule| schedule.words()).unwrap_or_default();
    let (local, utc) = match state.next_fire_ms {
        Some(at_ms) => {
            // An interval is on the boot clock, whatever the wall clock was set to meanwhile.
            let wait_ms = match state.next_fire_boot_ms {
                Some(at_boot_ms) => at_boot_ms.saturating_sub(boot_ms),
                None => at_ms.saturating_sub(now_ms),
            };
            let at_ms = if state.next_fire_boot_ms.is_some() { now_ms + wait_ms } else { at_ms };
            let local = format!("{}, in {}", output::local_date(at_ms), format_duration(wait_ms));
            (Cell::plain(local), Cell(output::utc_date(at_ms), Tone::Faint))
        }
        None if state.paused => (Cell("paused".to_owned(), Tone::Warning), Cell::plain("-")),
        None => (Cell("after the end".to_owned(), Tone::Faint), Cell::plain("-")),
    };
    let last = match workload.runs {
        0 => Cell("never ran".to_owned(), Tone::Faint),
        _ => output::last(view, now_ms, boot_ms),
    };
    let count = |count: u64| Cell(count.to_string(), if count > 0 { Tone::Warning } else { Tone::Faint });
    vec![
        Cell::plain(workload.name.to_string()),
        Cell::plain(words),
        local,
        utc,
        last,
        count(state.missed),
        count(state.skipped),
    ]
}
