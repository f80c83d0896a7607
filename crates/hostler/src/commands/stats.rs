//! What workloads use: CPU from the difference of two measurements, the rest as it stands.

use std::collections::{HashMap, HashSet};
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use hostler_api::types::{Sample, Stats};
use hostler_api::usage::StatsListQuery;
use hostler_model::ProblemKind;
use hostler_model::units::format_size;
use serde::Serialize;

use super::{Context, patiently};
use crate::cli::StatsArguments;
use crate::failure::Failure;
use crate::output::{self, Cell, Tone, say, say_json_line};
use crate::terminal;

/// Between two tables.
const STEP: Duration = Duration::from_secs(1);
/// Between the two measurements of `--no-stream`.
const ONCE_STEP: Duration = Duration::from_millis(250);

#[derive(Serialize)]
struct Row {
    id: String,
    name: String,
    /// Of one core; absent with the first measurement.
    cpu_percent: Option<f64>,
    #[serde(flatten)]
    stats: Stats,
}

pub(super) async fn stats(context: &Context, arguments: &StatsArguments) -> Result<u8, Failure> {
    if arguments.history {
        return history(context, &arguments.references).await;
    }
    let mut before = HashMap::new();
    let mut rows = measure(context, arguments, &mut before).await?;
    let live = std::io::stdout().is_terminal() && !context.json();
    let mut drawn = 0;
    loop {
        tokio::time::sleep(if arguments.no_stream || drawn == 0 { ONCE_STEP } else { STEP }).await;
        if !rows.is_empty() {
            rows = measure(context, arguments, &mut before).await?;
        }
        if live && drawn > 0 {
            // Back to where the last table began.
            write!(io::stdout(), "\x1b[{drawn}A\x1b[J")?;
        }
        drawn = print(context, &rows)?;
        io::stdout().flush()?;
        if arguments.no_stream || (rows.is_empty() && !live) {
            return Ok(0);
        }
        if rows.is_empty() {
            return say("nothing runs").map(|()| 0);
        }
    }
}

