//! The phases of cells that have them, each judged as a cell of its own: whoever is good on the whole may still break a
//! bound whenever one regime follows another.

use std::collections::HashMap;

use super::cell::{CellInfo, CellRecord, has_one_queue};
use super::design::{BASELINE, Design};
use super::score::Figures;
use super::summary::{CellRuns, Scope, SummaryRow, judge_runs};

/// The rows of each name that phases have, of all cells together; none if no cell has phases.
pub(super) fn judge(
    design: &Design,
    records: &[CellRecord],
    draws: usize,
    threads: usize,
) -> Vec<SummaryRow> {
    let mut index: HashMap<_, Vec<Figures>> = HashMap::new();
    let mut infos: Vec<(CellInfo, (&str, &str), usize)> = Vec::new();
    for record in records {
        let key = (record.cell.grid.as_str(), record.cell.name.as_str());
        let one_queue = has_one_queue(&record.policy);
        let figures = record.run.phases.iter().map(|p| Figures::of_phase(p, one_queue)).collect();
        if record.policy == BASELINE && record.seed == design.seeds[0] {
            infos.extend(
                record
                    .run
                    .phases
                    .iter()
                    .enumerate()
                    .map(|(i, phase)| (record.cell.of_phase(i, &phase.name), key, i)),
            );
        }
        index.entry((key, record.policy.as_str(), record.seed)).or_insert(figures);
    }
    let find = |key: (&str, &str), policy: &str, seed: u64, i: usize| {
        index.get(&(key, policy, seed)).and_then(|runs| runs.get(i)).cloned().unwrap_or_default()
    };
    let runs: Vec<_> = infos
        .iter()
        .map(|(info, key, i)| CellRuns {
            info,
            runs: (design.policies.iter())
                .map(|policy| design.seeds.iter().map(|&seed| find(*key, policy, seed, *i)).collect())
                .collect(),
            other: design.other_seeds.iter().map(|&seed| find(*key, BASELINE, seed, *i)).collect(),
        })
        .collect();
    if runs.is_empty() {
        return Vec::new();
    }
    let cells = infos.iter().map(|(info, _, _)| info.clone()).collect();
    let design = Design { cells, ..design.clone() };
    let rows = judge_runs(&design, &runs, draws, threads).summary;
    let of_phases = rows.into_iter().filter(|row| row.scope == Scope::Mix);
    of_phases.map(|row| SummaryRow { scope: Scope::Phase, ..row }).collect()
}
