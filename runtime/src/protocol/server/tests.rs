//! The bounds of a session, each reached by a client that is not as it should be.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::wire::frame::{Frame, decode, frame_length};
use crate::wire::send_buffer::Batch;

const METHOD: Target<'_> =
    Target::Method { semantics: Semantics::AtMostOnce, oneway: false, max_reply: None };

fn session(limits: Limits) -> ServerSession {
    let budget = Arc::new(ProcessBudget::default());
    let client = NodeId(uuid::Uuid::from_u128(1));
    let mut session = ServerSession::new(SessionId(1), client, Arc::new(limits), budget);
    session.attach(1, 1 << 20, None).expect("the first link");
    session
}

fn call(seq: Seq, floor: Seq) -> Call<'static> {
    Call {
        seq,
        floor,
        handle: 0,
        method: 0,
        deadline_ms: None,
        attempt: 1,
        passes: false,
        arguments: b"",
    }
}

fn admit(session: &mut ServerSession, call: &Call<'_>) -> Result<(Admission, String), Violation> {
    let mut out = SendBuffer::default();
    let admission = session.admit(Time::ZERO, call, METHOD, &mut out)?;
    Ok((admission, written(&mut out)))
}

/// What was written, in a few words.
fn written(out: &mut SendBuffer) -> String {
    let mut batch = Batch::default();
    out.fill(&mut batch);
    let (bytes, mut words, mut start) = (batch.single().unwrap_or_default(), Vec::new(), 0);
    while let Ok(Some((length, used))) = frame_length(&bytes[start..]) {
        words.push(match decode(&bytes[start + used..start + used + length]) {
            Ok(Frame::Reply(reply)) => format!("reply {} {:?}", reply.seq, reply.status),
            other => format!("{other:?}"),
        });
        start += used + length;
    }
    words.join(", ")
}

fn complete(session: &mut ServerSession, seq: Seq, size: usize) -> String {
    let mut out = SendBuffer::default();
    let mut body = vec![0; size];
    session.complete(Time::ZERO, seq, ReplyStatus::Ok, &mut body, Some(&mut out));
    written(&mut out)
}

const RUN: (Admission, String) = (Admission::Run, String::new());

fn handled(text: &str) -> (Admission, String) {
    (Admission::Handled, text.to_owned())
}

#[test]
fn a_repeat_waits_while_it_runs_and_is_answered_from_the_cache_after() {
    let mut session = session(Limits::default());
    assert_eq!(admit(&mut session, &call(1, 1)), Ok(RUN));
    assert_eq!(admit(&mut session, &call(1, 1)), Ok(handled("")));
    assert_eq!(complete(&mut session, 1, 5), "reply 1 Ok");
    assert_eq!(admit(&mut session, &call(1, 1)), Ok(handled("reply 1 Ok")));
    assert_eq!(session.acknowledge(2, &vec![]), Ok(()));
    assert_eq!(admit(&mut session, &call(1, 1)), Ok(handled("Ok(Stale { seq: 1 })")));
}

#[test]
fn a_client_that_fills_the_window_and_goes_on_breaks_the_protocol() {
    let mut session = session(Limits { window: 4, ..Limits::default() });
    for seq in 1..=4 {
        assert_eq!(admit(&mut session, &call(seq, 1)), Ok(RUN));
        complete(&mut session, seq, 5);
    }
    assert!(admit(&mut session, &call(5, 1)).is_err());
    assert_eq!(admit(&mut session, &call(5, 2)), Ok(RUN), "one was acknowledged");
}

#[test]
fn calls_that_were_given_up_keep_their_places_while_they_run() {
    let mut session = session(Limits { window: 4, ..Limits::default() });
    for seq in 1..=4 {
        assert_eq!(admit(&mut session, &call(seq, seq)), Ok(RUN));
    }
    let busy = "reply 5 Failed(Busy)";
    assert_eq!(admit(&mut session, &call(5, 5)), Ok(handled(busy)));
    assert_eq!(admit(&mut session, &call(5, 5)), Ok(handled(busy)), "a refusal stays one");
    assert_eq!(complete(&mut session, 1, 5), "", "nobody waits for it");
    assert_eq!(admit(&mut session, &call(6, 6)), Ok(RUN));
}

