//! What a daemon finds on disk: numbers that now mean other processes, another boot, another store, damage.

use std::process::{Command, Stdio};

use hostler_model::event::EventKind;
use hostler_model::ids::StoreId;
use hostler_model::rundir::{ProcessId, RUN_FILE, RunFile};
use hostler_model::workload::{LostReason, RunState};
use hostler_tests::events::{assert_history, is_of};
use hostler_tests::{PATIENCE, TestNode, is_alive, signal, until, until_gone};

fn main_of(file: &RunFile) -> ProcessId {
    file.main.expect("the run's program was started")
}

/// A process that has nothing to do with any node; ended when dropped.
struct Innocent(std::process::Child);

impl Innocent {
    fn new() -> Self {
        let mut command = Command::new("sleep");
        command.arg("600").current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("sleep"))
    }

    fn is_alive(&self) -> bool {
        is_alive(self.0.id())
    }
}

impl Drop for Innocent {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_number_that_now_is_somebody_elses_is_left_alone() {
    let mut node = TestNode::new();
    node.cli(&["run", "-d", "--name", "dead", "--", "sleep", "600"]).ok();
    let file = node.run_file("dead");
    node.kill();
    signal(file.agent.pid, 9);
    until_gone(file.agent.pid);
    until_gone(main_of(&file).pid);
    let innocents = [Innocent::new(), Innocent::new()];
    let path = node.root().join("run").join(file.run.to_string()).join(RUN_FILE);
    // The same numbers, as if they had come round; the start times are those of the dead.
    let edited = RunFile {
        main: Some(ProcessId { pid: innocents[0].0.id(), ..main_of(&file) }),
        agent: ProcessId { pid: innocents[1].0.id(), ..file.agent },
        ..file
    };
    std::fs::write(&path, serde_json::to_vec(&edited).expect("JSON")).expect("write");
    node.start();
    assert!(matches!(node.state_of("dead"), RunState::Lost { reason: LostReason::Agent }));
    assert!(innocents.iter().all(Innocent::is_alive), "an innocent process was killed");
    assert_history(&node.journal());
    node.finish();
    assert!(innocents.iter().all(Innocent::is_alive), "an innocent process was killed");
}

#[test]
fn after_a_reboot_ends_on_disk_win_and_services_start_again() {
    let mut node = TestNode::new();
    node.cli(&["run", "-d", "--name", "job", "--", "sleep", "600"]).ok();
    node.cli(&["run", "-d", "--name", "svc", "--restart", "always", "--", "sleep", "600"]).ok();
    let script = "until [ -e go ]; do sleep 0.01; done; exit 7";
    node.cli(&["run", "-d", "--name", "ends", "--", "sh", "-c", script]).ok();
    let files: Vec<RunFile> = ["job", "svc", "ends"].iter().map(|name| node.run_file(name)).collect();
    node.kill();
    std::fs::write(node.work().join("go"), "").expect("write");
    until("the exit record", PATIENCE, || node.exit_file(files[2].run));
    for file in &files {
        signal(file.agent.pid, 9);
        until_gone(file.agent.pid);
        until_gone(main_of(file).pid);
    }
    // Idle agents are gone with the machine, too.
    for (pid, _) in hostler_tests::leaks::processes(node.root()) {
        signal(pid, 9);
        until_gone(pid);
    }
    node.start_with(&[("HOSTLER_TEST_BOOT_ID", "00000000-1111-2222-3333-444444444444")]);
    assert!(
        matches!(node.state_of("job"), RunState::Lost { reason: LostReason::Reboot }),
        "{:?}",
        node.state_of("job")
    );
    assert_eq!(node.inspect("ends").exit_code, Some(7));
    node.wait_event("the service's next start", |event| {
        is_of(event, "svc")
            && event.event.kind.name() == "run.started"
            && event.event.subject.as_ref().is_some_and(|subject| subject.runs == 2)
    });
    assert_ne!(node.main_pid("svc"), main_of(&files[1]).pid);
    node.wait_event("the count of the lost", |event| {
        matches!(event.event.kind, EventKind::NodeStarted { lost: 2, ended_meanwhile: 1, .. })
    });
    node.cli(&["stop", "svc"]).ok();
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn runs_of_another_store_are_left_alone_and_shown() {
    let mut node = TestNode::new();
    node.cli(&["run", "-d", "--name", "mine", "--", "sleep", "600"]).ok();
    let mine = node.run_file("mine");
    node.kill();
    let innocent = Innocent::new();
    let id = hostler_linux::procfs::process_id(innocent.0.id()).expect("alive");
    let foreign = RunFile {
        store: StoreId::from_bytes([7; 8]),
        run: "0123456789ab-1".parse().expect("a run id"),
        main: Some(id),
        agent: id,
        sandbox: "ba9876543210".parse().expect("a sandbox id"),
        ..mine.clone()
    };
    let directory = node.root().join("run").join(foreign.run.to_string());
    std::fs::create_dir(&directory).expect("mkdir");
    std::fs::write(directory.join(RUN_FILE), serde_json::to_vec(&foreign).expect("JSON")).expect("write");
    let garbage = node.root().join("run/0123456789ac-1");
    std::fs::create_dir(&garbage).expect("mkdir");
    std::fs::write(garbage.join(RUN_FILE), "not JSON").expect("write");
    node.start();
    assert_eq!(node.main_pid("mine"), main_of(&mine).pid);
    assert!(innocent.is_alive(), "the run of another store was killed");
    assert!(directory.join(RUN_FILE).exists() && garbage.join(RUN_FILE).exists());
    let doctor = node.cli(&["doctor"]).out();
    for words in ["0123456789ab-1", "0123456789ac-1"] {
        assert!(doctor.contains(words), "the doctor does not show {words}: {doctor}");
    }
    node.kill_and_start();
    assert!(innocent.is_alive() && directory.exists());
    std::fs::remove_dir_all(directory).expect("rm");
    std::fs::remove_dir_all(garbage).expect("rm");
    node.finish();
}

#[test]
fn a_run_that_was_never_committed_is_ended() {
    let mut node = TestNode::new();
    node.cli(&["run", "-d", "--name", "first", "--", "true"]).ok();
    node.ended("first");
    // The store of a moment ago is put back: what ran since was never heard of by it.
    node.down();
    let (store, copy) = (node.root().join("store.redb"), node.work().join("copy"));
    std::fs::copy(&store, &copy).expect("copy");
    node.start();
    node.cli(&["run", "-d", "--name", "forgotten", "--", "sleep", "600"]).ok();
    let pid = node.main_pid("forgotten");
    node.kill();
    std::fs::copy(&copy, &store).expect("copy");
    node.start();
    until_gone(pid);
    until("the run directory's removal", PATIENCE, || node.directories("run").is_empty().then_some(()));
    assert_eq!(node.all().len(), 1);
    node.finish();
}

#[test]
fn a_damaged_store_is_refused_by_name_and_nothing_is_touched() {
    let mut node = TestNode::new();
    node.cli(&["run", "-d", "--name", "alive", "--", "sleep", "600"]).ok();
    let pid = node.main_pid("alive");
    node.kill();
    let store = node.root().join("store.redb");
    let good = std::fs::read(&store).expect("the store");
    let mut scribbled = good.clone();
    for byte in scribbled.iter_mut().take(64 * 1024) {
        *byte = 0xa5;
    }
    let cases: [(&str, Vec<u8>); 4] = [
        ("empty", Vec::new()),
        ("cut", good[..good.len() / 3].to_vec()),
        ("garbage", b"this is not a database".repeat(1_000)),
        ("scribbled over", scribbled),
    ];
    for (what, bytes) in cases {
        std::fs::write(&store, &bytes).expect("write");
        let before = node.daemon_log().len();
        node.spawn_with(&[]);
        let status = node.wait_daemon_end();
        let said = node.daemon_log()[before..].to_owned();
        assert!(!status.success(), "{what}: the daemon came up");
        assert!(said.contains(&store.display().to_string()) && said.contains("damaged"), "{what}: {said}");
        assert!(std::fs::read(&store).expect("the store") == bytes, "{what}: the store was changed");
        assert!(is_alive(pid), "{what}: a workload was disturbed");
        node.cli(&["up"]).refused(1, "damaged");
    }
    std::fs::write(&store, &good).expect("write");
    node.start();
    assert_eq!(node.main_pid("alive"), pid);
    node.finish();
}
