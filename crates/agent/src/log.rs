//! The log of a run: CRI lines in numbered segments.
//!
//! ```text
//! 2024-05-01T12:34:56.123456789Z stdout F a whole line, or the last part of one
//! 2024-05-01T12:34:56.123456789Z stdout F:run=3 the first record of this run in this segment
//! 2024-05-01T12:34:56.123456789Z stderr P a part of a line longer than LOG_LINE_MAX
//! ```
//! Segments are `00000001.log`, `00000002.log`, …; a restarted workload goes on in the newest. What the program wrote
//! last without a newline is written as `F` when its stream ends. The program never waits for the log: what cannot be
//! written is dropped, and counted in a line of its own (on `stderr`) at the next success. One `write` for each read,
//! larger ones in pieces; a record that was written in part is cut off again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use hostler_linux::clock;
use hostler_model::exit::LogPlace;
use hostler_model::limits::LOG_LINE_MAX;
use hostler_model::spec;

/// Formatted bytes after which a write is made, whatever is still to be formatted.
const WRITE_SIZE: usize = 256 * 1024;
/// Formatted bytes that are kept allocated between reads.
const KEEP: usize = 8 * 1024;

/// Where in a record more tags can follow the first: after the time, the stream, and `F` or `P`.
const TAGS_AT: usize = "YYYY-MM-DDTHH:MM:SS.nnnnnnnnnZ stdout F".len();

/// Which stream a line came from; a terminal has `Stdout` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// The segment that is written to.
struct Segment {
    file: File,
    number: u32,
    size: u64,
    /// A record of this run is in it: the next ones are the same run's.
    tagged: bool,
}

/// The log of one run.
pub(crate) struct Log {
    /// The run's number: readers tell by it where the output of a run begins.
    run: u32,
    directory: PathBuf,
    kept: spec::Log,
    segment: Option<Segment>,
    /// Unterminated ends of both streams.
    pending: [Vec<u8>; 2],
    /// Formatted records, and how many bytes of output they carry.
    batch: Vec<u8>,
    batch_payload: u64,
    /// Output lost since the last success, and why.
    dropped: u64,
    reason: String,
    /// Output lost in all.
    dropped_total: u64,
    /// Lines taken from each stream, and marker lines with those of stderr.
    lines: [u64; 2],
    /// Where the first record of the run was written.
    from: Option<LogPlace>,
}

/// `YYYY-MM-DDTHH:MM:SS.nnnnnnnnnZ`. Days to date by Howard Hinnant's `civil_from_days`, for dates from 1970 on.
pub(crate) fn timestamp(seconds: u64, nanoseconds: u32) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

fn prefix(source: Source) -> [Vec<u8>; 2] {
    let (seconds, nanoseconds) = clock::wall();
    let time = timestamp(seconds, nanoseconds);
    let stream = match source {
        Source::Stdout => "stdout",
        Source::Stderr => "stderr",
    };
    [format!("{time} {stream} F ").into_bytes(), format!("{time} {stream} P ").into_bytes()]
}

/// What the disk said, in words for the log's readers.
fn words(error: &io::Error) -> String {
    hostler_linux::spawn::errno_text(error)
}

fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

impl Log {
    pub(crate) fn new(directory: &Path, kept: spec::Log, run: u32) -> Self {
        Self {
            run,
            directory: directory.to_path_buf(),
            kept,
            segment: None,
            pending: [Vec::new(), Vec::new()],
            batch: Vec::new(),
            batch_payload: 0,
            dropped: 0,
            reason: String::new(),
            dropped_total: 0,
            lines: [0; 2],
            from: None,
        }
    }

    /// Lines that were taken from a stream; a last one without newline counts once the stream has ended.
    pub(crate) fn lines(&self, source: Source) -> u64 {
        self.lines[source as usize]
    }

    /// Where the run's part of the log begins, once it has one.
    pub(crate) fn from(&self) -> Option<LogPlace> {
        self.from
    }

