//! The bare data path between two interfaces, both ways, without any queue: what the port itself costs.
//! `forward LEFT RIGHT SECONDS`

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use l4sd_afxdp::{CopyMode, Frame, Interface, NetDevice, RingSizes, Umem, Waiter};

const BATCH: usize = 64;
/// Empty breaths before it sleeps: about 50 us.
const SPINS: u32 = 500;
const SIZES: RingSizes = RingSizes { rx: 2048, tx: 2048 };

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [left, right, seconds] = args.as_slice() else {
        return Err("usage: forward LEFT RIGHT SECONDS".into());
    };
    let devices = [NetDevice::open(left)?, NetDevice::open(right)?];
    let mut frames = 2 * BATCH as u32;
    for device in &devices {
        device.check_offloads()?;
        frames += SIZES.rx * device.rx_queues()? + SIZES.tx;
    }
    let (umem, mut spares) = Umem::new(frames, 2048)?;
    let umem = Arc::new(umem);
    let [left, right] = devices;
    let left = Interface::open(left, &umem, None, CopyMode::Copy, SIZES, &mut spares)?;
    let right = Interface::open(right, &umem, left.sockets().first(), CopyMode::Copy, SIZES, &mut spares)?;
    eprintln!("left {:?}, right {:?}", left.mode(), right.mode());
    let mut waiter = Waiter::new(left.sockets().iter().chain(right.sockets()));
    let mut sides = [left, right];

    let end = now() + Duration::from_secs(seconds.parse()?);
    let (mut forwarded, mut dropped, mut breaths) = (0_u64, 0_u64, 0_u64);
    let mut idle = 0;
    let mut batch: Vec<Frame> = Vec::with_capacity(BATCH);
    while now() < end {
        let mut busy = false;
        for from in 0..2 {
            for socket in sides[from].sockets_mut() {
                socket.fill_from(&mut spares);
                let room = BATCH - batch.len();
                socket.receive(room, &mut batch, &mut spares);
            }
            let out = &mut sides[1 - from].sockets_mut()[0];
            busy |= !batch.is_empty();
            breaths += u64::from(!batch.is_empty());
            for frame in batch.drain(..) {
                match out.transmit(frame) {
                    Ok(()) => forwarded += 1,
                    Err(frame) => {
                        dropped += 1;
                        spares.push(frame);
                    }
                }
            }
            if out.transmitting() > 0 {
                out.submit()?;
                out.complete(&mut spares, |_| ());
            }
        }
        idle = if busy { 0 } else { idle + 1 };
        if idle > SPINS {
            waiter.wait(Duration::from_millis(100))?;
        }
    }
    println!(
        "forwarded {forwarded}, no room for {dropped}, mean batch {:.1}",
        forwarded as f64 / breaths.max(1) as f64
    );
    Ok(())
}
