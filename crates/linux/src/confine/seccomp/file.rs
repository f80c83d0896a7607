//! Profiles in files: `linux.seccomp` of an OCI configuration, or a profile as Docker has them. What a file asks and
//! cannot be had is refused by name; nothing in it is passed over.

use std::borrow::Cow;

use hostler_model::Capability;
use hostler_model::limits::OCI_CONFIG_MAX;
use serde::Deserialize;

use super::profile::{ARCHITECTURES, Action, Argument, Profile, Rule};

/// Rules in one file, and names in one rule, at most.
const ENTRIES_MAX: usize = 4_096;

/// Why a file is no profile.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Longer than a configuration may be.
    #[error("has more than {OCI_CONFIG_MAX} bytes")]
    TooLong,
    /// Not what a profile looks like.
    #[error("is not a seccomp profile: {0}")]
    Json(#[from] serde_json::Error),
    /// Something that we cannot do.
    #[error("{0}")]
    Unsupported(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    default_action: Action,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    /// Docker's: only for those who read.
    #[serde(default, rename = "defaultErrno")]
    _default_errno: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    arch_map: Vec<ArchMap>,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    syscalls: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArchMap {
    architecture: String,
    #[serde(default, rename = "subArchitectures")]
    _sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FileRule {
    #[serde(default)]
    names: Vec<String>,
    /// An older form.
    #[serde(default)]
    name: Option<String>,
    action: Action,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default, rename = "errno")]
    _errno: Option<String>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default, rename = "comment")]
    _comment: Option<String>,
    #[serde(default)]
    includes: Option<When>,
    #[serde(default)]
    excludes: Option<When>,
}

/// For whom a rule is.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct When {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// What the rules of a file are judged by.
#[derive(Debug, Clone)]
pub struct Here<'a> {
    /// What the process keeps.
    pub capabilities: &'a [Capability],
    /// The kernel's release, such as `6.1.0-18-amd64`.
    pub kernel: &'a str,
}

/// This machine, as Go and so Docker's profiles name it.
const ARCH: &str = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };

/// The first two numbers of a kernel's release.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|letter: char| !letter.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

impl When {
    fn kept(&self, here: &Here<'_>) -> impl Iterator<Item = bool> {
        // One that nobody has heard of is not kept.
        self.caps.iter().map(|name| name.parse().is_ok_and(|one| here.capabilities.contains(&one)))
    }

    fn is_at_least(&self, here: &Here<'_>) -> Result<Option<bool>, FileError> {
        let Some(wanted) = &self.min_kernel else { return Ok(None) };
        let wanted = release(wanted)
            .ok_or_else(|| FileError::Unsupported(format!("minKernel {:?} is no kernel's number", shorten(wanted))))?;
        Ok(Some(release(here.kernel).is_some_and(|have| have >= wanted)))
    }

    fn is_arch(&self) -> bool {
        self.arches.iter().any(|arch| arch == ARCH)
    }

    /// All that is named must hold.
    fn includes(&self, here: &Here<'_>) -> Result<bool, FileError> {
        let arch = self.arches.is_empty() || self.is_arch();
        Ok(arch && self.kept(here).all(|kept| kept) && self.is_at_least(here)?.unwrap_or(true))
    }

