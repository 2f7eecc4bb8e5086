//! Where a frame ends and of what kind it is; the rest of it is not looked at.
//!
//! Written a second time, apart from the runtime's own reader, so that a mistake there is not
//! repeated here.

/// The kind of a frame, as its type byte says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameKind(pub u8);

impl FrameKind {
    /// A client opens or resumes a session.
    pub const HELLO: FrameKind = FrameKind(0);
    /// The server's answer to it.
    pub const WELCOME: FrameKind = FrameKind(1);
    /// The end of a link or session.
    pub const CLOSE: FrameKind = FrameKind(2);
    /// The server shuts down.
    pub const GOAWAY: FrameKind = FrameKind(3);
    /// Are you there?
    pub const PING: FrameKind = FrameKind(4);
    /// Yes.
    pub const PONG: FrameKind = FrameKind(5);
    /// A call.
    pub const CALL: FrameKind = FrameKind(6);
    /// Its reply.
    pub const REPLY: FrameKind = FrameKind(7);
    /// A part of a large message.
    pub const FRAGMENT: FrameKind = FrameKind(8);
    /// Replies that arrived.
    pub const CALL_ACK: FrameKind = FrameKind(9);
    /// A call is given up: what became of it?
    pub const RESOLVE: FrameKind = FrameKind(10);
    /// The answer to it: it runs now.
    pub const EXECUTING: FrameKind = FrameKind(11);
    /// A call was below the floor.
    pub const STALE: FrameKind = FrameKind(12);
    /// Acknowledge what you have.
    pub const NEED_ACK: FrameKind = FrameKind(13);
    /// A name is looked up.
    pub const LOOKUP: FrameKind = FrameKind(14);
    /// What is bound to it.
    pub const BOUND: FrameKind = FrameKind(15);
    /// Datagrams that arrived; only in datagrams.
    pub const ACK: FrameKind = FrameKind(16);
    /// A piece of a large message; only in datagrams.
    pub const PIECE: FrameKind = FrameKind(17);
    /// Are you at this address? Only in datagrams.
    pub const PATH_CHALLENGE: FrameKind = FrameKind(18);
    /// The answer to it; only in datagrams.
    pub const PATH_RESPONSE: FrameKind = FrameKind(19);

    /// Whether a link may deliver such a frame twice. A handshake and the parts of a message belong
    /// to one link, which TCP keeps in order.
    pub(super) fn is_repeatable(self) -> bool {
        [FrameKind::CALL, FrameKind::REPLY, FrameKind::PING, FrameKind::PONG].contains(&self)
    }
}

/// One whole frame with its length prefix.
pub(super) struct Frame {
    pub(super) kind: FrameKind,
    pub(super) bytes: Vec<u8>,
}

/// Bytes of one direction, cut into frames.
#[derive(Default)]
pub(super) struct Splitter {
    buffer: Vec<u8>,
    start: usize,
}

impl Splitter {
    /// Where the next bytes are to be appended.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        self.buffer.drain(..self.start);
        self.start = 0;
        &mut self.buffer
    }

    /// The next whole frame, if there is one.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let waiting = &self.buffer[self.start..];
        let (prefix, length) = prefix_varint(waiting)?;
        let whole = prefix.checked_add(usize::try_from(length).ok()?)?;
        let bytes = waiting.get(..whole)?.to_vec();
        self.start += whole;
        // A frame of length 0 has no type byte; the receiver will say so.
        let kind = FrameKind(bytes.get(prefix).map_or(u8::MAX, |type_byte| type_byte >> 3));
        Some(Frame { kind, bytes })
    }

    /// Whether what waits can never become a frame, so that it is no use to collect it.
    pub(super) fn is_hopeless(&self) -> bool {
        let waiting = &self.buffer[self.start..];
        prefix_varint(waiting).is_some_and(|(_, length)| length > LARGEST_FRAME)
    }

    /// What waits for the rest of its frame.
    pub(super) fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.buffer.split_off(self.start);
        self.buffer.clear();
        self.start = 0;
        rest
    }
}

/// Size and value of the varint that the bytes begin with; the leading ones of the first byte say
/// how many bytes follow it, big-endian.
fn prefix_varint(bytes: &[u8]) -> Option<(usize, u64)> {
    let first = *bytes.first()?;
    let following = first.leading_ones() as usize;
    let own_bits = u64::from(first) & (0x7f >> following);
    let rest = bytes.get(1..=following)?;
    Some((1 + following, rest.iter().fold(own_bits, |value, &byte| value << 8 | u64::from(byte))))
}

/// Far beyond what the protocol allows; a larger length is garbage that a test sends on purpose.
const LARGEST_FRAME: u64 = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_read_by_the_leading_ones_of_their_first_byte() {
        assert_eq!(prefix_varint(&[0x7f]), Some((1, 127)));
        assert_eq!(prefix_varint(&[0x80, 0x80]), Some((2, 128)));
        assert_eq!(prefix_varint(&[0xbf, 0xff]), Some((2, (1 << 14) - 1)));
        assert_eq!(prefix_varint(&[0xc0, 0x40, 0x00, 9]), Some((3, 1 << 14)));
        assert_eq!(prefix_varint(&[0xfe, 1, 0, 0, 0, 0, 0, 0]), Some((8, 1 << 48)));
        assert_eq!(prefix_varint(&[0xff; 9]), Some((9, u64::MAX)));
        assert_eq!(prefix_varint(&[0x80]), None);
        assert_eq!(prefix_varint(&[]), None);
    }

    #[test]
    fn frames_are_found_wherever_the_reads_end() {
        let stream = [&[2, 6 << 3, 1][..], &[1, 4 << 3], &[0x80, 3, 7 << 3 | 1, 5, 5], &[0]];
        let bytes = stream.concat();
        for step in 1..bytes.len() {
            let mut splitter = Splitter::default();
            let mut found = Vec::new();
            for part in bytes.chunks(step) {
                splitter.buffer().extend_from_slice(part);
                while let Some(frame) = splitter.next() {
                    found.push((frame.kind, frame.bytes));
                }
            }
            let kinds: Vec<FrameKind> = found.iter().map(|(kind, _)| *kind).collect();
            let unknown = FrameKind(31);
            assert_eq!(kinds[..3], [FrameKind::CALL, FrameKind::PING, FrameKind::REPLY]);
            assert_ne!(kinds[3], unknown);
            assert!(found.iter().map(|(_, bytes)| &bytes[..]).eq(stream));
        }
    }

    #[test]
    fn a_length_without_end_is_hopeless_and_can_be_taken_raw() {
        let mut splitter = Splitter::default();
        splitter.buffer().extend_from_slice(&[0xff; 12]);
        assert!(splitter.next().is_none() && splitter.is_hopeless());
        assert_eq!(splitter.take_rest(), [0xff; 12]);
        assert!(!splitter.is_hopeless());
    }
}
