//! Delay against utilisation, overall: the curve of static targets, and every other policy as a point. What is below
//! and to the right of the curve is better than any constant.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::style::{self, Area, Drawn, FAINT, FONT, GREY, INK, failed, font, short};
use crate::eval::Judgement;
use crate::eval::bootstrap::Interval;
use crate::eval::design::{BASELINE, Design, STATIC_TARGET};
use crate::eval::summary::{Role, Scope};
use crate::report::ReportError;
use crate::time::Span;
use crate::units::parse_span;

const SIZE: (u32, u32) = (1000, 720);
const CAPTION: u32 = 84;
const CURVE: RGBColor = RGBColor(0x8d, 0x96, 0xa0);

/// Where a policy stands.
#[derive(Clone, Debug, PartialEq)]
struct Point {
    name: String,
    hue: RGBColor,
    /// Difference of utilisation in percentage points.
    x: Interval,
    /// Geometric mean of sqrt(dL x dC).
    y: Interval,
    /// The target, for the curve.
    target: Option<Span>,
}

/// `None` if only the baseline was run.
pub(super) fn draw(design: &Design, judgement: &Judgement) -> Result<Option<String>, ReportError> {
    let lines = style::lines(design);
    let hue = |policy: &str| lines.iter().find(|(_, name, _)| *name == policy).map_or(CURVE, |l| l.2.hue);
    let overall = judgement.summary.iter().filter(|r| r.scope == Scope::Overall && r.role == Role::Baseline);
    let mut points: Vec<Point> = overall
        .filter(|r| r.policy != BASELINE)
        .filter_map(|r| {
            let target = r.policy.strip_prefix(STATIC_TARGET).and_then(|text| parse_span(text).ok());
            let name =
                target.map_or_else(|| r.policy.clone(), |t| format!("{} ms", short(t.as_millis_f64(), 3)));
            let x = r.utilization_difference?.map(|d| d * 100.0);
            Some(Point { name, hue: hue(&r.policy), x, y: r.delay_ratio?, target })
        })
        .collect();
    if points.is_empty() {
        return Ok(None);
    }
    let one = |value| Interval { value, lo: value, hi: value };
    points.push(Point {
        name: BASELINE.to_owned(),
        hue: hue(BASELINE),
        x: one(0.0),
        y: one(1.0),
        target: None,
    });
    points.sort_by_key(|p| p.target);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (head, below) = root.split_vertically(CAPTION);
        let cells =
            judgement.cells.iter().filter(|c| c.policy == design.policies[design.policies.len() - 1]).count();
        let curve =
            if points.iter().any(|p| p.target.is_some()) { "grey: static Classic targets; " } else { "" };
        let detail = format!(
            "{cells} links against {BASELINE}; {curve}bars: 95 % intervals; feasibility is not looked at"
        );
        style::caption(&head, "Queue delay against utilisation", &detail).map_err(failed)?;
        panel(&below, &points).map_err(failed)?;
        root.present().map_err(failed)?;
    }
    Ok(Some(svg))
}

/// The smallest and largest value, with a margin.
fn range(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let room = ((high - low) * margin).max(0.02);
    (low - room, high + room)
}

/// Ratios to be labelled on the axis.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    const FINE: [f64; 13] = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
    let all =
        FINE.into_iter().chain([1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0]);
    let within: Vec<f64> = all.filter(|v| (low..=high).contains(v)).collect();
    if within.len() <= 12 {
        return within;
    }
    style::log_axis(low, high).2.into_iter().filter(|v| (low..=high).contains(v)).collect()
}

