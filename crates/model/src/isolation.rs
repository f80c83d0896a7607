//! How a plain process is kept apart from this machine: what it sees of it, and what it may do.
//!
//! What is asked names a *profile* and changes to it. At acceptance both become one ([`Isolation::on`]), so that a workload
//! shows what is in force: from then on nothing is absent.

use serde::{Deserialize, Serialize};

use crate::bytes::ByteString;
use crate::capability::Capability;
use crate::container::{Network, Seccomp, Userns, Volume, check_hostname, check_path, check_target};
use crate::error::Problem;
use crate::limits;
use crate::spec::{Spec, invalid};

/// The profile of those who name none.
pub const DEFAULT_PROFILE: &str = "default";

/// An isolated process. It has namespaces of its own for processes, mounts, IPC and the host name, its own `/dev`
/// and `/proc`, and cannot gain privileges. An absent field is as the profile has it; lists come on top of the profile's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Isolation {
    /// Where it begins: `default`, `strict`, `network-service`, or a profile of the node's configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Its network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// `auto`: a user namespace in which only the workload's own user and group exist. `host`: this machine's users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns: Option<Userns>,
    /// The host name it sees; the workload's name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Empty directories of its own, in memory, at `/tmp` and `/var/tmp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_tmp: Option<bool>,
    /// Files and directories that cannot be written to, with all below them; `/` is everything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read_only: Vec<ByteString>,
    /// Those that are as they are outside, below others that are read-only, hidden or private.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub writable: Vec<ByteString>,
    /// Those that are empty for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<ByteString>,
    /// Files and directories that it sees at another place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// The capabilities it keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<Capability>>,
    /// Which system calls it may make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// Rules for paths on top of its user's rights; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub landlock: Option<Landlock>,
}

/// Rules for paths that the kernel's landlock enforces: what is not named is refused, whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Landlock {
    /// May be read and listed, with all below.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub read: Vec<ByteString>,
    /// May be read, changed, made and removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub write: Vec<ByteString>,
    /// May be read and executed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub execute: Vec<ByteString>,
    /// The kernel's version of it; what an older one cannot do is permitted. Said by the node, not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abi: Option<u32>,
}

/// A list of paths as text.
fn paths(list: &[&str]) -> Vec<ByteString> {
    list.iter().map(|path| ByteString::from(*path)).collect()
}

/// What opens doors outside of file permissions: sockets of the machine's services, boot files, secrets that root owns.
const HIDDEN: &[&str] = &[
    "/boot",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/ssh",
    "/etc/ssl/private",
    "/root",
    "/run",
];
/// Other people's data.
const HIDDEN_STRICT: &[&str] = &[
    "/home",
    "/media",
    "/mnt",
    "/srv",
    "/var/backups",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/mail",
    "/var/spool",
];

