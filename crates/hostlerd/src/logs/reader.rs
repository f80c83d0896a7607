//! A reader that goes forward over the segments of one log.
//!
//! It keeps the file of its current segment open, so that a segment deleted meanwhile is still read to its end; only
//! then does it find that those after it may be gone too. Between two batches it holds a descriptor and a position and
//! no buffer, so a stalled reader costs next to nothing.
//!
//! Everything here blocks on files: call it from a blocking thread.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use hostler_api::stream::LogLine;
use hostler_api::types::LogStream;

use super::segment::{self, Position, RECORD_MAX, Record};
use super::start;

/// Read at a time, bytes. Longer than any record, so that a full buffer without a newline is garbage.
pub(super) const BUFFER: usize = 64 * 1024;
const _: () = assert!(BUFFER > RECORD_MAX);

/// Looked at in one go, bytes: after that a batch is given away as it is, and one without lines only goes on to where
/// the log ends at that moment. A filter that matches nothing must not read for ever behind a fast writer.
const SCAN_MAX: usize = if cfg!(test) { 128 * 1024 } else { 16 * 1024 * 1024 };

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Filter {
    /// Only lines from this time on, wall clock, milliseconds. Whole segments are passed over by their first times, so
    /// lines written while the clock was set back may be missed.
    pub(crate) since_ms: Option<u64>,
    /// Only the output of this run, by its number; not together with `tail`. Records before the first mark of any run
    /// are of none.
    pub(crate) run: Option<u32>,
    /// Only this stream.
    pub(crate) stream: Option<LogStream>,
    /// Only the last matching lines, count; not when resuming from a position. The parts of a long line are one line.
    pub(crate) tail: Option<u64>,
}

impl Filter {
    pub(super) fn matches(&self, record: &Record<'_>) -> bool {
        self.stream.is_none_or(|stream| stream == record.stream)
            && self.since_ms.is_none_or(|since_ms| record.time_ms() >= since_ms)
    }
}

/// Some of what was new.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Batch {
    /// Matching lines, each with the position right after it.
    pub(crate) lines: Vec<(Position, LogLine)>,
    /// Segments deleted unread before the first of these lines.
    pub(crate) lost_segments: u64,
    /// Records that made no sense and were passed over.
    pub(crate) skipped_records: u64,
    /// There was nothing more when this was asked. Always so when there are no lines.
    pub(crate) at_end: bool,
}

/// A reader of one log.
#[derive(Debug)]
pub(crate) struct LogReader {
    directory: PathBuf,
    filter: Filter,
    /// Where to begin when there is no segment yet.
    wanted: Option<Position>,
    current: Option<Current>,
    /// Found at the end of the last batch, to be told with the next.
    lost_segments: u64,
}

/// A segment that is being read.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) segment: u64,
    pub(super) file: File,
    /// Of the next record.
    pub(super) offset: u64,
    /// A newer segment was seen: this one grows no more.
    closed: bool,
    /// Within a record that is too long to be one.
    in_garbage: bool,
    /// Whose output this is, as far as a mark has told.
    run: Option<u32>,
}

impl Current {
    pub(super) fn new(segment: u64, file: File, offset: u64) -> Self {
        Self { segment, file, offset, closed: false, in_garbage: false, run: None }
    }
}

/// What a batch may still take.
struct Budget {
    taken: usize,
    taken_max: usize,
    scanned: usize,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.taken >= self.taken_max || self.scanned >= SCAN_MAX
    }
}

/// How reading a segment went.
enum Read {
    BudgetSpent,
    /// To the last whole record; so many bytes of an unfinished one follow.
    ToEnd(usize),
}

impl LogReader {
    /// Opens the log in `directory`, which need not exist yet. With `from`, reading goes on right after that line and
    /// `tail` does not count. A position beyond the log's end is [`io::ErrorKind::InvalidInput`].
    pub(crate) fn open(directory: PathBuf, filter: Filter, from: Option<Position>) -> io::Result<Self> {
        let mut reader = Self { directory, filter, wanted: from, current: None, lost_segments: 0 };
        reader.begin()?;
        // What comes into an empty log is all new.
        reader.filter.tail = None;
        Ok(reader)
    }

