//! `l4sd run`: forward between two ports until stopped.
//!
//! The calling thread manages: it watches for signals, drains what the forwarder tells, rereads the configuration when
//! asked, and writes the report. The forwarder has a thread of its own and waits for nobody.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread;

use clap::Args;
use l4sd_host::Folder;
use tracing::{info, warn};

use super::controller::{Monitor, Source};
use super::exit::{Exit, Failure};
use super::live::{Live, Outcome};
use super::logging::{self, LogControl};
use super::pidfile::{Answer, PidFile};
use super::print;
use super::record::Recorder;
use super::sink::Sink;
#[cfg(target_os = "linux")]
use super::target;
use super::target::Target;
use crate::aqm::params::Knobs;
use crate::config::{Config, ConfigError, PortKind, Sched};
use crate::control::guard::Guard;
use crate::egress::Egress;
use crate::metrics::server::Bound;
use crate::metrics::{BuildInfo, Metrics, Setup};
use crate::port::delay::Delay;
use crate::port::mem::{MemConfig, MemPort};
use crate::port::{PortError, PortPair, Side};
use crate::report::{self, DirectionRecorder, DirectionReport, ReportError, ResultFile, RunSetup};
use crate::runtime::bridge::{self, FramePlan};
use crate::runtime::change;
use crate::runtime::clock::{Clock, Monotonic, unix_seconds};
use crate::runtime::forwarder::Forwarder;
use crate::runtime::lane::{Lane, LaneReader};
use crate::runtime::privileges::{Held, Privileges};
use crate::runtime::severity::Severity;
use crate::runtime::thread as packet_thread;
use crate::telemetry::Direction;
use crate::telemetry::features::dataset::RecordError;
use crate::time::{Instant, Span};
use crate::units;
use crate::wire::FrameKind;

/// How often the managing thread looks around.
const LOOK: Span = Span::from_millis(20);

/// Arguments of `l4sd run`.
#[derive(Debug, Args)]
#[command(
    after_help = "SIGTERM and SIGINT send what waits for at most 1 s and report; a second one ends it at once. \
    SIGHUP, or `l4sd reload`, rereads the file given with -c (flags still win). While it runs there can change: \
    link.rate, link.rate_right_to_left, link.overhead, link.mpu, link.limit, aqm.target, the constants of dualpi2, \
    log.level. If anything else differs, or the file is wrong, nothing changes and the log says why."
)]
pub(super) struct RunArgs {
    #[command(flatten)]
    target: Target,
    /// Stop after this long, and report: 30s
    #[arg(long, value_name = "TIME", value_parser = units::parse_span)]
    duration: Option<Span>,
    /// Leave this much out of the reported figures: 5s
    #[arg(long, value_name = "TIME", value_parser = units::parse_span, default_value = "0s")]
    warmup: Span,
    /// Write the number of the process here, locked while it runs, for `l4sd reload` and service managers
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Seed of random marking (dualpi2-linux)
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Folder for results.json, table.md, series.csv and delay.svg|png; [default: ./l4sd-out with --duration or --record]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Also write what a policy would have seen, window by window: DIR/record/DIRECTION.csv, with the features and
    /// actions of models/schema.toml, as `sim` does; some 180 kB a second. If it cannot be written any more, forwarding
    /// goes on and the exit code is 69
    #[arg(long)]
    record: bool,
    /// Print the result object instead of a table
    #[arg(long)]
    json: bool,
}

impl RunArgs {
    /// File and flags as they are now, validated.
    fn config(&self) -> Result<Config, ConfigError> {
        let mut config = self.target.config()?;
        if self.pidfile.is_some() {
            config.runtime.pidfile.clone_from(&self.pidfile);
        }
        Ok(config)
    }

    /// The same again, if there is a file.
    fn reread(&self) -> anyhow::Result<Config> {
        if self.target.has_file() {
            return Ok(self.config()?);
        }
        Err(anyhow::anyhow!("there is no file to reread: it was started without -c FILE"))
    }

