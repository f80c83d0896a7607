//! Plain processes that are kept apart from the machine.
//!
//! - `escape`: what each of them may not do, one row each
//! - `life`: that they live and end as other programs do
//! - `profiles`: who may ask for what, and what is shown

mod escape;
mod life;
mod profiles;

use hostler_tests::TestNode;

/// Whether processes can be kept apart here; says why not.
fn can_isolate(node: &TestNode) -> bool {
    let report = node.block_on(node.api().doctor()).expect("a report");
    let bad = report.checks.iter().find(|check| {
        let needed = ["namespaces", "user namespaces", "seccomp"].contains(&check.name.as_str());
        needed && check.status != hostler_api::types::CheckStatus::Ok
    });
    if let Some(bad) = bad {
        hostler_tests::skip(&format!("{}: {}", bad.name, bad.detail));
    }
    bad.is_none()
}
