//! Gathers what a condition asks about; the judgement is the model's.

use std::collections::BTreeSet;
use std::time::Duration;

use hostler_model::stack::condition::{Condition, Facts};

/// A file system that does not answer must not hold a unit for ever.
const LOOK_MAX: Duration = Duration::from_secs(5);

/// What of the condition does not hold on this machine, now.
pub(crate) async fn unmet(condition: Condition) -> Option<String> {
    let looking = tokio::task::spawn_blocking(move || condition.unmet(&gather(&condition)));
    match tokio::time::timeout(LOOK_MAX, looking).await {
        Ok(Ok(unmet)) => unmet,
        Ok(Err(error)) => Some(format!("it could not be looked at: {error}")),
        Err(_) => Some(format!("it could not be looked at within {} s", LOOK_MAX.as_secs())),
    }
}

fn gather(condition: &Condition) -> Facts {
    let (mut files, mut env) = (BTreeSet::new(), BTreeSet::new());
    condition.asks(&mut files, &mut env);
    files.retain(|file| std::path::Path::new(file).exists());
    let variable = |key: String| std::env::var_os(&key).map(|value| (key, value.to_string_lossy().into_owned()));
    // Where there is no /proc there are no parameters.
    let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    Facts {
        files,
        env: env.into_iter().filter_map(variable).collect(),
        kernel: Facts::kernel_of(&cmdline),
        arch: std::env::consts::ARCH.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmet_now(json: &str) -> Option<String> {
        let condition: Condition = serde_json::from_str(json).expect("valid");
        condition.unmet(&gather(&condition))
    }

    #[test]
    fn this_machine_is_looked_at() {
        let arch = format!(r#"{{"arch":"{}","file":"/","not":{{"file":"/no/such/file"}}}}"#, std::env::consts::ARCH);
        assert_eq!(unmet_now(&arch), None);
        assert!(unmet_now(r#"{"arch":"pdp11"}"#).is_some());
        assert!(unmet_now(r#"{"env":"PATH"}"#).is_none());
        assert!(unmet_now(r#"{"env":"HOSTLER_NO_SUCH_VARIABLE"}"#).is_some());
        assert!(unmet_now(r#"{"kernel":"no.such.parameter"}"#).is_some());
    }
}
