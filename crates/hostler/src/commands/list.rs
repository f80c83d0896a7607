//! Workloads as a table or as JSON: ps, inspect.

use std::io::IsTerminal as _;

use hostler_api::types::{ListQuery, WorkloadView};
use hostler_model::network::text::published;
use hostler_model::process::Processes;
use serde::Serialize;

use super::{Context, joined, width};
use crate::cli::{Inspect, Ps};
use crate::failure::Failure;
use crate::output::{self, Cell, Tone, own_name, say, say_json};

pub(super) async fn ps(context: &Context, ps: &Ps) -> Result<u8, Failure> {
    let query = ListQuery { all: ps.all, filter: joined(&ps.filter), ..ListQuery::default() };
    let workloads = context.client.list(&query).await?.workloads;
    if context.json() {
        say_json(&workloads)?;
    } else if ps.quiet {
        for view in &workloads {
            say(view.workload.id.to_string())?;
        }
    } else if workloads.is_empty() && std::io::stdout().is_terminal() {
        say(nothing(ps))?;
    } else {
        say(table(context, width(), &workloads).trim_end_matches('\n'))?;
    }
    Ok(0)
}

fn nothing(ps: &Ps) -> String {
    let hostler = own_name();
    match (ps.filter.is_empty(), ps.all) {
        (false, _) => "nothing matches the filter".to_owned(),
        (true, true) => format!("there are no workloads yet; run one with: {hostler} run -- echo hello"),
        (true, false) => format!(
            "nothing runs; run something with: {hostler} run -d -- sleep 60\n`{hostler} ps -a` lists what has ended"
        ),
    }
}

fn table(context: &Context, width: Option<usize>, workloads: &[WorkloadView]) -> String {
    let (now_ms, boot_ms) = (output::now_ms(), output::boot_now_ms());
    let mut namespaces = workloads.iter().map(|view| &view.workload.namespace);
    let first = namespaces.next();
    let several = namespaces.any(|namespace| Some(namespace) != first);
    let any_ports = workloads.iter().any(|view| !ports(view).is_empty());
    let rows: Vec<Vec<Cell>> = workloads
        .iter()
        .map(|view| {
            let workload = &view.workload;
            let mut row = vec![
                Cell(workload.id.to_string(), Tone::Faint),
                Cell::plain(workload.name.to_string()),
                output::state(view, now_ms, boot_ms),
                Cell::plain(workload.runs.saturating_sub(1).to_string()),
                Cell::plain(output::command_line(&workload.spec.command)),
            ];
            if any_ports {
                row.insert(4, Cell::plain(ports(view)));
            }
            if several {
                row.insert(1, Cell::plain(workload.namespace.to_string()));
            }
            row
        })
        .collect();
    let mut header = vec!["ID", "NAME", "STATE", "RESTARTS", "COMMAND"];
    if any_ports {
        header.insert(4, "PORTS");
    }
    if several {
        header.insert(1, "NAMESPACE");
    }
    output::table(context.style, width, &header, &rows)
}

/// The published ports of a live run.
fn ports(view: &WorkloadView) -> String {
    let attachment = view.workload.live_run().and_then(|_| view.workload.spec.attachment());
    let ports = attachment.into_iter().flat_map(|attachment| &attachment.publish);
    ports.map(published).collect::<Vec<_>>().join(", ")
}

/// A workload, with what is looked up for it alone.
#[derive(Serialize)]
struct Inspected {
    #[serde(flatten)]
    view: WorkloadView,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    processes: Option<Processes>,
}

pub(super) async fn inspect(context: &Context, inspect: &Inspect) -> Result<u8, Failure> {
    let mut views = Vec::new();
    let mut failure = None;
    for reference in &inspect.references {
        match context.client.inspect(reference).await {
            Ok(view) => {
                let runs = view.workload.live_run().is_some_and(|run| run.started_at_ms.is_some());
                // It may end between the two questions, and an agent of an older build has no list.
                let processes = if runs { context.client.processes(reference).await.ok() } else { None };
                views.push(Inspected { view, processes });
            }
            Err(error) => super::lifecycle::keep_last(context, &mut failure, error.into()),
        }
    }
    say_json(&views)?;
    failure.map_or(Ok(0), Err)
}
