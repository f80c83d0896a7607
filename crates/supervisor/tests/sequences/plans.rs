//! Schedules among everything else that can happen.

use std::collections::HashSet;

use hostler_model::event::EventKind;
use hostler_model::ids::WorkloadId;
use hostler_model::schedule::{Misfire, Overlap, Schedule};
use hostler_model::workload::Workload;
use proptest::prelude::*;

pub(crate) fn schedule() -> impl Strategy<Value = Schedule> {
    (any::<bool>(), prop::sample::select(Misfire::ALL), prop::sample::select(Overlap::ALL)).prop_map(
        |(every, misfire, overlap)| Schedule {
            every_ms: every.then_some(5_000),
            cron: (!every).then(|| "*/10 * * * * *".to_owned()),
            misfire,
            overlap,
            ..Schedule::default()
        },
    )
}

/// Dates that were kept: none comes twice, until somebody lets the schedule count from another now.
#[derive(Default)]
pub(crate) struct Dates(HashSet<(WorkloadId, u64)>);

impl Dates {
    pub(crate) fn event(&mut self, workload: Option<&Workload>, kind: &EventKind) {
        let Some(workload) =
            workload.filter(|workload| workload.spec.schedule.as_ref().is_some_and(|plan| is_cron(plan)))
        else {
            return;
        };
        match kind {
            EventKind::ScheduleFired { due_ms: Some(due_ms), .. } => {
                assert!(self.0.insert((workload.id, *due_ms)), "{} fired twice for {due_ms}", workload.id);
            }
            EventKind::ScheduleResumed { .. } => self.0.retain(|(of, _)| *of != workload.id),
            _ => {}
        }
    }
}

fn is_cron(schedule: &Schedule) -> bool {
    schedule.cron.is_some()
}

/// What must hold for one workload whenever nothing is under way.
pub(crate) fn check(workload: &Workload) {
    let (Some(spec), Some(plan)) = (&workload.spec.schedule, &workload.schedule) else {
        assert!(workload.spec.schedule.is_none(), "a schedule was lost");
        return;
    };
    let is_busy = workload.live_run().is_some() || workload.queued.is_some() || workload.restart_at_boot_ms.is_some();
    let waits = plan.next_fire_ms.is_some();
    let should_wait = !plan.paused && (is_cron(spec) || !is_busy);
    assert_eq!(waits, should_wait, "no next fire, or one too many: {workload:?}");
    assert_eq!(plan.next_fire_boot_ms.is_some(), waits && !is_cron(spec), "the wrong clock: {plan:?}");
    assert!(!waits || !is_cron(spec) || plan.last_fire_ms < plan.next_fire_ms, "a date comes twice: {plan:?}");
    assert!(plan.waiting == 0 || is_busy, "waits for nothing: {workload:?}");
}
