//! Arguments of the verbs about networks and pools.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use hostler_model::NetworkName;
use hostler_model::network::{Subnet4, Subnet6};

pub(super) const NETWORK_EXAMPLES: &str = "Examples:\n  hostler network create blue\n  \
     hostler run -d --name db --rootfs /srv/db --network blue,alias=sql -- /bin/db\n  \
     hostler run -d --rootfs /srv/web --network blue --publish 8080:80 -- /bin/web\n  \
     hostler network ls\n  hostler network inspect blue\n  hostler network rm blue\n\n\
     The containers of a network reach each other by name, and what is outside through this machine unless it is\n\
     --internal. Networks do not reach each other. One that a stack describes comes and goes with it.";
pub(super) const CREATE_EXAMPLES: &str = "Examples:\n  hostler network create blue\n  \
     hostler network create blue --subnet 10.1.2.0/24 --ipv6\n  hostler network create vault --internal\n  \
     hostler network create lan --cni /etc/cni/net.d/lan.conflist";

/// `hostler network …`
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once, never moved around")]
pub enum NetworkCommand {
    /// Make a network for containers
    #[command(after_help = CREATE_EXAMPLES)]
    Create(NetworkCreate),
    /// List networks
    #[command(after_help = "Examples:\n  hostler network ls\n  hostler --namespace '*' network ls")]
    Ls,
    /// Show all about networks, as JSON
    #[command(after_help = "Examples:\n  hostler network inspect blue")]
    Inspect(NetworkNames),
    /// Remove networks that nobody uses
    #[command(after_help = "Examples:\n  hostler network rm blue")]
    Rm(NetworkNames),
}

/// `hostler network create`
#[derive(Debug, Args)]
pub struct NetworkCreate {
    /// IPv4 addresses of its containers; chosen by the node when absent
    #[arg(long, value_name = "CIDR")]
    pub subnet: Option<Subnet4>,
    /// This machine's own address among them; the first when absent
    #[arg(long, value_name = "IP", requires = "subnet")]
    pub gateway: Option<Ipv4Addr>,
    /// IPv6 addresses as well
    #[arg(long)]
    pub ipv6: bool,
    /// IPv6 addresses of its containers; chosen by the node when absent
    #[arg(long, value_name = "CIDR")]
    pub subnet6: Option<Subnet6>,
    /// Its containers reach each other and nothing else
    #[arg(long)]
    pub internal: bool,
    /// Largest packet, bytes; 1500 when absent
    #[arg(long, value_name = "BYTES")]
    pub mtu: Option<u32>,
    /// Who is asked about names outside of it; this machine's resolvers when absent
    #[arg(long, value_name = "IP")]
    pub dns: Vec<IpAddr>,
    /// Let the plugins of this CNI configuration list make it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subnet", "gateway", "ipv6", "subnet6", "internal", "mtu"])]
    pub cni: Option<PathBuf>,
    /// Its name
    #[arg(value_name = "NETWORK")]
    pub name: NetworkName,
}

/// `hostler network inspect` and `rm`
#[derive(Debug, Args)]
pub struct NetworkNames {
    /// The networks
    #[arg(required = true, value_name = "NETWORK")]
    pub names: Vec<NetworkName>,
}

/// `hostler pool …`
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// List pools: agents, set-ups of networks, guests that wait
    #[command(after_help = "Examples:\n  hostler pool ls\n  hostler --json pool ls")]
    Ls,
    /// Keep guests waiting, after it was drained or when something that was in the way is mended
    #[command(after_help = "Examples:\n  hostler pool fill small")]
    Fill(PoolName),
    /// Let the guests go that wait, and make none ahead, until the pool is filled or the daemon is started anew
    #[command(after_help = "Examples:\n  hostler pool drain small")]
    Drain(PoolName),
    /// Keep more guests waiting, or fewer, until the daemon is started anew; for ever in hostler.toml
    #[command(after_help = "Examples:\n  hostler pool resize small --idle 8 --max 20")]
    Resize(PoolResize),
}

/// `hostler pool fill` and `drain`
#[derive(Debug, Args)]
pub struct PoolName {
    /// The pool: NAME of [pool.NAME] in hostler.toml
    #[arg(value_name = "POOL")]
    pub name: String,
}

/// `hostler pool resize`
#[derive(Debug, Args)]
pub struct PoolResize {
    /// The pool
    #[arg(value_name = "POOL")]
    pub name: String,
    /// Guests kept waiting
    #[arg(long, value_name = "COUNT", required_unless_present = "max")]
    pub idle: Option<u32>,
    /// Guests at most, those that have a run among them
    #[arg(long, value_name = "COUNT")]
    pub max: Option<u32>,
}
