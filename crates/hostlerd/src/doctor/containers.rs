//! What there is to make containers with, and to save them.

use hostler_api::types::Check;
use hostler_model::launch::OciKind;

use super::{limited, ok};
use crate::oci::Survey;

/// One check for making containers, one for checkpoints.
pub(super) fn checks(survey: &Survey) -> [Check; 2] {
    [runtimes(survey), checkpoints(survey)]
}

fn runtimes(survey: &Survey) -> Check {
    let name = "containers";
    let mend = "install one (Debian: apt-get install runc), or name one as oci.runtime in hostler.toml";
    match &survey.runtime {
        Err(why) => limited(name, format!("{why}: only processes can be run"), mend),
        Ok(found) => {
            let version = if found.version.is_empty() { "says no version" } else { &found.version };
            let others = survey.others.iter().map(|other| format!(", {} ({})", other.program.display(), other.version));
            let detail = format!(
                "made by {} ({version}) unless another is asked for{}",
                found.program.display(),
                others.collect::<String>()
            );
            match found.kind {
                OciKind::Other => limited(
                    name,
                    format!("{detail}; neither runc nor crun: it is called as these are"),
                    "name runc or crun as oci.runtime in hostler.toml",
                ),
                _ => ok(name, detail),
            }
        }
    }
}

fn checkpoints(survey: &Survey) -> Check {
    let name = "checkpoints";
    let mend = "install a CRIU that knows this kernel, with iptables (Debian: apt-get install criu iptables, of Debian 13 or newer \
                for Linux 6.x), or name its directory as oci.criu_dir in hostler.toml";
    match &survey.criu {
        Ok(version) => ok(name, format!("by {version}")),
        Err(why) => limited(name, format!("{why}: hostler checkpoint is refused"), mend),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Found;
    use hostler_api::types::CheckStatus;

    #[test]
    fn says_what_is_there_and_how_to_mend_what_is_not() {
        let found = |kind| Found { program: "/usr/bin/x".into(), kind, version: "x version 1".to_owned() };
        let survey = |runtime, criu| Survey { runtime, others: vec![found(OciKind::Crun)], criu };
        let good = checks(&survey(Ok(found(OciKind::Runc)), Ok("criu 4".to_owned())));
        assert!(good.iter().all(|check| check.status == CheckStatus::Ok));
        assert!(good[0].detail.contains("/usr/bin/x (x version 1) unless another is asked for, /usr/bin/x"));
        let bad = checks(&survey(Err("none".to_owned()), Err("no criu".to_owned())));
        assert!(bad.iter().all(|check| check.status == CheckStatus::Limited && check.mend.is_some()));
        assert_eq!(checks(&survey(Ok(found(OciKind::Other)), Ok(String::new())))[0].status, CheckStatus::Limited);
    }
}
