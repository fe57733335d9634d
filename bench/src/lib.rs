//! Benchmarks of l4sd.
