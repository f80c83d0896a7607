//! A stack as lines: each unit once, below the last of those that it waits for.

use std::collections::{BTreeMap, BTreeSet};

use hostler_api::stacks::{StackView, UnitView};
use hostler_model::ids::UnitName;
use hostler_model::stack::{GenerationState, UnitKind};
use hostler_model::workload::Phase;

use crate::output::{Style, Tone, standing_tone, standing_words};

/// How many units are where: the colour and the words.
pub(super) fn summary(view: &StackView) -> (Tone, String) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for unit in &view.units {
        *counts.entry(unit.state.as_str()).or_default() += 1;
    }
    let mut words: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let changing = view.units.iter().filter(|unit| unit.next.is_some()).count();
    if changing > 0 {
        words.push(format!("{changing} with another version"));
    }
    let left_out = view.mistakes.iter().filter_map(|mistake| mistake.unit.as_ref()).collect::<BTreeSet<_>>().len();
    if left_out > 0 {
        words.push(format!("{left_out} left out"));
    }
    if view.down {
        words.push("going down".to_owned());
    }
    let tones = view.units.iter().map(tone);
    let tone = match () {
        () if left_out > 0 || tones.clone().any(|tone| tone == Tone::Bad) => Tone::Bad,
        () if tones.clone().any(|tone| tone != Tone::Good) => Tone::Warning,
        () => Tone::Good,
    };
    (tone, if words.is_empty() { "no units".to_owned() } else { words.join(", ") })
}

pub(super) fn tone(unit: &UnitView) -> Tone {
    match &unit.next {
        Some(next) if matches!(next.state, GenerationState::Failed { .. }) => Tone::Bad,
        _ => standing_tone(&unit.state),
    }
}

/// How a unit stands, in words.
pub(super) fn words(unit: &UnitView) -> String {
    let mut words = match (&unit.state, unit.kind, &unit.schedule) {
        (GenerationState::Ready, UnitKind::Job, Some(plan)) => format!("scheduled: {plan}"),
        (GenerationState::Ready, UnitKind::Job, None) => "done".to_owned(),
        (GenerationState::Stopping { .. }, ..) if unit.leaving => "stopping, to go".to_owned(),
        (state, ..) => standing_words(state),
    };
    let own: Vec<_> = unit.members.iter().filter(|member| member.generation == unit.generation).collect();
    if unit.replicas > 1 && matches!(unit.state, GenerationState::Starting { .. } | GenerationState::Ready) {
        let ready = own.iter().filter(|member| member.ready).count();
        words.push_str(&format!(", {ready} of {} ready", unit.replicas));
    } else if let [member] = own[..]
        && matches!(unit.state, GenerationState::Starting { .. } | GenerationState::Ready)
    {
        match (member.phase, member.exit_code) {
            (Phase::Running, _) if unit.schedule.is_none() => {}
            (Phase::Scheduled, _) => {}
            (Phase::Pending, Some(code)) => words.push_str(&format!(", exit {code}, to be restarted")),
            (Phase::Ended, _) => {}
            (phase, _) => words.push_str(&format!(", {}", phase.as_str())),
        }
    }
    if let Some(next) = &unit.next {
        words.push_str(&format!("; version {} is {}", next.generation, standing_words(&next.state)));
    }
    words
}

