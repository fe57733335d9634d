//! What the contract does not ask of other ports.

#![cfg(target_os = "linux")]

use l4sd::port::netmap::{NetmapOptions, NetmapPort};
use l4sd::port::{PortError, PortPair, Side};
use l4sd::runtime::netmap_check::{self, Wanted};
use l4sd::runtime::severity::Severity;
use l4sd::time::{Instant, Span};
use l4sd_netmap::model::{Line, Model, NicConfig, Outside, TxMode};
use l4sd_netmap::{AdapterMode, Options, SlotFlags};

use super::audited::Audited;
use super::suite::{number, numbered};

const NAMES: [&str; 2] = ["netmap:em0", "netmap:em1"];

fn small(held: u32) -> NetmapOptions {
    NetmapOptions { held, emulated: false }
}

fn system(config: NicConfig) -> (Model, [Outside; 2]) {
    let model = Model::default();
    let outsides = ["em0", "em1"].map(|name| model.nic(name, config));
    (model, outsides)
}

fn opened(config: NicConfig) -> (Model, [Outside; 2], Audited) {
    let (model, outsides) = system(config);
    let (port, _) = NetmapPort::open(&model.netmap(), NAMES, small(0)).expect("the model opens");
    (model, outsides, Audited::new(port))
}

fn refusal(model: &Model, names: [&str; 2], options: NetmapOptions) -> PortError {
    NetmapPort::open(&model.netmap(), names, options).expect_err("is refused")
}

fn at(ms: u64) -> Instant {
    Instant::ZERO + Span::from_millis(ms)
}

#[test]
fn without_spares_the_ring_is_emptied_and_the_drops_are_counted() {
    let (_model, [left, _], mut port) = opened(NicConfig { slots: 64, ..NicConfig::default() });
    let spares = port.census().spare;
    let (mut held, mut batch, mut injected) = (Vec::new(), Vec::new(), 0);
    while held.len() < spares {
        for _ in 0..16 {
            injected += 1;
            assert!(left.inject(Line::Nic(0), &numbered(injected, 60, &[])));
        }
        port.recv(Side::Left, 64, &mut batch).expect("recv");
        held.append(&mut batch);
        port.census();
    }
    let before = port.counters(Side::Left).rx_no_buffer;
    for n in 0..16 {
        assert!(left.inject(Line::Nic(0), &numbered(9000 + n, 60, &[])), "the ring was emptied, so {n} fits");
    }
    port.recv(Side::Left, 1, &mut batch).expect("recv");
    assert!(batch.is_empty());
    assert_eq!(port.counters(Side::Left).rx_no_buffer, before + 16, "all of them, whatever the budget");
    port.recycle(held.pop().expect("many"));
    left.inject(Line::Nic(0), &numbered(9999, 60, &[]));
    port.recv(Side::Left, 64, &mut batch).expect("recv");
    assert_eq!(
        batch.iter().filter_map(|f| number(port.bytes(f))).collect::<Vec<_>>(),
        [9999],
        "nothing old was left"
    );
    port.census();
}

#[test]
fn rings_of_a_port_are_served_in_turn() {
    let config = NicConfig { rx_rings: 3, slots: 64, ..NicConfig::default() };
    let (_model, [left, right], mut port) = opened(config);
    for ring in 0..3_u16 {
        for n in 0..10 {
            left.inject(Line::Nic(ring), &numbered(u32::from(ring) * 100 + n, 60, &[]));
        }
    }
    let mut seen = Vec::new();
    for round in 0..3 {
        let mut batch = Vec::new();
        port.recv(Side::Left, 10, &mut batch).expect("recv");
        let rings: Vec<u32> = batch.iter().filter_map(|f| number(port.bytes(f))).map(|n| n / 100).collect();
        assert_eq!(rings, [round; 10], "each ring comes first once");
        seen.extend(batch);
    }
    for frame in seen {
        port.send(Side::Right, frame, at(0)).expect("room");
    }
    port.flush(at(0)).expect("flush");
    assert_eq!(right.collect(Line::Nic(0)).len(), 30, "one transmit ring carries all");
    port.census();
}

