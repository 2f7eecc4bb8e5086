//! Facts about the journal and the inbox, one by one, over the simulated disk.

use super::disk::{Disk, Fault, Odds, Tables};
use super::method::request;
use super::plan::{METHOD, address};
use super::world::store;
use crate::error::FailureCode;
use crate::id::{Epoch, RegistrationId, Seq};
use crate::limits::Limits;
use crate::protocol::durable::inbox::{self, Admission, NotRegistered, Register, Verdict};
use crate::protocol::durable::journal::{self, Kept, Saving};
use crate::protocol::durable::rows::{
    AnswerRow, Committed, Database, Digest, InboxRows, JournalRows, Outcome,
};
use crate::sim::rng::Rng;
use crate::wire::durable::{Answer, Stamp};

const CLIENT: u128 = 77;

fn disk() -> Disk {
    let mut disk = Disk::new(Tables::new(store(1)), Odds::default(), Rng::new(1));
    disk.open().expect("no odds against it");
    disk
}

/// Does this in a transaction, and commits.
fn commit<T>(disk: &mut Disk, run: impl FnOnce(&mut Disk) -> Result<T, Fault>) -> T {
    disk.begin().expect("no odds against it");
    let value = run(disk).expect("no odds against it");
    assert!(matches!(disk.commit(), Committed::Yes));
    value
}

fn registered(disk: &mut Disk, epoch: u32, opening: u128) -> Result<Seq, NotRegistered> {
    let wanted = Register { client: CLIENT, epoch, opening, known: None };
    let answer = commit(disk, |db| inbox::register(db, &wanted, &Limits::default()));
    answer.map(|registered| registered.max)
}

fn stamp(disk: &Disk, number: u64, floor: u64) -> Stamp {
    Stamp {
        store: disk.image.store,
        registration: RegistrationId(1),
        epoch: Epoch(1),
        seq: Epoch(1).first_seq() + number,
        floor: Epoch(1).first_seq() + floor,
        seen: disk.image.commits,
        nonce: number,
    }
}

fn digest(number: u64) -> Digest {
    journal::digest("object", METHOD, b"arguments", number)
}

fn admit(disk: &mut Disk, number: u64, floor: u64, limits: &Limits) -> Admission {
    let stamp = stamp(disk, number, floor);
    commit(disk, |db| inbox::admit(db, &stamp, &digest(number), limits))
}

/// The call runs and is answered.
fn run(disk: &mut Disk, number: u64, floor: u64, limits: &Limits) {
    assert_eq!(admit(disk, number, floor, limits), Admission::Run, "{number}");
    let row = AnswerRow { digest: Some(digest(number)), answer: Answer::Ok, body: vec![1] };
    let stamp = stamp(disk, number, floor);
    commit(disk, |db| db.put_answer(stamp.registration, stamp.seq, &row));
}

#[test]
fn the_lowest_unfinished_call_runs_though_the_answers_of_others_fill_the_inbox() {
    let (mut disk, limits) = (disk(), Limits { inbox_rows: 2, ..Limits::default() });
    assert_eq!(registered(&mut disk, 1, 5), Ok(0));
    run(&mut disk, 3, 1, &limits);
    run(&mut disk, 4, 1, &limits);
    let full = admit(&mut disk, 5, 1, &limits);
    assert!(matches!(full, Admission::Say(Verdict::Again(_))), "{full:?}");
    run(&mut disk, 1, 1, &limits);
    // The floor has moved, and makes room at once.
    run(&mut disk, 5, 4, &limits);
    assert_eq!(disk.image.answers.len(), 2);
    assert_eq!(admit(&mut disk, 1, 1, &limits), Admission::Say(Verdict::Stale));
}

