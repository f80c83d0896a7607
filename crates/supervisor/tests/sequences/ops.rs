//! Everything that can happen.

use hostler_model::schedule::Schedule;
use proptest::prelude::*;

use super::plans;

/// A workload that is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Creation {
    pub(crate) when: u8,
    pub(crate) max: Option<u8>,
    pub(crate) remove: bool,
    pub(crate) key: Option<u8>,
    pub(crate) limited: bool,
    pub(crate) owner: bool,
    /// One of the queues, and a priority in it.
    pub(crate) queue: Option<(u8, i8)>,
    pub(crate) protected: bool,
    pub(crate) hooks: bool,
    /// One of the networks.
    pub(crate) network: Option<u8>,
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Create(Creation),
    /// A queue is changed or removed.
    Queue {
        which: u8,
        what: u8,
    },
    /// A network is made or removed.
    Network {
        which: u8,
        what: u8,
    },
    /// Short jobs follow each other through a queue, and some are left.
    Rush {
        jobs: u8,
        ends: u8,
    },
    /// One thing is done to all.
    Bulk {
        verb: u8,
    },
    Request {
        kind: u8,
        which: usize,
    },
    /// A creation with a schedule.
    Plan {
        schedule: Schedule,
        when: u8,
        queue: Option<u8>,
    },
    /// Somebody sets the wall clock.
    SetClock {
        minutes: i8,
    },
    /// Something happens in a process: it starts, fails, exits, is lost.
    World {
        which: usize,
        what: u8,
    },
    /// Something happens to an exec.
    Exec {
        which: usize,
        started_only: bool,
    },
    Tick {
        ms: u16,
    },
    /// The daemon dies: before the next commit, or after it and before its actions.
    Crash {
        committed: bool,
        reboot: bool,
        /// The decision on its way was about the end of a run.
        ending: bool,
    },
    /// A hook's request is over, or its command due.
    Hook {
        which: usize,
        good: bool,
    },
    /// The reader of logs is a step further.
    Lines {
        which: usize,
        matched: bool,
    },
    DiskFull(bool),
    OwnerGone {
        which: usize,
    },
    /// A stack is applied: which of its units are there, and in which version.
    Stack {
        present: u8,
        version: u8,
    },
    DownStack,
    /// A probe has found a run ready, or dead.
    Probe {
        which: usize,
        dead: bool,
    },
    /// An agent answers a pause, resume or checkpoint.
    Order {
        which: usize,
        good: bool,
    },
    /// A condition was looked at.
    Condition {
        met: bool,
    },
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0u8..3, prop::option::of(0u8..3), any::<bool>(), prop::option::of(0u8..3), any::<bool>(), any::<bool>(),
            prop::option::of((0u8..3, -1i8..2)), prop::bool::weighted(0.1), any::<bool>(), prop::option::weighted(0.3, 0u8..3))
            .prop_map(|(when, max, remove, key, limited, owner, queue, protected, hooks, network)| {
                Op::Create(Creation { when, max, remove, key, limited, owner, queue, protected, hooks, network })
            }),
        3 => (0u8..3, 0u8..4).prop_map(|(which, what)| Op::Network { which, what }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, good)| Op::Hook { which, good }),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, matched)| Op::Lines { which, matched }),
        2 => (0u8..3, 0u8..8).prop_map(|(which, what)| Op::Queue { which, what }),
        1 => (0u8..4).prop_map(|verb| Op::Bulk { verb }),
        2 => (plans::schedule(), 0u8..2, prop::option::of(0u8..3))
            .prop_map(|(schedule, when, queue)| Op::Plan { schedule, when, queue }),
        1 => any::<i8>().prop_map(|minutes| Op::SetClock { minutes }),
        5 => (0u8..20, any::<usize>()).prop_map(|(kind, which)| Op::Request { kind, which }),
        8 => (any::<usize>(), 0u8..6).prop_map(|(which, what)| Op::World { which, what }),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(which, started_only)| Op::Exec { which, started_only }),
        3 => (0u16..20_000).prop_map(|ms| Op::Tick { ms }),
        2 => (any::<bool>(), prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(committed, reboot, ending)| Op::Crash { committed, reboot, ending }),
        2 => (3u8..9, 1u8..8).prop_map(|(jobs, ends)| Op::Rush { jobs, ends }),
        1 => prop::bool::weighted(0.3).prop_map(Op::DiskFull),
        1 => any::<usize>().prop_map(|which| Op::OwnerGone { which }),
        2 => (0u8..16, 0u8..3).prop_map(|(present, version)| Op::Stack { present, version }),
        1 => Just(Op::DownStack),
        2 => (any::<usize>(), prop::bool::weighted(0.3)).prop_map(|(which, dead)| Op::Probe { which, dead }),
        4 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, good)| Op::Order { which, good }),
        1 => prop::bool::weighted(0.8).prop_map(|met| Op::Condition { met }),
    ]
}
