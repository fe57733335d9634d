//! Senders and receivers. Windows are in packets, which all have the same size within a flow.
//!
//! | module | source |
//! |---|---|
//! | [`tcp`] | loss recovery and timers around every congestion control: RFC 9002 §6.1.1, RFC 6298, RFC 5681 |
//! | [`reno`] | RFC 5681, RFC 3168 |
//! | [`cubic`] | RFC 9438 |
//! | [`dctcp`] | RFC 8257 |
//! | [`prague`] | draft-briscoe-iccrg-prague-congestion-control |
//! | [`receiver`] | RFC 5681 §4.2, RFC 8257 §3.2 |

pub mod cubic;
pub mod dctcp;
pub mod prague;
pub mod receiver;
pub mod reno;
pub mod tcp;

use crate::time::{Instant, Span};

/// What an acknowledgement says, as a congestion control sees it.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct AckSample {
    /// Now.
    pub now: Instant,
    /// Packets acknowledged for the first time.
    pub acked: u32,
    /// Those of them that carried CE.
    pub ce: u32,
    /// Smoothed round-trip time (RFC 6298).
    pub srtt: Span,
    /// Packets of the round that was under way when the last one ended have all been answered: a round trip is over.
    pub round_ended: bool,
}

/// A congestion control.
#[derive(Clone, Debug)]
pub enum Control {
    /// RFC 5681.
    Reno(reno::Reno),
    /// RFC 9438.
    Cubic(cubic::Cubic),
    /// RFC 8257.
    Dctcp(dctcp::Dctcp),
    /// The Prague draft.
    Prague(prague::Prague),
}

/// Packets that a flow begins with: RFC 6928.
pub const INITIAL_WINDOW: f64 = 10.0;

impl Control {
    /// The congestion window in packets, with a fraction.
    pub fn window(&self) -> f64 {
        match self {
            Self::Reno(c) => c.window(),
            Self::Cubic(c) => c.window(),
            Self::Dctcp(c) => c.window(),
            Self::Prague(c) => c.window(),
        }
    }

    /// How many windows are sent per smoothed round trip by a pacer; `None` sends whenever the window allows.
    pub fn pacing_gain(&self) -> Option<f64> {
        match self {
            Self::Prague(c) => Some(c.pacing_gain()),
            Self::Reno(_) | Self::Cubic(_) | Self::Dctcp(_) => None,
        }
    }

    /// CE means what a loss means (RFC 3168 §6.1.2), once a round trip; the scalable controls look at the share of CE
    /// in [`Control::on_ack`] instead.
    pub const fn classic_ecn(&self) -> bool {
        matches!(self, Self::Reno(_) | Self::Cubic(_))
    }

    /// Takes an acknowledgement. Not called for what arrives while losses are repaired.
    pub fn on_ack(&mut self, ack: &AckSample) {
        match self {
            Self::Reno(c) => c.on_ack(ack),
            Self::Cubic(c) => c.on_ack(ack),
            Self::Dctcp(c) => c.on_ack(ack),
            Self::Prague(c) => c.on_ack(ack),
        }
    }

    /// The first loss, or the first classic CE, of a round trip.
    pub fn on_congestion(&mut self) {
        match self {
            Self::Reno(c) => c.on_congestion(),
            Self::Cubic(c) => c.on_congestion(),
            Self::Dctcp(c) => c.on_loss(),
            Self::Prague(c) => c.on_loss(),
        }
    }

    /// The retransmission timer expired: RFC 5681 equation (4), and a window of one packet.
    pub fn on_timeout(&mut self) {
        match self {
            Self::Reno(c) => c.on_timeout(),
            Self::Cubic(c) => c.on_timeout(),
            Self::Dctcp(c) => c.on_timeout(),
            Self::Prague(c) => c.on_timeout(),
        }
    }
}

pub use super::traffic::{FlowSpec, SourceSpec};

/// Counters of a flow since its beginning.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct FlowStats {
    /// Packets sent, repeats included.
    pub sent: u64,
    /// Packets that repeat what was lost.
    pub retransmits: u64,
    /// Packets' worth of data that arrived: acknowledged, each once; for unresponsive flows, forwarded.
    pub delivered: u64,
}

impl FlowStats {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            retransmits: self.retransmits + other.retransmits,
            delivered: self.delivered + other.delivered,
        }
    }
}
