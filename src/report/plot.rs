//! The delay plot: queue delay of L and C over time, with the throughput of both below, as SVG and as PNG.
//!
//! The PNG is the SVG rasterised with a font that is built in, so it looks the same on a host without fonts.

use std::sync::Arc;

use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use resvg::{tiny_skia, usvg};

use super::{Bin, DirectionReport, QueueBin, ReportError};
use crate::aqm::Service;

/// First the name that the built-in font carries, then what a viewer of the SVG may have.
pub(crate) const FONT: &str = "Ubuntu, Helvetica, Arial, sans-serif";
pub(crate) const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
pub(crate) const GREY: RGBColor = RGBColor(0x6b, 0x72, 0x7b);
pub(crate) const FAINT: RGBColor = RGBColor(0xe4, 0xe7, 0xea);
/// L and C: two hues that stay apart in every common form of colour blindness.
const HUES: [RGBColor; 2] = [RGBColor(0x00, 0x72, 0xb2), RGBColor(0xd5, 0x5e, 0x00)];

/// How much of a hue is left in the line of its maxima.
const FADE: f64 = 0.45;

const WIDTH: u16 = 1200;
const TITLE_HEIGHT: u32 = 64;
const DELAY_HEIGHT: u32 = 410;
const RATE_HEIGHT: u32 = 250;
const ZOOM: f32 = 1.5;
/// A direction that forwarded less than this share of the busiest one (its acknowledgements, say) is left out.
const WORTH_DRAWING: f64 = 0.1;

pub(crate) fn failed(e: impl std::fmt::Display) -> ReportError {
    ReportError::Plot(e.to_string())
}

pub(crate) fn font(size: u32, colour: RGBColor, h: HPos, v: VPos) -> TextStyle<'static> {
    (FONT, f64::from(size) * 1.24).into_font().color(&colour).pos(Pos::new(h, v))
}

/// At most so many decimals, without zeros at the end.
pub(crate) fn short(value: f64, decimals: i32) -> String {
    let scale = 10f64.powi(decimals);
    format!("{}", (value * scale).round() / scale)
}

fn drawn(reports: &[DirectionReport]) -> Vec<&DirectionReport> {
    let bytes = |r: &DirectionReport| r.result.totals.all.bytes as f64;
    let most = reports.iter().map(bytes).fold(0.0, f64::max);
    let busy: Vec<_> =
        reports.iter().filter(|r| bytes(r) > 0.0 && bytes(r) >= WORTH_DRAWING * most).collect();
    if busy.is_empty() { reports.iter().take(1).collect() } else { busy }
}

