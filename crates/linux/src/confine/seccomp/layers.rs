//! The default profile of a container, in two filters that together are exactly it.
//!
//! An OCI runtime hands each rule of a profile to libseccomp by itself, which copies all rules before it each time: the
//! default profile costs a container 13 ms for one kind of programs and 40 ms for three, at its start and at each exec.
//! The kernel answers with the strictest of several filters. So the **outer** one, made here in microseconds, is put on
//! the OCI runtime before it is executed and is inherited by the container: it permits what the profile does, and what is
//! needed to make a container. The **inner** one is what the OCI runtime is told: everything is permitted but what is
//! only for making containers. It has some fifty rules.
//!
//! Programs of other kinds than the machine's own (32 bits) are ended by the outer filter.

use std::borrow::Cow;
use std::sync::LazyLock;

use hostler_model::Capability;

use super::numbers::number;
use super::profile::{Action, Argument, Comparison, NEW_NAMESPACES, Profile, Rule, default, rules};
use super::program::{ProfileError, Program, compile};

/// What an OCI runtime does for a container, beyond what the holder of all capabilities is permitted.
const MAKING: [&str; 4] = ["add_key", "keyctl", "pivot_root", "request_key"];

/// The kind of programs that this machine itself is.
const NATIVE: &str = if cfg!(target_arch = "x86_64") { "SCMP_ARCH_X86_64" } else { "SCMP_ARCH_AARCH64" };

/// The outer one, the same for all containers: around the OCI runtime and everything that it starts. Made once.
pub fn outer() -> Result<&'static Program, ProfileError> {
    static OUTER: LazyLock<Result<Program, ProfileError>> = LazyLock::new(|| compile(&around()));
    OUTER.as_ref().map_err(Clone::clone)
}

fn around() -> Profile {
    let all: Vec<Capability> = Capability::all().collect();
    let mut outer = default(&all);
    outer.architectures = vec![NATIVE.into()];
    outer.syscalls[0].names.extend(MAKING.map(Cow::Borrowed));
    outer
}

/// The inner one of a container that keeps these capabilities: for the OCI runtime to put on its programs.
#[must_use]
pub fn inner(kept: &[Capability]) -> Profile {
    let permitted = rules(kept);
    let is_permitted = |name: &str| {
        permitted
            .iter()
            .any(|rule| rule.action == Action::Allow && rule.args.is_empty() && rule.names.iter().any(|it| it == name))
    };
    let depends = |name: &str| permitted.iter().any(|rule| rule.names.iter().any(|it| it == name));
    let mut refused = around().syscalls.swap_remove(0).names;
    refused.retain(|name| number(name).is_some() && !is_permitted(name) && !depends(name));
    let mut inner = vec![Rule { names: refused, action: Action::Errno, errno_ret: None, args: Vec::new() }];
    if !kept.contains(&Capability::SYS_ADMIN) {
        let flags = (0..u64::BITS).map(|bit| 1 << bit).filter(|flag| NEW_NAMESPACES & flag != 0);
        inner.extend(flags.map(|flag| Rule {
            names: vec!["clone".into()],
            action: Action::Errno,
            errno_ret: None,
            args: vec![Argument { index: 0, value: flag, value_two: flag, op: Comparison::MaskedEqual }],
        }));
    }
    // What is refused in another way than the rest, such as `clone3`.
    inner.extend(permitted.iter().filter(|rule| rule.action == Action::Errno).cloned());
    Profile {
        default_action: Action::Allow,
        default_errno_ret: None,
        architectures: vec![NATIVE.into()],
        syscalls: inner,
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::tests::run;
    use super::*;

    #[test]
    fn both_together_are_the_profile() {
        let sets: [&[&str]; 4] = [&[], &["CHOWN", "SYS_CHROOT", "KILL"], &["SYS_ADMIN"], &["SYS_PTRACE", "SYS_TIME"]];
        for names in sets {
            let kept: Vec<Capability> = names.iter().map(|name| name.parse().expect("known")).collect();
            let whole = compile(&default(&kept)).expect("compiles");
            let inner = inner(&kept);
            assert!(inner.syscalls.iter().map(|rule| rule.names.len()).sum::<usize>() < 80);
            let (outer, inner) = (outer().expect("compiles"), compile(&inner).expect("compiles"));
            let allow = libc::SECCOMP_RET_ALLOW;
            for number in 0..=600 {
                for first in [0, 1, 2, 38, 39, 40, 0x8, 0xffff_ffff, 0x1000_0000, 0x2000_0000, 0x7e02_0000, 0x11] {
                    let args = [first, 0, 0, 0, 0, 0];
                    let expected = run(&whole, number, args);
                    let found = match run(outer, number, args) {
                        answer if answer == allow => run(&inner, number, args),
                        refused => refused,
                    };
                    assert_eq!(found, expected, "{names:?}: call {number}({first:#x})");
                }
            }
        }
    }
}
