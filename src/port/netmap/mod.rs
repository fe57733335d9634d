//! netmap ports.

pub mod ledger;
pub mod record;