/// Draws the directions that carried traffic, one below the other.
pub fn plot_svg(reports: &[DirectionReport]) -> Result<String, ReportError> {
    let shown = drawn(reports);
    let part = TITLE_HEIGHT + DELAY_HEIGHT + RATE_HEIGHT;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (u32::from(WIDTH), part * shown.len().max(1) as u32))
            .into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        for (area, report) in root.split_evenly((shown.len().max(1), 1)).iter().zip(shown) {
            let (head, below) = area.split_vertically(TITLE_HEIGHT);
            let (delay, rate) = below.split_vertically(DELAY_HEIGHT);
            title(&head, report).map_err(failed)?;
            delay_panel(&delay, report).map_err(failed)?;
            rate_panel(&rate, report).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

/// Rasterises what [`plot_svg`] drew.
pub fn plot_png(svg: &str) -> Result<Vec<u8>, ReportError> {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).map_err(failed)?;
    let size = tree.size();
    let (width, height) = ((size.width() * ZOOM).ceil() as u32, (size.height() * ZOOM).ceil() as u32);
    let mut pixmap =
        tiny_skia::Pixmap::new(width, height).ok_or_else(|| failed("the picture has no area"))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(ZOOM, ZOOM), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(failed)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Panel<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn title(area: &Area<'_>, report: &DirectionReport) -> Drawn {
    let r = &report.result;
    let rate = r.link.rate_mbps.map_or_else(String::new, |mbps| format!(" at {} Mbit/s", short(mbps, 2)));
    let busy = r.link.utilization.map_or_else(String::new, |u| format!(", link {:.1} % used", u * 100.0));
    let scenario = r.scenario.as_ref().map_or_else(String::new, |name| format!(", {name}"));
    let warmup =
        if r.warmup_s > 0.0 { format!(", after {} s of warm-up (grey)", r.warmup_s) } else { String::new() };
    let heading = format!("Queue delay under {}{rate}", r.policy);
    area.draw(&Text::new(heading, (78, 14), font(22, INK, HPos::Left, VPos::Top)))?;
    let detail = format!("{}{scenario}{busy}{warmup}", r.direction.replace('_', " "));
    area.draw(&Text::new(detail, (78, 42), font(14, GREY, HPos::Left, VPos::Top)))?;
    Ok(())
}

/// A row of samples and names in the upper right corner of a panel; a stroke of no width means a dashed line.
fn legend(area: &Area<'_>, entries: &[(&str, RGBColor, u32)]) -> Drawn {
    let mut x = i32::from(WIDTH) - 30;
    for (name, colour, thick) in entries.iter().rev() {
        area.draw(&Text::new((*name).to_owned(), (x, 13), font(14, INK, HPos::Right, VPos::Center)))?;
        x -= (name.len() as f64 * 6.2) as i32 + 13;
        let strokes: &[(i32, i32)] = if *thick == 0 { &[(26, 20), (16, 10), (6, 0)] } else { &[(26, 0)] };
        for (left, right) in strokes {
            let stroke = colour.stroke_width((*thick).max(1));
            area.draw(&PathElement::new([(x - left, 14), (x - right, 14)], stroke))?;
        }
        x -= 48;
    }
    Ok(())
}

/// The runs of consecutive bins in which `value` exists, as points in the middle of their bins.
fn runs(bins: &[Bin], value: impl Fn(&Bin) -> Option<f64>) -> Vec<Vec<(f64, f64)>> {
    let mut runs: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut previous = f64::NEG_INFINITY;
    for bin in bins {
        let Some(y) = value(bin) else { continue };
        let point = (bin.t_s + 0.05, y);
        match runs.last_mut() {
            Some(run) if point.0 - previous < 0.15 => run.push(point),
            _ => runs.push(vec![point]),
        }
        previous = point.0;
    }
    // A lone point is drawn as a short dash: a line needs two.
    for run in &mut runs {
        if let [(x, y)] = run[..] {
            *run = vec![(x - 0.05, y), (x + 0.05, y)];
        }
    }
    runs
}

/// First and last second on the time axis.
fn times(bins: &[Bin]) -> (f64, f64) {
    let from = bins.first().map_or(0.0, |b| b.t_s);
    let to = bins.last().map_or(0.0, |b| b.t_s + 0.1);
    (from, to.max(from + 1.0))
}

/// Whole decades around all mean delays that are drawn, at least .1 to 10 ms, and where the maxima are cut off.
fn decades(bins: &[Bin]) -> (f64, f64) {
    let all = |pick: fn(&QueueBin) -> Option<f64>| {
        bins.iter().flat_map(|b| &b.queues).filter_map(pick).filter(|&d| d > 0.0).collect::<Vec<_>>()
    };
    let low = all(|q| q.delay_ms).into_iter().fold(0.1, f64::min);
    let high = all(|q| q.delay_max_ms).into_iter().fold(10.0, f64::max);
    (10f64.powf(low.log10().floor()).max(1e-3), 10f64.powf(high.log10().ceil()).min(1e5))
}

fn mesh<X, Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    time: bool,
    y_name: &str,
    y_labels: usize,
    y: &dyn Fn(&f64) -> String,
) -> Drawn
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let small = font(13, GREY, HPos::Center, VPos::Center);
    chart
        .configure_mesh()
        .axis_style(GREY.stroke_width(1))
        .bold_line_style(FAINT.stroke_width(1))
        .light_line_style(TRANSPARENT)
        .x_labels(13)
        .y_labels(y_labels)
        .label_style((FONT, 13.0 * 1.24).into_font().color(&INK))
        .axis_desc_style(small)
        .x_label_formatter(&|t| short(*t, 3))
        .y_label_formatter(y)
        .x_desc(if time { "time (s)" } else { "" })
        .y_desc(y_name)
        .draw()?;
    Ok(())
}

