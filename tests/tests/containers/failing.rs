//! An OCI runtime that hangs, fails, floods, dies or lies at each call: a precise error or the right end, nobody else
//! waits, and nothing is left.

use hostler_model::event::EventKind;
use hostler_tests::container::{self, Oci, Place};
use hostler_tests::stand_in::{StandIn, Wrong};
use hostler_tests::{PATIENCE, Setup, leaks, skip, until, until_gone, with_each_oci_runtime};

with_each_oci_runtime! {
    at_create,
    at_start,
    at_exec,
    at_delete,
    at_checkpoint,
    at_restore,
    a_hanging_create_delays_nobody,
    that_does_not_say_who_it_is,
}

/// How long a call may take here.
const CALL_MS: &str = "1500";

struct Stage {
    place: Place,
    stand_in: StandIn,
}

impl Stage {
    fn new(oci: Oci, setup: Setup) -> Self {
        let place = oci.start_with(setup.env("HOSTLER_TEST_OCI_CALL_MS", CALL_MS));
        let stand_in = StandIn::new(place.work().join("stand-in"), oci);
        Self { place, stand_in }
    }

    /// The same of which nothing is spared: of runc it is known what its `start` and `delete` do, so it is only called
    /// for these when it does not say that it is runc.
    fn called_for_all(oci: Oci) -> Self {
        let stage = Self::new(oci, Setup::new());
        if oci.name == "runc" { Self { stand_in: stage.stand_in.unknown(), ..stage } } else { stage }
    }

    /// `hostler run` of a script with the stand-in.
    fn run(&self, options: &[&str], script: &str) -> hostler_tests::Output {
        let (program, rootfs) = (self.stand_in.program(), self.place.rootfs());
        let first = ["run", "--oci-runtime", &program.to_string_lossy(), "--rootfs", &rootfs.to_string_lossy()];
        self.place.cli(&[&first, options, &["--", "sh", "-c", script]].concat())
    }

    fn detach(&self, name: &str, script: &str) -> u32 {
        self.run(&["-d", "--name", name], script).ok();
        self.place.main_pid(name)
    }

    /// Nothing of the containers so far is there any more: state, groups, records.
    fn settled(&self, what: &str) {
        let empty = |name: &str| {
            std::fs::read_dir(self.place.root().join(name)).is_ok_and(|mut entries| entries.next().is_none())
        };
        until(&format!("{what}: nothing left of the container"), PATIENCE, || {
            let groups = leaks::run_groups(self.place.tag().expect("a tag"));
            (empty("oci") && empty("run") && groups.is_empty()).then_some(())
        });
    }

    fn finish(self) {
        self.place.finish();
    }
}

fn at_create(oci: Oci) {
    let stage = Stage::new(oci, Setup::new());
    let cases = [
        (Wrong::Fail, "stand-in could not create the container: the stand-in was told to fail"),
        (Wrong::FailSilently, "stand-in could not create the container: it ended with code 3 and said nothing"),
        (Wrong::FloodLog, "the stand-in was told to fail"),
        (Wrong::FloodStderr, "the stand-in was told to fail"),
        (Wrong::Die, "was ended by SEGV"),
        (Wrong::GarbledPid, "wrote no number to its pid file"),
        (Wrong::NoPid, "pid file"),
        (Wrong::Lie, "pid file"),
        (Wrong::LateFailure, "the stand-in was told to fail"),
        (Wrong::Hang, "did not create the container within 1s"),
        (Wrong::HangWithChild, "did not create the container within 1s"),
    ];
    for (wrong, words) in cases {
        stage.stand_in.set("create", wrong);
        let name = format!("{wrong:?}");
        stage.run(&["--name", &name], "echo ran").refused(125, words);
        assert_eq!(stage.place.history(&name), ["workload.created", "run.created", "run.failed"]);
        stage.settled(&name);
    }
    // A start has a deadline of its own.
    stage.run(&["--name", "late", "--start-timeout", "300ms"], "echo ran").code(125);
    stage.settled("a start's own deadline");
    stage.stand_in.clear("create");
    assert_eq!(stage.run(&[], "echo well").ok(), "well");
    stage.finish();
}

fn at_start(oci: Oci) {
    let stage = Stage::called_for_all(oci);
    let cases = [
        (Wrong::Fail, "stand-in could not start the container: the stand-in was told to fail"),
        (Wrong::FailSilently, "it ended with code 3 and said nothing"),
        (Wrong::FloodLog, "the stand-in was told to fail"),
        (Wrong::FloodStderr, "the stand-in was told to fail"),
        (Wrong::Die, "was ended by SEGV"),
        (Wrong::LateFailure, "the stand-in was told to fail"),
        (Wrong::Hang, "did not start the container within 1s"),
        (Wrong::HangWithChild, "did not start the container within 1s"),
    ];
    for (wrong, words) in cases {
        stage.stand_in.set("start", wrong);
        let name = format!("{wrong:?}");
        stage.run(&["--name", &name], "sleep 600").refused(125, words);
        stage.settled(&name);
    }
    // It says that the program runs. Nobody can know better, but it can be ended.
    stage.stand_in.set("start", Wrong::Lie);
    stage.detach("lie", "sleep 600");
    stage.place.cli(&["kill", "lie"]).ok();
    stage.place.ended("lie");
    stage.settled("lie");
    stage.stand_in.clear("start");
    assert_eq!(stage.run(&[], "echo well").ok(), "well");
    stage.finish();
}

