//! Containers at the door: who may have one, what of it must be there, and who runs in it.
//!
//! A container's files are opened by root, on the way to it; so for now only the node's owner may ask for one.

use std::path::{Path, PathBuf};

use hostler_model::container::{Container, Network, Seccomp};
use hostler_model::spec::Spec;
use hostler_model::workload::Identity;
use hostler_model::{ByteString, Problem, ProblemKind, limits};

use crate::caller::Caller;
use crate::users::Users;

/// Whether the caller may have it.
pub(crate) fn check_rights(caller: &Caller, spec: &Spec) -> Result<(), Problem> {
    if spec.container.is_none() {
        return Ok(());
    }
    let refuse = |detail: &str| Err(Problem::new(ProblemKind::Forbidden, detail));
    if !caller.is_owner() {
        return refuse("containers can be run by the node's owner only");
    }
    if caller.node_uid != 0 {
        return refuse("containers need a node that runs as root");
    }
    Ok(())
}

/// Whether what it is made of is there, now.
pub(crate) fn check(container: &Container) -> Result<(), Problem> {
    let refuse = |detail: String| Err(Problem::new(ProblemKind::InvalidSpec, detail));
    if let Some(rootfs) = &container.rootfs
        && !rootfs.as_path().is_dir()
    {
        return refuse(format!("container.rootfs {} is not a directory on this machine", shown(rootfs)));
    }
    if let Some(bundle) = &container.bundle
        && !bundle.as_path().join("config.json").is_file()
    {
        return refuse(format!("container.bundle {} has no config.json", shown(bundle)));
    }
    for volume in &container.volumes {
        if !volume.source.as_path().exists() {
            return refuse(format!("container.volumes: {} does not exist on this machine", shown(&volume.source)));
        }
    }
    let named = [
        (
            "container.network",
            match &container.network {
                Some(Network::Namespace(path)) => Some(path),
                _ => None,
            },
        ),
        (
            "container.seccomp",
            match &container.seccomp {
                Seccomp::File(path) => Some(path),
                _ => None,
            },
        ),
    ];
    for (field, path) in named {
        if let Some(path) = path.filter(|path| !path.as_path().is_file()) {
            return refuse(format!("{field}: {} does not exist on this machine", shown(path)));
        }
    }
    for device in &container.devices {
        if !device.source.as_path().exists() {
            return refuse(format!("container.devices: {} does not exist on this machine", shown(&device.source)));
        }
    }
    Ok(())
}

fn shown(path: &ByteString) -> String {
    path.to_string_lossy().into_owned()
}

/// Who a program in it runs as: root unless the spec says otherwise. Names are those of the container.
pub(crate) fn identity(container: &Container, user: Option<&str>) -> Result<Identity, Problem> {
    let root = match (&container.rootfs, &container.bundle) {
        (Some(rootfs), _) => rootfs.as_path().to_owned(),
        (None, Some(bundle)) => root_of(bundle.as_path()),
        (None, None) => PathBuf::from("/nonexistent"),
    };
    users_of(&root, user)
}

/// A user of a root directory, by the files in it: root unless somebody else is asked for.
pub(crate) fn users_of(root: &Path, user: Option<&str>) -> Result<Identity, Problem> {
    let etc = root.join("etc");
    let users = if is_plain(root, &etc) { Users::of(etc.join("passwd"), etc.join("group")) } else { Users::nobody() };
    users.resolve(user.unwrap_or("0")).map_err(|mut problem| {
        problem.detail = problem.detail.replace("on this machine", &format!("in {}", etc.display()));
        problem
    })
}

/// The root directory of a bundle, as its configuration says; the OCI runtime will say what is wrong with that.
fn root_of(bundle: &Path) -> PathBuf {
    let file = bundle.join("config.json");
    let is_file = file.metadata().is_ok_and(|found| found.is_file() && found.len() <= limits::OCI_CONFIG_MAX as u64);
    let config = is_file.then(|| std::fs::read(&file).ok()).flatten();
    let config: Option<serde_json::Value> = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let path = config.as_ref().and_then(|config| config["root"]["path"].as_str());
    bundle.join(path.unwrap_or("rootfs"))
}

/// A link in a container's root would be followed on this machine, and a FIFO never ends.
fn is_plain(root: &Path, etc: &Path) -> bool {
    let is_file = |name: &str| match etc.join(name).symlink_metadata() {
        Ok(found) => found.is_file() && found.len() <= limits::OCI_CONFIG_MAX as u64,
        Err(_) => true,
    };
    root.is_dir() && etc.symlink_metadata().is_ok_and(|found| found.is_dir()) && is_file("passwd") && is_file("group")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Caller = Caller { uid: 0, gid: 0, node_uid: 0 };
    const ANN: Caller = Caller { uid: 4242, gid: 4242, node_uid: 0 };
    const ROOTLESS: Caller = Caller { uid: 4242, gid: 4242, node_uid: 4242 };

    #[test]
    fn only_the_owner_of_a_root_node() {
        let mut spec = Spec::new(vec!["true".into()]);
        assert!(check_rights(&ANN, &spec).is_ok());
        spec.container = Some(Box::new(Container { rootfs: Some("/".into()), ..Container::default() }));
        assert!(check_rights(&ROOT, &spec).is_ok());
        for caller in [ANN, ROOTLESS] {
            assert_eq!(check_rights(&caller, &spec).expect_err("not his").kind, ProblemKind::Forbidden);
        }
    }

    #[test]
    fn users_are_those_of_the_container() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir(dir.path().join("etc")).expect("etc");
        let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\n";
        std::fs::write(dir.path().join("etc/passwd"), passwd).expect("passwd");
        std::fs::write(dir.path().join("etc/group"), "extra:x:55:web\n").expect("group");
        let container = Container { rootfs: Some(dir.path().as_os_str().into()), ..Container::default() };
        let web = identity(&container, Some("web")).expect("known");
        assert_eq!((web.uid, web.gid, web.groups, web.home.as_deref()), (33, 44, vec![55], Some("/srv")));
        assert_eq!(identity(&container, None).expect("root").home.as_deref(), Some("/root"));
        assert_eq!(identity(&container, Some("777:8")).expect("numbers").uid, 777);
        assert!(identity(&container, Some("daemon")).is_err(), "a user of this machine only");
        std::fs::remove_file(dir.path().join("etc/passwd")).expect("remove");
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("etc/passwd")).expect("link");
        assert!(identity(&container, Some("daemon")).is_err(), "not through a link either");
    }
}
