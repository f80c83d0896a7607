//! Who may name whom. The tables are the architecture; a new edge is a decision, written down in `docs/decisions/`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::Finding;

/// The one crate with `unsafe`.
pub(crate) const UNSAFE_ROOM: &str = "hostler-linux";

/// Crates of this workspace that each crate may name. Those not listed may name any: tests, bench and xtask.
const EDGES: [(&str, &[&str]); 13] = [
    ("hostler-model", &[]),
    ("hostler-supervisor", &["hostler-model"]),
    ("hostler-wire", &["hostler-model"]),
    ("hostler-linux", &["hostler-model"]),
    ("hostler-agent", &["hostler-linux", "hostler-model", "hostler-wire"]),
    ("hostler-store", &["hostler-model"]),
    ("hostler-network", &["hostler-linux", "hostler-model"]),
    ("hostler-image", &["hostler-linux", "hostler-model"]),
    ("hostler-runtime", &["hostler-image", "hostler-linux", "hostler-model", "hostler-network", "hostler-wire"]),
    ("hostler-provision", &["hostler-model"]),
    ("hostler-api", &["hostler-model"]),
    (
        "hostlerd",
        &[
            "hostler-api",
            "hostler-image",
            "hostler-linux",
            "hostler-model",
            "hostler-network",
            "hostler-provision",
            "hostler-runtime",
            "hostler-store",
            "hostler-supervisor",
            "hostler-wire",
        ],
    ),
    ("hostler", &["hostler-api", "hostler-image", "hostler-model"]),
];

/// Rooms without a table: they exercise or describe all others.
const FREE: [&str; 3] = ["hostler-bench", "hostler-tests", "xtask"];

/// Crates from outside that only these rooms name.
const HEAVY: [(&str, &[&str]); 19] = [
    ("axum", &["hostlerd"]),
    ("clap", &["hostler", "hostlerd"]),
    ("croner", &["hostler-supervisor"]),
    ("hyper", &["hostler-api", "hostler-runtime", "hostlerd"]),
    ("jiff", &["hostler", "hostler-supervisor"]),
    ("libc", &["hostler-linux"]),
    ("lz4_flex", &["hostler-image"]),
    ("netlink-packet-core", &["hostler-network"]),
    ("netlink-packet-route", &["hostler-network"]),
    ("prometheus-client", &["hostlerd"]),
    ("redb", &["hostler-store"]),
    ("regex", &["hostler-provision"]),
    ("rustix", &["hostler", "hostler-linux"]),
    ("rustls-native-certs", &["hostlerd"]),
    ("schemars", &["hostler-api", "hostler-model"]),
    ("sd-notify", &["hostlerd"]),
    ("simple-dns", &["hostler-network"]),
    ("tokio-rustls", &["hostlerd"]),
    ("tracing-subscriber", &["hostlerd"]),
];

/// Crates without an async runtime.
const WITHOUT_TOKIO: [&str; 7] = [
    "hostler-agent",
    "hostler-image",
    "hostler-linux",
    "hostler-model",
    "hostler-store",
    "hostler-supervisor",
    "hostler-wire",
];

/// What `cargo metadata` says of one crate, as far as the rules ask.
#[derive(Debug, Clone)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Names of what it depends on, for building, running or testing.
    pub(crate) dependencies: Vec<String>,
    /// Its `lib.rs` and `main.rs` files, relative to the project's root.
    pub(crate) entry_points: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    dependencies: Vec<MetadataDependency>,
    targets: Vec<MetadataTarget>,
}

#[derive(Deserialize)]
struct MetadataDependency {
    name: String,
}

#[derive(Deserialize)]
struct MetadataTarget {
    kind: Vec<String>,
    src_path: String,
}

/// Asks cargo.
pub(crate) fn packages(root: &Path) -> Result<Vec<Package>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("running cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
    let packages = metadata.packages.into_iter().map(|package| {
        let entries =
            package.targets.iter().filter(|target| target.kind.iter().any(|kind| kind == "lib" || kind == "bin"));
        let relative = |target: &MetadataTarget| {
            let path = Path::new(&target.src_path);
            path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned()
        };
        Package {
            name: package.name,
            entry_points: entries.map(relative).collect(),
            dependencies: package.dependencies.into_iter().map(|dependency| dependency.name).collect(),
        }
    });
    Ok(packages.collect())
}

/// Checks every dependency against the tables.
pub(crate) fn check(packages: &[Package]) -> Vec<Finding> {
    let ours: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| !FREE.contains(&package.name.as_str())) {
        let mut complain = |message: String| findings.push(Finding::new(&package.name, 0, message));
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == package.name) else {
            complain("is not in the table of edges: decide what it may name, in xtask/src/tidy/edges.rs".to_owned());
            continue;
        };
        for dependency in &package.dependencies {
            let name = dependency.as_str();
            if ours.contains(&name) && !allowed.contains(&name) {
                complain(format!("names {name}: not an edge of the architecture, see ARCHITECTURE.md"));
            }
            let rooms = HEAVY.iter().find(|(heavy, _)| *heavy == name).map(|(_, rooms)| *rooms);
            if rooms.is_some_and(|rooms| !rooms.contains(&package.name.as_str())) {
                complain(format!("names {name}: only {} may", rooms.unwrap_or_default().join(", ")));
            }
            if name == "tokio" && WITHOUT_TOKIO.contains(&package.name.as_str()) {
                complain("names tokio: this crate has no async runtime".to_owned());
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, dependencies: &[&str]) -> Package {
        let dependencies = dependencies.iter().map(ToString::to_string).collect();
        Package { name: name.to_owned(), dependencies, entry_points: Vec::new() }
    }

    #[test]
    fn edges_outside_the_tables_are_found() {
        let others =
            [package("hostler-model", &[]), package("hostler-runtime", &[]), package("hostler-tests", &["redb"])];
        let cases: [(&str, &[&str], usize); 9] = [
            ("hostler-supervisor", &["hostler-model", "serde_json"], 0),
            ("hostler-supervisor", &["hostler-runtime", "tokio"], 2),
            ("hostler-model", &["croner", "jiff"], 2),
            ("hostler-provision", &["hostler-runtime"], 1),
            ("hostler-store", &["redb"], 0),
            ("hostler-runtime", &["redb"], 1),
            ("hostler", &["axum"], 1),
            ("hostler", &["rustix", "tokio"], 0),
            ("hostler-new", &[], 1),
        ];
        for (name, dependencies, count) in cases {
            let mut packages = others.to_vec();
            packages.retain(|other| other.name != name);
            packages.push(package(name, dependencies));
            assert_eq!(check(&packages).len(), count, "{name} {dependencies:?}");
        }
    }
}
