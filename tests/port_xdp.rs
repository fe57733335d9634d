//! The AF_XDP port over veth pairs. Needs root: [`in_a_namespace_of_its_own`] runs this binary again in a network
//! namespace that ends with it, and only there do the other tests do anything.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as the tests do")]

#[macro_use]
#[allow(unreachable_pub, reason = "shared by several test binaries")]
#[path = "port_contract/suite.rs"]
mod suite;

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use l4sd::port::xdp::{XdpOptions, XdpPort};
use l4sd::port::{PortError, PortPair, Side};
use l4sd::time::{Instant, Span};
use l4sd_afxdp::{AttachMode, CopyMode, Frame, Interface, NetDevice, Program, RingSizes, Umem};

const INNER: &str = "L4SD_XDP_TEST_NAMESPACE";
const HOLD: &str = "L4SD_XDP_TEST_HOLD";
const SMALL: XdpOptions = XdpOptions { held: 64, tx_ring: 64, rx_ring: 256 };

fn inside() -> bool {
    std::env::var_os(INNER).is_some()
}

/// Runs a command that must succeed and returns what it printed.
fn run(command: &str) -> String {
    let out = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    text
}

fn this_binary() -> String {
    std::env::current_exe().unwrap().display().to_string()
}

#[test]
fn in_a_namespace_of_its_own() {
    if inside() {
        return;
    }
    if run("id -u").trim() != "0" {
        l4sd_testbed::sandbox::skipped("a test of the AF_XDP port", "not root");
        return;
    }
    let mut inner = Command::new("unshare");
    inner.args(["-n", "-m", &this_binary(), "--test-threads=1"]).env(INNER, "1");
    let out = inner.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    print!("{text}");
    assert!(out.status.success(), "inside the namespace:\n{text}");
}

/// Two veth pairs, set up as the port wants them: `n*` are ours, `f*` the far ends. Gone with this value.
struct Wires {
    near: [String; 2],
    far: [String; 2],
}

impl Wires {
    fn new(queues: u32) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let names = |end: &str| {
            let id = NEXT.load(Ordering::Relaxed);
            [format!("{end}L{id}"), format!("{end}R{id}")]
        };
        let wires = Self { near: names("n"), far: names("f") };
        NEXT.fetch_add(1, Ordering::Relaxed);
        for (near, far) in wires.near.iter().zip(&wires.far) {
            let q = format!("numrxqueues {queues} numtxqueues {queues}");
            run(&format!("ip link add {near} {q} type veth peer name {far} {q}"));
            for end in [near, far] {
                run(&format!("echo 1 > /proc/sys/net/ipv6/conf/{end}/disable_ipv6; ip link set {end} up"));
                run(&format!(
                    "ethtool -K {end} tx off tso off gso off gro off rxvlan off txvlan off \
                     rx-vlan-stag-hw-parse off tx-vlan-stag-hw-insert off tx-udp-segmentation off"
                ));
            }
        }
        wires
    }

    fn open(&self) -> Result<XdpPort, PortError> {
        XdpPort::open(&self.near[0], &self.near[1], &SMALL)
    }

    fn shows_xdp(&self) -> bool {
        self.near.iter().any(|n| run(&format!("ip link show {n}")).contains("xdp"))
    }
}

impl Drop for Wires {
    fn drop(&mut self) {
        for near in &self.near {
            let _ = Command::new("ip").args(["link", "del", near]).output();
        }
    }
}

/// The world outside: an AF_XDP socket of its own on each far end.
struct Outside {
    interfaces: [Interface; 2],
    umem: Arc<Umem>,
    spares: Vec<Frame>,
}

impl Outside {
    fn new(far: &[String; 2]) -> Self {
        let (umem, mut spares) = Umem::new(4096, 2048).unwrap();
        let umem = Arc::new(umem);
        let sizes = RingSizes { rx: 1024, tx: 256 };
        let mut open = |name: &str, registrar: Option<&Interface>| {
            let registrar = registrar.map(|i| &i.sockets()[0]);
            let device = NetDevice::open(name).unwrap();
            Interface::open(device, &umem, registrar, CopyMode::Copy, sizes, &mut spares).unwrap()
        };
        let left = open(&far[0], None);
        let right = open(&far[1], Some(&left));
        Self { interfaces: [left, right], umem, spares }
    }
}

struct Veth {
    pair: XdpPort,
    outside: Outside,
    _wires: Wires,
}

impl Veth {
    fn new() -> Option<Self> {
        inside().then(|| {
            let wires = Wires::new(1);
            let outside = Outside::new(&wires.far);
            Self { pair: wires.open().unwrap(), outside, _wires: wires }
        })
    }
}

impl suite::Fixture for Veth {
    type Pair = XdpPort;

    fn pair(&mut self) -> &mut XdpPort {
        &mut self.pair
    }

    fn promise(&self) -> suite::Promise {
        suite::Promise { tx_ring: SMALL.tx_ring as usize, oversize: None, patience: Span::from_secs(5) }
    }

