//! Models for tests: linear ones, whose answers are known without a backend.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;

use super::proto::{
    Dimension, Entry, FLOAT, Graph, Model, Node, OperatorSet, Shape, Tensor, TensorType, Type, ValueInfo,
};
use crate::telemetry::features::schema::Schema;

/// A model whose every output is `bias + weight x features[at]`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    /// `[target_s, gain, ramp_min_s]`.
    pub(crate) candidates: Vec<[f64; 3]>,
    /// Score of each candidate.
    pub(crate) score: Vec<f32>,
    /// Logit of each candidate.
    pub(crate) feasible: Vec<f32>,
    /// Logits of feed-forwards, if any.
    pub(crate) feed_forward: Option<[f32; 5]>,
    /// Text of `l4sd.feed_forward_rule`, if any.
    pub(crate) rule: Option<&'static str>,
    /// A feature and what each unit of it adds to the score of every candidate but the first.
    pub(crate) slope: (usize, f32),
    /// `distance` is this feature's value, the limit 1.
    pub(crate) distance: Option<usize>,
    /// SHA-256 of an encoder: there is an input `context` of shape [`CONTEXT`], whose numbers are added to the score of
    /// every candidate but the first.
    pub(crate) context: Option<String>,
}

/// Shape of a context.
pub(crate) const CONTEXT: [usize; 3] = [1, 2, 3];

impl Default for Linear {
    /// 5 ms is better than 15 ms, and feasible.
    fn default() -> Self {
        Self {
            candidates: vec![[0.015, 1.0, 0.0008], [0.005, 1.0, 0.0008]],
            score: vec![0.0, -0.5],
            feasible: vec![9.0, 9.0],
            feed_forward: None,
            rule: None,
            slope: (0, 0.0),
            distance: None,
            context: None,
        }
    }
}

fn entry(key: &str, value: impl Into<String>) -> Entry {
    Entry { key: key.to_owned(), value: value.into() }
}

