//! netmap ports for `run`, `check` and `keeper`: opened here or borrowed, and what is said about them.

use std::os::fd::OwnedFd;

use l4sd_netmap::{KILLED, Netmap, PortName, Rings};
use tracing::{info, warn};

use super::exit::{Exit, Failure};
use crate::config::{Config, PortKind, PortSpec};
use crate::port::netmap::keep::Record;
use crate::port::netmap::{NetmapOptions, NetmapPort, PairMode};
use crate::runtime::bridge::FramePlan;
use crate::runtime::keeper::{self, Lease};
use crate::runtime::netmap_check::{self, Note, Wanted};

/// The interface whose NIC rings a netmap port is.
pub(super) fn interface(spec: &PortSpec) -> Option<String> {
    let PortSpec::Netmap(text) = spec else { return None };
    let name: PortName = text.parse().ok()?;
    let nic = matches!(name.rings(), Rings::Nic | Rings::OneNic(_));
    name.interface().filter(|_| nic).map(str::to_owned)
}

/// What the host has to say; nothing unless the ports are netmap's.
pub(super) fn findings(config: &Config) -> Vec<Note> {
    if config.left.kind() != PortKind::Netmap {
        return Vec::new();
    }
    let interfaces: Vec<String> = [&config.left, &config.right].into_iter().filter_map(interface).collect();
    netmap_check::check(&Wanted {
        ports: &[config.left.to_string(), config.right.to_string()],
        interfaces: &interfaces,
        emulated: config.runtime.netmap_emulated,
        keeper: config.runtime.keeper.as_deref(),
    })
}

/// A keeper that has nothing to lend is a mistake.
pub(super) fn refuse_idle_keeper(config: &Config) -> Result<(), Failure> {
    if config.runtime.keeper.is_some() && config.left.kind() != PortKind::Netmap {
        let error = anyhow::anyhow!(
            "runtime.keeper: a keeper lends netmap ports, and {} is none: leave out --keeper, or name netmap ports",
            config.left
        );
        return Err(Failure::new(Exit::Config, error));
    }
    Ok(())
}

pub(super) fn options(config: &Config, plan: FramePlan) -> NetmapOptions {
    NetmapOptions { held: plan.total(), emulated: config.runtime.netmap_emulated }
}

/// Says how a pair is driven, and whether it got less than it wants.
pub(super) fn tell(mode: &PairMode) {
    info!(%mode, "netmap");
    let (granted, asked) = mode.extra;
    if granted < asked {
        warn!(
            "netmap granted {granted} of {asked} extra buffers, so the queues hold less than they may: raise dev.netmap.buf_num; {KILLED}"
        );
    }
}

/// Opens the ports, or borrows them from the keeper.
pub(super) fn open(config: &Config, plan: FramePlan) -> Result<(NetmapPort, Option<Lease>), Failure> {
    let netmap = Netmap::real();
    let names = [config.left.to_string(), config.right.to_string()];
    let Some(path) = &config.runtime.keeper else {
        let (port, mode) = NetmapPort::open(&netmap, [&names[0], &names[1]], options(config, plan))?;
        tell(&mode);
        return Ok((port, None));
    };
    let (lease, fds) = keeper::borrow(path, names)?;
    let garbled =
        || anyhow::anyhow!("the keeper at {} lent something else than two ports: restart it", path.display());
    let record: Record =
        serde_json::from_value(lease.record.clone()).map_err(|_| Failure::new(Exit::Host, garbled()))?;
    let fds = <[OwnedFd; 2]>::try_from(fds).map_err(|_| Failure::new(Exit::Host, garbled()))?;
    let (port, restart) = NetmapPort::borrow(&netmap, &record, fds)?;
    info!(keeper = %path.display(), before = ?lease.before, buffers = restart.free, "ports borrowed");
    if restart.lost > 0 {
        warn!(lost_restart = restart.lost, "the data plane before this one died with packets in its queues");
    }
    if restart.repaired > 0 {
        warn!(slots = restart.repaired, "ring slots were left half done and have been mended");
    }
    let wanted = plan.total();
    if (restart.free as u32) < wanted {
        warn!(
            "the keeper has {} buffers for queues that may hold {wanted}: restart it with this configuration",
            restart.free
        );
    }
    Ok((port, Some(lease)))
}

/// Tells the keeper, if there is one, that all is in order.
pub(super) fn give_back(lease: Option<Lease>) {
    let Some(lease) = lease else { return };
    if let Err(e) = lease.end() {
        warn!("{e}");
    }
}
