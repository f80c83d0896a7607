//! Making a kernel's directory: in `.setup` beside it, under the directory's lock, renamed when everything in it is on
//! disk. What a maker that died left there, the next one removes.

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hostler_model::limits;
use sha2::{Digest as _, Sha256};

use super::bzimage::{self, BzImage, Compression};
use super::modules::{self, Chosen, Module};
use super::record::{self, Record};
use super::{Existing, Kernel, Kernels, Kind, SetUp, Source, elf, is_version, package};
use crate::lock::{self, Leftover};
use crate::{ImageError, hex, read_bounded};

/// Where it is made; no version begins with a dot.
const SCRATCH: &str = ".setup";
const LOCK: &str = ".lock";

/// What a kernel is made of.
struct Parts {
    image: PathBuf,
    modules: Option<PathBuf>,
    /// As far as its place says.
    version: Option<String>,
    source: String,
}

pub(super) fn setup(
    kernels: &Kernels,
    source: &Source,
    existing: Existing,
    progress: &mut dyn FnMut(&str),
) -> Result<SetUp, ImageError> {
    let directory = kernels.directory();
    lock::directory(directory, 0o755)?;
    let _lock = lock::take(&directory.join(LOCK), limits::KERNEL_SETUP_WAIT_MAX_MS)?;
    let scratch = directory.join(SCRATCH);
    lock::remove(&scratch)?;
    lock::directory(&scratch, 0o700)?;
    let scratch = std::path::absolute(&scratch).map_err(ImageError::io("find", &scratch))?;
    let _gone = Leftover::new(&scratch);
    let there = |version: &str| match existing {
        Existing::Keep => kernels.get(version),
        Existing::Replace => Ok(None),
    };
    let parts = match source {
        Source::Distribution => {
            let name = package::newest(&scratch, progress)?;
            // Known before anything is fetched.
            if let Some(kernel) = name.strip_prefix(package::KERNEL_PREFIX).map(there).transpose()?.flatten() {
                return Ok(SetUp { kernel, was_there: true });
            }
            let deb = package::fetch(&name, &scratch, progress)?;
            of_package(&deb, &scratch, progress)?
        }
        Source::Package(deb) => of_package(deb, &scratch, progress)?,
        Source::Files { kernel, modules } => of_files(kernel, modules.as_deref())?,
    };
    let (kind, image, version) = image(&parts, &scratch, progress)?;
    if let Some(kernel) = there(&version)? {
        return Ok(SetUp { kernel, was_there: true });
    }
    let chosen = choose(&parts, &version, &scratch, progress)?;
    let busybox = match package::busybox(&scratch, progress) {
        Ok(busybox) => Some(busybox),
        Err(error) => {
            progress(&format!("no busybox for guests, there is no shell in them: {error}"));
            None
        }
    };
    let made = scratch.join("kernel");
    write(&made, &Content { kind, image, version: &version, chosen, busybox, source: parts.source })?;
    place(&made, &directory.join(&version))?;
    let kernel = kernels.get(&version)?;
    let kernel = kernel.ok_or_else(|| ImageError::unusable(&directory.join(&version), "is gone as soon as made"))?;
    Ok(SetUp { kernel, was_there: false })
}

fn of_package(deb: &Path, scratch: &Path, progress: &mut dyn FnMut(&str)) -> Result<Parts, ImageError> {
    let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
    progress(&format!("unpacking {name}"));
    let tree = package::unpack(deb, scratch, "package")?;
    let (image, version, modules) = package::kernel_in(&tree, deb)?;
    Ok(Parts { image, modules, version: Some(version), source: format!("package {name}") })
}

fn of_files(kernel: &Path, modules: Option<&Path>) -> Result<Parts, ImageError> {
    if let Some(modules) = modules.filter(|path| !path.is_dir()) {
        return Err(ImageError::unusable(modules, "is no directory"));
    }
    // Modules are kept in a directory that is named like their kernel.
    let name = modules.and_then(Path::file_name).and_then(std::ffi::OsStr::to_str);
    let version = name.filter(|name| name.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned);
    let source = format!("file {}", kernel.display());
    Ok(Parts { image: kernel.to_path_buf(), modules: modules.map(Path::to_path_buf), version, source })
}

/// What is booted, and its version.
fn image(parts: &Parts, scratch: &Path, progress: &mut dyn FnMut(&str)) -> Result<(Kind, Vec<u8>, String), ImageError> {
    let path = &parts.image;
    let bytes = read_bounded(path, limits::KERNEL_IMAGE_MAX).map_err(ImageError::io("read", path))?;
    let (kind, bytes, told) = if elf::is_elf(&bytes) {
        let told = told_version(&bytes);
        (Kind::Vmlinux, bytes, told)
    } else if let Some(parsed) = BzImage::parse(&bytes) {
        let told = parsed.version.map(str::to_owned);
        match parsed.payload.map(|(compression, packed)| unpack(compression, packed, scratch)) {
            Some(Ok(unpacked)) => (Kind::Vmlinux, unpacked, told),
            other => {
                let why = other.map_or_else(|| "its compression is not known".to_owned(), Result::unwrap_err);
                progress(&format!("the kernel is left packed, guests boot a little slower: {why}"));
                (Kind::Bzimage, bytes, told)
            }
        }
    } else {
        return Err(ImageError::unusable(path, "is neither an ELF kernel (vmlinux) nor a bzImage"));
    };
    let version = parts.version.clone().or(told).filter(|version| is_version(version));
    let why = "does not tell its version; give --modules a directory that is named by it";
    Ok((kind, bytes, version.ok_or_else(|| ImageError::unusable(path, why))?))
}

