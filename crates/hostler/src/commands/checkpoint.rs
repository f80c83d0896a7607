//! Images of running containers.

use std::io::IsTerminal as _;

use hostler_api::checkpoints::{CheckpointQuery, CheckpointRequest, CheckpointView, RestoreRequest};
use hostler_model::launch::CheckpointOptions;
use hostler_model::units::{format_duration, format_size};

use super::Context;
use super::lifecycle::{keep_last, until_started};
use crate::cli::{CheckpointCommand, CheckpointCreate, CheckpointPlace, CheckpointRestore};
use crate::failure::Failure;
use crate::output::{self, Cell, Tone, own_name, say, say_json};
use crate::parse::absolute;
use crate::terminal::{self, with_spinner};

pub(super) async fn checkpoint(context: &Context, command: &CheckpointCommand) -> Result<u8, Failure> {
    match command {
        CheckpointCommand::Create(create) => self::create(context, create).await,
        CheckpointCommand::Ls(asked) => list(context, &asked.place, asked.reference.clone()).await,
        CheckpointCommand::Inspect(asked) => {
            let query = query(&asked.place)?;
            let mut views = Vec::new();
            for name in &asked.names {
                views.push(context.client.checkpoint(name, &query).await?);
            }
            say_json(&views)?;
            Ok(0)
        }
        CheckpointCommand::Rm(asked) => {
            let query = query(&asked.place)?;
            let mut last = None;
            for name in &asked.names {
                match context.client.remove_checkpoint(name, &query).await {
                    Ok(_) => say(name.as_str())?,
                    Err(error) => keep_last(context, &mut last, Failure::from(error)),
                }
            }
            last.map_or(Ok(0), Err)
        }
        CheckpointCommand::Restore(restore) => self::restore(context, restore).await,
    }
}

fn query(place: &CheckpointPlace) -> Result<CheckpointQuery, Failure> {
    let directory = place.dir.as_deref().map(absolute).transpose()?;
    let directory = directory.map(|path| path.to_string_lossy().into_owned());
    Ok(CheckpointQuery { directory, ..CheckpointQuery::default() })
}

async fn create(context: &Context, create: &CheckpointCreate) -> Result<u8, Failure> {
    let request = CheckpointRequest {
        workload: create.reference.clone(),
        name: create.name.clone(),
        directory: create.place.dir.as_deref().map(absolute).transpose()?,
        options: CheckpointOptions {
            exit: create.exit,
            tcp_established: create.tcp_established,
            ext_unix_sk: create.ext_unix_sk,
            shell_job: create.shell_job,
            empty_ns_net: create.empty_ns.is_some(),
        },
    };
    let making = context.client.create_checkpoint(&request);
    let view = with_spinner(format!("making a checkpoint of {}", create.reference), making).await?;
    if context.json() {
        say_json(&view)?
    } else {
        say(view.name.as_str())?
    }
    Ok(0)
}

async fn list(context: &Context, place: &CheckpointPlace, workload: Option<String>) -> Result<u8, Failure> {
    let query = CheckpointQuery { workload, ..query(place)? };
    let checkpoints = context.client.checkpoints(&query).await?.checkpoints;
    if context.json() {
        say_json(&checkpoints)?;
    } else if checkpoints.is_empty() && std::io::stdout().is_terminal() {
        say(format!("there are no checkpoints; make one with: {} checkpoint create WORKLOAD", own_name()))?;
    } else {
        let width = terminal::size().filter(|_| std::io::stdout().is_terminal()).map(|size| usize::from(size.columns));
        let rows: Vec<_> = checkpoints.iter().map(|view| row(view, output::now_ms())).collect();
        let header = ["NAME", "WORKLOAD", "RUN", "CREATED", "SIZE", "OPTIONS"];
        say(output::table(context.style, width, &header, &rows).trim_end_matches('\n'))?;
    }
    Ok(0)
}

fn row(view: &CheckpointView, now_ms: u64) -> Vec<Cell> {
    let CheckpointOptions { exit, tcp_established, ext_unix_sk, shell_job, empty_ns_net } = view.options;
    let options = [
        (exit, "exit"),
        (tcp_established, "tcp-established"),
        (ext_unix_sk, "ext-unix-sk"),
        (shell_job, "shell-job"),
        (empty_ns_net, "empty-ns=net"),
    ];
    let options: Vec<_> = options.into_iter().filter(|(asked, _)| *asked).map(|(_, word)| word).collect();
    vec![
        Cell::plain(view.name.to_string()),
        Cell::plain(view.workload_name.to_string()),
        Cell(view.run.to_string(), Tone::Faint),
        Cell::plain(format!("{} ago", format_duration(now_ms.saturating_sub(view.created_at_ms)))),
        Cell::plain(format_size(view.size_bytes)),
        Cell(options.join(" "), Tone::Faint),
    ]
}

async fn restore(context: &Context, restore: &CheckpointRestore) -> Result<u8, Failure> {
    let query = query(&restore.place)?;
    let request = RestoreRequest { name: restore.name.clone() };
    let view = context.client.restore_checkpoint(&restore.checkpoint, &query, &request).await?;
    let view = with_spinner("waiting for the start", until_started(context, view)).await?;
    if context.json() {
        say_json(&view)?
    } else {
        say(view.workload.id.to_string())?
    }
    Ok(0)
}
