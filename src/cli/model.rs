//! `l4sd model`: is a file a model that this program can use on this machine, and what does it say of itself?

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::print;
use crate::control::context::{self, Profiles};
use crate::control::model::card::FeedForwardRule;
use crate::control::model::{EncoderFile, ModelFile, Session, shipped};
use crate::runtime::clock::{Clock, Monotonic};
use crate::telemetry::features::schema::Schema;

/// Arguments of `l4sd model`.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Load it as `run` would: file, metadata, golden vectors, and the time that it takes
    Check(FileArgs),
    /// Print what it says of itself; nothing is run
    Show(FileArgs),
    /// Make demonstrations of a link for the key `context` out of what `run --record` or `sim --record` wrote of it
    Adapt(AdaptArgs),
}

#[derive(Debug, Args)]
struct AdaptArgs {
    /// Records of links, one each; their rates tell which one is shown to a model
    #[arg(value_name = "RECORD", required = true)]
    records: Vec<PathBuf>,
    /// Where the demonstrations go
    #[arg(long, value_name = "FILE", default_value = "context.json")]
    out: PathBuf,
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The model [default: the one that is built in]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// SHA-256 that it must have
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// The ONNX Runtime library [default: ORT_DYLIB_PATH, or where it usually is]
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl FileArgs {
    /// What the model is called.
    fn name(&self) -> PathBuf {
        shipped::name(self.file.as_deref())
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    file: String,
    sha256: String,
    producer: String,
    opset: i64,
    parameters: u64,
    operators: Vec<(String, usize)>,
    outputs: Vec<(String, Vec<usize>)>,
    context: Option<Vec<usize>>,
    context_encoder: Option<String>,
    candidates: usize,
    period_s: f64,
    threshold: f64,
    hysteresis: f64,
    distance_limit: Option<f64>,
    feed_forward_threshold: Option<f64>,
    feed_forward_rule: Option<String>,
    golden_vectors: usize,
    golden_tolerance: f32,
    notes: std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checked: Option<Checked>,
}

/// What trying it showed.
#[derive(Debug, Serialize)]
struct Checked {
    backend: String,
    decision_us: Percentiles,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    p50: f64,
    p99: f64,
    max: f64,
}

/// Runs the verb.
pub(super) fn model(args: &ModelArgs) -> Result<(), Failure> {
    let (args, check) = match &args.verb {
        Verb::Check(args) => (args, true),
        Verb::Show(args) => (args, false),
        Verb::Adapt(args) => return adapt(args),
    };
    let schema = Schema::embedded();
    let model = ModelFile::open(args.file.as_deref(), &schema, args.sha256.as_deref())?;
    let checked = check.then(|| try_it(&model, args)).transpose()?;
    let shown = shown(&model, args, checked, schema.width());
    if args.json {
        let json = serde_json::to_string_pretty(&shown).map_err(|e| Failure::new(Exit::Internal, e))?;
        print::line(&json)
    } else {
        print::text(&text(&shown))
    }
}

/// Writes the demonstrations of some links.
fn adapt(args: &AdaptArgs) -> Result<(), Failure> {
    let schema = Schema::embedded();
    let mut profiles = Vec::new();
    for path in &args.records {
        let name = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let profile = context::record::profile(path, &name, &schema)?;
        let returns: Vec<String> =
            profile.demonstrations.iter().map(|d| format!("{:.2}", context::value(d))).collect();
        print::line(&format!(
            "{name}: {:.3} Mbit/s, demonstrations with returns {}",
            profile.rate_mbps,
            returns.join(", ")
        ))?;
        profiles.push(profile);
    }
    Profiles::new(profiles, &schema).write(&args.out)?;
    print::line(&format!("wrote {}; [control] context = \"{}\"", args.out.display(), args.out.display()))
}

/// Decisions that are timed.
const TIMED: usize = 1000;

fn try_it(model: &ModelFile, args: &FileArgs) -> Result<Checked, Failure> {
    let mut session = Session::open(model, &args.name(), args.onnxruntime.as_deref())?;
    let schema = Schema::embedded();
    if model.context.is_some() {
        let encoder = EncoderFile::of(model, &args.name(), &schema)?;
        session.set_context(&encoder.encode(&[], &schema, args.onnxruntime.as_deref())?);
    }
    let clock = Monotonic::start();
    let golden = &model.card.golden.inputs;
    let width = schema.width();
    let question = width + context_size(model);
    let mut took: Vec<u64> = Vec::with_capacity(TIMED);
    for input in golden.chunks_exact(question).cycle().take(TIMED) {
        let begun = clock.now();
        session.run(&input[..width]).map_err(|e| Failure::new(Exit::Data, e))?;
        took.push(clock.now().since(begun).as_nanos());
    }
    took.sort_unstable();
    let us = |per_cent: usize| took.get(took.len() * per_cent / 100).map_or(0.0, |ns| *ns as f64 / 1e3);
    let max = took.last().map_or(0.0, |ns| *ns as f64 / 1e3);
    Ok(Checked {
        backend: session.backend().to_string(),
        decision_us: Percentiles { p50: us(50), p99: us(99), max },
    })
}

/// Numbers of the context that it reads.
fn context_size(model: &ModelFile) -> usize {
    model.context.as_ref().map_or(0, |shape| shape.iter().product())
}

fn shown(model: &ModelFile, args: &FileArgs, checked: Option<Checked>, width: usize) -> Shown {
    let card = &model.card;
    Shown {
        file: args.name().display().to_string(),
        sha256: model.sha256.clone(),
        producer: model.producer.clone(),
        opset: model.opset,
        parameters: model.parameters,
        operators: model.operators.clone(),
        outputs: model.outputs.iter().map(|o| (o.name.clone(), o.shape.clone())).collect(),
        context: model.context.clone(),
        context_encoder: card.context_encoder.clone(),
        candidates: card.candidates.len(),
        period_s: card.period.as_secs_f64(),
        threshold: card.threshold,
        hysteresis: card.hysteresis,
        distance_limit: card.distance_limit,
        feed_forward_threshold: card.feed_forward_threshold,
        feed_forward_rule: card.feed_forward_rule.as_ref().map(rule),
        golden_vectors: card.golden.inputs.len() / (width + context_size(model)),
        golden_tolerance: card.golden.tolerance,
        notes: card.notes.clone(),
        checked,
    }
}

/// A rule in words.
fn rule(rule: &FeedForwardRule) -> String {
    let names = Schema::embedded().names();
    let over: Vec<String> =
        rule.over.iter().map(|(at, limit)| format!("{} over {limit}", names[*at])).collect();
    format!("p' x {} where {}", rule.factor, over.join(", "))
}

fn text(s: &Shown) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    let operators: Vec<String> = s.operators.iter().map(|(op, n)| format!("{op} x{n}")).collect();
    let outputs: Vec<String> = s.outputs.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
    let context = match (&s.context, &s.context_encoder) {
        (Some(shape), Some(encoder)) => format!("{shape:?} by the encoder {encoder}"),
        _ => "none".to_owned(),
    };
    let or_none = |x: Option<f64>| x.map_or("none".to_owned(), |x| x.to_string());
    let producer = if s.producer.is_empty() { "unknown" } else { &s.producer };
    for (name, value) in [
        ("file", s.file.clone()),
        ("sha256", s.sha256.clone()),
        ("made by", format!("{producer}, operator set {}", s.opset)),
        ("parameters", s.parameters.to_string()),
        ("operators", operators.join(", ")),
        ("outputs", outputs.join(", ")),
        ("context", context),
        ("settings", format!("{} candidates, one chosen every {} s", s.candidates, s.period_s)),
        ("rule", format!("eligible from P(feasible) = {}, hysteresis {}", s.threshold, s.hysteresis)),
        ("retreats", format!("above distance {}", or_none(s.distance_limit))),
        (
            "feed-forward",
            s.feed_forward_rule
                .clone()
                .unwrap_or_else(|| format!("from probability {}", or_none(s.feed_forward_threshold))),
        ),
        ("golden", format!("{} vectors, within {:e}", s.golden_vectors, s.golden_tolerance)),
    ] {
        let _ = writeln!(out, "{name:<13} {value}");
    }
    for (key, value) in &s.notes {
        let _ = writeln!(out, "{key:<13} {value}");
    }
    if let Some(c) = &s.checked {
        let t = &c.decision_us;
        let _ = writeln!(out, "{:<13} {}: golden vectors answered", "ok", c.backend);
        let _ = writeln!(
            out,
            "{:<13} median {:.0}, P99 {:.0}, longest {:.0} us",
            "per decision", t.p50, t.p99, t.max
        );
    }
    out
}
