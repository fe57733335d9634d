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
        let refused = |e: &dyn fmt::Display| Fault::Backend {
            backend: backend.to_string(),
            reason: e.to_string().lines().next().unwrap_or("no reason given").to_owned(),
        };
        let environment = ENVIRONMENT
            .get_or_init(|| ort::init().with_telemetry(false).build().map_err(|e| e.to_string()))
            .as_ref()
            .map_err(|e| refused(e))?;
        let builder = ort::session::Session::builder(environment).map_err(|e| refused(&e))?;
        let builder =
            builder.with_optimization_level(GraphOptimizationLevel::Level3).map_err(|e| refused(&e))?;
        let builder = builder.with_intra_threads(1).map_err(|e| refused(&e))?;
        let mut builder = builder.with_inter_threads(1).map_err(|e| refused(&e))?;
        let graph = builder.commit_from_memory(&model.bytes).map_err(|e| refused(&e))?;
        let width = model.card.golden.inputs.len() / golden_vectors(model);
        let input = Tensor::from_array(([1, width], vec![0.0f32; width])).map_err(|e| refused(&e))?;
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
            options,
            values: vec![0.0; names.iter().map(|(_, n)| n).sum()],
            parts,
            names,
            card: model.card.clone(),
            sha256: model.sha256.clone(),
            backend: backend.clone(),
        };
        this.answer_golden()?;
        for _ in 0..WARM_UP {
            this.run(&model.card.golden.inputs[..width])?;
        }
        Ok(this)
    }

    fn answer_golden(&mut self) -> Result<(), Fault> {
        let golden = self.card.golden.clone();
        let vectors = golden.outputs.len() / self.values.len();
        let width = golden.inputs.len() / vectors;
        let mut worst = 0.0f32;
        for (input, wanted) in golden.inputs.chunks(width).zip(golden.outputs.chunks(self.values.len())) {
            self.run(input)?;
            for (is, wanted) in self.values.iter().zip(wanted) {
                let off = (is - wanted).abs();
                worst = if off.is_nan() { f32::INFINITY } else { worst.max(off) };
            }
        }
        if worst > golden.tolerance {
            let backend = self.backend.to_string();
            return Err(Fault::Golden { worst, tolerance: golden.tolerance, backend });
        }
        Ok(())
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
        let inputs = ort::inputs!["features" => self.input.view()];
        let outputs =
            self.graph.run_with_options(inputs, &self.options).map_err(|e| failed(&self.backend, &e))?;
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
