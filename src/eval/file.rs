//! `results.json` and `cells.csv` of an evaluation. Absent figures are `null` there and empty here; no wall-clock times
//! inside, so that the same design gives the same bytes whatever the jobs and whether it was resumed.

use serde::{Deserialize, Serialize};

use super::Judgement;
use super::cell::CellRecord;
use super::design::Design;
use super::records::Header;
use super::summary::{CellRow, SummaryRow};
use crate::report::RunResult;
use crate::report::result::{PerQueue, SCHEMA};

/// A run with the cell it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalRun {
    /// Grid of the cell.
    pub grid: String,
    /// Name of the cell.
    pub cell: String,
    /// Mix of its flows.
    pub mix: String,
    /// Which of `seeds` or `other_seeds` it is; `seed` is what was made of it for this link, and what `l4sd sim --seed` takes.
    pub of_seed: u64,
    /// The result object.
    #[serde(flatten)]
    pub run: RunResult,
}

/// A whole `results.json` of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalFile {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// `train`, `dev` or `test`.
    pub split: String,
    /// Seed that the links were drawn from.
    pub split_seed: u64,
    /// Seeds of every policy.
    pub seeds: Vec<u64>,
    /// Seeds of the baseline's comparison with itself.
    pub other_seeds: Vec<u64>,
    /// Cell by cell, policy by policy, seed by seed.
    pub runs: Vec<EvalRun>,
    /// Cell by cell, policy by policy.
    pub cells: Vec<CellRow>,
    /// Overall, by grid, by mix.
    pub summary: Vec<SummaryRow>,
}

impl EvalFile {
    /// The file of these records, which are in the order of the design's units.
    pub fn new(design: &Design, header: &Header, records: &[CellRecord], judgement: &Judgement) -> Self {
        let run = |r: &CellRecord| EvalRun {
            grid: r.cell.grid.clone(),
            cell: r.cell.name.clone(),
            mix: r.cell.mix.clone(),
            of_seed: r.seed,
            run: r.run.clone(),
        };
        Self {
            schema: SCHEMA,
            split: header.split.clone(),
            split_seed: header.split_seed,
            seeds: design.seeds.clone(),
            other_seeds: design.other_seeds.clone(),
            runs: records.iter().map(run).collect(),
            cells: judgement.cells.clone(),
            summary: judgement.summary.clone(),
        }
    }

    /// The bytes of the file: JSON with a line per run, cell and row.
    pub fn to_json(&self) -> String {
        let mut out = String::from("{\n");
        let head = [
            ("schema", value(&self.schema)),
            ("split", value(&self.split)),
            ("split_seed", value(&self.split_seed)),
            ("seeds", value(&self.seeds)),
            ("other_seeds", value(&self.other_seeds)),
            ("runs", lines(&self.runs)),
            ("cells", lines(&self.cells)),
            ("summary", lines(&self.summary)),
        ];
        let fields: Vec<_> = head.iter().map(|(name, text)| format!("\"{name}\": {text}")).collect();
        out.push_str(&fields.join(",\n"));
        out.push_str("\n}\n");
        out
    }
}

fn value<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain structs always serialise")
}

fn lines<T: Serialize>(rows: &[T]) -> String {
    if rows.is_empty() {
        return "[]".to_owned();
    }
    format!("[\n{}\n]", rows.iter().map(value).collect::<Vec<_>>().join(",\n"))
}

/// The columns of [`cells_csv`]. Delays are in ms, `_baseline` is the same figure of the baseline, reasons are separated
/// by `; `, sources of mice by spaces.
pub const COLUMNS: [&str; 24] = [
    "grid",
    "cell",
    "mix",
    "policy",
    "s_score",
    "feasible",
    "s_unbounded",
    "d_l",
    "d_c",
    "utilization",
    "l_delay_mean_ms",
    "l_delay_p99_ms",
    "c_delay_mean_ms",
    "c_delay_p99_ms",
    "abs_log2_ratio",
    "mice_p95_ms",
    "utilization_baseline",
    "l_delay_mean_ms_baseline",
    "l_delay_p99_ms_baseline",
    "c_delay_mean_ms_baseline",
    "c_delay_p99_ms_baseline",
    "abs_log2_ratio_baseline",
    "mice_p95_ms_baseline",
    "infeasible_why",
];

/// All cells as CSV with a header line.
pub fn cells_csv(cells: &[CellRow]) -> String {
    let mut rows = csv::WriterBuilder::new().from_writer(Vec::new());
    let known = |value: Option<f64>| value.map_or_else(String::new, |v| format!("{v:.6}"));
    let write = |rows: &mut csv::Writer<Vec<u8>>, fields: &[String]| {
        rows.write_record(fields).expect("memory does not refuse a row, and every row has as many fields");
    };
    write(&mut rows, &COLUMNS.map(str::to_owned));
    for row in cells {
        let side = |f: &super::summary::CellFigures| {
            let PerQueue { l: mean_l, c: mean_c, .. } = f.delay_mean_ms;
            let PerQueue { l: p99_l, c: p99_c, .. } = f.delay_p99_ms;
            let mice: Vec<_> = f.mice_p95_ms.iter().map(|&ms| known(ms)).collect();
            let figures = [f.utilization, mean_l, p99_l, mean_c, p99_c, f.abs_log2_ratio];
            figures.map(known).into_iter().chain([mice.join(" ")]).collect::<Vec<_>>()
        };
        let mut fields = vec![row.grid.clone(), row.cell.clone(), row.mix.clone(), row.policy.clone()];
        fields.extend([known(row.s_score), row.feasible.to_string()]);
        fields.extend([row.s_unbounded, row.d_l, row.d_c].map(known));
        fields.extend(side(&row.figures));
        fields.extend(side(&row.baseline));
        fields.push(row.infeasible_why.join("; "));
        write(&mut rows, &fields);
    }
    String::from_utf8_lossy(&rows.into_inner().expect("memory does not refuse to be flushed")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::synthetic;

    #[test]
    fn the_file_reads_back_and_has_null_for_what_is_absent() {
        let (design, records) = synthetic::evaluation();
        let judgement = crate::eval::judge(&design, &records, 200, 2).unwrap();
        let file = EvalFile::new(&design, &Header::new("dev", 7), &records, &judgement);
        let json = file.to_json();
        assert_eq!(serde_json::from_str::<EvalFile>(&json).unwrap(), file);
        assert!(json.starts_with("{\n\"schema\": 1,\n\"split\": \"dev\",\n"), "{}", &json[..200]);
        assert!(json.contains("\"d_l\":null") && json.contains("\"model_sha256\":null"));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["runs"].as_array().unwrap().len(), records.len());
        for key in ["grid", "cell", "mix", "policy", "s_score", "feasible", "infeasible_why"] {
            assert!(value["cells"][0].get(key).is_some(), "{key}");
        }
        for key in ["s_score", "feasible_share"] {
            assert!(value["summary"][0][key]["lo"].is_number(), "{key}");
        }
    }

    #[test]
    fn a_row_has_every_column() {
        let (design, records) = synthetic::evaluation();
        let csv = cells_csv(&crate::eval::judge(&design, &records, 10, 1).unwrap().cells);
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        assert_eq!(reader.headers().unwrap(), COLUMNS.as_slice());
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), design.cells.len() * design.policies.len());
        let why = rows.iter().find(|r| &r[5] == "false").unwrap();
        assert!(!why[23].is_empty() && why[4].parse::<f64>().unwrap() >= 1.0);
    }
}