fn delay_panel(area: &Area<'_>, report: &DirectionReport) -> Drawn {
    let bins = &report.bins;
    let (from, to) = times(bins);
    let (low, high) = decades(bins);
    // A little room, so that the decades at both ends get their line and label.
    let mut chart = panel(area, from..to, (low * 0.97..high * 1.03).log_scale())?;
    let warm = report.result.warmup_s.clamp(from, to);
    if warm > from {
        chart.draw_series([Rectangle::new([(from, low), (warm, high)], FAINT.mix(0.6).filled())])?;
    }
    mesh(&mut chart, false, "queue delay (ms)", 6, &|ms| short(*ms, 6))?;
    for (service, hue) in Service::BOTH.into_iter().zip(HUES) {
        let queue = |b: &Bin| b.queues[service.index()];
        for run in runs(bins, |b| queue(b).delay_max_ms.map(|d| d.max(low))) {
            chart.draw_series(LineSeries::new(run, hue.mix(FADE).stroke_width(1)))?;
        }
        for run in runs(bins, |b| queue(b).delay_ms.map(|d| d.max(low))) {
            chart.draw_series(LineSeries::new(run, hue.stroke_width(2)))?;
        }
    }
    let faint = |hue: RGBColor| {
        let mixed = |c: u8| (f64::from(c) * FADE + 255.0 * (1.0 - FADE)) as u8;
        RGBColor(mixed(hue.0), mixed(hue.1), mixed(hue.2))
    };
    legend(
        area,
        &[
            ("L mean", HUES[0], 2),
            ("L max in 100 ms", faint(HUES[0]), 1),
            ("C mean", HUES[1], 2),
            ("C max in 100 ms", faint(HUES[1]), 1),
        ],
    )
}

fn rate_panel(area: &Area<'_>, report: &DirectionReport) -> Drawn {
    let bins = &report.bins;
    let (from, to) = times(bins);
    let total = |b: &Bin| b.queues[0].mbps + b.queues[1].mbps;
    let top = bins.iter().map(|b| b.rate_mbps.max(total(b))).fold(1e-3, f64::max) * 1.15;
    let mut chart = panel(area, from..to, RangedCoordf64::from(0.0..top))?;
    let warm = report.result.warmup_s.clamp(from, to);
    if warm > from {
        chart.draw_series([Rectangle::new([(from, 0.0), (warm, top)], FAINT.mix(0.6).filled())])?;
    }
    mesh(&mut chart, true, "throughput (Mbit/s)", 5, &|mbps| short(*mbps, 6))?;
    for run in runs(bins, |b| Some(b.rate_mbps)) {
        chart.draw_series(DashedLineSeries::new(run, 6, 4, GREY.stroke_width(1)))?;
    }
    for (service, hue) in Service::BOTH.into_iter().zip(HUES) {
        for run in runs(bins, |b| Some(b.queues[service.index()].mbps)) {
            chart.draw_series(LineSeries::new(run, hue.stroke_width(2)))?;
        }
    }
    for run in runs(bins, |b| Some(total(b))) {
        chart.draw_series(LineSeries::new(run, INK.stroke_width(1)))?;
    }
    legend(area, &[("L", HUES[0], 2), ("C", HUES[1], 2), ("L + C", INK, 1), ("capacity", GREY, 0)])
}

