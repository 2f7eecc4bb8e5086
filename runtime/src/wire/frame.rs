//! The frames of a stream or of datagrams: what they contain, and their bytes.
//!
//! `length | type | body`: the length is a varint and counts type and body; the type is five bits of kind and three of
//! flags. Decoding borrows from the received bytes, allocates nothing by a length that a peer declares, and refuses
//! what it does not know. `docs/protocol.md` has every byte.

mod decode;
mod encode;

pub(crate) use decode::{
    call_of, decode, decode_call, decode_reply, first_frame, floor_of, frame_length,
};
pub(crate) use encode::{PieceHead, piece_room, put_ack, put_piece_abort, put_piece_head};
pub(crate) use encode::{
    call_message_head, put_back, put_bound, put_call, put_call_ack, put_close, put_empty,
    put_fragment_head, put_go_away, put_hello, put_lookup, put_nonce, put_reply, put_seq,
    put_welcome, reply_message_head,
};

use crate::error::FailureCode;
use crate::id::{Boot, Handle, MethodId, NodeId, Seq, SessionId};
use crate::semantics::Semantics;

/// First bytes of every connection, in HELLO.
pub(crate) const MAGIC: [u8; 4] = *b"farc";
/// The version of the protocol that is spoken here.
pub(crate) const VERSION: u8 = 1;
/// Largest frame on a stream, length not counted, in bytes.
pub(crate) const MAX_FRAME: usize = 128 << 10;
/// Messages over this many bytes travel in fragments, of which none is larger, so that small ones pass between.
pub(crate) const FRAGMENT: usize = 64 << 10;
/// Longest name of an object or interface, in bytes.
pub(crate) const MAX_NAME: usize = 255;
/// Most methods of an interface.
pub(crate) const MAX_METHODS: usize = 1024;
/// A deadline travels in units of this many milliseconds, rounded up, so that 30 seconds take two bytes.
pub(crate) const DEADLINE_UNIT_MS: u64 = 4;
/// The delay of an acknowledgement travels in units of this many microseconds, rounded down.
pub(crate) const ACK_DELAY_UNIT_US: u64 = 8;
/// Most ranges of numbers in one ACK.
pub(crate) const MAX_ACK_RANGES: usize = 32;

/// Sequence numbers as half-open ranges, ascending, neither empty nor adjacent.
pub(crate) type Ranges = Vec<(Seq, Seq)>;

/// The kinds of frames, as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Hello = 0,
    Welcome = 1,
    Close = 2,
    GoAway = 3,
    Ping = 4,
    Pong = 5,
    Call = 6,
    Reply = 7,
    Fragment = 8,
    CallAck = 9,
    Resolve = 10,
    Executing = 11,
    Stale = 12,
    NeedAck = 13,
    Lookup = 14,
    Bound = 15,
    Ack = 16,
    Piece = 17,
    PathChallenge = 18,
    PathResponse = 19,
    Back = 20,
    Pass = 21,
}

