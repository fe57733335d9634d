//! What is judged: drawn links, and what one simulated run of a link leaves behind.

use serde::{Deserialize, Serialize};

use crate::aqm::params::{Discipline, Limit};
use crate::config::{AqmConfig, Policy};
use crate::report::RunResult;
use crate::report::result::PerQueue;

/// One cell of a grid: a drawn link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CellInfo {
    /// The grid it belongs to.
    pub grid: String,
    /// Its name, unique within grid and split.
    pub name: String,
    /// The mix of flows, such as `1v1`, `l_only`, `c_only`, `5v5`, `bursty`, `web`.
    pub mix: String,
    /// L carries bursts: the bound on its P99 is an addition, not a factor.
    pub bursty: bool,
    /// There are short flows whose completion times count.
    pub mice: bool,
}

/// What phases with bursts in L are called: the bound on its P99 is an addition there.
pub(super) const BURSTY: &str = "bursty";

impl CellInfo {
    /// What the simulator is given as the seed of run `seed` (below 65,536) of this cell. A seed draws rate, round trips and start
    /// times; were it the same one on all links, all would be a little faster or slower together, which no number of links averages out.
    pub fn seed_of_run(&self, seed: u64) -> u64 {
        // FNV-1a of 32 bits.
        let bytes = self.grid.bytes().chain([b'/']).chain(self.name.bytes());
        let hash = bytes.fold(0x811c_9dc5, |h: u32, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        (u64::from(hash) << 16) + seed
    }

    /// Phase `index` of this cell, called `phase`, as a cell of its own. Short flows are not told apart by phase.
    #[must_use]
    pub fn of_phase(&self, index: usize, phase: &str) -> Self {
        Self {
            grid: self.grid.clone(),
            name: format!("{} {index}", self.name),
            mix: phase.to_owned(),
            bursty: phase == BURSTY,
            mice: false,
        }
    }
}

/// One simulated run of a cell: what is stored for resuming and judged later. Every number is finite.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CellRecord {
    /// The link.
    pub cell: CellInfo,
    /// The policy as result rows name it.
    pub policy: String,
    /// The number of the run; its result object has the seed that was made of it ([`CellInfo::seed_of_run`]).
    pub seed: u64,
    /// The result object.
    pub run: RunResult,
    /// Queue delay at 0, 1, ... 100 % of the forwarded packets of the window, nearest rank, 101 values; empty if
    /// there were none or they are not known.
    pub delay_percentiles_ms: PerQueue<Vec<f64>>,
    /// Mean queue delay per second since the start of the run, warm-up included.
    pub delay_over_time_ms: PerQueue<Vec<Option<f64>>>,
    /// Forwarded bits over capacity per second since the start of the run.
    pub utilization_over_time: Vec<f64>,
}

/// The policy keeps all packets in one queue, which results call `c`.
pub fn has_one_queue(policy: &str) -> bool {
    let any = Limit { bytes: 1, packets: 1 };
    policy
        .parse::<Policy>()
        .is_ok_and(|p| matches!(AqmConfig::of(p).discipline(any, 0), Discipline::Single(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_queues_are_known_by_their_discipline() {
        for policy in ["pi2", "codel", "taildrop"] {
            assert!(has_one_queue(policy), "{policy}");
        }
        for policy in ["dualpi2", "dualpi2-linux", "model", "dualpi2:target=5ms"] {
            assert!(!has_one_queue(policy), "{policy}");
        }
    }

    /// FNV-1a of "foobar" is bf9cf968, as published with it; here of "foo/bar", by hand in another language. Numbers stay below 2^53.
    #[test]
    fn each_link_has_seeds_of_its_own() {
        let cell =
            |grid: &str, name: &str| CellInfo { grid: grid.into(), name: name.into(), ..CellInfo::default() };
        assert_eq!(cell("foo", "bar").seed_of_run(3), (0xc7a7_1bed << 16) + 3);
        assert_ne!(cell("foo", "bar").seed_of_run(1), cell("foob", "ar").seed_of_run(1));
        assert_ne!(cell("foo", "bar").seed_of_run(1), cell("foo", "baz").seed_of_run(1));
        assert!(cell("foo", "bar").seed_of_run(100) < 1 << 53);
    }

    #[test]
    fn a_record_comes_back_from_its_line_bit_for_bit() {
        let mut record = CellRecord { seed: 7, policy: "dualpi2".into(), ..CellRecord::default() };
        record.delay_percentiles_ms.l = vec![0.1 + 0.2, 1.0 / 3.0, 5e-324, 123_456_789.123_456_78];
        record.delay_over_time_ms.c = vec![None, Some(2.0f64.sqrt())];
        record.run.link.utilization = Some(0.987_654_321_012_345_6);
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<CellRecord>(&line).unwrap(), record);
    }
}
