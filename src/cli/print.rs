//! Standard output and standard error of verbs. Whoever reads them may go away, and a disk may be full: neither ends the
//! program in the middle of something, as `println!` would.

use std::io::{self, Write as _};

use super::exit::{Exit, Failure};

/// Prints to standard output. A reader that has closed its end has seen enough, which is no error.
///
/// # Errors
/// It cannot be written otherwise.
pub(super) fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            let error =
                anyhow::anyhow!("standard output: {e}; check where it is redirected to, and the room there");
            Err(Failure::new(Exit::Host, error))
        }
        _ => Ok(()),
    }
}

/// Prints a line to standard output.
///
/// # Errors
/// As for [`text`].
pub(super) fn line(line: &str) -> Result<(), Failure> {
    text(&format!("{line}\n"))
}

/// Says something on the side, on standard error. If nobody hears it, the work goes on.
pub(super) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
