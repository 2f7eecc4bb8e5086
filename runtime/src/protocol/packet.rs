//! Frames in datagrams: numbered, acknowledged, sent again when they are lost, paced by what the path can carry.
//!
//! The machines above write frames as on a stream and hear of them as on a stream, but in any order and perhaps twice.
//! [`ClientEnd`] and [`ServerEnd`] are the two ends of a link; [`Endpoint`] sorts what arrives at a server's socket.
//! Holds no socket and no clock.

mod channel;
mod client;
mod congestion;
pub(crate) mod cookie;
pub(crate) mod pieces;
mod received;
mod reordering;
mod rtt;
mod sent;
mod server;

use std::time::Duration;

pub(crate) use channel::{Delivery, Taken};
pub(crate) use client::ClientEnd;
pub(crate) use server::{Arrival, Endpoint, Greeting, ServerEnd};

use crate::limits::Limits;
use crate::protocol::client::Violation;
use crate::wire::datagram::SMALLEST_HELLO;
use crate::wire::frame::{CloseCode, FrameError, frame_length};

/// What a link's datagrams did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PacketStatistics {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// Datagrams that were given up.
    pub(crate) lost: u64,
    /// Datagrams with something that had been sent before.
    pub(crate) resent: u64,
    /// Datagrams that came again.
    pub(crate) duplicates: u64,
    /// What came and was none of ours: changed on its way, unknown, or of no link.
    pub(crate) rejected: u64,
}

/// Why a link is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The peer said so.
    Closed { code: CloseCode, text: Box<str> },
    /// The peer broke the protocol.
    Violation(&'static str),
    /// A frame of the peer cannot be read.
    Malformed(FrameError),
    /// The peer says nothing any more.
    Silent,
    /// A large message of the peer does not go on.
    Stalled,
    /// The server does not know the link, or nobody listens there.
    Unknown,
}

impl From<Violation> for Ended {
    fn from(violation: Violation) -> Ended {
        Ended::Violation(violation.0)
    }
}

impl From<FrameError> for Ended {
    fn from(error: FrameError) -> Ended {
        Ended::Malformed(error)
    }
}

/// The frames (type and body) of a datagram.
pub(crate) fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Result<&[u8], FrameError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let next = match frame_length(bytes) {
            Ok(Some((length, head))) => match bytes.get(head..head + length) {
                Some(frame) => {
                    bytes = &bytes[head + length..];
                    return Some(Ok(frame));
                }
                None => Err(FrameError::Short),
            },
            Ok(None) => Err(FrameError::Short),
            Err(error) => Err(error),
        };
        bytes = &[];
        Some(next)
    })
}

/// The largest datagram that both sides accept, in bytes.
fn datagram_size(limits: &Limits, peer: u64) -> usize {
    let own = limits.datagram.clamp(FALLBACK_DATAGRAM, LARGEST_DATAGRAM);
    usize::try_from(peer).unwrap_or(own).clamp(FALLBACK_DATAGRAM, own)
}

/// Largest message over datagrams, in bytes.
pub(crate) fn max_message(limits: &Limits) -> usize {
    limits.message.min(limits.datagram_message)
}

/// Unfinished large messages beside those of a window of calls: of calls that were given up, or repeats of a run whose
/// first answer is on its way.
const GIVEN_UP_MESSAGES: usize = 64;
/// Datagrams of this size are sent where larger ones vanish.
const FALLBACK_DATAGRAM: usize = SMALLEST_HELLO;
/// Largest datagram that UDP carries, rounded down.
const LARGEST_DATAGRAM: usize = 65_000;
/// How long an acknowledgement waits for something to travel with.
const ACK_DELAY: Duration = Duration::from_millis(5);
/// How long the peer is told that it may take: more, since timers are coarse and machines busy.
const MOST_ACK_DELAY: Duration = Duration::from_millis(10);
/// Intervals of silence after which a server gives a link up: its client would have asked long before.
const SILENT_INTERVALS: u32 = 4;

#[cfg(test)]
mod tests;
