//! A real guest boots from what this crate makes: every module is loaded in its order, a tree is mounted as a disk, a layer
//! is written to, and both are one root by overlay. Without QEMU or a kernel that was set up this is skipped.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hostler_image::block::{self, BlockLimits};
use hostler_image::kernels::{Kernel, Kernels};
use hostler_image::{initramfs, layer};
use hostler_linux::tool;

/// Longest boot on a machine that has much else to do.
const BOOT_MAX: Duration = Duration::from_secs(90);

/// Stands in for the agent: does what it will do, and says how it went.
const INIT: &str = r#"#!/bin/busybox sh
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for module in /modules/*.ko; do insmod $module || echo "TEST: $module FAILED"; done
echo "TEST: modules $(ls /modules | wc -l) loaded $(grep -c . /proc/modules)"
for n in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vdb ] && break; sleep 0.1; done
for disk in vda vdb; do
    if mount -r -t erofs /dev/$disk /newroot 2>/dev/null || mount -r -t squashfs /dev/$disk /newroot 2>/dev/null; then
        root=$disk
    fi
done
mkdir -p /layer /merged
for disk in vda vdb; do [ "$disk" = "$root" ] || mount -t ext4 /dev/$disk /layer; done
mkdir -p /layer/upper /layer/work
mount -t overlay -o lowerdir=/newroot,upperdir=/layer/upper,workdir=/layer/work overlay /merged
echo written > /merged/new
echo "TEST: root $(cat /merged/etc/greeting) $(readlink /merged/link) $(stat -c %a /merged/etc)"
echo "TEST: layer $(cat /layer/upper/new) $(cat /etc/passwd | wc -l) $(stat -c %a /tmp)"
echo "TEST: done"
umount /merged; umount /layer
reboot -f
"#;

fn why_not() -> Result<(PathBuf, Kernel), String> {
    let qemu = tool::find("qemu-system-x86_64").ok_or("no qemu-system-x86_64")?;
    let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/vm/kernels");
    let kernel = Kernels::new(&kernels).current().map_err(|error| error.to_string())?;
    let kernel = kernel.ok_or_else(|| format!("no kernel in {}: run make test", kernels.display()))?;
    if kernel.busybox.is_none() {
        return Err("the kernel was set up without a busybox".to_owned());
    }
    Ok((qemu, kernel))
}

/// What the guest's console said.
fn boot(qemu: &Path, kernel: &Kernel, initramfs: &Path, root: &Path, layer: &Path) -> std::io::Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let mhz = cpu.lines().find_map(|line| line.strip_prefix("cpu MHz")?.split(": ").nth(1)?.parse::<f64>().ok());
    let tsc = mhz.map(|mhz| format!("tsc_early_khz={}", (mhz * 1_000.0) as u64)).unwrap_or_default();
    let words = [
        "-M",
        "microvm",
        "-m",
        "256",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-append",
    ];
    let mut arguments: Vec<OsString> = words.map(OsString::from).into();
    arguments.push(format!("console=ttyS0 quiet reboot=t panic=-1 {tsc}").into());
    for (option, path) in [("-kernel", &*kernel.image), ("-initrd", initramfs)] {
        arguments.extend([option.into(), path.into()]);
    }
    for (name, path, more) in [("root", root, ",readonly=on"), ("layer", layer, "")] {
        arguments.push("-drive".into());
        arguments.push(format!("id={name},file={},format=raw,if=none{more}", path.display()).into());
        arguments.push("-device".into());
        arguments.push(format!("virtio-blk-device,drive={name},serial={name}").into());
    }
    let arguments: Vec<_> = arguments.iter().map(OsString::as_os_str).collect();
    let done = tool::call_in(Path::new("/"), qemu, &arguments, &[], BOOT_MAX)?;
    Ok(format!("{}{}", String::from_utf8_lossy(&done.out), String::from_utf8_lossy(&done.err)))
}

#[test]
fn a_guest_boots_from_all_of_it() {
    let (qemu, kernel) = match why_not() {
        Ok(found) => found,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fs::create_dir_all(path("tree/etc")).unwrap();
    fs::set_permissions(path("tree/etc"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::write(path("tree/etc/greeting"), "hello").unwrap();
    std::os::unix::fs::symlink("etc/greeting", path("tree/link")).unwrap();
    fs::write(path("init"), INIT).unwrap();
    let initramfs = initramfs::ensure(&path("cache"), &kernel, &path("init")).unwrap();
    let image = match block::ensure(&path("cache"), &path("tree"), BlockLimits::default()) {
        Ok(image) => image,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    if let Err(error) = layer::create(&path("cache"), &path("layer"), 64 << 20) {
        println!("skipped: {error}");
        return;
    }
    let began = std::time::Instant::now();
    // An emulated clock is not calibrated at every first attempt.
    let said = (0..2).find_map(|_| boot(&qemu, &kernel, &initramfs, &image.path, &path("layer")).ok());
    let said = said.expect("the guest ended in time");
    println!("booted, worked and ended in {:?}", began.elapsed());
    let count = kernel.modules.len();
    for line in
        [format!("modules {count} loaded {count}"), "root hello etc/greeting 751".into(), "layer written 1 1777".into()]
    {
        assert!(said.contains(&format!("TEST: {line}")), "{line} is not in\n{said}");
    }
    assert!(said.contains("TEST: done") && !said.contains("FAILED"), "{said}");
}
