//! `config.json` of the OCI runtime specification, from what was asked. Pure, but for what a bundle, a seccomp profile and
//! a device are on this machine: these are looked up when the container is made, as the OCI runtime does it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use hostler_linux::confine;
use hostler_linux::confine::seccomp::{self, profile::Profile};
use hostler_linux::device::{self, Device};
use hostler_model::container::{Container, Network, Seccomp, Userns};
use hostler_model::launch::{ContainerLaunch, Program};
use hostler_model::limits::OCI_CONFIG_MAX;
use hostler_model::spec::TtySize;
use hostler_model::workload::{StartFailure, StartFailureKind};
use hostler_model::{ByteString, Capability};
use serde_json::{Map, Value, json};

use super::{defaults, users};

/// Everything that goes into it.
pub(super) struct Asked<'a> {
    pub(super) container: &'a ContainerLaunch,
    pub(super) program: &'a Program,
    pub(super) tty: Option<TtySize>,
    /// Where in the cgroup hierarchies it belongs; the OCI runtime's own idea when the node has none.
    pub(super) cgroups_path: Option<&'a str>,
    /// The first of the user ids that it has for itself, if it has some.
    pub(super) user_ids_from: u32,
    /// Files that it sees at these places, unless it has something else there.
    pub(super) files: &'a [(&'static str, PathBuf)],
}

fn failure(message: impl Into<String>) -> StartFailure {
    StartFailure { kind: StartFailureKind::Sandbox, message: message.into() }
}

/// JSON has text only, and so have containers.
fn text(bytes: &ByteString, what: &str) -> Result<String, StartFailure> {
    String::from_utf8(bytes.as_bytes().to_vec()).map_err(|_| {
        failure(format!(
            "{what} {:?} is not UTF-8, and a container's configuration can say nothing else",
            bytes.to_string_lossy()
        ))
    })
}

fn texts(list: &[ByteString], what: &str) -> Result<Vec<String>, StartFailure> {
    list.iter().map(|bytes| text(bytes, what)).collect()
}

/// Makes it; with the filter of system calls that belongs around the OCI runtime, if there is one.
pub(super) fn make(asked: &Asked<'_>) -> Result<(Value, Option<&'static seccomp::Program>), StartFailure> {
    let mut outer = None;
    let mut config = match &asked.container.container.bundle {
        Some(bundle) => of_bundle(bundle.as_path())?,
        None => base(asked, &mut outer)?,
    };
    let root = config.as_object_mut().ok_or_else(|| failure("config.json of the bundle is not a JSON object"))?;
    process_of(root, asked)?;
    mounts_of(root, asked)?;
    linux_of(root, asked)?;
    let container = &asked.container.container;
    if container.userns == Userns::Auto && matches!(container.network, Some(Network::Host | Network::Namespace(_))) {
        // The kernel mounts one of its own only for who owns the network that is shown in it.
        machine_sys(root);
    }
    if asked.container.container.privileged {
        everything(root);
    }
    if asked.container.restore.is_some() {
        super::loopback::hook_into(root);
    }
    Ok((config, outer))
}

/// Reads a file of limited size.
fn read_bounded(path: &Path) -> Result<Vec<u8>, StartFailure> {
    let shown = path.display();
    let file = std::fs::File::open(path).map_err(|error| failure(format!("cannot open {shown}: {error}")))?;
    let mut bytes = Vec::new();
    file.take(OCI_CONFIG_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failure(format!("cannot read {shown}: {error}")))?;
    if bytes.len() > OCI_CONFIG_MAX {
        return Err(failure(format!("{shown} has more than {OCI_CONFIG_MAX} bytes")));
    }
    Ok(bytes)
}

/// A bundle's own, with the paths that are relative to it made absolute: we put it elsewhere.
fn of_bundle(bundle: &Path) -> Result<Value, StartFailure> {
    let path = bundle.join("config.json");
    let bytes = read_bounded(&path)?;
    let mut config: Value = serde_json::from_slice(&bytes)
        .map_err(|error| failure(format!("{} makes no sense: {error}", path.display())))?;
    let absolute = |value: &mut Value| {
        if let Some(relative) = value.as_str().filter(|text| !text.starts_with('/')) {
            *value = bundle.join(relative).to_string_lossy().into_owned().into();
        }
    };
    if config["root"]["path"].is_string() {
        absolute(&mut config["root"]["path"]);
    } else {
        return Err(failure(format!("{} names no root.path", path.display())));
    }
    for mount in config["mounts"].as_array_mut().into_iter().flatten() {
        let binds = |option: &Value| matches!(option.as_str(), Some("bind" | "rbind"));
        let is_bind = mount["type"] == "bind" || mount["options"].as_array().is_some_and(|all| all.iter().any(binds));
        if is_bind && let Some(source) = mount.get_mut("source") {
            absolute(source);
        }
    }
    Ok(config)
}

