//! What `freebsd/` says of the program is true of it: keys of the manual page and the sample, and the scripts parse.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use l4sd::config::{KEYS, Settings};

const MANUAL: &str = include_str!("../freebsd/man/l4sd.toml.5");
const SAMPLE: &str = include_str!("../freebsd/etc/l4sd.toml.sample");
const SERVICE: &str = include_str!("../freebsd/rc.d/l4sd");
const LINUX_SAMPLE: &str = include_str!("../docs/l4sd.toml.sample");

/// The list of keys in l4sd.toml(5) is the program's, in its order.
#[test]
fn the_manual_page_has_every_key_and_no_other() {
    let listed: Vec<&str> = MANUAL.lines().filter_map(|line| line.strip_prefix(".It Ic ")).collect();
    assert_eq!(listed, KEYS.map(|key| key.name));
}

/// The sample with `#` taken off every key: all of them are there, and each has a value that works.
fn uncommented(sample: &str) -> String {
    let is_key =
        |line: &str| line.starts_with('#') && line.as_bytes().get(1).is_some_and(u8::is_ascii_lowercase);
    sample
        .lines()
        .map(|line| if is_key(line) { &line[1..] } else { line })
        .fold(String::new(), |text, line| text + line + "\n")
}

fn keys_of(text: &str) -> BTreeSet<String> {
    let table: toml::Table = text.parse().unwrap();
    let sections = table.iter().flat_map(|(section, value)| match value {
        toml::Value::Table(keys) => keys.keys().map(|key| format!("{section}.{key}")).collect(),
        _ => vec![section.clone()],
    });
    sections.collect()
}

#[test]
fn the_sample_has_every_key_and_each_value_is_taken() {
    for sample in [SAMPLE, LINUX_SAMPLE] {
        let all = uncommented(sample);
        assert_eq!(keys_of(&all), KEYS.iter().map(|key| key.name.to_owned()).collect());
        for text in [sample, all.as_str()] {
            Settings::from_toml(text, "l4sd.toml.sample").unwrap();
            let in_memory: String = text
                .lines()
                .map(|line| if line.starts_with("port = ") { "port = \"mem:\"" } else { line })
                .fold(String::new(), |text, line| text + line + "\n");
            Settings::from_toml(&in_memory, "l4sd.toml.sample").unwrap().validate().unwrap();
        }
    }
}

#[test]
fn the_sample_names_ports_of_freebsd() {
    let settings = Settings::from_toml(SAMPLE, "l4sd.toml.sample").unwrap();
    for port in [settings.left, settings.right] {
        assert!(port.unwrap().to_string().starts_with("netmap:"));
    }
}

/// daemon(8) holds the files of the service locked: a forwarder that was given one of them would not start.
#[test]
fn the_pidfile_of_the_sample_is_none_of_the_service() {
    let pidfile = Settings::from_toml(&uncommented(SAMPLE), "sample").unwrap().pidfile.unwrap();
    let run_dir = SERVICE.lines().find_map(|line| line.strip_prefix("run_dir=")).unwrap();
    let of_service: Vec<_> = SERVICE
        .lines()
        .filter_map(|line| line.split_once("pidfile=$run_dir/"))
        .map(|(_, name)| Path::new(run_dir).join(name))
        .collect();
    assert_eq!(of_service.len(), 2, "the supervisor's and the forwarder's: {of_service:?}");
    assert!(!of_service.contains(&pidfile), "{}", pidfile.display());
    assert!(of_service.iter().any(|path| MANUAL.contains(path.to_str().unwrap())), "the manual warns of it");
}

#[test]
fn the_shell_scripts_parse() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("freebsd");
    for script in [
        "lint.sh",
        "cross/build.sh",
        "cross/cc.sh",
        "cross/toolchain.sh",
        "port/crates.sh",
        "rc.d/l4sd",
        "rc.d/l4sd_keeper",
        "testbed/testbed.sh",
    ] {
        let output = Command::new("sh").arg("-n").arg(folder.join(script)).output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
