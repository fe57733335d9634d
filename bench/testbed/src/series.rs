//! Reads `series.csv`, the 100 ms bins that `l4sd run` writes.

use std::fs;
use std::ops::Range;
use std::path::Path;

use crate::results::{FORWARD, ResultsError};

/// One 100 ms bin of the loaded direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Start of the bin, seconds since l4sd began.
    pub t_s: f64,
    /// Capacity, Mbit/s.
    pub rate_mbps: f64,
    /// Rate out of the L queue, Mbit/s.
    pub l_mbps: f64,
    /// The same of C.
    pub c_mbps: f64,
    /// L, C.
    pub queues: [Queue; 2],
    /// Base probability p'.
    pub p_base: f64,
    /// Coupled probability p_CL.
    pub p_coupled: f64,
    /// Bytes in both queues.
    pub backlog_bytes: f64,
}

/// What a queue did in a bin.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Queue {
    /// Packets forwarded.
    pub packets: f64,
    /// Mean of their delays, milliseconds; 0 if there are none.
    pub delay_ms: f64,
    /// Of them, changed to CE.
    pub marked: f64,
    /// Dropped.
    pub dropped: f64,
}

/// The loaded direction's bins, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Series(Vec<Bin>);

impl Series {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let failed = |reason: String| ResultsError::Read { path: path.display().to_string(), reason };
        let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        Self::parse(&text).map_err(failed)
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
        let column = |name: &str| {
            header.iter().position(|h| *h == name).ok_or_else(|| format!("it has no column {name}"))
        };
        let direction = column("direction")?;
        let named =
            |names: [&str; 5]| -> Result<Vec<usize>, String> { names.into_iter().map(column).collect() };
        let common = named(["t_s", "rate_mbps", "p_base", "p_coupled", "l_mbps"])?;
        let c_mbps = column("c_mbps")?;
        let queues = [
            named(["l_packets", "l_delay_ms", "l_marked", "l_dropped", "l_backlog_bytes"])?,
            named(["c_packets", "c_delay_ms", "c_marked", "c_dropped", "c_backlog_bytes"])?,
        ];
        let mut bins = Vec::new();
        for line in lines {
            let cells: Vec<&str> = line.split(',').collect();
            if cells.get(direction).is_some_and(|d| d.trim() == FORWARD) {
                // An empty cell is an absent quantity: nothing was there to be measured.
                let value = |c: usize| cells.get(c).and_then(|v| v.trim().parse().ok()).unwrap_or(0.0);
                bins.push(Bin {
                    t_s: value(common[0]),
                    rate_mbps: value(common[1]),
                    p_base: value(common[2]),
                    p_coupled: value(common[3]),
                    l_mbps: value(common[4]),
                    c_mbps: value(c_mbps),
                    backlog_bytes: value(queues[0][4]) + value(queues[1][4]),
                    queues: [0, 1].map(|q| Queue {
                        packets: value(queues[q][0]),
                        delay_ms: value(queues[q][1]),
                        marked: value(queues[q][2]),
                        dropped: value(queues[q][3]),
                    }),
                });
            }
        }
        Ok(Self(bins))
    }

    /// The bins that start within `window`, seconds.
    pub fn within(&self, window: Range<f64>) -> impl Iterator<Item = &Bin> {
        self.0.iter().filter(move |b| window.contains(&b.t_s))
    }

    /// First and last second in which the L queue carried more than `mbps`.
    pub fn l_busy(&self, mbps: f64) -> Option<Range<f64>> {
        let mut busy = self.0.iter().filter(|b| b.l_mbps > mbps);
        let first = busy.next()?;
        Some(first.t_s..busy.next_back().unwrap_or(first).t_s + 0.1)
    }

    /// The moment after `from` at which p_CL first is below 1, seconds.
    pub fn below_saturation_after(&self, from: f64) -> Option<f64> {
        self.0.iter().find(|b| b.t_s >= from && b.p_coupled < 1.0).map(|b| b.t_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "t_s,direction,rate_mbps,l_mbps,c_mbps,l_delay_ms,c_delay_ms,p_base,p_coupled,l_marked,\
        c_marked,l_dropped,c_dropped,l_backlog_bytes,c_backlog_bytes,l_packets,c_packets\n\
        0.0,left_to_right,40,0.0,0,,,0.0,0.0,0,0,0,0,0,0,0,0\n\
        0.1,left_to_right,40,38.0,2,9,4,0.58,1.16,7,0,1,2,70000,500,300,6\n\
        0.1,right_to_left,40,39.0,1,9,9,0.99,1.98,9,9,9,9,9,9,9,9\n\
        0.2,left_to_right,40,37.0,0,10,,0.60,1.20,8,0,0,0,71000,,290,0\n\
        0.3,left_to_right,40,0.0,0,,,0.55,1.10,0,0,0,0,0,0,0,0\n\
        0.4,left_to_right,40,0.0,0,,,0.40,0.80,0,0,0,0,0,0,0,0\n";

    #[test]
    fn finds_the_busy_part_and_the_way_out_of_saturation() {
        let s = Series::parse(CSV).unwrap();
        let busy = s.l_busy(20.0).unwrap();
        assert!((busy.start - 0.1).abs() < 1e-9 && (busy.end - 0.3).abs() < 1e-9, "{busy:?}");
        assert_eq!(s.below_saturation_after(busy.end), Some(0.4));
        let backlogs: Vec<f64> = s.within(0.1..0.25).map(|b| b.backlog_bytes).collect();
        assert_eq!(backlogs, [70500.0, 71000.0]);
        assert_eq!(s.l_busy(100.0), None);
        let bins: Vec<&Bin> = s.within(0.1..0.15).collect();
        let l = Queue { packets: 300.0, delay_ms: 9.0, marked: 7.0, dropped: 1.0 };
        let c = Queue { packets: 6.0, delay_ms: 4.0, marked: 0.0, dropped: 2.0 };
        assert_eq!((bins[0].rate_mbps, bins[0].c_mbps, bins[0].queues), (40.0, 2.0, [l, c]));
    }

    #[test]
    fn a_missing_column_is_named() {
        let e = Series::parse("t_s,direction\n").unwrap_err();
        assert_eq!(e, "it has no column rate_mbps");
    }
}
