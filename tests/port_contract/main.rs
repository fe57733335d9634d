//! The contract of `PortPair`, held by the in-memory pair and by every wrapper around it.

#[macro_use]
mod suite;

use l4sd::port::delay::Delay;
use l4sd::port::fault::{Fault, FaultRates};
use l4sd::port::mem::{BUFFER_BYTES, MemConfig, MemPort, Outside};
use l4sd::port::pcap::{Pcap, Taps};
use l4sd::port::{PortPair, Side};
use l4sd::time::Span;
use suite::{Fixture, Promise};

const RING: usize = 96;

struct Wrapped<P> {
    pair: P,
    outside: Outside,
    tx_ring: usize,
}

impl<P: PortPair> Fixture for Wrapped<P> {
    type Pair = P;

    fn pair(&mut self) -> &mut P {
        &mut self.pair
    }

    fn promise(&self) -> Promise {
        Promise { tx_ring: self.tx_ring, oversize: Some(BUFFER_BYTES + 1), patience: Span::from_secs(5) }
    }

    fn inject(&mut self, side: Side, frame: &[u8]) {
        self.outside.inject(side, frame);
    }

    fn collect(&mut self, side: Side) -> Vec<Vec<u8>> {
        self.outside.collect(side)
    }
}

fn over_mem<P>(tx_ring: usize, wrap: impl FnOnce(MemPort) -> P) -> Wrapped<P> {
    let (port, outside) = MemPort::new(MemConfig { buffers: 300, ring: RING });
    Wrapped { pair: wrap(port), outside, tx_ring }
}

mod mem {
    use super::*;
    contract!(Some(over_mem(RING, |port| port)));
}

mod delay {
    use super::*;
    contract!(Some(over_mem(130, |port| Delay::new(port, Span::from_micros(500), 130))));
}

mod no_delay {
    use super::*;
    contract!(Some(over_mem(40, |port| Delay::new(port, Span::ZERO, 40))));
}

mod pcap {
    use super::*;
    use std::io::Sink;

    const SINKS: [Option<Sink>; 2] = [Some(std::io::sink()), None];

    contract!(Some(over_mem(RING, |port| Pcap::new(port, Taps { received: SINKS, sent: SINKS }))));
}

mod fault {
    use super::*;
    contract!(Some(over_mem(RING, |port| Fault::new(port, FaultRates::default(), 1))));
}

mod faulty {
    use super::*;

    const LOSSY: FaultRates = FaultRates { drop: 0.1, corrupt: 0.0, reorder: 0.2 };

    contract!(
        Some(over_mem(RING, |port| Fault::new(port, LOSSY, 1)));
        random_steps_conserve_buffers
    );
}

mod stacked {
    use super::*;
    use std::io::Sink;

    contract!(Some(over_mem(64, |port| {
        let faults = Fault::new(port, FaultRates::default(), 2);
        Delay::new(Pcap::<_, Sink>::new(faults, Taps::default()), Span::from_millis(1), 64)
    })));
}
