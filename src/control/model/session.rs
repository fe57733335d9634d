//! A graph on the backend of this process. Made in full or not at all: the backend takes it, it answers its golden
//! vectors, and it has run often enough for its memory to be in place.

use std::fmt;
use std::path::Path;
use std::sync::OnceLock;

use l4sd_onnxruntime::Backend;
use ort::environment::Environment;
use ort::memory::Allocator;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions};
use ort::value::Tensor;

use super::choice::Answer;
use super::{Card, Fault, ModelError, ModelFile};

/// Runs before the first that counts.
const WARM_UP: usize = 32;

/// A process has one.
static ENVIRONMENT: OnceLock<Result<Environment, String>> = OnceLock::new();

/// A model that can be run.
pub struct Session {
    graph: ort::session::Session,
    input: Tensor<f32>,
    /// The second input, if the graph has one; zeros are no context.
    context: Option<Tensor<f32>>,
    options: RunOptions<HasSelectedOutputs>,
    /// Values of all outputs, one after another.
    values: Vec<f32>,
    /// Where each of score, feasible, distance and feed_forward is in `values`.
    parts: [std::ops::Range<usize>; 4],
    names: Vec<(String, usize)>,
    card: Card,
    sha256: String,
    backend: Backend,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("sha256", &self.sha256)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Makes `model`, which errors call `path`, ready on `backend`, which must be what
    /// [`l4sd_onnxruntime::backend`] returned.
    ///
    /// # Errors
    /// The backend refuses it, or it does not answer its golden vectors as it should.
    pub fn new(model: &ModelFile, path: &Path, backend: &Backend) -> Result<Self, ModelError> {
        Self::ready(model, backend).map_err(|fault| ModelError::new(path, fault))
    }

    /// Makes `model` ready on the backend of this process; `library` is the ONNX Runtime that the user names, if any.
    ///
    /// # Errors
    /// There is no backend, or as for [`Session::new`].
    pub fn open(model: &ModelFile, path: &Path, library: Option<&Path>) -> Result<Self, ModelError> {
        let choice = l4sd_onnxruntime::backend(&l4sd_onnxruntime::candidates(library))
            .map_err(|e| ModelError::new(path, e.into()))?;
        Self::new(model, path, &choice.backend)
    }

    fn ready(model: &ModelFile, backend: &Backend) -> Result<Self, Fault> {
        let refused = |e: &dyn fmt::Display| refused(backend, e);
        let graph = graph(&model.bytes, backend)?;
        let question = model.card.golden.inputs.len() / golden_vectors(model);
        let size = model.context.as_ref().map_or(0, |shape| shape.iter().product());
        let width = question - size;
        let input = Tensor::from_array(([1, width], vec![0.0f32; width])).map_err(|e| refused(&e))?;
        let context = model
            .context
            .as_ref()
            .map(|shape| Tensor::from_array((shape.clone(), vec![0.0f32; size])))
            .transpose()
            .map_err(|e| refused(&e))?;
        let mut selector = OutputSelector::default();
        if matches!(backend, Backend::OnnxRuntime { .. }) {
            // tract takes values to write into and leaves them as they were (ort-tract 0.5.0).
            for port in &model.outputs {
                let shape: Vec<i64> = port.shape.iter().map(|n| n.cast_signed() as i64).collect();
                let place = Tensor::<f32>::new(&Allocator::default(), shape).map_err(|e| refused(&e))?;
                selector = selector.preallocate(&port.name, place);
            }
        }
        let options = RunOptions::new().map_err(|e| refused(&e))?.with_outputs(selector);
        let names: Vec<(String, usize)> =
            model.outputs.iter().map(|o| (o.name.clone(), o.shape.iter().product())).collect();
        let part = |name: &str| {
            let mut at = 0;
            for (n, len) in &names {
                if n == name {
                    return at..at + len;
                }
                at += len;
            }
            0..0
        };
        let parts = ["score", "feasible", "distance", "feed_forward"].map(part);
        let mut this = Self {
            graph,
            input,
            context,
            options,
            values: vec![0.0; names.iter().map(|(_, n)| n).sum()],
            parts,
            names,
            card: model.card.clone(),
            sha256: model.sha256.clone(),
            backend: backend.clone(),
        };
        this.answer_golden(width)?;
        for _ in 0..WARM_UP {
            this.run(&model.card.golden.inputs[..width])?;
        }
        Ok(this)
    }

