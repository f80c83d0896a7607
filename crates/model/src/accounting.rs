//! Everything that the kernel accounts for a run. What it does not tell on a machine is absent, never 0.

use serde::{Deserialize, Serialize};

/// What a run has used and uses, in full.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Accounting {
    /// CPU time.
    pub cpu: CpuAccount,
    /// Memory.
    pub memory: MemoryAccount,
    /// Block devices that it read from or wrote to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub block_io: Vec<DeviceAccount>,
    /// Huge pages, one entry a size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hugetlb: Vec<HugetlbAccount>,
    /// Interfaces of its network, when that is not the node's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<InterfaceAccount>,
}

/// CPU time so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct CpuAccount {
    /// In programs, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_us: Option<u64>,
    /// In the kernel, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system_us: Option<u64>,
    /// Of each CPU, microseconds; of the first ones, where there are very many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_cpu_us: Vec<u64>,
    /// Periods of a quota that have passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub periods: Option<u64>,
    /// Those in which the quota ran out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_periods: Option<u64>,
    /// How long it was held back, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_us: Option<u64>,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct MemoryAccount {
    /// In use now, page cache included, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_bytes: Option<u64>,
    /// Most that was ever in use, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_usage_bytes: Option<u64>,
    /// The limit, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// Page cache, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
    /// Swapped out, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_bytes: Option<u64>,
    /// How often the limit was hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_count: Option<u64>,
    /// What the kernel holds for it, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_bytes: Option<u64>,
}

/// One block device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct DeviceAccount {
    /// `MAJOR:MINOR`.
    pub device: String,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct HugetlbAccount {
    /// As the kernel writes it: `2MB`, `1GB`.
    pub page_size: String,
    /// In use now, bytes.
    pub usage_bytes: u64,
    /// Most that was ever in use, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_usage_bytes: Option<u64>,
    /// The limit, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// How often the limit was hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_count: Option<u64>,
}

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct InterfaceAccount {
    /// Its name in the run's network namespace.
    pub name: String,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
    /// Errors in receiving.
    pub received_errors: u64,
    /// Packets that came and were dropped.
    pub received_dropped: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Errors in sending.
    pub sent_errors: u64,
    /// Packets that were to be sent and were dropped.
    pub sent_dropped: u64,
}
