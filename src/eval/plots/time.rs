//! Delay of L and C and utilisation over time, by policy, of one link per grid.

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::style::{self, Area, Drawn, FAINT, FONT, GREY, INK, Line, failed, font, short};
use crate::eval::Judgement;
use crate::eval::cell::CellRecord;
use crate::eval::design::Design;
use crate::report::ReportError;

const WIDTH: u32 = 1200;
const CAPTION: u32 = 66;
const DELAY: u32 = 270;
const USED: u32 = 210;

type Series<'a> = Vec<(Line, Vec<Option<f64>>)>;

/// `None` if no record of the grid has a series.
pub(super) fn draw(
    design: &Design,
    records: &[CellRecord],
    judgement: &Judgement,
    grid: &str,
) -> Result<Option<String>, ReportError> {
    let Some(cell) = typical(design, judgement, grid) else { return Ok(None) };
    let lines = style::lines(design);
    let seed = design.seeds.first().copied();
    let series = |pick: &dyn Fn(&CellRecord) -> Vec<Option<f64>>| -> Series<'_> {
        lines
            .iter()
            .filter_map(|(_, name, line)| {
                let record = records.iter().find(|r| {
                    r.cell.grid == grid && r.cell.name == cell && r.policy == *name && Some(r.seed) == seed
                })?;
                Some((*line, pick(record)))
            })
            .filter(|(_, s)| s.iter().any(Option::is_some))
            .collect()
    };
    let l = series(&|r| r.delay_over_time_ms.l.clone());
    let c = series(&|r| r.delay_over_time_ms.c.clone());
    let used = series(&|r| r.utilization_over_time.iter().map(|u| Some(u * 100.0)).collect());
    if l.is_empty() && c.is_empty() {
        return Ok(None);
    }
    let warmup =
        records.iter().find(|r| r.cell.grid == grid && r.cell.name == cell).map_or(0.0, |r| r.run.warmup_s);
    let legend = style::legend_height(WIDTH, &lines);
    let delays =
        [("L queue: mean delay in 1 s (ms)", l), ("C queue and single queues: mean delay in 1 s (ms)", c)];
    let shown: Vec<_> = delays.iter().filter(|(_, s)| !s.is_empty()).collect();
    let mut svg = String::new();
    {
        let size = (WIDTH, CAPTION + legend + DELAY * shown.len() as u32 + USED);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (head, below) = root.split_vertically(CAPTION);
        let (key, mut below) = below.split_vertically(legend);
        let detail = format!(
            "grid {grid}, link {cell}, seed {}; warm-up in grey",
            seed.map_or_else(String::new, |s| s.to_string())
        );
        style::caption(&head, "Queue delay and utilisation over time", &detail).map_err(failed)?;
        style::legend(&key, &lines).map_err(failed)?;
        for (title, series) in shown {
            let (area, rest) = below.split_vertically(DELAY);
            let (low, high, labels) = axis(series);
            let y = (low * 0.98..high * 1.02).log_scale().with_key_points(labels);
            panel(&area, title, series, warmup, y, (low, high), 6, false).map_err(failed)?;
            below = rest;
        }
        let lowest = used.iter().flat_map(|(_, s)| s).flatten().copied().fold(90.0, f64::min);
        let y = ((lowest / 10.0).floor() * 10.0).max(0.0)..101.0;
        let bounds = (y.start, y.end);
        panel(&below, "utilisation (%)", &used, warmup, RangedCoordf64::from(y), bounds, 6, true)
            .map_err(failed)?;
        root.present().map_err(failed)?;
    }
    Ok(Some(svg))
}

/// The link with the median S under the policy listed last that is drawn.
fn typical<'a>(design: &Design, judgement: &'a Judgement, grid: &str) -> Option<&'a str> {
    let (_, policy, _) = *style::lines(design).last()?;
    let mut cells: Vec<_> = judgement.cells.iter().filter(|c| c.grid == grid && c.policy == policy).collect();
    cells.sort_by(|a, b| a.s_unbounded.unwrap_or(0.0).total_cmp(&b.s_unbounded.unwrap_or(0.0)));
    cells.get(cells.len() / 2).map(|c| c.cell.as_str())
}

/// Bounds and labels of the axis around all delays.
fn axis(series: &Series<'_>) -> (f64, f64, Vec<f64>) {
    let all = || series.iter().flat_map(|(_, s)| s).flatten().copied().filter(|&ms| ms > 0.0);
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    if high > 0.0 { style::log_axis(low.max(1e-2), high.max(2e-2)) } else { style::log_axis(0.1, 1.0) }
}

#[expect(clippy::too_many_arguments, reason = "the panels differ in just these")]
fn panel<Y>(
    area: &Area<'_>,
    title: &str,
    series: &Series<'_>,
    warmup: f64,
    y: Y,
    (low, high): (f64, f64),
    y_labels: usize,
    time: bool,
) -> Drawn
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let seconds = series.iter().map(|(_, s)| s.len()).max().unwrap_or(1) as f64;
    let mut chart = ChartBuilder::on(area)
        .margin_top(32)
        .margin_right(24)
        .margin_left(10)
        .margin_bottom(4)
        .x_label_area_size(if time { 44 } else { 26 })
        .y_label_area_size(62)
        .build_cartesian_2d(RangedCoordf64::from(0.0..seconds), y)?;
    if warmup > 0.0 {
        let grey = FAINT.mix(0.6).filled();
        chart.draw_series([Rectangle::new([(0.0, low), (warmup.min(seconds), high)], grey)])?;
    }
    chart
        .configure_mesh()
        .axis_style(GREY.stroke_width(1))
        .bold_line_style(FAINT.stroke_width(1))
        .light_line_style(TRANSPARENT)
        .x_labels(13)
        .y_labels(y_labels)
        .label_style((FONT, 16.0).into_font().color(&INK))
        .axis_desc_style((FONT, 16.0).into_font().color(&GREY))
        .x_label_formatter(&|t| short(*t, 3))
        .y_label_formatter(&|v| short(*v, 6))
        .x_desc(if time { "time (s)" } else { "" })
        .draw()?;
    // The baseline last, on top.
    for (line, values) in series.iter().rev() {
        for run in runs(values, low) {
            style::draw_line(&mut chart, run, *line, 2)?;
        }
    }
    area.draw(&Text::new(title.to_owned(), (74, 18), font(15, INK, HPos::Left, VPos::Center)))?;
    Ok(())
}

/// Consecutive values as points in the middle of their seconds; what is absent breaks the line.
fn runs(values: &[Option<f64>], low: f64) -> Vec<Vec<(f64, f64)>> {
    let mut runs: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
    for (t, value) in values.iter().enumerate() {
        match (value, runs.last_mut()) {
            (Some(v), Some(run)) => run.push((t as f64 + 0.5, v.max(low))),
            _ => runs.push(Vec::new()),
        }
    }
    // A lone second is drawn as a dash: a line needs two points.
    for run in &mut runs {
        if let [(t, v)] = run[..] {
            *run = vec![(t - 0.5, v), (t + 0.5, v)];
        }
    }
    runs.retain(|r| !r.is_empty());
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_not_bridged() {
        let runs = runs(&[Some(1.0), Some(2.0), None, Some(0.0), None], 0.5);
        assert_eq!(runs, [vec![(0.5, 1.0), (1.5, 2.0)], vec![(3.0, 0.5), (4.0, 0.5)]]);
    }
}
