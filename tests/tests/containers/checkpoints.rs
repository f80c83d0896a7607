//! Images of running containers: made, listed, removed, gone on from, in place and anew; and every way in which that can
//! go wrong.

use hostler_model::event::EventKind;
use hostler_tests::container::{self, Oci, Place};
use hostler_tests::stand_in::{StandIn, Wrong};
use hostler_tests::{PATIENCE, Setup, pty, signal, until, until_gone, with_each_oci_runtime};

with_each_oci_runtime! {
    it_goes_on,
    with_its_options,
    in_place,
    as_a_new_workload,
    in_a_directory_of_ones_own,
    names_and_errors,
    with_a_terminal,
    with_a_connection,
    second_programs,
    the_daemon_dies_during_one,
    one_without_criu,
    of_a_user_namespace,
    it_outlives_its_workload,
}

const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done";

fn numbers(place: &Place, name: &str) -> Vec<u32> {
    place.log_of(name).lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// Waits until it has counted on by so many.
fn counts_on(place: &Place, name: &str) {
    let before = numbers(place, name).len();
    until(&format!("{name} counts on"), PATIENCE, || (numbers(place, name).len() > before + 3).then_some(()));
}

fn begin(oci: Oci) -> Option<Place> {
    let place = oci.start_with_criu()?;
    place.detach("c", &[], COUNT);
    counts_on(&place, "c");
    Some(place)
}

fn listed(place: &Place) -> Vec<serde_json::Value> {
    place.cli(&["--json", "checkpoint", "ls"]).json().as_array().expect("a list").clone()
}

fn it_goes_on(oci: Oci) {
    let Some(place) = begin(oci) else { return };
    let pid = place.main_pid("c");
    let name = place.cli(&["checkpoint", "create", "c"]).ok();
    assert!(name.starts_with("c-"), "{name}");
    assert_eq!(place.main_pid("c"), pid);
    counts_on(&place, "c");
    place.wait_event("the checkpoint", |view| {
        matches!(&view.event.kind, EventKind::RunCheckpointed { checkpoint, exit: false } if checkpoint.as_str() == name)
    });
    let all = listed(&place);
    assert_eq!((all.len(), all[0]["name"].as_str()), (1, Some(name.as_str())));
    let shown = place.cli(&["checkpoint", "inspect", &name]).json()[0].clone();
    assert!(shown["size_bytes"].as_u64().is_some_and(|size| size > 10_000) && shown["workload_name"] == "c", "{shown}");
    let table = place.cli(&["checkpoint", "ls", "c"]).ok();
    assert!(table.contains(&name) && table.contains("WORKLOAD"), "{table}");
    assert!(!place.cli(&["checkpoint", "ls", "other"]).ok().contains(&name));
    place.cli(&["checkpoint", "rm", &name]).ok();
    assert_eq!(listed(&place).len(), 0);
    let all = numbers(&place, "c");
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "{all:?}");
    place.finish();
}

/// What was asked of CRIU is asked of it at the restore as well, and told.
fn with_its_options(oci: Oci) {
    let Some(place) = oci.start_with_criu() else { return };
    place.detach("c", &["--net", "none"], COUNT);
    counts_on(&place, "c");
    let options = [&["--empty-ns", "net"][..], &["--ext-unix-sk", "--shell-job"], &["--tcp-established"]];
    for (number, flags) in options.iter().enumerate() {
        let name = format!("k{number}");
        place.cli(&[&["checkpoint", "create", "--exit"], *flags, &["c", &name]].concat()).ok();
        let told = place.cli(&["checkpoint", "inspect", &name]).json()[0]["options"].clone();
        let expected = [number == 2, number == 1, number == 1, number == 0];
        let names = ["tcp_established", "ext_unix_sk", "shell_job", "empty_ns_net"];
        assert_eq!(names.map(|option| told[option].as_bool()), expected.map(Some), "{told}");
        place.cli(&["start", "--checkpoint", &name, "c"]).ok();
        counts_on(&place, "c");
        let links = place.exec("c", "cat /proc/net/dev").ok();
        assert!(links.contains("lo:") && !links.contains("eth"), "{links}");
        place.cli(&["checkpoint", "rm", &name]).ok();
    }
    place.cli(&["checkpoint", "create", "--empty-ns", "pid", "c"]).code(2);
    place.finish();
}

