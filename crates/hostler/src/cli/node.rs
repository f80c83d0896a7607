//! Arguments of the verbs about the node: up, down, info, lame-duck, events.

use clap::{Args, Subcommand};

pub(super) const UP_EXAMPLES: &str = "Examples:\n  hostler up\n  hostler --root /tmp/node node up\n  \
                                      hostler up --foreground   # the daemon in this terminal, Ctrl-C stops it";
pub(super) const DOWN_EXAMPLES: &str = "Examples:\n  hostler down                    # workloads go on; the next `hostler up` adopts them\n  \
                                        hostler node down --stop-workloads\n\n\
     With --stop-workloads, services with a restart policy start again with the next\n\
     `hostler up`; `hostler stop` them first if they are to stay at rest.";
pub(super) const EVENTS_EXAMPLES: &str = "Examples:\n  hostler events\n  hostler events --since 10m --no-follow\n  \
     hostler events --filter type=run.*\n  hostler events --filter workload=web\n\n\
     An event's id, shown with --json, is a --since that misses nothing and repeats nothing.";

/// `hostler node …`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Start the node
    #[command(after_help = UP_EXAMPLES)]
    Up(Up),
    /// Stop the node's daemon; workloads go on
    #[command(after_help = DOWN_EXAMPLES)]
    Down(Down),
    /// Show what the node is and how it stands
    #[command(after_help = "Examples:\n  hostler node info\n  hostler --json node info")]
    Info,
    /// Take no new work and let the running work finish
    #[command(after_help = "Examples:\n  hostler node lame-duck\n  hostler node lame-duck --off")]
    LameDuck(LameDuck),
}

/// `hostler up`
#[derive(Debug, Args)]
pub struct Up {
    /// Become the daemon instead of starting it in the background
    #[arg(long)]
    pub foreground: bool,
}

/// `hostler down`
#[derive(Debug, Args)]
pub struct Down {
    /// Stop every workload first; otherwise they go on without a daemon. Those with a restart policy start again with
    /// the next `up`
    #[arg(long)]
    pub stop_workloads: bool,
}

/// `hostler node lame-duck`
#[derive(Debug, Args)]
pub struct LameDuck {
    /// Take new work again
    #[arg(long)]
    pub off: bool,
}

/// `hostler events`
#[derive(Debug, Args)]
pub struct EventsArguments {
    /// Begin after this event id, or at this time: 10m (ago), RFC 3339, or seconds since the epoch
    #[arg(long, value_name = "ID|TIME")]
    pub since: Option<String>,
    /// End at this time; when it is past, show what there is up to it and end at once
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only events that match: type=run.* or workload=NAME; all that are given must match
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Show those that are there and end, instead of waiting for more
    #[arg(long)]
    pub no_follow: bool,
}
