//! Pieces in every order, and pieces that lie.

use super::*;

const LIMITS: PieceLimits = PieceLimits { message: 100_000, bytes: 150_000, messages: 4 };

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + index / 251) as u8).collect()
}

fn pieces() -> Pieces {
    Pieces::new(LIMITS)
}

/// The bytes of `message` in a range.
fn cut(number: u64, message: &[u8], range: std::ops::Range<usize>) -> Piece<'_> {
    Piece {
        message: number,
        seq: number + 1,
        offset: range.start as u64,
        total: message.len() as u64,
        once: false,
        bytes: &message[range],
    }
}

fn accept(pieces: &mut Pieces, piece: &Piece<'_>) -> Gathered {
    pieces.accept(Time::ZERO, piece, true)
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 16
    }
}

#[test]
fn pieces_in_order_give_the_message() {
    let (message, mut pieces) = (content(1000), pieces());
    for start in (0..900).step_by(100) {
        let piece = cut(0, &message, start..start + 100);
        assert_eq!(accept(&mut pieces, &piece), Gathered::Unfinished);
        assert_eq!(pieces.bytes(), start + 100);
        assert_eq!(accept(&mut pieces, &piece), Gathered::Repeat);
    }
    assert_eq!(accept(&mut pieces, &cut(0, &message, 900..1000)), Gathered::Whole(message.clone()));
    assert_eq!(accept(&mut pieces, &cut(0, &message, 900..1000)), Gathered::Repeat);
    assert_eq!((pieces.bytes(), pieces.next_expiry(Duration::MAX)), (0, Time::NEVER));
}

#[test]
fn a_message_of_one_piece_is_whole_at_once_and_once() {
    let (message, mut pieces) = (content(3), pieces());
    let piece = cut(5, &message, 0..3);
    assert_eq!(accept(&mut pieces, &piece), Gathered::Whole(message.clone()));
    assert_eq!(accept(&mut pieces, &piece), Gathered::Repeat);
}

#[test]
fn pieces_backwards_and_a_last_piece_of_one_byte_give_the_message() {
    let (message, mut pieces) = (content(64 * 100 + 1), pieces());
    let last = cut(0, &message, 6400..6401);
    assert_eq!(accept(&mut pieces, &last), Gathered::Unfinished);
    for start in (64..6400).step_by(64).rev() {
        assert_eq!(accept(&mut pieces, &cut(0, &message, start..start + 64)), Gathered::Unfinished);
    }
    assert_eq!(accept(&mut pieces, &cut(0, &message, 0..64)), Gathered::Whole(message.clone()));
}

#[test]
fn pieces_in_any_order_again_and_cut_anew_give_the_message() {
    for seed in 1..=300 {
        let mut random = random(seed);
        let messages: Vec<Vec<u8>> =
            (0..3).map(|_| content(1 + random() as usize % 20_000)).collect();
        let mut sent: Vec<Piece<'_>> = Vec::new();
        for (number, message) in messages.iter().enumerate() {
            // Each message twice, in pieces of different sizes.
            for _ in 0..2 {
                let mut start = 0;
                while start < message.len() {
                    let size = SMALLEST_PIECE + random() as usize % 700;
                    let end = (start + size).min(message.len());
                    sent.push(cut(number as u64, message, start..end));
                    start = end;
                }
            }
        }
        for index in (1..sent.len()).rev() {
            sent.swap(index, random() as usize % (index + 1));
        }
        let mut pieces = pieces();
        let mut whole = vec![None; messages.len()];
        for piece in &sent {
            match accept(&mut pieces, piece) {
                Gathered::Whole(bytes) => {
                    assert_eq!(whole[piece.message as usize].replace(bytes), None, "seed {seed}");
                }
                Gathered::Unfinished | Gathered::Repeat => {}
                other => panic!("{other:?}, seed {seed}"),
            }
        }
        let whole: Vec<Vec<u8>> = whole.into_iter().flatten().collect();
        assert!(whole == messages, "seed {seed}");
        assert_eq!(pieces.bytes(), 0, "seed {seed}");
    }
}

#[test]
fn bytes_are_counted_once_however_often_they_come() {
    let (message, mut pieces) = (content(1000), pieces());
    for (range, bytes) in [(300..400, 100), (350..450, 150), (200..500, 300), (0..250, 500)] {
        assert_eq!(accept(&mut pieces, &cut(0, &message, range)), Gathered::Unfinished);
        assert_eq!(pieces.bytes(), bytes);
    }
    for range in [0..500, 436..500, 100..300] {
        assert_eq!(accept(&mut pieces, &cut(0, &message, range)), Gathered::Repeat);
    }
}

#[test]
fn pieces_that_disagree_are_violations() {
    let (message, mut other) = (content(1000), content(1000));
    other[350] ^= 1;
    for before in [0..400, 300..400, 200..500, 336..400] {
        let mut pieces = pieces();
        accept(&mut pieces, &cut(0, &message, before.clone()));
        let lie = accept(&mut pieces, &cut(0, &other, 300..400));
        assert_eq!(lie, Gathered::Violation("pieces that disagree about a byte"), "{before:?}");
    }
}

