//! Arguments of `run` that make a container of it.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use hostler_model::container::text::{self, SecurityOption};
use hostler_model::container::{CapDrop, Container, Device, Network, Seccomp, Tmpfs, Userns, Volume};
use hostler_model::network::Publish;
use hostler_model::network::text::publish;
use hostler_model::{Capability, Problem};

use crate::failure::Failure;
use crate::output::own_name;
use crate::parse::absolute;

const HEADING: &str = "Containers";

/// What makes a container, and what it may do.
#[derive(Debug, Clone, Default, Args)]
pub struct ContainerArguments {
    /// Run this OCI bundle, a directory with a config.json; COMMAND is then what it says itself unless it is given
    #[arg(long, value_name = "BUNDLE", groups = ["container", "confined", "rooted"], help_heading = HEADING)]
    pub oci: Option<PathBuf>,
    /// Run COMMAND in a container with this directory as its root
    #[arg(long, value_name = "DIR", groups = ["container", "confined", "rooted"], help_heading = HEADING)]
    pub rootfs: Option<PathBuf>,
    /// Its root cannot be written to (of --vm as well)
    #[arg(long, requires = "rooted", help_heading = HEADING)]
    pub read_only: bool,
    /// A file or directory of this machine that is seen in it (of --isolate and --vm as well)
    #[arg(long, short, value_name = "SOURCE:TARGET[:ro]", value_parser = volume, requires = "confined", help_heading = HEADING)]
    pub volume: Vec<Volume>,
    /// An empty directory in memory; options are size=, mode= and exec
    #[arg(long, value_name = "TARGET[:OPTIONS]", value_parser = text::tmpfs, requires = "container", help_heading = HEADING)]
    pub tmpfs: Vec<Tmpfs>,
    /// Its host name; the workload's name when absent (of --isolate as well)
    #[arg(long, value_name = "NAME", requires = "confined", help_heading = HEADING)]
    pub hostname: Option<String>,
    /// Give it this capability, such as NET_ADMIN; --cap-drop ALL with it leaves this one (of --isolate as well)
    #[arg(long, value_name = "CAPABILITY", requires = "confined", help_heading = HEADING)]
    pub cap_add: Vec<Capability>,
    /// Take this capability away, or ALL of them
    #[arg(long, value_name = "CAPABILITY", value_parser = text::cap_drop, requires = "container", help_heading = HEADING)]
    pub cap_drop: Vec<CapDrop>,
    /// (Of --isolate as well) no-new-privileges=false, seccomp=unconfined or a FILE, apparmor=PROFILE, systempaths=unconfined
    #[arg(long, value_name = "OPTION", value_parser = text::security_option, requires = "confined", help_heading = HEADING)]
    pub security_opt: Vec<SecurityOption>,
    /// A device of this machine that it may use
    #[arg(long, value_name = "SOURCE[:TARGET[:rwm]]", value_parser = text::device, requires = "container", help_heading = HEADING)]
    pub device: Vec<Device>,
    /// Its network: a NAME of `network ls`, none (when absent: a loopback device and nothing else), host, or the path of a
    /// network namespace; after a NAME ip=, ip6=, alias= and rate= (without a NAME of --isolate as well)
    #[arg(long, visible_alias = "net", value_name = "NETWORK[,OPTION…]", value_parser = text::network, requires = "confined", help_heading = HEADING)]
    pub network: Option<Network>,
    /// With --network NAME: a port of this machine, at one of its addresses or all, that leads to one of the container
    #[arg(long, short, value_name = "[HOST:]PORT:PORT[/udp]", value_parser = publish, requires = "rooted", help_heading = HEADING)]
    pub publish: Vec<Publish>,
    /// With --network NAME: who is asked about names outside of the network; the network's resolvers when absent
    #[arg(long, value_name = "IP", requires = "rooted", help_heading = HEADING)]
    pub dns: Vec<IpAddr>,
    /// Its user ids: host (when absent) for those of this machine, so that its root is root here, or auto for 65,536 of
    /// its own
    #[arg(long, value_name = "USERS", value_parser = text::userns, requires = "container", help_heading = HEADING)]
    pub userns: Option<Userns>,
    /// Let it do whatever the node may
    #[arg(long, requires = "container", help_heading = HEADING)]
    pub privileged: bool,
    /// What makes it: runc, crun or a path; the node's when absent
    #[arg(long, value_name = "PROGRAM", requires = "container", help_heading = HEADING)]
    pub oci_runtime: Option<OsString>,
    /// Argument of that program, before its command
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true, requires = "container", help_heading = HEADING)]
    pub oci_runtime_arg: Vec<OsString>,
    /// Do not change roots by pivot_root: for a root in the initial RAM disk
    #[arg(long, requires = "container", help_heading = HEADING)]
    pub no_pivot: bool,
}

