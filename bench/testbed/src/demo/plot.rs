//! The demo's picture: queue delay and throughput of both queues over time, a line a policy, as SVG and as PNG.
//!
//! The PNG is the SVG rasterised with a font that is built in, so it looks the same on a host without fonts.

use std::fmt::Write as _;
use std::sync::Arc;

use resvg::{tiny_skia, usvg};

use crate::series::{Bin, Series};

/// A run to be drawn.
#[derive(Debug, Clone)]
pub struct Trace {
    /// Its policy.
    pub name: String,
    /// Its 100 ms bins.
    pub series: Series,
}

/// What the picture says of all runs.
#[derive(Debug, Clone)]
pub struct Frame {
    /// First line.
    pub title: String,
    /// Second line.
    pub detail: String,
    /// Seconds that are shaded at the beginning.
    pub warmup_s: f64,
    /// Last second.
    pub duration_s: f64,
    /// Rate of the link, Mbit/s.
    pub rate_mbps: f64,
}

/// One of the four panels.
struct Panel {
    title: &'static str,
    value: fn(&Bin) -> Option<f64>,
    /// What the axis reaches at least.
    least: f64,
}

const FONT: &str = "Ubuntu, Helvetica, Arial, sans-serif";
const INK: &str = "#22262b";
const GREY: &str = "#6b727b";
const FAINT: &str = "#e4e7ea";
/// Hues that stay apart in every common form of colour blindness.
const HUES: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

const WIDTH: f64 = 1200.0;
const HEAD: f64 = 92.0;
const PANEL: (f64, f64) = (WIDTH / 2.0, 300.0);
/// Of a panel, around its axes: left, top, right, bottom.
const MARGIN: [f64; 4] = [66.0, 34.0, 24.0, 44.0];
const ZOOM: f32 = 1.5;

const PANELS: [Panel; 4] = [
    Panel { title: "Classic queue: delay (ms)", value: |b| delay(b, 1), least: 5.0 },
    Panel {
        title: "CUBIC through the Classic queue: throughput (Mbit/s)",
        value: |b| Some(b.c_mbps),
        least: 0.0,
    },
    Panel { title: "L queue: delay (ms)", value: |b| delay(b, 0), least: 0.5 },
    Panel { title: "Prague through the L queue: throughput (Mbit/s)", value: |b| Some(b.l_mbps), least: 0.0 },
];

/// Mean delay in a bin that forwarded anything.
fn delay(bin: &Bin, queue: usize) -> Option<f64> {
    let q = bin.queues[queue];
    (q.packets > 0.0).then_some(q.delay_ms)
}

/// Draws the runs into each other.
pub fn svg(frame: &Frame, traces: &[Trace]) -> String {
    let height = HEAD + 2.0 * PANEL.1;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"{FONT}\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, (MARGIN[0], 34.0), 22, INK, "start", &frame.title);
    text(&mut out, (MARGIN[0], 58.0), 14, GREY, "start", &frame.detail);
    let mut x = MARGIN[0];
    for (trace, hue) in traces.iter().zip(HUES.iter().cycle()) {
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"78\" x2=\"{}\" y2=\"78\" stroke=\"{hue}\" stroke-width=\"4\"/>",
            x + 28.0
        );
        text(&mut out, (x + 36.0, 83.0), 15, INK, "start", &trace.name);
        x += 36.0 + 8.5 * trace.name.chars().count() as f64 + 34.0;
    }
    for (i, panel) in PANELS.iter().enumerate() {
        let corner = ((i % 2) as f64 * PANEL.0, HEAD + (i / 2) as f64 * PANEL.1);
        draw(&mut out, corner, panel, frame, traces);
    }
    out + "</svg>\n"
}

fn text(out: &mut String, (x, y): (f64, f64), size: u32, fill: &str, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{fill}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

/// A round step of 3 to 6 parts of an axis.
fn step(span: f64) -> f64 {
    let rough = span / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|d| d * power >= rough).unwrap_or(10.0);
    digit * power
}