#[test]
fn calls_that_are_finished_above_the_floor_are_forgotten_and_never_run_again() {
    let (mut disk, limits) = (disk(), Limits { inbox_rows: 4, ..Limits::default() });
    assert_eq!(registered(&mut disk, 1, 5), Ok(0));
    [1, 2, 3, 5].iter().for_each(|number| run(&mut disk, *number, 1, &limits));
    let forget = |disk: &mut Disk, floor, above: &[(u64, u64)]| {
        let first = Epoch(1).first_seq();
        let above: Vec<_> = above.iter().map(|(start, end)| (first + start, first + end)).collect();
        let stamp = stamp(disk, floor, floor);
        assert_eq!(commit(disk, |db| inbox::forget(db, &stamp, &above)), None);
    };
    let stale = Admission::Say(Verdict::Stale);
    forget(&mut disk, 1, &[(2, 4), (5, 6)]);
    assert_eq!(disk.image.answers.len(), 1);
    // What comes late is about less, or nothing at all, and changes nothing.
    forget(&mut disk, 1, &[(2, 3)]);
    forget(&mut disk, 1, &[(9, 7)]);
    for number in [2, 3, 5] {
        assert_eq!(admit(&mut disk, number, 1, &limits), stale, "{number}");
    }
    assert!(matches!(admit(&mut disk, 1, 1, &limits), Admission::Say(Verdict::Answer(_))));
    assert_eq!(registered(&mut disk, 1, 5), Ok(Epoch(1).first_seq() + 5));
    // A call that the client said nothing of runs, though the others fill the inbox: what is told next waits for it.
    [7, 8, 9].iter().for_each(|number| run(&mut disk, *number, 1, &limits));
    assert!(matches!(admit(&mut disk, 10, 1, &limits), Admission::Say(Verdict::Again(_))));
    run(&mut disk, 6, 1, &limits);
    run(&mut disk, 4, 1, &limits);
    forget(&mut disk, 6, &[]);
    assert_eq!([4, 5].map(|number| admit(&mut disk, number, 1, &limits)), [stale.clone(), stale]);
    assert_eq!(disk.image.answers.len(), 4);
}

#[test]
fn a_client_that_tells_of_more_ranges_than_it_may_is_not_heard() {
    let (mut disk, limits) = (disk(), Limits::default());
    assert_eq!(registered(&mut disk, 1, 5), Ok(0));
    run(&mut disk, 3, 1, &limits);
    let first = Epoch(1).first_seq();
    let ranges: Vec<_> = (1..=inbox::MOST_RANGES as u64 + 1)
        .map(|number| (first + 2 * number + 1, first + 2 * number + 2))
        .collect();
    let stamp = stamp(&disk, 1, 1);
    assert_eq!(commit(&mut disk, |db| inbox::forget(db, &stamp, &ranges)), None);
    assert_eq!(disk.image.answers.len(), 1);
    assert_eq!(commit(&mut disk, |db| inbox::forget(db, &stamp, &ranges[1..])), None);
    assert_eq!(disk.image.answers.len(), 1);
    assert_eq!(commit(&mut disk, |db| inbox::forget(db, &stamp, &ranges[..9])), None);
    assert_eq!(disk.image.answers.len(), 1, "with those before it would be more than it may");
}

#[test]
fn a_fence_is_not_told_the_answer_of_another_request_under_its_number() {
    let (mut disk, limits) = (disk(), Limits::default());
    assert_eq!(registered(&mut disk, 1, 5), Ok(0));
    run(&mut disk, 1, 1, &limits);
    let mut fence = |asked: Digest| {
        let stamp = stamp(&disk, 1, 1);
        let code = FailureCode::Cancelled;
        commit(&mut disk, |db| inbox::fence(db, &stamp, &asked, code, "", &limits))
    };
    assert!(matches!(fence(digest(1)), Verdict::Answer(AnswerRow { answer: Answer::Ok, .. })));
    assert_eq!(fence(digest(2)), Verdict::Different);
}

#[test]
fn an_epoch_fences_those_before_it_and_its_own_copies() {
    let mut disk = disk();
    assert_eq!(registered(&mut disk, 1, 5), Ok(0));
    run(&mut disk, 1, 1, &Limits::default());
    assert_eq!(registered(&mut disk, 1, 5), Ok(Epoch(1).first_seq() + 1));
    assert_eq!(registered(&mut disk, 1, 6), Err(NotRegistered::Fenced));
    assert_eq!(registered(&mut disk, 2, 6), Ok(Epoch(1).first_seq() + 1));
    assert_eq!(registered(&mut disk, 1, 5), Err(NotRegistered::Fenced));
    let said = admit(&mut disk, 1, 1, &Limits::default());
    assert_eq!(said, Admission::Say(Verdict::Fenced));
}

