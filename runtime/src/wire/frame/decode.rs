//! Bytes to frames. Every byte is a peer's: nothing here panics, and nothing is allocated by a declared length.

use super::{
    ACK_DELAY_UNIT_US, Ack, Back, BoundResult, Call, CloseCode, DEADLINE_UNIT_MS, Fragment, Frame,
    FrameError, Hello, Kind, Lookup, MAGIC, MAX_ACK_RANGES, MAX_FRAME, MAX_METHODS, MAX_NAME, Part,
    Piece, Ranges, Reply, ReplyStatus, Resume, VERSION, Verdict, Welcome,
};
use crate::error::FailureCode;
use crate::id::{Boot, MethodId, NodeId, Seq, SessionId};
use crate::semantics::Semantics;
use crate::wire::varint;

/// Length of the frame at the start of `bytes`, and how many bytes its length field takes; `None` if that is not
/// complete yet. The frame itself may still be incomplete.
///
/// # Errors
/// If the length is malformed, zero, or over [`MAX_FRAME`].
#[inline]
pub(crate) fn frame_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    match varint::get(bytes) {
        Ok(Some((0, _))) => Err(FrameError::Short),
        Ok(Some((length, used))) => match usize::try_from(length) {
            Ok(length) if length <= MAX_FRAME => Ok(Some((length, used))),
            _ => Err(FrameError::Oversized(length)),
        },
        Ok(None) => Ok(None),
        Err(varint::NotShortest) => Err(FrameError::Number(0xff)),
    }
}

/// The frame at the start of `bytes` as type and body, and how many bytes it takes with its length; `None` if it is not
/// whole.
#[inline]
pub(crate) fn first_frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (length, head) = frame_length(bytes).ok().flatten()?;
    Some((bytes.get(head..head + length)?, head + length))
}

/// One frame (or an assembled message) without its length: type and body.
///
/// # Errors
/// If it is not exactly one frame of a known type with valid content.
#[inline]
pub(crate) fn decode(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let Some((&frame_type, rest)) = bytes.split_first() else { return Err(FrameError::Short) };
    let mut body = Body { frame_type, rest };
    let flags = frame_type & 7;
    const CALL: u8 = Kind::Call as u8;
    const REPLY: u8 = Kind::Reply as u8;
    const PASS: u8 = Kind::Pass as u8;
    match frame_type >> 3 {
        CALL => call(flags, body).map(Frame::Call),
        REPLY => reply(flags, body).map(Frame::Reply),
        PASS => call(flags, body).map(|call| Frame::Call(Call { passes: true, ..call })),
        _ => {
            let frame = control(flags, &mut body)?;
            if body.rest.is_empty() { Ok(frame) } else { Err(FrameError::Long) }
        }
    }
}

/// Which call a frame (type and body) names, if it is of a kind that names one and is sent again when it is lost.
#[inline]
pub(crate) fn call_of(frame: &[u8]) -> Option<(Kind, Seq)> {
    let (&frame_type, rest) = frame.split_first()?;
    let kind = [Kind::Call, Kind::Reply, Kind::Resolve, Kind::Executing, Kind::Stale, Kind::Pass]
        .into_iter()
        .find(|kind| *kind as u8 == frame_type >> 3)?;
    let kind = if kind == Kind::Pass { Kind::Call } else { kind };
    let (seq, _) = varint::get(rest).ok()??;
    Some((kind, seq))
}

/// The floor that a CALL carries, if the frame (type and body) is one.
#[inline]
pub(crate) fn floor_of(frame: &[u8]) -> Option<Seq> {
    let (&frame_type, rest) = frame.split_first()?;
    let is_call = [Kind::Call, Kind::Pass].into_iter().any(|kind| kind as u8 == frame_type >> 3);
    let mut body = Body { frame_type, rest };
    is_call.then(|| seq_and_floor(frame_type & 7, &mut body).ok())?.map(|(_, floor)| floor)
}

