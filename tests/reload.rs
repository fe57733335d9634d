//! `l4sd reload` and SIGHUP as an operator meets them, on a bridge between `mem:` ports: what changes, what is refused,
//! what is said, and that a wrong file has no effect.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

const L4SD: &str = env!("CARGO_BIN_EXE_l4sd");

/// A running bridge in a folder of its own; it ends with this.
struct Running {
    dir: tempfile::TempDir,
    child: Option<Child>,
}

fn text(dir: &Path, rate: &str, more: &str) -> String {
    format!(
        "version = 1\n[left]\nport = \"mem:\"\n[right]\nport = \"mem:\"\n[metrics]\nlisten = \"off\"\n\
         [runtime]\npidfile = \"{}\"\n[link]\nrate = \"{rate}\"\n{more}",
        dir.join("l4sd.pid").display()
    )
}

fn l4sd(arguments: &[&str]) -> Output {
    Command::new(L4SD).args(arguments).output().unwrap()
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within 5 s");
}

impl Running {
    fn start(more: &str, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("l4sd.toml"), text(dir.path(), "40Mbit", more)).unwrap();
        let child = Command::new(L4SD)
            .args(["run", "-c", "l4sd.toml", "--out", "out", "--json"])
            .args(flags)
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(fs::File::create(dir.path().join("log")).unwrap()))
            .spawn()
            .unwrap();
        let running = Self { dir, child: Some(child) };
        wait_until("it forwards", || running.log().contains("forwarding"));
        running
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    fn id(&self) -> String {
        self.child.as_ref().unwrap().id().to_string()
    }

    fn write(&self, rate: &str, more: &str) {
        fs::write(self.file("l4sd.toml"), text(self.dir.path(), rate, more)).unwrap();
    }

    /// Exit code and what was said, on whichever output.
    fn reload(&self) -> (i32, String) {
        let output = l4sd(&["reload", "--pidfile", self.file("l4sd.pid").to_str().unwrap()]);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    /// The runs of `results.json`, left to right first.
    fn stop(mut self) -> [Value; 2] {
        let kill = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &self.id()]).status().unwrap();
        assert!(kill.success());
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        assert!(output.status.success(), "{}", self.log());
        assert!(!self.file("l4sd.pid").exists() && !self.file("l4sd.pid.reload").exists());
        let results: Value = serde_json::from_slice(&output.stdout).unwrap();
        [0, 1].map(|i| results["runs"][i].clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_reload_is_all_or_nothing_and_says_which() {
    let bridge = Running::start("[aqm]\npolicy = \"dualpi2\"\n", &[]);
    let (code, said) = bridge.reload();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("nothing has changed"), "{said}");

    bridge
        .write("10Mbit", "overhead = 24\n[aqm]\npolicy = \"dualpi2:target=5ms\"\n[log]\nlevel = \"debug\"\n");
    let (code, said) = bridge.reload();
    assert_eq!(
        (code, said.as_str()),
        (
            0,
            "link.rate 40Mbit to 10Mbit, link.rate_right_to_left 40Mbit to 10Mbit, link.overhead 0 to 24, \
             aqm.policy dualpi2 to dualpi2:target=5ms, log.level info to debug\n"
        )
    );
    assert!(
        bridge.log().contains("INFO configuration reloaded: link.rate 40Mbit to 10Mbit"),
        "{}",
        bridge.log()
    );

    bridge.write("20Mbit", "[aqm]\npolicy = \"pi2\"\n[log]\nformat = \"json\"\n");
    let (code, said) = bridge.reload();
    assert_eq!(
        (code, said.as_str()),
        (
            78,
            "l4sd: aqm.policy, log.format cannot change while it runs; nothing was changed; restart to change it\n"
        )
    );
    bridge.write("20Mbit", "mpu = 999\n");
    let (code, said) = bridge.reload();
    assert_eq!(code, 78);
    assert!(said.contains("l4sd.toml:12:7: link.mpu: 999 is out of range, 0 to 256"), "{said}");
    fs::remove_file(bridge.file("l4sd.toml")).unwrap();
    let (code, said) = bridge.reload();
    assert_eq!(code, 78);
    assert!(said.contains("l4sd.toml: cannot read the configuration"), "{said}");
    assert_eq!(bridge.log().matches("WARN configuration not reloaded: ").count(), 3, "{}", bridge.log());

    // What is in force is what was applied last, whatever was refused since.
    bridge
        .write("10Mbit", "overhead = 24\n[aqm]\npolicy = \"dualpi2:target=5ms\"\n[log]\nlevel = \"debug\"\n");
    assert!(bridge.reload().1.contains("nothing has changed"));
    for run in bridge.stop() {
        assert_eq!(run["policy"], "dualpi2:target=5ms");
        let rate = run["link"]["rate_mbps"].as_f64().unwrap();
        assert!(10.0 < rate && rate < 40.0, "the time mean of 40 and 10: {rate}");
        let utilization = run["link"]["utilization"].as_f64().unwrap();
        if run["direction"] == "left_to_right" {
            // On a busy host the loop may miss part of the time; over the capacity it must not be.
            assert!((0.2..1.01).contains(&utilization), "of the capacity of both rates: {utilization}");
        }
        let t = &run["totals"]["all"];
        let n = |pointer: &str| t.pointer(pointer).and_then(Value::as_u64).unwrap();
        let dropped = n("/dropped/aqm") + n("/dropped/overload") + n("/dropped/tail");
        assert_eq!(n("/arrived"), n("/packets") + dropped + n("/queued_end"));
    }
}

