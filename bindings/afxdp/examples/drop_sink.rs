//! Drops every frame that an interface receives, in the driver, and says how many a second: `drop_sink IFACE SECONDS
//! [WARMUP]`. Prints the mean frames per second after the warm-up.

use std::error::Error;
use std::time::{Duration, Instant};

use l4sd_afxdp::{AttachMode, NetDevice, Program};

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn now() -> Instant {
    Instant::now()
}

fn received(name: &str) -> Result<u64, Box<dyn Error>> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
    let line = table.lines().find_map(|l| l.trim().strip_prefix(name)?.strip_prefix(':'));
    let packets = line.and_then(|l| l.split_whitespace().nth(1)).ok_or("interface vanished")?;
    Ok(packets.parse()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds, rest @ ..] = args.as_slice() else {
        return Err("usage: drop_sink IFACE SECONDS [WARMUP]".into());
    };
    let warmup: f64 = rest.first().map_or(Ok(0.0), |w| w.parse())?;
    let device = NetDevice::open(name)?;
    let _link = Program::drop_all()?.attach(device.index(), AttachMode::Native)?;
    std::thread::sleep(Duration::from_secs_f64(warmup));
    let (start, before) = (now(), received(name)?);
    std::thread::sleep(Duration::from_secs_f64(seconds.parse()?));
    let rate = (received(name)? - before) as f64 / start.elapsed().as_secs_f64();
    println!("{rate:.0}");
    Ok(())
}
