use hostler_model::guest::{GuestIdentity, VmLaunch};
use hostler_model::launch::Confinement;
use hostler_model::units::Signal;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_wire::{RunStats, SignalScope, StatsDepth};

use super::*;
use crate::{AttachRequest, AttachTarget, Role, RuntimeError};

fn cancelled() -> StartFailure {
    StartFailure { kind: StartFailureKind::Cancelled, message: "killed".to_owned() }
}

/// A run that has started, on its agent.
async fn started(node: &mut Node, number: u32) -> FakeAgent {
    let run = run(number);
    node.runtime.prepare(launch(run, &Namespace::owner()));
    node.runtime.execute(run);
    let mut agent = node.warm_agent().await;
    starts(node, &mut agent, run).await;
    agent
}

/// A run that `agent`, which is idle, has to take.
async fn follows(node: &mut Node, agent: &mut FakeAgent, number: u32) {
    let run = run(number);
    node.runtime.prepare(launch(run, &Namespace::owner()));
    node.runtime.execute(run);
    starts(node, agent, run).await;
}

async fn starts(node: &mut Node, agent: &mut FakeAgent, run: RunId) {
    agent.start(run).await;
    assert!(matches!(node.fact().await, Fact::Prepared { .. }));
    assert!(matches!(node.fact().await, Fact::Started { .. }));
}

#[tokio::test]
async fn a_run_goes_its_way_and_its_agent_takes_the_next() {
    let mut node = Node::new(0);
    let mut agent = started(&mut node, 1).await;
    for number in 1..20 {
        agent.say(FromAgent::Exited { run: run(number), exit: exit(3), clean: false }).await;
        assert_eq!(node.fact().await, Fact::Exited { run: run(number), exit: exit(3) });
        node.runtime.committed(run(number));
        assert_eq!(agent.message().await, ToAgent::Committed { run: run(number), reuse: true, assume_idle: false });
        // Asked for before the agent is idle again: a second one is started, and the first to be ready gets the run.
        agent.say(FromAgent::Idle).await;
        node.until(|runtime| runtime.idle_agents() == 1).await;
        follows(&mut node, &mut agent, number + 1).await;
    }
    assert!(node.agents.try_recv().is_err(), "no other agent was started");
    agent.die();
    assert_eq!(node.fact().await, Fact::AgentLost { run: run(20) });
}

#[tokio::test]
async fn a_clean_agent_takes_the_run_that_waits_without_a_word() {
    let mut node = Node::new(0);
    let mut agent = started(&mut node, 1).await;
    for number in 1..20 {
        agent.say(FromAgent::Exited { run: run(number), exit: exit(3), clean: true }).await;
        assert_eq!(node.fact().await, Fact::Exited { run: run(number), exit: exit(3) });
        node.runtime.committed(run(number));
        assert_eq!(node.runtime.idle_agents(), 1);
        assert_eq!(agent.message().await, ToAgent::Committed { run: run(number), reuse: true, assume_idle: true });
        follows(&mut node, &mut agent, number + 1).await;
    }
    assert!(node.agents.try_recv().is_err(), "no other agent was started");
    // Somebody who reads when the end is committed is served first.
    let reader = AttachRequest { target: AttachTarget::Main, role: Role::Reader, stdin: false, from: None };
    let attached = node.runtime.attach(run(20), reader).await.expect("attached");
    assert!(matches!(agent.message().await, ToAgent::Attach { .. }));
    assert!(matches!(agent.got().await, Some(Got::Credit { .. })));
    agent.say(FromAgent::Exited { run: run(20), exit: exit(0), clean: true }).await;
    assert!(matches!(node.fact().await, Fact::Exited { .. }));
    node.runtime.committed(run(20));
    assert_eq!(agent.message().await, ToAgent::Committed { run: run(20), reuse: true, assume_idle: false });
    assert_eq!(node.runtime.idle_agents(), 0);
    drop(attached);
}

