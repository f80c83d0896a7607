//! Re-apply: only what differs changes.

use hostler_tests::events::assert_history;
use hostler_tests::{TestNode, is_alive, until_gone};

use super::{apply, states, touch, unit, until_state, until_view, view, write};

const BASE: &str = "[service.db]\ncommand = [\"sleep\", \"600\"]\n\
                    [job.migrate]\ncommand = \"echo ran >>migrations\"\nworkdir = \".\"\nrequires = \"db\"\n\
                    [service.web]\ncommand = [\"sleep\", \"601\"]\nworkdir = \".\"\nrequires = \"migrate\"\nready = { exec = \"test ! -e broken\", interval = \"20ms\", deadline = \"600ms\" }\n";

fn settle(node: &TestNode, name: &str) {
    until_view(node, name, "an end", |view| view.settled);
}

fn migrations(node: &TestNode) -> usize {
    std::fs::read_to_string(node.work().join("migrations")).unwrap_or_default().lines().count()
}

#[test]
fn only_what_differs_changes() {
    let node = TestNode::new();
    apply(&node, "s", BASE);
    settle(&node, "s");
    let (db, web) = (node.main_pid("s.db"), node.main_pid("s.web"));
    // The same again.
    let path = write(&node, "s", BASE);
    let path = path.to_str().expect("a path");
    assert_eq!(node.cli(&["stack", "diff", path]).ok(), "");
    node.cli(&["stack", "apply", path]).ok();
    assert_eq!((node.main_pid("s.db"), node.main_pid("s.web"), migrations(&node)), (db, web, 1));
    // One unit differs, one comes, and one of its keys is told.
    let changed = BASE.replace("601", "602") + "[service.new]\ncommand = [\"sleep\", \"600\"]\n";
    write(&node, "s", &changed);
    assert_eq!(node.cli(&["stack", "diff", path]).ok().trim(), "+ s.new\n~ s.web: command");
    node.cli(&["stack", "apply", path]).ok();
    assert_eq!((node.main_pid("s.db"), migrations(&node)), (db, 1));
    until_gone(web);
    until_view(&node, "s", "one workload of web", |view| view.units.iter().all(|unit| unit.members.len() == 1));
    let now = node.main_pid("s.web");
    assert_ne!(now, web);
    assert_eq!(unit(&node, "s", "web").generation, 2);
    // One goes.
    write(&node, "s", &BASE.replace("601", "602"));
    let new = node.main_pid("s.new");
    node.cli(&["stack", "apply", path]).ok();
    until_gone(new);
    until_view(&node, "s", "three units", |view| view.units.len() == 3);
    assert_eq!((node.main_pid("s.db"), node.main_pid("s.web")), (db, now));
    node.cli(&["stack", "down", "s"]).ok();
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn a_new_generation_that_is_never_ready_leaves_the_old_one_running() {
    let node = TestNode::new();
    apply(&node, "s", BASE);
    settle(&node, "s");
    let (db, web) = (node.main_pid("s.db"), node.main_pid("s.web"));
    touch(&node, "broken");
    let path = write(&node, "s", &BASE.replace("601", "602"));
    let path = path.to_str().expect("a path");
    let output = node.cli(&["stack", "apply", path]).code(1);
    assert!(output.out().contains("version 2 is failed: it was not ready within 600ms"), "{}", output.out());
    let web_now = unit(&node, "s", "web");
    assert_eq!((web_now.state.as_str(), web_now.generation), ("ready", 1));
    assert_eq!((node.main_pid("s.web"), node.main_pid("s.db")), (web, db));
    assert!(is_alive(web));
    assert!(node.inspect("s.web.next").workload.is_at_rest(), "what failed can be looked at");
    // Once it can be ready, the same file brings it into service, and it gets the name.
    std::fs::remove_file(node.work().join("broken")).expect("remove");
    node.cli(&["stack", "apply", path]).ok();
    until_gone(web);
    until_view(&node, "s", "one workload", |view| view.units.iter().all(|unit| unit.members.len() == 1));
    assert_eq!(unit(&node, "s", "web").members[0].name.as_str(), "s.web");
    assert_eq!(node.inspect("s.web").workload.spec.command[1], "602".into());
    node.cli(&["stack", "down", "s"]).ok();
    assert_history(&node.journal());
    node.finish();
}

#[test]
fn replace_stops_the_old_one_first_and_dependents_go_on() {
    let node = TestNode::new();
    let text = |seconds: u32| {
        let script = format!("mkdir lock || exit 1; trap 'rmdir lock; exit 0' TERM; sleep {seconds} & wait");
        format!(
            "[service.db]\ncommand = \"{script}\"\nworkdir = \".\"\nupdate = \"replace\"\nrestart = \"never\"\n\
             ready = {{ exec = \"test -d lock\", interval = \"20ms\" }}\n\
             [service.web]\ncommand = [\"sleep\", \"600\"]\nrequires = \"db\"\n"
        )
    };
    apply(&node, "s", &text(600));
    settle(&node, "s");
    let (db, web) = (node.main_pid("s.db"), node.main_pid("s.web"));
    let path = write(&node, "s", &text(601));
    // Were both there at a time, the second could not take the lock.
    node.cli(&["stack", "apply", path.to_str().expect("a path")]).ok();
    assert_ne!(node.main_pid("s.db"), db);
    assert_eq!(node.main_pid("s.web"), web);
    node.cli(&["stack", "down", "s"]).ok();
    node.finish();
}

#[test]
fn replicas_come_and_go_and_come_back() {
    let node = TestNode::new();
    let text = |replicas: u32| format!("[service.web]\ncommand = [\"sleep\", \"600\"]\nreplicas = {replicas}\n");
    apply(&node, "s", &text(1));
    settle(&node, "s");
    let first = node.main_pid("s.web");
    apply(&node, "s", &text(3));
    until_view(&node, "s", "three", |view| view.units[0].members.iter().filter(|member| member.ready).count() == 3);
    assert_eq!(node.main_pid("s.web.0"), first, "the first one is left alone");
    let second = node.main_pid("s.web.1");
    // One that somebody removes comes back.
    node.cli(&["rm", "-f", "s.web.1"]).ok();
    until_gone(second);
    until_view(&node, "s", "three again", |view| {
        view.units[0].members.iter().filter(|member| member.ready && member.pid != Some(second)).count() == 3
    });
    // One that somebody stops stays stopped; nothing else is disturbed.
    node.cli(&["stop", "s.web.2"]).ok();
    assert_eq!(states(&view(&node, "s")), [("web", "ready")]);
    // Until the stack is applied by hand.
    apply(&node, "s", &text(3));
    until_view(&node, "s", "the third", |view| view.units[0].members.iter().filter(|member| member.ready).count() == 3);
    apply(&node, "s", &text(1));
    until_view(&node, "s", "one", |view| view.units[0].members.len() == 1);
    assert_eq!(node.main_pid("s.web"), first);
    // Stopped by hand, the unit is stopped; started by hand, it is ready.
    node.cli(&["stop", "s.web"]).ok();
    until_state(&node, "s", "web", "stopped");
    node.cli(&["start", "s.web"]).ok();
    until_state(&node, "s", "web", "ready");
    node.cli(&["stack", "down", "s"]).ok();
    assert_history(&node.journal());
    node.finish();
}
