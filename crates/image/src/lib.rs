//! What a machine needs to boot guests, and the file systems that guests get as disks.
//!
//! - [`kernels`]: guest kernels, made from a distribution's package without installing it
//! - [`initramfs`]: what a guest boots into: the agent as its init, the kernel's modules, a busybox
//! - [`block`]: a directory as a read-only disk, made once and shared by all
//! - [`layer`]: an empty disk that a guest may write to, made in milliseconds
//! - `lock`, `program`: how makers keep out of each other's way, and how programs are called
//!
//! Whatever is made is made under another name and renamed when it is whole, so nobody sees half of it.
//!
//! Not here: virtual machines, images from registries, who may ask for what. A tree is read with the caller's own rights.
#![forbid(unsafe_code)]

pub mod block;
mod error;
pub mod initramfs;
pub mod kernels;
pub mod layer;
mod lock;
mod program;

pub use error::ImageError;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

/// Bytes in lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a file hashes to. `FileTooLarge` past `max` bytes.
fn sha256_of(path: &Path, max: u64) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 128 * 1024];
    let mut total = 0;
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(read) => {
                total += read as u64;
                if total > max {
                    return Err(io::ErrorKind::FileTooLarge.into());
                }
                hash.update(&piece[..read]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A whole file of at most `max` bytes.
fn read_bounded(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}
