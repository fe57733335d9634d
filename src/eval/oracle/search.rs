//! The search on one link: many settings briefly, the best of them in full, the best of those with more seeds, and the
//! choice once more with seeds that it was not made by.

use std::collections::HashMap;

use super::link::{Length, Link, LinkRecord, Measured, Rerun};
use super::settings::{Axis, Knobs, Setting};
use crate::config::Policy;
use crate::control::model::FeedForwardRule;
use crate::control::policy::held::Held;
use crate::eval::score::{self, Figures, Traffic, Verdict};
use crate::eval::simulate::SimulateError;
use crate::sim::run::run_guarded;
use crate::sim::{self, Scenario};
use crate::telemetry::features::schema::Schema;

/// Seeds of brief runs.
const SHORT_SEEDS: [u64; 2] = [101, 102];
/// Seeds of full runs: the first three for all that are run in full, all of them for those that a choice is made from.
const FULL_SEEDS: [u64; 6] = [111, 112, 113, 114, 115, 116];
/// How many of them come first.
const FIRST_SEEDS: usize = 3;
/// Seeds of the choice's own figures, and the other seeds of the baseline: those of `l4sd eval`, so that tables agree.
pub(super) const RERUN_SEEDS: [u64; 3] = [1, 2, 3];
/// See [`RERUN_SEEDS`].
pub(super) const OTHER_SEEDS: [u64; 3] = [4, 5, 6];
/// A choice keeps half of each margin for seeds that it has not seen.
pub(super) const MARGIN_SHARE: f64 = 0.5;
/// A margin beyond a bound ranks as this much in ln S: less where it may be noise.
const EXCESS_WEIGHT: [f64; 2] = [1.0, 3.0];
/// Settings that are run in full: the best of all, and the best of each axis.
const FULL: [(Axis, usize); 4] = [(Axis::All, 8), (Axis::Target, 4), (Axis::Gain, 2), (Axis::Ramp, 2)];
/// No more than so many of them have the same target.
const SAME_TARGET: usize = 3;
/// How often the settings beside the best are run as well.
const STEPS: usize = 2;
/// Settings that are run with more seeds until one is safe: at least, at most.
const FINAL: [(Axis, usize, usize); 4] =
    [(Axis::Target, 1, 4), (Axis::Gain, 1, 3), (Axis::Ramp, 1, 3), (Axis::All, 3, 8)];

/// Why a link has no record.
#[derive(Debug)]
pub(super) enum Stop {
    /// Time is up.
    Time,
    /// A run failed.
    Failed(SimulateError),
}

/// One run.
#[derive(Clone, Debug)]
struct Run {
    seed: u64,
    whole: Figures,
    phases: Vec<Figures>,
}

struct Search<'a> {
    link: &'a Link,
    knobs: &'a Knobs,
    rule: Option<&'a FeedForwardRule>,
    go_on: &'a dyn Fn() -> bool,
    /// `None` is the baseline.
    runs: HashMap<(Option<Setting>, Length), Vec<Run>>,
    count: u32,
    seconds: f64,
    both_endless: bool,
}

