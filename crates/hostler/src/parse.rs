//! Values on the command line that have a grammar of their own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use hostler_model::ByteString;
use hostler_model::event::EventId;
use hostler_model::spec::{RestartWhen, Rlimit, RlimitKind};
use hostler_model::units::parse_duration_ms;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::failure::Failure;

/// `--restart`: when, and how many times in a row.
pub(crate) type RestartPolicy = (RestartWhen, Option<u32>);

/// `never`, `on-failure`, `on-failure:3`, `always`.
pub(crate) fn restart(text: &str) -> Result<RestartPolicy, String> {
    let error = || format!("{text:?} is not a restart policy: write never, on-failure, on-failure:3 or always");
    match text.split_once(':') {
        None => match text {
            "never" | "no" => Ok((RestartWhen::Never, None)),
            "on-failure" => Ok((RestartWhen::OnFailure, None)),
            "always" => Ok((RestartWhen::Always, None)),
            _ => Err(error()),
        },
        Some(("on-failure", count)) => Ok((RestartWhen::OnFailure, Some(count.parse().map_err(|_| error())?))),
        Some(_) => Err(error()),
    }
}

/// `nofile=1024`, `nofile=1024:2048`, `core=unlimited`.
pub(crate) fn rlimit(text: &str) -> Result<Rlimit, String> {
    let error =
        || format!("{text:?} is not a limit: write KIND=SOFT[:HARD], such as nofile=1024:2048 or core=unlimited");
    let (kind, values) = text.split_once('=').ok_or_else(error)?;
    let kind: RlimitKind = serde_json::from_value(serde_json::Value::String(kind.to_ascii_lowercase()))
        .map_err(|_| format!("{kind:?} is not a resource of setrlimit(2), such as nofile, core, stack or nproc"))?;
    let value = |text: &str| match text {
        "unlimited" | "-1" => Ok(None),
        number => number.parse().map(Some).map_err(|_| error()),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    Ok(Rlimit { kind, soft: value(soft)?, hard: value(hard)? })
}

/// `key=value`, or `key` alone with an empty value.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(format!("{text:?} is not a label: write KEY=VALUE"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// One `--env`: `KEY=VALUE` as it is, `KEY` with the caller's value; nothing when the caller has none.
pub(crate) fn env(entry: &OsStr, caller: impl Fn(&OsStr) -> Option<OsString>) -> Result<Option<ByteString>, String> {
    let bytes = entry.as_bytes();
    if bytes.is_empty() || bytes[0] == b'=' {
        return Err(format!("{:?} is not an environment variable: write KEY=VALUE", entry.to_string_lossy()));
    }
    if bytes.contains(&b'=') {
        return Ok(Some(ByteString::from(entry)));
    }
    Ok(caller(entry).map(|value| ByteString::from([bytes, b"=", value.as_bytes()].concat())))
}

/// A path on this machine, seen from the current directory.
pub(crate) fn absolute(path: &Path) -> Result<ByteString, Failure> {
    let path = std::path::absolute(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
    Ok(ByteString::from(path.as_os_str()))
}

/// The lines of an `--env-file`: `KEY=VALUE`, or the `KEY` of a variable that the caller has; lines that begin with `#`
/// and empty lines do not count. Values are taken byte for byte, quotes and blanks too. An error comes with its line.
pub(crate) fn env_file(
    content: &[u8],
    caller: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<Vec<ByteString>, (usize, String)> {
    let mut entries = Vec::new();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(u8::is_ascii_whitespace) || line.trim_ascii_start().first() == Some(&b'#') {
            continue;
        }
        let line = OsString::from_vec(line.to_vec());
        let bad = |what: &str| (index + 1, format!("{:?} {what}: write KEY=VALUE", line.to_string_lossy()));
        let key = line.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
        if key.iter().any(u8::is_ascii_whitespace) {
            return Err(bad("has a blank in its key"));
        }
        let entry = env(&line, &caller).map_err(|error| (index + 1, error))?;
        entries.push(entry.ok_or_else(|| bad("is no variable of yours"))?);
    }
    Ok(entries)
}

/// A moment: a duration before now (`10m`), RFC 3339, a local date and time, or seconds since the epoch.
pub(crate) fn moment_ms(text: &str, now_ms: u64) -> Result<u64, String> {
    if let Ok(number) = text.parse::<u64>()
        && number >= EPOCH_SECONDS_MIN
    {
        return Ok(if number >= EPOCH_SECONDS_MIN * 1_000 { number } else { number * 1_000 });
    }
    if let Ok(duration_ms) = parse_duration_ms(text) {
        return Ok(now_ms.saturating_sub(duration_ms));
    }
    let timestamp = text.parse::<Timestamp>().or_else(|_| {
        let local: DateTime = text.parse()?;
        local.to_zoned(TimeZone::system()).map(|zoned| zoned.timestamp())
    });
    timestamp.ok().and_then(|timestamp| u64::try_from(timestamp.as_millisecond()).ok()).ok_or_else(|| {
        format!("{text:?} is not a time: write 10m (ago), 2026-11-20T08:00:00Z, 2026-11-20 08:00, or seconds since the epoch")
    })
}

/// Smaller bare numbers are seconds ago: September 2001 is nobody's log.
const EPOCH_SECONDS_MIN: u64 = 1_000_000_000;

/// `events --since`: an event id or a moment, as the interface takes it.
pub(crate) fn events_since(text: &str, now_ms: u64) -> Result<String, String> {
    match text.parse::<EventId>() {
        Ok(id) => Ok(id.to_string()),
        Err(_) => moment_ms(text, now_ms).map(|ms| ms.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies() {
        assert_eq!(restart("on-failure:3"), Ok((RestartWhen::OnFailure, Some(3))));
        assert_eq!(restart("always"), Ok((RestartWhen::Always, None)));
        assert_eq!(restart("never"), Ok((RestartWhen::Never, None)));
        for bad in ["", "sometimes", "always:3", "on-failure:", "on-failure:-1", "never:1"] {
            assert!(restart(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rlimits() {
        let limit = |soft, hard| Rlimit { kind: RlimitKind::Nofile, soft, hard };
        assert_eq!(rlimit("nofile=10"), Ok(limit(Some(10), Some(10))));
        assert_eq!(rlimit("NOFILE=10:20"), Ok(limit(Some(10), Some(20))));
        assert_eq!(rlimit("nofile=10:unlimited"), Ok(limit(Some(10), None)));
        for bad in ["nofile", "nofile=", "files=3", "nofile=1:2:3", "nofile=x"] {
            assert!(rlimit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn environment_is_byte_exact() {
        let caller = |key: &OsStr| (key == "HERE").then(|| OsString::from_vec(vec![0xff, b'=', b' ']));
        let file = b"# comment\n\nA=1\r\nB= \"x\" # not a comment \nHERE\n  # too\nC=\xfe\nD=";
        let entries: Vec<_> =
            env_file(file, caller).expect("valid").iter().map(|entry| entry.as_bytes().to_vec()).collect();
        let expected: [&[u8]; 5] = [b"A=1", b"B= \"x\" # not a comment ", b"HERE=\xff= ", b"C=\xfe", b"D="];
        assert_eq!(entries, expected);
        for bad in [&b"A=1\n=x"[..], b"A=1\nABSENT", b"\nexport C=3", b"#\n A=1", b"A=1\nA =1"] {
            assert_eq!(env_file(bad, caller).expect_err("not KEY=VALUE").0, 2, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn moments() {
        let now = 1_800_000_000_000;
        let cases = [
            ("10m", now - 600_000),
            ("5", now - 5_000),
            ("1700000000", 1_700_000_000_000),
            ("1700000000123", 1_700_000_000_123),
            ("2026-11-20T08:00:00Z", 1_795_161_600_000),
            ("2026-11-20T08:00:00.5+01:00", 1_795_158_000_500),
        ];
        for (text, expected) in cases {
            assert_eq!(moment_ms(text, now), Ok(expected), "{text}");
        }
        assert!(moment_ms("2026-11-20 08:00", now).is_ok());
        for bad in ["", "yesterday", "2026-13-01T00:00:00Z"] {
            assert!(moment_ms(bad, now).is_err(), "{bad}");
        }
        assert_eq!(events_since("0011223344556677-5", now), Ok("0011223344556677-5".to_owned()));
        assert_eq!(events_since("1s", now), Ok((now - 1_000).to_string()));
    }

    #[test]
    fn labels() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(label("a"), Ok(("a".to_owned(), String::new())));
        assert!(label("=b").is_err());
    }
}
