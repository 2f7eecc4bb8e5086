//! Frames to bytes: each function appends one whole frame to a buffer.

use super::{
    ACK_DELAY_UNIT_US, Back, BoundResult, Call, CloseCode, DEADLINE_UNIT_MS, Hello, Kind, Lookup,
    MAGIC, MAX_FRAME, Part, Ranges, ReplyStatus, VERSION, Verdict, Welcome,
};
use crate::id::{Handle, Seq};
use crate::wire::varint;

/// Appends CALL with its arguments.
#[inline]
pub(crate) fn put_call(call: &Call<'_>, into: &mut Vec<u8>) {
    let head = call_head(call);
    head.put(call.arguments.len(), into);
    into.extend_from_slice(call.arguments);
}

/// Type and header of CALL without the arguments: the start of a message that travels in fragments.
pub(crate) fn call_message_head(call: &Call<'_>) -> Vec<u8> {
    let head = call_head(call);
    head.into_bytes()
}

/// Appends REPLY with its body.
#[inline]
pub(crate) fn put_reply(seq: Seq, status: ReplyStatus, body: &[u8], into: &mut Vec<u8>) {
    let head = reply_head(seq, status);
    head.put(body.len(), into);
    into.extend_from_slice(body);
}

/// Type and header of REPLY without the body.
pub(crate) fn reply_message_head(seq: Seq, status: ReplyStatus) -> Vec<u8> {
    let head = reply_head(seq, status);
    head.into_bytes()
}

/// Appends length, type and header of FRAGMENT; `size` bytes of the message must follow.
pub(crate) fn put_fragment_head(seq: Seq, part: Part, size: usize, into: &mut Vec<u8>) {
    let flags = match part {
        Part::First { .. } => 0,
        Part::Middle => 1,
        Part::Last => 2,
        Part::Abort => 3,
    };
    let mut head = Head::of(kind(Kind::Fragment, flags));
    head.number(seq);
    if let Part::First { total } = part {
        head.number(total);
    }
    head.put(size, into);
}

/// Appends HELLO.
pub(crate) fn put_hello(hello: &Hello, into: &mut Vec<u8>) {
    framed(kind(Kind::Hello, u8::from(hello.resume.is_some())), into, |body| {
        body.extend_from_slice(&MAGIC);
        body.push(VERSION);
        body.extend_from_slice(hello.client.0.as_bytes());
        body.extend_from_slice(&hello.nonce.to_be_bytes());
        varint::put(hello.link, body);
        varint::put(hello.max_message, body);
        if let Some(resume) = &hello.resume {
            body.extend_from_slice(&resume.session.0.to_be_bytes());
            varint::put(resume.floor, body);
            put_ranges(resume.floor, &resume.ranges, body);
        }
    });
}

/// Appends WELCOME.
pub(crate) fn put_welcome(welcome: &Welcome, into: &mut Vec<u8>) {
    framed(kind(Kind::Welcome, u8::from(welcome.resumed)), into, |body| {
        body.extend_from_slice(&welcome.nonce.to_be_bytes());
        body.extend_from_slice(welcome.server.0.as_bytes());
        body.extend_from_slice(&welcome.boot.0.to_be_bytes());
        body.extend_from_slice(&welcome.session.0.to_be_bytes());
        varint::put(welcome.window, body);
        varint::put(welcome.request_bytes, body);
        varint::put(welcome.reply_bytes, body);
        varint::put(welcome.max_message, body);
        put_ranges(0, &welcome.known, body);
    });
}

/// Appends CLOSE.
pub(crate) fn put_close(code: CloseCode, text: &str, into: &mut Vec<u8>) {
    framed(kind(Kind::Close, 0), into, |body| {
        body.push(code as u8);
        body.extend_from_slice(text.as_bytes());
    });
}

/// Appends BACK.
pub(crate) fn put_back(back: &Back<'_>, into: &mut Vec<u8>) {
    let mut head = Head::of(kind(Kind::Back, u8::from(back.end)));
    for number in [back.stream, back.offset, back.read] {
        head.number(number);
    }
    head.put(back.bytes.len(), into);
    into.extend_from_slice(back.bytes);
}

/// Appends GOAWAY.
pub(crate) fn put_go_away(known: &Ranges, into: &mut Vec<u8>) {
    framed(kind(Kind::GoAway, 0), into, |body| put_ranges(0, known, body));
}

/// Appends CALL_ACK.
pub(crate) fn put_call_ack(floor: Seq, ranges: &Ranges, into: &mut Vec<u8>) {
    framed(kind(Kind::CallAck, 0), into, |body| {
        varint::put(floor, body);
        put_ranges(floor, ranges, body);
    });
}

