//! `hostler run`: what a program gets and what of it comes back.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use hostler_tests::{TestNode, is_root, skip};

#[test]
fn exit_codes_are_the_programs() {
    let node = TestNode::new();
    std::fs::write(node.work().join("plain"), "#!/bin/sh\n").expect("write");
    std::fs::write(node.work().join("broken"), "#!/no/such/interpreter\n").expect("write");
    std::fs::set_permissions(node.work().join("broken"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let cases: &[(&[&str], i32)] = &[
        (&["true"], 0),
        (&["false"], 1),
        (&["sh", "-c", "exit 42"], 42),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["sh", "-c", "kill -SEGV $$"], 139),
        (&["no-such-program-anywhere"], 127),
        (&["/no/such/program"], 127),
        (&["./plain"], 126),
        (&["/"], 126),
        // Only the kernel knows that the interpreter is missing; a shell says 127 as well.
        (&["./broken"], 127),
    ];
    for (command, code) in cases {
        let output = node.cli(&[&["run", "--"], *command].concat());
        assert_eq!(output.code, *code, "{command:?}: {}", output.err());
        if *code >= 126 && *code < 128 {
            assert!(output.err().contains("hostler: "), "{command:?}: {}", output.err());
        }
    }
    node.finish();
}

#[test]
fn stdout_and_stderr_stay_apart_byte_for_byte() {
    let node = TestNode::new();
    let output =
        node.cli(&["run", "--", "sh", "-c", "printf 'out\\000\\377 no newline'; printf 'err\\n\\n' >&2; exit 3"]);
    assert_eq!((output.code, output.stdout.as_slice()), (3, b"out\0\xff no newline".as_slice()));
    assert_eq!(output.stderr, b"err\n\n");
    let silent = node.cli(&["run", "--", "true"]).code(0);
    assert!(silent.stdout.is_empty() && silent.stderr.is_empty(), "{silent:?}");
    node.finish();
}

#[test]
fn large_stdin_comes_back_as_large_stdout() {
    let node = TestNode::new();
    let data: Vec<u8> = (0..5_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let output = node.command(&["run", "-i", "--", "cat"]).stdin(data.clone()).run().code(0);
    assert!(output.stdout == data, "{} of {} bytes came back", output.stdout.len(), data.len());
    // Without -i there is nothing to read.
    let output = node.command(&["run", "--", "cat"]).stdin("not for it").run().code(0);
    assert!(output.stdout.is_empty(), "{output:?}");
    // A program that does not read does not keep the command from ending.
    let output = node.command(&["run", "-i", "--", "echo", "done"]).stdin(data).run();
    assert_eq!(output.ok(), "done");
    node.finish();
}

#[test]
fn detached_runs_have_an_id_and_can_be_removed() {
    let node = TestNode::new();
    let id = node.cli(&["run", "-d", "--name", "back", "--", "sleep", "60"]).ok();
    assert_eq!(id.len(), 12, "{id}");
    assert_eq!(node.cli(&["ps", "-q"]).ok(), id);
    node.cli(&["run", "--name", "back", "--", "true"]).refused(125, "back is the name of workload");
    assert!(node.cli(&["run", "--name", "back", "--", "true"]).err().contains("hostler rm -f back"));
    node.cli(&["rm", "-f", "back"]).ok();
    node.wait_kind("back", "workload.removed");
    // The name is free again; --rm leaves nothing behind.
    assert_eq!(node.cli(&["run", "--rm", "--name", "back", "--", "echo", "again"]).ok(), "again");
    node.wait_event("the second removal", |event| {
        event.event.kind.name() == "workload.removed"
            && event.event.subject.as_ref().is_some_and(|subject| subject.workload.to_string() != id)
    });
    assert_eq!(node.cli(&["ps", "-aq"]).ok(), "");
    node.cli(&["run", "-d", "--", "no-such-program-anywhere"]).code(127);
    assert_eq!(node.cli(&["ps", "-aq"]).ok(), "");
    node.finish();
}

#[test]
fn the_environment_is_byte_exact() {
    let node = TestNode::new();
    std::fs::write(node.work().join("env"), b"# comment\nFILE=from file\nBOTH=file\nODD=\xfe\xff\nCALLER\n")
        .expect("write");
    let show = r#"printf '%s|' "$FILE" "$BOTH" "$ODD" "$CALLER" "$RAW" "${DAEMON-unset}" "$HOSTLER_NAME""#;
    let raw = OsStr::from_bytes(b"RAW=\x80 a=b ");
    let output = node
        .command(&["run", "--name", "named", "--env-file", "env", "--env", "BOTH=option", "--env"])
        .arg(raw)
        .arg("--")
        .arg("sh")
        .arg("-c")
        .arg(show)
        .env("CALLER", OsStr::from_bytes(b"c\xe4"))
        .env("DAEMON", "must not get in")
        .run()
        .code(0);
    assert_eq!(output.stdout, b"from file|option|\xfe\xff|c\xe4|\x80 a=b |unset|named|");
    // An argument need not be text either.
    let output = node.command(&["run", "--", "printf", "%s"]).arg(OsStr::from_bytes(b"\xff\x01")).run().code(0);
    assert_eq!(output.stdout, b"\xff\x01");
    node.cli(&["run", "--env", "=x", "--", "true"]).refused(2, "KEY=VALUE");
    node.finish();
}

#[test]
fn the_working_directory_is_the_callers_or_the_one_named() {
    let node = TestNode::new();
    assert_eq!(node.cli(&["run", "--", "pwd"]).ok(), node.work().display().to_string());
    assert_eq!(node.cli(&["run", "--workdir", "/usr", "--", "pwd"]).ok(), "/usr");
    std::fs::create_dir(node.work().join("below")).expect("mkdir");
    assert_eq!(node.cli(&["run", "-w", "below", "--", "pwd"]).ok(), node.work().join("below").display().to_string());
    node.cli(&["run", "--workdir", "/no/such", "--", "pwd"]).refused(125, "/no/such");
    node.finish();
}

#[test]
fn another_user_without_other_groups() {
    if !is_root() {
        return skip("running work as another user needs root");
    }
    let node = TestNode::new();
    let id = "id -u; id -g; id -G; grep -E 'NoNewPrivs|CapEff' /proc/self/status";
    let output = node.cli(&["run", "--user", "65534:65533", "--", "sh", "-c", id]).ok();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(&lines[..2], ["65534", "65533"], "{output}");
    assert!(!lines[2].split(' ').any(|group| group == "0"), "root's groups are kept: {output}");
    assert!(output.contains("CapEff:\t0000000000000000") && output.contains("NoNewPrivs:\t1"), "{output}");
    assert_eq!(node.cli(&["run", "--user", "nobody", "--", "id", "-un"]).ok(), "nobody");
    node.cli(&["run", "--user", "no-such-user", "--", "true"]).refused(125, "no-such-user");
    node.finish();
}

#[test]
fn files_for_the_standard_streams() {
    let node = TestNode::new();
    std::fs::write(node.work().join("in"), "from a file\n").expect("write");
    std::fs::write(node.work().join("out"), "before\n").expect("write");
    let script = "cat; echo problem >&2";
    let line =
        ["run", "--name", "files", "--stdin", "in", "--stdout", "out", "--stderr", "err", "--", "sh", "-c", script];
    let output = node.cli(&line).code(0);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let read = |name: &str| std::fs::read_to_string(node.work().join(name)).expect("a file");
    assert_eq!((read("out").as_str(), read("err").as_str()), ("before\nfrom a file\n", "problem\n"));
    node.cli(&["run", "--stdin", "absent", "--", "cat"]).code(125);
    node.cli(&["run", "--stdin", "in", "-i", "--", "cat"]).code(2);
    node.finish();
}

#[test]
fn rlimits_reach_the_program() {
    let node = TestNode::new();
    let limits = ["--rlimit", "nofile=77:99", "--rlimit", "core=0"];
    let line = [&["run"], limits.as_slice(), &["--", "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c"]].concat();
    assert_eq!(node.cli(&line).ok(), "77\n99\n0");
    // Whatever the daemon has: what programs expect.
    assert_eq!(node.cli(&["run", "--", "sh", "-c", "ulimit -Sn"]).ok(), "1024");
    node.cli(&["run", "--rlimit", "nofile=9:5", "--", "true"]).code(125);
    node.finish();
}

#[test]
fn signals_to_the_command_reach_the_program() {
    let node = TestNode::new();
    let script = "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.02; done";
    let mut run = node.command(&["run", "--", "sh", "-c", script]).spawn();
    assert_eq!(run.next_line(), "ready");
    run.signal(2);
    assert_eq!(run.next_line(), "caught");
    run.end().code(9);
    node.finish();
}

#[test]
fn programs_begin_with_a_clean_slate() {
    let node = TestNode::new();
    // Descriptors of agent or daemon, blocked or ignored signals, and a lower OOM score must not be inherited.
    let script = "ls /proc/self/fd | wc -l; grep -E '^(SigBlk|SigIgn)' /proc/self/status; cat /proc/self/oom_score_adj";
    let output = node.cli(&["run", "--", "sh", "-c", script]).ok();
    let lines: Vec<&str> = output.lines().collect();
    // 0, 1, 2 and the directory that `ls` reads.
    assert_eq!(lines[0].trim(), "4", "{output}");
    // 32 and 33 are glibc's own, and it lets nobody reset them.
    assert!(
        lines[1].ends_with("0000000000000000")
            && (lines[2].ends_with("0000000000000000") || lines[2].ends_with("0000000180000000")),
        "{output}"
    );
    assert_eq!(lines[3], std::fs::read_to_string("/proc/self/oom_score_adj").expect("readable").trim(), "{output}");
    node.finish();
}