    /// Output that was lost, bytes.
    pub(crate) fn dropped_bytes(&self) -> u64 {
        self.dropped_total
    }

    /// Takes what was read from a stream.
    pub(crate) fn write(&mut self, source: Source, mut data: &[u8]) {
        let [full, partial] = prefix(source);
        let mut pending = std::mem::take(&mut self.pending[source as usize]);
        while !data.is_empty() {
            let mut rest = data;
            // Over memory, it finds the newline or the end; it cannot fail.
            let length = rest.skip_until(b'\n').unwrap_or(data.len());
            let whole = data[..length].last() == Some(&b'\n');
            let mut line = &data[..length - usize::from(whole)];
            data = &data[length..];
            while pending.len() + line.len() > LOG_LINE_MAX {
                let part = LOG_LINE_MAX - pending.len();
                self.record(&partial, &pending, &line[..part], 0);
                pending = Vec::new();
                line = &line[part..];
            }
            if whole {
                self.lines[source as usize] += 1;
                self.record(&full, &pending, line, 1);
                if !pending.is_empty() {
                    pending = Vec::new();
                }
            } else {
                pending.extend_from_slice(line);
            }
        }
        self.pending[source as usize] = pending;
        self.flush();
        if self.batch.capacity() > KEEP && self.batch.capacity() < WRITE_SIZE / 4 {
            self.batch = Vec::new();
        }
    }

    /// Formats a record; `newlines` is how many the program wrote at its end.
    fn record(&mut self, prefix: &[u8], head: &[u8], tail: &[u8], newlines: usize) {
        self.batch.extend_from_slice(prefix);
        self.batch.extend_from_slice(head);
        self.batch.extend_from_slice(tail);
        self.batch.push(b'\n');
        self.batch_payload += (head.len() + tail.len() + newlines) as u64;
        let room = self.segment.as_ref().map_or(0, |open| self.kept.segment_bytes.saturating_sub(open.size));
        if self.batch.len() >= WRITE_SIZE || self.batch.len() as u64 >= room.max(1) {
            self.flush();
        }
    }

    /// The stream is at its end: its last line is complete as it is.
    pub(crate) fn end(&mut self, source: Source) {
        let pending = std::mem::take(&mut self.pending[source as usize]);
        if !pending.is_empty() {
            let [full, _] = prefix(source);
            self.lines[source as usize] += 1;
            self.record(&full, &pending, b"", 0);
            self.flush();
        }
    }

    /// Ends both streams and closes the file.
    pub(crate) fn close(&mut self) {
        self.end(Source::Stdout);
        self.end(Source::Stderr);
        if self.dropped > 0 {
            // One more try, so that the loss shows.
            self.flush_with_marker();
        }
        self.segment = None;
        self.batch = Vec::new();
    }

