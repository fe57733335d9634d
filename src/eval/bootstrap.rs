//! Two-level bootstrap: links are drawn with replacement, and for each drawn link its seeds.
//!
//! What a link gives under each resample of its seeds is computed once ([`Link`]); a draw only adds up table entries,
//! so that thousands of links and 10^4 draws take a second. The draws depend on the seed alone, not on threads. Variance
//! between links as they were measured holds some of the variance between seeds already, so intervals are a little wide.

use serde::{Deserialize, Serialize};

/// Draws unless told otherwise.
pub const DRAWS: usize = 10_000;
/// Up to this many seeds every resample of them is in the table; beyond, a random choice of [`RANDOM_RESAMPLES`].
const ALL_RESAMPLES_UP_TO: usize = 4;
const RANDOM_RESAMPLES: usize = 256;

/// A figure with its 95 % interval.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The figure.
    pub value: f64,
    /// 2.5 % of the draws are lower.
    pub lo: f64,
    /// 2.5 % of the draws are higher.
    pub hi: f64,
}

impl Interval {
    /// The same on another scale; `f` must be increasing.
    #[must_use]
    pub fn map(self, f: impl Fn(f64) -> f64) -> Self {
        Self { value: f(self.value), lo: f(self.lo), hi: f(self.hi) }
    }
}

/// `M` metrics of one link.
#[derive(Clone, Debug, PartialEq)]
pub struct Link<const M: usize> {
    /// Over all seeds. `None` if the link does not have the metric; it is then left out of that metric's mean.
    pub point: [Option<f64>; M],
    /// Under each resample of the seeds, in the order of [`Resamples::distinct`]; what is `None` here counts as the point.
    pub resampled: Vec<[Option<f64>; M]>,
}

/// Resamples with replacement of the seeds of a link. The order within one does not matter, so that equal ones are kept
/// once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resamples {
    /// The different ones, as indices of seeds.
    pub distinct: Vec<Vec<usize>>,
    /// Equally likely draws, as indices into `distinct`.
    draws: Vec<usize>,
}

impl Resamples {
    /// Of `n` seeds.
    pub fn of(n: usize) -> Self {
        let all: Vec<Vec<usize>> = if n <= ALL_RESAMPLES_UP_TO {
            let digit = |code: usize, place: u32| code / n.pow(place) % n;
            (0..n.pow(n as u32)).map(|code| (0..n as u32).map(|p| digit(code, p)).collect()).collect()
        } else {
            let mut rng = fastrand::Rng::with_seed(n as u64);
            (0..RANDOM_RESAMPLES).map(|_| (0..n).map(|_| rng.usize(0..n)).collect()).collect()
        };
        let mut resamples = Self { distinct: Vec::new(), draws: Vec::new() };
        for mut pick in all {
            pick.sort_unstable();
            let known = resamples.distinct.iter().position(|d| *d == pick);
            resamples.draws.push(known.unwrap_or(resamples.distinct.len()));
            if known.is_none() {
                resamples.distinct.push(pick);
            }
        }
        resamples
    }
}

/// The mean over links of each metric, with its interval; `None` for a metric that no link has.
///
/// The links have one entry in `resampled` for each of the distinct `resamples`.
pub fn intervals<const M: usize>(
    links: &[&Link<M>],
    resamples: &Resamples,
    draws: usize,
    seed: u64,
) -> [Option<Interval>; M] {
    let table = Table::new(links, resamples);
    let mut means: [Vec<f64>; M] = std::array::from_fn(|_| Vec::with_capacity(draws));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut counts = vec![0; table.patterns.len()];
    for _ in 0..draws {
        for (all, mean) in means.iter_mut().zip(table.draw(&mut rng, &mut counts)) {
            all.extend(mean);
        }
    }
    std::array::from_fn(|m| {
        let present: Vec<f64> = links.iter().filter_map(|l| l.point[m]).collect();
        if present.is_empty() || means[m].is_empty() {
            return None;
        }
        let draws = &mut means[m];
        draws.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| draws[((draws.len() as f64 * share).ceil() as usize).max(1) - 1];
        let value = present.iter().sum::<f64>() / present.len() as f64;
        Some(Interval { value, lo: at(0.025), hi: at(0.975) })
    })
}

