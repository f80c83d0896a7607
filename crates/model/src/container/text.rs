//! The parts of a container as people write them, on command lines and in stack files.

use std::path::Path;

use super::{All, CapDrop, Device, Network, Seccomp, Tmpfs, Userns, Volume};
use crate::bytes::ByteString;
use crate::network as networks;
use crate::units::parse_size_bytes;

/// One `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityOption {
    /// Whether privileges cannot be gained.
    NoNewPrivileges(bool),
    /// Which system calls.
    Seccomp(Seccomp),
    /// Which AppArmor profile.
    AppArmor(String),
    /// Nothing below `/proc` and `/sys` is hidden or read-only.
    Unmasked,
}

/// `SOURCE:TARGET[:ro|rw]`. The source may be relative to `base`.
pub fn volume(text: &str, base: &Path) -> Result<Volume, String> {
    let error = || format!("{text:?} is not a volume: write SOURCE:TARGET or SOURCE:TARGET:ro");
    let (paths, read_only) = match text.rsplit_once(':') {
        Some((paths, "ro")) => (paths, true),
        Some((paths, "rw")) => (paths, false),
        _ => (text, false),
    };
    let (source, target) = paths.split_once(':').ok_or_else(error)?;
    if source.is_empty() || !target.starts_with('/') {
        return Err(error());
    }
    Ok(Volume { source: base.join(source).as_os_str().into(), target: target.into(), read_only })
}

/// `TARGET[:size=64M,mode=1777,exec]`.
pub fn tmpfs(text: &str) -> Result<Tmpfs, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let mut tmpfs = Tmpfs { target: target.into(), size_bytes: None, mode: None, exec: false };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let bad = || format!("{option:?} of {text:?} is not an option: write size=64M, mode=1777, exec or noexec");
        match option.split_once('=') {
            Some(("size", size)) => tmpfs.size_bytes = Some(parse_size_bytes(size).map_err(|_| bad())?),
            Some(("mode", mode)) => tmpfs.mode = Some(u32::from_str_radix(mode, 8).map_err(|_| bad())?),
            None if option == "exec" => tmpfs.exec = true,
            None if option == "noexec" => tmpfs.exec = false,
            _ => return Err(bad()),
        }
    }
    if !target.starts_with('/') {
        return Err(format!("{text:?} is not a tmpfs: write TARGET or TARGET:size=64M,mode=1777"));
    }
    Ok(tmpfs)
}

/// `SOURCE[:TARGET[:rwm]]`, or `SOURCE:rwm`.
pub fn device(text: &str) -> Result<Device, String> {
    let error = || format!("{text:?} is not a device: write /dev/x, /dev/x:/dev/y or /dev/x:/dev/y:rwm");
    let is_access = |text: &str| !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, access) = match parts.as_slice() {
        [source] => (source, None, "rwm"),
        [source, access] if is_access(access) => (source, None, *access),
        [source, target] => (source, Some(*target), "rwm"),
        [source, target, access] if is_access(access) => (source, Some(*target), *access),
        _ => return Err(error()),
    };
    if !source.starts_with('/') || target.is_some_and(|target| !target.starts_with('/')) {
        return Err(error());
    }
    Ok(Device { source: (*source).into(), target: target.map(ByteString::from), access: access.to_owned() })
}

/// A capability, or `ALL`.
pub fn cap_drop(text: &str) -> Result<CapDrop, String> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(CapDrop::All(All::All));
    }
    text.parse().map(|capability| CapDrop::These(vec![capability])).map_err(|error| format!("{error}, or ALL"))
}

/// What was taken away in several steps.
#[must_use]
pub fn dropped(steps: &[CapDrop]) -> CapDrop {
    if steps.iter().any(|drop| matches!(drop, CapDrop::All(_))) {
        return CapDrop::All(All::All);
    }
    let these = steps.iter().flat_map(|drop| match drop {
        CapDrop::These(these) => these.as_slice(),
        CapDrop::All(_) => &[],
    });
    CapDrop::These(these.copied().collect())
}

