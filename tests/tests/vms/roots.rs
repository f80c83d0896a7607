//! What a guest has of files: directories and images as its root, what is written, volumes.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use hostler_tests::{Host, container, guest};

/// A root of busybox, in the node's working directory, and its path.
fn busybox(host: &Host) -> String {
    let path = host.work().join("root");
    container::busybox_root(&path);
    std::fs::create_dir(path.join("run")).expect("a directory");
    path.display().to_string()
}

fn images(host: &Host) -> Vec<PathBuf> {
    let is_image =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension == "erofs" || extension == "squashfs");
    host.directories("vm/cache").into_iter().filter(is_image).collect()
}

#[test]
fn a_directory_is_a_root_that_guests_share() {
    let Some(host) = Host::start() else { return };
    if !guest::makes_disks() {
        return host.finish();
    }
    let root = busybox(&host);
    std::fs::write(host.work().join("root/srv/file"), "of the directory\n").expect("write");
    std::fs::set_permissions(host.work().join("root/srv/file"), std::fs::Permissions::from_mode(0o640)).expect("chmod");
    std::os::unix::fs::chown(host.work().join("root/srv/file"), Some(33), Some(44)).expect("chown");
    host.detach("one", &["--rootfs", &root], "echo first >/srv/made; exec sleep 600");
    host.detach("two", &["--rootfs", &root, "--user", "web"], "exec sleep 600");
    assert_eq!(images(&host).len(), 1, "{:?}", images(&host));
    assert_eq!(
        host.exec("two", "id -un; cat /srv/file; stat -c %u:%g:%a /srv/file").ok(),
        "web\nof the directory\n33:44:640"
    );
    assert_eq!(host.exec("one", "cat /srv/made; ls /newroot /modules /init 2>&1 | grep -c 'No such'").ok(), "first\n3");
    host.exec("two", "cat /srv/made").code(1);
    assert!(!host.work().join("root/srv/made").exists(), "a guest wrote to the directory");
    for name in ["one", "two"] {
        host.cli(&["kill", name]).ok();
        host.ended(name);
    }
    // Another time the same image, and what the first had written is gone.
    host.sh(&["--rootfs", &root], "cat /srv/made").code(1);
    assert_eq!(images(&host).len(), 1);
    // A change makes another one.
    std::fs::write(host.work().join("root/srv/file"), "changed since then\n").expect("write");
    assert_eq!(host.sh(&["--rootfs", &root], "cat /srv/file").ok(), "changed since then");
    assert_eq!(images(&host).len(), 2);
    host.finish();
}

#[test]
fn what_is_written_goes_where_it_is_told() {
    let Some(host) = Host::start() else { return };
    if !guest::makes_disks() {
        return host.finish();
    }
    let root = busybox(&host);
    let read_only = host.sh(&["--rootfs", &root, "--read-only"], "echo x >/srv/x; touch /run/y && echo run").code(0);
    assert!(read_only.err().contains("Read-only file system") && read_only.out() == "run\n", "{read_only:?}");
    // More than its memory.
    let script =
        "dd if=/dev/zero of=/srv/big bs=1M count=150 2>/dev/null && stat -c %s /srv/big; grep ' / ' /proc/mounts";
    let disk = host.sh(&["--rootfs", &root, "--disk", "256M", "--memory", "96M"], script).ok();
    assert!(disk.starts_with("157286400\n") && disk.contains("overlay"), "{disk}");
    host.until_no_guest("the disk");
    // And no more than the disk has.
    let script = "dd if=/dev/zero of=/srv/big bs=1M count=150; echo over";
    let full = host.sh(&["--rootfs", &root, "--disk", "64M"], script).code(0);
    assert!(full.err().contains("No space left"), "{full:?}");

    // The image of a file system is never written to either.
    let image = host.work().join("root.ext4");
    guest::ext4(&image, "32M", Some(&host.work().join("root")));
    let path = image.display().to_string();
    let before = std::fs::read(&image).expect("an image");
    assert_eq!(host.sh(&["--rootfs", &path], "echo new >/srv/new; cat /srv/new").ok(), "new");
    host.sh(&["--rootfs", &path], "cat /srv/new").code(1);
    assert!(std::fs::read(&image).expect("an image") == before, "the image was changed");
    host.finish();
}

