//! What can be asked of a host before netmap ports are opened there: the control device, or the keeper instead of it, how
//! netmap serves each port, and on FreeBSD the interfaces' settings (on Linux `preflight` looks at those). Changes nothing.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use l4sd_netmap::Netmap;

use super::severity::Severity;
use crate::port::netmap::adapter::{self, Service};

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// How bad it is.
    pub severity: Severity,
    /// It is a privilege that is missing.
    pub privilege: bool,
    /// The device, the socket or the interface.
    pub subject: String,
    /// What was found and, unless it is as it should be, the command that mends it.
    pub message: String,
}

impl Note {
    fn new(severity: Severity, subject: &str, message: impl Into<String>) -> Self {
        Self { severity, privilege: false, subject: subject.to_owned(), message: message.into() }
    }
}

const DEVICE: &str = "/dev/netmap";

/// What is to be opened.
#[derive(Copy, Clone, Debug)]
pub struct Wanted<'a> {
    /// The ports, as they are configured.
    pub ports: &'a [String],
    /// Those interfaces whose NIC rings will be used.
    pub interfaces: &'a [String],
    /// Ports that netmap emulates may be used.
    pub emulated: bool,
    /// Whoever opens them instead.
    pub keeper: Option<&'a Path>,
}

/// Looks at the host as it is now.
pub fn check(wanted: &Wanted<'_>) -> Vec<Note> {
    let mut notes = match wanted.keeper {
        Some(path) => vec![socket(path)],
        None => vec![device(OpenOptions::new().read(true).write(true).open(DEVICE).map(|_| ()))],
    };
    notes.extend(adapters(&Netmap::real(), wanted));
    notes.extend(wanted.interfaces.iter().flat_map(|name| settings(name)));
    notes
}

/// How `netmap` serves each port. What `run` refuses to open fails here in the same words; a keeper has opened them already.
pub fn adapters(netmap: &Netmap, wanted: &Wanted<'_>) -> Vec<Note> {
    let known = netmap.adapter_mode().is_some();
    let notes = wanted.ports.iter().filter_map(|spec| {
        // A name that is none is refused where ports are opened.
        let service = adapter::service(netmap, &spec.parse().ok()?);
        let refused = match wanted.keeper {
            Some(_) => Ok(()),
            None => adapter::refuse(spec, &service, wanted.emulated),
        };
        let (severity, message) = match (refused, &service) {
            (Err(e), _) => {
                (Severity::Fail, e.to_string().trim_start_matches(&format!("{spec}: ")).to_owned())
            }
            // Without a module there is nothing to tell.
            (Ok(()), Service::Unknown) if !known => return None,
            (Ok(()), Service::Own | Service::Native) => (Severity::Ok, service.to_string()),
            (Ok(()), _) => (Severity::Warn, service.to_string()),
        };
        Some(Note::new(severity, spec, message))
    });
    notes.collect()
}

fn device(opened: io::Result<()>) -> Note {
    match opened {
        Ok(()) => Note::new(Severity::Ok, DEVICE, "can be opened"),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Note {
            privilege: true,
            ..Note::new(
                Severity::Fail,
                DEVICE,
                "may not be opened: run as root, or give a group the device (FreeBSD: `add path netmap mode 0660 group \
                 netmap` among the devfs rules of devfs.rules(5))",
            )
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Note::new(
            Severity::Fail,
            DEVICE,
            "is not there: `kldload netmap` on FreeBSD, `modprobe netmap` on Linux (a module of its own, from netmap's \
             repository)",
        ),
        Err(e) => Note::new(Severity::Fail, DEVICE, format!("cannot be opened: {e}")),
    }
}

fn socket(path: &Path) -> Note {
    let subject = path.display().to_string();
    match std::fs::metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => {
            Note::new(Severity::Ok, &subject, "is a socket, of a keeper it seems")
        }
        Ok(_) => {
            Note::new(Severity::Fail, &subject, "is not a socket: name the keeper's under [runtime] keeper")
        }
        Err(e) => {
            let message = format!("{e}: start the keeper first, with `l4sd keeper --socket {subject}`");
            Note::new(Severity::Fail, &subject, message)
        }
    }
}

#[cfg(target_os = "linux")]
fn settings(_: &str) -> Vec<Note> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn settings(name: &str) -> Vec<Note> {
    let state = match l4sd_host::Link::open(name).and_then(|link| link.state()) {
        Ok(state) => state,
        // The subject is named already.
        Err(e) => {
            return vec![Note::new(
                Severity::Fail,
                name,
                e.to_string().trim_start_matches(&format!("{name}: ")),
            )];
        }
    };
    let offloads = l4sd_host::harmful_offloads(name).unwrap_or_default();
    judge(name, state, &offloads)
}

/// What the settings of an interface mean.
#[cfg(any(test, not(target_os = "linux")))]
fn judge(name: &str, state: l4sd_host::LinkState, offloads: &[&str]) -> Vec<Note> {
    let mut notes = Vec::new();
    if !state.up {
        notes.push(Note::new(Severity::Fail, name, format!("is down: `ifconfig {name} up`")));
    }
    if !offloads.is_empty() {
        let words: Vec<String> = offloads.iter().map(|word| format!("-{word}")).collect();
        let fix = format!("`ifconfig {name} {}`", words.join(" "));
        notes.push(Note::new(
            Severity::Fail,
            name,
            format!("an offload is on that spoils frames in netmap's rings: {fix}"),
        ));
    }
    if notes.is_empty() {
        let carrier = if state.carrier { "" } else { ", but without a link" };
        notes.push(Note::new(
            Severity::Ok,
            name,
            format!("up{carrier}, MTU {}, no harmful offload is on", state.mtu),
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use l4sd_host::LinkState;

    #[test]
    fn each_state_of_the_device_has_its_fix() {
        let of = |kind: io::ErrorKind| device(Err(kind.into()));
        assert_eq!(device(Ok(())).severity, Severity::Ok);
        assert!(of(io::ErrorKind::NotFound).message.contains("`kldload netmap`"));
        let denied = of(io::ErrorKind::PermissionDenied);
        assert!(denied.privilege && denied.message.contains("devfs"), "{denied:?}");
        assert_eq!(of(io::ErrorKind::Other).severity, Severity::Fail);
    }

    #[test]
    fn a_keeper_is_looked_for_instead_of_the_device() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        let note = |path: &Path| {
            let nothing = Wanted { ports: &[], interfaces: &[], emulated: false, keeper: Some(path) };
            check(&nothing).remove(0)
        };
        assert!(note(&path).message.contains("l4sd keeper --socket"));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(note(&path).severity, Severity::Ok);
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(note(&path).message.contains("not a socket"));
    }

    #[test]
    fn settings_are_judged_with_the_command_that_mends_them() {
        let good = LinkState { up: true, carrier: true, promiscuous: false, mtu: 1500 };
        assert!(judge("em0", good, &[]).iter().all(|n| n.severity == Severity::Ok));
        let bad = judge("em0", LinkState { up: false, ..good }, &["rxcsum", "tso"]);
        assert!(bad[0].message.contains("`ifconfig em0 up`"), "{bad:?}");
        assert!(bad[1].message.contains("`ifconfig em0 -rxcsum -tso`"), "{bad:?}");
    }
}
