//! The tree: text to nodes, features to a setting.
//!
//! A line is `if SIGNAL < VALUE UNIT:`, `if SIGNAL mean over 4 s < VALUE UNIT:` (or `std`), `else:`, or a setting
//! `target 5 ms, gain 1, ramp 0.8 ms`; what belongs to an `if` or `else` is four spaces deeper. A `#` begins a comment.

use crate::aqm::params::Knobs;
use crate::control::guard::GuardParams;
use crate::telemetry::features::schema::{Schema, Signal};
use crate::time::Span;

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 16;

/// A line of the tree, from 1, and what is wrong there.
type Fault = (usize, String);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// The next node if the feature is below the threshold, else the one at `otherwise`.
    Split {
        feature: usize,
        below: f32,
        otherwise: usize,
    },
    Leaf(Knobs),
}

/// Nodes in the order of the text; the first is the root.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    depth: usize,
}

/// A line that says something.
struct Line<'a> {
    number: usize,
    level: usize,
    text: &'a str,
}

impl Tree {
    /// Reads the text of a tree.
    pub(super) fn parse(text: &str, schema: &Schema) -> Result<Self, Fault> {
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let code = line.split('#').next().unwrap_or_default().trim_end();
            let text = code.trim_start();
            let indent = code.len() - text.len();
            if !text.is_empty() {
                if indent % 4 != 0 {
                    return Err((number, format!("indented by {indent} spaces; each level is four")));
                }
                lines.push(Line { number, level: indent / 4, text });
            }
        }
        let mut reader =
            Reader { lines: &lines, at: 0, nodes: Vec::new(), depth: 0, schema, names: schema.names() };
        reader.node(0)?;
        if let Some(line) = lines.get(reader.at) {
            return Err((line.number, format!("'{}' belongs to no 'if'; the tree ends above it", line.text)));
        }
        Ok(Self { nodes: reader.nodes, depth: reader.depth })
    }

    /// What the tree wants when it sees these features.
    pub(super) fn setting(&self, features: &[f32]) -> Knobs {
        let mut at = 0;
        loop {
            match self.nodes[at] {
                Node::Leaf(knobs) => return knobs,
                Node::Split { feature, below, otherwise } => {
                    at = if features[feature] < below { at + 1 } else { otherwise };
                }
            }
        }
    }

    /// Number of leaves.
    #[cfg(test)]
    pub(super) fn leaves(&self) -> usize {
        self.nodes.iter().filter(|n| matches!(n, Node::Leaf(_))).count()
    }

    /// Most conditions from the root to a leaf.
    #[cfg(test)]
    pub(super) const fn depth(&self) -> usize {
        self.depth
    }
}

struct Reader<'a> {
    lines: &'a [Line<'a>],
    at: usize,
    nodes: Vec<Node>,
    depth: usize,
    schema: &'a Schema,
    names: Vec<String>,
}

impl<'a> Reader<'a> {
    /// The next line, which must be at `level`.
    fn line(&mut self, level: usize, wanted: &str) -> Result<&'a Line<'a>, Fault> {
        let last = self.lines.last().map_or(1, |l| l.number);
        let line = self
            .lines
            .get(self.at)
            .ok_or_else(|| (last, format!("the tree ends where {wanted} is missing")))?;
        if line.level != level {
            let reason =
                format!("'{}' is at level {}; {wanted} is wanted at level {level}", line.text, line.level);
            return Err((line.number, reason));
        }
        self.at += 1;
        Ok(line)
    }

    fn node(&mut self, level: usize) -> Result<(), Fault> {
        let line = self.line(level, "a setting or an 'if'")?;
        if level > MAX_DEPTH {
            return Err((line.number, format!("deeper than {MAX_DEPTH} levels")));
        }
        let fault = |reason| (line.number, reason);
        let Some(condition) = line.text.strip_prefix("if ") else {
            self.nodes.push(Node::Leaf(setting(line.text).map_err(fault)?));
            self.depth = self.depth.max(level);
            return Ok(());
        };
        let (feature, below) = self.condition(condition).map_err(fault)?;
        let here = self.nodes.len();
        self.nodes.push(Node::Split { feature, below, otherwise: 0 });
        self.node(level + 1)?;
        let line = self.line(level, "'else:'")?;
        if line.text != "else:" {
            return Err((
                line.number,
                format!("'{}' stands where the 'else:' of the 'if' above is missing", line.text),
            ));
        }
        let otherwise = self.nodes.len();
        self.nodes[here] = Node::Split { feature, below, otherwise };
        self.node(level + 1)
    }

