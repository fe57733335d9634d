//! Builds the metric families of a scrape from the last state. Names, labels and meanings are public API.

use std::sync::{Arc, Mutex};

use prometheus::core::Desc;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::{
    CONTROL_EDGES_NS, ControllerState, DirectionState, FallbackReason, LookAheadCounts, Reload, State, lock,
};
use crate::aqm::Service;
use crate::aqm::stats::{DELAY_EDGES_NS, DropCause, MarkCause, QueueStats};
use crate::telemetry::Direction;
use crate::wire::Ecn;

type Labels<'a> = &'a [(&'a str, &'a str)];

/// A family and how to fill it.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    fill: fn(&State, &mut Samples),
}

/// The series of one family.
struct Samples {
    kind: MetricType,
    out: Vec<Metric>,
}

impl Samples {
    fn push(&mut self, labels: Labels<'_>, set: impl FnOnce(&mut Metric)) {
        let pair = |&(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        let mut metric = Metric::from_label(labels.iter().map(pair).collect());
        set(&mut metric);
        self.out.push(metric);
    }

    /// A value of the family's own type.
    fn value(&mut self, labels: Labels<'_>, value: f64) {
        let counter = self.kind == MetricType::COUNTER;
        self.push(labels, |metric| {
            if counter {
                let mut c = Counter::default();
                c.set_value(value);
                metric.set_counter(c);
            } else {
                let mut g = Gauge::default();
                g.set_value(value);
                metric.set_gauge(g);
            }
        });
    }

    fn count(&mut self, labels: Labels<'_>, value: u64) {
        self.value(labels, value as f64);
    }

    fn histogram(&mut self, labels: Labels<'_>, edges_ns: &[u64], counts: &[u64], sum_ns: u64) {
        let mut below = 0;
        let cumulative = edges_ns.iter().zip(counts).map(|(&edge, count)| {
            below += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(edge as f64 / 1e9);
            bucket.set_cumulative_count(below);
            bucket
        });
        let mut h = Histogram::default();
        h.set_bucket(cumulative.collect());
        h.set_sample_count(counts.iter().sum());
        h.set_sample_sum(sum_ns as f64 / 1e9);
        self.push(labels, |metric| metric.set_histogram(h));
    }

    fn per_direction(&mut self, state: &State, each: impl Fn(&mut Self, &'static str, &DirectionState)) {
        for direction in Direction::BOTH {
            each(self, direction.label(), &state.directions[direction.index()]);
        }
    }

    fn look_ahead(&mut self, state: &State, value: fn(&LookAheadCounts) -> u64) {
        for direction in Direction::BOTH {
            let (counts, _) = &state.control.look_ahead[direction.index()];
            self.count(&[("direction", direction.label())], value(counts));
        }
    }

    fn per_queue(&mut self, state: &State, each: impl Fn(&mut Self, [(&str, &str); 2], &QueueStats)) {
        self.per_direction(state, |s, direction, d| {
            for service in Service::BOTH {
                each(s, [("direction", direction), ("queue", service.label())], d.egress.queue(service));
            }
        });
    }
}

const fn counter(name: &'static str, help: &'static str, fill: fn(&State, &mut Samples)) -> Family {
    Family { name, help, kind: MetricType::COUNTER, fill }
}

const fn gauge(name: &'static str, help: &'static str, fill: fn(&State, &mut Samples)) -> Family {
    Family { name, help, kind: MetricType::GAUGE, fill }
}

const FAMILIES: &[Family] = &[
    gauge("l4sd_build_info", "What this binary is; always 1.", |state, s| {
        let b = &state.build;
        let labels = [
            ("version", b.version.as_str()),
            ("revision", &b.revision),
            ("rustc", &b.rustc),
            ("backend", &b.backend),
            ("model_sha256", &b.model_sha256),
        ];
        s.count(&labels, 1);
    }),
    gauge("l4sd_config_hash_info", "Fingerprint of the configuration in force; always 1.", |state, s| {
        s.count(&[("hash", &format!("{:016x}", state.config.fingerprint))], 1);
    }),
    counter(
        "l4sd_config_reloads_total",
        "Requests to reread the configuration, by what came of them.",
        |state, s| {
            for each in Reload::ALL {
                s.count(&[("result", each.label())], state.config.reloads[each as usize]);
            }
        },
    ),
    gauge(
        "l4sd_config_last_reload_success",
        "1 if the configuration that was read last is in force, the start included.",
        |state, s| s.count(&[], u64::from(state.config.last_succeeded)),
    ),
    gauge(
        "l4sd_config_last_reload_timestamp_seconds",
        "When the configuration in force was read last, in seconds since 1970.",
        |state, s| s.value(&[], state.config.loaded_at),
    ),
    counter(
        "l4sd_forwarded_bytes_total",
        "Bytes forwarded: L2 frames plus the configured overhead.",
        |state, s| {
            s.per_queue(state, |s, labels, q| s.count(&labels, q.forwarded.bytes));
        },
    ),
    counter(
        "l4sd_packets_total",
        "Packets that arrived, were presented to the AQM, and were forwarded (RFC 9332 section 2.5.2.2).",
        |state, s| {
            s.per_queue(state, |s, [direction, queue], q| {
                for (stage, tally) in
                    [("arrived", q.arrived), ("aqm", q.presented), ("forwarded", q.forwarded)]
                {
                    s.count(&[direction, queue, ("stage", stage)], tally.packets);
                }
            });
        },
    ),
    counter("l4sd_marked_packets_total", "Packets changed to CE here, by what asked for it.", |state, s| {
        s.per_queue(state, |s, [direction, queue], q| {
            for cause in MarkCause::ALL {
                s.count(&[direction, queue, ("cause", cause.label())], q.marked[cause as usize]);
            }
        });
    }),
    counter("l4sd_dropped_packets_total", "Packets dropped, by cause and ECN capability.", |state, s| {
        s.per_queue(state, |s, [direction, queue], q| {
            for cause in DropCause::ALL {
                for (ecn, tally) in ["not_ect", "ect"].into_iter().zip(q.dropped[cause as usize]) {
                    s.count(&[direction, queue, ("ecn", ecn), ("cause", cause.label())], tally.packets);
                }
            }
        });
    }),
    Family {
        name: "l4sd_queue_delay_seconds",
        help: "Delay of forwarded packets from arrival to start of transmission.",
        kind: MetricType::HISTOGRAM,
        fill: |state, s| {
            s.per_direction(state, |s, direction, d| {
                for service in Service::BOTH {
                    let labels = [("direction", direction), ("queue", service.label())];
                    let h = &d.delays[service.index()];
                    s.histogram(&labels, &DELAY_EDGES_NS, &h.counts, h.sum_ns);
                }
            });
        },
    },
    gauge(
        "l4sd_queue_delay_max_seconds",
        "Longest delay of a forwarded packet in the last 10 to 20 s.",
        |state, s| {
            s.per_direction(state, |s, direction, d| {
                for service in Service::BOTH {
                    let longest = d.longest[service.index()].get().as_nanos() as f64 / 1e9;
                    s.value(&[("direction", direction), ("queue", service.label())], longest);
                }
            });
        },
    ),
    gauge("l4sd_tx_pending_bytes", "Bytes in transmit rings, behind the queues.", |state, s| {
        s.per_direction(state, |s, direction, d| {
            s.count(&[("direction", direction)], d.tx_pending_bytes);
        });
    }),
    gauge("l4sd_queue_bytes", "Bytes waiting.", |state, s| {
        s.per_direction(state, |s, direction, d| {
            for service in Service::BOTH {
                let labels = [("direction", direction), ("queue", service.label())];
                s.count(&labels, d.egress.backlog[service.index()].bytes);
            }
        });
    }),
    gauge(
        "l4sd_memory_limit_bytes",
        "Most bytes that both queues of a direction may hold together.",
        |state, s| {
            s.per_direction(state, |s, direction, d| {
                s.count(&[("direction", direction)], d.egress.limit_bytes);
            });
        },
    ),
    counter("l4sd_capacity_bytes_total", "Bytes that the shaper could have sent.", |state, s| {
        s.per_direction(state, |s, direction, d| {
            s.value(&[("direction", direction)], (d.capacity_bits / 8) as f64);
        });
    }),
    gauge(
        "l4sd_probability",
        "p' (base), p_CL (coupled) and p_C (classic) of RFC 9332 appendix A.",
        |state, s| {
            s.per_direction(state, |s, direction, d| {
                let p = d.egress.p;
                for (kind, value) in [("base", p.base), ("coupled", p.coupled), ("classic", p.classic)] {
                    s.value(&[("direction", direction), ("kind", kind)], value);
                }
            });
        },
    ),
    counter("l4sd_overload_seconds_total", "Time spent saturated (RFC 9332 section 2.5.2.3).", |state, s| {
        s.per_direction(state, |s, direction, d| {
            s.value(&[("direction", direction)], d.egress.overload.total.as_nanos() as f64 / 1e9);
        });
    }),
    gauge("l4sd_overload_state", "1 while saturated.", |state, s| {
        s.per_direction(state, |s, direction, d| {
            s.count(&[("direction", direction)], u64::from(d.egress.overload.active));
        });
    }),
    counter("l4sd_overload_episodes_total", "Times that saturation began.", |state, s| {
        s.per_direction(state, |s, direction, d| {
            s.count(&[("direction", direction)], d.egress.overload.episodes);
        });
    }),
    counter("l4sd_frames_total", "Frames that arrived, by kind.", |state, s| {
        s.per_direction(state, |s, direction, d| {
            for &(kind, count) in &d.frames {
                s.count(&[("direction", direction), ("kind", kind)], count);
            }
        });
    }),
    counter(
        "l4sd_unparsed_packets_total",
        "Frames that arrived without an ECN field to be found.",
        |state, s| {
            s.per_direction(state, |s, direction, d| {
                for &(kind, count) in d.frames.iter().filter(|(kind, _)| !matches!(*kind, "ipv4" | "ipv6")) {
                    s.count(&[("direction", direction), ("reason", kind)], count);
                }
            });
        },
    ),
    counter("l4sd_ecn_packets_total", "IP packets that arrived, by ECN codepoint.", |state, s| {
        s.per_direction(state, |s, direction, d| {
            for codepoint in Ecn::ALL {
                let name = match codepoint {
                    Ecn::NotEct => "not_ect",
                    Ecn::Ect1 => "ect1",
                    Ecn::Ect0 => "ect0",
                    Ecn::Ce => "ce",
                };
                s.count(&[("direction", direction), ("codepoint", name)], d.ecn[codepoint as usize]);
            }
        });
    }),
    gauge("l4sd_link_up", "1 while the port's link is up.", |state, s| {
        for (name, port) in state.names.iter().zip(state.ports) {
            s.count(&[("interface", name)], u64::from(port.up));
        }
    }),
    counter("l4sd_port_received_frames_total", "Frames taken from the port.", |state, s| {
        for (name, port) in state.names.iter().zip(state.ports) {
            s.count(&[("interface", name)], port.counters.rx_frames);
        }
    }),
    counter(
        "l4sd_port_lost_frames_total",
        "Frames lost outside the queues: no spare buffer, too long for one, dropped by kernel or NIC, or held by a data \
         plane that died.",
        |state, s| {
            for (name, port) in state.names.iter().zip(state.ports) {
                let c = port.counters;
                for (cause, count) in [
                    ("no_buffer", c.rx_no_buffer),
                    ("oversize", c.rx_oversize),
                    ("kernel", c.rx_kernel_drops),
                    ("restart", c.lost_restart),
                ] {
                    s.count(&[("interface", name), ("cause", cause)], count);
                }
            }
        },
    ),
    counter("l4sd_port_sent_frames_total", "Frames handed to the port.", |state, s| {
        for (name, port) in state.names.iter().zip(state.ports) {
            s.count(&[("interface", name)], port.counters.tx_frames);
        }
    }),
    counter(
        "l4sd_port_send_errors_total",
        "Frames handed to the port that kernel or NIC refused.",
        |state, s| {
            for (name, port) in state.names.iter().zip(state.ports) {
                s.count(&[("interface", name)], port.counters.tx_errors);
            }
        },
    ),
    counter(
        "l4sd_port_transmit_stalls_total",
        "Times that transmission came to a halt with frames on their way.",
        |state, s| {
            for (name, port) in state.names.iter().zip(state.ports) {
                s.count(&[("interface", name)], port.counters.tx_stalls);
            }
        },
    ),
    gauge("l4sd_controller_state", "1 for who sets the AQM's parameters, 0 for the others.", |state, s| {
        for each in ControllerState::ALL {
            s.count(&[("state", each.label())], u64::from(each == state.controller));
        }
    }),
    counter(
        "l4sd_controller_fallbacks_total",
        "Times that a controller's decisions stopped being followed, by reason.",
        |state, s| {
            for (reason, count) in FallbackReason::ALL.into_iter().zip(state.control.fallbacks) {
                s.count(&[("reason", reason.label())], count);
            }
        },
    ),
    gauge(
        "l4sd_controller_decision_age_seconds",
        "Time since the window closed that the decision in force was made from; 0 without one.",
        |state, s| {
            for direction in Direction::BOTH {
                let age = state.control.decision_age[direction.index()];
                s.value(&[("direction", direction.label())], age.unwrap_or_default().as_secs_f64());
            }
        },
    ),
    Family {
        name: "l4sd_inference_duration_seconds",
        help: "Time that the controller took for a decision.",
        kind: MetricType::HISTOGRAM,
        fill: |state, s| {
            for direction in Direction::BOTH {
                let i = &state.control.inference[direction.index()];
                s.histogram(&[("direction", direction.label())], &CONTROL_EDGES_NS, &i.counts, i.sum_ns);
            }
        },
    },
    Family {
        name: "l4sd_controller_admission_seconds",
        help: "Time from the end of a window until the decision made of it was admitted.",
        kind: MetricType::HISTOGRAM,
        fill: |state, s| {
            for direction in Direction::BOTH {
                let a = &state.control.admission[direction.index()];
                s.histogram(&[("direction", direction.label())], &CONTROL_EDGES_NS, &a.counts, a.sum_ns);
            }
        },
    },
    counter("l4sd_look_ahead_ticks_total", "Decisions of a policy that looks ahead.", |state, s| {
        s.look_ahead(state, |counts| counts.ticks);
    }),
    counter(
        "l4sd_look_ahead_verified_ticks_total",
        "Those of them that the verifier had agreed to in advance.",
        |state, s| s.look_ahead(state, |counts| counts.verified),
    ),
    counter(
        "l4sd_look_ahead_voided_plans_total",
        "Plans of the verifier that something unforeseen made void.",
        |state, s| s.look_ahead(state, |counts| counts.voided),
    ),
    counter("l4sd_look_ahead_calls_total", "Calls of the verifier.", |state, s| {
        s.look_ahead(state, |counts| counts.calls);
    }),
    Family {
        name: "l4sd_look_ahead_call_duration_seconds",
        help: "Time that a call of the verifier took.",
        kind: MetricType::HISTOGRAM,
        fill: |state, s| {
            for direction in Direction::BOTH {
                let (_, t) = &state.control.look_ahead[direction.index()];
                s.histogram(&[("direction", direction.label())], &CONTROL_EDGES_NS, &t.counts, t.sum_ns);
            }
        },
    },
];

/// What the registry asks at every scrape.
pub(super) struct Collector {
    state: Arc<Mutex<State>>,
    descs: Vec<Desc>,
}

impl Collector {
    pub(super) fn new(state: Arc<Mutex<State>>) -> Self {
        let desc = |f: &Family| {
            Desc::new(f.name.into(), f.help.into(), Vec::new(), std::collections::HashMap::new())
                .expect("the names and helps above are valid")
        };
        Self { state, descs: FAMILIES.iter().map(desc).collect() }
    }
}

impl prometheus::core::Collector for Collector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let state = lock(&self.state);
        let one = |f: &Family| {
            let mut samples = Samples { kind: f.kind, out: Vec::new() };
            (f.fill)(&state, &mut samples);
            let mut family = MetricFamily::default();
            family.set_name(f.name.into());
            family.set_help(f.help.into());
            family.set_field_type(f.kind);
            family.set_metric(samples.out);
            family
        };
        FAMILIES.iter().map(one).collect()
    }
}
