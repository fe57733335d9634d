//! Starts and stops the bridge under test, `l4sd run`, as any operator would: flags, a configuration file, /readyz.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

use crate::clock;
use crate::cpus::{self, Placement};
use crate::process::{Process, ProcessError};
use crate::results::FORWARD;
use crate::scrape::{self, Samples};
use crate::topology::{LEFT, RIGHT};

/// Where the bridge under test answers; inside its own network namespace.
pub const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9559);

const READY: Duration = Duration::from_secs(15);
const DRAIN: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);
/// It looks at its windows of 16 ms every 20 ms, so that within 80 ms it sees one when it is new.
const LOOKS: u32 = 40;
const BETWEEN_LOOKS: Duration = Duration::from_millis(3);

/// Why the bridge does not run.
#[derive(Debug, thiserror::Error)]
pub enum ForwarderError {
    /// It failed to start, or ended early.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its directory could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It never said that it forwards.
    #[error("l4sd did not answer 200 on http://{METRICS}/readyz within {READY:?}; its last lines:\n{0}")]
    NotReady(String),
    /// It did not end, or ended with an error.
    #[error("l4sd ended with {status}; its last lines:\n{tail}")]
    Failed {
        /// How; "no end" if it had to be killed.
        status: String,
        /// Its last lines.
        tail: String,
    },
    /// `/metrics` did not answer.
    #[error("no answer from http://{METRICS}/metrics: {0}")]
    Scrape(io::Error),
}

/// How it is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduling {
    /// SCHED_FIFO 40 on one core: figures may be quoted.
    Fifo,
    /// As any other process: figures are not for quoting.
    Ordinary,
}

/// What to run.
#[derive(Debug, Clone)]
pub struct RunSpec {
    /// The `l4sd` executable.
    pub l4sd: PathBuf,
    /// Back end: `packet`, `xdp`.
    pub port: String,
    /// Bottleneck rate of both directions, megabits a second.
    pub rate_mbit: u32,
    /// Two-way base delay, milliseconds; half of it in each direction.
    pub rtt_ms: u32,
    /// Discipline or controller.
    pub policy: String,
    /// Whole run, seconds.
    pub duration_s: u32,
    /// Part of it that is not measured, seconds.
    pub warmup_s: u32,
    /// Where it writes its files.
    pub out: PathBuf,
    /// How it is scheduled.
    pub scheduling: Scheduling,
    /// Where its threads run.
    pub placement: Placement,
    /// What happens to the rate while it runs.
    pub step: Option<Step>,
}

/// A change of the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// When, in seconds from the start.
    pub at_s: u32,
    /// To which rate, megabits a second.
    pub rate_mbit: u32,
}

/// A running bridge.
#[derive(Debug)]
pub struct Forwarder {
    process: Process,
    ready: Instant,
    spec: RunSpec,
}

impl RunSpec {
    /// The configuration file.
    pub fn config_path(&self) -> PathBuf {
        self.out.join("l4sd.toml")
    }

    /// Its text: what has no flag, and the rate, which a reload may change.
    pub fn config(&self, rate_mbit: u32) -> String {
        let mut text = format!("version = 1\n\n[link]\nrate = \"{rate_mbit}Mbit\"\n");
        let fifo = self.scheduling == Scheduling::Fifo;
        let last = || cpus::allowed().last().copied().filter(|_| fifo);
        let core = self.placement.forwarder.or_else(last);
        if fifo || core.is_some() {
            text.push_str("\n[runtime]\n");
        }
        if fifo {
            text.push_str("sched = \"fifo:40\"\n");
        }
        if let Some(core) = core {
            writeln!(text, "cores = [{core}]").ok();
        }
        if let Some(core) = self.placement.controller {
            write!(text, "\n[control]\ncore = {core}\n").ok();
        }
        text
    }

    fn arguments(&self, config: &Path) -> Vec<String> {
        let words = [
            ("-c", config.display().to_string()),
            ("--left", format!("{}:{LEFT}", self.port)),
            ("--right", format!("{}:{RIGHT}", self.port)),
            ("--delay", format!("{}us", self.rtt_ms * 1000 / 2)),
            ("--policy", self.policy.clone()),
            ("--duration", format!("{}s", self.duration_s)),
            ("--warmup", format!("{}s", self.warmup_s)),
            ("--metrics", METRICS.to_string()),
            ("--out", self.out.display().to_string()),
        ];
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(words.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        arguments
    }
}

impl Forwarder {
    /// Starts it and waits until it forwards.
    pub fn start(spec: &RunSpec) -> Result<Self, ForwarderError> {
        let config = spec.config_path();
        fs::create_dir_all(&spec.out)
            .and_then(|()| fs::write(&config, spec.config(spec.rate_mbit)))
            .map_err(|source| ForwarderError::Write { path: config.clone(), source })?;
        let mut process = Process::spawn("l4sd", Command::new(&spec.l4sd).args(spec.arguments(&config)))?;
        let deadline = clock::now() + READY;
        loop {
            process.check()?;
            if scrape::get(METRICS, "/readyz").is_ok_and(|(status, _)| status == 200) {
                return Ok(Self { process, ready: clock::now(), spec: spec.clone() });
            }
            if clock::now() >= deadline {
                return Err(ForwarderError::NotReady(process.tail()));
            }
            thread::sleep(POLL);
        }
    }

