//! The models that this repository ships are fit for this program: read, judged, and of today's schema. Whether they answer as
//! their golden vectors say needs ONNX Runtime.

use std::path::Path;

use l4sd::control::model::{ModelFile, Session};
use l4sd::telemetry::features::schema::Schema;

#[test]
fn trees_are_fit() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/trees.onnx");
    let file = ModelFile::read(&path, &Schema::embedded(), None).unwrap();
    assert_eq!(file.card.candidates.len(), 44);
    assert!(file.card.golden.inputs.len() >= 2);
    match l4sd_onnxruntime::backend(&l4sd_onnxruntime::candidates(None)) {
        Ok(_) => drop(Session::open(&file, &path, None).unwrap()),
        Err(e) => eprintln!("SKIPPED: {e} (make tools gets one, and sets ORT_DYLIB_PATH)"),
    }
}
