//! The scripts for netmap's pkt-gen, with programs that pretend to be netmap's.
#![cfg(unix)]

use std::process::Command;

#[test]
fn the_scripts_read_pkt_gen_and_compare_with_bridge() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/pktgen/test.sh");
    let output = Command::new("sh").arg(script).output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{said}");
}