#[test]
fn pieces_that_do_not_fit_are_violations() {
    let message = content(1000);
    let violation = |piece: Piece<'_>| {
        let mut pieces = pieces();
        accept(&mut pieces, &cut(7, &message, 0..100));
        matches!(accept(&mut pieces, &piece), Gathered::Violation(_))
    };
    let next = cut(7, &message, 100..200);
    assert!(!violation(next));
    assert!(violation(Piece { total: 1001, ..next }), "another total");
    assert!(violation(Piece { total: 150, ..next }), "beyond its total");
    assert!(violation(Piece { seq: 9, ..next }), "another call");
    assert!(violation(Piece { once: true, ..next }), "sent once, and not");
    assert!(violation(Piece { offset: 950, ..next }), "beyond the end");
    assert!(violation(Piece { offset: u64::MAX, ..next }), "beyond all numbers");
    assert!(violation(Piece { bytes: &message[100..163], ..next }), "too short");
    assert!(violation(Piece { bytes: &message[100..101], ..next }), "one byte");
    assert!(violation(Piece { bytes: &[], ..next }), "no byte");
    assert!(violation(Piece { message: u64::MAX, ..next }), "too far ahead");
    assert!(violation(Piece { message: MAX_AHEAD + 8, ..next }), "too far ahead");
    assert!(!violation(Piece { message: MAX_AHEAD + 7, ..next }));
}

#[test]
fn a_declared_size_and_a_far_offset_take_no_memory() {
    let (message, mut pieces) = (content(64), pieces());
    let huge = Piece {
        message: 0,
        seq: 1,
        offset: u64::MAX - 64,
        total: u64::MAX,
        once: false,
        bytes: &message,
    };
    assert_eq!(accept(&mut pieces, &huge), Gathered::Refused(Excess::Message));
    assert_eq!(accept(&mut pieces, &huge), Gathered::Repeat, "told once");
    let far =
        Piece { message: 1, seq: 2, offset: 99_000, total: 100_000, once: false, bytes: &message };
    assert_eq!(accept(&mut pieces, &far), Gathered::Unfinished);
    assert_eq!(pieces.bytes(), 64);
    assert_eq!(pieces.unfinished[&1].beginning_capacity(), 0);
}

#[test]
fn many_holes_are_a_violation_and_those_of_small_datagrams_are_not() {
    let limits = PieceLimits { message: 1 << 20, bytes: 2 << 20, messages: 4 };
    let message = content(1 << 20);
    let last = |size: usize| {
        let mut pieces = Pieces::new(limits);
        let starts = (size..message.len() - size).step_by(2 * size);
        starts.map(|start| accept(&mut pieces, &cut(0, &message, start..start + size))).last()
    };
    assert_eq!(last(500), Some(Gathered::Unfinished), "every second piece is lost");
    let holes = Gathered::Violation("pieces that leave too many holes");
    assert_eq!(last(64), Some(holes));
}

#[test]
fn unfinished_bytes_and_messages_are_bounded() {
    let message = content(60_000);
    let mut pieces = pieces();
    for number in 0..2 {
        accept(&mut pieces, &cut(number, &message, 0..59_900));
    }
    // Some thirty thousand bytes are left.
    accept(&mut pieces, &cut(2, &message, 0..30_000));
    assert_eq!(accept(&mut pieces, &cut(2, &message, 10_000..30_100)), Gathered::Unfinished);
    let more = cut(2, &message, 30_000..31_000);
    assert_eq!(accept(&mut pieces, &more), Gathered::Refused(Excess::Room));
    assert_eq!(accept(&mut pieces, &more), Gathered::Repeat);
    assert_eq!(pieces.bytes(), 2 * 59_900, "what came of it is gone");
    for number in 3..5 {
        assert_eq!(accept(&mut pieces, &cut(number, &message, 0..64)), Gathered::Unfinished);
    }
    let fifth = accept(&mut pieces, &cut(5, &message, 0..64));
    assert_eq!(fifth, Gathered::Refused(Excess::Room));
    let whole = accept(&mut pieces, &cut(0, &message, 59_900..60_000));
    assert_eq!(whole, Gathered::Whole(message));
}

#[test]
fn where_room_is_short_only_what_is_new_counts() {
    let message = content(60_000);
    let mut pieces = pieces();
    for number in 0..2 {
        accept(&mut pieces, &cut(number, &message, 0..59_900));
    }
    accept(&mut pieces, &cut(2, &message, 20_000..50_000));
    for range in [30_000..50_100, 19_936..40_000, 20_000..50_136] {
        assert_eq!(accept(&mut pieces, &cut(2, &message, range)), Gathered::Unfinished);
    }
    assert_eq!(pieces.bytes(), LIMITS.bytes);
    assert_eq!(accept(&mut pieces, &cut(2, &message, 19_936..50_136)), Gathered::Repeat);
    let more = accept(&mut pieces, &cut(2, &message, 20_000..50_137));
    assert_eq!(more, Gathered::Refused(Excess::Room));
}

