//! Which hierarchies are mounted, and where the caller stands in each of them.

use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use super::{CgroupError, Controller, Version, files};

/// A mounted hierarchy that holds something we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// What it controls; for v2 everything, as far as it is handed down.
    pub(super) controllers: Vec<Controller>,
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// The caller's own group as a directory; `None` when the mount does not show it.
    pub(super) own: Option<PathBuf>,
    /// Tells apart hierarchies that control nothing of ours.
    name: String,
}

/// The cgroup hierarchies of this machine as the caller sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    pub(super) version: Version,
    pub(super) mounts: Vec<Mount>,
    /// The v2 hierarchy that is mounted beside those of v1.
    unified: Option<PathBuf>,
    /// v1: hierarchies that only OCI runtimes make groups in, the v2 mount beside them included.
    pub(super) others: Vec<Mount>,
}

/// One line of mountinfo, as far as it matters here.
struct Line {
    id: u32,
    parent: u32,
    root: PathBuf,
    point: PathBuf,
    kind: Kind,
}

enum Kind {
    /// What it controls of that which we use, and its name.
    V1(Vec<Controller>, String),
    V2,
    Other,
}

impl Hierarchies {
    /// Reads what is mounted. Does not change anything.
    pub fn detect() -> Result<Self, CgroupError> {
        let read =
            |path: &str| files::read(Path::new(path)).map_err(|error| CgroupError::io("read", Path::new(path), error));
        let mut found = Self::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?)?;
        if found.version == Version::V2 {
            found.mounts.retain(|mount| holds_controllers(&mount.point));
            if found.mounts.is_empty() {
                found.version = Version::None;
            }
        }
        Ok(found)
    }

    /// The same from the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`.
    ///
    /// Controllers of a v1 hierarchy win: the kernel gives each controller to one hierarchy only, and a v2 mount
    /// beside v1 ones that hold memory, cpu or pids is an empty one. Lines that make no sense are passed over.
    pub fn parse(mountinfo: &str, self_cgroup: &str) -> Result<Self, CgroupError> {
        let lines: Vec<Line> = mountinfo.lines().filter_map(parse_line).collect();
        if lines.is_empty() && !mountinfo.trim().is_empty() {
            return Err(CgroupError::Malformed { what: "/proc/self/mountinfo" });
        }
        // A mount stacked on the very same place hides the one below.
        let hidden = |line: &Line| lines.iter().any(|top| top.parent == line.id && top.point == line.point);
        let mut v1: Vec<Mount> = Vec::new();
        let mut v2: Vec<Mount> = Vec::new();
        let mut others: Vec<Mount> = Vec::new();
        for line in lines.iter().filter(|line| !hidden(line)) {
            let (list, controllers, name) = match &line.kind {
                Kind::V1(controllers, name) => {
                    let is_used = controllers.iter().any(|held| *held != Controller::Hugetlb);
                    (if is_used { &mut v1 } else { &mut others }, controllers.clone(), name.as_str())
                }
                Kind::V2 => (&mut v2, Controller::ALL.to_vec(), ""),
                Kind::Other => continue,
            };
            let own = own_group(self_cgroup, &line.kind).and_then(|path| below_mount(line, &path));
            let mount = Mount { controllers, point: line.point.clone(), own, name: name.to_owned() };
            // The same hierarchy may be mounted twice; the one that shows our own group is the useful one, and else the
            // first: CRIU mounts all of them for a moment while it restores.
            let same = |known: &&mut Mount| known.controllers == mount.controllers && known.name == mount.name;
            match list.iter_mut().find(same) {
                Some(known) if known.own.is_none() && mount.own.is_some() => *known = mount,
                Some(_) => {}
                None => list.push(mount),
            }
        }
        let limiting = [Controller::Memory, Controller::Cpu, Controller::Pids];
        let v1_limits = v1.iter().any(|mount| mount.controllers.iter().any(|held| limiting.contains(held)));
        Ok(if v1_limits || (v2.is_empty() && !v1.is_empty()) {
            let unified = v2.first().map(|mount| mount.point.clone());
            others.extend(v2.into_iter().map(|mount| Mount { controllers: Vec::new(), ..mount }));
            Self { version: Version::V1, mounts: v1, others, unified }
        } else if !v2.is_empty() {
            Self { version: Version::V2, mounts: v2, others: Vec::new(), unified: None }
        } else {
            Self { version: Version::None, mounts: Vec::new(), others: Vec::new(), unified: None }
        })
    }

    /// The v2 hierarchy that is mounted beside those of v1: on a hybrid machine.
    #[must_use]
    pub fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// Which kind of hierarchy limits and groups are made in.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }
}

