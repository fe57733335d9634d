//! Puts a report into a folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{DirectionReport, ReportError, ResultFile, markdown, plot_png, plot_svg, series};

/// Writes the files of [`put_all`] into `dir`, which is made if it does not exist, and returns their paths.
pub fn write_all(dir: &Path, reports: &[DirectionReport]) -> Result<Vec<PathBuf>, ReportError> {
    fs::create_dir_all(dir).map_err(|source| ReportError::Write { path: dir.to_owned(), source })?;
    put_all(dir, reports, |name, bytes| fs::write(dir.join(name), bytes))
}

/// Hands `results.json`, `table.md`, `series.csv`, `delay.svg` and `delay.png` to `put`, name and bytes, for whoever
/// writes by other means than paths. Returns what their paths in `dir` are. The figures come first, so that a plot that
/// fails costs nothing else.
pub fn put_all(
    dir: &Path,
    reports: &[DirectionReport],
    mut put: impl FnMut(&str, &[u8]) -> io::Result<()>,
) -> Result<Vec<PathBuf>, ReportError> {
    let mut written = Vec::new();
    let mut put = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        put(name, bytes).map_err(|source| ReportError::Write { path: path.clone(), source })?;
        written.push(path);
        Ok::<_, ReportError>(())
    };
    let results = ResultFile::new(reports.iter().map(|r| r.result.clone()).collect());
    put("results.json", results.to_json().as_bytes())?;
    put("table.md", markdown(reports).as_bytes())?;
    put("series.csv", series(reports).as_bytes())?;
    let svg = plot_svg(reports)?;
    put("delay.svg", svg.as_bytes())?;
    put("delay.png", &plot_png(&svg)?)?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::result::{Counters, QueueResult};
    use crate::report::{Bin, RunResult};

    fn report() -> DirectionReport {
        let mut result =
            RunResult { policy: "pi2".into(), direction: "left_to_right".into(), ..RunResult::default() };
        result.queues.c =
            QueueResult { counters: Counters { packets: 3, ..Counters::default() }, ..Default::default() };
        DirectionReport { result, bins: vec![Bin::default(); 3], conservation_error: None }
    }

    #[test]
    fn the_same_run_gives_the_same_bytes_in_a_folder_that_is_made() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("deep/a"), root.path().join("b"));
        let written = write_all(&a, &[report()]).unwrap();
        write_all(&b, &[report()]).unwrap();
        let names: Vec<_> = written.iter().map(|p| p.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["results.json", "table.md", "series.csv", "delay.svg", "delay.png"]);
        for name in names {
            assert_eq!(fs::read(a.join(name)).unwrap(), fs::read(b.join(name)).unwrap(), "{name}");
        }
        let csv = fs::read_to_string(a.join("series.csv")).unwrap();
        assert_eq!(csv.lines().count(), 4);
    }

    #[test]
    fn results_have_every_key_of_the_contract_in_order_and_read_back() {
        let file = ResultFile::new(vec![report().result]);
        let json = file.to_json();
        assert_eq!(serde_json::from_str::<ResultFile>(&json).unwrap(), file);
        let keys = [
            "schema",
            "runs",
            "scenario",
            "policy",
            "model_sha256",
            "seed",
            "direction",
            "duration_s",
            "warmup_s",
            "link",
            "rate_mbps",
            "utilization",
            "queues",
            "l",
            "delay_ms",
            "mean",
            "p50",
            "p99",
            "p999",
            "max",
            "packets",
            "bytes",
            "arrived",
            "marked",
            "dropped",
            "aqm",
            "overload",
            "tail",
            "queued_end",
            "c",
        ];
        let mut from = 0;
        for key in keys {
            let at =
                json[from..].find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} after {from}"));
            from += at;
        }
        let tail = [
            "all",
            "flows",
            "ratio_l_over_c",
            "recovery_ms",
            "fallback_share",
            "controller",
            "decisions",
            "late",
            "rejected",
            "inference_us",
            "p50",
            "p99",
            "p999",
            "admission_us",
            "p50",
            "p99",
            "p999",
            "totals",
        ];
        for key in tail {
            from += json[from..].find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} after {from}"));
        }
        assert!(json.contains("\"seed\": null") && json.contains("\"ratio_l_over_c\": null"), "{json}");
        assert!(json.contains("\"flows\": []") && json.contains("\"recovery_ms\": []"), "{json}");
    }

    #[test]
    fn a_number_that_is_none_is_null() {
        let mut file = ResultFile::new(vec![report().result]);
        file.runs[0].link.utilization = Some(f64::NAN);
        assert!(file.to_json().contains("\"utilization\": null"));
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let root = tempfile::tempdir().unwrap();
        let in_the_way = root.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        let message = write_all(&in_the_way.join("out"), &[report()]).unwrap_err().to_string();
        assert!(message.contains("file/out: cannot write: ") && message.contains("--out"), "{message}");
    }
}
