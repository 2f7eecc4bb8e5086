//! Both tables against each other, in the orders in which messages can come.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Record;
use super::exports::{Exports, TooMany};
use super::imports::Imports;
use crate::time::Time;

fn later() -> Time {
    Time::ZERO + Duration::from_secs(60)
}

fn exports() -> Exports<&'static str> {
    Exports::new([1, 2], LIMIT)
}

const LIMIT: usize = 3;

/// What the importer gives back now.
fn give_back(from: &mut Imports, to: &mut Exports<&'static str>) -> Vec<&'static str> {
    let released = from.releases(100);
    released.into_iter().filter_map(|(id, marks)| to.release(id, &marks)).collect()
}

#[test]
fn an_object_goes_with_the_last_record_and_the_last_holder() {
    let (mut exports, mut imports) = (exports(), Imports::new(LIMIT));
    let one = exports.pass(7, |_| "seven").expect("room");
    let two = exports.pass(7, |_| panic!("it is there")).expect("room");
    assert_eq!(two, Record { id: one.id, mark: 2 });
    assert!(imports.receive(one) && imports.receive(two));
    assert_eq!(exports.ended(Time::ZERO, one), None);
    assert_eq!(exports.ended(Time::ZERO, two), None);
    assert!(!imports.unhold(one.id));
    assert_eq!(give_back(&mut imports, &mut exports), Vec::<&str>::new());
    assert!(imports.unhold(one.id));
    assert_eq!(give_back(&mut imports, &mut exports), ["seven"]);
    assert_eq!((exports.len(), imports.len()), (0, 0));
}

#[test]
fn what_is_given_back_before_its_call_has_ended_stays() {
    let (mut exports, mut imports) = (exports(), Imports::new(LIMIT));
    let record = exports.pass(7, |_| "seven").expect("room");
    imports.receive(record);
    imports.unhold(record.id);
    assert_eq!(give_back(&mut imports, &mut exports), Vec::<&str>::new());
    assert_eq!(exports.ended(Time::ZERO, record), Some("seven"));
}

#[test]
fn a_repeat_counts_once_and_a_repeated_release_too() {
    let (mut exports, mut imports) = (exports(), Imports::new(LIMIT));
    let first = exports.pass(7, |_| "seven").expect("room");
    imports.receive(first);
    imports.receive(first);
    imports.unhold(first.id);
    imports.unhold(first.id);
    let released = imports.releases(9);
    let second = exports.pass(7, |_| "again").expect("room");
    exports.ended(Time::ZERO, first);
    exports.ended(Time::ZERO, second);
    for _ in 0..3 {
        for (id, marks) in &released {
            assert_eq!(exports.release(*id, marks), None, "the second is on its way");
        }
    }
    imports.receive(second);
    imports.unhold(first.id);
    assert_eq!(give_back(&mut imports, &mut exports), ["seven"]);
}

#[test]
fn an_id_is_not_used_again() {
    let (mut exports, mut imports) = (exports(), Imports::new(LIMIT));
    let mut seen = BTreeSet::new();
    for _ in 0..1000 {
        let record = exports.pass(7, |_| "seven").expect("room");
        assert_eq!(record.mark, 1);
        assert!(seen.insert(record.id), "{record:?}");
        exports.ended(Time::ZERO, record);
        imports.receive(record);
        imports.unhold(record.id);
        assert_eq!(give_back(&mut imports, &mut exports), ["seven"]);
    }
}

#[test]
fn a_record_that_never_came_is_asked_about_and_then_refused() {
    let (mut exports, mut imports) = (exports(), Imports::new(LIMIT));
    let lost = exports.pass(7, |_| "seven").expect("room");
    assert_eq!(exports.ended(Time::ZERO, lost), None);
    assert_eq!(exports.doubts(Time::ZERO, 9), []);
    assert_eq!(exports.next_doubt(), Time::ZERO + Duration::from_secs(1));
    assert_eq!(exports.doubts(later(), 9), [lost]);
    assert!(!imports.settle(lost));
    assert!(!imports.receive(lost), "it comes too late");
    assert_eq!(exports.release(lost.id, &vec![(1, 2)]), Some("seven"));
}

#[test]
fn a_record_that_is_held_stays_when_it_is_asked_about() {
    let (mut exports, mut imports) = (exports(), Imports::new(LIMIT));
    let record = exports.pass(7, |_| "seven").expect("room");
    imports.receive(record);
    exports.ended(Time::ZERO, record);
    assert_eq!(exports.doubts(later(), 9), [record]);
    assert!(imports.settle(record));
    assert_eq!(exports.doubts(later(), 9), [], "once is enough");
    exports.doubt_again(later(), &[record]);
    assert_eq!(exports.doubts(later() + Duration::from_secs(2), 9), [record]);
}

#[test]
fn marks_that_were_never_sent_release_nothing() {
    let mut exports = exports();
    let record = exports.pass(7, |_| "seven").expect("room");
    exports.ended(Time::ZERO, record);
    for marks in [vec![(0, 1)], vec![(2, 100)], vec![(5, 3)], vec![(0, u64::MAX)]] {
        assert_eq!(exports.release(record.id, &marks), None, "{marks:?}");
    }
    assert_eq!(exports.release(!record.id, &vec![(1, 2)]), None);
    let second = exports.pass(7, |_| "seven").expect("room");
    assert_eq!(exports.release(record.id, &vec![(1, u64::MAX)]), None, "the second has not ended");
    assert_eq!(exports.ended(Time::ZERO, second), Some("seven"));
}

#[test]
fn there_are_as_many_objects_as_the_limit_says() {
    let mut exports = exports();
    for key in 0..3 {
        exports.pass(key, |_| "any").expect("room");
    }
    assert_eq!(exports.pass(3, |_| "any"), Err(TooMany));
    exports.pass(2, |_| "any").expect("it is there already");
    assert_eq!(exports.clear().len(), 3);
    exports.pass(3, |_| "any").expect("room again");
}

#[test]
fn a_session_that_is_gone_holds_nothing_but_what_is_unfinished() {
    let mut exports = exports();
    let held = exports.pass(1, |_| "held").expect("room");
    let unfinished = exports.pass(2, |_| "unfinished").expect("room");
    exports.ended(Time::ZERO, held);
    assert_eq!(exports.reset(), ["held"]);
    assert_eq!(exports.get(unfinished.id), Some(&"unfinished"));
    assert_eq!(exports.ended(Time::ZERO, unfinished), None, "the next session may have got it");
    assert_eq!(exports.doubts(later(), 9), [unfinished]);
}

#[test]
fn a_session_that_is_gone_gives_back_exactly_what_is_not_unfinished() {
    let mut state = 1_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    for _ in 0..300 {
        let mut exports = exports();
        let records = draw(12) + 1;
        let (mut id, mut unfinished, mut released) = (0, BTreeSet::new(), BTreeSet::new());
        for mark in 1..=records {
            id = exports.pass(7, |_| "seven").expect("room").id;
            unfinished.insert(mark);
        }
        // One stays, so that the object does.
        for mark in 1..records {
            if draw(2) == 0 {
                exports.ended(Time::ZERO, Record { id, mark });
                unfinished.remove(&mark);
            }
            if draw(2) == 0 {
                exports.release(id, &vec![(mark, mark + 1)]);
                released.insert(mark);
            }
        }
        assert_eq!(exports.reset(), Vec::<&str>::new());
        let held = unfinished.difference(&released).count() as u64;
        assert_eq!(exports.iter().next(), Some((&"seven", held)));
        for &mark in &unfinished {
            exports.ended(Time::ZERO, Record { id, mark });
        }
        let marks = unfinished.iter().map(|&mark| (mark, mark + 1)).collect();
        assert_eq!(exports.release(id, &marks), Some("seven"));
    }
}

#[test]
fn an_id_tells_nothing_of_the_others() {
    let ids = |key| {
        let mut exports = Exports::new(key, 5000);
        (0..5000).map(|object| exports.pass(object, |_| ()).expect("room").id).collect::<Vec<_>>()
    };
    let all = ids([1, 2]);
    let distances: BTreeSet<u64> = all.windows(2).map(|two| two[1].wrapping_sub(two[0])).collect();
    assert_eq!(distances.len(), all.len() - 1, "no distance comes twice");
    let differ = all.windows(2).map(|two| (two[0] ^ two[1]).count_ones()).sum::<u32>();
    let each = f64::from(differ) / (all.len() - 1) as f64;
    assert!((31.0..33.0).contains(&each), "{each} bits of 64 differ, and half should");
    assert_ne!(all[..10], ids([1, 3])[..10], "the key decides");
    assert_ne!(all[..10], ids([2, 2])[..10], "both halves of it");
}

#[test]
fn no_more_objects_are_held_than_the_limit_says() {
    let mut imports = Imports::new(2);
    let record = |id, mark| Record { id, mark };
    assert!(imports.receive(record(1, 1)));
    assert!(imports.receive(record(2, 1)));
    assert!(!imports.receive(record(3, 1)), "one too many");
    assert!(imports.receive(record(2, 2)), "it is there already");
    assert_eq!(imports.len(), 2);
    assert!(!imports.settle(record(3, 1)), "its exporter hears that it is not held");
    imports.unhold(1);
    assert!(imports.receive(record(4, 1)));
    imports.reset();
    assert!(imports.receive(record(1, 1)) && imports.receive(record(2, 1)));
    assert!(!imports.receive(record(3, 2)));
}

#[test]
fn a_peer_that_is_told_of_nothing_and_passes_on_is_refused() {
    let mut imports = Imports::new(2);
    let passed = (1..).take_while(|&id| {
        let came = imports.receive(Record { id, mark: 1 });
        if came {
            imports.unhold(id);
        }
        came
    });
    let passed = passed.count();
    assert_eq!(imports.releases(usize::MAX).len(), passed);
    assert!(imports.receive(Record { id: 1, mark: 2 }));
    // Each leaves a gap.
    let marks = (2..).take_while(|mark| imports.receive(Record { id: 1, mark: 2 * mark }));
    assert!(marks.count() > 1000);
}
