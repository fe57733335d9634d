//! A port of the model: a NIC, a VALE port or an end of a pipe, with its rings.

use core::ops::Range;

use l4sd_netmap_sys as sys;
use sys::nmreq_register;

use super::Faults;
use super::kring::Kring;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Nic { native: bool },
    Vale { switch: String },
    Pipe { peer: usize },
}

/// A port, registered or not. The tx and rx rings of the NIC come first, then those of the host.
#[derive(Debug)]
pub(super) struct Adapter {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) memory: usize,
    pub(super) rings: [Vec<Kring>; 2],
    pub(super) own: [u32; 2],
    pub(super) opens: u32,
    pub(super) learned: Vec<[u8; 6]>,
    pub(super) faults: Faults,
}

pub(super) const TX: usize = 0;
pub(super) const RX: usize = 1;

impl Adapter {
    pub(super) fn host(&self) -> [u32; 2] {
        [TX, RX].map(|dir| self.rings[dir].len() as u32 - self.own[dir])
    }

    pub(super) fn slots(&self) -> [u32; 2] {
        [TX, RX].map(|dir| self.rings[dir].first().map_or(0, |ring| ring.slots))
    }

    /// `netmap_interp_ringid`.
    pub(super) fn ranges(&self, body: &nmreq_register) -> Result<[Range<usize>; 2], i32> {
        let (own, host) = (self.own.map(|n| n as usize), self.host().map(|n| n as usize));
        let id = usize::from(body.nr_ringid);
        let needs_host = matches!(body.nr_mode, sys::NR_REG_SW | sys::NR_REG_NIC_SW | sys::NR_REG_ONE_SW);
        if needs_host && host == [0, 0] {
            return Err(libc::EINVAL);
        }
        let mut ranges = [0..0, 0..0];
        for (dir, excluded) in [(TX, sys::NR_RX_RINGS_ONLY), (RX, sys::NR_TX_RINGS_ONLY)] {
            if body.nr_flags & u64::from(excluded) != 0 {
                continue;
            }
            let one = |first: usize, count: usize, counts: [usize; 2]| {
                if id >= counts[TX] && id >= counts[RX] {
                    return Err(libc::EINVAL);
                }
                let ring = first + if id < count { id } else { 0 };
                Ok(ring..ring + 1)
            };
            ranges[dir] = match body.nr_mode {
                sys::NR_REG_ALL_NIC => 0..own[dir],
                sys::NR_REG_SW => own[dir]..own[dir] + host[dir],
                sys::NR_REG_NIC_SW => 0..own[dir] + host[dir],
                sys::NR_REG_ONE_NIC => one(0, own[dir], own)?,
                sys::NR_REG_ONE_SW => one(own[dir], host[dir], host)?,
                _ => return Err(libc::EINVAL),
            };
        }
        Ok(ranges)
    }
}
