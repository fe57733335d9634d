//! The scenario file: TOML text to validated types. An unknown key is an error with its place.

mod file;

use std::path::Path;

use super::engine::stream;
use super::link::{LinkSpec, Program, Step, TraceError};
use super::traffic::{FlowSpec, SourceSpec};
use crate::config::Limit;
use crate::time::{Instant, Span};
use crate::wire::Ecn;

/// Why there is no [`Scenario`].
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("{file}: cannot read the scenario: {source}; check the path")]
    Read {
        /// The file as the user named it.
        file: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is not TOML, has an unknown key, or a value of the wrong form.
    #[error("{file}:{line}:{column}: {reason}; docs/scenario.md has every key")]
    Form {
        /// The file as the user named it.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// Its trace cannot be used.
    #[error("{file}: link.trace: {source}")]
    Trace {
        /// The file as the user named it.
        file: String,
        /// Why not.
        source: TraceError,
    },
    /// The values do not make sense together.
    #[error("{file}: {reason}")]
    Sense {
        /// The file as the user named it.
        file: String,
        /// What is wrong and what to write instead.
        reason: String,
    },
}

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// How long it lasts.
    pub duration: Span,
    /// How much of that is left out of the figures.
    pub warmup: Span,
    /// The seed unless another is asked for.
    pub seed: u64,
    /// The capacity.
    pub link: LinkSpec,
    /// The buffer; `None` is the discipline's own.
    pub buffer: Option<Limit>,
    /// From the close of a window to the moment that the decision made of it is applied.
    pub decision_latency: Span,
    /// A decision is stale when its window closed longer ago than this, as `control.t_expire` of a live run.
    pub t_expire: Span,
    /// NQB packets (DSCP 45) join the L queue.
    pub nqb: bool,
    /// What a seed draws beside starts and marks.
    pub spread: Spread,
    /// What is measured by itself as well, in the order of time.
    pub phases: Vec<Phase>,
    /// The flows, one entry each.
    pub flows: Vec<PlannedFlow>,
}

/// A part of a run that has a name: from one beginning to the next, or to the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// When it begins.
    pub at: Span,
}

/// How far a seed moves what the scenario names, uniformly and as a share of it.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Spread {
    /// Base round trips, each flow by itself: 0.2 is up to 20 % up or down.
    pub rtt: f64,
    /// All rates of the link together; where in a trace the run begins.
    pub rate: f64,
}

/// A scenario under a seed.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The flows, as they are planned but for what is drawn.
    pub flows: Vec<FlowSpec>,
    /// The link.
    pub link: Program,
}

/// A flow and what the result object says of it.
#[derive(Clone, Debug)]
pub struct PlannedFlow {
    /// Its name: that of the entry, with a number where there are several.
    pub name: String,
    /// Its congestion control; `None` if it does not respond.
    pub cc: Option<&'static str>,
    /// Bytes of data in a packet.
    pub payload: u16,
    /// How it behaves.
    pub spec: FlowSpec,
}

impl PlannedFlow {
    /// It responds to congestion, takes what it gets, was there before the window, and stays until the end.
    pub fn is_endless(&self, warmup: Span) -> bool {
        self.is_greedy() && self.spec.stop.is_none() && self.spec.start <= Instant::ZERO + warmup
    }

    /// It responds to congestion and takes what it gets: no application holds it back.
    pub const fn is_greedy(&self) -> bool {
        self.cc.is_some() && !matches!(self.spec.source, SourceSpec::Limited { .. })
    }
}

