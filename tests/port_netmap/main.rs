//! The contract of `PortPair` over netmap ports, on the model of the kernel: NICs that share memory, ports of two
//! memories, ports of VALE switches and ends of pipes; and what is netmap's own: spares that run out, chains, errors of
//! drivers, stalls.
#![cfg(target_os = "linux")]

#[macro_use]
#[path = "../port_contract/suite.rs"]
mod suite;
mod audited;
mod originate;
mod own;

use audited::Audited;
use l4sd::port::Side;
use l4sd::port::netmap::{NetmapOptions, NetmapPort};
use l4sd::time::Span;
use l4sd_netmap::model::{Line, Model, NicConfig, Outside};
use l4sd_netmap::{Netmap, Options, Port, SlotFlags};
use suite::{Fixture, Promise};

const SLOTS: u32 = 128;

fn options() -> NetmapOptions {
    NetmapOptions { held: 300, emulated: false }
}

/// What is on the far side of a port.
enum Far {
    /// The cable of a NIC.
    Cable(Outside, Line),
    /// Another port of the switch, or the other end of the pipe.
    Peer(Box<Port>),
}

impl Far {
    fn peer(netmap: &Netmap, name: &str) -> Self {
        let wish = Options { slots: 1024, ..Options::default() };
        Self::Peer(Box::new(netmap.open(&name.parse().expect("a name"), &wish).expect("a peer")))
    }

    fn inject(&mut self, frame: &[u8]) {
        match self {
            Self::Cable(outside, line) => {
                outside.inject(*line, frame);
            }
            Self::Peer(port) => {
                assert!(port.tx(0).put_copy(frame, SlotFlags::NONE), "the peer has room");
                port.tx_sync().expect("sync");
            }
        }
    }

    fn collect(&mut self) -> Vec<Vec<u8>> {
        match self {
            Self::Cable(outside, line) => outside.collect(*line),
            Self::Peer(port) => {
                let mut frames = Vec::new();
                port.rx_sync().expect("sync");
                while let Some(bytes) = port.rx(0).bytes() {
                    frames.push(bytes.to_vec());
                    port.rx(0).skip();
                }
                port.rx_sync().expect("sync");
                frames
            }
        }
    }
}

/// Two ports on the model.
struct OnModel {
    pair: Audited,
    far: [Far; 2],
    tx_ring: usize,
    oversize: Option<usize>,
}

impl Fixture for OnModel {
    type Pair = Audited;

    fn pair(&mut self) -> &mut Audited {
        &mut self.pair
    }

    fn promise(&self) -> Promise {
        Promise { tx_ring: self.tx_ring, oversize: self.oversize, patience: Span::from_secs(5) }
    }

    fn inject(&mut self, side: Side, frame: &[u8]) {
        self.far[side.index()].inject(frame);
    }

    fn collect(&mut self, side: Side) -> Vec<Vec<u8>> {
        self.far[side.index()].collect()
    }
}

/// NICs `em0` and `em1`.
fn nics(names: [&str; 2], lines: [Line; 2], zero_copy: bool) -> OnModel {
    let model = Model::default();
    let config = |mem_id| NicConfig { slots: SLOTS, mem_id, ..NicConfig::default() };
    let outsides = [model.nic("em0", config(1)), model.nic("em1", config(2))];
    for outside in &outsides {
        outside.faults(|f| f.fragments = true);
    }
    let (port, mode) = NetmapPort::open(&model.netmap(), names, options()).expect("the model opens");
    assert_eq!(mode.zero_copy, zero_copy);
    let [left, right] = outsides;
    OnModel {
        pair: Audited::new(port),
        far: [Far::Cable(left, lines[0]), Far::Cable(right, lines[1])],
        tx_ring: SLOTS as usize - 1,
        oversize: matches!(lines, [Line::Nic(_), Line::Nic(_)]).then_some(2049),
    }
}

fn peers(names: [&str; 2], others: [&str; 2], zero_copy: bool) -> OnModel {
    let model = Model::new(16_384);
    let netmap = model.netmap();
    model.nic("em0", NicConfig { mem_id: 2, ..NicConfig::default() });
    let (port, mode) = NetmapPort::open(&netmap, names, options()).expect("the model opens");
    assert_eq!(mode.zero_copy, zero_copy);
    let far = others.map(|name| Far::peer(&netmap, name));
    OnModel { pair: Audited::new(port), far, tx_ring: 1023, oversize: None }
}

mod two_nics {
    use super::*;
    contract!(Some(nics(["netmap:em0", "netmap:em1"], [Line::Nic(0), Line::Nic(0)], true)));
}

mod nics_of_two_memories {
    use super::*;
    contract!(Some(nics(["netmap:em0", "netmap:em1@2"], [Line::Nic(0), Line::Nic(0)], false)));
}

mod nic_and_host_rings {
    use super::*;
    contract!(Some(nics(["netmap:em0", "em1^"], [Line::Nic(0), Line::Host(0)], true)));
}

mod vale {
    use super::*;
    contract!(Some(peers(["vale0:1", "vale1:1"], ["vale0:2", "vale1:2"], true)));
}

mod vale_of_two_memories {
    use super::*;
    contract!(Some(peers(["vale0:1@1", "vale1:1@2"], ["vale0:2", "vale1:2"], false)));
}

mod pipes {
    use super::*;
    contract!(Some(peers(["netmap:{1", "netmap:{2"], ["netmap:}1", "netmap:}2"], true)));
}

/// The suite does see a kernel that breaks the rules.
mod wrong_kernels {
    use super::*;

    fn wrong(change: impl Fn(&mut l4sd_netmap::model::Wrong)) -> OnModel {
        let fixture = nics(["netmap:em0", "netmap:em1"], [Line::Nic(0), Line::Nic(0)], true);
        for far in &fixture.far {
            if let Far::Cable(outside, _) = far {
                outside.faults(|f| change(&mut f.wrong));
            }
        }
        fixture
    }

    #[test]
    #[should_panic(expected = "as sent")]
    fn that_does_not_look_at_changed_buffers() {
        let mut fixture = wrong(|w| w.ignore_buf_changed = true);
        for _ in 0..20 {
            suite::bytes_and_order_are_kept(&mut fixture);
        }
    }

    #[test]
    #[should_panic(expected = "what was granted")]
    fn that_names_a_buffer_twice() {
        suite::random_steps_conserve_buffers(&mut wrong(|w| w.duplicate_index = true));
    }
}