#[test]
fn errors_of_the_driver_and_chains_are_dropped_and_counted() {
    let (_model, [left, _], mut port) = opened(NicConfig { slots: 64, ..NicConfig::default() });
    left.faults(|f| (f.zero_length, f.fragments) = (2, true));
    for (seq, len) in [(1, 60), (2, 60), (3, 60), (4, 5000), (5, 60), (6, 4096), (7, 60)] {
        assert!(left.inject(Line::Nic(0), &numbered(seq, len, &[])), "{seq}");
    }
    let mut batch = Vec::new();
    port.recv(Side::Left, 64, &mut batch).expect("recv");
    assert_eq!(batch.iter().filter_map(|f| number(port.bytes(f))).collect::<Vec<_>>(), [3, 5, 7]);
    let counters = port.counters(Side::Left);
    assert_eq!((counters.rx_kernel_drops, counters.rx_oversize, counters.rx_frames), (2, 2, 3));
    for frame in batch.drain(..) {
        port.recycle(frame);
    }
    port.census();
}

#[test]
fn bytes_are_pending_until_the_nic_has_sent_them_and_a_stall_is_counted_once() {
    let (_model, [left, right], mut port) = opened(NicConfig { slots: 64, ..NicConfig::default() });
    right.faults(|f| f.tx = TxMode::Manual);
    let mut batch = Vec::new();
    for n in 1..=4 {
        left.inject(Line::Nic(0), &numbered(n, 100, &[]));
    }
    port.recv(Side::Left, 64, &mut batch).expect("recv");
    for (n, frame) in batch.drain(..).enumerate() {
        port.send(Side::Right, frame, at(0)).expect("room");
        if n == 2 {
            // The NIC reports the last frame of each flush.
            port.flush(at(0)).expect("flush");
        }
    }
    assert_eq!(port.tx_pending_bytes(Side::Right), 400);
    port.flush(at(1)).expect("flush");
    assert_eq!((port.tx_pending_bytes(Side::Right), port.tx_room(Side::Right)), (400, 59));
    assert_eq!(port.next_deadline(), Some(at(10)), "a stall is looked for");
    right.complete(Line::Nic(0), 3);
    port.flush(at(2)).expect("flush");
    assert_eq!((port.tx_pending_bytes(Side::Right), port.tx_room(Side::Right)), (100, 62), "forced to look");
    for ms in [11, 12, 22, 33] {
        port.flush(at(ms)).expect("flush");
    }
    assert_eq!(port.counters(Side::Right).tx_stalls, 1, "one stall however long");
    right.complete(Line::Nic(0), 1);
    port.flush(at(40)).expect("flush");
    assert_eq!((port.tx_pending_bytes(Side::Right), port.next_deadline()), (0, None));
    assert_eq!(right.collect(Line::Nic(0)).len(), 4);
    port.census();
}

#[test]
fn a_port_that_stops_names_itself() {
    let (_model, [left, _], mut port) = opened(NicConfig::default());
    left.faults(|f| f.stopped = true);
    let message = port.recv(Side::Left, 1, &mut Vec::new()).unwrap_err().to_string();
    assert!(message.starts_with("netmap:em0: "), "{message}");
    assert!(message.contains("gone"), "{message}");
}

#[test]
fn every_buffer_goes_back_when_the_pair_is_dropped() {
    let (model, [left, _], mut port) = opened(NicConfig::default());
    let mut batch = Vec::new();
    for n in 0..10 {
        left.inject(Line::Nic(0), &numbered(n, 60, &[]));
    }
    port.recv(Side::Left, 64, &mut batch).expect("recv");
    for frame in batch {
        port.send(Side::Right, frame, at(0)).expect("room");
    }
    port.flush(at(0)).expect("flush");
    assert!(model.audit(1).free < model.audit(1).total);
    drop(port);
    let audit = model.audit(1);
    assert_eq!((audit.free, audit.freed_twice), (audit.total, Vec::new()));
    assert_eq!(model.damaged(), 0);
}