impl Search<'_> {
    fn scenario(&self, length: Length) -> &Scenario {
        match length {
            Length::Short => &self.link.short,
            Length::Full => &self.link.full,
        }
    }

    /// Makes the runs of `seeds` that have not been made.
    fn run(&mut self, setting: Option<Setting>, length: Length, seeds: &[u64]) -> Result<(), Stop> {
        for &seed in seeds {
            let made = self.runs.get(&(setting, length));
            if made.is_some_and(|runs| runs.iter().any(|r| r.seed == seed)) {
                continue;
            }
            if !(self.go_on)() {
                return Err(Stop::Time);
            }
            let scenario = self.scenario(length);
            let of_run = self.link.info.seed_of_run(seed);
            let report = match (setting, self.rule) {
                (Some(setting), Some(rule)) => {
                    let held = Held::new(self.knobs.values(setting), rule.clone(), &Schema::embedded());
                    run_guarded(scenario, Box::new(held), of_run, &mut ()).0.report
                }
                (setting, _) => {
                    let policy = setting.map_or(Policy::DualPi2, |s| self.knobs.policy(s));
                    sim::run(scenario, &policy, of_run).map_err(|e| Stop::Failed(e.into()))?
                }
            };
            if let Some(error) = report.conservation_error {
                return Err(Stop::Failed(SimulateError::Account(error)));
            }
            self.count += 1;
            self.seconds += report.result.duration_s;
            let result = report.result;
            if setting.is_none() {
                self.both_endless |= result.ratio_l_over_c.is_some();
            }
            let traffic = Traffic { l: true, c: true, both_endless: self.both_endless };
            let run = Run {
                seed,
                whole: Figures::of(&result, traffic, false),
                phases: result.phases.iter().map(|p| Figures::of_phase(p, false)).collect(),
            };
            self.runs.entry((setting, length)).or_default().push(run);
        }
        Ok(())
    }

    fn runs(&self, setting: Option<Setting>, length: Length) -> &[Run] {
        self.runs.get(&(setting, length)).map_or(&[], Vec::as_slice)
    }

    /// What a setting is worth over the seeds that it has been run with.
    fn verdict(&self, setting: Setting, length: Length) -> Verdict {
        let runs = self.runs(Some(setting), length);
        let got = Figures::mean(&runs.iter().map(|r| &r.whole));
        let same = |r: &&Run| runs.iter().any(|own| own.seed == r.seed);
        let reference = Figures::mean(&self.runs(None, length).iter().filter(same).map(|r| &r.whole));
        score::judge_within(&self.link.info, &got, &reference, MARGIN_SHARE)
    }

    fn rank(&self, setting: Setting, length: Length) -> f64 {
        let verdict = self.verdict(setting, length);
        verdict.raw.map_or(0.0, f64::ln) + EXCESS_WEIGHT[length as usize] * verdict.excess
    }

    /// Of those that have been run so and are on an axis, the best first.
    fn ranked(&self, axis: Axis, length: Length) -> Vec<Setting> {
        let run = self.runs.keys().filter(|(_, l)| *l == length).filter_map(|(setting, _)| *setting);
        let mut ranked: Vec<_> =
            run.filter(|&s| self.knobs.is_on(s, axis)).map(|s| (self.rank(s, length), s)).collect();
        ranked.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        ranked.into_iter().map(|(_, setting)| setting).collect()
    }

    /// The setting with the lowest S of those that are safe with all seeds; the default if none gains.
    fn choose(&mut self, axis: Axis, least: usize, most: usize) -> Result<Setting, Stop> {
        let ranked = self.ranked(axis, Length::Full);
        let mut safe = false;
        for (i, &setting) in ranked.iter().take(most).enumerate() {
            if i >= least && safe {
                break;
            }
            self.run(Some(setting), Length::Full, &FULL_SEEDS)?;
            safe |= self.verdict(setting, Length::Full).feasible();
        }
        let mut best = (1.0, self.knobs.default_setting());
        for setting in ranked {
            let verdict = self.verdict(setting, Length::Full);
            let tested = self.runs(Some(setting), Length::Full).len() == FULL_SEEDS.len();
            if let Some(s) = verdict.raw.filter(|&s| tested && verdict.feasible() && s < best.0) {
                best = (s, setting);
            }
        }
        Ok(best.1)
    }

    /// Runs the best of the brief runs in full.
    fn promote(&mut self, axis: Axis, count: usize, seeds: &[u64]) -> Result<(), Stop> {
        let mut per_target = HashMap::new();
        let mut taken = 0;
        for setting in self.ranked(axis, Length::Short) {
            let same = per_target.entry(setting.0[0]).or_insert(0);
            if *same < SAME_TARGET || !self.link.has_c {
                *same += 1;
                self.run(Some(setting), Length::Full, seeds)?;
                taken += 1;
            }
            if taken == count {
                break;
            }
        }
        Ok(())
    }

    fn search(&mut self) -> Result<Vec<(Axis, Setting)>, Stop> {
        self.run(None, Length::Short, &SHORT_SEEDS)?;
        // With a rule RFC 9332's constants are a setting as well: a model that has it has it beside them too.
        let default = self.rule.map(|_| self.knobs.default_setting());
        for setting in default.into_iter().chain(self.knobs.coarse(self.link.has_l, self.link.has_c)) {
            self.run(Some(setting), Length::Short, &SHORT_SEEDS)?;
        }
        let first = &FULL_SEEDS[..FIRST_SEEDS];
        self.run(None, Length::Full, &FULL_SEEDS)?;
        if let Some(default) = default {
            self.run(Some(default), Length::Full, first)?;
        }
        for (axis, count) in FULL {
            self.promote(axis, count, first)?;
        }
        for _ in 0..STEPS {
            let Some(&best) = self.ranked(Axis::All, Length::Full).first() else { break };
            for setting in self.knobs.beside(best) {
                let moves_nothing = (!self.link.has_l && setting.0[2] != best.0[2])
                    || (!self.link.has_c && setting.0[1] != best.0[1]);
                if (self.rule.is_some() || setting != self.knobs.default_setting()) && !moves_nothing {
                    self.run(Some(setting), Length::Full, first)?;
                }
            }
        }
        FINAL.into_iter().map(|(axis, least, most)| Ok((axis, self.choose(axis, least, most)?))).collect()
    }

    fn measured(&self, setting: Setting, length: Length) -> Measured {
        let runs = self.runs(Some(setting), length);
        let same = |r: &&Run| runs.iter().any(|own| own.seed == r.seed);
        let reference = Figures::mean(&self.runs(None, length).iter().filter(same).map(|r| &r.whole));
        let figures = Figures::mean(&runs.iter().map(|r| &r.whole));
        let verdict = score::judge(&self.link.info, &figures, &reference);
        Measured {
            setting: Some(setting),
            seconds: self.scenario(length).duration.as_secs_f64(),
            seeds: runs.len(),
            s: verdict.raw,
            feasible: verdict.feasible(),
            safe: self.verdict(setting, length).feasible(),
            figures: rounded(figures),
            phases: phases(runs),
        }
    }

    fn reference(&self, length: Length, seeds: usize) -> Measured {
        let runs = self.runs(None, length);
        let runs = &runs[..seeds.min(runs.len())];
        Measured {
            setting: None,
            seconds: self.scenario(length).duration.as_secs_f64(),
            seeds: runs.len(),
            s: Some(1.0),
            feasible: true,
            safe: true,
            figures: rounded(Figures::mean(&runs.iter().map(|r| &r.whole))),
            phases: phases(runs),
        }
    }
}