impl ContainerArguments {
    /// The container that is asked for, if one is.
    pub(crate) fn container(&self) -> Result<Option<Container>, Failure> {
        if self.oci.is_none() && self.rootfs.is_none() {
            return Ok(None);
        }
        let path = |path: &Option<PathBuf>| path.as_deref().map(absolute).transpose();
        let mut container = Container {
            bundle: path(&self.oci)?,
            rootfs: path(&self.rootfs)?,
            read_only: self.read_only,
            volumes: self.volume.clone(),
            tmpfs: self.tmpfs.clone(),
            hostname: self.hostname.clone(),
            cap_add: self.cap_add.clone(),
            cap_drop: text::dropped(&self.cap_drop),
            devices: self.device.clone(),
            network: self.network()?,
            userns: self.userns.unwrap_or_default(),
            privileged: self.privileged,
            oci_runtime: self.oci_runtime.as_deref().map(Into::into),
            oci_runtime_args: self.oci_runtime_arg.iter().map(|arg| arg.as_os_str().into()).collect(),
            no_pivot: self.no_pivot,
            ..Container::default()
        };
        for option in &self.security_opt {
            match option {
                SecurityOption::NoNewPrivileges(_) | SecurityOption::Seccomp(_) => {}
                SecurityOption::AppArmor(profile) => container.apparmor = Some(profile.clone()),
                SecurityOption::Unmasked => container.unmasked = true,
            }
        }
        if let Some(seccomp) = self.seccomp()? {
            container.seccomp = seccomp;
        }
        Ok(Some(container))
    }

    /// Its network, with what is published in it.
    pub(crate) fn network(&self) -> Result<Option<Network>, Failure> {
        let option = match (self.publish.is_empty(), self.dns.is_empty()) {
            (true, true) => return Ok(self.network.clone()),
            (false, _) => "--publish",
            (true, false) => "--dns",
        };
        let refuse = |what: &str| {
            let hostler = own_name();
            let hint = format!(
                "write --network NAME with one of: {hostler} network ls, or make one with: {hostler} network create NAME"
            );
            Err(Failure::usage(format!("{option} {what}")).with_hint(hint))
        };
        match &self.network {
            Some(Network::Named(attachment)) => {
                let mut attachment = attachment.clone();
                attachment.publish.clone_from(&self.publish);
                attachment.dns.clone_from(&self.dns);
                let told = |problem: Problem| Failure::usage(problem.detail.replacen("--network.", "--", 1));
                attachment.check("--network").map_err(told)?;
                Ok(Some(Network::Named(attachment)))
            }
            None => refuse("needs a network of the node"),
            Some(Network::None) => refuse("needs a network of the node, not none"),
            Some(Network::Host) => {
                refuse("needs a network of the node: with host, ports and resolvers are the machine's own")
            }
            Some(Network::Namespace(_)) => refuse("needs a network of the node, not a network namespace"),
        }
    }

    /// Which system calls are asked for; a file's path is seen from the current directory.
    pub(crate) fn seccomp(&self) -> Result<Option<Seccomp>, Failure> {
        let asked = self.security_opt.iter().rev().find_map(|option| match option {
            SecurityOption::Seccomp(seccomp) => Some(seccomp.clone()),
            _ => None,
        });
        match asked {
            Some(Seccomp::File(file)) => Ok(Some(Seccomp::File(absolute(file.as_path())?))),
            asked => Ok(asked),
        }
    }

    /// Whether it may not gain privileges.
    #[must_use]
    pub fn no_new_privileges(&self) -> bool {
        let asked = self.security_opt.iter().rev().find_map(|option| match option {
            SecurityOption::NoNewPrivileges(on) => Some(*on),
            _ => None,
        });
        asked.unwrap_or(!self.privileged)
    }
}

/// The source is relative to where the command is typed.
fn volume(text: &str) -> Result<Volume, String> {
    let here = std::env::current_dir().map_err(|error| format!("the current directory: {error}"))?;
    text::volume(text, &here)
}
