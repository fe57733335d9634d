//! Opening, rings, memory regions, pipes, waiting, and the ways in which a port fails.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use core::time::Duration;

use common::{WIRE, frame, open};
use l4sd_netmap::model::{Line, Model, NicConfig, TxMode};
use l4sd_netmap::{AdapterMode, Error, Interest, NotTaken, Options, Port, Ready, SlotFlags};

fn try_open(model: &Model, name: &str, options: &Options) -> Result<Port, Error> {
    model.netmap().open(&name.parse().unwrap(), options)
}

#[test]
fn every_refusal_has_its_own_error_and_says_the_fix() {
    let model = Model::new(128);
    let _em0 = model.nic("em0", NicConfig::default());
    let _veth = model.nic("veth0", NicConfig { native: false, ..NicConfig::default() });
    let _big = model.nic("big0", NicConfig { slots: 256, ..NicConfig::default() });
    let plain = Options::default();
    let says = |result: Result<Port, Error>, part: &str| {
        let message = result.map(drop).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    };
    for (code, part) in [(libc::ENOENT, "kldload netmap"), (libc::ENXIO, "kldload"), (libc::EACCES, "root")] {
        model.system(|system| system.open_error = Some(code));
        says(try_open(&model, "em0", &plain), part);
    }
    model.system(|system| (system.open_error, system.api) = (None, (11, 13)));
    says(try_open(&model, "em0", &plain), "API 14");
    model.system(|system| (system.api, system.map_error) = ((14, 15), Some(libc::ENOMEM)));
    says(try_open(&model, "em0", &plain), "mmap");
    model.system(|system| (system.map_error, system.adapter_mode) = (None, AdapterMode::Native));
    says(try_open(&model, "veth0", &plain), "admode");
    model.system(|system| system.adapter_mode = AdapterMode::Best);
    assert_eq!(model.netmap().adapter_mode(), Some(AdapterMode::Best));
    drop(try_open(&model, "veth0", &plain).unwrap());
    says(try_open(&model, "em7", &plain), "no 'netmap:em7'");
    says(try_open(&model, "em7{1", &plain), "no 'netmap:em7{1'");
    says(try_open(&model, "em0-4", &plain), "no such ring");
    says(try_open(&model, "em0@33", &plain), "memory id");
    says(try_open(&model, "big0", &plain), "buf_num");
    let held = try_open(&model, "em0", &plain).unwrap();
    says(try_open(&model, "em0/x", &plain), "in use");
    says(try_open(&model, "em0", &Options { exclusive: true, ..plain }), "in use");
    drop(held);
    let held = try_open(&model, "em0/x", &plain).unwrap();
    says(try_open(&model, "em0", &plain), "in use");
    drop(held);
    let audit = model.audit(1);
    assert_eq!((audit.free, audit.freed_twice.len()), (126, 0), "nothing is left behind by a refusal");
}

#[test]
fn fewer_extra_buffers_are_granted_than_were_asked_for() {
    let model = Model::new(64);
    let _em0 = model.nic("em0", NicConfig::default());
    model.system(|system| system.extra_at_most = 5);
    let mut port = open(&model.netmap(), "em0", 100);
    assert_eq!((port.registered().extra_buffers, port.extra_chain().unwrap().len()), (5, 5));
    let buffers = port.take_extra().unwrap();
    assert_eq!((buffers.len(), port.take_extra().unwrap().len()), (5, 0));
    port.close(buffers).unwrap();
    model.system(|system| system.extra_at_most = u32::MAX);
    // 62 buffers, of which two rings of 16 take 32.
    let port = open(&model.netmap(), "em0", 100);
    assert_eq!(port.registered().extra_buffers, 30);
    drop(port);
    assert_eq!(model.audit(1).free, 62, "an untouched chain is freed by the kernel");
}

