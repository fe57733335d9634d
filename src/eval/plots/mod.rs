//! The pictures of an evaluation, as SVG and PNG: delay distributions and delay over time by grid, rate ratios over rate
//! and round-trip time, and the frontier of delay against utilisation.
#![expect(clippy::cast_possible_wrap, reason = "pixels of a picture")]

mod cdf;
mod frontier;
mod ratio;
mod style;
mod time;

use super::Judgement;
use super::cell::CellRecord;
use super::design::Design;
use crate::report::ReportError;

/// A picture: the name of its files without ending, and its SVG.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Such as `delay-cdf-rfc9332`.
    pub name: String,
    /// The drawing.
    pub svg: String,
}

impl Picture {
    /// Rasterises it.
    pub fn png(&self) -> Result<Vec<u8>, ReportError> {
        crate::report::plot_png(&self.svg)
    }
}

/// Every picture that the records have something for.
pub fn draw(
    design: &Design,
    records: &[CellRecord],
    judgement: &Judgement,
) -> Result<Vec<Picture>, ReportError> {
    let mut grids: Vec<&str> = Vec::new();
    for cell in &design.cells {
        if !grids.contains(&cell.grid.as_str()) {
            grids.push(&cell.grid);
        }
    }
    let mut pictures = Vec::new();
    let mut put = |name: String, svg: Option<String>| pictures.extend(svg.map(|svg| Picture { name, svg }));
    for grid in grids {
        let file: String = grid.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        put(format!("delay-cdf-{file}"), cdf::draw(design, records, grid)?);
        put(format!("delay-time-{file}"), time::draw(design, records, judgement, grid)?);
    }
    put("rate-ratio".to_owned(), ratio::draw(design, records)?);
    put("frontier".to_owned(), frontier::draw(design, judgement)?);
    Ok(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::synthetic;

    #[test]
    fn every_picture_says_what_and_in_which_unit() {
        let (design, records) = synthetic::with_targets();
        let judgement = crate::eval::judge(&design, &records, 200, 2).unwrap();
        let pictures = draw(&design, &records, &judgement).unwrap();
        let names: Vec<_> = pictures.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "delay-cdf-rfc9332",
                "delay-time-rfc9332",
                "delay-cdf-bursty",
                "delay-time-bursty",
                "delay-cdf-single",
                "delay-time-single",
                "rate-ratio",
                "frontier"
            ]
        );
        for (name, part) in [
            ("delay-cdf-rfc9332", "queue delay (ms)"),
            ("delay-time-bursty", "time (s)"),
            ("rate-ratio", "rate (Mbit/s)"),
            ("frontier", "percentage points"),
        ] {
            let picture = pictures.iter().find(|p| p.name == name).unwrap();
            assert!(picture.svg.contains(part) && picture.svg.contains("model"), "{name}");
            assert!(picture.png().unwrap().len() > 10_000, "{name}");
        }
        assert!(!pictures[0].svg.contains("target="), "static targets belong to the frontier alone");
    }

    #[test]
    fn records_without_series_draw_what_there_is() {
        let (design, mut records) = synthetic::build(&[], 1);
        for record in &mut records {
            *record = CellRecord {
                cell: record.cell.clone(),
                policy: record.policy.clone(),
                seed: record.seed,
                run: crate::report::RunResult { ratio_l_over_c: None, ..record.run.clone() },
                ..CellRecord::default()
            };
        }
        let judgement = crate::eval::judge(&design, &records, 20, 1).unwrap();
        assert!(draw(&design, &records, &judgement).unwrap().is_empty());
    }
}