/// The whole picture.
pub(super) fn lines(style: Style, view: &StackView) -> Vec<String> {
    let units: BTreeMap<&UnitName, &UnitView> = view.units.iter().map(|unit| (&unit.name, unit)).collect();
    let mut depths = BTreeMap::new();
    for name in units.keys() {
        depth(name, &units, &mut depths, &mut BTreeSet::new());
    }
    let mut children: BTreeMap<Option<&UnitName>, Vec<&UnitView>> = BTreeMap::new();
    for unit in &view.units {
        let known = unit.requires.iter().chain(&unit.after).filter(|name| units.contains_key(name));
        let depth = |name: &UnitName| depths.get(name).copied().unwrap_or(0);
        // Only from greater to smaller depth, so that versions that wait for each other do not go round.
        let parent = known.filter(|name| depth(name) < depth(&unit.name)).max_by_key(|name| depth(name));
        children.entry(parent).or_default().push(unit);
    }
    let (tone, words) = summary(view);
    let mut lines = vec![format!("{}  {}", style.paint(Tone::Heading, view.name.as_str()), style.paint(tone, &words))];
    let mut rows = Vec::new();
    collect(None, "", &children, &mut rows);
    let width = rows.iter().map(|(prefix, unit)| prefix.chars().count() + unit.name.as_str().len()).max().unwrap_or(0);
    for (prefix, unit) in rows {
        let pad = " ".repeat(width - prefix.chars().count() - unit.name.as_str().len());
        let words = style.paint(self::tone(unit), &self::words(unit));
        lines.push(format!("{}{}{pad}  {words}", style.paint(Tone::Faint, &prefix), unit.name));
    }
    for mistake in &view.mistakes {
        lines.push(style.paint(Tone::Bad, &format!("left out: {mistake}")));
    }
    lines
}

/// How many come before a unit, one after the other.
fn depth<'a>(
    name: &'a UnitName,
    units: &BTreeMap<&'a UnitName, &'a UnitView>,
    depths: &mut BTreeMap<&'a UnitName, usize>,
    path: &mut BTreeSet<&'a UnitName>,
) -> usize {
    if let Some(known) = depths.get(name) {
        return *known;
    }
    if !path.insert(name) {
        return 0;
    }
    let others = units.get(name).into_iter().flat_map(|unit| unit.requires.iter().chain(&unit.after));
    let known = others.filter_map(|other| units.get_key_value(other).map(|(key, _)| *key));
    let depth = known.map(|other| depth(other, units, depths, path) + 1).max().unwrap_or(0);
    path.remove(name);
    depths.insert(name, depth);
    depth
}

fn collect<'a>(
    parent: Option<&'a UnitName>,
    indent: &str,
    children: &BTreeMap<Option<&'a UnitName>, Vec<&'a UnitView>>,
    rows: &mut Vec<(String, &'a UnitView)>,
) {
    let Some(units) = children.get(&parent) else { return };
    for (index, unit) in units.iter().enumerate() {
        let is_last = index + 1 == units.len();
        rows.push((format!("{indent}{}", if is_last { "└─ " } else { "├─ " }), unit));
        let below = format!("{indent}{}", if is_last { "   " } else { "│  " });
        collect(Some(&unit.name), &below, children, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, requires: &[&str], after: &[&str], state: &str) -> serde_json::Value {
        let mut unit: serde_json::Value = serde_json::from_str(state).expect("a state");
        let more = serde_json::json!({"name": name, "kind": "service", "requires": requires, "after": after,
            "replicas": 1, "generation": 1, "members": []});
        unit.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        unit
    }

    #[test]
    fn each_unit_is_below_the_last_that_it_waits_for() {
        let ready = r#"{"state":"ready"}"#;
        let view: StackView = serde_json::from_value(serde_json::json!({
            "name": "shop", "namespace": "default", "revision": 1, "applied_at_ms": 0, "settled": false,
            "units": [
                unit("api", &["db", "migrate"], &[], r#"{"state":"starting"}"#),
                unit("cron", &[], &[], r#"{"state":"skipped","reason":"there is no /x"}"#),
                unit("db", &[], &[], ready),
                unit("migrate", &["db"], &[], ready),
                unit("web", &["api"], &["cron"], r#"{"state":"waiting","on":["api"]}"#),
            ],
            "mistakes": [{"path": "service.bad.command", "what": "is missing", "unit": "bad"}],
        }))
        .expect("a view");
        let lines = lines(Style::Plain, &view);
        let expected = [
            "shop  2 ready, 1 skipped, 1 starting, 1 waiting, 1 left out",
            "├─ cron          skipped: there is no /x",
            "└─ db            ready",
            "   └─ migrate    ready",
            "      └─ api     starting",
            "         └─ web  waiting for api",
            "left out: service.bad.command: is missing",
        ];
        assert_eq!(lines, expected);
    }
}