#[test]
fn a_large_result_is_kept_as_long_as_the_process_has_room() {
    let limits = Limits {
        reply_bytes: 3000,
        reply_reserve: 1000,
        process_bytes: 4000,
        message: 9000,
        ..Limits::default()
    };
    let mut session = session(limits);
    for seq in 1..=3 {
        assert_eq!(admit(&mut session, &call(seq, 1)), Ok(RUN));
    }
    assert_eq!(admit(&mut session, &call(4, 1)), Ok(handled("reply 4 Failed(Busy)")));
    assert_eq!(complete(&mut session, 1, 3500), "reply 1 Ok", "over the session's budget");
    assert_eq!(complete(&mut session, 2, 1001), "reply 2 Failed(ReplyTooLarge)");
    assert_eq!(admit(&mut session, &call(5, 1)), Ok(handled("reply 5 Failed(Busy)")));
    session.acknowledge(6, &vec![]).expect("all but the last are finished");
    assert_eq!(complete(&mut session, 3, 5), "", "it was given up");
    assert_eq!((session.saved(), session.budget.bytes()), ((0, 0), 0));
}

#[test]
fn a_client_that_never_acknowledges_is_asked_and_then_left() {
    let mut session = session(Limits::default());
    admit(&mut session, &call(1, 1)).expect("it is new");
    complete(&mut session, 1, 5);
    let mut now = Time::ZERO;
    for _ in 0..8 {
        let mut out = SendBuffer::default();
        now = now + Duration::from_secs(30);
        assert_eq!(session.next_timeout(), now);
        assert_eq!(session.handle_timeout(now, &mut out), Ok(()));
        assert_eq!(written(&mut out), "Ok(NeedAck)");
    }
    now = now + Duration::from_secs(30);
    assert!(session.handle_timeout(now, &mut SendBuffer::default()).is_err());
}

#[test]
fn a_client_is_not_left_while_it_is_still_being_sent_a_reply() {
    // A large reply over a slow link took longer than eight questions, and no link ever brought it.
    let mut session = session(Limits::default());
    let mut out = SendBuffer::default();
    admit(&mut session, &call(1, 1)).expect("it is new");
    let mut body = vec![0; 1 << 20];
    session.complete(Time::ZERO, 1, ReplyStatus::Ok, &mut body, Some(&mut out));
    let mut now = Time::ZERO;
    let mut ask = |session: &mut ServerSession, out: &mut SendBuffer| {
        now = now + Duration::from_secs(30);
        session.handle_timeout(now, out)
    };
    for _ in 0..20 {
        assert_eq!(ask(&mut session, &mut out), Ok(()));
    }
    let mut sent = SendBuffer::default();
    for _ in 0..8 {
        assert_eq!(ask(&mut session, &mut sent), Ok(()));
        written(&mut sent);
    }
    session.attach(2, 1 << 20, None).expect("a newer link");
    let mut sent = SendBuffer::default();
    assert_eq!(ask(&mut session, &mut sent), Ok(()), "the next link has time of its own");
}

#[test]
fn gaps_in_acknowledgements_are_bounded_over_all_links() {
    let mut session = session(Limits { window: 4, ..Limits::default() });
    for link in 2..50 {
        let ranges = (1..100).map(|n| (link * 1000 + n * 2, link * 1000 + n * 2 + 1)).collect();
        assert!(session.attach(link, 1 << 20, Some((1, &ranges))).is_err());
    }
    assert!(session.finished.gaps() <= 6);
}

#[test]
fn numbers_far_ahead_break_the_protocol() {
    let far = MAX_JUMP + 1;
    assert!(admit(&mut session(Limits::default()), &call(far, 1)).is_err());
    assert!(admit(&mut session(Limits::default()), &call(far + 1, far + 1)).is_err());
    let mut out = SendBuffer::default();
    assert!(session(Limits::default()).resolve(Time::ZERO, far, &mut out).is_err());
    assert!(session(Limits::default()).acknowledge(far + 1, &vec![]).is_err());
    assert!(session(Limits::default()).acknowledge(1, &vec![(5, far + 1)]).is_err());
}

