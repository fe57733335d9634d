//! A simulated link with five Prague and five CUBIC flows, as much of it as wanted.

use l4sd::aqm::Service;
use l4sd::config::Policy;
use l4sd::egress::Egress;
use l4sd::sim::engine::Probe;
use l4sd::sim::{Scenario, Sim, run};
use l4sd::time::{Instant, Span};

const TEN_FLOWS: &str = "name = \"ten\"\nduration = \"1000s\"\n[link]\nrate = \"100Mbit\"\n\
    [[flow]]\ncc = \"prague\"\ncount = 5\nrtt = \"20ms\"\n[[flow]]\ncc = \"cubic\"\ncount = 5\nrtt = \"20ms\"\n";

/// The simulation, five seconds in.
#[derive(Debug)]
pub struct SimRig {
    sim: Sim<Egress<u32>>,
    now: Instant,
}

/// Counts departures.
#[derive(Debug, Default)]
struct Count(u64);

impl Probe for Count {
    fn forwarded(&mut self, _: Service, _: Span, _: Instant) {
        self.0 += 1;
    }
}

impl SimRig {
    /// Ten flows on 100 Mbit/s, 20 ms, under `dualpi2`.
    ///
    /// # Panics
    /// If the scenario that is built in is none.
    pub fn ten_flows() -> Self {
        let scenario = Scenario::parse(TEN_FLOWS, "ten").expect("a scenario");
        let mut sim = run::simulation(&scenario, &Policy::DualPi2, 1);
        let now = Instant::from_millis(5_000);
        sim.run_until(now, &mut ());
        Self { sim, now }
    }

    /// Runs until at least `packets` more have left, in windows of 16 ms, and says how many did.
    pub fn send(&mut self, packets: u64) -> u64 {
        let mut count = Count::default();
        while count.0 < packets {
            self.now += Span::from_millis(16);
            self.sim.run_until(self.now, &mut count);
            let _ = self.sim.bottleneck().take_window(self.now);
        }
        count.0
    }
}
