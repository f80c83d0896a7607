//! The write-ahead log: what is committed and not yet in the tables.
//!
//! ```text
//!            ┌──────── epoch n, one half ────────┐        ┌────── epoch n + 1, the other half ──────┐
//!            │ append, append … does not fit ────┼─turn──►│ append, append … does not fit ──turn──► n + 2, …
//!            └──────────────┬────────────────────┘        └──────────────────────────────────────────┘
//!                           └── checkpoint: the tables take all of n, and say that they begin with n + 1
//! ```
//! A file of fixed size whose halves are written over in turn: an append changes blocks that the file has already, so
//! the file system has nothing of its own to record, and no room can be missing. The tables name the first epoch that
//! they do not have; a checkpoint moves that on in its own transaction, and with that what is older is void. A half is
//! written again when the tables have what it held.
//!
//! A record is a header, little-endian, its payload, and zeros up to a multiple of four:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `hwal` |
//! | 4 | length of the payload |
//! | 8 | identity of the store |
//! | 8 | epoch |
//! | 4 | number of the record in its epoch, from 0 |
//! | 4 | records in the epoch before |
//! | 4 | CRC-32 of all the above and the payload |
//!
//! At most the last record can be torn: the one before was synced first. A record that is not whole and has a whole one
//! behind it, in its own epoch or the next, is therefore damage, and said; otherwise it is the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use hostler_model::ids::StoreId;
use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::ballast::sync_directory;

const MAGIC: [u8; 4] = *b"hwal";
const HEADER: usize = 36;
const ALIGN: usize = 4;
/// Memory kept for the next record, bytes.
const BUFFER_KEPT: usize = 64 * 1024;

/// The storage of a log.
pub(crate) type Backend = Box<dyn StorageBackend>;

/// Where a store finds its log.
pub(crate) trait Place {
    /// The log, if there is one.
    fn find(&self) -> io::Result<Option<Backend>>;
    /// Sets a log aside that is left over from a store that was moved away: its last changes may be in there.
    fn set_aside(&self) -> io::Result<()>;
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

    fn set_aside(&self) -> io::Result<()> {
        match fs::rename(&self.0, self.0.with_extension("wal.old")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
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
    store: StoreId,
    epoch: u64,
    /// Where the next record goes in its half, and its number.
    at: usize,
    number: u32,
    /// Records in the epoch before.
    before: u32,
    buffer: Vec<u8>,
}

/// What a log holds that tables do not have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// The payloads, in order, up to the first that is not whole.
    pub(crate) payloads: Vec<Vec<u8>>,
    /// There are whole ones behind that one: it is damaged, not torn.
    pub(crate) damaged: bool,
    /// The newest epoch of this store that is in the file at all.
    pub(crate) newest: Option<u64>,
    /// There are records of another store.
    pub(crate) foreign: bool,
}

struct Header {
    length: usize,
    store: [u8; 8],
    epoch: u64,
    number: u32,
    before: u32,
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
    let store = header[8..16].try_into().ok()?;
    let epoch = u64::from_le_bytes(header[16..24].try_into().ok()?);
    let header_of = Header { length, store, epoch, number: word(24)?, before: word(28)? };
    (checksum(&header[..HEADER - 4], payload) == word(HEADER - 4)?).then_some((header_of, payload))
}

/// Where the half of an epoch begins.
fn half(size: usize, epoch: u64) -> usize {
    if epoch.is_multiple_of(2) { 0 } else { half_size(size) }
}

fn half_size(size: usize) -> usize {
    size / 2 / ALIGN * ALIGN
}

/// Bytes that a payload takes in the log.
fn room(length: usize) -> usize {
    (HEADER + length).next_multiple_of(ALIGN)
}

/// Reads the records of a store of this epoch and the next.
pub(crate) fn recover(backend: &dyn StorageBackend, store: StoreId, epoch: u64) -> io::Result<Recovered> {
    let mut content = vec![0; usize::try_from(backend.len()?).map_err(io::Error::other)?];
    backend.read(0, &mut content)?;
    let mut found = Recovered::default();
    let mut before = None;
    // Records that count are found one behind the other; of the same epochs there must be no other.
    let mut counted = 0;
    let epochs = [epoch, epoch.saturating_add(1)];
    for epoch in epochs {
        let mut at = half(content.len(), epoch);
        let mut number = 0;
        while let Some((header, payload)) = content.get(at..).and_then(record)
            && (header.store, header.epoch, header.number) == (*store.as_bytes(), epoch, number)
            && before.is_none_or(|before| before == header.before)
        {
            found.payloads.push(payload.to_vec());
            at += room(header.length);
            number += 1;
        }
        before = Some(number);
        counted += number;
    }
    let mut whole = 0;
    for (index, _) in content.chunks_exact(ALIGN).enumerate().filter(|(_, chunk)| *chunk == MAGIC) {
        let Some((header, _)) = record(&content[index * ALIGN..]) else { continue };
        if header.store != *store.as_bytes() {
            found.foreign = true;
            continue;
        }
        found.newest = found.newest.max(Some(header.epoch));
        whole += u32::from(epochs.contains(&header.epoch));
    }
    found.damaged = whole != counted;
    Ok(found)
}

impl Wal {
    /// An empty log in a file that is there in its full size.
    pub(crate) fn start(backend: Backend, store: StoreId, epoch: u64) -> io::Result<Self> {
        let size = usize::try_from(backend.len()?).map_err(io::Error::other)?;
        Ok(Self { backend, size, store, epoch, at: 0, number: 0, before: 0, buffer: Vec::new() })
    }

    /// Length of its file, bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size as u64
    }

    /// Room in this epoch, bytes, headers included.
    pub(crate) fn room(&self) -> usize {
        half_size(self.size) - self.at
    }

    /// Whether nothing of this epoch was appended.
    pub(crate) fn is_empty(&self) -> bool {
        self.number == 0
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
        let Some(word) = u32::try_from(length).ok().filter(|_| room(length) <= self.room()) else {
            return Ok(false);
        };
        record[..4].copy_from_slice(&MAGIC);
        record[4..8].copy_from_slice(&word.to_le_bytes());
        record[8..16].copy_from_slice(self.store.as_bytes());
        record[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        record[24..28].copy_from_slice(&self.number.to_le_bytes());
        record[28..32].copy_from_slice(&self.before.to_le_bytes());
        let sum = checksum(&record[..HEADER - 4], &record[HEADER..]);
        record[HEADER - 4..HEADER].copy_from_slice(&sum.to_le_bytes());
        record.resize(room(length), 0);
        self.backend.write((half(self.size, self.epoch) + self.at) as u64, &record)?;
        self.backend.sync_data()?;
        self.at += record.len();
        self.number += 1;
        if record.capacity() <= BUFFER_KEPT {
            self.buffer = record;
        }
        Ok(true)
    }

    /// Goes on with the next epoch, after the tables took everything of the one before this.
    pub(crate) fn turn(&mut self) {
        self.epoch += 1;
        (self.before, self.at, self.number) = (self.number, 0, 0);
    }
}