fn encode(floats: &[f32]) -> String {
    STANDARD.encode(floats.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

fn port(name: &str, shape: &[usize]) -> ValueInfo {
    let dim = shape
        .iter()
        .map(|n| Dimension { dim_value: Some(n.cast_signed() as i64), dim_param: None })
        .collect();
    let tensor = TensorType { elem_type: FLOAT, shape: Some(Shape { dim }) };
    ValueInfo { name: name.to_owned(), r#type: Some(Type { tensor_type: Some(tensor) }) }
}

fn tensor(name: &str, dims: &[usize], values: &[f32]) -> Tensor {
    Tensor {
        dims: dims.iter().map(|d| d.cast_signed() as i64).collect(),
        data_type: FLOAT,
        name: name.to_owned(),
        raw_data: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        ..Tensor::default()
    }
}

/// An encoder each of whose numbers is how many demonstrations there are, plus the first number of the first of them.
pub(crate) fn encoder(schema: &Schema) -> Vec<u8> {
    use crate::control::context::{MOST, RECORDS, width};
    let (shown, size) = (MOST * RECORDS * width(schema), CONTEXT.iter().product::<usize>());
    let of = |inputs: &[&str], output: &str, op: &str| Node {
        input: inputs.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: op.to_owned(),
        ..Node::default()
    };
    let first: Vec<f32> = (0..shown * size).map(|k| f32::from(u8::from(k < size))).collect();
    let shape = Tensor {
        dims: vec![3],
        data_type: 7,
        name: "shape".to_owned(),
        raw_data: CONTEXT.iter().flat_map(|&n| (n.cast_signed() as i64).to_le_bytes()).collect(),
        ..Tensor::default()
    };
    let graph = Graph {
        name: "encoder".to_owned(),
        input: vec![port("demonstrations", &[1, MOST, RECORDS, width(schema)]), port("mask", &[1, MOST])],
        output: vec![port("context", &CONTEXT)],
        initializer: vec![
            tensor("ones", &[MOST, size], &vec![1.0; MOST * size]),
            tensor("first", &[shown, size], &first),
            tensor("none", &[1, size], &vec![0.0; size]),
            shape,
        ],
        node: vec![
            of(&["demonstrations"], "flat", "Flatten"),
            of(&["mask", "ones", "none"], "count", "Gemm"),
            of(&["flat", "first", "count"], "sum", "Gemm"),
            of(&["sum", "shape"], "context", "Reshape"),
        ],
        ..Graph::default()
    };
    let question = |number: f32, count: usize| {
        let mut all = vec![number; shown];
        all.extend((0..MOST).map(|i| f32::from(u8::from(i < count))));
        all
    };
    let golden_in = [question(0.5, 1), question(-1.0, 3)].concat();
    let golden_out: Vec<f32> = [1.5, 2.0].into_iter().flat_map(|x| vec![x; size]).collect();
    Model {
        ir_version: 8,
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: String::new(), version: 17 }],
        metadata_props: vec![
            entry("l4sd.format", "1"),
            entry("l4sd.schema", &schema.hash),
            entry("l4sd.golden_in", encode(&golden_in)),
            entry("l4sd.golden_out", encode(&golden_out)),
            entry("l4sd.golden_tolerance", "0.0001"),
        ],
        ..Model::default()
    }
    .encode_to_vec()
}

impl Linear {
    fn answers(&self, width: usize, question: &[f32]) -> Vec<f32> {
        let (features, context) = question.split_at(width);
        let told: f32 = context.iter().sum();
        let by_slope = |(i, s): (usize, &f32)| {
            if i == 0 { *s } else { s + self.slope.1 * features[self.slope.0] + told }
        };
        let mut all: Vec<f32> = self.score.iter().enumerate().map(by_slope).collect();
        all.extend(&self.feasible);
        all.extend(self.distance.map(|at| features[at]));
        all.extend(self.feed_forward.iter().flatten());
        all
    }

    /// The model as a message, to be spoilt.
    pub(in crate::control::model) fn model(&self, schema: &Schema) -> Model {
        let width = schema.width();
        let mut graph = Graph {
            name: "linear".to_owned(),
            input: vec![port("features", &[1, width])],
            ..Graph::default()
        };
        let mut gemm = |name: &str, bias: &[f32], weight: &dyn Fn(usize, usize) -> f32| {
            let n = bias.len();
            let weights: Vec<f32> = (0..width * n).map(|k| weight(k / n, k % n)).collect();
            graph.initializer.push(tensor(&format!("{name}.weight"), &[width, n], &weights));
            graph.initializer.push(tensor(&format!("{name}.bias"), &[n], bias));
            graph.node.push(Node {
                input: vec!["features".to_owned(), format!("{name}.weight"), format!("{name}.bias")],
                output: vec![name.to_owned()],
                op_type: "Gemm".to_owned(),
                ..Node::default()
            });
            graph.output.push(port(name, &[1, n]));
        };
        let (at, slope) = self.slope;
        gemm("score", &self.score, &|feature, i| if feature == at && i > 0 { slope } else { 0.0 });
        let size: usize = if self.context.is_some() { CONTEXT.iter().product() } else { 0 };
        gemm("feasible", &self.feasible, &|_, _| 0.0);
        if let Some(at) = self.distance {
            gemm("distance", &[0.0], &|feature, _| f32::from(u8::from(feature == at)));
        }
        if let Some(logits) = &self.feed_forward {
            gemm("feed_forward", logits, &|_, _| 0.0);
        }
        if self.context.is_some() {
            graph.input.push(port("context", &CONTEXT));
            let n = self.score.len();
            let weights: Vec<f32> = (0..size * n).map(|k| f32::from(u8::from(k % n > 0))).collect();
            graph.initializer.push(tensor("score.told", &[size, n], &weights));
            let of = |inputs: &[&str], output: &str, op: &str| Node {
                input: inputs.iter().map(|&i| i.to_owned()).collect(),
                output: vec![output.to_owned()],
                op_type: op.to_owned(),
                ..Node::default()
            };
            "unseen".clone_into(&mut graph.node[0].output[0]);
            graph.node.push(of(&["context"], "flat", "Flatten"));
            graph.node.push(of(&["flat", "score.told", "unseen"], "score", "Gemm"));
        }
        let inputs: Vec<f32> = (0..2 * (width + size)).map(|i| ((i * 7) % 13) as f32 / 13.0).collect();
        let outputs: Vec<f32> = inputs.chunks(width + size).flat_map(|x| self.answers(width, x)).collect();
        let mut metadata_props = vec![
            entry("l4sd.format", "1"),
            entry("l4sd.schema", &schema.hash),
            entry("l4sd.candidates", serde_json::to_string(&self.candidates).expect("numbers")),
            entry("l4sd.period_s", "0.128"),
            entry("l4sd.threshold", "0.9"),
            entry("l4sd.hysteresis", "0.1"),
            entry("l4sd.golden_in", encode(&inputs)),
            entry("l4sd.golden_out", encode(&outputs)),
            entry("l4sd.golden_tolerance", "0.0001"),
            entry("note", "linear, for tests"),
        ];
        metadata_props.extend(self.context.as_ref().map(|sha256| entry("l4sd.context_encoder", sha256)));
        metadata_props.extend(self.distance.map(|_| entry("l4sd.distance_limit", "1")));
        metadata_props.extend(self.feed_forward.map(|_| entry("l4sd.feed_forward_threshold", "0.5")));
        metadata_props.extend(self.rule.map(|text| entry("l4sd.feed_forward_rule", text)));
        Model {
            ir_version: 8,
            producer_name: "l4sd".to_owned(),
            graph: Some(graph),
            opset_import: vec![OperatorSet { domain: String::new(), version: 17 }],
            metadata_props,
            ..Model::default()
        }
    }

    /// The model's file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.model(&Schema::embedded()).encode_to_vec()
    }

    /// A file on disk that goes away with the value.
    pub(crate) fn file(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::with_suffix(".onnx").expect("a temporary file");
        std::fs::write(file.path(), self.bytes()).expect("room for it");
        file
    }
}

/// Whether models can be run here; says so if not.
pub(crate) fn can_run() -> bool {
    match l4sd_onnxruntime::backend(&l4sd_onnxruntime::candidates(None)) {
        Ok(_) => true,
        Err(e) => {
            eprintln!("SKIPPED: {e} (make tools gets one, and sets ORT_DYLIB_PATH)");
            false
        }
    }
}
