//! Which queue a packet goes to and how congestion is signalled to it: the truth table of RFC 9331 §5 and RFC 9332
//! §2.3 and §2.5.1.1, the odd cases included.

use super::{PacketMeta, Service};
use crate::wire::Ecn;

/// The queue for a packet. ECT(1) and CE go to L; CE may have been ECT(0), and L is the safe guess (RFC 9331 §5.3).
/// Not-ECT with the NQB code point goes to L if the operator enabled that (RFC 9956); everything else goes to C.
pub const fn service(meta: &PacketMeta, nqb_enabled: bool) -> Service {
    let l4s = matches!(meta.ecn, Ecn::Ect1 | Ecn::Ce);
    let non_queue_building = nqb_enabled && meta.nqb && meta.ip;
    if l4s | non_queue_building { Service::L4s } else { Service::Classic }
}

/// How a discipline sorts packets into queues, for those who want to know without it: a table of [`service`].
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Classifier {
    /// Bit n is set if L takes packets with ECN field n; 4 more is that for NQB.
    l: u8,
}

impl Classifier {
    /// One queue for all.
    pub const SINGLE: Self = Self { l: 0 };

    /// Two queues; see [`service`].
    pub fn dual(nqb_enabled: bool) -> Self {
        let l = (0..8).filter(|n| {
            let meta = PacketMeta { len: 1, ecn: Ecn::ALL[n % 4], nqb: *n >= 4, ip: true, flow: 0 };
            service(&meta, nqb_enabled) == Service::L4s
        });
        Self { l: l.fold(0, |table, n| table | 1 << n) }
    }

    /// The queue for a packet.
    #[inline]
    pub const fn service(self, meta: &PacketMeta) -> Service {
        let n = meta.ecn as u8 | ((meta.nqb & meta.ip) as u8) << 2;
        if self.l >> n & 1 == 1 { Service::L4s } else { Service::Classic }
    }
}

/// How a packet is told of congestion.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Signal {
    /// Not at all: not IP.
    Exempt,
    /// CE with p_L = max(p'_L, p_CL).
    MarkL4s,
    /// CE with p_CL: ECT(1) in a Classic queue, never with p_C (RFC 9332 §2.3).
    MarkCoupled,
    /// CE with p_C.
    MarkClassic,
    /// Dropped with p_C.
    DropClassic,
    /// Saturated L: dropped with p_C, and CE on what is left.
    DropClassicElseMark,
}

/// The signal for a packet in `service`, normally and while the coupling is `saturated`.
pub const fn signal(service: Service, ecn: Ecn, ip: bool, saturated: bool) -> Signal {
    if !ip {
        return Signal::Exempt;
    }
    match (service, ecn, saturated) {
        (_, Ecn::NotEct, _) | (Service::Classic, _, true) | (Service::L4s, Ecn::Ect0, true) => {
            Signal::DropClassic
        }
        (Service::L4s, Ecn::Ect1 | Ecn::Ce, false) => Signal::MarkL4s,
        (Service::L4s, Ecn::Ect1 | Ecn::Ce, true) => Signal::DropClassicElseMark,
        (_, Ecn::Ect0, false) | (Service::Classic, Ecn::Ce, false) => Signal::MarkClassic,
        (Service::Classic, Ecn::Ect1, false) => Signal::MarkCoupled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(ecn: Ecn, nqb: bool, ip: bool) -> PacketMeta {
        PacketMeta { len: 1500, ecn, nqb, ip, flow: 0 }
    }

    /// RFC 9331 §5.1 and RFC 9956: queue by codepoint, NQB off and on.
    #[test]
    fn queue_by_codepoint() {
        use Ecn::{Ce, Ect0, Ect1, NotEct};
        use Service::{Classic, L4s};
        for (ecn, nqb, enabled, want) in [
            (NotEct, false, false, Classic),
            (Ect1, false, false, L4s),
            (Ect0, false, false, Classic),
            (Ce, false, false, L4s),
            (NotEct, true, false, Classic),
            (NotEct, true, true, L4s),
            (NotEct, false, true, Classic),
            (Ect0, true, true, L4s),
            (Ect1, true, true, L4s),
            (Ce, true, false, L4s),
        ] {
            assert_eq!(service(&meta(ecn, nqb, true), enabled), want, "{ecn:?} nqb {nqb} enabled {enabled}");
        }
        assert_eq!(service(&meta(NotEct, false, false), true), Classic, "ARP and the like travel in C");
    }

    /// RFC 9332 §2.5.1.1: every codepoint in every queue, normal and saturated.
    #[test]
    fn signal_by_codepoint() {
        use Ecn::{Ce, Ect0, Ect1, NotEct};
        use Service::{Classic, L4s};
        use Signal::{DropClassic, DropClassicElseMark, MarkClassic, MarkCoupled, MarkL4s};
        for (service, ecn, normal, saturated) in [
            (L4s, Ect1, MarkL4s, DropClassicElseMark),
            (L4s, Ce, MarkL4s, DropClassicElseMark),
            (L4s, Ect0, MarkClassic, DropClassic),
            (L4s, NotEct, DropClassic, DropClassic),
            (Classic, Ect1, MarkCoupled, DropClassic),
            (Classic, Ce, MarkClassic, DropClassic),
            (Classic, Ect0, MarkClassic, DropClassic),
            (Classic, NotEct, DropClassic, DropClassic),
        ] {
            assert_eq!(signal(service, ecn, true, false), normal, "{service:?} {ecn:?}");
            assert_eq!(signal(service, ecn, true, true), saturated, "{service:?} {ecn:?} saturated");
            assert_eq!(signal(service, ecn, false, true), Signal::Exempt);
        }
    }
}
