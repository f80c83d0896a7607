//! The arguments: verbs, options, and the help text of each with an example. No behaviour.

mod checkpoint;
mod container;
mod isolation;
mod limits;
mod machine;
mod network;
mod node;
mod queue;
mod run;
mod schedule;
mod stack;
mod vm;
mod workload;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand};

pub use self::checkpoint::{
    CheckpointCommand, CheckpointCreate, CheckpointList, CheckpointNames, CheckpointPlace, CheckpointRestore,
};
pub use self::container::ContainerArguments;
pub use self::isolation::SandboxArguments;
pub use self::limits::LimitArguments;
pub use self::machine::MachineArguments;
pub use self::network::{NetworkCommand, NetworkCreate, NetworkNames, PoolCommand, PoolName, PoolResize};
pub use self::node::{Down, EventsArguments, LameDuck, NodeCommand, Up};
pub use self::queue::{QueueCommand, QueueDrain, QueueNames, QueueRemove, QueueSet, QueueShow};
pub use self::run::{Attach, Exec, Run};
pub use self::schedule::{ScheduleArguments, ScheduleCommand, Scheduled};
pub use self::stack::{StackApply, StackCommand, StackDiff, StackDown, StackTree, StackValidate};
pub use self::vm::{VmCommand, VmList, VmSetup};
pub use self::workload::{
    Inspect, Kill, Logs, Pause, Ps, Remove, Restart, ResultArguments, Start, StatsArguments, Stop, Top, Update, Wait,
};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "hostler",
    version,
    about = "Runs processes on this machine and loses nothing: no exit status, no output, no accepted request",
    after_help = "Begin with:\n  hostler up\n  hostler run -- echo hello\n  hostler ps -a\n\n\
                  Wherever a workload is asked for, its name, its id, or the beginning of its id will do.",
    arg_required_else_help = true,
    max_term_width = 100
)]
pub struct Arguments {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every verb.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Keep everything of the node (store, socket, logs, configuration) under this directory
    #[arg(long, global = true, value_name = "DIR", env = "HOSTLER_ROOT", help_heading = "Global options")]
    pub root: Option<PathBuf>,
    /// Answer in JSON, refusals as problem documents on stderr
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Look at this namespace instead of your own; '*' for all, where many are listed
    #[arg(long, global = true, value_name = "NS", help_heading = "Global options")]
    pub namespace: Option<String>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once, never moved around")]
pub enum Command {
    /// Start the node (the same as `node up`)
    #[command(after_help = node::UP_EXAMPLES)]
    Up(Up),
    /// Stop the node's daemon; workloads go on (the same as `node down`)
    #[command(after_help = node::DOWN_EXAMPLES)]
    Down(Down),
    /// Start, stop and look at the node itself
    #[command(subcommand, after_help = "Examples:\n  hostler node up\n  hostler node info\n  hostler node lame-duck")]
    Node(NodeCommand),
    /// Say what this machine can and cannot do, and how to mend it
    #[command(after_help = "Examples:\n  hostler doctor\n  hostler --json doctor")]
    Doctor,
    /// Run a program
    #[command(after_help = run::RUN_EXAMPLES)]
    Run(Run),
    /// List workloads
    #[command(visible_alias = "ls", after_help = workload::PS_EXAMPLES)]
    Ps(Ps),
    /// Show all about workloads, as JSON
    #[command(after_help = "Examples:\n  hostler inspect web\n  hostler inspect web job-7")]
    Inspect(Inspect),
    /// Show the output of a workload
    #[command(after_help = workload::LOGS_EXAMPLES)]
    Logs(Logs),
    /// Show what became of a workload, with the last lines of its output
    #[command(after_help = workload::RESULT_EXAMPLES)]
    Result(ResultArguments),
    /// Show what happens, as it happens
    #[command(after_help = node::EVENTS_EXAMPLES)]
    Events(EventsArguments),
    /// Wait until workloads have ended for good, print their exit codes, exit with the last one's
    #[command(after_help = "Examples:\n  hostler wait job\n  hostler wait --timeout 10m job-1 job-2\n\n\
                          Exits with 124 when the time of --timeout is over, 125 when anything else went wrong.")]
    Wait(Wait),
    /// Stop workloads and keep them stopped: the stop signal, then after a grace a kill of all their processes
    #[command(
        after_help = "Examples:\n  hostler stop web\n  hostler stop --timeout 30s web db\n  hostler stop --all --filter label=team=web"
    )]
    Stop(Stop),
    /// Start workloads again that have ended or were stopped
    #[command(after_help = "Examples:\n  hostler start web\n  hostler start web db")]
    Start(Start),
    /// Stop workloads and start them again
    #[command(after_help = "Examples:\n  hostler restart web\n  hostler restart --timeout 2s web")]
    Restart(Restart),
    /// Let all processes of containers, or of workloads with limits, stand still until they are resumed
    #[command(after_help = "Examples:\n  hostler pause web")]
    Pause(Pause),
    /// Let paused workloads go on
    #[command(visible_alias = "unpause", after_help = "Examples:\n  hostler resume web")]
    Resume(Pause),
    /// Images of running containers: create, ls, inspect, rm, restore
    #[command(subcommand, after_help = checkpoint::CHECKPOINT_EXAMPLES)]
    Checkpoint(CheckpointCommand),
    /// List schedules, pause and resume them, or run one now
    #[command(
        subcommand,
        after_help = "Examples:\n  hostler schedule ls\n  hostler schedule pause backup\n  hostler schedule fire backup"
    )]
    Schedule(ScheduleCommand),
    /// Send a signal to workloads; their restart policy applies
    #[command(
        after_help = "Examples:\n  hostler kill web\n  hostler kill -s HUP web\n  hostler kill -s TERM --exec 1a2b3c4d web\n  hostler kill --all"
    )]
    Kill(Kill),
    /// Remove workloads and their logs
    #[command(after_help = "Examples:\n  hostler rm job\n  hostler rm -f web\n  hostler rm --all --filter phase=ended")]
    Rm(Remove),
    /// Change the limits of a workload, running or not
    #[command(after_help = "Examples:\n  hostler update --memory 256M web\n  hostler update --cpus 0.5 --pids 50 web")]
    Update(Update),
    /// Run a second program inside a running workload
    #[command(after_help = run::EXEC_EXAMPLES)]
    Exec(Exec),
    /// Connect to the streams of a running workload
    #[command(after_help = run::ATTACH_EXAMPLES)]
    Attach(Attach),
    /// Look at queues of jobs, pause, drain and remove them
    #[command(subcommand, after_help = queue::QUEUE_EXAMPLES)]
    Queue(QueueCommand),
    /// Networks of containers: create, ls, inspect, rm
    #[command(subcommand, after_help = network::NETWORK_EXAMPLES)]
    Network(NetworkCommand),
    /// Look at what is kept ready: agents, set-ups of networks, guests; fill, drain, resize pools of guests
    #[command(subcommand, after_help = "Examples:\n  hostler pool ls")]
    Pool(PoolCommand),
    /// What virtual machines need: kernels
    #[command(subcommand, after_help = vm::VM_EXAMPLES)]
    Vm(VmCommand),
    /// Services and jobs that belong together, from a file: apply, down, diff, validate, ls, tree
    #[command(subcommand, after_help = stack::STACK_EXAMPLES)]
    Stack(StackCommand),
    /// Show the processes of a workload
    #[command(after_help = "Examples:\n  hostler top web\n  hostler --json top web")]
    Top(Top),
    /// Show the CPU, memory and processes that workloads use
    #[command(
        after_help = "Examples:\n  hostler stats\n  hostler stats --no-stream web db\n  hostler stats --history job"
    )]
    Stats(StatsArguments),
}