    /// `SIGNAL [mean|std over S s] < VALUE UNIT:` as a feature and a normalised threshold.
    fn condition(&self, text: &str) -> Result<(usize, f32), String> {
        let form = || format!("'if {text}' is not of the form 'if rtt_c mean over 16 s < 21 ms:'");
        let (what, value) = text.strip_suffix(':').and_then(|t| t.split_once(" < ")).ok_or_else(form)?;
        let words: Vec<&str> = what.split(' ').collect();
        let name = match words[..] {
            [name] => name.to_owned(),
            [name, of @ ("mean" | "std"), "over", seconds, "s"] => format!("{name}.{of}_{seconds}s"),
            _ => return Err(form()),
        };
        let signal = self.schema.signals.iter().find(|s| s.name == words[0]);
        let (Some(signal), Some(feature)) = (signal, self.names.iter().position(|n| *n == name)) else {
            return Err(format!("'{what}' is not a feature of models/schema.toml"));
        };
        let threshold = quantity(value, &signal.unit)?;
        Ok((
            feature,
            normalised(signal, threshold).ok_or_else(|| {
                format!(
                    "{value} is beyond what the feature of '{}' can tell (its clip in models/schema.toml)",
                    signal.name
                )
            })?,
        ))
    }
}

/// The feature of a threshold, unless it is at the edge of what features can be.
fn normalised(signal: &Signal, threshold: f64) -> Option<f32> {
    let y = signal.normalise(threshold);
    (f64::from(y.abs()) < signal.clip).then_some(y)
}

/// A number with its unit, in the unit of a signal.
fn quantity(text: &str, unit: &str) -> Result<f64, String> {
    const UNITS: [(&str, &[(&str, f64)]); 5] = [
        ("s", &[("s", 1.0), ("ms", 1e-3), ("us", 1e-6)]),
        ("bit/s", &[("bit/s", 1.0), ("kbit/s", 1e3), ("Mbit/s", 1e6), ("Gbit/s", 1e9)]),
        ("B", &[("B", 1.0), ("kB", 1e3)]),
        ("1/s", &[("/s", 1.0)]),
        ("1", &[("", 1.0)]),
    ];
    let known = UNITS.iter().find(|(of, _)| *of == unit).map_or(&[] as &[_], |(_, known)| *known);
    let (number, suffix) = text.split_once(' ').unwrap_or((text, ""));
    let factor = known.iter().find(|(name, _)| *name == suffix).map(|(_, factor)| factor);
    match (number.parse::<f64>(), factor) {
        (Ok(x), Some(factor)) if x.is_finite() => Ok(x * factor),
        _ => {
            let names: Vec<String> =
                known.iter().map(|(name, _)| format!("'{}'", format!("21 {name}").trim_end())).collect();
            Err(format!("'{text}' is not a number with a unit like {}", names.join(", ")))
        }
    }
}