    /// Any that is named excludes.
    fn excludes(&self, here: &Here<'_>) -> Result<bool, FileError> {
        Ok(self.is_arch() || self.kept(here).any(|kept| kept) || self.is_at_least(here)?.unwrap_or(false))
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

/// Makes a profile of a file's content.
pub fn parse(content: &[u8], here: &Here<'_>) -> Result<Profile, FileError> {
    if content.len() > OCI_CONFIG_MAX {
        return Err(FileError::TooLong);
    }
    let file: File = serde_json::from_slice(content)?;
    let unsupported = |what: String| Err(FileError::Unsupported(what));
    if let Some(flag) = file.flags.first() {
        return unsupported(format!("flag {:?} is not supported", shorten(flag)));
    }
    let own = ARCHITECTURES[0];
    let named = file.architectures.iter().chain(file.arch_map.iter().map(|map| &map.architecture));
    if named.clone().next().is_some() && !named.clone().any(|name| name == own) {
        return unsupported(format!("is not for this machine: its architectures lack {own}"));
    }
    if file.syscalls.len() > ENTRIES_MAX {
        return unsupported(format!("has more than {ENTRIES_MAX} rules"));
    }
    let mut syscalls = Vec::new();
    for rule in file.syscalls {
        let wanted = rule.includes.map_or(Ok(true), |when| when.includes(here))?
            && !rule.excludes.map_or(Ok(false), |when| when.excludes(here))?;
        let names: Vec<Cow<'static, str>> = rule.names.into_iter().chain(rule.name).map(Cow::Owned).collect();
        if names.is_empty() || names.len() > ENTRIES_MAX {
            return unsupported(format!("a rule must have from 1 to {ENTRIES_MAX} names"));
        }
        if wanted {
            let args = rule.args.unwrap_or_default();
            syscalls.push(Rule { names, action: rule.action, errno_ret: rule.errno_ret, args });
        }
    }
    Ok(Profile {
        default_action: file.default_action,
        default_errno_ret: file.default_errno_ret,
        architectures: file.architectures.into_iter().map(Cow::Owned).collect(),
        syscalls,
    })
}

#[cfg(test)]
mod tests {
    use super::super::program::compile;
    use super::*;

    const HERE: Here<'_> = Here { capabilities: &[Capability::SYS_ADMIN], kernel: "6.1.0-18-amd64" };

    #[test]
    fn takes_docker_s_and_oci_profiles() {
        let docker = br#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"defaultErrno":"EPERM",
            "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
                       {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":null}],
            "syscalls":[
              {"names":["read","write"],"action":"SCMP_ACT_ALLOW","args":[],"comment":"x","includes":{},"excludes":{}},
              {"name":"exit","action":"SCMP_ACT_ALLOW","args":null},
              {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
              {"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}},
              {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38,"excludes":{"caps":["CAP_SYS_ADMIN"]}},
              {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
              {"names":["kcmp"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}},
              {"names":["s390_x"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}},
              {"names":["no_such_call"],"action":"SCMP_ACT_ALLOW",
               "args":[{"index":1,"value":18446744073709551615,"op":"SCMP_CMP_EQ"}]}]}"#;
        let profile = parse(docker, &HERE).expect("a profile");
        let names: Vec<&str> = profile.syscalls.iter().map(|rule| rule.names[0].as_ref()).collect();
        assert_eq!(names, ["read", "exit", "mount", "ptrace", "no_such_call"]);
        compile(&profile).expect("compiles");
        let ours = serde_json::to_vec(&super::super::profile::default(&[])).expect("print");
        assert_eq!(parse(&ours, &HERE).expect("ours").syscalls, super::super::profile::rules(&[]));
    }

    #[test]
    fn hostile_files_are_refused_with_a_reason() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let many = format!(
            r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{}]}}"#,
            vec![r#"{"names":["a"],"action":"SCMP_ACT_LOG"}"#; 5_000].join(",")
        );
        let long = " ".repeat(OCI_CONFIG_MAX + 1);
        let cases = [
            ("", "not a seccomp profile"),
            ("{}", "defaultAction"),
            (deep.as_str(), "not a seccomp profile"),
            (many.as_str(), "more than 4096 rules"),
            (long.as_str(), "more than 1048576 bytes"),
            (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, "SCMP_ACT_NOTIFY"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}"#, "listenerPath"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"]}"#, "flag"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390X"]}"#, "architectures"),
            (r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_LOG"}]}"#, "names"),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_LOG","colour":1}]}"#,
                "colour",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_LOG",
                    "args":[{"index":0,"value":-1,"op":"SCMP_CMP_EQ"}]}]}"#,
                "not a seccomp profile",
            ),
            (
                r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["a"],"action":"SCMP_ACT_LOG",
                    "includes":{"minKernel":"new"}}]}"#,
                "minKernel",
            ),
        ];
        for (content, word) in cases {
            let error = parse(content.as_bytes(), &HERE).map(drop).expect_err(word).to_string();
            assert!(error.contains(word), "{error:?} does not name {word:?}");
        }
        // Whatever bytes come, nothing but an answer.
        let mut state = 1u64;
        for length in 0..2_000usize {
            let bytes: Vec<u8> = (0..length % 200)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            assert!(parse(&bytes, &HERE).is_err());
        }
    }
}
