//! The eight checks, from the runs.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::measures::{counts, entropy_bits, peak_amplitude, probe};
use super::outcome::{Check, Figure, Limit};
use super::runs::{Audited, Runs, Trace, Variant};
use crate::eval::bootstrap::{DRAWS, Interval, Link, Resamples, intervals};
use crate::eval::cell::BURSTY;
use crate::eval::cell::CellInfo;
use crate::eval::score::{self, Figures};
use crate::report::RunResult;

/// S of the policy over S of its mean action.
const GLOBAL_FREEZE: f64 = 0.90;
/// S of the policy over S of its mean action on the link, where the link changes.
const LINK_FREEZE: f64 = 0.95;
/// S with the inputs of another link over S.
const SWAPPED: f64 = 1.10;
/// S without one group of features over S: of the group that matters most.
const BLIND: f64 = 1.02;
/// Entropy over cells, in bits.
const ENTROPY: f64 = 1.0;
/// Share of time in one bin.
const ONE_BIN: f64 = 0.60;
/// Share of time in the first and the last bin.
const EDGES: f64 = 0.20;
/// Hits of the probe over chance.
const PROBE: f64 = 2.0;
/// How often classes are shuffled to see what the probe finds in nothing.
const SHUFFLES: usize = 20;
/// Share of decisions that the guard changes or rejects.
const CLIPPED: f64 = 0.05;
/// Share of windows in fallback.
const FALLBACK: f64 = 0.001;
/// How far the target may be from the oracle's, in bins.
const NEAR_BINS: usize = 2;
/// How long after a change of phase, in seconds.
const REACT_S: f64 = 3.0;
/// Share of the changes of phase after which it must be that near.
const REACTED: f64 = 0.80;
/// Share of each bound that a target has to keep to be the best of a phase: that of the oracle.
const MARGIN_SHARE: f64 = 0.5;
/// Amplitude of an oscillation of the target, in bins.
const PEAK_BINS: f64 = 0.5;
/// Where it is looked for, in Hz.
const PEAK_BAND: (f64, f64) = (0.2, 5.0);
/// Over segments of so many seconds, or what shorter runs have.
const PEAK_SEGMENT_S: f64 = 20.0;
/// S with late decisions over S.
const LATE: f64 = 1.05;
/// From window to window, in seconds.
const WINDOW_S: f64 = 0.016;
/// Grids whose links change while they run.
const CHANGING: [&str; 3] = ["steps", "variable", "switch"];
/// The bootstrap's own seed.
const SEED: u64 = 1;

/// All eight, in order.
pub fn all(runs: &Runs) -> Vec<Check> {
    let scores = Scores::new(runs);
    vec![
        freeze(&scores),
        Check::new(
            "ii",
            "inputs of another link",
            vec![scores.variant("S over its own", Variant::Swapped, any, Some(Limit::AtLeast(SWAPPED)))],
        ),
        blind(&scores),
        variety(runs),
        probed(runs),
        guarded(runs),
        reacts(runs),
        steady(&scores),
    ]
}

const fn any(_: &CellInfo) -> bool {
    true
}

fn changing(cell: &CellInfo) -> bool {
    CHANGING.contains(&&*cell.grid)
}

/// ln S of all links.
struct Scores<'a> {
    runs: &'a Runs,
    resamples: Resamples,
    /// Of each link: the reference's runs and the policy's.
    figures: Vec<(Vec<Figures>, Vec<Figures>)>,
}

impl<'a> Scores<'a> {
    fn new(runs: &'a Runs) -> Self {
        let of = |link: &Audited, run: &RunResult| Figures::of(run, link.traffic, false);
        let figures = runs
            .links
            .iter()
            .map(|l| {
                let reference = l.baseline.iter().map(|run| of(l, run)).collect();
                (reference, l.own.iter().map(|made| of(l, &made.result)).collect())
            })
            .collect();
        let seeds = runs.links.first().map_or(1, |l| l.own.len());
        Self { runs, resamples: Resamples::of(seeds), figures }
    }

