//! The file that says which process is the one, held locked as long as that process lives (as pidfile(3) does), and a
//! second one beside it that says what came of the last reload.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;

use serde::{Deserialize, Serialize};

/// Why there is no such file, or nobody behind it.
#[derive(Debug, thiserror::Error)]
pub(super) enum PidError {
    #[error("{}: cannot write the process number: {source}; check [runtime] pidfile", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: process {pid} holds it; stop that one first, or give this one another pidfile", path.display())]
    Held { path: PathBuf, pid: String },
    #[error("{}: {source}; is l4sd running with this pidfile?", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: the process that wrote it has ended", path.display())]
    Gone { path: PathBuf },
    #[error("{}: '{text}' is not a process number", path.display())]
    NoNumber { path: PathBuf, text: String },
}

/// What came of a reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Counts reloads from 1; 0 before the first.
    pub(super) number: u64,
    /// What was asked for is in force.
    pub(super) ok: bool,
    /// One line.
    pub(super) message: String,
}

/// The file of this process. Dropping it removes it.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    /// Open, because the lock ends with it.
    _file: File,
}

impl PidFile {
    /// Writes the number of this process and locks the file.
    pub(super) fn create(path: &Path) -> Result<Self, PidError> {
        let failed = |source| PidError::Write { path: path.to_owned(), source };
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let pid = fs::read_to_string(path).unwrap_or_default().trim().to_owned();
                    return Err(PidError::Held { path: path.to_owned(), pid });
                }
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            // Its last owner may have removed it between open and lock; then nobody would find this one.
            let inode = |m: fs::Metadata| (m.dev(), m.ino());
            if fs::metadata(path).map(inode).ok() != Some(file.metadata().map(inode).map_err(failed)?) {
                continue;
            }
            file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())).map_err(failed)?;
            let this = Self { path: path.to_owned(), _file: file };
            this.tell(&Answer::default()).map_err(failed)?;
            return Ok(this);
        }
    }

    /// Says what came of a reload.
    pub(super) fn tell(&self, answer: &Answer) -> io::Result<()> {
        let (path, mut new) = (beside(&self.path), beside(&self.path).into_os_string());
        new.push(".new");
        fs::write(&new, serde_json::to_string(answer)? + "\n")?;
        fs::rename(new, path)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // What cannot be removed is stale, and found to be so by its lock.
        let _ = fs::remove_file(beside(&self.path));
        let _ = fs::remove_file(&self.path);
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(".reload");
    name.into()
}

/// The process behind a file. One that another program wrote (daemon(8), say) will do if that program holds it locked.
pub(super) fn running(path: &Path) -> Result<i32, PidError> {
    let failed = |source| PidError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    match file.try_lock_shared() {
        Ok(()) => return Err(PidError::Gone { path: path.to_owned() }),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let word = text.split_whitespace().next().unwrap_or("");
    word.parse()
        .ok()
        .filter(|&pid| pid > 1)
        .ok_or_else(|| PidError::NoNumber { path: path.to_owned(), text: word.to_owned() })
}

/// What the process behind a file said last; `None` if it says nothing.
pub(super) fn answer(path: &Path) -> Option<Answer> {
    serde_json::from_slice(&fs::read(beside(path)).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_owner_and_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l4sd.pid");
        assert!(matches!(running(&path), Err(PidError::Read { .. })));
        fs::write(&path, "99999 left by a crash\n").unwrap();
        assert!(matches!(running(&path), Err(PidError::Gone { .. })), "it is not locked");

        let file = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", process::id()));
        assert_eq!(running(&path).unwrap(), process::id().cast_signed());
        assert_eq!(answer(&path), Some(Answer::default()));
        let said = PidFile::create(&path).unwrap_err().to_string();
        assert!(said.contains(&format!("process {} holds it", process::id())), "{said}");

        let told = Answer { number: 3, ok: true, message: "link.rate".to_owned() };
        file.tell(&told).unwrap();
        assert_eq!(answer(&path), Some(told));
        drop(file);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let said = PidFile::create(&dir.path().join("no/l4sd.pid")).unwrap_err().to_string();
        assert!(said.contains("no/l4sd.pid: cannot write") && said.contains("[runtime] pidfile"), "{said}");
    }

    #[test]
    fn what_is_no_number_is_no_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        for text in ["", "l4sd", "-4", "0", "1"] {
            fs::write(&path, text).unwrap();
            let held = File::open(&path).unwrap();
            held.lock().unwrap();
            assert!(matches!(running(&path), Err(PidError::NoNumber { .. })), "{text:?}");
        }
    }
}
