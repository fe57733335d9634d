//! Demonstrations out of a record of one link: windows become records at their period.

use std::path::Path;

use super::{ContextError, Demonstration, MOST, PERIOD, Profile, RECORDS, slow};
use crate::telemetry::features::dataset;
use crate::telemetry::features::schema::Schema;

/// A demonstration ends no earlier after the link began: features over 4 s have settled.
const SETTLED_S: f64 = 4.6;
/// A window's end is as late as the forwarder woke up.
const LATE_S: f64 = 0.0005;
/// Doublings of the ratio beyond which it counts no more.
const DOUBLINGS: f64 = 6.0;
/// Floors of the score in ms, C and L.
const FLOORS_MS: [f64; 2] = [0.5, 0.2];

/// Where things stand in a row of a record.
struct Columns {
    names: Vec<String>,
}

impl Columns {
    fn at(&self, name: &str) -> usize {
        self.names.iter().position(|n| n == name).expect("a column of every record of this schema")
    }
}

/// The profile of the link that `path` is a record of, called `name`.
///
/// # Errors
/// The record cannot be read, is of another schema, or too short.
pub fn profile(path: &Path, name: &str, schema: &Schema) -> Result<Profile, ContextError> {
    let rows = dataset::read(path, schema)?;
    let file = || path.to_owned();
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return Err(ContextError::Short { file: file(), seconds: 0.0, least: SETTLED_S });
    };
    if let Some(pair) = rows.windows(2).find(|pair| pair[1][0] <= pair[0][0]) {
        return Err(ContextError::Order { file: file(), after_s: pair[0][0] });
    }
    let (begin, seconds) = (first[0], last[0] - first[0]);
    let period = PERIOD.as_secs_f64();
    let needed = SETTLED_S.max(period * RECORDS as f64);
    if seconds < needed {
        return Err(ContextError::Short { file: file(), seconds, least: needed });
    }
    let spare = seconds - needed;
    let count = (1 + (spare / (period * RECORDS as f64)) as usize).min(MOST);
    let columns = Columns { names: dataset::columns(schema) };
    let ends = (1..=count).map(|i| begin + needed + spare * i as f64 / count as f64);
    let demonstrations = ends.map(|end| cut(&rows, end, &columns, schema)).collect();
    let rate = f64::from(last[columns.at("link_rate")] as f32).exp() * 40.0;
    Ok(Profile { name: name.to_owned(), rate_mbps: rate, demonstrations })
}

/// The demonstration that ends at `end`.
fn cut(rows: &[Vec<f64>], end: f64, columns: &Columns, schema: &Schema) -> Demonstration {
    let at = |ago: usize| {
        let time = end - ago as f64 * PERIOD.as_secs_f64() + LATE_S;
        let after = rows.partition_point(|row| row[0] <= time);
        &rows[after.saturating_sub(1)]
    };
    (0..RECORDS).rev().map(|ago| record(at(ago + 1), at(ago), columns, schema)).collect()
}

