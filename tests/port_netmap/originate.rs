//! Frames that begin here: what `bench --gen netmap:` needs.

use std::cell::Cell;

use l4sd::load::{Generator, Mix, Offer, Source, Weighted};
use l4sd::port::netmap::NetmapPort;
use l4sd::port::{Originate, PortPair, Side};
use l4sd::runtime::clock::Clock;
use l4sd::time::{Instant, Span};
use l4sd_netmap::model::{Line, Model, NicConfig};

use super::audited::Audited;
use super::options;

/// Every look at it costs a microsecond.
struct Ticking(Cell<Instant>);

impl Clock for Ticking {
    fn now(&self) -> Instant {
        self.0.set(self.0.get() + Span::from_micros(1));
        self.0.get()
    }

    fn sleep(&self, span: Span) {
        self.0.set(self.0.get() + span);
    }
}

#[test]
fn a_frame_begins_in_a_spare_of_either_memory_and_leaves_on_both_sides() {
    for mem_id in [1, 2] {
        let model = Model::default();
        let config = |mem_id| NicConfig { mem_id, ..NicConfig::default() };
        let outsides = [model.nic("em0", config(1)), model.nic("em1", config(mem_id))];
        let second = format!("netmap:em1@{mem_id}");
        let (mut port, mode) =
            NetmapPort::open(&model.netmap(), ["netmap:em0", &second], options()).expect("the model opens");
        assert_eq!(mode.zero_copy, mem_id == 1);
        assert!(port.begin(2049).is_none(), "no buffer is so long");
        let before = port.census();
        for side in Side::BOTH {
            let mut frame = port.begin(60).expect("a spare");
            assert_eq!(port.bytes(&frame).len(), 60);
            port.bytes_mut(&mut frame).fill(7);
            assert_eq!(port.census().spare, before.spare - 1, "held");
            port.send(side, frame, Instant::ZERO).expect("room");
            port.flush(Instant::ZERO).expect("flush");
            assert_eq!(outsides[side.index()].collect(Line::Nic(0)), [[7; 60]], "{side:?}");
            assert_eq!(port.census(), before);
        }
        let mut all = Vec::new();
        while let Some(frame) = port.begin(2048) {
            all.push(frame);
        }
        assert_eq!(all.len(), mode.extra.0 as usize / if mode.zero_copy { 1 } else { 2 });
        for frame in all {
            port.recycle(frame);
        }
        Audited::new(port).census();
        for id in [1, mem_id] {
            let audit = model.audit(id);
            assert_eq!((audit.free, audit.freed_twice), (audit.total, Vec::new()));
        }
    }
}

#[test]
fn what_a_generator_sends_into_a_switch_its_sink_receives() {
    let model = Model::new(8192);
    let names = ["vale0:1", "vale0:2"];
    let (port, _) = NetmapPort::open(&model.netmap(), names, options()).expect("the model opens");
    let before = port.census();
    let parts = ["ect1,not_ect".parse().expect("codepoints"), "ce".parse().expect("a codepoint")];
    let clock = Ticking(Cell::new(Instant::ZERO));
    let [ecn, ce] = parts;
    let mix = |ecn| Mix::new(Weighted::only(594), ecn, "4,6".parse().expect("versions"), 3).expect("a mix");
    let mut generator = Generator::new(port, Source::new(&mix(ecn), 1));
    for mix in [None, Some(mix(ce))] {
        if let Some(mix) = mix {
            generator.set_source(Source::new(&mix, 1));
        }
        generator.restart(Offer::Line, clock.now());
        for sending in [true; 40].into_iter().chain([false; 2]) {
            generator.breath(&clock, sending).expect("a breath");
        }
        let tally = generator.tally();
        let [sent, received] = [tally.total(|seen| seen.sent), tally.total(|seen| seen.received)];
        assert_eq!((sent, received), (40 * 64, 40 * 64));
        assert_eq!(
            (tally.foreign, tally.damaged, generator.refused(), generator.sink_dropped()),
            (0, 0, 0, 0)
        );
        assert_eq!(generator.port().census(), before);
    }
}
