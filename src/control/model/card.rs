//! What a model's metadata says of its use. Every key is named in `docs/model.md`; an unknown key that begins with
//! `l4sd.` is refused, since it would mean something that this program does not do.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Fault;
use super::file::Port;
use crate::aqm::params::Knobs;
use crate::control::guard::{FEED_FORWARD, GuardParams};
use crate::telemetry::features::schema::Schema;
use crate::time::Span;

/// The metadata layout that this program understands.
pub const FORMAT: &str = "1";
/// Fewest golden vectors.
pub const MIN_GOLDEN: usize = 2;

const KEYS: [&str; 13] = [
    "l4sd.format",
    "l4sd.schema",
    "l4sd.candidates",
    "l4sd.period_s",
    "l4sd.threshold",
    "l4sd.hysteresis",
    "l4sd.distance_limit",
    "l4sd.feed_forward_threshold",
    "l4sd.feed_forward_rule",
    "l4sd.golden_in",
    "l4sd.golden_out",
    "l4sd.golden_tolerance",
    "l4sd.context_encoder",
];

/// Inputs and what a faithful backend answers to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// Feature vectors, one after another, each followed by the context that it goes with if the model reads one.
    pub inputs: Vec<f32>,
    /// For each of them the outputs in the order of the graph, one after another.
    pub outputs: Vec<f32>,
    /// Largest difference that is allowed in any number.
    pub tolerance: f32,
}

/// When a feed-forward is asked for without running the graph: all of these features are beyond their limits.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedForwardRule {
    /// One of the guard's factors on p'.
    pub factor: f64,
    /// Place of a feature in the vector, and what it has to exceed, as normalised by the schema.
    pub over: Vec<(usize, f32)>,
}

impl FeedForwardRule {
    /// `{"factor": 0.25, "over": {"idle.mean_0.064s": 3.04}}`, the names being those of the schema.
    fn read(text: &str, schema: &Schema) -> Result<Self, Fault> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Told {
            factor: f64,
            over: BTreeMap<String, f32>,
        }
        let key = "l4sd.feed_forward_rule";
        let told: Told = serde_json::from_str(text).map_err(|e| {
            wrong(format!(
                "its metadata '{key}' is not {{\"factor\": F, \"over\": {{\"FEATURE\": LIMIT}}}}: {e}"
            ))
        })?;
        if told.factor == 1.0 || !FEED_FORWARD.contains(&told.factor) {
            return Err(wrong(format!(
                "its metadata '{key}' has the factor {}; 0.25, 0.5, 2 and 4 are possible",
                told.factor
            )));
        }
        if told.over.is_empty() {
            return Err(wrong(format!("its metadata '{key}' names no feature, so it would always act")));
        }
        let names = schema.names();
        let place = |(name, limit): (&String, &f32)| {
            let at = names.iter().position(|n| n == name);
            at.map(|at| (at, *limit)).ok_or_else(|| {
                wrong(format!("its metadata '{key}' has '{name}', which is no feature of models/schema.toml"))
            })
        };
        Ok(Self { factor: told.factor, over: told.over.iter().map(place).collect::<Result<_, _>>()? })
    }

    /// The factor to ask for; 1 if it does not act.
    pub fn of(&self, features: &[f32]) -> f64 {
        if self.over.iter().all(|&(at, limit)| features[at] > limit) { self.factor } else { 1.0 }
    }
}

impl fmt::Display for FeedForwardRule {
    /// The factor, then place and limit of each feature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.factor)?;
        self.over.iter().try_for_each(|(at, limit)| write!(f, " {at}>{limit}"))
    }
}

/// How a model is used.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// The settings that it scores; the first are RFC 9332's constants.
    pub candidates: Vec<Knobs>,
    /// A setting is chosen this often.
    pub period: Span,
    /// A setting is eligible when its probability of being feasible is at least this.
    pub threshold: f64,
    /// Another setting is taken only if its score is better than that of the one in use by more than this.
    pub hysteresis: f64,
    /// Above this value of the output `distance`, the input is unlike what the model was trained on.
    pub distance_limit: Option<f64>,
    /// A feed-forward is asked for when its probability is at least this; `None` without the output `feed_forward`.
    pub feed_forward_threshold: Option<f64>,
    /// A feed-forward that needs no graph, after every window; not beside that output.
    pub feed_forward_rule: Option<FeedForwardRule>,
    /// SHA-256, in hex, of the encoder that makes the context; with the input `context` only.
    pub context_encoder: Option<String>,
    /// Golden vectors.
    pub golden: Golden,
    /// Keys that mean nothing to the program, for people.
    pub notes: BTreeMap<String, String>,
}

