//! A unit's container as it is written: what `hostler run` takes as options is a text here as well.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::written::Several;
use crate::bytes::ByteString;
use crate::container::text::{self, SecurityOption};
use crate::container::{Container, Seccomp};

/// `[service.NAME.container]`. Exactly one of `rootfs` and `bundle`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ContainerTable {
    /// A directory that becomes the container's root, relative to the stack's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<String>,
    /// An OCI bundle, relative to the stack's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
    /// The root cannot be written to.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// `"SOURCE:TARGET"` or `"SOURCE:TARGET:ro"`; the source is relative to the stack's file.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub volumes: Several,
    /// `"TARGET"` or `"TARGET:size=64M,mode=1777,exec"`.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub tmpfs: Several,
    /// Its host name; the workload's name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Capabilities on top of the default ones.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub cap_add: Several,
    /// Capabilities that are taken away, or `"ALL"`.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub cap_drop: Several,
    /// `"seccomp=unconfined"`, `"seccomp=FILE"`, `"apparmor=PROFILE"`, `"systempaths=unconfined"`.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub security: Several,
    /// `"/dev/x"`, `"/dev/x:/dev/y"` or `"/dev/x:/dev/y:rwm"`.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub devices: Several,
    /// `none`, `host`, the path of a network namespace, or a network of the node:
    /// `"NAME"` or `"NAME,ip=10.1.2.3,alias=db,rate=10M"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Ports of this machine that lead to the container's: `"8080:80"`, `"127.0.0.1:5353:53/udp"`.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub publish: Several,
    /// Who is asked about names outside of its network; that network's resolvers when absent.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub dns: Several,
    /// `host`, or `auto` for user ids of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns: Option<String>,
    /// Everything that the node may.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub privileged: bool,
    /// What makes it: `runc`, `crun` or a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oci_runtime: Option<String>,
    /// Arguments of that program, before its command.
    #[serde(skip_serializing_if = "Several::is_none")]
    pub oci_runtime_args: Several,
    /// Do not change roots by `pivot_root`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_pivot: bool,
}

/// Where mistakes are told: the field, and what is wrong with it.
pub(super) type Complain<'a> = &'a mut dyn FnMut(&str, String);

pub(super) fn parsed<T>(
    field: &str,
    list: &Several,
    parse: impl Fn(&str) -> Result<T, String>,
    complain: Complain<'_>,
) -> Vec<T> {
    let mut values = Vec::new();
    for text in list.as_slice() {
        match parse(text) {
            Ok(value) => values.push(value),
            Err(why) => complain(field, why),
        }
    }
    values
}

impl ContainerTable {
    /// Makes what is relative to the stack's file absolute.
    pub fn resolve(&mut self, base: &Path) {
        for path in [&mut self.rootfs, &mut self.bundle].into_iter().flatten() {
            *path = base.join(&*path).to_string_lossy().into_owned();
        }
        let volumes = self.volumes.as_slice().iter();
        // One that makes no sense is left for the check to name.
        let absolute = volumes.map(|volume| match text::volume(volume, base) {
            Ok(volume) => {
                let mode = if volume.read_only { ":ro" } else { "" };
                format!("{}:{}{mode}", volume.source.to_string_lossy(), volume.target.to_string_lossy())
            }
            Err(_) => volume.clone(),
        });
        self.volumes = absolute.collect::<Vec<_>>().into();
        let security = self.security.as_slice().iter().map(|option| match text::security_option(option) {
            Ok(SecurityOption::Seccomp(Seccomp::File(file))) => {
                format!("seccomp={}", base.join(file.as_path()).display())
            }
            _ => option.clone(),
        });
        self.security = security.collect::<Vec<_>>().into();
    }

    /// What it says. What makes no sense in it is told.
    pub(crate) fn container(&self, complain: Complain<'_>) -> Container {
        let bytes = |text: &Option<String>| text.as_deref().map(ByteString::from);
        let mut container = Container {
            bundle: bytes(&self.bundle),
            rootfs: bytes(&self.rootfs),
            read_only: self.read_only,
            volumes: parsed("volumes", &self.volumes, |text| text::volume(text, Path::new("")), complain),
            tmpfs: parsed("tmpfs", &self.tmpfs, text::tmpfs, complain),
            hostname: self.hostname.clone(),
            cap_add: parsed("cap_add", &self.cap_add, |text| text.parse().map_err(|why| format!("{why}")), complain),
            cap_drop: text::dropped(&parsed("cap_drop", &self.cap_drop, text::cap_drop, complain)),
            devices: parsed("devices", &self.devices, text::device, complain),
            privileged: self.privileged,
            oci_runtime: bytes(&self.oci_runtime),
            oci_runtime_args: self.oci_runtime_args.as_slice().iter().map(|text| text.as_str().into()).collect(),
            no_pivot: self.no_pivot,
            ..Container::default()
        };
        let options = parsed("security", &self.security, text::security_option, complain);
        for option in options {
            match option {
                SecurityOption::NoNewPrivileges(_) => {
                    complain("security", "no-new-privileges is no_new_privileges of the unit".to_owned());
                }
                SecurityOption::Seccomp(seccomp) => container.seccomp = seccomp,
                SecurityOption::AppArmor(profile) => container.apparmor = Some(profile),
                SecurityOption::Unmasked => container.unmasked = true,
            }
        }
        container.network = super::network::of_container(self, complain);
        match self.userns.as_deref().map(text::userns).transpose() {
            Ok(userns) => container.userns = userns.unwrap_or_default(),
            Err(why) => complain("userns", why),
        }
        container
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_to_the_file_and_mistakes_by_name() {
        let json = r#"{"rootfs":"root","volumes":["data:/d:ro","bad"],"cap_drop":"ALL","security":["seccomp=p.json","x"],
            "network":"a/b","userns":"auto","devices":"/dev/null:r","cap_add":["NET_ADMIN","NOPE"]}"#;
        let mut table: ContainerTable = serde_json::from_str(json).expect("a table");
        table.resolve(Path::new("/stack"));
        assert_eq!(table.rootfs.as_deref(), Some("/stack/root"));
        assert_eq!(table.volumes.as_slice()[0], "/stack/data:/d:ro");
        let mut fields = Vec::new();
        let container = table.container(&mut |field, _| fields.push(field.to_owned()));
        assert_eq!(fields, ["volumes", "cap_add", "security", "network"]);
        assert_eq!(container.seccomp, Seccomp::File("/stack/p.json".into()));
        assert!(container.volumes[0].read_only && container.cap_add.len() == 1 && container.devices[0].access == "r");
    }
}
