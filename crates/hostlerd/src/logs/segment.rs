//! Segments, and the records in them: `2024-05-01T12:34:56.123456789Z stdout F text\n`, the line format of the
//! Kubernetes container runtime interface. `P` instead of `F` says that the line goes on in the stream's next record.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use hostler_api::stream::LogLine;
use hostler_api::types::LogStream;
use hostler_model::{ByteString, limits};
use thiserror::Error;

/// Longest record, its newline included, bytes: the text, and room for time, stream and tags. What is longer is
/// garbage.
pub(super) const RECORD_MAX: usize = limits::LOG_LINE_MAX + 256;

/// Fewest digits in a segment's name.
const DIGITS_MIN: usize = 8;

/// A place in a log: right after a line, where reading may be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    /// Number of the segment.
    pub(crate) segment: u64,
    /// Where in it, bytes.
    pub(crate) offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// Not a position.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a position in a log: expected <segment>:<offset>")]
pub(crate) struct PositionError(String);

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        text.split_once(':')
            .and_then(|(segment, offset)| Some(Self { segment: number(segment)?, offset: number(offset)? }))
            .ok_or_else(|| PositionError(text.chars().take(80).collect()))
    }
}

/// The file of a segment.
pub(super) fn path(directory: &Path, segment: u64) -> PathBuf {
    directory.join(format!("{segment:0DIGITS_MIN$}.log"))
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() < DIGITS_MIN || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    // One name for one number.
    (digits.len() == DIGITS_MIN || !digits.starts_with('0')).then_some(number)
}

/// The segments that exist, oldest first. A directory that is not there is a log without any.
pub(super) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(entry?.file_name().to_str().and_then(number));
    }
    found.sort_unstable();
    Ok(found)
}

/// A record, still in the buffer that it was read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) time: &'a str,
    pub(super) stream: LogStream,
    pub(super) partial: bool,
    /// The run's number, in the first record of a run and of a segment.
    pub(super) run: Option<u32>,
    pub(super) text: &'a [u8],
}

impl<'a> Record<'a> {
    /// Parses a record without its newline. `None`: garbage.
    pub(super) fn parse(record: &'a [u8]) -> Option<Self> {
        if record.len() >= RECORD_MAX {
            return None;
        }
        let mut fields = record.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?;
        time_ms(time)?;
        let stream = match fields.next()? {
            b"stdout" => LogStream::Stdout,
            b"stderr" => LogStream::Stderr,
            _ => return None,
        };
        // Tags are separated by colons; the first is the one that every record has.
        let mut tags = fields.next()?.split(|byte| *byte == b':');
        let partial = match tags.next()? {
            b"F" => false,
            b"P" => true,
            _ => return None,
        };
        let run = tags.find_map(|tag| std::str::from_utf8(tag.strip_prefix(b"run=")?).ok()?.parse().ok());
        Some(Self { time, stream, partial, run, text: fields.next().unwrap_or_default() })
    }

    /// When it was written, milliseconds since the epoch.
    pub(super) fn time_ms(&self) -> u64 {
        time_ms(self.time).expect("parsed before")
    }

    pub(super) fn to_line(self) -> LogLine {
        LogLine {
            time: self.time.to_owned(),
            stream: self.stream,
            text: ByteString::from(self.text.to_vec()),
            partial: self.partial,
        }
    }
}

/// `2024-05-01T12:34:56.123456789Z` as milliseconds since the epoch, rounded down; UTC only, as agents write it.
fn time_ms(text: &str) -> Option<u64> {
    let raw = text.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if raw.len() < 20 || raw.len() > 40 || separators.iter().any(|(at, byte)| raw[*at] != *byte) {
        return None;
    }
    let digits = |from: usize, to: usize| {
        let part = &raw[from..to];
        let value = part.iter().fold(0u64, |sum, byte| sum * 10 + u64::from(byte.wrapping_sub(b'0')));
        part.iter().all(u8::is_ascii_digit).then_some(value)
    };
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    // A leap second is written as second 60.
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return None;
    }
    let end = raw.len() - 1;
    let fraction_ms = match (raw[19], raw[end]) {
        (b'Z', _) if end == 19 => 0,
        (b'.', b'Z') if end > 20 => {
            let known = end.min(23);
            raw[20..end].iter().all(u8::is_ascii_digit).then_some(())?;
            digits(20, known)? * 10u64.pow(u32::try_from(23 - known).ok()?)
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000 + fraction_ms)
}

/// Days since 1970-01-01: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`, for years
/// from 1970.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let cases = [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-05-01T12:34:56.123456789Z", 1_714_566_896_123),
            ("2024-02-29T23:59:59.9Z", 1_709_251_199_900),
            ("2000-03-01T00:00:00.01Z", 951_868_800_010),
            ("2026-12-31T23:59:60Z", 1_798_761_600_000),
        ];
        for (text, expected) in cases {
            assert_eq!(time_ms(text), Some(expected), "{text}");
        }
        for bad in [
            "",
            "Z",
            "2024-05-01T12:34:56",
            "2024-05-01T12:34:56.Z",
            "2024-05-01T12:34:56.1x3Z",
            "2024-05-01T12:34:56+00:00",
            "2024-13-01T12:34:56Z",
            "1969-12-31T23:59:59Z",
            "2024-05-01 12:34:56Z",
            "é024-05-01T12:34:56Z",
        ] {
            assert_eq!(time_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn records() {
        let parse = |text: &'static str| Record::parse(text.as_bytes()).map(|r| (r.stream, r.partial, r.text));
        let out = LogStream::Stdout;
        assert_eq!(parse("2024-05-01T12:34:56Z stdout F a b "), Some((out, false, &b"a b "[..])));
        assert_eq!(parse("2024-05-01T12:34:56Z stdout P:x "), Some((out, true, &b""[..])));
        assert_eq!(parse("2024-05-01T12:34:56Z stderr F"), Some((LogStream::Stderr, false, &b""[..])));
        for bad in
            ["", " ", "2024-05-01T12:34:56Z", "2024-05-01T12:34:56Z stdin F x", "2024-05-01T12:34:56Z stdout X x"]
        {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(Record::parse(&[b'x'; RECORD_MAX]), None);
    }

    #[test]
    fn positions_and_names() {
        let position = Position { segment: 12, offset: 345 };
        assert_eq!(position.to_string(), "12:345");
        assert_eq!("12:345".parse(), Ok(position));
        for bad in ["", ":", "1", "1:", ":1", "+1:2", "1:2:3", "a:b", "99999999999999999999:0"] {
            assert!(bad.parse::<Position>().is_err(), "{bad:?}");
        }
        for (name, expected) in [
            ("00000001.log", Some(1)),
            ("123456789.log", Some(123_456_789)),
            ("1.log", None),
            ("000000001.log", None),
            ("00000001.log.gz", None),
            ("+0000001.log", None),
        ] {
            assert_eq!(number(name), expected, "{name}");
        }
        assert_eq!(path(Path::new("/l"), 7), Path::new("/l/00000007.log"));
    }
}