#[test]
fn unequal_numbers_of_rings_and_host_rings_are_told_apart() {
    let model = Model::default();
    let config =
        NicConfig { tx_rings: 2, rx_rings: 3, host_tx_rings: 2, host_rx_rings: 1, ..NicConfig::default() };
    let em0 = model.nic("em0", config);
    let netmap = model.netmap();
    let mut port = open(&netmap, "em0*", 0);
    assert_eq!((port.tx_rings(), port.rx_rings()), (4, 4));
    let lines = [Line::Nic(0), Line::Nic(1), Line::Nic(2), Line::Host(0)];
    for (i, line) in lines.iter().enumerate() {
        assert!(em0.inject(*line, &frame(i as u32, 60)));
    }
    port.rx_sync().unwrap();
    for (i, line) in lines.iter().enumerate() {
        let ring = port.rx(i);
        assert_eq!(ring.bytes(), Some(&frame(i as u32, 60)[..]));
        let index = ring.id().index;
        let named = if ring.id().host { Line::Host(index) } else { Line::Nic(index) };
        assert_eq!((named, ring.id().transmit), (*line, false));
    }
    for (i, line) in [Line::Nic(0), Line::Nic(1), Line::Host(0), Line::Host(1)].iter().enumerate() {
        assert!(port.tx(i).put_copy(&frame(i as u32, 70), SlotFlags::NONE));
        port.tx_sync().unwrap();
        assert_eq!(em0.collect(*line), [frame(i as u32, 70)]);
    }
    drop(port);
    let port = open(&netmap, "em0^", 0);
    assert_eq!((port.tx_rings(), port.rx_rings()), (2, 1));
    drop(port);
    let mut port = open(&netmap, "em0-2", 0);
    assert_eq!((port.tx_rings(), port.rx_rings()), (1, 1));
    assert_eq!(
        (port.rx(0).id().index, port.tx(0).id().index),
        (2, 0),
        "no transmit ring 2: the first is used"
    );
    drop(port);
    let port = open(&netmap, "em0/R", 0);
    assert_eq!((port.tx_rings(), port.rx_rings()), (0, 3));
    drop(port);
    assert_eq!(model.audit(1).free, model.audit(1).total);
}

#[test]
fn ports_of_a_switch_have_memory_of_their_own_and_frames_are_copied() {
    let model = Model::default();
    let netmap = model.netmap();
    let (mut a, mut b) = (open(&netmap, "vale0:a", 2), open(&netmap, "vale0:b", 2));
    assert!(!a.shares_memory_with(&b) && a.has_private_memory());
    assert_ne!(a.region().mem_id(), b.region().mem_id());
    for i in 1..20 {
        assert!(a.tx(0).put_copy(&frame(i, 64), SlotFlags::NONE));
        a.tx_sync().unwrap();
        assert_eq!(a.tx(0).pending_slots(), 0);
        b.rx_sync().unwrap();
        assert_eq!(b.rx(0).bytes(), Some(&frame(i, 64)[..]));
        assert!(b.rx(0).skip() && !b.rx(0).skip());
    }
    let mut spare = a.take_extra().unwrap();
    let foreign = spare.pop().unwrap();
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| b.tx(0).put(foreign, 60, SlotFlags::NONE)));
    assert!(outcome.is_err(), "a buffer of another region opens nothing");
    assert!(a.tx(0).put_copy(&frame(20, 64), SlotFlags::NONE));
    a.tx_sync().unwrap();
    b.rx_sync().unwrap();
    let foreign = spare.pop().unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| b.rx(0).take(foreign)));
    assert!(outcome.is_err(), "nor is it a spare");
    assert_eq!(b.rx(0).bytes(), Some(&frame(20, 64)[..]), "which changed nothing");
}

