//! What samples of a run's resources come to. A sample is a look at running totals (CPU, I/O) and at what is held now
//! (memory); the summary grows with each of them and has the same size after a million.

use serde::{Deserialize, Serialize};

use crate::error::{Problem, ProblemKind};
use crate::limits;

/// What a run uses at one moment, and has used until then. Sums over all its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Used {
    /// CPU time so far, microseconds.
    pub cpu_us: u64,
    /// Resident memory now, bytes; pages that processes share are counted for each.
    pub rss_bytes: u64,
    /// Swapped out now, bytes.
    pub swap_bytes: u64,
    /// Bytes read from storage so far, where the kernel tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    /// Bytes written to storage so far, where the kernel tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
}

/// The summary of a run's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Statistics {
    /// How many samples were taken.
    pub samples: u64,
    /// CPU time in all, microseconds.
    pub cpu_us: u64,
    /// Largest resident memory seen, bytes.
    pub rss_max_bytes: u64,
    /// Mean of the resident memory seen, bytes.
    pub rss_mean_bytes: u64,
    /// Most swap seen, bytes.
    pub swap_max_bytes: u64,
    /// Bytes read from storage, where the kernel tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    /// Bytes written to storage, where the kernel tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
}

impl Statistics {
    /// Takes one more sample in.
    pub fn add(&mut self, used: &Used) {
        self.samples = self.samples.saturating_add(1);
        self.rss_max_bytes = self.rss_max_bytes.max(used.rss_bytes);
        self.swap_max_bytes = self.swap_max_bytes.max(used.swap_bytes);
        // The mean moves towards each sample by its share: no sum can overflow.
        let (mean, now, count) =
            (i128::from(self.rss_mean_bytes), i128::from(used.rss_bytes), i128::from(self.samples));
        self.rss_mean_bytes = u64::try_from(mean + (now - mean) / count).unwrap_or(u64::MAX);
        self.total(used);
    }

    /// Takes in totals that are known otherwise, such as from the end. A total never falls: that of processes that are
    /// gone may no longer be told.
    pub fn total(&mut self, used: &Used) {
        self.cpu_us = self.cpu_us.max(used.cpu_us);
        self.read_bytes = self.read_bytes.max(used.read_bytes);
        self.written_bytes = self.written_bytes.max(used.written_bytes);
    }
}

/// Checks `stats_interval_ms`.
pub(crate) fn check_interval(interval_ms: Option<u64>) -> Result<(), Problem> {
    let (least, most) = (limits::STATS_INTERVAL_MIN_MS, limits::TIME_MAX_MS);
    if interval_ms.is_some_and(|ms| ms < least || ms > most) {
        let detail = format!("stats_interval_ms must be at least {least} and at most a year");
        return Err(Problem::new(ProblemKind::InvalidSpec, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_to_totals_and_extremes() {
        let mut sum = Statistics::default();
        for (cpu_us, rss_bytes, swap_bytes, read_bytes) in
            [(10, 100, 0, None), (20, 400, 8, Some(4)), (15, 100, 2, Some(2)), (30, 200, 0, None)]
        {
            sum.add(&Used { cpu_us, rss_bytes, swap_bytes, read_bytes, written_bytes: None });
        }
        sum.total(&Used { cpu_us: 35, ..Used::default() });
        let expected = Statistics {
            samples: 4,
            cpu_us: 35,
            rss_max_bytes: 400,
            rss_mean_bytes: 200,
            swap_max_bytes: 8,
            read_bytes: Some(4),
            written_bytes: None,
        };
        assert_eq!(sum, expected);
    }

    #[test]
    fn the_mean_stays_between_its_samples() {
        let mut sum = Statistics::default();
        for rss_bytes in [u64::MAX, 0, u64::MAX, u64::MAX - 1, 7] {
            sum.add(&Used { rss_bytes, ..Used::default() });
        }
        assert!(sum.rss_mean_bytes > u64::MAX / 2 && sum.rss_mean_bytes < u64::MAX / 3 * 2, "{sum:?}");
    }
}
