//! Round trips of every frame, and what bytes of a stranger do.

use super::*;

fn samples() -> Vec<Vec<u8>> {
    let node = NodeId(uuid::Uuid::from_u128(7));
    let mut frames = Vec::new();
    let mut add = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        put(&mut bytes);
        frames.push(bytes);
    };
    let resume = Resume { session: SessionId(3), floor: 5, ranges: vec![(7, 9), (12, 13)] };
    for resume in [None, Some(resume)] {
        let hello = Hello { client: node, nonce: 1 << 60, link: 300, max_message: 1 << 24, resume };
        add(&|into| put_hello(&hello, into));
    }
    let welcome = Welcome {
        nonce: 9,
        server: node,
        boot: Boot(u64::MAX),
        session: SessionId(4),
        resumed: true,
        window: 1024,
        request_bytes: 1 << 26,
        reply_bytes: 1 << 26,
        max_message: 1 << 24,
        known: vec![(1, 2), (1000, 1004)],
    };
    add(&|into| put_welcome(&welcome, into));
    add(&|into| put_close(CloseCode::Violation, "why", into));
    add(&|into| put_go_away(&vec![(2, 3)], into));
    add(&|into| put_nonce(Kind::Ping, 5, into));
    add(&|into| put_nonce(Kind::Pong, 6, into));
    add(&|into| put_call_ack(4, &vec![(6, 8)], into));
    for kind in [Kind::Resolve, Kind::Executing, Kind::Stale] {
        add(&|into| put_seq(kind, 77, into));
    }
    add(&|into| put_empty(Kind::NeedAck, into));
    for (floor, deadline_ms, attempt) in [(9, None, 1), (2, Some(30_000), 3)] {
        let arguments = &[1, 2, 3];
        let call = Call { seq: 9, floor, handle: 1, method: 2, deadline_ms, attempt, arguments };
        add(&|into| put_call(&call, into));
    }
    for status in [
        ReplyStatus::Ok,
        ReplyStatus::MethodError,
        ReplyStatus::Failed(FailureCode::Busy),
        ReplyStatus::Fenced,
    ] {
        add(&|into| put_reply(1 << 20, status, b"body", into));
    }
    for part in [Part::First { total: 1 << 20 }, Part::Middle, Part::Last] {
        add(&|into| {
            put_fragment_head(8, part, 4, into);
            into.extend_from_slice(b"four");
        });
    }
    add(&|into| put_fragment_head(8, Part::Abort, 0, into));
    let lookup = Lookup {
        handle: 3,
        object: "a/b",
        interface: "Account",
        methods: vec![(MethodId(1), Semantics::Maybe), (MethodId(2), Semantics::AtMostOnce)],
    };
    add(&|into| put_lookup(&lookup, into));
    let verdicts = vec![Verdict::Callable, Verdict::Unknown, Verdict::Weaker];
    add(&|into| {
        put_bound(3, &BoundResult::Object { verdicts: verdicts.clone(), methods: "m" }, into);
    });
    let code = FailureCode::NoSuchObject;
    add(&|into| put_bound(3, &BoundResult::Failed { code, text: "none" }, into));
    frames
}

/// Encodes what was decoded: one value has one encoding.
fn again(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let into = &mut bytes;
    match frame {
        Frame::Hello(hello) => put_hello(hello, into),
        Frame::Welcome(welcome) => put_welcome(welcome, into),
        Frame::Close { code, text } => put_close(*code, text, into),
        Frame::GoAway { known } => put_go_away(known, into),
        Frame::Ping(nonce) => put_nonce(Kind::Ping, *nonce, into),
        Frame::Pong(nonce) => put_nonce(Kind::Pong, *nonce, into),
        Frame::Call(call) => put_call(call, into),
        Frame::Reply(reply) => put_reply(reply.seq, reply.status, reply.body, into),
        Frame::Fragment(fragment) => {
            put_fragment_head(fragment.seq, fragment.part, fragment.bytes.len(), into);
            into.extend_from_slice(fragment.bytes);
        }
        Frame::CallAck { floor, ranges } => put_call_ack(*floor, ranges, into),
        Frame::Resolve { seq } => put_seq(Kind::Resolve, *seq, into),
        Frame::Executing { seq } => put_seq(Kind::Executing, *seq, into),
        Frame::Stale { seq } => put_seq(Kind::Stale, *seq, into),
        Frame::NeedAck => put_empty(Kind::NeedAck, into),
        Frame::Lookup(lookup) => put_lookup(lookup, into),
        Frame::Bound { handle, result } => put_bound(*handle, result, into),
    }
    bytes
}

