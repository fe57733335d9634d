use std::path::Path;

use prost::Message;

use super::fabricate::{CONTEXT, Linear, can_run, encoder};
use super::proto::{Anything, Attribute, Entry, Model, Node};
use super::{EncoderFile, Fault, ModelFile, Session};
use crate::aqm::params::Knobs;
use crate::control::context::{self, RECORDS};
use crate::telemetry::features::schema::Schema;
use crate::time::Span;

fn judge(model: &Model) -> Result<ModelFile, Fault> {
    ModelFile::judge(model.encode_to_vec(), &Schema::embedded(), None)
}

fn spoilt(spoil: impl FnOnce(&mut Model)) -> String {
    let mut model = Linear::default().model(&Schema::embedded());
    spoil(&mut model);
    judge(&model).expect_err("it is spoilt").to_string()
}

fn meta<'a>(model: &'a mut Model, key: &str) -> &'a mut String {
    &mut model.metadata_props.iter_mut().find(|e| e.key == key).expect("the key is there").value
}

#[test]
fn a_good_file_is_read_whole() {
    let linear = Linear { feed_forward: Some([0.0; 5]), distance: Some(3), ..Linear::default() };
    let file = linear.file();
    let model = ModelFile::read(file.path(), &Schema::embedded(), None).unwrap();
    let width = Schema::embedded().width();
    assert_eq!(model.operators, [("Gemm".to_owned(), 4)]);
    assert_eq!(model.parameters as usize, (width + 1) * (2 + 2 + 1 + 5));
    assert_eq!((model.opset, model.card.candidates.len()), (17, 2));
    assert_eq!(model.card.candidates[1], Knobs { target: Span::from_millis(5), ..Knobs::default() });
    assert_eq!((model.card.distance_limit, model.card.feed_forward_threshold), (Some(1.0), Some(0.5)));
    assert_eq!(model.card.notes["note"], "linear, for tests");
    let again = ModelFile::read(file.path(), &Schema::embedded(), Some(&model.sha256.to_uppercase()));
    assert_eq!(again.unwrap().sha256, model.sha256);
    let other = "0".repeat(64);
    let error = ModelFile::read(file.path(), &Schema::embedded(), Some(&other)).unwrap_err().to_string();
    assert!(error.contains(&model.sha256) && error.contains(&other), "{error}");
}

#[test]
fn what_the_graph_may_not_have() {
    let node = |op: &str, domain: &str| Node { op_type: op.into(), domain: domain.into(), ..Node::default() };
    let graph = |m: &mut Model, n: Node| m.graph.as_mut().unwrap().node.push(n);
    for (message, part) in [
        (spoilt(|m| graph(m, node("Loop", ""))), "operator 'Loop', which is not allowed"),
        (spoilt(|m| graph(m, node("Gemm", "com.microsoft"))), "operator 'Gemm', which is not allowed"),
        (spoilt(|m| graph(m, node("RandomNormal", ""))), "'RandomNormal'"),
        (
            spoilt(|m| {
                let inner = Attribute { g: Some(Box::new(Anything {})), ..Attribute::default() };
                graph(m, Node { attribute: vec![inner], ..node("Gemm", "") });
            }),
            "a graph of its own",
        ),
        (
            spoilt(|m| {
                let tensor = &mut m.graph.as_mut().unwrap().initializer[0];
                tensor.data_location = 1;
                tensor.external_data =
                    vec![Entry { key: "location".into(), value: "../../etc/passwd".into() }];
            }),
            "in another file",
        ),
        (spoilt(|m| m.graph.as_mut().unwrap().initializer[0].dims = vec![i64::MAX, 3]), "no size"),
        (spoilt(|m| m.opset_import[0].version = 99), "operator set is 99"),
        (spoilt(|m| m.opset_import[0].domain = "com.microsoft".into()), "'com.microsoft'"),
        (spoilt(|m| m.opset_import.clear()), "no operator set"),
        (spoilt(|m| m.functions.push(Anything {})), "functions"),
        (spoilt(|m| m.graph = None), "no graph"),
        (spoilt(|m| m.graph.as_mut().unwrap().input[0].name = "x".into()), "'features'"),
        (spoilt(|m| m.graph.as_mut().unwrap().output[0].name = "sco\0re".into()), "no name for"),
        (
            spoilt(|m| {
                let ty = m.graph.as_mut().unwrap().input[0].r#type.as_mut().unwrap();
                ty.tensor_type.as_mut().unwrap().shape.as_mut().unwrap().dim[0].dim_value = None;
            }),
            "fixed shape",
        ),
    ] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
    for bytes in [&b""[..], b"not a model", &[0xff; 64]] {
        let message = ModelFile::judge(bytes.to_vec(), &Schema::embedded(), None).unwrap_err().to_string();
        assert!(message.starts_with("not an ONNX file"), "{message}");
    }
}

