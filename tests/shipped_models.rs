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
        // Trees know the settings of labels; the student scores every gain at every target beside them (wider.py).
        let settings = if path.ends_with("trees.onnx") { 50 } else { 104 };
        assert_eq!(file.card.candidates.len(), settings, "{}", path.display());
        assert!(file.card.golden.inputs.len() >= 2, "{}", path.display());
        match l4sd_onnxruntime::backend(&l4sd_onnxruntime::candidates(None)) {
            Ok(_) => drop(Session::open(&file, &path, None).unwrap()),
            Err(e) => eprintln!("SKIPPED: {e} (make tools gets one, and sets ORT_DYLIB_PATH)"),
        }
        seen.push(path.file_name().unwrap().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["student-int8.onnx", "student.onnx", "trees.onnx"]);
}

/// The file in 8 bits was made from the one that is built in, is used in the same way, and needs no operator that other models do
/// not have: 8-bit products, their ranges at run time.
#[test]
fn the_file_in_8_bits_is_of_the_built_in_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/student-int8.onnx");
    let small = ModelFile::read(&path, &Schema::embedded(), None).unwrap();
    let built_in = ModelFile::open(None, &Schema::embedded(), None).unwrap();
    assert_eq!(small.card.notes["made_from"], built_in.sha256, "models/train/quantize.py makes it again");
    let (a, b) = (&small.card, &built_in.card);
    assert_eq!((&a.candidates, a.period, a.threshold), (&b.candidates, b.period, b.threshold));
    assert_eq!((a.hysteresis, a.distance_limit), (b.hysteresis, b.distance_limit));
    assert_eq!((&a.golden.inputs, a.golden.tolerance), (&b.golden.inputs, 0.05));
    let worst = a.golden.outputs.iter().zip(&b.golden.outputs).map(|(x, y)| (x - y).abs());
    assert!(worst.fold(0.0, f32::max) < 0.2, "the answers are near those of floats");
    let count = |op: &str| small.operators.iter().find(|(name, _)| name == op).map_or(0, |(_, n)| *n);
    assert_eq!((count("MatMulInteger"), count("DynamicQuantizeLinear")), (13, 13));
}
