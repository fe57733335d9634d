//! Any bytes as a frame: the laws of `wire` hold, and nothing panics.
#![no_main]

#[path = "../../tests/wire_oracle/laws.rs"]
mod laws;

libfuzzer_sys::fuzz_target!(|frame: &[u8]| laws::hold(frame));
