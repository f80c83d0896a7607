//! Networks: create, ls, inspect, rm.

use std::io::IsTerminal as _;
use std::path::Path;

use hostler_model::limits;
use hostler_model::network::{NetworkSpec, NetworkView, NewNetwork};

use super::lifecycle::keep_last;
use super::{Context, width};
use crate::cli::{NetworkCommand, NetworkCreate, NetworkNames};
use crate::failure::Failure;
use crate::output::{self, Cell, Tone, own_name, say, say_json};
use crate::terminal::with_spinner;

pub(super) async fn network(context: &Context, command: NetworkCommand) -> Result<u8, Failure> {
    match command {
        NetworkCommand::Create(create) => self::create(context, create).await,
        NetworkCommand::Ls => list(context).await,
        NetworkCommand::Inspect(names) => inspect(context, &names).await,
        NetworkCommand::Rm(names) => remove(context, &names).await,
    }
}

async fn create(context: &Context, create: NetworkCreate) -> Result<u8, Failure> {
    let NetworkCreate { subnet, gateway, ipv6, subnet6, internal, mtu, dns, cni, name } = create;
    let cni = cni.as_deref().map(read_list).transpose()?;
    let new = NewNetwork { name, spec: NetworkSpec { subnet, gateway, ipv6, subnet6, internal, mtu, dns, cni } };
    new.check().map_err(|problem| Failure::usage(problem.detail))?;
    let making = context.client.create_network(&new);
    let view = with_spinner(format!("making network {}", new.name), making).await?;
    if context.json() {
        say_json(&view)?
    } else {
        say(view.network.name.as_str())?
    }
    Ok(0)
}

/// The node may run elsewhere in the file system, and later: what the file says is sent.
fn read_list(path: &Path) -> Result<String, Failure> {
    use std::io::Read as _;
    let bad = |what: String| Failure::usage(format!("{}: {what}", path.display()));
    let mut text = String::new();
    let most = limits::CNI_LIST_MAX as u64 + 1;
    let read = std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text));
    read.map_err(|error| bad(error.to_string()))?;
    if text.len() as u64 == most {
        return Err(bad(format!("has more than {} bytes", limits::CNI_LIST_MAX)));
    }
    Ok(text)
}

async fn inspect(context: &Context, names: &NetworkNames) -> Result<u8, Failure> {
    let mut views = Vec::new();
    let mut last = None;
    for name in &names.names {
        match context.client.network(name.as_str()).await {
            Ok(view) => views.push(view),
            Err(error) => keep_last(context, &mut last, error.into()),
        }
    }
    say_json(&views)?;
    last.map_or(Ok(0), Err)
}

async fn remove(context: &Context, names: &NetworkNames) -> Result<u8, Failure> {
    let mut views = Vec::new();
    let mut last = None;
    for name in &names.names {
        match context.client.remove_network(name.as_str()).await {
            Ok(view) if context.json() => views.push(view),
            Ok(view) => say(view.network.name.as_str())?,
            Err(error) => keep_last(context, &mut last, error.into()),
        }
    }
    if context.json() {
        say_json(&views)?;
    }
    last.map_or(Ok(0), Err)
}

async fn list(context: &Context) -> Result<u8, Failure> {
    let networks = context.client.networks().await?.networks;
    if context.json() {
        say_json(&networks)?;
        return Ok(0);
    }
    if networks.is_empty() && std::io::stdout().is_terminal() {
        say(format!("there are no networks yet; make one with: {} network create NAME", own_name()))?;
        return Ok(0);
    }
    let several = networks.iter().any(|view| view.network.namespace != networks[0].network.namespace);
    let mut header = vec!["NAME", "SUBNETS", "KIND", "RUNS", "IDLE"];
    if several {
        header.insert(0, "NAMESPACE");
    }
    let rows: Vec<_> = networks.iter().map(|view| row(view, several)).collect();
    say(output::table(context.style, width(), &header, &rows).trim_end_matches('\n'))?;
    for view in &networks {
        if let Some(problem) = &view.problem {
            say(context.style.paint(Tone::Bad, &format!("{}: {problem}", view.network.name)))?;
        }
    }
    Ok(0)
}

fn row(view: &NetworkView, several: bool) -> Vec<Cell> {
    let network = &view.network;
    let bridge = network.bridge.as_ref();
    let subnets = bridge.map(|bridge| {
        let six = bridge.subnet6.map(|subnet6| format!(", {subnet6}")).unwrap_or_default();
        format!("{}{six}", bridge.subnet)
    });
    let kind = match (bridge.is_some(), network.spec.internal) {
        (true, true) => "bridge, internal",
        (true, false) => "bridge",
        (false, _) => "cni",
    };
    let tone = if view.problem.is_some() { Tone::Bad } else { Tone::Normal };
    let mut row = vec![
        Cell(network.name.to_string(), tone),
        Cell::plain(subnets.unwrap_or_else(|| "-".to_owned())),
        Cell::plain(kind),
        Cell::plain(view.runs.len().to_string()),
        Cell::plain(view.pool.idle.to_string()),
    ];
    if several {
        row.insert(0, Cell::plain(network.namespace.to_string()));
    }
    row
}
