//! Builds the agent, static and small, and hands it to the daemon, which carries it and installs it where it runs.
//! It needs its own cargo call and target directory: it is compiled with other flags than everything else.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let workspace = manifest.parent().and_then(Path::parent).expect("crates/hostlerd lies two levels deep").to_owned();
    for watched in ["Cargo.toml", "Cargo.lock", "crates/agent", "crates/linux", "crates/model", "crates/wire"] {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }
    let target = std::env::var("TARGET").expect("set by cargo");
    let target_dir = workspace.join("target").join("agent");
    let mut cargo = Command::new(std::env::var_os("CARGO").expect("set by cargo"));
    cargo
        .current_dir(&workspace)
        .args(["build", "--package", "hostler-agent", "--profile", "agent", "--target", &target, "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\u{1f}-Crelocation-model=static")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTFLAGS");
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "the agent cannot be built: {status}");
    let agent = target_dir.join(&target).join("agent").join("hostler-agent");
    println!("cargo::rustc-env=HOSTLER_AGENT={}", agent.display());
}
