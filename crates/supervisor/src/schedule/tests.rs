//! A year of schedules across every change of the clocks, against an oracle that steps minute by minute.

use super::*;
use hostler_model::schedule::Schedule;
use jiff::civil::DateTime;
use proptest::prelude::*;

const ZONES_TRIED: [&str; 4] = ["Europe/Zurich", "America/New_York", "Australia/Lord_Howe", "Asia/Tokyo"];

fn cron(expression: &str, zone: &str) -> Schedule {
    Schedule { cron: Some(expression.to_owned()), time_zone: Some(zone.to_owned()), ..Schedule::default() }
}

fn at(text: &str) -> u64 {
    u64::try_from(text.parse::<Timestamp>().expect("a timestamp").as_millisecond()).expect("after 1970")
}

fn show(ms: u64, zone: &str) -> String {
    let zone = ZONES.get(zone).expect("a zone");
    let time = Timestamp::from_millisecond(i64::try_from(ms).expect("a time")).expect("a time").to_zoned(zone);
    time.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// All dates after `from` up to `until`.
fn dates(schedule: &Schedule, from: u64, until: u64) -> Vec<u64> {
    let first = next_fire_ms(schedule, from);
    std::iter::successors(first, |last| next_fire_ms(schedule, *last)).take_while(|next| *next <= until).collect()
}

#[test]
fn where_the_clocks_change() {
    // Zurich: 02:00 becomes 03:00 on 29 March, 03:00 becomes 02:00 on 25 October 2026. New York: 02:00 becomes 03:00 on 8
    // March, 02:00 becomes 01:00 on 1 November. Lord Howe: 02:00 becomes 01:30 on 5 April, 02:00 becomes 02:30 on 4 October.
    let cases: [(&str, &str, &str, &[&str]); 13] = [
        // A fixed time that does not exist comes at the end of the gap.
        (
            "30 2 * * *",
            "Europe/Zurich",
            "2026-03-28T12:00:00Z",
            &["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        (
            "30 2 * * *",
            "America/New_York",
            "2026-03-07T12:00:00Z",
            &["2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"],
        ),
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T00:00:00Z",
            &["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"],
        ),
        (
            "5 30 2 29 3 *",
            "Europe/Zurich",
            "2026-02-28T12:00:00Z",
            &["2026-03-29T03:00:00+02:00", "2027-03-29T02:30:05+02:00"],
        ),
        // A fixed time that comes twice is taken at the first.
        (
            "30 2 * * *",
            "Europe/Zurich",
            "2026-10-24T12:00:00Z",
            &["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
        (
            "30 1 * * *",
            "America/New_York",
            "2026-10-31T12:00:00Z",
            &["2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2026-04-04T00:00:00Z",
            &["2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"],
        ),
        // With a star or a step, each moment counts as the clock shows it.
        (
            "0 * * * *",
            "Europe/Zurich",
            "2026-03-29T00:30:00Z",
            &["2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"],
        ),
        (
            "0 * * * *",
            "Europe/Zurich",
            "2026-10-24T23:30:00Z",
            &["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"],
        ),
        (
            "*/15 * * * *",
            "Australia/Lord_Howe",
            "2026-04-04T14:40:00Z",
            &[
                "2026-04-05T01:45:00+11:00",
                "2026-04-05T01:30:00+10:30",
                "2026-04-05T01:45:00+10:30",
                "2026-04-05T02:00:00+10:30",
            ],
        ),
        (
            "*/15 * * * *",
            "Australia/Lord_Howe",
            "2026-10-03T15:20:00Z",
            &["2026-10-04T02:30:00+11:00", "2026-10-04T02:45:00+11:00"],
        ),
        // Where nothing changes.
        (
            "30 2 * * *",
            "Asia/Tokyo",
            "2026-03-28T12:00:00Z",
            &["2026-03-29T02:30:00+09:00", "2026-03-30T02:30:00+09:00"],
        ),
        ("@daily", "UTC", "2026-12-31T12:00:00Z", &["2027-01-01T00:00:00+00:00"]),
    ];
    for (expression, zone, from, expected) in cases {
        let schedule = cron(expression, zone);
        check(&schedule, at(from)).expect(expression);
        let first = next_fire_ms(&schedule, at(from));
        let found: Vec<String> = std::iter::successors(first, |last| next_fire_ms(&schedule, *last))
            .take(expected.len())
            .map(|ms| show(ms, zone))
            .collect();
        assert_eq!(found, expected, "{expression} {zone} after {from}");
    }
}

#[test]
fn a_year_of_fixed_times_comes_once_a_day_in_every_zone() {
    let (from, until) = (at("2026-01-01T12:00:00Z"), at("2027-01-01T12:00:00Z"));
    for zone in ZONES_TRIED {
        // Some of these times do not exist on one day of the year, some come twice.
        for minute in ["0 0", "0 1", "30 1", "45 1", "0 2", "15 2", "30 2", "59 2", "0 3", "59 23"] {
            let schedule = cron(&format!("{minute} * * *"), zone);
            let dates = dates(&schedule, from, until);
            assert_eq!(dates.len(), 365, "{minute} {zone}");
            let mut days: Vec<String> = dates.iter().map(|ms| show(*ms, zone)[..10].to_owned()).collect();
            days.dedup();
            assert_eq!(days.len(), 365, "{minute} {zone}: one a day");
        }
        // As many hours as the year has: the clocks that go forward go back again. On Lord Howe 02:00 does not exist once,
        // and what is repeated is half an hour without a full one.
        let hours = dates(&cron("0 * * * *", zone), from, until);
        assert_eq!(hours.len(), if zone == "Australia/Lord_Howe" { 8_759 } else { 8_760 }, "{zone}");
        let steady = hours.windows(2).filter(|pair| pair[1] - pair[0] == 3_600_000).count();
        assert!(steady >= 8_756, "{zone}: {steady} whole hours");
    }
}

/// What the expression means, the slow way, for expressions with a star in minute or hour: each minute is asked.
fn oracle(minute: impl Fn(i8) -> bool, hour: impl Fn(i8) -> bool, zone: &str, from: u64, until: u64) -> Vec<u64> {
    let zone = ZONES.get(zone).expect("a zone");
    let matches = |ms: &u64| {
        let civil: DateTime = Timestamp::from_millisecond(i64::try_from(*ms).expect("a time"))
            .expect("a time")
            .to_zoned(zone.clone())
            .datetime();
        minute(civil.minute()) && hour(civil.hour())
    };
    (from / 60_000 + 1..=until / 60_000).map(|minutes| minutes * 60_000).filter(matches).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn next_is_always_later_and_nothing_is_between(
        zone in prop::sample::select(ZONES_TRIED.to_vec()),
        expression in prop::sample::select(vec![
            "* * * * *", "*/7 * * * *", "30 2 * * *", "0 */2 * * *", "*/10 1-3 * * *", "59 59 23 L * *", "@hourly", "0 0 29 2 *",
            "15,45 2 * 3,4,10,11 SUN", "* * 2 * * *", "0 12 * * MON#2", "30 1 1-7 * +SUN",
        ]),
        after in 1_767_000_000_000u64..1_830_000_000_000,
        step in 0u64..100_000_000,
    ) {
        let schedule = cron(expression, zone);
        let next = next_fire_ms(&schedule, after).expect("there is always one");
        prop_assert!(next > after);
        prop_assert_eq!(next % 1_000, 0);
        // From anywhere before it, the next one is the same one.
        prop_assert_eq!(next_fire_ms(&schedule, after + step % (next - after)), Some(next));
        prop_assert!(next_fire_ms(&schedule, next).expect("one more") > next);
    }

    #[test]
    fn what_was_missed_is_what_an_oracle_counts_minute_by_minute(
        zone in prop::sample::select(ZONES_TRIED.to_vec()),
        every in 1i8..31,
        hours in prop::option::of((0i8..23, 1i8..23)),
        // Around one of the changes of these zones, or anywhere.
        around in prop::sample::select(vec![
            "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z",
            "2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z", "2026-07-01T00:00:00Z",
        ]),
        before_minutes in 0u64..1_000,
        down_ms in 0u64..86_400_000,
    ) {
        let (first_hour, last_hour) = hours.map_or((0, 23), |(first, count)| (first, (first + count).min(23)));
        let expression = match hours {
            None => format!("*/{every} * * * *"),
            Some(_) => format!("*/{every} {first_hour}-{last_hour} * * *"),
        };
        let schedule = cron(&expression, zone);
        let from = at(around) - before_minutes * 60_000;
        let now = from + down_ms;
        let expected = oracle(|minute| minute % every == 0, |hour| (first_hour..=last_hour).contains(&hour), zone, from, now);
        let first = next_fire_ms(&schedule, from).expect("there is one");
        if first > now {
            prop_assert_eq!(expected.len(), 0);
            return Ok(());
        }
        let due = due(&schedule, first, now);
        let counted = expected.len().min(limits::SCHEDULE_MISSED_COUNT_MAX as usize);
        prop_assert_eq!(due.count as usize, counted);
        prop_assert_eq!(due.more, expected.len() > counted);
        prop_assert_eq!(Some(&due.last_ms), expected.last());
        prop_assert_eq!(due.next_ms, next_fire_ms(&schedule, now));
    }
}

#[test]
fn mistakes_are_pointed_at() {
    let cases = [
        ("61 * * * *", None, "the minute \"61\""),
        ("* 24 * * *", None, "the hour \"24\""),
        ("* * 0 * *", None, "the day of month \"0\""),
        ("* * * 13 *", None, "the month \"13\""),
        ("* * * * 9", None, "the day of week \"9\""),
        ("61 * * * * *", None, "the seconds \"61\""),
        ("*/0 * * * *", None, "the minute \"*/0\""),
        ("x * * * *", None, "the minute \"x\""),
        ("* * * *", None, "has 4 fields"),
        ("* * * * * * *", None, "has 7 fields"),
        ("", None, "has 0 fields"),
        ("@reboot", None, "@hourly"),
        ("0 0 31 2 *", None, "no such date"),
        ("0 0 * * *", Some("Europe/Atlantis"), "schedule.time_zone \"Europe/Atlantis\""),
        ("0 0 * * *", Some(""), "schedule.time_zone"),
        ("0 0 * * *", Some("../../etc/passwd"), "is not a time zone"),
    ];
    for (expression, zone, words) in cases {
        let schedule =
            Schedule { cron: Some(expression.to_owned()), time_zone: zone.map(str::to_owned), ..Schedule::default() };
        let problem = check(&schedule, at("2026-01-01T00:00:00Z")).expect_err(expression);
        assert_eq!(problem.kind, ProblemKind::InvalidSpec);
        assert!(problem.detail.contains(words), "{expression:?}: {:?} does not say {words:?}", problem.detail);
    }
    check(&Schedule { every_ms: Some(1_000), ..Schedule::default() }, 0).expect("intervals need no calendar");
}

#[test]
fn of_a_long_time_without_a_daemon_only_the_first_thousand_are_counted() {
    let schedule = cron("* * * * * *", "Europe/Zurich");
    let (first, now) = (at("2026-01-01T00:00:00Z"), at("2026-12-01T00:00:00Z") + 500);
    let due = due(&schedule, first, now);
    assert_eq!((due.count, due.more), (limits::SCHEDULE_MISSED_COUNT_MAX, true));
    assert_eq!((due.last_ms, due.next_ms), (now - 500, Some(now + 500)));
}
