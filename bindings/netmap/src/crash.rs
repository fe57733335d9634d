//! A process that dies in the middle: every store to memory shared with the kernel first calls [`before_store`], and
//! a test can have the n-th one unwind instead.
//!
//! ```
//! use l4sd_netmap::crash;
//! let n = 3;
//! let outcome = crash::at_store(n, || { /* take, put, sync, close ... */ });
//! // Err(Crash): unwound before store 3, the memory is as a killed process would leave it.
//! // Ok(value): `f` makes at most 3 stores: the enumeration is over.
//! # assert!(outcome.is_ok());
//! ```
//!
//! Run it for n = 0, 1, 2, ... on fresh state until it returns `Ok`. Dropping ports and buffers while unwinding writes
//! nothing to shared memory; it closes the descriptor, so a test that plays the keeper holds a duplicate of it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

thread_local! {
    /// Stores left before the crash; none: not armed.
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// The payload of the unwinding, and the outcome of a run that was cut off.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Crash;

/// Runs `f` and unwinds out of it before store number `n` (from 0) of this thread to shared memory.
///
/// # Errors
/// [`Crash`] if that store was reached. Any other panic goes on.
pub fn at_store<T>(n: u64, f: impl FnOnce() -> T) -> Result<T, Crash> {
    LEFT.set(Some(n));
    let outcome = catch_unwind(AssertUnwindSafe(f));
    LEFT.set(None);
    outcome.map_err(|payload| match payload.downcast::<Crash>() {
        Ok(crash) => *crash,
        Err(other) => resume_unwind(other),
    })
}

/// How many stores to shared memory this thread makes while running `f`.
pub fn count_stores(f: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    f();
    COUNT.get() - before
}

pub(crate) fn before_store() {
    COUNT.set(COUNT.get() + 1);
    match LEFT.get() {
        Some(0) => {
            LEFT.set(None);
            resume_unwind(Box::new(Crash));
        }
        Some(n) => LEFT.set(Some(n - 1)),
        None => (),
    }
}
