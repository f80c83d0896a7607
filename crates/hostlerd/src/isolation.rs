//! Isolation of plain processes: which profiles there are on this node, and what of it is checked before anything is made.

use hostler_api::paths::Layout;
use hostler_linux::confine::{self, landlock, seccomp, support};
use hostler_model::container::Seccomp;
use hostler_model::spec::Spec;
use hostler_model::{Problem, ProblemKind};
use hostler_provision::Caller;
use hostler_provision::isolation::{self, Profiles};
use hostler_provision::launch::Places;

use crate::node::Node;

/// Where this node has its own things.
pub(crate) fn places(layout: &Layout) -> Places {
    let mut own = vec![layout.data.clone(), layout.runtime.clone()];
    own.dedup();
    Places { logs: layout.logs(), own }
}

/// Makes what is asked what is in force, or says why it cannot be.
pub(crate) fn resolve(node: &Node, caller: &Caller, spec: &mut Spec) -> Result<(), Problem> {
    let profiles = Profiles { configured: &node.config.isolation, landlock_abi: landlock::abi() };
    isolation::resolve(caller, spec, &profiles)?;
    let Some(resolved) = &spec.isolation else { return Ok(()) };
    // The owner's, as was just found: he is told now what every start would tell him.
    let Seccomp::File(path) = resolved.seccomp() else { return Ok(()) };
    let refuse = |why: String| {
        let detail = format!("isolation.seccomp.file {}: {why}", path.to_string_lossy());
        Problem::new(ProblemKind::InvalidSpec, detail)
    };
    let content = confine::read_profile(path.as_path()).map_err(|error| refuse(error.to_string()))?;
    let kernel = support::kernel_release();
    let here = seccomp::file::Here { capabilities: resolved.capabilities(), kernel: &kernel };
    let profile = seccomp::file::parse(&content, &here).map_err(|error| refuse(error.to_string()))?;
    seccomp::compile(&profile).map(drop).map_err(|error| refuse(error.to_string()))
}
