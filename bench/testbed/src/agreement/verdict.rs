//! Figures of a window, and whether they agree with what was measured.

use serde::Serialize;

use super::reference::{Interval, Measured};
use crate::results::Summary;
use crate::series::Bin;

/// Largest factor between two ratios of L to C.
pub const RATIO_FACTOR: f64 = 1.35;
/// Largest difference between two utilisations.
pub const UTILIZATION_POINTS: f64 = 0.02;
/// Largest factor between two mean delays of L.
pub const L_DELAY_FACTOR: f64 = 1.5;
/// Largest relative difference between two mean delays of C.
pub const C_DELAY_SHARE: f64 = 0.20;

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// L over C, by bytes of frames.
    Ratio,
    /// Forwarded bits over capacity.
    Utilization,
    /// Mean delay of L.
    LDelay,
    /// Mean delay of C.
    CDelay,
}

impl Quantity {
    /// Its name in a verdict.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ratio => "ratio",
            Self::Utilization => "utilisation",
            Self::LDelay => "L delay",
            Self::CDelay => "C delay",
        }
    }
}

/// A figure held against a measured one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Verdict {
    /// Which figure.
    pub quantity: Quantity,
    /// What it is; `null` if nothing was forwarded.
    pub value: Option<f64>,
    /// What it was measured as.
    pub measured: Interval,
    /// From the nearest point of that: a factor, a share, or points, as the tolerance is.
    pub deviation: Option<f64>,
    /// Whether that is within the tolerance.
    pub agrees: bool,
}

impl Verdict {
    /// Holds `value` against `measured`.
    pub fn of(quantity: Quantity, value: Option<f64>, measured: Interval) -> Self {
        let deviation = value.filter(|v| v.is_finite()).map(|v| {
            let near = measured.nearest(v);
            match quantity {
                Quantity::Ratio | Quantity::LDelay => v / near,
                Quantity::CDelay => v / near - 1.0,
                Quantity::Utilization => v - near,
            }
        });
        let within = |d: f64| match quantity {
            Quantity::Ratio => (1.0 / RATIO_FACTOR..=RATIO_FACTOR).contains(&d),
            Quantity::LDelay => (1.0 / L_DELAY_FACTOR..=L_DELAY_FACTOR).contains(&d),
            Quantity::CDelay => d.abs() <= C_DELAY_SHARE,
            Quantity::Utilization => d.abs() <= UTILIZATION_POINTS,
        };
        Self { quantity, value, measured, deviation, agrees: deviation.is_some_and(within) }
    }
}

/// The figures of a window, from the simulator or from a live run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Figures {
    /// Rate of forwarded frames, Mbit/s.
    pub l_mbps: f64,
    /// As above, of C.
    pub c_mbps: f64,
    /// Forwarded bits over capacity, 0..=1.
    pub utilization: f64,
    /// Mean delay, milliseconds.
    pub l_delay_ms: Option<f64>,
    /// As above, of C.
    pub c_delay_ms: Option<f64>,
    /// 99th percentile, milliseconds.
    pub l_p99_ms: Option<f64>,
    /// As above, of C.
    pub c_p99_ms: Option<f64>,
    /// Percent of forwarded L packets that were marked.
    pub l_marked: Option<f64>,
    /// Percent of C packets that were dropped.
    pub c_dropped: Option<f64>,
}

impl From<&Summary> for Figures {
    fn from(s: &Summary) -> Self {
        let percent = |n: u64, of: u64| (of > 0).then(|| 100.0 * n as f64 / of as f64);
        Self {
            l_mbps: s.l.mbps,
            c_mbps: s.c.mbps,
            utilization: s.utilization,
            l_delay_ms: s.l.delay_mean_ms,
            c_delay_ms: s.c.delay_mean_ms,
            l_p99_ms: s.l.delay_p99_ms,
            c_p99_ms: s.c.delay_p99_ms,
            l_marked: percent(s.l.marked, s.l.packets),
            c_dropped: percent(s.c.dropped, s.c.packets + s.c.dropped),
        }
    }
}