    fn inject(&mut self, side: Side, bytes: &[u8]) {
        let Outside { interfaces, umem, spares } = &mut self.outside;
        let socket = &mut interfaces[side.index()].sockets_mut()[0];
        socket.complete(spares, |_| ());
        let mut frame = spares.pop().unwrap();
        umem.resize(&mut frame, bytes.len());
        umem.bytes_mut(&mut frame).copy_from_slice(bytes);
        socket.transmit(frame).unwrap();
        assert_eq!(socket.submit().unwrap(), 0);
        socket.complete(spares, |_| ());
    }

    fn collect(&mut self, side: Side) -> Vec<Vec<u8>> {
        let Outside { interfaces, umem, spares } = &mut self.outside;
        let socket = &mut interfaces[side.index()].sockets_mut()[0];
        let mut batch = Vec::new();
        socket.receive(4096, &mut batch, spares);
        let frames = batch.iter().map(|f| umem.bytes(f).to_vec()).collect();
        spares.append(&mut batch);
        socket.fill_from(spares);
        frames
    }
}

contract!(Veth::new());

#[test]
fn a_veth_is_driven_in_the_driver_and_promiscuous_while_open() {
    if !inside() {
        return;
    }
    let wires = Wires::new(1);
    let promiscuity = || run(&format!("ip -d link show {}", wires.near[0])).contains("promiscuity 1");
    assert!(!promiscuity());
    let port = wires.open().unwrap();
    for side in Side::BOTH {
        let mode = port.mode(side);
        assert!(mode.native && !mode.zero_copy && mode.queues == 1, "{mode}");
        assert_eq!(mode.to_string(), "native mode, copy, 1 queue(s)");
    }
    assert!(promiscuity() && wires.shows_xdp());
    drop(port);
    assert!(!promiscuity() && !wires.shows_xdp());
    wires.open().expect("what was closed can be opened again at once");
}

#[test]
fn a_killed_process_leaves_nothing_behind() {
    if !inside() {
        return;
    }
    let wires = Wires::new(1);
    let mut child = Command::new(this_binary())
        .args(["--exact", "holds_the_ports_until_killed", "--nocapture"])
        .env(HOLD, wires.near.join(","))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains("HOLDING")), "the child opened the ports");
    assert!(wires.shows_xdp());
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..100 {
        if !wires.shows_xdp() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!wires.shows_xdp(), "the program outlived its process");
    wires.open().expect("the queues are free");
}

#[test]
fn holds_the_ports_until_killed() {
    let Ok(names) = std::env::var(HOLD) else { return };
    let (left, right) = names.split_once(',').unwrap();
    let _port = XdpPort::open(left, right, &SMALL).unwrap();
    println!("HOLDING");
    std::thread::sleep(Duration::from_mins(1));
}

/// Datagrams of many flows from the stack of the far end, which spreads them over its transmit queues.
fn send_flows(far: &str, flows: u8) {
    run(&format!(
        "ip addr add 192.0.2.1/24 dev {far}; ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev {far}"
    ));
    for flow in 0..flows {
        let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
        socket.send_to(&[flow; 100], "192.0.2.2:9").unwrap();
    }
}

/// The payloads' first bytes of the datagrams of [`send_flows`] that a port receives, sorted.
fn receive_flows(port: &mut XdpPort, flows: u8) -> Vec<u8> {
    let (mut batch, mut seen) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        port.recv(Side::Left, 64, &mut batch).unwrap();
        for frame in batch.drain(..) {
            let bytes = port.bytes(&frame);
            if bytes.len() == 142 && bytes[12..14] == [8, 0] {
                assert!(bytes[42..].iter().all(|b| *b == bytes[42]), "payload intact");
                seen.push(bytes[42]);
            }
            port.recycle(frame);
        }
        if seen.len() == flows as usize {
            break;
        }
        port.wait(Span::from_millis(10)).unwrap();
    }
    seen.sort_unstable();
    seen
}

#[test]
fn every_queue_is_served() {
    if !inside() {
        return;
    }
    let wires = Wires::new(2);
    let mut port = wires.open().unwrap();
    assert_eq!(Side::BOTH.map(|side| port.mode(side).queues), [2, 2]);
    send_flows(&wires.far[0], 64);
    assert_eq!(receive_flows(&mut port, 64), (0..64).collect::<Vec<u8>>());
    let stats = run(&format!("ethtool -S {}", wires.near[0]));
    for queue in 0..2 {
        let key = format!("rx_queue_{queue}_xdp_packets: ");
        let line = stats.lines().find_map(|l| l.trim().strip_prefix(&key)).unwrap();
        assert!(line.parse::<u64>().unwrap() > 0, "queue {queue} took part:\n{stats}");
    }
    let census = port.census();
    assert_eq!(census.total, census.spare + census.in_rings);
}

