//! The tables of an evaluation: Markdown for files, aligned text for terminals.

use std::fmt::Write as _;

use super::bootstrap::Interval;
use super::design::{BASELINE, Design, STATIC_TARGET, TUNED};
use super::summary::{CellRow, Judgement, Role, Scope, SummaryRow};

/// Cells listed per policy.
const WORST: usize = 10;
/// Fewer seeds than this are no evaluation (design of the score).
const SEEDS: usize = 3;

/// A heading, lines below it, and a table.
#[derive(Clone, Debug, Default, PartialEq)]
struct Part {
    heading: String,
    notes: Vec<String>,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}

/// So many decimals, and no sign before a zero.
fn rounded(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(digits) if digits.chars().all(|c| matches!(c, '0' | '.')) => digits.to_owned(),
        _ => text,
    }
}

/// `value (lo to hi)` with so many decimals.
fn figure(interval: Option<Interval>, decimals: usize, scale: f64) -> String {
    interval.map_or_else(
        || "-".to_owned(),
        |i| {
            let [value, lo, hi] = [i.value, i.lo, i.hi].map(|v| rounded(v * scale, decimals));
            format!("{value} ({lo} to {hi})")
        },
    )
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |v| rounded(v, decimals))
}

/// How a row is named: the baseline against itself is the noise floor.
fn name(policy: &str) -> String {
    if policy == BASELINE { format!("{BASELINE}, other seeds") } else { policy.to_owned() }
}

const FIGURES: [&str; 9] = [
    "policy",
    "S",
    "feasible %",
    "L mean x",
    "C mean x",
    "L P99 x",
    "C P99 x",
    "utilisation, points",
    "|log2 ratio|",
];

fn figures(name: String, row: &SummaryRow) -> Vec<String> {
    vec![
        name,
        figure(row.s_score, 3, 1.0),
        figure(row.feasible_share, 0, 100.0),
        figure(row.delay_mean_ratio.l, 2, 1.0),
        figure(row.delay_mean_ratio.c, 2, 1.0),
        figure(row.delay_p99_ratio.l, 2, 1.0),
        figure(row.delay_p99_ratio.c, 2, 1.0),
        figure(row.utilization_difference, 2, 100.0),
        figure(row.abs_log2_ratio_difference, 2, 1.0),
    ]
}

fn group(heading: String, rows: &[&SummaryRow]) -> Part {
    let floor = rows.iter().find(|r| r.policy == BASELINE).map(|r| {
        format!(
            "Noise floor ({BASELINE} against itself on other seeds): S {}, feasible {} %.",
            figure(r.s_score, 3, 1.0),
            figure(r.feasible_share, 0, 100.0)
        )
    });
    Part {
        heading,
        notes: floor.into_iter().collect(),
        head: words(FIGURES),
        rows: rows.iter().map(|r| figures(name(&r.policy), r)).collect(),
    }
}

fn overview(design: &Design, judgement: &Judgement) -> Vec<Part> {
    let against = |role: Role| judgement.summary.iter().filter(move |r| r.role == role);
    let in_scope = |scope: Scope| against(Role::Baseline).filter(move |r| r.scope == scope);
    let names = |scope: Scope| {
        let mut names: Vec<&String> = in_scope(scope).filter_map(|r| r.name.as_ref()).collect();
        names.dedup();
        names
    };
    let count = |rows: &[&SummaryRow]| rows.first().map_or(0, |r| r.cells);
    let mut parts = Vec::new();
    let overall: Vec<_> = in_scope(Scope::Overall).collect();
    let mut first =
        group(format!("Overall: {} cells, {} seeds", count(&overall), design.seeds.len()), &overall);
    first.notes.insert(
        0,
        format!(
            "S, ratios (x) and differences are against {BASELINE} on the same links and seeds; lower S is better. In \
             brackets: 95 % intervals of a bootstrap over links, then seeds."
        ),
    );
    if design.seeds.len() < SEEDS {
        first
            .notes
            .insert(0, format!("FEWER THAN {SEEDS} SEEDS: feasibility and S are noise; not for quoting."));
    }
    parts.push(first);
    parts.extend(rivals(judgement));
    for grid in names(Scope::Grid) {
        let rows: Vec<_> = in_scope(Scope::Grid).filter(|r| r.name.as_ref() == Some(grid)).collect();
        parts.push(group(format!("Grid {grid}: {} cells", count(&rows)), &rows));
    }
    parts.push(groups_of_cells("mix of flows", "cells", &names(Scope::Mix), in_scope(Scope::Mix)));
    if in_scope(Scope::Phase).next().is_some() {
        let phases = in_scope(Scope::Phase);
        parts.push(groups_of_cells("phase, each a cell", "phases", &names(Scope::Phase), phases));
    }
    parts
}

/// S overall against the tuned constants and the best rival.
fn rivals(judgement: &Judgement) -> Option<Part> {
    let overall =
        |role: Role| judgement.summary.iter().filter(move |r| r.scope == Scope::Overall && r.role == role);
    let rows: Vec<_> = overall(Role::BestRival)
        .map(|r| {
            let tuned = overall(Role::Tuned).find(|t| t.policy == r.policy).and_then(|t| t.s_score);
            vec![r.policy.clone(), figure(tuned, 3, 1.0), figure(r.s_score, 3, 1.0), r.against.clone()]
        })
        .collect();
    (!rows.is_empty()).then(|| Part {
        heading: "Overall: S as a multiple of that of other policies".to_owned(),
        notes: Vec::new(),
        head: vec![
            "policy".to_owned(),
            format!("of {TUNED}"),
            "of the best rival".to_owned(),
            "which is".to_owned(),
        ],
        rows,
    })
}