impl Figures {
    /// Of the bins of a series; they have no percentiles. `None` without a bin.
    pub fn of_bins(bins: &[&Bin]) -> Option<Self> {
        let sum = |of: &dyn Fn(&Bin) -> f64| bins.iter().map(|b| of(b)).sum::<f64>();
        let n = bins.len() as f64;
        let share = |a: f64, b: f64| (b > 0.0).then(|| a / b);
        let [l, c] = [0, 1].map(|q| {
            let packets = sum(&|b| b.queues[q].packets);
            let dropped = sum(&|b| b.queues[q].dropped);
            let delay = share(sum(&|b| b.queues[q].packets * b.queues[q].delay_ms), packets);
            let marked = share(100.0 * sum(&|b| b.queues[q].marked), packets);
            (delay, marked, share(100.0 * dropped, packets + dropped))
        });
        (n > 0.0).then(|| Self {
            l_mbps: sum(&|b| b.l_mbps) / n,
            c_mbps: sum(&|b| b.c_mbps) / n,
            utilization: sum(&|b| b.l_mbps + b.c_mbps) / sum(&|b| b.rate_mbps),
            l_delay_ms: l.0,
            c_delay_ms: c.0,
            l_p99_ms: None,
            c_p99_ms: None,
            l_marked: l.1,
            c_dropped: c.2,
        })
    }

    /// The mean of each over several runs; what one of them lacks, the mean lacks.
    pub fn mean(runs: &[Self]) -> Self {
        let n = runs.len().max(1) as f64;
        let sure = |of: fn(&Self) -> f64| runs.iter().map(of).sum::<f64>() / n;
        let maybe = |of: fn(&Self) -> Option<f64>| {
            let values: Option<Vec<f64>> = runs.iter().map(of).collect();
            values.filter(|v| !v.is_empty()).map(|v| v.iter().sum::<f64>() / n)
        };
        Self {
            l_mbps: sure(|f| f.l_mbps),
            c_mbps: sure(|f| f.c_mbps),
            utilization: sure(|f| f.utilization),
            l_delay_ms: maybe(|f| f.l_delay_ms),
            c_delay_ms: maybe(|f| f.c_delay_ms),
            l_p99_ms: maybe(|f| f.l_p99_ms),
            c_p99_ms: maybe(|f| f.c_p99_ms),
            l_marked: maybe(|f| f.l_marked),
            c_dropped: maybe(|f| f.c_dropped),
        }
    }

    /// L over C, by bytes of frames.
    pub fn ratio(&self) -> Option<f64> {
        (self.c_mbps > 0.0).then(|| self.l_mbps / self.c_mbps)
    }

    /// Every figure that was measured, against the measurement.
    pub fn against(&self, measured: &Measured) -> Vec<Verdict> {
        let figures = [
            (Quantity::Ratio, self.ratio(), measured.ratio()),
            (Quantity::Utilization, Some(self.utilization), measured.utilization()),
            (Quantity::LDelay, self.l_delay_ms, measured.l_delay_ms),
            (Quantity::CDelay, self.c_delay_ms, measured.c_delay_ms),
        ];
        figures.into_iter().filter_map(|(q, value, m)| Some(Verdict::of(q, value, m?))).collect()
    }