#[test]
fn offloads_that_hide_something_are_refused_with_the_command_that_mends_it() {
    if !inside() {
        return;
    }
    let wires = Wires::new(1);
    let (near, far) = (&wires.near[0], &wires.far[0]);
    for setting in [
        format!("{near} rxvlan on"),
        format!("{near} rx-vlan-stag-hw-parse on"),
        format!("{far} txvlan on"),
        format!("{far} tx-vlan-stag-hw-insert on"),
        format!("{far} tx on"),
        format!("{far} tx on tso on gso on txvlan on"),
    ] {
        run(&format!("ethtool -K {setting}"));
        let error = wires.open().expect_err(&setting);
        assert!(matches!(error, PortError::Interface { .. }), "{setting}: {error}");
        let message = error.to_string();
        let fix = message.split('`').nth(1).expect("the message quotes a command");
        assert!(message.starts_with(&format!("xdp:{near}: ")) && fix.starts_with("ethtool -K"), "{message}");
        run(fix);
        wires.open().unwrap_or_else(|e| panic!("{setting}, after `{fix}`: {e}"));
    }
}

#[test]
fn what_cannot_be_opened_says_why() {
    if !inside() {
        return;
    }
    let wires = Wires::new(1);
    let [left, right] = &wires.near;
    let refused = |l: &str, r: &str| XdpPort::open(l, r, &SMALL).expect_err("must be refused").to_string();
    assert_eq!(
        refused(left, "gone0"),
        "xdp:gone0: no interface 'gone0' in this network namespace; `ip link` lists them"
    );
    assert!(refused(left, left).contains("the same interface"));

    run(&format!("ip link set {right} down"));
    assert_eq!(
        refused(left, right),
        format!("xdp:{right}: '{right}' is down; run `ip link set dev {right} up`")
    );
    run(&format!("ip link set {right} up"));

    run(&format!("ip link set {right} mtu 3819"));
    let message = refused(left, right);
    assert!(message.contains(&format!("ip link set dev {right} mtu 3818")), "{message}");
    run(&format!("ip link set {right} mtu 1500"));

    let bad = XdpOptions { tx_ring: 100, ..SMALL };
    assert!(matches!(XdpPort::open(left, right, &bad), Err(PortError::Spec { .. })));

    let index = NetDevice::open(right).unwrap().index();
    let link = Program::drop_all().unwrap().attach(index, AttachMode::Native).unwrap();
    assert!(refused(left, right).contains("already has an XDP program"));
    drop(link);

    let _port = wires.open().unwrap();
    let message = refused(left, right);
    assert!(message.contains("already has an AF_XDP socket on queue 0"), "{message}");
}

#[test]
fn without_the_privilege_the_other_backend_is_named() {
    if !inside() {
        return;
    }
    let script = format!(
        "ip link add nL0 type veth peer name fL0 && ip link add nR0 type veth peer name fR0 && \
         for i in nL0 fL0 nR0 fR0; do ip link set $i up; ethtool -K $i tx off tso off gso off rxvlan off txvlan off \
         rx-vlan-stag-hw-parse off tx-vlan-stag-hw-insert off tx-udp-segmentation off; done; \
         exec {} --exact is_refused_in_a_user_namespace --nocapture",
        this_binary()
    );
    let out =
        Command::new("unshare").args(["-U", "-r", "-n", "sh", "-c", &script]).env(HOLD, "userns").output();
    let out = out.unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(text.contains("use packet: instead"), "{text}");
}

#[test]
fn is_refused_in_a_user_namespace() {
    if std::env::var(HOLD).as_deref() != Ok("userns") {
        return;
    }
    let error = XdpPort::open("nL0", "nR0", &SMALL).expect_err("no privilege");
    assert!(matches!(error, PortError::Privilege { .. }), "{error}");
    println!("{error}");
}

#[test]
fn an_interface_that_goes_down_or_away_ends_the_port() {
    if !inside() {
        return;
    }
    for how in ["ip link set {} down", "ip link del {}"] {
        let wires = Wires::new(1);
        let mut port = wires.open().unwrap();
        port.flush(Instant::from_millis(1)).unwrap();
        port.wait(Span::from_millis(1)).unwrap();
        run(&how.replace("{}", &wires.near[1]));
        for outcome in [port.wait(Span::from_millis(1)), port.flush(Instant::from_millis(200))] {
            let named =
                matches!(&outcome, Err(PortError::Interface { port, .. }) if port.ends_with(&wires.near[1]));
            assert!(named, "{how}: {outcome:?}");
        }
    }
}

#[test]
fn frames_lost_for_want_of_buffers_are_counted() {
    if !inside() {
        return;
    }
    let wires = Wires::new(1);
    let mut port = wires.open().unwrap();
    run(&format!(
        "ip addr add 192.0.2.1/24 dev {0}; ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev {0}",
        wires.far[0]
    ));
    let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
    let total = port.census().total as u64;
    let (mut batch, mut sent) = (Vec::new(), 0);
    while sent < 2 * total {
        for _ in 0..32 {
            socket.send_to(&[0; 100], "192.0.2.2:9").unwrap();
            sent += 1;
        }
        port.recv(Side::Left, 64, &mut batch).unwrap();
    }
    let c = port.counters(Side::Left);
    assert_eq!(c.rx_frames, batch.len() as u64);
    assert!(c.rx_no_buffer > 0, "{c:?}");
    assert_eq!(c.rx_frames + c.rx_no_buffer + c.rx_kernel_drops, sent, "{c:?}");
    let census = port.census();
    assert_eq!(census.total, census.spare + census.in_rings + batch.len());
}