/// `no-new-privileges[=true|false]`, `seccomp=…`, `apparmor=…`, `systempaths=unconfined`; with `:` as well.
pub fn security_option(text: &str) -> Result<SecurityOption, String> {
    let (name, value) = match text.split_once(['=', ':']) {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    match (name, value) {
        ("no-new-privileges", None | Some("true")) => Ok(SecurityOption::NoNewPrivileges(true)),
        ("no-new-privileges", Some("false")) => Ok(SecurityOption::NoNewPrivileges(false)),
        ("seccomp", Some("unconfined")) => Ok(SecurityOption::Seccomp(Seccomp::Unconfined)),
        ("seccomp", Some("default" | "builtin")) => Ok(SecurityOption::Seccomp(Seccomp::Default)),
        ("seccomp", Some(file)) if !file.is_empty() => Ok(SecurityOption::Seccomp(Seccomp::File(file.into()))),
        ("apparmor", Some(profile)) if !profile.is_empty() => Ok(SecurityOption::AppArmor(profile.to_owned())),
        ("systempaths", Some("unconfined")) => Ok(SecurityOption::Unmasked),
        _ => Err(format!(
            "{text:?} is not a security option: write no-new-privileges=false, seccomp=unconfined, seccomp=FILE, \
             apparmor=PROFILE or systempaths=unconfined"
        )),
    }
}

/// `host` or `auto`.
pub fn userns(text: &str) -> Result<Userns, String> {
    match text {
        "host" => Ok(Userns::Host),
        "auto" => Ok(Userns::Auto),
        _ => Err(format!("{text:?} is neither host nor auto")),
    }
}

/// `none`, `host`, the path of a network namespace, or a network of the node: `NAME[,ip=ADDRESS][,alias=NAME]…`.
pub fn network(text: &str) -> Result<Network, String> {
    match text {
        "none" => Ok(Network::None),
        "host" => Ok(Network::Host),
        path if path.starts_with('/') => Ok(Network::Namespace(path.into())),
        name => networks::text::attachment(name).map(|attachment| Network::Named(Box::new(attachment))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes() {
        let base = Path::new("/base");
        let volume_of = |source: &str, read_only| Volume { source: source.into(), target: "/y".into(), read_only };
        assert_eq!(volume("/x:/y", base), Ok(volume_of("/x", false)));
        assert_eq!(volume("x:/y:ro", base), Ok(volume_of("/base/x", true)));
        assert_eq!(volume("/x:/y:rw", base), Ok(volume_of("/x", false)));
        for bad in ["", "/x", "/x:y", ":/y", "/x:ro", "::"] {
            assert!(volume(bad, base).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_rest() {
        let all = tmpfs("/t:size=64M,mode=700,exec").expect("valid");
        assert_eq!((all.size_bytes, all.mode, all.exec), (Some(64 << 20), Some(0o700), true));
        assert!(["t", "/t:size", "/t:mode=9", "/t:x"].iter().all(|bad| tmpfs(bad).is_err()));
        assert_eq!(device("/dev/a:r").expect("valid").access, "r");
        let full = device("/dev/a:/dev/b:rw").expect("valid");
        assert_eq!((full.target, full.access.as_str()), (Some("/dev/b".into()), "rw"));
        assert!(["a", "/dev/a:b", "/dev/a:/b:x", "/a:/b:r:w"].iter().all(|bad| device(bad).is_err()));
        assert_eq!(dropped(&[cap_drop("kill").expect("known"), cap_drop("all").expect("all")]), CapDrop::All(All::All));
        assert!(cap_drop("some").is_err());
        let good =
            ["no-new-privileges", "no-new-privileges:false", "seccomp=/f", "apparmor=x", "systempaths=unconfined"];
        assert!(good.iter().all(|text| security_option(text).is_ok()));
        assert!(
            ["", "seccomp", "seccomp=", "label=x", "no-new-privileges=maybe"]
                .iter()
                .all(|bad| security_option(bad).is_err())
        );
        assert_eq!(network("/run/netns/blue"), Ok(Network::Namespace("/run/netns/blue".into())));
        let blue = network("blue,alias=db").expect("a network");
        assert_eq!(blue.attachment().map(|to| (to.name.as_str(), to.aliases.len())), Some(("blue", 1)));
        assert!(["", "..", "a/b"].iter().all(|bad| network(bad).is_err()));
    }
}
