//! The links of the gate: drawn once from a seed, for the live run and for the simulator alike.

use std::fmt::Write as _;

use fastrand::Rng;

use crate::agreement::simulator::PRAGUE_FRAME;
use crate::forwarder::Step;

/// Rates, Mbit/s.
const RATE_MBIT: (f64, f64) = (12.0, 120.0);
/// Two-way base delays, milliseconds.
const RTT_MS: (f64, f64) = (10.0, 60.0);
/// The link whose rate is halved halfway through the measured time.
const STEPPED: usize = 1;

/// A drawn link: one Prague against one CUBIC flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Megabits a second.
    pub rate_mbit: u32,
    /// Milliseconds.
    pub rtt_ms: u32,
    /// What happens to the rate.
    pub step: Option<Step>,
}

/// `n` links. Rates and delays are spread evenly over the logarithm of their ranges: each `n`th part of either has one
/// link, at a random place in it, and the parts meet at random. The second link has the step.
pub fn draw(n: usize, seed: u64, warmup_s: u32, seconds: u32) -> Vec<Link> {
    let mut rng = Rng::with_seed(seed);
    let mut spread = |(least, most): (f64, f64)| {
        let mut all: Vec<u32> = (0..n)
            .map(|part| {
                let share = (part as f64 + rng.f64()) / n as f64;
                (least * (most / least).powf(share)).round() as u32
            })
            .collect();
        rng.shuffle(&mut all);
        all
    };
    let (rates, rtts) = (spread(RATE_MBIT), spread(RTT_MS));
    let link = |(i, (rate_mbit, rtt_ms)): (usize, (u32, u32))| {
        let step = Step { at_s: warmup_s + seconds / 2, rate_mbit: (rate_mbit / 2).max(1) };
        Link { rate_mbit, rtt_ms, step: (i == STEPPED).then_some(step) }
    };
    rates.into_iter().zip(rtts).enumerate().map(link).collect()
}

impl Link {
    /// Its name in tables and records.
    pub fn name(&self) -> String {
        let step = self.step.map(|s| format!("-to-{}", s.rate_mbit)).unwrap_or_default();
        format!("{}{step}mbit-{}ms", self.rate_mbit, self.rtt_ms)
    }

    /// The scenario file of the same link and flows, with the frame sizes of the senders.
    pub fn scenario(&self, warmup_s: u32, seconds: u32) -> String {
        let mut text = format!(
            "name = \"{}\"\nduration = \"{}s\"\nwarmup = \"{warmup_s}s\"\n\n[link]\nrate = \"{}Mbit\"\n",
            self.name(),
            warmup_s + seconds,
            self.rate_mbit
        );
        if let Some(step) = self.step {
            writeln!(text, "steps = [{{ at = \"{}s\", rate = \"{}Mbit\" }}]", step.at_s, step.rate_mbit).ok();
        }
        for (cc, frame) in [("prague", PRAGUE_FRAME), ("cubic", CUBIC_FRAME)] {
            write!(text, "\n[[flow]]\ncc = \"{cc}\"\nrtt = \"{}ms\"\nframe = {frame}\n", self.rtt_ms).ok();
        }
        text
    }
}

/// Bytes of iperf3's full frames.
const CUBIC_FRAME: u32 = 1514;

#[cfg(test)]
mod tests {
    use super::*;
    use l4sd::sim::Scenario;

    #[test]
    fn every_twelfth_of_both_ranges_has_a_link() {
        let links = draw(12, 1, 5, 30);
        assert_eq!(links, draw(12, 1, 5, 30), "the seed decides");
        assert_ne!(links, draw(12, 2, 5, 30));
        let part =
            |x: u32, (least, most): (f64, f64)| 12.0 * (f64::from(x) / least).ln() / (most / least).ln();
        for (values, range) in [
            (links.iter().map(|l| l.rate_mbit).collect::<Vec<_>>(), RATE_MBIT),
            (links.iter().map(|l| l.rtt_ms).collect(), RTT_MS),
        ] {
            let mut sorted = values.clone();
            sorted.sort_unstable();
            for (i, x) in sorted.iter().enumerate() {
                // Whole numbers: a value may be rounded across the border of its part.
                let at = part(*x, range);
                assert!((i as f64 - 0.6..i as f64 + 1.6).contains(&at), "{x} is at {at}, not in part {i}");
            }
            assert_ne!(values, sorted, "drawn, not in order");
        }
        assert_eq!(links.iter().filter(|l| l.step.is_some()).count(), 1);
    }

    /// 5 s of warm-up and half of 30 s.
    #[test]
    fn the_simulator_gets_the_same_link() {
        let step = Some(Step { at_s: 20, rate_mbit: 20 });
        let link = Link { rate_mbit: 40, rtt_ms: 25, step };
        assert_eq!(draw(2, 1, 5, 30)[1].step.unwrap().at_s, 20);
        let scenario = Scenario::parse(&link.scenario(5, 30), "test").unwrap();
        assert_eq!((scenario.name.as_str(), scenario.mix().as_str()), ("40-to-20mbit-25ms", "1v1"));
        assert_eq!(scenario.flows.iter().map(|f| f.cc).collect::<Vec<_>>(), [Some("prague"), Some("cubic")]);
        assert_eq!(scenario.link.nominal().as_bps(), 40_000_000);
    }
}
