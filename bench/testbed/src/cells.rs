//! The acceptance cells: real traffic at named operating points, each figure beside the band it must lie in and, where
//! there is one, the reference box's figure.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::cpus::Placement;
use crate::flows::{Flow, FlowResult, Kind};
use crate::forwarder::{Forwarder, RunSpec, Scheduling};
use crate::results::{FORWARD, ResultsError, Summary, cell};
use crate::sandbox::{Rights, Stop};
use crate::scrape::Samples;
use crate::series::Series;
use crate::session::{self, SessionError};
use crate::tools::Tools;
use crate::topology::{Topology, TopologyError};

mod table;

use table::{Band, Figure, OVERLOAD, OVERLOAD_MBIT};
pub use table::{CELLS, Cell, Reference};

const WARMUP_S: u32 = 5;
/// What overload may take to settle before it is measured.
const SETTLE: Duration = Duration::from_secs(2);
/// How long the bridge is watched after the overload has stopped.
const AFTERMATH: Duration = Duration::from_secs(3);

/// A figure that was held against its band.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    figure: Figure,
    value: Option<f64>,
    low: f64,
    high: f64,
    pass: bool,
}

/// What a cell came to.
#[derive(Debug, Clone, Serialize)]
pub struct CellReport {
    /// The cell.
    pub name: &'static str,
    /// Back end.
    pub port: String,
    /// Whether it ran under real-time scheduling.
    pub quotable: bool,
    /// Figures of the measured window; `null` if the cell failed to run.
    pub summary: Option<Summary>,
    /// Flows.
    pub flows: Vec<FlowResult>,
    /// Held against the bands.
    pub checks: Vec<Check>,
    /// The reference box.
    pub reference: Option<Reference>,
    /// Why it did not run.
    pub error: Option<String>,
}

/// Why no cell could run.
#[derive(Debug, thiserror::Error)]
pub enum CellsError {
    /// No such cell.
    #[error("no cell is named {0}; there are {1}")]
    Unknown(String, String),
    /// The namespaces.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The report.
    #[error(transparent)]
    Results(#[from] ResultsError),
    /// Someone asked for the end.
    #[error("interrupted")]
    Interrupted,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct CellsSpec {
    /// The `l4sd` executable.
    pub l4sd: PathBuf,
    /// Back end.
    pub port: String,
    /// Measured seconds of each cell.
    pub seconds: u32,
    /// Where everything goes, a folder a cell.
    pub out: PathBuf,
    /// Names; empty = all.
    pub cells: Vec<String>,
}

impl CellReport {
    /// Whether it ran and every figure lies in its band.
    pub fn pass(&self) -> bool {
        self.error.is_none() && self.checks.iter().all(|c| c.pass)
    }

    fn verdict(&self) -> &'static str {
        match (self.pass(), self.checks.is_empty()) {
            (false, _) => "FAIL",
            (true, false) => "PASS",
            (true, true) => "reported",
        }
    }
}

/// The cells of those names, all of them if there are none.
pub fn choose(names: &[String]) -> Result<Vec<&'static Cell>, CellsError> {
    if names.is_empty() {
        return Ok(CELLS.iter().collect());
    }
    let find = |name: &String| {
        CELLS.iter().find(|c| c.name == name).ok_or_else(|| {
            let all: Vec<&str> = CELLS.iter().map(|c| c.name).collect();
            CellsError::Unknown(name.clone(), all.join(", "))
        })
    };
    names.iter().map(find).collect()
}