/// A container without a bundle.
fn base(asked: &Asked<'_>, outer: &mut Option<&'static seccomp::Program>) -> Result<Value, StartFailure> {
    let container = &asked.container.container;
    let path = container.rootfs.as_ref().ok_or_else(|| failure("the container has neither bundle nor rootfs"))?;
    let named: Vec<_> = defaults::capabilities().map(Capability::oci_name).collect();
    let masked: &[&str] = if container.unmasked { &[] } else { &defaults::MASKED };
    let read_only: &[&str] = if container.unmasked { &[] } else { &defaults::READ_ONLY };
    let mut linux = json!({
        "namespaces": [
            { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }, { "type": "network" },
            { "type": "cgroup" },
        ],
        "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
        "maskedPaths": masked,
        "readonlyPaths": read_only,
    });
    if container.seccomp == Seccomp::Default && !container.privileged {
        let kept: Vec<_> = capabilities(container).collect();
        linux["seccomp"] = as_json(&seccomp::layers::inner(&kept))?;
        let filter = seccomp::layers::outer();
        *outer = Some(filter.map_err(|error| failure(format!("the filter of system calls: {error}")))?);
    }
    Ok(json!({
        "ociVersion": defaults::OCI_VERSION,
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": [],
            "cwd": "/",
            "noNewPrivileges": asked.program.no_new_privileges,
            "capabilities": { "bounding": named, "effective": named, "permitted": named },
        },
        "root": { "path": text(path, "rootfs")?, "readonly": container.read_only },
        "hostname": asked.container.hostname,
        "mounts": defaults::mounts(&["nosuid", "noexec", "nodev", "ro"]),
        "linux": linux,
    }))
}

/// Those that a container without a bundle has in the end.
fn capabilities(container: &Container) -> impl Iterator<Item = Capability> {
    let defaults = defaults::capabilities().filter(|known| !container.cap_drop.contains(*known));
    defaults.chain(container.cap_add.iter().copied())
}

fn as_json(profile: &Profile) -> Result<Value, StartFailure> {
    serde_json::to_value(profile).map_err(|error| failure(format!("cannot describe the seccomp profile: {error}")))
}

/// The part of a map with this name, made when it is not there.
pub(super) fn part<'a>(map: &'a mut Map<String, Value>, name: &str) -> &'a mut Map<String, Value> {
    let value = map.entry(name).or_insert_with(|| json!({}));
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("made an object above")
}

/// The list of a map with this name, made when it is not there.
pub(super) fn list<'a>(map: &'a mut Map<String, Value>, name: &str) -> &'a mut Vec<Value> {
    let value = map.entry(name).or_insert_with(|| json!([]));
    if !value.is_array() {
        *value = json!([]);
    }
    value.as_array_mut().expect("made a list above")
}