    /// When it began to forward, to a few tens of milliseconds.
    pub fn ready(&self) -> Instant {
        self.ready
    }

    /// Zero of its own clock, to a few milliseconds. What its shapers could have sent at a rate that has not changed yet
    /// says how old the last window was; of several looks the one that saw the freshest is the nearest.
    pub fn began(&self) -> Result<Instant, ForwarderError> {
        let mut began = self.ready;
        for _ in 0..LOOKS {
            let samples = self.metrics()?;
            let now = clock::now();
            let bytes = samples.sum("l4sd_capacity_bytes_total", &[("direction", FORWARD)]).unwrap_or(0.0);
            let age = Duration::from_secs_f64(bytes * 8e-6 / f64::from(self.spec.rate_mbit));
            began = began.min(now.checked_sub(age).unwrap_or(began));
            thread::sleep(BETWEEN_LOOKS);
        }
        Ok(began)
    }

    /// Writes another rate of both directions into its file and has it reread.
    pub fn set_rate(&self, rate_mbit: u32) -> Result<(), ForwarderError> {
        let path = self.spec.config_path();
        fs::write(&path, self.spec.config(rate_mbit))
            .map_err(|source| ForwarderError::Write { path, source })?;
        self.reload();
        Ok(())
    }

    /// Has it reread its file.
    pub fn reload(&self) {
        self.process.signal("HUP");
    }

    /// The text of `/metrics`.
    pub fn metrics_text(&self) -> Result<String, ForwarderError> {
        match scrape::get(METRICS, "/metrics").map_err(ForwarderError::Scrape)? {
            (200, body) => Ok(body),
            (status, _) => {
                Err(ForwarderError::Scrape(io::Error::other(format!("status {status} instead of 200"))))
            }
        }
    }

    /// One scrape.
    pub fn metrics(&self) -> Result<Samples, ForwarderError> {
        self.metrics_text().map(|text| Samples::parse(&text))
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        self.process.check().is_ok()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends it a signal by name: `STOP`, `CONT`.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Asks it to end now: it drains and writes its results.
    pub fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// Waits until it has ended by itself or after [`Forwarder::terminate`]; anything but exit code 0 is an error.
    pub fn finish(mut self) -> Result<(), ForwarderError> {
        match self.process.wait(DRAIN) {
            Some(status) if ExitStatus::success(&status) => Ok(()),
            Some(status) => {
                Err(ForwarderError::Failed { status: status.to_string(), tail: self.process.tail() })
            }
            None => Err(ForwarderError::Failed { status: "no end".to_owned(), tail: self.process.tail() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> RunSpec {
        RunSpec {
            l4sd: PathBuf::from("l4sd"),
            port: "xdp".to_owned(),
            rate_mbit: 40,
            rtt_ms: 5,
            policy: "dualpi2".to_owned(),
            duration_s: 25,
            warmup_s: 5,
            out: PathBuf::from("out"),
            scheduling: Scheduling::Ordinary,
            placement: Placement::default(),
            step: None,
        }
    }

    #[test]
    fn half_of_the_rtt_goes_into_each_direction() {
        let arguments = spec().arguments(Path::new("l4sd.toml")).join(" ");
        assert_eq!(
            arguments,
            "run -c l4sd.toml --left xdp:b0 --right xdp:b1 --delay 2500us --policy dualpi2 --duration 25s --warmup 5s --metrics 127.0.0.1:9559 --out out"
        );
    }

    #[test]
    fn only_a_privileged_run_asks_for_fifo() {
        assert_eq!(spec().config(40), "version = 1\n\n[link]\nrate = \"40Mbit\"\n");
        let fifo = RunSpec { scheduling: Scheduling::Fifo, ..spec() }.config(10);
        assert!(fifo.contains("rate = \"10Mbit\""), "{fifo}");
        let last = cpus::allowed().last().copied().unwrap();
        assert!(fifo.ends_with(&format!("[runtime]\nsched = \"fifo:40\"\ncores = [{last}]\n")), "{fifo}");
    }

    /// Of the CPUs 2, 3 and 6 the packet thread has the last, whatever its class, and the controller the one before.
    #[test]
    fn a_run_beside_others_keeps_to_its_cpus() {
        let beside = RunSpec { placement: Placement::apart(&[2, 3, 6]), ..spec() };
        let link = "version = 1\n\n[link]\nrate = \"40Mbit\"\n";
        assert_eq!(beside.config(40), format!("{link}\n[runtime]\ncores = [6]\n\n[control]\ncore = 3\n"));
        let fifo = RunSpec { scheduling: Scheduling::Fifo, ..beside }.config(40);
        let runtime = "[runtime]\nsched = \"fifo:40\"\ncores = [6]\n\n[control]\ncore = 3\n";
        assert_eq!(fifo, format!("{link}\n{runtime}"));
    }
}
