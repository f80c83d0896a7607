//! `--filter` of `ps` and `events`: `key=value` conditions, separated by commas, that must all hold.

use hostler_model::event::Event;
use hostler_model::workload::{Phase, Workload};
use hostler_model::{Problem, ProblemKind};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Name(String),
    Phase(Phase),
    Label(String, Option<String>),
    Queue(String),
    Tag(String),
    Type(String),
    Workload(String),
}

/// All conditions of one filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(Vec<Condition>);

const CONDITIONS_MAX: usize = 16;

impl Filter {
    /// `name=…`, `phase=…`, `queue=…`, `label=key[=value]`, `tag=…`.
    pub fn for_workloads(text: Option<&str>) -> Result<Self, Problem> {
        let keys = "name, phase (pending, queued, scheduled, preparing, running, stopping, ended, failed, lost), queue, label or tag";
        Self::parse(text, keys, |key, value| {
            Some(match key {
                "name" => Condition::Name(value.to_owned()),
                "phase" | "state" | "status" => Condition::Phase(Phase::from_word(value)?),
                "queue" => Condition::Queue(value.to_owned()),
                "label" => match value.split_once('=') {
                    Some((key, value)) => Condition::Label(key.to_owned(), Some(value.to_owned())),
                    None => Condition::Label(value.to_owned(), None),
                },
                "tag" => Condition::Tag(value.to_owned()),
                _ => return None,
            })
        })
    }

    /// `type=…`, `workload=…`.
    pub fn for_events(text: Option<&str>) -> Result<Self, Problem> {
        Self::parse(text, "type or workload", |key, value| {
            Some(match key {
                "type" => Condition::Type(value.to_owned()),
                "workload" | "name" => Condition::Workload(value.to_owned()),
                _ => return None,
            })
        })
    }

    fn parse(
        text: Option<&str>,
        keys: &str,
        condition: impl Fn(&str, &str) -> Option<Condition>,
    ) -> Result<Self, Problem> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Self::default()) };
        let refuse = |part: &str| {
            let part: String = part.chars().take(60).collect();
            let detail = format!("filter {part:?} is not understood; write KEY=VALUE with a key of {keys}");
            Problem::new(ProblemKind::MalformedRequest, detail)
        };
        let parts: Vec<&str> = text.split(',').collect();
        if parts.len() > CONDITIONS_MAX {
            return Err(refuse(text));
        }
        parts
            .into_iter()
            .map(|part| part.split_once('=').and_then(|(key, value)| condition(key, value)).ok_or_else(|| refuse(part)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether a workload passes.
    #[must_use]
    pub fn accepts_workload(&self, workload: &Workload) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::Name(pattern) => matches(pattern, workload.name.as_str()),
            Condition::Phase(phase) => workload.phase() == *phase,
            Condition::Label(key, value) => match (workload.spec.labels.get(key), value) {
                (Some(found), Some(value)) => found == value,
                (found, None) => found.is_some(),
                (None, Some(_)) => false,
            },
            Condition::Queue(name) => workload.spec.queue.as_ref().is_some_and(|queue| matches(name, queue.as_str())),
            Condition::Tag(tag) => workload.spec.tags.contains(tag),
            Condition::Type(_) | Condition::Workload(_) => true,
        })
    }

    /// Whether an event passes.
    #[must_use]
    pub fn accepts_event(&self, event: &Event) -> bool {
        self.0.iter().all(|condition| match condition {
            Condition::Type(pattern) => matches(pattern, event.kind.name()),
            Condition::Workload(reference) => event.subject.as_ref().is_some_and(|subject| {
                matches(reference, subject.name.as_str()) || subject.workload.to_string().starts_with(reference)
            }),
            _ => true,
        })
    }
}

/// `*` at the end matches any rest.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => text.starts_with(prefix),
        None => text == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn understands_its_keys_and_refuses_others() {
        assert!(Filter::for_workloads(Some("name=web*,phase=running,label=a=b,label=c,tag=nightly")).is_ok());
        assert!(Filter::for_events(Some("type=run.*,workload=web")).is_ok());
        assert_eq!(Filter::for_events(None), Ok(Filter::default()));
        for bad in ["x", "colour=red", "phase=runing", "name", ",", "type=run.exited"] {
            assert!(Filter::for_workloads(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_star_matches_any_rest() {
        assert!(matches("run.*", "run.exited") && matches("run.exited", "run.exited"));
        assert!(!matches("run", "run.exited") && !matches("run.*", "workload.created"));
    }
}
