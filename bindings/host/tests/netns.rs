//! The Linux parts against a kernel, in a network namespace of the test's own: the test binary runs itself again under
//! `unshare`, so nothing outlives it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use l4sd_host::{Blind, Offload, addresses, carries_default_route, features, interface, rx_queues};

const INSIDE: &str = "L4SD_TEST_IN_NETNS";

/// True in the copy of the test that has a network namespace to itself. Outside, starts that copy and passes its
/// verdict on.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let usable = |flags: &str| {
        let probe = Command::new("unshare").args([flags, "true"]).stderr(Stdio::null()).status();
        probe.is_ok_and(|status| status.success())
    };
    let Some(flags) = ["-n", "-Urn"].into_iter().find(|flags| usable(flags)) else {
        // Past the harness, which shows nothing of a test that passes.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: no network namespaces here");
        return false;
    };
    let status = Command::new("unshare")
        .args([flags, "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success(), "{test} failed in its network namespace");
    false
}

fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn interfaces_are_described_as_they_are() {
    if !inside("interfaces_are_described_as_they_are") {
        return;
    }
    sh("ip link add ea type veth peer name eb; ip link set ea address 02:00:00:00:00:0a mtu 1600 up; ip link set eb up
        ip link add br0 type bridge; ip link set eb master br0
        ip address add 192.0.2.1/24 dev ea; ip route add default via 192.0.2.2");
    let a = interface("ea").unwrap().unwrap();
    assert_eq!(a.index.to_string(), sh("ip -o link show ea | cut -d: -f1").trim());
    assert!(a.ethernet && a.up && a.carrier);
    assert_eq!((a.mtu, a.mac, a.kind.as_deref(), a.master), (1600, [2, 0, 0, 0, 0, 10], Some("veth"), None));
    assert_eq!(addresses(a.index).unwrap(), [std::net::IpAddr::from([192, 0, 2, 1])]);
    assert!(carries_default_route(a.index).unwrap());

    let b = interface("eb").unwrap().unwrap();
    let br = interface("br0").unwrap().unwrap();
    assert_eq!((b.master, br.kind.as_deref(), br.up), (Some(br.index), Some("bridge"), false));
    assert!(addresses(b.index).unwrap().is_empty());
    assert!(!carries_default_route(b.index).unwrap());

    sh("ip link set eb down");
    assert!(!interface("ea").unwrap().unwrap().carrier);
    assert!(!interface("lo").unwrap().unwrap().ethernet);
    assert_eq!(interface("nosuch").unwrap(), None);
    assert_eq!(interface("a-name-longer-than-interfaces-have").unwrap(), None);
}

#[test]
fn offloads_are_read_back_after_every_switch() {
    if !inside("offloads_are_read_back_after_every_switch") {
        return;
    }
    sh("ip link add ea type veth peer name eb");
    assert_eq!(rx_queues("ea").unwrap(), 1);
    for on in [
        Offload::Gso,
        Offload::Tso,
        Offload::RxChecksum,
        Offload::TxChecksum,
        Offload::RxVlan,
        Offload::TxVlan,
    ] {
        assert!(features("ea").unwrap().is_on(on), "a new veth has {on:?}");
    }
    for offload in Offload::ALL {
        let words = features("ea").unwrap().words(offload);
        if !words.is_empty() {
            sh(&format!("ethtool -K ea {} off", words.join(" off ")));
        }
        assert!(!features("ea").unwrap().is_on(offload), "{offload:?} after {words:?} off");
    }
    for (word, offload) in
        [("rxvlan", Offload::RxVlan), ("rx-vlan-stag-hw-parse", Offload::RxVlan), ("gro", Offload::Gro)]
    {
        sh(&format!("ethtool -K ea {word} on"));
        assert_eq!(features("ea").unwrap().words(offload), [word]);
        sh(&format!("ethtool -K ea {word} off"));
    }
    assert_eq!(features("nosuch").unwrap_err().errno(), Some(libc::ENODEV));
}

#[test]
fn blindness_ends_with_its_owner_and_is_all_or_nothing() {
    if !inside("blindness_ends_with_its_owner_and_is_all_or_nothing") {
        return;
    }
    sh("ip link add ea type veth peer name eb; ip link set ea up; ip link set eb up");
    let blind = Blind::new(&["ea", "eb"]).unwrap();
    let rules = sh("nft list ruleset");
    assert_eq!(rules.matches("policy drop").count(), 2, "{rules}");
    let twice = Blind::new(&["ea"]).unwrap_err().to_string();
    assert!(twice.contains("another l4sd forwards from ea"), "{twice}");
    assert_eq!(sh("nft list ruleset"), rules, "who is refused changes nothing");
    drop(blind);
    drop(Blind::new(&["ea"]).unwrap());
    assert!(Blind::new(&["ea", "nosuch"]).is_err());
    assert_eq!(sh("nft list ruleset"), "");
}
