//! heistp's RTT fairness runs (github.com/heistp/l4s-tests, scenario 1) beside the simulator: two flows through
//! DualPI2 at 50 Mbit/s, three minutes, mean goodput of the last one.
//!
//! Their TCP Prague of 2020 had no floor under the round-trip time: two such flows at 20 and 10 ms came to 15.8 and
//! 30.8 Mbit/s. Later ones, udp_prague and the simulator's Prague behave below 25 ms as if they had 25 ms
//! (draft-briscoe-iccrg-prague-congestion-control). The rows with Prague are therefore simulated twice, once with DCTCP
//! in its place: the same rate at the same share of spaced marks, without that floor.

use serde::Serialize;

/// Rate of the link.
pub const RATE_MBIT: u32 = 50;
/// Seconds of a run.
pub const DURATION_S: u32 = 180;
/// Seconds left out at its beginning.
pub const WARMUP_S: u32 = 120;
/// Least rank correlation at which an order is called similar.
const SIMILAR: f64 = 0.9;

/// Congestion control of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cc {
    /// CUBIC without ECN.
    Cubic,
    /// Prague.
    Prague,
}

/// Two flows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pair {
    /// Congestion control and two-way base delay in milliseconds of the first.
    pub first: (Cc, u32),
    /// And of the second.
    pub second: (Cc, u32),
    /// Goodput of both, Mbit/s, as published.
    pub published: (f64, f64),
}

const fn mixed(cubic_ms: u32, prague_ms: u32, published: (f64, f64)) -> Pair {
    Pair { first: (Cc::Cubic, cubic_ms), second: (Cc::Prague, prague_ms), published }
}

const fn alike(cc: Cc, first_ms: u32, second_ms: u32, published: (f64, f64)) -> Pair {
    Pair { first: (cc, first_ms), second: (cc, second_ms), published }
}

/// The published rows.
pub const PAIRS: [Pair; 14] = [
    mixed(10, 10, (12.65, 34.57)),
    mixed(20, 20, (14.94, 32.39)),
    mixed(80, 80, (17.85, 29.58)),
    mixed(10, 20, (18.84, 28.40)),
    mixed(20, 10, (9.21, 37.86)),
    mixed(20, 80, (24.89, 22.43)),
    mixed(80, 20, (6.43, 40.69)),
    mixed(160, 10, (4.87, 41.67)),
    mixed(10, 160, (37.28, 10.13)),
    alike(Cc::Cubic, 20, 20, (24.80, 22.67)),
    alike(Cc::Cubic, 80, 80, (23.88, 23.47)),
    alike(Cc::Prague, 20, 20, (23.50, 23.36)),
    alike(Cc::Prague, 20, 10, (15.84, 30.77)),
    alike(Cc::Prague, 160, 10, (1.56, 45.46)),
];

/// What stands for Prague in a simulated row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalable {
    /// The simulator's Prague.
    Prague,
    /// DCTCP: no floor under the round-trip time.
    Dctcp,
}

impl Scalable {
    /// Name of the congestion control in a scenario.
    pub const fn cc(self) -> &'static str {
        match self {
            Self::Prague => "prague",
            Self::Dctcp => "dctcp",
        }
    }
}

impl Pair {
    /// One CUBIC and one Prague flow: the rows that are ranked.
    pub fn is_mixed(&self) -> bool {
        self.first.0 != self.second.0
    }

    /// Whether there is a scalable flow in it.
    pub fn has_prague(&self) -> bool {
        self.second.0 == Cc::Prague
    }

    /// Name of its scenario.
    pub fn name(&self, scalable: Scalable) -> String {
        let cc = |cc: Cc| if cc == Cc::Cubic { "cubic" } else { scalable.cc() };
        format!("s1-{}{}-{}{}", cc(self.first.0), self.first.1, cc(self.second.0), self.second.1)
    }
}

/// Goodput of both flows of a row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Mbit/s of the first.
    pub first: f64,
    /// Mbit/s of the second.
    pub second: f64,
}

impl Rates {
    /// Means over several runs of two flows each; `None` if a run has other than two.
    pub fn mean(runs: &[Vec<f64>]) -> Option<Self> {
        if runs.is_empty() || runs.iter().any(|r| r.len() != 2) {
            return None;
        }
        let mean = |i: usize| runs.iter().map(|r| r[i]).sum::<f64>() / runs.len() as f64;
        Some(Self { first: mean(0), second: mean(1) })
    }

