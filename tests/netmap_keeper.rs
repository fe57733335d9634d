//! Keeper and data planes over a real socket: descriptors and record travel, one dies with packets in hand, the next one
//! goes on, and in the end every buffer is back.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use l4sd::port::netmap::keep::{Kept, Record, Restart};
use l4sd::port::netmap::{NetmapOptions, NetmapPort};
use l4sd::port::{PortPair, Side};
use l4sd::runtime::keeper::{Ending, Event, Lease, Offer, Server, borrow};
use l4sd::time::Instant;
use l4sd_netmap::model::{Line, Model, NicConfig, Outside};

const NAMES: [&str; 2] = ["netmap:em0", "netmap:em1"];
const LINE: Line = Line::Nic(0);

/// What `l4sd run --keeper` does to get its ports.
fn data_plane(model: &Model, socket: &Path) -> (NetmapPort, Lease, Restart) {
    let (lease, fds) = borrow(socket, NAMES.map(str::to_owned)).unwrap();
    let record: Record = serde_json::from_value(lease.record.clone()).unwrap();
    let fds = <[OwnedFd; 2]>::try_from(fds).unwrap();
    let (port, restart) = NetmapPort::borrow(&model.netmap(), &record, fds).unwrap();
    (port, lease, restart)
}

fn forward(port: &mut NetmapPort, outsides: &[Outside; 2], frames: u8) {
    for n in 0..frames {
        assert!(outsides[0].inject(LINE, &[n; 60]));
        let mut batch = Vec::new();
        port.recv(Side::Left, 64, &mut batch).unwrap();
        for frame in batch {
            port.send(Side::Right, frame, Instant::ZERO).expect("there is room");
        }
        port.flush(Instant::ZERO).unwrap();
    }
    let out: Vec<u8> = outsides[1].collect(LINE).iter().map(|frame| frame[0]).collect();
    assert_eq!(out, (0..frames).collect::<Vec<_>>());
}

#[test]
fn a_data_plane_dies_and_the_next_one_goes_on_with_the_same_ports() {
    let model = Model::default();
    let outsides = ["em0", "em1"].map(|name| model.nic(name, NicConfig::default()));
    let options = NetmapOptions { held: 0, emulated: false };
    let (kept, _) = Kept::open(&model.netmap(), NAMES, options).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("keeper.sock");
    let server = Server::listen(&socket).unwrap();
    let offer = Offer {
        ports: NAMES.map(str::to_owned),
        record: serde_json::to_value(kept.record()).unwrap(),
        fds: kept.fds().to_vec(),
    };
    let (stop, told) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let tenant = thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let tell = |event| {
                if matches!(event, Event::Returned { ending: Ending::Abrupt, .. }) {
                    assert_eq!(kept.tidy().unwrap().lost, 3);
                }
                told.lock().unwrap().push(event);
            };
            server.serve(&offer, &stop, tell).unwrap()
        });
        let until = |count: usize| {
            while told.lock().unwrap().len() < count {
                thread::sleep(Duration::from_millis(1));
            }
        };

        let (mut port, lease, restart) = data_plane(&model, &socket);
        assert_eq!((restart.lost, restart.repaired), (0, 0));
        forward(&mut port, &outsides, 40);
        let left = outsides[0].clone();
        let died = catch_unwind(AssertUnwindSafe(move || {
            for n in 0..3 {
                assert!(left.inject(LINE, &[n; 60]));
            }
            let mut queue = Vec::new();
            port.recv(Side::Left, 64, &mut queue).unwrap();
            port.flush(Instant::ZERO).unwrap();
            drop(lease);
            let _both = (&port, &queue);
            resume_unwind(Box::new("killed"));
        }));
        assert!(died.is_err());
        until(2);

        let (mut port, lease, restart) = data_plane(&model, &socket);
        assert_eq!((restart.lost, lease.before), (3, Some(Ending::Abrupt)));
        assert_eq!(port.counters(Side::Left).lost_restart, 3);
        assert!(borrow(&socket, NAMES.map(str::to_owned)).is_err(), "one at a time");
        forward(&mut port, &outsides, 200);
        drop(port);
        lease.end().unwrap();
        until(5);
        stop.store(true, Ordering::Relaxed);
        serving.join().unwrap()
    });
    assert_eq!(tenant, None);
    assert!(matches!(told.lock().unwrap().last(), Some(Event::Returned { ending: Ending::Clean, .. })));
    drop(offer);
    kept.close().unwrap();
    let audit = model.audit(1);
    assert_eq!((audit.free, audit.freed_twice), (audit.total, Vec::new()));
    assert_eq!(model.damaged(), 0);
}
