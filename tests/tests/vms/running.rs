//! What a program in a guest sees, how it ends, what becomes of its streams; second programs and terminals.

use hostler_model::spec::TtySize;
use hostler_model::{Cause, ExitStatus};
use hostler_tests::Host;
use hostler_tests::pty::Terminal;

#[test]
fn ends_are_those_of_the_program() {
    let Some(host) = Host::start() else { return };
    let done = host.sh(&["--name", "seven"], "echo to stdout; echo to stderr >&2; exit 7").code(7);
    assert_eq!((done.out().as_str(), done.err().as_str()), ("to stdout\n", "to stderr\n"));
    let exit = host.exit_of("seven");
    assert_eq!((exit.status, exit.cause), (ExitStatus::Code(7), Cause::Error));
    assert_eq!((exit.stdout_lines, exit.stderr_lines), (1, 1));
    let logs = host.cli(&["logs", "seven"]).code(0);
    assert_eq!((logs.out().as_str(), logs.err().as_str()), ("to stdout\n", "to stderr\n"));

    host.sh(&["--name", "killed"], "kill -9 $$").code(137);
    let exit = host.exit_of("killed");
    assert_eq!((exit.cause, exit.note), (Cause::Signal, None));

    let done = host.run(&["--name", "absent"], &["/no/such/program"]).code(127);
    assert!(done.err().contains("/no/such/program"), "{}", done.err());
    host.until_no_guest("after all ends");
    host.finish();
}

#[test]
fn what_a_program_sees() {
    let Some(host) = Host::start() else { return };
    let options = [
        "--user",
        "33:44",
        "--workdir",
        "/tmp",
        "--env",
        "COLOUR=dark-red",
        "--hostname",
        "box.example",
        "--memory",
        "96M",
        "--vcpus",
        "2",
        "--ulimit",
        "nofile=123:456",
    ];
    let vmm = host.detach("c", &options, "id -u; id -g; pwd; echo $COLOUR; ulimit -Sn; ulimit -Hn; exec sleep 600");
    let log = hostler_tests::until("its words", hostler_tests::PATIENCE, || {
        Some(host.log_of("c")).filter(|log| log.lines().count() == 6)
    });
    assert_eq!(log, "33\n44\n/tmp\ndark-red\n123\n456");
    let cases = [
        ("hostname", "box.example"),
        ("cat /etc/hostname", "box.example"),
        ("grep -c ^processor /proc/cpuinfo", "2"),
        ("id -u", "33"),
        ("pwd", "/tmp"),
        ("echo $COLOUR", "dark-red"),
        // Nothing of the program on the kernel's command line, and nothing of this machine in sight.
        ("grep -c dark-red /proc/cmdline", "0"),
        ("ls /sys/class/net", "lo"),
        ("ls /dev/shm /dev/pts /dev/null /dev/fd >/dev/null && echo there", "there"),
        ("wc -c </etc/machine-id", "33"),
    ];
    for (script, expected) in cases {
        assert_eq!(host.exec("c", script).out().trim(), expected, "{script}");
    }
    let kib: u64 = host.exec("c", "awk '/MemTotal/ { print $2 }' /proc/meminfo").ok().parse().expect("a number");
    assert!((40 * 1024..=96 * 1024).contains(&kib), "{kib} KiB of 96 MiB");
    let seconds: u64 = host.exec("c", "date +%s").ok().parse().expect("a number");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_secs();
    assert!(now.abs_diff(seconds) <= 5, "the guest's clock says {seconds}, ours {now}");
    // What anybody on this machine can read of the VMM and of its agent.
    for pid in [vmm, host.run_file("c").agent.pid] {
        for file in ["cmdline", "environ"] {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).expect("a process of ours");
            assert!(!String::from_utf8_lossy(&bytes).contains("dark-red"), "in {file} of {pid}");
        }
    }
    let mode = std::fs::metadata(&host.directories("vm/machines")[0]).expect("its directory");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o077, 0, "others can enter it");
    host.finish();
}

#[test]
fn second_programs() {
    let Some(host) = Host::start() else { return };
    host.detach("c", &[], "exec sleep 600");
    let done = host.exec("c", "echo out; echo err >&2; exit 4").code(4);
    assert_eq!((done.out().as_str(), done.err().as_str()), ("out\n", "err\n"));
    host.exec("c", "kill -9 $$").code(137);
    host.cli(&["exec", "c", "--", "/no/such/program"]).code(127);
    let counted = host.command(&["exec", "-i", "c", "--", "wc", "-c"]).stdin(vec![b'x'; 300_000]).run();
    assert_eq!(counted.ok(), "300000");
    let options = ["exec", "--user", "33:44", "--workdir", "/proc", "--env", "COLOUR=red", "c", "--"];
    let seen = host.cli(&[&options[..], &["sh", "-c", "id -u; id -g; pwd; echo $COLOUR"]].concat()).ok();
    assert_eq!(seen, "33\n44\n/proc\nred");
    // Several at one time, each with its own end.
    let running: Vec<_> = (1..=6)
        .map(|code| {
            let script = format!("sleep 0.1; echo {code}; exit {code}");
            host.command(&["exec", "c", "--", "sh", "-c", &script]).spawn()
        })
        .collect();
    for (code, running) in (1..).zip(running) {
        assert_eq!(running.end().code(code).out().trim(), code.to_string());
    }
    // One that never ends by itself goes with the guest.
    let mut lasting = host.command(&["exec", "c", "--", "sh", "-c", "echo ready; exec sleep 600"]).spawn();
    lasting.line_with("ready");
    host.cli(&["kill", "c"]).ok();
    assert_ne!(lasting.end().code, 0);
    host.finish();
}

#[test]
fn terminals() {
    let Some(host) = Host::start() else { return };
    let size = TtySize { columns: 91, rows: 33 };
    let mut shell = Terminal::hostler(&host, size, &["run", "-it", "--vm", "--name", "shell", "--", "sh"]);
    shell.wait_for("#");
    shell.type_in("stty size; test -t 0 && echo yes-a-$((40 + 2))\n");
    let shown = shell.wait_for("yes-a-42");
    assert!(shown.contains("33 91"), "{shown:?}");
    shell.resize(100, 40);
    shell.type_in("until [ \"$(stty size)\" = '40 100' ]; do sleep 0.02; done; echo resized-$((1 + 1))\n");
    shell.wait_for("resized-2");
    let mut second = Terminal::hostler(&host, TtySize { columns: 70, rows: 20 }, &["exec", "-it", "shell", "sh"]);
    second.wait_for("#");
    second.type_in("stty size; echo $((20 + 1))-seen; exit 4\n");
    let shown = second.wait_for("21-seen");
    assert!(shown.contains("20 70"), "{shown:?}");
    assert_eq!(second.end().0, Some(4));
    // Who comes later sees what is typed and shown.
    let mut third = Terminal::hostler(&host, size, &["attach", "shell"]);
    third.wait_for("resized-2");
    third.type_in("echo from-$((1 + 2))-attach\n");
    third.wait_for("from-3-attach");
    shell.wait_for("from-3-attach");
    shell.type_in("exit 3\n");
    assert_eq!(shell.end().0, Some(3));
    assert_eq!(third.end().0, Some(3));
    host.finish();
}