/// The ELF kernel in a bzImage; an error is a reason to leave it packed.
fn unpack(compression: Compression, packed: &[u8], scratch: &Path) -> Result<Vec<u8>, String> {
    let max = limits::KERNEL_IMAGE_MAX;
    let unpacked = match compression {
        Compression::Lz4 => bzimage::unpack_lz4(packed, max)?,
        Compression::Program { name, suffix } => {
            modules::unpack(packed, name, suffix, scratch, max).map_err(|error| error.to_string())?
        }
    };
    if elf::is_elf(&unpacked) { Ok(unpacked) } else { Err("what is packed in it is no ELF kernel".to_owned()) }
}

/// A kernel has its banner in it: `Linux version 6.1.0 (…`.
fn told_version(kernel: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    let digit_follows = |at: &usize| kernel.get(at + BANNER.len()).is_some_and(u8::is_ascii_digit);
    let mut places = kernel.windows(BANNER.len()).enumerate().filter(|(_, text)| *text == BANNER).map(|(at, _)| at);
    let begin = places.find(digit_follows)? + BANNER.len();
    let text = &kernel[begin..kernel.len().min(begin + limits::KERNEL_VERSION_LENGTH_MAX + 1)];
    std::str::from_utf8(text.split(|byte| !byte.is_ascii_graphic()).next()?).ok().map(str::to_owned)
}

/// The modules that guests need, which must be this kernel's.
fn choose(parts: &Parts, version: &str, scratch: &Path, progress: &mut dyn FnMut(&str)) -> Result<Chosen, ImageError> {
    let Some(directory) = &parts.modules else {
        progress("there are no modules: all that guests need must be built into this kernel");
        return Ok(Chosen::default());
    };
    progress("choosing modules");
    let chosen = modules::choose(directory, scratch)?;
    for module in chosen.wanted.iter().chain(&chosen.pci) {
        let info = elf::module_info(&module.content);
        let magic = info.iter().find(|(key, _)| key == "vermagic").and_then(|(_, magic)| magic.split(' ').next());
        if let Some(other) = magic.filter(|magic| *magic != version) {
            let why = format!("{} is of kernel {other}, not of {version}", module.name);
            return Err(ImageError::unusable(directory, why));
        }
    }
    for what in &chosen.left_out {
        progress(&format!("left out: the module {what}"));
    }
    Ok(chosen)
}

/// What is written.
struct Content<'a> {
    kind: Kind,
    image: Vec<u8>,
    version: &'a str,
    chosen: Chosen,
    busybox: Option<Vec<u8>>,
    source: String,
}

/// Writes all of it into a new directory; `kernel.json` last.
fn write(made: &Path, content: &Content<'_>) -> Result<(), ImageError> {
    open_directory(made)?;
    let image = made.join(content.kind.file_name());
    write_file(&image, &content.image, 0o644)?;
    let sha256 = hex(&Sha256::digest(&content.image));
    let mut all = Sha256::new();
    all.update(&sha256);
    let modules = write_modules(&made.join(record::MODULES), &content.chosen.wanted, &mut all)?;
    let modules_pci = write_modules(&made.join(record::MODULES_PCI), &content.chosen.pci, &mut all)?;
    let busybox = made.join(record::BUSYBOX);
    if let Some(program) = &content.busybox {
        write_file(&busybox, program, 0o755)?;
        all.update(Sha256::digest(program));
    }
    let kernel = Kernel {
        version: content.version.to_owned(),
        image,
        kind: content.kind,
        sha256,
        content_sha256: hex(&all.finalize()),
        modules,
        modules_pci,
        busybox: content.busybox.is_some().then_some(busybox),
        source: content.source.clone(),
        made_at_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
    };
    let json = serde_json::to_vec_pretty(&Record::of(&kernel)).expect("strings, numbers and lists of them");
    write_file(&made.join(record::FILE), &json, 0o644)?;
    lock::sync_parent(&made.join(record::FILE))
}

/// Writes modules so that the order of their names is the order in which they are loaded.
fn write_modules(directory: &Path, modules: &[Module], all: &mut Sha256) -> Result<Vec<PathBuf>, ImageError> {
    open_directory(directory)?;
    let mut paths = Vec::new();
    for (number, module) in modules.iter().enumerate() {
        let name = format!("{number:02}-{}.ko", module.name);
        let path = directory.join(&name);
        write_file(&path, &module.content, 0o644)?;
        all.update(name);
        all.update(Sha256::digest(&module.content));
        paths.push(path);
    }
    lock::sync_parent(&directory.join("any"))?;
    Ok(paths)
}

/// A directory that all may pass.
fn open_directory(path: &Path) -> Result<(), ImageError> {
    lock::directory(path, 0o755)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755)).map_err(ImageError::io("open to all", path))
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), ImageError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| {
        // VMMs have users of their own: whatever the umask here, they may read it.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(ImageError::io("write", path))
}

/// Puts it under its name. What had the name before is in the scratch directory then, and goes with it.
fn place(made: &Path, path: &Path) -> Result<(), ImageError> {
    if std::fs::symlink_metadata(path).is_ok() {
        hostler_linux::files::exchange(made, path).map_err(ImageError::io("replace", path))?;
        lock::sync_parent(path)
    } else {
        lock::put(made, path)
    }
}
