//! Arguments of the verbs about stacks.

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(super) const STACK_EXAMPLES: &str = "Examples:\n  hostler stack validate shop.toml\n  hostler stack apply shop.toml\n  \
     hostler stack tree -f shop\n  hostler stack down shop\n\n\
     A file holds one stack, as TOML or JSON, with [service.NAME] and [job.NAME] tables; its name is\n\
     the file's, or what `name` says. A directory stands for all stack files in it. Those in startup.d\n\
     beside hostler.toml start with the node.";

/// `hostler stack …`
#[derive(Debug, Subcommand)]
pub enum StackCommand {
    /// Make stacks what their files say; what is unchanged is left alone
    #[command(after_help = "Examples:\n  hostler stack apply shop.toml\n  hostler stack apply -d stacks/\n\n\
                            Waits until nothing more happens, and exits with 1 when a unit is not ready then, or was\n\
                            left out for a mistake. What failed or was stopped before is tried again.")]
    Apply(StackApply),
    /// Stop stacks, in reverse order, and forget them
    #[command(after_help = "Examples:\n  hostler stack down shop\n  hostler stack down shop.toml")]
    Down(StackDown),
    /// Show what applying would change
    #[command(after_help = "Examples:\n  hostler stack diff shop.toml\n  hostler --json stack diff stacks/")]
    Diff(StackDiff),
    /// Say everything that is wrong with stack files, without a node
    #[command(after_help = "Examples:\n  hostler stack validate shop.toml\n  hostler stack validate stacks/")]
    Validate(StackValidate),
    /// List stacks
    #[command(after_help = "Examples:\n  hostler stack ls\n  hostler --json stack ls")]
    Ls,
    /// Show how the units of stacks stand, and what waits for what
    #[command(after_help = "Examples:\n  hostler stack tree\n  hostler stack tree -f shop")]
    Tree(StackTree),
}

/// `hostler stack apply`
#[derive(Debug, Args)]
pub struct StackApply {
    /// Do not wait for the units
    #[arg(long, short)]
    pub detach: bool,
    /// Stack files, or directories of them
    #[arg(value_name = "FILE|DIR", required = true)]
    pub paths: Vec<PathBuf>,
}

/// `hostler stack down`
#[derive(Debug, Args)]
pub struct StackDown {
    /// Do not wait for the end of the units
    #[arg(long, short)]
    pub detach: bool,
    /// Names of stacks, or their files
    #[arg(value_name = "STACK", required = true)]
    pub stacks: Vec<String>,
}

/// `hostler stack diff`
#[derive(Debug, Args)]
pub struct StackDiff {
    /// Stack files, or directories of them
    #[arg(value_name = "FILE|DIR", required = true)]
    pub paths: Vec<PathBuf>,
}

/// `hostler stack validate`
#[derive(Debug, Args)]
pub struct StackValidate {
    /// Stack files, or directories of them
    #[arg(value_name = "FILE|DIR", required = true)]
    pub paths: Vec<PathBuf>,
}

/// `hostler stack tree`
#[derive(Debug, Args)]
pub struct StackTree {
    /// Show each change until the stack is gone
    #[arg(long, short, requires = "stack")]
    pub follow: bool,
    /// The stack; all of them when absent
    #[arg(value_name = "STACK")]
    pub stack: Option<String>,
}