fn panel<'a, 'b, Y: AsRangedCoord>(
    area: &Area<'b>,
    x: std::ops::Range<f64>,
    y: Y,
) -> Result<Panel<'a, 'b, Y::CoordDescType>, String> {
    ChartBuilder::on(area)
        .margin_top(30)
        .margin_right(30)
        .margin_left(12)
        .margin_bottom(6)
        .x_label_area_size(40)
        .y_label_area_size(66)
        .build_cartesian_2d(x, y)
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::RunResult;

    /// C saws around 15 ms and L flickers around .2 ms on a link of 40 Mbit/s.
    fn typical(direction: &str, scale: f64) -> DirectionReport {
        let mut result = RunResult {
            policy: "dualpi2".into(),
            direction: direction.into(),
            warmup_s: 5.0,
            ..RunResult::default()
        };
        result.link.rate_mbps = Some(40.0);
        result.link.utilization = Some(0.983);
        result.totals.all.bytes = (1e8 * scale) as u64;
        let bins = (0..300)
            .map(|i| {
                let t = f64::from(i) * 0.1;
                let (saw, flicker) = ((t * 0.7).fract(), (t * 37.0).sin().abs());
                let queue = |mbps, delay: f64, peak| QueueBin {
                    mbps,
                    delay_ms: Some(delay),
                    delay_max_ms: Some(delay * peak),
                    ..QueueBin::default()
                };
                let l = 20.0 + 3.0 * (t * 2.0).sin();
                Bin {
                    t_s: t,
                    rate_mbps: 40.0 * scale,
                    queues: [
                        queue(l * scale, 0.12 + 0.2 * flicker, 3.0 + 2.0 * flicker),
                        queue((39.3 - l) * scale, 10.0 + 9.0 * saw, 1.2),
                    ],
                    ..Bin::default()
                }
            })
            .collect();
        DirectionReport { result, bins, conservation_error: None }
    }

    #[test]
    fn only_directions_with_traffic_are_drawn() {
        let (busy, acks) = (typical("left_to_right", 1.0), typical("right_to_left", 0.02));
        let svg = plot_svg(&[acks, busy.clone()]).unwrap();
        assert!(svg.contains("left to right") && !svg.contains("right to left"));
        let svg = plot_svg(&[busy, typical("right_to_left", 0.5)]).unwrap();
        assert!(svg.contains("left to right") && svg.contains("right to left"));
    }

    #[test]
    fn the_picture_says_what_and_in_which_unit() {
        let svg = plot_svg(&[typical("left_to_right", 1.0)]).unwrap();
        for word in [
            "Queue delay under dualpi2 at 40 Mbit/s",
            "queue delay (ms)",
            "throughput (Mbit/s)",
            "time (s)",
            "L mean",
            "capacity",
        ] {
            assert!(svg.contains(word), "{word}");
        }
        let png = plot_png(&svg).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 20_000, "{} bytes", png.len());
    }

    #[test]
    fn text_reaches_the_png_without_a_system_font() {
        let words = |text: &str| plot_png(&plot_svg(&[typical(text, 1.0)]).unwrap()).unwrap();
        assert_ne!(words("left_to_right"), words("right_to_left"), "the title's letters are drawn");
    }

    #[test]
    fn a_run_without_packets_still_draws() {
        let mut empty = typical("left_to_right", 1.0);
        empty.bins.clear();
        plot_png(&plot_svg(&[empty]).unwrap()).unwrap();
    }

    #[test]
    fn gaps_are_not_bridged() {
        let mut report = typical("left_to_right", 1.0);
        report.bins[10].queues[0].delay_ms = None;
        report.bins.remove(20);
        let lengths: Vec<_> = runs(&report.bins, |b| b.queues[0].delay_ms).iter().map(Vec::len).collect();
        assert_eq!(lengths, [10, 9, 279]);
    }

    #[test]
    fn labels_carry_no_rounding_noise() {
        assert_eq!([short(39.999_999, 2), short(0.1 + 0.2, 6), short(12.345, 2)], ["40", "0.3", "12.35"]);
    }

    #[test]
    fn the_delay_axis_covers_whole_decades() {
        assert_eq!(decades(&typical("left_to_right", 1.0).bins), (0.1, 100.0));
    }
}
