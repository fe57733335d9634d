//! What can be asked of a host before netmap ports are opened there: the control device, or the keeper instead of it, and
//! on FreeBSD the interfaces' settings (on Linux `preflight` looks at those). Changes nothing.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// One thing that was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// Forwarding would fail or damage traffic.
    pub fails: bool,
    /// It is a privilege that is missing.
    pub privilege: bool,
    /// The device, the socket or the interface.
    pub subject: String,
    /// What was found and, unless it is as it should be, the command that mends it.
    pub message: String,
}

impl Note {
    fn new(fails: bool, subject: &str, message: impl Into<String>) -> Self {
        Self { fails, privilege: false, subject: subject.to_owned(), message: message.into() }
    }
}

const DEVICE: &str = "/dev/netmap";

/// Looks at the host as it is now. `interfaces` are those whose NIC rings will be used.
pub fn check(interfaces: &[String], keeper: Option<&Path>) -> Vec<Note> {
    let mut notes = match keeper {
        Some(path) => vec![socket(path)],
        None => vec![device(OpenOptions::new().read(true).write(true).open(DEVICE).map(|_| ()))],
    };
    notes.extend(interfaces.iter().flat_map(|name| settings(name)));
    notes
}

fn device(opened: io::Result<()>) -> Note {
    match opened {
        Ok(()) => Note::new(false, DEVICE, "can be opened"),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Note {
            privilege: true,
            ..Note::new(
                true,
                DEVICE,
                "may not be opened: run as root, or give a group the device (FreeBSD: `add path netmap mode 0660 group \
                 netmap` among the devfs rules of devfs.rules(5))",
            )
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => Note::new(
            true,
            DEVICE,
            "is not there: `kldload netmap` on FreeBSD, `modprobe netmap` on Linux (a module of its own, from netmap's \
             repository)",
        ),
        Err(e) => Note::new(true, DEVICE, format!("cannot be opened: {e}")),
    }
}

fn socket(path: &Path) -> Note {
    let subject = path.display().to_string();
    match std::fs::metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => {
            Note::new(false, &subject, "is a socket, of a keeper it seems")
        }
        Ok(_) => Note::new(true, &subject, "is not a socket: name the keeper's under [runtime] keeper"),
        Err(e) => {
            let message = format!("{e}: start the keeper first, with `l4sd keeper --socket {subject}`");
            Note::new(true, &subject, message)
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
        Err(e) => return vec![Note::new(true, name, e.to_string().trim_start_matches(&format!("{name}: ")))],
    };
    let offloads = l4sd_host::harmful_offloads(name).unwrap_or_default();
    judge(name, state, &offloads)
}

/// What the settings of an interface mean.
#[cfg(any(test, not(target_os = "linux")))]
fn judge(name: &str, state: l4sd_host::LinkState, offloads: &[&str]) -> Vec<Note> {
    let mut notes = Vec::new();
    if !state.up {
        notes.push(Note::new(true, name, format!("is down: `ifconfig {name} up`")));
    }
    if !offloads.is_empty() {
        let words: Vec<String> = offloads.iter().map(|word| format!("-{word}")).collect();
        let fix = format!("`ifconfig {name} {}`", words.join(" "));
        notes.push(Note::new(
            true,
            name,
            format!("an offload is on that spoils frames in netmap's rings: {fix}"),
        ));
    }
    if notes.is_empty() {
        let carrier = if state.carrier { "" } else { ", but without a link" };
        notes.push(Note::new(
            false,
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
        assert!(!device(Ok(())).fails);
        assert!(of(io::ErrorKind::NotFound).message.contains("`kldload netmap`"));
        let denied = of(io::ErrorKind::PermissionDenied);
        assert!(denied.privilege && denied.message.contains("devfs"), "{denied:?}");
        assert!(of(io::ErrorKind::Other).fails);
    }

    #[test]
    fn a_keeper_is_looked_for_instead_of_the_device() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        let note = |path: &Path| check(&[], Some(path)).remove(0);
        assert!(note(&path).message.contains("l4sd keeper --socket"));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(!note(&path).fails);
        drop(listener);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(note(&path).message.contains("not a socket"));
    }

    #[test]
    fn settings_are_judged_with_the_command_that_mends_them() {
        let good = LinkState { up: true, carrier: true, promiscuous: false, mtu: 1500 };
        assert!(judge("em0", good, &[]).iter().all(|n| !n.fails));
        let bad = judge("em0", LinkState { up: false, ..good }, &["rxcsum", "tso"]);
        assert!(bad[0].message.contains("`ifconfig em0 up`"), "{bad:?}");
        assert!(bad[1].message.contains("`ifconfig em0 -rxcsum -tso`"), "{bad:?}");
    }
}
