//! The patterns of one run's hooks.

use std::sync::Arc;

use hostler_model::hook::HookOn;
use hostler_model::{RunId, Workload};
use hostler_provision::Pattern;
use hostler_provision::launch::log_directory;
use hostler_supervisor::Fact;

use crate::logs::Watcher;
use crate::matcher::{Matcher, Wanted};
use crate::node::Node;

/// Searches the run's output for the patterns of these hooks, and tells of each; at the end that all was read.
pub(super) async fn search(node: Arc<Node>, watcher: Watcher, workload: Arc<Workload>, run: RunId, hooks: Vec<u8>) {
    let wanted = hooks.into_iter().filter_map(|key| match &workload.spec.hooks.get(usize::from(key))?.on {
        HookOn::Line { pattern, stream } => match Pattern::new(pattern) {
            Ok(pattern) => Some(Wanted { key, pattern, stream: *stream }),
            // It compiled when it was accepted, by an engine with other bounds.
            Err(why) => {
                tracing::warn!(%run, hook = key, why, "a hook's pattern");
                None
            }
        },
        _ => None,
    });
    let directory = log_directory(&node.layout.logs(), &workload);
    let watched = node.view.watch(workload.id);
    let mut matcher = Matcher::new(&watcher, directory, run, watched, wanted.collect());
    while let Some((hook, line)) = matcher.next().await {
        crate::failpoint::hit("line-matched");
        node.tell(Fact::LineMatched { run, hook, line }).await;
    }
    // Of a run that lives on because every pattern was found, the supervisor has nothing to forget.
    node.tell(Fact::LinesRead { run }).await;
}
