//! Several live runs at a time: the CPUs are divided into lanes, each a sandbox of its own on CPUs of its own, each with
//! its share of the runs.
//!
//! A lane makes its runs and says each record on its standard output; only the process outside keeps records, in the one
//! file that a gate of one lane has too, so that it does not matter with how many lanes a gate goes on.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::process::ExitStatus;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use l4sd::eval::{CellRecord, Unit};
use serde::{Deserialize, Serialize};

use crate::cpus;
use crate::sandbox::{self, Rights, Sandboxed, Stop};
use crate::tools::Tools;

use super::SimToRealError;

/// The option that tells a lane its runs, by their place in the order of all.
pub const UNITS: &str = "--units";
/// A lane's packet thread has a CPU alone; whatever else runs in it needs another.
const CPUS_A_LANE: usize = 2;
const POLL: Duration = Duration::from_millis(20);
/// Lines of a lane that failed that are said again.
const TAIL: usize = 10;

/// What a lane says of a run.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    unit: String,
    record: CellRecord,
}

/// Says a record to the process outside.
pub fn tell(unit: &Unit, record: CellRecord) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(&Told { unit: unit.fingerprint.clone(), record })?;
    line.push(b'\n');
    std::io::stdout().write_all(&line)
}

/// Divides `cpus` into as many disjoint sets of neighbours, all of the same size; what is left over goes to nobody.
pub fn divide(cpus: &[usize], lanes: usize) -> Result<Vec<Vec<usize>>, SimToRealError> {
    let each = cpus.len() / lanes.max(1);
    if each < CPUS_A_LANE {
        return Err(SimToRealError::Lanes {
            lanes,
            cpus: cpus.len(),
            most: (cpus.len() / CPUS_A_LANE).max(1),
        });
    }
    Ok(cpus.chunks_exact(each).take(lanes).map(<[usize]>::to_vec).collect())
}

/// Deals the runs of `todo`, indices into `units`, to the lanes: pair by pair, so that the two policies of a pair run on
/// the same CPUs, one right after the other, as they do in one lane.
pub fn deal(units: &[Unit], todo: &[usize], lanes: usize) -> Vec<Vec<usize>> {
    let mut dealt = vec![Vec::new(); lanes];
    let pairs = todo.chunk_by(|&a, &b| (units[a].seed, units[a].cell) == (units[b].seed, units[b].cell));
    for (i, pair) in pairs.enumerate() {
        dealt[i % lanes].extend_from_slice(pair);
    }
    dealt
}

/// How many of the lanes have anything to do; one that has not is not started.
pub fn busy(dealt: &[Vec<usize>]) -> usize {
    dealt.iter().filter(|units| !units.is_empty()).count()
}

/// A lane that runs.
struct Lane {
    number: usize,
    cpus: String,
    sandboxed: Sandboxed,
    said: Vec<String>,
    end: Option<ExitStatus>,
}

enum Line {
    Out(String),
    Err(String),
}

/// Starts a lane with `args` on each of `sets` for its part of `dealt` and gives every record to `keep`. A lane that
/// fails does not end the others: what they make is kept. Nothing of a lane is left when this returns.
pub fn run(
    tools: &Tools,
    rights: Rights,
    args: &[OsString],
    (sets, dealt): (&[Vec<usize>], &[Vec<usize>]),
    mut keep: impl FnMut(&str, CellRecord) -> Result<(), SimToRealError>,
) -> Result<(), SimToRealError> {
    let stop = Stop::on_signals().map_err(SimToRealError::Signals)?;
    let (tx, heard) = mpsc::channel();
    let mut lanes = Vec::new();
    for (i, (set, units)) in sets.iter().zip(dealt).enumerate().filter(|(_, (_, units))| !units.is_empty()) {
        let list: Vec<String> = units.iter().map(ToString::to_string).collect();
        let args: Vec<OsString> = args.iter().cloned().chain([UNITS.into(), list.join(",").into()]).collect();
        let mut sandboxed = Sandboxed::start(tools, rights, &args, set, true)?;
        if let Some((out, err)) = sandboxed.outputs() {
            read(out, lanes.len(), Line::Out, &tx);
            read(err, lanes.len(), Line::Err, &tx);
        }
        lanes.push(Lane { number: i + 1, cpus: cpus::list(set), sandboxed, said: Vec::new(), end: None });
    }
    drop(tx);
    follow(&mut lanes, &heard, &stop, &mut keep)?;
    if stop.requested() {
        return Err(SimToRealError::Interrupted);
    }
    let failed: Vec<String> = lanes.iter().filter_map(Lane::failure).collect();
    if failed.is_empty() { Ok(()) } else { Err(SimToRealError::Lane(failed.join("\n"))) }
}

