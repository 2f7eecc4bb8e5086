//! What a client may send, which floor it may tell, and what it makes of words that come late.

use std::sync::Arc;

use uuid::Uuid;

use super::super::inbox::{MOST_RANGES, NotRegistered, Registered};
use super::super::outbound::{Identity, Meaning, Outbound, Parked, Registration, Sending, Stopped};
use super::super::rows::{Binding, ServerRow};
use crate::id::{Epoch, RegistrationId, Seq, StoreId};
use crate::wire::durable::{Answer, Stamp, Word};

const EPOCH: Epoch = Epoch(3);
const OLD: StoreId = StoreId(Uuid::from_u128(1));
const NEW: StoreId = StoreId(Uuid::from_u128(2));

fn seq(number: u64) -> Seq {
    EPOCH.first_seq() + number
}

fn peer() -> Arc<str> {
    "tcp://server:1".into()
}

fn row(store: StoreId, seen: u64) -> ServerRow {
    ServerRow { peer: peer(), binding: binding(store), seen }
}

fn binding(store: StoreId) -> Binding {
    Binding { store, registration: RegistrationId(1) }
}

fn registered(store: StoreId, max: Seq) -> Result<Registered, NotRegistered> {
    Ok(Registered { store: store.0.as_u128(), registration: 1, max, commits: 5 })
}

/// A journal that has given numbers in its first opening, and knows the old store if it is to.
fn outbound(known: bool) -> Outbound {
    let identity = Identity { client: StoreId(Uuid::nil()), epoch: EPOCH, opening: 9 };
    Outbound::new(identity, Epoch(1).first_seq() + 4, known.then(|| row(OLD, 3)))
}

/// Registered at the old store, with these calls bound to it.
fn ready(calls: &[u64]) -> Outbound {
    let mut outbound = outbound(true);
    for call in calls {
        outbound.publish(seq(*call), Some(binding(OLD)));
    }
    assert!(matches!(outbound.on_registered(&peer(), registered(OLD, 0)), Registration::Adopt(_)));
    outbound.adopted(row(OLD, 5), &[]);
    outbound
}