/// Runs the chosen cells one after the other inside a prepared sandbox, prints each as it ends, and writes `cells.md`
/// and `cells.json`. A cell that fails to run is a failed cell, not an error.
pub fn run(
    spec: &CellsSpec,
    tools: &Tools,
    rights: Rights,
    stop: &Stop,
) -> Result<Vec<CellReport>, CellsError> {
    let chosen = choose(&spec.cells)?;
    let scheduling = session::scheduling(tools, rights);
    let mut topology = Topology::build(tools)?;
    topology.set_real_time(scheduling == Scheduling::Fifo);
    let mut reports = Vec::new();
    for cell in chosen {
        let run = run_spec(cell, spec, scheduling);
        let outcome = if cell.kinds == OVERLOAD {
            overload(&topology, &run, stop)
        } else {
            steady(&topology, &run, cell.kinds, stop)
        };
        let report = match outcome {
            Err(SessionError::Interrupted) => return Err(CellsError::Interrupted),
            outcome => report(cell, &run, outcome),
        };
        println!("{}", line(&report));
        reports.push(report);
    }
    write(&spec.out.join("cells.md"), &markdown(&reports, spec.seconds))?;
    let json = serde_json::to_string_pretty(&reports).unwrap_or_default();
    write(&spec.out.join("cells.json"), &(json + "\n"))?;
    Ok(reports)
}

fn run_spec(cell: &Cell, spec: &CellsSpec, scheduling: Scheduling) -> RunSpec {
    RunSpec {
        l4sd: spec.l4sd.clone(),
        port: spec.port.clone(),
        rate_mbit: cell.rate_mbit,
        rtt_ms: cell.rtt_ms,
        policy: "dualpi2".to_owned(),
        duration_s: WARMUP_S + spec.seconds,
        warmup_s: WARMUP_S,
        out: spec.out.join(cell.name),
        scheduling,
        placement: Placement::default(),
        step: None,
    }
}

struct Measured {
    summary: Summary,
    flows: Vec<FlowResult>,
    overload: Option<Overload>,
}

/// What only the overload cell has.
#[derive(Debug, Clone, Copy)]
struct Overload {
    l_delay_mean_ms: f64,
    l_dropped_share: f64,
    backlog_share: f64,
    tail_drops: f64,
    p_base: f64,
    episodes: f64,
    recovery_s: Option<f64>,
}

fn steady(topology: &Topology, run: &RunSpec, kinds: &[Kind], stop: &Stop) -> Result<Measured, SessionError> {
    let outcome = session::run(topology, run, kinds, stop, |_, _| ())?;
    Ok(Measured { summary: outcome.results.summary()?, flows: outcome.flows, overload: None })
}

/// Constant overload for the measured time, then its end; CUBIC runs throughout.
fn overload(topology: &Topology, run: &RunSpec, stop: &Stop) -> Result<Measured, SessionError> {
    let forwarder = Forwarder::start(run)?;
    let cubic = Flow::start(topology, Kind::Cubic)?;
    let cbr = Flow::start(topology, Kind::CbrEct1(OVERLOAD_MBIT))?;
    if stop.sleep(SETTLE) {
        session::interrupt(forwarder);
        return Err(SessionError::Interrupted);
    }
    let (from, before) = (clock::now(), forwarder.metrics()?);
    let loaded = Duration::from_secs(u64::from(run.duration_s)).saturating_sub(SETTLE + AFTERMATH);
    if stop.sleep(loaded) {
        session::interrupt(forwarder);
        return Err(SessionError::Interrupted);
    }
    let (to, after) = (clock::now(), forwarder.metrics()?);
    let rtt_ms = f64::from(run.rtt_ms);
    let flows = vec![cbr.result(&(from..to), rtt_ms), cubic.result(&(from..to), rtt_ms)];
    drop(cbr);
    if stop.sleep(AFTERMATH) {
        session::interrupt(forwarder);
        return Err(SessionError::Interrupted);
    }
    let end = forwarder.metrics().unwrap_or_else(|_| after.clone());
    forwarder.terminate();
    forwarder.finish()?;

    let results_path = run.out.join("results.json");
    let mut results = crate::results::Results::read(&results_path)?;
    results.set_flows(&flows)?;
    results.write(&results_path)?;
    let series = Series::read(&run.out.join("series.csv"))?;
    let overload = Overload::of(&before, &after, &end, &series);
    Ok(Measured { summary: results.summary()?, flows, overload: Some(overload) })
}