/// The CALL that this frame is, if it is one: what [`decode`] makes of it, without the way through [`Frame`].
#[inline]
pub(crate) fn decode_call(bytes: &[u8]) -> Option<Result<Call<'_>, FrameError>> {
    let (&frame_type, rest) = bytes.split_first()?;
    (frame_type >> 3 == Kind::Call as u8).then(|| call(frame_type & 7, Body { frame_type, rest }))
}

/// The REPLY that this frame is, if it is one, as [`decode_call`].
#[inline]
pub(crate) fn decode_reply(bytes: &[u8]) -> Option<Result<Reply<'_>, FrameError>> {
    let (&frame_type, rest) = bytes.split_first()?;
    (frame_type >> 3 == Kind::Reply as u8).then(|| reply(frame_type & 7, Body { frame_type, rest }))
}

#[inline]
fn call(flags: u8, mut body: Body<'_>) -> Result<Call<'_>, FrameError> {
    let (seq, floor) = seq_and_floor(flags, &mut body)?;
    let handle = body.small()?;
    let method = body.small()?;
    let deadline_ms = match flags & 2 {
        0 => None,
        _ => Some(body.number()?.saturating_mul(DEADLINE_UNIT_MS)),
    };
    let attempt = if flags & 4 != 0 { body.small()? } else { 1 };
    if flags & 4 != 0 && attempt < 2 {
        return Err(FrameError::Number(body.frame_type));
    }
    let arguments = body.rest;
    Ok(Call { seq, floor, handle, method, deadline_ms, attempt, passes: false, arguments })
}

#[inline]
fn seq_and_floor(flags: u8, body: &mut Body<'_>) -> Result<(Seq, Seq), FrameError> {
    let seq = body.number()?;
    let back = if flags & 1 != 0 { body.positive()? } else { 0 };
    // Floors and sequence numbers start at 1.
    if seq == 0 || back >= seq {
        Err(FrameError::Number(body.frame_type))
    } else {
        Ok((seq, seq - back))
    }
}

#[inline]
fn reply(flags: u8, mut body: Body<'_>) -> Result<Reply<'_>, FrameError> {
    let seq = body.number()?;
    let status = match flags {
        0 => ReplyStatus::Ok,
        1 => ReplyStatus::MethodError,
        2 => ReplyStatus::Failed(body.failure()?),
        3 => ReplyStatus::Fenced,
        4 => ReplyStatus::Passing,
        5 => ReplyStatus::PassingError,
        _ => return Err(FrameError::UnknownType(body.frame_type)),
    };
    Ok(Reply { seq, status, body: body.rest })
}

fn control<'a>(flags: u8, body: &mut Body<'a>) -> Result<Frame<'a>, FrameError> {
    let unknown = Err(FrameError::UnknownType(body.frame_type));
    let kind = body.frame_type >> 3;
    let is = |expected: Kind| kind == expected as u8;
    Ok(match flags {
        0 | 1 if is(Kind::Hello) => Frame::Hello(hello(flags == 1, body)?),
        0 | 1 if is(Kind::Welcome) => Frame::Welcome(welcome(flags == 1, body)?),
        0..=3 if is(Kind::Fragment) => Frame::Fragment(fragment(flags, body)?),
        0 | 1 if is(Kind::Bound) => bound(flags == 1, body)?,
        0 if is(Kind::Close) => {
            let code = CloseCode::from_wire(body.byte()?);
            let code = code.ok_or(FrameError::Number(body.frame_type))?;
            Frame::Close { code, text: body.last_text()? }
        }
        0 if is(Kind::GoAway) => Frame::GoAway { known: body.ranges(0)? },
        0 if is(Kind::Ping) => Frame::Ping(body.fixed()?),
        0 if is(Kind::Pong) => Frame::Pong(body.fixed()?),
        0 if is(Kind::CallAck) => {
            let floor = body.positive()?;
            Frame::CallAck { floor, ranges: body.ranges(floor)? }
        }
        0 if is(Kind::Resolve) => Frame::Resolve { seq: body.positive()? },
        0 if is(Kind::Executing) => Frame::Executing { seq: body.positive()? },
        0 if is(Kind::Stale) => Frame::Stale { seq: body.positive()? },
        0 if is(Kind::NeedAck) => Frame::NeedAck,
        0 if is(Kind::Lookup) => Frame::Lookup(lookup(body)?),
        0 if is(Kind::Ack) => Frame::Ack(ack(body)?),
        0 if is(Kind::Piece) => Frame::Piece(piece(body, false)?),
        2 if is(Kind::Piece) => Frame::Piece(piece(body, true)?),
        1 if is(Kind::Piece) => Frame::PieceAbort { message: body.number()?, seq: body.number()? },
        0 if is(Kind::PathChallenge) => Frame::PathChallenge(body.fixed()?),
        0 if is(Kind::PathResponse) => Frame::PathResponse(body.fixed()?),
        0 | 1 if is(Kind::Back) => Frame::Back(back(flags == 1, body)?),
        _ => return unknown,
    })
}