#[test]
fn roots_that_are_none() {
    let Some(host) = Host::start() else { return };
    if !guest::makes_disks() {
        return host.finish();
    }
    let at = |name: &str| host.work().join(name).display().to_string();
    host.run(&["--rootfs", &at("absent")], &["true"]).refused(125, "vm.rootfs");
    std::fs::write(at("text"), "no image\n".repeat(1000)).expect("write");
    host.run(&["--rootfs", &at("text")], &["true"]).refused(125, "is no image of ext4, erofs or squashfs");
    std::fs::write(at("short"), "").expect("write");
    host.run(&["--rootfs", &at("short")], &["true"]).refused(125, "is no image");
    // The head of a file system, and nothing of it.
    guest::ext4(&host.work().join("broken"), "16M", None);
    let whole = std::fs::read(at("broken")).expect("an image");
    let damaged = [&whole[..2048], &vec![0xa5; 64 * 1024][..]].concat();
    std::fs::write(at("broken"), damaged).expect("write");
    let done = host.run(&["--rootfs", &at("broken")], &["true"]).code(125);
    assert!(done.err().contains("root"), "{}", done.err());
    host.until_no_guest("a broken image");
    // A directory without anything in it is a root in which nothing can be executed.
    std::fs::create_dir(at("hollow")).expect("a directory");
    host.run(&["--rootfs", &at("hollow")], &["true"]).code(127);
    let hollow = host.run(&["--rootfs", &at("hollow"), "--read-only"], &["true"]).code(125);
    assert!(hollow.err().contains("it has no directory"), "{}", hollow.err());
    host.finish();
}

#[test]
fn volumes() {
    let Some(host) = Host::start() else { return };
    if !guest::makes_disks() {
        return host.finish();
    }
    let work = host.work();
    std::fs::create_dir(work.join("data")).expect("a directory");
    std::fs::write(work.join("data/file"), "from the machine\n").expect("write");
    // Relative to where the command is typed.
    let seen = host.sh(&["-v", "data:/data:ro"], "cat /data/file; echo x >/data/x").code(1);
    assert!(seen.out() == "from the machine\n" && seen.err().contains("Read-only"), "{seen:?}");
    host.sh(&["-v", "data:/data"], "true").refused(125, "cannot write to the directory");
    host.sh(&["-v", "absent:/data:ro"], "true").refused(125, "does not exist");
    let disk = work.join("disk");
    guest::ext4(&disk, "32M", None);
    for round in 1..=2 {
        let script = format!("echo round {round} >>/deep/down/log; cat /deep/down/log");
        let lines = host.sh(&["-v", "disk:/deep/down"], &script).ok();
        assert_eq!(lines.lines().count(), round, "{lines}");
        host.until_no_guest("a disk was written to");
    }
    // What was written is there although the program was killed, and read-only it stays as it is.
    host.detach("c", &["-v", "disk:/data"], "echo third >>/data/log; echo ready; exec sleep 600");
    hostler_tests::until("the third line", hostler_tests::PATIENCE, || (host.log_of("c") == "ready").then_some(()));
    host.cli(&["stop", "-t", "100ms", "c"]).ok();
    let before = std::fs::read(&disk).expect("a disk");
    let script = "cat /data/log; echo x >>/data/log";
    let seen = host.sh(&["-v", "disk:/data:ro"], script).code(1);
    assert_eq!(seen.out(), "round 1\nround 2\nthird\n");
    assert!(std::fs::read(&disk).expect("a disk") == before, "a read-only disk was changed");
    // After a death it is repaired by whoever writes to it next, and what had come to it is there.
    let vmm = host.detach("dies", &["-v", "disk:/data"], "echo fourth >>/data/log; sync; echo ready; exec sleep 600");
    hostler_tests::until("the fourth line", hostler_tests::PATIENCE, || (host.log_of("dies") == "ready").then_some(()));
    hostler_tests::signal(vmm, 9);
    host.ended("dies");
    assert_eq!(host.sh(&["-v", "disk:/data"], "tail -n 1 /data/log").ok(), "fourth");
    // Two guests must not write to one disk.
    host.detach("holds", &["-v", "disk:/data"], "exec sleep 600");
    let second = host.sh(&["-v", "disk:/data"], "true").code(125);
    assert!(second.err().contains("lock"), "{}", second.err());
    host.finish();
}
