use super::*;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::time::Duration;

use hostler_linux::tool;

/// A tree with a bit of everything.
fn tree() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    std::fs::create_dir_all(path("bin/deep/deeper")).unwrap();
    std::fs::write(path("bin/program"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(path("bin/program"), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(path("bin/deep/file"), vec![7; 10_000]).unwrap();
    std::fs::write(path("a b\nc"), "odd").unwrap();
    symlink("/etc/passwd", path("link")).unwrap();
    symlink("nowhere", path("bin/broken")).unwrap();
    std::fs::hard_link(path("bin/program"), path("bin/same")).unwrap();
    place
}

fn key(directory: &Path) -> ImageKey {
    tree::survey(directory, BlockLimits::default()).unwrap().key
}

/// Whether images can be made here.
fn cannot() -> bool {
    let none = tool::find("mkfs.erofs").or_else(|| tool::find("mksquashfs")).is_none();
    if none {
        println!("skipped: neither mkfs.erofs nor mksquashfs");
    }
    none
}

fn images(cache: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_none_or(|suffix| suffix != "lock")).collect()
}

#[test]
fn keys_have_a_form() {
    let key = ImageKey([0xab; 32]);
    assert_eq!(key.to_string().parse(), Ok(key));
    for bad in ["", "ab", &"AB".repeat(32), &"zz".repeat(32), &"ab".repeat(33), &"ü".repeat(32)] {
        assert_eq!(bad.parse::<ImageKey>(), Err(InvalidKey), "{bad}");
    }
}

#[test]
fn every_change_is_another_key() {
    let place = tree();
    let path = |name: &str| place.path().join(name);
    type Change = Box<dyn Fn()>;
    let changes: [(&str, Change); 9] = [
        (
            "content of the same size",
            Box::new({
                let p = path("bin/deep/file");
                move || File::options().write(true).open(&p).unwrap().write_all_at(b"x", 5).unwrap()
            }),
        ),
        (
            "mode",
            Box::new({
                let p = path("bin");
                move || std::fs::set_permissions(&p, std::fs::Permissions::from_mode(0o700)).unwrap()
            }),
        ),
        (
            "a new file",
            Box::new({
                let p = path("new");
                move || std::fs::write(&p, "").unwrap()
            }),
        ),
        (
            "a rename",
            Box::new({
                let (p, q) = (path("new"), path("newer"));
                move || std::fs::rename(&p, &q).unwrap()
            }),
        ),
        (
            "a removal",
            Box::new({
                let p = path("newer");
                move || std::fs::remove_file(&p).unwrap()
            }),
        ),
        (
            "a link elsewhere",
            Box::new({
                let p = path("link");
                move || {
                    std::fs::remove_file(&p).unwrap();
                    symlink("/etc/hostsx", &p).unwrap();
                }
            }),
        ),
        (
            "an empty directory",
            Box::new({
                let p = path("bin/deep/empty");
                move || std::fs::create_dir(&p).unwrap()
            }),
        ),
        (
            "the root's mode",
            Box::new({
                let p = place.path().to_path_buf();
                move || std::fs::set_permissions(&p, std::fs::Permissions::from_mode(0o711)).unwrap()
            }),
        ),
        (
            "a time that is set back",
            Box::new({
                let p = path("bin/program");
                move || {
                    let file = File::options().write(true).open(&p).unwrap();
                    let before = file.metadata().unwrap().modified().unwrap();
                    file.write_all_at(b"#?", 0).unwrap();
                    file.set_modified(before).unwrap();
                }
            }),
        ),
    ];
    let mut before = key(place.path());
    for (what, change) in changes {
        assert_eq!(key(place.path()), before, "before {what}");
        change();
        let after = key(place.path());
        assert_ne!(after, before, "{what}");
        before = after;
    }
}

#[test]
fn two_trees_of_one_moment_differ() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (place, text) in [(&one, "1"), (&other, "2")] {
        std::fs::write(place.path().join("file"), text).unwrap();
    }
    assert_ne!(key(one.path()), key(other.path()));
}

#[test]
fn bounds_are_named() {
    let place = tree();
    let ensure = |entries_max, bytes_max| {
        let cache = place.path().join("cache");
        super::ensure(&cache, &place.path().join("bin"), BlockLimits { entries_max, bytes_max })
            .unwrap_err()
            .to_string()
    };
    assert!(ensure(3, 1 << 30).ends_with("has more than 3 entries"), "{}", ensure(3, 1 << 30));
    assert!(ensure(100, 10_000).ends_with("has more than 10000 bytes"));
    assert!(!place.path().join("cache").exists());
    let deep = tempfile::tempdir().unwrap();
    let mut path = deep.path().to_path_buf();
    for _ in 0..limits::BLOCK_DEPTH_MAX + 1 {
        path.push("d");
    }
    std::fs::create_dir_all(&path).unwrap();
    let error = tree::survey(deep.path(), BlockLimits::default()).unwrap_err().to_string();
    assert!(error.contains("directories in each other"), "{error}");
}

