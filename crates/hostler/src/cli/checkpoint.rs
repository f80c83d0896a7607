//! Arguments of `checkpoint`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use hostler_model::{CheckpointName, WorkloadName};

pub(super) const CHECKPOINT_EXAMPLES: &str = "Examples:\n  hostler checkpoint create web\n  hostler checkpoint create --exit db before-upgrade\n  \
     hostler checkpoint ls\n  hostler start --checkpoint before-upgrade db\n  hostler checkpoint restore --name db2 before-upgrade\n\n\
     Needs CRIU, and an OCI runtime that was built with it; `hostler doctor` says whether they are there. Of containers only, and for the\n\
     node's owner. With --exit the container stays stopped.";

/// `hostler checkpoint …`
#[derive(Debug, Subcommand)]
pub enum CheckpointCommand {
    /// Make an image of a running container: processes, memory, open files
    #[command(
        after_help = "Examples:\n  hostler checkpoint create web\n  hostler checkpoint create --exit --tcp-established db before-upgrade"
    )]
    Create(CheckpointCreate),
    /// List checkpoints
    #[command(visible_alias = "list", after_help = "Examples:\n  hostler checkpoint ls\n  hostler checkpoint ls web")]
    Ls(CheckpointList),
    /// Show all about checkpoints, as JSON
    #[command(after_help = "Examples:\n  hostler checkpoint inspect before-upgrade")]
    Inspect(CheckpointNames),
    /// Remove checkpoints
    #[command(after_help = "Examples:\n  hostler checkpoint rm before-upgrade")]
    Rm(CheckpointNames),
    /// Make a new workload that goes on where the old one was; for the old one itself see start --checkpoint
    #[command(after_help = "Examples:\n  hostler checkpoint restore --name db2 before-upgrade")]
    Restore(CheckpointRestore),
}

/// Where checkpoints are.
#[derive(Debug, Args)]
pub struct CheckpointPlace {
    /// Directory of the checkpoints; the node's own when absent
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `hostler checkpoint create`
#[derive(Debug, Args)]
pub struct CheckpointCreate {
    /// The container ends with it; otherwise it goes on
    #[arg(long)]
    pub exit: bool,
    /// With open TCP connections
    #[arg(long)]
    pub tcp_established: bool,
    /// With unix sockets whose other end is outside
    #[arg(long)]
    pub ext_unix_sk: bool,
    /// With a terminal
    #[arg(long)]
    pub shell_job: bool,
    /// Make this namespace anew at a restore; there is one choice: net
    #[arg(long, value_name = "NAMESPACE", value_parser = ["net"])]
    pub empty_ns: Option<String>,
    /// Where it is made.
    #[command(flatten)]
    pub place: CheckpointPlace,
    /// The workload
    #[arg(value_name = "WORKLOAD")]
    pub reference: String,
    /// The checkpoint's name; made from the workload's when absent
    #[arg(value_name = "CHECKPOINT")]
    pub name: Option<CheckpointName>,
}

/// `hostler checkpoint ls`
#[derive(Debug, Args)]
pub struct CheckpointList {
    /// Where they are.
    #[command(flatten)]
    pub place: CheckpointPlace,
    /// Only those of this workload
    #[arg(value_name = "WORKLOAD")]
    pub reference: Option<String>,
}

/// `hostler checkpoint inspect`, `hostler checkpoint rm`
#[derive(Debug, Args)]
pub struct CheckpointNames {
    /// Where they are.
    #[command(flatten)]
    pub place: CheckpointPlace,
    /// The checkpoints
    #[arg(required = true, value_name = "CHECKPOINT")]
    pub names: Vec<CheckpointName>,
}

/// `hostler checkpoint restore`
#[derive(Debug, Args)]
pub struct CheckpointRestore {
    /// Name of the new workload
    #[arg(long)]
    pub name: Option<WorkloadName>,
    /// Where it is.
    #[command(flatten)]
    pub place: CheckpointPlace,
    /// The checkpoint
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: CheckpointName,
}
