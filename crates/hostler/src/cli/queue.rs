//! Arguments of the verbs about queues.

use clap::{Args, Subcommand};
use hostler_model::QueueName;

pub(super) const QUEUE_EXAMPLES: &str = "Examples:\n  hostler run -d --queue encode -- ./encode a.wav\n  \
     hostler queue set encode --parallel 2\n  hostler queue ls\n  hostler queue show encode\n\n\
     A queue is made by the first job that names it, or by set. Its jobs run in order of acceptance, those with a\n\
     higher --priority first; one at a time, or as many as --parallel says.";

/// `hostler queue …`
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List queues
    #[command(after_help = "Examples:\n  hostler queue ls")]
    Ls,
    /// Show a queue and the jobs that wait in it
    #[command(after_help = "Examples:\n  hostler queue show encode")]
    Show(QueueShow),
    /// Make a queue, or change how many of its jobs run at one time
    #[command(after_help = "Examples:\n  hostler queue set encode --parallel 2")]
    Set(QueueSet),
    /// Start no more jobs of queues; jobs are accepted and wait
    #[command(after_help = "Examples:\n  hostler queue pause encode")]
    Pause(QueueNames),
    /// End a pause or a drain
    #[command(after_help = "Examples:\n  hostler queue resume encode")]
    Resume(QueueNames),
    /// Accept no more jobs; those that wait are run
    #[command(after_help = "Examples:\n  hostler queue drain encode\n  hostler queue drain --wait encode")]
    Drain(QueueDrain),
    /// Remove queues
    #[command(after_help = "Examples:\n  hostler queue rm encode\n  hostler queue rm -f encode")]
    Rm(QueueRemove),
}

/// `hostler queue show`
#[derive(Debug, Args)]
pub struct QueueShow {
    /// Waiting jobs to show, at most 1000
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
    pub limit: u32,
    /// The queue
    #[arg(value_name = "QUEUE")]
    pub queue: QueueName,
}

/// `hostler queue set`
#[derive(Debug, Args)]
pub struct QueueSet {
    /// Jobs that run at one time
    #[arg(long, short, value_name = "COUNT")]
    pub parallel: u32,
    /// The queue
    #[arg(value_name = "QUEUE")]
    pub queue: QueueName,
}

/// `hostler queue pause` and `resume`
#[derive(Debug, Args)]
pub struct QueueNames {
    /// The queues
    #[arg(required = true, value_name = "QUEUE")]
    pub queues: Vec<QueueName>,
}

/// `hostler queue drain`
#[derive(Debug, Args)]
pub struct QueueDrain {
    /// Wait until no job of them waits or runs
    #[arg(long)]
    pub wait: bool,
    /// The queues
    #[arg(required = true, value_name = "QUEUE")]
    pub queues: Vec<QueueName>,
}

/// `hostler queue rm`
#[derive(Debug, Args)]
pub struct QueueRemove {
    /// Cancel the jobs that wait in it
    #[arg(long, short)]
    pub force: bool,
    /// The queues
    #[arg(required = true, value_name = "QUEUE")]
    pub queues: Vec<QueueName>,
}
