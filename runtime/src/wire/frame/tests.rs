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
        let call = Call {
            seq: 9,
            floor,
            handle: 1,
            method: 2,
            deadline_ms,
            attempt,
            passes: false,
            arguments,
        };
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
    add(&|into| put_ack(400, &[(0, 1)], into));
    add(&|into| put_ack(80_000, &[(900, 1001), (700, 899), (3, 4), (0, 2)], into));
    for once in [false, true] {
        add(&|into| {
            let head = PieceHead { message: 2, seq: 8, offset: 1168, total: 1 << 20, once };
            put_piece_head(&head, 4, into);
            into.extend_from_slice(b"four");
        });
    }
    add(&|into| put_piece_abort(2, 8, into));
    add(&|into| put_nonce(Kind::PathChallenge, 5, into));
    add(&|into| put_nonce(Kind::PathResponse, 6, into));
    add_references(&mut add);
    frames
}

/// Encodes what was decoded: one value has one encoding.
/// Frames with references, and of calls back.
fn add_references(add: &mut impl FnMut(&dyn Fn(&mut Vec<u8>))) {
    for end in [false, true] {
        let back = Back { stream: 1, offset: 70_000, read: 5, end, bytes: b"back" };
        add(&|into| put_back(&back, into));
    }
    add(&|into| {
        let (floor, deadline_ms, attempt, passes) = (8, None, 1, true);
        let arguments = b"list";
        let (seq, handle, method) = (9, 1, 2);
        put_call(
            &Call { seq, floor, handle, method, deadline_ms, attempt, passes, arguments },
            into,
        );
    });
    for status in [ReplyStatus::Passing, ReplyStatus::PassingError] {
        add(&|into| put_reply(9, status, b"list", into));
    }
}

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
        Frame::Ack(ack) => put_ack(ack.delay_us, &ack.ranges().collect::<Vec<_>>(), into),
        Frame::Piece(piece) => {
            put_piece_head(&piece.head(), piece.bytes.len(), into);
            into.extend_from_slice(piece.bytes);
        }
        Frame::PieceAbort { message, seq } => put_piece_abort(*message, *seq, into),
        Frame::PathChallenge(nonce) => put_nonce(Kind::PathChallenge, *nonce, into),
        Frame::PathResponse(nonce) => put_nonce(Kind::PathResponse, *nonce, into),
        Frame::Back(back) => put_back(back, into),
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
    assert_eq!(samples.len(), 37, "a sample of each kind");
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
        passes: false,
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
fn an_acknowledgement_of_all_that_came_allocates_nothing() {
    let mut bytes = Vec::new();
    put_ack(0, &[(0, 1000)], &mut bytes);
    let Ok(Frame::Ack(ack)) = decode(&bytes[1..]) else { panic!("no ACK") };
    assert_eq!((ack.highest, ack.further.capacity()), ((0, 1000), 0));
}

#[test]
fn acknowledgements_below_zero_without_content_or_with_too_many_ranges_are_refused() {
    let ack = |numbers: &[u64]| {
        let mut body = vec![(Kind::Ack as u8) << 3];
        numbers.iter().for_each(|&number| crate::wire::varint::put(number, &mut body));
        decode(&body).map(|frame| format!("{frame:?}"))
    };
    let bad = Err(FrameError::Number((Kind::Ack as u8) << 3));
    assert!(
        ack(&[9, 1, 3, 1, 2, 4])
            .unwrap()
            .contains("delay_us: 8, highest: (6, 10), further: [(0, 4)]")
    );
    assert_eq!(ack(&[9, 1, 10, 0]), bad);
    assert_eq!(ack(&[9, 1, 3, 1, 2, 5]), bad);
    assert_eq!(ack(&[9, 1, 3, 1, 7, 1]), bad);
    assert_eq!(ack(&[9, 1, 3, 1, 0, 1]), bad, "ranges that touch");
    assert_eq!(ack(&[9, 1, 3, 1, 1, 0]), bad, "a range without a number");
    assert_eq!(ack(&[u64::MAX, 1, 3, 0]), bad);
    assert_eq!(ack(&[9, u64::MAX / 4, 3, 0]), bad);
    assert_eq!(ack(&[9, 1, 3, 1, 2]), Err(FrameError::Short));
    assert_eq!(ack(&[9, 1, 3, 0, 2]), Err(FrameError::Long));
    let ranges = |count: u64| {
        let mut numbers = vec![1000, 0, 0, count];
        numbers.resize(4 + 2 * count as usize, 1);
        ack(&numbers)
    };
    assert!(ranges(MAX_ACK_RANGES as u64 - 1).is_ok());
    assert_eq!(ranges(MAX_ACK_RANGES as u64), bad);
}

#[test]
fn pieces_fill_the_space_that_is_left() {
    let head = PieceHead { message: 3, seq: 300, offset: 20_000, total: 1 << 20, once: false };
    let space: Vec<usize> = (0..300).chain(16_300..16_500).chain([1200, 65_000]).collect();
    for space in space {
        let size = piece_room(&head, space);
        let taken = |size| {
            let mut bytes = Vec::new();
            put_piece_head(&head, size, &mut bytes);
            bytes.len() + size
        };
        assert!(size == 0 || taken(size) <= space, "{space}");
        // Where the length of the length changes, one byte may be left.
        assert!(taken(size + 2) > space, "{space}");
    }
    assert_eq!(decode(&[(Kind::Piece as u8) << 3, 1, 1, 0, 1]), Err(FrameError::Short));
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