fn panel(area: &Area<'_>, points: &[Point]) -> Drawn {
    let (left, right) = range(points.iter().flat_map(|p| [p.x.lo, p.x.hi]), 0.1);
    let (low, high) = range(points.iter().flat_map(|p| [p.y.lo.ln(), p.y.hi.ln()]), 0.08);
    let mut chart = ChartBuilder::on(area)
        .margin_top(6)
        .margin_right(28)
        .margin_left(10)
        .margin_bottom(6)
        .x_label_area_size(46)
        .y_label_area_size(68)
        .build_cartesian_2d(
            left..right,
            (low.exp()..high.exp()).log_scale().with_key_points(ticks(low.exp(), high.exp())),
        )?;
    chart
        .configure_mesh()
        .axis_style(GREY.stroke_width(1))
        .bold_line_style(FAINT.stroke_width(1))
        .light_line_style(TRANSPARENT)
        .x_labels(11)
        .y_labels(9)
        .label_style((FONT, 16.0).into_font().color(&INK))
        .axis_desc_style((FONT, 16.0).into_font().color(&GREY))
        .x_label_formatter(&|x| short((x * 100.0).round() / 100.0 + 0.0, 2))
        .y_label_formatter(&|y| short(*y, 3))
        .x_desc("utilisation minus dualpi2's (percentage points)")
        .y_desc("queue delay over dualpi2's, sqrt(dL x dC), geometric mean")
        .draw()?;
    let curve: Vec<_> =
        points.iter().filter(|p| p.target.is_some()).map(|p| (p.x.value, p.y.value)).collect();
    chart.draw_series(LineSeries::new(curve, CURVE.stroke_width(2)))?;
    for p in points.iter().filter(|p| p.target.is_none()) {
        let bar = p.hue.mix(0.5).stroke_width(2);
        chart.draw_series([
            PathElement::new([(p.x.lo, p.y.value), (p.x.hi, p.y.value)], bar),
            PathElement::new([(p.x.value, p.y.lo), (p.x.value, p.y.hi)], bar),
        ])?;
    }
    for p in points {
        let size = if p.target.is_some() { 3 } else { 6 };
        chart.draw_series([Circle::new((p.x.value, p.y.value), size, p.hue.filled())])?;
    }
    let base = area.get_base_pixel();
    let local = |x: f64, y: f64| {
        let (x, y) = chart.backend_coord(&(x, y));
        (x - base.0, y - base.1)
    };
    let at: Vec<_> = points.iter().map(|p| local(p.x.value, p.y.value)).collect();
    let bars = points.iter().filter(|p| p.target.is_none()).flat_map(|p| {
        let ((left, y), (right, _)) = (local(p.x.lo, p.y.value), local(p.x.hi, p.y.value));
        let ((x, top), (_, bottom)) = (local(p.x.value, p.y.hi), local(p.x.value, p.y.lo));
        [(left, y - 2, right, y + 2), (x - 2, top, x + 2, bottom)]
    });
    labels(area, points, &at, bars.collect())
}

/// A box by its corners.
type Frame = (i32, i32, i32, i32);

fn overlap(a: Frame, b: Frame) -> i32 {
    let wide = a.2.min(b.2) - a.0.max(b.0);
    let high = a.3.min(b.3) - a.1.max(b.1);
    wide.max(0) * high.max(0)
}

/// Names beside their points, where they hide the least: policies first, then targets.
fn labels(area: &Area<'_>, points: &[Point], at: &[(i32, i32)], mut taken: Vec<Frame>) -> Drawn {
    let (wide, high) = area.dim_in_pixel();
    taken.extend(at.iter().map(|&(x, y)| (x - 7, y - 7, x + 7, y + 7)));
    // The curve between its points is not to be hidden either.
    let on_curve: Vec<_> =
        points.iter().zip(at).filter(|(p, _)| p.target.is_some()).map(|(_, at)| *at).collect();
    for pair in on_curve.windows(2) {
        for i in 0..=16 {
            let between = |a: i32, b: i32| a + (b - a) * i / 16;
            let (x, y) = (between(pair[0].0, pair[1].0), between(pair[0].1, pair[1].1));
            taken.push((x - 2, y - 2, x + 2, y + 2));
        }
    }
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|&i| points[i].target.is_some());
    for i in order {
        let (point, (x, y)) = (&points[i], at[i]);
        let size = if point.target.is_some() { 12 } else { 15 };
        let (w, h) = (style::width(&point.name, size), size as i32 + 2);
        let places = [10, 18, 30, 46].into_iter().flat_map(|d| {
            [
                (x + d, y - h / 2),
                (x + d, y - d - h / 2),
                (x + d, y + d - h / 2),
                (x - w / 2, y - d - h),
                (x - w / 2, y + d),
                (x - d - w, y - h / 2),
                (x - d - w, y - d - h / 2),
                (x - d - w, y + d - h / 2),
            ]
        });
        let cost = |&(left, top): &(i32, i32)| {
            let frame = (left, top, left + w, top + h);
            let outside = left < 84 || left + w > wide as i32 - 6 || top < 0 || top + h > high as i32 - 56;
            taken.iter().map(|&t| overlap(frame, t)).sum::<i32>() + i32::from(outside) * 100_000
        };
        let Some((left, top)) = places.min_by_key(cost) else { continue };
        taken.push((left - 2, top - 1, left + w + 2, top + h + 1));
        let ink = if point.target.is_some() { GREY } else { point.hue };
        area.draw(&Text::new(
            point.name.clone(),
            (left, top + h / 2),
            font(size, ink, HPos::Left, VPos::Center),
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_overlap_by_area() {
        assert_eq!(overlap((0, 0, 10, 10), (5, 8, 20, 20)), 10);
        assert_eq!(overlap((0, 0, 10, 10), (10, 0, 20, 10)), 0);
    }
}