/// `target 5 ms, gain 1, ramp 0.8 ms`, within the guard's bounds.
fn setting(text: &str) -> Result<Knobs, String> {
    let form = || format!("'{text}' is not of the form 'target 5 ms, gain 1, ramp 0.8 ms'");
    let parts: Vec<&str> = text.split(", ").collect();
    let [target, gain, ramp] = parts[..] else { return Err(form()) };
    let of = |part: &str, name: &str, unit| {
        let value = part.strip_prefix(name).and_then(|v| v.strip_prefix(' ')).ok_or_else(form)?;
        quantity(value, unit)
    };
    let bounds = GuardParams::default();
    let time = |part, name, (least, most): (Span, Span)| {
        let seconds = of(part, name, "s")?;
        if (least.as_secs_f64()..=most.as_secs_f64()).contains(&seconds) {
            Ok(Span::from_secs_f64(seconds))
        } else {
            let ms = [least, most].map(Span::as_millis_f64);
            Err(format!("{name} must be from {} ms to {} ms", ms[0], ms[1]))
        }
    };
    let knobs = Knobs {
        target: time(target, "target", bounds.target)?,
        gain: of(gain, "gain", "1")?,
        ramp_min: time(ramp, "ramp", bounds.ramp_min)?,
        feed_forward: 1.0,
    };
    let (least, most) = (bounds.gain[0], bounds.gain[bounds.gain.len() - 1]);
    if (least..=most).contains(&knobs.gain) {
        Ok(knobs)
    } else {
        Err(format!("gain must be from {least} to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
if link_rate < 12 Mbit/s:
    target 15 ms, gain 1, ramp 0.8 ms  # slow
else:
    if rtt_c mean over 16 s < 20 ms:
        if packets_l mean over 4 s < 300 /s:
            target 10 ms, gain 1.4, ramp 800 us
        else:
            target 5 ms, gain 0.5, ramp 2 ms
    else:
        if share_l std over 4 s < 0.25:
            target 7.5 ms, gain 1, ramp 0.8 ms
        else:
            if burst_p90_l < 3 kB:
                target 0.0025 s, gain 1, ramp 0.8 ms
            else:
                target 20 ms, gain 2, ramp 8 ms
";

    /// By hand from the schema: ln(12/40) = -1.20397; ln(1 + 20/10) = 1.09861; ln(1 + 300/100) = 1.38629; .25;
    /// ln(1 + 3000/1500) = 1.09861.
    #[test]
    fn decisions_are_those_of_the_text() {
        let schema = Schema::embedded();
        let tree = Tree::parse(TREE, &schema).unwrap();
        assert_eq!((tree.leaves(), tree.depth()), (6, 4));
        let names = schema.names();
        let target = |link: f32, rtt: f32, packets: f32, share: f32, burst: f32| {
            let mut x = vec![0.0; schema.width()];
            for (name, value) in [
                ("link_rate", link),
                ("rtt_c.mean_16s", rtt),
                ("packets_l.mean_4s", packets),
                ("share_l.std_4s", share),
                ("burst_p90_l", burst),
            ] {
                x[names.iter().position(|n| n == name).unwrap()] = value;
            }
            tree.setting(&x)
        };
        let ms = |k: Knobs| (k.target.as_millis_f64(), k.gain, k.ramp_min.as_millis_f64());
        assert_eq!(ms(target(-1.204, 9.0, 9.0, 1.0, 9.0)), (15.0, 1.0, 0.8));
        assert_eq!(ms(target(-1.2039, 1.0986, 1.3862, 1.0, 9.0)), (10.0, 1.4, 0.8));
        assert_eq!(ms(target(0.0, 1.0986, 1.3863, 1.0, 9.0)), (5.0, 0.5, 2.0));
        assert_eq!(ms(target(0.0, 1.0987, 0.0, 0.2499, 9.0)), (7.5, 1.0, 0.8));
        assert_eq!(ms(target(0.0, 1.0987, 0.0, 0.25, 1.0986)), (2.5, 1.0, 0.8), "not below is else");
        assert_eq!(ms(target(0.0, 1.0987, 0.0, 0.26, 1.0987)), (20.0, 2.0, 8.0));
        assert_eq!(
            tree.setting(&vec![f32::NAN; schema.width()]).target,
            Span::from_millis(20),
            "and no loop"
        );
    }

    #[test]
    fn faults_name_their_line() {
        let schema = Schema::embedded();
        for (from, to, line, part) in [
            ("link_rate", "link_speed", 1, "'link_speed' is not a feature"),
            ("over 16 s", "over 8 s", 4, "'rtt_c mean over 8 s' is not a feature"),
            ("20 ms:", "20:", 4, "'20' is not a number with a unit like '21 s', '21 ms', '21 us'"),
            ("300 /s", "300 ms", 5, "'300 ms' is not a number with a unit like '21 /s'"),
            ("0.25:", "0.25 ms:", 10, "'0.25 ms' is not a number with a unit like '21'"),
            ("12 Mbit/s", "nan Mbit/s", 1, "'nan Mbit/s' is not a number"),
            ("20 ms:", "20000 s:", 4, "20000 s is beyond"),
            ("0.25:", "0.25", 10, "is not of the form 'if rtt_c"),
            ("if share_l std", "if share_l", 10, "is not of the form 'if rtt_c"),
            ("gain 1.4", "gain 9", 6, "gain must be from 0.5 to 8"),
            ("ramp 8 ms", "ramp 9 ms", 16, "ramp must be from 0.2 ms to 8 ms"),
            (", gain 2", "", 16, "is not of the form 'target 5 ms"),
            ("target 20 ms", "goal 20 ms", 16, "is not of the form 'target 5 ms"),
            ("    target 15", "   target 15", 2, "indented by 3 spaces"),
            ("    target 15", "target 15", 2, "is at level 0; a setting or an 'if' is wanted at level 1"),
            (
                "            else:\n                target 20 ms, gain 2, ramp 8 ms\n",
                "",
                14,
                "the tree ends where 'else:'",
            ),
            ("else:\n    if rtt_c", "elif:\n    if rtt_c", 3, "'elif:' stands where the 'else:'"),
        ] {
            let text = TREE.replacen(from, to, 1);
            assert_ne!(text, TREE, "{from}");
            let (at, reason) = Tree::parse(&text, &schema).unwrap_err();
            assert!(at == line && reason.contains(part), "{at}: {reason}");
        }
        let more = format!("{TREE}else:\n");
        assert!(Tree::parse(&more, &schema).unwrap_err().1.contains("belongs to no 'if'"));
        assert!(Tree::parse("# nothing\n", &schema).unwrap_err().1.contains("the tree ends"));
        let deep: Vec<String> =
            (0..20).map(|n| format!("{}if link_rate < 1 Mbit/s:", "    ".repeat(n))).collect();
        assert!(Tree::parse(&deep.join("\n"), &schema).unwrap_err().1.contains("deeper than 16"));
    }
}
