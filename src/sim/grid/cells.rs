//! The points of each grid.

use super::regimes::{impaired, switch};
use super::{Draw, Grid, Kind, Point};

/// A flow entry of a scenario file.
pub(super) fn flow(cc: &str, count: u32, rtt: f64) -> String {
    format!("[[flow]]\ncc = \"{cc}\"\ncount = {count}\nrtt = \"{rtt:.3}ms\"\nack_jitter = \"1ms\"\n")
}

/// `l` Prague against `c` CUBIC flows.
pub(super) fn mixed(l: u32, c: u32, rtt: f64) -> String {
    let one = |cc, count| if count > 0 { flow(cc, count, rtt) } else { String::new() };
    one("prague", l) + &one("cubic", c)
}

pub(super) fn link(mbps: f64) -> String {
    format!("[link]\nrate = \"{mbps:.4}Mbit\"\n")
}

fn mix_name(l: u32, c: u32) -> String {
    match (l, c) {
        (_, 0) => "l_only".into(),
        (0, _) => "c_only".into(),
        _ => format!("{l}v{c}"),
    }
}

pub(super) fn smooth(mix: &str) -> Kind {
    Kind { mix: mix.into(), bursty: false, mice: false }
}

pub(super) fn bursty(mix: &str) -> Kind {
    Kind { mix: mix.into(), bursty: true, mice: false }
}

fn mice(mix: &str) -> Kind {
    Kind { mix: mix.into(), bursty: false, mice: true }
}

pub(super) fn point(kind: Kind, rate: f64, rtt: f64, body: impl Fn(&Draw) -> String + 'static) -> Point {
    Point { kind, rate, rtt, seconds: 60.0, body: Box::new(body) }
}

fn constant(l: u32, c: u32, rate: f64, rtt: f64) -> Point {
    point(smooth(&mix_name(l, c)), rate, rtt, move |d| link(d.rate) + &mixed(l, c, d.rtt))
}

/// One against one, L alone, C alone.
const MIXES: [(u32, u32); 3] = [(1, 1), (1, 0), (0, 1)];

impl Grid {
    pub(super) fn points(self) -> Vec<Point> {
        match self {
            Self::Rfc9332 => rfc9332(),
            Self::Flows => flows(),
            Self::Rtt => rtt(),
            Self::Steps => steps(),
            Self::Overload => overload(),
            Self::Web => web(),
            Self::Bursty => bursts(),
            Self::Variable => variable(),
            Self::Lowrate => lowrate(),
            Self::Switch => switch(),
            Self::Impaired => impaired(),
            Self::Smoke => smoke(),
        }
    }
}

/// arXiv 2209.01078, whose 5 x 5 points are the range of RFC 9332.
fn rfc9332() -> Vec<Point> {
    let mut points = Vec::new();
    for (l, c) in MIXES {
        for rate in [4.0, 12.0, 40.0, 120.0, 200.0] {
            for rtt in [5.0, 10.0, 20.0, 50.0, 100.0] {
                points.push(constant(l, c, rate, rtt));
            }
        }
    }
    points
}

/// Numbers of flows a side: arXiv 2209.01078 has them at 40 Mbit/s and 10 ms.
fn flows() -> Vec<Point> {
    let mut points = Vec::new();
    for (l, c) in [(1, 9), (9, 1), (5, 5), (10, 10)] {
        for (rate, rtt) in [(40.0, 10.0), (40.0, 20.0), (100.0, 20.0), (100.0, 50.0)] {
            points.push(constant(l, c, rate, rtt));
        }
    }
    points
}

/// Round trips of CUBIC and of Prague in ms: heistp's l4s-tests, S1.
fn rtt() -> Vec<Point> {
    let mut points = Vec::new();
    for rate in [20.0, 50.0, 100.0] {
        for (c, l) in [
            (10.0, 10.0),
            (20.0, 10.0),
            (80.0, 20.0),
            (160.0, 10.0),
            (10.0, 20.0),
            (20.0, 80.0),
            (10.0, 160.0),
        ] {
            let kind = smooth(&format!("{c}-{l}"));
            // The round trip that is drawn is CUBIC's at 10 ms; all others move with it.
            points.push(point(kind, rate, 10.0, move |d| {
                let factor = d.rtt / 10.0;
                link(d.rate) + &flow("prague", 1, l * factor) + &flow("cubic", 1, c * factor)
            }));
        }
    }
    points
}

/// Steps of the rate (RFC 7928 §8.2.6, heistp's S2) and of the number of flows (RFC 7928 §8.2.4 to §8.2.5).
fn steps() -> Vec<Point> {
    let mut points = Vec::new();
    for (l, c) in [(1, 1), (5, 5)] {
        for (from, to) in [(50.0, 25.0), (50.0, 5.0), (40.0, 10.0), (100.0, 10.0)] {
            let kind = smooth(&format!("rate-{}", mix_name(l, c)));
            points.push(point(kind, 50.0, 20.0, move |d| {
                let factor = d.rate / 50.0;
                let (high, low) = (from * factor, to * factor);
                let (down, up) = (d.at(20.0), d.at(40.0));
                format!(
                    "[link]\nrate = \"{high:.4}Mbit\"\n\
                     steps = [{{ at = {down}, rate = \"{low:.4}Mbit\" }}, {{ at = {up}, rate = \"{high:.4}Mbit\" }}]\n"
                ) + &mixed(l, c, d.rtt)
            }));
        }
    }
    for period in ["200ms", "10s"] {
        points.push(point(smooth("square-1v1"), 50.0, 20.0, move |d| {
            let (high, low) = (d.rate * 2.0, d.rate / 5.0);
            format!(
                "[link]\ngenerator = {{ kind = \"square\", high = \"{high:.4}Mbit\", low = \"{low:.4}Mbit\", \
                 period = \"{period}\" }}\n"
            ) + &mixed(1, 1, d.rtt)
        }));
    }
    for (cc, other) in [("cubic", "prague"), ("prague", "cubic")] {
        for most in [10, 50] {
            let kind = smooth(&format!("load-{}", if cc == "cubic" { "c" } else { "l" }));
            points.push(point(kind, 50.0, 20.0, move |d| {
                let mut text = link(d.rate * 2.0) + &flow(other, 1, d.rtt) + &flow(cc, 1, d.rtt);
                let more = [(9, 15.0, 55.0), (most - 10, 25.0, 45.0)];
                for (count, start, stop) in more.into_iter().filter(|(count, _, _)| *count > 0) {
                    text += &flow(cc, count, d.rtt);
                    text = text + "start = " + &d.at(start) + "\nstop = " + &d.at(stop) + "\n";
                }
                text
            }));
        }
    }
    points
}