#[test]
fn a_port_in_the_memory_of_another_shares_its_buffers() {
    let model = Model::default();
    let _em0 = model.nic("em0", NicConfig::default());
    let _iommu = model.nic("em1", NicConfig { mem_id: 2, ..NicConfig::default() });
    let netmap = model.netmap();
    let em0 = open(&netmap, "em0", 0);
    let em1 = open(&netmap, "em1", 0);
    assert!(!em0.shares_memory_with(&em1));
    drop(em1);
    let options = Options { mem_id: Some(em0.region().mem_id()), ..Options::default() };
    let em1 = netmap.open(&"em1".parse().unwrap(), &options).unwrap();
    assert!(em0.shares_memory_with(&em1));
    let vale = open(&netmap, "vale1:x@1", 0);
    assert!(em0.shares_memory_with(&vale) && !vale.has_private_memory());
}

#[test]
fn a_pipe_moves_buffers_between_its_ends() {
    let model = Model::default();
    let netmap = model.netmap();
    let _em0 = model.nic("em0", NicConfig::default());
    for (master, slave) in [("netmap:em0{1", "netmap:em0}1"), ("netmap:{2", "netmap:}2")] {
        let (mut a, mut b) = (open(&netmap, master, 4), open(&netmap, slave, 4));
        assert!(a.shares_memory_with(&b));
        let mem_id = a.region().mem_id();
        let (mut here, mut there) = (a.take_extra().unwrap(), b.take_extra().unwrap());
        for i in 0..100 {
            let mut buffer = here.pop().unwrap();
            a.region().clone().bytes_mut(&mut buffer, 60).copy_from_slice(&frame(i, 60));
            let index = buffer.index();
            here.push(a.tx(0).put(buffer, 60, SlotFlags::NONE).unwrap().unwrap());
            a.tx_sync().unwrap();
            b.rx_sync().unwrap();
            let received = b.rx(0).take(there.pop().unwrap()).unwrap();
            assert_eq!((received.buffer.index(), received.len), (index, 60));
            assert_eq!(b.region().bytes(&received.buffer, 60), frame(i, 60));
            there.push(received.buffer);
            b.rx_sync().unwrap();
            a.tx_sync().unwrap();
            assert_eq!(a.tx(0).pending_slots(), 0);
        }
        a.close(here).unwrap();
        b.close(there).unwrap();
        let audit = model.audit(mem_id);
        assert_eq!((audit.free, audit.freed_twice.len()), (audit.total, 0), "{master}");
    }
}

#[test]
fn waiting_ends_with_a_frame_with_room_or_with_the_time() {
    let model = Model::default();
    let (em0, em1) = (model.nic("em0", NicConfig::default()), model.nic("em1", NicConfig::default()));
    let netmap = model.netmap();
    let (mut left, mut right) = (open(&netmap, "em0", 0), open(&netmap, "em1", 0));
    let read = Interest { read: true, write: false };
    let none = Ready::default();
    let got = Port::wait([(&mut left, read), (&mut right, read)], Duration::from_millis(5)).unwrap();
    assert_eq!(got, [none, none]);
    let sender = std::thread::spawn(move || em0.inject(WIRE, &frame(1, 60)));
    let got = Port::wait([(&mut left, read), (&mut right, read)], Duration::from_secs(20)).unwrap();
    assert!(sender.join().unwrap());
    assert_eq!(got, [Ready { read: true, ..none }, none]);
    assert_eq!(left.rx(0).available(), 1);

    em1.faults(|faults| faults.tx = TxMode::Manual);
    for i in 0..15 {
        assert!(right.tx(0).put_copy(&frame(i, 60), SlotFlags::NONE));
        if i == 1 {
            right.tx_sync().unwrap();
        }
    }
    assert!(!right.tx(0).put_copy(&frame(15, 60), SlotFlags::NONE));
    let write = Interest { read: false, write: true };
    assert_eq!(Port::wait([(&mut right, write)], Duration::from_millis(5)).unwrap(), [none], "a stuck ring");
    assert_eq!((right.tx(0).space(), right.tx(0).pending_slots(), right.tx(0).pending_bytes()), (0, 15, 900));
    em1.complete(WIRE, 2);
    assert_eq!(Port::wait([(&mut right, write)], Duration::ZERO).unwrap(), [Ready { write: true, ..none }]);
    assert_eq!((right.tx(0).space(), right.tx(0).pending_slots()), (2, 13));
    right.tx(0).set_wakeup(2);
    assert_eq!(
        Port::wait([(&mut right, write)], Duration::ZERO).unwrap(),
        [none],
        "two are there, more are wanted"
    );

    em1.faults(|faults| faults.stopped = true);
    assert_eq!(Port::wait([(&mut right, read)], Duration::ZERO).unwrap(), [Ready { error: true, ..none }]);
    let message = right.tx_sync().unwrap_err().to_string();
    assert!(message.contains("'netmap:em1' is gone"), "{message}");
    assert!(matches!(right.rx_sync(), Err(Error::Gone { .. })));
}

