//! Tags and labels: free words on a workload, for people, filters and whoever reads results.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Problem, ProblemKind};
use crate::limits;
use crate::spec::invalid;

/// Checks the tags of a spec: how many, how long, printable, none twice.
pub(crate) fn check(tags: &[String]) -> Result<(), Problem> {
    let invalid = |what: String| Err(Problem::new(ProblemKind::InvalidSpec, format!("tags {what}")));
    if tags.len() > limits::TAGS_MAX {
        return invalid(format!("has more than {} entries", limits::TAGS_MAX));
    }
    let mut seen = BTreeSet::new();
    for tag in tags {
        if tag.is_empty() || tag.len() > limits::TAG_LENGTH_MAX || tag.chars().any(char::is_control) {
            let shown: String = tag.chars().take(60).collect();
            return invalid(format!(
                "has {shown:?}: a tag is text of 1 to {} bytes without control characters",
                limits::TAG_LENGTH_MAX
            ));
        }
        if !seen.insert(tag) {
            return invalid(format!("has {tag:?} twice"));
        }
    }
    Ok(())
}

/// Checks the marks of a workload.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), Problem> {
    if labels.len() > limits::LABELS_MAX {
        return Err(invalid("labels", &format!("has more than {} entries", limits::LABELS_MAX)));
    }
    for (key, value) in labels {
        let good = !key.is_empty()
            && key.len() <= limits::LABEL_LENGTH_MAX
            && value.len() <= limits::LABEL_LENGTH_MAX
            && !key.chars().chain(value.chars()).any(char::is_control)
            && !key.contains('=');
        if !good {
            let what = format!(
                "{key:?}: keys and values are text of at most {} bytes, keys without '='",
                limits::LABEL_LENGTH_MAX
            );
            return Err(invalid("labels", &what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_how_long_and_none_twice() {
        let tags = |list: &[&str]| check(&list.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>());
        assert_eq!(tags(&[]), Ok(()));
        assert_eq!(tags(&["nightly", "a b=c", "größe", &"x".repeat(limits::TAG_LENGTH_MAX)]), Ok(()));
        let many: Vec<String> = (0..=limits::TAGS_MAX).map(|number| number.to_string()).collect();
        assert!(check(&many).is_err() && check(&many[1..]).is_ok());
        for bad in [&[""][..], &["a\nb"], &["a", "b", "a"], &[&"x".repeat(limits::TAG_LENGTH_MAX + 1)]] {
            assert!(tags(bad).expect_err("refused").detail.starts_with("tags "), "{bad:?}");
        }
    }
}
