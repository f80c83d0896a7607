//! Which events are forgotten, inside the transaction of a checkpoint and never otherwise.
//!
//! By count: as soon as there are `events_max` and some slack, down to `events_max`. By age: looked at once a minute,
//! from the oldest event up to the first that is young enough. Both in bulk and bounded, so that no checkpoint becomes
//! huge; what is left over goes with the next ones. The last event is never forgotten: the next number follows it.

use redb::Table;

use crate::Options;
use crate::schema::event_time_ms;

/// Events forgotten in one checkpoint, at most, beside as many as came with it.
pub(crate) const FORGET_MAX: u64 = 2_048;
/// How often ages are looked at, milliseconds of the wall clock.
const AGE_CHECK_EVERY_MS: u64 = 60_000;
/// Least number of events above the limit that is worth a bulk.
const SLACK_MIN: u64 = 64;

/// When ages are looked at next.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    checked_at_ms: Option<u64>,
    unfinished: bool,
}

impl Retention {
    /// Forgets what is too much or too old of `first..=last`, of which `new` have just come; returns the oldest event
    /// that is left.
    pub(crate) fn apply(
        &mut self,
        events: &mut Table<'_, u64, &'static [u8]>,
        (first, last): (u64, u64),
        new: u64,
        options: &Options,
        now_ms: u64,
    ) -> Result<u64, redb::Error> {
        let keep_from = self
            .by_age(events, (first, last), options, now_ms)?
            .max(by_count((first, last), options))
            .min(last)
            .min(first + new + FORGET_MAX);
        if keep_from > first {
            events.retain_in(first..keep_from, |_, _| false)?;
        }
        Ok(keep_from.max(first))
    }

    fn by_age(
        &mut self,
        events: &Table<'_, u64, &'static [u8]>,
        (first, last): (u64, u64),
        options: &Options,
        now_ms: u64,
    ) -> Result<u64, redb::Error> {
        use redb::ReadableTable as _;
        // A clock that was set back counts as a minute gone by.
        let due = self.checked_at_ms.is_none_or(|at| now_ms < at || now_ms - at >= AGE_CHECK_EVERY_MS);
        if !due && !self.unfinished {
            return Ok(first);
        }
        self.checked_at_ms = Some(now_ms);
        self.unfinished = false;
        let young_from_ms = now_ms.saturating_sub(options.events_age_max_ms);
        for (seen, entry) in events.range(first..last)?.enumerate() {
            let (sequence, json) = entry?;
            if seen as u64 == FORGET_MAX {
                self.unfinished = true;
                return Ok(sequence.value());
            }
            // An event without a time cannot be young enough; and it must not stop the others from ageing.
            if event_time_ms(json.value()).is_ok_and(|time_ms| time_ms >= young_from_ms) {
                return Ok(sequence.value());
            }
        }
        Ok(last)
    }
}

fn by_count((first, last): (u64, u64), options: &Options) -> u64 {
    let events_max = options.events_max.max(1);
    let slack = (events_max / 64).max(SLACK_MIN);
    let count = (last + 1).saturating_sub(first);
    if count > events_max + slack { last + 1 - events_max } else { first }
}