    /// Gives back memory that a burst took.
    pub(crate) fn shed(&mut self) {
        if self.batch.capacity() > KEEP {
            self.batch = Vec::new();
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.dropped > 0 {
            return self.flush_with_marker();
        }
        if let Err(error) = self.write_batch() {
            self.lose(&error);
        }
        self.batch.clear();
        self.batch_payload = 0;
    }

    fn lose(&mut self, error: &io::Error) {
        self.dropped += self.batch_payload;
        self.dropped_total += self.batch_payload;
        self.reason = words(error);
    }

    fn flush_with_marker(&mut self) {
        let [mut marked, _] = prefix(Source::Stderr);
        let text = format!("[hostler: {} bytes of output were dropped: {}]\n", self.dropped, self.reason);
        marked.extend_from_slice(text.as_bytes());
        marked.append(&mut self.batch);
        self.batch = marked;
        match self.write_batch() {
            Ok(()) => {
                self.dropped = 0;
                self.lines[Source::Stderr as usize] += 1;
            }
            Err(error) => self.lose(&error),
        }
        self.batch.clear();
        self.batch_payload = 0;
    }

    fn write_batch(&mut self) -> io::Result<()> {
        if self.segment.as_ref().is_none_or(|open| open.size >= self.kept.segment_bytes) {
            self.next_segment()?;
        }
        let segment = self.segment.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        if !segment.tagged {
            let tag = format!(":run={}", self.run);
            self.batch.splice(TAGS_AT..TAGS_AT, tag.into_bytes());
        }
        match segment.file.write_all(&self.batch) {
            Ok(()) => {
                self.from.get_or_insert(LogPlace { segment: segment.number, offset: segment.size });
                segment.tagged = true;
                segment.size += self.batch.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Cut off what was written of it. If even that fails, the file is opened anew and mended then.
                if segment.file.set_len(segment.size).is_err() {
                    self.segment = None;
                }
                Err(error)
            }
        }
    }

    fn path(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{number:08}.log"))
    }

    /// Opens the segment to write to: the newest if it has room, the one after it otherwise; removes those beyond
    /// the count that is kept.
    fn next_segment(&mut self) -> io::Result<()> {
        let mut numbers = match std::fs::read_dir(&self.directory) {
            Ok(entries) => {
                entries.filter_map(|entry| segment_number(entry.ok()?.file_name().to_str()?)).collect::<Vec<_>>()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        numbers.sort_unstable();
        let newest = numbers.last().copied();
        let full = self.segment.take().map(|full| full.number);
        let mut segment = match newest {
            Some(number) if full.is_none_or(|full| full < number) => self.open(number)?,
            _ => self.open(newest.max(full).unwrap_or(0).saturating_add(1))?,
        };
        if segment.size >= self.kept.segment_bytes {
            segment = self.open(segment.number.saturating_add(1))?;
        }
        let keep_from = (segment.number + 1).saturating_sub(self.kept.segments.max(1));
        for old in numbers.into_iter().filter(|number| *number < keep_from) {
            let _ = std::fs::remove_file(self.path(old));
        }
        self.segment = Some(segment);
        Ok(())
    }

    fn open(&self, number: u32) -> io::Result<Segment> {
        let path = self.path(number);
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut size = file.seek(SeekFrom::End(0))?;
        if size > 0 {
            // An agent that died while writing left a record without its end.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                size += 1;
            }
        }
        Ok(Segment { file, number, size, tagged: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let data = [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, 5, "2000-02-29T00:00:00.000000005Z"),
            (1_714_566_896, 123_456_789, "2024-05-01T12:34:56.123456789Z"),
            (4_107_542_399, 999_999_999, "2100-02-28T23:59:59.999999999Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
        ];
        for (seconds, nanoseconds, text) in data {
            assert_eq!(timestamp(seconds, nanoseconds), text);
        }
    }

    fn contents(directory: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let text = text.replace(":run=3 ", " ");
                let lines: Vec<_> = text.lines().map(|line| line.split_once("Z ").unwrap().1).collect();
                (entry.file_name().into_string().unwrap(), lines.join("\n"))
            })
            .collect();
        files.sort();
        files
    }

    #[test]
    fn lines_parts_and_ends() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("a/b");
        let mut log = Log::new(&directory, spec::Log::default(), 3);
        let long = "x".repeat(LOG_LINE_MAX);
        log.write(Source::Stdout, b"one\ntwo\n\nthr");
        log.write(Source::Stderr, b"between\n");
        log.write(Source::Stdout, b"ee\n");
        log.write(Source::Stdout, format!("{long}\n{long}{long}y\n").as_bytes());
        log.write(Source::Stdout, b"end");
        assert_eq!((log.lines(Source::Stdout), log.lines(Source::Stderr)), (6, 1));
        log.close();
        assert_eq!((log.lines(Source::Stdout), log.lines(Source::Stderr)), (7, 1));
        assert_eq!(log.from(), Some(LogPlace { segment: 1, offset: 0 }));
        let expected = format!(
            "stdout F one\nstdout F two\nstdout F \nstderr F between\nstdout F three\nstdout F {long}\n\
             stdout P {long}\nstdout P {long}\nstdout F y\nstdout F end"
        );
        assert_eq!(contents(&directory), [("00000001.log".to_owned(), expected)]);
    }

    #[test]
    fn each_run_marks_where_it_begins_in_each_segment() {
        let root = tempfile::tempdir().unwrap();
        let kept = spec::Log { segment_bytes: 4_096, segments: 9 };
        for run in 7..9 {
            let mut log = Log::new(root.path(), kept, run);
            let source = if run == 7 { Source::Stdout } else { Source::Stderr };
            log.write(source, "z\n".repeat(120).as_bytes());
            log.close();
        }
        let mut marks = Vec::new();
        for (name, text) in contents(root.path()) {
            let marked =
                text.lines().filter_map(|line| line.split_once(":run=")).map(|(stream, rest)| (stream, &rest[..3]));
            marks.push((
                name[6..8].to_owned(),
                marked.map(|(stream, run)| format!("{stream} {run}")).collect::<Vec<_>>(),
            ));
        }
        let expected =
            [("01", vec!["stdout F 7 z"]), ("02", vec!["stdout F 7 z", "stderr F 8 z"]), ("03", vec!["stderr F 8 z"])];
        assert_eq!(
            marks,
            expected.map(|(name, marks)| (name.to_owned(), marks.into_iter().map(str::to_owned).collect()))
        );
    }

    #[test]
    fn rotation_and_going_on() {
        let root = tempfile::tempdir().unwrap();
        let kept = spec::Log { segment_bytes: 4_096, segments: 2 };
        let mut begin = None;
        for run in 0..3 {
            let mut log = Log::new(root.path(), kept, 3);
            assert_eq!(log.from(), None);
            for line in 0..200 {
                log.write(Source::Stdout, format!("run {run} line {line}\n").as_bytes());
            }
            log.close();
            assert!(log.from() > begin, "{:?} after {begin:?}", log.from());
            begin = log.from();
            assert_eq!(log.lines(Source::Stdout), 200, "those of a run, though most are deleted again");
        }
        let files = contents(root.path());
        assert_eq!(files.len(), 2);
        assert!(files.iter().all(|(name, _)| segment_number(name).unwrap() > 5), "{:?}", files[0].0);
        assert!(files[1].1.ends_with("run 2 line 199"));
        // One read of many lines is spread over segments as well.
        let mut log = Log::new(root.path(), kept, 3);
        log.write(Source::Stdout, "z\n".repeat(1_000).as_bytes());
        log.close();
        for (name, _) in contents(root.path()) {
            let size = std::fs::metadata(root.path().join(&name)).unwrap().len();
            assert!(size <= 4_096 + 100, "{name} has {size} bytes");
        }
    }

    #[test]
    fn losses_are_counted_and_torn_records_mended() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("log");
        std::fs::write(&directory, "in the way").unwrap();
        let mut log = Log::new(&directory, spec::Log::default(), 3);
        log.write(Source::Stdout, b"lost\n");
        log.write(Source::Stdout, b"lost too\n");
        assert_eq!(log.dropped_bytes(), 14);
        std::fs::remove_file(&directory).unwrap();
        log.write(Source::Stdout, b"kept\n");
        log.close();
        // The marker is a line of stderr like others.
        assert_eq!((log.lines(Source::Stdout), log.lines(Source::Stderr)), (3, 1));
        let text = &contents(&directory)[0].1;
        assert!(text.starts_with("stderr F [hostler: 14 bytes of output were dropped: "), "{text}");
        assert!(text.ends_with("]\nstdout F kept"), "{text}");

        OpenOptions::new().append(true).open(directory.join("00000001.log")).unwrap().write_all(b"xZ torn").unwrap();
        let mut log = Log::new(&directory, spec::Log::default(), 3);
        log.write(Source::Stdout, b"after\n");
        log.close();
        assert!(contents(&directory)[0].1.ends_with("torn\nstdout F after"));
    }
}
