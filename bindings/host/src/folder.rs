//! A folder that is held open, so that its files can be read and written when the process may no longer name paths
//! (FreeBSD's capability mode), and whatever becomes of the path meanwhile.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::fchown;
use std::path::Path;

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    fd: File,
}

impl Folder {
    /// Opens a folder that exists.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = File::open(path)?;
        if fd.metadata()?.is_dir() { Ok(Self { fd }) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    /// Gives the folder to a user and its group.
    pub fn give_to(&self, uid: u32, gid: u32) -> io::Result<()> {
        fchown(&self.fd, Some(uid), Some(gid))
    }

    /// Opens the file `name` of the folder for reading.
    pub fn read(&self, name: &str) -> io::Result<File> {
        self.open_at(name, libc::O_RDONLY)
    }

    /// Makes the file `name` of the folder, or empties it, and opens it for writing.
    pub fn create(&self, name: &str) -> io::Result<File> {
        self.open_at(name, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC)
    }

    /// Opens the file `name` of the folder for reading and writing, or makes it. A symbolic link of that name is an
    /// error: in a folder of somebody else it could lead anywhere.
    pub fn update(&self, name: &str) -> io::Result<File> {
        self.open_at(name, libc::O_RDWR | libc::O_CREAT | libc::O_NOFOLLOW)
    }

    /// Gives the file `from` of the folder the name `to`, in place of a file that has that name.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (name_in_folder(from)?, name_in_folder(to)?);
        let fd = self.fd.as_raw_fd();
        // SAFETY: both names end in NUL and live through the call.
        let rc = unsafe { libc::renameat(fd, from.as_ptr(), fd, to.as_ptr()) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Removes the file `name` of the folder.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let name = name_in_folder(name)?;
        // SAFETY: the name ends in NUL and lives through the call.
        let rc = unsafe { libc::unlinkat(self.fd.as_raw_fd(), name.as_ptr(), 0) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Whether the process, as the user that it is now, may make files in the folder.
    pub fn check_writable(&self) -> io::Result<()> {
        // SAFETY: a string that ends in NUL; no other pointers.
        let rc = unsafe { libc::faccessat(self.fd.as_raw_fd(), c".".as_ptr(), libc::W_OK | libc::X_OK, 0) };
        if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn open_at(&self, name: &str, flags: libc::c_int) -> io::Result<File> {
        let name = name_in_folder(name)?;
        let mode: libc::c_uint = 0o666;
        // SAFETY: the name ends in NUL and lives through the call; the mode is read only if a file is made.
        let fd = unsafe { libc::openat(self.fd.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC, mode) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just opened and belongs to nobody else.
        Ok(unsafe { File::from_raw_fd(fd) })
    }
}

fn name_in_folder(name: &str) -> io::Result<CString> {
    if name.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name in a folder has no '/'"));
    }
    Ok(CString::new(name)?)
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::path::PathBuf;

    use super::*;

    /// A folder that is gone after the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("l4sd-host-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_are_written_anew_and_read_back_even_after_the_folder_has_moved() {
        let scratch = Scratch::new("folder");
        let (before, after) = (scratch.0.join("a"), scratch.0.join("b"));
        fs::create_dir(&before).unwrap();
        let folder = Folder::open(&before).unwrap();
        fs::rename(&before, &after).unwrap();
        for text in ["a longer text", "short"] {
            folder.create("f").unwrap().write_all(text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(after.join("f")).unwrap(), text);
        }
        let mut text = String::new();
        folder.read("f").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "short");
        folder.create("g").unwrap().write_all(b"new").unwrap();
        folder.rename("g", "f").unwrap();
        assert_eq!(fs::read_to_string(after.join("f")).unwrap(), "new");
        folder.check_writable().unwrap();
        folder.update("f").unwrap().write_all(b"N").unwrap();
        assert_eq!(fs::read_to_string(after.join("f")).unwrap(), "New", "not emptied");
        std::os::unix::fs::symlink("f", after.join("link")).unwrap();
        folder.update("link").unwrap_err();
        folder.remove("link").unwrap();
        folder.remove("f").unwrap();
        assert_eq!(fs::read_dir(&after).unwrap().count(), 0);
    }

    #[test]
    fn a_file_is_no_folder_and_a_path_is_no_name() {
        let scratch = Scratch::new("names");
        fs::write(scratch.0.join("f"), "").unwrap();
        assert_eq!(Folder::open(&scratch.0.join("f")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        let folder = Folder::open(&scratch.0).unwrap();
        assert_eq!(folder.read("../f").unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(folder.read("g").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
