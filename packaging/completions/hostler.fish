# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_hostler_global_optspecs
    string join \n root= json namespace= h/help V/version
end

function __fish_hostler_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_hostler_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_hostler_using_subcommand
    set -l cmd (__fish_hostler_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c hostler -n "__fish_hostler_needs_command" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_needs_command" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_needs_command" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_needs_command" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_needs_command" -s V -l version -d 'Print version'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "up" -d 'Start the node (the same as `node up`)'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "down" -d 'Stop the node\'s daemon; workloads go on (the same as `node down`)'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "node" -d 'Start, stop and look at the node itself'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "doctor" -d 'Say what this machine can and cannot do, and how to mend it'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "run" -d 'Run a program'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "ps" -d 'List workloads'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "ls" -d 'List workloads'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "inspect" -d 'Show all about workloads, as JSON'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "logs" -d 'Show the output of a workload'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "result" -d 'Show what became of a workload, with the last lines of its output'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "events" -d 'Show what happens, as it happens'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "wait" -d 'Wait until workloads have ended for good, print their exit codes, exit with the last one\'s'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "stop" -d 'Stop workloads and keep them stopped: the stop signal, then after a grace a kill of all their processes'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "start" -d 'Start workloads again that have ended or were stopped'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "restart" -d 'Stop workloads and start them again'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "pause" -d 'Let all processes of containers, or of workloads with limits, stand still until they are resumed'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "resume" -d 'Let paused workloads go on'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "unpause" -d 'Let paused workloads go on'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "checkpoint" -d 'Images of running containers: create, ls, inspect, rm, restore'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "schedule" -d 'List schedules, pause and resume them, or run one now'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "kill" -d 'Send a signal to workloads; their restart policy applies'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "rm" -d 'Remove workloads and their logs'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "update" -d 'Change the limits of a workload, running or not'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "exec" -d 'Run a second program inside a running workload'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "attach" -d 'Connect to the streams of a running workload'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "queue" -d 'Look at queues of jobs, pause, drain and remove them'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "network" -d 'Networks of containers: create, ls, inspect, rm'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "pool" -d 'Look at what is kept ready: agents, set-ups of networks, guests; fill, drain, resize pools of guests'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "vm" -d 'What virtual machines need: kernels'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "stack" -d 'Services and jobs that belong together, from a file: apply, down, diff, validate, ls, tree'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "top" -d 'Show the processes of a workload'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "stats" -d 'Show the CPU, memory and processes that workloads use'
complete -c hostler -n "__fish_hostler_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand up" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand up" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand up" -l foreground -d 'Become the daemon instead of starting it in the background'
complete -c hostler -n "__fish_hostler_using_subcommand up" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand up" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand down" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand down" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand down" -l stop-workloads -d 'Stop every workload first; otherwise they go on without a daemon. Those with a restart policy start again with the next `up`'
complete -c hostler -n "__fish_hostler_using_subcommand down" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand down" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand node; and not __fish_seen_subcommand_from up down info lame-duck help" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand node; and not __fish_seen_subcommand_from up down info lame-duck help" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand node; and not __fish_seen_subcommand_from up down info lame-duck help" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand node; and not __fish_seen_subcommand_from up down info lame-duck help" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand node; and not __fish_seen_subcommand_from up down info lame-duck help" -f -a "up" -d 'Start the node'
complete -c hostler -n "__fish_hostler_using_subcommand node; and not __fish_seen_subcommand_from up down info lame-duck help" -f -a "down" -d 'Stop the node\'s daemon; workloads go on'
complete -c hostler -n "__fish_hostler_using_subcommand node; and not __fish_seen_subcommand_from up down info lame-duck help" -f -a "info" -d 'Show what the node is and how it stands'
complete -c hostler -n "__fish_hostler_using_subcommand node; and not __fish_seen_subcommand_from up down info lame-duck help" -f -a "lame-duck" -d 'Take no new work and let the running work finish'
complete -c hostler -n "__fish_hostler_using_subcommand node; and not __fish_seen_subcommand_from up down info lame-duck help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from up" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from up" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from up" -l foreground -d 'Become the daemon instead of starting it in the background'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from up" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from up" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from down" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from down" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from down" -l stop-workloads -d 'Stop every workload first; otherwise they go on without a daemon. Those with a restart policy start again with the next `up`'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from down" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from down" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from info" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from info" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from info" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from info" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from lame-duck" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from lame-duck" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from lame-duck" -l off -d 'Take new work again'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from lame-duck" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from lame-duck" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from help" -f -a "up" -d 'Start the node'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from help" -f -a "down" -d 'Stop the node\'s daemon; workloads go on'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from help" -f -a "info" -d 'Show what the node is and how it stands'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from help" -f -a "lame-duck" -d 'Take no new work and let the running work finish'
complete -c hostler -n "__fish_hostler_using_subcommand node; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand doctor" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand doctor" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand doctor" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand run" -l name -d 'Name of the workload; made from the program\'s name when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -s e -l env -d 'Environment variable; a KEY alone takes your value' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l env-file -d 'File of KEY=VALUE lines, or KEY for your value; --env wins over it' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -s w -l workdir -d 'Working directory; the current one when absent, in a container or with --isolate /' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -s u -l user -d 'Who the program runs as; yourself when absent, in a container root or whom the bundle says' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l max-time -d 'Longest time a run may take, such as 10s or 2h' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l start-timeout -d 'Longest time until the program has started' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l stop-signal -d 'First signal of a stop; TERM when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l stop-timeout -d 'Time between that signal and the kill' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l restart -d 'When it is started again: never, on-failure[:N] or always' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l restart-delay -d 'Time before the first restart; it doubles with each failure in a row' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l restart-delay-max -d 'Longest time before a restart' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l queue -d 'Wait for its turn in this queue' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l priority -d 'In the queue, a higher one goes first; 0 when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l each -d 'Make one job of each line of this file, or of stdin with -: {} in the command stands for the line, which otherwise becomes its last argument' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -l every -d 'Run it again and again, so long after each end; implies -d' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l first-after -d 'With --every: time until the first run, which otherwise starts at once' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l cron -d 'Run it at dates: \'MINUTE HOUR DAY MONTH WEEKDAY\', with seconds before them if there are six, or @daily; implies -d' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l time-zone -d 'With --cron: where these dates are, such as Europe/Zurich; UTC when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l misfire -d 'Runs that nobody could start in time (daemon down, machine asleep): skip (default), once for all, or all' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l overlap -d 'When the run before is not over: forbid the next (default), queue it, or replace the run' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l on-success -d 'Shell command when the program has ended well, with no restart to follow' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l on-failure -d 'Shell command when it has ended in any other way, with no restart to follow' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l on-end -d 'Shell command when it has ended, with no restart to follow' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l hook -d 'What to do when: started, success, failure, end, after:TIME or line:PATTERN, then = and a shell command, http(s)://… to POST to, or start:WORKLOAD' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l hooks -d 'Hooks in full: a TOML file with [[hooks]] tables, or a JSON list' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -s m -l memory -d 'Memory, such as 64M or 1.5G' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l cpus -d 'CPU, in cores: 0.5 or 2' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l pids -l pids-limit -d 'Processes and threads at one time' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l memory-reservation -d 'Memory that is left to it when the machine is short of it' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l memory-swap -d 'Memory and swap together, -1 for any amount of swap; without this there is none' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l cpu-shares -d 'Weight among those who want CPU time at the same moment; 1024 is the usual one' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l cpu-quota -d 'CPU time in each period, microseconds' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l cpu-period -d 'The period of the quota, microseconds; 100000 when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l cpuset-cpus -d 'CPUs that it may use, such as 0-3,6' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l cpuset-mems -d 'Memory nodes that it may use' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l blkio-weight -d 'Weight among those who want block I/O at the same moment, from 10 to 1000' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l blkio-weight-device -d 'The same for one device' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l device-read-bps -d 'Bytes read from a device in each second, such as /dev/sda:10M; 0 lifts the limit' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l device-write-bps -d 'Bytes written to a device in each second' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l device-read-iops -d 'Reads from a device in each second' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l device-write-iops -d 'Writes to a device in each second' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l rlimit -l ulimit -d 'Limit of each process, as of setrlimit(2)' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l isolate -d 'Keep it apart from this machine: namespaces of its own, files read-only, no capabilities, fewer system calls. PROFILE is default, strict, network-service or one of hostler.toml' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l read-only-path -d 'It cannot write to this, with all below; / is everything' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -l writable-path -d 'It sees this as it is, below what is read-only, hidden or private' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -l hide-path -d 'It finds this empty' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -l private-tmp -d 'Whether /tmp and /var/tmp are its own, empty and in memory' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l landlock -d 'What it may read, execute or write, and nothing else, by the kernel\'s landlock: read:PATH, exec:PATH or write:PATH' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l oci -d 'Run this OCI bundle, a directory with a config.json; COMMAND is then what it says itself unless it is given' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -l rootfs -d 'Run COMMAND in a container with this directory as its root' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -s v -l volume -d 'A file or directory of this machine that is seen in it (of --isolate and --vm as well)' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l tmpfs -d 'An empty directory in memory; options are size=, mode= and exec' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l hostname -d 'Its host name; the workload\'s name when absent (of --isolate as well)' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l cap-add -d 'Give it this capability, such as NET_ADMIN; --cap-drop ALL with it leaves this one (of --isolate as well)' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l cap-drop -d 'Take this capability away, or ALL of them' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l security-opt -d '(Of --isolate as well) no-new-privileges=false, seccomp=unconfined or a FILE, apparmor=PROFILE, systempaths=unconfined' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l device -d 'A device of this machine that it may use' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l network -l net -d 'Its network: a NAME of `network ls`, none (when absent: a loopback device and nothing else), host, or the path of a network namespace; after a NAME ip=, ip6=, alias= and rate= (without a NAME of --isolate as well)' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -s p -l publish -d 'With --network NAME: a port of this machine, at one of its addresses or all, that leads to one of the container' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l dns -d 'With --network NAME: who is asked about names outside of the network; the network\'s resolvers when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l userns -d 'Its user ids: host (when absent) for those of this machine, so that its root is root here, or auto for 65,536 of its own' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l oci-runtime -d 'What makes it: runc, crun or a path; the node\'s when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l oci-runtime-arg -d 'Argument of that program, before its command' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l vmm -d 'What makes it: firecracker, qemu, or auto (when absent) for the one that works here' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l vcpus -d 'Its processors; 1 when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l kernel -d 'A kernel of yours: a vmlinux or a bzImage' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -l initrd -d 'An initial RAM disk of yours' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -l kernel-args -d 'Words for the kernel; no secrets: whoever can look at this machine\'s processes sees them' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l disk -d 'What it writes to its root goes to a disk of this size, and not to its memory' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l rate-limit -d 'What its disks may do in a second: bytes such as 50M, operations such as 1000iops, or both with a comma' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l boot-timeout -d 'How long it may take to boot' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -s l -l label -d 'Mark for filters' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l tag -d 'Free word, for filters and results' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l stats-interval -d 'Sample what it uses this often, such as 5s: see stats --history, result and the node\'s metrics' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l stdin -d 'Read stdin from this file; - takes what is on your stdin along, 256K at most' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -l stdin-text -d 'This text is its stdin' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -l stdout -d 'Append stdout to this file instead of the log' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -l stderr -d 'Append stderr to this file instead of the log' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand run" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand run" -s d -l detach -d 'Leave it to itself and print its id once it runs'
complete -c hostler -n "__fish_hostler_using_subcommand run" -l rm -d 'Remove the workload and its log when it has ended; without -d also when this command dies'
complete -c hostler -n "__fish_hostler_using_subcommand run" -s i -l interactive -d 'Pass stdin to the program'
complete -c hostler -n "__fish_hostler_using_subcommand run" -s t -l tty -d 'Give the program a terminal'
complete -c hostler -n "__fish_hostler_using_subcommand run" -l protected -d 'It comes back after every end unless it is stopped by name; stop, kill and rm --all leave it out'
complete -c hostler -n "__fish_hostler_using_subcommand run" -l read-only -d 'Its root cannot be written to (of --vm as well)'
complete -c hostler -n "__fish_hostler_using_subcommand run" -l privileged -d 'Let it do whatever the node may'
complete -c hostler -n "__fish_hostler_using_subcommand run" -l no-pivot -d 'Do not change roots by pivot_root: for a root in the initial RAM disk'
complete -c hostler -n "__fish_hostler_using_subcommand run" -l vm -d 'Run COMMAND in a virtual machine with a kernel of its own; --memory is then its memory (128M when absent), and --rootfs a directory or an image that becomes its root'
complete -c hostler -n "__fish_hostler_using_subcommand run" -l no-agent -d 'Nothing of Hostler in it: its console is the output, its end is the end'
complete -c hostler -n "__fish_hostler_using_subcommand run" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand run" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand ps" -l filter -d 'Only workloads that match; all that are given must match' -r
complete -c hostler -n "__fish_hostler_using_subcommand ps" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand ps" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand ps" -s a -l all -d 'Those at rest too: ended, failed, stopped'
complete -c hostler -n "__fish_hostler_using_subcommand ps" -s q -l quiet -d 'Only ids'
complete -c hostler -n "__fish_hostler_using_subcommand ps" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand ps" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand ls" -l filter -d 'Only workloads that match; all that are given must match' -r
complete -c hostler -n "__fish_hostler_using_subcommand ls" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand ls" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand ls" -s a -l all -d 'Those at rest too: ended, failed, stopped'
complete -c hostler -n "__fish_hostler_using_subcommand ls" -s q -l quiet -d 'Only ids'
complete -c hostler -n "__fish_hostler_using_subcommand ls" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand ls" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand inspect" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand inspect" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand inspect" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand inspect" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand logs" -s n -l tail -d 'Only the last lines' -r
complete -c hostler -n "__fish_hostler_using_subcommand logs" -l since -d 'Only from this time on: 10m (ago), RFC 3339, or seconds since the epoch' -r
complete -c hostler -n "__fish_hostler_using_subcommand logs" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand logs" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand logs" -s f -l follow -d 'Go on with new lines until the workload has ended for good'
complete -c hostler -n "__fish_hostler_using_subcommand logs" -s t -l timestamps -d 'Put its time before each line'
complete -c hostler -n "__fish_hostler_using_subcommand logs" -l stdout -d 'Only what was written to stdout'
complete -c hostler -n "__fish_hostler_using_subcommand logs" -l stderr -d 'Only what was written to stderr'
complete -c hostler -n "__fish_hostler_using_subcommand logs" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand logs" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand result" -s n -l lines -d 'Last lines of each stream, 1000 at most' -r
complete -c hostler -n "__fish_hostler_using_subcommand result" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand result" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand result" -l wait -d 'Wait until it has ended for good'
complete -c hostler -n "__fish_hostler_using_subcommand result" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand result" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand events" -l since -d 'Begin after this event id, or at this time: 10m (ago), RFC 3339, or seconds since the epoch' -r
complete -c hostler -n "__fish_hostler_using_subcommand events" -l until -d 'End at this time; when it is past, show what there is up to it and end at once' -r
complete -c hostler -n "__fish_hostler_using_subcommand events" -l filter -d 'Only events that match: type=run.* or workload=NAME; all that are given must match' -r
complete -c hostler -n "__fish_hostler_using_subcommand events" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand events" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand events" -l no-follow -d 'Show those that are there and end, instead of waiting for more'
complete -c hostler -n "__fish_hostler_using_subcommand events" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand events" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand wait" -l timeout -d 'Give up on each after this time, with exit code 124' -r
complete -c hostler -n "__fish_hostler_using_subcommand wait" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand wait" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand wait" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand wait" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand stop" -s t -l timeout -d 'Time between the stop signal and the kill, instead of the workload\'s own' -r
complete -c hostler -n "__fish_hostler_using_subcommand stop" -s s -l signal -d 'First signal, instead of the workload\'s own' -r
complete -c hostler -n "__fish_hostler_using_subcommand stop" -l filter -d 'With --all: only those that match, as of `ps`' -r
complete -c hostler -n "__fish_hostler_using_subcommand stop" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand stop" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand stop" -l all -d 'All of the namespace, but for those that are protected'
complete -c hostler -n "__fish_hostler_using_subcommand stop" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand stop" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand start" -l checkpoint -d 'Go on from this checkpoint instead of from the beginning' -r
complete -c hostler -n "__fish_hostler_using_subcommand start" -l checkpoint-dir -d 'With --checkpoint: the directory in which it is; the node\'s own when absent' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand start" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand start" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand start" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand start" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand restart" -s t -l timeout -d 'Time between the stop signal and the kill, instead of the workload\'s own' -r
complete -c hostler -n "__fish_hostler_using_subcommand restart" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand restart" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand restart" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand restart" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand pause" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand pause" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand pause" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand pause" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand resume" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand resume" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand resume" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand resume" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand unpause" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand unpause" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand unpause" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand unpause" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and not __fish_seen_subcommand_from create ls list inspect rm restore help" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and not __fish_seen_subcommand_from create ls list inspect rm restore help" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and not __fish_seen_subcommand_from create ls list inspect rm restore help" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and not __fish_seen_subcommand_from create ls list inspect rm restore help" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and not __fish_seen_subcommand_from create ls list inspect rm restore help" -f -a "create" -d 'Make an image of a running container: processes, memory, open files'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and not __fish_seen_subcommand_from create ls list inspect rm restore help" -f -a "ls" -d 'List checkpoints'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and not __fish_seen_subcommand_from create ls list inspect rm restore help" -f -a "list" -d 'List checkpoints'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and not __fish_seen_subcommand_from create ls list inspect rm restore help" -f -a "inspect" -d 'Show all about checkpoints, as JSON'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and not __fish_seen_subcommand_from create ls list inspect rm restore help" -f -a "rm" -d 'Remove checkpoints'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and not __fish_seen_subcommand_from create ls list inspect rm restore help" -f -a "restore" -d 'Make a new workload that goes on where the old one was; for the old one itself see start --checkpoint'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and not __fish_seen_subcommand_from create ls list inspect rm restore help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from create" -l empty-ns -d 'Make this namespace anew at a restore; there is one choice: net' -r -f -a "net\t''"
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from create" -l dir -d 'Directory of the checkpoints; the node\'s own when absent' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from create" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from create" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from create" -l exit -d 'The container ends with it; otherwise it goes on'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from create" -l tcp-established -d 'With open TCP connections'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from create" -l ext-unix-sk -d 'With unix sockets whose other end is outside'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from create" -l shell-job -d 'With a terminal'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from create" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from ls" -l dir -d 'Directory of the checkpoints; the node\'s own when absent' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from ls" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from ls" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from ls" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from list" -l dir -d 'Directory of the checkpoints; the node\'s own when absent' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from list" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from list" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from list" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from inspect" -l dir -d 'Directory of the checkpoints; the node\'s own when absent' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from inspect" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from inspect" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from inspect" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from rm" -l dir -d 'Directory of the checkpoints; the node\'s own when absent' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from rm" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from rm" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from rm" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from restore" -l name -d 'Name of the new workload' -r
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from restore" -l dir -d 'Directory of the checkpoints; the node\'s own when absent' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from restore" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from restore" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from restore" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from restore" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "create" -d 'Make an image of a running container: processes, memory, open files'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List checkpoints'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "inspect" -d 'Show all about checkpoints, as JSON'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "rm" -d 'Remove checkpoints'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "restore" -d 'Make a new workload that goes on where the old one was; for the old one itself see start --checkpoint'
complete -c hostler -n "__fish_hostler_using_subcommand checkpoint; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and not __fish_seen_subcommand_from ls list pause resume fire help" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and not __fish_seen_subcommand_from ls list pause resume fire help" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and not __fish_seen_subcommand_from ls list pause resume fire help" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and not __fish_seen_subcommand_from ls list pause resume fire help" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and not __fish_seen_subcommand_from ls list pause resume fire help" -f -a "ls" -d 'List workloads with a schedule: when they run next, how the last run ended, what was missed'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and not __fish_seen_subcommand_from ls list pause resume fire help" -f -a "list" -d 'List workloads with a schedule: when they run next, how the last run ended, what was missed'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and not __fish_seen_subcommand_from ls list pause resume fire help" -f -a "pause" -d 'Let no run start by itself until it is resumed; what runs goes on'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and not __fish_seen_subcommand_from ls list pause resume fire help" -f -a "resume" -d 'Let schedules go on, counted from now'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and not __fish_seen_subcommand_from ls list pause resume fire help" -f -a "fire" -d 'Run it now, beside the plan'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and not __fish_seen_subcommand_from ls list pause resume fire help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from ls" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from ls" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from ls" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from list" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from list" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from list" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from pause" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from pause" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from pause" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from pause" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from resume" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from resume" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from resume" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from resume" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from fire" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from fire" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from fire" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from fire" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List workloads with a schedule: when they run next, how the last run ended, what was missed'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from help" -f -a "pause" -d 'Let no run start by itself until it is resumed; what runs goes on'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from help" -f -a "resume" -d 'Let schedules go on, counted from now'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from help" -f -a "fire" -d 'Run it now, beside the plan'
complete -c hostler -n "__fish_hostler_using_subcommand schedule; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand kill" -s s -l signal -d 'The signal, by name or number' -r
complete -c hostler -n "__fish_hostler_using_subcommand kill" -l exec -d 'To the program of this exec instead of the main one' -r
complete -c hostler -n "__fish_hostler_using_subcommand kill" -l pid -d 'To this one of its processes instead of the main one, by its pid on the machine, as `top` tells' -r
complete -c hostler -n "__fish_hostler_using_subcommand kill" -l filter -d 'With --all: only those that match, as of `ps`' -r
complete -c hostler -n "__fish_hostler_using_subcommand kill" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand kill" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand kill" -l all -d 'All of the namespace, but for those that are protected'
complete -c hostler -n "__fish_hostler_using_subcommand kill" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand kill" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand rm" -l filter -d 'With --all: only those that match, as of `ps`' -r
complete -c hostler -n "__fish_hostler_using_subcommand rm" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand rm" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand rm" -s f -l force -d 'Kill it first if it runs; with --all, what runs too'
complete -c hostler -n "__fish_hostler_using_subcommand rm" -l all -d 'All of the namespace, but for those that are protected'
complete -c hostler -n "__fish_hostler_using_subcommand rm" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand rm" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand update" -s m -l memory -d 'Memory, such as 64M or 1.5G' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l cpus -d 'CPU, in cores: 0.5 or 2' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l pids -l pids-limit -d 'Processes and threads at one time' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l memory-reservation -d 'Memory that is left to it when the machine is short of it' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l memory-swap -d 'Memory and swap together, -1 for any amount of swap; without this there is none' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l cpu-shares -d 'Weight among those who want CPU time at the same moment; 1024 is the usual one' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l cpu-quota -d 'CPU time in each period, microseconds' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l cpu-period -d 'The period of the quota, microseconds; 100000 when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l cpuset-cpus -d 'CPUs that it may use, such as 0-3,6' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l cpuset-mems -d 'Memory nodes that it may use' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l blkio-weight -d 'Weight among those who want block I/O at the same moment, from 10 to 1000' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l blkio-weight-device -d 'The same for one device' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l device-read-bps -d 'Bytes read from a device in each second, such as /dev/sda:10M; 0 lifts the limit' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l device-write-bps -d 'Bytes written to a device in each second' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l device-read-iops -d 'Reads from a device in each second' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l device-write-iops -d 'Writes to a device in each second' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand update" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand update" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand update" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand exec" -s u -l user -d 'Who the program runs as; like the workload when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand exec" -s e -l env -d 'Environment variable, on top of the workload\'s; a KEY alone takes your value' -r
complete -c hostler -n "__fish_hostler_using_subcommand exec" -s w -l workdir -d 'Working directory; the workload\'s when absent' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand exec" -l rlimit -d 'Limit of each process, as of setrlimit(2)' -r
complete -c hostler -n "__fish_hostler_using_subcommand exec" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand exec" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand exec" -s i -l interactive -d 'Pass stdin to the program'
complete -c hostler -n "__fish_hostler_using_subcommand exec" -s t -l tty -d 'Give the program a terminal'
complete -c hostler -n "__fish_hostler_using_subcommand exec" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand exec" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand attach" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand attach" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand attach" -l no-stdin -d 'Only look: do not pass stdin, even if the workload takes it'
complete -c hostler -n "__fish_hostler_using_subcommand attach" -l no-backlog -d 'Only what comes from now on, without the last output before'
complete -c hostler -n "__fish_hostler_using_subcommand attach" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand attach" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and not __fish_seen_subcommand_from ls show set pause resume drain rm help" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand queue; and not __fish_seen_subcommand_from ls show set pause resume drain rm help" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand queue; and not __fish_seen_subcommand_from ls show set pause resume drain rm help" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and not __fish_seen_subcommand_from ls show set pause resume drain rm help" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and not __fish_seen_subcommand_from ls show set pause resume drain rm help" -f -a "ls" -d 'List queues'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and not __fish_seen_subcommand_from ls show set pause resume drain rm help" -f -a "show" -d 'Show a queue and the jobs that wait in it'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and not __fish_seen_subcommand_from ls show set pause resume drain rm help" -f -a "set" -d 'Make a queue, or change how many of its jobs run at one time'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and not __fish_seen_subcommand_from ls show set pause resume drain rm help" -f -a "pause" -d 'Start no more jobs of queues; jobs are accepted and wait'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and not __fish_seen_subcommand_from ls show set pause resume drain rm help" -f -a "resume" -d 'End a pause or a drain'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and not __fish_seen_subcommand_from ls show set pause resume drain rm help" -f -a "drain" -d 'Accept no more jobs; those that wait are run'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and not __fish_seen_subcommand_from ls show set pause resume drain rm help" -f -a "rm" -d 'Remove queues'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and not __fish_seen_subcommand_from ls show set pause resume drain rm help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from ls" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from ls" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from ls" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from show" -s n -l limit -d 'Waiting jobs to show, at most 1000' -r
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from show" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from show" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from show" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from set" -s p -l parallel -d 'Jobs that run at one time' -r
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from set" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from set" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from set" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from set" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from pause" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from pause" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from pause" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from pause" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from resume" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from resume" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from resume" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from resume" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from drain" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from drain" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from drain" -l wait -d 'Wait until no job of them waits or runs'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from drain" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from drain" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from rm" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from rm" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from rm" -s f -l force -d 'Cancel the jobs that wait in it'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from rm" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List queues'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show a queue and the jobs that wait in it'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from help" -f -a "set" -d 'Make a queue, or change how many of its jobs run at one time'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from help" -f -a "pause" -d 'Start no more jobs of queues; jobs are accepted and wait'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from help" -f -a "resume" -d 'End a pause or a drain'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from help" -f -a "drain" -d 'Accept no more jobs; those that wait are run'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from help" -f -a "rm" -d 'Remove queues'
complete -c hostler -n "__fish_hostler_using_subcommand queue; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand network; and not __fish_seen_subcommand_from create ls inspect rm help" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand network; and not __fish_seen_subcommand_from create ls inspect rm help" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand network; and not __fish_seen_subcommand_from create ls inspect rm help" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand network; and not __fish_seen_subcommand_from create ls inspect rm help" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand network; and not __fish_seen_subcommand_from create ls inspect rm help" -f -a "create" -d 'Make a network for containers'
complete -c hostler -n "__fish_hostler_using_subcommand network; and not __fish_seen_subcommand_from create ls inspect rm help" -f -a "ls" -d 'List networks'
complete -c hostler -n "__fish_hostler_using_subcommand network; and not __fish_seen_subcommand_from create ls inspect rm help" -f -a "inspect" -d 'Show all about networks, as JSON'
complete -c hostler -n "__fish_hostler_using_subcommand network; and not __fish_seen_subcommand_from create ls inspect rm help" -f -a "rm" -d 'Remove networks that nobody uses'
complete -c hostler -n "__fish_hostler_using_subcommand network; and not __fish_seen_subcommand_from create ls inspect rm help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from create" -l subnet -d 'IPv4 addresses of its containers; chosen by the node when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from create" -l gateway -d 'This machine\'s own address among them; the first when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from create" -l subnet6 -d 'IPv6 addresses of its containers; chosen by the node when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from create" -l mtu -d 'Largest packet, bytes; 1500 when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from create" -l dns -d 'Who is asked about names outside of it; this machine\'s resolvers when absent' -r
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from create" -l cni -d 'Let the plugins of this CNI configuration list make it' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from create" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from create" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from create" -l ipv6 -d 'IPv6 addresses as well'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from create" -l internal -d 'Its containers reach each other and nothing else'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from create" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from ls" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from ls" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from ls" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from inspect" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from inspect" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from inspect" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from rm" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from rm" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from rm" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from help" -f -a "create" -d 'Make a network for containers'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List networks'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from help" -f -a "inspect" -d 'Show all about networks, as JSON'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from help" -f -a "rm" -d 'Remove networks that nobody uses'
complete -c hostler -n "__fish_hostler_using_subcommand network; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and not __fish_seen_subcommand_from ls fill drain resize help" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand pool; and not __fish_seen_subcommand_from ls fill drain resize help" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand pool; and not __fish_seen_subcommand_from ls fill drain resize help" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and not __fish_seen_subcommand_from ls fill drain resize help" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and not __fish_seen_subcommand_from ls fill drain resize help" -f -a "ls" -d 'List pools: agents, set-ups of networks, guests that wait'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and not __fish_seen_subcommand_from ls fill drain resize help" -f -a "fill" -d 'Keep guests waiting, after it was drained or when something that was in the way is mended'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and not __fish_seen_subcommand_from ls fill drain resize help" -f -a "drain" -d 'Let the guests go that wait, and make none ahead, until the pool is filled or the daemon is started anew'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and not __fish_seen_subcommand_from ls fill drain resize help" -f -a "resize" -d 'Keep more guests waiting, or fewer, until the daemon is started anew; for ever in hostler.toml'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and not __fish_seen_subcommand_from ls fill drain resize help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from ls" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from ls" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from ls" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from fill" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from fill" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from fill" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from fill" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from drain" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from drain" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from drain" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from drain" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from resize" -l idle -d 'Guests kept waiting' -r
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from resize" -l max -d 'Guests at most, those that have a run among them' -r
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from resize" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from resize" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from resize" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from resize" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List pools: agents, set-ups of networks, guests that wait'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from help" -f -a "fill" -d 'Keep guests waiting, after it was drained or when something that was in the way is mended'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from help" -f -a "drain" -d 'Let the guests go that wait, and make none ahead, until the pool is filled or the daemon is started anew'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from help" -f -a "resize" -d 'Keep more guests waiting, or fewer, until the daemon is started anew; for ever in hostler.toml'
complete -c hostler -n "__fish_hostler_using_subcommand pool; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and not __fish_seen_subcommand_from setup ls help" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand vm; and not __fish_seen_subcommand_from setup ls help" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand vm; and not __fish_seen_subcommand_from setup ls help" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and not __fish_seen_subcommand_from setup ls help" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and not __fish_seen_subcommand_from setup ls help" -f -a "setup" -d 'Make a kernel ready for virtual machines'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and not __fish_seen_subcommand_from setup ls help" -f -a "ls" -d 'List the kernels that are ready; virtual machines boot the first'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and not __fish_seen_subcommand_from setup ls help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from setup" -l directory -d 'Where kernels are kept; the node\'s own directory when absent' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from setup" -l package -d 'Take the kernel out of this Debian package' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from setup" -l kernel -d 'Take this kernel: an ELF vmlinux or a bzImage' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from setup" -l modules -d 'With --kernel: the directory below which its modules are' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from setup" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from setup" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from setup" -l force -d 'Make it anew where this version is there already'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from setup" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from setup" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from ls" -l directory -d 'Where kernels are kept; the node\'s own directory when absent' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from ls" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from ls" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from ls" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from help" -f -a "setup" -d 'Make a kernel ready for virtual machines'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List the kernels that are ready; virtual machines boot the first'
complete -c hostler -n "__fish_hostler_using_subcommand vm; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and not __fish_seen_subcommand_from apply down diff validate ls tree help" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand stack; and not __fish_seen_subcommand_from apply down diff validate ls tree help" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand stack; and not __fish_seen_subcommand_from apply down diff validate ls tree help" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and not __fish_seen_subcommand_from apply down diff validate ls tree help" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and not __fish_seen_subcommand_from apply down diff validate ls tree help" -f -a "apply" -d 'Make stacks what their files say; what is unchanged is left alone'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and not __fish_seen_subcommand_from apply down diff validate ls tree help" -f -a "down" -d 'Stop stacks, in reverse order, and forget them'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and not __fish_seen_subcommand_from apply down diff validate ls tree help" -f -a "diff" -d 'Show what applying would change'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and not __fish_seen_subcommand_from apply down diff validate ls tree help" -f -a "validate" -d 'Say everything that is wrong with stack files, without a node'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and not __fish_seen_subcommand_from apply down diff validate ls tree help" -f -a "ls" -d 'List stacks'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and not __fish_seen_subcommand_from apply down diff validate ls tree help" -f -a "tree" -d 'Show how the units of stacks stand, and what waits for what'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and not __fish_seen_subcommand_from apply down diff validate ls tree help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from apply" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from apply" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from apply" -s d -l detach -d 'Do not wait for the units'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from apply" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from apply" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from down" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from down" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from down" -s d -l detach -d 'Do not wait for the end of the units'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from down" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from down" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from diff" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from diff" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from diff" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from validate" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from validate" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from validate" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from validate" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from ls" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from ls" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from ls" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from tree" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from tree" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from tree" -s f -l follow -d 'Show each change until the stack is gone'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from tree" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from tree" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from help" -f -a "apply" -d 'Make stacks what their files say; what is unchanged is left alone'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from help" -f -a "down" -d 'Stop stacks, in reverse order, and forget them'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from help" -f -a "diff" -d 'Show what applying would change'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from help" -f -a "validate" -d 'Say everything that is wrong with stack files, without a node'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List stacks'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from help" -f -a "tree" -d 'Show how the units of stacks stand, and what waits for what'
complete -c hostler -n "__fish_hostler_using_subcommand stack; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand top" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand top" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand top" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand top" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand stats" -l root -d 'Keep everything of the node (store, socket, logs, configuration) under this directory' -r -F
complete -c hostler -n "__fish_hostler_using_subcommand stats" -l namespace -d 'Look at this namespace instead of your own; \'*\' for all, where many are listed' -r
complete -c hostler -n "__fish_hostler_using_subcommand stats" -l no-stream -d 'Show it once instead of every second'
complete -c hostler -n "__fish_hostler_using_subcommand stats" -l history -d 'Show the samples kept of one workload that runs, or ran, with --stats-interval'
complete -c hostler -n "__fish_hostler_using_subcommand stats" -l json -d 'Answer in JSON, refusals as problem documents on stderr'
complete -c hostler -n "__fish_hostler_using_subcommand stats" -s h -l help -d 'Print help'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "up" -d 'Start the node (the same as `node up`)'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "down" -d 'Stop the node\'s daemon; workloads go on (the same as `node down`)'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "node" -d 'Start, stop and look at the node itself'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "doctor" -d 'Say what this machine can and cannot do, and how to mend it'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "run" -d 'Run a program'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "ps" -d 'List workloads'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "inspect" -d 'Show all about workloads, as JSON'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "logs" -d 'Show the output of a workload'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "result" -d 'Show what became of a workload, with the last lines of its output'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "events" -d 'Show what happens, as it happens'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "wait" -d 'Wait until workloads have ended for good, print their exit codes, exit with the last one\'s'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "stop" -d 'Stop workloads and keep them stopped: the stop signal, then after a grace a kill of all their processes'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "start" -d 'Start workloads again that have ended or were stopped'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "restart" -d 'Stop workloads and start them again'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "pause" -d 'Let all processes of containers, or of workloads with limits, stand still until they are resumed'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "resume" -d 'Let paused workloads go on'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "checkpoint" -d 'Images of running containers: create, ls, inspect, rm, restore'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "schedule" -d 'List schedules, pause and resume them, or run one now'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "kill" -d 'Send a signal to workloads; their restart policy applies'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "rm" -d 'Remove workloads and their logs'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "update" -d 'Change the limits of a workload, running or not'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "exec" -d 'Run a second program inside a running workload'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "attach" -d 'Connect to the streams of a running workload'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "queue" -d 'Look at queues of jobs, pause, drain and remove them'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "network" -d 'Networks of containers: create, ls, inspect, rm'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "pool" -d 'Look at what is kept ready: agents, set-ups of networks, guests; fill, drain, resize pools of guests'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "vm" -d 'What virtual machines need: kernels'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "stack" -d 'Services and jobs that belong together, from a file: apply, down, diff, validate, ls, tree'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "top" -d 'Show the processes of a workload'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "stats" -d 'Show the CPU, memory and processes that workloads use'
complete -c hostler -n "__fish_hostler_using_subcommand help; and not __fish_seen_subcommand_from up down node doctor run ps inspect logs result events wait stop start restart pause resume checkpoint schedule kill rm update exec attach queue network pool vm stack top stats help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from node" -f -a "up" -d 'Start the node'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from node" -f -a "down" -d 'Stop the node\'s daemon; workloads go on'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from node" -f -a "info" -d 'Show what the node is and how it stands'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from node" -f -a "lame-duck" -d 'Take no new work and let the running work finish'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from checkpoint" -f -a "create" -d 'Make an image of a running container: processes, memory, open files'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from checkpoint" -f -a "ls" -d 'List checkpoints'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from checkpoint" -f -a "inspect" -d 'Show all about checkpoints, as JSON'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from checkpoint" -f -a "rm" -d 'Remove checkpoints'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from checkpoint" -f -a "restore" -d 'Make a new workload that goes on where the old one was; for the old one itself see start --checkpoint'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from schedule" -f -a "ls" -d 'List workloads with a schedule: when they run next, how the last run ended, what was missed'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from schedule" -f -a "pause" -d 'Let no run start by itself until it is resumed; what runs goes on'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from schedule" -f -a "resume" -d 'Let schedules go on, counted from now'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from schedule" -f -a "fire" -d 'Run it now, beside the plan'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from queue" -f -a "ls" -d 'List queues'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from queue" -f -a "show" -d 'Show a queue and the jobs that wait in it'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from queue" -f -a "set" -d 'Make a queue, or change how many of its jobs run at one time'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from queue" -f -a "pause" -d 'Start no more jobs of queues; jobs are accepted and wait'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from queue" -f -a "resume" -d 'End a pause or a drain'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from queue" -f -a "drain" -d 'Accept no more jobs; those that wait are run'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from queue" -f -a "rm" -d 'Remove queues'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from network" -f -a "create" -d 'Make a network for containers'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from network" -f -a "ls" -d 'List networks'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from network" -f -a "inspect" -d 'Show all about networks, as JSON'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from network" -f -a "rm" -d 'Remove networks that nobody uses'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from pool" -f -a "ls" -d 'List pools: agents, set-ups of networks, guests that wait'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from pool" -f -a "fill" -d 'Keep guests waiting, after it was drained or when something that was in the way is mended'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from pool" -f -a "drain" -d 'Let the guests go that wait, and make none ahead, until the pool is filled or the daemon is started anew'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from pool" -f -a "resize" -d 'Keep more guests waiting, or fewer, until the daemon is started anew; for ever in hostler.toml'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from vm" -f -a "setup" -d 'Make a kernel ready for virtual machines'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from vm" -f -a "ls" -d 'List the kernels that are ready; virtual machines boot the first'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from stack" -f -a "apply" -d 'Make stacks what their files say; what is unchanged is left alone'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from stack" -f -a "down" -d 'Stop stacks, in reverse order, and forget them'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from stack" -f -a "diff" -d 'Show what applying would change'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from stack" -f -a "validate" -d 'Say everything that is wrong with stack files, without a node'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from stack" -f -a "ls" -d 'List stacks'
complete -c hostler -n "__fish_hostler_using_subcommand help; and __fish_seen_subcommand_from stack" -f -a "tree" -d 'Show how the units of stacks stand, and what waits for what'
