use std::time::Instant;

use hostler_model::workload::{LostReason, StartFailure, StartFailureKind};
use tokio::net::UnixListener;

use super::*;
use crate::{Found, FoundState};

/// An agent of an earlier daemon: it listens in its sandbox, and answers one connection.
fn old_agent(node: &Node, id: ProcessId, number: u32, state: AgentState) -> tokio::task::JoinHandle<FakeAgent> {
    let [a, b, c, d] = number.to_be_bytes();
    let sandbox = SandboxId::from_bytes([1, 1, a, b, c, d]);
    let directory = node.directory.path().join("sandbox").join(sandbox.to_string());
    std::fs::create_dir(&directory).expect("fresh");
    let listener = UnixListener::bind(directory.join("agent.sock")).expect("a socket");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut agent = FakeAgent { sandbox, id, stream: Ok(stream), decoder: Decoder::default() };
        agent.hello(state).await;
        agent
    })
}

fn state_of(found: &[Found], run: RunId) -> Option<&FoundState> {
    found.iter().find(|found| found.run == run).map(|found| &found.state)
}

#[tokio::test]
async fn every_state_is_found_as_it_is() {
    let mut node = Node::new(0);
    let process = sleeper();
    let id = process_id(&process);
    let failure = StartFailure { kind: StartFailureKind::CommandNotFound, message: "x".to_owned() };
    let idle = old_agent(&node, id, 0, AgentState::Idle);
    let _prepared = old_agent(&node, id, 1, AgentState::Prepared { run: run(1) });
    let running = AgentState::Running { run: run(2), pid: 5, started_at_ms: 6, oom_kills: 7, paused: false };
    let running = old_agent(&node, id, 2, running);
    let _failed = old_agent(&node, id, 3, AgentState::Failed { run: run(3), failure: failure.clone() });
    let ended = old_agent(&node, id, 4, AgentState::Ended { run: run(4), exit: exit(1) });
    // An agent speaks for its run, whatever the files say.
    node.write_exit(run(2), Outcome::Exited { exit: exit(9) });
    // Without agents: an end, a failure, nothing.
    let (gone, mut main) = (dead(), sleeper());
    node.write_run(run(10), &run_file(run(10), gone, dead()));
    node.write_exit(run(10), Outcome::Exited { exit: exit(10) });
    node.write_run(run(11), &run_file(run(11), gone, dead()));
    node.write_exit(run(11), Outcome::StartFailed { failure: failure.clone() });
    node.write_run(run(12), &run_file(run(12), gone, process_id(&main)));
    // Of another boot, with and without an end.
    let earlier = RunFile { boot_id: "earlier".to_owned(), ..run_file(run(13), gone, gone) };
    node.write_run(run(13), &earlier);
    node.write_run(run(14), &RunFile { run: run(14), ..earlier });
    node.write_exit(run(14), Outcome::Exited { exit: exit(14) });
    // Numbers that now belong to somebody else.
    let mut stranger = sleeper();
    let now = process_id(&stranger);
    let before = ProcessId { start_ticks: now.start_ticks - 1, ..now };
    node.write_run(run(15), &run_file(run(15), before, before));
    // An agent that lives and has no socket.
    let mut mute = sleeper();
    node.write_run(run(16), &run_file(run(16), process_id(&mute), gone));
    // Half-made, other stores, nonsense.
    std::fs::create_dir(node.run_dir(run(17))).expect("fresh");
    std::fs::write(node.run_dir(run(17)).join("exit.json.new"), "").expect("a file");
    let other = RunFile { store: StoreId::from_bytes([2; 8]), ..run_file(run(18), gone, now) };
    node.write_run(run(18), &other);
    std::fs::create_dir(node.run_dir(run(19))).expect("fresh");
    std::fs::write(node.run_dir(run(19)).join(RUN_FILE), "{").expect("a file");
    std::fs::create_dir(node.run_dir(run(20))).expect("fresh");
    std::fs::write(node.run_dir(run(20)).join("precious"), "").expect("a file");
    std::fs::create_dir(node.directory.path().join("run/lost+found")).expect("fresh");
    let stale = node.directory.path().join("sandbox/0a0a0a0a0a0a");
    std::fs::create_dir(&stale).expect("fresh");

    let adoption = node.runtime.adopt().await.expect("every agent can be asked");
    let found = |number| state_of(&adoption.found, run(number)).cloned();
    assert_eq!(found(1), Some(FoundState::Prepared));
    assert!(matches!(found(2), Some(FoundState::Running { pid: 5, started_at_ms: 6, oom_kills: 7, .. })));
    assert_eq!(found(3), Some(FoundState::StartFailed { failure: failure.clone() }));
    assert_eq!(found(4), Some(FoundState::Ended { exit: exit(1) }));
    assert_eq!(found(10), Some(FoundState::Ended { exit: exit(10) }));
    assert_eq!(found(11), Some(FoundState::StartFailed { failure }));
    assert_eq!(found(12), Some(FoundState::Lost(LostReason::Agent)));
    assert!(!main.wait().expect("ours").success(), "its main process was killed");
    assert_eq!(found(13), Some(FoundState::Lost(LostReason::Reboot)));
    assert_eq!(found(14), Some(FoundState::Ended { exit: exit(14) }));
    assert_eq!(found(15), Some(FoundState::Lost(LostReason::Agent)));
    assert!(stranger.try_wait().expect("ours").is_none(), "a stranger was not touched");
    assert_eq!(found(16), Some(FoundState::Lost(LostReason::Agent)));
    assert!(!mute.wait().expect("ours").success());
    assert_eq!(adoption.found.len(), 11);
    assert!(!node.run_dir(run(17)).exists());
    let mut foreign: Vec<_> = adoption
        .foreign
        .iter()
        .map(|foreign| (foreign.path.file_name().expect("a name").to_owned(), foreign.store.is_some()))
        .collect();
    foreign.sort();
    let mut expected: Vec<_> =
        [(18, true), (19, false), (20, false)].map(|(number, store)| (run(number).to_string().into(), store)).to_vec();
    expected.push(("lost+found".into(), false));
    assert_eq!(foreign, expected);
    assert!(!stale.exists());

    // The idle one is told to leave: nobody knows for whom it ran.
    assert_eq!(idle.await.expect("no panic").message().await, ToAgent::Quit);
    // The ended one is released, and not used again.
    let mut ended = ended.await.expect("no panic");
    node.runtime.committed(run(4));
    assert_eq!(ended.message().await, ToAgent::Committed { run: run(4), reuse: false, assume_idle: false });
    // The running one goes on.
    let mut running = running.await.expect("no panic");
    running.say(FromAgent::Exited { run: run(2), exit: exit(2), clean: false }).await;
    assert_eq!(node.fact().await, Fact::Exited { run: run(2), exit: exit(2) });
    // Those without an agent stay until they are committed.
    for number in [10, 13] {
        let directory = node.run_dir(run(number));
        assert!(directory.exists());
        node.runtime.committed(run(number));
        node.until(|_| !directory.exists()).await;
    }
    // What another store runs is not removed even if asked.
    node.runtime.committed(run(18));
    for mut child in [stranger, process] {
        child.kill().expect("ours");
        child.wait().expect("ours");
    }
    assert!(node.run_dir(run(18)).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_adopted_quickly() {
    let node = Node::new(0);
    let mut process = sleeper();
    let id = process_id(&process);
    let agents: Vec<_> = (1..=400)
        .map(|number| {
            let state = AgentState::Running { run: run(number), pid: 1, started_at_ms: 1, oom_kills: 0, paused: false };
            std::fs::create_dir(node.run_dir(run(number))).expect("fresh");
            old_agent(&node, id, number, state)
        })
        .collect();
    let began = Instant::now();
    let adoption = node.runtime.adopt().await.expect("every agent can be asked");
    assert_eq!((adoption.found.len(), adoption.foreign.len()), (400, 0));
    assert_eq!(node.runtime.watched(), 400);
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    eprintln!("400 agents adopted in {:?}", began.elapsed());
    node.runtime.shutdown().await;
    drop(agents);
    process.kill().expect("ours");
    process.wait().expect("ours");
}
