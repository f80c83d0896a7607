//! What there is to run virtual machines with: a kernel, VMMs, programs that make their disks, shares. [`Survey::look`]
//! asks this machine, the rest judges.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostler_api::types::Check;
use hostler_image::kernels::Kernels;
use hostler_linux::tool;
use hostler_model::limits;

use super::{limited, ok};

const QEMU: &str = "qemu-system-x86_64";
const KVM: &str = "/dev/kvm";
/// Where Debian and others keep virtiofsd, which is not for people to call.
const VIRTIOFSD: [&str; 3] = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"];
/// Of a version, what is told, characters.
const VERSION_LENGTH_MAX: usize = 80;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Survey {
    /// The kernel that is booted, in words; an error is why there is none.
    pub(crate) kernel: Result<String, String>,
    /// QEMU's path and version.
    pub(crate) qemu: Option<String>,
    /// Firecracker's.
    pub(crate) firecracker: Option<String>,
    /// Whether its jailer is there as well.
    pub(crate) jailer: bool,
    /// Whether `/dev/kvm` can be opened; an error is what the system answered.
    pub(crate) kvm: Result<(), String>,
    /// The program that makes read-only disks.
    pub(crate) block: Option<PathBuf>,
    /// The program that formats writable ones.
    pub(crate) layers: bool,
    /// The program that shares directories.
    pub(crate) virtiofsd: Option<PathBuf>,
}

impl Survey {
    /// Looks. Calls programs for their versions; blocks on them, each for [`limits::VERSION_MAX_MS`] at most.
    pub(crate) fn look(kernels: &Path) -> Self {
        let firecracker = Path::new("/usr/bin/firecracker");
        let shares = VIRTIOFSD.iter().map(PathBuf::from).find(|path| tool::is_program(path));
        Self {
            kernel: kernel(kernels),
            qemu: tool::find(QEMU).map(|program| with_version(&program)),
            firecracker: tool::is_program(firecracker).then(|| with_version(firecracker)),
            jailer: tool::is_program(Path::new("/usr/bin/jailer")),
            kvm: OpenOptions::new().read(true).write(true).open(KVM).map(drop).map_err(|error| error.to_string()),
            block: tool::find("mkfs.erofs").or_else(|| tool::find("mksquashfs")),
            layers: tool::find("mkfs.ext4").is_some(),
            virtiofsd: shares.or_else(|| tool::find("virtiofsd")),
        }
    }
}

fn kernel(directory: &Path) -> Result<String, String> {
    match Kernels::new(directory).current() {
        Err(error) => Err(error.to_string()),
        Ok(None) => Err(format!("there is no kernel in {}", directory.display())),
        Ok(Some(kernel)) => {
            let modules = kernel.modules.len() + kernel.modules_pci.len();
            let shell = if kernel.busybox.is_some() { "" } else { ", without a busybox" };
            Ok(format!("kernel {} ({}, {modules} modules{shell})", kernel.version, kernel.kind.file_name()))
        }
    }
}

/// Its path, and the first line of what it says of itself.
fn with_version(program: &Path) -> String {
    let longest = Duration::from_millis(limits::VERSION_MAX_MS);
    let said = tool::call_in(Path::new("/"), program, &[OsStr::new("--version")], &[], longest);
    let version = said.ok().and_then(|done| {
        let text = String::from_utf8_lossy(&done.out).into_owned();
        let line = text.lines().next()?.trim();
        (done.status.success() && !line.is_empty()).then(|| line.chars().take(VERSION_LENGTH_MAX).collect::<String>())
    });
    format!("{} ({})", program.display(), version.as_deref().unwrap_or("says no version"))
}

/// One check each for kernels, VMMs, disks and shares.
pub(super) fn checks(survey: &Survey) -> [Check; 4] {
    [kernels(survey), vmms(survey), disks(survey), shares(survey)]
}

fn kernels(survey: &Survey) -> Check {
    let name = "virtual machines";
    match &survey.kernel {
        Ok(kernel) => ok(name, format!("boot {kernel}")),
        Err(why) => limited(name, format!("{why}: none can be booted"), "make one ready: hostler vm setup"),
    }
}