#[test]
fn replies_for_a_slow_reader_wait_in_their_records() {
    let mut session = session(Limits { send_buffer: 100, ..Limits::default() });
    let mut out = SendBuffer::default();
    for seq in 1..=20 {
        admit(&mut session, &call(seq, 1)).expect("it is new");
        let mut body = vec![0; 40];
        session.complete(Time::ZERO, seq, ReplyStatus::Ok, &mut body, Some(&mut out));
        assert!(out.pending() < 200);
    }
    assert!(session.has_waiting_replies());
    let mut answered = 0;
    while out.pending() > 0 {
        answered += written(&mut out).split(", ").count();
        session.flush(&mut out);
        assert!(out.pending() < 200);
    }
    assert_eq!(answered, 20);
}

#[test]
fn who_acknowledges_without_reading_leaves_no_places_of_replies() {
    let mut session = session(Limits { window: 4, send_buffer: 100, ..Limits::default() });
    let mut out = SendBuffer::default();
    for seq in 1..=1000 {
        let admitted = session.admit(Time::ZERO, &call(seq, seq), METHOD, &mut out);
        assert_eq!(admitted, Ok(Admission::Run));
        let mut body = vec![0; 40];
        session.complete(Time::ZERO, seq, ReplyStatus::Ok, &mut body, Some(&mut out));
        assert!(session.to_send.len() < 8, "{seq}");
    }
    written(&mut out);
    session.flush(&mut out);
    assert_eq!(written(&mut out), "reply 1000 Ok", "the others are finished");
}

#[test]
fn the_refusal_of_a_part_does_not_overtake_the_answer_of_the_whole() {
    let mut session = session(Limits::default()).over_datagrams();
    let mut out = SendBuffer::default();
    let semantics = Semantics::AtLeastOnce;
    let target = Target::Method { semantics, oneway: false, max_reply: None };
    let admitted = session.admit(Time::ZERO, &call(1, 1), target, &mut out);
    assert_eq!(admitted, Ok(Admission::Run));
    complete(&mut session, 1, 5);
    let mut refuse = |session: &mut ServerSession| {
        session.refuse(Time::ZERO, 1, FailureCode::Busy, "full", &mut out).expect("a good client");
        written(&mut out)
    };
    assert_eq!(refuse(&mut session), "");
    // Its client sends it again since the answer was lost, and knows that it may have run.
    session.attach(2, 1 << 20, None).expect("a newer link");
    assert_eq!(refuse(&mut session), "reply 1 Failed(Busy)");
}

#[test]
fn a_refusal_does_not_overtake_the_answer_of_a_copy_that_ran() {
    let refused = Target::Refused { code: FailureCode::NoSuchObject, text: "gone" };
    for (semantics, attempt, expected) in [
        (Semantics::Maybe, 1, ""),
        (Semantics::AtLeastOnce, 1, ""),
        // It was sent again, since the answer was lost; the client knows that it may have run.
        (Semantics::AtLeastOnce, 2, "reply 1 Failed(NoSuchObject)"),
    ] {
        let mut session = session(Limits::default());
        let mut out = SendBuffer::default();
        let target = Target::Method { semantics, oneway: false, max_reply: None };
        let admitted = session.admit(Time::ZERO, &call(1, 1), target, &mut out);
        assert_eq!(admitted, Ok(Admission::Run));
        complete(&mut session, 1, 5);
        let again = Call { attempt, ..call(1, 1) };
        let admitted = session.admit(Time::ZERO, &again, refused, &mut out);
        assert_eq!(admitted, Ok(Admission::Handled));
        assert_eq!(written(&mut out), expected, "{semantics}, attempt {attempt}");
    }
}