    /// S of a variant over S of the policy.
    fn ratio(&self, variant: Variant, which: impl Fn(&CellInfo) -> bool) -> Option<Interval> {
        let v = self.runs.variants.iter().position(|x| *x == variant)?;
        let link = |(link, (reference, own)): (&Audited, &(Vec<Figures>, Vec<Figures>))| {
            let varied: Vec<&Figures> = link.variants[v].iter().map(|(figures, _)| figures).collect();
            let of = |seeds: &[usize]| {
                let reference = Figures::mean(&seeds.iter().map(|&s| &reference[s]));
                let ln = |got: &Figures| score::judge(&link.info, got, &reference).score().map(f64::ln);
                let own = ln(&Figures::mean(&seeds.iter().map(|&s| &own[s])))?;
                Some(ln(&Figures::mean(&seeds.iter().map(|&s| varied[s])))? - own)
            };
            let all: Vec<usize> = (0..reference.len()).collect();
            Link { point: [of(&all)], resampled: self.resamples.distinct.iter().map(|s| [of(s)]).collect() }
        };
        let links: Vec<Link<1>> =
            self.runs.links.iter().zip(&self.figures).filter(|(l, _)| which(&l.info)).map(link).collect();
        if links.is_empty() {
            return None;
        }
        let [interval] = intervals(&links.iter().collect::<Vec<_>>(), &self.resamples, DRAWS, SEED);
        interval.map(|i| i.map(f64::exp))
    }

    fn variant(
        &self,
        name: &str,
        variant: Variant,
        which: impl Fn(&CellInfo) -> bool,
        limit: Option<Limit>,
    ) -> Figure {
        Figure::of(name, self.ratio(variant, which), limit)
    }
}

/// 1/x, whose ends change places.
fn inverse(i: Option<Interval>) -> Option<Interval> {
    i.map(|i| Interval { value: 1.0 / i.value, lo: 1.0 / i.hi, hi: 1.0 / i.lo })
}

/// (i) Held at its mean, it is worse; in another order, it is told.
fn freeze(scores: &Scores<'_>) -> Check {
    let over = |name: &str, variant, which: fn(&CellInfo) -> bool, limit: Option<f64>| {
        Figure::of(name, inverse(scores.ratio(variant, which)), limit.map(Limit::AtMost))
    };
    Check::new(
        "i",
        "freeze",
        vec![
            over("S over that of its mean", Variant::GlobalFreeze, any, Some(GLOBAL_FREEZE)),
            over(
                "where links change, over that of its mean on the link",
                Variant::LinkFreeze,
                changing,
                Some(LINK_FREEZE),
            ),
            over("everywhere", Variant::LinkFreeze, any, None),
            over("over that of its own decisions shuffled in time", Variant::Shuffled, any, None),
            over("where links change", Variant::Shuffled, changing, None),
        ],
    )
}

/// (iii) Without some group of features it is worse.
fn blind(scores: &Scores<'_>) -> Check {
    let without =
        |(g, name): (usize, &&str)| scores.variant(&format!("without {name}"), Variant::Masked(g), any, None);
    let mut figures: Vec<Figure> = scores.runs.groups.iter().enumerate().map(without).collect();
    let most =
        figures.iter().max_by(|a, b| a.value.unwrap_or(0.0).total_cmp(&b.value.unwrap_or(0.0))).cloned();
    if let Some(most) = most {
        let passed = most.value.map(|x| x >= BLIND);
        let name = format!("S over its own, of the group that matters most ({})", most.name);
        figures.insert(0, Figure { name, limit: Some(Limit::AtLeast(BLIND)), passed, ..most });
    }
    Check::new("iii", "features taken away", figures)
}

/// The mean over links of what `of` says of each, with its interval over links.
fn over_links<'a>(
    links: impl Iterator<Item = &'a Audited>,
    of: impl Fn(&Audited) -> Option<f64>,
) -> Option<Interval> {
    mean(links.map(of))
}

/// The mean of what each link has, with its interval over links.
fn mean(points: impl Iterator<Item = Option<f64>>) -> Option<Interval> {
    let links: Vec<Link<1>> =
        points.flatten().map(|x| Link { point: [Some(x)], resampled: vec![[None]] }).collect();
    if links.is_empty() {
        return None;
    }
    let [interval] = intervals(&links.iter().collect::<Vec<_>>(), &Resamples::of(1), DRAWS, SEED);
    interval
}

/// Bins of a knob in all windows of a link.
fn bins(link: &Audited, knob: usize) -> impl Iterator<Item = usize> + Clone {
    link.own.iter().flat_map(|made| &made.trace.bins).map(move |bins| bins[knob])
}

fn share(link: &Audited, knob: usize, which: impl Fn(usize) -> bool) -> Option<f64> {
    let n = bins(link, knob).count();
    (n > 0).then(|| bins(link, knob).filter(|&b| which(b)).count() as f64 / n as f64)
}

fn mean_bin(link: &Audited, knob: usize) -> f64 {
    let n = bins(link, knob).count().max(1);
    bins(link, knob).sum::<usize>() as f64 / n as f64
}

