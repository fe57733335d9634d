//! The bytes of a model: size, hash, and whether the graph is one that l4sd runs. Nothing is executed here.

use std::io::Read;
use std::path::Path;

use prost::Message;
use sha2::{Digest, Sha256};

use super::proto::{Graph, Model, Tensor};
use super::{Card, Fault, ModelError, shipped};
use crate::telemetry::features::schema::Schema;

/// Largest file that is read.
pub const MAX_BYTES: u64 = 64 << 20;

/// Newest operator set of the standard domain that both backends run.
const MAX_OPSET: i64 = 21;

/// Operators that a model may use. Each is plain arithmetic on its inputs: no control flow, no files, no randomness.
const OPERATORS: [&str; 64] = [
    "Abs",
    "Add",
    "And",
    "ArgMax",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Cos",
    "DequantizeLinear",
    "Div",
    "DynamicQuantizeLinear",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "Gemm",
    "Greater",
    "HardSigmoid",
    "Identity",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "Log",
    "LogSoftmax",
    "MatMul",
    "MatMulInteger",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pow",
    "QuantizeLinear",
    "Range",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Sin",
    "Slice",
    "Softmax",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// Those of `ai.onnx.ml`.
const ML_OPERATORS: [&str; 2] = ["TreeEnsembleClassifier", "TreeEnsembleRegressor"];

/// What a graph takes or gives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its shape; elements are 32-bit floats.
    pub shape: Vec<usize>,
}

/// A model that was read and judged fit to be run.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// SHA-256 of the bytes in hex.
    pub sha256: String,
    /// What the metadata says.
    pub card: Card,
    /// What wrote it.
    pub producer: String,
    /// The operator set of the standard domain.
    pub opset: i64,
    /// Operators in use and how often, in the order of the alphabet.
    pub operators: Vec<(String, usize)>,
    /// Elements of all constants.
    pub parameters: u64,
    /// What the graph gives.
    pub outputs: Vec<Port>,
    /// The shape of its input `context`, `[1, vectors, width]`, if it has one.
    pub context: Option<Vec<usize>>,
    pub(super) bytes: Vec<u8>,
}

/// A graph that may be run, whatever it is for.
pub(super) struct Judged {
    pub(super) sha256: String,
    pub(super) model: Model,
    pub(super) opset: i64,
    pub(super) operators: Vec<(String, usize)>,
    pub(super) parameters: u64,
    pub(super) inputs: Vec<Port>,
    pub(super) outputs: Vec<Port>,
}

impl Judged {
    /// Judges bytes; `wanted` is the SHA-256 that they must have, if that is known.
    pub(super) fn of(bytes: &[u8], wanted: Option<&str>) -> Result<Self, Fault> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Fault::TooLarge(bytes.len() as u64));
        }
        let sha256 = hash_of(bytes);
        if let Some(wanted) = wanted.filter(|w| !w.eq_ignore_ascii_case(&sha256)) {
            return Err(Fault::Hash { is: sha256, wanted: wanted.to_owned() });
        }
        let model = Model::decode(bytes).map_err(|e| wrong(format!("not an ONNX file: {e}")))?;
        let graph = model.graph.as_ref().ok_or_else(|| wrong("not an ONNX file: it has no graph"))?;
        let opset = opset(&model)?;
        if !model.training_info.is_empty() || !model.functions.is_empty() {
            return Err(wrong("it has functions or training information; export plain inference"));
        }
        let operators = operators(graph)?;
        let parameters = constants(graph)?;
        let ports = |of: &[super::proto::ValueInfo]| -> Result<Vec<Port>, Fault> {
            let shape = |of: &super::proto::ValueInfo| {
                of.r#type
                    .as_ref()
                    .and_then(super::proto::Type::float_shape)
                    .ok_or_else(|| wrong(format!("'{}' must be 32-bit floats of a fixed shape", of.name)))
            };
            of.iter().map(|o| Ok(Port { name: name(&o.name)?, shape: shape(o)? })).collect()
        };
        let (inputs, outputs) = (ports(&graph.input)?, ports(&graph.output)?);
        Ok(Self { sha256, model, opset, operators, parameters, inputs, outputs })
    }

    /// What it says of itself.
    pub(super) fn metadata(&self) -> std::collections::BTreeMap<&str, &str> {
        self.model.metadata_props.iter().map(|e| (e.key.as_str(), e.value.as_str())).collect()
    }
}

/// Most numbers that a context may have.
const MAX_CONTEXT: usize = 1 << 16;

