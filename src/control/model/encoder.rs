//! The file of a context encoder: a graph that turns demonstrations into the vectors that one model reads. It is judged as
//! a model is, run once at the model's start, and never again.

use std::path::{Path, PathBuf};

use ort::value::Tensor;

use super::card::{self, Golden};
use super::file::{Judged, read};
use super::session::{apart, graph, judged};
use super::{Fault, ModelError, ModelFile};
use crate::control::context::{self, Demonstration, MOST, RECORDS};
use crate::telemetry::features::schema::Schema;

const KEYS: [&str; 5] =
    ["l4sd.format", "l4sd.schema", "l4sd.golden_in", "l4sd.golden_out", "l4sd.golden_tolerance"];

/// An encoder that was read and judged fit to be run.
#[derive(Clone, Debug)]
pub struct EncoderFile {
    /// SHA-256 of the bytes in hex.
    pub sha256: String,
    file: PathBuf,
    width: usize,
    golden: Golden,
    bytes: Vec<u8>,
}

impl EncoderFile {
    /// Where the encoder of a model's file is: beside it, as `NAME.context.onnx`.
    pub fn beside(model: &Path) -> PathBuf {
        model.with_extension("context.onnx")
    }

    /// Reads the encoder of `model`, which is the file `path`.
    ///
    /// # Errors
    /// The model reads no context, or the first thing that is wrong with the encoder.
    pub fn of(model: &ModelFile, path: &Path, schema: &Schema) -> Result<Self, ModelError> {
        let (Some(shape), Some(wanted)) = (&model.context, &model.card.context_encoder) else {
            return Err(ModelError::new(path, Fault::NoContext));
        };
        let file = Self::beside(path);
        let read = || match read(&file) {
            Err(Fault::Read(e)) if e.kind() == std::io::ErrorKind::NotFound => Err(Fault::NoEncoder),
            other => other,
        };
        let judge = || Self::judge(read()?, &file, wanted, shape, schema);
        judge().map_err(|fault| ModelError::new(&file, fault))
    }

    fn judge(
        bytes: Vec<u8>,
        file: &Path,
        wanted: &str,
        shape: &[usize],
        schema: &Schema,
    ) -> Result<Self, Fault> {
        let graph = Judged::of(&bytes, Some(wanted))?;
        let width = context::width(schema);
        let ports = |ports: &[super::file::Port]| -> Vec<(String, Vec<usize>)> {
            ports.iter().map(|p| (p.name.clone(), p.shape.clone())).collect()
        };
        let takes = [
            ("demonstrations".to_owned(), vec![1, MOST, RECORDS, width]),
            ("mask".to_owned(), vec![1, MOST]),
        ];
        let gives = [("context".to_owned(), shape.to_vec())];
        if ports(&graph.inputs) != takes || ports(&graph.outputs) != gives {
            return Err(Fault::Graph(format!(
                "it turns {:?} into {:?}; an encoder for this model turns {takes:?} into {gives:?}",
                ports(&graph.inputs),
                ports(&graph.outputs)
            )));
        }
        let metadata = graph.metadata();
        card::identity(&metadata, &KEYS, schema)?;
        let golden = card::golden(&metadata, MOST * RECORDS * width + MOST, &graph.outputs)?;
        Ok(Self { sha256: graph.sha256.clone(), file: file.to_owned(), width, golden, bytes })
    }

    /// The vectors that `demonstrations` become, once the encoder has answered its golden vectors; `library` is the ONNX
    /// Runtime that the user names, if any.
    ///
    /// # Errors
    /// There is no backend, it refuses the graph, or the golden vectors are not answered.
    pub fn encode(
        &self,
        demonstrations: &[Demonstration],
        schema: &Schema,
        library: Option<&Path>,
    ) -> Result<Vec<f32>, ModelError> {
        let run = || -> Result<Vec<f32>, Fault> {
            let choice = l4sd_onnxruntime::backend(&l4sd_onnxruntime::candidates(library))?;
            let mut graph = graph(&self.bytes, &choice.backend)?;
            let failed = |e: &dyn std::fmt::Display| Fault::Backend {
                backend: choice.backend.to_string(),
                reason: e.to_string(),
            };
            let mut ask = |shown: &[f32], mask: &[f32]| -> Result<Vec<f32>, Fault> {
                let shown = Tensor::from_array(([1, MOST, RECORDS, self.width], shown.to_vec()))
                    .map_err(|e| failed(&e))?;
                let mask = Tensor::from_array(([1, MOST], mask.to_vec())).map_err(|e| failed(&e))?;
                let outputs = graph
                    .run(ort::inputs!["demonstrations" => shown.view(), "mask" => mask.view()])
                    .map_err(|e| failed(&e))?;
                let value = outputs.get("context").ok_or_else(|| failed(&"no output 'context'"))?;
                Ok(value.try_extract_tensor::<f32>().map_err(|e| failed(&e))?.1.to_vec())
            };
            let (question, split) = (self.width * MOST * RECORDS + MOST, self.width * MOST * RECORDS);
            let vectors = self.golden.inputs.len() / question;
            let mut worst = 0.0f32;
            for (input, wanted) in self
                .golden
                .inputs
                .chunks(question)
                .zip(self.golden.outputs.chunks(self.golden.outputs.len() / vectors))
            {
                worst = worst.max(apart(&ask(&input[..split], &input[split..])?, wanted));
            }
            judged(worst, self.golden.tolerance, &choice.backend)?;
            let (shown, mask) = context::prompt(demonstrations, schema);
            let vectors = ask(&shown, &mask)?;
            if vectors.iter().any(|x| !x.is_finite()) {
                return Err(failed(&"the context is not finite"));
            }
            Ok(vectors)
        };
        run().map_err(|fault| ModelError::new(&self.file, fault))
    }
}
