//! What was measured elsewhere, and over which windows: the constants of the comparison, each with its source.
//!
//! The cells' figures are those of an independent DualPI2 box in C (AF_PACKET, RFC 9332 ramp, 10 % for C, 16 ms)
//! between three namespaces under SCHED_FIFO 40, with the C++ udp_prague and iperf3's CUBIC as senders. The machine had
//! a load of 6 to 13 from other jobs. 5 s of warm-up were dropped. The length is not on record but for one cell (35 s);
//! the smallest idle tail on record, 0.6 s, is 2.1 % of 30 s, which is what the best row lacks.

use serde::Serialize;

use crate::cells::CELLS;
use crate::forwarder::Step;

/// Seconds left out at the beginning of each run.
pub const WARMUP_S: u32 = 5;
/// Seconds of a run.
pub const DURATION_S: u32 = 35;
/// The reference's share of busy time counts an idle tail, and reads low by this share of itself, at least and at most.
pub const READS_LOW: (f64, f64) = (0.02, 0.10);

/// What a figure was measured as: a number, or the range of several 1 s bins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// A single figure.
    pub const fn exactly(value: f64) -> Self {
        Self { low: value, high: value }
    }

    const fn between(low: f64, high: f64) -> Self {
        Self { low, high }
    }

    /// The point of it that is nearest to `value`.
    pub fn nearest(self, value: f64) -> f64 {
        value.max(self.low).min(self.high)
    }
}

/// The measured figures of a window; `None` = not on record.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Measured {
    /// Rates of forwarded frames, Mbit/s.
    pub l_mbps: Option<Interval>,
    /// As above, of C.
    pub c_mbps: Option<Interval>,
    /// Share of the link busy, as it stands in the source.
    pub busy: Option<f64>,
    /// Mean delay, milliseconds.
    pub l_delay_ms: Option<Interval>,
    /// As above, of C.
    pub c_delay_ms: Option<Interval>,
    /// 99th percentile, milliseconds.
    pub l_p99_ms: Option<Interval>,
    /// As above, of C.
    pub c_p99_ms: Option<Interval>,
    /// Percent of L marked.
    pub l_marked: Option<f64>,
    /// Percent of C dropped.
    pub c_dropped: Option<f64>,
}

impl Measured {
    /// L over C, by bytes of frames.
    pub fn ratio(&self) -> Option<Interval> {
        let (l, c) = self.l_mbps.zip(self.c_mbps)?;
        Some(Interval::between(l.low / c.high, l.high / c.low))
    }

    /// The utilisation that `busy` can stand for once the idle tail is taken out.
    pub fn utilization(&self) -> Option<Interval> {
        let within = |low: f64| self.busy.map(|busy| (busy / (1.0 - low)).min(1.0));
        Some(Interval::between(within(READS_LOW.0)?, within(READS_LOW.1)?))
    }
}

/// A part of a cell's run with figures of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Phase {
    /// What it is called in scenario names and tables; empty if it is the only one.
    pub label: &'static str,
    /// First second.
    pub from_s: u32,
    /// End, in seconds.
    pub to_s: u32,
    /// What was measured in it.
    pub measured: Measured,
}

/// One Prague and one CUBIC flow at an operating point that was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Name of the cell, and of its file in `scenarios/`.
    pub name: &'static str,
    /// Rate of the link.
    pub rate_mbit: u32,
    /// Two-way base delay of both flows.
    pub rtt_ms: u32,
    /// What happens to the rate.
    pub step: Option<Step>,
    /// Windows with figures.
    pub phases: Vec<Phase>,
    /// Whether the live cell also runs with the fall-back of udp_prague, which changes its figures.
    pub fallback_matters: bool,
}

/// The six cells of the comparison.
pub fn cases() -> Vec<Case> {
    let steady = [
        ("40mbit-20ms", "prague+cubic-40-20"),
        ("40mbit-10ms", "prague+cubic-40-10"),
        ("12mbit-20ms", "prague+cubic-12-20"),
        ("4mbit-20ms", "prague+cubic-4-20"),
        ("120mbit-20ms", "prague+cubic-120-20"),
    ];
    let mut cases: Vec<Case> = steady.iter().filter_map(|(name, cell)| of_cell(name, cell)).collect();
    cases.push(step());
    cases
}

