//! What a datagram is, by its first byte, and which frames it carries.
//!
//! Written a second time, apart from the runtime's own reader, so that a mistake there is not repeated here.

use crate::fault_proxy::FrameKind;
use crate::raw::number;

/// The kind of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DatagramKind {
    /// A client opens or resumes a session.
    Hello,
    /// It is to show that it receives at its address.
    Retry,
    /// The server's answer.
    Welcome,
    /// The server refuses.
    Refused,
    /// The server does not know the link.
    Unknown,
    /// Numbered frames.
    Data,
    /// Anything else.
    Other,
}

impl DatagramKind {
    /// The kind of this datagram.
    #[must_use]
    pub fn of(datagram: &[u8]) -> DatagramKind {
        match datagram.first() {
            Some(0) => DatagramKind::Hello,
            Some(1) => DatagramKind::Retry,
            Some(2) => DatagramKind::Welcome,
            Some(3) => DatagramKind::Refused,
            Some(4) => DatagramKind::Unknown,
            Some(0x40) => DatagramKind::Data,
            _ => DatagramKind::Other,
        }
    }
}

/// The kinds of the frames in a datagram, in order; none if it carries no frames.
#[must_use]
pub fn frames(datagram: &[u8]) -> Vec<FrameKind> {
    let mut kinds = Vec::new();
    if DatagramKind::of(datagram) != DatagramKind::Data {
        return kinds;
    }
    let end = datagram.len().saturating_sub(SUM);
    let mut rest = datagram.get(HEADER..end).unwrap_or_default();
    while let Some((length, used)) = number(rest) {
        let Some(frame) = rest.get(used..used.saturating_add(length as usize)) else { break };
        let Some(first) = frame.first() else { break };
        kinds.push(FrameKind(first >> 3));
        rest = &rest[used + frame.len()..];
    }
    kinds
}

/// First byte, id, number.
pub(crate) const HEADER: usize = 1 + 8 + 4;
/// Behind the frames.
pub(crate) const SUM: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw;

    #[test]
    fn frames_are_found_between_header_and_sum() {
        let body = [raw::call(1, 0, &[1; 200]), raw::frame(FrameKind::PING, 0, &[0; 8])].concat();
        let datagram = [vec![0x40], vec![7; 12], body, vec![1; SUM]].concat();
        assert_eq!(frames(&datagram), [FrameKind::CALL, FrameKind::PING]);
    }

    #[test]
    fn what_is_no_data_or_ends_early_has_no_such_frames() {
        assert_eq!(frames(&[]), []);
        assert_eq!(frames(&[0; 40]), []);
        assert_eq!(frames(&[0x40, 1, 2]), []);
        assert_eq!(frames(&[0xff; 60]), []);
        assert_eq!(frames(&[&[0x40][..], &[0; 12], &[0xff; 20]].concat()), []);
    }
}
