//! The datagrams of a UDP link: what they contain, and their bytes.
//!
//! The first byte says which of six a datagram is, the last four are a CRC-32C of all before them. What opens a link
//! carries the frames HELLO and WELCOME; everything after carries numbered DATA, whose frames are those of a stream and
//! are decoded by [`frame`](super::frame). Knows no addresses and no state: whether a datagram is wanted is for others
//! to say. `docs/protocol.md` has every byte.

mod decode;
mod encode;

pub(crate) use decode::decode;
pub(crate) use encode::{
    begin_data, put_hello, put_refused, put_retry, put_unknown, put_welcome, seal,
};

/// Most that a DATA datagram takes beside its frames: first byte, id, number, sum.
pub(crate) const DATA_OVERHEAD: usize = 1 + 8 + 4 + SUM;
/// A HELLO is filled up to this many bytes, so that the server may answer at once and a path that cannot carry
/// datagrams of this size shows it.
pub(crate) const HELLO_SIZE: usize = 1200;
/// A HELLO of fewer bytes is not answered; every path of the Internet carries so many.
pub(crate) const SMALLEST_HELLO: usize = 548;
/// Bytes of the CRC-32C at the end.
pub(crate) const SUM: usize = 4;

const HELLO: u8 = 0x00;
const RETRY: u8 = 0x01;
const WELCOME: u8 = 0x02;
const REFUSED: u8 = 0x03;
const UNKNOWN: u8 = 0x04;
const DATA: u8 = 0x40;

/// One datagram, decoded. A `frame` is type and body, without a length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Datagram<'a> {
    /// Client opens a link; `frame` is HELLO.
    Hello {
        /// Largest datagram that the client accepts, in bytes.
        max_datagram: u64,
        /// What RETRY gave it.
        cookie: Option<u64>,
        frame: &'a [u8],
    },
    /// Server wants the cookie back from the address that HELLO came from.
    Retry { nonce: u64, cookie: u64 },
    /// Server opens the link; `frame` is WELCOME.
    Welcome {
        nonce: u64,
        /// What the client's datagrams of this link carry.
        link: u64,
        /// Largest datagram that the server accepts, in bytes.
        max_datagram: u64,
        /// How long the server may wait before it acknowledges.
        max_ack_delay_us: u64,
        frame: &'a [u8],
    },
    /// Server opens no link; `frame` is CLOSE.
    Refused { nonce: u64, frame: &'a [u8] },
    /// Server has no such link: a hint, which anyone could have sent.
    Unknown { link: u64 },
    /// Frames on a link.
    Data(Data<'a>),
}

/// A numbered datagram on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Data<'a> {
    /// From the client the link's id, from the server the nonce of HELLO.
    pub(crate) id: u64,
    pub(crate) number: Truncated,
    /// Frames as on a stream, each with its length.
    pub(crate) frames: &'a [u8],
}

/// The low half of a datagram's number, which the receiver completes from what it has received. Four bytes always: with
/// fewer, a copy that comes late would be taken for another number, since the sum cannot tell as a key would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Truncated(pub(crate) u32);

/// Why bytes are not a datagram of ours. All are dropped without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DatagramError {
    /// The sum at the end is not that of the bytes before it.
    #[error("a datagram that was changed on its way")]
    Sum,
    /// The first byte is none of ours.
    #[error("a datagram of unknown type {0:#04x}")]
    UnknownType(u8),
    /// It ends before its content does, or is smaller than it must be.
    #[error("a datagram that is too short")]
    Short,
    /// Bytes are left over, or the filling of a HELLO is not zero.
    #[error("a datagram that is longer than its content")]
    Long,
    /// A number is longer than it needs to be, or a length is not one of those allowed.
    #[error("a number out of range in a datagram of type {0:#04x}")]
    Number(u8),
}

impl Truncated {
    /// The low half of `number`.
    #[inline]
    pub(crate) fn of(number: u64) -> Truncated {
        Truncated(number as u32)
    }

    /// The number that ends in these bytes and is nearest to the one expected after `largest_received` (RFC 9000,
    /// appendix A.3).
    #[inline]
    pub(crate) fn expand(self, largest_received: Option<u64>) -> u64 {
        const SPAN: u64 = 1 << 32;
        let expected = largest_received.map_or(0, |largest| largest.saturating_add(1));
        let candidate = (expected & !(SPAN - 1)) | u64::from(self.0);
        if expected.saturating_sub(candidate) >= SPAN / 2 {
            candidate.checked_add(SPAN).unwrap_or(candidate)
        } else if candidate.saturating_sub(expected) > SPAN / 2 {
            candidate.checked_sub(SPAN).unwrap_or(candidate)
        } else {
            candidate
        }
    }
}

#[cfg(test)]
mod tests;
