//! Conversations over a real socket, with ordinary files for ports.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

fn ports(left: &str, right: &str) -> [String; 2] {
    [left.to_owned(), right.to_owned()]
}

/// Runs `play` against a keeper of two files and returns what the keeper told and who had the ports at its end.
fn with_keeper(play: impl FnOnce(&Path, &dyn Fn(usize))) -> (Vec<Event>, Option<u32>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keeper.sock");
    let mut files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
    for (file, text) in files.iter_mut().zip(["left", "right"]) {
        file.write_all(text.as_bytes()).unwrap();
    }
    let offer = Offer {
        ports: ports("netmap:em0", "netmap:em1"),
        record: serde_json::json!({ "granted": [[2, 40]] }),
        fds: files.iter().map(AsFd::as_fd).collect(),
    };
    let server = Server::listen(&path).unwrap();
    let (stop, told) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let tenant = thread::scope(|scope| {
        let serving =
            scope.spawn(|| server.serve(&offer, &stop, |event| told.lock().unwrap().push(event)).unwrap());
        play(&path, &|count| {
            while told.lock().unwrap().len() < count {
                thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        stop.store(true, Ordering::Relaxed);
        serving.join().unwrap()
    });
    drop(server);
    assert!(!path.exists(), "the socket is removed");
    (told.into_inner().unwrap(), tenant)
}

#[test]
fn descriptors_and_record_arrive_and_one_data_plane_has_them_at_a_time() {
    let me = std::process::id();
    let (told, tenant) = with_keeper(|path, until| {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let (lease, fds) = borrow(path, ports("netmap:em0", "netmap:em1")).unwrap();
        assert_eq!((lease.before, lease.path()), (None, path));
        assert_eq!(lease.record, serde_json::json!({ "granted": [[2, 40]] }));
        let texts: Vec<String> = fds
            .into_iter()
            .map(|fd| {
                let (mut file, mut text) = (File::from(fd), String::new());
                file.rewind().unwrap();
                file.read_to_string(&mut text).unwrap();
                text
            })
            .collect();
        assert_eq!(texts, ["left", "right"], "in order, the very files");

        let second = borrow(path, ports("netmap:em0", "netmap:em1")).unwrap_err().to_string();
        assert!(second.ends_with(&format!("process {me} has the ports: stop it first")), "{second}");
        drop(lease);
        until(3);
        let (lease, _) = borrow(path, ports("netmap:em0", "netmap:em1")).unwrap();
        assert_eq!(lease.before, Some(Ending::Abrupt));
        lease.end().unwrap();
        until(5);
        let (lease, _) = borrow(path, ports("netmap:em0", "netmap:em1")).unwrap();
        assert_eq!(lease.before, Some(Ending::Clean));
        until(6);
        std::mem::forget(lease);
    });
    let reason = format!("process {me} has the ports: stop it first");
    assert_eq!(
        told,
        [
            Event::Lent { pid: me },
            Event::Refused { pid: me, reason },
            Event::Returned { pid: me, ending: Ending::Abrupt },
            Event::Lent { pid: me },
            Event::Returned { pid: me, ending: Ending::Clean },
            Event::Lent { pid: me },
        ]
    );
    assert_eq!(tenant, Some(me), "a stopping keeper knows that its ports are in use");
}

#[test]
fn other_ports_other_versions_and_noise_are_refused_in_words() {
    let (told, tenant) = with_keeper(|path, until| {
        let message = borrow(path, ports("netmap:em0", "netmap:em2")).unwrap_err().to_string();
        assert!(
            message.contains("keeps netmap:em0 and netmap:em1, not netmap:em0 and netmap:em2"),
            "{message}"
        );

        let mut old = UnixStream::connect(path).unwrap();
        let request = Request { protocol: PROTOCOL + 1, ports: ports("netmap:em0", "netmap:em1"), pid: 7 };
        wire::send(&mut old, &request, &[]).unwrap();
        let (reply, fds) = wire::receive::<Reply>(&mut old).unwrap().unwrap();
        assert!(matches!(reply, Reply::Refused { reason } if reason.contains("from the same l4sd")));
        assert!(fds.is_empty(), "nothing is lent with a refusal");

        UnixStream::connect(path).unwrap().write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        drop(UnixStream::connect(path).unwrap());
        until(4);
    });
    assert!(told.iter().all(|event| matches!(event, Event::Refused { .. })), "{told:?}");
    assert_eq!(tenant, None);
}

#[test]
fn a_missing_or_foreign_socket_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keeper.sock");
    let nobody = borrow(&path, ports("a", "b")).unwrap_err().to_string();
    assert!(nobody.contains("start one with `l4sd keeper --socket"), "{nobody}");

    let first = Server::listen(&path).unwrap();
    let second = Server::listen(&path).unwrap_err().to_string();
    assert!(second.starts_with("another keeper listens at"), "{second}");
    drop(first);

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind by a keeper that was killed");
    drop(Server::listen(&path).unwrap());

    std::fs::write(&path, "").unwrap();
    let file = Server::listen(&path).unwrap_err().to_string();
    assert!(file.contains("not a socket"), "{file}");
    let nowhere = Server::listen(&folder.path().join("no/such/folder")).unwrap_err().to_string();
    assert!(nowhere.contains("a folder that exists"), "{nowhere}");
}
