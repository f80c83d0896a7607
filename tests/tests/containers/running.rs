//! Options of `run`: each is shown by what a program in the container sees.

use hostler_tests::container::Oci;
use hostler_tests::{PATIENCE, until, with_each_oci_runtime};

with_each_oci_runtime! {
    what_a_program_sees,
    volumes,
    by_default_nothing_of_the_machine,
    capabilities_and_privileges,
    devices,
    networks,
    user_ids_of_its_own,
    privileged,
    files_for_its_streams,
    a_terminal,
}

/// Options, a script, and the words that it must print, all in one node: `~` before the words says that they must not be there.
fn check(oci: Oci, cases: &[(&[&str], &str, &str)]) {
    let place = oci.start();
    for (options, script, expected) in cases {
        let done = place.sh(options, script);
        let said = format!("{}{}", done.out(), done.err());
        let found = match expected.strip_prefix('~') {
            Some(absent) => !said.contains(absent),
            None => said.contains(expected),
        };
        assert!(found, "{options:?} {script:?} says {said:?}, and not {expected:?}");
    }
    place.finish();
}

fn what_a_program_sees(oci: Oci) {
    check(
        oci,
        &[
            (&[], "pwd; id -u; echo ok", "/\n0\nok"),
            (&[], "echo $$", "1\n"),
            (&["--name", "by-name"], "hostname", "by-name"),
            (&["--hostname", "box.example"], "hostname", "box.example"),
            (&["--read-only"], "touch /x", "Read-only file system"),
            (&["--read-only", "--tmpfs", "/scratch"], "touch /scratch/x && echo written", "written"),
            (&["--tmpfs", "/t:size=1M,mode=750"], "stat -c %a /t; df /t | tail -n 1", "750\ntmpfs"),
            (&["--tmpfs", "/t:size=1M"], "dd if=/dev/zero of=/t/x bs=64k count=40 2>&1", "No space left"),
            (&["--tmpfs", "/t"], "cp /bin/busybox /t/echo; /t/echo hello", "Permission denied"),
            (&["--tmpfs", "/t:exec"], "cp /bin/busybox /t/echo; /t/echo hello", "hello"),
            (&["--workdir", "/srv"], "pwd", "/srv\n"),
            (&["--workdir", "/made/for/it"], "pwd", "/made/for/it\n"),
            (&["--user", "web"], "id", "uid=33(web) gid=44(web) groups=55(extra)"),
            (&["--user", "web"], "echo $HOME", "/srv"),
            (&["--user", "1234:5678"], "id -u; id -g", "1234\n5678\n"),
            (&["--user", "web"], "grep CapEff /proc/self/status", "CapEff:\t0000000000000000"),
            (&["--env", "COLOUR=red", "--env", "EMPTY="], "env", "COLOUR=red"),
            (&[], "echo $PATH", "/usr/bin:/sbin:/bin"),
            (&["--name", "seen"], "echo $HOSTLER_NAME", "seen"),
            (&["--ulimit", "nofile=123:456"], "ulimit -Sn; ulimit -Hn", "123\n456\n"),
            (&["--rlimit", "core=0"], "ulimit -c", "0\n"),
            (&["--no-pivot"], "ls / && echo here", "here"),
            (&["--memory", "64M"], "cat /sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864"),
            (&["--pids", "7"], "cat /sys/fs/cgroup/pids/pids.max", "7\n"),
            (&["--oci-runtime-arg", "--debug"], "echo with an argument", "with an argument"),
        ],
    );
}

fn volumes(oci: Oci) {
    let place = oci.start();
    let work = place.work();
    std::fs::create_dir(work.join("data")).expect("a directory");
    std::fs::write(work.join("data/file"), "from the machine\n").expect("a file");
    std::fs::write(work.join("single"), "one file\n").expect("a file");
    // Relative to where the command is typed.
    let both = ["--volume", "data:/data", "--volume", "data:/seen:ro", "--volume", "./single:/etc/single:ro"];
    let script = "cat /data/file /etc/single; echo new >/data/made; cat /seen/made; touch /seen/x; echo x >/etc/single";
    let done = place.sh(&both, script).code(1);
    assert_eq!(done.out(), "from the machine\none file\nnew\n");
    assert_eq!(done.err().matches("Read-only file system").count(), 2, "{}", done.err());
    assert_eq!(std::fs::read_to_string(work.join("data/made")).expect("made inside"), "new\n");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&*work.to_string_lossy()), "a volume is seen outside:\n{mounts}");
    place.finish();
}

