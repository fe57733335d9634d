//! The arithmetic of an audit: entropy of choices, the strongest oscillation of a series, and how well a class can be told
//! from numbers. Pure.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

/// Entropy in bits of how often each value occurs; 0 for none.
pub fn entropy_bits(values: impl IntoIterator<Item = usize>) -> f64 {
    let counts = counts(values);
    let n: usize = counts.values().sum();
    let of = |&count: &usize| {
        let p = count as f64 / n as f64;
        -p * p.log2()
    };
    counts.values().map(of).sum::<f64>().max(0.0)
}

/// How often each value occurs.
pub fn counts(values: impl IntoIterator<Item = usize>) -> BTreeMap<usize, usize> {
    values.into_iter().fold(BTreeMap::new(), |mut counts, v| {
        *counts.entry(v).or_default() += 1;
        counts
    })
}

/// Amplitude of the strongest sinusoid between `band.0` and `band.1` Hz in `series`, which has a value every `dt` seconds:
/// over segments of `segment` seconds that overlap by half, each without its straight line and under a Hann window, the
/// root of the mean power at each frequency of the segment's own grid. 0 if the series is shorter than a segment.
pub fn peak_amplitude(series: &[f64], dt: f64, segment: f64, band: (f64, f64)) -> f64 {
    let n = (segment / dt).round() as usize;
    if n < 4 || series.len() < n {
        return 0.0;
    }
    let hann: Vec<f64> = (0..n).map(|i| 0.5 - 0.5 * (TAU * i as f64 / n as f64).cos()).collect();
    let weight: f64 = hann.iter().sum();
    let bins = |hz: f64| hz * n as f64 * dt;
    let (first, last) = (bins(band.0).ceil().max(1.0) as usize, (bins(band.1) as usize).min(n / 2));
    let (mut power, mut segments) = (vec![0.0; (last + 1).saturating_sub(first)], 0.0);
    for start in (0..=series.len() - n).step_by((n / 2).max(1)) {
        let flat = without_line(&series[start..start + n]);
        if flat.iter().all(|x| x.abs() < 1e-12) {
            segments += 1.0;
            continue;
        }
        for (k, power) in (first..=last).zip(&mut power) {
            let (mut re, mut im) = (0.0, 0.0);
            for (i, (x, w)) in flat.iter().zip(&hann).enumerate() {
                let phase = TAU * (i * k % n) as f64 / n as f64;
                re += x * w * phase.cos();
                im -= x * w * phase.sin();
            }
            *power += (2.0 / weight).powi(2) * (re * re + im * im);
        }
        segments += 1.0;
    }
    power.into_iter().fold(0.0, f64::max).max(0.0).sqrt() / f64::sqrt(segments)
}

/// What is left of a series without its least-squares line.
fn without_line(series: &[f64]) -> Vec<f64> {
    let n = series.len() as f64;
    let middle = (n - 1.0) / 2.0;
    let mean = series.iter().sum::<f64>() / n;
    let (mut xy, mut xx) = (0.0, 0.0);
    for (i, y) in series.iter().enumerate() {
        let x = i as f64 - middle;
        xy += x * (y - mean);
        xx += x * x;
    }
    let slope = if xx > 0.0 { xy / xx } else { 0.0 };
    series.iter().enumerate().map(|(i, y)| y - mean - slope * (i as f64 - middle)).collect()
}

/// What a probe found: for each sample of a class that has another one, whether its class was guessed.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// `None` for samples that are alone in their class and left out.
    pub hits: Vec<Option<bool>>,
    /// The share of the most frequent class among those that count: what can be guessed without looking.
    pub chance: f64,
}

