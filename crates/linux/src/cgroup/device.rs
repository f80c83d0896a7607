//! Block devices by their numbers, and whether anything heeds weights.

use std::io;
use std::path::Path;

use hostler_model::resources::BlockDevice;
use rustix::fs::{FileType, major, minor, stat};

/// `MAJOR:MINOR` of a device. One that was given by its numbers is taken as it is.
pub(super) fn numbers(device: &BlockDevice) -> Result<String, String> {
    if let Some((major, minor)) = device.numbers() {
        return Ok(format!("{major}:{minor}"));
    }
    let found =
        stat(device.as_str()).map_err(|error| format!("cannot look at {device}: {}", io::Error::from(error)))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice {
        return Err(format!("{device} is not a block device"));
    }
    Ok(format!("{}:{}", major(found.st_rdev), minor(found.st_rdev)))
}

/// Why the kernel does not take a device, as far as can be told.
pub(super) fn refusal(device: &BlockDevice, error: &io::Error) -> Option<String> {
    if error.raw_os_error() != Some(libc::ENODEV) {
        return None;
    }
    let known =
        device.numbers().is_none_or(|(major, minor)| Path::new(&format!("/sys/dev/block/{major}:{minor}")).exists());
    Some(if known {
        format!("{device} is a part of a disk; limit the whole disk")
    } else {
        format!("there is no device {device}")
    })
}

/// Whether a weight has any effect: only the BFQ scheduler heeds it, or on v2 the cost model of `io.weight`.
pub(super) fn weights_are_heeded(sys_block: &Path, cost_model: &Path) -> Result<(), String> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    if read(cost_model).split_ascii_whitespace().any(|word| word == "enable=1") {
        return Ok(());
    }
    let disks = std::fs::read_dir(sys_block).into_iter().flatten().flatten();
    if disks.into_iter().any(|disk| read(&disk.path().join("queue/scheduler")).contains("[bfq]")) {
        return Ok(());
    }
    Err("no disk of this machine uses the BFQ scheduler, and no other heeds weights; \
         echo bfq > /sys/block/DISK/queue/scheduler"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_become_numbers() {
        let numbers = |text: &str| numbers(&text.parse().expect(text));
        assert_eq!(numbers("8:16"), Ok("8:16".to_owned()));
        assert!(numbers("/dev/null").is_err_and(|why| why.contains("not a block device")));
        assert!(numbers("/dev/there-is-none").is_err_and(|why| why.contains("No such file")));
    }

    #[test]
    fn who_heeds_weights() {
        let root = tempfile::TempDir::new().expect("a directory");
        let queue = root.path().join("block/vda/queue");
        std::fs::create_dir_all(&queue).expect("made");
        let (block, cost) = (root.path().join("block"), root.path().join("io.cost.qos"));
        for (scheduler, model, heeded) in [
            ("[none] bfq\n", "", false),
            ("none [bfq]\n", "", true),
            ("[none] bfq\n", "8:0 enable=1 ctrl=auto\n", true),
            ("[none]\n", "8:0 enable=0\n", false),
        ] {
            std::fs::write(queue.join("scheduler"), scheduler).expect("written");
            std::fs::write(&cost, model).expect("written");
            assert_eq!(weights_are_heeded(&block, &cost).is_ok(), heeded, "{scheduler} {model}");
        }
        assert!(weights_are_heeded(Path::new("/nowhere"), Path::new("/nowhere")).is_err());
    }
}
