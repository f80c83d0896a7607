//! Statistics at an interval: samples, metrics, the summary in the result, restarts of the daemon.

use hostler_api::result::{ResultQuery, WorkloadResult};
use hostler_api::types::{Sample, Stats};
use hostler_model::{ProblemKind, Spec};
use hostler_tests::{PATIENCE, TestNode, until};

fn history(node: &TestNode, reference: &str) -> Stats {
    node.block_on(node.api().stats_history(reference)).unwrap_or_else(|error| panic!("stats {reference}: {error}"))
}

/// Waits for so many samples.
fn samples(node: &TestNode, reference: &str, count: usize) -> Vec<Sample> {
    until(&format!("{count} samples of {reference}"), PATIENCE, || {
        history(node, reference).samples.filter(|samples| samples.len() >= count)
    })
}

fn result(node: &TestNode, reference: &str) -> WorkloadResult {
    node.ended(reference);
    node.block_on(node.api().result(reference, &ResultQuery::default())).expect("a result")
}

fn busy(node: &TestNode, name: &str) -> Spec {
    let script = "dd if=/dev/zero of=big bs=1M count=8 conv=fsync 2>/dev/null; i=0; \
                  until [ -e go ]; do i=$((i+1)); done; echo done";
    let mut spec = node.script(script);
    spec.name = Some(name.parse().unwrap());
    spec.stats_interval_ms = Some(100);
    spec
}

fn metric(node: &TestNode, name: &str, workload: &str) -> Option<f64> {
    let text = node.block_on(node.api().metrics()).expect("metrics");
    let label = format!("workload=\"{workload}\"}} ");
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(&label))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn samples_metrics_and_a_summary_with_the_end() {
    let node = TestNode::new();
    node.create_started(&busy(&node, "busy"));
    node.create_started(&node.spec(&["sleep", "600"]));
    let seen = samples(&node, "busy", 5);
    assert!(
        seen.windows(2).all(|pair| pair[0].time_ms <= pair[1].time_ms && pair[0].used.cpu_us <= pair[1].used.cpu_us)
    );
    assert!(seen.iter().all(|sample| sample.run == 1 && sample.pids >= 1 && sample.used.rss_bytes > 0), "{seen:?}");
    until("used CPU", PATIENCE, || {
        history(&node, "busy").samples?.last().filter(|last| last.used.cpu_us > 0).map(|_| ())
    });
    assert!(metric(&node, "hostler_workload_resident_bytes", "busy").is_some_and(|bytes| bytes > 0.0));
    until("CPU in the metrics", PATIENCE, || {
        metric(&node, "hostler_workload_cpu_seconds_total", "busy").filter(|cpu| *cpu > 0.0)
    });
    let text = node.block_on(node.api().metrics()).expect("metrics");
    assert!(!text.contains("workload=\"sleep"), "only those that ask for it have series: {text}");

    std::fs::write(node.work().join("go"), "").unwrap();
    let found = result(&node, "busy");
    let sum = found.statistics.expect("a summary");
    let usage = found.usage.expect("usage");
    assert!(sum.samples >= 5 && sum.cpu_us >= usage.user_us + usage.system_us, "{sum:?} {usage:?}");
    assert!(sum.rss_max_bytes >= sum.rss_mean_bytes && sum.rss_mean_bytes > 0, "{sum:?}");
    assert!(sum.written_bytes.is_some(), "{sum:?}");
    // Looked at afterwards: the samples are still there, the series is not.
    let after = history(&node, "busy");
    assert!(after.samples.as_ref().is_some_and(|samples| samples.len() >= 5) && after.time_ms > 0);
    assert_eq!(metric(&node, "hostler_workload_resident_bytes", "busy"), None);
    let table = node.cli(&["stats", "--history", "busy"]).ok();
    assert!(table.starts_with("TIME") && table.lines().count() >= 6, "{table}");
    assert!(node.cli(&["--json", "stats", "--history", "busy"]).json_lines().len() >= 5);
    assert!(node.cli(&["result", "busy"]).ok().contains(" samples, cpu "));
    node.cli(&["rm", "busy"]).ok();
    node.finish();
}

