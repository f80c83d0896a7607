//! Arguments of the verbs that bring a program up: run, exec, attach.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use hostler_model::hook::Hook;
use hostler_model::spec::Rlimit;
use hostler_model::units::{Signal, parse_duration_ms};
use hostler_model::{QueueName, WorkloadName};

use super::{ContainerArguments, LimitArguments, MachineArguments, SandboxArguments, ScheduleArguments};
use crate::hooks;
use crate::parse;

pub(super) const RUN_EXAMPLES: &str = "Examples:\n  hostler run -- echo hello\n  \
     hostler run -d --name web --restart always -- python3 -m http.server\n  \
     hostler run --rm -it -- bash\n  \
     hostler run -d --queue encode -- ./encode a.wav\n  \
     ls *.wav | hostler run -d --queue encode --each - -- ./encode {}\n  \
     hostler run --name backup --cron '30 3 * * *' --time-zone Europe/Zurich -- ./backup\n  \
     hostler run -d --on-failure 'mail -s \"$HOSTLER_HOOK_WORKLOAD failed\" me' -- ./backup\n  \
     hostler run -d --hook line:READY=http://localhost:8080/ready -- ./server\n  \
     hostler run --memory 64M --cpus 0.5 --pids 20 --max-time 10m -- make\n  \
     hostler run --vm --memory 256M --rootfs ./debian -- ./untrusted\n  \
     hostler run --isolate=strict --writable-path /data -- ./convert /data/in /data/out\n  \
     hostler run -d --tag nightly --stats-interval 5s --stdin - -- sort < names\n\n\
     Exits with the program's code, 128 + n after signal n, 127 when the command is not found,\n\
     126 when it cannot be executed, 125 when anything else went wrong.\n\
     Ctrl-C is passed on; three times within 5 seconds leaves. With -it, Ctrl-P Ctrl-Q leaves.\n\
     Whoever leaves lets the program run; with --rm it is then stopped and removed.";
pub(super) const EXEC_EXAMPLES: &str = "Examples:\n  hostler exec web -- ps x\n  hostler exec -it web bash\n  \
     hostler exec -i web tar x < files.tar\n\n\
     Exits with the program's code, 127 when the command is not found, 126 when it cannot be\n\
     executed, 125 when anything else went wrong.";
pub(super) const ATTACH_EXAMPLES: &str = "Examples:\n  hostler attach web\n\n\
     Ctrl-C leaves and lets the workload run; on a terminal of its own (run -it) Ctrl-P Ctrl-Q does.\n\
     Exits with the program's code if that ends first, with 125 when anything else went wrong.";

