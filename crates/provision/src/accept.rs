//! From a request to what the supervisor is asked. A caller who is not the owner runs work as himself, with no more
//! rights than a shell of his would have.

use hostler_model::launch::{ExecLaunch, Program};
use hostler_model::spec::{Rlimit, RlimitKind, Spec, TtySize};
use hostler_model::workload::{Identity, Workload};
use hostler_model::{ByteString, Problem, ProblemKind};

use crate::caller::Caller;
use crate::container;
use crate::launch;
use crate::pattern;
use crate::program;
use crate::users::Users;
use crate::vm;

/// Checks a spec and resolves who it runs as.
pub fn accept_workload(caller: &Caller, spec: &Spec, users: &Users) -> Result<Identity, Problem> {
    let identity = accept_later(caller, spec, users)?;
    match (&spec.container, &spec.vm) {
        (Some(container), _) => container::check(container)?,
        (None, Some(vm)) => vm::check(vm)?,
        (None, None) if caller.is_owner() => program::check(spec)?,
        (None, None) => {}
    }
    Ok(identity)
}

/// The same for what starts later: its program may not be there yet, for others that come before may bring it.
pub fn accept_later(caller: &Caller, spec: &Spec, users: &Users) -> Result<Identity, Problem> {
    caller.admit()?;
    spec.check()?;
    pattern::check(spec)?;
    check_rights(caller, &spec.rlimits)?;
    container::check_rights(caller, spec)?;
    vm::check_rights(caller, spec)?;
    if !spec.no_new_privileges && !caller.is_owner() {
        return Err(Problem::new(
            ProblemKind::Forbidden,
            "no_new_privileges can be switched off by the node's owner only",
        ));
    }
    identity_in(caller, spec, spec.user.as_deref(), users)
}

/// What an exec asks, in full.
#[derive(Debug, Clone, Default)]
pub struct ExecAsked {
    /// Program and arguments.
    pub command: Vec<ByteString>,
    /// On top of the workload's environment.
    pub env: Vec<ByteString>,
    /// Instead of the workload's.
    pub workdir: Option<ByteString>,
    /// Instead of the workload's.
    pub user: Option<String>,
    /// Instead of the workload's.
    pub rlimits: Vec<Rlimit>,
    /// Keep stdin open.
    pub interactive: bool,
    /// Give it a terminal.
    pub tty: Option<TtySize>,
}

/// Checks an exec in this workload, under the same rules as a workload of its own, and resolves it.
pub fn accept_exec(
    caller: &Caller,
    workload: &Workload,
    asked: ExecAsked,
    users: &Users,
) -> Result<ExecLaunch, Problem> {
    caller.admit()?;
    let mut spec = Spec::new(asked.command);
    spec.env = asked.env;
    spec.workdir = asked.workdir;
    spec.rlimits = asked.rlimits.into();
    spec.check()?;
    check_rights(caller, &spec.rlimits)?;
    may_enter(caller, workload, users)?;
    let asks_user = asked.user.is_some();
    if workload.spec.vm.as_ref().is_some_and(|vm| vm.no_agent) {
        let detail =
            format!("{} has no agent in its guest (--no-agent), and so nothing can be executed there", workload.name);
        return Err(Problem::new(ProblemKind::Conflict, detail));
    }
    let identity = match asked.user {
        Some(user) => identity_in(caller, &workload.spec, Some(&user), users)?,
        None => Identity::clone(&workload.identity),
    };
    let env = launch::environment(workload, &identity, &spec.env, asked.tty.is_some());
    if workload.spec.container.is_some() {
        // What is not asked is as for the container's first program.
        let program = Program {
            command: spec.command,
            env,
            workdir: spec.workdir.unwrap_or_default(),
            identity: asks_user.then_some(identity),
            rlimits: spec.rlimits.to_vec(),
            no_new_privileges: workload.spec.no_new_privileges,
            confinement: None,
        };
        return Ok(ExecLaunch { program, interactive: asked.interactive, tty: asked.tty });
    }
    let program = Program {
        command: spec.command,
        env,
        workdir: spec.workdir.or_else(|| workload.spec.workdir.clone()).unwrap_or_else(|| "/".into()),
        // In a guest everything can be done, whoever the node is.
        identity: (caller.node_uid == 0 || workload.spec.vm.is_some()).then_some(identity),
        rlimits: if spec.rlimits.is_empty() { workload.spec.rlimits.to_vec() } else { spec.rlimits.to_vec() },
        no_new_privileges: workload.spec.no_new_privileges,
        // The agent keeps it apart as the run is.
        confinement: None,
    };
    Ok(ExecLaunch { program, interactive: asked.interactive, tty: asked.tty })
}