/// The command line as clap sees it, for completions and man pages.
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn clap_finds_no_fault() {
        command().debug_assert();
    }

    #[test]
    fn every_verb_has_help_and_an_example() {
        fn check(command: &mut clap::Command, path: &str) {
            for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
                let name = format!("{path} {}", verb.get_name());
                let help = verb.render_long_help().to_string();
                assert!(verb.get_about().is_some(), "{name} has no description");
                assert!(help.contains(&name), "the help of `{name}` has no example:\n{help}");
                for argument in verb.get_arguments().filter(|argument| argument.get_id() != "help") {
                    assert!(argument.get_help().is_some(), "{name} {} has no help", argument.get_id());
                }
                check(verb, &name);
            }
        }
        let mut command = command();
        command.build();
        check(&mut command, "hostler");
    }

    #[test]
    fn the_command_of_run_keeps_its_options_and_bytes() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(vec![b'a', 0xff]);
        let line: Vec<OsString> = ["hostler", "run", "-d", "--name", "x", "ls", "-la", "--json"]
            .iter()
            .map(OsString::from)
            .chain([odd.clone()])
            .collect();
        let parsed = Arguments::try_parse_from(line).expect("valid");
        let Command::Run(run) = parsed.command else { panic!("not run") };
        assert!(run.detach && !parsed.global.json);
        assert_eq!(run.command, [OsString::from("ls"), "-la".into(), "--json".into(), odd]);
    }

    #[test]
    fn a_mistyped_option_is_not_the_program() {
        let error = Arguments::try_parse_from(["hostler", "run", "--memry", "5", "--", "true"]).expect_err("no option");
        assert!(error.to_string().contains("'--memory'"), "{error}");
        for line in [
            "run sleep 5",
            "run ls -la",
            "run -- -odd",
            "run -d -- ls --json",
            "exec web ls -la",
            "exec -it web -- sh -c x",
            "update --cpu-shares 5 --cpuset-cpus 0-1 web",
            "update --device-write-iops /dev/sda:100 --device-write-iops 8:0:5 web",
            "run --memory 1G --memory-swap -1 --memory-reservation 5M --blkio-weight 10 -- true",
            "top web",
            "run --rootfs / --network blue,ip=10.0.0.7,alias=db -p 8080:80 --publish [::1]:53:53/udp --dns 9.9.9.9 x",
            "run --rootfs / --net host x",
            "network create blue --subnet 10.1.2.0/24 --gateway 10.1.2.9 --ipv6 --mtu 9000 --dns ::1 --internal",
            "network create lan --cni /x",
            "network inspect a b",
            "pool ls",
            "vm setup",
            "vm setup --directory /x --kernel vmlinux --modules /lib/modules/6.1 --force",
            "vm setup --package linux-image.deb",
            "vm ls --directory /x",
        ] {
            assert!(Arguments::try_parse_from(["hostler"].into_iter().chain(line.split(' '))).is_ok(), "{line}");
        }
    }

    #[test]
    fn bad_arguments_are_refused() {
        for bad in [
            "run",
            "run --memory 1X true",
            "run --restart sometimes true",
            "run --name a/b true",
            "run -d -i true",
            "run --stdin-text x --stdin /dev/null true",
            "run --stdin-text x -i true",
            "run --stdin-text x -t true",
            "run --stats-interval often true",
            "result",
            "result --lines many job",
            "stats --history --no-stream job",
            "run --stop-signal NOPE true",
            "run --rlimit files=3 true",
            "run --every 5s --cron @daily true",
            "run --every 5s -i true",
            "run --every 5s --rm true",
            "run --every 5x true",
            "run --misfire all true",
            "run --time-zone UTC --every 5s true",
            "run --cron @daily --overlap sometimes true",
            "run --cron @daily --first-after 5s true",
            "schedule fire",
            "stop",
            "kill -s NOPE x",
            "update x",
            "stats --bogus",
            "top",
            "top web db",
            "run --cpus 1 --cpu-quota 5000 true",
            "run --memory-swap 1G true",
            "run --device-read-bps sda:1M true",
            "run --memry 5 -- true",
            "run --detatch -- sleep 5",
            "run -z -- true",
            "exec --tyt web true",
            "run --network blue x",
            "run --rootfs / --network a/b x",
            "run --rootfs / --network blue -p 80 x",
            "run --rootfs / --network blue --dns nine x",
            "run --rootfs / --network blue --network red x",
            "run --isolate --publish 80:80 x",
            "network",
            "network create",
            "network create a/b",
            "network create blue --subnet 10.1.2.3/24",
            "network create blue --gateway 10.1.2.1",
            "network create lan --cni /x --ipv6",
            "network rm",
            "pool",
            "vm",
            "vm setup --package a.deb --kernel vmlinux",
            "vm setup --modules /lib/modules/6.1",
            "exec web --tyt true",
        ] {
            let line = std::iter::once("hostler").chain(bad.split(' '));
            assert!(Arguments::try_parse_from(line).is_err(), "{bad}");
        }
    }
}