impl ModelFile {
    /// Reads `path` and judges it against `schema`. `wanted` is the SHA-256 that it must have, in hex, if that is known.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn read(path: &Path, schema: &Schema, wanted: Option<&str>) -> Result<Self, ModelError> {
        read(path)
            .and_then(|bytes| Self::judge(bytes, schema, wanted))
            .map_err(|fault| ModelError::new(path, fault))
    }

    /// Reads and judges `file`, or the model that is built in, as [`ModelFile::read`] does.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn open(file: Option<&Path>, schema: &Schema, wanted: Option<&str>) -> Result<Self, ModelError> {
        match file {
            Some(path) => Self::read(path, schema, wanted),
            None => Self::judge(shipped::SHIPPED.to_vec(), schema, wanted)
                .map_err(|fault| ModelError::new(&shipped::name(None), fault)),
        }
    }

    /// Judges bytes as [`ModelFile::read`] does.
    ///
    /// # Errors
    /// The first thing that is wrong with them.
    pub fn judge(bytes: Vec<u8>, schema: &Schema, wanted: Option<&str>) -> Result<Self, Fault> {
        let judged = Judged::of(&bytes, wanted)?;
        let want = vec![1, schema.width()];
        let context = match judged.inputs.as_slice() {
            [features] if is_features(features, &want) => None,
            [features, context] if is_features(features, &want) && context.name == "context" => {
                let size = context.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
                if !matches!(context.shape[..], [1, _, _])
                    || !size.is_some_and(|n| (1..=MAX_CONTEXT).contains(&n))
                {
                    return Err(wrong(format!(
                        "its input 'context' is {:?}; it is [1, vectors, width], at most {MAX_CONTEXT} numbers",
                        context.shape
                    )));
                }
                Some(context.shape.clone())
            }
            [other] => {
                return Err(wrong(format!(
                    "its input is '{}' {:?}; l4sd gives 'features' {want:?}",
                    other.name, other.shape
                )));
            }
            others => {
                let names: Vec<&str> = others.iter().map(|p| p.name.as_str()).collect();
                return Err(wrong(format!(
                    "it takes the inputs {}; l4sd gives 'features' {want:?}, and 'context' after it",
                    names.join(", ")
                )));
            }
        };
        let card = Card::read(&judged.metadata(), &judged.outputs, context.as_deref(), schema)?;
        let Judged { sha256, model, opset, operators, parameters, outputs, .. } = judged;
        Ok(Self {
            sha256,
            card,
            producer: model.producer_name,
            opset,
            operators,
            parameters,
            outputs,
            context,
            bytes,
        })
    }
}

fn is_features(port: &Port, want: &[usize]) -> bool {
    port.name == "features" && port.shape == want
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    let file = std::fs::File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(wrong("not a regular file; check the path"));
    }
    if meta.len() > MAX_BYTES {
        return Err(Fault::TooLarge(meta.len()));
    }
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn wrong(what: impl Into<String>) -> Fault {
    Fault::Graph(what.into())
}

/// SHA-256 in hex.
pub(super) fn hash_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A name that no backend stumbles over.
fn name(text: &str) -> Result<String, Fault> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | ':' | '-');
    if !text.is_empty() && text.len() <= 256 && text.chars().all(plain) {
        return Ok(text.to_owned());
    }
    Err(wrong(format!("{text:?} is no name for an input or output")))
}

fn opset(model: &Model) -> Result<i64, Fault> {
    let mut standard = None;
    for set in &model.opset_import {
        match set.domain.as_str() {
            "" | "ai.onnx" => standard = Some(set.version),
            "ai.onnx.ml" => {}
            other => {
                return Err(wrong(format!("it uses the operator domain '{other}', which is not allowed")));
            }
        }
    }
    match standard {
        Some(version @ 13..=MAX_OPSET) => Ok(version),
        Some(other) => Err(wrong(format!("its operator set is {other}; 13 to {MAX_OPSET} will do"))),
        None => Err(wrong("not an ONNX file: it names no operator set")),
    }
}

fn operators(graph: &Graph) -> Result<Vec<(String, usize)>, Fault> {
    let mut used = std::collections::BTreeMap::<&str, usize>::new();
    for node in &graph.node {
        let op = node.op_type.as_str();
        let allowed: &[&str] = match node.domain.as_str() {
            "" | "ai.onnx" => &OPERATORS,
            "ai.onnx.ml" => &ML_OPERATORS,
            _ => &[],
        };
        if !allowed.contains(&op) {
            return Err(wrong(format!("it uses the operator '{op}', which is not allowed")));
        }
        let has_graph = |a: &super::proto::Attribute| a.g.is_some() || !a.graphs.is_empty();
        if node.attribute.iter().any(has_graph) {
            return Err(wrong(format!("its '{op}' has a graph of its own, which is not allowed")));
        }
        *used.entry(op).or_default() += 1;
    }
    if used.is_empty() {
        return Err(wrong("not an ONNX file: its graph is empty"));
    }
    Ok(used.into_iter().map(|(op, n)| (op.to_owned(), n)).collect())
}

/// Elements of the constants, all of which must be in the file itself.
fn constants(graph: &Graph) -> Result<u64, Fault> {
    let attributes = graph.node.iter().flat_map(|n| &n.attribute);
    let in_nodes = attributes.flat_map(|a| a.t.iter().chain(&a.tensors));
    let mut total = 0u64;
    let tensors: Vec<&Tensor> = graph.initializer.iter().chain(in_nodes).collect();
    for tensor in tensors {
        if tensor.data_location != 0 || !tensor.external_data.is_empty() {
            return Err(wrong("its weights are in another file; export with all in one"));
        }
        let elements = tensor.dims.iter().try_fold(1u64, |n, d| n.checked_mul(u64::try_from(*d).ok()?));
        total = elements.and_then(|n| total.checked_add(n)).ok_or_else(|| wrong("a constant has no size"))?;
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(wrong("it has sparse constants, which are not allowed"));
    }
    Ok(total)
}