fn in_place(oci: Oci) {
    let Some(mut place) = begin(oci) else { return };
    let pid = place.main_pid("c");
    place.cli(&["checkpoint", "create", "--exit", "c", "k"]).ok();
    until_gone(pid);
    place.ended("c");
    let history = place.history("c");
    assert_eq!(history[3..], ["run.checkpointed", "run.exited"], "{history:?}");
    // As often as one likes, by whichever daemon.
    for runs in 2..4 {
        place.cli(&["start", "--checkpoint", "k", "c"]).ok();
        place.main_pid("c");
        counts_on(&place, "c");
        assert_eq!(place.inspect("c").workload.runs, runs);
        let told = place.wait_event("a restored start", |view| {
            let of_it = view.event.subject.as_ref().is_some_and(|subject| subject.runs == runs);
            of_it && matches!(&view.event.kind, EventKind::RunStarted { restored_from: Some(name), .. } if name.as_str() == "k")
        });
        drop(told);
        assert_eq!(place.exec("c", "echo here").ok(), "here");
        place.kill_and_start();
        counts_on(&place, "c");
        place.cli(&["stop", "-t", "0s", "c"]).ok();
    }
    // From its beginning again.
    place.cli(&["start", "c"]).ok();
    place.main_pid("c");
    until("a new count", PATIENCE, || numbers(&place, "c").into_iter().filter(|number| *number == 1).nth(1));
    place.cli(&["start", "--checkpoint", "k", "c"]).refused(1, "running");
    place.cli(&["rm", "-f", "c"]).ok();
    place.cli(&["checkpoint", "rm", "k"]).ok();
    place.finish();
}

fn as_a_new_workload(oci: Oci) {
    let Some(place) = begin(oci) else { return };
    place.cli(&["checkpoint", "create", "c", "k"]).ok();
    let last = numbers(&place, "c").len() as u32;
    place.cli(&["checkpoint", "restore", "--name", "one", "k"]).ok();
    place.cli(&["checkpoint", "restore", "--name", "two", "k"]).ok();
    for name in ["one", "two"] {
        counts_on(&place, name);
        let first = numbers(&place, name)[0];
        assert!(first > 3 && first <= last + 3, "{name} begins with {first}, and the image was made at about {last}");
        assert_eq!(place.exec(name, "echo $HOSTLER_NAME").ok(), name);
    }
    counts_on(&place, "c");
    place.cli(&["checkpoint", "restore", "--name", "one", "k"]).code(1);
    assert!(place.cli(&["inspect", "one"]).ok().contains("\"k\""));
    place.cli(&["checkpoint", "rm", "k"]).ok();
    counts_on(&place, "one");
    place.finish();
}

fn in_a_directory_of_ones_own(oci: Oci) {
    let Some(place) = begin(oci) else { return };
    let directory = place.work().join("images").display().to_string();
    place.cli(&["checkpoint", "create", "--exit", "--dir", &directory, "c", "k"]).ok();
    assert_eq!(listed(&place).len(), 0, "it is elsewhere");
    assert!(place.cli(&["checkpoint", "ls", "--dir", &directory]).ok().contains('k'));
    // It may be moved, and is found where it is now.
    let moved = place.work().join("moved").display().to_string();
    std::fs::rename(&directory, &moved).expect("moved");
    place.cli(&["checkpoint", "inspect", "--dir", &directory, "k"]).code(1);
    place.cli(&["start", "--checkpoint", "k", "--checkpoint-dir", "moved", "c"]).ok();
    counts_on(&place, "c");
    place.cli(&["checkpoint", "restore", "--dir", &moved, "--name", "other", "k"]).ok();
    counts_on(&place, "other");
    place.cli(&["checkpoint", "rm", "--dir", &moved, "k"]).ok();
    place.finish();
}

