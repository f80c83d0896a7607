//! What the program writes, as it is found in the log directory.

use hostler_model::limits::LOG_LINE_MAX;
use hostler_model::spec::{Log, TtySize};

use crate::client::Node;

#[test]
fn both_streams_in_cri_lines() {
    let mut node = Node::new();
    let launch = node.launch(&["sh", "-c", "echo out; sleep 0.1; echo err >&2; sleep 0.1; printf 'a\\n\\nno newline'"]);
    node.whole(&launch);
    assert_eq!(node.log_lines(), ["stdout F out", "stderr F err", "stdout F a", "stdout F ", "stdout F no newline"]);
    // A second run goes on in the same log.
    let launch = node.launch(&["echo", "again"]);
    node.whole(&launch);
    assert_eq!(node.log_lines().last().unwrap(), "stdout F again");
    assert_eq!(std::fs::read_dir(node.path("log/w")).unwrap().count(), 1);
}

#[test]
fn long_lines_and_rotation() {
    let mut node = Node::new();
    let script = "head -c 40000 /dev/zero | tr '\\0' x; echo";
    let launch = node.launch(&["sh", "-c", script]);
    node.whole(&launch);
    let lengths: Vec<_> = node.log_lines().iter().map(|line| (line[..8].to_owned(), line.len() - 9)).collect();
    let expected = [("stdout P", LOG_LINE_MAX), ("stdout P", LOG_LINE_MAX), ("stdout F", 40_000 - 2 * LOG_LINE_MAX)];
    assert_eq!(lengths, expected.map(|(tag, length)| (tag.to_owned(), length)));

    let mut node = Node::new();
    let mut launch = node.launch(&["seq", "100000"]);
    launch.log = Log { segment_bytes: 100_000, segments: 3 };
    node.whole(&launch);
    let lines = node.log_lines();
    assert_eq!(lines.last().unwrap(), "stdout F 100000");
    let first: usize = lines[0].rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(lines.len(), 100_000 - first + 1, "what is there is complete");
    let mut sizes: Vec<_> =
        std::fs::read_dir(node.path("log/w")).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).collect();
    sizes.sort_unstable();
    assert!(sizes.len() == 3 && sizes[2] < 101_000 && sizes[1] >= 100_000, "{sizes:?}");
}

#[test]
fn much_output_passes_quickly_and_completely() {
    let mut node = Node::new();
    let begin = std::time::Instant::now();
    let mut launch = node.launch(&[
        "sh",
        "-c",
        "yes 'a line of some sixty bytes, as they are found in many logs' | head -c 200000000",
    ]);
    launch.log = Log { segment_bytes: 50_000_000, segments: 2 };
    node.whole(&launch);
    eprintln!("200 MB through the log: {} ms", begin.elapsed().as_millis());
}

#[test]
fn a_terminal_is_logged_as_stdout() {
    let mut node = Node::new();
    let mut launch = node.launch(&["sh", "-c", "tty; stty size; echo err >&2"]);
    launch.stdio.tty = Some(TtySize { columns: 101, rows: 31 });
    node.whole(&launch);
    let lines = node.log_lines();
    assert!(lines[0].starts_with("stdout F /dev/pts/"), "{lines:?}");
    assert_eq!(lines[1..], ["stdout F 31 101", "stdout F err"]);
}

#[test]
fn files_instead_of_the_log() {
    let mut node = Node::new();
    let [input, output] = ["in", "out"].map(|name| node.path(name));
    std::fs::write(&input, "from a file\n").unwrap();
    std::fs::write(&output, "before\n").unwrap();
    let mut launch = node.launch(&["sh", "-c", "cat; echo err >&2"]);
    launch.stdio.stdin = Some(input.as_os_str().into());
    launch.stdio.stdout = Some(output.as_os_str().into());
    node.whole(&launch);
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "before\nfrom a file\n");
    assert_eq!(node.log_lines(), ["stderr F err"]);
}

#[test]
fn a_log_that_cannot_be_written_holds_nobody_up() {
    let mut node = Node::new();
    std::fs::write(node.path("log/w"), "in the way").unwrap();
    let launch = node.launch(&["sh", "-c", "seq 100000"]);
    node.start(&launch);
    assert_eq!(node.exited().cause, hostler_model::Cause::Success);
    node.link.send(&hostler_wire::ToAgent::Stats { request: 4, sample: false, depth: Default::default() });
    match node.link.message() {
        hostler_wire::FromAgent::Stats { request: 4, stats } => assert_eq!(stats.log_dropped_bytes, 588_895),
        other => panic!("{other:?}"),
    }
    node.commit(launch.run);
}
