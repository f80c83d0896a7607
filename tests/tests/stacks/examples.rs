//! The stacks in `examples/`.

use std::path::PathBuf;

use hostler_api::stack_file;
use hostler_model::stack::check;
use hostler_tests::{PATIENCE, TestNode, skip, until};

use super::{states, view, write};

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

#[test]
fn every_example_is_good() {
    let files = stack_file::files(&examples()).expect("examples");
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let loaded = stack_file::load(&file).unwrap_or_else(|error| panic!("{error}"));
        let checked = check(&loaded.stack);
        assert!(checked.mistakes.is_empty(), "{}: {:?}", file.display(), checked.mistakes);
    }
}

/// `alone_`: the example has a port and directories of its own.
#[test]
fn alone_the_shop_opens_and_closes() {
    let has_python = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join("python3").is_file()));
    if !has_python {
        return skip("the example's web server needs python3");
    }
    let node = TestNode::new();
    if node.cli(&["--json", "doctor"]).out().contains("\"memory limits\",\n      \"status\": \"missing\"") {
        return skip("the example needs a memory limit");
    }
    let file = examples().join("shop.toml");
    let file = file.to_str().expect("a path");
    node.cli(&["stack", "apply", file]).ok();
    let shop = view(&node, "shop");
    assert_eq!(states(&shop), [("db", "ready"), ("migrate", "ready"), ("reporter", "skipped"), ("web", "ready")]);
    assert_eq!(std::fs::read_to_string("/tmp/hostler-shop/index.html").expect("a page"), "hello from the shop\n");
    assert_eq!(node.cli(&["stack", "diff", file]).ok(), "");
    node.cli(&["stack", "down", file]).ok();
    std::fs::remove_dir_all("/tmp/hostler-shop").expect("the example's directory");
    node.finish();
}

/// `alone_`: the same.
#[test]
fn alone_the_fleet_is_scheduled_and_runs() {
    let node = TestNode::new();
    let file = examples().join("fleet.toml");
    node.cli(&["stack", "apply", file.to_str().expect("a path")]).ok();
    let fleet = view(&node, "fleet");
    assert_eq!(states(&fleet), [("backup", "ready"), ("census", "ready"), ("prepare", "ready"), ("rotate", "ready")]);
    for name in ["fleet.backup", "fleet.census", "fleet.rotate"] {
        let workload = node.inspect(name).workload;
        assert!(workload.schedule.as_ref().is_some_and(|plan| plan.next_fire_ms.is_some()), "{workload:?}");
    }
    // One that does not let a test wait.
    let text = std::fs::read_to_string(&file).expect("the example");
    let soon = text.replace("\"*/5 * * * *\"", "{ every = \"100ms\" }");
    assert_ne!(text, soon);
    let path = write(&node, "fleet", &soon);
    assert_eq!(node.cli(&["stack", "diff", path.to_str().expect("a path")]).ok().trim(), "~ fleet.census: schedule");
    node.cli(&["stack", "apply", path.to_str().expect("a path")]).ok();
    until("two runs of the census", PATIENCE, || {
        node.all()
            .iter()
            .any(|view| view.workload.name.as_str() == "fleet.census" && view.workload.runs >= 2)
            .then_some(())
    });
    assert!(std::fs::read_to_string("/tmp/hostler-fleet/processes").is_ok(), "its result");
    node.cli(&["stack", "down", "fleet"]).ok();
    assert!(node.all().is_empty(), "nothing fires any more");
    std::fs::remove_dir_all("/tmp/hostler-fleet").expect("the example's directory");
    node.finish();
}

/// `alone_`: the same.
#[test]
fn alone_the_encodes_go_through_their_queue() {
    let node = TestNode::new();
    let _ = std::fs::remove_dir_all("/tmp/hostler-encodes");
    let text = std::fs::read_to_string(examples().join("encodes.toml")).expect("the example");
    // Limits are not what this is about, and not every machine has them.
    let text: String =
        text.lines().filter(|line| !line.starts_with("limits")).map(|line| format!("{line}\n")).collect();
    let path = write(&node, "encodes", &text);
    node.cli(&["stack", "apply", path.to_str().expect("a path")]).ok();
    assert_eq!(states(&view(&node, "encodes")), [("film", "ready"), ("intro", "ready"), ("watcher", "ready")]);
    let turns: Vec<_> = node
        .journal()
        .iter()
        .filter(|event| ["workload.queued", "run.exited"].contains(&event.event.kind.name()))
        .filter_map(|event| {
            event.event.subject.as_ref().map(|subject| (subject.name.to_string(), event.event.kind.name()))
        })
        .filter(|(name, _)| name == "encodes.intro" || name == "encodes.film")
        .collect();
    let expected = [
        ("encodes.intro", "workload.queued"),
        ("encodes.intro", "run.exited"),
        ("encodes.film", "workload.queued"),
        ("encodes.film", "run.exited"),
    ];
    assert_eq!(turns, expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert!(node.cli(&["queue", "ls"]).ok().contains("encode"));
    until("the list of the hook", PATIENCE, || {
        let list = std::fs::read_to_string("/tmp/hostler-encodes/list").ok()?;
        (list.contains("film.gz") && list.contains("intro.gz")).then_some(())
    });
    node.cli(&["stack", "down", "encodes"]).ok();
    std::fs::remove_dir_all("/tmp/hostler-encodes").expect("the example's directory");
    node.finish();
}
