//! A virtual network with seeded faults, virtual time, and an oracle that knows what really ran.
//!
//! [`oracle`] holds the promises as invariants. [`machines`] drives the machines of the protocol themselves, thousands
//! of runs a second. Everything that happens in a run is drawn from its seed, so that a run can be repeated.

pub mod machines;
pub mod oracle;
mod rng;