fn of_cell(name: &'static str, cell: &str) -> Option<Case> {
    let cell = CELLS.iter().find(|c| c.name == cell)?;
    let r = cell.reference?;
    let (marked, dropped) = r.l_marked_c_dropped;
    let exactly = |v: Option<f64>| v.map(Interval::exactly);
    let measured = Measured {
        l_mbps: exactly(r.l_mbps),
        c_mbps: exactly(r.c_mbps),
        busy: Some(r.busy),
        l_delay_ms: exactly(r.l_delay_mean_p99.map(|d| d.0)),
        l_p99_ms: exactly(r.l_delay_mean_p99.map(|d| d.1)),
        c_delay_ms: exactly(r.c_delay_mean_p99.map(|d| d.0)),
        c_p99_ms: exactly(r.c_delay_mean_p99.map(|d| d.1)),
        l_marked: marked,
        c_dropped: dropped,
    };
    Some(Case {
        name,
        rate_mbit: cell.rate_mbit,
        rtt_ms: cell.rtt_ms,
        step: None,
        phases: vec![Phase { label: "", from_s: WARMUP_S, to_s: DURATION_S, measured }],
        fallback_matters: cell.rate_mbit < 10,
    })
}

/// 40 to 10 Mbit/s at 20 s; the source has 1 s bins.
fn step() -> Case {
    let before = Measured {
        l_mbps: Some(Interval::exactly(25.7)),
        c_mbps: Some(Interval::exactly(14.2)),
        ..Measured::default()
    };
    // The source has "at least 100 ms" for the P99 of C; percentiles are shown and not judged.
    let first = Measured {
        l_delay_ms: Some(Interval::exactly(8.96)),
        l_p99_ms: Some(Interval::exactly(40.0)),
        c_delay_ms: Some(Interval::exactly(17.9)),
        c_p99_ms: Some(Interval::exactly(100.0)),
        l_marked: Some(42.0),
        c_dropped: Some(6.0),
        ..Measured::default()
    };
    let after = Measured {
        l_mbps: Some(Interval::between(5.3, 5.6)),
        c_mbps: Some(Interval::between(4.3, 4.7)),
        l_delay_ms: Some(Interval::exactly(0.75)),
        l_p99_ms: Some(Interval::exactly(2.4)),
        c_delay_ms: Some(Interval::between(12.0, 16.0)),
        c_p99_ms: Some(Interval::between(21.0, 26.0)),
        ..Measured::default()
    };
    Case {
        name: "step-40-10mbit",
        rate_mbit: 40,
        rtt_ms: 20,
        step: Some(Step { at_s: 20, rate_mbit: 10 }),
        phases: vec![
            Phase { label: "before", from_s: WARMUP_S, to_s: 20, measured: before },
            Phase { label: "first-second", from_s: 20, to_s: 21, measured: first },
            Phase { label: "after", from_s: 21, to_s: DURATION_S, measured: after },
        ],
        fallback_matters: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_as_near_as_its_nearest_point() {
        let i = Interval::between(12.0, 16.0);
        assert_eq!([11.0, 13.0, 20.0].map(|v| i.nearest(v)), [12.0, 13.0, 16.0]);
    }

    #[test]
    fn ratio_and_utilisation_follow_from_the_source() {
        let all = cases();
        assert_eq!(all.len(), 6, "no cell's name is wrong");
        let m = all[0].phases[0].measured;
        assert!((m.ratio().unwrap().low - 1.7606).abs() < 1e-4);
        // 97.9 % reads 2 to 10 % low: 99.9 to 108.8 %, of which at most 100 % can be.
        let u = m.utilization().unwrap();
        assert!((u.low - 0.99898).abs() < 1e-5 && u.high == 1.0, "{u:?}");
        // 89.7 %: 91.5 to 99.7 %.
        let u = all[4].phases[0].measured.utilization().unwrap();
        assert!((u.low - 0.91531).abs() < 1e-5 && (u.high - 0.99667).abs() < 1e-5, "{u:?}");
        // 5.3 / 4.7 to 5.6 / 4.3.
        let r = all[5].phases[2].measured.ratio().unwrap();
        assert!((r.low - 1.1277).abs() < 1e-4 && (r.high - 1.3023).abs() < 1e-4, "{r:?}");
        assert_eq!(all[5].phases[0].measured.utilization(), None);
    }
}
