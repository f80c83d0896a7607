//! What the end tells beside itself: lines, where they are, and what samples came to. And stdin that comes with the run.

use hostler_model::exit::LogPlace;
use hostler_model::limits::STDIN_DATA_MAX;
use hostler_model::statistics::Statistics;
use hostler_wire::{FromAgent, ToAgent};

use crate::client::Node;

#[test]
fn the_end_counts_the_lines_of_its_run_and_knows_where_they_are() {
    let mut node = Node::new();
    let launch = node.launch(&["sh", "-c", "seq 1000; echo one >&2; printf 'no newline'"]);
    let exit = node.whole(&launch);
    assert_eq!((exit.stdout_lines, exit.stderr_lines), (1_001, 1));
    assert_eq!(exit.log_from, Some(LogPlace { segment: 1, offset: 0 }));
    let first = std::fs::metadata(node.path("log/w/00000001.log")).unwrap().len();
    let launch = node.launch(&["echo", "again"]);
    let exit = node.whole(&launch);
    assert_eq!((exit.stdout_lines, exit.stderr_lines), (1, 0));
    assert_eq!(exit.log_from, Some(LogPlace { segment: 1, offset: first }));
    let launch = node.launch(&["true"]);
    let exit = node.whole(&launch);
    assert_eq!((exit.stdout_lines, exit.stderr_lines, exit.log_from, exit.statistics), (0, 0, None, None));
}

#[test]
fn output_that_goes_to_files_is_not_counted() {
    let mut node = Node::new();
    let mut launch = node.launch(&["sh", "-c", "seq 10; echo err >&2"]);
    launch.stdio.stdout = Some(node.path("out").as_os_str().into());
    let exit = node.whole(&launch);
    assert_eq!((exit.stdout_lines, exit.stderr_lines), (0, 1));
}

#[test]
fn samples_and_no_other_looks_come_to_the_ends_statistics() {
    let mut node = Node::new();
    let launch = node.launch(&["sleep", "60"]);
    node.start(&launch);
    // The kernel counts a small program's pages in lots, and later than it takes them.
    let mut request = 10;
    loop {
        request += 1;
        node.link.send(&ToAgent::Stats { request, sample: false, depth: Default::default() });
        match node.link.message() {
            FromAgent::Stats { stats, .. } if stats.rss_bytes > 0 => break,
            FromAgent::Stats { .. } => assert!(request < 100_000, "nothing is resident"),
            other => panic!("{other:?}"),
        }
    }
    for (request, sample) in [(1, true), (2, false), (3, true)] {
        node.link.send(&ToAgent::Stats { request, sample, depth: Default::default() });
        match node.link.message() {
            FromAgent::Stats { request: answered, stats } => {
                assert!(answered == request && stats.rss_bytes > 0 && stats.read_bytes.is_some(), "{stats:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    node.link.send(&ToAgent::Kill { run: launch.run });
    let Statistics { samples, rss_max_bytes, rss_mean_bytes, read_bytes, .. } =
        *node.exited().statistics.expect("a summary");
    assert!(samples == 2 && rss_max_bytes >= rss_mean_bytes && rss_mean_bytes > 0 && read_bytes.is_some());
    node.commit(launch.run);
}

#[test]
fn stdin_that_comes_with_the_run_is_read_from_start_to_end_however_much_is_written() {
    let mut node = Node::new();
    let data: Vec<u8> = (0..STDIN_DATA_MAX).map(|at| (at * 7 % 251) as u8).collect();
    // Writes far more than any pipe holds before it reads the first byte.
    for script in ["head -c 3000000 /dev/zero | tr '\\0' x; cat >in", "cat >in", "cat /dev/stdin >in"] {
        let mut launch = node.launch(&["sh", "-c", script]);
        launch.stdio.stdin_data = Some(data.clone().into());
        launch.program.workdir = node.path("").as_os_str().into();
        let exit = node.whole(&launch);
        assert!(exit.status.is_success(), "{script}: {exit:?}");
        assert!(std::fs::read(node.path("in")).unwrap() == data, "{script}");
    }
    // What is only read in part, or not at all, holds nobody up; and no program can change it for another.
    let mut launch = node.launch(&["sh", "-c", "head -c 3; if echo x >/dev/stdin; then exit 7; fi"]);
    launch.stdio.stdin_data = Some("abcdef".into());
    assert!(node.whole(&launch).status.is_success());
    assert!(node.log_lines().iter().any(|line| line == "stdout F abc"));
    let mut launch = node.launch(&["true"]);
    launch.stdio.stdin_data = Some(data.into());
    assert!(node.whole(&launch).status.is_success());
}