/// `hostler run`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("confined").multiple(true), group = ArgGroup::new("rooted").multiple(true))]
pub struct Run {
    /// Name of the workload; made from the program's name when absent
    #[arg(long)]
    pub name: Option<WorkloadName>,
    /// Environment variable; a KEY alone takes your value
    #[arg(long, short, value_name = "KEY[=VALUE]")]
    pub env: Vec<OsString>,
    /// File of KEY=VALUE lines, or KEY for your value; --env wins over it
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory; the current one when absent, in a container or with --isolate /
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Who the program runs as; yourself when absent, in a container root or whom the bundle says
    #[arg(long, short, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Leave it to itself and print its id once it runs
    #[arg(long, short, conflicts_with = "interactive")]
    pub detach: bool,
    /// Remove the workload and its log when it has ended; without -d also when this command dies
    #[arg(long)]
    pub rm: bool,
    /// Pass stdin to the program
    #[arg(long, short)]
    pub interactive: bool,
    /// Give the program a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// Longest time a run may take, such as 10s or 2h
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub max_time: Option<u64>,
    /// Longest time until the program has started
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub start_timeout: Option<u64>,
    /// First signal of a stop; TERM when absent
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<Signal>,
    /// Time between that signal and the kill
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub stop_timeout: Option<u64>,
    /// When it is started again: never, on-failure[:N] or always
    #[arg(long, value_name = "POLICY", value_parser = parse::restart, default_value = "never")]
    pub restart: parse::RestartPolicy,
    /// Time before the first restart; it doubles with each failure in a row
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub restart_delay: Option<u64>,
    /// Longest time before a restart
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub restart_delay_max: Option<u64>,
    /// It comes back after every end unless it is stopped by name; stop, kill and rm --all leave it out
    #[arg(long, conflicts_with = "rm")]
    pub protected: bool,
    /// Wait for its turn in this queue
    #[arg(long, value_name = "QUEUE")]
    pub queue: Option<QueueName>,
    /// In the queue, a higher one goes first; 0 when absent
    #[arg(long, value_name = "NUMBER", requires = "queue", allow_negative_numbers = true, default_value_t = 0)]
    pub priority: i32,
    /// Make one job of each line of this file, or of stdin with -: {} in the command stands for the line, which
    /// otherwise becomes its last argument
    #[arg(long, value_name = "FILE", requires = "detach", conflicts_with = "name")]
    pub each: Option<PathBuf>,
    /// When it runs by itself.
    #[command(flatten)]
    pub schedule: ScheduleArguments,
    /// Shell command when the program has ended well, with no restart to follow
    #[arg(long, value_name = "SHELL COMMAND", help_heading = "Hooks")]
    pub on_success: Vec<String>,
    /// Shell command when it has ended in any other way, with no restart to follow
    #[arg(long, value_name = "SHELL COMMAND", help_heading = "Hooks")]
    pub on_failure: Vec<String>,
    /// Shell command when it has ended, with no restart to follow
    #[arg(long, value_name = "SHELL COMMAND", help_heading = "Hooks")]
    pub on_end: Vec<String>,
    /// What to do when: started, success, failure, end, after:TIME or line:PATTERN, then = and a shell command,
    /// http(s)://… to POST to, or start:WORKLOAD
    #[arg(long, value_name = "WHEN=ACTION", value_parser = hooks::hook, help_heading = "Hooks")]
    pub hook: Vec<Hook>,
    /// Hooks in full: a TOML file with [[hooks]] tables, or a JSON list
    #[arg(long, value_name = "FILE", help_heading = "Hooks")]
    pub hooks: Vec<PathBuf>,
    /// Limits.
    #[command(flatten)]
    pub limits: LimitArguments,
    /// Limit of each process, as of setrlimit(2)
    #[arg(long, visible_alias = "ulimit", value_name = "KIND=SOFT[:HARD]", value_parser = parse::rlimit)]
    pub rlimit: Vec<Rlimit>,
    /// Isolation.
    #[command(flatten)]
    pub sandbox: SandboxArguments,
    /// What makes a container of it.
    #[command(flatten)]
    pub container: ContainerArguments,
    /// What makes a microVM of it.
    #[command(flatten)]
    pub machine: MachineArguments,
    /// Mark for filters
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse::label)]
    pub label: Vec<(String, String)>,
    /// Free word, for filters and results
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<String>,
    /// Sample what it uses this often, such as 5s: see stats --history, result and the node's metrics
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub stats_interval: Option<u64>,
    /// Read stdin from this file; - takes what is on your stdin along, 256K at most
    #[arg(long, value_name = "PATH", conflicts_with_all = ["interactive", "tty"])]
    pub stdin: Option<PathBuf>,
    /// This text is its stdin
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["interactive", "tty", "stdin"])]
    pub stdin_text: Option<OsString>,
    /// Append stdout to this file instead of the log
    #[arg(long, value_name = "PATH")]
    pub stdout: Option<PathBuf>,
    /// Append stderr to this file instead of the log
    #[arg(long, value_name = "PATH")]
    pub stderr: Option<PathBuf>,
    /// The program and its arguments
    #[arg(required_unless_present_any = ["oci", "no_agent"], trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `hostler exec`
#[derive(Debug, Args)]
pub struct Exec {
    /// Pass stdin to the program
    #[arg(long, short)]
    pub interactive: bool,
    /// Give the program a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// Who the program runs as; like the workload when absent
    #[arg(long, short, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Environment variable, on top of the workload's; a KEY alone takes your value
    #[arg(long, short, value_name = "KEY[=VALUE]")]
    pub env: Vec<OsString>,
    /// Working directory; the workload's when absent
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// Limit of each process, as of setrlimit(2)
    #[arg(long, value_name = "KIND=SOFT[:HARD]", value_parser = parse::rlimit)]
    pub rlimit: Vec<Rlimit>,
    /// The workload
    #[arg(value_name = "WORKLOAD")]
    pub reference: String,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `hostler attach`
#[derive(Debug, Args)]
pub struct Attach {
    /// Only look: do not pass stdin, even if the workload takes it
    #[arg(long)]
    pub no_stdin: bool,
    /// Only what comes from now on, without the last output before
    #[arg(long)]
    pub no_backlog: bool,
    /// The workload
    #[arg(value_name = "WORKLOAD")]
    pub reference: String,
}
