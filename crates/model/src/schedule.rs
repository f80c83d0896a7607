//! When a workload runs by itself, and how its plan stands.
//!
//! ```text
//!            fire time            run ends (attempts included)
//! scheduled ──────────► run live ──────────► scheduled
//!     │ ▲ pause, stop / resume, start           a fire time meanwhile: `overlap` decides
//!     ▼ │
//!   paused                fire times that nobody could keep: `misfire` decides
//! ```
//! What an expression means on a calendar is not here but in `hostler_supervisor::schedule`.

use serde::{Deserialize, Serialize};

use crate::error::{Problem, ProblemKind};
use crate::limits;
use crate::units::format_duration;

/// When a workload runs: exactly one of `every_ms` and `cron`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// This long after each end of the last run, attempts included, milliseconds, on the boot clock. The first run
    /// starts at once unless `first_after_ms` says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// With `every_ms`: from the acceptance to the first run, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_after_ms: Option<u64>,
    /// At these dates: minute, hour, day of month, month, day of week, with seconds before them when there are six
    /// fields; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// With `cron`: where these dates are, by the name of the IANA time zone; `UTC` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// What becomes of fire times that nobody could keep.
    pub misfire: Misfire,
    /// What becomes of a fire time while the run before it is not over.
    pub overlap: Overlap,
}

/// Fire times that passed while the daemon was down, the machine slept, the node took no new work, or the wall clock was
/// set over them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Misfire {
    /// They are counted, and nothing else: the next one is the next that is planned.
    #[default]
    Skip,
    /// One run for all of them together.
    Once,
    /// One run for each, one after the other; of many only the last ones, the others are counted as dropped.
    All,
}

/// A fire time while the run before it, or an attempt to repeat it, is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is left out.
    #[default]
    Forbid,
    /// It is remembered, and starts when the run is over.
    Queue,
    /// The run is stopped, with its grace, and then the new one starts.
    Replace,
}

macro_rules! words {
    ($type:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word as JSON and people write it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// What this word means.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|policy| policy.as_str() == word)
            }
        }
    };
}

words!(Misfire { Skip = "skip", Once = "once", All = "all" });
words!(Overlap { Forbid = "forbid", Queue = "queue", Replace = "replace" });

/// How the plan of a workload stands. Durable with the workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ScheduleState {
    /// The next fire time, wall clock, milliseconds. Absent while it is paused, and for `every_ms` while a run is live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_fire_ms: Option<u64>,
    /// The same for `every_ms`, which is on the boot clock: whoever sets the wall clock changes no interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_fire_boot_ms: Option<u64>,
    /// No run starts by itself until it is resumed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Fires that wait for the end of the run before them.
    #[serde(skip_serializing_if = "is_zero")]
    pub waiting: u32,
    /// The latest fire time that was kept, counted or left out, wall clock, milliseconds: no date comes twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_fire_ms: Option<u64>,
    /// Fire times so far that nobody could keep.
    pub missed: u64,
    /// Fire times so far that were left out because the run before them was not over.
    pub skipped: u64,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl ScheduleState {
    /// Whether a fire will come by itself.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.paused && (self.next_fire_ms.is_some() || self.waiting > 0)
    }
}

impl Schedule {
    /// What can be judged without a calendar.
    pub fn check(&self) -> Result<(), Problem> {
        match (self.every_ms, &self.cron) {
            (None, None) => return Err(invalid("schedule", "must say when: every_ms or cron")),
            (Some(_), Some(_)) => return Err(invalid("schedule", "takes every_ms or cron, not both")),
            (Some(every_ms), None) => {
                if !(limits::SCHEDULE_EVERY_MIN_MS..=limits::TIME_MAX_MS).contains(&every_ms) {
                    let least = format_duration(limits::SCHEDULE_EVERY_MIN_MS);
                    return Err(invalid("schedule.every_ms", &format!("must be at least {least} and at most a year")));
                }
                if self.time_zone.is_some() {
                    return Err(invalid("schedule.time_zone", "has no effect without schedule.cron"));
                }
            }
            (None, Some(cron)) => {
                if self.first_after_ms.is_some() {
                    return Err(invalid("schedule.first_after_ms", "has no effect without schedule.every_ms"));
                }
                let zone = self.time_zone.as_deref().unwrap_or_default();
                if cron.len() > limits::CRON_LENGTH_MAX || zone.len() > limits::CRON_LENGTH_MAX {
                    let what = format!("must have at most {} bytes", limits::CRON_LENGTH_MAX);
                    return Err(invalid("schedule.cron, schedule.time_zone", &what));
                }
            }
        }
        if self.first_after_ms.is_some_and(|ms| ms > limits::TIME_MAX_MS) {
            return Err(invalid("schedule.first_after_ms", "must be at most a year"));
        }
        Ok(())
    }

    /// For people: `every 30s`, `*/5 * * * *`, `0 3 * * * Europe/Zurich`.
    #[must_use]
    pub fn words(&self) -> String {
        match (&self.cron, &self.time_zone) {
            (Some(cron), Some(zone)) => format!("{cron} {zone}"),
            (Some(cron), None) => cron.clone(),
            (None, _) => format!("every {}", format_duration(self.every_ms.unwrap_or_default())),
        }
    }
}

fn invalid(field: &str, what: &str) -> Problem {
    Problem::new(ProblemKind::InvalidSpec, format!("{field} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_of_interval_and_dates() {
        let cases = [
            (r#"{}"#, Some("every_ms or cron")),
            (r#"{"every_ms":1000,"cron":"@daily"}"#, Some("not both")),
            (r#"{"every_ms":1}"#, Some("schedule.every_ms")),
            (r#"{"every_ms":1000,"time_zone":"UTC"}"#, Some("time_zone")),
            (r#"{"cron":"@daily","first_after_ms":5}"#, Some("first_after_ms")),
            (r#"{"every_ms":1000,"first_after_ms":99999999999999}"#, Some("first_after_ms")),
            (r#"{"every_ms":1000,"first_after_ms":5}"#, None),
            (r#"{"cron":"@daily","time_zone":"Europe/Zurich","misfire":"all","overlap":"queue"}"#, None),
        ];
        for (json, word) in cases {
            let schedule: Schedule = serde_json::from_str(json).expect(json);
            let answer = schedule.check().map_err(|problem| problem.detail);
            match word {
                Some(word) => assert!(answer.expect_err(json).contains(word), "{json}"),
                None => assert_eq!(answer, Ok(()), "{json}"),
            }
        }
    }

    #[test]
    fn policies_are_words() {
        for misfire in Misfire::ALL {
            assert_eq!(Misfire::from_word(misfire.as_str()), Some(*misfire));
            assert_eq!(serde_json::to_value(misfire).expect("print"), misfire.as_str());
        }
        for overlap in Overlap::ALL {
            assert_eq!(Overlap::from_word(overlap.as_str()), Some(*overlap));
            assert_eq!(serde_json::to_value(overlap).expect("print"), overlap.as_str());
        }
    }
}
