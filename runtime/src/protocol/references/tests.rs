//! Both tables against each other, in the orders in which messages can come.

use std::time::Duration;

use super::Record;
use super::exports::{Exports, TooMany};
use super::imports::Imports;
use crate::time::Time;

fn later() -> Time {
    Time::ZERO + Duration::from_secs(60)
}

fn exports() -> Exports<&'static str> {
    Exports::new(100, 3)
}

/// What the importer gives back now.
fn give_back(from: &mut Imports, to: &mut Exports<&'static str>) -> Vec<&'static str> {
    let released = from.releases(100);
    released.into_iter().filter_map(|(id, marks)| to.release(id, &marks)).collect()
}

#[test]
fn an_object_goes_with_the_last_record_and_the_last_holder() {
    let (mut exports, mut imports) = (exports(), Imports::default());
    let one = exports.pass(7, |_| "seven").expect("room");
    let two = exports.pass(7, |_| panic!("it is there")).expect("room");
    assert_eq!((one, two), (Record { id: 100, mark: 1 }, Record { id: 100, mark: 2 }));
    assert!(imports.receive(one) && imports.receive(two));
    assert_eq!(exports.ended(Time::ZERO, one), None);
    assert_eq!(exports.ended(Time::ZERO, two), None);
    assert!(!imports.unhold(100));
    assert_eq!(give_back(&mut imports, &mut exports), Vec::<&str>::new());
    assert!(imports.unhold(100));
    assert_eq!(give_back(&mut imports, &mut exports), ["seven"]);
    assert_eq!((exports.len(), imports.len()), (0, 0));
}

#[test]
fn what_is_given_back_before_its_call_has_ended_stays() {
    let (mut exports, mut imports) = (exports(), Imports::default());
    let record = exports.pass(7, |_| "seven").expect("room");
    imports.receive(record);
    imports.unhold(record.id);
    assert_eq!(give_back(&mut imports, &mut exports), Vec::<&str>::new());
    assert_eq!(exports.ended(Time::ZERO, record), Some("seven"));
}

#[test]
fn a_repeat_counts_once_and_a_repeated_release_too() {
    let (mut exports, mut imports) = (exports(), Imports::default());
    let first = exports.pass(7, |_| "seven").expect("room");
    imports.receive(first);
    imports.receive(first);
    imports.unhold(100);
    imports.unhold(100);
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
    imports.unhold(100);
    assert_eq!(give_back(&mut imports, &mut exports), ["seven"]);
}

#[test]
fn an_id_is_not_used_again() {
    let (mut exports, mut imports) = (exports(), Imports::default());
    for expected in 100..110 {
        let record = exports.pass(7, |_| "seven").expect("room");
        assert_eq!(record, Record { id: expected, mark: 1 });
        exports.ended(Time::ZERO, record);
        imports.receive(record);
        imports.unhold(record.id);
        assert_eq!(give_back(&mut imports, &mut exports), ["seven"]);
    }
}

#[test]
fn a_record_that_never_came_is_asked_about_and_then_refused() {
    let (mut exports, mut imports) = (exports(), Imports::default());
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
    let (mut exports, mut imports) = (exports(), Imports::default());
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
        assert_eq!(exports.release(100, &marks), None, "{marks:?}");
    }
    assert_eq!(exports.release(99, &vec![(1, 2)]), None);
    let second = exports.pass(7, |_| "seven").expect("room");
    assert_eq!(exports.release(100, &vec![(1, u64::MAX)]), None, "the second has not ended");
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