impl Scenario {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse_in(&text, &file, path.parent().unwrap_or(Path::new(""))),
            Err(source) => Err(ScenarioError::Read { file, source }),
        }
    }

    /// Reads the text of a file that errors call `name`; the paths in it are relative to the current folder.
    pub fn parse(text: &str, name: &str) -> Result<Self, ScenarioError> {
        Self::parse_in(text, name, Path::new(""))
    }

    fn parse_in(text: &str, name: &str, folder: &Path) -> Result<Self, ScenarioError> {
        let file: file::File = toml::from_str(text).map_err(|e| {
            let before = text.get(..e.span().map_or(0, |s| s.start)).unwrap_or(text);
            ScenarioError::Form {
                file: name.to_owned(),
                line: before.matches('\n').count() + 1,
                column: before.chars().rev().take_while(|&c| c != '\n').count() + 1,
                reason: e.message().to_owned(),
            }
        })?;
        file.scenario(folder).map_err(|wrong| match wrong {
            file::Wrong::Sense(reason) => ScenarioError::Sense { file: name.to_owned(), reason },
            file::Wrong::Trace(source) => ScenarioError::Trace { file: name.to_owned(), source },
        })
    }

    /// What kinds of flows there are, as grids call it: `1v1` is one L flow against one C flow.
    pub fn mix(&self) -> String {
        let l = self.flows.iter().filter(|f| matches!(f.spec.ecn, Ecn::Ect1 | Ecn::Ce)).count();
        match (l, self.flows.len() - l) {
            (l, 0) if l > 0 => "l_only".to_owned(),
            (0, _) => "c_only".to_owned(),
            (l, c) => format!("{l}v{c}"),
        }
    }

    /// What `seed` makes of it. The same for every policy.
    pub fn draw(&self, seed: u64) -> Drawn {
        let mut link_rng = stream(seed, LINK_STREAM);
        let mut around =
            |share: f64| if share == 0.0 { 1.0 } else { 1.0 + share * (2.0 * link_rng.f64() - 1.0) };
        let scale = around(self.spread.rate);
        let flows = self
            .flows
            .iter()
            .map(|f| FlowSpec {
                rtt: Span::from_secs_f64(f.spec.rtt.as_secs_f64() * around(self.spread.rtt)),
                ..f.spec.clone()
            })
            .collect();
        Drawn { flows, link: self.link.program(self.duration, scale, &mut link_rng) }
    }

    /// Steps that a recovery is measured from.
    pub fn steps(&self) -> &[Step] {
        self.link.steps()
    }
}