fn at_exec(oci: Oci) {
    let stage = Stage::new(oci, Setup::new());
    stage.detach("c", "sleep 600");
    let cases = [
        (Wrong::Fail, "stand-in could not execute in the container: the stand-in was told to fail"),
        (Wrong::FailSilently, "it ended with code 3 and said nothing"),
        (Wrong::FloodLog, "the stand-in was told to fail"),
        (Wrong::FloodStderr, "the stand-in was told to fail"),
        (Wrong::Die, "was ended by SEGV"),
        (Wrong::GarbledPid, "wrote no number to its pid file"),
        (Wrong::NoPid, "pid file"),
        (Wrong::Lie, "pid file"),
        (Wrong::LateFailure, "the stand-in was told to fail"),
        (Wrong::Hang, "did not execute in the container within 1s"),
        (Wrong::HangWithChild, "did not execute in the container within 1s"),
    ];
    for (wrong, words) in cases {
        stage.stand_in.set("exec", wrong);
        stage.place.cli(&["exec", "c", "--", "true"]).refused(125, words);
        stage.stand_in.clear("exec");
        assert_eq!(stage.place.exec("c", "echo well").ok(), "well", "after {wrong:?}");
    }
    stage.place.cli(&["kill", "c"]).ok();
    stage.place.ended("c");
    stage.settled("all execs");
    stage.finish();
}

/// The end is told with its own code whatever becomes of what is left.
fn at_delete(oci: Oci) {
    let stage = Stage::called_for_all(oci);
    let cases = [
        Wrong::Fail,
        Wrong::FailSilently,
        Wrong::FloodLog,
        Wrong::FloodStderr,
        Wrong::Die,
        Wrong::Lie,
        Wrong::LateFailure,
        Wrong::Hang,
        Wrong::HangWithChild,
    ];
    for wrong in cases {
        stage.stand_in.set("delete", wrong);
        let name = format!("{wrong:?}");
        assert_eq!(stage.run(&["--name", &name], "echo ran; exit 5").code(5).out(), "ran\n", "{wrong:?}");
        let told = stage.place.wait_kind(&name, "run.exited");
        let EventKind::RunExited { exit } = &told.event.kind else { panic!("{told:?}") };
        assert!(told.event.time_ms.saturating_sub(exit.ended_at_ms) < 6_000, "{wrong:?} delays the end");
        stage.settled(&name);
    }
    stage.finish();
}

fn with_criu(oci: Oci) -> Option<Stage> {
    if oci.name != "runc" {
        skip("checkpoints are made by runc here");
        return None;
    }
    let criu = container::criu()?;
    let config = format!("[oci]\ncriu_dir = {:?}\n", criu.display().to_string());
    Some(Stage::new(oci, Setup::new().config(&config)))
}

fn at_checkpoint(oci: Oci) {
    let Some(stage) = with_criu(oci) else { return };
    stage.detach("c", "while :; do sleep 0.05; done");
    let cases = [
        (Wrong::Fail, "stand-in could not checkpoint the container: the stand-in was told to fail"),
        (Wrong::FailSilently, "it ended with code 3 and said nothing"),
        (Wrong::FloodLog, "the stand-in was told to fail"),
        (Wrong::FloodStderr, "the stand-in was told to fail"),
        (Wrong::Die, "was ended by SEGV"),
        (Wrong::Lie, "made no image"),
        (Wrong::LateFailure, "the stand-in was told to fail"),
        (Wrong::Hang, "did not checkpoint the container within 1s"),
        (Wrong::HangWithChild, "did not checkpoint the container within 1s"),
        (Wrong::Freeze, "did not checkpoint the container within 1s"),
    ];
    for (wrong, words) in cases {
        stage.stand_in.set("checkpoint", wrong);
        stage.place.cli(&["checkpoint", "create", "c", "k"]).refused(1, words);
        // Nothing of it is left, and the container goes on.
        assert_eq!(
            stage.place.cli(&["--json", "checkpoint", "ls"]).json().as_array().map(Vec::len),
            Some(0),
            "{wrong:?}"
        );
        let left = std::fs::read_dir(stage.place.root().join("checkpoints/default")).expect("a directory").count();
        assert_eq!((left, stage.place.inspect("c").phase.as_str()), (0, "running"), "{wrong:?}");
        assert_eq!(stage.place.exec("c", "echo well").ok(), "well", "after {wrong:?}");
    }
    // One that should have ended it did not: it is not stopped either.
    stage.stand_in.set("checkpoint", Wrong::Fail);
    stage.place.cli(&["checkpoint", "create", "--exit", "c", "k"]).refused(1, "told to fail");
    assert_eq!(stage.place.inspect("c").phase.as_str(), "running");
    assert!(!stage.place.history("c").contains(&"run.checkpointed".to_owned()));
    stage.finish();
}

