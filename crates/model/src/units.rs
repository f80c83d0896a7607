//! Sizes, durations and signals as people write them, with the value's unit in the type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Why a text is not a size, a duration or a signal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnitError {
    /// A size.
    #[error("{0:?} is not a size: write a number and one of B, K, M, G, T (powers of 1024), such as 64M or 1.5G")]
    Size(String),
    /// A duration.
    #[error("{0:?} is not a duration: write a number and one of ms, s, m, h, d, such as 500ms or 1h30m")]
    Duration(String),
    /// A signal.
    #[error("{0:?} is not a signal: write a name such as TERM or SIGTERM, or a number from 1 to 64")]
    Signal(String),
    /// An amount of CPU.
    #[error("{0:?} is not an amount of CPU: write cores such as 0.5 or 2, or thousandths such as 250m")]
    Cpu(String),
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Parses `64M`, `1.5G`, `512k`, `1024`; units are powers of 1024, and `iB` or `B` may follow.
pub fn parse_size_bytes(text: &str) -> Result<u64, UnitError> {
    let error = || UnitError::Size(shorten(text));
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim_start().to_ascii_lowercase();
    let factor: u64 = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" if unit == "i" || unit == "ib" => return Err(error()),
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return Err(error()),
    };
    scaled(number, factor).ok_or_else(error)
}

/// Parses `500ms`, `10s`, `1h30m`, `1.5s`; a bare number is seconds. The result is in milliseconds.
pub fn parse_duration_ms(text: &str) -> Result<u64, UnitError> {
    let error = || UnitError::Duration(shorten(text));
    let mut rest = text;
    let mut total: u64 = 0;
    loop {
        let split = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(split);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        let factor = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" if rest.len() == text.len() && next.is_empty() => 1_000,
            _ => return Err(error()),
        };
        let part = scaled(number, factor).ok_or_else(error)?;
        total = total.checked_add(part).ok_or_else(error)?;
        if next.is_empty() {
            return Ok(total);
        }
        rest = next;
    }
}

/// Parses cores (`2`, `0.5`) or thousandths of a core (`250m`) into thousandths.
pub fn parse_cpu_millis(text: &str) -> Result<u32, UnitError> {
    let error = || UnitError::Cpu(shorten(text));
    let millis = match text.strip_suffix('m') {
        Some(millis) => scaled(millis, 1),
        None => scaled(text, 1_000),
    };
    millis.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).ok_or_else(error)
}

/// Decimal text times a factor, exactly, rounded down; `None` on anything else than digits and one point.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    if number.ends_with('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(factor)?;
    if !fraction.is_empty() {
        let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
        let part = u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor) / scale;
        total = total.checked_add(u64::try_from(part).ok()?)?;
    }
    Some(total)
}

/// Prints a size the way people read it: `64.0M`, `1.2G`, `512B`.
#[must_use]
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["K", "M", "G", "T"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1}{}", UNITS[unit])
}

/// Prints a duration with its two largest units: `350ms`, `12s`, `3m20s`, `2h5m`, `4d3h`.
#[must_use]
pub fn format_duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A signal number, 1 to 64, written by its name in JSON (`"TERM"`) where it has one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

/// Linux numbers on x86-64 and aarch64, `signal(7)`.
const SIGNAL_NAMES: [(&str, u8); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

impl Signal {
    /// `SIGTERM`.
    pub const TERM: Self = Self(15);
    /// `SIGKILL`.
    pub const KILL: Self = Self(9);
    /// `SIGHUP`: what a terminal that goes away sends.
    pub const HUP: Self = Self(1);
    /// `SIGINT`.
    pub const INT: Self = Self(2);

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// A number from 1 to 64.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        if number >= 1 && number <= 64 { Some(Self(number)) } else { None }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNAL_NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signal({self})")
    }
}

impl FromStr for Signal {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError::Signal(shorten(text));
        if let Ok(number) = text.parse::<u8>() {
            return Self::from_number(number).ok_or_else(error);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        SIGNAL_NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| Self(*number)).ok_or_else(error)
    }
}

impl Serialize for Signal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Signal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Signal {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Signal".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "description": "A signal's name without SIG, or its number."})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let good =
            [("0", 0), ("512", 512), ("64M", 64 << 20), ("1.5G", 3 << 29), ("2KiB", 2048), ("7b", 7), ("1 M", 1 << 20)];
        for (text, bytes) in good {
            assert_eq!(parse_size_bytes(text), Ok(bytes), "{text}");
        }
        for bad in ["", "M", "-1", "1X", "1e9", "1..2", "1.", "99999999999T", "1ib", "१"] {
            assert!(parse_size_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations() {
        let good =
            [("500ms", 500), ("10s", 10_000), ("1h30m", 5_400_000), ("1.5s", 1_500), ("7", 7_000), ("2d", 172_800_000)];
        for (text, ms) in good {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for bad in ["", "s", "-1s", "1y", "1h2", "1s ", "999999999999999d"] {
            assert!(parse_duration_ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_and_cpu() {
        assert_eq!("sigterm".parse(), Ok(Signal::TERM));
        assert_eq!("9".parse(), Ok(Signal::KILL));
        assert_eq!("34".parse::<Signal>().map(|s| s.to_string()), Ok("34".to_owned()));
        for bad in ["0", "65", "SIGNOPE", "", "-9"] {
            assert!(bad.parse::<Signal>().is_err(), "{bad}");
        }
        assert_eq!(parse_cpu_millis("0.5"), Ok(500));
        assert_eq!(parse_cpu_millis("250m"), Ok(250));
        assert!(parse_cpu_millis("0").is_err());
    }
}
