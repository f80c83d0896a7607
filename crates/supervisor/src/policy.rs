//! Restart or rest: pure functions of the policy, the end and the attempts so far.

use hostler_model::Cause;
use hostler_model::spec::{Restart, RestartWhen, Spec};
use hostler_model::workload::RunState;

/// What follows an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing by itself.
    Rest,
    /// A new run after a delay.
    Restart {
        /// The delay, milliseconds.
        delay_ms: u64,
        /// Restarts in a row without a healthy run between, this one included.
        attempt: u32,
    },
}

/// The restart policy of this spec: what is protected comes back whatever happened.
#[must_use]
pub fn in_force(spec: &Spec) -> Restart {
    if spec.protected {
        Restart { when: RestartWhen::Always, max_attempts: None, ..*spec.restart }
    } else {
        *spec.restart
    }
}

/// Decides what follows this end. `attempts` counts restarts in a row so far, `lived_ms` is how long the run lived.
#[must_use]
pub fn after_end(policy: &Restart, end: &RunState, attempts: u32, lived_ms: u64, entropy: u64) -> Next {
    let wanted = match policy.when {
        RestartWhen::Never => false,
        RestartWhen::Always => true,
        RestartWhen::OnFailure => !is_success(end),
    };
    let healthy = lived_ms >= policy.healthy_after_ms;
    let attempt = if healthy { 1 } else { attempts.saturating_add(1) };
    if !wanted || policy.max_attempts.is_some_and(|max| attempt > max) {
        return Next::Rest;
    }
    Next::Restart { delay_ms: backoff_ms(policy, attempt, entropy), attempt }
}

fn is_success(end: &RunState) -> bool {
    matches!(end, RunState::Ended { exit } if exit.cause == Cause::Success)
}

/// `min(initial · 2^(attempt-1), max)`, of which a random part up to a half is left off, so that many that failed
/// together do not come back together.
#[must_use]
pub fn backoff_ms(policy: &Restart, attempt: u32, entropy: u64) -> u64 {
    let doublings = attempt.saturating_sub(1).min(63);
    let full = policy.backoff_initial_ms.saturating_mul(1 << doublings).min(policy.backoff_max_ms);
    let half = full / 2;
    full - if half == 0 { 0 } else { entropy % (half + 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_model::exit::{Exit, ExitStatus};
    use hostler_model::workload::{LostReason, StartFailure, StartFailureKind};
    use proptest::prelude::*;

    fn ended(code: u8) -> RunState {
        let cause = if code == 0 { Cause::Success } else { Cause::Error };
        RunState::Ended { exit: Exit::new(ExitStatus::Code(code), cause, 0, 0) }
    }

    fn policy(when: RestartWhen, max_attempts: Option<u32>) -> Restart {
        Restart { when, max_attempts, ..Restart::default() }
    }

    #[test]
    fn the_table() {
        let lost = RunState::Lost { reason: LostReason::Agent };
        let failed = |kind| RunState::Failed { failure: StartFailure { kind, message: String::new() } };
        let cases = [
            (RestartWhen::Never, None, ended(1), 0, false),
            (RestartWhen::OnFailure, None, ended(0), 0, false),
            (RestartWhen::OnFailure, None, ended(1), 0, true),
            (RestartWhen::OnFailure, None, lost.clone(), 0, true),
            (RestartWhen::OnFailure, Some(2), ended(1), 1, true),
            (RestartWhen::OnFailure, Some(2), ended(1), 2, false),
            (RestartWhen::Always, None, ended(0), 9, true),
            (RestartWhen::Always, None, failed(StartFailureKind::CommandNotFound), 0, true),
            // Whoever wants it to stay stopped says so in `desired`; a start that was cut off is one that failed.
            (RestartWhen::Always, None, failed(StartFailureKind::Cancelled), 0, true),
            (RestartWhen::Never, None, lost, 0, false),
        ];
        for (when, max, end, attempts, restarts) in cases {
            let next = after_end(&policy(when, max), &end, attempts, 0, 0);
            assert_eq!(next != Next::Rest, restarts, "{when:?} {max:?} {end:?} {attempts}");
        }
    }

    #[test]
    fn a_healthy_run_clears_the_count() {
        let policy = policy(RestartWhen::OnFailure, Some(1));
        assert_eq!(after_end(&policy, &ended(1), 1, 0, 0), Next::Rest);
        let next = after_end(&policy, &ended(1), 1, policy.healthy_after_ms, 0);
        assert_eq!(next, Next::Restart { delay_ms: policy.backoff_initial_ms, attempt: 1 });
    }

    proptest! {
        #[test]
        fn the_delay_stays_between_its_bounds(attempt in 1u32.., entropy: u64, initial in 1u64..10_000, max in 10_000u64..10_000_000) {
            let policy = Restart { backoff_initial_ms: initial, backoff_max_ms: max, ..Restart::default() };
            let delay = backoff_ms(&policy, attempt, entropy);
            prop_assert!(delay <= max && delay >= initial / 2);
        }
    }
}