fn at_restore(oci: Oci) {
    let Some(stage) = with_criu(oci) else { return };
    let pid = stage.detach("c", "echo begun; while :; do sleep 0.05; done");
    stage.place.cli(&["checkpoint", "create", "--exit", "c", "k"]).ok();
    until_gone(pid);
    let cases = [
        (Wrong::Fail, "stand-in could not restore the container: the stand-in was told to fail"),
        (Wrong::FailSilently, "it ended with code 3 and said nothing"),
        (Wrong::FloodLog, "the stand-in was told to fail"),
        (Wrong::FloodStderr, "the stand-in was told to fail"),
        (Wrong::Die, "was ended by SEGV"),
        (Wrong::GarbledPid, "wrote no number to its pid file"),
        (Wrong::NoPid, "pid file"),
        (Wrong::Lie, "pid file"),
        (Wrong::LateFailure, "the stand-in was told to fail"),
        (Wrong::Hang, "did not restore the container within 1s"),
        (Wrong::HangWithChild, "did not restore the container within 1s"),
    ];
    for (number, (wrong, words)) in cases.into_iter().enumerate() {
        stage.stand_in.set("restore", wrong);
        let name = format!("{wrong:?}-{number}");
        stage.place.cli(&["checkpoint", "restore", "--name", &name, "k"]);
        stage.place.ended(&name);
        let told = stage.place.wait_kind(&name, "run.failed");
        let EventKind::RunFailed { failure } = &told.event.kind else { panic!("{told:?}") };
        assert!(failure.message.contains(words), "{wrong:?}: {}", failure.message);
        stage.settled(&name);
    }
    // In place it can be tried again.
    stage.place.cli(&["start", "--checkpoint", "k", "c"]);
    until("the failure", PATIENCE, || (stage.place.inspect("c").phase.as_str() == "failed").then_some(()));
    stage.stand_in.clear("restore");
    stage.place.cli(&["start", "--checkpoint", "k", "c"]).ok();
    stage.place.main_pid("c");
    assert_eq!(stage.place.exec("c", "echo well").ok(), "well");
    stage.place.cli(&["checkpoint", "rm", "k"]).ok();
    stage.finish();
}

/// The loop of containerd's supervisor stood still with each call: here only the one who asked waits.
fn a_hanging_create_delays_nobody(oci: Oci) {
    let place = oci.start();
    let stand_in = StandIn::new(place.work().join("stand-in"), oci);
    stand_in.set("create", Wrong::Hang);
    place.detach("other", &[], "while read line; do echo $line; done; sleep 600");
    let (program, rootfs) = (stand_in.program().display().to_string(), place.rootfs().display().to_string());
    let names: Vec<String> = (0..14).map(|number| format!("hung-{number}")).collect();
    let hanging: Vec<_> = names
        .iter()
        .map(|name| {
            let options = ["run", "--name", name, "--oci-runtime", &program, "--rootfs", &rootfs, "--", "true"];
            place.command(&options).spawn()
        })
        .collect();
    until("all of them hang", PATIENCE, || (stand_in.count("create") == names.len()).then_some(()));
    // More of them than any pool of workers has, and everything else goes on.
    place.info();
    assert_eq!(place.exec("other", "echo here").ok(), "here");
    assert_eq!(place.sh(&[], "echo made").ok(), "made");
    assert_eq!(place.cli(&["run", "--", "echo", "a process"]).ok(), "a process");
    place.cli(&["pause", "other"]).ok();
    place.cli(&["resume", "other"]).ok();
    place.cli(&["update", "--pids", "50", "other"]).ok();
    place.cli(&["stats", "--no-stream"]).ok();
    // They need not be waited for either.
    for (number, name) in names.iter().enumerate() {
        let verb = [&["kill"][..], &["stop"], &["rm", "-f"]][number % 3];
        place.cli(&[verb, &[name]].concat()).ok();
    }
    for running in hanging {
        running.end().code(125);
    }
    place.finish();
}

fn that_does_not_say_who_it_is(oci: Oci) {
    let mut stage = Stage::new(oci, Setup::new());
    stage.stand_in = stage.stand_in.unknown();
    if oci.name == "crun" && std::path::Path::new("/sys/fs/cgroup/unified").exists() {
        // It refuses such a machine unless it is known to be crun.
        stage.run(&[], "echo well").refused(125, "could not create the container");
    } else {
        assert_eq!(stage.run(&[], "echo well; exit 3").code(3).out(), "well\n");
        stage.detach("c", "sleep 600");
        assert_eq!(stage.place.exec("c", "echo here").ok(), "here");
    }
    stage.finish();
}