impl Isolation {
    /// A profile that every node has.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let default = Self {
            profile: Some(name.to_owned()),
            network: Some(Network::None),
            userns: Some(Userns::Auto),
            private_tmp: Some(true),
            read_only: paths(&["/"]),
            hidden: paths(HIDDEN),
            capabilities: Some(Vec::new()),
            seccomp: Some(Seccomp::Default),
            ..Self::default()
        };
        let strict = Self { hidden: paths(&[HIDDEN, HIDDEN_STRICT].concat()), ..default.clone() };
        match name {
            DEFAULT_PROFILE => Some(default),
            "strict" => Some(strict),
            // Low ports of the machine's network belong to the machine's root: no user namespace can have them.
            "network-service" => Some(Self {
                network: Some(Network::Host),
                userns: Some(Userns::Host),
                capabilities: Some(vec![Capability::NET_BIND_SERVICE]),
                ..strict
            }),
            _ => None,
        }
    }

    /// The names of those profiles.
    pub const BUILT_IN: [&'static str; 3] = [DEFAULT_PROFILE, "network-service", "strict"];

    /// These changes on top of a profile. A path of ours that the profile has in another list leaves that list.
    #[must_use]
    pub fn on(self, profile: Self) -> Self {
        let ours: Vec<ByteString> =
            [&self.read_only, &self.writable, &self.hidden].into_iter().flatten().cloned().collect();
        let merged = |base: Vec<ByteString>, more: Vec<ByteString>| {
            let mut all: Vec<_> = base.into_iter().filter(|path| !ours.contains(path)).collect();
            all.extend(more);
            all
        };
        let mut volumes: Vec<Volume> = profile.volumes;
        volumes.retain(|volume| self.volumes.iter().all(|ours| ours.target != volume.target));
        volumes.extend(self.volumes);
        Self {
            profile: profile.profile,
            network: self.network.or(profile.network),
            userns: self.userns.or(profile.userns),
            hostname: self.hostname.or(profile.hostname),
            private_tmp: self.private_tmp.or(profile.private_tmp),
            read_only: merged(profile.read_only, self.read_only),
            writable: merged(profile.writable, self.writable),
            hidden: merged(profile.hidden, self.hidden),
            volumes,
            capabilities: self.capabilities.or(profile.capabilities),
            seccomp: self.seccomp.or(profile.seccomp),
            landlock: self.landlock.or(profile.landlock),
        }
    }

    /// Its network, once resolved.
    #[must_use]
    pub fn network(&self) -> &Network {
        self.network.as_ref().unwrap_or(&Network::None)
    }

    /// Whose users it sees, once resolved.
    #[must_use]
    pub fn userns(&self) -> Userns {
        self.userns.unwrap_or(Userns::Auto)
    }

    /// Which system calls it may make, once resolved.
    #[must_use]
    pub fn seccomp(&self) -> &Seccomp {
        self.seccomp.as_ref().unwrap_or(&Seccomp::Default)
    }

    /// What it keeps, once resolved.
    #[must_use]
    pub fn capabilities(&self) -> &[Capability] {
        self.capabilities.as_deref().unwrap_or_default()
    }

    /// Everything that can be judged without looking at the machine.
    pub fn check(&self) -> Result<(), Problem> {
        if let Some(name) = &self.profile
            && !is_profile_name(name)
        {
            return Err(invalid("isolation.profile", "must be 1 to 64 lower-case letters, digits or dashes"));
        }
        match &self.network {
            Some(Network::Namespace(path)) => check_path("isolation.network.namespace", path)?,
            Some(Network::Named(attachment)) => {
                let name = &attachment.name;
                let what = format!(
                    "cannot be {name}: networks are for containers; a namespace of the machine is written as a path, /run/netns/{name}"
                );
                return Err(invalid("isolation.network", &what));
            }
            _ => {}
        }
        if let Some(Seccomp::File(path)) = &self.seccomp {
            check_path("isolation.seccomp.file", path)?;
        }
        if let Some(hostname) = &self.hostname {
            check_hostname("isolation.hostname", hostname)?;
        }
        self.check_paths()?;
        let Some(landlock) = &self.landlock else { return Ok(()) };
        let lists = [
            ("isolation.landlock.read", &landlock.read),
            ("isolation.landlock.write", &landlock.write),
            ("isolation.landlock.execute", &landlock.execute),
        ];
        if lists.iter().map(|(_, list)| list.len()).sum::<usize>() > limits::MOUNTS_MAX {
            return Err(invalid("isolation.landlock", &format!("has more than {} paths", limits::MOUNTS_MAX)));
        }
        lists.iter().try_for_each(|(field, list)| list.iter().try_for_each(|path| check_path(field, path)))
    }

    fn check_paths(&self) -> Result<(), Problem> {
        let count = self.read_only.len() + self.writable.len() + self.hidden.len() + self.volumes.len();
        if count > limits::MOUNTS_MAX {
            return Err(invalid("isolation", &format!("has more than {} paths", limits::MOUNTS_MAX)));
        }
        let mut targets = Vec::new();
        for path in &self.read_only {
            check_path("isolation.read_only", path)?;
            if !is_root(path) {
                check_own("isolation.read_only", path)?;
            }
            targets.push(normal(path));
        }
        for path in &self.writable {
            check_own("isolation.writable", path)?;
            targets.push(normal(path));
        }
        for path in &self.hidden {
            check_target("isolation.hidden", path)?;
            targets.push(normal(path));
        }
        for volume in &self.volumes {
            check_path("isolation.volumes.source", &volume.source)?;
            check_own("isolation.volumes.target", &volume.target)?;
            targets.push(normal(&volume.target));
        }
        targets.sort_unstable();
        match targets.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                let path = format!("/{}", String::from_utf8_lossy(&pair[0].join(&b'/')));
                let what = format!("says two things of {path:?} in read_only, writable, hidden or volumes");
                Err(invalid("isolation", &what))
            }
            None => Ok(()),
        }
    }
}

