//! Pools: ls.

use hostler_api::networks::{NetworkPool, PoolList};
use hostler_model::units::format_duration;

use super::{Context, width};
use crate::cli::PoolCommand;
use crate::failure::Failure;
use crate::output::{self, Cell, Tone, say, say_json};

pub(super) async fn pool(context: &Context, command: &PoolCommand) -> Result<u8, Failure> {
    match command {
        PoolCommand::Ls => list(context).await,
    }
}

async fn list(context: &Context) -> Result<u8, Failure> {
    let pools = context.client.pools().await?;
    if context.json() {
        say_json(&pools)?;
        return Ok(0);
    }
    let header = ["POOL", "IDLE", "OCCUPIED", "MAKING", "LEAVING", "WAITING", "MAX"];
    say(output::table(context.style, width(), &header, &rows(&pools)).trim_end_matches('\n'))?;
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
    std::iter::once(agents).chain(pools.networks.iter().map(network)).collect()
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
