//! What flows are made of: what they send, and what is done to it on the way. Plain data; the engine acts on it.

use super::flow::Control;
use crate::time::{Instant, Span};
use crate::wire::Ecn;

/// A flow, or a source that opens many.
#[derive(Clone, Debug)]
pub struct FlowSpec {
    /// What it sends.
    pub source: SourceSpec,
    /// Two-way base delay, half of it in front of the bottleneck.
    pub rtt: Span,
    /// Bytes of each packet as the link counts them.
    pub frame: u16,
    /// Codepoint of each packet.
    pub ecn: Ecn,
    /// Packets carry the NQB code point (DSCP 45, RFC 9956).
    pub nqb: bool,
    /// The receiver acknowledges every second packet (RFC 5681 §4.2) instead of each.
    pub delayed_acks: bool,
    /// When it begins.
    pub start: Instant,
    /// When it ends.
    pub stop: Option<Instant>,
    /// What the way does beside taking time.
    pub path: PathSpec,
}

impl FlowSpec {
    /// A flow from the beginning to the end in full-size frames over a clean path.
    pub const fn new(source: SourceSpec, rtt: Span, ecn: Ecn) -> Self {
        Self {
            source,
            rtt,
            frame: 1514,
            ecn,
            nqb: false,
            delayed_acks: false,
            start: Instant::ZERO,
            stop: None,
            path: PathSpec {
                aggregate: Span::ZERO,
                ack_jitter: Span::ZERO,
                ack_compression: Span::ZERO,
                ack_thinning: Span::ZERO,
                ce_bleached: false,
            },
        }
    }
}

/// What happens to a flow's packets before the bottleneck and to its acknowledgements behind it. Zero is nothing.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct PathSpec {
    /// Packets wait for the next multiple of this, and go on together: a link in front that sends in aggregates.
    pub aggregate: Span,
    /// Each acknowledgement is late by up to this, uniformly, without overtaking.
    pub ack_jitter: Span,
    /// Acknowledgements wait for the next multiple of this, and go on together.
    pub ack_compression: Span,
    /// Acknowledgements wait for the next multiple of this, and the last of them goes on for all: a filter that drops
    /// those which a later one makes superfluous. What they count is not lost, as with accurate ECN feedback.
    pub ack_thinning: Span,
    /// CE is taken away behind the bottleneck: the sender never hears of a mark.
    pub ce_bleached: bool,
}

/// How a flow decides when to send.
#[derive(Clone, Debug)]
pub enum SourceSpec {
    /// Endless data under a congestion control.
    Bulk(Control),
    /// Endless data under a congestion control, of which an application hands over a packet at a time.
    Limited {
        /// The congestion control.
        control: Control,
        /// From one packet of data to the next; not zero.
        gap: Span,
    },
    /// So many packets of data under a congestion control.
    Sized {
        /// The congestion control.
        control: Control,
        /// Packets of data.
        packets: u64,
    },
    /// Evenly spaced packets of [`FlowSpec::frame`] bytes, this long apart, whatever happens to them.
    Cbr {
        /// From the start of one packet to the start of the next; not zero.
        gap: Span,
    },
    /// Bursts of packets at even intervals, whatever happens to them: video frames, aggregates.
    Frames(FrameSpec),
    /// Short flows that arrive at random.
    Web(WebSpec),
}

/// Bursts.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct FrameSpec {
    /// Mean bytes of a burst.
    pub bytes: f64,
    /// Standard deviation of the logarithm of its size; 0 makes all the same.
    pub sigma: f64,
    /// From the start of one burst to the start of the next; not zero.
    pub every: Span,
    /// From the start of one packet of a burst to the start of the next.
    pub gap: Span,
}

/// Short flows: Poisson arrivals of sizes from a bounded Pareto distribution.
#[derive(Clone, Debug)]
pub struct WebSpec {
    /// Their congestion control.
    pub control: Control,
    /// Arrivals a second.
    pub per_second: f64,
    /// Sizes.
    pub sizes: Pareto,
    /// Bytes of data in a packet.
    pub payload: u16,
}

/// A bounded Pareto distribution.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Pareto {
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
    /// The exponent of the tail, not 1.
    pub shape: f64,
}

impl Pareto {
    /// Sizes in bytes. Poisson arrivals and Pareto sizes are those of the DualPI2 evaluation (arXiv 2209.01078); the
    /// bounds and the exponent are this project's choice.
    pub const WEB: Self = Self { min: 1e3, max: 1e6, shape: 0.9 };

    /// The mean.
    pub fn mean(&self) -> f64 {
        let (l, h, a) = (self.min, self.max, self.shape);
        l.powf(a) / (1.0 - (l / h).powf(a)) * a / (a - 1.0) * (l.powf(1.0 - a) - h.powf(1.0 - a))
    }

    /// A value, by inversion of the distribution function; `u` is uniform on 0..1.
    pub fn at(&self, u: f64) -> f64 {
        let (l, h, a) = (self.min, self.max, self.shape);
        l / (1.0 - u * (1.0 - (l / h).powf(a))).powf(1.0 / a)
    }
}

/// A flow of a [`SourceSpec::Web`] that has completed.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Completion {
    /// When it was opened.
    pub opened: Instant,
    /// How long until its last packet was acknowledged.
    pub took: Span,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles by hand: the median of min 1 kB, max 1 MB, shape .9 solves 1 - (1/x)^.9 = .5 (1 - 1000^-.9):
    /// x = (1 - .5 x .998005)^(-1/.9) = 2.15534 kB; the ends are the bounds. The mean is .9/.1 x 1000^.9/.998005 x
    /// (1e6^.1 - 1e3^.1) = 8.97527 kB.
    #[test]
    fn bounded_pareto() {
        let p = Pareto::WEB;
        assert_eq!(p.at(0.0), 1e3);
        assert!((p.at(1.0) / 1e6 - 1.0).abs() < 1e-9);
        assert!((p.at(0.5) - 2_155.34).abs() < 0.1, "{}", p.at(0.5));
        let n = 1_000_000;
        let mean = (0..n).map(|i| p.at((f64::from(i) + 0.5) / f64::from(n))).sum::<f64>() / f64::from(n);
        assert!((mean / p.mean() - 1.0).abs() < 0.01, "{mean} {}", p.mean());
        assert!((p.mean() - 8_975.27).abs() < 0.1, "{}", p.mean());
    }
}
