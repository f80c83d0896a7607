//! Debian packages: fetched by apt, which checks their signatures, and unpacked without running anything of theirs.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use hostler_model::limits;

use super::elf;
use crate::{ImageError, program, read_bounded};

/// The package that depends on the newest kernel for virtual machines.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// How kernel packages begin; the rest is the kernel's version.
pub(super) const KERNEL_PREFIX: &str = "linux-image-";
const BUSYBOX_PACKAGE: &str = "busybox-static";
const NO_APT: &str =
    "kernels are fetched by it; name a package with --package FILE, or a kernel with --kernel FILE --modules DIR";
const NO_DPKG: &str = "packages are unpacked by it; name a kernel with --kernel FILE --modules DIR";

/// The package with the newest kernel for virtual machines. Updates apt's lists if they do not know.
pub(super) fn newest(scratch: &Path, progress: &mut dyn FnMut(&str)) -> Result<String, ImageError> {
    if !cfg!(target_arch = "x86_64") {
        return Err(ImageError::Package("guests are x86-64 only, so far".to_owned()));
    }
    let known = || {
        let apt_cache = program::find("apt-cache", NO_APT)?;
        let arguments = ["depends", META_PACKAGE].map(OsStr::new);
        let said = program::call(scratch, &apt_cache, &arguments, limits::UNPACK_MAX_MS)?;
        let package = dependency(&String::from_utf8_lossy(&said));
        package.ok_or_else(|| ImageError::Package(format!("apt knows no kernel behind {META_PACKAGE}")))
    };
    match known() {
        Err(ImageError::Program { .. } | ImageError::Package(_)) => {
            update(scratch, progress)?;
            known()
        }
        other => other,
    }
}

/// The kernel package in what `apt-cache depends` says.
fn dependency(said: &str) -> Option<String> {
    let packages = said.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    packages.filter(|name| name.starts_with(KERNEL_PREFIX)).find(is_name).map(str::to_owned)
}

fn update(scratch: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), ImageError> {
    progress("updating apt's lists of packages");
    let apt_get = program::find("apt-get", NO_APT)?;
    let arguments = ["update", "--quiet"].map(OsStr::new);
    program::call(scratch, &apt_get, &arguments, limits::PACKAGE_FETCH_MAX_MS).map(drop)
}

/// Fetches a package into `scratch`; its file.
pub(super) fn fetch(package: &str, scratch: &Path, progress: &mut dyn FnMut(&str)) -> Result<PathBuf, ImageError> {
    let apt_get = program::find("apt-get", NO_APT)?;
    let place = scratch.join(format!("fetched-{package}"));
    crate::lock::directory(&place, 0o700)?;
    let fetch = |progress: &mut dyn FnMut(&str)| {
        progress(&format!("fetching the package {package}"));
        // As whoever we are: apt's own user could not write here, and it would only warn.
        let arguments = ["download", "--quiet", "-o", "APT::Sandbox::User=root", package].map(OsStr::new);
        program::call(&place, &apt_get, &arguments, limits::PACKAGE_FETCH_MAX_MS)
    };
    // Lists that are old name a version that the archive has no more.
    if let Err(first) = fetch(progress) {
        update(scratch, progress).map_err(|_| first)?;
        fetch(progress)?;
    }
    let mut files = std::fs::read_dir(&place).map_err(ImageError::io("read", &place))?;
    let deb = files.find_map(|entry| entry.ok().map(|entry| entry.path()).filter(|path| has_suffix(path, "deb")));
    deb.ok_or_else(|| ImageError::Package(format!("apt-get fetched {package} and left no file")))
}

fn has_suffix(path: &Path, suffix: &str) -> bool {
    path.extension().is_some_and(|found| found == suffix)
}

/// Unpacks a package into a new directory of `scratch`.
pub(super) fn unpack(deb: &Path, scratch: &Path, name: &str) -> Result<PathBuf, ImageError> {
    let dpkg = program::find("dpkg-deb", NO_DPKG)?;
    let into = scratch.join(name);
    crate::lock::directory(&into, 0o700)?;
    let deb = std::path::absolute(deb).map_err(ImageError::io("find", deb))?;
    let arguments = [OsStr::new("-x"), deb.as_os_str(), into.as_os_str()];
    program::call(scratch, &dpkg, &arguments, limits::UNPACK_MAX_MS)?;
    Ok(into)
}

/// The kernel in an unpacked package, its version, and the directory of its modules.
pub(super) fn kernel_in(tree: &Path, deb: &Path) -> Result<(PathBuf, String, Option<PathBuf>), ImageError> {
    let boot = tree.join("boot");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&boot).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        let version =
            name.to_str().and_then(|name| name.strip_prefix("vmlinuz-")).filter(|text| super::is_version(text));
        if let Some(version) = version
            && entry.file_type().is_ok_and(|kind| kind.is_file())
        {
            found.push((entry.path(), version.to_owned()));
        }
    }
    let [(image, version)] = &found[..] else {
        return Err(ImageError::unusable(deb, "holds no kernel as boot/vmlinuz-VERSION, or several"));
    };
    let modules = ["lib/modules", "usr/lib/modules"].map(|place| tree.join(place).join(version));
    Ok((image.clone(), version.clone(), modules.into_iter().find(|path| path.is_dir())))
}

/// A static busybox: this machine's own, or else Debian's. `Err` says why there is none.
pub(super) fn busybox(scratch: &Path, progress: &mut dyn FnMut(&str)) -> Result<Vec<u8>, ImageError> {
    let own = hostler_linux::tool::DIRECTORIES.iter().map(|directory| Path::new(directory).join("busybox"));
    if let Some(found) = own.into_iter().find_map(|path| static_program(&path)) {
        return Ok(found);
    }
    let deb = fetch(BUSYBOX_PACKAGE, scratch, progress)?;
    let tree = unpack(&deb, scratch, "busybox-package")?;
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| tree.join(place));
    places
        .iter()
        .find_map(|path| static_program(path))
        .ok_or_else(|| ImageError::Package(format!("{BUSYBOX_PACKAGE} holds no static busybox")))
}

fn static_program(path: &Path) -> Option<Vec<u8>> {
    let bytes = read_bounded(path, limits::KERNEL_MODULE_MAX).ok()?;
    (elf::is_static(&bytes) == Some(true)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_behind_the_package() {
        let said = "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-48-cloud-amd64\n";
        assert_eq!(dependency(said).as_deref(), Some("linux-image-6.1.0-48-cloud-amd64"));
        for bad in ["", "Depends: libc6", "Depends: linux-image-$(x)", "  Depends: -o linux-image-x"] {
            assert_eq!(dependency(bad), None, "{bad}");
        }
    }
}