/// Whether a v2 mount has anything to limit with.
fn holds_controllers(point: &Path) -> bool {
    files::read(&point.join("cgroup.controllers"))
        .is_ok_and(|text| text.split_ascii_whitespace().any(|name| matches!(name, "memory" | "cpu" | "pids")))
}

/// `36 35 98:0 /root /point opts tags… - type source superopts`, see proc(5).
fn parse_line(line: &str) -> Option<Line> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let id = fields.next()?.parse().ok()?;
    let parent = fields.next()?.parse().ok()?;
    let _device = fields.next()?;
    let root = unescape(fields.next()?);
    let point = unescape(fields.next()?);
    let mut fields = file_system.split(' ');
    let kind = match fields.next()? {
        "cgroup2" => Kind::V2,
        "cgroup" => {
            let options = fields.nth(1)?;
            let held: Vec<_> =
                Controller::ALL.into_iter().filter(|held| options.split(',').any(|o| o == held.v1_name())).collect();
            let names: Vec<_> = options.split(',').filter(|option| is_hierarchy_name(option)).collect();
            Kind::V1(held, names.join(","))
        }
        _ => Kind::Other,
    };
    point.is_absolute().then_some(Line { id, parent, root, point, kind })
}

/// Mount options that name a hierarchy, those that we do not use.
fn is_hierarchy_name(option: &str) -> bool {
    matches!(option, "devices" | "net_cls" | "net_prio" | "perf_event" | "rdma" | "misc") || option.starts_with("name=")
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash.
fn unescape(text: &str) -> PathBuf {
    let raw = text.as_bytes();
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        let octal = raw.get(at + 1..at + 4).filter(|digits| raw[at] == b'\\' && digits.iter().all(u8::is_ascii_digit));
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match value {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(raw[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(out))
}

/// The caller's group in this hierarchy, from lines such as `4:memory:/a/b` and `0::/a/b`.
fn own_group(self_cgroup: &str, kind: &Kind) -> Option<PathBuf> {
    self_cgroup.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let same = match kind {
            Kind::V1(held, _) => names.split(',').any(|name| held.iter().any(|held| held.v1_name() == name)),
            Kind::V2 => number == "0" && names.is_empty(),
            Kind::Other => false,
        };
        (same && path.starts_with('/')).then(|| PathBuf::from(path))
    })
}

/// The directory under the mount that shows group `path`. A bind mount or a container shows a part of the hierarchy.
fn below_mount(line: &Line, path: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(&line.root).ok()?;
    // `/../x`: the caller stands outside its own cgroup namespace, where no path leads.
    let clean = rest.components().all(|part| matches!(part, Component::Normal(_)));
    clean.then(|| if rest.as_os_str().is_empty() { line.point.clone() } else { line.point.join(rest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(mountinfo: &str, self_cgroup: &str) -> String {
        let found = Hierarchies::parse(mountinfo, self_cgroup).expect("parses");
        let mounts = found.mounts.iter().map(|mount| {
            let names: Vec<_> = mount.controllers.iter().map(|held| held.v1_name()).collect();
            format!(" {}={}", names.join(","), mount.own.as_deref().map_or("?".into(), Path::to_string_lossy))
        });
        format!("{:?}{}", found.version, mounts.collect::<String>())
    }

    #[test]
    fn hierarchies() {
        let v1 = "32 31 0:29 / /c/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                  33 31 0:30 / /c/memory rw shared:3 - cgroup cgroup rw,memory\n\
                  34 31 0:31 / /c/pids rw - cgroup cgroup rw,pids\n\
                  35 31 0:32 / /c/systemd rw - cgroup cgroup rw,xattr,name=systemd\n";
        let v1_self = "5:pids:/p\n4:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/x\n";
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let unified = "41 31 0:38 / /c/unified rw - cgroup2 cgroup2 rw\n";
        let freezer = "40 31 0:39 / /c/freezer rw - cgroup cgroup rw,freezer\n";
        let hybrid = format!("{v1}{unified}");
        let data = [
            ("pure v1", v1, v1_self, "V1 cpu,cpuacct=/c/cpu,cpuacct memory=/c/memory/a/b pids=/c/pids/p"),
            (
                "pure v2",
                v2,
                "0::/user.slice/a b\n",
                "V2 memory,cpu,cpuacct,pids,freezer,cpuset,blkio,hugetlb=/sys/fs/cgroup/user.slice/a b",
            ),
            ("hybrid", &hybrid, &format!("{v1_self}0::/z\n"), {
                "V1 cpu,cpuacct=/c/cpu,cpuacct memory=/c/memory/a/b pids=/c/pids/p"
            }),
            ("no line for a hierarchy", freezer, "4:memory:/a\n", "V1 freezer=?"),
            ("v1 without limits beside v2", &format!("{freezer}{unified}"), "0::/\n9:freezer:/\n", {
                "V2 memory,cpu,cpuacct,pids,freezer,cpuset,blkio,hugetlb=/c/unified"
            }),
            (
                "a container shows its part",
                "9 8 0:1 /docker/x /c/memory ro - cgroup cgroup rw,memory\n",
                "4:memory:/docker/x/y\n",
                "V1 memory=/c/memory/y",
            ),
            (
                "not within the part shown",
                "9 8 0:1 /docker/x /c/memory ro - cgroup cgroup rw,memory\n",
                "4:memory:/docker/xy\n",
                "V1 memory=?",
            ),
            ("outside of its namespace", v2, "0::/../x\n", "V2 memory,cpu,cpuacct,pids,freezer,cpuset,blkio,hugetlb=?"),
            (
                "stacked and mounted twice",
                "9 8 0:1 / /m rw - cgroup cgroup rw,pids\n10 9 0:2 / /m rw - tmpfs t rw\n\
                 11 8 0:1 /q /far rw - cgroup cgroup rw,pids\n12 8 0:1 / /a\\040b rw - cgroup cgroup rw,pids\n",
                "1:pids:/p\n",
                "V1 pids=/a b/p",
            ),
            ("nothing", "", "", "None"),
            ("no cgroups", "9 8 0:1 / / rw - ext4 /dev/vda rw\n", "0::/\n", "None"),
            ("some garbage", &format!("x\n - \n1 2 - cgroup2\n{v2}9 9\n\u{0}"), ":::\n0\n0::/a:b\n", {
                "V2 memory,cpu,cpuacct,pids,freezer,cpuset,blkio,hugetlb=/sys/fs/cgroup/a:b"
            }),
        ];
        for (what, mountinfo, self_cgroup, expected) in data {
            assert_eq!(shown(mountinfo, self_cgroup), expected, "{what}");
        }
        assert!(Hierarchies::parse("garbage\nmore", "0::/").is_err());
        let devices = "36 31 0:33 / /c/devices rw - cgroup cgroup rw,devices\n";
        let hugetlb = "37 31 0:34 / /c/hugetlb rw - cgroup cgroup rw,hugetlb\n";
        let found = Hierarchies::parse(&format!("{hybrid}{devices}{hugetlb}{devices}"), v1_self).expect("parses");
        let others: Vec<_> = found.others.iter().map(|mount| mount.point.to_string_lossy()).collect();
        assert_eq!(others, ["/c/systemd", "/c/devices", "/c/hugetlb", "/c/unified"]);
        assert_eq!(unescape("a\\040b\\\\9\\1"), PathBuf::from("a b\\\\9\\1"));
    }

    #[test]
    fn this_machine() {
        let found = Hierarchies::detect().expect("every Linux has /proc/self/mountinfo");
        eprintln!("{found:?}");
    }
}
