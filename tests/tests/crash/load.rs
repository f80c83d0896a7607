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
