//! The lease book: which set-ups there are, what they have and who has taken them, durable over a crash of the daemon.
//!
//! A file of lines, each with its checksum, in the order in which things were decided; now and then it is written anew with
//! what still counts. It is not synced to the disk for each line: what is leased is gone with a loss of power anyhow, but for
//! the leases of CNI plugins, which are. A last line that was torn is as if it had never been written: it was written
//! before anything was done for it.

pub(crate) mod leases;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use leases::{Entry, Leases};

/// Lines beyond what counts, before it is written anew.
const SPARE_LINES: usize = 4_096;
/// Longest book that is read, bytes.
const BOOK_MAX: u64 = 256 * 1024 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Title {
    boot_id: String,
}

/// The book, open.
#[derive(Debug)]
pub(crate) struct Book {
    path: PathBuf,
    boot_id: String,
    file: File,
    /// Of what is whole, bytes; behind it there may be half a line.
    length: u64,
    lines: usize,
    leases: Leases,
}

impl Book {
    /// Opens it, or begins one. Of an earlier boot only what CNI plugins have to undo counts.
    pub(crate) fn open(path: &Path, boot_id: &str) -> io::Result<Self> {
        let read = match read(path) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::default(),
            Err(error) => return Err(error),
        };
        let is_same_boot = read.title.as_ref().is_some_and(|title| title.boot_id == boot_id);
        let mut leases = read.leases;
        if !is_same_boot {
            let old: Vec<_> = leases.all().filter(|lease| !lease.cni).map(|lease| lease.setup).collect();
            old.into_iter().for_each(|setup| leases.apply(Entry::Free(setup)));
        }
        let lines = leases.len();
        // A full disk has no room for a new one; then the old one goes on, without what was torn.
        let (file, length) = write_anew(path, boot_id, &leases).or_else(|error| match read.length {
            Some(length) if is_same_boot => cut(path, length).map(|file| (file, length)).map_err(|_| error),
            _ => Err(error),
        })?;
        Ok(Self { path: path.to_owned(), boot_id: boot_id.to_owned(), file, length, lines, leases })
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    pub(crate) fn leases_mut(&mut self) -> &mut Leases {
        &mut self.leases
    }

    /// Writes a line, and then it is so.
    pub(crate) fn write(&mut self, entry: Entry) -> io::Result<()> {
        let mut line = Vec::new();
        encode(&entry, &mut line)?;
        if let Err(error) = self.file.write_all(&line) {
            // Half a line would make the next one unreadable.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += line.len() as u64;
        self.lines += 1;
        self.leases.apply(entry);
        if self.lines > 2 * self.leases.len() + SPARE_LINES {
            self.shorten();
        }
        Ok(())
    }

    /// What is written so far, to be synced by who needs that over a loss of power.
    pub(crate) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The line cannot be written, and it is so all the same: the next daemon finds it out by looking.
    pub(crate) fn write_or_remember(&mut self, entry: Entry) {
        if let Err(error) = self.write(entry.clone()) {
            tracing::warn!(%error, book = %self.path.display(), "writing the lease book");
            self.leases.apply(entry);
        }
    }

    /// Where that is impossible, it goes on as it is.
    fn shorten(&mut self) {
        if let Ok((file, length)) = write_anew(&self.path, &self.boot_id, &self.leases) {
            (self.file, self.length) = (file, length);
            self.lines = self.leases.len();
        }
    }
}

fn encode(value: &impl Serialize, line: &mut Vec<u8>) -> io::Result<()> {
    let json = serde_json::to_vec(value)?;
    write!(line, "{:08x} ", crc32fast::hash(&json))?;
    line.extend_from_slice(&json);
    line.push(b'\n');
    Ok(())
}

/// What a line says, if it is whole.
fn decode<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    let (sum, json) = (line.get(..8)?, line.get(9..)?);
    let sum = u32::from_str_radix(std::str::from_utf8(sum).ok()?, 16).ok()?;
    if sum != crc32fast::hash(json) { None } else { serde_json::from_slice(json).ok() }
}

/// What a book says.
#[derive(Debug, Default)]
struct Content {
    title: Option<Title>,
    leases: Leases,
    /// Of what is whole, bytes; nothing when there is no title.
    length: Option<u64>,
}

fn read(path: &Path) -> io::Result<Content> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BOOK_MAX).read_to_end(&mut bytes)?;
    Ok(parse(&bytes))
}

