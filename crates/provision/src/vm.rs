//! Virtual machines at the door: who may have one, what of it must be there, and who runs in it.
//!
//! What a guest is made of is opened by the node, on the way to it; so for now only the node's owner may ask for one.

use std::path::Path;

use hostler_model::container::Network;
use hostler_model::spec::Spec;
use hostler_model::vm::Vm;
use hostler_model::workload::Identity;
use hostler_model::{ByteString, Problem, ProblemKind};

use crate::caller::Caller;
use crate::container::users_of;

/// Whether the caller may have it.
pub(crate) fn check_rights(caller: &Caller, spec: &Spec) -> Result<(), Problem> {
    let Some(vm) = &spec.vm else { return Ok(()) };
    let refuse = |detail: &str| Err(Problem::new(ProblemKind::Forbidden, detail));
    if !caller.is_owner() {
        return refuse("virtual machines can be run by the node's owner only");
    }
    if caller.node_uid != 0 && matches!(vm.network, Some(Network::Named(_))) {
        return refuse("vm.network: networks need a node that runs as root");
    }
    Ok(())
}

/// Whether what it is made of is there, now.
pub(crate) fn check(vm: &Vm) -> Result<(), Problem> {
    let refuse = |detail: String| Err(Problem::new(ProblemKind::InvalidSpec, detail));
    for (field, path) in [("vm.kernel", &vm.kernel), ("vm.initrd", &vm.initrd)] {
        if let Some(path) = path.as_ref().filter(|path| !path.as_path().is_file()) {
            return refuse(format!("{field}: {} is not a file on this machine", shown(path)));
        }
    }
    if let Some(rootfs) = &vm.rootfs
        && !rootfs.as_path().is_dir()
        && !rootfs.as_path().is_file()
    {
        return refuse(format!("vm.rootfs: {} is neither a directory nor an image on this machine", shown(rootfs)));
    }
    match vm.volumes.iter().find(|volume| !volume.source.as_path().exists()) {
        Some(volume) => refuse(format!("vm.volumes: {} does not exist on this machine", shown(&volume.source))),
        None => Ok(()),
    }
}

fn shown(path: &ByteString) -> String {
    path.to_string_lossy().into_owned()
}

/// Who a program in it runs as: root unless the spec says otherwise. Names are those of its root, if that is a directory.
pub(crate) fn identity(vm: &Vm, user: Option<&str>) -> Result<Identity, Problem> {
    if let (None, Some(name)) = (&vm.rootfs, user.filter(|user| user.starts_with(|c: char| !c.is_ascii_digit()))) {
        let detail = format!("a guest without a rootfs knows no user {name:?}; give a number, such as 65534");
        return Err(Problem::new(ProblemKind::InvalidSpec, detail));
    }
    let root = vm.rootfs.as_ref().map_or(Path::new("/nonexistent"), |rootfs| rootfs.as_path());
    let mut identity = users_of(root, user)?;
    if vm.rootfs.is_none() && identity.uid == 0 {
        identity.home.get_or_insert_with(|| "/root".to_owned());
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_has_guests_and_networks_need_root() {
        let mut spec = Spec::new(vec!["true".into()]);
        spec.vm = Some(Box::default());
        let may = |uid, node_uid, spec: &Spec| check_rights(&Caller { uid, gid: uid, node_uid }, spec).is_ok();
        assert!(may(0, 0, &spec) && may(4242, 4242, &spec) && !may(4242, 0, &spec));
        let attachment = serde_json::from_str(r#"{"name":"blue"}"#).expect("an attachment");
        spec.vm = Some(Box::new(Vm { network: Some(Network::Named(attachment)), ..Vm::default() }));
        assert!(may(0, 0, &spec) && !may(4242, 4242, &spec));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let cases = [
            (Vm { kernel: Some("/no/kernel".into()), ..Vm::default() }, "/no/kernel"),
            (Vm { rootfs: Some("/no/root".into()), ..Vm::default() }, "/no/root"),
        ];
        for (vm, word) in cases {
            assert!(check(&vm).expect_err("not there").detail.contains(word));
        }
        assert!(check(&Vm::default()).is_ok());
        assert_eq!(identity(&Vm::default(), None).expect("root").home.as_deref(), Some("/root"));
        assert!(identity(&Vm::default(), Some("web")).is_err());
        assert_eq!(identity(&Vm::default(), Some("33:44")).expect("numbers").gid, 44);
    }
}
