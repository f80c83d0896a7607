//! Pools, looked at when somebody asks: as many series as there are networks, of which a node has at most
//! [`hostler_model::limits::NETWORKS_MAX`], and pools of guests in the configuration.

use hostler_model::network::PoolView;
use hostler_model::{Namespace, NetworkName};
use hostler_runtime::PoolStand;
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GuestLabel {
    pool: String,
    state: &'static str,
}

/// Guests by where they stand, how many should wait, and failures in a row.
pub(super) fn register_guests(registry: &mut Registry, pools: &[PoolStand]) {
    if pools.is_empty() {
        return;
    }
    let guests = Family::<GuestLabel, Gauge>::default();
    let targets = Family::<[(&'static str, String); 1], Gauge>::default();
    let failures = Family::<[(&'static str, String); 1], Gauge>::default();
    for stand in pools {
        let states =
            [("idle", stand.idle), ("occupied", stand.occupied), ("making", stand.making), ("leaving", stand.leaving)];
        for (state, count) in states {
            let label = GuestLabel { pool: stand.name.clone(), state };
            guests.get_or_create(&label).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let label = [("pool", stand.name.clone())];
        targets.get_or_create(&label).set(i64::try_from(stand.target).unwrap_or(i64::MAX));
        failures.get_or_create(&label).set(i64::from(stand.failures));
    }
    registry.register("hostler_pool_guests", "Guests of pools, by where they stand", guests);
    registry.register("hostler_pool_guests_wanted", "Guests that a pool should have waiting", targets);
    registry.register("hostler_pool_guest_failures", "Failures in a row to make a guest of a pool", failures);
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

    #[test]
    fn each_pool_of_guests_has_its_series() {
        let stand = PoolStand {
            name: "small".to_owned(),
            shape: hostler_model::vm::Vm::default(),
            idle: 2,
            target: 3,
            occupied: 1,
            making: 0,
            leaving: 0,
            max: 9,
            drained: false,
            snapshot: None,
            failures: 4,
            problem: None,
            sandboxes: Vec::new(),
        };
        let mut registry = Registry::default();
        register_guests(&mut registry, &[stand]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        for line in [
            "hostler_pool_guests{pool=\"small\",state=\"idle\"} 2",
            "hostler_pool_guests{pool=\"small\",state=\"occupied\"} 1",
            "hostler_pool_guests_wanted{pool=\"small\"} 3",
            "hostler_pool_guest_failures{pool=\"small\"} 4",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
