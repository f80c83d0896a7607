//! Pools of the networks' set-ups, looked at when somebody asks: as many series as there are networks, of which a node has at
//! most [`hostler_model::limits::NETWORKS_MAX`].

use hostler_model::network::PoolView;
use hostler_model::{Namespace, NetworkName};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SetupLabel {
    namespace: String,
    network: String,
    state: &'static str,
}

/// Set-ups by where they stand, and failures in a row.
pub(super) fn register(registry: &mut Registry, pools: &[(Namespace, NetworkName, PoolView)]) {
    if pools.is_empty() {
        return;
    }
    let setups = Family::<SetupLabel, Gauge>::default();
    let failures = Family::<[(&'static str, String); 2], Gauge>::default();
    for (namespace, network, pool) in pools {
        let states = [
            ("idle", pool.idle),
            ("occupied", pool.occupied),
            ("making", pool.making),
            ("leaving", pool.leaving),
            ("waited_for", pool.waiting),
        ];
        for (state, count) in states {
            let label = SetupLabel { namespace: namespace.to_string(), network: network.to_string(), state };
            setups.get_or_create(&label).set(i64::from(count));
        }
        let label = [("namespace", namespace.to_string()), ("network", network.to_string())];
        failures.get_or_create(&label).set(i64::from(pool.failures));
    }
    registry.register("hostler_network_setups", "Set-ups of networks, by where they stand", setups);
    let help = "Failures in a row to make a set-up of a network";
    registry.register("hostler_network_setup_failures", help, failures);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_network_has_its_series() {
        let pool = PoolView { idle: 3, failures: 2, ..PoolView::default() };
        let mut registry = Registry::default();
        register(&mut registry, &[(Namespace::owner(), "blue".parse().expect("a name"), pool)]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        let line = "hostler_network_setups{namespace=\"default\",network=\"blue\",state=\"idle\"} 3";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("hostler_network_setup_failures{namespace=\"default\",network=\"blue\"} 2"), "{text}");
    }
}