impl Overload {
    fn of(before: &Samples, after: &Samples, end: &Samples, series: &Series) -> Self {
        let all = |samples: &Samples, name: &str, labels: &[(&str, &str)]| {
            let labels: Vec<_> = labels.iter().copied().chain([("direction", FORWARD)]).collect();
            samples.sum(name, &labels).unwrap_or_default()
        };
        let grown =
            |name: &str, labels: &[(&str, &str)]| all(after, name, labels) - all(before, name, labels);
        let l = ("queue", "l");
        let delays = grown("l4sd_queue_delay_seconds_count", &[l]);
        let arrived = grown("l4sd_packets_total", &[l, ("stage", "arrived")]);
        let limit = all(end, "l4sd_memory_limit_bytes", &[]);
        let busy = series.l_busy(f64::from(OVERLOAD_MBIT) / 4.0).unwrap_or(0.0..0.0);
        let settled = busy.start + SETTLE.as_secs_f64()..busy.end - 0.1;
        let bins: Vec<_> = series.within(settled).collect();
        let backlog = bins.iter().map(|b| b.backlog_bytes).fold(0.0, f64::max);
        Self {
            l_delay_mean_ms: 1e3 * grown("l4sd_queue_delay_seconds_sum", &[l]) / delays,
            l_dropped_share: grown("l4sd_dropped_packets_total", &[l]) / arrived,
            backlog_share: backlog / limit,
            tail_drops: all(end, "l4sd_dropped_packets_total", &[("cause", "tail")]),
            p_base: bins.iter().map(|b| b.p_base).sum::<f64>() / bins.len() as f64,
            episodes: all(end, "l4sd_overload_episodes_total", &[]),
            recovery_s: series.below_saturation_after(busy.end).map(|t| t - busy.end),
        }
    }
}

fn report(cell: &Cell, run: &RunSpec, outcome: Result<Measured, SessionError>) -> CellReport {
    let (measured, error) = match outcome {
        Ok(measured) => (Some(measured), None),
        Err(e) => (None, Some(e.to_string())),
    };
    let checks = cell.bands.iter().map(|b| check(b, measured.as_ref())).collect();
    let (summary, flows) = measured.map_or((None, Vec::new()), |m| (Some(m.summary), m.flows));
    CellReport {
        name: cell.name,
        port: run.port.clone(),
        quotable: run.scheduling == Scheduling::Fifo,
        summary,
        flows,
        checks,
        reference: cell.reference,
        error,
    }
}

fn check(band: &Band, measured: Option<&Measured>) -> Check {
    let value = measured.and_then(|m| figure(band.figure, m)).filter(|v| v.is_finite());
    let pass = value.is_some_and(|v| (band.low..=band.high).contains(&v));
    Check { figure: band.figure, value, low: band.low, high: band.high, pass }
}

fn figure(figure: Figure, m: &Measured) -> Option<f64> {
    let overload = |of: fn(&Overload) -> f64| m.overload.as_ref().map(of);
    match figure {
        Figure::Utilization => Some(m.summary.utilization),
        Figure::LMbps => Some(m.summary.l.mbps),
        Figure::LDelayMeanMs => overload(|o| o.l_delay_mean_ms).or(m.summary.l.delay_mean_ms),
        Figure::LDelayP99Ms => m.summary.l.delay_p99_ms,
        Figure::CDelayMeanMs => m.summary.c.delay_mean_ms,
        Figure::RatioLOverC => m.summary.ratio_l_over_c,
        Figure::LDroppedShare => overload(|o| o.l_dropped_share),
        Figure::BacklogShareOfLimit => overload(|o| o.backlog_share),
        Figure::TailDrops => overload(|o| o.tail_drops),
        Figure::BaseProbability => overload(|o| o.p_base),
        Figure::OverloadEpisodes => overload(|o| o.episodes),
        Figure::RecoveryS => m.overload.as_ref().and_then(|o| o.recovery_s),
    }
}

fn line(report: &CellReport) -> String {
    let mut out = format!("{:<8} {} ({})", report.verdict(), report.name, report.port);
    if let Some(error) = &report.error {
        write!(out, ": {error}").ok();
    }
    for c in &report.checks {
        let verdict = if c.pass { "ok  " } else { "FAIL" };
        let value = cell(c.value, 8);
        write!(out, "\n    {verdict} {:<22} {value} in [{}, {}]", format!("{:?}", c.figure), c.low, c.high)
            .ok();
    }
    out
}