    /// Where the report goes, if there is to be one.
    fn out(&self) -> Option<PathBuf> {
        let wanted = self.duration.is_some() || self.record;
        self.out.clone().or_else(|| wanted.then(|| PathBuf::from("l4sd-out")))
    }
}

/// The parameters that are in force without a controller.
fn constants(config: &Config) -> Knobs {
    let knobs = config.aqm.policy.constants().knobs();
    Knobs { target: config.aqm.target.unwrap_or(knobs.target), ..knobs }
}

/// Runs the verb.
pub(super) fn run(args: RunArgs) -> Result<(), Failure> {
    if args.duration.is_some_and(|d| d <= args.warmup) {
        let error = anyhow::anyhow!("--duration must be longer than --warmup: nothing would be measured");
        return Err(Failure::new(Exit::Usage, error));
    }
    let config = args.config()?;
    let log = logging::start(config.log);
    #[cfg(target_os = "linux")]
    for finding in target::preflight(&config) {
        if finding.severity > Severity::Ok {
            warn!("{}: {}", finding.subject, finding.message);
        }
    }
    super::netmap::refuse_idle_keeper(&config)?;
    for note in super::netmap::findings(&config).into_iter().filter(|n| n.severity > Severity::Ok) {
        warn!("{}: {}", note.subject, note.message);
    }
    let session = Session::new(args, config, log)?;
    let plan = session.plan;
    match session.config.left.kind() {
        #[cfg(target_os = "linux")]
        PortKind::Packet => {
            use crate::port::packet::{PacketOptions, PacketPort};
            let names = session.interfaces();
            let options = PacketOptions { buffers: plan.total() as usize + 1024, ..PacketOptions::default() };
            session.over(PacketPort::open(&names[0], &names[1], options)?)
        }
        #[cfg(target_os = "linux")]
        PortKind::Xdp => {
            use crate::port::xdp::{XdpOptions, XdpPort};
            let names = session.interfaces();
            let options = XdpOptions { held: plan.total(), ..XdpOptions::default() };
            let port = XdpPort::open(&names[0], &names[1], &options)?;
            for side in Side::BOTH {
                info!(port = %names[side.index()], mode = %port.mode(side), "AF_XDP");
            }
            session.over(port)
        }
        PortKind::Mem => session.over(generator(plan)?),
        PortKind::Netmap => {
            let (port, lease) = super::netmap::open(&session.config, plan)?;
            let outcome = session.over(port);
            super::netmap::give_back(lease);
            outcome
        }
        #[cfg(not(target_os = "linux"))]
        other => Err(PortError::Spec {
            port: session.config.left.to_string(),
            reason: format!("this build has no {other:?} port on this operating system"),
        }
        .into()),
    }
}

/// What has become of a record.
fn recorded(outcome: Result<(), RecordError>) -> Result<(), Failure> {
    outcome.map_err(|e| Failure::new(Exit::Host, anyhow::anyhow!("the record is not complete: {e}")))
}

/// The `mem:` port: an unlimited load of full-size ECT(1) and Not-ECT packets on the left.
fn generator(plan: FramePlan) -> Result<MemPort, PortError> {
    let config = MemConfig { buffers: plan.total() + 2048, ..MemConfig::default() };
    let frames = super::bench::frames(1514, &super::bench::HALF_AND_HALF);
    MemPort::generator(config, &frames, &[Side::Left])
}

struct Session {
    args: RunArgs,
    config: Config,
    plan: FramePlan,
    log: LogControl,
    privileges: Privileges,
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    pidfile: Option<PidFile>,
}

/// The folder of the report, held open: the process may not be allowed to name it when the report is written.
struct Out {
    path: PathBuf,
    folder: Folder,
}

