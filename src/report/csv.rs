//! `series.csv`: one row per 100 ms bin and direction.

use super::DirectionReport;

/// The columns. `t_s` is the start of the bin; delays are means (or maxima) over the bin in milliseconds and empty
/// without packets; counts are of the bin; backlog and overload are as at its end.
pub const COLUMNS: [&str; 22] = [
    "t_s",
    "direction",
    "rate_mbps",
    "l_mbps",
    "c_mbps",
    "l_delay_ms",
    "c_delay_ms",
    "l_delay_max_ms",
    "c_delay_max_ms",
    "p_base",
    "p_coupled",
    "p_classic",
    "l_marked",
    "c_marked",
    "l_dropped",
    "c_dropped",
    "l_backlog_bytes",
    "c_backlog_bytes",
    "overload_active",
    "overload_episodes",
    "l_packets",
    "c_packets",
];

/// The series of all directions as CSV with a header line, directions one after the other.
pub fn series(reports: &[DirectionReport]) -> String {
    let mut out = COLUMNS.join(",") + "\n";
    let mut row = csv::WriterBuilder::new().from_writer(Vec::new());
    for report in reports {
        for bin in &report.bins {
            let [l, c] = &bin.queues;
            let known = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.6}"));
            let fields = [
                format!("{:.1}", bin.t_s),
                report.result.direction.clone(),
                format!("{:.6}", bin.rate_mbps),
                format!("{:.6}", l.mbps),
                format!("{:.6}", c.mbps),
                known(l.delay_ms),
                known(c.delay_ms),
                known(l.delay_max_ms),
                known(c.delay_max_ms),
                format!("{:.9}", bin.p.base),
                format!("{:.9}", bin.p.coupled),
                format!("{:.9}", bin.p.classic),
                l.marked.to_string(),
                c.marked.to_string(),
                l.dropped.to_string(),
                c.dropped.to_string(),
                l.backlog_bytes.to_string(),
                c.backlog_bytes.to_string(),
                u8::from(bin.overload_active).to_string(),
                bin.overload_episodes.to_string(),
                l.packets.to_string(),
                c.packets.to_string(),
            ];
            row.write_record(&fields)
                .expect("memory does not refuse a row, and every row has as many fields");
        }
    }
    let bytes = row.into_inner().expect("memory does not refuse to be flushed");
    out.push_str(&String::from_utf8_lossy(&bytes));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Bin, QueueBin, RunResult};

    #[test]
    fn a_row_has_every_column_in_order() {
        let queue = |k: u64, delay| QueueBin {
            mbps: k as f64,
            delay_ms: delay,
            delay_max_ms: delay.map(|d| 2.0 * d),
            marked: k + 10,
            dropped: k + 20,
            backlog_bytes: k + 30,
            packets: k + 40,
        };
        let bin = Bin {
            t_s: 0.3,
            rate_mbps: 40.0,
            queues: [queue(1, Some(0.25)), queue(2, None)],
            p: crate::aqm::stats::Probabilities { base: 0.1, coupled: 0.2, classic: 0.01 },
            overload_active: true,
            overload_episodes: 7,
        };
        let report = DirectionReport {
            result: RunResult { direction: "right_to_left".into(), ..RunResult::default() },
            bins: vec![bin],
            conservation_error: None,
        };
        let text = series(&[report]);
        let mut lines = text.lines();
        assert_eq!(lines.next().unwrap().split(',').collect::<Vec<_>>(), COLUMNS);
        assert_eq!(
            lines.next().unwrap(),
            "0.3,right_to_left,40.000000,1.000000,2.000000,0.250000,,0.500000,,\
             0.100000000,0.200000000,0.010000000,11,12,21,22,31,32,1,7,41,42"
        );
        assert_eq!(lines.next(), None);
    }
}