/// Slots 0 and 8 of 16 are reported in any case, the others when they are the last of a sync.
#[test]
fn what_has_left_is_known_after_each_sync() {
    let model = Model::default();
    let em0 = model.nic("em0", NicConfig::default());
    let mut port = open(&model.netmap(), "em0", 0);
    for put in [1, 3, 1, 2, 5, 4, 2] {
        for i in 0..put {
            assert!(port.tx(0).put_copy(&frame(i, 60), SlotFlags::NONE));
        }
        port.tx_sync().unwrap();
        assert_eq!((em0.collect(WIRE).len() as u32, port.tx(0).pending_slots()), (put, 0));
    }
    // Of a part nothing is said.
    em0.faults(|faults| faults.tx = TxMode::Manual);
    for i in 0..3 {
        assert!(port.tx(0).put_copy(&frame(i, 60), SlotFlags::NONE));
    }
    port.tx_sync().unwrap();
    for (sent, pending) in [(0, 3), (2, 3), (1, 0)] {
        em0.complete(WIRE, sent);
        port.tx_sync().unwrap();
        assert_eq!(port.tx(0).pending_slots(), pending, "another {sent} have left");
    }
}

#[test]
fn a_lost_link_stops_the_ring_and_its_return_starts_it() {
    let model = Model::default();
    let em0 = model.nic("em0", NicConfig::default());
    let mut port = open(&model.netmap(), "em0", 0);
    em0.faults(|faults| faults.link = false);
    assert!(!em0.inject(WIRE, &frame(1, 60)) && em0.missed(WIRE) == 1);
    assert!(port.tx(0).put_copy(&frame(2, 60), SlotFlags::NONE));
    port.tx_sync().unwrap();
    assert_eq!((port.tx(0).pending_slots(), em0.collect(WIRE).len()), (1, 0));
    em0.faults(|faults| faults.link = true);
    port.tx_sync().unwrap();
    assert_eq!((port.tx(0).pending_slots(), em0.collect(WIRE)), (0, vec![frame(2, 60)]));
}

#[test]
fn lengths_of_zero_and_fragments_come_through_as_they_are() {
    let model = Model::default();
    let em0 = model.nic("em0", NicConfig::default());
    let mut port = open(&model.netmap(), "em0", 4);
    let mut spares = port.take_extra().unwrap();
    em0.faults(|faults| (faults.zero_length, faults.fragments) = (1, true));
    assert!(em0.inject(WIRE, &frame(1, 60)));
    let long = frame(2, 3000);
    assert!(em0.inject(WIRE, &long));
    port.rx_sync().unwrap();
    let received: Vec<_> = (0..3).map(|_| port.rx(0).take(spares.pop().unwrap()).unwrap()).collect();
    let shape: Vec<_> = received.iter().map(|r| (r.len, r.flags.more_fragments())).collect();
    assert_eq!(shape, [(0, false), (2048, true), (952, false)]);
    for part in received.into_iter().skip(1) {
        spares.extend(port.tx(0).put(part.buffer, part.len, part.flags).unwrap());
    }
    port.tx_sync().unwrap();
    assert_eq!(em0.collect(WIRE), [long]);
    assert!(matches!(port.rx(0).take(spares.pop().unwrap()), Err(NotTaken::Empty(_))));
}
