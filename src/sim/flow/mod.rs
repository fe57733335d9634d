//! Senders and receivers. Windows are in packets, which all have the same size within a flow.
//!
//! | module | source |
//! |---|---|
//! | [`tcp`] | loss recovery and timers around every congestion control: RFC 9002 §6.1, RFC 6298, RFC 5681, RFC 8985 |
//! | [`reno`] | RFC 5681, RFC 3168 |
//! | [`cubic`] | RFC 9438 |
//! | [`hystart`] | RFC 9406, the slow start of CUBIC, and of Reno if it is asked for |
//! | [`dctcp`] | RFC 8257 |
//! | [`prague`] | draft-briscoe-iccrg-prague-congestion-control |
//! | [`classic_aqm`] | arXiv 1911.00710: Prague's suspicion of a classic ECN AQM |
//! | [`bbr`] | draft-cardwell-iccrg-bbr-congestion-control-00, which is BBR v1 |
//! | [`delivery_rate`] | draft-cheng-iccrg-delivery-rate-estimation |
//! | [`receiver`] | RFC 5681 §4.2, RFC 8257 §3.2, RFC 9768 §3.2.2.5.1 |

pub mod bbr;
pub mod classic_aqm;
pub mod cubic;
pub mod dctcp;
pub mod delivery_rate;
pub mod hystart;
#[cfg(test)]
mod path;
pub mod prague;
pub mod receiver;
pub mod reno;
mod round_trip;
pub mod tcp;
mod transmission;

use crate::time::{Instant, Span};

/// What an acknowledgement says, as a congestion control sees it.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct AckSample {
    /// Now.
    pub now: Instant,
    /// Packets acknowledged for the first time.
    pub acked: u32,
    /// Those of them that carried CE.
    pub ce: u32,
    /// Packets that this acknowledgement proves lost.
    pub lost: u32,
    /// The last transmission that it covers.
    pub newest: u64,
    /// Packets still under way, after it.
    pub under_way: u32,
    /// Round-trip time of the newest packet.
    pub rtt: Span,
    /// The least of all round-trip times until now.
    pub min_rtt: Span,
    /// Smoothed round-trip time (RFC 6298).
    pub srtt: Span,
    /// Packets of the round that was under way when the last one ended have all been answered: a round trip is over.
    pub round_ended: bool,
    /// The window, or the pacer, and not a lack of data, held back what was sent since the newest packet: only then is
    /// there proof that the path carries the whole window (RFC 9002 §7.8, RFC 7661).
    pub window_used: bool,
    /// What was lost is being repaired.
    pub repairing: bool,
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
    /// The first BBR draft.
    Bbr(Box<bbr::Bbr>),
}

macro_rules! into_control {
    ($($name:ident($path:ty)),*) => {
        $(impl From<$path> for Control {
            fn from(control: $path) -> Self {
                Self::$name(control)
            }
        })*
    };
}

into_control!(Reno(reno::Reno), Cubic(cubic::Cubic), Dctcp(dctcp::Dctcp), Prague(prague::Prague));

impl From<bbr::Bbr> for Control {
    fn from(control: bbr::Bbr) -> Self {
        Self::Bbr(Box::new(control))
    }
}

/// How packets are spaced.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Pacing {
    /// They go when the window allows.
    Off,
    /// So many windows per smoothed round trip.
    Windows(f64),
    /// So many packets a second.
    Rate(f64),
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
            Self::Bbr(c) => c.window(),
        }
    }

    /// How packets are spaced.
    pub fn pacing(&self) -> Pacing {
        match self {
            Self::Prague(c) => Pacing::Windows(c.pacing_gain()),
            Self::Bbr(c) => Pacing::Rate(c.pacing_rate()),
            Self::Reno(_) | Self::Cubic(_) | Self::Dctcp(_) => Pacing::Off,
        }
    }

    /// The window is reduced for the first CE of a window of data, by [`Control::on_ce`], unless a loss has done so
    /// (RFC 3168 §6.1.2, RFC 8257 §3.3 and §3.5). Prague has its own measure of time, and BBR v1 does not look at CE.
    pub const fn reduces_once_a_window(&self) -> bool {
        matches!(self, Self::Reno(_) | Self::Cubic(_) | Self::Dctcp(_))
    }

    /// Takes an acknowledgement. While losses are repaired only BBR changes its window.
    pub fn on_ack(&mut self, ack: &AckSample) {
        match self {
            Self::Bbr(c) => c.on_ack(ack),
            _ if ack.repairing => {}
            Self::Reno(c) => c.on_ack(ack),
            Self::Cubic(c) => c.on_ack(ack),
            Self::Dctcp(c) => c.on_ack(ack),
            Self::Prague(c) => c.on_ack(ack),
        }
    }

    /// The first CE of a window of data, where [`Control::reduces_once_a_window`].
    pub fn on_ce(&mut self) {
        match self {
            // RFC 3168 §6.1.2: what a loss means.
            Self::Reno(c) => c.on_congestion(),
            Self::Cubic(c) => c.on_congestion(),
            Self::Dctcp(c) => c.on_ce(),
            Self::Prague(_) | Self::Bbr(_) => {}
        }
    }

    /// The first loss of a window of data.
    pub fn on_congestion(&mut self) {
        match self {
            Self::Reno(c) => c.on_congestion(),
            Self::Cubic(c) => c.on_congestion(),
            Self::Dctcp(c) => c.on_loss(),
            Self::Prague(c) => c.on_loss(),
            Self::Bbr(c) => c.on_loss(),
        }
    }

    /// The retransmission timer expired: RFC 5681 equation (4), and a window of one packet.
    pub fn on_timeout(&mut self) {
        match self {
            Self::Reno(c) => c.on_timeout(),
            Self::Cubic(c) => c.on_timeout(),
            Self::Dctcp(c) => c.on_timeout(),
            Self::Prague(c) => c.on_timeout(),
            Self::Bbr(c) => c.on_timeout(),
        }
    }
}

pub use super::traffic::{FlowSpec, SourceSpec};

/// Counters of a flow since its beginning.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct FlowStats {
    /// Packets sent, repeats included.
    pub sent: u64,
    /// Packets that repeat what was lost, and probes that repeat what may have been.
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
