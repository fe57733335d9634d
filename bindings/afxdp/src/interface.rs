//! One interface with a socket on each of its receive queues, the map that spreads frames over them and the program
//! that does so. Binds all queues or none.

use core::time::Duration;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use crate::bpf::{AttachMode, Link, Program, XskMap};
use crate::error::Error;
use crate::netdev::{NetDevice, Promiscuous};
use crate::socket::{CopyMode, Registration, RingSizes, Socket};
use crate::umem::{Frame, Umem};

/// A closed socket keeps its queue until the kernel's cleanup has run, milliseconds later.
const REBIND: Duration = Duration::from_millis(10);
const REBINDS: u32 = 50;

/// An interface under our control. Dropping it detaches the program and frees the queues.
#[derive(Debug)]
pub struct Interface {
    device: NetDevice,
    sockets: Vec<Socket>,
    mode: AttachMode,
    native_refusal: Option<io::Error>,
    _link: Link,
    _map: XskMap,
    _promiscuous: Promiscuous,
}

impl Interface {
    /// Binds every receive queue of `device`, fills the fill rings from `spares`, and attaches the program: in the
    /// driver if it can, else in the stack. `registrar` is a socket that has registered `umem` before, else the first
    /// queue registers it in mode `copy`. Only the first queue transmits, so what is sent leaves in one order.
    pub fn open(
        device: NetDevice,
        umem: &Arc<Umem>,
        registrar: Option<&Socket>,
        copy: CopyMode,
        sizes: RingSizes,
        spares: &mut Vec<Frame>,
    ) -> Result<Self, Error> {
        device.check_up()?;
        let queues = device.rx_queues()?;
        let name = device.name().to_owned();
        let os = |call| {
            let name = name.clone();
            move |e| Error::os(&name, call, e)
        };
        let promiscuous = device.promiscuous()?;
        let map = XskMap::new(queues).map_err(os("bpf(BPF_MAP_CREATE)"))?;
        let program = Program::redirect(&map).map_err(os("bpf(BPF_PROG_LOAD)"))?;

        let mut sockets: Vec<Socket> = Vec::with_capacity(queues as usize);
        for queue in 0..queues {
            let registration = match registrar.or(sockets.first()) {
                Some(owner) => Registration::Of(owner.as_fd()),
                None => Registration::Own(copy),
            };
            let sizes = RingSizes { tx: if queue == 0 { sizes.tx } else { 0 }, ..sizes };
            let mut socket = bind(&device, queue, umem, &registration, sizes)?;
            socket.fill_from(spares);
            map.set(queue, socket.as_fd()).map_err(os("bpf(BPF_MAP_UPDATE_ELEM)"))?;
            sockets.push(socket);
        }
        let (link, mode, native_refusal) = attach(&program, &device)?;
        Ok(Self { device, sockets, mode, native_refusal, _link: link, _map: map, _promiscuous: promiscuous })
    }

    /// The interface.
    pub fn device(&self) -> &NetDevice {
        &self.device
    }

    /// The sockets by receive queue; never empty, and the first one transmits.
    pub fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// The sockets, to use them.
    pub fn sockets_mut(&mut self) -> &mut [Socket] {
        &mut self.sockets
    }

    /// Where the program runs, and why not in the driver if it does not.
    pub fn mode(&self) -> (AttachMode, Option<&io::Error>) {
        (self.mode, self.native_refusal.as_ref())
    }
}

fn bind(
    device: &NetDevice,
    queue: u32,
    umem: &Arc<Umem>,
    registration: &Registration<'_>,
    sizes: RingSizes,
) -> Result<Socket, Error> {
    let mut tries = 0;
    loop {
        match Socket::bind(device.index(), queue, umem, registration, sizes) {
            Err((_, e)) if e.raw_os_error() == Some(libc::EBUSY) && tries < REBINDS => {
                tries += 1;
                std::thread::sleep(REBIND);
            }
            Err((_, e)) if e.raw_os_error() == Some(libc::EBUSY) => {
                return Err(Error::Busy {
                    name: device.name().to_owned(),
                    what: format!("an AF_XDP socket on queue {queue}"),
                    fix: "stop the program that owns it".to_owned(),
                });
            }
            Err((call, e)) if e.raw_os_error() == Some(libc::ENOBUFS) => {
                return Err(Error::Privilege { call, source: e });
            }
            Err((call, e)) => return Err(Error::os(device.name(), call, e)),
            Ok(socket) => return Ok(socket),
        }
    }
}

fn attach(program: &Program, device: &NetDevice) -> Result<(Link, AttachMode, Option<io::Error>), Error> {
    let failed = |e: io::Error| match e.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => Error::Busy {
            name: device.name().to_owned(),
            what: "an XDP program".to_owned(),
            fix: format!("stop its owner or run `ip link set dev {} xdp off`", device.name()),
        },
        _ => Error::os(device.name(), "bpf(BPF_LINK_CREATE)", e),
    };
    match program.attach(device.index(), AttachMode::Native) {
        Ok(link) => Ok((link, AttachMode::Native, None)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::EEXIST | libc::EPERM)) => {
            Err(failed(e))
        }
        Err(native) => {
            let link = program.attach(device.index(), AttachMode::Skb).map_err(failed)?;
            Ok((link, AttachMode::Skb, Some(native)))
        }
    }
}
