//! From a schedule as it is written to one that is kept. What an expression means on a calendar is judged where the
//! calendar is, in `hostler_supervisor::schedule`.

use crate::limits;
use crate::schedule::{Misfire, Overlap, Schedule};
use crate::stack::unit::{ScheduleTable, ScheduleText};
use crate::stack::written::Written;

use super::values::Table;

/// The schedule; absent when it has mistakes.
pub(super) fn plan(written: &ScheduleText, table: &mut Table<'_>) -> Option<Schedule> {
    let dates;
    let written = match written {
        ScheduleText::Table(written) => written,
        ScheduleText::Dates(cron) => {
            dates = ScheduleTable { cron: Some(cron.clone()), ..ScheduleTable::default() };
            &dates
        }
    };
    let before = table.mistakes.0.len();
    let ScheduleTable { every, first_after, cron, time_zone, misfire, overlap } = written;
    let path = table.path.clone();
    match (every, cron) {
        (None, None) => table.mistakes.add(&path, "must say when: every or cron"),
        (Some(_), Some(_)) => table.mistakes.add(&path, "takes every or cron, not both"),
        (Some(_), None) if time_zone.is_some() => table.add("time_zone", "has no effect without cron"),
        (None, Some(_)) if first_after.is_some() => table.add("first_after", "has no effect without every"),
        _ => {}
    }
    for (field, text) in [("cron", cron), ("time_zone", time_zone)] {
        if text.as_ref().is_some_and(|text| text.len() > limits::CRON_LENGTH_MAX) {
            table.add(field, format!("must have at most {} bytes", limits::CRON_LENGTH_MAX));
        }
    }
    let mut time = |field: &str, text: &Option<Written>, min_ms| {
        text.is_some().then(|| table.time(field, text.as_ref(), min_ms, min_ms))
    };
    let every_ms = time("every", every, limits::SCHEDULE_EVERY_MIN_MS);
    let first_after_ms = time("first_after", first_after, 0);
    let misfire = word(misfire.as_ref(), Misfire::from_word);
    let overlap = word(overlap.as_ref(), Overlap::from_word);
    if misfire.is_none() {
        table.add("misfire", "must be skip, once or all");
    }
    if overlap.is_none() {
        table.add("overlap", "must be forbid, queue or replace");
    }
    let (cron, time_zone) = (cron.clone(), time_zone.clone());
    let schedule = Schedule { every_ms, first_after_ms, cron, time_zone, misfire: misfire?, overlap: overlap? };
    (table.mistakes.0.len() == before).then_some(schedule)
}

fn word<T: Default>(text: Option<&Written>, from_word: impl Fn(&str) -> Option<T>) -> Option<T> {
    text.map_or_else(|| Some(T::default()), |text| from_word(text.as_str()))
}