#[tokio::test]
async fn the_pool_is_filled_when_told_and_dead_agents_are_replaced() {
    let mut node = Node::new(2);
    node.runtime.fill_pool();
    let (first, _second) = (node.warm_agent().await, node.warm_agent().await);
    node.until(|runtime| runtime.idle_agents() == 2).await;
    first.die();
    let _third = node.warm_agent().await;
    node.until(|runtime| runtime.idle_agents() == 2 && runtime.watched() == 2).await;
    let other = Namespace::of_uid(1000);
    node.runtime.prepare(launch(run(1), &other));
    node.until(|runtime| runtime.watched() == 3).await;
}

#[tokio::test]
async fn an_agent_that_refuses_is_tried_twice_and_the_run_told() {
    let mut node = Node::new(0);
    node.runtime.prepare(launch(run(1), &Namespace::owner()));
    for how in 0..2 {
        let mut agent = node.agent().await;
        assert!(matches!(agent.message().await, ToAgent::Hello { .. }));
        if how == 1 {
            let mut hello = agent.hello_of(AgentState::Idle);
            hello.protocol_min = PROTOCOL_MAX + 1;
            hello.protocol_max = PROTOCOL_MAX + 1;
            agent.say(FromAgent::Hello(hello)).await;
            assert_eq!(agent.got().await, None, "hung up");
        }
    }
    let Fact::StartFailed { failure, .. } = node.fact().await else { panic!("not a start failure") };
    assert_eq!(failure.kind, StartFailureKind::Sandbox);
    assert!(failure.message.contains("protocol"), "{}", failure.message);
    node.until(|runtime| runtime.watched() == 0).await;
    assert_eq!(std::fs::read_dir(node.directory.path().join("sandbox")).expect("there").count(), 0);
}

#[tokio::test]
async fn an_agent_that_would_not_isolate_gets_nothing_to_isolate() {
    // One that has to be made, and one that is idle.
    for idle in [0, 1] {
        let mut node = Node::new(idle);
        let mut isolated = launch(run(1), &Namespace::owner());
        let isolation = hostler_model::Isolation::built_in("strict").expect("built in");
        let confinement = Confinement { isolation, hostname: "x".to_owned(), hidden: Vec::new() };
        isolated.program.confinement = Some(Box::new(confinement));
        if idle == 0 {
            node.runtime.prepare(isolated.clone());
            node.runtime.execute(run(1));
        } else {
            node.runtime.fill_pool();
        }
        let mut agent = node.agent().await;
        assert!(matches!(agent.message().await, ToAgent::Hello { .. }));
        let hello = Hello { protocol_max: 2, ..agent.hello_of(AgentState::Idle) };
        agent.say(FromAgent::Hello(hello)).await;
        if idle == 1 {
            node.until(|runtime| runtime.idle_agents() == 1).await;
            node.runtime.prepare(isolated);
            node.runtime.execute(run(1));
        }
        let Fact::StartFailed { failure, .. } = node.fact().await else { panic!("not a start failure") };
        assert_eq!(failure.kind, StartFailureKind::Isolation);
        assert!(failure.message.contains("older build"), "{}", failure.message);
        assert_eq!(agent.message().await, ToAgent::Quit);
    }
}

#[tokio::test]
async fn kill_and_abort_reach_a_run_that_still_waits_for_its_agent() {
    let mut node = Node::new(0);
    node.runtime.prepare(launch(run(1), &Namespace::owner()));
    node.runtime.prepare(launch(run(2), &Namespace::owner()));
    node.runtime.execute(run(1));
    node.runtime.kill(run(1));
    assert!(matches!(node.fact().await, Fact::StartFailed { run: id, .. } if id == run(1)));
    node.runtime.abort(run(2));
    for _ in 0..2 {
        let mut agent = node.warm_agent().await;
        node.until(|runtime| runtime.idle_agents() > 0).await;
        let _ = &mut agent;
        std::mem::forget(agent);
    }
    assert!(node.facts.try_recv().is_err());
}