#[test]
fn without_room_no_message_begins_but_one_that_began_goes_on() {
    let (message, mut pieces) = (content(200), pieces());
    accept(&mut pieces, &cut(0, &message, 100..200));
    let second = pieces.accept(Time::ZERO, &cut(1, &message, 0..100), false);
    assert_eq!(second, Gathered::Refused(Excess::Room));
    let first = pieces.accept(Time::ZERO, &cut(0, &message, 0..100), false);
    assert_eq!(first, Gathered::Whole(message));
}

#[test]
fn a_message_without_progress_expires_and_does_not_come_back() {
    let (message, mut pieces) = (content(1000), pieces());
    let patience = Duration::from_secs(30);
    pieces.accept(at(0), &cut(0, &message, 0..100), true);
    pieces.accept(at(10), &cut(1, &message, 500..600), true);
    // A repeat is no progress.
    pieces.accept(at(20), &cut(0, &message, 0..100), true);
    assert_eq!(pieces.next_expiry(patience), at(30));
    assert!(!pieces.expire(at(29), patience));
    assert_eq!(pieces.bytes(), 200);
    assert!(pieces.expire(at(30), patience));
    assert_eq!(pieces.bytes(), 100);
    assert_eq!(pieces.next_expiry(patience), at(40));
    let late = pieces.accept(at(31), &cut(0, &message, 100..200), true);
    assert_eq!(late, Gathered::Repeat);
    assert!(pieces.expire(at(40), patience));
    let once = Piece { once: true, ..cut(2, &message, 0..100) };
    pieces.accept(at(40), &once, true);
    assert_eq!(pieces.next_expiry(patience), at(42));
    assert!(!pieces.expire(at(41), patience));
    assert_eq!(pieces.bytes(), 100);
    assert!(!pieces.expire(at(42), patience), "nobody will send the rest of it");
    assert_eq!(pieces.bytes(), 0);
}

#[test]
fn a_message_that_is_sent_once_gives_its_place_to_the_next() {
    let (message, mut pieces) = (content(1000), pieces());
    let part = |number, once| Piece { once, ..cut(number, &message, 0..100) };
    for (number, once) in [(0, false), (1, true), (2, true), (3, false)] {
        pieces.accept(at(number), &part(number, once), true);
    }
    // The second goes on last.
    pieces.accept(at(4), &Piece { once: true, ..cut(1, &message, 100..200) }, true);
    assert_eq!(pieces.accept(at(5), &part(4, false), true), Gathered::Unfinished);
    let gone = Piece { once: true, ..cut(2, &message, 100..200) };
    assert_eq!(pieces.accept(at(5), &gone, true), Gathered::Repeat);
    assert_eq!(pieces.bytes(), 500);
    assert_eq!(pieces.accept(at(6), &part(5, false), true), Gathered::Unfinished);
    let refused = pieces.accept(at(7), &part(6, true), true);
    assert_eq!(refused, Gathered::Refused(Excess::Room), "the others are sent again");
    assert_eq!(pieces.bytes(), 400);
}

#[test]
fn messages_that_are_sent_once_give_their_bytes_to_the_next() {
    let (message, mut pieces) = (content(90_000), pieces());
    let once = Piece { once: true, ..cut(0, &message, 0..80_000) };
    assert_eq!(accept(&mut pieces, &once), Gathered::Unfinished);
    let lasting = cut(1, &message, 0..80_000);
    assert_eq!(accept(&mut pieces, &lasting), Gathered::Unfinished);
    assert_eq!(pieces.bytes(), 80_000);
    let third = cut(2, &message, 0..80_000);
    assert_eq!(accept(&mut pieces, &third), Gathered::Refused(Excess::Room));
}

#[test]
fn an_aborted_message_is_dropped_even_if_its_pieces_come_later() {
    let (message, mut pieces) = (content(1000), pieces());
    accept(&mut pieces, &cut(0, &message, 0..100));
    assert!(pieces.abort(0));
    assert!(!pieces.abort(1));
    assert!(!pieces.abort(u64::MAX));
    assert_eq!(pieces.bytes(), 0);
    for number in 0..2 {
        assert_eq!(accept(&mut pieces, &cut(number, &message, 100..200)), Gathered::Repeat);
    }
}

#[test]
fn what_is_remembered_of_finished_messages_is_bounded() {
    let (message, mut pieces) = (content(100), pieces());
    // Every second message is lost, all of it.
    for number in (1..10_000).step_by(2) {
        let whole = accept(&mut pieces, &cut(number, &message, 0..100));
        assert_eq!(whole, Gathered::Whole(message.clone()));
        assert!(pieces.finished.gaps() <= LIMITS.messages + SKIPPED);
        assert_eq!(accept(&mut pieces, &cut(number, &message, 0..100)), Gathered::Repeat);
    }
    assert_eq!(accept(&mut pieces, &cut(0, &message, 0..100)), Gathered::Repeat, "given up");
    let recent = accept(&mut pieces, &cut(9_000, &message, 0..100));
    assert_eq!(recent, Gathered::Whole(message));
}