fn process_of(root: &mut Map<String, Value>, asked: &Asked<'_>) -> Result<(), StartFailure> {
    let container = &asked.container.container;
    if container.read_only {
        part(root, "root").insert("readonly".to_owned(), true.into());
    }
    if container.hostname.is_some() {
        root.insert("hostname".to_owned(), asked.container.hostname.clone().into());
    }
    let process = part(root, "process");
    program_into(process, asked.program, asked.tty)?;
    if let Some(profile) = &container.apparmor {
        process.insert("apparmorProfile".to_owned(), profile.clone().into());
    }
    if !container.cap_drop.is_none() || !container.cap_add.is_empty() {
        let sets = part(process, "capabilities");
        for name in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
            let set = list(sets, name);
            set.retain(|held| {
                let known = held.as_str().and_then(|name| name.parse::<Capability>().ok());
                known.is_none_or(|capability| !container.cap_drop.contains(capability))
            });
            if matches!(name, "bounding" | "effective" | "permitted") {
                for added in container.cap_add.iter().map(|added| Value::from(added.oci_name())) {
                    if !set.contains(&added) {
                        set.push(added);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Program, environment and user over what is there.
fn program_into(process: &mut Map<String, Value>, program: &Program, tty: Option<TtySize>) -> Result<(), StartFailure> {
    process.insert("terminal".to_owned(), tty.is_some().into());
    match tty {
        Some(size) => process.insert("consoleSize".to_owned(), json!({ "width": size.columns, "height": size.rows })),
        None => process.remove("consoleSize"),
    };
    if !program.command.is_empty() {
        process.insert("args".to_owned(), texts(&program.command, "argument")?.into());
    }
    let env = list(process, "env");
    for entry in texts(&program.env, "environment entry")? {
        let key = entry.split('=').next().unwrap_or_default().to_owned();
        let same = |known: &Value| known.as_str().is_some_and(|known| known.split('=').next() == Some(key.as_str()));
        env.retain(|known| !same(known));
        env.push(entry.into());
    }
    if !program.workdir.as_bytes().is_empty() {
        process.insert("cwd".to_owned(), text(&program.workdir, "workdir")?.into());
    }
    if let Some(identity) = &program.identity {
        let user = json!({ "uid": identity.uid, "gid": identity.gid, "additionalGids": identity.groups });
        process.insert("user".to_owned(), user);
        if identity.uid != 0
            && let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut)
        {
            // Capabilities are root's. Others may still gain them where the bounding set and their programs allow it.
            for name in ["effective", "permitted", "inheritable", "ambient"] {
                sets.remove(name);
            }
        }
    }
    // A bundle says itself whether privileges may be gained; unless it says so, they may not.
    if !program.no_new_privileges {
        process.insert("noNewPrivileges".to_owned(), false.into());
    } else if !process.contains_key("noNewPrivileges") {
        process.insert("noNewPrivileges".to_owned(), true.into());
    }
    for rlimit in &program.rlimits {
        let kind = format!("RLIMIT_{}", format!("{:?}", rlimit.kind).to_uppercase());
        let limits = list(process, "rlimits");
        limits.retain(|known| known["type"] != kind.as_str());
        let (soft, hard) = (rlimit.soft.unwrap_or(u64::MAX), rlimit.hard.unwrap_or(u64::MAX));
        limits.push(json!({ "type": kind, "soft": soft, "hard": hard }));
    }
    Ok(())
}

fn mounts_of(root: &mut Map<String, Value>, asked: &Asked<'_>) -> Result<(), StartFailure> {
    let container = &asked.container.container;
    let mounts = list(root, "mounts");
    for tmpfs in &container.tmpfs {
        let mut options = vec!["nosuid".to_owned(), "nodev".to_owned()];
        if !tmpfs.exec {
            options.push("noexec".to_owned());
        }
        options.push(format!("mode={:o}", tmpfs.mode.unwrap_or(0o1777)));
        options.extend(tmpfs.size_bytes.map(|bytes| format!("size={bytes}")));
        let target = text(&tmpfs.target, "tmpfs")?;
        mounts.push(json!({ "destination": target, "type": "tmpfs", "source": "tmpfs", "options": options }));
    }
    for (target, source) in asked.files {
        let taken =
            |mount: &Value| mount["destination"].as_str().is_some_and(|known| known == *target || known == "/etc");
        let volumes = container.volumes.iter().map(|volume| &volume.target);
        let mut by_spec = volumes.chain(container.tmpfs.iter().map(|tmpfs| &tmpfs.target));
        if !mounts.iter().any(taken) && !by_spec.any(|known| [target.as_bytes(), b"/etc"].contains(&known.as_bytes())) {
            mounts.push(json!({
                "destination": target, "type": "bind", "source": source.to_string_lossy(), "options": ["bind", "rprivate"],
            }));
        }
    }
    for volume in &container.volumes {
        let access = if volume.read_only { "ro" } else { "rw" };
        mounts.push(json!({
            "destination": text(&volume.target, "volume")?,
            "type": "bind",
            "source": text(&volume.source, "volume")?,
            "options": ["rbind", "rprivate", access],
        }));
    }
    Ok(())
}

fn linux_of(root: &mut Map<String, Value>, asked: &Asked<'_>) -> Result<(), StartFailure> {
    let container = &asked.container.container;
    let linux = part(root, "linux");
    match asked.cgroups_path {
        Some(path) => linux.insert("cgroupsPath".to_owned(), path.into()),
        None => linux.remove("cgroupsPath"),
    };
    if let Some(network) = &container.network {
        let namespaces = list(linux, "namespaces");
        namespaces.retain(|namespace| namespace["type"] != "network");
        match network {
            Network::Host => {}
            Network::Named(_) => return Err(failure("the node gave the container no place in its network")),
            Network::None => namespaces.push(json!({ "type": "network" })),
            Network::Namespace(path) => {
                namespaces.push(json!({ "type": "network", "path": text(path, "network namespace")? }));
            }
        }
    }
    if container.userns == Userns::Auto {
        let mapping = json!([{ "containerID": 0, "hostID": asked.user_ids_from, "size": users::COUNT }]);
        let namespaces = list(linux, "namespaces");
        namespaces.retain(|namespace| namespace["type"] != "user");
        namespaces.push(json!({ "type": "user" }));
        linux.insert("uidMappings".to_owned(), mapping.clone());
        linux.insert("gidMappings".to_owned(), mapping);
    }
    if container.unmasked {
        linux.remove("maskedPaths");
        linux.remove("readonlyPaths");
    }
    match &container.seccomp {
        Seccomp::Default => {}
        Seccomp::Unconfined => {
            linux.remove("seccomp");
        }
        Seccomp::File(path) => {
            let kept: Vec<_> = capabilities(container).collect();
            linux.insert("seccomp".to_owned(), seccomp_file(path.as_path(), &kept)?);
        }
    }
    for device in &container.devices {
        let found = device::at(device.source.as_path())
            .map_err(|error| failure(format!("device {}: {error}", device.source.to_string_lossy())))?;
        let target = device.target.as_ref().unwrap_or(&device.source);
        device_into(linux, &found, &text(target, "device")?, &device.access);
    }
    Ok(())
}

/// `/sys` of this machine, read-only.
fn machine_sys(root: &mut Map<String, Value>) {
    for mount in list(root, "mounts").iter_mut().filter(|mount| mount["type"] == "sysfs") {
        mount["type"] = "bind".into();
        mount["source"] = "/sys".into();
        mount["options"] = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
    }
}

fn seccomp_file(path: &Path, capabilities: &[Capability]) -> Result<Value, StartFailure> {
    let kernel = confine::support::kernel_release();
    let here = seccomp::file::Here { capabilities, kernel: &kernel };
    let profile = seccomp::file::parse(&read_bounded(path)?, &here)
        .map_err(|error| failure(format!("seccomp profile {}: {error}", path.display())))?;
    as_json(&profile)
}

fn device_into(linux: &mut Map<String, Value>, device: &Device, target: &str, access: &str) {
    let kind = device.kind.to_string();
    list(linux, "devices").push(json!({
        "path": target,
        "type": kind,
        "major": device.major,
        "minor": device.minor,
        "fileMode": device.mode,
        "uid": device.uid,
        "gid": device.gid,
    }));
    let allow = json!({
        "allow": true, "type": kind, "major": device.major, "minor": device.minor, "access": access,
    });
    list(part(linux, "resources"), "devices").push(allow);
}

/// Everything that the node itself may: it cannot give what it has not.
fn everything(root: &mut Map<String, Value>) {
    let all: Vec<_> =
        Capability::all().filter(|known| hostler_linux::process::may_give(*known)).map(Capability::oci_name).collect();
    let process = part(root, "process");
    process.insert("noNewPrivileges".to_owned(), false.into());
    process.remove("apparmorProfile");
    process.insert("capabilities".to_owned(), json!({ "bounding": all, "effective": all, "permitted": all }));
    for mount in list(root, "mounts") {
        if mount["destination"] == "/sys" || mount["destination"] == "/sys/fs/cgroup" {
            for option in mount["options"].as_array_mut().into_iter().flatten().filter(|option| **option == "ro") {
                *option = "rw".into();
            }
        }
    }
    let linux = part(root, "linux");
    for name in ["seccomp", "maskedPaths", "readonlyPaths", "devices"] {
        linux.remove(name);
    }
    part(linux, "resources").insert("devices".to_owned(), json!([{ "allow": true, "access": "rwm" }]));
    for device in device::all() {
        if let Some(path) = device.path.to_str() {
            let path = path.to_owned();
            device_into(linux, &device, &path, "rwm");
        }
    }
}

/// `process` of a second program: that of the container with what is asked over it.
pub(super) fn process(config: &[u8], program: &Program, tty: Option<TtySize>) -> Result<Vec<u8>, StartFailure> {
    let mut config: Value = serde_json::from_slice(config)
        .map_err(|error| failure(format!("the container's config.json makes no sense: {error}")))?;
    let process = config["process"].as_object_mut().ok_or_else(|| failure("the container has no process"))?;
    program_into(process, program, tty)?;
    serde_json::to_vec(process).map_err(|error| failure(format!("cannot describe the process: {error}")))
}
