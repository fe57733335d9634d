//! A simulated link as an environment for learning: a step is a control interval, an action sets the knobs, the reward
//! compares with DualPI2 on the same link and seed.
//!
//! It drives `sim` and `control` and has no packet logic of its own.
