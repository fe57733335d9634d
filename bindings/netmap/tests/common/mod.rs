//! Two NICs of the model over one region, and the law that no buffer is lost or in two places.
#![allow(dead_code, reason = "not every test uses all of it")]

use l4sd_netmap::model::{Line, Model, NicConfig, Outside};
use l4sd_netmap::{Buffer, Netmap, NotTaken, Options, Port, SlotFlags};

pub(crate) const WIRE: Line = Line::Nic(0);

pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) netmap: Netmap,
    pub(crate) outside: [Outside; 2],
    pub(crate) ports: [Port; 2],
    pub(crate) pool: Vec<u32>,
    pub(crate) spares: Vec<Buffer>,
    pub(crate) queue: Vec<(Buffer, u16, SlotFlags)>,
}

pub(crate) fn open(netmap: &Netmap, name: &str, extra_buffers: u32) -> Port {
    netmap.open(&name.parse().unwrap(), &Options { extra_buffers, ..Options::default() }).unwrap()
}

impl World {
    pub(crate) fn new(slots: u32, extra: u32) -> Self {
        let model = Model::new(512);
        let netmap = model.netmap();
        let config = NicConfig { slots, ..NicConfig::default() };
        let outside = ["em0", "em1"].map(|name| model.nic(name, config));
        let mut ports = [open(&netmap, "netmap:em0", extra), open(&netmap, "netmap:em1", 0)];
        let mut pool: Vec<u32> = ports.iter().flat_map(|port| port.pool().unwrap()).collect();
        pool.sort_unstable();
        let spares = ports[0].take_extra().unwrap();
        assert!(ports[0].shares_memory_with(&ports[1]) && !ports[0].has_private_memory());
        Self { model, netmap, outside, ports, pool, spares, queue: Vec::new() }
    }

    /// Every buffer of the pool is in exactly one slot or one token.
    pub(crate) fn conserved(&self) -> Result<(), String> {
        let mut now: Vec<u32> =
            self.ports.iter().flat_map(|port| port.slots_census().map(|slot| slot.index)).collect();
        now.extend(self.spares.iter().map(Buffer::index));
        now.extend(self.queue.iter().map(|(buffer, ..)| buffer.index()));
        now.sort_unstable();
        if now != self.pool {
            return Err(format!("buffers were {:?}, are {now:?}", self.pool));
        }
        let tokens = self.spares.len() + self.queue.len();
        let out = self.ports[0].region().tokens();
        if tokens == out { Ok(()) } else { Err(format!("{tokens} tokens are held, {out} are out")) }
    }

    /// Takes one frame from a port into the queue.
    pub(crate) fn take(&mut self, side: usize) -> Result<bool, String> {
        let Some(spare) = self.spares.pop() else { return Ok(false) };
        match self.ports[side].rx(0).take(spare) {
            Ok(received) => {
                self.queue.push((received.buffer, received.len, received.flags));
                Ok(true)
            }
            Err(NotTaken::Empty(spare)) => {
                self.spares.push(spare);
                Ok(false)
            }
            Err(NotTaken::Repaired(fault)) => Err(fault.to_string()),
        }
    }

    /// Puts the oldest queued frame into a port's ring.
    pub(crate) fn put(&mut self, side: usize) -> Result<bool, String> {
        if self.queue.is_empty() {
            return Ok(false);
        }
        let (buffer, len, flags) = self.queue.remove(0);
        match self.ports[side].tx(0).put(buffer, len, flags) {
            Ok(Some(completed)) => {
                self.spares.push(completed);
                Ok(true)
            }
            Ok(None) => Err("a transmit slot held no buffer".to_owned()),
            Err(buffer) => {
                self.queue.insert(0, (buffer, len, flags));
                Ok(false)
            }
        }
    }

    /// Ends in order; nothing may be missing in the allocator then.
    pub(crate) fn close(self) {
        let Self { model, ports: [left, right], spares, queue, .. } = self;
        left.close(spares).unwrap();
        right.close(queue.into_iter().map(|(buffer, ..)| buffer)).unwrap();
        let audit = model.audit(1);
        assert_eq!((audit.free, audit.freed_twice.len()), (audit.total, 0));
    }
}

/// A frame that nobody else sent.
pub(crate) fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![number as u8; len.max(8)];
    frame[..4].copy_from_slice(&number.to_be_bytes());
    frame
}