struct Table<'a, const M: usize> {
    links: u64,
    resamples: &'a Resamples,
    /// Resamples of the first link, of the second, ...; 0 where a metric is absent.
    values: Vec<[f64; M]>,
    /// Which metrics are there, 1 or 0: the different patterns, of which there are few.
    patterns: Vec<[f64; M]>,
    /// The pattern of each link.
    pattern: Vec<usize>,
}

impl<'a, const M: usize> Table<'a, M> {
    fn new(links: &[&Link<M>], resamples: &'a Resamples) -> Self {
        let values = links.iter().flat_map(|link| {
            link.resampled
                .iter()
                .map(|r| std::array::from_fn(|m| link.point[m].map_or(0.0, |point| r[m].unwrap_or(point))))
        });
        let mut table = Self {
            links: links.len() as u64,
            resamples,
            values: values.collect(),
            patterns: Vec::new(),
            pattern: Vec::new(),
        };
        for link in links {
            let present = link.point.map(|p| f64::from(u8::from(p.is_some())));
            let known = table.patterns.iter().position(|p| *p == present);
            table.pattern.push(known.unwrap_or(table.patterns.len()));
            if known.is_none() {
                table.patterns.push(present);
            }
        }
        table
    }

    /// The means of one draw. `seen` is room for a count per pattern.
    fn draw(&self, rng: &mut fastrand::Rng, seen: &mut [u32]) -> [Option<f64>; M] {
        let (draws, distinct) = (&self.resamples.draws, self.resamples.distinct.len());
        let mut sums = [0.0; M];
        seen.fill(0);
        for _ in 0..self.links {
            // One random word for both choices; the bias of so many links or resamples in 2^32 is nothing.
            let word = rng.u64(..);
            let link = (((word >> 32) * self.links) >> 32) as usize;
            let draw = ((word & 0xffff_ffff) * draws.len() as u64) >> 32;
            let values = &self.values[link * distinct + draws[draw as usize]];
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += value;
            }
            seen[self.pattern[link]] += 1;
        }
        std::array::from_fn(|m| {
            let count: f64 = self.patterns.iter().zip(&*seen).map(|(p, &n)| p[m] * f64::from(n)).sum();
            (count > 0.0).then(|| sums[m] / count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Box and Muller.
    fn normal(rng: &mut fastrand::Rng) -> f64 {
        let (u, v) = (1.0 - rng.f64(), rng.f64());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    fn mean(x: &[f64]) -> f64 {
        x.iter().sum::<f64>() / x.len() as f64
    }

    /// The variance of what is drawn from these values themselves.
    fn variance(x: &[f64]) -> f64 {
        let m = mean(x);
        x.iter().map(|v| (v - m).powi(2)).sum::<f64>() / x.len() as f64
    }

    /// Links whose mean over seeds is the metric.
    fn links(data: &[Vec<f64>]) -> Vec<Link<1>> {
        data.iter()
            .map(|seeds| Link {
                point: [Some(mean(seeds))],
                resampled: Resamples::of(seeds.len())
                    .distinct
                    .iter()
                    .map(|pick| [Some(mean(&pick.iter().map(|&i| seeds[i]).collect::<Vec<_>>()))])
                    .collect(),
            })
            .collect()
    }

    fn interval(data: &[Vec<f64>], seed: u64) -> Interval {
        let links = links(data);
        intervals(&links.iter().collect::<Vec<_>>(), &Resamples::of(data[0].len()), DRAWS, seed)[0].unwrap()
    }

    fn drawn(links: usize, seeds: usize, between: f64, within: f64) -> Vec<Vec<f64>> {
        let mut rng = fastrand::Rng::with_seed(4);
        (0..links)
            .map(|_| {
                let link = between * normal(&mut rng);
                (0..seeds).map(|_| link + within * normal(&mut rng)).collect()
            })
            .collect()
    }

    #[test]
    fn normal_data_give_the_interval_of_theory() {
        // One seed: the classic interval, mean +- 1.96 s / sqrt(n).
        let data = drawn(400, 1, 2.0, 0.0);
        let flat: Vec<f64> = data.iter().map(|d| d[0]).collect();
        let half = 1.96 * (variance(&flat) / 400.0).sqrt();
        let got = interval(&data, 1);
        assert_eq!(got.value, mean(&flat));
        assert!(((got.hi - got.value) / half - 1.0).abs() < 0.05, "{got:?}, half {half}");
        assert!(((got.value - got.lo) / half - 1.0).abs() < 0.05, "{got:?}, half {half}");
    }

    #[test]
    fn both_levels_add_their_variance() {
        // Of n links with m seeds: (variance of the links' means + mean variance within links / m) / n.
        let data = drawn(300, 3, 1.0, 1.5);
        let means: Vec<f64> = data.iter().map(|d| mean(d)).collect();
        let within = mean(&data.iter().map(|d| variance(d)).collect::<Vec<_>>());
        let half = 1.96 * ((variance(&means) + within / 3.0) / 300.0).sqrt();
        let got = interval(&data, 2);
        assert!(((got.hi - got.lo) / (2.0 * half) - 1.0).abs() < 0.05, "{got:?}, half {half}");
    }

    #[test]
    fn links_matter_more_than_seeds_if_they_differ_more() {
        let wide = interval(&drawn(50, 3, 1.0, 0.05), 3);
        let same_links = interval(&drawn(50, 3, 0.0, 0.05), 3);
        assert!(wide.hi - wide.lo > 10.0 * (same_links.hi - same_links.lo), "{wide:?} {same_links:?}");
        assert!(same_links.hi > same_links.lo, "seeds alone give an interval too");
    }

    #[test]
    fn the_seed_decides_and_nothing_else() {
        let data = drawn(40, 3, 1.0, 1.0);
        assert_eq!(interval(&data, 9), interval(&data, 9));
        assert_ne!(interval(&data, 9), interval(&data, 10));
    }

    #[test]
    fn absent_metrics_are_left_out_of_their_mean() {
        let one = Resamples::of(1);
        let link = |a: Option<f64>, b: Option<f64>| Link { point: [a, b], resampled: vec![[a, None]] };
        let links = [link(Some(1.0), None), link(Some(1.0), Some(4.0)), link(None, None)];
        let [a, b] = intervals(&links.iter().collect::<Vec<_>>(), &one, 1000, 1);
        assert_eq!(a.unwrap(), Interval { value: 1.0, lo: 1.0, hi: 1.0 });
        assert_eq!(b.unwrap(), Interval { value: 4.0, lo: 4.0, hi: 4.0 });
        assert_eq!(intervals::<2>(&[&links[2]], &one, 10, 1), [None, None]);
        assert_eq!(intervals::<2>(&[], &one, 10, 1), [None, None]);
    }

    #[test]
    fn few_seeds_have_every_resample_and_many_a_choice() {
        assert_eq!(Resamples::of(1).distinct, [[0]]);
        let two = Resamples::of(2);
        assert_eq!((two.distinct, two.draws), (vec![vec![0, 0], vec![0, 1], vec![1, 1]], vec![0, 1, 1, 2]));
        let (three, four) = (Resamples::of(3), Resamples::of(4));
        assert_eq!([three.distinct.len(), three.draws.len()], [10, 27]);
        assert_eq!([four.distinct.len(), four.draws.len()], [35, 256]);
        let many = Resamples::of(10);
        assert_eq!((many.draws.len(), many.distinct[0].len()), (RANDOM_RESAMPLES, 10));
        assert_eq!(many, Resamples::of(10));
    }
}