/// (iv) It uses its knobs: target where there is C, ramp where there is L; the gain is told.
fn variety(runs: &Runs) -> Check {
    type Which = fn(&Audited) -> bool;
    let knobs: [(&str, usize, Which); 3] =
        [("target", 0, |l| l.traffic.c), ("ramp", 2, |l| l.traffic.l), ("gain", 1, |l| l.traffic.c)];
    let mut figures = Vec::new();
    for (name, knob, which) in knobs {
        let links = || runs.links.iter().filter(|l| which(l));
        let must = |limit| (name != "gain").then_some(limit);
        let entropy = entropy_bits(links().map(|l| mean_bin(l, knob).round() as usize));
        let entropy = links().next().map(|_| entropy);
        figures.push(Figure::plain(
            format!("{name}: bits over cells"),
            entropy,
            must(Limit::AtLeast(ENTROPY)),
        ));
        let often = counts(links().flat_map(|l| bins(l, knob)));
        let mode = often.iter().max_by_key(|(_, n)| **n).map_or(0, |(bin, _)| *bin);
        let in_mode = over_links(links(), |l| share(l, knob, |b| b == mode));
        figures.push(Figure::of(
            format!("{name}: share of time in bin {mode}"),
            in_mode,
            must(Limit::Below(ONE_BIN)),
        ));
        let last = runs.action.knobs[knob].values.len() - 1;
        let at_edges = over_links(links(), |l| share(l, knob, |b| b == 0 || b == last));
        figures.push(Figure::of(
            format!("{name}: share of time at its ends"),
            at_edges,
            must(Limit::Below(EDGES)),
        ));
    }
    Check::new("iv", "variety", figures)
}

/// Mixes of one kind, whatever the grid: few enough that each has several links.
fn kind(cell: &CellInfo) -> &'static str {
    let is = |part| cell.mix.contains(part);
    match cell {
        _ if cell.bursty => "bursty",
        _ if cell.mice => "mice",
        _ if is("l_only") => "l_only",
        _ if is("c_only") => "c_only",
        _ if is("1v1") => "1v1",
        _ => "many",
    }
}

/// (v) What it does tells which link it is on: kind of mix and third of the round trips.
fn probed(runs: &Runs) -> Check {
    let mut trips: Vec<f64> = runs.links.iter().map(|l| l.rtt_s).collect();
    trips.sort_unstable_by(f64::total_cmp);
    let third = |l: &Audited| 3 * trips.partition_point(|t| *t < l.rtt_s) / trips.len().max(1);
    let key = |l: &Audited| (kind(&l.info), third(l));
    let classes: Vec<_> = runs.links.iter().map(key).collect::<BTreeSet<_>>().into_iter().collect();
    // The square roots of shares: distances are then those of Hellinger, and no bin counts for more than another.
    let sample = |l: &Audited| {
        let class = classes.binary_search(&key(l)).unwrap_or_default();
        let shares = |knob: usize| {
            let all = 0..runs.action.knobs[knob].values.len();
            all.map(move |bin| share(l, knob, |b| b == bin).unwrap_or(0.0).sqrt()).collect::<Vec<_>>()
        };
        (class, [0, 1, 2].map(shares).concat())
    };
    let samples: Vec<(usize, Vec<f64>)> = runs.links.iter().map(sample).collect();
    let found = probe(&samples);
    let over_chance = |hit: bool| f64::from(u8::from(hit)) / found.chance;
    let interval = mean(found.hits.iter().map(|hit| hit.map(over_chance)));
    let figure = Figure::of("hits over chance", interval, Some(Limit::AtLeast(PROBE)));
    // What the probe finds where there is nothing to find: each link with the class of another.
    let mut rng = Rng::with_seed(SEED);
    let mut of: Vec<usize> = samples.iter().map(|(class, _)| *class).collect();
    let mut others = samples.clone();
    let mut shuffled = Vec::new();
    for _ in 0..SHUFFLES {
        rng.shuffle(&mut of);
        others.iter_mut().zip(&of).for_each(|(sample, class)| sample.0 = *class);
        shuffled.extend(probe(&others).hits.into_iter().flatten().map(over_chance));
    }
    let nothing = (!shuffled.is_empty()).then(|| shuffled.iter().sum::<f64>() / shuffled.len() as f64);
    let chance = Figure::plain("chance", Some(found.chance), None);
    Check::new("v", "probe", vec![figure, chance, Figure::plain("with classes shuffled", nothing, None)])
}