/// Appends PING, PONG, PATH_CHALLENGE or PATH_RESPONSE.
pub(crate) fn put_nonce(frame: Kind, nonce: u64, into: &mut Vec<u8>) {
    framed(kind(frame, 0), into, |body| body.extend_from_slice(&nonce.to_be_bytes()));
}

/// Appends RESOLVE, EXECUTING or STALE.
pub(crate) fn put_seq(frame: Kind, seq: Seq, into: &mut Vec<u8>) {
    framed(kind(frame, 0), into, |body| varint::put(seq, body));
}

/// Appends NEED_ACK.
pub(crate) fn put_empty(frame: Kind, into: &mut Vec<u8>) {
    framed(kind(frame, 0), into, |_| {});
}

/// Appends LOOKUP.
pub(crate) fn put_lookup(lookup: &Lookup<'_>, into: &mut Vec<u8>) {
    framed(kind(Kind::Lookup, 0), into, |body| {
        varint::put(u64::from(lookup.handle), body);
        put_text(lookup.object, body);
        put_text(lookup.interface, body);
        varint::put(lookup.methods.len() as u64, body);
        for (id, semantics) in &lookup.methods {
            body.extend_from_slice(&id.0.to_be_bytes());
            body.push(semantics.to_wire());
        }
    });
}

/// Appends BOUND.
pub(crate) fn put_bound(handle: Handle, result: &BoundResult<'_>, into: &mut Vec<u8>) {
    let failed = u8::from(matches!(result, BoundResult::Failed { .. }));
    framed(kind(Kind::Bound, failed), into, |body| {
        varint::put(u64::from(handle), body);
        match result {
            BoundResult::Object { verdicts, methods } => {
                varint::put(verdicts.len() as u64, body);
                body.extend(verdicts.iter().map(|verdict| match verdict {
                    Verdict::Callable => 0,
                    Verdict::Unknown => 1,
                    Verdict::Weaker => 2,
                }));
                body.extend_from_slice(methods.as_bytes());
            }
            BoundResult::Failed { code, text } => {
                body.push(*code as u8);
                body.extend_from_slice(text.as_bytes());
            }
        }
    });
}

/// Appends ACK of `ranges`: half-open, highest first, neither empty nor adjacent, from 1 to
/// [`MAX_ACK_RANGES`](super::MAX_ACK_RANGES) of them. Nothing is appended for none.
pub(crate) fn put_ack(delay_us: u64, ranges: &[(u64, u64)], into: &mut Vec<u8>) {
    let Some((&(first, next), further)) = ranges.split_first() else { return };
    let mut head = Head::of(kind(Kind::Ack, 0));
    for number in [next - 1, delay_us / ACK_DELAY_UNIT_US, next - 1 - first, further.len() as u64] {
        head.number(number);
    }
    let above = ranges.iter().map(|&(start, _)| start);
    let distances =
        further.iter().zip(above).map(|(&(start, end), above)| [above - end, end - start]);
    let lengths = distances.clone().flatten().map(varint::length);
    head.put(lengths.sum(), into);
    for number in distances.flatten() {
        varint::put(number, into);
    }
}

/// What stands before the bytes of a PIECE.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PieceHead {
    pub(crate) message: u64,
    pub(crate) seq: Seq,
    pub(crate) offset: u64,
    pub(crate) total: u64,
    pub(crate) once: bool,
}

/// Appends length, type and header of PIECE; `size` bytes of the message must follow.
pub(crate) fn put_piece_head(piece: &PieceHead, size: usize, into: &mut Vec<u8>) {
    let mut head = Head::of(kind(Kind::Piece, u8::from(piece.once) << 1));
    for number in [piece.message, piece.seq, piece.offset, piece.total] {
        head.number(number);
    }
    head.put(size, into);
}

/// Most bytes of a message that PIECE can carry in `space` bytes with its own length and header; 0 if not one.
pub(crate) fn piece_room(piece: &PieceHead, space: usize) -> usize {
    let PieceHead { message, seq, offset, total, .. } = *piece;
    let head = 1 + [message, seq, offset, total].map(varint::length).iter().sum::<usize>();
    // A frame's own length may take one byte less once the bytes that the length takes are left out.
    let most = space.min(MAX_FRAME).saturating_sub(1);
    let frame = space.min(MAX_FRAME).saturating_sub(varint::length(most as u64));
    frame.saturating_sub(head)
}

/// Appends PIECE without bytes, which says that the rest of the message will not come.
pub(crate) fn put_piece_abort(message: u64, seq: Seq, into: &mut Vec<u8>) {
    framed(kind(Kind::Piece, 1), into, |body| {
        varint::put(message, body);
        varint::put(seq, body);
    });
}

