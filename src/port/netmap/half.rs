//! One netmap port of a pair: its rings, what its transmission owes, and its link.

use l4sd_host::Link;
use l4sd_netmap::{Buffer, Port, SlotFlags, SlotInfo, TxRing};

use super::Frame;
use super::open::port_error;
use crate::port::{PortCounters, PortError};
use crate::time::{Instant, Span};

/// Transmission without a completion for so long is a stall: it is counted, and synced once more.
pub(super) const TX_STALL: Span = Span::from_millis(10);
/// A NIC whose link is up and that has completed nothing for so long does not come back by itself.
const TX_DEAD: Span = Span::from_secs(10);

/// Where the frames of a NIC go on the way that all of them take.
const TX_RING: usize = 0;

/// One port.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) port: Port,
    /// As the user wrote it.
    pub(super) spec: String,
    /// The interface, if the port is the NIC rings of one.
    pub(super) link: Option<Link>,
    pub(super) counters: PortCounters,
    /// Which memory it uses: the index of its spares.
    pub(super) pool: usize,
    /// Buffers that slots without a usable index have swallowed.
    pub(super) swallowed: usize,
    first_ring: usize,
    /// A receive ring is in the middle of a frame of several slots, which is being dropped.
    in_chain: Vec<bool>,
    /// The last completion, or the first frame after an idle time.
    tx_progress: Instant,
    /// When a stall was last looked at.
    tx_looked: Instant,
}

impl Half {
    pub(super) fn new(port: Port, spec: String, link: Option<Link>, pool: usize) -> Self {
        Self {
            in_chain: vec![false; port.rx_rings()],
            port,
            spec,
            link,
            counters: PortCounters::default(),
            pool,
            swallowed: 0,
            first_ring: 0,
            tx_progress: Instant::ZERO,
            tx_looked: Instant::ZERO,
        }
    }

    /// Takes up to `budget` frames, ring after ring, a spare for each. Without a spare the rest of what has come is
    /// dropped where it is: a ring that is left full would become a queue that no AQM sees.
    pub(super) fn receive(
        &mut self,
        budget: usize,
        batch: &mut Vec<Frame>,
        spares: &mut Vec<Buffer>,
    ) -> Result<(), PortError> {
        self.port.rx_sync().map_err(|e| port_error(&self.spec, e))?;
        let (before, rings) = (batch.len(), self.port.rx_rings());
        let end = before + budget;
        for turn in 0..rings {
            let index = (self.first_ring + turn) % rings;
            let (ring, in_chain) = (self.port.rx(index), &mut self.in_chain[index]);
            while batch.len() < end
                && let Some(waiting) = ring.waiting()
            {
                let SlotInfo { len, flags, .. } = waiting.slot();
                if flags.more_fragments() || *in_chain {
                    self.counters.rx_oversize += u64::from(!*in_chain);
                    *in_chain = flags.more_fragments();
                    waiting.skip();
                } else if len == 0 {
                    self.counters.rx_kernel_drops += 1;
                    waiting.skip();
                } else if let Some(spare) = spares.pop() {
                    if let Ok(received) = waiting.take(spare) {
                        batch.push(Frame::new(received.buffer, received.len, self.pool));
                    } else {
                        self.counters.rx_kernel_drops += 1;
                        self.swallowed += 1;
                    }
                } else {
                    self.counters.rx_no_buffer += 1;
                    waiting.skip();
                }
            }
        }
        self.counters.rx_frames += (batch.len() - before) as u64;
        self.first_ring = (self.first_ring + 1) % rings;
        Ok(())
    }

    #[inline]
    fn tx(&self) -> &TxRing {
        &self.port.rings().1[TX_RING]
    }

    #[inline]
    pub(super) fn tx_room(&self) -> usize {
        self.tx().space() as usize
    }

    #[inline]
    pub(super) fn tx_has_room(&self) -> bool {
        !self.tx().is_full()
    }

