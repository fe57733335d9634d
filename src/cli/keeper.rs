//! `l4sd keeper`: hold netmap ports open and lend them to one `l4sd run` after the other, until stopped.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use l4sd_netmap::Netmap;
use tracing::{info, warn};

use super::exit::{Exit, Failure};
use super::target::Target;
use super::{logging, netmap};
use crate::config::PortKind;
use crate::port::netmap::keep::Kept;
use crate::runtime::bridge::FramePlan;
use crate::runtime::keeper::{Ending, Event, Offer, Server};

/// Arguments of `l4sd keeper`: those of `l4sd run`, whose ports and buffers it must have.
#[derive(Debug, Args)]
pub(super) struct KeeperArgs {
    #[command(flatten)]
    target: Target,
}

/// Runs the verb.
pub(super) fn keeper(args: &KeeperArgs) -> Result<(), Failure> {
    let config = args.target.config()?;
    logging::start(config.log);
    let Some(path) = config.runtime.keeper.clone().filter(|_| config.left.kind() == PortKind::Netmap) else {
        let error = anyhow::anyhow!(
            "a keeper needs two netmap ports and a socket: give --left, --right and --socket, or the file of `l4sd run`"
        );
        return Err(Failure::new(Exit::Usage, error));
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|e| Failure::new(Exit::Internal, e))?;
    }
    let server = Server::listen(&path)?;
    let names = [config.left.to_string(), config.right.to_string()];
    let options = netmap::options(&config, FramePlan::new(&config));
    let (kept, mode) = Kept::open(&Netmap::real(), [&names[0], &names[1]], options)?;
    netmap::tell(&mode);
    let record = serde_json::to_value(kept.record()).map_err(|e| Failure::new(Exit::Internal, e))?;
    let offer = Offer { ports: names, record, fds: kept.fds().to_vec() };
    info!(socket = %path.display(), left = %config.left, right = %config.right, "keeping");
    let tenant = server.serve(&offer, &stop, |event| tell(&kept, &event))?;
    drop((offer, server));
    if let Some(pid) = tenant {
        warn!(pid, "a data plane still has the ports: they close when it ends");
        return Ok(());
    }
    let restart = kept.close()?;
    info!(buffers = restart.free, "ports closed");
    Ok(())
}

fn tell(kept: &Kept, event: &Event) {
    match event {
        Event::Lent { pid } => info!(pid, "ports lent"),
        Event::Refused { pid, reason } => warn!(pid, "refused: {reason}"),
        Event::Returned { pid, ending: Ending::Clean } => info!(pid, "ports returned"),
        Event::Returned { pid, ending: Ending::Abrupt } => {
            warn!(pid, "the data plane died; the ports stay open for the next one");
            match kept.tidy() {
                Ok(r) => info!(
                    lost_restart = r.lost,
                    repaired = r.repaired,
                    free = r.free,
                    "buffers accounted for"
                ),
                Err(e) => warn!("{e}"),
            }
        }
    }
}