#[test]
fn with_a_cgroup_of_its_own_too() {
    let node = TestNode::new();
    let mut spec = busy(&node, "limited");
    spec.limits.pids = Some(50);
    if node.block_on(node.api().create(&spec, &hostler_api::types::CreateQuery::default(), None)).is_err() {
        hostler_tests::skip("no cgroup can limit processes here");
        return node.finish();
    }
    let seen = samples(&node, "limited", 3);
    assert!(seen.iter().all(|sample| sample.used.rss_bytes > 0 && sample.used.written_bytes.is_some()), "{seen:?}");
    std::fs::write(node.work().join("go"), "").unwrap();
    assert!(result(&node, "limited").statistics.is_some_and(|sum| sum.samples >= 3 && sum.cpu_us > 0));
    node.finish();
}

#[test]
fn adopted_runs_are_sampled_on_and_the_summary_loses_nothing() {
    let mut node = TestNode::new();
    node.create_started(&busy(&node, "kept"));
    let before = samples(&node, "kept", 4).len() as u64;
    node.kill_and_start();
    let again = samples(&node, "kept", 3).len() as u64;
    std::fs::write(node.work().join("go"), "").unwrap();
    let sum = result(&node, "kept").statistics.expect("a summary");
    assert!(sum.samples >= before + again, "{before} before the death of the daemon, {again} after it: {sum:?}");
    // And an end that no daemon was there for has it all the same.
    std::fs::remove_file(node.work().join("go")).unwrap();
    node.create_started(&busy(&node, "alone"));
    samples(&node, "alone", 2);
    let pid = node.main_pid("alone");
    node.kill();
    std::fs::write(node.work().join("go"), "").unwrap();
    hostler_tests::until_gone(pid);
    node.start();
    assert!(result(&node, "alone").statistics.is_some_and(|sum| sum.samples >= 2));
    node.finish();
}

#[test]
fn each_run_has_a_summary_of_its_own_and_who_asks_for_none_has_none() {
    let node = TestNode::new();
    node.create_started(&busy(&node, "twice"));
    samples(&node, "twice", 2);
    node.cli(&["restart", "--timeout", "5s", "twice"]).ok();
    let both = until("samples of both runs", PATIENCE, || {
        history(&node, "twice").samples.filter(|samples| samples.last().is_some_and(|last| last.run == 2))
    });
    assert_eq!(both[0].run, 1);
    std::fs::write(node.work().join("go"), "").unwrap();
    let found = result(&node, "twice");
    assert!(found.statistics.is_some_and(|sum| sum.samples >= 1), "{found:?}");

    node.cli(&["run", "--name", "plain", "--", "true"]).code(0);
    assert_eq!(result(&node, "plain").statistics, None);
    let refused = node.block_on(node.api().stats_history("plain")).expect_err("none are kept");
    assert_eq!(refused.problem_kind(), Some(ProblemKind::Conflict));
    node.cli(&["stats", "--history", "plain"]).refused(1, "stats_interval_ms");
    node.cli(&["run", "--stats-interval", "50ms", "--", "true"]).refused(125, "at least 100");
    node.finish();
}

/// A stopped agent answers nobody: its workload has no samples, the others have theirs.
#[test]
fn one_that_does_not_answer_holds_up_no_other() {
    let node = TestNode::new();
    for name in ["hangs", "goes-on"] {
        let mut spec = node.spec(&["sleep", "600"]);
        spec.name = Some(name.parse().unwrap());
        spec.stats_interval_ms = Some(100);
        node.create_started(&spec);
    }
    samples(&node, "hangs", 1);
    let agent = node.run_file("hangs").agent.pid;
    hostler_tests::signal(agent, 19);
    let before = samples(&node, "goes-on", 1).len();
    samples(&node, "goes-on", before + 8);
    hostler_tests::signal(agent, 18);
    let now = history(&node, "hangs").samples.map_or(0, |samples| samples.len());
    samples(&node, "hangs", now + 2);
    node.finish();
}
