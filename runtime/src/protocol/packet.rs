//! Frames in datagrams: numbered, acknowledged, sent again when they are lost, paced by what the path can carry.
//!
//! The machines above write frames as on a stream and hear of them as on a stream, but in any order and perhaps twice.
//! Holds no socket and no clock.
