//! Scenario grids by name: what AQMs are judged by. The points are those of published tests (RFC 9332's range, the
//! DualPI2 evaluation arXiv 2209.01078, RFC 7928, heistp's l4s-tests); each cell is a link drawn near one of them.
//!
//! Train, dev and test never share a link: rates and round trips are drawn from other ranges around each point
//! ([`Split::around`]), and the ranges of neighbouring points do not meet. Train lies above the points, low, which is to
//! fit to as well, below them. A cell is a scenario file, written here, so
//! that whatever runs scenarios can run it.

mod cells;
mod regimes;

use fastrand::Rng;
use regimes::Regime;

use super::engine::stream;
use super::scenario::Scenario;

/// A grid.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Grid {
    /// 4 to 200 Mbit/s by 5 to 100 ms, one flow against one, L alone, C alone: the range that RFC 9332 claims.
    Rfc9332,
    /// 1, 5, 9 and 10 flows a side.
    Flows,
    /// Flows of different round trips on 20 to 100 Mbit/s.
    Rtt,
    /// Steps of the rate and of the number of flows.
    Steps,
    /// Half to twice the link without response, in each codepoint, beside one flow a side.
    Overload,
    /// Short flows, light and heavy.
    Web,
    /// Bursts in L: video frames and aggregates.
    Bursty,
    /// Capacities that nobody is told of.
    Variable,
    /// 0.5 to 4 Mbit/s.
    Lowrate,
    /// Three cells of 10 s: does it run at all.
    Smoke,
    /// Other flows every ten seconds: one a side, C alone, bursts in L, many.
    Switch,
    /// Senders and paths that the others do not have: thinned acknowledgements, bursts of segmentation offload,
    /// applications that hold back, BBR, Reno, an L flow that hears of no mark.
    Impaired,
}

impl Grid {
    /// All grids; `smoke` is the last.
    pub const ALL: [Self; 12] = [
        Self::Rfc9332,
        Self::Flows,
        Self::Rtt,
        Self::Steps,
        Self::Overload,
        Self::Web,
        Self::Bursty,
        Self::Variable,
        Self::Lowrate,
        Self::Switch,
        Self::Impaired,
        Self::Smoke,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rfc9332 => "rfc9332",
            Self::Flows => "flows",
            Self::Rtt => "rtt",
            Self::Steps => "steps",
            Self::Overload => "overload",
            Self::Web => "web",
            Self::Bursty => "bursty",
            Self::Variable => "variable",
            Self::Lowrate => "lowrate",
            Self::Smoke => "smoke",
            Self::Switch => "switch",
            Self::Impaired => "impaired",
        }
    }

    /// The grid of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|g| g.name() == name)
    }

    /// Its cells in a split. `seed` draws them: another seed is another split of the same kind. `draws` links are drawn
    /// near each point.
    pub fn cells(self, split: Split, seed: u64, draws: u32) -> Vec<Cell> {
        self.draw(split, seed, draws, None)
    }

    /// The same cells with as many seconds each, everything that happens in them at the same share of the time.
    pub fn cells_of(self, split: Split, seed: u64, draws: u32, seconds: f64) -> Vec<Cell> {
        self.draw(split, seed, draws, Some(seconds))
    }

    /// The first cell of each of its first three mixes, 10 s each, with everything that happens in them at the same
    /// share of the time.
    pub fn smoke(self, split: Split, seed: u64) -> Vec<Cell> {
        let mut cells = self.draw(split, seed, 1, Some(SMOKE_SECONDS));
        let mut mixes: Vec<String> = Vec::new();
        cells.retain(|c| {
            let new = mixes.len() < 3 && !mixes.contains(&c.mix);
            if new {
                mixes.push(c.mix.clone());
            }
            new
        });
        cells
    }

    fn draw(self, split: Split, seed: u64, draws: u32, seconds: Option<f64>) -> Vec<Cell> {
        let points = self.points();
        (0..draws as usize)
            .flat_map(|draw| points.iter().enumerate().map(move |(i, point)| (draw, i, point)))
            .map(|(draw, i, point)| {
                let number = (self as u64) << 32 | (draw as u64) << 16 | i as u64;
                let rng = stream(seed, number << 2 | split as u64);
                point.draw(self, split, draw * points.len() + i, rng, seconds)
            })
            .collect()
    }
}

/// How long a cell of a smoke run is.
const SMOKE_SECONDS: f64 = 10.0;

/// Which links are drawn.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Split {
    /// To fit to.
    Train,
    /// To choose by.
    Dev,
    /// To report.
    Test,
    /// To fit to as well: below each point, so that what is fitted has links on both sides of those that it is judged on.
    Low,
}

impl Split {
    /// The split of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Train, Self::Dev, Self::Test, Self::Low].into_iter().find(|s| s.name() == name)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::Test => "test",
            Self::Low => "low",
        }
    }

    /// Rates and round trips are drawn between these multiples of a point. Points of a grid are at least a factor of
    /// 1.66 apart, so that no range of one split meets a range of another; those of train and low, both to fit to, may.
    pub const fn around(self) -> (f64, f64) {
        match self {
            Self::Train => (1.10, 1.38),
            Self::Dev => (0.85, 0.91),
            Self::Test => (0.96, 1.04),
            Self::Low => (0.64, 0.80),
        }
    }
}

