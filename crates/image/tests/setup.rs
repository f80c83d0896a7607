//! Setting up kernels from packages and files that are made here: little, with everything in them that is looked at.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostler_image::kernels::{Existing, Kernels, Kind, SetUp, Source};
use hostler_image::{ImageError, initramfs};
use hostler_linux::tool;

const VERSION: &str = "6.1.0-7-test";

/// An ELF file with this in its section `.modinfo`.
fn elf(info: &[String]) -> Vec<u8> {
    let names = b"\0.modinfo\0.names\0";
    let text: Vec<u8> = info.iter().flat_map(|entry| entry.bytes().chain([0])).collect();
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(64, 0);
    let (text_at, names_at) = (file.len(), file.len() + text.len());
    file.extend(&text);
    file.extend(names);
    let table = file.len() as u64;
    for (name, at, length) in [(0_u32, 0, 0), (1, text_at, text.len()), (10, names_at, names.len())] {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[0x18..0x20].copy_from_slice(&(at as u64).to_le_bytes());
        header[0x20..0x28].copy_from_slice(&(length as u64).to_le_bytes());
        file.extend(header);
    }
    file[0x28..0x30].copy_from_slice(&table.to_le_bytes());
    for (at, value) in [(0x3a, 64_u16), (0x3c, 3), (0x3e, 2)] {
        file[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    file
}

fn module(version: &str, depends: &str) -> Vec<u8> {
    elf(&[format!("depends={depends}"), format!("vermagic={version} SMP mod_unload")])
}

/// A kernel as an ELF file: that and the banner are all that is looked at.
fn vmlinux(version: &str) -> Vec<u8> {
    let mut file = elf(&[]);
    file.extend(b"Linux version %s\0Linux version ");
    file.extend(version.as_bytes());
    file.extend(b" (builder@host) #1 SMP\n\0");
    file
}

/// The kernel in a bzImage with this payload.
fn bzimage(payload: &[u8], version: &str) -> Vec<u8> {
    let mut file = vec![0; 1_024];
    file[0x1f1] = 1;
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    file[0x300..0x300 + version.len()].copy_from_slice(version.as_bytes());
    file[0x20e..0x210].copy_from_slice(&0x100_u16.to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    file.extend(payload);
    file
}

/// As the kernel's build packs it.
fn packed(content: &[u8]) -> Vec<u8> {
    let block = lz4_flex::block::compress(content);
    let mut packed = vec![0x02, 0x21, 0x4c, 0x18];
    packed.extend((block.len() as u32).to_le_bytes());
    packed.extend(block);
    packed.extend((content.len() as u32).to_le_bytes());
    packed
}

/// Modules of a kernel of this version, below `place`.
fn modules(place: &Path, version: &str) -> PathBuf {
    let directory = place.join(version);
    let files = [
        ("kernel/drivers/virtio/virtio.ko", "virtio_ring"),
        ("kernel/drivers/virtio/virtio_ring.ko", ""),
        ("kernel/drivers/virtio/virtio_pci.ko", "virtio"),
        ("kernel/fs/erofs/erofs.ko", "libcrc32c"),
        ("kernel/lib/libcrc32c.ko", ""),
        ("kernel/lib/unwanted.ko", ""),
    ];
    for (path, depends) in files {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, module(version, depends)).unwrap();
    }
    directory
}

struct Case {
    place: tempfile::TempDir,
    said: Vec<String>,
}

impl Case {
    fn new() -> Self {
        Self { place: tempfile::tempdir().unwrap(), said: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn kernels(&self) -> Kernels {
        Kernels::new(self.path("kernels"))
    }

    fn setup(&mut self, source: &Source, existing: Existing) -> Result<SetUp, ImageError> {
        let made = self.kernels().setup(source, existing, &mut |line| self.said.push(line.to_owned()));
        let left: Vec<_> =
            fs::read_dir(self.path("kernels")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name == ".setup"), "{left:?}");
        made
    }

    /// From a kernel file with this in it and a directory of modules.
    fn files(&mut self, kernel: &[u8], modules: Option<&Path>) -> Result<SetUp, ImageError> {
        let path = self.path("kernel-file");
        fs::write(&path, kernel).unwrap();
        self.setup(&Source::Files { kernel: path, modules: modules.map(Path::to_path_buf) }, Existing::Keep)
    }

    /// A package with the kernel of this version.
    fn package(&self, version: &str) -> Option<PathBuf> {
        let dpkg = tool::find("dpkg-deb")?;
        let tree = self.path("tree");
        let _ = fs::remove_dir_all(&tree);
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::create_dir_all(tree.join("boot")).unwrap();
        let control = format!(
            "Package: linux-image-{version}\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody <n@example.org>\nDescription: x\n"
        );
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        fs::write(tree.join(format!("boot/vmlinuz-{version}")), bzimage(&packed(&vmlinux(version)), version)).unwrap();
        modules(&tree.join("lib/modules"), version);
        let deb = self.path(&format!("linux-image-{version}.deb"));
        let arguments = [OsStr::new("--build"), "--root-owner-group".as_ref(), tree.as_os_str(), deb.as_os_str()];
        let path = tool::DIRECTORIES.join(":");
        let environment = [("PATH", OsStr::new(&path))];
        let done = tool::call_in(Path::new("/"), &dpkg, &arguments, &environment, Duration::from_secs(30)).unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.err));
        Some(deb)
    }
}

fn names(paths: &[PathBuf]) -> Vec<&str> {
    paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect()
}

#[test]
fn from_a_package() {
    let mut case = Case::new();
    let Some(deb) = case.package(VERSION) else {
        println!("skipped: no dpkg-deb");
        return;
    };
    // What one that died has left.
    fs::create_dir_all(case.path("kernels/.setup/kernel/modules")).unwrap();
    let source = Source::Package(deb);
    let made = case.setup(&source, Existing::Keep).unwrap();
    let kernel = made.kernel;
    assert!(!made.was_there);
    assert_eq!((kernel.version.as_str(), kernel.kind), (VERSION, Kind::Vmlinux));
    assert_eq!(fs::read(&kernel.image).unwrap(), vmlinux(VERSION));
    assert_eq!(names(&kernel.modules), ["00-virtio_ring.ko", "01-virtio.ko", "02-libcrc32c.ko", "03-erofs.ko"]);
    assert_eq!(names(&kernel.modules_pci), ["00-virtio_pci.ko"]);
    assert_eq!(kernel.source, format!("package linux-image-{VERSION}.deb"));
    assert!(kernel.size_bytes() > 0 && kernel.sha256.len() == 64);
    assert_eq!(case.kernels().current().unwrap().as_ref(), Some(&kernel));
    assert_eq!(fs::metadata(kernel.image.parent().unwrap()).unwrap().mode() & 0o777, 0o755);

    let again = case.setup(&source, Existing::Keep).unwrap();
    assert!(again.was_there && again.kernel == kernel);
    let inode = |kernel: &Path| fs::metadata(kernel).unwrap().ino();
    let before = inode(&kernel.image);
    let anew = case.setup(&source, Existing::Replace).unwrap();
    assert!(!anew.was_there && inode(&anew.kernel.image) != before);
    assert_eq!(anew.kernel.content_sha256, kernel.content_sha256);
    assert!(case.said.iter().any(|line| line.starts_with("unpacking linux-image-")), "{:?}", case.said);
    // What is not whole is made anew.
    fs::remove_file(&anew.kernel.modules[1]).unwrap();
    assert_eq!(case.kernels().current().unwrap(), None);
    assert!(!case.setup(&source, Existing::Keep).unwrap().was_there);
}

#[test]
fn the_kernel_set_up_last_is_current() {
    let mut case = Case::new();
    for version in ["6.9.0", "6.10.0", "6.1.0"] {
        let modules = modules(&case.path("modules"), version);
        case.files(&vmlinux(version), Some(&modules)).unwrap();
        let current = case.kernels().current().unwrap().unwrap();
        // Two may be made in the same millisecond.
        let made_at = current.made_at_ms;
        assert!(case.kernels().get(version).unwrap().unwrap().made_at_ms == made_at, "{version}");
    }
    assert_eq!(case.kernels().list().unwrap().len(), 3);
}

#[test]
fn from_files() {
    let mut case = Case::new();
    let directory = modules(&case.path("modules"), VERSION);
    let cases: [(&str, Vec<u8>, Option<&Path>, Kind); 4] = [
        ("an ELF kernel", vmlinux(VERSION), Some(&directory), Kind::Vmlinux),
        ("one without modules", vmlinux("6.1.1"), None, Kind::Vmlinux),
        ("a packed one", bzimage(&packed(&vmlinux("6.1.2")), "6.1.2"), None, Kind::Vmlinux),
        ("packed in another way", bzimage(b"BZh91AY&SY..........", "6.1.3"), None, Kind::Bzimage),
    ];
    for (what, kernel, modules, kind) in cases {
        case.said.clear();
        let made = case.files(&kernel, modules).unwrap().kernel;
        assert_eq!(made.kind, kind, "{what}");
        assert_eq!(made.modules.is_empty(), modules.is_none(), "{what}");
        assert_eq!(modules.is_none(), case.said.iter().any(|line| line.starts_with("there are no modules")), "{what}");
        assert_eq!(kind == Kind::Bzimage, case.said.iter().any(|line| line.contains("left packed")), "{what}");
    }
    for (packer, suffix) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        let Some(program) = tool::find(packer) else {
            println!("skipped: no {packer}");
            continue;
        };
        let (version, file) = (format!("6.2.0-{packer}"), case.path("payload"));
        fs::write(&file, vmlinux(&version)).unwrap();
        let arguments = [OsStr::new("-q"), OsStr::new("-k"), file.as_os_str()];
        tool::call_in(case.place.path(), &program, &arguments, &[], Duration::from_secs(10)).unwrap();
        let mut payload = fs::read(case.path(&format!("payload.{suffix}"))).unwrap();
        if packer != "gzip" {
            payload.extend([1, 2, 3, 4]);
        }
        let made = case.files(&bzimage(&payload, &version), None).unwrap().kernel;
        assert_eq!(made.kind, Kind::Vmlinux, "{packer}: {:?}", case.said);
        assert_eq!(fs::read(made.image).unwrap(), vmlinux(&version), "{packer}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_and_nothing_is_left() {
    let mut case = Case::new();
    let wrong = modules(&case.path("modules"), "5.10.0");
    let cases: [(&str, Vec<u8>, Option<&Path>); 5] = [
        ("is neither an ELF kernel", b"#!/bin/sh\n".to_vec(), None),
        ("is neither an ELF kernel", Vec::new(), None),
        ("does not tell its version", vmlinux("../../etc"), None),
        ("does not tell its version", elf(&[]), None),
        ("is no directory", vmlinux(VERSION), Some(Path::new("/absent"))),
    ];
    for (words, kernel, modules) in cases {
        let error = case.files(&kernel, modules).unwrap_err().to_string();
        assert!(error.contains(words), "{words:?} is not in {error:?}");
    }
    let named = case.path("modules-of-another");
    fs::rename(&wrong, &named).unwrap();
    let error = case.files(&vmlinux(VERSION), Some(&named)).unwrap_err().to_string();
    assert!(error.contains("is of kernel 5.10.0, not of 6.1.0-7-test"), "{error}");
    let deb = case.path("x.deb");
    fs::write(&deb, "no package").unwrap();
    assert!(case.setup(&Source::Package(deb), Existing::Keep).is_err());
    assert_eq!(case.kernels().list().unwrap(), []);
    let left: Vec<_> = fs::read_dir(case.path("kernels")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);
}

#[test]
fn an_initramfs_is_another_one_when_the_modules_are() {
    let mut case = Case::new();
    let directory = modules(&case.path("modules"), VERSION);
    let agent = case.path("agent");
    fs::write(&agent, "agent").unwrap();
    let cache = case.path("cache");
    let first = case.files(&vmlinux(VERSION), Some(&directory)).unwrap().kernel;
    let path = initramfs::ensure(&cache, &first, &agent).unwrap();
    fs::write(directory.join("kernel/loop.ko"), module(VERSION, "")).unwrap();
    let source = Source::Files { kernel: case.path("kernel-file"), modules: Some(directory) };
    let second = case.setup(&source, Existing::Replace).unwrap().kernel;
    assert_eq!(first.sha256, second.sha256);
    assert_ne!(initramfs::ensure(&cache, &second, &agent).unwrap(), path);
}

#[test]
fn without_rights() {
    let mut case = Case::new();
    fs::create_dir(case.path("kernels")).unwrap();
    fs::set_permissions(case.path("kernels"), fs::Permissions::from_mode(0o500)).unwrap();
    match case.files(&vmlinux(VERSION), None) {
        Ok(_) => println!("skipped: rights do not bind this user"),
        Err(error) => assert!(error.is_permission(), "{error}"),
    }
    fs::set_permissions(case.path("kernels"), fs::Permissions::from_mode(0o700)).unwrap();
}