    #[inline]
    pub(super) fn tx_pending_bytes(&self) -> u64 {
        self.tx().pending_bytes()
    }

    #[inline]
    fn is_idle(&self) -> bool {
        self.tx().pending_slots() == 0
    }

    #[inline]
    fn begin(&mut self, now: Instant) {
        // Without a byte on its way it may be idle.
        if self.tx_pending_bytes() == 0 && self.is_idle() {
            (self.tx_progress, self.tx_looked) = (now, now);
        }
    }

    /// Exchanges a buffer of this port's memory for one whose frame has left.
    #[inline(always)]
    pub(super) fn put(&mut self, frame: Frame, now: Instant, spares: &mut Vec<Buffer>) -> Result<(), Frame> {
        self.begin(now);
        let (len, memory) = (frame.len(), frame.memory());
        match self.port.tx(TX_RING).put(frame.buffer, len, SlotFlags::NONE) {
            Ok(Some(completed)) => spares.push(completed),
            Ok(None) => self.swallowed += 1,
            Err(buffer) => return Err(Frame::new(buffer, len, memory)),
        }
        self.counters.tx_frames = self.counters.tx_frames.wrapping_add(1);
        Ok(())
    }

    /// Copies a frame of other memory; there is room.
    pub(super) fn put_copy(&mut self, bytes: &[u8], now: Instant) {
        self.begin(now);
        let copied = self.port.tx(TX_RING).put_copy(bytes, SlotFlags::NONE);
        self.counters.tx_frames += 1;
        self.counters.tx_errors += u64::from(!copied);
    }

    /// Counts a frame that this port cannot carry.
    pub(super) fn refuse(&mut self) {
        self.counters.tx_frames += 1;
        self.counters.tx_errors += 1;
    }

    /// Hands over what was put and looks, by force, what has left.
    pub(super) fn flush(&mut self, now: Instant) -> Result<(), PortError> {
        let before = self.tx().pending_slots();
        if before == 0 {
            return Ok(());
        }
        if let Err(e) = self.port.tx_sync() {
            self.check_link()?;
            return Err(port_error(&self.spec, e));
        }
        if self.tx().pending_slots() < before {
            (self.tx_progress, self.tx_looked) = (now, now);
        } else if now.since(self.tx_looked) >= TX_STALL {
            self.counters.tx_stalls += u64::from(self.tx_looked == self.tx_progress);
            self.tx_looked = now;
            if self.link.is_some() && now.since(self.tx_progress) >= TX_DEAD {
                self.check_link()?;
                let reason = format!(
                    "has sent nothing for {} although {before} frames wait and the link is up: the NIC or its driver \
                     hangs; `ifconfig {1} down && ifconfig {1} up` (Linux: `ip link set {1} down`, then up)",
                    now.since(self.tx_progress),
                    self.link.as_ref().map_or("", Link::name),
                );
                return Err(PortError::Interface { port: self.spec.clone(), reason });
            }
        }
        Ok(())
    }

    /// When a stall has to be looked for, if frames are on their way.
    pub(super) fn next_look(&self) -> Option<Instant> {
        (!self.is_idle()).then(|| self.tx_looked + TX_STALL)
    }

    /// Fails if the interface went down or away, or lost its link.
    pub(super) fn check_link(&self) -> Result<(), PortError> {
        let Some(link) = &self.link else { return Ok(()) };
        let name = link.name();
        let reason = match link.state() {
            Ok(state) if !state.up => {
                format!("went down: `ifconfig {name} up` (Linux: `ip link set {name} up`)")
            }
            Ok(state) if !state.carrier => "lost its link: look at the cable and at the other end".to_owned(),
            Ok(_) => return Ok(()),
            Err(l4sd_host::Error::NoInterface { .. }) => "the interface is gone".to_owned(),
            Err(e) => e.to_string(),
        };
        Err(PortError::Interface { port: self.spec.clone(), reason })
    }
}