#[test]
fn what_the_metadata_must_say() {
    for (message, part) in [
        (spoilt(|m| *meta(m, "l4sd.format") = "2".into()), "format is '2'"),
        (spoilt(|m| *meta(m, "l4sd.schema") = "abc".into()), "feature schema abc"),
        (spoilt(|m| m.metadata_props.retain(|e| e.key != "l4sd.threshold")), "lacks 'l4sd.threshold'"),
        (spoilt(|m| *meta(m, "l4sd.threshold") = "1.5".into()), "'1.5', not a number of 0 to 1"),
        (spoilt(|m| *meta(m, "l4sd.hysteresis") = "NaN".into()), "'NaN', not a number"),
        (
            spoilt(|m| m.metadata_props.push(Entry { key: "l4sd.magic".into(), value: "1".into() })),
            "'l4sd.magic'",
        ),
        (
            spoilt(|m| *meta(m, "l4sd.candidates") = "[[0.015,1,0.0008]]".into()),
            "1 candidates it must be [1, 1]",
        ),
        (spoilt(|m| *meta(m, "l4sd.candidates") = "[[0.015,1,0.0008],[0.1,1,0.0008]]".into()), "candidate 1"),
        (
            spoilt(|m| *meta(m, "l4sd.candidates") = "[[0.005,1,0.0008],[0.015,1,0.0008]]".into()),
            "first candidate",
        ),
        (spoilt(|m| *meta(m, "l4sd.candidates") = "7".into()), "is not [[target_s"),
        (spoilt(|m| *meta(m, "l4sd.golden_in") = "!".into()), "not base64"),
        (spoilt(|m| *meta(m, "l4sd.golden_in") = "AAAA".into()), "whole number of 32-bit"),
        (spoilt(|m| *meta(m, "l4sd.golden_in") = "AADAfwAAAAA=".into()), "not finite"),
        (spoilt(|m| *meta(m, "l4sd.golden_out") = String::new()), "golden vectors have"),
        (
            spoilt(|m| m.metadata_props.push(Entry { key: "l4sd.distance_limit".into(), value: "1".into() })),
            "but no output 'distance'",
        ),
    ] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
}

#[test]
fn a_session_answers_what_the_graph_says() {
    if !can_run() {
        return;
    }
    let linear = Linear {
        slope: (2, -1.0),
        distance: Some(5),
        feed_forward: Some([0.0, 1.0, 2.0, 3.0, 4.0]),
        ..Linear::default()
    };
    let file = linear.file();
    let model = ModelFile::read(file.path(), &Schema::embedded(), None).unwrap();
    let mut session = Session::open(&model, file.path(), None).unwrap();
    let mut features = vec![0.0; Schema::embedded().width()];
    for x in [0.25, -3.0] {
        (features[2], features[5]) = (x, 2.0 * x);
        let answer = session.run(&features).unwrap();
        assert_eq!(answer.score, [0.0, -0.5 - x]);
        assert_eq!((answer.feasible, answer.distance), (&[9.0, 9.0][..], Some(2.0 * x)));
        assert_eq!(answer.feed_forward, [0.0, 1.0, 2.0, 3.0, 4.0]);
    }
}