/// Until every lane has ended and all that it said is read.
fn follow(
    lanes: &mut [Lane],
    heard: &Receiver<(usize, Line)>,
    stop: &Stop,
    keep: &mut impl FnMut(&str, CellRecord) -> Result<(), SimToRealError>,
) -> Result<(), SimToRealError> {
    loop {
        for lane in lanes.iter_mut().filter(|l| l.end.is_none()) {
            lane.end = lane.sandboxed.tend(stop)?;
        }
        let all_ended = lanes.iter().all(|l| l.end.is_some());
        match heard.recv_timeout(POLL) {
            Ok((i, Line::Out(text))) => match serde_json::from_str::<Told>(&text) {
                Ok(told) => keep(&told.unit, told.record)?,
                Err(_) => lanes[i].says(text),
            },
            Ok((i, Line::Err(text))) => lanes[i].says(text),
            Err(RecvTimeoutError::Disconnected) if all_ended => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => thread::sleep(POLL),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

impl Lane {
    fn says(&mut self, text: String) {
        eprintln!("lane {}: {text}", self.number);
        if self.said.len() == TAIL {
            self.said.remove(0);
        }
        self.said.push(text);
    }

    fn failure(&self) -> Option<String> {
        let end = self.end.filter(|end| !end.success())?;
        let (code, said) = (sandbox::exit_code(end), self.said.join("\n  "));
        Some(format!(
            "lane {} (CPUs {}) ended with {code}; its last lines:\n  {said}",
            self.number, self.cpus
        ))
    }
}

fn read(
    from: impl Read + Send + 'static,
    lane: usize,
    wrap: impl Fn(String) -> Line + Send + 'static,
    to: &Sender<(usize, Line)>,
) {
    let to = to.clone();
    thread::spawn(move || {
        for text in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send((lane, wrap(text))).is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_to_real::interleaved;
    use l4sd::eval::{CellInfo, Design};

    #[test]
    fn lanes_have_equal_sets_of_their_own() {
        let cpus: Vec<usize> = vec![0, 1, 2, 3, 8, 9, 10, 11, 12];
        let sets = divide(&cpus, 2).unwrap();
        assert_eq!(sets, [vec![0, 1, 2, 3], vec![8, 9, 10, 11]], "the ninth is nobody's");
        assert_eq!(divide(&cpus, 4).unwrap(), [[0, 1], [2, 3], [8, 9], [10, 11]]);
        assert_eq!(divide(&cpus, 1).unwrap(), [cpus]);
        let all: Vec<usize> = (0..64).collect();
        let sets = divide(&all, 16).unwrap();
        assert_eq!((sets.len(), sets[15].as_slice()), (16, &[60, 61, 62, 63][..]));
    }

    #[test]
    fn too_many_lanes_are_refused_with_how_many_there_may_be() {
        let text =
            |cpus: usize, lanes| divide(&(0..cpus).collect::<Vec<_>>(), lanes).unwrap_err().to_string();
        assert_eq!(text(9, 5), "5 lanes need 10 CPUs, 2 each, and this process may use 9: at most --lanes 4");
        assert_eq!(text(1, 2), "2 lanes need 4 CPUs, 2 each, and this process may use 1: at most --lanes 1");
    }

    /// Of 2 links and 3 pairs in the order of one lane: pairs 0 to 5 are units (0, 1), (2, 3), ... (10, 11). Of three
    /// lanes the first has pairs 0 and 3; if unit 1 was made before, only the other half of pair 0.
    #[test]
    fn every_run_is_in_one_lane_and_pairs_stay_together() {
        let cell = |name: &str| CellInfo { name: name.to_owned(), ..CellInfo::default() };
        let mut design = Design::new(vec![cell("a"), cell("b")], ["model".to_owned()], 3);
        design.other_seeds.clear();
        let units = interleaved(design.units(|_| String::new(), |_| String::new(), |_| 1.0));
        let all: Vec<usize> = (0..12).collect();
        assert_eq!(deal(&units, &all, 3), [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]);
        assert_eq!(deal(&units, &all, 1)[0], all);
        assert_eq!([&all[..], &[4, 5, 10], &[]].map(|todo| busy(&deal(&units, todo, 3))), [3, 2, 0]);
        let policies = |lane: &[usize]| lane.iter().map(|&i| units[i].policy).collect::<Vec<_>>();
        assert_eq!(policies(&deal(&units, &all, 3)[0]), [1, 0, 0, 1], "the first of a pair alternates");
        let rest: Vec<usize> = all.into_iter().filter(|&i| i != 1).collect();
        assert_eq!(deal(&units, &rest, 3)[0], [0, 6, 7]);
        assert_eq!(deal(&units, &[4, 5], 3), [vec![4, 5], vec![], vec![]]);
    }

    /// What a lane says is read back as the same record.
    #[test]
    fn a_record_survives_being_told() {
        let record = CellRecord { seed: 3, utilization_over_time: vec![0.1 + 0.2], ..CellRecord::default() };
        let line = serde_json::to_string(&Told { unit: "f".to_owned(), record: record.clone() }).unwrap();
        let told: Told = serde_json::from_str(&line).unwrap();
        assert_eq!((told.unit.as_str(), told.record), ("f", record));
    }
}
