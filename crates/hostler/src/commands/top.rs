//! The processes of workloads.

use std::io::IsTerminal as _;

use hostler_model::process::{Process, Role};
use hostler_model::units::{format_duration, format_size};

use super::{Context, patiently};
use crate::cli::Top;
use crate::failure::Failure;
use crate::output::{self, Cell, Tone, remark, say, say_json};
use crate::terminal;

pub(super) async fn top(context: &Context, top: &Top) -> Result<u8, Failure> {
    let list = patiently(async || context.client.processes(&top.reference).await).await?;
    if context.json() {
        return say_json(&list).map(|()| 0);
    }
    let rows: Vec<_> = list.processes.iter().map(row).collect();
    let width = terminal::size().filter(|_| std::io::stdout().is_terminal()).map(|size| usize::from(size.columns));
    let header = ["PID", "INSIDE", "PARENT", "UID", "STATE", "STARTED", "CPU", "RESIDENT", "WHAT", "COMMAND"];
    say(output::table(context.style, width, &header, &rows).trim_end_matches('\n'))?;
    if list.left_out > 0 {
        remark(format!("{} more are not shown", list.left_out));
    }
    Ok(0)
}

fn row(process: &Process) -> Vec<Cell> {
    let what = match process.role {
        Role::Main => Cell::plain("main"),
        Role::Exec(exec) => Cell::plain(format!("exec {exec}")),
        Role::Other => Cell("-".to_owned(), Tone::Faint),
    };
    vec![
        Cell::plain(process.pid.to_string()),
        Cell::plain(process.namespace_pid.to_string()),
        Cell::plain(process.parent_pid.to_string()),
        Cell::plain(process.uid.to_string()),
        Cell::plain(process.state.clone()),
        Cell(output::local_time(process.started_at_ms), Tone::Faint),
        Cell::plain(format_duration(process.cpu_us / 1_000)),
        Cell::plain(format_size(process.rss_bytes)),
        what,
        Cell::plain(output::command_line(&process.command)),
    ]
}
