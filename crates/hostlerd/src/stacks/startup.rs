//! Stacks that start with the node: a file each in `startup.d` below the configuration directory. One that cannot be
//! used is told in the log, by `doctor` and by `stack ls`; the others start.
//!
//! They are applied each time the daemon comes up: what is as it should be is left alone, and what was stopped by hand
//! or has failed stays so.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use hostler_api::stack_file;
use hostler_api::stacks::BrokenFile;
use hostler_model::Namespace;
use hostler_provision::Caller;
use hostler_supervisor::stack::Retry;

use crate::node::Node;

/// Applies every startup file, in the order of their names.
pub(crate) async fn apply(node: Arc<Node>) {
    let directory = node.layout.startup();
    let listed = tokio::task::spawn_blocking(move || match stack_file::files(&directory) {
        Ok(files) => (files, None),
        Err(_) if !directory.exists() => (Vec::new(), None),
        Err(error) => (Vec::new(), Some((directory, error.to_string()))),
    });
    let (files, broken) = listed.await.unwrap_or_default();
    if let Some((directory, problem)) = broken {
        tell(&node, &directory, problem);
    }
    let caller = Caller { uid: node.uid, gid: 0, node_uid: node.uid };
    for file in files {
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || stack_file::load(&path));
        let loaded = match read.await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => {
                tell(&node, &file, error.to_string());
                continue;
            }
            Err(error) => {
                tell(&node, &file, error.to_string());
                continue;
            }
        };
        let key = (Namespace::owner(), loaded.name.clone());
        if let Err(problem) = super::apply(&node, &caller, key.clone(), &loaded.stack, Retry::Nothing).await {
            tell(&node, &file, problem.detail);
            continue;
        }
        let mistakes = node.view.stack(&key.0, &key.1).map(|view| view.mistakes).unwrap_or_default();
        if !mistakes.is_empty() {
            let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
            tell(&node, &file, told.join("; "));
        }
        tracing::info!(file = %file.display(), stack = %key.1, "applied a startup file");
    }
}

fn tell(node: &Node, file: &Path, problem: String) {
    tracing::error!(file = %file.display(), problem, "a startup file cannot be used");
    let broken = BrokenFile { file: file.display().to_string(), problem };
    node.broken.lock().unwrap_or_else(PoisonError::into_inner).push(broken);
}
