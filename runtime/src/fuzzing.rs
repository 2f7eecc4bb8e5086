//! What the fuzz targets call: every decoder of a peer's bytes, with what must hold of its answer.
//!
//! Built only with `--cfg fuzzing` and no part of the public interface. Each function takes any
//! bytes; a panic is a defect.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::protocol::assembly::{Assembled, Assembly, AssemblyLimits};
use crate::protocol::packet::pieces::{Gathered, PieceLimits, Pieces};
use crate::time::Time;
use crate::wire::bundle::{self, Bundle};
use crate::wire::datagram::{self, Data, Datagram};
#[cfg(feature = "sqlite")]
use crate::wire::durable::{Stamp, Word};
use crate::wire::frame::{self, Frame, Kind, Part};
use crate::wire::seek::{Here, SEEK_SIZE, Seek};
use crate::wire::{payload, references, varint};

/// The bytes as a stream: each frame in it is decoded and, encoded again, is the same bytes.
pub fn varint_frame(mut stream: &[u8]) {
    one_varint(stream);
    while let Ok(Some((length, prefix))) = frame::frame_length(stream) {
        let Some((whole, rest)) = stream.split_at_checked(prefix + length) else { return };
        stream = rest;
        match frame::decode(&whole[prefix..]) {
            Ok(frame) => same_again(&frame, whole),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// The bytes as one frame or assembled message, so that no length must be guessed right.
pub fn message(bytes: &[u8]) {
    if let Ok(frame) = frame::decode(bytes) {
        let mut whole = Vec::new();
        varint::put(bytes.len() as u64, &mut whole);
        whole.extend_from_slice(bytes);
        same_again(&frame, &whole);
    }
    if let Ok((payload, list)) = references::split(bytes)
        && let Ok(entries) = references::entries(list)
    {
        let mut again = bytes[..payload].to_vec();
        entries.iter().for_each(|entry| references::put(entry, &mut again));
        references::end(payload, &mut again);
        assert_eq!(again, bytes, "one list has one encoding");
    }
}

fn one_varint(bytes: &[u8]) {
    if let Ok(Some((value, length))) = varint::get(bytes) {
        let mut again = Vec::new();
        varint::put(value, &mut again);
        assert_eq!(again, bytes[..length], "one value has one encoding");
        assert_eq!(varint::length(value), length);
    }
}

fn same_again(frame: &Frame<'_>, whole: &[u8]) {
    let mut again = Vec::with_capacity(whole.len());
    encode(frame, &mut again);
    // A deadline beyond all time is cut off, and is the one thing that may change.
    if !matches!(frame, Frame::Call(frame::Call { deadline_ms: Some(u64::MAX), .. })) {
        assert_eq!(again, whole, "one frame has one encoding: {frame:?}");
    }
}

fn encode(frame: &Frame<'_>, into: &mut Vec<u8>) {
    match frame {
        Frame::Hello(hello) => frame::put_hello(hello, into),
        Frame::Welcome(welcome) => frame::put_welcome(welcome, into),
        Frame::Close { code, text } => frame::put_close(*code, text, into),
        Frame::GoAway { known } => frame::put_go_away(known, into),
        Frame::Ping(nonce) => frame::put_nonce(Kind::Ping, *nonce, into),
        Frame::Pong(nonce) => frame::put_nonce(Kind::Pong, *nonce, into),
        Frame::Call(call) => frame::put_call(call, into),
        Frame::Reply(reply) => frame::put_reply(reply.seq, reply.status, reply.body, into),
        Frame::Fragment(fragment) => {
            let size = fragment.bytes.len();
            frame::put_fragment_head(fragment.seq, fragment.part, size, into);
            into.extend_from_slice(fragment.bytes);
            assert!(fragment.part != Part::Abort || size == 0);
        }
        Frame::CallAck { floor, ranges } => frame::put_call_ack(*floor, ranges, into),
        Frame::Resolve { seq } => frame::put_seq(Kind::Resolve, *seq, into),
        Frame::Executing { seq } => frame::put_seq(Kind::Executing, *seq, into),
        Frame::Stale { seq } => frame::put_seq(Kind::Stale, *seq, into),
        Frame::NeedAck => frame::put_empty(Kind::NeedAck, into),
        Frame::Lookup(lookup) => frame::put_lookup(lookup, into),
        Frame::Bound { handle, result } => frame::put_bound(*handle, result, into),
        Frame::Ack(ack) => {
            frame::put_ack(ack.delay_us, &ack.ranges().collect::<Vec<_>>(), into);
        }
        Frame::Piece(piece) => {
            frame::put_piece_head(&piece.head(), piece.bytes.len(), into);
            into.extend_from_slice(piece.bytes);
        }
        Frame::PieceAbort { message, seq } => frame::put_piece_abort(*message, *seq, into),
        Frame::PathChallenge(nonce) => frame::put_nonce(Kind::PathChallenge, *nonce, into),
        Frame::PathResponse(nonce) => frame::put_nonce(Kind::PathResponse, *nonce, into),
        Frame::Back(back) => frame::put_back(back, into),
    }
}

/// The bytes as fragments of several messages: what is kept stays within the limits, whatever the
/// fragments promise.
pub fn assembly(mut stream: &[u8]) {
    let limits = AssemblyLimits { message: 256, bytes: 512, messages: 4 };
    let mut assembly = Assembly::new(limits);
    let mut received = 0;
    while let Ok(Some((length, prefix))) = frame::frame_length(stream) {
        let Some((whole, rest)) = stream.split_at_checked(prefix + length) else { return };
        stream = rest;
        let Ok(Frame::Fragment(fragment)) = frame::decode(&whole[prefix..]) else { continue };
        received += fragment.bytes.len();
        match assembly.accept(Time::ZERO, &fragment) {
            Assembled::Whole(message) => assert!(message.len() <= received),
            Assembled::Violation(_) => return,
            Assembled::Unfinished | Assembled::Refused(_) => {}
        }
        assert!(assembly.bytes() <= limits.bytes.min(received));
    }
}

/// The bytes as a datagram, and again with the sum that they should have: what decodes is, encoded
/// again, the same bytes.
pub fn datagram(bytes: &[u8]) {
    one_datagram(bytes);
    let mut summed = bytes.to_vec();
    datagram::seal(0, &mut summed);
    one_datagram(&summed);
    one_seek(&summed);
    one_bundle(&summed);
    // A question has one length only.
    let mut filled = bytes.to_vec();
    filled.resize(SEEK_SIZE - datagram::SUM, 0);
    datagram::seal(0, &mut filled);
    one_seek(&filled);
}

/// Whatever a bundle holds can be bundled again.
fn one_bundle(bytes: &[u8]) {
    let Ok(bundle) = Bundle::decode(bytes) else { return };
    let parts: Vec<bundle::Part> = bundle.parts().collect();
    let restore = |part: &bundle::Part| part.datagram(*part.link.links().start());
    let datagrams: Vec<Vec<u8>> = parts.iter().map(restore).collect();
    assert!(datagrams.iter().all(|datagram| bundle::fits(datagram)));
    let again = bundle::encode(parts[0].client, &datagrams);
    let again: Vec<bundle::Part> = Bundle::decode(&again).expect("it is one").parts().collect();
    let told = |part: &bundle::Part| (part.client, part.link, restore(part));
    assert!(again.iter().map(told).eq(parts.iter().map(told)));
}

fn one_seek(bytes: &[u8]) {
    if let Ok(seek) = Seek::decode(bytes) {
        assert_eq!(seek.encode(), bytes, "one question has one encoding: {seek:?}");
    }
    if let Ok(here) = Here::decode(bytes) {
        assert_eq!(here.encode(), bytes, "one answer has one encoding: {here:?}");
        assert!(bytes.len() <= SEEK_SIZE);
    }
}

fn one_datagram(bytes: &[u8]) {
    let datagram = match datagram::decode(bytes) {
        Ok(datagram) => datagram,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let mut again = Vec::with_capacity(bytes.len());
    let into = &mut again;
    match datagram {
        Datagram::Hello { max_datagram, cookie, frame } => {
            datagram::put_hello(max_datagram as usize, cookie, frame, bytes.len(), into);
        }
        Datagram::Retry { nonce, cookie } => datagram::put_retry(nonce, cookie, into),
        Datagram::Welcome { nonce, link, max_datagram, max_ack_delay_us, frame } => {
            let max_datagram = max_datagram as usize;
            datagram::put_welcome(nonce, link, max_datagram, max_ack_delay_us, frame, into);
        }
        Datagram::Refused { nonce, frame } => datagram::put_refused(nonce, frame, into),
        Datagram::Unknown { link } => datagram::put_unknown(link, into),
        Datagram::Data(Data { id, number, frames }) => {
            for largest in [None, Some(id), Some(u64::MAX)] {
                assert_eq!(number.expand(largest) as u32, number.0);
            }
            datagram::begin_data(id, number, into);
            into.extend_from_slice(frames);
            datagram::seal(0, into);
        }
    }
    assert_eq!(again, bytes, "one datagram has one encoding: {datagram:?}");
}

/// The bytes as pieces of several messages, one frame behind the other: what is kept stays within
/// the limits, and a message is what its pieces said. A PING lets time pass.
pub fn pieces(mut stream: &[u8]) {
    let limits = PieceLimits { message: 256, bytes: 512, messages: 4 };
    let mut pieces = Pieces::new(limits);
    let patience = Duration::from_secs(30);
    let (mut now, mut received) = (Time::ZERO, 0);
    while let Ok(Some((length, prefix))) = frame::frame_length(stream) {
        let Some((whole, rest)) = stream.split_at_checked(prefix + length) else { return };
        stream = rest;
        match frame::decode(&whole[prefix..]) {
            Ok(Frame::Piece(piece)) => {
                received += piece.bytes.len();
                match pieces.accept(now, &piece, true) {
                    Gathered::Whole(message) => {
                        assert!(message.len() as u64 == piece.total && message.len() <= received);
                        let start = piece.offset as usize;
                        assert_eq!(message[start..][..piece.bytes.len()], *piece.bytes);
                        assert_eq!(pieces.accept(now, &piece, true), Gathered::Repeat);
                    }
                    Gathered::Violation(_) => return,
                    Gathered::Unfinished | Gathered::Repeat | Gathered::Refused(_) => {}
                }
            }
            Ok(Frame::PieceAbort { message, .. }) => {
                pieces.abort(message);
            }
            Ok(Frame::Ping(nonce)) => {
                now = now + Duration::from_secs(nonce % 40);
                pieces.expire(now, patience);
            }
            _ => {}
        }
        assert!(pieces.bytes() <= limits.bytes.min(received));
        assert_eq!(pieces.next_expiry(patience) < Time::NEVER, pieces.bytes() > 0);
    }
}

/// The first byte chooses a type, the rest is its payload: what decodes can be encoded, in no more
/// What stands around an exactly-once call: a stamp and a word, which are the same bytes when they are encoded again.
#[cfg(feature = "sqlite")]
pub fn words(bytes: &[u8]) {
    let mut again = Vec::new();
    if let Ok((stamp, length)) = Stamp::get(bytes) {
        stamp.put(&mut again);
        assert_eq!(again, bytes[..length]);
    }
    again.clear();
    if let Ok(word) = Word::get(bytes) {
        word.put(&mut again);
        assert_eq!(again, bytes);
    }
}

/// bytes, and decodes to the same.
pub fn payload(bytes: &[u8]) {
    macro_rules! round_trip {
        ($type:ty, $bytes:expr) => {
            match payload::decode::<$type>($bytes) {
                Ok(value) => {
                    let mut again = Vec::new();
                    payload::encode(&value, &mut again).expect("what was decoded can be encoded");
                    assert!(again.len() <= $bytes.len(), "an encoding is the shortest");
                    let second = payload::decode::<$type>(&again).expect("what was encoded");
                    // As texts, since not every number equals itself.
                    assert_eq!(format!("{value:?}"), format!("{second:?}"));
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        };
    }
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    match choice % 8 {
        0 => round_trip!((u8, i16, u32, i64, u128, bool, char, f64), bytes),
        1 => round_trip!(Order<'_>, bytes),
        2 => round_trip!(Tree, bytes),
        3 => round_trip!(BTreeMap<String, Vec<Option<Money>>>, bytes),
        4 => round_trip!(Vec<HashSet<()>>, bytes),
        5 => round_trip!((&str, payload::CowStr<'_>, Vec<[Kept; 2]>), bytes),
        6 => round_trip!(Result<std::net::SocketAddr, Vec<char>>, bytes),
        _ => {
            if let Ok(content) = payload::decode_bytes(bytes) {
                let mut again = Vec::new();
                payload::encode(&payload::AsBytes(&content), &mut again).expect("bytes encode");
                assert!(again.len() <= bytes.len());
                assert!(payload::decode::<Vec<u8>>(&again).is_ok_and(|vector| vector == content));
            }
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Order<'a> {
    id: u64,
    #[serde(borrow)]
    item: &'a str,
    price: Option<Money>,
    kept: Kept,
}

#[derive(Debug, Serialize, Deserialize)]
struct Money(i128);

#[derive(Debug, Serialize, Deserialize)]
enum Kept {
    Nowhere,
    Shelf(u8, u8),
    Room { name: String },
    In(Box<Kept>),
}

#[derive(Debug, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Branch(Box<Tree>),
    Many(Vec<Tree>),
}