async fn measure(
    context: &Context,
    arguments: &StatsArguments,
    before: &mut HashMap<String, Stats>,
) -> Result<Vec<Row>, Failure> {
    let known: HashSet<String> = before.keys().cloned().collect();
    let mut rows = Vec::new();
    let mut row = |id: String, name: String, stats: Stats| {
        let cpu_percent = before.insert(id.clone(), stats.clone()).and_then(|before| cpu_percent(&before, &stats));
        rows.push(Row { id, name, cpu_percent, stats });
    };
    if arguments.references.is_empty() {
        let query = StatsListQuery::default();
        for found in patiently(async || context.client.stats_of_all(&query).await).await?.workloads {
            row(found.id.to_string(), found.name.to_string(), found.stats);
        }
        return Ok(rows);
    }
    for reference in &arguments.references {
        let view = patiently(async || context.client.inspect(reference).await).await?;
        let id = view.workload.id.to_string();
        match patiently(async || context.client.stats(&id).await).await {
            Ok(stats) => row(id, view.workload.name.to_string(), stats),
            // It ended between the two questions; one that was not running when named is an error.
            Err(error) if matches!(error.problem_kind(), Some(ProblemKind::Conflict | ProblemKind::NotFound)) => {
                if !known.contains(&id) {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(rows)
}

/// The samples of one workload, one line each.
async fn history(context: &Context, references: &[String]) -> Result<u8, Failure> {
    let [reference] = references else {
        return Err(Failure::usage("--history shows one workload: name it"));
    };
    let stats = patiently(async || context.client.stats_history(reference).await).await?;
    let samples = stats.samples.unwrap_or_default();
    if context.json() {
        for sample in &samples {
            say_json_line(sample)?;
        }
        return Ok(0);
    }
    let mut before: Option<Sample> = None;
    let mut rows = Vec::new();
    for sample in samples {
        let used = sample.used;
        let same_run = before.replace(sample).filter(|before| before.run == sample.run);
        let percent = same_run.and_then(|before| cpu_percent(&at(&before), &at(&sample)));
        let bytes = |bytes: Option<u64>| Cell::plain(bytes.map_or_else(|| "-".to_owned(), format_size));
        rows.push(vec![
            Cell(output::local_time(sample.time_ms), Tone::Faint),
            Cell::plain(sample.run.to_string()),
            Cell::plain(percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}%"))),
            bytes(Some(used.rss_bytes)),
            bytes(Some(used.swap_bytes)),
            bytes(used.read_bytes),
            bytes(used.written_bytes),
            Cell::plain(sample.pids.to_string()),
        ]);
    }
    let header = ["TIME", "RUN", "CPU", "RESIDENT", "SWAP", "READ", "WRITTEN", "PIDS"];
    say(output::table(context.style, None, &header, &rows).trim_end_matches('\n'))?;
    Ok(0)
}

/// What of a sample tells the share of a core.
fn at(sample: &Sample) -> Stats {
    Stats { time_ms: sample.time_ms, cpu_us: sample.used.cpu_us, ..Stats::default() }
}

fn cpu_percent(before: &Stats, now: &Stats) -> Option<f64> {
    let wall_us = now.time_ms.checked_sub(before.time_ms)?.checked_mul(1_000).filter(|us| *us > 0)?;
    let cpu_us = now.cpu_us.checked_sub(before.cpu_us)?;
    Some(cpu_us as f64 * 100.0 / wall_us as f64)
}

/// How many lines were printed.
fn print(context: &Context, rows: &[Row]) -> Result<usize, Failure> {
    if context.json() {
        for row in rows {
            say_json_line(row)?;
        }
        return Ok(rows.len());
    }
    // Columns that nobody fills are not shown.
    let networked = rows.iter().any(|row| network(&row.stats).is_some());
    let cells: Vec<Vec<Cell>> = rows
        .iter()
        .map(|row| {
            let mut line = cells(row);
            if networked {
                let (received, sent) = network(&row.stats).unzip();
                let bytes = |bytes: Option<u64>| Cell::plain(bytes.map_or_else(|| "-".to_owned(), format_size));
                line.extend([bytes(received), bytes(sent)]);
            }
            line
        })
        .collect();
    let width = terminal::size().filter(|_| io::stdout().is_terminal()).map(|size| usize::from(size.columns));
    let mut header = vec!["ID", "NAME", "CPU", "MEMORY", "SWAP", "PIDS", "READ", "WRITTEN"];
    if networked {
        header.extend(["RECEIVED", "SENT"]);
    }
    let table = output::table(context.style, width, &header, &cells);
    say(table.trim_end_matches('\n'))?;
    Ok(rows.len() + 1)
}

/// Bytes received and sent in its own network, the interface to itself aside.
fn network(stats: &Stats) -> Option<(u64, u64)> {
    let interfaces = &stats.accounting.as_ref()?.network;
    let outside = interfaces.iter().filter(|interface| interface.name != "lo");
    (!interfaces.is_empty()).then(|| {
        outside.fold((0, 0), |(received, sent): (u64, u64), interface| {
            (received.saturating_add(interface.received_bytes), sent.saturating_add(interface.sent_bytes))
        })
    })
}

fn cells(row: &Row) -> Vec<Cell> {
    let stats = &row.stats;
    let memory = match stats.memory_limit_bytes {
        Some(limit) => format!("{} of {}", format_size(stats.memory_bytes), format_size(limit)),
        None => format_size(stats.memory_bytes),
    };
    let pids = stats.pids_limit.map_or_else(|| stats.pids.to_string(), |limit| format!("{} of {limit}", stats.pids));
    let bytes = |bytes: Option<u64>| Cell::plain(bytes.map_or_else(|| "-".to_owned(), format_size));
    vec![
        Cell(row.id.clone(), Tone::Faint),
        Cell::plain(row.name.clone()),
        Cell::plain(row.cpu_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}%"))),
        Cell::plain(memory),
        bytes(Some(stats.swap_bytes)),
        Cell::plain(pids),
        bytes(stats.read_bytes),
        bytes(stats.written_bytes),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_a_share_of_one_core() {
        let at = |time_ms, cpu_us| Stats { time_ms, cpu_us, ..Stats::default() };
        assert_eq!(cpu_percent(&at(0, 0), &at(1_000, 500_000)), Some(50.0));
        assert_eq!(cpu_percent(&at(0, 0), &at(500, 1_000_000)), Some(200.0));
        // A new run begins at nothing, and a clock may be set back.
        assert_eq!(cpu_percent(&at(0, 9), &at(1_000, 0)), None);
        assert_eq!(cpu_percent(&at(5, 0), &at(5, 1)), None);
    }
}
