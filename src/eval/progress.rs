//! How far a run is, on standard error: a bar on a terminal, else a line every 10 s.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

const EVERY: Duration = Duration::from_secs(10);

/// Tells how many runs are done.
#[derive(Debug)]
pub struct Progress(Kind);

#[derive(Debug)]
enum Kind {
    Quiet,
    Bar(ProgressBar),
    Lines { done: Arc<AtomicUsize>, stop: Option<mpsc::Sender<()>>, teller: Option<JoinHandle<()>> },
}

impl Progress {
    /// Tells nothing.
    pub const fn quiet() -> Self {
        Self(Kind::Quiet)
    }

    /// On standard error, `done` of `total` runs being there already.
    pub fn stderr(done: usize, total: usize) -> Self {
        if done >= total {
            return Self::quiet();
        }
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(total as u64).with_position(done as u64);
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} runs, {elapsed}, {eta} left");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.reset_eta();
            return Self(Kind::Bar(bar));
        }
        let (stop, stopped) = mpsc::channel();
        let count = Arc::new(AtomicUsize::new(done));
        let told = Arc::clone(&count);
        let teller = std::thread::spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                let done = told.load(Ordering::Relaxed);
                // Nobody may be reading it any more.
                let _ = writeln!(std::io::stderr(), "l4sd: {done} of {total} runs done");
            }
        });
        Self(Kind::Lines { done: count, stop: Some(stop), teller: Some(teller) })
    }

    /// One more is done.
    pub fn step(&self) {
        match &self.0 {
            Kind::Quiet => {}
            Kind::Bar(bar) => bar.inc(1),
            Kind::Lines { done, .. } => {
                done.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        match &mut self.0 {
            Kind::Quiet => {}
            Kind::Bar(bar) => bar.finish_and_clear(),
            Kind::Lines { stop, teller, .. } => {
                drop(stop.take());
                // A teller that has panicked has nothing more to tell.
                let _ = teller.take().map(JoinHandle::join);
            }
        }
    }
}