/// One frame, decoded.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// Client opens a link: to a new session, or to one that it has.
    Hello(Hello),
    /// Server answers HELLO.
    Welcome(Welcome),
    /// The sender ends the connection, and says why.
    Close { code: CloseCode, text: &'a str },
    /// The server begins nothing new; what is not in `known` never runs.
    GoAway { known: Ranges },
    /// Are you there?
    Ping(u64),
    /// Yes.
    Pong(u64),
    /// Run a method.
    Call(Call<'a>),
    /// What came of a call.
    Reply(Reply<'a>),
    /// A piece of a message that is too long for one frame.
    Fragment(Fragment<'a>),
    /// Calls that are finished at the client.
    CallAck { floor: Seq, ranges: Ranges },
    /// Did it run? If not, it never may.
    Resolve { seq: Seq },
    /// Answer to RESOLVE: it runs now.
    Executing { seq: Seq },
    /// The client itself said that this call is finished.
    Stale { seq: Seq },
    /// The server asks for CALL_ACK.
    NeedAck,
    /// From now on `handle` means this object.
    Lookup(Lookup<'a>),
    /// Answer to LOOKUP.
    Bound { handle: Handle, result: BoundResult<'a> },
    /// Datagrams that came; in datagrams only, as all below.
    Ack(Ack),
    /// A piece of a message that is too long for one datagram.
    Piece(Piece<'a>),
    /// The rest of a message will not come.
    PieceAbort { message: u64, seq: Seq },
    /// Does the client receive at this address?
    PathChallenge(u64),
    /// Yes.
    PathResponse(u64),
    /// Bytes of the calls back.
    Back(Back<'a>),
}

/// Body of HELLO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) client: NodeId,
    /// Drawn for this link; WELCOME repeats it.
    pub(crate) nonce: u64,
    /// Rises with each link of the client to this server.
    pub(crate) link: u64,
    /// Largest message that the client accepts, in bytes.
    pub(crate) max_message: u64,
    pub(crate) resume: Option<Resume>,
}

/// Which session to go on with, and what is finished in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resume {
    pub(crate) session: SessionId,
    pub(crate) floor: Seq,
    pub(crate) ranges: Ranges,
}

/// Body of WELCOME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) nonce: u64,
    pub(crate) server: NodeId,
    pub(crate) boot: Boot,
    pub(crate) session: SessionId,
    /// Whether this is the session that HELLO asked for.
    pub(crate) resumed: bool,
    /// Calls that may be in flight or unacknowledged.
    pub(crate) window: u64,
    /// Bytes of unanswered requests that the server accepts.
    pub(crate) request_bytes: u64,
    /// Bytes of unacknowledged replies that the server keeps.
    pub(crate) reply_bytes: u64,
    /// Largest message that the server accepts, in bytes.
    pub(crate) max_message: u64,
    /// Unfinished calls that the server has.
    pub(crate) known: Ranges,
}

/// Header and arguments of CALL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call<'a> {
    pub(crate) seq: Seq,
    /// All calls below are finished at the client; at most `seq`.
    pub(crate) floor: Seq,
    pub(crate) handle: Handle,
    /// Position in the list that LOOKUP carried.
    pub(crate) method: u32,
    /// Time left in milliseconds.
    pub(crate) deadline_ms: Option<u64>,
    /// 1 for the first send, counted up for each further one.
    pub(crate) attempt: u32,
    /// References stand behind the arguments: it travels as PASS.
    pub(crate) passes: bool,
    pub(crate) arguments: &'a [u8],
}

/// Header and payload of REPLY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply<'a> {
    pub(crate) seq: Seq,
    pub(crate) status: ReplyStatus,
    pub(crate) body: &'a [u8],
}

/// How a call ended, as REPLY says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ReplyStatus {
    /// The body is the encoded result.
    Ok,
    /// The body is the method's own error, encoded.
    MethodError,
    /// The body is a text.
    Failed(FailureCode),
    /// RESOLVE came before the call: it never runs.
    Fenced,
    /// The body is the encoded result, with references behind it.
    Passing,
    /// The body is the method's own error, encoded, with references behind it.
    PassingError,
}

/// Bytes of a stream inside the link, on which the server is the client: its calls back, and their replies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Back<'a> {
    /// Counts the streams of a link, from 1; a higher one replaces a lower.
    pub(crate) stream: u64,
    /// Where the bytes stand in their direction.
    pub(crate) offset: u64,
    /// How many bytes of the other direction were read here.
    pub(crate) read: u64,
    /// Nothing comes behind these bytes, and nothing is read any more.
    pub(crate) end: bool,
    pub(crate) bytes: &'a [u8],
}

/// A piece of a CALL or REPLY; pieces of one message come in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment<'a> {
    pub(crate) seq: Seq,
    pub(crate) part: Part,
    pub(crate) bytes: &'a [u8],
}

/// Which piece a fragment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The first, of a message with this many bytes.
    First { total: u64 },
    /// One between.
    Middle,
    /// The last.
    Last,
    /// The rest will not come.
    Abort,
}

