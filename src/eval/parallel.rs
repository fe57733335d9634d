//! The same function of many indices on several threads, with results in order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// `f(0)`, `f(1)`, ... `f(n - 1)`. The outcome does not depend on `threads`.
pub(super) fn map<T: Send>(n: usize, threads: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= n {
                return done;
            }
            done.push((i, f(i)));
        }
    };
    let mut all: Vec<(usize, T)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.clamp(1, n.max(1))).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|w| w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    all.sort_unstable_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, value)| value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_whatever_the_threads() {
        let squares: Vec<_> = (0..1000).map(|i| i * i).collect();
        for threads in [0, 1, 3, 64] {
            assert_eq!(map(1000, threads, |i| i * i), squares);
        }
        assert!(map(0, 4, |i| i).is_empty());
    }
}