/// Traffic that does not respond, as a share of the link.
fn overload() -> Vec<Point> {
    let mut points = Vec::new();
    for rate in [10.0, 40.0] {
        for codepoint in ["ect1", "ect0", "not_ect"] {
            for load in [0.5, 1.0, 1.5, 2.0] {
                points.push(point(smooth(codepoint), rate, 20.0, move |d| {
                    let cbr = format!(
                        "[[flow]]\nkind = \"cbr\"\nload = {load}\ncodepoint = \"{codepoint}\"\nstart = {}\n",
                        d.at(5.0)
                    );
                    link(d.rate) + &mixed(1, 1, d.rtt) + &cbr
                }));
            }
        }
    }
    points
}

/// Short flows beside long ones.
fn web() -> Vec<Point> {
    let mut points = Vec::new();
    for rate in [10.0, 40.0, 100.0] {
        for (name, load) in [("light", 0.1), ("heavy", 0.3)] {
            for (l, c) in MIXES {
                let kind = mice(&format!("{name}-{}", mix_name(l, c)));
                points.push(point(kind, rate, 20.0, move |d| {
                    // As much from CUBIC as from Prague, each in the queue that it belongs to.
                    let short = |cc: &str| {
                        format!(
                            "[[flow]]\nname = \"web-{cc}\"\nkind = \"web\"\ncc = \"{cc}\"\nload = {}\nrtt = \"{:.3}ms\"\n",
                            load / 2.0, d.rtt
                        )
                    };
                    link(d.rate) + &mixed(l, c, d.rtt) + &short("cubic") + &short("prague")
                }));
            }
        }
    }
    points
}

/// Video at 50 and 60 frames a second in L beside Prague, and Prague over a link that sends aggregates of 4 ms.
fn bursts() -> Vec<Point> {
    let mut points = Vec::new();
    for rate in [20.0, 40.0, 100.0] {
        for c in [0, 1] {
            let with = |name: &str| format!("{name}-{}", mix_name(1, c));
            for fps in [50, 60] {
                points.push(point(bursty(&with("video")), rate, 20.0, move |d| {
                    let video = format!(
                        "[[flow]]\nkind = \"video\"\nfps = {fps}\nload = 0.35\ncodepoint = \"ect1\"\n"
                    );
                    link(d.rate) + &mixed(1, c, d.rtt) + &video
                }));
            }
            points.push(point(bursty(&with("aggregates")), rate, 20.0, move |d| {
                link(d.rate)
                    + &format!("{}aggregate = \"4ms\"\n", flow("prague", 1, d.rtt))
                    + &mixed(0, c, d.rtt)
            }));
        }
    }
    points
}

/// Capacities that nobody is told of.
fn variable() -> Vec<Point> {
    let mut points = Vec::new();
    for (l, c) in MIXES {
        for rate in [10.0, 40.0] {
            type Rule = fn(f64) -> String;
            let rules: [(&str, Rule); 4] = [
                ("cellular", |m| format!("{{ kind = \"cellular\", mean = \"{m:.4}Mbit\", sigma = 0.5 }}")),
                ("starlink", |m| format!("{{ kind = \"starlink\", mean = \"{m:.4}Mbit\", sigma = 0.3 }}")),
                ("walk", |m| {
                    let (min, max) = (m / 3.0, m * 3.0);
                    format!(
                        "{{ kind = \"walk\", min = \"{min:.4}Mbit\", max = \"{max:.4}Mbit\", every = \"100ms\", \
                         sigma = 0.1 }}"
                    )
                }),
                ("gilbert", |m| {
                    let (good, bad) = (m * 1.25, m / 4.0);
                    format!(
                        "{{ kind = \"gilbert\", good = \"{good:.4}Mbit\", bad = \"{bad:.4}Mbit\", good_for = \"4s\", \
                         bad_for = \"1s\" }}"
                    )
                }),
            ];
            for (name, rule) in rules {
                let kind = smooth(&format!("{name}-{}", mix_name(l, c)));
                points.push(point(kind, rate, 30.0, move |d| {
                    format!("[link]\ngenerator = {}\n", rule(d.rate)) + &mixed(l, c, d.rtt)
                }));
            }
        }
    }
    points
}

/// Links where a packet takes longer than the ramp is wide.
fn lowrate() -> Vec<Point> {
    let mut points = Vec::new();
    for (l, c) in MIXES {
        for rate in [0.5, 1.0, 2.0, 4.0] {
            for rtt in [20.0, 50.0] {
                points.push(constant(l, c, rate, rtt));
            }
        }
    }
    points
}

fn smoke() -> Vec<Point> {
    MIXES.map(|(l, c)| Point { seconds: 10.0, ..constant(l, c, 20.0, 20.0) }).into()
}