/// Body of ACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ack {
    /// How long ago the highest number came, a multiple of [`ACK_DELAY_UNIT_US`].
    pub(crate) delay_us: u64,
    /// The highest numbers that are acknowledged, half-open.
    pub(crate) highest: (u64, u64),
    /// All others, highest first; ranges are neither empty nor adjacent, at most [`MAX_ACK_RANGES`] with the highest. None
    /// as long as nothing is lost: then nothing is allocated.
    pub(crate) further: Vec<(u64, u64)>,
}

impl Ack {
    /// The highest number that came.
    #[inline]
    pub(crate) fn largest(&self) -> u64 {
        self.highest.1 - 1
    }

    /// All numbers that are acknowledged.
    #[inline]
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        std::iter::once(self.highest).chain(self.further.iter().copied())
    }
}

/// Bytes of a message, from `offset` on; pieces come in any order and perhaps again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// Counts the messages of one direction of a link, from 0.
    pub(crate) message: u64,
    /// The call that the message belongs to; 0 if it belongs to none.
    pub(crate) seq: Seq,
    pub(crate) offset: u64,
    /// Bytes of the whole message, type and header included.
    pub(crate) total: u64,
    /// What is lost of the message is not sent again.
    pub(crate) once: bool,
    pub(crate) bytes: &'a [u8],
}

impl Piece<'_> {
    /// What stands before its bytes.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn head(&self) -> PieceHead {
        let Piece { message, seq, offset, total, once, .. } = *self;
        PieceHead { message, seq, offset, total, once }
    }
}

/// Body of LOOKUP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lookup<'a> {
    pub(crate) handle: Handle,
    pub(crate) object: &'a str,
    pub(crate) interface: &'a str,
    /// The client's methods in the client's order, and what it expects of each.
    pub(crate) methods: Vec<(MethodId, Semantics)>,
}

/// What the server says of a looked-up object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BoundResult<'a> {
    /// It is there; a verdict for each method, and the server's own methods if one is not callable.
    Object { verdicts: Vec<Verdict>, methods: &'a str },
    /// It is not.
    Failed { code: FailureCode, text: &'a str },
}

/// Whether a method of the client's list can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It can.
    Callable,
    /// The server's object has no such method.
    Unknown,
    /// The server promises less than the client expects, or one of both exactly once and the other does not.
    Weaker,
}

/// Why a connection was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseCode {
    /// All is well; nothing more will come.
    Done = 0,
    /// The versions do not match.
    Version = 1,
    /// The other side broke the protocol.
    Violation = 2,
    /// A limit of the sender is reached.
    Busy = 3,
    /// A newer link of the same session took over.
    Replaced = 4,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// The frame ends before its content does.
    #[error("a frame is shorter than its content")]
    Short,
    /// Bytes are left over.
    #[error("a frame is longer than its content")]
    Long,
    /// The length is over the limit.
    #[error("a frame of {0} bytes is over the limit")]
    Oversized(u64),
    /// The kind or its flags are not known.
    #[error("a frame of unknown type {0:#04x}")]
    UnknownType(u8),
    /// A number is too large, out of order, or longer than it needs to be.
    #[error("a number out of range in a frame of type {0:#04x}")]
    Number(u8),
    /// A text is not UTF-8 or too long.
    #[error("a text that is not UTF-8 or too long in a frame of type {0:#04x}")]
    Text(u8),
    /// HELLO does not begin as it must.
    #[error("the peer does not speak farcall")]
    Magic,
    /// HELLO has another version.
    #[error("the peer speaks version {0} of the protocol, not {VERSION}")]
    Version(u8),
}

impl CloseCode {
    fn from_wire(byte: u8) -> Option<CloseCode> {
        [
            CloseCode::Done,
            CloseCode::Version,
            CloseCode::Violation,
            CloseCode::Busy,
            CloseCode::Replaced,
        ]
        .into_iter()
        .find(|code| *code as u8 == byte)
    }
}

#[cfg(test)]
mod tests;