fn parse(bytes: &[u8]) -> Content {
    let mut content = Content::default();
    let mut length = 0;
    // What comes behind a line that is not whole was written by nobody.
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(whole) = line.strip_suffix(b"\n") else { break };
        if content.title.is_none() {
            let Some(title) = decode(whole) else { break };
            content.title = Some(title);
        } else {
            let Some(entry) = decode(whole) else { break };
            content.leases.apply(entry);
        }
        length += line.len() as u64;
        content.length = Some(length);
    }
    content
}

/// Opens it without what is behind this length.
fn cut(path: &Path, length: u64) -> io::Result<File> {
    let file = OpenOptions::new().append(true).open(path)?;
    file.set_len(length)?;
    Ok(file)
}

fn write_anew(path: &Path, boot_id: &str, leases: &Leases) -> io::Result<(File, u64)> {
    let mut bytes = Vec::new();
    encode(&Title { boot_id: boot_id.to_owned() }, &mut bytes)?;
    leases.entries().try_for_each(|entry| encode(&entry, &mut bytes))?;
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    file.sync_data()?;
    fs::rename(&new, path)?;
    Ok((OpenOptions::new().append(true).open(path)?, bytes.len() as u64))
}

#[cfg(test)]
mod tests {
    use super::leases::Lease;
    use super::*;
    use hostler_model::ids::{NetworkId, SetupId};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn lease(number: u8, cni: bool) -> Lease {
        Lease {
            setup: SetupId::from_bytes([number; 4]),
            network: NetworkId::from_bytes([1; 3]),
            ip: Some(Ipv4Addr::new(10, 0, 0, number)),
            ip6: None,
            cni,
            made: false,
            user: None,
        }
    }

    fn setups(book: &Book) -> Vec<SetupId> {
        book.leases().all().map(|lease| lease.setup).collect()
    }

    #[test]
    fn over_crashes_and_boots() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("leases");
        let mut book = Book::open(&path, "one").expect("new");
        for number in 1..=3 {
            book.write(Entry::Lease(lease(number, number == 3))).expect("written");
        }
        book.write(Entry::Free(SetupId::from_bytes([1; 4]))).expect("written");
        drop(book);
        assert_eq!(setups(&Book::open(&path, "one").expect("again")).len(), 2);
        let later = Book::open(&path, "two").expect("after a reboot");
        assert_eq!(setups(&later), [SetupId::from_bytes([3; 4])], "only what CNI plugins have to undo");
    }

    #[test]
    fn what_was_torn_is_cut_off() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("leases");
        let mut book = Book::open(&path, "one").expect("new");
        book.write(Entry::Lease(lease(1, false))).expect("written");
        let whole = std::fs::read(&path).expect("there");
        std::fs::write(&path, [&whole[..], b"0000 half"].concat()).expect("torn");
        let length = parse(&std::fs::read(&path).expect("there")).length.expect("a title");
        assert_eq!(length, whole.len() as u64);
        drop(cut(&path, length).expect("cut"));
        assert_eq!(std::fs::read(&path).expect("there"), whole);
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("leases");
        let mut book = Book::open(&path, "one").expect("new");
        for _ in 0..3 * SPARE_LINES {
            book.write(Entry::Lease(lease(1, false))).expect("written");
        }
        let size = std::fs::metadata(&path).expect("there").len();
        assert!(size < 200 * (SPARE_LINES as u64 + 100), "{size}");
        drop(book);
        assert_eq!(setups(&Book::open(&path, "one").expect("again")).len(), 1);
    }

    proptest! {
        /// However much of the last lines was written: what comes before them counts.
        #[test]
        fn torn_anywhere(ops in proptest::collection::vec((1_u8..9, any::<bool>()), 1..20), cut in any::<prop::sample::Index>()) {
            let mut bytes = Vec::new();
            encode(&Title { boot_id: "one".to_owned() }, &mut bytes).expect("a title");
            let mut ends = vec![(bytes.len(), Vec::new())];
            let mut leases = Leases::default();
            for (number, free) in ops {
                let entry = if free { Entry::Free(SetupId::from_bytes([number; 4])) } else { Entry::Lease(lease(number, false)) };
                encode(&entry, &mut bytes).expect("an entry");
                leases.apply(entry);
                ends.push((bytes.len(), leases.all().cloned().collect()));
            }
            let cut = cut.index(bytes.len() + 1);
            let Content { title, leases: read, length } = parse(&bytes[..cut]);
            let expected = ends.iter().rev().find(|(end, _)| *end <= cut);
            prop_assert_eq!(title.is_some(), expected.is_some());
            prop_assert_eq!(length, expected.map(|(end, _)| *end as u64));
            let found: Vec<_> = read.all().cloned().collect();
            prop_assert_eq!(found, expected.map(|(_, leases)| leases.clone()).unwrap_or_default());
        }

        #[test]
        fn rubbish_is_no_book(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }
    }
}
