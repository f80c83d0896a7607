//! The stacks in `examples/`.

use std::path::PathBuf;

use hostler_api::stack_file;
use hostler_model::stack::check;
use hostler_tests::{TestNode, skip};

use super::{states, view};

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