#[tokio::test]
async fn late_answers_of_an_aborted_run_are_undone_and_not_reported() {
    let mut node = Node::new(0);
    node.runtime.prepare(launch(run(1), &Namespace::owner()));
    let mut agent = node.warm_agent().await;
    assert!(matches!(agent.message().await, ToAgent::Prepare { .. }));
    node.runtime.abort(run(1));
    agent.say(FromAgent::Prepared { run: run(1) }).await;
    assert_eq!(agent.message().await, ToAgent::Abort { run: run(1) });
    agent.say(FromAgent::Idle).await;
    // The same with an answer that the abort crossed.
    node.until(|runtime| runtime.idle_agents() == 1).await;
    // One that has to be prepared, so that its agent hears of it before it is executed or aborted.
    let mut second = launch(run(2), &Namespace::owner());
    second.stdio.stdin = Some("/dev/null".into());
    node.runtime.prepare(second);
    assert!(matches!(agent.message().await, ToAgent::Prepare { .. }));
    node.runtime.abort(run(2));
    assert_eq!(agent.message().await, ToAgent::Abort { run: run(2) });
    agent.say(FromAgent::StartFailed { run: run(2), failure: cancelled() }).await;
    assert_eq!(agent.message().await, ToAgent::Committed { run: run(2), reuse: false, assume_idle: false });
    // It dies instead of tidying up: that is then done here.
    std::fs::create_dir(node.run_dir(run(2))).expect("fresh");
    agent.die();
    let directory = node.run_dir(run(2));
    node.until(|runtime| runtime.watched() == 0 && !directory.exists()).await;
    assert!(node.facts.try_recv().is_err());
}

#[tokio::test]
async fn after_a_kill_the_end_is_reported_whichever_it_is() {
    let mut node = Node::new(0);
    node.runtime.prepare(launch(run(1), &Namespace::owner()));
    node.runtime.execute(run(1));
    let mut agent = node.warm_agent().await;
    assert!(matches!(agent.message().await, ToAgent::Prepare { .. }));
    assert!(matches!(agent.message().await, ToAgent::Execute { .. }));
    node.runtime.signal(run(1), Signal::TERM, SignalScope::Main);
    node.runtime.abort(run(1));
    assert!(matches!(agent.message().await, ToAgent::Signal { .. }));
    assert_eq!(agent.message().await, ToAgent::Kill { run: run(1) });
    agent.say(FromAgent::StartFailed { run: run(1), failure: cancelled() }).await;
    assert_eq!(node.fact().await, Fact::StartFailed { run: run(1), failure: cancelled() });
    node.runtime.committed(run(1));
    assert_eq!(agent.message().await, ToAgent::Committed { run: run(1), reuse: true, assume_idle: false });
}

#[tokio::test]
async fn an_agent_that_dies_leaves_an_end_or_none() {
    // Before Prepared, after Prepared, running, running with an end on disk.
    for step in 0..4u32 {
        let mut node = Node::new(0);
        node.runtime.prepare(launch(run(1), &Namespace::owner()));
        let mut agent = node.warm_agent().await;
        assert!(matches!(agent.message().await, ToAgent::Prepare { .. }));
        let mut main = sleeper();
        node.write_run(run(1), &run_file(run(1), agent.id, process_id(&main)));
        if step > 0 {
            agent.say(FromAgent::Prepared { run: run(1) }).await;
            assert!(matches!(node.fact().await, Fact::Prepared { .. }));
        }
        if step > 1 {
            node.runtime.execute(run(1));
            assert_eq!(agent.message().await, ToAgent::Execute { run: run(1) });
            agent.say(FromAgent::Started { run: run(1), pid: main.id(), started_at_ms: 5 }).await;
            assert!(matches!(node.fact().await, Fact::Started { .. }));
        }
        if step == 3 {
            node.write_exit(run(1), Outcome::Exited { exit: exit(7) });
        }
        let sandbox = node.directory.path().join("sandbox").join(agent.sandbox.to_string());
        assert!(sandbox.exists());
        agent.die();
        match (step, node.fact().await) {
            (0 | 1, Fact::StartFailed { failure, .. }) => assert_eq!(failure.kind, StartFailureKind::Sandbox),
            (2, fact) => assert_eq!(fact, Fact::AgentLost { run: run(1) }),
            (_, fact) => assert_eq!(fact, Fact::Exited { run: run(1), exit: exit(7) }),
        }
        assert!(!main.wait().expect("ours").success(), "what was left was killed");
        assert!(!sandbox.exists());
        assert!(node.run_dir(run(1)).exists(), "kept until it is committed");
        node.runtime.committed(run(1));
        let directory = node.run_dir(run(1));
        node.until(|runtime| !directory.exists() && runtime.watched() == 0).await;
    }
}