    fn answer_golden(&mut self, width: usize) -> Result<(), Fault> {
        let golden = self.card.golden.clone();
        let vectors = golden.outputs.len() / self.values.len();
        let question = golden.inputs.len() / vectors;
        let mut worst = 0.0f32;
        for (input, wanted) in golden.inputs.chunks(question).zip(golden.outputs.chunks(self.values.len())) {
            self.set_context(&input[width..]);
            self.run(&input[..width])?;
            worst = worst.max(apart(&self.values, wanted));
        }
        if let Some(context) = &mut self.context {
            context.extract_tensor_mut().1.fill(0.0);
        }
        judged(worst, golden.tolerance, &self.backend)
    }

    /// From now on the model reads these vectors as its context; until then it has none, which is zeros.
    ///
    /// # Panics
    /// If they are not as many numbers as its input `context` has; a model without one takes none.
    pub fn set_context(&mut self, vectors: &[f32]) {
        match &mut self.context {
            Some(context) => context.extract_tensor_mut().1.copy_from_slice(vectors),
            None => assert!(vectors.is_empty(), "a model without the input 'context' takes none"),
        }
    }

    /// Answers one feature vector.
    ///
    /// # Errors
    /// The backend failed.
    ///
    /// # Panics
    /// If `features` is not as long as the schema is wide.
    pub fn run(&mut self, features: &[f32]) -> Result<Answer<'_>, Fault> {
        let failed = |backend: &Backend, e: &dyn fmt::Display| Fault::Backend {
            backend: backend.to_string(),
            reason: e.to_string(),
        };
        self.input.extract_tensor_mut().1.copy_from_slice(features);
        let features = self.input.view();
        let outputs = match &self.context {
            Some(context) => self.graph.run_with_options(
                ort::inputs!["features" => features, "context" => context.view()],
                &self.options,
            ),
            None => self.graph.run_with_options(ort::inputs!["features" => features], &self.options),
        }
        .map_err(|e| failed(&self.backend, &e))?;
        let mut at = 0;
        for (name, len) in &self.names {
            let value =
                outputs.get(name).ok_or_else(|| failed(&self.backend, &format!("no output '{name}'")))?;
            let (_, numbers) = value.try_extract_tensor::<f32>().map_err(|e| failed(&self.backend, &e))?;
            if numbers.len() != *len {
                return Err(failed(
                    &self.backend,
                    &format!("'{name}' has {} numbers, not {len}", numbers.len()),
                ));
            }
            self.values[at..at + len].copy_from_slice(numbers);
            at += len;
        }
        drop(outputs);
        let part = |n: usize| &self.values[self.parts[n].clone()];
        Ok(Answer {
            score: part(0),
            feasible: part(1),
            distance: part(2).first().copied(),
            feed_forward: part(3),
        })
    }

    /// What the model's metadata says.
    pub const fn card(&self) -> &Card {
        &self.card
    }

    /// SHA-256 of the model's file in hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What runs it.
    pub const fn backend(&self) -> &Backend {
        &self.backend
    }
}

/// How many golden vectors a model has; at least one.
fn golden_vectors(model: &ModelFile) -> usize {
    let answer: usize = model.outputs.iter().map(|o| o.shape.iter().product::<usize>()).sum();
    (model.card.golden.outputs.len() / answer.max(1)).max(1)
}

fn refused(backend: &Backend, e: &dyn fmt::Display) -> Fault {
    let reason = e.to_string().lines().next().unwrap_or("no reason given").to_owned();
    Fault::Backend { backend: backend.to_string(), reason }
}

/// A graph on a backend.
pub(super) fn graph(bytes: &[u8], backend: &Backend) -> Result<ort::session::Session, Fault> {
    let refused = |e: &dyn fmt::Display| refused(backend, e);
    let environment = ENVIRONMENT
        .get_or_init(|| ort::init().with_telemetry(false).build().map_err(|e| e.to_string()))
        .as_ref()
        .map_err(|e| refused(e))?;
    let builder = ort::session::Session::builder(environment).map_err(|e| refused(&e))?;
    let builder = builder.with_optimization_level(GraphOptimizationLevel::Level3).map_err(|e| refused(&e))?;
    let builder = builder.with_intra_threads(1).map_err(|e| refused(&e))?;
    let mut builder = builder.with_inter_threads(1).map_err(|e| refused(&e))?;
    builder.commit_from_memory(bytes).map_err(|e| refused(&e))
}

/// The largest difference; what is no number is infinitely far.
pub(super) fn apart(is: &[f32], wanted: &[f32]) -> f32 {
    is.iter().zip(wanted).fold(0.0, |worst: f32, (is, wanted)| {
        let off = (is - wanted).abs();
        if off.is_nan() { f32::INFINITY } else { worst.max(off) }
    })
}

/// Whether golden vectors are answered well enough.
pub(super) fn judged(worst: f32, tolerance: f32, backend: &Backend) -> Result<(), Fault> {
    if worst > tolerance {
        return Err(Fault::Golden { worst, tolerance, backend: backend.to_string() });
    }
    Ok(())
}
