//! The dependency map of `src/lib.rs`: each top-level module imports only what it is allowed to, and what it is allowed
//! to stands below it in that table. An import that is missing here is a decision about the design, not a formality.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom. Everything else is an upward or sideways import.
const MAY_IMPORT: [(&str, &[&str]); 17] = [
    ("wire", &[]),
    ("time", &[]),
    ("units", &["time"]),
    ("aqm", &["wire", "time", "units"]),
    ("telemetry", &["aqm", "wire", "time", "units"]),
    ("egress", &["aqm", "telemetry", "wire", "time", "units"]),
    ("port", &["time", "units"]),
    ("control", &["aqm", "telemetry", "time", "units"]),
    ("config", &["aqm", "control", "egress", "time", "units"]),
    ("report", &["aqm", "control", "telemetry", "time", "units"]),
    ("metrics", &["aqm", "config", "port", "telemetry", "wire", "time", "units"]),
    ("runtime", &["aqm", "config", "control", "egress", "port", "telemetry", "wire", "time", "units"]),
    ("load", &["port", "runtime", "wire", "time", "units"]),
    ("sim", &["aqm", "config", "control", "egress", "report", "telemetry", "wire", "time", "units"]),
    ("eval", &["aqm", "config", "control", "report", "sim", "telemetry", "time", "units"]),
    ("env", &["aqm", "config", "control", "egress", "report", "sim", "telemetry", "time", "units"]),
    (
        "cli",
        &[
            "aqm",
            "config",
            "control",
            "egress",
            "env",
            "eval",
            "load",
            "metrics",
            "port",
            "report",
            "runtime",
            "sim",
            "telemetry",
            "wire",
            "time",
            "units",
        ],
    ),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The module path of a source file below `crate`: `aqm/pi2.rs` is `[aqm, pi2]`.
fn module_of(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(source()).unwrap().with_extension("");
    let mut parts: Vec<_> = relative.iter().map(|p| p.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|p| p == "mod") {
        parts.pop();
    }
    parts
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The first names behind a path prefix such as `crate::`: one, or each of a braced group.
fn names_behind(rest: &str) -> Vec<String> {
    let name = |s: &str| s.trim_start().chars().take_while(|&c| is_word(c)).collect::<String>();
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else { return vec![name(rest)] };
    let (mut depth, mut start, mut names) = (1, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 1 => {
                names.push(name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

/// Top-level modules that the text of a file of `module` names, by `crate::` or by enough `super::`.
fn imports(module: &[String], text: &str, top: &BTreeSet<String>) -> BTreeSet<String> {
    let text = without_comments(text);
    let mut found = BTreeSet::new();
    let to_root = "super::".repeat(module.len());
    for prefix in ["crate::", to_root.as_str()].into_iter().filter(|p| !p.is_empty()) {
        for (at, _) in text.match_indices(prefix) {
            let before = text[..at].chars().next_back();
            // A path that goes on to the left, or the `$crate` of somebody's macro, is another path.
            if before.is_some_and(|c| is_word(c) || c == ':') {
                continue;
            }
            found.extend(names_behind(&text[at + prefix.len()..]));
        }
    }
    found.retain(|name| top.contains(name));
    found
}

fn top_level_modules() -> BTreeSet<String> {
    let lib = without_comments(&fs::read_to_string(source().join("lib.rs")).unwrap());
    lib.lines()
        .filter_map(|line| line.trim().strip_prefix("pub mod ").or_else(|| line.trim().strip_prefix("mod ")))
        .map(|rest| rest.trim_end_matches(';').to_owned())
        .collect()
}

#[test]
fn every_module_is_on_the_map() {
    let mapped: BTreeSet<String> = MAY_IMPORT.iter().map(|(m, _)| (*m).to_owned()).collect();
    assert_eq!(
        mapped,
        top_level_modules(),
        "a new top-level module needs its place in MAY_IMPORT and in lib.rs"
    );
}

/// The table in the documentation of the crate goes from the top down; a row may hold several modules of one level.
#[test]
fn the_map_agrees_with_the_table_of_the_crate() {
    let lib = fs::read_to_string(source().join("lib.rs")).unwrap();
    let mut level = BTreeMap::new();
    for (row, line) in lib.lines().filter(|l| l.starts_with("//! | [")).enumerate() {
        let first_cell = line.split('|').nth(1).unwrap();
        for name in first_cell.split('`').skip(1).step_by(2) {
            level.insert(name.to_owned(), row);
        }
    }
    assert_eq!(level.keys().cloned().collect::<BTreeSet<_>>(), top_level_modules());
    for (module, allowed) in MAY_IMPORT {
        for below in allowed {
            let same_row_as_units = level[module] == level[*below] && (module, *below) == ("units", "time");
            assert!(
                level[module] < level[*below] || same_row_as_units,
                "{module} may import {below}, which the table does not place below it"
            );
        }
    }
}

#[test]
fn imports_point_downward_only() {
    let top = top_level_modules();
    let allowed: BTreeMap<_, _> = MAY_IMPORT.into_iter().collect();
    let mut files = Vec::new();
    rust_files(&source(), &mut files);
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in &files {
        let module = module_of(file);
        let Some(own) = module.first().filter(|m| top.contains(*m)) else { continue };
        for name in imports(&module, &fs::read_to_string(file).unwrap(), &top) {
            if name == *own {
                continue;
            }
            if allowed[own.as_str()].contains(&name.as_str()) {
                seen.insert((own.clone(), name));
            } else {
                wrong.push(format!("{} imports {name}", file.strip_prefix(source()).unwrap().display()));
            }
        }
    }
    assert!(seen.len() > 30, "the scan still recognises imports: {seen:?}");
    assert!(wrong.is_empty(), "imports that the map does not allow: {wrong:#?}");
}

/// The scan sees an upward import however it is written.
#[test]
fn no_spelling_of_an_import_escapes() {
    let top: BTreeSet<String> = ["aqm", "cli", "time"].map(str::to_owned).into();
    let module = ["aqm".to_owned(), "pi2".to_owned()];
    for text in [
        "use crate::cli::Exit;",
        "use crate::{time::Instant, cli};",
        "use crate::{\n    cli::{run, bench},\n    time,\n};",
        "fn f() -> crate::cli::Exit { todo!() }",
        "use super::super::cli;",
    ] {
        assert!(imports(&module, text, &top).contains("cli"), "{text}");
    }
    for text in [
        "// crate::cli",
        "//! [`crate::cli`]",
        "use other_crate::cli;",
        "use super::cli;",
        "use crate::clip;",
    ] {
        assert!(!imports(&module, text, &top).contains("cli"), "{text}");
    }
}