/// Guesses the class of each sample from its numbers by the nearest mean of a class, this sample left out of its own. Ties go to
/// the lowest class.
pub fn probe(samples: &[(usize, Vec<f64>)]) -> Probe {
    let all = counts(samples.iter().map(|(class, _)| *class));
    let counts_here = |class: usize| all[&class] >= 2;
    let used: Vec<&(usize, Vec<f64>)> = samples.iter().filter(|(class, _)| counts_here(*class)).collect();
    let most = all.values().filter(|&&n| n >= 2).max().copied().unwrap_or(0);
    let chance = if used.is_empty() { 1.0 } else { most as f64 / used.len() as f64 };
    let width = used.first().map_or(0, |(_, x)| x.len());
    let mut sums: BTreeMap<usize, (f64, Vec<f64>)> = BTreeMap::new();
    for (class, x) in &used {
        let (n, sum) = sums.entry(*class).or_insert_with(|| (0.0, vec![0.0; width]));
        *n += 1.0;
        sum.iter_mut().zip(x).for_each(|(s, x)| *s += x);
    }
    let guess = |own: usize, x: &[f64]| {
        let distance = |(class, (n, sum)): (&usize, &(f64, Vec<f64>))| {
            let out = f64::from(u8::from(*class == own));
            let square = |d: usize| (x[d] - (sum[d] - out * x[d]) / (n - out)).powi(2);
            (*class, (0..width).map(square).sum::<f64>())
        };
        let nearest =
            |best: (usize, f64), next: (usize, f64)| if next.1 < best.1 - 1e-9 { next } else { best };
        sums.iter().map(distance).reduce(nearest).map(|(class, _)| class)
    };
    let hit = |(class, x): &(usize, Vec<f64>)| counts_here(*class).then(|| guess(*class, x) == Some(*class));
    Probe { hits: samples.iter().map(hit).collect(), chance }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Halves, quarters: 1/2 x 1 + 2 x 1/4 x 2 = 1.5 bits.
    #[test]
    fn entropy_of_known_shares() {
        assert_eq!(entropy_bits([]), 0.0);
        assert_eq!(entropy_bits([3; 9]), 0.0);
        assert_eq!(entropy_bits([1, 2]), 1.0);
        assert_eq!(entropy_bits([7, 7, 2, 9]), 1.5);
    }

    /// A sinusoid of .8 at 1 Hz, on a slope, is found with its amplitude; at .1 and 8 Hz it is outside the band, where
    /// a Hann window keeps it from leaking in.
    #[test]
    fn the_peak_is_the_amplitude_of_a_sinusoid() {
        let of = |hz: f64| {
            let series: Vec<f64> = (0..2500)
                .map(|i| f64::from(i) * 0.016)
                .map(|t| 3.0 + 0.2 * t + 0.8 * (TAU * hz * t).sin())
                .collect();
            peak_amplitude(&series, 0.016, 20.0, (0.2, 5.0))
        };
        assert!((of(1.0) - 0.8).abs() < 0.01, "{}", of(1.0));
        assert!((of(0.5) - 0.8).abs() < 0.01, "{}", of(0.5));
        assert!(of(0.05) < 0.1 && of(8.0) < 0.01, "{} {}", of(0.05), of(8.0));
        assert_eq!(peak_amplitude(&vec![5.0; 2500], 0.016, 20.0, (0.2, 5.0)), 0.0);
        assert_eq!(peak_amplitude(&[1.0, 2.0], 0.016, 20.0, (0.2, 5.0)), 0.0, "too short");
    }

    /// A square wave between 0 and 1 has a fundamental of 2/pi.
    #[test]
    fn a_limit_cycle_of_one_bin_shows() {
        let series: Vec<f64> = (0..2500).map(|i| f64::from(u8::from(i / 25 % 2 == 0))).collect();
        let peak = peak_amplitude(&series, 0.02, 20.0, (0.2, 5.0));
        assert!((peak - 2.0 / std::f64::consts::PI).abs() < 0.01, "{peak}");
    }

    /// Two clusters are told apart; a class of one is left out; equal numbers are all taken for the lowest class.
    #[test]
    fn the_probe_leaves_its_own_sample_out() {
        let samples = |xs: &[(usize, f64)]| xs.iter().map(|&(c, x)| (c, vec![x, 7.0])).collect::<Vec<_>>();
        let apart = probe(&samples(&[(1, 0.0), (1, 0.1), (2, 1.0), (2, 1.1), (3, 9.0)]));
        assert_eq!(apart.hits, [Some(true), Some(true), Some(true), Some(true), None]);
        assert_eq!(apart.chance, 0.5);
        let same = probe(&samples(&[(1, 5.0), (1, 5.0), (2, 5.0), (2, 5.0), (2, 5.0)]));
        assert_eq!(same.hits, [Some(true), Some(true), Some(false), Some(false), Some(false)]);
        assert_eq!(same.chance, 0.6);
        // With itself in, the mean of its class is 2, and nearer to 4 than 7.1 is; without, it is 0, and 7.1 is nearer.
        let left_out = probe(&samples(&[(1, 0.0), (1, 4.0), (2, 7.0), (2, 7.2)]));
        assert_eq!(left_out.hits[1], Some(false));
    }
}
