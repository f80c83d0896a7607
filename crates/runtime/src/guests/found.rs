//! Which programs this node has to make virtual machines with. They are looked for when the first one is wanted.

use std::path::{Path, PathBuf};

use hostler_linux::tool;
use hostler_model::vm::Vmm as Asked;

use super::{GuestError, Guests};
use crate::microvm::{Accelerator, AnyVmm, Qemu};

/// QEMU's program for machines like this one.
const QEMU: &str = "qemu-system-x86_64";

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Programs {
    qemu: Option<PathBuf>,
}

fn find(configured: Option<&Path>, name: &str) -> Option<PathBuf> {
    match configured {
        Some(path) => tool::is_program(path).then(|| path.to_owned()),
        None => tool::find(name),
    }
}

impl Guests {
    /// The program that makes what is asked for.
    pub(super) fn vmm(&self, asked: Asked) -> Result<AnyVmm, GuestError> {
        if asked == Asked::Firecracker {
            return Err(GuestError::NoProgram(
                "there is no firecracker on this node; use --vmm qemu, or see: hostler doctor".to_owned(),
            ));
        }
        let mut programs = self.programs.lock().expect("no code panics while it holds this lock");
        if programs.qemu.is_none() {
            programs.qemu = find(self.settings.qemu.as_deref(), QEMU);
        }
        let Some(qemu) = programs.qemu.clone() else {
            let what = format!(
                "there is no {QEMU} to make virtual machines with; install one (Debian: apt-get install qemu-system-x86), \
                 and see: hostler doctor"
            );
            return Err(GuestError::NoProgram(what));
        };
        Ok(AnyVmm::Qemu(Qemu::new(qemu, Accelerator::Tcg)))
    }
}
