//! Arguments of the verbs about workloads that exist.

use std::path::PathBuf;

use clap::Args;
use hostler_model::units::{Signal, parse_duration_ms};
use hostler_model::{CheckpointName, ExecId, limits};

use super::LimitArguments;

pub(super) const PS_EXAMPLES: &str = "Examples:\n  hostler ps\n  hostler ps -a --filter phase=failed\n  \
     hostler ps -aq --filter label=team=web\n\nFilters: name=web*, phase=running, queue=NAME, label=KEY, label=KEY=VALUE, tag=TAG.";
pub(super) const LOGS_EXAMPLES: &str = "Examples:\n  hostler logs job\n  hostler logs -f --tail 20 web\n  \
     hostler logs --since 10m --stderr web\n\nWhat the program wrote to stderr comes on stderr.";

pub(super) const RESULT_EXAMPLES: &str = "Examples:\n  hostler result job\n  hostler result --wait --lines 100 job\n  \
     hostler --json result job\n\nFails while the workload runs, or waits for another attempt.";

/// `hostler ps`
#[derive(Debug, Args)]
pub struct Ps {
    /// Those at rest too: ended, failed, stopped
    #[arg(long, short)]
    pub all: bool,
    /// Only workloads that match; all that are given must match
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Only ids
    #[arg(long, short)]
    pub quiet: bool,
}

/// `hostler inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// The workloads
    #[arg(required = true, value_name = "WORKLOAD")]
    pub references: Vec<String>,
}

/// `hostler logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// Go on with new lines until the workload has ended for good
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last lines
    #[arg(long, short = 'n', value_name = "COUNT")]
    pub tail: Option<u64>,
    /// Only from this time on: 10m (ago), RFC 3339, or seconds since the epoch
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Put its time before each line
    #[arg(long, short)]
    pub timestamps: bool,
    /// Only what was written to stdout
    #[arg(long, conflicts_with = "stderr")]
    pub stdout: bool,
    /// Only what was written to stderr
    #[arg(long)]
    pub stderr: bool,
    /// The workload
    #[arg(value_name = "WORKLOAD")]
    pub reference: String,
}

/// `hostler result`
#[derive(Debug, Args)]
pub struct ResultArguments {
    /// Last lines of each stream, 1000 at most
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = limits::RESULT_LINES_DEFAULT)]
    pub lines: u32,
    /// Wait until it has ended for good
    #[arg(long)]
    pub wait: bool,
    /// The workload
    #[arg(value_name = "WORKLOAD")]
    pub reference: String,
}

/// `hostler wait`
#[derive(Debug, Args)]
pub struct Wait {
    /// Give up on each after this time, with exit code 124
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub timeout: Option<u64>,
    /// The workloads
    #[arg(required = true, value_name = "WORKLOAD")]
    pub references: Vec<String>,
}

/// `hostler stop`
#[derive(Debug, Args)]
pub struct Stop {
    /// Time between the stop signal and the kill, instead of the workload's own
    #[arg(long, short, value_name = "TIME", value_parser = parse_duration_ms)]
    pub timeout: Option<u64>,
    /// First signal, instead of the workload's own
    #[arg(long, short, value_name = "SIGNAL")]
    pub signal: Option<Signal>,
    /// All of the namespace, but for those that are protected
    #[arg(long, conflicts_with = "references", conflicts_with_all = ["timeout", "signal"])]
    pub all: bool,
    /// With --all: only those that match, as of `ps`
    #[arg(long, value_name = "KEY=VALUE", requires = "all")]
    pub filter: Vec<String>,
    /// The workloads
    #[arg(required_unless_present = "all", value_name = "WORKLOAD")]
    pub references: Vec<String>,
}

/// `hostler pause`, `hostler resume`
#[derive(Debug, Args)]
pub struct Pause {
    /// The workloads
    #[arg(required = true, value_name = "WORKLOAD")]
    pub references: Vec<String>,
}

/// `hostler start`
#[derive(Debug, Args)]
pub struct Start {
    /// Go on from this checkpoint instead of from the beginning
    #[arg(long, value_name = "CHECKPOINT")]
    pub checkpoint: Option<CheckpointName>,
    /// With --checkpoint: the directory in which it is; the node's own when absent
    #[arg(long, value_name = "DIR", requires = "checkpoint")]
    pub checkpoint_dir: Option<PathBuf>,
    /// The workloads
    #[arg(required = true, value_name = "WORKLOAD")]
    pub references: Vec<String>,
}

/// `hostler restart`
#[derive(Debug, Args)]
pub struct Restart {
    /// Time between the stop signal and the kill, instead of the workload's own
    #[arg(long, short, value_name = "TIME", value_parser = parse_duration_ms)]
    pub timeout: Option<u64>,
    /// The workloads
    #[arg(required = true, value_name = "WORKLOAD")]
    pub references: Vec<String>,
}

/// `hostler kill`
#[derive(Debug, Args)]
pub struct Kill {
    /// The signal, by name or number
    #[arg(long, short, value_name = "SIGNAL", default_value = "KILL")]
    pub signal: Signal,
    /// To the program of this exec instead of the main one
    #[arg(long, value_name = "ID")]
    pub exec: Option<ExecId>,
    /// To this one of its processes instead of the main one, by its pid on the machine, as `top` tells
    #[arg(long, value_name = "PID", conflicts_with = "exec", conflicts_with = "all")]
    pub pid: Option<u32>,
    /// All of the namespace, but for those that are protected
    #[arg(long, conflicts_with = "references", conflicts_with = "exec")]
    pub all: bool,
    /// With --all: only those that match, as of `ps`
    #[arg(long, value_name = "KEY=VALUE", requires = "all")]
    pub filter: Vec<String>,
    /// The workloads
    #[arg(required_unless_present = "all", value_name = "WORKLOAD")]
    pub references: Vec<String>,
}

/// `hostler rm`
#[derive(Debug, Args)]
pub struct Remove {
    /// Kill it first if it runs; with --all, what runs too
    #[arg(long, short)]
    pub force: bool,
    /// All of the namespace, but for those that are protected
    #[arg(long, conflicts_with = "references")]
    pub all: bool,
    /// With --all: only those that match, as of `ps`
    #[arg(long, value_name = "KEY=VALUE", requires = "all")]
    pub filter: Vec<String>,
    /// The workloads
    #[arg(required_unless_present = "all", value_name = "WORKLOAD")]
    pub references: Vec<String>,
}

/// `hostler update`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("limit").args(super::limits::NAMES).required(true).multiple(true)))]
pub struct Update {
    /// What changes; limits that are not named stay.
    #[command(flatten)]
    pub limits: LimitArguments,
    /// The workloads
    #[arg(required = true, value_name = "WORKLOAD")]
    pub references: Vec<String>,
}

/// `hostler top`
#[derive(Debug, Args)]
pub struct Top {
    /// The workload
    #[arg(value_name = "WORKLOAD")]
    pub reference: String,
}

/// `hostler stats`
#[derive(Debug, Args)]
pub struct StatsArguments {
    /// Show it once instead of every second
    #[arg(long)]
    pub no_stream: bool,
    /// Show the samples kept of one workload that runs, or ran, with --stats-interval
    #[arg(long, conflicts_with = "no_stream")]
    pub history: bool,
    /// The workloads; all that run when absent
    #[arg(value_name = "WORKLOAD")]
    pub references: Vec<String>,
}