#[test]
fn a_call_that_waited_for_too_long_never_runs_and_one_that_ran_is_answered() {
    for (semantics, oneway, expected) in [
        (Semantics::Maybe, false, "reply 1 Failed(Busy)"),
        (Semantics::Maybe, true, ""),
        (Semantics::AtLeastOnce, false, "reply 1 Failed(Busy)"),
        (Semantics::AtMostOnce, false, "reply 1 Failed(Busy)"),
    ] {
        let mut session = session(Limits::default());
        let mut out = SendBuffer::default();
        let late = Target::Late { semantics, oneway };
        let admitted = session.admit(Time::ZERO, &call(1, 1), late, &mut out);
        assert_eq!(admitted, Ok(Admission::Handled));
        assert_eq!(written(&mut out), expected, "{semantics}");
        assert_eq!(session.running(), 0);
        if semantics == Semantics::AtMostOnce {
            assert_eq!(admit(&mut session, &call(1, 1)), Ok(handled(expected)), "a repeat");
        }
    }
    let mut session = session(Limits::default());
    assert_eq!(admit(&mut session, &call(1, 1)), Ok(RUN));
    complete(&mut session, 1, 5);
    let mut out = SendBuffer::default();
    let late = Target::Late { semantics: Semantics::AtMostOnce, oneway: false };
    session.admit(Time::ZERO, &call(1, 1), late, &mut out).expect("a repeat");
    assert_eq!(written(&mut out), "reply 1 Ok");
}

#[test]
fn two_calls_of_one_number_harm_only_their_sender() {
    let maybe = Target::Method { semantics: Semantics::Maybe, oneway: false, max_reply: None };
    for targets in [[maybe, METHOD], [METHOD, maybe]] {
        let mut session = session(Limits::default());
        let mut out = SendBuffer::default();
        for target in targets {
            let admitted = session.admit(Time::ZERO, &call(1, 1), target, &mut out);
            assert_eq!(admitted, Ok(Admission::Run));
        }
        complete(&mut session, 1, 5);
        complete(&mut session, 1, 7);
        assert_eq!((session.running(), session.reserved), (0, 0));
        session.acknowledge(2, &vec![]).expect("it is finished");
        assert_eq!((session.saved(), session.budget.bytes()), ((0, 0), 0));
    }
}

#[test]
fn the_arrival_of_an_answer_finishes_its_call_unless_the_client_may_put_it_off() {
    use crate::protocol::packet::Delivery;
    use crate::wire::frame::put_reply;

    let mut session = session(Limits::default()).over_datagrams();
    assert_eq!(admit(&mut session, &call(1, 1)), Ok(RUN));
    complete(&mut session, 1, 5);
    session.drain(None);
    let refused = handled("reply 2 Failed(ShuttingDown)");
    assert_eq!(admit(&mut session, &call(2, 1)), Ok(refused));
    for (seq, status, kept) in [
        (1, ReplyStatus::Ok, 1),
        // A client that is to call at least once sends it again, under its number, when the session is resumed.
        (2, ReplyStatus::Failed(FailureCode::ShuttingDown), 1),
    ] {
        let mut frame = Vec::new();
        put_reply(seq, status, b"", &mut frame);
        let (_, head) = frame_length(&frame).unwrap().unwrap();
        session.delivered(&frame[head..]);
        assert_eq!(session.saved().0, kept, "call {seq}");
    }
}

#[test]
fn the_arrival_of_answers_leaves_no_more_gaps_than_the_window_allows() {
    use crate::protocol::packet::Delivery;
    use crate::wire::frame::put_reply;

    let mut session = session(Limits { window: 4, ..Limits::default() }).over_datagrams();
    let mut out = SendBuffer::default();
    // Calls of every second number only.
    let broken = (1..1000).map(|n| 2 * n).find(|&seq| {
        let mut frame = Vec::new();
        put_reply(seq, ReplyStatus::Fenced, b"", &mut frame);
        let resolved = session.resolve(Time::ZERO, seq, &mut out);
        session.delivered(&frame[1..]);
        assert!(session.finished.gaps() <= 5);
        resolved.is_err()
    });
    assert_eq!(broken, Some(20), "the other records wait for CALL_ACK");
    session.acknowledge(20, &vec![]).expect("it need not break the protocol");
    assert_eq!((session.saved().0, session.finished.gaps()), (0, 0));
}
