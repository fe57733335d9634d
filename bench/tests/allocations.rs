//! A packet costs no allocation: the forwarder in steady state, telemetry windows and histogram hand-overs included,
//! never asks the allocator for anything. Nor does the load generator, sending and counting.

use l4sd::load::{Generator, Loopback, Mix, Offer, Source, parse_sizes};
use l4sd::runtime::clock::{Clock, Monotonic};
use l4sd::units::BitRate;
use l4sd::wire::set_ce;
use l4sd_bench::{DISCIPLINES, Load, Rig};

mod counting {
    //! An allocator that counts what one thread asks of the system's.

    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;

    struct Counting;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    thread_local! {
        static CALLS: Cell<u64> = const { Cell::new(0) };
    }

    fn count() {
        // During a thread's end the counter may be gone; nobody looks then.
        let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    }

    /// Allocations and reallocations of this thread so far; freeing counts as well, since it costs as much.
    pub(super) fn calls() -> u64 {
        CALLS.with(Cell::get)
    }

    // SAFETY: every call is passed on unchanged to the system's allocator, whose contract is the same; counting
    // touches a const-initialised thread-local `Cell`, which allocates nothing.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            count();
            // SAFETY: the caller keeps `alloc`'s contract.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
            count();
            // SAFETY: the caller keeps `dealloc`'s contract, and `ptr` came from `System`.
            unsafe { System.dealloc(ptr, layout) }
        }

        unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            count();
            // SAFETY: the caller keeps `realloc`'s contract, and `ptr` came from `System`.
            unsafe { System.realloc(ptr, layout, new_size) }
        }
    }
}

#[test]
fn the_counter_counts() {
    let before = counting::calls();
    drop(std::hint::black_box(vec![0u8; 100]));
    assert_eq!(counting::calls() - before, 2);
}

#[test]
fn a_forwarded_packet_costs_no_allocation() {
    // The second rate makes the standing queue long enough in time for marks and drops.
    for rate in [BitRate::MAX, BitRate::from_mbps(1_800), BitRate::from_mbps(100)] {
        for discipline in DISCIPLINES {
            let mut rig = Rig::new(&Load { discipline, frame_bytes: 60, buffers: 4096, rate }).unwrap();
            rig.send(10_000).unwrap();
            let before = counting::calls();
            for _ in 0..20 {
                rig.send(100_000).unwrap();
                rig.read();
            }
            assert_eq!(counting::calls() - before, 0, "{discipline} at {rate}: 2,000,000 packets");
        }
    }
}

#[test]
fn a_generated_frame_costs_no_allocation() {
    let mix = Mix::new(
        parse_sizes("84,594,1518").unwrap(),
        "ect1=3,ect0=1,ce=1,not_ect=4".parse().unwrap(),
        "4,6".parse().unwrap(),
        100,
    );
    let device = |frame: &mut [u8], _| {
        set_ce(frame);
        true
    };
    let mut generator = Generator::new(Loopback::new(device), Source::new(&mix.unwrap(), 1));
    let clock = Monotonic::start();
    for offer in [Offer::Line, Offer::Frames(1e6), Offer::Bits(BitRate::from_mbps(4000))] {
        let before = counting::calls();
        generator.restart(offer, clock.now());
        while generator.tally().total(|seen| seen.received) < 200_000 {
            generator.breath(&clock, true).unwrap();
        }
        assert_eq!(counting::calls() - before, 0, "{offer}: 200,000 frames, the start of the trial included");
    }
}