/// The table for the results page: a row a cell, and under it the reference box's.
fn markdown(reports: &[CellReport], seconds: u32) -> String {
    let mut out = format!(
        "{seconds} s measured after {WARMUP_S} s of warm-up.{}\n\n\
         | cell | port | L Mb/s | C Mb/s | busy | L delay mean / P99 ms | C delay mean / P99 ms | L/C goodput | \
         verdict |\n|---|---|--:|--:|--:|--:|--:|--:|---|\n",
        if reports.iter().all(|r| r.quotable) { "" } else { " No real-time scheduling: not for quoting." }
    );
    let pair = |mean: Option<f64>, p99: Option<f64>| format!("{} / {}", cell(mean, 0), cell(p99, 0));
    for r in reports {
        if let Some(s) = &r.summary {
            writeln!(
                out,
                "| {} | {} | {:.2} | {:.2} | {:.1} % | {} | {} | {} | {} |",
                r.name,
                r.port,
                s.l.mbps,
                s.c.mbps,
                100.0 * s.utilization,
                pair(s.l.delay_mean_ms, s.l.delay_p99_ms),
                pair(s.c.delay_mean_ms, s.c.delay_p99_ms),
                cell(s.ratio_l_over_c, 0),
                r.verdict()
            )
            .ok();
        } else {
            writeln!(out, "| {} | {} | - | - | - | - | - | - | {} |", r.name, r.port, r.verdict()).ok();
        }
        if let Some(f) = &r.reference {
            let delays = |d: Option<(f64, f64)>| pair(d.map(|d| d.0), d.map(|d| d.1));
            let ratio = f.l_mbps.zip(f.c_mbps).map(|(l, c)| l / c);
            writeln!(
                out,
                "| _reference box_ | | {} | {} | {:.1} % | {} | {} | {} | |",
                cell(f.l_mbps, 0),
                cell(f.c_mbps, 0),
                100.0 * f.busy,
                delays(f.l_delay_mean_p99),
                delays(f.c_delay_mean_p99),
                cell(ratio, 0)
            )
            .ok();
        }
    }
    out
}

