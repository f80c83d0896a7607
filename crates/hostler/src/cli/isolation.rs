//! Arguments that keep a plain process apart from the machine.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use hostler_model::{ByteString, Isolation};

use super::ContainerArguments;
use crate::failure::Failure;

const HEADING: &str = "Isolation of processes";

/// Isolation of a plain process. Flags that containers have too are with theirs.
#[derive(Debug, Clone, Default, Args)]
pub struct SandboxArguments {
    /// Keep it apart from this machine: namespaces of its own, files read-only, no capabilities, fewer system calls.
    /// PROFILE is default, strict, network-service or one of hostler.toml
    #[arg(long, value_name = "PROFILE", num_args = 0..=1, require_equals = true, default_missing_value = "default",
          group = "confined", conflicts_with = "container", help_heading = HEADING)]
    pub isolate: Option<String>,
    /// It cannot write to this, with all below; / is everything
    #[arg(long, value_name = "PATH", requires = "isolate", help_heading = HEADING)]
    pub read_only_path: Vec<PathBuf>,
    /// It sees this as it is, below what is read-only, hidden or private
    #[arg(long, value_name = "PATH", requires = "isolate", help_heading = HEADING)]
    pub writable_path: Vec<PathBuf>,
    /// It finds this empty
    #[arg(long, value_name = "PATH", requires = "isolate", help_heading = HEADING)]
    pub hide_path: Vec<PathBuf>,
    /// Whether /tmp and /var/tmp are its own, empty and in memory
    #[arg(long, value_name = "YES|NO", requires = "isolate", value_parser = yes_or_no, help_heading = HEADING)]
    pub private_tmp: Option<bool>,
    /// What it may read, execute or write, and nothing else, by the kernel's landlock: read:PATH, exec:PATH or write:PATH
    #[arg(long, value_name = "RIGHT:PATH", requires = "isolate", help_heading = HEADING)]
    pub landlock: Vec<OsString>,
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "true" => Ok(true),
        "no" | "false" => Ok(false),
        _ => Err("must be yes or no".to_owned()),
    }
}

fn absolute(paths: &[PathBuf]) -> Result<Vec<ByteString>, Failure> {
    let absolute = |path: &PathBuf| {
        let path = std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        Ok(ByteString::from(path.as_os_str()))
    };
    paths.iter().map(absolute).collect()
}

impl SandboxArguments {
    /// Where `--isolate` itself would be a conflict, nothing else misses it.
    fn refuse_alone(&self) -> Result<(), Failure> {
        let asked = [
            ("--read-only-path", !self.read_only_path.is_empty()),
            ("--writable-path", !self.writable_path.is_empty()),
            ("--hide-path", !self.hide_path.is_empty()),
            ("--private-tmp", self.private_tmp.is_some()),
            ("--landlock", !self.landlock.is_empty()),
        ];
        match asked.iter().find(|(_, asked)| *asked) {
            Some((flag, _)) => Err(Failure::usage(format!("{flag} is of --isolate, and has no effect without it"))),
            None => Ok(()),
        }
    }

    /// What is asked, if anything is.
    pub(crate) fn isolation(&self, shared: &ContainerArguments) -> Result<Option<Isolation>, Failure> {
        let Some(profile) = &self.isolate else { return self.refuse_alone().map(|()| None) };
        let mut isolation = Isolation {
            profile: Some(profile.clone()),
            private_tmp: self.private_tmp,
            read_only: absolute(&self.read_only_path)?,
            writable: absolute(&self.writable_path)?,
            hidden: absolute(&self.hide_path)?,
            network: shared.network.clone(),
            hostname: shared.hostname.clone(),
            volumes: shared.volume.clone(),
            capabilities: (!shared.cap_add.is_empty()).then(|| shared.cap_add.clone()),
            seccomp: shared.seccomp()?,
            ..Isolation::default()
        };
        for rule in &self.landlock {
            use std::os::unix::ffi::OsStrExt as _;
            let mut parts = rule.as_bytes().splitn(2, |byte| *byte == b':');
            let (right, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let rules = isolation.landlock.get_or_insert_default();
            let list = match right {
                b"read" => &mut rules.read,
                b"write" => &mut rules.write,
                b"exec" => &mut rules.execute,
                _ => return Err(Failure::usage("--landlock must be read:PATH, write:PATH or exec:PATH")),
            };
            list.extend(absolute(&[PathBuf::from(std::ffi::OsStr::from_bytes(path))])?);
        }
        Ok(Some(isolation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_isolation_is_refused_without_it() {
        let shared = ContainerArguments::default();
        assert_eq!(SandboxArguments::default().isolation(&shared).expect("nothing is asked"), None);
        for alone in [
            SandboxArguments { landlock: vec!["read:/".into()], ..SandboxArguments::default() },
            SandboxArguments { hide_path: vec!["/etc".into()], ..SandboxArguments::default() },
            SandboxArguments { private_tmp: Some(false), ..SandboxArguments::default() },
        ] {
            alone.isolation(&shared).expect_err("without --isolate");
        }
    }
}