#[tokio::test]
async fn a_broken_connection_to_a_living_agent_is_made_anew() {
    let mut node = Node::new(0);
    let mut agent = started(&mut node, 1).await;
    let directory = node.directory.path().join("sandbox").join(agent.sandbox.to_string());
    let listener = tokio::net::UnixListener::bind(directory.join("agent.sock")).expect("a socket");
    agent.stream().shutdown().await.expect("open");
    let (stream, _) = tokio::time::timeout(LONG, listener.accept()).await.expect("in time").expect("a connection");
    agent.stream = Ok(stream);
    agent.decoder = Decoder::default();
    // What was missed comes with the hello.
    agent.hello(AgentState::Ended { run: run(1), exit: exit(4) }).await;
    assert_eq!(node.fact().await, Fact::Exited { run: run(1), exit: exit(4) });
    node.runtime.committed(run(1));
    assert_eq!(agent.message().await, ToAgent::Committed { run: run(1), reuse: true, assume_idle: false });
}

#[tokio::test]
async fn an_agent_that_lives_and_is_of_no_use_is_killed() {
    let mut node = Node::new(0);
    let mut agent = started(&mut node, 1).await;
    agent.stream().write_all(&[0xff; 64]).await.expect("open");
    assert_eq!(node.fact().await, Fact::AgentLost { run: run(1) });
    assert!(!procfs::is_same_process(agent.id));
}

#[tokio::test]
async fn questions_are_answered_or_fail() {
    let mut node = Node::new(0);
    let mut agent = started(&mut node, 1).await;
    let runtime = node.runtime.clone();
    let asked = tokio::spawn(async move { runtime.stats(run(1), StatsDepth::Usual).await });
    let ToAgent::Stats { request, sample: false, .. } = agent.message().await else { panic!("not a question") };
    let stats = RunStats { pids: 3, ..RunStats::default() };
    agent.say(FromAgent::Stats { request, stats: stats.clone() }).await;
    assert_eq!(asked.await.expect("no panic").expect("an answer"), stats);

    let runtime = node.runtime.clone();
    let asked = tokio::spawn(async move { runtime.update(run(1), Box::default()).await });
    let ToAgent::Update { request, .. } = agent.message().await else { panic!("not a question") };
    agent.say(FromAgent::Done { request, error: Some("no".to_owned()) }).await;
    assert!(matches!(asked.await.expect("no panic"), Err(RuntimeError::Refused(why)) if why == "no"));

    let runtime = node.runtime.clone();
    let asked = tokio::spawn(async move { runtime.stats(run(1), StatsDepth::Usual).await });
    assert!(matches!(agent.message().await, ToAgent::Stats { .. }));
    agent.die();
    assert!(matches!(asked.await.expect("no panic"), Err(RuntimeError::Closed)));
    assert!(matches!(node.runtime.stats(run(9), StatsDepth::Usual).await, Err(RuntimeError::NotRunning(_))));
}