fn write(path: &Path, text: &str) -> Result<(), ResultsError> {
    let failed =
        |e: std::io::Error| ResultsError::Write { path: path.display().to_string(), reason: e.to_string() };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Queue;

    fn queue(mbps: f64, mean: f64, p99: f64) -> Queue {
        Queue {
            mbps,
            delay_mean_ms: Some(mean),
            delay_p50_ms: None,
            delay_p99_ms: Some(p99),
            delay_p999_ms: None,
            packets: 1,
            marked: 0,
            dropped: 0,
        }
    }

    fn measured(c_mean: f64) -> Measured {
        Measured {
            summary: Summary {
                utilization: 0.97,
                window_s: 30.0,
                l: queue(25.0, 0.2, 0.7),
                c: queue(14.0, c_mean, 22.0),
                ratio_l_over_c: Some(1.8),
            },
            flows: Vec::new(),
            overload: None,
        }
    }

    fn spec() -> CellsSpec {
        CellsSpec {
            l4sd: PathBuf::from("l4sd"),
            port: "packet".to_owned(),
            seconds: 30,
            out: PathBuf::from("out"),
            cells: Vec::new(),
        }
    }

    fn judged(outcome: Result<Measured, SessionError>) -> CellReport {
        report(&CELLS[0], &run_spec(&CELLS[0], &spec(), Scheduling::Fifo), outcome)
    }

    #[test]
    fn a_figure_outside_its_band_fails_the_cell() {
        assert!(judged(Ok(measured(13.6))).pass());
        let failed = judged(Ok(measured(17.1)));
        assert!(!failed.pass());
        let wrong: Vec<Figure> = failed.checks.iter().filter(|c| !c.pass).map(|c| c.figure).collect();
        assert_eq!(wrong, [Figure::CDelayMeanMs]);
    }

    #[test]
    fn a_cell_that_did_not_run_fails_with_its_reason() {
        let report = judged(Err(SessionError::Interrupted));
        assert_eq!(report.verdict(), "FAIL");
        assert!(line(&report).starts_with("FAIL     prague+cubic-40-20 (packet): interrupted"));
    }

    #[test]
    fn the_reference_stands_under_the_cell() {
        let text = markdown(&[judged(Ok(measured(13.6)))], 30);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(
            rows[4],
            "| prague+cubic-40-20 | packet | 25.00 | 14.00 | 97.0 % | 0.20 / 0.70 | 13.60 / 22.00 | 1.80 | PASS |"
        );
        assert_eq!(
            rows[5],
            "| _reference box_ | | 25.00 | 14.20 | 97.9 % | 0.18 / 0.60 | 13.60 / 21.80 | 1.76 | |"
        );
        assert!(!text.contains("not for quoting"));
    }

    #[test]
    fn overload_is_measured_between_two_scrapes_and_in_the_settled_bins() {
        let scrape = |arrived: u32, dropped: u32, sum: f64, count: u32| {
            let d = "direction=\"left_to_right\"";
            Samples::parse(&format!(
                "l4sd_packets_total{{{d},queue=\"l\",stage=\"arrived\"}} {arrived}\n\
                 l4sd_packets_total{{{d},queue=\"l\",stage=\"forwarded\"}} 12345\n\
                 l4sd_dropped_packets_total{{{d},queue=\"l\",cause=\"overload\"}} {dropped}\n\
                 l4sd_dropped_packets_total{{{d},queue=\"c\",cause=\"tail\"}} 0\n\
                 l4sd_queue_delay_seconds_sum{{{d},queue=\"l\"}} {sum}\n\
                 l4sd_queue_delay_seconds_count{{{d},queue=\"l\"}} {count}\n\
                 l4sd_memory_limit_bytes{{{d}}} 1250000\n\
                 l4sd_overload_episodes_total{{{d}}} 1\n"
            ))
        };
        // What nothing here asks for is left empty.
        let mut csv = String::from(
            "t_s,direction,l_mbps,p_base,p_coupled,l_backlog_bytes,c_backlog_bytes,rate_mbps,c_mbps,l_packets,c_packets,\
             l_delay_ms,c_delay_ms,l_marked,c_marked,l_dropped,c_dropped\n",
        );
        for i in 0..60 {
            let p = if i < 10 { 0.1 } else { 0.58 };
            writeln!(csv, "{:.1},left_to_right,37,{p},{},75000,0", f64::from(i) / 10.0, 2.0 * p).unwrap();
        }
        csv.push_str("6.0,left_to_right,0,0.55,1.1,0,0\n6.1,left_to_right,0,0.45,0.9,0,0\n");
        let path = std::env::temp_dir().join(format!("l4sd-cells-{}.csv", std::process::id()));
        fs::write(&path, csv).unwrap();
        let series = Series::read(&path).unwrap();
        fs::remove_file(&path).unwrap();

        let o = Overload::of(
            &scrape(10_000, 1_000, 20.0, 9_000),
            &scrape(30_000, 8_000, 215.0, 22_000),
            &scrape(30_000, 8_000, 215.0, 22_000),
            &series,
        );
        assert_eq!(o.l_dropped_share, 0.35);
        assert_eq!(o.l_delay_mean_ms, 15.0);
        assert_eq!(o.backlog_share, 0.06);
        assert!((o.p_base - 0.58).abs() < 1e-9, "the unsettled bins are left out: {}", o.p_base);
        assert_eq!((o.tail_drops, o.episodes), (0.0, 1.0));
        assert!((o.recovery_s.unwrap() - 0.1).abs() < 1e-9);
    }

    #[test]
    fn an_unknown_cell_is_answered_with_the_list() {
        let e = choose(&["prague-41".to_owned()]).unwrap_err().to_string();
        assert!(
            e.starts_with("no cell is named prague-41; there are prague+cubic-40-20, prague-40-20"),
            "{e}"
        );
    }
}