#[test]
fn made_once_and_shared() {
    if cannot() {
        return;
    }
    let (place, cache) = (tree(), tempfile::tempdir().unwrap());
    let made: Vec<BlockImage> = std::thread::scope(|scope| {
        let make = || super::ensure(cache.path(), place.path(), BlockLimits::default()).unwrap();
        let makers: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    let inode = |image: &BlockImage| std::fs::metadata(&image.path).unwrap().ino();
    assert!(made.iter().all(|image| inode(image) == inode(&made[0])));
    assert_eq!(images(cache.path()).len(), 1, "{:?}", images(cache.path()));
    let expected = match made[0].format {
        Format::Erofs => FileSystem::Erofs,
        Format::Squashfs => FileSystem::Squashfs,
    };
    assert_eq!(format_of(&made[0].path).unwrap(), expected);
    assert_eq!(std::fs::metadata(&made[0].path).unwrap().mode() & 0o777, 0o444);
    std::fs::write(place.path().join("more"), "").unwrap();
    let other = super::ensure(cache.path(), place.path(), BlockLimits::default()).unwrap();
    assert_ne!(other.key, made[0].key);
    assert_eq!(images(cache.path()).len(), 2);
}

#[test]
fn what_is_held_or_kept_stays() {
    if cannot() {
        return;
    }
    let (place, cache) = (tree(), tempfile::tempdir().unwrap());
    let ensure = || super::ensure(cache.path(), place.path(), BlockLimits::default()).unwrap();
    let nothing = HashSet::new();
    let image = ensure();
    let (key, hold) = (image.key, image.hold());
    assert_eq!(remove_unused(cache.path(), &nothing).unwrap(), Removed::default());
    drop(image);
    assert_eq!(remove_unused(cache.path(), &nothing).unwrap(), Removed::default());
    drop(hold);
    assert_eq!(remove_unused(cache.path(), &HashSet::from([key])).unwrap(), Removed::default());
    // What dead makers left goes as well; what is not ours stays.
    for name in [format!("{key}.new"), format!("{key}.txt"), "note".to_owned()] {
        std::fs::write(cache.path().join(name), "").unwrap();
    }
    let removed = remove_unused(cache.path(), &nothing).unwrap();
    assert!(removed.images == 1 && removed.bytes > 0, "{removed:?}");
    assert_eq!(images(cache.path()).len(), 2, "{:?}", images(cache.path()));
    assert!(find(cache.path(), key).unwrap().is_none());
    assert_eq!(ensure().key, key);
    assert_eq!(remove_unused(&cache.path().join("absent"), &nothing).unwrap(), Removed::default());
}

#[test]
fn a_dead_makers_leftover_is_no_trouble() {
    if cannot() {
        return;
    }
    let (place, cache) = (tree(), tempfile::tempdir().unwrap());
    let new = cache.path().join(format!("{}.new", key(place.path())));
    std::fs::write(&new, "half").unwrap();
    let image = super::ensure(cache.path(), place.path(), BlockLimits::default()).unwrap();
    assert!(!new.exists() && image.path.exists());
}

#[test]
fn a_tree_that_changes_all_the_time_is_refused() {
    if cannot() {
        return;
    }
    let (place, cache) = (tree(), tempfile::tempdir().unwrap());
    let stop = std::sync::atomic::AtomicBool::new(false);
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::fs::write(place.path().join("busy"), number.to_string()).unwrap();
                number += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let error = super::ensure(cache.path(), place.path(), BlockLimits::default());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        error.unwrap_err()
    });
    assert!(matches!(error, ImageError::Changing { .. }), "{error}");
    assert_eq!(images(cache.path()), Vec::<PathBuf>::new());
}

/// Unpacks an image without mounting it.
fn listed(format: Format, image: &Path) -> Option<String> {
    let (program, arguments): (_, Vec<std::ffi::OsString>) = match format {
        Format::Erofs => (tool::find("fsck.erofs")?, vec!["--extract".into(), image.into()]),
        Format::Squashfs => (tool::find("unsquashfs")?, vec!["-lls".into(), "-n".into(), image.into()]),
    };
    let arguments: Vec<&std::ffi::OsStr> = arguments.iter().map(std::ffi::OsString::as_os_str).collect();
    let said = crate::program::call(Path::new("/"), &program, &arguments, 30_000).unwrap();
    Some(String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn mounts_are_empty_directories() {
    let place = tree();
    let mount = place.path().join("bin/deep/mo.n+(t)");
    std::fs::create_dir(&mount).unwrap();
    let unmounted = tree::survey(place.path(), BlockLimits::default()).unwrap();
    let call = |program: &str, arguments: &[&str]| {
        let program = tool::find(program)?;
        let arguments: Vec<&std::ffi::OsStr> = arguments.iter().map(std::ffi::OsStr::new).collect();
        crate::program::call(Path::new("/"), &program, &arguments, 10_000).ok()
    };
    if call("mount", &["-t", "tmpfs", "none", mount.to_str().unwrap()]).is_none() {
        println!("skipped: nothing can be mounted here");
        return;
    }
    for name in ["inner-file", ".inner-file"] {
        std::fs::write(mount.join(name), "not ours").unwrap();
    }
    let mounted = tree::survey(place.path(), BlockLimits::default());
    let mut results = Vec::new();
    for format in [Format::Erofs, Format::Squashfs] {
        let image = place.path().join(format!("../{}.{}", mounted.as_ref().unwrap().key, format.name()));
        let made = make::make_with(format, place.path(), &image, &mounted.as_ref().unwrap().mounts);
        let bytes = std::fs::read(&image).unwrap_or_default();
        let list = made.is_ok().then(|| listed(format, &image)).flatten();
        let _ = std::fs::remove_file(&image);
        results.push((format, made, bytes, list));
    }
    call("umount", &[mount.to_str().unwrap()]).expect("unmounted");
    let mounted = mounted.unwrap();
    assert_eq!(mounted.mounts, [Path::new("bin/deep/mo.n+(t)")]);
    assert_ne!(mounted.key, unmounted.key);
    for (format, made, bytes, list) in results {
        if matches!(made, Err(ImageError::NoProgram { .. })) {
            println!("skipped: no program for {}", format.name());
            continue;
        }
        made.unwrap();
        let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        assert!(has(b"mo.n+(t)") && !has(b"inner-file"), "{}: {list:?}", format.name());
    }
}
