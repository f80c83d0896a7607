//! Pools: ls, fill, drain, resize.

use hostler_api::networks::{NetworkPool, PoolList};
use hostler_api::pools::{MachinePoolView, PoolChange};
use hostler_model::units::format_duration;

use super::{Context, width};
use crate::cli::PoolCommand;
use crate::failure::Failure;
use crate::output::{self, Cell, Tone, say, say_json};

pub(super) async fn pool(context: &Context, command: &PoolCommand) -> Result<u8, Failure> {
    match command {
        PoolCommand::Ls => list(context).await,
        PoolCommand::Fill(pool) => change(context, &pool.name, PoolChange::Fill).await,
        PoolCommand::Drain(pool) => change(context, &pool.name, PoolChange::Drain).await,
        PoolCommand::Resize(pool) => {
            let change_to = PoolChange::Resize { idle: pool.idle, max: pool.max };
            change(context, &pool.name, change_to).await
        }
    }
}

async fn change(context: &Context, name: &str, change: PoolChange) -> Result<u8, Failure> {
    let pool = context.client.change_pool(name, change).await?;
    if context.json() {
        say_json(&pool)?;
    } else {
        let drained = if pool.drained { ", drained" } else { "" };
        say(format!(
            "{name}: {} of {} wait, {} in use, {} at most{drained}",
            pool.idle, pool.target, pool.occupied, pool.max
        ))?;
    }
    Ok(0)
}

async fn list(context: &Context) -> Result<u8, Failure> {
    let pools = context.client.pools().await?;
    if context.json() {
        say_json(&pools)?;
        return Ok(0);
    }
    let header = ["POOL", "IDLE", "OCCUPIED", "MAKING", "LEAVING", "WAITING", "MAX"];
    say(output::table(context.style, width(), &header, &rows(&pools)).trim_end_matches('\n'))?;
    for pool in &pools.machines {
        if let Some(why) = pool.last_failure.as_ref().filter(|_| pool.failures > 0) {
            say(context
                .style
                .paint(Tone::Bad, &format!("machine {}: {} failures in a row: {why}", pool.name, pool.failures)))?;
        }
    }
    for pool in &pools.networks {
        if let Some(words) = failures(pool) {
            say(context.style.paint(Tone::Bad, &words))?;
        }
    }
    Ok(0)
}

fn rows(pools: &PoolList) -> Vec<Vec<Cell>> {
    let several = pools.networks.iter().any(|pool| pool.namespace != pools.networks[0].namespace);
    let process = &pools.process;
    let agents = vec![
        Cell::plain("process"),
        idle(process.idle, process.target),
        Cell::plain(process.occupied.to_string()),
        Cell::plain("-"),
        Cell::plain("-"),
        Cell::plain("-"),
        Cell::plain("-"),
    ];
    let network = |of: &NetworkPool| {
        let pool = &of.pool;
        let name =
            if several { format!("network {}/{}", of.namespace, of.name) } else { format!("network {}", of.name) };
        let mut row = vec![Cell::plain(name), idle(pool.idle, pool.target)];
        let counts = [pool.occupied, pool.making, pool.leaving, pool.waiting, pool.max];
        row.extend(counts.map(|count| Cell::plain(count.to_string())));
        row
    };
    let machine = |pool: &MachinePoolView| {
        let mark = if pool.drained { " (drained)" } else { "" };
        let mut row = vec![Cell::plain(format!("machine {}{mark}", pool.name)), idle(pool.idle, pool.target)];
        let counts = [pool.occupied, pool.making, pool.leaving].map(|count| count.to_string());
        row.extend(counts.into_iter().chain(["-".to_owned(), pool.max.to_string()]).map(Cell::plain));
        row
    };
    let networks = pools.networks.iter().map(network);
    std::iter::once(agents).chain(networks).chain(pools.machines.iter().map(machine)).collect()
}

/// Ready, of those that should be.
fn idle(idle: u32, target: u32) -> Cell {
    let tone = if idle < target { Tone::Warning } else { Tone::Good };
    Cell(format!("{idle}/{target}"), tone)
}

/// That set-ups cannot be made, and when that is tried again.
fn failures(of: &NetworkPool) -> Option<String> {
    let pool = &of.pool;
    if pool.failures == 0 {
        return None;
    }
    let times =
        if pool.failures == 1 { "1 failure".to_owned() } else { format!("{} failures in a row", pool.failures) };
    let again = match pool.retry_in_ms {
        Some(wait_ms) => format!(", tried again in {}", format_duration(wait_ms)),
        None => String::new(),
    };
    let what = pool.last_failure.as_ref().map(|what| format!(": {what}")).unwrap_or_default();
    Some(format!("network {}: {times}{again}{what}", of.name))
}