    /// The next lines, as they are now: at least one if there is one, and no more after `max_bytes` of records.
    pub(crate) fn next_batch(&mut self, max_bytes: usize) -> io::Result<Batch> {
        let mut batch = Batch::default();
        let mut budget = Budget { taken: 0, taken_max: max_bytes.max(1), scanned: 0 };
        let mut buffer = vec![0; BUFFER];
        if self.current.is_none() {
            self.begin()?;
        }
        batch.lost_segments = std::mem::take(&mut self.lost_segments);
        let mut end = None;
        loop {
            let Some(current) = &mut self.current else {
                batch.at_end = true;
                return Ok(batch);
            };
            let unfinished = match current.read(&self.filter, &mut buffer, &mut budget, &mut batch)? {
                Read::BudgetSpent if batch.lines.is_empty() => {
                    let position = current.position();
                    budget.scanned = 0;
                    if end.is_some_and(|end| position >= end) {
                        batch.at_end = true;
                        return Ok(batch);
                    }
                    end = Some(end.map_or_else(|| self.end(), Ok)?);
                    continue;
                }
                Read::BudgetSpent => return Ok(batch),
                Read::ToEnd(unfinished) => unfinished,
            };
            if !current.closed {
                // More may have been written before the next segment was begun: once closed, read it to its end again.
                current.closed = segment::list(&self.directory)?.iter().any(|other| *other > current.segment);
                if current.closed {
                    continue;
                }
                batch.at_end = true;
                return Ok(batch);
            }
            let Some((next, lost)) = self.next_segment()? else {
                batch.at_end = true;
                return Ok(batch);
            };
            batch.skipped_records += u64::from(unfinished > 0);
            self.current = Some(next);
            if lost > 0 && !batch.lines.is_empty() {
                // The gap comes after these lines.
                self.lost_segments = lost;
                return Ok(batch);
            }
            batch.lost_segments += lost;
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        if let Some((current, lost)) = start::find(&self.directory, &self.filter, self.wanted)? {
            self.current = Some(current);
            self.lost_segments = lost;
        }
        Ok(())
    }

    /// Where the log ends now.
    fn end(&self) -> io::Result<Position> {
        let segment = segment::list(&self.directory)?.last().copied().unwrap_or(0);
        let offset =
            start::open(&self.directory, segment)?.map_or(Ok(0), |file| Ok::<_, io::Error>(file.metadata()?.len()))?;
        Ok(Position { segment, offset })
    }

    /// The oldest segment after the current one, and how many between them are gone.
    fn next_segment(&self) -> io::Result<Option<(Current, u64)>> {
        let after = self.current.as_ref().map_or(0, |current| current.segment);
        for _ in 0..start::ATTEMPTS {
            let Some(next) = segment::list(&self.directory)?.into_iter().find(|other| *other > after) else {
                return Ok(None);
            };
            if let Some(file) = start::open(&self.directory, next)? {
                return Ok(Some((Current::new(next, file, 0), next - after - 1)));
            }
        }
        Err(start::too_fast())
    }
}

impl Current {
    fn position(&self) -> Position {
        Position { segment: self.segment, offset: self.offset }
    }

    fn read(&mut self, filter: &Filter, buffer: &mut [u8], budget: &mut Budget, batch: &mut Batch) -> io::Result<Read> {
        while !budget.is_spent() {
            let filled = fill(&self.file, self.offset, buffer)?;
            let consumed = self.take_records(&buffer[..filled], filter, budget, batch);
            budget.scanned += consumed;
            self.offset += consumed as u64;
            if consumed == 0 {
                return Ok(Read::ToEnd(filled));
            }
        }
        Ok(Read::BudgetSpent)
    }

    /// Takes whole records out of `data`, which begins at the offset. Returns how many bytes are dealt with.
    fn take_records(&mut self, data: &[u8], filter: &Filter, budget: &mut Budget, batch: &mut Batch) -> usize {
        let mut at = 0;
        while !budget.is_spent() {
            let rest = &data[at..];
            let Some(length) = rest.iter().position(|byte| *byte == b'\n') else {
                if self.in_garbage {
                    return data.len();
                }
                if rest.len() >= RECORD_MAX {
                    self.in_garbage = true;
                    batch.skipped_records += 1;
                    return data.len();
                }
                return at;
            };
            at += length + 1;
            if std::mem::take(&mut self.in_garbage) {
                continue;
            }
            let record = Record::parse(&rest[..length]);
            self.run = record.and_then(|record| record.run).or(self.run);
            match record {
                Some(record) if filter.matches(&record) && filter.run.is_none_or(|run| self.run == Some(run)) => {
                    budget.taken += length + 1;
                    let position = Position { segment: self.segment, offset: self.offset + at as u64 };
                    batch.lines.push((position, record.to_line()));
                }
                Some(_) => {}
                None => batch.skipped_records += 1,
            }
        }
        at
    }
}

/// Reads until the buffer is full or the file at its end.
fn fill(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
