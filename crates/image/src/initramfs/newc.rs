//! An archive in the `newc` format of cpio, which the kernel unpacks as its first root: buffer-format.rst of the kernel's
//! driver-api/early-userspace. Everything in it belongs to root and was made at the beginning of time, so that the same
//! content gives the same bytes.

use std::io::{self, Write};

/// What an entry is; the numbers are those of `st_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    Directory { mode: u32 },
    File { mode: u32, content: &'a [u8] },
    Link { to: &'a str },
    Device { mode: u32, major: u32, minor: u32 },
}

/// Writes entries one after the other; parents must come before what is in them.
#[derive(Debug)]
pub(super) struct Archive<W> {
    out: W,
    /// Bytes written.
    at: u64,
    /// Of the next entry.
    inode: u32,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, at: 0, inode: 1 }
    }

    /// Adds an entry; its path has no leading slash.
    pub(super) fn add(&mut self, path: &str, entry: &Entry<'_>) -> io::Result<()> {
        let (mode, links, content, device) = match *entry {
            Entry::Directory { mode } => (0o040_000 | mode, 2, &[][..], (0, 0)),
            Entry::File { mode, content } => (0o100_000 | mode, 1, content, (0, 0)),
            Entry::Link { to } => (0o120_777, 1, to.as_bytes(), (0, 0)),
            Entry::Device { mode, major, minor } => (0o020_000 | mode, 1, &[][..], (major, minor)),
        };
        self.write(path, mode, links, content, device)
    }

    /// Ends it.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.write("TRAILER!!!", 0, 1, &[], (0, 0))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn write(&mut self, path: &str, mode: u32, links: u32, content: &[u8], device: (u32, u32)) -> io::Result<()> {
        let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let size = u32::try_from(content.len()).map_err(too_large)?;
        let name_size = u32::try_from(path.len() + 1).map_err(too_large)?;
        // inode, mode, uid, gid, links, mtime, size, device of the file system (2), of the node (2), name's size, sum
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0];
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08X}"));
        }
        self.inode += 1;
        self.put(header.as_bytes())?;
        self.put(path.as_bytes())?;
        self.put(&[0])?;
        self.align()?;
        self.put(content)?;
        self.align()
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Headers and contents begin at multiples of four.
    fn align(&mut self) -> io::Result<()> {
        let missing = (4 - self.at % 4) % 4;
        self.put(&[0; 3][..missing as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::path::Path;

    fn archive() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        let entries = [
            ("bin", Entry::Directory { mode: 0o755 }),
            ("bin/a", Entry::File { mode: 0o755, content: b"hello" }),
            ("bin/sh", Entry::Link { to: "/bin/a" }),
            ("null", Entry::Device { mode: 0o666, major: 1, minor: 3 }),
            ("tmp", Entry::Directory { mode: 0o1777 }),
        ];
        for (path, entry) in &entries {
            archive.add(path, entry).unwrap();
        }
        archive.finish().unwrap()
    }

    #[test]
    fn the_format_is_the_documented_one() {
        let bytes = archive();
        assert!(bytes.starts_with(b"07070100000001000041ED0000000000000000000000020000000000000000"));
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("hello\0\0\x00070701"), "{text}");
        assert!(text.contains("TRAILER!!!"));
        assert_eq!(bytes, archive());
    }

    #[test]
    fn cpio_reads_it() {
        let Some(cpio) = hostler_linux::tool::find("cpio") else {
            println!("skipped: no cpio");
            return;
        };
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("archive");
        std::fs::write(&file, archive()).unwrap();
        let call = |arguments: &[&str]| {
            let file = format!("--file={}", file.display());
            let arguments: Vec<&OsStr> =
                std::iter::once(file.as_str()).chain(arguments.iter().copied()).map(OsStr::new).collect();
            String::from_utf8(crate::program::call(place.path(), &cpio, &arguments, 10_000).unwrap()).unwrap()
        };
        assert_eq!(call(&["--list", "--quiet"]), "bin\nbin/a\nbin/sh\nnull\ntmp\n");
        let listed = call(&["--list", "--verbose", "--numeric-uid-gid", "--quiet"]);
        let lines: Vec<&str> = listed.lines().collect();
        assert!(lines[3].starts_with("crw-rw-rw-") && lines[3].contains("1,   3"), "{listed}");
        assert!(lines[4].starts_with("drwxrwxrwt") && lines[2].ends_with("bin/sh -> /bin/a"), "{listed}");
        call(&["--extract", "--quiet", "bin", "bin/*"]);
        let read = |path: &str| std::fs::read_to_string(place.path().join(path));
        assert_eq!(read("bin/a").unwrap(), "hello");
        assert_eq!(std::fs::read_link(place.path().join("bin/sh")).unwrap(), Path::new("/bin/a"));
    }
}