/// What an agent of an older build would not understand is not sent to it.
#[tokio::test]
async fn an_older_agent_is_spared_what_it_does_not_know() {
    let mut node = Node::new(0);
    node.runtime.prepare(launch(run(1), &Namespace::owner()));
    node.runtime.execute(run(1));
    let mut agent = node.agent().await;
    assert!(matches!(agent.message().await, ToAgent::Hello { .. }));
    let mut hello = agent.hello_of(AgentState::Idle);
    hello.protocol_max = 2;
    agent.say(FromAgent::Hello(hello)).await;
    starts(&mut node, &mut agent, run(1)).await;
    let refused = |error| matches!(error, RuntimeError::Refused(why) if why.contains("an agent of an older build"));
    assert!(refused(node.runtime.processes(run(1)).await.expect_err("not asked")));
    let shares = Limits { cpu_shares: Some(5), ..Limits::default() };
    assert!(refused(node.runtime.update(run(1), Box::new(shares)).await.expect_err("not asked")));
    let runtime = node.runtime.clone();
    let pids = Limits { pids: Some(5), ..Limits::default() };
    let asked = tokio::spawn(async move { runtime.update(run(1), Box::new(pids)).await });
    let ToAgent::Update { request, .. } = agent.message().await else { panic!("not a question") };
    agent.say(FromAgent::Done { request, error: None }).await;
    asked.await.expect("no panic").expect("done");
    agent.die();
}

#[tokio::test]
async fn processes_are_asked_for_and_told() {
    let mut node = Node::new(0);
    let mut agent = started(&mut node, 1).await;
    let runtime = node.runtime.clone();
    let asked = tokio::spawn(async move { runtime.processes(run(1)).await });
    let ToAgent::Processes { request } = agent.message().await else { panic!("not a question") };
    let list = hostler_model::process::Processes { left_out: 3, ..Default::default() };
    agent.say(FromAgent::Processes { request, list: list.clone() }).await;
    assert_eq!(asked.await.expect("no panic").expect("a list"), list);
    agent.die();
}

#[tokio::test]
async fn shutdown_sends_idle_agents_away_and_leaves_the_others() {
    let mut node = Node::new(0);
    let mut busy = started(&mut node, 1).await;
    node.runtime.prepare(launch(run(2), &Namespace::of_uid(7)));
    let mut idle = node.warm_agent().await;
    assert!(matches!(idle.message().await, ToAgent::Prepare { .. }));
    node.runtime.abort(run(2));
    assert!(matches!(idle.message().await, ToAgent::Abort { .. }));
    idle.say(FromAgent::Idle).await;
    node.until(|runtime| runtime.idle_agents() == 1).await;
    let runtime = node.runtime.clone();
    let down = tokio::spawn(async move { runtime.shutdown().await });
    assert_eq!(idle.message().await, ToAgent::Quit);
    idle.die();
    down.await.expect("no panic");
    assert_eq!(busy.got().await, None, "closed without a word");
    assert!(procfs::is_same_process(busy.id));
    busy.die();
    assert!(node.facts.try_recv().is_err());
}

/// A guest asks for its place first: without it nothing of it is made, and no agent is taken.
#[tokio::test]
async fn a_guest_without_its_place_is_told_and_leaves_nothing() {
    let mut node = Node::new(0);
    let attachment = hostler_model::network::Attachment::to("blue".parse().expect("a name"));
    let network = Some(hostler_model::container::Network::Named(Box::new(attachment)));
    let asked = Box::new(hostler_model::vm::Vm { network, ..Default::default() });
    let guest = VmLaunch { asked, boot: None, names: vec!["web".to_owned()], identity: GuestIdentity::default() };
    let guest = Launch { vm: Some(Box::new(guest)), ..launch(run(1), &Namespace::owner()) };
    node.runtime.prepare(guest);
    match node.fact().await {
        Fact::StartFailed { run: of, failure } => {
            assert_eq!((of, failure.kind), (run(1), StartFailureKind::Network));
            assert!(failure.message.contains("no network blue"), "{}", failure.message);
        }
        other => panic!("{other:?}"),
    }
    node.runtime.committed(run(1));
    assert!(node.started.lock().expect("no test holds it").is_empty(), "nobody was started for it");
    assert!(!node.directory.path().join("vm").exists(), "nothing was made");
}
