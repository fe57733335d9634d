//! Finds the external programs that the testbed drives. Looks and reports; never installs anything.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program the testbed needs and where a host gets it from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tool {
    /// File name of the program.
    pub name: &'static str,
    /// How to get it, for the message that says it is missing.
    pub hint: &'static str,
}

/// `ip`, for namespaces, links and addresses.
pub const IP: Tool = Tool { name: "ip", hint: "package iproute2" };
/// `ethtool`, for switching offloads off.
pub const ETHTOOL: Tool = Tool { name: "ethtool", hint: "package ethtool (or `make tools`)" };
/// `nsenter`, for starting a program in a namespace.
pub const NSENTER: Tool = Tool { name: "nsenter", hint: "package util-linux" };
/// `unshare`, for making the sandbox.
pub const UNSHARE: Tool = Tool { name: "unshare", hint: "package util-linux" };
/// `setpriv`, which ties the sandbox's life to the process that asked for it.
pub const SETPRIV: Tool = Tool { name: "setpriv", hint: "package util-linux" };
/// `mount`, for the sandbox's private /run.
pub const MOUNT: Tool = Tool { name: "mount", hint: "package mount" };
/// `chrt`, for real-time scheduling where the host lets us.
pub const CHRT: Tool = Tool { name: "chrt", hint: "package util-linux" };
/// `taskset`, for keeping a lane on its CPUs.
pub const TASKSET: Tool = Tool { name: "taskset", hint: "package util-linux" };
/// `iperf3`, the CUBIC and constant-rate sender.
pub const IPERF3: Tool = Tool { name: "iperf3", hint: "package iperf3 (or `make tools`)" };
/// The Prague sender.
pub const PRAGUE_SENDER: Tool = Tool { name: "udp_prague_sender", hint: "`make tools`" };
/// The Prague receiver.
pub const PRAGUE_RECEIVER: Tool = Tool { name: "udp_prague_receiver", hint: "`make tools`" };

/// What the topology alone needs.
pub const NETWORK: &[Tool] = &[IP, ETHTOOL, NSENTER, UNSHARE, SETPRIV, MOUNT];
/// What the topology and every flow need.
pub const ALL: &[Tool] =
    &[IP, ETHTOOL, NSENTER, UNSHARE, SETPRIV, MOUNT, IPERF3, PRAGUE_SENDER, PRAGUE_RECEIVER];
/// What several lanes need beside [`ALL`].
pub const LANES: &[Tool] = &[TASKSET];

/// The programs that were looked for and are not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Missing(pub Vec<Tool>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("missing programs: ")?;
        for (i, tool) in self.0.iter().enumerate() {
            let comma = if i == 0 { "" } else { "; " };
            write!(f, "{comma}{} ({})", tool.name, tool.hint)?;
        }
        Ok(())
    }
}

/// Where programs are looked for: unpacked tools first, then `PATH`, then the system directories that an ordinary
/// user's `PATH` often lacks.
#[derive(Debug, Clone)]
pub struct Tools {
    dirs: Vec<PathBuf>,
    unpacked: PathBuf,
}

impl Tools {
    /// Looks under `$L4SD_TOOLS` (default `target/tools` of the working directory) and `PATH`.
    pub fn discover() -> Self {
        let unpacked = env::var_os("L4SD_TOOLS").map_or_else(|| PathBuf::from("target/tools"), PathBuf::from);
        let unpacked = std::path::absolute(&unpacked).unwrap_or(unpacked);
        Self::new(&unpacked, &env::var_os("PATH").unwrap_or_default())
    }

    fn new(unpacked: &Path, path: &OsString) -> Self {
        let mut dirs: Vec<PathBuf> =
            ["bin", "usr/bin", "usr/sbin", "sbin"].iter().map(|d| unpacked.join(d)).collect();
        dirs.extend(env::split_paths(path));
        dirs.extend(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().map(PathBuf::from));
        Self { dirs, unpacked: unpacked.to_path_buf() }
    }

    /// Full path of a program, if it is somewhere.
    pub fn find(&self, tool: Tool) -> Option<PathBuf> {
        self.dirs.iter().map(|d| d.join(tool.name)).find(|p| p.is_file())
    }

    /// Fails with the list of those that are nowhere.
    pub fn require(&self, wanted: &[Tool]) -> Result<(), Missing> {
        let missing: Vec<Tool> = wanted.iter().copied().filter(|t| self.find(*t).is_none()).collect();
        if missing.is_empty() { Ok(()) } else { Err(Missing(missing)) }
    }

    /// A command for the program; an unpacked one also gets the library path it was unpacked with.
    pub fn command(&self, tool: Tool) -> Command {
        let path = self.find(tool).unwrap_or_else(|| PathBuf::from(tool.name));
        let mut command = Command::new(&path);
        self.environment(tool, &mut command);
        command
    }

    /// Sets what `tool` needs in the environment of a command that will start it.
    pub fn environment(&self, tool: Tool, command: &mut Command) {
        if self.find(tool).is_some_and(|p| p.starts_with(&self.unpacked)) {
            command.env("LD_LIBRARY_PATH", self.library_path());
        }
    }

    fn library_path(&self) -> OsString {
        let mut dirs = Vec::new();
        for base in ["usr/lib", "lib"] {
            let base = self.unpacked.join(base);
            dirs.push(base.clone());
            let entries = std::fs::read_dir(&base).into_iter().flatten().flatten();
            dirs.extend(entries.map(|e| e.path()).filter(|p| p.is_dir()));
        }
        env::join_paths(dirs).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOWHERE: Tool = Tool { name: "no-such-program", hint: "package nowhere" };

    #[test]
    fn names_only_what_is_missing_and_how_to_get_it() {
        let tools = Tools::new(Path::new("/nonexistent"), &OsString::from("/bin:/usr/bin"));
        let sh = Tool { name: "sh", hint: "" };
        let missing = tools.require(&[sh, NOWHERE]).unwrap_err();
        assert_eq!(missing.to_string(), "missing programs: no-such-program (package nowhere)");
        assert_eq!(tools.require(&[sh]), Ok(()));
    }

    #[test]
    fn unpacked_programs_win_over_the_path_and_get_their_libraries() {
        let root = std::env::temp_dir().join(format!("l4sd-testbed-tools-{}", std::process::id()));
        let bin = root.join("usr/bin");
        let lib = root.join("usr/lib/some-triplet");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&lib).unwrap();
        std::fs::write(bin.join("sh"), "").unwrap();
        let sh = Tool { name: "sh", hint: "" };
        let tools = Tools::new(&root, &OsString::from("/bin"));
        let command = tools.command(sh);
        assert_eq!(command.get_program(), bin.join("sh").as_os_str());
        let (_, libraries) = command.get_envs().next().unwrap();
        assert!(env::split_paths(libraries.unwrap()).any(|p| p == lib));
        let system = tools.command(Tool { name: "true", hint: "" });
        assert_eq!(system.get_envs().count(), 0);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
