//! Which runs are made: every cell under every policy with every seed, and the baseline once more with other seeds.

use std::fmt::Write as _;

use super::cell::CellInfo;

/// The policy that every ratio is against.
pub const BASELINE: &str = "dualpi2";
/// The best constants found on the train split.
pub const TUNED: &str = "dualpi2-tuned";

/// How policies begin that are the baseline with another Classic target: `dualpi2:target=5ms`.
pub const STATIC_TARGET: &str = "dualpi2:target=";

/// The plan of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Design {
    /// The links, in the order of all tables.
    pub cells: Vec<CellInfo>,
    /// Names of policies as result rows have them; the first is [`BASELINE`].
    pub policies: Vec<String>,
    /// Seeds of every policy.
    pub seeds: Vec<u64>,
    /// As many other seeds, with which the baseline is run against itself: the noise floor.
    pub other_seeds: Vec<u64>,
}

/// One run to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    /// Index into [`Design::cells`].
    pub cell: usize,
    /// Index into [`Design::policies`].
    pub policy: usize,
    /// The seed.
    pub seed: u64,
    /// Grid, cell, policy and seed in words.
    pub name: String,
    /// Digest of all that decides the outcome. A stored record is taken only if it carries the same.
    pub fingerprint: String,
    /// Expected effort in any unit; the longest begin first.
    pub cost: f64,
}

impl Design {
    /// Seeds 1 to `seeds`, and as many more for the baseline alone. The baseline comes first, whether it is among
    /// `policies` or not.
    pub fn new(cells: Vec<CellInfo>, policies: impl IntoIterator<Item = String>, seeds: u64) -> Self {
        let mut all = vec![BASELINE.to_owned()];
        all.extend(policies.into_iter().filter(|p| p != BASELINE));
        Self {
            cells,
            policies: all,
            seeds: (1..=seeds).collect(),
            other_seeds: (seeds + 1..=2 * seeds).collect(),
        }
    }

    /// The runs, cell by cell, policy by policy, seed by seed. `scenario` and `policy` tell for each index what decides
    /// the outcome beside the name: the scenario in full, the contents of a model file. `cost` is that of a cell.
    pub fn units(
        &self,
        scenario: impl Fn(usize) -> String,
        policy: impl Fn(usize) -> String,
        cost: impl Fn(usize) -> f64,
    ) -> Vec<Unit> {
        let policies: Vec<_> = (0..self.policies.len()).map(policy).collect();
        let mut units = Vec::new();
        for (c, info) in self.cells.iter().enumerate() {
            let (scenario, cost) = (scenario(c), cost(c));
            for (p, name) in self.policies.iter().enumerate() {
                for &seed in self.seeds.iter().chain(if p == 0 { &self.other_seeds[..] } else { &[] }) {
                    let words = format!("{} {} under {name}, seed {seed}", info.grid, info.name);
                    let parts = [&*words, &format!("{info:?}"), &*scenario, &*policies[p]];
                    units.push(Unit {
                        cell: c,
                        policy: p,
                        seed,
                        fingerprint: digest(&parts),
                        name: words,
                        cost,
                    });
                }
            }
        }
        units
    }
}

/// FNV-1a, 128 bits, in hexadecimal; the parts are kept apart by their lengths.
fn digest(parts: &[&str]) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mut take = |bytes: &[u8]| {
        for &byte in bytes {
            hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
        }
    };
    for part in parts {
        take(&(part.len() as u64).to_le_bytes());
        take(part.as_bytes());
    }
    let mut text = String::new();
    let _ = write!(text, "{hash:032x}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn design() -> Design {
        let cell = |name: &str| CellInfo { grid: "g".into(), name: name.into(), ..CellInfo::default() };
        Design::new(vec![cell("a"), cell("b")], ["model".into(), "dualpi2".into()], 3)
    }

    #[test]
    fn the_baseline_comes_first_and_runs_twice_as_often() {
        let design = design();
        assert_eq!(design.policies, ["dualpi2", "model"]);
        let units = design.units(|_| String::new(), |_| String::new(), |_| 1.0);
        let of_a: Vec<_> = units.iter().filter(|u| u.cell == 0).map(|u| (u.policy, u.seed)).collect();
        assert_eq!(of_a, [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6), (1, 1), (1, 2), (1, 3)]);
        assert_eq!(units[6].name, "g a under model, seed 1");
    }

    #[test]
    fn whatever_decides_the_outcome_changes_the_fingerprint() {
        let all = |design: &Design, scenario: &str, policy: &str| -> Vec<String> {
            let units = design.units(|_| scenario.into(), |_| policy.into(), |_| 1.0);
            units.into_iter().map(|u| u.fingerprint).collect()
        };
        let first = all(&design(), "s", "p");
        let mut distinct = first.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 18, "each run has its own");
        assert_eq!(first, all(&design(), "s", "p"));
        let mut bursty = design();
        bursty.cells.iter_mut().for_each(|c| c.bursty = true);
        for other in [
            all(&design(), "S", "p"),
            all(&design(), "s", "P"),
            all(&design(), "sp", ""),
            all(&bursty, "s", "p"),
        ] {
            assert!(first.iter().zip(&other).all(|(a, b)| a != b));
        }
    }

    #[test]
    fn the_digest_is_the_published_one() {
        // FNV-1a 128 of "a" is d228cb69 6f1a8caf 78912b70 4e4a8964; lengths go before, so it is fed bare here.
        let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        hash = (hash ^ 0x61).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        assert_eq!(format!("{hash:032x}"), "d228cb696f1a8caf78912b704e4a8964");
        assert_eq!(digest(&[]), "6c62272e07bb014262b821756295c58d");
    }
}