fn stamp(outbound: &mut Outbound, call: u64) -> Stamp {
    match outbound.sending(seq(call), &peer(), 7) {
        Sending::Send(stamp) => stamp,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_is_registered_bound_and_then_sent() {
    let mut outbound = outbound(false);
    outbound.publish(seq(0), None);
    assert!(matches!(outbound.sending(seq(0), &peer(), 7), Sending::Register(_)));
    let Registration::Adopt(row) = outbound.on_registered(&peer(), registered(OLD, 0)) else {
        panic!("the journal knew of none")
    };
    // Not before it is durable.
    assert!(matches!(outbound.sending(seq(0), &peer(), 7), Sending::Register(_)));
    outbound.adopted(row.clone(), &[seq(0)]);
    assert_eq!(stamp(&mut outbound, 0).floor, seq(0));
    outbound.publish(seq(1), None);
    assert_eq!(outbound.sending(seq(1), &peer(), 7), Sending::Bind(row));
}

#[test]
fn a_call_that_was_bound_before_it_was_published_is_sent() {
    let mut outbound = outbound(false);
    outbound.adopted(row(OLD, 5), &[seq(0)]);
    outbound.publish(seq(0), None);
    assert_eq!(stamp(&mut outbound, 0).store, OLD);
}

#[test]
fn the_floor_waits_for_each_end_to_be_durable_and_for_calls_without_a_store() {
    let mut outbound = ready(&[0, 1, 2]);
    outbound.settled(seq(1));
    assert_eq!(stamp(&mut outbound, 2).floor, seq(0));
    outbound.settled(seq(0));
    assert_eq!(stamp(&mut outbound, 2).floor, seq(2));
    // This one may turn out to be for the same store, by another address.
    outbound.publish(seq(3), None);
    outbound.publish(seq(4), Some(binding(OLD)));
    outbound.settled(seq(2));
    assert_eq!(stamp(&mut outbound, 4).floor, seq(3));
    outbound.settled(seq(4));
    outbound.settled(seq(3));
    assert_eq!(outbound.forgetting(&peer()).map(|(stamp, _)| stamp.floor), Some(seq(5)));
}

#[test]
fn what_is_finished_is_told_around_calls_without_a_store() {
    let mut outbound = ready(&[0, 1]);
    let told = |outbound: &Outbound| {
        let (stamp, above) = outbound.forgetting(&peer()).expect("it is registered");
        (stamp.floor - EPOCH.first_seq(), above)
    };
    let range = |start, end| (seq(start), seq(end));
    for call in [2, 4, 5] {
        outbound.publish(seq(call), None);
    }
    for call in [0, 1] {
        outbound.settled(seq(call));
    }
    // 3 was given to nobody, and never will be. Nothing is told of what is not given yet.
    assert_eq!(told(&outbound), (2, vec![range(3, 4)]));
    outbound.publish(seq(6), Some(binding(OLD)));
    outbound.publish(seq(7), Some(binding(OLD)));
    outbound.settled(seq(7));
    // Nor beyond the lowest call that is under way there.
    assert_eq!(told(&outbound), (2, vec![range(3, 4)]));
    outbound.settled(seq(6));
    assert_eq!(told(&outbound), (2, vec![range(3, 4), range(6, 8)]));
    // One of another server is none of this one, once that is durable.
    outbound.adopted(ServerRow { peer: "tcp://other:1".into(), ..row(NEW, 0) }, &[seq(4)]);
    assert_eq!(told(&outbound), (2, vec![range(3, 5), range(6, 8)]));
    assert!(outbound.is_held_up(&peer()));
    outbound.settled(seq(2));
    assert_eq!(told(&outbound), (5, vec![range(6, 8)]));
    outbound.settled(seq(5));
    assert_eq!(told(&outbound), (8, vec![]));
    assert!(!outbound.is_held_up(&peer()));
}

#[test]
fn no_more_ranges_are_told_than_a_server_takes() {
    let mut outbound = ready(&[]);
    for call in 0..2 * (MOST_RANGES as u64 + 10) {
        // Every other one waits for a server that is not there.
        outbound.publish(seq(call), (call % 2 == 1).then(|| binding(OLD)));
        if call % 2 == 1 {
            outbound.settled(seq(call));
        }
    }
    let (_, above) = outbound.forgetting(&peer()).expect("it is registered");
    assert_eq!(above.len(), MOST_RANGES);
    assert_eq!(above[MOST_RANGES - 1].0, seq(2 * MOST_RANGES as u64 - 1));
}

#[test]
fn after_a_restart_all_that_is_finished_may_be_forgotten() {
    let mut outbound = outbound(true);
    assert_eq!(outbound.forgetting(&peer()), None);
    assert!(outbound.registering(&peer()).is_some_and(|register| register.known.is_some()));
    outbound.all_published();
    outbound.adopted(row(OLD, 5), &[]);
    assert_eq!(outbound.registering(&peer()), None);
    let floor = outbound.forgetting(&peer()).map(|(stamp, _)| stamp.floor);
    assert_eq!(floor, Some(Epoch(1).first_seq() + 5));
}

#[test]
fn another_store_parks_what_may_have_been_sent_and_holds_the_rest() {
    let mut outbound = ready(&[0]);
    outbound.publish(seq(1), None);
    let sent = stamp(&mut outbound, 0);
    let parked = Parked::OtherStore { before: OLD, now: NEW };
    let word = Word::OtherStore { store: NEW };
    assert_eq!(outbound.on_word(&peer(), &sent, &word), Meaning::Park(parked));
    assert_eq!(outbound.sending(seq(0), &peer(), 7), Sending::Park(parked));
    assert_eq!(outbound.sending(seq(1), &peer(), 7), Sending::Wait(parked));
    outbound.accept(&peer());
    assert!(matches!(outbound.sending(seq(1), &peer(), 7), Sending::Register(_)));
    outbound.adopted(row(NEW, 0), &[seq(1)]);
    assert_eq!(stamp(&mut outbound, 1).store, NEW);
    assert_eq!(outbound.sending(seq(0), &peer(), 7), Sending::Park(parked));
}

#[test]
fn a_late_word_about_the_store_before_says_nothing_of_the_one_now() {
    let mut outbound = ready(&[0, 1]);
    let (first, second) = (stamp(&mut outbound, 0), stamp(&mut outbound, 1));
    let word = Word::OtherStore { store: NEW };
    outbound.on_word(&peer(), &first, &word);
    outbound.accept(&peer());
    outbound.publish(seq(2), None);
    outbound.adopted(row(NEW, 0), &[seq(2)]);
    for word in [word, Word::Expired, Word::WentBack] {
        assert!(matches!(outbound.on_word(&peer(), &second, &word), Meaning::Park(_)));
        assert_eq!(stamp(&mut outbound, 2).store, NEW, "{word:?}");
    }
    let late = Err(NotRegistered::OtherStore { store: NEW.0.as_u128() });
    assert!(matches!(outbound.on_registered(&peer(), late), Registration::Again(_)));
    assert_eq!(outbound.refused(&peer()), Ok(()));
}

#[test]
fn a_registration_by_another_store_than_the_known_one_is_not_adopted() {
    let mut outbound = ready(&[]);
    let parked = Parked::OtherStore { before: OLD, now: NEW };
    let answer = outbound.on_registered(&peer(), registered(NEW, 0));
    assert_eq!(answer, Registration::Park(parked));
}

#[test]
fn an_old_journal_is_known_by_a_number_that_it_has_not_given() {
    let last = Epoch(1).first_seq() + 4;
    for (max, given) in [
        (0, true),
        (last, true),
        (last + 1, false),
        // An opening that gave nothing.
        (Epoch(2).first_seq(), false),
        (seq(0), true),
        (seq(1), false),
    ] {
        let mut outbound = outbound(true);
        outbound.gave([last]);
        outbound.publish(seq(0), None);
        let answer = outbound.on_registered(&peer(), registered(OLD, max));
        match given {
            true => assert!(matches!(answer, Registration::Adopt(_)), "{max:x}"),
            false => assert_eq!(answer, Registration::Stop(Stopped::WentBack), "{max:x}"),
        }
    }
}

#[test]
fn the_highest_commit_number_that_was_told_stands_in_each_stamp() {
    let mut outbound = ready(&[0, 1]);
    let sent = stamp(&mut outbound, 0);
    assert_eq!(sent.seen, 5);
    let word = Word::Answer { commit: 9, answer: Answer::Ok, body: b"" };
    assert!(matches!(outbound.on_word(&peer(), &sent, &word), Meaning::Finished(_)));
    assert_eq!(stamp(&mut outbound, 1).seen, 9);
    // An adoption that took its time takes nothing back.
    outbound.adopted(row(OLD, 6), &[]);
    assert_eq!(stamp(&mut outbound, 1).seen, 9);
}

#[test]
fn a_fenced_journal_sends_nothing_any_more() {
    let mut outbound = ready(&[0, 1]);
    let sent = stamp(&mut outbound, 0);
    let meaning = outbound.on_word(&peer(), &sent, &Word::Fenced);
    assert_eq!(meaning, Meaning::Stop(Stopped::Fenced));
    let sending = outbound.sending(seq(1), &peer(), 7);
    assert_eq!(sending, Sending::Stop(Stopped::Fenced));
}
