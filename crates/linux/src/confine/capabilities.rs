//! What is left of root's rights: the kept capabilities, in all sets, and nothing a program could get back.

use hostler_model::Capability;
use hostler_model::workload::StartFailureKind;

use crate::spawn::child::{Failure, check, fail};

const KIND: StartFailureKind = StartFailureKind::Isolation;

/// The kernel's `struct __user_cap_header_struct`, version 3: 64 capabilities in two halves.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

fn prctl(option: libc::c_int, first: u64, second: u64) -> libc::c_int {
    // SAFETY: only options that take numbers are passed.
    unsafe { libc::prctl(option, first, second, 0, 0) }
}

/// Takes everything else out of the bounding set, which no program of the room can pass; and lets the change of user, if
/// there is one, keep what is permitted until [`apply`].
pub(crate) fn bound(kept: &[Capability]) -> Result<(), Failure> {
    for number in 0..64u8 {
        let kept = kept.iter().find(|one| one.number() == number);
        match (prctl(libc::PR_CAPBSET_READ, u64::from(number), 0), kept) {
            // The kernel knows no more of them.
            (-1, None) => break,
            (1, None) => {
                check(prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0), KIND, "drop a capability")?;
            }
            (1, Some(_)) | (0, None) => {}
            (_, Some(asked)) => {
                let message = format!("cannot keep the capability {asked}: this node does not have it");
                return Err(Failure { kind: KIND, message });
            }
            _ => {}
        }
    }
    check(prctl(libc::PR_SET_KEEPCAPS, 1, 0), KIND, "keep capabilities")
}

fn set(kept: &[Capability]) -> Result<(), Failure> {
    let mut halves = [Half::default(); 2];
    for capability in kept {
        let bit = 1u32 << (capability.number() % 32);
        let half = &mut halves[usize::from(capability.number() / 32)];
        half.effective |= bit;
        half.permitted |= bit;
        half.inheritable |= bit;
    }
    let header = Header { version: VERSION_3, pid: 0 };
    // SAFETY: both pointers are valid for reads; version 3 reads two halves.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) };
    if set == 0 { Ok(()) } else { fail(KIND, "set the capabilities") }
}

/// Keeps these and no others, over `execve` too.
pub(crate) fn apply(kept: &[Capability]) -> Result<(), Failure> {
    set(kept)?;
    check(
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0),
        KIND,
        "clear the ambient capabilities",
    )?;
    for capability in kept {
        let raised = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(capability.number()));
        check(raised, KIND, format_args!("hand down the capability {capability}"))?;
    }
    Ok(())
}
