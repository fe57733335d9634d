//! A change of configuration on its way to the forwarder: a ring that is wait-free at both ends, looked at once a breath.
//! The forwarder says in its reports which change it has taken over last. What may change at all is for
//! [`crate::config::Changes`] to say.

use crate::aqm::params::Knobs;
use crate::egress::EgressConfig;

/// What both directions take over in the same breath. It owns no memory, so that to drop it costs nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Counts from 1.
    pub number: u64,
    /// By [`Direction::index`](crate::telemetry::Direction::index); of the discipline only its constants are taken.
    pub egress: [EgressConfig; 2],
    /// What a controller's fallback returns to.
    pub defaults: Knobs,
}

/// Changes on their way. The managing thread waits for one to be taken over before it sends the next.
const CHANGES: usize = 2;

/// The managing thread's end and the forwarder's.
pub fn ring() -> (rtrb::Producer<Change>, rtrb::Consumer<Change>) {
    rtrb::RingBuffer::new(CHANGES)
}
