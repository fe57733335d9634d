//! Which CPUs this process may run on, and who of a run gets which of them. Looks and reckons; nothing is pinned here.

use std::num::NonZeroUsize;
use std::thread;

/// The CPUs that this process may run on, in ascending order.
pub fn allowed() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    ids.into_iter().map(|core| core.id).collect()
}

/// The same, fewer if the process is granted less time than theirs (a container's quota).
pub fn granted() -> Vec<usize> {
    let mut cpus = allowed();
    cpus.truncate(thread::available_parallelism().map_or(1, NonZeroUsize::get));
    cpus
}

/// As `taskset -c` and cpuset(7) write a set: `0-3,8`.
pub fn list(cpus: &[usize]) -> String {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match spans.last_mut() {
            Some((_, to)) if *to + 1 == cpu => *to = cpu,
            _ => spans.push((cpu, cpu)),
        }
    }
    let span =
        |(from, to): (usize, usize)| if from == to { format!("{from}") } else { format!("{from}-{to}") };
    spans.into_iter().map(span).collect::<Vec<_>>().join(",")
}

/// Which CPUs the parts of a run have. Nothing named: as the scheduler likes, and the packet thread on the last one when
/// it is under real-time scheduling.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The packet thread's.
    pub forwarder: Option<usize>,
    /// The controller's.
    pub controller: Option<usize>,
    /// Those of senders and receivers.
    pub traffic: Vec<usize>,
}

impl Placement {
    /// Of a run that has `cpus` while others run on the rest of the machine. Two CPUs in the ordinary class are left to
    /// the scheduler: threads that may not flee from each other waited longer there than they did without.
    pub fn beside_others(cpus: &[usize], real_time: bool) -> Self {
        if real_time || cpus.len() > 2 { Self::apart(cpus) } else { Self::default() }
    }

    /// The last of `cpus` for the packet thread alone, the last but one for the controller, the rest for the traffic;
    /// of two CPUs controller and traffic share one, and one CPU alone has all.
    pub fn apart(cpus: &[usize]) -> Self {
        match cpus {
            [] => Self::default(),
            [one] => Self { forwarder: Some(*one), ..Self::default() },
            [one, last] => Self { forwarder: Some(*last), controller: Some(*one), traffic: vec![*one] },
            [traffic @ .., controller, last] => {
                Self { forwarder: Some(*last), controller: Some(*controller), traffic: traffic.to_vec() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_spans() {
        assert_eq!(list(&[0, 1, 2, 3, 8, 10, 11]), "0-3,8,10-11");
        assert_eq!((list(&[5]), list(&[])), ("5".to_owned(), String::new()));
    }

    #[test]
    fn two_cpus_in_the_ordinary_class_are_left_to_the_scheduler() {
        assert_eq!(Placement::beside_others(&[4, 5], false), Placement::default());
        assert_eq!(Placement::beside_others(&[4, 5], true).forwarder, Some(5));
        assert_eq!(Placement::beside_others(&[4, 5, 6, 7], false).forwarder, Some(7));
    }

    #[test]
    fn the_packet_thread_has_the_last_cpu_alone() {
        let placed = |cpus: &[usize]| {
            let Placement { forwarder, controller, traffic } = Placement::apart(cpus);
            (forwarder, controller, traffic)
        };
        assert_eq!(placed(&[4, 5, 6, 7]), (Some(7), Some(6), vec![4, 5]));
        assert_eq!(placed(&[4, 5, 9]), (Some(9), Some(5), vec![4]));
        assert_eq!(placed(&[4, 5]), (Some(5), Some(4), vec![4]));
        assert_eq!(placed(&[4]), (Some(4), None, vec![]));
        assert_eq!(placed(&[]), (None, None, vec![]));
    }
}
