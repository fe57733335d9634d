//! Features by what they tell, to be taken away together.

use crate::telemetry::features::schema::Schema;

/// Groups, and how the names of their signals begin. A group of its own is what any signal was in each of the last windows.
const GROUPS: [(&str, &[&str]); 10] = [
    ("rate", &["dt", "link_rate", "rate_", "idle"]),
    ("delays", &["head_delay_", "delay_", "backlog_"]),
    ("marks and drops", &["p_", "mark_", "drop_", "overload"]),
    ("traffic", &["arrival_", "departure_", "packets_", "packet_size_", "share_"]),
    ("flow counts", &["flows_"]),
    ("round trips", &["g_", "rtt_"]),
    ("sawtooth", &["saw_"]),
    ("bursts", &["burst_", "gap_cv"]),
    ("response", &["response"]),
    ("knobs", &["knob_"]),
];

/// Name of the group of raw windows.
const RAW: &str = "raw windows";

/// Each group with the indices of its features.
pub fn groups(schema: &Schema) -> Vec<(&'static str, Vec<usize>)> {
    let names = schema.names();
    let of = |name: &str| {
        if name.contains(".raw_") {
            return Some(RAW);
        }
        let begins = |(_, prefixes): &&(&str, &[&str])| prefixes.iter().any(|p| name.starts_with(p));
        GROUPS.iter().find(begins).map(|(group, _)| *group)
    };
    let members = |group| (0..names.len()).filter(|&i| of(&names[i]) == Some(group)).collect();
    GROUPS.iter().map(|(group, _)| *group).chain([RAW]).map(|group| (group, members(group))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_in_one_group() {
        let schema = Schema::embedded();
        let groups = groups(&schema);
        let mut all: Vec<usize> = groups.iter().flat_map(|(_, members)| members.clone()).collect();
        all.sort_unstable();
        assert_eq!(all, (0..schema.width()).collect::<Vec<_>>());
        assert!(groups.iter().all(|(_, members)| !members.is_empty()));
        let first = |name| groups.iter().find(|(g, _)| *g == name).unwrap().1[0];
        assert_eq!(schema.names()[first("response")], "response_lag_l");
        assert_eq!(schema.names()[first("marks and drops")], "p_base");
    }
}
