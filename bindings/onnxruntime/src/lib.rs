//! Finds an ONNX Runtime library when the program runs and hands its functions to `ort`; with the feature `tract`, the
//! built-in pure-Rust backend takes its place when there is none. The choice is made once for the life of the process.
//!
//! `ort` can load a library by itself, but a failed attempt leaves it in a state where a second is undefined behaviour
//! (2.0.0-rc.14), so it is given functions that are known to be good. Must not run models.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

mod library;

pub use library::LoadError;

/// The least ONNX Runtime that will do: 1.24. Its functions are those that `ort` was built for.
pub const API_VERSION: u32 = ort::sys::ORT_API_VERSION;

/// What runs models in this process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Backend {
    /// ONNX Runtime.
    OnnxRuntime {
        /// The library's file.
        library: PathBuf,
        /// What it says of itself, as in 1.31.1.
        version: String,
    },
    /// tract, built in.
    Tract,
}

impl Backend {
    /// The name for metrics and logs.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::OnnxRuntime { .. } => "onnxruntime",
            Self::Tract => "tract",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnnxRuntime { library, version } => {
                write!(f, "ONNX Runtime {version} ({})", library.display())
            }
            Self::Tract => f.write_str("tract (built in)"),
        }
    }
}

/// Nothing can run models here.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no ONNX Runtime: {}", list(.tried))]
pub struct NoBackend {
    /// Each file that was tried and what was wrong with it; empty if there was none to try.
    pub tried: Vec<(PathBuf, String)>,
}

fn list(tried: &[(PathBuf, String)]) -> String {
    if tried.is_empty() {
        return "no library was found".to_owned();
    }
    tried.iter().map(|(p, why)| format!("{}: {why}", p.display())).collect::<Vec<_>>().join("; ")
}

/// What was chosen, and what was passed over for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// What runs models.
    pub backend: Backend,
    /// Each better candidate and what was wrong with it.
    pub passed_over: Vec<(PathBuf, String)>,
}

static CHOSEN: OnceLock<Result<Choice, NoBackend>> = OnceLock::new();

/// The backend of this process. The first call decides: it takes the first of `candidates` that is a usable ONNX
/// Runtime, else tract if that is built in. Later calls get the same answer whatever they ask for.
///
/// # Errors
/// None of the candidates will do and tract is not built in.
pub fn backend(candidates: &[PathBuf]) -> Result<Choice, NoBackend> {
    CHOSEN.get_or_init(|| choose(candidates)).clone()
}

fn choose(candidates: &[PathBuf]) -> Result<Choice, NoBackend> {
    let mut tried = Vec::new();
    for path in candidates {
        match library::load(path) {
            Ok((api, version)) => {
                ort::set_api(api);
                let backend = Backend::OnnxRuntime { library: path.clone(), version };
                return Ok(Choice { backend, passed_over: tried });
            }
            Err(e) => tried.push((path.clone(), e.to_string())),
        }
    }
    match built_in() {
        Some(backend) => Ok(Choice { backend, passed_over: tried }),
        None => Err(NoBackend { tried }),
    }
}

#[cfg(feature = "tract")]
fn built_in() -> Option<Backend> {
    ort::set_api(ort_tract::api());
    Some(Backend::Tract)
}

#[cfg(not(feature = "tract"))]
const fn built_in() -> Option<Backend> {
    None
}

/// Whether tract is built in.
pub const fn has_tract() -> bool {
    cfg!(feature = "tract")
}

/// Folders that libraries are installed to.
const FOLDERS: [&str; 5] =
    ["/usr/local/lib", "/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
/// Names of the library.
const NAMES: [&str; 2] = ["libonnxruntime.so", "libonnxruntime.so.1"];

/// Where a library may be, best first: `configured`, else the environment's `ORT_DYLIB_PATH`, else the usual folders of
/// the system. Only files that exist are named, but for the first two, which the user named.
pub fn candidates(configured: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = configured {
        return vec![path.to_owned()];
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|p| !p.is_empty()) {
        return vec![PathBuf::from(path)];
    }
    let all = FOLDERS.iter().flat_map(|folder| NAMES.iter().map(move |name| Path::new(folder).join(name)));
    all.filter(|path| path.exists()).collect()
}