fn names_and_errors(oci: Oci) {
    let Some(place) = begin(oci) else { return };
    place.cli(&["checkpoint", "create", "c", "k"]).ok();
    place.cli(&["checkpoint", "create", "c", "k"]).refused(1, "there is a checkpoint k");
    for bad in ["../k", ".", "a/b", "", "-x-"] {
        assert_ne!(place.cli(&["checkpoint", "create", "c", bad]).code, 0, "{bad:?}");
    }
    place.cli(&["checkpoint", "create", "nobody"]).refused(1, "nobody");
    place.cli(&["checkpoint", "inspect", "no-such"]).refused(1, "there is no checkpoint no-such");
    place.cli(&["checkpoint", "rm", "no-such"]).refused(1, "there is no checkpoint no-such");
    place.cli(&["checkpoint", "restore", "no-such"]).refused(1, "there is no checkpoint no-such");
    place.cli(&["checkpoint", "create", "--dir", "/proc/nowhere", "c"]).refused(1, "/proc/nowhere");
    // What is no checkpoint is not removed as one, and nobody else may put anything in the way of one.
    let (site, open) = (place.work().join("site/images"), place.work().join("open"));
    std::fs::create_dir_all(&site).expect("directories");
    std::fs::write(site.join("logo.png"), "a picture").expect("a file");
    let work = place.work().display().to_string();
    place.cli(&["checkpoint", "rm", "--dir", &work, "site"]).refused(1, "there is no checkpoint site");
    assert!(site.join("logo.png").exists());
    std::fs::create_dir(&open).expect("a directory");
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("chmod");
    place.cli(&["checkpoint", "create", "--dir", &open.display().to_string(), "c"]).refused(1, "can change");
    place.detach("d", &[], "sleep 600");
    place.cli(&["start", "--checkpoint", "k", "d"]).refused(1, "is of c, not of d");
    place.cli(&["run", "-d", "--name", "process", "--", "sleep", "600"]).ok();
    place.cli(&["checkpoint", "create", "process"]).refused(1, "only containers can be checkpointed");
    place.cli(&["pause", "c"]).ok();
    place.cli(&["checkpoint", "create", "c", "paused"]).refused(1, "is paused");
    place.cli(&["resume", "c"]).ok();
    place.cli(&["stop", "-t", "0s", "c"]).ok();
    place.cli(&["checkpoint", "create", "c", "ended"]).refused(1, "not running");
    // A damaged image is a failed run and nothing else.
    let images = place.root().join("checkpoints/default/k/images");
    for entry in std::fs::read_dir(&images)
        .expect("images")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("core-"))
    {
        std::fs::write(entry.path(), "garbage").expect("damage");
    }
    place.cli(&["start", "--checkpoint", "k", "c"]).code(1);
    let told = place.wait_kind("c", "run.failed");
    let EventKind::RunFailed { failure } = &told.event.kind else { panic!("{told:?}") };
    assert!(
        failure.message.contains("could not restore the container") && failure.message.contains("CRIU says"),
        "{}",
        failure.message
    );
    place.cli(&["checkpoint", "rm", "k"]).ok();
    place.finish();
}

fn with_a_terminal(oci: Oci) {
    let Some(place) = oci.start_with_criu() else { return };
    place.sh(&["-dt", "--name", "t"], COUNT).ok();
    counts_on(&place, "t");
    place.cli(&["checkpoint", "create", "--exit", "--shell-job", "t", "k"]).ok();
    place.cli(&["start", "--checkpoint", "k", "t"]).ok();
    counts_on(&place, "t");
    // Somebody can look at it again.
    let size = hostler_model::spec::TtySize { columns: 80, rows: 25 };
    let mut terminal = pty::Terminal::hostler(&place, size, &["attach", "t"]);
    let next = numbers(&place, "t").last().copied().unwrap_or(0) + 5;
    terminal.wait_for(&next.to_string());
    drop(terminal);
    place.cli(&["checkpoint", "rm", "k"]).ok();
    place.finish();
}

const TALK: &str = "import socket, threading, time
server = socket.create_server(('127.0.0.1', 8080))
def serve():
    there = server.accept()[0].makefile('rw')
    for line in there:
        there.write(line)
        there.flush()
threading.Thread(target=serve, daemon=True).start()
here = socket.create_connection(('127.0.0.1', 8080)).makefile('rw')
i = 0
while True:
    i += 1
    here.write(f'{i}\\n')
    here.flush()
    print(here.readline().strip(), flush=True)
    time.sleep(0.02)
";

/// Both ends of the connection are in the container's own network.
fn with_a_connection(oci: Oci) {
    let Some(debian) = container::debian() else { return };
    let Some(place) = oci.start_with_criu() else { return };
    let root = debian.display().to_string();
    place
        .cli(&[
            "run",
            "-d",
            "--name",
            "tcp",
            "--oci-runtime",
            oci.name,
            "--rootfs",
            &root,
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--",
            "python3",
            "-c",
            TALK,
        ])
        .ok();
    counts_on(&place, "tcp");
    let refused = place.cli(&["checkpoint", "create", "--exit", "tcp", "k"]).code(1);
    assert!(refused.err().contains("--tcp-established"), "{}", refused.err());
    counts_on(&place, "tcp");
    place.cli(&["checkpoint", "create", "--exit", "--tcp-established", "tcp", "k"]).ok();
    place.cli(&["start", "--checkpoint", "k", "tcp"]).ok();
    counts_on(&place, "tcp");
    let all = numbers(&place, "tcp");
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] == pair[0]), "{all:?}");
    place.cli(&["checkpoint", "rm", "k"]).ok();
    place.finish();
}