fn phases(runs: &[Run]) -> Vec<Figures> {
    let count = runs.first().map_or(0, |r| r.phases.len());
    (0..count).map(|i| rounded(Figures::mean(&runs.iter().filter_map(|r| r.phases.get(i))))).collect()
}

/// To five decimals, which is 10 ns of delay: files stay small.
fn rounded(f: Figures) -> Figures {
    let round = |x: f64| (x * 1e5).round() / 1e5;
    Figures {
        utilization: f.utilization.map(round),
        mean_ms: f.mean_ms.map(|ms| ms.map(round)),
        p99_ms: f.p99_ms.map(|ms| ms.map(round)),
        abs_log2_ratio: f.abs_log2_ratio.map(round),
        mice_p95_ms: f.mice_p95_ms.into_iter().map(|ms| ms.map(round)).collect(),
    }
}

/// Searches a link, settings with the feed-forward of `rule`, as long as `go_on` says so before each run.
pub(super) fn search(
    link: &Link,
    knobs: &Knobs,
    rule: Option<&FeedForwardRule>,
    go_on: &dyn Fn() -> bool,
) -> Result<LinkRecord, Stop> {
    let runs = HashMap::new();
    let mut search = Search { link, knobs, rule, go_on, runs, count: 0, seconds: 0.0, both_endless: false };
    let chosen = search.search()?;
    let mut tried: Vec<Measured> = Vec::new();
    for length in [Length::Short, Length::Full] {
        let seeds: &[usize] =
            if length == Length::Short { &[SHORT_SEEDS.len()] } else { &[FIRST_SEEDS, FULL_SEEDS.len()] };
        tried.extend(seeds.iter().map(|&n| search.reference(length, n)));
        let mut settings: Vec<_> =
            search.runs.keys().filter(|(_, l)| *l == length).filter_map(|(setting, _)| *setting).collect();
        settings.sort_unstable();
        tried.extend(settings.into_iter().map(|s| search.measured(s, length)));
    }
    let default = knobs.default_setting();
    let mut again = |setting: Option<Setting>, seeds: &[u64]| -> Result<Vec<Figures>, Stop> {
        search.run(setting, Length::Full, seeds)?;
        let runs = search.runs(setting, Length::Full);
        let of = |seed: &u64| runs.iter().find(|r| r.seed == *seed).map(|r| rounded(r.whole.clone()));
        Ok(seeds.iter().filter_map(of).collect())
    };
    let baseline = again(None, &RERUN_SEEDS)?;
    let other = again(None, &OTHER_SEEDS)?;
    let oracles = chosen
        .into_iter()
        .map(|(axis, setting)| {
            let run = Some(setting).filter(|&s| rule.is_some() || s != default);
            Ok(Rerun { axis, setting, runs: again(run, &RERUN_SEEDS)? })
        })
        .collect::<Result<_, _>>()?;
    Ok(LinkRecord {
        cell: link.info.clone(),
        scenario: link.text.clone(),
        tried,
        baseline,
        other,
        oracles,
        feed_forward: rule.map(FeedForwardRule::to_string),
        runs: search.count,
        simulated_s: search.seconds,
    })
}