fn wrong(what: impl Into<String>) -> Fault {
    Fault::Card(what.into())
}

pub(super) type Metadata<'a> = BTreeMap<&'a str, &'a str>;

fn text<'a>(metadata: &Metadata<'a>, key: &str) -> Result<&'a str, Fault> {
    metadata.get(key).copied().ok_or_else(|| wrong(format!("its metadata lacks '{key}' (see docs/model.md)")))
}

fn number(metadata: &Metadata<'_>, key: &str, least: f64, most: f64) -> Result<f64, Fault> {
    let text = text(metadata, key)?;
    text.parse::<f64>()
        .ok()
        .filter(|x| (least..=most).contains(x))
        .ok_or_else(|| wrong(format!("its metadata '{key}' is '{text}', not a number of {least} to {most}")))
}

fn floats(metadata: &Metadata<'_>, key: &str) -> Result<Vec<f32>, Fault> {
    let bytes = STANDARD
        .decode(text(metadata, key)?)
        .map_err(|e| wrong(format!("its metadata '{key}' is not base64: {e}")))?;
    if bytes.len() % 4 != 0 {
        return Err(wrong(format!("its metadata '{key}' is not a whole number of 32-bit floats")));
    }
    let (numbers, _) = bytes.as_chunks::<4>();
    let floats: Vec<f32> = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
    if floats.iter().any(|x| !x.is_finite()) {
        return Err(wrong(format!("its metadata '{key}' has a number that is not finite")));
    }
    Ok(floats)
}

/// That the metadata are of this format and schema and have no key of the program's beyond `keys`.
pub(super) fn identity(metadata: &Metadata<'_>, keys: &[&str], schema: &Schema) -> Result<(), Fault> {
    let format = text(metadata, "l4sd.format")?;
    if format != FORMAT {
        return Err(wrong(format!("its format is '{format}'; this program knows {FORMAT}")));
    }
    if let Some(key) = metadata.keys().find(|k| k.starts_with("l4sd.") && !keys.contains(k)) {
        return Err(wrong(format!("its metadata has '{key}', which this program does not know")));
    }
    let made_for = text(metadata, "l4sd.schema")?;
    if made_for != schema.hash {
        return Err(wrong(format!(
            "it was made for the feature schema {made_for}, and this program has {}; use the program that it was made \
             for, or train it anew",
            schema.hash
        )));
    }
    Ok(())
}

/// Golden vectors of a graph that takes `question` numbers and gives `outputs`.
pub(super) fn golden(metadata: &Metadata<'_>, question: usize, outputs: &[Port]) -> Result<Golden, Fault> {
    let golden = Golden {
        inputs: floats(metadata, "l4sd.golden_in")?,
        outputs: floats(metadata, "l4sd.golden_out")?,
        tolerance: number(metadata, "l4sd.golden_tolerance", 0.0, 0.1)? as f32,
    };
    let vectors = golden.inputs.len() / question.max(1);
    let answer: usize = outputs.iter().map(|o| o.shape.iter().product::<usize>()).sum();
    if vectors < MIN_GOLDEN
        || golden.inputs.len() != vectors * question
        || golden.outputs.len() != vectors * answer
    {
        return Err(wrong(format!(
            "its golden vectors have {} inputs and {} outputs; {MIN_GOLDEN} or more vectors of {question} and {answer} \
             were expected",
            golden.inputs.len(),
            golden.outputs.len()
        )));
    }
    Ok(golden)
}