#[test]
fn wrong_golden_vectors_are_found() {
    if !can_run() {
        return;
    }
    let mut model = Linear::default().model(&Schema::embedded());
    model.graph.as_mut().unwrap().initializer[1].raw_data[4..8].copy_from_slice(&(-0.4f32).to_le_bytes());
    let file = judge(&model).unwrap();
    let error = Session::open(&file, Path::new("x.onnx"), None).unwrap_err();
    assert!(matches!(error.fault, Fault::Golden { worst, .. } if (worst - 0.1).abs() < 1e-6), "{error}");
    assert!(error.to_string().starts_with("x.onnx: its answers differ"), "{error}");
}

/// The file that tests of the program use; its schema must be this program's. `L4SD_WRITE=1 cargo test the_committed_model`
/// writes it anew.
#[test]
fn the_committed_model_is_the_linear_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/linear.onnx");
    let bytes = Linear::default().bytes();
    if std::env::var_os("L4SD_WRITE").is_some() {
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(std::fs::read(&path).unwrap() == bytes, "{}: not what the schema of today wants", path.display());
}

/// A folder with the model `m.onnx` that reads a context, and the encoder beside it, of which the model knows `sha256`.
fn pair(sha256: Option<String>) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = encoder(&Schema::embedded());
    let is = super::file::hash_of(&bytes);
    let model = folder.path().join("m.onnx");
    std::fs::write(&model, Linear { context: Some(sha256.unwrap_or(is)), ..Linear::default() }.bytes())
        .unwrap();
    std::fs::write(EncoderFile::beside(&model), bytes).unwrap();
    (folder, model)
}

#[test]
fn a_context_and_its_encoder_go_together() {
    let schema = Schema::embedded();
    let (_folder, path) = pair(None);
    let model = ModelFile::read(&path, &schema, None).unwrap();
    assert_eq!(model.context, Some(CONTEXT.to_vec()));
    assert_eq!(EncoderFile::of(&model, &path, &schema).unwrap().sha256, model.card.context_encoder.unwrap());

    let (_folder, path) = pair(Some("0".repeat(64)));
    let model = ModelFile::read(&path, &schema, None).unwrap();
    let error = EncoderFile::of(&model, &path, &schema).unwrap_err().to_string();
    assert!(error.contains("m.context.onnx: its SHA-256 is") && error.contains(&"0".repeat(64)), "{error}");
    std::fs::remove_file(EncoderFile::beside(&path)).unwrap();
    let error = EncoderFile::of(&model, &path, &schema).unwrap_err().to_string();
    assert!(
        error.ends_with("belongs beside it (docs/model.md)") && error.contains("m.context.onnx"),
        "{error}"
    );
    std::fs::copy(&path, EncoderFile::beside(&path)).unwrap();
    let wanted = ModelFile::read(&path, &schema, None).unwrap().sha256;
    let file = Linear { context: Some(wanted), ..Linear::default() }.file();
    let other = ModelFile::read(file.path(), &schema, None).unwrap();
    let error = EncoderFile::of(&other, &path, &schema).unwrap_err().to_string();
    assert!(error.contains("an encoder for this model turns"), "{error}");

    let file = Linear::default().file();
    let model = ModelFile::read(file.path(), &schema, None).unwrap();
    let error = EncoderFile::of(&model, file.path(), &schema).unwrap_err().to_string();
    assert!(error.contains("it reads no context: set [control] context = \"none\""), "{error}");

    let spoilt = |spoil: &dyn Fn(&mut Model)| {
        let mut model = Linear { context: Some("00".into()), ..Linear::default() }.model(&schema);
        spoil(&mut model);
        judge(&model).expect_err("it is spoilt").to_string()
    };
    for (message, part) in [
        (
            spoilt(&|m| m.metadata_props.retain(|e| e.key != "l4sd.context_encoder")),
            "no metadata 'l4sd.context_encoder'",
        ),
        (spoilt(&|m| m.graph.as_mut().unwrap().input.truncate(1)), "but no input 'context'"),
        (spoilt(&|m| m.graph.as_mut().unwrap().input[1].name = "x".into()), "the inputs features, x"),
        (
            spoilt(&|m| {
                let ty = m.graph.as_mut().unwrap().input[1].r#type.as_mut().unwrap();
                ty.tensor_type.as_mut().unwrap().shape.as_mut().unwrap().dim.truncate(2);
            }),
            "'context' is [1, 2]",
        ),
    ] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
}