/// What of a spec goes with isolation.
pub(crate) fn check(spec: &Spec) -> Result<(), Problem> {
    let Some(isolation) = &spec.isolation else { return Ok(()) };
    if spec.container.is_some() {
        return Err(invalid("isolation", "cannot be combined with container, which is isolated by its own fields"));
    }
    if !spec.no_new_privileges {
        return Err(invalid("no_new_privileges", "cannot be off with isolation"));
    }
    isolation.check()
}

/// Whether it can be the name of a profile.
#[must_use]
pub fn is_profile_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_root(path: &ByteString) -> bool {
    normal(path).is_empty()
}

/// The parts that count.
fn normal(path: &ByteString) -> Vec<&[u8]> {
    path.as_bytes().split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect()
}

/// A target outside of the file systems that an isolated process has of its own.
fn check_own(field: &str, path: &ByteString) -> Result<(), Problem> {
    check_target(field, path)?;
    match normal(path).first() {
        Some(&b"proc" | &b"sys") => {
            Err(invalid(field, "cannot be below /proc or /sys: these are read-only as they are"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_with_the_field_named() {
        let cases = [
            (r#"{"profile":"../x"}"#, "profile"),
            (r#"{"network":{"namespace":"blue"}}"#, "network.namespace"),
            (r#"{"seccomp":{"file":"x"}}"#, "seccomp.file"),
            (r#"{"hostname":"a b"}"#, "hostname"),
            (r#"{"read_only":["etc"]}"#, "read_only"),
            (r#"{"read_only":["/proc/sys"]}"#, "/proc"),
            (r#"{"writable":["/"]}"#, "below /"),
            (r#"{"writable":["/a/../.."]}"#, ".."),
            (r#"{"writable":["/sys/fs/cgroup"]}"#, "/sys"),
            (r#"{"hidden":["/"]}"#, "hidden"),
            (r#"{"hidden":["/a"],"writable":["//a/"]}"#, "two things"),
            (r#"{"volumes":[{"source":"x","target":"/y"}]}"#, "volumes.source"),
            (r#"{"volumes":[{"source":"/x","target":"/a"}],"hidden":["/a"]}"#, "two things"),
            (r#"{"capabilities":["EVERYTHING"]}"#, "not a capability"),
            (r#"{"landlock":{"read":["x"]}}"#, "landlock.read"),
            (r#"{"colour":1}"#, "colour"),
        ];
        for (json, word) in cases {
            let parsed = serde_json::from_str::<Isolation>(json).map_err(|error| error.to_string());
            let error = parsed.and_then(|it| it.check().map_err(|problem| problem.detail)).expect_err(json);
            assert!(error.contains(word), "{error:?} does not name {word:?}");
        }
    }

    #[test]
    fn changes_come_on_top_of_a_profile() {
        for name in Isolation::BUILT_IN {
            let profile = Isolation::built_in(name).expect(name);
            profile.check().expect(name);
            // Resolved once more, it is the same.
            assert_eq!(profile.clone().on(profile.clone()), profile);
        }
        assert_eq!(Isolation::built_in("nobody"), None);
        let asked: Isolation = serde_json::from_str(
            r#"{"profile":"strict","network":"host","writable":["/home","/data"],"capabilities":["NET_RAW"]}"#,
        )
        .expect("parse");
        let resolved = asked.on(Isolation::built_in("strict").expect("built in"));
        resolved.check().expect("valid");
        assert_eq!((resolved.network(), resolved.userns()), (&Network::Host, Userns::Auto));
        assert!(!resolved.hidden.contains(&"/home".into()) && resolved.hidden.contains(&"/root".into()));
        assert_eq!(resolved.writable, paths(&["/home", "/data"]));
        assert_eq!(resolved.capabilities().len(), 1);
        let again = serde_json::from_str(&serde_json::to_string(&resolved).expect("print")).expect("parse");
        assert_eq!(resolved, again);
    }
}