/// One record: what is known at `now`, and what came of the time since `before`.
fn record(before: &[f64], now: &[f64], columns: &Columns, schema: &Schema) -> Vec<f32> {
    let value = |name: &str| now[columns.at(name)];
    let grown = |name: &str| now[columns.at(name)] - before[columns.at(name)];
    let features = columns.at("t_s") + 1;
    let mut out: Vec<f32> = now[features..features + slow(schema)].iter().map(|x| *x as f32).collect();
    let action = [("action.target", 0.015), ("action.gain", 1.0), ("action.ramp_min", 0.0008)];
    out.extend(action.map(|(name, usual)| (value(name) / usual).ln() as f32));
    for (queue, floor) in ["c", "l"].into_iter().zip(FLOORS_MS) {
        let packets = grown(&format!("{queue}.forwarded_packets"));
        let delay_ms = grown(&format!("{queue}.delay_sum_ns")) / 1e6 / packets;
        let there = packets > 0.0;
        out.extend([f32::from(u8::from(there)), if there { (delay_ms + floor).ln() as f32 } else { 0.0 }]);
    }
    let bits = 8.0 * (grown("l.forwarded_bytes") + grown("c.forwarded_bytes"));
    out.push((bits / grown("capacity_bits").max(1.0)) as f32);
    let rate = ["l", "c"].map(|q| value(&format!("departure_{q}.mean_4s")));
    let flows = ["l", "c"].map(|q| value(&format!("flows_{q}.mean_4s")).exp_m1());
    let known = rate[0].min(rate[1]) > 1e-4 && flows[0].min(flows[1]) >= 0.5;
    let doublings = if known { ((rate[0] / flows[0]) / (rate[1] / flows[1])).log2() } else { 0.0 };
    out.extend([f32::from(u8::from(known)), doublings.clamp(-DOUBLINGS, DOUBLINGS) as f32]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::context::{OUTCOMES, width};

    /// A record of `windows` windows of 16 ms on a link of 20 Mbit/s: in each, C forwards 10 packets of 1500 bytes that
    /// waited 14.5 ms, L none; target 7.5 ms. Two flows in L have .6 of the last 4 s, one in C .4.
    fn written(windows: u64) -> tempfile::NamedTempFile {
        use std::io::Write as _;
        let schema = Schema::embedded();
        let columns = dataset::columns(&schema);
        let at = |name: &str| columns.iter().position(|c| c == name).unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "# l4sd features: schema version 1, sha256 {}\n{}", schema.hash, columns.join(","))
            .unwrap();
        for n in 1..=windows {
            let mut row = vec![0.0; columns.len()];
            for (name, value) in [
                ("t_s", 0.016 * n as f64),
                ("link_rate", 0.5f64.ln()),
                ("departure_l.mean_4s", 0.6),
                ("departure_c.mean_4s", 0.4),
                ("flows_l.mean_4s", 3f64.ln()),
                ("flows_c.mean_4s", 2f64.ln()),
                ("action.target", 0.0075),
                ("action.gain", 1.0),
                ("action.ramp_min", 0.0008),
                ("capacity_bits", 320_000.0 * n as f64),
                ("c.forwarded_packets", 10.0 * n as f64),
                ("c.forwarded_bytes", 15_000.0 * n as f64),
                ("c.delay_sum_ns", 145e6 * n as f64),
            ] {
                row[at(name)] = value;
            }
            let text: Vec<String> = row.iter().map(f64::to_string).collect();
            writeln!(file, "{}", text.join(",")).unwrap();
        }
        file
    }

    /// 120,000 of 320,000 bits are .375; ln(7.5/15); ln(14.5 + .5); .6/2 over .4/1 is .75.
    #[test]
    fn a_record_has_the_action_and_what_came_of_it() {
        let schema = Schema::embedded();
        let profile = profile(written(1000).path(), "mine", &schema).unwrap();
        assert!((profile.rate_mbps - 20.0).abs() < 1e-4, "{}", profile.rate_mbps);
        let shapes: Vec<usize> = profile.demonstrations.iter().map(Vec::len).collect();
        assert_eq!(shapes, [RECORDS; MOST]);
        for record in profile.demonstrations.iter().flatten() {
            assert_eq!(record.len(), width(&schema));
            let told = &record[slow(&schema)..];
            let wanted = [0.5f64.ln(), 0.0, 0.0, 1.0, 15f64.ln(), 0.0, 0.0, 0.375, 1.0, 0.75f64.log2()];
            for (is, wanted) in told.iter().zip(wanted) {
                assert!((f64::from(*is) - wanted).abs() < 1e-6, "{told:?}");
            }
            assert_eq!(told.len(), 3 + OUTCOMES);
        }
    }

    /// 288 windows end 4.592 s after the first one does, 289 and more are enough; another demonstration is 1.536 s more:
    /// with 385 windows 6.144 s.
    #[test]
    fn demonstrations_are_as_many_as_the_record_has_room_for() {
        let schema = Schema::embedded();
        let error = profile(written(288).path(), "x", &schema).unwrap_err().to_string();
        assert!(error.contains("covers 4.6 s") && error.contains("record for longer"), "{error}");
        let count = |windows| profile(written(windows).path(), "x", &schema).unwrap().demonstrations.len();
        assert_eq!([289, 384, 385, 577, 5000].map(count), [1, 1, 2, 4, 4]);
        let error = profile(written(0).path(), "x", &schema).unwrap_err().to_string();
        assert!(error.contains("covers 0.0 s"), "{error}");
    }

    #[test]
    fn a_record_of_another_schema_or_of_two_runs_is_refused() {
        let other = Schema { hash: "0".repeat(64), ..Schema::embedded() };
        let error = profile(written(300).path(), "x", &other).unwrap_err().to_string();
        assert!(error.contains("record again"), "{error}");
        let (file, twice) = (written(300), written(300));
        let rows = std::fs::read_to_string(twice.path()).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap()
            + &rows.lines().skip(2).map(|l| l.to_owned() + "\n").collect::<String>();
        std::fs::write(file.path(), text).unwrap();
        let error = profile(file.path(), "x", &Schema::embedded()).unwrap_err().to_string();
        assert!(error.contains("goes back after 4.8 s"), "{error}");
    }
}
