//! Output arrives as it was written: nothing in it is a command (systems.md 5.15).

use std::fmt::Write as _;

use hostler_tests::TestNode;

/// systems.md 5.7, 5.15: lines such as `2001::1` were taken for messages of a level, and missing from stdout.
#[test]
fn lines_that_look_like_levels_arrive_unchanged() {
    let lines = [
        "2001::1",
        "10::x",
        "1::out",
        "2::err",
        "9::critical",
        "20::{\"a\":1}",
        "20:::",
        "multi",
        ":::",
        "30:::never closed",
        "key:value|A",
        "10::no pipe",
        "::1",
        ":",
        "",
    ];
    let node = TestNode::new();
    std::fs::write(node.work().join("lines"), lines.join("\n") + "\n").unwrap();
    for stream in ["1", "2"] {
        let name = format!("stream-{stream}");
        let output = node.cli(&["run", "--name", &name, "--", "sh", "-c", &format!("cat lines >&{stream}")]).code(0);
        let (shown, other) = if stream == "1" { (output.out(), output.err()) } else { (output.err(), output.out()) };
        assert_eq!((shown.as_str(), other.as_str()), ((lines.join("\n") + "\n").as_str(), ""));
        let result = node.cli(&["--json", "result", "--lines", "100", &name]).json();
        let key = if stream == "1" { "stdout" } else { "stderr" };
        let told: Vec<&str> =
            result[key]["lines"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap()).collect();
        assert_eq!(told, lines);
    }
    assert_eq!(node.cli(&["logs", "stream-1"]).code(0).out(), lines.join("\n") + "\n");
    node.finish();
}

/// systems.md 5.15: an unfinished last message was lost at the end.
#[test]
fn a_last_line_without_newline_is_kept() {
    let node = TestNode::new();
    let script = "printf 'out 1\\nlast out'; printf 'last err' >&2";
    let output = node.cli(&["run", "--name", "cut", "--", "sh", "-c", script]).code(0);
    assert_eq!((output.out().as_str(), output.err().as_str()), ("out 1\nlast out", "last err"));
    let result = node.cli(&["--json", "result", "cut"]).json();
    assert_eq!(result["stdout"]["lines"][1]["text"], "last out");
    assert_eq!((&result["stderr"]["lines"][0]["text"], &result["stderr"]["left_out"]), (&"last err".into(), &0.into()));
    node.finish();
}

/// Many lines with numbers at both ends: every one once, in order.
#[test]
fn much_output_has_no_gap() {
    let node = TestNode::new();
    let mut script = String::new();
    write!(script, "seq -f '%.0f:: line' 1 30000").unwrap();
    node.cli(&["run", "-d", "--name", "much", "--", "sh", "-c", &script]).ok();
    node.ended("much");
    let log = node.log_of("much");
    assert_eq!(log.lines().count(), 30_000);
    assert!(log.lines().enumerate().all(|(at, line)| line == format!("{}:: line", at + 1)));
    node.finish();
}