fn vmms(survey: &Survey) -> Check {
    let name = "VMMs";
    let kvm = match &survey.kvm {
        // A machine may have the device and no processor for it.
        Ok(()) => format!("{KVM} can be opened, which is not proven to work until a guest has booted with it"),
        Err(error) => format!("{KVM} cannot be opened ({error}): QEMU emulates, slowly and not as a security boundary"),
    };
    let firecracker = match (&survey.firecracker, survey.jailer) {
        (Some(found), true) => format!("Firecracker with its jailer: {found}"),
        (Some(found), false) => format!("Firecracker without its jailer, /usr/bin/jailer: {found}"),
        (None, _) => "no Firecracker at /usr/bin/firecracker, which is fine where QEMU is".to_owned(),
    };
    let qemu = survey.qemu.as_ref().map_or("no QEMU".to_owned(), |found| format!("QEMU: {found}"));
    let detail = format!("{qemu}; {firecracker}; {kvm}");
    if survey.qemu.is_none() && survey.firecracker.is_none() {
        let mend = "install QEMU (Debian: apt-get install --no-install-recommends qemu-system-x86), or Firecracker and its \
                    jailer in /usr/bin";
        return limited(name, detail, mend);
    }
    ok(name, detail)
}

fn disks(survey: &Survey) -> Check {
    let name = "disks of virtual machines";
    let mend = "install both (Debian: apt-get install erofs-utils e2fsprogs)";
    match (&survey.block, survey.layers) {
        (Some(program), true) => ok(name, format!("made by {} and mkfs.ext4", program.display())),
        (None, true) => limited(name, "neither mkfs.erofs nor mksquashfs: no directory can be a root", mend),
        (Some(_), false) => limited(name, "no mkfs.ext4: nothing can be written in them", mend),
        (None, false) => limited(name, "no mkfs.erofs, mksquashfs or mkfs.ext4: they can have no disks", mend),
    }
}

fn shares(survey: &Survey) -> Check {
    let name = "shares of virtual machines";
    match &survey.virtiofsd {
        Some(program) => ok(name, format!("by {}", program.display())),
        None => limited(
            name,
            "no virtiofsd: directories of this machine cannot be shared with them",
            "install it (Debian: apt-get install virtiofsd, or qemu-system-common on Debian 12)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_api::types::CheckStatus;

    fn everything() -> Survey {
        Survey {
            kernel: Ok("kernel 6.1 (vmlinux, 25 modules)".to_owned()),
            qemu: Some("/usr/bin/qemu-system-x86_64 (QEMU emulator version 7.2)".to_owned()),
            firecracker: None,
            jailer: false,
            kvm: Ok(()),
            block: Some("/usr/bin/mkfs.erofs".into()),
            layers: true,
            virtiofsd: Some("/usr/lib/qemu/virtiofsd".into()),
        }
    }

    #[test]
    fn says_what_is_there_and_how_to_mend_what_is_not() {
        let good = checks(&everything());
        assert!(good.iter().all(|check| check.status == CheckStatus::Ok), "{good:?}");
        assert!(good[1].detail.contains("not proven") && good[1].detail.contains("version 7.2"), "{good:?}");
        type Change = fn(&mut Survey);
        let cases: [(usize, &str, Change); 6] = [
            (0, "hostler vm setup", |survey| survey.kernel = Err("there is no kernel in /x".to_owned())),
            (1, "qemu-system-x86", |survey| survey.qemu = None),
            (2, "erofs-utils", |survey| survey.block = None),
            (2, "e2fsprogs", |survey| survey.layers = false),
            (2, "they can have no disks", |survey| (survey.block, survey.layers) = (None, false)),
            (3, "virtiofsd", |survey| survey.virtiofsd = None),
        ];
        for (at, words, change) in cases {
            let mut survey = everything();
            change(&mut survey);
            for (index, check) in checks(&survey).iter().enumerate() {
                let expected = if index == at { CheckStatus::Limited } else { CheckStatus::Ok };
                assert_eq!(check.status, expected, "{check:?}");
                let text = format!("{}; {}", check.detail, check.mend.clone().unwrap_or_default());
                assert!(index != at || text.contains(words), "{words:?} is not in {text}");
            }
        }
        let with_firecracker = |jailer, words: &str| {
            let firecracker = Some("/usr/bin/firecracker (Firecracker v1.10)".to_owned());
            let check = vmms(&Survey { qemu: None, firecracker, jailer, kvm: Err("x".into()), ..everything() });
            assert!(check.status == CheckStatus::Ok && check.detail.contains(words), "{check:?}");
        };
        with_firecracker(true, "with its jailer");
        with_firecracker(false, "without its jailer");
    }

    #[test]
    fn versions_are_what_programs_say() {
        let place = tempfile::tempdir().unwrap();
        let cases = [
            ("echo X 1.2; echo more", "(X 1.2)"),
            ("exit 1", "(says no version)"),
            ("yes | tr -d '\\n' | head -c 9999", "yyyy"),
        ];
        for (script, expected) in cases {
            let program = place.path().join("program");
            std::fs::write(&program, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let said = with_version(&program);
            assert!(said.contains(expected) && said.len() < 500, "{said}");
        }
        assert!(kernel(&place.path().join("absent")).unwrap_err().contains("no kernel"));
    }
}