#[test]
fn a_flag_wins_over_the_file_in_a_reload_as_well() {
    let bridge = Running::start("", &["--rate", "30Mbit"]);
    bridge.write("10Mbit", "mpu = 84\n");
    assert_eq!(bridge.reload(), (0, "link.mpu 0 to 84\n".to_owned()));
    bridge.write("10Mbit", "mpu = 84\n[aqm]\npolicy = \"dualpi2\"\n");
    let (code, said) = bridge.reload();
    assert_eq!(code, 78, "the default is the model: {said}");
    assert!(said.contains("aqm.policy cannot change while it runs"), "{said}");
    bridge.write("10Mbit", "mpu = 84\n");
    // Without a pidfile of its own the verb can only send the signal; the log has the answer.
    let output = l4sd(&["reload", "--pid", &bridge.id()]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("its log says"), "{output:?}");
    wait_until("SIGHUP is answered", || bridge.log().contains("configuration reloaded: nothing has changed"));
    let second = l4sd(&["run", "-c", bridge.file("l4sd.toml").to_str().unwrap(), "--duration", "1s"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(69), "{said}");
    assert!(said.contains(&format!("process {} holds it", bridge.id())), "{said}");
    let config = bridge.file("l4sd.toml");
    let output = l4sd(&["reload", "-c", config.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "the file names the pidfile: {output:?}");
    bridge.stop();
}

#[test]
fn without_a_file_there_is_nothing_to_reread() {
    let dir = tempfile::tempdir().unwrap();
    let (pidfile, out) = (dir.path().join("p"), dir.path().join("out"));
    let mut child = Command::new(L4SD)
        .args([
            "run",
            "--left",
            "mem:",
            "--right",
            "mem:",
            "--rate",
            "1Mbit",
            "--metrics",
            "off",
            "--duration",
            "9s",
        ])
        .args([Path::new("--pidfile"), &pidfile, Path::new("--out"), &out])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the pidfile is there", || {
        pidfile.with_extension("reload").exists() || dir.path().join("p.reload").exists()
    });
    let output = l4sd(&["reload", "--pidfile", pidfile.to_str().unwrap()]);
    let _ = child.kill();
    let _ = child.wait();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("started without -c FILE"), "{said}");
    // It was killed: the file is still there, and nobody behind it.
    let output = l4sd(&["reload", "--pidfile", pidfile.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("the process that wrote it has ended"), "{said}");
}

#[test]
fn the_verb_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    fs::write(&config, "version = 1\n").unwrap();
    let missing = dir.path().join("no.pid");
    for (arguments, code, part) in [
        (vec!["reload"], 64, "--pidfile FILE, --pid N, or -c FILE"),
        (vec!["reload", "--pid", "1"], 64, "--pid"),
        (vec!["reload", "-c", config.to_str().unwrap()], 78, "there is no pidfile under [runtime]"),
        (vec!["reload", "--pidfile", missing.to_str().unwrap()], 69, "is l4sd running with this pidfile?"),
        (vec!["reload", "--pid", "2147483647"], 69, "process 2147483647: kill(SIGHUP): No such process"),
    ] {
        let output = l4sd(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}
