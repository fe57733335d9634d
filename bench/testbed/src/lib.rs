//! Real-traffic testbed.
