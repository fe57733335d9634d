//! The models that this repository ships are fit for this program: read, judged, and of today's schema. Whether they answer as
//! their golden vectors say needs ONNX Runtime.

use std::path::Path;

use l4sd::control::model::{ModelFile, Session, shipped};
use l4sd::telemetry::features::schema::Schema;

/// What is built in is a file of `models/`, and fit.
#[test]
fn the_built_in_model_is_fit() {
    let file = shipped::LABEL.strip_suffix(" (built in)").unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    assert!(std::fs::read(&path).unwrap() == shipped::SHIPPED, "{file} is what is built in");
    let built_in = ModelFile::open(None, &Schema::embedded(), None).unwrap();
    let read = ModelFile::open(Some(&path), &Schema::embedded(), Some(&built_in.sha256)).unwrap();
    assert_eq!((read.sha256, read.card), (built_in.sha256, built_in.card));
    let error = ModelFile::open(None, &Schema::embedded(), Some(&"0".repeat(64))).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: its SHA-256 is", shipped::LABEL)), "{error}");
}

/// Every file of `models/` that is a model, the built-in one and its rivals.
#[test]
fn all_of_them_are_fit() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "onnx") {
            continue;
        }
        let file = ModelFile::read(&path, &Schema::embedded(), None).unwrap();
        assert_eq!(file.card.candidates.len(), 44, "{}", path.display());
        assert!(file.card.golden.inputs.len() >= 2, "{}", path.display());
        match l4sd_onnxruntime::backend(&l4sd_onnxruntime::candidates(None)) {
            Ok(_) => drop(Session::open(&file, &path, None).unwrap()),
            Err(e) => eprintln!("SKIPPED: {e} (make tools gets one, and sets ORT_DYLIB_PATH)"),
        }
        seen.push(path.file_name().unwrap().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["student.onnx", "trees.onnx"]);
}
