//! What there is to make networks with.

use hostler_api::types::Check;
use hostler_network::Survey;

use super::{limited, ok};

/// Bridge networks, networks of CNI plugins, and networks that cannot be used now.
pub(super) fn checks(survey: &Survey) -> Vec<Check> {
    let mut checks = vec![bridges(survey), plugins(survey)];
    checks.extend(survey.broken.iter().map(|(namespace, name, why)| {
        let detail = format!("network {name} of namespace {namespace} cannot be used: {why}");
        limited("network", detail, "mend that; it is tried again by itself, after a minute at the latest")
    }));
    checks
}

fn bridges(survey: &Survey) -> Check {
    let name = "networks";
    if !survey.privileged {
        let detail = "the daemon is not root: hostler network is refused, and containers are too";
        return limited(name, detail, "run the node as root");
    }
    match &survey.rules {
        Err(why) => limited(
            name,
            format!("{why}: no network can be made"),
            "install nftables (Debian: apt-get install nftables), with a kernel that has it, bridges and veth",
        ),
        Ok(version) if !survey.rates => limited(
            name,
            format!("bridges, with rules by {version}; there is no tc: rates cannot be limited"),
            "install it (Debian: apt-get install iproute2)",
        ),
        Ok(version) => ok(name, format!("bridges, with rules by {version}")),
    }
}

fn plugins(survey: &Survey) -> Check {
    let name = "cni";
    if survey.plugins.is_empty() {
        let mend = "install some (Debian: apt-get install containernetworking-plugins), or name their directory as \
                    network.cni_path in hostler.toml; bridge networks need none";
        return limited(name, "there are no CNI plugins: hostler network create --cni is refused", mend);
    }
    ok(name, format!("plugins: {}", survey.plugins.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hostler_api::types::CheckStatus;
    use hostler_model::Namespace;

    #[test]
    fn says_what_is_there_and_how_to_mend_what_is_not() {
        let good = Survey {
            privileged: true,
            rules: Ok("nftables v1.0.6".to_owned()),
            rates: true,
            plugins: vec!["bridge".to_owned()],
            broken: Vec::new(),
        };
        assert!(checks(&good).iter().all(|check| check.status == CheckStatus::Ok));
        let broken = (Namespace::owner(), "blue".parse().expect("a name"), "no bridge".to_owned());
        let bad = [
            Survey { privileged: false, ..good.clone() },
            Survey { rules: Err("there is no nft".to_owned()), ..good.clone() },
            Survey { rates: false, ..good.clone() },
            Survey { plugins: Vec::new(), ..good.clone() },
            Survey { broken: vec![broken], ..good },
        ];
        for survey in bad {
            let checks = checks(&survey);
            let bad: Vec<_> = checks.iter().filter(|check| check.status != CheckStatus::Ok).collect();
            assert!(bad.len() == 1 && bad[0].mend.is_some(), "{survey:?}");
        }
    }
}
