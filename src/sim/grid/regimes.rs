//! The points of the grids in which constants that fit a link do not fit all of it: flows that come and go, and senders
//! that are not what the other grids have.

use super::cells::{bursty, flow, link, mixed, point, smooth};
use super::{Draw, Point};

/// What may be there for ten seconds.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Regime {
    /// One Prague against one CUBIC flow.
    One,
    /// The CUBIC flow alone.
    Classic,
    /// Both with video in L.
    Bursty,
    /// Several of each.
    Many,
}

/// Regimes of a point: the first fills the warm-up.
const REGIMES: usize = 6;
/// How long each is, in seconds of the point.
const REGIME_SECONDS: f64 = 10.0;

impl Regime {
    const ALL: [Self; 4] = [Self::One, Self::Classic, Self::Bursty, Self::Many];

    /// An order in which none follows itself and each is there after the warm-up.
    pub(super) fn order(rng: &mut fastrand::Rng) -> [Self; REGIMES] {
        loop {
            let order: [Self; REGIMES] = std::array::from_fn(|_| Self::ALL[rng.usize(..Self::ALL.len())]);
            if order.windows(2).all(|pair| pair[0] != pair[1])
                && Self::ALL.iter().all(|regime| order[1..].contains(regime))
            {
                return order;
            }
        }
    }

    fn name(self, many: u32) -> String {
        match self {
            Self::One => "1v1".into(),
            Self::Classic => "c_only".into(),
            Self::Bursty => "bursty".into(),
            Self::Many => format!("{many}v{many}"),
        }
    }
}

/// The flows of `text` while `order` has one of `there`.
fn during(d: &Draw, there: &[Regime], text: &str) -> String {
    let mut all = String::new();
    let mut first = 0;
    for run in d.order.chunk_by(|a, b| there.contains(a) == there.contains(b)) {
        if there.contains(&run[0]) {
            let at = |regime: usize| d.at(regime as f64 * REGIME_SECONDS);
            all = all + text + "start = " + &at(first) + "\n";
            if first + run.len() < d.order.len() {
                all = all + "stop = " + &at(first + run.len()) + "\n";
            }
        }
        first += run.len();
    }
    all
}

/// Ten seconds each of one flow a side, C alone, bursts in L, many flows: a constant that fits one of them is wrong in
/// the next.
pub(super) fn switch() -> Vec<Point> {
    use Regime::{Bursty, Many, One};
    let mut points = Vec::new();
    for rate in [20.0, 50.0, 125.0] {
        for rtt in [10.0, 40.0] {
            for many in [5, 10] {
                let kind = bursty(&format!("switch-{many}v{many}"));
                points.push(point(kind, rate, rtt, move |d| {
                    let phases = d.order.iter().enumerate().map(|(i, regime)| {
                        let at = d.at(i as f64 * REGIME_SECONDS);
                        format!("[[phase]]\nname = \"{}\"\nat = {at}\n", regime.name(many))
                    });
                    let text = phases.fold(link(d.rate), |text, phase| text + &phase);
                    let video = "[[flow]]\nkind = \"video\"\nload = 0.35\ncodepoint = \"ect1\"\n";
                    text + &mixed(0, 1, d.rtt)
                        + &during(d, &[One, Bursty, Many], &flow("prague", 1, d.rtt))
                        + &during(d, &[Bursty], video)
                        + &during(d, &[Many], &flow("prague", many - 1, d.rtt))
                        + &during(d, &[Many], &flow("cubic", many - 1, d.rtt))
                }));
            }
        }
    }
    points
}

/// Senders and paths that are not what the other grids have.
pub(super) fn impaired() -> Vec<Point> {
    let mut points = Vec::new();
    for rate in [20.0, 100.0] {
        for rtt in [15.0, 50.0] {
            let mut add = |kind, flows: fn(f64) -> String| {
                points.push(point(kind, rate, rtt, move |d| link(d.rate) + &flows(d.rtt)));
            };
            add(smooth("thinned-1v1"), |rtt| {
                let thinned = "ack_thinning = \"4ms\"\n";
                flow("prague", 1, rtt) + thinned + &flow("cubic", 1, rtt) + thinned
            });
            // A millisecond's worth of packets at a time, as segmentation offload sends them.
            add(bursty("gso-1v1"), |rtt| {
                let gso = "aggregate = \"1ms\"\n";
                flow("prague", 1, rtt) + gso + &flow("cubic", 1, rtt) + gso
            });
            add(smooth("limited-1v1"), |rtt| {
                let limited = "load = 0.1\n";
                mixed(1, 1, rtt) + &flow("prague", 2, rtt) + limited + &flow("cubic", 2, rtt) + limited
            });
            add(smooth("bbr-1v1"), |rtt| flow("prague", 1, rtt) + &flow("bbr", 1, rtt));
            add(smooth("bbr-c_only"), |rtt| flow("bbr", 1, rtt));
            add(smooth("reno-1v1"), |rtt| flow("prague", 1, rtt) + &flow("reno", 1, rtt));
            add(smooth("reno-c_only"), |rtt| flow("reno", 1, rtt));
            add(smooth("deaf-1v1"), |rtt| {
                mixed(1, 1, rtt) + &flow("prague", 1, rtt) + "name = \"deaf\"\nce_bleached = true\n"
            });
            add(smooth("deaf-limited-1v1"), |rtt| {
                mixed(1, 1, rtt)
                    + &flow("prague", 1, rtt)
                    + "name = \"deaf\"\nce_bleached = true\nload = 0.3\n"
            });
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::grid::{Grid, Split};
    use crate::time::{Instant, Span};

    #[test]
    fn each_regime_is_measured_and_none_follows_itself() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut first = Vec::new();
        for _ in 0..200 {
            let order = Regime::order(&mut rng);
            assert!(order.windows(2).all(|pair| pair[0] != pair[1]), "{order:?}");
            assert!(Regime::ALL.iter().all(|r| order[1..].contains(r)), "{order:?}");
            if !first.contains(&order) {
                first.push(order);
            }
        }
        assert!(first.len() > 50, "orders are drawn");
    }

    /// Whoever counts the flows that are there in the middle of a phase finds what its name says.
    #[test]
    fn flows_are_there_as_the_phases_say() {
        for cell in Grid::Switch.cells(Split::Train, 3, 2) {
            let s = &cell.scenario;
            assert_eq!((s.phases.len(), s.warmup), (REGIMES, s.phases[1].at), "{}", cell.name);
            for phase in &s.phases {
                let middle = Instant::ZERO + phase.at + Span::from_secs(5);
                let there = |name: &str| {
                    s.flows
                        .iter()
                        .filter(|f| f.name.starts_with(name) && f.spec.start <= middle)
                        .filter(|f| f.spec.stop.is_none_or(|stop| stop > middle))
                        .count()
                };
                let expected = match phase.name.as_str() {
                    "1v1" => (1, 1, 0),
                    "c_only" => (0, 1, 0),
                    "bursty" => (1, 1, 1),
                    "5v5" => (5, 5, 0),
                    "10v10" => (10, 10, 0),
                    other => panic!("{other}"),
                };
                let found = (there("prague"), there("cubic"), there("video"));
                assert_eq!(found, expected, "{} of {}", phase.name, cell.name);
            }
        }
    }
}