fn hello(resumes: bool, body: &mut Body<'_>) -> Result<Hello, FrameError> {
    if body.array::<4>().ok() != Some(MAGIC) {
        return Err(FrameError::Magic);
    }
    let version = body.byte()?;
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let client = NodeId(uuid::Uuid::from_bytes(body.array()?));
    let nonce = body.fixed()?;
    let link = body.number()?;
    let max_message = body.number()?;
    let resume = if resumes {
        let session = SessionId(body.fixed()?);
        let floor = body.positive()?;
        Some(Resume { session, floor, ranges: body.ranges(floor)? })
    } else {
        None
    };
    Ok(Hello { client, nonce, link, max_message, resume })
}

fn welcome(resumed: bool, body: &mut Body<'_>) -> Result<Welcome, FrameError> {
    Ok(Welcome {
        nonce: body.fixed()?,
        server: NodeId(uuid::Uuid::from_bytes(body.array()?)),
        boot: Boot(body.fixed()?),
        session: SessionId(body.fixed()?),
        resumed,
        window: body.positive()?,
        request_bytes: body.number()?,
        reply_bytes: body.number()?,
        max_message: body.number()?,
        known: body.ranges(0)?,
    })
}

fn fragment<'a>(flags: u8, body: &mut Body<'a>) -> Result<Fragment<'a>, FrameError> {
    let seq = body.positive()?;
    let part = match flags {
        0 => Part::First { total: body.positive()? },
        1 => Part::Middle,
        2 => Part::Last,
        _ => Part::Abort,
    };
    let bytes = std::mem::take(&mut body.rest);
    if bytes.is_empty() == (part == Part::Abort) {
        Ok(Fragment { seq, part, bytes })
    } else {
        Err(FrameError::Number(body.frame_type))
    }
}

fn lookup<'a>(body: &mut Body<'a>) -> Result<Lookup<'a>, FrameError> {
    let handle = body.small()?;
    let object = body.text()?;
    let interface = body.text()?;
    let count = body.count(MAX_METHODS)?;
    let mut methods = Vec::new();
    for _ in 0..count {
        let id = MethodId(u32::from_be_bytes(body.array()?));
        let semantics = Semantics::from_wire(body.byte()?);
        methods.push((id, semantics.ok_or(FrameError::Number(body.frame_type))?));
    }
    Ok(Lookup { handle, object, interface, methods })
}

fn bound<'a>(failed: bool, body: &mut Body<'a>) -> Result<Frame<'a>, FrameError> {
    let handle = body.small()?;
    let result = if failed {
        BoundResult::Failed { code: body.failure()?, text: body.last_text()? }
    } else {
        let count = body.count(MAX_METHODS)?;
        let mut verdicts = Vec::new();
        for _ in 0..count {
            verdicts.push(match body.byte()? {
                0 => Verdict::Callable,
                1 => Verdict::Unknown,
                2 => Verdict::Weaker,
                _ => return Err(FrameError::Number(body.frame_type)),
            });
        }
        BoundResult::Object { verdicts, methods: body.last_text()? }
    };
    Ok(Frame::Bound { handle, result })
}

