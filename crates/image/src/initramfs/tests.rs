use super::*;
use crate::kernels::Kind;

/// A kernel of little files in this directory.
fn kernel(place: &Path) -> Kernel {
    let write = |name: &str, content: &str| {
        let path = place.join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let busybox =
        write("busybox", "#!/bin/sh\necho bin/sh\necho bin/busybox\necho ../x\necho sbin/ip\necho 'bin/a b'\n");
    std::fs::set_permissions(&busybox, Permissions::from_mode(0o755)).unwrap();
    Kernel {
        version: "6.1".to_owned(),
        image: write("vmlinux", "kernel"),
        kind: Kind::Vmlinux,
        sha256: "0".repeat(64),
        content_sha256: "1".repeat(64),
        modules: vec![write("00-a.ko", "a"), write("01-b.ko", "b")],
        modules_pci: vec![write("00-pci.ko", "pci")],
        busybox: Some(busybox),
        source: "a test".to_owned(),
        made_at_ms: 0,
    }
}

fn files(cache: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn same_content_same_bytes() {
    let place = tempfile::tempdir().unwrap();
    let (one, other) = (place.path().join("one"), place.path().join("other"));
    let agent = place.path().join("agent");
    std::fs::write(&agent, "agent").unwrap();
    let kernel = kernel(place.path());
    let first = ensure(&one, &kernel, &agent).unwrap();
    assert_eq!(ensure(&one, &kernel, &agent).unwrap(), first);
    let second = ensure(&other, &kernel, &agent).unwrap();
    assert_eq!(first.file_name(), second.file_name());
    assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());
    let name = first.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(files(&one), [name, LOCK.to_owned()]);
    std::fs::write(&agent, "other").unwrap();
    assert_ne!(ensure(&one, &kernel, &agent).unwrap(), first);
    let changed = Kernel { content_sha256: "2".repeat(64), ..kernel };
    assert_ne!(ensure(&other, &changed, &agent).unwrap().file_name(), first.file_name());
}

#[test]
fn what_is_in_it() {
    let place = tempfile::tempdir().unwrap();
    let agent = place.path().join("agent");
    std::fs::write(&agent, "the agent").unwrap();
    let path = ensure(&place.path().join("cache"), &kernel(place.path()), &agent).unwrap();
    let Some(cpio) = hostler_linux::tool::find("cpio") else {
        println!("skipped: no cpio");
        return;
    };
    let file = format!("--file={}", path.display());
    let arguments = ["--list", "--quiet", &file].map(OsStr::new);
    let listed = String::from_utf8(program::call(place.path(), &cpio, &arguments, 10_000).unwrap()).unwrap();
    let names: Vec<&str> = listed.lines().collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(names, sorted);
    let expected =
        ["init", "modules/00-a.ko", "modules/01-b.ko", "modules-pci/00-pci.ko", "bin/busybox", "bin/sh", "sbin/ip"];
    let more = ["etc/passwd", "dev/console", "dev/null", "tmp", "newroot", "var", "usr/sbin"];
    for path in expected.iter().chain(&more) {
        assert!(names.contains(path), "{path} is not in {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("..") || name.contains(' ')), "{names:?}");
    assert_eq!(names.iter().filter(|name| **name == "bin/busybox").count(), 1);
}

#[test]
fn many_makers_make_one() {
    let place = tempfile::tempdir().unwrap();
    let cache = place.path().join("cache");
    let agent = place.path().join("agent");
    std::fs::write(&agent, vec![7; 100_000]).unwrap();
    let kernel = kernel(place.path());
    std::fs::create_dir(&cache).unwrap();
    std::fs::write(cache.join("initramfs-new"), "left by one that died").unwrap();
    let made: Vec<PathBuf> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| ensure(&cache, &kernel, &agent).unwrap())).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    assert!(made.iter().all(|path| *path == made[0]));
    assert_eq!(files(&cache).len(), 2, "{:?}", files(&cache));
}

#[test]
fn old_ones_go() {
    let place = tempfile::tempdir().unwrap();
    let agent = place.path().join("agent");
    let kernel = kernel(place.path());
    let cache = place.path().join("cache");
    for number in 0..limits::INITRAMFS_KEPT_MAX + 3 {
        std::fs::write(&agent, number.to_string()).unwrap();
        assert!(ensure(&cache, &kernel, &agent).unwrap().is_file());
    }
    assert_eq!(files(&cache).len(), limits::INITRAMFS_KEPT_MAX + 1, "and the lock");
}

#[test]
fn what_is_missing_is_said_and_nothing_is_left() {
    let place = tempfile::tempdir().unwrap();
    let cache = place.path().join("cache");
    let mut kernel = kernel(place.path());
    let agent = place.path().join("agent");
    assert!(ensure(&cache, &kernel, &agent).unwrap_err().to_string().contains("agent"));
    std::fs::write(&agent, "agent").unwrap();
    kernel.modules.push(place.path().join("02-absent.ko"));
    assert!(ensure(&cache, &kernel, &agent).unwrap_err().to_string().contains("02-absent.ko"));
    assert_eq!(files(&cache), [LOCK]);
    kernel.modules.pop();
    kernel.busybox = Some(agent.clone());
    let path = ensure(&cache, &kernel, &agent).unwrap();
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    assert!(text.contains("usr/bin/env"), "a busybox that tells no names has the usual ones");
}