fn draw(out: &mut String, (left, top): (f64, f64), panel: &Panel, frame: &Frame, traces: &[Trace]) {
    let [ml, mt, mr, mb] = MARGIN;
    let (width, height) = (PANEL.0 - ml - mr, PANEL.1 - mt - mb);
    let (x0, y0) = (left + ml, top + mt);
    let rate = if panel.least > 0.0 { panel.least } else { frame.rate_mbps };
    let values =
        || traces.iter().flat_map(|t| t.series.within(0.0..frame.duration_s)).filter_map(panel.value);
    let high = values().fold(rate, f64::max) * 1.05;
    let x = |t: f64| x0 + width * (t / frame.duration_s).clamp(0.0, 1.0);
    let y = |v: f64| y0 + height * (1.0 - v / high);
    let _ = writeln!(
        out,
        "<rect x=\"{x0}\" y=\"{y0}\" width=\"{:.1}\" height=\"{height}\" fill=\"{FAINT}\" opacity=\"0.6\"/>",
        x(frame.warmup_s) - x0
    );
    let ticks = |span: f64| {
        let step = step(span);
        (0..).map(move |i| f64::from(i) * step).take_while(move |v| *v <= span)
    };
    for v in ticks(high) {
        let _ = writeln!(
            out,
            "<line x1=\"{x0}\" y1=\"{0:.1}\" x2=\"{1}\" y2=\"{0:.1}\" stroke=\"{FAINT}\"/>",
            y(v),
            x0 + width
        );
        text(out, (x0 - 8.0, y(v) + 4.5), 13, INK, "end", &short(v));
    }
    for t in ticks(frame.duration_s) {
        text(out, (x(t), y0 + height + 18.0), 13, INK, "middle", &short(t));
    }
    text(out, (x0 + width / 2.0, y0 + height + 36.0), 13, GREY, "middle", "time since l4sd began (s)");
    text(out, (x0, y0 - 10.0), 15, INK, "start", panel.title);
    for (trace, hue) in traces.iter().zip(HUES.iter().cycle()) {
        let mut path = String::new();
        let mut pen_down = false;
        for bin in trace.series.within(0.0..frame.duration_s) {
            let Some(v) = (panel.value)(bin) else {
                pen_down = false;
                continue;
            };
            let verb = if pen_down { 'L' } else { 'M' };
            let _ = write!(path, "{verb}{:.1} {:.1}", x(bin.t_s + 0.05), y(v));
            pen_down = true;
        }
        let _ = writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{hue}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>"
        );
    }
    let _ = writeln!(
        out,
        "<path d=\"M{x0} {y0}V{1}H{0}\" fill=\"none\" stroke=\"{GREY}\"/>",
        x0 + width,
        y0 + height
    );
}

/// At most three decimals, without zeros at the end.
fn short(value: f64) -> String {
    format!("{}", (value * 1e3).round() / 1e3)
}

/// Rasterises what [`svg`] drew; the reason if that fails.
pub fn png(svg: &str) -> Result<Vec<u8>, String> {
    let mut fonts = usvg::fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|e| e.to_string())?;
    let size = tree.size();
    let (width, height) = ((size.width() * ZOOM).ceil() as u32, (size.height() * ZOOM).ceil() as u32);
    let mut pixmap = tiny_skia::Pixmap::new(width, height).ok_or("it has no area")?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(ZOOM, ZOOM), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(name: &str, c_delay_ms: f64) -> Trace {
        let mut csv = "t_s,direction,rate_mbps,l_mbps,c_mbps,l_delay_ms,c_delay_ms,p_base,p_coupled,l_marked,c_marked,l_dropped,\
            c_dropped,l_backlog_bytes,c_backlog_bytes,l_packets,c_packets\n"
            .to_owned();
        for i in 0..50 {
            let packets = if i == 20 { 0 } else { 100 };
            let t = f64::from(i) / 10.0;
            let _ = writeln!(
                csv,
                "{t},left_to_right,40,24,15,0.2,{c_delay_ms},0.02,0.04,0,0,0,0,0,0,100,{packets}"
            );
        }
        Trace { name: name.to_owned(), series: Series::parse(&csv).unwrap() }
    }

    fn frame() -> Frame {
        Frame {
            title: "a < b".to_owned(),
            detail: "detail".to_owned(),
            warmup_s: 1.0,
            duration_s: 5.0,
            rate_mbps: 40.0,
        }
    }

    /// 14 ms on an axis to 14.7 ms, 222 units high, whose top is at 92 + 34.
    #[test]
    fn every_policy_has_a_line_in_every_panel() {
        let svg = svg(&frame(), &[trace("dualpi2", 14.0), trace("model", 5.0)]);
        for hue in &HUES[..2] {
            assert_eq!(svg.matches(&format!("fill=\"none\" stroke=\"{hue}\"")).count(), 4, "{hue}");
        }
        assert!(svg.contains("a &lt; b") && svg.contains(">dualpi2<") && svg.contains(">model<"), "{svg}");
        let y = 126.0 + 222.0 * (1.0 - 1.0 / 1.05);
        assert!(svg.contains(&format!("M71.1 {y:.1}L")), "{svg}");
        // A bin without packets has no delay: that line has two parts, the others one.
        let parts = |line: &str| line.matches('M').count();
        let lines: Vec<&str> = svg.lines().filter(|l| l.contains("stroke-linejoin")).collect();
        assert_eq!(lines.iter().map(|l| parts(l)).collect::<Vec<_>>(), [2, 2, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn it_can_be_rasterised() {
        let png = png(&svg(&frame(), &[trace("dualpi2", 14.0)])).unwrap();
        assert!(png.starts_with(b"\x89PNG") && png.len() > 20_000, "{} bytes", png.len());
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([step(42.0), step(14.7), step(1.05), step(13.0)], [10.0, 5.0, 0.5, 5.0]);
    }
}