/// Ranges of numbers, from the highest down; none goes below 0.
fn ack(body: &mut Body<'_>) -> Result<Ack, FrameError> {
    let bad = FrameError::Number(body.frame_type);
    let largest = body.number()?;
    let delay_us = body.number()?.checked_mul(ACK_DELAY_UNIT_US).ok_or(bad)?;
    let mut start = largest.checked_sub(body.number()?).ok_or(bad)?;
    let count = body.count(MAX_ACK_RANGES - 1)?;
    let highest = (start, largest.checked_add(1).ok_or(bad)?);
    let mut further = Vec::with_capacity(count);
    for _ in 0..count {
        let end = start.checked_sub(body.positive()?).ok_or(bad)?;
        start = end.checked_sub(body.positive()?).ok_or(bad)?;
        further.push((start, end));
    }
    Ok(Ack { delay_us, highest, further })
}

fn piece<'a>(body: &mut Body<'a>, once: bool) -> Result<Piece<'a>, FrameError> {
    let (message, seq) = (body.number()?, body.number()?);
    let (offset, total) = (body.number()?, body.positive()?);
    match std::mem::take(&mut body.rest) {
        [] => Err(FrameError::Short),
        bytes => Ok(Piece { message, seq, offset, total, once, bytes }),
    }
}

fn back<'a>(end: bool, body: &mut Body<'a>) -> Result<Back<'a>, FrameError> {
    let (stream, offset, read) = (body.positive()?, body.number()?, body.number()?);
    let bytes = std::mem::take(&mut body.rest);
    Ok(Back { stream, offset, read, end, bytes })
}

/// What is left of a frame's body.
struct Body<'a> {
    frame_type: u8,
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    fn byte(&mut self) -> Result<u8, FrameError> {
        let (&byte, rest) = self.rest.split_first().ok_or(FrameError::Short)?;
        self.rest = rest;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(FrameError::Short)?;
        self.rest = rest;
        Ok(*array)
    }

    fn fixed(&mut self) -> Result<u64, FrameError> {
        self.array().map(u64::from_be_bytes)
    }

    #[inline]
    fn number(&mut self) -> Result<u64, FrameError> {
        match varint::get(self.rest) {
            Ok(Some((value, used))) => {
                self.rest = &self.rest[used..];
                Ok(value)
            }
            Ok(None) => Err(FrameError::Short),
            Err(varint::NotShortest) => Err(FrameError::Number(self.frame_type)),
        }
    }

    fn positive(&mut self) -> Result<u64, FrameError> {
        match self.number()? {
            0 => Err(FrameError::Number(self.frame_type)),
            value => Ok(value),
        }
    }

    #[inline]
    fn small(&mut self) -> Result<u32, FrameError> {
        u32::try_from(self.number()?).map_err(|_| FrameError::Number(self.frame_type))
    }

    fn count(&mut self, limit: usize) -> Result<usize, FrameError> {
        match usize::try_from(self.number()?) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(FrameError::Number(self.frame_type)),
        }
    }

    fn failure(&mut self) -> Result<FailureCode, FrameError> {
        FailureCode::from_wire(self.byte()?).ok_or(FrameError::Number(self.frame_type))
    }

    fn text(&mut self) -> Result<&'a str, FrameError> {
        let length = self.count(MAX_NAME).map_err(|_| FrameError::Text(self.frame_type))?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(FrameError::Short)?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| FrameError::Text(self.frame_type))
    }

    /// All that is left, as text.
    fn last_text(&mut self) -> Result<&'a str, FrameError> {
        let text = std::mem::take(&mut self.rest);
        std::str::from_utf8(text).map_err(|_| FrameError::Text(self.frame_type))
    }

    /// Ranges after `base`; each takes two bytes at least, so that a frame bounds how many there can be.
    fn ranges(&mut self, base: Seq) -> Result<Ranges, FrameError> {
        let bad = FrameError::Number(self.frame_type);
        let count = self.count(self.rest.len() / 2)?;
        let mut ranges = Ranges::new();
        let mut end = base;
        for _ in 0..count {
            let gap = self.positive()?;
            let start = end.checked_add(gap).ok_or(bad)?;
            end = start.checked_add(self.positive()?).ok_or(bad)?;
            ranges.push((start, end));
        }
        Ok(ranges)
    }
}