#[test]
fn the_rings_of_both_ports_come_before_the_extra_buffers() {
    // Two reserved buffers, two rings of 16 slots for each of two NICs, and what is left over.
    let with = |left_over: u32| {
        let model = Model::new(2 + 2 * 2 * 16 + left_over);
        let nics = ["em0", "em1"].map(|name| model.nic(name, NicConfig::default()));
        (model, nics)
    };
    let (model, _nics) = with(64);
    let (port, mode) = NetmapPort::open(&model.netmap(), NAMES, small(1000)).expect("64 are enough");
    assert_eq!((mode.zero_copy, mode.extra), (true, (64, 2025)));
    let census = Audited::new(port).census();
    assert_eq!((census.total, census.spare, census.in_rings), (128, 64, 64));
    assert_eq!(model.audit(1).free, 128, "all went back");

    for left_over in [63, 0] {
        let (model, _nics) = with(left_over);
        let message = refusal(&model, NAMES, small(1000)).to_string();
        assert!(message.contains(&format!("granted {left_over} of 2025")), "{message}");
        assert!(message.contains("killed program"), "{message}");
        assert_eq!(model.audit(1).free, 64 + left_over as usize);
    }

    // A program that was killed with buffers in its hands leaves no room for the rings of the second port.
    let (model, _nics) = with(64);
    let _em2 = model.nic("em2", NicConfig { slots: 2, ..NicConfig::default() });
    let name = "netmap:em2".parse().expect("a name");
    let mut killed =
        model.netmap().open(&name, &Options { extra_buffers: 65, ..Options::default() }).expect("opens");
    killed.take_extra().expect("a chain").into_iter().for_each(drop);
    drop(killed);
    assert_eq!(model.audit(1).free, 63);
    let message = refusal(&model, NAMES, small(1000)).to_string();
    assert!(
        message.starts_with("netmap") && message.contains("no memory") && message.contains("'netmap:em1'"),
        "{message}"
    );
    assert!(message.contains("buf_num") && message.contains("killed program"), "{message}");
    assert_eq!(model.audit(1).free, 63, "nothing more is lost");
}

/// A ring has room for what comes during a breath beside what the breath is taking.
#[test]
fn a_sender_that_never_pauses_fills_every_breath() {
    let model = Model::new(16_384);
    let netmap = model.netmap();
    let (mut port, _) =
        NetmapPort::open(&netmap, ["vale0:left", "vale1:right"], small(2000)).expect("the model opens");
    let name = "vale0:sender".parse().expect("a name");
    let mut sender = netmap.open(&name, &Options { slots: 1024, ..Options::default() }).expect("opens");
    for breath in 0..8 {
        while sender.tx(0).put_copy(&numbered(1, 60, &[]), SlotFlags::NONE) {}
        sender.tx_sync().expect("sync");
        let mut batch = Vec::new();
        port.recv(Side::Left, NetmapPort::BREATH, &mut batch).expect("recv");
        assert!(batch.len() + 1 >= NetmapPort::BREATH, "breath {breath}: {} frames", batch.len());
        for frame in batch {
            port.recycle(frame);
        }
        port.flush(at(breath)).expect("flush");
    }
}

#[test]
fn two_memories_give_extra_buffers_each() {
    let model = Model::new(2 + 2 * 16 + 70);
    let nic = |mem_id| NicConfig { mem_id, ..NicConfig::default() };
    let _nics = [model.nic("em0", nic(1)), model.nic("em1", nic(2))];
    let names = ["netmap:em0", "netmap:em1@2"];
    let (port, mode) = NetmapPort::open(&model.netmap(), names, small(0)).expect("70 are enough");
    assert_eq!((mode.zero_copy, mode.extra), (false, (140, 2050)));
    assert_eq!(port.whereabouts().map(|(slots, spares)| (slots.len(), spares.len())), [(32, 70); 2]);
    drop(port);
    assert_eq!([1, 2].map(|id| model.audit(id).free), [102; 2]);
}

