//! What a container reads of its network: two files of the sandbox, seen at `/etc/hosts` and `/etc/resolv.conf`. They are its
//! own: what is written to them is gone with the run.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use hostler_model::launch::ContainerLaunch;

/// Writes them, if there is something to say; where each is to be seen.
pub(super) fn write(launch: &ContainerLaunch, sandbox: &Path) -> io::Result<Vec<(&'static str, PathBuf)>> {
    let Some(files) = &launch.network_files else { return Ok(Vec::new()) };
    let each = [("/etc/hosts", "hosts", &files.hosts), ("/etc/resolv.conf", "resolv.conf", &files.resolv)];
    let written = each.into_iter().map(|(target, name, text)| {
        let path = sandbox.join(name);
        // Not into one that the run before may still hold.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::write(&path, text)?;
        // Whoever the container's program runs as reads it.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        Ok((target, path))
    });
    written.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_model::launch::NetworkFiles;

    #[test]
    fn written_anew_for_each_run() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut launch: ContainerLaunch = serde_json::from_value(serde_json::json!({
            "container": { "rootfs": "/x" },
            "hostname": "h",
            "oci": { "program": "/runc", "kind": "runc", "state": "/s" },
        }))
        .expect("a launch");
        assert!(write(&launch, dir.path()).expect("nothing").is_empty());
        for hosts in ["one", "two"] {
            launch.network_files = Some(Box::new(NetworkFiles { hosts: hosts.to_owned(), resolv: String::new() }));
            let written = write(&launch, dir.path()).expect("written");
            assert_eq!(fs::read_to_string(&written[0].1).expect("there"), hosts);
            assert_eq!(
                written.iter().map(|(target, _)| *target).collect::<Vec<_>>(),
                ["/etc/hosts", "/etc/resolv.conf"]
            );
        }
    }
}
