//! Whether QEMU may use KVM here. A `/dev/kvm` that can be opened proves nothing: there are machines where it is there and a
//! guest under it never executes an instruction. So a kernel is booted: its first word, and its end in time, are the proof.
//!
//! ```text
//!  no /dev/kvm ─► TCG           remembered for this boot, QEMU, kernel ─► as it was
//!  else: a boot without a file system, which ends in a panic ─► a word, and over ─► KVM;  else ─► TCG
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostler_linux::{procfs, tool};
use hostler_model::limits;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How QEMU carries out a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accelerator {
    /// Emulated: works anywhere, slowly; no security boundary.
    Tcg,
    /// By the processor.
    Kvm,
}

/// What every kernel says first.
const FIRST_WORD: &[u8] = b"Linux version";
/// Where the device is.
const DEVICE: &str = "/dev/kvm";

/// What a proof is good for, and what came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Proof {
    boot_id: String,
    qemu: PathBuf,
    /// Seconds and nanoseconds, length: a QEMU that was replaced is another one.
    qemu_changed: (i64, i64, u64),
    kernel_sha256: String,
    works: bool,
}

/// Which accelerator QEMU is to use. `remembered` is a file of ours, made if it is not there; a machine that was booted again,
/// another QEMU or another kernel is asked anew. Never an error: what cannot be proven is not used, and the log says why.
pub async fn prove(qemu: &Path, kernel: &Path, remembered: &Path) -> Accelerator {
    if !Path::new(DEVICE).exists() {
        return Accelerator::Tcg;
    }
    let (qemu, kernel, remembered) = (qemu.to_path_buf(), kernel.to_path_buf(), remembered.to_path_buf());
    let longest = Duration::from_millis(limits::KVM_PROOF_MAX_MS);
    let asked = move || prove_with(&qemu, &kernel, &remembered, Accelerator::Kvm, longest);
    match tokio::task::spawn_blocking(asked).await {
        Ok(Ok(true)) => Accelerator::Kvm,
        Ok(Ok(false)) => Accelerator::Tcg,
        Ok(Err(error)) => {
            tracing::warn!(%error, "whether KVM works cannot be found out");
            Accelerator::Tcg
        }
        Err(_) => Accelerator::Tcg,
    }
}

fn prove_with(
    qemu: &Path,
    kernel: &Path,
    remembered: &Path,
    accelerator: Accelerator,
    longest: Duration,
) -> io::Result<bool> {
    let found = fs::metadata(qemu)?;
    let mut proof = Proof {
        boot_id: procfs::boot_id()?,
        qemu: qemu.to_path_buf(),
        qemu_changed: (found.mtime(), found.mtime_nsec(), found.len()),
        kernel_sha256: sha256(kernel)?,
        works: true,
    };
    if let Some(old) = read(remembered)
        && (Proof { works: true, ..old.clone() }) == proof
    {
        return Ok(old.works);
    }
    proof.works = boots(qemu, kernel, accelerator, longest)?;
    if let Err(error) = write(remembered, &proof) {
        tracing::warn!(%error, "whether KVM works cannot be remembered");
    }
    Ok(proof.works)
}

/// Whether a kernel says its first word. It finds nothing to mount then, panics, and by that ends its QEMU.
fn boots(qemu: &Path, kernel: &Path, accelerator: Accelerator, longest: Duration) -> io::Result<bool> {
    let Some(kernel) = kernel.to_str() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let (accelerator, cpu) = match accelerator {
        Accelerator::Tcg => ("tcg", "max"),
        Accelerator::Kvm => ("kvm", "host"),
    };
    let arguments = [
        ["-M", "microvm"],
        ["-accel", accelerator],
        ["-cpu", cpu],
        ["-m", "128M"],
        ["-kernel", kernel],
        ["-append", "earlyprintk=ttyS0 console=ttyS0 reboot=t panic=-1"],
        ["-display", "none"],
        ["-serial", "stdio"],
    ];
    let flags = ["-nodefaults", "-no-user-config", "-no-reboot"];
    let arguments: Vec<&str> = arguments.into_iter().flatten().chain(flags).collect();
    match tool::call(qemu, &arguments, &[], b"", longest) {
        Ok(done) => {
            let works = done.out.windows(FIRST_WORD.len()).any(|window| window == FIRST_WORD);
            if !works {
                let said = String::from_utf8_lossy(&done.err);
                tracing::info!("KVM does not work: {}", said.lines().next().unwrap_or("the kernel said nothing"));
            }
            Ok(works)
        }
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            tracing::info!("KVM does not work: a kernel did not come to its end within {} ms", longest.as_millis());
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// `None` for what is not there, too long or no proof.
fn read(path: &Path) -> Option<Proof> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(limits::KVM_PROOF_FILE_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Whole or not at all.
fn write(path: &Path, proof: &Proof) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    let text = serde_json::to_vec(proof).map_err(io::Error::from)?;
    let written = fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A program in QEMU's place, that counts how often it is asked.
    fn stand_in(directory: &Path, script: &str) -> PathBuf {
        let path = directory.join("qemu");
        let text = format!("#!/bin/sh\necho x >>{}\n{script}\n", directory.join("asked").display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn asked(directory: &Path) -> usize {
        fs::read_to_string(directory.join("asked")).unwrap_or_default().lines().count()
    }

    #[test]
    fn the_first_word_is_the_proof() {
        let cases = [
            ("echo '[ 0.0] Linux version 6.1'", true),
            ("echo qemu: no kvm >&2; exit 1", false),
            ("echo SeaBIOS", false),
            ("echo Linux version; sleep 100", false),
            ("sleep 100", false),
        ];
        for (script, works) in cases {
            let dir = tempfile::tempdir().unwrap();
            let (kernel, remembered) = (dir.path().join("vmlinux"), dir.path().join("kvm.json"));
            fs::write(&kernel, "kernel").unwrap();
            let qemu = stand_in(dir.path(), script);
            let longest = Duration::from_millis(500);
            let prove = || prove_with(&qemu, &kernel, &remembered, Accelerator::Kvm, longest).unwrap();
            assert_eq!((prove(), prove(), asked(dir.path())), (works, works, 1), "{script}");
            fs::write(&kernel, "another kernel").unwrap();
            assert_eq!((prove(), asked(dir.path())), (works, 2), "{script}");
            fs::write(&remembered, vec![b'['; 100_000]).unwrap();
            assert_eq!((prove(), asked(dir.path())), (works, 3), "{script}");
            let old = read(&remembered).unwrap();
            write(&remembered, &Proof { boot_id: "another boot".to_owned(), works: !works, ..old }).unwrap();
            assert_eq!((prove(), asked(dir.path())), (works, 4), "{script}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none");
        let longest = Duration::from_millis(500);
        assert!(prove_with(&none, &none, &dir.path().join("kvm.json"), Accelerator::Kvm, longest).is_err());
        assert!(!dir.path().join("kvm.json").exists());
    }
}