/// Two demonstrations are shown, that with the lower return first: its first number is -4, so each of six numbers is
/// 2 - 4, and the score of the second candidate -.5 - 12.
#[test]
fn a_session_reads_the_context_that_the_encoder_makes() {
    if !can_run() {
        return;
    }
    let schema = Schema::embedded();
    let (_folder, path) = pair(None);
    let model = ModelFile::read(&path, &schema, None).unwrap();
    let mut session = Session::open(&model, &path, None).unwrap();
    let features = vec![0.0; schema.width()];
    assert_eq!(session.run(&features).unwrap().score, [0.0, -0.5], "without a context it is zeros");
    let shot = |first: f32, utilisation: f32| {
        let mut record = vec![0.0; context::width(&schema)];
        record[0] = first;
        record[context::width(&schema) - 3] = utilisation;
        vec![record; RECORDS]
    };
    let encoder = EncoderFile::of(&model, &path, &schema).unwrap();
    let vectors = encoder.encode(&[shot(9.0, 1.0), shot(-4.0, 0.5)], &schema, None).unwrap();
    assert_eq!(vectors, [-2.0; 6]);
    session.set_context(&vectors);
    assert_eq!(session.run(&features).unwrap().score, [0.0, -12.5]);
    assert_eq!(encoder.encode(&[], &schema, None).unwrap(), [0.0; 6]);
}

/// The names of a rule become places in the schema's vector: dt comes first, idle fifth.
#[test]
fn a_feed_forward_rule_is_read_by_the_schema() {
    let schema = Schema::embedded();
    let read = |rule, feed_forward| {
        let file = Linear { rule: Some(rule), feed_forward, ..Linear::default() }.file();
        ModelFile::read(file.path(), &schema, None).map(|model| model.card.feed_forward_rule.unwrap())
    };
    let rule = read(r#"{"factor": 0.25, "over": {"idle": 1.5, "dt": -0.5}}"#, None).unwrap();
    assert_eq!((rule.factor, rule.over.as_slice()), (0.25, [(0, -0.5), (4, 1.5)].as_slice()));
    let mut features = vec![0.0; schema.width()];
    assert_eq!(rule.of(&features), 1.0);
    features[4] = 1.6;
    assert_eq!(rule.of(&features), 0.25);
    features[0] = -0.5;
    assert_eq!(rule.of(&features), 1.0, "a limit has to be exceeded");
    for (text, says) in [
        (r#"{"factor": 3, "over": {"dt": 0}}"#, "has the factor 3; 0.25, 0.5, 2 and 4 are possible"),
        (r#"{"factor": 1, "over": {"dt": 0}}"#, "has the factor 1;"),
        (r#"{"factor": 2, "over": {}}"#, "names no feature"),
        (r#"{"factor": 2, "over": {"delay": 0}}"#, "'delay', which is no feature of models/schema.toml"),
        (r#"{"factor": 2}"#, "is not {\"factor\": F, \"over\": {\"FEATURE\": LIMIT}}"),
    ] {
        let said = read(text, None).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    let both = read(r#"{"factor": 2, "over": {"dt": 0}}"#, Some([0.0; 5])).unwrap_err().to_string();
    assert!(both.contains("one of them"), "{both}");
}
