//! The write-ahead log: what is committed and not yet in the tables.
//!
//! ```text
//!  open ── records of the tables' epoch ──► replayed into the tables
//!                                                │ epoch + 1
//!                                                ▼
//!                        append ◄──────────── empty ◄─────────────────┐
//!                          │ one write, one fdatasync                 │ epoch + 1
//!                          ▼                                          │
//!                        append … does not fit ──► checkpoint: one transaction takes all of it
//! ```
//! A file of fixed size that is written over from its beginning again and again: an append changes blocks that the
//! file has already, so the file system has nothing of its own to record, and no room can be missing. The tables
//! name the epoch that belongs to them; a checkpoint moves it on in the same transaction, and with that everything
//! in the file is void.
//!
//! A record is a header, little-endian, its payload, and zeros up to a multiple of eight:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `hwal` |
//! | 4 | length of the payload |
//! | 8 | epoch |
//! | 4 | number of the record in its epoch, from 0 |
//! | 4 | CRC-32 of all the above and the payload |
//!
//! At most the last record can be torn: the one before was synced first. A record that is not whole and has a whole one
//! behind it is therefore damage, and said; otherwise it is the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::ballast::sync_directory;

const MAGIC: [u8; 4] = *b"hwal";
const HEADER: usize = 24;
const ALIGN: usize = 8;
/// Memory kept for the next record, bytes.
const BUFFER_KEPT: usize = 64 * 1024;

/// The storage of a log.
pub(crate) type Backend = Box<dyn StorageBackend>;

/// Where a store finds its log.
pub(crate) trait Place {
    /// The log, if there is one.
    fn find(&self) -> io::Result<Option<Backend>>;
    /// Makes one of this size, all zeros and durable, in the place of whatever is there.
    fn make(&self, size: u64) -> io::Result<Backend>;
}

/// The file beside a store.
pub(crate) struct Beside(PathBuf);

impl Beside {
    pub(crate) fn store(path: &Path) -> Self {
        Self(path.with_extension("wal"))
    }

    fn backend(file: File) -> io::Result<Backend> {
        Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
    }
}

impl Place for Beside {
    fn find(&self) -> io::Result<Option<Backend>> {
        match OpenOptions::new().read(true).write(true).open(&self.0) {
            Ok(file) => Self::backend(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make(&self, size: u64) -> io::Result<Backend> {
        let made = || {
            let mut options = OpenOptions::new();
            let mut file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&self.0)?;
            // Written, not only reserved: the first write to a reserved block is a change of the file's own records.
            io::copy(&mut io::repeat(0).take(size), &mut file)?;
            file.sync_all()?;
            sync_directory(&self.0)?;
            Self::backend(file)
        };
        made().inspect_err(|_| drop(fs::remove_file(&self.0)))
    }
}

/// The log while it is appended to.
#[derive(Debug)]
pub(crate) struct Wal {
    backend: Backend,
    size: usize,
    epoch: u64,
    /// Where the next record goes, and its number.
    at: usize,
    number: u32,
    buffer: Vec<u8>,
}

/// What a log holds for an epoch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// The payloads, in order, up to the first that is not whole.
    pub(crate) payloads: Vec<Vec<u8>>,
    /// The number of a whole record behind that one: it is damaged, not torn.
    pub(crate) behind: Option<u32>,
    /// The newest epoch that is in the file at all.
    pub(crate) newest: Option<u64>,
}

struct Header {
    length: usize,
    epoch: u64,
    number: u32,
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

/// The whole record that starts here, if there is one.
fn record(bytes: &[u8]) -> Option<(Header, &[u8])> {
    let (header, rest) = bytes.split_at_checked(HEADER)?;
    let word = |at: usize| header[at..at + 4].try_into().map(u32::from_le_bytes).ok();
    if !header.starts_with(&MAGIC) {
        return None;
    }
    let length = word(4)? as usize;
    let payload = rest.get(..length)?;
    let epoch = u64::from_le_bytes(header[8..16].try_into().ok()?);
    (checksum(&header[..20], payload) == word(20)?).then_some((Header { length, epoch, number: word(16)? }, payload))
}

/// Bytes that a payload takes in the log.
fn room(length: usize) -> usize {
    (HEADER + length).next_multiple_of(ALIGN)
}

/// Reads the records of an epoch.
pub(crate) fn recover(backend: &dyn StorageBackend, epoch: u64) -> io::Result<Recovered> {
    let mut content = vec![0; usize::try_from(backend.len()?).map_err(io::Error::other)?];
    backend.read(0, &mut content)?;
    let mut found = Recovered::default();
    let mut at = 0;
    while let Some((header, payload)) = content.get(at..).and_then(record) {
        if header.epoch != epoch || header.number as usize != found.payloads.len() {
            break;
        }
        found.payloads.push(payload.to_vec());
        at += room(header.length);
    }
    for start in (0..content.len()).step_by(ALIGN) {
        let Some((header, _)) = record(&content[start..]) else { continue };
        found.newest = found.newest.max(Some(header.epoch));
        if start >= at && header.epoch == epoch {
            found.behind = found.behind.or(Some(header.number));
        }
    }
    Ok(found)
}

impl Wal {
    /// An empty log in a file that is there in its full size.
    pub(crate) fn start(backend: Backend, epoch: u64) -> io::Result<Self> {
        let size = usize::try_from(backend.len()?).map_err(io::Error::other)?;
        Ok(Self { backend, size, epoch, at: 0, number: 0, buffer: Vec::new() })
    }

    /// Length of its file, bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size as u64
    }

    /// The epoch that is being written.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Appends what `encode` writes, durable when this returns. False, and nothing done, if there is no room for it.
    pub(crate) fn append(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>) -> io::Result<bool> {
        let mut record = std::mem::take(&mut self.buffer);
        record.clear();
        record.resize(HEADER, 0);
        encode(&mut record)?;
        let length = record.len() - HEADER;
        let Some(word) = u32::try_from(length).ok().filter(|_| room(length) <= self.size - self.at) else {
            return Ok(false);
        };
        record[..4].copy_from_slice(&MAGIC);
        record[4..8].copy_from_slice(&word.to_le_bytes());
        record[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        record[16..20].copy_from_slice(&self.number.to_le_bytes());
        let sum = checksum(&record[..20], &record[HEADER..]);
        record[20..HEADER].copy_from_slice(&sum.to_le_bytes());
        record.resize(room(length), 0);
        self.backend.write(self.at as u64, &record)?;
        self.backend.sync_data()?;
        self.at += record.len();
        self.number += 1;
        if record.capacity() <= BUFFER_KEPT {
            self.buffer = record;
        }
        Ok(true)
    }

    /// Begins again, after the tables took everything and say that this is the epoch now.
    pub(crate) fn restart(&mut self, epoch: u64) {
        (self.epoch, self.at, self.number) = (epoch, 0, 0);
    }
}
