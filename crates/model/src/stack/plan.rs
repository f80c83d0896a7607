//! A unit with every value parsed: what the supervisor works with, and what is compared to tell what a new version of
//! a stack would change.

use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::probe::{Liveness, Readiness};
use crate::ids::UnitName;
use crate::spec::Spec;

/// Whether a unit is kept running or runs to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UnitKind {
    /// Kept running.
    Service,
    /// Runs to its end.
    Job,
}

impl UnitKind {
    /// The word in stack files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Job => "job",
        }
    }
}

/// How a changed unit takes the place of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// The old one runs until the new one is ready, and stays when that never is.
    #[default]
    Rolling,
    /// The old one is stopped first: for what cannot run twice.
    Replace,
}

/// A unit with every value parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UnitPlan {
    /// Service or job.
    pub kind: UnitKind,
    /// What each replica runs; without a name.
    pub spec: Spec,
    /// Order and nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<UnitName>,
    /// What must be ready before, and must not fail while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<UnitName>,
    /// When it is ready.
    pub ready: Readiness,
    /// When it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// How it is found out that it is dead though it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub liveness: Option<Liveness>,
    /// How many run side by side.
    pub replicas: u32,
    /// How a changed one takes the place of this.
    #[serde(default)]
    pub update: Update,
}

impl UnitPlan {
    /// Whether it goes on once it is ready: a service, or a job with a schedule. Any other job is done then.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.kind == UnitKind::Service || self.spec.schedule.is_some()
    }

    /// Everything it waits for.
    pub fn dependencies(&self) -> impl Iterator<Item = &UnitName> {
        self.requires.iter().chain(&self.after)
    }

    /// Names of the keys in which the other one differs; nothing when they are equal.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let (a, b) = (&self.spec, &other.spec);
        let known = [
            ("kind", self.kind == other.kind),
            ("command", a.command == b.command),
            ("env", a.env == b.env),
            ("workdir", a.workdir == b.workdir),
            ("user", a.user == b.user),
            ("limits", a.limits == b.limits),
            ("rlimits", a.rlimits == b.rlimits),
            ("restart", a.restart == b.restart),
            ("stop", a.stop == b.stop),
            ("max_time", a.max_time_ms == b.max_time_ms),
            ("start_timeout", a.start_deadline_ms == b.start_deadline_ms),
            ("labels", a.labels == b.labels),
            ("log", a.log == b.log),
            ("stdin, stdout, stderr", a.stdio == b.stdio),
            ("queue", a.queue == b.queue),
            ("priority", a.priority == b.priority),
            ("schedule", a.schedule == b.schedule),
            ("hooks", a.hooks == b.hooks),
            ("protected", a.protected == b.protected),
            ("tags", a.tags == b.tags),
            ("stats_interval", a.stats_interval_ms == b.stats_interval_ms),
            ("no_new_privileges", a.no_new_privileges == b.no_new_privileges),
            ("isolation", a.isolation == b.isolation),
            ("container", a.container == b.container),
            ("after", self.after == other.after),
            ("requires", self.requires == other.requires),
            ("ready", self.ready == other.ready),
            ("condition", self.condition == other.condition),
            ("liveness", self.liveness == other.liveness),
            ("replicas", self.replicas == other.replicas),
            ("update", self.update == other.update),
        ];
        let names: Vec<_> = known.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect();
        // A key that is new to the spec and not in the table is a difference all the same.
        if names.is_empty() && self != other { vec!["something else"] } else { names }
    }

    /// Whether only their number differs: then replicas come and go, and those that stay are left alone.
    #[must_use]
    pub fn differs_in_replicas_only(&self, other: &Self) -> bool {
        self.replicas != other.replicas && Self { replicas: other.replicas, ..self.clone() } == *other
    }
}
