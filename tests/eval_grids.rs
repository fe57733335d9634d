//! The tables of the smoke variant of every grid, as they were: whoever changes the simulator, a sender, an AQM or the
//! scoreboard sees here what it does to them. `cargo insta accept` (or INSTA_UPDATE=always) takes a change.

use std::process::Command;

#[test]
fn smoke_tables_are_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let grids = [
        "rfc9332", "flows", "rtt", "steps", "overload", "web", "bursty", "variable", "lowrate", "switch",
        "impaired", "smoke",
    ];
    for grid in grids {
        let out = dir.path().join(grid);
        let run = Command::new(env!("CARGO_BIN_EXE_l4sd"))
            .args(["eval", grid, "--smoke", "--policy", "dualpi2-linux,codel,taildrop,dualpi2:target=5ms"])
            .args(["--split", "dev", "--out"])
            .arg(&out)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let table = std::fs::read_to_string(out.join("table.md")).unwrap();
        insta::assert_snapshot!(grid, table);
    }
}
