//! The loopback device of a restored container. `runc` has CRIU make its network anew, and that is down: connections to
//! itself could not even be restored. So this agent is a hook of the restored container, which the OCI runtime runs when
//! the network is there and the programs are not yet.

use std::io::Read as _;

use serde_json::{Map, Value, json};

use super::config::{list, part};

/// The agent as that hook.
pub(crate) const ARGUMENT: &str = "--raise-loopback";
/// Of the state that the OCI runtime tells, what is read, bytes.
const STATE_MAX: u64 = 64 * 1024;

/// Adds the hook where the network is the container's own.
pub(super) fn hook_into(root: &mut Map<String, Value>) {
    let namespaces = root["linux"]["namespaces"].as_array();
    let is_own = |namespace: &Value| namespace["type"] == "network" && namespace["path"].is_null();
    // Its file may have been replaced since.
    let agent = format!("/proc/{}/exe", std::process::id());
    if namespaces.is_some_and(|namespaces| namespaces.iter().any(is_own)) {
        let hook = json!({ "path": agent, "args": ["hostler-agent", ARGUMENT], "timeout": 5 });
        list(part(root, "hooks"), "createRuntime").push(hook);
    }
}

/// Done by the hook: the state of the container comes on stdin.
pub(crate) fn raise() -> Result<(), String> {
    let mut state = Vec::new();
    let read = std::io::stdin().take(STATE_MAX).read_to_end(&mut state);
    read.map_err(|error| format!("cannot read the state of the container: {error}"))?;
    let state: Value = serde_json::from_slice(&state)
        .map_err(|error| format!("the state of the container makes no sense: {error}"))?;
    let pid = state["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
    let pid = pid.ok_or("the state of the container names no process")?;
    hostler_linux::confine::raise_loopback_of(pid).map_err(|failure| failure.message)
}
