//! Whether a model does anything: eight checks, each against what a policy that does nothing, or does not look, would get
//! away with. S compares runs on the same links and seeds; intervals are those of two-level bootstraps.
//!
//! | module | what it is |
//! |---|---|
//! | [`wrappers`] | policies made of a policy |
//! | [`groups`](mod@groups) | features that are taken away together |
//! | [`runs`] | all runs |
//! | [`measures`] | entropy, spectrum, probe |
//! | [`checks`] | the eight |
//! | [`outcome`] | what they say, in words, JSON and CSV |

pub mod checks;
pub mod groups;
pub mod measures;
pub mod outcome;
pub mod runs;
pub mod wrappers;

use std::path::PathBuf;

use super::cell::CellInfo;
use crate::control::policy::Policy;
use crate::sim::Scenario;
use crate::sim::run::{SimError, masked_model};

pub use outcome::Audit;

/// What is audited: makes policies that are alike and have seen nothing.
pub trait Subject: Sync {
    /// One that reads these features as 0.
    ///
    /// # Errors
    /// It cannot be made.
    fn policy(&self, masked: &[usize]) -> Result<Box<dyn Policy>, SimError>;
}

/// The model of a file, or the one that is built in.
#[derive(Clone, Debug)]
pub struct ModelSubject(pub Option<PathBuf>);

impl Subject for ModelSubject {
    fn policy(&self, masked: &[usize]) -> Result<Box<dyn Policy>, SimError> {
        masked_model(self.0.as_deref(), masked)
    }
}

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The policy cannot be run.
    #[error(transparent)]
    Sim(#[from] SimError),
    /// Packets are missing or too many.
    #[error("{0}: the account does not close: {1}; this is a fault of l4sd")]
    Account(String, String),
}

/// At most so many cells of each grid, evenly spaced.
pub fn thinned(cells: Vec<(CellInfo, Scenario)>, links: usize) -> Vec<(CellInfo, Scenario)> {
    let count = |grid: &str| cells.iter().filter(|(c, _)| c.grid == grid).count();
    let mut seen = std::collections::HashMap::new();
    let keep: Vec<bool> = cells
        .iter()
        .map(|(c, _)| {
            let (all, i) = (count(&c.grid), seen.entry(c.grid.clone()).or_insert(0));
            *i += 1;
            // The quota after this cell is more than before it.
            *i * links.min(all) / all > (*i - 1) * links.min(all) / all
        })
        .collect();
    cells.into_iter().zip(keep).filter_map(|(cell, keep)| keep.then_some(cell)).collect()
}

/// Audits `subject` on links with seeds 1 to `seeds`. The outcome does not depend on `jobs`.
///
/// # Errors
/// A run cannot be made.
pub fn audit(
    cells: &[(CellInfo, Scenario)],
    subject: &dyn Subject,
    seeds: u64,
    jobs: usize,
) -> Result<Audit, AuditError> {
    let runs = runs::make(cells, subject, seeds, jobs)?;
    Ok(Audit { links: cells.len(), seeds, checks: checks::all(&runs) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aqm::params::Knobs;
    use crate::control::policy::Abstention;
    use crate::report::RunResult;
    use crate::telemetry::TelemetryWindow;

    /// RFC 9332's constants, whatever is seen.
    struct Constant;

    impl Policy for Constant {
        fn decide(&mut self, _: &TelemetryWindow, _: &Knobs) -> Result<Knobs, Abstention> {
            Ok(Knobs::default())
        }
    }

    impl Subject for Constant {
        fn policy(&self, _: &[usize]) -> Result<Box<dyn Policy>, SimError> {
            Ok(Box::new(Self))
        }
    }

    /// All runs of a link have its own seeds: under one policy, its variants that want the same have the same figures.
    #[test]
    fn runs_have_the_seeds_of_their_link() {
        let text = "name = \"x\"\nduration = \"2s\"\nwarmup = \"1s\"\n[spread]\nrate = 0.1\n[link]\nrate = \"10Mbit\"\n\
                    [[flow]]\ncc = \"reno\"\nrtt = \"20ms\"\n\
                    [[phase]]\nname = \"a\"\nat = \"0ms\"\n[[phase]]\nname = \"b\"\nat = \"1s\"\n";
        let scenario = Scenario::parse(text, "x").unwrap();
        let cell = |name: &str| CellInfo { grid: "g".into(), name: name.into(), ..CellInfo::default() };
        let cells = ["a", "b"].map(|name| (cell(name), scenario.clone()));
        let runs = runs::make(&cells, &Constant, 2, 1).unwrap();
        for (link, (info, _)) in runs.links.iter().zip(&cells) {
            let expected = [Some(info.seed_of_run(1)), Some(info.seed_of_run(2))];
            let of = |runs: &[RunResult]| runs.iter().map(|r| r.seed).collect::<Vec<_>>();
            assert_eq!(of(&link.baseline), expected);
            assert_eq!(link.own.iter().map(|m| m.result.seed).collect::<Vec<_>>(), expected);
            assert_eq!(link.targets.len(), 12);
            assert!(link.targets.iter().all(|target| of(target) == expected));
            for variant in &link.variants {
                let seen = variant.iter().map(|(figures, _)| figures.utilization);
                assert!(seen.eq(link.own.iter().map(|m| m.result.link.utilization)));
            }
        }
        assert_ne!(runs.links[0].baseline[0].link, runs.links[1].baseline[0].link);
    }

    #[test]
    fn thinning_keeps_every_grid_and_spreads() {
        let text = "name = \"x\"\nduration = \"1s\"\n[link]\nrate = \"10Mbit\"\n[[flow]]\ncc = \"reno\"\nrtt = \"20ms\"\n";
        let scenario = Scenario::parse(text, "x").unwrap();
        let cell = |grid: &str, name: usize| {
            (CellInfo { grid: grid.into(), name: name.to_string(), ..CellInfo::default() }, scenario.clone())
        };
        let cells: Vec<_> = (0..10).map(|i| cell("a", i)).chain((0..2).map(|i| cell("b", i))).collect();
        let names = |links| {
            let kept = thinned(cells.clone(), links);
            kept.iter().map(|(c, _)| format!("{}{}", c.grid, c.name)).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(3), "a3 a6 a9 b0 b1");
        assert_eq!(names(1), "a9 b1");
        assert_eq!(thinned(cells.clone(), 99).len(), 12);
    }
}