impl Session {
    fn new(args: RunArgs, config: Config, log: LogControl) -> Result<Self, Failure> {
        let privileges = Privileges::prepare(config.runtime.user.as_deref())?;
        let (stop, reload) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            // The second one ends the process at once, for a forwarder that cannot stop.
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
                .map_err(|e| Failure::new(Exit::Internal, e))?;
        }
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&reload))
            .map_err(|e| Failure::new(Exit::Internal, e))?;
        // Only now, since whoever reads it may send SIGHUP.
        let pidfile = config.runtime.pidfile.as_deref().map(PidFile::create).transpose()?;
        let plan = FramePlan::new(&config);
        Ok(Self { args, config, plan, log, privileges, stop, reload, pidfile })
    }

    #[cfg(target_os = "linux")]
    fn interfaces(&self) -> [String; 2] {
        [&self.config.left, &self.config.right].map(|port| port.interface().unwrap_or("").to_owned())
    }

    /// Puts the emulated delay around the port, if there is one.
    fn over<P: PortPair + Send>(self, port: P) -> Result<(), Failure>
    where
        P::Frame: Send,
    {
        if self.config.link.delay == Span::ZERO {
            self.forward(port)
        } else {
            let line = self.plan.delay as usize;
            let delayed = Delay::new(port, self.config.link.delay, line);
            self.forward(delayed)
        }
    }

    fn forward<P: PortPair + Send>(self, port: P) -> Result<(), Failure>
    where
        P::Frame: Send,
    {
        let out = self.args.out().map(|path| self.open_out(path)).transpose()?;
        let clock = Monotonic::start();
        let start = clock.now();
        let mut lanes = Vec::new();
        let mut sinks = Vec::new();
        for direction in Direction::BOTH {
            let (lane, reader, monitor) = self.lane(direction, start, clock)?;
            lanes.push(lane);
            sinks.push(self.sink(reader, monitor, start, out.as_ref())?);
        }
        let Ok(lanes) = <[Lane<P::Frame>; 2]>::try_from(lanes) else {
            unreachable!("there are two directions")
        };
        let metrics = self.metrics();
        let bound = self
            .config
            .metrics_listen
            .map(Bound::new)
            .transpose()
            .map_err(|e| Failure::new(Exit::Host, e))?;
        self.privileges.limit(&Held {
            ports: port.descriptors(),
            listener: bound.as_ref().map(|bound| bound.as_fd()),
            report: out.as_ref().map(|out| out.folder.as_fd()),
            config: self.args.target.folder(),
            answers: self.pidfile.as_ref().map(PidFile::folder),
            locked: self.pidfile.as_ref().map(PidFile::locked),
        })?;
        let throttled = throttled();
        let options =
            bridge::loop_options(&self.config, self.args.warmup, self.args.duration, throttled.is_some());
        let (changes, taken) = change::ring();
        let mut forwarder = Forwarder::new(port, clock, lanes, options, start).with_changes(taken);
        let mut live = Live::new(
            self.config.clone(),
            (self.plan, self.args.seed),
            Arc::clone(&self.reload),
            || self.args.reread(),
            changes,
        );
        let (session, loops) = (&self, &mut forwarder);
        let outcome = thread::scope(|scope| {
            let (prepared, is_prepared) = mpsc::channel();
            let (go, may_go) = mpsc::channel();
            let forwarding = thread::Builder::new()
                .name("l4sd-forward".to_owned())
                .spawn_scoped(scope, move || {
                    prepare_thread(&session.config);
                    // Nobody waits any more if the managing thread has failed; then nothing comes here either.
                    let _ = prepared.send(());
                    if may_go.recv().is_err() {
                        return Ok(());
                    }
                    info!(
                        left = %session.config.left, right = %session.config.right,
                        rate = %session.config.link.rate, policy = %session.config.aqm.policy, "forwarding"
                    );
                    loops.run(&session.stop)
                })
                .map_err(|e| Failure::new(Exit::Internal, e))?;
            let _ = is_prepared.recv();
            let server = self.give_up_privileges(out.as_ref()).and_then(|()| {
                let serve = bound.map(|bound| bound.serve(metrics.clone())).transpose();
                serve.map_err(|e| Failure::new(Exit::Host, e))
            });
            // Dropped unsent, it ends the forwarder before its first frame.
            let server = server?;
            let _ = go.send(());
            while !forwarding.is_finished() {
                clock.sleep(LOOK);
                for sink in &mut sinks {
                    sink.drain(&metrics);
                }
                if let [Some(left), Some(right)] = [sinks[0].rx_port(), sinks[1].rx_port()] {
                    metrics.update_ports([(left, true), (right, true)]);
                    metrics.set_controller(sinks[0].controller());
                    metrics.set_ready(true);
                }
                let taken = sinks.iter().map(Sink::change).min().unwrap_or(0);
                if let Some(outcome) = live.look(taken) {
                    self.tell(&outcome, live.in_force(), &metrics, &mut sinks);
                }
            }
            metrics.set_ready(false);
            let result = match forwarding.join() {
                Ok(result) => result.map_err(Failure::from),
                Err(_) => Err(Failure::new(Exit::Internal, anyhow::anyhow!("the forwarder panicked"))),
            };
            Ok::<_, Failure>((server, result))
        });
        let (server, outcome) = outcome?;
        info!("stopped");
        let (reports, records): (Vec<_>, Vec<_>) = sinks.into_iter().map(|s| s.finish(&metrics)).unzip();
        drop(server);
        let reported = self.report(&reports, out.as_ref());
        let recorded = records.into_iter().map(recorded);
        // The gravest ends the process, the others are not passed over in silence.
        let mut failures = [outcome, reported].into_iter().chain(recorded).filter_map(Result::err);
        let first = failures.next();
        for other in failures {
            warn!("{other}");
        }
        first.map_or(Ok(()), Err)
    }

    /// Tells everyone what came of a reload.
    fn tell(&self, outcome: &Outcome, in_force: &Config, metrics: &Metrics, sinks: &mut [Sink]) {
        self.log.set(in_force.log.level);
        for sink in sinks {
            sink.set_policy(in_force.aqm.policy.label(), constants(in_force));
        }
        let Outcome { reload, message } = outcome;
        if reload.is_success() {
            info!("configuration reloaded: {message}");
        } else {
            warn!("configuration not reloaded: {message}");
        }
        let number = metrics.count_reload(*reload, in_force.fingerprint(), unix_seconds());
        if let Some(file) = self.pidfile.as_ref().filter(|file| file.answers()) {
            let answer = Answer { number, ok: reload.is_success(), message: message.clone() };
            if let Err(e) = file.tell(&answer) {
                warn!("the answer to `l4sd reload` cannot be written: {e}");
            }
        }
    }

    /// Opens the folder of the report: before the first frame, so that a run of hours does not end in a folder that
    /// cannot be written. One that is made here belongs to the user that the process will be.
    fn open_out(&self, path: PathBuf) -> Result<Out, ReportError> {
        let open = || {
            let made = !path.exists();
            std::fs::create_dir_all(&path)?;
            let folder = Folder::open(&path)?;
            if let (true, Some(user)) = (made, self.privileges.user()) {
                // Whether the user can write there after all is looked at once the process is that user.
                let _ = folder.give_to(user.uid, user.gid);
            }
            Ok(folder)
        };
        match open() {
            Ok(folder) => Ok(Out { path, folder }),
            Err(source) => Err(ReportError::Write { path, source }),
        }
    }

    /// Everything is open: gives root up if that is configured.
    fn give_up_privileges(&self, out: Option<&Out>) -> Result<(), Failure> {
        if let Some(said) = self.privileges.give_up()? {
            info!("{said}");
            if let Err(e) = self.args.target.config() {
                warn!("the configuration cannot be reread any more, so a reload will be refused: {e}");
            }
            if let Some(Out { path, folder }) = out {
                let denied = |source| ReportError::Write { path: path.clone(), source };
                folder.check_writable().map_err(denied)?;
            }
        }
        if let Some(file) = &self.pidfile
            && let Err(e) = file.open_answers()
        {
            let user = self.privileges.user().map_or("this user", |user| &user.name);
            warn!(
                "runtime.pidfile: {user} cannot write in its folder: {e}; `l4sd reload` will get no answer, the log \
                 says what came of it; give {user} the folder, or name another"
            );
        }
        Ok(())
    }

    fn lane<F>(
        &self,
        direction: Direction,
        start: Instant,
        clock: Monotonic,
    ) -> Result<(Lane<F>, LaneReader, Option<Monitor>), Failure> {
        let config = bridge::egress(&self.config, direction, self.plan, self.args.seed);
        let egress = Egress::new(&config, start);
        let (lane, reader) = Lane::new(direction, egress, self.args.warmup == Span::ZERO);
        let Some(source) = Source::of(&self.config)? else { return Ok((lane, reader, None)) };
        let (link, monitor) =
            source.start(&self.config, direction, clock).map_err(|e| Failure::new(Exit::Internal, e))?;
        let guard = Guard::new(bridge::guard(&self.config), bridge::default_knobs(&self.config), start);
        Ok((lane.with_control(Box::new(link), guard), reader, Some(monitor)))
    }

    fn metrics(&self) -> Metrics {
        Metrics::new(Setup {
            build: BuildInfo {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                revision: env!("L4SD_REVISION").to_owned(),
                rustc: env!("L4SD_RUSTC").to_owned(),
                ..BuildInfo::default()
            },
            ports: [&self.config.left, &self.config.right].map(ToString::to_string),
            frame_kinds: &FrameKind::ALL.map(FrameKind::label),
            config_fingerprint: self.config.fingerprint(),
            config_loaded_at: unix_seconds(),
        })
    }

    fn sink(
        &self,
        reader: LaneReader,
        monitor: Option<Monitor>,
        start: Instant,
        out: Option<&Out>,
    ) -> Result<Sink, Failure> {
        let record = match out.filter(|_| self.args.record) {
            Some(Out { path, .. }) => {
                let file = path.join("record").join(format!("{}.csv", reader.direction.label()));
                let record = Recorder::new(&file).map_err(|e| Failure::new(Exit::Host, e))?;
                Some((record, constants(&self.config)))
            }
            None => None,
        };
        let recorder = DirectionRecorder::new(RunSetup {
            scenario: None,
            policy: self.config.aqm.policy.label(),
            seed: Some(self.args.seed),
            direction: reader.direction,
            start,
            warmup: self.args.warmup,
            duration: self.args.duration,
        });
        Ok(Sink::new(reader, recorder, monitor, record))
    }

    fn report(&self, reports: &[DirectionReport], out: Option<&Out>) -> Result<(), Failure> {
        for r in reports {
            if let Some(error) = &r.conservation_error {
                warn!(direction = %r.result.direction, "the account does not close: {error}");
            }
        }
        // Whoever reads the table may be gone; the files are there all the same.
        if let Some(Out { path, folder }) = out {
            let put = |name: &str, bytes: &[u8]| folder.create(name)?.write_all(bytes);
            let written = report::put_all(path, reports, put)?;
            info!(folder = %path.display(), files = written.len(), "report written");
        }
        if self.args.json {
            print::line(&ResultFile::new(reports.iter().map(|r| r.result.clone()).collect()).to_json())
        } else {
            print::text(&report::text(reports))
        }
    }
}

/// Makes the calling thread a packet thread, as far as the host allows.
pub(super) fn prepare_thread(config: &Config) {
    let runtime = &config.runtime;
    if let Some(problem) = runtime.cores.first().copied().and_then(packet_thread::pin) {
        warn!("{problem}");
    }
    let fifo = match runtime.sched {
        Sched::Fifo(priority) => Some(priority),
        Sched::Other => None,
    };
    for problem in packet_thread::schedule(fifo, runtime.user.is_some()) {
        warn!("{problem}");
    }
}

/// Microseconds in a second that the kernel grants real-time threads, if it throttles them.
pub(super) fn throttled() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        l4sd_host::rt_runtime_us().ok().flatten()
    }
    #[cfg(not(target_os = "linux"))]
    {
        None
    }
}