    /// The same against a live run's figures.
    pub fn against_live(&self, live: &Self) -> Vec<Verdict> {
        let figures = [
            (Quantity::Ratio, self.ratio(), live.ratio()),
            (Quantity::Utilization, Some(self.utilization), Some(live.utilization)),
            (Quantity::LDelay, self.l_delay_ms, live.l_delay_ms),
            (Quantity::CDelay, self.c_delay_ms, live.c_delay_ms),
        ];
        let against = |(q, value, m): (_, _, Option<f64>)| Some(Verdict::of(q, value, Interval::exactly(m?)));
        figures.into_iter().filter_map(against).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees(quantity: Quantity, value: f64, measured: f64) -> bool {
        Verdict::of(quantity, Some(value), Interval::exactly(measured)).agrees
    }

    #[test]
    fn each_tolerance_ends_where_it_says() {
        // 2 / 1.35 = 1.4815, 2 x 1.35 = 2.7.
        let ratio = |v| agrees(Quantity::Ratio, v, 2.0);
        assert_eq!([1.48, 1.49, 2.69, 2.71].map(ratio), [false, true, true, false]);
        // 0.3 / 1.5 = 0.2, 0.3 x 1.5 = 0.45.
        let l = |v| agrees(Quantity::LDelay, v, 0.3);
        assert_eq!([0.199, 0.201, 0.449, 0.451].map(l), [false, true, true, false]);
        let c = |v| agrees(Quantity::CDelay, v, 10.0);
        assert_eq!([7.9, 8.1, 11.9, 12.1].map(c), [false, true, true, false]);
        let u = |v| agrees(Quantity::Utilization, v, 0.97);
        assert_eq!([0.949, 0.951, 0.989, 0.991].map(u), [false, true, true, false]);
    }

    #[test]
    fn what_is_lacking_does_not_agree() {
        let v = Verdict::of(Quantity::CDelay, None, Interval::exactly(15.0));
        assert!(!v.agrees && v.deviation.is_none());
        assert!(!Verdict::of(Quantity::Ratio, Some(f64::NAN), Interval::exactly(1.0)).agrees);
    }

    #[test]
    fn only_what_was_measured_is_judged() {
        let figures = Figures {
            l_mbps: 24.0,
            c_mbps: 16.0,
            utilization: 1.0,
            l_delay_ms: Some(0.2),
            c_delay_ms: Some(15.0),
            ..Figures::default()
        };
        let measured = Measured {
            l_mbps: Some(Interval::exactly(20.0)),
            c_mbps: Some(Interval::exactly(20.0)),
            c_delay_ms: Some(Interval::exactly(12.0)),
            ..Measured::default()
        };
        let verdicts = figures.against(&measured);
        let seen: Vec<_> = verdicts.iter().map(|v| (v.quantity, v.agrees)).collect();
        // 1.5 is more than 1.35 times 1; 15 is 25 % above 12.
        assert_eq!(seen, [(Quantity::Ratio, false), (Quantity::CDelay, false)]);
        assert!((verdicts[0].deviation.unwrap() - 1.5).abs() < 1e-12);
        assert!((verdicts[1].deviation.unwrap() - 0.25).abs() < 1e-12);
        assert_eq!(figures.against_live(&figures).iter().filter(|v| v.agrees).count(), 4);
    }

    /// 300 packets of 9 ms and 100 of 1 ms are 7 ms in the mean.
    #[test]
    fn a_part_of_a_series_is_weighted_by_packets() {
        use crate::series::Queue;
        let l = |packets, delay_ms, marked| Queue { packets, delay_ms, marked, dropped: 0.0 };
        let bin = |l, c_dropped| Bin {
            t_s: 0.0,
            rate_mbps: 10.0,
            l_mbps: 5.0,
            c_mbps: 4.0,
            queues: [l, Queue { packets: 49.0, delay_ms: 20.0, marked: 0.0, dropped: c_dropped }],
            p_base: 0.0,
            p_coupled: 0.0,
            backlog_bytes: 0.0,
        };
        let bins = [bin(l(300.0, 9.0, 80.0), 2.0), bin(l(100.0, 1.0, 20.0), 0.0)];
        let f = Figures::of_bins(&bins.each_ref()).unwrap();
        assert_eq!((f.l_mbps, f.c_mbps, f.utilization), (5.0, 4.0, 0.9));
        assert_eq!((f.l_delay_ms, f.c_delay_ms, f.l_p99_ms), (Some(7.0), Some(20.0), None));
        assert_eq!((f.l_marked, f.c_dropped), (Some(25.0), Some(2.0)));
        assert_eq!(Figures::of_bins(&[]), None);
    }

    #[test]
    fn a_mean_is_over_runs_and_lacks_what_a_run_lacks() {
        let run =
            |l: f64, delay| Figures { l_mbps: l, l_delay_ms: delay, l_marked: Some(l), ..Figures::default() };
        let m = Figures::mean(&[run(1.0, Some(0.5)), run(4.0, None)]);
        assert_eq!((m.l_mbps, m.l_delay_ms, m.l_marked), (2.5, None, Some(2.5)));
    }
}
