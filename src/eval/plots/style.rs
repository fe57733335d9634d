//! What the pictures have in common: policies' hues, captions, legends.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::eval::design::{Design, STATIC_TARGET};
pub(super) use crate::report::plot::{FAINT, FONT, GREY, INK, failed, font, short};

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Okabe and Ito's palette, which stays apart in the common forms of colour blindness; the yellow is darkened for white.
const HUES: [RGBColor; 8] = [
    RGBColor(0x22, 0x26, 0x2b),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x9a, 0x8a, 0x00),
];

/// A policy's line: its hue, and dashes for the baseline, which lies on top of what it may coincide with, and for the
/// ninth policy on.
#[derive(Copy, Clone, Debug)]
pub(super) struct Line {
    pub(super) hue: RGBColor,
    pub(super) dashed: bool,
}

/// The policies that are drawn as lines, with index and style: all but static targets.
pub(super) fn lines(design: &Design) -> Vec<(usize, &str, Line)> {
    let named = design.policies.iter().enumerate().filter(|(_, p)| !p.starts_with(STATIC_TARGET));
    named
        .enumerate()
        .map(|(i, (index, name))| {
            (index, name.as_str(), Line { hue: HUES[i % HUES.len()], dashed: i == 0 || i >= HUES.len() })
        })
        .collect()
}

/// An estimate of the width of a text.
pub(super) fn width(text: &str, size: u32) -> i32 {
    (text.chars().count() as f64 * f64::from(size) * 0.56) as i32
}

/// Heading and a line of detail.
pub(super) fn caption(area: &Area<'_>, heading: &str, detail: &str) -> Drawn {
    area.draw(&Text::new(heading.to_owned(), (24, 14), font(22, INK, HPos::Left, VPos::Top)))?;
    area.draw(&Text::new(detail.to_owned(), (24, 42), font(14, GREY, HPos::Left, VPos::Top)))?;
    Ok(())
}

/// The policies with their lines in rows from the upper left corner on.
pub(super) fn legend(area: &Area<'_>, entries: &[(usize, &str, Line)]) -> Drawn {
    let (right, (mut x, mut y)) = (area.dim_in_pixel().0 as i32 - 20, (24, 12));
    for (_, name, line) in entries {
        let needed = 44 + width(name, 14) + 22;
        if x + needed > right && x > 24 {
            (x, y) = (24, y + 22);
        }
        stroke(area, (x, y), *line)?;
        area.draw(&Text::new((*name).to_owned(), (x + 38, y), font(14, INK, HPos::Left, VPos::Center)))?;
        x += needed;
    }
    Ok(())
}

/// How high the legend is.
pub(super) fn legend_height(wide: u32, entries: &[(usize, &str, Line)]) -> u32 {
    let (mut x, mut rows) = (24, 1);
    for (_, name, _) in entries {
        let needed = 44 + width(name, 14) + 22;
        if x + needed > wide as i32 - 20 && x > 24 {
            (x, rows) = (24, rows + 1);
        }
        x += needed;
    }
    rows * 22 + 8
}

fn stroke(area: &Area<'_>, (x, y): (i32, i32), line: Line) -> Drawn {
    let parts: &[(i32, i32)] = if line.dashed { &[(0, 8), (11, 19), (22, 30)] } else { &[(0, 30)] };
    for (from, to) in parts {
        area.draw(&PathElement::new([(x + from, y), (x + to, y)], line.hue.stroke_width(3)))?;
    }
    Ok(())
}

/// Draws a line through points that are wanted as they are.
pub(super) fn draw_line<X, Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    points: Vec<(f64, f64)>,
    line: Line,
    thick: u32,
) -> Drawn
where
    X: plotters::coord::ranged1d::Ranged<ValueType = f64>,
    Y: plotters::coord::ranged1d::Ranged<ValueType = f64>,
{
    let style = line.hue.stroke_width(thick);
    if line.dashed {
        chart.draw_series(DashedLineSeries::new(points, 8, 4, style))?;
    } else {
        chart.draw_series(LineSeries::new(points, style))?;
    }
    Ok(())
}

/// Bounds of a logarithmic axis around values of this range, at 1, 2 or 5 times a power of ten, and the values to be
/// labelled in between: not too many of them.
pub(super) fn log_axis(low: f64, high: f64) -> (f64, f64, Vec<f64>) {
    let steps: Vec<f64> = (-6..6).flat_map(|e| [1.0, 2.0, 5.0].map(|m: f64| m * 10f64.powi(e))).collect();
    let from = steps.iter().rposition(|&v| v <= low * 1.000_001).unwrap_or(0);
    let to = steps.iter().position(|&v| v >= high * 0.999_999).unwrap_or(steps.len() - 1).max(from + 1);
    let all = &steps[from..=to.min(steps.len() - 1)];
    let decade = |v: &f64| (v.log10() - v.log10().round()).abs() < 1e-9;
    let labels = if all.len() > 10 { all.iter().copied().filter(decade).collect() } else { all.to_vec() };
    (all[0], all[all.len() - 1], labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_values() {
        let (low, high, labels) = log_axis(0.3, 14.0);
        assert_eq!((low, (high * 1e6).round() / 1e6), (0.2, 20.0));
        assert_eq!(
            labels.iter().map(|v| short(*v, 3)).collect::<Vec<_>>(),
            ["0.2", "0.5", "1", "2", "5", "10", "20"]
        );
        let labels = log_axis(0.01, 80.0).2;
        assert_eq!(
            labels.iter().map(|v| short(*v, 3)).collect::<Vec<_>>(),
            ["0.01", "0.1", "1", "10", "100"]
        );
    }
}