/// A drawn link with its traffic.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The grid that it is of.
    pub grid: Grid,
    /// Its name, unique within grid and split.
    pub name: String,
    /// What kinds of flows there are: `1v1` is one L flow against one C flow.
    pub mix: String,
    /// There are bursts in L.
    pub bursty: bool,
    /// There are short flows, whose completion times count.
    pub mice: bool,
    /// The scenario file.
    pub text: String,
    /// The same, read.
    pub scenario: Scenario,
}

impl Cell {
    fn new(grid: Grid, name: String, kind: Kind, text: String) -> Self {
        let scenario = Scenario::parse(&text, &name).expect("every cell of every grid is read by a test");
        Self { grid, name, mix: kind.mix, bursty: kind.bursty, mice: kind.mice, text, scenario }
    }
}

/// What kind of cell.
#[derive(Clone, Debug)]
struct Kind {
    mix: String,
    bursty: bool,
    mice: bool,
}

/// A point of a grid, before a link is drawn near it.
struct Point {
    kind: Kind,
    /// Rate in Mbit/s and round trip in ms, drawn around these; where there are other rates and round trips, they move
    /// by the same factors.
    rate: f64,
    rtt: f64,
    /// How long it lasts; a sixth of it is warm-up.
    seconds: f64,
    /// The link and the flows.
    body: Box<dyn Fn(&Draw) -> String>,
}

/// What is drawn near a point.
struct Draw {
    /// Mbit/s.
    rate: f64,
    /// Milliseconds.
    rtt: f64,
    /// Seconds that a second of the point takes.
    pace: f64,
    /// What is there when, where that changes.
    order: [Regime; 6],
}

impl Draw {
    /// A time of the point as a scenario file writes it.
    fn at(&self, seconds: f64) -> String {
        format!("\"{}ms\"", (seconds * self.pace * 1e3).round())
    }
}

impl Point {
    fn draw(&self, grid: Grid, split: Split, number: usize, mut rng: Rng, seconds: Option<f64>) -> Cell {
        let (low, high) = split.around();
        let mut factor = || low * (high / low).powf(rng.f64());
        let pace = seconds.map_or(1.0, |s| s / self.seconds);
        let (rate, rtt) = (self.rate * factor(), self.rtt * factor());
        let draw = Draw { rate, rtt, pace, order: Regime::order(&mut rng) };
        let name = format!("{number:03}-{}mbit-{}ms-{}", short(draw.rate), short(draw.rtt), self.kind.mix);
        let text = format!(
            "name = \"{}/{}/{name}\"\nduration = {}\nwarmup = {}\n\n[spread]\nrtt = 0.2\nrate = 0.1\n\n{}",
            grid.name(),
            split.name(),
            draw.at(self.seconds),
            draw.at(self.seconds / 6.0),
            (self.body)(&draw)
        );
        Cell::new(grid, name, self.kind.clone(), text)
    }
}

/// Three significant digits, enough to tell links apart.
fn short(value: f64) -> String {
    let digits = (2 - value.abs().log10().floor() as i32).max(0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_cell_reads() {
        for grid in Grid::ALL {
            for split in [Split::Train, Split::Dev, Split::Test, Split::Low] {
                let cells = grid.cells(split, 1, 1);
                let mut names: Vec<_> = cells.iter().map(|c| &c.name).collect();
                names.sort();
                names.dedup();
                assert_eq!(names.len(), cells.len());
                assert!(cells.len() >= 3, "{grid:?}");
                let short = grid.smoke(split, 1);
                assert!(!short.is_empty() && short.len() <= 3);
                for cell in short {
                    assert_eq!(cell.scenario.duration.as_secs_f64(), 10.0);
                }
            }
            assert_eq!(Grid::by_name(grid.name()), Some(grid));
        }
        assert_eq!(Grid::by_name("nope"), None);
    }

    #[test]
    fn a_seed_is_a_split_and_more_draws_are_more_links() {
        let text =
            |seed| Grid::Flows.cells(Split::Dev, seed, 1).iter().map(|c| c.text.clone()).collect::<String>();
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
        let (once, thrice) = (Grid::Rtt.cells(Split::Test, 1, 1), Grid::Rtt.cells(Split::Test, 1, 3));
        assert_eq!(thrice.len(), 3 * once.len());
        assert_eq!(
            thrice[..once.len()].iter().map(|c| &c.text).collect::<Vec<_>>(),
            once.iter().map(|c| &c.text).collect::<Vec<_>>()
        );
    }

    /// Whatever the seeds, no link to fit to is a link to choose by or to report: the ranges around all points are apart.
    #[test]
    fn splits_are_disjoint() {
        let splits = [Split::Train, Split::Dev, Split::Test, Split::Low];
        let to_fit_to = |s: Split| matches!(s, Split::Train | Split::Low);
        for grid in Grid::ALL {
            let points = grid.points();
            for value in [|p: &Point| p.rate, |p: &Point| p.rtt] {
                let ranges: Vec<_> = splits
                    .iter()
                    .flat_map(|s| {
                        points.iter().map(move |p| (*s, value(p) * s.around().0, value(p) * s.around().1))
                    })
                    .collect();
                for (s, low, high) in &ranges {
                    for (t, other_low, other_high) in &ranges {
                        assert!(
                            s == t || to_fit_to(*s) && to_fit_to(*t) || high < other_low || other_high < low,
                            "{grid:?}: {s:?} {low}-{high} and {t:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            (short(0.48123), short(4.7), short(38.61), short(192.4)),
            ("0.481".into(), "4.70".into(), "38.6".into(), "192".into())
        );
    }
}
