//! The daemon is killed at random moments while many clients submit jobs and ask again until they are accepted.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use hostler_api::types::CreateQuery;
use hostler_tests::TestNode;
use hostler_tests::events::assert_history;

const JOBS: usize = 64;
const KILLS: u64 = 8;

#[test]
fn every_accepted_job_runs_once_whatever_is_killed() {
    let mut node = TestNode::new();
    let seed = RandomState::new();
    let specs: Vec<_> = (0..JOBS)
        .map(|number| {
            let pause = seed.hash_one(number) % 100;
            // One write of one line to a file opened with O_APPEND.
            let mut spec =
                node.script(&format!("echo job-{number} >>effects; sleep 0.{pause:03}; exit {}", number % 7));
            spec.name = Some(format!("job-{number}").parse().expect("a name"));
            Arc::new(spec)
        })
        .collect();
    let mut clients = tokio::task::JoinSet::new();
    node.block_on(async {
        for (number, spec) in specs.iter().enumerate() {
            let (api, spec) = (node.api().clone(), spec.clone());
            let delay = Duration::from_millis(seed.hash_one(number + JOBS) % 1_200);
            clients.spawn(async move {
                tokio::time::sleep(delay).await;
                let key = format!("key-{number}");
                loop {
                    match api.create(&spec, &CreateQuery::default(), Some(&key)).await {
                        Ok(view) => return view.workload.id,
                        Err(error) if error.is_disconnect() => tokio::time::sleep(Duration::from_millis(5)).await,
                        Err(error) => panic!("job {number}: {error}"),
                    }
                }
            });
        }
    });
    for kill in 0..KILLS {
        // The moment is what is random here.
        std::thread::sleep(Duration::from_millis(seed.hash_one(kill) % 150));
        node.kill_and_start();
    }
    let accepted = node.block_on(clients.join_all());
    assert_eq!(accepted.len(), JOBS);
    for number in 0..JOBS {
        let view = node.ended(&format!("job-{number}"));
        let code = u8::try_from(number % 7).expect("small");
        assert_eq!(view.exit_code, Some(code), "job-{number}: {:?}", view.workload.run);
        assert_eq!(view.workload.runs, 1, "job-{number}");
        assert!(accepted.contains(&view.workload.id));
    }
    assert_eq!(node.all().len(), JOBS);
    let text = std::fs::read_to_string(node.work().join("effects")).expect("effects");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines() {
        *counts.entry(line).or_default() += 1;
    }
    assert_eq!(counts.len(), JOBS, "{counts:?}");
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert_history(&node.journal());
    node.finish();
}

/// Agents and daemons are killed beneath running jobs: ends are told, or told to be lost, and each just once.
#[test]
fn every_run_has_one_end_whoever_is_killed() {
    const RUNS: usize = 40;
    const ROUNDS: u64 = 12;
    let mut node = TestNode::new();
    let seed = RandomState::new();
    for number in 0..RUNS {
        // Every other one leaves an orphan behind.
        let orphan = if number % 2 == 0 { "setsid sleep 600 >/dev/null 2>&1 & " } else { "" };
        let pause = 200 + seed.hash_one(number) % 1_500;
        let mut spec =
            node.script(&format!("{orphan}echo run-{number} >>effects; sleep {}.{:03}", pause / 1_000, pause % 1_000));
        spec.name = Some(format!("run-{number}").parse().expect("a name"));
        node.create(&spec);
    }
    for round in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(seed.hash_one(round) % 80));
        let runs = node.directories("run");
        let victim = runs.get(usize::try_from(seed.hash_one(round + 99)).expect("64 bits") % runs.len().max(1));
        let file = victim.and_then(|run| std::fs::read(run.join("run.json")).ok());
        let file = file.and_then(|bytes| serde_json::from_slice::<hostler_model::rundir::RunFile>(&bytes).ok());
        let with_daemon = round % 3 == 0;
        if with_daemon {
            node.kill();
        }
        // Still the same process: its own start time says so.
        if let Some(file) = file.filter(|file| hostler_linux::procfs::is_same_process(file.agent)) {
            hostler_linux::process::signal(file.agent.pid, hostler_model::units::Signal::KILL).ok();
        }
        if with_daemon {
            node.start();
        }
    }
    let mut lost = 0;
    for number in 0..RUNS {
        let view = node.ended(&format!("run-{number}"));
        assert_eq!(view.workload.runs, 1, "run-{number}");
        match view.phase.as_str() {
            "ended" => assert_eq!(view.exit_code, Some(0), "run-{number}: {:?}", view.workload.run),
            "lost" => lost += 1,
            other => panic!("run-{number} is {other}: {:?}", view.workload.run),
        }
    }
    eprintln!("{lost} of {RUNS} runs were lost with their agents");
    let text = std::fs::read_to_string(node.work().join("effects")).expect("effects");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), text.lines().count(), "a job was executed twice: {text}");
    assert_history(&node.journal());
    node.finish();
}