/// (vi) The guard has nothing to do.
fn guarded(runs: &Runs) -> Check {
    let made = |l: &Audited| l.own.iter().map(|m| m.guard).collect::<Vec<_>>();
    let clipped = over_links(runs.links.iter(), |l| {
        let of = |f: fn(&crate::control::guard::GuardCounters) -> u64| made(l).iter().map(f).sum::<u64>();
        let not_as_said = of(|g| g.clamped + g.rejected + g.stale);
        let all = not_as_said + of(|g| g.admitted);
        (all > 0).then(|| not_as_said as f64 / all as f64)
    });
    let fallback = over_links(runs.links.iter(), |l| {
        let shares: Vec<f64> = l.own.iter().filter_map(|m| m.result.fallback_share).collect();
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    });
    let figures = vec![
        Figure::of("share of decisions clipped or rejected", clipped, Some(Limit::Below(CLIPPED))),
        Figure::of("share of windows in fallback", fallback, Some(Limit::Below(FALLBACK))),
    ];
    Check::new("vi", "guard", figures)
}

/// The best target of phase `i` of a link, as a bin: of those held for the whole run, the lowest S that keeps half of each
/// margin in this phase; the default if there is none.
fn best_target(link: &Audited, i: usize, default: usize) -> usize {
    let mean = |runs: &[RunResult]| {
        let of: Vec<Figures> =
            runs.iter().filter_map(|r| r.phases.get(i)).map(|p| Figures::of_phase(p, false)).collect();
        Figures::mean(&of.iter())
    };
    let bursty = link.baseline[0].phases[i].name == BURSTY;
    let info = CellInfo { bursty, mice: false, ..link.info.clone() };
    let reference = mean(&link.baseline);
    let mut best = (1.0, default);
    for (bin, runs) in link.targets.iter().enumerate() {
        let verdict = score::judge_within(&info, &mean(runs), &reference, MARGIN_SHARE);
        if let Some(s) = verdict.raw.filter(|&s| verdict.feasible() && s < best.0) {
            best = (s, bin);
        }
    }
    best.1
}

/// (vii) After a change of regime the target soon is near the best one of the new regime.
fn reacts(runs: &Runs) -> Check {
    let default = runs.action.default_bins()[0];
    let near = |l: &Audited| {
        let (mut hits, mut all) = (0.0, 0.0);
        for (i, phase) in l.baseline.first()?.phases.iter().enumerate() {
            let best = best_target(l, i, default);
            for made in &l.own {
                let by = (phase.from_s + REACT_S).min(phase.to_s);
                let at = made.trace.at_s.partition_point(|t| *t <= by);
                let Some([target, ..]) = at.checked_sub(1).and_then(|at| made.trace.bins.get(at)) else {
                    continue;
                };
                hits += f64::from(u8::from(target.abs_diff(best) <= NEAR_BINS));
                all += 1.0;
            }
        }
        (all > 0.0).then(|| hits / all)
    };
    let links = runs.links.iter().filter(|l| !l.targets.is_empty());
    let figure = Figure::of(
        "share of phases with a target within 2 bins of the best after 3 s",
        over_links(links, near),
        Some(Limit::AtLeast(REACTED)),
    );
    Check::new("vii", "regime switches", vec![figure])
}

fn peak(trace: &Trace) -> f64 {
    let seconds = trace.target.len() as f64 * WINDOW_S;
    peak_amplitude(&trace.target, WINDOW_S, PEAK_SEGMENT_S.min(seconds), PEAK_BAND)
}

/// (viii) It does not oscillate, not even when it is late.
fn steady(scores: &Scores<'_>) -> Check {
    let runs = scores.runs;
    let links = || runs.links.iter().filter(|l| !changing(&l.info));
    let worst = |peaks: &mut dyn Iterator<Item = f64>| peaks.reduce(f64::max);
    let bound = Some(Limit::AtMost(PEAK_BINS));
    let own = worst(&mut links().flat_map(|l| &l.own).map(|made| peak(&made.trace)));
    let over = over_links(links(), |l| {
        let oscillates = |made: &super::runs::Made| f64::from(u8::from(peak(&made.trace) > PEAK_BINS));
        Some(l.own.iter().map(oscillates).sum::<f64>() / l.own.len() as f64)
    });
    let mut figures = vec![
        Figure::plain("strongest of .2 to 5 Hz in the target, bins", own, bound),
        Figure::of("share of runs above half a bin", over, None),
    ];
    for (v, variant) in runs.variants.iter().enumerate() {
        if let Variant::Late(trips) = variant {
            let late = format!("{trips} round trips late");
            figures.push(scores.variant(
                &format!("S over its own, {late}"),
                *variant,
                any,
                Some(Limit::AtMost(LATE)),
            ));
            let peaks = worst(&mut links().flat_map(|l| &l.variants[v]).map(|(_, trace)| peak(trace)));
            figures.push(Figure::plain(format!("strongest, {late}"), peaks, bound));
        }
    }
    Check::new("viii", "steadiness", figures)
}