/// Whether the caller may act inside this workload: execute in it, or write to its stdin. Being in his namespace is not
/// enough: the node's owner may have put work there that runs as somebody else.
pub fn may_enter(caller: &Caller, workload: &Workload, users: &Users) -> Result<(), Problem> {
    if caller.is_owner() {
        return Ok(());
    }
    let himself = users.resolve(&caller.uid.to_string())?;
    let identity = &workload.identity;
    let is_his = |gid: &u32| *gid == caller.gid || *gid == himself.gid || himself.groups.contains(gid);
    if identity.uid == caller.uid && is_his(&identity.gid) && identity.groups.iter().all(is_his) {
        return Ok(());
    }
    let detail =
        format!("{} does not run as user {}, so he may look at it but not act in it", workload.name, caller.uid);
    Err(Problem::new(ProblemKind::Forbidden, detail))
}

/// Who a program of this workload runs as: users are those of the place where it runs.
fn identity_in(caller: &Caller, spec: &Spec, user: Option<&str>, users: &Users) -> Result<Identity, Problem> {
    match (&spec.container, &spec.vm) {
        (Some(container), _) => container::identity(container, user),
        (None, Some(vm)) => vm::identity(vm, user),
        (None, None) => identity(caller, user, users),
    }
}

fn identity(caller: &Caller, asked: Option<&str>, users: &Users) -> Result<Identity, Problem> {
    let own = || users.resolve(&caller.uid.to_string());
    let Some(asked) = asked else {
        // Root in a rootless node still gets the node's user: the daemon can run as nobody else.
        return if caller.node_uid == 0 { own() } else { users.resolve(&caller.node_uid.to_string()) };
    };
    let identity = users.resolve(asked)?;
    if caller.node_uid != 0 && identity.uid != caller.node_uid {
        let detail = format!("this node does not run as root, so it can run work only as user {}", caller.node_uid);
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    if caller.is_owner() {
        return Ok(identity);
    }
    let himself = own()?;
    let is_his = |gid: &u32| *gid == himself.gid || *gid == caller.gid || himself.groups.contains(gid);
    if identity.uid != caller.uid || !is_his(&identity.gid) || !identity.groups.iter().all(is_his) {
        let detail = format!("user {} may run work only as himself, not as {asked}", caller.uid);
        return Err(Problem::new(ProblemKind::Forbidden, detail));
    }
    Ok(identity)
}

/// The agent sets limits as root; what a user could not do himself, it must not do for him.
fn check_rights(caller: &Caller, rlimits: &[Rlimit]) -> Result<(), Problem> {
    if caller.is_owner() {
        return Ok(());
    }
    let privileged = |rlimit: &&Rlimit| {
        matches!(rlimit.kind, RlimitKind::Nice | RlimitKind::Rtprio | RlimitKind::Rttime | RlimitKind::Memlock)
            || rlimit.hard.is_none_or(|hard| hard == u64::MAX)
    };
    match rlimits.iter().find(privileged) {
        None => Ok(()),
        Some(rlimit) => {
            let detail =
                format!("user {} may not raise the limit {:?}: only the node's owner may", caller.uid, rlimit.kind);
            Err(Problem::new(ProblemKind::Forbidden, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(caller: Caller, change: impl FnOnce(&mut Spec)) -> Result<u32, ProblemKind> {
        let mut spec = Spec::new(vec!["true".into()]);
        change(&mut spec);
        accept_workload(&caller, &spec, &Users::default()).map(|identity| identity.uid).map_err(|problem| problem.kind)
    }

    const ROOT: Caller = Caller { uid: 0, gid: 0, node_uid: 0 };
    const ANN: Caller = Caller { uid: 4242, gid: 4242, node_uid: 0 };
    const ROOTLESS: Caller = Caller { uid: 4242, gid: 4242, node_uid: 4242 };

    #[test]
    fn work_runs_as_the_caller_unless_root_says_otherwise() {
        assert_eq!(kind(ROOT, |_| ()), Ok(0));
        assert_eq!(kind(ANN, |_| ()), Ok(4242));
        assert_eq!(kind(ROOT, |spec| spec.user = Some("4243:7".into())), Ok(4243));
        assert_eq!(kind(ANN, |spec| spec.user = Some("4242".into())), Ok(4242));
        for user in ["0", "root", "4243", "4242:0", "0:4242"] {
            assert_eq!(kind(ANN, |spec| spec.user = Some(user.into())), Err(ProblemKind::Forbidden), "{user}");
            if !user.starts_with("4242") {
                assert_eq!(kind(ROOTLESS, |spec| spec.user = Some(user.into())), Err(ProblemKind::Forbidden), "{user}");
            }
        }
        assert_eq!(kind(ROOT, |spec| spec.user = Some("no-such-user".into())), Err(ProblemKind::UnknownUser));
    }

    #[test]
    fn a_namespace_is_not_an_identity() {
        let workload = |uid: u32, gid: u32, groups: Vec<u32>| Workload {
            id: hostler_model::WorkloadId::from_bytes([0; 6]),
            namespace: hostler_model::Namespace::of_uid(4242),
            name: "w".parse().expect("valid"),
            generation: 1,
            spec: std::sync::Arc::new(Spec::new(vec!["true".into()])),
            identity: Identity { uid, gid, groups, user: None, home: None }.into(),
            stack: None,
            limits: Default::default(),
            desired: hostler_model::workload::Desired::Run,
            created_at_ms: 0,
            runs: 0,
            restore: None,
            schedule: None,
            line_tails: Vec::new(),
            hook_of: None,
            failures_in_a_row: 0,
            restart_requested: false,
            restart_at_boot_ms: None,
            queued: None,
            run: None,
        };
        let users = Users::default();
        let exec = |workload: &Workload| {
            let asked = ExecAsked { command: vec!["id".into()], ..ExecAsked::default() };
            accept_exec(&ANN, workload, asked, &users).map_err(|problem| problem.kind)
        };
        assert!(exec(&workload(4242, 4242, Vec::new())).is_ok());
        for (uid, gid, groups) in [(0, 0, vec![]), (4242, 0, vec![]), (4242, 4242, vec![0]), (4243, 4242, vec![])] {
            let root_work = workload(uid, gid, groups);
            assert_eq!(exec(&root_work).expect_err("not his"), ProblemKind::Forbidden);
            assert!(may_enter(&ROOT, &root_work, &users).is_ok());
        }
    }

    #[test]
    fn others_get_no_privileges() {
        let nice = Rlimit { kind: RlimitKind::Nice, soft: Some(40), hard: Some(40) };
        let unlimited = Rlimit { kind: RlimitKind::Nofile, soft: Some(1), hard: None };
        let infinity = Rlimit { kind: RlimitKind::Nproc, soft: Some(1), hard: Some(u64::MAX) };
        for rlimit in [nice, unlimited, infinity] {
            assert_eq!(kind(ANN, |spec| spec.rlimits = vec![rlimit].into()), Err(ProblemKind::Forbidden));
            assert_eq!(kind(ROOT, |spec| spec.rlimits = vec![rlimit].into()), Ok(0));
        }
        assert_eq!(kind(ANN, |spec| spec.no_new_privileges = false), Err(ProblemKind::Forbidden));
        assert_eq!(kind(ROOT, |spec| spec.no_new_privileges = false), Ok(0));
    }
}
