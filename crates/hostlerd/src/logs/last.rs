//! The last lines of each stream of one run, for its result: read backwards, at most so many lines, so many bytes of
//! each, and so much of the log, whatever the log's size.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use hostler_api::result::ResultLine;
use hostler_api::types::LogStream;
use hostler_model::{ByteString, limits};

use super::segment::{self, Position, Record};
use super::start::{Backward, open};

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Of stdout, at most.
    pub(crate) stdout: u64,
    /// Of stderr, at most.
    pub(crate) stderr: u64,
    /// Where the run's part of the log begins.
    pub(crate) begin: Begin,
}

/// The beginning of a run in the log of its workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Here, as the agent said.
    At(Position),
    /// With the first line of this time, wall clock, milliseconds: the agent could not say.
    Since(u64),
}

/// The last lines of both streams.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Last {
    /// Oldest first.
    pub(crate) stdout: Vec<ResultLine>,
    /// Oldest first.
    pub(crate) stderr: Vec<ResultLine>,
    /// These are all lines of the run: the search came to its beginning.
    pub(crate) whole: bool,
}

/// A stream's lines, found last to first.
struct Lines {
    found: VecDeque<ResultLine>,
    wanted: usize,
    full: bool,
    /// A line before the first found was seen.
    more: bool,
}

impl Lines {
    fn new(wanted: u64) -> Self {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        Self { found: VecDeque::new(), wanted, full: wanted == 0, more: false }
    }

    fn take(&mut self, record: &Record<'_>) {
        if self.full {
            self.more = true;
            return;
        }
        let is_enough = self.found.len() == self.wanted;
        match self.found.front_mut() {
            // A part that goes on in what was found before.
            Some(line) if record.partial => prepend(line, record),
            _ if is_enough => (self.full, self.more) = (true, true),
            _ => {
                let mut line = ResultLine { time: String::new(), text: ByteString::default(), cut_bytes: 0 };
                prepend(&mut line, record);
                self.found.push_front(line);
            }
        }
    }

    fn finish(self) -> Vec<ResultLine> {
        self.found.into_iter().map(|line| ResultLine { text: whole_characters(&line.text), ..line }).collect()
    }
}

/// Puts an earlier part in front; the line keeps its first bytes, and counts the others.
fn prepend(line: &mut ResultLine, record: &Record<'_>) {
    let length = (record.text.len() + line.text.as_bytes().len()) as u64 + line.cut_bytes;
    let bytes = record.text.iter().chain(line.text.as_bytes()).take(limits::RESULT_LINE_MAX);
    let text: Vec<u8> = bytes.copied().collect();
    line.cut_bytes = length - text.len() as u64;
    line.text = text.into();
    record.time.clone_into(&mut line.time);
}

/// A character that was cut in two must not make bytes of what is text.
fn whole_characters(text: &ByteString) -> ByteString {
    let bytes = text.as_bytes();
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() && bytes.len() == limits::RESULT_LINE_MAX => {
            bytes[..error.valid_up_to()].to_vec().into()
        }
        _ => text.clone(),
    }
}

/// The last lines of the run that begins there and is the last of its workload.
pub(crate) fn last(directory: &Path, wanted: &Wanted) -> io::Result<Last> {
    let mut streams = [Lines::new(wanted.stdout), Lines::new(wanted.stderr)];
    let segments = segment::list(directory)?;
    let mut scanned = 0;
    for number in segments.iter().copied().rev() {
        let begin = match wanted.begin {
            Begin::At(from) if number < from.segment => break,
            Begin::At(from) if number == from.segment => from.offset,
            _ => 0,
        };
        // Deleted since it was listed, and those before it as well.
        let Some(file) = open(directory, number)? else { return Ok(finish(streams, false)) };
        let mut records = Backward::new(&file, file.metadata()?.len());
        while let Some((offset, bytes)) = records.previous()? {
            if offset < begin {
                return Ok(finish(streams, true));
            }
            scanned += bytes.len() as u64 + 1;
            if scanned > limits::RESULT_SCAN_MAX || streams.iter().all(|stream| stream.full) {
                return Ok(finish(streams, false));
            }
            let Some(record) = Record::parse(bytes) else { continue };
            if matches!(wanted.begin, Begin::Since(since_ms) if record.time_ms() < since_ms) {
                return Ok(finish(streams, true));
            }
            streams[usize::from(record.stream == LogStream::Stderr)].take(&record);
        }
    }
    // The oldest segments may be gone.
    let first = match wanted.begin {
        Begin::At(from) => from.segment,
        Begin::Since(_) => 1,
    };
    let to_the_beginning = segments.first().is_none_or(|oldest| *oldest <= first);
    Ok(finish(streams, to_the_beginning))
}

fn finish([stdout, stderr]: [Lines; 2], to_the_beginning: bool) -> Last {
    let whole = to_the_beginning && !stdout.more && !stderr.more;
    Last { stdout: stdout.finish(), stderr: stderr.finish(), whole }
}
