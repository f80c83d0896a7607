//! What a guest sees of this machine: a file with a file system as a disk, a directory that it may only read as an image.

use std::path::Path;

use hostler_image::block::{self, BlockLimits, Format};
use hostler_model::container::Volume;
use hostler_model::guest::{GuestMount, GuestSource};

use super::{GuestError, Guests};
use crate::microvm::Drive;

/// A disk and where it is mounted.
pub(super) struct Mounted {
    pub(super) drive: Drive,
    pub(super) mount: GuestMount,
}

/// How a file system in a file is called by `mount`.
pub(super) fn format_of(path: &Path) -> Result<&'static str, GuestError> {
    use hostler_image::block::FileSystem;
    match block::format_of(path)? {
        FileSystem::Erofs => Ok("erofs"),
        FileSystem::Squashfs => Ok("squashfs"),
        FileSystem::Ext4 => Ok("ext4"),
        FileSystem::Other => {
            let what = format!("{} is no image of ext4, erofs or squashfs", path.display());
            Err(GuestError::Unsuited(what))
        }
    }
}

/// How the format of an image of ours is called.
pub(super) fn name_of(format: Format) -> &'static str {
    format.name()
}

impl Guests {
    /// One volume as a disk with this id.
    pub(super) fn volume(&self, volume: &Volume, id: String) -> Result<Mounted, GuestError> {
        let source = volume.source.as_path();
        let (path, format, read_only) = if source.is_dir() {
            if !volume.read_only {
                let what = format!(
                    "a guest cannot write to the directory {} of this machine; give it :ro, or the file of a disk with ext4",
                    source.display()
                );
                return Err(GuestError::Unsuited(what));
            }
            let image = block::ensure(&self.settings.cache, source, BlockLimits::default())?;
            (image.path.clone(), name_of(image.format), true)
        } else {
            (source.to_owned(), format_of(source)?, volume.read_only)
        };
        if !read_only && format != "ext4" {
            let what = format!("{} is an image of {format}, which cannot be written to; give it :ro", source.display());
            return Err(GuestError::Unsuited(what));
        }
        let source = GuestSource::Disk { disk: id.clone(), format: format.to_owned() };
        let mount = GuestMount { source, target: volume.target.clone(), read_only };
        Ok(Mounted { drive: Drive { id, path, read_only, is_root: false, rate: None }, mount })
    }
}
