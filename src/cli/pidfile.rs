//! The file that says which process is the one, held locked as long as that process lives (as pidfile(3) does), and a
//! second one beside it that says what came of the last reload.
//!
//! Their folder is held open: when a reload is answered the process may be an ordinary user, and on FreeBSD without
//! paths. The second file is written as that user only, so root never writes through a name that is another's to make.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use l4sd_host::Folder;

use serde::{Deserialize, Serialize};

/// Why there is no such file, or nobody behind it.
#[derive(Debug, thiserror::Error)]
pub(super) enum PidError {
    #[error("{}: cannot write the process number: {source}; check --pidfile, or [runtime] pidfile", path.display())]
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
    folder: Folder,
    name: String,
    /// Open, because the lock ends with it.
    file: File,
    /// Answers can be written.
    answers: AtomicBool,
}

impl PidFile {
    /// Writes the number of this process and locks the file. There are no answers yet.
    pub(super) fn create(path: &Path) -> Result<Self, PidError> {
        let failed = |source| PidError::Write { path: path.to_owned(), source };
        let place = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = Folder::open(place).map_err(failed)?;
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| failed(io::Error::other("its name is not UTF-8")))?.to_owned();
        loop {
            let mut file = folder.update(&name).map_err(failed)?;
            let is = file.metadata().map_err(failed)?;
            if !is.is_file() || is.nlink() > 1 {
                return Err(failed(io::Error::other("it is no plain file, or has another name as well")));
            }
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let pid = fs::read_to_string(path).unwrap_or_default().trim().to_owned();
                    return Err(PidError::Held { path: path.to_owned(), pid });
                }
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            // Its last owner may have removed it between open and lock; then nobody would find this one.
            let there = folder.read(&name).and_then(|file| file.metadata()).ok();
            if there.map(|m| (m.dev(), m.ino())) != Some((is.dev(), is.ino())) {
                continue;
            }
            file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())).map_err(failed)?;
            // What a crash left would be taken for an answer of this process.
            for stale in [answer_of(&name), new_answer_of(&name)] {
                match folder.remove(&stale) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
                    _ => {}
                }
            }
            return Ok(Self { folder, name, file, answers: AtomicBool::new(false) });
        }
    }

    /// Where answers are written.
    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// The file that is locked.
    pub(super) fn locked(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Writes the first answer, number 0, as the user that the process is now. If that fails there will be none.
    pub(super) fn open_answers(&self) -> io::Result<()> {
        self.tell(&Answer::default())?;
        self.answers.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether there are answers.
    pub(super) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// Says what came of a reload.
    pub(super) fn tell(&self, answer: &Answer) -> io::Result<()> {
        let new = new_answer_of(&self.name);
        self.folder.create(&new)?.write_all((serde_json::to_string(answer)? + "\n").as_bytes())?;
        self.folder.rename(&new, &answer_of(&self.name))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // What cannot be removed is stale, and found to be so by its lock.
        let _ = self.folder.remove(&answer_of(&self.name));
        let _ = self.folder.remove(&self.name);
    }
}

fn answer_of(name: &str) -> String {
    format!("{name}.reload")
}

fn new_answer_of(name: &str) -> String {
    format!("{name}.reload.new")
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
        fs::write(beside(&path), "{\"number\":7,\"ok\":true,\"message\":\"\"}\n").unwrap();
        assert!(matches!(running(&path), Err(PidError::Gone { .. })), "it is not locked");

        let file = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", process::id()));
        assert_eq!(running(&path).unwrap(), process::id().cast_signed());
        assert!(answer(&path).is_none() && !file.answers(), "none yet, whatever was left there");
        file.open_answers().unwrap();
        assert!(answer(&path) == Some(Answer::default()) && file.answers());
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

    /// The process is root when it opens the file, and its folder may be an ordinary user's.
    #[test]
    fn a_link_is_not_followed_and_nothing_is_written_through_it() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("target"), dir.path().join("p"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        PidFile::create(&path).unwrap_err();
        fs::remove_file(&path).unwrap();
        fs::hard_link(&target, &path).unwrap();
        let said = PidFile::create(&path).unwrap_err().to_string();
        assert!(said.contains("another name"), "{said}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    }

    #[test]
    fn its_files_are_in_the_folder_that_was_opened_whatever_becomes_of_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir(&before).unwrap();
        let file = PidFile::create(&before.join("p")).unwrap();
        fs::rename(&before, &after).unwrap();
        file.open_answers().unwrap();
        assert_eq!(answer(&after.join("p")), Some(Answer::default()));
        drop(file);
        assert_eq!(fs::read_dir(&after).unwrap().count(), 0);
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
