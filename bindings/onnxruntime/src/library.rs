//! A file that claims to be an ONNX Runtime library, and the functions in it.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use ort::sys::{ORT_API_VERSION, OrtApi, OrtApiBase};

/// Why a file will not do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] std::io::Error),
    /// A FIFO or a device would hang or worse.
    #[error("not a regular file")]
    NotAFile,
    /// Mapping a shortened library and running it ends the process.
    #[error("not a complete 64-bit ELF library: it is cut off or something else")]
    NotElf,
    /// The dynamic linker refused it.
    #[error("{0}")]
    Link(#[from] libloading::Error),
    /// It lacks the entry point, or answers it with nothing.
    #[error("no ONNX Runtime: OrtGetApiBase is missing or empty")]
    NotOnnxRuntime,
    /// It is too old.
    #[error("ONNX Runtime {0} is too old; l4sd needs 1.{ORT_API_VERSION} or later")]
    TooOld(String),
}

/// The functions of the library at `path`, and its version. The library stays loaded for the life of the process.
pub(crate) fn load(path: &Path) -> Result<(OrtApi, String), LoadError> {
    let path = path.canonicalize()?;
    is_whole_elf(&path)?;
    // SAFETY: running a library's initialisers is as safe as the library; the operator named this one, and it is a whole
    // ELF file.
    let library = unsafe { libloading::Library::new(&path)? };
    // SAFETY: the type is that of the exported function in onnxruntime_c_api.h.
    let entry = unsafe { library.get::<unsafe extern "C" fn() -> *const OrtApiBase>(b"OrtGetApiBase") };
    let Ok(entry) = entry else { return Err(LoadError::NotOnnxRuntime) };
    // SAFETY: the function takes nothing and may be called at any time.
    let base = unsafe { entry() };
    // SAFETY: it returns null or a table that lives as long as the library.
    let Some(base) = (unsafe { base.as_ref() }) else { return Err(LoadError::NotOnnxRuntime) };
    // SAFETY: as above; the string it returns is static and ends in NUL.
    let version = unsafe { (base.GetVersionString)() };
    if version.is_null() {
        return Err(LoadError::NotOnnxRuntime);
    }
    // SAFETY: not null, see above.
    let version = unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned();
    if !is_new_enough(&version) {
        return Err(LoadError::TooOld(version));
    }
    // SAFETY: any number may be asked for; an unknown one gives null.
    let api = unsafe { (base.GetApi)(ORT_API_VERSION) };
    // SAFETY: null, or the table of the version that was asked for, which is the type's.
    let Some(api) = (unsafe { api.as_ref() }) else { return Err(LoadError::TooOld(version)) };
    let api = api.clone();
    // What the functions need must not be unloaded.
    std::mem::forget(library);
    Ok((api, version))
}

/// An old library writes to standard error when it is asked for a newer table, so it is not asked.
fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (1, ORT_API_VERSION)
}

/// The section headers, which linkers put last, end within the file.
fn is_whole_elf(path: &Path) -> Result<(), LoadError> {
    if !path.metadata()?.is_file() {
        return Err(LoadError::NotAFile);
    }
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut head = [0; 64];
    file.read_exact(&mut head).map_err(|_| LoadError::NotElf)?;
    let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let short = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let (offset, size, count) = (long(0x28), short(0x3a), short(0x3c));
    let end = offset.checked_add(size * count);
    let whole = head.starts_with(b"\x7fELF\x02\x01") && offset > 0 && end.is_some_and(|end| end <= length);
    whole.then_some(()).ok_or(LoadError::NotElf)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn refused(bytes: &[u8]) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        load(file.path()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_library_is_not_mapped() {
        assert!(refused(b"").contains("cut off"));
        assert!(refused(&[0; 4096]).contains("cut off"));
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(refused(&this[..this.len() - 1024]).contains("cut off"), "a shortened program");
        assert!(load(Path::new("/nowhere.so")).unwrap_err().to_string().contains("No such file"));
        assert!(load(Path::new("/")).unwrap_err().to_string().contains("not a regular file"));
        assert!(load(Path::new("/dev/zero")).unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(is_new_enough("1.24.0") && is_new_enough("1.31.1") && is_new_enough("2.0"));
        assert!(!is_new_enough("1.9.0") && !is_new_enough("1.23.2") && !is_new_enough("x"));
    }
}