impl Card {
    /// Reads metadata and holds it against the graph's outputs, the shape of its context, and the schema.
    pub(super) fn read(
        metadata: &Metadata<'_>,
        outputs: &[Port],
        context: Option<&[usize]>,
        schema: &Schema,
    ) -> Result<Self, Fault> {
        identity(metadata, &KEYS, schema)?;
        let candidates = candidates(text(metadata, "l4sd.candidates")?)?;
        let n = candidates.len();
        let output = |name: &str| outputs.iter().find(|o| o.name == name);
        for name in ["score", "feasible"] {
            let Some(port) = output(name) else { return Err(wrong(format!("it has no output '{name}'"))) };
            if port.shape != [1, n] {
                return Err(wrong(format!(
                    "its output '{name}' is {:?}; with {n} candidates it must be [1, {n}]",
                    port.shape
                )));
            }
        }
        let optional = |name: &str, key: &str, shape: [usize; 2], most: f64| match (
            output(name),
            metadata.contains_key(key),
        ) {
            (None, false) => Ok(None),
            (Some(port), true) if port.shape == shape => number(metadata, key, 0.0, most).map(Some),
            (Some(port), true) => {
                Err(wrong(format!("its output '{name}' is {:?}; it must be {shape:?}", port.shape)))
            }
            (Some(_), false) => Err(wrong(format!("it has the output '{name}' but no metadata '{key}'"))),
            (None, true) => Err(wrong(format!("it has metadata '{key}' but no output '{name}'"))),
        };
        let known = ["score", "feasible", "distance", "feed_forward"];
        if let Some(port) = outputs.iter().find(|o| !known.contains(&o.name.as_str())) {
            return Err(wrong(format!("its output '{}' is none of {}", port.name, known.join(", "))));
        }
        let context_encoder = match (context, metadata.get("l4sd.context_encoder")) {
            (None, None) => None,
            (Some(_), Some(hash)) => Some((*hash).to_owned()),
            (Some(_), None) => {
                return Err(wrong("it has the input 'context' but no metadata 'l4sd.context_encoder'"));
            }
            (None, Some(_)) => {
                return Err(wrong("it has metadata 'l4sd.context_encoder' but no input 'context'"));
            }
        };
        let question = schema.width() + context.map_or(0, |shape| shape.iter().product());
        let golden = golden(metadata, question, outputs)?;
        let feed_forward_rule = metadata
            .get("l4sd.feed_forward_rule")
            .map(|text| FeedForwardRule::read(text, schema))
            .transpose()?;
        if feed_forward_rule.is_some() && output("feed_forward").is_some() {
            return Err(wrong(
                "it has the output 'feed_forward' and metadata 'l4sd.feed_forward_rule': one of them",
            ));
        }
        let foreign = metadata.iter().filter(|(k, _)| !k.starts_with("l4sd."));
        Ok(Self {
            period: Span::from_secs_f64(number(metadata, "l4sd.period_s", 0.001, 10.0)?),
            threshold: number(metadata, "l4sd.threshold", 0.0, 1.0)?,
            hysteresis: number(metadata, "l4sd.hysteresis", 0.0, 10.0)?,
            distance_limit: optional("distance", "l4sd.distance_limit", [1, 1], 1e9)?,
            feed_forward_threshold: optional(
                "feed_forward",
                "l4sd.feed_forward_threshold",
                [1, FEED_FORWARD.len()],
                1.0,
            )?,
            feed_forward_rule,
            context_encoder,
            candidates,
            golden,
            notes: foreign.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        })
    }
}

/// Most settings that a model may score.
const MAX_CANDIDATES: usize = 4096;

/// `[[target_s, gain, ramp_min_s], ...]`, each within the guard's bounds, RFC 9332's first.
fn candidates(text: &str) -> Result<Vec<Knobs>, Fault> {
    let rows: Vec<[f64; 3]> = serde_json::from_str(text).map_err(|e| {
        wrong(format!("its metadata 'l4sd.candidates' is not [[target_s, gain, ramp_min_s], ...]: {e}"))
    })?;
    if rows.len() > MAX_CANDIDATES {
        return Err(wrong(format!(
            "it has {} candidates; at most {MAX_CANDIDATES} are possible",
            rows.len()
        )));
    }
    settings(&rows).map_err(|e| wrong(format!("its {e}")))
}

/// What rows of `[target_s, gain, ramp_min_s]` set: each within the guard's bounds, RFC 9332's first.
///
/// # Errors
/// Which row is not, in words.
pub fn settings(rows: &[[f64; 3]]) -> Result<Vec<Knobs>, String> {
    let bounds = GuardParams::default();
    let within =
        |(least, most): (Span, Span), s: f64| (least.as_secs_f64()..=most.as_secs_f64()).contains(&s);
    let mut knobs = Vec::with_capacity(rows.len());
    for (i, &[target, gain, ramp]) in rows.iter().enumerate() {
        if !within(bounds.target, target)
            || !within(bounds.ramp_min, ramp)
            || !(bounds.gain[0]..=bounds.gain[bounds.gain.len() - 1]).contains(&gain)
        {
            return Err(format!(
                "candidate {i}, [{target}, {gain}, {ramp}], is outside what the guard admits"
            ));
        }
        knobs.push(Knobs {
            target: Span::from_secs_f64(target),
            gain,
            ramp_min: Span::from_secs_f64(ramp),
            feed_forward: 1.0,
        });
    }
    if knobs.first() != Some(&Knobs::default()) {
        return Err("first candidate must be RFC 9332's constants, [0.015, 1, 0.0008]".to_owned());
    }
    Ok(knobs)
}