#[inline]
fn call_head(call: &Call<'_>) -> Head {
    let back = call.seq - call.floor;
    let units = call.deadline_ms.map(|ms| ms.div_ceil(DEADLINE_UNIT_MS));
    let flags =
        u8::from(back > 0) | u8::from(units.is_some()) << 1 | u8::from(call.attempt > 1) << 2;
    let mut head = Head::of(kind(if call.passes { Kind::Pass } else { Kind::Call }, flags));
    head.number(call.seq);
    if back > 0 {
        head.number(back);
    }
    head.pair(call.handle, call.method);
    if let Some(units) = units {
        head.number(units);
    }
    if call.attempt > 1 {
        head.number(u64::from(call.attempt));
    }
    head
}

#[inline]
fn reply_head(seq: Seq, status: ReplyStatus) -> Head {
    let flags = match status {
        ReplyStatus::Ok => 0,
        ReplyStatus::MethodError => 1,
        ReplyStatus::Failed(_) => 2,
        ReplyStatus::Fenced => 3,
        ReplyStatus::Passing => 4,
        ReplyStatus::PassingError => 5,
    };
    let mut head = Head::of(kind(Kind::Reply, flags));
    head.number(seq);
    if let ReplyStatus::Failed(code) = status {
        head.byte(code as u8);
    }
    head
}

/// Length, type, and the body that `fill` writes.
fn framed(frame_type: u8, into: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::with_capacity(64);
    fill(&mut body);
    varint::put(body.len() as u64 + 1, into);
    into.push(frame_type);
    into.extend_from_slice(&body);
}

/// Count, then for each range its distance from the end of the one before and its length.
fn put_ranges(base: Seq, ranges: &Ranges, body: &mut Vec<u8>) {
    varint::put(ranges.len() as u64, body);
    let mut end = base;
    for &(start, next) in ranges {
        varint::put(start - end, body);
        varint::put(next - start, body);
        end = next;
    }
}

fn put_text(text: &str, body: &mut Vec<u8>) {
    varint::put(text.len() as u64, body);
    body.extend_from_slice(text.as_bytes());
}

#[inline]
const fn kind(kind: Kind, flags: u8) -> u8 {
    (kind as u8) << 3 | flags
}

/// What stands before the bytes of a frame, whose length must be known before its first byte is written.
///
/// It is put together in registers: what is written to memory byte by byte and copied at once makes a processor wait.
struct Head {
    /// All of it, the first byte lowest, if `long` is empty.
    short: u128,
    length: usize,
    /// All of it, if it is longer than [`SHORT`].
    long: Vec<u8>,
}

/// Bytes that a header can have beside the length of a frame, in 16 bytes.
const SHORT: usize = 16 - LENGTH;
/// Bytes that the length of a frame takes at most.
const LENGTH: usize = varint::length(MAX_FRAME as u64);

impl Head {
    /// The header of a frame of this type.
    #[inline]
    fn of(frame_type: u8) -> Head {
        Head { short: u128::from(frame_type), length: 1, long: Vec::new() }
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.push(u64::from(byte), 1);
    }

    #[inline(always)]
    fn number(&mut self, value: u64) {
        match varint::word(value) {
            Some((word, bytes)) => self.push(word, bytes),
            None => {
                self.byte(0xff);
                self.push(value.swap_bytes(), 8);
            }
        }
    }

    /// Two numbers that are small in most calls.
    #[inline]
    fn pair(&mut self, first: u32, second: u32) {
        if first | second < 0x80 {
            self.push(u64::from(first | second << 8), 2);
        } else {
            self.number(u64::from(first));
            self.number(u64::from(second));
        }
    }

    /// Appends so many bytes of `word`, the lowest first.
    #[inline(always)]
    fn push(&mut self, word: u64, bytes: usize) {
        if self.length + bytes > SHORT {
            return self.push_long(word, bytes);
        }
        self.short |= u128::from(word) << (8 * self.length);
        self.length += bytes;
    }

    fn push_long(&mut self, word: u64, bytes: usize) {
        if self.long.is_empty() {
            self.long.extend_from_slice(&self.short.to_le_bytes()[..self.length]);
        }
        self.long.extend_from_slice(&word.to_le_bytes()[..bytes]);
        self.length += bytes;
    }

    /// Appends the length of a frame with so many bytes behind the header, and the header.
    #[inline]
    fn put(self, body: usize, into: &mut Vec<u8>) {
        let length = (self.length + body) as u64;
        match varint::word(length) {
            Some((word, bytes)) if self.long.is_empty() && bytes <= LENGTH => {
                let all = self.short << (8 * bytes) | u128::from(word);
                let end = into.len() + bytes + self.length;
                // A copy of a fixed size is one move.
                into.extend_from_slice(&all.to_le_bytes());
                into.truncate(end);
            }
            _ => {
                varint::put(length, into);
                into.extend_from_slice(&self.into_bytes());
            }
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        if self.long.is_empty() {
            self.short.to_le_bytes()[..self.length].to_vec()
        } else {
            self.long
        }
    }
}
