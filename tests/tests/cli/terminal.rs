//! `-t` and `-it`: a real terminal on this side, one of its own on the program's.

use hostler_api::types::WaitFor;
use hostler_model::spec::TtySize;
use hostler_tests::pty::Terminal;
use hostler_tests::{TestNode, skip};

const SIZE: TtySize = TtySize { columns: 91, rows: 33 };

fn has_setsid() -> bool {
    std::process::Command::new("setsid").arg("--version").output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_program_gets_a_terminal_of_this_size() {
    if !has_setsid() {
        return skip("setsid of util-linux is missing");
    }
    let node = TestNode::new();
    let script = "tty; stty size; test -t 2 && echo all three; exit 5";
    let terminal = Terminal::hostler(&node, SIZE, &["run", "-t", "--", "sh", "-c", script]);
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(5), "{shown}");
    for words in ["/dev/pts/", "all three\r"] {
        assert!(shown.contains(words), "{shown:?} lacks {words:?}");
    }
    let terminal = Terminal::hostler(&node, SIZE, &["run", "-it", "--", "sh", "-c", "stty size"]);
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("33 91\r\n"), "{shown:?}");
    node.finish();
}

#[test]
fn a_shell_takes_input_sizes_and_ctrl_c() {
    if !has_setsid() {
        return skip("setsid of util-linux is missing");
    }
    let node = TestNode::new();
    let mut terminal =
        Terminal::hostler(&node, SIZE, &["run", "-it", "--rm", "--env", "PS1=ready> ", "--", "sh", "-i"]);
    terminal.wait_for("ready> ");
    terminal.type_in("echo $((6 * 7))\n");
    terminal.wait_for("42\r\n");
    terminal.resize(120, 50);
    terminal.type_in("sleep 0.2; stty size\n");
    terminal.wait_for("50 120\r\n");
    terminal.type_in("sh -c 'echo begun; exec sleep 60'\n");
    terminal.wait_for("begun\r\n");
    terminal.type_in("\u{3}");
    terminal.wait_for("ready> ");
    terminal.type_in("exit 4\n");
    assert_eq!(terminal.end().0, Some(4));
    node.finish();
}

#[test]
fn leaving_keeps_it_running_and_attach_comes_back() {
    if !has_setsid() {
        return skip("setsid of util-linux is missing");
    }
    let node = TestNode::new();
    let line = ["run", "-it", "--name", "shell", "--env", "PS1=ready> ", "--", "sh", "-i"];
    let mut terminal = Terminal::hostler(&node, SIZE, &line);
    terminal.wait_for("ready> ");
    terminal.type_in("\u{10}\u{11}");
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("goes on"), "{shown:?}");
    node.wait("shell", WaitFor::Started);
    assert_eq!(node.inspect("shell").phase.as_str(), "running");
    let mut again = Terminal::hostler(&node, SIZE, &["attach", "shell"]);
    again.wait_for("ready> ");
    again.type_in("echo $((5 * 5))\n");
    again.wait_for("25\r\n");
    again.type_in("exit 6\n");
    assert_eq!(again.end().0, Some(6));
    node.finish();
}

#[test]
fn exec_has_a_terminal_too() {
    if !has_setsid() {
        return skip("setsid of util-linux is missing");
    }
    let node = TestNode::new();
    node.cli(&["run", "-d", "--name", "host", "--", "sleep", "60"]).ok();
    let mut terminal = Terminal::hostler(&node, SIZE, &["exec", "-it", "--env", "PS1=inside> ", "host", "sh", "-i"]);
    terminal.wait_for("inside> ");
    terminal.type_in("tty; stty size; exit 3\n");
    terminal.wait_for("33 91\r\n");
    assert_eq!(terminal.end().0, Some(3));
    node.finish();
}

#[test]
fn colours_are_for_terminals_that_have_them() {
    if !has_setsid() {
        return skip("setsid of util-linux is missing");
    }
    let node = TestNode::new();
    node.cli(&["run", "--name", "bad", "--", "false"]).code(1);
    let (code, shown) = Terminal::hostler(&node, SIZE, &["ps", "-a"]).end();
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("\u{1b}[31mended 1"), "{shown:?}");
    // The last column is cut to the terminal's width.
    node.cli(&["run", "--", "true", &"x".repeat(300)]).ok();
    let (_, shown) = Terminal::hostler(&node, SIZE, &["ps", "-a"]).end();
    assert!(shown.contains('…') && !shown.contains(&"x".repeat(100)), "{shown:?}");
    node.finish();
}
