//! Runs `l4sd sim` as anybody would: scenario files in, `results.json` out.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::pairs::{self, Cc, Pair, Scalable};
use super::reference::{Case, Phase};
use crate::results::{Results, ResultsError};

/// Bytes of udp_prague's frames.
pub(crate) const PRAGUE_FRAME: u32 = 1442;

/// Why there are no simulated figures.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorError {
    /// The program does not start.
    #[error("cannot start {}: {source}", path.display())]
    Start {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It refused.
    #[error("l4sd sim ended with {status}: {said}")]
    Failed {
        /// How it ended.
        status: String,
        /// Its words on standard error.
        said: String,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    Results(#[from] ResultsError),
}

/// A scenario file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioFile {
    /// Its name, in the file and of it.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl ScenarioFile {
    /// A window of a case. The windows of a case are of one and the same run: a scenario with another warm-up or an
    /// earlier end sends the same packets.
    pub fn of_phase(case: &Case, phase: &Phase) -> Self {
        let name = match phase.label {
            "" => case.name.to_owned(),
            label => format!("{}-{label}", case.name),
        };
        let mut text = head(&name, phase.to_s, phase.from_s, case.rate_mbit);
        if let Some(step) = case.step.filter(|s| s.at_s < phase.to_s) {
            writeln!(text, "steps = [{{ at = \"{}s\", rate = \"{}Mbit\" }}]", step.at_s, step.rate_mbit).ok();
        }
        flow(&mut text, "prague", case.rtt_ms);
        writeln!(text, "frame = {PRAGUE_FRAME}").ok();
        flow(&mut text, "cubic", case.rtt_ms);
        Self { name, text }
    }

    /// A row of the RTT pairs.
    pub fn of_pair(pair: &Pair, scalable: Scalable) -> Self {
        let name = pair.name(scalable);
        let mut text = head(&name, pairs::DURATION_S, pairs::WARMUP_S, pairs::RATE_MBIT);
        for (cc, rtt_ms) in [pair.first, pair.second] {
            flow(&mut text, if cc == Cc::Cubic { "cubic" } else { scalable.cc() }, rtt_ms);
        }
        Self { name, text }
    }
}

fn head(name: &str, duration_s: u32, warmup_s: u32, rate_mbit: u32) -> String {
    format!(
        "name = \"{name}\"\nduration = \"{duration_s}s\"\nwarmup = \"{warmup_s}s\"\n\n[link]\nrate = \"{rate_mbit}Mbit\"\n"
    )
}

fn flow(text: &mut String, cc: &str, rtt_ms: u32) {
    writeln!(text, "\n[[flow]]\ncc = \"{cc}\"\nrtt = \"{rtt_ms}ms\"").ok();
}

/// Runs the files under `dualpi2` with `seeds` seeds each; files and results go to `out`.
pub fn simulate(
    l4sd: &Path,
    files: &[ScenarioFile],
    seeds: u32,
    out: &Path,
) -> Result<Results, SimulatorError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| ResultsError::Write { path, reason: e.to_string() }
    };
    let folder = out.join("scenarios");
    fs::create_dir_all(&folder).map_err(failed(&folder))?;
    let mut command = Command::new(l4sd);
    command.arg("sim").args(["--policy", "dualpi2", "--seeds", &seeds.to_string(), "--out"]).arg(out);
    for file in files {
        let path = folder.join(format!("{}.toml", file.name));
        fs::write(&path, &file.text).map_err(failed(&path))?;
        command.arg(path);
    }
    let output =
        command.output().map_err(|source| SimulatorError::Start { path: l4sd.to_path_buf(), source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(SimulatorError::Failed { status: output.status.to_string(), said });
    }
    Ok(Results::read(&out.join("results.json"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreement::reference::cases;

    #[test]
    fn only_windows_that_reach_the_step_have_it() {
        let case = &cases()[5];
        let texts: Vec<String> = case.phases.iter().map(|p| ScenarioFile::of_phase(case, p).text).collect();
        assert_eq!(texts.iter().map(|t| t.contains("steps")).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(
            texts[1],
            "name = \"step-40-10mbit-first-second\"\nduration = \"21s\"\nwarmup = \"20s\"\n\n[link]\n\
             rate = \"40Mbit\"\nsteps = [{ at = \"20s\", rate = \"10Mbit\" }]\n\n\
             [[flow]]\ncc = \"prague\"\nrtt = \"20ms\"\nframe = 1442\n\n[[flow]]\ncc = \"cubic\"\nrtt = \"20ms\"\n"
        );
    }

    #[test]
    fn a_pair_keeps_its_order_and_takes_the_sender_it_is_told() {
        let text = ScenarioFile::of_pair(&pairs::PAIRS[7], Scalable::Dctcp).text;
        assert!(text.contains("rate = \"50Mbit\""), "{text}");
        assert!(
            text.ends_with(
                "[[flow]]\ncc = \"cubic\"\nrtt = \"160ms\"\n\n[[flow]]\ncc = \"dctcp\"\nrtt = \"10ms\"\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        let out = std::env::temp_dir().join(format!("l4sd-agreement-{}", std::process::id()));
        let error = simulate(Path::new("false"), &[], 1, &out).unwrap_err().to_string();
        assert_eq!(error, "l4sd sim ended with exit status: 1: ");
        fs::remove_dir_all(&out).unwrap();
    }
}
