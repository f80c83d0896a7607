//! Where a reader begins: after a known line, at the last N lines (read backwards, so that their number and not the
//! log's size is the cost), or at the first segment that may hold lines of a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use hostler_api::types::LogStream;

use super::reader::{BUFFER, Current, Filter};
use super::segment::{self, Position, RECORD_MAX, Record};

/// Most lines that `tail` goes back.
pub(super) const TAIL_MAX: u64 = 1_000_000;

/// How often a segment that was listed may be gone when it is opened, before something is wrong.
pub(super) const ATTEMPTS: usize = 16;

/// The first segment to read, opened at the right place, and how many segments are known to be lost before it.
/// `None`: there is no segment.
pub(super) fn find(directory: &Path, filter: &Filter, from: Option<Position>) -> io::Result<Option<(Current, u64)>> {
    for _ in 0..ATTEMPTS {
        let segments = segment::list(directory)?;
        if segments.is_empty() {
            return Ok(None);
        }
        let found = match (from, filter.tail) {
            (Some(from), _) => resume(directory, &segments, from)?,
            (None, Some(count)) => tail(directory, &segments, filter, count)?.map(|current| (current, 0)),
            (None, None) => {
                let oldest = since(directory, &segments, filter)?.max(of_run(directory, &segments, filter)?);
                let first = segments[oldest];
                open(directory, first)?.map(|file| (Current::new(first, file, 0), 0))
            }
        };
        // Nothing found: the segment was deleted after it was listed.
        if found.is_some() {
            return Ok(found);
        }
    }
    Err(too_fast())
}

pub(super) fn too_fast() -> io::Error {
    io::Error::other("log segments are deleted faster than they can be opened")
}

