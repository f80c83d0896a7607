//! A stack of 200 services in chains of ten, each ready 200 ms after its start, against its critical path.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

use crate::client::Method;
use crate::node::Node;
use crate::report::{Figure, Report, median};

const CHAINS: usize = 20;
const DEEP: usize = 10;
const READY_MS: u64 = 200;
const ROUNDS: usize = 3;

/// From the request to the last service that is ready.
pub async fn stacks(binaries: &Path, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("a stack of {} services", CHAINS * DEEP);
    let mut services = Map::new();
    for chain in 0..CHAINS {
        for link in 0..DEEP {
            let mut service = json!({"command": ["/bin/sleep", "600"], "ready": {"delay": format!("{READY_MS}ms")},
                "stop": {"signal": "KILL"}});
            if link > 0 {
                service["requires"] = json!([format!("c{chain}-{}", link - 1)]);
            }
            services.insert(format!("c{chain}-{link}"), service);
        }
    }
    let body = json!({ "service": services }).to_string();
    let critical = Duration::from_millis(READY_MS * DEEP as u64);
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let node = Node::start(binaries, "").await?;
        let mut client = node.client().await?;
        let began = Instant::now();
        client.ask(Method::Put, "/v1/stacks/big", &body).await?;
        // Looking often would be what is measured.
        tokio::time::sleep(critical.saturating_sub(Duration::from_millis(20))).await;
        loop {
            let stack = client.json(Method::Get, "/v1/stacks/big", "").await?;
            let units = stack["units"].as_array().context("units")?;
            let ready = units.iter().filter(|unit| unit["state"] == "ready").count();
            if ready == CHAINS * DEEP {
                break;
            }
            ensure!(began.elapsed() < Duration::from_secs(60), "{ready} are ready: {}", first_other(units));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        ratios.push(began.elapsed().as_secs_f64() / critical.as_secs_f64());
        node.down().await?;
    }
    let ratio = median(&mut ratios);
    report.add(Figure {
        name: "200 services, 10 deep: ready, × critical path",
        value: ratio,
        unit: "ratio",
        bound: Some(1.2),
        at_least: false,
        note: format!("{:.0} ms beside {} ms", ratio * critical.as_secs_f64() * 1_000.0, critical.as_millis()),
    });
    Ok(())
}

fn first_other(units: &[Value]) -> String {
    units.iter().find(|unit| unit["state"] != "ready").map(Value::to_string).unwrap_or_default()
}