fn by_default_nothing_of_the_machine(oci: Oci) {
    let place = oci.start();
    let script = "ls /proc | grep -c '^[0-9]*$'; ls -A /sys/class/net; ip -o link | wc -l; cat /proc/self/status | grep -e \
                  NoNewPrivs -e CapEff; ls /dev | grep -c -e sd -e vd -e kvm -e mem -e loop; readlink /proc/1/exe";
    let seen = place.sh(&[], script).out();
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0].parse::<u32>().is_ok_and(|count| count < 8), "processes of the machine: {seen}");
    assert_eq!(lines[1], "lo", "{seen}");
    assert!(seen.contains("CapEff:\t00000000a00405fb"), "{seen}");
    assert!(seen.contains("NoNewPrivs:\t1"), "{seen}");
    assert_eq!(lines[lines.len() - 2], "0", "devices of the machine: {seen}");
    // Namespaces of its own, each of them.
    let pid = place.detach("own", &[], "sleep 600");
    for kind in ["pid", "mnt", "uts", "ipc", "net", "cgroup"] {
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("a namespace");
        assert_ne!(link("self"), link(&pid.to_string()), "{kind}");
    }
    place.finish();
}

fn capabilities_and_privileges(oci: Oci) {
    check(
        oci,
        &[
            (&["--cap-drop", "ALL"], "grep CapBnd /proc/self/status", "CapBnd:\t0000000000000000"),
            (&["--cap-drop", "CHOWN"], "touch /tmp/x; chown 1 /tmp/x", "Operation not permitted"),
            (&["--cap-drop", "ALL", "--cap-add", "KILL"], "grep CapEff /proc/self/status", "0000000000000020"),
            (&[], "hostname other", "Operation not permitted"),
            (&["--cap-add", "SYS_ADMIN"], "hostname other && hostname", "other"),
            (&["--cap-add", "NET_ADMIN"], "ip link set lo mtu 1400 && ip link", "mtu 1400"),
            (&["--cap-add", "NET_RAW"], "ip link set lo up; ping -c 1 127.0.0.1 2>&1; echo done", "done"),
            (&["--security-opt", "no-new-privileges=false"], "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t0"),
            (&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
            (&["--security-opt", "systempaths=unconfined"], "grep -c ' /proc/' /proc/mounts", "0\n"),
            (&[], "grep -c ' /proc/' /proc/mounts; echo none", "~0\nnone"),
            (&["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status", "Seccomp:\t0"),
        ],
    );
}

fn devices(oci: Oci) {
    check(
        oci,
        &[
            (&[], "head -c 3 /dev/zero | wc -c; echo x >/dev/null && echo fine", "3\nfine"),
            (&[], "ls /dev/fuse", "No such file"),
            (&["--device", "/dev/null:/dev/nothing"], "echo x >/dev/nothing && stat -c %t,%T /dev/nothing", "1,3"),
            (&["--device", "/dev/full:/dev/given:r"], "head -c 2 /dev/given | wc -c; echo x >/dev/given", "2\n"),
            (&["--cap-add", "MKNOD"], "mknod /tmp/disk b 7 0; cat /tmp/disk", "Operation not permitted"),
        ],
    );
}

fn networks(oci: Oci) {
    let place = oci.start();
    let link = std::fs::read_link("/proc/self/ns/net").expect("a namespace").display().to_string();
    let inside = |options: &[&str]| place.sh(options, "readlink /proc/self/ns/net; ip -o link | wc -l").ok();
    assert!(!inside(&["--net", "none"]).contains(&link));
    assert!(inside(&["--net", "none"]).ends_with("\n1"));
    assert!(inside(&["--net", "host"]).contains(&link));
    // The network namespace of another container, by its path.
    let pid =
        place.detach("first", &["--cap-add", "NET_ADMIN"], "ip link set lo up; nc -l -p 80 -e echo hello; sleep 600");
    let path = format!("/proc/{pid}/ns/net");
    let other = std::fs::read_link(&path).expect("a namespace").display().to_string();
    assert!(inside(&["--net", &path]).contains(&other));
    let talk = "until nc 127.0.0.1 80 </dev/null; do sleep 0.05; done";
    assert_eq!(place.sh(&["--net", &path], talk).ok(), "hello");
    place.sh(&["--net", "no-such-namespace"], "true").refused(125, "/run/netns/no-such-namespace");
    place.finish();
}

fn user_ids_of_its_own(oci: Oci) {
    let place = oci.start();
    let pids = ["one", "two"]
        .map(|name| place.detach(name, &["--userns", "auto"], "id -u; touch /tmp/$HOSTLER_NAME; sleep 600"));
    let map = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("a map");
    let firsts = pids.map(|pid| {
        let map = map(pid);
        let words: Vec<u32> = map.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        assert_eq!((words[0], words[2]), (0, 65_536), "{map}");
        assert!(words[1] > 0, "{map}");
        words[1]
    });
    assert!(firsts[0].abs_diff(firsts[1]) >= 65_536, "{firsts:?}");
    assert_eq!(place.log_of("one"), "0");
    assert_eq!(std::fs::read_dir(place.root().join("user-ids")).expect("claims").count(), 2);
    // What is done as root inside is done as nobody in particular outside.
    assert_eq!(place.exec("one", "id -u").ok(), "0");
    let stats = std::fs::metadata(format!("/proc/{}", pids[0])).expect("a process");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&stats), firsts[0]);
    place.cli(&["rm", "-f", "one"]).ok();
    place.wait_kind("one", "workload.removed");
    let claims = || std::fs::read_dir(place.root().join("user-ids")).expect("claims").count();
    until("ids that are given back", PATIENCE, || (claims() == 1).then_some(()));
    place.finish();
}