/// Opens a segment; `None` when it is gone.
pub(super) fn open(directory: &Path, segment: u64) -> io::Result<Option<File>> {
    match File::open(segment::path(directory, segment)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn resume(directory: &Path, segments: &[u64], from: Position) -> io::Result<Option<(Current, u64)>> {
    let beyond =
        || io::Error::new(io::ErrorKind::InvalidInput, format!("position {from} is beyond the end of this log"));
    let next = segments.iter().copied().find(|segment| *segment >= from.segment).ok_or_else(beyond)?;
    let Some(file) = open(directory, next)? else { return Ok(None) };
    if next > from.segment {
        // Whether the rest of the reader's segment was read cannot be told any more: it counts as lost.
        return Ok(Some((Current::new(next, file, 0), next - from.segment)));
    }
    if from.offset > file.metadata()?.len() {
        return Err(beyond());
    }
    Ok(Some((Current::new(next, file, from.offset), 0)))
}

/// Index of the oldest segment that may hold a line of the filter's time: all lines of a segment are older than the
/// first one of the next.
fn since(directory: &Path, segments: &[u64], filter: &Filter) -> io::Result<usize> {
    let Some(since_ms) = filter.since_ms else { return Ok(0) };
    for (index, segment) in segments.iter().enumerate().skip(1).rev() {
        if first_time_ms(directory, *segment)?.is_some_and(|first_ms| first_ms < since_ms) {
            return Ok(index);
        }
    }
    Ok(0)
}

/// Index of the segment in which the filter's run begins, or of one before it: the last that begins with an earlier run.
fn of_run(directory: &Path, segments: &[u64], filter: &Filter) -> io::Result<usize> {
    let Some(run) = filter.run else { return Ok(0) };
    for (index, segment) in segments.iter().enumerate().skip(1).rev() {
        if first(directory, *segment, |record| record.run)?.flatten().is_some_and(|first| first < run) {
            return Ok(index);
        }
    }
    Ok(0)
}

fn first_time_ms(directory: &Path, segment: u64) -> io::Result<Option<u64>> {
    first(directory, segment, |record| record.time_ms())
}

/// What the first record of a segment says.
fn first<T>(directory: &Path, segment: u64, look: impl FnOnce(&Record<'_>) -> T) -> io::Result<Option<T>> {
    let Some(file) = open(directory, segment)? else { return Ok(None) };
    // Time, stream and tags are enough.
    let mut start = [0; 128];
    let filled = file.read_at(&mut start, 0)?;
    let line = start[..filled].split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Record::parse(line).as_ref().map(look))
}

/// Where the last `count` matching lines begin. A long line is reached back to its first part, unless the other
/// stream's lines stand between its parts.
fn tail(directory: &Path, segments: &[u64], filter: &Filter, count: u64) -> io::Result<Option<Current>> {
    let oldest = since(directory, segments, filter)?;
    let mut counter = Counter { left: count.min(TAIL_MAX), seen: Vec::new() };
    let mut found: Option<Current> = None;
    for segment in segments[oldest..].iter().rev() {
        let Some(file) = open(directory, *segment)? else { break };
        let mut records = Backward::new(&file, file.metadata()?.len());
        let mut start = None;
        let mut end = 0;
        let mut enough = false;
        while let Some((offset, bytes)) = records.previous()? {
            end = end.max(offset + bytes.len() as u64 + 1);
            match Record::parse(bytes).map(|record| counter.count(&record, filter)) {
                Some(Counted::Wanted) => start = Some(offset),
                Some(Counted::Enough) => {
                    enough = true;
                    break;
                }
                Some(Counted::Unwanted) | None => {}
            }
        }
        // Without any line the reader begins at the end of the newest segment.
        if start.is_some() || found.is_none() {
            found = Some(Current::new(*segment, file, start.unwrap_or(end)));
        }
        if enough {
            break;
        }
    }
    Ok(found)
}

/// Counts lines, last to first.
struct Counter {
    left: u64,
    /// Streams of the lines counted so far: a part before one of them belongs to it.
    seen: Vec<LogStream>,
}

enum Counted {
    Wanted,
    Unwanted,
    Enough,
}

impl Counter {
    fn count(&mut self, record: &Record<'_>, filter: &Filter) -> Counted {
        let matches = filter.matches(record);
        let continues = record.partial && self.seen.contains(&record.stream);
        if matches && continues {
            return Counted::Wanted;
        }
        if self.left == 0 {
            return Counted::Enough;
        }
        if !matches {
            return Counted::Unwanted;
        }
        self.left -= 1;
        if !self.seen.contains(&record.stream) {
            self.seen.push(record.stream);
        }
        Counted::Wanted
    }
}

/// The records of a file from its end to its beginning, in blocks. What follows the last newline is no record yet.
pub(super) struct Backward<'a> {
    file: &'a File,
    /// What of the file is in memory, from its offset `from` on; `end` bytes of it are still to be looked at.
    block: Vec<u8>,
    from: u64,
    end: usize,
    /// What ends at `end` is no record: everything back to the next newline is passed over. Otherwise the byte before
    /// `end` is the newline of the next record.
    in_garbage: bool,
}

impl<'a> Backward<'a> {
    pub(super) fn new(file: &'a File, length: u64) -> Self {
        Self { file, block: Vec::new(), from: length, end: 0, in_garbage: true }
    }

    /// The record before the last one: where it begins, and its bytes without the newline.
    pub(super) fn previous(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        loop {
            let body = if self.in_garbage { self.end } else { self.end.saturating_sub(1) };
            if let Some(newline) = self.block[..body].iter().rposition(|byte| *byte == b'\n') {
                self.end = newline + 1;
                if std::mem::take(&mut self.in_garbage) {
                    continue;
                }
                return Ok(Some((self.from + self.end as u64, &self.block[self.end..body])));
            }
            if self.from == 0 {
                if std::mem::take(&mut self.end) == 0 || self.in_garbage {
                    return Ok(None);
                }
                return Ok(Some((0, &self.block[..body])));
            }
            self.in_garbage |= self.end > RECORD_MAX;
            if self.in_garbage {
                self.end = 0;
            }
            self.read_earlier()?;
        }
    }

    /// Puts the block before this one in front of what is still to be looked at.
    fn read_earlier(&mut self) -> io::Result<()> {
        let size = usize::try_from(self.from).unwrap_or(BUFFER).min(BUFFER);
        let mut block = vec![0; size];
        self.file.read_exact_at(&mut block, self.from - size as u64)?;
        block.extend_from_slice(&self.block[..self.end]);
        self.block = block;
        self.from -= size as u64;
        self.end += size;
        Ok(())
    }
}