/// The stream of random numbers that links and round trips are drawn from; flows have those from 0 on.
const LINK_STREAM: u64 = u64::MAX / 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::link::Course;
    use crate::units::BitRate;
    use crate::wire::Ecn;

    const HEAD: &str = "name = \"x\"\nduration = \"30s\"\nwarmup = \"5s\"\n";

    fn error(tail: &str) -> String {
        Scenario::parse(&format!("{HEAD}{tail}"), "x.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_scenario_reads() {
        let text = format!(
            "{HEAD}[link]\nsteps = [{{ at = \"0s\", rate = \"40Mbit\" }}, {{ at = \"20s\", rate = \"10Mbit\" }}]\n\
             buffer = \"100ms\"\n\
             [[flow]]\ncc = \"prague\"\ncount = 2\nrtt = \"20ms\"\nframe = 1442\n\
             [[flow]]\ncc = \"cubic\"\nrtt = \"10ms\"\necn = \"ect0\"\nstart = \"1s\"\nstop = \"9s\"\n\
             [[flow]]\nkind = \"cbr\"\nrate = \"12.112Mbit\"\ncodepoint = \"ect1\"\n"
        );
        let s = Scenario::parse(&text, "x.toml").unwrap();
        assert_eq!(
            (s.link.nominal(), s.seed, s.buffer),
            (BitRate::from_mbps(40), 1, Some(Limit::Time(Span::from_millis(100))))
        );
        assert_eq!(s.steps(), [Step { at: Span::from_secs(20), rate: BitRate::from_mbps(10) }]);
        let names: Vec<_> = s.flows.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["prague-1", "prague-2", "cubic-1", "cbr-1"]);
        assert_eq!(
            (s.flows[1].payload, s.flows[1].spec.ecn, s.flows[1].spec.delayed_acks),
            (1376, Ecn::Ect1, false)
        );
        let cubic = &s.flows[2];
        assert_eq!(
            (cubic.spec.ecn, cubic.spec.stop, cubic.spec.delayed_acks),
            (Ecn::Ect0, Some(Instant::from_millis(9000)), true)
        );
        assert!(s.flows[0].is_endless(s.warmup) && !cubic.is_endless(s.warmup));
        // 1514 bytes at 12.112 Mbit/s take a millisecond.
        assert!(matches!(s.flows[3].spec.source, SourceSpec::Cbr { gap } if gap == Span::from_millis(1)));
    }

    #[test]
    fn every_mistake_is_named() {
        let flow = "[[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\n";
        let link = "[link]\nrate = \"40Mbit\"\n";
        for (tail, part) in [
            (
                format!("[link]\nrate = \"40Mbit\"\nspeed = \"a\"\n{flow}"),
                "x.toml:6:1: unknown field `speed`",
            ),
            (format!("[link]\nrate = \"40Mbit\"\ntrace = \"a\"\n{flow}"), "a link has one of rate"),
            (format!("[link]\ntrace = \"no/such\"\n{flow}"), "x.toml: link.trace: no/such: cannot read"),
            (
                format!(
                    "[link]\ngenerator = {{ kind = \"walk\", min = \"9Mbit\", max = \"5Mbit\", every = \"1s\", sigma = 0.1 }}\n{flow}"
                ),
                "min must be less",
            ),
            (format!("[link]\ngenerator = {{ kind = \"sine\" }}\n{flow}"), "unknown variant `sine`"),
            (format!("{link}{flow}fallback = true\n"), "fallback is a key of prague, not of cubic"),
            (
                format!("{link}[[flow]]\ncc = \"bbr\"\nrtt = \"9ms\"\nhystart = true\n"),
                "hystart is a key of cubic",
            ),
            (
                format!("{link}[[flow]]\ncc = \"bbr\"\nrtt = \"9ms\"\necn = \"ect0\"\n"),
                "takes no notice of ECN",
            ),
            (format!("{link}{flow}load = 11\n"), "load is a share"),
            (format!("{link}{flow}load = 0.5\nsize = \"1MB\"\n"), "either a size or the rate"),
            (format!("{link}{flow}fps = 50\n"), "fps is a key of a flow with kind"),
            (format!("{link}{flow}size = \"5\"\n"), "'5' has no unit"),
            (format!("{link}{flow}dscp = 64\n"), "dscp is from 0 to 63"),
            (format!("[spread]\nrtt = 1.0\n{link}{flow}"), "shares from 0 to 0.9"),
            (format!("{link}[[flow]]\nkind = \"web\"\nrtt = \"9ms\"\nload = 11\n"), "load is a share"),
            (
                format!("{link}[[flow]]\nkind = \"video\"\nrate = \"1Mbit\"\nevery = \"4ms\"\n"),
                "video has fps",
            ),
            (
                format!("{link}[[flow]]\nkind = \"burst\"\nrate = \"1Mbit\"\necn = \"ect0\"\n"),
                "ecn, size, delayed",
            ),
            (format!("[link]\nrate = \"40\"\n{flow}"), "x.toml:5:8: '40' has no unit"),
            (format!("[link]\n{flow}"), "link.rate is missing"),
            (format!("{link}{flow}ecn = \"ect1\"\n"), "cubic is sent with"),
            (format!("{link}{flow}kind = \"cbr\"\n"), "either cc"),
            (format!("{link}{flow}count = 0\n"), "at least once"),
            (format!("{link}{flow}stop = \"0s\"\n"), "stop must be after start"),
            (format!("{link}[[flow]]\ncc = \"vegas\"\nrtt = \"1ms\"\n"), "unknown variant `vegas`"),
            (format!("{link}[[flow]]\ncc = \"reno\"\n"), "rtt of reno is missing"),
            (format!("{link}[[flow]]\nkind = \"cbr\"\n"), "rate of cbr is missing"),
            (
                format!("{link}[[flow]]\nkind = \"cbr\"\nrate = \"1Mbit\"\ncodepoint = \"ect2\"\n"),
                "'ect2' is not one of",
            ),
            (format!("{link}steps = [{{ at = \"30s\", rate = \"1Mbit\" }}]\n{flow}"), "at or after the end"),
        ] {
            let message = error(&tail);
            assert!(message.contains(part), "{tail}: {message}");
        }
    }

    /// A seed draws within the spread, the same each time; without a spread nothing but starts is drawn.
    #[test]
    fn a_seed_draws_rates_and_round_trips_within_their_spread() {
        let text = |spread: &str| {
            format!(
                "{HEAD}{spread}[link]\nrate = \"40Mbit\"\n[[flow]]\ncc = \"cubic\"\ncount = 50\nrtt = \"20ms\"\n"
            )
        };
        let spread = Scenario::parse(&text("[spread]\nrtt = 0.2\nrate = 0.1\n"), "x").unwrap();
        let rtts = |seed| spread.draw(seed).flows.iter().map(|f| f.rtt.as_millis_f64()).collect::<Vec<_>>();
        assert!(rtts(1).iter().all(|r| (16.0..=24.0).contains(r)));
        assert!(rtts(1).iter().any(|&r| r < 17.0) && rtts(1).iter().any(|&r| r > 23.0));
        assert_eq!(rtts(1), rtts(1));
        let rate = |seed| spread.draw(seed).link.configured.as_mbps_f64();
        let rates: Vec<_> = (0..50).map(rate).collect();
        assert!(rates.iter().all(|r| (36.0..=44.0).contains(r)));
        assert!(rates.iter().any(|&r| r < 37.0) && rates.iter().any(|&r| r > 43.0));
        let plain = Scenario::parse(&text(""), "x").unwrap().draw(3);
        assert!(plain.flows.iter().all(|f| f.rtt == Span::from_millis(20)));
        assert_eq!(plain.link.configured, BitRate::from_mbps(40));
    }

    /// Paths are relative to the file; the buffer and the reported rate are those of the mean.
    #[test]
    fn a_trace_is_found_beside_its_scenario() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t.down"), "0\n5\n10\n").unwrap();
        let file = dir.path().join("s.toml");
        let flow = "[[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\n";
        std::fs::write(&file, format!("{HEAD}[link]\ntrace = \"t.down\"\n{flow}")).unwrap();
        let s = Scenario::load(&file).unwrap();
        let drawn = s.draw(1);
        // Three opportunities of 1514 bytes in 10 ms.
        assert_eq!(drawn.link.configured, BitRate::new(3_633_600).unwrap());
        assert!(matches!(drawn.link.course, Course::Trace { offset: Span::ZERO, .. }));
    }

    /// A load is a share of the link; a burst is its rate in its interval; a web load is flows of the mean size.
    #[test]
    fn traffic_without_a_window_is_worked_out() {
        let s = Scenario::parse(
            &format!(
                "{HEAD}[link]\nrate = \"40Mbit\"\n[[flow]]\nkind = \"cbr\"\nload = 0.5\n\
                 [[flow]]\nkind = \"burst\"\nrate = \"10Mbit\"\nevery = \"4ms\"\naccess = \"12.112Mbit\"\ndscp = 45\n\
                 [[flow]]\nkind = \"web\"\nload = 0.1\nrtt = \"20ms\"\n\
                 [[flow]]\ncc = \"reno\"\nrtt = \"20ms\"\nsize = \"1MB\"\n"
            ),
            "x",
        )
        .unwrap();
        let source = |i: usize| &s.flows[i].spec.source;
        // 1514 bytes at 20 Mbit/s are 605.6 us.
        assert!(matches!(source(0), SourceSpec::Cbr { gap } if gap.as_nanos() == 605_600));
        let SourceSpec::Frames(burst) = source(1) else { panic!("{:?}", source(1)) };
        assert_eq!(
            (burst.bytes, burst.every, burst.gap),
            (5000.0, Span::from_millis(4), Span::from_millis(1))
        );
        assert!(s.flows[1].spec.nqb && !s.flows[0].spec.nqb);
        let SourceSpec::Web(web) = source(2) else { panic!("{:?}", source(2)) };
        // 4 Mbit/s in flows of 8975.27 bytes of data and 66 bytes of headers to every 1448.
        assert!(
            (web.per_second - 500_000.0 / (8975.27 * 1514.0 / 1448.0)).abs() < 1e-2,
            "{}",
            web.per_second
        );
        assert!(matches!(source(3), SourceSpec::Sized { packets: 691, .. }), "1 MB / 1448, rounded up");
    }
}
