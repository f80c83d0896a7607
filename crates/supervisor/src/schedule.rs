//! What a schedule means on a calendar. Pure: zones come from the tz database that is built in, so a date is the same
//! one on every machine, in a replay and in a test. The only place that names the cron library.
//!
//! Where the clocks change, a date with fixed hour and minute comes once: at the first moment after the gap when its
//! time does not exist, at the earlier one when its time comes twice. With `*` or a step in seconds, minutes or hours
//! the expression is taken at each moment as the clock shows it: nothing for times that do not exist, both for times
//! that come twice.

use std::sync::LazyLock;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use hostler_model::schedule::Schedule;
use hostler_model::{Problem, ProblemKind, limits};
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The fields in the order of an expression with six; one with five has no seconds.
const FIELDS: [&str; 6] = ["seconds", "minute", "hour", "day of month", "month", "day of week"];

/// An expression and its zone, read.
struct Dates {
    cron: Cron,
    zone: TimeZone,
}

impl Dates {
    fn read(expression: &str, zone: Option<&str>) -> Result<Self, Problem> {
        let cron = parse(expression).map_err(|error| {
            let detail = format!("schedule.cron {expression:?}: {}", explain(expression, &error));
            Problem::new(ProblemKind::InvalidSpec, detail)
        })?;
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => ZONES.get(name).map_err(|_| {
                let detail = format!(
                    "schedule.time_zone {name:?} is not a time zone; write an IANA name such as Europe/Zurich, America/New_York or UTC"
                );
                Problem::new(ProblemKind::InvalidSpec, detail)
            })?,
        };
        Ok(Self { cron, zone })
    }

    fn of(schedule: &Schedule) -> Option<Self> {
        Self::read(schedule.cron.as_deref()?, schedule.time_zone.as_deref()).ok()
    }

    /// The first date after this moment, milliseconds.
    fn next(&self, after_ms: u64) -> Option<u64> {
        let after = Timestamp::from_second(i64::try_from(after_ms / 1_000).ok()?).ok()?;
        let next = self.cron.find_next_occurrence(&after.to_zoned(self.zone.clone()), false).ok()?;
        u64::try_from(next.timestamp().as_millisecond()).ok().filter(|next| *next > after_ms)
    }

    /// The last date up to this moment, milliseconds.
    fn last(&self, until_ms: u64) -> Option<u64> {
        let until = Timestamp::from_second(i64::try_from(until_ms / 1_000).ok()?).ok()?;
        let last = self.cron.find_previous_occurrence(&until.to_zoned(self.zone.clone()), true).ok()?;
        u64::try_from(last.timestamp().as_millisecond()).ok().filter(|last| *last <= until_ms)
    }
}

fn parse(expression: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    parser.parse(expression).map_err(|error| {
        // The kind before the colon is of no use to whoever wrote the expression.
        let text = error.to_string();
        text.split_once(": ").map_or_else(|| text.clone(), |(_, what)| what.to_owned())
    })
}

/// Which field is wrong: each is tried alone.
fn explain(expression: &str, error: &str) -> String {
    let fields: Vec<&str> = expression.split_whitespace().collect();
    if expression.trim_start().starts_with('@') {
        return "is not one of @hourly, @daily, @weekly, @monthly, @yearly".to_owned();
    }
    if fields.len() != 5 && fields.len() != 6 {
        return format!(
            "has {} fields; write five (minute, hour, day of month, month, day of week), or six with seconds before them",
            fields.len()
        );
    }
    let names = &FIELDS[FIELDS.len() - fields.len()..];
    let wrong = fields.iter().enumerate().find_map(|(at, field)| {
        let mut alone = vec!["*"; fields.len()];
        alone[at] = field;
        let error = parse(&alone.join(" ")).err()?;
        Some(format!("the {} {field:?} cannot be read: {error}", names[at]))
    });
    wrong.unwrap_or_else(|| error.to_owned())
}

/// What the calendar says of a schedule: an expression that cannot be read, an unknown zone, a date that never comes.
/// The last takes some milliseconds to find out, so it is for doors, not for the decider.
pub fn check(schedule: &Schedule, now_ms: u64) -> Result<(), Problem> {
    let Some(cron) = schedule.cron.as_deref() else { return Ok(()) };
    match Dates::read(cron, schedule.time_zone.as_deref())?.next(now_ms) {
        Some(_) => Ok(()),
        None => {
            let detail = format!("schedule.cron {cron:?}: no such date ever comes");
            Err(Problem::new(ProblemKind::InvalidSpec, detail))
        }
    }
}

/// The first date of a cron schedule after this moment, wall clock, milliseconds. `None` for intervals.
#[must_use]
pub fn next_fire_ms(schedule: &Schedule, after_ms: u64) -> Option<u64> {
    Dates::of(schedule)?.next(after_ms)
}

/// Fire times that have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// How many, at most [`limits::SCHEDULE_MISSED_COUNT_MAX`].
    pub count: u32,
    /// There were more than were counted.
    pub more: bool,
    /// The last of them, wall clock, milliseconds.
    pub last_ms: u64,
    /// The first one that has not come.
    pub next_ms: Option<u64>,
}

/// The dates of a cron schedule from `first_ms`, which is one, to `now_ms`.
#[must_use]
pub fn due(schedule: &Schedule, first_ms: u64, now_ms: u64) -> Due {
    let mut due = Due { count: 1, more: false, last_ms: first_ms, next_ms: None };
    let Some(dates) = Dates::of(schedule) else { return due };
    loop {
        due.next_ms = dates.next(due.last_ms);
        let Some(next_ms) = due.next_ms.filter(|next| *next <= now_ms) else { return due };
        if due.count == limits::SCHEDULE_MISSED_COUNT_MAX {
            due.more = true;
            due.last_ms = dates.last(now_ms).unwrap_or(next_ms).max(next_ms);
            due.next_ms = dates.next(now_ms);
            return due;
        }
        due.count += 1;
        due.last_ms = next_ms;
    }
}

#[cfg(test)]
mod tests;