fn save(disk: &mut Disk, key: Option<&str>, argument: u8) -> Saving {
    let saved = request(address(0), 5, vec![argument], key.map(Into::into), None);
    let limits = Limits { journal_rows: 3, ..Limits::default() };
    commit(disk, |db| journal::save(db, &saved, &limits))
}

fn number(saving: &Saving) -> Seq {
    match saving {
        Saving::New { seq, .. } | Saving::Attached { seq, .. } => *seq,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_finds_its_call_until_it_is_forgotten_or_the_call_never_runs() {
    let mut disk = disk();
    let seq = number(&save(&mut disk, Some("order"), 1));
    assert_eq!(save(&mut disk, Some("order"), 1), Saving::Attached { seq, outcome: None });
    assert_eq!(save(&mut disk, Some("order"), 2), Saving::KeyConflict);
    let ended = Outcome::Answered { answer: Answer::Ok, body: vec![7] };
    commit(&mut disk, |db| journal::settle(db, seq, &ended, true));
    let outcome = Some(ended);
    assert_eq!(save(&mut disk, Some("order"), 1), Saving::Attached { seq, outcome });
    assert_eq!(commit(&mut disk, |db| journal::forget(db, seq)), Ok(()));
    let again = number(&save(&mut disk, Some("order"), 2));
    assert!(again > seq);
    let never = Outcome::Answered { answer: Answer::Never(FailureCode::RolledBack), body: vec![] };
    commit(&mut disk, |db| journal::settle(db, again, &never, false));
    assert!(number(&save(&mut disk, Some("order"), 1)) > again);
}

#[test]
fn what_was_noted_first_of_a_call_stays() {
    let mut disk = disk();
    let seq = number(&save(&mut disk, None, 1));
    let parked = Outcome::Parked { reason: "why".into() };
    commit(&mut disk, |db| journal::settle(db, seq, &parked, false));
    let late = Outcome::Answered { answer: Answer::Ok, body: vec![] };
    commit(&mut disk, |db| journal::settle(db, seq, &late, false));
    let saved = commit(&mut disk, |db| db.request(seq));
    assert_eq!(saved.and_then(|saved| saved.outcome), Some(parked));
    commit(&mut disk, |db| journal::taken(db, seq));
    assert!(disk.image.requests.is_empty());
}

#[test]
fn a_call_that_may_have_been_sent_is_not_cancelled_here() {
    let mut disk = disk();
    let (sent, unsent) = (number(&save(&mut disk, None, 1)), number(&save(&mut disk, None, 1)));
    commit(&mut disk, |db| journal::settle(db, unsent, &Outcome::Cancelled, true));
    let cancel = |disk: &mut Disk, seq| commit(disk, |db| journal::cancel_unsent(db, seq));
    assert_eq!(cancel(&mut disk, unsent), Err(Kept::Unknown));
    let binding = crate::protocol::durable::rows::Binding {
        store: disk.image.store,
        registration: RegistrationId(1),
    };
    commit(&mut disk, |db| db.bind(&address(0), binding));
    assert_eq!(cancel(&mut disk, sent), Err(Kept::MayHaveBeenSent));
}

#[test]
fn a_full_journal_takes_nothing_more() {
    let mut disk = disk();
    (0..3).for_each(|_| assert!(matches!(save(&mut disk, None, 1), Saving::New { .. })));
    assert_eq!(save(&mut disk, None, 1), Saving::Full);
}

#[test]
fn numbers_are_given_once_over_openings_and_commits_that_come_to_nothing() {
    let mut disk = disk();
    let first = number(&save(&mut disk, None, 1));
    disk.begin().expect("no odds against it");
    let lost = disk.next_seq().expect("no odds against it");
    disk.roll_back().expect("no odds against it");
    assert!(lost > first && number(&save(&mut disk, None, 1)) > lost);
    let (identity, last) = disk.open().expect("no odds against it");
    assert_eq!((identity.epoch, last), (Epoch(2), lost + 1));
    // An opening that gives nothing leaves no number behind that looks as if it was given.
    commit(&mut disk, |db| db.remove(first));
    assert_eq!(disk.open().map(|(_, last)| last), Ok(lost + 1));
    assert_eq!(number(&save(&mut disk, None, 1)), Epoch(3).first_seq());
}