fn privileged(oci: Oci) {
    let place = oci.start();
    let script = "grep CapEff /proc/self/status; mount -t tmpfs none /tmp && echo mounted; hostname changed && hostname; \
                  ls -d /dev/loop-control; echo 1 >/proc/sys/net/ipv4/ip_forward && echo written";
    let seen = place.sh(&["--privileged", "--name", "p"], script).out();
    assert!(seen.contains("mounted\nchanged\n") && seen.ends_with("written\n"), "{seen}");
    let ours = std::fs::read_to_string("/proc/self/status").expect("a status");
    let bound = ours.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).expect("a set");
    assert!(seen.contains(bound), "not all that the node has ({bound}): {seen}");
    assert_eq!(place.cli(&["inspect", "p"]).json()[0]["spec"]["container"]["privileged"], true);
    assert!(place.daemon_log().contains("starting a privileged container"), "{}", place.daemon_log());
    place.finish();
}

fn files_for_its_streams(oci: Oci) {
    let place = oci.start();
    let mut spec = place.script("cat; echo wrong >&2");
    spec.workdir = None;
    spec.container = Some(Box::new(place.container()));
    std::fs::write(place.work().join("in"), "from a file\n").expect("write");
    let at = |name: &str| Some(place.work().join(name).as_os_str().into());
    (spec.stdio.stdin, spec.stdio.stdout, spec.stdio.stderr) = (at("in"), at("out"), at("err"));
    let view = place.create(&spec);
    assert_eq!(place.ended(&view.workload.id.to_string()).exit_code, Some(0));
    let read = |name: &str| std::fs::read_to_string(place.work().join(name)).expect("written");
    assert_eq!((read("out").as_str(), read("err").as_str()), ("from a file\n", "wrong\n"));
    // And what is piped in by the one who asks.
    let rootfs = place.rootfs().display().to_string();
    let run = ["run", "-i", "--oci-runtime", oci.name, "--rootfs", &rootfs, "--", "wc", "-c"];
    assert_eq!(place.command(&run).stdin(vec![b'x'; 300_000]).run().ok(), "300000");
    place.finish();
}

fn a_terminal(oci: Oci) {
    use hostler_model::spec::TtySize;
    let place = oci.start();
    let rootfs = place.rootfs().display().to_string();
    let size = TtySize { columns: 91, rows: 33 };
    let run = ["run", "-it", "--name", "shell", "--oci-runtime", oci.name, "--rootfs", &rootfs, "--", "sh"];
    let mut shell = hostler_tests::pty::Terminal::hostler(&place, size, &run);
    shell.wait_for("#");
    shell.type_in("stty size; test -t 0 && echo yes-a-$((40 + 2))\n");
    let shown = shell.wait_for("yes-a-42");
    assert!(shown.contains("33 91"), "{shown:?}");
    shell.resize(100, 40);
    shell.type_in("until [ \"$(stty size)\" = '40 100' ]; do sleep 0.02; done; echo resized-$((1 + 1))\n");
    shell.wait_for("resized-2");
    // A second program on a terminal of its own.
    let mut second = hostler_tests::pty::Terminal::hostler(&place, size, &["exec", "-it", "shell", "sh"]);
    second.wait_for("#");
    second.type_in("tty; echo $PPID-parent; exit 4\n");
    second.wait_for("-parent");
    assert_eq!(second.end().0, Some(4));
    shell.type_in("exit 3\n");
    assert_eq!(shell.end().0, Some(3));
    place.finish();
}