/// They are not of the image: they are told to have ended with the container, and the restored one has none.
fn second_programs(oci: Oci) {
    let Some(place) = begin(oci) else { return };
    let mut exec = place.command(&["exec", "c", "--", "sh", "-c", "echo ready; sleep 600"]).spawn();
    exec.line_with("ready");
    place.cli(&["checkpoint", "create", "c", "goes-on"]).ok();
    assert!(place.cli(&["top", "c"]).ok().contains("sleep 600"));
    place.cli(&["checkpoint", "create", "--exit", "c", "k"]).ok();
    exec.end().code(137);
    place.ended("c");
    let history = place.history("c");
    assert_eq!(history.last().map(String::as_str), Some("run.exited"), "{history:?}");
    assert!(history.contains(&"exec.exited".to_owned()), "{history:?}");
    place.cli(&["start", "--checkpoint", "k", "c"]).ok();
    counts_on(&place, "c");
    assert!(!place.cli(&["top", "c"]).ok().contains("sleep 600"));
    assert_eq!(place.exec("c", "echo here").ok(), "here");
    place.cli(&["checkpoint", "rm", "k", "goes-on"]).ok();
    place.finish();
}

/// What it was about to make is no checkpoint, and does not stand in the way of the next.
fn the_daemon_dies_during_one(oci: Oci) {
    let Some(criu) = (oci.name == "runc").then(container::criu).flatten() else { return };
    let setup = Setup::new().config(&format!("[oci]\ncriu_dir = {:?}\n", criu.display().to_string()));
    let mut place = oci.start_with(setup.env("HOSTLER_TEST_OCI_CALL_MS", "3000"));
    let stand_in = StandIn::new(place.work().join("stand-in"), oci);
    let (program, rootfs) = (stand_in.program().display().to_string(), place.rootfs().display().to_string());
    place
        .cli(&["run", "-d", "--name", "c", "--oci-runtime", &program, "--rootfs", &rootfs, "--", "sh", "-c", COUNT])
        .ok();
    counts_on(&place, "c");
    stand_in.set("checkpoint", Wrong::Freeze);
    let asked = place.command(&["checkpoint", "create", "c", "k"]).spawn();
    until("the call", PATIENCE, || (stand_in.count("checkpoint") == 1).then_some(()));
    place.kill_and_start();
    drop(asked);
    assert_eq!(listed(&place).len(), 0);
    place.cli(&["checkpoint", "create", "c", "k"]).code(1);
    // It is given up in its time, and the container goes on.
    stand_in.clear("checkpoint");
    counts_on(&place, "c");
    until("room for the next", PATIENCE, || {
        (place.cli(&["checkpoint", "create", "c", "next"]).code == 0).then_some(())
    });
    // What was not finished can be removed by its name.
    place.cli(&["checkpoint", "rm", "k", "next"]).ok();
    place.finish();
}

fn one_without_criu(oci: Oci) {
    // A directory without CRIU comes first, and what the machine has may not work.
    let place = oci.start();
    place.detach("c", &[], COUNT);
    if container::program("criu").is_none() {
        let refused = place.cli(&["checkpoint", "create", "c", "k"]).code(1);
        assert!(
            refused.err().contains(&format!("{} could not checkpoint the container", oci.name)),
            "{}",
            refused.err()
        );
        assert_eq!(listed(&place).len(), 0);
        counts_on(&place, "c");
        place.cli(&["checkpoint", "create", "--exit", "c", "k"]).code(1);
        assert_eq!(place.inspect("c").phase.as_str(), "running");
    }
    place.finish();
}

/// CRIU would bring back the old ids, and those may be somebody else's by then.
fn of_a_user_namespace(oci: Oci) {
    let place = oci.start();
    place.detach("c", &["--userns", "auto"], COUNT);
    place.cli(&["checkpoint", "create", "--exit", "c", "k"]).refused(1, "has user ids of its own");
    assert_eq!(listed(&place).len(), 0);
    counts_on(&place, "c");
    place.finish();
}

fn it_outlives_its_workload(oci: Oci) {
    let Some(mut place) = begin(oci) else { return };
    let pid = place.main_pid("c");
    place.cli(&["checkpoint", "create", "c", "k"]).ok();
    place.cli(&["rm", "-f", "c"]).ok();
    until_gone(pid);
    place.kill_and_start();
    place.cli(&["checkpoint", "restore", "--name", "later", "k"]).ok();
    counts_on(&place, "later");
    // The restored one is a run like any other.
    let pid = place.main_pid("later");
    signal(pid, 9);
    assert_eq!(place.ended("later").exit_code, Some(137));
    place.cli(&["checkpoint", "rm", "k"]).ok();
    place.finish();
}
