//! Heat map of the rate ratio of L to C flows over link rate and round-trip time, a panel per policy.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::style::{self, Area, Drawn, GREY, INK, failed, font, short};
use crate::eval::cell::CellRecord;
use crate::eval::design::Design;
use crate::report::ReportError;

/// The grid that is drawn.
const GRID: &str = "rfc9332";
/// Links are drawn around these; a link belongs to the nearest.
const RATES_MBPS: [f64; 7] = [1.0, 4.0, 12.0, 40.0, 120.0, 200.0, 1000.0];
const RTTS_MS: [f64; 7] = [1.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];
/// Colours are full at a ratio of 8 and 1/8.
const FULL: f64 = 3.0;
const PER_ROW: usize = 3;
const PANEL: (u32, u32) = (400, 330);
const CAPTION: u32 = 72;
const SCALE: u32 = 64;
/// More of L, and more of C: apart in every common form of colour blindness.
const ENDS: [RGBColor; 2] = [RGBColor(0x00, 0x72, 0xb2), RGBColor(0xd5, 0x5e, 0x00)];

/// Mean log2 of the ratio by index of rate and round-trip time.
type Map = Vec<(usize, usize, f64)>;

/// `None` without cells of the grid that have a ratio.
pub(super) fn draw(design: &Design, records: &[CellRecord]) -> Result<Option<String>, ReportError> {
    let lines = style::lines(design);
    let maps: Vec<(&str, Map)> = lines
        .iter()
        .map(|(_, name, _)| (*name, map(design, records, name)))
        .filter(|(_, map)| !map.is_empty())
        .collect();
    if maps.is_empty() {
        return Ok(None);
    }
    let mut rates: Vec<usize> = maps.iter().flat_map(|(_, m)| m.iter().map(|c| c.0)).collect();
    let mut rtts: Vec<usize> = maps.iter().flat_map(|(_, m)| m.iter().map(|c| c.1)).collect();
    for indices in [&mut rates, &mut rtts] {
        indices.sort_unstable();
        indices.dedup();
    }
    let columns = maps.len().min(PER_ROW);
    let rows = maps.len().div_ceil(columns);
    let wide = (PANEL.0 * columns as u32).max(640);
    let mut svg = String::new();
    {
        let size = (wide, CAPTION + SCALE + PANEL.1 * rows as u32);
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (head, below) = root.split_vertically(CAPTION);
        let (scale, panels) = below.split_vertically(SCALE);
        let detail = "mean over cells and seeds; 1 is fair, the colour is full at 8 times";
        style::caption(&head, "Goodput of an L flow over that of a C flow, grid rfc9332", detail)
            .map_err(failed)?;
        colours(&scale).map_err(failed)?;
        for (area, (name, map)) in panels.split_evenly((rows, columns)).iter().zip(&maps) {
            panel(area, name, map, &rates, &rtts).map_err(failed)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(Some(svg))
}

fn map(design: &Design, records: &[CellRecord], policy: &str) -> Map {
    let mut sums = [[(0.0, 0.0); RTTS_MS.len()]; RATES_MBPS.len()];
    let of_policy =
        |r: &&CellRecord| r.cell.grid == GRID && r.policy == policy && design.seeds.contains(&r.seed);
    for record in records.iter().filter(of_policy) {
        let rtts: Vec<f64> =
            record.run.flows.iter().filter_map(|f| f.rtt_ms).filter(|&ms| ms > 0.0).collect();
        let (Some(rate), Some(ratio)) = (record.run.link.rate_mbps, record.run.ratio_l_over_c) else {
            continue;
        };
        if rtts.is_empty() {
            continue;
        }
        let rtt = (rtts.iter().map(|ms| ms.ln()).sum::<f64>() / rtts.len() as f64).exp();
        let cell = &mut sums[nearest(&RATES_MBPS, rate)][nearest(&RTTS_MS, rtt)];
        cell.0 += ratio.log2().clamp(-10.0, 10.0);
        cell.1 += 1.0;
    }
    let cells =
        sums.iter().enumerate().flat_map(|(x, row)| row.iter().enumerate().map(move |(y, c)| (x, y, *c)));
    cells.filter(|(_, _, (_, n))| *n > 0.0).map(|(x, y, (sum, n))| (x, y, sum / n)).collect()
}

/// Index of the nearest value on a logarithmic scale.
fn nearest(values: &[f64], value: f64) -> usize {
    let distance = |i: &usize| (values[*i] / value.max(1e-9)).ln().abs();
    (0..values.len()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

fn colour(log2: f64) -> RGBColor {
    let end = ENDS[usize::from(log2 < 0.0)];
    let share = (log2.abs() / FULL).min(1.0);
    let mix = |c: u8| (255.0 + (f64::from(c) - 255.0) * share) as u8;
    RGBColor(mix(end.0), mix(end.1), mix(end.2))
}

/// 2.3, 0.43, 12: two digits that matter.
fn ratio_text(log2: f64) -> String {
    let ratio = log2.exp2();
    let decimals = match ratio {
        ..1.0 => 2,
        ..10.0 => 1,
        _ => 0,
    };
    short(ratio, decimals)
}

fn colours(area: &Area<'_>) -> Drawn {
    let (left, step, steps) = (110, 8, 49);
    for i in 0..steps {
        let log2 = FULL * (2.0 * f64::from(i) / f64::from(steps - 1) - 1.0);
        let corner = (left + i * step, 6);
        area.draw(&Rectangle::new([corner, (corner.0 + step, 22)], colour(log2).filled()))?;
    }
    let end = left + steps * step;
    area.draw(&Rectangle::new([(left, 6), (end, 22)], GREY.stroke_width(1)))?;
    for (text, x, h) in [("C has more", left - 10, HPos::Right), ("L has more", end + 10, HPos::Left)] {
        area.draw(&Text::new(text.to_owned(), (x, 14), font(13, INK, h, VPos::Center)))?;
    }
    for (log2, text) in [(-3, "1/8"), (-2, "1/4"), (-1, "1/2"), (0, "1"), (1, "2"), (2, "4"), (3, "8")] {
        let x = left + (f64::from(log2 + 3) / 6.0 * f64::from(end - left)) as i32;
        area.draw(&Text::new(text.to_owned(), (x, 28), font(13, INK, HPos::Center, VPos::Top)))?;
    }
    Ok(())
}

fn panel(area: &Area<'_>, name: &str, map: &Map, rates: &[usize], rtts: &[usize]) -> Drawn {
    let (left, top, right, bottom) = (70, 34, PANEL.0 as i32 - 12, PANEL.1 as i32 - 56);
    let wide = (right - left) / rates.len() as i32;
    let high = (bottom - top) / rtts.len() as i32;
    area.draw(&Text::new(name.to_owned(), (left, 16), font(15, INK, HPos::Left, VPos::Center)))?;
    for (rate, rtt, log2) in map {
        let column = rates.iter().position(|r| r == rate).unwrap_or(0) as i32;
        // Long round-trip times above.
        let row = rtts.iter().rev().position(|r| r == rtt).unwrap_or(0) as i32;
        let corner = (left + column * wide, top + row * high);
        let other = (corner.0 + wide - 2, corner.1 + high - 2);
        area.draw(&Rectangle::new([corner, other], colour(*log2).filled()))?;
        let ink = if log2.abs() > 0.75 * FULL { WHITE } else { INK };
        let centre = (corner.0 + wide / 2 - 1, corner.1 + high / 2 - 1);
        area.draw(&Text::new(ratio_text(*log2), centre, font(14, ink, HPos::Center, VPos::Center)))?;
    }
    let label =
        |text: String, at: (i32, i32), h: HPos, v: VPos| area.draw(&Text::new(text, at, font(13, INK, h, v)));
    for (i, rate) in rates.iter().enumerate() {
        let x = left + i as i32 * wide + wide / 2;
        label(short(RATES_MBPS[*rate], 1), (x, top + rtts.len() as i32 * high + 6), HPos::Center, VPos::Top)?;
    }
    for (i, rtt) in rtts.iter().rev().enumerate() {
        let y = top + i as i32 * high + high / 2;
        label(short(RTTS_MS[*rtt], 1), (left - 8, y), HPos::Right, VPos::Center)?;
    }
    let grey = |h, v| font(13, GREY, h, v);
    let centre = left + wide * rates.len() as i32 / 2;
    let below = top + rtts.len() as i32 * high + 26;
    area.draw(&Text::new("rate (Mbit/s)".to_owned(), (centre, below), grey(HPos::Center, VPos::Top)))?;
    let turned = grey(HPos::Center, VPos::Center).transform(FontTransform::Rotate270);
    let middle = top + rtts.len() as i32 * high / 2;
    area.draw(&Text::new("RTT (ms)".to_owned(), (16, middle), turned))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_belongs_to_the_nearest_nominal_one() {
        assert_eq!(RATES_MBPS[nearest(&RATES_MBPS, 36.1)], 40.0);
        assert_eq!(RTTS_MS[nearest(&RTTS_MS, 119.0)], 100.0);
        assert_eq!(nearest(&RTTS_MS, 0.0), 0);
    }

    #[test]
    fn colours_are_white_at_fair_and_full_at_eight_times() {
        assert_eq!(colour(0.0), RGBColor(255, 255, 255));
        assert_eq!((colour(3.0), colour(-9.0)), (ENDS[0], ENDS[1]));
        assert_eq!([ratio_text(1.0), ratio_text(-1.2), ratio_text(4.0)], ["2", "0.44", "16"]);
    }
}