/// S by mix or phase, a column each.
fn groups_of_cells<'a>(
    what: &str,
    members: &str,
    names: &[&String],
    rows: impl Iterator<Item = &'a SummaryRow>,
) -> Part {
    let rows: Vec<_> = rows.collect();
    let mut policies: Vec<&String> = Vec::new();
    for row in &rows {
        if !policies.contains(&&row.policy) {
            policies.push(&row.policy);
        }
    }
    let cell = |policy: &String, mix: &String| {
        let row = rows.iter().find(|r| r.policy == *policy && r.name.as_ref() == Some(mix));
        row.map_or_else(String::new, |r| {
            let share =
                r.feasible_share.map_or_else(|| "-".to_owned(), |f| format!("{:.0} %", f.value * 100.0));
            format!("{}, {share}", figure(r.s_score, 3, 1.0))
        })
    };
    let of_mix = |mix: &&String| {
        let cells = rows.iter().find(|r| r.name.as_ref() == Some(*mix)).map_or(0, |r| r.cells);
        format!("{mix} ({cells})")
    };
    Part {
        heading: format!("By {what}: S and share of feasible {members} (number of {members})"),
        notes: Vec::new(),
        head: std::iter::once("policy".to_owned()).chain(names.iter().map(of_mix)).collect(),
        rows: policies
            .iter()
            .map(|p| std::iter::once(name(p)).chain(names.iter().map(|mix| cell(p, mix))).collect())
            .collect(),
    }
}

/// The cells of a policy that are not feasible or have the highest S: infeasible ones first, the worst first.
fn worst(policy: &str, cells: &[CellRow]) -> Option<Part> {
    let mut rows: Vec<&CellRow> = cells.iter().filter(|c| c.policy == policy).collect();
    let total = rows.len();
    let infeasible = rows.iter().filter(|c| !c.feasible).count();
    let s = |c: &CellRow| c.s_score.unwrap_or(0.0);
    rows.sort_by(|a, b| a.feasible.cmp(&b.feasible).then(s(b).total_cmp(&s(a))));
    rows.truncate(WORST);
    (total > 0).then(|| Part {
        heading: format!(
            "{}: {infeasible} of {total} cells are not feasible; the worst {}",
            name(policy),
            rows.len()
        ),
        notes: Vec::new(),
        head: words(["cell", "S", "without bounds", "utilisation %", "why not feasible"]),
        rows: rows
            .iter()
            .map(|c| {
                let why = if c.feasible { "feasible".to_owned() } else { c.infeasible_why.join("; ") };
                vec![
                    format!("{}/{}", c.grid, c.cell),
                    number(c.s_score, 3),
                    number(c.s_unbounded, 3),
                    number(c.figures.utilization.map(|u| u * 100.0), 2),
                    why.replace('|', "\\|"),
                ]
            })
            .collect(),
    })
}

/// All tables as Markdown.
pub fn markdown(design: &Design, judgement: &Judgement) -> String {
    let mut out = String::new();
    // Static targets are there for the frontier.
    let listed = design.policies.iter().filter(|p| !p.starts_with(STATIC_TARGET));
    let worst = listed.filter_map(|p| worst(p, &judgement.cells));
    for part in overview(design, judgement).into_iter().chain(worst) {
        let _ = writeln!(out, "### {}\n", part.heading);
        for note in &part.notes {
            let _ = writeln!(out, "{note}\n");
        }
        let head: Vec<_> = part.head.iter().map(|h| h.replace('|', "\\|")).collect();
        let _ = writeln!(out, "| {} |", head.join(" | "));
        let _ = writeln!(out, "|---|{}", "--:|".repeat(part.head.len() - 1));
        for row in &part.rows {
            let _ = writeln!(out, "| {} |", row.join(" | "));
        }
        out.push('\n');
    }
    out
}

/// The same without the lists of cells, with aligned columns and no markup.
pub fn text(design: &Design, judgement: &Judgement) -> String {
    let mut out = String::new();
    for part in overview(design, judgement) {
        let _ = writeln!(out, "{}", part.heading);
        for note in &part.notes {
            let _ = writeln!(out, "  {note}");
        }
        let columns = part.head.len();
        let width = |i: usize| {
            part.rows.iter().map(|r| r[i].chars().count()).fold(part.head[i].chars().count(), usize::max)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in std::iter::once(&part.head).chain(&part.rows) {
            let cells: Vec<_> = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(i, (cell, &w))| if i == 0 { format!("{cell:<w$}") } else { format!("{cell:>w$}") })
                .collect();
            let _ = writeln!(out, "  {}", cells.join("  ").trim_end());
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::synthetic;

    #[test]
    fn the_tables_of_a_small_evaluation() {
        let (mut design, records) = synthetic::build(&["dualpi2-tuned", "model"], 1);
        design.cells.retain(|c| c.name.contains("-40mbit-") || c.grid == "bursty");
        let judgement = crate::eval::judge(&design, &records, 500, 1).unwrap();
        insta::assert_snapshot!(markdown(&design, &judgement));
        let text = text(&design, &judgement);
        assert!(text.starts_with("Overall: 8 cells, 3 seeds\n  S, ratios"), "{text}");
        assert!(!text.contains("not feasible; the worst"));
    }

    #[test]
    fn few_seeds_are_said_to_be_too_few() {
        let (mut design, records) = synthetic::build(&["model"], 1);
        design.seeds.truncate(1);
        design.other_seeds.truncate(1);
        let judgement = crate::eval::judge(&design, &records, 50, 1).unwrap();
        assert!(markdown(&design, &judgement).contains("FEWER THAN 3 SEEDS"));
    }
}
