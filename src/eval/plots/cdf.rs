//! Distribution of queue delay by policy, L and C side by side: the mean over runs, each run with the same weight.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::style::{self, Area, Drawn, FAINT, FONT, GREY, INK, Line, failed, font, short};
use crate::eval::cell::CellRecord;
use crate::eval::design::Design;
use crate::report::ReportError;

const SIZE: (u32, u32) = (1200, 520);
const CAPTION: u32 = 66;
/// Every curve begins here: packets that waited less, or not at all, are a share that is there from the start.
const LEAST_MS: f64 = 1e-2;
/// Points of a curve.
const POINTS: usize = 240;
/// Shares of the axis: the tail matters as much as the middle, but a CDF is read linearly.
const SHARES: usize = 11;

type Curve = Vec<(f64, f64)>;

/// `None` if no record of the grid has percentiles.
pub(super) fn draw(
    design: &Design,
    records: &[CellRecord],
    grid: &str,
) -> Result<Option<String>, ReportError> {
    let lines = style::lines(design);
    let curves = |l: bool| {
        let of = |policy: &str| {
            let runs: Vec<&[f64]> = records
                .iter()
                .filter(|r| r.cell.grid == grid && r.policy == policy && design.seeds.contains(&r.seed))
                .map(|r| if l { &r.delay_percentiles_ms.l[..] } else { &r.delay_percentiles_ms.c[..] })
                .filter(|p| !p.is_empty())
                .collect();
            mixture(&runs)
        };
        let curves = lines.iter().map(|(_, name, line)| (*line, of(name)));
        curves.filter(|(_, curve)| !curve.is_empty()).collect::<Vec<_>>()
    };
    let panels: Vec<_> = [("L queue", curves(true)), ("C queue (and single queues)", curves(false))]
        .into_iter()
        .filter(|(_, curves)| !curves.is_empty())
        .collect();
    if panels.is_empty() {
        return Ok(None);
    }
    let cells = design.cells.iter().filter(|c| c.grid == grid).count();
    let legend = style::legend_height(SIZE.0, &lines);
    let mut svg = String::new();
    {
        let size = (SIZE.0, SIZE.1 + CAPTION + legend);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (head, below) = root.split_vertically(CAPTION);
        let (key, below) = below.split_vertically(legend);
        let detail = format!("{cells} links, {} seeds; every run has the same weight", design.seeds.len());
        style::caption(&head, &format!("Distribution of queue delay, grid {grid}"), &detail)
            .map_err(failed)?;
        style::legend(&key, &lines).map_err(failed)?;
        for (area, (title, curves)) in below.split_evenly((1, panels.len())).iter().zip(&panels) {
            panel(area, title, curves).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(Some(svg))
}

/// The share of packets that waited at most so long, as the mean over runs, at log-spaced delays.
fn mixture(runs: &[&[f64]]) -> Curve {
    let positive = || runs.iter().flat_map(|r| r.iter()).copied().filter(|&ms| ms > 0.0);
    let low = positive().fold(f64::INFINITY, f64::min).max(LEAST_MS);
    let high = positive().fold(0.0, f64::max);
    if high <= 0.0 {
        return Vec::new();
    }
    let step = (high.max(low * 1.01) / low).ln() / (POINTS - 1) as f64;
    let share = |run: &[f64], ms: f64| {
        // The value at p % is the last that p % of the packets reach: so many values, so many hundredths.
        run.partition_point(|&d| d <= ms).saturating_sub(1) as f64 / (run.len() - 1).max(1) as f64
    };
    let mean = |ms: f64| runs.iter().map(|r| share(r, ms)).sum::<f64>() / runs.len() as f64;
    let spaced = (0..POINTS).map(|i| low * (step * i as f64).exp() * (1.0 + 1e-12));
    std::iter::once(LEAST_MS).chain(spaced).map(|ms| (ms, mean(ms))).collect()
}

fn panel(area: &Area<'_>, title: &str, curves: &[(Line, Curve)]) -> Drawn {
    let points = || curves.iter().flat_map(|(_, c)| c.iter());
    let low = points().filter(|p| p.1 > 0.002).map(|p| p.0).fold(f64::INFINITY, f64::min);
    let high = points().map(|p| p.0).fold(0.0, f64::max);
    let (low, high, labels) = style::log_axis(low, high);
    let x = (low * 0.99..high * 1.01).log_scale().with_key_points(labels);
    let mut chart = ChartBuilder::on(area)
        .margin_top(34)
        .margin_right(24)
        .margin_left(10)
        .margin_bottom(6)
        .x_label_area_size(44)
        .y_label_area_size(62)
        .build_cartesian_2d(x, 0.0..1.0)?;
    chart
        .configure_mesh()
        .axis_style(GREY.stroke_width(1))
        .bold_line_style(FAINT.stroke_width(1))
        .light_line_style(TRANSPARENT)
        .x_labels(7)
        .y_labels(SHARES)
        .label_style((FONT, 16.0).into_font().color(&INK))
        .axis_desc_style((FONT, 16.0).into_font().color(&GREY))
        .x_label_formatter(&|ms| short(*ms, 6))
        .y_label_formatter(&|share| format!("{:.0}", share * 100.0))
        .x_desc("queue delay (ms)")
        .y_desc("packets that waited at most so long (%)")
        .draw()?;
    // The baseline last, on top.
    for (line, curve) in curves.iter().rev() {
        let shown = curve.iter().copied().filter(|p| p.0 >= low).collect();
        style::draw_line(&mut chart, shown, *line, 2)?;
    }
    area.draw(&Text::new(title.to_owned(), (74, 20), font(15, INK, HPos::Left, VPos::Center)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_the_same_weight() {
        let (a, b): (Vec<f64>, Vec<f64>) =
            ((0..=100).map(|_| 1.0).collect(), (0..=100).map(|_| 100.0).collect());
        let curve = mixture(&[&a, &b]);
        assert_eq!((curve[0], curve.len()), ((0.01, 0.0), POINTS + 1));
        assert_eq!((curve[1].0.round(), curve[1].1), (1.0, 0.5));
        assert_eq!(curve[POINTS / 2].1, 0.5, "at 10 ms");
        assert_eq!(curve[POINTS].1, 1.0);
        let idle: Vec<f64> = (0..=100).map(|p| if p < 20 { 0.0 } else { 1.0 }).collect();
        assert_eq!(mixture(&[&idle])[0].1, 0.19, "waited not at all");
        assert!(mixture(&[]).is_empty() && mixture(&[&[0.0; 101]]).is_empty());
    }
}
