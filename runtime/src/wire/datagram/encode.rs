//! Datagrams to bytes: each `put_` function appends one whole datagram with its sum to a buffer.
//!
//! A `frame` is type and body, without a length.

use super::{DATA, HELLO, REFUSED, RETRY, SUM, Truncated, UNKNOWN, WELCOME};
use crate::wire::varint;

/// Appends HELLO, filled up with zeros to `padded_to` bytes in all.
pub(crate) fn put_hello(
    max_datagram: usize,
    cookie: Option<u64>,
    frame: &[u8],
    padded_to: usize,
    into: &mut Vec<u8>,
) {
    let start = into.len();
    into.push(HELLO);
    varint::put(max_datagram as u64, into);
    match cookie {
        None => into.push(0),
        Some(cookie) => {
            into.push(8);
            into.extend_from_slice(&cookie.to_be_bytes());
        }
    }
    varint::put(frame.len() as u64, into);
    into.extend_from_slice(frame);
    into.resize(into.len().max(start + padded_to.saturating_sub(SUM)), 0);
    seal(start, into);
}

/// Appends RETRY.
pub(crate) fn put_retry(nonce: u64, cookie: u64, into: &mut Vec<u8>) {
    let start = into.len();
    into.push(RETRY);
    into.extend_from_slice(&nonce.to_be_bytes());
    into.extend_from_slice(&cookie.to_be_bytes());
    seal(start, into);
}

/// Appends WELCOME.
pub(crate) fn put_welcome(
    nonce: u64,
    link: u64,
    max_datagram: usize,
    max_ack_delay_us: u64,
    frame: &[u8],
    into: &mut Vec<u8>,
) {
    let start = into.len();
    into.push(WELCOME);
    into.extend_from_slice(&nonce.to_be_bytes());
    into.extend_from_slice(&link.to_be_bytes());
    varint::put(max_datagram as u64, into);
    varint::put(max_ack_delay_us, into);
    into.extend_from_slice(frame);
    seal(start, into);
}

/// Appends REFUSED.
pub(crate) fn put_refused(nonce: u64, frame: &[u8], into: &mut Vec<u8>) {
    let start = into.len();
    into.push(REFUSED);
    into.extend_from_slice(&nonce.to_be_bytes());
    into.extend_from_slice(frame);
    seal(start, into);
}

/// Appends UNKNOWN, which is smaller than whatever caused it.
pub(crate) fn put_unknown(link: u64, into: &mut Vec<u8>) {
    let start = into.len();
    into.push(UNKNOWN);
    into.extend_from_slice(&link.to_be_bytes());
    seal(start, into);
}

/// Appends the start of DATA; its frames follow, then [`seal`] ends it.
#[inline]
pub(crate) fn begin_data(id: u64, number: Truncated, into: &mut Vec<u8>) {
    into.push(DATA);
    into.extend_from_slice(&id.to_be_bytes());
    into.extend_from_slice(&number.0.to_be_bytes());
}

/// Appends the sum over the datagram that begins at `start`.
#[inline]
pub(crate) fn seal(start: usize, into: &mut Vec<u8>) {
    let sum = crc32c::crc32c(into.get(start..).unwrap_or_default());
    into.extend_from_slice(&sum.to_be_bytes());
}