#[test]
fn what_cannot_be_opened_says_why_in_one_line_and_leaves_nothing_behind() {
    let (model, _outsides) = system(NicConfig::default());
    let all = model.audit(1).free;
    let check = |error: PortError, parts: &[&str]| {
        let message = error.to_string();
        for part in parts {
            assert!(message.contains(part), "{message} does not say {part}");
        }
        assert!(!message.contains('\n'));
        assert_eq!(model.audit(1).free, all, "nothing leaks: {message}");
    };
    check(refusal(&model, ["netmap:em0", "netmap:em7"], small(0)), &["netmap:em7", "there"]);
    check(refusal(&model, ["netmap:em0*", "netmap:em1"], small(0)), &["two ports"]);
    check(refusal(&model, ["netmap:em0/R", "netmap:em1"], small(0)), &["both directions"]);
    model.system(|s| s.extra_at_most = 10);
    check(refusal(&model, NAMES, small(1000)), &["granted 10 of 2025", "dev.netmap.buf_num"]);
    model.system(|s| s.extra_at_most = u32::MAX);
    model.system(|s| s.adapter_mode = AdapterMode::Emulated);
    check(refusal(&model, NAMES, small(0)), &["emulated", "netmap_emulated = true", "dev.netmap.admode"]);
    drop(
        NetmapPort::open(&model.netmap(), NAMES, NetmapOptions { held: 0, emulated: true }).expect("allowed"),
    );
    model.system(|s| s.adapter_mode = AdapterMode::Best);
    model.system(|s| s.open_error = Some(2));
    check(refusal(&model, NAMES, small(0)), &["`kldload netmap`", "`modprobe netmap`"]);
    model.system(|s| s.open_error = Some(13));
    let denied = refusal(&model, NAMES, small(0));
    assert!(matches!(denied, PortError::Privilege { .. }));
    check(denied, &["root", "devfs"]);
    model.system(|s| s.open_error = None);
    model.system(|s| s.api = (11, 13));
    check(refusal(&model, NAMES, small(0)), &["API 14"]);
    model.system(|s| s.api = (14, 15));

    let netmap = model.netmap();
    let (first, _) = NetmapPort::open(&netmap, NAMES, small(0)).expect("opens");
    let busy = refusal(&model, NAMES, small(0)).to_string();
    assert!(busy.starts_with("netmap:em0: ") && busy.contains("in use"), "{busy}");
    drop(first);
    assert_eq!(model.audit(1).free, all);

    let rings = NicConfig { rx_rings: 4, tx_rings: 4, ..NicConfig::default() };
    let many = Model::default();
    let (_em0, _em1) = (many.nic("em0", rings), many.nic("em1", rings));
    let one = refusal(&many, ["netmap:em0-1", "netmap:em1"], small(0)).to_string();
    assert!(one.contains("one of 4 rings"), "{one}");
}

/// `check` fails exactly where opening refuses, and in the same words: NICs with and without netmap's support in each mode of
/// the system, emulation allowed and not.
#[test]
fn check_says_native_or_emulated_and_fails_where_opening_refuses() {
    let model = Model::default();
    let config = |native| NicConfig { native, ..NicConfig::default() };
    let _outside = [model.nic("em0", config(true)), model.nic("em1", config(false))];
    let ports = ["netmap:em0", "netmap:em1"].map(str::to_owned);
    let mut seen = Vec::new();
    for mode in [AdapterMode::Best, AdapterMode::Native, AdapterMode::Emulated] {
        model.system(|s| s.adapter_mode = mode);
        for emulated in [false, true] {
            let wanted = Wanted { ports: &ports, interfaces: &[], emulated, keeper: None };
            let notes = netmap_check::adapters(&model.netmap(), &wanted);
            let failed = notes.iter().find(|n| n.severity == Severity::Fail);
            let opened = NetmapPort::open(&model.netmap(), NAMES, NetmapOptions { held: 0, emulated });
            let refused = opened.err().map(|e| e.to_string());
            assert_eq!(
                failed.map(|n| format!("{}: {}", n.subject, n.message)),
                refused,
                "{mode:?} {emulated}"
            );
            seen.push(notes.iter().map(|n| n.severity.label()).collect::<Vec<_>>().join(" "));
            let [em0, em1] = &notes[..] else { panic!("a note for each port: {notes:?}") };
            assert_eq!(em0.message.starts_with("native"), mode != AdapterMode::Emulated, "{em0:?}");
            assert_eq!(em1.message.contains("emulated by netmap"), mode != AdapterMode::Native, "{em1:?}");
            let fix = em1.message.contains("netmap_emulated = true");
            assert_eq!(fix, !emulated, "{em1:?}");
        }
    }
    // In the order above: without and with `netmap_emulated`.
    assert_eq!(seen, ["ok FAIL", "ok warn", "ok FAIL", "ok FAIL", "FAIL FAIL", "warn warn"]);
    // Ports without a driver, and those that a keeper has opened as it was told to.
    let ports = ["vale0:1", "netmap:em1"].map(str::to_owned);
    let keeper = Some(std::path::Path::new("/run/k"));
    let notes = netmap_check::adapters(
        &model.netmap(),
        &Wanted { ports: &ports, interfaces: &[], emulated: false, keeper },
    );
    let [vale, em1] = &notes[..] else { panic!("{notes:?}") };
    assert!(vale.severity == Severity::Ok && vale.message.contains("netmap's own"), "{vale:?}");
    assert_eq!(em1.severity, Severity::Warn);
}