fn body_of(bytes: &[u8]) -> &[u8] {
    let (length, used) = frame_length(bytes).unwrap().unwrap();
    assert_eq!(bytes.len(), length + used);
    &bytes[used..]
}

#[test]
fn every_frame_comes_back_and_has_one_encoding() {
    let samples = samples();
    assert_eq!(samples.len(), 25, "a sample of each kind");
    for bytes in samples {
        let frame = decode(body_of(&bytes)).unwrap();
        assert_eq!(again(&frame), bytes, "{frame:?}");
    }
}

#[test]
fn a_small_call_and_its_reply_cost_fifteen_bytes() {
    // The two-millionth call of a session, others in flight, with the default deadline of 30 seconds.
    let (mut request, mut reply) = (Vec::new(), Vec::new());
    let call = Call {
        seq: 2_000_000,
        floor: 1_999_940,
        handle: 1,
        method: 2,
        deadline_ms: Some(30_000),
        attempt: 1,
        arguments: &[0; 16],
    };
    put_call(&call, &mut request);
    put_reply(2_000_000, ReplyStatus::Ok, &[0; 8], &mut reply);
    assert_eq!(request.len() - 16 + reply.len() - 8, 15);
}

#[test]
fn truncated_frames_are_errors_and_never_panics() {
    for bytes in samples() {
        let body = body_of(&bytes);
        for end in 0..body.len() {
            // Some prefixes are frames of their own (a shorter payload or text); none may panic or change on the way.
            if let Ok(frame) = decode(&body[..end]) {
                assert_eq!(body_of(&again(&frame)), &body[..end]);
            }
        }
    }
}

#[test]
fn what_is_accepted_is_canonical_whatever_the_bytes() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let samples = samples();
    let mut accepted = 0;
    for _ in 0..200_000 {
        let mut bytes = body_of(&samples[next() as usize % samples.len()]).to_vec();
        for _ in 0..1 + next() % 3 {
            let at = next() as usize % bytes.len();
            bytes[at] = next() as u8;
        }
        if let Ok(frame) = decode(&bytes) {
            assert_eq!(body_of(&again(&frame)), bytes, "{frame:?}");
            accepted += 1;
        }
    }
    assert!(accepted > 10_000, "{accepted}");
}

#[test]
fn oversized_and_empty_frames_are_refused_by_their_length() {
    let mut bytes = Vec::new();
    crate::wire::varint::put(MAX_FRAME as u64 + 1, &mut bytes);
    assert_eq!(frame_length(&bytes), Err(FrameError::Oversized(MAX_FRAME as u64 + 1)));
    assert_eq!(frame_length(&[0]), Err(FrameError::Short));
    assert_eq!(frame_length(&[0x80]), Ok(None));
}

#[test]
fn strangers_and_other_versions_are_told_apart() {
    let node = NodeId(uuid::Uuid::nil());
    let hello = Hello { client: node, nonce: 0, link: 1, max_message: 1, resume: None };
    let mut bytes = Vec::new();
    put_hello(&hello, &mut bytes);
    let mut body = body_of(&bytes).to_vec();
    body[5] = 9;
    assert_eq!(decode(&body), Err(FrameError::Version(9)));
    body[1] = b'G';
    assert_eq!(decode(&body), Err(FrameError::Magic));
    assert_eq!(decode(&[31 << 3]), Err(FrameError::UnknownType(31 << 3)));
}
