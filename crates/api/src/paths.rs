//! Where a node keeps its files. Daemon and client ask here, so they always agree.
//!
//! | what | `--root DIR` | root | anyone else |
//! |---|---|---|---|
//! | data | `DIR` | `/var/lib/hostler` | `$XDG_DATA_HOME/hostler`, `~/.local/share/hostler` |
//! | runtime | `DIR` | `/run/hostler` | `$XDG_RUNTIME_DIR/hostler`, `/run/user/UID/hostler` |
//! | config | `DIR` | `/etc/hostler` | `$XDG_CONFIG_HOME/hostler`, `~/.config/hostler` |
//!
//! A user for whom nobody made `/run/user/UID` (no login session) has his runtime files in the data directory.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Directory of the system node's socket.
const SYSTEM_RUNTIME: &str = "/run/hostler";
const SOCKET: &str = "hostler.sock";

/// Exit code of `hostlerd` when another one has its directories: `EX_TEMPFAIL` of sysexits.h.
pub const DAEMON_EXISTS: u8 = 75;

/// The three directories of a node and the names in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Store, logs, runs; kept across reboots.
    pub data: PathBuf,
    /// Socket and pid file.
    pub runtime: PathBuf,
    /// `hostler.toml`.
    pub config: PathBuf,
}

impl Layout {
    /// The layout for this process: `root` as given on the command line, and the caller's effective uid.
    pub fn new(root: Option<&Path>, uid: u32) -> io::Result<Self> {
        match root {
            Some(root) => Ok(Self::under(std::path::absolute(root)?)),
            None => Ok(Self::of_user(uid, &|name| std::env::var_os(name), &|path| path.is_dir())),
        }
    }

    /// Everything in one directory, which must be absolute.
    #[must_use]
    pub fn under(root: PathBuf) -> Self {
        Self { data: root.clone(), runtime: root.clone(), config: root }
    }

    fn of_user(uid: u32, variable: &dyn Fn(&str) -> Option<OsString>, is_directory: &dyn Fn(&Path) -> bool) -> Self {
        if uid == 0 {
            return Self {
                data: "/var/lib/hostler".into(),
                runtime: SYSTEM_RUNTIME.into(),
                config: "/etc/hostler".into(),
            };
        }
        // The XDG specification: a relative value is invalid and ignored.
        let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME").unwrap_or_else(|| PathBuf::from("/"));
        let data = absolute("XDG_DATA_HOME").unwrap_or_else(|| home.join(".local/share")).join("hostler");
        let config = absolute("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")).join("hostler");
        let runtime = absolute("XDG_RUNTIME_DIR")
            .or_else(|| Some(PathBuf::from(format!("/run/user/{uid}"))).filter(|path| is_directory(path)))
            .map_or_else(|| data.clone(), |path| path.join("hostler"));
        Self { data, runtime, config }
    }

    /// The HTTP door.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime.join(SOCKET)
    }

    /// The socket a client without `--root` talks to: this layout's own, or the system node's where only that exists.
    #[must_use]
    pub fn client_socket(&self) -> PathBuf {
        let own = self.socket();
        let system = Path::new(SYSTEM_RUNTIME).join(SOCKET);
        if !own.exists() && system.exists() { system } else { own }
    }

    /// The daemon's process id, in decimal.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.runtime.join("hostlerd.pid")
    }

    /// The journal and the state records.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.data.join("store.redb")
    }

    /// Installed agents, by hash.
    #[must_use]
    pub fn agents(&self) -> PathBuf {
        self.data.join("agents")
    }

    /// One directory a sandbox.
    #[must_use]
    pub fn sandboxes(&self) -> PathBuf {
        self.data.join("sandbox")
    }

    /// One directory a run.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.data.join("run")
    }

    /// What the OCI runtime keeps of containers; not kept across reboots.
    #[must_use]
    pub fn oci_state(&self) -> PathBuf {
        self.runtime.join("oci")
    }

    /// Images of containers, of each namespace for itself.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.data.join("checkpoints")
    }

    /// The lease book of networks, and what CNI plugins answered.
    #[must_use]
    pub fn networks(&self) -> PathBuf {
        self.data.join("networks")
    }

    /// Kernels of virtual machines, unless configured otherwise.
    #[must_use]
    pub fn kernels(&self) -> PathBuf {
        self.data.join("vm/kernels")
    }

    /// What virtual machines are made of that can be made again.
    #[must_use]
    pub fn machine_cache(&self) -> PathBuf {
        self.data.join("vm/cache")
    }

    /// Virtual machines, a directory each.
    #[must_use]
    pub fn machines(&self) -> PathBuf {
        self.data.join("vm/machines")
    }

    /// Workloads' output.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }

    /// `hostler.toml`.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.config.join("hostler.toml")
    }

    /// Stacks that start with the node, a file each.
    #[must_use]
    pub fn startup(&self) -> PathBuf {
        self.config.join("startup.d")
    }

    /// What the daemon itself has to say when it was started by `hostler up`.
    #[must_use]
    pub fn daemon_log(&self) -> PathBuf {
        self.data.join("hostlerd.log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(uid: u32, variables: &[(&str, &str)], directories: &[&str]) -> [String; 3] {
        let variable =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        let is_directory = |path: &Path| directories.iter().any(|known| Path::new(known) == path);
        let found = Layout::of_user(uid, &variable, &is_directory);
        [found.data, found.runtime, found.config].map(|path| path.display().to_string())
    }

    /// Uid, environment, directories that exist; data, runtime and config expected.
    type Case<'a> = (u32, &'a [(&'a str, &'a str)], &'a [&'a str], [&'a str; 3]);

    #[test]
    fn each_user_has_directories() {
        let cases: [Case<'_>; 4] = [
            (
                0,
                &[("HOME", "/root"), ("XDG_DATA_HOME", "/x")],
                &[],
                ["/var/lib/hostler", "/run/hostler", "/etc/hostler"],
            ),
            (
                7,
                &[("HOME", "/home/u")],
                &["/run/user/7"],
                ["/home/u/.local/share/hostler", "/run/user/7/hostler", "/home/u/.config/hostler"],
            ),
            (
                7,
                &[("HOME", "/home/u"), ("XDG_RUNTIME_DIR", "not/absolute")],
                &[],
                ["/home/u/.local/share/hostler", "/home/u/.local/share/hostler", "/home/u/.config/hostler"],
            ),
            (
                7,
                &[("HOME", "/h"), ("XDG_DATA_HOME", "/d"), ("XDG_RUNTIME_DIR", "/r"), ("XDG_CONFIG_HOME", "/c")],
                &[],
                ["/d/hostler", "/r/hostler", "/c/hostler"],
            ),
        ];
        for (uid, variables, directories, expected) in cases {
            assert_eq!(layout(uid, variables, directories), expected);
        }
    }

    #[test]
    fn a_root_holds_everything() {
        let layout = Layout::new(Some(Path::new("relative")), 0).expect("a current directory");
        assert!(layout.data.is_absolute());
        assert_eq!(layout.socket(), layout.data.join("hostler.sock"));
        assert_eq!(layout.config_file().parent(), layout.store().parent());
    }
}
