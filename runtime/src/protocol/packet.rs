//! Frames in datagrams: numbered, acknowledged, sent again when they are lost, paced by what the path can carry.
//!
//! The machines above write frames as on a stream and hear of them as on a stream, but in any order and perhaps twice.
//! Holds no socket and no clock.

#[allow(dead_code, reason = "until the channel stands on it")]
pub(crate) mod congestion;
#[allow(dead_code, reason = "the endpoint that asks for them comes next")]
pub(crate) mod cookie;
#[allow(dead_code, reason = "the channel that fills it comes next")]
pub(crate) mod pieces;
#[allow(dead_code, reason = "until the channel stands on it")]
pub(crate) mod received;
#[allow(dead_code, reason = "until the channel stands on it")]
pub(crate) mod reordering;
#[allow(dead_code, reason = "until the channel stands on it")]
pub(crate) mod rtt;