    /// Second over first: Prague over CUBIC in the mixed rows.
    pub fn ratio(self) -> f64 {
        self.second / self.first
    }

    /// Jain's index: 1 if both are equal, 0.5 if one has everything.
    pub fn jain(self) -> f64 {
        (self.first + self.second).powi(2) / (2.0 * (self.first.powi(2) + self.second.powi(2)))
    }
}

/// How two lists of figures order the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RankOrder {
    /// Spearman's rank correlation, ties at their mean rank; `null` if one list is all ties.
    pub spearman: Option<f64>,
    /// Whether the order is the same, without a tie.
    pub same: bool,
}

impl RankOrder {
    /// Compares the order of `a` with that of `b`, row by row.
    pub fn of(a: &[f64], b: &[f64]) -> Self {
        let (a, b) = (ranks(a), ranks(b));
        Self { spearman: correlation(&a, &b), same: a == b }
    }

    /// In words.
    pub const fn verdict(self) -> &'static str {
        match self.spearman {
            _ if self.same => "the same",
            Some(rho) if rho >= SIMILAR => "similar",
            _ => "different",
        }
    }
}

/// Rank of each value, from 1; equal ones share the mean of theirs.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |v: &f64| {
        let below = values.iter().filter(|o| o.total_cmp(v).is_lt()).count();
        let equal = values.iter().filter(|o| o.total_cmp(v).is_eq()).count();
        below as f64 + f64::midpoint(equal as f64, 1.0)
    };
    values.iter().map(rank).collect()
}

fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (ma, mb) = (mean(a), mean(b));
    let product = |x: &[f64], mx: f64, y: &[f64], my: f64| -> f64 {
        x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum()
    };
    let scale = (product(a, ma, a, ma) * product(b, mb, b, mb)).sqrt();
    (scale > 0.0).then(|| product(a, ma, b, mb) / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_ties() {
        assert_eq!(ranks(&[30.0, 10.0, 20.0, 10.0]), [4.0, 1.5, 3.0, 1.5]);
    }

    #[test]
    fn rank_order_by_hand() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(
            RankOrder::of(&a, &[0.1, 0.2, 3.0, 40.0, 41.0]),
            RankOrder { spearman: Some(1.0), same: true }
        );
        let back = RankOrder::of(&a, &[5.0, 4.0, 3.0, 2.0, 1.0]);
        assert_eq!((back.spearman, back.verdict()), (Some(-1.0), "different"));
        // Two neighbours swapped: 1 - 6 x 2 / (5 x 24) = 0.9.
        let swapped = RankOrder::of(&a, &[1.0, 3.0, 2.0, 4.0, 5.0]);
        assert!((swapped.spearman.unwrap() - 0.9).abs() < 1e-12 && !swapped.same);
        let tied = RankOrder::of(&a, &[7.0; 5]);
        assert_eq!((tied.spearman, tied.same), (None, false));
    }

    #[test]
    fn the_published_indices_follow_from_the_published_rates() {
        let jain = |i: usize| {
            let (first, second) = PAIRS[i].published;
            (Rates { first, second }.jain() * 1000.0).round() / 1000.0
        };
        // The source's own column.
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 13].map(jain),
            [0.823, 0.880, 0.942, 0.961, 0.730, 0.997, 0.654, 0.615, 0.753, 0.907, 0.534]
        );
    }

    #[test]
    fn rates_are_means_over_runs_of_two_flows() {
        let r = Rates::mean(&[vec![10.0, 30.0], vec![20.0, 30.0]]).unwrap();
        assert_eq!((r.first, r.second, r.ratio()), (15.0, 30.0, 2.0));
        assert_eq!(Rates::mean(&[vec![10.0]]), None);
        assert_eq!(Rates::mean(&[]), None);
    }

    #[test]
    fn each_row_has_a_scenario_of_its_own() {
        let names: std::collections::BTreeSet<String> =
            PAIRS.iter().flat_map(|p| [p.name(Scalable::Prague), p.name(Scalable::Dctcp)]).collect();
        // Twelve rows with Prague twice, two of CUBIC alone once.
        assert_eq!(names.len(), 26);
        assert!(names.contains("s1-cubic160-prague10") && names.contains("s1-dctcp20-dctcp10"));
    }
}
