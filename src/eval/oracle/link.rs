//! A link to be searched, and what is known of it afterwards.

use serde::{Deserialize, Serialize};

use super::settings::{Axis, Setting};
use crate::eval::cell::CellInfo;
use crate::eval::score::Figures;
use crate::sim::{Cell, Scenario};

/// A link with its traffic, in full and in brief.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub info: CellInfo,
    /// The scenario file: the hidden truth.
    pub text: String,
    pub full: Scenario,
    pub short: Scenario,
    pub has_l: bool,
    pub has_c: bool,
}

impl Link {
    /// Of the same cell twice.
    pub(super) fn new(full: Cell, short: Cell) -> Self {
        let mix = full.scenario.mix();
        Self {
            info: CellInfo::from(&full),
            text: full.text,
            has_l: mix != "c_only",
            has_c: mix != "l_only",
            full: full.scenario,
            short: short.scenario,
        }
    }

    /// Packets to simulate, up to a factor.
    pub(super) fn cost(&self) -> f64 {
        self.full.link.nominal().as_bps() as f64 * self.full.duration.as_secs_f64()
    }
}

/// Which of the two scenarios.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Length {
    Short,
    Full,
}

/// A setting as it was measured on a link: means over seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Bins of target, gain, ramp; `null` is DualPI2 with as many of the same seeds.
    pub setting: Option<Setting>,
    /// Length of each run, warm-up included.
    pub seconds: f64,
    /// How many seeds.
    pub seeds: usize,
    /// S against DualPI2 on the same seeds, whether feasible or not.
    pub s: Option<f64>,
    /// All bounds hold.
    pub feasible: bool,
    /// They hold with half of each margin.
    pub safe: bool,
    /// The figures.
    pub figures: Figures,
    /// The same of each phase; empty if the scenario has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Figures>,
}

/// A choice, run with seeds that it was not made by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rerun {
    /// Which knobs were free.
    pub axis: Axis,
    /// What was chosen.
    pub setting: Setting,
    /// Figures by seed.
    pub runs: Vec<Figures>,
}

/// All that is known of a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// The link.
    pub cell: CellInfo,
    /// Its scenario file.
    pub scenario: String,
    /// What was tried: brief runs first, then full ones; DualPI2 before the settings.
    pub tried: Vec<Measured>,
    /// DualPI2 with the seeds of the choices' own figures.
    pub baseline: Vec<Figures>,
    /// DualPI2 with other seeds.
    pub other: Vec<Figures>,
    /// The best setting with all knobs free, then with one.
    pub oracles: Vec<Rerun>,
    /// The rule whose feed-forward went with every setting, DualPI2 apart; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed_forward: Option<String>,
    /// Runs that this took.
    pub runs: u32,
    /// Their simulated seconds.
    pub simulated_s: f64,
}
